//! The corpus: every damaged file, made when it is asked for, with what must be said to it.

use crate::models::{self, Gguf};

/// What a damaged file must be answered.
#[derive(Clone, Debug)]
pub enum Expect {
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
pub fn refused<S: Into<String>>(words: impl IntoIterator<Item = S>) -> Expect {
    Expect::Refused(words.into_iter().map(Into::into).collect())
}

/// Refused, with one of these words.
pub fn refused_for<S: Into<String>>(words: impl IntoIterator<Item = S>) -> Expect {
    Expect::RefusedFor(words.into_iter().map(Into::into).collect())
}

/// A file of a folder and its bytes; `None` for a file that is not there.
pub type FileOf = (&'static str, Option<Vec<u8>>);

/// A damaged model.
#[derive(Debug)]
pub struct Case {
    /// What was done to it.
    pub what: String,
    /// `model.gguf`, or the files of a Hugging Face folder that differ from those of a valid one.
    pub files: Vec<FileOf>,
    /// What must be said.
    pub expect: Expect,
}

/// Takes cases one by one.
pub type Each<'a> = dyn FnMut(Case) + 'a;

/// The name of the GGUF file.
pub const GGUF: &str = "model.gguf";

/// A case of GGUF bytes.
pub fn gguf(what: impl Into<String>, bytes: Vec<u8>, expect: Expect) -> Case {
    Case { what: what.into(), files: vec![(GGUF, Some(bytes))], expect }
}

/// A case of a GGUF model.
pub fn gguf_model(what: impl Into<String>, model: &Gguf, expect: Expect) -> Case {
    gguf(what, model.bytes().expect("a file that can be written"), expect)
}

/// The valid models, by name.
pub fn valid() -> [(&'static str, Gguf); 3] {
    [("llama", models::dense()), ("qwen3moe", models::experts()), ("deepseek2", models::latent())]
}

/// The files of a valid Hugging Face folder.
pub fn folder() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("config.json", models::HF_CONFIG.into()),
        ("model.safetensors", models::safetensors_bytes(&models::hf_tensors()).expect("a valid file")),
        ("tokenizer.json", models::TOKENIZER_JSON.into()),
        ("tokenizer_config.json", models::TOKENIZER_CONFIG.into()),
    ]
}
