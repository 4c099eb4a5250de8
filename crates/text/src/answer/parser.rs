//! An answer's text to its parts.

use serde_json::Value as Json;

use super::body::{Body, Step};
use super::format::{AnswerFormat, CallFormat};
use super::harmony::{Header, Message};
use super::markers::Markers;
use super::object::CallObject;
use super::parts::{AnswerPart, Sink};
use super::schema::Tools;

/// How to read an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AnswerOptions {
    /// The tools that were offered, in the form of OpenAI's API. Their schemas say which type an argument has
    /// where the format does not. Without tools, markup of calls is content.
    pub tools: Option<Json>,
    /// Reasoning stays in the content, with its markers. It is still no place for calls.
    pub keep_reasoning: bool,
    /// The prompt ended within reasoning, so the answer begins there.
    pub starts_in_reasoning: bool,
}

/// Takes an answer apart while it is generated.
///
/// All parts together hold all of the text, but for the markup of whole calls, the markers of reasoning and the
/// blanks around them. In which pieces the text comes makes no difference to what comes out, but for where its
/// parts are cut. Time is linear in the text.
#[derive(Debug)]
pub struct AnswerParser {
    format: AnswerFormat,
    /// `None`: markup of calls is content.
    tools: Option<Tools>,
    keep_reasoning: bool,
    place: Place,
    markers: Markers,
    sink: Sink,
    /// Blanks that may come before a marker and then are no content.
    blanks: String,
    /// There was content, so that reasoning and bare JSON can no longer begin.
    answered: bool,
    /// There was reasoning, apart from the content.
    reasoned: bool,
    /// A call ended, and nothing but blanks and its markup came since.
    after_call: bool,
}

/// Where in the answer we are.
#[derive(Debug)]
enum Place {
    Content,
    /// In reasoning; whether any of it was given out.
    Reasoning(Markers, bool),
    Call(Body),
    /// In the header of one of gpt-oss's messages.
    Header(Header),
}

impl AnswerParser {
    /// A parser at the beginning of an answer.
    #[must_use]
    pub fn new(format: AnswerFormat, options: &AnswerOptions) -> Self {
        let tools = options.tools.as_ref().map(Tools::new);
        let mut texts = Vec::new();
        let harmony = format.calls == CallFormat::Harmony;
        if tools.is_some() || harmony {
            texts.extend_from_slice(format.call_markers());
            texts.extend_from_slice(format.call_closers());
        }
        if !harmony {
            texts.extend(format.reasoning.map(super::ReasoningFormat::open));
        }
        let place = match format.reasoning {
            Some(reasoning) if options.starts_in_reasoning => {
                Place::Reasoning(Markers::new([reasoning.close()]), false)
            }
            _ => Place::Content,
        };
        Self {
            format,
            tools,
            keep_reasoning: options.keep_reasoning,
            place,
            markers: Markers::new(texts),
            sink: Sink::default(),
            blanks: String::new(),
            answered: false,
            reasoned: false,
            after_call: false,
        }
    }

    /// Takes the next piece of text. Gives what is certain now; the rest comes later.
    pub fn push(&mut self, text: &str) -> Vec<AnswerPart> {
        text.chars().for_each(|c| self.step(c));
        self.sink.take()
    }

    /// Ends the answer: gives what was held back. A call that is not whole is content.
    pub fn finish(&mut self) -> Vec<AnswerPart> {
        match std::mem::replace(&mut self.place, Place::Content) {
            Place::Content => {
                let held = self.markers.take();
                self.content(&held);
            }
            Place::Reasoning(mut markers, begun) => {
                let held = markers.take();
                self.reasoning(&held, begun);
            }
            Place::Header(_) => self.leave_call(false, 0),
            Place::Call(body) => {
                let whole = body.finish(&mut self.sink);
                self.leave_call(whole, 0);
            }
        }
        let blanks = std::mem::take(&mut self.blanks);
        if !self.after_call && (self.answered || !self.reasoned) {
            self.sink.content(&blanks);
        }
        self.sink.take()
    }

    fn step(&mut self, c: char) {
        match &mut self.place {
            Place::Content => self.step_in_content(c),
            Place::Reasoning(markers, begun) => {
                let (mut free, begun) = (String::new(), *begun);
                let closed = markers.push(c, &mut free);
                let begun = self.reasoning(&free, begun);
                match (&mut self.place, closed) {
                    (_, Some(marker)) => self.leave_reasoning(marker),
                    (Place::Reasoning(_, place), None) => *place = begun,
                    _ => {}
                }
            }
            Place::Header(header) => {
                self.sink.raw.push(c);
                if let Some(message) = header.push(c) {
                    self.enter_message(message);
                }
            }
            Place::Call(body) => {
                self.sink.raw.push(c);
                let no_tools = Tools::default();
                let tools = self.tools.as_ref().unwrap_or(&no_tools);
                let (whole, unread) = match body.push(c, &mut self.sink, tools) {
                    Step::More => return,
                    Step::Done(unread) => (true, unread),
                    Step::Wrong(unread) => (false, unread),
                };
                self.leave_call(whole, unread.len());
                unread.chars().for_each(|c| self.step(c));
            }
        }
    }

    fn step_in_content(&mut self, c: char) {
        if self.may_be_bare() {
            match c {
                '{' => {
                    self.enter(Place::Call(Body::Object(CallObject::new(true))), "");
                    return self.step(c);
                }
                // Stands between two calls.
                ';' if self.after_call => return self.blanks.push(c),
                _ => {}
            }
        }
        let mut free = String::new();
        let found = self.markers.push(c, &mut free);
        self.content(&free);
        let Some(marker) = found else { return };
        if self.format.calls == CallFormat::Harmony {
            return self.between_messages(marker);
        }
        let reasoning = self.format.reasoning.filter(|reasoning| reasoning.open() == marker);
        if let Some(reasoning) = reasoning {
            if self.answered {
                return self.content(marker);
            }
            if self.keep_reasoning {
                let blanks = std::mem::take(&mut self.blanks);
                self.sink.content(&blanks);
                self.sink.content(marker);
            }
            self.blanks.clear();
            self.place = Place::Reasoning(Markers::new([reasoning.close()]), false);
        } else if self.format.call_markers().contains(&marker) {
            let glm = self.format.calls == CallFormat::Glm;
            self.enter(Place::Call(Body::behind(marker, glm)), marker);
        } else if self.after_call {
            self.blanks.clear();
        } else {
            self.content(marker);
        }
    }

    /// Whether JSON here may be a call although no marker precedes it.
    fn may_be_bare(&self) -> bool {
        self.format.calls == CallFormat::Llama
            && self.tools.is_some()
            && !self.answered
            && self.markers.is_idle()
    }

    /// Goes to a place whose text may turn out to be content.
    fn enter(&mut self, place: Place, marker: &str) {
        self.sink.raw.clear();
        self.sink.raw.push_str(&self.blanks);
        self.sink.raw.push_str(marker);
        self.blanks.clear();
        self.place = place;
    }

    /// Goes on behind a marker that begins or ends one of gpt-oss's messages.
    fn between_messages(&mut self, marker: &str) {
        if self.format.call_markers().contains(&marker) {
            self.enter(Place::Header(Header::behind(marker)), marker);
        } else {
            self.blanks.clear();
        }
    }

    /// Begins the text of one of gpt-oss's messages.
    fn enter_message(&mut self, message: Message) {
        match (message, self.format.reasoning) {
            (Message::Call(name), _) if self.tools.is_some() => {
                self.place = Place::Call(Body::BeforeArguments(name));
            }
            (Message::Reasoning, Some(reasoning)) => {
                let raw = std::mem::take(&mut self.sink.raw);
                self.sink.content(if self.keep_reasoning { &raw } else { "" });
                self.place = Place::Reasoning(Markers::new([reasoning.close()]), false);
            }
            _ => {
                self.sink.raw.clear();
                self.place = Place::Content;
            }
        }
    }

    /// Leaves a call; `unread` bytes at the end of its text are to be read again. What is no call is content.
    fn leave_call(&mut self, whole: bool, unread: usize) {
        self.place = Place::Content;
        let mut raw = std::mem::take(&mut self.sink.raw);
        if whole {
            self.after_call = true;
        } else {
            self.sink.abort();
            raw.truncate(raw.len().saturating_sub(unread));
            self.content(&raw);
        }
    }

    fn leave_reasoning(&mut self, marker: &str) {
        if self.keep_reasoning {
            let blanks = std::mem::take(&mut self.blanks);
            self.sink.content(&blanks);
            self.sink.content(marker);
        } else {
            self.reasoned = true;
        }
        self.blanks.clear();
        self.place = Place::Content;
    }

    /// Gives out content; blanks only when something follows them.
    fn content(&mut self, text: &str) {
        for c in text.chars() {
            if c.is_whitespace() {
                self.blanks.push(c);
                continue;
            }
            if self.answered || !self.reasoned {
                self.sink.content(&self.blanks);
            }
            self.blanks.clear();
            self.answered = true;
            self.after_call = false;
            let mut buffer = [0; 4];
            self.sink.content(c.encode_utf8(&mut buffer));
        }
    }

    /// Gives out reasoning without the blanks around it. Returns whether there was any by now.
    fn reasoning(&mut self, text: &str, mut begun: bool) -> bool {
        for c in text.chars() {
            if c.is_whitespace() {
                self.blanks.push(c);
                continue;
            }
            let blanks = std::mem::take(&mut self.blanks);
            let mut buffer = [0; 4];
            let c = c.encode_utf8(&mut buffer);
            if self.keep_reasoning {
                self.sink.content(&blanks);
                self.sink.content(c);
            } else {
                self.sink.reasoning(if begun { &blanks } else { "" });
                self.sink.reasoning(c);
            }
            begun = true;
        }
        begun
    }
}
