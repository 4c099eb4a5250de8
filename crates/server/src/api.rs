//! What the page asks beside chats: which models and files there are, loading and unloading.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::folder;
use crate::registry::ModelError;
use crate::state::AppState;

/// The routes of the page's own API.
pub fn router() -> axum::Router<AppState> {
    axum::Router::new()
        .route("/api/info", get(info))
        .route("/api/models", get(models))
        .route("/api/models/load", post(load))
        .route("/api/models/unload", post(unload))
        .route("/api/models/add", post(add))
        .route("/api/files", get(files))
        .route("/api/stats", get(crate::health::stats))
}

async fn info(State(state): State<AppState>) -> Json<Value> {
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "models_folder": state.registry.options().folder,
        "needs_key": state.needs_key(),
        "device": state.about.device,
        "threads": state.about.threads,
    }))
}

async fn models(State(state): State<AppState>) -> Json<Value> {
    Json(json!({"models": state.registry.status()}))
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

async fn load(State(state): State<AppState>, Json(named): Json<Named>) -> Response {
    answer(state.registry.load(&named.id), StatusCode::ACCEPTED)
}

async fn unload(State(state): State<AppState>, Json(named): Json<Named>) -> Response {
    answer(state.registry.unload(&named.id).map(|_| ()), StatusCode::OK)
}

#[derive(Deserialize)]
struct InFolder {
    path: String,
}

async fn add(State(state): State<AppState>, Json(file): Json<InFolder>) -> Response {
    let registry = state.registry.clone();
    // Reads the head of a file, which may lie on a slow disk.
    let added = tokio::task::spawn_blocking(move || registry.add_from_folder(&file.path)).await;
    match added {
        Ok(Ok(id)) => (StatusCode::CREATED, Json(json!({"id": id}))).into_response(),
        Ok(Err(error)) => refusal(&error),
        Err(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            Json(json!({"error": {"message": "the file could not be read"}})),
        )
            .into_response(),
    }
}

async fn files(State(state): State<AppState>) -> Json<Value> {
    let root = state.registry.options().folder.clone();
    let listed = tokio::task::spawn_blocking(move || {
        let files = root.as_deref().map(folder::models).unwrap_or_default();
        json!({"folder": root, "files": files})
    });
    Json(listed.await.unwrap_or_else(|_| json!({"folder": null, "files": []})))
}

fn answer(result: Result<(), ModelError>, good: StatusCode) -> Response {
    match result {
        Ok(()) => (good, Json(json!({}))).into_response(),
        Err(error) => refusal(&error),
    }
}

fn refusal(error: &ModelError) -> Response {
    let (status, code) = match error {
        ModelError::Unknown { .. } => (StatusCode::NOT_FOUND, "model_not_found"),
        ModelError::Path(_) => (StatusCode::BAD_REQUEST, "model_path"),
        ModelError::Failed { .. } => (StatusCode::BAD_REQUEST, "model_failed"),
        ModelError::Memory { .. } => (StatusCode::SERVICE_UNAVAILABLE, "memory"),
    };
    let error =
        json!({"message": error.to_string(), "type": "invalid_request_error", "param": null, "code": code});
    (status, Json(json!({"error": error}))).into_response()
}
