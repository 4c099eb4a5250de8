//! The items of a conversation, checked and in the form that chat templates take.

use std::collections::HashMap;

use autarky_text::Message;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::fields::{Fields, shown, wrong};
use crate::ids;
use crate::state::RequestLimits;

/// The messages of `input`, and its items, each with a name.
pub(super) fn parse(
    fields: &Fields<'_>,
    limits: &RequestLimits,
) -> Result<(Vec<Message>, Vec<Value>), ApiError> {
    let items = match fields.required("input")? {
        Value::String(text) => {
            let content = json!([{"type": "input_text", "text": text}]);
            let item = json!({"id": ids::name("msg_"), "type": "message", "status": "completed", "role": "user", "content": content});
            return Ok((vec![Message::new("user", text.clone())], vec![item]));
        }
        Value::Array(items) => items,
        other => return Err(wrong("input", other, "a string or an array of items")),
    };
    if items.is_empty() || items.len() > limits.messages {
        let what = format!("has {} items, and must have between 1 and {}", items.len(), limits.messages);
        return Err(fields.error("input", what));
    }
    let mut reader = Reader::default();
    for (i, item) in items.iter().enumerate() {
        reader.item(&Fields::at(item, format!("input[{i}]"))?)?;
    }
    Ok((reader.messages, items.iter().map(named).collect()))
}

/// An item as it is told again.
fn named(item: &Value) -> Value {
    let mut item = item.clone();
    if let Some(map) = item.as_object_mut() {
        map.entry("type").or_insert_with(|| json!("message"));
        map.entry("id").or_insert_with(|| json!(ids::name("item_")));
        if let Some(Value::String(text)) = map.get("content") {
            let kind =
                if map.get("role") == Some(&json!("assistant")) { "output_text" } else { "input_text" };
            let content = json!([{"type": kind, "text": text}]);
            map.insert("content".to_owned(), content);
        }
    }
    item
}

/// Checks that results of functions belong to calls, and tells them the functions' names.
///
/// # Errors
/// Names the first that belongs to none.
pub(super) fn link(messages: &mut [Message]) -> Result<(), ApiError> {
    let mut calls: HashMap<String, String> = HashMap::new();
    for message in messages {
        let text = |call: &Value, at: &str| call.pointer(at).and_then(Value::as_str).map(str::to_owned);
        for call in message.extra.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            if let (Some(id), Some(name)) = (text(call, "/id"), text(call, "/function/name")) {
                calls.insert(id, name);
            }
        }
        if message.role != "tool" {
            continue;
        }
        let id = message.extra.get("tool_call_id").and_then(Value::as_str).unwrap_or_default();
        let Some(name) = calls.get(id) else {
            let what = format!(
                "has an output for the call `{}`, and no `function_call` with this `call_id` before it",
                shown(id)
            );
            return Err(ApiError::parameter("input", what));
        };
        let name = json!(name);
        message.extra.insert("name".to_owned(), name);
    }
    Ok(())
}

/// Puts items together to messages.
#[derive(Default)]
struct Reader {
    messages: Vec<Message>,
    /// What the model thought before the message that is still to come.
    thought: Option<String>,
}

impl Reader {
    fn item(&mut self, item: &Fields<'_>) -> Result<(), ApiError> {
        match item.string("type")?.unwrap_or("message") {
            "message" => self.message(item),
            "function_call" => self.call(item),
            "function_call_output" => {
                let id = item.required_string("call_id")?;
                let output = content(item.required("output")?, &item.path("output"))?;
                let mut message =
                    Message { role: "tool".to_owned(), content: output, extra: Default::default() };
                message.extra.insert("tool_call_id".to_owned(), json!(id));
                self.messages.push(message);
                Ok(())
            }
            "reasoning" => {
                let mut texts = Vec::new();
                for part in item.objects("content")? {
                    texts.push(part.required_string("text")?);
                }
                self.thought = (!texts.is_empty()).then(|| texts.join("\n"));
                Ok(())
            }
            kind => {
                let what = format!(
                    "is `{}`, and must be one of: message, function_call, function_call_output, reasoning",
                    shown(kind)
                );
                Err(item.error("type", what).code("unsupported_item"))
            }
        }
    }

    fn message(&mut self, item: &Fields<'_>) -> Result<(), ApiError> {
        item.required("role")?;
        let role = item.choice("role", &["system", "developer", "user", "assistant"])?.unwrap_or("user");
        let content = content(item.required("content")?, &item.path("content"))?;
        let mut message = Message { role: role.to_owned(), content, extra: Default::default() };
        if role == "assistant" {
            self.think(&mut message);
        }
        self.messages.push(message);
        Ok(())
    }

    fn think(&mut self, message: &mut Message) {
        if let Some(thought) = self.thought.take() {
            message.extra.insert("reasoning_content".to_owned(), json!(thought));
        }
    }

    /// Calls belong to the assistant's message that they follow.
    fn call(&mut self, item: &Fields<'_>) -> Result<(), ApiError> {
        let id = item.required_string("call_id")?;
        let name = item.required_string("name")?;
        let arguments = item.required_string("arguments")?;
        let call = json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        if self.messages.last().is_none_or(|last| last.role != "assistant") {
            let mut message = Message::new("assistant", "");
            message.content = Value::Null;
            self.think(&mut message);
            self.messages.push(message);
        }
        if let Some(last) = self.messages.last_mut() {
            let calls = last.extra.entry("tool_calls").or_insert_with(|| json!([]));
            if let Some(calls) = calls.as_array_mut() {
                calls.push(call);
            }
        }
        Ok(())
    }
}

/// A content: a string as it is, or a list of parts of text.
fn content(value: &Value, path: &str) -> Result<Value, ApiError> {
    let parts = match value {
        Value::String(_) => return Ok(value.clone()),
        Value::Array(parts) if parts.is_empty() => return Ok(json!("")),
        Value::Array(parts) => parts,
        other => return Err(wrong(path, other, "a string or an array of parts")),
    };
    let part = |(i, part): (usize, &Value)| {
        let part = Fields::at(part, format!("{path}[{i}]"))?;
        let text = match part.required_string("type")? {
            "input_text" | "output_text" | "text" => part.required_string("text")?,
            "refusal" => part.required_string("refusal")?,
            kind => {
                let what = format!("is `{}`, which no model here reads; send text", shown(kind));
                return Err(part.error("type", what).code("unsupported_content"));
            }
        };
        Ok(json!({"type": "text", "text": text}))
    };
    parts.iter().enumerate().map(part).collect()
}
