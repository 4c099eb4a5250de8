//! The HTTP APIs that applications already speak, and the web page.
//!
//! Module map: [`model`] a loaded model, and the seam to whatever loads one · [`registry`] which models there are, and
//! which are in memory · [`folder`] the models folder · [`store`] what outlives the process: keys, usage,
//! conversations, responses · [`auth`] who asks, and how much they may · [`conversations`] what the web page keeps ·
//! [`tls`] HTTPS.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod auth;
pub mod conversations;
pub mod folder;
pub mod model;
pub mod registry;
pub mod state;
pub mod store;
pub mod stream;
pub mod tls;
