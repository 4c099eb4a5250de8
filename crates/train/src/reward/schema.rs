//! Rewards answers that are JSON which a schema allows: the keywords of JSON Schema 2020-12 (Wright et al. 2022) that say
//! which values there may be. Others are refused, not passed over.

use std::fs;
use std::path::PathBuf;

use regex_automata::meta::Regex;
use serde_json::{Map, Value as Json};

use super::{Answered, RewardError, compiled, field};
use crate::objective::config::RewardConfig;

/// Schemas within schemas, and values within values, that are followed.
const DEEPEST: usize = 64;

/// Keywords that say nothing about values.
const NOTES: [&str; 11] = [
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "format",
];

/// A schema for all records, or one of each.
#[derive(Debug)]
pub(super) enum Schemas {
    Same(Json),
    Field(String),
}

impl Schemas {
    pub(super) fn new(config: &RewardConfig) -> Result<Schemas, RewardError> {
        if let Some(field) = &config.field {
            return Ok(Schemas::Field(field.clone()));
        }
        let path: PathBuf = config.schema.clone().unwrap_or_default();
        let text = fs::read_to_string(&path).map_err(|e| e.to_string());
        let schema = text.and_then(|text| serde_json::from_str(&text).map_err(|e| e.to_string()));
        let schema = schema.map_err(|problem| RewardError::Read { path, problem })?;
        check(&schema, &schema, "#", 0)?;
        Ok(Schemas::Same(schema))
    }

    pub(super) fn judge(&mut self, answered: &Answered<'_>) -> Result<bool, RewardError> {
        let schema = match self {
            Schemas::Same(schema) => schema,
            Schemas::Field(name) => {
                let schema = field(answered.record, name)?;
                check(schema, schema, "#", 0)?;
                schema
            }
        };
        match serde_json::from_str(answered.answer.trim()) {
            Ok(value) => allows(schema, schema, &value, 0),
            Err(_) => Ok(false),
        }
    }
}

fn wrong(place: &str, problem: impl Into<String>) -> RewardError {
    RewardError::Schema { place: place.to_owned(), problem: problem.into() }
}

/// Refuses what [`allows`] does not know, wherever it is in the schema.
fn check(root: &Json, schema: &Json, place: &str, depth: usize) -> Result<(), RewardError> {
    if depth > DEEPEST {
        return Err(wrong(place, format!("is more than {DEEPEST} levels deep")));
    }
    let object = match schema {
        Json::Bool(_) => return Ok(()),
        Json::Object(object) => object,
        _ => return Err(wrong(place, "is neither an object nor true or false")),
    };
    let inner = |schema: &Json, key: &str| check(root, schema, &format!("{place}/{key}"), depth + 1);
    for (key, value) in object {
        let at = format!("{place}/{key}");
        let is = match key.as_str() {
            "type" => types(value).is_some(),
            "enum" => value.is_array(),
            "const" => true,
            "properties" | "$defs" | "definitions" => match value {
                Json::Object(all) => {
                    all.iter().try_for_each(|(name, schema)| inner(schema, &format!("{key}/{name}")))?;
                    true
                }
                _ => false,
            },
            "additionalProperties" | "items" | "not" | "contains" => {
                inner(value, key)?;
                true
            }
            "prefixItems" | "anyOf" | "allOf" | "oneOf" => match value {
                Json::Array(all) => {
                    all.iter()
                        .enumerate()
                        .try_for_each(|(i, schema)| inner(schema, &format!("{key}/{i}")))?;
                    true
                }
                _ => false,
            },
            "required" => value.as_array().is_some_and(|all| all.iter().all(Json::is_string)),
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => value.is_number(),
            "multipleOf" => value.as_f64().is_some_and(|x| x > 0.0),
            "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" => {
                value.is_u64()
            }
            "uniqueItems" => value.is_boolean(),
            "pattern" => value.as_str().map(compiled).transpose()?.is_some(),
            "$ref" => value.as_str().is_some_and(|name| target(root, name).is_some()),
            key if NOTES.contains(&key) => true,
            _ => return Err(wrong(&at, "is a keyword that cannot be checked")),
        };
        if !is {
            return Err(wrong(&at, "has a value that the keyword does not take"));
        }
    }
    Ok(())
}

/// The schema that a reference into the schema itself names.
fn target<'a>(root: &'a Json, name: &str) -> Option<&'a Json> {
    root.pointer(name.strip_prefix('#')?)
}

fn types(value: &Json) -> Option<Vec<&str>> {
    const KNOWN: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];
    let all = match value {
        Json::String(one) => vec![one.as_str()],
        Json::Array(all) => all.iter().map(Json::as_str).collect::<Option<Vec<&str>>>()?,
        _ => return None,
    };
    all.iter().all(|t| KNOWN.contains(t)).then_some(all)
}

/// Whether a value is one that a checked schema allows.
fn allows(root: &Json, schema: &Json, value: &Json, depth: usize) -> Result<bool, RewardError> {
    // References may lead in a circle.
    if depth > DEEPEST {
        return Err(wrong("#", format!("leads more than {DEEPEST} levels deep with this answer")));
    }
    let object = match schema {
        Json::Bool(is) => return Ok(*is),
        Json::Object(object) => object,
        _ => return Ok(false),
    };
    for (key, wanted) in object {
        if !holds(root, object, (key, wanted), value, depth + 1)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a value is as one keyword of a schema wants it.
fn holds(
    root: &Json,
    schema: &Map<String, Json>,
    (key, wanted): (&str, &Json),
    value: &Json,
    depth: usize,
) -> Result<bool, RewardError> {
    let inner = |schema: &Json, value: &Json| allows(root, schema, value, depth);
    let count = |schemas: &Json, value: &Json| -> Result<usize, RewardError> {
        let mut count = 0;
        for schema in schemas.as_array().into_iter().flatten() {
            count += usize::from(inner(schema, value)?);
        }
        Ok(count)
    };
    let number = |compare: fn(f64, f64) -> bool| match (value.as_f64(), wanted.as_f64()) {
        (Some(x), Some(bound)) => compare(x, bound),
        _ => true,
    };
    let size = |size: Option<usize>, at_least: bool| {
        let bound = wanted.as_u64().unwrap_or(0);
        size.is_none_or(|n| if at_least { n as u64 >= bound } else { n as u64 <= bound })
    };
    let letters = || value.as_str().map(|text| text.chars().count());
    let items = || value.as_array().map(Vec::len);
    let properties = || value.as_object().map(Map::len);
    Ok(match key {
        "type" => types(wanted).is_some_and(|all| all.iter().any(|name| is_of(name, value))),
        "enum" => wanted.as_array().is_some_and(|all| all.iter().any(|one| equal(one, value))),
        "const" => equal(wanted, value),
        "minimum" => number(|x, bound| x >= bound),
        "maximum" => number(|x, bound| x <= bound),
        "exclusiveMinimum" => number(|x, bound| x > bound),
        "exclusiveMaximum" => number(|x, bound| x < bound),
        "multipleOf" => number(|x, of| (x / of - (x / of).round()).abs() < 1e-9),
        "minLength" => size(letters(), true),
        "maxLength" => size(letters(), false),
        "minItems" => size(items(), true),
        "maxItems" => size(items(), false),
        "minProperties" => size(properties(), true),
        "maxProperties" => size(properties(), false),
        "pattern" => match (value.as_str(), wanted.as_str().map(compiled).transpose()?) {
            (Some(text), Some(regex)) => Regex::is_match(&regex, text),
            _ => true,
        },
        "uniqueItems" => match (wanted.as_bool(), value.as_array()) {
            (Some(true), Some(all)) => {
                !all.iter().enumerate().any(|(i, a)| all.iter().take(i).any(|b| equal(a, b)))
            }
            _ => true,
        },
        "required" => value.as_object().is_none_or(|object| {
            wanted
                .as_array()
                .is_some_and(|all| all.iter().filter_map(Json::as_str).all(|name| object.contains_key(name)))
        }),
        "properties" => {
            each(value.as_object().into_iter().flatten(), |(name, value)| match wanted.get(name) {
                Some(schema) => inner(schema, value),
                None => Ok(true),
            })?
        }
        "additionalProperties" => {
            let named = |name: &str| schema.get("properties").is_some_and(|all| all.get(name).is_some());
            let others = value.as_object().into_iter().flatten().filter(|(name, _)| !named(name));
            each(others, |(_, value)| inner(wanted, value))?
        }
        "prefixItems" => {
            let pairs = wanted.as_array().into_iter().flatten().zip(value.as_array().into_iter().flatten());
            each(pairs, |(schema, value)| inner(schema, value))?
        }
        "items" => {
            let before = schema.get("prefixItems").and_then(Json::as_array).map_or(0, Vec::len);
            each(value.as_array().into_iter().flatten().skip(before), |value| inner(wanted, value))?
        }
        "contains" => match value.as_array() {
            Some(all) => !each(all.iter(), |value| Ok(!inner(wanted, value)?))?,
            None => true,
        },
        "not" => !inner(wanted, value)?,
        "anyOf" => count(wanted, value)? > 0,
        "oneOf" => count(wanted, value)? == 1,
        "allOf" => Some(count(wanted, value)?) == wanted.as_array().map(Vec::len),
        "$ref" => match wanted.as_str().and_then(|name| target(root, name)) {
            Some(schema) => inner(schema, value)?,
            None => false,
        },
        _ => true,
    })
}

/// Whether all are so.
fn each<T>(
    all: impl Iterator<Item = T>,
    mut is: impl FnMut(T) -> Result<bool, RewardError>,
) -> Result<bool, RewardError> {
    for one in all {
        if !is(one)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_of(name: &str, value: &Json) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|x| x.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

/// Whether two values are the same, numbers by what they are and not by how they are written.
fn equal(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(x), Json::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        (Json::Array(x), Json::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(a, b)| equal(a, b)),
        (Json::Object(x), Json::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(name, a)| y.get(name).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}
