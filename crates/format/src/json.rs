//! A JSON reader for headers: bounded memory, exact offsets, and no allocation that the text does not back.
//!
//! A general parser tells line and column, keeps the last of two equal keys and builds whatever the text asks; a
//! header that nobody vouches for needs the byte offset, the duplicate told and the memory bounded. Grammar: RFC 8259.

use std::borrow::Cow;
use std::fmt::Arguments;

use crate::cursor::{Budget, Cursor};
use crate::error::Error;

/// Objects and arrays within each other that are followed.
const MAX_DEPTH: usize = 32;

/// Bytes of a key. Keys are names of tensors, which errors quote.
const MAX_KEY_BYTES: usize = 65_535;

/// Bytes of a string: training settings kept as one string of a model's metadata stay far below.
const MAX_STRING_BYTES: usize = 8 << 20;

/// Bytes of a number or a word that are looked at.
const MAX_TOKEN_BYTES: usize = 1024;

/// What passing over a value takes from the budget.
const SKIP_COST: usize = 16;

/// A place in JSON text, moving forward value by value.
pub(crate) struct Json<'a, 'b> {
    pub(crate) cursor: Cursor<'a>,
    pub(crate) budget: &'b mut Budget,
    depth: usize,
}

impl<'a, 'b> Json<'a, 'b> {
    /// Reads from where the cursor stands to its end.
    pub(crate) fn new(cursor: Cursor<'a>, budget: &'b mut Budget) -> Json<'a, 'b> {
        Json { cursor, budget, depth: 0 }
    }

    /// Where the next token starts.
    pub(crate) fn at(&mut self) -> usize {
        self.skip_space();
        self.cursor.at()
    }

    /// An object: `entry` is called behind each `"key":` with the key and its offset, and reads the value.
    pub(crate) fn object(
        &mut self,
        field: Arguments<'_>,
        mut entry: impl FnMut(&mut Self, Cow<'a, str>, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.sequence(b'{', b'}', field, |json| {
            let at = json.at();
            let key = json.string(format_args!("key in {field}"))?;
            if key.len() > MAX_KEY_BYTES {
                return Err(Error::TooLarge {
                    place: json.cursor.place(at, format_args!("length of key in {field}")),
                    value: key.len() as u64,
                    limit: MAX_KEY_BYTES as u64,
                });
            }
            json.byte(b':', format_args!("value of {key:?} in {field}"))?;
            entry(json, key, at)
        })
    }

    /// An array: `item` is called to read each element.
    pub(crate) fn array(
        &mut self,
        field: Arguments<'_>,
        item: impl FnMut(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.sequence(b'[', b']', field, item)
    }

    fn sequence(
        &mut self,
        open: u8,
        close: u8,
        field: Arguments<'_>,
        mut item: impl FnMut(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let at = self.at();
        self.byte(open, field)?;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::TooLarge {
                place: self.cursor.place(at, format_args!("nesting of JSON in {field}")),
                value: self.depth as u64,
                limit: MAX_DEPTH as u64,
            });
        }
        if self.next_is(close) {
            self.byte(close, field)?;
        } else {
            loop {
                item(self)?;
                if self.next_is(close) {
                    self.byte(close, field)?;
                    break;
                }
                self.byte(b',', field)?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// A string, borrowed from the text unless it has escapes.
    pub(crate) fn string(&mut self, field: Arguments<'_>) -> Result<Cow<'a, str>, Error> {
        self.byte(b'"', field)?;
        let start = self.cursor.at();
        let all = self.cursor.rest();
        let rest = all.get(..MAX_STRING_BYTES).unwrap_or(all);
        let mut length = 0;
        let mut escaped = false;
        loop {
            let ahead = rest.get(length..).unwrap_or_default();
            let stop = ahead.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)).unwrap_or(ahead.len());
            length += stop;
            match ahead.get(stop) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    length += 2;
                }
                Some(_) => {
                    let problem = "a control character stands unescaped in a string";
                    return Err(self.cursor.invalid(start + length, field, problem));
                }
                None if rest.len() < all.len() => {
                    return Err(Error::TooLarge {
                        place: self.cursor.place(start, format_args!("length of the string of {field}")),
                        value: length as u64,
                        limit: MAX_STRING_BYTES as u64,
                    });
                }
                None => {
                    let field = format_args!("end of the string of {field}");
                    return Err(self.cursor.truncated(rest.len() as u64 + 1, field));
                }
            }
        }
        let bytes = self.cursor.take(length, field)?;
        let text = std::str::from_utf8(bytes).map_err(|e| {
            self.cursor.invalid(start + e.valid_up_to(), field, "the text is not valid UTF-8 at this byte")
        })?;
        self.byte(b'"', field)?;
        if !escaped {
            return Ok(Cow::Borrowed(text));
        }
        self.cursor.charge(self.budget, text.len(), start, field)?;
        unescape(text)
            .map(Cow::Owned)
            .map_err(|problem| self.cursor.invalid(start, field, format!("{problem} in a string")))
    }

    /// A whole number without sign, fraction or exponent.
    pub(crate) fn unsigned(&mut self, field: Arguments<'_>) -> Result<u64, Error> {
        let at = self.at();
        let token = self.token(is_number_byte);
        let digits =
            token.iter().all(u8::is_ascii_digit) && (token.first() != Some(&b'0') || token.len() == 1);
        let number = std::str::from_utf8(token).ok().filter(|_| digits).and_then(|t| t.parse().ok());
        number.ok_or_else(|| {
            let shown = token.get(..token.len().min(40)).unwrap_or_default().escape_ascii();
            self.cursor.invalid(at, field, format!("\"{shown}\" is not a whole number of 0 to 2^64 - 1"))
        })
    }

    /// Any value, checked to be JSON and forgotten.
    pub(crate) fn skip(&mut self, field: Arguments<'_>) -> Result<(), Error> {
        let at = self.at();
        // Nothing is kept, but time is bounded by the same budget.
        self.cursor.charge(self.budget, SKIP_COST, at, field)?;
        match self.cursor.rest().first() {
            Some(b'{') => self.object(field, |json, _, _| json.skip(field)),
            Some(b'[') => self.array(field, |json| json.skip(field)),
            Some(b'"') => self.string(field).map(drop),
            _ => {
                let token = self.token(|b| is_number_byte(b) || b.is_ascii_lowercase());
                let known = matches!(token, b"true" | b"false" | b"null") || is_number(token);
                known.then_some(()).ok_or_else(|| self.cursor.invalid(at, field, "this is not a JSON value"))
            }
        }
    }

    /// Only blanks may follow.
    pub(crate) fn end(&mut self, field: Arguments<'_>) -> Result<(), Error> {
        let at = self.at();
        if self.cursor.rest().is_empty() {
            return Ok(());
        }
        Err(self.cursor.invalid(at, field, "something follows the end of the JSON text"))
    }

    /// The bytes ahead that belong to a number or a word, as far as any sensible one reaches.
    fn token(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.cursor.rest();
        let ahead = rest.get(..MAX_TOKEN_BYTES).unwrap_or(rest);
        let length = ahead.iter().position(|b| !belongs(*b)).unwrap_or(ahead.len());
        self.cursor.rewind(self.cursor.at() + length);
        ahead.get(..length).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        let rest = self.cursor.rest();
        if rest.first().is_none_or(|b| *b > b' ') {
            return;
        }
        // Headers are padded by many spaces.
        let (sixteens, _) = rest.as_chunks::<16>();
        let spaces = sixteens.iter().take_while(|chunk| **chunk == [b' '; 16]).count() * 16;
        let rest = rest.get(spaces..).unwrap_or_default();
        let blank = rest.iter().position(|b| !matches!(b, b' ' | b'\n' | b'\r' | b'\t'));
        self.cursor.rewind(self.cursor.at() + spaces + blank.unwrap_or(rest.len()));
    }

    fn next_is(&mut self, byte: u8) -> bool {
        self.skip_space();
        self.cursor.rest().first() == Some(&byte)
    }

    fn byte(&mut self, wanted: u8, field: Arguments<'_>) -> Result<(), Error> {
        let at = self.at();
        let found = self.cursor.u8(field)?;
        if found == wanted {
            return Ok(());
        }
        let problem = format!("'{}' where '{}' should be", found.escape_ascii(), char::from(wanted));
        Err(self.cursor.invalid(at, field, problem))
    }
}

fn is_number_byte(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E')
}

/// `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`
fn is_number(token: &[u8]) -> bool {
    let digits = |t: &[u8]| t.iter().take_while(|b| b.is_ascii_digit()).count();
    let token = token.strip_prefix(b"-").unwrap_or(token);
    let (whole, rest) = token.split_at(digits(token));
    if whole.is_empty() || (whole.len() > 1 && whole.first() == Some(&b'0')) {
        return false;
    }
    let rest = match rest.strip_prefix(b".") {
        Some(fraction) => match fraction.split_at(digits(fraction)) {
            ([], _) => return false,
            (_, rest) => rest,
        },
        None => rest,
    };
    let Some(exponent) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) else {
        return rest.is_empty();
    };
    let exponent = exponent.strip_prefix(b"+").or_else(|| exponent.strip_prefix(b"-")).unwrap_or(exponent);
    !exponent.is_empty() && digits(exponent) == exponent.len()
}

/// Resolves the escapes of a string's text.
fn unescape(text: &str) -> Result<String, &'static str> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.push_str(plain);
        let mut chars = escape.chars();
        match chars.next() {
            Some(c @ ('"' | '\\' | '/')) => out.push(c),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('u') => {
                let (c, after) = unicode_escape(chars.as_str()).ok_or("a broken \\u escape")?;
                out.push(c);
                rest = after;
                continue;
            }
            _ => return Err("an unknown escape"),
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    Ok(out)
}

/// The character of `XXXX` or, for a pair of surrogates, `XXXX\uXXXX`, and what follows it.
fn unicode_escape(text: &str) -> Option<(char, &str)> {
    let hex = |t: &str| {
        let digits = t.get(..4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u32::from_str_radix(digits, 16).ok()
    };
    let first = hex(text)?;
    let rest = text.get(4..)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Some((char::from_u32(first)?, rest));
    }
    let second = rest.strip_prefix("\\u")?;
    let low = hex(second).filter(|low| (0xdc00..0xe000).contains(low))?;
    Some((char::from_u32(0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00))?, second.get(4..)?))
}

/// Appends `text` as a JSON string, quotes included.
pub(crate) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether the text is one JSON value, by this reader.
    fn accepts(text: &[u8]) -> bool {
        let mut budget = Budget::file();
        let mut json = Json::new(Cursor::new(text, None), &mut budget);
        json.skip(format_args!("value")).and_then(|()| json.end(format_args!("value"))).is_ok()
    }

    fn string(text: &str) -> Option<String> {
        let mut budget = Budget::file();
        let mut json = Json::new(Cursor::new(text.as_bytes(), None), &mut budget);
        let s = json.string(format_args!("value")).ok()?.into_owned();
        json.end(format_args!("value")).ok().map(|()| s)
    }

    #[test]
    fn depth_is_limited() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n)).into_bytes();
        assert!(accepts(&nested(MAX_DEPTH)));
        assert!(!accepts(&nested(MAX_DEPTH + 1)));
        assert!(!accepts("[".repeat(1 << 20).as_bytes()), "endless nesting must not exhaust the stack");
    }

    proptest! {
        #[test]
        fn strings_survive_writing_and_reading(s in any::<String>()) {
            let mut text = String::new();
            push_string(&mut text, &s);
            prop_assert_eq!(string(&text), Some(s.clone()));
            prop_assert_eq!(serde_json::from_str::<String>(&text).ok(), Some(s), "others read it differently");
        }

        #[test]
        fn accepts_what_serde_json_accepts(s in r#"[\[\]{}",:0-9.eE+\-\\u nultrefas]{0,12}"#) {
            // Numbers beyond f64 are JSON all the same; serde_json has nothing to hold them.
            let theirs = serde_json::from_str::<serde_json::Value>(&s);
            let theirs = theirs.map_or_else(|e| e.to_string().contains("number out of range"), |_| true);
            prop_assert_eq!(accepts(s.as_bytes()), theirs, "{}", s);
        }

        #[test]
        fn strings_mean_what_serde_json_means(s in r#""([a-c"\\/bfnrtuD89C0é]|\\u[dD][89abCDef][0-9a-f]{2}){0,8}""#) {
            prop_assert_eq!(string(&s), serde_json::from_str::<String>(&s).ok(), "{}", s);
        }
    }
}
