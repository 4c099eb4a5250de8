//! The HTTP APIs that applications already speak, and the web page.
//!
//! Module map: [`model`] a loaded model, and the seam to whatever loads one · [`registry`] which models there are, and
//! which are in memory · [`folder`] the models folder · [`stream`] a job's events · `body`, `fields` reading requests ·
//! `generation` from a request to parts of answers · [`sse`](mod@self) events · [`openai`] and [`anthropic`] the APIs.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod anthropic;
mod body;
pub mod client;
mod embed;
pub mod error;
mod fields;
pub mod folder;
mod generation;
mod ids;
pub mod model;
pub mod openai;
pub mod registry;
mod sse;
pub mod state;
pub mod stream;
