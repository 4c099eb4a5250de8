//! Rows of Parquet files (<https://parquet.apache.org/docs/file-format/>), as records with the columns for fields.
//!
//! The `parquet` crate reads the file, and gives pages as they lie there: they are decompressed here, up to a limit, and
//! Zstandard without a library in another language. Only columns that a known shape of record has are read.

use std::io::{BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ::parquet::basic::Compression as Codec;
use ::parquet::bloom_filter::Sbbf;
use ::parquet::column::page::{Page, PageMetadata, PageReader};
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use ::parquet::file::reader::{ChunkReader, RowGroupReader};
use ::parquet::file::serialized_reader::SerializedPageReader;
use ::parquet::record::reader::{ReaderIter, RowIter, TreeBuilder};
use ::parquet::record::{Field, Row};
use ::parquet::schema::types::{SchemaDescPtr, SchemaDescriptor, Type};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};

use super::Item;
use super::problem::{At, Fault};
use super::shapes::{FIELDS, names};
use super::source::Zstd;

/// The most bytes of a page once it is decompressed. Writers make pages of about 1 MiB, unless a value is larger.
const LARGEST_PAGE: usize = 128 << 20;

/// Values of a column that are decoded at once.
const BATCH: usize = 64;

/// The rows of a file, one group of them after another.
pub(super) struct Rows<R: ChunkReader> {
    input: Arc<R>,
    text_field: Option<String>,
    limit: usize,
    opened: Option<Opened>,
    /// The next row, from 1.
    row: u64,
    done: bool,
}

struct Opened {
    metadata: ParquetMetaData,
    /// The columns that are read.
    columns: SchemaDescPtr,
    /// The next group.
    group: usize,
    rows: Option<ReaderIter>,
}

impl<R: ChunkReader + 'static> Rows<R> {
    /// Rows of `input`, each with at most `limit` bytes of text.
    pub(super) fn new(input: R, text_field: Option<String>, limit: usize) -> Rows<R> {
        Rows { input: Arc::new(input), text_field, limit, opened: None, row: 1, done: false }
    }

    fn open(&self) -> Result<Opened, Fault> {
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&*self.input).map_err(fault)?;
        let root = metadata.file_metadata().schema_descr().root_schema();
        let known = |name: &str| FIELDS.contains(&name) || self.text_field.as_deref() == Some(name);
        let fields: Vec<_> = root.get_fields().iter().filter(|f| known(f.name())).cloned().collect();
        if fields.is_empty() {
            return Err(Fault::UnknownShape { fields: names(root.get_fields().iter().map(|f| f.name())) });
        }
        let columns = Type::group_type_builder(root.name()).with_fields(fields).build().map_err(fault)?;
        let columns = Arc::new(SchemaDescriptor::new(Arc::new(columns)));
        Ok(Opened { metadata, columns, group: 0, rows: None })
    }

    fn read(&mut self) -> Result<Option<Row>, Fault> {
        let mut opened = match self.opened.take() {
            Some(opened) => opened,
            None => self.open()?,
        };
        let row = loop {
            if let Some(row) = opened.rows.as_mut().and_then(Iterator::next) {
                break Some(row.map_err(fault)?);
            }
            let Some(metadata) = opened.metadata.row_groups().get(opened.group) else { break None };
            opened.group += 1;
            let group = Group { input: self.input.clone(), metadata };
            let builder = TreeBuilder::new().with_batch_size(BATCH);
            opened.rows = Some(builder.as_iter(opened.columns.clone(), &group).map_err(fault)?);
        };
        self.opened = Some(opened);
        Ok(row)
    }
}

impl<R: ChunkReader + 'static> Iterator for Rows<R> {
    type Item = Item<Value>;

    fn next(&mut self) -> Option<Item<Value>> {
        if self.done {
            return None;
        }
        // The crate panics on some schemas that it does not expect. What it leaves behind is not used again.
        let read = catch_unwind(AssertUnwindSafe(|| self.read()))
            .unwrap_or_else(|_| Err(Fault::Parquet { reason: "its layout is not one that is read".into() }));
        let at = At::Row(self.row);
        self.row += 1;
        match read {
            Ok(Some(row)) => {
                let mut room = self.limit;
                let value = record(row, &mut room).ok_or((at, Fault::TooLong { limit: self.limit }));
                Some(value.map(|value| (at, value)))
            }
            Ok(None) => {
                self.done = true;
                None
            }
            Err(fault) => {
                self.done = true;
                Some(Err((at, fault)))
            }
        }
    }
}

fn fault(e: ParquetError) -> Fault {
    Fault::Parquet { reason: e.to_string() }
}

/// A row as an object. `None`: it has more than `room` bytes of text.
fn record(row: Row, room: &mut usize) -> Option<Value> {
    let mut object = Map::new();
    for (name, field) in row.into_columns() {
        object.insert(name, value(&field, room)?);
    }
    Some(Value::Object(object))
}

fn value(field: &Field, room: &mut usize) -> Option<Value> {
    let mut take = |text: &str| -> Option<Value> {
        *room = room.checked_sub(text.len())?;
        Some(Value::String(text.to_owned()))
    };
    Some(match field {
        Field::Str(text) => take(text)?,
        // Writers that know no text have it as bytes.
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => take(text)?,
            Err(_) => Value::Array(Vec::new()),
        },
        Field::Group(row) => {
            let mut object = Map::new();
            for (name, field) in row.get_column_iter() {
                object.insert(name.clone(), value(field, room)?);
            }
            Value::Object(object)
        }
        Field::ListInternal(list) => {
            Value::Array(list.elements().iter().map(|field| value(field, room)).collect::<Option<_>>()?)
        }
        Field::MapInternal(map) => {
            let mut object = Map::new();
            for (key, field) in map.entries() {
                object.insert(key.to_string().trim_matches('"').to_owned(), value(field, room)?);
            }
            Value::Object(object)
        }
        Field::Null => Value::Null,
        Field::Bool(bool) => (*bool).into(),
        Field::Byte(n) => (*n).into(),
        Field::Short(n) => (*n).into(),
        Field::Int(n) | Field::Date(n) | Field::TimeMillis(n) => (*n).into(),
        Field::Long(n) | Field::TimeMicros(n) | Field::TimestampMillis(n) | Field::TimestampMicros(n) => {
            (*n).into()
        }
        Field::UByte(n) => (*n).into(),
        Field::UShort(n) => (*n).into(),
        Field::UInt(n) => (*n).into(),
        Field::ULong(n) => (*n).into(),
        Field::Float16(n) => f32::from(*n).into(),
        Field::Float(n) => (*n).into(),
        Field::Double(n) => (*n).into(),
        Field::Decimal(_) => Value::String(field.to_string()),
    })
}

/// A group of rows whose pages are decompressed here.
struct Group<'a, R: ChunkReader> {
    input: Arc<R>,
    metadata: &'a RowGroupMetaData,
}

impl<R: ChunkReader + 'static> RowGroupReader for Group<'_, R> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.metadata
    }

    fn num_columns(&self) -> usize {
        self.metadata.num_columns()
    }

    fn get_column_page_reader(&self, i: usize) -> ParquetResult<Box<dyn PageReader>> {
        let column = self.metadata.columns().get(i).ok_or_else(|| general("a column is missing"))?;
        let codec = column.compression();
        let plain = column.clone().into_builder().set_compression(Codec::UNCOMPRESSED).build()?;
        let rows = usize::try_from(self.metadata.num_rows()).unwrap_or(0);
        let inner = SerializedPageReader::new(self.input.clone(), &plain, rows, None)?;
        Ok(Box::new(Pages { inner, codec }))
    }

    fn get_column_bloom_filter(&self, _: usize) -> Option<&Sbbf> {
        None
    }

    fn get_row_iter(&self, projection: Option<Type>) -> ParquetResult<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

/// Pages of a column. `inner` takes them for uncompressed, and gives their bytes as they are.
struct Pages<R: ChunkReader> {
    inner: SerializedPageReader<R>,
    codec: Codec,
}

impl<R: ChunkReader> Iterator for Pages<R> {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<ParquetResult<Page>> {
        self.get_next_page().transpose()
    }
}

impl<R: ChunkReader> PageReader for Pages<R> {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        let Some(mut page) = self.inner.get_next_page()? else { return Ok(None) };
        match &mut page {
            Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => {
                *buf = decompress(self.codec, buf, 0)?;
            }
            // Levels lie before the values, and are not compressed.
            Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, is_compressed, .. } => {
                let levels = *def_levels_byte_len as usize + *rep_levels_byte_len as usize;
                if *is_compressed {
                    *buf = decompress(self.codec, buf, levels)?;
                } else if levels > buf.len() {
                    return Err(general("a page is shorter than its levels"));
                }
            }
        }
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.inner.skip_next_page()
    }
}

/// The bytes of a page, of which the first `plain` are not compressed.
fn decompress(codec: Codec, page: &Bytes, plain: usize) -> ParquetResult<Bytes> {
    if plain > page.len() {
        return Err(general("a page is shorter than its levels"));
    }
    let (levels, packed) = page.split_at(plain);
    if packed.is_empty() || codec == Codec::UNCOMPRESSED {
        return Ok(page.clone());
    }
    let mut whole = levels.to_vec();
    match codec {
        Codec::SNAPPY => {
            // The size is the file's own word, so it is checked: a copy of 64 bytes takes at least 2.
            let size = snap::raw::decompress_len(packed).map_err(|e| general(&e.to_string()))?;
            if size > LARGEST_PAGE || size / 64 > packed.len() {
                return Err(general(&format!("a page of {size} bytes is too large")));
            }
            whole.resize(plain + size, 0);
            let into = whole.get_mut(plain..).unwrap_or_default();
            snap::raw::Decoder::new().decompress(packed, into).map_err(|e| general(&e.to_string()))?;
        }
        Codec::GZIP(_) => bounded(MultiGzDecoder::new(packed), &mut whole)?,
        Codec::ZSTD(_) => bounded(Zstd::new(BufReader::new(packed)), &mut whole)?,
        other => {
            let name = format!("{other:?}");
            let name = name.split('(').next().unwrap_or_default();
            return Err(general(&format!(
                "{name} compression is not read; write the file with ZSTD or SNAPPY"
            )));
        }
    }
    Ok(whole.into())
}

fn bounded(source: impl Read, into: &mut Vec<u8>) -> ParquetResult<()> {
    let count = source.take(LARGEST_PAGE as u64 + 1).read_to_end(into)?;
    if count > LARGEST_PAGE {
        return Err(general(&format!("a page has more than {LARGEST_PAGE} bytes")));
    }
    Ok(())
}

fn general(reason: &str) -> ParquetError {
    ParquetError::General(reason.to_owned())
}
