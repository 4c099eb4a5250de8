//! Weights in the order in which kernels read them.
//!
//! Sixteen rows make a panel, and 256 elements of each of its rows a chunk. A chunk of a quantized type is
//!
//! ```text
//! [ group 0 codes | group 1 codes | ... | group 7 codes | scales | padding to a cache line ]
//! ```
//!
//! Unpacked, a group (32 elements of 16 rows) is eight *quads* of 64 bytes: quad `q` holds, for each row, the codes of
//! elements `4q .. 4q+4`, which is what `vpdpbusd`, `sdot` and the B tile of `tdpbssd` take as an operand. Packed, the
//! codes' bits are in planes of the width that the file has, so that the packed matrix is as large as the file's:
//!
//! | code bits | planes of a group |
//! | --- | --- |
//! | 8 | byte plane: 8 × 64 bytes, a quad each |
//! | 4, 5, 6 | nibble plane: 4 × 64 bytes; vector `j` has quad `2j` in the low nibbles and `2j+1` in the high ones |
//! | 2, 3 | pair plane: 2 × 64 bytes; vector `j` has quads `4j .. 4j+4` from the lowest bits up |
//! | 6 | then a pair plane with bits 4 and 5 |
//! | 3, 5 | then a bit plane: 64 bytes; bit `q` of each is the highest bit of quad `q` |
//!
//! so that a load, a shift and a mask give a quad. A float type's chunk is, for each element, its 16 rows; BF16 has
//! pairs of elements together, as `tdpbf16ps` takes them.
//!
//! The layout is the same for every instruction set.

use super::format::{
    CHUNK, CHUNK_GROUPS, GROUP, GROUP_CODES, PANEL_ROWS, Scales, Spec, chunk_bytes, float_len,
};
use super::memory::WeightBytes;
use super::unpack::{code_at, f16_at, scale_at};
use crate::pool::Pool;
use autarky_quant::{Codes, DType, codes};
use half::{bf16, f16};
use std::fmt;

/// Why a matrix cannot be packed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Rows of quantized types are whole blocks.
    #[error("a row of {cols} elements is not whole {dtype} blocks of {}", dtype.block_len())]
    PartialBlock {
        /// The data type.
        dtype: DType,
        /// Elements of a row.
        cols: usize,
    },
    /// A part is not a whole number of rows.
    #[error("part {part} has {bytes} bytes, which is not whole rows of {row_bytes} bytes ({cols} × {dtype})")]
    PartialRow {
        /// Index of the part.
        part: usize,
        /// Its size.
        bytes: usize,
        /// Size of a row.
        row_bytes: usize,
        /// Elements of a row.
        cols: usize,
        /// The data type.
        dtype: DType,
    },
    /// The parts do not have as many rows as the matrix.
    #[error("the parts have {found} rows together, the matrix has {rows}")]
    Rows {
        /// Rows of the matrix.
        rows: usize,
        /// Rows of all parts.
        found: usize,
    },
    /// The matrix is empty or its size overflows.
    #[error("a matrix of {rows} × {cols} {dtype} cannot be packed")]
    Shape {
        /// Rows of the matrix.
        rows: usize,
        /// Elements of a row.
        cols: usize,
        /// The data type.
        dtype: DType,
    },
    /// There is not enough memory.
    #[error("no memory for {bytes} bytes of packed weights")]
    Memory {
        /// What was asked for.
        bytes: usize,
    },
}

/// A weight matrix `W` of `rows × cols`, packed for the product `y = x · Wᵀ`.
pub struct PackedWeight {
    dtype: DType,
    rows: usize,
    cols: usize,
    panel_bytes: usize,
    data: WeightBytes,
}

impl PackedWeight {
    /// Packs a matrix from the bytes of a file, on all threads of `pool`.
    ///
    /// `parts` are consecutive ranges of rows, each row-major in ggml's layout of `dtype` (little-endian floats for
    /// plain types): one part for a whole tensor, several to make one matrix of, say, the query, key and value weights.
    ///
    /// # Errors
    /// See [`PackError`]. Sizes are checked against the parts before anything is allocated.
    pub fn pack(
        dtype: DType,
        rows: usize,
        cols: usize,
        parts: &[&[u8]],
        pool: &Pool,
    ) -> Result<PackedWeight, PackError> {
        let source = Source::new(dtype, rows, cols, parts)?;
        let shape = PackError::Shape { rows, cols, dtype };
        let panel_bytes = panel_bytes(dtype, cols).ok_or(shape.clone())?;
        let bytes = rows.div_ceil(PANEL_ROWS).checked_mul(panel_bytes).ok_or(shape)?;
        let data = WeightBytes::uninit(bytes).ok_or(PackError::Memory { bytes })?;
        let weight = PackedWeight { dtype, rows, cols, panel_bytes, data };
        let panels = weight.panels();
        pool.run(&|worker| {
            worker.for_each(panels, 1, |range| {
                for panel in range {
                    // SAFETY: the panel lies within `data`, and `for_each` gives it to this thread alone.
                    let out = unsafe {
                        let start = weight.data.as_mut_ptr().add(panel * panel_bytes);
                        start.write_bytes(0, panel_bytes);
                        std::slice::from_raw_parts_mut(start, panel_bytes)
                    };
                    pack_panel(dtype, cols, &source, panel, out);
                }
            });
        });
        Ok(weight)
    }

    /// Bytes that [`pack`](PackedWeight::pack) would allocate for such a matrix; `None` when that overflows.
    pub fn bytes_for(dtype: DType, rows: usize, cols: usize) -> Option<usize> {
        rows.div_ceil(PANEL_ROWS).checked_mul(panel_bytes(dtype, cols)?)
    }

    /// The data type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Rows of the matrix: elements of a row of the result.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the matrix: elements of a row of the activations.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Panels of [`PANEL_ROWS`] rows: the pieces in which threads share a product. The last may be partly empty.
    pub fn panels(&self) -> usize {
        self.rows.div_ceil(PANEL_ROWS)
    }

    /// Bytes held in memory.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Bytes of one panel: what a product reads to compute 16 columns of the result.
    pub fn panel_bytes(&self) -> usize {
        self.panel_bytes
    }

    pub(crate) fn panel(&self, panel: usize) -> *const u8 {
        assert!(panel < self.panels(), "panel {panel} of {}", self.panels());
        // SAFETY: within the allocation, as just checked.
        unsafe { self.data.as_ptr().add(panel * self.panel_bytes) }
    }

    fn panel_slice(&self, panel: usize) -> &[u8] {
        // SAFETY: `pack` has written all bytes of all panels.
        unsafe { std::slice::from_raw_parts(self.panel(panel), self.panel_bytes) }
    }

    /// Writes one row as `f32`: bit for bit what [`autarky_quant::dequantize`] gives for it (NaN payloads aside).
    ///
    /// This is how a matrix packed as the output head serves as the embedding table too.
    ///
    /// # Panics
    /// When `row` is beyond the matrix or `out` is not [`cols`](PackedWeight::cols) long.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "length of a dequantized row");
        let (panel, lane) = (self.panel_slice(row / PANEL_ROWS), row % PANEL_ROWS);
        let chunk_size = chunk_bytes(self.dtype, CHUNK);
        for (chunk, out) in panel.chunks(chunk_size).zip(out.chunks_mut(CHUNK)) {
            match Spec::of(self.dtype) {
                Some(spec) => dequantize_lane(&spec, chunk, lane, out),
                None => widen_lane(self.dtype, chunk, lane, out),
            }
        }
    }
}

impl fmt::Debug for PackedWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackedWeight({} × {} {}, {} bytes)", self.rows, self.cols, self.dtype, self.bytes())
    }
}

fn panel_bytes(dtype: DType, cols: usize) -> Option<usize> {
    let tail = match cols % CHUNK {
        0 => 0,
        tail => chunk_bytes(dtype, tail),
    };
    (cols / CHUNK).checked_mul(chunk_bytes(dtype, CHUNK))?.checked_add(tail)
}

/// Rows in a file's layout, from several parts.
struct Source<'a> {
    parts: &'a [&'a [u8]],
    rows: usize,
    row_bytes: usize,
}

impl<'a> Source<'a> {
    fn new(dtype: DType, rows: usize, cols: usize, parts: &'a [&'a [u8]]) -> Result<Source<'a>, PackError> {
        if rows == 0 || cols == 0 {
            return Err(PackError::Shape { rows, cols, dtype });
        }
        if !cols.is_multiple_of(dtype.block_len()) {
            return Err(PackError::PartialBlock { dtype, cols });
        }
        let row_bytes = dtype.bytes(cols).ok_or(PackError::Shape { rows, cols, dtype })?;
        let mut found = 0;
        for (part, bytes) in parts.iter().enumerate() {
            if !bytes.len().is_multiple_of(row_bytes) {
                return Err(PackError::PartialRow { part, bytes: bytes.len(), row_bytes, cols, dtype });
            }
            found += bytes.len() / row_bytes;
        }
        if found != rows {
            return Err(PackError::Rows { rows, found });
        }
        Ok(Source { parts, rows, row_bytes })
    }

    /// The bytes of a row, or `None` beyond the last.
    fn row(&self, row: usize) -> Option<&'a [u8]> {
        if row >= self.rows {
            return None;
        }
        let mut offset = row * self.row_bytes;
        for part in self.parts {
            if offset < part.len() {
                return Some(&part[offset..offset + self.row_bytes]);
            }
            offset -= part.len();
        }
        None
    }
}

/// Packs the 16 rows from `16 · panel` on into `out`, which is zero.
fn pack_panel(dtype: DType, cols: usize, source: &Source<'_>, panel: usize, out: &mut [u8]) {
    let rows: [Option<&[u8]>; PANEL_ROWS] = std::array::from_fn(|lane| source.row(panel * PANEL_ROWS + lane));
    let chunk_size = chunk_bytes(dtype, CHUNK);
    for (index, chunk) in out.chunks_mut(chunk_size).enumerate() {
        let first = index * CHUNK;
        let len = CHUNK.min(cols - first);
        for (lane, row) in rows.iter().enumerate() {
            let Some(row) = row else { continue };
            match dtype {
                DType::F32 => pack_lane::<4>(&row[first * 4..(first + len) * 4], lane, false, chunk),
                DType::F16 => pack_lane::<2>(&row[first * 2..(first + len) * 2], lane, false, chunk),
                DType::BF16 => pack_lane::<2>(&row[first * 2..(first + len) * 2], lane, true, chunk),
                _ => {}
            }
        }
        if let Some(spec) = Spec::of(dtype) {
            pack_chunk(dtype, &spec, &rows, first, len, chunk);
        }
    }
}

/// Stores elements of `SIZE` bytes as row `lane` of a chunk.
fn pack_lane<const SIZE: usize>(elements: &[u8], lane: usize, in_pairs: bool, chunk: &mut [u8]) {
    let (elements, _) = elements.as_chunks::<SIZE>();
    let (chunk, _) = chunk.as_chunks_mut::<SIZE>();
    for (k, element) in elements.iter().enumerate() {
        chunk[float_place(in_pairs, k, lane)] = *element;
    }
}

/// Where element `k` of a row is in a chunk of floats.
#[inline(always)]
fn float_place(in_pairs: bool, k: usize, lane: usize) -> usize {
    if in_pairs { (k / 2 * PANEL_ROWS + lane) * 2 + k % 2 } else { k * PANEL_ROWS + lane }
}

fn widen_lane(dtype: DType, chunk: &[u8], lane: usize, out: &mut [f32]) {
    debug_assert!(float_len(dtype, out.len()) * PANEL_ROWS * dtype.block_bytes() <= chunk.len());
    let size = dtype.block_bytes();
    for (k, out) in out.iter_mut().enumerate() {
        let at = float_place(dtype == DType::BF16, k, lane) * size;
        let bytes = &chunk[at..at + size];
        *out = match dtype {
            DType::F32 => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            DType::BF16 => bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
            _ => f16_at(bytes, 0),
        };
    }
}

/// Packs `len` elements from `first` on of 16 rows of blocks.
fn pack_chunk(
    dtype: DType,
    spec: &Spec,
    rows: &[Option<&[u8]>; PANEL_ROWS],
    first: usize,
    len: usize,
    chunk: &mut [u8],
) {
    let groups = len / GROUP;
    let (block_len, block_bytes) = (dtype.block_len(), dtype.block_bytes());
    let mut unpacked = [[0u8; GROUP_CODES]; CHUNK_GROUPS];
    let mut block_codes = Codes::default();
    let (code_bytes, scale_bytes) = chunk.split_at_mut(groups * spec.group_bytes());
    for (lane, row) in rows.iter().enumerate() {
        let Some(row) = row else { continue };
        let start = first / block_len;
        let blocks = row[start * block_bytes..].chunks_exact(block_bytes).take(len / block_len);
        for (index, block) in blocks.enumerate() {
            codes(dtype, block, &mut block_codes).expect("a whole block of a quantized type");
            let first_group = index * block_len / GROUP;
            for (group, codes) in block_codes.codes[..block_len].chunks_exact(GROUP).enumerate() {
                let out = &mut unpacked[first_group + group];
                for (quad, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
                    let at = quad * 64 + lane * 4;
                    out[at..at + 4].copy_from_slice(codes);
                }
            }
            let exponent = if spec.scales == Scales::Exponent { block[0] } else { 0 };
            pack_scales(spec, &block_codes, exponent, first_group, lane, scale_bytes);
        }
    }
    for (codes, out) in unpacked.iter().zip(code_bytes.chunks_exact_mut(spec.group_bytes())) {
        pack_planes(spec.bits, codes, out);
    }
}

/// Stores the scales of one block: of group `group` for the types with blocks of 32, of the whole chunk for the others.
fn pack_scales(spec: &Spec, block: &Codes, exponent: u8, group: usize, lane: usize, out: &mut [u8]) {
    let mut put_half = |slot: usize, value: f32| {
        let at = (slot * PANEL_ROWS + lane) * 2;
        out[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
    };
    let each = if spec.mins { 2 } else { 1 };
    match spec.scales {
        Scales::Exponent => out[group * PANEL_ROWS + lane] = exponent,
        Scales::Plain => {
            put_half(group * each, block.d);
            if spec.mins {
                put_half(group * each + 1, block.dmin);
            }
        }
        Scales::Super | Scales::SuperNibbles => {
            put_half(0, block.d);
            if spec.mins {
                put_half(1, block.dmin);
            }
            let out = &mut out[each * PANEL_ROWS * 2..];
            for (index, (scale, min)) in
                block.scales.iter().zip(&block.mins).take(CHUNK / spec.scale_group).enumerate()
            {
                if spec.scales == Scales::SuperNibbles {
                    out[index * PANEL_ROWS + lane] = *scale as u8 | min << 4;
                } else {
                    out[index * each * PANEL_ROWS + lane] = *scale as u8;
                    if spec.mins {
                        out[(index * each + 1) * PANEL_ROWS + lane] = *min;
                    }
                }
            }
        }
    }
}

/// Packs the eight quads of a group into the planes of the module's table.
fn pack_planes(bits: usize, codes: &[u8; GROUP_CODES], out: &mut [u8]) {
    let quad = |q: usize, i: usize| codes[q * 64 + i];
    let (vectors, _) = out.as_chunks_mut::<64>();
    for (j, vector) in vectors.iter_mut().enumerate() {
        for (i, byte) in vector.iter_mut().enumerate() {
            *byte = match (bits, j) {
                (8, _) => quad(j, i) ^ 0x80,
                (4..=6, 0..4) => quad(2 * j, i) & 15 | quad(2 * j + 1, i) << 4,
                (6, _) => (0..4).fold(0, |byte, f| byte | quad(4 * (j - 4) + f, i) >> 4 << (2 * f)),
                (5, _) => (0..8).fold(0, |byte, q| byte | quad(q, i) >> 4 << q),
                (2 | 3, 0..2) => (0..4).fold(0, |byte, f| byte | (quad(4 * j + f, i) & 3) << (2 * f)),
                (3, _) => (0..8).fold(0, |byte, q| byte | quad(q, i) >> 2 << q),
                _ => unreachable!("codes of {bits} bits"),
            };
        }
    }
}

/// `len` elements of one row of a packed chunk.
fn dequantize_lane(spec: &Spec, chunk: &[u8], lane: usize, out: &mut [f32]) {
    let groups = out.len() / GROUP;
    let (codes, scales) = chunk.split_at(groups * spec.group_bytes());
    for (index, out) in out.chunks_mut(spec.scale_group).enumerate() {
        let (scale, min) = scale_at(spec, scales, index, lane);
        for (i, out) in out.iter_mut().enumerate() {
            let k = index * spec.scale_group + i;
            let code = code_at(spec, &codes[k / GROUP * spec.group_bytes()..], k % GROUP, lane);
            *out = scale * (i32::from(code) - i32::from(spec.zero())) as f32 - min;
        }
    }
}
