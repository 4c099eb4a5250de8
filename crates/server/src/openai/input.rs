//! Prompts and inputs that are one or many, in text or in tokens.

use serde_json::Value;

use super::chat::token_ids;
use crate::error::ApiError;
use crate::fields::{Fields, wrong};
use crate::generation::Input;

const EXPECTED: &str = "a string, an array of strings, an array of token ids, or an array of those";

/// The texts or tokens of the field `name`, at most `most` of them; whether there is a list of them does not matter.
pub(super) fn inputs(fields: &Fields<'_>, name: &str, most: usize) -> Result<Vec<Input>, ApiError> {
    let value = fields.required(name)?;
    let path = fields.path(name);
    let items = match value {
        Value::String(text) => return Ok(vec![Input::Text(text.clone())]),
        Value::Array(items) => items,
        other => return Err(wrong(&path, other, EXPECTED)),
    };
    match items.first() {
        None => Err(fields.error(name, "is empty, and must have at least one entry")),
        Some(Value::Number(_)) => Ok(vec![Input::Tokens(token_ids(items, &path)?)]),
        Some(_) if items.len() > most => {
            Err(fields.error(name, format!("has {} entries, and may have {most}", items.len())))
        }
        Some(_) => items.iter().enumerate().map(|(i, item)| one(item, &format!("{path}[{i}]"))).collect(),
    }
}

fn one(value: &Value, path: &str) -> Result<Input, ApiError> {
    match value {
        Value::String(text) => Ok(Input::Text(text.clone())),
        Value::Array(ids) if ids.is_empty() => Err(ApiError::parameter(path, "has no tokens")),
        Value::Array(ids) => Ok(Input::Tokens(token_ids(ids, path)?)),
        other => Err(wrong(path, other, "a string or an array of token ids")),
    }
}
