//! Conversations as they are learned: which tokens are the model's own.

use super::error::ChatError;
use super::format::{ChatFormat, Conversation};

/// A conversation, or the part of one that ends with an answer, for a model to learn its answers from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lesson {
    /// Its tokens, BOS included.
    pub tokens: Vec<u32>,
    /// For every token whether the model would have written it: it is of an answer, up to the token that ends it.
    pub learned: Vec<bool>,
}

impl ChatFormat {
    /// What is learned from a conversation. It is one lesson, unless the template writes earlier answers otherwise than the
    /// last one (without their reasoning, say): then those are lessons of their own, each with what came before it.
    ///
    /// # Errors
    /// As [`ChatFormat::prompt`], and [`ChatError::NoAnswer`].
    pub fn lessons(&self, conversation: &Conversation<'_>) -> Result<Vec<Lesson>, ChatError> {
        let messages = conversation.messages;
        let up_to = |end: usize, asks: bool| {
            let part = Conversation { messages: messages.get(..end).unwrap_or(messages), ..*conversation };
            self.written(&part, asks)
        };
        let answers = (0..messages.len()).filter(|&i| messages.get(i).is_some_and(|m| m.role == "assistant"));
        let mut lessons: Vec<Lesson> = Vec::new();
        for answer in answers {
            // Without a message before it, an answer is all that is written.
            let before = if answer == 0 { Vec::new() } else { up_to(answer, true)?.tokens };
            let tokens = up_to(answer + 1, false)?.tokens;
            let begin = common(&before, &tokens);
            let end = tokens.iter().skip(begin).position(|&t| self.ends_answer(t));
            let end = end.map_or(tokens.len(), |i| begin + i + 1);
            let mut learned = vec![false; tokens.len()];
            learned.iter_mut().take(end).skip(begin).for_each(|l| *l = true);
            match lessons.last_mut() {
                // The earlier lesson goes on: what it has is written here in the same way.
                Some(last) if tokens.starts_with(&last.tokens) => {
                    learned.iter_mut().zip(&last.learned).for_each(|(l, &before)| *l |= before);
                    *last = Lesson { tokens, learned };
                }
                _ => lessons.push(Lesson { tokens, learned }),
            }
        }
        if lessons.is_empty() { Err(ChatError::NoAnswer) } else { Ok(lessons) }
    }
}

/// How many tokens two texts begin with alike.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
