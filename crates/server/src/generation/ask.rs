//! What a request for text comes to, whatever its API.

use autarky_text::Message;
use serde_json::{Map, Value, json};

use super::options::AskedSampling;

/// A request for text.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// The model's name.
    pub(crate) model: String,
    pub(crate) input: Input,
    pub(crate) sampling: AskedSampling,
    /// Answers.
    pub(crate) choices: usize,
    /// Added to the logits of single tokens.
    pub(crate) bias: Vec<(u32, f32)>,
    /// Rivals of each token whose log probabilities are told; `None`: not even the token's own.
    pub(crate) logprobs: Option<usize>,
    /// Tokens of an answer; `None`: as many as fit the context.
    pub(crate) max_tokens: Option<usize>,
    pub(crate) stop: Vec<String>,
    /// Go on where the model would end.
    pub(crate) ignore_eos: bool,
    pub(crate) output: OutputFormat,
}

/// What is to be answered or continued.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Conversation(Box<Conversation>),
    Text(String),
    Tokens(Vec<u32>),
}

/// Messages, and what may be done beside answering them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conversation {
    pub(crate) messages: Vec<Message>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) choice: ToolChoice,
    /// Whether one answer may call several tools.
    pub(crate) parallel: bool,
    /// Variables for the chat template, such as `enable_thinking`.
    pub(crate) variables: Map<String, Value>,
    /// The last message is the beginning of the answer, which goes on from there.
    pub(crate) continue_last: bool,
}

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    /// JSON Schema of its arguments.
    pub(crate) parameters: Value,
}

/// Whether tools are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ToolChoice {
    /// No: the model does not hear of them.
    None,
    /// As the model likes.
    #[default]
    Auto,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

/// What the answer is written in.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum OutputFormat {
    #[default]
    Text,
    /// A JSON object.
    Json,
    /// JSON of this schema.
    Schema(Value),
    /// Text that this regular expression matches as a whole.
    Regex(String),
    /// Text of this grammar, in Lark's syntax.
    Grammar(String),
}

impl Tool {
    /// The tool as OpenAI's API and chat templates have it.
    fn to_json(&self) -> Value {
        let mut function = json!({"name": self.name, "parameters": self.parameters});
        if let (Some(description), Some(map)) = (&self.description, function.as_object_mut()) {
            map.insert("description".to_owned(), json!(description));
        }
        json!({"type": "function", "function": function})
    }
}

impl Conversation {
    /// The tools that the model hears of, as chat templates have them.
    pub(crate) fn offered(&self) -> Option<Value> {
        let offered = !self.tools.is_empty() && self.choice != ToolChoice::None;
        offered.then(|| self.tools.iter().map(Tool::to_json).collect())
    }

    /// Whether tools are offered, or were used.
    pub(crate) fn speaks_of_tools(&self) -> bool {
        let used = |m: &Message| m.role == "tool" || m.extra.contains_key("tool_calls");
        self.offered().is_some() || self.messages.iter().any(used)
    }

    /// Whether the answer must be a call.
    pub(crate) fn must_call(&self) -> bool {
        matches!(self.choice, ToolChoice::Required | ToolChoice::Named(_))
    }
}

impl Ask {
    /// About the bytes of the prompt.
    pub(crate) fn size(&self) -> usize {
        match &self.input {
            Input::Text(text) => text.len(),
            Input::Tokens(tokens) => 4 * tokens.len(),
            Input::Conversation(c) => {
                let part = |part: &Value| part.get("text").and_then(Value::as_str).map_or(0, str::len);
                let message = |m: &Message| match &m.content {
                    Value::String(text) => 64 + text.len() + 256 * m.extra.len(),
                    Value::Array(parts) => 64 + parts.iter().map(part).sum::<usize>(),
                    _ => 64 + 256 * m.extra.len(),
                };
                c.messages.iter().map(message).sum::<usize>() + 1024 * c.tools.len()
            }
        }
    }

    /// Whether only some texts are allowed as an answer.
    pub(crate) fn is_constrained(&self) -> bool {
        self.output != OutputFormat::Text || matches!(&self.input, Input::Conversation(c) if c.must_call())
    }
}
