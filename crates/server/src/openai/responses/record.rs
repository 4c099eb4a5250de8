//! What is kept of a response: what is needed to show it and to go on from it.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::items::{Item, Placed};
use super::store::Responses;
use crate::error::ApiError;
use crate::fields::{Fields, shown};
use crate::state::RequestLimits;

/// What all names of one response's items have in common: so many characters after the first underscore are the
/// response's name. So an item is found by its name alone.
const COMMON: usize = 24;

/// A response with all that it answered, items of earlier responses included: it stays whole when those go.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// The response as the API tells it.
    pub(super) response: Value,
    /// The items that it answered, as the API tells them.
    pub(super) input: Vec<Value>,
}

impl Record {
    /// The record of the response `id`.
    pub(super) fn read(store: &Responses, id: &str) -> Result<Option<Record>, ApiError> {
        let text = store.get(id).map_err(unreadable)?;
        text.map(|text| Record::of(&text)).transpose()
    }

    fn of(text: &str) -> Result<Record, ApiError> {
        serde_json::from_str(text).map_err(unreadable)
    }

    /// All items, the response's own last.
    fn items(&self) -> impl Iterator<Item = &Value> {
        let output = self.response.get("output").and_then(Value::as_array);
        self.input.iter().chain(output.into_iter().flatten())
    }
}

fn unreadable(failure: impl std::fmt::Display) -> ApiError {
    ApiError::internal(format!("the responses that are kept cannot be read: {failure}"))
}

/// The error for a response that is not there.
pub(super) fn no_response(id: &str) -> ApiError {
    let what = format!("Response with id '{}' not found.", shown(id));
    ApiError::new(axum::http::StatusCode::NOT_FOUND, what).code("response_not_found").about("response_id")
}

/// The name of a new item: of the response that is named by `common`, its `number`.
pub(super) fn item_id(prefix: &str, common: &str, number: usize) -> String {
    format!("{prefix}{common}{number:04x}")
}

/// The part of a response's name that its items share.
pub(super) fn common(response: &str) -> &str {
    response.strip_prefix("resp_").unwrap_or(response)
}

/// The name of the response that an item is of.
fn response_of(item: &str) -> Option<String> {
    let common = item.split_once('_')?.1.get(..COMMON)?;
    Some(format!("resp_{common}"))
}

/// What a request builds on.
pub(super) struct Sources<'a> {
    pub(super) store: &'a Responses,
    /// The response that it goes on from.
    pub(super) previous: Option<&'a str>,
}

/// Whether answering `input` needs what is kept.
pub(super) fn refers(input: &[Placed]) -> bool {
    input.iter().any(|placed| matches!(placed.item, Item::Reference { .. }))
}

/// The items that a request is to answer: those of the response before it, and its own, with references replaced by
/// what they refer to.
///
/// # Errors
/// When what it refers to is not there, or all together is too much.
pub(super) fn gather(
    sources: &Sources<'_>,
    input: Vec<Placed>,
    limits: &RequestLimits,
) -> Result<Vec<Placed>, ApiError> {
    let mut budget = limits.body.saturating_mul(2);
    let mut items = match sources.previous {
        Some(id) => history(sources, id, &mut budget)?,
        None => Vec::new(),
    };
    let mut found = referred(sources, &items, &input, &mut budget)?;
    for placed in input {
        let Item::Reference { id } = &placed.item else {
            items.push(placed);
            continue;
        };
        let error = |what| ApiError::parameter(placed.path("id"), what);
        match found.remove(id) {
            Some(Some(item)) => items.push(item),
            // It is there as a part of what went before.
            Some(None) => {}
            None => {
                let what = format!("Item with id '{}' not found.", shown(id));
                let status = axum::http::StatusCode::NOT_FOUND;
                return Err(ApiError { status, ..error(what).code("item_not_found") });
            }
        }
    }
    if items.len() > limits.messages {
        let what = format!(
            "comes to {} items with those of earlier responses, and may come to {}",
            items.len(),
            limits.messages
        );
        return Err(ApiError::parameter("input", what));
    }
    Ok(items)
}

fn history(sources: &Sources<'_>, id: &str, budget: &mut usize) -> Result<Vec<Placed>, ApiError> {
    let Some(record) = read(sources, id, budget)? else {
        let what = format!("Previous response with id '{}' not found.", shown(id));
        return Err(ApiError::parameter("previous_response_id", what).code("previous_response_not_found"));
    };
    record.items().map(stored).collect()
}

/// Reads a record as long as not too much has been read.
fn read(sources: &Sources<'_>, id: &str, budget: &mut usize) -> Result<Option<Record>, ApiError> {
    let text = sources.store.get(id).map_err(unreadable)?;
    let Some(text) = text else { return Ok(None) };
    match budget.checked_sub(text.len()) {
        Some(left) => *budget = left,
        None => {
            let what = "refers to too much of earlier responses; send the items themselves";
            return Err(ApiError::parameter("input", what).code("too_large"));
        }
    }
    Record::of(&text).map(Some)
}

/// An item from a record.
fn stored(value: &Value) -> Result<Placed, ApiError> {
    let fields = Fields::at(value, "item".to_owned());
    let read = fields.and_then(|fields| Placed::parse(&fields, None));
    read.map_err(|error| unreadable(error.message))
}

/// What the references of `input` refer to; `None` for what `history` has.
fn referred(
    sources: &Sources<'_>,
    history: &[Placed],
    input: &[Placed],
    budget: &mut usize,
) -> Result<HashMap<String, Option<Placed>>, ApiError> {
    let mut found = HashMap::new();
    if !refers(input) {
        return Ok(found);
    }
    let known: HashSet<&str> = history.iter().filter_map(|placed| placed.id.as_deref()).collect();
    // Each response is read once, whatever is wanted of it.
    let mut wanted: HashMap<String, HashSet<&str>> = HashMap::new();
    let mut seen = HashSet::new();
    for placed in input {
        let Item::Reference { id } = &placed.item else { continue };
        if !seen.insert(id.as_str()) {
            return Err(ApiError::parameter(placed.path("id"), "refers to an item a second time"));
        }
        if known.contains(id.as_str()) {
            found.insert(id.clone(), None);
        } else if let Some(response) = response_of(id) {
            wanted.entry(response).or_default().insert(id);
        }
    }
    for (response, ids) in wanted {
        let Some(record) = read(sources, &response, budget)? else { continue };
        for value in record.items() {
            let id = value.get("id").and_then(Value::as_str).unwrap_or_default();
            if ids.contains(id) {
                found.insert(id.to_owned(), Some(stored(value)?));
            }
        }
    }
    Ok(found)
}
