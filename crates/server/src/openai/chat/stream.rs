//! Answers of chat completions as they are written.

use autarky_text::AnswerPart;
use serde_json::{Value, json};

use super::request::StreamOptions;
use super::{Head, logprobs};
use crate::generation::{Finish, Generation, Update};
use crate::ids;
use crate::openai::FINGERPRINT;
use crate::sse::{Events, Gone};

/// Sends the answers of `generation`.
pub(super) async fn write(
    mut generation: Generation,
    head: Head,
    options: StreamOptions,
    with_logprobs: bool,
    events: Events,
) -> Result<(), Gone> {
    let choices = vec![Choice::default(); generation.choices()];
    let mut writer = Writer { head, options, with_logprobs, events, choices };
    loop {
        match generation.next().await {
            Ok(Update::Started { .. }) => {}
            Ok(Update::Piece { choice, parts, tokens }) => {
                let tokens = match with_logprobs {
                    true => logprobs::content(&generation.model().tokenizer, &tokens),
                    false => Vec::new(),
                };
                writer.piece(choice, parts, tokens).await?;
            }
            Ok(Update::Ended { choice, finish }) => writer.end(choice, &finish).await?,
            Ok(Update::Finished(totals)) => {
                if options.usage {
                    let mut chunk = writer.chunk(json!([]), totals.openai());
                    if let Some(map) = chunk.as_object_mut() {
                        map.insert("timings".to_owned(), totals.timings());
                    }
                    writer.events.data(&chunk).await?;
                }
                return writer.events.done().await;
            }
            Err(error) => {
                writer.events.data(&error.openai()).await?;
                return writer.events.done().await;
            }
        }
    }
}

struct Writer {
    head: Head,
    options: StreamOptions,
    with_logprobs: bool,
    events: Events,
    choices: Vec<Choice>,
}

/// What was sent of one answer.
#[derive(Clone, Default)]
struct Choice {
    begun: bool,
    /// Log probabilities of tokens whose text is still to come.
    logprobs: Vec<Value>,
}

impl Writer {
    fn chunk(&self, choices: Value, usage: Value) -> Value {
        let mut chunk = json!({
            "id": self.head.id,
            "object": "chat.completion.chunk",
            "created": self.head.created,
            "model": self.head.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        });
        // Where usage is asked for, all events but the last have null.
        if let (true, Some(map)) = (self.options.usage, chunk.as_object_mut()) {
            map.insert("usage".to_owned(), usage);
        }
        chunk
    }

    async fn delta(&mut self, index: usize, delta: Value, finish: Option<&str>) -> Result<(), Gone> {
        let held = self.choices.get_mut(index).map(|c| std::mem::take(&mut c.logprobs)).unwrap_or_default();
        let logprobs =
            (self.with_logprobs && !held.is_empty()).then(|| json!({"content": held, "refusal": null}));
        let choice = json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish});
        let chunk = self.chunk(json!([choice]), Value::Null);
        self.events.data(&chunk).await
    }

    async fn begin(&mut self, index: usize) -> Result<(), Gone> {
        let Some(choice) = self.choices.get_mut(index).filter(|choice| !choice.begun) else { return Ok(()) };
        choice.begun = true;
        let held = std::mem::take(&mut choice.logprobs);
        self.delta(index, json!({"role": "assistant", "content": "", "refusal": null}), None).await?;
        if let Some(choice) = self.choices.get_mut(index) {
            choice.logprobs = held;
        }
        Ok(())
    }

    async fn piece(&mut self, index: usize, parts: Vec<AnswerPart>, tokens: Vec<Value>) -> Result<(), Gone> {
        if let Some(choice) = self.choices.get_mut(index) {
            choice.logprobs.extend(tokens);
        }
        self.begin(index).await?;
        for part in parts {
            let delta = match part {
                AnswerPart::Content(text) => json!({"content": text}),
                AnswerPart::Reasoning(text) => json!({"reasoning_content": text}),
                AnswerPart::ToolCallStart { index, name } => {
                    let function = json!({"name": name, "arguments": ""});
                    let id = ids::name("call_");
                    json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]})
                }
                AnswerPart::ToolCallArguments { index, json } => {
                    json!({"tool_calls": [{"index": index, "function": {"arguments": json}}]})
                }
                AnswerPart::ToolCallEnd { .. } | AnswerPart::ToolCallAborted { .. } => continue,
            };
            self.delta(index, delta, None).await?;
        }
        Ok(())
    }

    async fn end(&mut self, index: usize, finish: &Finish) -> Result<(), Gone> {
        self.begin(index).await?;
        self.delta(index, json!({}), Some(finish.openai())).await
    }
}
