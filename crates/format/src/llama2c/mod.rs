//! llama2.c's model and tokenizer files, in the format of its first export (version 0).
//!
//! The layouts are those of `export.py` (`legacy_export`) and `tokenizer.py` in the llama2.c repository.

mod checkpoint;
mod tokenizer;

pub use checkpoint::{Checkpoint, Config};
pub use tokenizer::{Piece, Tokenizer};
