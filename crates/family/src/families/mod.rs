//! The families: one file each, and the table of all.
//!
//! A new family is a file with a [`Family`]: how its two kinds of configuration are read (most of it by
//! [`Config::from_hugging_face`] and [`crate::gguf::read`]), its graph out of the shared blocks or with a block of its
//! own, and where Hugging Face's folders keep its weights. It joins [`FAMILIES`], and `tests/fixtures` gets a tiny
//! checkpoint of it with logits that another implementation computed.

mod deepseek2;
pub(crate) mod llama;
mod mistral;
mod mixtral;
mod qwen2;
mod qwen3;
mod qwen3moe;

use autarky_format::Source;
use autarky_graph::{Graph, GraphError, Pairing};

use crate::config::Config;
use crate::error::FamilyError;
use crate::fields::Fields;

/// A family: how its checkpoints are recognised and read, and what its models compute.
pub(crate) struct Family {
    /// The family's name.
    pub(crate) name: &'static str,
    /// Its `general.architecture` in GGUF files.
    pub(crate) architecture: &'static str,
    /// Its `model_type`s in Hugging Face's `config.json`.
    pub(crate) model_types: &'static [&'static str],
    /// Whether a GGUF file of the architecture is of this family (several may share one).
    pub(crate) claims: fn(&Fields<'_>) -> bool,
    /// Reads Hugging Face's `config.json`.
    pub(crate) from_hugging_face: fn(&Fields<'_>) -> Result<Config, FamilyError>,
    /// Reads GGUF metadata.
    pub(crate) from_gguf: fn(&Fields<'_>, &Source) -> Result<Config, FamilyError>,
    /// What a model computes.
    pub(crate) graph: fn(&Config) -> Result<Graph, GraphError>,
    /// Where a layer's weights are in Hugging Face's folders.
    pub(crate) names: &'static [&'static [(&'static str, Place)]],
    /// Which numbers of a query or key make a rotated pair in the family's GGUF files.
    pub(crate) gguf_pairing: Pairing,
}

/// Where one of a layer's weights is in a Hugging Face folder. Names follow `model.layers.{layer}.`; the ending
/// (`.weight`, `.bias`) is that of the weight.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// In the tensor of this name.
    Tensor(&'static str),
    /// In the tensor of the first name, or of the second where the first is absent.
    Either(&'static str, &'static str),
    /// In the tensor of this name, which has no ending.
    Whole(&'static str),
    /// For each expert in one tensor, `{}` standing for its number, or of all experts in one that may hold another
    /// projection's rows too.
    Experts {
        /// The name with one expert's number.
        each: &'static str,
        /// The name of all together (transformers 5 in memory), without an ending.
        fused: &'static str,
        /// Which half of the fused tensor's rows, where it holds two projections.
        half: Option<Half>,
    },
    /// Rows of every head of `self_attn.kv_b_proj`: those of the latent's keys, transposed, or of its values.
    LatentUp(Half),
}

/// One of two parts that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    First,
    Second,
}

/// Every family that is known. Those that share a GGUF architecture stand with the most special first.
pub(crate) static FAMILIES: [&Family; 7] = [
    &mixtral::FAMILY,
    &mistral::FAMILY,
    &llama::FAMILY,
    &qwen2::FAMILY,
    &qwen3::FAMILY,
    &qwen3moe::FAMILY,
    &deepseek2::FAMILY,
];

/// The family of a configuration.
pub(crate) fn of(config: &Config) -> &'static Family {
    FAMILIES.iter().find(|f| f.name == config.family).unwrap_or(&FAMILIES[0])
}

/// Every known name, for an error.
pub(crate) fn known() -> String {
    let mut names: Vec<&str> = FAMILIES.iter().map(|f| f.name).collect();
    names.sort_unstable();
    names.join(", ")
}

/// Grouped-query attention's weights.
pub(crate) const ATTENTION: &[(&str, Place)] = &[
    ("attn_norm", Place::Tensor("input_layernorm")),
    ("attn_q", Place::Tensor("self_attn.q_proj")),
    ("attn_k", Place::Tensor("self_attn.k_proj")),
    ("attn_v", Place::Tensor("self_attn.v_proj")),
    ("attn_q_norm", Place::Tensor("self_attn.q_norm")),
    ("attn_k_norm", Place::Tensor("self_attn.k_norm")),
    ("attn_output", Place::Tensor("self_attn.o_proj")),
    ("ffn_norm", Place::Tensor("post_attention_layernorm")),
];

/// A dense feed-forward block's weights.
pub(crate) const GATED: &[(&str, Place)] = &[
    ("ffn_gate", Place::Tensor("mlp.gate_proj")),
    ("ffn_up", Place::Tensor("mlp.up_proj")),
    ("ffn_down", Place::Tensor("mlp.down_proj")),
];

/// A mixture of experts' weights, as Qwen and DeepSeek name them.
pub(crate) const MIXTURE: &[(&str, Place)] = &[
    ("ffn_gate_inp", Place::Tensor("mlp.gate")),
    (
        "ffn_gate_exps",
        Place::Experts {
            each: "mlp.experts.{}.gate_proj",
            fused: "mlp.experts.gate_up_proj",
            half: Some(Half::First),
        },
    ),
    (
        "ffn_up_exps",
        Place::Experts {
            each: "mlp.experts.{}.up_proj",
            fused: "mlp.experts.gate_up_proj",
            half: Some(Half::Second),
        },
    ),
    (
        "ffn_down_exps",
        Place::Experts { each: "mlp.experts.{}.down_proj", fused: "mlp.experts.down_proj", half: None },
    ),
];
