//! Checks what is given, plays it, on several threads where replicas do not depend on each other, and reports.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::error::{SimulateError, at_least_one, not_negative};
use super::events::{Clients, Played, play};
use super::load::Request;
use super::report::{Outcome, Refused, Report, Summary};
use super::server::Totals;
use super::service::{Routing, Service};
use super::step::StepTime;

/// Plays requests that come at their times against a service, and reports what users and the service saw.
///
/// The requests may be in any order; those that arrive at one time are taken in the order given. The same arguments
/// give the same report, on any number of threads.
///
/// # Errors
///
/// Where a field of the service or of a request cannot be, there is no request, or a step time is not positive.
pub fn simulate<S: StepTime + ?Sized>(
    service: &Service,
    time: &S,
    requests: &[Request],
) -> Result<Report, SimulateError> {
    simulate_by(service, time, requests, None, u64::MAX)
}

/// The same for a closed loop: `clients` send the requests in the order given, each its next one `think_s` seconds
/// after the answer to its last, and all their first at time 0. The requests' times are ignored.
///
/// # Errors
///
/// As [`simulate`], and where `clients` is 0 or `think_s` is no time.
pub fn simulate_closed_loop<S: StepTime + ?Sized>(
    service: &Service,
    time: &S,
    requests: &[Request],
    clients: u32,
    think_s: f64,
) -> Result<Report, SimulateError> {
    at_least_one("closed loop", "clients", clients)?;
    not_negative("closed loop", "think_s", think_s)?;
    simulate_by(service, time, requests, Some(Clients { count: clients, think_s }), u64::MAX)
}

/// The same with at most `longest` decode steps taken at once.
pub(super) fn simulate_by<S: StepTime + ?Sized>(
    service: &Service,
    time: &S,
    requests: &[Request],
    clients: Option<Clients>,
    longest: u64,
) -> Result<Report, SimulateError> {
    service.check()?;
    if requests.is_empty() {
        return Err(SimulateError::NoRequests);
    }
    let mut served = Vec::with_capacity(requests.len());
    let mut refused = Vec::new();
    for (index, request) in requests.iter().enumerate() {
        request.check(index)?;
        match service.refuses(request) {
            Some(reason) => refused.push(Refused { request: index, reason }),
            None => served.push((index, *request)),
        }
    }
    if clients.is_none() {
        served.sort_by(|(_, a), (_, b)| a.arrival_s.total_cmp(&b.arrival_s));
    }
    let independent = clients.is_none()
        && service.routing == Routing::RoundRobin
        && service.disaggregated.is_none()
        && service.replicas > 1;
    let parts = if independent { service.replicas as usize } else { 1 };
    let part = |number: usize| {
        let (order, requests): (Vec<usize>, Vec<Request>) =
            served.iter().skip(number).step_by(parts).copied().unzip();
        let service = Service { replicas: service.replicas / parts as u32, ..*service };
        Ok((order, play(&service, time, &requests, clients, longest)?))
    };
    let played = in_parallel(parts, part)?;
    Ok(report(service, requests, refused, &played))
}

/// What `part` gives for each number below `parts`, in their order.
fn in_parallel<T: Send>(
    parts: usize,
    part: impl Fn(usize) -> Result<T, SimulateError> + Sync,
) -> Result<Vec<T>, SimulateError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(parts);
    if threads <= 1 {
        return (0..parts).map(part).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= parts {
                return done;
            }
            done.push((number, part(number)));
        }
    };
    let mut all: Vec<_> = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mine = work();
        let theirs = helpers.into_iter().flat_map(|helper| match helper.join() {
            Ok(done) => done,
            // A step time that panics does so here, too.
            Err(panic) => std::panic::resume_unwind(panic),
        });
        mine.into_iter().chain(theirs).collect()
    });
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, result)| result).collect()
}

fn report(
    service: &Service,
    requests: &[Request],
    refused: Vec<Refused>,
    played: &[(Vec<usize>, Played)],
) -> Report {
    let mut outcomes = Vec::with_capacity(requests.len());
    let (mut start, mut end) = (f64::INFINITY, 0.0_f64);
    let (mut input, mut output) = (0_u64, 0_u64);
    for (index, times) in played.iter().flat_map(|(order, played)| order.iter().zip(&played.times)) {
        let Some(request) = requests.get(*index) else { continue };
        start = start.min(times.arrival);
        end = end.max(times.finished);
        input += u64::from(request.input);
        output += u64::from(request.output);
        let after_first = f64::from(request.output - 1);
        outcomes.push(Outcome {
            request: *index,
            arrival_s: times.arrival,
            waiting_s: times.admitted.unwrap_or(times.finished) - times.arrival,
            ttft_s: times.first_token - times.arrival,
            tpot_s: (request.output > 1).then(|| (times.finished - times.first_token) / after_first),
            latency_s: times.finished - times.arrival,
            preemptions: times.preemptions,
        });
    }
    outcomes.sort_unstable_by_key(|outcome| outcome.request);
    let duration_s = (end - start).max(0.0);
    let per_s = |amount: f64| if duration_s > 0.0 { amount / duration_s } else { 0.0 };
    let sum = |value: fn(&Played) -> f64| played.iter().map(|(_, played)| value(played)).sum::<f64>();
    let of_all = |pool: fn(&Played) -> &[Totals], value: fn(&Totals) -> f64| {
        played.iter().flat_map(|(_, played)| pool(played)).map(value).sum::<f64>()
    };
    let all = || played.iter().flat_map(|(_, played)| played.decode.iter().chain(&played.prefill));
    let replicas = f64::from(service.replicas);
    let blocks = service.replica.blocks().max(1) as f64;
    let peak = played.iter().flat_map(|(_, played)| &played.decode).map(|totals| totals.peak_blocks).max();
    Report {
        duration_s,
        waiting_s: Summary::of(outcomes.iter().map(|o| o.waiting_s)),
        ttft_s: Summary::of(outcomes.iter().map(|o| o.ttft_s)),
        tpot_s: Summary::of(outcomes.iter().filter_map(|o| o.tpot_s)),
        latency_s: Summary::of(outcomes.iter().map(|o| o.latency_s)),
        output_tokens_per_s: per_s(output as f64),
        input_tokens_per_s: per_s(input as f64),
        mean_running: per_s(sum(|played| played.running_s)),
        mean_queued: per_s(sum(|played| played.queued_s)),
        cache_share: per_s(of_all(|played| &played.decode, |totals| totals.block_s)) / (blocks * replicas),
        peak_cache_share: peak.unwrap_or(0) as f64 / blocks,
        preemptions: outcomes.iter().map(|o| u64::from(o.preemptions)).sum(),
        busy_share: per_s(of_all(|played| &played.decode, |totals| totals.busy_s)) / replicas,
        prefill_busy_share: service.disaggregated.map(|apart| {
            per_s(of_all(|played| &played.prefill, |totals| totals.busy_s)) / f64::from(apart.replicas)
        }),
        steps: all().map(|totals| totals.steps).sum(),
        outcomes,
        refused,
    }
}
