//! Conversations: documents with a title, each of one client and unseen by the others.

use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::Serialize;

use super::error::Fault;
use super::{Store, StoreError, UnixTime, check_length, random_hex};

/// A conversation without its document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConversationSummary {
    /// 32 hexadecimal digits, random.
    pub id: String,
    /// What people see in the list.
    pub title: String,
    /// The model it is held with, if one was chosen.
    pub model: Option<String>,
    /// When it was made.
    pub created: UnixTime,
    /// When it was last written.
    pub updated: UnixTime,
    /// 1 at first, and one more with every write.
    pub revision: u64,
}

/// A conversation with its document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// All but the document.
    pub summary: ConversationSummary,
    /// JSON, as it was written.
    pub document: String,
}

/// What a client writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// At most [`Conversation::MAX_TITLE`] characters.
    pub title: String,
    /// At most [`Conversation::MAX_MODEL`] characters.
    pub model: Option<String>,
    /// JSON of at most [`Conversation::MAX_DOCUMENT`] bytes. The store does not look into it.
    pub document: String,
}

/// What came of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Updated {
    /// It is written, and this is what it is now.
    Written(ConversationSummary),
    /// Somebody else wrote first; this is what they left.
    Conflict(Conversation),
    /// The client has no conversation with that id.
    Missing,
}

impl Conversation {
    /// Characters of a title.
    pub const MAX_TITLE: usize = 500;
    /// Characters of a model's name.
    pub const MAX_MODEL: usize = 300;
    /// Bytes of a document.
    pub const MAX_DOCUMENT: usize = 8 << 20;
    /// Conversations of a client.
    pub const MAX_COUNT: u64 = 10_000;
    /// Bytes of a client's documents together.
    pub const MAX_BYTES: u64 = 2 << 30;
}

const COLUMNS: &str = "id, title, model, created, updated, revision";

fn summary(row: &Row<'_>) -> rusqlite::Result<ConversationSummary> {
    Ok(ConversationSummary {
        id: row.get(0)?,
        title: row.get(1)?,
        model: row.get(2)?,
        created: row.get(3)?,
        updated: row.get(4)?,
        revision: row.get(5)?,
    })
}

fn whole(row: &Row<'_>) -> rusqlite::Result<Conversation> {
    Ok(Conversation { summary: summary(row)?, document: row.get(6)? })
}

impl Draft {
    fn check(&self) -> Result<(), StoreError> {
        check_length("title", &self.title, Conversation::MAX_TITLE)?;
        check_length("model", self.model.as_deref().unwrap_or_default(), Conversation::MAX_MODEL)?;
        if self.document.len() > Conversation::MAX_DOCUMENT {
            let why = format!("may have {} bytes at most", Conversation::MAX_DOCUMENT);
            return Err(StoreError::Invalid { what: "document", why });
        }
        Ok(())
    }
}

impl Store {
    /// A client's conversations, the one written last first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list_conversations(&self, client: u64) -> Result<Vec<ConversationSummary>, StoreError> {
        self.read(|connection| {
            let query = format!(
                "SELECT {COLUMNS} FROM conversations WHERE client = ?1 ORDER BY updated DESC, seq DESC"
            );
            connection.prepare(&query)?.query_map([client], summary)?.collect()
        })
    }

    /// A new conversation of `client`.
    ///
    /// # Errors
    /// When a part of the draft is too long, the client has as many or as much as it may, or the disk refuses.
    pub fn create_conversation(
        &self,
        client: u64,
        draft: &Draft,
        now: UnixTime,
    ) -> Result<ConversationSummary, StoreError> {
        draft.check()?;
        let id = random_hex::<16>()?;
        self.write(|transaction| {
            make_room(transaction, client, None, draft.document.len())?;
            let query = format!(
                "INSERT INTO conversations (id, client, title, model, created, updated, revision, bytes, document) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?5, 1, ?6, ?7) RETURNING {COLUMNS}"
            );
            let values =
                params![id, client, draft.title, draft.model, now, draft.document.len(), draft.document];
            Ok(transaction.query_row(&query, values, summary)?)
        })
    }

    /// The conversation of `client` with that id.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn conversation(&self, client: u64, id: &str) -> Result<Option<Conversation>, StoreError> {
        self.read(|connection| {
            let query =
                format!("SELECT {COLUMNS}, document FROM conversations WHERE id = ?1 AND client = ?2");
            connection.query_row(&query, params![id, client], whole).optional()
        })
    }

    /// Writes over a conversation if it still has `revision`.
    ///
    /// # Errors
    /// When a part of the draft is too long, the client has as much as it may, or the disk refuses.
    pub fn update_conversation(
        &self,
        client: u64,
        id: &str,
        draft: &Draft,
        revision: u64,
        now: UnixTime,
    ) -> Result<Updated, StoreError> {
        draft.check()?;
        self.write(|transaction| {
            let mine = params![id, client];
            let query = "SELECT revision, bytes FROM conversations WHERE id = ?1 AND client = ?2";
            let found = transaction.query_row(query, mine, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            let Some((current, bytes)): Option<(u64, usize)> = found else {
                return Ok(Updated::Missing);
            };
            if current != revision {
                let query = format!("SELECT {COLUMNS}, document FROM conversations WHERE id = ?1 AND client = ?2");
                return Ok(Updated::Conflict(transaction.query_row(&query, mine, whole)?));
            }
            make_room(transaction, client, Some(bytes), draft.document.len())?;
            let query = format!(
                "UPDATE conversations SET title = ?3, model = ?4, updated = ?5, revision = revision + 1, bytes = ?6, \
                 document = ?7 WHERE id = ?1 AND client = ?2 RETURNING {COLUMNS}"
            );
            let values =
                params![id, client, draft.title, draft.model, now, draft.document.len(), draft.document];
            Ok(Updated::Written(transaction.query_row(&query, values, summary)?))
        })
    }

    /// Deletes the conversation of `client` with that id; whether there was one.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn delete_conversation(&self, client: u64, id: &str) -> Result<bool, StoreError> {
        self.write(|transaction| {
            let query = "DELETE FROM conversations WHERE id = ?1 AND client = ?2";
            Ok(transaction.execute(query, params![id, client])? > 0)
        })
    }

    /// Deletes all conversations of `client`; how many there were.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn delete_conversations(&self, client: u64) -> Result<usize, StoreError> {
        self.write(|transaction| {
            Ok(transaction.execute("DELETE FROM conversations WHERE client = ?1", [client])?)
        })
    }
}

/// Whether a client may write a document of `bytes`, in place of one of `old` bytes or as a new one.
fn make_room(
    transaction: &Transaction<'_>,
    client: u64,
    old: Option<usize>,
    bytes: usize,
) -> Result<(), Fault> {
    // An index has both, so that no document is read for this.
    let query = "SELECT count(*), coalesce(sum(bytes), 0) FROM conversations WHERE client = ?1";
    let (count, total): (u64, u64) =
        transaction.query_row(query, [client], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if old.is_none() && count >= Conversation::MAX_COUNT {
        return Err(StoreError::TooMany { what: "conversations", limit: Conversation::MAX_COUNT }.into());
    }
    // What gets no larger is always let in.
    let old = old.unwrap_or_default() as u64;
    let after = total.saturating_sub(old).saturating_add(bytes as u64);
    if bytes as u64 > old && after > Conversation::MAX_BYTES {
        let what = "bytes of conversations";
        return Err(StoreError::TooMany { what, limit: Conversation::MAX_BYTES }.into());
    }
    Ok(())
}
