//! What holds for every service and load.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::simulate::closed_form::{Mix, batching};
use crate::simulate::events::play;
use crate::simulate::play::simulate_by;
use crate::simulate::{
    Arrivals, Disaggregated, Length, Load, Replica, Report, Request, Routing, Service, simulate,
    simulate_closed_loop,
};

fn step_s(prefill: u64, context: f64, decoding: u64, cached: u64) -> f64 {
    let compute = 3e-5 * (prefill + decoding) as f64 + 1e-9 * prefill as f64 * context;
    compute.max(0.01 + 1e-7 * cached as f64)
}

fn replica() -> impl Strategy<Value = Replica> {
    (1_u32..40, 0_u32..600, 200_u64..20_000, 1_u32..40, any::<bool>()).prop_map(
        |(max_sequences, more, cache_tokens, block_tokens, chunked)| Replica {
            max_sequences,
            max_step_tokens: max_sequences + more,
            cache_tokens,
            block_tokens,
            chunked,
        },
    )
}

fn service() -> impl Strategy<Value = Service> {
    let routing = prop_oneof![Just(Routing::LeastLoaded), Just(Routing::RoundRobin), Just(Routing::Shared)];
    let apart = (replica(), 1_u32..4, 0.0..1e-4_f64).prop_map(|(replica, replicas, transfer_s_per_token)| {
        Disaggregated { replica, replicas, transfer_s_per_token }
    });
    (replica(), 1_u32..5, routing, proptest::option::of(apart), prop_oneof![Just(1.0), 1.0..4.0_f64])
        .prop_map(|(replica, replicas, routing, disaggregated, tokens_per_step)| Service {
            replica,
            replicas,
            routing,
            disaggregated,
            tokens_per_step,
        })
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let length =
        || (1.0..300.0_f64, 0.0..2.0_f64).prop_map(|(mean, variation)| Length::LogNormal { mean, variation });
    let arrivals =
        (1.0..100.0_f64, 0.1..3.0_f64).prop_map(|(per_s, variation)| Arrivals::Gamma { per_s, variation });
    (arrivals, length(), length(), 0_u32..100, 1_usize..150, any::<u64>()).prop_map(
        |(arrivals, input, output, prefix, count, seed)| {
            Load { arrivals, input, output, prefix }.requests(count, seed).unwrap()
        },
    )
}

/// All requests are accounted for once, at times in order, and Little's law holds.
fn sound(service: &Service, requests: &[Request], report: &Report) -> Result<(), TestCaseError> {
    let mut all: Vec<usize> = report.outcomes.iter().map(|o| o.request).collect();
    all.extend(report.refused.iter().map(|r| r.request));
    all.sort_unstable();
    prop_assert_eq!(all, (0..requests.len()).collect::<Vec<_>>());
    let rounding = 1e-9 * (1.0 + report.duration_s);
    for o in &report.outcomes {
        let output = requests[o.request].output;
        prop_assert!(0.0 <= o.waiting_s && o.waiting_s < o.ttft_s && o.ttft_s <= o.latency_s, "{:?}", o);
        let rest = o.tpot_s.unwrap_or(0.0) * f64::from(output - 1);
        prop_assert!((o.ttft_s + rest - o.latency_s).abs() < rounding, "{:?}", o);
        // Nothing is faster than alone on an empty machine, where no step takes less than 10 ms.
        let steps = 1.0 + (f64::from(output - 1) / service.tokens_per_step).ceil();
        prop_assert!(o.latency_s > 0.01 * steps - rounding, "{:?} of {} steps", o, steps);
    }
    let present = (report.mean_running + report.mean_queued) * report.duration_s;
    let latencies: f64 = report.outcomes.iter().map(|o| o.latency_s).sum();
    prop_assert!(
        (present - latencies).abs() < 1e-9 * (1.0 + latencies),
        "L = {}, λW = {}",
        present,
        latencies
    );
    for share in [report.busy_share, report.cache_share, report.prefill_busy_share.unwrap_or(0.0)] {
        prop_assert!((0.0..=1.0 + 1e-9).contains(&share), "share {}", share);
    }
    prop_assert!(report.peak_cache_share <= 1.0);
    prop_assert!(report.cache_share <= report.peak_cache_share + 1e-9);
    // Each replica gains at most so many tokens a step, no step is shorter than 10 ms, and prefill gives the first.
    let gain = f64::from(service.replica.max_sequences) * service.tokens_per_step.max(1.0);
    let prefill = service.disaggregated.map_or(0.0, |a| f64::from(a.replicas * a.replica.max_sequences));
    let capacity = (f64::from(service.replicas) * gain + prefill) / 0.01;
    prop_assert!(report.output_tokens_per_s <= capacity * (1.0 + 1e-9));
    Ok(())
}

fn mean_latency(service: &Service, scale: f64, requests: &[Request]) -> f64 {
    let time = |p: u64, x: f64, d: u64, c: u64| scale * step_s(p, x, d, c);
    simulate(service, &time, requests).unwrap().latency_s.mean
}

/// The same requests, so many times as far apart.
fn thinned(requests: &[Request], stretch: f64) -> Vec<Request> {
    requests.iter().map(|r| Request { arrival_s: r.arrival_s * stretch, ..*r }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_report_is_sound(service in service(), requests in requests()) {
        let report = simulate(&service, &step_s, &requests).unwrap();
        sound(&service, &requests, &report)?;
        prop_assert_eq!(&report, &simulate(&service, &step_s, &requests).unwrap(), "not the same again");
        // Whatever is jumped over is what single steps do: the same work, but for arrivals near a step's end.
        let stepped = simulate_by(&service, &step_s, &requests, None, 1).unwrap();
        sound(&service, &requests, &stepped)?;
        prop_assert_eq!(&report.refused, &stepped.refused);
    }

    #[test]
    fn every_closed_loop_is_sound(
        service in service(), requests in requests(), clients in 1_u32..20, think_s in 0.0..1.0_f64,
    ) {
        let report = simulate_closed_loop(&service, &step_s, &requests, clients, think_s).unwrap();
        sound(&service, &requests, &report)?;
        let present = report.mean_running + report.mean_queued;
        prop_assert!(present <= f64::from(clients) + 1e-9, "{} of {} clients", present, clients);
    }

    #[test]
    fn wild_values_give_a_report_or_an_error(
        numbers in proptest::array::uniform8(prop_oneof![Just(0), Just(1), Just(17), 2..5000_u32, Just(u32::MAX)]),
        cache_tokens in prop_oneof![0..9000_u64, Just(u64::MAX)],
        reals in proptest::array::uniform4(prop_oneof![any::<f64>(), 0.0..1e3_f64, 1.0..3.0_f64]),
        chunked: bool,
        apart: bool,
        requests in proptest::collection::vec((0.0..1e3_f64, 0..4000_u32, 0..9000_u32, 0..9_u32), 0..20),
    ) {
        let [max_sequences, max_step_tokens, block_tokens, replicas, clients, ..] = numbers;
        let [tokens_per_step, transfer_s_per_token, think_s, seconds] = reals;
        let replica = Replica { max_sequences, max_step_tokens, cache_tokens, block_tokens, chunked };
        let disaggregated = apart.then_some(Disaggregated { replica, replicas: 2, transfer_s_per_token });
        let routing = Routing::Shared;
        // A million replicas are allowed, but take memory.
        let replicas = if replicas == u32::MAX { replicas } else { replicas % 50 };
        let service = Service { replica, replicas, routing, disaggregated, tokens_per_step };
        let make = |(arrival_s, input, output, prefix)| Request { arrival_s, input, output, prefix };
        let requests: Vec<Request> = requests.into_iter().map(make).collect();
        let time = |_: u64, _: f64, _: u64, _: u64| seconds;
        if let Ok(report) = simulate(&service, &time, &requests) {
            prop_assert_eq!(report.outcomes.len() + report.refused.len(), requests.len());
        }
        let _ = simulate_closed_loop(&service, &time, &requests, clients, think_s);
        let mix = Mix {
            input: f64::from(max_step_tokens),
            output: tokens_per_step + 1.0,
            output_variation: think_s,
            prefix: transfer_s_per_token,
            tokens_per_step,
        };
        let small = Replica { max_sequences: max_sequences % 5000, ..replica };
        let _ = batching(&small, &time, &mix, think_s);
    }

    // With one sequence at a time and a shared queue a service is G/G/c: more servers, faster service and later
    // arrivals start every request no later after its arrival (Kiefer and Wolfowitz 1955), without exception.
    #[test]
    fn one_at_a_time_more_is_never_worse(
        replica in replica(), replicas in 1_u32..5, requests in requests(), better in 1.0..2.0_f64,
    ) {
        let replica = Replica { max_sequences: 1, ..replica };
        let service = Service { routing: Routing::Shared, ..Service::new(replica, replicas) };
        let mean = mean_latency(&service, 1.0, &requests) * (1.0 + 1e-9);
        let larger = Service { replicas: replicas + 1, ..service };
        prop_assert!(mean_latency(&larger, 1.0, &requests) <= mean);
        prop_assert!(mean_latency(&service, 1.0 / better, &requests) <= mean);
        prop_assert!(mean_latency(&service, 1.0, &thinned(&requests, better)) <= mean);
    }
}

proptest! {
    // The bounds are measured, not proved: the same cases every time.
    #![proptest_config(ProptestConfig { cases: 40, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    // In batches there are anomalies: who joins which step may lengthen all its neighbours' steps, and a preemption
    // more or less moves work; with few requests that shows in the mean. What is held: half as long steps never give a
    // worse mean latency; twice the replicas, or a quarter of the load, one that is worse by no more than half (in
    // 20,000 cases the worst were 1.08 and 1.39 times), and in one case in twenty at most worse by a hundredth.
    #[test]
    fn in_batches_much_more_is_hardly_ever_worse(
        cases in proptest::collection::vec((service(), requests()), 20),
    ) {
        let mut worse = 0;
        for (service, requests) in cases {
            let service = Service { routing: Routing::LeastLoaded, ..service };
            let mean = mean_latency(&service, 1.0, &requests);
            prop_assert!(mean_latency(&service, 0.5, &requests) <= mean);
            let apart = service.disaggregated.map(|a| Disaggregated { replicas: 2 * a.replicas, ..a });
            let twice = Service { replicas: 2 * service.replicas, disaggregated: apart, ..service };
            for other in [
                mean_latency(&twice, 1.0, &requests),
                mean_latency(&service, 1.0, &thinned(&requests, 4.0)),
            ] {
                prop_assert!(other <= 1.5 * mean, "{} s, not {} s", other, mean);
                worse += u32::from(other > 1.01 * mean);
            }
        }
        prop_assert!(worse <= 2, "{} of 40 are worse", worse);
    }
}

#[test]
fn loads_are_the_same_for_the_same_seed_and_streams_do_not_disturb_each_other() {
    let load = Load {
        arrivals: Arrivals::Poisson { per_s: 2.0 },
        input: Length::LogNormal { mean: 500.0, variation: 1.0 },
        output: Length::Exponential { mean: 200.0 },
        prefix: 10,
    };
    let requests = load.requests(1000, 42).unwrap();
    assert_eq!(requests, load.requests(1000, 42).unwrap());
    assert_ne!(requests, load.requests(1000, 43).unwrap());
    let even = Load { arrivals: Arrivals::Constant { per_s: 2.0 }, ..load }.requests(1000, 42).unwrap();
    assert!(requests.iter().zip(&even).all(|(a, b)| (a.input, a.output) == (b.input, b.output)));
    // Held to the last bit on every platform.
    let first = requests.first().map(|r| (r.arrival_s.to_bits(), r.input, r.output));
    assert_eq!(first, Some((4_592_065_460_184_470_991, 81, 133)));
}

#[test]
fn replicas_in_turns_are_the_same_apart_and_in_one_clock() {
    let load = Load {
        arrivals: Arrivals::Poisson { per_s: 120.0 },
        input: Length::LogNormal { mean: 100.0, variation: 1.0 },
        output: Length::LogNormal { mean: 50.0, variation: 1.0 },
        prefix: 0,
    };
    let requests = load.requests(2000, 3).unwrap();
    let replica = Replica {
        max_sequences: 30,
        max_step_tokens: 200,
        cache_tokens: 3000,
        block_tokens: 16,
        chunked: true,
    };
    let service = Service { routing: Routing::RoundRobin, ..Service::new(replica, 3) };
    let apart = simulate(&service, &step_s, &requests).unwrap();
    let together = play(&service, &step_s, &requests, None, u64::MAX).unwrap();
    assert!(apart.preemptions > 0 && apart.refused.is_empty());
    for (outcome, times) in apart.outcomes.iter().zip(&together.times) {
        assert_eq!(outcome.latency_s, times.finished - times.arrival);
        assert_eq!(outcome.ttft_s, times.first_token - times.arrival);
    }
}

#[test]
fn wrong_loads_are_named() {
    let fine = Load {
        arrivals: Arrivals::Poisson { per_s: 2.0 },
        input: Length::Fixed(5),
        output: Length::Fixed(5),
        prefix: 0,
    };
    for (load, said) in [
        (Load { arrivals: Arrivals::Constant { per_s: 0.0 }, ..fine }, "arrivals: per_s is 0"),
        (
            Load { arrivals: Arrivals::Gamma { per_s: 1.0, variation: f64::NAN }, ..fine },
            "arrivals: variation is NaN",
        ),
        (Load { input: Length::Fixed(0), ..fine }, "input: length is 0"),
        (Load { output: Length::Exponential { mean: -1.0 }, ..fine }, "output: mean is -1"),
        (
            Load { output: Length::LogNormal { mean: 1.0, variation: -1.0 }, ..fine },
            "output: variation is -1",
        ),
    ] {
        let error = load.requests(1, 1).unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
}
