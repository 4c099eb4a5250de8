//! `GET /v1/models`, `GET /v1/models/{id}`: which models there are, for clients of either API.

use std::sync::OnceLock;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::registry::ModelStatus;
use crate::state::AppState;
use crate::store::UnixTime;

/// When this server began: all that can be said of when a model was made.
fn begun() -> u64 {
    static BEGUN: OnceLock<u64> = OnceLock::new();
    *BEGUN.get_or_init(|| UnixTime::now().seconds())
}

pub(super) fn openai(model: &ModelStatus) -> Value {
    json!({
        "id": model.id,
        "object": "model",
        "created": begun(),
        "owned_by": "autarky",
        "context_length": model.context,
        // As vLLM tells it: of an adapter, the model that it is applied to.
        "parent": model.parent,
    })
}

/// Anthropic's clients tell their API's version with each request.
fn is_anthropic(headers: &HeaderMap) -> bool {
    headers.contains_key("anthropic-version")
}

fn anthropic(model: &ModelStatus) -> Value {
    json!({"type": "model", "id": model.id, "display_name": model.id, "created_at": "1970-01-01T00:00:00Z"})
}

/// All models.
pub(super) async fn list(State(state): State<AppState>, headers: HeaderMap) -> Json<Value> {
    let models = state.registry.status();
    if is_anthropic(&headers) {
        let data: Vec<Value> = models.iter().map(anthropic).collect();
        let (first, last) = (models.first().map(|m| &m.id), models.last().map(|m| &m.id));
        return Json(json!({"data": data, "has_more": false, "first_id": first, "last_id": last}));
    }
    let data: Vec<Value> = models.iter().map(openai).collect();
    Json(json!({"object": "list", "data": data}))
}

/// One model.
pub(super) async fn get(
    State(state): State<AppState>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(id) = id.map_err(|e| ApiError::invalid(e.to_string()))?;
    let models = state.registry.status();
    match models.iter().find(|m| m.id == id) {
        Some(model) if is_anthropic(&headers) => Ok(Json(anthropic(model))),
        Some(model) => Ok(Json(openai(model))),
        // Says which there are.
        None => Err(state
            .registry
            .info(&id)
            .err()
            .map_or_else(|| ApiError::internal("the model was removed just now"), ApiError::from)),
    }
}
