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
            // Groups beyond the last, and all of a row without a scale, are zero.
            let groups = if inverse == 0.0 { 0 } else { x.len() / GROUP };
            let mut numbers = [[V::splat(0.0); GROUPS]; 2];
            for g in 0..groups {
                for (half, numbers) in numbers.iter_mut().enumerate() {
                    numbers[g] = V::load(x.as_ptr().add(g * GROUP + half * LANES));
                }
            }
            quantize_chunk(numbers, (magnitude, inverse), out, chunk, row);
        }
    }
}

/// Rounds the groups of a chunk, given by their halves, of a row whose largest magnitude has the bits `magnitude`.
///
/// # Safety
/// As [`quantize_row`]; `chunk` is one of the operand's.
#[inline(always)]
unsafe fn quantize_chunk<V: Lanes>(
    mut numbers: [[V; GROUPS]; 2],
    (magnitude, inverse): (u32, f32),
    out: &Activations,
    chunk: usize,
    row: usize,
) {
    // SAFETY: as the caller promises; every chunk of a row has places for 8 groups, and for 16 halves.
    unsafe {
        let zero = V::splat(0.0);
        let mut magnitudes = [zero; GROUPS];
        for (g, most) in magnitudes.iter_mut().enumerate() {
            let (a, b) = (numbers[0][g], numbers[1][g]);
            *most = zero.sub(a).max(a).max(zero.sub(b).max(b));
        }
        let largest = V::largest_each(magnitudes);
        let shifts = &mut *out.shifts(chunk, row).cast::<[i32; GROUPS]>();
        let codes = out.codes(chunk, row);
        for g in 0..GROUPS {
            let shift = group_shift(magnitude, largest[g].to_bits() & MAGNITUDE);
            shifts[g] = shift;
            let inverse = V::splat(inverse * finer(shift));
            for (half, numbers) in numbers.iter_mut().enumerate() {
                numbers[g] = numbers[g].mul(inverse).round();
                numbers[g].store_i8(codes.add(g * GROUP + half * LANES));
            }
        }
        let sums = [V::exact_sums(numbers[0]), V::exact_sums(numbers[1])];
        let shifted = &mut *out.shifted_sums(chunk, row).cast::<[f32; GROUPS]>();
        let negated = &mut *out.negated_sums(chunk, row).cast::<[i32; GROUPS]>();
        let shifted_halves = &mut *out.shifted_half_sums(chunk, row).cast::<[[f32; 2]; GROUPS]>();
        let negated_halves = &mut *out.negated_half_sums(chunk, row).cast::<[[i32; 2]; GROUPS]>();
        for g in 0..GROUPS {
            let (a, b, shift) = (sums[0][g] as i32, sums[1][g] as i32, shifts[g]);
            shifted[g] = ((a + b) << shift) as f32;
            negated[g] = -(a + b);
            shifted_halves[g] = [(a << shift) as f32, (b << shift) as f32];
            negated_halves[g] = [-a, -b];
        }
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
