//! What a model writes to itself is told apart from its answer, in every API.

mod support;

use serde_json::{Value, json};
use support::{MODEL, ask, post, with};

/// A template whose prompt ends within reasoning; the model never ends it.
const TEMPLATE: &str = "{{ messages[0].content }}{% if false %}</think>{% endif %}<think>\n";

fn request(more: Value) -> Value {
    let mut body = json!({"model": MODEL, "temperature": 0});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn chat_completions_have_a_field_for_it() {
    let app = with(Some(TEMPLATE), 64);
    let messages = json!([{"role": "user", "content": "Once upon a time"}]);
    let body = request(json!({"messages": messages, "max_tokens": 10}));
    let whole = ask(&app, "/v1/chat/completions", body.clone()).await;
    let message = &whole["choices"][0]["message"];
    let thought = message["reasoning_content"].as_str().unwrap();
    assert_eq!((thought.is_empty(), &message["content"]), (false, &json!("")));
    assert_eq!(whole["usage"]["completion_tokens_details"]["reasoning_tokens"], 10);
    let mut streamed = body;
    streamed["stream"] = json!(true);
    let chunks = post(&app, "/v1/chat/completions", streamed).await.chunks();
    let deltas = chunks.iter().filter_map(|c| c["choices"][0]["delta"]["reasoning_content"].as_str());
    assert_eq!(deltas.collect::<String>(), thought);
}

#[tokio::test]
async fn messages_have_a_block_for_it() {
    let app = with(Some(TEMPLATE), 64);
    let messages = json!([{"role": "user", "content": "Once upon a time"}]);
    let body = request(json!({"messages": messages, "max_tokens": 10}));
    let whole = ask(&app, "/v1/messages", body.clone()).await;
    assert_eq!(
        (&whole["content"][0]["type"], whole["content"].as_array().unwrap().len()),
        (&json!("thinking"), 1)
    );
    let mut streamed = body;
    streamed["stream"] = json!(true);
    let events = post(&app, "/v1/messages", streamed).await.events();
    let deltas: Vec<Value> = events.iter().map(|(_, data)| serde_json::from_str(data).unwrap()).collect();
    let thought: String = deltas.iter().filter_map(|e: &Value| e["delta"]["thinking"].as_str()).collect();
    assert_eq!(json!(thought), whole["content"][0]["thinking"]);
    assert!(deltas.iter().any(|e| e["delta"]["type"] == "signature_delta"));
}

#[tokio::test]
async fn responses_have_an_item_for_it() {
    let app = with(Some(TEMPLATE), 64);
    let body = request(json!({"input": "Once upon a time", "max_output_tokens": 16}));
    let whole = ask(&app, "/v1/responses", body.clone()).await;
    let item = &whole["output"][0];
    assert_eq!((&item["type"], &item["summary"]), (&json!("reasoning"), &json!([])));
    assert_eq!(item["content"][0]["type"], "reasoning_text");
    assert_eq!(whole["usage"]["output_tokens_details"]["reasoning_tokens"], 16);
    let mut streamed = body;
    streamed["stream"] = json!(true);
    let events = post(&app, "/v1/responses", streamed).await.events();
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert!(
        names.contains(&"response.reasoning_text.delta") && names.contains(&"response.reasoning_text.done")
    );
}

#[tokio::test]
async fn an_answer_that_is_all_reasoning_breaks_no_constraint() {
    // The schema holds from where reasoning ends, which the model does not reach.
    let app = with(Some(TEMPLATE), 64);
    let messages = json!([{"role": "user", "content": "Once upon a time"}]);
    let body =
        request(json!({"messages": messages, "max_tokens": 10, "response_format": {"type": "json_object"}}));
    let whole = ask(&app, "/v1/chat/completions", body).await;
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    assert!(!whole["choices"][0]["message"]["reasoning_content"].as_str().unwrap().starts_with('{'));
}
