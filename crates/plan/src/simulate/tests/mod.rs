//! `by_hand`: small services, worked out on paper · `queues`: agreement with queueing theory · `batches`: agreement
//! with the closed form of continuous batching · `properties`: what holds for every service and load.

mod batches;
mod by_hand;
mod properties;
mod queues;

use super::{Replica, Request};

/// A replica with room for everything.
fn ample() -> Replica {
    Replica {
        max_sequences: 1000,
        max_step_tokens: 1_000_000,
        cache_tokens: 100_000_000,
        block_tokens: 16,
        chunked: true,
    }
}

fn request(arrival_s: f64, input: u32, output: u32) -> Request {
    Request { arrival_s, input, output, prefix: 0 }
}

/// Asserts that two numbers are near by a share of the second.
#[track_caller]
fn near(what: &str, found: f64, known: f64, share: f64) {
    assert!((found - known).abs() <= share * known.abs(), "{what}: {found}, not {known} within {share}");
}
