//! Parsing of a GGUF header: everything before the tensors' data.
//!
//! The layout is that of the GGUF specification (`docs/gguf.md` in the ggml repository): magic, version, number of
//! tensors, number of keys, the keys, the tensor infos, padding, the data.

use std::fmt::Arguments;
use std::ops::Range;
use std::path::Path;

use autarky_quant::DType;

use super::metadata::Metadata;
use super::types::dtype_from_id;
use super::value::{Array, StrArray, Value, ValueType};
use crate::cursor::{Budget, Cursor, TENSOR_COST};
use crate::error::Error;
use crate::index::NameIndex;

/// The alignment of tensor data in a file that does not give `general.alignment`.
pub const DEFAULT_ALIGNMENT: usize = 32;

/// Arrays within arrays that are followed; ggml itself writes none.
pub(super) const MAX_ARRAY_DEPTH: usize = 4;
/// The specification's limit on keys, taken for tensor names too.
pub(super) const MAX_NAME_BYTES: usize = 65_535;
pub(super) const MAX_DIMS: u32 = 4;

/// Bytes of a key with an empty name and a one-byte value; of a tensor with an empty name and no dimension.
const LEAST_KEY_BYTES: usize = 8 + 4 + 1;
const LEAST_TENSOR_BYTES: usize = 8 + 4 + 4 + 8;

/// What a key takes from the budget beside its name's bytes: more than its memory, since a file has few.
const KEY_COST: usize = 1024;

/// A tensor's description: everything but its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The tensor's name, unique in its file.
    pub name: Box<str>,
    /// How its numbers are stored.
    pub dtype: DType,
    /// Sizes in row-major order, outermost first (the reverse of ggml's `ne`). One to four, none zero.
    pub shape: Box<[usize]>,
    /// Where its bytes stand, from the start of the file that holds them.
    pub range: Range<usize>,
    /// Which file holds them: 0, or the shard's number of a model in several files.
    pub shard: usize,
}

/// A parsed header.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) alignment: usize,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) index: NameIndex,
    /// Where the header ends: the tensors' data begins here or, padded, a little later.
    pub(super) end: usize,
}

/// Parses and checks the header of a whole file's bytes. Nothing in the result reaches outside `bytes`.
pub(super) fn header(bytes: &[u8], file: Option<&Path>, budget: &mut Budget) -> Result<Header, Error> {
    let mut cursor = Cursor::new(bytes, file);
    let version = magic_and_version(&mut cursor)?;
    let tensor_count = cursor.count(LEAST_TENSOR_BYTES, format_args!("tensor count"))?;
    let key_count = cursor.count(LEAST_KEY_BYTES, format_args!("metadata key count"))?;

    let mut parser = Parser { cursor, budget };
    let mut metadata = parser.metadata(key_count)?;
    metadata.set_file(file.map(Into::into));
    let alignment = alignment(&metadata)?;
    let mut tensors = parser.tensor_infos(tensor_count)?;
    let index = NameIndex::new(&tensors, |t| &t.info.name).map_err(|twice| {
        let place = parser.cursor.place(twice.at, format_args!("tensor {:?}", twice.info.name));
        Error::Duplicate { place }
    })?;
    parser.place_data(&mut tensors, alignment)?;
    let end = parser.cursor.at();
    let tensors = tensors.into_iter().map(|t| t.info).collect();
    Ok(Header { version, alignment, metadata, tensors, index, end })
}

fn magic_and_version(cursor: &mut Cursor<'_>) -> Result<u32, Error> {
    let magic: [u8; 4] = cursor.array(format_args!("magic"))?;
    if &magic != b"GGUF" {
        return Err(Error::WrongFormat {
            place: cursor.place(0, "magic"),
            expected: "a GGUF file",
            found: format!("\"{}\"", magic.escape_ascii()),
        });
    }
    let at = cursor.at();
    let version = cursor.u32(format_args!("version"))?;
    let unsupported =
        |what: String, advice| Err(Error::Unsupported { place: cursor.place(at, "version"), what, advice });
    match version {
        2 | 3 => Ok(version),
        1 => unsupported(
            "GGUF version 1 (32-bit lengths)".into(),
            "convert the model again with a converter of 2023-10 or later, which writes version 3",
        ),
        _ if matches!(version.swap_bytes(), 1..=3) => unsupported(
            "a big-endian GGUF file".into(),
            "convert it to little-endian first (gguf-py's gguf-convert-endian does)",
        ),
        _ => unsupported(
            format!("GGUF version {version}"),
            "versions 2 and 3 are; convert the model to one of them",
        ),
    }
}

/// `general.alignment`, a power of two.
fn alignment(metadata: &Metadata) -> Result<usize, Error> {
    let key = "general.alignment";
    let Some(alignment) = metadata.find::<u32>(key)? else { return Ok(DEFAULT_ALIGNMENT) };
    if !alignment.is_power_of_two() {
        return Err(Error::Invalid {
            place: metadata.place(key),
            problem: format!("alignment {alignment} is not a power of two"),
        });
    }
    Ok(alignment as usize)
}

/// A tensor info as it stands in the file, with its data not yet placed.
struct Pending {
    info: TensorInfo,
    /// Where the info stands in the file.
    at: usize,
    /// From the start of the data section, as the file says.
    data_offset: u64,
    bytes: usize,
}

struct Parser<'a, 'b> {
    cursor: Cursor<'a>,
    budget: &'b mut Budget,
}

impl<'a> Parser<'a, '_> {
    fn metadata(&mut self, count: usize) -> Result<Metadata, Error> {
        let mut metadata = Metadata::new();
        for i in 0..count {
            let at = self.cursor.at();
            let key = self.name(format_args!("key of metadata entry {i}"))?;
            if metadata.contains(key) {
                let place = self.cursor.place(at, format_args!("metadata key {key:?}"));
                return Err(Error::Duplicate { place });
            }
            self.cursor.charge(
                self.budget,
                KEY_COST + 2 * key.len(),
                at,
                format_args!("metadata key {key:?}"),
            )?;
            let kind = self.value_type(format_args!("type of metadata key {key:?}"))?;
            let value_at = self.cursor.at();
            let value = self.value(kind, key)?;
            metadata.push(key, value, Some(value_at));
        }
        Ok(metadata)
    }

    fn value_type(&mut self, field: Arguments<'_>) -> Result<ValueType, Error> {
        let at = self.cursor.at();
        let id = self.cursor.u32(field)?;
        ValueType::from_id(id).ok_or_else(|| {
            self.cursor.invalid(at, field, format!("there is no value type {id} (0 to 12 are)"))
        })
    }

    fn value(&mut self, kind: ValueType, key: &str) -> Result<Value, Error> {
        let field = format_args!("metadata key {key:?}");
        let at = self.cursor.at();
        Ok(match kind {
            ValueType::U8 => Value::U8(self.cursor.u8(field)?),
            ValueType::I8 => Value::I8(self.cursor.array(field).map(i8::from_le_bytes)?),
            ValueType::U16 => Value::U16(self.cursor.array(field).map(u16::from_le_bytes)?),
            ValueType::I16 => Value::I16(self.cursor.array(field).map(i16::from_le_bytes)?),
            ValueType::U32 => Value::U32(self.cursor.u32(field)?),
            ValueType::I32 => Value::I32(self.cursor.i32(field)?),
            ValueType::U64 => Value::U64(self.cursor.u64(field)?),
            ValueType::I64 => Value::I64(self.cursor.array(field).map(i64::from_le_bytes)?),
            ValueType::F32 => Value::F32(self.cursor.f32(field)?),
            ValueType::F64 => Value::F64(self.cursor.array(field).map(f64::from_le_bytes)?),
            ValueType::Bool => {
                let byte = self.cursor.u8(field)?;
                Value::Bool(boolean(byte).ok_or_else(|| self.cursor.invalid(at, field, not_a_bool(byte)))?)
            }
            ValueType::Str => {
                let s = self.str(field)?;
                self.cursor.charge(self.budget, s.len(), at, field)?;
                Value::Str(s.into())
            }
            ValueType::Array => Value::Array(self.array(key, 1)?),
        })
    }

    /// An array's element type, length and elements. `depth` is 1 for an array that is a key's value.
    fn array(&mut self, key: &str, depth: usize) -> Result<Array, Error> {
        let field = format_args!("metadata key {key:?}");
        let at = self.cursor.at();
        if depth > MAX_ARRAY_DEPTH {
            return Err(Error::TooLarge {
                place: self.cursor.place(at, format_args!("nesting of arrays in {field}")),
                value: depth as u64,
                limit: MAX_ARRAY_DEPTH as u64,
            });
        }
        let kind = self.value_type(format_args!("element type of {field}"))?;
        let count = self.cursor.count(kind.least_bytes(), format_args!("array length of {field}"))?;
        Ok(match kind {
            ValueType::U8 => Array::U8(self.numbers(count, u8::from_le_bytes, field)?),
            ValueType::I8 => Array::I8(self.numbers(count, i8::from_le_bytes, field)?),
            ValueType::U16 => Array::U16(self.numbers(count, u16::from_le_bytes, field)?),
            ValueType::I16 => Array::I16(self.numbers(count, i16::from_le_bytes, field)?),
            ValueType::U32 => Array::U32(self.numbers(count, u32::from_le_bytes, field)?),
            ValueType::I32 => Array::I32(self.numbers(count, i32::from_le_bytes, field)?),
            ValueType::U64 => Array::U64(self.numbers(count, u64::from_le_bytes, field)?),
            ValueType::I64 => Array::I64(self.numbers(count, i64::from_le_bytes, field)?),
            ValueType::F32 => Array::F32(self.numbers(count, f32::from_le_bytes, field)?),
            ValueType::F64 => Array::F64(self.numbers(count, f64::from_le_bytes, field)?),
            ValueType::Bool => {
                let at = self.cursor.at();
                let bytes = self.numbers(count, u8::from_le_bytes, field)?;
                if let Some((i, &byte)) = bytes.iter().enumerate().find(|(_, b)| **b > 1) {
                    return Err(self.cursor.invalid(at + i, field, not_a_bool(byte)));
                }
                Array::Bool(bytes.into_iter().map(|b| b != 0).collect())
            }
            ValueType::Str => Array::Str(self.strings(count, key)?),
            ValueType::Array => {
                self.charge_items(count, size_of::<Array>(), field)?;
                let mut items = Vec::with_capacity(count);
                for _ in 0..count {
                    items.push(self.array(key, depth + 1)?);
                }
                Array::Array(items)
            }
        })
    }

    fn numbers<T, const N: usize>(
        &mut self,
        count: usize,
        read: impl Fn([u8; N]) -> T,
        field: Arguments<'_>,
    ) -> Result<Vec<T>, Error> {
        // Small numbers are charged as four bytes: callers widen them.
        self.charge_items(count, N.max(4), field)?;
        let bytes = self.cursor.take(count.saturating_mul(N), field)?;
        Ok(bytes.as_chunks::<N>().0.iter().map(|b| read(*b)).collect())
    }

    fn strings(&mut self, count: usize, key: &str) -> Result<StrArray, Error> {
        let start = self.cursor.at();
        let mut bytes = 0_usize;
        for i in 0..count {
            // Each length is checked against what is left, so the sum cannot pass the file's length.
            let n = self.cursor.count(1, format_args!("length of string {i} of metadata key {key:?}"))?;
            self.cursor.take(n, format_args!("string {i} of metadata key {key:?}"))?;
            bytes = bytes.saturating_add(n);
        }
        self.cursor.rewind(start);
        self.charge_items(count, size_of::<usize>(), format_args!("metadata key {key:?}"))?;
        self.cursor.charge(self.budget, bytes, start, format_args!("metadata key {key:?}"))?;
        let mut strings = StrArray::with_capacity(count, bytes);
        for i in 0..count {
            strings.push(self.str(format_args!("string {i} of metadata key {key:?}"))?);
        }
        Ok(strings)
    }

    fn charge_items(&mut self, count: usize, each: usize, field: Arguments<'_>) -> Result<(), Error> {
        let at = self.cursor.at();
        self.cursor.charge(self.budget, count.saturating_mul(each), at, field)
    }

    /// A string: its length, then so many bytes of UTF-8.
    fn str(&mut self, field: Arguments<'_>) -> Result<&'a str, Error> {
        let length = self.cursor.count(1, format_args!("length of {field}"))?;
        let at = self.cursor.at();
        let bytes = self.cursor.take(length, field)?;
        std::str::from_utf8(bytes).map_err(|e| {
            self.cursor.invalid(at + e.valid_up_to(), field, "the text is not valid UTF-8 at this byte")
        })
    }

    /// A key or a tensor's name: a string of bounded length.
    fn name(&mut self, field: Arguments<'_>) -> Result<&'a str, Error> {
        let at = self.cursor.at();
        let name = self.str(field)?;
        if name.len() > MAX_NAME_BYTES {
            return Err(Error::TooLarge {
                place: self.cursor.place(at, format_args!("length of {field}")),
                value: name.len() as u64,
                limit: MAX_NAME_BYTES as u64,
            });
        }
        Ok(name)
    }

    fn tensor_infos(&mut self, count: usize) -> Result<Vec<Pending>, Error> {
        self.charge_items(count, TENSOR_COST, format_args!("tensor infos"))?;
        let mut tensors = Vec::with_capacity(count);
        for i in 0..count {
            let at = self.cursor.at();
            let name = self.name(format_args!("name of tensor {i}"))?;
            self.cursor.charge(self.budget, name.len(), at, format_args!("tensor {name:?}"))?;
            tensors.push(self.tensor_info(name, at)?);
        }
        Ok(tensors)
    }

    /// What follows a tensor's name: number of dimensions, `ne`, type, offset.
    fn tensor_info(&mut self, name: &str, at: usize) -> Result<Pending, Error> {
        let dims_at = self.cursor.at();
        let dims_field = format_args!("number of dimensions of tensor {name:?}");
        let dims = self.cursor.u32(dims_field)?;
        if dims == 0 || dims > MAX_DIMS {
            let problem = format!("{dims} dimensions where 1 to {MAX_DIMS} are possible");
            return Err(self.cursor.invalid(dims_at, dims_field, problem));
        }
        let mut shape = Vec::with_capacity(MAX_DIMS as usize);
        let mut elements = Some(1_usize);
        let shape_at = self.cursor.at();
        for d in 0..dims {
            let at = self.cursor.at();
            let field = format_args!("dimension {d} of tensor {name:?}");
            let size = self.cursor.u64(field)?;
            if size == 0 {
                return Err(self.cursor.invalid(
                    at,
                    field,
                    "the dimension is 0, but a tensor holds at least one number",
                ));
            }
            let size = usize::try_from(size).map_err(|_| {
                self.cursor.invalid(at, field, format!("{size} is beyond this machine's memory"))
            })?;
            elements = elements.and_then(|n| n.checked_mul(size));
            shape.push(size);
        }
        let dtype_at = self.cursor.at();
        let dtype_field = format_args!("type of tensor {name:?}");
        let dtype = dtype_from_id(self.cursor.u32(dtype_field)?).map_err(|what| Error::Unsupported {
            place: self.cursor.place(dtype_at, dtype_field),
            what,
            advice: "quantize the model to a type that is, such as Q4_K or Q8_0",
        })?;
        // ggml's first dimension is a row, and a row is whole blocks.
        if let Some(row) = shape.first().filter(|row| !row.is_multiple_of(dtype.block_len())) {
            let problem = format!("rows of {row} are not whole blocks of {} for {dtype}", dtype.block_len());
            return Err(self.cursor.invalid(shape_at, format_args!("shape of tensor {name:?}"), problem));
        }
        let bytes = elements.and_then(|n| dtype.bytes(n)).ok_or_else(|| {
            let problem = format!("the size of {dtype} numbers of dimensions {shape:?} overflows");
            self.cursor.invalid(shape_at, format_args!("shape of tensor {name:?}"), problem)
        })?;
        let data_offset = self.cursor.u64(format_args!("data offset of tensor {name:?}"))?;
        shape.reverse();
        let info = TensorInfo { name: name.into(), dtype, shape: shape.into(), range: 0..bytes, shard: 0 };
        Ok(Pending { info, at, data_offset, bytes })
    }

    /// Turns offsets within the data section into ranges of the file, inside it and apart from each other.
    fn place_data(&self, tensors: &mut [Pending], alignment: usize) -> Result<(), Error> {
        let start = self.cursor.at().next_multiple_of(alignment);
        for Pending { info, at, data_offset, bytes } in &mut *tensors {
            let field = format_args!("data of tensor {:?}", info.name);
            if !data_offset.is_multiple_of(alignment as u64) {
                let problem =
                    format!("data offset {data_offset} is not a multiple of the alignment {alignment}");
                return Err(self.cursor.invalid(
                    *at,
                    format_args!("data offset of tensor {:?}", info.name),
                    problem,
                ));
            }
            let range = usize::try_from(*data_offset).ok().and_then(|offset| {
                let first = start.checked_add(offset)?;
                let end = first.checked_add(*bytes)?;
                (end <= self.cursor.len()).then_some(first..end)
            });
            info.range = range.ok_or_else(|| Error::Truncated {
                place: self.cursor.place(*at, field),
                needed: (*bytes as u64).saturating_add(*data_offset),
                available: self.cursor.len().saturating_sub(start) as u64,
            })?;
        }
        let mut by_place: Vec<&Pending> = tensors.iter().collect();
        by_place.sort_unstable_by_key(|t| t.info.range.start);
        for (a, b) in by_place.iter().zip(by_place.iter().skip(1)) {
            if a.info.range.end > b.info.range.start {
                let problem = format!(
                    "bytes {:?} overlap bytes {:?} of tensor {:?}",
                    b.info.range, a.info.range, a.info.name
                );
                return Err(self.cursor.invalid(
                    b.at,
                    format_args!("data of tensor {:?}", b.info.name),
                    problem,
                ));
            }
        }
        Ok(())
    }
}

fn boolean(byte: u8) -> Option<bool> {
    match byte {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn not_a_bool(byte: u8) -> String {
    format!("{byte} is not a bool (0 or 1)")
}
