//! What the fields of a record mean: the shapes in which training data is usually published, each told by its fields.

use serde_json::{Map, Value, json};

use super::Content;
use super::problem::Fault;

/// The shapes, for messages.
pub(super) const KNOWN_SHAPES: &str = "messages; conversations; instruction and output; prompt and completion, response, \
     answer or output; question and answer; prompt, chosen and rejected; text or content";

/// What a record is told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// Text as it stands.
    Text,
    /// `messages` in OpenAI's form.
    Messages,
    /// `conversations` in ShareGPT's form.
    Conversations,
    /// `instruction`, perhaps `input`, and `output`: Alpaca's form.
    Instruction,
    /// A prompt or question and its answer.
    PromptAnswer,
    /// `chosen` and `rejected`.
    Preference,
}

/// The fields that shapes are told by and made of: the columns of a table that are read.
pub(super) const FIELDS: [&str; 17] = [
    "messages",
    "conversations",
    "tools",
    "system",
    "instruction",
    "input",
    "context",
    "prompt",
    "question",
    "output",
    "response",
    "completion",
    "answer",
    "chosen",
    "rejected",
    "text",
    "content",
];

const ANSWERS: [&str; 4] = ["output", "response", "completion", "answer"];

/// The most fields, and the most characters of each, that a message names.
const NAMED: (usize, usize) = (12, 40);

type Object = Map<String, Value>;

/// What the record `value` says, and by which shape. `text_field` comes before all others. A text comes whole.
pub(super) fn recognise(value: Value, text_field: Option<&str>) -> Result<(Shape, Content), Fault> {
    let Value::Object(mut fields) = value else {
        return Err(Fault::NotAnObject { found: kind(&value) });
    };
    // A table has all fields in all rows: null says that this one has none.
    fields.retain(|_, value| !value.is_null());
    let has = |name: &str| fields.contains_key(name);
    let answer = ANSWERS.into_iter().find(|name| has(name));
    if let Some(name) = text_field.filter(|name| has(name)) {
        return Ok((Shape::Text, text(&mut fields, name)?));
    }
    if has("chosen") && has("rejected") {
        return Ok((Shape::Preference, preference(&mut fields)?));
    }
    if has("messages") {
        return Ok((Shape::Messages, conversation(&mut fields, "messages")?));
    }
    if has("conversations") {
        return Ok((Shape::Conversations, conversation(&mut fields, "conversations")?));
    }
    for (shape, prompt) in [
        (Shape::Instruction, "instruction"),
        (Shape::PromptAnswer, "prompt"),
        (Shape::PromptAnswer, "question"),
    ] {
        if let Some(answer) = answer.filter(|_| has(prompt)) {
            return Ok((shape, pair(&mut fields, prompt, answer)?));
        }
    }
    if let Some(name) = ["text", "content"].into_iter().find(|name| has(name)) {
        return Ok((Shape::Text, text(&mut fields, name)?));
    }
    Err(Fault::UnknownShape { fields: names(fields.keys().map(String::as_str)) })
}

/// What the record `value` asks, by the same fields. An answer at the end of a conversation is left off, and stays in the
/// record.
pub(super) fn asked(value: Value) -> Result<(Shape, Content), Fault> {
    let Value::Object(mut fields) = value else {
        return Err(Fault::NotAnObject { found: kind(&value) });
    };
    fields.retain(|_, value| !value.is_null());
    let record = fields.clone();
    let has = |name: &str| record.contains_key(name);
    let conversations = [("messages", Shape::Messages), ("conversations", Shape::Conversations)];
    let prompts = [
        ("instruction", Shape::Instruction),
        ("prompt", Shape::PromptAnswer),
        ("question", Shape::PromptAnswer),
    ];
    let (shape, mut said) = if let Some((name, shape)) = conversations.into_iter().find(|(n, _)| has(n)) {
        (shape, messages(fields.remove(name).unwrap_or_default(), name)?)
    } else if let Some((name, shape)) = prompts.into_iter().find(|(n, _)| has(n)) {
        (shape, turn(&mut fields, name, "user")?)
    } else {
        return Err(Fault::UnknownShape { fields: names(record.keys().map(String::as_str)) });
    };
    while said.last().is_some_and(|m| m.get("role").is_some_and(|role| role == "assistant")) {
        said.pop();
    }
    if said.is_empty() {
        return Err(Fault::Empty { field: "the prompt".into() });
    }
    with_system(&mut fields, &mut said)?;
    Ok((shape, Content::Prompt { messages: said, tools: tools(&mut fields)?, record }))
}

fn text(fields: &mut Object, name: &str) -> Result<Content, Fault> {
    Ok(Content::Text { text: string(fields, name)?, ends: true })
}

/// `messages` or `conversations`, with the system prompt and the tools that stand beside them.
fn conversation(fields: &mut Object, name: &'static str) -> Result<Content, Fault> {
    let said = messages(fields.remove(name).unwrap_or_default(), name)?;
    finish(fields, said, name)
}

/// A prompt and its answer, each text or messages. `input` goes after the prompt (Taori et al. 2023, Stanford Alpaca).
fn pair(fields: &mut Object, prompt: &str, answer: &str) -> Result<Content, Fault> {
    let mut said = turn(fields, prompt, "user")?;
    let input = if fields.contains_key("input") { "input" } else { "context" };
    if prompt == "instruction"
        && let Some(input) = optional(fields, input)?
        && let Some(Value::String(asked)) = said.last_mut().and_then(|message| message.get_mut("content"))
    {
        asked.push_str("\n\n");
        asked.push_str(&input);
    }
    said.extend(turn(fields, answer, "assistant")?);
    finish(fields, said, "the record")
}

fn preference(fields: &mut Object) -> Result<Content, Fault> {
    let asked = fields.contains_key("prompt");
    let mut prompt = if asked { turn(fields, "prompt", "user")? } else { Vec::new() };
    let mut chosen = turn(fields, "chosen", "assistant")?;
    let mut rejected = turn(fields, "rejected", "assistant")?;
    // Some data sets have the prompt again in both answers, and some have it nowhere else.
    if !asked {
        let same = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
        prompt = chosen.iter().take(same).cloned().collect();
    }
    if chosen.starts_with(&prompt) && rejected.starts_with(&prompt) {
        chosen.drain(..prompt.len());
        rejected.drain(..prompt.len());
    }
    if prompt.is_empty() {
        return Err(Fault::Empty { field: "prompt".into() });
    }
    for (field, answer) in [("chosen", &chosen), ("rejected", &rejected)] {
        if answer.is_empty() {
            return Err(Fault::Empty { field: format!("{field} behind the prompt") });
        }
        answered(answer, field)?;
    }
    with_system(fields, &mut prompt)?;
    Ok(Content::Preference { prompt, chosen, rejected })
}

fn finish(fields: &mut Object, mut said: Vec<Value>, name: &'static str) -> Result<Content, Fault> {
    answered(&said, name)?;
    with_system(fields, &mut said)?;
    Ok(Content::Messages { messages: said, tools: tools(fields)? })
}

fn answered(said: &[Value], field: &'static str) -> Result<(), Fault> {
    let assistant = said.iter().any(|m| m.get("role").is_some_and(|role| role == "assistant"));
    assistant.then_some(()).ok_or(Fault::NoAnswer { field })
}

/// Puts the field `system` before messages that have no system prompt of their own.
fn with_system(fields: &mut Object, said: &mut Vec<Value>) -> Result<(), Fault> {
    let own = said.iter().any(|m| m.get("role").is_some_and(|role| role == "system"));
    if let Some(system) = optional(fields, "system")?.filter(|_| !own) {
        said.insert(0, json!({"role": "system", "content": system}));
    }
    Ok(())
}

/// The field `tools`: a list, or JSON of one, as tables have it.
fn tools(fields: &mut Object) -> Result<Option<Vec<Value>>, Fault> {
    let Some(value) = fields.remove("tools") else { return Ok(None) };
    let wrong = |found| Fault::WrongType { field: "tools".into(), found, wanted: "a list of tools" };
    let value = match value {
        Value::String(text) if text.trim().is_empty() => return Ok(None),
        Value::String(text) => serde_json::from_str(&text).map_err(|_| wrong("text that is no JSON"))?,
        value => value,
    };
    match value {
        Value::Null => Ok(None),
        Value::Array(tools) => Ok((!tools.is_empty()).then_some(tools)),
        other => Err(wrong(kind(&other))),
    }
}

/// The field `name` as messages: a text is one of `role`.
fn turn(fields: &mut Object, name: &str, role: &str) -> Result<Vec<Value>, Fault> {
    if fields.get(name).is_some_and(Value::is_array) {
        return messages(fields.remove(name).unwrap_or_default(), name);
    }
    Ok(vec![json!({"role": role, "content": string(fields, name)?})])
}

fn messages(value: Value, field: &str) -> Result<Vec<Value>, Fault> {
    match value {
        Value::Array(items) if items.is_empty() => Err(Fault::Empty { field: field.to_owned() }),
        Value::Array(items) => {
            items.into_iter().enumerate().map(|(i, item)| message(item, || format!("{field}[{i}]"))).collect()
        }
        other => Err(Fault::WrongType {
            field: field.to_owned(),
            found: kind(&other),
            wanted: "a list of messages",
        }),
    }
}

/// A message in OpenAI's or ShareGPT's form, in OpenAI's. `field` names it.
fn message(value: Value, field: impl Fn() -> String) -> Result<Value, Fault> {
    let inside = |name: &str| format!("{}.{name}", field());
    let Value::Object(mut message) = value else {
        return Err(Fault::WrongType {
            field: field(),
            found: kind(&value),
            wanted: "a message with role and content",
        });
    };
    message.retain(|name, value| name == "content" || !value.is_null());
    if !message.contains_key("role") && message.contains_key("from") {
        let from = string(&mut message, "from").map_err(|_| wrong_text(&message, "from", &field()))?;
        let role = match from.as_str() {
            "human" | "user" => "user",
            "gpt" | "assistant" => "assistant",
            "system" => "system",
            "tool" => "tool",
            _ => {
                return Err(Fault::UnknownSpeaker { field: inside("from"), found: shortened(&from) });
            }
        };
        let Some(Value::String(content)) = message.get("value") else {
            return Err(wrong_text(&message, "value", &field()));
        };
        return Ok(json!({"role": role, "content": content}));
    }
    if message.get("role").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err(wrong_text(&message, "role", &field()));
    }
    match message.get("content") {
        Some(Value::String(_) | Value::Array(_)) => {}
        None | Some(Value::Null) if message.contains_key("tool_calls") => {}
        _ => return Err(wrong_text(&message, "content", &field())),
    }
    Ok(Value::Object(message))
}

fn wrong_text(object: &Object, name: &str, inside: &str) -> Fault {
    let found = match object.get(name) {
        None => "missing",
        Some(Value::String(_)) => "empty text",
        Some(value) => kind(value),
    };
    Fault::WrongType { field: format!("{inside}.{name}"), found, wanted: "text" }
}

/// Takes the field `name`, which has to be text with something in it.
fn string(fields: &mut Object, name: &str) -> Result<String, Fault> {
    match fields.get_mut(name) {
        Some(Value::String(text)) if text.trim().is_empty() => Err(Fault::Empty { field: shortened(name) }),
        Some(Value::String(text)) => Ok(std::mem::take(text)),
        other => Err(Fault::WrongType {
            field: shortened(name),
            found: other.map_or("missing", |value| kind(value)),
            wanted: "text",
        }),
    }
}

/// Takes the field `name`, which may be missing or empty.
fn optional(fields: &mut Object, name: &str) -> Result<Option<String>, Fault> {
    match fields.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
        Some(_) => string(fields, name).map(Some),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Names of fields for a message: they come from the file, so there may be many, and they may have anything in them.
pub(super) fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let (most, _) = NAMED;
    let mut all = all;
    let mut names: Vec<String> = all.by_ref().take(most).map(shortened).collect();
    match all.count() {
        0 if names.is_empty() => names.push("none".into()),
        0 => {}
        more => names.push(format!("{more} more")),
    }
    names.join(", ")
}

fn shortened(name: &str) -> String {
    let (_, most) = NAMED;
    let mut short: String = name.chars().take(most).flat_map(char::escape_debug).collect();
    if name.chars().nth(most).is_some() {
        short.push('…');
    }
    short
}
