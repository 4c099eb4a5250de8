//! What a checkpoint says about its model: sizes, checked, and the choices that its family leaves open.

use std::ops::RangeInclusive;

use autarky_graph::{ActivationKind, Groups, Scoring};

use crate::error::FamilyError;
use crate::fields::{Fields, Found};
use crate::rope::RopeConfig;

/// The most layers that a model may have.
pub(crate) const MAX_LAYERS: usize = 1024;
pub(crate) const LAYERS: RangeInclusive<usize> = 1..=MAX_LAYERS;
pub(crate) const WIDTH: RangeInclusive<usize> = 1..=1 << 18;
pub(crate) const HEADS: RangeInclusive<usize> = 1..=4096;
pub(crate) const HEAD_WIDTH: RangeInclusive<usize> = 1..=1 << 14;
pub(crate) const FEED_FORWARD: RangeInclusive<usize> = 1..=1 << 21;
pub(crate) const VOCABULARY: RangeInclusive<usize> = 1..=1 << 24;
pub(crate) const CONTEXT: RangeInclusive<usize> = 1..=1 << 28;
pub(crate) const EXPERTS: RangeInclusive<usize> = 1..=4096;
pub(crate) const EPSILON: RangeInclusive<f64> = 0.0..=1.0;
/// What router weights are multiplied by.
pub(crate) const ROUTED_SCALE: RangeInclusive<f64> = 0.0..=1e4;

/// A model's sizes and choices.
///
/// Each size is at most what the constants of this module say, so that no product of a weight's dimensions overflows.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The family's name.
    pub family: &'static str,
    /// Entries of the vocabulary.
    pub vocabulary: usize,
    /// Numbers that stand for a token between layers.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`. 1 for latent attention as it is computed here.
    pub kv_heads: usize,
    /// Numbers in a query, and in a key and a value that are not latent.
    pub head_width: usize,
    /// The trained context, in tokens.
    pub context: usize,
    /// Hidden numbers of a dense feed-forward block. 0 when every layer has experts.
    pub feed_forward: usize,
    /// ε of the norms.
    pub norm_epsilon: f32,
    /// The activation of feed-forward blocks.
    pub activation: ActivationKind,
    /// Whether the output uses the embedding table.
    pub tied: bool,
    /// Which projections add a bias.
    pub biases: Biases,
    /// Whether queries and keys are normalised head by head.
    pub head_norms: bool,
    /// Each layer's sliding window in positions, or none.
    pub windows: Vec<Option<usize>>,
    /// Rotary position embedding.
    pub rope: RopeConfig,
    /// Mixture of experts.
    pub experts: Option<ExpertsConfig>,
    /// Multi-head latent attention.
    pub latent: Option<LatentConfig>,
}

/// Which projections add a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// Queries, keys and values.
    pub qkv: bool,
    /// What follows attention.
    pub attention_output: bool,
    /// The three of a dense feed-forward block.
    pub feed_forward: bool,
}

/// A mixture of experts.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertsConfig {
    /// Experts in a layer.
    pub count: usize,
    /// Experts that a token uses.
    pub per_token: usize,
    /// Hidden numbers of an expert.
    pub feed_forward: usize,
    /// Hidden numbers of the expert that every token uses (several shared experts are one wide one). 0: none.
    pub shared_feed_forward: usize,
    /// Which layers have experts; the others are dense.
    pub layers: Vec<bool>,
    /// Router logits to scores.
    pub scoring: Scoring,
    /// Whether a learned bias takes part in choosing.
    pub selection_bias: bool,
    /// Group limits.
    pub groups: Option<Groups>,
    /// Whether the chosen experts' weights are divided by their sum.
    pub normalize: bool,
    /// Multiplies the chosen experts' weights.
    pub scale: f32,
}

/// Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434): keys and values are made from one latent vector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatentConfig {
    /// Width of the latent that queries are made from, or none.
    pub query_rank: Option<usize>,
    /// Width of the latent that keys and values are made from.
    pub rank: usize,
    /// Numbers of a key head that carry no position.
    pub nope: usize,
    /// Numbers of a key head that turn, shared by all heads.
    pub rope: usize,
    /// Numbers in a value head.
    pub value: usize,
    /// ε of the latents' norms.
    pub norm_epsilon: f32,
}

impl Config {
    /// Whether layer `i` has experts.
    pub fn has_experts(&self, i: usize) -> bool {
        self.experts.as_ref().is_some_and(|e| e.layers.get(i).copied().unwrap_or(false))
    }

    /// Reads what all families write alike in Hugging Face's `config.json`; what they do not is set by the family.
    ///
    /// Defaults are those of transformers: `default_base` is the family's `rope_theta`, `default_kv_heads` its
    /// `num_key_value_heads` where the field is absent, `default_head_width` its `head_dim`.
    pub(crate) fn from_hugging_face(
        fields: &Fields<'_>,
        family: &'static str,
        defaults: Defaults,
    ) -> Result<Config, FamilyError> {
        if let Some(section) = fields.section("quantization_config")? {
            let method = section.text_opt("quant_method")?.unwrap_or("unknown");
            return Err(fields.unsupported(
                format!("the quantization {method:?} of a Hugging Face folder"),
                "use the model's original weights, or a GGUF file of it",
            ));
        }
        let width = fields.size("hidden_size", WIDTH)?;
        let heads = fields.size("num_attention_heads", HEADS)?;
        let kv_heads = match fields.size_opt("num_key_value_heads", 1..=heads)? {
            Some(kv_heads) => kv_heads,
            None if fields.find("num_key_value_heads").is_none() => defaults.kv_heads.unwrap_or(heads),
            None => heads,
        };
        if !heads.is_multiple_of(kv_heads) {
            return Err(fields.wrong("num_key_value_heads", kv_heads, format!("a divisor of {heads} heads")));
        }
        let head_width = match (fields.size_opt("head_dim", HEAD_WIDTH)?, defaults.head_width) {
            (Some(head_width), _) => head_width,
            (None, Some(head_width)) => head_width,
            (None, None) if width.is_multiple_of(heads) => width / heads,
            (None, None) => {
                return Err(fields.wrong(
                    "num_attention_heads",
                    heads,
                    format!("a divisor of the width {width}"),
                ));
            }
        };
        let layers = fields.size("num_hidden_layers", LAYERS)?;
        let pairing = autarky_graph::Pairing::Halves;
        Ok(Config {
            family,
            vocabulary: fields.size("vocab_size", VOCABULARY)?,
            width,
            layers,
            heads,
            kv_heads,
            head_width,
            context: fields.size_opt("max_position_embeddings", CONTEXT)?.unwrap_or(defaults.context),
            feed_forward: fields.size("intermediate_size", FEED_FORWARD)?,
            norm_epsilon: fields.number_opt("rms_norm_eps", EPSILON)?.unwrap_or(defaults.norm_epsilon) as f32,
            activation: activation(fields)?,
            tied: fields.flag_opt("tie_word_embeddings")?.unwrap_or(false),
            biases: Biases::default(),
            head_norms: false,
            windows: vec![None; layers],
            rope: RopeConfig::from_hugging_face(
                fields,
                defaults.rotated.unwrap_or(head_width),
                defaults.rope_base,
                pairing,
            )?,
            experts: None,
            latent: None,
        })
    }
}

/// What transformers takes where a field is absent.
#[derive(Clone, Copy)]
pub(crate) struct Defaults {
    pub(crate) context: usize,
    pub(crate) kv_heads: Option<usize>,
    pub(crate) head_width: Option<usize>,
    /// Rotated numbers of a head, where they are not the head.
    pub(crate) rotated: Option<usize>,
    pub(crate) norm_epsilon: f64,
    pub(crate) rope_base: f64,
}

impl Default for Defaults {
    fn default() -> Defaults {
        Defaults {
            context: 2048,
            kv_heads: None,
            head_width: None,
            rotated: None,
            norm_epsilon: 1e-6,
            rope_base: 10_000.0,
        }
    }
}

fn activation(fields: &Fields<'_>) -> Result<ActivationKind, FamilyError> {
    Ok(match fields.text_opt("hidden_act")?.unwrap_or("silu") {
        "silu" | "swish" => ActivationKind::Silu,
        "gelu" => ActivationKind::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => ActivationKind::GeluTanh,
        "relu" => ActivationKind::Relu,
        other => {
            let what = format!("the activation {other:?}");
            return Err(fields.unsupported(what, "silu, gelu, gelu_pytorch_tanh and relu are"));
        }
    })
}

/// Every layer's window in a Hugging Face configuration of Qwen's kind: by `layer_types` where given, else from
/// `max_window_layers` on.
pub(crate) fn qwen_windows(fields: &Fields<'_>, layers: usize) -> Result<Vec<Option<usize>>, FamilyError> {
    if !fields.flag_opt("use_sliding_window")?.unwrap_or(false) {
        return Ok(vec![None; layers]);
    }
    let window = match fields.size_opt("sliding_window", CONTEXT)? {
        Some(window) => window,
        None if fields.find("sliding_window").is_none() => 4096,
        None => return Ok(vec![None; layers]),
    };
    match fields.find("layer_types") {
        None | Some(Found::Null) => {
            let first = fields.size_opt("max_window_layers", 0..=usize::MAX)?.unwrap_or(28);
            Ok((0..layers).map(|i| (i >= first).then_some(window)).collect())
        }
        Some(Found::Texts(types)) if types.len() == layers => {
            let one = |kind: &&str| match *kind {
                "full_attention" => Ok(None),
                "sliding_attention" => Ok(Some(window)),
                other => Err(fields.wrong("layer_types", other, "full_attention or sliding_attention")),
            };
            types.iter().map(one).collect()
        }
        Some(other) => {
            Err(fields.wrong("layer_types", other.describe(), format!("the types of {layers} layers")))
        }
    }
}
