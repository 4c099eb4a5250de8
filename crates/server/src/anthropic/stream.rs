//! Messages as they are written.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::pieces::{Piece, Pieces};
use super::{Head, answer, failure};
use crate::generation::{Finish, Generation, Totals, Update};
use crate::ids;
use crate::sse::{Events, Gone};

/// A ping is sent after so long without anything else to tell.
const PING: Duration = Duration::from_secs(5);

/// Sends the answer of `generation`.
pub(super) async fn write(mut generation: Generation, head: Head, events: Events) -> Result<(), Gone> {
    let mut writer = Writer::new(head, events);
    let prompt = generation.prompt;
    let mut finish = Finish::Length;
    loop {
        match writer.wait(generation.next()).await? {
            Ok(Update::Started { cached }) => writer.begin(prompt, cached).await?,
            Ok(Update::Piece { parts, .. }) => {
                writer.begin(prompt, 0).await?;
                for part in parts {
                    if let Some(piece) = writer.pieces.take(part) {
                        writer.piece(piece).await?;
                    }
                }
            }
            Ok(Update::Ended { finish: why, .. }) => finish = why,
            Ok(Update::Finished(totals)) => {
                writer.begin(prompt, 0).await?;
                return writer.end(finish, &totals).await;
            }
            Err(error) => {
                let event = failure::event(error, &writer.head.request);
                return writer.events.event("error", &event).await;
            }
        }
    }
}

struct Writer {
    head: Head,
    events: Events,
    pieces: Pieces,
    begun: bool,
    open: Option<Open>,
    /// The place of the open block, or else of the next one.
    index: usize,
}

/// The kind of block that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Thinking,
    Text,
}

impl Writer {
    fn new(head: Head, events: Events) -> Writer {
        Writer { head, events, pieces: Pieces::default(), begun: false, open: None, index: 0 }
    }

    /// What `next` gives. While it does not, the reader is told that somebody is there.
    async fn wait<T>(&self, next: impl Future<Output = T>) -> Result<T, Gone> {
        let mut next = std::pin::pin!(next);
        loop {
            match timeout(PING, &mut next).await {
                Ok(found) => return Ok(found),
                Err(_) => self.ping().await?,
            }
        }
    }

    /// Sends an event of the type `name`.
    async fn send(&self, name: &str, mut event: Value) -> Result<(), Gone> {
        if let Some(map) = event.as_object_mut() {
            map.insert("type".to_owned(), json!(name));
        }
        self.events.event(name, &event).await
    }

    async fn ping(&self) -> Result<(), Gone> {
        self.send("ping", json!({})).await
    }

    /// Sends the message's beginning, once.
    async fn begin(&mut self, prompt: usize, cached: usize) -> Result<(), Gone> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        let usage = json!({
            "input_tokens": prompt.saturating_sub(cached),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "output_tokens": 0,
        });
        let message = answer::message(&self.head, json!([]), Value::Null, Value::Null, usage);
        self.send("message_start", json!({"message": message})).await?;
        self.ping().await
    }

    async fn piece(&mut self, piece: Piece) -> Result<(), Gone> {
        match piece {
            Piece::Thinking(text) => {
                let block = json!({"type": "thinking", "thinking": "", "signature": ""});
                self.open(Open::Thinking, block).await?;
                if self.head.thinking {
                    self.delta(json!({"type": "thinking_delta", "thinking": text})).await?;
                }
                Ok(())
            }
            Piece::Text(text) => {
                self.open(Open::Text, json!({"type": "text", "text": ""})).await?;
                self.delta(json!({"type": "text_delta", "text": text})).await
            }
            Piece::Call { name, input } => {
                self.close().await?;
                let id = ids::name("toolu_");
                self.start(json!({"type": "tool_use", "id": id, "name": name, "input": {}})).await?;
                self.delta(json!({"type": "input_json_delta", "partial_json": input.to_string()})).await?;
                self.stop().await
            }
        }
    }

    /// Goes on in a block of this kind, or begins `block`.
    async fn open(&mut self, kind: Open, block: Value) -> Result<(), Gone> {
        if self.open == Some(kind) {
            return Ok(());
        }
        self.close().await?;
        self.open = Some(kind);
        self.start(block).await
    }

    async fn close(&mut self) -> Result<(), Gone> {
        let Some(open) = self.open.take() else { return Ok(()) };
        if open == Open::Thinking {
            self.delta(json!({"type": "signature_delta", "signature": ""})).await?;
        }
        self.stop().await
    }

    async fn start(&self, block: Value) -> Result<(), Gone> {
        self.send("content_block_start", json!({"index": self.index, "content_block": block})).await
    }

    async fn delta(&self, delta: Value) -> Result<(), Gone> {
        self.send("content_block_delta", json!({"index": self.index, "delta": delta})).await
    }

    async fn stop(&mut self) -> Result<(), Gone> {
        self.send("content_block_stop", json!({"index": self.index})).await?;
        self.index += 1;
        Ok(())
    }

    async fn end(&mut self, finish: Finish, totals: &Totals) -> Result<(), Gone> {
        if self.index == 0 && self.open.is_none() {
            // A whole answer has a block, too.
            self.open(Open::Text, json!({"type": "text", "text": ""})).await?;
        }
        self.close().await?;
        let (reason, sequence) = self.pieces.stop(finish);
        let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
        self.send("message_delta", json!({"delta": delta, "usage": totals.anthropic()})).await?;
        self.send("message_stop", json!({})).await
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::time::sleep;

    use super::*;
    use crate::sse;

    fn head(thinking: bool) -> Head {
        let text = str::to_owned;
        Head { id: text("msg_1"), model: text("m"), request: text("req_1"), thinking }
    }

    /// The events that `write` sends, each with its name.
    async fn events<F>(write: impl FnOnce(Events) -> F) -> Vec<Value>
    where
        F: Future<Output = Result<(), Gone>> + Send + 'static,
    {
        let body = sse::respond(write).into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        let event = |block: &str| {
            let (name, data) = block.split_once('\n').unwrap();
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
            data
        };
        text.split_terminator("\n\n").map(event).collect()
    }

    #[tokio::test]
    async fn blocks_begin_and_end_in_order() {
        let sent = events(async |events| {
            let mut writer = Writer::new(head(true), events);
            writer.begin(10, 4).await?;
            writer.begin(10, 0).await?;
            for text in ["Hm", "."] {
                writer.piece(Piece::Thinking(text.to_owned())).await?;
            }
            writer.piece(Piece::Text("I look.".to_owned())).await?;
            for n in [1, 2] {
                writer.piece(Piece::Call { name: "f".to_owned(), input: json!({"n": n}) }).await?;
            }
            writer.piece(Piece::Text("So.".to_owned())).await?;
            writer.end(Finish::End, &Totals::default()).await
        })
        .await;
        let kinds: Vec<(&str, Option<u64>)> =
            sent.iter().map(|e| (e["type"].as_str().unwrap(), e["index"].as_u64())).collect();
        let (start, delta, stop) = ("content_block_start", "content_block_delta", "content_block_stop");
        let mut expected = vec![("message_start", None), ("ping", None)];
        expected.extend([start, delta, delta, delta, stop].map(|kind| (kind, Some(0))));
        for index in 1..5 {
            expected.extend([start, delta, stop].map(|kind| (kind, Some(index))));
        }
        expected.extend([("message_delta", None), ("message_stop", None)]);
        assert_eq!(kinds, expected);
        let usage = &sent[0]["message"]["usage"];
        assert_eq!((&usage["input_tokens"], &usage["cache_read_input_tokens"]), (&json!(6), &json!(4)));
        assert_eq!(sent[3]["delta"], json!({"type": "thinking_delta", "thinking": "Hm"}));
        assert_eq!(sent[5]["delta"], json!({"type": "signature_delta", "signature": ""}));
        assert_eq!(sent[10]["content_block"]["input"], json!({}));
        assert_eq!(sent[11]["delta"], json!({"type": "input_json_delta", "partial_json": "{\"n\":1}"}));
        assert_ne!(sent[10]["content_block"]["id"], sent[13]["content_block"]["id"]);
        let last = &sent[sent.len() - 2];
        assert_eq!(last["delta"], json!({"stop_reason": "end_turn", "stop_sequence": null}));
    }

    #[tokio::test]
    async fn omitted_thinking_has_a_block_and_no_text() {
        let sent = events(async |events| {
            let mut writer = Writer::new(head(false), events);
            writer.piece(Piece::Thinking("secret".to_owned())).await?;
            writer.piece(Piece::Text("Yes.".to_owned())).await
        })
        .await;
        assert_eq!(sent[0]["content_block"]["type"], "thinking");
        assert_eq!(
            (&sent[1]["delta"]["type"], &sent[2]["type"]),
            (&json!("signature_delta"), &json!("content_block_stop"))
        );
        assert!(sent.iter().all(|event| !event.to_string().contains("secret")));
    }

    #[tokio::test]
    async fn an_answer_of_nothing_has_an_empty_block() {
        let sent = events(async |events| {
            let mut writer = Writer::new(head(true), events);
            writer.end(Finish::End, &Totals::default()).await
        })
        .await;
        assert_eq!(sent[0]["content_block"], json!({"type": "text", "text": ""}));
        assert_eq!((&sent[1]["type"], sent.len()), (&json!("content_block_stop"), 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_who_waits_is_pinged() {
        let sent = events(async |events| {
            let writer = Writer::new(head(true), events);
            writer.wait(sleep(PING * 2 + PING / 2)).await
        })
        .await;
        assert_eq!(sent, [json!({"type": "ping"}), json!({"type": "ping"})]);
    }
}
