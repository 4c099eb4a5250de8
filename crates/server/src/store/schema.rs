//! The file: who may read it, how SQLite keeps it, and the schema, version by version.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::error::{Fault, StoreError};

/// Marks a SQLite file as ours, in its header: `autk`.
const APPLICATION_ID: i64 = 0x6175_746b;

/// How long a statement waits for another process.
const BUSY: Duration = Duration::from_secs(5);

/// What makes schema `n + 1` of schema `n`. A step that was released never changes.
pub(super) const STEPS: &[&str] = &[
    // Client 0 is whoever asks while there are no keys, so that all rows have an owner that exists.
    "CREATE TABLE keys (
       id INTEGER PRIMARY KEY AUTOINCREMENT,
       name TEXT NOT NULL,
       hash BLOB UNIQUE,
       hint TEXT NOT NULL,
       created INTEGER NOT NULL,
       revoked INTEGER,
       last_used INTEGER,
       expires INTEGER,
       requests_per_minute INTEGER,
       tokens_per_minute INTEGER,
       tokens_per_day INTEGER,
       concurrent INTEGER,
       priority INTEGER NOT NULL
     ) STRICT;
     CREATE UNIQUE INDEX keys_by_name ON keys (name) WHERE revoked IS NULL;
     INSERT INTO keys (id, name, hint, created, priority) VALUES (0, '', '', 0, 0);

     CREATE TABLE usage (
       key INTEGER NOT NULL REFERENCES keys (id),
       day INTEGER NOT NULL,
       requests INTEGER NOT NULL,
       prompt INTEGER NOT NULL,
       cached INTEGER NOT NULL,
       generated INTEGER NOT NULL,
       PRIMARY KEY (key, day)
     ) STRICT, WITHOUT ROWID;

     CREATE TABLE conversations (
       seq INTEGER PRIMARY KEY,
       id TEXT NOT NULL UNIQUE,
       client INTEGER NOT NULL REFERENCES keys (id),
       title TEXT NOT NULL,
       model TEXT,
       created INTEGER NOT NULL,
       updated INTEGER NOT NULL,
       revision INTEGER NOT NULL,
       bytes INTEGER NOT NULL,
       document TEXT NOT NULL
     ) STRICT;
     CREATE INDEX conversations_by_client ON conversations (client, updated, bytes);

     CREATE TABLE responses (
       seq INTEGER PRIMARY KEY,
       client INTEGER NOT NULL REFERENCES keys (id),
       id TEXT NOT NULL,
       created INTEGER NOT NULL,
       bytes INTEGER NOT NULL,
       json TEXT NOT NULL,
       UNIQUE (client, id)
     ) STRICT;
     CREATE INDEX responses_by_client ON responses (client, created, bytes);
     CREATE INDEX responses_by_age ON responses (created);",
];

/// Makes the file and its folder where they are missing, for their owner alone, and takes from others what rights they
/// have on the file. A folder that is there keeps its rights: it may be one that others need, such as `/tmp`.
pub(super) fn prepare(path: &Path) -> Result<PathBuf, StoreError> {
    let io = |action, source| StoreError::Io { path: path.to_path_buf(), action, source };
    // A path in full: SQLite reads a few short names, such as `:memory:`, as something else.
    let full = std::path::absolute(path).map_err(|e| io("find the file", e))?;
    if let Some(folder) = full.parent() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder).map_err(|e| io("make its folder", e))?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // A file that is there must not be opened here: closing it would release the locks that SQLite may have on it in
    // this process (that is how POSIX locks are).
    match options.open(&full) {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let metadata = fs::metadata(&full).map_err(|e| io("read its permissions", e))?;
            if !metadata.is_file() {
                return Err(StoreError::NotAStore { path: full });
            }
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                if metadata.permissions().mode() & 0o077 != 0 {
                    fs::set_permissions(&full, fs::Permissions::from_mode(0o600))
                        .map_err(|e| io("make it private", e))?;
                }
            }
        }
        Err(e) => return Err(io("make the file", e)),
    }
    Ok(full)
}

/// The connection that writes, with the newest schema.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let connect = || -> Result<Connection, Fault> {
        let mut connection = Connection::open_with_flags(path, flags())?;
        configure(&connection)?;
        // Look before anything is changed: the file may be somebody else's.
        check(&connection, path)?;
        write_ahead(&connection)?;
        migrate(&mut connection, path, STEPS)?;
        Ok(connection)
    };
    connect().map_err(|fault| fault.at(path))
}

/// A second connection that only reads, so that looking up a key never waits for a write to reach the disk.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let connect = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, flags())?;
        configure(&connection)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    };
    connect().map_err(|error| Fault::from(error).at(path))
}

/// A store without a file.
pub(super) fn open_in_memory() -> Result<Connection, StoreError> {
    let path = Path::new(":memory:");
    let connect = || -> Result<Connection, Fault> {
        let mut connection = Connection::open_in_memory()?;
        configure(&connection)?;
        migrate(&mut connection, path, STEPS)?;
        Ok(connection)
    };
    connect().map_err(|fault| fault.at(path))
}

fn flags() -> OpenFlags {
    // Each connection is behind a mutex of ours.
    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    // A file that somebody prepared may do no more than hold rows.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // With a write-ahead log, FULL waits for the disk at each commit: an answer that was given survives a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // On macOS only this makes the disk write out its cache; elsewhere it does nothing.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    // What is deleted is overwritten where that costs no further writes.
    connection.pragma_update(None, "secure_delete", "FAST")
}

/// Whether the file is empty or ours, and how old.
fn check(connection: &Connection, path: &Path) -> Result<i64, Fault> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    let fresh = application == 0 && version == 0 && tables == 0;
    if application != APPLICATION_ID && !fresh {
        return Err(StoreError::NotAStore { path: path.to_path_buf() }.into());
    }
    Ok(version)
}

/// Switches to a write-ahead log. SQLite does not always wait for a lock here, so that this does.
fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    const PAUSE: Duration = Duration::from_millis(10);
    let mut waited = Duration::ZERO;
    loop {
        let switched = connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()));
        match switched {
            Err(error)
                if waited < BUSY && error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) =>
            {
                thread::sleep(PAUSE);
                waited += PAUSE;
            }
            other => {
                return other.and_then(|()| connection.pragma_update(None, "journal_size_limit", 64 << 20));
            }
        }
    }
}

/// Brings the schema up to date: all steps that are missing, or none.
fn migrate(connection: &mut Connection, path: &Path, steps: &[&str]) -> Result<(), Fault> {
    // Another process may be doing the same: the version counts only once the lock is held.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = check(&transaction, path)?;
    let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    let missing = usize::try_from(found).ok().and_then(|done| steps.get(done..));
    let Some(missing) = missing else {
        return Err(StoreError::Newer { path: path.to_path_buf(), found, known }.into());
    };
    if !missing.is_empty() {
        for step in missing {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", known)?;
    }
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(connection: &Connection) -> Vec<String> {
        let mut statement =
            connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").unwrap();
        statement.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn each_step_is_done_once_and_a_step_that_fails_leaves_the_schema_as_it_was() {
        let path = Path::new("x");
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, path, &["CREATE TABLE a (x)"]).unwrap();
        // Not again: `a` exists.
        migrate(&mut connection, path, &["CREATE TABLE a (x)", "CREATE TABLE b (x)"]).unwrap();
        assert_eq!(tables(&connection), ["a", "b"]);

        let steps = ["", "", "CREATE TABLE c (x)", "CREATE TABLE c (x)"];
        assert!(matches!(migrate(&mut connection, path, &steps), Err(Fault::Sql(_))));
        assert_eq!(tables(&connection), ["a", "b"]);
        assert_eq!(check(&connection, path).unwrap(), 2);
    }

    #[test]
    fn a_later_schema_is_refused_and_left_alone() {
        let path = Path::new("x");
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, path, &["CREATE TABLE a (x)", ""]).unwrap();
        let refused = migrate(&mut connection, path, &["CREATE TABLE a (x)"]);
        assert!(matches!(refused, Err(Fault::Refused(StoreError::Newer { found: 2, known: 1, .. }))));
        assert_eq!(check(&connection, path).unwrap(), 2);
    }

    #[test]
    fn another_programs_file_is_refused() {
        let path = Path::new("x");
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
        let refused = migrate(&mut connection, path, STEPS);
        assert!(matches!(refused, Err(Fault::Refused(StoreError::NotAStore { .. }))));
        assert_eq!(tables(&connection), ["theirs"]);
    }
}
