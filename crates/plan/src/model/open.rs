//! A model from a path or a name.

use std::path::Path;

use autarky_family::FamilyError;

use super::{Model, Models, Shape, UnknownModel, config};

/// Why a name or a path is no model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No file is there, and no model has the name.
    #[error(transparent)]
    Unknown(#[from] UnknownModel),
    /// The file is no model of a family that is known.
    #[error(transparent)]
    Family(#[from] Box<FamilyError>),
    /// The family is unknown and its configuration does not give a size without which nothing can be said.
    #[error("{problem}; and its sizes alone say too little: no `{size}`")]
    Sizes {
        /// What the family's absence was told as.
        problem: String,
        /// The size, as [`Shape`] calls it.
        size: &'static str,
    },
}

impl Model {
    /// The model at a path (a GGUF file, a Hugging Face folder or its `config.json`, with or without weights), or the one
    /// of that name ([`Models::find`]). A family that is not known is summed from its configuration's sizes, which
    /// [`Model::assumed`] says.
    ///
    /// # Errors
    /// The file is no sound model, or there is neither a file nor a model of that name; the nearest names are told.
    pub fn open(name: &str) -> Result<Model, OpenError> {
        let path = Path::new(name);
        if path.exists() || looks_like_file(path) {
            return at(path);
        }
        let shape: &Shape = Models::find(name)?;
        Model::from_shape(shape).map_err(|size| OpenError::Sizes {
            problem: format!("{} is known by name only", shape.name),
            size,
        })
    }
}

fn looks_like_file(path: &Path) -> bool {
    path.is_absolute() || path.extension().is_some_and(|e| e == "json" || e == "gguf")
}

fn at(path: &Path) -> Result<Model, OpenError> {
    let family = |e: FamilyError| OpenError::Family(Box::new(e));
    if !path.is_dir() && path.extension().is_none_or(|e| e != "json") {
        let model = autarky_family::Model::open(path).map_err(family)?;
        return Ok(Model::from_graph(&title(path), model.config(), model.graph()));
    }
    match autarky_family::outline(path) {
        Ok(outline) => Ok(Model::from_graph(&title(path), &outline.config, &outline.graph)),
        Err(error @ (FamilyError::UnknownFamily { .. } | FamilyError::Unsupported { .. })) => {
            let file = if path.is_dir() { path.join("config.json") } else { path.to_owned() };
            let shape = config::shape(&file, &title(path)).ok_or_else(|| family_words(&error))?;
            let mut model = Model::from_shape(&shape)
                .map_err(|size| OpenError::Sizes { problem: error.to_string(), size })?;
            model
                .assumed
                .push("the family is not known here: its work is summed from the configuration's sizes");
            Ok(model)
        }
        Err(error) => Err(family(error)),
    }
}

fn family_words(error: &FamilyError) -> OpenError {
    OpenError::Sizes { problem: error.to_string(), size: "hidden" }
}

/// What a model of a file is called: the file, or the folder of a `config.json`.
fn title(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let named = match whole.file_name().is_some_and(|n| n == "config.json") {
        true => whole.parent().and_then(Path::file_name),
        false => whole.file_stem(),
    };
    // A folder's name may have a dot in it.
    let named = if whole.is_dir() { whole.file_name() } else { named };
    named.map_or_else(|| "model".to_owned(), |n| n.to_string_lossy().into_owned())
}
