//! From a request's bytes to JSON, with bounds on what the JSON may cost.

use axum::extract::Request;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use crate::error::ApiError;
use crate::state::RequestLimits;

/// Values that a body may have: one takes about 80 bytes, whatever it is.
const VALUES: usize = 1_000_000;
/// A body above this is parsed apart from the threads that answer others.
const LARGE: usize = 64 << 10;

/// Reads the body of `request` as JSON, and makes of it what `parse` makes.
///
/// # Errors
/// 413 for a body beyond the limit, 400 for what is no JSON or nested too deep, and what `parse` says.
pub(crate) async fn read<T: Send + 'static>(
    request: Request,
    limits: RequestLimits,
    parse: impl FnOnce(&Value) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let bytes = match Limited::new(request.into_body(), limits.body).collect().await {
        Ok(body) => body.to_bytes(),
        Err(problem) if problem.is::<LengthLimitError>() => {
            return Err(ApiError::too_large(limits.body));
        }
        Err(_) => return Err(ApiError::invalid("the body broke off")),
    };
    let size = bytes.len();
    apart(size > LARGE, move || parse(&json(&bytes, limits.depth)?)).await?
}

/// Runs `work` where it holds up no other request, if it may take long.
///
/// # Errors
/// When it panicked.
pub(crate) async fn apart<T: Send + 'static>(
    long: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    if !long {
        return Ok(work());
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ApiError::internal("internal error; only this request is lost"))
}

/// Parses a body, unless it is nested deeper than `depth` or has more values than a request needs.
fn json(bytes: &[u8], depth: usize) -> Result<Value, ApiError> {
    let (mut open, mut values, mut quoted, mut escaped) = (0usize, 1usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => {
                open += 1;
                values += 1;
                if open > depth {
                    let what = format!("the body is nested deeper than {depth} levels");
                    return Err(ApiError::invalid(what).code("nested_too_deep"));
                }
            }
            b']' | b'}' => open = open.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
    }
    if values > VALUES {
        let what = format!("the body has more than {VALUES} values; send less in one request");
        return Err(ApiError::invalid(what).code("too_many_values"));
    }
    serde_json::from_slice(bytes).map_err(|e| {
        let what = format!("the body is not valid JSON: {e}");
        ApiError::invalid(what).code("invalid_json")
    })
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn what_would_cost_too_much_is_refused_before_it_is_parsed() {
        let deep = "[".repeat(65) + &"]".repeat(65);
        assert_eq!(json(deep.as_bytes(), 64).unwrap_err().code, Some("nested_too_deep"));
        let fine = "[".repeat(64) + &"]".repeat(64);
        assert!(json(fine.as_bytes(), 64).is_ok());
        let many = format!("[{}0]", "0,".repeat(VALUES));
        assert_eq!(json(many.as_bytes(), 64).unwrap_err().code, Some("too_many_values"));
        let brackets_in_strings = format!(r#"{{"a": "{} \" {}"}}"#, "[".repeat(100), ",".repeat(VALUES));
        assert!(json(brackets_in_strings.as_bytes(), 64).is_ok());
    }

    #[test]
    fn what_is_no_json_is_told_with_its_place() {
        for bad in [&b"{\"a\": NaN}"[..], b"", b"{\"a\":", b"\xff\xfe", b"{} {}", b"{\"a\": 1e999}"] {
            let error = json(bad, 64).unwrap_err();
            assert_eq!((error.status, error.code), (StatusCode::BAD_REQUEST, Some("invalid_json")));
        }
    }
}
