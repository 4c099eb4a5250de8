//! Activations in the form that kernels read: rounded to 8 bits for quantized weights, or floats.
//!
//! A row has one scale, `d = max|x| / 127 / 2^11`, and each group of 32 elements a shift `s`, the smallest of 0 ..= 11
//! for which its elements fit ±127 steps of `2^s · d`: 11 for the group that holds the row's largest element. An element
//! is `x · (127 / max|x|) · 2^(11 − s)` rounded to nearest, ties to even; it stands for `code · 2^s · d`. So a group has
//! steps between one and two times those that a scale of its own would give it, and a product scales it by a shift of
//! integers, which is exact, where a scale of its own would take a multiplication of floats. (A group whose largest
//! element is below a 2048th of the row's keeps the step `d`.)
//!
//! That is done with integer comparisons and a fixed sequence of `f32` operations, so that every instruction set gives
//! the same bits. A row whose largest magnitude is below 10⁻³⁰ is zero, and one that holds an infinity or a NaN has a
//! NaN scale, so that the fault shows in the result and does not vanish in rounding.
//!
//! The order in memory is chunk by chunk of 256 elements, and within a chunk row by row: a kernel that runs a chunk of
//! weights over many rows reads them in sequence, whatever power of two the length of a row is.

use super::format::{CHUNK, CHUNK_GROUPS, GROUP, STRIPE};
use super::memory::AlignedBytes;
use crate::isa::Isa;
use autarky_quant::DType;

/// The form of a matrix of activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActivationKind {
    /// 8-bit integers with a scale for each row and a shift for each group of 32: for quantized weights.
    Int8,
    /// `f32`, unchanged: for float weights.
    F32,
    /// Rounded to BF16: for BF16 weights, where the processor multiplies BF16 numbers and that is asked for. Numbers below
    /// 2⁻¹²⁶, which such products take as zero, may be written as zero.
    Bf16,
    /// 8-bit integers with a scale for each row of a stripe of columns: what training multiplies weights by that it rounds
    /// likewise (`int8.rs`).
    Int8Rows(Rounding),
}

/// How numbers become integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// To the nearest, ties to even.
    Nearest,
    /// Up or down by a chance that makes the mean right: what is small beside its neighbours is not lost in sums of many
    /// (Gupta et al. 2015, arXiv:1502.02551). The chances of what shares a scale are spread evenly, from a beginning that is
    /// drawn from the numbers and their place.
    Dithered,
}

impl ActivationKind {
    /// The form that a product with weights of `dtype` takes. BF16 weights take BF16 activations when `bf16` is set and
    /// the instruction set multiplies them: faster than `f32`, on AMX about eight times, but with BF16's rounding of the
    /// activations.
    pub fn for_weight(dtype: DType, isa: Isa, bf16: bool) -> ActivationKind {
        match dtype {
            DType::BF16 if bf16 && (isa == Isa::Amx || isa.has_bf16_products()) => ActivationKind::Bf16,
            _ if dtype.is_float() => ActivationKind::F32,
            _ => ActivationKind::Int8,
        }
    }
}

/// Bytes from which on a matrix is not kept in caches, which hold some more of what products read than of their results.
pub(super) const STREAMED: usize = 8 << 20;

/// The shape of a matrix of activations, from which its place in memory follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActivationShape {
    kind: ActivationKind,
    rows: usize,
    cols: usize,
}

/// Bytes of a row of a chunk for a number of each group: shifts, group sums (as float and as integer); twice that for
/// half-group sums (likewise).
const NUMBERS: usize = CHUNK_GROUPS * 4;
/// AMX loads 16 rows at a time, and so up to 15 rows behind the last one: these bytes behind the codes, and these
/// behind the scales and sums, keep that inside the buffer.
const SLACK: usize = 16 * CHUNK;
const SUMS_SLACK: usize = 16 * 2 * NUMBERS;

impl ActivationShape {
    /// `rows` rows of `cols` elements.
    pub const fn new(kind: ActivationKind, rows: usize, cols: usize) -> ActivationShape {
        ActivationShape { kind, rows, cols }
    }

    /// The form of the elements.
    pub const fn kind(&self) -> ActivationKind {
        self.kind
    }

    /// Rows.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Elements of a row.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of memory needed. It grows with `rows`, so memory for the largest step serves every step.
    pub const fn bytes(&self) -> usize {
        let chunk_rows = self.chunks() * self.rows;
        match self.kind {
            ActivationKind::Int8 => chunk_rows * (CHUNK + 7 * NUMBERS) + SLACK + SUMS_SLACK + self.rows * 4,
            ActivationKind::F32 => chunk_rows * CHUNK * 4,
            ActivationKind::Bf16 => chunk_rows * CHUNK * 2 + 2 * SLACK,
            ActivationKind::Int8Rows(_) => chunk_rows * CHUNK + 8 * self.cols.div_ceil(STRIPE) * self.rows,
        }
    }

    pub(crate) const fn chunks(&self) -> usize {
        self.cols.div_ceil(CHUNK)
    }
}

/// A matrix of activations in memory that the caller provides. It is a pointer and a shape: copying it copies neither.
#[derive(Clone, Copy, Debug)]
pub struct Activations {
    base: *mut u8,
    shape: ActivationShape,
}

// SAFETY: the pointer is used only in unsafe functions, whose callers keep threads from writing what others use.
unsafe impl Send for Activations {}
// SAFETY: as above.
unsafe impl Sync for Activations {}

impl Activations {
    /// A view of memory at `base`.
    ///
    /// # Safety
    /// While the view or a copy of it is used, `base` must point to [`shape.bytes()`](ActivationShape::bytes) bytes,
    /// all initialised, aligned to 64 bytes, that nothing else accesses.
    pub unsafe fn new(base: *mut u8, shape: ActivationShape) -> Activations {
        debug_assert!(base.addr().is_multiple_of(super::memory::LINE));
        Activations { base, shape }
    }

    /// The shape.
    pub fn shape(&self) -> ActivationShape {
        self.shape
    }

    /// Whether it is written past the caches, which have no room for it.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // asked by kernels
    pub(super) fn is_streamed(&self) -> bool {
        self.shape.bytes() >= STREAMED
    }

    /// Index of a row of a chunk, in rows.
    fn at(&self, chunk: usize, row: usize) -> usize {
        debug_assert!(chunk < self.shape.chunks() && row <= self.shape.rows);
        chunk * self.shape.rows + row
    }

    fn field(&self, before: usize) -> *mut u8 {
        debug_assert!(self.shape.kind == ActivationKind::Int8);
        let chunk_rows = self.shape.chunks() * self.shape.rows;
        // SAFETY: within the `bytes()` that `new` was promised.
        unsafe { self.base.add(SLACK + chunk_rows * (CHUNK + before * NUMBERS)) }
    }

    /// 256 codes of a row; the next row's follow.
    pub(crate) fn codes(&self, chunk: usize, row: usize) -> *mut i8 {
        debug_assert!(self.shape.kind == ActivationKind::Int8);
        self.base.cast::<i8>().wrapping_add(self.at(chunk, row) * CHUNK)
    }

    /// The scale of a row; the next row's follows.
    pub(crate) fn scale(&self, row: usize) -> *mut f32 {
        self.field(7).wrapping_add(SUMS_SLACK).cast::<f32>().wrapping_add(row)
    }

    /// 8 group shifts of a row; the next row's follow.
    pub(crate) fn shifts(&self, chunk: usize, row: usize) -> *mut i32 {
        self.field(0).cast::<i32>().wrapping_add(self.at(chunk, row) * CHUNK_GROUPS)
    }

    /// 8 shifted group sums of codes of a row, as floats; the next row's follow.
    pub(crate) fn shifted_sums(&self, chunk: usize, row: usize) -> *mut f32 {
        self.field(1).cast::<f32>().wrapping_add(self.at(chunk, row) * CHUNK_GROUPS)
    }

    /// 8 negated group sums of codes of a row, not shifted; the next row's follow.
    pub(crate) fn negated_sums(&self, chunk: usize, row: usize) -> *mut i32 {
        self.field(2).cast::<i32>().wrapping_add(self.at(chunk, row) * CHUNK_GROUPS)
    }

    /// 16 shifted half-group sums of codes of a row, as floats; the next row's follow.
    pub(crate) fn shifted_half_sums(&self, chunk: usize, row: usize) -> *mut f32 {
        self.field(3).cast::<f32>().wrapping_add(self.at(chunk, row) * 2 * CHUNK_GROUPS)
    }

    /// 16 negated half-group sums of codes of a row, not shifted; the next row's follow.
    pub(crate) fn negated_half_sums(&self, chunk: usize, row: usize) -> *mut i32 {
        self.field(5).cast::<i32>().wrapping_add(self.at(chunk, row) * 2 * CHUNK_GROUPS)
    }

    /// 256 floats of a row; the next row's follow.
    pub(crate) fn floats(&self, chunk: usize, row: usize) -> *mut f32 {
        debug_assert!(self.shape.kind == ActivationKind::F32);
        self.base.cast::<f32>().wrapping_add(self.at(chunk, row) * CHUNK)
    }

    /// 256 BF16 numbers of a row; the next row's follow.
    pub(crate) fn bf16s(&self, chunk: usize, row: usize) -> *mut u16 {
        debug_assert!(self.shape.kind == ActivationKind::Bf16);
        self.base.cast::<u16>().wrapping_add(self.at(chunk, row) * CHUNK)
    }

    /// 256 codes of a row of [`ActivationKind::Int8Rows`]; the next row's follow.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // read by the kernels
    pub(crate) fn int8s(&self, chunk: usize, row: usize) -> *mut i8 {
        debug_assert!(matches!(self.shape.kind, ActivationKind::Int8Rows(_)));
        self.base.cast::<i8>().wrapping_add(self.at(chunk, row) * CHUNK)
    }

    /// What the codes of a row of a stripe of columns are multiplied by, and −128 times their sum; the next row's follow.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // read by the kernels
    pub(crate) fn int8_scale(&self, stripe: usize, row: usize) -> (*mut f32, *mut i32) {
        debug_assert!(matches!(self.shape.kind, ActivationKind::Int8Rows(_)));
        let (rows, stripes) = (self.shape.rows, self.shape.cols.div_ceil(STRIPE));
        let scales = self.base.wrapping_add(self.shape.chunks() * rows * CHUNK).cast::<f32>();
        let at = stripe * rows + row;
        (scales.wrapping_add(at), scales.wrapping_add(stripes * rows + at).cast())
    }

    /// Copies row `from` of `source` to row `to` of `self`: how tokens are gathered for an expert without being
    /// rounded again.
    ///
    /// # Panics
    /// When the views differ in form or columns, or a row is beyond its view.
    ///
    /// # Safety
    /// Nothing else may write row `from` of `source` or use row `to` of `self` meanwhile.
    pub unsafe fn copy_row(&self, to: usize, source: &Activations, from: usize) {
        let (mine, theirs) = (self.shape, source.shape);
        assert!(mine.kind == theirs.kind && mine.cols == theirs.cols, "{mine:?} from {theirs:?}");
        assert!(to < mine.rows && from < theirs.rows, "row {from} of {theirs:?} to row {to} of {mine:?}");
        if mine.kind == ActivationKind::Int8 {
            // SAFETY: as below.
            unsafe { source.scale(from).copy_to(self.scale(to), 1) };
        }
        for chunk in 0..mine.chunks() {
            // SAFETY: both rows are inside their views, as just checked; the caller keeps others away.
            unsafe {
                match mine.kind {
                    ActivationKind::F32 => source.floats(chunk, from).copy_to(self.floats(chunk, to), CHUNK),
                    ActivationKind::Bf16 => source.bf16s(chunk, from).copy_to(self.bf16s(chunk, to), CHUNK),
                    ActivationKind::Int8Rows(_) => {
                        unreachable!("what experts read is not rounded so")
                    }
                    ActivationKind::Int8 => {
                        const N: usize = CHUNK_GROUPS;
                        source.codes(chunk, from).copy_to(self.codes(chunk, to), CHUNK);
                        source.shifts(chunk, from).copy_to(self.shifts(chunk, to), N);
                        source.shifted_sums(chunk, from).copy_to(self.shifted_sums(chunk, to), N);
                        source.negated_sums(chunk, from).copy_to(self.negated_sums(chunk, to), N);
                        source
                            .shifted_half_sums(chunk, from)
                            .copy_to(self.shifted_half_sums(chunk, to), 2 * N);
                        source
                            .negated_half_sums(chunk, from)
                            .copy_to(self.negated_half_sums(chunk, to), 2 * N);
                    }
                }
            }
        }
    }
}

/// A matrix of activations with memory of its own.
pub struct ActivationBuffer {
    memory: AlignedBytes,
    shape: ActivationShape,
}

impl ActivationBuffer {
    /// Memory for `shape`, or for any shape that needs no more bytes.
    ///
    /// # Panics
    /// When there is no memory.
    pub fn new(shape: ActivationShape) -> ActivationBuffer {
        let memory = AlignedBytes::zeroed(shape.bytes()).expect("memory for activations");
        ActivationBuffer { memory, shape }
    }

    /// Rounds or copies `rows` rows of `cols` elements from `x`, one after another, into the buffer.
    ///
    /// # Panics
    /// When `x` is not `shape.rows() · shape.cols()` long or `shape` needs more memory than the buffer has.
    pub fn fill(&mut self, isa: Isa, shape: ActivationShape, x: &[f32]) -> Activations {
        assert_eq!(x.len(), shape.rows * shape.cols, "elements of {shape:?}");
        assert!(shape.bytes() <= self.memory.len(), "{shape:?} in {} bytes", self.memory.len());
        self.shape = shape;
        let view = self.view();
        for (row, x) in x.chunks_exact(shape.cols).enumerate() {
            // SAFETY: `self` is borrowed mutably, so nobody else uses the memory.
            unsafe { super::quantize_row(isa, x, &view, row) };
        }
        crate::pool::stores_are_done();
        view
    }

    /// The memory as it is.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: initialised when it was allocated.
        unsafe { std::slice::from_raw_parts(self.memory.as_mut_ptr(), self.memory.len()) }
    }

    /// The view that the last [`fill`](ActivationBuffer::fill) returned. It must not outlive the buffer.
    pub fn view(&self) -> Activations {
        // SAFETY: the memory is initialised and large enough for `shape`; only `fill` writes it.
        unsafe { Activations::new(self.memory.as_mut_ptr(), self.shape) }
    }
}

/// Writes row `row` of `out`, an 8-bit operand, from `x`: the definition of right.
///
/// # Safety
/// `x` has `cols` elements, `row` is inside the view, and nothing else uses that row of it.
pub(crate) unsafe fn quantize_row_portable(x: &[f32], out: &Activations, row: usize) {
    let magnitude = largest_magnitude(x);
    let (scale, inverse) = row_scale(magnitude);
    // SAFETY: the row is inside the view, and this function has it to itself.
    unsafe {
        *out.scale(row) = scale;
        for (chunk, x) in x.chunks(CHUNK).enumerate() {
            quantize_chunk(x, (magnitude, inverse), out, chunk, row);
        }
    }
}

/// Writes some of row `row` of `out`, an operand of floats, from `x`: from a chunk on. Compiled again for each instruction
/// set.
///
/// # Safety
/// As [`super::quantize_part`].
#[inline(always)]
pub(crate) unsafe fn convert_row(x: &[f32], out: &Activations, row: usize, first: usize) {
    for (chunk, x) in (first..).zip(x.chunks(CHUNK)) {
        // SAFETY: the places are inside the view and this function has them to itself.
        unsafe {
            if out.shape.kind == ActivationKind::F32 {
                let to = std::slice::from_raw_parts_mut(out.floats(chunk, row), CHUNK);
                to[..x.len()].copy_from_slice(x);
                to[x.len()..].fill(0.0);
            } else {
                let to = std::slice::from_raw_parts_mut(out.bf16s(chunk, row), CHUNK);
                for (to, x) in to.iter_mut().zip(x) {
                    *to = to_bf16(*x);
                }
                to[x.len()..].fill(0);
            }
        }
    }
}

/// A chunk of a row whose largest magnitude has the bits `magnitude`.
///
/// # Safety
/// As [`quantize_row_portable`].
#[inline(always)]
unsafe fn quantize_chunk(
    x: &[f32],
    (magnitude, inverse): (u32, f32),
    out: &Activations,
    chunk: usize,
    row: usize,
) {
    // SAFETY: inside the view, as the caller promises.
    let (codes, shifts, sums, half_sums, shifted, shifted_halves) = unsafe {
        (
            &mut *out.codes(chunk, row).cast::<[[i8; GROUP]; CHUNK_GROUPS]>(),
            &mut *out.shifts(chunk, row).cast::<[i32; CHUNK_GROUPS]>(),
            &mut *out.negated_sums(chunk, row).cast::<[i32; CHUNK_GROUPS]>(),
            &mut *out.negated_half_sums(chunk, row).cast::<[[i32; 2]; CHUNK_GROUPS]>(),
            &mut *out.shifted_sums(chunk, row).cast::<[f32; CHUNK_GROUPS]>(),
            &mut *out.shifted_half_sums(chunk, row).cast::<[[f32; 2]; CHUNK_GROUPS]>(),
        )
    };
    for g in 0..CHUNK_GROUPS {
        let mut group = [0.0f32; GROUP];
        match x.get(g * GROUP..(g + 1) * GROUP) {
            Some(x) => group.copy_from_slice(x),
            None => {
                for (to, x) in group.iter_mut().zip(x.iter().skip(g * GROUP)) {
                    *to = *x;
                }
            }
        }
        let shift = if inverse == 0.0 { 0 } else { group_shift(magnitude, largest_magnitude(&group)) };
        let inverse = inverse * finer(shift);
        let mut halves = [0i32; 2];
        for (half, sum) in halves.iter_mut().enumerate() {
            for i in half * 16..half * 16 + 16 {
                let code = round_code(group[i], inverse);
                codes[g][i] = code as i8;
                *sum += code;
            }
        }
        let sum = halves[0] + halves[1];
        shifts[g] = shift;
        sums[g] = -sum;
        shifted[g] = (sum << shift) as f32;
        half_sums[g] = [-halves[0], -halves[1]];
        shifted_halves[g] = [(halves[0] << shift) as f32, (halves[1] << shift) as f32];
    }
}

/// The smallest magnitude that counts: below it, 127 / max could overflow, and such a row is below any model's noise.
pub(crate) const SMALLEST: f32 = 1e-30;
/// The largest shift: a group's sum of products, below 2¹⁹, stays an `i32`.
const MOST_SHIFT: u32 = 11;

/// The bits of the largest magnitude: as integers, magnitudes order as the floats do, with infinity and then the NaNs
/// above all.
#[inline(always)]
fn largest_magnitude(x: &[f32]) -> u32 {
    x.iter().fold(0u32, |max, x| max.max(x.to_bits() & 0x7fff_ffff))
}

/// The scale of a row and what its elements are multiplied by where the shift is the largest, from the bits of its
/// largest magnitude.
#[inline(always)]
pub(crate) fn row_scale(magnitude: u32) -> (f32, f32) {
    let largest = f32::from_bits(magnitude);
    if magnitude >= 0x7f80_0000 {
        (f32::NAN, 0.0)
    } else if largest < SMALLEST {
        (0.0, 0.0)
    } else {
        (largest / 127.0 / (1 << MOST_SHIFT) as f32, 127.0 / largest)
    }
}

/// The shift of a group, from the bits of the row's and of the group's largest magnitudes: the difference of their
/// exponents, less one where the group's fraction is the larger, is how many times its steps can be halved.
#[inline(always)]
pub(crate) fn group_shift(row: u32, group: u32) -> i32 {
    if group == 0 { 0 } else { (MOST_SHIFT - ((row - group) >> 23).min(MOST_SHIFT)) as i32 }
}

/// What the elements of a group with `shift` are multiplied by in addition: 2^(11 − shift).
#[inline(always)]
pub(crate) fn finer(shift: i32) -> f32 {
    f32::from_bits((127 + MOST_SHIFT - shift as u32) << 23)
}

/// `x · inverse` rounded to nearest, ties to even; 0 when that is not a number.
#[inline(always)]
fn round_code(x: f32, inverse: f32) -> i32 {
    /// 1.5 · 2²³: added to a number below 2²² it leaves the rounded number in the lowest bits.
    const MAGIC: f32 = 12_582_912.0;
    let rounded = (x * inverse + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32;
    // Infinity or NaN, the only numbers that reach the magic number's exponent.
    if inverse == 0.0 { 0 } else { rounded }
}

/// Nearest BF16, ties to even; NaNs stay NaNs.
#[inline(always)]
pub(super) fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    if x.is_nan() { (bits >> 16) as u16 | 0x40 } else { rounded }
}
