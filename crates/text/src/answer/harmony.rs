//! The messages of which gpt-oss makes its answers: OpenAI's harmony format.
//!
//! A message is a header, `<|message|>`, a text, and one of [`ENDS`]. Behind `<|channel|>` the header names the channel:
//! `analysis` is reasoning, the others are for the reader; `to=functions.NAME` makes the text a call's arguments.

use super::markers::Markers;

pub(super) const START: &str = "<|start|>";
pub(super) const CHANNEL: &str = "<|channel|>";
pub(super) const CONSTRAIN: &str = "<|constrain|>";
pub(super) const MESSAGE: &str = "<|message|>";
pub(super) const ENDS: [&str; 3] = ["<|end|>", "<|return|>", "<|call|>"];

/// What a message is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Content,
    Reasoning,
    /// The arguments of a call of this tool.
    Call(String),
}

/// A header, as far as it was read.
#[derive(Debug)]
pub(super) struct Header {
    markers: Markers,
    /// Its text, a line for each marker.
    text: String,
}

impl Header {
    /// Behind `<|start|>` or `<|channel|>`.
    pub(super) fn behind(marker: &str) -> Self {
        let mut header = Self { markers: Markers::new([CHANNEL, CONSTRAIN, MESSAGE]), text: String::new() };
        header.marker(marker);
        header
    }

    fn marker(&mut self, marker: &str) {
        self.text.push('\n');
        self.text.push_str(marker);
    }

    /// Takes the next character. Says what the message is when its text begins.
    pub(super) fn push(&mut self, c: char) -> Option<Message> {
        let mut free = String::new();
        let found = self.markers.push(c, &mut free);
        self.text.push_str(&free);
        let marker = found?;
        if marker != MESSAGE {
            self.marker(marker);
            return None;
        }
        let recipient = self.text.split_whitespace().find_map(|word| word.split_once("to=functions."));
        if let Some((_, name)) = recipient.filter(|(_, name)| !name.is_empty()) {
            return Some(Message::Call(name.to_owned()));
        }
        let channel = self.text.lines().find_map(|line| line.strip_prefix(CHANNEL)).unwrap_or_default();
        Some(if channel.trim_start().starts_with("analysis") { Message::Reasoning } else { Message::Content })
    }
}
