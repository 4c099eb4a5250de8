//! Rewards answers that give the result that the record gives.

use regex_automata::meta::Regex;
use serde_json::Value as Json;

use super::{Answered, RewardError, compiled, field, lacks};
use crate::objective::config::{RewardConfig, RewardKind};

/// What a number looks like, thousands perhaps with commas.
const NUMBER: &str = r"-?[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?";

/// Compares a part of the answer with a field of the record.
#[derive(Debug)]
pub(super) struct Exact {
    field: String,
    /// What finds the result in an answer; without it, it is the whole answer.
    pattern: Option<Regex>,
    /// Whether results are numbers: the last of the answer, and the last of the field.
    number: Option<Regex>,
}

impl Exact {
    pub(super) fn new(config: &RewardConfig) -> Result<Exact, RewardError> {
        Ok(Exact {
            field: config.field.clone().unwrap_or_else(|| "answer".to_owned()),
            pattern: config.pattern.as_deref().map(compiled).transpose()?,
            number: match config.kind {
                RewardKind::Number => Some(compiled(NUMBER)?),
                _ => None,
            },
        })
    }

    pub(super) fn judge(&self, answered: &Answered<'_>) -> Result<bool, RewardError> {
        let wanted = match field(answered.record, &self.field)? {
            Json::String(text) => text.clone(),
            Json::Number(number) => number.to_string(),
            Json::Bool(is) => is.to_string(),
            _ => {
                let what = "has neither text nor a number there";
                return Err(lacks(answered.record, &self.field, what));
            }
        };
        if let Some(number) = &self.number {
            let Some(wanted) = last(number, &wanted) else {
                return Err(lacks(answered.record, &self.field, "has no number there"));
            };
            return Ok(last(number, answered.answer) == Some(wanted));
        }
        let found = match &self.pattern {
            None => Some(answered.answer),
            Some(pattern) => first_group(pattern, answered.answer),
        };
        Ok(found.is_some_and(|found| found.trim() == wanted.trim()))
    }
}

/// The last number of a text.
fn last(number: &Regex, text: &str) -> Option<f64> {
    let found = number.find_iter(text).last()?;
    text.get(found.range())?.replace(',', "").parse().ok()
}

/// The first group of the last match, or all of it where the pattern has no group.
fn first_group<'a>(pattern: &Regex, text: &'a str) -> Option<&'a str> {
    let found = pattern.captures_iter(text).last()?;
    let span =
        found.get_group(1).or_else(|| (found.group_len() < 2).then(|| found.get_group(0)).flatten())?;
    text.get(span.range())
}
