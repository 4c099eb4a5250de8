//! The state of one constrained text.

use std::sync::Arc;

use llguidance::toktrie::SimpleVob;
use llguidance::{Matcher, TokenParser};

use super::error::ConstraintError;
use super::spec::{ConstraintSpec, shorten};
use super::vocabulary::ConstraintVocabulary;

/// Bytes of the stack that grammars are compiled on: the compiler calls itself for each level of a schema or grammar.
/// Only what is used of it takes memory.
const STACK: usize = 256 << 20;

/// What the parser says where no token continues the text.
const NO_TOKEN: &str = "NoExtensionBias";

/// What may come next in one text. The engine asks for a [mask](Constraint::mask), chooses a token among what is left,
/// and [accepts](Constraint::accept) it.
pub struct Constraint {
    vocabulary: Arc<ConstraintVocabulary>,
    matcher: Matcher,
    /// A bit for each token that is text, or a control token that the grammar names.
    permitted: Arc<[u32]>,
    /// Whether the parser found out late that a complete text cannot go on.
    complete: bool,
    /// Whether a token that ends the generation was accepted.
    ended: bool,
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint").field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Constraint {
    /// Compiles `spec` for texts of `vocabulary`'s tokens. Takes milliseconds for what clients usually ask, and a
    /// few seconds at most.
    ///
    /// # Errors
    /// What is wrong with `spec`, or that it is larger, deeper or more complex than what is taken from a client.
    pub fn new(
        vocabulary: &Arc<ConstraintVocabulary>,
        spec: &ConstraintSpec,
    ) -> Result<Constraint, ConstraintError> {
        let compile = || -> Result<(TokenParser, Vec<u32>), ConstraintError> {
            let grammar = spec.grammar(vocabulary)?;
            let parser = vocabulary.parser(grammar.grammar);
            let parser = parser.map_err(|message| spec.compile_error(vocabulary, &message))?;
            Ok((parser, grammar.control))
        };
        let compiled = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("constraint".into()).stack_size(STACK);
            let thread =
                thread.spawn_scoped(scope, compile).map_err(|e| ConstraintError::Thread(e.to_string()))?;
            thread.join().unwrap_or_else(|_| Err(ConstraintError::TooComplex("the compiler failed".into())))
        });
        let (parser, control) = compiled?;
        let mut permitted = Arc::clone(vocabulary.text());
        if !control.is_empty() {
            let mut words = permitted.to_vec();
            for id in control {
                if let Some(word) = words.get_mut(id as usize / 32) {
                    *word |= 1 << (id % 32);
                }
            }
            permitted = words.into();
        }
        let mut matcher = Matcher::new(Ok(parser));
        // Finds out whether there is anything to say at all.
        matcher.consume_tokens(&[]).map_err(|e| run_error(&e.to_string()))?;
        Ok(Constraint {
            vocabulary: Arc::clone(vocabulary),
            matcher,
            permitted,
            complete: false,
            ended: false,
        })
    }

    /// Sets what may not come next to minus infinity. `logits[i]` is token `i`'s; what lies beyond the vocabulary may
    /// never come.
    ///
    /// # Errors
    /// [`ConstraintError::Complete`] if nothing may follow, and the vocabulary has no token to say so (or it was
    /// accepted): end the text. [`ConstraintError::DeadEnd`] if the vocabulary lacks the tokens to go on;
    /// [`ConstraintError::TooComplex`] if finding out takes too much.
    pub fn mask(&mut self, logits: &mut [f32]) -> Result<(), ConstraintError> {
        let may_end = self.may_end()?;
        let allowed = match self.is_done() {
            true => None,
            false => match self.matcher.compute_mask() {
                Ok(allowed) => Some(allowed),
                Err(e) => match run_error(&e.to_string()) {
                    ConstraintError::DeadEnd if may_end => {
                        self.complete = true;
                        None
                    }
                    error => return Err(error),
                },
            },
        };
        let allowed = allowed.as_ref().map_or(&[][..], SimpleVob::as_slice);
        let ends = self.vocabulary.eog();
        let ends: Vec<(usize, f32)> = ends
            .iter()
            .filter(|_| may_end && !self.ended)
            .filter_map(|&id| Some((id as usize, *logits.get(id as usize)?)))
            .collect();
        let mut left = !ends.is_empty();
        // A grammar can name any token by its number: it gets those that are text, and its own control tokens.
        let words = allowed.iter().zip(self.permitted.iter()).map(|(allowed, permitted)| allowed & permitted);
        for (logits, word) in logits.chunks_mut(32).zip(words.chain(std::iter::repeat(0))) {
            left |= word != 0;
            if word != u32::MAX {
                for (bit, logit) in logits.iter_mut().enumerate() {
                    if word >> bit & 1 == 0 {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
        }
        for (id, logit) in ends {
            if let Some(slot) = logits.get_mut(id) {
                *slot = logit;
            }
        }
        match left {
            true => Ok(()),
            false if may_end => Err(ConstraintError::Complete),
            false => Err(ConstraintError::DeadEnd),
        }
    }

    /// Goes on by `token`.
    ///
    /// # Errors
    /// [`ConstraintError::Refused`] if it is not among those that [`Constraint::mask`] leaves (the state is as it was
    /// before); [`ConstraintError::Complete`] after a token that ended the text.
    pub fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        if self.ended {
            return Err(ConstraintError::Complete);
        }
        if self.vocabulary.is_eog(token) {
            self.ended = self.may_end()?;
            return if self.ended { Ok(()) } else { Err(ConstraintError::Refused { token }) };
        }
        if self.is_done() || !self.permits(token) {
            return Err(ConstraintError::Refused { token });
        }
        match self.matcher.try_consume_tokens(&[token]) {
            Ok(0) => Err(ConstraintError::Refused { token }),
            Ok(_) => Ok(()),
            Err(e) => Err(run_error(&e.to_string())),
        }
    }

    /// How many of the first of `tokens` could be accepted one after the other; the state stays as it is.
    ///
    /// # Errors
    /// [`ConstraintError::TooComplex`] if finding out takes too much.
    pub fn validate_tokens(&mut self, tokens: &[u32]) -> Result<usize, ConstraintError> {
        let text = tokens.iter().take_while(|&&token| self.permits(token)).count();
        let ended_by = tokens.get(text).filter(|&&token| self.vocabulary.is_eog(token));
        if self.is_done() {
            return Ok(usize::from(!self.ended && text == 0 && ended_by.is_some()));
        }
        let asked = tokens.get(..text + usize::from(ended_by.is_some())).unwrap_or_default();
        self.matcher.validate_tokens(asked).map_err(|e| run_error(&e.to_string()))
    }

    /// The same state again, which goes its own way from here.
    #[must_use]
    pub fn fork(&self) -> Constraint {
        Constraint {
            vocabulary: Arc::clone(&self.vocabulary),
            matcher: self.matcher.deep_clone(),
            permitted: Arc::clone(&self.permitted),
            complete: self.complete,
            ended: self.ended,
        }
    }

    /// Whether the text is complete and cannot go on: nothing but a token that ends the generation may come, or it
    /// came.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.ended || self.complete || (self.matcher.is_stopped() && !self.matcher.is_error())
    }

    /// Whether the text is complete as it is. It may still be possible to go on.
    ///
    /// # Errors
    /// [`ConstraintError::TooComplex`] if an earlier call failed with it.
    pub fn may_end(&mut self) -> Result<bool, ConstraintError> {
        if self.is_done() {
            return Ok(true);
        }
        self.matcher.is_accepting().map_err(|e| run_error(&e.to_string()))
    }

    /// Whether `token` is text or a control token that the grammar names.
    fn permits(&self, token: u32) -> bool {
        self.permitted.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }
}

/// The error for what the parser says on the way.
fn run_error(message: &str) -> ConstraintError {
    if message.contains(NO_TOKEN) {
        return ConstraintError::DeadEnd;
    }
    ConstraintError::TooComplex(shorten(message))
}
