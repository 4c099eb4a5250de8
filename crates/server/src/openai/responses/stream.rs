//! Responses as they are written.

use serde_json::{Value, json};

use super::answer::{Head, told};
use super::output::Output;
use crate::error::ApiError;
use crate::generation::{Finish, Generation, Update};
use crate::sse::{Events, Gone};

/// Sends the events of `generation`.
pub(super) async fn write(
    mut generation: Generation,
    mut head: Head,
    mut output: Output,
    events: Events,
) -> Result<(), Gone> {
    let mut teller = Teller { events, sequence: 0 };
    let begun = Value::Object(head.response("in_progress", Vec::new(), Value::Null));
    teller.tell(json!({"type": "response.created", "response": begun})).await?;
    teller.tell(json!({"type": "response.in_progress", "response": begun})).await?;
    drop(begun);
    let mut finish = Finish::End;
    loop {
        match generation.next().await {
            Ok(Update::Started { .. }) => {}
            Ok(Update::Piece { parts, tokens, .. }) => {
                output.push(parts, told(&head, &generation.model().tokenizer, &tokens));
            }
            Ok(Update::Ended { finish: why, .. }) => {
                output.finish(&why);
                finish = why;
            }
            Ok(Update::Finished(totals)) => {
                let kind = match finish {
                    Finish::Length => "response.incomplete",
                    _ => "response.completed",
                };
                return match head.finished(output, &finish, &totals).await {
                    Ok(response) => teller.tell(json!({"type": kind, "response": response})).await,
                    Err(error) => failed(teller, &head, Vec::new(), &error).await,
                };
            }
            Err(error) => return failed(teller, &head, output.into_items(), &error).await,
        }
        for event in output.events() {
            teller.tell(event).await?;
        }
    }
}

async fn failed(mut teller: Teller, head: &Head, items: Vec<Value>, error: &ApiError) -> Result<(), Gone> {
    let code = error.code.unwrap_or(error.openai_type());
    let event = json!({"type": "error", "code": code, "message": error.message, "param": error.param});
    teller.tell(event).await?;
    let mut response = head.response("failed", items, Value::Null);
    // Clients know few words here.
    let code = if error.status.is_server_error() { "server_error" } else { "invalid_prompt" };
    response.insert("error".to_owned(), json!({"code": code, "message": error.message}));
    teller.tell(json!({"type": "response.failed", "response": response})).await
}

/// Numbers events and sends them.
struct Teller {
    events: Events,
    sequence: u64,
}

impl Teller {
    async fn tell(&mut self, mut event: Value) -> Result<(), Gone> {
        if let Some(map) = event.as_object_mut() {
            map.insert("sequence_number".to_owned(), json!(self.sequence));
        }
        self.sequence += 1;
        let name = event.get("type").and_then(Value::as_str).unwrap_or_default();
        self.events.event(name, &event).await
    }
}
