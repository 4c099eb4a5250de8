//! TOML to a type, with errors that name file, line and field.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::DataError;

/// The longest data file that is read: a chip's is two thousand bytes.
const LONGEST: u64 = 256 << 10;

/// Parses `text` of `file`. The error names the field that the parser stopped at, with its table.
pub(crate) fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, DataError> {
    if text.len() as u64 > LONGEST {
        return Err(DataError::read(file, format!("has more than {LONGEST} bytes")));
    }
    toml::from_str(text).map_err(|error| {
        let message = error.message().lines().collect::<Vec<_>>().join(" ");
        let (line, field) = error.span().map_or((None, None), |span| place(text, span.start));
        // A missing field has no place of its own, but the message has its name.
        let named = message.strip_prefix("missing field `").and_then(|m| m.split('`').next());
        let field = named.map(str::to_owned).or(field).unwrap_or_else(|| "file".to_owned());
        let line = line.filter(|_| named.is_none()).map(|n| format!(" (line {n})")).unwrap_or_default();
        DataError::field(file, field, format!("{message}{line}"))
    })
}

/// The line, counted from 1, and the key with its table at an offset.
fn place(text: &str, offset: usize) -> (Option<usize>, Option<String>) {
    let Some(before) = text.get(..offset) else { return (None, None) };
    let number = before.matches('\n').count();
    let mut table = "";
    for line in text.lines().take(number + 1) {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[').and_then(|l| l.split(']').next()) {
            table = header.trim_start_matches('[');
        }
    }
    let line = text.lines().nth(number).unwrap_or_default();
    let key = line.split_once('=').map(|(key, _)| key.trim()).filter(|key| !key.is_empty());
    let field = match (table, key) {
        ("", None) => None,
        ("", Some(key)) => Some(key.to_owned()),
        (table, None) => Some(table.to_owned()),
        (table, Some(key)) => Some(format!("{table}.{key}")),
    };
    (Some(number + 1), field)
}

/// The text of a regular file.
pub(crate) fn text(path: &Path) -> Result<String, DataError> {
    let name = path.display().to_string();
    let fail = |e: std::io::Error| DataError::read(&name, e.to_string());
    // Looked at before it is opened: opening a pipe waits for somebody to write into it.
    if !path.metadata().map_err(fail)?.is_file() {
        return Err(DataError::read(&name, "is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(fail)?.take(LONGEST + 1).read_to_end(&mut bytes).map_err(fail)?;
    String::from_utf8(bytes).map_err(|e| DataError::read(&name, format!("is not UTF-8: {}", e.utf8_error())))
}
