//! Which form of answer a model was trained on.

use super::body::{
    ARGS, CALL_BEGIN, CALL_END, CALL_ID, CALLS_BEGIN, CALLS_END, FENCE_CLOSE, FUNCTION, FUNCTION_CLOSE,
    PYTHON_TAG, SEPARATOR, TOOL_CALL, TOOL_CALL_CLOSE, TOOL_CALLS,
};
use super::harmony::{CHANNEL, CONSTRAIN, ENDS, MESSAGE, START};

/// How a model writes calls of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum CallFormat {
    /// `<tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>`: Hermes, Qwen2.5, Qwen3, and whatever is not
    /// known to have another form.
    #[default]
    Hermes,
    /// `<tool_call>\n<function=NAME>\n<parameter=KEY>\nVALUE\n</parameter>\n</function>\n</tool_call>`:
    /// Qwen3-Coder. JSON within `<tool_call>` is read as well.
    QwenXml,
    /// `<tool_call>NAME\n<arg_key>KEY</arg_key>\n<arg_value>VALUE</arg_value>\n</tool_call>`: GLM-4.5 and later.
    /// JSON within `<tool_call>` is read as well.
    Glm,
    /// `{"name": ..., "parameters": {...}}`, bare or behind `<|python_tag|>`, or
    /// `<function=NAME>{...}</function>`: Llama 3.1 and later.
    Llama,
    /// `[TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]`: Mistral up to 2024.
    Mistral,
    /// `[TOOL_CALLS]NAME[ARGS]{...}`: Mistral since 2025. Both of Mistral's forms are read for either.
    MistralArgs,
    /// `<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME`, the arguments in a block of Markdown,
    /// `<｜tool▁call▁end｜><｜tool▁calls▁end｜>`: DeepSeek V3 and R1.
    DeepSeek,
    /// The same with `NAME<｜tool▁sep｜>{...}`: DeepSeek V3.1. Both of DeepSeek's forms are read for either.
    DeepSeekPlain,
    /// `<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{...}`: gpt-oss, whose whole answer is
    /// made of such messages (OpenAI's harmony format).
    Harmony,
}

/// How a model marks what it writes to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReasoningFormat {
    /// `<think>...</think>`
    Think,
    /// `[THINK]...[/THINK]`: Mistral.
    BracketThink,
    /// `<|channel|>analysis<|message|>...<|end|>`: gpt-oss. Only with [`CallFormat::Harmony`].
    Harmony,
}

impl ReasoningFormat {
    /// The text before reasoning.
    #[must_use]
    pub fn open(self) -> &'static str {
        match self {
            Self::Think => "<think>",
            Self::BracketThink => "[THINK]",
            Self::Harmony => "<|channel|>analysis<|message|>",
        }
    }

    /// The text behind reasoning.
    #[must_use]
    pub fn close(self) -> &'static str {
        match self {
            Self::Think => "</think>",
            Self::BracketThink => "[/THINK]",
            Self::Harmony => "<|end|>",
        }
    }
}

/// The form of a model's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AnswerFormat {
    /// How calls are written.
    pub calls: CallFormat,
    /// How reasoning is marked, if the model is known to reason.
    pub reasoning: Option<ReasoningFormat>,
}

/// How one or more calls are written, for who wants a model to write nothing else: `begin`, then for each call
/// `before_name`, the name, `between`, the arguments as a JSON object, and `after`, with `separator` from the
/// second call on before each; then `end`.
///
/// [`super::AnswerParser`] reads this back as these calls. The texts may hold control tokens in writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallSyntax {
    /// Before the first call.
    pub begin: &'static str,
    /// Before a call's name.
    pub before_name: &'static str,
    /// Between name and arguments.
    pub between: &'static str,
    /// Behind a call's arguments.
    pub after: &'static str,
    /// Between two calls; `None` where the model can write one only.
    pub separator: Option<&'static str>,
    /// Behind the last call.
    pub end: &'static str,
    /// The name stands within a JSON string.
    pub name_is_json: bool,
}

impl AnswerFormat {
    /// Finds the format in the source of a model's chat template, by the markers that it writes.
    #[must_use]
    pub fn detect(template: &str) -> Self {
        let has = |text: &str| template.contains(text);
        if has(CHANNEL) && has(MESSAGE) {
            return Self { calls: CallFormat::Harmony, reasoning: Some(ReasoningFormat::Harmony) };
        }
        let calls = if has(CALL_BEGIN) || has(CALLS_BEGIN) {
            if has("```json") { CallFormat::DeepSeek } else { CallFormat::DeepSeekPlain }
        } else if has(TOOL_CALLS) {
            if has(ARGS) { CallFormat::MistralArgs } else { CallFormat::Mistral }
        } else if has("<arg_key>") {
            CallFormat::Glm
        } else if has(FUNCTION) && has("<parameter=") {
            CallFormat::QwenXml
        } else if has(TOOL_CALL) {
            CallFormat::Hermes
        } else if has(PYTHON_TAG) || has("<|start_header_id|>") {
            CallFormat::Llama
        } else {
            CallFormat::Hermes
        };
        let reasoning = if has("[THINK]") {
            Some(ReasoningFormat::BracketThink)
        } else if has("<think>") || has("</think>") {
            Some(ReasoningFormat::Think)
        } else {
            None
        };
        Self { calls, reasoning }
    }

    /// How to write calls that the parser of this format reads, as close to what the model was trained on as JSON
    /// arguments allow.
    #[must_use]
    pub fn call_syntax(self) -> CallSyntax {
        let hermes = CallSyntax {
            begin: "",
            before_name: "<tool_call>\n{\"name\": \"",
            between: "\", \"arguments\": ",
            after: "}\n</tool_call>",
            separator: Some("\n"),
            end: "",
            name_is_json: true,
        };
        match self.calls {
            CallFormat::Hermes | CallFormat::QwenXml | CallFormat::Glm => hermes,
            CallFormat::Llama => CallSyntax {
                before_name: "{\"name\": \"",
                between: "\", \"parameters\": ",
                after: "}",
                separator: None,
                ..hermes
            },
            CallFormat::Mistral => CallSyntax {
                begin: "[TOOL_CALLS][",
                before_name: "{\"name\": \"",
                after: "}",
                separator: Some(", "),
                end: "]",
                ..hermes
            },
            CallFormat::MistralArgs => CallSyntax {
                before_name: TOOL_CALLS,
                between: ARGS,
                after: "",
                separator: Some(""),
                name_is_json: false,
                ..hermes
            },
            CallFormat::DeepSeek => CallSyntax {
                begin: CALLS_BEGIN,
                before_name: "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
                between: "\n```json\n",
                after: "\n```<｜tool▁call▁end｜>",
                separator: Some("\n"),
                end: CALLS_END,
                name_is_json: false,
            },
            CallFormat::DeepSeekPlain => CallSyntax {
                begin: CALLS_BEGIN,
                before_name: CALL_BEGIN,
                between: SEPARATOR,
                after: CALL_END,
                separator: Some(""),
                end: CALLS_END,
                name_is_json: false,
            },
            CallFormat::Harmony => CallSyntax {
                before_name: "<|channel|>commentary to=functions.",
                between: " <|constrain|>json<|message|>",
                after: "",
                separator: None,
                name_is_json: false,
                ..hermes
            },
        }
    }

    /// All texts that mean something in this format and may be control tokens: a decoder that leaves control
    /// tokens out must show these, or the parser cannot see them.
    #[must_use]
    pub fn markers(self) -> Vec<&'static str> {
        let mut markers = [self.call_markers(), self.call_closers()].concat();
        markers.extend_from_slice(match self.calls {
            CallFormat::Mistral | CallFormat::MistralArgs => &[ARGS, CALL_ID],
            CallFormat::DeepSeek | CallFormat::DeepSeekPlain => &[SEPARATOR],
            CallFormat::QwenXml => &["<parameter=", "</parameter>"],
            CallFormat::Glm => &["<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"],
            CallFormat::Harmony => &[MESSAGE, CONSTRAIN],
            CallFormat::Hermes | CallFormat::Llama => &[],
        });
        // Harmony's are several tokens, which are there.
        let reasoning = self.reasoning.filter(|reasoning| *reasoning != ReasoningFormat::Harmony);
        markers.extend(reasoning.into_iter().flat_map(|reasoning| [reasoning.open(), reasoning.close()]));
        markers
    }

    /// The markers that begin a call.
    pub(super) fn call_markers(self) -> &'static [&'static str] {
        match self.calls {
            CallFormat::Hermes | CallFormat::Glm => &[TOOL_CALL],
            CallFormat::QwenXml => &[TOOL_CALL, FUNCTION],
            CallFormat::Llama => &[PYTHON_TAG, FUNCTION],
            CallFormat::Mistral | CallFormat::MistralArgs => &[TOOL_CALLS],
            CallFormat::DeepSeek | CallFormat::DeepSeekPlain => &[CALLS_BEGIN, CALL_BEGIN],
            CallFormat::Harmony => &[CHANNEL, START],
        }
    }

    /// What may stand behind a whole call and is no content there.
    pub(super) fn call_closers(self) -> &'static [&'static str] {
        match self.calls {
            CallFormat::Hermes | CallFormat::Glm => &[TOOL_CALL_CLOSE, FUNCTION_CLOSE],
            CallFormat::QwenXml => &[TOOL_CALL_CLOSE, FUNCTION_CLOSE],
            CallFormat::Llama => &[FUNCTION_CLOSE],
            CallFormat::Mistral | CallFormat::MistralArgs => &[],
            CallFormat::DeepSeek | CallFormat::DeepSeekPlain => &[FENCE_CLOSE, CALL_END, CALLS_END],
            CallFormat::Harmony => &ENDS,
        }
    }
}
