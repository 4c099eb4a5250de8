//! The parameters of a message.

use autarky_engine::Sampling;
use serde_json::{Map, Value, json};

use super::blocks;
use crate::error::ApiError;
use crate::fields::{Fields, shown};
use crate::generation::{Ask, Conversation, Input, OutputFormat, Tool, ToolChoice, stops, tool_name};
use crate::ids;
use crate::state::RequestLimits;

const HEEDED: &[&str] = &[
    "model",
    "messages",
    "max_tokens",
    "system",
    "stop_sequences",
    "stream",
    "temperature",
    "top_k",
    "top_p",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "output_format",
];

/// Those that change nothing here.
const IGNORED: &[&str] =
    &["metadata", "service_tier", "context_management", "cache_control", "inference_geo", "betas", "speed"];

/// Those that are known and refused.
const REFUSED: [(&str, &str); 2] = [
    ("container", "this server runs no code; leave it out"),
    ("mcp_servers", "this server connects to no other; leave it out"),
];

/// A request as it was understood.
pub(super) struct Parsed {
    pub(super) ask: Ask,
    pub(super) stream: bool,
}

pub(super) fn parse(body: &Value, limits: &RequestLimits, client: u64) -> Result<Parsed, ApiError> {
    let fields = Fields::root(body)?;
    let ask = ask(&fields, limits, client)?;
    fields.required("max_tokens")?;
    Ok(Parsed { ask, stream: fields.boolean("stream")?.unwrap_or(false) })
}

/// As [`parse`], for a request whose tokens are only counted.
pub(super) fn parse_count(body: &Value, limits: &RequestLimits, client: u64) -> Result<Ask, ApiError> {
    ask(&Fields::root(body)?, limits, client)
}

fn ask(fields: &Fields<'_>, limits: &RequestLimits, client: u64) -> Result<Ask, ApiError> {
    for (name, why) in REFUSED {
        // An empty list asks for nothing.
        if fields.get(name).is_some_and(|value| value.as_array().is_none_or(|list| !list.is_empty())) {
            fields.refuse(name, why)?;
        }
    }
    fields.only(&[HEEDED, IGNORED, &REFUSED.map(|(name, _)| name)])?;
    if let Some(metadata) = fields.object("metadata")? {
        metadata.string("user_id")?;
    }
    let model = fields.required_string("model")?.to_owned();
    let (messages, continue_last) = blocks::parse(fields, limits)?;
    let tools = tools(fields, limits)?;
    let (choice, parallel) = choice(fields, &tools)?;
    let variables = thinking(fields)?;
    let conversation = Conversation { messages, tools, choice, parallel, variables, continue_last };
    Ok(Ask {
        model,
        input: Input::Conversation(Box::new(conversation)),
        sampling: sampling(fields)?,
        choices: 1,
        bias: Vec::new(),
        logprobs: None,
        max_tokens: fields.count("max_tokens", 1..=i32::MAX as usize)?,
        stop: stops(fields, "stop_sequences", limits)?,
        ignore_eos: false,
        output: output(fields)?,
        client,
    })
}

fn sampling(fields: &Fields<'_>) -> Result<Sampling, ApiError> {
    let number = |name: &str| fields.number(name, 0.0..=1.0).map(|found| found.map_or(1.0, |x| x as f32));
    Ok(Sampling {
        temperature: number("temperature")?,
        top_p: number("top_p")?,
        top_k: fields.count("top_k", 0..=u32::MAX as usize)?.unwrap_or(0),
        min_p: 0.0,
        seed: ids::random(),
        ..Sampling::default()
    })
}

/// The variables by which templates know whether to reason. As in Anthropic's API, models do when they are told to.
fn thinking(fields: &Fields<'_>) -> Result<Map<String, Value>, ApiError> {
    let mut thinks = false;
    if let Some(thinking) = fields.object("thinking")? {
        thinking.required("type")?;
        let kind = thinking.choice("type", &["enabled", "disabled", "adaptive"])?;
        // How long a model reasons is its own decision here.
        thinking.count("budget_tokens", 1..=i32::MAX as usize)?;
        thinks = kind != Some("disabled");
    }
    let mut variables = Map::new();
    variables.insert("enable_thinking".to_owned(), json!(thinks));
    variables.insert("thinking".to_owned(), json!(thinks));
    Ok(variables)
}

/// `output_config.format`, and `output_format` as it was called first.
fn output(fields: &Fields<'_>) -> Result<OutputFormat, ApiError> {
    let config = fields.object("output_config")?;
    let format = config.map(|config| config.object("format")).transpose()?.flatten();
    let Some(format) = format.map_or_else(|| fields.object("output_format"), |f| Ok(Some(f)))? else {
        return Ok(OutputFormat::Text);
    };
    format.required("type")?;
    format.choice("type", &["json_schema"])?;
    Ok(OutputFormat::Schema(Value::Object(format.required_object("schema")?.map().clone())))
}

fn tools(fields: &Fields<'_>, limits: &RequestLimits) -> Result<Vec<Tool>, ApiError> {
    let mut tools: Vec<Tool> = Vec::new();
    for tool in fields.objects("tools")? {
        if let Some(kind) = tool.string("type")?.filter(|kind| *kind != "custom") {
            let what = format!(
                "is `{}`; this server runs no tools of its own: only `custom` is possible",
                shown(kind)
            );
            return Err(tool.error("type", what).code("unsupported_tool"));
        }
        let name = tool_name(&tool)?;
        if tools.iter().any(|other| other.name == name) {
            return Err(tool.error("name", "is the name of another tool, too"));
        }
        let parameters = Value::Object(tool.required_object("input_schema")?.map().clone());
        tools.push(Tool { name, description: tool.string("description")?.map(str::to_owned), parameters });
    }
    if tools.len() > limits.tools {
        let what = format!("has {} tools, and may have {}", tools.len(), limits.tools);
        return Err(fields.error("tools", what));
    }
    Ok(tools)
}

/// Whether tools are called, and whether several at once may be.
fn choice(fields: &Fields<'_>, tools: &[Tool]) -> Result<(ToolChoice, bool), ApiError> {
    let Some(choice) = fields.object("tool_choice")? else { return Ok((ToolChoice::Auto, true)) };
    choice.required("type")?;
    let parallel = !choice.boolean("disable_parallel_tool_use")?.unwrap_or(false);
    let chosen = match choice.choice("type", &["auto", "any", "tool", "none"])? {
        Some("any") => ToolChoice::Required,
        Some("none") => ToolChoice::None,
        Some("tool") => {
            let name = choice.required_string("name")?;
            if !tools.iter().any(|tool| tool.name == name) {
                return Err(choice.error("name", format!("there is no tool named `{}`", shown(name))));
            }
            ToolChoice::Named(name.to_owned())
        }
        _ => ToolChoice::Auto,
    };
    if tools.is_empty() && matches!(chosen, ToolChoice::Required) {
        return Err(fields.error("tool_choice", "needs `tools`"));
    }
    Ok((chosen, parallel))
}
