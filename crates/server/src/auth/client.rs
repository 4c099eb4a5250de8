//! From headers to a client.

use std::fmt;
use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::header::{AUTHORIZATION, HeaderMap};
use axum::http::request::Parts;

use super::error::AuthError;
use super::meter::Meter;
use crate::store::keys::{KeyLimits, KeyRecord, SecretHash};
use crate::store::{Store, UnixTime};

/// Whoever sent a request. As an extractor it answers 401 by itself, and needs a state that has a [`Store`].
#[derive(Clone)]
pub struct Client {
    /// The key's id; 0 while there are no keys.
    pub id: u64,
    /// The key's name; empty while there are no keys.
    pub name: String,
    /// Of two requests that wait, the one of higher priority goes first.
    pub priority: i32,
    /// What the key may do.
    pub limits: KeyLimits,
    pub(super) meter: Arc<Meter>,
    pub(super) store: Store,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Client { id, name, limits, .. } = self;
        f.debug_struct("Client").field("id", id).field("name", name).field("limits", limits).finish()
    }
}

/// Who sent a request with these headers, by `Authorization: Bearer` or else by Anthropic's `x-api-key`. While the
/// store has never had a key, everybody is client 0 without limits, whatever they send; such a server must not be
/// reachable from elsewhere.
///
/// Only keys that the store knows leave a trace in memory.
///
/// # Errors
/// When there is no key or not one that works, or the store cannot be read.
pub fn authenticate(headers: &HeaderMap, store: &Store, now: UnixTime) -> Result<Client, AuthError> {
    if !store.has_keys().map_err(|_| AuthError::Store)? {
        return Ok(client(store, 0, String::new(), KeyLimits::default()));
    }
    let secret = secret(headers)?;
    // Nothing long is hashed.
    if secret.len() != KeyRecord::SECRET_BYTES || !secret.starts_with(KeyRecord::PREFIX) {
        return Err(AuthError::Unknown);
    }
    let found = store.find_key(SecretHash::of(secret)).map_err(|_| AuthError::Store)?;
    let key = found.ok_or(AuthError::Unknown)?;
    if key.revoked.is_some() {
        return Err(AuthError::Revoked);
    }
    if key.limits.expires.is_some_and(|expires| expires <= now) {
        return Err(AuthError::Expired);
    }
    store.touch(key.id, now);
    Ok(client(store, key.id, key.name, key.limits))
}

fn client(store: &Store, id: u64, name: String, limits: KeyLimits) -> Client {
    let meter = store.meters().of(id);
    Client { id, name, priority: limits.priority, limits, meter, store: store.clone() }
}

/// The secret on a request. An `Authorization` of another scheme, which may be a proxy's, does not count.
fn secret(headers: &HeaderMap) -> Result<&str, AuthError> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(secret)
    });
    let secret = bearer.or_else(|| headers.get("x-api-key")?.to_str().ok());
    secret.map(str::trim).filter(|secret| !secret.is_empty()).ok_or(AuthError::Missing)
}

impl<S> FromRequestParts<S> for Client
where
    S: Send + Sync,
    Store: FromRef<S>,
{
    type Rejection = AuthError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Client, AuthError> {
        authenticate(&parts.headers, &Store::from_ref(state), UnixTime::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn now() -> UnixTime {
        UnixTime::from_seconds(NOW)
    }

    fn with(name: &'static str, value: &str) -> HeaderMap {
        [(name.parse().unwrap(), value.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn without_keys_everybody_is_client_0_and_with_keys_nobody_is() {
        let store = Store::in_memory().unwrap();
        assert_eq!(authenticate(&HeaderMap::new(), &store, now()).unwrap().id, 0);
        assert_eq!(authenticate(&with("authorization", "Bearer sk-any"), &store, now()).unwrap().id, 0);
        store.create_key("a", KeyLimits::default(), now()).unwrap();
        assert_eq!(authenticate(&HeaderMap::new(), &store, now()).unwrap_err(), AuthError::Missing);
        // Not even when the last key is revoked.
        store.revoke_key("a", now()).unwrap();
        assert_eq!(authenticate(&HeaderMap::new(), &store, now()).unwrap_err(), AuthError::Missing);
    }

    #[test]
    fn a_key_is_taken_from_either_header_and_its_owner_is_known_by_it() {
        let store = Store::in_memory().unwrap();
        let limits = KeyLimits { priority: 7, ..KeyLimits::default() };
        let (key, secret) = store.create_key("first", limits.clone(), now()).unwrap();
        let (_, other) = store.create_key("second", KeyLimits::default(), now()).unwrap();
        for (name, value) in [
            ("authorization", format!("Bearer {secret}")),
            ("authorization", format!("bearer  {secret} ")),
            ("x-api-key", secret.clone()),
        ] {
            let client = authenticate(&with(name, &value), &store, now()).unwrap();
            assert_eq!((client.id, client.name.as_str(), client.priority), (key.id, "first", 7));
            assert_eq!(client.limits, limits);
        }
        let mut both = with("authorization", &format!("Bearer {other}"));
        both.insert("x-api-key", secret.parse().unwrap());
        assert_eq!(authenticate(&both, &store, now()).unwrap().name, "second");
        // A proxy's password is not a key of ours.
        both.insert("authorization", "Basic abc".parse().unwrap());
        assert_eq!(authenticate(&both, &store, now()).unwrap().name, "first");
        assert_eq!(store.list_keys().unwrap()[0].last_used, Some(now()));
    }

    #[test]
    fn what_is_not_a_valid_key_is_refused() {
        let store = Store::in_memory().unwrap();
        let expires = Some(now().after(1000));
        let (_, brief) =
            store.create_key("brief", KeyLimits { expires, ..KeyLimits::default() }, now()).unwrap();
        let (revoked, dead) = store.create_key("dead", KeyLimits::default(), now()).unwrap();
        store.revoke_key(&revoked.id.to_string(), now()).unwrap();
        let refused = |value: &str, at| authenticate(&with("authorization", value), &store, at).unwrap_err();

        let bearer = format!("Bearer {brief}");
        assert_eq!(
            authenticate(&with("authorization", &bearer), &store, now().after(999)).unwrap().name,
            "brief"
        );
        assert_eq!(refused(&bearer, now().after(1000)), AuthError::Expired);
        assert_eq!(refused(&format!("Bearer {dead}"), now()), AuthError::Revoked);

        let mut changed = brief.clone();
        let last = changed.pop().unwrap();
        for value in [
            changed.clone(),
            format!("{changed}{}", if last == '0' { '1' } else { '0' }),
            brief.to_uppercase(),
            brief.replace("ak-", "sk-"),
            format!("{brief}{brief}"),
            "x".repeat(1 << 20),
            "ak-' OR 1=1 --".to_owned(),
        ] {
            assert_eq!(refused(&format!("Bearer {value}"), now()), AuthError::Unknown);
        }
        for value in ["", "Bearer", "Bearer ", &brief] {
            assert_eq!(refused(value, now()), AuthError::Missing);
        }
        let bytes: HeaderMap =
            [(AUTHORIZATION, axum::http::HeaderValue::from_bytes(b"Bearer \xff").unwrap())]
                .into_iter()
                .collect();
        assert_eq!(authenticate(&bytes, &store, now()).unwrap_err(), AuthError::Missing);
    }

    #[test]
    fn strangers_leave_nothing_in_memory() {
        let store = Store::in_memory().unwrap();
        let (_, secret) = store.create_key("a", KeyLimits::default(), now()).unwrap();
        for i in 0..1000 {
            let stranger = format!("ak-{i:064x}");
            authenticate(&with("x-api-key", &stranger), &store, now()).unwrap_err();
        }
        assert_eq!(store.meters().len(), 0);
        authenticate(&with("x-api-key", &secret), &store, now()).unwrap();
        assert_eq!(store.meters().len(), 1);
        store.revoke_key("a", now()).unwrap();
        assert_eq!(store.meters().len(), 0);
    }

    #[test]
    fn debug_output_has_no_secret() {
        let store = Store::in_memory().unwrap();
        let (key, secret) = store.create_key("a", KeyLimits::default(), now()).unwrap();
        let client = authenticate(&with("x-api-key", &secret), &store, now()).unwrap();
        for text in [format!("{client:?}"), format!("{key:?}"), serde_json::to_string(&key).unwrap()] {
            assert!(!text.contains(&secret[3..30]), "{text}");
        }
    }
}
