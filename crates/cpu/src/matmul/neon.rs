//! Kernels for AArch64 Advanced SIMD.
//!
//! Weights are unpacked to signed levels. Where the processor has the dot-product instructions, `sdot` adds the
//! products of a quad to four rows at once; elsewhere `smull` and `sadalp` do, which cannot overflow either, since
//! |level| ≤ 128 and |a| ≤ 127. Stable Rust has no intrinsic for `sdot`, so that is inline assembly.
//!
//! All functions without `target_feature` are `inline(always)` parts of those with it; see [`Lanes`] for their safety.

use super::format::{CHUNK, CHUNK_GROUPS, Format, GROUP, GROUP_CODES, PANEL_ROWS, with_format};
use super::integer::{self, Block, Integer};
use super::lanes::Lanes;
use super::unpack::{self, CodeForm, Unpacked};
use super::{Activations, ScratchParts, Task, float};
use std::arch::aarch64::*;
use std::arch::asm;
use std::marker::PhantomData;

/// # Safety
/// As [`super::matmul`], whose checks were made; the processor has Advanced SIMD.
#[target_feature(enable = "neon")]
pub(super) unsafe fn matmul(task: &Task<'_>, scratch: &mut ScratchParts) {
    let dotprod = std::arch::is_aarch64_feature_detected!("dotprod");
    // SAFETY: the caller's promise.
    unsafe {
        with_format!(
            task.weight.dtype(),
            F => if dotprod {
                with_sdot::<F>(task, scratch)
            } else {
                without_sdot::<F>(task, scratch)
            },
            else float::product::<Four, 4>(task, scratch)
        )
    }
}

/// # Safety
/// As [`matmul`]; the processor has the dot-product instructions.
#[target_feature(enable = "neon,dotprod")]
unsafe fn with_sdot<F: Format>(task: &Task<'_>, scratch: &mut ScratchParts) {
    // SAFETY: as the caller's.
    unsafe { integer::product::<F, Kernel<Sdot>>(task, scratch) }
}

/// # Safety
/// As [`matmul`].
#[target_feature(enable = "neon")]
unsafe fn without_sdot<F: Format>(task: &Task<'_>, scratch: &mut ScratchParts) {
    // SAFETY: as the caller's.
    unsafe { integer::product::<F, Kernel<Smull>>(task, scratch) }
}

/// Sixteen lanes in four registers.
#[derive(Clone, Copy)]
struct Four([float32x4_t; 4]);

impl Four {
    #[inline(always)]
    unsafe fn widen(bytes: uint8x16_t) -> [uint32x4_t; 4] {
        // SAFETY: as `Lanes`.
        unsafe {
            let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes));
            [
                vmovl_u16(vget_low_u16(low)),
                vmovl_high_u16(low),
                vmovl_u16(vget_low_u16(high)),
                vmovl_high_u16(high),
            ]
        }
    }

    #[inline(always)]
    unsafe fn from_u8(bytes: uint8x16_t) -> Self {
        // SAFETY: as `Lanes`.
        unsafe { Four(Four::widen(bytes).map(|v| vcvtq_f32_u32(v))) }
    }
}

// Every body is what `Lanes` promises, under its safety contract.
#[allow(clippy::undocumented_unsafe_blocks, clippy::redundant_closure)]
impl Lanes for Four {
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { Four([vdupq_n_f32(x); 4]) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe {
            Four([vld1q_f32(from), vld1q_f32(from.add(4)), vld1q_f32(from.add(8)), vld1q_f32(from.add(12))])
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe {
            for (i, v) in self.0.into_iter().enumerate() {
                vst1q_f32(to.add(4 * i), v);
            }
        }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> Self {
        unsafe {
            let quarter = |i: usize| {
                let bits = vreinterpret_u16_u8(vld1_u8(from.add(8 * i)));
                vcvt_f32_f16(vreinterpret_f16_u16(bits))
            };
            Four([quarter(0), quarter(1), quarter(2), quarter(3)])
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(from: *const u8) -> [Self; 2] {
        unsafe {
            let mut both = [Four([vdupq_n_f32(0.0); 4]); 2];
            for i in 0..4 {
                let pairs = vreinterpretq_u32_u8(vld1q_u8(from.add(16 * i)));
                both[0].0[i] = vreinterpretq_f32_u32(vshlq_n_u32(pairs, 16));
                both[1].0[i] = vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xffff_0000)));
            }
            both
        }
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> Self {
        unsafe {
            let bytes = vld1q_s8(from.cast());
            let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
            Four([
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
                vcvtq_f32_s32(vmovl_high_s16(low)),
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
                vcvtq_f32_s32(vmovl_high_s16(high)),
            ])
        }
    }
    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self {
        unsafe { Four::from_u8(vld1q_u8(from)) }
    }
    #[inline(always)]
    unsafe fn load_nibbles(from: *const u8) -> [Self; 2] {
        unsafe {
            let both = vld1q_u8(from);
            [Four::from_u8(vandq_u8(both, vdupq_n_u8(15))), Four::from_u8(vshrq_n_u8(both, 4))]
        }
    }
    #[inline(always)]
    unsafe fn load_exponents(from: *const u8) -> Self {
        unsafe {
            // Exponent field e − 1; for 0 and 1 the subnormals 2^−128 and 2^−127.
            Four(Four::widen(vld1q_u8(from)).map(|e| {
                let normal = vshlq_n_u32(vsubq_u32(e, vdupq_n_u32(1)), 23);
                let subnormal = vshlq_u32(vdupq_n_u32(0x0020_0000), vreinterpretq_s32_u32(e));
                vreinterpretq_f32_u32(vbslq_u32(vcltq_u32(e, vdupq_n_u32(2)), subnormal, normal))
            }))
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Four(std::array::from_fn(|i| vaddq_f32(self.0[i], other.0[i]))) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Four(std::array::from_fn(|i| vmulq_f32(self.0[i], other.0[i]))) }
    }
    #[inline(always)]
    unsafe fn neg(self) -> Self {
        unsafe { Four(self.0.map(|v| vnegq_f32(v))) }
    }
    #[inline(always)]
    unsafe fn fma(self, x: Self, y: Self) -> Self {
        unsafe { Four(std::array::from_fn(|i| vfmaq_f32(y.0[i], self.0[i], x.0[i]))) }
    }
}

/// How the products of bytes are added up.
///
/// # Safety
/// Every function needs a processor with the implementer's instructions.
trait Dot {
    /// Partial sums of four rows.
    type Sum: Copy;
    unsafe fn zero() -> Self::Sum;
    /// Adds the products of quad `quad` (0..4) of 16 activations with four rows of a quad of weights.
    unsafe fn add(sum: Self::Sum, weights: int8x16_t, activations: int8x16_t, quad: usize) -> Self::Sum;
    unsafe fn total(sum: Self::Sum) -> int32x4_t;
}

struct Sdot;
struct Smull;

// Every body is what `Dot` promises, under its safety contract.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Dot for Sdot {
    type Sum = int32x4_t;

    #[inline(always)]
    unsafe fn zero() -> Self::Sum {
        unsafe { vdupq_n_s32(0) }
    }

    #[inline(always)]
    unsafe fn add(mut sum: Self::Sum, weights: int8x16_t, activations: int8x16_t, quad: usize) -> Self::Sum {
        macro_rules! sdot {
            ($instruction:literal) => {
                asm!(
                    $instruction,
                    inout(vreg) sum, in(vreg) weights, in(vreg) activations,
                    options(pure, nomem, nostack, preserves_flags)
                )
            };
        }
        unsafe {
            match quad {
                0 => sdot!("sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[0]"),
                1 => sdot!("sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[1]"),
                2 => sdot!("sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[2]"),
                _ => sdot!("sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[3]"),
            }
        }
        sum
    }

    #[inline(always)]
    unsafe fn total(sum: Self::Sum) -> int32x4_t {
        sum
    }
}

// Every body is what `Dot` promises, under its safety contract.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Dot for Smull {
    /// Rows 0 and 1, two sums each, and rows 2 and 3.
    type Sum = [int32x4_t; 2];

    #[inline(always)]
    unsafe fn zero() -> Self::Sum {
        unsafe { [vdupq_n_s32(0); 2] }
    }

    #[inline(always)]
    unsafe fn add(sum: Self::Sum, weights: int8x16_t, activations: int8x16_t, quad: usize) -> Self::Sum {
        unsafe {
            let words = vreinterpretq_s32_s8(activations);
            let four = vreinterpretq_s8_s32(match quad {
                0 => vdupq_laneq_s32::<0>(words),
                1 => vdupq_laneq_s32::<1>(words),
                2 => vdupq_laneq_s32::<2>(words),
                _ => vdupq_laneq_s32::<3>(words),
            });
            let low = vmull_s8(vget_low_s8(weights), vget_low_s8(four));
            [vpadalq_s16(sum[0], low), vpadalq_s16(sum[1], vmull_high_s8(weights, four))]
        }
    }

    #[inline(always)]
    unsafe fn total(sum: Self::Sum) -> int32x4_t {
        unsafe { vpaddq_s32(sum[0], sum[1]) }
    }
}

/// The integer half of the kernels.
struct Kernel<D>(PhantomData<D>);

impl<D: Dot> Integer for Kernel<D> {
    type Lanes = Four;

    const ROWS: usize = 64;

    #[inline(always)]
    unsafe fn unpack_codes<F: Format>(group: *const u8, out: &mut [u8; GROUP_CODES]) {
        // SAFETY: the caller's promise.
        let group = unsafe { std::slice::from_raw_parts(group, F::SPEC.group_bytes()) };
        unpack::unpack_codes::<F>(group, CodeForm::Signed, out);
    }

    #[inline(always)]
    unsafe fn block<F: Format>(
        task: &Task<'_>,
        unpacked: &Unpacked,
        block: Block,
        sums: &mut [[f32; PANEL_ROWS]],
    ) {
        let mut done = 0;
        // SAFETY: the caller's promise.
        unsafe {
            while block.rows - done >= 4 {
                let at = Block { row: block.row + done, ..block };
                rows_block::<F, D, 4>(task, unpacked, at, &mut sums[done..]);
                done += 4;
            }
            while done < block.rows {
                let at = Block { row: block.row + done, ..block };
                rows_block::<F, D, 1>(task, unpacked, at, &mut sums[done..]);
                done += 1;
            }
        }
    }
}

/// `M` rows against an unpacked chunk; `sums` are theirs.
///
/// # Safety
/// As [`Integer::block`].
#[inline(always)]
unsafe fn rows_block<F: Format, D: Dot, const M: usize>(
    task: &Task<'_>,
    unpacked: &Unpacked,
    at: Block,
    sums: &mut [[f32; PANEL_ROWS]],
) {
    let spec = &F::SPEC;
    let a = &task.activations;
    let Block { chunk, groups, row, .. } = at;
    let parts = GROUP / spec.scale_group;
    let quads_of_part = 8 / parts;
    let sums_of_row = CHUNK_GROUPS * parts;
    // SAFETY: the rows are inside the view, and `sums` has `M` of them.
    unsafe {
        let codes = a.codes(chunk, row);
        let shifts = a.shifts(chunk, row);
        let shifted_sums =
            if parts == 1 { a.shifted_sums(chunk, row) } else { a.shifted_half_sums(chunk, row) };
        for group in 0..groups {
            let weights = unpacked.codes[group].as_ptr().cast::<i8>();
            for part in 0..parts {
                let index = group * parts + part;
                let mut dots = [[D::zero(); 4]; M];
                for sixteen in (part * quads_of_part..(part + 1) * quads_of_part).step_by(4) {
                    let mut x = [vdupq_n_s8(0); M];
                    for (m, x) in x.iter_mut().enumerate() {
                        *x = vld1q_s8(codes.add(m * CHUNK + group * GROUP + sixteen * 4));
                    }
                    for quad in 0..4 {
                        for rows in 0..4 {
                            let w = vld1q_s8(weights.add((sixteen + quad) * 64 + rows * 16));
                            for (dots, x) in dots.iter_mut().zip(x) {
                                dots[rows] = D::add(dots[rows], w, x, quad);
                            }
                        }
                    }
                }
                let scale = Four::load(unpacked.scales[index].as_ptr());
                for (m, (dots, sums)) in dots.iter().zip(sums.iter_mut()).enumerate() {
                    let shift = vdupq_n_s32(*shifts.add(m * CHUNK_GROUPS + group));
                    let mut floats = Four::splat(0.0);
                    for (float, dots) in floats.0.iter_mut().zip(dots) {
                        *float = vcvtq_f32_s32(vshlq_s32(D::total(*dots), shift));
                    }
                    let mut sum = floats.fma(scale, Four::load(sums.as_ptr()));
                    if spec.mins {
                        let addend = Four::load(unpacked.addends[index].as_ptr());
                        sum = addend.fma(Four::splat(*shifted_sums.add(m * sums_of_row + index)), sum);
                    }
                    sum.store(sums.as_mut_ptr());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Random, bits, kind_of, product, random_rows, random_x};
    use super::super::{ActivationBuffer, ActivationShape, Output, PackedWeight, Scratch, Task};
    use super::without_sdot;
    use crate::isa::Isa;
    use crate::pool::Pool;
    use autarky_quant::DType;

    /// The parity tests of all instruction sets run what the processor has; this is the other half of a new one.
    #[test]
    fn kernels_without_dot_products_give_the_same_bits() {
        let pool = Pool::new(1);
        let mut random = Random(30);
        let (m, n, k) = (6, 21, 512);
        for dtype in DType::ALL.into_iter().filter(|d| !d.is_float()) {
            let bytes = random_rows(dtype, n, k, &mut random);
            let weight = PackedWeight::pack(dtype, n, k, &[&bytes], &pool).unwrap();
            let x = random_x(m, k, &mut random);
            let expected = product(Isa::Scalar, &weight, &x, kind_of(dtype));
            let shape = ActivationShape::new(kind_of(dtype), m, k);
            let mut buffer = ActivationBuffer::new(shape);
            let activations = buffer.fill(Isa::Neon, shape, &x);
            let mut y = vec![f32::NAN; m * n];
            let task = Task {
                weight: &weight,
                activations,
                rows: (0, m),
                panels: (0, weight.panels()),
                y: Output::new(y.as_mut_ptr(), n),
            };
            let scratch = &mut Scratch::new();
            // SAFETY: `y` has all rows and columns; every AArch64 processor has these instructions.
            unsafe {
                super::super::format::with_format!(
                    dtype, F => without_sdot::<F>(&task, &mut scratch.inner), else unreachable!()
                )
            }
            assert!(bits(&y) == bits(&expected), "{dtype}");
        }
    }
}
