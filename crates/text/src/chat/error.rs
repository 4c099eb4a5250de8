//! What can be wrong with a conversation, or with a template that is given one.

use super::template::TemplateError;
use crate::error::TokenizerError;

/// Who can do something about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Who sent the conversation: another one would do.
    Conversation,
    /// Who chose the model or the template: no conversation would do.
    Model,
}

/// Why there is no prompt for a conversation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The conversation has no messages.
    #[error("the conversation has no messages")]
    NoMessages,
    /// The conversation has no answer that could be learned.
    #[error("the conversation has no message of the assistant: there is nothing to learn")]
    NoAnswer,
    /// A message's role is none that conversations have.
    #[error("message {message}: unknown role `{role}`; known: {known}", known = known.join(", "))]
    UnknownRole {
        /// The message, from 0.
        message: usize,
        /// Its role, shortened.
        role: String,
        /// The roles that would have been accepted.
        known: &'static [&'static str],
    },
    /// A message's content has another form than it must have.
    #[error(
        "message {message}: `content` must be a string or a list of parts like {{\"type\": \"text\", \"text\": ...}}"
    )]
    Content {
        /// The message, from 0.
        message: usize,
    },
    /// A part of a message that is not text, such as an image.
    #[error("message {message}: part {part} has the type `{kind}`; this model reads `text` only")]
    UnsupportedPart {
        /// The message, from 0.
        message: usize,
        /// The part, from 0.
        part: usize,
        /// Its type, shortened.
        kind: String,
    },
    /// There is no message that could be continued.
    #[error("only a last message of the assistant can be continued, with text and without tool calls")]
    NothingToContinue,
    /// The template does not write the last message so that it could be continued.
    #[error("the model's chat template cannot continue a message of the assistant")]
    CannotContinue,
    /// The conversation uses up all characters of the private use areas, which keep control tokens apart.
    #[error("the conversation has all characters of Unicode's private use areas in it; leave some out")]
    NoFreeCharacter,
    /// The template failed.
    #[error("{source}")]
    Template {
        /// Whose fault it is, as far as that can be known: the model's if the template does not take the simplest
        /// conversation either.
        fault: Fault,
        /// What went wrong.
        source: TemplateError,
    },
    /// The prompt's text has no tokens.
    #[error("{source}")]
    Tokens {
        /// What went wrong.
        source: TokenizerError,
    },
}

impl ChatError {
    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Template { fault, .. } => *fault,
            Self::CannotContinue => Fault::Model,
            Self::NoMessages
            | Self::NoAnswer
            | Self::UnknownRole { .. }
            | Self::Content { .. }
            | Self::UnsupportedPart { .. }
            | Self::NothingToContinue
            | Self::NoFreeCharacter
            | Self::Tokens { .. } => Fault::Conversation,
        }
    }
}
