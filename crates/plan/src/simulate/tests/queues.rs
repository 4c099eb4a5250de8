//! With one sequence at a time a replica is a textbook server.

use super::{ample, near};
use crate::simulate::closed_form::{Queue, mg1, mm1, mmc};
use crate::simulate::{Arrivals, Length, Load, Replica, Report, Routing, Service, simulate};

const TOKEN_S: f64 = 1e-4;

/// Serves prompts of a length distribution, one after the other, for an answer of one token each.
fn serve(per_s: f64, input: Length, replicas: u32, seed: u64) -> Report {
    let load = Load { arrivals: Arrivals::Poisson { per_s }, input, output: Length::Fixed(1), prefix: 0 };
    let requests = load.requests(200_000, seed).unwrap();
    let replica = Replica { max_sequences: 1, chunked: false, ..ample() };
    let service = Service { routing: Routing::Shared, ..Service::new(replica, replicas) };
    simulate(&service, &|tokens: u64, _: f64, _: u64, _: u64| tokens as f64 * TOKEN_S, &requests).unwrap()
}

/// Mean wait and three standard errors of it, by the means of 20 batches (99.3 % of Student's t with 19 degrees).
fn wait(report: &Report) -> (f64, f64) {
    let waits: Vec<f64> = report.outcomes.iter().map(|o| o.waiting_s).collect();
    let means: Vec<f64> =
        waits.chunks(waits.len() / 20).map(|b| b.iter().sum::<f64>() / b.len() as f64).collect();
    let mean = means.iter().sum::<f64>() / 20.0;
    let variance = means.iter().map(|m| (m - mean) * (m - mean)).sum::<f64>() / 19.0;
    (mean, 3.0 * (variance / 20.0).sqrt())
}

#[track_caller]
fn agrees(report: &Report, queue: Queue) {
    let (mean, interval) = wait(report);
    assert!((mean - queue.wait_s).abs() < interval, "wait {mean} ± {interval}, not {}", queue.wait_s);
    assert!(interval < 0.2 * queue.wait_s, "the interval {interval} of {mean} says nothing");
    near("utilisation", report.busy_share, queue.utilisation, 0.02);
    let waiting = report.outcomes.iter().filter(|o| o.waiting_s > 0.0).count() as f64 / 200_000.0;
    near("share waiting", waiting, queue.share_waiting, 0.03);
    near("queued", report.mean_queued, queue.mean_queued, 0.12);
    near("present", report.mean_queued + report.mean_running, queue.mean_present, 0.08);
}

#[test]
fn exponential_service_is_m_m_1() {
    for (per_s, seed) in [(0.3, 1), (0.6, 2), (0.8, 3)] {
        agrees(&serve(per_s, Length::Exponential { mean: 10_000.0 }, 1, seed), mm1(per_s, 1.0).unwrap());
    }
}

#[test]
fn other_services_are_m_g_1() {
    for (per_s, seed) in [(0.3, 4), (0.6, 5), (0.8, 6)] {
        agrees(&serve(per_s, Length::Fixed(10_000), 1, seed), mg1(per_s, 1.0, 0.0).unwrap());
        let spread = Length::LogNormal { mean: 10_000.0, variation: 1.3 };
        agrees(&serve(per_s, spread, 1, seed), mg1(per_s, 1.0, 1.3).unwrap());
    }
}

#[test]
fn answers_of_many_tokens_are_m_g_1() {
    // Each token takes a step of 10 ms, the first as the others: the service takes geometrically many.
    let (mean, step_s) = (50.0_f64, 0.01);
    let end = 1.0 - (-1.0 / mean).exp();
    let (service_s, variation) = (step_s / end, (1.0 - end).sqrt());
    let load = Load {
        arrivals: Arrivals::Poisson { per_s: 0.6 / service_s },
        input: Length::Fixed(20),
        output: Length::Exponential { mean },
        prefix: 0,
    };
    for chunked in [false, true] {
        let replica = Replica { max_sequences: 1, chunked, ..ample() };
        let requests = load.requests(200_000, 7).unwrap();
        let constant = |_: u64, _: f64, _: u64, _: u64| step_s;
        let report = simulate(&Service::new(replica, 1), &constant, &requests).unwrap();
        agrees(&report, mg1(0.6 / service_s, service_s, variation).unwrap());
    }
}

#[test]
fn a_shared_queue_is_m_m_c() {
    for (servers, utilisation, seed) in [(2, 0.6, 8), (4, 0.8, 9), (8, 0.8, 10)] {
        let per_s = utilisation * f64::from(servers);
        let report = serve(per_s, Length::Exponential { mean: 10_000.0 }, servers, seed);
        agrees(&report, mmc(per_s, 1.0, servers).unwrap());
    }
}
