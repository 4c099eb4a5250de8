//! One answer of a job: its sequence, and what is made of its logits.

use autarky_text::{StreamDecoder, Tokenizer};

use super::bound::Bound;
use super::job::{Chosen, Goal, Job, JobError, Logprobs, Piece, Pooling};
use super::prefix::Chain;
use crate::engine::{Outputs, Work};
use crate::error::EngineError;
use crate::generate::StopReason;
use crate::sampling::{Sampler, Sampling, logprobs};
use crate::sequence::Sequence;
use crate::speculation::{Speculation, Speculator};
use crate::writer::{Ends, Writer};

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
    pub(super) speculator: Speculator,
    sampler: Sampler,
    decoder: StreamDecoder,
    writer: Writer,
    pool: Option<Pool>,
    bound: Option<Bound>,
    /// Logits with bias and constraint, kept so that choosing a token allocates nothing.
    logits: Vec<f32>,
}

/// Hidden states on the way to one vector.
#[derive(Debug)]
struct Pool {
    pooling: Pooling,
    /// Added up in order of positions, so that the vector does not depend on how the text was cut into steps.
    sum: Vec<f64>,
    positions: usize,
}

impl Pool {
    fn new(pooling: Pooling) -> Pool {
        Pool { pooling, sum: Vec::new(), positions: 0 }
    }
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
            // Guesses from the text so far seldom fit what a constraint wants next.
            speculator: Speculator::new(match job.constraint {
                Some(_) => Speculation::Off,
                None => job.speculation,
            }),
            sampler,
            decoder,
            writer: Writer::new(&job.stop),
            pool: match job.goal {
                Goal::Text => None,
                Goal::Embedding(pooling) => Some(Pool::new(pooling)),
            },
            bound: Bound::of(job),
            logits: Vec::new(),
        })
    }

    /// The tokens that it still has to compute before it can choose one: 1 while it decodes without a break.
    pub(super) fn pending(&self) -> usize {
        self.sequence.pending().len()
    }

    /// How many tokens it has chosen.
    pub(super) fn chosen(&self) -> usize {
        self.writer.chosen()
    }

    /// Whether it writes token after token: all that it has to compute is the last and guesses at the next.
    pub(super) fn is_decoding(&self) -> bool {
        self.chosen() > 0 && self.pending() == 1 + self.speculator.taken().len()
    }

    /// Guesses at what comes next, at most `room`, and puts them behind its text.
    pub(super) fn guess(&mut self, job: &Job, room: usize, context: usize) {
        let left = job.max_tokens.map_or(usize::MAX, |most| most.saturating_sub(self.chosen()));
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
        let outputs = match self.outputs(tokens) {
            0 => Outputs::None,
            n if n == tokens => Outputs::All,
            _ => Outputs::Last,
        };
        Work { sequence: &mut self.sequence, tokens, outputs }
    }

    /// Positions whose logits or hidden states it wants of a step with `tokens` of its tokens.
    pub(super) fn outputs(&self, tokens: usize) -> usize {
        match (self.pool.as_ref().map(|p| p.pooling), tokens == self.pending()) {
            (Some(Pooling::Mean), _) => tokens,
            (None, true) if self.is_decoding() => tokens,
            (_, true) => 1,
            (_, false) => 0,
        }
    }

    /// Whether what it computes may be taken from the cache instead: a mean needs every position's hidden state.
    pub(super) fn may_skip(&self) -> bool {
        self.pool.as_ref().is_none_or(|p| p.pooling != Pooling::Mean)
    }

    /// Whether a vector is wanted of it, not text.
    pub(super) fn is_embedding(&self) -> bool {
        self.pool.is_some()
    }

    /// Takes the hidden states of its last step, `[outputs, width]`; gives the vector when that was the last.
    pub(super) fn pool(&mut self, hidden: &[f32], width: usize) -> Option<Vec<f32>> {
        let done = self.pending() == 0;
        let pool = self.pool.as_mut()?;
        pool.sum.resize(width, 0.0);
        for row in hidden.chunks_exact(width) {
            pool.positions += 1;
            pool.sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        let positions = pool.positions.max(1) as f64;
        done.then(|| pool.sum.iter().map(|sum| (sum / positions) as f32).collect())
    }

    /// Gives its cache back and keeps its text, to be computed again.
    pub(super) fn park(&mut self) {
        self.unguess();
        self.sequence.release();
        self.chain = Chain::default();
        if let Some(pool) = &mut self.pool {
            *pool = Pool::new(pool.pooling);
        }
        self.parked = true;
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
            piece.tokens.push(chosen);
            let room = written + i < bounds.context;
            let ends = Ends { end: &job.end, most: job.max_tokens, room };
            let before = piece.text.len();
            let mut ended = self.writer.take(token, &mut self.decoder, ends, &mut piece.text);
            if let Some(bound) = &mut self.bound {
                bound.hear(&piece.text[before..]);
                if bound.is_done() && matches!(ended, Ok(None | Some(StopReason::MaxTokens))) {
                    ended = Ok(Some(StopReason::Complete));
                }
            }
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
            self.writer.finish(reason, &mut self.decoder, &mut piece.text);
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
