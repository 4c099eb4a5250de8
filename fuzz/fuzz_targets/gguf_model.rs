//! A whole model from a GGUF file: metadata to sizes to a graph to logits, tokenizer and chat template.
//!
//! Raw bytes that begin with the magic are taken as they are; others choose a tiny model and what to change in it.
#![no_main]

use std::path::Path;
use std::sync::{Arc, OnceLock};

use arbitrary::{Arbitrary, Unstructured};
use autarky_cpu::{Cpu, CpuOptions};
use autarky_family::Model;
use autarky_format::gguf::{Array, Value};
use autarky_fuzz::models::{self, Gguf, Tensor};
use autarky_fuzz::{bounded, file};
use autarky_graph::reference::Reference;
use autarky_graph::{CacheDType, Device, Limits, SequenceStep, Step};
use autarky_quant::DType;
use autarky_text::{EncodeOptions, Tokenizer};
use libfuzzer_sys::fuzz_target;

/// A change of a model.
#[derive(Arbitrary, Debug)]
enum Edit {
    /// A key, by place, takes another value.
    Set(u8, Scalar),
    /// A key of [`MORE_KEYS`].
    Add(u8, Scalar),
    /// A key of numbers, one a layer.
    Numbers(u8, Vec<i32>),
    /// A key goes.
    Remove(u8),
    /// A tensor goes.
    Drop(u8),
    /// A tensor takes another name.
    Rename(u8, u8),
    /// A tensor takes another type and shape.
    Retype(u8, u8, [u8; 3]),
    /// Another tensor comes in.
    Tensor(u8, u8, [u8; 3]),
    /// Numbers of a tensor become these bytes.
    Bytes(u8, Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Scalar {
    Small(u8),
    U32(u32),
    U64(u64),
    I64(i64),
    F32(f32),
    Bool(bool),
    Text(String),
}

/// Keys that a family reads and the tiny models do not have.
const MORE_KEYS: [&str; 20] = [
    "nextn_predict_layers",
    "attention.sliding_window_pattern",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scale_linear",
    "rope.scaling.original_context_length",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_log_multiplier",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_attn_factor",
    "attention.latent_layer_norm_rms_epsilon",
    "expert_count",
    "expert_used_count",
    "expert_group_count",
    "expert_group_used_count",
    "attention.kv_lora_rank",
    "attention.key_length",
    "attention.value_length",
];

/// Tensors that a family reads and the tiny models do not have.
const MORE_TENSORS: [&str; 12] = [
    "rope_freqs.weight",
    "blk.0.attn_qkv.weight",
    "blk.0.attn_q.bias",
    "blk.0.attn_k.bias",
    "blk.0.attn_v.bias",
    "blk.0.attn_output.bias",
    "blk.0.ffn_gate.bias",
    "blk.0.attn_kv_b.weight",
    "blk.0.ffn_gate_up_exps.weight",
    "blk.0.ffn_gate.0.weight",
    "blk.0.ffn_gate_inp.weight",
    "blk.1.attn_norm.weight",
];

impl Scalar {
    fn value(&self) -> Value {
        match self {
            Scalar::Small(n) => Value::U32((*n).into()),
            Scalar::U32(n) => Value::U32(*n),
            Scalar::U64(n) => Value::U64(*n),
            Scalar::I64(n) => Value::I64(*n),
            Scalar::F32(x) => Value::F32(*x),
            Scalar::Bool(b) => Value::Bool(*b),
            Scalar::Text(t) => Value::Str(t.as_str().into()),
        }
    }
}

fn apply(model: &mut Gguf, edit: &Edit) {
    let keys: Vec<String> = model.metadata.iter().map(|(k, _)| k.to_owned()).collect();
    let key = |i: u8| keys.get(usize::from(i) % keys.len().max(1)).cloned().unwrap_or_default();
    let architecture = model.metadata.get_str("general.architecture").unwrap_or("llama").to_owned();
    let more = |i: u8| format!("{architecture}.{}", MORE_KEYS[usize::from(i) % MORE_KEYS.len()]);
    let count = model.tensors.len().max(1);
    let at = |i: u8| usize::from(i) % count;
    match edit {
        Edit::Set(i, scalar) => {
            model.metadata.insert(&key(*i), scalar.value());
        }
        Edit::Add(i, scalar) => {
            model.metadata.insert(&more(*i), scalar.value());
        }
        Edit::Numbers(i, numbers) => {
            let name = if i % 2 == 0 { key(i / 2) } else { more(i / 2) };
            model.metadata.insert(&name, Value::Array(Array::I32(numbers.clone())));
        }
        Edit::Remove(i) => {
            model.metadata.remove(&key(*i));
        }
        Edit::Drop(i) if !model.tensors.is_empty() => {
            model.tensors.remove(at(*i));
        }
        Edit::Rename(i, other) => {
            if let Some(tensor) = model.tensors.get_mut(at(*i)) {
                tensor.name = MORE_TENSORS[usize::from(*other) % MORE_TENSORS.len()].to_owned();
            }
        }
        Edit::Retype(i, dtype, shape) => {
            let name = model.tensors.get(at(*i)).map(|t| t.name.clone());
            if let (Some(tensor), Some(name)) = (model.tensors.get_mut(at(*i)), name) {
                *tensor = small_tensor(&name, *dtype, shape);
            }
        }
        Edit::Tensor(i, dtype, shape) => {
            let name = MORE_TENSORS[usize::from(*i) % MORE_TENSORS.len()];
            model.tensors.push(small_tensor(name, *dtype, shape));
        }
        Edit::Bytes(i, bytes) => {
            if let Some(tensor) = model.tensors.get_mut(at(*i)) {
                tensor.data.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            }
        }
        Edit::Drop(_) => {}
    }
}

/// One to three dimensions of up to 16 (rows of whole blocks).
fn small_tensor(name: &str, dtype: u8, shape: &[u8; 3]) -> Tensor {
    let dtype = DType::ALL[usize::from(dtype) % DType::ALL.len()];
    let dimensions = 1 + usize::from(shape[0] >> 6).min(2);
    let mut shape: Vec<usize> = shape[..dimensions].iter().map(|&n| 1 + usize::from(n) % 16).collect();
    if let Some(row) = shape.last_mut() {
        *row *= dtype.block_len();
    }
    Tensor::new(name, dtype, &shape)
}

/// One for all inputs: its threads stay.
static CPU: OnceLock<Cpu> = OnceLock::new();

/// What commands do with a model: open it, count its memory, tokenize, and compute.
fn use_model(path: &Path) {
    let model = match Model::open(path) {
        Ok(model) => model,
        Err(e) => {
            assert!(e.to_string().contains("model.gguf"), "no file is named: {e}");
            return;
        }
    };
    let limits = Limits::single(8, 4, CacheDType::F32);
    let _ = autarky_engine::memory::estimate(model.graph(), 0, &limits);
    if let Some(Ok(tokenizer)) = model.source().metadata().map(Tokenizer::from_gguf) {
        for add_special in [false, true] {
            let options = EncodeOptions { add_special, parse_special: add_special };
            if let Ok(ids) = tokenizer.encode(" abc <s> \u{1f600}", options) {
                assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
                tokenizer.decode(&ids, false).expect("ids of the vocabulary");
            }
        }
    }
    if model.graph().parameters() > 1 << 16 || model.graph().cache_width() > 1 << 12 {
        return;
    }
    let cpu = CPU.get_or_init(|| {
        Cpu::new(CpuOptions { threads: Some(2), ..CpuOptions::default() }).expect("a device")
    });
    let devices: [&dyn Device; 2] = [&Reference, cpu];
    for device in devices {
        let mut program = device
            .compile(Arc::clone(model.graph()), model.weights(), limits)
            .expect("open has found and checked every weight");
        let (tokens, outputs) = ([0, 0, 0], [1, 2]);
        let sequences = [SequenceStep { position: 0, tokens: 3, blocks: &[0] }];
        let step =
            Step { tokens: &tokens, sequences: &sequences, outputs: &outputs, inputs: &[], weights: &[] };
        program.run(&step).expect("a step within the limits");
        assert_eq!(program.output(0).len(), 2 * model.config().vocabulary);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let path = if bytes.starts_with(b"GGUF") {
        file("model.gguf", bytes)
    } else {
        let Ok((base, edits)) = <(u8, Vec<Edit>)>::arbitrary(&mut Unstructured::new(bytes)) else { return };
        let mut model = match base % 3 {
            0 => models::dense(),
            1 => models::experts(),
            _ => models::latent(),
        };
        edits.iter().take(8).for_each(|edit| apply(&mut model, edit));
        let Ok(bytes) = model.bytes() else { return };
        file("model.gguf", &bytes)
    };
    bounded(|| use_model(&path));
});
