//! GGUF files that are well formed and make no sense as models: hyperparameters, types, shapes, missing tensors.

use autarky_format::gguf::{Array, Value};
use autarky_quant::DType;

use crate::cases::{Each, Expect, gguf_model, refused, refused_for, valid};
use crate::models::{Gguf, Tensor, dense};

/// Every case of this module.
pub(crate) fn each(each: &mut Each<'_>) {
    for (architecture, model) in valid() {
        each(gguf_model(format!("{architecture} as it should be"), &model, Expect::Accepted));
        sizes(architecture, &model, each);
        numbers(architecture, &model, each);
        missing(architecture, &model, each);
        shapes(architecture, &model, each);
        types(architecture, &model, each);
    }
    choices(each);
    huge(each);
    strangers(each);
}

/// Keys that no size of the model hangs on.
const IDLE: [&str; 2] = ["leading_dense_block_count", "attention.value_length"];

/// Every whole number of the metadata set to what no model has.
fn sizes(architecture: &str, model: &Gguf, each: &mut Each<'_>) {
    let prefix = format!("{architecture}.");
    let keys = model.metadata.iter().filter(|(_, v)| matches!(v, Value::U32(_)));
    let keys: Vec<String> = keys.filter_map(|(k, _)| k.strip_prefix(&prefix).map(str::to_owned)).collect();
    for key in keys {
        let idle = IDLE.contains(&&*key) && architecture == "deepseek2";
        let mut with = |value: Value, expect: Expect| {
            let what = format!("{architecture}.{key} = {value} ({})", value.value_type().name());
            let model = model.clone().with(&format!("{prefix}{key}"), value);
            each(gguf_model(what, &model, if idle { Expect::Any } else { expect }));
        };
        for value in [
            Value::U32(1 << 31),
            Value::U32(u32::MAX),
            Value::U64(1 << 63),
            Value::U64(u64::MAX),
            Value::I32(-1),
            Value::I64(i64::MIN),
            Value::F32(f32::NAN),
            Value::F64(1e300),
            Value::Bool(true),
            Value::Str("many".into()),
            Value::Array(Array::U32((0..2000).collect())),
            Value::Array(Array::Array(vec![Array::U8(vec![1])])),
        ] {
            with(value, refused([&*key]));
        }
        // Small numbers that do not fit the others are told by their name, or by the tensor that they do not fit.
        for value in [0, 2, 3, 5, 7, 31, 33, 1000, 4097, 1 << 20] {
            with(Value::U32(value), Expect::Any);
        }
    }
}

/// Every real number set to what is none, or far out.
fn numbers(architecture: &str, model: &Gguf, each: &mut Each<'_>) {
    let keys =
        model.metadata.iter().filter(|(k, v)| k.starts_with(architecture) && matches!(v, Value::F32(_)));
    for key in keys.map(|(k, _)| k) {
        for value in [
            Value::F32(f32::NAN),
            Value::F32(f32::INFINITY),
            Value::F32(f32::NEG_INFINITY),
            Value::F32(-1.0),
            Value::F64(f64::MAX),
            Value::U64(u64::MAX),
            Value::Str("1".into()),
        ] {
            let what = format!("{key} = {value}");
            each(gguf_model(what, &model.clone().with(key, value), refused([key])));
        }
    }
}

/// Every tensor missing, and every key.
fn missing(architecture: &str, model: &Gguf, each: &mut Each<'_>) {
    for (i, tensor) in model.tensors.iter().enumerate() {
        let mut without = model.clone();
        without.tensors.remove(i);
        // A model without an output table uses the embedding's; the router says which layers have experts.
        let expect = match &*tensor.name {
            "output.weight" => Expect::Accepted,
            name if name.ends_with("ffn_gate_inp.weight") => refused(["tensor", "ffn_"]),
            name if name.ends_with("exp_probs_b.bias") => Expect::Any,
            name => refused([name, "missing"]),
        };
        each(gguf_model(format!("{architecture} without {}", tensor.name), &without, expect));
    }
    for (key, _) in model.metadata.iter() {
        let mut without = model.clone();
        without.metadata.remove(key);
        each(gguf_model(format!("{architecture} without {key}"), &without, Expect::Any));
    }
    for key in [
        "embedding_length",
        "block_count",
        "context_length",
        "attention.head_count",
        "attention.layer_norm_rms_epsilon",
    ] {
        let mut without = model.clone();
        without.metadata.remove(&format!("{architecture}.{key}"));
        each(gguf_model(format!("{architecture} without {key}"), &without, refused([key, "missing"])));
    }
    let mut without = model.clone();
    without.metadata.remove("general.architecture");
    each(gguf_model("without an architecture", &without, refused(["general.architecture"])));
}

/// Every tensor in another shape.
fn shapes(architecture: &str, model: &Gguf, each: &mut Each<'_>) {
    for (i, tensor) in model.tensors.iter().enumerate() {
        let dtype = tensor.dtype;
        let mut shapes = vec![
            [&[1], &*tensor.shape].concat(),
            [&*tensor.shape, &[dtype.block_len()]].concat(),
            vec![tensor.shape.iter().product()],
            tensor.shape.iter().map(|n| n * 2).collect(),
        ];
        let mut taller = tensor.shape.clone();
        taller[0] += dtype.block_len();
        shapes.push(taller);
        for shape in shapes.into_iter().filter(|s| *s != tensor.shape && s.len() <= 4) {
            let mut other = model.clone();
            other.tensors[i] = Tensor::new(&tensor.name, dtype, &shape);
            // Another number of rows in both tables is another vocabulary, which the tables must agree on.
            let expect = match &*tensor.name {
                "token_embd.weight" => Expect::Any,
                name => refused_for([name, name.trim_end_matches(".weight"), "tensor"]),
            };
            each(gguf_model(format!("{architecture}: {} of shape {shape:?}", tensor.name), &other, expect));
        }
    }
}

/// Every tensor in every type.
fn types(architecture: &str, model: &Gguf, each: &mut Each<'_>) {
    for (i, tensor) in model.tensors.iter().enumerate() {
        let row = *tensor.shape.last().expect("a dimension");
        for dtype in DType::ALL.into_iter().filter(|d| row.is_multiple_of(d.block_len())) {
            let mut other = model.clone();
            other.tensors[i] = Tensor::new(&tensor.name, dtype, &tensor.shape);
            let expect = match tensor.shape.len() == 1 && !dtype.is_float() {
                true => refused([&*tensor.name, dtype.name()]),
                false => Expect::Accepted,
            };
            each(gguf_model(format!("{architecture}: {} as {dtype}", tensor.name), &other, expect));
        }
    }
}

/// Choices that no family has.
fn choices(each: &mut Each<'_>) {
    let mut with = |key: &str, value: Value, expect| {
        each(gguf_model(format!("{key} = {value}"), &dense().with(key, value), expect));
    };
    let text = |t: &str| Value::Str(t.into());
    with("general.architecture", text("gpt5"), refused(["gpt5", "llama", "deepseek2"]));
    with("general.architecture", text(""), refused(["known"]));
    with("general.architecture", text(&"x".repeat(1 << 16)), refused(["known"]));
    with("general.architecture", Value::U32(3), refused(["general.architecture"]));
    with("llama.rope.scaling.type", text("spiral"), refused(["spiral", "yarn"]));
    with("llama.rope.scaling.type", Value::U32(1), refused(["rope.scaling.type"]));
    with("llama.rope.scaling.factor", Value::F32(-2.0), refused(["rope.scaling.factor"]));
    with("llama.rope.scaling.factor", Value::F32(f32::NAN), refused(["rope.scaling.factor"]));
    with(
        "llama.attention.sliding_window_pattern",
        Value::Array(Array::Bool(vec![true; 3])),
        refused(["sliding_window_pattern"]),
    );
    with("llama.attention.key_length", Value::U32(7), refused_for(["key_length", "value_length", "rope"]));
    with("llama.expert_count", Value::U32(8), refused_for(["expert_used_count", "ffn_gate_inp", "tensor"]));
    with("llama.nextn_predict_layers", Value::U32(1), refused(["nextn_predict_layers"]));
    for alignment in [0, 3, 12, 1 << 31, u32::MAX] {
        let mut bytes = dense().bytes().expect("a valid file");
        let items = crate::damage::items(&bytes);
        let item = items.iter().find(|i| i.what == "general.alignment").expect("the key is there");
        bytes = crate::damage::set(&bytes, item, alignment.into());
        let expect = refused_for(["general.alignment", "data of tensor", "data offset"]);
        each(crate::cases::gguf(format!("alignment {alignment}"), bytes, expect));
    }
}

/// Sizes that are possible one by one and together far beyond the file.
fn huge(each: &mut Each<'_>) {
    let sizes: [(&str, u32); 9] = [
        ("block_count", 1024),
        ("embedding_length", 1 << 18),
        ("feed_forward_length", 1 << 21),
        ("attention.head_count", 4096),
        ("attention.head_count_kv", 4096),
        ("attention.key_length", 1 << 14),
        ("attention.value_length", 1 << 14),
        ("context_length", 1 << 28),
        ("rope.dimension_count", 1 << 14),
    ];
    for (architecture, model) in valid() {
        let mut model = sizes.iter().fold(model, |m, (k, v)| m.with(&format!("{architecture}.{k}"), *v));
        each(gguf_model(
            format!("{architecture} at the limits of dense sizes"),
            &model,
            refused_for(["tensor", "rope.dimension_count"]),
        ));
        for (key, value) in
            [("expert_count", 4096), ("expert_used_count", 4096), ("expert_feed_forward_length", 1 << 21)]
        {
            model = model.with(&format!("{architecture}.{key}"), value as u32);
        }
        each(gguf_model(
            format!("{architecture} at the limits of all sizes"),
            &model,
            refused_for(["tensor", "expert", "rope.dimension_count"]),
        ));
    }
    let deep = dense().with("llama.block_count", 1u32 << 20);
    each(gguf_model("2^20 layers", &deep, refused(["llama.block_count", "1048576", "1024"])));
    let long = dense().with("llama.context_length", 1u64 << 63);
    each(gguf_model("a context of 2^63", &long, refused(["llama.context_length", "9223372036854775808"])));
    let wide = dense().with("llama.vocab_size", 1u32 << 31);
    each(gguf_model("a vocabulary of 2^31", &wide, refused(["llama.vocab_size", "2147483648"])));
}

/// Tensors that no family has a place for.
fn strangers(each: &mut Each<'_>) {
    for (name, expect) in [
        ("blk.0.attn_q.bias", refused(["attn_"])),
        ("blk.0.attn_sinks.weight", refused(["attn_sinks", "no place"])),
        ("blk.0.ffn_gate_inp.weight", refused(["ffn_gate_inp", "no place"])),
        ("blk.18446744073709551616.attn_q.weight", refused(["no place"])),
        ("output_norm.bias", refused(["output_norm.bias"])),
        ("blk.7.attn_q.weight", Expect::Accepted),
        ("v.patch_embd.weight", Expect::Accepted),
        ("", Expect::Any),
    ] {
        let mut model = dense();
        model.tensors.push(Tensor::new(name, DType::F32, &[4, 4]));
        if let Ok(bytes) = model.bytes() {
            each(crate::cases::gguf(format!("with a tensor {name:?}"), bytes, expect));
        }
    }
    for shape in [&[1][..], &[3], &[4, 1], &[5], &[1 << 12]] {
        let mut model = dense();
        model.tensors.push(Tensor::new("rope_freqs.weight", DType::F32, shape));
        let expect = refused(["rope_freqs.weight"]);
        each(gguf_model(format!("rope_freqs.weight of shape {shape:?}"), &model, expect));
    }
    let mut model = dense();
    let mut zeros = Tensor::new("rope_freqs.weight", DType::F32, &[4]);
    zeros.data.fill(0);
    model.tensors.push(zeros);
    each(gguf_model("rope_freqs.weight of zeros", &model, refused(["rope_freqs.weight"])));
    // NaN and infinities are numbers that a file may hold: they go through.
    for (name, byte) in
        [("token_embd.weight", 0xff), ("blk.0.attn_norm.weight", 0xff), ("output.weight", 0x7f)]
    {
        let mut model = dense();
        model.tensor(name).data.fill(byte);
        each(gguf_model(format!("{name} filled with {byte:#x}"), &model, Expect::Accepted));
    }
}
