//! Searches: what fits, what is refused, and what more of anything may never make worse.

use std::sync::Arc;

use autarky_plan::Catalog;
use autarky_plan::Chip;
use autarky_plan::fit::Predictor;
use autarky_plan::model::Model;
use autarky_plan::predict::{
    Deployment, Device, Efficiencies, Format, Layout, Load, Recompute, Stack, Training, TrainingEfficiencies,
    train as closed_form,
};
use autarky_plan::search::{
    MemoryAsk, Pins, Refusal, ServeAsk, TrainAsk, check, fit, physics_search, serve, train,
};
use proptest::prelude::*;

fn chip(name: &str) -> Arc<Chip> {
    Arc::new(Catalog::built_in().expect("chips").find(name).expect("a chip").clone())
}

fn model(name: &str) -> Model {
    Model::open(name).expect("a model")
}

fn format(name: &str) -> Format {
    Format::named(name).expect("a format")
}

const LLAMA: &str = "meta-llama/Llama-3.1-70B";
const DEEPSEEK: &str = "deepseek-ai/DeepSeek-V3";

fn predictor() -> &'static Predictor {
    Predictor::built_in().expect("a fit")
}

#[test]
fn memory_adds_up_and_chips_are_as_few_as_can_be() {
    let (llama, h100) = (model(LLAMA), chip("nvidia-h100-sxm"));
    let ask = MemoryAsk { context: 8192.0, batch: 4.0, ..MemoryAsk::default() };
    let m = fit(&llama, &h100, &format("bf16"), &ask).expect("it fits");
    let sum = m.weights + m.cache + m.activations + m.reserve + m.left;
    assert!((sum / m.memory - 1.0).abs() < 1e-9);
    assert!(m.left >= 0.0 && m.needed == 2.0 && m.chips == 2.0, "{m:?}");
    // 2 x 8 heads x 128 numbers x 80 layers x 2 bytes.
    assert_eq!(m.cache_per_token, 327_680.0);
    let at = |context| fit(&llama, &h100, &format("bf16"), &MemoryAsk { context, chips: Some(2.0), ..ask });
    assert!(at(m.max_context).is_ok());
    let error = at(m.max_context + 2.0).expect_err("too long").to_string();
    assert!(error.contains("short by 0.0 GiB") && error.contains("3 chips hold it"), "{error}");
    assert!(fit(&llama, &h100, &format("fp8"), &ask).expect("it fits").needed == 2.0);
    let half = fit(&llama, &h100, &format("bf16"), &MemoryAsk { kv_bits: 8.0, ..ask }).expect("it fits");
    assert_eq!(half.cache_per_token, 163_840.0);
}

#[test]
fn what_cannot_exist_is_refused_with_the_nearest_that_can() {
    let (llama, h100) = (model(LLAMA), chip("nvidia-h100-sxm"));
    let mut ask = TrainAsk::new(format("bf16"));
    let refused = |ask: &TrainAsk, count: f64| {
        train(predictor(), &llama, &h100, count, ask)
            .err()
            .map_or_else(|| "found".to_owned(), |e| e.to_string())
    };
    assert!(refused(&ask, 1.0).contains("short by") && refused(&ask, 1.0).contains("chips hold it"));
    ask.pins = Pins { tensor: Some(3.0), ..Pins::default() };
    assert!(
        refused(&ask, 64.0).contains("64 heads (8 of keys and values) cannot be cut over 3 devices; 4 can")
    );
    ask.pins = Pins { tensor: Some(1.0), pipeline: Some(1.0), sharded: Some(false), ..Pins::default() };
    assert!(refused(&ask, 64.0).contains("fits"), "{}", refused(&ask, 64.0));
    ask.pins = Pins { tensor: Some(8.0), pipeline: Some(16.0), ..Pins::default() };
    assert!(refused(&ask, 64.0).contains("128 devices"), "{}", refused(&ask, 64.0));

    let mut ask = ServeAsk::new(&h100, 1024.0, 256.0);
    let refused = |ask: &ServeAsk, count: f64| {
        serve(predictor(), &llama, &h100, count, ask)
            .err()
            .map_or_else(|| "found".to_owned(), |e| e.to_string())
    };
    assert!(refused(&ask, 1.0).contains("chips hold it"), "{}", refused(&ask, 1.0));
    ask.tensor = Some(5.0);
    assert!(refused(&ask, 8.0).contains("cannot be cut over 5 devices"));
    (ask.tensor, ask.tpot_s) = (None, Some(1e-5));
    assert!(refused(&ask, 8.0).contains("no plan meets the targets; the nearest has"));
    (ask.tpot_s, ask.rate) = (None, Some(1e4));
    assert!(refused(&ask, 8.0).contains("requests/s at most"), "{}", refused(&ask, 8.0));
    ask.concurrency = Some(3.0);
    assert!(matches!(serve(predictor(), &llama, &h100, 8.0, &ask), Err(Refusal::Ask { field: "rate", .. })));
}

#[test]
fn plans_fit_meet_targets_and_keep_to_their_limits() {
    let h100 = chip("nvidia-h100-sxm");
    for (name, count) in [(LLAMA, 8.0), (DEEPSEEK, 16.0)] {
        let model = model(name);
        let mut ask = ServeAsk::new(&h100, 1024.0, 512.0);
        ask.formats = vec![format("fp8"), format("bf16")];
        (ask.ttft_s, ask.tpot_s) = (Some(3.0), Some(0.05));
        let found = serve(predictor(), &model, &h100, count, &ask).expect("plans");
        assert!(!found.by_cost.is_empty());
        for p in found.by_throughput.iter().chain(&found.by_latency) {
            assert!(p.chips <= count && p.ttft_s <= 3.0 && p.tpot_s <= 0.05);
            assert!(p.prediction.low <= p.prediction.rate && p.prediction.rate <= p.prediction.high);
            assert!(p.prediction.rate <= p.prediction.limit * (1.0 + 1e-9));
        }
        let first = |plans: &[autarky_plan::search::ServePlan]| plans.first().map(|p| p.per_chip());
        assert!(first(&found.by_throughput) >= first(&found.by_latency));
        ask.concurrency = Some(64.0);
        let fixed = serve(predictor(), &model, &h100, count, &ask).expect("plans");
        assert!(fixed.by_latency.iter().all(|p| p.instances * p.concurrency <= 64.1));
    }
    let device = Device::of(&h100, &format("bf16"), &Stack::named("megatron")).expect("figures");
    let model = model(DEEPSEEK);
    let found = train(predictor(), &model, &h100, 512.0, &TrainAsk::new(format("bf16"))).expect("plans");
    for p in &found.plans {
        assert!(p.chips <= 512.0 && p.prediction.rate <= p.prediction.limit * (1.0 + 1e-9));
        check(&model, &device, &p.training).unwrap_or_else(|e| panic!("{e}: {:?}", p.training));
        let [time, least, most] = p.seconds(1e12);
        assert!(least <= time && time <= most);
    }
}

#[test]
fn more_chips_never_make_a_corrected_plan_worse() {
    let (llama, h100) = (model(LLAMA), chip("nvidia-h100-sxm"));
    let ask = TrainAsk::new(format("bf16"));
    let mut before = 0.0;
    for count in [32.0, 48.0, 64.0, 100.0, 128.0, 200.0, 256.0] {
        let found = train(predictor(), &llama, &h100, count, &ask).expect("plans");
        let now = found.plans.first().expect("a plan").tokens_per_s();
        assert!(now >= before, "{count}: {now} after {before}");
        before = now;
    }
    let mut ask = ServeAsk::new(&h100, 1024.0, 512.0);
    ask.formats = vec![format("fp8")];
    let mut before = 0.0;
    for count in [2.0, 3.0, 4.0, 8.0, 12.0, 16.0, 64.0] {
        let found = serve(predictor(), &llama, &h100, count, &ask).expect("plans");
        let now = found.by_throughput.iter().map(|p| p.output_per_s).fold(0.0, f64::max);
        assert!(now >= before, "{count}: {now} after {before}");
        before = now;
    }
}

fn scaled(device: &Device, peak: f64, bandwidth: f64) -> Device {
    Device {
        peak: device.peak * peak,
        half: device.half * peak,
        bandwidth: device.bandwidth * bandwidth,
        ..*device
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn training_is_within_limits_and_monotone(
        name in prop::sample::select(vec![LLAMA, DEEPSEEK, "Qwen/Qwen3-8B"]),
        on in prop::sample::select(vec!["nvidia-h100-sxm", "amd-mi300x", "huawei-ascend-910c", "nvidia-b200-sxm"]),
        tensor in 0..4, pipeline in 0..4, data in 0..6, micro in 0..3, full: bool, fp8: bool,
        peak in 1.0..4.0f64, bandwidth in 1.0..4.0f64,
    ) {
        let (model, chip) = (model(name), chip(on));
        let format = format(if fp8 { "fp8" } else { "bf16" });
        let device = Device::of(&chip, &format, &Stack::named("megatron")).expect("figures");
        let [tensor, pipeline, data, micro_batch] = [tensor, pipeline, data, micro].map(|n| 2f64.powi(n));
        let t = Training {
            devices: tensor * pipeline * data, tensor, pipeline, virtual_stages: 1.0, context: 1.0, expert: 1.0,
            sharded: false, keep_gathered: false, micro_batch, global_batch: data * micro_batch * 16.0, length: 4096.0,
            recompute: if full { Recompute::Full } else { Recompute::None }, adapters_only: false, small: fp8,
            released: 26.0,
        };
        let e = predictor().training_efficiencies();
        let rate = |d: &Device, e: &TrainingEfficiencies| closed_form(&model, d, &t, e).tokens_per_s_per_device;
        let here = rate(&device, &e);
        let best = device.peak.max(device.half);
        prop_assert!(here > 0.0 && here <= best / model.training_flops(4096.0), "{here}");
        prop_assert!(rate(&scaled(&device, peak, 1.0), &e) >= here);
        prop_assert!(rate(&scaled(&device, 1.0, bandwidth), &e) >= here);
    }

    #[test]
    fn serving_is_monotone_and_corrections_keep_to_limits(
        name in prop::sample::select(vec![LLAMA, DEEPSEEK, "Qwen/Qwen3-8B"]),
        on in prop::sample::select(vec!["nvidia-h100-sxm", "amd-mi300x", "huawei-ascend-910c", "nvidia-b200-sxm"]),
        tensor in 0..4, spread: bool, clients in 0..10, input in 1.0..20_000.0f64, output in 1.0..4000.0f64,
        peak in 1.0..4.0f64, bandwidth in 1.0..4.0f64,
    ) {
        let (model, chip, format) = (model(name), chip(on), format("bf16"));
        let stack = Stack::named("vllm");
        let layout = Layout { devices: 16.0, tensor: 2f64.powi(tensor), pipeline: 1.0, expert_parallel: spread && name == DEEPSEEK };
        let deployment = Deployment::new(&model, &chip, &format, &stack, layout).expect("figures");
        let load = Load {
            input, output, concurrency: Some(2f64.powi(clients)), burst: None, varied: false, rate: None, prefix_hit: 0.0,
            speculation: 0.0, max_sequences: None, disaggregated: false,
        };
        let e: Efficiencies = predictor().efficiencies();
        let rate = |device: Device| Deployment { device, ..deployment }.serve(&load, &e).output_per_s;
        let here = rate(deployment.device);
        prop_assert!(here > 0.0 && here.is_finite());
        prop_assert!(rate(scaled(&deployment.device, peak, 1.0)) >= here * (1.0 - 1e-12));
        prop_assert!(rate(scaled(&deployment.device, 1.0, bandwidth)) >= here * (1.0 - 1e-12));
        let job = autarky_plan::runs::Job {
            kind: autarky_plan::runs::Kind::Serve,
            model: model.clone(), chip: chip.clone(), chips: 8.0, format: format.clone(), stack: stack.clone(),
            setup: autarky_plan::runs::Setup::Inference {
                layout, load, client: autarky_plan::runs::Client::Closed, shared: false, batch: load.concurrency,
            },
        };
        let p = predictor().predict(&job).expect("figures");
        prop_assert!(p.rate <= p.limit * (1.0 + 1e-9) && p.physics <= p.limit * (1.0 + 1e-9), "{p:?}");
        prop_assert!(p.low <= p.rate && p.rate <= p.high);
    }

    #[test]
    fn more_devices_never_make_the_closed_form_worse(
        name in prop::sample::select(vec![LLAMA, DEEPSEEK, "Qwen/Qwen3-8B"]), few in 1..600u32, more in 0..600u32,
    ) {
        let (model, chip) = (model(name), chip("nvidia-h100-sxm"));
        let ask = TrainAsk::new(format("bf16"));
        let device = Device::of(&chip, &ask.format, &ask.stack).expect("figures");
        let e = predictor().training_efficiencies();
        let best = |n: u32| {
            physics_search(&model, &device, f64::from(n), &ask, &e).0.first().map_or(0.0, |(rate, _)| *rate)
        };
        prop_assert!(best(few + more) >= best(few));
    }
}
