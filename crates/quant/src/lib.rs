//! Data types and quantization blocks: geometry, dequantization, quantization.
//!
//! Layouts are those of the ggml types of the same names. This crate knows no files, graphs or devices.
//!
//! - [`DType`]: names and geometry of the types.
//! - [`dequantize`](dequantize()): blocks to `f32`, bit for bit as the PyPI package `gguf` does it.
//! - [`codes`](mod@codes): a block's integers and scales, for kernels that compute with them, and the one formula that
//!   ties them to what `dequantize` gives.
//! - [`quantize`](quantize()): `f32` to blocks.
//!
//! `tests/check_gguf.py` compares all of it with `gguf` on random blocks; its first lines say how to run it.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod codes;
mod dequantize;
mod dtype;
mod error;
mod quantize;

pub use codes::{Codes, Grid, Levels, codes};
pub use dequantize::dequantize;
pub use dtype::DType;
pub use error::QuantError;
pub use quantize::quantize;
