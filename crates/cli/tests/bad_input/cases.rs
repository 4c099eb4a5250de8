//! The corpus: every damaged file, made when it is asked for, with what must be said to it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::models::{self, Gguf};

/// What a damaged file must be answered.
#[derive(Clone, Debug)]
pub(crate) enum Expect {
    /// An error whose text has each of these, beside the file's name.
    Refused(Vec<String>),
    /// An error whose text has one of these, beside the file's name.
    RefusedFor(Vec<String>),
    /// Either all goes well, or there is an error with the file's name: the damage may make another valid file.
    Any,
    /// All goes well.
    Accepted,
}

/// Refused, with each of these words.
pub(crate) fn refused<S: Into<String>>(words: impl IntoIterator<Item = S>) -> Expect {
    Expect::Refused(words.into_iter().map(Into::into).collect())
}

/// Refused, with one of these words.
pub(crate) fn refused_for<S: Into<String>>(words: impl IntoIterator<Item = S>) -> Expect {
    Expect::RefusedFor(words.into_iter().map(Into::into).collect())
}

/// A file of a folder and its bytes; `None` for a file that is not there.
pub(crate) type FileOf = (&'static str, Option<Vec<u8>>);

/// A damaged model.
#[derive(Debug)]
pub(crate) struct Case {
    /// What was done to it.
    pub(crate) what: String,
    /// `model.gguf`, or the files of a Hugging Face folder that differ from those of a valid one.
    pub(crate) files: Vec<FileOf>,
    /// What must be said.
    pub(crate) expect: Expect,
}

impl Case {
    /// Writes the case's files below `scratch` and gives the path to open.
    pub(crate) fn write(&self, scratch: &Path) -> PathBuf {
        if let [(GGUF, Some(bytes))] = &*self.files {
            let path = scratch.join(GGUF);
            fs::write(&path, bytes).unwrap();
            return path;
        }
        let path = scratch.join("hf-model");
        fs::create_dir_all(&path).unwrap();
        for (name, bytes) in folder() {
            fs::write(path.join(name), bytes).unwrap();
        }
        for (name, bytes) in &self.files {
            match bytes {
                Some(bytes) => fs::write(path.join(name), bytes).unwrap(),
                None => fs::remove_file(path.join(name)).unwrap(),
            }
        }
        path
    }
}

/// Takes cases one by one.
pub(crate) type Each<'a> = dyn FnMut(Case) + 'a;

/// The name of the GGUF file.
pub(crate) const GGUF: &str = "model.gguf";

/// A case of GGUF bytes.
pub(crate) fn gguf(what: impl Into<String>, bytes: Vec<u8>, expect: Expect) -> Case {
    Case { what: what.into(), files: vec![(GGUF, Some(bytes))], expect }
}

/// A case of a GGUF model.
pub(crate) fn gguf_model(what: impl Into<String>, model: &Gguf, expect: Expect) -> Case {
    gguf(what, model.bytes().expect("a file that can be written"), expect)
}

/// The valid models, by name.
pub(crate) fn valid() -> [(&'static str, Gguf); 3] {
    [("llama", models::dense()), ("qwen3moe", models::experts()), ("deepseek2", models::latent())]
}

/// The files of a valid Hugging Face folder.
pub(crate) fn folder() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("config.json", models::HF_CONFIG.into()),
        ("model.safetensors", models::safetensors_bytes(&models::hf_tensors()).expect("a valid file")),
        ("tokenizer.json", models::TOKENIZER_JSON.into()),
        ("tokenizer_config.json", models::TOKENIZER_CONFIG.into()),
    ]
}
