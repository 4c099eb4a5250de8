//! The messages of a conversation, checked and in the form that chat templates take.

use std::collections::HashMap;

use autarky_text::Message;
use serde_json::{Map, Value, json};

use super::blocks::{self, Block, Role};
use crate::error::ApiError;
use crate::fields::{Fields, shown};
use crate::state::RequestLimits;

/// Messages in the form of chat templates.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) messages: Vec<Message>,
    /// The last one is the assistant's, and the answer goes on from there.
    pub(super) prefilled: bool,
}

/// Messages that follow each other and have one role.
struct Turn<'a> {
    role: Role,
    /// Where its last message is.
    place: String,
    blocks: Vec<Block<'a>>,
}

/// `system` and `messages` of a request.
pub(super) fn parse(fields: &Fields<'_>, limits: &RequestLimits) -> Result<Said, ApiError> {
    let system = blocks::text(fields, "system")?;
    let mut messages = Vec::new();
    if !system.is_empty() {
        messages.push(Message::new("system", system));
    }
    let mut turns = turns(fields, limits)?;
    let prefilled = prefill(&mut turns)?;
    if turns.is_empty() {
        return Err(fields.error("messages", "at least one message with content is required"));
    }
    // The calls that wait for a result: which tool each is of.
    let mut calls = HashMap::new();
    let mut caller: Option<&str> = None;
    for turn in &turns {
        if turn.role != Role::User {
            answered(caller, &calls)?;
        }
        match turn.role {
            Role::System => messages.push(Message::new("system", text(turn))),
            Role::Assistant => messages.push(assistant(turn, &mut calls)),
            Role::User => {
                messages.extend(results(turn, &mut calls)?);
                answered(caller, &calls)?;
                let said = text(turn);
                if !said.is_empty() {
                    messages.push(Message::new("user", said));
                }
            }
        }
        caller = Some(&turn.place);
    }
    answered(caller, &calls)?;
    Ok(Said { messages, prefilled })
}

fn turns<'a>(fields: &Fields<'a>, limits: &RequestLimits) -> Result<Vec<Turn<'a>>, ApiError> {
    fields.required("messages")?;
    let count = fields.array("messages")?.map_or(0, <[Value]>::len);
    if count > limits.messages {
        let what = format!("has {count} messages, and may have {}", limits.messages);
        return Err(fields.error("messages", what));
    }
    let mut turns: Vec<Turn<'_>> = Vec::new();
    for (index, message) in fields.objects("messages")?.into_iter().enumerate() {
        message.only(&[&["role", "content"]])?;
        message.required_string("role")?;
        let role = match message.choice("role", &["user", "assistant", "system"])? {
            Some("assistant") => Role::Assistant,
            Some("system") => Role::System,
            _ => Role::User,
        };
        let blocks = blocks::parse(&message, role)?;
        let empty = |block: &Block<'_>| matches!(block, Block::Text(""));
        // An answer may have been empty.
        if role != Role::Assistant && blocks.iter().all(empty) {
            return Err(message.error("content", "must not be empty"));
        }
        let place = format!("messages[{index}]");
        match turns.last_mut().filter(|last| last.role == role) {
            Some(last) => {
                last.blocks.extend(blocks);
                last.place = place;
            }
            None => turns.push(Turn { role, place, blocks }),
        }
    }
    Ok(turns)
}

/// Whether the last turn is the beginning of the answer. If it says nothing, it is taken away.
fn prefill(turns: &mut Vec<Turn<'_>>) -> Result<bool, ApiError> {
    let Some(last) = turns.last().filter(|turn| turn.role == Role::Assistant) else { return Ok(false) };
    let calls = last.blocks.iter().any(|block| matches!(block, Block::Use { .. }));
    if calls || !text(last).is_empty() {
        // Calls without results are refused later.
        return Ok(true);
    }
    if !last.blocks.iter().all(|block| matches!(block, Block::Text(_))) {
        let what =
            "is the last message and has `thinking` alone; end it with a `text` block, or leave it out";
        return Err(ApiError::parameter(&last.place, what));
    }
    turns.pop();
    Ok(false)
}

/// The text of a turn.
fn text(turn: &Turn<'_>) -> String {
    join(turn, |block| match block {
        Block::Text(text) => Some(text),
        _ => None,
    })
}

fn join<'a>(turn: &Turn<'a>, of: impl Fn(&Block<'a>) -> Option<&'a str>) -> String {
    let texts: Vec<&str> = turn.blocks.iter().filter_map(of).filter(|text| !text.is_empty()).collect();
    texts.join("\n")
}

/// The assistant's turn. `calls` hears of its calls.
fn assistant<'a>(turn: &Turn<'a>, calls: &mut HashMap<&'a str, &'a str>) -> Message {
    let mut extra = Map::new();
    let thought = join(turn, |block| match block {
        Block::Thinking(text) => Some(text),
        _ => None,
    });
    if !thought.is_empty() {
        extra.insert("reasoning_content".to_owned(), json!(thought));
    }
    let mut made = Vec::new();
    for block in &turn.blocks {
        if let Block::Use { id, name, input } = block {
            calls.insert(id, name);
            let function = json!({"name": name, "arguments": input.to_string()});
            made.push(json!({"id": id, "type": "function", "function": function}));
        }
    }
    if !made.is_empty() {
        extra.insert("tool_calls".to_owned(), Value::Array(made));
    }
    Message { role: "assistant".to_owned(), content: Value::String(text(turn)), extra }
}

/// What tools answered in a turn, each as a message of its own. Answered calls are taken out of `calls`.
fn results<'a>(turn: &Turn<'a>, calls: &mut HashMap<&'a str, &'a str>) -> Result<Vec<Message>, ApiError> {
    let mut messages = Vec::new();
    for block in &turn.blocks {
        let Block::Result { id, text, place } = block else { continue };
        let Some(name) = calls.remove(id) else {
            let what = "answers no call: each `tool_result` block must have its `tool_use` block in the message before, \
                        and each `tool_use` block one result";
            return Err(place.error("tool_use_id", what));
        };
        let mut message = Message::new("tool", text.as_str());
        message.extra.insert("tool_call_id".to_owned(), json!(id));
        message.extra.insert("name".to_owned(), json!(name));
        messages.push(message);
    }
    Ok(messages)
}

/// Checks that no call waits for a result.
fn answered(caller: Option<&str>, calls: &HashMap<&str, &str>) -> Result<(), ApiError> {
    let (Some(place), Some(id)) = (caller, calls.keys().min()) else { return Ok(()) };
    let what = format!(
        "has the `tool_use` block `{}` and no `tool_result` block with this id in the next message, which must follow",
        shown(id)
    );
    Err(ApiError::parameter(place, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(body: &Value) -> Result<Said, ApiError> {
        parse(&Fields::root(body).unwrap(), &RequestLimits::default())
    }

    fn plain(said: &Said) -> Vec<(&str, &str)> {
        said.messages.iter().map(|m| (m.role.as_str(), m.content.as_str().unwrap())).collect()
    }

    #[test]
    fn turns_become_messages_of_templates() {
        let body = json!({
            "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "Be kind."}],
            "messages": [
                {"role": "user", "content": "One."},
                {"role": "user", "content": [{"type": "text", "text": "Two."}, {"type": "text", "text": ""}]},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": "xyz"},
                    {"type": "redacted_thinking", "data": "abc"},
                    {"type": "text", "text": "I look.", "citations": null},
                    {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": [1]}},
                    {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
                ]},
                {"role": "user", "content": [
                    {"type": "text", "text": "There."},
                    {"type": "tool_result", "tool_use_id": "t2", "content": "bad", "is_error": true},
                    {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "7"}]},
                ]},
                {"role": "assistant", "content": "It is"},
            ],
        });
        let said = said(&body).unwrap();
        let expected = [
            ("system", "Be brief.\nBe kind."),
            ("user", "One.\nTwo."),
            ("assistant", "I look."),
            ("tool", "Error: bad"),
            ("tool", "7"),
            ("user", "There."),
            ("assistant", "It is"),
        ];
        assert_eq!(plain(&said), expected);
        assert!(said.prefilled);
        let calling = &said.messages[2].extra;
        assert_eq!(calling["reasoning_content"], "Hm.");
        assert_eq!(calling["tool_calls"][0]["function"], json!({"name": "f", "arguments": "{\"a\":[1]}"}));
        assert_eq!(said.messages[3].extra["name"], "g");
        assert_eq!(said.messages[3].extra["tool_call_id"], "t2");
    }

    #[test]
    fn an_empty_last_answer_is_none() {
        for content in [json!(""), json!([]), json!([{"type": "text", "text": ""}])] {
            let body = json!({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": content}]});
            let said = said(&body).unwrap();
            assert_eq!((plain(&said), said.prefilled), (vec![("user", "Hi")], false));
        }
        let alone = json!({"messages": [{"role": "assistant", "content": ""}]});
        assert_eq!(said(&alone).unwrap_err().param.as_deref(), Some("messages"));
    }

    #[test]
    fn each_call_has_one_result_in_the_next_turn() {
        let user = json!({"role": "user", "content": "Hi"});
        let call = json!({"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]});
        let result = json!({"type": "tool_result", "tool_use_id": "t"});
        let answer = json!({"role": "user", "content": [result]});
        let place =
            |messages: Value| said(&json!({"messages": messages})).map(|_| ()).map_err(|e| e.param.unwrap());
        assert_eq!(place(json!([user, call, answer])), Ok(()));
        assert_eq!(place(json!([user, call])), Err("messages[1]".to_owned()));
        assert_eq!(place(json!([user, call, user])), Err("messages[1]".to_owned()));
        let system = json!({"role": "system", "content": "Now."});
        assert_eq!(place(json!([user, call, system, answer])), Err("messages[1]".to_owned()));
        assert_eq!(place(json!([answer])), Err("messages[0].content[0].tool_use_id".to_owned()));
        let twice = json!({"role": "user", "content": [result, result]});
        assert_eq!(place(json!([user, call, twice])), Err("messages[2].content[1].tool_use_id".to_owned()));
        let late = json!([user, call, answer, {"role": "assistant", "content": "Yes."}, answer]);
        assert_eq!(place(late), Err("messages[4].content[0].tool_use_id".to_owned()));
    }
}
