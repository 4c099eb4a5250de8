//! Qwen 3's mixtures of experts (Yang et al. 2025, arXiv:2505.09388): Qwen 3 with 128 small experts, 8 a token.

use autarky_graph::{Graph, GraphError, Pairing, Scoring};

use crate::attention::grouped_query;
use crate::config::{CONTEXT, Config, Defaults, EXPERTS, ExpertsConfig, FEED_FORWARD, MAX_LAYERS};
use crate::decoder::decoder;
use crate::error::FamilyError;
use crate::families::{ATTENTION, Family, GATED, MIXTURE, qwen3};
use crate::feed_forward::sparse;
use crate::fields::{Fields, Found};

pub(crate) static FAMILY: Family = Family {
    name: "qwen3moe",
    architecture: "qwen3moe",
    model_types: &["qwen3_moe"],
    claims: |_| true,
    from_hugging_face,
    from_gguf: |fields, source| qwen3::from_gguf(fields, source, "qwen3moe"),
    graph,
    names: &[ATTENTION, GATED, MIXTURE],
    gguf_pairing: Pairing::Halves,
};

fn from_hugging_face(fields: &Fields<'_>) -> Result<Config, FamilyError> {
    let defaults = Defaults { context: 32_768, kv_heads: Some(4), ..Defaults::default() };
    let mut config = Config::from_hugging_face(fields, "qwen3moe", defaults)?;
    config.biases = qwen3::biases(fields)?;
    config.head_norms = true;
    if fields.flag_opt("use_sliding_window")?.unwrap_or(false) {
        config.windows = vec![fields.size_opt("sliding_window", CONTEXT)?; config.layers];
    }
    // transformers writes either name.
    let count = match fields.size_opt("num_experts", EXPERTS)? {
        Some(count) => count,
        None => fields.size_opt("num_local_experts", EXPERTS)?.unwrap_or(128),
    };
    config.experts = Some(ExpertsConfig {
        count,
        per_token: fields.size_opt("num_experts_per_tok", 1..=count)?.unwrap_or(8),
        feed_forward: fields.size_opt("moe_intermediate_size", FEED_FORWARD)?.unwrap_or(768),
        shared_feed_forward: 0,
        layers: sparse_layers(fields, config.layers)?,
        scoring: Scoring::Softmax,
        selection_bias: false,
        groups: None,
        normalize: fields.flag_opt("norm_topk_prob")?.unwrap_or(false),
        scale: 1.0,
    });
    Ok(config)
}

/// Every `decoder_sparse_step`-th layer has experts, but not those of `mlp_only_layers`.
fn sparse_layers(fields: &Fields<'_>, layers: usize) -> Result<Vec<bool>, FamilyError> {
    let step = fields.size_opt("decoder_sparse_step", 1..=MAX_LAYERS)?.unwrap_or(1);
    let dense: Vec<i128> = match fields.find("mlp_only_layers") {
        None | Some(Found::Null) => Vec::new(),
        Some(Found::Ints(dense)) => dense,
        Some(Found::Texts(none)) if none.is_empty() => Vec::new(),
        Some(other) => return Err(fields.wrong("mlp_only_layers", other.describe(), "numbers of layers")),
    };
    Ok((0..layers).map(|i| (i + 1) % step == 0 && !dense.contains(&(i as i128))).collect())
}

fn graph(config: &Config) -> Result<Graph, GraphError> {
    decoder(config, grouped_query, sparse)
}
