//! Prints how long 100,000 requests take to simulate: an hour at 28 requests a second, on 16 replicas.
//!
//! ```sh
//! cargo run --release -p autarky-plan --example simulate_speed
//! ```

use std::error::Error;
use std::time::Instant;

use autarky_plan::simulate::{Arrivals, Length, Load, Replica, Routing, Service, simulate};

/// Weights that are read once a step, keys and values that are read besides, and the sums of each token.
fn step_s(prefill_tokens: u64, prefill_context: f64, decoding: u64, cached_tokens: u64) -> f64 {
    let tokens = (prefill_tokens + decoding) as f64;
    let pairs = prefill_tokens as f64 * prefill_context;
    let compute = (tokens * 140e9 + (pairs + cached_tokens as f64) * 2.6e6) / 2e15;
    let memory = (70e9 + cached_tokens as f64 * 164e3) / 6e12;
    compute.max(memory) + 2e-3
}

fn main() -> Result<(), Box<dyn Error>> {
    let load = Load {
        arrivals: Arrivals::Poisson { per_s: 28.0 },
        input: Length::LogNormal { mean: 500.0, variation: 1.0 },
        output: Length::LogNormal { mean: 200.0, variation: 1.0 },
        prefix: 0,
    };
    let requests = load.requests(100_000, 1)?;
    for (load, replicas) in [("light", 16), ("heavy", 1)] {
        for chunked in [true, false] {
            for routing in [Routing::LeastLoaded, Routing::RoundRobin, Routing::Shared] {
                let replica = Replica {
                    max_sequences: 256,
                    max_step_tokens: 8192,
                    cache_tokens: 400_000,
                    block_tokens: 16,
                    chunked,
                };
                let service = Service { routing, ..Service::new(replica, replicas) };
                let start = Instant::now();
                let report = simulate(&service, &step_s, &requests)?;
                let seconds = start.elapsed().as_secs_f64();
                println!(
                    "{load} chunked {chunked:5} {routing:?}: {seconds:.3} s for {} steps; TTFT p50 {:.1} ms, p99 {:.1} ms, \
                     TPOT {:.2} ms, {:.0} tokens/s, {:.1} sequences, {:.0} % busy",
                    report.steps,
                    report.ttft_s.p50 * 1e3,
                    report.ttft_s.p99 * 1e3,
                    report.tpot_s.mean * 1e3,
                    report.output_tokens_per_s,
                    report.mean_running,
                    report.busy_share * 100.0,
                );
            }
        }
    }
    Ok(())
}
