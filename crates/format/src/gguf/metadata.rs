//! GGUF metadata: an ordered map from keys to values, with typed access.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::value::{Array, StrArray, Value};
use crate::error::{Error, Place};

/// Keys and values in the file's order.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    entries: Vec<Entry>,
    index: HashMap<Box<str>, usize>,
    file: Option<Arc<Path>>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: Box<str>,
    value: Value,
    /// Where the value stands in the file that it was read from.
    offset: Option<usize>,
}

impl Metadata {
    /// No keys.
    pub fn new() -> Metadata {
        Metadata::default()
    }

    /// How many keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> + '_ {
        self.entries.iter().map(|e| (&*e.key, &e.value))
    }

    /// The value of a key, or `None`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entry(key).map(|e| &e.value)
    }

    /// Whether the key is there.
    pub fn contains(&self, key: &str) -> bool {
        self.index.contains_key(key)
    }

    /// Sets a key: a new one goes to the end, a known one keeps its place. Returns the value that it had.
    pub fn insert(&mut self, key: &str, value: impl Into<Value>) -> Option<Value> {
        let value = value.into();
        if let Some(entry) = self.index.get(key).and_then(|&i| self.entries.get_mut(i)) {
            entry.offset = None;
            return Some(std::mem::replace(&mut entry.value, value));
        }
        self.push(key, value, None);
        None
    }

    /// Takes a key out. The others keep their order.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.index.remove(key)?;
        let entry = self.entries.remove(at);
        for place in self.index.values_mut().filter(|place| **place > at) {
            *place -= 1;
        }
        Some(entry.value)
    }

    /// The value as a `T`: an error when the key is absent or of another type.
    ///
    /// Integers are taken from any integer type that the number fits; nothing else is converted, but `f32` is also
    /// taken from an `f64`.
    pub fn require<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, Error> {
        self.find(key)?.ok_or_else(|| Error::Missing {
            place: Place::new(self.file.as_deref(), None, format_args!("metadata key {key:?}")),
            what: "key",
        })
    }

    /// The value as a `T`, or `None` when the key is absent: an error when it is of another type.
    pub fn find<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, Error> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        match T::from_value(&entry.value) {
            Some(value) => Ok(Some(value)),
            None => Err(Error::WrongType {
                place: Place::new(self.file.as_deref(), entry.offset, format_args!("metadata key {key:?}")),
                expected: T::EXPECTED,
                found: entry.value.to_string(),
            }),
        }
    }

    /// The key's number, from any integer type.
    pub fn get_u64(&self, key: &str) -> Result<u64, Error> {
        self.require(key)
    }

    /// The key's number, from any integer type, when it fits.
    pub fn get_u32(&self, key: &str) -> Result<u32, Error> {
        self.require(key)
    }

    /// The key's number, from any integer type, when it fits.
    pub fn get_usize(&self, key: &str) -> Result<usize, Error> {
        self.require(key)
    }

    /// The key's number, from `f32` or `f64`.
    pub fn get_f32(&self, key: &str) -> Result<f32, Error> {
        self.require(key)
    }

    /// The key's truth value.
    pub fn get_bool(&self, key: &str) -> Result<bool, Error> {
        self.require(key)
    }

    /// The key's string.
    pub fn get_str(&self, key: &str) -> Result<&str, Error> {
        self.require(key)
    }

    /// The key's array of strings.
    pub fn get_array_str(&self, key: &str) -> Result<&StrArray, Error> {
        self.require(key)
    }

    /// The key's array of `f32`.
    pub fn get_array_f32(&self, key: &str) -> Result<&[f32], Error> {
        self.require(key)
    }

    /// The key's array of `bool`.
    pub fn get_array_bool(&self, key: &str) -> Result<&[bool], Error> {
        self.require(key)
    }

    /// The key's array of numbers, from any integer type, when each fits.
    pub fn get_array_i32(&self, key: &str) -> Result<Vec<i32>, Error> {
        self.require(key)
    }

    /// The key's array of numbers, from any integer type, when each fits.
    pub fn get_array_u64(&self, key: &str) -> Result<Vec<u64>, Error> {
        self.require(key)
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.get(*self.index.get(key)?)
    }

    /// Adds a key that is not there yet.
    pub(super) fn push(&mut self, key: &str, value: Value, offset: Option<usize>) {
        self.index.insert(key.into(), self.entries.len());
        self.entries.push(Entry { key: key.into(), value, offset });
    }

    pub(super) fn set_file(&mut self, file: Option<Arc<Path>>) {
        self.file = file;
    }

    /// Where a key's value stands, for errors that only the reader's caller can find.
    pub(super) fn place(&self, key: &str) -> Box<Place> {
        let offset = self.entry(key).and_then(|e| e.offset);
        Place::new(self.file.as_deref(), offset, format_args!("metadata key {key:?}"))
    }
}

/// Two maps are equal when they hold the same keys and values in the same order, wherever they came from.
impl PartialEq for Metadata {
    fn eq(&self, other: &Metadata) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<K: AsRef<str>, V: Into<Value>> FromIterator<(K, V)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Metadata {
        let mut metadata = Metadata::new();
        for (key, value) in entries {
            metadata.insert(key.as_ref(), value);
        }
        metadata
    }
}

/// What a metadata value can be read as by [`Metadata::require`] and [`Metadata::find`].
pub trait FromValue<'a>: Sized {
    /// What is expected, for the error: "an unsigned 32-bit integer".
    const EXPECTED: &'static str;

    /// The value, or `None` when it is of another type or does not fit.
    fn from_value(value: &'a Value) -> Option<Self>;
}

macro_rules! integers {
    ($($int:ty, $one:literal, $many:literal;)*) => {$(
        impl FromValue<'_> for $int {
            const EXPECTED: &'static str = $one;
            fn from_value(value: &Value) -> Option<$int> {
                value.as_int()?.try_into().ok()
            }
        }
        impl FromValue<'_> for Vec<$int> {
            const EXPECTED: &'static str = $many;
            fn from_value(value: &Value) -> Option<Vec<$int>> {
                let Value::Array(array) = value else { return None };
                array.as_ints()?.map(|v| v.try_into().ok()).collect()
            }
        }
    )*};
}

integers! {
    u64, "an unsigned 64-bit integer", "an array of unsigned 64-bit integers";
    u16, "an unsigned 16-bit integer", "an array of unsigned 16-bit integers";
    u32, "an unsigned 32-bit integer", "an array of unsigned 32-bit integers";
    usize, "an unsigned integer of this machine's size", "an array of unsigned integers of this machine's size";
    i64, "a 64-bit integer", "an array of 64-bit integers";
    i32, "a 32-bit integer", "an array of 32-bit integers";
}

macro_rules! plain {
    ($($rust:ty, $expected:literal, $pattern:pat => $result:expr;)*) => {$(
        impl<'a> FromValue<'a> for $rust {
            const EXPECTED: &'static str = $expected;
            fn from_value(value: &'a Value) -> Option<$rust> {
                match value {
                    $pattern => Some($result),
                    _ => None,
                }
            }
        }
    )*};
}

plain! {
    bool, "a bool", Value::Bool(v) => *v;
    &'a str, "a string", Value::Str(v) => v;
    &'a Array, "an array", Value::Array(v) => v;
    &'a StrArray, "an array of strings", Value::Array(Array::Str(v)) => v;
    &'a [f32], "an array of f32", Value::Array(Array::F32(v)) => v;
    &'a [bool], "an array of bool", Value::Array(Array::Bool(v)) => v;
}

impl FromValue<'_> for f32 {
    const EXPECTED: &'static str = "an f32";
    fn from_value(value: &Value) -> Option<f32> {
        match value {
            Value::F32(v) => Some(*v),
            Value::F64(v) => Some(*v as f32),
            _ => None,
        }
    }
}

impl FromValue<'_> for f64 {
    const EXPECTED: &'static str = "an f64";
    fn from_value(value: &Value) -> Option<f64> {
        match value {
            Value::F32(v) => Some((*v).into()),
            Value::F64(v) => Some(*v),
            _ => None,
        }
    }
}
