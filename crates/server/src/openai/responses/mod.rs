//! `POST /v1/responses`, and what was answered: `GET` and `DELETE /v1/responses/{id}`,
//! `GET /v1/responses/{id}/input_items`.
//!
//! Module map: `request` parameters · `items` the conversation · `record` a response as it grows, and its events ·
//! `kept` responses that a later request may build on.

mod items;
mod kept;
mod record;
mod request;

use autarky_text::Message;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::body;
use crate::client::Client;
use crate::error::ApiError;
use crate::generation::{Generation, Input, Update, start};
use crate::sse::{self, Events, Gone};
use crate::state::AppState;
use crate::store::Store;
use kept::{Kept, owner};
use record::Record;
use request::Parsed;

/// The routes of responses.
pub(super) fn router() -> Router<AppState> {
    Router::new()
        .route("/v1/responses", post(create))
        .route("/v1/responses/{id}", get(read).delete(delete))
        .route("/v1/responses/{id}/input_items", get(input_items))
}

/// What is kept of a response when it ends.
struct Keeper {
    /// `None`: nothing is.
    store: Option<Store>,
    owner: u64,
    /// Everything that was said before it.
    said: Vec<Message>,
    input: Vec<Value>,
}

impl Keeper {
    async fn keep(self, record: &Record, finished: &Value) {
        let Some(store) = self.store else { return };
        let mut messages = self.said;
        messages.extend(record.message());
        let kept = Kept { response: finished.clone(), messages, input: self.input };
        kept.put(&store, self.owner, record.id().to_owned()).await;
    }
}

/// Answers.
async fn create(State(state): State<AppState>, request: Request) -> Result<Response, ApiError> {
    let owner = owner();
    let (limits, client) = (state.limits, Client::of(&request));
    let parsed = body::read(request, limits, move |body| request::parse(body, &limits, client)).await?;
    let Parsed { mut ask, previous, instructions, input, echo, store, stream } = parsed;
    let mut said = Vec::new();
    if let Some(id) = previous {
        let Some(kept) = Kept::get(&state.store, owner, id).await? else {
            let what =
                "there is no such response, or it is not kept any more; send the conversation in `input`";
            let error = ApiError::parameter("previous_response_id", what);
            return Err(error.code("previous_response_not_found"));
        };
        said = kept.messages;
    }
    if let Input::Conversation(conversation) = &mut ask.input {
        said.append(&mut conversation.messages);
        items::link(&mut said)?;
        conversation.messages = instructions.into_iter().chain(said.iter().cloned()).collect();
    }
    let with_logprobs = ask.logprobs.is_some();
    let generation = start(&state, ask).await?;
    let record = Record::new(echo, with_logprobs, generation.model().tokenizer.clone());
    let keeper = Keeper { store: store.then(|| state.store.clone()), owner, said, input };
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
                keeper.keep(&record, &finished).await;
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
                keeper.keep(&record, &finished).await;
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

fn named(id: Id) -> Result<String, ApiError> {
    id.map(|Path(id)| id).map_err(|e| ApiError::invalid(e.to_string()))
}

fn missing() -> ApiError {
    let what = "there is no response with this id, or it is not kept any more";
    ApiError::new(StatusCode::NOT_FOUND, what).about("id").code("response_not_found")
}

async fn find(state: &AppState, id: Id) -> Result<Kept, ApiError> {
    Kept::get(&state.store, owner(), named(id)?).await?.ok_or_else(missing)
}

async fn read(State(state): State<AppState>, id: Id) -> Result<Json<Value>, ApiError> {
    Ok(Json(find(&state, id).await?.response))
}

async fn delete(State(state): State<AppState>, id: Id) -> Result<Json<Value>, ApiError> {
    let id = named(id)?;
    match Kept::delete(&state.store, owner(), id.clone()).await? {
        true => Ok(Json(json!({"id": id, "object": "response", "deleted": true}))),
        false => Err(missing()),
    }
}

async fn input_items(State(state): State<AppState>, id: Id) -> Result<Json<Value>, ApiError> {
    let data = find(&state, id).await?.input;
    let name = |item: Option<&Value>| item.and_then(|item| item.get("id").cloned());
    let (first, last) = (name(data.first()), name(data.last()));
    Ok(Json(json!({"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": false})))
}
