//! What a model file says of itself, key by key.

use std::fs;
use std::path::Path;

use autarky_format::Source;
use autarky_format::gguf::{Array, Value as Gguf};
use serde_json::{Map, Value, json};

use crate::terminal::printable;

/// Values of an array, and characters of a string, that a line shows.
const SHOWN: usize = 8;
const CHARACTERS: usize = 100;
/// The longest `config.json` that is looked into.
const MAX_CONFIG: u64 = 1 << 19;

/// Every key with its value; arrays as their length and first values.
pub(super) fn json(source: &Source, path: &Path) -> Value {
    match source {
        Source::Gguf(file) => {
            file.metadata().iter().map(|(k, v)| (k.to_owned(), value(v))).collect::<Map<_, _>>().into()
        }
        Source::SafeTensors(file) => {
            let mut all = config(path);
            all.extend(file.metadata().map(|(k, v)| (k.to_owned(), v.into())));
            all.into()
        }
        _ => Value::Null,
    }
}

/// A line for every key.
pub(super) fn text(source: &Source, path: &Path) -> String {
    let mut text = String::from("\n");
    if let Value::Object(all) = json(source, path) {
        for (key, value) in all {
            let value = match value {
                Value::String(s) => s,
                Value::Object(o) if o.contains_key("array_of") => array_text(&o),
                other => other.to_string(),
            };
            text += &format!("{}  {}\n", printable(&key), cut(&printable(&value)));
        }
    }
    text
}

fn cut(text: &str) -> String {
    let line = text.replace('\n', "\\n");
    match line.char_indices().nth(CHARACTERS) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

fn array_text(array: &Map<String, Value>) -> String {
    let number = array["length"].as_u64().unwrap_or(0);
    let more = if number > SHOWN as u64 { ", …" } else { "" };
    let first: Vec<String> =
        array["first"].as_array().into_iter().flatten().map(ToString::to_string).collect();
    format!("{number} × {}: [{}{more}]", array["array_of"].as_str().unwrap_or(""), first.join(", "))
}

/// The folder's `config.json`, if it can be read: whether it makes sense is said elsewhere.
fn config(path: &Path) -> Map<String, Value> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let file = folder.join("config.json");
    let small = fs::metadata(&file).is_ok_and(|m| m.is_file() && m.len() <= MAX_CONFIG);
    let text = if small { fs::read(&file).unwrap_or_default() } else { Vec::new() };
    serde_json::from_slice(&text).unwrap_or_default()
}

fn value(v: &Gguf) -> Value {
    match v {
        Gguf::Str(s) => Value::from(&**s),
        Gguf::Bool(b) => Value::from(*b),
        Gguf::F32(x) => float(*x),
        Gguf::F64(x) => Value::from(*x),
        Gguf::U64(x) => Value::from(*x),
        Gguf::Array(a) => {
            json!({"array_of": a.element_type().name(), "length": a.len(), "first": first(a)})
        }
        other => other.as_int().and_then(|n| i64::try_from(n).ok()).map_or(Value::Null, Value::from),
    }
}

/// An f32 with the digits that it has: 1e-5, and not the 9.999999747378752e-6 of the nearest f64.
fn float(x: f32) -> Value {
    x.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

fn first(array: &Array) -> Vec<Value> {
    match array {
        Array::Str(a) => a.iter().take(SHOWN).map(Value::from).collect(),
        Array::Bool(a) => a.iter().take(SHOWN).map(|&b| b.into()).collect(),
        Array::F32(a) => a.iter().take(SHOWN).map(|&x| float(x)).collect(),
        Array::F64(a) => a.iter().take(SHOWN).map(|&x| x.into()).collect(),
        Array::Array(a) => a.iter().take(SHOWN).map(|x| Value::from(first(x))).collect(),
        other => {
            let ints = other.as_ints().into_iter().flatten().take(SHOWN);
            ints.map(|n| i64::try_from(n).map_or_else(|_| n.to_string().into(), Value::from)).collect()
        }
    }
}
