//! House rules over every tracked file, each violation printed as `file:line: rule: what to do`.
//!
//! The rules are those that neither the compiler nor clippy knows. A file that must break one has an entry, with its
//! reason, in `xtask/tidy.allow`; an entry that is no longer needed is itself a violation, so the list only shrinks.

mod allow;
mod links;
mod rules;
mod source;

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use self::allow::AllowList;

/// Where the exceptions are listed, relative to the root.
const ALLOW_LIST: &str = "xtask/tidy.allow";

/// One tracked text file.
struct File {
    /// Path relative to the root, with `/`.
    path: String,
    text: String,
}

impl File {
    fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|e| e == extension)
    }
}

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    path: String,
    /// Counted from 1.
    line: usize,
    rule: &'static str,
    /// What is wrong and what to do about it.
    remedy: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line, self.rule, self.remedy)
    }
}

/// Checks every tracked file below `root` and prints the violations. Fails when there is one.
pub(crate) fn run(root: &Path) -> Result<()> {
    let paths = tracked_files(root)?;
    let mut violations = check(root, &paths);
    violations.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    for violation in &violations {
        println!("{violation}");
    }
    match violations.len() {
        0 => {
            println!("tidy: {} files, no violations", paths.len());
            Ok(())
        }
        1 => bail!("tidy: 1 violation"),
        n => bail!("tidy: {n} violations"),
    }
}

/// The paths that git tracks and that still exist, relative to `root`.
fn tracked_files(root: &Path) -> Result<Vec<String>> {
    let listing = crate::output_of(Command::new("git").args(["ls-files", "-z"]).current_dir(root))?;
    Ok(listing.split_terminator('\0').filter(|p| root.join(p).is_file()).map(String::from).collect())
}

fn check(root: &Path, paths: &[String]) -> Vec<Violation> {
    let (mut allow, mut violations) = AllowList::read(root);
    for path in paths {
        // Files that are not UTF-8 are fixtures and pictures; no rule speaks of those.
        let Ok(text) = std::fs::read_to_string(root.join(path)) else { continue };
        let file = File { path: path.clone(), text };
        let mut found = Vec::new();
        rules::check(&file, &mut found);
        links::check(root, &file, &mut found);
        violations.extend(found.into_iter().filter(|v| !allow.covers(v.rule, &v.path)));
    }
    let stale = crate::peers::stale(root).into_iter();
    violations.extend(stale.map(|(path, remedy)| Violation { path, line: 1, rule: "receipts", remedy }));
    violations.extend(allow.stale());
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<String>) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            std::fs::write(path, text).expect("a file");
        }
        (folder, files.iter().map(|(path, _)| (*path).to_string()).collect())
    }

    #[test]
    fn a_violation_prints_as_file_line_rule_remedy() {
        let (folder, paths) = repository(&[("crates/a/src/lib.rs", "//! A.\nfn f() {\n    todo!()\n}\n")]);
        let printed: Vec<String> = check(folder.path(), &paths).iter().map(ToString::to_string).collect();
        assert_eq!(printed.len(), 1, "{printed:?}");
        assert!(printed[0].starts_with("crates/a/src/lib.rs:3: unfinished: "), "{printed:?}");
    }

    #[test]
    fn an_allowed_file_passes_and_an_entry_that_covers_nothing_is_stale() {
        let unfinished = ("crates/a/src/lib.rs", "//! A.\nfn f() { todo!() }\n");
        let list = "# comment\n\nunfinished crates/a/src/lib.rs tests the rule\n";
        let (folder, paths) = repository(&[unfinished, (ALLOW_LIST, list)]);
        assert_eq!(check(folder.path(), &paths), []);

        let (folder, paths) = repository(&[("crates/a/src/lib.rs", "//! A.\n"), (ALLOW_LIST, list)]);
        let found = check(folder.path(), &paths);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].path.as_str(), found[0].line, found[0].rule), (ALLOW_LIST, 3, "allow-list"));
    }

    #[test]
    fn files_that_are_not_text_are_left_alone() {
        let (folder, mut paths) = repository(&[]);
        std::fs::write(folder.path().join("fixture.gguf"), [0xff, 0xfe, 0x00]).expect("a file");
        paths.push("fixture.gguf".into());
        assert_eq!(check(folder.path(), &paths), []);
    }
}
