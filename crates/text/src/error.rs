//! What can be wrong with a tokenizer, and with what is asked of it.

/// Why a tokenizer could not be built or could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The tokenizer's model is none that this crate implements.
    #[error("unknown tokenizer model `{model}`; known: {known}", known = known.join(", "))]
    UnknownModel {
        /// The name in the file.
        model: String,
        /// The names that would have been accepted.
        known: &'static [&'static str],
    },
    /// `tokenizer.ggml.pre` names a pre-tokenizer that this crate does not implement.
    #[error("unknown pre-tokenizer `{pre}`; known: {known}", known = known.join(", "))]
    UnknownPre {
        /// The name in the file.
        pre: String,
        /// The names that would have been accepted.
        known: Vec<&'static str>,
    },
    /// The vocabulary has no tokens.
    #[error("the vocabulary has no tokens")]
    EmptyVocabulary,
    /// The vocabulary, or the text to encode, is larger than 32-bit positions can address.
    #[error("{what} is too large: {size}, at most {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The largest size that is accepted.
        limit: usize,
    },
    /// Two ids have the same text, so text cannot be mapped to one of them.
    #[error("duplicate token {text:?}: ids {first} and {second}")]
    DuplicateToken {
        /// The token's text.
        text: String,
        /// The smaller id.
        first: u32,
        /// The larger id.
        second: u32,
    },
    /// A list that goes beside the tokens has another length than they.
    #[error("`{field}` has {found} entries, the vocabulary {expected}")]
    LengthMismatch {
        /// The list's name.
        field: &'static str,
        /// The number of tokens.
        expected: usize,
        /// The list's length.
        found: usize,
    },
    /// A score is not a number.
    #[error("the score of token {id} is not a number")]
    ScoreNotANumber {
        /// The token.
        id: u32,
    },
    /// A merge is not two tokens separated by one space.
    #[error("merge {index} is not two tokens separated by a space: {text:?}")]
    MalformedMerge {
        /// Its place in the list.
        index: usize,
        /// What stands there.
        text: String,
    },
    /// A merge names a token, or gives a token, that is not in the vocabulary.
    #[error("merge {index} needs the token {token:?}, which is not in the vocabulary")]
    UnknownMergeToken {
        /// Its place in the list.
        index: usize,
        /// The missing token.
        token: String,
    },
    /// A named token id lies outside the vocabulary.
    #[error("`{field}` is {id}, but the vocabulary has {size} tokens")]
    SpecialIdOutOfRange {
        /// The field that names the id.
        field: &'static str,
        /// The id.
        id: u32,
        /// The number of tokens.
        size: usize,
    },
    /// The model adds a special token (BOS, EOS, ...) but does not say which id it has.
    #[error("the tokenizer adds `{name}` but names no such token")]
    MissingSpecial {
        /// The missing token.
        name: &'static str,
    },
    /// A token id to decode lies outside the vocabulary.
    #[error("token id {id} is beyond the vocabulary of {size} tokens")]
    TokenIdOutOfRange {
        /// The id.
        id: u32,
        /// The number of tokens.
        size: usize,
    },
    /// A piece of text that no tokens of this vocabulary can spell, and there is no unknown token.
    #[error("no token spells {text:?} and the vocabulary has neither its bytes nor an unknown token")]
    Unspellable {
        /// The text, shortened.
        text: String,
    },
    /// A pattern that is no valid regular expression or needs what this crate's engine lacks.
    #[error("pre-tokenizer pattern {pattern:?}: {message}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        message: String,
    },
    /// A GGUF key that is missing or has a wrong type.
    #[error(transparent)]
    Gguf(#[from] autarky_format::Error),
    /// A file that is not JSON.
    #[error("{file}: {source}")]
    Json {
        /// The file's name.
        file: String,
        /// The parser's complaint with line and column.
        source: serde_json::Error,
    },
    /// A field of a JSON or GGUF file with a wrong type or value.
    #[error("{file}: `{field}` {problem}")]
    Field {
        /// The file's name.
        file: String,
        /// The field's path.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file that could not be read or written.
    #[error("{file}: {source}")]
    Io {
        /// The file's path.
        file: String,
        /// The system's complaint.
        source: std::io::Error,
    },
    /// The normalization table of a SentencePiece model is damaged.
    #[error("`precompiled_charsmap`: {problem}")]
    Charsmap {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A setting that this crate does not implement, or that the form cannot say; ignoring it would give other
    /// tokens.
    #[error("{file}: `{field}` is {value}, which is not supported")]
    Unsupported {
        /// The file's name.
        file: String,
        /// The field's path.
        field: String,
        /// Its value, shortened.
        value: String,
    },
}

/// Shortens text for a message to about `limit` characters.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
