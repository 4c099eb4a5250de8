//! The content blocks of a request's messages.

use serde_json::Value;

use crate::error::ApiError;
use crate::fields::{Fields, shown, wrong};

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    System,
    User,
    Assistant,
}

/// A block that the model may read.
#[derive(Clone, Debug)]
pub(super) enum Block<'a> {
    Text(&'a str),
    /// What the model wrote to itself.
    Thinking(&'a str),
    /// A call of a tool.
    Use {
        id: &'a str,
        name: &'a str,
        /// An object.
        input: &'a Value,
    },
    /// What a tool answered.
    Result {
        /// Of the call.
        id: &'a str,
        text: String,
        /// Where it is.
        place: Fields<'a>,
    },
}

/// The blocks of `message`'s content. A string is as good as one block of text.
pub(super) fn parse<'a>(message: &Fields<'a>, role: Role) -> Result<Vec<Block<'a>>, ApiError> {
    match message.required("content")? {
        Value::String(text) => Ok(vec![Block::Text(text)]),
        Value::Array(_) => {
            let blocks = message.objects("content")?;
            blocks.iter().filter_map(|block| one(block, role).transpose()).collect()
        }
        other => Err(wrong(&message.path("content"), other, "a string or an array of content blocks")),
    }
}

/// The text of `name`: a string, or blocks of text, joined by line breaks. Empty if there is none.
pub(super) fn text(fields: &Fields<'_>, name: &str) -> Result<String, ApiError> {
    match fields.get(name) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(_)) => {
            let blocks = fields.objects(name)?;
            let text = |block: &Fields<'_>| match one(block, Role::System)? {
                Some(Block::Text(text)) => Ok(text.to_owned()),
                _ => Err(block.error("type", "must be `text`")),
            };
            Ok(blocks.iter().map(text).collect::<Result<Vec<String>, ApiError>>()?.join("\n"))
        }
        Some(other) => Err(wrong(&fields.path(name), other, "a string or an array of text blocks")),
    }
}

/// A block; `None` if it has nothing to be read.
fn one<'a>(block: &Fields<'a>, role: Role) -> Result<Option<Block<'a>>, ApiError> {
    const ANY: &[&str] = &["type", "cache_control"];
    let kind = block.required_string("type")?;
    let found = match (kind, role) {
        ("text", _) => {
            block.only(&[ANY, &["text", "citations"]])?;
            Block::Text(block.required_string("text")?)
        }
        ("thinking", Role::Assistant) => {
            block.only(&[ANY, &["thinking", "signature"]])?;
            block.string("signature")?;
            Block::Thinking(block.required_string("thinking")?)
        }
        ("redacted_thinking", Role::Assistant) => {
            block.only(&[ANY, &["data"]])?;
            block.string("data")?;
            return Ok(None);
        }
        ("tool_use", Role::Assistant) => {
            block.only(&[ANY, &["id", "name", "input", "caller", "toolset_name"]])?;
            let (id, name) = (block.required_string("id")?, block.required_string("name")?);
            block.required_object("input")?;
            Block::Use { id, name, input: block.required("input")? }
        }
        ("tool_result", Role::User) => {
            block.only(&[ANY, &["tool_use_id", "content", "is_error", "toolset_name"]])?;
            result(block)?
        }
        _ => return Err(block.error("type", misplaced(kind, role)).code("invalid_value")),
    };
    Ok(Some(found))
}

fn result<'a>(block: &Fields<'a>) -> Result<Block<'a>, ApiError> {
    let id = block.required_string("tool_use_id")?;
    let mut text = text(block, "content")?;
    // Chat templates have no place for it but the text.
    let says_so = text.trim_start().get(..5).is_some_and(|start| start.eq_ignore_ascii_case("error"));
    if block.boolean("is_error")?.unwrap_or(false) && !says_so {
        text.insert_str(0, "Error: ");
    }
    Ok(Block::Result { id, text, place: block.clone() })
}

/// Why a block of this kind cannot be here.
fn misplaced(kind: &str, role: Role) -> String {
    match kind {
        "thinking" | "redacted_thinking" | "tool_use" => {
            format!("is `{kind}`, which only messages of the role `assistant` may have")
        }
        "tool_result" => "is `tool_result`, which only messages of the role `user` may have".to_owned(),
        "image" | "document" | "search_result" | "container_upload" => {
            format!("is `{kind}`, and no model here reads anything but text; send a `text` block")
        }
        kind if kind.starts_with("server_tool") || kind.ends_with("_tool_result") => {
            format!("is `{}`, of a tool that Anthropic's servers run; there is none here", shown(kind))
        }
        kind => {
            let known = match role {
                Role::System => "text",
                Role::User => "text, tool_result",
                Role::Assistant => "text, thinking, redacted_thinking, tool_use",
            };
            format!("is `{}`, and must be one of: {known}", shown(kind))
        }
    }
}
