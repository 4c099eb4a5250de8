//! Who may come in: names of the server, pages of other sites, sizes of bodies; and how the refused are told.

mod support;

use autarky_server::app::Doors;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use serde_json::Value;
use support::{app, read, with_doors};
use tower::ServiceExt;

/// What a request with these headers gets.
async fn knock(
    app: &Router,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> (HeaderMap, StatusCode, Value) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let headers = response.headers().clone();
    let answered = read(response).await;
    (headers, answered.status, serde_json::from_str(&answered.text).unwrap_or(Value::Null))
}

async fn status(app: &Router, headers: &[(&str, &str)]) -> StatusCode {
    knock(app, Method::GET, "/v1/models", headers).await.1
}

#[tokio::test]
async fn a_name_that_is_not_the_servers_is_refused() {
    let doors = Doors { hosts: vec!["models.example".to_owned()], ..Doors::default() };
    let app = with_doors(doors);
    for host in
        ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "[::1]:8080", "192.168.1.2", "Models.Example:443"]
    {
        assert_eq!(status(&app, &[("host", host)]).await, StatusCode::OK, "{host}");
    }
    for host in
        ["evil.example", "localhost.evil.example", "models.example.evil:8080", "127.0.0.1.evil.example"]
    {
        let (_, status, body) = knock(&app, Method::GET, "/v1/models", &[("host", host)]).await;
        assert_eq!((status, &body["error"]["code"]), (StatusCode::FORBIDDEN, &"host".into()), "{host}");
    }
    let open = with_doors(Doors { any_host: true, ..Doors::default() });
    assert_eq!(status(&open, &[("host", "any.example")]).await, StatusCode::OK);
}

#[tokio::test]
async fn pages_of_other_sites_are_refused_unless_they_were_allowed() {
    const FRIEND: &str = "https://friend.example";
    let app = with_doors(Doors { origins: vec![FRIEND.to_owned()], ..Doors::default() });
    let own = [("host", "localhost:8080"), ("origin", "http://localhost:8080")];
    assert_eq!(status(&app, &own).await, StatusCode::OK);
    for origin in ["https://evil.example", "http://localhost:8081", "https://friend.example.evil", "null"] {
        for method in [Method::GET, Method::OPTIONS] {
            let headers = [("host", "localhost:8080"), ("origin", origin)];
            let (headers, status, body) = knock(&app, method, "/v1/models", &headers).await;
            assert_eq!(
                (status, &body["error"]["code"]),
                (StatusCode::FORBIDDEN, &"origin".into()),
                "{origin}"
            );
            assert!(!headers.contains_key("access-control-allow-origin"), "{origin}");
        }
    }
    let friend = [("host", "localhost:8080"), ("origin", FRIEND)];
    for (method, expected) in [(Method::GET, StatusCode::OK), (Method::OPTIONS, StatusCode::NO_CONTENT)] {
        let (headers, status, _) = knock(&app, method, "/v1/models", &friend).await;
        assert_eq!((status, headers["access-control-allow-origin"].to_str().unwrap()), (expected, FRIEND));
        assert_eq!(headers["vary"], "origin");
    }
}

#[tokio::test]
async fn the_refused_are_told_in_the_shape_of_their_api_with_the_number_of_their_request() {
    let app = app();
    let headers = [("host", "evil.example"), ("x-request-id", "mine-7")];
    let (headers, _, body) = knock(&app, Method::POST, "/v1/messages", &headers).await;
    assert_eq!((&body["type"], &body["error"]["type"]), (&"error".into(), &"permission_error".into()));
    assert_eq!((&body["request_id"], &headers["request-id"]), (&"mine-7".into(), &"mine-7".parse().unwrap()));
    // A number that would spoil a log gets another.
    for odd in ["", "a b", "\"quoted\"", &"x".repeat(65)] {
        let (headers, ..) = knock(&app, Method::GET, "/health", &[("x-request-id", odd)]).await;
        assert!(headers["x-request-id"].to_str().unwrap().starts_with("req_"), "{odd}");
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_whether_or_not_its_size_is_told() {
    let app = app();
    let large = vec![b' '; (16 << 20) + 1];
    let told = Request::post("/v1/completions").header("content-length", large.len()).body(Body::empty());
    let untold = Request::post("/v1/completions").body(Body::from(large));
    for request in [told, untold] {
        let answered = read(app.clone().oneshot(request.unwrap()).await.unwrap()).await;
        assert_eq!(answered.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(answered.json()["error"]["code"], "too_large");
    }
}
