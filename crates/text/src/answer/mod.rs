//! What a model wrote, taken apart: content, reasoning and tool calls, as the text comes.
//!
//! Every family of models was trained on a form of its own. [`AnswerFormat`] (`format`) finds it from the chat
//! template, and [`AnswerParser`] (`parser`) reads it, character by character, so that it does not matter in
//! which pieces the text arrives:
//!
//! - `parts` is what comes out;
//! - `markers` finds the texts that begin and end reasoning and calls, and holds back what may become one;
//! - `body` reads what stands behind the marker of a call, with `object` (JSON with a name and arguments),
//!   `json` (JSON as it comes) and `pairs` (arguments between tags, whose types `schema` knows);
//! - `harmony` reads the headers of gpt-oss, whose answers are several messages.
//!
//! Text goes into a call only as far as it has a call's form. What turns out to be none is content, so nothing
//! that a model wrote is lost, and no text takes more than linear time.

mod body;
mod format;
mod harmony;
mod json;
mod markers;
mod object;
mod pairs;
mod parser;
mod parts;
mod schema;

pub use format::{AnswerFormat, CallFormat, CallSyntax, ReasoningFormat};
pub use parser::{AnswerOptions, AnswerParser};
pub use parts::{Answer, AnswerPart, ToolCall};
