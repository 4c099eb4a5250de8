//! GGUF: ggml's model files, versions 2 and 3, little-endian.
//!
//! [`File`] is a mapped file (or the shards of one model), [`Gguf`] a parse of bytes in memory. Both give
//! [`Metadata`] and tensors by name.

mod file;
mod metadata;
mod parse;
mod types;
mod value;
mod writer;

pub use file::{File, Gguf};
pub use metadata::{FromValue, Metadata};
pub use parse::{DEFAULT_ALIGNMENT, TensorInfo};
pub use types::{dtype_from_id, dtype_id};
pub use value::{Array, StrArray, Value, ValueType};
pub use writer::{Writer, to_bytes};
