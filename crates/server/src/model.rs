//! A model that is being served, and what makes one from its files.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use autarky_engine::service::Service;
use autarky_engine::{ConstraintError, ConstraintVocabulary};
use autarky_text::{ChatFormat, Tokenizer};

/// What a model is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFiles {
    /// Its file or folder.
    pub path: PathBuf,
    /// An adapter that is applied to it: a GGUF file, or a folder that PEFT wrote.
    pub adapter: Option<PathBuf>,
}

/// What can be said of a model without loading it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// Its family, such as `llama`.
    pub family: String,
    /// Numbers in its weights.
    pub parameters: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Positions that one sequence may have here.
    pub context: usize,
    /// Whether it has a chat template: it answers messages, and does not only continue text.
    pub chat: bool,
    /// Bytes of memory that loading it takes.
    pub memory: u64,
}

/// A model in memory.
pub struct LoadedModel {
    /// Runs its jobs.
    pub service: Service,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// What was known of it before.
    pub info: ModelInfo,
    /// What it runs on, such as `cpu (avx512_vnni)`.
    pub device: String,
    /// Made when first asked for.
    chat: OnceLock<Result<Option<ChatFormat>, String>>,
    /// The same.
    vocabulary: OnceLock<Result<Arc<ConstraintVocabulary>, ConstraintError>>,
}

impl LoadedModel {
    /// A model that is ready to run.
    pub fn new(service: Service, tokenizer: Arc<Tokenizer>, info: ModelInfo, device: String) -> LoadedModel {
        LoadedModel { service, tokenizer, info, device, chat: OnceLock::new(), vocabulary: OnceLock::new() }
    }

    /// How to talk with it; `None` if it has no chat template.
    ///
    /// # Errors
    /// When its chat template cannot be used, in words.
    pub fn chat(&self) -> Result<Option<&ChatFormat>, &str> {
        let made = self.chat.get_or_init(|| ChatFormat::of(&self.tokenizer).map_err(|e| e.to_string()));
        made.as_ref().map(Option::as_ref).map_err(String::as_str)
    }

    /// What constraints of its answers are made from. Takes a moment when first asked for.
    ///
    /// # Errors
    /// When its tokens cannot be used for that.
    pub fn vocabulary(&self) -> Result<&Arc<ConstraintVocabulary>, &ConstraintError> {
        self.vocabulary.get_or_init(|| ConstraintVocabulary::new(&self.tokenizer)).as_ref()
    }

    /// Whether [`LoadedModel::chat`] takes no time any more.
    pub(crate) fn is_ready_to_talk(&self) -> bool {
        self.chat.get().is_some()
    }
}

/// Why a model could not be opened or loaded, in words for its user.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(pub String);

/// Makes models from files: the part of serving that knows devices and what is in files.
pub trait Loader: Send + Sync {
    /// Reads what can be said of the model of these files without loading it.
    ///
    /// # Errors
    /// When there is no model, none that runs here, or the adapter is not one for it.
    fn inspect(&self, files: &ModelFiles) -> Result<ModelInfo, LoadError>;

    /// Loads it. `progress` hears the part that is done, from 0 to 1.
    ///
    /// # Errors
    /// As [`Loader::inspect`], and when the memory for it is not there.
    fn load(&self, files: &ModelFiles, progress: &(dyn Fn(f32) + Sync)) -> Result<LoadedModel, LoadError>;
}
