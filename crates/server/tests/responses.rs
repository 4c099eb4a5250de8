//! `/v1/responses`.

mod support;

use serde_json::{Value, json};
use support::{MODEL, app, ask, get, post, send};

const PATH: &str = "/v1/responses";

fn request(more: Value) -> Value {
    let mut body =
        json!({"model": MODEL, "input": "Tell me a story.", "max_output_tokens": 12, "temperature": 0});
    let map = body.as_object_mut().unwrap();
    map.extend(more.as_object().unwrap().clone());
    map.retain(|_, value| !value.is_null());
    body
}

fn tool() -> Value {
    json!({"type": "function", "name": "get_weather", "strict": true, "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": false,
    }})
}

/// Takes out what is different each time.
fn without_names(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let names = ["id", "call_id", "created_at", "completed_at", "timings", "usage"];
            let kept = map.iter().filter(|(key, _)| !names.contains(&key.as_str()));
            Value::Object(kept.map(|(k, v)| (k.clone(), without_names(v))).collect())
        }
        Value::Array(items) => items.iter().map(without_names).collect(),
        other => other.clone(),
    }
}

#[tokio::test]
async fn a_response_has_the_shape_that_clients_read() {
    let app = app();
    let body = ask(&app, PATH, request(json!({"instructions": "Be brief.", "metadata": {"a": "b"}}))).await;
    let id = body["id"].as_str().unwrap();
    assert!(id.starts_with("resp_"));
    assert_eq!((&body["object"], &body["status"]), (&json!("response"), &json!("incomplete")));
    assert_eq!(body["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!((&body["metadata"]["a"], &body["instructions"]), (&json!("b"), &json!("Be brief.")));
    let item = &body["output"][0];
    assert_eq!((&item["type"], &item["role"]), (&json!("message"), &json!("assistant")));
    let part = &item["content"][0];
    assert_eq!((&part["type"], &part["annotations"]), (&json!("output_text"), &json!([])));
    let usage = &body["usage"];
    assert_eq!(usage["output_tokens"], 12);
    assert!(usage["input_tokens_details"]["cached_tokens"].is_u64());
    assert!(usage["output_tokens_details"]["reasoning_tokens"].is_u64());
    // It is kept.
    assert_eq!(get(&app, &format!("{PATH}/{id}")).await.json(), body);
    let items = get(&app, &format!("{PATH}/{id}/input_items")).await.json();
    assert_eq!(items["data"][0]["content"][0]["text"], "Tell me a story.");
    let deleted = send(&app, "DELETE", &format!("{PATH}/{id}"), "").await.json();
    assert_eq!(deleted["deleted"], true);
    assert_eq!(get(&app, &format!("{PATH}/{id}")).await.status.as_u16(), 404);
}

#[tokio::test]
async fn a_stream_tells_each_step_and_comes_to_the_same() {
    let app = app();
    let named = json!({"type": "function", "name": "get_weather"});
    for more in [
        json!({}),
        json!({"include": ["message.output_text.logprobs"], "top_logprobs": 2}),
        json!({"tools": [tool()], "tool_choice": named, "max_output_tokens": 1500}),
    ] {
        let whole = ask(&app, PATH, request(more.clone())).await;
        let mut streamed = request(more);
        streamed["stream"] = json!(true);
        let answered = post(&app, PATH, streamed).await;
        let events: Vec<Value> = answered
            .events()
            .into_iter()
            .map(|(name, data)| {
                let data: Value = serde_json::from_str(&data).unwrap();
                assert_eq!(data["type"], name);
                data
            })
            .collect();
        assert!(events.iter().enumerate().all(|(i, e)| e["sequence_number"] == i), "they are counted");
        let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
        assert_eq!(kinds[..3], ["response.created", "response.in_progress", "response.output_item.added"]);
        let last = events.last().unwrap();
        assert_eq!(last["type"], format!("response.{}", whole["status"].as_str().unwrap()));
        assert_eq!(without_names(&last["response"]), without_names(&whole));
        let deltas: String = events.iter().filter_map(|e| e["delta"].as_str()).collect();
        let done = events.iter().find(|e| e["type"].as_str().unwrap().ends_with("output_item.done")).unwrap();
        let item = &done["item"];
        let said = if item["type"] == "message" { &item["content"][0]["text"] } else { &item["arguments"] };
        assert_eq!(&json!(deltas), said);
        if item["type"] == "message" {
            assert_eq!(kinds[3], "response.content_part.added");
            assert!(
                kinds.contains(&"response.output_text.done") && kinds.contains(&"response.content_part.done")
            );
        } else {
            assert!(kinds.contains(&"response.function_call_arguments.done"));
        }
    }
}

#[tokio::test]
async fn a_response_builds_on_another() {
    let app = app();
    let first = ask(&app, PATH, request(json!({}))).await;
    let text = &first["output"][0]["content"][0]["text"];
    let next = json!({"previous_response_id": first["id"], "input": "Go on."});
    let second = ask(&app, PATH, request(next.clone())).await;
    assert_eq!(second["previous_response_id"], first["id"]);
    let all = json!([
        {"role": "user", "content": "Tell me a story."},
        {"role": "assistant", "content": [{"type": "output_text", "text": text, "annotations": []}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Go on."}]},
    ]);
    let written_out = ask(&app, PATH, request(json!({"input": all}))).await;
    assert_eq!(second["usage"]["input_tokens"], written_out["usage"]["input_tokens"]);
    assert_eq!(second["output"][0]["content"][0]["text"], written_out["output"][0]["content"][0]["text"]);
    // What is not stored cannot be built on.
    let forgotten = ask(&app, PATH, request(json!({"store": false}))).await;
    let mut lost = request(next);
    lost["previous_response_id"] = forgotten["id"].clone();
    let answered = post(&app, PATH, lost).await;
    assert_eq!(answered.status.as_u16(), 400);
    assert_eq!(answered.json()["error"]["code"], "previous_response_not_found");
}

#[tokio::test]
async fn functions_are_called_and_their_outputs_read() {
    let app = app();
    let more = json!({"tools": [tool()], "tool_choice": "required", "parallel_tool_calls": false, "max_output_tokens": 1500});
    let first = ask(&app, PATH, request(more)).await;
    assert_eq!(first["status"], "completed");
    let call = &first["output"][0];
    assert_eq!((&call["type"], &call["name"]), (&json!("function_call"), &json!("get_weather")));
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert!(["Paris", "Rome"].contains(&arguments["city"].as_str().unwrap()));
    let output = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "Sunny."});
    let question = json!({"role": "user", "content": "The weather?"});
    let by_id = json!({"previous_response_id": first["id"], "input": [output], "tools": [tool()]});
    ask(&app, PATH, request(by_id)).await;
    let whole = json!({"input": [question, call, output], "tools": [tool()]});
    ask(&app, PATH, request(whole)).await;
    let alone = post(&app, PATH, request(json!({"input": [output]}))).await;
    assert_eq!((alone.status.as_u16(), &alone.json()["error"]["param"]), (400, &json!("input")));
}

#[tokio::test]
async fn json_of_a_schema_is_what_comes() {
    let schema = json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": false});
    let text = json!({"format": {"type": "json_schema", "name": "x", "strict": true, "schema": schema}});
    let body = ask(&app(), PATH, request(json!({"text": text, "max_output_tokens": 900}))).await;
    let said = body["output"][0]["content"][0]["text"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(said).unwrap()["ok"].is_boolean());
    assert_eq!(body["status"], "completed");
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_place() {
    let app = app();
    let cases = [
        (json!({"input": null}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": [{"type": "item_reference", "id": "x"}]}), "input[0].type"),
        (json!({"input": [{"role": "user"}]}), "input[0].content"),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}),
            "input[0].content[0].type",
        ),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].name"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"text": {"format": {"type": "xml"}}}), "text.format.type"),
        (json!({"reasoning": {"effort": "most"}}), "reasoning.effort"),
        (json!({"truncation": "auto"}), "truncation"),
        (json!({"background": true}), "background"),
        (json!({"previous_response_id": "resp_none"}), "previous_response_id"),
        (json!({"metadata": {"a": 1}}), "metadata.a"),
        (json!({"messages": []}), "messages"),
    ];
    for (more, param) in cases {
        let answered = post(&app, PATH, request(more.clone())).await;
        assert_eq!(answered.status.as_u16(), 400, "{more}: {}", answered.text);
        assert_eq!(answered.json()["error"]["param"], param, "{more}: {}", answered.text);
    }
    assert_eq!(get(&app, &format!("{PATH}/none")).await.status.as_u16(), 404);
    assert_eq!(send(&app, "DELETE", &format!("{PATH}/none"), "").await.status.as_u16(), 404);
}
