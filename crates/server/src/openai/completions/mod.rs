//! `POST /v1/completions`: text that goes on from a prompt as it is.
//!
//! Module map: `request` parameters · `answer` whole answers and streams.

mod answer;
mod request;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::FINGERPRINT;
use crate::body;
use crate::error::ApiError;
use crate::generation::{count_tokens, start};
use crate::ids;
use crate::sse;
use crate::state::AppState;
use crate::store::UnixTime;

/// What every part of a response says.
#[derive(Clone, Debug)]
struct Head {
    id: String,
    created: u64,
    model: String,
}

impl Head {
    fn body(&self, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        })
    }
}

/// Continues prompts.
pub(super) async fn complete(State(state): State<AppState>, request: Request) -> Result<Response, ApiError> {
    let limits = state.limits;
    let parsed = body::read(request, limits, move |body| request::parse(body, &limits)).await?;
    let request::Parsed { ask, prompts, stream, echo, logprobs } = parsed;
    let head = Head { id: ids::name("cmpl-"), created: UnixTime::now().seconds(), model: ask.model.clone() };
    let generates = ask.max_tokens != Some(0);
    let mut parts = Vec::with_capacity(prompts.len());
    for input in prompts {
        let ask = crate::generation::Ask { input, ..ask.clone() };
        let echoed = if echo { answer::text(&state, &ask).await? } else { String::new() };
        if generates {
            parts.push(answer::Part { generation: Some(start(&state, ask).await?), echoed, prompt: 0 });
        } else {
            let prompt = count_tokens(&state, ask).await?;
            parts.push(answer::Part { generation: None, echoed, prompt });
        }
    }
    match stream {
        Some(options) => Ok(sse::respond(|events| answer::write(parts, head, options, logprobs, events))),
        None => Ok(Json(answer::whole(parts, &head, logprobs).await?).into_response()),
    }
}
