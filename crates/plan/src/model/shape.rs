//! Sums from published sizes, in the words of model cards and papers.

use serde::{Deserialize, Serialize};

use super::{Attention, Mixture, Model};

/// A model's published sizes. What is absent is unknown or does not apply.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[allow(missing_docs)] // The names are those of papers and configurations.
pub struct Shape {
    pub name: String,
    pub hidden: Option<f64>,
    pub layers: Option<f64>,
    pub heads: Option<f64>,
    pub kv_heads: Option<f64>,
    pub head_dim: Option<f64>,
    pub ffn: Option<f64>,
    pub vocab: Option<f64>,
    pub experts: Option<f64>,
    pub topk: Option<f64>,
    pub moe_ffn: Option<f64>,
    /// How many shared experts (at most 8), or their hidden width together.
    pub shared_experts_or_ffn: Option<f64>,
    /// `MLA` for latent attention.
    pub attention: Option<String>,
    pub kv_lora_rank: Option<f64>,
    pub q_lora_rank: Option<f64>,
    pub first_k_dense: Option<f64>,
    /// Sequence length in training.
    pub seq: Option<f64>,
    /// Size of the weights' files.
    pub weights_gib: Option<f64>,
}

/// What families do that their sizes do not tell.
struct Habits {
    /// Share of layers with full attention; the others have a window or none at all.
    full: f64,
    window: Option<f64>,
    sparse: Option<f64>,
    /// Share of layers with experts.
    mixed: f64,
    /// Layers are attention, experts or state-space blocks, not all of them.
    interleaved: bool,
    gated: bool,
    compressed: bool,
}

fn habits(name: &str) -> (Habits, Vec<&'static str>) {
    let has = |part: &str| name.contains(part);
    let mut h = Habits {
        full: 1.0,
        window: None,
        sparse: None,
        mixed: 1.0,
        interleaved: false,
        gated: true,
        compressed: false,
    };
    let mut assumed = Vec::new();
    if ["qwen3.5", "qwen3.6", "qwen3.7", "qwen3.8", "qwen3-next"].iter().any(|p| has(p)) {
        h.full = 0.25;
        assumed.push("one layer of four has full attention, the others a state of fixed size");
    }
    if has("gpt-oss") {
        (h.full, h.window) = (0.5, Some(128.0));
    }
    if has("gemma") {
        (h.full, h.window) = (1.0 / 6.0, Some(1024.0));
    }
    if has("llama-4") {
        (h.full, h.window) = (0.25, Some(8192.0));
        h.mixed = if has("maverick") { 0.5 } else { 1.0 };
    }
    if has("nemotron-3") {
        (h.full, h.mixed, h.interleaved, h.gated) = (0.08, 0.45, true, false);
        assumed.push("8 % of layers attend, 45 % have experts, the others are state-space blocks");
    }
    if has("nemotron") {
        h.gated = false;
    }
    if has("v3.2") || has("glm-5") || has("deepseek-v4") {
        h.sparse = Some(2048.0);
    }
    if has("deepseek-v4") {
        h.compressed = true;
        assumed.push("the cache holds an eighth of the positions' keys and values");
    }
    (h, assumed)
}

impl Shape {
    /// Total and active parameters in the model's name, such as `235B-A22B`.
    fn named_sizes(&self) -> Option<(f64, f64)> {
        let name = self.name.to_lowercase();
        for (at, _) in name.match_indices("b-a") {
            let (before, after) = (name.get(..at)?, name.get(at + 3..)?);
            let digit = |c: char| c.is_ascii_digit() || c == '.';
            let total = before.rsplit(|c| !digit(c)).next()?.parse::<f64>();
            let active = after.split(|c| !digit(c)).next()?.parse::<f64>();
            if let (Ok(total), Ok(active)) = (total, active) {
                return Some((total * 1e9, active * 1e9));
            }
        }
        None
    }
}

impl Model {
    /// The work of a model of these sizes, or the name of the size without which nothing can be said.
    pub fn from_shape(shape: &Shape) -> Result<Model, &'static str> {
        let lower = shape.name.to_lowercase();
        let (habits, mut assumed) = habits(&lower);
        let width = positive(shape.hidden).ok_or("hidden")?;
        let layers = match positive(shape.layers) {
            Some(n) => n,
            None if shape.hidden == Some(8192.0) && habits.interleaved => 108.0,
            None => return Err("layers"),
        };
        let heads = positive(shape.heads).unwrap_or((width / 128.0).max(1.0));
        let kv_heads = positive(shape.kv_heads).unwrap_or(heads);
        let head = positive(shape.head_dim).unwrap_or(width / heads);
        let vocabulary = positive(shape.vocab).unwrap_or(128_000.0);
        let count = positive(shape.experts).unwrap_or(0.0);
        let per_token = if count > 0.0 { positive(shape.topk).unwrap_or(8.0) } else { 0.0 };
        let expert_width = positive(shape.moe_ffn).or(positive(shape.ffn)).unwrap_or(0.0);
        let dense_width = positive(shape.ffn).unwrap_or(expert_width * per_token);
        // Four times the width is the older block of two matrices (GPT, MPT, BLOOM).
        let gated = habits.gated && !(count == 0.0 && shape.ffn == Some(4.0 * width));
        let matrices = if gated { 3.0 } else { 2.0 };
        let shared = match positive(shape.shared_experts_or_ffn) {
            Some(n) if n <= 8.0 => n * expert_width,
            Some(n) => n,
            None if lower.contains("llama-4") => expert_width,
            None => 0.0,
        };

        let latent = shape.attention.as_deref() == Some("MLA");
        let (weights, mut kind) = if latent {
            let q = positive(shape.q_lora_rank).unwrap_or(1536.0);
            let c = positive(shape.kv_lora_rank).unwrap_or(512.0);
            let (nope, rope, value) = (128.0, 64.0, 128.0);
            let weights = width * q
                + q * heads * (nope + rope)
                + width * (c + rope)
                + c * heads * (nope + value)
                + heads * value * width;
            let kind = Attention {
                layers,
                window: None,
                decode_pair: 2.0 * heads * (2.0 * c + rope),
                prefill_pair: 2.0 * heads * (nope + rope + value),
                cache: c + rope,
            };
            (weights, kind)
        } else if habits.compressed {
            let rank = 1024.0;
            let weights = width * rank
                + rank * heads * head
                + width * head
                + heads * head * rank / 8.0
                + rank * 8.0 * width;
            let pair = 4.0 * heads * head;
            (
                weights,
                Attention { layers, window: None, decode_pair: pair, prefill_pair: pair, cache: head / 8.0 },
            )
        } else {
            let pair = 4.0 * heads * head;
            let kind = Attention {
                layers,
                window: None,
                decode_pair: pair,
                prefill_pair: pair,
                cache: 2.0 * kv_heads * head,
            };
            (width * head * (2.0 * heads + 2.0 * kv_heads), kind)
        };
        let mut attention = Vec::new();
        kind.layers = layers * habits.full;
        attention.push(kind);
        if let Some(window) = habits.window {
            attention.push(Attention { layers: layers - kind.layers, window: Some(window), ..kind });
        }

        let leading = positive(shape.first_k_dense).unwrap_or(0.0).min(layers);
        let mixed = if count > 0.0 { ((layers - leading) * habits.mixed).floor() } else { 0.0 };
        let dense_layers = if habits.interleaved { 0.0 } else { layers - mixed };
        let attending = match habits.interleaved {
            true => layers * (0.08 * weights + 0.47 * 4.5 * width * width),
            false => layers * weights,
        };
        let mut dense = attending
            + dense_layers * matrices * width * dense_width
            + mixed * (matrices * width * shared + width * count)
            + vocabulary * width;
        let mut expert = matrices * width * expert_width;
        if let Some((total, active)) = shape.named_sizes().filter(|_| mixed > 0.0) {
            let experts = mixed * count * expert;
            let sum = dense + vocabulary * width + experts;
            if (sum / total).ln().abs() > 0.15 {
                assumed.push("experts are scaled to the total in the model's name");
                expert *= ((total - (sum - experts)) / experts).max(0.05);
                let used = mixed * per_token * expert;
                if dense + used > 1.5 * active {
                    dense = (active - used).max(0.3 * dense);
                }
            }
        }
        let mixture = (mixed > 0.0).then_some(Mixture {
            layers: mixed,
            count,
            per_token,
            expert,
            feed_forward: expert_width,
        });
        Ok(Model {
            name: shape.name.clone(),
            width,
            layers,
            heads,
            kv_heads: if latent { 1.0 } else { kv_heads },
            latent,
            vocabulary,
            feed_forward: if mixture.is_some() { expert_width * per_token + shared } else { dense_width },
            embedding: vocabulary * width,
            dense,
            mixture,
            attention,
            sparse: habits.sparse,
            assumed,
        })
    }
}

fn positive(value: Option<f64>) -> Option<f64> {
    value.filter(|v| v.is_finite() && *v > 0.0)
}
