//! The model that is in the binary, for those who have no other yet: `default` in place of a path.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::{env, fs, io, process};

use anyhow::{Context, Result};

/// What stands for its path.
pub(crate) const DEFAULT: &str = "default";

/// What to know of it before one talks with it.
pub(crate) const ABOUT: &str =
    "A toy of 12 million parameters that knows very little: autarky run MODEL runs another";

/// The GGUF file; models/default says how it was made.
static BYTES: &[u8] = include_bytes!("../../../models/default/autarky-default.gguf");

/// Whether a model that was named is the one in the binary: `default`, unless there is such a file.
pub(crate) fn is_builtin(model: &Path) -> bool {
    model.as_os_str() == DEFAULT && !model.exists()
}

/// The path of a model that was named. Models are mapped from files, so the one in the binary is written into the user's
/// cache folder once.
///
/// # Errors
/// When it cannot be written anywhere.
pub(crate) fn resolve(model: &Path) -> Result<Cow<'_, Path>> {
    match is_builtin(model) {
        true => unpacked(&folders(), BYTES).map(Cow::Owned),
        false => Ok(Cow::Borrowed(model)),
    }
}

/// Where it may be written, the best place first.
fn folders() -> Vec<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    cache.into_iter().map(|c| c.join("autarky")).chain([env::temp_dir()]).collect()
}

/// A file with these bytes in the first folder that takes one.
fn unpacked(folders: &[PathBuf], bytes: &[u8]) -> Result<PathBuf> {
    let mut last = None;
    for folder in folders {
        let path = folder.join("autarky-default.gguf");
        match write(&path, bytes) {
            Ok(()) => return Ok(path),
            Err(error) => last = Some((path, error)),
        }
    }
    let (path, error) = last.context("there is no folder for the model that is in the program")?;
    Err(error).with_context(|| {
        let path = path.display();
        format!("cannot write the model that is in the program to {path}; set XDG_CACHE_HOME to a folder that can be written")
    })
}

/// Writes a file unless it has just these bytes. A program that has mapped another one keeps that.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let whole = fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() == bytes.len() as u64);
    if whole && fs::read(path)? == bytes {
        return Ok(());
    }
    fs::create_dir_all(path.parent().unwrap_or(Path::new("")))?;
    let beside = path.with_extension(format!("{}.partial", process::id()));
    fs::write(&beside, bytes)?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_once_and_again_when_it_is_not_whole() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("a file");
        fs::write(&file, "no folder").unwrap();
        let folders = [file, place.path().join("cache")];
        let path = unpacked(&folders, b"model").unwrap();
        assert!(path.starts_with(&folders[1]));
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(unpacked(&folders, b"model").unwrap(), path);
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
        for damaged in [&b"mod"[..], b"modem"] {
            fs::write(&path, damaged).unwrap();
            unpacked(&folders, b"model").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"model");
        }
        let error = unpacked(&folders[..1], b"model").unwrap_err();
        assert!(format!("{error:#}").contains("XDG_CACHE_HOME"), "{error:#}");
    }
}
