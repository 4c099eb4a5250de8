//! Data types and quantization blocks: geometry, dequantization, quantization.
//!
//! Layouts are those of the ggml types of the same names. This crate knows no files, graphs or devices.

mod dtype;

pub use dtype::DType;
