//! The tools of a request, and whether they are to be called.

use std::collections::HashSet;

use serde_json::Value;

use crate::error::ApiError;
use crate::fields::{Fields, shown};
use crate::generation::{Tool, ToolChoice, tool_name};
use crate::state::RequestLimits;

/// What may be called.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) tools: Vec<Tool>,
    pub(super) choice: ToolChoice,
    /// Whether one answer may call several.
    pub(super) parallel: bool,
}

/// `tools` and `tool_choice` of a request.
pub(super) fn parse(fields: &Fields<'_>, limits: &RequestLimits) -> Result<Offer, ApiError> {
    let given = fields.array("tools")?.map_or(0, <[Value]>::len);
    if given > limits.tools {
        return Err(fields.error("tools", format!("has {given} tools, and may have {}", limits.tools)));
    }
    let tools = fields.objects("tools")?.iter().map(tool).collect::<Result<Vec<Tool>, ApiError>>()?;
    let mut names = HashSet::new();
    if let Some(tool) = tools.iter().find(|tool| !names.insert(tool.name.as_str())) {
        return Err(fields.error("tools", format!("has two tools named `{}`", tool.name)));
    }
    let (choice, parallel) = match fields.object("tool_choice")? {
        Some(object) => choice(&object, &names)?,
        None => (ToolChoice::Auto, true),
    };
    Ok(Offer { tools, choice, parallel })
}

fn tool(fields: &Fields<'_>) -> Result<Tool, ApiError> {
    if let Some(kind) = fields.string("type")?.filter(|kind| *kind != "custom") {
        let what = format!(
            "`{}` is a tool that Anthropic defines, and none of those is here; describe a tool of your own with an \
             `input_schema`",
            shown(kind)
        );
        return Err(fields.error("type", what).code("unsupported_tool"));
    }
    const HEEDED: &[&str] = &["type", "name", "description", "input_schema"];
    const IGNORED: &[&str] = &[
        "cache_control",
        "strict",
        "defer_loading",
        "eager_input_streaming",
        "input_examples",
        "allowed_callers",
    ];
    fields.only(&[HEEDED, IGNORED])?;
    let name = tool_name(fields)?;
    let schema = fields.required_object("input_schema")?;
    schema.required("type")?;
    schema.choice("type", &["object"])?;
    let description = fields.string("description")?.map(str::to_owned);
    Ok(Tool { name, description, parameters: Value::Object(schema.map().clone()) })
}

/// Whether tools are called, and whether one answer may call several.
fn choice(fields: &Fields<'_>, tools: &HashSet<&str>) -> Result<(ToolChoice, bool), ApiError> {
    fields.only(&[&["type", "name", "disable_parallel_tool_use"]])?;
    fields.required("type")?;
    let parallel = !fields.boolean("disable_parallel_tool_use")?.unwrap_or(false);
    let choice = match fields.choice("type", &["auto", "any", "tool", "none"])? {
        Some("any") if tools.is_empty() => return Err(fields.error("type", "is `any`, and needs `tools`")),
        Some("any") => ToolChoice::Required,
        Some("none") => ToolChoice::None,
        Some("tool") => {
            let name = fields.required_string("name")?;
            if !tools.contains(name) {
                return Err(fields.error("name", format!("there is no tool named `{}`", shown(name))));
            }
            ToolChoice::Named(name.to_owned())
        }
        _ => ToolChoice::Auto,
    };
    Ok((choice, parallel))
}
