//! Llama (Touvron et al. 2023, arXiv:2302.13971; Llama 3, arXiv:2407.21783), and the many models of its shape.
//!
//! x + attention(norm x), then x + feed_forward(norm x): grouped-query attention with rotary positions and a gated
//! feed-forward block, with root-mean-square norms and, as a rule, no biases.

use autarky_format::Source;
use autarky_graph::{Graph, GraphError, Pairing};

use crate::attention::grouped_query;
use crate::config::{Biases, Config, Defaults};
use crate::decoder::decoder;
use crate::error::FamilyError;
use crate::families::{ATTENTION, Family, GATED};
use crate::feed_forward::gated;
use crate::fields::Fields;
use crate::gguf::{self, Unsaid};

pub(crate) static FAMILY: Family = Family {
    name: "llama",
    architecture: "llama",
    model_types: &["llama"],
    claims: |_| true,
    from_hugging_face,
    from_gguf: |fields, source| from_gguf(fields, source, "llama"),
    graph,
    names: &[ATTENTION, GATED],
    gguf_pairing: Pairing::Adjacent,
};

fn from_hugging_face(fields: &Fields<'_>) -> Result<Config, FamilyError> {
    let mut config = Config::from_hugging_face(fields, "llama", Defaults::default())?;
    let attention = fields.flag_opt("attention_bias")?.unwrap_or(false);
    config.biases = Biases {
        qkv: attention,
        attention_output: attention,
        feed_forward: fields.flag_opt("mlp_bias")?.unwrap_or(false),
    };
    Ok(config)
}

/// For Llama and the families that share its GGUF architecture. Converters order the rows of queries and keys so that
/// neighbours make a pair.
pub(super) fn from_gguf(
    fields: &Fields<'_>,
    source: &Source,
    family: &'static str,
) -> Result<Config, FamilyError> {
    gguf::read(
        fields,
        source,
        family,
        Unsaid { pairing: Pairing::Adjacent, head_norms: false, normalize: true },
    )
}

pub(super) fn graph(config: &Config) -> Result<Graph, GraphError> {
    decoder(config, grouped_query, gated)
}
