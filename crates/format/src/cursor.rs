//! Reading little-endian fields one after another out of bytes that nobody vouches for.

use std::fmt;
use std::path::Path;

use crate::error::{Error, Place};

/// Bytes that the parse of one file may allocate for what it keeps (metadata, names, shapes).
///
/// The richest vocabularies in use (262 thousand tokens with 515 thousand merges) need about 16 MiB. What is kept
/// has been read from about as many bytes of the mapped file, so that together the answer to a file that was made to
/// exhaust memory stays below 64 MiB and 100 ms.
const FILE_BUDGET: usize = 28 << 20;

/// The same for all shards of a model together. The largest (140 thousand tensors) need about 34 MiB, and a shard's
/// header leaves memory when it has been parsed.
const SHARDS_BUDGET: usize = 48 << 20;

/// Memory that a tensor's description takes beside its name: itself, its shape, its place in the index.
pub(crate) const TENSOR_COST: usize = 160;

/// What a parse may still allocate. Charged before each allocation.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    left: usize,
}

impl Budget {
    /// For a file on its own.
    pub(crate) fn file() -> Budget {
        Budget { limit: FILE_BUDGET, left: FILE_BUDGET }
    }

    /// For a model in several files.
    pub(crate) fn shards() -> Budget {
        Budget { limit: SHARDS_BUDGET, left: SHARDS_BUDGET }
    }
}

/// A place in bytes, moving forward by checked reads.
///
/// Fields are named by `format_args!`, so that a name costs nothing until it is needed in an error.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    file: Option<&'a Path>,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8], file: Option<&'a Path>) -> Cursor<'a> {
        Cursor { bytes, at: 0, file }
    }

    /// Bytes from the start.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Goes back to a place that [`Cursor::at`] gave.
    pub(crate) fn rewind(&mut self, at: usize) {
        self.at = at;
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes from here to the end.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    pub(crate) fn place(&self, offset: usize, field: impl fmt::Display) -> Box<Place> {
        Place::new(self.file, Some(offset), field)
    }

    pub(crate) fn invalid(
        &self,
        offset: usize,
        field: impl fmt::Display,
        problem: impl Into<String>,
    ) -> Error {
        Error::Invalid { place: self.place(offset, field), problem: problem.into() }
    }

    /// The next `n` bytes.
    pub(crate) fn take(&mut self, n: usize, field: fmt::Arguments<'_>) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(n);
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(taken) => {
                self.at += n;
                Ok(taken)
            }
            None => Err(self.truncated(n as u64, field)),
        }
    }

    /// The error that says that `needed` bytes do not follow.
    pub(crate) fn truncated(&self, needed: u64, field: fmt::Arguments<'_>) -> Error {
        Error::Truncated { place: self.place(self.at, field), needed, available: self.remaining() as u64 }
    }

    pub(crate) fn array<const N: usize>(&mut self, field: fmt::Arguments<'_>) -> Result<[u8; N], Error> {
        let taken = self.take(N, field)?;
        <[u8; N]>::try_from(taken).map_err(|_| self.truncated(N as u64, field))
    }

    pub(crate) fn u8(&mut self, field: fmt::Arguments<'_>) -> Result<u8, Error> {
        self.array(field).map(u8::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, field: fmt::Arguments<'_>) -> Result<u32, Error> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(crate) fn i32(&mut self, field: fmt::Arguments<'_>) -> Result<i32, Error> {
        self.array(field).map(i32::from_le_bytes)
    }

    pub(crate) fn f32(&mut self, field: fmt::Arguments<'_>) -> Result<f32, Error> {
        self.array(field).map(f32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, field: fmt::Arguments<'_>) -> Result<u64, Error> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// A 64-bit number of items of at least `item_bytes` each, refused where so many cannot follow.
    pub(crate) fn count(&mut self, item_bytes: usize, field: fmt::Arguments<'_>) -> Result<usize, Error> {
        let at = self.at;
        let count = self.u64(field)?;
        let needed = count.saturating_mul(item_bytes as u64);
        if needed > self.remaining() as u64 {
            let (place, available) = (self.place(at, field), self.remaining() as u64);
            return Err(Error::Truncated { place, needed, available });
        }
        // It fits: at most `remaining()`, unless the items have no size, which no caller asks.
        Ok(count as usize)
    }

    /// Takes `bytes` off the budget before an allocation for the field that starts at `offset`.
    pub(crate) fn charge(
        &self,
        budget: &mut Budget,
        bytes: usize,
        offset: usize,
        field: fmt::Arguments<'_>,
    ) -> Result<(), Error> {
        match budget.left.checked_sub(bytes) {
            Some(left) => {
                budget.left = left;
                Ok(())
            }
            None => Err(Error::TooLarge {
                place: self.place(offset, format_args!("memory for {field}")),
                value: (budget.limit - budget.left) as u64 + bytes as u64,
                limit: budget.limit as u64,
            }),
        }
    }
}
