//! DeepSeek-V2 (arXiv:2405.04434), V3 and R1 (arXiv:2412.19437): multi-head latent attention, and fine-grained experts
//! beside shared ones.
//!
//! Layers before `first_k_dense_replace` are dense. V2 scores experts by softmax and ranks groups by their best expert;
//! V3 scores by sigmoid, adds a learned bias for choosing, and ranks groups by their two best.

use autarky_format::Source;
use autarky_graph::{Graph, GraphError, Pairing, Scoring, ValueId};

use crate::attention::{grouped_query, latent};
use crate::config::{
    Config, Defaults, EXPERTS, ExpertsConfig, FEED_FORWARD, HEAD_WIDTH, LatentConfig, MAX_LAYERS,
    ROUTED_SCALE, WIDTH,
};
use crate::decoder::{Built, Layer, decoder};
use crate::error::FamilyError;
use crate::families::{Family, GATED, Half, MIXTURE, Place};
use crate::feed_forward::sparse;
use crate::fields::Fields;
use crate::gguf::{self, Unsaid, group_limits};

pub(crate) static FAMILY: Family = Family {
    name: "deepseek2",
    architecture: "deepseek2",
    model_types: &["deepseek_v2", "deepseek_v3"],
    claims: |_| true,
    from_hugging_face,
    from_gguf,
    graph,
    names: &[LATENT, GATED, MIXTURE, SHARED],
    gguf_pairing: Pairing::Adjacent,
};

const LATENT: &[(&str, Place)] = &[
    ("attn_norm", Place::Tensor("input_layernorm")),
    ("attn_q", Place::Tensor("self_attn.q_proj")),
    ("attn_q_a", Place::Tensor("self_attn.q_a_proj")),
    ("attn_q_a_norm", Place::Tensor("self_attn.q_a_layernorm")),
    ("attn_q_b", Place::Tensor("self_attn.q_b_proj")),
    ("attn_kv_a_mqa", Place::Tensor("self_attn.kv_a_proj_with_mqa")),
    ("attn_kv_a_norm", Place::Tensor("self_attn.kv_a_layernorm")),
    ("attn_k_b", Place::LatentUp(Half::First)),
    ("attn_v_b", Place::LatentUp(Half::Second)),
    ("attn_output", Place::Tensor("self_attn.o_proj")),
    ("ffn_norm", Place::Tensor("post_attention_layernorm")),
];

const SHARED: &[(&str, Place)] = &[
    ("exp_probs_b", Place::Whole("mlp.gate.e_score_correction_bias")),
    ("ffn_gate_shexp", Place::Tensor("mlp.shared_experts.gate_proj")),
    ("ffn_up_shexp", Place::Tensor("mlp.shared_experts.up_proj")),
    ("ffn_down_shexp", Place::Tensor("mlp.shared_experts.down_proj")),
];

/// Two generations write one set of fields with other defaults.
fn from_hugging_face(fields: &Fields<'_>) -> Result<Config, FamilyError> {
    let v3 = fields.text_opt("model_type")? == Some("deepseek_v3");
    let rope = fields.size_opt("qk_rope_head_dim", HEAD_WIDTH)?.unwrap_or(64);
    let nope = fields.size_opt("qk_nope_head_dim", HEAD_WIDTH)?.unwrap_or(128);
    let defaults = Defaults {
        context: if v3 { 4096 } else { 2048 },
        rotated: Some(rope),
        head_width: Some(nope + rope),
        ..Defaults::default()
    };
    let mut config = Config::from_hugging_face(fields, "deepseek2", defaults)?;
    for bias in ["attention_bias", "mlp_bias"] {
        if fields.flag_opt(bias)?.unwrap_or(false) {
            return Err(fields.unsupported(format!("DeepSeek with {bias}"), "no published model has it"));
        }
    }
    // V2 turns neighbours always, V3 unless it is told otherwise.
    config.rope.pairing = match v3 && fields.flag_opt("rope_interleave")? == Some(false) {
        true => Pairing::Halves,
        false => Pairing::Adjacent,
    };
    let query_rank = match fields.find("q_lora_rank") {
        None => Some(1536),
        Some(_) => fields.size_opt("q_lora_rank", WIDTH)?,
    };
    config.head_width = nope + rope;
    config.kv_heads = 1;
    config.latent = Some(LatentConfig {
        query_rank,
        rank: fields.size_opt("kv_lora_rank", WIDTH)?.unwrap_or(512),
        nope,
        rope,
        value: fields.size_opt("v_head_dim", HEAD_WIDTH)?.unwrap_or(128),
        // The latents' norms do not take the configuration's ε, neither in DeepSeek's code nor in transformers.
        norm_epsilon: 1e-6,
    });
    config.experts = Some(experts(fields, config.layers, v3)?);
    Ok(config)
}

fn experts(fields: &Fields<'_>, layers: usize, v3: bool) -> Result<ExpertsConfig, FamilyError> {
    let scoring = if v3 { Scoring::Sigmoid } else { Scoring::Softmax };
    let expected = if v3 { "sigmoid" } else { "softmax" };
    if let Some(other) = fields.text_opt("scoring_func")?.filter(|s| *s != expected) {
        return Err(fields.wrong("scoring_func", other, expected));
    }
    if fields.size_opt("moe_layer_freq", 1..=MAX_LAYERS)?.unwrap_or(1) != 1 {
        return Err(fields.unsupported("DeepSeek with moe_layer_freq above 1", "no published model has it"));
    }
    let method = fields.text_opt("topk_method")?.unwrap_or(if v3 { "noaux_tc" } else { "greedy" });
    let limited = match method {
        "greedy" if !v3 => false,
        "group_limited_greedy" if !v3 => true,
        "noaux_tc" if v3 => true,
        other => {
            return Err(fields.unsupported(
                format!("the routing {other:?}"),
                "greedy and group_limited_greedy are for V2, noaux_tc for V3",
            ));
        }
    };
    let normalize = fields.flag_opt("norm_topk_prob")?.unwrap_or(v3);
    if normalize && !v3 {
        // DeepSeek's code divides and then leaves out the scale; transformers does not divide.
        return Err(fields.unsupported("DeepSeek-V2 with norm_topk_prob", "no published model has it"));
    }
    let count = fields.size_opt("n_routed_experts", EXPERTS)?.unwrap_or(if v3 { 256 } else { 64 });
    let group_count = fields.size_opt("n_group", 1..=count)?.unwrap_or(if v3 { 8 } else { 1 });
    let keep = fields.size_opt("topk_group", 1..=group_count)?.unwrap_or(if v3 { 4 } else { 1 });
    let dense = fields.size_opt("first_k_dense_replace", 0..=MAX_LAYERS)?.unwrap_or(if v3 { 3 } else { 0 });
    let feed_forward =
        fields.size_opt("moe_intermediate_size", FEED_FORWARD)?.unwrap_or(if v3 { 2048 } else { 1407 });
    let shared = fields.size_opt("n_shared_experts", 0..=64)?.unwrap_or(if v3 { 1 } else { 2 });
    let per_token = match fields.size_opt("num_experts_per_tok", 1..=count)? {
        Some(per_token) => per_token,
        None if v3 && count >= 8 => 8,
        None => return Err(fields.missing("num_experts_per_tok", format!("a number from 1 to {count}"))),
    };
    let scale = fields.number_opt("routed_scaling_factor", ROUTED_SCALE)?;
    Ok(ExpertsConfig {
        count,
        per_token,
        feed_forward,
        shared_feed_forward: shared * feed_forward,
        layers: (0..layers).map(|i| i >= dense).collect(),
        scoring,
        selection_bias: v3,
        groups: if limited { group_limits(group_count, Some(keep), scoring) } else { None },
        normalize,
        scale: scale.unwrap_or(if v3 { 2.5 } else { 1.0 }) as f32,
    })
}

fn from_gguf(fields: &Fields<'_>, source: &Source) -> Result<Config, FamilyError> {
    let unsaid = Unsaid { pairing: Pairing::Adjacent, head_norms: false, normalize: false };
    let config = gguf::read(fields, source, "deepseek2", unsaid)?;
    match config.latent {
        Some(_) => Ok(config),
        None => Err(fields.missing("attention.kv_lora_rank", "the width of the latent")),
    }
}

fn graph(config: &Config) -> Result<Graph, GraphError> {
    decoder(config, attention, sparse)
}

fn attention(layer: &mut Layer<'_>, x: ValueId) -> Built {
    match layer.config.latent {
        Some(m) => latent(layer, x, &m),
        // Neither reader above gives such a configuration.
        None => grouped_query(layer, x),
    }
}
