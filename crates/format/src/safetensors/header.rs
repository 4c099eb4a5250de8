//! Parsing of a safetensors header.
//!
//! The format (the safetensors repository's README): the header's length in 8 bytes, a JSON object, then the data.
//! The object maps each name to `{"dtype", "shape", "data_offsets": [begin, end]}`, with offsets from the start of the
//! data, and `__metadata__` to an object of strings. The tensors cover the data without holes or overlaps.

use std::fmt::Arguments;
use std::ops::Range;
use std::path::Path;

use super::dtype::SafeDType;
use crate::cursor::{Budget, Cursor, TENSOR_COST};
use crate::error::Error;
use crate::index::NameIndex;
use crate::json::Json;

/// The format's limit on the header's length.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// No framework makes tensors of more dimensions than this.
const MAX_DIMS: usize = 64;
/// The entry that is not a tensor.
pub(super) const METADATA: &str = "__metadata__";

/// A tensor's description: everything but its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The tensor's name, unique in its file.
    pub name: Box<str>,
    /// How its elements are stored.
    pub dtype: SafeDType,
    /// Sizes in row-major order, outermost first. None for a scalar; a zero makes an empty tensor.
    pub shape: Box<[usize]>,
    /// Where its bytes stand, from the start of the file that holds them.
    pub range: Range<usize>,
    /// Which file holds them: 0, or the shard's place in the order of the shards' names.
    pub shard: usize,
}

/// A parsed header.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) metadata: Vec<(Box<str>, Box<str>)>,
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) index: NameIndex,
    /// Where the header ends and the data begins.
    pub(super) end: usize,
}

/// Parses and checks the header of a whole file's bytes. Nothing in the result reaches outside `bytes`.
pub(super) fn header(bytes: &[u8], file: Option<&Path>, budget: &mut Budget) -> Result<Header, Error> {
    let mut cursor = Cursor::new(bytes, file);
    let length = cursor.u64(format_args!("header length"))?;
    if length > MAX_HEADER_BYTES {
        return Err(Error::TooLarge {
            place: cursor.place(0, "header length"),
            value: length,
            limit: MAX_HEADER_BYTES,
        });
    }
    let start = cursor.at();
    cursor.take(length as usize, format_args!("header"))?;
    let end = cursor.at();
    let text = bytes.get(..end).unwrap_or_default();
    match text.get(start) {
        Some(b'{') => {}
        first => {
            let found = first.map_or("nothing".into(), |b| format!("'{}'", b.escape_ascii()));
            return Err(Error::WrongFormat {
                place: cursor.place(start, "header"),
                expected: "a safetensors file (its header is a JSON object)",
                found,
            });
        }
    }
    let mut cursor = Cursor::new(text, file);
    cursor.rewind(start);

    let mut parser = Parser { json: Json::new(cursor, budget), data: end..bytes.len() };
    let (metadata, mut tensors) = parser.entries()?;
    tensors.sort_unstable_by_key(|t| (t.info.range.start, t.info.range.end));
    parser.check_cover(&tensors)?;
    let index = NameIndex::new(&tensors, |t| &t.info.name).map_err(|twice| {
        let place = parser.json.cursor.place(twice.at, format_args!("tensor {:?}", twice.info.name));
        Error::Duplicate { place }
    })?;
    let tensors = tensors.into_iter().map(|t| t.info).collect();
    Ok(Header { metadata, tensors, index, end })
}

/// A tensor's description with the place of its name in the file, for errors.
struct Found {
    info: TensorInfo,
    at: usize,
}

/// The fields of a tensor's entry as far as they have been read.
#[derive(Default)]
struct Fields {
    dtype: Option<SafeDType>,
    shape: Option<Vec<usize>>,
    offsets: Option<[u64; 2]>,
}

type Strings = Vec<(Box<str>, Box<str>)>;

struct Parser<'a, 'b> {
    json: Json<'a, 'b>,
    /// The file's bytes behind the header.
    data: Range<usize>,
}

impl Parser<'_, '_> {
    fn entries(&mut self) -> Result<(Strings, Vec<Found>), Error> {
        let data = self.data.clone();
        let mut metadata = None;
        let mut tensors = Vec::new();
        self.json.object(format_args!("header"), |json, key, at| {
            if key == METADATA {
                if metadata.is_some() {
                    return Err(Error::Duplicate { place: json.cursor.place(at, METADATA) });
                }
                metadata = Some(strings(json)?);
                return Ok(());
            }
            json.cursor.charge(json.budget, TENSOR_COST + key.len(), at, format_args!("tensor {key:?}"))?;
            let info = tensor(json, &key, at, &data)?;
            tensors.push(Found { info, at });
            Ok(())
        })?;
        self.json.end(format_args!("header"))?;
        Ok((metadata.unwrap_or_default(), tensors))
    }

    /// The tensors, in the order of their data, cover it from first byte to last.
    fn check_cover(&self, tensors: &[Found]) -> Result<(), Error> {
        let cursor = &self.json.cursor;
        let mut covered = self.data.start;
        for Found { info, at } in tensors {
            let field = format_args!("data_offsets of tensor {:?}", info.name);
            if info.range.start != covered {
                let what = if info.range.start < covered {
                    "overlap those of another"
                } else {
                    "leave a hole before"
                };
                let problem =
                    format!("bytes {:?} {what}: the data before ends at byte {covered}", info.range);
                return Err(cursor.invalid(*at, field, problem));
            }
            covered = info.range.end;
        }
        if covered != self.data.end {
            let problem = format!("the tensors end at byte {covered}, the file at byte {}", self.data.end);
            return Err(cursor.invalid(covered, format_args!("data"), problem));
        }
        Ok(())
    }
}

/// The strings of `__metadata__`.
fn strings(json: &mut Json<'_, '_>) -> Result<Strings, Error> {
    let mut found: Vec<(Box<str>, Box<str>, usize)> = Vec::new();
    json.object(format_args!("{METADATA}"), |json, key, at| {
        let value = json.string(format_args!("value of {key:?} in {METADATA}"))?;
        let cost = TENSOR_COST + key.len() + value.len();
        json.cursor.charge(json.budget, cost, at, format_args!("{METADATA}"))?;
        found.push((key.into(), value.into(), at));
        Ok(())
    })?;
    NameIndex::new(&found, |(key, ..)| key).map_err(|(key, _, at)| Error::Duplicate {
        place: json.cursor.place(*at, format_args!("{key:?} in {METADATA}")),
    })?;
    Ok(found.into_iter().map(|(key, value, _)| (key, value)).collect())
}

/// The object that describes one tensor.
fn tensor(json: &mut Json<'_, '_>, name: &str, at: usize, data: &Range<usize>) -> Result<TensorInfo, Error> {
    let mut fields = Fields::default();
    json.object(format_args!("tensor {name:?}"), |json, key, at| {
        let field = format_args!("{key} of tensor {name:?}");
        let twice = match &*key {
            "dtype" => fields.dtype.replace(dtype(json, field)?).is_some(),
            "shape" => fields.shape.replace(shape(json, field)?).is_some(),
            "data_offsets" => fields.offsets.replace(offsets(json, field)?).is_some(),
            _ => {
                json.skip(field)?;
                false
            }
        };
        if twice { Err(Error::Duplicate { place: json.cursor.place(at, field) }) } else { Ok(()) }
    })?;
    let missing = |what| Error::Missing {
        place: json.cursor.place(at, format_args!("{what} of tensor {name:?}")),
        what,
    };
    let dtype = fields.dtype.ok_or_else(|| missing("dtype"))?;
    let shape = fields.shape.ok_or_else(|| missing("shape"))?;
    let [begin, end] = fields.offsets.ok_or_else(|| missing("data_offsets"))?;

    let field = format_args!("data_offsets of tensor {name:?}");
    if end < begin {
        return Err(json.cursor.invalid(at, field, format!("the end {end} is before the begin {begin}")));
    }
    if end > data.len() as u64 {
        return Err(Error::Truncated {
            place: json.cursor.place(at, field),
            needed: end,
            available: data.len() as u64,
        });
    }
    let elements = shape.iter().try_fold(1_usize, |n, size| n.checked_mul(*size));
    let bytes = elements.and_then(|n| dtype.bytes(n));
    if bytes.map(|b| b as u64) != Some(end - begin) {
        let asked = bytes.map_or("more than can be counted".into(), |b| b.to_string());
        let problem =
            format!("{} bytes are given, but {dtype} of shape {shape:?} takes {asked}", end - begin);
        return Err(json.cursor.invalid(at, field, problem));
    }
    // Both are within the data, so they fit and their sums stay within the file.
    let range = data.start + begin as usize..data.start + end as usize;
    Ok(TensorInfo { name: name.into(), dtype, shape: shape.into(), range, shard: 0 })
}

fn dtype(json: &mut Json<'_, '_>, field: Arguments<'_>) -> Result<SafeDType, Error> {
    let at = json.at();
    let name = json.string(field)?;
    SafeDType::from_name(&name).ok_or_else(|| Error::Unsupported {
        place: json.cursor.place(at, field),
        what: format!("the type {:?}", name.chars().take(40).collect::<String>()),
        advice: "save the model as F32, F16 or BF16",
    })
}

fn shape(json: &mut Json<'_, '_>, field: Arguments<'_>) -> Result<Vec<usize>, Error> {
    let mut shape = Vec::new();
    json.array(field, |json| {
        let at = json.at();
        let size = json.unsigned(field)?;
        let size = usize::try_from(size)
            .map_err(|_| json.cursor.invalid(at, field, format!("{size} is beyond this machine's memory")))?;
        if shape.len() == MAX_DIMS {
            let place = json.cursor.place(at, format_args!("number of dimensions in {field}"));
            return Err(Error::TooLarge { place, value: MAX_DIMS as u64 + 1, limit: MAX_DIMS as u64 });
        }
        json.cursor.charge(json.budget, size_of::<usize>(), at, field)?;
        shape.push(size);
        Ok(())
    })?;
    Ok(shape)
}

fn offsets(json: &mut Json<'_, '_>, field: Arguments<'_>) -> Result<[u64; 2], Error> {
    let at = json.at();
    let mut offsets = [0; 2];
    let mut count = 0;
    let wrong = |json: &Json<'_, '_>, what: &str| {
        json.cursor.invalid(at, field, format!("{what} where begin and end should be two numbers"))
    };
    json.array(field, |json| {
        let offset = json.unsigned(field)?;
        match offsets.get_mut(count) {
            Some(slot) => *slot = offset,
            None => return Err(wrong(json, "more")),
        }
        count += 1;
        Ok(())
    })?;
    if count < 2 {
        return Err(wrong(json, "fewer"));
    }
    Ok(offsets)
}
