//! Conversations with a model: one answer ([`Session`]), or many ([`interactive()`]).

mod interactive;
mod session;
mod slash;

pub(crate) use interactive::{interactive, stats, stream};
pub(crate) use session::Session;
