//! JSON Schemas made at random: what is written is valid, and what is valid can be written.

use proptest::prelude::*;
use regex_automata::meta::Regex;
use serde_json::{Map, Value, json};

use super::super::{ConstraintError, ConstraintSpec};
use super::{Random, error, parse, takes, texts};

/// Whether `schema` allows `value`, for the keywords that these tests use (JSON Schema 2020-12, Validation).
fn allows(schema: &Value, value: &Value) -> bool {
    let Some(map) = schema.as_object() else { return schema == &Value::Bool(true) };
    let number = |key: &str| map.get(key).and_then(Value::as_f64);
    let count = |key: &str, least: bool, n: usize| {
        map.get(key)
            .and_then(Value::as_u64)
            .is_none_or(|limit| if least { n as u64 >= limit } else { n as u64 <= limit })
    };
    let of_type = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|v| v.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("no type {name}"),
    };
    let types = match map.get("type") {
        Some(Value::String(name)) => of_type(name),
        Some(Value::Array(names)) => names.iter().any(|name| of_type(name.as_str().unwrap())),
        _ => true,
    };
    let listed = map.get("enum").is_none_or(|values| values.as_array().unwrap().contains(value))
        && map.get("const").is_none_or(|constant| constant == value);
    let any = map.get("anyOf").is_none_or(|all| all.as_array().unwrap().iter().any(|s| allows(s, value)));
    let by_type = match value {
        Value::Number(n) => {
            let n = n.as_f64().unwrap();
            number("minimum").is_none_or(|limit| n >= limit)
                && number("maximum").is_none_or(|limit| n <= limit)
                && number("exclusiveMinimum").is_none_or(|limit| n > limit)
                && number("exclusiveMaximum").is_none_or(|limit| n < limit)
                && number("multipleOf").is_none_or(|by| n % by == 0.0)
        }
        Value::String(text) => {
            let characters = text.chars().count();
            let pattern = map.get("pattern").map(|p| Regex::new(p.as_str().unwrap()).unwrap());
            count("minLength", true, characters)
                && count("maxLength", false, characters)
                && pattern.is_none_or(|pattern| pattern.is_match(text))
        }
        Value::Array(items) => {
            count("minItems", true, items.len())
                && count("maxItems", false, items.len())
                && map.get("items").is_none_or(|schema| items.iter().all(|item| allows(schema, item)))
        }
        Value::Object(object) => {
            let none = Map::new();
            let properties = map.get("properties").map_or(&none, |p| p.as_object().unwrap());
            let required = map.get("required").map_or(&[][..], |r| r.as_array().unwrap());
            let yes = Value::Bool(true);
            let others = map.get("additionalProperties").unwrap_or(&yes);
            required.iter().all(|name| object.contains_key(name.as_str().unwrap()))
                && object.iter().all(|(name, value)| allows(properties.get(name).unwrap_or(others), value))
        }
        _ => true,
    };
    types && listed && any && by_type
}

/// Schemas with every keyword that [`allows`] knows, and that allow something.
fn schemas() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "null"})),
        Just(json!({"type": "boolean"})),
        (-1_000i64..1_000, 0i64..500)
            .prop_map(|(low, span)| { json!({"type": "integer", "minimum": low, "maximum": low + span}) }),
        (-50i64..50, 2i64..99).prop_map(|(low, span)| {
            json!({"type": "integer", "exclusiveMinimum": low, "exclusiveMaximum": low + span})
        }),
        (1i64..60).prop_map(|by| {
            json!({"type": "integer", "multipleOf": by, "minimum": -9_999, "maximum": 9_999})
        }),
        (-9.5f64..9.5, 0.5f64..20.0)
            .prop_map(|(low, span)| { json!({"type": "number", "minimum": low, "maximum": low + span}) }),
        (0usize..5, 0usize..6)
            .prop_map(|(low, span)| { json!({"type": "string", "minLength": low, "maxLength": low + span}) }),
        prop::sample::select(vec!["^[a-f]{2,4}$", "^x|y$", "é+", "^\\d{3}-\\d{2}$", "^\"\\\\$"])
            .prop_map(|pattern| json!({"type": "string", "pattern": pattern})),
        prop::collection::vec(words(), 1..6).prop_map(|words| json!({"enum": words})),
        prop::sample::select(vec![
            json!(null),
            json!("日本"),
            json!(-7),
            json!(true),
            json!([1, "a"]),
            json!({"k": 0})
        ])
        .prop_map(|value| json!({"const": value})),
        Just(json!({"type": ["string", "null", "integer"]})),
        Just(json!({})),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            (inner.clone(), 0u64..3, 0u64..4).prop_map(|(items, low, span)| {
                json!({"type": "array", "items": items, "minItems": low, "maxItems": low + span})
            }),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|any| json!({"anyOf": any})),
            (prop::collection::vec((words(), inner, any::<bool>()), 0..5), any::<bool>()).prop_map(
                |(properties, others)| {
                    let required: Vec<&String> =
                        properties.iter().filter(|(.., r)| *r).map(|(name, ..)| name).collect();
                    let required: std::collections::BTreeSet<_> = required.into_iter().collect();
                    let map: Map<String, Value> =
                        properties.iter().map(|(name, schema, _)| (name.clone(), schema.clone())).collect();
                    json!({"type": "object", "properties": map, "required": required,
                        "additionalProperties": others})
                }
            ),
        ]
    })
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]{1,3}", "[\"\\\\ é日🦙/<>\n]{1,4}"]
}

/// A value that `schema` (of [`schemas`]) allows.
fn instance(schema: &Value, random: &mut Random) -> Value {
    let mut below = |n: u64| random.next() % n.max(1);
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values[below(values.len() as u64) as usize].clone();
    }
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    if let Some(any) = schema.get("anyOf").and_then(Value::as_array) {
        let chosen = below(any.len() as u64) as usize;
        return instance(&any[chosen], random);
    }
    let bound = |key: &str| schema.get(key).and_then(Value::as_i64);
    match schema.get("type").and_then(Value::as_str) {
        Some("null") => Value::Null,
        Some("boolean") => json!(below(2) == 1),
        Some("integer") => {
            if let Some(by) = bound("multipleOf") {
                return json!((below(200) as i64 - 100) * by);
            }
            let low = bound("minimum").or(bound("exclusiveMinimum").map(|v| v + 1)).unwrap_or(-100);
            let high = bound("maximum").or(bound("exclusiveMaximum").map(|v| v - 1)).unwrap_or(100);
            json!(low + below((high - low + 1) as u64) as i64)
        }
        Some("number") => schema["minimum"].clone(),
        Some("string") => match schema.get("pattern").and_then(Value::as_str) {
            Some("^[a-f]{2,4}$") => json!("fee"),
            Some("^x|y$") => json!(["xé", "\ty"][below(2) as usize]),
            Some("é+") => json!("aéé🦙"),
            Some("^\\d{3}-\\d{2}$") => json!("012-99"),
            Some(_) => json!("\"\\"),
            None => {
                let low = schema["minLength"].as_u64().unwrap();
                let length = low + below(schema["maxLength"].as_u64().unwrap() - low + 1);
                let characters = ['a', '"', '\\', 'é', '日', '🦙', '\n', '\t', '/', '\u{1f}'];
                json!((0..length).map(|_| characters[below(10) as usize]).collect::<String>())
            }
        },
        Some("array") => {
            let low = schema["minItems"].as_u64().unwrap();
            let length = low + below(schema["maxItems"].as_u64().unwrap() - low + 1);
            (0..length).map(|_| instance(&schema["items"], random)).collect()
        }
        Some("object") => {
            let required = schema["required"].as_array().unwrap();
            let mut object = Map::new();
            for (name, schema) in schema["properties"].as_object().unwrap() {
                if required.contains(&json!(name)) || random.next().is_multiple_of(2) {
                    object.insert(name.clone(), instance(schema, random));
                }
            }
            if schema["additionalProperties"] == true && random.next().is_multiple_of(2) {
                object.insert("something else".into(), json!([{}, -1.5e-7]));
            }
            Value::Object(object)
        }
        _ => json!("text"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_valid(schema in schemas()) {
        for text in texts(&ConstraintSpec::JsonSchema(schema.clone()), 4) {
            prop_assert!(parse(&text).is_none_or(|value| allows(&schema, &value)), "{} of {}", text, schema);
        }
    }

    #[test]
    fn what_is_valid_can_be_written(schema in schemas(), seed: u64) {
        let value = instance(&schema, &mut Random(seed));
        prop_assert!(allows(&schema, &value), "the test's own value {} of {}", value, schema);
        let spec = ConstraintSpec::JsonSchema(schema.clone());
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            prop_assert!(takes(&spec, &text), "{:?} of {}", text, schema);
        }
    }
}

#[test]
fn a_schema_as_libraries_write_it() {
    // Definitions, descriptions, defaults, optional and nullable fields, as by pydantic.
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Order",
        "$defs": {
            "Item": {"title": "Item", "type": "object", "additionalProperties": false,
                "properties": {"sku": {"type": "string", "pattern": "^[A-Z]{3}[0-9]+$"},
                    "count": {"type": "integer", "minimum": 1, "default": 1},
                    "parts": {"type": "array", "items": {"$ref": "#/$defs/Item"}, "default": []}},
                "required": ["sku"]},
            "Status": {"enum": ["open", "paid"], "type": "string"}
        },
        "type": "object",
        "properties": {
            "id": {"anyOf": [{"type": "string", "format": "uuid"}, {"type": "null"}], "default": null},
            "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}, "minItems": 1},
            "status": {"allOf": [{"$ref": "#/$defs/Status"}], "description": "where it is"},
            "when": {"type": "string", "format": "date-time"}
        },
        "required": ["id", "items", "status"]
    });
    let spec = ConstraintSpec::JsonSchema(schema);
    for text in [
        r#"{"id": null, "items": [{"sku": "ABC1"}], "status": "paid"}"#,
        r#"{"id":"123e4567-e89b-12d3-a456-426614174000","items":[{"sku":"ABC1","parts":[{"sku":"XYZ9"}]}],
"status":"open","when":"2026-07-04T09:05:07Z","note":"more"}"#,
    ] {
        assert!(takes(&spec, text), "{text}");
    }
    for text in [
        r#"{"id": null, "items": [], "status": "paid"}"#,
        r#"{"id": 5, "items": [{"sku": "ABC1"}], "status": "paid"}"#,
        r#"{"id": null, "items": [{"sku": "abc"}], "status": "paid"}"#,
        r#"{"id": null, "items": [{"sku": "ABC1", "x": 1}], "status": "paid"}"#,
        r#"{"id": null, "items": [{"sku": "ABC1"}], "status": "lost"}"#,
        r#"{"id": null, "items": [{"sku": "ABC1"}]}"#,
    ] {
        assert!(!takes(&spec, text), "{text}");
    }
}

#[test]
fn errors_say_where() {
    for (schema, at) in [
        (json!({"properties": {"a/b": {"items": {"not": {}}}}}), "/properties/a~1b/items"),
        (json!({"anyOf": [{}, {"uniqueItems": true}]}), "/anyOf"),
        (json!({"$ref": "#/$defs/x", "$defs": {"x": {"if": true}}}), "/$ref"),
        (json!({"properties": 5}), ""),
        (json!({"items": 5}), "/items"),
        (json!(5), ""),
        (json!(false), ""),
        (json!({"type": "strang"}), ""),
        (json!({"type": "string", "format": "colour"}), ""),
        (json!({"type": "string", "minLength": 5, "maxLength": 4}), ""),
        (json!({"type": "string", "pattern": "a("}), ""),
    ] {
        let found = error(&ConstraintSpec::JsonSchema(schema.clone()));
        assert!(matches!(&found, ConstraintError::Schema { at: a, .. } if a == at), "{schema}: {found:?}");
        assert!(!found.to_string().contains("panic"), "{found}");
    }
    // What is only defined may be whatever it is.
    assert!(takes(
        &ConstraintSpec::JsonSchema(json!({"type": "null", "$defs": {"x": {"if": true}}})),
        "null"
    ));
}

#[test]
fn a_client_cannot_set_the_compilers_options() {
    let lenient = json!({"type": "string", "not": {}, "x-guidance": {"lenient": true}});
    assert!(matches!(error(&ConstraintSpec::JsonSchema(lenient)), ConstraintError::Schema { .. }));
    let spaces = json!({"type": "array", "x-guidance": {"whitespace_pattern": "x+"}});
    assert!(!takes(&ConstraintSpec::JsonSchema(spaces), "[xx]"));
}
