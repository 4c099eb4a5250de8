//! The closed form of continuous batching, and stretches against single steps.

use super::{ample, near};
use crate::simulate::closed_form::{Batching, Mix, batching, most_per_s};
use crate::simulate::play::simulate_by;
use crate::simulate::{
    Arrivals, Length, Load, Replica, Report, STRETCH_ERROR, Service, SimulateError, StepTime, simulate,
};

/// Linear in everything: the closed form is then exact but for the granularity of steps.
fn straight(prefill: u64, _: f64, decoding: u64, cached: u64) -> f64 {
    0.01 + 2e-5 * prefill as f64 + 1e-4 * decoding as f64 + 1e-7 * cached as f64
}

/// The larger of reading and calculating, with a corner within reach.
fn roofline(prefill: u64, context: f64, decoding: u64, cached: u64) -> f64 {
    let compute = 4e-5 * (prefill + decoding) as f64 + 1e-9 * (prefill as f64 * context);
    compute.max(0.012 + 2e-7 * cached as f64) + 0.002
}

fn play<S: StepTime>(replica: Replica, time: &S, mix: &Mix, per_s: f64) -> Report {
    let output = match mix.output_variation {
        0.0 => Length::Fixed(mix.output as u32),
        variation => Length::LogNormal { mean: mix.output, variation },
    };
    let load = Load {
        arrivals: Arrivals::Poisson { per_s },
        input: Length::Fixed(mix.input as u32),
        output,
        prefix: mix.prefix as u32,
    };
    let service = Service { tokens_per_step: mix.tokens_per_step, ..Service::new(replica, 1) };
    simulate(&service, time, &load.requests(30_000, 11).unwrap()).unwrap()
}

/// The bounds are about twice what is found. Waiting for a full batch is the rough part of the estimate.
#[track_caller]
fn agrees(what: &str, report: &Report, known: &Batching) {
    // Those that are prefilled run, too.
    near(&format!("{what}: sequences"), report.mean_running, known.decoding, 0.08);
    near(&format!("{what}: TPOT"), report.tpot_s.mean, known.tpot_s, 0.06);
    let rough = if known.utilisation < 0.7 { 0.04 } else { 0.25 };
    near(&format!("{what}: TTFT"), report.ttft_s.mean, known.ttft_s, rough);
}

const MIX: Mix =
    Mix { input: 500.0, output: 200.0, output_variation: 0.0, prefix: 0.0, tokens_per_step: 1.0 };

#[test]
fn batching_agrees_with_its_closed_form() {
    let chunked = Replica { max_sequences: 64, max_step_tokens: 2048, ..ample() };
    let whole = Replica { chunked: false, ..chunked };
    let varied = Mix { output_variation: 0.8, ..MIX };
    let speculating = Mix { tokens_per_step: 2.5, prefix: 300.0, ..MIX };
    for load in [0.3, 0.6, 0.8] {
        for (name, mix) in [("fixed", MIX), ("varied", varied), ("speculating", speculating)] {
            for (kind, replica) in [("chunked", chunked), ("whole", whole)] {
                for (time_name, time) in
                    [("straight", straight as fn(u64, f64, u64, u64) -> f64), ("roofline", roofline)]
                {
                    let per_s = load * most_per_s(&replica, &time, &mix).unwrap();
                    let known = batching(&replica, &time, &mix, per_s).unwrap();
                    near("utilisation", known.utilisation, load, 1e-9);
                    let report = play(replica, &time, &mix, per_s);
                    agrees(&format!("{name} {kind} {time_name} at {load}"), &report, &known);
                }
            }
        }
    }
}

#[test]
fn long_prompts_in_chunks_agree_too() {
    let replica = Replica { max_sequences: 64, max_step_tokens: 512, ..ample() };
    let mix = Mix { input: 3000.0, ..MIX };
    for load in [0.3, 0.6] {
        let per_s = load * most_per_s(&replica, &straight, &mix).unwrap();
        let known = batching(&replica, &straight, &mix, per_s).unwrap();
        let report = play(replica, &straight, &mix, per_s);
        near("TPOT", report.tpot_s.mean, known.tpot_s, 0.04);
        near("TTFT", report.ttft_s.mean, known.ttft_s, 0.15);
    }
}

#[test]
fn the_fixed_point_of_a_straight_line_is_the_mean() {
    // Without prompts' time and with room for all: B = λ·D·T(1 + B), solved by hand.
    let time = |_: u64, _: f64, decoding: u64, _: u64| 0.01 + 1e-4 * decoding as f64;
    let replica = Replica { max_sequences: 2000, ..ample() };
    let per_s = 30.0;
    let x = per_s * 199.0;
    let fixed = x * (0.01 + 1e-4) / (1.0 - x * 1e-4);
    let found = batching(&replica, &time, &MIX, per_s).unwrap();
    near("batch", found.decoding, fixed, 1e-3);
    near("TPOT", found.tpot_s, fixed / x, 1e-3);
}

#[test]
fn a_full_service_gives_the_largest_rate_and_no_more() {
    // Answers of one length would end in lockstep here, and prompts come in waves.
    let varied = Mix { output_variation: 0.8, ..MIX };
    for chunked in [true, false] {
        let replica = Replica { max_sequences: 64, max_step_tokens: 2048, chunked, ..ample() };
        for time in [straight as fn(u64, f64, u64, u64) -> f64, roofline] {
            let most = most_per_s(&replica, &time, &varied).unwrap();
            let report = play(replica, &time, &varied, 3.0 * most);
            let rate = report.outcomes.len() as f64 / report.duration_s;
            near("rate", rate, most, 0.04);
            let over = batching(&replica, &time, &varied, 1.01 * most);
            assert!(matches!(over, Err(SimulateError::Overloaded { .. })), "{over:?}");
        }
    }
}

#[test]
fn stretches_differ_from_single_steps_by_no_more_than_they_say() {
    let load = Load {
        arrivals: Arrivals::Gamma { per_s: 6.0, variation: 2.0 },
        input: Length::LogNormal { mean: 800.0, variation: 1.0 },
        output: Length::LogNormal { mean: 150.0, variation: 1.0 },
        prefix: 100,
    };
    let requests = load.requests(3000, 5).unwrap();
    let replica = Replica { max_sequences: 64, max_step_tokens: 512, cache_tokens: 60_000, ..ample() };
    for tokens_per_step in [1.0, 1.7] {
        let service = Service { tokens_per_step, ..Service::new(replica, 2) };
        // On a straight line in whole tokens only the rounding of sums differs.
        let jumped = simulate(&service, &straight, &requests).unwrap();
        let stepped = simulate_by(&service, &straight, &requests, None, 1).unwrap();
        assert_eq!(jumped.preemptions, stepped.preemptions);
        near("mean latency", jumped.latency_s.mean, stepped.latency_s.mean, 1e-4);
        if tokens_per_step == 1.0 {
            assert_eq!(jumped.steps, stepped.steps);
            for (a, b) in jumped.outcomes.iter().zip(&stepped.outcomes) {
                near("latency", a.latency_s, b.latency_s, 1e-9);
            }
        }
        // Around a corner, a shifted step may now and then begin before an arrival rather than after it.
        let jumped = simulate(&service, &roofline, &requests).unwrap();
        let stepped = simulate_by(&service, &roofline, &requests, None, 1).unwrap();
        near("mean latency", jumped.latency_s.mean, stepped.latency_s.mean, 3.0 * STRETCH_ERROR);
        near("mean TTFT", jumped.ttft_s.mean, stepped.ttft_s.mean, 0.01);
    }
}
