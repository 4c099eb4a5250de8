//! safetensors: Hugging Face's tensor files, whole or in shards.
//!
//! [`File`] is a mapped file (or the shards of one model), [`SafeTensors`] a parse of bytes in memory.

mod dtype;
mod file;
mod header;
mod shards;
mod writer;

pub use dtype::SafeDType;
pub use file::{File, RawTensor, SafeTensors};
pub use header::TensorInfo;
pub use writer::{ShardedWriter, Writer, to_bytes};
