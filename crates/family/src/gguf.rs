//! Configurations as GGUF metadata, read and written. The keys are llama.cpp's (gguf-py's `constants.py`).

use autarky_format::Source;
use autarky_format::gguf::{Array, Metadata, Value};
use autarky_graph::{ActivationKind, GroupScore, Groups, Pairing, Scoring};

use crate::config::{
    Biases, CONTEXT, Config, EPSILON, EXPERTS, ExpertsConfig, FEED_FORWARD, HEAD_WIDTH, HEADS, LAYERS,
    LatentConfig, ROUTED_SCALE, VOCABULARY, WIDTH,
};
use crate::error::FamilyError;
use crate::fields::{Fields, Found};
use crate::rope::RopeConfig;

/// `expert_gating_func`'s numbers.
const GATING_SOFTMAX: usize = 1;
const GATING_SIGMOID: usize = 2;

/// Not a key of llama.cpp's: ε of the latents' norms where it is not that of the others.
const LATENT_EPSILON: &str = "attention.latent_layer_norm_rms_epsilon";

/// What a family of GGUF files leaves unsaid.
#[derive(Clone, Copy)]
pub(crate) struct Unsaid {
    /// Which numbers of a query or key make a pair, given how the family's converter orders rows.
    pub(crate) pairing: Pairing,
    /// Whether queries and keys are normalised head by head.
    pub(crate) head_norms: bool,
    /// Whether routers divide by the sum, where `expert_weights_norm` is absent.
    pub(crate) normalize: bool,
}

/// Reads a configuration from metadata, and from which tensors there are.
///
/// # Errors
/// For absent keys, and numbers that no model has.
pub(crate) fn read(
    fields: &Fields<'_>,
    source: &Source,
    family: &'static str,
    unsaid: Unsaid,
) -> Result<Config, FamilyError> {
    let width = fields.size("embedding_length", WIDTH)?;
    // Layers that predict further tokens stand at the end and do not take part here.
    let layers = fields.size("block_count", LAYERS)?;
    let further = fields.size_opt("nextn_predict_layers", 0..=layers - 1)?.unwrap_or(0);
    let layers = layers - further;
    let heads = fields.size("attention.head_count", HEADS)?;
    let kv_heads = fields.size_opt("attention.head_count_kv", 1..=heads)?.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        let expected = format!("a divisor of {heads} heads");
        return Err(fields.wrong("attention.head_count_kv", kv_heads, expected));
    }
    let head_width = match fields.size_opt("attention.key_length", HEAD_WIDTH)? {
        Some(head_width) => head_width,
        None if width.is_multiple_of(heads) => width / heads,
        None => {
            return Err(fields.wrong(
                "attention.head_count",
                heads,
                format!("a divisor of the width {width}"),
            ));
        }
    };
    let has = |name: &str| source.tensor(name).is_some();
    let layer_has = |i: usize, name: &str| has(&format!("blk.{i}.{name}"));
    let biases = Biases {
        qkv: layer_has(0, "attn_q.bias"),
        attention_output: layer_has(0, "attn_output.bias"),
        feed_forward: layer_has(0, "ffn_gate.bias"),
    };
    let latent = latent(fields, head_width)?;
    let rotated = latent.map_or(head_width, |m| m.rope);
    let factors = match source.tensor("rope_freqs.weight") {
        None => None,
        Some(view) => match view.f32s() {
            Some(factors) if factors.len() <= rotated => Some(factors.into_owned()),
            _ => {
                let found = format!("{} {:?}", view.dtype, view.shape);
                return Err(fields.wrong(
                    "tensor rope_freqs.weight",
                    found,
                    format!("at most {rotated} F32"),
                ));
            }
        },
    };
    if latent.is_none()
        && let Some(value) = fields.size_opt("attention.value_length", HEAD_WIDTH)?
        && value != head_width
    {
        let expected = format!("attention.key_length, {head_width}");
        return Err(fields.wrong("attention.value_length", value, expected));
    }
    let config = Config {
        family,
        vocabulary: vocabulary(fields, source)?,
        width,
        layers,
        heads,
        kv_heads: if latent.is_some() { 1 } else { kv_heads },
        head_width: latent.map_or(head_width, |m| m.nope + m.rope),
        context: fields.size("context_length", CONTEXT)?,
        feed_forward: fields.size_opt("feed_forward_length", 0..=*FEED_FORWARD.end())?.unwrap_or(0),
        norm_epsilon: fields.number("attention.layer_norm_rms_epsilon", EPSILON)? as f32,
        activation: ActivationKind::Silu,
        tied: !has("output.weight"),
        biases,
        head_norms: unsaid.head_norms,
        windows: windows(fields, layers)?,
        rope: RopeConfig::from_gguf(fields, rotated, unsaid.pairing, factors)?,
        experts: experts(fields, source, layers, unsaid.normalize)?,
        latent,
    };
    match config.feed_forward == 0 && !(0..layers).all(|i| config.has_experts(i)) {
        true => {
            Err(fields.wrong("feed_forward_length", 0, "a number above 0, for the layers without experts"))
        }
        false => Ok(config),
    }
}

/// Entries of the embedding table, which may be more than the tokenizer has.
fn vocabulary(fields: &Fields<'_>, source: &Source) -> Result<usize, FamilyError> {
    // The table says how many there are; what the key says beside it must at least be possible.
    fields.size_opt("vocab_size", VOCABULARY)?;
    let name = "token_embd.weight";
    let Some(table) = source.tensor(name) else {
        return Err(FamilyError::MissingTensor { file: fields.file().to_owned(), tensor: name.to_owned() });
    };
    match table.shape {
        [entries, _] if VOCABULARY.contains(entries) => Ok(*entries),
        shape => Err(fields.wrong("tensor token_embd.weight", format!("{shape:?}"), "[vocabulary, width]")),
    }
}

fn windows(fields: &Fields<'_>, layers: usize) -> Result<Vec<Option<usize>>, FamilyError> {
    let window = fields.size_opt("attention.sliding_window", 0..=*CONTEXT.end())?.filter(|&w| w > 0);
    match fields.find("attention.sliding_window_pattern") {
        None => Ok(vec![window; layers]),
        Some(Found::Flags(flags)) if flags.len() == layers => {
            Ok(flags.iter().map(|slides| window.filter(|_| *slides)).collect())
        }
        Some(other) => {
            let expected = format!("an array of {layers} bools");
            Err(fields.wrong("attention.sliding_window_pattern", other.describe(), expected))
        }
    }
}

fn experts(
    fields: &Fields<'_>,
    source: &Source,
    layers: usize,
    normalize: bool,
) -> Result<Option<ExpertsConfig>, FamilyError> {
    let count = fields.size_opt("expert_count", 0..=*EXPERTS.end())?.unwrap_or(0);
    if count == 0 {
        return Ok(None);
    }
    let has = |i: usize, name: &str| source.tensor(&format!("blk.{i}.{name}")).is_some();
    let sparse: Vec<bool> = (0..layers).map(|i| has(i, "ffn_gate_inp.weight")).collect();
    let feed_forward = match fields.size_opt("expert_feed_forward_length", FEED_FORWARD)? {
        Some(feed_forward) => feed_forward,
        None => fields.size("feed_forward_length", FEED_FORWARD)?,
    };
    let shared = fields.size_opt("expert_shared_count", 0..=64)?.unwrap_or(0);
    let scoring = match fields.size_opt("expert_gating_func", 0..=2)?.unwrap_or(0) {
        GATING_SIGMOID => Scoring::Sigmoid,
        _ => Scoring::Softmax,
    };
    let group_count = fields.size_opt("expert_group_count", 0..=count)?.unwrap_or(0);
    let groups = match group_count {
        0 | 1 => None,
        n => Some(fields.size("expert_group_used_count", 1..=n)?),
    };
    // 0 stands for no scale.
    let scale = fields.number_opt("expert_weights_scale", ROUTED_SCALE)?.filter(|&s| s != 0.0);
    Ok(Some(ExpertsConfig {
        count,
        per_token: fields.size("expert_used_count", 1..=count)?,
        feed_forward,
        shared_feed_forward: shared * feed_forward,
        selection_bias: sparse.iter().position(|&s| s).is_some_and(|i| has(i, "exp_probs_b.bias")),
        layers: sparse,
        scoring,
        groups: group_limits(group_count, groups, scoring),
        normalize: fields.flag_opt("expert_weights_norm")?.unwrap_or(normalize),
        scale: scale.unwrap_or(1.0) as f32,
    }))
}

/// Group limits as DeepSeek-V2 (softmax) and V3 (sigmoid) score groups; none where every group may be used.
pub(crate) fn group_limits(count: usize, keep: Option<usize>, scoring: Scoring) -> Option<Groups> {
    let keep = keep.filter(|&keep| count > 1 && keep < count)?;
    let score = match scoring {
        Scoring::Softmax => GroupScore::Best,
        Scoring::Sigmoid => GroupScore::BestTwo,
    };
    Some(Groups { count, keep, score })
}

fn latent(fields: &Fields<'_>, key_length: usize) -> Result<Option<LatentConfig>, FamilyError> {
    let Some(rank) = fields.size_opt("attention.kv_lora_rank", WIDTH)? else { return Ok(None) };
    let rope = fields.size("rope.dimension_count", HEAD_WIDTH)?;
    // Files made before latent attention was computed in its absorbed form have plain head widths.
    let key = fields.size_opt("attention.key_length_mla", HEAD_WIDTH)?.unwrap_or(key_length);
    let value = match fields.size_opt("attention.value_length_mla", HEAD_WIDTH)? {
        Some(value) => value,
        None => fields.size("attention.value_length", HEAD_WIDTH)?,
    };
    if rope >= key {
        return Err(fields.wrong("rope.dimension_count", rope, format!("less than the key length, {key}")));
    }
    let epsilon = match fields.number_opt(LATENT_EPSILON, EPSILON)? {
        Some(epsilon) => epsilon,
        None => fields.number("attention.layer_norm_rms_epsilon", EPSILON)?,
    };
    Ok(Some(LatentConfig {
        query_rank: fields.size_opt("attention.q_lora_rank", 0..=*WIDTH.end())?.filter(|&rank| rank > 0),
        rank,
        nope: key - rope,
        rope,
        value,
        norm_epsilon: epsilon as f32,
    }))
}

/// The metadata that says `config` to llama.cpp and to [`read`].
pub(crate) fn write(config: &Config, architecture: &str) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", architecture);
    metadata.insert("general.quantization_version", 2u32);
    {
        let mut set = |key: &str, value: Value| {
            metadata.insert(&format!("{architecture}.{key}"), value);
        };
        let mut size = |key: &str, value: usize| set(key, Value::U32(value as u32));
        size("vocab_size", config.vocabulary);
        size("context_length", config.context);
        size("embedding_length", config.width);
        size("block_count", config.layers);
        size("feed_forward_length", config.feed_forward);
        size("attention.head_count", config.heads);
        size("attention.head_count_kv", config.kv_heads);
        match config.latent {
            None => {
                size("attention.key_length", config.head_width);
                size("attention.value_length", config.head_width);
            }
            Some(m) => {
                // llama.cpp requires the key, and takes 0 for none.
                size("attention.q_lora_rank", m.query_rank.unwrap_or(0));
                size("attention.kv_lora_rank", m.rank);
                size("attention.key_length", m.rank + m.rope);
                size("attention.value_length", m.rank);
                size("attention.key_length_mla", m.nope + m.rope);
                size("attention.value_length_mla", m.value);
            }
        }
        if let Some(e) = &config.experts {
            size("expert_count", e.count);
            size("expert_used_count", e.per_token);
            size("expert_feed_forward_length", e.feed_forward);
            size("leading_dense_block_count", e.layers.iter().take_while(|sparse| !**sparse).count());
            size("expert_shared_count", e.shared_feed_forward / e.feed_forward);
            if let Some(groups) = e.groups {
                size("expert_group_count", groups.count);
                size("expert_group_used_count", groups.keep);
            }
            let gating = match e.scoring {
                Scoring::Softmax => GATING_SOFTMAX,
                Scoring::Sigmoid => GATING_SIGMOID,
            };
            size("expert_gating_func", gating);
        }
        set("attention.layer_norm_rms_epsilon", Value::F32(config.norm_epsilon));
        if let Some(m) = config.latent.filter(|m| m.norm_epsilon != config.norm_epsilon) {
            set(LATENT_EPSILON, Value::F32(m.norm_epsilon));
        }
        if let Some(e) = &config.experts {
            set("expert_weights_scale", Value::F32(e.scale));
            set("expert_weights_norm", Value::Bool(e.normalize));
        }
        if let Some(window) = config.windows.iter().flatten().next() {
            set("attention.sliding_window", Value::U32(*window as u32));
            if config.windows.iter().any(Option::is_none) {
                let slides = config.windows.iter().map(Option::is_some).collect();
                set("attention.sliding_window_pattern", Value::Array(Array::Bool(slides)));
            }
        }
    }
    config.rope.write_gguf(architecture, &mut metadata);
    metadata
}
