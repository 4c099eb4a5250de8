//! The constraint of one answer, which may begin behind a marker such as the end of reasoning.

use super::job::Job;
use crate::constraint::{Constraint, ConstraintError};

/// What an answer may say.
#[derive(Debug)]
pub(super) struct Bound {
    constraint: Constraint,
    /// What has to come first, and the end of what came so far.
    before: Option<(String, String)>,
}

impl Bound {
    /// That of a job's answer, at its beginning.
    pub(super) fn of(job: &Job) -> Option<Bound> {
        let constraint = job.constraint.as_ref()?.fork();
        let before = job.constraint_after.clone().map(|marker| (marker, String::new()));
        Some(Bound { constraint, before })
    }

    /// Sets what may not come next to minus infinity. `false`: the answer is complete, and nothing may.
    pub(super) fn mask(&mut self, logits: &mut [f32], end: &[u32]) -> Result<bool, ConstraintError> {
        if self.before.is_some() {
            // What comes before the constrained part is not the whole answer.
            for token in end {
                if let Some(logit) = logits.get_mut(*token as usize) {
                    *logit = f32::NEG_INFINITY;
                }
            }
            return Ok(true);
        }
        match self.constraint.mask(logits) {
            Ok(()) => Ok(true),
            Err(ConstraintError::Complete) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Goes on by `token`, whose text is told by [`Bound::hear`].
    pub(super) fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        if self.before.is_some() { Ok(()) } else { self.constraint.accept(token) }
    }

    /// Hears the answer's text: the constraint begins behind the marker.
    pub(super) fn hear(&mut self, text: &str) {
        let Some((marker, tail)) = &mut self.before else { return };
        tail.push_str(text);
        if tail.contains(marker.as_str()) {
            self.before = None;
            return;
        }
        // A marker may come in pieces: what is shorter than it can still be its beginning.
        let mut cut = tail.len().saturating_sub(marker.len());
        while !tail.is_char_boundary(cut) {
            cut -= 1;
        }
        tail.drain(..cut);
    }

    /// Whether the answer is complete and cannot go on.
    pub(super) fn is_done(&self) -> bool {
        self.before.is_none() && self.constraint.is_done()
    }
}
