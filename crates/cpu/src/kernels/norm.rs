//! Normalisation of a row.

use autarky_graph::NormKind;

use super::lanes::{LANES, Lanes, load_part, store_part};

/// Vectors that are summed side by side, so that additions need not wait for each other.
const SUMS: usize = 4;

/// y = (x − mean) / √(variance + ε) · weight + bias over `n` numbers, the mean being 0 for RMS; y may be x.
/// A null weight or bias is left out.
///
/// # Safety
/// As for [`Lanes`]; the pointers that are not null are good for `n` numbers.
#[inline(always)]
pub(crate) unsafe fn norm<V: Lanes>(
    kind: NormKind,
    epsilon: f32,
    x: *const f32,
    weight: *const f32,
    bias: *const f32,
    y: *mut f32,
    n: usize,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let (mean, factor) = stats::<V>(kind, epsilon, x, n);
        let (mean, scale) = (V::splat(mean), V::splat(factor));
        let mut i = 0;
        while i < n {
            let count = LANES.min(n - i);
            let mut v: V = load_part(x.add(i), count, 0.0);
            v = v.sub(mean).mul(scale);
            if !weight.is_null() {
                v = v.mul(load_part(weight.add(i), count, 0.0));
            }
            if !bias.is_null() {
                v = v.add(load_part(bias.add(i), count, 0.0));
            }
            store_part(v, y.add(i), count);
            i += LANES;
        }
    }
}

/// What a row's numbers are normed by: the mean (0 for RMS), and the factor 1 / √(variance + ε).
///
/// # Safety
/// As for [`Lanes`]; `x` is good for `n` numbers.
#[inline(always)]
pub(crate) unsafe fn stats<V: Lanes>(kind: NormKind, epsilon: f32, x: *const f32, n: usize) -> (f32, f32) {
    // SAFETY: as the caller promises.
    unsafe {
        let mean = match kind {
            NormKind::Rms => 0.0,
            NormKind::Layer => row_sum::<V>(x, n) / n as f32,
        };
        let variance = squares::<V>(x, mean, n) / n as f32;
        (mean, 1.0 / (variance + epsilon).sqrt())
    }
}

/// Σ x.
#[inline(always)]
unsafe fn row_sum<V: Lanes>(x: *const f32, n: usize) -> f32 {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [V::splat(0.0); SUMS];
        let mut i = 0;
        while i < n {
            for (s, sum) in sums.iter_mut().enumerate() {
                let at = i + s * LANES;
                if at < n {
                    *sum = sum.add(load_part(x.add(at), LANES.min(n - at), 0.0));
                }
            }
            i += SUMS * LANES;
        }
        sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum()
    }
}

/// Σ (x − mean)².
#[inline(always)]
unsafe fn squares<V: Lanes>(x: *const f32, mean: f32, n: usize) -> f32 {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [V::splat(0.0); SUMS];
        let centre = V::splat(mean);
        let mut i = 0;
        while i < n {
            for (s, sum) in sums.iter_mut().enumerate() {
                let at = i + s * LANES;
                if at < n {
                    // Lanes beyond the end hold the mean, and so add nothing.
                    let v: V = load_part(x.add(at), LANES.min(n - at), mean);
                    let v = v.sub(centre);
                    *sum = v.mul_add(v, *sum);
                }
            }
            i += SUMS * LANES;
        }
        sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum()
    }
}
