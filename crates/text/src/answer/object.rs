//! Calls that are JSON: `{"name": ..., "arguments": {...}}`, and arguments that are a JSON object.

use super::json::{Kind, NotJson, Scanner, kind, push_json_char};
use super::parts::Sink;
use super::schema::Tools;

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    /// The last character ended it.
    Whole,
}

/// A JSON object that is passed on as it comes.
#[derive(Debug)]
pub(super) struct Arguments {
    scanner: Scanner,
}

impl Arguments {
    pub(super) fn new() -> Self {
        Self { scanner: Scanner::new() }
    }

    /// Takes the next character, the first of which must be `{`.
    pub(super) fn push(&mut self, c: char, sink: &mut Sink) -> Result<Progress, NotJson> {
        if self.scanner.before_value() && self.scanner.depth() == 0 && c != '{' {
            return Err(NotJson);
        }
        let within = self.scanner.in_string();
        self.scanner.push(c)?;
        push_argument(c, within, |text| sink.arguments(text));
        Ok(if self.scanner.depth() == 0 { Progress::Whole } else { Progress::More })
    }
}

/// Passes on one character of JSON.
fn push_argument(c: char, in_string: bool, mut out: impl FnMut(&str)) {
    let mut buffer = [0; 4];
    if in_string && c < ' ' {
        let mut escaped = String::new();
        push_json_char(c, &mut escaped);
        out(&escaped);
    } else {
        out(c.encode_utf8(&mut buffer));
    }
}

/// What the value of the current key is to the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    /// Arguments that are an object.
    Object,
    /// Arguments as a string of JSON, or null for none.
    Text,
    Other,
}

/// Whether the arguments are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    No,
    Partly,
    Whole,
}

/// A call as one JSON object, with the keys in any order. Arguments are passed on as soon as the name is known.
#[derive(Debug)]
pub(super) struct CallObject {
    scanner: Scanner,
    /// Nothing but this object marks it as a call: it must have the keys of one, and the name of a tool.
    bare: bool,
    /// The last key, and whether its value is being read.
    field: Field,
    within_value: bool,
    /// A key, name or string of arguments, as far as it was read.
    text: String,
    name: Option<String>,
    arguments: Found,
    /// Arguments that came before the name.
    early: String,
}

impl CallObject {
    pub(super) fn new(bare: bool) -> Self {
        Self {
            scanner: Scanner::new(),
            bare,
            field: Field::Other,
            within_value: false,
            text: String::new(),
            name: None,
            arguments: Found::No,
            early: String::new(),
        }
    }

    /// Whether name and arguments are there, so that only the end is missing.
    pub(super) fn is_complete(&self) -> bool {
        self.name.is_some() && self.arguments == Found::Whole
    }

    /// Takes the next character, the first of which must be `{`.
    pub(super) fn push(&mut self, c: char, sink: &mut Sink, tools: &Tools) -> Result<Progress, NotJson> {
        let depth = self.scanner.depth();
        if depth == 0 && c != '{' {
            return Err(NotJson);
        }
        let (in_string, in_key) = (self.scanner.in_string(), self.scanner.in_key());
        let value_begins = depth == 1 && self.scanner.before_value();
        self.scanner.push(c)?;
        if depth == 1 && (in_key || self.scanner.in_key()) {
            self.text.push(c);
            if !self.scanner.in_key() {
                let key = std::mem::take(&mut self.text);
                self.key(&key)?;
            }
            return Ok(Progress::More);
        }
        if value_begins && !self.scanner.before_value() {
            self.value(c, sink)?;
        }
        if self.within_value {
            match self.field {
                Field::Object => {
                    let (early, known) = (&mut self.early, self.name.is_some());
                    push_argument(c, in_string, |text| {
                        if known { sink.arguments(text) } else { early.push_str(text) }
                    });
                }
                Field::Name | Field::Text => {
                    // Decoding wants control characters escaped, too.
                    push_argument(c, in_string, |text| self.text.push_str(text));
                }
                Field::Other => {}
            }
            if self.scanner.depth() <= 1 && self.scanner.after_value() {
                self.within_value = false;
                self.value_ended(sink, tools)?;
            }
        }
        if self.scanner.depth() > 0 {
            return Ok(Progress::More);
        }
        self.finish(sink)
    }

    /// Whether the object is a call at its end.
    fn finish(&mut self, sink: &mut Sink) -> Result<Progress, NotJson> {
        let name = self.name.as_deref().ok_or(NotJson)?;
        if self.arguments == Found::No {
            if self.bare {
                return Err(NotJson);
            }
            sink.start(name);
            sink.arguments("{}");
        }
        sink.end();
        Ok(Progress::Whole)
    }

    fn key(&mut self, json: &str) -> Result<(), NotJson> {
        let key: String = serde_json::from_str(json).map_err(|_| NotJson)?;
        self.field = match &*key {
            "name" if self.name.is_none() => Field::Name,
            "arguments" | "parameters" if self.arguments == Found::No => Field::Object,
            "name" | "arguments" | "parameters" => return Err(NotJson),
            "type" | "id" => Field::Other,
            _ if self.bare => return Err(NotJson),
            _ => Field::Other,
        };
        Ok(())
    }

    /// A value begins with `c`.
    fn value(&mut self, c: char, sink: &mut Sink) -> Result<(), NotJson> {
        self.within_value = true;
        self.field = match (self.field, c) {
            (Field::Name, '"') => Field::Name,
            (Field::Object, '{') => Field::Object,
            (Field::Object, '"' | 'n') => Field::Text,
            (Field::Other, _) => Field::Other,
            _ => return Err(NotJson),
        };
        if self.field == Field::Object {
            self.arguments = Found::Partly;
            if let Some(name) = &self.name {
                sink.start(name);
            }
        }
        Ok(())
    }

    fn value_ended(&mut self, sink: &mut Sink, tools: &Tools) -> Result<(), NotJson> {
        let text = std::mem::take(&mut self.text);
        match self.field {
            Field::Name => {
                let name: String = serde_json::from_str(&text).map_err(|_| NotJson)?;
                if name.is_empty() || self.bare && !tools.has(&name) {
                    return Err(NotJson);
                }
                if self.arguments != Found::No {
                    sink.start(&name);
                    sink.arguments(&std::mem::take(&mut self.early));
                }
                self.name = Some(name);
            }
            Field::Object => self.arguments = Found::Whole,
            Field::Text if text == "null" => self.arguments_are("{}", sink),
            Field::Text => {
                let object: String = serde_json::from_str(&text).map_err(|_| NotJson)?;
                let object = object.trim();
                match kind(object) {
                    Some(Kind::Object) => self.arguments_are(object, sink),
                    _ if object.is_empty() => self.arguments_are("{}", sink),
                    _ => return Err(NotJson),
                }
            }
            Field::Other => {}
        }
        Ok(())
    }

    /// Takes arguments that are whole.
    fn arguments_are(&mut self, json: &str, sink: &mut Sink) {
        self.arguments = Found::Whole;
        match &self.name {
            Some(name) => {
                sink.start(name);
                sink.arguments(json);
            }
            None => self.early.push_str(json),
        }
    }
}
