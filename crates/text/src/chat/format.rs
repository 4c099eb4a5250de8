//! A model's chat template, with everything that a program needs to talk through it with strangers.

use serde_json::Map as JsonMap;
use serde_json::Value as Json;
use serde_json::json;

use super::error::{ChatError, Fault};
use super::guard::{Guard, Marks};
use super::shape::Shape;
use super::template::{ChatTemplate, Message, RenderOptions, TemplateError};
use crate::answer::AnswerFormat;
use crate::error::shorten;
use crate::jinja::DateTime;
use crate::stream::StreamDecoder;
use crate::tokenizer::Tokenizer;

/// The roles of OpenAI's API.
const ROLES: &[&str] = &["system", "developer", "user", "assistant", "tool", "function"];

/// What the model is to answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Conversation<'a> {
    /// What was said, in the form of OpenAI's API.
    pub messages: &'a [Message],
    /// The tools that the model may call: a list of OpenAI's tool objects.
    pub tools: Option<&'a Json>,
    /// Further variables for the template, such as `enable_thinking`.
    pub variables: Option<&'a JsonMap<String, Json>>,
    /// Today, for templates that say so.
    pub date: Option<DateTime>,
    /// The last message is the beginning of the answer, and the model goes on with it.
    pub continue_last: bool,
}

/// A conversation as the model reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Its tokens, BOS included.
    pub tokens: Vec<u32>,
    /// Its text, control tokens in writing.
    pub text: String,
    /// It ends within reasoning, so that the answer begins there: see
    /// [`AnswerOptions::starts_in_reasoning`](crate::AnswerOptions::starts_in_reasoning).
    pub starts_in_reasoning: bool,
}

/// How to talk with a model: its chat template and tokenizer, and the form of its answers. Cloning is cheap enough to
/// have one for each thread.
///
/// Control tokens in messages, tools and variables are plain text to the model, whoever wrote them.
#[derive(Debug, Clone)]
pub struct ChatFormat {
    template: ChatTemplate,
    tokenizer: Tokenizer,
    options: RenderOptions,
    answer: AnswerFormat,
    shape: Shape,
    guard: Guard,
}

impl ChatFormat {
    /// The model's own template; `None` if it has none.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`] and [`TemplateError::TooLarge`]: the model's fault.
    pub fn of(tokenizer: &Tokenizer) -> Result<Option<Self>, TemplateError> {
        let Some(source) = tokenizer.chat_template() else { return Ok(None) };
        Ok(Some(Self::new(ChatTemplate::new(source)?, tokenizer)))
    }

    /// Another template than the model's own: [`ChatTemplate::builtin`], or a file's text by
    /// [`ChatTemplate::new`].
    #[must_use]
    pub fn new(template: ChatTemplate, tokenizer: &Tokenizer) -> Self {
        let options = RenderOptions::for_generation(tokenizer);
        Self {
            answer: AnswerFormat::detect(template.source()),
            shape: Shape::of(&template, &RenderOptions { add_generation_prompt: false, ..options.clone() }),
            guard: Guard::new(tokenizer),
            tokenizer: tokenizer.clone(),
            template,
            options,
        }
    }

    /// The template.
    #[must_use]
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// The form in which the model answers.
    #[must_use]
    pub fn answer_format(&self) -> AnswerFormat {
        self.answer
    }

    /// Whether the template tells the model which tools there are. Others ignore them.
    #[must_use]
    pub fn takes_tools(&self) -> bool {
        self.shape.tools
    }

    /// A decoder for an answer. It leaves control tokens out, except those that [`crate::AnswerParser`] needs to see.
    #[must_use]
    pub fn decoder(&self) -> StreamDecoder {
        let markers = self.answer.markers();
        self.tokenizer.decoder().showing(markers.iter().filter_map(|text| self.tokenizer.special_id(text)))
    }

    /// The conversation up to where the answer begins.
    ///
    /// # Errors
    /// Whatever is wrong with the conversation or the template; [`ChatError::fault`] tells which.
    pub fn prompt(&self, conversation: &Conversation<'_>) -> Result<Prompt, ChatError> {
        self.written(conversation, true)
    }

    /// The conversation, and where `asks` says so the beginning of an answer to it.
    pub(super) fn written(&self, conversation: &Conversation<'_>, asks: bool) -> Result<Prompt, ChatError> {
        if conversation.messages.is_empty() {
            return Err(ChatError::NoMessages);
        }
        let messages = conversation.messages.iter().enumerate();
        let messages = messages.map(|(index, message)| self.message(index, message));
        let mut messages = Json::Array(messages.collect::<Result<_, _>>()?);
        let mut tools = conversation.tools.cloned().unwrap_or(Json::Null);
        let mut variables = Json::Object(conversation.variables.cloned().unwrap_or_default());
        let marks =
            self.guard.hide(&mut [&mut messages, &mut tools, &mut variables], self.template.source())?;
        let begun = if conversation.continue_last { Some(mark_end(&mut messages, &marks)?) } else { None };
        let options = RenderOptions {
            add_generation_prompt: asks && begun.is_none(),
            tools: conversation.tools.is_some().then_some(tools),
            extra: match variables {
                Json::Object(variables) => variables,
                _ => JsonMap::new(),
            },
            date: conversation.date,
            ..self.options.clone()
        };
        let mut text =
            self.template.render_json(&messages, &options).map_err(|source| self.failed(source))?;
        if let Some((end, _)) = &begun {
            let at = text.rfind(*end).ok_or(ChatError::CannotContinue)?;
            text.truncate(at);
            text.retain(|c| c != *end);
        }
        let begun = begun.map(|(_, content)| content).unwrap_or_default();
        let tokens = self.tokenizer.encode_template(&text, &|piece| marks.restore(piece));
        Ok(Prompt {
            starts_in_reasoning: self.ends_in_reasoning(&text, &begun),
            tokens: tokens.map_err(|source| ChatError::Tokens { source })?,
            text: marks.restore(&text),
        })
    }

    /// Whether a token ends an answer.
    pub(super) fn ends_answer(&self, token: u32) -> bool {
        self.tokenizer.is_eog(token)
    }

    /// Whose fault it is that the template failed.
    fn failed(&self, source: TemplateError) -> ChatError {
        let refused = matches!(source, TemplateError::Refused { .. });
        let fault = if refused || self.shape.works { Fault::Conversation } else { Fault::Model };
        ChatError::Template { fault, source }
    }

    /// Whether reasoning is open at the end of `text`, which ends with `begun` of the answer.
    fn ends_in_reasoning(&self, text: &str, begun: &str) -> bool {
        let Some(reasoning) = self.answer.reasoning else { return false };
        match (begun.rfind(reasoning.open()), begun.rfind(reasoning.close())) {
            (None, None) => {
                let before = text.trim_end();
                before.strip_suffix(begun.trim_end()).unwrap_or(before).trim_end().ends_with(reasoning.open())
            }
            (open, close) => open > close,
        }
    }

    /// A message in the form that the template takes.
    fn message(&self, index: usize, message: &Message) -> Result<Json, ChatError> {
        if !ROLES.contains(&&*message.role) {
            let role = shorten(&message.role, 50);
            return Err(ChatError::UnknownRole { message: index, role, known: ROLES });
        }
        let mut out = message.to_json(self.shape.text_arguments);
        let Some(entries) = out.as_object_mut() else { return Err(ChatError::Content { message: index }) };
        // Most templates know the system's role only, of which this is the newer name.
        if message.role == "developer" && !self.template.source().contains("developer") {
            entries.insert("role".into(), json!("system"));
        }
        let takes = self.shape.contents(&message.role);
        let has_calls =
            entries.get("tool_calls").and_then(Json::as_array).is_some_and(|calls| !calls.is_empty());
        let content = match &message.content {
            Json::Null if has_calls && self.shape.null => Json::Null,
            Json::Null => json!(""),
            Json::String(text) if text.is_empty() && has_calls && self.shape.null => Json::Null,
            Json::String(text) if takes.parts && !takes.text => json!([{"type": "text", "text": text}]),
            Json::String(_) => return Ok(out),
            Json::Array(parts) => {
                let texts = parts.iter().enumerate().map(|(part, value)| text_of(index, part, value));
                let texts = texts.collect::<Result<Vec<_>, _>>()?;
                if takes.parts { message.content.clone() } else { json!(texts.join("\n")) }
            }
            _ => return Err(ChatError::Content { message: index }),
        };
        entries.insert("content".into(), content);
        Ok(out)
    }
}

/// The text of a part of a content.
fn text_of(message: usize, part: usize, value: &Json) -> Result<&str, ChatError> {
    match (value.get("type").and_then(Json::as_str), value.get("text").and_then(Json::as_str)) {
        (Some("text"), Some(text)) => Ok(text),
        (None | Some("text"), _) => Err(ChatError::Content { message }),
        (Some(kind), _) => Err(ChatError::UnsupportedPart { message, part, kind: shorten(kind, 50) }),
    }
}

/// Puts a character behind the last message's text. Gives the character and the text.
fn mark_end(messages: &mut Json, marks: &Marks) -> Result<(char, String), ChatError> {
    let end = marks.free().ok_or(ChatError::NoFreeCharacter)?;
    let last = messages.as_array_mut().and_then(|messages| messages.last_mut());
    let last = last.filter(|last| last.get("role").and_then(Json::as_str) == Some("assistant"));
    let last = last.filter(|last| last.get("tool_calls").is_none_or(Json::is_null));
    let content = match last.and_then(|last| last.get_mut("content")) {
        Some(Json::Array(parts)) => parts.last_mut().and_then(|part| part.get_mut("text")),
        content => content,
    };
    let Some(Json::String(text)) = content else { return Err(ChatError::NothingToContinue) };
    let begun = text.clone();
    text.push(end);
    Ok((end, begun))
}
