//! From parts of an answer to the items of a response, and the events that tell how they come about.

use std::collections::HashSet;

use autarky_text::AnswerPart;
use serde_json::{Value, json};

use super::items::{Call, reasoning_item};
use super::record::item_id;
use crate::generation::Finish;
use crate::ids;

/// The items of a response while the model writes it.
pub(super) struct Output {
    /// What the names of items have in common.
    common: String,
    /// The number of the first item, in its name.
    first: usize,
    /// The tools that take any text.
    custom: HashSet<String>,
    /// The events that have come about; `None`: nobody wants to hear of them.
    events: Option<Vec<Value>>,
    items: Vec<Value>,
    open: Option<Open>,
    /// The place of the next item in the stream.
    next: usize,
    /// Log probabilities of tokens whose text is still to come.
    held: Vec<Value>,
    /// Whether there was anything for the client: words or a call.
    answered: bool,
}

/// The item that is being written.
struct Open {
    id: String,
    index: usize,
    kind: Kind,
}

enum Kind {
    Message { text: String, logprobs: Vec<Value> },
    Reasoning { text: String },
    Call(Call),
}

impl Output {
    /// An output without items. Their names have `common` in them, and are numbered from `first`; the tools `custom`
    /// take any text; events are made if they are `told`.
    pub(super) fn new(common: &str, first: usize, custom: HashSet<String>, told: bool) -> Output {
        Output {
            common: common.to_owned(),
            first,
            custom,
            events: told.then(Vec::new),
            items: Vec::new(),
            open: None,
            next: 0,
            held: Vec::new(),
            answered: false,
        }
    }

    /// Takes more of the answer, and the log probabilities of its tokens if they are wanted.
    pub(super) fn push(&mut self, parts: Vec<AnswerPart>, logprobs: Vec<Value>) {
        self.held.extend(logprobs);
        // Tokens of reasoning and calls are not told.
        let unheard = !parts.is_empty() && !parts.iter().any(|part| matches!(part, AnswerPart::Content(_)));
        if unheard {
            self.held.clear();
        }
        for part in parts {
            match part {
                AnswerPart::Content(more) => self.say(&more),
                AnswerPart::Reasoning(more) => self.reason(&more),
                AnswerPart::ToolCallStart { name, .. } => self.call(name),
                AnswerPart::ToolCallArguments { json, .. } => self.argue(&json),
                AnswerPart::ToolCallEnd { .. } => self.close("completed"),
                AnswerPart::ToolCallAborted { .. } => self.abort(),
            }
        }
    }

    /// Ends the answer.
    pub(super) fn finish(&mut self, finish: &Finish) {
        let cut = *finish == Finish::Length;
        if !self.answered && !cut {
            // Clients look for a message in a response that is complete.
            self.open_message();
        }
        if let Some(Open { kind: Kind::Message { logprobs, .. }, .. }) = &mut self.open {
            logprobs.append(&mut self.held);
        }
        self.close(if cut { "incomplete" } else { "completed" });
    }

    /// The events since this was last called.
    pub(super) fn events(&mut self) -> Vec<Value> {
        self.events.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The items that are whole.
    pub(super) fn into_items(self) -> Vec<Value> {
        self.items
    }

    fn tell(&mut self, event: impl FnOnce() -> Value) {
        if let Some(events) = &mut self.events {
            events.push(event());
        }
    }

    fn open(&mut self, prefix: &str, kind: Kind) {
        self.close("completed");
        let index = self.next;
        self.next += 1;
        let id = item_id(prefix, &self.common, self.first + index);
        let open = Open { id, index, kind };
        let item = open.item("in_progress", true);
        self.tell(|| json!({"type": "response.output_item.added", "output_index": index, "item": item}));
        if let Some(part) = open.part(true) {
            let event = open.event("response.content_part.added", "part", part);
            self.tell(|| event);
        }
        self.open = Some(open);
    }

    fn open_message(&mut self) {
        self.answered = true;
        self.open("msg_", Kind::Message { text: String::new(), logprobs: Vec::new() });
    }

    fn say(&mut self, more: &str) {
        if !matches!(&self.open, Some(Open { kind: Kind::Message { .. }, .. })) {
            self.open_message();
        }
        let Some(open) = &mut self.open else { return };
        let Kind::Message { text, logprobs } = &mut open.kind else { return };
        text.push_str(more);
        let held = std::mem::take(&mut self.held);
        logprobs.extend_from_slice(&held);
        if self.events.is_some() {
            let mut event = open.event("response.output_text.delta", "delta", json!(more));
            insert(&mut event, "logprobs", Value::Array(held));
            self.tell(|| event);
        }
    }

    fn reason(&mut self, more: &str) {
        if !matches!(&self.open, Some(Open { kind: Kind::Reasoning { .. }, .. })) {
            self.open("rs_", Kind::Reasoning { text: String::new() });
        }
        let Some(open) = &mut self.open else { return };
        let Kind::Reasoning { text } = &mut open.kind else { return };
        text.push_str(more);
        if self.events.is_some() {
            let event = open.event("response.reasoning_text.delta", "delta", json!(more));
            self.tell(|| event);
        }
    }

    fn call(&mut self, name: String) {
        let custom = self.custom.contains(&name);
        let call = Call { id: ids::name("call_"), name, input: String::new(), custom };
        self.open(call.prefix(), Kind::Call(call));
    }

    fn argue(&mut self, more: &str) {
        let Some(open) = &mut self.open else { return };
        let Kind::Call(call) = &mut open.kind else { return };
        call.input.push_str(more);
        // What a custom tool is told stands within JSON that is still to be read.
        if self.events.is_some() && !call.custom {
            let event = open.event("response.function_call_arguments.delta", "delta", json!(more));
            self.tell(|| event);
        }
    }

    /// The open call is none: its text comes again as words. Who has heard of it hears that it never ended, and in the
    /// response it is not.
    fn abort(&mut self) {
        let Some(open) = self.open.take() else { return };
        let (index, item) = (open.index, open.item("incomplete", false));
        self.tell(|| json!({"type": "response.output_item.done", "output_index": index, "item": item}));
    }

    fn close(&mut self, status: &str) {
        let Some(mut open) = self.open.take() else { return };
        match &mut open.kind {
            Kind::Message { text, logprobs } => {
                let (text, logprobs) = (json!(text), json!(logprobs));
                let mut event = open.event("response.output_text.done", "text", text);
                insert(&mut event, "logprobs", logprobs);
                self.tell(|| event);
            }
            Kind::Reasoning { text } => {
                let text = json!(text);
                let event = open.event("response.reasoning_text.done", "text", text);
                self.tell(|| event);
            }
            Kind::Call(call) => {
                self.answered = true;
                if call.custom {
                    call.input = custom_input(std::mem::take(&mut call.input));
                }
                let (input, name, custom) = (json!(call.input), json!(call.name), call.custom);
                if custom {
                    let delta = open.event("response.custom_tool_call_input.delta", "delta", input.clone());
                    let done = open.event("response.custom_tool_call_input.done", "input", input);
                    self.tell(|| delta);
                    self.tell(|| done);
                } else {
                    let mut event = open.event("response.function_call_arguments.done", "arguments", input);
                    insert(&mut event, "name", name);
                    self.tell(|| event);
                }
            }
        }
        if let Some(part) = open.part(false) {
            let event = open.event("response.content_part.done", "part", part);
            self.tell(|| event);
        }
        let (index, item) = (open.index, open.item(status, false));
        let told = item.clone();
        self.tell(|| json!({"type": "response.output_item.done", "output_index": index, "item": told}));
        self.items.push(item);
    }
}

impl Open {
    /// An event about it.
    fn event(&self, kind: &str, name: &str, value: Value) -> Value {
        let mut event = json!({"type": kind, "item_id": self.id, "output_index": self.index, name: value});
        if !matches!(self.kind, Kind::Call(_)) {
            insert(&mut event, "content_index", json!(0));
        }
        event
    }

    /// Its part, for items that have parts; without its text while that is still to come.
    fn part(&self, begins: bool) -> Option<Value> {
        match &self.kind {
            Kind::Message { .. } if begins => Some(output_text("", &[])),
            Kind::Message { text, logprobs } => Some(output_text(text, logprobs)),
            Kind::Reasoning { text } => {
                let text = if begins { "" } else { text };
                Some(json!({"type": "reasoning_text", "text": text}))
            }
            Kind::Call(_) => None,
        }
    }

    /// It as the API tells it; without what is in it while that is still to come.
    fn item(&self, status: &str, begins: bool) -> Value {
        match &self.kind {
            Kind::Message { .. } => {
                let content: Vec<Value> = self.part(false).into_iter().filter(|_| !begins).collect();
                let (id, role) = (&self.id, "assistant");
                json!({"id": id, "type": "message", "status": status, "role": role, "content": content})
            }
            Kind::Reasoning { text } => reasoning_item(&self.id, text, status),
            Kind::Call(call) => call.to_json(&self.id, &call.input, status),
        }
    }
}

fn insert(event: &mut Value, name: &str, value: Value) {
    if let Some(map) = event.as_object_mut() {
        map.insert(name.to_owned(), value);
    }
}

fn output_text(text: &str, logprobs: &[Value]) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs})
}

/// The text that stands in the one argument of a custom tool.
fn custom_input(arguments: String) -> String {
    match serde_json::from_str::<Value>(&arguments) {
        Ok(value) => match value.get("input") {
            Some(Value::String(text)) => text.clone(),
            _ => arguments,
        },
        Err(_) => arguments,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What models do, in parts.
    fn deeds() -> Vec<Vec<AnswerPart>> {
        let call = |name: &str, pieces: &[&str], whole: bool| {
            let mut parts = vec![AnswerPart::ToolCallStart { index: 0, name: name.to_owned() }];
            let piece = |json: &&str| AnswerPart::ToolCallArguments { index: 0, json: (*json).to_owned() };
            parts.extend(pieces.iter().map(piece));
            parts.push(match whole {
                true => AnswerPart::ToolCallEnd { index: 0 },
                false => AnswerPart::ToolCallAborted { index: 0 },
            });
            parts
        };
        let mut aborted = call("f", &["{\"a"], false);
        aborted.push(AnswerPart::Content("<tool_call>{\"a".to_owned()));
        vec![
            vec![AnswerPart::Content("So ".to_owned()), AnswerPart::Content("it is.".to_owned())],
            vec![AnswerPart::Reasoning("Hm".to_owned()), AnswerPart::Reasoning("...".to_owned())],
            call("f", &["{\"a\"", ": 1}"], true),
            call("custom", &["{\"input\": \"x\\n", "y\"}"], true),
            aborted,
        ]
    }

    /// All sequences of up to `most` of the deeds.
    fn stories(most: usize) -> Vec<Vec<AnswerPart>> {
        let mut all = vec![Vec::new()];
        let mut longest = all.clone();
        for _ in 0..most {
            let longer = |story: &Vec<AnswerPart>| {
                let story = story.clone();
                deeds().into_iter().map(move |deed| [story.clone(), deed].concat())
            };
            longest = longest.iter().flat_map(longer).collect();
            all.extend(longest.clone());
        }
        all
    }

    /// Tells `story` part by part; gives the events and the items.
    fn told(story: &[AnswerPart], finish: &Finish) -> (Vec<Value>, Vec<Value>) {
        let custom = HashSet::from(["custom".to_owned()]);
        let mut output = Output::new("0123456789abcdef01234567", 2, custom, true);
        let mut events = Vec::new();
        for (number, part) in story.iter().enumerate() {
            output.push(vec![part.clone()], vec![json!({"token": number})]);
            events.extend(output.events());
        }
        output.finish(finish);
        events.extend(output.events());
        (events, output.into_items())
    }

    /// The items that come of events, as a client puts them together; those that never became whole are left out.
    fn put_together(events: &[Value]) -> Vec<Value> {
        let mut items = Vec::new();
        let mut open: Option<Value> = None;
        for event in events {
            let kind = event["type"].as_str().unwrap();
            match kind {
                "response.output_item.added" => {
                    assert_eq!(event["item"]["status"], "in_progress");
                    assert!(open.replace(event["item"].clone()).is_none(), "one at a time");
                }
                "response.output_item.done" => {
                    let mut item = open.take().expect("it was added");
                    item["status"] = event["item"]["status"].clone();
                    assert_eq!(item, event["item"]);
                    items.push(item);
                }
                _ => {
                    let item = open.as_mut().expect("an item");
                    assert_eq!(event["item_id"], item["id"]);
                    let delta = event["delta"].as_str().unwrap_or_default();
                    let add = |text: &mut Value| *text = json!(format!("{}{delta}", text.as_str().unwrap()));
                    match kind {
                        "response.content_part.added" => item["content"] = json!([event["part"]]),
                        "response.content_part.done" => assert_eq!(item["content"][0], event["part"]),
                        "response.output_text.delta" => {
                            add(&mut item["content"][0]["text"]);
                            let more = event["logprobs"].as_array().unwrap().clone();
                            item["content"][0]["logprobs"].as_array_mut().unwrap().extend(more);
                        }
                        "response.reasoning_text.delta" => add(&mut item["content"][0]["text"]),
                        "response.output_text.done" => {
                            assert_eq!(event["text"], item["content"][0]["text"]);
                            // The last tokens may have no text.
                            item["content"][0]["logprobs"] = event["logprobs"].clone();
                        }
                        "response.reasoning_text.done" => {
                            assert_eq!(event["text"], item["content"][0]["text"])
                        }
                        "response.function_call_arguments.delta" => add(&mut item["arguments"]),
                        "response.function_call_arguments.done" => {
                            assert_eq!(event["arguments"], item["arguments"]);
                        }
                        "response.custom_tool_call_input.delta" => add(&mut item["input"]),
                        "response.custom_tool_call_input.done" => assert_eq!(event["input"], item["input"]),
                        other => panic!("{other}"),
                    }
                }
            }
        }
        assert!(open.is_none(), "all items end");
        items
    }

    #[test]
    fn events_come_to_the_items() {
        for story in stories(3) {
            for finish in [Finish::End, Finish::ToolCalls, Finish::Length] {
                let (events, items) = told(&story, &finish);
                let mut told = put_together(&events);
                for (place, item) in told.iter().enumerate() {
                    let expected = item_id("", "0123456789abcdef01234567", 2 + place);
                    assert!(item["id"].as_str().unwrap().ends_with(&expected));
                }
                told.retain(|item| !(item["type"] == "function_call" && item["status"] == "incomplete"));
                assert_eq!(told, items, "{story:?}");
                let cut: Vec<&Value> = items.iter().filter(|item| item["status"] == "incomplete").collect();
                assert!(cut.len() <= usize::from(finish == Finish::Length), "only the last is cut: {cut:?}");
                let text = |part: &AnswerPart| match part {
                    AnswerPart::Content(text) => Some(text.clone()),
                    _ => None,
                };
                let all: String = story.iter().filter_map(text).collect();
                let parts = items.iter().filter(|item| item["type"] == "message");
                let said: String = parts.map(|item| item["content"][0]["text"].as_str().unwrap()).collect();
                assert_eq!(said, all);
            }
        }
    }

    #[test]
    fn a_custom_tool_gets_its_text() {
        let (_, items) = told(&deeds()[3], &Finish::ToolCalls);
        assert_eq!((&items[0]["type"], &items[0]["input"]), (&json!("custom_tool_call"), &json!("x\ny")));
        assert_eq!(custom_input("[1".to_owned()), "[1");
    }

    #[test]
    fn a_whole_answer_of_nothing_has_a_message() {
        let (_, items) = told(&[], &Finish::End);
        assert_eq!(items[0]["content"][0]["text"], "");
        assert_eq!(told(&[], &Finish::Length).1, Vec::<Value>::new());
    }

    #[test]
    fn tokens_are_told_with_the_words_that_they_make() {
        let [words, reasoning] = [deeds()[0].clone(), deeds()[1].clone()];
        let story = [reasoning, vec![], words].concat();
        let (_, items) = told(&story, &Finish::End);
        let tokens = json!([{"token": 2}, {"token": 3}]);
        assert_eq!(items[1]["content"][0]["logprobs"], tokens);
    }
}
