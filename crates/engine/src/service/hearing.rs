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
    /// Hands the logits of a step that took `elapsed`, `[outputs, width]` row-major in the order of the shares, to the
    /// answers that they belong to.
    pub(super) fn choose(
        mut self,
        answers: &mut [Answer],
        shares: &[Share],
        logits: &[f32],
        elapsed: Duration,
    ) -> After {
        let mut rest = logits;
        for share in shares {
            let (logits, others) = rest.split_at(share.outputs * self.bounds.width);
            rest = others;
            let answer = &mut answers[share.answer];
            self.count(answer, share);
            if share.outputs == 0 {
                self.prefix.record(&mut answer.sequence, &mut answer.chain);
                continue;
            }
            if shares.len() == 1 && answer.chosen > 0 {
                answer.speculator.took(elapsed);
            }
            let siblings = self.siblings(answer);
            self.speak(answer, logits);
            self.prefix.record(&mut answer.sequence, &mut answer.chain);
            for mut sibling in siblings {
                self.speak(&mut sibling, logits);
                if !self.after.ended.contains(&(sibling.job, sibling.choice)) {
                    self.after.siblings.push(sibling);
                }
            }
        }
        self.after
    }

    fn count(&mut self, answer: &Answer, share: &Share) {
        let Some(active) = self.jobs.get_mut(&answer.job) else { return };
        if answer.chosen > 0 && share.outputs == share.tokens {
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
        if answer.chosen > 0 || job.choices < 2 {
            return Vec::new();
        }
        self.prefix.record(&mut answer.sequence, &mut answer.chain);
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
