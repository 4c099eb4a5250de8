//! What `/openapi.json` says is what is served.

mod support;

use axum::http::StatusCode;
use serde_json::{Value, json};
use support::{MODEL, app, get, post, send};

async fn description(app: &axum::Router) -> Value {
    get(app, "/openapi.json").await.json()
}

/// The schema that `schema` names.
fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(name) => document.pointer(name.trim_start_matches('#')).expect("it names a schema"),
        None => schema,
    }
}

#[tokio::test]
async fn every_operation_is_there() {
    let app = app();
    let document = description(&app).await;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let path = path.replace("{id}", "nobody");
            let answered = send(&app, &method.to_uppercase(), &path, "{}").await;
            assert_ne!(answered.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert!(!answered.text.contains("there is nothing at"), "{method} {path}");
            let status = answered.status.as_str();
            let range = format!("{}XX", &status[..1]);
            let responses = &operation["responses"];
            assert!(responses.get(status).or(responses.get(&range)).is_some(), "{method} {path}: {status}");
        }
    }
}

#[tokio::test]
async fn parameters_are_those_that_are_known() {
    let app = app();
    let document = description(&app).await;
    let mut seen = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        let schema = &operations["post"]["requestBody"]["content"]["application/json"]["schema"];
        let schema = resolve(&document, schema);
        if schema["additionalProperties"] != json!(false) {
            continue;
        }
        seen += 1;
        let mut body: Value =
            schema["properties"].as_object().unwrap().keys().map(|k| (k.clone(), Value::Null)).collect();
        body["model"] = json!(MODEL);
        let answered = post(&app, path, body.clone()).await;
        let unknown =
            ["is not a parameter", "Extra inputs"].iter().any(|words| answered.text.contains(words));
        assert!(!unknown, "{path}: {}", answered.text);
        body["and_this"] = json!(1);
        let answered = post(&app, path, body).await;
        assert!(answered.status == 400 && answered.text.contains("and_this"), "{path}: {}", answered.text);
    }
    assert_eq!(seen, 7);
}

#[tokio::test]
async fn references_lead_somewhere() {
    let document = description(&app()).await;
    fn look(document: &Value, value: &Value) {
        match value {
            Value::Object(map) => {
                resolve(document, value);
                map.values().for_each(|inner| look(document, inner));
            }
            Value::Array(items) => items.iter().for_each(|inner| look(document, inner)),
            _ => {}
        }
    }
    look(&document, &document);
}
