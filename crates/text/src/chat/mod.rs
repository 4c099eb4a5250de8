//! Conversations to prompts.
//!
//! - `template` runs a model's Jinja template as it is;
//! - `format` makes of it what a program needs that talks with strangers: [`ChatFormat`] checks the conversation,
//!   brings it into the `shape` that the template takes, keeps control tokens in it from being taken for the
//!   structure of the conversation (`guard`), and says in what form the answer will come;
//! - `lesson` finds which tokens of a conversation a model learns to write;
//! - `error` says what went wrong, and whose fault it is.

mod error;
mod format;
mod guard;
mod lesson;
mod shape;
mod template;

pub use error::{ChatError, Fault};
pub use format::{ChatFormat, Conversation, Prompt};
pub use lesson::Lesson;
pub use template::{ChatTemplate, Message, RenderOptions, TemplateError};
