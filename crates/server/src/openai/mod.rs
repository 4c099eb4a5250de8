//! OpenAI's API: <https://platform.openai.com/docs/api-reference>.
//!
//! Like the real one, it refuses parameters that it does not know (`unknown_parameter`) at the top of a request, where a
//! misspelt name would silently change what is asked, and ignores unknown fields deeper within, which clients send back
//! from earlier answers. Parameters that have no meaning here, such as `service_tier`, are accepted.

mod adapters;
mod chat;
mod completions;
mod embeddings;
mod input;
mod models;
mod responses;

use axum::Router;
use axum::routing::{get, post};

use crate::state::AppState;

/// Which server answered: the same weights and seed give the same tokens as long as this stays the same.
const FINGERPRINT: &str = concat!("autarky-", env!("CARGO_PKG_VERSION"));

/// The routes of OpenAI's API.
pub fn router() -> Router<AppState> {
    Router::new()
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::get))
        .route("/v1/load_lora_adapter", post(adapters::load))
        .route("/v1/unload_lora_adapter", post(adapters::unload))
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/completions", post(completions::complete))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/rerank", post(embeddings::rerank))
        .merge(responses::router())
}
