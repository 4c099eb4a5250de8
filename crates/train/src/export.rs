//! The result of a run, in the forms that others read.

use std::path::{Path, PathBuf};

use autarky_family::convert::Options;
use autarky_family::{FamilyError, Numbers, convert_weights, export_weights};
use autarky_format::gguf::Metadata;
use autarky_graph::Weights;
use autarky_quant::DType;
use autarky_text::TokenizerError;
use thiserror::Error;

use crate::subject::Subject;
use crate::trainer::Precision;

/// Why the result cannot be written.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The model.
    #[error(transparent)]
    Family(#[from] FamilyError),
    /// Its tokenizer.
    #[error("cannot write the tokenizer: {0}")]
    Tokenizer(#[from] TokenizerError),
    /// What an earlier run left cannot be removed, or a folder cannot be made.
    #[error("cannot replace {path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// Writes `model.gguf` into a folder and, where the model has a `config.json`, the Hugging Face folder `model` with its
/// tokenizer. Numbers are BF16 where the model was trained with them.
///
/// # Errors
/// When they cannot be written.
pub fn write(
    subject: &Subject,
    weights: &dyn Weights,
    precision: Precision,
    folder: &Path,
) -> Result<Vec<PathBuf>, ExportError> {
    let (numbers, dtype) = match precision {
        Precision::F32 => (Numbers::F32, DType::F32),
        Precision::Bf16 => (Numbers::Bf16, DType::BF16),
    };
    let mut written = Vec::new();
    if let Some(object) = &subject.object {
        let path = folder.join("model");
        if path.exists() {
            let io = |source| ExportError::Io { path: path.clone(), source };
            std::fs::remove_dir_all(&path).map_err(io)?;
        }
        export_weights(&subject.sizes, object, &subject.graph, weights, &path, numbers)?;
        // Kinds of tokenizers that such files cannot say come with the GGUF file alone.
        let _ = subject.spec.to_hugging_face(&path);
        written.push(path);
    }
    let path = folder.join("model.gguf");
    let mut metadata = Metadata::new();
    subject.spec.to_gguf(&mut metadata)?;
    let options = Options { dtype: Some(dtype), output: Some(dtype), metadata, ..Options::default() };
    convert_weights(&subject.sizes, &subject.graph, weights, &path, &options)?;
    written.push(path);
    Ok(written)
}
