//! What an answer may say: calls of tools, JSON, or JSON of a schema.

use autarky_engine::{Constraint, ConstraintError, ConstraintSpec, ToolSchema, ToolSyntax};
use autarky_text::{AnswerFormat, AnswerOptions};

use super::ask::{Conversation, Input, OutputFormat, Tool, ToolChoice};
use crate::error::ApiError;
use crate::model::LoadedModel;

/// The constraint of an answer to `input`, if it has one.
pub(super) fn constraint(
    model: &LoadedModel,
    input: &Input,
    output: &OutputFormat,
    format: Option<&(AnswerFormat, AnswerOptions)>,
) -> Result<Option<Constraint>, ApiError> {
    let called = match (input, format) {
        (Input::Conversation(conversation), Some((format, _))) if conversation.must_call() => {
            Some(calls(conversation, *format))
        }
        _ => None,
    };
    let param = if called.is_some() { "tools" } else { "response_format" };
    let spec = match (called, output) {
        (Some(calls), _) => calls,
        (None, OutputFormat::Text) => return Ok(None),
        (None, OutputFormat::Json) => ConstraintSpec::Json,
        (None, OutputFormat::Schema(schema)) => ConstraintSpec::JsonSchema(schema.clone()),
        (None, OutputFormat::Regex(pattern)) => ConstraintSpec::Regex(pattern.clone()),
        (None, OutputFormat::Grammar(grammar)) => ConstraintSpec::Lark(grammar.clone()),
    };
    let vocabulary = model.vocabulary().map_err(|e| refusal(param, e))?;
    Constraint::new(vocabulary, &spec).map(Some).map_err(|e| refusal(param, &e))
}

fn refusal(param: &str, error: &ConstraintError) -> ApiError {
    match error {
        ConstraintError::Thread(_) => ApiError::internal(error.to_string()),
        _ => ApiError::parameter(param, error.to_string()).code("invalid_schema"),
    }
}

/// Calls of the tools that are asked for, written as the model writes them.
fn calls(conversation: &Conversation, format: AnswerFormat) -> ConstraintSpec {
    let asked = |tool: &&Tool| match &conversation.choice {
        ToolChoice::Named(name) => tool.name == *name,
        _ => true,
    };
    let schema = |tool: &Tool| ToolSchema { name: tool.name.clone(), arguments: tool.parameters.clone() };
    let tools = conversation.tools.iter().filter(asked).map(schema).collect();
    let written = format.call_syntax();
    // Brackets around all calls are written around one: several calls within them have no grammar here.
    let brackets = !written.begin.is_empty() || !written.end.is_empty();
    let named = matches!(conversation.choice, ToolChoice::Named(_));
    let at_most_one = named || !conversation.parallel || brackets || written.separator.is_none();
    let syntax = ToolSyntax {
        before: format!("{}{}", written.begin, written.before_name),
        between: written.between.to_owned(),
        after: format!("{}{}", written.after, written.end),
        separator: written.separator.unwrap_or_default().to_owned(),
    };
    ConstraintSpec::ToolCalls { tools, syntax, at_most_one }
}
