//! `/v1/messages`: Anthropic's API.

mod support;

use serde_json::{Value, json};
use support::{Answered, MODEL, app, ask, post};

const PATH: &str = "/v1/messages";

fn request(more: Value) -> Value {
    let mut body = json!({
        "model": MODEL,
        "max_tokens": 12,
        "temperature": 0,
        "messages": [{"role": "user", "content": "Tell me a story."}],
    });
    let map = body.as_object_mut().unwrap();
    map.extend(more.as_object().unwrap().clone());
    map.retain(|_, value| !value.is_null());
    body
}

fn tool() -> Value {
    json!({"name": "get_weather", "description": "The weather.", "input_schema": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": false,
    }})
}

/// The events, each of which says its name twice.
fn events(answered: &Answered) -> Vec<Value> {
    let event = |(name, data): (String, String)| {
        let data: Value = serde_json::from_str(&data).unwrap();
        assert_eq!(data["type"], name);
        data
    };
    answered.events().into_iter().map(event).collect()
}

/// Puts a stream's message together, as clients do.
fn gather(events: &[Value]) -> Value {
    let mut message = events[0]["message"].clone();
    let mut json = String::new();
    for event in &events[1..] {
        let at = event["index"].as_u64().unwrap_or(0) as usize;
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                let content = message["content"].as_array_mut().unwrap();
                assert_eq!(content.len(), at, "blocks are counted");
                content.push(event["content_block"].clone());
                json.clear();
            }
            "content_block_delta" => {
                let (block, delta) = (&mut message["content"][at], &event["delta"]);
                let mut add = |field: &str| {
                    let all = block[field].as_str().unwrap().to_owned() + delta[field].as_str().unwrap();
                    block[field] = json!(all);
                };
                match delta["type"].as_str().unwrap() {
                    "text_delta" => add("text"),
                    "thinking_delta" => add("thinking"),
                    "signature_delta" => add("signature"),
                    "input_json_delta" => {
                        json += delta["partial_json"].as_str().unwrap();
                        if let Ok(input) = serde_json::from_str::<Value>(&json) {
                            block["input"] = input;
                        }
                    }
                    other => panic!("{other}"),
                }
            }
            "message_delta" => {
                message["stop_reason"] = event["delta"]["stop_reason"].clone();
                message["stop_sequence"] = event["delta"]["stop_sequence"].clone();
                message["usage"]["output_tokens"] = event["usage"]["output_tokens"].clone();
            }
            _ => {}
        }
    }
    message
}

#[tokio::test]
async fn a_message_has_the_shape_that_clients_read() {
    let app = app();
    let body = ask(&app, PATH, request(json!({"system": "Be brief."}))).await;
    assert!(body["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!(
        (&body["type"], &body["role"], &body["model"]),
        (&json!("message"), &json!("assistant"), &json!(MODEL))
    );
    assert_eq!((&body["stop_reason"], &body["stop_sequence"]), (&json!("max_tokens"), &Value::Null));
    assert_eq!(body["content"][0]["type"], "text");
    let usage = &body["usage"];
    assert_eq!(usage["output_tokens"], 12);
    let count = request(json!({"system": "Be brief.", "max_tokens": null, "temperature": null}));
    let counted = ask(&app, "/v1/messages/count_tokens", count).await["input_tokens"].as_u64().unwrap();
    let read = usage["input_tokens"].as_u64().unwrap() + usage["cache_read_input_tokens"].as_u64().unwrap();
    assert_eq!(counted, read);
}

#[tokio::test]
async fn a_stream_says_the_same() {
    let app = app();
    let forced = json!({"type": "tool", "name": "get_weather"});
    for more in [
        json!({}),
        json!({"stop_sequences": [" a", "the"], "max_tokens": 900}),
        json!({"tools": [tool()], "tool_choice": forced, "max_tokens": 1500}),
    ] {
        let whole = ask(&app, PATH, request(more.clone())).await;
        let mut streamed = request(more);
        streamed["stream"] = json!(true);
        let events = events(&post(&app, PATH, streamed).await);
        let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
        assert_eq!(kinds[..3], ["message_start", "ping", "content_block_start"]);
        assert_eq!(kinds[kinds.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
        let mut message = gather(&events);
        for (block, expected) in
            message["content"].as_array_mut().unwrap().iter_mut().zip(whole["content"].as_array().unwrap())
        {
            if expected["type"] == "tool_use" {
                assert!(block["id"].as_str().unwrap().starts_with("toolu_"));
                block["id"] = expected["id"].clone();
            }
        }
        for field in ["content", "stop_reason", "stop_sequence"] {
            assert_eq!(message[field], whole[field]);
        }
        assert_eq!(message["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
    }
}

#[tokio::test]
async fn tools_are_called_and_their_results_read() {
    let app = app();
    let any = json!({"tools": [tool()], "tool_choice": {"type": "any", "disable_parallel_tool_use": true}, "max_tokens": 1500});
    let first = ask(&app, PATH, request(any)).await;
    assert_eq!(first["stop_reason"], "tool_use");
    let call = &first["content"][0];
    assert_eq!((&call["type"], &call["name"]), (&json!("tool_use"), &json!("get_weather")));
    assert!(["Paris", "Rome"].contains(&call["input"]["city"].as_str().unwrap()));
    for content in [json!("Sunny."), json!([{"type": "text", "text": "Sunny."}]), Value::Null] {
        let result =
            json!({"type": "tool_result", "tool_use_id": call["id"], "content": content, "is_error": false});
        let messages = json!([
            {"role": "user", "content": "The weather?"},
            {"role": "assistant", "content": first["content"]},
            {"role": "user", "content": [result, {"type": "text", "text": "And?"}]},
        ]);
        let second = ask(&app, PATH, request(json!({"messages": messages, "tools": [tool()]}))).await;
        assert_eq!(second["role"], "assistant");
    }
}

#[tokio::test]
async fn an_answer_that_has_begun_is_gone_on_with() {
    let app = app();
    let messages = json!([
        {"role": "user", "content": "Tell me a story."},
        {"role": "assistant", "content": [{"type": "text", "text": "Once upon a time"}]},
    ]);
    let body = ask(&app, PATH, request(json!({"messages": messages}))).await;
    let text = body["content"][0]["text"].as_str().unwrap();
    assert!(!text.starts_with("Once") && text.starts_with([',', ' ']), "{text}");
}

#[tokio::test]
async fn json_of_a_schema_is_what_comes() {
    let schema = json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": false});
    let format = json!({"format": {"type": "json_schema", "schema": schema}});
    let body = ask(&app(), PATH, request(json!({"output_config": format, "max_tokens": 900}))).await;
    let said: Value = serde_json::from_str(body["content"][0]["text"].as_str().unwrap()).unwrap();
    assert!(said["ok"].is_boolean());
    assert_eq!(body["stop_reason"], "end_turn");
}

#[tokio::test]
async fn what_is_wrong_is_told_in_anthropics_shape() {
    let app = app();
    let message = |m: Value| json!({"messages": [m]});
    let user = |block: Value| json!({"messages": [{"role": "user", "content": [block]}]});
    let cases = [
        (json!({"model": "nobody"}), 404, "not_found_error", "nobody"),
        (json!({"max_tokens": null}), 400, "invalid_request_error", "max_tokens"),
        (json!({"max_tokens": 0}), 400, "invalid_request_error", "max_tokens"),
        (json!({"messages": []}), 400, "invalid_request_error", "messages"),
        (
            message(json!({"role": "system", "content": "x"})),
            400,
            "invalid_request_error",
            "messages[0].role",
        ),
        (message(json!({"role": "user"})), 400, "invalid_request_error", "messages[0].content"),
        (
            user(json!({"type": "image", "source": {}})),
            400,
            "invalid_request_error",
            "messages[0].content[0].type",
        ),
        (
            user(json!({"type": "tool_result", "tool_use_id": "x"})),
            400,
            "invalid_request_error",
            "messages[0].content[0].tool_use_id",
        ),
        (json!({"temperature": 1.5}), 400, "invalid_request_error", "temperature"),
        (json!({"system": 3}), 400, "invalid_request_error", "system"),
        (
            json!({"tools": [{"type": "bash_20250124", "name": "bash"}]}),
            400,
            "invalid_request_error",
            "tools[0].type",
        ),
        (json!({"tools": [{"name": "x"}]}), 400, "invalid_request_error", "tools[0].input_schema"),
        (
            json!({"tool_choice": {"type": "tool", "name": "x"}}),
            400,
            "invalid_request_error",
            "tool_choice.name",
        ),
        (json!({"thinking": {"type": "often"}}), 400, "invalid_request_error", "thinking.type"),
        (json!({"temprature": 1}), 400, "invalid_request_error", "temprature"),
    ];
    for (more, status, kind, named) in cases {
        let answered = post(&app, PATH, request(more.clone())).await;
        let body = answered.json();
        assert_eq!(answered.status.as_u16(), status, "{more}: {body}");
        assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!(kind)));
        assert!(body["error"]["message"].as_str().unwrap().contains(named), "{more}: {body}");
        assert!(body["request_id"].is_string());
    }
}

#[tokio::test]
async fn what_has_no_meaning_here_is_accepted() {
    let system = json!([{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]);
    let document = json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A text."}});
    let more = json!({
        "system": system,
        "messages": [{"role": "user", "content": [document, {"type": "text", "text": "Well?"}]}],
        "metadata": {"user_id": "me"},
        "service_tier": "auto",
        "thinking": {"type": "disabled"},
        "top_k": 5,
        "top_p": 0.9,
        "tools": [],
    });
    ask(&app(), PATH, request(more)).await;
}
