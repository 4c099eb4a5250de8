//! Chat templates against Python's Jinja2, which models' templates are written for; see
//! `fixtures/generate_chat.py`.

use std::path::Path;

use autarky_text::{ChatTemplate, DateTime, Message, RenderOptions, TemplateError};
use serde_json::Value;

const NOW: DateTime = DateTime { year: 2026, month: 7, day: 4, hour: 9, minute: 5, second: 7 };

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// Says how a rendering differs from what Jinja2 did, if it does.
fn difference(case: &Value, result: Result<String, TemplateError>) -> Option<String> {
    let same = match (&result, &case["expected"], &case["refused"], &case["fails"]) {
        (Ok(text), Value::String(expected), ..) => text == expected,
        (Err(TemplateError::Refused { message }), _, Value::String(expected), _) => message == expected,
        (Err(TemplateError::Failed { .. } | TemplateError::Syntax { .. }), _, _, Value::String(_)) => true,
        _ => false,
    };
    (!same).then(|| format!("{case:#}\n  ours: {result:?}\n"))
}

#[test]
fn published_templates_render_as_with_jinja2() {
    let fixture_cases: Value = serde_json::from_str(&fixture("cases.json")).unwrap();
    let cases = fixture_cases["cases"].as_array().unwrap();
    let mut wrong = Vec::new();
    for case in cases {
        let template = ChatTemplate::new(&fixture(case["template"].as_str().unwrap())).unwrap();
        let conversation = &fixture_cases["conversations"][case["conversation"].as_str().unwrap()];
        let messages: Vec<Message> = serde_json::from_value(conversation.clone()).unwrap();
        let options = RenderOptions {
            add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap(),
            tools: case["tools"].as_bool().unwrap().then(|| fixture_cases["tools"].clone()),
            bos_token: Some("<s>".into()),
            eos_token: Some("</s>".into()),
            extra: case["extra"].as_object().unwrap().clone(),
            date: case["date"].as_bool().unwrap().then_some(NOW),
        };
        wrong.extend(difference(case, template.render(&messages, &options)));
    }
    assert!(wrong.is_empty(), "{} of {} differ, the first:\n{}", wrong.len(), cases.len(), wrong[0]);
    assert!(cases.len() > 400);
}

#[test]
fn the_language_is_jinja2s() {
    let language: Value = serde_json::from_str(&fixture("language.json")).unwrap();
    let options = RenderOptions {
        extra: language["variables"].as_object().unwrap().clone(),
        date: Some(NOW),
        ..RenderOptions::default()
    };
    let cases = language["cases"].as_array().unwrap();
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let result =
                ChatTemplate::new(case["template"].as_str().unwrap()).and_then(|t| t.render(&[], &options));
            difference(case, result)
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() > 100);
}

#[test]
fn costly_templates_stop_early_and_say_where() {
    let bombs = [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999999999) %}{% endfor %}",
        "{% set ns = namespace(x='xxxxxxxx') %}\n{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x|replace('a', 'aa') %}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "{{ 'x' * 99999999999 }}",
        "{{ [1] * 99999999999 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
        "{% for a in range(999999) %}{{ 'some text that is printed' }}{% endfor %}",
        "{{ 'x'|indent(99999999999, true) }}",
        "{{ 'x'.ljust(99999999999) }}",
        "{{ [1]|tojson(indent=99999999999) }}",
        "{% set x = 'ab' * 1000000 %}{% for i in range(99999) %}{{ 'q' in x }}{% endfor %}",
        "{% set x = 'ab ' * 1000000 %}{% for i in range(99999) %}{{ x.split()|length }}{% endfor %}",
        "{% set x = range(100000)|list %}{% for i in x %}{{ x|sort|last }}{% endfor %}",
        "{% set x = range(100000)|list %}{{ x|unique|list|length }}",
    ];
    for bomb in bombs {
        let template = ChatTemplate::new(bomb).unwrap();
        // Without limits, these would take hours or all memory.
        let result = template.render(&[], &RenderOptions::default());
        assert!(matches!(result, Err(TemplateError::Limit { .. })), "{bomb}: {result:?}");
    }
    let error = ChatTemplate::new(bombs[2]).unwrap().render(&[], &RenderOptions::default()).unwrap_err();
    assert_eq!(error, TemplateError::Limit { what: "memory", line: 2 });
}

#[test]
fn hostile_sources_are_syntax_errors() {
    let deep =
        |open: &str, close: &str| format!("{{{{ {}1{} }}}}", open.repeat(25_000), close.repeat(25_000));
    for source in [
        deep("(", ")"),
        deep("[", "]"),
        deep("-", ""),
        deep("not ", ""),
        deep("{'a':", "}"),
        format!("{{{{ 1{} }}}}", "+1".repeat(25_000)),
        format!("{{{{ 1{} }}}}", "|abs".repeat(25_000)),
        format!("{{{{ x{} }}}}", ".x".repeat(25_000)),
        format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(12_000)),
        "{% if 1 %}".repeat(12_000),
        "{% for a in b %}".repeat(12_000),
        "{{".repeat(12_000),
        "{% set ".repeat(12_000),
        "{% set (".to_owned() + &"(".repeat(12_000),
    ] {
        assert!(matches!(ChatTemplate::new(&source), Err(TemplateError::Syntax { .. })), "{}", &source[..40]);
    }
    assert!(matches!(ChatTemplate::new(&" ".repeat(2 << 20)), Err(TemplateError::TooLarge { .. })));
    // Long without depth is fine.
    let long = "{% if false %}{% elif 0 %}".to_owned() + &"{% elif 0 %}".repeat(1000) + "{% endif %}";
    assert_eq!(ChatTemplate::new(&long).unwrap().render(&[], &RenderOptions::default()).unwrap(), "");
}

#[test]
fn a_model_without_a_template_gets_chatml() {
    let messages = [Message::new("system", "Be brief."), Message::new("user", "Hi")];
    let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
    let text = ChatTemplate::builtin("chatml").unwrap().render(&messages, &options).unwrap();
    let expected =
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(text, expected);
    assert!(ChatTemplate::builtin("nothing").is_err());
}
