//! OpenAI's API: <https://platform.openai.com/docs/api-reference>.
//!
//! Like the real one, it refuses parameters that it does not know (`unknown_parameter`) at the top of a request, where a
//! misspelt name would silently change what is asked, and ignores unknown fields deeper within, which clients send back
//! from earlier answers. Parameters that have no meaning here, such as `service_tier`, are accepted.

mod chat;
mod models;

use axum::Router;
use axum::routing::{get, post};

use crate::state::AppState;

/// The routes of OpenAI's API.
pub fn router() -> Router<AppState> {
    Router::new()
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::get))
        .route("/v1/chat/completions", post(chat::complete))
}
