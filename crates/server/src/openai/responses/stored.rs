//! Responses that are kept: shown, forgotten, and what they answered.

use std::collections::HashMap;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::{Json, RequestExt};
use serde_json::{Value, json};

use super::record::{Record, no_response};
use super::store::Responses;
use crate::body::apart;
use crate::error::ApiError;
use crate::fields::shown;
use crate::state::AppState;

type Queries = Result<Query<HashMap<String, String>>, QueryRejection>;

/// What is asked of a kept response: its id and the parameters.
struct Asked {
    id: String,
    queries: HashMap<String, String>,
}

impl Asked {
    async fn of(mut request: Request) -> Result<Asked, ApiError> {
        let id: Result<Path<String>, PathRejection> = request.extract_parts().await;
        let Path(id) = id.map_err(|e| ApiError::invalid(e.to_string()))?;
        let queries: Queries = request.extract_parts().await;
        let Query(queries) = queries.map_err(|e| ApiError::invalid(e.to_string()))?;
        Ok(Asked { id, queries })
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.queries.get(name).map(String::as_str)
    }
}

async fn record(store: Responses, id: String) -> Result<Record, ApiError> {
    apart(true, move || Record::read(&store, &id)?.ok_or_else(|| no_response(&id))).await?
}

/// `GET /v1/responses/{id}`.
pub(super) async fn get(State(state): State<AppState>, request: Request) -> Result<Json<Value>, ApiError> {
    let asked = Asked::of(request).await?;
    if asked.parameter("stream").is_some_and(|value| value != "false") {
        let what = "a response that is kept is told whole; leave it out";
        return Err(ApiError::parameter("stream", what).code("unsupported_parameter"));
    }
    let record = record(Responses::of(&state), asked.id).await?;
    Ok(Json(record.response))
}

/// `DELETE /v1/responses/{id}`.
pub(super) async fn delete(State(state): State<AppState>, request: Request) -> Result<Json<Value>, ApiError> {
    let Asked { id, .. } = Asked::of(request).await?;
    let store = Responses::of(&state);
    let (deleted, id) = apart(true, move || (store.delete(&id), id)).await?;
    match deleted {
        Ok(true) => Ok(Json(json!({"id": id, "object": "response", "deleted": true}))),
        Ok(false) => Err(no_response(&id)),
        Err(failure) => Err(ApiError::internal(format!("the response cannot be deleted: {failure}"))),
    }
}

/// `GET /v1/responses/{id}/input_items`: the items that it answered, those of earlier responses included.
pub(super) async fn input_items(
    State(state): State<AppState>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let asked = Asked::of(request).await?;
    let limit = match asked.parameter("limit").map(str::parse::<usize>) {
        None => 20,
        Some(Ok(limit)) if (1..=100).contains(&limit) => limit,
        Some(_) => {
            return Err(ApiError::parameter("limit", "must be between 1 and 100").code("invalid_value"));
        }
    };
    let descending = match asked.parameter("order") {
        None | Some("desc") => true,
        Some("asc") => false,
        Some(other) => {
            let what = format!("is `{}`, and must be one of: asc, desc", shown(other));
            return Err(ApiError::parameter("order", what).code("invalid_value"));
        }
    };
    let after = asked.parameter("after").map(str::to_owned);
    let mut items = record(Responses::of(&state), asked.id).await?.input;
    if descending {
        items.reverse();
    }
    let id = |item: &Value| item.get("id").and_then(Value::as_str).map(str::to_owned);
    if let Some(after) = after {
        let Some(place) = items.iter().position(|item| id(item).as_deref() == Some(after.as_str())) else {
            let what = format!("is `{}`, and no item has that id", shown(&after));
            return Err(ApiError::parameter("after", what).code("invalid_value"));
        };
        items.drain(..=place);
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    let end = |item: Option<&Value>| item.and_then(id).unwrap_or_default();
    let (first, last) = (end(items.first()), end(items.last()));
    Ok(Json(json!({
        "object": "list", "data": items, "first_id": first, "last_id": last, "has_more": has_more,
    })))
}
