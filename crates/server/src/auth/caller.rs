//! Whoever a request comes from, known to all that is done for it.

use std::sync::Arc;

use autarky_engine::service::{Job, Usage};

use super::meter::Permit;
use crate::store::usage::Tokens;

tokio::task_local! {
    static CALLER: Caller;
}

/// Whom jobs that a request leads to count for.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The key's id; 0 while there are no keys.
    pub client: u64,
    /// Whose jobs take turns with whose: the key's, or without keys those with the same made-up one.
    pub share: u64,
    /// Of two jobs that wait, the one of higher priority goes first.
    pub priority: i32,
    /// What its tokens are counted by; `None` where nothing is computed.
    pub permit: Option<Arc<Permit>>,
}

impl Caller {
    /// Runs `work` for this caller.
    pub async fn scope<T>(self, work: impl Future<Output = T>) -> T {
        CALLER.scope(self, work).await
    }

    /// Whoever the present work is done for, if anyone.
    pub fn current() -> Option<Caller> {
        CALLER.try_with(Clone::clone).ok()
    }

    /// Makes a job count for the caller.
    pub fn own(&self, job: &mut Job) {
        job.client = self.share;
        job.priority = self.priority;
    }

    /// Counts what a job took.
    pub fn spend(&self, usage: &Usage) {
        if let Some(permit) = &self.permit {
            let Usage { prompt, cached, generated, .. } = *usage;
            permit.spend(Tokens {
                prompt: prompt as u64,
                cached: cached as u64,
                generated: generated as u64,
            });
        }
    }
}
