//! Messages of blocks, checked and in the form that chat templates take.

use std::collections::HashMap;

use autarky_text::Message;
use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::fields::{Fields, shown, wrong};
use crate::state::RequestLimits;

/// The calls so far, by id: which tool each was of.
type Calls<'a> = HashMap<&'a str, &'a str>;

/// The conversation, the system's text first; and whether its last message is the beginning of the answer.
pub(super) fn parse(fields: &Fields<'_>, limits: &RequestLimits) -> Result<(Vec<Message>, bool), ApiError> {
    fields.required("messages")?;
    let count = fields.array("messages")?.map_or(0, <[Value]>::len);
    if count == 0 {
        return Err(fields.error("messages", "is empty, and must have at least one message"));
    }
    if count > limits.messages {
        let what = format!("has {count} messages, and may have {}", limits.messages);
        return Err(fields.error("messages", what));
    }
    let mut out = Vec::with_capacity(count + 1);
    if let Some(value) = fields.get("system") {
        let text = texts(value, &fields.path("system"))?;
        if !text.is_empty() {
            out.push(Message::new("system", text));
        }
    }
    let mut calls = Calls::new();
    let messages = fields.objects("messages")?;
    for message in &messages {
        message.required("role")?;
        let content = message.required("content")?;
        let path = message.path("content");
        match message.choice("role", &["user", "assistant"])? {
            Some("assistant") => out.push(assistant(content, &path, &mut calls)?),
            _ => user(content, &path, &calls, &mut out)?,
        }
    }
    let last = out.last().filter(|m| m.role == "assistant" && !m.extra.contains_key("tool_calls"));
    let continues = last.is_some_and(|m| m.content.as_str().is_some_and(|text| !text.is_empty()));
    Ok((out, continues))
}

/// A text, or blocks of text.
fn texts(value: &Value, path: &str) -> Result<String, ApiError> {
    let blocks = match value {
        Value::String(text) => return Ok(text.clone()),
        Value::Array(blocks) => blocks,
        other => return Err(wrong(path, other, "a string or an array of blocks")),
    };
    let text = |(i, block): (usize, &Value)| {
        let block = Fields::at(block, format!("{path}[{i}]"))?;
        match block.required_string("type")? {
            "text" => Ok(block.required_string("text")?.to_owned()),
            kind => Err(unsupported(&block, kind)),
        }
    };
    let texts: Vec<String> = blocks.iter().enumerate().map(text).collect::<Result<_, _>>()?;
    Ok(texts.join("\n"))
}

fn unsupported(block: &Fields<'_>, kind: &str) -> ApiError {
    let what = format!("is `{}`, which no model here reads; send text", shown(kind));
    block.error("type", what).code("unsupported_content")
}

/// A user's message: results of tools as messages of their own, then the text.
fn user(content: &Value, path: &str, calls: &Calls<'_>, out: &mut Vec<Message>) -> Result<(), ApiError> {
    let blocks = match content {
        Value::String(text) => return Ok(out.push(Message::new("user", text.clone()))),
        Value::Array(blocks) => blocks,
        other => return Err(wrong(path, other, "a string or an array of blocks")),
    };
    if blocks.is_empty() {
        return Err(ApiError::parameter(path, "is empty, and must have at least one block"));
    }
    let mut said = Vec::new();
    for (i, block) in blocks.iter().enumerate() {
        let block = Fields::at(block, format!("{path}[{i}]"))?;
        match block.required_string("type")? {
            "text" => said.push(block.required_string("text")?.to_owned()),
            "tool_result" => out.push(result(&block, calls)?),
            "document" => said.push(document(&block)?),
            kind => return Err(unsupported(&block, kind)),
        }
    }
    if !said.is_empty() {
        out.push(Message::new("user", said.join("\n")));
    }
    Ok(())
}

/// What a tool answered.
fn result(block: &Fields<'_>, calls: &Calls<'_>) -> Result<Message, ApiError> {
    let id = block.required_string("tool_use_id")?;
    let Some(name) = calls.get(id) else {
        let what = "answers no call: a `tool_use` block of an earlier message must have this id";
        return Err(block.error("tool_use_id", what));
    };
    let mut text = match block.get("content") {
        None => String::new(),
        Some(value) => texts(value, &block.path("content"))?,
    };
    if block.boolean("is_error")?.unwrap_or(false) {
        text = format!("Error: {text}");
    }
    let mut message = Message::new("tool", text);
    message.extra.insert("tool_call_id".to_owned(), json!(id));
    message.extra.insert("name".to_owned(), json!(name));
    Ok(message)
}

/// A document of plain text.
fn document(block: &Fields<'_>) -> Result<String, ApiError> {
    let source = block.required_object("source")?;
    match source.required_string("type")? {
        "text" => {
            let title = block.string("title")?.map(|title| format!("{title}\n\n")).unwrap_or_default();
            Ok(format!("{title}{}", source.required_string("data")?))
        }
        kind => Err(unsupported(&source, kind)),
    }
}

/// What the model said, thought and called.
fn assistant<'a>(content: &'a Value, path: &str, calls: &mut Calls<'a>) -> Result<Message, ApiError> {
    let blocks = match content {
        Value::String(text) => return Ok(Message::new("assistant", text.clone())),
        Value::Array(blocks) => blocks,
        other => return Err(wrong(path, other, "a string or an array of blocks")),
    };
    let (mut said, mut thought, mut made) = (Vec::new(), Vec::new(), Vec::new());
    for (i, block) in blocks.iter().enumerate() {
        let block = Fields::at(block, format!("{path}[{i}]"))?;
        match block.required_string("type")? {
            "text" => said.push(block.required_string("text")?),
            "thinking" => thought.push(block.required_string("thinking")?),
            // Nobody here can read it.
            "redacted_thinking" => {}
            "tool_use" => {
                let (id, name) = (block.required_string("id")?, block.required_string("name")?);
                let input = Value::Object(block.required_object("input")?.map().clone());
                calls.insert(id, name);
                let function = json!({"name": name, "arguments": input.to_string()});
                made.push(json!({"id": id, "type": "function", "function": function}));
            }
            kind => return Err(unsupported(&block, kind)),
        }
    }
    let mut extra = Map::new();
    if !thought.is_empty() {
        extra.insert("reasoning_content".to_owned(), json!(thought.join("\n")));
    }
    if !made.is_empty() {
        extra.insert("tool_calls".to_owned(), Value::Array(made));
    }
    Ok(Message { role: "assistant".to_owned(), content: json!(said.join("\n")), extra })
}
