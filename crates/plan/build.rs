//! Collects the data files, so that adding a chip or a rule is adding one file.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let mut code = String::new();
    for (name, folder) in [("CHIPS", "data/chips"), ("CLAIMS", "data/claims"), ("RULES", "data/policy/rules")]
    {
        println!("cargo:rerun-if-changed={folder}");
        list(&mut code, name, &root, folder)?;
    }
    fs::write(out.join("data.rs"), code)
}

/// A table of file names and texts, by name.
fn list(code: &mut String, name: &str, root: &Path, folder: &str) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join(folder))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            files.push(path);
        }
    }
    files.sort();
    let _ = writeln!(code, "pub(crate) const {name}: &[(&str, &str)] = &[");
    for path in files {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // The compiler fills in where the package is, so that a build folder may be shared.
        let place = format!("concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/{folder}/\", {file:?})");
        let _ = writeln!(code, "    ({file:?}, include_str!({place})),");
    }
    let _ = writeln!(code, "];");
    Ok(())
}
