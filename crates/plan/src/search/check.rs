//! Whether a way to train can exist.

use super::space::{cuts_heads, cuts_sequence};
use super::{GIB, Refusal, USABLE, divides, powers};
use crate::model::Model;
use crate::predict::{Device, Recompute, Training, TrainingMemory, training_memory};

/// What a device holds, with weights whole where they stay gathered from forward to backward (ZeRO-2).
pub(super) fn held(model: &Model, t: &Training) -> TrainingMemory {
    let mut m = training_memory(model, t);
    if t.sharded && t.keep_gathered {
        m.weights *= t.data();
    }
    m
}

/// What `t` holds on each device, if it can exist.
///
/// # Errors
/// What does not divide what, or by how much memory is short, and the nearest that can exist.
pub fn check(model: &Model, device: &Device, t: &Training) -> Result<TrainingMemory, Refusal> {
    let sizes = [
        ("tensor", t.tensor),
        ("pipeline", t.pipeline),
        ("virtual stages", t.virtual_stages),
        ("context", t.context),
        ("expert", t.expert),
        ("micro batch", t.micro_batch),
        ("global batch", t.global_batch),
        ("length", t.length),
    ];
    for (field, value) in sizes {
        if !(value.is_finite() && value >= 1.0 && value.fract() == 0.0) {
            return Err(Refusal::Ask { field, problem: format!("{value} is no whole number above zero") });
        }
    }
    if !cuts_heads(model, t.tensor) {
        let near = nearest(t.tensor, powers(model.heads).filter(|n| cuts_heads(model, *n)));
        return Err(Refusal::Heads {
            heads: model.heads,
            kv_heads: model.kv_heads,
            tensor: t.tensor,
            nearest: near,
        });
    }
    let whole = |most: f64| {
        powers(most)
            .chain(std::iter::successors(Some(3.0), |n| Some(n + 2.0)).take_while(move |n| *n <= most))
    };
    let refuse = |what, asked, why: String, nearest| Err(Refusal::Size { what, asked, why, nearest });
    if t.pipeline * t.virtual_stages > model.layers {
        let most = (model.layers / t.virtual_stages).floor().max(1.0);
        return refuse(
            "pipeline",
            t.pipeline,
            format!("there are {} layers", model.layers),
            most.to_string(),
        );
    }
    if !cuts_sequence(t.length, t.context) {
        let near = nearest(t.context, powers(t.length).filter(|c| cuts_sequence(t.length, *c)));
        let why = format!("sequences have {} tokens, and a device needs 4096 of them", t.length);
        return refuse("context", t.context, why, near);
    }
    let pieces = t.tensor * t.pipeline * t.context;
    if pieces > t.devices || !divides(pieces, t.devices) {
        return Err(Refusal::Devices {
            layout: format!("tensor {} x pipeline {} x context {}", t.tensor, t.pipeline, t.context),
            needed: pieces * (t.devices / pieces).ceil(),
            there: t.devices,
        });
    }
    let count = model.mixture.map_or(1.0, |m| m.count);
    let ranks = t.data() * t.context;
    if !(divides(t.expert, count) && divides(t.expert, ranks)) {
        let near = nearest(t.expert, whole(count).filter(|e| divides(*e, count) && divides(*e, ranks)));
        let why = format!("there are {count} experts and {ranks} ranks to spread them over");
        return refuse("expert", t.expert, why, near);
    }
    let rank = t.data() * t.micro_batch;
    if !divides(rank, t.global_batch) {
        let near = ((t.global_batch / rank).round().max(1.0) * rank).to_string();
        let why = format!("{} data-parallel ranks take {} sequences at once", t.data(), t.micro_batch);
        return refuse("global batch", t.global_batch, why, near);
    }
    if t.virtual_stages > 1.0 && !divides(t.pipeline, t.microbatches()) {
        let why =
            format!("interleaving wants microbatches, {}, in rounds of {}", t.microbatches(), t.pipeline);
        return refuse("virtual stages", t.virtual_stages, why, "1".to_owned());
    }
    let memory = held(model, t);
    let usable = device.memory * USABLE;
    if memory.total() > usable {
        return Err(Refusal::Memory {
            short_gib: (memory.total() - usable) / GIB,
            needed_gib: memory.total() / GIB,
            there_gib: usable / GIB,
            nearest: remedy(model, t, usable),
        });
    }
    Ok(memory)
}

/// The smallest change that makes it fit.
fn remedy(model: &Model, t: &Training, usable: f64) -> Option<String> {
    let fits = |t: Training| held(model, &t).total() <= usable;
    if t.recompute != Recompute::Full && fits(Training { recompute: Recompute::Full, ..*t }) {
        return Some("with full recomputation it fits".to_owned());
    }
    if !t.sharded && t.pipeline == 1.0 && fits(Training { sharded: true, recompute: Recompute::Full, ..*t }) {
        return Some("with sharded weights and full recomputation it fits".to_owned());
    }
    let wider = |t: &Training| {
        powers(model.layers.max(model.heads))
            .map(|n| (t.tensor * n, t.pipeline))
            .chain(powers(model.layers).map(|n| (t.tensor, t.pipeline * n)))
            .find(|(tensor, pipeline)| {
                let wide = Training {
                    tensor: *tensor,
                    pipeline: *pipeline,
                    devices: t.devices * (tensor / t.tensor) * (pipeline / t.pipeline),
                    ..*t
                };
                cuts_heads(model, *tensor) && *pipeline <= model.layers && fits(wide)
            })
    };
    wider(t).map(|(tensor, pipeline)| format!("tensor {tensor}, pipeline {pipeline} fits"))
}

/// The value nearest to what was asked, in words.
fn nearest(asked: f64, values: impl Iterator<Item = f64>) -> String {
    let apart = |n: &f64| (n / asked).ln().abs();
    values.min_by(|a, b| apart(a).total_cmp(&apart(b))).unwrap_or(1.0).to_string()
}
