//! Schemas, regular expressions and grammars that are meant to take a server's time, memory or stack.
//!
//! That they are answered at all is the test: without bounds each of them takes minutes, gigabytes, or the process.

use serde_json::{Map, Value, json};

use super::super::{Constraint, ConstraintError, ConstraintSpec};
use super::{TOKENIZER, VOCABULARY, error, write};

fn schema(value: Value) -> ConstraintSpec {
    ConstraintSpec::JsonSchema(value)
}

/// Compiles what may or may not be refused, and writes some of it.
fn survives(spec: &ConstraintSpec) {
    let Ok(mut constraint) = Constraint::new(&VOCABULARY, spec) else { return };
    let mut random = super::Random(1);
    for _ in 0..20 {
        let mut logits: Vec<f32> = (0..TOKENIZER.vocab_size()).map(|_| random.unit()).collect();
        if constraint.mask(&mut logits).is_err() {
            return;
        }
        let (token, _) = (0..).zip(&logits).max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
        if constraint.accept(token).is_err() || constraint.is_done() {
            return;
        }
    }
}

fn nested(levels: usize, wrap: impl Fn(Value) -> Value) -> Value {
    (0..levels).fold(json!({"type": "null"}), |inner, _| wrap(inner))
}

/// Takes `value` apart without a call for each level.
fn dismantle(value: Value) {
    let mut left = vec![value];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(map) => left.extend(map.into_iter().map(|(_, value)| value)),
            _ => {}
        }
    }
}

#[test]
fn deep_schemas() {
    let object = |key: &str, value| Value::Object(Map::from_iter([(key.to_owned(), value)]));
    let wraps: [&dyn Fn(Value) -> Value; 4] = [
        &|v| object("items", v),
        &|v| object("properties", object("a", v)),
        &|v| object("anyOf", Value::Array(vec![v])),
        &|v| object("const", Value::Array(vec![v])),
    ];
    for wrap in wraps {
        let spec = schema(nested(10_000, wrap));
        assert!(matches!(error(&spec), ConstraintError::TooLarge { unit: "levels of nesting", .. }));
        let ConstraintSpec::JsonSchema(value) = spec else { continue };
        dismantle(value);
        survives(&schema(nested(20, wrap)));
    }
}

#[test]
fn references_in_chains_and_circles() {
    let chain = |n: usize| {
        let name = |i: usize| format!("#/$defs/a{}", i % n);
        let mut defs: Map<String, Value> =
            (0..n).map(|i| (format!("a{i}"), json!({"items": {"$ref": name(i + 1)}}))).collect();
        defs.insert("loop".into(), json!({"$ref": "#/$defs/loop"}));
        defs
    };
    survives(&schema(json!({"$ref": "#/$defs/a0", "$defs": chain(500)})));
    let long = schema(json!({"$ref": "#/$defs/a0", "$defs": chain(5_000)}));
    assert!(matches!(error(&long), ConstraintError::TooLarge { unit: "levels", .. }));
    let backwards: Vec<Value> = (0..5_000).rev().map(|i| json!({"$ref": format!("#/$defs/a{i}")})).collect();
    let long = schema(json!({"prefixItems": backwards, "$defs": chain(5_000)}));
    assert!(matches!(error(&long), ConstraintError::TooLarge { .. }));
    for circle in [
        json!({"$ref": "#/$defs/loop", "$defs": chain(1)}),
        json!({"$ref": "#"}),
        json!({"$ref": "#/"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"$ref": "#", "type": "object"}),
        json!({"anyOf": [{"$ref": "#"}, {"$ref": "#/anyOf/0"}]}),
    ] {
        survives(&schema(circle));
    }
    for nothing in ["#/$defs/x", "https://example.com/schema", "x", "", "#a", "#/%24defs/loop"] {
        let found = error(&schema(json!({"properties": {"p": {"$ref": nothing}}, "$defs": chain(1)})));
        let at = "/properties/p/$ref";
        assert!(matches!(&found, ConstraintError::Schema { at: a, .. } if a == at), "{nothing}: {found}");
    }
}

#[test]
fn alternatives_that_multiply() {
    let choice =
        |n: usize| -> Vec<Value> { (0..n).map(|i| json!({"properties": {format!("p{i}"): {}}})).collect() };
    let all: Vec<Value> = (0..12).map(|_| json!({"anyOf": choice(10)})).collect();
    assert!(
        matches!(error(&schema(json!({"allOf": all}))), ConstraintError::Schema { at, .. } if at == "/allOf")
    );
    survives(&schema(json!({"allOf": [{"anyOf": choice(60)}, {"anyOf": choice(60)}]})));
    assert!(matches!(error(&schema(json!({"oneOf": choice(5_000)}))), ConstraintError::TooComplex(_)));
    survives(&schema(json!({"oneOf": choice(300)})));
    let values: Vec<Value> = (0..400).map(|i| json!(i)).collect();
    survives(&schema(json!({"enum": values, "const": 3, "anyOf": [{"enum": values}]})));
    let tree = |name: &str| {
        let child = json!({"$ref": format!("#/$defs/{name}")});
        let mut properties: Map<String, Value> =
            ["a", "b", "c"].map(|k| (k.to_owned(), child.clone())).into_iter().collect();
        properties.insert(name.into(), json!({"enum": (0..200).collect::<Vec<_>>()}));
        json!({"type": "object", "properties": properties})
    };
    let both = json!({"allOf": [{"$ref": "#/$defs/x"}, {"$ref": "#/$defs/y"}],
        "$defs": {"x": tree("x"), "y": tree("y")}});
    assert!(matches!(error(&schema(both)), ConstraintError::TooComplex(_)));
}

#[test]
fn large_schemas() {
    let many: Vec<Value> = (0..20_000).map(|i| json!(format!("v{i}"))).collect();
    survives(&schema(json!({"enum": many})));
    let more: Vec<Value> = (0..100_000).map(|i| json!(i)).collect();
    assert!(matches!(error(&schema(json!({"enum": more}))), ConstraintError::TooLarge { unit: "bytes", .. }));
    let long = "x".repeat(1 << 20);
    for spec in [
        schema(json!({"const": long})),
        schema(json!({"properties": {long.clone(): {}}})),
        schema(json!({"description": long})),
        ConstraintSpec::Regex(long.clone()),
        ConstraintSpec::Lark(format!("start: \"{long}\"")),
    ] {
        assert!(matches!(error(&spec), ConstraintError::TooLarge { .. }));
    }
    survives(&schema(json!({"const": "x".repeat(100_000)})));
    let properties: Map<String, Value> = (0..2_000).map(|i| (format!("p{i}"), json!({}))).collect();
    assert!(matches!(error(&schema(json!({"properties": properties}))), ConstraintError::Schema { .. }));
    let properties: Map<String, Value> =
        (0..900).map(|i| (format!("p{i}"), json!({"type": "string"}))).collect();
    survives(&schema(json!({"properties": properties})));
    let closed = json!({"properties": properties, "additionalProperties": false, "maxProperties": 1});
    survives(&schema(closed));
}

#[test]
fn counts_that_would_be_written_out() {
    for keyword in ["minItems", "maxItems", "minProperties", "maxLength", "minLength"] {
        for count in [json!(u64::MAX), json!(1_000_000_000u64)] {
            let found = error(&schema(json!({keyword: count})));
            assert!(matches!(&found, ConstraintError::Schema { .. }), "{keyword}: {found}");
        }
        survives(&schema(json!({keyword: 10_000})));
        survives(&schema(json!({keyword: -1.5})));
    }
    let grid = nested(8, |v| json!({"type": "array", "items": v, "minItems": 10_000, "maxItems": 10_000}));
    survives(&schema(grid));
    for number in [
        json!({"type": "integer", "minimum": -1e308, "maximum": 1e308}),
        json!({"type": "number", "minimum": 1e-300, "maximum": 1e300, "multipleOf": 1e-300}),
        json!({"type": "integer", "multipleOf": 999_999_999}),
        json!({"type": "number", "multipleOf": 0}),
        json!({"allOf": [{"multipleOf": 4_294_967_295u64}, {"multipleOf": 4_294_967_291u64}, {"multipleOf": 0.0007}]}),
        json!({"minimum": 5, "maximum": 4}),
    ] {
        survives(&schema(number));
    }
}

#[test]
fn regular_expressions_that_explode() {
    for regex in [
        "(a*)*b",
        "(.*a){30}",
        "(x{1000}){1000}",
        "((a{0,1000}){0,1000}){0,1000}",
        ".*a.{500}",
        "(a|aa|aaa|aaaa){200}z",
        r"(\p{L}|\p{N}\p{M})*(\p{Lu}{3,100}|\p{Ll}{5,200}){50}",
        "[^\\x00-\\x{10FFFF}]",
        &"(".repeat(5_000),
        &format!("{}a{}", "(".repeat(4_000), ")".repeat(4_000)),
        &format!("{}{}", "(a|".repeat(240), ")".repeat(240)),
        &r"\p{L}".repeat(1_600),
        &"a?".repeat(4_000),
        &"(ab|cd)*".repeat(1_000),
    ] {
        survives(&ConstraintSpec::Regex(regex.to_owned()));
        survives(&schema(json!({"type": "string", "pattern": regex})));
        let patterns = json!({"patternProperties": {regex: {}, "b.*": {}}});
        survives(&schema(patterns));
    }
}

#[test]
fn grammars_that_recurse() {
    let chain = |kind: fn(usize) -> String| -> String {
        let rules: String = (0..4_000).map(|i| format!("{}: {}\n", kind(i), kind(i + 1))).collect();
        format!("start: {}\n{rules}{}: \"x\"\n", kind(0), kind(4_000))
    };
    for grammar in [
        "start: start".to_owned(),
        "start: start start |".to_owned(),
        "start: a\na: b\nb: a | \"x\" a".to_owned(),
        "start: A\nA: B\nB: A".to_owned(),
        "start: @lark_grammar".to_owned(),
        "start: \"a\"{1000000000}".to_owned(),
        "start: x{0,2147483647}\nx: \"a\" x | ".to_owned(),
        "start: ((((x{1000}){1000}){1000}){1000})\nx: \"a\"".to_owned(),
        "start: X{1000}\nX: /(a|b)*c{1000}/".to_owned(),
        format!("start: {}", "x{".repeat(2_000)),
        format!("start: {}\"a\"{}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("start: {}\"a\"", "~".repeat(60_000)),
        format!("start: {}", "%lark { start: ".repeat(1_000)),
        format!("start: %json {}", "{\"items\":".repeat(2_000)),
        "start: %json {\"minItems\": 1000000000}".to_owned(),
        format!("start: %regex {{\"substring_chars\": \"{}\"}}", "ab".repeat(20_000)),
        "start[stop=\"\"]: /.*/".to_owned(),
        "start[max_tokens=0]: /.*/".to_owned(),
        chain(|i| format!("r{i}")),
        chain(|i| format!("T{i}")),
        "\0\u{ffff}%%%".to_owned(),
        String::new(),
    ] {
        survives(&ConstraintSpec::Lark(grammar));
    }
}

#[test]
fn an_answer_without_end_stays_within_bounds() {
    // Ambiguity: the number of ways to read a text grows with it.
    let spec = ConstraintSpec::Lark("start: e\ne: e e | \"a\" | \"aa\" | e \"a\" e".into());
    let mut constraint = Constraint::new(&VOCABULARY, &spec).unwrap();
    for _ in 0..200 {
        let mut logits = vec![0.0; TOKENIZER.vocab_size()];
        if let Err(e) = constraint.mask(&mut logits) {
            assert!(matches!(e, ConstraintError::TooComplex(_)), "{e}");
            break;
        }
        constraint.accept(super::bytes("a")[0]).unwrap();
    }
    let spec = schema(json!({"type": "string", "minLength": 500, "maxLength": 2_000}));
    let mut constraint = Constraint::new(&VOCABULARY, &spec).unwrap();
    let text = super::text(&write(&mut constraint, &TOKENIZER, 3, 100));
    let value: String = serde_json::from_str(&text).unwrap();
    assert!((500..=2_000).contains(&value.chars().count()));
}
