//! API keys: made, listed, revoked, and found by the hash of their secret.

use std::sync::atomic::Ordering;

use ring::digest::{SHA256, digest};
use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;

use super::{Store, StoreError, UnixTime, check_length, random_hex};

/// What a key may do. Whatever is absent has no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeyLimits {
    /// Requests a minute; a minute's worth may come at once.
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute, read and written; a minute's worth may come at once.
    pub tokens_per_minute: Option<u64>,
    /// Tokens a day (UTC), read and written.
    pub tokens_per_day: Option<u64>,
    /// Requests that are answered at the same time.
    pub concurrent: Option<u32>,
    /// Of two requests that wait, the one of higher priority goes first; 0 is usual.
    pub priority: i32,
    /// When the key stops working.
    pub expires: Option<UnixTime>,
}

/// A key, without its secret, which nobody has but its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyRecord {
    /// Never used again for another key; from 1.
    pub id: u64,
    /// No other valid key has it.
    pub name: String,
    /// The end of the secret, to tell keys apart by: `...1f3a`.
    pub hint: String,
    /// When it was made.
    pub created: UnixTime,
    /// When it was revoked; `None` while it is valid.
    pub revoked: Option<UnixTime>,
    /// When it was last used, to a few seconds.
    pub last_used: Option<UnixTime>,
    /// What it may do.
    pub limits: KeyLimits,
}

/// What keys and their parts may be.
impl KeyRecord {
    /// Keys that may be valid at the same time.
    pub const MAX_KEYS: u64 = 10_000;
    /// Characters of a name.
    pub const MAX_NAME: usize = 100;
    /// What every secret begins with.
    pub const PREFIX: &str = "ak-";
    /// Bytes of a secret: the prefix, and 32 random bytes in hexadecimal.
    pub const SECRET_BYTES: usize = 3 + 64;
}

/// The SHA-256 of a secret.
///
/// A slow hash, as passwords need, would add nothing: those slow down the guessing of what people make up, and of 256
/// random bits nobody guesses any. It would only make every request slow. That a lookup by hash takes longer for some
/// hashes than for others tells nothing either, since who asks cannot choose the hash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SecretHash([u8; 32]);

impl SecretHash {
    pub(crate) fn of(secret: &str) -> SecretHash {
        let mut hash = [0; 32];
        for (to, from) in hash.iter_mut().zip(digest(&SHA256, secret.as_bytes()).as_ref()) {
            *to = *from;
        }
        SecretHash(hash)
    }
}

const COLUMNS: &str = "id, name, hint, created, revoked, last_used, requests_per_minute, tokens_per_minute, \
                       tokens_per_day, concurrent, priority, expires";

fn record(row: &Row<'_>) -> rusqlite::Result<KeyRecord> {
    Ok(KeyRecord {
        id: row.get(0)?,
        name: row.get(1)?,
        hint: row.get(2)?,
        created: row.get(3)?,
        revoked: row.get(4)?,
        last_used: row.get(5)?,
        limits: KeyLimits {
            requests_per_minute: row.get(6)?,
            tokens_per_minute: row.get(7)?,
            tokens_per_day: row.get(8)?,
            concurrent: row.get(9)?,
            priority: row.get(10)?,
            expires: row.get(11)?,
        },
    })
}

impl Store {
    /// Makes a key, and returns it with its secret, which is kept nowhere and cannot be had again.
    ///
    /// # Errors
    /// When the name is taken, empty, longer than [`KeyRecord::MAX_NAME`], a number or has control characters, when a
    /// limit is 0 or the expiry past, when there are [`KeyRecord::MAX_KEYS`] keys, or the disk refuses.
    pub fn create_key(
        &self,
        name: &str,
        limits: KeyLimits,
        now: UnixTime,
    ) -> Result<(KeyRecord, String), StoreError> {
        check_name(name)?;
        check_limits(&limits, now)?;
        let secret = format!("{}{}", KeyRecord::PREFIX, random_hex::<32>()?);
        let hint = format!("...{}", secret.get(secret.len().saturating_sub(4)..).unwrap_or_default());
        let id = self.write(|transaction| {
            let (count, taken): (u64, bool) = transaction.query_row(
                "SELECT count(*), coalesce(max(name = ?1), 0) FROM keys WHERE id > 0 AND revoked IS NULL",
                [name],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            if taken {
                return Err(StoreError::NameTaken { name: name.to_owned() }.into());
            }
            if count >= KeyRecord::MAX_KEYS {
                return Err(StoreError::TooMany { what: "keys", limit: KeyRecord::MAX_KEYS }.into());
            }
            transaction.execute(
                "INSERT INTO keys (name, hash, hint, created, requests_per_minute, tokens_per_minute, \
                 tokens_per_day, concurrent, priority, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                params![
                    name,
                    SecretHash::of(&secret).0,
                    hint,
                    now,
                    limits.requests_per_minute,
                    limits.tokens_per_minute,
                    limits.tokens_per_day,
                    limits.concurrent,
                    limits.priority,
                    limits.expires
                ],
            )?;
            Ok(u64::try_from(transaction.last_insert_rowid()).unwrap_or_default())
        })?;
        self.0.keyed.store(true, Ordering::Relaxed);
        let name = name.to_owned();
        Ok((KeyRecord { id, name, hint, created: now, revoked: None, last_used: None, limits }, secret))
    }

    /// All keys, revoked ones too, the oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list_keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.flush()?;
        self.read(|connection| {
            let query = format!("SELECT {COLUMNS} FROM keys WHERE id > 0 ORDER BY id");
            connection.prepare(&query)?.query_map((), record)?.collect()
        })
    }

    /// Makes the valid key with that id or name invalid from now on, in every process, and returns it.
    ///
    /// # Errors
    /// When there is no such key, or the disk refuses.
    pub fn revoke_key(&self, id_or_name: &str, now: UnixTime) -> Result<KeyRecord, StoreError> {
        // No name is a number.
        let id = id_or_name.parse::<u32>().ok();
        let revoked = self.write(|transaction| {
            let query = format!(
                "UPDATE keys SET revoked = ?1 WHERE id > 0 AND revoked IS NULL AND (id = ?2 OR name = ?3) \
                 RETURNING {COLUMNS}"
            );
            let revoked = transaction.query_row(&query, params![now, id, id_or_name], record).optional()?;
            // Who asks may ask for anything: what they wrote is not repeated beyond the length of a name.
            let which = || id_or_name.chars().take(KeyRecord::MAX_NAME).collect();
            revoked.ok_or_else(|| StoreError::NoSuchKey { which: which() }.into())
        })?;
        self.meters().forget(revoked.id);
        Ok(revoked)
    }

    /// The key with that secret, whether valid or not.
    pub(crate) fn find_key(&self, hash: SecretHash) -> Result<Option<KeyRecord>, StoreError> {
        self.look_up(|connection| {
            let query = format!("SELECT {COLUMNS} FROM keys WHERE hash = ?1");
            connection.query_row(&query, [hash.0], record).optional()
        })
    }
}

fn check_name(name: &str) -> Result<(), StoreError> {
    let what = "the name of a key";
    check_length(what, name, KeyRecord::MAX_NAME)?;
    let why = if name.trim().is_empty() {
        "is empty; choose one that says who will use it"
    } else if name.chars().any(char::is_control) {
        "has control characters; choose one without"
    } else if name.bytes().all(|b| b.is_ascii_digit()) {
        "is a number, which would look like an id; add a letter"
    } else {
        return Ok(());
    };
    Err(StoreError::Invalid { what, why: why.to_owned() })
}

fn check_limits(limits: &KeyLimits, now: UnixTime) -> Result<(), StoreError> {
    let numbers = [
        ("requests_per_minute", limits.requests_per_minute.map(u64::from)),
        ("tokens_per_minute", limits.tokens_per_minute),
        ("tokens_per_day", limits.tokens_per_day),
        ("concurrent", limits.concurrent.map(u64::from)),
    ];
    for (what, limit) in numbers {
        let why = match limit {
            Some(0) => "is 0, with which a key can do nothing; leave the limit out, or make no key",
            Some(n) if i64::try_from(n).is_err() => "is too large to mean anything; leave it out",
            _ => continue,
        };
        return Err(StoreError::Invalid { what, why: why.to_owned() });
    }
    if limits.expires.is_some_and(|expires| expires <= now) {
        return Err(StoreError::Invalid {
            what: "expires",
            why: "is in the past; give a later time".to_owned(),
        });
    }
    Ok(())
}
