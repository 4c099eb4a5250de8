//! Matrix products with packed weights: `y[m][n] = Σ_k x[m][k] · W[n][k]`.
//!
//! # The arithmetic
//!
//! An element of the result is the same bits whatever the number of rows beside it, the pieces in which threads share
//! the work, and the instruction set. Kernels achieve it by one rule: **SIMD lanes are rows of `W`**, so no sum is
//! ever taken across lanes, and each element is the following sequence of operations and no other.
//!
//! For quantized weights, over groups of 32 elements (16 where the type's scales cover 16) in ascending order:
//!
//! ```text
//! dot = Σ level[k] · a[k] · 2^s                exact, in i32
//! acc = fma(f32(dot), d_w, acc)
//! acc = fma(−min_w, f32(Σ a[k] · 2^s), acc)    only for types with minima
//! ```
//!
//! and at the end `y = acc · d_a`, where `level`, `d_w` and `min_w` are those of [`autarky_quant::codes()`], and `a`, the
//! group's shift `s` and the row's scale `d_a` those of [`activations`]. The unsigned codes `u = level + Z` that
//! `vpdpbusd` wants cost nothing: the accumulator starts from `−Z · Σ a[k]`. The sums cannot overflow:
//! |dot| ≤ 32 · 128 · 127 · 2^11 < 2^30, and it has at most 19 bits before the shift, so that f32(dot) is exact.
//!
//! For float weights, over chunks of 256 elements in ascending order:
//!
//! ```text
//! part = 0;  part = fma(w[k], x[k], part)  for each k of the chunk, ascending
//! acc = acc + part
//! ```
//!
//! BF16 weights can have `x` rounded to BF16, too, and follow `tdpbf16ps` (AMX) or `vdpbf16ps` (AVX-512) instead: the same
//! for any number of rows, but not the bits of the other instruction sets ([`ActivationKind::Bf16`]).
//!
//! # The kernels
//!
//! [`PackedWeight`] stores panels of 16 rows. With few rows of activations the product is bound by memory, and a
//! kernel unpacks a group in registers and uses it at once. With many, AVX-512 does so, too, for 32 rows at a time;
//! the others unpack a chunk (256 elements of 16 rows) to a scratch in the first-level cache and run it over blocks of
//! rows. Either way the order is rows, then chunks, then panels, so that what is read again is in that cache.
//!
//! | file | instruction set |
//! | --- | --- |
//! | `scalar.rs` | portable Rust: the definition of right |
//! | `avx2.rs` | AVX2, FMA, F16C |
//! | `avx512.rs` | AVX-512 with VNNI |
//! | `bf16.rs`, `bf16/`, `paired.rs` | AVX-512 with BF16, for training |
//! | `int8.rs`, `int8/` | 8-bit integers with scales on AVX-512 with VNNI, for training |
//! | `words.rs` | the loops of both |
//! | `amx/` | AMX tiles |
//! | `neon.rs` | AArch64 |

pub mod activations;
mod float;
mod format;
mod int8;
mod integer;
mod lanes;
mod memory;
mod packed;
mod paired;
pub mod peak;
mod scalar;
mod unpack;

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod bf16;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod words;

pub use activations::{ActivationBuffer, ActivationKind, ActivationShape, Activations, Rounding};
pub(crate) use format::STRIPE;
pub use format::{CHUNK, GROUP, PANEL_ROWS};
pub(crate) use int8::{ColumnSource, Int8Panels, Quads};
pub use memory::LINE;
pub(crate) use packed::Blocks;
pub use packed::{PackError, PackedWeight};
pub(crate) use paired::Paired;

use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::pool::Pool;
use activations::quantize_row_portable;
use lanes::Lanes;
use std::ops::Range;

/// Rows of activations that are run through a product together, at most.
pub(crate) const ROW_BLOCK: usize = 256;
/// Panels that are run through a product together, at most: a chunk of the rows' codes is read once for all of them.
pub(crate) const PANEL_BLOCK: usize = 4;

/// Memory of one thread for unpacked weights and sums.
pub struct Scratch {
    inner: Box<ScratchParts>,
}

#[repr(C, align(64))]
pub(crate) struct ScratchParts {
    pub(crate) unpacked: unpack::Unpacked,
    /// A chunk of a panel as floats, element by element.
    pub(crate) floats: [[f32; PANEL_ROWS]; CHUNK],
    /// Sums of a block of rows, panel after panel.
    pub(crate) sums: [[f32; PANEL_ROWS]; PANEL_BLOCK * ROW_BLOCK],
}

impl Scratch {
    /// Allocates the memory, about 90 KiB.
    pub fn new() -> Scratch {
        // SAFETY: all fields are arrays of integers and floats, for which zero bytes are valid.
        Scratch { inner: unsafe { Box::<ScratchParts>::new_zeroed().assume_init() } }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch::new()
    }
}

/// Asks for the cache line at `at`, which need not be valid.
#[inline(always)]
pub(crate) fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64, and a prefetch never faults, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch(at.cast(), std::arch::x86_64::_MM_HINT_T0)
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch never faults, whatever the address.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) at, options(nostack, preserves_flags))
    }
    let _ = at;
}

/// As [`prefetch`], to the second-level cache, for what is wanted later. Lines on their way to the first level occupy its
/// few buffers for misses until they arrive, and two dozen of those are too few for a core's share of the memory's
/// bandwidth.
#[inline(always)]
pub(crate) fn prefetch_later<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64, and a prefetch never faults, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch(at.cast(), std::arch::x86_64::_MM_HINT_T1)
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch never faults, whatever the address.
    unsafe {
        std::arch::asm!("prfm pldl2keep, [{}]", in(reg) at, options(nostack, preserves_flags, readonly))
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// A product, as kernels get it.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    pub(crate) weight: &'a PackedWeight,
    pub(crate) activations: Activations,
    /// First and one past the last row of activations.
    pub(crate) rows: (usize, usize),
    pub(crate) panels: (usize, usize),
    pub(crate) y: Output,
}

/// Where a product goes.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Where element `[0][0]` of a row-major matrix is or would be: it need not exist when it is not among those to be
    /// written.
    pub start: *mut f32,
    /// Elements from one row to the next.
    pub stride: usize,
    /// Whether results may go past the caches: what is so large that it is gone from them when it is read would only
    /// be brought there to be written over. A kernel may ignore it. Other threads see them after a barrier of the
    /// pool, or its run.
    pub streamed: bool,
}

impl Output {
    /// One whose results stay near.
    pub fn new(start: *mut f32, stride: usize) -> Output {
        Output { start, stride, streamed: false }
    }
}

impl Task<'_> {
    /// Where the results of panel `panel` of row `row` are to be written, and how many of its columns there are.
    #[inline(always)]
    pub(crate) fn place(&self, row: usize, panel: usize) -> (*mut f32, usize) {
        let column = panel * PANEL_ROWS;
        let to = self.y.start.wrapping_add(row * self.y.stride + column);
        (to, PANEL_ROWS.min(self.weight.rows() - column))
    }

    /// Writes 16 sums to row `row` of the result, less those beyond the last column.
    ///
    /// # Safety
    /// As [`matmul`] and [`Lanes`]; `row` and `panel` are among the task's.
    #[inline(always)]
    pub(crate) unsafe fn store<V: Lanes>(&self, row: usize, panel: usize, sums: V) {
        let (to, columns) = self.place(row, panel);
        // SAFETY: these elements of `y` are this call's alone, as `matmul` was promised.
        unsafe {
            if columns == PANEL_ROWS {
                sums.store(to);
            } else {
                let mut all = [0.0; PANEL_ROWS];
                sums.store(all.as_mut_ptr());
                to.copy_from_nonoverlapping(all.as_ptr(), columns);
            }
        }
    }

    /// As [`store`](Task::store), of sums that are still to be multiplied by the scale of the row of activations.
    ///
    /// # Safety
    /// As [`store`](Task::store); the activations are 8-bit integers.
    #[inline(always)]
    pub(crate) unsafe fn store_scaled<V: Lanes>(&self, row: usize, panel: usize, sums: V) {
        // SAFETY: the caller's promise.
        unsafe { self.store(row, panel, sums.mul(V::splat(*self.activations.scale(row)))) }
    }
}

type MatmulFn = unsafe fn(&Task<'_>, &mut ScratchParts);

fn kernel(isa: Isa) -> MatmulFn {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::matmul,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => avx512::matmul,
        #[cfg(target_arch = "x86_64")]
        Isa::Amx => amx::matmul,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => neon::matmul,
        _ => scalar::matmul,
    }
}

/// Rounds (or copies, for the float forms) one row of activations into row `row` of `out`.
///
/// # Panics
/// When `x` does not have the view's columns or `row` is beyond its rows.
///
/// # Safety
/// The machine must be able to run `isa`, and nothing else may use that row of the view meanwhile. Other threads may
/// use it after a barrier of the pool, or its run: large views are written past the caches.
pub unsafe fn quantize_row(isa: Isa, x: &[f32], out: &Activations, row: usize) {
    let shape = out.shape();
    assert_eq!(x.len(), shape.cols(), "elements of a row of {shape:?}");
    // SAFETY: the caller's promise.
    unsafe { quantize_part(isa, x, out, row, 0) }
}

/// As [`quantize_row`], for some columns from `first` on, a multiple of [`STRIPE`]: whole stripes, or all up to the end.
/// Integers for quantized weights come by whole rows.
///
/// # Panics
/// When the view has no such columns or rows, or its form is not written in parts.
///
/// # Safety
/// As [`quantize_row`].
pub(crate) unsafe fn quantize_part(isa: Isa, x: &[f32], out: &Activations, row: usize, first: usize) {
    let shape = out.shape();
    let (end, whole) = (first + x.len(), shape.kind() == ActivationKind::Int8);
    let parts = !whole && first.is_multiple_of(STRIPE) && end.is_multiple_of(STRIPE) && end < shape.cols();
    let last = end == shape.cols() && first.is_multiple_of(if whole { end.max(1) } else { STRIPE });
    assert!(parts || last, "columns {first} to {end} of {shape:?}");
    assert!(row < shape.rows(), "row {row} of {shape:?}");
    // SAFETY: just checked; the rest is the caller's promise.
    unsafe {
        match shape.kind() {
            ActivationKind::Int8 if isa == Isa::Scalar => quantize_row_portable(x, out, row),
            ActivationKind::Int8 => (Kernels::of(isa).quantize_row)(x, out, row),
            #[cfg(target_arch = "x86_64")]
            ActivationKind::Bf16 if isa.has_bf16_products() => bf16::write_row(x, out, row, first / CHUNK),
            ActivationKind::F32 | ActivationKind::Bf16 => {
                (Kernels::of(isa).convert_row)(x, out, row, first / CHUNK);
            }
            ActivationKind::Int8Rows(rounding) => int8::write_row(rounding, x, out, row, first / STRIPE),
        }
    }
}

/// Computes `y[m][n] = Σ_k x[m][k] · W[n][k]` for the rows `m` in `rows` and the columns `n` of the panels in `panels`
/// (16 columns each; the last may have fewer). Threads share a product by calling this with different `panels` or
/// `rows`; how they do changes no bit of the result.
///
/// # Panics
/// When the shapes, the ranges or the activations' form do not fit the weight.
///
/// # Safety
/// The machine must be able to run `isa`; the elements of `y` to be written must be valid for writes and used by
/// nothing else meanwhile; the rows of `activations` must have been written and must not change meanwhile.
pub unsafe fn matmul(
    isa: Isa,
    weight: &PackedWeight,
    panels: Range<usize>,
    activations: &Activations,
    rows: Range<usize>,
    y: Output,
    scratch: &mut Scratch,
) {
    let shape = activations.shape();
    assert_eq!(shape.cols(), weight.cols(), "columns of the activations and of {weight:?}");
    assert!(rows.end <= shape.rows(), "rows {rows:?} of {shape:?}");
    assert!(panels.end <= weight.panels(), "panels {panels:?} of {weight:?}");
    let fits = match shape.kind() {
        ActivationKind::Int8 => !weight.dtype().is_float(),
        ActivationKind::F32 => weight.dtype().is_float(),
        ActivationKind::Bf16 => {
            weight.dtype() == autarky_quant::DType::BF16 && (isa == Isa::Amx || isa.has_bf16_products())
        }
        ActivationKind::Int8Rows(_) => false,
    };
    assert!(fits, "{weight:?} with {shape:?} on {isa}");
    if rows.is_empty() || panels.is_empty() {
        return;
    }
    let task = Task {
        weight,
        activations: *activations,
        rows: (rows.start, rows.end),
        panels: (panels.start, panels.end),
        y,
    };
    // SAFETY: ranges and forms are checked; the rest is the caller's promise.
    unsafe { kernel(isa)(&task, &mut scratch.inner) }
}

/// The whole product, shared among the threads of `pool`: for callers outside a step of their own.
///
/// `x` is row-major with `weight.cols()` columns, `y` with `weight.rows()`.
///
/// # Panics
/// When the lengths do not fit or the machine cannot run `isa`.
pub fn matmul_with(isa: Isa, pool: &Pool, weight: &PackedWeight, x: &[f32], y: &mut [f32]) {
    assert!(isa.is_available(), "this machine cannot run {isa}");
    let rows = x.len() / weight.cols();
    assert_eq!(x.len(), rows * weight.cols(), "elements of x");
    assert_eq!(y.len(), rows * weight.rows(), "elements of y");
    if rows == 0 {
        return;
    }
    let kind = ActivationKind::for_weight(weight.dtype(), isa, true);
    let shape = ActivationShape::new(kind, rows, weight.cols());
    let mut buffer = ActivationBuffer::new(shape);
    let activations = buffer.fill(isa, shape, x);
    let y = SharedOut(y.as_mut_ptr());
    pool.run(&|worker| {
        worker.for_each(weight.panels(), 4, |panels| {
            let y = &y;
            worker.with_scratch(|scratch| {
                // SAFETY: `y` has all rows and columns, each panel's columns go to one thread, and the activations
                // are not written while `buffer` lives on unchanged.
                unsafe {
                    matmul(
                        isa,
                        weight,
                        panels,
                        &activations,
                        0..rows,
                        Output::new(y.0, weight.rows()),
                        scratch,
                    );
                }
            });
        });
    });
}

/// A pointer that threads write different elements through.
struct SharedOut(*mut f32);
// SAFETY: see its use: no element is written by two threads.
unsafe impl Sync for SharedOut {}
