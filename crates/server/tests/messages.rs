//! Anthropic's `/v1/messages` and `/v1/messages/count_tokens`, in process, over a small trained model.

mod support;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use support::{MODEL, app, ask, get, post, send, with};
use tower::ServiceExt;

const PATH: &str = "/v1/messages";
const COUNT: &str = "/v1/messages/count_tokens";

/// A short request, deterministic; `more` replaces and adds fields, and takes out those that are null.
fn request(more: Value) -> Value {
    let mut body = json!({
        "model": MODEL,
        "messages": [{"role": "user", "content": "Tell me a story."}],
        "max_tokens": 12,
        "temperature": 0,
    });
    let map = body.as_object_mut().unwrap();
    map.extend(more.as_object().unwrap().clone());
    map.retain(|_, value| !value.is_null());
    body
}

/// A tool that may be offered.
fn tool() -> Value {
    let cities = json!({"city": {"enum": ["Bonn", "Rome"]}});
    let schema =
        json!({"type": "object", "properties": cities, "required": ["city"], "additionalProperties": false});
    json!({"name": "weather", "description": "Tells the weather.", "input_schema": schema})
}

fn usage(body: &Value, name: &str) -> u64 {
    body["usage"][name].as_u64().unwrap_or_else(|| panic!("{name}: {body}"))
}

fn text(body: &Value) -> String {
    let blocks = body["content"].as_array().unwrap();
    blocks.iter().filter_map(|block| block["text"].as_str()).collect()
}

/// The message that the events of a stream come to, as clients put it together.
fn joined(events: &[(String, String)]) -> Value {
    let mut message = Value::Null;
    let (mut open, mut input, mut over) = (None, String::new(), false);
    for (name, data) in events {
        let event: Value = serde_json::from_str(data).unwrap();
        assert_eq!(event["type"], name.as_str());
        assert!(!over, "nothing comes after the end");
        if name == "ping" {
            continue;
        }
        assert_eq!(name == "message_start", message.is_null(), "the message begins once, and first");
        match name.as_str() {
            "message_start" => message = event["message"].clone(),
            "content_block_start" => {
                assert_eq!(open, None);
                open = event["index"].as_u64();
                let content = message["content"].as_array_mut().unwrap();
                assert_eq!(open, Some(content.len() as u64));
                content.push(event["content_block"].clone());
                input.clear();
            }
            "content_block_delta" => {
                assert_eq!(event["index"].as_u64(), open);
                let block = message["content"].as_array_mut().unwrap().last_mut().unwrap();
                let delta = &event["delta"];
                let add = |block: &mut Value, name: &str| {
                    let more = delta[name].as_str().unwrap();
                    block[name] = json!(format!("{}{more}", block[name].as_str().unwrap()));
                };
                match delta["type"].as_str().unwrap() {
                    "text_delta" => add(block, "text"),
                    "thinking_delta" => add(block, "thinking"),
                    "signature_delta" => add(block, "signature"),
                    "input_json_delta" => {
                        input.push_str(delta["partial_json"].as_str().unwrap());
                        block["input"] = serde_json::from_str(&input).unwrap_or_default();
                    }
                    other => panic!("{other}"),
                }
            }
            "content_block_stop" => assert_eq!(event["index"].as_u64(), open.take()),
            "message_delta" => {
                assert_eq!(open, None);
                message.as_object_mut().unwrap().extend(event["delta"].as_object().unwrap().clone());
                message["usage"] = event["usage"].clone();
            }
            "message_stop" => over = true,
            other => panic!("{other}"),
        }
    }
    assert!(over);
    message
}

#[tokio::test]
async fn an_answer_has_the_shape_that_clients_read() {
    let app = app();
    let body = ask(&app, PATH, request(json!({}))).await;
    assert!(body["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!(
        (&body["type"], &body["role"], &body["model"]),
        (&json!("message"), &json!("assistant"), &json!(MODEL))
    );
    assert_eq!((&body["stop_reason"], &body["stop_sequence"]), (&json!("max_tokens"), &Value::Null));
    assert!(!body["content"].as_array().unwrap().is_empty());
    assert_eq!(usage(&body, "output_tokens"), 12);
    assert_eq!(usage(&body, "cache_creation_input_tokens"), 0);
    let prompt = usage(&body, "input_tokens") + usage(&body, "cache_read_input_tokens");
    let counted = ask(&app, COUNT, request(json!({"max_tokens": null, "temperature": null}))).await;
    assert_eq!(counted, json!({"input_tokens": prompt}));
}

#[tokio::test]
async fn a_prompt_that_was_computed_before_is_read_from_the_cache() {
    let app = app();
    let long = request(json!({"system": "Once upon a time, there was a little girl. ".repeat(20)}));
    let first = ask(&app, PATH, long.clone()).await;
    let second = ask(&app, PATH, long).await;
    assert_eq!(usage(&first, "cache_read_input_tokens"), 0);
    assert!(usage(&second, "cache_read_input_tokens") > 0);
    let all = |body: &Value| usage(body, "input_tokens") + usage(body, "cache_read_input_tokens");
    assert_eq!(all(&first), all(&second));
    assert_eq!(text(&first), text(&second));
}

#[tokio::test]
async fn a_stream_says_the_same_as_a_whole_answer() {
    let app = app();
    let cases = [
        json!({}),
        json!({"stop_sequences": [" a", "zzz"], "max_tokens": 40}),
        json!({"temperature": 1, "seed": 7, "top_k": 40, "top_p": 0.9}),
        json!({"thinking": {"type": "disabled"}, "tools": [tool()]}),
        // The prompt leaves the model at the beginning of its reasoning.
        json!({"thinking": {"type": "adaptive"}, "temperature": 1, "seed": 3}),
    ];
    for more in cases {
        // Once before, so that both find the prompt in the cache.
        ask(&app, PATH, request(more.clone())).await;
        let mut whole = ask(&app, PATH, request(more.clone())).await;
        let mut streamed = request(more);
        streamed["stream"] = json!(true);
        let events = post(&app, PATH, streamed).await.events();
        assert!(events.iter().any(|(name, _)| name == "ping"));
        let mut message = joined(&events);
        assert!(message["id"].as_str().unwrap().starts_with("msg_"));
        message["id"] = whole["id"].take();
        whole["id"] = message["id"].clone();
        assert_eq!(message, whole);
    }
}

#[tokio::test]
async fn a_stop_sequence_ends_the_answer_and_is_named() {
    let app = app();
    let text_of = |body: &Value| text(body);
    let more = json!({"max_tokens": 40, "thinking": {"type": "disabled"}});
    let whole = text_of(&ask(&app, PATH, request(more.clone())).await);
    let middle: String = whole.chars().skip(whole.chars().count() / 2).take(4).collect();
    let mut body = request(more);
    body["stop_sequences"] = json!(["never this", middle]);
    let body = ask(&app, PATH, body).await;
    assert_eq!((&body["stop_reason"], &body["stop_sequence"]), (&json!("stop_sequence"), &json!(middle)));
    let cut = text_of(&body);
    assert!(whole.starts_with(&cut) && !cut.contains(&middle));
}

#[tokio::test]
async fn the_answer_goes_on_from_a_last_assistant_message() {
    let app = app();
    let off = json!({"type": "disabled"});
    let user = json!({"role": "user", "content": "Tell me a story."});
    let first = ask(&app, PATH, request(json!({"thinking": off, "max_tokens": 20}))).await;
    let whole = text(&first);
    let begun: String = whole.chars().take(whole.chars().count() / 2).collect();
    // Where text is cut into other tokens than it was written in, another answer is right, too.
    let begun = begun.rsplit_once(' ').map_or(begun.as_str(), |(before, _)| before).to_owned();
    let messages = json!([user, {"role": "assistant", "content": [{"type": "text", "text": begun}]}]);
    let rest =
        ask(&app, PATH, request(json!({"thinking": off, "messages": messages, "max_tokens": 20}))).await;
    assert!(!text(&rest).starts_with(&begun), "what was given is not told again");
    let count = async |messages: &Value| {
        let body = json!({"model": MODEL, "messages": messages, "thinking": {"type": "disabled"}});
        ask(&app, COUNT, body).await["input_tokens"].as_u64().unwrap()
    };
    assert!(count(&messages).await > count(&json!([user])).await);
    let closed = json!([messages[0], messages[1], {"role": "user", "content": "x"}]);
    assert!(count(&closed).await > count(&messages).await);
}

#[tokio::test]
async fn thinking_is_the_templates_variable() {
    let app = app();
    let count = async |thinking: Value| {
        let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]});
        if !thinking.is_null() {
            body["thinking"] = thinking;
        }
        ask(&app, COUNT, body).await["input_tokens"].as_u64().unwrap()
    };
    let on = count(json!({"type": "adaptive", "display": "omitted"})).await;
    assert_eq!(count(json!({"type": "enabled", "budget_tokens": 2000})).await, on);
    let off = count(json!({"type": "disabled"})).await;
    assert!(off > on, "Qwen3's template closes the reasoning itself");
    assert_eq!(count(Value::Null).await, off);
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_place() {
    let app = app();
    let message = |m: Value| json!({"messages": [m]});
    let user = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    let block = |block: Value| json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, block]}]});
    let tools = |tools: Value, choice: Value| json!({"tools": tools, "tool_choice": choice});
    let thinking = |more: Value| {
        let mut body = json!({"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000, "temperature": null});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let cases = [
        (json!({"model": null}), "model: Field required"),
        (json!({"model": 3}), "model: "),
        (json!({"max_tokens": null}), "max_tokens: Field required"),
        (json!({"max_tokens": 0}), "max_tokens: "),
        (json!({"max_tokens": 1.5}), "max_tokens: "),
        (json!({"max_tokens": 1e300}), "max_tokens: "),
        (json!({"max_tokens": "12"}), "max_tokens: "),
        (json!({"messages": null}), "messages: Field required"),
        (json!({"messages": []}), "messages: "),
        (json!({"messages": {}}), "messages: "),
        (json!({"messages": [3]}), "messages.0: "),
        (message(json!({"content": "x"})), "messages.0.role: Field required"),
        (message(json!({"role": "tool", "content": "x"})), "messages.0.role: "),
        (message(json!({"role": "user"})), "messages.0.content: Field required"),
        (
            message(json!({"role": "user", "content": "x", "name": "Ann"})),
            "messages.0.name: Extra inputs are not permitted",
        ),
        (user(json!(7)), "messages.0.content: "),
        (user(json!("")), "messages.0.content: "),
        (user(json!([])), "messages.0.content: "),
        (user(json!(["x"])), "messages.0.content.0: "),
        (block(json!({"text": "x"})), "messages.0.content.1.type: Field required"),
        (block(json!({"type": "text"})), "messages.0.content.1.text: Field required"),
        (block(json!({"type": "text", "text": "x", "id": 1})), "messages.0.content.1.id: Extra inputs"),
        (block(json!({"type": "image", "source": {}})), "messages.0.content.1.type: is `image`"),
        (block(json!({"type": "document", "source": {}})), "messages.0.content.1.type: is `document`"),
        (
            block(json!({"type": "tool_use", "id": "a", "name": "f", "input": {}})),
            "messages.0.content.1.type: is `tool_use`",
        ),
        (
            block(json!({"type": "web_search_tool_result"})),
            "messages.0.content.1.type: is `web_search_tool_result`",
        ),
        (block(json!({"type": "poem"})), "messages.0.content.1.type: is `poem`"),
        (block(json!({"type": "tool_result", "tool_use_id": "a"})), "messages.0.content.1.tool_use_id: "),
        (
            block(json!({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "image"}]})),
            "messages.0.content.1.content.0.type: is `image`",
        ),
        (
            block(json!({"type": "tool_result", "tool_use_id": "a", "is_error": "no"})),
            "messages.0.content.1.is_error: ",
        ),
        (
            message(
                json!({"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": "{}"}]}),
            ),
            "messages.0.content.0.input: ",
        ),
        (
            message(
                json!({"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]}),
            ),
            "messages.0: ",
        ),
        (json!({"system": 3}), "system: "),
        (json!({"system": [{"type": "image"}]}), "system.0.type: is `image`"),
        (json!({"temperature": 1.1}), "temperature: "),
        (json!({"temperature": "hot"}), "temperature: "),
        (json!({"top_p": 1.5}), "top_p: "),
        (json!({"top_k": 2.5}), "top_k: "),
        (json!({"top_k": -2}), "top_k: "),
        (json!({"stop_sequences": "x"}), "stop_sequences: "),
        (json!({"stop_sequences": [1]}), "stop_sequences.0: "),
        (json!({"stop_sequences": [""]}), "stop_sequences: "),
        (json!({"stop_sequences": vec!["a"; 17]}), "stop_sequences: "),
        (json!({"stream": "yes"}), "stream: "),
        (json!({"metadata": {"user_id": 3}}), "metadata.user_id: "),
        (json!({"metadata": {"team": "x"}}), "metadata.team: Extra inputs"),
        (json!({"mcp_servers": [{"type": "url"}]}), "mcp_servers: "),
        (json!({"temprature": 1}), "temprature: Extra inputs are not permitted"),
        (json!({"max_tokens_to_sample": 1}), "max_tokens_to_sample: Extra inputs"),
        (json!({"tools": {}}), "tools: "),
        (json!({"tools": [{"name": "f"}]}), "tools.0.input_schema: Field required"),
        (json!({"tools": [{"name": "f", "input_schema": {}}]}), "tools.0.input_schema.type: Field required"),
        (json!({"tools": [{"name": "f g", "input_schema": {"type": "object"}}]}), "tools.0.name: "),
        (
            json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
            "tools.0.type: `web_search_20250305`",
        ),
        (json!({"tools": [tool(), tool()]}), "tools: "),
        (json!({"tools": vec![tool(); 129]}), "tools: "),
        (tools(json!([]), json!({"type": "any"})), "tool_choice.type: "),
        (tools(json!([tool()]), json!("any")), "tool_choice: "),
        (tools(json!([tool()]), json!({})), "tool_choice.type: Field required"),
        (tools(json!([tool()]), json!({"type": "tool"})), "tool_choice.name: Field required"),
        (tools(json!([tool()]), json!({"type": "tool", "name": "x"})), "tool_choice.name: "),
        (tools(json!([tool()]), json!({"type": "some"})), "tool_choice.type: "),
        (json!({"thinking": true}), "thinking: "),
        (json!({"thinking": {"type": "on"}}), "thinking.type: "),
        (json!({"thinking": {"type": "enabled"}}), "thinking.budget_tokens: Field required"),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 1023}}), "thinking.budget_tokens: "),
        (
            json!({"thinking": {"type": "disabled", "budget_tokens": 2000}}),
            "thinking.budget_tokens: Extra inputs",
        ),
        (thinking(json!({"max_tokens": 1024})), "thinking.budget_tokens: "),
        (thinking(json!({"temperature": 0.5})), "temperature: "),
        (thinking(json!({"top_p": 0.5})), "top_p: "),
        (thinking(json!({"top_k": 5})), "top_k: "),
        (thinking(tools(json!([tool()]), json!({"type": "any"}))), "tool_choice: "),
        (
            thinking(
                json!({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}),
            ),
            "messages: ",
        ),
        (json!({"output_config": {"effort": "some"}}), "output_config.effort: "),
        (json!({"output_config": {"format": {"type": "xml"}}}), "output_config.format.type: "),
        (
            json!({"output_config": {"format": {"type": "json_schema"}}}),
            "output_config.format.schema: Field required",
        ),
    ];
    for (more, start) in cases {
        let answered = post(&app, PATH, request(more.clone())).await;
        assert_eq!(answered.status, StatusCode::BAD_REQUEST, "{more}: {answered:?}");
        let body = answered.json();
        let error = &body["error"];
        assert_eq!((&body["type"], &error["type"]), (&json!("error"), &json!("invalid_request_error")));
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with(start) && message.len() > start.len().min(20), "{more}: {message}");
        assert!(body["request_id"].is_string());
    }
}

#[tokio::test]
async fn errors_have_the_types_that_clients_know() {
    let app = app();
    let nobody = post(&app, PATH, request(json!({"model": "nobody"}))).await;
    assert_eq!(
        (nobody.status, &nobody.json()["error"]["type"]),
        (StatusCode::NOT_FOUND, &json!("not_found_error"))
    );
    let long = json!([{"role": "user", "content": "a ".repeat(1 << 19)}]);
    let long = post(&app, PATH, request(json!({"messages": long}))).await;
    assert_eq!(
        (long.status, &long.json()["error"]["type"]),
        (StatusCode::BAD_REQUEST, &json!("invalid_request_error"))
    );
    let large = send(&app, "POST", PATH, format!("{{\"model\": \"{}\"}}", "x".repeat(17 << 20))).await;
    assert_eq!(large.json()["error"]["type"], "request_too_large");
    let other = get(&app, COUNT).await;
    assert_eq!((other.status, &other.json()["type"]), (StatusCode::METHOD_NOT_ALLOWED, &json!("error")));
    let none = post(&with(None, 64), PATH, request(json!({}))).await;
    assert_eq!((none.status, &none.json()["type"]), (StatusCode::BAD_REQUEST, &json!("error")));
}

#[tokio::test]
async fn the_number_of_a_request_is_in_the_header_and_in_the_error() {
    let app = app();
    for (body, status) in [(request(json!({})), 200), (json!({}), 400)] {
        let request = Request::post(PATH).body(Body::from(body.to_string())).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let id = response.headers()["request-id"].to_str().unwrap().to_owned();
        let answered = support::read(response).await;
        assert_eq!(answered.status.as_u16(), status);
        assert!(id.starts_with("req"));
        assert!(status == 200 || answered.json()["request_id"] == id.as_str());
    }
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let app = with(Some("{{ messages[0].content }}"), 0);
    // Through the API that can make answers endless.
    let endless = request(json!({"max_tokens": 4000, "ignore_eos": true, "n": 8, "stream": true}));
    let mut readers = Vec::new();
    let refused = loop {
        let sent = Request::post("/v1/chat/completions").body(Body::from(endless.to_string())).unwrap();
        let response = app.clone().oneshot(sent).await.unwrap();
        if response.status() != StatusCode::OK {
            break post(&app, PATH, request(json!({"max_tokens": 1}))).await;
        }
        assert!(readers.len() < 8, "there are 8 places");
        readers.push(response);
    };
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.json()["error"]["type"], "overloaded_error");
    assert!(refused.retry_after.unwrap().parse::<u64>().unwrap() >= 1);
}

#[tokio::test]
async fn hostile_bodies_are_refused_fast() {
    let app = app();
    let deep = format!("{{\"model\": {}1{}}}", "[".repeat(5000), "]".repeat(5000));
    let huge = json!("y".repeat(1 << 20));
    let bodies = [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        "{\"model\": \"x\", }".to_owned(),
        "{\"messages\": \"\\ud800\"}".to_owned(),
        deep,
        format!("{{\"model\": [{}1]}}", "1,".repeat(2_000_000)),
        request(json!({"temperature": 1e308})).to_string(),
        request(json!({"max_tokens": u64::MAX})).to_string(),
        request(json!({"tools": [{"name": huge, "input_schema": {"type": "object"}}]})).to_string(),
        request(json!({"messages": [{"role": huge, "content": "x"}]})).to_string(),
        request(json!({"messages": [{"role": "user", "content": [{"type": huge}]}]})).to_string(),
        request(json!({"stop_sequences": [huge]})).to_string(),
        request(json!({huge.as_str().unwrap(): 1})).to_string(),
    ];
    for path in [PATH, COUNT] {
        for body in &bodies {
            let start: String = body.chars().take(60).collect();
            let answered = send(&app, "POST", path, body.clone()).await;
            assert_eq!(answered.status, StatusCode::BAD_REQUEST, "{start}");
            assert_eq!(answered.json()["error"]["type"], "invalid_request_error", "{start}");
            assert!(answered.text.len() < 1000, "what is told back is short: {start}");
        }
    }
    // 10,000 messages in one turn, in turns, and of calls.
    let say = |role: &str, content: Value| json!({"role": role, "content": content});
    let call = |i: usize| match i % 2 {
        0 => say("assistant", json!([{"type": "tool_use", "id": i.to_string(), "name": "f", "input": {}}])),
        _ => say(
            "user",
            json!([{"type": "tool_result", "tool_use_id": (i - 1).to_string(), "content": "hello"}]),
        ),
    };
    let many = [
        (0..10_000).map(|_| say("user", json!("hello"))).collect::<Vec<Value>>(),
        (0..10_000).map(|i| say(["user", "assistant"][i % 2], json!("hello"))).collect(),
        (0..10_000).map(call).collect(),
    ];
    for messages in many {
        let answered =
            post(&app, PATH, request(json!({"messages": messages, "thinking": {"type": "disabled"}}))).await;
        assert_eq!(answered.status, StatusCode::BAD_REQUEST);
        assert!(answered.text.contains("4096"), "it is too long for the context: {}", answered.text);
    }
}

#[tokio::test]
async fn a_conversation_with_calls_is_answered() {
    let messages = json!([
        {"role": "user", "content": [{"type": "text", "text": "Weather?", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "I call.", "signature": ""},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Bonn"}},
        ]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain", "is_error": false}]},
        {"role": "user", "content": "So?"},
    ]);
    let body = ask(&app(), PATH, request(json!({"messages": messages, "tools": [tool()]}))).await;
    assert_eq!(body["stop_reason"], "max_tokens");
}

#[tokio::test]
async fn what_has_no_meaning_here_is_accepted() {
    let more = json!({
        "metadata": {"user_id": "me"}, "service_tier": "auto", "cache_control": {"type": "ephemeral"}, "mcp_servers": [],
        "context_management": {"edits": []}, "output_config": {"effort": "low"}, "inference_geo": "eu", "speed": "standard",
        "stop_sequences": [], "tools": [], "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
        "top_k": 5, "top_p": 1, "min_p": 0.1, "seed": -3, "container": null,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
    });
    ask(&app(), PATH, request(more)).await;
}

#[tokio::test]
async fn a_forced_call_is_made_and_its_result_read() {
    let app = app();
    for choice in [
        json!({"type": "tool", "name": "weather"}),
        json!({"type": "any", "disable_parallel_tool_use": true}),
    ] {
        let more = json!({"tools": [tool()], "tool_choice": choice, "max_tokens": 1500});
        let mut whole = ask(&app, PATH, request(more.clone())).await;
        assert_eq!(whole["stop_reason"], "tool_use", "{whole}");
        let call = whole["content"][0].clone();
        assert_eq!((&call["type"], &call["name"]), (&json!("tool_use"), &json!("weather")));
        assert!(["Bonn", "Rome"].contains(&call["input"]["city"].as_str().unwrap()));
        let mut streamed = request(more);
        streamed["stream"] = json!(true);
        let mut message = joined(&post(&app, PATH, streamed).await.events());
        for message in [&mut whole, &mut message] {
            assert!(message["content"][0]["id"].take().as_str().unwrap().starts_with("toolu_"));
        }
        assert_eq!(message["content"], whole["content"]);
        assert_eq!(message["stop_reason"], "tool_use");
        let result = json!({"type": "tool_result", "tool_use_id": call["id"], "content": "Sunny."});
        let messages = json!([
            {"role": "user", "content": "The weather?"},
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result, {"type": "text", "text": "And?"}]},
        ]);
        ask(&app, PATH, request(json!({"messages": messages, "tools": [tool()]}))).await;
    }
}

#[tokio::test]
async fn json_of_a_schema_is_what_comes() {
    let app = app();
    let schema = |kind: &str| {
        let properties = json!({"ok": {"type": kind}});
        let schema = json!({"type": "object", "properties": properties, "required": ["ok"], "additionalProperties": false});
        json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}, "max_tokens": 900})
    };
    let body = ask(&app, PATH, request(schema("boolean"))).await;
    let said: Value = serde_json::from_str(&text(&body)).unwrap();
    assert!(said["ok"].is_boolean());
    assert_eq!(body["stop_reason"], "end_turn");
    let refused = post(&app, PATH, request(schema("poem"))).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    let told = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(told.starts_with("output_config.format.schema: "), "{told}");
}
