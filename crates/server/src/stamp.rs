//! Whether files are still those that they were.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::model::ModelFiles;

/// What the system says of a file: device, inode, bytes, and when it was written (seconds and nanoseconds).
type Seen = (u64, u64, u64, i64, i64);

/// What a model is made from, as it was when somebody looked: a file that is written anew, or replaced by another under its
/// name, gives another stamp. Of a folder the files that say something of a model count; of a model in several GGUF files,
/// the first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<Option<Seen>>);

impl Stamp {
    pub(crate) fn of(files: &ModelFiles) -> Stamp {
        let paths = std::iter::once(&files.path).chain(&files.adapter);
        Stamp(paths.flat_map(|path| look(path)).collect())
    }
}

fn look(path: &Path) -> Vec<Option<Seen>> {
    let seen = |m: Metadata| (m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec());
    let Ok(about) = path.metadata() else { return vec![None] };
    if !about.is_dir() {
        return vec![Some(seen(about))];
    }
    let counts = |path: &Path| {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        ["safetensors", "json", "jinja"].contains(&extension)
    };
    let entries = path.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<_> = entries.filter(|p| counts(p)).map(|p| p.metadata().ok().map(seen)).collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_is_another_when_a_file_of_the_model_is() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let of = || Stamp::of(&ModelFiles { path: folder.path().to_owned(), adapter: None });
        write("adapter_model.safetensors", "1");
        let first = of();
        write("README.md", "about it");
        assert_eq!(of(), first);
        write("adapter_model.safetensors", "12");
        let second = of();
        assert_ne!(second, first);
        write("adapter_config.json", "{}");
        assert_ne!(of(), second);
    }

    #[test]
    fn a_file_that_is_gone_or_another_of_its_name_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let [file, other] = ["a.gguf", "b.gguf"].map(|name| folder.path().join(name));
        for path in [&file, &other] {
            fs::write(path, "1234").unwrap();
        }
        let of = || Stamp::of(&ModelFiles { path: "absent".into(), adapter: Some(file.clone()) });
        let first = of();
        assert_eq!(of(), first);
        fs::rename(&other, &file).unwrap();
        let second = of();
        assert_ne!(second, first, "of the same length, but another file");
        fs::remove_file(&file).unwrap();
        assert_ne!(of(), second);
    }
}
