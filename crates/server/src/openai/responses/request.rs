//! The parameters of a response.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::items::{Placed, Role};
use super::tools;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::generation::{Ask, Conversation, Input, OutputFormat, SAMPLING, output_format, sampling};
use crate::openai::chat::effort_variables;
use crate::state::RequestLimits;

/// Those that are heeded, beside [`SAMPLING`].
const HEEDED: &[&str] = &[
    "model",
    "input",
    "instructions",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "text",
    "max_output_tokens",
    "top_logprobs",
    "include",
    "reasoning",
    "previous_response_id",
    "store",
    "stream",
    "stream_options",
    "metadata",
    "truncation",
];

/// Those that are only told again. The server has one tier, runs no tools whose calls could be counted, and finds
/// prompts in its cache by itself.
const TOLD: &[&str] = &["user", "safety_identifier", "prompt_cache_key", "service_tier", "max_tool_calls"];

/// Those that change nothing here.
const IGNORED: &[&str] = &["prompt_cache_retention", "prompt_cache_options", "moderation"];

/// Those that are known and refused.
const REFUSED: [(&str, &str); 4] = [
    ("background", "this server answers while the client waits; leave it out, or stream"),
    (
        "conversation",
        "this server keeps no conversations; send `previous_response_id`, or the items themselves",
    ),
    ("prompt", "this server keeps no prompts; send `instructions` and `input`"),
    ("context_management", "this server shortens no conversations but by `truncation`"),
];

/// What `include` may ask for. All but the first belong to tools that this server does not run.
const INCLUDABLE: &[&str] = &[
    LOGPROBS,
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
];
const LOGPROBS: &str = "message.output_text.logprobs";

const MOST_TOKENS: usize = i32::MAX as usize;
/// As the real API has it.
const LEAST_TOKENS: usize = 16;

/// A request as it was understood.
#[derive(Debug)]
pub(super) struct Parsed {
    /// All but its messages, which come from items.
    pub(super) ask: Ask,
    pub(super) conversation: Conversation,
    pub(super) instructions: Option<String>,
    pub(super) input: Vec<Placed>,
    /// The response that it goes on from.
    pub(super) previous: Option<String>,
    /// The tools that take any text.
    pub(super) custom: HashSet<String>,
    /// Whether log probabilities are told.
    pub(super) logprobs: bool,
    pub(super) store: bool,
    pub(super) stream: bool,
    /// Whether the oldest items may go where the context is too small.
    pub(super) truncates: bool,
    /// What the response says of the request.
    pub(super) told: Map<String, Value>,
}

pub(super) fn parse(body: &Value, limits: &RequestLimits) -> Result<Parsed, ApiError> {
    let fields = Fields::root(body)?;
    for (name, why) in REFUSED {
        fields.refuse(name, why)?;
    }
    fields.only(&[HEEDED, SAMPLING, TOLD, IGNORED, &REFUSED.map(|(name, _)| name)])?;
    let model = fields.required_string("model")?.to_owned();
    let input = input(&fields, limits)?;
    let tools = tools::parse(&fields, limits)?;
    let (output, text) = text(&fields)?;
    let (variables, reasoning) = reasoning(&fields)?;
    let parallel = fields.boolean("parallel_tool_calls")?.unwrap_or(true);
    let include = include(&fields)?;
    let top = fields.count("top_logprobs", 0..=20)?.unwrap_or(0);
    let logprobs = include.contains(&LOGPROBS);
    let max_tokens = fields.count("max_output_tokens", LEAST_TOKENS..=MOST_TOKENS)?;
    let truncation = fields.choice("truncation", &["auto", "disabled"])?.unwrap_or("disabled");
    let stream = stream(&fields)?;
    let store = fields.boolean("store")?.unwrap_or(true);
    let (instructions, previous) = (fields.string("instructions")?, fields.string("previous_response_id")?);
    let sampling = sampling(&fields)?;
    let number = |name: &str| fields.get(name).cloned().unwrap_or_else(|| json!(1.0));
    let mut told = json!({
        "background": false,
        "instructions": instructions,
        "max_output_tokens": max_tokens,
        "max_tool_calls": fields.count("max_tool_calls", 1..=MOST_TOKENS)?,
        "metadata": metadata(&fields)?,
        "parallel_tool_calls": parallel,
        "previous_response_id": previous,
        "prompt_cache_key": fields.string("prompt_cache_key")?,
        "reasoning": reasoning,
        "safety_identifier": fields.string("safety_identifier")?,
        "service_tier": "default",
        "store": store,
        "temperature": number("temperature"),
        "text": text,
        "tool_choice": fields.get("tool_choice").cloned().unwrap_or_else(|| json!("auto")),
        "tools": tools.told,
        "top_logprobs": top,
        "top_p": number("top_p"),
        "truncation": truncation,
        "user": fields.string("user")?,
    });
    fields.string("service_tier")?;
    Ok(Parsed {
        ask: Ask {
            model,
            input: Input::Tokens(Vec::new()),
            sampling,
            choices: 1,
            bias: Vec::new(),
            logprobs: logprobs.then_some(top),
            max_tokens,
            stop: Vec::new(),
            ignore_eos: false,
            output,
        },
        conversation: Conversation {
            messages: Vec::new(),
            tools: tools.tools,
            choice: tools.choice,
            parallel,
            variables,
            continue_last: false,
        },
        instructions: instructions.map(str::to_owned),
        input,
        previous: previous.map(str::to_owned),
        custom: tools.custom,
        logprobs,
        store,
        stream,
        truncates: truncation == "auto",
        told: told.as_object_mut().map(std::mem::take).unwrap_or_default(),
    })
}

/// The items to answer; a string is a user's message.
fn input(fields: &Fields<'_>, limits: &RequestLimits) -> Result<Vec<Placed>, ApiError> {
    if let Value::String(text) = fields.required("input")? {
        return Ok(vec![Placed::message(Role::User, text)]);
    }
    let count = fields.array("input")?.map_or(0, <[Value]>::len);
    if count == 0 {
        return Err(fields.error("input", "is empty, and must have at least one item"));
    }
    if count > limits.messages {
        let what = format!("has {count} items, and may have {}", limits.messages);
        return Err(fields.error("input", what));
    }
    let items = fields.objects("input")?.into_iter().enumerate();
    items.map(|(index, item)| Placed::parse(&item, Some(index))).collect()
}

/// Whether the answer is streamed.
fn stream(fields: &Fields<'_>) -> Result<bool, ApiError> {
    let stream = fields.boolean("stream")?.unwrap_or(false);
    if let Some(options) = fields.object("stream_options")? {
        if !stream {
            return Err(fields.error("stream_options", "needs `stream` to be true"));
        }
        options.boolean("include_obfuscation")?;
    }
    Ok(stream)
}

/// What the answer is written in, and how the response tells it.
fn text(fields: &Fields<'_>) -> Result<(OutputFormat, Value), ApiError> {
    let text = fields.object("text")?;
    let text = text.as_ref();
    let verbosity = text.map(|t| t.choice("verbosity", &["low", "medium", "high"])).transpose()?.flatten();
    let told = |format: Value| json!({"format": format, "verbosity": verbosity.unwrap_or("medium")});
    let plain = || (OutputFormat::Text, told(json!({"type": "text"})));
    let Some(format) = text.map(|t| t.object("format")).transpose()?.flatten() else { return Ok(plain()) };
    let output = output_format(&format, None)?;
    let told = match &output {
        OutputFormat::Text => return Ok(plain()),
        OutputFormat::Schema(schema) => told(json!({
            "type": "json_schema",
            "name": format.string("name")?,
            "description": format.string("description")?,
            "schema": schema,
            // What is written always follows the schema.
            "strict": true,
        })),
        OutputFormat::Json | OutputFormat::Regex(_) | OutputFormat::Grammar(_) => told(json!(format.map())),
    };
    Ok((output, told))
}

/// Variables for the chat template, and how the response tells what was asked for.
fn reasoning(fields: &Fields<'_>) -> Result<(Map<String, Value>, Value), ApiError> {
    let mut variables = Map::new();
    let Some(reasoning) = fields.object("reasoning")? else {
        return Ok((variables, json!({"effort": null, "summary": null})));
    };
    let efforts = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
    let effort = reasoning.choice("effort", &efforts)?;
    if let Some(effort) = effort {
        effort_variables(effort, &mut variables);
    }
    let summaries = ["auto", "concise", "detailed"];
    let summary =
        reasoning.choice("summary", &summaries)?.or(reasoning.choice("generate_summary", &summaries)?);
    Ok((variables, json!({"effort": effort, "summary": summary})))
}

fn include<'a>(fields: &Fields<'a>) -> Result<Vec<&'a str>, ApiError> {
    let include = fields.strings("include")?;
    match include.iter().position(|name| !INCLUDABLE.contains(name)) {
        Some(i) => {
            let what = format!("must be one of: {}", INCLUDABLE.join(", "));
            Err(fields.error(&format!("include[{i}]"), what).code("invalid_value"))
        }
        None => Ok(include),
    }
}

/// Up to 16 pairs, with keys of up to 64 characters and values of up to 512.
fn metadata(fields: &Fields<'_>) -> Result<Value, ApiError> {
    let Some(metadata) = fields.object("metadata")? else { return Ok(json!({})) };
    let count = metadata.map().len();
    if count > 16 {
        return Err(fields.error("metadata", format!("has {count} pairs, and may have 16")));
    }
    for key in metadata.map().keys() {
        if key.chars().count() > 64 {
            return Err(metadata.error(key, "is a key of more than 64 characters"));
        }
        if metadata.required_string(key)?.chars().count() > 512 {
            return Err(metadata.error(key, "has more than 512 characters"));
        }
    }
    Ok(Value::Object(metadata.map().clone()))
}
