//! Calls that write each argument between tags, as Qwen3-Coder and GLM-4.5 do.

use super::json::{push_escaped, quoted};
use super::markers::{Expect, Expected, Markers};
use super::parts::Sink;
use super::schema::{Tools, Types};

/// The tags of a format.
#[derive(Debug)]
pub(super) struct Tags {
    /// Begins an argument, or ends the call.
    key_or_end: &'static [&'static str],
    end: &'static str,
    key_close: &'static str,
    /// Before the value, if anything.
    value_open: &'static [&'static str],
    value_close: &'static str,
    /// A line break at each end of a value belongs to the tags.
    lines: bool,
}

/// `<parameter=KEY>\nVALUE\n</parameter>` ... `</function>`
pub(super) const QWEN: Tags = Tags {
    key_or_end: &["<parameter=", "</function>"],
    end: "</function>",
    key_close: ">",
    value_open: &[],
    value_close: "</parameter>",
    lines: true,
};

/// `<arg_key>KEY</arg_key>\n<arg_value>VALUE</arg_value>` ... `</tool_call>`
pub(super) const GLM: Tags = Tags {
    key_or_end: &["<arg_key>", "</tool_call>"],
    end: "</tool_call>",
    key_close: "</arg_key>",
    value_open: &["<arg_value>"],
    value_close: "</arg_value>",
    lines: false,
};

#[derive(Debug)]
enum State {
    Between(Expect),
    Key(Markers, String),
    ValueOpen(Expect),
    Value(Markers, Value),
}

/// A value, as far as it was read.
#[derive(Debug)]
enum Value {
    /// A string, passed on as it comes; whether it has begun, and a line break that may be the last.
    Text { begun: bool, line: bool },
    /// Of some type, which its end decides.
    Typed(String),
}

/// The arguments of a call.
#[derive(Debug)]
pub(super) struct Pairs {
    tags: &'static Tags,
    name: String,
    key: String,
    count: usize,
    state: State,
}

/// What a character did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pair {
    More,
    Whole,
    /// No call from this text on.
    Wrong(String),
}

impl Pairs {
    pub(super) fn new(tags: &'static Tags, name: &str) -> Self {
        let state = State::Between(Expect::new(tags.key_or_end));
        Self { tags, name: name.to_owned(), key: String::new(), count: 0, state }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Nothing was read, and JSON could stand instead.
    pub(super) fn may_be_json(&self) -> bool {
        self.tags.value_open.is_empty()
            && self.count == 0
            && matches!(&self.state, State::Between(expect) if expect.is_idle())
    }

    pub(super) fn push(&mut self, c: char, sink: &mut Sink, tools: &Tools) -> Pair {
        let tags = self.tags;
        let mut free = String::new();
        match &mut self.state {
            State::Between(expect) => match expect.push(c) {
                Expected::More => {}
                Expected::Other(text) => return Pair::Wrong(text),
                Expected::Found(tag) => {
                    if self.count == 0 {
                        sink.start(&self.name);
                        sink.arguments("{");
                    }
                    if tag == tags.end {
                        sink.arguments("}");
                        sink.end();
                        return Pair::Whole;
                    }
                    self.state = State::Key(Markers::new([tags.key_close]), String::new());
                }
            },
            State::Key(markers, key) => {
                let found = markers.push(c, &mut free);
                key.push_str(&free);
                if found.is_some() {
                    self.key = key.trim().to_owned();
                    if tags.value_open.is_empty() {
                        self.open_value(sink, tools);
                    } else {
                        self.state = State::ValueOpen(Expect::new(tags.value_open));
                    }
                }
            }
            State::ValueOpen(expect) => match expect.push(c) {
                Expected::More => {}
                Expected::Other(text) => return Pair::Wrong(text),
                Expected::Found(_) => self.open_value(sink, tools),
            },
            State::Value(markers, value) => {
                let found = markers.push(c, &mut free);
                value.push(&free, tags.lines, sink);
                if found.is_some() {
                    value.close(tags.lines, tools.types(&self.name, &self.key), sink);
                    self.count += 1;
                    self.state = State::Between(Expect::new(tags.key_or_end));
                }
            }
        }
        Pair::More
    }

    fn open_value(&mut self, sink: &mut Sink, tools: &Tools) {
        if self.count > 0 {
            sink.arguments(", ");
        }
        sink.arguments(&quoted(&self.key));
        sink.arguments(": ");
        let value = if tools.types(&self.name, &self.key).only_string() {
            sink.arguments("\"");
            Value::Text { begun: false, line: false }
        } else {
            Value::Typed(String::new())
        };
        self.state = State::Value(Markers::new([self.tags.value_close]), value);
    }
}

impl Value {
    fn push(&mut self, text: &str, lines: bool, sink: &mut Sink) {
        match self {
            Self::Typed(all) => all.push_str(text),
            Self::Text { begun, line } => {
                let mut out = String::new();
                for c in text.chars() {
                    if std::mem::take(line) {
                        push_escaped('\n', &mut out);
                    }
                    match (lines, c, *begun) {
                        (true, '\n', true) => *line = true,
                        (true, '\n', false) => {}
                        _ => push_escaped(c, &mut out),
                    }
                    *begun = true;
                }
                sink.arguments(&out);
            }
        }
    }

    fn close(&mut self, lines: bool, types: Types, sink: &mut Sink) {
        match self {
            Self::Text { .. } => sink.arguments("\""),
            Self::Typed(text) => {
                let mut text = &**text;
                if lines {
                    text = text.strip_prefix('\n').unwrap_or(text);
                    text = text.strip_suffix('\n').unwrap_or(text);
                }
                sink.arguments(&types.value(text));
            }
        }
    }
}
