//! How long one step of a replica takes.

use super::error::SimulateError;

/// How long one step of a replica takes. Functions of the same arguments are step times, too.
///
/// Where a prefill replica differs from the others (see [`Disaggregated`](super::Disaggregated)), its steps are known
/// by `decoding` of 0. Where the service speculates, the time of drafting and verifying belongs to the step.
pub trait StepTime: Sync {
    /// Seconds of one step that prefills `prefill_tokens` prompt tokens (whose sequences already hold
    /// `prefill_context` tokens on average over these tokens) and decodes for `decoding` sequences that together hold
    /// `cached_tokens` tokens. Must be positive and finite; the simulation stops with an error where it is not.
    fn seconds(&self, prefill_tokens: u64, prefill_context: f64, decoding: u64, cached_tokens: u64) -> f64;
}

impl<F: Fn(u64, f64, u64, u64) -> f64 + Sync> StepTime for F {
    fn seconds(&self, prefill_tokens: u64, prefill_context: f64, decoding: u64, cached_tokens: u64) -> f64 {
        self(prefill_tokens, prefill_context, decoding, cached_tokens)
    }
}

/// What one step does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Step {
    pub(super) prefill_tokens: u64,
    pub(super) prefill_context: f64,
    pub(super) decoding: u64,
    pub(super) cached_tokens: u64,
}

impl Step {
    /// The step's seconds, checked.
    pub(super) fn seconds<S: StepTime + ?Sized>(self, time: &S) -> Result<f64, SimulateError> {
        let Step { prefill_tokens, prefill_context, decoding, cached_tokens } = self;
        let seconds = time.seconds(prefill_tokens, prefill_context, decoding, cached_tokens);
        if seconds.is_finite() && seconds > 0.0 {
            Ok(seconds)
        } else {
            Err(SimulateError::StepTime { prefill_tokens, prefill_context, decoding, cached_tokens, seconds })
        }
    }
}
