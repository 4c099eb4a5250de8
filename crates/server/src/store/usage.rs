//! What each key used, by day. Kept in memory for a few seconds and written in batches, because an answer must not
//! wait for the disk to count it.

use std::collections::HashMap;
use std::ops::AddAssign;

use rusqlite::{OptionalExtension, Transaction, params};
use serde::Serialize;

use super::{Shared, Store, StoreError, UnixTime};
use crate::sync::lock;

/// Tokens of an answer, or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// Tokens of prompts, cached ones included.
    pub prompt: u64,
    /// Tokens of prompts that were not computed again.
    pub cached: u64,
    /// Tokens that were written.
    pub generated: u64,
}

impl Tokens {
    /// Tokens that count towards limits: all that were read and written.
    pub fn total(self) -> u64 {
        self.prompt.saturating_add(self.generated)
    }

    /// No sum of a few billion answers overflows SQLite's integers.
    fn bounded(self) -> Tokens {
        const MOST: u64 = 1 << 32;
        let Tokens { prompt, cached, generated } = self;
        Tokens { prompt: prompt.min(MOST), cached: cached.min(MOST), generated: generated.min(MOST) }
    }
}

impl AddAssign for Tokens {
    fn add_assign(&mut self, other: Tokens) {
        self.prompt = self.prompt.saturating_add(other.prompt);
        self.cached = self.cached.saturating_add(other.cached);
        self.generated = self.generated.saturating_add(other.generated);
    }
}

/// What a key used on one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UsageRow {
    /// The key; 0 is whoever asked while there were no keys.
    pub key: u64,
    /// The day in UTC, `YYYY-MM-DD`.
    pub date: String,
    /// Requests that were let in.
    pub requests: u64,
    /// Their tokens.
    #[serde(flatten)]
    pub tokens: Tokens,
}

/// Days that usage is kept.
pub const KEPT_DAYS: u32 = 400;

#[derive(Clone, Copy, Default)]
struct Counts {
    requests: u64,
    tokens: Tokens,
}

/// What is not written yet. There is at most one entry a key and day, however many requests come.
#[derive(Default)]
pub(super) struct Pending {
    counts: HashMap<(u64, u32), Counts>,
    used: HashMap<u64, UnixTime>,
}

impl Pending {
    fn count(&mut self, key: u64, day: u32, requests: u64, tokens: Tokens) {
        let counts = self.counts.entry((key, day)).or_default();
        counts.requests = counts.requests.saturating_add(requests);
        counts.tokens += tokens;
    }

    fn touch(&mut self, key: u64, now: UnixTime) {
        let last = self.used.entry(key).or_default();
        *last = now.max(*last);
    }

    fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.used.is_empty()
    }
}

impl Store {
    /// Counts a request of `key`. It is on the disk after the next [`Store::flush`].
    pub(crate) fn count_request(&self, key: u64, day: u32) {
        lock(&self.0.pending).count(key, day, 1, Tokens::default());
    }

    /// Counts tokens of `key`. They are on the disk after the next [`Store::flush`].
    pub(crate) fn count_tokens(&self, key: u64, day: u32, tokens: Tokens) {
        lock(&self.0.pending).count(key, day, 0, tokens.bounded());
    }

    /// Notes that `key` was used. It is on the disk after the next [`Store::flush`].
    pub(crate) fn touch(&self, key: u64, now: UnixTime) {
        lock(&self.0.pending).touch(key, now);
    }

    /// Tokens of `key` on `day` that count towards limits, whether written or not.
    pub(crate) fn tokens_of_day(&self, key: u64, day: u32) -> Result<u64, StoreError> {
        self.read(|connection| {
            let query = "SELECT prompt + generated FROM usage WHERE key = ?1 AND day = ?2";
            let written: Option<u64> =
                connection.query_row(query, params![key, day], |r| r.get(0)).optional()?;
            // Under the lock of the connection, so that no flush is between the two.
            let pending = lock(&self.0.pending).counts.get(&(key, day)).map_or(0, |c| c.tokens.total());
            Ok(written.unwrap_or_default().saturating_add(pending))
        })
    }

    /// Writes the usage that was counted since the last time. Quotas are as good as the last flush after a crash, and
    /// exact after an orderly end.
    ///
    /// # Errors
    /// When the disk refuses; nothing is lost then, and the next flush tries again.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.0.flush()
    }

    /// Usage by key and day since the day of `since`, the latest day first; of all keys, or of the one with this id.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn usage(&self, key: Option<u64>, since: UnixTime) -> Result<Vec<UsageRow>, StoreError> {
        self.flush()?;
        self.read(|connection| {
            let query = "SELECT key, date(day * 86400, 'unixepoch'), requests, prompt, cached, generated FROM usage \
                         WHERE (?1 IS NULL OR key = ?1) AND day >= ?2 ORDER BY day DESC, key";
            connection
                .prepare(query)?
                .query_map(params![key, since.day()], |row| {
                    Ok(UsageRow {
                        key: row.get(0)?,
                        date: row.get(1)?,
                        requests: row.get(2)?,
                        tokens: Tokens { prompt: row.get(3)?, cached: row.get(4)?, generated: row.get(5)? },
                    })
                })?
                .collect()
        })
    }
}

impl Shared {
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let mut connection = lock(&self.main);
        let pending = std::mem::take(&mut *lock(&self.pending));
        if pending.is_empty() {
            return Ok(());
        }
        let written = self.write(&mut connection, |transaction| Ok(write(transaction, &pending)?));
        if written.is_err() {
            let mut again = lock(&self.pending);
            for (&(key, day), counts) in &pending.counts {
                again.count(key, day, counts.requests, counts.tokens);
            }
            pending.used.iter().for_each(|(&key, &used)| again.touch(key, used));
        }
        written
    }
}

fn write(transaction: &Transaction<'_>, pending: &Pending) -> rusqlite::Result<()> {
    let mut add = transaction.prepare(
        "INSERT INTO usage (key, day, requests, prompt, cached, generated) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
         ON CONFLICT (key, day) DO UPDATE SET requests = requests + excluded.requests, \
         prompt = prompt + excluded.prompt, cached = cached + excluded.cached, \
         generated = generated + excluded.generated",
    )?;
    for ((key, day), Counts { requests, tokens }) in &pending.counts {
        add.execute(params![key, day, requests, tokens.prompt, tokens.cached, tokens.generated])?;
    }
    let mut touch =
        transaction.prepare("UPDATE keys SET last_used = max(coalesce(last_used, 0), ?2) WHERE id = ?1")?;
    for (key, used) in &pending.used {
        touch.execute(params![key, used])?;
    }
    Ok(())
}

/// Deletes what is older than [`KEPT_DAYS`].
pub(super) fn sweep(transaction: &Transaction<'_>, now: UnixTime) -> rusqlite::Result<()> {
    let oldest = now.day().saturating_sub(KEPT_DAYS);
    transaction.execute("DELETE FROM usage WHERE day < ?1", [oldest]).map(drop)
}
