//! Where the time of steps goes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Time by kind of work, summed over steps, as the first thread of the pool spent it.
#[derive(Debug, Default)]
pub struct Profile {
    inner: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    steps: u64,
    kinds: Vec<(&'static str, Duration)>,
}

impl Profile {
    /// Nothing counted yet.
    pub(crate) fn new() -> Profile {
        // Room for all kinds, so that counting allocates nothing.
        Profile { inner: Mutex::new(Counts { steps: 0, kinds: Vec::with_capacity(32) }) }
    }

    pub(crate) fn add(&self, kind: &'static str, time: Duration) {
        let kinds = &mut self.inner.lock().unwrap_or_else(PoisonError::into_inner).kinds;
        match kinds.iter_mut().find(|(k, _)| *k == kind) {
            Some((_, sum)) => *sum += time,
            None => kinds.push((kind, time)),
        }
    }

    pub(crate) fn step(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).steps += 1;
    }

    /// Steps since the last call, and the time by kind of work in them, most first. `waiting` is for other threads.
    pub fn take(&self) -> (u64, Vec<(&'static str, Duration)>) {
        let mut counts = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kinds = counts.kinds.clone();
        kinds.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
        let steps = counts.steps;
        counts.steps = 0;
        counts.kinds.clear();
        (steps, kinds)
    }
}
