//! From items to the messages that chat templates take.

use std::collections::HashMap;

use autarky_text::Message;
use serde_json::{Map, Value, json};

use super::items::{Call, Item, Placed, Role};
use crate::error::ApiError;

/// The messages that `items` come to, after `instructions`.
///
/// The items of one turn of the model, its reasoning, words and calls, are one message. Instructions that follow one
/// another are one message, too: many templates have a place for one only.
///
/// # Errors
/// When the result of a tool belongs to no call.
pub(super) fn messages(instructions: Option<&str>, items: &[Placed]) -> Result<Vec<Message>, ApiError> {
    let mut out = Messages::default();
    if let Some(text) = instructions {
        out.instruct(Role::System, text.to_owned());
    }
    for placed in items {
        out.add(placed)?;
    }
    out.end_turn();
    Ok(out.messages)
}

#[derive(Default)]
struct Messages<'a> {
    messages: Vec<Message>,
    turn: Option<Turn<'a>>,
    /// The calls so far, by id: which tool each was of.
    calls: HashMap<&'a str, &'a str>,
}

/// What the model said and did in one go.
#[derive(Default)]
struct Turn<'a> {
    reasoning: String,
    texts: Option<&'a [String]>,
    calls: Vec<Value>,
}

impl<'a> Messages<'a> {
    fn add(&mut self, placed: &'a Placed) -> Result<(), ApiError> {
        match &placed.item {
            Item::Message { role: Role::Assistant, texts } => {
                self.turn(|turn| turn.texts.is_none()).texts = Some(texts);
            }
            Item::Message { role: Role::User, texts } => self.say(Message {
                role: Role::User.name().to_owned(),
                content: content(texts),
                extra: Map::new(),
            }),
            Item::Message { role, texts } => self.instruct(*role, texts.join("\n")),
            Item::Reasoning { text } => {
                let turn = self.turn(|turn| turn.texts.is_none() && turn.calls.is_empty());
                turn.reasoning.push_str(text);
            }
            Item::Call(call) => {
                self.calls.insert(&call.id, &call.name);
                self.turn(|_| true).calls.push(called(call));
            }
            Item::Output { call, texts, .. } => {
                let Some(tool) = self.calls.get(call.as_str()) else {
                    let what = "answers no call: an item with the call's `call_id` must come before it, in `input` or \
                                in the response that `previous_response_id` names";
                    return Err(ApiError::parameter(placed.path("call_id"), what));
                };
                let mut extra = Map::new();
                extra.insert("tool_call_id".to_owned(), json!(call));
                extra.insert("name".to_owned(), json!(tool));
                self.say(Message { role: "tool".to_owned(), content: content(texts), extra });
            }
            // They have been replaced by what they refer to.
            Item::Reference { .. } => {}
        }
        Ok(())
    }

    /// The model's turn, or a new one where more does not `fit` into it.
    fn turn(&mut self, fits: impl Fn(&Turn<'a>) -> bool) -> &mut Turn<'a> {
        if self.turn.as_ref().is_some_and(|turn| !fits(turn)) {
            self.end_turn();
        }
        self.turn.get_or_insert_default()
    }

    fn end_turn(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        let mut extra = Map::new();
        if !turn.reasoning.is_empty() {
            extra.insert("reasoning_content".to_owned(), json!(turn.reasoning));
        }
        let content = match turn.texts {
            Some(texts) => content(texts),
            None if turn.calls.is_empty() => json!(""),
            None => Value::Null,
        };
        if !turn.calls.is_empty() {
            extra.insert("tool_calls".to_owned(), Value::Array(turn.calls));
        }
        self.messages.push(Message { role: Role::Assistant.name().to_owned(), content, extra });
    }

    fn say(&mut self, message: Message) {
        self.end_turn();
        self.messages.push(message);
    }

    fn instruct(&mut self, role: Role, text: String) {
        self.end_turn();
        let last = self.messages.last_mut();
        let last = last.filter(|m| [Role::System.name(), Role::Developer.name()].contains(&m.role.as_str()));
        match last.map(|message| &mut message.content) {
            Some(Value::String(before)) => {
                before.push_str("\n\n");
                before.push_str(&text);
            }
            _ => self.messages.push(Message::new(role.name(), text)),
        }
    }
}

fn content(texts: &[String]) -> Value {
    match texts {
        [text] => json!(text),
        texts => texts.iter().map(|text| json!({"type": "text", "text": text})).collect(),
    }
}

/// A call as chat templates have it.
fn called(call: &Call) -> Value {
    let arguments = match call.custom {
        // The one argument that custom tools have as functions.
        true => json!({"input": call.input}).to_string(),
        false => call.input.clone(),
    };
    let function = json!({"name": call.name, "arguments": arguments});
    json!({"id": call.id, "type": "function", "function": function})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(item: Item) -> Placed {
        Placed { id: None, index: Some(7), item }
    }

    fn call(id: &str, custom: bool) -> Placed {
        let (name, input) = (format!("tool of {id}"), "{}".to_owned());
        placed(Item::Call(Call { id: id.to_owned(), name, input, custom }))
    }

    fn output(id: &str) -> Placed {
        placed(Item::Output { call: id.to_owned(), texts: vec!["7".to_owned()], custom: false })
    }

    fn reasoning(text: &str) -> Placed {
        placed(Item::Reasoning { text: text.to_owned() })
    }

    #[test]
    fn a_turn_is_one_message() {
        let items = [
            Placed::message(Role::Developer, "b"),
            Placed::message(Role::User, "c"),
            reasoning("d"),
            Placed::message(Role::Assistant, "e"),
            call("1", false),
            call("2", true),
            output("2"),
            output("1"),
            reasoning("f"),
            call("3", false),
            reasoning("g"),
            Placed::message(Role::Assistant, "h"),
            Placed::message(Role::Assistant, "i"),
        ];
        let said: Vec<Value> = messages(Some("a"), &items)
            .unwrap()
            .iter()
            .map(|m| {
                let calls = m.extra.get("tool_calls").and_then(Value::as_array);
                let calls: Vec<&Value> =
                    calls.into_iter().flatten().map(|c| &c["function"]["arguments"]).collect();
                json!([m.role, m.content, m.extra.get("reasoning_content"), m.extra.get("name"), calls])
            })
            .collect();
        let expected = json!([
            ["system", "a\n\nb", null, null, []],
            ["user", "c", null, null, []],
            ["assistant", "e", "d", null, ["{}", "{\"input\":\"{}\"}"]],
            ["tool", "7", null, "tool of 2", []],
            ["tool", "7", null, "tool of 1", []],
            ["assistant", null, "f", null, ["{}"]],
            ["assistant", "h", "g", null, []],
            ["assistant", "i", null, null, []],
        ]);
        assert_eq!(Value::Array(said), expected);
    }

    #[test]
    fn a_result_needs_its_call() {
        let error = messages(None, &[output("1"), call("1", false)]).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("input[7].call_id"));
    }
}
