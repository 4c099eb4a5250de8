//! Tools for models whose chat template has no place for them: they are told of them in the system's message, and calls
//! and results are written into the messages as text.

use autarky_text::{AnswerFormat, Message};
use serde_json::{Value, json};

use super::ask::Conversation;

/// `conversation` in messages of text alone.
pub(super) fn tools(conversation: &Conversation, format: AnswerFormat) -> Conversation {
    let mut messages: Vec<Message> =
        conversation.messages.iter().map(|message| plain(message, format)).collect();
    if let Some(Value::Array(tools)) = conversation.offered() {
        let taught = lesson(&tools, format);
        let first = messages.first_mut().filter(|m| matches!(m.role.as_str(), "system" | "developer"));
        match first.map(|first| &mut first.content) {
            Some(Value::String(text)) => *text = format!("{text}\n\n{taught}"),
            Some(Value::Array(parts)) => parts.push(json!({"type": "text", "text": taught})),
            _ => messages.insert(0, Message::new("system", taught)),
        }
    }
    Conversation { messages, ..conversation.clone() }
}

fn lesson(tools: &[Value], format: AnswerFormat) -> String {
    let tools: Vec<String> = tools.iter().map(Value::to_string).collect();
    let call = written(format, "NAME", "ARGUMENTS");
    format!(
        "You may call these functions:\n<tools>\n{}\n</tools>\nTo call one, write its name and a JSON object of \
         arguments like this:\n{call}",
        tools.join("\n")
    )
}

/// A call as the model writes it.
fn written(format: AnswerFormat, name: &str, arguments: &str) -> String {
    let s = format.call_syntax();
    [s.begin, s.before_name, name, s.between, arguments, s.after, s.end].concat()
}

/// A message without calls: they are part of its text.
fn plain(message: &Message, format: AnswerFormat) -> Message {
    if message.role == "tool" {
        let text = text(&message.content);
        return Message::new("user", format!("<tool_response>\n{text}\n</tool_response>"));
    }
    let Some(Value::Array(calls)) = message.extra.get("tool_calls") else { return message.clone() };
    let mut said = vec![text(&message.content)];
    said.retain(|text| !text.is_empty());
    for call in calls {
        let part = |name: &str| call.pointer(&format!("/function/{name}")).and_then(Value::as_str);
        said.push(written(format, part("name").unwrap_or_default(), part("arguments").unwrap_or("{}")));
    }
    Message::new(message.role.clone(), said.join("\n"))
}

fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(|p| p.get("text")?.as_str()).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}
