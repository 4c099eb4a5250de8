//! Qwen 2 and 2.5 (Yang et al. 2024, arXiv:2407.10671): Llama with biases on queries, keys and values.

use autarky_format::Source;
use autarky_graph::Pairing;

use crate::config::{Biases, Config, Defaults, qwen_windows};
use crate::error::FamilyError;
use crate::families::{ATTENTION, Family, GATED, llama};
use crate::fields::Fields;
use crate::gguf::{self, Unsaid};

pub(crate) static FAMILY: Family = Family {
    name: "qwen2",
    architecture: "qwen2",
    model_types: &["qwen2"],
    claims: |_| true,
    from_hugging_face,
    from_gguf,
    graph: llama::graph,
    names: &[ATTENTION, GATED],
    gguf_pairing: Pairing::Halves,
};

const BIASES: Biases = Biases { qkv: true, attention_output: false, feed_forward: false };

fn from_hugging_face(fields: &Fields<'_>) -> Result<Config, FamilyError> {
    let defaults = Defaults { context: 32_768, kv_heads: Some(32), ..Defaults::default() };
    let mut config = Config::from_hugging_face(fields, "qwen2", defaults)?;
    config.biases = BIASES;
    config.windows = qwen_windows(fields, config.layers)?;
    Ok(config)
}

fn from_gguf(fields: &Fields<'_>, source: &Source) -> Result<Config, FamilyError> {
    let unsaid = Unsaid { pairing: Pairing::Halves, head_norms: false, normalize: true };
    let config = gguf::read(fields, source, "qwen2", unsaid)?;
    Ok(Config { biases: BIASES, ..config })
}
