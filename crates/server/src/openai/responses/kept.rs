//! Responses that a later request may build on: in the store, each client's own.

use autarky_text::Message;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::store::{Store, StoreError, UnixTime};

/// What is kept of a response.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    /// As it was answered.
    pub(super) response: Value,
    /// The conversation with it, without instructions.
    pub(super) messages: Vec<Message>,
    /// The items that were sent.
    pub(super) input: Vec<Value>,
}

/// Whose responses the present request sees.
pub(super) fn owner() -> u64 {
    Caller::current().map_or(0, |caller| caller.client)
}

fn failed(_: StoreError) -> ApiError {
    ApiError::internal("the server cannot reach its store of responses; try again, and tell whoever runs it")
}

impl Kept {
    /// Keeps it. Where it is too large, or the disk refuses, it is not there later: the answer itself was good.
    pub(super) async fn put(self, store: &Store, owner: u64, id: String) {
        let put = move |store: &Store| {
            let json = serde_json::to_string(&self).unwrap_or_default();
            store.put_response(owner, &id, UnixTime::now(), &json)
        };
        let _: Result<(), StoreError> = store.run(put).await;
    }

    /// The response with that id, if it is kept.
    pub(super) async fn get(store: &Store, owner: u64, id: String) -> Result<Option<Kept>, ApiError> {
        let found = store.run(move |store: &Store| store.get_response(owner, &id, UnixTime::now())).await;
        let text = found.map_err(failed)?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Forgets the response with that id; whether there was one.
    pub(super) async fn delete(store: &Store, owner: u64, id: String) -> Result<bool, ApiError> {
        store.run(move |store: &Store| store.delete_response(owner, &id)).await.map_err(failed)
    }
}
