//! The parameters of a response.

use autarky_text::Message;
use serde_json::{Map, Value, json};

use super::items;
use crate::error::ApiError;
use crate::fields::{Fields, shown};
use crate::generation::{Ask, Conversation, Input, OutputFormat, SAMPLING, Tool, output_format, sampling};
use crate::openai::chat::{check_tools, effort_variables, function, tool_choice};
use crate::state::RequestLimits;

const HEEDED: &[&str] = &[
    "model",
    "input",
    "instructions",
    "previous_response_id",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "text",
    "max_output_tokens",
    "stream",
    "stream_options",
    "store",
    "reasoning",
    "top_logprobs",
    "include",
    "truncation",
    "metadata",
];

/// Those that change nothing here.
const IGNORED: &[&str] = &[
    "user",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "max_tool_calls",
    "moderation",
];

/// Those that are known and refused.
const REFUSED: [(&str, &str); 4] = [
    ("background", "answers are written while somebody listens; leave it out"),
    (
        "conversation",
        "conversations are not kept here; use `previous_response_id`, or send the items in `input`",
    ),
    ("prompt", "there are no prompt templates here; send `instructions` and `input`"),
    ("context_management", "conversations are not shortened here; leave it out"),
];

/// A request as it was understood.
pub(super) struct Parsed {
    /// With the messages of `input` alone.
    pub(super) ask: Ask,
    /// The response that it goes on from.
    pub(super) previous: Option<String>,
    pub(super) instructions: Option<Message>,
    /// The items of `input`, each with a name.
    pub(super) input: Vec<Value>,
    /// What the response says of the request.
    pub(super) echo: Map<String, Value>,
    /// Whether the response is kept.
    pub(super) store: bool,
    pub(super) stream: bool,
}

pub(super) fn parse(body: &Value, limits: &RequestLimits, client: u64) -> Result<Parsed, ApiError> {
    let fields = Fields::root(body)?;
    for (name, why) in REFUSED {
        fields.refuse(name, why)?;
    }
    fields.only(&[HEEDED, SAMPLING, IGNORED, &REFUSED.map(|(name, _)| name)])?;
    if fields.choice("truncation", &["auto", "disabled"])? == Some("auto") {
        let what = "is `auto`, and must be `disabled`: a conversation that does not fit is an error here";
        return Err(fields.error("truncation", what).code("unsupported_parameter"));
    }
    let model = fields.required_string("model")?.to_owned();
    let (messages, input) = items::parse(&fields, limits)?;
    let mut tools = tools(&fields)?;
    check_tools(&fields, &tools, limits)?;
    let choice = tool_choice(&fields, &mut tools, |named| Ok(named.clone()))?;
    let parallel = fields.boolean("parallel_tool_calls")?.unwrap_or(true);
    let variables = reasoning(&fields)?;
    let conversation = Conversation { messages, tools, choice, parallel, variables, continue_last: false };
    let logprobs = logprobs(&fields)?;
    let sampling = sampling(&fields)?;
    let max_tokens = fields.count("max_output_tokens", 1..=i32::MAX as usize)?;
    let store = fields.boolean("store")?.unwrap_or(true);
    let mut echo = Map::new();
    let given = |name: &str, default: Value| fields.get(name).cloned().unwrap_or(default);
    for (name, default) in [
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("max_tool_calls", Value::Null),
        ("metadata", json!({})),
        ("previous_response_id", Value::Null),
        ("prompt_cache_key", Value::Null),
        ("reasoning", json!({"effort": null, "summary": null})),
        ("safety_identifier", Value::Null),
        ("temperature", json!(1.0)),
        ("text", json!({"format": {"type": "text"}})),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("top_p", json!(1.0)),
        ("user", Value::Null),
    ] {
        echo.insert(name.to_owned(), given(name, default));
    }
    echo.insert("background".to_owned(), json!(false));
    echo.insert("model".to_owned(), json!(model));
    echo.insert("parallel_tool_calls".to_owned(), json!(parallel));
    echo.insert("service_tier".to_owned(), json!("default"));
    echo.insert("store".to_owned(), json!(store));
    echo.insert("top_logprobs".to_owned(), json!(logprobs.unwrap_or(0)));
    echo.insert("truncation".to_owned(), json!("disabled"));
    metadata(&fields)?;
    fields.string("user")?;
    fields.string("safety_identifier")?;
    fields.string("prompt_cache_key")?;
    fields.count("max_tool_calls", 0..=i32::MAX as usize)?;
    if let Some(options) = fields.object("stream_options")? {
        options.boolean("include_obfuscation")?;
    }
    let ask = Ask {
        model,
        input: Input::Conversation(Box::new(conversation)),
        sampling,
        choices: 1,
        bias: Vec::new(),
        logprobs,
        max_tokens,
        stop: Vec::new(),
        ignore_eos: false,
        output: output(&fields)?,
        client,
    };
    Ok(Parsed {
        ask,
        previous: fields.string("previous_response_id")?.map(str::to_owned),
        instructions: fields.string("instructions")?.map(|text| Message::new("system", text)),
        input,
        echo,
        store,
        stream: fields.boolean("stream")?.unwrap_or(false),
    })
}

fn tools(fields: &Fields<'_>) -> Result<Vec<Tool>, ApiError> {
    let mut tools = Vec::new();
    for tool in fields.objects("tools")? {
        match tool.required_string("type")? {
            "function" => tools.push(function(&tool)?),
            kind => {
                let what = format!(
                    "is `{}`; this server runs no tools of its own: only `function` is possible",
                    shown(kind)
                );
                return Err(tool.error("type", what).code("unsupported_tool"));
            }
        }
    }
    Ok(tools)
}

fn reasoning(fields: &Fields<'_>) -> Result<Map<String, Value>, ApiError> {
    let mut variables = Map::new();
    if let Some(reasoning) = fields.object("reasoning")? {
        let efforts = ["none", "minimal", "low", "medium", "high", "xhigh"];
        if let Some(effort) = reasoning.choice("effort", &efforts)? {
            effort_variables(effort, &mut variables);
        }
        // Nobody writes summaries here: reasoning is told as it is.
        let summaries = ["auto", "concise", "detailed"];
        reasoning.choice("summary", &summaries)?;
        reasoning.choice("generate_summary", &summaries)?;
    }
    Ok(variables)
}

fn logprobs(fields: &Fields<'_>) -> Result<Option<usize>, ApiError> {
    let top = fields.count("top_logprobs", 0..=20)?;
    let included = fields.strings("include")?.contains(&"message.output_text.logprobs");
    Ok((included || top.is_some_and(|n| n > 0)).then(|| top.unwrap_or(0)))
}

fn output(fields: &Fields<'_>) -> Result<OutputFormat, ApiError> {
    let Some(text) = fields.object("text")? else { return Ok(OutputFormat::Text) };
    text.choice("verbosity", &["low", "medium", "high"])?;
    let Some(format) = text.object("format")? else { return Ok(OutputFormat::Text) };
    output_format(&format, None)
}

/// Up to 16 pairs of short strings, which are told again.
fn metadata(fields: &Fields<'_>) -> Result<(), ApiError> {
    let Some(metadata) = fields.object("metadata")? else { return Ok(()) };
    if metadata.map().len() > 16 {
        return Err(fields.error("metadata", "has more than 16 entries"));
    }
    for key in metadata.map().keys() {
        let value = metadata.string(key)?.unwrap_or_default();
        if key.len() > 64 || value.len() > 512 {
            return Err(metadata.error(key, "has a key beyond 64 bytes or a value beyond 512"));
        }
    }
    Ok(())
}
