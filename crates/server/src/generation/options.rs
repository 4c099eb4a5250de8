//! Parameters that several APIs have in common.

use autarky_engine::Sampling;
use serde_json::Value;

use super::ask::OutputFormat;
use crate::error::ApiError;
use crate::fields::{Fields, shown, wrong};
use crate::ids;
use crate::state::RequestLimits;

/// The names of what [`sampling`] reads.
pub(crate) const SAMPLING: &[&str] = &[
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
];

/// How tokens are chosen: OpenAI's parameters and their defaults, and those that other servers of open models have
/// beside them.
pub(crate) fn sampling(fields: &Fields<'_>) -> Result<Sampling, ApiError> {
    let number = |name: &str, range, default: f32| {
        fields.number(name, range).map(|found| found.map_or(default, |x| x as f32))
    };
    let top_k = fields.integer("top_k", -1..=i64::from(u32::MAX))?.unwrap_or(0);
    let repetition_penalty = number("repetition_penalty", 0.0..=10.0, 1.0)?;
    if repetition_penalty <= 0.0 {
        return Err(fields.error("repetition_penalty", "is 0, and must be above 0; 1 does nothing"));
    }
    Ok(Sampling {
        temperature: number("temperature", 0.0..=2.0, 1.0)?,
        top_p: number("top_p", 0.0..=1.0, 1.0)?,
        // -1 and 0 keep all.
        top_k: usize::try_from(top_k).unwrap_or(0),
        min_p: number("min_p", 0.0..=1.0, 0.0)?,
        typical_p: number("typical_p", 0.0..=1.0, 1.0)?,
        repetition_penalty,
        presence_penalty: number("presence_penalty", -2.0..=2.0, 0.0)?,
        frequency_penalty: number("frequency_penalty", -2.0..=2.0, 0.0)?,
        // OpenAI's penalties see the whole text.
        penalty_window: usize::MAX,
        seed: seed(fields)?,
    })
}

/// The seed that is asked for, or one that nobody knows.
fn seed(fields: &Fields<'_>) -> Result<u64, ApiError> {
    let given = fields.integer("seed", i64::MIN..=i64::MAX)?;
    Ok(given.map_or_else(ids::random, i64::cast_unsigned))
}

/// Stop strings: one, or a list.
pub(crate) fn stops(
    fields: &Fields<'_>,
    name: &str,
    limits: &RequestLimits,
) -> Result<Vec<String>, ApiError> {
    let Some(value) = fields.get(name) else { return Ok(Vec::new()) };
    let stops = match value {
        Value::String(stop) => vec![stop.clone()],
        Value::Array(_) => fields.strings(name)?.into_iter().map(str::to_owned).collect(),
        other => return Err(wrong(&fields.path(name), other, "a string or an array of strings")),
    };
    if stops.len() > limits.stops {
        let what = format!("has {} strings, and may have {}", stops.len(), limits.stops);
        return Err(fields.error(name, what));
    }
    if stops.iter().any(String::is_empty) {
        return Err(fields.error(name, "has an empty string, which would end every answer at once"));
    }
    // Text that may begin a stop string is held back and looked at again with each token.
    match stops.iter().find(|stop| stop.len() > LONGEST_STOP) {
        Some(long) => {
            let what = format!("has a string of {} bytes, and may have {LONGEST_STOP}", long.len());
            Err(fields.error(name, what))
        }
        None => Ok(stops),
    }
}

/// Bytes of a stop string.
const LONGEST_STOP: usize = 1024;

/// What `response_format` or `text.format` asks for. A schema stands in the field `nested`, if there is such a field, or
/// in the format itself.
pub(crate) fn output_format(format: &Fields<'_>, nested: Option<&str>) -> Result<OutputFormat, ApiError> {
    format.required("type")?;
    let text = |name: &str| format.required_string(name).map(str::to_owned);
    match format.choice("type", &["text", "json_object", "json_schema", "regex", "grammar"])? {
        Some("json_object") => Ok(OutputFormat::Json),
        Some("json_schema") => {
            let schema = match nested {
                Some(name) => format.required_object(name)?,
                None => format.clone(),
            };
            check_name(&schema, "name", schema.required_string("name")?)?;
            schema.string("description")?;
            schema.boolean("strict")?;
            Ok(OutputFormat::Schema(Value::Object(schema.required_object("schema")?.map().clone())))
        }
        // These two are not OpenAI's.
        Some("regex") => Ok(OutputFormat::Regex(text("pattern")?)),
        Some("grammar") => Ok(OutputFormat::Grammar(text("grammar")?)),
        _ => Ok(OutputFormat::Text),
    }
}

/// The name of a tool, as OpenAI's and Anthropic's APIs have them.
pub(crate) fn tool_name(fields: &Fields<'_>) -> Result<String, ApiError> {
    let name = fields.required_string("name")?;
    check_name(fields, "name", name)?;
    Ok(name.to_owned())
}

fn check_name(fields: &Fields<'_>, field: &str, name: &str) -> Result<(), ApiError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > 128 || !name.chars().all(plain) {
        let what = format!(
            "is `{}`, and must be 1 to 128 letters, digits, underscores, dashes or points",
            shown(name)
        );
        return Err(fields.error(field, what).code("invalid_value"));
    }
    Ok(())
}
