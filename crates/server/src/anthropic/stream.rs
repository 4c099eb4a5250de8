//! Answers of messages as they are written: a message of blocks, each begun, continued and ended.

use autarky_text::AnswerPart;
use serde_json::{Value, json};

use super::answer::{message, stop};
use crate::generation::{Finish, Generation, Update};
use crate::ids;
use crate::sse::{Events, Gone};

/// What kind of block is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Text,
    Thinking,
    ToolUse,
}

struct Writer {
    events: Events,
    /// The open block, and the number of the next.
    open: Option<Block>,
    next: usize,
}

/// Sends the answer of `generation`.
pub(super) async fn write(
    mut generation: Generation,
    id: String,
    model: String,
    events: Events,
) -> Result<(), Gone> {
    let mut writer = Writer { events, open: None, next: 0 };
    let mut finish = Finish::Length;
    loop {
        match generation.next().await {
            Ok(Update::Started { cached }) => {
                let usage = json!({
                    "input_tokens": generation.prompt.saturating_sub(cached),
                    "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": cached,
                    "output_tokens": 0,
                });
                let begun = message(&id, &model, Vec::new(), usage);
                writer.send("message_start", json!({"message": begun})).await?;
                writer.send("ping", json!({})).await?;
            }
            Ok(Update::Piece { parts, .. }) => {
                for part in parts {
                    writer.part(part).await?;
                }
            }
            Ok(Update::Ended { finish: reason, .. }) => {
                writer.close().await?;
                finish = reason;
            }
            Ok(Update::Finished(totals)) => {
                let (reason, sequence) = stop(&finish);
                let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
                let end = json!({"delta": delta, "usage": totals.anthropic(), "timings": totals.timings()});
                writer.send("message_delta", end).await?;
                return writer.send("message_stop", json!({})).await;
            }
            Err(error) => {
                return writer.events.event("error", &error.anthropic(&ids::name("req_"))).await;
            }
        }
    }
}

impl Writer {
    /// Sends an event, whose data says its name again.
    async fn send(&self, name: &str, rest: Value) -> Result<(), Gone> {
        let mut data = serde_json::Map::new();
        data.insert("type".to_owned(), json!(name));
        if let Value::Object(rest) = rest {
            data.extend(rest);
        }
        self.events.event(name, &Value::Object(data)).await
    }

    async fn part(&mut self, part: AnswerPart) -> Result<(), Gone> {
        match part {
            AnswerPart::Content(text) => {
                self.open(Block::Text, || json!({"type": "text", "text": "", "citations": null})).await?;
                self.delta(json!({"type": "text_delta", "text": text})).await
            }
            AnswerPart::Reasoning(text) => {
                let block = || json!({"type": "thinking", "thinking": "", "signature": ""});
                self.open(Block::Thinking, block).await?;
                self.delta(json!({"type": "thinking_delta", "thinking": text})).await
            }
            AnswerPart::ToolCallStart { name, .. } => {
                self.close().await?;
                let id = ids::name("toolu_");
                let block = || json!({"type": "tool_use", "id": id, "name": name, "input": {}});
                self.open(Block::ToolUse, block).await?;
                self.delta(json!({"type": "input_json_delta", "partial_json": ""})).await
            }
            AnswerPart::ToolCallArguments { json, .. } => {
                self.delta(json!({"type": "input_json_delta", "partial_json": json})).await
            }
            AnswerPart::ToolCallEnd { .. } | AnswerPart::ToolCallAborted { .. } => self.close().await,
        }
    }

    /// Opens a block, unless one of its kind is open.
    async fn open(&mut self, kind: Block, block: impl FnOnce() -> Value) -> Result<(), Gone> {
        if self.open == Some(kind) {
            return Ok(());
        }
        self.close().await?;
        let begun = json!({"index": self.next, "content_block": block()});
        self.send("content_block_start", begun).await?;
        self.open = Some(kind);
        self.next += 1;
        Ok(())
    }

    /// Goes on in the open block.
    async fn delta(&self, delta: Value) -> Result<(), Gone> {
        let index = self.next.saturating_sub(1);
        self.send("content_block_delta", json!({"index": index, "delta": delta})).await
    }

    async fn close(&mut self) -> Result<(), Gone> {
        let Some(kind) = self.open else { return Ok(()) };
        if kind == Block::Thinking {
            self.delta(json!({"type": "signature_delta", "signature": ""})).await?;
        }
        self.open = None;
        self.send("content_block_stop", json!({"index": self.next.saturating_sub(1)})).await
    }
}
