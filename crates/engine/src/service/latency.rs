//! How long jobs took, in counts by duration.

use std::time::Duration;

/// Upper bounds of the counts, in seconds; a last count takes everything above.
pub const BOUNDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Durations, counted by [`BOUNDS`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Histogram {
    /// How many lay at or below each bound and above the one before; the last: above all.
    pub counts: [u64; BOUNDS.len() + 1],
    /// Their sum in seconds.
    pub sum: f64,
}

impl Histogram {
    /// Counts `duration`, `times` times.
    pub(super) fn add(&mut self, duration: Duration, times: u64) {
        let seconds = duration.as_secs_f64();
        let place = BOUNDS.iter().position(|&bound| seconds <= bound).unwrap_or(BOUNDS.len());
        self.counts[place] += times;
        self.sum += seconds * times as f64;
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Durations of the jobs that ended well.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latencies {
    /// From submission to when computing began.
    pub queue: Histogram,
    /// From submission to the first token.
    pub first_token: Histogram,
    /// From a token to the next, on average of each job.
    pub per_token: Histogram,
}

impl Latencies {
    pub(super) fn add(&mut self, usage: &super::Usage) {
        self.queue.add(usage.waited, 1);
        self.first_token.add(usage.waited + usage.prefill, 1);
        if let Some(later) =
            u32::try_from(usage.generated).ok().and_then(|n| n.checked_sub(1)).filter(|n| *n > 0)
        {
            self.per_token.add(usage.decode / later, u64::from(later));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_under_the_first_bound_that_holds_them() {
        let mut h = Histogram::default();
        h.add(Duration::from_millis(1), 2);
        h.add(Duration::from_millis(2), 1);
        h.add(Duration::from_secs(1000), 1);
        assert_eq!((h.counts[0], h.counts[1], h.counts[16], h.count()), (2, 1, 1, 4));
        assert!((h.sum - 1000.004).abs() < 1e-9);
    }
}
