//! All routes together, and what is done for each request whatever its route.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;

use crate::auth::{AuthError, Caller, authenticate};
use crate::error::ApiError;
use crate::listen::Peer;
use crate::log::{Line, Log};
use crate::state::AppState;
use crate::store::UnixTime;
use crate::{anthropic, api, auth, conversations, health, ids, openai, openapi, page, runs};

/// How requests are let in.
#[derive(Clone, Debug, Default)]
pub struct Doors {
    /// Where each request is written.
    pub log: Log,
    /// Origins of other sites whose pages may use the server from a browser; none unless named.
    pub origins: Vec<String>,
    /// Names under which the server may be reached beside addresses and `localhost`. A page of another site can make a
    /// browser believe that its own name leads here (DNS rebinding); its requests then carry that name.
    pub hosts: Vec<String>,
    /// Whether any name is good: requests carry keys, which another site's page does not have.
    pub any_host: bool,
}

impl Doors {
    fn knows(&self, origin: &HeaderValue) -> bool {
        self.origins.iter().any(|known| known.as_bytes() == origin.as_bytes())
    }
}

/// The number of a request, in its log line and in the answer's `x-request-id`.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

#[derive(Clone)]
struct Gate {
    state: AppState,
    doors: Arc<Doors>,
}

/// The whole server as one service.
pub fn app(state: AppState, doors: Doors) -> Router {
    let gate = Gate { state: state.clone(), doors: Arc::new(doors) };
    Router::new()
        .route("/health", get(health::health))
        .route("/metrics", get(health::metrics))
        .merge(api::router())
        .merge(runs::router())
        .merge(openai::router())
        .merge(conversations::routes())
        .merge(anthropic::router())
        .merge(openapi::router())
        .merge(page::router())
        .fallback(nothing_here)
        .method_not_allowed_fallback(other_method)
        .with_state(state)
        .layer(middleware::from_fn_with_state(gate, pass))
}

fn error(status: StatusCode, message: &str, code: &'static str) -> ApiError {
    ApiError::new(status, message).code(code)
}

async fn nothing_here(request: Request) -> ApiError {
    let path: String = request.uri().path().chars().take(200).collect();
    error(
        StatusCode::NOT_FOUND,
        &format!("there is nothing at {path}; /openapi.json lists what there is"),
        "not_found",
    )
}

async fn other_method(request: Request) -> ApiError {
    let message =
        format!("{} is not what this address takes; /openapi.json says what it does", request.method());
    error(StatusCode::METHOD_NOT_ALLOWED, &message, "method_not_allowed")
}

/// Every request passes here, and every answer: names, origins, body, panics, headers, log.
async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let path: String = request.uri().path().chars().take(200).collect();
    let client = request.extensions().get::<Peer>().map(|peer| peer.0);
    let trace = trace_id(request.headers());
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = match admit(&gate, request, &id).await {
        Ok((request, None)) => guarded(request, next).await,
        Ok((request, Some(caller))) => answer(request, next, caller).await,
        Err(refused) => refused.response(&path, &id),
    };
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert("x-request-id", value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(origin) = origin.filter(|o| gate.doors.knows(o)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
    }
    gate.doors.log.write(&Line {
        id: &id,
        trace: trace.as_deref(),
        client,
        method: method.as_str(),
        path: &path,
        status: response.status().as_u16(),
        time: begin.elapsed(),
    });
    response
}

/// Runs the handlers for a caller, who holds the permit until the last byte of the answer.
async fn answer(request: Request, next: Next, caller: Caller) -> Response {
    let permit = caller.permit.clone();
    let mut response = caller.scope(guarded(request, next)).await;
    let Some(permit) = permit else { return response };
    permit.rates().write(response.headers_mut());
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _held = &permit;
            frame
        }))
    })
}

/// Runs the handlers; a panic in one fails its own request only.
async fn guarded(request: Request, next: Next) -> Response {
    let mut run = Box::pin(next.run(request));
    std::future::poll_fn(move |context| {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(context)));
        polled.unwrap_or_else(|_| {
            let message = "internal error; only this request is lost, and the server's log has more";
            std::task::Poll::Ready(ApiError::internal(message).code("panic").into_response())
        })
    })
    .await
}

/// Why a request does not come in.
enum Refusal {
    /// It is wrong.
    Error(ApiError),
    /// Its key is, or may no more.
    Key(AuthError),
    /// It was a browser's question, and this is the answer.
    Preflight,
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Refusal {
        Refusal::Error(error)
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Refusal {
        Refusal::Key(error)
    }
}

impl Refusal {
    /// The refusal of request `id` in the shape that clients of this address read.
    fn response(self, path: &str, id: &str) -> Response {
        let shaped = |error: ApiError| match path.starts_with("/v1/messages") {
            true => anthropic::respond(Err(error), id),
            false => error.into_response(),
        };
        match self {
            Refusal::Error(error) => shaped(error),
            Refusal::Key(error) => {
                let mut response = shaped(error.clone().into());
                error.write_headers(response.headers_mut());
                response
            }
            Refusal::Preflight => preflight(),
        }
    }
}

async fn admit(gate: &Gate, mut request: Request, id: &str) -> Result<(Request, Option<Caller>), Refusal> {
    let headers = request.headers();
    if !gate.doors.any_host && !host_is_known(headers, &gate.doors.hosts) {
        let what =
            "the request names another host than this server's (Host header); add it with --allow-host NAME";
        return Err(error(StatusCode::FORBIDDEN, what, "host").into());
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        if !gate.doors.knows(origin) && !same_origin(origin, headers) {
            let what = "pages of other sites may not use this server; allow one with --allow-origin URL";
            return Err(error(StatusCode::FORBIDDEN, what, "origin").into());
        }
        // It carries no key: the request that follows does.
        if request.method() == Method::OPTIONS && gate.doors.knows(origin) {
            return Err(Refusal::Preflight);
        }
    }
    request.extensions_mut().insert(RequestId(id.to_owned()));
    let client = match is_open(request.uri().path()) {
        true => None,
        false => Some(authenticate(request.headers(), &gate.state.store, UnixTime::now())?),
    };
    if matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH) {
        request = read_body(gate, request).await?;
    }
    let Some(client) = client else { return Ok((request, None)) };
    let computes = request.method() == Method::POST && request.uri().path().starts_with("/v1/");
    let permit = match computes {
        true => {
            let bytes = request.body().size_hint().exact().unwrap_or(0);
            Some(Arc::new(auth::admit(&client, bytes / BYTES_PER_TOKEN, UnixTime::now())?))
        }
        false => None,
    };
    let share = if client.id == 0 { made_up(request.headers()) } else { client.id };
    Ok((request, Some(Caller { client: client.id, share, priority: client.priority, permit })))
}

/// A number for whatever key a request carries though none is needed: programs that share a server differ in it.
fn made_up(headers: &HeaderMap) -> u64 {
    let mut hasher = DefaultHasher::new();
    headers.get(header::AUTHORIZATION).or_else(|| headers.get("x-api-key")).hash(&mut hasher);
    hasher.finish()
}

/// What a token takes of a request, about: what a request is thought to need until it is known.
const BYTES_PER_TOKEN: u64 = 4;

/// What needs no key: the page, which asks for one itself, and whether the server works.
fn is_open(path: &str) -> bool {
    !(path.starts_with("/v1/") || path.starts_with("/api/") || path == "/metrics") || path == "/api/info"
}

/// What a browser asks before it sends a request from another site's page.
fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, DELETE"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, x-api-key, anthropic-version, anthropic-beta",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// Reads the whole body before any handler runs: no more than the limit, and not for longer than a client may take.
async fn read_body(gate: &Gate, request: Request) -> Result<Request, ApiError> {
    let limits = gate.state.limits;
    let (parts, body) = request.into_parts();
    let declared =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > limits.body as u64) {
        return Err(ApiError::too_large(limits.body));
    }
    let read = tokio::time::timeout(limits.body_time, Limited::new(body, limits.body).collect());
    match read.await {
        Err(_) => {
            let what = format!("the body did not arrive within {} s", limits.body_time.as_secs());
            Err(error(StatusCode::REQUEST_TIMEOUT, &what, "timeout"))
        }
        Ok(Err(problem)) if problem.is::<LengthLimitError>() => Err(ApiError::too_large(limits.body)),
        Ok(Err(_)) => Err(error(StatusCode::BAD_REQUEST, "the body broke off", "body")),
        Ok(Ok(body)) => Ok(Request::from_parts(parts, Body::from(body.to_bytes()))),
    }
}

/// The client's own number of the request, if it is a plain one; else a new one.
fn request_id(headers: &HeaderMap) -> String {
    const OWN: HeaderName = HeaderName::from_static("x-request-id");
    let plain = |text: &&str| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    match headers.get(OWN).and_then(|v| v.to_str().ok()).filter(plain) {
        Some(theirs) => theirs.to_owned(),
        None => ids::name("req_"),
    }
}

/// The trace that the request belongs to (W3C Trace Context: `00-TRACE-PARENT-FLAGS`), for whoever joins logs.
fn trace_id(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("traceparent")?.to_str().ok()?;
    let trace = value.split('-').nth(1)?;
    (trace.len() == 32 && trace.bytes().all(|b| b.is_ascii_hexdigit())).then(|| trace.to_owned())
}

/// The host of a `Host` header or an origin, without its port.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

fn host_is_known(headers: &HeaderMap, known: &[String]) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = without_port(host);
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    is_address || name.eq_ignore_ascii_case("localhost") || known.iter().any(|k| k.eq_ignore_ascii_case(name))
}

/// Whether the origin is the server's own page: the same host and port as the request went to.
fn same_origin(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let (Ok(origin), Some(Ok(host))) = (origin.to_str(), headers.get(header::HOST).map(|h| h.to_str()))
    else {
        return false;
    };
    origin.split_once("://").is_some_and(|(_, theirs)| theirs.eq_ignore_ascii_case(host))
}
