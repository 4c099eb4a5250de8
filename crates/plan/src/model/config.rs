//! Sizes in the `config.json` of families that are not known, by the names that most of them use.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use super::Shape;

/// The longest configuration that is read.
const LONGEST: u64 = 1 << 19;

/// The sizes that a configuration gives; `None` where it is no JSON object.
pub(super) fn shape(file: &Path, name: &str) -> Option<Shape> {
    let mut text = Vec::new();
    File::open(file).ok()?.take(LONGEST).read_to_end(&mut text).ok()?;
    let Ok(Value::Object(object)) = serde_json::from_slice(&text) else { return None };
    Some(sizes(&object, name))
}

fn sizes(object: &Map<String, Value>, name: &str) -> Shape {
    // Models of several modes keep their language model's sizes apart.
    let text = object.get("text_config").and_then(Value::as_object).unwrap_or(object);
    let number = |names: &[&str]| {
        let found = |n: &&str| text.get(*n).or_else(|| object.get(*n))?.as_f64();
        names.iter().find_map(found).filter(|x| x.is_finite() && *x > 0.0)
    };
    let latent = number(&["kv_lora_rank"]);
    let kind = text.get("model_type").and_then(Value::as_str).unwrap_or("");
    Shape {
        // Habits that sizes do not tell are known by the family's name.
        name: format!("{name} {}", kind.replace('_', "-")).trim().to_owned(),
        hidden: number(&["hidden_size", "n_embd", "d_model", "dim"]),
        layers: number(&["num_hidden_layers", "n_layer", "num_layers", "n_layers"]),
        heads: number(&["num_attention_heads", "n_head", "n_heads", "num_heads"]),
        kv_heads: number(&["num_key_value_heads", "multi_query_group_num", "n_kv_heads"]),
        head_dim: number(&["head_dim", "kv_channels"]),
        ffn: number(&["intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim"]),
        vocab: number(&["vocab_size", "padded_vocab_size"]),
        experts: number(&["num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"]),
        topk: number(&["num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk"]),
        moe_ffn: number(&["moe_intermediate_size", "moe_ffn_hidden_size"]),
        shared_experts_or_ffn: number(&["n_shared_experts", "shared_expert_intermediate_size"]),
        attention: latent.map(|_| "MLA".to_owned()),
        kv_lora_rank: latent,
        q_lora_rank: number(&["q_lora_rank"]),
        first_k_dense: number(&["first_k_dense_replace", "moe_layer_start_index"]),
        seq: None,
        weights_gib: None,
    }
}
