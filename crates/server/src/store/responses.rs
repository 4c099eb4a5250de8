//! Answers of `/v1/responses` that a later request may build on, for a while.

use rusqlite::{OptionalExtension, Transaction, params};

use super::{Store, StoreError, UnixTime, check_length};

/// Characters of a response's id.
pub const MAX_ID: usize = 128;
/// Bytes of one response.
pub const MAX_BYTES: usize = 16 << 20;
/// Responses of one client; the oldest go first.
pub const MAX_COUNT: u64 = 2000;
/// Bytes of one client's responses; the oldest go first.
pub const MAX_TOTAL: u64 = 256 << 20;
/// Milliseconds that a response is kept: 30 days.
pub const KEPT: u64 = 30 * 86_400_000;

impl Store {
    /// Keeps a response of `client` for 30 days from `created`, in place of one that has the same id. What is older
    /// than that goes, and the client's oldest beyond [`MAX_COUNT`] or [`MAX_TOTAL`].
    ///
    /// # Errors
    /// When the id or the JSON is too long, or the disk refuses.
    pub fn put_response(
        &self,
        client: u64,
        id: &str,
        created: UnixTime,
        json: &str,
    ) -> Result<(), StoreError> {
        check_length("the id of a response", id, MAX_ID)?;
        if json.len() > MAX_BYTES {
            let why = format!("may have {MAX_BYTES} bytes at most");
            return Err(StoreError::Invalid { what: "a response that is stored", why });
        }
        self.write(|transaction| {
            sweep(transaction, created)?;
            transaction.execute(
                "INSERT INTO responses (client, id, created, bytes, json) VALUES (?1, ?2, ?3, ?4, ?5) \
                 ON CONFLICT (client, id) DO UPDATE SET created = ?3, bytes = ?4, json = ?5",
                params![client, id, created, json.len(), json],
            )?;
            transaction.execute(
                "DELETE FROM responses WHERE seq IN ( \
                   SELECT seq FROM ( \
                     SELECT seq, row_number() OVER newest AS place, sum(bytes) OVER newest AS total \
                     FROM responses WHERE client = ?1 \
                     WINDOW newest AS (ORDER BY created DESC, seq DESC) \
                   ) WHERE place > ?2 OR total > ?3 \
                 )",
                params![client, MAX_COUNT, MAX_TOTAL],
            )?;
            Ok(())
        })
    }

    /// The response of `client` with that id, unless it is 30 days old at `now`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn get_response(&self, client: u64, id: &str, now: UnixTime) -> Result<Option<String>, StoreError> {
        self.read(|connection| {
            let query = "SELECT json FROM responses WHERE client = ?1 AND id = ?2 AND created > ?3";
            connection.query_row(query, params![client, id, oldest(now)], |row| row.get(0)).optional()
        })
    }

    /// Deletes the response of `client` with that id; whether there was one.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn delete_response(&self, client: u64, id: &str) -> Result<bool, StoreError> {
        self.write(|transaction| {
            let query = "DELETE FROM responses WHERE client = ?1 AND id = ?2";
            Ok(transaction.execute(query, params![client, id])? > 0)
        })
    }
}

/// What was made then or earlier is gone. -1: early in 1970 nothing is.
fn oldest(now: UnixTime) -> i64 {
    now.millis().checked_sub(KEPT).and_then(|millis| i64::try_from(millis).ok()).unwrap_or(-1)
}

/// Deletes what is older than [`KEPT`], of all clients.
pub(super) fn sweep(transaction: &Transaction<'_>, now: UnixTime) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM responses WHERE created <= ?1", [oldest(now)]).map(drop)
}
