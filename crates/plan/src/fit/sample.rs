//! A job in numbers: the physics' answer, how it depends on each efficiency, and what the job is like.

use crate::predict::{Deployment, Device, Efficiencies, Load, StepTime, TrainingEfficiencies, train};
use crate::runs::{Job, Kind, Setup};

/// What a job shares with others, as hashes: equal or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels {
    pub(crate) chip: u64,
    pub(crate) vendor: u64,
    pub(crate) class: u64,
    pub(crate) software: u64,
    pub(crate) stack: u64,
    pub(crate) model: u64,
    pub(crate) format: u64,
    pub(crate) kind: u64,
    pub(crate) client: u64,
}

/// A job in numbers.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// The logarithm of the physics' tokens/s and chip.
    pub(crate) base: f64,
    /// Its derivative by the logarithm of each efficiency.
    pub(crate) slopes: Vec<f64>,
    /// Sizes, mostly logarithms.
    pub(crate) features: Vec<f64>,
    /// What it shares with others.
    pub(crate) labels: Labels,
    /// The limit that no correction may pass: logarithm of tokens/s and chip at the data sheet's peaks.
    pub(crate) limit: f64,
}

/// A part of the physics that has efficiencies of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Servers, for many clients.
    Serving,
    /// Programs that run a model for one user, without a server in Python.
    Local,
    /// Training.
    Training,
}

impl Side {
    /// All of them.
    pub(crate) const ALL: [Side; 3] = [Side::Serving, Side::Local, Side::Training];

    pub(crate) fn of(job: &Job) -> Side {
        match job.kind {
            Kind::Train => Side::Training,
            _ if job.stack.local => Side::Local,
            _ => Side::Serving,
        }
    }

    /// How much each efficiency is expected to vary from chip to chip and from software to software.
    pub(crate) fn spreads(self) -> Vec<f64> {
        match self {
            Side::Training => TrainingEfficiencies::SPREADS.to_vec(),
            _ => Efficiencies::SPREADS.to_vec(),
        }
    }

    /// Logarithms of what is expected of its efficiencies.
    pub(crate) fn prior(self) -> Vec<f64> {
        match self {
            Side::Serving => Efficiencies::PRIOR.map(f64::ln).to_vec(),
            Side::Local => Efficiencies::LOCAL_PRIOR.map(f64::ln).to_vec(),
            Side::Training => TrainingEfficiencies::PRIOR.map(f64::ln).to_vec(),
        }
    }
}

/// What the physics say of a job.
#[derive(Clone, Debug)]
pub(crate) struct Physics {
    /// Tokens/s and chip.
    pub(crate) rate: f64,
    /// The same with every efficiency at 1 and no overheads.
    pub(crate) limit: f64,
    pub(crate) features: Vec<f64>,
}

/// The job in numbers, with efficiencies of those logarithms. An error names the missing figure of the chip.
pub(crate) fn sample(job: &Job, logs: &[f64]) -> Result<Sample, &'static str> {
    const STEP: f64 = 0.1;
    let here = physics(job, logs)?;
    let base = here.rate.ln();
    let mut moved = logs.to_vec();
    let mut slopes = Vec::with_capacity(logs.len());
    for k in 0..logs.len() {
        let Some(log) = moved.get_mut(k) else { continue };
        *log += STEP;
        let there = physics(job, &moved)?.rate.ln();
        slopes.push((there - base) / STEP);
        if let (Some(log), Some(was)) = (moved.get_mut(k), logs.get(k)) {
            *log = *was;
        }
    }
    Ok(Sample { base, slopes, features: here.features, labels: labels(job), limit: here.limit.ln() })
}

/// What the physics say of a job, with efficiencies of those logarithms.
pub(crate) fn physics(job: &Job, logs: &[f64]) -> Result<Physics, &'static str> {
    match &job.setup {
        Setup::Training(t) => {
            let device = Device::of(&job.chip, &job.format, &job.stack)?;
            let logs: &[f64; TrainingEfficiencies::COUNT] = logs.try_into().map_err(|_| "efficiencies")?;
            let time = train(&job.model, &device, t, &TrainingEfficiencies::from_logs(logs));
            let share = |s: f64| 4.0 * s / time.iteration_s;
            let messages = time.tensor_s + time.context_s + time.expert_s + time.data_s;
            let features = vec![
                (t.micro_batch * t.length).ln(),
                t.length.ln(),
                job.model.width.ln(),
                job.model.active().ln(),
                (job.model.total() / job.model.active()).ln(),
                t.devices.ln(),
                t.tensor.ln(),
                t.pipeline.ln(),
                t.expert.ln(),
                t.context.ln(),
                share(time.bubble_s),
                share(messages),
                share(time.traffic_s + time.launch_s),
                f64::from(u8::from(t.recompute == crate::predict::Recompute::Full)),
                t.released,
            ];
            let peak = if t.small { device.peak } else { device.half };
            let flops = job.model.training_flops(t.length) * if t.adapters_only { 4.0 / 6.0 } else { 1.0 };
            // Chips are what training counts as devices.
            let rate = time.tokens_per_s_per_device * t.devices / job.chips;
            Ok(Physics { rate, limit: peak * device.per_chip / flops, features })
        }
        Setup::Inference { layout, load, shared, batch, .. } => {
            let logs: &[f64; Efficiencies::COUNT] = logs.try_into().map_err(|_| "efficiencies")?;
            let e = Efficiencies::from_logs(logs);
            let Job { model, chip, format, stack, .. } = job;
            let deployment = Deployment::new(model, chip, format, stack, *layout)?;
            let run = Inference { kind: job.kind, deployment, load, shared: *shared, batch: *batch };
            let (rate, in_flight, slots, prompts, time) = run.rate(&e);
            let ideal = Efficiencies {
                products: 1.0,
                small: 1.0,
                bandwidth: 1.0,
                launch_s: 0.0,
                scheduling_s: 0.0,
                latency_s: 0.0,
                all_reduce: 1e9,
                all_to_all: 1e9,
                attention: 1.0,
                ends: 0.0,
                grouped: 1.0,
                latent: 1.0,
                traffic: 0.0,
                // Guesses and room in the cache stay what they are: they are no share of a peak.
                ..e
            };
            let limit = run.rate(&ideal).0;
            let serving = job.kind == Kind::Serve;
            let overhead = time.launches + time.scheduling + time.communication;
            let work = time.compute + time.memory + time.traffic + time.attention;
            let features = vec![
                (in_flight.max(1.0) / layout.devices).ln(),
                load.input.max(16.0).ln(),
                if serving { load.output.max(16.0).ln() } else { 4.0 },
                layout.tensor.ln(),
                layout.devices.ln(),
                job.model.active().ln(),
                (job.model.total() / job.model.active()).ln(),
                load.speculation,
                2.0 * load.prefix_hit,
                (slots.min(1e5) / in_flight.max(1.0) + 1.0).ln(),
                2.0 * prompts,
                f64::from(u8::from(layout.expert_parallel)),
                job.format.weight_bits.ln(),
                f64::from(u8::from(load.disaggregated)),
                (overhead.max(1e-9) / work.max(1e-12)).ln(),
            ];
            Ok(Physics { rate: rate / job.chips, limit: limit / job.chips, features })
        }
    }
}

struct Inference<'a> {
    kind: Kind,
    deployment: Deployment<'a>,
    load: &'a Load,
    shared: bool,
    batch: Option<f64>,
}

impl Inference<'_> {
    /// Tokens/s over all chips, what is in flight, slots for sequences, the share of prompts in the time, and a step.
    fn rate(&self, e: &Efficiencies) -> (f64, f64, f64, f64, StepTime) {
        let load = self.load;
        match self.kind {
            Kind::Prefill if !self.shared => {
                let (rate, tokens, time) =
                    self.deployment.prefill(self.batch, load.input, load.prefix_hit, e);
                (rate, tokens, tokens, 1.0, time)
            }
            Kind::Prefill | Kind::Decode => {
                let batch = self.batch.unwrap_or(1.0);
                let context = load.input + load.output / 2.0;
                let (rate, time) = self.deployment.decode(batch, context, self.shared, e);
                (rate, batch, batch, if self.shared { 1.0 } else { 0.0 }, time)
            }
            _ => {
                let s = self.deployment.serve(load, e);
                let prompts = (s.per_token_s - s.decode.total()).max(0.0) / s.per_token_s;
                (s.output_per_s, s.batch, s.slots, prompts, s.decode)
            }
        }
    }
}

fn labels(job: &Job) -> Labels {
    let chip = &job.chip;
    let m = &job.model;
    let client = match &job.setup {
        Setup::Training(t) => if t.sharded { "sharded" } else { "whole" }.to_owned(),
        Setup::Inference { client, .. } => format!("{client:?}"),
    };
    Labels {
        chip: hash(&chip.id),
        vendor: hash(&chip.vendor),
        class: hash(chip.class.name()),
        software: hash(chip.software_stack.as_deref().unwrap_or("")),
        stack: hash(&job.stack.name),
        model: hash(&format!("{}-{}-{}", m.width, m.layers, m.mixture.map_or(0.0, |m| m.count))),
        format: hash(&job.format.name),
        kind: hash(job.kind.name()),
        client: hash(&client),
    }
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
