//! The tools of a response, and whether they are to be called.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::fields::{Fields, shown};
use crate::generation::{Tool, ToolChoice, tool_name};
use crate::openai::chat::{check_tools, function, tool_choice};
use crate::state::RequestLimits;

/// The tools of a request.
#[derive(Debug, Default)]
pub(super) struct Tools {
    pub(super) tools: Vec<Tool>,
    pub(super) choice: ToolChoice,
    /// The names of those that take any text.
    pub(super) custom: HashSet<String>,
    /// The tools as the response tells them.
    pub(super) told: Vec<Value>,
}

/// The tools that may be called, and whether they are.
pub(super) fn parse(fields: &Fields<'_>, limits: &RequestLimits) -> Result<Tools, ApiError> {
    let mut out = Tools::default();
    for tool in fields.objects("tools")? {
        match tool.required_string("type")? {
            "function" => {
                let function = function(&tool)?;
                out.told.push(json!({
                    "type": "function",
                    "name": function.name,
                    "description": function.description,
                    "parameters": function.parameters,
                    "strict": tool.boolean("strict")?.unwrap_or(false),
                }));
                out.tools.push(function);
            }
            "custom" => {
                let custom = custom(&tool)?;
                out.told.push(json!({
                    "type": "custom",
                    "name": custom.name,
                    "description": custom.description,
                    "format": {"type": "text"},
                }));
                out.custom.insert(custom.name.clone());
                out.tools.push(custom);
            }
            other => {
                let what = format!(
                    "is `{}`, which this server does not run; describe a tool of the type `function` and run it \
                     yourself",
                    shown(other)
                );
                return Err(tool.error("type", what).code("unsupported_tool"));
            }
        }
    }
    check_tools(fields, &out.tools, limits)?;
    out.choice = choice(fields, &mut out.tools)?;
    Ok(out)
}

/// A tool that takes any text, as the function that the model hears of.
fn custom(fields: &Fields<'_>) -> Result<Tool, ApiError> {
    if let Some(format) = fields.object("format")? {
        format.required("type")?;
        if format.choice("type", &["text", "grammar"])? == Some("grammar") {
            let what = "is `grammar`, and what the model writes for a custom tool is held to none here; use a tool of \
                        the type `function`, or describe the form in words";
            return Err(format.error("type", what).code("unsupported_value"));
        }
    }
    let parameters = json!({
        "type": "object",
        "properties": {"input": {"type": "string"}},
        "required": ["input"],
        "additionalProperties": false,
    });
    let description = fields.string("description")?.map(str::to_owned);
    Ok(Tool { name: tool_name(fields)?, description, parameters })
}

fn choice(fields: &Fields<'_>, tools: &mut Vec<Tool>) -> Result<ToolChoice, ApiError> {
    if let Some(Value::Object(_)) = fields.get("tool_choice")
        && let Some(object) = fields.object("tool_choice")?
        && object.get("type").and_then(Value::as_str) == Some("custom")
    {
        let name = object.required_string("name")?;
        if !tools.iter().any(|tool| tool.name == name) {
            return Err(fields.error("tool_choice", format!("there is no tool named `{}`", shown(name))));
        }
        return Ok(ToolChoice::Named(name.to_owned()));
    }
    // The names stand where chat completions have an object that has the name.
    tool_choice(fields, tools, |named| Ok(named.clone()))
}
