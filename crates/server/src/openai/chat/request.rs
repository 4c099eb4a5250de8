//! The parameters of a chat completion.

use serde_json::{Map, Value, json};

use super::{messages, tools};
use crate::error::ApiError;
use crate::fields::{Fields, integer_at, wrong};
use crate::generation::{Ask, Conversation, Input, OutputFormat, SAMPLING, output_format, sampling, stops};
use crate::state::RequestLimits;

/// Those that are heeded, beside [`SAMPLING`].
const HEEDED: &[&str] = &[
    "model",
    "messages",
    "n",
    "stop",
    "max_tokens",
    "max_completion_tokens",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "stream",
    "stream_options",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning_effort",
    "chat_template_kwargs",
    "ignore_eos",
];

/// Those that change nothing here: the server has one tier, keeps nothing, and finds prompts in its cache by itself.
const IGNORED: &[&str] = &[
    "user",
    "safety_identifier",
    "metadata",
    "store",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prediction",
    "verbosity",
    "moderation",
];

/// Those that are known and refused.
const REFUSED: [(&str, &str); 4] = [
    ("functions", "was replaced by `tools`; send those"),
    ("function_call", "was replaced by `tool_choice`; send that"),
    ("audio", "no model here speaks; leave it out"),
    ("web_search_options", "this server searches nothing on the web; leave it out"),
];

/// A request as it was understood.
pub(super) struct Parsed {
    pub(super) ask: Ask,
    /// How the answer is to be streamed, if it is.
    pub(super) stream: Option<StreamOptions>,
    /// Whether log probabilities are told.
    pub(super) logprobs: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(in crate::openai) struct StreamOptions {
    /// Whether the last event tells what the answer took.
    pub(in crate::openai) usage: bool,
}

pub(super) fn parse(body: &Value, limits: &RequestLimits) -> Result<Parsed, ApiError> {
    let fields = Fields::root(body)?;
    for (name, why) in REFUSED {
        fields.refuse(name, why)?;
    }
    fields.only(&[HEEDED, SAMPLING, IGNORED, &REFUSED.map(|(name, _)| name), &["modalities"]])?;
    if fields.strings("modalities")?.iter().any(|name| *name != "text") {
        return Err(fields.error("modalities", "models here write text; ask for [\"text\"]"));
    }
    let model = fields.required_string("model")?.to_owned();
    let messages = messages::parse(&fields, limits)?;
    let (tools, choice) = tools::parse(&fields, limits)?;
    let conversation = Conversation {
        messages,
        tools,
        choice,
        parallel: fields.boolean("parallel_tool_calls")?.unwrap_or(true),
        variables: variables(&fields)?,
        continue_last: false,
    };
    let (logprobs, top) =
        (fields.boolean("logprobs")?.unwrap_or(false), fields.count("top_logprobs", 0..=20)?);
    if top.is_some_and(|n| n > 0) && !logprobs {
        return Err(fields.error("top_logprobs", "needs `logprobs` to be true"));
    }
    let ask = Ask {
        model,
        input: Input::Conversation(Box::new(conversation)),
        sampling: sampling(&fields)?,
        choices: fields.count("n", 1..=128)?.unwrap_or(1),
        bias: bias(&fields)?,
        logprobs: logprobs.then_some(top.unwrap_or(0)),
        max_tokens: max_tokens(&fields)?,
        stop: stops(&fields, "stop", limits)?,
        ignore_eos: fields.boolean("ignore_eos")?.unwrap_or(false),
        output: output(&fields)?,
    };
    Ok(Parsed { ask, stream: stream(&fields)?, logprobs })
}

/// Whether and how the answer is streamed.
pub(in crate::openai) fn stream(fields: &Fields<'_>) -> Result<Option<StreamOptions>, ApiError> {
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let mut found = StreamOptions::default();
    if let Some(options) = fields.object("stream_options")? {
        if !stream {
            return Err(fields.error("stream_options", "needs `stream` to be true"));
        }
        found.usage = options.boolean("include_usage")?.unwrap_or(false);
        options.boolean("include_obfuscation")?;
    }
    Ok(stream.then_some(found))
}

/// The newer name goes first.
fn max_tokens(fields: &Fields<'_>) -> Result<Option<usize>, ApiError> {
    let old = fields.count("max_tokens", 1..=MOST_TOKENS)?;
    Ok(fields.count("max_completion_tokens", 1..=MOST_TOKENS)?.or(old))
}

const MOST_TOKENS: usize = i32::MAX as usize;

/// What is added to logits: an object from token ids to numbers.
pub(in crate::openai) fn bias(fields: &Fields<'_>) -> Result<Vec<(u32, f32)>, ApiError> {
    let Some(object) = fields.object("logit_bias")? else { return Ok(Vec::new()) };
    if object.map().len() > MOST_BIASES {
        let what = format!("has {} tokens, and may have {MOST_BIASES}", object.map().len());
        return Err(fields.error("logit_bias", what));
    }
    let one = |key: &String| {
        let token = key.parse::<u32>().map_err(|_| object.error(key, "is no token id"))?;
        let bias = object.number(key, -100.0..=100.0)?.unwrap_or(0.0);
        Ok((token, bias as f32))
    };
    object.map().keys().map(one).collect()
}

const MOST_BIASES: usize = 1024;

/// Variables for the chat template.
fn variables(fields: &Fields<'_>) -> Result<Map<String, Value>, ApiError> {
    let mut variables = Map::new();
    let efforts = ["none", "minimal", "low", "medium", "high", "xhigh"];
    if let Some(effort) = fields.choice("reasoning_effort", &efforts)? {
        effort_variables(effort, &mut variables);
    }
    if let Some(given) = fields.object("chat_template_kwargs")? {
        variables.extend(given.map().clone());
    }
    Ok(variables)
}

/// The variables by which templates know how much to reason.
pub(in crate::openai) fn effort_variables(effort: &str, variables: &mut Map<String, Value>) {
    let thinks = effort != "none";
    variables.insert("enable_thinking".to_owned(), json!(thinks));
    variables.insert("thinking".to_owned(), json!(thinks));
    if thinks {
        variables.insert("reasoning_effort".to_owned(), json!(effort));
    }
}

fn output(fields: &Fields<'_>) -> Result<OutputFormat, ApiError> {
    let Some(format) = fields.object("response_format")? else { return Ok(OutputFormat::Text) };
    output_format(&format, Some("json_schema"))
}

/// Token ids of a prompt.
pub(in crate::openai) fn token_ids(values: &[Value], path: &str) -> Result<Vec<u32>, ApiError> {
    let id = |(i, value): (usize, &Value)| {
        // The path is only made for an error.
        match value.as_u64().and_then(|id| u32::try_from(id).ok()) {
            Some(id) => Ok(id),
            None => match integer_at(value, &format!("{path}[{i}]"), 0..=i64::from(u32::MAX)) {
                Ok(_) => Err(wrong(&format!("{path}[{i}]"), value, "a token id")),
                Err(error) => Err(error),
            },
        }
    };
    values.iter().enumerate().map(id).collect()
}
