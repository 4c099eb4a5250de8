//! The best ways to train.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::check::{check, held};
use super::space::Space;
use super::{Refusal, USABLE, dies, divides};
use crate::chips::Chip;
use crate::fit::{Prediction, Predictor};
use crate::model::Model;
use crate::predict::{
    Device, Format, LATEST_SOFTWARE, Recompute, Stack, Training, TrainingEfficiencies, TrainingMemory,
    TrainingTime, train as closed_form,
};
use crate::runs::{Job, Kind, Setup};

/// Plans that are kept of each number of devices, and that are corrected at most.
const KEPT: usize = 6;
const CORRECTED: usize = 600;

/// Dimensions that are given instead of searched.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[allow(missing_docs)] // As in [`Training`].
pub struct Pins {
    pub tensor: Option<f64>,
    pub pipeline: Option<f64>,
    pub virtual_stages: Option<f64>,
    pub context: Option<f64>,
    pub expert: Option<f64>,
    pub micro_batch: Option<f64>,
    pub recompute: Option<Recompute>,
    pub sharded: Option<bool>,
}

/// What is to be trained.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainAsk {
    /// Tokens of a sequence.
    pub length: f64,
    /// Sequences of an iteration.
    pub global_batch: f64,
    /// The number format of products.
    pub format: Format,
    /// The software.
    pub stack: Stack,
    /// Whether only adapters are trained.
    pub adapters_only: bool,
    /// What is given instead of searched.
    pub pins: Pins,
}

impl TrainAsk {
    /// Megatron in this format, with sequences of 4,096 tokens and 1,024 of them an iteration (4.2 million tokens).
    pub fn new(format: Format) -> TrainAsk {
        TrainAsk {
            length: 4096.0,
            global_batch: 1024.0,
            format,
            stack: Stack::named("megatron"),
            adapters_only: false,
            pins: Pins::default(),
        }
    }

    fn base(&self) -> Training {
        Training {
            devices: 1.0,
            tensor: 1.0,
            pipeline: 1.0,
            virtual_stages: 1.0,
            context: 1.0,
            expert: 1.0,
            sharded: false,
            keep_gathered: false,
            micro_batch: 1.0,
            global_batch: self.global_batch,
            length: self.length,
            recompute: Recompute::None,
            adapters_only: self.adapters_only,
            small: matches!(self.format.name.as_str(), "fp8" | "fp4"),
            released: LATEST_SOFTWARE,
        }
    }
}

/// A way to train.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainPlan {
    /// How it is cut.
    pub training: Training,
    /// Chips that it uses: at most those given.
    pub chips: f64,
    /// What a device holds.
    pub memory: TrainingMemory,
    /// Where the time of an iteration goes, by the closed form.
    pub time: TrainingTime,
    /// Tokens/s and chip, corrected by measured runs, with an 80 % interval.
    pub prediction: Prediction,
}

impl TrainPlan {
    /// Tokens/s of all chips.
    pub fn tokens_per_s(&self) -> f64 {
        self.prediction.rate * self.chips
    }

    /// Seconds for so many tokens: expected, least and most of the 80 % interval.
    pub fn seconds(&self, tokens: f64) -> [f64; 3] {
        let p = &self.prediction;
        [p.rate, p.high, p.low].map(|rate| tokens / (rate * self.chips))
    }

    /// Model operations/s of a chip over its peak in half precision (MFU; recomputation does not count).
    pub fn utilization(&self, model: &Model, chip: &Chip) -> Option<f64> {
        let peak = chip.peak_dense_tops.bf16.or(chip.peak_dense_tops.fp16)? * 1e12;
        Some(self.prediction.rate * model.training_flops(self.training.length) / peak)
    }
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainResults {
    /// Plans, the most tokens/s first.
    pub plans: Vec<TrainPlan>,
    /// Configurations that fit and were timed.
    pub considered: u64,
}

/// Configurations that fit, by the closed form alone: the best of each number of devices with their tokens/s over all
/// devices, best first, and how many were timed. Uses all cores.
pub fn physics_search(
    model: &Model,
    device: &Device,
    devices: f64,
    ask: &TrainAsk,
    e: &TrainingEfficiencies,
) -> (Vec<(f64, Training)>, u64) {
    let base = ask.base();
    let space = Space::new(model, device, &base, devices, &ask.pins);
    let parts: Vec<(f64, &(f64, Vec<f64>))> =
        space.tensor.iter().flat_map(|t| space.pipeline.iter().map(|p| (*t, p))).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Found::default();
        while let Some((tensor, (pipeline, pieces))) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let t = Training { tensor: *tensor, pipeline: *pipeline, ..base };
            part(model, device, devices, &space, &t, pieces, e, &mut found);
        }
        found
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(parts.len());
    let mut all = Found::default();
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for found in handles.into_iter().filter_map(|h| h.join().ok()) {
            all.considered += found.considered;
            for (rate, t) in found.best.into_values().flatten() {
                all.offer(rate, &t);
            }
        }
    });
    let considered = all.considered;
    let mut best: Vec<(f64, Training)> = all.best.into_values().flatten().collect();
    best.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| order(&a.1, &b.1)));
    (best, considered)
}

/// An order of equals, so that threads do not decide.
fn order(a: &Training, b: &Training) -> std::cmp::Ordering {
    let key = |t: &Training| {
        [t.devices, t.tensor, t.pipeline, t.context, t.expert, t.virtual_stages, t.micro_batch]
    };
    let (a, b) = (key(a), key(b));
    a.iter().zip(&b).map(|(x, y)| x.total_cmp(y)).find(|o| o.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
}

/// The best of each number of devices.
#[derive(Default)]
struct Found {
    best: HashMap<u64, Vec<(f64, Training)>>,
    considered: u64,
}

impl Found {
    fn offer(&mut self, rate: f64, t: &Training) {
        let list = self.best.entry(t.devices as u64).or_default();
        if list.len() == KEPT && list.last().is_some_and(|last| rate < last.0) {
            return;
        }
        let at = list.partition_point(|x| x.0 > rate || x.0 == rate && order(&x.1, t).is_lt());
        list.insert(at, (rate, *t));
        list.truncate(KEPT);
    }
}

#[allow(clippy::too_many_arguments)] // One loop nest, split where threads part.
fn part(
    model: &Model,
    device: &Device,
    devices: f64,
    space: &Space,
    base: &Training,
    pieces: &[f64],
    e: &TrainingEfficiencies,
    found: &mut Found,
) {
    let usable = device.memory * USABLE;
    for &context in &space.context {
        let shard = base.tensor * base.pipeline * context;
        for data in space.data.iter().copied().take_while(|d| d * shard <= devices) {
            for &expert in space.expert.iter().filter(|x| divides(**x, data * context)) {
                for &(sharded, keep_gathered) in &space.sharding {
                    // Gathering weights for each microbatch of each stage is what no software does.
                    if sharded && (base.pipeline > 1.0 || data == 1.0) {
                        continue;
                    }
                    for &micro_batch in &space.micro_batch {
                        if !divides(data * micro_batch, base.global_batch) {
                            continue;
                        }
                        let mut t = Training {
                            devices: data * shard,
                            context,
                            expert,
                            sharded,
                            keep_gathered,
                            micro_batch,
                            recompute: space.recompute.unwrap_or(Recompute::None),
                            ..*base
                        };
                        if held(model, &t).total() > usable {
                            // Recomputing costs time and saves memory: only where it is needed.
                            t.recompute = Recompute::Full;
                            if space.recompute.is_some() || held(model, &t).total() > usable {
                                break;
                            }
                        }
                        for &virtual_stages in pieces {
                            t.virtual_stages = virtual_stages;
                            if virtual_stages > 1.0 && !divides(t.pipeline, t.microbatches()) {
                                continue;
                            }
                            found.considered += 1;
                            let time = closed_form(model, device, &t, e);
                            found.offer(time.tokens_per_s_per_device * t.devices, &t);
                        }
                    }
                }
            }
        }
    }
}

/// The best ways to train `model` on at most `count` chips like `chip`.
///
/// # Errors
/// What is unknown of the chip; or that nothing fits, with what a pinned layout lacks and the nearest that can exist.
pub fn train(
    predictor: &Predictor,
    model: &Model,
    chip: &Arc<Chip>,
    count: f64,
    ask: &TrainAsk,
) -> Result<TrainResults, Refusal> {
    for (field, value) in [("count", count), ("length", ask.length), ("global batch", ask.global_batch)] {
        if Refusal::positive(field, value)?.fract() != 0.0 || value > 1e7 {
            return Err(Refusal::Ask { field, problem: format!("{value} is no whole number up to 10^7") });
        }
    }
    let missing = |figure| Refusal::Missing { chip: chip.id.clone(), figure };
    chip.memory.capacity_gib.ok_or(missing("memory.capacity_gib"))?;
    let device = Device::of(chip, &ask.format, &ask.stack).map_err(missing)?;
    let devices = (count * dies(chip)).floor();
    let e = predictor.training_efficiencies();
    let (found, considered) = physics_search(model, &device, devices, ask, &e);
    if found.is_empty() {
        return Err(refusal(model, &device, devices, ask, &e));
    }
    let mut plans: Vec<TrainPlan> = Vec::new();
    for (_, t) in found.iter().take(CORRECTED) {
        let job = Job {
            kind: Kind::Train,
            model: model.clone(),
            chip: Arc::clone(chip),
            chips: t.devices / dies(chip),
            format: ask.format.clone(),
            stack: ask.stack.clone(),
            setup: Setup::Training(*t),
        };
        let prediction = predictor.predict(&job).map_err(missing)?;
        plans.push(TrainPlan {
            training: *t,
            chips: job.chips,
            memory: held(model, t),
            time: closed_form(model, &device, t, &e),
            prediction,
        });
    }
    plans.sort_by(|a, b| b.tokens_per_s().total_cmp(&a.tokens_per_s()));
    Ok(TrainResults { plans, considered })
}

/// Why nothing fits: what is wrong with the layout that was pinned, or with the most frugal one.
fn refusal(
    model: &Model,
    device: &Device,
    devices: f64,
    ask: &TrainAsk,
    e: &TrainingEfficiencies,
) -> Refusal {
    let p = &ask.pins;
    let or = |pin: Option<f64>| pin.unwrap_or(1.0);
    let frugal = Training {
        devices,
        tensor: or(p.tensor),
        pipeline: or(p.pipeline),
        virtual_stages: or(p.virtual_stages),
        context: or(p.context),
        expert: or(p.expert),
        micro_batch: or(p.micro_batch),
        recompute: p.recompute.unwrap_or(Recompute::Full),
        sharded: p.sharded.unwrap_or(p.pipeline.is_none_or(|n| n == 1.0)),
        ..ask.base()
    };
    // As many devices as divide the batch.
    let pieces = frugal.tensor * frugal.pipeline * frugal.context;
    let mut data = (1..=(devices / pieces) as u64).rev().map(|n| n as f64);
    let data = data.find(|d| divides(d * frugal.micro_batch, frugal.global_batch)).unwrap_or(1.0);
    let frugal = Training { devices: if pieces <= devices { data * pieces } else { devices }, ..frugal };
    let why = check(model, device, &frugal).err();
    if ask.pins != Pins::default() {
        let free = TrainAsk { pins: Pins::default(), ..ask.clone() };
        let (found, _) = physics_search(model, device, devices, &free, e);
        let near = found.first().map(|(_, t)| {
            format!(
                "tensor {}, pipeline {}, context {}, expert {} fits",
                t.tensor, t.pipeline, t.context, t.expert
            )
        });
        return match why {
            Some(Refusal::Memory { short_gib, needed_gib, there_gib, nearest }) => {
                Refusal::Memory { short_gib, needed_gib, there_gib, nearest: nearest.or(near) }
            }
            Some(other) => other,
            None => Refusal::Ask {
                field: "layout",
                problem: near.unwrap_or_else(|| "nothing fits these devices".to_owned()),
            },
        };
    }
    let more = super::powers(1e6)
        .map(|n| n * devices)
        .take(11)
        .skip(1)
        .find(|n| !physics_search(model, device, *n, ask, e).0.is_empty());
    let nearest = more.map(|n| format!("{} chips hold it", n / device.per_chip));
    match why {
        Some(Refusal::Memory { short_gib, needed_gib, there_gib, nearest: remedy }) => {
            Refusal::Memory { short_gib, needed_gib, there_gib, nearest: nearest.or(remedy) }
        }
        Some(other) => other,
        None => {
            Refusal::Ask { field: "count", problem: nearest.unwrap_or_else(|| "nothing fits".to_owned()) }
        }
    }
}
