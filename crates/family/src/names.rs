//! Which tensors each weight is made of, by what the checkpoint calls them.

use autarky_format::Source;

use crate::binding::Binding;
use crate::config::Config;
use crate::families::{Family, Half, Place};

/// A layer's weight `blk.{layer}.{stem}.{ending}` taken apart; `None` for weights outside the layers.
fn in_layer(weight: &str) -> Option<(&str, &str, &str)> {
    let (layer, rest) = weight.strip_prefix("blk.")?.split_once('.')?;
    let (stem, ending) = rest.rsplit_once('.')?;
    Some((layer, stem, ending))
}

/// The binding of `weight` in a Hugging Face folder; without a source, in one that is written: where there are several
/// ways, the oldest, which everybody reads.
pub(crate) fn hugging_face(
    family: &Family,
    config: &Config,
    source: Option<&Source>,
    weight: &str,
) -> Binding {
    let has = |name: &str, unread: bool| source.map_or(unread, |s| s.tensor(name).is_some());
    let Some((layer, stem, ending)) = in_layer(weight) else {
        let name = match weight {
            "token_embd.weight" => "model.embed_tokens.weight",
            "output_norm.weight" => "model.norm.weight",
            "output.weight" => "lm_head.weight",
            other => other,
        };
        return Binding::Tensor(name.to_owned());
    };
    let prefix = format!("model.layers.{layer}.");
    let place =
        family.names.iter().copied().flatten().find(|(name, _)| *name == stem).map(|(_, place)| *place);
    let experts = config.experts.as_ref();
    match place {
        Some(Place::Tensor(name)) => Binding::Tensor(format!("{prefix}{name}.{ending}")),
        Some(Place::Either(name, other)) => {
            let first = format!("{prefix}{name}.{ending}");
            Binding::Tensor(if has(&first, true) { first } else { format!("{prefix}{other}.{ending}") })
        }
        Some(Place::Whole(name)) => Binding::Tensor(format!("{prefix}{name}")),
        Some(Place::Experts { each, fused, half }) => {
            let whole = format!("{prefix}{fused}");
            let (count, hidden) = experts.map_or((0, 0), |e| (e.count, e.feed_forward));
            match (has(&whole, false), half) {
                (true, None) => Binding::Tensor(whole),
                (true, Some(half)) => {
                    let start = if half == Half::First { 0 } else { hidden };
                    let view = vec![count, 2 * hidden, config.width];
                    Binding::Rows { tensor: whole, view, dim: 1, start, length: hidden }
                }
                (false, _) => {
                    let name = |e: usize| format!("{prefix}{}.{ending}", each.replace("{}", &e.to_string()));
                    Binding::Stack(match source {
                        Some(source) => present(source, count, name),
                        None => (0..count).map(name).collect(),
                    })
                }
            }
        }
        Some(Place::LatentUp(half)) => latent_up(config, format!("{prefix}self_attn.kv_b_proj.weight"), half),
        // A weight of the graph without a place is looked up by its own name, and so is refused by name.
        None => Binding::Tensor(weight.to_owned()),
    }
}

/// The binding of `weight` in a GGUF file: its own name, or how older and newer converters lay the same numbers out.
pub(crate) fn gguf(config: &Config, source: &Source, weight: &str) -> Binding {
    let own = || Binding::Tensor(weight.to_owned());
    let has = |name: &str| source.tensor(name).is_some();
    if has(weight) {
        return own();
    }
    let Some((layer, stem, ending)) = in_layer(weight) else { return own() };
    let prefix = format!("blk.{layer}.");
    let (q, kv) = (config.heads * config.head_width, config.kv_heads * config.head_width);
    let fused_qkv = |start, length| {
        let tensor = format!("{prefix}attn_qkv.weight");
        let view = vec![q + 2 * kv, config.width];
        match has(&tensor) && ending == "weight" {
            true => Binding::Rows { tensor, view, dim: 0, start, length },
            false => own(),
        }
    };
    let (count, hidden) = config.experts.as_ref().map_or((0, 0), |e| (e.count, e.feed_forward));
    let experts = |one: &str, half: Option<Half>| {
        let tensor = format!("{prefix}ffn_gate_up_exps.{ending}");
        let name = |e: usize| format!("{prefix}{one}.{e}.{ending}");
        match half {
            Some(half) if has(&tensor) => {
                let start = if half == Half::First { 0 } else { hidden };
                let view = vec![count, 2 * hidden, config.width];
                Binding::Rows { tensor, view, dim: 1, start, length: hidden }
            }
            _ if has(&name(0)) => Binding::Stack(present(source, count, name)),
            _ => own(),
        }
    };
    let latent = |half| {
        let tensor = format!("{prefix}attn_kv_b.{ending}");
        if has(&tensor) { latent_up(config, tensor, half) } else { own() }
    };
    match stem {
        "attn_q" => fused_qkv(0, q),
        "attn_k" => fused_qkv(q, kv),
        "attn_v" => fused_qkv(q + kv, kv),
        "ffn_gate_exps" => experts("ffn_gate", Some(Half::First)),
        "ffn_up_exps" => experts("ffn_up", Some(Half::Second)),
        "ffn_down_exps" => experts("ffn_down", None),
        "attn_k_b" => latent(Half::First),
        "attn_v_b" => latent(Half::Second),
        _ => own(),
    }
}

/// Names of experts up to and with the first that is absent: what is made stays bounded by what the file holds.
fn present(source: &Source, count: usize, name: impl Fn(usize) -> String) -> Vec<String> {
    let mut names = Vec::new();
    for expert in 0..count {
        names.push(name(expert));
        if names.last().is_some_and(|n| source.tensor(n).is_none()) {
            break;
        }
    }
    names
}

/// A part of the rows of every head of a latent's up-projection `[heads · (nope + value), rank]`.
fn latent_up(config: &Config, tensor: String, half: Half) -> Binding {
    let Some(m) = config.latent else { return Binding::Tensor(tensor) };
    let view = vec![config.heads, m.nope + m.value, m.rank];
    match half {
        Half::First => {
            let rows = Binding::Rows { tensor, view, dim: 1, start: 0, length: m.nope };
            Binding::Transposed(Box::new(rows))
        }
        Half::Second => Binding::Rows { tensor, view, dim: 1, start: m.nope, length: m.value },
    }
}
