//! Who sends a request, as far as fairness goes.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::extract::Request;
use axum::http::header;

/// Whom a request counts for: the service is shared fairly among clients. Whoever knows clients better, such as a check
/// of API keys, puts one into the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client(pub u64);

impl Client {
    /// The client of `request`: as its extensions say, else one for each API key.
    pub(crate) fn of(request: &Request) -> u64 {
        if let Some(Client(id)) = request.extensions().get::<Client>() {
            return *id;
        }
        let headers = request.headers();
        let mut hasher = DefaultHasher::new();
        headers.get(header::AUTHORIZATION).or_else(|| headers.get("x-api-key")).hash(&mut hasher);
        hasher.finish()
    }
}
