//! What a simulation gives.

use thiserror::Error;

/// A distribution in short, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// How many values there are. Where there is none, all else is 0.
    pub count: usize,
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// Nine in ten are no more.
    pub p90: f64,
    /// 95 in 100 are no more.
    pub p95: f64,
    /// 99 in 100 are no more.
    pub p99: f64,
    /// The most.
    pub max: f64,
}

impl Summary {
    /// Of any values. A percentile p of n values is the ⌈p·n/100⌉-th smallest (nearest rank).
    pub fn of(values: impl IntoIterator<Item = f64>) -> Summary {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let count = values.len();
        let Some(&max) = values.last() else { return Summary::default() };
        let rank = |percent: usize| {
            let index = (count * percent).div_ceil(100).saturating_sub(1);
            values.get(index).copied().unwrap_or(max)
        };
        Summary {
            count,
            mean: values.iter().sum::<f64>() / count as f64,
            p50: rank(50),
            p90: rank(90),
            p95: rank(95),
            p99: rank(99),
            max,
        }
    }
}

/// What became of one request that was served.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Its place among the requests given.
    pub request: usize,
    /// When it arrived, in seconds of the simulation's clock.
    pub arrival_s: f64,
    /// Seconds from its arrival until a replica first admitted it.
    pub waiting_s: f64,
    /// Seconds from its arrival to its first token (TTFT).
    pub ttft_s: f64,
    /// Mean seconds per token after the first (TPOT); none where there is but one token.
    pub tpot_s: Option<f64>,
    /// Seconds from its arrival to its last token.
    pub latency_s: f64,
    /// How often it was preempted.
    pub preemptions: u32,
}

/// A request that the service can never serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its place among the requests given.
    pub request: usize,
    /// Why.
    pub reason: Reason,
}

/// Why a request can never be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The fields are named in each variant's message.
pub enum Reason {
    /// It alone is more than the cache.
    #[error("it needs {needed} blocks of cache and a replica has {blocks}")]
    Cache { needed: u64, blocks: u64 },
    /// Its prompt is more than a step, and prompts are not prefilled in chunks.
    #[error("its prompt of {tokens} tokens is more than the {max_step_tokens} of a step, and is not chunked")]
    Prompt { tokens: u32, max_step_tokens: u32 },
}

/// What users and the service saw. Every mean over time and every rate is over `duration_s`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The served requests, in the order given.
    pub outcomes: Vec<Outcome>,
    /// The refused requests, in the order given.
    pub refused: Vec<Refused>,
    /// Seconds from the first arrival to the last token.
    pub duration_s: f64,
    /// Time from arrival to first admission.
    pub waiting_s: Summary,
    /// Time from arrival to first token.
    pub ttft_s: Summary,
    /// Time per output token after the first, of requests with more than one.
    pub tpot_s: Summary,
    /// Time from arrival to last token.
    pub latency_s: Summary,
    /// Tokens answered a second.
    pub output_tokens_per_s: f64,
    /// Prompt tokens a second of the served requests, cached prefixes included.
    pub input_tokens_per_s: f64,
    /// Mean sequences on replicas.
    pub mean_running: f64,
    /// Mean requests that wait for a replica or, where prefill is apart, are moved between replicas.
    pub mean_queued: f64,
    /// Mean share of the replicas' cache blocks that is in use (of those that decode, where prefill is apart).
    pub cache_share: f64,
    /// The most of one replica's cache that was ever in use, as a share.
    pub peak_cache_share: f64,
    /// Sequences thrown out for want of cache and computed again.
    pub preemptions: u64,
    /// Mean share of time in which a replica (one that decodes, where prefill is apart) computes.
    pub busy_share: f64,
    /// The same of the prefill replicas, where prefill is apart.
    pub prefill_busy_share: Option<f64>,
    /// Steps of all replicas.
    pub steps: u64,
}

impl Report {
    /// Share of all requests, refused ones included, whose time to first token and time per output token are no more
    /// than the targets, in seconds: goodput over throughput (DistServe). Answers of one token meet any TPOT.
    pub fn share_within(&self, ttft_s: f64, tpot_s: f64) -> f64 {
        let all = self.outcomes.len() + self.refused.len();
        let good = |o: &&Outcome| o.ttft_s <= ttft_s && o.tpot_s.is_none_or(|per_token| per_token <= tpot_s);
        if all == 0 { 0.0 } else { self.outcomes.iter().filter(good).count() as f64 / all as f64 }
    }

    /// Requests a second that meet the targets: [`Report::share_within`] times the rate of all requests.
    pub fn goodput(&self, ttft_s: f64, tpot_s: f64) -> f64 {
        let all = (self.outcomes.len() + self.refused.len()) as f64;
        if self.duration_s > 0.0 { self.share_within(ttft_s, tpot_s) * all / self.duration_s } else { 0.0 }
    }
}
