//! Clients, batches and prompts: from the time of a step to tokens per second.

use super::{Deployment, Efficiencies, Format, Stack, Step, StepTime};

/// What clients ask for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Tokens of a prompt.
    pub input: f64,
    /// Tokens of an answer.
    pub output: f64,
    /// Requests in flight, over all devices; none: as many as memory and software allow.
    pub concurrency: Option<f64>,
    /// Requests that are sent at once, where the run is one burst.
    pub burst: Option<f64>,
    /// Whether answers are of many lengths, as people's are: the longest then run on in an ever smaller batch.
    pub varied: bool,
    /// Requests/s that arrive.
    pub rate: Option<f64>,
    /// Share of a prompt whose cache is there already.
    pub prefix_hit: f64,
    /// Tokens guessed a step.
    pub speculation: f64,
    /// Sequences that a replica may run at once, where it was told.
    pub max_sequences: Option<f64>,
    /// Whether prompts are filled by other devices than those that decode.
    pub disaggregated: bool,
}

/// A model that is served.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Serving {
    /// Answers' tokens/s, all devices together.
    pub output_per_s: f64,
    /// Sequences that run at once, all devices together.
    pub batch: f64,
    /// Sequences for which there is cache.
    pub slots: f64,
    /// Seconds from one token of an answer to the next, prompts of others between them.
    pub per_token_s: f64,
    /// Seconds a prompt takes by itself.
    pub prompt_s: f64,
    /// The decode step.
    pub decode: StepTime,
    /// The prefill step, and its tokens over all devices.
    pub prefill: StepTime,
    /// Tokens of that.
    pub prefill_tokens: f64,
}

/// The most prompt tokens that a replica takes into a step.
const CHUNK: f64 = 8192.0;
/// What servers leave of a device's memory.
const USABLE: f64 = 0.9;
const GIB: f64 = (1u64 << 30) as f64;

/// Bytes of a number of cache.
fn cache_bytes(format: &Format, stack: &Stack) -> f64 {
    let small = matches!(format.compute, super::Compute::Fp8 | super::Compute::Fp4);
    if small && stack.small_cache { 1.0 } else { 2.0 }
}

impl Deployment<'_> {
    /// Continuous batching in a steady state: each step decodes one token of every sequence, and as many prompts are filled
    /// as answers end. Throughput is batch / (decode step + prompts a step).
    pub fn serve(&self, load: &Load, e: &Efficiencies) -> Serving {
        let Deployment { model, format, stack, device, layout, big } = self;
        let replicas = layout.replicas();
        let bytes = cache_bytes(format, stack);
        let weights = format.model_bytes(model) * if layout.expert_parallel { 1.0 } else { replicas };
        let memory = device.memory * layout.devices;
        let usable = match stack.reserved {
            // Steps of twice the tokens where there is room, and some 2 GiB of graphs and buffers.
            Some(bytes) => {
                let chunk = if device.memory > 160.0 * GIB { 2.0 * CHUNK } else { CHUNK };
                layout.devices * (device.memory - bytes * chunk - 2.0 * GIB)
            }
            None => memory * USABLE,
        };
        let free = (usable - weights).max(memory * 0.02);
        // Tensor ranks beyond the heads hold copies.
        let copies = (layout.tensor / model.kv_heads).max(1.0);
        let sequence = model.cache(load.input + 0.6 * load.output) * bytes * copies;
        let slots = (free / sequence * e.cache).max(1.0);

        let wanted = load.concurrency.or(load.burst).unwrap_or(1024.0 * replicas);
        let default = if *big { stack.sequences.0 } else { stack.sequences.1 };
        let default = if load.speculation > 0.0 { default.min(stack.guessing) } else { default };
        let most = slots.min(load.max_sequences.unwrap_or(default) * replicas);
        let batch = smooth_min(wanted, most).max(1.0);

        let answers = Step {
            tokens: batch * (1.0 + 0.7 * load.speculation),
            sequences: batch,
            context: load.input + load.output / 2.0,
            decoding: true,
            cache_bytes: bytes,
        };
        let decode = self.step(e, &answers);
        let new = load.input * (1.0 - load.prefix_hit);
        let prefill_tokens = (CHUNK * replicas).min(new * batch).max(1.0);
        let prefill = self.step(
            e,
            &Step {
                tokens: prefill_tokens,
                sequences: replicas,
                context: load.input / 2.0,
                decoding: false,
                cache_bytes: bytes,
            },
        );
        // A chunk shares its step's launches and scheduling with decoding.
        let prompt_token = (prefill.total() - 0.5 * (prefill.launches + prefill.scheduling)) / prefill_tokens;
        let accepted = 1.0 + e.accepted * load.speculation / (1.0 + 0.15 * load.speculation);
        let decoding = decode.total() / accepted;
        let prompts = batch * prompt_token * new / load.output;
        // Apart, the slower of the two sides decides, and neither has all devices.
        let per_token_s = if load.disaggregated { 1.4 * decoding.max(prompts) } else { decoding + prompts };
        let mut output_per_s = batch / per_token_s;
        if let Some(requests) = load.burst.filter(|_| load.concurrency.is_none()) {
            // A step takes as long as its weights take however few sequences are left.
            let few = Step { tokens: 0.1 * batch, sequences: 0.1 * batch, ..answers };
            let more = if load.varied { e.ends } else { 0.5 * (1.0 - batch / requests).max(0.0) };
            let last = more * load.output * self.step(e, &few).total() / accepted;
            let tokens = requests * load.output;
            output_per_s = tokens / (tokens / output_per_s + last);
        }
        if let Some(rate) = load.rate.filter(|r| *r > 0.0) {
            output_per_s = harsh_min(output_per_s, rate * load.output);
        }
        // A prompt's chunks go through the stages one after another.
        let chunks = (new * replicas / prefill_tokens).max(1.0);
        Serving {
            output_per_s,
            batch,
            slots,
            per_token_s,
            prompt_s: prefill.total() * (chunks + layout.pipeline - 1.0),
            decode,
            prefill,
            prefill_tokens,
        }
    }

    /// Prompts alone: input tokens/s over all devices, tokens of a step, and the step.
    pub fn prefill(
        &self,
        batch: Option<f64>,
        input: f64,
        prefix_hit: f64,
        e: &Efficiencies,
    ) -> (f64, f64, StepTime) {
        let Deployment { format, stack, layout, .. } = self;
        let replicas = layout.replicas();
        let tokens = match replicas > 1.0 {
            true => CHUNK * replicas,
            false => (batch.unwrap_or(4.0) * input).min(2.0 * CHUNK),
        };
        let time = self.step(
            e,
            &Step {
                tokens,
                sequences: replicas,
                context: input / 2.0,
                decoding: false,
                cache_bytes: cache_bytes(format, stack),
            },
        );
        (tokens / time.total() / (1.0 - 0.95 * prefix_hit), tokens, time)
    }

    /// Answers alone: tokens/s over all devices, and the step. `shared`: all tokens are of one sequence.
    pub fn decode(&self, batch: f64, context: f64, shared: bool, e: &Efficiencies) -> (f64, StepTime) {
        // Too few sequences to fill a pipeline run through its stages one after another.
        let mut serial = *self;
        let layout = &mut serial.layout;
        if layout.pipeline > 1.0 && batch < 2.0 * layout.pipeline {
            layout.devices = (layout.devices / layout.pipeline).max(1.0);
            layout.pipeline = 1.0;
        }
        let time = serial.step(
            e,
            &Step {
                tokens: batch,
                sequences: if shared { 1.0 } else { batch },
                context,
                decoding: true,
                cache_bytes: cache_bytes(self.format, self.stack),
            },
        );
        (batch / time.total(), time)
    }
}

/// At most the smaller, and at least 92 % of it.
fn smooth_min(a: f64, b: f64) -> f64 {
    (a.powi(-8) + b.powi(-8)).powf(-1.0 / 8.0)
}

/// At most the smaller, and at least 89 % of it.
fn harsh_min(a: f64, b: f64) -> f64 {
    (a.powi(-6) + b.powi(-6)).powf(-1.0 / 6.0)
}
