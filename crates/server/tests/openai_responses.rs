//! `/v1/responses`, in process, over a small trained model.

mod support;

use autarky_server::store::keys::KeyLimits;
use autarky_server::store::{Store, UnixTime};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use support::{CONTEXT, MODEL, app, ask, get, post, send, with_store};
use tower::ServiceExt;

const PATH: &str = "/v1/responses";

/// A short request, deterministic; `more` replaces and adds fields, and takes out those that are null.
fn request(more: Value) -> Value {
    let mut body =
        json!({"model": MODEL, "input": "Tell me a story.", "max_output_tokens": 16, "temperature": 0});
    let map = body.as_object_mut().unwrap();
    map.extend(more.as_object().unwrap().clone());
    map.retain(|_, value| !value.is_null());
    body
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn text_of(response: &Value) -> String {
    let items = response["output"].as_array().unwrap().iter();
    let parts = items.filter(|item| item["type"] == "message").map(|item| &item["content"][0]["text"]);
    parts.map(|text| text.as_str().unwrap()).collect()
}

/// A function of one of two cities.
fn tool() -> Value {
    json!({"type": "function", "name": "get_weather", "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": false,
    }})
}

/// A request that is answered with one call.
fn forced() -> Value {
    json!({
        "tools": [tool()], "tool_choice": "required", "parallel_tool_calls": false, "max_output_tokens": 1000,
    })
}

/// The events of a streamed request, checked in what they have in common.
async fn events(app: &Router, more: Value) -> Vec<Value> {
    let mut body = request(more);
    body["stream"] = json!(true);
    let answered = post(app, PATH, body).await;
    let mut events = Vec::new();
    for (name, data) in answered.events() {
        let event: Value = serde_json::from_str(&data).unwrap();
        assert_eq!(event["type"], name);
        assert_eq!(event["sequence_number"], events.len());
        events.push(event);
    }
    events
}

/// `value` without what is different each time.
fn lasting(value: &Value) -> Value {
    const PASSING: [&str; 6] = ["id", "call_id", "created_at", "completed_at", "timings", "usage"];
    match value {
        Value::Object(map) => {
            let stays = |(key, _): &(&String, &Value)| !PASSING.contains(&key.as_str());
            Value::Object(map.iter().filter(stays).map(|(k, v)| (k.clone(), lasting(v))).collect())
        }
        Value::Array(items) => items.iter().map(lasting).collect(),
        other => other.clone(),
    }
}

#[tokio::test]
async fn a_response_has_the_shape_that_clients_read() {
    let app = app();
    let more = json!({
        "instructions": "Be brief.", "metadata": {"a": "b"}, "user": "me", "top_p": 0.5, "tools": [tool()],
        "tool_choice": "none", "reasoning": {"effort": "low"}, "parallel_tool_calls": false,
    });
    let body = ask(&app, PATH, request(more.clone())).await;
    assert!(body["id"].as_str().unwrap().starts_with("resp_"));
    let expected = json!({
        "object": "response", "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"},
        "error": null, "model": MODEL, "max_output_tokens": 16, "previous_response_id": null, "store": true,
        "text": {"format": {"type": "text"}, "verbosity": "medium"}, "truncation": "disabled", "temperature": 0,
        "background": false, "top_logprobs": 0, "reasoning": {"effort": "low", "summary": null},
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&body[name], value, "{name}");
    }
    for name in ["instructions", "metadata", "user", "top_p", "tool_choice", "parallel_tool_calls"] {
        assert_eq!(body[name], more[name], "{name}");
    }
    assert_eq!(body["tools"][0]["parameters"], tool()["parameters"]);
    assert!(body["created_at"].is_u64());
    let item = &body["output"][0];
    assert!(item["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!((&item["type"], &item["role"]), (&json!("message"), &json!("assistant")));
    assert_eq!(item["status"], "incomplete");
    let part = &item["content"][0];
    assert_eq!((&part["type"], &part["annotations"]), (&json!("output_text"), &json!([])));
    assert!(part["text"].as_str().unwrap().len() > 10);
    let usage = &body["usage"];
    assert_eq!(usage["output_tokens"], 16);
    let input = usage["input_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], input + 16);
    assert!(usage["input_tokens_details"]["cached_tokens"].is_u64());
    assert!(usage["output_tokens_details"]["reasoning_tokens"].is_u64());
}

#[tokio::test]
async fn a_stream_tells_each_step_and_comes_to_the_same() {
    let app = app();
    let cases =
        [json!({}), json!({"include": ["message.output_text.logprobs"], "top_logprobs": 2}), forced()];
    for more in cases {
        let whole = ask(&app, PATH, request(more.clone())).await;
        let events = events(&app, more).await;
        let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
        assert_eq!(kinds[..3], ["response.created", "response.in_progress", "response.output_item.added"]);
        assert_eq!(events[0]["response"]["status"], "in_progress");
        assert_eq!(events[0]["response"]["output"], json!([]));
        let last = events.last().unwrap();
        assert_eq!(last["type"], format!("response.{}", whole["status"].as_str().unwrap()));
        assert_eq!(lasting(&last["response"]), lasting(&whole));
        assert_eq!(last["response"]["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
        let deltas: String = events.iter().filter_map(|e| e["delta"].as_str()).collect();
        let item = &whole["output"][0];
        let said = if item["type"] == "message" { &item["content"][0]["text"] } else { &item["arguments"] };
        assert_eq!(&json!(deltas), said);
    }
}

#[tokio::test]
async fn tokens_are_told_with_their_probabilities() {
    let more = json!({"include": ["message.output_text.logprobs"], "top_logprobs": 3});
    let body = ask(&app(), PATH, request(more)).await;
    let told = body["output"][0]["content"][0]["logprobs"].as_array().unwrap();
    assert_eq!(told.len(), 16, "one for each token");
    for entry in told {
        let top = entry["top_logprobs"].as_array().unwrap();
        assert_eq!((top.len(), &top[0]["token"]), (3, &entry["token"]));
        assert!(entry["logprob"].as_f64().unwrap() <= 0.0 && entry["bytes"].is_array());
    }
}

#[tokio::test]
async fn a_response_is_kept_until_it_is_deleted() {
    let app = app();
    let body = ask(&app, PATH, request(json!({}))).await;
    let path = format!("{PATH}/{}", body["id"].as_str().unwrap());
    assert_eq!(get(&app, &path).await.json(), body);
    let items = get(&app, &format!("{path}/input_items")).await.json();
    assert_eq!(items["data"][0]["content"], json!([{"type": "input_text", "text": "Tell me a story."}]));
    let deleted = send(&app, "DELETE", &path, "").await.json();
    assert_eq!(deleted, json!({"id": body["id"], "object": "response", "deleted": true}));
    for (method, path) in
        [("GET", path.clone()), ("DELETE", path.clone()), ("GET", format!("{path}/input_items"))]
    {
        let gone = send(&app, method, &path, "").await;
        assert_eq!(gone.status.as_u16(), 404);
        assert_eq!(gone.json()["error"]["code"], "response_not_found");
    }
    let unkept = ask(&app, PATH, request(json!({"store": false}))).await;
    assert_eq!(get(&app, &format!("{PATH}/{}", unkept["id"].as_str().unwrap())).await.status.as_u16(), 404);
}

#[tokio::test]
async fn a_key_sees_its_own_responses_only() {
    let store = Store::in_memory().unwrap();
    let key = |name: &str| store.create_key(name, KeyLimits::default(), UnixTime::now()).unwrap().1;
    let (ours, theirs) = (key("ours"), key("theirs"));
    let app = with_store(store);
    let ask = async |key: &str, method: &str, path: &str, body: Value| {
        let request =
            Request::builder().method(method).uri(path).header("authorization", format!("Bearer {key}"));
        let request = request.header("content-type", "application/json").body(Body::from(body.to_string()));
        support::read(app.clone().oneshot(request.unwrap()).await.unwrap()).await
    };
    let first = ask(&ours, "POST", PATH, request(json!({}))).await.json();
    let path = format!("{PATH}/{}", first["id"].as_str().unwrap());
    let (items, reference) = (format!("{path}/input_items"), json!({"id": first["output"][0]["id"]}));
    let referring = request(json!({"input": [reference, user("Go on.")]}));
    let following = request(json!({"previous_response_id": first["id"]}));
    let asked = [
        ("GET", path.as_str(), Value::Null, 404),
        ("GET", &items, Value::Null, 404),
        ("POST", PATH, referring, 404),
        ("POST", PATH, following, 400),
        ("DELETE", &path, Value::Null, 404),
    ];
    for (method, path, body, refusal) in asked {
        assert_eq!(
            ask(&theirs, method, path, body.clone()).await.status.as_u16(),
            refusal,
            "{method} {body}"
        );
        assert_eq!(ask(&ours, method, path, body.clone()).await.status.as_u16(), 200, "{method} {body}");
    }
}

#[tokio::test]
async fn a_streamed_response_is_kept_when_its_last_event_comes() {
    let app = app();
    let events = events(&app, json!({})).await;
    let last = &events.last().unwrap()["response"];
    assert_eq!(&get(&app, &format!("{PATH}/{}", last["id"].as_str().unwrap())).await.json(), last);
}

#[tokio::test]
async fn items_are_listed_in_pages() {
    let app = app();
    let input: Vec<Value> = (0..5).map(|n| user(&n.to_string())).collect();
    let body = ask(&app, PATH, request(json!({"input": input}))).await;
    let path = format!("{PATH}/{}/input_items", body["id"].as_str().unwrap());
    let texts = |page: &Value| -> Vec<String> {
        let items = page["data"].as_array().unwrap().iter();
        items.map(|item| item["content"][0]["text"].as_str().unwrap().to_owned()).collect()
    };
    let first = get(&app, &format!("{path}?limit=2&order=asc")).await.json();
    assert_eq!((texts(&first), &first["has_more"]), (vec!["0".to_owned(), "1".to_owned()], &json!(true)));
    assert_eq!((&first["first_id"], &first["last_id"]), (&first["data"][0]["id"], &first["data"][1]["id"]));
    let after = first["last_id"].as_str().unwrap();
    let rest = get(&app, &format!("{path}?order=asc&after={after}")).await.json();
    assert_eq!((texts(&rest), &rest["has_more"]), (vec!["2".into(), "3".into(), "4".into()], &json!(false)));
    assert_eq!(texts(&get(&app, &path).await.json()), ["4", "3", "2", "1", "0"]);
    for (query, param) in
        [("limit=0", "limit"), ("limit=x", "limit"), ("order=up", "order"), ("after=nobody", "after")]
    {
        let answered = get(&app, &format!("{path}?{query}")).await;
        assert_eq!((answered.status.as_u16(), &answered.json()["error"]["param"]), (400, &json!(param)));
    }
}

#[tokio::test]
async fn a_response_goes_on_from_another() {
    let app = app();
    let first = ask(&app, PATH, request(json!({"instructions": "Be someone else."}))).await;
    let second =
        ask(&app, PATH, request(json!({"previous_response_id": first["id"], "input": "Go on."}))).await;
    assert_eq!(second["previous_response_id"], first["id"]);
    let written_out = json!([
        user("Tell me a story."),
        {"role": "assistant", "content": [{"type": "output_text", "text": text_of(&first), "annotations": []}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Go on."}]},
    ]);
    let same = ask(&app, PATH, request(json!({"input": written_out}))).await;
    assert_eq!(
        second["usage"]["input_tokens"], same["usage"]["input_tokens"],
        "instructions are not carried over"
    );
    assert_eq!(text_of(&second), text_of(&same));
    // A response stays whole when the one before it goes.
    send(&app, "DELETE", &format!("{PATH}/{}", first["id"].as_str().unwrap()), "").await;
    let third =
        ask(&app, PATH, request(json!({"previous_response_id": second["id"], "input": "And?"}))).await;
    let path = format!("{PATH}/{}/input_items?order=asc", third["id"].as_str().unwrap());
    let roles: Vec<Value> = get(&app, &path).await.json()["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["role"].clone())
        .collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant", "user"]);
}

#[tokio::test]
async fn items_are_referred_to_by_name() {
    let app = app();
    let first = ask(&app, PATH, request(json!({}))).await;
    let path = format!("{PATH}/{}/input_items", first["id"].as_str().unwrap());
    let question = get(&app, &path).await.json()["data"][0].clone();
    let reference = |item: &Value| json!({"type": "item_reference", "id": item["id"]});
    let answer = &first["output"][0];
    let by_name = json!({"input": [reference(&question), {"id": answer["id"]}, user("Go on.")]});
    let whole = json!({"input": [question, answer, user("Go on.")]});
    let (by_name, whole) = (ask(&app, PATH, request(by_name)).await, ask(&app, PATH, request(whole)).await);
    assert_eq!(by_name["usage"]["input_tokens"], whole["usage"]["input_tokens"]);
    assert_eq!(text_of(&by_name), text_of(&whole));
    // What is there by `previous_response_id` is not there twice.
    let both = json!({"previous_response_id": first["id"], "input": [reference(answer), user("Go on.")]});
    assert_eq!(text_of(&ask(&app, PATH, request(both)).await), text_of(&whole));
    let id = answer["id"].as_str().unwrap();
    let cases = [
        ("msg_nobody", 404),
        ("x", 404),
        ("é_éééééééééééééééééééé", 404),
        ("", 404),
        (&format!("{id}0"), 404),
    ];
    for (name, status) in cases {
        let more = json!({"input": [user("Hi"), {"type": "item_reference", "id": name}]});
        let answered = post(&app, PATH, request(more)).await;
        assert_eq!(answered.status.as_u16(), status, "{name}: {}", answered.text);
        assert_eq!(answered.json()["error"]["param"], "input[1].id");
    }
    let twice = post(&app, PATH, request(json!({"input": [reference(answer), reference(answer)]}))).await;
    assert_eq!((twice.status.as_u16(), &twice.json()["error"]["param"]), (400, &json!("input[1].id")));
}

#[tokio::test]
async fn a_history_of_every_kind_is_read() {
    let app = app();
    let reasoning = json!([{"type": "reasoning_text", "text": "Rain?"}]);
    let input = json!([
        {"role": "developer", "content": "Be brief."},
        {"role": "system", "content": [{"type": "input_text", "text": "Be kind."}]},
        user("The weather?"),
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": reasoning, "encrypted_content": null},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get_weather", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "call_2", "name": "shell", "input": "date"},
        {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "Sun."}]},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "Monday"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}], "phase": "final_answer"},
        user("Please."),
    ]);
    let tools = json!([tool(), {"type": "custom", "name": "shell", "description": "Runs.", "format": {"type": "text"}}]);
    let body = ask(&app, PATH, request(json!({"input": input, "tools": tools}))).await;
    let path = format!("{PATH}/{}/input_items?order=asc", body["id"].as_str().unwrap());
    let items = get(&app, &path).await.json()["data"].as_array().unwrap().clone();
    let kinds: Vec<&str> = items.iter().map(|item| item["type"].as_str().unwrap()).collect();
    let call = ["function_call", "custom_tool_call", "function_call_output", "custom_tool_call_output"];
    assert_eq!(kinds[4..8], call);
    assert!(items.iter().all(|item| item["id"].is_string() && item["status"] == "completed"));
    assert_eq!(items[3]["content"], reasoning);
    // All of it goes on.
    ask(&app, PATH, request(json!({"previous_response_id": body["id"], "input": "Thanks.", "tools": tools})))
        .await;
}

#[tokio::test]
async fn functions_are_called_and_their_results_read() {
    let app = app();
    let more = forced();
    let first = ask(&app, PATH, request(more.clone())).await;
    assert_eq!(first["status"], "completed");
    let call = &first["output"][0];
    assert_eq!((&call["type"], &call["name"]), (&json!("function_call"), &json!("get_weather")));
    assert!(call["id"].as_str().unwrap().starts_with("fc_"));
    assert!(call["call_id"].as_str().unwrap().starts_with("call_"));
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert!(["Paris", "Rome"].contains(&arguments["city"].as_str().unwrap()));
    let output = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "Sunny."});
    let next = json!({"previous_response_id": first["id"], "input": [output], "tools": [tool()]});
    ask(&app, PATH, request(next)).await;
    let named = json!({"type": "function", "name": "get_weather"});
    let custom = json!({"type": "custom", "name": "shell"});
    for (choice, kind) in [(named, "function_call"), (custom.clone(), "custom_tool_call")] {
        let mut more = more.clone();
        more["tools"] = json!([tool(), custom]);
        more["tool_choice"] = choice;
        more["temperature"] = json!(0.5);
        more["seed"] = json!(7);
        more["max_output_tokens"] = json!(3000);
        let body = ask(&app, PATH, request(more)).await;
        // A custom tool's text is as long as the model likes.
        if body["status"] == "completed" {
            assert_eq!(body["output"][0]["type"], kind);
        }
    }
}

#[tokio::test]
async fn json_of_a_schema_is_what_comes() {
    let app = app();
    let schema = json!({
        "type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": false,
    });
    let format = json!({"type": "json_schema", "name": "x", "strict": true, "schema": schema});
    let more = json!({"text": {"format": format}, "max_output_tokens": 900});
    let body = ask(&app, PATH, request(more)).await;
    assert_eq!(body["text"]["format"]["schema"], schema);
    assert_eq!(body["status"], "completed");
    assert!(serde_json::from_str::<Value>(&text_of(&body)).unwrap()["ok"].is_boolean());
    let bad = json!({"type": "json_schema", "name": "x", "schema": {"type": "wat"}});
    let answered = post(&app, PATH, request(json!({"text": {"format": bad}}))).await;
    assert_eq!((answered.status.as_u16(), &answered.json()["error"]["param"]), (400, &json!("text.format")));
}

#[tokio::test]
async fn the_oldest_items_go_where_the_context_is_too_small() {
    let app = app();
    let long = "Once upon a time there was a little girl. ".repeat(20);
    let mut input = vec![json!({"role": "system", "content": "Be brief."})];
    for _ in 0..40 {
        input.push(user(&long));
        input.push(json!({"role": "assistant", "content": long}));
    }
    input.push(user("And then?"));
    let refused = post(&app, PATH, request(json!({"input": input}))).await;
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["error"]["code"]),
        (400, &json!("context_length_exceeded"))
    );
    let body = ask(&app, PATH, request(json!({"input": input, "truncation": "auto"}))).await;
    let tokens = body["usage"]["input_tokens"].as_u64().unwrap() as usize;
    assert!(tokens <= CONTEXT && tokens > CONTEXT / 2, "{tokens}: as much as fits");
    // Where nothing needs to go, nothing goes.
    let short = json!({"input": input[78..], "truncation": "auto"});
    let (short, same) = (ask(&app, PATH, request(short)).await, json!({"input": input[78..]}));
    assert_eq!(short["usage"]["input_tokens"], ask(&app, PATH, request(same)).await["usage"]["input_tokens"]);
    // Where nothing can go, it is refused.
    let alone = json!({"input": "a ".repeat(10_000), "truncation": "auto"});
    assert_eq!(post(&app, PATH, request(alone)).await.json()["error"]["code"], "context_length_exceeded");
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_place() {
    let app = app();
    let item = |item: Value| json!({"input": [user("Hi"), item]});
    let part = |part: Value| json!({"input": [{"role": "user", "content": [part]}]});
    let pairs = |n: usize| -> Value { (0..n).map(|n| (n.to_string(), json!("x"))).collect() };
    let cases = [
        (json!({"model": null}), "model"),
        (json!({"model": 7}), "model"),
        (json!({"input": null}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": {}}), "input"),
        (json!({"input": 1e300}), "input"),
        (item(json!(7)), "input[1]"),
        (item(json!({})), "input[1].type"),
        (item(json!({"type": 7})), "input[1].type"),
        (item(json!({"type": "web_search_call"})), "input[1].type"),
        (item(json!({"role": "user"})), "input[1].content"),
        (item(json!({"role": "wizard", "content": "x"})), "input[1].role"),
        (item(json!({"role": 7, "content": "x"})), "input[1].role"),
        (item(json!({"role": "user", "content": "x", "id": 7})), "input[1].id"),
        (item(json!({"role": "user", "content": 7})), "input[1].content"),
        (item(json!({"role": "user", "content": []})), "input[1].content"),
        (item(json!({"type": "function_call", "call_id": "c", "name": "f"})), "input[1].arguments"),
        (item(json!({"type": "function_call", "call_id": "c", "arguments": "{}"})), "input[1].name"),
        (item(json!({"type": "function_call_output", "output": "x"})), "input[1].call_id"),
        (item(json!({"type": "function_call_output", "call_id": "c", "output": "x"})), "input[1].call_id"),
        (item(json!({"type": "function_call_output", "call_id": "c", "output": {}})), "input[1].output"),
        (item(json!({"type": "reasoning", "content": [{}]})), "input[1].content[0].text"),
        (item(json!({"type": "item_reference", "id": 7})), "input[1].id"),
        (part(json!({"type": "input_image"})), "input[0].content[0].type"),
        (part(json!({"type": "input_file"})), "input[0].content[0].type"),
        (part(json!({"type": "poem"})), "input[0].content[0].type"),
        (part(json!({"text": "x"})), "input[0].content[0].type"),
        (part(json!({"type": "input_text", "text": 7})), "input[0].content[0].text"),
        (json!({"instructions": []}), "instructions"),
        (json!({"max_output_tokens": 15}), "max_output_tokens"),
        (json!({"max_output_tokens": 1e30}), "max_output_tokens"),
        (json!({"temperature": 2.1}), "temperature"),
        (json!({"top_p": "x"}), "top_p"),
        (json!({"top_logprobs": 21}), "top_logprobs"),
        (json!({"include": "x"}), "include"),
        (json!({"include": ["x"]}), "include[0]"),
        (json!({"tools": [{}]}), "tools[0].type"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].name"),
        (json!({"tools": [{"type": "function", "name": "a b"}]}), "tools[0].name"),
        (json!({"tools": [{"type": "function", "name": "f", "parameters": 7}]}), "tools[0].parameters"),
        (json!({"tools": [tool(), tool()]}), "tools"),
        (json!({"tools": vec![tool(); 129]}), "tools"),
        (
            json!({"tools": [{"type": "custom", "name": "c", "format": {"type": "grammar"}}]}),
            "tools[0].format.type",
        ),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"tool_choice": "maybe"}), "tool_choice"),
        (json!({"tool_choice": {"type": "function", "name": "f"}}), "tool_choice"),
        (json!({"tool_choice": {"type": "custom", "name": "f"}}), "tool_choice"),
        (json!({"tool_choice": {"type": "web_search"}}), "tool_choice.type"),
        (json!({"text": "x"}), "text"),
        (json!({"text": {"format": {}}}), "text.format.type"),
        (json!({"text": {"format": {"type": "xml"}}}), "text.format.type"),
        (json!({"text": {"format": {"type": "json_schema", "name": "x"}}}), "text.format.schema"),
        (json!({"text": {"format": {"type": "json_schema", "schema": {}}}}), "text.format.name"),
        (json!({"reasoning": {"effort": "most"}}), "reasoning.effort"),
        (json!({"truncation": "some"}), "truncation"),
        (json!({"store": "yes"}), "store"),
        (json!({"stream": 1}), "stream"),
        (json!({"stream_options": {}}), "stream_options"),
        (json!({"metadata": pairs(17)}), "metadata"),
        (json!({"metadata": {"a": 1}}), "metadata.a"),
        (json!({"metadata": {"a": "x".repeat(513)}}), "metadata.a"),
        (json!({"previous_response_id": "resp_none"}), "previous_response_id"),
        (json!({"previous_response_id": 7}), "previous_response_id"),
        (json!({"user": 7}), "user"),
        (json!({"background": true}), "background"),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"prompt": {"id": "x"}}), "prompt"),
        (json!({"messages": []}), "messages"),
    ];
    for (more, param) in cases {
        let answered = post(&app, PATH, request_with_nulls(&more)).await;
        let error = answered.json()["error"].clone();
        assert_eq!(answered.status.as_u16(), 400, "{more}: {error}");
        assert_eq!(error["param"], param, "{more}: {error}");
        assert!(error["message"].as_str().unwrap().len() > 10 && error["type"] == "invalid_request_error");
    }
    let nobody = post(&app, PATH, request(json!({"model": "nobody"}))).await;
    assert_eq!((nobody.status.as_u16(), &nobody.json()["error"]["code"]), (404, &json!("model_not_found")));
    for path in ["none", "resp_%F0%9F%A6%80", "%ff", "resp_none/input_items", &"x".repeat(5000)] {
        let status = get(&app, &format!("{PATH}/{path}")).await.status.as_u16();
        assert!((400..=404).contains(&status), "{path}: {status}");
    }
}

/// As [`request`], but a null of `more` takes a field out.
fn request_with_nulls(more: &Value) -> Value {
    request(more.clone())
}

#[tokio::test]
async fn much_is_refused_or_answered_and_never_fatal() {
    let app = app();
    let many = |item: Value| -> Value { std::iter::repeat_n(item, 10_000).collect() };
    let megabyte = "a ".repeat(1 << 19);
    let call =
        json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "[".repeat(1 << 20)});
    let references: Vec<Value> = (0..10_000).map(|n| json!({"id": format!("msg_{n:024x}0001")})).collect();
    let cases = [
        json!({"input": many(user("Hello."))}),
        json!({"input": many(user("Hello.")), "truncation": "auto", "instructions": megabyte}),
        json!({"input": megabyte}),
        json!({"input": megabyte, "truncation": "auto"}),
        json!({"input": many(json!({"role": "system", "content": "x"}))}),
        json!({"input": many(json!({"type": "reasoning", "summary": []}))}),
        json!({"input": [call, {"type": "function_call_output", "call_id": "c", "output": megabyte}]}),
        json!({"input": references}),
        json!({"input": vec![user("x"); 20_001]}),
        json!({"tools": many(tool())}),
        json!({"metadata": {"x".repeat(1 << 20): "y"}}),
        json!({"previous_response_id": megabyte}),
        json!({"include": many(json!("reasoning.encrypted_content")), "input": megabyte}),
    ];
    for more in cases {
        let answered = post(&app, PATH, request(more.clone())).await;
        let start: String = more.to_string().chars().take(60).collect();
        assert!([200, 400, 404].contains(&answered.status.as_u16()), "{start}: {answered:?}");
        assert!(answered.text.len() < 4 << 20, "{start}: an error is short");
    }
    let deep = format!("{{\"model\": \"{MODEL}\", \"input\": {}1{}}}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(send(&app, "POST", PATH, deep).await.status.as_u16(), 400);
    // Few newest of many fit.
    let many = request(json!({"input": many(user("Hello.")), "truncation": "auto"}));
    assert_eq!(post(&app, PATH, many).await.status.as_u16(), 200);
}
