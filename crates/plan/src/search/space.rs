//! Ways to cut training over devices: every value of each dimension that can exist by itself.

use super::{Pins, divides, powers};
use crate::model::Model;
use crate::predict::{Device, Recompute, Training};

/// How much longer the longest stage may be than the mean.
const UNEVEN: f64 = 1.1;
/// The fewest positions of a sequence that a device has: no published run with context parallelism has fewer.
const FEWEST_POSITIONS: f64 = 4096.0;

/// The values of each dimension.
#[derive(Clone, Debug)]
pub(super) struct Space {
    pub(super) tensor: Vec<f64>,
    /// Stages, and into how many pieces each may be cut.
    pub(super) pipeline: Vec<(f64, Vec<f64>)>,
    pub(super) context: Vec<f64>,
    pub(super) expert: Vec<f64>,
    pub(super) data: Vec<f64>,
    pub(super) micro_batch: Vec<f64>,
    pub(super) recompute: Option<Recompute>,
    pub(super) sharding: Vec<(bool, bool)>,
}

/// Whether heads can be cut over so many devices.
pub(super) fn cuts_heads(model: &Model, tensor: f64) -> bool {
    divides(tensor, model.heads) && (divides(tensor, model.kv_heads) || divides(model.kv_heads, tensor))
}

/// Whether layers can be dealt to so many stages without much waiting.
pub(super) fn even(model: &Model, stages: f64) -> bool {
    let mean = model.layers / stages;
    mean >= 1.0 && mean.ceil() <= mean * UNEVEN
}

/// Whether a sequence can be cut over so many devices.
pub(super) fn cuts_sequence(length: f64, context: f64) -> bool {
    context == 1.0 || divides(2.0 * context, length) && length / context >= FEWEST_POSITIONS
}

/// Those values that can be.
fn kept(values: Vec<f64>, can_be: impl Fn(f64) -> bool) -> Vec<f64> {
    values.into_iter().filter(|n| can_be(*n)).collect()
}

impl Space {
    /// The dimensions of `base`'s model and batch on up to `devices` devices; a pinned one has one value, or none where
    /// that cannot be.
    pub(super) fn new(model: &Model, device: &Device, base: &Training, devices: f64, pins: &Pins) -> Space {
        let or = |pin: Option<f64>, values: Vec<f64>| pin.map_or(values, |n| vec![n]);
        let domain = device.domain.max(8.0);
        let tensor = powers(devices.min(domain)).filter(|t| cuts_heads(model, *t)).collect();
        let pieces = |stages: f64| {
            let most = (1..=12).map(f64::from);
            most.filter(|v| *v == 1.0 || stages > 1.0 && even(model, stages * v)).collect::<Vec<_>>()
        };
        let stages = (1..=256u32).map(f64::from).take_while(|p| *p <= devices.min(model.layers));
        let stages = or(pins.pipeline, stages.filter(|p| even(model, *p)).collect());
        let possible = |stages: f64, v: f64| stages * v <= model.layers && (v == 1.0 || stages > 1.0);
        let stages = kept(stages, |p| p >= 1.0 && possible(p, 1.0));
        let pieces = |p| kept(or(pins.virtual_stages, pieces(p)), |v| possible(p, v));
        let pipeline = stages.into_iter().map(|p| (p, pieces(p))).collect();
        let context = powers(devices.min(64.0)).filter(|c| cuts_sequence(base.length, *c)).collect();
        let count = model.mixture.map_or(1.0, |m| m.count);
        let expert = (1..=1024u32).map(f64::from).take_while(|e| *e <= devices.min(count));
        let batch = base.global_batch;
        let mut data: Vec<f64> = Vec::new();
        let mut n = 1.0;
        while n <= devices.min(batch) {
            if divides(n, batch) {
                data.push(n);
            }
            n += 1.0;
        }
        let sharding = match pins.sharded {
            Some(true) => vec![(true, true), (true, false)],
            Some(false) => vec![(false, false)],
            None => vec![(false, false), (true, true), (true, false)],
        };
        Space {
            tensor: kept(or(pins.tensor, tensor), |n| cuts_heads(model, n)),
            pipeline,
            context: kept(or(pins.context, context), |n| cuts_sequence(base.length, n)),
            expert: kept(or(pins.expert, expert.collect()), |n| divides(n, count)),
            data,
            micro_batch: or(pins.micro_batch, powers(batch.min(32.0)).collect()),
            recompute: pins.recompute,
            sharding,
        }
    }
}
