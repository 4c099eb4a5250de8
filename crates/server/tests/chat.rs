//! `/v1/chat/completions` and `/v1/models`, in process, over a small trained model.

mod support;

use axum::http::StatusCode;
use serde_json::{Value, json};
use support::{MODEL, app, ask, get, post, send, with};

const PATH: &str = "/v1/chat/completions";

/// A short request, deterministic; `more` replaces and adds fields.
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

#[tokio::test]
async fn an_answer_has_the_shape_that_clients_read() {
    let body = ask(&app(), PATH, request(json!({}))).await;
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!((&body["object"], &body["model"]), (&json!("chat.completion"), &json!(MODEL)));
    let choice = &body["choices"][0];
    assert_eq!((&choice["index"], &choice["logprobs"]), (&json!(0), &Value::Null));
    assert_eq!(choice["finish_reason"], "length");
    assert_eq!(choice["message"]["role"], "assistant");
    assert!(choice["message"]["content"].is_string());
    let usage = &body["usage"];
    assert_eq!(usage["completion_tokens"], 12);
    let (prompt, total) = (usage["prompt_tokens"].as_u64().unwrap(), usage["total_tokens"].as_u64().unwrap());
    assert_eq!(total, prompt + 12);
    assert!(usage["prompt_tokens_details"]["cached_tokens"].is_u64());
    assert!(usage["completion_tokens_details"]["reasoning_tokens"].is_u64());
    assert!(body["timings"]["decode_ms"].is_f64());
}

#[tokio::test]
async fn a_stream_says_the_same_as_a_whole_answer() {
    let app = app();
    for more in [json!({}), json!({"stop": [" a", "zzz"]}), json!({"n": 3, "temperature": 1.2, "seed": 7})] {
        let whole = ask(&app, PATH, request(more.clone())).await;
        let mut streamed = request(more);
        streamed["stream"] = json!(true);
        streamed["stream_options"] = json!({"include_usage": true});
        let chunks = post(&app, PATH, streamed).await.chunks();
        let (last, chunks) = chunks.split_last().unwrap();
        assert_eq!(last["choices"], json!([]));
        assert_eq!(last["usage"]["total_tokens"], whole["usage"]["total_tokens"]);
        assert!(last["timings"].is_object());
        let choices = whole["choices"].as_array().unwrap();
        for (index, expected) in choices.iter().enumerate() {
            let own: Vec<&Value> =
                chunks.iter().map(|c| &c["choices"][0]).filter(|c| c["index"] == index).collect();
            assert_eq!(own[0]["delta"]["role"], "assistant");
            assert!(own[1..].iter().all(|c| c["delta"].get("role").is_none()), "the role comes once");
            let text: String = own.iter().filter_map(|c| c["delta"]["content"].as_str()).collect();
            assert_eq!(json!(text), expected["message"]["content"]);
            let (end, before) = own.split_last().unwrap();
            assert_eq!(end["finish_reason"], expected["finish_reason"]);
            assert!(before.iter().all(|c| c["finish_reason"].is_null()));
        }
        let id = &chunks[0]["id"];
        assert!(chunks.iter().all(|c| &c["id"] == id && c["object"] == "chat.completion.chunk"));
        assert!(chunks.iter().all(|c| c["usage"].is_null() && c.get("usage").is_some()));
    }
}

#[tokio::test]
async fn the_same_seed_gives_the_same_answer_and_no_seed_another() {
    let app = app();
    let text =
        async |more: Value| ask(&app, PATH, request(more)).await["choices"][0]["message"]["content"].clone();
    let warm = json!({"temperature": 1.5, "seed": -3, "max_tokens": 30});
    assert_eq!(text(warm.clone()).await, text(warm).await);
    let any = json!({"temperature": 1.5, "max_tokens": 30});
    assert_ne!(text(any.clone()).await, text(any).await);
}

#[tokio::test]
async fn tokens_are_told_with_their_probabilities() {
    let app = app();
    let more = json!({"logprobs": true, "top_logprobs": 4});
    let whole = ask(&app, PATH, request(more.clone())).await;
    let told = whole["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert_eq!(told.len(), 12, "one for each token");
    for entry in &told {
        assert!(entry["logprob"].as_f64().unwrap() <= 0.0);
        let top = entry["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 4);
        assert_eq!(top[0]["token"], entry["token"], "at temperature 0 the best is chosen");
        assert!(entry["bytes"].is_array());
    }
    let mut streamed = request(more);
    streamed["stream"] = json!(true);
    let chunks = post(&app, PATH, streamed).await.chunks();
    let all = chunks.iter().filter_map(|c| c["choices"][0]["logprobs"]["content"].as_array());
    assert_eq!(all.flatten().cloned().collect::<Vec<_>>(), told);
}

#[tokio::test]
async fn bias_forbids_and_forces_tokens() {
    let app = app();
    let forced = request(json!({"logit_bias": {"300": 100}, "logprobs": true, "max_tokens": 3}));
    let body = ask(&app, PATH, forced).await;
    let told = body["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert!(told.iter().all(|t| t["token"] == told[0]["token"] && t["logprob"].as_f64().unwrap() > -0.1));
}

#[tokio::test]
async fn a_stop_string_ends_the_answer_and_is_not_told() {
    let app = app();
    let whole = ask(&app, PATH, request(json!({"max_tokens": 40}))).await;
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let middle: String = text.chars().skip(text.chars().count() / 2).take(4).collect();
    let body = ask(&app, PATH, request(json!({"max_tokens": 40, "stop": middle}))).await;
    let cut = body["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert!(text.starts_with(cut) && !cut.contains(&middle));
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_place() {
    let app = app();
    let message = |m: Value| json!({"messages": [m]});
    let cases = [
        (json!({"model": null}), "model", 400),
        (json!({"model": "nobody"}), "model", 404),
        (json!({"model": 3}), "model", 400),
        (json!({"messages": null}), "messages", 400),
        (json!({"messages": []}), "messages", 400),
        (json!({"messages": "hi"}), "messages", 400),
        (json!({"messages": [3]}), "messages[0]", 400),
        (message(json!({"content": "x"})), "messages[0].role", 400),
        (message(json!({"role": "wizard", "content": "x"})), "messages[0].role", 400),
        (message(json!({"role": "user"})), "messages[0].content", 400),
        (message(json!({"role": "user", "content": 7})), "messages[0].content", 400),
        (message(json!({"role": "user", "content": []})), "messages[0].content", 400),
        (
            message(json!({"role": "user", "content": [{"type": "image_url"}]})),
            "messages[0].content[0].type",
            400,
        ),
        (message(json!({"role": "tool", "content": "x"})), "messages[0].tool_call_id", 400),
        (
            message(json!({"role": "tool", "content": "x", "tool_call_id": "a"})),
            "messages[0].tool_call_id",
            400,
        ),
        (
            message(json!({"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f"}}]})),
            "messages[0].tool_calls[0].function.arguments",
            400,
        ),
        (json!({"temperature": 2.1}), "temperature", 400),
        (json!({"temperature": "hot"}), "temperature", 400),
        (json!({"top_p": -0.1}), "top_p", 400),
        (json!({"n": 0}), "n", 400),
        (json!({"n": 100}), "n", 400),
        (json!({"max_tokens": -1}), "max_tokens", 400),
        (json!({"max_completion_tokens": 1.5}), "max_completion_tokens", 400),
        (json!({"stop": vec!["a"; 17]}), "stop", 400),
        (json!({"stop": ""}), "stop", 400),
        (json!({"stop": [1]}), "stop[0]", 400),
        (json!({"logit_bias": {"x": 1}}), "logit_bias.x", 400),
        (json!({"logit_bias": {"1": 101}}), "logit_bias.1", 400),
        (json!({"logit_bias": {"4000000000": 1}}), "prompt", 400),
        (json!({"top_logprobs": 21, "logprobs": true}), "top_logprobs", 400),
        (json!({"top_logprobs": 2}), "top_logprobs", 400),
        (json!({"seed": 1e300}), "seed", 400),
        (json!({"stream": "yes"}), "stream", 400),
        (json!({"stream_options": {"include_usage": true}}), "stream_options", 400),
        (json!({"tools": [{"type": "function"}]}), "tools[0].function", 400),
        (json!({"tools": [{"type": "x"}]}), "tools[0].type", 400),
        (
            json!({"tools": [{"type": "function", "function": {"name": "a b"}}]}),
            "tools[0].function.name",
            400,
        ),
        (json!({"tool_choice": "required"}), "tool_choice", 400),
        (json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}), "tool_choice", 400),
        (json!({"response_format": {"type": "xml"}}), "response_format.type", 400),
        (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema", 400),
        (json!({"modalities": ["audio"]}), "modalities", 400),
        (json!({"functions": []}), "functions", 400),
        (json!({"temprature": 1}), "temprature", 400),
    ];
    for (more, param, status) in cases {
        let answered = post(&app, PATH, request_with_nulls(&more)).await;
        let error = answered.json()["error"].clone();
        assert_eq!(answered.status.as_u16(), status, "{more}: {error}");
        assert_eq!(error["param"], param, "{more}: {error}");
        assert!(error["message"].as_str().unwrap().len() > 10 && error["type"].is_string(), "{error}");
    }
}

/// As [`request`], but a null of `more` takes a field out.
fn request_with_nulls(more: &Value) -> Value {
    request(more.clone())
}

#[tokio::test]
async fn hostile_bodies_are_refused_fast() {
    let app = app();
    let deep = format!("{{\"model\": {}1{}}}", "[".repeat(5000), "]".repeat(5000));
    let cases = [
        ("".to_owned(), 400),
        ("null".to_owned(), 400),
        ("[]".to_owned(), 400),
        ("{\"model\": \"x\", }".to_owned(), 400),
        ("{\"messages\": \"\\ud800\"}".to_owned(), 400),
        (deep, 400),
        (format!("{{\"model\": \"{}\"}}", "x".repeat(17 << 20)), 413),
        (format!("{{\"model\": [{}1]}}", "1,".repeat(2_000_000)), 400),
    ];
    for (body, status) in cases {
        let start: String = body.chars().take(40).collect();
        let answered = send(&app, "POST", PATH, body).await;
        assert_eq!(answered.status.as_u16(), status, "{start}");
        assert!(answered.json()["error"]["message"].is_string());
    }
    let messages: Vec<Value> = (0..10_000).map(|_| json!({"role": "user", "content": "hello"})).collect();
    let answered = post(&app, PATH, request(json!({"messages": messages}))).await;
    assert_eq!(answered.json()["error"]["code"], "context_length_exceeded");
    let long = json!([{"role": "user", "content": "a ".repeat(1 << 19)}]);
    let answered = post(&app, PATH, request(json!({"messages": long}))).await;
    assert_eq!(answered.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn parts_of_text_are_joined_and_roles_have_their_places() {
    let app = app();
    let call = json!({"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}});
    let messages = json!([
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}], "name": "Ann"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "7"}]},
        {"role": "assistant", "content": "Seven.", "refusal": null, "annotations": []},
        {"role": "user", "content": "Thanks."},
    ]);
    let body = ask(&app, PATH, request(json!({"messages": messages}))).await;
    assert_eq!(body["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn what_has_no_meaning_here_is_accepted() {
    let more = json!({
        "user": "me", "metadata": {"a": "b"}, "store": false, "service_tier": "auto", "prompt_cache_key": "k",
        "parallel_tool_calls": true, "modalities": ["text"], "top_k": 5, "min_p": 0.1, "typical_p": 0.9,
        "repetition_penalty": 1.1, "presence_penalty": 0.5, "frequency_penalty": -0.5, "ignore_eos": true,
        "reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": false}, "tools": [], "stop": null,
    });
    ask(&app(), PATH, request(more)).await;
}

#[tokio::test]
async fn a_model_without_a_template_answers_no_messages() {
    let answered = post(&with(None, 64), PATH, request(json!({}))).await;
    assert_eq!(answered.status, StatusCode::BAD_REQUEST);
    assert_eq!(answered.json()["error"]["code"], "no_chat_template");
}

#[tokio::test]
async fn models_are_told() {
    let app = app();
    let list = get(&app, "/v1/models").await.json();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!(MODEL)));
    let one = get(&app, &format!("/v1/models/{MODEL}")).await.json();
    assert_eq!((&one["id"], &one["object"]), (&json!(MODEL), &json!("model")));
    let none = get(&app, "/v1/models/nobody").await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
    assert_eq!(none.json()["error"]["code"], "model_not_found");
}

#[tokio::test]
async fn a_reader_who_goes_away_ends_the_job() {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    let app = with(Some("{{ messages[0].content }}"), 0);
    let endless = request(json!({"max_tokens": 4000, "ignore_eos": true, "n": 8, "stream": true}));
    let send = async || {
        let request = Request::post(PATH).body(Body::from(endless.to_string())).unwrap();
        app.clone().oneshot(request).await.unwrap()
    };
    // All places are taken, and nobody may wait.
    let mut readers = Vec::new();
    let refused = loop {
        let mut response = send().await;
        if response.status() != StatusCode::OK {
            break support::read(response).await;
        }
        assert!(readers.len() < 8, "there are 8 places");
        if readers.is_empty() {
            response.body_mut().frame().await.expect("it begins").unwrap();
        }
        readers.push(response);
    };
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.retry_after.is_some());
    drop(readers);
    // There is a place once the engine has seen it, a step later.
    while send().await.status() != StatusCode::OK {
        tokio::task::yield_now().await;
    }
}
