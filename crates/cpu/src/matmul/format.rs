//! Packed formats: what of a data type its kernels need to know, as constants.

use autarky_quant::{DType, Levels};

/// Rows of a panel: the lanes of a 512-bit vector of `f32`.
pub const PANEL_ROWS: usize = 16;
/// Elements of a row in one chunk: a super-block of the K types.
pub const CHUNK: usize = 256;
/// Elements of a row that training's products run through at a time, a stripe: a hundred rows and a few panels of them stay in
/// the second-level cache.
pub(crate) const STRIPE: usize = 8 * CHUNK;
/// Bytes of a word of four bytes of each row of a panel.
pub(crate) const WORDS: usize = 4 * PANEL_ROWS;
/// Elements of a row in one group: they share a scale of the activations.
pub const GROUP: usize = 32;
/// Groups of a full chunk.
pub(crate) const CHUNK_GROUPS: usize = CHUNK / GROUP;
/// Bytes of the codes of one group of a panel, unpacked to a byte each.
pub(crate) const GROUP_CODES: usize = PANEL_ROWS * GROUP;

/// How the scales of a chunk are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scales {
    /// For each group `d` (16 × f16), and if the type has minima `dmin` (16 × f16).
    Plain,
    /// For each group 16 exponent bytes.
    Exponent,
    /// `d` (16 × f16), if the type has minima `dmin` (16 × f16); then for each scale group 16 scale bytes and, if the
    /// type has minima, 16 minimum bytes.
    Super,
    /// As [`Scales::Super`], but one byte holds scale (low nibble) and minimum (high nibble).
    SuperNibbles,
}

/// The constants of a packed quantized type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    /// Bits of a stored code: 2, 3, 4, 5, 6 or 8.
    pub(crate) bits: usize,
    /// Elements that share a scale: 16 or 32.
    pub(crate) scale_group: usize,
    /// log2 of the unsigned code that stands for level 0; without meaning when `centred` is false.
    pub(crate) zero_shift: u32,
    /// Whether level 0 is not code 0.
    pub(crate) centred: bool,
    /// The unsigned code of each stored code, when it is not the stored code itself.
    pub(crate) table: Option<[u8; 16]>,
    /// Whether the type has minima.
    pub(crate) mins: bool,
    pub(crate) scales: Scales,
}

impl Spec {
    /// The constants for `dtype`, or `None` for a plain float type.
    pub(crate) const fn of(dtype: DType) -> Option<Spec> {
        let Some(grid) = dtype.grid() else {
            return None;
        };
        let (zero, table) = match grid.levels {
            Levels::Offset { zero } => (zero, None),
            // Packing adds 128 to the signed byte.
            Levels::Signed => (128, None),
            Levels::Table(levels) => {
                // A small zero keeps codes below 32, which lets AVX2 add more products in 16 bits.
                let mut zero = 16u8;
                let mut i = 0;
                while i < 16 {
                    if levels[i] < -16 || levels[i] > 15 {
                        zero = 128;
                    }
                    i += 1;
                }
                let mut table = [0; 16];
                let mut i = 0;
                while i < 16 {
                    table[i] = (levels[i] as i16 + zero as i16) as u8;
                    i += 1;
                }
                (zero, Some(table))
            }
        };
        assert!(zero == 0 || zero.is_power_of_two());
        let scales = match dtype {
            DType::MXFP4 => Scales::Exponent,
            DType::Q2_K => Scales::SuperNibbles,
            _ if grid.has_scales => Scales::Super,
            _ => Scales::Plain,
        };
        Some(Spec {
            bits: grid.code_bits as usize,
            scale_group: grid.group,
            zero_shift: if zero == 0 { 0 } else { zero.trailing_zeros() },
            centred: zero != 0,
            table,
            mins: grid.has_mins,
            scales,
        })
    }

    /// The unsigned code of level 0.
    pub(crate) const fn zero(&self) -> u8 {
        if self.centred { 1 << self.zero_shift } else { 0 }
    }

    /// The largest unsigned code, or a power of two less one above it.
    pub(crate) const fn largest(&self) -> usize {
        match self.table {
            Some(_) if self.zero() == 16 => 31,
            Some(_) => 255,
            None => (1 << self.bits) - 1,
        }
    }

    /// Bytes of the codes of one group of a panel.
    pub(crate) const fn group_bytes(&self) -> usize {
        GROUP_CODES * self.bits / 8
    }

    /// Bytes of the scales of a chunk of `groups` groups.
    pub(crate) const fn scale_bytes(&self, groups: usize) -> usize {
        let scale_groups = groups * (GROUP / self.scale_group);
        let each = if self.mins { 2 } else { 1 };
        match self.scales {
            Scales::Plain => groups * each * PANEL_ROWS * 2,
            Scales::Exponent => groups * PANEL_ROWS,
            Scales::Super => each * PANEL_ROWS * 2 + scale_groups * each * PANEL_ROWS,
            Scales::SuperNibbles => each * PANEL_ROWS * 2 + scale_groups * PANEL_ROWS,
        }
    }

    /// Where the codes of a chunk of `groups` groups begin: after the scales and padding.
    pub(crate) const fn codes_at(&self, groups: usize) -> usize {
        // Whole cache lines, so that no load of codes touches two. Q3_K's 1.6 % of padding would be too much.
        let align = if self.bits == 3 { 32 } else { 64 };
        self.scale_bytes(groups).next_multiple_of(align)
    }

    /// Bytes of a chunk of `groups` groups: scales, padding, codes.
    pub(crate) const fn chunk_bytes(&self, groups: usize) -> usize {
        self.codes_at(groups) + groups * self.group_bytes()
    }
}

/// Bytes of a chunk of `len` elements of each row of a panel.
pub(crate) const fn chunk_bytes(dtype: DType, len: usize) -> usize {
    match Spec::of(dtype) {
        Some(spec) => spec.chunk_bytes(len.div_ceil(GROUP)),
        None => float_len(dtype, len) * PANEL_ROWS * if matches!(dtype, DType::F32) { 4 } else { 2 },
    }
}

/// Elements stored for a chunk of `len` elements of a float type: BF16 fills whole AMX tiles, F16 whole cache lines.
pub(crate) const fn float_len(dtype: DType, len: usize) -> usize {
    match dtype {
        DType::BF16 => len.next_multiple_of(32),
        DType::F16 => len.next_multiple_of(2),
        _ => len,
    }
}

/// A packed quantized type as a type parameter: kernels are compiled once for each.
pub(crate) trait Format {
    const DTYPE: DType;
    const SPEC: Spec;
}

macro_rules! formats {
    ($($name:ident)*) => {
        $(
            #[allow(non_camel_case_types)]
            pub(crate) struct $name;
            impl Format for $name {
                const DTYPE: DType = DType::$name;
                const SPEC: Spec = Spec::of(DType::$name).expect("a quantized type");
            }
        )*

        /// Evaluates `$body` with `$format` naming the [`Format`] of a quantized `$dtype`; plain floats get `$float`.
        macro_rules! with_format {
            ($dtype:expr, $format:ident => $body:expr, else $float:expr) => {
                match $dtype {
                    $(
                        autarky_quant::DType::$name => {
                            type $format = $crate::matmul::format::$name;
                            $body
                        }
                    )*
                    autarky_quant::DType::F32 | autarky_quant::DType::F16 | autarky_quant::DType::BF16 => $float,
                }
            };
        }
        pub(crate) use with_format;
    };
}
formats!(Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_chunks_are_at_most_a_twentieth_larger_than_the_file() {
        for dtype in DType::ALL {
            let file = dtype.bytes(CHUNK).expect("whole blocks") * PANEL_ROWS;
            let packed = chunk_bytes(dtype, CHUNK);
            assert!(packed * 20 <= file * 21, "{dtype}: {packed} bytes packed, {file} in the file");
        }
    }

    #[test]
    fn unsigned_codes_stay_below_the_bound_that_kernels_rely_on() {
        for dtype in DType::ALL {
            let Some(spec) = Spec::of(dtype) else {
                continue;
            };
            let codes = spec.table.unwrap_or(std::array::from_fn(|i| i as u8));
            let stored = if spec.table.is_some() { 16 } else { 1 << spec.bits };
            for (stored, code) in codes.iter().enumerate().take(stored) {
                assert!(usize::from(*code) <= spec.largest(), "{dtype}: code {stored}");
            }
        }
    }
}
