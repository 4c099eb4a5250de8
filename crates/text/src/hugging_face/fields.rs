//! Typed access to loose JSON, with errors that name the place.

use serde_json::Value;

use crate::error::{TokenizerError, shorten};

/// A file's name, for errors.
#[derive(Clone, Copy)]
pub(super) struct File(pub(super) &'static str);

impl File {
    pub(super) fn problem(self, field: &str, problem: impl Into<String>) -> TokenizerError {
        TokenizerError::Field { file: self.0.into(), field: field.into(), problem: problem.into() }
    }

    pub(super) fn unsupported(self, field: &str, value: impl std::fmt::Display) -> TokenizerError {
        TokenizerError::Unsupported {
            file: self.0.into(),
            field: field.into(),
            value: shorten(&value.to_string(), 200),
        }
    }
}

/// `tokenizer.json`.
pub(super) const TOKENIZER: File = File("tokenizer.json");

/// The string in `value[field]`.
pub(super) fn string<'a>(value: &'a Value, field: &str) -> Result<&'a str, TokenizerError> {
    value
        .get(field)
        .and_then(Value::as_str)
        .ok_or_else(|| TOKENIZER.problem(field, "is missing or no string"))
}

/// The truth value in `value[field]`, or a default.
pub(super) fn flag(value: &Value, field: &str, default: bool) -> Result<bool, TokenizerError> {
    match value.get(field) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(TOKENIZER.problem(field, "is no truth value")),
    }
}

/// The list in `value[field]`.
pub(super) fn list<'a>(value: &'a Value, field: &str) -> Result<&'a [Value], TokenizerError> {
    let list = value.get(field).and_then(Value::as_array).map(Vec::as_slice);
    list.ok_or_else(|| TOKENIZER.problem(field, "is missing or no list"))
}

/// A token written as a string or as an object with `content`.
pub(super) fn text_or_content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// Standard base64 (RFC 4648), with or without padding.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_gives_the_examples_of_the_standard() {
        for (text, bytes) in
            [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar")]
        {
            assert_eq!(base64(text).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(base64("Zm9v!"), None);
    }
}
