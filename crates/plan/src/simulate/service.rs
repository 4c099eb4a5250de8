//! The service: replicas, and how requests get to them.

use super::error::{SimulateError, at_least_one, field, not_negative};
use super::load::Request;
use super::report::Reason;

/// One replica: an engine that batches continuously.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Sequences that run at once at most.
    pub max_sequences: u32,
    /// Tokens of a step at most, decoded ones (one a sequence) and prefilled ones together. Not chunked: tokens of the
    /// prompts that one step prefills, and thus of the longest prompt.
    pub max_step_tokens: u32,
    /// Tokens that the KV cache holds.
    pub cache_tokens: u64,
    /// Tokens of a block, by which the cache is given out.
    pub block_tokens: u32,
    /// Whether prompts are prefilled in chunks beside decodes (Sarathi-Serve). If not, whole prompts are prefilled in
    /// steps of their own, before any decode.
    pub chunked: bool,
}

/// More replicas than any service has.
const MOST_REPLICAS: u32 = 1 << 20;

/// Which replica a request goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Routing {
    /// At its arrival, to the replica with the fewest unfinished requests (the first of them).
    #[default]
    LeastLoaded,
    /// In turns, whatever their load: the replicas do not depend on each other, and are simulated on all cores.
    RoundRobin,
    /// All wait in one queue, and go to a replica with room.
    Shared,
}

/// Prefill on replicas of its own, as in Zhong et al., "DistServe", OSDI 2024.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disaggregated {
    /// Each prefill replica. It prefills and gives the first token.
    pub replica: Replica,
    /// Number of prefill replicas, at least 1.
    pub replicas: u32,
    /// Seconds to move one token's keys and values to the replica that decodes. Transfers do not slow each other; the
    /// prefill replica keeps the blocks until the transfer's end.
    pub transfer_s_per_token: f64,
}

/// A service of replicas that are alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Service {
    /// Each replica.
    pub replica: Replica,
    /// Number of replicas, at least 1.
    pub replicas: u32,
    /// Which replica a request goes to; with `disaggregated`, which prefill replica (decoding ones by least load).
    pub routing: Routing,
    /// Whether other replicas prefill.
    pub disaggregated: Option<Disaggregated>,
    /// Mean tokens that a sequence gains by a decode step: 1, or more with speculation. Every step gains the mean.
    pub tokens_per_step: f64,
}

impl Service {
    /// A service of `replicas` that route by least load, without speculation or disaggregation.
    pub fn new(replica: Replica, replicas: u32) -> Service {
        Service { replica, replicas, routing: Routing::default(), disaggregated: None, tokens_per_step: 1.0 }
    }

    /// Checks every field.
    ///
    /// # Errors
    ///
    /// With the first field that cannot be.
    pub fn check(&self) -> Result<(), SimulateError> {
        self.replica.check("replica")?;
        count_of_replicas("service", self.replicas)?;
        if !(self.tokens_per_step.is_finite() && self.tokens_per_step >= 1.0) {
            return Err(field("service", "tokens_per_step", self.tokens_per_step, "finite and at least 1"));
        }
        if let Some(apart) = &self.disaggregated {
            apart.replica.check("prefill replica")?;
            count_of_replicas("disaggregated", apart.replicas)?;
            not_negative("disaggregated", "transfer_s_per_token", apart.transfer_s_per_token)?;
        }
        Ok(())
    }

    /// Why a request can never be served, if so.
    pub(super) fn refuses(&self, request: &Request) -> Option<Reason> {
        let whole = request.most_tokens();
        match &self.disaggregated {
            None => self.replica.refuses(request, whole),
            Some(apart) => apart.replica.refuses(request, request.input.into()).or_else(|| {
                // A decoding replica prefills only what it preempted.
                self.replica.lacks_cache(whole)
            }),
        }
    }
}

fn count_of_replicas(place: &str, replicas: u32) -> Result<(), SimulateError> {
    at_least_one(place, "replicas", replicas)?;
    if replicas > MOST_REPLICAS { Err(field(place, "replicas", replicas, "at most 1048576")) } else { Ok(()) }
}

impl Replica {
    /// Blocks of the whole cache.
    pub(super) fn blocks(&self) -> u64 {
        self.cache_tokens / u64::from(self.block_tokens.max(1))
    }

    /// Blocks that hold so many tokens.
    pub(super) fn blocks_of(&self, tokens: u64) -> u64 {
        tokens.div_ceil(self.block_tokens.max(1).into())
    }

    pub(super) fn check(&self, place: &str) -> Result<(), SimulateError> {
        at_least_one(place, "max_sequences", self.max_sequences)?;
        at_least_one(place, "max_step_tokens", self.max_step_tokens)?;
        at_least_one(place, "cache_tokens", self.cache_tokens)?;
        at_least_one(place, "block_tokens", self.block_tokens)?;
        if self.chunked && self.max_step_tokens < self.max_sequences {
            let must = "at least max_sequences, since each decodes a token a step";
            return Err(field(place, "max_step_tokens", self.max_step_tokens, must));
        }
        Ok(())
    }

    fn refuses(&self, request: &Request, most: u64) -> Option<Reason> {
        let alone = request.input - request.hit();
        if !self.chunked && alone > self.max_step_tokens {
            return Some(Reason::Prompt { tokens: alone, max_step_tokens: self.max_step_tokens });
        }
        self.lacks_cache(most)
    }

    fn lacks_cache(&self, tokens: u64) -> Option<Reason> {
        let (needed, blocks) = (self.blocks_of(tokens), self.blocks());
        (needed > blocks).then_some(Reason::Cache { needed, blocks })
    }
}
