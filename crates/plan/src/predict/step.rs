//! One step of inference: a batch goes through all layers once.

use super::{Compute, Deployment};

/// What fitting learns of inference. Shares are of the data sheet's figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Efficiencies {
    /// Share of the half-precision peak that products reach.
    pub products: f64,
    /// Share of the bandwidth that weights and cache are read at.
    pub bandwidth: f64,
    /// Seconds a layer for launches and the small ops between products.
    pub launch_s: f64,
    /// Seconds a step for scheduling, sampling and detokenising in a Python server.
    pub scheduling_s: f64,
    /// Seconds of an all-reduce of nothing between two devices.
    pub latency_s: f64,
    /// Share of the scale-up link that an all-reduce reaches.
    pub all_reduce: f64,
    /// Share of the link that tokens travel to their experts at.
    pub all_to_all: f64,
    /// Share of the half-precision peak that attention reaches.
    pub attention: f64,
    /// Tokens accepted for each token that is guessed, before later guesses count less.
    pub accepted: f64,
    /// Share of the memory left by weights that the cache can use.
    pub cache: f64,
    /// Answers' worth of small steps at the end of a burst whose answers are of many lengths.
    pub ends: f64,
    /// Time of experts' products, against dense ones of the same operations: their rows are few and uneven.
    pub grouped: f64,
    /// Share of the half-precision peak that attention over latents reaches when decoding.
    pub latent: f64,
    /// Bytes of memory traffic between products, for each layer, token and two hidden numbers.
    pub traffic: f64,
    /// Share of the 8-bit or 4-bit peak that products reach, conversions included.
    pub small: f64,
}

impl Efficiencies {
    /// How many there are.
    pub const COUNT: usize = 15;

    /// What is expected before any run is looked at.
    pub const PRIOR: [f64; Self::COUNT] =
        [0.65, 0.65, 12e-6, 2e-3, 10e-6, 0.6, 0.5, 0.35, 0.75, 0.9, 7.0, 1.8, 0.25, 5.0, 0.55];

    /// The same of programs that run a model for one user.
    pub const LOCAL_PRIOR: [f64; Self::COUNT] =
        [0.85, 0.92, 20e-6, 2e-3, 10e-6, 0.6, 0.5, 0.6, 0.75, 0.9, 0.6, 1.1, 0.25, 5.0, 0.55];

    /// How much each varies, as a standard deviation of its logarithm.
    pub const SPREADS: [f64; Self::COUNT] =
        [0.3, 0.15, 0.4, 0.5, 0.3, 0.3, 0.3, 0.3, 0.3, 0.2, 0.2, 0.3, 0.3, 0.3, 0.25];

    /// From logarithms.
    pub fn from_logs(logs: &[f64; Self::COUNT]) -> Efficiencies {
        let [
            products,
            bandwidth,
            launch_s,
            scheduling_s,
            latency_s,
            all_reduce,
            all_to_all,
            attention,
            accepted,
            cache,
            ends,
            grouped,
            latent,
            traffic,
            small,
        ] = logs.map(f64::exp);
        Efficiencies {
            products,
            bandwidth,
            launch_s,
            scheduling_s,
            latency_s,
            all_reduce,
            all_to_all,
            attention,
            accepted,
            cache,
            ends,
            grouped,
            latent,
            traffic,
            small,
        }
    }
}

/// Rows at which experts' products have half of what few rows cost: two tiles.
const ROWS: f64 = 256.0;

/// What one step holds, over all devices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Tokens.
    pub tokens: f64,
    /// Sequences that they belong to, each with a cache of its own.
    pub sequences: f64,
    /// Positions that a token sees.
    pub context: f64,
    /// Whether each sequence has one new token (or a few guesses); otherwise prompts are filled.
    pub decoding: bool,
    /// Bytes of a number of cache.
    pub cache_bytes: f64,
}

/// Where the seconds of a step go. Products and attention take the greater of computing and reading, smoothly.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepTime {
    /// Computing products.
    pub compute: f64,
    /// Reading weights.
    pub memory: f64,
    /// Memory traffic between products.
    pub traffic: f64,
    /// Attention.
    pub attention: f64,
    /// Messages between devices.
    pub communication: f64,
    /// Launches.
    pub launches: f64,
    /// Scheduling between steps.
    pub scheduling: f64,
}

impl StepTime {
    /// Products: the greater of computing and reading, smoothly.
    pub fn products(&self) -> f64 {
        smooth_max(self.compute, self.memory)
    }

    /// The whole step.
    pub fn total(&self) -> f64 {
        self.products() + self.traffic + self.attention + self.communication + self.launches + self.scheduling
    }

    /// What takes most of it.
    pub fn bottleneck(&self) -> &'static str {
        let parts = [
            (self.compute, "computing products"),
            (self.memory, "reading weights"),
            (self.traffic, "memory traffic between products"),
            (self.attention, "attention and its cache"),
            (self.communication, "messages between devices"),
            (self.launches, "launches"),
            (self.scheduling, "scheduling"),
        ];
        parts.iter().max_by(|a, b| a.0.total_cmp(&b.0)).map_or("", |p| p.1)
    }
}

/// (a⁴ + b⁴)^¼: at least the greater, and at most 19 % above it.
pub(crate) fn smooth_max(a: f64, b: f64) -> f64 {
    let (a, b) = (a * a, b * b);
    (a * a + b * b).sqrt().sqrt()
}

impl Deployment<'_> {
    /// The time of `step`.
    pub fn step(&self, e: &Efficiencies, step: &Step) -> StepTime {
        let Deployment { model, format, stack, device, layout, .. } = self;
        let replicas = layout.replicas();
        let shard = layout.tensor * layout.pipeline;
        let tokens = step.tokens / replicas;
        let weight = format.weight_bytes();

        let outside = format.outside_bits(model);
        let rate = if format.compute != Compute::Half && device.peak > device.half {
            device.peak * e.small
        } else {
            device.peak * e.products
        };
        // llama.cpp's limit is eight columns.
        let few = stack.local && tokens <= 8.0;
        let rate = if few { rate.min(device.vectors) } else { rate };
        let mut compute = 2.0 * model.dense * tokens
            / shard
            / if outside >= 16.0 { device.half * e.products } else { rate };
        // Each stage of a pipeline reads its weights once for every microbatch, of which there are as many as stages.
        let microbatches = if step.decoding { layout.pipeline } else { 1.0 };
        let mut bytes = microbatches * model.dense * outside / 8.0 / shard;
        if let Some(m) = &model.mixture {
            let routed = if layout.expert_parallel { step.tokens } else { tokens };
            let devices = layout.expert_devices();
            // Tiles are filled the better, and experts' shares are the more even, the more rows an expert has.
            let rows = routed * m.per_token / m.count;
            let grouped = 1.0 + (e.grouped - 1.0).max(0.0) * ROWS / (ROWS + rows);
            compute += grouped * 2.0 * model.active_experts() * routed / devices / rate;
            let reached = 1.0 - (1.0 - m.per_token / m.count).powf(routed / microbatches);
            bytes += microbatches * e.grouped.sqrt() * model.experts() * reached * weight / devices;
        }
        // Beyond those columns, unpacking for matrix units takes as long as fourteen of them do.
        let unpacking = if few { 0.0 } else { 14.0 * 2.0 * (bytes / weight) / device.vectors };
        let memory = (bytes / (device.bandwidth * e.bandwidth)).max(unpacking);

        let seen = step.context;
        let attention_flops = model.attention_flops(seen, step.decoding) * tokens / shard;
        let cache_shards = layout.tensor.min(model.kv_heads) * layout.pipeline;
        let cache = if step.decoding {
            // A sparse reader still scans all keys' indexes.
            let share = if model.sparse.is_some() { 0.6 } else { 1.0 };
            model.cache(seen) * share * step.sequences / replicas
        } else {
            model.cache(1.0) * tokens
        };
        let latent = model.latent && step.decoding;
        let attention = smooth_max(
            attention_flops / (device.attention * if latent { e.latent } else { e.attention }),
            cache * step.cache_bytes / cache_shards / (device.bandwidth * e.bandwidth),
        );

        let mut communication = 0.0;
        if layout.tensor > 1.0 {
            let share = 2.0 * (layout.tensor - 1.0) / layout.tensor;
            let bytes = share * tokens * model.width * 2.0 / layout.pipeline;
            communication += 2.0
                * model.layers
                * (e.latency_s * (1.0 + layout.tensor.log2()) / 2.0 + bytes / (device.link * e.all_reduce));
        }
        if let Some(m) = model.mixture.filter(|_| layout.expert_parallel) {
            let group = (layout.devices / layout.pipeline).max(1.0);
            // A token goes once to each device, and once to each scale-up domain, that has one of its experts.
            let reached = |groups: f64| (groups - 1.0) * (1.0 - (1.0 - 1.0 / groups).powf(m.per_token));
            let within = reached(group) / device.link;
            let between = reached((group / device.domain).max(1.0)) / device.network;
            let bytes = tokens * model.width * 1.5 / layout.pipeline;
            communication += 2.0 * m.layers * (1.5 * e.latency_s + bytes * (within + between) / e.all_to_all);
        }
        StepTime {
            compute,
            memory,
            traffic: e.traffic * 2.0 * model.layers * tokens * (model.width + 0.5 * model.feed_forward)
                / shard
                / device.bandwidth,
            attention,
            communication,
            launches: model.layers * e.launch_s * model.kernels() * device.launch,
            scheduling: e.scheduling_s * stack.scheduling,
        }
    }
}
