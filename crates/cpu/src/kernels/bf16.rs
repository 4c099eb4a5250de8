//! What attention in training and its derivative compute where products are of BF16 numbers, with sums in `f32`: on
//! AVX-512 with BF16.
//!
//! Matrices lie as [`crate::matmul::Paired`] has them. All of it is small enough for the second-level cache.
//!
//! Helpers are `inline(always)` without `target_feature`, and only become part of functions that have it.

use super::attention::{RAMP, row_groups};
use super::avx512::Avx512;
use super::backward::Softmax;
use super::lanes::{LANES, Lanes};
use super::math;
use super::paired::{AttentionRows, PairedGemm, WeightRow};
use std::arch::x86_64::*;

/// Rows and panels whose sums are in registers: 24 of 32.
const ROWS: usize = 8;
const PANELS: usize = 3;
/// Bytes of a pair of rows of a panel.
const PAIR: usize = 4 * LANES;

/// Computes a [`PairedGemm`]. A number is a chain of `vdpbf16ps` over its pairs in ascending order, to which what is
/// there is added at the end.
///
/// # Safety
/// The processor has these features; and as [`PairedGemm`] says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
pub(super) unsafe fn gemm(g: &PairedGemm) {
    let panels = g.cols.div_ceil(LANES);
    let mut panel = 0;
    while panel < panels {
        let left = panels - panel;
        // Four are two and two.
        let across = left.div_ceil(left.div_ceil(PANELS));
        // SAFETY: as the caller promises.
        unsafe {
            match across {
                1 => row_groups!(ROWS, 0, g.rows, row, R, block::<R, 1>(g, row, panel)),
                2 => row_groups!(ROWS, 0, g.rows, row, R, block::<R, 2>(g, row, panel)),
                _ => row_groups!(ROWS, 0, g.rows, row, R, block::<R, PANELS>(g, row, panel)),
            }
        }
        panel += across;
    }
}

/// `R` rows and `P` panels from some on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
#[allow(clippy::needless_range_loop)] // loops of a fixed length over registers
unsafe fn block<const R: usize, const P: usize>(g: &PairedGemm, row: usize, panel: usize) {
    let (by_row, by_pair) = g.left_strides;
    // SAFETY: the operands have as many rows, panels and pairs.
    unsafe {
        let left = g.left.add(row * by_row);
        let right = g.right.add(panel * g.right_stride);
        let mut sums = [[_mm512_setzero_ps(); P]; R];
        for pair in 0..g.pairs {
            let mut b = [_mm512_setzero_si512(); P];
            for p in 0..P {
                b[p] = _mm512_loadu_si512(right.add(p * g.right_stride + pair * PAIR).cast());
            }
            for r in 0..R {
                let a = left.add(r * by_row + pair * by_pair).cast::<i32>().read_unaligned();
                let a = _mm512_set1_epi32(a);
                for p in 0..P {
                    sums[r][p] = _mm512_dpbf16_ps(sums[r][p], bf16s(a), bf16s(b[p]));
                }
            }
        }
        for r in 0..R {
            for p in 0..P {
                let column = (panel + p) * LANES;
                let (to, count) = (g.to.add((row + r) * g.to_stride + column), g.cols - column);
                let mut sum = sums[r][p];
                // Stores with masks cost more than they seem.
                if count >= LANES {
                    if g.add {
                        sum = _mm512_add_ps(_mm512_loadu_ps(to), sum);
                    }
                    _mm512_storeu_ps(to, sum);
                } else {
                    let mask = (1 << count) - 1;
                    if g.add {
                        sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), sum);
                    }
                    _mm512_mask_storeu_ps(to, mask, sum);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn bf16s(x: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes, of which every value is valid.
    unsafe { std::mem::transmute(x) }
}

/// [`AttentionRows::derive`].
///
/// # Safety
/// The processor has these features; and as there.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
pub(super) unsafe fn attention_rows(s: &Softmax, rows: &AttentionRows) -> [(f32, f32); 2] {
    // SAFETY: as the caller promises.
    unsafe {
        let weigh = |r: usize| {
            let at = r * rows.stride;
            let derived = Some((rows.by_weights.add(at), rows.slopes.add(at)));
            weigh(s, rows.scores.add(at), rows.n, rows.seen[r], derived)
        };
        let first = weigh(0);
        if rows.count == 1 {
            round::<1>(s, rows, [first]);
            return [(first.of_sink, first.along), (0.0, 0.0)];
        }
        let second = weigh(1);
        round::<2>(s, rows, [first, second]);
        [first, second].map(|row| (row.of_sink, row.along))
    }
}

/// [`WeightRow::weigh`].
///
/// # Safety
/// The processor has these features; and as there.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
pub(super) unsafe fn weight_row(s: &Softmax, row: &WeightRow) {
    // SAFETY: as the caller promises.
    unsafe {
        let share = _mm512_set1_ps(weigh(s, row.scores, row.n, row.seen, None).share);
        for i in (0..row.n).step_by(LANES) {
            let weights = _mm512_cvtneps_pbh(_mm512_mul_ps(_mm512_loadu_ps(row.scores.add(i)), share));
            let weights = std::mem::transmute::<__m256bh, __m256i>(weights);
            _mm256_storeu_si256(row.weights.add(2 * i).cast(), weights);
        }
    }
}

/// What is known of a row when the exponentials of its scores are there.
#[derive(Clone, Copy)]
struct Weighed {
    /// What turns them into weights.
    share: f32,
    /// Σ w d of the weights and the derivatives by them, where these are there.
    along: f32,
    /// The weight of the sink.
    of_sink: f32,
}

/// Turns a row's `n` products q·k into exponentials of scores, 0 but for the positions `from..to`. `derived` is what
/// only the derivative has: derivatives by the weights, and room for a soft cap's slopes.
#[inline(always)]
unsafe fn weigh(
    s: &Softmax,
    row: *mut f32,
    n: usize,
    (from, to): (usize, usize),
    derived: Option<(*const f32, *mut f32)>,
) -> Weighed {
    type V = Avx512;
    // SAFETY: as the caller promises.
    unsafe {
        let none = V::splat(f32::NEG_INFINITY);
        let scale = V::splat(s.scale);
        let mut most = V::splat(s.sink.unwrap_or(f32::NEG_INFINITY));
        for i in (0..n).step_by(LANES) {
            let mut x = V::load(row.add(i)).mul(scale);
            if let Some(cap) = s.softcap {
                let cap = V::splat(cap);
                let t = math::tanh(x.div(cap));
                if let Some((_, slopes)) = derived {
                    V::splat(1.0).sub(t.mul(t)).store(slopes.add(i));
                }
                x = cap.mul(t);
            }
            if i < from || i + LANES > to {
                let place = V::load(RAMP.as_ptr()).add(V::splat(i as f32));
                x = place.select_less(V::splat(to as f32), x, none);
                x = place.select_less(V::splat(from as f32), none, x);
            }
            x.store(row.add(i));
            most = x.max(most);
        }
        let largest = most.largest();
        let most = V::splat(largest);
        let (mut sums, mut along) = (V::splat(0.0), V::splat(0.0));
        for i in (0..n).step_by(LANES) {
            let p = math::exp(V::load(row.add(i)).sub(most));
            p.store(row.add(i));
            sums = sums.add(p);
            if let Some((by, _)) = derived {
                along = p.mul_add(V::load(by.add(i)), along);
            }
        }
        let of_sink = s.sink.map_or(0.0, |sink| libm::expf(sink - largest));
        let share = 1.0 / (sums.sum() + of_sink);
        Weighed { share, along: along.sum() * share, of_sink: of_sink * share }
    }
}

/// Writes the weights, and the derivatives by the products q·k, in BF16.
#[inline(always)]
unsafe fn round<const R: usize>(s: &Softmax, rows: &AttentionRows, weighed: [Weighed; R]) {
    // Number 2 i is row 0's, which are in the lower half, and 2 i + 1 row 1's.
    static TOGETHER: [u16; 2 * LANES] = {
        let mut places = [0; 2 * LANES];
        let mut i = 0;
        while i < LANES {
            (places[2 * i], places[2 * i + 1]) = (i as u16, (i + LANES) as u16);
            i += 1;
        }
        places
    };
    // SAFETY: as the caller promises.
    unsafe {
        let together = _mm512_loadu_si512(TOGETHER.as_ptr().cast());
        let scale = _mm512_set1_ps(s.scale);
        let both = |[first, second]: [__m512; 2]| -> __m512i {
            std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first))
        };
        for i in (0..rows.n).step_by(LANES) {
            let (mut weights, mut by_scores) = ([_mm512_setzero_ps(); 2], [_mm512_setzero_ps(); 2]);
            for r in 0..R {
                let at = r * rows.stride + i;
                let w = _mm512_mul_ps(_mm512_loadu_ps(rows.scores.add(at)), _mm512_set1_ps(weighed[r].share));
                let d =
                    _mm512_sub_ps(_mm512_loadu_ps(rows.by_weights.add(at)), _mm512_set1_ps(weighed[r].along));
                let mut d = _mm512_mul_ps(_mm512_mul_ps(w, d), scale);
                if s.softcap.is_some() {
                    d = _mm512_mul_ps(d, _mm512_loadu_ps(rows.slopes.add(at)));
                }
                (weights[r], by_scores[r]) = (w, d);
            }
            let panel = i / LANES * rows.panel_stride;
            let weights = _mm512_permutexvar_epi16(together, both(weights));
            _mm512_storeu_si512(rows.weights_paired.add(panel).cast(), weights);
            let by_scores = both(by_scores);
            let paired = _mm512_permutexvar_epi16(together, by_scores);
            _mm512_storeu_si512(rows.by_scores_paired.add(panel).cast(), paired);
            let to = rows.by_scores.add(2 * i);
            _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(by_scores));
            if R == 2 {
                let to = to.add(rows.by_scores_stride);
                _mm256_storeu_si256(to.cast(), _mm512_extracti64x4_epi64::<1>(by_scores));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use half::bf16;

    /// Numbers from −1 to 1, by a linear congruential generator.
    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn rounded(x: f32) -> bf16 {
        bf16::from_f32(x)
    }

    #[test]
    fn products_are_those_of_rounded_numbers() {
        if !Isa::Avx512.has_bf16_products() {
            return;
        }
        for (rows, cols, pairs, add) in [
            (1, 1, 1, false),
            (16, 48, 32, false),
            (16, 64, 20, true),
            (13, 33, 7, true),
            (9, 130, 33, false),
        ] {
            let (a, b) = (numbers(rows * 2 * pairs, 1), numbers(2 * pairs * cols, 2));
            let at = |k: usize, j: usize| if j < cols { rounded(b[k * cols + j]) } else { bf16::ZERO };
            let right: Vec<bf16> = (0..cols.div_ceil(LANES) * pairs * 2 * LANES)
                .map(|i| {
                    let (panel, pair) = (i / (2 * LANES) / pairs, i / (2 * LANES) % pairs);
                    at(2 * pair + i % 2, panel * LANES + i / 2 % LANES)
                })
                .collect();
            // Row by row, and pairs of all rows side by side.
            let by_rows: Vec<bf16> = a.iter().map(|x| rounded(*x)).collect();
            let by_pairs: Vec<bf16> = (0..2 * pairs * rows)
                .map(|i| rounded(a[i / 2 % rows * 2 * pairs + i / 2 / rows * 2 + i % 2]))
                .collect();
            for (left, left_strides) in [(&by_rows, (4 * pairs, 4)), (&by_pairs, (4, 4 * rows))] {
                let to_stride = cols + 3;
                let mut to = vec![0.5f32; rows * to_stride];
                let g = PairedGemm {
                    left: left.as_ptr().cast(),
                    left_strides,
                    right: right.as_ptr().cast(),
                    right_stride: pairs * PAIR,
                    to: to.as_mut_ptr(),
                    to_stride,
                    rows,
                    cols,
                    pairs,
                    add,
                };
                // SAFETY: the matrices are as it says, and the processor has what it needs.
                unsafe { gemm(&g) };
                for (i, found) in to.iter().enumerate() {
                    let (row, column) = (i / to_stride, i % to_stride);
                    let start = if add || column >= cols { 0.5 } else { 0.0 };
                    let inner = if column < cols { 2 * pairs } else { 0 };
                    let term = |k: usize| rounded(a[row * 2 * pairs + k]).to_f64() * at(k, column).to_f64();
                    let (sum, size) =
                        (0..inner).map(term).fold((start, 1e-30 + start), |(s, z), t| (s + t, z + t.abs()));
                    assert!(
                        (f64::from(*found) - sum).abs() <= 1e-5 * size,
                        "[{rows}, {cols}] over {pairs}: {i}"
                    );
                }
            }
        }
    }

    #[test]
    fn rows_of_attention_are_rounded_weights_and_derivatives() {
        if !Isa::Avx512.has_bf16_products() {
            return;
        }
        let (n, stride, pairs) = (64, 70, 3);
        let seen = [(3, 47), (4, 48)];
        for (count, softcap, sink) in
            [(2, None, None), (1, None, Some(0.5)), (2, Some(1.5), Some(-0.5)), (1, Some(2.0), None)]
        {
            let s = Softmax { scale: 0.5, softcap, sink };
            let (products, by_weights) = (numbers(2 * stride, 3), numbers(2 * stride, 4));
            let (mut scores, mut slopes) = (products.clone(), vec![0.0f32; 2 * stride]);
            let panels = n / LANES;
            let mut paired = [(); 2].map(|_| vec![bf16::ONE; panels * pairs * 2 * LANES]);
            let mut by_scores = vec![bf16::ONE; 2 * n];
            let [weights_paired, by_scores_paired] = paired.each_mut().map(|p| p.as_mut_ptr().cast());
            let rows = AttentionRows {
                count,
                n,
                seen,
                scores: scores.as_mut_ptr(),
                by_weights: by_weights.as_ptr(),
                slopes: slopes.as_mut_ptr(),
                stride,
                weights_paired,
                by_scores_paired,
                panel_stride: pairs * PAIR,
                by_scores: by_scores.as_mut_ptr().cast(),
                by_scores_stride: 2 * n,
            };
            // SAFETY: the memory is as it says, and the processor has what it needs.
            let found = unsafe { attention_rows(&s, &rows) };
            // The forward pass makes the same weights.
            for (r, seen) in seen.into_iter().enumerate().take(count) {
                let (mut scores, mut weights) = (products[r * stride..].to_vec(), vec![bf16::ONE; n]);
                let (scores, to) = (scores.as_mut_ptr(), weights.as_mut_ptr().cast());
                // SAFETY: the memory is as it says, and the processor has what it needs.
                unsafe { weight_row(&s, &WeightRow { n, seen, scores, weights: to }) };
                let paired = |i: usize| paired[0][i / LANES * pairs * 2 * LANES + i % LANES * 2 + r];
                assert!((0..n).all(|i| weights[i] == paired(i)), "{s:?}, {count}, {r}: forward");
            }
            for r in 0..2 {
                let number = |i: usize| f64::from(products[r * stride + i]) * f64::from(s.scale);
                let capped = |x: f64| softcap.map_or(x, |cap| f64::from(cap) * (x / f64::from(cap)).tanh());
                let slope = |x: f64| softcap.map_or(1.0, |cap| 1.0 - (x / f64::from(cap)).tanh().powi(2));
                let sees = |i: usize| r < count && (seen[r].0..seen[r].1).contains(&i);
                let raised = |i: usize| if sees(i) { capped(number(i)).exp() } else { 0.0 };
                let of_sink = sink.map_or(0.0, |s| f64::from(s).exp());
                let sum = (0..n).map(raised).sum::<f64>() + of_sink;
                let weight = |i: usize| if sees(i) { raised(i) / sum } else { 0.0 };
                let by_weight = |i: usize| f64::from(by_weights[r * stride + i]);
                let along: f64 = (0..n).map(|i| weight(i) * by_weight(i)).sum();
                if r < count {
                    assert!(
                        (f64::from(found[r].0) - of_sink / sum).abs() < 1e-6,
                        "{s:?}, {count}, {r}: sink"
                    );
                    assert!((f64::from(found[r].1) - along).abs() < 1e-6, "{s:?}, {count}, {r}: along");
                }
                for i in 0..n {
                    let by_score = weight(i) * (by_weight(i) - along) * f64::from(s.scale) * slope(number(i));
                    let at = i / LANES * pairs * 2 * LANES + i % LANES * 2 + r;
                    let mut all = vec![(paired[0][at], weight(i)), (paired[1][at], by_score)];
                    if r < count {
                        all.push((by_scores[r * n + i], by_score));
                    }
                    for (found, expected) in all {
                        let off = (found.to_f64() - expected).abs();
                        assert!(
                            off <= expected.abs() / 250.0 + 1e-7,
                            "{s:?}, {count}, [{r}][{i}]: {found}, {expected}"
                        );
                    }
                }
            }
        }
    }
}
