//! The index of a model in several safetensors files: `model.safetensors.index.json`.
//!
//! Its `weight_map` maps each tensor's name to the name of the file, in the same folder, that holds it. Other entries
//! (`metadata`) are passed over.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use crate::cursor::{Budget, Cursor};
use crate::error::Error;
use crate::index::NameIndex;
use crate::json::Json;

/// The index's name in a Hugging Face folder.
pub(super) const INDEX_NAME: &str = "model.safetensors.index.json";

/// Shards of one model; the largest published ones have fewer than 200.
const MAX_SHARDS: usize = 10_000;

/// Bytes of a file's name on the systems in use.
const MAX_FILE_NAME: usize = 255;

/// Memory that an entry takes beside its name.
const ENTRY_COST: usize = size_of::<Entry<'static>>() * 2;

/// Which file holds which tensor.
pub(super) struct WeightMap<'a> {
    /// The shards' names, sorted.
    pub(super) files: Vec<Box<str>>,
    /// The tensors in the index's order.
    pub(super) tensors: Vec<Entry<'a>>,
}

/// One tensor of the index.
pub(super) struct Entry<'a> {
    pub(super) name: Cow<'a, str>,
    /// The shard's place in `files`.
    pub(super) file: usize,
    /// Where the entry stands in the index.
    pub(super) at: usize,
}

/// Parses an index and checks that it names files of its own folder only.
pub(super) fn parse_index<'a>(
    bytes: &'a [u8],
    file: Option<&'a Path>,
    budget: &mut Budget,
) -> Result<WeightMap<'a>, Error> {
    let mut json = Json::new(Cursor::new(bytes, file), budget);
    let mut weight_map = None;
    json.object(format_args!("index"), |json, key, at| {
        if key != "weight_map" {
            return json.skip(format_args!("{key}"));
        }
        match weight_map.replace(read_weight_map(json)?) {
            Some(_) => Err(Error::Duplicate { place: json.cursor.place(at, "weight_map") }),
            None => Ok(()),
        }
    })?;
    json.end(format_args!("index"))?;
    weight_map.ok_or_else(|| Error::Missing { place: json.cursor.place(0, "weight_map"), what: "entry" })
}

fn read_weight_map<'a>(json: &mut Json<'a, '_>) -> Result<WeightMap<'a>, Error> {
    let mut files: Vec<Box<str>> = Vec::new();
    let mut places: HashMap<Cow<'a, str>, usize> = HashMap::new();
    let mut tensors: Vec<Entry<'a>> = Vec::new();
    json.object(format_args!("weight_map"), |json, name, at| {
        let field = format_args!("weight_map of tensor {name:?}");
        let file_at = json.at();
        let file = json.string(field)?;
        json.cursor.charge(json.budget, ENTRY_COST, at, field)?;
        let place = match places.get(&file) {
            Some(place) => *place,
            None => {
                check_file_name(json, &file, file_at, field)?;
                if files.len() == MAX_SHARDS {
                    let place = json.cursor.place(file_at, "number of shards in weight_map");
                    return Err(Error::TooLarge {
                        place,
                        value: MAX_SHARDS as u64 + 1,
                        limit: MAX_SHARDS as u64,
                    });
                }
                json.cursor.charge(json.budget, 2 * file.len(), file_at, field)?;
                files.push((*file).into());
                places.insert(file, files.len() - 1);
                files.len() - 1
            }
        };
        tensors.push(Entry { name, file: place, at });
        Ok(())
    })?;
    NameIndex::new(&tensors, |t| &t.name).map_err(|twice| Error::Duplicate {
        place: json.cursor.place(twice.at, format_args!("tensor {:?} of weight_map", twice.name)),
    })?;
    sort_files(&mut files, &mut tensors);
    Ok(WeightMap { files, tensors })
}

/// A shard lies in the index's own folder: its name has no separator and is not a step in the tree.
fn check_file_name(
    json: &Json<'_, '_>,
    name: &str,
    at: usize,
    field: std::fmt::Arguments<'_>,
) -> Result<(), Error> {
    let plain = name.len() <= MAX_FILE_NAME
        && name.ends_with(".safetensors")
        && !name.contains(['/', '\\', ':', '\0']);
    if !plain {
        let shown: String = name.chars().take(80).collect();
        let problem = format!("{shown:?} is not the name of a .safetensors file in the index's own folder");
        return Err(json.cursor.invalid(at, field, problem));
    }
    Ok(())
}

fn sort_files(files: &mut [Box<str>], tensors: &mut [Entry<'_>]) {
    let mut order: Vec<usize> = (0..files.len()).collect();
    order.sort_by(|a, b| files.get(*a).cmp(&files.get(*b)));
    let mut place = vec![0; files.len()];
    for (to, from) in order.into_iter().enumerate() {
        if let Some(slot) = place.get_mut(from) {
            *slot = to;
        }
    }
    for tensor in tensors {
        tensor.file = place.get(tensor.file).copied().unwrap_or_default();
    }
    files.sort();
}
