//! Chat templates: a conversation to the text that the model was trained on.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Map as JsonMap;
use serde_json::Value as Json;

use crate::jinja::{self, Budget, DateTime, Fault, Node, Value};
use crate::tokenizer::Tokenizer;

/// Why a template could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The source is no template of the kind that models carry.
    #[error("chat template, line {line}: {message}")]
    Syntax {
        /// The line, from 1.
        line: u32,
        /// What is wrong there.
        message: String,
    },
    /// The template does something without meaning, such as using a value that is not there.
    #[error("chat template, line {line}: {message}")]
    Failed {
        /// The line, from 1.
        line: u32,
        /// What is wrong there.
        message: String,
    },
    /// The template refuses the conversation, in its own words.
    #[error("the model's chat template refuses this conversation: {message}")]
    Refused {
        /// The template's words.
        message: String,
    },
    /// The template costs more than a template may, in steps, memory or nesting.
    #[error("chat template, line {line}: stopped at the limit of {what}")]
    Limit {
        /// What ran out: `steps`, `memory`, `nesting`.
        what: &'static str,
        /// The line that was running.
        line: u32,
    },
    /// The template's source is too long.
    #[error("the chat template has {size} bytes, at most {limit} are read")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The largest that is accepted.
        limit: usize,
    },
}

/// One message of a conversation, in the form of OpenAI's API, which templates expect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, `tool`.
    pub role: String,
    /// What is said: a string, a list of typed parts, or null beside tool calls.
    #[serde(default)]
    pub content: Json,
    /// Everything else: `tool_calls`, `name`, `tool_call_id`, `reasoning_content`.
    #[serde(flatten)]
    pub extra: JsonMap<String, Json>,
}

impl Message {
    /// A message of text.
    #[must_use]
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: Json::String(content.into()), extra: JsonMap::new() }
    }

    /// The message as templates see it. Most of their authors expect a call's arguments as an object, where the API
    /// has a string of JSON; `text_arguments` is for the others.
    pub(super) fn to_json(&self, text_arguments: bool) -> Json {
        let mut out = JsonMap::new();
        out.insert("role".into(), Json::String(self.role.clone()));
        out.insert("content".into(), self.content.clone());
        for (key, value) in &self.extra {
            let mut value = value.clone();
            if key == "tool_calls"
                && let Some(calls) = value.as_array_mut()
            {
                calls.iter_mut().for_each(if text_arguments { print_arguments } else { parse_arguments });
            }
            out.insert(key.clone(), value);
        }
        Json::Object(out)
    }
}

/// A call's `function.arguments` or `arguments`.
fn arguments_of(call: &mut Json) -> Option<&mut Json> {
    let function = if call.get("function").is_some() { call.get_mut("function")? } else { call };
    function.get_mut("arguments")
}

/// Replaces arguments that are no string by JSON.
fn print_arguments(call: &mut Json) {
    if let Some(arguments) = arguments_of(call)
        && !arguments.is_string()
    {
        *arguments = Json::String(arguments.to_string());
    }
}

/// Replaces arguments that are a string of JSON by what it says.
fn parse_arguments(call: &mut Json) {
    if let Some(arguments) = arguments_of(call)
        && let Some(text) = arguments.as_str()
        && let Ok(parsed @ Json::Object(_)) = serde_json::from_str(text)
    {
        *arguments = parsed;
    }
}

/// What a template gets beside the messages.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RenderOptions {
    /// End with the begin of the assistant's turn, for the model to go on.
    pub add_generation_prompt: bool,
    /// The tools that the model may call: a list of OpenAI's tool objects.
    pub tools: Option<Json>,
    /// The text of the BOS token.
    pub bos_token: Option<String>,
    /// The text of the EOS token.
    pub eos_token: Option<String>,
    /// Further variables, such as `enable_thinking`; they go before the others.
    pub extra: JsonMap<String, Json>,
    /// Today, for templates that say so; without it `strftime_now` is undefined, and they fall back.
    pub date: Option<DateTime>,
}

impl RenderOptions {
    /// Options for a generation with `tokenizer`'s model: the texts of its BOS and EOS, and a generation
    /// prompt.
    #[must_use]
    pub fn for_generation(tokenizer: &Tokenizer) -> Self {
        let text = |id: Option<u32>| {
            id.and_then(|id| tokenizer.token_bytes(id))
                .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        Self {
            add_generation_prompt: true,
            bos_token: text(tokenizer.bos()),
            eos_token: text(tokenizer.eos()),
            ..Self::default()
        }
    }
}

/// A parsed chat template. Cloning is cheap, and it can be used from several threads at once.
///
/// A rendering reads no clock, file or environment, and is bounded: in steps and in bytes made, both
/// in proportion to the conversation, and in nesting.
///
/// The text holds the template's BOS and control tokens in writing: encode it with `parse_special` and
/// without `add_special`.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    nodes: Arc<[Node]>,
    source: Arc<str>,
}

/// Templates of published models have up to 20 kB.
const LONGEST_SOURCE: usize = 1 << 18;

/// What any conversation may cost, and what each message and byte of it adds. Published templates take
/// about 300 steps a message.
const STEPS: u64 = 300_000;
const STEPS_PER_MESSAGE: u64 = 5_000;
const STEPS_PER_BYTE: u64 = 4;
const BYTES: u64 = 16 << 20;
const BYTES_PER_BYTE: u64 = 64;

/// ChatML, for models that come without a template.
const CHATML: &str = "{% for message in messages %}\
    {{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}\
    {% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

impl ChatTemplate {
    /// Parses Jinja source.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`] with the line; [`TemplateError::TooLarge`] beyond 256 KiB.
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        if source.len() > LONGEST_SOURCE {
            return Err(TemplateError::TooLarge { size: source.len(), limit: LONGEST_SOURCE });
        }
        let nodes = jinja::parse(source)
            .map_err(|error| TemplateError::Syntax { line: error.line, message: error.message })?;
        Ok(Self { nodes: nodes.into(), source: source.into() })
    }

    /// The template with the name `name`, for models that have none of their own: `chatml`.
    ///
    /// # Errors
    /// [`TemplateError::Failed`] if no built-in template has that name.
    pub fn builtin(name: &str) -> Result<Self, TemplateError> {
        match name {
            "chatml" => Self::new(CHATML),
            other => Err(TemplateError::Failed {
                line: 0,
                message: format!(
                    "no built-in chat template is named `{}`; known: chatml",
                    crate::error::shorten(other, 50)
                ),
            }),
        }
    }

    /// The template's source.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of a conversation.
    ///
    /// # Errors
    /// [`TemplateError::Refused`] if the template calls `raise_exception`, [`TemplateError::Failed`] if it
    /// does what has no meaning, [`TemplateError::Limit`] if it costs too much.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<String, TemplateError> {
        let messages = Json::Array(messages.iter().map(|message| message.to_json(false)).collect());
        self.render_json(&messages, options)
    }

    /// As [`ChatTemplate::render`], with messages in JSON: a list of objects.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_json(&self, messages: &Json, options: &RenderOptions) -> Result<String, TemplateError> {
        let mut inputs: Vec<(&str, Json)> =
            options.extra.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
        inputs.push(("messages", messages.clone()));
        inputs.push(("tools", options.tools.clone().unwrap_or(Json::Null)));
        inputs.push(("documents", options.extra.get("documents").cloned().unwrap_or(Json::Null)));
        inputs.push(("add_generation_prompt", Json::Bool(options.add_generation_prompt)));
        for (name, token) in [("bos_token", &options.bos_token), ("eos_token", &options.eos_token)] {
            if let Some(token) = token {
                inputs.push((name, Json::String(token.clone())));
            }
        }
        let size: u64 = inputs.iter().map(|(_, value)| json_size(value)).sum();
        let count = messages.as_array().map_or(0, Vec::len) as u64;
        let budget = Budget::new(
            STEPS + STEPS_PER_MESSAGE.saturating_mul(count) + STEPS_PER_BYTE.saturating_mul(size),
            BYTES + BYTES_PER_BYTE.saturating_mul(size),
        );
        let values = inputs
            .iter()
            .map(|(name, value)| Ok((Arc::from(*name), Value::from_json(value, &budget)?)))
            .collect::<Result<Vec<_>, Fault>>()
            .map_err(|fault| template_error(0, fault))?;
        jinja::render(&self.nodes, values, options.date, &budget)
            .map_err(|(line, fault)| template_error(line, fault))
    }
}

fn template_error(line: u32, fault: Fault) -> TemplateError {
    match fault {
        Fault::Error(message) => TemplateError::Failed { line, message },
        Fault::Raised(message) => TemplateError::Refused { message },
        Fault::Limit(what) => TemplateError::Limit { what, line },
    }
}

/// About the bytes that a value takes as JSON.
fn json_size(value: &Json) -> u64 {
    match value {
        Json::String(text) => text.len() as u64 + 8,
        Json::Array(items) => 8 + items.iter().map(json_size).sum::<u64>(),
        Json::Object(entries) => {
            8 + entries.iter().map(|(key, value)| key.len() as u64 + 8 + json_size(value)).sum::<u64>()
        }
        _ => 8,
    }
}
