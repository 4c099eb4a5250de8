//! The messages of a conversation, checked and in the form that chat templates take.

use std::collections::HashMap;

use autarky_text::Message;
use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::fields::{Fields, wrong};
use crate::state::RequestLimits;

const ROLES: &[&str] = &["system", "developer", "user", "assistant", "tool"];

/// The messages of `fields`, which must be there.
pub(super) fn parse(fields: &Fields<'_>, limits: &RequestLimits) -> Result<Vec<Message>, ApiError> {
    fields.required("messages")?;
    let count = fields.array("messages")?.map_or(0, <[Value]>::len);
    if count == 0 {
        return Err(fields.error("messages", "is empty, and must have at least one message"));
    }
    if count > limits.messages {
        let what = format!("has {count} messages, and may have {}", limits.messages);
        return Err(fields.error("messages", what));
    }
    // The calls so far, by id: which function each was of.
    let mut calls = HashMap::new();
    fields.objects("messages")?.iter().map(|message| one(message, &mut calls)).collect()
}

fn one<'a>(message: &Fields<'a>, calls: &mut HashMap<&'a str, &'a str>) -> Result<Message, ApiError> {
    let role = message.required_string("role")?;
    if message.choice("role", &[ROLES, &["function"]].concat())? == Some("function") {
        return Err(message.error("role", "`function` was replaced by `tool`; send that"));
    }
    let mut extra = Map::new();
    if let Some(name) = message.string("name")? {
        extra.insert("name".to_owned(), json!(name));
    }
    let mut content_may_lack = false;
    match role {
        "assistant" => {
            let made = tool_calls(message, calls)?;
            content_may_lack = !made.is_empty() || message.get("refusal").is_some();
            if !made.is_empty() {
                extra.insert("tool_calls".to_owned(), Value::Array(made));
            }
            // As this and other servers tell it.
            let reasoning = message.string("reasoning_content")?;
            if let Some(reasoning) = reasoning.filter(|text| !text.is_empty()) {
                extra.insert("reasoning_content".to_owned(), json!(reasoning));
            }
        }
        "tool" => {
            let id = message.required_string("tool_call_id")?;
            let Some(function) = calls.get(id) else {
                let what = "answers no call: a message of the role `tool` must follow the assistant's message whose \
                            `tool_calls` have this id";
                return Err(message.error("tool_call_id", what));
            };
            extra.insert("tool_call_id".to_owned(), json!(id));
            extra.entry("name").or_insert_with(|| json!(function));
        }
        _ => {}
    }
    let content = match message.get("content") {
        None if content_may_lack => message.get("refusal").cloned().unwrap_or(Value::Null),
        None => {
            return Err(message.required("content").err().unwrap_or_else(|| ApiError::invalid("content")));
        }
        Some(value) => content(value, &message.path("content"), role)?,
    };
    Ok(Message { role: role.to_owned(), content, extra })
}

/// A content: a string as it is, or a list of parts of text.
fn content(value: &Value, path: &str, role: &str) -> Result<Value, ApiError> {
    let parts = match value {
        Value::String(_) => return Ok(value.clone()),
        Value::Array(parts) => parts,
        other => return Err(wrong(path, other, "a string or an array of parts")),
    };
    if parts.is_empty() {
        return Err(ApiError::parameter(path, "is empty, and must have at least one part"));
    }
    let part = |(i, part): (usize, &Value)| {
        let part = Fields::at(part, format!("{path}[{i}]"))?;
        let text = match part.required_string("type")? {
            "text" => part.required_string("text")?,
            "refusal" if role == "assistant" => part.required_string("refusal")?,
            "image_url" | "input_audio" | "file" => {
                let what = "no model here reads images, audio or files; send text";
                return Err(part.error("type", what).code("unsupported_content"));
            }
            _ => {
                part.choice("type", &["text", "refusal"])?;
                return Err(part.error("type", "is not what this role may send"));
            }
        };
        Ok(json!({"type": "text", "text": text}))
    };
    parts.iter().enumerate().map(part).collect()
}

/// The calls that an assistant made.
fn tool_calls<'a>(
    message: &Fields<'a>,
    calls: &mut HashMap<&'a str, &'a str>,
) -> Result<Vec<Value>, ApiError> {
    let mut made = Vec::new();
    for call in message.objects("tool_calls")? {
        let id = call.required_string("id")?;
        call.choice("type", &["function"])?;
        let function = call.required_object("function")?;
        let name = function.required_string("name")?;
        let arguments = function.required_string("arguments")?;
        calls.insert(id, name);
        let function = json!({"name": name, "arguments": arguments});
        made.push(json!({"id": id, "type": "function", "function": function}));
    }
    Ok(made)
}
