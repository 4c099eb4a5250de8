//! What the page asks beside chats: which models and files there are, loading and unloading.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::body;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::folder;
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

/// The string `name`, which is all that the body of `request` has.
async fn only(state: &AppState, request: Request, name: &'static str) -> Result<String, ApiError> {
    body::read(request, state.limits, move |body| {
        let fields = Fields::root(body)?;
        fields.only(&[&[name]])?;
        Ok(fields.required_string(name)?.to_owned())
    })
    .await
}

async fn load(State(state): State<AppState>, request: Request) -> Result<Response, ApiError> {
    state.registry.load(&only(&state, request, "id").await?).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({}))).into_response())
}

async fn unload(State(state): State<AppState>, request: Request) -> Result<Json<Value>, ApiError> {
    let was_loaded = state.registry.unload(&only(&state, request, "id").await?)?;
    Ok(Json(json!({"was_loaded": was_loaded})))
}

async fn add(State(state): State<AppState>, request: Request) -> Result<Response, ApiError> {
    let path = only(&state, request, "path").await?;
    let registry = state.registry.clone();
    // Reads the head of a file, which may lie on a slow disk.
    let added = tokio::task::spawn_blocking(move || registry.add_from_folder(&path)).await;
    let id = added.map_err(|_| ApiError::internal("the file could not be read"))??;
    Ok((StatusCode::CREATED, Json(json!({"id": id}))).into_response())
}

async fn files(State(state): State<AppState>) -> Json<Value> {
    let root = state.registry.options().folder.clone();
    let listed = tokio::task::spawn_blocking(move || {
        let files = root.as_deref().map(folder::models).unwrap_or_default();
        json!({"folder": root, "files": files})
    });
    Json(listed.await.unwrap_or_else(|_| json!({"folder": null, "files": []})))
}
