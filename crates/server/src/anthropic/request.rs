//! The parameters of a message.

use serde_json::{Map, Value, json};

use super::{messages, thinking, tools};
use crate::error::ApiError;
use crate::fields::Fields;
use crate::generation::{Ask, Conversation, Input, OutputFormat, SAMPLING, sampling, stops};
use crate::state::RequestLimits;

/// Those that are heeded, and what counting tokens takes, too.
const COUNTED: &[&str] =
    &["model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "output_format"];

/// Those that are heeded beside [`COUNTED`] and [`SAMPLING`].
const HEEDED: &[&str] = &["max_tokens", "stop_sequences", "stream", "metadata"];

/// Those that change nothing here: the server has one tier and one place, keeps nothing, and finds prompts in its cache
/// by itself.
const IGNORED: &[&str] = &[
    "cache_control",
    "service_tier",
    "inference_geo",
    "speed",
    "context_management",
    "diagnostics",
    "user_profile_id",
    "workspace_id",
    // In the body where other platforms offer the API.
    "anthropic_version",
    "anthropic_beta",
    "betas",
];

/// Those that are known and refused, unless they ask for nothing.
const REFUSED: &[(&str, &str)] = &[
    ("mcp_servers", "this server calls no other servers; leave it out"),
    ("container", "no code runs here; leave it out"),
];

/// A request as it was understood.
pub(super) struct Parsed {
    pub(super) ask: Ask,
    pub(super) stream: bool,
    /// Whether the text of thinking is told.
    pub(super) thinking: bool,
}

/// The body of `/v1/messages`.
pub(super) fn message(body: &Value, limits: &RequestLimits) -> Result<Parsed, ApiError> {
    let fields = Fields::root(body)?;
    known(&fields, &[COUNTED, HEEDED, SAMPLING, IGNORED])?;
    let (ask, thinking) = parse(&fields, limits)?;
    fields.required("max_tokens")?;
    if let Some(metadata) = fields.object("metadata")? {
        metadata.only(&[&["user_id"]])?;
        metadata.string("user_id")?;
    }
    Ok(Parsed { ask, stream: fields.boolean("stream")?.unwrap_or(false), thinking })
}

/// The body of `/v1/messages/count_tokens`.
pub(super) fn count(body: &Value, limits: &RequestLimits) -> Result<Ask, ApiError> {
    let fields = Fields::root(body)?;
    known(&fields, &[COUNTED, IGNORED])?;
    parse(&fields, limits).map(|(ask, _)| ask)
}

fn known(fields: &Fields<'_>, lists: &[&[&str]]) -> Result<(), ApiError> {
    for (name, why) in REFUSED {
        let nothing = fields.get(name).is_none_or(|value| value.as_array().is_some_and(Vec::is_empty));
        if !nothing {
            return Err(fields.error(name, *why).code("unsupported_parameter"));
        }
    }
    let refused: Vec<&str> = REFUSED.iter().map(|(name, _)| *name).collect();
    fields.only(&[lists, &[refused.as_slice()]].concat())
}

/// What both requests have in common; and whether the text of thinking is told.
fn parse(fields: &Fields<'_>, limits: &RequestLimits) -> Result<(Ask, bool), ApiError> {
    let model = fields.required_string("model")?.to_owned();
    let max_tokens = fields.count("max_tokens", 1..=i32::MAX as usize)?;
    // The ranges that are narrower than other APIs'.
    fields.number("temperature", 0.0..=1.0)?;
    fields.array("stop_sequences")?;
    let mut variables = Map::new();
    let told = thinking::parse(fields, &mut variables)?;
    let offer = tools::parse(fields, limits)?;
    let output = output(fields, &mut variables)?;
    let said = messages::parse(fields, limits)?;
    thinking::check(fields, &offer, &said)?;
    let conversation = Conversation {
        messages: said.messages,
        tools: offer.tools,
        choice: offer.choice,
        parallel: offer.parallel,
        variables,
        continue_last: said.prefilled,
    };
    let ask = Ask {
        model,
        input: Input::Conversation(Box::new(conversation)),
        sampling: sampling(fields)?,
        choices: 1,
        bias: Vec::new(),
        logprobs: None,
        max_tokens,
        stop: stops(fields, "stop_sequences", limits)?,
        ignore_eos: false,
        output,
    };
    Ok((ask, told))
}

/// `output_config`: what the answer is written in, and how much the model reasons for it.
fn output(fields: &Fields<'_>, variables: &mut Map<String, Value>) -> Result<OutputFormat, ApiError> {
    let config = fields.object("output_config")?;
    let mut format = fields.object("output_format")?;
    if let Some(config) = config {
        config.only(&[&["effort", "format"]])?;
        if let Some(effort) = config.choice("effort", &["low", "medium", "high", "xhigh", "max"])? {
            variables.insert("reasoning_effort".to_owned(), json!(effort));
        }
        format = config.object("format")?.or(format);
    }
    let Some(format) = format else { return Ok(OutputFormat::Text) };
    format.only(&[&["type", "schema"]])?;
    format.required("type")?;
    format.choice("type", &["json_schema"])?;
    Ok(OutputFormat::Schema(Value::Object(format.required_object("schema")?.map().clone())))
}
