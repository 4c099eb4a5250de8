//! The result of a run, in the forms that others read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use autarky_family::convert::Options;
use autarky_family::{
    AdapterSpec, FamilyError, Numbers, Update, convert_weights, export_adapter, export_adapter_gguf,
    export_weights,
};
use autarky_format::gguf::Metadata;
use autarky_graph::adapt::{DOWN, UP};
use autarky_graph::{Graph, Weights};
use autarky_quant::DType;
use autarky_text::TokenizerError;
use thiserror::Error;

use crate::adapter::Adapter;
use crate::subject::Subject;
use crate::trainer::{Precision, Trainer};

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
/// tokenizer. Numbers are BF16 where the model was trained with them. Of an adapter its own files come first, `adapter` in
/// PEFT's form and `adapter.gguf`; the model is written with the updates in it, if that is asked for.
///
/// # Errors
/// When they cannot be written.
pub fn write(
    subject: &Subject,
    trainer: &Trainer,
    precision: Precision,
    folder: &Path,
) -> Result<Vec<PathBuf>, ExportError> {
    let Some(adapter) = &subject.adapter else {
        return model(subject, &subject.graph, trainer, precision, folder);
    };
    let mut written = updates(subject, adapter, trainer, folder)?;
    if adapter.config.merge {
        let merged = adapter.merged(subject.weights(), trainer);
        written.extend(model(subject, &adapter.base, &merged, precision, folder)?);
    }
    Ok(written)
}

/// The updates by themselves.
fn updates(
    subject: &Subject,
    adapter: &Adapter,
    trainer: &Trainer,
    folder: &Path,
) -> Result<Vec<PathBuf>, ExportError> {
    let numbers: HashMap<&str, &[f32]> = trainer.state().map(|w| (w.name, w.numbers)).collect();
    let update = |(name, down): (&&str, &&[f32])| -> Option<Update> {
        let weight = name.strip_suffix(DOWN)?;
        let up = numbers.get(&*format!("{weight}{UP}"))?;
        Some(Update { weight: weight.to_owned(), down: down.to_vec(), up: up.to_vec() })
    };
    let mut updates: Vec<Update> = numbers.iter().filter_map(update).collect();
    updates.sort_by(|a, b| a.weight.cmp(&b.weight));
    let config = &adapter.config;
    let spec = AdapterSpec {
        rank: config.rank,
        alpha: config.alpha(),
        rank_stabilized: config.rank_stabilized,
        base: subject.name.clone(),
    };
    let (peft, gguf) = (folder.join("adapter"), folder.join("adapter.gguf"));
    export_adapter(&subject.sizes, &spec, &updates, &peft)?;
    export_adapter_gguf(&subject.sizes, &spec, &updates, &gguf)?;
    Ok(vec![peft, gguf])
}

fn model(
    subject: &Subject,
    graph: &Graph,
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
        export_weights(&subject.sizes, object, graph, weights, &path, numbers)?;
        // Kinds of tokenizers that such files cannot say come with the GGUF file alone.
        let _ = subject.spec.to_hugging_face(&path);
        written.push(path);
    }
    let path = folder.join("model.gguf");
    let mut metadata = Metadata::new();
    subject.spec.to_gguf(&mut metadata)?;
    let options = Options { dtype: Some(dtype), output: Some(dtype), metadata, ..Options::default() };
    convert_weights(&subject.sizes, graph, weights, &path, &options)?;
    written.push(path);
    Ok(written)
}
