//! What the tools' JSON schemas say of the types of arguments, for formats that write them without types.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::json::{self, Kind, quoted};

/// The types that an argument may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Types {
    string: bool,
    number: bool,
    boolean: bool,
    null: bool,
    array: bool,
    object: bool,
}

/// How deep `anyOf` and the like are followed.
const DEPTH: u32 = 4;

impl Types {
    fn of_schema(schema: &Json, depth: u32) -> Self {
        let mut types = Self::default();
        match schema.get("type") {
            Some(Json::String(name)) => types.add(name),
            Some(Json::Array(names)) => {
                names.iter().filter_map(Json::as_str).for_each(|name| types.add(name))
            }
            _ => {
                let listed = schema.get("enum").and_then(Json::as_array).into_iter().flatten();
                listed.chain(schema.get("const")).for_each(|value| types.add_value(value));
                if depth > 0 {
                    for key in ["anyOf", "oneOf", "allOf"] {
                        let parts = schema.get(key).and_then(Json::as_array).into_iter().flatten();
                        parts.for_each(|part| types.join(Self::of_schema(part, depth - 1)));
                    }
                }
            }
        }
        types
    }

    fn add(&mut self, name: &str) {
        match name {
            "string" => self.string = true,
            "number" | "integer" => self.number = true,
            "boolean" => self.boolean = true,
            "null" => self.null = true,
            "array" => self.array = true,
            "object" => self.object = true,
            _ => {}
        }
    }

    fn add_value(&mut self, value: &Json) {
        self.add(match value {
            Json::String(_) => "string",
            Json::Number(_) => "number",
            Json::Bool(_) => "boolean",
            Json::Null => "null",
            Json::Array(_) => "array",
            Json::Object(_) => "object",
        });
    }

    fn join(&mut self, other: Self) {
        self.string |= other.string;
        self.number |= other.number;
        self.boolean |= other.boolean;
        self.null |= other.null;
        self.array |= other.array;
        self.object |= other.object;
    }

    /// Nothing but strings: their text can be passed on before its end is seen.
    pub(super) fn only_string(self) -> bool {
        self == Self { string: true, ..Self::default() }
    }

    /// The argument that is written `text`, as JSON. What may be a string is one, unless it has the form of an
    /// array, object or null and may be that as well. Of unknown types, JSON that is no string is itself.
    pub(super) fn value(self, text: &str) -> String {
        let trimmed = text.trim();
        let unknown = self == Self::default();
        let allowed = match json::kind(trimmed) {
            None | Some(Kind::String) => false,
            Some(_) if unknown => true,
            Some(Kind::Number) => self.number && !self.string,
            Some(Kind::Boolean) => self.boolean && !self.string,
            Some(Kind::Null) => self.null,
            Some(Kind::Array) => self.array,
            Some(Kind::Object) => self.object,
        };
        // Some templates print Python's words, and models learn them.
        match trimmed {
            _ if allowed => trimmed.to_owned(),
            "True" if self.boolean && !self.string => "true".to_owned(),
            "False" if self.boolean && !self.string => "false".to_owned(),
            "None" if self.null => "null".to_owned(),
            _ => quoted(text),
        }
    }
}

/// The tools that were offered.
#[derive(Debug, Default)]
pub(super) struct Tools {
    arguments: HashMap<String, HashMap<String, Types>>,
}

impl Tools {
    /// From a list of OpenAI's tool objects, or of the functions within them.
    pub(super) fn new(tools: &Json) -> Self {
        let functions =
            tools.as_array().into_iter().flatten().map(|tool| tool.get("function").unwrap_or(tool));
        let arguments = functions.filter_map(|function| {
            let name = function.get("name")?.as_str()?.to_owned();
            let schema = function.get("parameters").and_then(|schema| schema.get("properties"));
            let properties = schema.and_then(Json::as_object).into_iter().flatten();
            Some((name, properties.map(|(key, s)| (key.clone(), Types::of_schema(s, DEPTH))).collect()))
        });
        Self { arguments: arguments.collect() }
    }

    /// Whether a tool of that name was offered, or it is not known which were.
    pub(super) fn has(&self, name: &str) -> bool {
        self.arguments.is_empty() || self.arguments.contains_key(name)
    }

    /// The types of a tool's argument.
    pub(super) fn types(&self, name: &str, argument: &str) -> Types {
        self.arguments.get(name).and_then(|types| types.get(argument)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_have_the_types_of_the_schema() {
        let value = |schema: Json, text: &str| Types::of_schema(&schema, DEPTH).value(text);
        for (schema, text, expected) in [
            (json!({"type": "string"}), "5", "\"5\""),
            (json!({"type": "string"}), "true", "\"true\""),
            (json!({"type": "string"}), "{\"a\": 1}", r#""{\"a\": 1}""#),
            (json!({"type": "integer"}), " 5\n", "5"),
            (json!({"type": "integer"}), "five", "\"five\""),
            (json!({"type": "number"}), "123456789012345678901234567890", "123456789012345678901234567890"),
            (json!({"type": "boolean"}), "True", "true"),
            (json!({"type": "boolean"}), "1", "\"1\""),
            (json!({"type": ["string", "null"]}), "null", "null"),
            (json!({"type": ["string", "integer"]}), "5", "\"5\""),
            (json!({"type": "array"}), "[1, 2]", "[1, 2]"),
            (json!({"type": "object"}), "{'a': 1}", "\"{'a': 1}\""),
            (json!({"anyOf": [{"type": "integer"}, {"type": "null"}]}), "None", "null"),
            (json!({"enum": ["1", "2"]}), "1", "\"1\""),
            (json!({"enum": [1, 2]}), "1", "1"),
            (json!({}), "5", "5"),
            (json!({}), "false", "false"),
            (json!({}), "True", "\"True\""),
            (json!({}), "\"a\"", r#""\"a\"""#),
            (json!({}), "a b\n", "\"a b\\n\""),
            (json!(7), "5", "5"),
        ] {
            assert_eq!(value(schema.clone(), text), expected, "{schema} {text}");
        }
    }
}
