//! The store through its public methods: files that are not what they should be, keys, usage and responses.

use std::path::{Path, PathBuf};
use std::thread;

use autarky_server::auth;
use autarky_server::store::keys::{KeyLimits, KeyRecord};
use autarky_server::store::usage::{Tokens, UsageRow};
use autarky_server::store::{Store, StoreError, UnixTime, conversations, responses};
use axum::http::HeaderMap;
use conversations::{Conversation, Draft, Updated};
use rusqlite::Connection;
use tempfile::TempDir;

const NOW: UnixTime = UnixTime::from_day(20_000);

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a").join("b").join("autarky.db");
    (folder, path)
}

fn draft(title: &str, document: &str) -> Draft {
    Draft { title: title.into(), model: None, document: document.into() }
}

#[cfg(unix)]
#[test]
fn files_and_folders_that_it_makes_are_for_their_owner_alone() {
    use std::fs::{Permissions, metadata, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    let (folder, path) = folder();
    let mode = |path: &Path| metadata(path).unwrap().permissions().mode() & 0o777;
    set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let store = Store::open(&path).unwrap();
    store.create_conversation(0, &draft("", "1"), NOW).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(&PathBuf::from(format!("{}{suffix}", path.display()))), 0o600, "{suffix}");
    }
    assert_eq!(mode(&folder.path().join("a")), 0o700);
    assert_eq!(mode(&folder.path().join("a/b")), 0o700);
    // A folder that was there may be others', too.
    assert_eq!(mode(folder.path()), 0o755);

    drop(store);
    set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    Store::open(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn what_is_written_is_there_when_it_is_opened_again() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let (key, _) = store.create_key("a", KeyLimits::default(), NOW).unwrap();
    let made = store.create_conversation(key.id, &draft("Title", "{}"), NOW).unwrap();
    store.put_response(key.id, "resp_1", NOW, "[1]").unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    assert!(store.has_keys().unwrap());
    assert_eq!(store.list_keys().unwrap(), std::slice::from_ref(&key));
    assert_eq!(store.list_conversations(key.id).unwrap(), [made]);
    assert_eq!(store.get_response(key.id, "resp_1", NOW).unwrap().as_deref(), Some("[1]"));
}

#[test]
fn a_later_schema_is_refused_by_name() {
    let (_folder, path) = folder();
    drop(Store::open(&path).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("autarky.db: the store has schema 99"), "{error}");
}

#[test]
fn files_that_are_no_stores_are_refused_and_left_as_they_are() {
    let (folder, path) = folder();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    for bytes in [&b"notes of mine"[..], &[0; 4096], &b"SQLite format 2\0"[..]] {
        std::fs::write(&path, bytes).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::NotAStore { .. } | StoreError::Damaged { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
    std::fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::NotAStore { .. })));
    assert!(matches!(Store::open(folder.path()), Err(StoreError::NotAStore { .. })));
}

#[test]
fn a_damaged_file_is_an_error_that_says_what_to_do_and_never_a_wrong_answer() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let document = format!("\"{}\"", "x".repeat(20_000));
    let made: Vec<_> = (0..20)
        .map(|i| store.create_conversation(0, &draft(&i.to_string(), &document), NOW).unwrap())
        .collect();
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    let pages = whole.len() / 4096;
    assert!(pages > 20);
    let mut damaged = 0;
    for page in 0..pages {
        let mut bytes = whole.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0xa5);
        std::fs::write(&path, &bytes).unwrap();
        let read = || -> Result<(), StoreError> {
            let store = Store::open(&path)?;
            for summary in &made {
                store.conversation(0, &summary.id)?;
            }
            store.list_conversations(0)?;
            store.list_keys()?;
            Ok(())
        };
        if let Err(error) = read() {
            let said = error.to_string();
            assert!(matches!(error, StoreError::Damaged { .. } | StoreError::NotAStore { .. }), "{said}");
            assert!(said.contains("autarky.db"), "{said}");
            damaged += 1;
        }
    }
    // The rest are pages of text, which nothing checks, and of tables without rows.
    assert!(damaged > 5, "{damaged} of {pages}");
}

#[test]
fn many_may_open_a_new_store_at_once_and_write_to_it() {
    let (_folder, path) = folder();
    thread::scope(|scope| {
        for i in 0..8 {
            let path = &path;
            scope.spawn(move || {
                let store = Store::open(path).unwrap();
                store.create_key(&format!("key {i}"), KeyLimits::default(), NOW).unwrap();
            });
        }
    });
    assert_eq!(Store::open(&path).unwrap().list_keys().unwrap().len(), 8);
}

#[test]
fn a_secret_is_random_and_stored_nowhere() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let (key, secret) = store.create_key("a", KeyLimits::default(), NOW).unwrap();
    let (_, other) = store.create_key("b", KeyLimits::default(), NOW).unwrap();
    assert_eq!(secret.len(), KeyRecord::SECRET_BYTES);
    assert!(secret.starts_with("ak-") && secret.ends_with(&key.hint[3..]) && secret != other);
    drop(store);
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.windows(4).any(|w| w == &key.hint.as_bytes()[3..]));
    assert!(!bytes.windows(12).any(|w| secret.as_bytes()[3..].windows(12).any(|part| part == w)));
}

#[test]
fn names_are_unique_among_valid_keys_and_ids_are_never_used_again() {
    let store = Store::in_memory().unwrap();
    assert!(!store.has_keys().unwrap());
    let limits =
        || KeyLimits { tokens_per_day: Some(5), expires: Some(NOW.after(1)), ..KeyLimits::default() };
    let (first, _) = store.create_key("a", limits(), NOW).unwrap();
    assert!(matches!(store.create_key("a", limits(), NOW), Err(StoreError::NameTaken { .. })));
    let revoked = store.revoke_key("a", NOW.after(5)).unwrap();
    assert_eq!(revoked, KeyRecord { revoked: Some(NOW.after(5)), ..first.clone() });
    assert!(matches!(store.revoke_key("a", NOW), Err(StoreError::NoSuchKey { .. })));
    assert!(matches!(store.revoke_key("0", NOW), Err(StoreError::NoSuchKey { .. })));
    let (second, _) = store.create_key("a", limits(), NOW).unwrap();
    assert_ne!(first.id, second.id);
    store.revoke_key(&second.id.to_string(), NOW).unwrap();
    assert_eq!(store.list_keys().unwrap().iter().filter(|key| key.revoked.is_some()).count(), 2);
}

#[test]
fn keys_that_make_no_sense_are_refused() {
    let store = Store::in_memory().unwrap();
    let long = "x".repeat(101);
    for name in ["", "  ", "12", "a\nb", "a\0", &long] {
        let refused = store.create_key(name, KeyLimits::default(), NOW);
        assert!(matches!(refused, Err(StoreError::Invalid { what: "the name of a key", .. })), "{name:?}");
    }
    for (what, limits) in [
        ("requests_per_minute", KeyLimits { requests_per_minute: Some(0), ..KeyLimits::default() }),
        ("tokens_per_day", KeyLimits { tokens_per_day: Some(u64::MAX), ..KeyLimits::default() }),
        ("expires", KeyLimits { expires: Some(NOW), ..KeyLimits::default() }),
    ] {
        let refused = store.create_key("a", limits, NOW);
        assert!(
            matches!(&refused, Err(StoreError::Invalid { what: found, .. }) if *found == what),
            "{refused:?}"
        );
    }
    assert!(!store.has_keys().unwrap());
    store.create_key(&"é".repeat(100), KeyLimits::default(), NOW).unwrap();
}

#[test]
fn a_key_that_another_process_made_or_revoked_is_known_at_once() {
    let (_folder, path) = folder();
    let (ours, theirs) = (Store::open(&path).unwrap(), Store::open(&path).unwrap());
    assert!(!ours.has_keys().unwrap());
    let (key, secret) = theirs.create_key("a", KeyLimits::default(), NOW).unwrap();
    let headers = [("x-api-key".parse().unwrap(), secret.parse().unwrap())].into_iter().collect();
    assert_eq!(auth::authenticate(&headers, &ours, NOW).unwrap().id, key.id);
    theirs.revoke_key("a", NOW).unwrap();
    assert!(auth::authenticate(&headers, &ours, NOW).is_err());
}

#[test]
fn text_is_a_value_and_never_sql() {
    let store = Store::in_memory().unwrap();
    let nasty = "'; DROP TABLE conversations; --\0\"%_\u{202e}";
    let made = store.create_conversation(0, &draft(nasty, &format!("{nasty:?}")), NOW).unwrap();
    assert_eq!(made.title, nasty);
    assert_eq!(store.conversation(0, nasty).unwrap(), None);
    assert_eq!(store.get_response(0, nasty, NOW).unwrap(), None);
    let found = store.conversation(0, &made.id).unwrap().unwrap();
    assert_eq!((found.summary, found.document), (made, format!("{nasty:?}")));
}

#[test]
fn a_draft_beyond_its_limits_is_refused() {
    let store = Store::in_memory().unwrap();
    let long = |n: usize| "é".repeat(n);
    store.create_conversation(0, &draft(&long(Conversation::MAX_TITLE), "1"), NOW).unwrap();
    let made =
        store.create_conversation(0, &draft("", &"1".repeat(Conversation::MAX_DOCUMENT)), NOW).unwrap();
    let model = Some(long(Conversation::MAX_MODEL + 1));
    for (what, bad) in [
        ("title", draft(&long(Conversation::MAX_TITLE + 1), "1")),
        ("model", Draft { model, ..draft("", "1") }),
        ("document", draft("", &"1".repeat(Conversation::MAX_DOCUMENT + 1))),
    ] {
        for refused in [
            store.create_conversation(0, &bad, NOW).map(Updated::Written),
            store.update_conversation(0, &made.id, &bad, 1, NOW),
        ] {
            assert!(matches!(&refused, Err(StoreError::Invalid { what: found, .. }) if *found == what));
        }
    }
    assert_eq!(store.list_conversations(0).unwrap().len(), 2);
}

#[test]
fn a_client_has_no_more_conversations_than_it_may() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let (other, _) = store.create_key("other", KeyLimits::default(), NOW).unwrap();
    let first = store.create_conversation(0, &draft("", "1"), NOW).unwrap();
    let fill = format!(
        "WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {}) INSERT INTO conversations \
         (id, client, title, created, updated, revision, bytes, document) SELECT 'c' || i, 0, '', 1, 1, 1, 1, '1' FROM n",
        Conversation::MAX_COUNT
    );
    let behind = Connection::open(&path).unwrap();
    behind.execute_batch(&fill).unwrap();
    let refused = store.create_conversation(0, &draft("", "1"), NOW);
    assert!(matches!(refused, Err(StoreError::TooMany { what: "conversations", .. })), "{refused:?}");
    store.create_conversation(other.id, &draft("", "1"), NOW).unwrap();
    // What is there may be written still, as long as the bytes do.
    let written = store.update_conversation(0, &first.id, &draft("", "12"), 1, NOW).unwrap();
    assert!(matches!(written, Updated::Written(_)));
    behind.execute("UPDATE conversations SET bytes = ?1 WHERE id = 'c2'", [Conversation::MAX_BYTES]).unwrap();
    let refused = store.update_conversation(0, &first.id, &draft("", "123"), 2, NOW);
    assert!(
        matches!(refused, Err(StoreError::TooMany { what: "bytes of conversations", .. })),
        "{refused:?}"
    );
    let smaller = store.update_conversation(0, &first.id, &draft("", "1"), 2, NOW).unwrap();
    assert!(matches!(smaller, Updated::Written(_)));
}

#[test]
fn responses_are_kept_for_a_while_and_for_their_client() {
    let store = Store::in_memory().unwrap();
    let (key, _) = store.create_key("a", KeyLimits::default(), NOW).unwrap();
    store.put_response(0, "r", NOW, "0").unwrap();
    store.put_response(key.id, "r", NOW, "1").unwrap();
    store.put_response(key.id, "r", NOW, "2").unwrap();
    let get = |client, now| store.get_response(client, "r", now).unwrap();
    assert_eq!((get(0, NOW).as_deref(), get(key.id, NOW).as_deref()), (Some("0"), Some("2")));
    assert_eq!(get(0, NOW.after(responses::KEPT - 1)).as_deref(), Some("0"));
    assert_eq!(get(0, NOW.after(responses::KEPT)), None);
    assert!(store.delete_response(key.id, "r").unwrap());
    assert!(!store.delete_response(key.id, "r").unwrap());
    assert_eq!(get(0, NOW).as_deref(), Some("0"));
    store.sweep(NOW.after(responses::KEPT)).unwrap();
    assert_eq!(get(0, NOW), None);
    let long = "x".repeat(responses::MAX_ID + 1);
    assert!(matches!(store.put_response(0, &long, NOW, ""), Err(StoreError::Invalid { .. })));
    let large = "x".repeat(responses::MAX_BYTES + 1);
    assert!(matches!(store.put_response(0, "r", NOW, &large), Err(StoreError::Invalid { .. })));
}

#[test]
fn the_oldest_responses_of_a_client_make_room() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let (key, _) = store.create_key("a", KeyLimits::default(), NOW).unwrap();
    store.put_response(key.id, "theirs", NOW, "1").unwrap();
    let behind = Connection::open(&path).unwrap();
    let fill = |count: u64, bytes: u64| {
        let rows = format!(
            "DELETE FROM responses WHERE client = 0; WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
             WHERE i < {count}) INSERT INTO responses (client, id, created, bytes, json) \
             SELECT 0, 'r' || i, {} + i, {bytes}, '1' FROM n",
            NOW.millis()
        );
        behind.execute_batch(&rows).unwrap();
    };
    let has = |id: &str| store.get_response(0, id, NOW).unwrap().is_some();
    fill(responses::MAX_COUNT, 1);
    store.put_response(0, "new", NOW.after(1 << 20), "1").unwrap();
    assert_eq!((has("r1"), has("r2"), has("new")), (false, true, true));
    fill(16, responses::MAX_TOTAL / 16);
    store.put_response(0, "new", NOW.after(1 << 20), "1").unwrap();
    assert_eq!((has("r1"), has("r2"), has("new")), (false, true, true));
    assert!(store.get_response(key.id, "theirs", NOW).unwrap().is_some());
}

#[test]
fn usage_that_the_disk_refused_is_written_later() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let client = auth::authenticate(&HeaderMap::new(), &store, NOW).unwrap();
    let behind = Connection::open(&path).unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON usage BEGIN SELECT RAISE (ABORT, 'no'); END";
    behind.execute_batch(refuse).unwrap();
    let tokens = Tokens { prompt: 3, cached: 2, generated: 1 };
    for _ in 0..2 {
        auth::admit(&client, 0, NOW).unwrap().spend(tokens);
        assert!(matches!(store.flush(), Err(StoreError::Sql { .. })));
    }
    behind.execute_batch("DROP TRIGGER refuse").unwrap();
    let expected = Tokens { prompt: 6, cached: 4, generated: 2 };
    let row = UsageRow { key: 0, date: "2024-10-04".into(), requests: 2, tokens: expected };
    assert_eq!(store.usage(None, NOW).unwrap(), [row]);
    assert_eq!(store.usage(None, NOW.after(86_400_000)).unwrap(), []);
}

#[test]
fn work_that_panics_is_an_error_and_leaves_the_store_as_it_was() {
    let store = Store::in_memory().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let cut = runtime.block_on(store.run(|store| -> Result<(), StoreError> {
        store.create_conversation(0, &draft("kept", "1"), NOW)?;
        panic!("of a test");
    }));
    assert!(matches!(cut, Err(StoreError::CutOff)));
    assert_eq!(store.list_conversations(0).unwrap().len(), 1);
}

#[test]
fn maintenance_ends_with_the_last_handle() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let store = Store::in_memory().unwrap();
    let maintenance = store.maintenance(|error| panic!("{error}"));
    drop(store);
    runtime.block_on(maintenance);
}
