//! A model that answers many at once: continuous batching over one engine, on a thread of its own.
//!
//! Module map: `job` what is asked and told · `queue` who is next · `prefix` the cache of computed prompts ·
//! `scheduler` what the next step computes · `latency` how long it took · `answer` tokens and text of one answer ·
//! `bound` its constraint · `hearing` from a step's logits to what listeners hear.

mod answer;
mod bound;
mod hearing;
mod job;
pub mod latency;
mod prefix;
mod queue;
mod scheduler;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use autarky_text::Tokenizer;

pub use job::{Chosen, Goal, Job, JobError, JobEvent, JobListener, Logprobs, Piece, Pooling, Refused, Usage};

use crate::blocks::lock;
use crate::engine::Engine;
use latency::Latencies;
use scheduler::{Scheduler, Submitted};

/// How a service shares its engine.
#[derive(Clone, Copy, Debug)]
pub struct ServiceOptions {
    /// Answers that are written at the same time; at most the engine's sequences.
    pub sequences: usize,
    /// Jobs that may wait; more are refused.
    pub waiting: usize,
    /// Tokens of prompts that a step computes beside answers being written: more read prompts sooner, fewer let the
    /// others write more evenly.
    pub beside: usize,
}

impl ServiceOptions {
    /// Jobs that may wait, unless said otherwise.
    pub const WAITING: usize = 256;
}

/// What a service has done since it started, and what it does now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Jobs that are being computed.
    pub running: usize,
    /// Jobs that wait.
    pub waiting: usize,
    /// Blocks of the KV cache.
    pub blocks: usize,
    /// Blocks that answers hold.
    pub blocks_used: usize,
    /// Blocks that only the prefix cache keeps.
    pub blocks_cached: usize,
    /// Steps.
    pub steps: u64,
    /// Tokens of prompts that were computed.
    pub prefilled: u64,
    /// Tokens of prompts that were found in the cache.
    pub cached: u64,
    /// Tokens that were chosen.
    pub generated: u64,
    /// Jobs that ended well.
    pub finished: u64,
    /// Jobs that ended in an error.
    pub failed: u64,
    /// Jobs that nobody waited for any more.
    pub cancelled: u64,
    /// Jobs that were refused.
    pub refused: u64,
    /// Answers that had to give their cache to others for a while.
    pub preempted: u64,
}

/// A running service. Dropping it ends every job.
pub struct Service {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// A job in a service. Dropping it cancels the job before the next step.
#[derive(Debug)]
pub struct Ticket {
    cancelled: Arc<AtomicBool>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

/// What the service's thread and its callers share.
struct Shared {
    inbox: Mutex<Inbox>,
    arrived: Condvar,
    counters: Mutex<Counters>,
    latencies: Mutex<Latencies>,
    limits: Limits,
    /// Milliseconds from `begin` to when the thread was last seen at work, or idle.
    heartbeat: AtomicU64,
    begin: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    context: usize,
    vocabulary: usize,
    embeds: bool,
    options: ServiceOptions,
}

#[derive(Default)]
struct Inbox {
    jobs: Vec<Submitted>,
    next: u64,
    draining: bool,
    stop: bool,
    /// The thread has ended.
    gone: bool,
    refused: u64,
}

/// While there is nothing to do, the thread shows itself this often.
const IDLE: Duration = Duration::from_millis(500);

impl Service {
    /// Starts a thread that runs `engine` for whoever submits jobs.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        engine: Engine,
        tokenizer: Arc<Tokenizer>,
        options: ServiceOptions,
    ) -> std::io::Result<Service> {
        let options =
            ServiceOptions { sequences: options.sequences.min(engine.max_sequences()).max(1), ..options };
        let vocabulary = engine.vocabulary().min(tokenizer.vocab_size());
        let limits =
            Limits { context: engine.context(), vocabulary, embeds: engine.width().is_some(), options };
        let shared = Arc::new(Shared {
            inbox: Mutex::default(),
            arrived: Condvar::new(),
            counters: Mutex::default(),
            latencies: Mutex::default(),
            limits,
            heartbeat: AtomicU64::new(0),
            begin: Instant::now(),
        });
        let scheduler = Scheduler::new(engine, tokenizer, options);
        *lock(&shared.counters) = scheduler.counters();
        let theirs = Arc::clone(&shared);
        let thread =
            thread::Builder::new().name("engine".to_owned()).spawn(move || theirs.serve(scheduler))?;
        Ok(Service { shared, thread: Some(thread) })
    }

    /// Hands in a job, whose events `listener` will hear on the service's thread.
    ///
    /// # Errors
    /// When the job cannot be, or there is no room for it; nothing was started then.
    pub fn submit(&self, job: Job, listener: JobListener) -> Result<Ticket, Refused> {
        self.shared.limits.check(&job)?;
        let mut inbox = lock(&self.shared.inbox);
        if inbox.draining || inbox.gone {
            return Err(Refused::Draining);
        }
        let counters = *lock(&self.shared.counters);
        let waiting = counters.waiting + inbox.jobs.len();
        let room = self.shared.limits.options.sequences.saturating_sub(counters.running);
        if waiting >= self.shared.limits.options.waiting + room {
            inbox.refused += 1;
            return Err(Refused::QueueFull { waiting, retry_after: self.shared.wait(&counters) });
        }
        inbox.next += 1;
        let id = inbox.next;
        let cancelled = Arc::new(AtomicBool::new(false));
        let ticket = Ticket { cancelled: Arc::clone(&cancelled) };
        inbox.jobs.push(Submitted { id, job, listener, cancelled, since: Instant::now() });
        drop(inbox);
        self.shared.arrived.notify_one();
        Ok(ticket)
    }

    /// Positions that a prompt and its answer may have together.
    pub fn context(&self) -> usize {
        self.shared.limits.context
    }

    /// What it has done and does.
    pub fn counters(&self) -> Counters {
        let refused = lock(&self.shared.inbox).refused;
        Counters { refused, ..*lock(&self.shared.counters) }
    }

    /// How long its jobs took.
    pub fn latencies(&self) -> Latencies {
        *lock(&self.shared.latencies)
    }

    /// How long ago its thread was last seen to go on. While a step is computed that is the time since it began; a
    /// service that is idle is seen twice a second.
    pub fn silence(&self) -> Duration {
        let seen = Duration::from_millis(self.shared.heartbeat.load(Ordering::Relaxed));
        self.shared.begin.elapsed().saturating_sub(seen)
    }

    /// Whether its thread runs.
    pub fn is_alive(&self) -> bool {
        !lock(&self.shared.inbox).gone
    }

    /// Takes no more jobs; those that it has go on.
    pub fn drain(&self) {
        lock(&self.shared.inbox).draining = true;
    }

    /// Whether no job waits or runs.
    pub fn is_idle(&self) -> bool {
        let inbox = lock(&self.shared.inbox);
        let counters = lock(&self.shared.counters);
        inbox.jobs.is_empty() && counters.running == 0 && counters.waiting == 0
    }
}

#[cfg(test)]
impl Service {
    /// Its counters when every job has left it.
    fn settled(&self) -> Counters {
        while !self.is_idle() {
            thread::yield_now();
        }
        self.counters()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        {
            let mut inbox = lock(&self.shared.inbox);
            inbox.draining = true;
            inbox.stop = true;
        }
        self.shared.arrived.notify_one();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has told so already.
            let _ = thread.join();
        }
    }
}

impl Limits {
    fn check(&self, job: &Job) -> Result<(), Refused> {
        let option = |what, value: String, range: String| Err(Refused::Option { what, value, range });
        if job.prompt.is_empty() {
            return Err(Refused::Empty);
        }
        if job.prompt.len() > self.context {
            return Err(Refused::TooLong { prompt: job.prompt.len(), context: self.context });
        }
        if job.goal != Goal::Text && !self.embeds {
            return Err(Refused::NoEmbeddings);
        }
        let most = if job.goal == Goal::Text { self.options.sequences } else { 1 };
        if !(1..=most).contains(&job.choices) {
            return option("n", job.choices.to_string(), format!("between 1 and {most}"));
        }
        let known = |token: &u32| (*token as usize) < self.vocabulary;
        let tokens = job.prompt.iter().chain(job.bias.iter().map(|(token, _)| token));
        if let Some(token) = tokens.copied().find(|token| !known(token)) {
            return option("a token", token.to_string(), format!("below {}", self.vocabulary));
        }
        if let Some((_, bias)) = job.bias.iter().find(|(_, bias)| !bias.is_finite()) {
            return option("logit_bias", bias.to_string(), "a finite number".to_owned());
        }
        match job.sampling.validate() {
            Ok(()) => Ok(()),
            Err(error) => match error {
                crate::SamplingError::Option { option: what, value, range } => {
                    option(what, value.to_string(), range.to_owned())
                }
                other => option("sampling", other.to_string(), "valid".to_owned()),
            },
        }
    }
}

impl Shared {
    /// About how long until a job that waits has ended: the tokens of those before it at the speed so far.
    fn wait(&self, counters: &Counters) -> Duration {
        let ended = counters.finished.max(1) as f64;
        let each = self.begin.elapsed().as_secs_f64() / ended;
        Duration::from_secs_f64(each.clamp(1.0, 30.0))
    }

    /// The service's thread.
    fn serve(&self, mut scheduler: Scheduler) {
        let run = AssertUnwindSafe(|| {
            while self.receive(&mut scheduler) {
                scheduler.step();
                *lock(&self.counters) = scheduler.counters();
                *lock(&self.latencies) = scheduler.latencies();
            }
        });
        let result = catch_unwind(run);
        let left = {
            let mut inbox = lock(&self.inbox);
            inbox.gone = true;
            std::mem::take(&mut inbox.jobs)
        };
        left.into_iter().for_each(|job| scheduler.push(job));
        scheduler.stop();
        *lock(&self.counters) = scheduler.counters();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    }

    /// Waits until there is something to do and hands it to the scheduler; `false` when it is time to stop.
    fn receive(&self, scheduler: &mut Scheduler) -> bool {
        let mut inbox = lock(&self.inbox);
        loop {
            self.heartbeat.store(self.begin.elapsed().as_millis() as u64, Ordering::Relaxed);
            if inbox.stop {
                return false;
            }
            let arrived = std::mem::take(&mut inbox.jobs);
            if !arrived.is_empty() || !scheduler.is_idle() {
                // Seen with the inbox locked, so that no job is ever in neither place.
                lock(&self.counters).waiting += arrived.len();
                arrived.into_iter().for_each(|job| scheduler.push(job));
                return true;
            }
            let waited = self.arrived.wait_timeout(inbox, IDLE);
            inbox = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests;
