//! Anthropic's API: <https://docs.claude.com/en/api/messages>.
//!
//! Like the real one, it refuses fields that it does not know at the top of a request, and takes hints such as
//! `cache_control` wherever they stand. The header `anthropic-version` may be left out.
//!
//! Module map: `request` parameters · `blocks` the conversation · `answer` whole answers · `stream` answers as they are
//! written.

mod answer;
mod blocks;
mod request;
mod stream;

use axum::Json;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};

use crate::body;
use crate::client::Client;
use crate::error::AnthropicError;
use crate::generation::{count_tokens, start};
use crate::ids;
use crate::sse;
use crate::state::AppState;

/// The routes of Anthropic's API.
pub fn router() -> Router<AppState> {
    Router::new().route("/v1/messages", post(messages)).route("/v1/messages/count_tokens", post(count))
}

/// Answers a conversation.
async fn messages(State(state): State<AppState>, request: Request) -> Result<Response, AnthropicError> {
    let (limits, client) = (state.limits, Client::of(&request));
    let parsed = body::read(request, limits, move |body| request::parse(body, &limits, client)).await?;
    let (id, model) = (ids::name("msg_"), parsed.ask.model.clone());
    let generation = start(&state, parsed.ask).await?;
    if parsed.stream {
        return Ok(sse::respond(|events| stream::write(generation, id, model, events)));
    }
    Ok(Json(answer::whole(generation, &id, &model).await?).into_response())
}

/// Tokens of a conversation.
async fn count(State(state): State<AppState>, request: Request) -> Result<Json<Value>, AnthropicError> {
    let (limits, client) = (state.limits, Client::of(&request));
    let ask = body::read(request, limits, move |body| request::parse_count(body, &limits, client)).await?;
    Ok(Json(json!({"input_tokens": count_tokens(&state, ask).await?})))
}
