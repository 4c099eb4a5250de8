//! Runs of training, as the page asks for them: read while they are written, thinned, and only from their folder.

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use autarky_server::store::keys::KeyLimits;
use autarky_server::store::{Store, UnixTime};
use axum::Router;
use axum::http::StatusCode;
use serde_json::{Value, json};
use support::{app, get, with_runs};
use tempfile::TempDir;

/// A folder for runs and a server that shows them.
fn place() -> (TempDir, Router) {
    let folder = tempfile::tempdir().unwrap();
    let app = with_runs(folder.path(), Store::in_memory().unwrap());
    (folder, app)
}

/// The file of a run, whose folder is made.
fn metrics(folder: &Path, name: &str) -> PathBuf {
    fs::create_dir_all(folder.join(name)).unwrap();
    folder.join(name).join("metrics.jsonl")
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn step(step: u64, loss: impl Into<Value>) -> String {
    let line = json!({"kind": "step", "step": step, "loss": loss.into(), "norm": 1.0, "learning_rate": 0.001,
        "tokens": 100, "epoch": 0.5, "seconds": 0.5});
    format!("{line}\n")
}

/// A checkpoint that says how many steps are planned.
fn plan(run: &Path, steps: u64) {
    let checkpoint = run.join("checkpoints/step-00000001");
    fs::create_dir_all(&checkpoint).unwrap();
    let about = json!({"step": 1, "run": {"plan": {"steps": steps}}});
    fs::write(checkpoint.join("checkpoint.json"), about.to_string()).unwrap();
}

async fn ok(app: &Router, path: &str) -> Value {
    let answered = get(app, path).await;
    assert_eq!(answered.status, StatusCode::OK, "{answered:?}");
    answered.json()
}

#[tokio::test]
async fn a_run_is_told_by_its_lines() {
    let (folder, app) = place();
    let path = metrics(folder.path(), "book");
    append(&path, &(step(1, 4.0) + &step(2, Value::Null) + &step(3, 3.0)));
    let lines = [
        json!({"kind": "evaluation", "step": 3, "loss": 3.5, "bits_per_byte": 1.25, "tokens": 50}),
        json!({"kind": "sample", "step": 3, "prompt": "It was", "text": " dark"}),
        json!({"kind": "of a later version", "step": 3}),
    ];
    lines.iter().for_each(|line| append(&path, &format!("{line}\n")));
    plan(path.parent().unwrap(), 10);

    let answer = ok(&app, "/api/runs/book").await;
    let run = &answer["run"];
    for (key, expected) in [
        ("name", json!("book")),
        ("steps", json!(3)),
        ("planned", json!(10)),
        ("loss", json!(3.0)),
        ("held_out", json!(3.5)),
        ("bits_per_byte", json!(1.25)),
        ("tokens_per_second", json!(200.0)),
        ("seconds_left", json!(3.5)),
        ("going", json!(true)),
        ("dropped", json!(1)),
        ("skipped", json!(0)),
        ("unfinished", json!(false)),
    ] {
        assert_eq!(run[key], expected, "{key}");
    }
    let curve = &answer["curve"];
    assert_eq!(
        curve["loss"],
        json!({"width": 1, "points": [[1, 4.0], [3, 3.0]], "means": [[1, 1, 4.0], [3, 3, 3.0]]})
    );
    assert_eq!(curve["held_out"]["points"], json!([[3, 3.5]]));
    assert_eq!(curve["tokens_per_second"]["points"], json!([[1, 200.0], [2, 200.0], [3, 200.0]]));
    assert_eq!(curve["samples"], json!([{"step": 3, "prompt": "It was", "text": " dark"}]));
    assert_eq!(curve["dropped_steps"], json!([2]));
    assert_eq!(curve["reward"], Value::Null);

    let list = ok(&app, "/api/runs").await;
    assert_eq!(list["runs"], json!([run]));
}

#[tokio::test]
async fn preferences_and_rewards_have_curves_of_their_own() {
    let (folder, app) = place();
    let pairs = |step: u64, held_out: bool, accuracy: f64| {
        json!({"kind": "pairs", "step": step, "held_out": held_out, "loss": 0.5, "accuracy": accuracy, "margin": 0.1,
            "pairs": 8})
    };
    let path = metrics(folder.path(), "pairs");
    let lines = [pairs(0, true, 0.5), pairs(1, false, 0.75), pairs(1, true, 0.875)];
    lines.iter().for_each(|line| append(&path, &format!("{line}\n")));
    let answer = ok(&app, "/api/runs/pairs").await;
    let accuracy = &answer["curve"]["accuracy"];
    assert_eq!(accuracy["learned"]["points"], json!([[1, 0.75]]));
    assert_eq!(accuracy["held_out"]["points"], json!([[0, 0.5], [1, 0.875]]));
    assert_eq!(answer["run"]["held_out"], 0.5);

    let path = metrics(folder.path(), "rewards");
    let line = json!({"kind": "rewards", "step": 1, "held_out": false, "reward": 0.25, "highest": 1.0, "lowest": 0.0,
        "answers": 4, "length": 8.0, "ended": 1.0, "equal": 0.0, "clipped": null, "divergence": null});
    append(&path, &format!("{line}\n"));
    let answer = ok(&app, "/api/runs/rewards").await;
    assert_eq!(answer["curve"]["reward"]["learned"]["points"], json!([[1, 0.25]]));
    assert_eq!(answer["run"]["reward"], 0.25);
}

#[tokio::test]
async fn a_run_is_followed_while_it_is_written() {
    let (folder, app) = place();
    let path = metrics(folder.path(), "a");
    let whole = step(2, 3.0);
    let (begun, rest) = whole.split_at(20);
    append(&path, &(step(1, 4.0) + begun));
    let run = &ok(&app, "/api/runs/a").await["run"];
    assert_eq!((&run["steps"], &run["skipped"], &run["unfinished"]), (&json!(1), &json!(0), &json!(true)));

    append(&path, rest);
    let answer = ok(&app, "/api/runs/a?after=1").await;
    let run = &answer["run"];
    assert_eq!((&run["steps"], &run["skipped"], &run["unfinished"]), (&json!(2), &json!(0), &json!(false)));
    assert_eq!(answer["curve"]["loss"]["points"], json!([[2, 3.0]]));
    assert_eq!(ok(&app, "/api/runs/a?after=2").await["curve"]["loss"]["points"], json!([]));

    // A run that was killed goes on from its checkpoint, and its lines from there are written anew.
    fs::write(&path, step(1, 4.0) + &step(2, 3.5) + &step(3, 3.25)).unwrap();
    let answer = ok(&app, "/api/runs/a").await;
    assert_eq!(answer["curve"]["loss"]["points"], json!([[1, 4.0], [2, 3.5], [3, 3.25]]));
    fs::write(&path, step(1, 2.0)).unwrap();
    assert_eq!(ok(&app, "/api/runs/a").await["curve"]["loss"]["points"], json!([[1, 2.0]]));
}

#[tokio::test]
async fn what_cannot_be_read_is_counted_and_the_rest_is_there() {
    let (folder, app) = place();
    let path = metrics(folder.path(), "broken");
    let long = format!("{{\"kind\":\"sample\",\"text\":\"{}\"}}\n", "x".repeat(3 << 20));
    let deep = format!("{}{}\n", "[".repeat(10_000), "]".repeat(10_000));
    for line in ["nothing\n", "{\"kind\":\"step\"}\n", &step(1, 4.0), &long, "\n", &deep, &step(2, "x")] {
        append(&path, line);
    }
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend(b"\xff\xfe\x00\n");
    fs::write(&path, bytes).unwrap();
    // A step that was there, a number beyond all bounds, and another step.
    append(&path, &(step(1, 9.0) + "{\"kind\":\"evaluation\",\"step\":1,\"loss\":1e999}\n" + &step(3, 2.0)));
    append(&path, &"y".repeat(2 << 20));
    let answer = ok(&app, "/api/runs/broken").await;
    assert_eq!(answer["curve"]["loss"]["points"], json!([[1, 4.0], [3, 2.0]]));
    let run = &answer["run"];
    assert_eq!((&run["skipped"], &run["unfinished"]), (&json!(8), &json!(true)));
    append(&path, &format!("\n{}", step(4, 1.0)));
    let run = &ok(&app, "/api/runs/broken").await["run"];
    assert_eq!((&run["steps"], &run["skipped"], &run["unfinished"]), (&json!(4), &json!(9), &json!(false)));
}

#[tokio::test]
async fn a_long_run_is_answered_shortly() {
    let (folder, app) = place();
    let path = metrics(folder.path(), "long");
    let mut file = BufWriter::new(File::create(&path).unwrap());
    for n in 1..=50_000u64 {
        let loss = if n == 31_415 { 90.0 } else { 5.0 - (n % 7) as f64 / 10.0 };
        file.write_all(step(n, loss).as_bytes()).unwrap();
    }
    file.flush().unwrap();
    let answered = get(&app, "/api/runs/long").await;
    assert!(answered.text.len() < 100_000, "{} bytes", answered.text.len());
    let points = answered.json()["curve"]["loss"]["points"].as_array().unwrap().clone();
    assert!((200..=402).contains(&points.len()), "{} points", points.len());
    assert_eq!((&points[0][0], &points[points.len() - 1][0]), (&json!(1), &json!(50_000)));
    assert!(points.contains(&json!([31_415, 90.0])), "a single spike stays");
}

#[tokio::test]
async fn only_runs_of_the_folder_can_be_named() {
    let outside = tempfile::tempdir().unwrap();
    let secret = metrics(outside.path(), "secret");
    append(&secret, &step(1, 1.0));
    let (folder, app) = place();
    append(&metrics(folder.path(), "a"), &step(1, 1.0));
    append(&metrics(folder.path(), ".hidden"), &step(1, 1.0));
    append(&folder.path().join("metrics.jsonl"), &step(1, 1.0));
    fs::create_dir(folder.path().join("empty")).unwrap();
    fs::create_dir_all(folder.path().join("folder/metrics.jsonl")).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        symlink(outside.path().join("secret"), folder.path().join("linked")).unwrap();
        fs::create_dir(folder.path().join("file")).unwrap();
        symlink(&secret, folder.path().join("file/metrics.jsonl")).unwrap();
    }
    let list = ok(&app, "/api/runs").await;
    let names: Vec<&Value> = list["runs"].as_array().unwrap().iter().map(|run| &run["name"]).collect();
    assert_eq!(names, [&json!("a")]);
    let path = outside.path().join("secret");
    let absolute = path.to_str().unwrap().replace('/', "%2F");
    for name in [
        "nobody",
        "linked",
        "file",
        "folder",
        "empty",
        ".",
        "..",
        "%2E%2E",
        ".hidden",
        "a%2F..%2Fa",
        "a%2F",
        "a%00",
        &absolute,
    ] {
        let answered = get(&app, &format!("/api/runs/{name}")).await;
        assert_eq!(answered.status, StatusCode::NOT_FOUND, "{name}: {answered:?}");
    }
    let answered = get(&app, "/api/runs/a?after=-1").await;
    assert_eq!(answered.status, StatusCode::BAD_REQUEST, "{answered:?}");
    assert_eq!(answered.json()["error"]["param"], "after");
}

#[tokio::test]
async fn a_run_that_is_done_or_silent_does_not_go_on_and_the_newest_is_first() {
    let (folder, app) = place();
    let now = SystemTime::now();
    let written = [("done", 10), ("going", 60), ("silent", 3600)];
    for (name, ago) in written {
        let path = metrics(folder.path(), name);
        append(&path, &step(5, 1.0));
        plan(path.parent().unwrap(), if name == "done" { 5 } else { 50 });
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(now - Duration::from_secs(ago))
            .unwrap();
    }
    let list = ok(&app, "/api/runs").await;
    let told: Vec<_> = list["runs"].as_array().unwrap().iter().map(|r| (&r["name"], &r["going"])).collect();
    let expected =
        [(json!("done"), json!(false)), (json!("going"), json!(true)), (json!("silent"), json!(false))];
    assert_eq!(told, expected.iter().map(|(name, going)| (name, going)).collect::<Vec<_>>());
    assert_eq!(list["runs"][2]["seconds_left"], Value::Null);
}

#[tokio::test]
async fn without_a_folder_there_are_no_runs() {
    let app = app();
    assert_eq!(ok(&app, "/api/runs").await, json!({"folder": null, "runs": []}));
    let answered = get(&app, "/api/runs/a").await;
    assert_eq!(answered.status, StatusCode::NOT_FOUND);
    assert!(answered.text.contains("--runs"), "{answered:?}");
    // The folder may come with its first run.
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("later");
    let app = with_runs(&folder, Store::in_memory().unwrap());
    assert_eq!(ok(&app, "/api/runs").await["runs"], json!([]));
    append(&metrics(&folder, "first"), &step(1, 1.0));
    assert_eq!(ok(&app, "/api/runs").await["runs"][0]["name"], "first");
}

#[tokio::test]
async fn runs_are_for_those_with_a_key_where_one_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    append(&metrics(folder.path(), "a"), &step(1, 1.0));
    let store = Store::in_memory().unwrap();
    store.create_key("somebody", KeyLimits::default(), UnixTime::now()).unwrap();
    let app = with_runs(folder.path(), store);
    for path in ["/api/runs", "/api/runs/a"] {
        assert_eq!(get(&app, path).await.status, StatusCode::UNAUTHORIZED, "{path}");
    }
}
