//! Tiny models of three shapes, whole and valid, that tests and fuzz targets damage: a dense one (grouped-query
//! attention, a tokenizer, a chat template, mixed data types), a mixture of experts, and latent attention with grouped
//! routing.

use autarky_format::TensorView;
use autarky_format::gguf::{Metadata, StrArray, Value, to_bytes};
use autarky_format::safetensors::{self, RawTensor, SafeDType};
use autarky_quant::DType;

/// A tensor with its bytes.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// How its numbers are stored.
    pub dtype: DType,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Its bytes.
    pub data: Vec<u8>,
}

impl Tensor {
    /// A tensor of small numbers, the same for the same name.
    pub fn new(name: &str, dtype: DType, shape: &[usize]) -> Tensor {
        let elements: usize = shape.iter().product();
        let mut state = name.bytes().fold(1u32, |h, b| h.wrapping_mul(31).wrapping_add(b.into())) | 1;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let values: Vec<f32> = match shape.len() {
            1 => (0..elements).map(|_| 1.0 + 0.1 * next()).collect(),
            _ => (0..elements).map(|_| next()).collect(),
        };
        let mut data = vec![0; dtype.bytes(elements).expect("whole blocks")];
        autarky_quant::quantize(dtype, &values, &mut data).expect("small numbers");
        Tensor { name: name.to_owned(), dtype, shape: shape.to_vec(), data }
    }
}

/// A GGUF model in parts that can be changed one by one.
#[derive(Clone, Debug)]
pub struct Gguf {
    /// Keys and values.
    pub metadata: Metadata,
    /// The tensors in the file's order.
    pub tensors: Vec<Tensor>,
}

impl Gguf {
    /// Sets a key.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Gguf {
        self.metadata.insert(key, value);
        self
    }

    /// The tensor of that name.
    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|t| t.name == name).expect("a tensor of the model")
    }

    /// The file.
    ///
    /// # Errors
    /// What GGUF cannot express, in words.
    pub fn bytes(&self) -> Result<Vec<u8>, String> {
        let views: Vec<TensorView<'_>> = (self.tensors.iter())
            .map(|t| TensorView { name: &t.name, dtype: t.dtype, shape: &t.shape, data: &t.data })
            .collect();
        to_bytes(&self.metadata, &views).map_err(|e| e.to_string())
    }
}

/// A template that walks over the messages, as real ones do.
pub const CHAT_TEMPLATE: &str = "{% for m in messages %}<s>{{ m.role }}: {{ m.content|trim }}</s>{% endfor %}\
    {% if add_generation_prompt %}<s>assistant: {% endif %}";

/// Entries of the vocabulary of [`dense`].
pub const VOCABULARY: usize = 16;

fn tokenizer(metadata: &mut Metadata) {
    let tokens = [
        "<unk>",
        "<s>",
        "</s>",
        "\u{2581}",
        "a",
        "b",
        "c",
        "\u{2581}a",
        "ab",
        "abc",
        "d",
        "e",
        ":",
        "<0x0A>",
        "<0x00>",
        "<0xFF>",
    ];
    let types = [2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 6, 6, 6];
    let scores: Vec<f32> = (0..tokens.len()).map(|i| -(i as f32)).collect();
    metadata.insert("tokenizer.ggml.model", "llama");
    metadata.insert("tokenizer.ggml.pre", "default");
    metadata.insert("tokenizer.ggml.tokens", tokens.iter().copied().collect::<StrArray>());
    metadata.insert("tokenizer.ggml.token_type", types.to_vec());
    metadata.insert("tokenizer.ggml.scores", scores);
    metadata.insert("tokenizer.ggml.bos_token_id", 1u32);
    metadata.insert("tokenizer.ggml.eos_token_id", 2u32);
    metadata.insert("tokenizer.ggml.unknown_token_id", 0u32);
    metadata.insert("tokenizer.ggml.add_bos_token", true);
    metadata.insert("tokenizer.chat_template", CHAT_TEMPLATE);
}

/// Keys after the architecture's name.
fn keys(metadata: &mut Metadata, architecture: &str, keys: &[(&str, u32)]) {
    for (key, value) in keys {
        metadata.insert(&format!("{architecture}.{key}"), *value);
    }
}

fn start(architecture: &str) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", architecture);
    metadata.insert("general.alignment", 32u32);
    metadata.insert(&format!("{architecture}.attention.layer_norm_rms_epsilon"), 1e-5f32);
    metadata.insert(&format!("{architecture}.rope.freq_base"), 10_000.0f32);
    metadata
}

/// One layer of `llama`, about 11 KB.
pub fn dense() -> Gguf {
    let mut metadata = start("llama");
    keys(
        &mut metadata,
        "llama",
        &[
            ("vocab_size", VOCABULARY as u32),
            ("context_length", 64),
            ("embedding_length", 32),
            ("block_count", 1),
            ("feed_forward_length", 32),
            ("attention.head_count", 4),
            ("attention.head_count_kv", 2),
            ("rope.dimension_count", 8),
        ],
    );
    tokenizer(&mut metadata);
    let tensor = |name, dtype, shape: &[usize]| Tensor::new(name, dtype, shape);
    let tensors = vec![
        tensor("token_embd.weight", DType::Q8_0, &[VOCABULARY, 32]),
        tensor("blk.0.attn_norm.weight", DType::F32, &[32]),
        tensor("blk.0.attn_q.weight", DType::F16, &[32, 32]),
        tensor("blk.0.attn_k.weight", DType::BF16, &[16, 32]),
        tensor("blk.0.attn_v.weight", DType::F32, &[16, 32]),
        tensor("blk.0.attn_output.weight", DType::Q4_1, &[32, 32]),
        tensor("blk.0.ffn_norm.weight", DType::F32, &[32]),
        tensor("blk.0.ffn_gate.weight", DType::Q4_0, &[32, 32]),
        tensor("blk.0.ffn_up.weight", DType::Q5_0, &[32, 32]),
        tensor("blk.0.ffn_down.weight", DType::IQ4_NL, &[32, 32]),
        tensor("output_norm.weight", DType::F32, &[32]),
        tensor("output.weight", DType::MXFP4, &[VOCABULARY, 32]),
    ];
    Gguf { metadata, tensors }
}

/// Two layers of `qwen3moe`: four experts, two a token.
pub fn experts() -> Gguf {
    let mut metadata = start("qwen3moe");
    keys(
        &mut metadata,
        "qwen3moe",
        &[
            ("context_length", 64),
            ("embedding_length", 8),
            ("block_count", 2),
            ("feed_forward_length", 8),
            ("expert_feed_forward_length", 4),
            ("expert_count", 4),
            ("expert_used_count", 2),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
            ("attention.key_length", 4),
            ("attention.value_length", 4),
            ("attention.sliding_window", 16),
        ],
    );
    tokenizer(&mut metadata);
    let mut tensors = vec![Tensor::new("token_embd.weight", DType::F32, &[16, 8])];
    for layer in 0..2 {
        let shapes: [(&str, &[usize]); 12] = [
            ("attn_norm", &[8]),
            ("attn_q", &[8, 8]),
            ("attn_k", &[4, 8]),
            ("attn_v", &[4, 8]),
            ("attn_q_norm", &[4]),
            ("attn_k_norm", &[4]),
            ("attn_output", &[8, 8]),
            ("ffn_norm", &[8]),
            ("ffn_gate_inp", &[4, 8]),
            ("ffn_gate_exps", &[4, 4, 8]),
            ("ffn_up_exps", &[4, 4, 8]),
            ("ffn_down_exps", &[4, 8, 4]),
        ];
        tensors.extend(
            shapes.map(|(name, shape)| Tensor::new(&format!("blk.{layer}.{name}.weight"), DType::F32, shape)),
        );
    }
    tensors.push(Tensor::new("output_norm.weight", DType::F32, &[8]));
    Gguf { metadata, tensors }
}

/// Two layers of `deepseek2` (a dense one, then one of experts in two groups beside a shared expert).
pub fn latent() -> Gguf {
    let mut metadata = start("deepseek2");
    keys(
        &mut metadata,
        "deepseek2",
        &[
            ("context_length", 64),
            ("embedding_length", 8),
            ("block_count", 2),
            ("feed_forward_length", 8),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
            ("attention.q_lora_rank", 6),
            ("attention.kv_lora_rank", 4),
            ("attention.key_length", 6),
            ("attention.value_length", 4),
            ("attention.key_length_mla", 5),
            ("attention.value_length_mla", 3),
            ("rope.dimension_count", 2),
            ("leading_dense_block_count", 1),
            ("expert_count", 4),
            ("expert_used_count", 2),
            ("expert_shared_count", 1),
            ("expert_feed_forward_length", 4),
            ("expert_group_count", 2),
            ("expert_group_used_count", 1),
            ("expert_gating_func", 2),
        ],
    );
    tokenizer(&mut metadata);
    metadata.insert("deepseek2.expert_weights_scale", 2.5f32);
    metadata.insert("deepseek2.expert_weights_norm", true);
    let mut tensors = vec![Tensor::new("token_embd.weight", DType::F32, &[16, 8])];
    let mut add = |name: String, shape: &[usize]| tensors.push(Tensor::new(&name, DType::F32, shape));
    for layer in 0..2 {
        let attention: [(&str, &[usize]); 10] = [
            ("attn_norm", &[8]),
            ("attn_q_a", &[6, 8]),
            ("attn_q_a_norm", &[6]),
            ("attn_q_b", &[2 * 5, 6]),
            ("attn_kv_a_mqa", &[4 + 2, 8]),
            ("attn_kv_a_norm", &[4]),
            ("attn_k_b", &[2, 4, 3]),
            ("attn_v_b", &[2, 3, 4]),
            ("attn_output", &[8, 2 * 3]),
            ("ffn_norm", &[8]),
        ];
        attention.iter().for_each(|(name, shape)| add(format!("blk.{layer}.{name}.weight"), shape));
    }
    for name in ["ffn_gate", "ffn_up", "ffn_down"] {
        add(format!("blk.0.{name}.weight"), &[8, 8]);
    }
    let sparse: [(&str, &[usize]); 8] = [
        ("ffn_gate_inp.weight", &[4, 8]),
        ("exp_probs_b.bias", &[4]),
        ("ffn_gate_exps.weight", &[4, 4, 8]),
        ("ffn_up_exps.weight", &[4, 4, 8]),
        ("ffn_down_exps.weight", &[4, 8, 4]),
        ("ffn_gate_shexp.weight", &[4, 8]),
        ("ffn_up_shexp.weight", &[4, 8]),
        ("ffn_down_shexp.weight", &[8, 4]),
    ];
    sparse.iter().for_each(|(name, shape)| add(format!("blk.1.{name}"), shape));
    add("output_norm.weight".to_owned(), &[8]);
    add("output.weight".to_owned(), &[16, 8]);
    Gguf { metadata, tensors }
}

/// A Hugging Face folder's `config.json`: one layer of `llama`.
pub const HF_CONFIG: &str = r#"{
  "architectures": ["LlamaForCausalLM"],
  "model_type": "llama",
  "hidden_size": 8,
  "intermediate_size": 8,
  "num_hidden_layers": 1,
  "num_attention_heads": 2,
  "num_key_value_heads": 1,
  "head_dim": 4,
  "vocab_size": 16,
  "max_position_embeddings": 64,
  "rms_norm_eps": 1e-05,
  "rope_theta": 10000.0,
  "rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32, "beta_fast": 32, "beta_slow": 1},
  "hidden_act": "silu",
  "attention_bias": false,
  "mlp_bias": false,
  "tie_word_embeddings": true,
  "torch_dtype": "float32"
}"#;

/// The tensors of that folder.
pub fn hf_tensors() -> Vec<Tensor> {
    let shapes: [(&str, &[usize]); 11] = [
        ("model.embed_tokens", &[16, 8]),
        ("model.layers.0.input_layernorm", &[8]),
        ("model.layers.0.self_attn.q_proj", &[8, 8]),
        ("model.layers.0.self_attn.k_proj", &[4, 8]),
        ("model.layers.0.self_attn.v_proj", &[4, 8]),
        ("model.layers.0.self_attn.o_proj", &[8, 8]),
        ("model.layers.0.post_attention_layernorm", &[8]),
        ("model.layers.0.mlp.gate_proj", &[8, 8]),
        ("model.layers.0.mlp.up_proj", &[8, 8]),
        ("model.layers.0.mlp.down_proj", &[8, 8]),
        ("model.norm", &[8]),
    ];
    shapes.map(|(name, shape)| Tensor::new(&format!("{name}.weight"), DType::F32, shape)).into()
}

/// `model.safetensors` of F32 tensors.
///
/// # Errors
/// What safetensors cannot express, in words.
pub fn safetensors_bytes(tensors: &[Tensor]) -> Result<Vec<u8>, String> {
    let raw: Vec<RawTensor<'_>> = (tensors.iter())
        .map(|t| RawTensor { name: &t.name, dtype: SafeDType::F32, shape: &t.shape, data: &t.data })
        .collect();
    safetensors::to_bytes(&[("format", "pt")], &raw).map_err(|e| e.to_string())
}

/// `tokenizer.json` of that folder: byte-level BPE with one merge.
pub const TOKENIZER_JSON: &str = r#"{
  "version": "1.0",
  "added_tokens": [
    {"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
    {"id": 1, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}
  ],
  "normalizer": null,
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
  "post_processor": null,
  "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
  "model": {
    "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
    "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
    "vocab": {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "c": 4, "ab": 5, "Ġ": 6, "Ġa": 7, "d": 8, "e": 9, "f": 10,
      "ð": 11, "Ł": 12, "ĺ": 13, "Ģ": 14, "g": 15},
    "merges": ["a b", "Ġ a"]
  }
}"#;

/// `tokenizer_config.json` of that folder.
pub const TOKENIZER_CONFIG: &str = r#"{
  "tokenizer_class": "PreTrainedTokenizerFast",
  "bos_token": "<s>",
  "eos_token": "</s>",
  "add_bos_token": true,
  "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"
}"#;
