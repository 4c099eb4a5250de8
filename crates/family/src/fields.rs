//! Reading a configuration's fields: every number is checked before anything is made of it.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;

use autarky_format::gguf::{Array, Metadata, Value};
use serde_json::{Map, Value as Json};

use crate::config::MAX_LAYERS;
use crate::error::FamilyError;

/// What a field holds, whichever file it is in.
pub(crate) enum Found<'a> {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(&'a str),
    Flags(Vec<bool>),
    Texts(Vec<&'a str>),
    Ints(Vec<i128>),
    Other(String),
}

/// Where fields are looked up.
#[derive(Clone, Copy)]
enum Lookup<'a> {
    Json(&'a Map<String, Json>),
    Gguf(&'a Metadata),
}

/// The fields of a configuration: a JSON object, or the keys of GGUF metadata that begin with the architecture.
#[derive(Clone)]
pub(crate) struct Fields<'a> {
    file: &'a Path,
    /// What stands before a field's name: the GGUF architecture and a dot, or the path of a JSON object.
    prefix: String,
    lookup: Lookup<'a>,
}

type Read<T> = Result<T, FamilyError>;

impl<'a> Fields<'a> {
    /// The members of a JSON object.
    pub(crate) fn json(file: &'a Path, object: &'a Map<String, Json>) -> Fields<'a> {
        Fields { file, prefix: String::new(), lookup: Lookup::Json(object) }
    }

    /// The keys of `metadata` that begin with `architecture` and a dot.
    pub(crate) fn gguf(file: &'a Path, metadata: &'a Metadata, architecture: &str) -> Fields<'a> {
        Fields { file, prefix: format!("{architecture}."), lookup: Lookup::Gguf(metadata) }
    }

    /// The file, for errors.
    pub(crate) fn file(&self) -> &'a Path {
        self.file
    }

    /// The object in the field `name` of a JSON object, when there is one.
    pub(crate) fn section(&self, name: &str) -> Read<Option<Fields<'a>>> {
        let Lookup::Json(object) = self.lookup else { return Ok(None) };
        match object.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Object(inner)) => {
                let prefix = format!("{}{name}.", self.prefix);
                Ok(Some(Fields { file: self.file, prefix, lookup: Lookup::Json(inner) }))
            }
            Some(other) => Err(self.wrong(name, short(other), "an object")),
        }
    }

    /// What the field holds; `None` when it is absent.
    pub(crate) fn find(&self, name: &str) -> Option<Found<'a>> {
        match self.lookup {
            Lookup::Json(object) => object.get(name).map(from_json),
            Lookup::Gguf(metadata) => metadata.get(&format!("{}{name}", self.prefix)).map(from_gguf),
        }
    }

    /// Whether the field is there and not null.
    pub(crate) fn has(&self, name: &str) -> bool {
        !matches!(self.find(name), None | Some(Found::Null))
    }

    /// A whole number within `range`, or `None` when it is absent or null. An array of equal numbers (GGUF's one a
    /// layer) is that number.
    pub(crate) fn size_opt(&self, name: &str, range: RangeInclusive<usize>) -> Read<Option<usize>> {
        let expected = || format!("a whole number from {} to {}", range.start(), range.end());
        let number = match self.find(name) {
            None | Some(Found::Null) => return Ok(None),
            Some(Found::Int(n)) => n,
            Some(Found::Ints(ns)) => match ns.split_first() {
                Some((first, rest)) if rest.iter().all(|n| n == first) => *first,
                _ => return Err(self.wrong(name, "numbers that differ from layer to layer", expected())),
            },
            Some(other) => return Err(self.wrong(name, other.describe(), expected())),
        };
        match usize::try_from(number) {
            Ok(n) if range.contains(&n) => Ok(Some(n)),
            _ => Err(self.wrong(name, number, expected())),
        }
    }

    /// A whole number within `range`.
    pub(crate) fn size(&self, name: &str, range: RangeInclusive<usize>) -> Read<usize> {
        self.size_opt(name, range.clone())?.ok_or_else(|| {
            self.missing(name, format!("a whole number from {} to {}", range.start(), range.end()))
        })
    }

    /// A number within `range`, or `None` when it is absent or null. Infinities and NaN are outside every range.
    pub(crate) fn number_opt(&self, name: &str, range: RangeInclusive<f64>) -> Read<Option<f64>> {
        let expected = || format!("a number from {} to {}", range.start(), range.end());
        let number = match self.find(name) {
            None | Some(Found::Null) => return Ok(None),
            Some(Found::Int(n)) => n as f64,
            Some(Found::Float(x)) => x,
            Some(other) => return Err(self.wrong(name, other.describe(), expected())),
        };
        match range.contains(&number) {
            true => Ok(Some(number)),
            false => Err(self.wrong(name, number, expected())),
        }
    }

    /// A number within `range`.
    pub(crate) fn number(&self, name: &str, range: RangeInclusive<f64>) -> Read<f64> {
        self.number_opt(name, range.clone())?
            .ok_or_else(|| self.missing(name, format!("a number from {} to {}", range.start(), range.end())))
    }

    /// True or false, or `None` when it is absent or null.
    pub(crate) fn flag_opt(&self, name: &str) -> Read<Option<bool>> {
        match self.find(name) {
            None | Some(Found::Null) => Ok(None),
            Some(Found::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(self.wrong(name, other.describe(), "true or false")),
        }
    }

    /// Text, or `None` when it is absent or null.
    pub(crate) fn text_opt(&self, name: &str) -> Read<Option<&'a str>> {
        match self.find(name) {
            None | Some(Found::Null) => Ok(None),
            Some(Found::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, other.describe(), "text")),
        }
    }

    /// The error that says that `name` is absent.
    pub(crate) fn missing(&self, name: &str, expected: impl Into<String>) -> FamilyError {
        FamilyError::MissingField {
            file: self.file.to_owned(),
            field: format!("{}{name}", self.prefix),
            expected: expected.into(),
        }
    }

    /// The error that says that `name` holds something else than is expected.
    pub(crate) fn wrong(&self, name: &str, found: impl Display, expected: impl Into<String>) -> FamilyError {
        FamilyError::Field {
            file: self.file.to_owned(),
            field: format!("{}{name}", self.prefix),
            found: found.to_string(),
            expected: expected.into(),
        }
    }

    /// The error that says that `what` is not computed here.
    pub(crate) fn unsupported(&self, what: impl Into<String>, advice: impl Into<String>) -> FamilyError {
        FamilyError::Unsupported { file: self.file.to_owned(), what: what.into(), advice: advice.into() }
    }
}

impl Found<'_> {
    /// What it is, for an error.
    pub(crate) fn describe(&self) -> String {
        match self {
            Found::Null => "null".to_owned(),
            Found::Bool(b) => b.to_string(),
            Found::Int(n) => n.to_string(),
            Found::Float(x) => x.to_string(),
            Found::Text(t) => format!("{:?}", t.chars().take(60).collect::<String>()),
            Found::Flags(_) | Found::Texts(_) | Found::Ints(_) => "an array".to_owned(),
            Found::Other(what) => what.clone(),
        }
    }
}

fn short(value: &Json) -> String {
    from_json(value).describe()
}

fn from_json(value: &Json) -> Found<'_> {
    match value {
        Json::Null => Found::Null,
        Json::Bool(b) => Found::Bool(*b),
        Json::Number(n) => match (n.as_i128(), n.as_f64()) {
            (Some(int), _) => Found::Int(int),
            (None, Some(float)) => Found::Float(float),
            (None, None) => Found::Other(n.to_string()),
        },
        Json::String(text) => Found::Text(text),
        Json::Object(_) => Found::Other("an object".to_owned()),
        // No field has more entries than a model has layers.
        Json::Array(items) if items.len() > MAX_LAYERS => Found::Other(format!("{} values", items.len())),
        Json::Array(items) => {
            if let Some(texts) = items.iter().map(Json::as_str).collect() {
                return Found::Texts(texts);
            }
            if let Some(ints) = items.iter().map(|i| i.as_i64().map(i128::from)).collect() {
                return Found::Ints(ints);
            }
            Found::Other("an array".to_owned())
        }
    }
}

fn from_gguf(value: &Value) -> Found<'_> {
    if let Some(int) = value.as_int() {
        return Found::Int(int);
    }
    match value {
        Value::F32(x) => Found::Float(f64::from(*x)),
        Value::F64(x) => Found::Float(*x),
        Value::Bool(b) => Found::Bool(*b),
        Value::Str(text) => Found::Text(text),
        // No field has more entries than a model has layers.
        Value::Array(array) if array.len() > MAX_LAYERS => Found::Other(format!("{} values", array.len())),
        Value::Array(Array::Bool(flags)) => Found::Flags(flags.to_vec()),
        Value::Array(array) => match array.as_ints() {
            Some(ints) => Found::Ints(ints.collect()),
            None => Found::Other("an array".to_owned()),
        },
        _ => Found::Other("something else".to_owned()),
    }
}
