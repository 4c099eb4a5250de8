//! safetensors bytes, files and folders.

use std::path::{Path, PathBuf};

use super::dtype::SafeDType;
use super::header::{self, Header, TensorInfo};
use super::shards;
use crate::cursor::Budget;
use crate::error::{Error, Place};
use crate::index::NameIndex;
use crate::map::Map;
use crate::tensor::TensorView;

/// A tensor of any element type: its description and its bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawTensor<'a> {
    /// The tensor's name in its file.
    pub name: &'a str,
    /// How its elements are stored.
    pub dtype: SafeDType,
    /// Sizes in row-major order, outermost first.
    pub shape: &'a [usize],
    /// The elements, little-endian. Not aligned to anything in general.
    pub data: &'a [u8],
}

impl<'a> RawTensor<'a> {
    /// The same as a tensor to compute with, or `None` for types that are none of [`autarky_quant::DType`]'s.
    pub fn view(&self) -> Option<TensorView<'a>> {
        let dtype = self.dtype.dtype()?;
        Some(TensorView { name: self.name, dtype, shape: self.shape, data: self.data })
    }

    /// The elements of an I64, I32, U32, U8 or BOOL tensor; `None` for other types.
    pub fn ints(&self) -> Option<Vec<i64>> {
        Some(match self.dtype {
            SafeDType::I64 => self.data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
            SafeDType::I32 => self.data.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect(),
            SafeDType::U32 => self.data.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b).into()).collect(),
            SafeDType::U8 | SafeDType::BOOL => self.data.iter().map(|b| (*b).into()).collect(),
            _ => return None,
        })
    }
}

/// A safetensors file's bytes, parsed.
#[derive(Clone, Debug)]
pub struct SafeTensors<'a> {
    bytes: &'a [u8],
    header: Header,
}

impl<'a> SafeTensors<'a> {
    /// Parses the bytes of a whole file.
    ///
    /// Everything is checked here: afterwards every tensor's bytes are there and have the length that type and shape
    /// ask. Takes at most 100 ms and allocates at most 64 MiB whatever the bytes are.
    pub fn parse(bytes: &'a [u8]) -> Result<SafeTensors<'a>, Error> {
        Ok(SafeTensors { bytes, header: header::header(bytes, None, &mut Budget::file())? })
    }

    /// The strings of `__metadata__`, in the file's order.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + '_ {
        self.header.metadata.iter().map(|(k, v)| (&**k, &**v))
    }

    /// The tensors in the order of their data.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// A tensor of any type by name, or `None`.
    pub fn raw(&self, name: &str) -> Option<RawTensor<'_>> {
        raw(self.header.info(name)?, self.bytes)
    }

    /// A tensor by name, or `None` when it is absent or of a type that is not computed with.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        self.raw(name)?.view()
    }
}

impl Header {
    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.index.find(&self.tensors, name, |t| &t.name)
    }
}

fn raw<'a>(info: &'a TensorInfo, bytes: &'a [u8]) -> Option<RawTensor<'a>> {
    let data = bytes.get(info.range.clone())?;
    Some(RawTensor { name: &info.name, dtype: info.dtype, shape: &info.shape, data })
}

/// A mapped safetensors file, or the shards of one model as one.
///
/// The files must not be edited or shortened while they are open: touching a mapped page past a new end raises
/// `SIGBUS`, which ends the process. Replace model files by renaming a new one over them.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    shards: Vec<Map>,
    header: Header,
}

impl File {
    /// Maps and parses one file, or all shards that an index (`*.safetensors.index.json`) names.
    ///
    /// # Errors
    /// When a file cannot be opened, is not a regular file, is not safetensors, or holds anything that contradicts the
    /// format or itself; the error names file, offset and field. Takes at most 100 ms and 64 MiB to say so.
    pub fn open(path: impl AsRef<Path>) -> Result<File, Error> {
        let path = path.as_ref();
        if path.extension().is_some_and(|e| e == "json") {
            return File::open_shards(path);
        }
        let (map, header) = open_one(path, &mut Budget::file())?;
        Ok(File { path: path.into(), shards: vec![map], header })
    }

    /// Opens a Hugging Face folder's `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    pub fn open_folder(folder: impl AsRef<Path>) -> Result<File, Error> {
        let folder = folder.as_ref();
        let (index, whole) = (folder.join(shards::INDEX_NAME), folder.join("model.safetensors"));
        if !index.exists() && !whole.exists() {
            let field = "model.safetensors or model.safetensors.index.json";
            return Err(Error::Missing { place: Place::new(Some(folder), None, field), what: "file" });
        }
        File::open(if index.exists() { index } else { whole })
    }

    fn open_shards(path: &Path) -> Result<File, Error> {
        let mut budget = Budget::shards();
        let index = Map::open(path)?;
        let weight_map = shards::parse_index(index.bytes(), Some(path), &mut budget)?;
        index.check_unchanged()?;

        let mut shards = Vec::new();
        let mut whole =
            Header { metadata: Vec::new(), tensors: Vec::new(), index: NameIndex::default(), end: 0 };
        for (number, name) in weight_map.files.iter().enumerate() {
            let (map, mut header) = open_one(&path.with_file_name(&**name), &mut budget)?;
            map.release(0..header.end);
            shards.push(map);
            header.tensors.iter_mut().for_each(|t| t.shard = number);
            whole.tensors.append(&mut header.tensors);
            if whole.metadata.is_empty() {
                whole.metadata = header.metadata;
            }
        }
        whole.index = NameIndex::new(&whole.tensors, |t| &t.name).map_err(|twice| {
            let file = shards.get(twice.shard).map(|map| &**map.path());
            Error::Duplicate { place: Place::new(file, None, format_args!("tensor {:?}", twice.name)) }
        })?;
        for entry in &weight_map.tensors {
            if whole.info(&entry.name).map(|info| info.shard) != Some(entry.file) {
                let file = weight_map.files.get(entry.file).map_or("", |f| f);
                let field = format_args!("tensor {:?} of weight_map, in {file}", entry.name);
                return Err(Error::Missing {
                    place: Place::new(Some(path), Some(entry.at), field),
                    what: "tensor",
                });
            }
        }
        Ok(File { path: path.into(), shards, header: whole })
    }

    /// Fails when a file's length is no longer what it was when opened: a sign that something still writes it.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        self.shards.iter().try_for_each(Map::check_unchanged)
    }

    /// The path of the file, or of the index that names the shards.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The length of the file, or of all shards together, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.shards.iter().map(|map| map.bytes().len() as u64).sum()
    }

    /// The strings of `__metadata__` (of the first shard that has any), in the file's order.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + '_ {
        self.header.metadata.iter().map(|(k, v)| (&**k, &**v))
    }

    /// The tensors in the order of their data, shard by shard.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// A tensor of any type by name, or `None`.
    pub fn raw(&self, name: &str) -> Option<RawTensor<'_>> {
        let info = self.header.info(name)?;
        raw(info, self.shards.get(info.shard)?.bytes())
    }

    /// A tensor by name, or `None` when it is absent or of a type that is not computed with.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        self.raw(name)?.view()
    }

    /// A tensor by name.
    ///
    /// # Errors
    /// When it is absent, or of a type that is not computed with (`F8_E4M3`, `I64`, ...).
    pub fn require(&self, name: &str) -> Result<TensorView<'_>, Error> {
        let place = |file, at| Place::new(Some(file), at, format_args!("tensor {name:?}"));
        let Some(raw) = self.raw(name) else {
            return Err(Error::Missing { place: place(self.path(), None), what: "tensor" });
        };
        raw.view().ok_or_else(|| {
            let info = self.header.info(name);
            let file = info.and_then(|i| self.shards.get(i.shard)).map_or(self.path(), |map| map.path());
            Error::Unsupported {
                place: place(file, info.map(|i| i.range.start)),
                what: format!("computing with {}", raw.dtype),
                advice: "save the model as F32, F16 or BF16",
            }
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

fn open_one(path: &Path, budget: &mut Budget) -> Result<(Map, Header), Error> {
    let map = Map::open(path)?;
    let header = header::header(map.bytes(), Some(path), budget)?;
    map.check_unchanged()?;
    Ok((map, header))
}
