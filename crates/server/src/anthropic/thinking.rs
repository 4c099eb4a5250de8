//! Whether the model reasons before it answers.

use serde_json::{Map, Value, json};

use super::messages::Said;
use super::tools::Offer;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::generation::ToolChoice;

/// The least that the API takes as a budget, in tokens.
const LEAST_BUDGET: usize = 1024;

/// Reads `thinking` into the variables by which templates know it. Without it the model does not think: programs that do
/// not ask for it take the first block of an answer for its text. Gives whether the text of thinking is told.
///
/// The budget is checked, and otherwise up to the model: templates have no place for it.
pub(super) fn parse(fields: &Fields<'_>, variables: &mut Map<String, Value>) -> Result<bool, ApiError> {
    // Each name is known to some templates.
    let mut tell = |thinks: bool| {
        for name in ["enable_thinking", "thinking"] {
            variables.insert(name.to_owned(), json!(thinks));
        }
    };
    let Some(thinking) = fields.object("thinking")? else {
        tell(false);
        return Ok(true);
    };
    thinking.required("type")?;
    let kind = thinking.choice("type", &["enabled", "disabled", "adaptive"])?.unwrap_or_default();
    match kind {
        "enabled" => {
            thinking.only(&[&["type", "budget_tokens", "display"]])?;
            thinking.required("budget_tokens")?;
            thinking.count("budget_tokens", LEAST_BUDGET..=i32::MAX as usize)?;
        }
        "adaptive" => thinking.only(&[&["type", "display"]])?,
        _ => thinking.only(&[&["type"]])?,
    }
    tell(kind != "disabled");
    Ok(thinking.choice("display", &["summarized", "omitted"])? != Some("omitted"))
}

/// Checks what the API does not allow together with thinking.
pub(super) fn check(fields: &Fields<'_>, offer: &Offer, said: &Said) -> Result<(), ApiError> {
    let Some(thinking) = fields.object("thinking")? else { return Ok(()) };
    if thinking.string("type")? == Some("disabled") {
        return Ok(());
    }
    let budget = thinking.count("budget_tokens", 0..=usize::MAX)?;
    if let (Some(budget), Some(most)) = (budget, fields.count("max_tokens", 0..=usize::MAX)?)
        && budget >= most
    {
        let what = format!("is {budget}, and must be less than `max_tokens`, which is {most}");
        return Err(thinking.error("budget_tokens", what));
    }
    if matches!(offer.choice, ToolChoice::Required | ToolChoice::Named(_)) {
        let what = "forces a call, which cannot go together with `thinking`; use `auto`, or disable thinking";
        return Err(fields.error("tool_choice", what));
    }
    if said.prefilled {
        let what = "ends with an assistant message, which cannot go together with `thinking`";
        return Err(fields.error("messages", what));
    }
    let number = |name: &str| fields.number(name, 0.0..=1.0);
    if number("temperature")?.is_some_and(|t| t != 1.0) {
        return Err(fields.error("temperature", "must be 1 or absent when `thinking` is on"));
    }
    if number("top_p")?.is_some_and(|p| p < 0.95) {
        return Err(fields.error("top_p", "must be between 0.95 and 1 when `thinking` is on"));
    }
    match fields.get("top_k") {
        Some(_) => Err(fields.error("top_k", "must be absent when `thinking` is on")),
        None => Ok(()),
    }
}
