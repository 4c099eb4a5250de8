//! Models known by name.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::{Model, Shape};
use crate::runs;

/// Models whose sizes come with the program, by name.
pub struct Models;

/// A name that no model has.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("no model is called {name:?}{}. Give the path of a config.json, a Hugging Face folder or a GGUF file instead", near(.nearest))]
pub struct UnknownModel {
    /// What was asked for.
    pub name: String,
    /// Names like it.
    pub nearest: Vec<String>,
}

fn near(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; the nearest are {}", names.join(", ")) }
}

static SHAPES: LazyLock<BTreeMap<String, Shape>> = LazyLock::new(|| {
    let mut shapes = BTreeMap::new();
    for row in runs::built_in() {
        let shape = &row.model;
        if Model::from_shape(shape).is_ok() {
            shapes.entry(shape.name.to_lowercase()).or_insert_with(|| shape.clone());
        }
    }
    shapes
});

/// A name as it is compared: without maker, case and marks.
fn plain(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    last.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').collect()
}

impl Models {
    /// The published sizes of the model of that name, with or without its maker's.
    pub fn find(name: &str) -> Result<&'static Shape, UnknownModel> {
        let wanted = plain(name);
        if let Some(shape) = SHAPES.get(&name.to_lowercase()) {
            return Ok(shape);
        }
        if let Some(shape) = SHAPES.values().find(|s| plain(&s.name) == wanted) {
            return Ok(shape);
        }
        let mut near: Vec<(f64, &str)> = SHAPES
            .values()
            .map(|s| (strsim::jaro_winkler(&wanted, &plain(&s.name)), s.name.as_str()))
            .filter(|(score, _)| *score > 0.75)
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        let nearest = near.into_iter().take(4).map(|(_, n)| n.to_owned()).collect();
        Err(UnknownModel { name: name.to_owned(), nearest })
    }
}
