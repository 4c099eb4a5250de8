//! Derivatives row by row, and sums of them over rows.

use autarky_graph::{ActivationKind, NormKind};

use super::lanes::{LANES, Lanes, load_part, store_part};
use super::math;
use crate::matmul::prefetch_later;

/// Rows whose sum is taken by itself before it is added to the rest.
const ROWS: usize = 256;

/// The derivative by a normed row's argument x from that by its result: with z = (x − mean) · factor and d = dy · weight
/// it is factor · (d − mean(d) − z · mean(d · z)), the first mean being 0 for RMS.
///
/// # Safety
/// As for [`Lanes`]; the pointers are good for `n` numbers (`weight` may be null); mean and factor are [`super::norm::stats`].
#[inline(always)]
pub(crate) unsafe fn norm_backward<V: Lanes>(
    kind: NormKind,
    (mean, factor): (f32, f32),
    (x, weight, dy): (*const f32, *const f32, *const f32),
    dx: *mut f32,
    n: usize,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let by = (V::splat(mean), V::splat(factor));
        let from = (x, weight, dy);
        let (mut off, mut along) = (V::splat(0.0), V::splat(0.0));
        for i in (0..n).step_by(LANES) {
            let (d, z) = normed(by, from, i, n - i);
            off = off.add(d);
            along = d.mul_add(z, along);
        }
        let off = if kind == NormKind::Rms { 0.0 } else { off.sum() / n as f32 };
        let (off, along) = (V::splat(off), V::splat(along.sum() / n as f32));
        for i in (0..n).step_by(LANES) {
            let (d, z) = normed(by, from, i, n - i);
            let by_x = by.1.mul(d.sub(off).sub(z.mul(along)));
            store_part(by_x, dx.add(i), n - i);
        }
    }
}

/// The derivatives of f(gate) · up by gate and by up, from that by the product: f′(gate) · (dy · up) and dy · f(gate).
///
/// # Safety
/// As for [`Lanes`]; the pointers are good for `n` numbers.
#[inline(always)]
pub(crate) unsafe fn gated_backward<V: Lanes>(
    kind: ActivationKind,
    (gate, up, dy): (*const f32, *const f32, *const f32),
    (by_gate, by_up): (*mut f32, *mut f32),
    n: usize,
) {
    use ActivationKind::{Gelu, GeluTanh, Relu, Sigmoid, Silu};
    macro_rules! each {
        ($kind:expr) => {
            for i in (0..n).step_by(LANES) {
                let count = n - i;
                let g: V = load_part(gate.add(i), count, 0.0);
                let u: V = load_part(up.add(i), count, 0.0);
                let d: V = load_part(dy.add(i), count, 0.0);
                store_part(d.mul(math::activation($kind, g)), by_up.add(i), count);
                store_part(math::slope($kind, g).mul(d.mul(u)), by_gate.add(i), count);
            }
        };
    }
    // SAFETY: as the caller promises.
    unsafe {
        match kind {
            Silu => each!(Silu),
            Gelu => each!(Gelu),
            GeluTanh => each!(GeluTanh),
            Relu => each!(Relu),
            Sigmoid => each!(Sigmoid),
        }
    }
}

/// dy · weight, and the normed numbers, of `count` numbers from `i` on.
#[inline(always)]
unsafe fn normed<V: Lanes>(
    (mean, factor): (V, V),
    (x, weight, dy): (*const f32, *const f32, *const f32),
    i: usize,
    count: usize,
) -> (V, V) {
    // SAFETY: as the caller promises.
    unsafe {
        // Lanes beyond the end hold a derivative of 0, and so add nothing.
        let mut d: V = load_part(dy.add(i), count, 0.0);
        if !weight.is_null() {
            d = d.mul(load_part(weight.add(i), count, 0.0));
        }
        (d, load_part::<V>(x.add(i), count, 0.0).sub(mean).mul(factor))
    }
}

/// Rows of which columns are summed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    /// Derivatives by the results of a norm, or of anything that adds a shift.
    pub(crate) dy: *const f32,
    /// The norm's arguments, and each row's mean and factor ([`super::norm::stats`]).
    pub(crate) x: *const f32,
    pub(crate) stats: *const [f32; 2],
    /// Rows.
    pub(crate) rows: usize,
    /// Numbers of a row.
    pub(crate) width: usize,
    /// The first column, and how many.
    pub(crate) columns: (usize, usize),
}

/// Adds, for each of the columns, Σ z · dy over the rows to `gain` and Σ dy to `shift`, where z are the normed numbers.
///
/// # Safety
/// As for [`Lanes`]; the pointers are good for what [`Columns`] says, `x` and `stats` only where `gain` is not null;
/// `gain` and `shift` are good for `width` numbers or null.
#[inline(always)]
pub(crate) unsafe fn column_sums<V: Lanes>(c: &Columns, gain: *mut f32, shift: *mut f32) {
    let (first, count) = c.columns;
    for column in (first..first + count).step_by(LANES) {
        let lanes = LANES.min(first + count - column);
        for from in (0..c.rows).step_by(ROWS) {
            // SAFETY: as the caller promises.
            unsafe {
                let (mut by_gain, mut by_shift) = (V::splat(0.0), V::splat(0.0));
                for row in from..c.rows.min(from + ROWS) {
                    let at = row * c.width + column;
                    let dy: V = load_part(c.dy.add(at), lanes, 0.0);
                    by_shift = by_shift.add(dy);
                    if !gain.is_null() {
                        let [mean, factor] = *c.stats.add(row);
                        let x: V = load_part(c.x.add(at), lanes, 0.0);
                        let z = x.sub(V::splat(mean)).mul(V::splat(factor));
                        by_gain = z.mul_add(dy, by_gain);
                    }
                }
                for (to, sum) in [(gain, by_gain), (shift, by_shift)] {
                    if !to.is_null() {
                        let to = to.add(column);
                        store_part(load_part::<V>(to, lanes, 0.0).add(sum), to, lanes);
                    }
                }
            }
        }
    }
}

/// The cross entropy of a row of logits and its target, and the sum of the exponentials of the logits less the largest,
/// which are written where `to` is not null. `to` may be the logits.
///
/// # Safety
/// As for [`Lanes`]; the pointers are good for `n` numbers, and the target is below `n`.
#[inline(always)]
pub(crate) unsafe fn cross_entropy<V: Lanes>(
    logits: *const f32,
    n: usize,
    target: usize,
    to: *mut f32,
) -> (f32, f32) {
    // SAFETY: as the caller promises.
    unsafe {
        let at_target = *logits.add(target);
        let mut most = V::splat(f32::NEG_INFINITY);
        for i in (0..n).step_by(LANES) {
            most = load_part::<V>(logits.add(i), n - i, f32::NEG_INFINITY).max(most);
        }
        let largest = most.largest();
        let most = V::splat(largest);
        let mut sums = V::splat(0.0);
        for i in (0..n).step_by(LANES) {
            let x: V = load_part(logits.add(i), n - i, f32::NEG_INFINITY);
            let p = math::exp(x.sub(most));
            sums = sums.add(p);
            if !to.is_null() {
                // The next row comes while there is much to compute.
                prefetch_later(logits.wrapping_add(n + i));
                store_part(p, to.add(i), n - i);
            }
        }
        let sum = sums.sum();
        ((f64::from(largest) + libm::log(f64::from(sum)) - f64::from(at_target)) as f32, sum)
    }
}

/// How scores become weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Softmax {
    /// Scores are multiplied by it.
    pub(crate) scale: f32,
    /// Scores pass through cap · tanh(score / cap).
    pub(crate) softcap: Option<f32>,
    /// A score that takes part and has no value.
    pub(crate) sink: Option<f32>,
}

/// Turns a row of products q·k into attention's weights: of the positions `from..to`, and 0 for the others of `n`.
/// Where scores are capped, the slopes of the cap go to `slopes`. Gives the weight of the sink.
///
/// # Safety
/// As for [`Lanes`]; the pointers are good for `n` numbers, a multiple of 16 (`slopes` only with a cap); `from < to ≤ n`.
#[inline(always)]
pub(crate) unsafe fn attention_weights<V: Lanes>(
    s: Softmax,
    row: *mut f32,
    slopes: *mut f32,
    (from, to, n): (usize, usize, usize),
) -> f32 {
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
                V::splat(1.0).sub(t.mul(t)).store(slopes.add(i));
                x = cap.mul(t);
            }
            if i < from || i + LANES > to {
                let place = V::load(super::attention::RAMP.as_ptr()).add(V::splat(i as f32));
                x = place.select_less(V::splat(to as f32), x, none);
                x = place.select_less(V::splat(from as f32), none, x);
            }
            x.store(row.add(i));
            most = x.max(most);
        }
        let largest = most.largest();
        let most = V::splat(largest);
        let mut sums = V::splat(0.0);
        for i in (0..n).step_by(LANES) {
            let p = math::exp(V::load(row.add(i)).sub(most));
            p.store(row.add(i));
            sums = sums.add(p);
        }
        let of_sink = s.sink.map_or(0.0, |sink| libm::expf(sink - largest));
        let sum = sums.sum() + of_sink;
        let share = V::splat(1.0 / sum);
        for i in (0..n).step_by(LANES) {
            V::load(row.add(i)).mul(share).store(row.add(i));
        }
        of_sink / sum
    }
}

/// Turns the derivatives by a row of attention's weights into those by the products q·k, in place:
/// w · (d − Σ w d) · scale (· slope). Gives Σ w d.
///
/// # Safety
/// As for [`Lanes`]; the pointers are good for `n` numbers, a multiple of 16; `slopes` may be null.
#[inline(always)]
pub(crate) unsafe fn attention_backward<V: Lanes>(
    scale: f32,
    weights: *const f32,
    slopes: *const f32,
    row: *mut f32,
    n: usize,
) -> f32 {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = V::splat(0.0);
        for i in (0..n).step_by(LANES) {
            sums = V::load(weights.add(i)).mul_add(V::load(row.add(i)), sums);
        }
        let along = sums.sum();
        let (off, scale) = (V::splat(along), V::splat(scale));
        for i in (0..n).step_by(LANES) {
            let mut d = V::load(weights.add(i)).mul(V::load(row.add(i)).sub(off)).mul(scale);
            if !slopes.is_null() {
                d = d.mul(V::load(slopes.add(i)));
            }
            d.store(row.add(i));
        }
        along
    }
}
