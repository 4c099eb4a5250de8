//! Where responses are kept, so that later requests may go on from them: each client's own, in the server's store.

use crate::auth::Caller;
use crate::state::AppState;
use crate::store::{Store, StoreError, UnixTime};

/// The responses of the client whose request this is.
#[derive(Clone)]
pub(super) struct Responses {
    store: Store,
    client: u64,
}

impl Responses {
    /// Those of whoever the present work is done for.
    pub(super) fn of(state: &AppState) -> Responses {
        let client = Caller::current().map_or(0, |caller| caller.client);
        Responses { store: state.store.clone(), client }
    }

    /// Keeps `json` as the response `id`. Older ones may go to make room.
    pub(super) fn put(&self, id: &str, json: &str) -> Result<(), StoreError> {
        self.store.put_response(self.client, id, UnixTime::now(), json)
    }

    /// The response `id`, if there is one.
    pub(super) fn get(&self, id: &str) -> Result<Option<String>, StoreError> {
        self.store.get_response(self.client, id, UnixTime::now())
    }

    /// Forgets the response `id`; whether there was one.
    pub(super) fn delete(&self, id: &str) -> Result<bool, StoreError> {
        self.store.delete_response(self.client, id)
    }
}
