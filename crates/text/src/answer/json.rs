//! JSON that comes character by character: is it still JSON, and where in it are we?
//!
//! RFC 8259, with two differences. Control characters within strings are taken, because models write raw line
//! breaks there; [`push_json_char`] writes them as they must be. And escapes of half a surrogate pair are
//! refused, which the grammar allows but no text can hold.

/// No JSON from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotJson;

/// How deep arrays and objects may contain each other; readers of the arguments have limits of their own.
const DEPTH: usize = 100;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    Number,
    Boolean,
    Null,
    Array,
    Object,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a value.
    Value,
    /// Behind `[`: a value or `]`.
    FirstItem,
    /// Behind `{`: a key or `}`.
    FirstKey,
    /// Behind `,` in an object: a key.
    NextKey,
    /// Behind a key.
    Colon,
    /// Behind a value.
    After,
    String,
    /// Behind a backslash.
    Escape,
    /// Within the digits of `\u`: how many are left, their value so far, the high surrogate before them.
    Digits(u8, u16, bool),
    /// Behind a high surrogate: a backslash, then a `u`.
    LowBackslash,
    LowU,
    /// Within `true`, `false`, `null`: what is left of it.
    Literal(&'static str),
    /// Within a number.
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

/// One JSON value, read as it comes.
#[derive(Debug)]
pub(super) struct Scanner {
    state: State,
    /// For each open bracket, whether it is an object's.
    open: Vec<bool>,
    /// The string is a key.
    key: bool,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self { state: State::Value, open: Vec::new(), key: false }
    }

    /// The number of open brackets.
    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    /// A value begins with the next character that is no blank.
    pub(super) fn before_value(&self) -> bool {
        self.state == State::Value
    }

    /// A value of the innermost bracket, or all of it, has just ended. Numbers end when something follows.
    pub(super) fn after_value(&self) -> bool {
        self.state == State::After
    }

    /// Within a string.
    pub(super) fn in_string(&self) -> bool {
        use State::{Digits, Escape, LowBackslash, LowU};
        matches!(self.state, State::String | Escape | Digits(..) | LowBackslash | LowU)
    }

    /// Within a key.
    pub(super) fn in_key(&self) -> bool {
        self.key && self.in_string()
    }

    /// Whether what was read is a whole value.
    fn is_whole(&self) -> bool {
        use State::{ExponentDigits, Fraction, Integer, Zero};
        self.open.is_empty()
            && matches!(self.state, State::After | Zero | Integer | Fraction | ExponentDigits)
    }

    /// Takes the next character.
    pub(super) fn push(&mut self, c: char) -> Result<(), NotJson> {
        use State::{
            After, Colon, Digits, Escape, Exponent, ExponentDigits, ExponentSign, FirstItem, FirstKey,
            Fraction, Integer, Literal, LowBackslash, LowU, Minus, NextKey, Point, Value, Zero,
        };
        let blank = matches!(c, ' ' | '\t' | '\n' | '\r');
        self.state = match (self.state, c) {
            (Value | FirstItem | FirstKey | NextKey | Colon | After, _) if blank => return Ok(()),
            (FirstItem, ']') | (FirstKey, '}') => self.close(c)?,
            (Value | FirstItem, _) => self.begin(c)?,
            (FirstKey | NextKey, '"') => {
                self.key = true;
                State::String
            }
            (Colon, ':') => Value,
            (After, ',') => match self.open.last() {
                Some(true) => NextKey,
                Some(false) => Value,
                None => return Err(NotJson),
            },
            (After, ']' | '}') => self.close(c)?,
            (State::String, '"') if self.key => Colon,
            (State::String, '"') => After,
            (State::String, '\\') => Escape,
            (State::String, _) => State::String,
            (Escape, 'u') => Digits(4, 0, false),
            (Escape, '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => State::String,
            (Digits(left, value, high), _) => {
                let digit = c.to_digit(16).and_then(|d| u16::try_from(d).ok()).ok_or(NotJson)?;
                let value = value << 4 | digit;
                match (left, value, high) {
                    (2.., ..) => Digits(left - 1, value, high),
                    (_, 0xD800..=0xDBFF, false) => LowBackslash,
                    (_, 0xDC00..=0xDFFF, true) => State::String,
                    (_, 0xDC00..=0xDFFF, false) | (.., true) => return Err(NotJson),
                    _ => State::String,
                }
            }
            (LowBackslash, '\\') => LowU,
            (LowU, 'u') => Digits(4, 0, true),
            (Literal(rest), _) => match rest.strip_prefix(c) {
                Some("") => After,
                Some(rest) => Literal(rest),
                None => return Err(NotJson),
            },
            (Minus, '0') => Zero,
            (Minus, '1'..='9') | (Integer, '0'..='9') => Integer,
            (Zero | Integer, '.') => Point,
            (Point | Fraction, '0'..='9') => Fraction,
            (Zero | Integer | Fraction, 'e' | 'E') => Exponent,
            (Exponent, '+' | '-') => ExponentSign,
            (Exponent | ExponentSign | ExponentDigits, '0'..='9') => ExponentDigits,
            (Zero | Integer | Fraction | ExponentDigits, _) => {
                self.state = After;
                return self.push(c);
            }
            _ => return Err(NotJson),
        };
        Ok(())
    }

    /// The state behind the first character of a value.
    fn begin(&mut self, c: char) -> Result<State, NotJson> {
        self.key = false;
        Ok(match c {
            '{' | '[' if self.open.len() >= DEPTH => return Err(NotJson),
            '{' => {
                self.open.push(true);
                State::FirstKey
            }
            '[' => {
                self.open.push(false);
                State::FirstItem
            }
            '"' => State::String,
            '-' => State::Minus,
            '0' => State::Zero,
            '1'..='9' => State::Integer,
            't' => State::Literal("rue"),
            'f' => State::Literal("alse"),
            'n' => State::Literal("ull"),
            _ => return Err(NotJson),
        })
    }

    fn close(&mut self, c: char) -> Result<State, NotJson> {
        match self.open.pop() {
            Some(object) if object == (c == '}') => Ok(State::After),
            _ => Err(NotJson),
        }
    }
}

/// What kind of JSON value `text` is, if it is one.
pub(super) fn kind(text: &str) -> Option<Kind> {
    let mut scanner = Scanner::new();
    let strict = |scanner: &Scanner, c: char| scanner.in_string() && c < ' ';
    for c in text.chars() {
        if strict(&scanner, c) {
            return None;
        }
        scanner.push(c).ok()?;
    }
    let first = text.trim_start().chars().next().filter(|_| scanner.is_whole())?;
    Some(match first {
        '"' => Kind::String,
        '{' => Kind::Object,
        '[' => Kind::Array,
        't' | 'f' => Kind::Boolean,
        'n' => Kind::Null,
        _ => Kind::Number,
    })
}

/// Puts a character of a string's text behind `out`, as it stands within a JSON string. A control character that
/// stood there raw is escaped; everything else is as it is.
pub(super) fn push_json_char(c: char, out: &mut String) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        _ if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        _ => out.push(c),
    }
}

/// Puts a character of plain text behind `out`, escaped for a JSON string.
pub(super) fn push_escaped(c: char, out: &mut String) {
    if matches!(c, '"' | '\\') {
        out.push('\\');
    }
    push_json_char(c, out);
}

/// Plain text as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    text.chars().for_each(|c| push_escaped(c, &mut out));
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    #[test]
    fn kinds_are_what_serde_json_finds() {
        for text in
            ["1", "-0.5e+7", "0", "\"a\\u00e9\\ud83d\\ude00\"", "{}", "[1, {\"a\": [null]}]", " true "]
        {
            assert!(kind(text).is_some(), "{text}");
        }
        for text in
            ["", "01", "1.", "-", ".5", "1e", "\"\\x\"", "\"\\ud800\"", "\"\\udc00\"", "{1:2}", "[1,]", "{,}"]
        {
            assert_eq!(kind(text), None, "{text}");
        }
        assert_eq!(kind(&"[".repeat(DEPTH + 1)), None);
        assert_eq!(kind("nul"), None);
        assert_eq!(kind("True"), None);
    }

    proptest! {
        /// serde_json reads the same texts.
        #[test]
        fn scanner_takes_what_serde_json_takes(text in r#"([\[\]{}",:0-9.eE+\- ]|"a":|true|null|"\\n"|\[1\]|\{"b":2\}){0,9}"#) {
            prop_assert_eq!(kind(&text).is_some(), serde_json::from_str::<IgnoredAny>(&text).is_ok(), "{}", text);
        }

        #[test]
        fn quoted_text_is_read_back(text in any::<String>()) {
            prop_assert_eq!(serde_json::from_str::<String>(&quoted(&text)).unwrap(), text);
        }
    }
}
