//! Links in Markdown files to other files of the repository.

use std::path::Path;

use super::{File, Violation};

/// Reports every link of a Markdown file to a local path that does not exist.
pub(super) fn check(root: &Path, file: &File, found: &mut Vec<Violation>) {
    if !file.has_extension("md") {
        return;
    }
    let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
    for (line, target) in local_links(&file.text) {
        let base = if target.starts_with('/') { root.to_path_buf() } else { root.join(folder) };
        if !base.join(target.trim_start_matches('/')).exists() {
            let remedy = format!("`{target}` does not exist: correct the link or remove it");
            found.push(Violation { path: file.path.clone(), line, rule: "dead-link", remedy });
        }
    }
}

/// The local targets of `[text](target)` and `[label]: target`, with their lines, fenced code left out.
fn local_links(text: &str) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            links.extend(targets(line).filter_map(local_path).map(|path| (index + 1, path)));
        }
    }
    links
}

fn targets(line: &str) -> impl Iterator<Item = &str> {
    let inline = line.match_indices("](").filter_map(|(at, mark)| {
        let rest = &line[at + mark.len()..];
        // A title may follow the target: `](path "title")`.
        rest.split_once(')').and_then(|(target, _)| target.split_whitespace().next())
    });
    let defined = line.strip_prefix('[').and_then(|l| l.split_once("]: ")).map(|(_, target)| target.trim());
    inline.chain(defined)
}

/// The path that a link names without its `#fragment`; `None` for the web, mail, and places on the same page.
fn local_path(target: &str) -> Option<&str> {
    let path = target.trim_matches(['<', '>']).split('#').next()?;
    (!path.is_empty() && !path.contains("://") && !path.starts_with("mailto:")).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_links_are_found_with_their_lines() {
        let text = "see [a](docs/a.md) and ![b](b.png \"title\")\n\
                    [web](https://example.org/x) [here](#there) [mail](mailto:a@b.c)\n\
                    [c]: ../c.md#part\n\
                    ```\n[not](a-link)\n```\n\
                    [d](<d.md>)\n";
        assert_eq!(local_links(text), [(1, "docs/a.md"), (1, "b.png"), (3, "../c.md"), (7, "d.md")]);
    }

    #[test]
    fn a_dead_link_is_reported_relative_to_its_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("docs")).expect("a folder");
        std::fs::write(folder.path().join("docs/there.md"), "").expect("a file");
        let text = "[a](there.md) [b](/docs/there.md) [c](docs/there.md)\n";
        let file = File { path: "docs/page.md".into(), text: text.into() };
        let mut found = Vec::new();
        check(folder.path(), &file, &mut found);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].line, found[0].rule), (1, "dead-link"));
        assert!(found[0].remedy.contains("`docs/there.md`"), "{}", found[0].remedy);
    }
}
