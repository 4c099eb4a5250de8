//! What outlives the process: API keys, usage, conversations and responses, in one SQLite file.
//!
//! Module map: `schema` the file and its schema · [`keys`] API keys · [`usage`] what each key used, by day ·
//! [`conversations`] what the web page keeps · [`responses`] answers that a later request may build on · `time` the
//! clock as an argument · `error` what can go wrong.
//!
//! Whatever a method answered is on the disk, but for usage, which is written in batches ([`Store::flush`]). Two
//! processes may share a file: what one writes the other sees with its next call. The file has to be on a disk of the
//! machine, because SQLite's write-ahead log needs memory that both processes see.

pub mod conversations;
mod error;
pub mod keys;
pub mod responses;
mod schema;
mod time;
pub mod usage;

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::auth::Meters;
use crate::sync::lock;
use error::Fault;
pub use error::StoreError;
pub use time::UnixTime;
use usage::Pending;

/// An open store. Cloning is cheap, and all clones are the same store; when the last goes, usage is written.
///
/// Methods take microseconds to read and as long as the disk takes to write, and must not run on threads that serve
/// sockets: [`Store::run`] moves them to others.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    path: PathBuf,
    /// The connection that writes, and reads what may be long.
    main: Mutex<Connection>,
    /// The connection that looks up keys; `None` without a file, where there can be only one.
    lookup: Option<Mutex<Connection>>,
    /// Usage that is not written yet. Whoever holds `main` as well locks that first.
    pending: Mutex<Pending>,
    /// Whether a key was ever seen: keys are revoked, never deleted.
    keyed: AtomicBool,
    meters: Meters,
}

impl Store {
    /// How often [`Store::maintenance`] writes usage.
    const FLUSH_EVERY: Duration = Duration::from_secs(5);
    /// Every how many writes of usage it deletes what is too old.
    const SWEEP_EVERY: u32 = 720;

    /// Opens the store at `path`, or makes one there, readable for its owner alone.
    ///
    /// # Errors
    /// When the file cannot be made or read, is not a store, is damaged, or has a schema of a later release.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let path = schema::prepare(path)?;
        let main = schema::open(&path)?;
        let lookup = schema::open_reader(&path)?;
        Ok(Store::new(path, main, Some(lookup)))
    }

    /// A store that is gone with its last handle.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn in_memory() -> Result<Store, StoreError> {
        Ok(Store::new(PathBuf::from(":memory:"), schema::open_in_memory()?, None))
    }

    fn new(path: PathBuf, main: Connection, lookup: Option<Connection>) -> Store {
        Store(Arc::new(Shared {
            path,
            main: Mutex::new(main),
            lookup: lookup.map(Mutex::new),
            pending: Mutex::default(),
            keyed: AtomicBool::new(false),
            meters: Meters::default(),
        }))
    }

    /// Runs `work` on a thread that may wait for the disk.
    ///
    /// # Errors
    /// Those of `work`, and [`StoreError::CutOff`] when it panicked or the runtime shuts down.
    pub async fn run<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&Store) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let store = self.clone();
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(done) => done,
            Err(_) => Err(StoreError::CutOff.into()),
        }
    }

    /// Writes usage every few seconds and deletes what is too old, until no other handle is left. To be spawned once
    /// by whoever serves; `failed` hears of errors, after which it tries again.
    pub fn maintenance(
        &self,
        failed: impl Fn(StoreError) + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let shared = Arc::downgrade(&self.0);
        async move {
            let mut ticks = tokio::time::interval(Store::FLUSH_EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut count = 0_u32;
            loop {
                ticks.tick().await;
                let Some(store) = shared.upgrade().map(Store) else { return };
                let sweep = count.is_multiple_of(Store::SWEEP_EVERY);
                count = count.wrapping_add(1);
                let work = move |store: &Store| {
                    store.flush()?;
                    if sweep { store.sweep(UnixTime::now()) } else { Ok(()) }
                };
                if let Err(error) = store.run(work).await {
                    failed(error);
                }
            }
        }
    }

    /// Deletes responses and usage that are older than they are kept, of all clients.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sweep(&self, now: UnixTime) -> Result<(), StoreError> {
        self.write(|transaction| {
            responses::sweep(transaction, now)?;
            usage::sweep(transaction, now)?;
            Ok(())
        })
    }

    /// The file, in full.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    pub(crate) fn meters(&self) -> &Meters {
        &self.0.meters
    }

    /// Reads on the connection that also writes.
    fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(&lock(&self.0.main)).map_err(|error| Fault::from(error).at(&self.0.path))
    }

    /// Reads a few rows by a key, without waiting for writes.
    fn look_up<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let connection = lock(self.0.lookup.as_ref().unwrap_or(&self.0.main));
        work(&connection).map_err(|error| Fault::from(error).at(&self.0.path))
    }

    /// All of `work`, on the disk, or nothing of it.
    fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>) -> Result<T, StoreError> {
        self.0.write(&mut lock(&self.0.main), work)
    }

    /// Whether there ever was a key. A store whose keys are all revoked stays closed.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn has_keys(&self) -> Result<bool, StoreError> {
        if self.0.keyed.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let query = "SELECT EXISTS (SELECT 1 FROM keys WHERE id > 0)";
        let found = self.look_up(|connection| connection.query_row(query, (), |row| row.get(0)))?;
        self.0.keyed.store(found, Ordering::Relaxed);
        Ok(found)
    }
}

impl Shared {
    fn write<T>(
        &self,
        connection: &mut Connection,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        // Immediate: a transaction that begins as a reader and then writes fails at once when another one wrote.
        let all = || -> Result<T, Fault> {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        all().map_err(|fault| fault.at(&self.path))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Nobody is left to hear of an error.
        let _ = self.flush();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.0.path).finish()
    }
}

/// `N` random bytes as hexadecimal digits.
fn random_hex<const N: usize>() -> Result<String, StoreError> {
    let mut bytes = [0_u8; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| StoreError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Refuses text of more than `limit` characters.
fn check_length(what: &'static str, text: &str, limit: usize) -> Result<(), StoreError> {
    // Bytes first: counting the characters of a very long text takes long.
    if text.len() > limit.saturating_mul(4) || text.chars().count() > limit {
        return Err(StoreError::Invalid { what, why: format!("may have {limit} characters at most") });
    }
    Ok(())
}
