//! Records of JSON files: an object a line, or elements of an array.

use serde_json::Value;

use super::Item;
use super::problem::{At, Fault};
use super::source::Lines;

/// Parses a record that begins at `line`, `column` bytes behind the line's start and `offset` bytes into the file.
fn parse(bytes: &[u8], line: u64, column: u64, offset: u64) -> Item<Value> {
    // Before it is parsed: JSON's parser does not say where bytes are no UTF-8.
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let newlines = bytes.iter().take(e.valid_up_to()).filter(|&&b| b == b'\n').count();
        (At::Line(line + newlines as u64), Fault::NotUtf8 { offset: offset + e.valid_up_to() as u64 })
    })?;
    serde_json::from_str(text).map(|value| (At::Line(line), value)).map_err(|e| {
        let before = if e.line() <= 1 { column } else { 0 };
        let message = e.to_string();
        // The parser counts lines from the record's own start, so its " at line .." would mislead.
        let reason =
            message.rsplit_once(" at line ").map_or(message.as_str(), |(reason, _)| reason).to_owned();
        let at = At::Line(line + (e.line() as u64).saturating_sub(1));
        (at, Fault::Json { column: before + e.column() as u64, reason })
    })
}

/// Reads an object a line. Blank lines are passed over.
pub(super) struct JsonLines {
    lines: Lines,
    limit: usize,
    line: Vec<u8>,
    done: bool,
}

impl JsonLines {
    pub(super) fn new(lines: Lines, limit: usize) -> JsonLines {
        JsonLines { lines, limit, line: Vec::new(), done: false }
    }

    fn read(&mut self) -> Result<Option<Item<Value>>, Fault> {
        loop {
            let (at, offset) = (self.lines.at(), self.lines.offset());
            self.line.clear();
            // The newline is not counted, so one byte more than the limit tells that the line is too long.
            if self.lines.read(&mut self.line, self.limit.saturating_add(1))? == 0 {
                return Ok(None);
            }
            if self.line.len() > self.limit && self.line.last() != Some(&b'\n') {
                self.lines.skip_line()?;
                return Ok(Some(Err((at, Fault::TooLong { limit: self.limit }))));
            }
            if self.line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let At::Line(line) = at else { return Ok(None) };
            // Without its end, so that a record that breaks off does so in its own line.
            return Ok(Some(parse(self.line.trim_ascii_end(), line, 0, offset)));
        }
    }
}

impl Iterator for JsonLines {
    type Item = Item<Value>;

    fn next(&mut self) -> Option<Item<Value>> {
        if self.done {
            return None;
        }
        self.read().unwrap_or_else(|fault| {
            self.done = true;
            Some(Err((self.lines.at(), fault)))
        })
    }
}

/// Reads the elements of an array one by one, or values that follow one another without an array. An element is found by
/// its brackets and quotes before it is parsed, so one that is broken inside costs no other.
pub(super) struct JsonElements {
    lines: Lines,
    limit: usize,
    element: Vec<u8>,
    /// Bytes before the next one in its line.
    column: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Start,
    /// Between values that are in no array.
    Loose,
    /// Behind the array's bracket: an element or the end.
    First,
    /// Behind an element: a comma or the end.
    Comma,
    /// Behind a comma: an element.
    Element,
    /// Behind the array.
    Closed,
    Done,
}

/// How far into a value the bytes until now are.
#[derive(Default)]
struct Nesting {
    depth: u64,
    quoted: bool,
    escaped: bool,
    begun: bool,
}

impl Nesting {
    /// Takes the next byte. `Some`: the value ends, and whether this byte is its last one or the first one behind it.
    fn end(&mut self, byte: u8) -> Option<Last> {
        let first = !std::mem::replace(&mut self.begun, true);
        if self.quoted {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.quoted = false,
                _ => {}
            }
            return (!self.quoted && self.depth == 0).then_some(Last::This);
        }
        match byte {
            b'"' if self.depth == 0 && !first => return Some(Last::Before),
            b'"' => self.quoted = true,
            b'{' | b'[' if self.depth == 0 && !first => return Some(Last::Before),
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' if self.depth > 0 => {
                self.depth -= 1;
                return (self.depth == 0).then_some(Last::This);
            }
            // A stray bracket is an element of its own: there must be progress.
            b'}' | b']' | b',' if self.depth == 0 => {
                return Some(if first { Last::This } else { Last::Before });
            }
            _ if byte.is_ascii_whitespace() && self.depth == 0 => return Some(Last::Before),
            _ => {}
        }
        None
    }
}

#[derive(PartialEq)]
enum Last {
    This,
    Before,
}

impl JsonElements {
    pub(super) fn new(lines: Lines, limit: usize) -> JsonElements {
        JsonElements { lines, limit, element: Vec::new(), column: 0, state: State::Start }
    }

    /// The next byte that is no white space; it is not taken.
    fn visible(&mut self) -> Result<Option<u8>, Fault> {
        loop {
            let bytes = self.lines.peek()?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let blank = bytes.iter().take_while(|b| b.is_ascii_whitespace()).count();
            let next = bytes.get(blank).copied();
            self.take(blank);
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    /// Takes `count` bytes that are there.
    fn take(&mut self, count: usize) {
        let bytes = self.lines.peek().unwrap_or_default();
        let bytes = bytes.get(..count).unwrap_or(bytes);
        let newlines = bytes.iter().filter(|&&b| b == b'\n').count() as u64;
        self.column = match bytes.iter().rev().position(|&b| b == b'\n') {
            Some(behind) => behind as u64,
            None => self.column + count as u64,
        };
        self.lines.consume(count, newlines);
    }

    fn broken(&self, reason: &str) -> (At, Fault) {
        (self.lines.at(), Fault::Json { column: self.column + 1, reason: reason.to_owned() })
    }

    /// Takes one value, whose first byte is next.
    fn element(&mut self) -> Result<Item<Value>, Fault> {
        let (at, column, offset) = (self.lines.at(), self.column, self.lines.offset());
        let At::Line(line) = at else { return Ok(Err((at, Fault::EmptyFile))) };
        self.element.clear();
        let (mut nesting, mut too_long) = (Nesting::default(), false);
        loop {
            let bytes = self.lines.peek()?;
            if bytes.is_empty() {
                // A number or a word may end the file, anything else is cut.
                if nesting.depth == 0 && !nesting.quoted {
                    break;
                }
                self.state = State::Done;
                return Ok(Err((
                    at,
                    Fault::Json { column: column + 1, reason: "the file ends within this record".into() },
                )));
            }
            let end = bytes.iter().enumerate().find_map(|(i, &byte)| {
                nesting.end(byte).map(|last| if last == Last::This { i + 1 } else { i })
            });
            let count = end.unwrap_or(bytes.len());
            too_long |= self.element.len() + count > self.limit;
            if too_long {
                self.element = Vec::new();
            } else {
                self.element.extend(bytes.iter().take(count));
            }
            self.take(count);
            if end.is_some() {
                break;
            }
        }
        if too_long {
            return Ok(Err((at, Fault::TooLong { limit: self.limit })));
        }
        Ok(parse(&self.element, line, column, offset))
    }

    fn read(&mut self) -> Result<Option<Item<Value>>, Fault> {
        loop {
            let next = self.visible()?;
            match (self.state, next) {
                (State::Done, _) => return Ok(None),
                (State::Start, Some(b'[')) => {
                    self.take(1);
                    self.state = State::First;
                }
                (State::Start, _) => self.state = State::Loose,
                (State::Loose | State::Closed, None) => return Ok(None),
                (State::Loose, Some(_)) => return self.element().map(Some),
                (State::First | State::Comma, Some(b']')) => {
                    self.take(1);
                    self.state = State::Closed;
                }
                (State::Comma, Some(b',')) => {
                    self.take(1);
                    self.state = State::Element;
                }
                (State::First | State::Element, Some(_)) => {
                    self.state = State::Comma;
                    return self.element().map(Some);
                }
                (State::First | State::Comma | State::Element, None) => {
                    return Ok(Some(Err(self.stop("the file ends within the array"))));
                }
                (State::Comma, Some(_)) => {
                    return Ok(Some(Err(self.stop("a comma or the end of the array should be here"))));
                }
                (State::Closed, Some(_)) => {
                    return Ok(Some(Err(self.stop("something follows the array"))));
                }
            }
        }
    }

    fn stop(&mut self, reason: &str) -> (At, Fault) {
        self.state = State::Done;
        self.broken(reason)
    }
}

impl Iterator for JsonElements {
    type Item = Item<Value>;

    fn next(&mut self) -> Option<Item<Value>> {
        if self.state == State::Done {
            return None;
        }
        self.read().unwrap_or_else(|fault| {
            self.state = State::Done;
            Some(Err((self.lines.at(), fault)))
        })
    }
}
