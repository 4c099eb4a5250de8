//! Errors in the shape and the words that Anthropic's clients know.

use axum::http::HeaderValue;
use axum::response::Response;
use serde_json::Value;

use crate::error::ApiError;

/// The response to a request, with its number in the header where clients look for it.
pub(crate) fn respond(answered: Result<Response, ApiError>, request: &str) -> Response {
    let mut response = answered.unwrap_or_else(|error| {
        let error = worded(error);
        error.respond(error.anthropic(request))
    });
    if let Ok(value) = HeaderValue::from_str(request) {
        response.headers_mut().insert("request-id", value);
    }
    response
}

/// The event of a stream that cannot go on.
pub(super) fn event(error: ApiError, request: &str) -> Value {
    worded(error).anthropic(request)
}

/// The error with the parameter as a path of names and numbers (`messages.0.role`), and in the words of Anthropic's API
/// for what clients look for.
fn worded(error: ApiError) -> ApiError {
    let Some(param) = &error.param else { return error };
    let path = param.replace('[', ".").replace(']', "");
    let message = match (error.code, error.message.strip_prefix(&format!("`{param}`: "))) {
        (Some("unknown_parameter"), Some(_)) => "Extra inputs are not permitted",
        (Some("missing_required_parameter"), Some(_)) => "Field required",
        (_, Some(message)) => message,
        (_, None) => return error,
    };
    // What all APIs share knows a schema by OpenAI's name for it.
    let path = if path == "response_format" { "output_config.format.schema" } else { &path };
    ApiError { message: format!("{path}: {message}"), ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_points() {
        let message = |error: ApiError| worded(error).message;
        assert_eq!(
            message(ApiError::parameter("messages[0].content[12].type", "is bad")),
            "messages.0.content.12.type: is bad"
        );
        assert_eq!(message(ApiError::parameter("response_format", "no")), "output_config.format.schema: no");
        assert_eq!(message(ApiError::invalid("all of it").about("messages")), "all of it");
        assert_eq!(
            message(ApiError::parameter("a", "x").code("unknown_parameter")),
            "a: Extra inputs are not permitted"
        );
        assert_eq!(
            message(ApiError::parameter("a", "x").code("missing_required_parameter")),
            "a: Field required"
        );
    }
}
