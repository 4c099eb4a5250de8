//! The tools of a chat completion, and whether they are to be called.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::fields::{Fields, shown, wrong};
use crate::generation::{Tool, ToolChoice, tool_name};
use crate::state::RequestLimits;

/// The tools that may be called, and whether they are.
pub(super) fn parse(
    fields: &Fields<'_>,
    limits: &RequestLimits,
) -> Result<(Vec<Tool>, ToolChoice), ApiError> {
    let mut tools = Vec::new();
    for tool in fields.objects("tools")? {
        tool.required("type")?;
        tool.choice("type", &["function"])?;
        tools.push(function(&tool.required_object("function")?)?);
    }
    check(fields, &tools, limits)?;
    let choice = choice(fields, &mut tools, |named| named.required_object("function"))?;
    Ok((tools, choice))
}

/// A function that may be called.
pub(in crate::openai) fn function(fields: &Fields<'_>) -> Result<Tool, ApiError> {
    let parameters = match fields.object("parameters")? {
        Some(schema) => Value::Object(schema.map().clone()),
        None => json!({"type": "object", "properties": {}}),
    };
    fields.boolean("strict")?;
    let description = fields.string("description")?.map(str::to_owned);
    Ok(Tool { name: tool_name(fields)?, description, parameters })
}

/// Checks that there are not too many, and that each has a name of its own.
pub(in crate::openai) fn check(
    fields: &Fields<'_>,
    tools: &[Tool],
    limits: &RequestLimits,
) -> Result<(), ApiError> {
    if tools.len() > limits.tools {
        let what = format!("has {} tools, and may have {}", tools.len(), limits.tools);
        return Err(fields.error("tools", what));
    }
    let twice = tools.iter().enumerate().find(|(i, a)| tools.iter().take(*i).any(|b| a.name == b.name));
    match twice {
        Some((_, tool)) => Err(fields.error("tools", format!("has two tools named `{}`", tool.name))),
        None => Ok(()),
    }
}

/// `tool_choice`. `function_of` finds the object that has the name in a choice of one tool.
pub(in crate::openai) fn choice<'a>(
    fields: &Fields<'a>,
    tools: &mut Vec<Tool>,
    function_of: impl Fn(&Fields<'a>) -> Result<Fields<'a>, ApiError>,
) -> Result<ToolChoice, ApiError> {
    const MODES: &[&str] = &["none", "auto", "required"];
    let mode = |mode: Option<&str>| match mode {
        Some("none") => ToolChoice::None,
        Some("required") => ToolChoice::Required,
        _ => ToolChoice::Auto,
    };
    let choice = match fields.get("tool_choice") {
        None => return Ok(ToolChoice::Auto),
        Some(Value::String(_)) => mode(fields.choice("tool_choice", MODES)?),
        Some(value @ Value::Object(_)) => {
            let object = Fields::at(value, fields.path("tool_choice"))?;
            object.required("type")?;
            if object.choice("type", &["function", "allowed_tools"])? == Some("allowed_tools") {
                // Chat completions have them in an object of its own, responses have not.
                let inner = object.object("allowed_tools")?.unwrap_or(object);
                let names: Vec<&str> = inner
                    .objects("tools")?
                    .iter()
                    .map(|tool| function_of(tool)?.required_string("name"))
                    .collect::<Result<_, _>>()?;
                known(fields, tools, names.iter().copied())?;
                tools.retain(|tool| names.contains(&tool.name.as_str()));
                mode(inner.choice("mode", &["auto", "required"])?)
            } else {
                let name = function_of(&object)?.required_string("name")?;
                known(fields, tools, std::iter::once(name))?;
                ToolChoice::Named(name.to_owned())
            }
        }
        Some(other) => return Err(wrong(&fields.path("tool_choice"), other, "a string or an object")),
    };
    if tools.is_empty() && choice != ToolChoice::None && choice != ToolChoice::Auto {
        return Err(fields.error("tool_choice", "needs `tools`"));
    }
    Ok(choice)
}

fn known<'n>(
    fields: &Fields<'_>,
    tools: &[Tool],
    mut names: impl Iterator<Item = &'n str>,
) -> Result<(), ApiError> {
    match names.find(|name| !tools.iter().any(|tool| tool.name == *name)) {
        Some(name) => Err(fields.error("tool_choice", format!("there is no tool named `{}`", shown(name)))),
        None => Ok(()),
    }
}
