//! Reading a request by hand, so that an error names the parameter and what it must be.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::ApiError;

/// What a value is, in words.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(n) if n.is_f64() => "a number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The error of a value that is something else than it must be.
pub(crate) fn wrong(path: &str, value: &Value, expected: &str) -> ApiError {
    ApiError::parameter(path, format!("is {}, and must be {expected}", kind(value))).code("invalid_type")
}

/// The text that is to be shown of what a client sent.
pub(crate) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// An object of a request, and where in it.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    /// The request itself.
    pub(crate) fn root(value: &'a Value) -> Result<Fields<'a>, ApiError> {
        match value {
            Value::Object(map) => Ok(Fields { map, path: String::new() }),
            other => Err(ApiError::invalid(format!("the body is {}, and must be an object", kind(other)))),
        }
    }

    /// The object `value` at `path`.
    pub(crate) fn at(value: &'a Value, path: String) -> Result<Fields<'a>, ApiError> {
        match value {
            Value::Object(map) => Ok(Fields { map, path }),
            other => Err(wrong(&path, other, "an object")),
        }
    }

    /// Where the field `name` is.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { shown(name) } else { format!("{}.{}", self.path, shown(name)) }
    }

    /// The object itself.
    pub(crate) fn map(&self) -> &'a Map<String, Value> {
        self.map
    }

    /// A field; null is as good as none.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// A field that must be there.
    pub(crate) fn required(&self, name: &str) -> Result<&'a Value, ApiError> {
        self.get(name).ok_or_else(|| {
            ApiError::parameter(self.path(name), "is missing").code("missing_required_parameter")
        })
    }

    /// The error of a field that has the right type and a wrong value.
    pub(crate) fn error(&self, name: &str, message: impl Into<String>) -> ApiError {
        ApiError::parameter(self.path(name), message)
    }

    /// Refuses all fields but these.
    pub(crate) fn only(&self, known: &[&[&str]]) -> Result<(), ApiError> {
        let unknown = self.map.keys().find(|key| !known.iter().any(|list| list.contains(&key.as_str())));
        match unknown {
            None => Ok(()),
            Some(key) => Err(self.error(key, "is not a parameter of this request").code("unknown_parameter")),
        }
    }

    /// Refuses a field that would change the answer and cannot be heeded, unless it asks for nothing.
    pub(crate) fn refuse(&self, name: &str, why: &str) -> Result<(), ApiError> {
        match self.get(name) {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(_) => Err(self.error(name, why).code("unsupported_parameter")),
        }
    }

    pub(crate) fn string(&self, name: &str) -> Result<Option<&'a str>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| wrong(&self.path(name), value, "a string"))
    }

    pub(crate) fn required_string(&self, name: &str) -> Result<&'a str, ApiError> {
        let value = self.required(name)?;
        value.as_str().ok_or_else(|| wrong(&self.path(name), value, "a string"))
    }

    /// A string that is one of `choices`.
    pub(crate) fn choice(&self, name: &str, choices: &[&str]) -> Result<Option<&'a str>, ApiError> {
        match self.string(name)? {
            Some(text) if !choices.contains(&text) => {
                let what = format!("is `{}`, and must be one of: {}", shown(text), choices.join(", "));
                Err(self.error(name, what).code("invalid_value"))
            }
            other => Ok(other),
        }
    }

    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| wrong(&self.path(name), value, "a boolean"))
    }

    pub(crate) fn number(&self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let Some(number) = value.as_f64() else { return Err(wrong(&self.path(name), value, "a number")) };
        if range.contains(&number) {
            return Ok(Some(number));
        }
        let what = format!("is {number}, and must be between {} and {}", range.start(), range.end());
        Err(self.error(name, what).code("invalid_value"))
    }

    pub(crate) fn integer(&self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let path = self.path(name);
        integer_at(value, &path, range).map(Some)
    }

    /// A number of things.
    pub(crate) fn count(&self, name: &str, range: RangeInclusive<usize>) -> Result<Option<usize>, ApiError> {
        let bound = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let found = self.integer(name, bound(*range.start())..=bound(*range.end()))?;
        Ok(found.and_then(|n| usize::try_from(n).ok()))
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<Fields<'a>>, ApiError> {
        self.get(name).map(|value| Fields::at(value, self.path(name))).transpose()
    }

    pub(crate) fn required_object(&self, name: &str) -> Result<Fields<'a>, ApiError> {
        Fields::at(self.required(name)?, self.path(name))
    }

    pub(crate) fn array(&self, name: &str) -> Result<Option<&'a [Value]>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let array = value.as_array().map(Vec::as_slice);
        array.map(Some).ok_or_else(|| wrong(&self.path(name), value, "an array"))
    }

    /// The objects of an array, each with its place; none if the array is absent.
    pub(crate) fn objects(&self, name: &str) -> Result<Vec<Fields<'a>>, ApiError> {
        let items = self.array(name)?.unwrap_or_default().iter().enumerate();
        items.map(|(i, item)| Fields::at(item, format!("{}[{i}]", self.path(name)))).collect()
    }

    /// The strings of an array; none if the array is absent.
    pub(crate) fn strings(&self, name: &str) -> Result<Vec<&'a str>, ApiError> {
        let items = self.array(name)?.unwrap_or_default().iter().enumerate();
        let string = |(i, item): (usize, &'a Value)| {
            item.as_str().ok_or_else(|| wrong(&format!("{}[{i}]", self.path(name)), item, "a string"))
        };
        items.map(string).collect()
    }
}

/// The integer `value` at `path`.
pub(crate) fn integer_at(value: &Value, path: &str, range: RangeInclusive<i64>) -> Result<i64, ApiError> {
    let outside = |shown: String| {
        let what = format!("is {shown}, and must be between {} and {}", range.start(), range.end());
        ApiError::parameter(path, what).code("invalid_value")
    };
    match value {
        Value::Number(number) => match number.as_i64() {
            Some(n) if range.contains(&n) => Ok(n),
            Some(n) => Err(outside(n.to_string())),
            // 3.0 is an integer in JSON Schema's and JavaScript's eyes.
            None => match number.as_f64() {
                Some(x) if x.fract() == 0.0 && x.abs() < 9e15 && range.contains(&(x as i64)) => Ok(x as i64),
                Some(x) if x.fract() == 0.0 => Err(outside(number.to_string())),
                _ => Err(wrong(path, value, "an integer")),
            },
        },
        other => Err(wrong(path, other, "an integer")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_names_the_place_and_what_belongs_there() {
        let body = json!({"a": {"list": [{"n": 1.5}]}, "t": 3, "none": null, "huge": 1e300, "s": "x"});
        let root = Fields::root(&body).unwrap();
        let a = root.object("a").unwrap().unwrap();
        let item = &a.objects("list").unwrap()[0];
        let error = item.integer("n", 0..=9).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("a.list[0].n"));
        assert_eq!(error.message, "`a.list[0].n`: is a number, and must be an integer");
        let error = root.number("t", 0.0..=2.0).unwrap_err();
        assert_eq!(error.message, "`t`: is 3, and must be between 0 and 2");
        assert!(root.integer("huge", 0..=9).unwrap_err().message.contains("between 0 and 9"));
        assert!(root.string("t").unwrap_err().message.contains("an integer, and must be a string"));
        assert_eq!(root.string("none"), Ok(None));
        assert!(root.required("none").unwrap_err().message.contains("missing"));
        assert!(root.choice("s", &["y", "z"]).unwrap_err().message.contains("one of: y, z"));
        assert_eq!(root.only(&[&["a", "t"], &["none", "huge"]]).unwrap_err().param.as_deref(), Some("s"));
    }
}
