//! Model files, read and written safely: GGUF, safetensors, and llama2.c checkpoints.
//!
//! Every byte that is read is taken as hostile. Sizes are checked against what is left of the file before anything is
//! allocated, arithmetic on them is checked, and the answer to bad input is an [`Error`] that names file, offset and
//! field. Files are mapped into memory; tensors are borrowed from the mapping as [`TensorView`]s.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]
#![deny(unsafe_code)]

mod cursor;
mod error;
pub mod gguf;
mod index;
mod json;
pub mod llama2c;
mod map;
pub mod safetensors;
mod source;
mod tensor;
mod write;

pub use error::{Error, Place};
pub use map::Map;
pub use source::Source;
pub use tensor::{TensorSpec, TensorView};
