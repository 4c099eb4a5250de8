//! A job's events as a stream that a handler can wait for.

use std::ops::ControlFlow;

use autarky_engine::service::{Job, JobEvent, Refused, Ticket, Usage};
use tokio::sync::mpsc;

use crate::auth::Caller;
use crate::registry::Lease;

/// The events of one job. Dropping it cancels the job, and lets the model go.
///
/// The channel has no bound of its own, because the engine must not wait for a slow reader: a job has as many events
/// at most as its answers have tokens, which the context bounds.
pub struct JobStream {
    events: mpsc::UnboundedReceiver<JobEvent>,
    _ticket: Ticket,
    lease: Lease,
    /// Whom it counts for; until its tokens are counted.
    caller: Option<Caller>,
    usage: Usage,
}

impl JobStream {
    /// Hands `job` to the model.
    ///
    /// # Errors
    /// When the job cannot be, or there is no room for it.
    pub fn submit(lease: Lease, mut job: Job) -> Result<JobStream, Refused> {
        let caller = Caller::current();
        if let Some(caller) = &caller {
            caller.own(&mut job);
        }
        let usage = Usage { prompt: job.prompt.len(), ..Usage::default() };
        let (sender, events) = mpsc::unbounded_channel();
        let listener = move |event| match sender.send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        let ticket = lease.service.submit(job, Box::new(listener))?;
        Ok(JobStream { events, _ticket: ticket, lease, caller, usage })
    }

    /// The next event; `None` after the last, and when the engine's thread has died.
    pub async fn next(&mut self) -> Option<JobEvent> {
        let event = self.events.recv().await;
        match &event {
            Some(JobEvent::Started { cached, .. }) => self.usage.cached = *cached,
            Some(JobEvent::Piece(piece)) => self.usage.generated += piece.tokens.len(),
            Some(JobEvent::Finished(usage)) => self.usage = *usage,
            _ => {}
        }
        event
    }

    /// The model that runs it.
    pub fn model(&self) -> &Lease {
        &self.lease
    }
}

impl Drop for JobStream {
    /// What was computed counts, though nobody may have waited for its end.
    fn drop(&mut self) {
        if let Some(caller) = self.caller.take() {
            caller.spend(&self.usage);
        }
    }
}
