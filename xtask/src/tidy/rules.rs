//! The rules that look at one file.

use super::source::{code_of, has_word};
use super::{File, Violation};

/// A file longer than this asks to be split by idea.
const MAX_LINES: usize = 700;

/// Where `unsafe` may stand: kernels, the module that maps files into memory, and calls of the C library of MPI.
const UNSAFE_HOMES: [&str; 3] = ["crates/cpu/", "crates/format/src/map.rs", "crates/mpi/src/library.rs"];

/// Strings that only ever come from one developer's machine. Split, so that this file keeps its own rule.
const MACHINE_STRINGS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("arti", "factory")];

/// The compiler flag that ties a build to the machine that made it.
const NATIVE: &str = concat!("target-cpu", "=native");

/// Checks one file against every rule.
pub(super) fn check(file: &File, found: &mut Vec<Violation>) {
    machine_strings(file, found);
    if !file.has_extension("md") {
        native_build(file, found);
    }
    if file.has_extension("rs") {
        length(file, found);
        module_doc(file, found);
        let code = code_of(&file.text);
        unfinished(file, &code, found);
        unsafe_home(file, &code, found);
    }
}

fn report(file: &File, line: usize, rule: &'static str, remedy: String, found: &mut Vec<Violation>) {
    found.push(Violation { path: file.path.clone(), line, rule, remedy });
}

fn length(file: &File, found: &mut Vec<Violation>) {
    let lines = file.text.lines().count();
    if lines > MAX_LINES {
        let remedy = format!(
            "{lines} lines, more than {MAX_LINES}: split it by idea, or list it with a reason in {}",
            super::ALLOW_LIST
        );
        report(file, MAX_LINES + 1, "file-length", remedy, found);
    }
}

/// Every source file of a crate opens with what it is for.
fn module_doc(file: &File, found: &mut Vec<Violation>) {
    let is_source = file.path.contains("/src/") && !file.path.ends_with("/tests.rs");
    let opening = file.text.lines().find(|l| !l.trim().is_empty() && !l.starts_with("#!["));
    if is_source && !opening.is_some_and(|l| l.starts_with("//!")) {
        report(file, 1, "module-doc", "open it with a `//!` comment that says what it is for".into(), found);
    }
}

fn unfinished(file: &File, code: &str, found: &mut Vec<Violation>) {
    for (index, line) in code.lines().enumerate() {
        if let Some(name) = ["todo!", "unimplemented!"].into_iter().find(|name| line.contains(name)) {
            let remedy =
                format!("replace `{name}` by the code, or by a typed error that names what is missing");
            report(file, index + 1, "unfinished", remedy, found);
        }
    }
}

fn unsafe_home(file: &File, code: &str, found: &mut Vec<Violation>) {
    if UNSAFE_HOMES.iter().any(|home| file.path.starts_with(home)) {
        return;
    }
    for (index, line) in code.lines().enumerate() {
        if has_word(line, "unsafe") {
            let homes = UNSAFE_HOMES.join(", ");
            let remedy =
                format!("`unsafe` lives in {homes}: write it safely, or move it there behind a safe call");
            report(file, index + 1, "unsafe-home", remedy, found);
        }
    }
}

fn native_build(file: &File, found: &mut Vec<Violation>) {
    for (index, line) in file.text.lines().enumerate() {
        let comment = ["//", "#"].iter().any(|mark| line.trim_start().starts_with(mark));
        if !comment && line.contains(NATIVE) {
            let remedy = "choose instruction sets at run time: the binary must run on other machines".into();
            report(file, index + 1, "native-build", remedy, found);
        }
    }
}

fn machine_strings(file: &File, found: &mut Vec<Violation>) {
    for (index, line) in file.text.lines().enumerate() {
        if let Some(string) = MACHINE_STRINGS.into_iter().find(|s| line.contains(s)) {
            let remedy =
                format!("`{string}` means something on one machine only: use a relative path or a flag");
            report(file, index + 1, "machine-path", remedy, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules that `text` at `path` breaks, with their lines.
    fn broken(path: &str, text: &str) -> Vec<(&'static str, usize)> {
        let mut found = Vec::new();
        check(&File { path: path.into(), text: text.into() }, &mut found);
        found.into_iter().map(|v| (v.rule, v.line)).collect()
    }

    #[test]
    fn a_tidy_file_breaks_nothing() {
        assert_eq!(broken("crates/a/src/lib.rs", "//! A.\n\nfn f() {}\n"), []);
        assert_eq!(broken("crates/a/src/lib.rs", "#![no_std]\n//! A.\n"), []);
        assert_eq!(broken("crates/a/tests/b.rs", "fn f() {}\n"), []);
    }

    #[test]
    fn length_counts_rust_lines_only() {
        let at_limit = format!("//! A.\n{}", "\n".repeat(MAX_LINES - 1));
        assert_eq!(broken("crates/a/src/lib.rs", &at_limit), []);
        assert_eq!(broken("crates/a/src/lib.rs", &format!("{at_limit}\n")), [("file-length", MAX_LINES + 1)]);
        assert_eq!(broken("Cargo.lock", &"\n".repeat(2 * MAX_LINES)), []);
    }

    #[test]
    fn a_source_file_without_module_doc_is_reported() {
        assert_eq!(broken("crates/a/src/b.rs", "fn f() {}\n"), [("module-doc", 1)]);
        assert_eq!(broken("crates/a/src/b.rs", ""), [("module-doc", 1)]);
    }

    #[test]
    fn unfinished_code_is_reported_and_prose_about_it_is_not() {
        let source = "//! No todo! here.\nfn f() { todo!() }\nfn g() { unimplemented!() }\n";
        assert_eq!(broken("crates/a/src/lib.rs", source), [("unfinished", 2), ("unfinished", 3)]);
    }

    #[test]
    fn unsafe_stays_at_home() {
        let source = "//! A.\nfn f() { unsafe { g() } }\n";
        assert_eq!(broken("crates/text/src/lib.rs", source), [("unsafe-home", 2)]);
        assert_eq!(broken("crates/format/src/gguf.rs", source), [("unsafe-home", 2)]);
        assert_eq!(broken("crates/format/src/map.rs", source), []);
        assert_eq!(broken("crates/cpu/src/matmul/avx2.rs", source), []);
        assert_eq!(broken("crates/mpi/src/library.rs", source), []);
        assert_eq!(broken("crates/mpi/src/lib.rs", source), [("unsafe-home", 2)]);
    }

    #[test]
    fn a_native_build_is_reported_where_it_takes_effect() {
        assert_eq!(broken(".ci/run", &format!("RUSTFLAGS=-C{NATIVE}\n")), [("native-build", 1)]);
        assert_eq!(broken(".ci/run", &format!("# never {NATIVE}\n")), []);
        assert_eq!(broken("ARCHITECTURE.md", &format!("{NATIVE} is forbidden\n")), []);
    }

    #[test]
    fn machine_paths_are_reported_in_every_file() {
        for string in MACHINE_STRINGS {
            assert_eq!(broken("README.md", &format!("\nsee {string}x\n")), [("machine-path", 2)]);
        }
    }
}
