//! The numbers by which GGUF files name tensor types.
//!
//! Numbers and names are those of `enum ggml_type` (ggml.h) and of gguf-py's `GGMLQuantizationType`.

use autarky_quant::DType;

/// Types that this crate reads, with their numbers.
const READ: [(u32, DType); 16] = [
    (0, DType::F32),
    (1, DType::F16),
    (2, DType::Q4_0),
    (3, DType::Q4_1),
    (6, DType::Q5_0),
    (7, DType::Q5_1),
    (8, DType::Q8_0),
    (10, DType::Q2_K),
    (11, DType::Q3_K),
    (12, DType::Q4_K),
    (13, DType::Q5_K),
    (14, DType::Q6_K),
    (20, DType::IQ4_NL),
    (23, DType::IQ4_XS),
    (30, DType::BF16),
    (39, DType::MXFP4),
];

/// Types that are known but not read: live ones, and those that ggml itself has withdrawn.
const REFUSED: [(u32, &str); 26] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

/// The data type with this number in the file, or what to call the number when it is not read: `IQ2_XXS (type 16)`.
pub fn dtype_from_id(id: u32) -> Result<DType, String> {
    if let Some(&(_, dtype)) = READ.iter().find(|(n, _)| *n == id) {
        return Ok(dtype);
    }
    let name = REFUSED.iter().find(|(n, _)| *n == id).map_or("an unknown type", |(_, name)| name);
    Err(format!("{name} (type {id})"))
}

/// A data type's number in the file.
pub fn dtype_id(dtype: DType) -> u32 {
    // A match, so that a new type cannot be forgotten here.
    match dtype {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::Q4_0 => 2,
        DType::Q4_1 => 3,
        DType::Q5_0 => 6,
        DType::Q5_1 => 7,
        DType::Q8_0 => 8,
        DType::Q2_K => 10,
        DType::Q3_K => 11,
        DType::Q4_K => 12,
        DType::Q5_K => 13,
        DType::Q6_K => 14,
        DType::IQ4_NL => 20,
        DType::IQ4_XS => 23,
        DType::BF16 => 30,
        DType::MXFP4 => 39,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_types_map_to_each_other() {
        for dtype in DType::ALL {
            assert_eq!(dtype_from_id(dtype_id(dtype)), Ok(dtype), "{dtype} does not survive its number");
        }
        assert_eq!(dtype_from_id(16).unwrap_err(), "IQ2_XXS (type 16)");
        assert_eq!(dtype_from_id(4096).unwrap_err(), "an unknown type (type 4096)");
    }
}
