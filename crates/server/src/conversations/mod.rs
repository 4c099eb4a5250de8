//! `/api/conversations`: what the web page keeps on the server.
//!
//! | Route | Answer |
//! | --- | --- |
//! | `GET /api/conversations` | `{"conversations": [{id, title, model, created, updated, revision}]}`, newest first |
//! | `POST /api/conversations` with `{title, model, document}` | 201 and the same fields |
//! | `DELETE /api/conversations` | `{"deleted": COUNT}` |
//! | `GET /api/conversations/{id}` | the same fields and `document` |
//! | `PUT /api/conversations/{id}` with `{title, model, document, revision}` | the same fields with the new revision; 409 and the `current` conversation when `revision` is not the stored one |
//! | `DELETE /api/conversations/{id}` | `{"deleted": 1}` |
//! | `GET /api/conversations/{id}/export` | the conversation as a file |
//!
//! Times are Unix seconds. A client sees its own conversations and no others: those of others are 404.

mod document;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRef, Path, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderMap, HeaderValue};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;

use crate::auth::Client;
use crate::error::ApiError;
use crate::store::conversations::{Conversation, ConversationSummary, Draft, Updated};
use crate::store::{Store, StoreError, UnixTime};
use document::CompactJson;

/// Bytes of a request: a document, and what is around it.
const MAX_BODY: usize = Conversation::MAX_DOCUMENT + (64 << 10);

/// The routes. Each asks for a [`Client`], so that without a key that works there is only 401.
pub fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Store: FromRef<S>,
{
    Router::new()
        .route("/api/conversations", get(list).post(create).delete(delete_all))
        .route("/api/conversations/{id}", get(read).put(update).delete(delete))
        .route("/api/conversations/{id}/export", get(export))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(map_response(private))
}

async fn list(State(store): State<Store>, client: Client) -> Result<Response, ApiError> {
    let conversations = store.run(move |store| store.list_conversations(client.id)).await?;
    Ok(Json(json!({ "conversations": conversations })).into_response())
}

async fn create(
    State(store): State<Store>,
    client: Client,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = json_body(&headers, body)?;
    let work = move |store: &Store| -> Result<ConversationSummary, ApiError> {
        let (draft, _) = parse(&body)?;
        Ok(store.create_conversation(client.id, &draft, UnixTime::now())?)
    };
    Ok((StatusCode::CREATED, Json(store.run(work).await?)).into_response())
}

async fn read(
    State(store): State<Store>,
    client: Client,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let text = store.run(move |store| found(store, &client, &id)?.to_json()).await?;
    Ok(json_text(text))
}

async fn update(
    State(store): State<Store>,
    client: Client,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = json_body(&headers, body)?;
    let work = move |store: &Store| -> Result<Response, ApiError> {
        let (draft, revision) = parse(&body)?;
        let revision = revision.ok_or(bad("`revision` is missing; send the one that you last read"))?;
        match store.update_conversation(client.id, &id, &draft, revision, UnixTime::now())? {
            Updated::Written(summary) => Ok(Json(summary).into_response()),
            Updated::Missing => Err(missing()),
            Updated::Conflict(current) => {
                let message = "somebody else wrote this conversation first; merge with `current`, and write again \
                               with its revision";
                let error = json!({ "message": message, "code": "conflict" });
                let text = format!("{{\"error\":{error},\"current\":{}}}", current.to_json()?);
                Ok((StatusCode::CONFLICT, json_text(text)).into_response())
            }
        }
    };
    store.run(work).await
}

async fn delete(
    State(store): State<Store>,
    client: Client,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let deleted = store.run(move |store| store.delete_conversation(client.id, &id)).await?;
    if deleted { Ok(Json(json!({ "deleted": 1 })).into_response()) } else { Err(missing()) }
}

async fn delete_all(State(store): State<Store>, client: Client) -> Result<Response, ApiError> {
    let deleted = store.run(move |store| store.delete_conversations(client.id)).await?;
    Ok(Json(json!({ "deleted": deleted })).into_response())
}

async fn export(
    State(store): State<Store>,
    client: Client,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let work = move |store: &Store| -> Result<(String, String), ApiError> {
        let conversation = found(store, &client, &id)?;
        Ok((file_name(&conversation.summary), conversation.to_json()?))
    };
    let (name, text) = store.run(work).await?;
    let mut response = json_text(text);
    // The name has nothing in it that would need quoting.
    if let Ok(disposition) = HeaderValue::try_from(format!("attachment; filename=\"{name}\"")) {
        response.headers_mut().insert(CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

fn found(store: &Store, client: &Client, id: &str) -> Result<Conversation, ApiError> {
    store.conversation(client.id, id)?.ok_or_else(missing)
}

/// `TITLE.json`, of the title's ASCII letters and digits.
fn file_name(summary: &ConversationSummary) -> String {
    let mut name = String::new();
    for c in summary.title.chars().take(60) {
        if c.is_ascii_alphanumeric() {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_end_matches('-');
    format!("{}.json", if name.is_empty() { "conversation" } else { name })
}

impl Conversation {
    /// All of it as JSON, with the document as it is stored.
    fn to_json(&self) -> Result<String, ApiError> {
        let summary = serde_json::to_string(&self.summary).map_err(|_| internal())?;
        let fields = summary.strip_suffix('}').ok_or_else(internal)?;
        Ok(format!("{fields},\"document\":{}}}", self.document))
    }
}

fn json_text(text: String) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
}

/// A response that no cache keeps.
async fn private(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The bytes of a request that says it is JSON. A page of another origin cannot send that without being asked for
/// permission by the browser first, which a plain form can.
fn json_body(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Bytes, ApiError> {
    let said = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let said = said.split(';').next().unwrap_or_default().trim();
    if !said.eq_ignore_ascii_case("application/json") {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(
            ApiError::new(status, "send `Content-Type: application/json`").code("unsupported_media_type")
        );
    }
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ => bad("the body did not arrive; send it again"),
    })
}

#[derive(Deserialize)]
struct Incoming {
    title: String,
    #[serde(default)]
    model: Option<String>,
    document: CompactJson,
    #[serde(default)]
    revision: Option<u64>,
}

fn parse(body: &[u8]) -> Result<(Draft, Option<u64>), ApiError> {
    let incoming: Incoming =
        serde_json::from_slice(body).map_err(|e| bad(format!("the body is not as it should be: {e}")))?;
    let document = incoming.document.text(Conversation::MAX_DOCUMENT).ok_or_else(too_large)?;
    let model = incoming.model.filter(|model| !model.is_empty());
    Ok((Draft { title: incoming.title, model, document }, incoming.revision))
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::invalid(message).code("invalid_request")
}

fn missing() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "there is no conversation with this id").code("not_found")
}

fn too_large() -> ApiError {
    let limit = Conversation::MAX_DOCUMENT >> 20;
    let message = format!("a conversation may have {limit} MiB; export it, and begin another");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message).code("too_large")
}

fn internal() -> ApiError {
    ApiError::internal("the store failed; try again, and tell whoever runs the server").code("store_failed")
}

/// What a client hears of the store. Paths are none of its business.
impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        match error {
            StoreError::Invalid { .. } => bad(error.to_string()),
            StoreError::TooMany { .. } => {
                ApiError::new(StatusCode::INSUFFICIENT_STORAGE, error.to_string()).code("too_many")
            }
            StoreError::DiskFull { .. } => {
                let message = "the server's disk is full; tell whoever runs it";
                ApiError::new(StatusCode::INSUFFICIENT_STORAGE, message).code("disk_full")
            }
            StoreError::Busy { .. } | StoreError::CutOff => {
                let message = "the store is busy; try again";
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).code("store_busy")
            }
            _ => internal(),
        }
    }
}
