//! Anthropic's Messages API: <https://docs.anthropic.com/en/api/messages>.
//!
//! Like the real one, it refuses fields that it does not know, at every depth but in schemas and inputs of tools. Fields
//! that have no meaning here, such as `cache_control`, are accepted. Beyond the real one it takes the sampling parameters
//! that other servers of open models have, such as `seed` and `min_p`.
//!
//! Module map: `request` parameters · `thinking` whether the model reasons · `messages` the conversation · `blocks` what
//! messages are made of · `tools` what may be called · `answer` whole answers · `stream` answers as they are written ·
//! `pieces` what both are made of · `failure` errors.

mod answer;
mod blocks;
mod failure;
mod messages;
mod pieces;
mod request;
mod stream;
mod thinking;
mod tools;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
pub(crate) use failure::respond;
use serde_json::json;

use crate::app::RequestId;
use crate::body;
use crate::error::ApiError;
use crate::generation::{count_tokens, start};
use crate::ids;
use crate::sse;
use crate::state::AppState;

/// The routes of Anthropic's API: messages, and the tokens that they come to.
pub fn router() -> Router<AppState> {
    Router::new()
        .route("/v1/messages", post(create).fallback(other_method))
        .route("/v1/messages/count_tokens", post(count).fallback(other_method))
}

/// What every part of an answer says.
#[derive(Clone, Debug)]
struct Head {
    id: String,
    model: String,
    /// The number of the request.
    request: String,
    /// Whether the text of thinking is told.
    thinking: bool,
}

async fn create(State(state): State<AppState>, request: Request) -> Response {
    let id = request_id(&request);
    failure::respond(answer(&state, request, &id).await, &id)
}

async fn answer(state: &AppState, request: Request, id: &str) -> Result<Response, ApiError> {
    let limits = state.limits;
    let parsed = body::read(request, limits, move |body| request::message(body, &limits)).await?;
    let head = Head {
        id: ids::name("msg_"),
        model: parsed.ask.model.clone(),
        request: id.to_owned(),
        thinking: parsed.thinking,
    };
    let generation = start(state, parsed.ask).await?;
    if parsed.stream {
        return Ok(sse::respond(|events| stream::write(generation, head, events)));
    }
    Ok(Json(answer::whole(generation, head).await?).into_response())
}

async fn count(State(state): State<AppState>, request: Request) -> Response {
    let id = request_id(&request);
    failure::respond(counted(&state, request).await, &id)
}

async fn counted(state: &AppState, request: Request) -> Result<Response, ApiError> {
    let limits = state.limits;
    let ask = body::read(request, limits, move |body| request::count(body, &limits)).await?;
    let tokens = count_tokens(state, ask).await?;
    Ok(Json(json!({"input_tokens": tokens})).into_response())
}

async fn other_method(method: Method, request: Request) -> Response {
    let what = format!("{method} is not what this address takes; send POST");
    let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, what);
    failure::respond(Err(error), &request_id(&request))
}

/// The number that the request has in the log, or a new one.
fn request_id(request: &Request) -> String {
    let given = request.extensions().get::<RequestId>();
    given.map_or_else(|| ids::name("req_"), |RequestId(id)| id.clone())
}
