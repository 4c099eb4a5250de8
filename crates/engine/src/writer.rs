//! From the tokens of an answer to its text, and to its end.

use autarky_text::StreamDecoder;

use crate::error::EngineError;
use crate::generate::StopReason;
use crate::stop::StopStrings;

/// Writes one answer: whole characters, up to an ending token, a stop string, or a limit.
#[derive(Debug)]
pub(crate) struct Writer {
    stop: StopStrings,
    chosen: usize,
}

/// What ends an answer beside the text itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends<'a> {
    /// Tokens that end it, sorted; they give no text.
    pub(crate) end: &'a [u32],
    /// Tokens at most.
    pub(crate) most: Option<usize>,
    /// Whether the context has room for another token.
    pub(crate) room: bool,
}

impl Writer {
    /// A writer of nothing yet. Stop strings are not part of the text.
    pub(crate) fn new(stop: &[String]) -> Writer {
        Writer { stop: StopStrings::new(stop.iter().cloned()), chosen: 0 }
    }

    /// Tokens that were taken.
    pub(crate) fn chosen(&self) -> usize {
        self.chosen
    }

    /// Takes the next token and puts the characters that are complete now, and belong to no stop string, behind
    /// `text`. Says why the answer ends with it, if it does.
    ///
    /// # Errors
    /// When the token is not in the tokenizer's vocabulary.
    pub(crate) fn take(
        &mut self,
        token: u32,
        decoder: &mut StreamDecoder,
        ends: Ends<'_>,
        text: &mut String,
    ) -> Result<Option<StopReason>, EngineError> {
        self.chosen += 1;
        if ends.end.binary_search(&token).is_ok() {
            return Ok(Some(StopReason::End { token }));
        }
        if let Some(piece) = decoder.push(token)? {
            let passed = self.stop.push(&piece);
            text.push_str(&passed.text);
            if let Some(index) = passed.stop {
                return Ok(Some(StopReason::StopString(self.stop.string(index).to_owned())));
            }
        }
        Ok(match () {
            () if ends.most.is_some_and(|most| self.chosen >= most) => Some(StopReason::MaxTokens),
            () if !ends.room => Some(StopReason::ContextFull),
            () => None,
        })
    }

    /// Ends the text: what was held back is part of it after all, unless a stop string cut it off.
    pub(crate) fn finish(&mut self, reason: &StopReason, decoder: &mut StreamDecoder, text: &mut String) {
        let unfinished = decoder.flush().unwrap_or_default();
        if !matches!(reason, StopReason::StopString(_)) {
            text.push_str(&self.stop.push(&unfinished).text);
            text.push_str(&self.stop.finish());
        }
    }
}
