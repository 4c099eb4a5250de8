//! What stands behind the marker of a call, format by format.

use super::json::NotJson;
use super::markers::{Expect, Expected, Markers};
use super::object::{Arguments, CallObject, Progress};
use super::pairs::{GLM, Pair, Pairs, QWEN};
use super::parts::Sink;
use super::schema::Tools;

pub(super) const TOOL_CALL: &str = "<tool_call>";
pub(super) const TOOL_CALL_CLOSE: &str = "</tool_call>";
pub(super) const FUNCTION: &str = "<function=";
pub(super) const FUNCTION_CLOSE: &str = "</function>";
pub(super) const PYTHON_TAG: &str = "<|python_tag|>";
pub(super) const TOOL_CALLS: &str = "[TOOL_CALLS]";
pub(super) const ARGS: &str = "[ARGS]";
pub(super) const CALL_ID: &str = "[CALL_ID]";
pub(super) const CALLS_BEGIN: &str = "<｜tool▁calls▁begin｜>";
pub(super) const CALLS_END: &str = "<｜tool▁calls▁end｜>";
pub(super) const CALL_BEGIN: &str = "<｜tool▁call▁begin｜>";
pub(super) const CALL_END: &str = "<｜tool▁call▁end｜>";
pub(super) const SEPARATOR: &str = "<｜tool▁sep｜>";
pub(super) const FENCE: &str = "```json";
pub(super) const FENCE_CLOSE: &str = "```";

/// What a character did to the text behind a marker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    More,
    /// The call is whole, and this text, if any, is not of it.
    Done(String),
    /// No call, or no further one; what it is must be found from this text on.
    Wrong(String),
}

/// The text behind a marker.
#[derive(Debug)]
pub(super) enum Body {
    /// Behind `<tool_call>`: JSON, `<function=`, or (GLM) a name.
    Tagged { glm: bool, expect: Expect },
    /// Behind `<|python_tag|>`: JSON.
    Python,
    /// A call as JSON.
    Object(CallObject),
    /// Behind `<function=`: a name, up to `>`.
    FunctionName(String),
    /// Behind GLM's `<tool_call>`: a name, up to a line break or tag.
    GlmName(String),
    /// Behind a name: arguments between tags; behind `<function=NAME>`, JSON as well.
    Pairs(Pairs),
    /// A call's arguments as JSON; its name was passed on.
    Arguments(Arguments),
    /// Behind `[TOOL_CALLS]`: a list of JSON, one JSON, or a name.
    Mistral,
    /// In a list of calls as JSON, before a call.
    List,
    /// In a list, in a call.
    ListObject(CallObject),
    /// In a list, behind a call.
    ListNext,
    /// A name up to `[ARGS]`, `[CALL_ID]` or `{`.
    MistralName { name: String, markers: Markers },
    /// Behind `[CALL_ID]`, up to `[ARGS]`.
    MistralId { name: String, markers: Markers },
    /// Before a call's `{`.
    BeforeArguments(String),
    /// Behind `<｜tool▁calls▁begin｜>`: `<｜tool▁call▁begin｜>`.
    DeepSeek(Expect),
    /// A type or name, up to `<｜tool▁sep｜>`.
    DeepSeekFirst { first: String, markers: Markers },
    /// Behind `<｜tool▁sep｜>`: JSON if that was the name, else the name, up to the end of its line.
    DeepSeekSecond { first: String, second: String },
    /// Before "```json".
    DeepSeekFence { name: String, expect: Expect },
}

impl Body {
    /// What a marker opens. `glm`: names may stand behind `<tool_call>`.
    pub(super) fn behind(marker: &str, glm: bool) -> Self {
        match marker {
            PYTHON_TAG => Self::Python,
            FUNCTION => Self::FunctionName(String::new()),
            TOOL_CALLS => Self::Mistral,
            CALLS_BEGIN => Self::DeepSeek(Expect::new(&[CALL_BEGIN])),
            CALL_BEGIN => Self::DeepSeekFirst { first: String::new(), markers: Markers::new([SEPARATOR]) },
            _ => Self::Tagged { glm, expect: Expect::new(&[FUNCTION]) },
        }
    }

    /// Takes the next character.
    pub(super) fn push(&mut self, c: char, sink: &mut Sink, tools: &Tools) -> Step {
        let blank = c.is_whitespace();
        let in_list = matches!(self, Self::ListObject(_));
        let mut free = String::new();
        match self {
            Self::Tagged { .. } | Self::Python | Self::Mistral | Self::List | Self::BeforeArguments(_)
                if blank && self.is_before_anything() =>
            {
                Step::More
            }
            Self::Python | Self::List if c != '{' => Step::Wrong(c.into()),
            Self::Tagged { expect, .. } if c == '{' && expect.is_idle() => {
                self.becomes_with(Self::Object(CallObject::new(false)), c, sink, tools)
            }
            Self::Python => self.becomes_with(Self::Object(CallObject::new(false)), c, sink, tools),
            Self::List => self.becomes_with(Self::ListObject(CallObject::new(false)), c, sink, tools),
            Self::Tagged { glm, expect } => match expect.push(c) {
                Expected::More => Step::More,
                Expected::Found(_) => self.becomes(Self::FunctionName(String::new())),
                Expected::Other(text) if *glm && !text.starts_with('<') => self.becomes(Self::GlmName(text)),
                Expected::Other(text) => Step::Wrong(text),
            },
            Self::Object(call) | Self::ListObject(call) => match call.push(c, sink, tools) {
                Ok(Progress::More) => Step::More,
                Ok(Progress::Whole) if in_list => self.becomes(Self::ListNext),
                Ok(Progress::Whole) => Step::Done(String::new()),
                // Only the end is missing, which models do forget.
                Err(NotJson) if call.is_complete() => {
                    sink.end();
                    Step::Done(c.into())
                }
                Err(NotJson) => Step::Wrong(c.into()),
            },
            Self::FunctionName(name) => match c {
                '>' if !name.trim().is_empty() => {
                    let pairs = Pairs::new(&QWEN, name.trim());
                    self.becomes(Self::Pairs(pairs))
                }
                '>' | '<' | '\n' => Step::Wrong(c.into()),
                _ => {
                    name.push(c);
                    Step::More
                }
            },
            Self::GlmName(name) => match c {
                '<' | '\n' => {
                    let pairs = Pairs::new(&GLM, name.trim());
                    self.becomes_with(Self::Pairs(pairs), c, sink, tools)
                }
                '{' => {
                    let before = Self::BeforeArguments(std::mem::take(name));
                    self.becomes_with(before, c, sink, tools)
                }
                _ => {
                    name.push(c);
                    Step::More
                }
            },
            Self::Pairs(pairs) if c == '{' && pairs.may_be_json() => {
                let before = Self::BeforeArguments(pairs.name().to_owned());
                self.becomes_with(before, c, sink, tools)
            }
            Self::Pairs(pairs) => match pairs.push(c, sink, tools) {
                Pair::More => Step::More,
                Pair::Whole => Step::Done(String::new()),
                Pair::Wrong(text) => Step::Wrong(text),
            },
            Self::Arguments(arguments) => match arguments.push(c, sink) {
                Ok(Progress::More) => Step::More,
                Ok(Progress::Whole) => {
                    sink.end();
                    Step::Done(String::new())
                }
                Err(NotJson) => Step::Wrong(c.into()),
            },
            Self::Mistral => match c {
                '[' => self.becomes(Self::List),
                '{' => self.becomes_with(Self::Object(CallObject::new(false)), c, sink, tools),
                _ => {
                    let markers = Markers::new([ARGS, CALL_ID]);
                    let name = Self::MistralName { name: String::new(), markers };
                    self.becomes_with(name, c, sink, tools)
                }
            },
            Self::ListNext => match c {
                ',' => self.becomes(Self::List),
                ']' => Step::Done(String::new()),
                _ if blank => Step::More,
                _ => Step::Done(c.into()),
            },
            Self::MistralName { name, markers } => {
                if c == '{' && markers.is_idle() {
                    let before = Self::BeforeArguments(std::mem::take(name));
                    return self.becomes_with(before, c, sink, tools);
                }
                let found = markers.push(c, &mut free);
                name.push_str(&free);
                let wrong = free.contains(['\n', '{']) || name.trim().is_empty() && found.is_some();
                match found {
                    _ if wrong => Step::Wrong(c.into()),
                    Some(CALL_ID) => {
                        let (name, markers) = (std::mem::take(name), Markers::new([ARGS]));
                        self.becomes(Self::MistralId { name, markers })
                    }
                    Some(_) => {
                        let before = Self::BeforeArguments(std::mem::take(name));
                        self.becomes(before)
                    }
                    None => Step::More,
                }
            }
            Self::MistralId { name, markers } => match markers.push(c, &mut free) {
                Some(_) => {
                    let before = Self::BeforeArguments(std::mem::take(name));
                    self.becomes(before)
                }
                None if free.contains(['\n', '{']) => Step::Wrong(c.into()),
                None => Step::More,
            },
            Self::BeforeArguments(name) => {
                if c != '{' || name.trim().is_empty() {
                    return Step::Wrong(c.into());
                }
                sink.start(name.trim());
                self.becomes_with(Self::Arguments(Arguments::new()), c, sink, tools)
            }
            Self::DeepSeek(expect) => match expect.push(c) {
                Expected::More => Step::More,
                Expected::Found(marker) => self.becomes(Self::behind(marker, false)),
                Expected::Other(text) => Step::Wrong(text),
            },
            Self::DeepSeekFirst { first, markers } => {
                if markers.push(c, &mut free).is_some() {
                    let first = std::mem::take(first);
                    return self.becomes(Self::DeepSeekSecond { first, second: String::new() });
                }
                // Another marker instead of the separator: the name alone is no call.
                if let Some(at) = free.find('<') {
                    return Step::Wrong(free.split_off(at) + &markers.take());
                }
                first.push_str(&free);
                Step::More
            }
            Self::DeepSeekSecond { first, second } => match c {
                '{' if second.is_empty() => {
                    let before = Self::BeforeArguments(std::mem::take(first));
                    self.becomes_with(before, c, sink, tools)
                }
                _ if blank && second.is_empty() => Step::More,
                '<' | '{' => Step::Wrong(c.into()),
                '\n' | '`' => {
                    let (name, expect) = (std::mem::take(second), Expect::new(&[FENCE]));
                    self.becomes_with(Self::DeepSeekFence { name, expect }, c, sink, tools)
                }
                _ => {
                    second.push(c);
                    Step::More
                }
            },
            Self::DeepSeekFence { name, expect } => {
                if c == '{' && expect.is_idle() {
                    let before = Self::BeforeArguments(std::mem::take(name));
                    return self.becomes_with(before, c, sink, tools);
                }
                match expect.push(c) {
                    Expected::More => Step::More,
                    Expected::Found(_) => {
                        let before = Self::BeforeArguments(std::mem::take(name));
                        self.becomes(before)
                    }
                    Expected::Other(text) => Step::Wrong(text),
                }
            }
        }
    }

    /// The text ended. Whether a call that only lacks its end is whole now.
    pub(super) fn finish(&self, sink: &mut Sink) -> bool {
        match self {
            Self::Object(call) | Self::ListObject(call) if call.is_complete() => {
                sink.end();
                true
            }
            Self::ListNext => true,
            _ => false,
        }
    }

    /// Blanks may be skipped.
    fn is_before_anything(&self) -> bool {
        match self {
            Self::Tagged { expect, .. } => expect.is_idle(),
            _ => true,
        }
    }

    fn becomes(&mut self, next: Self) -> Step {
        *self = next;
        Step::More
    }

    fn becomes_with(&mut self, next: Self, c: char, sink: &mut Sink, tools: &Tools) -> Step {
        *self = next;
        self.push(c, sink, tools)
    }
}
