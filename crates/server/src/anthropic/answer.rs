//! Whole answers of messages.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::generation::{Finish, Generation};
use crate::ids;

/// Why an answer ended, as Anthropic's API has it, and the stop string that came up.
pub(super) fn stop(finish: &Finish) -> (&'static str, Option<&str>) {
    match finish {
        Finish::End => ("end_turn", None),
        Finish::StopString(text) => ("stop_sequence", Some(text)),
        Finish::Length => ("max_tokens", None),
        Finish::ToolCalls => ("tool_use", None),
    }
}

/// The message of a response.
pub(super) fn message(id: &str, model: &str, content: Vec<Value>, usage: Value) -> Value {
    json!({
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": null,
        "stop_sequence": null,
        "usage": usage,
    })
}

/// Waits for the answer and gives the response.
pub(super) async fn whole(generation: Generation, id: &str, model: &str) -> Result<Value, ApiError> {
    let (outcomes, totals) = generation.collect().await?;
    let Some(outcome) = outcomes.into_iter().next() else {
        return Err(ApiError::internal("the model gave no answer"));
    };
    let answer = outcome.answer;
    let mut content = Vec::new();
    if !answer.reasoning.is_empty() {
        // Nothing is signed: whoever sends it back may have changed it, and the model reads it all the same.
        content.push(json!({"type": "thinking", "thinking": answer.reasoning, "signature": ""}));
    }
    // Clients look at the first block, so that there is one.
    if !answer.content.is_empty() || (answer.calls.is_empty() && content.is_empty()) {
        content.push(json!({"type": "text", "text": answer.content, "citations": null}));
    }
    for call in answer.calls {
        let input: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
        content
            .push(json!({"type": "tool_use", "id": ids::name("toolu_"), "name": call.name, "input": input}));
    }
    let (reason, sequence) = stop(&outcome.finish);
    let mut body = message(id, model, content, totals.anthropic());
    if let Some(map) = body.as_object_mut() {
        map.insert("stop_reason".to_owned(), json!(reason));
        map.insert("stop_sequence".to_owned(), json!(sequence));
        map.insert("timings".to_owned(), totals.timings());
    }
    Ok(body)
}
