//! One answer of a job: its sequence, and what is made of its logits.

use autarky_text::{StreamDecoder, Tokenizer};

use super::bound::Bound;
use super::job::{Chosen, Job, JobError, Logprobs, Piece};
use super::prefix::Chain;
use crate::engine::{Outputs, Work};
use crate::error::EngineError;
use crate::generate::StopReason;
use crate::sampling::{Sampler, Sampling, logprobs};
use crate::sequence::Sequence;
use crate::speculation::{Speculation, Speculator};
use crate::stop::StopStrings;

/// An answer that is being written.
#[derive(Debug)]
pub(super) struct Answer {
    /// The number of its job.
    pub(super) job: u64,
    /// Its place among the job's answers.
    pub(super) choice: usize,
    pub(super) sequence: Sequence,
    pub(super) chain: Chain,
    /// Whether it holds no cache and waits to go on.
    pub(super) parked: bool,
    /// How many tokens it has chosen.
    pub(super) chosen: usize,
    pub(super) speculator: Speculator,
    sampler: Sampler,
    decoder: StreamDecoder,
    stop: StopStrings,
    bound: Option<Bound>,
    /// Logits with bias and constraint, kept so that choosing a token allocates nothing.
    logits: Vec<f32>,
}

/// What a choice of tokens led to.
pub(super) struct Step {
    /// What the listener is to hear, if anything.
    pub(super) piece: Option<Piece>,
    /// Why the answer has ended, if it has.
    pub(super) ended: Option<StopReason>,
    /// Guesses that were right.
    pub(super) right: usize,
}

/// Ids that may be chosen, and positions there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Numbers in one position's logits.
    pub(super) width: usize,
    pub(super) vocabulary: usize,
    pub(super) context: usize,
}

impl Answer {
    pub(super) fn new(id: u64, choice: usize, job: &Job, tokenizer: &Tokenizer) -> Result<Answer, JobError> {
        let seed = job.sampling.seed.wrapping_add(choice as u64);
        let mut sampler = Sampler::new(Sampling { seed, ..job.sampling }).map_err(EngineError::from)?;
        if job.penalize_prompt {
            sampler.accept(&job.prompt);
        }
        let decoder = tokenizer.decoder().skip_special(!job.show_special);
        let mut decoder = decoder.showing(job.shown.iter().copied());
        if job.continues {
            decoder = decoder.continuing();
        }
        let mut sequence = Sequence::new();
        sequence.push(&job.prompt);
        Ok(Answer {
            job: id,
            choice,
            sequence,
            chain: Chain::default(),
            parked: false,
            chosen: 0,
            // Guesses from the text so far seldom fit what a constraint wants next.
            speculator: Speculator::new(match job.constraint {
                Some(_) => Speculation::Off,
                None => job.speculation,
            }),
            sampler,
            decoder,
            stop: StopStrings::new(job.stop.iter().cloned()),
            bound: Bound::of(job),
            logits: Vec::new(),
        })
    }

    /// The tokens that it still has to compute before it can choose one: 1 while it decodes without a break.
    pub(super) fn pending(&self) -> usize {
        self.sequence.pending().len()
    }

    /// Whether it writes token after token: all that it has to compute is the last and guesses at the next.
    pub(super) fn is_decoding(&self) -> bool {
        self.chosen > 0 && self.pending() == 1 + self.speculator.taken().len()
    }

    /// Guesses at what comes next, at most `room`, and puts them behind its text.
    pub(super) fn guess(&mut self, job: &Job, room: usize, context: usize) {
        let left = job.max_tokens.map_or(usize::MAX, |most| most.saturating_sub(self.chosen));
        let written = self.sequence.tokens().len();
        let room = room.min(left.saturating_sub(1)).min(context.saturating_sub(written));
        let guesses = self.speculator.guess(self.sequence.tokens(), room);
        self.sequence.push(guesses);
    }

    /// Takes guesses back that cannot be computed after all.
    pub(super) fn unguess(&mut self) {
        let written = self.sequence.tokens().len() - self.speculator.taken().len();
        self.sequence.truncate(written);
        self.speculator.give_up();
    }

    /// Its share of a step: `tokens` of those that are pending.
    pub(super) fn work(&mut self, tokens: usize) -> Work<'_> {
        let outputs = match tokens == self.pending() {
            false => Outputs::None,
            true if self.is_decoding() => Outputs::All,
            true => Outputs::Last,
        };
        Work { sequence: &mut self.sequence, tokens, outputs }
    }

    /// Positions whose logits it takes when all that is pending is computed.
    pub(super) fn outputs(&self) -> usize {
        if self.is_decoding() { self.pending() } else { 1 }
    }

    /// Chooses tokens from the logits of its last step, `[outputs, vocabulary]` row-major: one, and another for each
    /// guess that came true.
    ///
    /// # Errors
    /// When no token can be chosen; the sequence then ends before the token that could not be.
    pub(super) fn choose(&mut self, job: &Job, logits: &[f32], bounds: Bounds) -> Result<Step, JobError> {
        let mut step = Step { piece: None, ended: None, right: 0 };
        let mut piece = Piece { choice: self.choice, ..Piece::default() };
        let written = self.sequence.tokens().len() - self.speculator.taken().len();
        for (i, row) in logits.chunks_exact(bounds.width).enumerate() {
            let drawn = self.draw(job, &row[..bounds.vocabulary]);
            let chosen = drawn.inspect_err(|_| self.sequence.truncate(written + i))?;
            let Some(chosen) = chosen else {
                self.sequence.truncate(written + i);
                step.ended = Some(StopReason::Complete);
                break;
            };
            let right = self.speculator.came(i, chosen.token);
            step.right += usize::from(right);
            let token = chosen.token;
            let ended = self.take(job, chosen, &mut piece, written + i + 1, bounds.context);
            if right && matches!(ended, Ok(None)) {
                continue;
            }
            self.sequence.truncate(written + i);
            self.sequence.push(&[token]);
            step.ended = ended?;
            break;
        }
        self.speculator.give_up();
        if let Some(reason) = &step.ended {
            self.finish(reason, &mut piece);
        }
        step.piece = Some(piece).filter(|p| !p.text.is_empty() || !p.tokens.is_empty());
        Ok(step)
    }

    /// Chooses a token; `None` if the constraint allows no other.
    fn draw(&mut self, job: &Job, logits: &[f32]) -> Result<Option<Chosen>, JobError> {
        let mut row = logits;
        if !job.bias.is_empty() || self.bound.is_some() {
            self.logits.clear();
            self.logits.extend_from_slice(logits);
            for &(token, bias) in &job.bias {
                if let Some(logit) = self.logits.get_mut(token as usize) {
                    *logit += bias;
                }
            }
            row = &self.logits;
        }
        // Probabilities are told as they are before the constraint.
        let mut before = None;
        if let Some(bound) = &mut self.bound {
            before = job.logprobs.map(|_| self.logits.clone());
            if !bound.mask(&mut self.logits, &job.end)? {
                return Ok(None);
            }
            row = &self.logits;
        }
        let token = self.sampler.sample(row).map_err(EngineError::from)?;
        if let Some(bound) = &mut self.bound {
            bound.accept(token)?;
        }
        let logprobs = job.logprobs.map(|top| {
            let (chosen, top) = logprobs(before.as_deref().unwrap_or(row), token, top);
            Logprobs { chosen, top }
        });
        Ok(Some(Chosen { token, logprobs }))
    }

    /// What a chosen token does beside being appended: why the answer ends with it, if it does. `written` tokens stand
    /// in the sequence with it.
    fn take(
        &mut self,
        job: &Job,
        chosen: Chosen,
        piece: &mut Piece,
        written: usize,
        context: usize,
    ) -> Result<Option<StopReason>, JobError> {
        let token = chosen.token;
        self.chosen += 1;
        piece.tokens.push(chosen);
        if job.end.binary_search(&token).is_ok() {
            return Ok(Some(StopReason::End { token }));
        }
        if let Some(text) = self.decoder.push(token).map_err(EngineError::from)? {
            if let Some(bound) = &mut self.bound {
                bound.hear(&text);
            }
            let passed = self.stop.push(&text);
            piece.text.push_str(&passed.text);
            if let Some(index) = passed.stop {
                return Ok(Some(StopReason::StopString(self.stop.string(index).to_owned())));
            }
        }
        Ok(match () {
            () if self.bound.as_ref().is_some_and(Bound::is_done) => Some(StopReason::Complete),
            () if job.max_tokens.is_some_and(|most| self.chosen >= most) => Some(StopReason::MaxTokens),
            () if written > context => Some(StopReason::ContextFull),
            () => None,
        })
    }

    /// What was held back is text after all, unless a stop string cut it off.
    fn finish(&mut self, reason: &StopReason, piece: &mut Piece) {
        let unfinished = self.decoder.flush().unwrap_or_default();
        if !matches!(reason, StopReason::StopString(_)) {
            piece.text.push_str(&self.stop.push(&unfinished).text);
            piece.text.push_str(&self.stop.finish());
        }
    }

    /// Another answer to the same prompt, which goes on from the same logits; it shares the whole blocks of the cache.
    pub(super) fn sibling(
        &self,
        choice: usize,
        job: &Job,
        tokenizer: &Tokenizer,
    ) -> Result<Answer, JobError> {
        let fresh = Answer::new(self.job, choice, job, tokenizer)?;
        Ok(Answer { sequence: self.sequence.fork(), chain: self.chain.clone(), ..fresh })
    }
}
