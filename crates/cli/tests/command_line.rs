//! Help, completions, man pages, colours.

mod support;

use std::fs;

use support::{autarky, command, ran};

const COMMANDS: [&str; 11] = [
    "run",
    "inspect",
    "convert",
    "quantize",
    "bench",
    "perplexity",
    "plan",
    "tokenize",
    "logits",
    "completions",
    "man",
];

#[test]
fn help_teaches_by_example_and_documents_exit_codes() {
    let help = autarky(["--help"]).ok();
    for name in COMMANDS {
        assert!(help.contains(name));
        let page = autarky([name, "--help"]).ok();
        assert!(page.contains("Examples:") && page.contains(&format!("autarky {name}")), "{name}: {page}");
    }
    assert!(help.contains("Exit codes:") && help.contains("130"), "{help}");
    assert!(autarky(["--version"]).ok().starts_with("autarky "));
    assert_eq!(autarky(Vec::<&str>::new()).code, Some(2));
    assert!(autarky(["dance"]).fails(2).contains("dance"));
}

#[test]
fn completions_and_man_pages_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = autarky(["completions", shell]).ok();
        assert!(COMMANDS.iter().all(|name| script.contains(name)), "{shell}");
        assert!(script.contains("repetition-penalty"), "{shell}");
    }
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    autarky(args!["man", pages]).ok();
    for name in COMMANDS {
        let page = fs::read_to_string(pages.join(format!("autarky-{name}.1"))).unwrap();
        assert!(page.contains(".SH OPTIONS") || page.contains(".SH ARGUMENTS") || page.contains("SYNOPSIS"));
    }
    assert!(pages.join("autarky.1").exists());
}

#[test]
fn nothing_is_coloured_off_a_terminal() {
    for args in [&["--help"][..], &["run", "--help"], &["inspect", "absent.gguf"], &["dance"]] {
        let all = autarky(args);
        assert!(!all.out.contains('\u{1b}') && !all.err.contains('\u{1b}'), "{args:?}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = command(["completions", "zsh"]).spawn().unwrap();
    drop(child.stdout.take());
    ran(child.wait_with_output().unwrap()).ok();
}
