//! Which models are in memory: loaded when asked for, and let go of when memory is short or nobody asks.

mod support;

use std::time::Duration;

use autarky_server::registry::{ModelError, Registry, RegistryOptions};
use support::{MEMORY, registry};

fn loaded(registry: &Registry) -> Vec<String> {
    registry.loaded().into_iter().map(|(name, _)| name).collect()
}

/// Room for so many models.
fn room(models: u64) -> RegistryOptions {
    RegistryOptions { memory: Some(models * MEMORY + MEMORY / 2), ..RegistryOptions::default() }
}

#[tokio::test]
async fn the_model_that_was_idle_longest_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let models = registry(folder.path(), &["a", "b", "c"], room(2));
    for name in ["a", "b", "a"] {
        drop(models.get(name).await.unwrap());
    }
    assert_eq!(loaded(&models), ["a", "b"]);
    drop(models.get("c").await.unwrap());
    assert_eq!(loaded(&models), ["a", "c"], "a was used after b");
}

#[tokio::test]
async fn models_in_use_stay_and_what_does_not_fit_beside_them_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let models = registry(folder.path(), &["a", "b", "c"], room(2));
    let (a, _b) = (models.get("a").await.unwrap(), models.get("b").await.unwrap());
    match models.get("c").await.err() {
        Some(ModelError::Memory { name, needed, left }) => {
            assert_eq!((name.as_str(), needed, left), ("c", MEMORY, MEMORY / 2));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(loaded(&models), ["a", "b"]);
    drop(a);
    drop(models.get("c").await.unwrap());
    assert_eq!(loaded(&models), ["b", "c"]);
}

#[tokio::test]
async fn what_is_unloaded_in_use_takes_memory_until_it_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let models = registry(folder.path(), &["a", "b"], room(1));
    let lease = models.get("a").await.unwrap();
    assert!(models.unload("a").unwrap());
    assert_eq!(loaded(&models), [""; 0]);
    assert!(!models.unload("a").unwrap(), "it is unloaded already");
    assert!(lease.service.is_alive(), "whoever has it may go on");
    for name in ["a", "b"] {
        assert!(matches!(models.get(name).await.err(), Some(ModelError::Memory { .. })), "{name}");
    }
    drop(lease);
    drop(models.get("b").await.unwrap());
    assert_eq!(loaded(&models), ["b"]);
}

#[tokio::test]
async fn what_nobody_uses_is_unloaded_when_its_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let idle = |idle| RegistryOptions { idle: Some(idle), ..room(2) };
    let models = registry(folder.path(), &["a", "b"], idle(Duration::ZERO));
    let _a = models.get("a").await.unwrap();
    drop(models.get("b").await.unwrap());
    assert_eq!(models.unload_idle(), ["b"]);
    assert_eq!(loaded(&models), ["a"], "a is in use");

    let folder = tempfile::tempdir().unwrap();
    let models = registry(folder.path(), &["a"], idle(Duration::MAX));
    drop(models.get("a").await.unwrap());
    assert_eq!(models.unload_idle(), [""; 0], "its time is not over");
}

#[tokio::test]
async fn many_who_ask_at_once_wait_for_one_load() {
    let folder = tempfile::tempdir().unwrap();
    // A second copy would not fit.
    let models = registry(folder.path(), &["a"], room(1));
    let asked = (0..16).map(|_| {
        let models = models.clone();
        tokio::spawn(async move { models.get("a").await.map(drop) })
    });
    for answer in asked.collect::<Vec<_>>() {
        answer.await.unwrap().unwrap();
    }
}
