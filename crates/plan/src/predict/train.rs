//! An iteration of training.

use super::memory::Recompute;
use crate::model::Model;

/// What fitting learns of training. Shares are of the data sheet's figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingEfficiencies {
    /// Share of the half-precision peak that products reach.
    pub half: f64,
    /// Share of the FP8 or FP4 peak that products reach, conversions included.
    pub small: f64,
    /// Bytes of memory traffic between products, for each layer, token and two hidden numbers.
    pub traffic: f64,
    /// Share of the half-precision peak that attention reaches.
    pub attention: f64,
    /// Share of the link that tensor parallelism's messages reach.
    pub tensor: f64,
    /// Share of the link that tokens travel to their experts at.
    pub expert: f64,
    /// Part of data parallelism's messages that no computing hides.
    pub data: f64,
    /// Bubbles, against the ideal schedule's.
    pub bubble: f64,
    /// Seconds of launches, a layer and microbatch.
    pub launch_s: f64,
    /// Time of products of experts, against dense ones of the same operations, with software of January 2026.
    pub grouped: f64,
    /// By how much software shortens what experts add, a year: the exponent.
    pub progress: f64,
}

impl TrainingEfficiencies {
    /// How many there are.
    pub const COUNT: usize = 11;

    /// What is expected before any run is looked at.
    pub const PRIOR: [f64; Self::COUNT] = [0.68, 0.55, 14.0, 0.45, 0.6, 0.35, 0.35, 1.0, 25e-6, 1.5, 0.4];

    /// How much each varies, as a standard deviation of its logarithm.
    pub const SPREADS: [f64; Self::COUNT] = [0.2, 0.25, 0.3, 0.3, 0.3, 0.3, 0.3, 0.2, 0.3, 0.3, 0.3];

    /// From logarithms.
    pub fn from_logs(logs: &[f64; Self::COUNT]) -> TrainingEfficiencies {
        let [half, small, traffic, attention, tensor, expert, data, bubble, launch_s, grouped, progress] =
            logs.map(f64::exp);
        TrainingEfficiencies {
            half,
            small,
            traffic,
            attention,
            tensor,
            expert,
            data,
            bubble,
            launch_s,
            grouped,
            progress,
        }
    }
}

/// When the newest software that was measured is from, in years: mid 2026.
pub const LATEST_SOFTWARE: f64 = 26.6;

/// How training is cut over devices, and into microbatches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Training {
    /// Devices.
    pub devices: f64,
    /// Devices over which a layer is cut.
    pub tensor: f64,
    /// Stages of the pipeline.
    pub pipeline: f64,
    /// Pieces of the model a stage holds (interleaved schedule).
    pub virtual_stages: f64,
    /// Devices over which a sequence is cut.
    pub context: f64,
    /// Devices over which a layer's experts are spread.
    pub expert: f64,
    /// Whether weights are spread over the data-parallel devices too, and gathered layer by layer (FSDP, ZeRO-3).
    pub sharded: bool,
    /// Whether, then, weights stay gathered from forward to backward (ZeRO-2).
    pub keep_gathered: bool,
    /// Sequences of a microbatch.
    pub micro_batch: f64,
    /// Sequences of an iteration.
    pub global_batch: f64,
    /// Tokens of a sequence.
    pub length: f64,
    /// What is computed again in the backward pass.
    pub recompute: Recompute,
    /// Whether only adapters are trained: no gradients of the weights.
    pub adapters_only: bool,
    /// Whether products run in FP8 or FP4.
    pub small: bool,
    /// When the software is from, in years; such as 25.9.
    pub released: f64,
}

impl Training {
    /// Devices that hold the same part of the model.
    pub fn data(&self) -> f64 {
        (self.devices / (self.tensor * self.pipeline * self.context)).floor().max(1.0)
    }

    /// Microbatches that a pipeline takes in an iteration.
    pub fn microbatches(&self) -> f64 {
        (self.global_batch / (self.data() * self.micro_batch)).max(1.0)
    }
}

/// What an iteration needs to know of a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingTime {
    /// Tokens/s a device.
    pub tokens_per_s_per_device: f64,
    /// Seconds of an iteration.
    pub iteration_s: f64,
    /// Of it: dense products, and experts'.
    pub products_s: f64,
    /// Attention.
    pub attention_s: f64,
    /// Memory traffic between products.
    pub traffic_s: f64,
    /// Messages of tensor parallelism.
    pub tensor_s: f64,
    /// Messages of context parallelism.
    pub context_s: f64,
    /// Messages from stage to stage of the pipeline.
    pub stages_s: f64,
    /// Tokens to experts and back.
    pub expert_s: f64,
    /// Bubbles of the pipeline.
    pub bubble_s: f64,
    /// Gradients and gathered weights that computing does not hide.
    pub data_s: f64,
    /// The optimizer's step.
    pub optimizer_s: f64,
    /// Launches.
    pub launch_s: f64,
}

impl TrainingTime {
    /// What takes most of an iteration.
    pub fn bottleneck(&self) -> &'static str {
        let parts = [
            (self.products_s, "products"),
            (self.attention_s, "attention"),
            (self.traffic_s, "memory traffic between products"),
            (self.tensor_s, "tensor-parallel messages"),
            (self.context_s, "context-parallel messages"),
            (self.stages_s, "messages between stages"),
            (self.expert_s, "tokens to experts"),
            (self.bubble_s, "pipeline bubbles"),
            (self.data_s, "gradients and gathered weights"),
            (self.optimizer_s, "the optimizer"),
            (self.launch_s, "launches"),
        ];
        parts.iter().max_by(|a, b| a.0.total_cmp(&b.0)).map_or("", |p| p.1)
    }
}

/// The time of an iteration of `t` on devices like `device`.
pub fn train(model: &Model, device: &super::Device, t: &Training, e: &TrainingEfficiencies) -> TrainingTime {
    let micro = t.microbatches();
    let tokens = t.micro_batch * t.length;
    let shard = t.tensor * t.pipeline * t.context;
    let full = t.recompute == Recompute::Full;
    // Forward is 2 operations a weight and token, each of the two gradients as many.
    let passes = if t.adapters_only { 4.0 } else { 6.0 } + if full { 2.0 } else { 0.0 };
    let rate = if t.small { device.peak * e.small } else { device.half * e.half };
    let newer = (-e.progress * (t.released - 26.0)).exp();
    let experts = model.active_experts();
    let products =
        passes * (model.active() - experts + experts * (1.0 + (e.grouped - 1.0).max(0.0) * newer)) * tokens
            / shard
            / rate;
    let again = if t.recompute == Recompute::Selective { 8.0 / 6.0 } else { 1.0 };
    let attention = passes / 2.0 * model.attention_flops(t.length / 2.0, false) * tokens * again
        / shard
        / (device.attention * e.attention);
    let hidden = model.width + 0.5 * model.feed_forward;
    let traffic = e.traffic * 2.0 * model.layers * tokens * hidden * if full { 4.0 / 3.0 } else { 1.0 }
        / shard
        / device.bandwidth;

    let link =
        |devices: f64| if devices <= device.domain { device.link } else { device.link.min(device.network) };
    let layers = model.layers / t.pipeline;
    let mut tensor = 0.0;
    if t.tensor > 1.0 {
        // Four all-reduces a layer.
        let bytes = 2.0 * (t.tensor - 1.0) / t.tensor * tokens / t.context * model.width * 2.0;
        tensor = 4.0 * device.exposed * layers * bytes / (link(t.tensor) * e.tensor)
            * if full { 1.5 } else { 1.0 };
    }
    let mut context = 0.0;
    if t.context > 1.0 {
        let cache = model.cache(1.0) / model.layers * 2.0;
        context = layers * 3.0 * tokens / t.context * cache / (0.5 * link(t.tensor * t.context));
    }
    let mut expert = 0.0;
    if let Some(m) = model.mixture.filter(|_| t.expert > 1.0) {
        // A token goes once to each device, and once to each scale-up domain, that has one of its experts.
        let reached = |groups: f64| (groups - 1.0) * (1.0 - (1.0 - 1.0 / groups).powf(m.per_token));
        let bytes = tokens / (t.context * t.tensor) * model.width * 2.0;
        let within = reached(t.expert) / device.link;
        let between = reached((t.expert / device.domain).max(1.0)) / device.network;
        expert = m.layers / t.pipeline * 4.0 * bytes * (within + between) / e.expert * newer;
    }
    // What a stage hands on, forward and back, once for each of its pieces; tensor ranks send a part each.
    let mut stages = 0.0;
    if t.pipeline > 1.0 {
        let bytes = tokens / (t.context * t.tensor) * model.width * 2.0;
        stages = 2.0 * device.exposed * t.virtual_stages * bytes / link(t.tensor * t.context * t.pipeline);
    }
    let launch = layers * e.launch_s * 3.0 * if model.mixture.is_some() { 2.5 * newer } else { 1.0 };
    let micro_s = products + attention + traffic + tensor + context + expert + stages + launch;
    let bubble = (t.pipeline - 1.0) / t.virtual_stages * micro_s * e.bubble;

    let expert_numbers = model.experts();
    let held = (model.total() - expert_numbers) / (t.tensor * t.pipeline)
        + expert_numbers / (t.tensor * t.pipeline * t.expert.max(1.0));
    let mut data = 0.0;
    if t.data() > 1.0 {
        let bytes = match t.sharded {
            true => 2.0 * held * if t.keep_gathered { 2.0 } else { 3.0 } * micro,
            // Gradients in FP32 are reduced, weights in half precision are gathered.
            false => 6.0 * held,
        };
        // The devices of a domain share what comes over the network, and pass it on over their links.
        let together = device.network * device.domain.min(8.0);
        let rate = if t.devices <= device.domain { device.link } else { device.link.min(together) };
        let all = bytes / rate;
        data = e.data * all + (all - micro * micro_s).max(0.0);
    }
    let optimizer = held / t.data() * 30.0 / device.bandwidth;
    let iteration = micro * micro_s + bubble + data + optimizer;
    TrainingTime {
        tokens_per_s_per_device: t.global_batch * t.length / iteration / t.devices,
        iteration_s: iteration,
        products_s: micro * products,
        attention_s: micro * attention,
        traffic_s: micro * traffic,
        tensor_s: micro * tensor,
        context_s: micro * context,
        stages_s: micro * stages,
        expert_s: micro * expert,
        bubble_s: bubble,
        data_s: data,
        optimizer_s: optimizer,
        launch_s: micro * launch,
    }
}
