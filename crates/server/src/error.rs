//! What a client is told when its request cannot be answered, in the shapes that OpenAI's and Anthropic's clients read.

use std::time::Duration;

use autarky_engine::service::{JobError, Refused};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::auth::AuthError;
use crate::registry::ModelError;

/// An error with everything that either API tells of it. As a response it has OpenAI's shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The status of the response.
    pub status: StatusCode,
    /// What is wrong and what to do, in words.
    pub message: String,
    /// The parameter that is wrong, as a path such as `messages[0].role`.
    pub param: Option<String>,
    /// The kind of error in one word, where clients know one.
    pub code: Option<&'static str>,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    /// An error with this status and nothing else known.
    pub fn new(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError { status, message: message.into(), param: None, code: None, retry_after: None }
    }

    /// The request is wrong as a whole: 400.
    pub fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, message)
    }

    /// One parameter of the request is wrong: 400. The message names it.
    pub fn parameter(param: impl Into<String>, message: impl Into<String>) -> ApiError {
        let param = param.into();
        let message = format!("`{param}`: {}", message.into());
        ApiError { param: Some(param), ..ApiError::invalid(message) }
    }

    /// The body has more than `limit` bytes: 413.
    pub fn too_large(limit: usize) -> ApiError {
        let what = format!("the body has more than {limit} bytes; send less");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, what).code("too_large")
    }

    /// Something went wrong that is not the client's fault: 500.
    pub fn internal(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// With a word for programs.
    #[must_use]
    pub fn code(mut self, code: &'static str) -> ApiError {
        self.code = Some(code);
        self
    }

    /// With the parameter that it is about.
    #[must_use]
    pub fn about(mut self, param: &str) -> ApiError {
        self.param = Some(param.to_owned());
        self
    }

    /// The word that OpenAI's API has for errors of this status.
    pub fn openai_type(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            400..500 => "invalid_request_error",
            503 => "overloaded_error",
            _ => "server_error",
        }
    }

    /// The word that Anthropic's API has for errors of this status.
    pub fn anthropic_type(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            400..500 => "invalid_request_error",
            503 => "overloaded_error",
            _ => "api_error",
        }
    }

    /// The body of a response, or an event of a stream, as OpenAI's API has it.
    pub fn openai(&self) -> Value {
        let (kind, code) = (self.openai_type(), self.code);
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": code}})
    }

    /// The same as Anthropic's API has it.
    pub fn anthropic(&self, request_id: &str) -> Value {
        let error = json!({"type": self.anthropic_type(), "message": self.message});
        json!({"type": "error", "error": error, "request_id": request_id})
    }

    /// A response with this body, and with what the headers tell of the error.
    pub(crate) fn respond(&self, body: Value) -> Response {
        let mut response = (self.status, Json(body)).into_response();
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs().max(1);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.respond(self.openai())
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> ApiError {
        let retry_after = error.retry_after().map(Duration::from_secs);
        let known = ApiError::new(error.status(), error.message()).code(error.code());
        ApiError { retry_after, ..known }
    }
}

impl From<ModelError> for ApiError {
    fn from(error: ModelError) -> ApiError {
        let message = error.to_string();
        match error {
            ModelError::Unknown { .. } => {
                ApiError::new(StatusCode::NOT_FOUND, message).code("model_not_found").about("model")
            }
            ModelError::Failed { .. } => ApiError::internal(message).code("model_failed"),
            ModelError::Memory { .. } => {
                let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).code("memory");
                ApiError { retry_after: Some(Duration::from_secs(10)), ..error }
            }
            ModelError::Path(_) | ModelError::Adapter { .. } => ApiError::invalid(message),
        }
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> ApiError {
        let message = refused.to_string();
        match refused {
            Refused::TooLong { .. } => ApiError::invalid(message).code("context_length_exceeded"),
            Refused::Option { what, .. } => {
                let named = if what == "a token" { "prompt" } else { what };
                ApiError::invalid(message).about(&named.replace([' ', '-'], "_"))
            }
            Refused::NoEmbeddings => ApiError::invalid(message).about("model").code("unsupported_model"),
            Refused::QueueFull { retry_after, .. } => {
                let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).code("queue_full");
                ApiError { retry_after: Some(retry_after), ..error }
            }
            Refused::Draining => {
                let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).code("stopping");
                ApiError { retry_after: Some(Duration::from_secs(5)), ..error }
            }
            _ => ApiError::invalid(message),
        }
    }
}

impl From<JobError> for ApiError {
    fn from(error: JobError) -> ApiError {
        let message = error.to_string();
        match error {
            // A schema that the tokens cannot spell, or that takes too long to follow.
            JobError::Constraint(_) => ApiError::invalid(message).code("constraint"),
            JobError::Stopped => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).code("stopping"),
            _ => ApiError::internal(message),
        }
    }
}
