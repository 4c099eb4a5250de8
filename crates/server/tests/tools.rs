//! Calls of tools and answers in JSON: what is asked for is what comes, whatever the model would like to say.

mod support;

use serde_json::{Value, json};
use support::{MODEL, app, ask, post, with};

const PATH: &str = "/v1/chat/completions";

fn weather() -> Value {
    json!({"type": "function", "function": {
        "name": "get_weather",
        "description": "The weather somewhere.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["city", "days"],
            "additionalProperties": false,
        },
    }})
}

fn time() -> Value {
    json!({"type": "function", "function": {"name": "get_time", "parameters": {
        "type": "object", "properties": {"utc": {"type": "boolean"}}, "required": ["utc"], "additionalProperties": false,
    }}})
}

fn request(more: Value) -> Value {
    let mut body = json!({
        "model": MODEL,
        "messages": [{"role": "user", "content": "What is the weather in Rome?"}],
        "tools": [weather(), time()],
        "max_tokens": 1500,
        "seed": 1,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn check_weather(arguments: &str) {
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    assert!(["Paris", "Rome"].contains(&arguments["city"].as_str().unwrap()));
    assert!((1..=9).contains(&arguments["days"].as_i64().unwrap()));
}

const NAMED: &str = r#"{"type": "function", "function": {"name": "get_weather"}}"#;

#[tokio::test]
async fn a_tool_that_must_be_called_is_called_with_arguments_of_its_schema() {
    // With a template that has a place for tools, and with one that has none.
    let chatml = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}assistant: ";
    for app in [app(), with(Some(chatml), 64)] {
        let named: Value = serde_json::from_str(NAMED).unwrap();
        for (choice, seed) in [(named.clone(), 1), (named, 2), (json!("required"), 3), (json!("required"), 4)]
        {
            let more = json!({"tool_choice": choice, "seed": seed, "parallel_tool_calls": false});
            let whole = ask(&app, PATH, request(more.clone())).await;
            let choice = &whole["choices"][0];
            assert_eq!(choice["finish_reason"], "tool_calls");
            assert_eq!(choice["message"]["content"], Value::Null);
            let calls = choice["message"]["tool_calls"].as_array().unwrap();
            assert_eq!((calls.len(), &calls[0]["type"]), (1, &json!("function")));
            assert!(calls[0]["id"].as_str().unwrap().starts_with("call_"));
            let function = &calls[0]["function"];
            if function["name"] == "get_weather" {
                check_weather(function["arguments"].as_str().unwrap());
            }

            let mut streamed = request(more);
            streamed["stream"] = json!(true);
            let chunks = post(&app, PATH, streamed).await.chunks();
            let deltas: Vec<&Value> =
                chunks.iter().filter_map(|c| c["choices"][0]["delta"]["tool_calls"].get(0)).collect();
            assert!(deltas[0]["id"].is_string() && deltas[0]["type"] == "function");
            assert_eq!(deltas[0]["function"]["name"], function["name"]);
            assert!(deltas[1..].iter().all(|d| d.get("id").is_none() && d["index"] == 0));
            let pieces: String = deltas.iter().filter_map(|d| d["function"]["arguments"].as_str()).collect();
            assert_eq!(json!(pieces), function["arguments"]);
            assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
        }
    }
}

#[tokio::test]
async fn a_conversation_goes_on_from_calls_and_results() {
    let chatml = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}assistant: ";
    for app in [app(), with(Some(chatml), 64)] {
        let named: Value = serde_json::from_str(NAMED).unwrap();
        let first = ask(&app, PATH, request(json!({"tool_choice": named}))).await;
        let message = first["choices"][0]["message"].clone();
        let id = message["tool_calls"][0]["id"].clone();
        let messages = json!([
            {"role": "user", "content": "What is the weather in Rome?"},
            message,
            {"role": "tool", "tool_call_id": id, "content": "Sunny."},
        ]);
        let second = ask(&app, PATH, request(json!({"messages": messages, "tool_choice": "none"}))).await;
        assert!(second["choices"][0]["message"].get("tool_calls").is_none());
    }
}

#[tokio::test]
async fn json_of_a_schema_is_what_comes() {
    let app = app();
    let schema = json!({
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "kind": {"enum": ["a", "b"]}, "n": {"type": ["integer", "null"], "minimum": 0, "maximum": 99}},
        "required": ["ok", "kind", "n"],
        "additionalProperties": false,
    });
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "thing", "strict": true, "schema": schema}});
    for seed in 0..4 {
        let more = json!({"tools": [], "response_format": format, "seed": seed, "temperature": 1.3, "n": 2});
        let body = ask(&app, PATH, request(more)).await;
        for choice in body["choices"].as_array().unwrap() {
            assert_eq!(choice["finish_reason"], "stop");
            let thing: Value = serde_json::from_str(choice["message"]["content"].as_str().unwrap()).unwrap();
            assert!(thing["ok"].is_boolean() && ["a", "b"].contains(&thing["kind"].as_str().unwrap()));
            assert!(thing["n"].is_null() || (0..100).contains(&thing["n"].as_i64().unwrap()));
        }
    }
    let more = json!({"tools": [], "response_format": {"type": "json_object"}, "max_tokens": 60});
    let body = ask(&app, PATH, request(more)).await;
    let text = body["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.starts_with('{'), "{text}");
}

#[tokio::test]
async fn text_of_a_regular_expression_or_grammar_is_what_comes() {
    let app = app();
    let formats = [
        json!({"type": "regex", "pattern": "(yes|no), [0-9]{2}"}),
        json!({"type": "grammar", "grammar": "start: (\"yes\" | \"no\") \", \" /[0-9]/ /[0-9]/"}),
    ];
    for format in formats {
        for seed in 0..3 {
            let more = json!({"tools": [], "response_format": format, "seed": seed, "temperature": 2});
            let body = ask(&app, PATH, request(more)).await;
            let text = body["choices"][0]["message"]["content"].as_str().unwrap();
            let (word, number) = text.split_once(", ").unwrap();
            assert!(
                ["yes", "no"].contains(&word) && number.len() == 2 && number.parse::<u8>().is_ok(),
                "{text}"
            );
            assert_eq!(body["choices"][0]["finish_reason"], "stop");
        }
    }
    for bad in
        [json!({"type": "regex", "pattern": "("}), json!({"type": "grammar", "grammar": "start: nothing"})]
    {
        let answered = post(&app, PATH, request(json!({"tools": [], "response_format": bad}))).await;
        assert_eq!(
            (answered.status.as_u16(), &answered.json()["error"]["param"]),
            (400, &json!("response_format"))
        );
    }
}

#[tokio::test]
async fn schemas_that_cannot_be_are_refused_with_their_place() {
    let app = app();
    let bad = [
        json!({"type": "nothing"}),
        json!({"type": "object", "properties": 3}),
        json!({"$ref": "#/nowhere"}),
        json!({"type": "string", "pattern": "("}),
        json!({"not": {}}),
    ];
    for schema in bad {
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        let answered = post(&app, PATH, request(json!({"tools": [], "response_format": format}))).await;
        assert_eq!(answered.status.as_u16(), 400, "{schema}: {}", answered.text);
        assert_eq!(answered.json()["error"]["param"], "response_format");
        let mut tool = time();
        tool["function"]["parameters"] = schema;
        let answered = post(&app, PATH, request(json!({"tools": [tool], "tool_choice": "required"}))).await;
        assert_eq!(answered.json()["error"]["param"], "tools");
    }
}
