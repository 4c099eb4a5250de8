//! Adapters beside a model: served under names of their own, and replaced while they answer.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use autarky_server::registry::{ModelError, Registry, RegistryOptions};
use axum::Router;
use serde_json::{Value, json};
use support::{MEMORY, adapter, ask, get, over, post, registry};
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

#[tokio::test]
async fn adapters_come_go_and_are_replaced_while_the_server_answers() {
    let folder = tempfile::tempdir().unwrap();
    let (_models, registry) = place_within(folder.path());
    let app = over(registry);
    let load = |path: &str| json!({"lora_name": "mine", "lora_path": path});
    let base = says(&app, "a").await;
    let model = ask(&app, "/v1/load_lora_adapter", load("one.lora")).await;
    assert_eq!((&model["id"], &model["parent"]), (&json!("mine"), &json!("a")));
    let one = says(&app, "mine").await;
    assert_ne!(one, base);

    // An answer that has begun.
    let request = axum::http::Request::post("/v1/completions").header("content-type", "application/json");
    let body = json!({"model": "mine", "prompt": "Once upon a time", "temperature": 0, "max_tokens": 24, "stream": true});
    let request = request.body(axum::body::Body::from(body.to_string())).unwrap();
    let begun = tower::ServiceExt::oneshot(app.clone(), request).await.unwrap();
    let full = folder.path().join("none.lora");
    ask(&app, "/v1/load_lora_adapter", load(full.to_str().unwrap())).await;
    assert_eq!(says(&app, "mine").await, base, "the next request has the new one");
    let chunks = support::read(begun).await.chunks();
    let text: String = chunks.iter().filter_map(|c| c["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, one, "the one under way ends as it began");

    let gone = ask(&app, "/v1/unload_lora_adapter", json!({"lora_name": "mine"})).await;
    assert_eq!(gone["deleted"], json!(true));
    assert_eq!(post(&app, "/v1/completions", story("mine")).await.status, 404);
    assert_eq!(post(&app, "/v1/unload_lora_adapter", json!({"lora_name": "mine"})).await.status, 404);
    assert_eq!(post(&app, "/v1/unload_lora_adapter", json!({"lora_name": "a"})).await.status, 400);
}

#[tokio::test]
async fn only_what_lies_in_the_folder_of_adapters_can_be_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let (models, registry) = place_within(folder.path());
    let app = over(registry);
    let outside = models.path().join("one.lora");
    for path in [outside.to_str().unwrap(), "../one.lora", "absent.lora"] {
        let answered =
            post(&app, "/v1/load_lora_adapter", json!({"lora_name": "mine", "lora_path": path})).await;
        assert_eq!(answered.status, 400, "{answered:?}");
        assert!(answered.text.contains("the folder"), "{}", answered.text);
    }
    // Without a folder nothing can be named.
    let (_place, registry) = place(RegistryOptions::default());
    let body = json!({"lora_name": "mine", "lora_path": outside});
    let answered = post(&over(registry), "/v1/load_lora_adapter", body).await;
    assert!(answered.status == 400 && answered.text.contains("--adapters"), "{answered:?}");
}

/// Gives `file` the contents of `from` as those do who write beside and rename.
fn replace(file: &Path, from: &Path) {
    let beside = file.with_extension("partial");
    std::fs::copy(from, &beside).unwrap();
    std::fs::rename(&beside, file).unwrap();
}

#[tokio::test]
async fn what_is_written_anew_is_loaded_anew() {
    let (folder, models) = place(RegistryOptions::default());
    let file = |name: &str| folder.path().join(name);
    for (name, path) in [("mine", "one.lora"), ("other", "other.lora")] {
        models.add_adapter(name, None, &file(path)).unwrap();
    }
    let app = over(Arc::clone(&models));
    let one = says(&app, "mine").await;
    let old = models.get("mine").await.unwrap();
    assert!(std::ptr::eq(&*old, &*models.get("mine").await.unwrap()), "nothing has changed");
    replace(&file("one.lora"), &file("other.lora"));
    let other = says(&app, "mine").await;
    assert_ne!(other, one);
    assert_eq!(other, says(&app, "other").await);
    assert!(old.service.is_alive(), "whoever has the old one may go on");

    // What cannot be used takes no place, and is told.
    replace(&file("one.lora"), &file("a.gguf"));
    assert_eq!(says(&app, "mine").await, other);
    let problem = models.status().into_iter().find(|m| m.id == "mine").unwrap().error.unwrap();
    assert!(problem.contains("have changed") && problem.contains("general.type"), "{problem}");

    // A base is another for its adapters, too.
    let (base, mine) = (models.get("a").await.unwrap(), models.get("other").await.unwrap());
    replace(&file("a.gguf"), &support::path());
    assert!(!std::ptr::eq(&*base, &*models.get("a").await.unwrap()));
    assert!(!std::ptr::eq(&*mine, &*models.get("other").await.unwrap()));
}

#[tokio::test]
async fn the_old_one_answers_while_there_is_no_room_beside_it() {
    let (folder, models) =
        place(RegistryOptions { memory: Some(MEMORY + MEMORY / 2), ..RegistryOptions::default() });
    let file = folder.path().join("a.gguf");
    let first = models.get("a").await.unwrap();
    replace(&file, &support::path());
    let second = models.get("a").await.unwrap();
    assert!(std::ptr::eq(&*first, &*second));
    let known = models.status()[0].error.clone();
    assert!(known.is_some_and(|problem| problem.contains("have changed")));
    drop((first, second));
    models.get("a").await.unwrap();
    assert_eq!(models.status()[0].error, None, "it is the new one");
}

#[tokio::test]
async fn files_are_looked_at_no_more_often_than_asked() {
    let (folder, models) = place(RegistryOptions { look: Duration::MAX, ..RegistryOptions::default() });
    let first = models.get("a").await.unwrap();
    replace(&folder.path().join("a.gguf"), &support::path());
    assert!(std::ptr::eq(&*first, &*models.get("a").await.unwrap()));
}

/// As [`place`], with `adapters` as the folder of adapters, where the same lie.
fn place_within(adapters: &Path) -> (TempDir, Arc<Registry>) {
    let options = RegistryOptions { adapters: Some(adapters.to_owned()), ..RegistryOptions::default() };
    let (folder, models) = place(options);
    for name in ["one.lora", "other.lora", "none.lora"] {
        std::fs::copy(folder.path().join(name), adapters.join(name)).unwrap();
    }
    (folder, models)
}
