//! What can be wrong with a model: each error names the file, the place in it and what to do.

use std::path::PathBuf;

use autarky_graph::{GraphError, WeightError};
use thiserror::Error;

/// Why a model cannot be opened or converted.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The fields are named in each variant's message.
pub enum FamilyError {
    /// A file cannot be read or written, or contradicts its format.
    #[error(transparent)]
    Format(#[from] autarky_format::Error),

    /// The model is of a family that is not known here.
    #[error("{file}: the family {found:?} is not known; known: {known}", file = file.display())]
    UnknownFamily { file: PathBuf, found: String, known: String },

    /// A field of the configuration is absent.
    #[error("{file}: \"{field}\" is missing ({expected} expected); the model is incomplete or of another family", file = file.display())]
    MissingField { file: PathBuf, field: String, expected: String },

    /// A field of the configuration has a value that no model of the family has.
    #[error("{file}: \"{field}\" is {found}, where {expected} is expected", file = file.display())]
    Field { file: PathBuf, field: String, found: String, expected: String },

    /// The model asks for something real that is not computed here.
    #[error("{file}: {what} is not supported; {advice}", file = file.display())]
    Unsupported { file: PathBuf, what: String, advice: String },

    /// The configuration cannot be read.
    #[error("{file}: cannot be read: {problem}; a Hugging Face folder needs its config.json", file = file.display())]
    Config { file: PathBuf, problem: String },

    /// The configuration is not JSON.
    #[error("{file}: not a JSON object: {problem}; fetch the file again", file = file.display())]
    Json { file: PathBuf, problem: String },

    /// A tensor that the family needs is absent.
    #[error("{file}: tensor {tensor:?} is missing; the model is incomplete, fetch or convert it again", file = file.display())]
    MissingTensor { file: PathBuf, tensor: String },

    /// A tensor has other dimensions than the configuration says.
    #[error("{file}: tensor {tensor:?} has the shape {found:?} where the configuration calls for {expected:?}", file = file.display())]
    TensorShape { file: PathBuf, tensor: String, found: Vec<usize>, expected: Vec<usize> },

    /// A tensor's data type cannot serve its purpose.
    #[error("{file}: tensor {tensor:?} is stored as {found} where {expected} is expected; convert the model again", file = file.display())]
    TensorType { file: PathBuf, tensor: String, found: String, expected: String },

    /// A tensor is there that the family has no place for, and leaving it out would change what the model says.
    #[error("{file}: tensor {tensor:?} has no place in the family {family:?}, and the model would be wrong without it; it is of another family or a variant that is not known here", file = file.display())]
    UnexpectedTensor { file: PathBuf, tensor: String, family: &'static str },

    /// The graph cannot be built from the configuration.
    #[error("{file}: the configuration contradicts itself: {source}", file = file.display())]
    Graph { file: PathBuf, source: GraphError },

    /// A weight cannot be made from its tensors.
    #[error(transparent)]
    Weight(#[from] WeightError),

    /// A weight cannot be written in the wanted type.
    #[error("weight {weight:?} cannot be written as {dtype}: {problem}")]
    Write { weight: String, dtype: String, problem: String },

    /// The caller asked for a stop.
    #[error("stopped")]
    Stopped,
}
