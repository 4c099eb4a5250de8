//! The element types of safetensors.

use std::fmt;

use autarky_quant::DType;

/// How a safetensors tensor's elements are stored, in the order of the format's own list: narrow before wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types, missing_docs)] // Named as in the format.
pub enum SafeDType {
    BOOL,
    F4,
    F6_E2M3,
    F6_E3M2,
    U8,
    I8,
    F8_E5M2,
    F8_E4M3,
    F8_E8M0,
    F8_E4M3FNUZ,
    F8_E5M2FNUZ,
    I16,
    U16,
    F16,
    BF16,
    I32,
    U32,
    F32,
    C64,
    F64,
    I64,
    U64,
}

impl SafeDType {
    const ALL: [(SafeDType, &'static str); 22] = [
        (SafeDType::BOOL, "BOOL"),
        (SafeDType::F4, "F4"),
        (SafeDType::F6_E2M3, "F6_E2M3"),
        (SafeDType::F6_E3M2, "F6_E3M2"),
        (SafeDType::U8, "U8"),
        (SafeDType::I8, "I8"),
        (SafeDType::F8_E5M2, "F8_E5M2"),
        (SafeDType::F8_E4M3, "F8_E4M3"),
        (SafeDType::F8_E8M0, "F8_E8M0"),
        (SafeDType::F8_E4M3FNUZ, "F8_E4M3FNUZ"),
        (SafeDType::F8_E5M2FNUZ, "F8_E5M2FNUZ"),
        (SafeDType::I16, "I16"),
        (SafeDType::U16, "U16"),
        (SafeDType::F16, "F16"),
        (SafeDType::BF16, "BF16"),
        (SafeDType::I32, "I32"),
        (SafeDType::U32, "U32"),
        (SafeDType::F32, "F32"),
        (SafeDType::C64, "C64"),
        (SafeDType::F64, "F64"),
        (SafeDType::I64, "I64"),
        (SafeDType::U64, "U64"),
    ];

    /// The name in the file, such as `BF16`.
    pub fn name(self) -> &'static str {
        SafeDType::ALL.iter().find(|(dtype, _)| *dtype == self).map_or("", |(_, name)| name)
    }

    /// The type of that name, or `None`.
    pub fn from_name(name: &str) -> Option<SafeDType> {
        SafeDType::ALL.iter().find(|(_, known)| *known == name).map(|(dtype, _)| *dtype)
    }

    /// Bits of one element.
    pub const fn bits(self) -> usize {
        match self {
            SafeDType::F4 => 4,
            SafeDType::F6_E2M3 | SafeDType::F6_E3M2 => 6,
            SafeDType::BOOL | SafeDType::U8 | SafeDType::I8 => 8,
            SafeDType::F8_E5M2 | SafeDType::F8_E4M3 | SafeDType::F8_E8M0 => 8,
            SafeDType::F8_E4M3FNUZ | SafeDType::F8_E5M2FNUZ => 8,
            SafeDType::I16 | SafeDType::U16 | SafeDType::F16 | SafeDType::BF16 => 16,
            SafeDType::I32 | SafeDType::U32 | SafeDType::F32 => 32,
            SafeDType::C64 | SafeDType::F64 | SafeDType::I64 | SafeDType::U64 => 64,
        }
    }

    /// Bytes that `elements` take, or `None` when they are not whole bytes or the size overflows.
    pub const fn bytes(self, elements: usize) -> Option<usize> {
        match elements.checked_mul(self.bits()) {
            Some(bits) if bits.is_multiple_of(8) => Some(bits / 8),
            _ => None,
        }
    }

    /// The same type as a [`DType`], for those that weights are computed with: F32, F16 and BF16.
    pub const fn dtype(self) -> Option<DType> {
        match self {
            SafeDType::F32 => Some(DType::F32),
            SafeDType::F16 => Some(DType::F16),
            SafeDType::BF16 => Some(DType::BF16),
            _ => None,
        }
    }
}

impl fmt::Display for SafeDType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl TryFrom<DType> for SafeDType {
    type Error = DType;

    /// The same type in safetensors, or the type back when it has none (every quantized one).
    fn try_from(dtype: DType) -> Result<SafeDType, DType> {
        match dtype {
            DType::F32 => Ok(SafeDType::F32),
            DType::F16 => Ok(SafeDType::F16),
            DType::BF16 => Ok(SafeDType::BF16),
            other => Err(other),
        }
    }
}
