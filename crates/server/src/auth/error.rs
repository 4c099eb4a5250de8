//! Refusals, with all that an API's error shape needs, and the headers that tell clients how far they are from limits.

use std::fmt;

use axum::http::StatusCode;
use axum::http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};

use crate::error::ApiError;

/// The limit of a key that a request ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Requests at the same time.
    Concurrent,
    /// Requests a minute.
    RequestsPerMinute,
    /// Tokens a minute.
    TokensPerMinute,
    /// Tokens a day.
    TokensPerDay,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Concurrent => "requests at the same time",
            Limit::RequestsPerMinute => "requests a minute",
            Limit::TokensPerMinute => "tokens a minute",
            Limit::TokensPerDay => "tokens a day",
        })
    }
}

/// How far a key is from one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The limit, a minute.
    pub limit: u64,
    /// What may come at once.
    pub remaining: u64,
    /// Milliseconds until all of the limit may come at once.
    pub reset: u64,
}

/// How far a key is from its limits of requests and tokens a minute; `None` where it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Requests a minute.
    pub requests: Option<Rate>,
    /// Tokens a minute.
    pub tokens: Option<Rate>,
}

impl Rates {
    /// Adds the headers that OpenAI's API has: `x-ratelimit-limit-requests` and so on.
    pub fn write(&self, headers: &mut HeaderMap) {
        let names = [
            ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
            ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
        ];
        for (rate, (limit, remaining, reset)) in [self.requests, self.tokens].into_iter().zip(names) {
            let Some(rate) = rate else { continue };
            headers.insert(HeaderName::from_static(limit), rate.limit.into());
            headers.insert(HeaderName::from_static(remaining), rate.remaining.into());
            if let Ok(value) = HeaderValue::try_from(duration(rate.reset)) {
                headers.insert(HeaderName::from_static(reset), value);
            }
        }
    }
}

/// Milliseconds in the way of OpenAI's headers: `20ms`, `1.5s`, `6m0s`.
fn duration(millis: u64) -> String {
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let (seconds, millis) = (rest / 1000, rest % 1000);
    let fraction = format!(".{millis:03}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    match (minutes, seconds) {
        (0, 0) if millis > 0 => format!("{millis}ms"),
        (0, _) => format!("{seconds}{fraction}s"),
        _ => format!("{minutes}m{seconds}{fraction}s"),
    }
}

/// Why a request is not answered. The message says what to do, and never repeats the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// No key on the request.
    #[error("this server needs an API key; send it as `Authorization: Bearer KEY`, or as `x-api-key: KEY`")]
    Missing,
    /// A key that the store does not know.
    #[error("this API key is not known here; check that it is whole, and meant for this server")]
    Unknown,
    /// A key that was revoked.
    #[error("this API key was revoked; ask for a new one")]
    Revoked,
    /// A key that was valid for a time only.
    #[error("this API key has expired; ask for a new one")]
    Expired,
    /// A request that would be beyond the limit if it came alone.
    #[error("this request needs {needed} tokens, and this key may use {allowed} {limit}; make it shorter")]
    TooLarge {
        /// The limit.
        limit: Limit,
        /// What the key may use.
        allowed: u64,
        /// What the request asks for.
        needed: u64,
    },
    /// A request that came too soon.
    #[error("this key may have {allowed} {limit}; try again in {retry_after} seconds")]
    Limited {
        /// The limit.
        limit: Limit,
        /// What the key may have.
        allowed: u64,
        /// Seconds until it makes sense to try again.
        retry_after: u64,
        /// How far the key is from its limits.
        rates: Rates,
    },
    /// The store cannot be read. What is wrong with it is none of the client's business.
    #[error("the server cannot read its store of keys; try again, and tell whoever runs it")]
    Store,
}

impl AuthError {
    /// The HTTP status: 401, 413, 429 or 503.
    pub fn status(&self) -> StatusCode {
        match self {
            AuthError::Missing | AuthError::Unknown | AuthError::Revoked | AuthError::Expired => {
                StatusCode::UNAUTHORIZED
            }
            AuthError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            AuthError::Limited { .. } => StatusCode::TOO_MANY_REQUESTS,
            AuthError::Store => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// A word for programs, as in OpenAI's `error.code`.
    pub fn code(&self) -> &'static str {
        match self {
            AuthError::Missing => "missing_api_key",
            AuthError::Unknown | AuthError::Revoked | AuthError::Expired => "invalid_api_key",
            AuthError::TooLarge { .. } => "request_too_large",
            // OpenAI's word for a quota that is used up and not only exceeded for a minute.
            AuthError::Limited { limit: Limit::TokensPerDay, .. } => "insufficient_quota",
            AuthError::Limited { .. } => "rate_limit_exceeded",
            AuthError::Store => "store_unavailable",
        }
    }

    /// What people read.
    pub fn message(&self) -> String {
        self.to_string()
    }

    /// Seconds until it makes sense to try again, where it does.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            AuthError::Limited { retry_after, .. } => Some(*retry_after),
            AuthError::Store => Some(5),
            _ => None,
        }
    }

    /// `Retry-After`, `x-ratelimit-*` and `WWW-Authenticate`, as far as they apply, in whatever error shape.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let AuthError::Limited { rates, .. } = self {
            rates.write(headers);
        }
        if self.status() == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
    }
}

/// OpenAI's shape, with all headers.
impl IntoResponse for AuthError {
    fn into_response(self) -> Response {
        let mut response = ApiError::from(self.clone()).into_response();
        self.write_headers(response.headers_mut());
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_openai_writes_them() {
        let cases = [(0, "0s"), (20, "20ms"), (1000, "1s"), (1500, "1.5s"), (59_999, "59.999s")];
        let longer = [(60_000, "1m0s"), (360_000, "6m0s"), (90_050, "1m30.05s")];
        for (millis, text) in cases.into_iter().chain(longer) {
            assert_eq!(duration(millis), text);
        }
    }

    #[test]
    fn a_refusal_for_a_limit_says_when_to_come_again_and_how_far_the_key_is_from_its_limits() {
        let requests = Some(Rate { limit: 60, remaining: 0, reset: 60_000 });
        let rates = Rates { requests, tokens: None };
        let limit = Limit::RequestsPerMinute;
        let response = AuthError::Limited { limit, allowed: 60, retry_after: 7, rates }.into_response();
        assert_eq!(response.status(), 429);
        let headers: Vec<_> =
            response.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert!(headers.contains(&("retry-after", "7")), "{headers:?}");
        assert!(headers.contains(&("x-ratelimit-limit-requests", "60")), "{headers:?}");
        assert!(headers.contains(&("x-ratelimit-remaining-requests", "0")), "{headers:?}");
        assert!(headers.contains(&("x-ratelimit-reset-requests", "1m0s")), "{headers:?}");
        assert!(!headers.iter().any(|(name, _)| name.ends_with("-tokens")), "{headers:?}");
    }
}
