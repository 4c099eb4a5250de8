//! The web page, which is part of the binary.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::state::AppState;

/// What the page may load: itself, and nothing from anywhere else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

macro_rules! file {
    ($kind:literal, $name:literal) => {
        get(|| async { part($kind, include_bytes!(concat!("../page/", $name))) })
    };
}

/// The routes of the page's files.
pub fn router() -> axum::Router<AppState> {
    axum::Router::new()
        .route("/", file!("text/html; charset=utf-8", "index.html"))
        .route("/app.js", file!("text/javascript; charset=utf-8", "app.js"))
        .route("/app.css", file!("text/css; charset=utf-8", "app.css"))
        .route("/icon.svg", file!("image/svg+xml", "icon.svg"))
}

fn part(kind: &'static str, bytes: &'static [u8]) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        // A new version of the binary brings a new page under the same names.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, bytes).into_response()
}
