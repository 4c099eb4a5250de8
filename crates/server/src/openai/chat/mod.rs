//! `POST /v1/chat/completions`.
//!
//! Module map: `request` parameters · `messages` the conversation · `tools` what may be called · `answer` whole answers ·
//! `stream` answers as they are written · `logprobs` tokens with their probabilities.

mod answer;
mod logprobs;
mod messages;
mod request;
mod stream;
mod tools;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};

use crate::body;
use crate::error::ApiError;
use crate::generation::start;
use crate::ids;
use crate::sse;
use crate::state::AppState;
use crate::store::UnixTime;

pub(super) use logprobs::{content as logprob_entries, finite, text as token_text};
pub(super) use request::{StreamOptions, bias, effort_variables, stream, token_ids};
pub(super) use tools::{check as check_tools, choice as tool_choice, function};

/// What every part of a response says.
#[derive(Clone, Debug)]
struct Head {
    id: String,
    created: u64,
    model: String,
}

/// Answers a conversation.
pub(in crate::openai) async fn complete(
    State(state): State<AppState>,
    request: Request,
) -> Result<Response, ApiError> {
    let limits = state.limits;
    let parsed = body::read(request, limits, move |body| request::parse(body, &limits)).await?;
    let head = Head {
        id: ids::name("chatcmpl-"),
        created: UnixTime::now().seconds(),
        model: parsed.ask.model.clone(),
    };
    let generation = start(&state, parsed.ask).await?;
    match parsed.stream {
        Some(options) => {
            Ok(sse::respond(|events| stream::write(generation, head, options, parsed.logprobs, events)))
        }
        None => Ok(Json(answer::whole(generation, head, parsed.logprobs).await?).into_response()),
    }
}
