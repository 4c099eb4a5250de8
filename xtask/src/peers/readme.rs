//! The README's table of speeds, made from the newest receipt of each machine, and the check that it is.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::record::Record;
use super::table::{Phase, Row, rows};
use super::verdict::{DISTURBED, Verdict, number};
use super::{RECEIPTS, receipt};

/// Around the table in the README.
const MARKERS: [&str; 2] = ["<!-- speed: written by `cargo xtask bench-peers` -->\n", "<!-- speed: end -->"];
const README: &str = "README.md";
const REMEDY: &str = "write it again with `cargo xtask bench-peers --render`";

/// Writes every receipt in `folder`, and the README's table, again from the rows that the receipts hold.
pub(super) fn render(root: &Path, folder: &Path) -> Result<()> {
    for (path, text) in texts(root, folder)? {
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Which of the receipts and the README differ from what the receipts' rows make of them, each with what to do about it.
/// Paths are relative to `root`.
pub(crate) fn stale(root: &Path) -> Vec<(String, String)> {
    let relative = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
    match texts(root, &root.join(RECEIPTS)) {
        Err(error) => vec![(RECEIPTS.into(), format!("{error:#}"))],
        Ok(texts) => {
            let differs = |(path, text): &(PathBuf, String)| {
                std::fs::read_to_string(path).is_ok_and(|found| found != *text)
            };
            let stale = texts.into_iter().filter(differs);
            stale.map(|(path, _)| (relative(&path), format!("differs from its rows: {REMEDY}"))).collect()
        }
    }
}

/// What the receipts and the README should be.
fn texts(root: &Path, folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let (receipts, table) = (receipt::all(folder)?, rows());
    let mut texts = Vec::new();
    for (path, record) in &receipts {
        texts.push((path.clone(), receipt::receipt(record, receipt::date(path)?, &table)?));
    }
    if !receipts.is_empty() {
        let path = root.join(README);
        let readme = std::fs::read_to_string(&path).context("cannot read README.md")?;
        let fresh = between(&readme, &speed(&receipts, &table)?)
            .with_context(|| format!("README.md lacks the line {} or {}", MARKERS[0].trim(), MARKERS[1]))?;
        texts.push((path, fresh));
    }
    Ok(texts)
}

/// `readme` with `table` between the markers; `None` without markers.
fn between(readme: &str, table: &str) -> Option<String> {
    let (before, rest) = readme.split_once(MARKERS[0])?;
    let (_, after) = rest.split_once(MARKERS[1])?;
    Some(format!("{before}{}{table}{}{after}", MARKERS[0], MARKERS[1]))
}

/// A table for each machine's newest receipt.
fn speed(receipts: &[(PathBuf, Record)], table: &[Row]) -> Result<String> {
    let mut text = String::new();
    for (i, (path, record)) in receipts.iter().enumerate() {
        let slug = receipt::machine_slug(path);
        if receipts[i + 1..].iter().any(|(newer, _)| receipt::machine_slug(newer) == slug) {
            continue;
        }
        let link = path.file_name().unwrap_or_default().to_string_lossy();
        writeln!(
            text,
            "\n{} ([receipt]({RECEIPTS}/{link})), tokens/s, medians of rounds that take turns:\n",
            record.machine.name()
        )?;
        writeln!(
            text,
            "| work | model | autarky | other engine | times as fast | of this machine's limit |"
        )?;
        writeln!(text, "| --- | --- | ---: | ---: | ---: | ---: |")?;
        let mut disturbed = false;
        for row in table {
            for v in record.run(&row.id()).map(|run| Verdict::of_run(row, run)).unwrap_or_default() {
                let unit = if v.measure.phase == Phase::FirstToken { " s" } else { "" };
                disturbed |= v.disturbed;
                let bold = |wins: bool, text: String| if wins { format!("**{text}**") } else { text };
                writeln!(
                    text,
                    "| {} | {} | {} | {} {} | {} | {} |",
                    row.work(v.measure.phase),
                    row.model.name(),
                    bold(v.ratio >= 1.0, format!("{}{unit}", number(v.own.median))),
                    row.peer.name(),
                    bold(v.ratio < 1.0, format!("{}{unit}", number(v.peer.median))),
                    v.ratio(),
                    v.share().map(receipt::percent).unwrap_or_default(),
                )?;
            }
        }
        if disturbed {
            writeln!(text, "\n{}", DISTURBED[1])?;
        }
    }
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{record, run};
    use super::*;

    fn repository(receipts: &[(&str, Record)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let readme = format!("# A\n\n{}old\n{}\nmore\n", MARKERS[0], MARKERS[1]);
        std::fs::write(folder.path().join(README), readme).expect("a file");
        std::fs::create_dir_all(folder.path().join(RECEIPTS)).expect("a folder");
        for (name, record) in receipts {
            let text = record.fenced().expect("lines");
            std::fs::write(folder.path().join(RECEIPTS).join(name), text).expect("a file");
        }
        folder
    }

    fn decode(own: f64, peer: f64) -> Record {
        record(vec![run("decode-llama3.2-1b-q4_0", [own, own], [peer, peer])])
    }

    #[test]
    fn the_table_is_of_the_newest_receipt_of_each_machine() {
        let folder = repository(&[
            ("2026-01-01-a-x2.md", decode(11.0, 10.0)),
            ("2026-01-02-a-x2.md", decode(22.0, 10.0)),
            ("2026-01-01-b-x2.md", decode(3.0, 4.0)),
        ]);
        render(folder.path(), &folder.path().join(RECEIPTS)).expect("written");
        let readme = std::fs::read_to_string(folder.path().join(README)).expect("a file");
        assert!(
            readme.starts_with("# A\n") && readme.ends_with("\nmore\n") && !readme.contains("old"),
            "{readme}"
        );
        assert!(
            readme.contains("| decode | llama3.2-1b Q4_0 | **22.0** | llama.cpp 10.0 | 2.20 | 44 % |"),
            "{readme}"
        );
        assert!(readme.contains("| 3.00 | llama.cpp **4.00** | 0.75 |"), "{readme}");
        assert!(!readme.contains("11.0"), "{readme}");
        let columns: Vec<usize> =
            readme.lines().filter(|l| l.starts_with('|')).map(|l| l.matches('|').count()).collect();
        assert_eq!(columns, [7; 6], "{readme}");
    }

    #[test]
    fn what_differs_from_its_rows_is_stale() {
        let folder = repository(&[("2026-01-02-a-x2.md", decode(22.0, 10.0))]);
        let names = || stale(folder.path()).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
        assert_eq!(names(), ["bench/receipts/2026-01-02-a-x2.md", README]);
        render(folder.path(), &folder.path().join(RECEIPTS)).expect("written");
        assert_eq!(names(), [""; 0]);
        let path = folder.path().join(README);
        let edited = std::fs::read_to_string(&path).expect("a file").replace("22.0", "99.0");
        std::fs::write(&path, edited).expect("a file");
        assert_eq!(names(), [README]);
    }

    #[test]
    fn a_readme_without_markers_is_an_error_that_names_them() {
        let folder = repository(&[("2026-01-02-a-x2.md", decode(22.0, 10.0))]);
        std::fs::write(folder.path().join(README), "# A\n").expect("a file");
        let found = stale(folder.path());
        assert!(found.len() == 1 && found[0].1.contains("speed: end"), "{found:?}");
    }

    #[test]
    fn without_receipts_nothing_is_stale() {
        let folder = repository(&[]);
        assert_eq!(stale(folder.path()), []);
    }
}
