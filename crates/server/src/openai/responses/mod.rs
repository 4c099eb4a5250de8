//! `/v1/responses`: answers made of items, which the server keeps so that later requests can go on from them.
//!
//! Module map: `request` parameters · `items` what responses answer and consist of · `tools` what may be called ·
//! `store` where responses are kept · `record` what is kept, and gathering items from it · `conversation` from items to
//! messages · `truncate` where the context is too small · `output` from parts of an answer to items and events ·
//! `answer` whole responses · `stream` responses as they are written · `stored` responses that are kept.

mod answer;
mod conversation;
mod items;
mod output;
mod record;
mod request;
mod store;
mod stored;
mod stream;
mod tools;
mod truncate;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use self::answer::{Head, Keeper};
use self::items::Placed;
use self::output::Output;
use self::record::{Sources, common, gather, item_id, refers};
use self::request::Parsed;
use self::store::Responses;
use crate::body::{self, apart};
use crate::error::ApiError;
use crate::generation::{Generation, start};
use crate::ids;
use crate::sse;
use crate::state::AppState;
use crate::store::UnixTime;

/// The routes of the Responses API.
pub(super) fn router() -> Router<AppState> {
    Router::new()
        .route("/v1/responses", post(create))
        .route("/v1/responses/{id}", get(stored::get).delete(stored::delete))
        .route("/v1/responses/{id}/input_items", get(stored::input_items))
}

/// `POST /v1/responses`.
async fn create(State(state): State<AppState>, request: Request) -> Result<Response, ApiError> {
    let store = Responses::of(&state);
    let limits = state.limits;
    let mut parsed = body::read(request, limits, move |body| request::parse(body, &limits)).await?;
    let response = ids::name("resp_");
    let input = std::mem::take(&mut parsed.input);
    let previous = parsed.previous.clone();
    let (kept, prefix) = (store.clone(), common(&response).to_owned());
    let items = apart(previous.is_some() || refers(&input), move || {
        let sources = Sources { store: &kept, previous: previous.as_deref() };
        let mut items = gather(&sources, input, &limits)?;
        name(&mut items, &prefix);
        Ok::<_, ApiError>(items)
    })
    .await??;
    let generation = begin(&state, &parsed, &items).await.map_err(in_our_words)?;
    let custom = std::mem::take(&mut parsed.custom);
    let output = Output::new(common(&response), items.len(), custom, parsed.stream);
    let keeper = parsed.store.then(|| {
        let json = |placed: &Placed| placed.item.to_json(placed.id.as_deref().unwrap_or_default());
        Keeper { store, input: items.iter().map(json).collect() }
    });
    let head = Head {
        id: response,
        created: UnixTime::now().seconds(),
        model: parsed.ask.model,
        told: parsed.told,
        logprobs: parsed.logprobs,
        keeper,
    };
    match parsed.stream {
        true => Ok(sse::respond(|events| stream::write(generation, head, output, events))),
        false => {
            let whole = answer::whole(generation, head, output).await.map_err(in_our_words)?;
            Ok(Json(whole).into_response())
        }
    }
}

/// Names the items that have no name.
fn name(items: &mut [Placed], prefix: &str) {
    for (number, placed) in items.iter_mut().enumerate() {
        placed.id.get_or_insert_with(|| item_id(placed.item.prefix(), prefix, number));
    }
}

async fn begin(state: &AppState, parsed: &Parsed, items: &[Placed]) -> Result<Generation, ApiError> {
    let messages = match parsed.truncates {
        true => truncate::fit(state, parsed, items).await?,
        false => conversation::messages(parsed.instructions.as_deref(), items)?,
    };
    start(state, truncate::asked(parsed, messages)).await
}

/// An error that names parameters as this API has them.
fn in_our_words(error: ApiError) -> ApiError {
    let ours = match error.param.as_deref() {
        Some("response_format") => "text.format",
        Some("messages" | "prompt") => "input",
        _ => return error,
    };
    let named = error.param.as_ref().map(|theirs| format!("`{theirs}`: "));
    let message = match named.and_then(|named| error.message.strip_prefix(&named).map(str::to_owned)) {
        Some(what) => format!("`{ours}`: {what}"),
        None => error.message,
    };
    ApiError { message, param: Some(ours.to_owned()), ..error }
}
