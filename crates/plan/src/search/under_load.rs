//! A plan under requests that arrive by chance, simulated step by step.

use super::serve::{ServeAsk, ServePlan};
use crate::chips::Chip;
use crate::fit::Predictor;
use crate::model::Model;
use crate::predict::{Deployment, Step};
use crate::simulate::{Arrivals, Length, Load, Replica, Report, Service, simulate};

/// Requests that are played.
const REQUESTS: usize = 2000;
/// Tokens of a block of cache (vLLM's default).
const BLOCK: u32 = 16;
/// The most prompt tokens of a step.
const CHUNK: u32 = 8192;

impl ServePlan {
    /// Percentiles under `ask.rate` requests/s of Poisson arrivals, every prompt and answer as long as was asked: 2,000 of
    /// them, simulated with steps of the closed form slowed as the plan's correction says. `None` where no rate is asked or
    /// the simulation refuses the plan.
    pub fn under_load(
        &self,
        predictor: &Predictor,
        model: &Model,
        chip: &Chip,
        ask: &ServeAsk,
    ) -> Option<Report> {
        let rate = ask.rate?;
        let model = super::serve::with_cache(model, &self.format, ask);
        let deployment = Deployment::new(&model, chip, &self.format, &ask.stack, self.layout).ok()?;
        let e = predictor.efficiencies();
        let slower = self.prediction.physics / self.prediction.rate;
        let copies = self.layout.replicas();
        let cache_bytes = super::serve::usual_cache(&self.format, &ask.stack);
        // Copies of attention that share experts step together, each with as much to do.
        let time = |tokens: f64, sequences: f64, context: f64, decoding: bool| {
            let step = Step {
                tokens: tokens * copies,
                sequences: sequences * copies,
                context,
                decoding,
                cache_bytes,
            };
            let mut time = deployment.step(&e, &step);
            if decoding {
                time.memory *= self.layout.pipeline;
            }
            time
        };
        let seconds = |prefill: u64, before: f64, decoding: u64, cached: u64| {
            let mut seconds = 0.0;
            if decoding > 0 {
                let n = decoding as f64;
                seconds += time(n, n, cached as f64 / n, true).total();
            }
            if prefill > 0 {
                let step = time(prefill as f64, 1.0, before + prefill as f64 / 2.0, false);
                let shared = if decoding > 0 { 0.5 * (step.launches + step.scheduling) } else { 0.0 };
                seconds += step.total() - shared;
            }
            seconds * slower
        };
        let sequences = (self.concurrency / copies).ceil().clamp(1.0, f64::from(CHUNK)) as u32;
        let held = self.physics.slots / copies * (ask.input + 0.6 * ask.output);
        let replica = Replica {
            max_sequences: sequences,
            max_step_tokens: CHUNK,
            cache_tokens: held.max(ask.input + ask.output + f64::from(BLOCK)) as u64,
            block_tokens: BLOCK,
            chunked: true,
        };
        let whole = |tokens: f64| Length::Fixed(tokens.round().clamp(1.0, 1e7) as u32);
        let load = Load {
            arrivals: Arrivals::Poisson { per_s: rate },
            input: whole(ask.input),
            output: whole(ask.output),
            prefix: (ask.input * ask.prefix_hit).floor().min(ask.input - 1.0).max(0.0) as u32,
        };
        let requests = load.requests(REQUESTS, 1).ok()?;
        let service = Service::new(replica, (self.instances * copies).max(1.0) as u32);
        simulate(&service, &seconds, &requests).ok()
    }
}
