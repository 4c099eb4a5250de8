//! Qwen 3 (Yang et al. 2025, arXiv:2505.09388): Llama whose queries and keys are normalised head by head before they
//! turn, with a head width of its own.

use autarky_format::Source;
use autarky_graph::Pairing;

use crate::config::{Biases, Config, Defaults, qwen_windows};
use crate::error::FamilyError;
use crate::families::{ATTENTION, Family, GATED, llama};
use crate::fields::Fields;
use crate::gguf::{self, Unsaid};

pub(crate) static FAMILY: Family = Family {
    name: "qwen3",
    architecture: "qwen3",
    model_types: &["qwen3"],
    claims: |_| true,
    from_hugging_face,
    from_gguf: |fields, source| from_gguf(fields, source, "qwen3"),
    graph: llama::graph,
    names: &[ATTENTION, GATED],
    gguf_pairing: Pairing::Halves,
};

fn from_hugging_face(fields: &Fields<'_>) -> Result<Config, FamilyError> {
    let defaults =
        Defaults { context: 32_768, kv_heads: Some(32), head_width: Some(128), ..Defaults::default() };
    let mut config = Config::from_hugging_face(fields, "qwen3", defaults)?;
    config.biases = biases(fields)?;
    config.head_norms = true;
    config.windows = qwen_windows(fields, config.layers)?;
    Ok(config)
}

/// `attention_bias`: on all four projections of attention.
pub(super) fn biases(fields: &Fields<'_>) -> Result<Biases, FamilyError> {
    let attention = fields.flag_opt("attention_bias")?.unwrap_or(false);
    Ok(Biases { qkv: attention, attention_output: attention, feed_forward: false })
}

pub(super) fn from_gguf(
    fields: &Fields<'_>,
    source: &Source,
    family: &'static str,
) -> Result<Config, FamilyError> {
    gguf::read(fields, source, family, Unsaid { pairing: Pairing::Halves, head_norms: true, normalize: true })
}
