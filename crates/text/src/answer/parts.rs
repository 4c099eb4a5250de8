//! What comes out of an answer.

/// A piece of an answer, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerPart {
    /// Text for the reader.
    Content(String),
    /// Text that the model wrote to itself before it answered.
    Reasoning(String),
    /// A call begins. Calls are counted from 0, and only one is open at a time.
    ToolCallStart {
        /// Which call.
        index: usize,
        /// The tool that is called, in the model's words: it may be one that was not offered.
        name: String,
    },
    /// More of the open call's arguments. All pieces together are one JSON object.
    ToolCallArguments {
        /// Which call.
        index: usize,
        /// The next piece of JSON text.
        json: String,
    },
    /// The open call is whole: its arguments are a JSON object.
    ToolCallEnd {
        /// Which call.
        index: usize,
    },
    /// The open call is none: the text ended within it, or went on as no call does. Its arguments so far are no
    /// whole JSON; its text follows as content. Do not run it.
    ToolCallAborted {
        /// Which call.
        index: usize,
    },
}

/// A whole call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// The tool, in the model's words.
    pub name: String,
    /// A JSON object as text.
    pub arguments: String,
}

/// A whole answer, for who does not stream: the sum of its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Text for the reader.
    pub content: String,
    /// Text that the model wrote to itself.
    pub reasoning: String,
    /// Whole calls; aborted ones are part of the content.
    pub calls: Vec<ToolCall>,
    open: Option<ToolCall>,
}

impl Answer {
    /// Adds the next part.
    pub fn add(&mut self, part: AnswerPart) {
        match part {
            AnswerPart::Content(text) => self.content.push_str(&text),
            AnswerPart::Reasoning(text) => self.reasoning.push_str(&text),
            AnswerPart::ToolCallStart { name, .. } => {
                self.open = Some(ToolCall { name, arguments: String::new() });
            }
            AnswerPart::ToolCallArguments { json, .. } => {
                if let Some(call) = &mut self.open {
                    call.arguments.push_str(&json);
                }
            }
            AnswerPart::ToolCallEnd { .. } => self.calls.extend(self.open.take()),
            AnswerPart::ToolCallAborted { .. } => self.open = None,
        }
    }
}

impl Extend<AnswerPart> for Answer {
    fn extend<T: IntoIterator<Item = AnswerPart>>(&mut self, parts: T) {
        parts.into_iter().for_each(|part| self.add(part));
    }
}

/// Gathers parts, and joins what belongs together.
#[derive(Debug, Default)]
pub(super) struct Sink {
    parts: Vec<AnswerPart>,
    /// The place of the next call.
    next: usize,
    open: bool,
    /// The text since the last call ended, as long as it may belong to another: what becomes content if it does
    /// not.
    pub(super) raw: String,
}

impl Sink {
    pub(super) fn take(&mut self) -> Vec<AnswerPart> {
        std::mem::take(&mut self.parts)
    }

    pub(super) fn content(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(AnswerPart::Content(last)) => last.push_str(text),
            _ => self.parts.push(AnswerPart::Content(text.to_owned())),
        }
    }

    pub(super) fn reasoning(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(AnswerPart::Reasoning(last)) => last.push_str(text),
            _ => self.parts.push(AnswerPart::Reasoning(text.to_owned())),
        }
    }

    pub(super) fn start(&mut self, name: &str) {
        self.open = true;
        self.parts.push(AnswerPart::ToolCallStart { index: self.next, name: name.to_owned() });
    }

    pub(super) fn arguments(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(AnswerPart::ToolCallArguments { json, .. }) => json.push_str(text),
            _ => {
                self.parts.push(AnswerPart::ToolCallArguments { index: self.next, json: text.to_owned() });
            }
        }
    }

    /// The open call is whole, and its text is no content.
    pub(super) fn end(&mut self) {
        self.parts.push(AnswerPart::ToolCallEnd { index: self.next });
        self.raw.clear();
        self.next += 1;
        self.open = false;
    }

    /// Takes back the open call, if there is one.
    pub(super) fn abort(&mut self) {
        if self.open {
            self.parts.push(AnswerPart::ToolCallAborted { index: self.next });
            self.next += 1;
            self.open = false;
        }
    }
}
