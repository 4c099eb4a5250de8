//! The data types that peaks are given for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A data type of multiplied inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // The names are the types' own.
pub enum DataType {
    Fp64,
    Fp32,
    Tf32,
    Fp16,
    Bf16,
    Fp8,
    Fp6,
    Fp4,
    Int8,
    Int4,
}

impl DataType {
    /// All of them, widest float first, then integers.
    pub const ALL: [DataType; 10] = [
        DataType::Fp64,
        DataType::Fp32,
        DataType::Tf32,
        DataType::Fp16,
        DataType::Bf16,
        DataType::Fp8,
        DataType::Fp6,
        DataType::Fp4,
        DataType::Int8,
        DataType::Int4,
    ];

    /// The name in data files and tables.
    pub fn name(self) -> &'static str {
        match self {
            DataType::Fp64 => "fp64",
            DataType::Fp32 => "fp32",
            DataType::Tf32 => "tf32",
            DataType::Fp16 => "fp16",
            DataType::Bf16 => "bf16",
            DataType::Fp8 => "fp8",
            DataType::Fp6 => "fp6",
            DataType::Fp4 => "fp4",
            DataType::Int8 => "int8",
            DataType::Int4 => "int4",
        }
    }

    /// The bit length that Total Processing Performance multiplies operations with (15 CFR 774 Supp. 1, technical
    /// notes to ECCN 3A090); none for TF32, whose length readers of the rule treat differently.
    pub fn tpp_bits(self) -> Option<f64> {
        match self {
            DataType::Fp64 => Some(64.0),
            DataType::Fp32 => Some(32.0),
            DataType::Tf32 => None,
            DataType::Fp16 | DataType::Bf16 => Some(16.0),
            DataType::Fp8 | DataType::Int8 => Some(8.0),
            DataType::Fp6 => Some(6.0),
            DataType::Fp4 | DataType::Int4 => Some(4.0),
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
