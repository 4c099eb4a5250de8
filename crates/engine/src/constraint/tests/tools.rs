//! Calls of tools.

use serde_json::{Value, json};

use super::super::{ConstraintError, ConstraintSpec, ToolSchema, ToolSyntax};
use super::{EOS, TOKENIZER, TOOL_CALL, bytes, constraint, error, takes, write};

fn syntax() -> ToolSyntax {
    ToolSyntax {
        before: "<tool_call>\n{\"name\": \"".into(),
        between: "\", \"arguments\": ".into(),
        after: "}\n</tool_call>".into(),
        separator: "\n".into(),
    }
}

fn tools() -> Vec<ToolSchema> {
    let city = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
        "additionalProperties": false});
    let days = json!({"type": "object", "properties": {"days": {"type": "integer", "minimum": 1, "maximum": 14}},
        "required": ["days"], "additionalProperties": false});
    let tool = |name: &str, arguments| ToolSchema { name: name.into(), arguments };
    vec![tool("weather", city), tool("weather_days", days)]
}

fn calls(at_most_one: bool) -> ConstraintSpec {
    ConstraintSpec::ToolCalls { tools: tools(), syntax: syntax(), at_most_one }
}

/// The calls in `tokens`, each between the control tokens `<tool_call>` and `</tool_call>`.
fn read(tokens: &[u32]) -> Vec<Value> {
    tokens
        .split(|&token| token == TOOL_CALL + 1)
        .filter_map(|call| match call.iter().position(|&token| token == TOOL_CALL) {
            Some(begin) => {
                let text = TOKENIZER.decode_bytes(&call[begin + 1..], true).unwrap();
                Some(serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{e}: {text:?}")))
            }
            None => {
                assert!(call.is_empty(), "text outside of calls");
                None
            }
        })
        .collect()
}

#[test]
fn calls_name_a_tool_and_have_its_arguments() {
    let mut seen = [0; 2];
    for at_most_one in [true, false] {
        let fresh = constraint(&calls(at_most_one));
        for seed in 0..20 {
            // The control tokens are the grammar's own here.
            let mut state = fresh.fork();
            let mut random = super::Random(seed);
            let mut tokens = Vec::new();
            loop {
                let mut logits: Vec<f32> = (0..TOKENIZER.vocab_size()).map(|_| random.unit()).collect();
                if tokens.len() > 120 {
                    logits[bytes("\"")[0] as usize] += 2.0;
                    logits[EOS as usize] += 3.0;
                }
                state.mask(&mut logits).unwrap();
                let (token, _) = (0..).zip(&logits).max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
                state.accept(token).unwrap();
                if TOKENIZER.is_eog(token) {
                    break;
                }
                tokens.push(token);
                assert!(tokens.len() < 5_000);
            }
            let read = read(&tokens);
            assert!(!read.is_empty() && (read.len() == 1 || !at_most_one), "{} calls", read.len());
            for call in read {
                let arguments = call["arguments"].as_object().unwrap();
                assert_eq!((call.as_object().unwrap().len(), arguments.len()), (2, 1), "{call}");
                match call["name"].as_str().unwrap() {
                    "weather" => assert!(arguments["city"].is_string()),
                    "weather_days" => assert!((1..=14).contains(&arguments["days"].as_i64().unwrap())),
                    other => panic!("no tool `{other}`"),
                }
                seen[usize::from(call["name"] == "weather_days")] += 1;
            }
        }
    }
    assert!(seen[0] > 5 && seen[1] > 5, "both tools are called: {seen:?}");
}

#[test]
fn markers_are_the_vocabularys_tokens_where_it_has_them() {
    let mut state = constraint(&calls(true));
    let mut logits = vec![0.0; TOKENIZER.vocab_size()];
    state.mask(&mut logits).unwrap();
    let left: Vec<u32> = (0..).zip(&logits).filter(|(_, l)| l.is_finite()).map(|(id, _)| id).collect();
    assert_eq!(left, [TOOL_CALL], "the marker is one token, not its letters");
    let call = "\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Köln <tool_call>\"}}\n";
    let tokens = [vec![TOOL_CALL], bytes(call), vec![TOOL_CALL + 1, EOS]].concat();
    assert_eq!(state.validate_tokens(&tokens), Ok(tokens.len()));
    for token in tokens {
        state.accept(token).unwrap();
    }
    let mut plain = syntax();
    plain.before = "[CALL]{\"name\": \"".into();
    plain.after = "}[END]".into();
    let spec = ConstraintSpec::ToolCalls { tools: tools(), syntax: plain, at_most_one: false };
    assert!(takes(&spec, "[CALL]{\"name\": \"weather_days\", \"arguments\": {\"days\": 14}}[END]"));
    assert!(!takes(&spec, "[CALL]{\"name\": \"weather_days\", \"arguments\": {\"days\": 15}}[END]"));
    assert!(takes(
        &spec,
        "[CALL]{\"name\": \"weather\", \"arguments\": {\"city\":\"\"}}[END]\n\
         [CALL]{\"name\": \"weather_days\", \"arguments\": {\"days\":1}}[END]"
    ));
}

#[test]
fn text_around_calls_may_have_any_character() {
    let odd = ToolSyntax {
        before: "\u{7f}\t/*\"\\ é🦙 <".into(),
        between: ">\u{1}".into(),
        after: String::new(),
        separator: String::new(),
    };
    let tools = vec![ToolSchema { name: "naïve.tool-1".into(), arguments: Value::Bool(true) }];
    let spec = ConstraintSpec::ToolCalls { tools, syntax: odd, at_most_one: false };
    assert!(takes(
        &spec,
        "\u{7f}\t/*\"\\ é🦙 <naïve.tool-1>\u{1}[1]\u{7f}\t/*\"\\ é🦙 <naïve.tool-1>\u{1}\"x\""
    ));
}

#[test]
fn errors_name_the_tool() {
    let with = |tools| ConstraintSpec::ToolCalls { tools, syntax: syntax(), at_most_one: true };
    assert!(matches!(error(&with(Vec::new())), ConstraintError::Grammar(_)));
    let twice = [tools(), tools()].concat();
    assert!(matches!(error(&with(twice)), ConstraintError::Tool { name, .. } if name == "weather"));
    for name in ["", "a\"b", "a\nb", "</tool_call>", &"x".repeat(129)] {
        let tool = ToolSchema { name: name.into(), arguments: json!({}) };
        assert!(matches!(error(&with(vec![tool])), ConstraintError::Tool { .. }), "{name}");
    }
    for wrong in
        [json!({"not": {}}), json!({"type": "strang"}), json!(7), json!({"properties": {"a": {"if": {}}}})]
    {
        let mut tools = tools();
        tools[1].arguments = wrong.clone();
        let found = error(&with(tools));
        assert!(
            matches!(&found, ConstraintError::Tool { name, .. } if name == "weather_days"),
            "{wrong}: {found}"
        );
    }
    let ends = ToolSyntax { after: "</s>".into(), ..syntax() };
    let spec = ConstraintSpec::ToolCalls { tools: tools(), syntax: ends, at_most_one: true };
    assert!(matches!(error(&spec), ConstraintError::Grammar(_)));
}

#[test]
fn a_call_of_a_vocabulary_without_ends_is_done_when_it_is_written() {
    let tokenizer = super::tokenizer(false);
    let vocabulary = super::ConstraintVocabulary::new(&tokenizer).unwrap();
    let mut plain = syntax();
    plain.before = "{\"name\": \"".into();
    plain.after = "}".into();
    let spec = ConstraintSpec::ToolCalls { tools: tools(), syntax: plain, at_most_one: true };
    let mut state = super::Constraint::new(&vocabulary, &spec).unwrap();
    let tokens = write(&mut state, &tokenizer, 7, 60);
    let call: Value = serde_json::from_slice(&tokenizer.decode_bytes(&tokens, true).unwrap()).unwrap();
    assert!(call["arguments"].is_object());
}
