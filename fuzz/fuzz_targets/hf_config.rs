//! `config.json` of a Hugging Face folder: raw bytes, and fields of a valid one set to anything.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use autarky_family::Model;
use autarky_fuzz::models::{HF_CONFIG, hf_tensors, safetensors_bytes};
use autarky_fuzz::{bounded, file, folder};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use std::sync::Once;

static WEIGHTS: Once = Once::new();

/// Every field that any family reads.
const FIELDS: [&str; 60] = [
    "model_type",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "num_hidden_layers",
    "vocab_size",
    "max_position_embeddings",
    "intermediate_size",
    "rms_norm_eps",
    "hidden_act",
    "tie_word_embeddings",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "partial_rotary_factor",
    "rope_type",
    "type",
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
    "beta_fast",
    "beta_slow",
    "truncate",
    "attention_factor",
    "mscale",
    "mscale_all_dim",
    "attention_bias",
    "mlp_bias",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "layer_types",
    "quantization_config",
    "num_local_experts",
    "num_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "decoder_sparse_step",
    "mlp_only_layers",
    "norm_topk_prob",
    "qk_rope_head_dim",
    "qk_nope_head_dim",
    "v_head_dim",
    "kv_lora_rank",
    "q_lora_rank",
    "rope_interleave",
    "scoring_func",
    "topk_method",
    "n_routed_experts",
    "n_group",
    "topk_group",
    "first_k_dense_replace",
    "n_shared_experts",
    "routed_scaling_factor",
    "moe_layer_freq",
    "full_attention",
    "quant_method",
    "architectures",
];

/// Text that some field means something by.
const WORDS: [&str; 24] = [
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "deepseek_v2",
    "deepseek_v3",
    "yarn",
    "llama3",
    "linear",
    "default",
    "dynamic",
    "silu",
    "gelu",
    "relu",
    "sigmoid",
    "softmax",
    "noaux_tc",
    "greedy",
    "group_limited_greedy",
    "full_attention",
    "sliding_attention",
    "",
];

#[derive(Arbitrary, Debug)]
enum Field {
    Null,
    Flag(bool),
    Small(u8),
    Whole(i64),
    Large(u64),
    Real(f64),
    Word(u8),
    Numbers(Vec<i16>),
    Words(Vec<u8>),
    Fields(Vec<(u8, Small)>),
}

/// A value inside a section.
#[derive(Arbitrary, Debug)]
enum Small {
    Null,
    Flag(bool),
    Whole(i64),
    Real(f64),
    Word(u8),
}

fn word(i: u8) -> Value {
    json!(WORDS[usize::from(i) % WORDS.len()])
}

fn name(i: u8) -> String {
    FIELDS[usize::from(i) % FIELDS.len()].to_owned()
}

impl Field {
    fn json(&self) -> Value {
        match self {
            Field::Null => Value::Null,
            Field::Flag(b) => json!(b),
            Field::Small(n) => json!(n),
            Field::Whole(n) => json!(n),
            Field::Large(n) => json!(n),
            Field::Real(x) => json!(x),
            Field::Word(i) => word(*i),
            Field::Numbers(n) => json!(n),
            Field::Words(w) => w.iter().map(|i| word(*i)).collect(),
            Field::Fields(f) => Value::Object(f.iter().map(|(i, v)| (name(*i), v.json())).collect()),
        }
    }
}

impl Small {
    fn json(&self) -> Value {
        match self {
            Small::Null => Value::Null,
            Small::Flag(b) => json!(b),
            Small::Whole(n) => json!(n),
            Small::Real(x) => json!(x),
            Small::Word(i) => word(*i),
        }
    }
}

/// A valid configuration with some fields set.
fn edited(bytes: &[u8]) -> Option<Vec<u8>> {
    let edits = Vec::<(u8, Field)>::arbitrary(&mut Unstructured::new(bytes)).ok()?;
    let mut object: Map<String, Value> = serde_json::from_str(HF_CONFIG).ok()?;
    for (i, field) in edits {
        object.insert(name(i), field.json());
    }
    serde_json::to_vec(&object).ok()
}

fuzz_target!(|bytes: &[u8]| {
    WEIGHTS.call_once(|| {
        file("model.safetensors", &safetensors_bytes(&hf_tensors()).expect("a valid file"));
    });
    let config = match bytes {
        // JSON as it is.
        [b'{', ..] => Some(bytes.to_vec()),
        _ => edited(bytes),
    };
    let Some(config) = config else { return };
    file("config.json", &config);
    bounded(|| match Model::open(folder()) {
        Ok(model) => {
            for spec in model.graph().weights() {
                let weight = model.weights().get(&spec.name).expect("open has found every weight");
                weight.to_f32(&spec.name).expect("open has checked every weight");
            }
        }
        Err(e) => assert!(e.to_string().contains("autarky-fuzz-"), "no file is named: {e}"),
    });
});
