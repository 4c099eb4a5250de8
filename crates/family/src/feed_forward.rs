//! Feed-forward blocks: dense and mixtures of experts.

use autarky_graph::{Experts, Route, ValueId};

use crate::config::ExpertsConfig;
use crate::decoder::{Built, Layer};

/// The gated feed-forward block (Shazeer 2020, arXiv:2002.05202): W_down (f(W_gate x) · W_up x).
pub(crate) fn gated(layer: &mut Layer<'_>, x: ValueId) -> Built {
    gated_of_width(layer, x, "", layer.config.feed_forward, layer.config.biases.feed_forward)
}

fn gated_of_width(layer: &mut Layer<'_>, x: ValueId, ending: &str, hidden: usize, bias: bool) -> Built {
    let c = layer.config;
    let gate = layer.linear(x, &format!("ffn_gate{ending}"), hidden, bias)?;
    let up = layer.linear(x, &format!("ffn_up{ending}"), hidden, bias)?;
    layer.scope(&format!("ffn_act{ending}"));
    let both = layer.graph.gated_activation(gate, up, c.activation)?;
    layer.linear(both, &format!("ffn_down{ending}"), c.width, bias)
}

/// Experts in the layers that have them, the dense block in the others.
pub(crate) fn sparse(layer: &mut Layer<'_>, x: ValueId) -> Built {
    match &layer.config.experts {
        Some(experts) if layer.config.has_experts(layer.index) => mixture(layer, x, experts),
        _ => gated(layer, x),
    }
}

/// A mixture of experts (Shazeer et al. 2017, arXiv:1701.06538; shared experts: DeepSeekMoE, arXiv:2401.06066).
fn mixture(layer: &mut Layer<'_>, x: ValueId, e: &ExpertsConfig) -> Built {
    let c = layer.config;
    let logits = layer.linear(x, "ffn_gate_inp", e.count, false)?;
    layer.scope("ffn_route");
    let bias = match e.selection_bias {
        true => Some(layer.weight("exp_probs_b.bias", &[e.count])?),
        false => None,
    };
    let route = Route {
        top: e.per_token,
        scoring: e.scoring,
        bias,
        groups: e.groups,
        normalize: e.normalize,
        scale: e.scale,
    };
    let routing = layer.graph.route(logits, route)?;
    layer.scope("ffn_experts");
    let experts = Experts {
        activation: c.activation,
        gate: layer.weight("ffn_gate_exps.weight", &[e.count, e.feed_forward, c.width])?,
        up: layer.weight("ffn_up_exps.weight", &[e.count, e.feed_forward, c.width])?,
        down: layer.weight("ffn_down_exps.weight", &[e.count, c.width, e.feed_forward])?,
    };
    let routed = layer.graph.experts(x, routing, experts)?;
    if e.shared_feed_forward == 0 {
        return Ok(routed);
    }
    let shared = gated_of_width(layer, x, "_shexp", e.shared_feed_forward, false)?;
    layer.scope("ffn_shared");
    layer.graph.add(routed, shared)
}
