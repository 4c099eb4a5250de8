//! Files mapped into memory: the only unsafe code of this crate.
//!
//! A mapped file is read by touching memory. If another program **shortens** the file while it is mapped, touching a
//! page past the new end raises `SIGBUS`, which no Rust code can turn into an error; if another program **rewrites**
//! it, the bytes change under the reader. Model files must therefore be replaced (written beside and renamed, as this
//! crate's writers do), never edited in place, while something has them open. [`Map::check_unchanged`] compares the
//! file's length with the one that was mapped and is called after each parse, so that a download still running or a
//! file being cut is told in nearly every case; the window between that check and the last read stays.

#![allow(unsafe_code)]

use std::fs::{self, File, FileType, OpenOptions};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use crate::error::{Error, Place};

/// A regular file, opened for reading and mapped whole.
#[derive(Debug)]
pub struct Map {
    map: Mmap,
    file: File,
    path: Arc<Path>,
}

impl Map {
    /// Opens and maps the file. Never blocks: directories, pipes, sockets and devices are refused.
    ///
    /// # Errors
    /// When it is no regular file, or the system does not map it.
    pub fn open(path: &Path) -> Result<Map, Error> {
        let file = open_regular(path)?;
        // SAFETY: the mapping is read-only and lives no longer than `Map`, which keeps the file open. That the file is
        // neither shortened nor rewritten by others meanwhile is the documented duty of whoever owns it (see the
        // module's text); `check_unchanged` tells the common breaches.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, "map into memory", e))?;
        Ok(Map { map, file, path: path.into() })
    }

    /// What it holds.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    pub(crate) fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// Fails when the file's length is no longer the one that was mapped.
    pub(crate) fn check_unchanged(&self) -> Result<(), Error> {
        let before = self.map.len() as u64;
        let after = self.file.metadata().map_err(|e| Error::io(&self.path, "read the length", e))?.len();
        if before != after {
            return Err(Error::Changed { place: Place::file(&self.path), before, after });
        }
        Ok(())
    }

    /// Drops the resident pages that lie wholly inside `range`; reading them again fetches them from the file.
    ///
    /// Advice only: failure and absence (not Unix) change nothing but memory use.
    #[cfg(unix)]
    pub(crate) fn release(&self, range: Range<usize>) {
        // SAFETY: sysconf reads a constant of the system.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096).max(1);
        let end = range.end.min(self.map.len()) / page * page;
        let Some(start) = range.start.checked_next_multiple_of(page) else { return };
        if start >= end {
            return;
        }
        // SAFETY: the mapping is of a file and never written, so dropping its pages loses nothing: the next read
        // brings the same bytes back. The range lies inside the mapping, at page boundaries.
        let _ = unsafe {
            self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start)
        };
    }

    /// Nothing to do where the system has no such advice.
    #[cfg(not(unix))]
    pub(crate) fn release(&self, _range: Range<usize>) {}
}

/// Views little-endian `f32` bytes as numbers, or `None` where alignment, length or byte order forbid it.
pub(crate) fn as_f32(bytes: &[u8]) -> Option<&[f32]> {
    if cfg!(target_endian = "big") {
        return None;
    }
    // SAFETY: every pattern of 32 bits is an f32; `align_to` itself takes care of alignment and length.
    match unsafe { bytes.align_to::<f32>() } {
        ([], numbers, []) => Some(numbers),
        _ => None,
    }
}

/// Opens a path that is a regular file, before and after opening, without ever waiting for a pipe's other end.
pub(crate) fn open_regular(path: &Path) -> Result<File, Error> {
    let not_a_file = |t: FileType| Error::NotAFile { place: Place::file(path), found: kind_of(t) };
    let before = fs::metadata(path).map_err(|e| Error::io(path, "open", e))?;
    if !before.is_file() {
        return Err(not_a_file(before.file_type()));
    }
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // The path may have become a pipe since it was looked at.
        options.custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
    }
    let file = options.open(path).map_err(|e| Error::io(path, "open", e))?;
    let opened = file.metadata().map_err(|e| Error::io(path, "read the length", e))?;
    if !opened.is_file() {
        return Err(not_a_file(opened.file_type()));
    }
    Ok(file)
}

/// What a path leads to that is no regular file, in words.
pub(crate) fn kind_of(t: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if t.is_fifo() {
            return "a pipe (FIFO)";
        }
        if t.is_socket() {
            return "a socket";
        }
        if t.is_block_device() || t.is_char_device() {
            return "a device";
        }
    }
    if t.is_dir() { "a directory" } else { "something else" }
}
