//! A model's tensors, whatever format they are in.

use std::io::Read;
use std::path::Path;

use crate::error::{Error, Place};
use crate::gguf;
use crate::map::open_regular;
use crate::safetensors;
use crate::tensor::TensorView;

/// An opened model: a GGUF file or safetensors, each whole or in shards.
#[derive(Debug)]
#[non_exhaustive]
pub enum Source {
    /// A GGUF file, with metadata beside the tensors.
    Gguf(gguf::File),
    /// A Hugging Face folder's safetensors (its `config.json` is read elsewhere).
    SafeTensors(safetensors::File),
}

impl Source {
    /// Opens a GGUF file, a safetensors file, a safetensors index, or a folder that holds one of the latter two.
    ///
    /// # Errors
    /// Those of [`gguf::File::open`] and [`safetensors::File::open`]; [`Error::WrongFormat`] for other files.
    pub fn open(path: impl AsRef<Path>) -> Result<Source, Error> {
        let path = path.as_ref();
        if path.is_dir() {
            return safetensors::File::open_folder(path).map(Source::SafeTensors);
        }
        let start = first_bytes(path)?;
        match path.extension().and_then(|e| e.to_str()) {
            Some("gguf") => gguf::File::open(path).map(Source::Gguf),
            Some("safetensors" | "json") => safetensors::File::open(path).map(Source::SafeTensors),
            _ if start.starts_with(b"GGUF") => gguf::File::open(path).map(Source::Gguf),
            _ if start.get(8) == Some(&b'{') => safetensors::File::open(path).map(Source::SafeTensors),
            _ => Err(Error::WrongFormat {
                place: Place::new(Some(path), Some(0), "magic"),
                expected: "a GGUF or safetensors file",
                found: format!("\"{}\"", start.get(..start.len().min(4)).unwrap_or_default().escape_ascii()),
            }),
        }
    }

    /// A tensor by name, or `None` when it is absent or of a type that is not computed with.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        match self {
            Source::Gguf(file) => file.tensor(name),
            Source::SafeTensors(file) => file.tensor(name),
        }
    }

    /// A tensor by name.
    ///
    /// # Errors
    /// When it is absent or of a type that is not computed with; the error says which.
    pub fn require(&self, name: &str) -> Result<TensorView<'_>, Error> {
        match self {
            Source::Gguf(file) => file.require(name),
            Source::SafeTensors(file) => file.require(name),
        }
    }

    /// The names of all tensors in the order of the files.
    pub fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Source::Gguf(file) => Box::new(file.tensors().iter().map(|t| &*t.name)),
            Source::SafeTensors(file) => Box::new(file.tensors().iter().map(|t| &*t.name)),
        }
    }

    /// Gives the memory of a tensor's pages back to the system. Its bytes stay readable and are fetched anew.
    ///
    /// For a device that has packed its own copy. Does nothing for an unknown name or on systems without the advice.
    pub fn release(&self, name: &str) {
        match self {
            Source::Gguf(file) => file.release(name),
            Source::SafeTensors(file) => file.release(name),
        }
    }

    /// Keys and values of a GGUF file; `None` for safetensors.
    pub fn metadata(&self) -> Option<&gguf::Metadata> {
        match self {
            Source::Gguf(file) => Some(file.metadata()),
            Source::SafeTensors(_) => None,
        }
    }

    /// The path of the file, or of the index that names the shards.
    pub fn path(&self) -> &Path {
        match self {
            Source::Gguf(file) => file.path(),
            Source::SafeTensors(file) => file.path(),
        }
    }

    /// The length of the file, or of all shards together, in bytes.
    pub fn file_bytes(&self) -> u64 {
        match self {
            Source::Gguf(file) => file.file_bytes(),
            Source::SafeTensors(file) => file.file_bytes(),
        }
    }

    /// Fails when a file's length is no longer what it was when opened: a sign that something still writes it.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        match self {
            Source::Gguf(file) => file.check_unchanged(),
            Source::SafeTensors(file) => file.check_unchanged(),
        }
    }
}

/// Up to nine bytes from the start of a file: enough to tell the formats apart.
fn first_bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let mut start = Vec::new();
    open_regular(path)?.take(9).read_to_end(&mut start).map_err(|e| Error::io(path, "read", e))?;
    Ok(start)
}
