//! What the writers share: a file that appears whole or not at all, and tensors written into it piece by piece.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Place};
use crate::index::NameIndex;
use crate::map::kind_of;

/// A file under a temporary name beside its own, renamed by [`AtomicFile::commit`] and removed when dropped before.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    committed: bool,
}

impl AtomicFile {
    pub(crate) fn create(path: &Path) -> Result<AtomicFile, Error> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let Some(name) = path.file_name() else {
            return Err(Error::io(path, "create", io::ErrorKind::InvalidFilename.into()));
        };
        // Renaming over a device, a pipe or a folder would put a file in its place: `-o /dev/null` must not.
        if let Ok(there) = fs::metadata(path)
            && !there.is_file()
        {
            return Err(Error::NotAFile { place: Place::file(path), found: kind_of(there.file_type()) });
        }
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".{}-{number}.partial", std::process::id()));
            let temporary = path.with_file_name(hidden);
            match OpenOptions::new().write(true).create_new(true).open(&temporary) {
                Ok(file) => return Ok(AtomicFile { file, temporary, path: path.into(), committed: false }),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io(path, "create", e)),
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| self.file.write_all(bytes))
            .map_err(|e| Error::io(&self.path, "write", e))
    }

    /// Sets the length; bytes that are never written are zero.
    pub(crate) fn set_len(&mut self, len: u64) -> Result<(), Error> {
        self.file.set_len(len).map_err(|e| Error::io(&self.path, "make room for", e))
    }

    /// Brings the bytes to the disk and gives the file its name, in place of any file that had it.
    pub(crate) fn commit(mut self) -> Result<(), Error> {
        self.file.sync_all().map_err(|e| Error::io(&self.path, "write", e))?;
        fs::rename(&self.temporary, &self.path).map_err(|e| Error::io(&self.path, "put in place", e))?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            // The error that led here matters more than a file that cannot be removed.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A tensor's place in a file that is being written.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) name: String,
    /// From the start of the file.
    pub(crate) range: Range<u64>,
}

/// A file's header and where everything behind it goes.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) header: Vec<u8>,
    pub(crate) slots: Vec<Slot>,
    /// The file's length.
    pub(crate) len: u64,
    index: NameIndex,
}

impl Layout {
    /// Lays out `slots`, whose ranges count from the end of the header, and `data_len` bytes of data.
    pub(crate) fn new(
        file: Option<&Path>,
        header: Vec<u8>,
        mut slots: Vec<Slot>,
        data_len: u64,
    ) -> Result<Layout, Error> {
        let index = NameIndex::new(&slots, |s| &s.name).map_err(|twice| {
            misuse(file, format_args!("tensor {:?}", twice.name), "is declared twice".into())
        })?;
        let start = header.len() as u64;
        let len = start
            .checked_add(data_len)
            .ok_or_else(|| misuse(file, "file", "the tensors together are larger than any file".into()))?;
        for slot in &mut slots {
            slot.range = slot.range.start + start..slot.range.end + start;
        }
        Ok(Layout { header, slots, len, index })
    }
}

/// A file whose header is written and whose tensors follow in any order, each in pieces from its start.
#[derive(Debug)]
pub(crate) struct TensorFile {
    file: AtomicFile,
    slots: Vec<Slot>,
    /// Bytes of each slot that are written.
    written: Vec<u64>,
    index: NameIndex,
}

impl TensorFile {
    /// Writes the header and makes room for the tensors.
    pub(crate) fn create(path: &Path, layout: Layout) -> Result<TensorFile, Error> {
        let Layout { header, slots, len, index } = layout;
        let mut file = AtomicFile::create(path)?;
        file.set_len(len)?;
        file.write_at(0, &header)?;
        let written = vec![0; slots.len()];
        Ok(TensorFile { file, slots, written, index })
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.index.find(&self.slots, name, |s| &s.name).is_some()
    }

    /// Writes the next bytes of a tensor.
    pub(crate) fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.file.path();
        let place = self.index.position(&self.slots, name, |s| &s.name);
        let slot = place.and_then(|i| Some((self.slots.get(i)?, self.written.get_mut(i)?)));
        let Some((slot, written)) = slot else {
            return Err(misuse(Some(path), format_args!("tensor {name:?}"), "was not declared".into()));
        };
        let length = slot.range.end - slot.range.start;
        let after = written.saturating_add(bytes.len() as u64);
        if after > length {
            let problem = format!("is given {after} bytes, but its type and shape take {length}");
            return Err(misuse(Some(path), format_args!("tensor {name:?}"), problem));
        }
        let offset = slot.range.start + *written;
        *written = after;
        self.file.write_at(offset, bytes)
    }

    /// Fails when a tensor lacks bytes.
    pub(crate) fn check_complete(&self) -> Result<(), Error> {
        for (slot, written) in self.slots.iter().zip(&self.written) {
            let length = slot.range.end - slot.range.start;
            if *written != length {
                let problem = format!("has {written} of its {length} bytes when the file is finished");
                return Err(misuse(Some(self.file.path()), format_args!("tensor {:?}", slot.name), problem));
            }
        }
        Ok(())
    }

    /// Checks that every tensor is complete and puts the file in place.
    pub(crate) fn finish(self) -> Result<(), Error> {
        self.check_complete()?;
        self.file.commit()
    }
}

/// The error of a caller who asks for what the format cannot express, or breaks its own declaration.
pub(crate) fn misuse(file: Option<&Path>, field: impl std::fmt::Display, problem: String) -> Error {
    Error::Misuse { place: Place::new(file, None, field), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn an_unfinished_file_leaves_nothing_behind_and_the_old_one_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        fs::write(&path, "old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_at(0, b"half").unwrap();
        assert_eq!(entries(folder.path()), 2);
        drop(file);
        assert_eq!(entries(folder.path()), 1, "the temporary file stays");
        assert_eq!(fs::read(&path).unwrap(), b"old");

        let mut file = AtomicFile::create(&path).unwrap();
        file.write_at(0, b"whole").unwrap();
        file.commit().unwrap();
        assert_eq!(entries(folder.path()), 1);
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }

    #[test]
    fn tensors_come_in_any_order_and_in_pieces_but_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        let slot = |name: &str, range| Slot { name: name.into(), range };
        let slots = vec![slot("a", 0..2), slot("b", 4..7)];
        let layout = || Layout::new(None, b"HH".to_vec(), slots.clone(), 8).unwrap();
        let mut file = TensorFile::create(&path, layout()).unwrap();
        file.append("b", b"b").unwrap();
        file.append("a", b"aa").unwrap();
        assert!(file.append("a", b"x").is_err(), "more bytes than declared are taken");
        assert!(file.append("c", b"x").is_err(), "a tensor that was not declared is taken");
        file.append("b", b"bb").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"HHaa\0\0bbb\0");

        let file = TensorFile::create(&path, layout()).unwrap();
        let error = file.finish().unwrap_err().to_string();
        assert!(error.contains("\"a\"") && error.contains("0 of its 2"), "{error}");
    }
}
