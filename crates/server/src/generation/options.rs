//! Parameters that several APIs have in common.

use autarky_engine::Sampling;
use autarky_text::SamplingHints;
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

/// How tokens are to be chosen, as far as a request says: OpenAI's parameters, and those that other servers of open models
/// have beside them.
#[derive(Clone, Debug)]
pub(crate) struct AskedSampling {
    /// What models have their own defaults of.
    asked: SamplingHints,
    /// The rest, with OpenAI's defaults in place of those.
    rest: Sampling,
}

impl AskedSampling {
    /// The options of a model whose makers say how its tokens are to be drawn. Where neither they nor the request say, OpenAI's
    /// defaults do.
    pub(crate) fn of(&self, hints: &SamplingHints) -> Sampling {
        self.rest.hinted(hints).hinted(&self.asked)
    }
}

pub(crate) fn sampling(fields: &Fields<'_>) -> Result<AskedSampling, ApiError> {
    let number = |name: &str, range| fields.number(name, range).map(|found| found.map(|x| x as f32));
    let repetition_penalty = number("repetition_penalty", 0.0..=10.0)?;
    if repetition_penalty.is_some_and(|x| x <= 0.0) {
        return Err(fields.error("repetition_penalty", "is 0, and must be above 0; 1 does nothing"));
    }
    let top_k = fields.integer("top_k", -1..=i64::from(u32::MAX))?;
    Ok(AskedSampling {
        asked: SamplingHints {
            temperature: number("temperature", 0.0..=2.0)?,
            // -1 and 0 keep all.
            top_k: top_k.map(|k| usize::try_from(k).unwrap_or(0)),
            top_p: number("top_p", 0.0..=1.0)?,
            min_p: number("min_p", 0.0..=1.0)?,
            repetition_penalty,
        },
        rest: Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: number("typical_p", 0.0..=1.0)?.unwrap_or(1.0),
            repetition_penalty: 1.0,
            presence_penalty: number("presence_penalty", -2.0..=2.0)?.unwrap_or(0.0),
            frequency_penalty: number("frequency_penalty", -2.0..=2.0)?.unwrap_or(0.0),
            // OpenAI's penalties see the whole text.
            penalty_window: usize::MAX,
            seed: seed(fields)?,
        },
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_says_how_to_draw_then_the_models_makers_then_openai() {
        let hints = SamplingHints { temperature: Some(0.6), top_k: Some(20), ..SamplingHints::default() };
        let of = |body: Value| sampling(&Fields::root(&body).unwrap()).unwrap().of(&hints);
        let drawn = of(json!({ "top_k": -1 }));
        assert_eq!((drawn.temperature, drawn.top_k, drawn.top_p), (0.6, 0, 1.0));
        let drawn = of(json!({ "temperature": 1, "top_p": 0.5 }));
        assert_eq!((drawn.temperature, drawn.top_k, drawn.top_p), (1.0, 20, 0.5));
        assert!(sampling(&Fields::root(&json!({ "repetition_penalty": 0 })).unwrap()).is_err());
    }
}
