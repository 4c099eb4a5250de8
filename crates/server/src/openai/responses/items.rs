//! Items: what a response answers, and what it consists of.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::fields::{Fields, wrong};

const KINDS: &[&str] = &[
    "message",
    "reasoning",
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "item_reference",
];

/// An item, as far as a model hears of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// What somebody said, in parts of text.
    Message { role: Role, texts: Vec<String> },
    /// What the model wrote to itself.
    Reasoning { text: String },
    /// The model calls a tool.
    Call(Call),
    /// What the tool answers.
    Output { call: String, texts: Vec<String>, custom: bool },
    /// An item of a stored response.
    Reference { id: String },
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    User,
    Assistant,
    System,
    Developer,
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// The name of this call.
    pub(super) id: String,
    /// The tool.
    pub(super) name: String,
    /// JSON as text; for a custom tool, any text.
    pub(super) input: String,
    /// Whether the tool is a custom one.
    pub(super) custom: bool,
}

/// An item with what is known of where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placed {
    /// Its name, if it has one.
    pub(super) id: Option<String>,
    /// Its place in the request's `input`, if it is from there.
    pub(super) index: Option<usize>,
    pub(super) item: Item,
}

impl Role {
    const NAMES: &[&str] = &["user", "assistant", "system", "developer"];

    /// The role as the API has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System => "system",
            Role::Developer => "developer",
        }
    }

    /// Whether it tells the model how to be, and takes no part in the conversation.
    pub(super) fn instructs(self) -> bool {
        matches!(self, Role::System | Role::Developer)
    }
}

/// Characters of an id that a client gives.
const LONGEST_ID: usize = 128;

impl Placed {
    /// The item `fields`, at `index` of the input.
    pub(super) fn parse(fields: &Fields<'_>, index: Option<usize>) -> Result<Placed, ApiError> {
        let item = Item::parse(fields)?;
        let id = fields.string("id")?.filter(|id| (1..=LONGEST_ID).contains(&id.len()));
        Ok(Placed { id: id.map(str::to_owned), index, item })
    }

    /// A message of `role`.
    pub(super) fn message(role: Role, text: &str) -> Placed {
        let item = Item::Message { role, texts: vec![text.to_owned()] };
        Placed { id: None, index: None, item }
    }

    /// Where a field of it is in the request.
    pub(super) fn path(&self, field: &str) -> String {
        match self.index {
            Some(index) => format!("input[{index}].{field}"),
            None => "input".to_owned(),
        }
    }
}

impl Item {
    fn parse(fields: &Fields<'_>) -> Result<Item, ApiError> {
        // Messages and references may go without a type.
        let kind = match fields.get("type") {
            None if fields.get("role").is_some() => "message",
            None if fields.get("id").is_some() => "item_reference",
            _ => fields.required_string("type")?,
        };
        let string = |name: &str| fields.required_string(name).map(str::to_owned);
        match kind {
            "message" => {
                let role = match fields.required_string("role")? {
                    "user" => Role::User,
                    "assistant" => Role::Assistant,
                    "system" => Role::System,
                    "developer" => Role::Developer,
                    _ => {
                        fields.choice("role", Role::NAMES)?;
                        Role::User
                    }
                };
                Ok(Item::Message { role, texts: texts(fields, "content")? })
            }
            "reasoning" => Ok(Item::Reasoning { text: reasoning(fields)? }),
            "function_call" => {
                let (id, name, input) = (string("call_id")?, string("name")?, string("arguments")?);
                Ok(Item::Call(Call { id, name, input, custom: false }))
            }
            "custom_tool_call" => {
                let (id, name, input) = (string("call_id")?, string("name")?, string("input")?);
                Ok(Item::Call(Call { id, name, input, custom: true }))
            }
            "function_call_output" | "custom_tool_call_output" => {
                let custom = kind != "function_call_output";
                Ok(Item::Output { call: string("call_id")?, texts: texts(fields, "output")?, custom })
            }
            "item_reference" => Ok(Item::Reference { id: string("id")? }),
            _ => {
                fields.choice("type", KINDS)?;
                Err(fields.error("type", "is not known here"))
            }
        }
    }

    /// What the names of such items begin with.
    pub(super) fn prefix(&self) -> &'static str {
        match self {
            Item::Message { .. } => "msg_",
            Item::Reasoning { .. } => "rs_",
            Item::Call(call) => call.prefix(),
            Item::Output { custom: false, .. } => "fco_",
            Item::Output { custom: true, .. } => "ctco_",
            Item::Reference { .. } => "ref_",
        }
    }

    /// The item as the API tells it.
    pub(super) fn to_json(&self, id: &str) -> Value {
        match self {
            Item::Message { role, texts } => {
                let part = |text: &String| match role {
                    Role::Assistant => json!({"type": "output_text", "text": text, "annotations": []}),
                    _ => json!({"type": "input_text", "text": text}),
                };
                let content: Vec<Value> = texts.iter().map(part).collect();
                let role = role.name();
                json!({"id": id, "type": "message", "status": "completed", "role": role, "content": content})
            }
            Item::Reasoning { text } => reasoning_item(id, text, "completed"),
            Item::Call(call) => call.to_json(id, &call.input, "completed"),
            Item::Output { call, texts, custom } => {
                let kind = if *custom { "custom_tool_call_output" } else { "function_call_output" };
                let output = match texts.as_slice() {
                    [text] => json!(text),
                    texts => texts.iter().map(|text| json!({"type": "input_text", "text": text})).collect(),
                };
                json!({"id": id, "type": kind, "status": "completed", "call_id": call, "output": output})
            }
            Item::Reference { id } => json!({"id": id, "type": "item_reference"}),
        }
    }
}

impl Call {
    /// What the names of such items begin with.
    pub(super) fn prefix(&self) -> &'static str {
        if self.custom { "ctc_" } else { "fc_" }
    }

    /// The call as the API tells it, with as much of its input as there is.
    pub(super) fn to_json(&self, id: &str, input: &str, status: &str) -> Value {
        let (kind, name_of_input) = match self.custom {
            true => ("custom_tool_call", "input"),
            false => ("function_call", "arguments"),
        };
        json!({
            "id": id,
            "type": kind,
            "status": status,
            "call_id": self.id,
            "name": self.name,
            name_of_input: input,
        })
    }
}

/// Reasoning as the API tells it; without its text while that is still to come.
pub(super) fn reasoning_item(id: &str, text: &str, status: &str) -> Value {
    let content = match text {
        "" => json!([]),
        text => json!([{"type": "reasoning_text", "text": text}]),
    };
    json!({"id": id, "type": "reasoning", "status": status, "summary": [], "content": content})
}

/// The text of reasoning, or its summary where the text is not told.
fn reasoning(fields: &Fields<'_>) -> Result<String, ApiError> {
    let texts = |name: &str| -> Result<String, ApiError> {
        let texts = fields.objects(name)?;
        let texts = texts.iter().map(|part| part.required_string("text")).collect::<Result<Vec<_>, _>>()?;
        Ok(texts.join("\n"))
    };
    let (content, summary) = (texts("content")?, texts("summary")?);
    Ok(if content.is_empty() { summary } else { content })
}

/// A text: a string, or a list of parts.
fn texts(fields: &Fields<'_>, name: &str) -> Result<Vec<String>, ApiError> {
    let path = fields.path(name);
    let parts = match fields.required(name)? {
        Value::String(text) => return Ok(vec![text.clone()]),
        Value::Array(parts) => parts,
        other => return Err(wrong(&path, other, "a string or an array of parts")),
    };
    if parts.is_empty() {
        return Err(ApiError::parameter(path, "is empty, and must have at least one part"));
    }
    let text = |(i, part): (usize, &Value)| {
        let part = Fields::at(part, format!("{path}[{i}]"))?;
        let text = match part.required_string("type")? {
            "input_text" | "output_text" => part.required_string("text")?,
            "refusal" => part.required_string("refusal")?,
            "input_image" | "input_file" | "input_audio" => {
                let what = "no model here reads images, audio or files; send text";
                return Err(part.error("type", what).code("unsupported_content"));
            }
            _ => {
                part.choice("type", &["input_text", "output_text", "refusal"])?;
                return Err(part.error("type", "is not known here"));
            }
        };
        Ok(text.to_owned())
    };
    parts.iter().enumerate().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &Value) -> Result<Placed, ApiError> {
        Placed::parse(&Fields::at(value, "input[0]".to_owned())?, Some(0))
    }

    #[test]
    fn an_item_reads_as_it_was_told() {
        let texts = || vec!["a".to_owned(), "\"b\"\n".to_owned()];
        let call = |custom| {
            let (id, name, input) = ("call_1".to_owned(), "f".to_owned(), "{\"x\": 1}".to_owned());
            Item::Call(Call { id, name, input, custom })
        };
        let output = |texts, custom| Item::Output { call: "call_1".to_owned(), texts, custom };
        let mut items = vec![
            Item::Reasoning { text: "Hm.".to_owned() },
            Item::Reasoning { text: String::new() },
            call(false),
            call(true),
            output(texts(), false),
            output(vec![String::new()], true),
            Item::Reference { id: "id".to_owned() },
        ];
        for role in [Role::User, Role::Assistant, Role::System, Role::Developer] {
            items.push(Item::Message { role, texts: texts() });
        }
        for item in items {
            let placed = Placed { id: Some("id".to_owned()), index: Some(0), item };
            assert_eq!(parsed(&placed.item.to_json("id")), Ok(placed));
        }
    }

    #[test]
    fn messages_and_references_may_go_without_a_type() {
        let message = parsed(&json!({"role": "user", "content": "Hi"})).unwrap();
        assert_eq!(message.item, Item::Message { role: Role::User, texts: vec!["Hi".to_owned()] });
        let reference = parsed(&json!({"id": "msg_1"})).unwrap();
        assert_eq!(reference.item, Item::Reference { id: "msg_1".to_owned() });
    }

    #[test]
    fn a_summary_stands_for_reasoning_that_is_not_told() {
        let part = json!([{"type": "summary_text", "text": "S"}]);
        let item = parsed(&json!({"type": "reasoning", "summary": part, "encrypted_content": "x"}));
        assert_eq!(item.unwrap().item, Item::Reasoning { text: "S".to_owned() });
    }
}
