//! A process is killed in the middle of writing, again and again: whatever it was told is written is there afterwards.
//!
//! SIGKILL shows that transactions are whole and in the file before they are answered. That they are on the disk by
//! then, for a power cut, is SQLite's `synchronous=FULL`, which no test on a running machine can show.
#![cfg(unix)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use autarky_server::store::conversations::{Draft, Updated};
use autarky_server::store::keys::KeyLimits;
use autarky_server::store::{Store, UnixTime};

/// Names the store in the process that is killed.
const STORE: &str = "AUTARKY_TEST_STORE";
const ROUNDS: usize = 20;

fn draft(revision: u64) -> Draft {
    // Sizes on both sides of a page, and far beyond.
    let size = [10, 5000, 300_000][(revision % 3) as usize];
    let document = format!("\"{}\"", revision.to_string().repeat(size / 3));
    Draft { title: revision.to_string(), model: None, document }
}

/// Says on stdout what is written. Whole lines: the reader drops one that is cut off.
fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "did {line}").and_then(|()| out.flush()).unwrap();
}

/// Not a test: the process that is killed.
#[test]
#[ignore = "what the other test starts and kills"]
fn child() {
    let path = std::env::var(STORE).expect("only the other test runs this");
    let store = Store::open(Path::new(&path)).unwrap();
    let now = UnixTime::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                let made = store.create_conversation(0, &draft(1), now).unwrap();
                tell(&format!("conversation {} 1", made.id));
                for revision in 1..6 {
                    let updated =
                        store.update_conversation(0, &made.id, &draft(revision + 1), revision, now).unwrap();
                    assert!(matches!(updated, Updated::Written(_)));
                    tell(&format!("conversation {} {}", made.id, revision + 1));
                }
            }
        });
        scope.spawn(|| {
            for i in 0.. {
                let name = format!("{}-{i}", std::process::id());
                let (key, _) = store.create_key(&name, KeyLimits::default(), now).unwrap();
                tell(&format!("key {} valid", key.id));
                store.revoke_key(&name, now).unwrap();
                tell(&format!("key {} revoked", key.id));
            }
        });
        scope.spawn(|| {
            for i in 0.. {
                let id = format!("{}-{i}", std::process::id());
                store.put_response(0, &id, now, &id).unwrap();
                tell(&format!("response {id} there"));
                if i % 2 == 0 {
                    store.delete_response(0, &id).unwrap();
                    tell(&format!("response {id} gone"));
                }
            }
        });
    });
}

#[test]
fn whatever_was_answered_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    // The last that was said of each thing.
    let mut conversations: HashMap<String, u64> = HashMap::new();
    let mut keys: HashMap<String, String> = HashMap::new();
    let mut responses: HashMap<String, String> = HashMap::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(STORE, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        // From the first write of a store to some way into the traffic.
        let enough = 1 + round * 5;
        let mut told = 0;
        let mut line = String::new();
        while out.read_line(&mut line).unwrap() > 0 {
            if let Some(said) =
                line.strip_suffix('\n').and_then(|line| line.split_once("did ")).map(|(_, s)| s)
            {
                let words: Vec<&str> = said.split(' ').collect();
                let &[what, id, state] = words.as_slice() else { panic!("{said}") };
                match what {
                    "conversation" => drop(conversations.insert(id.into(), state.parse().unwrap())),
                    "key" => drop(keys.insert(id.into(), state.into())),
                    _ => drop(responses.insert(id.into(), state.into())),
                }
                told += 1;
                if told == enough {
                    // SIGKILL, and then whatever it still said.
                    child.kill().unwrap();
                }
            }
            line.clear();
        }
        child.wait().unwrap();
        assert!(told >= enough, "round {round}: the child ended by itself after {told}");
        check(&path, &conversations, &keys, &responses);
    }
    assert!(conversations.len() >= ROUNDS && keys.len() >= ROUNDS / 2 && responses.len() >= ROUNDS / 2);
}

fn check(
    path: &Path,
    conversations: &HashMap<String, u64>,
    keys: &HashMap<String, String>,
    responses: &HashMap<String, String>,
) {
    let store = Store::open(path).unwrap();
    for (id, &revision) in conversations {
        let found = store.conversation(0, id).unwrap().unwrap_or_else(|| panic!("{id} is gone"));
        // A write that was not answered yet may be there or not, but all of it.
        assert!(found.summary.revision >= revision, "{id}: {} < {revision}", found.summary.revision);
        let expected = draft(found.summary.revision);
        assert_eq!(found.summary.title, expected.title);
        assert!(found.document == expected.document, "{id}: the document is not the title's");
    }
    let stored: HashMap<String, bool> = store
        .list_keys()
        .unwrap()
        .into_iter()
        .map(|key| (key.id.to_string(), key.revoked.is_some()))
        .collect();
    for (id, state) in keys {
        let revoked = *stored.get(id).unwrap_or_else(|| panic!("key {id} is gone"));
        assert!(revoked || state == "valid", "key {id} is valid again");
    }
    for (id, state) in responses {
        match store.get_response(0, id, UnixTime::now()).unwrap() {
            Some(json) => assert!(state == "there" && json == *id, "response {id} is back"),
            // Deleted, or about to be when the process was killed.
            None => {
                assert!(state == "gone" || id.ends_with(['0', '2', '4', '6', '8']), "response {id} is gone")
            }
        }
    }
    let whole: String = rusqlite::Connection::open(path)
        .unwrap()
        .query_row("PRAGMA integrity_check", (), |row| row.get(0))
        .unwrap();
    assert_eq!(whole, "ok");
}
