//! The HTTP APIs that applications already speak, and the web page.
//!
//! Module map: [`model`] a loaded model, and the seam to whatever loads one · [`registry`] which models there are, and
//! which are in memory · `stamp` whether files have changed · [`folder`] the models folder · [`stream`] a job's events · [`state`] what every handler can
//! reach · [`app`] all routes, and what is done for each request · [`listen`] connections · `body`, `fields` reading
//! requests · `generation` from a request to parts of answers · `sse` events · [`openai`] and [`anthropic`] the APIs ·
//! [`openapi`] their description · `embed` vectors of texts · [`health`] signs of life and counts · [`api`] what the page
//! asks · [`runs`] runs of training, which it draws · [`conversations`] what it keeps · [`page`] the page itself · [`store`] what outlives the process · [`auth`] who
//! asks, and how much they may · [`tls`] HTTPS · [`log`] a line a request.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod anthropic;
pub mod api;
pub mod app;
pub mod auth;
mod body;
pub mod conversations;
mod embed;
pub mod error;
mod fields;
pub mod folder;
mod generation;
pub mod health;
mod ids;
pub mod listen;
pub mod log;
pub mod model;
pub mod openai;
pub mod openapi;
pub mod page;
pub mod registry;
pub mod runs;
mod sse;
mod stamp;
pub mod state;
pub mod store;
pub mod stream;
mod sync;
pub mod tls;
