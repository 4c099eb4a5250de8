//! `GET /openapi.json`: what is served, for programs (OpenAPI 3.1).

use axum::Router;
use axum::http::header;
use axum::routing::get;

use crate::state::AppState;

/// The description, which is part of the binary.
pub const OPENAPI: &str = include_str!("../openapi.json");

/// The route of the description.
pub fn router() -> Router<AppState> {
    Router::new()
        .route("/openapi.json", get(|| async { ([(header::CONTENT_TYPE, "application/json")], OPENAPI) }))
}
