//! `POST /v1/responses`, and what was answered: `GET` and `DELETE /v1/responses/{id}`,
//! `GET /v1/responses/{id}/input_items`.
//!
//! Module map: `request` parameters · `items` the conversation · `record` a response as it grows, and its events ·
//! `kept` responses that a later request may build on.

mod items;
mod kept;
mod record;
mod request;

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};

use crate::body;
use crate::client::Client;
use crate::error::ApiError;
use crate::generation::{Generation, Input, Update, start};
use crate::sse::{self, Events, Gone};
use crate::state::AppState;
use kept::{Kept, Responses};
use record::Record;
use request::Parsed;

/// The routes of responses.
pub(super) fn router() -> Router<AppState> {
    Router::new()
        .route("/v1/responses", post(create))
        .route("/v1/responses/{id}", get(read).delete(delete))
        .route("/v1/responses/{id}/input_items", get(input_items))
        .layer(Extension(Arc::<Responses>::default()))
}

/// What is kept of a response when it ends.
struct Keeper {
    responses: Arc<Responses>,
    client: u64,
    /// Everything that was said before it.
    said: Vec<autarky_text::Message>,
    input: Vec<Value>,
    store: bool,
}

impl Keeper {
    fn keep(self, record: &Record, finished: &Value) {
        if !self.store {
            return;
        }
        let mut messages = self.said;
        messages.extend(record.message());
        let kept = Kept { response: finished.clone(), messages, input: self.input };
        self.responses.put(self.client, record.id(), &kept);
    }
}

/// Answers.
async fn create(
    State(state): State<AppState>,
    Extension(responses): Extension<Arc<Responses>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (limits, client) = (state.limits, Client::of(&request));
    let parsed = body::read(request, limits, move |body| request::parse(body, &limits, client)).await?;
    let Parsed { mut ask, previous, instructions, input, echo, store, stream } = parsed;
    let mut said = match &previous {
        None => Vec::new(),
        Some(id) => match responses.get(client, id) {
            Some(kept) => kept.messages,
            None => {
                let what =
                    "there is no such response, or it is not kept any more; send the conversation in `input`";
                return Err(
                    ApiError::parameter("previous_response_id", what).code("previous_response_not_found")
                );
            }
        },
    };
    if let Input::Conversation(conversation) = &mut ask.input {
        said.append(&mut conversation.messages);
        items::link(&mut said)?;
        conversation.messages = instructions.into_iter().chain(said.iter().cloned()).collect();
    }
    let with_logprobs = ask.logprobs.is_some();
    let generation = start(&state, ask).await?;
    let record = Record::new(echo, with_logprobs, generation.model().tokenizer.clone());
    let keeper = Keeper { responses, client, said, input, store };
    if stream {
        return Ok(sse::respond(|events| write(generation, record, keeper, events)));
    }
    Ok(Json(whole(generation, record, keeper).await?).into_response())
}

/// Waits for the answer.
async fn whole(mut generation: Generation, mut record: Record, keeper: Keeper) -> Result<Value, ApiError> {
    loop {
        match generation.next().await? {
            Update::Finished(totals) => {
                let finished = record.finish(&totals);
                keeper.keep(&record, &finished);
                return Ok(finished);
            }
            update => record.take(update),
        }
        // Nobody reads them here.
        record.events();
    }
}

/// Sends the answer as it is written.
async fn write(
    mut generation: Generation,
    mut record: Record,
    keeper: Keeper,
    events: Events,
) -> Result<(), Gone> {
    record.begin();
    loop {
        send(&mut record, &events).await?;
        match generation.next().await {
            Ok(Update::Finished(totals)) => {
                let finished = record.finish(&totals);
                keeper.keep(&record, &finished);
                return send(&mut record, &events).await;
            }
            Ok(update) => record.take(update),
            Err(error) => {
                record.fail(&error);
                return send(&mut record, &events).await;
            }
        }
    }
}

/// Sends the events that are there.
async fn send(record: &mut Record, events: &Events) -> Result<(), Gone> {
    for event in record.events() {
        let name = event.get("type").and_then(Value::as_str).unwrap_or_default();
        events.event(name, &event).await?;
    }
    Ok(())
}

type Id = Result<Path<String>, PathRejection>;

fn find(responses: &Responses, client: u64, id: Id) -> Result<(String, Kept), ApiError> {
    let Path(id) = id.map_err(|e| ApiError::invalid(e.to_string()))?;
    match responses.get(client, &id) {
        Some(kept) => Ok((id, kept)),
        None => Err(missing()),
    }
}

fn missing() -> ApiError {
    let what = "there is no response with this id, or it is not kept any more";
    ApiError::new(axum::http::StatusCode::NOT_FOUND, what).about("id").code("response_not_found")
}

async fn read(
    Extension(responses): Extension<Arc<Responses>>,
    id: Id,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(find(&responses, Client::of(&request), id)?.1.response))
}

async fn delete(
    Extension(responses): Extension<Arc<Responses>>,
    id: Id,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let Path(id) = id.map_err(|e| ApiError::invalid(e.to_string()))?;
    match responses.delete(Client::of(&request), &id) {
        true => Ok(Json(json!({"id": id, "object": "response", "deleted": true}))),
        false => Err(missing()),
    }
}

async fn input_items(
    Extension(responses): Extension<Arc<Responses>>,
    id: Id,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let data = find(&responses, Client::of(&request), id)?.1.input;
    let name = |item: Option<&Value>| item.and_then(|item| item.get("id").cloned());
    let (first, last) = (name(data.first()), name(data.last()));
    Ok(Json(json!({"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": false})))
}
