//! Mistral 7B (Jiang et al. 2023, arXiv:2310.06825): Llama with a sliding window.
//!
//! GGUF has no architecture of its own for it: it is `llama` with the key `llama.attention.sliding_window`.

use crate::config::{CONTEXT, Config, Defaults};
use crate::error::FamilyError;
use crate::families::{ATTENTION, Family, GATED, llama};
use crate::fields::Fields;
use autarky_graph::Pairing;

pub(crate) static FAMILY: Family = Family {
    name: "mistral",
    architecture: "llama",
    model_types: &["mistral"],
    claims: |fields| fields.has("attention.sliding_window"),
    from_hugging_face,
    from_gguf: |fields, source| llama::from_gguf(fields, source, "mistral"),
    graph: llama::graph,
    names: &[ATTENTION, GATED],
    gguf_pairing: Pairing::Adjacent,
};

/// `sliding_window`: absent is 4096, null is none.
fn from_hugging_face(fields: &Fields<'_>) -> Result<Config, FamilyError> {
    let defaults = Defaults { context: 131_072, kv_heads: Some(8), ..Defaults::default() };
    let mut config = Config::from_hugging_face(fields, "mistral", defaults)?;
    let window = match fields.find("sliding_window") {
        None => Some(4096),
        Some(_) => fields.size_opt("sliding_window", CONTEXT)?,
    };
    config.windows = vec![window; config.layers];
    Ok(config)
}
