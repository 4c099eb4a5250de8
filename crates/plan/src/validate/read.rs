//! Files of rows: a JSON list, an object whose `rows` is one, or one row a line.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::runs::{MAX_ROWS_BYTES, Row, RowsError};

/// The rows of a file.
///
/// # Errors
/// The file cannot be read, is too long, or is not of that shape, with the row, the field and the reason.
pub fn read(file: &Path) -> Result<Vec<Row>, RowsError> {
    let fail = |problem: String| RowsError::Read { file: file.display().to_string(), problem };
    // Looked at before it is opened: opening a pipe waits for somebody to write into it.
    if !file.metadata().map_err(|e| fail(e.to_string()))?.is_file() {
        return Err(fail("it is not a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    let opened = File::open(file);
    opened
        .and_then(|f| f.take(MAX_ROWS_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|e| fail(e.to_string()))?;
    if bytes.len() as u64 > MAX_ROWS_BYTES {
        return Err(fail(format!("it has more than {MAX_ROWS_BYTES} bytes")));
    }
    parse(file, &bytes)
}

/// The rows in `text`; `file` is for errors. A field that is null is taken as absent.
///
/// # Errors
/// As of [`read`].
pub fn parse(file: &Path, text: &[u8]) -> Result<Vec<Row>, RowsError> {
    let shape = |place: String, problem: String| RowsError::Shape {
        file: file.display().to_string(),
        place,
        problem,
    };
    let rows = match serde_json::from_slice(text) {
        Ok(Value::Array(rows)) => rows,
        Ok(Value::Object(mut object)) => match object.remove("rows") {
            Some(Value::Array(rows)) => rows,
            Some(_) => return Err(shape("rows".to_owned(), "it is not a list".to_owned())),
            // One row, as a file of lines may have.
            None if object.contains_key("measured") => vec![Value::Object(object)],
            None => return Err(shape("the top".to_owned(), "the object has no list `rows`".to_owned())),
        },
        Ok(_) => return Err(shape("the top".to_owned(), "it is neither a list nor an object".to_owned())),
        Err(whole) => lines(text).map_err(|(line, problem)| match line {
            // The first line is no row: the file is no file of lines.
            1 => shape(format!("line {} column {}", whole.line(), whole.column()), reason(&whole)),
            line => shape(format!("line {line}"), problem),
        })?,
    };
    rows.into_iter().enumerate().map(|(i, value)| row(i, value).map_err(|(at, why)| shape(at, why))).collect()
}

/// An error's words without the place, which is told by itself.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

fn lines(text: &[u8]) -> Result<Vec<Value>, (usize, String)> {
    let mut rows = Vec::new();
    for (i, line) in text.split(|b| *b == b'\n').enumerate() {
        if !line.trim_ascii().is_empty() {
            let row: Value = serde_json::from_slice(line).map_err(|e| (i + 1, reason(&e)))?;
            rows.push(row);
        }
    }
    if rows.is_empty() {
        return Err((1, "the file is empty".to_owned()));
    }
    Ok(rows)
}

/// A row, or its place with the field, and what is wrong.
fn row(i: usize, value: Value) -> Result<Row, (String, String)> {
    let Value::Object(mut object) = value else {
        return Err((format!("row {i}"), "it is no object".to_owned()));
    };
    object.retain(|_, v| !v.is_null());
    let id = object.get("id").and_then(Value::as_str).unwrap_or("without id").chars().take(100);
    let id: String = id.collect();
    serde_json::from_value(Value::Object(object.clone())).map_err(|whole| {
        let (field, problem) = culprit(&object).unwrap_or_else(|| (None, reason(&whole)));
        let place = field.map(|f| format!(", field `{f}`")).unwrap_or_default();
        (format!("row {i} ({id}){place}"), problem)
    })
}

/// The first field that is wrong by itself, and why. serde's errors do not say which it is.
fn culprit(object: &Map<String, Value>) -> Option<(Option<String>, String)> {
    let sound = json!({"id": "", "kind": "", "model": {"name": ""}, "measured": {}});
    let trial = |at: &str, value: Value| {
        let mut row = sound.clone();
        if let Some(place) = row.as_object_mut() {
            place.insert(at.to_owned(), value);
        }
        serde_json::from_value::<Row>(row).err().map(|e| reason(&e))
    };
    for (name, value) in object {
        let Some(problem) = trial(name, value.clone()) else { continue };
        let model = if name == "model" { value.as_object() } else { None };
        for (size, value) in model.into_iter().flatten() {
            let mut one = json!({"name": ""});
            if let Some(place) = one.as_object_mut() {
                place.insert(size.clone(), value.clone());
            }
            if let Some(problem) = trial("model", one) {
                return Some((Some(format!("model.{size}")), problem));
            }
        }
        return Some((Some(name.clone()), problem));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Result<Vec<Row>, String> {
        parse(Path::new("rows.json"), text.as_bytes()).map_err(|e| e.to_string())
    }

    const ROW: &str = r#"{"id":"a","kind":"train","model":{"name":"m"},"measured":{},"quality":null}"#;

    #[test]
    fn lists_objects_and_lines_are_read() {
        for text in
            [format!("[{ROW},{ROW}]"), format!("{{\"rows\":[{ROW},{ROW}]}}"), format!("{ROW}\n\n{ROW}\n")]
        {
            assert_eq!(rows(&text).map(|r| r.len()), Ok(2), "{text}");
        }
        assert_eq!(rows(ROW).map(|r| r.len()), Ok(1));
        assert_eq!(rows("[]").map(|r| r.len()), Ok(0));
    }

    #[test]
    fn errors_name_file_row_and_field() {
        let text = |edit: &str| format!("[{ROW},{}]", ROW.replace("\"quality\":null", edit));
        let error = |t: &str| rows(t).unwrap_err();
        assert!(
            error(&text("\"count\":\"8\"")).starts_with("rows.json: row 1 (a), field `count`: invalid type")
        );
        let model = ROW.replace("\"m\"", "\"m\",\"layers\":[3]");
        assert!(error(&format!("[{model}]")).starts_with("rows.json: row 0 (a), field `model.layers`: "));
        assert!(error("[{}]").contains("missing field"));
        assert!(error("[3]").starts_with("rows.json: row 0: "));
        assert!(error("[").starts_with("rows.json: line 1 column 1: EOF"));
        assert!(error(&format!("{ROW}\n{{")).starts_with("rows.json: line 2: "));
        assert!(error("{\"rows\":3}").starts_with("rows.json: rows: "));
        assert!(error("").starts_with("rows.json: line 1"));
    }
}
