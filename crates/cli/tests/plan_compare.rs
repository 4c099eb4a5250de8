//! `autarky plan claims`, `switch` and `fleet` as a user asks for them.

mod support;

use std::ffi::OsStr;
use std::fs;

use support::{Ran, command, ran};

/// Runs `autarky` where nobody has chips of their own.
fn autarky<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    ran(command(args).env("HOME", "").env("AUTARKY_CHIPS", "").output().unwrap())
}

#[test]
fn claims_are_answered_in_three_ways_and_as_a_page() {
    let text = autarky(["plan", "claims", "s5000-h100", "--sources"]).ok();
    for part in [
        "0.25 fits fp8 if the peak of nvidia-h100-sxm is doubled",
        "does not hold for",
        "(vendor-announcement)",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(autarky(["plan", "claims", "--json"]).json().as_array().unwrap().len(), 8);
    assert!(autarky(["plan", "claims", "--csv"]).ok().starts_with("claim,subject,reference,aspect,"));
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("claims.html");
    let page = page.to_str().unwrap();
    autarky(["plan", "claims", "--html", page]).ok();
    assert!(fs::read_to_string(page).unwrap().contains("Atlas 350"));
    assert!(autarky(["plan", "claims", "--html", page]).fails(2).contains("--force"));
    autarky(["plan", "claims", "--html", page, "--force"]).ok();
    assert!(autarky(["plan", "claims", "s5001"]).fails(2).contains("s5000-h100"));
}

#[test]
fn a_bad_claim_names_file_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("own.toml");
    fs::write(&file, "id = \"a\"\n").unwrap();
    let error = autarky(["plan".as_ref(), "claims".as_ref(), file.as_os_str()]).fails(3);
    assert!(error.contains("own.toml: statement: missing"), "{error}");
}

#[test]
fn a_switch_says_chips_sources_and_risks() {
    let args = ["plan", "switch", "Qwen3-32B", "--from", "h100-sxm", "--to", "910c,mi300x", "--count", "8"];
    let with = |more: &[&str]| autarky(args.iter().chain(["--on", "2026-06-01"].iter()).chain(more));
    let text = with(&[]).ok();
    for part in ["in short", "rests on", "huawei-ascend-910c", "not legal advice", "tokens alone"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let json = with(&["--json"]).json();
    assert_eq!(json["answer"]["to"].as_array().unwrap().len(), 2);
    assert!(with(&["--csv"]).ok().starts_with("chip,chips,chips_low,"));
    assert!(with(&["--load", "a/b"]).fails(2).contains("1024/512/64"));
    assert!(with(&["--years", "0"]).fails(2).contains("years"));
    assert!(with(&["--format", "bf17"]).fails(2).contains("bf16"));
    let unknown = autarky(["plan", "switch", "Qwen3-33B", "--from", "h100-sxm", "--to", "910c"]);
    assert!(unknown.err.contains("Qwen3-32B"), "{}", unknown.err);
}

#[test]
fn a_fleet_is_planned() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lab.toml");
    let text = "[[chips]]\nchip = \"h100-sxm\"\ncount = 8\n[[jobs]]\nname = \"chat\"\nkind = \"serve\"\n\
                model = \"Qwen3-32B\"\ntokens_per_s = 1000\n[[jobs]]\nname = \"huge\"\nkind = \"serve\"\n\
                model = \"Qwen3-32B\"\ntokens_per_s = 1e9\n";
    fs::write(&file, text).unwrap();
    let run = |more: &[&str]| {
        let args: Vec<&OsStr> = ["plan".as_ref(), "fleet".as_ref(), file.as_os_str()].into();
        autarky(args.into_iter().chain(more.iter().map(AsRef::as_ref)))
    };
    let text = run(&["--joint"]).ok();
    assert!(text.contains("chat") && text.contains("8 chips are too slow"), "{text}");
    assert_eq!(run(&["--json"]).json()["unmet"][0]["job"], "huge");
    fs::write(&file, "[[chips]]\nchip = \"h100\"\ncount = -1\n").unwrap();
    assert!(run(&[]).fails(3).contains("lab.toml: chips.count"));
}
