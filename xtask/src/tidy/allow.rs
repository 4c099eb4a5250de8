//! The list of exceptions: one a line, `RULE PATH REASON`, with `#` comments.

use std::path::Path;

use super::{ALLOW_LIST, Violation};

/// The name of the rule that the list itself must keep.
const RULE: &str = "allow-list";

struct Entry {
    line: usize,
    rule: String,
    path: String,
    used: bool,
}

/// The exceptions, and which of them were needed so far.
pub(super) struct AllowList {
    entries: Vec<Entry>,
}

impl AllowList {
    /// Reads the list below `root`, and what is wrong with its lines. A missing file is an empty list.
    pub(super) fn read(root: &Path) -> (Self, Vec<Violation>) {
        Self::parse(&std::fs::read_to_string(root.join(ALLOW_LIST)).unwrap_or_default())
    }

    fn parse(text: &str) -> (Self, Vec<Violation>) {
        let (mut entries, mut violations) = (Vec::new(), Vec::new());
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some(rule), Some(path), Some(_reason)) => {
                    entries.push(Entry {
                        line: line_number,
                        rule: rule.into(),
                        path: path.into(),
                        used: false,
                    });
                }
                _ => violations.push(violation(line_number, "write RULE PATH REASON".into())),
            }
        }
        (Self { entries }, violations)
    }

    /// Whether `path` may break `rule`; the entry counts as needed from then on.
    pub(super) fn covers(&mut self, rule: &str, path: &str) -> bool {
        let entry = self.entries.iter_mut().find(|e| e.rule == rule && e.path == path);
        entry.is_some_and(|entry| {
            entry.used = true;
            true
        })
    }

    /// A violation for each entry that covered nothing.
    pub(super) fn stale(&self) -> impl Iterator<Item = Violation> {
        let unused = self.entries.iter().filter(|e| !e.used);
        unused.map(|e| violation(e.line, format!("{} no longer breaks {}: remove the entry", e.path, e.rule)))
    }
}

fn violation(line: usize, remedy: String) -> Violation {
    Violation { path: ALLOW_LIST.into(), line, rule: RULE, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_without_a_reason_is_refused() {
        let (list, violations) = AllowList::parse("file-length crates/a/src/lib.rs\n");
        assert!(list.entries.is_empty());
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].line, 1);
    }

    #[test]
    fn an_entry_covers_its_own_rule_and_path_only() {
        let (mut list, _) = AllowList::parse("file-length a.rs a table of constants\n");
        assert!(!list.covers("unsafe", "a.rs"));
        assert!(!list.covers("file-length", "b.rs"));
        assert_eq!(list.stale().count(), 1);
        assert!(list.covers("file-length", "a.rs"));
        assert_eq!(list.stale().count(), 0);
    }
}
