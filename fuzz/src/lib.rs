//! What the fuzz targets share: a count of what they allocate, and tiny models to damage.
//!
//! Each target calls [`bounded`] around what it tests. Besides panics, aborts and slowness, which libFuzzer sees, an
//! input that makes a parser allocate more than the promised 64 MiB is a find, too.

#[path = "../../crates/cli/tests/bad_input/memory.rs"]
pub mod memory;
#[path = "../../crates/cli/tests/bad_input/models.rs"]
pub mod models;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// The most that answering a bad file may allocate.
pub const MEMORY: usize = 64 << 20;

/// Runs `inner` and panics if it took more than [`MEMORY`] at its peak.
pub fn bounded<T>(inner: impl FnOnce() -> T) -> T {
    let (result, peak) = memory::peak(inner);
    assert!(peak < MEMORY, "{peak} bytes allocated at the peak");
    result
}

/// A folder of this process's own, removed by the system's cleaning of temporary files: libFuzzer ends the process
/// without unwinding.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("autarky-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    folder
});

/// Writes a file of the process's own folder, for what is only read from files.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = FOLDER.join(name);
    std::fs::write(&path, bytes).expect("room for a temporary file");
    path
}

/// The process's own folder.
pub fn folder() -> &'static Path {
    &FOLDER
}

/// `valid` with some of its lines replaced or doubled: each pair of `bytes` names a place and the line that goes there.
pub fn edited(valid: &str, bytes: &[u8]) -> String {
    let mut lines: Vec<&str> = valid.lines().collect();
    let all = lines.clone();
    for pair in bytes.chunks_exact(2) {
        let (to, from) = (usize::from(pair[0]), usize::from(pair[1]));
        let at = to % lines.len();
        match to % 2 {
            0 => lines[at] = all[from % all.len()],
            _ => lines.insert(at, all[from % all.len()]),
        }
    }
    lines.join("\n")
}
