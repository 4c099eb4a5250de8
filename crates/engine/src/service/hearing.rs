//! From the logits of a step to what listeners hear.

use std::any::Any;
use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use autarky_text::Tokenizer;

use super::Counters;
use super::answer::{Answer, Bounds, Step};
use super::job::{JobError, JobEvent, JobListener};
use super::prefix::PrefixCache;
use super::queue::Queue;
use super::scheduler::{Active, Submitted};
use crate::engine::Engine;

/// One answer's share of a step.
pub(super) struct Share {
    /// Its place among the answers.
    pub(super) answer: usize,
    /// Tokens of it that were computed.
    pub(super) tokens: usize,
    /// Rows of logits that are its own; none while its prompt is not computed to the end.
    pub(super) outputs: usize,
}

/// What a step brought about for the lists of jobs and answers.
#[derive(Default)]
pub(super) struct After {
    /// Further answers to a prompt that is computed now.
    pub(super) siblings: Vec<Answer>,
    /// Answers that have ended, by job and choice.
    pub(super) ended: HashSet<(u64, usize)>,
    /// Jobs whose listener wants no more.
    pub(super) unwanted: HashSet<u64>,
    /// Jobs that cannot go on.
    pub(super) failed: Vec<(u64, JobError)>,
    /// Jobs of which all answers have ended.
    pub(super) done: Vec<u64>,
}

/// The scheduler without its engine, whose logits are being read.
pub(super) struct Hearing<'a> {
    pub(super) jobs: &'a mut BTreeMap<u64, Active>,
    pub(super) prefix: &'a mut PrefixCache,
    pub(super) queue: &'a mut Queue<Submitted>,
    pub(super) counters: &'a mut Counters,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) bounds: Bounds,
    pub(super) after: After,
}

impl Hearing<'_> {
    /// Hands what a step gave, which took `elapsed`, to the answers that it belongs to, in the order of the shares.
    pub(super) fn take(
        mut self,
        answers: &mut [Answer],
        shares: &[Share],
        engine: &Engine,
        elapsed: Duration,
    ) -> After {
        let (mut logits, mut hidden) = (engine.logits(), engine.hidden());
        let width = engine.width().unwrap_or(0);
        for share in shares {
            let (own, others) = logits.split_at(share.outputs * self.bounds.width);
            let (own_hidden, others_hidden) = hidden.split_at(share.outputs * width);
            (logits, hidden) = (others, others_hidden);
            let answer = &mut answers[share.answer];
            self.count(answer, share);
            self.record(answer);
            if share.outputs == 0 {
                continue;
            }
            if answer.is_embedding() {
                self.pool(answer, own_hidden, width);
                continue;
            }
            if shares.len() == 1 && answer.chosen() > 0 {
                answer.speculator.took(elapsed);
            }
            let siblings = self.siblings(answer);
            self.speak(answer, own);
            self.record(answer);
            for mut sibling in siblings {
                self.speak(&mut sibling, own);
                if !self.after.ended.contains(&(sibling.job, sibling.choice)) {
                    self.after.siblings.push(sibling);
                }
            }
        }
        self.after
    }

    /// Makes the blocks known that an answer has computed. While it decodes that waits for what it chooses: a block may
    /// be full of guesses that are wrong.
    fn record(&mut self, answer: &mut Answer) {
        if answer.speculator.taken().is_empty() {
            self.prefix.record(&mut answer.sequence, &mut answer.chain);
        }
    }

    /// Takes an answer's hidden states, and ends it with its vector when they are all there.
    fn pool(&mut self, answer: &mut Answer, hidden: &[f32], width: usize) {
        let Some(vector) = answer.pool(hidden, width) else { return };
        let Some(active) = self.jobs.get_mut(&answer.job) else { return };
        active.usage.prefill = active.began.elapsed();
        hear(&mut active.submitted.listener, JobEvent::Embedding(vector));
        self.after.ended.insert((answer.job, answer.choice));
        self.after.done.push(answer.job);
    }

    fn count(&mut self, answer: &Answer, share: &Share) {
        let Some(active) = self.jobs.get_mut(&answer.job) else { return };
        if answer.chosen() > 0 && share.outputs == share.tokens {
            active.usage.guessed += share.tokens - 1;
        } else {
            self.counters.prefilled += share.tokens as u64;
            self.queue.charge(active.submitted.job.client, share.tokens, 0);
        }
    }

    /// The further answers to the prompt that `answer` has computed, before it chooses its own first token.
    fn siblings(&mut self, answer: &mut Answer) -> Vec<Answer> {
        let Some(active) = self.jobs.get(&answer.job) else { return Vec::new() };
        let job = &active.submitted.job;
        if answer.chosen() > 0 || job.choices < 2 {
            return Vec::new();
        }
        let made = guarded(|| (1..job.choices).map(|i| answer.sibling(i, job, self.tokenizer)).collect());
        made.unwrap_or_else(|error| {
            self.after.failed.push((answer.job, error));
            Vec::new()
        })
    }

    /// Lets an answer choose, and tells what came of it.
    fn speak(&mut self, answer: &mut Answer, logits: &[f32]) {
        let (id, choice) = (answer.job, answer.choice);
        let Some(active) = self.jobs.get_mut(&id) else { return };
        let submitted = &mut active.submitted;
        let Step { piece, ended, right } =
            match guarded(|| answer.choose(&submitted.job, logits, self.bounds)) {
                Ok(step) => step,
                Err(error) => return self.after.failed.push((id, error)),
            };
        let now = Instant::now();
        let first = *active.first.get_or_insert(now);
        let usage = &mut active.usage;
        usage.prefill = first - active.began;
        usage.decode = now - first;
        usage.right += right;
        let mut goes_on = true;
        if let Some(piece) = piece {
            usage.generated += piece.tokens.len();
            self.counters.generated += piece.tokens.len() as u64;
            self.queue.charge(submitted.job.client, 0, piece.tokens.len());
            goes_on = hear(&mut submitted.listener, JobEvent::Piece(piece));
        }
        if let Some(reason) = ended {
            goes_on &= hear(&mut submitted.listener, JobEvent::Ended { choice, reason });
            self.after.ended.insert((id, choice));
            active.left -= 1;
            if active.left == 0 {
                return self.after.done.push(id);
            }
        }
        if !goes_on {
            self.after.unwanted.insert(id);
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}

/// Runs `f`; a panic in it becomes an error.
pub(super) fn guarded<T>(f: impl FnOnce() -> Result<T, JobError>) -> Result<T, JobError> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| Err(JobError::Panic(message(&*panic))))
}

/// Tells a listener, and says whether it wants to hear more. One that panics wants no more.
pub(super) fn hear(listener: &mut JobListener, event: JobEvent) -> bool {
    catch_unwind(AssertUnwindSafe(|| listener(event))).is_ok_and(|flow| flow == ControlFlow::Continue(()))
}
