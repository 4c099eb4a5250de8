//! Writing of GGUF version 3, little-endian.

use std::path::Path;

use autarky_quant::DType;

use super::metadata::Metadata;
use super::parse::{DEFAULT_ALIGNMENT, MAX_ARRAY_DEPTH, MAX_DIMS, MAX_NAME_BYTES};
use super::types::dtype_id;
use super::value::{Array, Value};
use crate::error::Error;
use crate::tensor::{TensorSpec, TensorView};
use crate::write::{Layout, Slot, TensorFile, misuse};

const VERSION: u32 = 3;

/// Larger than the pages of any system: more would only be padding, up to 2 GiB of it in a file's header.
const MAX_ALIGNMENT: u32 = 1 << 20;
/// ggml keeps a tensor's name in 64 bytes, the last of them zero.
const MAX_TENSOR_NAME_BYTES: usize = 63;

/// Writes a GGUF file: header first, then tensors as their bytes become known, in any order.
///
/// The file appears under its name when [`Writer::finish`] succeeds; until then, and when it never does, a file that had
/// the name stays.
#[derive(Debug)]
pub struct Writer {
    file: TensorFile,
}

impl Writer {
    /// Writes the header: metadata in its order, then the tensors in the given order.
    ///
    /// # Errors
    /// [`Error::Misuse`] for names, shapes or an alignment that GGUF cannot express; [`Error::Io`].
    pub fn create(
        path: impl AsRef<Path>,
        metadata: &Metadata,
        tensors: &[TensorSpec<DType>],
    ) -> Result<Writer, Error> {
        let path = path.as_ref();
        let tensors: Vec<Declared<'_>> = tensors.iter().map(Declared::from).collect();
        let layout = layout(Some(path), metadata, &tensors)?;
        Ok(Writer { file: TensorFile::create(path, layout)? })
    }

    /// Writes the next bytes of a tensor: little-endian numbers or blocks, row by row.
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

/// The bytes of a whole GGUF file, for small models and tests.
///
/// # Errors
/// [`Error::Misuse`] for anything that GGUF cannot express, or data whose length is not that of type and shape.
pub fn to_bytes(metadata: &Metadata, tensors: &[TensorView<'_>]) -> Result<Vec<u8>, Error> {
    let declared: Vec<Declared<'_>> =
        tensors.iter().map(|t| Declared { name: t.name, dtype: t.dtype, shape: t.shape }).collect();
    let layout = layout(None, metadata, &declared)?;
    let mut bytes = layout.header;
    for (tensor, slot) in tensors.iter().zip(&layout.slots) {
        let length = slot.range.end - slot.range.start;
        if tensor.data.len() as u64 != length {
            let problem = format!("has {} bytes, but its type and shape take {length}", tensor.data.len());
            return Err(misuse(None, format_args!("tensor {:?}", tensor.name), problem));
        }
        bytes.resize(slot.range.start as usize, 0);
        bytes.extend_from_slice(tensor.data);
    }
    bytes.resize(layout.len as usize, 0);
    Ok(bytes)
}

struct Declared<'a> {
    name: &'a str,
    dtype: DType,
    shape: &'a [usize],
}

impl<'a> From<&'a TensorSpec<DType>> for Declared<'a> {
    fn from(spec: &'a TensorSpec<DType>) -> Declared<'a> {
        Declared { name: &spec.name, dtype: spec.dtype, shape: &spec.shape }
    }
}

/// A file's header, and where the data behind it goes.
fn layout(file: Option<&Path>, metadata: &Metadata, tensors: &[Declared<'_>]) -> Result<Layout, Error> {
    let alignment = alignment(file, metadata)?;
    let mut header = Vec::new();
    header.extend_from_slice(b"GGUF");
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    header.extend_from_slice(&(metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        if key.is_empty() || key.len() > MAX_NAME_BYTES {
            let problem = format!("a key has 1 to {MAX_NAME_BYTES} bytes, this one {}", key.len());
            return Err(misuse(file, format_args!("metadata key {key:?}"), problem));
        }
        put_str(&mut header, key);
        put_value(&mut header, value)
            .map_err(|problem| misuse(file, format_args!("metadata key {key:?}"), problem))?;
    }

    let mut slots = Vec::with_capacity(tensors.len());
    let mut offset = 0_u64;
    for tensor in tensors {
        let field = format_args!("tensor {:?}", tensor.name);
        let bytes = check(tensor).map_err(|problem| misuse(file, field, problem))?;
        put_str(&mut header, tensor.name);
        header.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
        for size in tensor.shape.iter().rev() {
            header.extend_from_slice(&(*size as u64).to_le_bytes());
        }
        header.extend_from_slice(&dtype_id(tensor.dtype).to_le_bytes());
        header.extend_from_slice(&offset.to_le_bytes());
        let end = offset.checked_add(bytes);
        let next = end.and_then(|end| end.checked_next_multiple_of(alignment));
        let (Some(end), Some(next)) = (end, next) else {
            return Err(misuse(file, field, "the tensors together are larger than any file".into()));
        };
        slots.push(Slot { name: tensor.name.into(), range: offset..end });
        offset = next;
    }
    header.resize(header.len().next_multiple_of(alignment as usize), 0);
    Layout::new(file, header, slots, offset)
}

/// `general.alignment`; the specification asks for a multiple of 8.
fn alignment(file: Option<&Path>, metadata: &Metadata) -> Result<u64, Error> {
    let key = "general.alignment";
    match metadata.get(key) {
        None => Ok(DEFAULT_ALIGNMENT as u64),
        Some(Value::U32(a)) if a.is_power_of_two() && (8..=MAX_ALIGNMENT).contains(a) => Ok(u64::from(*a)),
        Some(other) => {
            let problem = format!("is {other}, not a u32 that is a power of two from 8 to {MAX_ALIGNMENT}");
            Err(misuse(file, format_args!("metadata key {key:?}"), problem))
        }
    }
}

/// A tensor's bytes, or what GGUF cannot express about it.
fn check(tensor: &Declared<'_>) -> Result<u64, String> {
    let Declared { name, dtype, shape } = tensor;
    if name.is_empty() || name.len() > MAX_TENSOR_NAME_BYTES {
        return Err(format!(
            "a tensor's name has 1 to {MAX_TENSOR_NAME_BYTES} bytes, this one {}",
            name.len()
        ));
    }
    if shape.is_empty() || shape.len() > MAX_DIMS as usize || shape.contains(&0) {
        return Err(format!("the shape {shape:?} is not of 1 to {MAX_DIMS} sizes above 0"));
    }
    if shape.last().is_some_and(|row| !row.is_multiple_of(dtype.block_len())) {
        return Err(format!(
            "rows of shape {shape:?} are not whole blocks of {} for {dtype}",
            dtype.block_len()
        ));
    }
    let elements = shape.iter().try_fold(1_usize, |n, size| n.checked_mul(*size));
    let bytes = elements.and_then(|n| dtype.bytes(n)).map(|b| b as u64);
    bytes.ok_or_else(|| format!("the size of {dtype} numbers of shape {shape:?} overflows"))
}

fn put_str(out: &mut Vec<u8>, s: &str) {
    out.extend_from_slice(&(s.len() as u64).to_le_bytes());
    out.extend_from_slice(s.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) -> Result<(), String> {
    out.extend_from_slice(&value.value_type().id().to_le_bytes());
    match value {
        Value::U8(v) => out.push(*v),
        Value::I8(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U16(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I16(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::F32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::Bool(v) => out.push((*v).into()),
        Value::Str(v) => put_str(out, v),
        Value::Array(v) => put_array(out, v, 1)?,
        Value::U64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::F64(v) => out.extend_from_slice(&v.to_le_bytes()),
    }
    Ok(())
}

fn put_array(out: &mut Vec<u8>, array: &Array, depth: usize) -> Result<(), String> {
    if depth > MAX_ARRAY_DEPTH {
        return Err(format!("arrays are nested more than {MAX_ARRAY_DEPTH} deep"));
    }
    out.extend_from_slice(&array.element_type().id().to_le_bytes());
    out.extend_from_slice(&(array.len() as u64).to_le_bytes());
    match array {
        Array::U8(v) => out.extend_from_slice(v),
        Array::I8(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::U16(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::I16(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::U32(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::I32(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::F32(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::Bool(v) => out.extend(v.iter().map(|x| u8::from(*x))),
        Array::Str(v) => v.iter().for_each(|s| put_str(out, s)),
        Array::Array(v) => v.iter().try_for_each(|a| put_array(out, a, depth + 1))?,
        Array::U64(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::I64(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::F64(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alignment_that_would_only_be_padding_is_refused() {
        for (given, taken) in
            [(4_u32, false), (8, true), (48, false), (1 << 20, true), (1 << 21, false), (1 << 31, false)]
        {
            let mut metadata = Metadata::default();
            metadata.insert("general.alignment", given);
            let header = layout(None, &metadata, &[]);
            assert_eq!(header.is_ok(), taken, "alignment {given}");
            if let Err(error) = header {
                assert!(error.to_string().contains("general.alignment"), "{error}");
            }
        }
    }
}
