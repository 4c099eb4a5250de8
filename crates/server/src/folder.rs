//! Folders whose files may be named in requests: the models in one, and nothing outside of it.

use std::path::{Component, Path, PathBuf};

use serde::Serialize;

/// Something in the folder that looks like a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelFile {
    /// Its path, relative to the folder.
    pub path: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// `gguf` or `hugging_face`.
    pub kind: &'static str,
}

/// Folders below the models folder that are looked into.
const DEPTH: usize = 4;
/// Models that are listed at most.
const MOST: usize = 1000;

/// The models below `folder`, by path. What cannot be read is left out.
pub fn models(folder: &Path) -> Vec<ModelFile> {
    let mut found = Vec::new();
    look(folder, Path::new(""), DEPTH, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn look(root: &Path, below: &Path, depth: usize, found: &mut Vec<ModelFile>) {
    let Ok(entries) = root.join(below).read_dir() else { return };
    let mut folders = Vec::new();
    let (mut has_config, mut tensors) = (false, 0u64);
    for entry in entries.flatten() {
        if found.len() >= MOST {
            return;
        }
        // Follows links: a folder of links to files elsewhere is its owner's choice.
        let Ok(metadata) = entry.path().metadata() else { continue };
        let name = PathBuf::from(entry.file_name());
        let extension = name.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let path = below.join(&name);
        match () {
            () if name.to_string_lossy().starts_with('.') => {}
            () if metadata.is_dir() => folders.push(path),
            () if extension == "gguf" && !is_later_part(&name) => {
                found.push(ModelFile {
                    path: path.to_string_lossy().into_owned(),
                    bytes: metadata.len(),
                    kind: "gguf",
                });
            }
            () if name == Path::new("config.json") => has_config = true,
            () if extension == "safetensors" => tensors = tensors.saturating_add(metadata.len()),
            () => {}
        }
    }
    if has_config && tensors > 0 {
        let path =
            if below.as_os_str().is_empty() { ".".to_owned() } else { below.to_string_lossy().into_owned() };
        found.push(ModelFile { path, bytes: tensors, kind: "hugging_face" });
    }
    if depth > 0 {
        folders.iter().for_each(|folder| look(root, folder, depth - 1, found));
    }
}

/// Whether a GGUF file is a part of a split model, but not the first: `...-00002-of-00003.gguf`.
fn is_later_part(name: &Path) -> bool {
    let stem = name.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    let Some((head, _)) = stem.rsplit_once("-of-") else { return false };
    head.rsplit_once('-').and_then(|(_, number)| number.parse::<u32>().ok()).is_some_and(|n| n > 1)
}

/// The name of a model in requests: that of its file without the ending, or of its folder.
pub fn name_of(path: &Path) -> String {
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    let name = name.map_or_else(|| "model".into(), |n| n.to_string_lossy());
    name.chars().map(|c| if c.is_control() { '-' } else { c }).take(200).collect()
}

/// The full path of `path`, which must lie within `folder`, links followed.
///
/// # Errors
/// When it does not exist or lies elsewhere, in words for its user.
pub fn within(folder: &Path, path: &str) -> Result<PathBuf, String> {
    let shown: String = path.chars().take(200).collect();
    let asked = Path::new(path);
    let outside =
        || format!("`{shown}` lies outside of the folder {}; move or link it there", folder.display());
    if asked.components().any(|c| matches!(c, Component::ParentDir)) {
        return Err(outside());
    }
    let folder = folder.canonicalize().map_err(|e| format!("the folder {}: {e}", folder.display()))?;
    let full = folder.join(asked);
    // A link within the folder may lead elsewhere: whoever can write there decides that.
    if !full.starts_with(&folder) {
        return Err(outside());
    }
    match full.exists() {
        true => Ok(full),
        false => Err(format!("there is no `{shown}` in the folder {}", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_folder_gives_its_models_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "1234").unwrap();
        };
        for path in [
            "a.gguf",
            "big-00001-of-00002.gguf",
            "big-00002-of-00002.gguf",
            "org/name/config.json",
            "org/name/model-1.safetensors",
            "org/name/model-2.safetensors",
            "org/empty/config.json",
            ".hidden.gguf",
            "notes.txt",
        ] {
            write(path);
        }
        let found = models(folder.path());
        let brief: Vec<_> = found.iter().map(|m| (m.path.as_str(), m.bytes, m.kind)).collect();
        let expected =
            [("a.gguf", 4, "gguf"), ("big-00001-of-00002.gguf", 4, "gguf"), ("org/name", 8, "hugging_face")];
        assert_eq!(brief, expected);
        assert_eq!(name_of(&folder.path().join("a.gguf")), "a");
        assert_eq!(name_of(&folder.path().join("org/name")), "name");
    }

    #[test]
    fn only_what_lies_within_can_be_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.gguf"), "").unwrap();
        let root = folder.path().canonicalize().unwrap();
        assert_eq!(within(folder.path(), "a.gguf"), Ok(root.join("a.gguf")));
        assert_eq!(within(folder.path(), root.join("a.gguf").to_str().unwrap()), Ok(root.join("a.gguf")));
        for outside in ["../a.gguf", "x/../../a.gguf", "/etc/passwd"] {
            assert!(within(folder.path(), outside).unwrap_err().contains("outside"), "{outside}");
        }
        assert!(within(folder.path(), "b.gguf").unwrap_err().contains("there is no"));
    }
}
