//! Tensors: the layouts that converters have written the same weights in, and refusals that name what is wrong.

mod support;

use std::path::PathBuf;

use autarky_family::convert::Options;
use autarky_family::{FamilyError, Model, convert};
use autarky_format::TensorView;
use autarky_format::gguf::{File, Metadata, Value, to_bytes};
use autarky_quant::{DType, dequantize, quantize};
use support::{difference, fixtures, logits};
use tempfile::TempDir;

/// A tensor that a test moves about.
#[derive(Clone)]
struct Owned {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    data: Vec<u8>,
}

/// A GGUF file in parts.
struct Parts {
    metadata: Metadata,
    tensors: Vec<Owned>,
    scratch: TempDir,
}

impl Parts {
    /// A fixture, converted.
    fn of(name: &str) -> Parts {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("whole.gguf");
        let model = Model::open(fixtures().join(name)).unwrap();
        convert(&model, &path, &Options::default(), &mut |_| {}).unwrap();
        let file = File::open(&path).unwrap();
        let owned = |name: &str| {
            let t = file.tensor(name).unwrap();
            Owned { name: name.to_owned(), dtype: t.dtype, shape: t.shape.to_vec(), data: t.data.to_vec() }
        };
        let tensors = file.tensors().iter().map(|t| owned(&t.name)).collect();
        Parts { metadata: file.metadata().clone(), tensors, scratch }
    }

    fn take(&mut self, name: &str) -> Owned {
        let at = self.tensors.iter().position(|t| t.name == name).unwrap_or_else(|| panic!("no {name}"));
        self.tensors.remove(at)
    }

    fn put(&mut self, name: &str, shape: &[usize], data: Vec<u8>) {
        self.tensors.push(Owned { name: name.to_owned(), dtype: DType::F32, shape: shape.to_vec(), data });
    }

    fn path(&self) -> PathBuf {
        let views: Vec<TensorView<'_>> = self
            .tensors
            .iter()
            .map(|t| TensorView { name: &t.name, dtype: t.dtype, shape: &t.shape, data: &t.data })
            .collect();
        let path = self.scratch.path().join("parts.gguf");
        std::fs::write(&path, to_bytes(&self.metadata, &views).unwrap()).unwrap();
        path
    }

    fn open(&self) -> Result<Model, FamilyError> {
        Model::open(self.path())
    }

    fn refusal(&self) -> String {
        self.open().expect_err("the model is opened").to_string()
    }
}

const INPUT: [u32; 6] = [3, 14, 15, 9, 26, 5];

/// The fixture's logits, which no layout of its tensors may change.
fn expected(name: &str) -> Vec<f32> {
    logits(&Model::open(fixtures().join(name)).unwrap(), &INPUT)
}

fn check_layout(parts: &Parts, name: &str) {
    let model = parts.open().unwrap();
    assert_eq!(model.warnings(), [""; 0]);
    let off = difference(&logits(&model, &INPUT), &expected(name));
    assert!(off < 2e-5, "{name}: the layout moves logits by {off}");
}

#[test]
fn experts_may_lie_one_by_one() {
    let mut parts = Parts::of("mixtral");
    for layer in 0..2 {
        for kind in ["gate", "up", "down"] {
            let whole = parts.take(&format!("blk.{layer}.ffn_{kind}_exps.weight"));
            for (e, data) in whole.data.chunks(whole.data.len() / 4).enumerate() {
                parts.put(&format!("blk.{layer}.ffn_{kind}.{e}.weight"), &whole.shape[1..], data.to_vec());
            }
        }
    }
    check_layout(&parts, "mixtral");
    let _ = parts.take("blk.1.ffn_up.3.weight");
    assert!(parts.refusal().contains("\"blk.1.ffn_up.3.weight\" is missing"), "{}", parts.refusal());
}

#[test]
fn projections_may_be_fused() {
    let mut parts = Parts::of("mixtral");
    for layer in 0..2 {
        let names = ["q", "k", "v"].map(|n| format!("blk.{layer}.attn_{n}.weight"));
        let taken = names.map(|n| parts.take(&n));
        let rows = taken.iter().map(|t| t.shape[0]).sum();
        let data = taken.iter().flat_map(|t| t.data.clone()).collect();
        parts.put(&format!("blk.{layer}.attn_qkv.weight"), &[rows, 16], data);

        let gate = parts.take(&format!("blk.{layer}.ffn_gate_exps.weight"));
        let up = parts.take(&format!("blk.{layer}.ffn_up_exps.weight"));
        let of = |t: &Owned, e| t.data.chunks(t.data.len() / 4).nth(e).unwrap().to_vec();
        let data = (0..4).flat_map(|e| [of(&gate, e), of(&up, e)].concat()).collect();
        parts.put(&format!("blk.{layer}.ffn_gate_up_exps.weight"), &[4, 48, 16], data);
    }
    check_layout(&parts, "mixtral");
}

#[test]
fn latent_projections_may_be_unsplit() {
    let mut parts = Parts::of("deepseek_v3");
    let (heads, nope, value, rank) = (2, 6, 5, 8);
    for layer in 0..2 {
        let numbers =
            |t: Owned| -> Vec<f32> { t.data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect() };
        let k = numbers(parts.take(&format!("blk.{layer}.attn_k_b.weight")));
        let v = numbers(parts.take(&format!("blk.{layer}.attn_v_b.weight")));
        let mut data = Vec::new();
        for h in 0..heads {
            for row in 0..nope {
                data.extend((0..rank).map(|r| k[(h * rank + r) * nope + row]));
            }
            data.extend_from_slice(&v[h * value * rank..][..value * rank]);
        }
        let data = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        parts.put(&format!("blk.{layer}.attn_kv_b.weight"), &[heads * (nope + value), rank], data);
    }
    // Such files give plain head widths.
    for (key, n) in [("key_length", 10u32), ("value_length", 5), ("head_count_kv", 2)] {
        parts.metadata.insert(&format!("deepseek2.attention.{key}"), n);
    }
    for key in ["key_length_mla", "value_length_mla"] {
        parts.metadata.remove(&format!("deepseek2.attention.{key}"));
    }
    check_layout(&parts, "deepseek_v3");
}

#[test]
fn tensors_that_are_missing_or_wrong_are_refused_by_name() {
    let mut parts = Parts::of("llama_linear");
    let q = parts.take("blk.0.attn_q.weight");
    assert!(parts.refusal().contains("\"blk.0.attn_q.weight\" is missing"), "{}", parts.refusal());

    let [rows, columns] = q.shape[..] else { panic!("{:?}", q.shape) };
    parts.put(&q.name, &[rows / 2, columns * 2], q.data.clone());
    let said = parts.refusal();
    assert!(
        said.contains("\"blk.0.attn_q.weight\" has the shape [16, 64]") && said.contains("[32, 32]"),
        "{said}"
    );
    let _ = parts.take(&q.name);
    parts.tensors.push(q);

    let norm = parts.take("output_norm.weight");
    let mut numbers = vec![0.0; 32];
    dequantize(norm.dtype, &norm.data, &mut numbers).unwrap();
    let mut data = vec![0; DType::Q8_0.bytes(32).unwrap()];
    quantize(DType::Q8_0, &numbers, &mut data).unwrap();
    parts.tensors.push(Owned { dtype: DType::Q8_0, data, ..norm.clone() });
    let said = parts.refusal();
    assert!(said.contains("\"output_norm.weight\" is stored as Q8_0") && said.contains("F32, F16"), "{said}");
    let _ = parts.take("output_norm.weight");
    parts.tensors.push(norm);

    let _ = parts.take("token_embd.weight");
    assert!(parts.refusal().contains("\"token_embd.weight\" is missing"), "{}", parts.refusal());
}

#[test]
fn tensors_that_would_change_the_answer_are_refused_and_others_told() {
    let zeros = |n: usize| vec![0u8; 4 * n];
    for (of, name, n) in [
        ("mistral", "blk.0.attn_q_norm.weight", 6),
        ("qwen3", "blk.0.ffn_up.bias", 24),
        ("qwen3", "blk.1.attn_q.bias", 20),
        ("qwen3", "blk.1.attn_sinks.weight", 2),
        ("qwen3", "output.bias", 40),
        ("qwen3", "rope_factors_long.weight", 8),
    ] {
        let mut parts = Parts::of(of);
        parts.put(name, &[n], zeros(n));
        let said = parts.refusal();
        assert!(said.contains(&format!("{name:?} has no place in the family {of:?}")), "{said}");
    }
    let mut parts = Parts::of("qwen3");
    // A layer that predicts a further token, and something else's weight.
    parts.put("blk.2.attn_q.weight", &[4, 4], zeros(16));
    parts.put("vision.patch.weight", &[4, 4], zeros(16));
    let model = parts.open().unwrap();
    assert_eq!(model.warnings().len(), 2, "{:?}", model.warnings());
    assert!(model.warnings()[1].contains("\"vision.patch.weight\" is not used"));
    // What the configuration says, too, is not worth a word.
    let mut parts = Parts::of("qwen3");
    parts.put("blk.0.attn_rot_embd.weight", &[5], zeros(5));
    assert_eq!(parts.open().unwrap().warnings(), [""; 0]);
}

#[test]
fn metadata_that_no_model_has_is_refused_by_key() {
    let cases: [(&str, &str, Value); 22] = [
        ("llama3", "block_count", Value::U32(0)),
        ("llama3", "block_count", Value::U64(u64::MAX)),
        ("llama3", "block_count", Value::I32(-1)),
        ("llama3", "block_count", Value::F32(2.0)),
        ("llama3", "context_length", Value::U32(0)),
        ("llama3", "context_length", Value::U64(1 << 63)),
        ("llama3", "embedding_length", Value::U32(0)),
        ("llama3", "feed_forward_length", Value::U32(0)),
        ("llama3", "attention.head_count", Value::U32(1 << 31)),
        ("llama3", "attention.head_count_kv", Value::U32(0)),
        ("llama3", "attention.value_length", Value::U32(4)),
        ("llama3", "attention.layer_norm_rms_epsilon", Value::F32(f32::NAN)),
        ("llama3", "attention.layer_norm_rms_epsilon", Value::F32(f32::INFINITY)),
        ("llama3", "rope.freq_base", Value::F32(0.0)),
        ("llama3", "rope.dimension_count", Value::U32(3)),
        ("llama3", "rope.dimension_count", Value::U32(10)),
        ("llama_yarn", "rope.scaling.original_context_length", Value::U32(0)),
        ("llama_yarn", "rope.scaling.factor", Value::F32(-1.0)),
        ("mixtral", "expert_used_count", Value::U32(5)),
        ("mixtral", "expert_count", Value::U32(1 << 20)),
        ("deepseek_v3", "expert_group_used_count", Value::U32(0)),
        ("deepseek_v3", "attention.key_length_mla", Value::U32(4)),
    ];
    for (name, key, value) in cases {
        let mut parts = Parts::of(name);
        let architecture = if name.starts_with("deepseek") { "deepseek2" } else { "llama" };
        parts.metadata.insert(&format!("{architecture}.{key}"), value.clone());
        let said = parts.refusal();
        // The rotated part of a latent's key is what its width leaves.
        let key = if key == "attention.key_length_mla" { "rope.dimension_count" } else { key };
        assert!(said.contains(key), "{name} {key} {value:?}: {said}");
    }
    let mut parts = Parts::of("llama");
    parts.metadata.insert("general.architecture", "mamba");
    let said = parts.refusal();
    assert!(said.contains("\"mamba\" is not known") && said.contains("deepseek2"), "{said}");
    parts.metadata.remove("general.architecture");
    assert!(parts.refusal().contains("general.architecture"), "{}", parts.refusal());
}

#[test]
fn scalings_of_gguf_files_are_honoured_or_refused() {
    let mut parts = Parts::of("llama_yarn");
    parts.metadata.insert("llama.rope.scaling.type", "longrope");
    assert!(parts.refusal().contains("\"longrope\""), "{}", parts.refusal());
    parts.metadata.insert("llama.rope.scaling.type", "none");
    let plain = parts.open().unwrap();
    assert_eq!(plain.config().rope.scaling, autarky_family::rope::RopeScaling::None);
    let off = difference(&logits(&plain, &INPUT), &expected("llama_yarn"));
    assert!(off > 1e-2, "scaling makes no difference: {off}");
    // Llama 3's scaling is a tensor.
    let mut parts = Parts::of("llama3");
    assert!(parts.open().unwrap().config().rope.factors.is_some());
    let factors = parts.take("rope_freqs.weight");
    let off = difference(&logits(&parts.open().unwrap(), &INPUT), &expected("llama3"));
    assert!(off > 1e-3, "the factors make no difference: {off}");
    parts.put("rope_freqs.weight", &[2], factors.data[..8].to_vec());
    assert!(parts.refusal().contains("rope_freqs.weight"), "{}", parts.refusal());
}

/// Numbers that break careless readers.
const HOSTILE: [Value; 8] = [
    Value::U32(0),
    Value::U32(1),
    Value::U32(1 << 31),
    Value::U64(1 << 63),
    Value::U64(u64::MAX),
    Value::I64(-1),
    Value::F32(f32::NAN),
    Value::F32(1e-30),
];

#[test]
fn no_number_in_any_key_breaks_opening() {
    for name in
        ["llama", "llama_yarn", "mistral", "mixtral", "qwen2", "qwen3_moe", "deepseek_v2", "deepseek_v3"]
    {
        let mut parts = Parts::of(name);
        let keys: Vec<String> = parts.metadata.iter().map(|(key, _)| key.to_owned()).collect();
        for key in keys.iter().filter(|key| !key.starts_with("general.")) {
            for value in HOSTILE {
                let before = parts.metadata.insert(key, value.clone()).unwrap();
                match parts.open() {
                    // What is opened can also be compiled and run.
                    Ok(model) => assert_eq!(logits(&model, &INPUT).len(), INPUT.len() * 40),
                    Err(e) => assert!(!e.to_string().is_empty()),
                }
                parts.metadata.insert(key, before);
            }
        }
    }
}
