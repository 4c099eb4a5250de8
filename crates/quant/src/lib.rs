//! Data types and quantization blocks: geometry, dequantization, quantization.
//!
//! Layouts are those of the ggml types of the same names. This crate knows no files, graphs or devices.

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
