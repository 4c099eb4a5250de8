//! GGUF bytes and GGUF files.

use std::path::{Path, PathBuf};

use super::metadata::Metadata;
use super::parse::{self, Header, TensorInfo};
use crate::cursor::Budget;
use crate::error::{Error, Place};
use crate::index::NameIndex;
use crate::map::Map;
use crate::tensor::TensorView;

/// A GGUF file's bytes, parsed.
#[derive(Clone, Debug)]
pub struct Gguf<'a> {
    bytes: &'a [u8],
    header: Header,
}

impl<'a> Gguf<'a> {
    /// Parses the bytes of a whole file.
    ///
    /// Everything is checked here: afterwards every tensor's bytes are there and have the length that type and shape
    /// ask. Takes at most 100 ms and allocates at most 64 MiB whatever the bytes are.
    pub fn parse(bytes: &'a [u8]) -> Result<Gguf<'a>, Error> {
        Ok(Gguf { bytes, header: parse::header(bytes, None, &mut Budget::file())? })
    }

    /// The format's version: 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// The alignment of tensor data, in bytes.
    pub fn alignment(&self) -> usize {
        self.header.alignment
    }

    /// Keys and values.
    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// The tensors in the file's order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// A tensor by name, or `None`.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        view(self.header.info(name)?, self.bytes)
    }
}

fn view<'a>(info: &'a TensorInfo, bytes: &'a [u8]) -> Option<TensorView<'a>> {
    let data = bytes.get(info.range.clone())?;
    Some(TensorView { name: &info.name, dtype: info.dtype, shape: &info.shape, data })
}

/// A mapped GGUF file, or the shards of one model (`NAME-00001-of-00003.gguf`) as one.
///
/// The file must not be edited or shortened while it is open: touching a mapped page past a new end raises `SIGBUS`,
/// which ends the process. Replace model files by renaming a new one over them.
#[derive(Debug)]
pub struct File {
    shards: Vec<Map>,
    header: Header,
}

impl File {
    /// Maps and parses the file at `path`. Given any shard of a model in several, opens all of them.
    ///
    /// # Errors
    /// When the file cannot be opened, is not a regular file, is not GGUF, or holds anything that contradicts the
    /// format or itself; the error names file, offset and field. Takes at most 100 ms and 64 MiB to say so.
    pub fn open(path: impl AsRef<Path>) -> Result<File, Error> {
        let path = path.as_ref();
        let (map, header) = open_one(path, &mut Budget::file())?;
        match shard_count(&header.metadata)? {
            0 | 1 => Ok(File { shards: vec![map], header }),
            count => open_shards(path, count),
        }
    }

    /// Fails when a file's length is no longer what it was when opened: a sign that something still writes it.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        self.shards.iter().try_for_each(Map::check_unchanged)
    }

    /// The path that the (first) file was opened by.
    pub fn path(&self) -> &Path {
        self.shards.first().map_or(Path::new(""), |map| map.path())
    }

    /// The length of the file, or of all shards together, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.shards.iter().map(|map| map.bytes().len() as u64).sum()
    }

    /// The format's version: 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// The alignment of tensor data, in bytes.
    pub fn alignment(&self) -> usize {
        self.header.alignment
    }

    /// Keys and values, of the first shard where there are several.
    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// The tensors in the files' order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// A tensor by name, or `None`.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let info = self.header.info(name)?;
        view(info, self.shards.get(info.shard)?.bytes())
    }

    /// A tensor by name, or the error that says that it is missing.
    pub fn require(&self, name: &str) -> Result<TensorView<'_>, Error> {
        self.tensor(name).ok_or_else(|| Error::Missing {
            place: Place::new(Some(self.path()), None, format_args!("tensor {name:?}")),
            what: "tensor",
        })
    }

    /// Gives the memory of a tensor's pages back to the system. Its bytes stay readable and are fetched anew.
    ///
    /// For a device that has packed its own copy. Does nothing for an unknown name or on systems without the advice.
    pub fn release(&self, name: &str) {
        let Some(info) = self.header.info(name) else { return };
        if let Some(map) = self.shards.get(info.shard) {
            map.release(info.range.clone());
        }
    }
}

impl Header {
    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.index.find(&self.tensors, name, |t| &t.name)
    }
}

fn open_one(path: &Path, budget: &mut Budget) -> Result<(Map, Header), Error> {
    let map = Map::open(path)?;
    let header = parse::header(map.bytes(), Some(path), budget)?;
    map.check_unchanged()?;
    Ok((map, header))
}

/// `split.count`, or 0 when the file stands alone.
fn shard_count(metadata: &Metadata) -> Result<u16, Error> {
    Ok(metadata.find::<u16>("split.count")?.unwrap_or(0))
}

fn open_shards(path: &Path, count: u16) -> Result<File, Error> {
    let invalid = |path: &Path, field: &str, problem: String| Error::Invalid {
        place: Place::new(Some(path), None, field),
        problem,
    };
    let prefix = shard_prefix(path, count).ok_or_else(|| {
        let problem =
            format!("split.count is {count}, but the name does not end in -NNNNN-of-{count:05}.gguf");
        invalid(path, "file name", problem)
    })?;
    let mut budget = Budget::shards();
    let mut shards = Vec::new();
    let mut whole: Option<Header> = None;
    for number in 0..count {
        let path = shard_path(path, &prefix, number, count);
        let (map, mut header) = open_one(&path, &mut budget)?;
        let (no, of) = (header.metadata.find::<u16>("split.no")?, shard_count(&header.metadata)?);
        if (no, of) != (Some(number), count) {
            let problem =
                format!("this is shard {no:?} of {of}, but its name says shard {number} of {count}");
            return Err(invalid(&path, "metadata key \"split.no\"", problem));
        }
        map.release(0..header.end);
        shards.push(map);
        header.tensors.iter_mut().for_each(|t| t.shard = number.into());
        match &mut whole {
            None => whole = Some(header),
            Some(whole) => whole.tensors.append(&mut header.tensors),
        }
    }
    let mut header =
        whole.ok_or_else(|| invalid(path, "metadata key \"split.count\"", "there are no shards".into()))?;
    header.index = NameIndex::new(&header.tensors, |t| &t.name).map_err(|twice| {
        let place = Place::new(
            shards.get(twice.shard).map(|map| &**map.path()),
            None,
            format_args!("tensor {:?}", twice.name),
        );
        Error::Duplicate { place }
    })?;
    if let Some(declared) = header.metadata.find::<usize>("split.tensors.count")?
        && declared != header.tensors.len()
    {
        let problem =
            format!("{declared} tensors are declared, but the shards hold {}", header.tensors.len());
        return Err(invalid(path, "metadata key \"split.tensors.count\"", problem));
    }
    Ok(File { shards, header })
}

/// What stands before `-NNNNN-of-MMMMM.gguf` in a shard's name.
fn shard_prefix(path: &Path, count: u16) -> Option<String> {
    let name = path.file_name()?.to_str()?.strip_suffix(&format!("-of-{count:05}.gguf"))?;
    let (prefix, number) = name.rsplit_once('-')?;
    (number.len() == 5 && number.bytes().all(|b| b.is_ascii_digit())).then(|| prefix.to_owned())
}

fn shard_path(beside: &Path, prefix: &str, number: u16, count: u16) -> PathBuf {
    beside.with_file_name(format!("{prefix}-{:05}-of-{count:05}.gguf", u32::from(number) + 1))
}
