//! Ways to cut a served model: instances, each with its own share of the requests.

use super::{USABLE, divides, powers};
use crate::model::Model;
use crate::predict::{Device, Format, Layout};

/// Positions for which an instance has to have cache at least, a sequence's.
pub(super) struct Need {
    pub(super) context: f64,
    pub(super) cache_bytes: f64,
}

/// Dimensions that are given instead of searched.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cut {
    pub(super) tensor: Option<f64>,
    pub(super) pipeline: Option<f64>,
    pub(super) expert_parallel: Option<bool>,
}

/// Bytes that a device needs: weights, and the cache of one sequence a replica.
pub(super) fn needed(model: &Model, format: &Format, layout: &Layout, need: &Need) -> f64 {
    let cut = layout.tensor * layout.pipeline;
    let experts = model.experts();
    let outside = (model.total() - experts) * format.outside_bits(model) / 8.0;
    let weights = outside / cut + experts * format.weight_bytes() / layout.expert_devices();
    let copies = (layout.tensor / model.kv_heads).max(1.0);
    weights + model.cache(need.context) * need.cache_bytes * copies / cut
}

/// Instances on at most `devices` devices that hold the model. None of them depends on how many devices there are
/// beyond its own, so that more devices only add to the list.
pub(super) fn instances(
    model: &Model,
    device: &Device,
    format: &Format,
    devices: f64,
    need: &Need,
    cut: &Cut,
) -> Vec<Layout> {
    let usable = device.memory * USABLE;
    let mut found = Vec::new();
    let or = |pin: Option<f64>, values: Vec<f64>| pin.map_or(values, |n| vec![n]);
    let domain = device.domain.clamp(1.0, 64.0);
    let tensors: Vec<f64> = powers(domain).filter(|t| divides(*t, model.heads)).collect();
    // Stages of a pipeline wait for each other and read their weights for each microbatch: only where copies within the
    // links' reach cannot hold the model.
    let within = |tensor: f64| {
        let spread = model.mixture.is_some();
        let devices = if spread { domain.max(tensor) } else { tensor };
        let layout = Layout { devices, tensor, pipeline: 1.0, expert_parallel: spread };
        let whole = Layout { devices: tensor, expert_parallel: false, ..layout };
        [layout, whole].iter().any(|l| needed(model, format, l, need) <= usable)
    };
    let one_stage = tensors.iter().any(|t| within(*t));
    for tensor in or(cut.tensor, tensors) {
        let most = if one_stage { 1.0 } else { 64.0 };
        let stages: Vec<f64> = powers(most).filter(|p| *p <= model.layers).collect();
        for pipeline in or(cut.pipeline, stages) {
            let one = tensor * pipeline;
            // Attention's copies share experts, as far as links between them reach; further where nothing else holds them.
            let spread = model.mixture.is_some() && pipeline == 1.0 && cut.expert_parallel != Some(false);
            let widest = if spread { devices.min(320.0) } else { one };
            let mut fits = false;
            for copies in powers(widest / one) {
                let all = one * copies;
                if all > devices || fits && all > domain.max(8.0) {
                    break;
                }
                for expert_parallel in [false, true] {
                    let alone = copies == 1.0 && !expert_parallel;
                    let shared = expert_parallel && spread && all > 1.0;
                    if !(alone || shared)
                        || cut.expert_parallel.is_some_and(|e| e != expert_parallel) && all > 1.0
                    {
                        continue;
                    }
                    let layout = Layout { devices: all, tensor, pipeline, expert_parallel };
                    if needed(model, format, &layout, need) <= usable {
                        found.push(layout);
                        fits = true;
                    }
                }
            }
        }
    }
    found
}
