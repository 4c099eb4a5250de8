//! Cuts a template into text and the tokens inside its tags.

use std::sync::Arc;

/// A token with its line.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) line: u32,
    pub(crate) kind: Kind,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Text(Arc<str>),
    /// `{{`
    PrintBegin,
    /// `}}`
    PrintEnd,
    /// `{%`
    BlockBegin,
    /// `%}`
    BlockEnd,
    Name(Arc<str>),
    Str(Arc<str>),
    Int(i64),
    Float(f64),
    /// Any operator or punctuation.
    Op(&'static str),
    End,
}

/// A template that cannot be read: the line and why.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub(crate) line: u32,
    pub(crate) message: String,
}

/// Operators, longer ones first.
const OPERATORS: &[&str] = &[
    "**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=", "(", ")", "[", "]", "{",
    "}", ",", ":", ".", "|", ";",
];

/// Which tag a text ends at.
#[derive(Clone, Copy, PartialEq)]
enum Tag {
    Print,
    Block,
    Comment,
}

struct Lexer<'a> {
    rest: &'a str,
    line: u32,
    tokens: Vec<Token>,
    // The last tag said `-`: blanks after it go.
    trim_next: bool,
    // What follows begins a line, so that blanks before a block tag there are indentation.
    line_starts: bool,
}

/// Reads all tokens, with `trim_blocks` and `lstrip_blocks` on, as model files expect.
pub(crate) fn lex(source: &str) -> Result<Vec<Token>, SyntaxError> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    // One line feed at the end is the editor's, not the author's.
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let mut lexer = Lexer { rest: source, line: 1, tokens: Vec::new(), trim_next: false, line_starts: true };
    while !lexer.rest.is_empty() {
        lexer.text()?;
    }
    lexer.push(Kind::End);
    Ok(lexer.tokens)
}

/// What is left of the text before a block tag with `mark`: blanks go that are the tag's indentation, or all
/// if the mark is `-`. `starts`: the text begins a line.
fn before_tag(text: &str, mark: Option<char>, starts: bool) -> &str {
    if mark == Some('-') {
        return text.trim_end();
    }
    let line_begin = text.rfind('\n').map(|place| place + 1);
    match line_begin.or_else(|| starts.then_some(0)).and_then(|begin| text.split_at_checked(begin)) {
        Some((before, indentation)) if mark != Some('+') && indentation.trim().is_empty() => before,
        _ => text,
    }
}

impl<'a> Lexer<'a> {
    fn push(&mut self, kind: Kind) {
        self.tokens.push(Token { line: self.line, kind });
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, SyntaxError> {
        Err(SyntaxError { line: self.line, message: message.into() })
    }

    /// Takes `length` bytes.
    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.line += taken.bytes().filter(|&byte| byte == b'\n').count() as u32;
        self.rest = rest;
        taken
    }

    /// Takes the text up to the next tag, then the tag.
    fn text(&mut self) -> Result<(), SyntaxError> {
        let mut from = 0;
        let found = loop {
            let Some(place) = self.rest.get(from..).and_then(|rest| rest.find('{')).map(|place| from + place)
            else {
                break None;
            };
            match self.rest.as_bytes().get(place + 1) {
                Some(b'{') => break Some((place, Tag::Print)),
                Some(b'%') => break Some((place, Tag::Block)),
                Some(b'#') => break Some((place, Tag::Comment)),
                _ => from = place + 1,
            }
        };
        let (end, tag) = found.map_or((self.rest.len(), None), |(end, tag)| (end, Some(tag)));
        let line = self.line;
        let starts = self.line_starts;
        let mut text = self.take(end);
        if std::mem::take(&mut self.trim_next) {
            text = text.trim_start();
        }
        let Some(tag) = tag else {
            self.push_text(text, line);
            return Ok(());
        };
        self.take(2);
        let mark = self.rest.chars().next();
        if matches!(mark, Some('-' | '+')) {
            self.take(1);
        }
        // Blanks before a value are text.
        if tag != Tag::Print || mark == Some('-') {
            text = before_tag(text, mark, starts);
        }
        self.push_text(text, line);
        self.line_starts = false;
        match tag {
            Tag::Comment => self.comment(),
            Tag::Print => {
                self.push(Kind::PrintBegin);
                self.inside("}}", Kind::PrintEnd)
            }
            Tag::Block if self.is_raw() => self.raw(),
            Tag::Block => {
                self.push(Kind::BlockBegin);
                self.inside("%}", Kind::BlockEnd)
            }
        }
    }

    fn push_text(&mut self, text: &str, line: u32) {
        if !text.is_empty() {
            self.tokens.push(Token { line, kind: Kind::Text(text.into()) });
        }
    }

    /// After `%}` or `#}`: one line feed goes.
    fn end_block(&mut self, minus: bool, plus: bool) {
        self.trim_next = minus;
        if !minus && !plus && self.rest.starts_with('\n') {
            self.take(1);
            self.line_starts = true;
        }
    }

    fn comment(&mut self) -> Result<(), SyntaxError> {
        let Some(end) = self.rest.find("#}") else { return self.fail("a comment without its end `#}`") };
        let body = self.take(end);
        self.take(2);
        self.end_block(body.ends_with('-'), body.ends_with('+'));
        Ok(())
    }

    fn is_raw(&self) -> bool {
        self.rest
            .trim_start()
            .strip_prefix("raw")
            .is_some_and(|rest| rest.trim_start().starts_with(['%', '-', '+']))
    }

    /// `{% raw %}` up to `{% endraw %}` is text.
    fn raw(&mut self) -> Result<(), SyntaxError> {
        let Some(begin) = self.rest.find("%}") else { return self.fail("a tag without its end `%}`") };
        self.trim_next = self.take(begin).ends_with('-');
        self.take(2);
        let mut from = 0;
        while let Some(place) =
            self.rest.get(from..).and_then(|rest| rest.find("{%")).map(|place| from + place)
        {
            let after = self.rest.get(place + 2..).unwrap_or_default();
            let mark = after.chars().next();
            let name = after.trim_start_matches(['-', '+']).trim_start();
            let tail = name.strip_prefix("endraw").map(str::trim_start);
            let ends = tail.is_some_and(|tail| tail.trim_start_matches(['-', '+']).starts_with("%}"));
            if let (Some(tail), true) = (tail, ends) {
                let line = self.line;
                let mut text = self.take(place);
                if std::mem::take(&mut self.trim_next) {
                    text = text.trim_start();
                }
                text = before_tag(text, mark, false);
                self.push_text(text, line);
                let tail_end = tail.find("%}").map_or(0, |end| end + 2);
                self.take(self.rest.len() - tail.len() + tail_end);
                self.end_block(tail.starts_with('-'), tail.starts_with('+'));
                return Ok(());
            }
            from = place + 2;
        }
        self.fail("`raw` without `endraw`")
    }

    /// Tokens inside a tag up to its end.
    fn inside(&mut self, end: &'static str, end_kind: Kind) -> Result<(), SyntaxError> {
        // A `}}` may also close two dictionaries.
        let mut open = 0_usize;
        loop {
            let blanks = self.rest.len() - self.rest.trim_start().len();
            self.take(blanks);
            let Some(first) = self.rest.chars().next() else {
                return self.fail(format!("a tag without its end `{end}`"));
            };
            if open == 0 {
                let (mark, tail) = match first {
                    '-' | '+' => (Some(first), self.rest.get(1..).unwrap_or_default()),
                    _ => (None, self.rest),
                };
                if tail.starts_with(end) {
                    self.take(2 + usize::from(mark.is_some()));
                    let line_feed_goes = end_kind == Kind::BlockEnd;
                    self.push(end_kind);
                    if line_feed_goes {
                        self.end_block(mark == Some('-'), mark == Some('+'));
                    } else {
                        self.trim_next = mark == Some('-');
                    }
                    return Ok(());
                }
            }
            match first {
                '"' | '\'' => self.string(first)?,
                '0'..='9' => self.number()?,
                c if c == '_' || c.is_alphabetic() => {
                    let length =
                        self.rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(self.rest.len());
                    let name = self.take(length).into();
                    self.push(Kind::Name(name));
                }
                _ => {
                    let Some(&operator) = OPERATORS.iter().find(|operator| self.rest.starts_with(**operator))
                    else {
                        return self.fail(format!("unexpected character {first:?}"));
                    };
                    match operator {
                        "(" | "[" | "{" => open += 1,
                        ")" | "]" | "}" => open = open.saturating_sub(1),
                        _ => {}
                    }
                    self.take(operator.len());
                    self.push(Kind::Op(operator));
                }
            }
        }
    }

    fn number(&mut self) -> Result<(), SyntaxError> {
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
        let mut length = digits(self.rest);
        let mut float = false;
        if let Some(fraction) = self.rest.get(length..).and_then(|rest| rest.strip_prefix('.'))
            && fraction.starts_with(|c: char| c.is_ascii_digit())
        {
            length += 1 + digits(fraction);
            float = true;
        }
        if let Some(exponent) = self.rest.get(length..).and_then(|rest| rest.strip_prefix(['e', 'E'])) {
            let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if unsigned.starts_with(|c: char| c.is_ascii_digit()) {
                length += 1 + (exponent.len() - unsigned.len()) + digits(unsigned);
                float = true;
            }
        }
        let text = self.take(length).replace('_', "");
        let kind = if float { text.parse().ok().map(Kind::Float) } else { text.parse().ok().map(Kind::Int) };
        match kind {
            Some(kind) => self.push(kind),
            None => {
                return self
                    .fail(format!("a number that is too large: {}", crate::error::shorten(&text, 40)));
            }
        }
        Ok(())
    }

    /// A string with Python's escapes.
    fn string(&mut self, quote: char) -> Result<(), SyntaxError> {
        let line = self.line;
        self.take(1);
        let mut out = String::new();
        loop {
            let Some(c) = self.rest.chars().next() else { return self.fail("a string without its end") };
            self.take(c.len_utf8());
            if c == quote {
                break;
            }
            if c != '\\' {
                out.push(c);
                continue;
            }
            let Some(escaped) = self.rest.chars().next() else {
                return self.fail("a string without its end");
            };
            self.take(escaped.len_utf8());
            match escaped {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                'a' => out.push('\u{7}'),
                'b' => out.push('\u{8}'),
                'f' => out.push('\u{c}'),
                'v' => out.push('\u{b}'),
                '0' => out.push('\0'),
                '\\' | '\'' | '"' => out.push(escaped),
                '\n' => {}
                'x' | 'u' | 'U' => {
                    let length = match escaped {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    let code =
                        self.rest.get(..length).and_then(|digits| u32::from_str_radix(digits, 16).ok());
                    let Some(c) = code.and_then(char::from_u32) else {
                        return self.fail(format!("a malformed escape `\\{escaped}`"));
                    };
                    self.take(length);
                    out.push(c);
                }
                other => out.extend(['\\', other]),
            }
        }
        self.tokens.push(Token { line, kind: Kind::Str(out.into()) });
        Ok(())
    }
}
