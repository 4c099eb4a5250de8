//! A response as it grows, and the events that tell of it.

use std::sync::Arc;

use autarky_text::{AnswerPart, Message, Tokenizer};
use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::generation::{Finish, Totals, Update};
use crate::ids;
use crate::openai::chat::logprob_entries;

/// An item that is being written.
enum Open {
    Message { id: String, text: String, logprobs: Vec<Value> },
    Reasoning { id: String, text: String },
    Call { id: String, call_id: String, name: String, arguments: String },
}

/// A response as it grows.
pub(super) struct Record {
    id: String,
    created: u64,
    echo: Map<String, Value>,
    /// Items that are whole.
    output: Vec<Value>,
    open: Option<Open>,
    finish: Finish,
    /// Events that were not fetched yet.
    events: Vec<Value>,
    sequence: u64,
    with_logprobs: bool,
    /// Log probabilities of tokens whose text is still to come.
    held: Vec<Value>,
    tokenizer: Arc<Tokenizer>,
}

impl Record {
    /// A response in which nothing is said. It tells `echo` of its request.
    pub(super) fn new(echo: Map<String, Value>, with_logprobs: bool, tokenizer: Arc<Tokenizer>) -> Record {
        Record {
            id: ids::name("resp_"),
            created: ids::now(),
            echo,
            output: Vec::new(),
            open: None,
            finish: Finish::Length,
            events: Vec::new(),
            sequence: 0,
            with_logprobs,
            held: Vec::new(),
            tokenizer,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The events since the last call.
    pub(super) fn events(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.events)
    }

    /// Tells that the response is there.
    pub(super) fn begin(&mut self) {
        for name in ["response.created", "response.in_progress"] {
            let response = self.response("in_progress", Map::new());
            self.tell(name, json!({"response": response}));
        }
    }

    /// Takes in what happened.
    pub(super) fn take(&mut self, update: Update) {
        match update {
            Update::Piece { parts, tokens, .. } => {
                if self.with_logprobs {
                    self.held.extend(logprob_entries(&self.tokenizer, &tokens));
                }
                parts.into_iter().for_each(|part| self.part(part));
            }
            Update::Ended { finish, .. } => {
                self.close(finish != Finish::Length);
                self.finish = finish;
            }
            Update::Started { .. } | Update::Finished(_) => {}
        }
    }

    /// Ends the response, and gives it.
    pub(super) fn finish(&mut self, totals: &Totals) -> Value {
        let (status, details) = match self.finish {
            Finish::Length => ("incomplete", json!({"reason": "max_output_tokens"})),
            _ => ("completed", Value::Null),
        };
        let mut more = Map::new();
        more.insert("incomplete_details".to_owned(), details);
        more.insert("usage".to_owned(), totals.responses());
        more.insert("timings".to_owned(), totals.timings());
        more.insert("completed_at".to_owned(), json!(ids::now()));
        let response = self.response(status, more);
        self.tell(&format!("response.{status}"), json!({"response": response}));
        response
    }

    /// Ends the response in an error.
    pub(super) fn fail(&mut self, error: &ApiError) {
        self.close(false);
        let code = if error.status.is_server_error() { "server_error" } else { "invalid_prompt" };
        let mut more = Map::new();
        more.insert("error".to_owned(), json!({"code": code, "message": error.message}));
        let response = self.response("failed", more);
        self.tell("response.failed", json!({"response": response}));
    }

    /// The answer as a message of the conversation.
    pub(super) fn message(&self) -> Option<Message> {
        let mut message = Message::new("assistant", "");
        let (mut said, mut calls) = (Vec::new(), Vec::new());
        for item in &self.output {
            let text = |at: &str| item.pointer(at).and_then(Value::as_str);
            match text("/type") {
                Some("message") => said.extend(text("/content/0/text")),
                Some("reasoning") => {
                    let thought = text("/content/0/text").unwrap_or_default();
                    message.extra.insert("reasoning_content".to_owned(), json!(thought));
                }
                Some("function_call") if text("/status") == Some("completed") => {
                    let function = json!({"name": text("/name"), "arguments": text("/arguments")});
                    calls.push(json!({"id": text("/call_id"), "type": "function", "function": function}));
                }
                _ => {}
            }
        }
        if said.is_empty() && calls.is_empty() {
            return None;
        }
        message.content = json!(said.concat());
        if !calls.is_empty() {
            message.extra.insert("tool_calls".to_owned(), Value::Array(calls));
        }
        Some(message)
    }

    fn response(&self, status: &str, more: Map<String, Value>) -> Value {
        let mut response = Map::new();
        let mut put = |name: &str, value: Value| {
            response.insert(name.to_owned(), value);
        };
        put("id", json!(self.id));
        put("object", json!("response"));
        put("created_at", json!(self.created));
        put("status", json!(status));
        put("error", Value::Null);
        put("incomplete_details", Value::Null);
        put("output", json!(self.output));
        put("usage", Value::Null);
        response.extend(self.echo.clone());
        response.extend(more);
        Value::Object(response)
    }

    /// Adds an event.
    fn tell(&mut self, name: &str, rest: Value) {
        let mut event = Map::new();
        event.insert("type".to_owned(), json!(name));
        event.insert("sequence_number".to_owned(), json!(self.sequence));
        if let Value::Object(rest) = rest {
            event.extend(rest);
        }
        self.sequence += 1;
        self.events.push(Value::Object(event));
    }

    /// Adds an event about the open item.
    fn tell_item(&mut self, name: &str, id: &str, rest: Value) {
        let mut event = json!({"item_id": id, "output_index": self.output.len()});
        if let (Some(map), Value::Object(rest)) = (event.as_object_mut(), rest) {
            map.extend(rest);
        }
        self.tell(name, event);
    }

    fn part(&mut self, part: AnswerPart) {
        match part {
            AnswerPart::Content(piece) => {
                if !matches!(self.open, Some(Open::Message { .. })) {
                    self.close(true);
                    let id = ids::name("msg_");
                    self.open(Open::Message { id, text: String::new(), logprobs: Vec::new() });
                }
                let held = std::mem::take(&mut self.held);
                if let Some(Open::Message { id, text, logprobs }) = &mut self.open {
                    text.push_str(&piece);
                    logprobs.extend(held.iter().cloned());
                    let id = id.clone();
                    let delta = json!({"content_index": 0, "delta": piece, "logprobs": held});
                    self.tell_item("response.output_text.delta", &id, delta);
                }
            }
            AnswerPart::Reasoning(piece) => {
                self.held.clear();
                if !matches!(self.open, Some(Open::Reasoning { .. })) {
                    self.close(true);
                    self.open(Open::Reasoning { id: ids::name("rs_"), text: String::new() });
                }
                if let Some(Open::Reasoning { id, text }) = &mut self.open {
                    text.push_str(&piece);
                    let id = id.clone();
                    self.tell_item(
                        "response.reasoning_text.delta",
                        &id,
                        json!({"content_index": 0, "delta": piece}),
                    );
                }
            }
            AnswerPart::ToolCallStart { name, .. } => {
                self.close(true);
                let (id, call_id) = (ids::name("fc_"), ids::name("call_"));
                self.open(Open::Call { id, call_id, name, arguments: String::new() });
            }
            AnswerPart::ToolCallArguments { json: piece, .. } => {
                self.held.clear();
                if let Some(Open::Call { id, arguments, .. }) = &mut self.open {
                    arguments.push_str(&piece);
                    let id = id.clone();
                    self.tell_item("response.function_call_arguments.delta", &id, json!({"delta": piece}));
                }
            }
            AnswerPart::ToolCallEnd { .. } => self.close(true),
            AnswerPart::ToolCallAborted { .. } => self.close(false),
        }
    }

    fn open(&mut self, open: Open) {
        let item = open.item("in_progress");
        let id = open.id().to_owned();
        self.tell("response.output_item.added", json!({"output_index": self.output.len(), "item": item}));
        if let Some(part) = open.empty_part() {
            self.tell_item("response.content_part.added", &id, json!({"content_index": 0, "part": part}));
        }
        self.open = Some(open);
    }

    /// Ends the open item.
    fn close(&mut self, whole: bool) {
        let Some(open) = self.open.take() else { return };
        let id = open.id().to_owned();
        match &open {
            Open::Message { text, logprobs, .. } => {
                let done = json!({"content_index": 0, "text": text, "logprobs": logprobs});
                self.tell_item("response.output_text.done", &id, done);
            }
            Open::Reasoning { text, .. } => {
                self.tell_item(
                    "response.reasoning_text.done",
                    &id,
                    json!({"content_index": 0, "text": text}),
                );
            }
            Open::Call { name, arguments, .. } => {
                let done = json!({"name": name, "arguments": arguments});
                self.tell_item("response.function_call_arguments.done", &id, done);
            }
        }
        if let Some(part) = open.part() {
            self.tell_item("response.content_part.done", &id, json!({"content_index": 0, "part": part}));
        }
        let item = open.item(if whole { "completed" } else { "incomplete" });
        self.tell("response.output_item.done", json!({"output_index": self.output.len(), "item": item}));
        self.output.push(item);
    }
}

impl Open {
    fn id(&self) -> &str {
        match self {
            Open::Message { id, .. } | Open::Reasoning { id, .. } | Open::Call { id, .. } => id,
        }
    }

    /// What it has of content.
    fn part(&self) -> Option<Value> {
        match self {
            Open::Message { text, logprobs, .. } => {
                Some(json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}))
            }
            Open::Reasoning { text, .. } => Some(json!({"type": "reasoning_text", "text": text})),
            Open::Call { .. } => None,
        }
    }

    fn empty_part(&self) -> Option<Value> {
        match self {
            Open::Message { .. } => {
                Some(json!({"type": "output_text", "text": "", "annotations": [], "logprobs": []}))
            }
            Open::Reasoning { .. } => Some(json!({"type": "reasoning_text", "text": ""})),
            Open::Call { .. } => None,
        }
    }

    fn item(&self, status: &str) -> Value {
        // An item that has just begun has no content.
        let content: Vec<Value> = self.part().into_iter().filter(|_| status != "in_progress").collect();
        match self {
            Open::Message { id, .. } => {
                json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": content})
            }
            Open::Reasoning { id, .. } => {
                json!({"id": id, "type": "reasoning", "status": status, "summary": [], "content": content})
            }
            Open::Call { id, call_id, name, arguments } => json!({
                "id": id,
                "type": "function_call",
                "status": status,
                "call_id": call_id,
                "name": name,
                "arguments": arguments,
            }),
        }
    }
}
