//! Weights in the order in which kernels read them.
//!
//! Sixteen rows make a panel, and 256 elements of each of its rows a chunk. A chunk of a quantized type is
//!
//! ```text
//! [ scales | padding to a cache line | group 0 codes | group 1 codes | ... | group 7 codes ]
//! ```
//!
//! in the order in which a kernel needs them: one that first reached ahead for scales behind the codes would wait for
//! memory that no prefetcher expects.
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

mod panel;

use super::format::{CHUNK, GROUP, PANEL_ROWS, Spec, chunk_bytes, float_len};
use super::int8::Int8Panels;
use super::memory::{AlignedBytes, LINE, WeightBytes};
use super::unpack::{code_at, f16_at, scale_at};
use crate::isa::Isa;
use crate::pool::Pool;
use autarky_quant::DType;
use half::bf16;
pub(super) use panel::Numbers;
use panel::{Source, float_place, pack_numbers, pack_panel};
use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::Arc;

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
        let mut weight = PackedWeight { dtype, rows, cols, panel_bytes, data };
        weight.fill(&source, pool);
        Ok(weight)
    }

    fn fill(&mut self, source: &Source<'_>, pool: &Pool) {
        let (dtype, cols) = (self.dtype, self.cols);
        self.write_panels(pool, |panel, out| pack_panel(dtype, cols, source, panel, out));
    }

    /// Packs a matrix of `rows · cols` numbers as F32 or BF16 (rounded to nearest, ties to even): row by row, or the
    /// other way if `transposed`.
    ///
    /// # Errors
    /// When there is no memory, or the type is another.
    ///
    /// # Panics
    /// When there are not as many numbers.
    pub(crate) fn pack_numbers(
        dtype: DType,
        (rows, cols): (usize, usize),
        numbers: &[f32],
        transposed: bool,
        pool: &Pool,
    ) -> Result<PackedWeight, PackError> {
        let shape = PackError::Shape { rows, cols, dtype };
        if !matches!(dtype, DType::F32 | DType::BF16) || rows == 0 || cols == 0 {
            return Err(shape);
        }
        let panel_bytes = panel_bytes(dtype, cols).ok_or(shape.clone())?;
        let bytes = rows.div_ceil(PANEL_ROWS).checked_mul(panel_bytes).ok_or(shape)?;
        let data = WeightBytes::uninit(bytes).ok_or(PackError::Memory { bytes })?;
        let mut weight = PackedWeight { dtype, rows, cols, panel_bytes, data };
        weight.set_numbers(numbers, transposed, pool);
        Ok(weight)
    }

    /// Replaces the numbers of what [`pack_numbers`](PackedWeight::pack_numbers) packed.
    ///
    /// # Panics
    /// When there are not as many, or they were packed as another type.
    pub(crate) fn set_numbers(&mut self, numbers: &[f32], transposed: bool, pool: &Pool) {
        assert!(matches!(self.dtype, DType::F32 | DType::BF16), "{self:?} is not set to floats");
        let (dtype, shape @ (rows, cols)) = (self.dtype, (self.rows, self.cols));
        assert_eq!(numbers.len(), rows * cols, "numbers of {self:?}");
        let (by_row, by_col) = if transposed { (1, rows) } else { (cols, 1) };
        let source = Numbers { numbers, by_row, by_col };
        self.write_panels(pool, |panel, out| pack_numbers(dtype, shape, source, panel, out));
    }

    /// Has threads write all panels.
    fn write_panels(&mut self, pool: &Pool, write: impl Fn(usize, &mut [MaybeUninit<u8>]) + Sync) {
        let (this, panel_bytes) = (&*self, self.panel_bytes);
        pool.run(&|worker| {
            worker.for_each(this.panels(), 1, |range| {
                for panel in range {
                    // SAFETY: the panel lies within `data`, which is borrowed mutably, and `for_each` gives it to this
                    // thread alone.
                    let out = unsafe {
                        let start = this.data.as_mut_ptr().add(panel * panel_bytes);
                        std::slice::from_raw_parts_mut(start.cast::<MaybeUninit<u8>>(), panel_bytes)
                    };
                    write(panel, out);
                }
            });
        });
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

    pub(super) fn panel_slice(&self, panel: usize) -> &[u8] {
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

/// Memory in which every thread packs the panels that it multiplies next, of matrices that are not kept packed.
pub(crate) struct Blocks {
    region: Arc<AlignedBytes>,
    each: usize,
}

impl Blocks {
    /// `each` bytes for each thread. `None` when memory is out.
    pub(crate) fn new(threads: usize, each: usize) -> Option<Blocks> {
        let each = each.checked_next_multiple_of(LINE)?;
        Some(Blocks { region: Arc::new(AlignedBytes::zeroed(each.checked_mul(threads)?)?), each })
    }

    /// Bytes in all.
    pub(crate) fn bytes(&self) -> usize {
        self.region.len()
    }

    /// Some panels of a matrix of numbers, packed in the memory of a thread: a matrix of their rows. It is as
    /// [`PackedWeight::set_numbers`] has it.
    ///
    /// # Panics
    /// When there are not as many numbers, or no room.
    ///
    /// # Safety
    /// The machine can run `isa`, and nothing else uses this thread's memory while the result lives.
    pub(crate) unsafe fn pack(
        &self,
        (isa, thread): (Isa, usize),
        dtype: DType,
        shape @ (rows, cols): (usize, usize),
        (numbers, transposed): (&[f32], bool),
        panels: Range<usize>,
    ) -> PackedWeight {
        assert!(
            matches!(dtype, DType::F32 | DType::BF16) && numbers.len() == rows * cols,
            "numbers of a matrix"
        );
        let panel_bytes = panel_bytes(dtype, cols).expect("a matrix that is there");
        let bytes = panel_bytes * panels.len();
        assert!(bytes <= self.each, "{bytes} bytes of {}", self.each);
        let (by_row, by_col) = if transposed { (1, rows) } else { (cols, 1) };
        let source = Numbers { numbers, by_row, by_col };
        let data = WeightBytes::part(&self.region, thread * self.each, bytes);
        // SAFETY: the part has as many bytes, which are this thread's.
        let out =
            unsafe { std::slice::from_raw_parts_mut(data.as_mut_ptr().cast::<MaybeUninit<u8>>(), bytes) };
        let rows = (rows - panels.start * PANEL_ROWS).min(panels.len() * PANEL_ROWS);
        let weight = PackedWeight { dtype, rows, cols, panel_bytes, data };
        #[cfg(target_arch = "x86_64")]
        if dtype == DType::BF16 && isa.has_bf16_products() {
            // SAFETY: the machine has the instructions; the panels are the matrix's.
            unsafe { super::bf16::pack_panels(shape, source, panels, out) };
            return weight;
        }
        let _ = isa;
        for (panel, out) in panels.zip(out.chunks_exact_mut(panel_bytes)) {
            pack_numbers(dtype, shape, source, panel, out);
        }
        weight
    }

    /// As [`Blocks::pack`], rounded to 8-bit integers.
    ///
    /// # Panics
    /// As there.
    ///
    /// # Safety
    /// The processor has such products of 8-bit integers, and nothing else uses this thread's memory while the result is used.
    pub(crate) unsafe fn pack_int8(
        &self,
        thread: usize,
        (rows, cols): (usize, usize),
        numbers: (&[f32], bool),
        panels: Range<usize>,
    ) -> Int8Panels {
        let panel_bytes = Int8Panels::panel_bytes(cols).expect("a matrix that is there");
        let bytes = panel_bytes * panels.len();
        assert!(
            bytes <= self.each && (thread + 1) * self.each <= self.region.len(),
            "{bytes} of {}",
            self.each
        );
        // SAFETY: the part has as many bytes, which are this thread's. Where the matrix would begin only counts.
        unsafe {
            let start = self.region.as_mut_ptr().add(thread * self.each);
            let whole = Int8Panels::new(start.wrapping_sub(panels.start * panel_bytes), (rows, cols));
            whole.pack(numbers, panels.clone());
            whole.part(panels)
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

/// `len` elements of one row of a packed chunk.
fn dequantize_lane(spec: &Spec, chunk: &[u8], lane: usize, out: &mut [f32]) {
    let groups = out.len() / GROUP;
    let (scales, codes) = chunk.split_at(spec.codes_at(groups));
    for (index, out) in out.chunks_mut(spec.scale_group).enumerate() {
        let (scale, min) = scale_at(spec, scales, index, lane);
        for (i, out) in out.iter_mut().enumerate() {
            let k = index * spec.scale_group + i;
            let code = code_at(spec, &codes[k / GROUP * spec.group_bytes()..], k % GROUP, lane);
            *out = scale * (i32::from(code) - i32::from(spec.zero())) as f32 - min;
        }
    }
}
