//! Whole answers of chat completions.

use autarky_text::Answer;
use serde_json::{Map, Value, json};

use super::{Head, logprobs};
use crate::error::ApiError;
use crate::generation::Generation;
use crate::ids;

/// Waits for the answers and gives the response.
pub(super) async fn whole(
    generation: Generation,
    head: Head,
    with_logprobs: bool,
) -> Result<Value, ApiError> {
    let tokenizer = generation.model().tokenizer.clone();
    let (outcomes, totals) = generation.collect().await?;
    let choice = |(index, outcome): (usize, crate::generation::Outcome)| {
        let logprobs = with_logprobs
            .then(|| json!({"content": logprobs::content(&tokenizer, &outcome.tokens), "refusal": null}));
        json!({
            "index": index,
            "message": message(outcome.answer),
            "logprobs": logprobs,
            "finish_reason": outcome.finish.openai(),
        })
    };
    let choices: Vec<Value> = outcomes.into_iter().enumerate().map(choice).collect();
    Ok(json!({
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": choices,
        "usage": totals.openai(),
        "timings": totals.timings(),
        "system_fingerprint": crate::openai::FINGERPRINT,
    }))
}

/// An answer as a message.
fn message(answer: Answer) -> Value {
    let mut message = Map::new();
    message.insert("role".to_owned(), json!("assistant"));
    let says_nothing = answer.content.is_empty() && !answer.calls.is_empty();
    message.insert("content".to_owned(), if says_nothing { Value::Null } else { json!(answer.content) });
    message.insert("refusal".to_owned(), Value::Null);
    if !answer.reasoning.is_empty() {
        message.insert("reasoning_content".to_owned(), json!(answer.reasoning));
    }
    if !answer.calls.is_empty() {
        let call = |call: autarky_text::ToolCall| {
            let function = json!({"name": call.name, "arguments": call.arguments});
            json!({"id": ids::name("call_"), "type": "function", "function": function})
        };
        message.insert("tool_calls".to_owned(), answer.calls.into_iter().map(call).collect());
    }
    Value::Object(message)
}
