//! What a served model takes, by part, and how many chips hold it.

use super::{GIB, Refusal, USABLE, divides, powers};
use crate::chips::Chip;
use crate::model::Model;
use crate::predict::{Device, Format, Stack};

/// Prompt tokens of a step, for which activations are there at once.
const CHUNK: f64 = 8192.0;

/// What is to fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryAsk {
    /// Positions of a sequence.
    pub context: f64,
    /// Sequences at once.
    pub batch: f64,
    /// Bits of a number of cache.
    pub kv_bits: f64,
    /// Chips; none: as few as hold it.
    pub chips: Option<f64>,
}

impl Default for MemoryAsk {
    fn default() -> MemoryAsk {
        MemoryAsk { context: 8192.0, batch: 1.0, kv_bits: 16.0, chips: None }
    }
}

/// What a served model takes of some chips, in bytes over all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// Chips: as many as were asked for, or the fewest that hold it.
    pub chips: f64,
    /// The fewest that hold it.
    pub needed: f64,
    /// Devices over which a layer is cut.
    pub tensor: f64,
    /// Stages of the pipeline.
    pub pipeline: f64,
    /// Memory of the chips.
    pub memory: f64,
    /// What software, buffers and fragments take of it.
    pub reserve: f64,
    /// Weights.
    pub weights: f64,
    /// Cache that one token takes at the end of the context, copies of heads that tensor parallelism makes included.
    pub cache_per_token: f64,
    /// Cache of the whole batch.
    pub cache: f64,
    /// Activations of the largest step.
    pub activations: f64,
    /// What is left.
    pub left: f64,
    /// The longest context at this batch.
    pub max_context: f64,
    /// The largest batch at this context.
    pub max_batch: f64,
}

/// Bytes of one cut.
struct Parts {
    weights: f64,
    cache: f64,
    activations: f64,
}

fn parts(model: &Model, format: &Format, ask: &MemoryAsk, tensor: f64, devices: f64) -> Parts {
    let copies = (tensor / model.kv_heads).max(1.0);
    let tokens = CHUNK.min(ask.context * ask.batch);
    // The residual stream and its norm on each device, and what is between products cut over them, in half precision;
    // a row of scores in FP32 for each sequence.
    let streams = 2.0 * tokens * (4.0 * model.width * tensor + 2.0 * model.feed_forward);
    Parts {
        weights: format.model_bytes(model),
        cache: model.cache(ask.context) * ask.batch * ask.kv_bits / 8.0 * copies,
        activations: streams * (devices / tensor) + 4.0 * ask.batch * model.vocabulary,
    }
}

/// The memory of `model` in `format` on chips like `chip`, and how many are needed.
///
/// # Errors
/// What is unknown of the chip, what makes no sense in `ask`, or that memory is short, by how much, and how many chips
/// would do.
pub fn fit(model: &Model, chip: &Chip, format: &Format, ask: &MemoryAsk) -> Result<Memory, Refusal> {
    for (field, value) in [
        ("context", ask.context),
        ("batch", ask.batch),
        ("kv_bits", ask.kv_bits),
        ("chips", ask.chips.unwrap_or(1.0)),
    ] {
        Refusal::positive(field, value)?;
    }
    let missing = |figure| Refusal::Missing { chip: chip.id.clone(), figure };
    chip.memory.capacity_gib.ok_or(missing("memory.capacity_gib"))?;
    let device = Device::of(chip, format, &Stack::named("vllm")).map_err(missing)?;
    let usable = device.memory * USABLE;
    let cuts = cuts(model, &device);
    // What a device has to hold.
    let share = |(t, p): (f64, f64)| {
        let x = parts(model, format, ask, t, t * p);
        (x.weights + x.cache + x.activations) / (t * p)
    };
    let holding: Vec<(f64, f64)> = cuts.iter().copied().filter(|c| share(*c) <= usable).collect();
    let short = |within: f64, nearest: String| {
        let possible = cuts.iter().copied().filter(|(t, p)| t * p <= within);
        let need = possible.map(share).fold(f64::INFINITY, f64::min);
        Refusal::Memory {
            short_gib: (need - usable) / GIB,
            needed_gib: need / GIB,
            there_gib: usable / GIB,
            nearest: Some(nearest),
        }
    };
    let Some((t, p)) = holding.first() else {
        return Err(short(f64::INFINITY, "no number of such chips holds it".to_owned()));
    };
    let needed = (t * p / device.per_chip).ceil();
    let chips = ask.chips.unwrap_or(needed);
    let devices = chips * device.per_chip;
    // The widest cut leaves the most for the cache.
    let widest = holding.iter().copied().filter(|(t, p)| t * p <= devices);
    let widest = widest.max_by(|a, b| (a.0 * a.1).total_cmp(&(b.0 * b.1)).then(a.0.total_cmp(&b.0)));
    let Some((tensor, pipeline)) = widest else {
        return Err(short(devices, format!("{needed} chips hold it (tensor {t}, pipeline {p})")));
    };
    let n = tensor * pipeline;
    let all = |ask: &MemoryAsk| parts(model, format, ask, tensor, n);
    let holds = |ask: &MemoryAsk| {
        let x = all(ask);
        x.weights + x.cache + x.activations <= usable * n
    };
    let x = all(ask);
    let after = all(&MemoryAsk { context: ask.context + 1.0, ..*ask });
    Ok(Memory {
        chips,
        needed,
        tensor,
        pipeline,
        memory: device.memory * n,
        reserve: device.memory * n * (1.0 - USABLE),
        weights: x.weights,
        cache_per_token: (after.cache - x.cache) / ask.batch,
        cache: x.cache,
        activations: x.activations,
        left: usable * n - x.weights - x.cache - x.activations,
        max_context: largest(ask.context, |context| holds(&MemoryAsk { context, ..*ask })),
        max_batch: largest(ask.batch, |batch| holds(&MemoryAsk { batch, ..*ask })),
    })
}

/// Ways to cut a model, fewest devices first; among equals the one that cuts layers most.
fn cuts(model: &Model, device: &Device) -> Vec<(f64, f64)> {
    let mut cuts = Vec::new();
    for tensor in powers(device.domain.max(1.0).min(model.heads)).filter(|t| divides(*t, model.heads)) {
        let mut pipeline = 1.0;
        while pipeline <= model.layers {
            cuts.push((tensor, pipeline));
            pipeline += 1.0;
        }
    }
    cuts.sort_by(|a, b| (a.0 * a.1).total_cmp(&(b.0 * b.1)).then(b.0.total_cmp(&a.0)));
    cuts
}

/// The largest whole number from `start` on, up to 2^40, for which `holds`; it holds for `start`.
fn largest(start: f64, holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (start.floor().max(1.0), (1u64 << 40) as f64);
    while high - low > 1.0 {
        let middle = ((low + high) / 2.0).floor();
        if holds(middle) { low = middle } else { high = middle }
    }
    low
}
