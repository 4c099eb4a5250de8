//! The best ways to serve.

use std::sync::Arc;

use super::layouts::{Cut, Need, instances, needed};
use super::{Costs, GIB, Refusal, USABLE, dies};
use crate::chips::Chip;
use crate::fit::{Prediction, Predictor};
use crate::model::Model;
use crate::predict::{Compute, Deployment, Device, Efficiencies, Format, Layout, Load, Serving, Stack};
use crate::runs::{Client, Job, Kind, Setup};

/// Plans of each measure that are corrected by measured runs.
const CORRECTED: usize = 160;
/// By how much the closed form may miss a target and the corrected plan still be looked at.
const SLACK: f64 = 1.6;
/// The share of its most requests/s at which a service is run under arrivals that nobody paces.
const UTILIZATION: f64 = 0.85;

/// What is to be served.
#[derive(Clone, Debug, PartialEq)]
pub struct ServeAsk {
    /// Tokens of a prompt.
    pub input: f64,
    /// Tokens of an answer.
    pub output: f64,
    /// Requests in flight over all chips, where that is given.
    pub concurrency: Option<f64>,
    /// Requests/s that arrive, where that is given.
    pub rate: Option<f64>,
    /// Seconds to the first token at most.
    pub ttft_s: Option<f64>,
    /// Seconds a token of an answer at most.
    pub tpot_s: Option<f64>,
    /// Number formats to choose from.
    pub formats: Vec<Format>,
    /// Bits of a number of cache; none: as the software does.
    pub kv_bits: Option<f64>,
    /// Share of a prompt whose cache is there already.
    pub prefix_hit: f64,
    /// The software.
    pub stack: Stack,
    /// Devices over which a layer is cut, where that is given.
    pub tensor: Option<f64>,
    /// Stages of the pipeline, where that is given.
    pub pipeline: Option<f64>,
    /// Whether experts are spread over all devices of an instance, where that is given.
    pub expert_parallel: Option<bool>,
    /// What chips and power cost.
    pub costs: Costs,
}

impl ServeAsk {
    /// Prompts and answers of so many tokens, in half precision, without targets, with the server most used on `chip`.
    pub fn new(chip: &Chip, input: f64, output: f64) -> ServeAsk {
        let stack = Stack::named(if chip.vendor == "Huawei" { "vllm-ascend" } else { "vllm" });
        ServeAsk {
            input,
            output,
            concurrency: None,
            rate: None,
            ttft_s: None,
            tpot_s: None,
            formats: Format::named("bf16").into_iter().collect(),
            kv_bits: None,
            prefix_hit: 0.0,
            stack,
            tensor: None,
            pipeline: None,
            expert_parallel: None,
            costs: Costs::default(),
        }
    }

    fn check(&self) -> Result<(), Refusal> {
        Refusal::positive("input", self.input)?;
        Refusal::positive("output", self.output)?;
        let given = [
            ("concurrency", self.concurrency),
            ("rate", self.rate),
            ("ttft", self.ttft_s),
            ("tpot", self.tpot_s),
            ("kv bits", self.kv_bits),
            ("tensor", self.tensor),
            ("pipeline", self.pipeline),
        ];
        for (field, value) in given {
            Refusal::positive(field, value.unwrap_or(1.0))?;
        }
        let ask = |field, problem: &str| Err(Refusal::Ask { field, problem: problem.to_owned() });
        match () {
            () if self.formats.is_empty() => ask("format", "none is given"),
            () if self.rate.is_some() && self.concurrency.is_some() => {
                ask("rate", "either the rate or the concurrency can be given")
            }
            () if !(0.0..1.0).contains(&self.prefix_hit) => {
                ask("prefix hit", "a share from 0 to below 1 is wanted")
            }
            () => Ok(()),
        }
    }
}

/// A way to serve: instances that are alike, each with its share of the requests.
#[derive(Clone, Debug, PartialEq)]
pub struct ServePlan {
    /// The number format.
    pub format: Format,
    /// One instance.
    pub layout: Layout,
    /// How many of them.
    pub instances: f64,
    /// Chips that they use: at most those given.
    pub chips: f64,
    /// Requests in flight of each instance.
    pub concurrency: f64,
    /// Output tokens/s and chip, corrected by measured runs, with an 80 % interval.
    pub prediction: Prediction,
    /// Output tokens/s of all chips: what they can do, or what the rate asks for.
    pub output_per_s: f64,
    /// Mean seconds to the first token.
    pub ttft_s: f64,
    /// Mean seconds from one token of an answer to the next.
    pub tpot_s: f64,
    /// USD for a million output tokens; none where the chip's price is unknown.
    pub usd_per_million: Option<f64>,
    /// kWh for a million output tokens; none where the chip's power is unknown.
    pub kwh_per_million: Option<f64>,
    /// Where a step's time goes, by the closed form.
    pub physics: Serving,
}

impl ServePlan {
    /// Output tokens/s and chip.
    pub fn per_chip(&self) -> f64 {
        self.output_per_s / self.chips
    }

    /// What bounds prefill.
    pub fn prefill_bound(&self) -> &'static str {
        self.physics.prefill.bottleneck()
    }

    /// What bounds decoding.
    pub fn decode_bound(&self) -> &'static str {
        self.physics.decode.bottleneck()
    }
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct ServeResults {
    /// Plans by output tokens/s and chip, the most first.
    pub by_throughput: Vec<ServePlan>,
    /// Plans by seconds a request takes, the least first.
    pub by_latency: Vec<ServePlan>,
    /// Plans by USD for a million tokens, the least first; empty where the chip's price is unknown.
    pub by_cost: Vec<ServePlan>,
    /// Configurations that were timed.
    pub considered: u64,
}

/// A configuration before correction.
struct Candidate<'a> {
    format: &'a Format,
    model: &'a Model,
    layout: Layout,
    instances: f64,
    concurrency: f64,
    physics: Serving,
}

impl Candidate<'_> {
    /// Seconds to the first token: the prompt's own, half a queue of others' (Pollaczek and Khinchine's formula for fixed
    /// lengths), a step, and what it waits for where more are in flight than run at once.
    fn ttft(&self, slower: f64) -> f64 {
        let s = &self.physics;
        let share = ((s.per_token_s - s.decode.total()) / s.per_token_s).clamp(0.0, 0.95);
        let queue = share / (2.0 * (1.0 - share));
        let beyond = (self.concurrency - s.batch).max(0.0) / s.batch;
        slower * (s.prompt_s * (1.0 + queue) + s.decode.total() + beyond * s.per_token_s)
    }

    fn tpot(&self, slower: f64) -> f64 {
        slower * self.physics.per_token_s
    }
}

/// The best ways to serve `model` on at most `count` chips like `chip`.
///
/// # Errors
/// What is unknown of the chip or makes no sense in `ask`; that memory is short and by how much; that no plan meets the
/// targets or takes the rate, with the nearest that there is.
pub fn serve(
    predictor: &Predictor,
    model: &Model,
    chip: &Arc<Chip>,
    count: f64,
    ask: &ServeAsk,
) -> Result<ServeResults, Refusal> {
    ask.check()?;
    if !(1.0..=1e6).contains(&count) {
        return Err(Refusal::Ask { field: "count", problem: format!("{count} is not from 1 to 10^6") });
    }
    let e = predictor.efficiencies();
    let cached: Vec<Model> = ask.formats.iter().map(|f| with_cache(model, f, ask)).collect();
    let (all, considered) = candidates(chip, count, ask, &cached, &e)?;
    let mut plans = Vec::new();
    for c in shortlist(&all, chip, ask) {
        plans.push(plan(predictor, chip, ask, c)?);
    }
    let total = |p: &ServePlan| p.ttft_s + ask.output * p.tpot_s;
    let nearest =
        plans.iter().min_by(|a, b| miss(ask, a.ttft_s, a.tpot_s).total_cmp(&miss(ask, b.ttft_s, b.tpot_s)));
    if let Some(p) = nearest.filter(|p| miss(ask, p.ttft_s, p.tpot_s) > 1.0) {
        let layout = format!("{} on {} chips, tensor {}", p.format.name, p.chips, p.layout.tensor);
        return Err(Refusal::Targets { ttft_ms: p.ttft_s * 1e3, tpot_ms: p.tpot_s * 1e3, layout });
    }
    plans.retain(|p| miss(ask, p.ttft_s, p.tpot_s) <= 1.0);
    if let Some(rate) = ask.rate {
        let most = |p: &ServePlan| p.prediction.rate * p.chips * UTILIZATION / ask.output;
        let best = plans.iter().map(most).fold(0.0, f64::max);
        plans.retain(|p| p.chips <= count && most(p) >= rate * 0.999);
        if plans.is_empty() {
            let needed = (count * rate / best.max(1e-9)).ceil();
            return Err(Refusal::Rate { chips: count, asked: rate, most: best, needed });
        }
    }
    let sorted = |key: &dyn Fn(&ServePlan) -> f64| {
        let mut sorted = plans.clone();
        sorted.sort_by(|a, b| key(a).total_cmp(&key(b)).then(a.chips.total_cmp(&b.chips)));
        sorted
    };
    let by_cost = sorted(&|p| p.usd_per_million.unwrap_or(f64::INFINITY));
    Ok(ServeResults {
        by_throughput: sorted(&|p| -p.per_chip()),
        by_latency: sorted(&total),
        by_cost: by_cost.into_iter().filter(|p| p.usd_per_million.is_some()).collect(),
        considered,
    })
}

/// How far times are from the targets: at most 1 where they are met.
fn miss(ask: &ServeAsk, ttft: f64, tpot: f64) -> f64 {
    let of = |time: f64, target: Option<f64>| target.map_or(0.0, |t| time / t);
    of(ttft, ask.ttft_s).max(of(tpot, ask.tpot_s))
}

/// Bytes of a number of cache that `stack` keeps of a model in `format`.
pub(super) fn usual_cache(format: &Format, stack: &Stack) -> f64 {
    let small = matches!(format.compute, Compute::Fp8 | Compute::Fp4);
    if small && stack.small_cache { 1.0 } else { 2.0 }
}

/// The model with its cache sized as asked: closed forms take the software's usual size.
pub(super) fn with_cache(model: &Model, format: &Format, ask: &ServeAsk) -> Model {
    let mut model = model.clone();
    if let Some(bits) = ask.kv_bits {
        for a in &mut model.attention {
            a.cache *= bits / 8.0 / usual_cache(format, &ask.stack);
        }
    }
    model
}

/// Every configuration that can exist.
fn candidates<'a>(
    chip: &Chip,
    count: f64,
    ask: &'a ServeAsk,
    models: &'a [Model],
    e: &Efficiencies,
) -> Result<(Vec<Candidate<'a>>, u64), Refusal> {
    let devices = (count * dies(chip)).floor();
    let missing = |figure| Refusal::Missing { chip: chip.id.clone(), figure };
    chip.memory.capacity_gib.ok_or(missing("memory.capacity_gib"))?;
    let cut = Cut { tensor: ask.tensor, pipeline: ask.pipeline, expert_parallel: ask.expert_parallel };
    let (mut found, mut considered, mut short) = (Vec::new(), 0, None);
    for (format, model) in ask.formats.iter().zip(models) {
        if let Some(tensor) = ask.tensor.filter(|t| model.heads % t != 0.0) {
            let fits: Vec<String> = super::powers(model.heads)
                .filter(|t| model.heads % t == 0.0)
                .map(|t| t.to_string())
                .collect();
            let (heads, kv_heads) = (model.heads, model.kv_heads);
            return Err(Refusal::Heads { heads, kv_heads, tensor, nearest: fits.join(", ") });
        }
        let device = Device::of(chip, format, &ask.stack).map_err(missing)?;
        let need = Need { context: ask.input + ask.output, cache_bytes: usual_cache(format, &ask.stack) };
        let layouts = instances(model, &device, format, devices, &need, &cut);
        if layouts.is_empty() {
            short = short.or(Some(lack(model, &device, format, devices, &need, &cut)));
        }
        for layout in layouts {
            let deployment = Deployment::new(model, chip, format, &ask.stack, layout).map_err(missing)?;
            let most = (devices / layout.devices).floor();
            for (instances, concurrency) in shares(ask, most) {
                considered += 1;
                let load = load(ask, concurrency);
                let physics = deployment.serve(&load, e);
                // More than run at once only wait; that is worth looking at where it is asked for.
                if ask.concurrency.is_none() && concurrency > physics.slots.max(1.0) {
                    break;
                }
                found.push(Candidate { format, model, layout, instances, concurrency, physics });
            }
        }
    }
    match (found.is_empty(), short) {
        (true, Some(refusal)) => Err(refusal),
        _ => Ok((found, considered)),
    }
}

/// Why no instance holds the model.
fn lack(model: &Model, device: &Device, format: &Format, devices: f64, need: &Need, cut: &Cut) -> Refusal {
    let usable = device.memory * USABLE;
    let tensor = cut.tensor.unwrap_or_else(|| {
        super::powers(device.domain.min(devices))
            .filter(|t| super::divides(*t, model.heads))
            .last()
            .unwrap_or(1.0)
    });
    let pipeline = cut.pipeline.unwrap_or((devices / tensor).floor().clamp(1.0, model.layers));
    let layout = Layout { devices: tensor * pipeline, tensor, pipeline, expert_parallel: false };
    let bytes = needed(model, format, &layout, need);
    let more = super::powers(4096.0)
        .find(|n| !instances(model, device, format, n * devices, need, &Cut::default()).is_empty());
    if layout.devices > devices {
        let layout_words = format!("tensor {tensor} x pipeline {pipeline}");
        return Refusal::Devices { layout: layout_words, needed: layout.devices, there: devices };
    }
    Refusal::Memory {
        short_gib: (bytes - usable).max(0.0) / GIB,
        needed_gib: bytes / GIB,
        there_gib: usable / GIB,
        nearest: more.map(|n| match n {
            1.0 => "another way to cut it over these chips holds it".to_owned(),
            n => format!("{} chips hold it", n * devices / device.per_chip),
        }),
    }
}

/// Numbers of instances, and of requests in flight of each.
fn shares(ask: &ServeAsk, most: f64) -> Vec<(f64, f64)> {
    match ask.concurrency {
        // A ladder that does not depend on `most`, so that more chips only add to it.
        Some(concurrency) => {
            let steps = std::iter::successors(Some(1.0f64), |n| Some((n * 1.06).floor().max(n + 1.0)));
            let steps = steps.take_while(|n| *n <= most && *n <= concurrency.max(1.0));
            steps.map(|n| (n, concurrency / n)).collect()
        }
        None => super::powers(8192.0).flat_map(|n| [n, n * 1.5]).map(|c| (most, c.floor())).collect(),
    }
}

fn load(ask: &ServeAsk, concurrency: f64) -> Load {
    Load {
        input: ask.input,
        output: ask.output,
        concurrency: Some(concurrency),
        burst: None,
        varied: false,
        rate: None,
        prefix_hit: ask.prefix_hit,
        speculation: 0.0,
        max_sequences: Some(concurrency.max(1.0)),
        disaggregated: false,
    }
}

/// The best few by each measure, of those that the closed form puts near the targets; the nearest where none is.
fn shortlist<'a, 'b>(all: &'b [Candidate<'a>], chip: &Chip, ask: &ServeAsk) -> Vec<&'b Candidate<'a>> {
    let near = |c: &Candidate<'_>| miss(ask, c.ttft(1.0), c.tpot(1.0));
    let mut able: Vec<&Candidate<'_>> = all.iter().filter(|c| near(c) <= SLACK).collect();
    if able.is_empty() {
        able = all.iter().collect();
        able.sort_by(|a, b| near(a).total_cmp(&near(b)));
        able.truncate(CORRECTED);
    }
    let chips = |c: &Candidate<'_>| c.layout.devices / dies(chip);
    let keys: [&dyn Fn(&Candidate<'_>) -> f64; 3] =
        [&|c| -c.physics.output_per_s / chips(c), &|c| c.ttft(1.0) + ask.output * c.tpot(1.0), &|c| {
            -c.physics.output_per_s * c.instances
        }];
    let mut order: Vec<usize> = (0..able.len()).collect();
    let mut chosen = std::collections::BTreeSet::new();
    for key in keys {
        let value = |i: &usize| able.get(*i).map_or(0.0, |c| key(c));
        order.sort_by(|a, b| value(a).total_cmp(&value(b)));
        chosen.extend(order.iter().copied().take(CORRECTED));
    }
    chosen.into_iter().filter_map(|i| able.get(i).copied()).collect()
}

/// A candidate, corrected by measured runs.
fn plan(
    predictor: &Predictor,
    chip: &Arc<Chip>,
    ask: &ServeAsk,
    c: &Candidate<'_>,
) -> Result<ServePlan, Refusal> {
    let one = c.layout.devices / dies(chip);
    let job = Job {
        kind: Kind::Serve,
        model: c.model.clone(),
        chip: Arc::clone(chip),
        chips: one,
        format: c.format.clone(),
        stack: ask.stack.clone(),
        setup: Setup::Inference {
            layout: c.layout,
            load: load(ask, c.concurrency),
            client: Client::Closed,
            shared: false,
            batch: Some(c.concurrency),
        },
    };
    let prediction =
        predictor.predict(&job).map_err(|figure| Refusal::Missing { chip: chip.id.clone(), figure })?;
    let slower = prediction.physics / prediction.rate;
    let mut instances = c.instances;
    let mut output_per_s = prediction.rate * one * instances;
    if let Some(rate) = ask.rate {
        let each = prediction.rate * one * UTILIZATION;
        instances = (rate * ask.output / each).ceil().max(1.0);
        // As many as there are, where even they do not do: the caller says so.
        instances = instances.min(c.instances);
        output_per_s = (rate * ask.output).min(prediction.rate * one * instances);
    }
    let chips = one * instances;
    let hours = 1e6 / output_per_s / 3600.0 * chips;
    Ok(ServePlan {
        format: c.format.clone(),
        layout: c.layout,
        instances,
        chips,
        concurrency: c.concurrency,
        prediction,
        output_per_s,
        ttft_s: c.ttft(slower),
        tpot_s: c.tpot(slower),
        usd_per_million: ask.costs.hour(chip).map(|usd| usd * hours),
        kwh_per_million: ask.costs.kilowatts(chip).map(|kw| kw * hours),
        physics: c.physics,
    })
}
