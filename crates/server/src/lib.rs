//! The HTTP APIs that applications already speak, and the web page.
//!
//! Module map: [`model`] a loaded model, and the seam to whatever loads one · [`registry`] which models there are, and
//! which are in memory · [`folder`] the models folder.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod api;
pub mod app;
pub mod folder;
pub mod health;
pub mod id;
pub mod listen;
pub mod log;
pub mod model;
pub mod page;
pub mod registry;
pub mod state;
pub mod stream;
