//! Rounding of a row of activations to 8 bits, as [`crate::matmul::activations`] defines it, over lanes.

use crate::matmul::activations::{finer, group_shift, row_scale};
use crate::matmul::{ActivationKind, Activations, CHUNK, GROUP};

use super::lanes::{LANES, Lanes, magnitude};

const GROUPS: usize = CHUNK / GROUP;
/// The bits of a float but for its sign: a largest magnitude may be −0.
const MAGNITUDE: u32 = 0x7fff_ffff;

/// Writes row `row` of `out`, an 8-bit operand, from `x`.
///
/// # Safety
/// As for [`Lanes`]; `x` has the operand's columns, `row` is one of its rows, and nobody else uses that row.
#[inline(always)]
pub(crate) unsafe fn quantize_row<V: Lanes>(x: &[f32], out: &Activations, row: usize) {
    debug_assert!(out.shape().kind() == ActivationKind::Int8 && x.len().is_multiple_of(GROUP));
    // SAFETY: as the caller promises; every chunk of a row has places for 8 groups.
    unsafe {
        let magnitude = magnitude::<V>(x.as_ptr(), x.len()).to_bits() & MAGNITUDE;
        let (scale, inverse) = row_scale(magnitude);
        *out.scale(row) = scale;
        for (chunk, x) in x.chunks(CHUNK).enumerate() {
            let codes = out.codes(chunk, row);
            let (shifts, shifted) = (out.shifts(chunk, row), out.shifted_sums(chunk, row));
            let (sums, half_sums) = (out.negated_sums(chunk, row), out.negated_half_sums(chunk, row));
            let shifted_halves = out.shifted_half_sums(chunk, row);
            let groups = x.len() / GROUP;
            for g in 0..groups {
                let from = x.as_ptr().add(g * GROUP);
                let (shift, halves) = quantize_group::<V>(from, magnitude, inverse, codes.add(g * GROUP));
                *shifts.add(g) = shift;
                *shifted.add(g) = ((halves[0] + halves[1]) << shift) as f32;
                *sums.add(g) = -(halves[0] + halves[1]);
                for (h, half) in halves.into_iter().enumerate() {
                    *half_sums.add(2 * g + h) = -half;
                    *shifted_halves.add(2 * g + h) = (half << shift) as f32;
                }
            }
            let rest = GROUPS - groups;
            codes.add(groups * GROUP).write_bytes(0, rest * GROUP);
            shifts.add(groups).write_bytes(0, rest);
            shifted.add(groups).write_bytes(0, rest);
            sums.add(groups).write_bytes(0, rest);
            half_sums.add(2 * groups).write_bytes(0, 2 * rest);
            shifted_halves.add(2 * groups).write_bytes(0, 2 * rest);
        }
    }
}

/// The codes of 32 numbers; their shift, and the sums of either half's codes (whole numbers, so exact in any order).
#[inline(always)]
unsafe fn quantize_group<V: Lanes>(
    x: *const f32,
    magnitude: u32,
    inverse: f32,
    codes: *mut i8,
) -> (i32, [i32; 2]) {
    // SAFETY: as the caller promises.
    unsafe {
        if inverse == 0.0 {
            codes.write_bytes(0, 2 * LANES);
            return (0, [0; 2]);
        }
        let (a, b) = (V::load(x), V::load(x.add(LANES)));
        let zero = V::splat(0.0);
        let largest = zero.sub(a).max(a).max(zero.sub(b).max(b)).largest();
        let shift = group_shift(magnitude, largest.to_bits() & MAGNITUDE);
        let inverse = V::splat(inverse * finer(shift));
        let (a, b) = (a.mul(inverse).round(), b.mul(inverse).round());
        a.store_i8(codes);
        b.store_i8(codes.add(LANES));
        (shift, [a.sum() as i32, b.sum() as i32])
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kernels;
    use crate::isa::Isa;
    use crate::matmul::{self, ActivationBuffer, ActivationKind, ActivationShape};

    /// All that an operand's memory holds.
    fn bytes(shape: ActivationShape, fill: impl Fn(&matmul::Activations)) -> Vec<u8> {
        let buffer = ActivationBuffer::new(shape);
        let view = buffer.view();
        fill(&view);
        // SAFETY: the buffer has as many bytes, and `fill` is done with them.
        unsafe { std::slice::from_raw_parts(view.codes(0, 0).cast::<u8>(), shape.bytes()).to_vec() }
    }

    #[test]
    fn bits_are_those_of_the_definition() {
        let mut x: Vec<f32> = (0..352).map(|i| ((i * 7919 % 1000) as f32 - 500.0) * 1.7e-3).collect();
        x[40] = 1e-20;
        x[64..96].fill(0.0);
        x[96..128].fill(1e-35);
        x[130] = f32::INFINITY;
        x[170] = f32::NAN;
        x[200] = 3e38;
        let shape = ActivationShape::new(ActivationKind::Int8, 3, x.len());
        for isa in Isa::available() {
            let kernels = Kernels::of(isa);
            // SAFETY: the instruction set is available, and the row is one of the view's.
            let found = bytes(shape, |view| unsafe { (kernels.quantize_row)(&x, view, 1) });
            // SAFETY: as above.
            let right = bytes(shape, |view| unsafe { matmul::quantize_row(Isa::Scalar, &x, view, 1) });
            let differs = found.iter().zip(&right).filter(|(a, b)| a != b).count();
            assert_eq!(differs, 0, "{isa}");
        }
    }
}
