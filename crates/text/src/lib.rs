//! Text in and out of models: tokenizers, chat templates, and answers taken apart.
//!
//! A [`Spec`] is what a file says about a tokenizer, a [`Tokenizer`] what can be used. Between text and ids
//! lie five steps, each a module:
//!
//! 1. `special`: control and user-defined tokens are split off;
//! 2. `normalizer`: the text between is brought into the form that the model was trained on;
//! 3. `pre_tokenizer`: it is cut into pieces, by patterns (`pattern`) that GGUF knows by name (`pre`);
//! 4. `bpe`, `sentencepiece`, `unigram`, `wordpiece`: each piece becomes tokens;
//! 5. `stream`: tokens become characters again, never half of one.
//!
//! A [`Learner`] makes a [`Spec`] from text instead (`learn`); `hugging_face` and `gguf` write one as well as
//! read it.
//!
//! [`ChatTemplate`] turns conversations into text, with an interpreter of its own (`jinja`) that bounds what
//! a template may cost; [`ChatFormat`] makes prompts of it that nobody can forge. [`AnswerParser`] takes apart what
//! the model answers: content, reasoning and calls of tools.
//!
//! Vocabularies, patterns, templates and texts come from outside: whatever is wrong with them is a
//! [`TokenizerError`], never a panic, and no text takes more than O(n log n) time to encode.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod answer;
mod bpe;
mod byte_alphabet;
mod charsmap;
mod chat;
mod classes;
mod error;
mod gguf;
mod hash;
mod hugging_face;
mod jinja;
mod learn;
mod merge;
mod merges_to_scores;
mod normalizer;
mod pattern;
mod pipeline;
mod pre;
mod pre_tokenizer;
mod sampling_hints;
mod sentencepiece;
mod spec;
mod special;
mod stream;
mod tokenizer;
mod unigram;
mod vocabulary;
mod wordpiece;

pub use answer::{
    Answer, AnswerFormat, AnswerOptions, AnswerParser, AnswerPart, CallFormat, CallSyntax, ReasoningFormat,
    ToolCall,
};
pub use chat::{
    ChatError, ChatFormat, ChatTemplate, Conversation, Fault, Lesson, Message, Prompt, RenderOptions,
    TemplateError,
};
pub use error::TokenizerError;
pub use hugging_face::HuggingFaceFiles;
pub use jinja::DateTime;
pub use learn::{LearnError, LearnOptions, Learner};
pub use pipeline::Pipeline;
pub use sampling_hints::SamplingHints;
pub use spec::{Model, Spec, SpecialIds, TokenType};
pub use stream::StreamDecoder;
pub use tokenizer::{EncodeOptions, Tokenizer};
