//! A model's graph from its configuration alone, for those who want to know its work and not its words.

use std::path::{Path, PathBuf};

use autarky_graph::Graph;
use serde_json::{Map, Value};

use crate::config::Config;
use crate::error::FamilyError;
use crate::model::{from_object, read_object};

/// What a configuration says of a model: all but its weights.
#[derive(Debug)]
pub struct Outline {
    /// The sizes.
    pub config: Config,
    /// What the model computes, op by op.
    pub graph: Graph,
}

/// The outline of the model whose `config.json` is at `path`, or in the folder there. Weights need not be there, and how
/// they are stored (`quantization_config`) is not looked at: it does not change what is computed.
///
/// # Errors
/// For files that cannot be read, unknown families, and configurations that make no sense.
pub fn outline(path: impl AsRef<Path>) -> Result<Outline, FamilyError> {
    let (file, mut object) = config_object(path)?;
    object.remove("quantization_config");
    outline_of(&file, &object)
}

/// The `config.json` at `path`, or in the folder there: its path, and what it holds.
///
/// # Errors
/// For files that cannot be read, or hold no JSON object.
pub fn config_object(path: impl AsRef<Path>) -> Result<(PathBuf, Map<String, Value>), FamilyError> {
    let path = path.as_ref();
    let file = if path.is_dir() { path.join("config.json") } else { path.to_owned() };
    let object = read_object(&file)?;
    Ok((file, object))
}

/// The outline of the model that a configuration says, in Hugging Face's fields. Errors name it as `file`.
///
/// # Errors
/// For unknown families, and configurations that make no sense.
pub fn outline_of(file: &Path, object: &Map<String, Value>) -> Result<Outline, FamilyError> {
    let (family, config) = from_object(file, object)?;
    let graph =
        (family.graph)(&config).map_err(|source| FamilyError::Graph { file: file.to_owned(), source })?;
    Ok(Outline { config, graph })
}
