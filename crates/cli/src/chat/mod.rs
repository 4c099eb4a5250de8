//! Conversations with a model: one answer ([`Session`]), or many ([`interactive()`]).

mod interactive;
mod session;
mod slash;
mod template;

pub(crate) use interactive::{interactive, stats, stream};
pub(crate) use session::Session;
pub(crate) use template::Template;
