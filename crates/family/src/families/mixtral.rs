//! Mixtral (Jiang et al. 2024, arXiv:2401.04088): Mistral whose feed-forward blocks are mixtures of experts.
//!
//! The router's softmax runs over all experts, and the weights of the chosen two are divided by their sum. GGUF has no
//! architecture of its own for it: it is `llama` with the key `llama.expert_count`.

use autarky_graph::{Graph, GraphError, Pairing, Scoring};

use crate::attention::grouped_query;
use crate::config::{CONTEXT, Config, Defaults, EXPERTS, ExpertsConfig};
use crate::decoder::decoder;
use crate::error::FamilyError;
use crate::families::{ATTENTION, Family, Half, Place, llama};
use crate::feed_forward::sparse;
use crate::fields::Fields;

pub(crate) static FAMILY: Family = Family {
    name: "mixtral",
    architecture: "llama",
    model_types: &["mixtral"],
    claims: |fields| matches!(fields.size_opt("expert_count", 1..=usize::MAX), Ok(Some(_))),
    from_hugging_face,
    from_gguf: |fields, source| llama::from_gguf(fields, source, "mixtral"),
    graph,
    names: &[ATTENTION, SPARSE],
    gguf_pairing: Pairing::Adjacent,
};

/// The experts' w1, w2 and w3 are gate, down and up.
const SPARSE: &[(&str, Place)] = &[
    ("ffn_gate_inp", Place::Either("block_sparse_moe.gate", "mlp.gate")),
    (
        "ffn_gate_exps",
        Place::Experts {
            each: "block_sparse_moe.experts.{}.w1",
            fused: "mlp.experts.gate_up_proj",
            half: Some(Half::First),
        },
    ),
    (
        "ffn_up_exps",
        Place::Experts {
            each: "block_sparse_moe.experts.{}.w3",
            fused: "mlp.experts.gate_up_proj",
            half: Some(Half::Second),
        },
    ),
    (
        "ffn_down_exps",
        Place::Experts { each: "block_sparse_moe.experts.{}.w2", fused: "mlp.experts.down_proj", half: None },
    ),
];

fn from_hugging_face(fields: &Fields<'_>) -> Result<Config, FamilyError> {
    let defaults = Defaults {
        context: 131_072,
        kv_heads: Some(8),
        norm_epsilon: 1e-5,
        rope_base: 1e6,
        ..Defaults::default()
    };
    let mut config = Config::from_hugging_face(fields, "mixtral", defaults)?;
    let window = fields.size_opt("sliding_window", CONTEXT)?;
    config.windows = vec![window; config.layers];
    let count = fields.size_opt("num_local_experts", EXPERTS)?.unwrap_or(8);
    config.experts = Some(ExpertsConfig {
        count,
        per_token: fields.size_opt("num_experts_per_tok", 1..=count)?.unwrap_or(2),
        feed_forward: config.feed_forward,
        shared_feed_forward: 0,
        layers: vec![true; config.layers],
        scoring: Scoring::Softmax,
        selection_bias: false,
        groups: None,
        normalize: true,
        scale: 1.0,
    });
    Ok(config)
}

fn graph(config: &Config) -> Result<Graph, GraphError> {
    decoder(config, grouped_query, sparse)
}
