//! The window of recent tokens and what it takes from their logits.

use std::collections::{HashMap, VecDeque};

use super::Sampling;

/// The last `length` tokens, counted.
#[derive(Clone, Debug)]
pub(super) struct Window {
    length: usize,
    recent: VecDeque<u32>,
    counts: HashMap<u32, u32>,
}

impl Window {
    pub(super) fn new(length: usize) -> Window {
        Window { length, recent: VecDeque::new(), counts: HashMap::new() }
    }

    pub(super) fn push(&mut self, tokens: &[u32]) {
        let tokens = &tokens[tokens.len().saturating_sub(self.length)..];
        for &token in tokens {
            if self.recent.len() == self.length
                && let Some(old) = self.recent.pop_front()
                && let Some(count) = self.counts.get_mut(&old)
            {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&old);
                }
            }
            self.recent.push_back(token);
            *self.counts.entry(token).or_default() += 1;
        }
    }

    pub(super) fn penalize(&self, options: &Sampling, logits: &mut [f32]) {
        for (&token, &count) in &self.counts {
            let Some(logit) = logits.get_mut(token as usize) else { continue };
            match *logit > 0.0 {
                true => *logit /= options.repetition_penalty,
                false => *logit *= options.repetition_penalty,
            }
            *logit -= count as f32 * options.frequency_penalty + options.presence_penalty;
        }
    }
}
