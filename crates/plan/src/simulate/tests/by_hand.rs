//! Small services, worked out on paper.

use super::{ample, request};
use crate::simulate::{
    Disaggregated, Reason, Replica, Report, Request, Routing, Service, SimulateError, Summary, simulate,
    simulate_closed_loop,
};

/// 10 ms a prefilled token and a second for decoding, however many.
fn paper(prefill: u64, _: f64, decoding: u64, _: u64) -> f64 {
    prefill as f64 * 0.01 + if decoding > 0 { 1.0 } else { 0.0 }
}

fn play(service: &Service, requests: &[Request]) -> Report {
    simulate(service, &paper, requests).unwrap()
}

#[track_caller]
fn is(found: impl IntoIterator<Item = f64>, known: &[f64]) {
    let found: Vec<f64> = found.into_iter().collect();
    let same = found.len() == known.len() && found.iter().zip(known).all(|(a, b)| (a - b).abs() < 1e-9);
    assert!(same, "{found:?}, not {known:?}");
}

fn ttfts(report: &Report) -> impl Iterator<Item = f64> {
    report.outcomes.iter().map(|o| o.ttft_s)
}

fn latencies(report: &Report) -> impl Iterator<Item = f64> {
    report.outcomes.iter().map(|o| o.latency_s)
}

#[test]
fn one_request_takes_its_prompt_and_a_step_a_token() {
    let report = play(&Service::new(ample(), 1), &[request(5.0, 100, 4)]);
    is(ttfts(&report), &[1.0]);
    is(latencies(&report), &[4.0]);
    let tokens = [report.duration_s, report.output_tokens_per_s, report.input_tokens_per_s];
    is(
        tokens.into_iter().chain([report.tpot_s.p99, report.busy_share, report.mean_running]),
        &[4.0, 1.0, 25.0, 1.0, 1.0, 1.0],
    );
    assert_eq!(report.steps, 4);
}

#[test]
fn a_request_joins_at_the_end_of_the_step_under_way() {
    // The first decodes from 1 s; the second comes at 2.5 s, and enters at 3 s into a step of both, of 2 s.
    let requests = [request(0.0, 100, 6), request(2.5, 100, 2)];
    let report = play(&Service::new(ample(), 1), &requests);
    is(ttfts(&report), &[1.0, 2.5]);
    is(latencies(&report), &[7.0, 3.5]);
    is(report.outcomes.iter().map(|o| o.waiting_s), &[0.0, 0.5]);
    // Not chunked: the second's prompt has a step of its own, of 1 s, and the first waits.
    let report = play(&Service::new(Replica { chunked: false, ..ample() }, 1), &requests);
    is(ttfts(&report), &[1.0, 1.5]);
    is(latencies(&report), &[7.0, 2.5]);
}

#[test]
fn prompts_are_cut_into_the_steps_budget() {
    let replica = Replica { max_sequences: 2, max_step_tokens: 41, ..ample() };
    // Steps of 41 and 41 and 18+23 tokens, and then 1 decode beside 40 and 1 beside 37 of the second prompt.
    let report = play(&Service::new(replica, 1), &[request(0.0, 100, 4), request(0.0, 100, 1)]);
    is(ttfts(&report), &[1.23, 1.23 + 1.4 + 1.37]);
    is(latencies(&report), &[1.23 + 1.4 + 1.37 + 1.0, 1.23 + 1.4 + 1.37]);
}

#[test]
fn cached_prefixes_are_not_prefilled_but_for_a_last_token() {
    let cached = |prefix| Request { prefix, ..request(0.0, 100, 1) };
    for (prefix, ttft_s) in [(0, 1.0), (60, 0.4), (99, 0.01), (100, 0.01)] {
        is(ttfts(&play(&Service::new(ample(), 1), &[cached(prefix)])), &[ttft_s]);
    }
}

#[test]
fn speculation_divides_the_steps() {
    let service = Service { tokens_per_step: 2.5, ..Service::new(ample(), 1) };
    // 10 tokens after the first are 4 steps, 11 are 5.
    is(latencies(&play(&service, &[request(0.0, 100, 11)])), &[5.0]);
    is(latencies(&play(&service, &[request(0.0, 100, 12)])), &[6.0]);
}

#[test]
fn the_youngest_is_preempted_and_computed_again() {
    // Four blocks of 10 tokens: prompts of 15 take two each, and hold until both have 20 tokens. Then the second goes,
    // with 6 tokens answered, and comes back when the first is done: 21 tokens are prefilled.
    let replica = Replica { cache_tokens: 40, block_tokens: 10, ..ample() };
    let report = play(&Service::new(replica, 1), &[request(0.0, 15, 10), request(0.0, 15, 10)]);
    assert_eq!(report.preemptions, 1);
    assert_eq!(report.outcomes[1].preemptions, 1);
    // Prompts 0.3 s, five steps of both, four of the first.
    is(ttfts(&report), &[0.3, 0.3]);
    // The prefill of 0.21 s gives the seventh token, three steps the rest.
    is(latencies(&report), &[9.3, 9.3 + 0.21 + 3.0]);
    is([report.peak_cache_share], &[1.0]);
}

#[test]
fn a_queue_is_first_come_first_served_even_past_a_large_head() {
    let replica = Replica { cache_tokens: 100, block_tokens: 10, ..ample() };
    let requests = [request(0.0, 60, 2), request(0.1, 80, 1), request(0.2, 10, 1)];
    let report = play(&Service::new(replica, 1), &requests);
    // The last would fit beside the first, but waits with the second until 1.6 s; both are then prefilled at once.
    is(report.outcomes.iter().map(|o| o.waiting_s), &[0.0, 1.5, 1.4]);
}

#[test]
fn prefill_apart_moves_sequences_to_those_that_decode() {
    let apart = Disaggregated { replica: ample(), replicas: 1, transfer_s_per_token: 0.02 };
    let service = Service { disaggregated: Some(apart), ..Service::new(ample(), 1) };
    let report = play(&service, &[request(0.0, 100, 4), request(0.5, 50, 1)]);
    // Prefill 1 s, move 2 s, three steps; the second's prompt waits for the first's and needs no move.
    is(ttfts(&report), &[1.0, 1.0]);
    is(latencies(&report), &[6.0, 1.0]);
    is([report.prefill_busy_share.unwrap(), report.busy_share], &[1.5 / 6.0, 0.5]);
    is([report.mean_running, report.mean_queued], &[(1.0 + 0.5 + 3.0) / 6.0, (2.0 + 0.5) / 6.0]);
}

#[test]
fn routing_spreads_requests() {
    let replica = Replica { max_sequences: 1, ..ample() };
    let requests = [request(0.0, 100, 3), request(0.0, 100, 1), request(0.0, 100, 1), request(0.0, 100, 1)];
    for (routing, known) in [
        // All at once: two each, however short they are.
        (Routing::LeastLoaded, [3.0, 1.0, 4.0, 2.0]),
        (Routing::RoundRobin, [3.0, 1.0, 4.0, 2.0]),
        (Routing::Shared, [3.0, 1.0, 2.0, 3.0]),
    ] {
        is(latencies(&play(&Service { routing, ..Service::new(replica, 2) }, &requests)), &known);
    }
}

#[test]
fn a_closed_loop_keeps_its_clients() {
    let requests = vec![request(0.0, 100, 3); 20];
    let report = simulate_closed_loop(&Service::new(ample(), 1), &paper, &requests, 1, 2.0).unwrap();
    // N = X·(R + Z): one client, 3 s of answer and 2 s of thought, the last thought not waited for.
    is([report.duration_s, report.latency_s.max], &[20.0 * 5.0 - 2.0, 3.0]);
    let report = simulate_closed_loop(&Service::new(ample(), 1), &paper, &requests, 4, 0.0).unwrap();
    is([report.mean_running], &[4.0]);
}

#[test]
fn what_can_never_fit_is_refused_with_a_reason() {
    let replica =
        Replica { cache_tokens: 105, block_tokens: 10, max_step_tokens: 80, chunked: false, ..ample() };
    let requests = [request(0.0, 60, 41), request(0.0, 60, 42), request(0.0, 81, 1), request(9.0, 20, 1)];
    let report = play(&Service::new(replica, 1), &requests);
    let reasons: Vec<_> = report.refused.iter().map(|r| (r.request, r.reason)).collect();
    let prompt = Reason::Prompt { tokens: 81, max_step_tokens: 80 };
    assert_eq!(reasons, [(1, Reason::Cache { needed: 11, blocks: 10 }), (2, prompt)]);
    assert_eq!(report.outcomes.iter().map(|o| o.request).collect::<Vec<_>>(), [0, 3]);
    // The last comes at 9 s, in the middle of a step, and is prefilled when it ends.
    is([report.share_within(1.2, 2.0), report.share_within(0.6, 2.0)], &[0.5, 0.25]);
    let all = play(&Service::new(replica, 1), &[request(0.0, 90, 1)]);
    assert_eq!((all.outcomes.len(), all.latency_s, all.output_tokens_per_s), (0, Summary::default(), 0.0));
}

#[test]
fn wrong_values_are_named() {
    let fine = Service::new(ample(), 1);
    let one = [request(0.0, 10, 10)];
    let with = |replica| Service::new(replica, 1);
    let apart = |transfer_s_per_token, replicas| Service {
        disaggregated: Some(Disaggregated { replica: ample(), replicas, transfer_s_per_token }),
        ..fine
    };
    for (service, said) in [
        (with(Replica { max_sequences: 0, ..ample() }), "replica: max_sequences is 0"),
        (with(Replica { max_step_tokens: 0, ..ample() }), "replica: max_step_tokens is 0"),
        (with(Replica { max_step_tokens: 999, ..ample() }), "replica: max_step_tokens is 999"),
        (with(Replica { cache_tokens: 0, ..ample() }), "replica: cache_tokens is 0"),
        (with(Replica { block_tokens: 0, ..ample() }), "replica: block_tokens is 0"),
        (Service { replicas: 0, ..fine }, "service: replicas is 0"),
        (Service { replicas: u32::MAX, ..fine }, "service: replicas is 4294967295"),
        (Service { tokens_per_step: 0.5, ..fine }, "service: tokens_per_step is 0.5"),
        (Service { tokens_per_step: f64::NAN, ..fine }, "service: tokens_per_step is NaN"),
        (apart(-1.0, 1), "disaggregated: transfer_s_per_token is -1"),
        (apart(0.0, 0), "disaggregated: replicas is 0"),
    ] {
        let error = simulate(&service, &paper, &one).unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
    for (wrong, said) in [
        (request(f64::NAN, 1, 1), "request 0: arrival_s is NaN"),
        (request(-1.0, 1, 1), "request 0: arrival_s is -1"),
        (request(0.0, 0, 1), "request 0: input is 0"),
        (request(0.0, 1, 0), "request 0: output is 0"),
        (Request { prefix: 2, ..request(0.0, 1, 1) }, "request 0: prefix is 2"),
    ] {
        let error = simulate(&fine, &paper, &[wrong]).unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
    assert_eq!(simulate(&fine, &paper, &[]), Err(SimulateError::NoRequests));
    for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = simulate(&fine, &|_: u64, _: f64, _: u64, _: u64| seconds, &one).unwrap_err();
        assert!(matches!(error, SimulateError::StepTime { prefill_tokens: 10, .. }), "{error}");
    }
    let closed = |clients, think_s| simulate_closed_loop(&fine, &paper, &one, clients, think_s);
    assert!(closed(0, 0.0).unwrap_err().to_string().contains("clients is 0"));
    assert!(closed(1, f64::NAN).unwrap_err().to_string().contains("think_s is NaN"));
}

#[test]
fn percentiles_are_nearest_ranks() {
    let summary = Summary::of((1..=200).rev().map(f64::from));
    let found = [summary.mean, summary.p50, summary.p90, summary.p95, summary.p99, summary.max];
    is(found, &[100.5, 100.0, 180.0, 190.0, 198.0, 200.0]);
    is([Summary::of([7.0]).p50, Summary::of([7.0]).p99], &[7.0, 7.0]);
}
