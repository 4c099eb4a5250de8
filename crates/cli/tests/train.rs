//! `autarky train`, as people use it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn autarky(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_autarky")).args(args).current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const SHORT: [&str; 9] =
    ["--depth", "1", "--vocabulary", "280", "--context", "32", "--batch", "64", "--steps"];

#[test]
fn a_text_becomes_a_model_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = (0..300).map(|i| format!("{i} and one is {}.\n", i + 1)).collect();
    fs::write(folder.path().join("sums.txt"), lines).unwrap();
    let train = [&["train", "--data", "sums.txt", "--out", "a"][..], &SHORT, &["6"]].concat();
    let out = autarky(folder.path(), &train);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let told = text(&out.stderr);
    for part in ["model      llama", "6 steps of 2 x 32 tokens", "step 6/6", "held-out loss"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(text(&out.stdout), "a/model written\na/model.gguf written\n");
    for model in ["a/model", "a/model.gguf"] {
        let run =
            autarky(folder.path(), &["run", model, "--raw", "-p", "7 and", "-n", "3", "--temperature", "0"]);
        assert!(run.status.success() && !run.stdout.is_empty(), "{}", text(&run.stderr));
    }
    // The same command again has nothing left to do, and another run does not take the folder.
    let again = autarky(folder.path(), &train);
    assert!(text(&again.stderr).contains("going on after step 6"), "{}", text(&again.stderr));
    let other = [&["train", "--data", "sums.txt", "--out", "a"][..], &SHORT, &["7"]].concat();
    let refused = autarky(folder.path(), &other);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("another run's training.steps"), "{}", text(&refused.stderr));
}

#[test]
fn programs_get_json_lines() {
    let folder = tempfile::tempdir().unwrap();
    let chat = r#"{"prompt": "one?", "answer": "two."}"#;
    let lines = [&[chat; 40][..], &["{\"prompt\": "]].concat().join("\n");
    fs::write(folder.path().join("chats.jsonl"), lines).unwrap();
    let train = [&["train", "--json", "--data", "chats.jsonl", "--out", "a"][..], &SHORT, &["2"]].concat();
    let out = autarky(folder.path(), &train);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let lines: Vec<Value> = text(&out.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let kinds: Vec<&str> = lines.iter().map(|l| l["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds[..3], ["data", "begin", "step"]);
    assert_eq!(kinds.last(), Some(&"end"));
    assert_eq!(lines[0]["broken"], 1);
    assert!(lines[0]["first"][0].as_str().unwrap().contains("chats.jsonl:41"));
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("empty.txt", "");
    write("typo.toml", "[optimizer]\nlerning-rate = 1e-3\n");
    for (args, code, expected) in [
        (&["train", "--data", "x.txt", "--depth", "2"][..], 2, "--out"),
        (&["train", "typo.toml"], 2, "did you mean `learning-rate`?"),
        (&["train", "none.toml"], 3, "none.toml"),
        (&["train", "--data", "empty.txt", "--out", "a"], 2, "give one of `from`"),
        (&["train", "--data", "empty.txt", "--depth", "2", "--out", "a"], 3, "the file is empty"),
        (&["train", "--data", "none.txt", "--depth", "2", "--out", "a"], 3, "none.txt"),
    ] {
        let out = autarky(folder.path(), args);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {}", text(&out.stderr));
        assert!(text(&out.stderr).contains(expected), "{args:?}: {}", text(&out.stderr));
    }
}

#[test]
fn a_process_that_mpirun_started_says_which_library_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_autarky"))
        .args(["train", "--data", "a.txt", "--depth", "1", "--out", "a"])
        .current_dir(folder.path())
        .envs([("OMPI_COMM_WORLD_SIZE", "2"), ("AUTARKY_MPI", "/nowhere/libmpi.so")])
        .output()
        .unwrap();
    assert!(!out.status.success());
    let told = text(&out.stderr);
    for part in ["no MPI library was found", "/nowhere/libmpi.so", "AUTARKY_MPI="] {
        assert!(told.contains(part), "{part}: {told}");
    }
}
