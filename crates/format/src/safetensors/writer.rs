//! Writing of safetensors, whole and in shards.

use std::path::Path;

use super::dtype::SafeDType;
use super::file::RawTensor;
use super::header::METADATA;
use super::shards::INDEX_NAME;
use crate::error::Error;
use crate::json::push_string;
use crate::tensor::TensorSpec;
use crate::write::{AtomicFile, Layout, Slot, TensorFile, misuse};

/// Writes a safetensors file: header first, then tensors as their bytes become known, in any order.
///
/// The file appears under its name when [`Writer::finish`] succeeds; until then, and when it never does, a file that had
/// the name stays.
#[derive(Debug)]
pub struct Writer {
    file: TensorFile,
}

impl Writer {
    /// Writes the header: the strings of `__metadata__` in their order, then the tensors, those of wide elements first
    /// and by name among equals, so that each is aligned to its element.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a name given twice or kept for metadata, and sizes that overflow; [`Error::Io`].
    pub fn create(
        path: impl AsRef<Path>,
        metadata: &[(&str, &str)],
        tensors: &[TensorSpec<SafeDType>],
    ) -> Result<Writer, Error> {
        let path = path.as_ref();
        let declared: Vec<Declared<'_>> = tensors.iter().map(Declared::from).collect();
        let layout = layout(Some(path), metadata, declared)?;
        Ok(Writer { file: TensorFile::create(path, layout)? })
    }

    /// Writes the next bytes of a tensor: little-endian numbers, row by row.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a tensor that was not declared or has all its bytes; [`Error::Io`].
    pub fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.file.append(name, bytes)
    }

    /// Puts the file in place.
    ///
    /// # Errors
    /// [`Error::Misuse`] when a tensor lacks bytes; [`Error::Io`].
    pub fn finish(self) -> Result<(), Error> {
        self.file.finish()
    }
}

/// Writes a folder's `model.safetensors` or, where that would pass a size, shards and the index that names them.
///
/// All shards are complete before the first gets its name, and the index comes last.
#[derive(Debug)]
pub struct ShardedWriter {
    shards: Vec<TensorFile>,
    index: Option<AtomicFile>,
}

impl ShardedWriter {
    /// Writes the headers of shards whose data is at most `max_shard_bytes` each, except where one tensor alone is
    /// larger. Tensors are dealt out in the given order.
    ///
    /// # Errors
    /// [`Error::Misuse`] when the folder already holds a model, and as [`Writer::create`]; [`Error::Io`].
    pub fn create(
        folder: impl AsRef<Path>,
        metadata: &[(&str, &str)],
        tensors: &[TensorSpec<SafeDType>],
        max_shard_bytes: u64,
    ) -> Result<ShardedWriter, Error> {
        let folder = folder.as_ref();
        for name in [INDEX_NAME, "model.safetensors"] {
            if folder.join(name).exists() {
                let problem = "the folder already holds a model; choose an empty one".into();
                return Err(misuse(Some(&folder.join(name)), "file", problem));
            }
        }
        let deal = deal(folder, tensors, max_shard_bytes)?;
        let count = deal.len();
        let mut shards = Vec::with_capacity(count);
        let mut map = String::new();
        let mut total = 0_u64;
        for (number, declared) in deal.into_iter().enumerate() {
            let name = match count {
                1 => "model.safetensors".to_owned(),
                _ => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
            };
            for tensor in &declared {
                total = total.saturating_add(tensor.bytes().unwrap_or(0));
                map.push_str(if map.is_empty() { "\n    " } else { ",\n    " });
                push_string(&mut map, tensor.name);
                map.push_str(": ");
                push_string(&mut map, &name);
            }
            let path = folder.join(&name);
            let layout = layout(Some(&path), metadata, declared)?;
            shards.push(TensorFile::create(&path, layout)?);
        }
        let mut index = None;
        if count > 1 {
            let text = format!(
                "{{\n  \"metadata\": {{\n    \"total_size\": {total}\n  }},\n  \"weight_map\": {{{map}\n  }}\n}}\n"
            );
            let mut file = AtomicFile::create(&folder.join(INDEX_NAME))?;
            file.write_at(0, text.as_bytes())?;
            index = Some(file);
        }
        Ok(ShardedWriter { shards, index })
    }

    /// Writes the next bytes of a tensor: little-endian numbers, row by row.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a tensor that was not declared or has all its bytes; [`Error::Io`].
    pub fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let holder = self.shards.iter().position(|shard| shard.contains(name)).unwrap_or(0);
        match self.shards.get_mut(holder) {
            Some(shard) => shard.append(name, bytes),
            None => Err(misuse(None, format_args!("tensor {name:?}"), "was not declared".into())),
        }
    }

    /// Puts the files in place.
    ///
    /// # Errors
    /// [`Error::Misuse`] when a tensor lacks bytes; [`Error::Io`].
    pub fn finish(self) -> Result<(), Error> {
        self.shards.iter().try_for_each(TensorFile::check_complete)?;
        self.shards.into_iter().try_for_each(TensorFile::finish)?;
        self.index.map_or(Ok(()), AtomicFile::commit)
    }
}

/// The bytes of a whole safetensors file, for small models and tests.
///
/// # Errors
/// [`Error::Misuse`] for a name given twice or kept for metadata, or data whose length is not that of type and shape.
pub fn to_bytes(metadata: &[(&str, &str)], tensors: &[RawTensor<'_>]) -> Result<Vec<u8>, Error> {
    let declared =
        tensors.iter().map(|t| Declared { name: t.name, dtype: t.dtype, shape: t.shape }).collect();
    let layout = layout(None, metadata, declared)?;
    let mut bytes = layout.header;
    for slot in &layout.slots {
        let data = tensors.iter().find(|t| t.name == slot.name).map_or(&[][..], |t| t.data);
        let length = slot.range.end - slot.range.start;
        if data.len() as u64 != length {
            let problem = format!("has {} bytes, but its type and shape take {length}", data.len());
            return Err(misuse(None, format_args!("tensor {:?}", slot.name), problem));
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}

#[derive(Clone, Copy)]
struct Declared<'a> {
    name: &'a str,
    dtype: SafeDType,
    shape: &'a [usize],
}

impl<'a> From<&'a TensorSpec<SafeDType>> for Declared<'a> {
    fn from(spec: &'a TensorSpec<SafeDType>) -> Declared<'a> {
        Declared { name: &spec.name, dtype: spec.dtype, shape: &spec.shape }
    }
}

impl Declared<'_> {
    fn bytes(&self) -> Option<u64> {
        let elements = self.shape.iter().try_fold(1_usize, |n, size| n.checked_mul(*size))?;
        self.dtype.bytes(elements).map(|b| b as u64)
    }
}

/// The tensors of each shard.
fn deal<'a>(
    folder: &Path,
    tensors: &'a [TensorSpec<SafeDType>],
    max_shard_bytes: u64,
) -> Result<Vec<Vec<Declared<'a>>>, Error> {
    let mut names: Vec<&str> = tensors.iter().map(|t| &*t.name).collect();
    names.sort_unstable();
    if let Some((name, _)) = names.iter().zip(names.iter().skip(1)).find(|(a, b)| a == b) {
        return Err(misuse(Some(folder), format_args!("tensor {name:?}"), "is declared twice".into()));
    }
    let mut shards = vec![Vec::new()];
    let mut held = 0_u64;
    for tensor in tensors.iter().map(Declared::from) {
        // A size that overflows is told by the shard's layout.
        let bytes = tensor.bytes().unwrap_or(0);
        held = held.saturating_add(bytes);
        match shards.last_mut() {
            Some(last) if last.is_empty() || held <= max_shard_bytes => last.push(tensor),
            _ => {
                held = bytes;
                shards.push(vec![tensor]);
            }
        }
    }
    Ok(shards)
}

/// A file's header, and where the data behind it goes.
fn layout(
    file: Option<&Path>,
    metadata: &[(&str, &str)],
    mut tensors: Vec<Declared<'_>>,
) -> Result<Layout, Error> {
    tensors.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(b.name)));
    let mut text = String::from("{");
    if !metadata.is_empty() {
        push_string(&mut text, METADATA);
        text.push_str(":{");
        for (i, (key, value)) in metadata.iter().enumerate() {
            if metadata.iter().take(i).any(|(earlier, _)| earlier == key) {
                return Err(misuse(file, format_args!("{key:?} in {METADATA}"), "is given twice".into()));
            }
            text.push_str(if i == 0 { "" } else { "," });
            push_string(&mut text, key);
            text.push(':');
            push_string(&mut text, value);
        }
        text.push('}');
    }
    let mut slots: Vec<Slot> = Vec::with_capacity(tensors.len());
    let mut offset = 0_u64;
    for tensor in &tensors {
        let Declared { name, dtype, shape } = tensor;
        let field = format_args!("tensor {name:?}");
        if *name == METADATA {
            return Err(misuse(file, field, "this name is kept for the file's metadata".into()));
        }
        let end = tensor.bytes().and_then(|bytes| offset.checked_add(bytes)).ok_or_else(|| {
            misuse(
                file,
                field,
                format!("the size of {dtype} elements of shape {shape:?} is not whole bytes of a file"),
            )
        })?;
        text.push_str(if text.len() == 1 { "" } else { "," });
        push_string(&mut text, name);
        text.push_str(&format!(":{{\"dtype\":\"{dtype}\",\"shape\":["));
        for (i, size) in shape.iter().enumerate() {
            text.push_str(if i == 0 { "" } else { "," });
            text.push_str(&size.to_string());
        }
        text.push_str(&format!("],\"data_offsets\":[{offset},{end}]}}"));
        slots.push(Slot { name: (*name).into(), range: offset..end });
        offset = end;
    }
    text.push('}');
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend_from_slice(text.as_bytes());
    Layout::new(file, header, slots, offset)
}
