//! Adapters beside a model: served under names of their own, and replaced while they answer.

mod support;

use std::sync::Arc;

use autarky_server::registry::{ModelError, Registry, RegistryOptions};
use axum::Router;
use serde_json::{Value, json};
use support::{MEMORY, adapter, ask, get, over, registry};
use tempfile::TempDir;

/// What a model says.
async fn says(app: &Router, model: &str) -> String {
    let answer = ask(app, "/v1/completions", story(model)).await;
    answer["choices"][0]["text"].as_str().expect("text").to_owned()
}

fn story(model: &str) -> Value {
    json!({"model": model, "prompt": "Once upon a time", "temperature": 0, "max_tokens": 24})
}

/// A model called `a`, with adapters that change what it says, differently, and one that does not.
fn place(options: RegistryOptions) -> (TempDir, Arc<Registry>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, strength) in [("one", 0.2), ("other", -0.3), ("none", 0.0)] {
        adapter(&folder.path().join(format!("{name}.lora")), strength);
    }
    let models = registry(folder.path(), &["a"], options);
    (folder, models)
}

#[tokio::test]
async fn an_adapter_is_a_model_beside_its_base() {
    let (folder, models) = place(RegistryOptions::default());
    for name in ["one", "none"] {
        models.add_adapter(name, None, &folder.path().join(format!("{name}.lora"))).unwrap();
    }
    let app = over(Arc::clone(&models));
    let base = says(&app, "a").await;
    assert_eq!(says(&app, "none").await, base);
    assert_ne!(says(&app, "one").await, base);
    let listed = get(&app, "/v1/models").await.json();
    let listed: Vec<_> =
        listed["data"].as_array().unwrap().iter().map(|m| (m["id"].clone(), m["parent"].clone())).collect();
    assert_eq!(
        listed,
        [("a", json!(null)), ("none", json!("a")), ("one", json!("a"))].map(|(id, of)| (json!(id), of))
    );
    assert!(models.unload("one").unwrap());
    assert_ne!(says(&app, "one").await, base, "it is loaded again when it is asked for");
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_by_name() {
    let (folder, models) = place(RegistryOptions::default());
    let file = |name: &str| folder.path().join(name);
    let refused = |name: &str, base: Option<&str>, path: &str| {
        models.add_adapter(name, base, &file(path)).unwrap_err().to_string()
    };
    for (name, base, path, told) in [
        ("x", None, "absent.lora", "absent.lora"),
        ("x", None, "a.gguf", "general.type"),
        ("x", Some("b"), "one.lora", "`b` does not exist"),
        ("a", None, "one.lora", "a model has this name"),
        ("", None, "one.lora", "a name has"),
        ("x\n", None, "one.lora", "a name has"),
    ] {
        let found = refused(name, base, path);
        assert!(found.contains(told), "{found}");
    }
    assert_eq!(models.names(), ["a"]);
    models.add_adapter("one", None, &file("one.lora")).unwrap();
    assert!(refused("x", Some("one"), "one.lora").contains("is an adapter"));
    std::fs::copy(support::path(), file("b.gguf")).unwrap();
    models.add(&file("b.gguf")).unwrap();
    assert!(refused("x", None, "one.lora").contains("several models"));
    models.add_adapter("x", Some("b"), &file("one.lora")).unwrap();
    models.add_adapter("x", None, &file("other.lora")).expect("it is known whose it is");
    assert!(models.remove_adapter("a").unwrap_err().to_string().contains("models stay"));
    models.remove_adapter("x").unwrap();
    assert!(matches!(models.remove_adapter("x"), Err(ModelError::Unknown { .. })));
}

#[tokio::test]
async fn whoever_has_the_old_one_goes_on_with_it_and_it_counts_until_then() {
    let options = RegistryOptions { memory: Some(MEMORY + MEMORY / 2), ..RegistryOptions::default() };
    let (folder, models) = place(options);
    let add = |path: &str| models.add_adapter("mine", None, &folder.path().join(path)).unwrap();
    add("one.lora");
    let lease = models.get("mine").await.unwrap();
    add("other.lora");
    assert!(lease.service.is_alive());
    assert!(
        matches!(models.get("mine").await.err(), Some(ModelError::Memory { .. })),
        "there is no room for both"
    );
    drop(lease);
    let lease = models.get("mine").await.unwrap();
    models.remove_adapter("mine").unwrap();
    assert!(lease.service.is_alive());
    assert!(matches!(models.get("mine").await.err(), Some(ModelError::Unknown { .. })));
    assert!(matches!(models.get("a").await.err(), Some(ModelError::Memory { .. })));
    drop(lease);
    models.get("a").await.unwrap();
}
