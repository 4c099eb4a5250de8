//! What the content blocks of an answer are made of.

use autarky_text::{AnswerPart, ToolCall};
use serde_json::Value;

use crate::generation::Finish;

/// More of an answer, in the order of its content.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    /// More text that the model writes to itself.
    Thinking(String),
    /// More text.
    Text(String),
    /// A call, whole.
    Call {
        name: String,
        /// An object.
        input: Value,
    },
}

/// From parts of an answer to pieces.
///
/// A call is told once it is whole: one that breaks off is text, and clients run a block of a call that they have seen.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    open: Option<ToolCall>,
    called: bool,
}

impl Pieces {
    /// What `part` adds.
    pub(super) fn take(&mut self, part: AnswerPart) -> Option<Piece> {
        match part {
            AnswerPart::Content(text) if !text.is_empty() => Some(Piece::Text(text)),
            AnswerPart::Reasoning(text) if !text.is_empty() => Some(Piece::Thinking(text)),
            AnswerPart::Content(_) | AnswerPart::Reasoning(_) => None,
            AnswerPart::ToolCallStart { name, .. } => {
                self.open = Some(ToolCall { name, arguments: String::new() });
                None
            }
            AnswerPart::ToolCallArguments { json, .. } => {
                if let Some(open) = &mut self.open {
                    open.arguments.push_str(&json);
                }
                None
            }
            AnswerPart::ToolCallAborted { .. } => {
                self.open = None;
                None
            }
            AnswerPart::ToolCallEnd { .. } => {
                let call = self.open.take()?;
                match serde_json::from_str(&call.arguments) {
                    Ok(input @ Value::Object(_)) => {
                        self.called = true;
                        Some(Piece::Call { name: call.name, input })
                    }
                    // Numbers or nesting that nobody could read.
                    _ => Some(Piece::Text(call.arguments)),
                }
            }
        }
    }

    /// Why the answer ended: `stop_reason` and `stop_sequence`.
    pub(super) fn stop(&self, finish: Finish) -> (&'static str, Option<String>) {
        match finish {
            Finish::StopString(text) => ("stop_sequence", Some(text)),
            Finish::Length => ("max_tokens", None),
            Finish::ToolCalls if self.called => ("tool_use", None),
            Finish::ToolCalls | Finish::End => ("end_turn", None),
        }
    }
}
