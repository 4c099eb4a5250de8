//! Elementary functions over lanes: polynomials of our own, so that bits do not depend on a platform's library.
//!
//! Coefficients are Chebyshev fits of the stated functions; the errors stated are checked by the tests below against
//! `f64` over all of the range.

use super::lanes::Lanes;
use autarky_graph::ActivationKind;

/// 1/ln 2; ln 2 in two parts, the first with few enough bits that its product with a whole number is exact.
const LOG2_E: f32 = std::f32::consts::LOG2_E;
const LN_2_HIGH: f32 = 0.693_145_75;
const LN_2_LOW: f32 = 1.428_606_8e-6;

/// e^x within 2 units in the last place for −87.33 < x < 88.37; 0 below; the value at 88.37 (2.4e38) above.
///
/// x = n ln 2 + r with |r| ≤ ln 2 / 2, and e^r = 1 + r + r² q(r).
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn exp<V: Lanes>(x: V) -> V {
    // SAFETY: the instruction set is the caller's promise.
    unsafe {
        let lowest = V::splat(-87.33);
        // NaN is the second argument of min and max, and so stays.
        let t = V::splat(88.37).min(lowest.max(x));
        let n = t.mul(V::splat(LOG2_E)).round();
        let r = n.mul_add(V::splat(-LN_2_HIGH), t);
        let r = n.mul_add(V::splat(-LN_2_LOW), r);
        let q = V::splat(0.001_392_625);
        let q = q.mul_add(r, V::splat(0.008_363_233));
        let q = q.mul_add(r, V::splat(0.041_666_552));
        let q = q.mul_add(r, V::splat(0.166_665_76));
        let q = q.mul_add(r, V::splat(0.5));
        let y = r.mul(r).mul_add(q, r).add(V::splat(1.0));
        let y = y.mul(n.exp2_whole());
        x.select_less(lowest, V::splat(0.0), y)
    }
}

/// tanh x within 4 units in the last place.
///
/// Below 0.625: x + x³ t(x²); beyond: 1 − 2 / (e^2|x| + 1), with x's sign.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn tanh<V: Lanes>(x: V) -> V {
    // SAFETY: the instruction set is the caller's promise.
    unsafe {
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        let a = zero.sub(x).max(x);
        let z = x.mul(x);
        let t = V::splat(-0.006_096_714);
        let t = t.mul_add(z, V::splat(0.020_997_18));
        let t = t.mul_add(z, V::splat(-0.053_850_908));
        let t = t.mul_add(z, V::splat(0.133_327_7));
        let t = t.mul_add(z, V::splat(-0.333_333_28));
        let small = x.mul(z).mul_add(t, x);
        let large = one.sub(V::splat(2.0).div(exp(a.add(a)).add(one)));
        let large = x.select_less(zero, zero.sub(large), large);
        a.select_less(V::splat(0.625), small, large)
    }
}

/// The standard normal distribution's Φ(x), within 2e-7 of 1 for positive x and of itself above −5.6, 0 below.
///
/// With z = |x| / √2: below 1, erf z = z p(z²); beyond, erfc z = e^−q(z).
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn normal_distribution<V: Lanes>(x: V) -> V {
    // SAFETY: the instruction set is the caller's promise.
    unsafe {
        let (zero, half, one) = (V::splat(0.0), V::splat(0.5), V::splat(1.0));
        let s = x.mul(V::splat(std::f32::consts::FRAC_1_SQRT_2));
        let z = zero.sub(s).max(s);
        let z2 = z.mul(z);
        let p = V::splat(7.875_875e-5);
        let p = p.mul_add(z2, V::splat(-0.000_801_686_43));
        let p = p.mul_add(z2, V::splat(0.005_189_087));
        let p = p.mul_add(z2, V::splat(-0.026_854_211));
        let p = p.mul_add(z2, V::splat(0.112_835_94));
        let p = p.mul_add(z2, V::splat(-0.376_126_26));
        let p = p.mul_add(z2, V::splat(std::f32::consts::FRAC_2_SQRT_PI));
        let near = p.mul_add(zero.sub(z), one);
        let u = V::splat(4.0).min(z).sub(V::splat(2.5));
        let q = V::splat(-1.637_151_4e-6);
        let q = q.mul_add(u, V::splat(1.331_501_4e-5));
        let q = q.mul_add(u, V::splat(-7.729_138e-5));
        let q = q.mul_add(u, V::splat(0.000_420_122_52));
        let q = q.mul_add(u, V::splat(-0.002_165_303_6));
        let q = q.mul_add(u, V::splat(0.010_858_541));
        let q = q.mul_add(u, V::splat(0.943_893_7));
        let q = q.mul_add(u, V::splat(5.352_680_7));
        let q = q.mul_add(u, V::splat(7.806_815));
        let far = exp(zero.sub(q));
        let far = z.select_less(V::splat(4.0), far, zero);
        let tail = z.select_less(one, near, far).mul(half);
        x.select_less(zero, tail, one.sub(tail))
    }
}

/// 1 / (1 + e^−x).
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn sigmoid<V: Lanes>(x: V) -> V {
    // SAFETY: the instruction set is the caller's promise.
    unsafe {
        let one = V::splat(1.0);
        one.div(one.add(exp(V::splat(0.0).sub(x))))
    }
}

/// f(x) of an activation function.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn activation<V: Lanes>(kind: ActivationKind, x: V) -> V {
    // SAFETY: the instruction set is the caller's promise.
    unsafe {
        match kind {
            ActivationKind::Silu => x.div(V::splat(1.0).add(exp(V::splat(0.0).sub(x)))),
            ActivationKind::Sigmoid => sigmoid(x),
            ActivationKind::Relu => x.max(V::splat(0.0)),
            ActivationKind::Gelu => x.mul(normal_distribution(x)),
            ActivationKind::GeluTanh => {
                // 0.5 (1 + tanh y) = sigmoid(2 y).
                let y = x.mul(x).mul_add(V::splat(0.044_715), V::splat(1.0)).mul(x);
                x.mul(sigmoid(y.mul(V::splat(1.595_769))))
            }
        }
    }
}

/// f′(x) of an activation function.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn slope<V: Lanes>(kind: ActivationKind, x: V) -> V {
    // SAFETY: the instruction set is the caller's promise.
    unsafe {
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        match kind {
            ActivationKind::Silu => {
                let s = sigmoid(x);
                x.mul(one.sub(s)).mul_add(s, s)
            }
            ActivationKind::Sigmoid => {
                let s = sigmoid(x);
                s.mul(one.sub(s))
            }
            ActivationKind::Relu => zero.select_less(x, one, zero),
            ActivationKind::Gelu => {
                let density = exp(x.mul(x).mul(V::splat(-0.5))).mul(V::splat(0.398_942_3));
                x.mul_add(density, normal_distribution(x))
            }
            ActivationKind::GeluTanh => {
                // x · sigmoid(u), u = 1.595769 (x + 0.044715 x³).
                let squared = x.mul(x);
                let u = squared.mul_add(V::splat(0.044_715), one).mul(x).mul(V::splat(1.595_769));
                let by_x = squared.mul_add(V::splat(0.134_145), one).mul(V::splat(1.595_769));
                let s = sigmoid(u);
                x.mul(by_x).mul(s.mul(one.sub(s))).add(s)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::{LANES, Scalar, array};
    use super::*;

    fn each(range: std::ops::Range<f32>, mut f: impl FnMut(f32, Scalar)) {
        let steps = 200_000;
        for i in 0..=steps {
            let x = range.start + (range.end - range.start) * i as f32 / steps as f32;
            // SAFETY: the scalar lanes run everywhere.
            f(x, unsafe { Scalar::splat(x) });
        }
    }

    fn one(v: Scalar) -> f32 {
        // SAFETY: the scalar lanes run everywhere.
        unsafe { array(v)[LANES - 1] }
    }

    fn ulps(found: f32, exact: f64) -> f64 {
        let near = exact as f32;
        let ulp = f64::from(f32::from_bits(near.abs().to_bits() + 1)) - f64::from(near.abs());
        (f64::from(found) - exact).abs() / ulp
    }

    #[test]
    fn exp_is_within_two_units() {
        each(-87.3..88.3, |x, v| {
            // SAFETY: the scalar lanes run everywhere.
            let y = one(unsafe { exp(v) });
            assert!(ulps(y, f64::from(x).exp()) <= 2.0, "exp({x}) = {y}");
        });
        // SAFETY: as above.
        unsafe {
            assert_eq!(one(exp(Scalar::splat(0.0))), 1.0);
            assert_eq!(one(exp(Scalar::splat(f32::NEG_INFINITY))), 0.0);
            assert_eq!(one(exp(Scalar::splat(-1000.0))), 0.0);
            assert!(one(exp(Scalar::splat(f32::INFINITY))) > 2e38);
            assert!(one(exp(Scalar::splat(f32::NAN))).is_nan());
        }
    }

    #[test]
    fn tanh_is_within_four_units() {
        each(-12.0..12.0, |x, v| {
            // SAFETY: the scalar lanes run everywhere.
            let y = one(unsafe { tanh(v) });
            assert!(ulps(y, f64::from(x).tanh()) <= 4.0 || y == x, "tanh({x}) = {y}");
        });
    }

    #[test]
    fn activations_are_the_references() {
        let exact = |kind, x: f64| match kind {
            ActivationKind::Silu => x / (1.0 + (-x).exp()),
            ActivationKind::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            ActivationKind::Relu => x.max(0.0),
            ActivationKind::Gelu => x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2) * 0.5,
            ActivationKind::GeluTanh => {
                let y = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                0.5 * x * (1.0 + y.tanh())
            }
        };
        use ActivationKind::*;
        for kind in [Silu, Sigmoid, Relu, Gelu, GeluTanh] {
            each(-30.0..30.0, |x, v| {
                // SAFETY: the scalar lanes run everywhere.
                let y = f64::from(one(unsafe { activation(kind, v) }));
                let e = exact(kind, f64::from(x));
                assert!((y - e).abs() <= 4e-7 * e.abs().max(0.5), "{kind:?}({x}) = {y}, not {e}");
            });
        }
    }

    #[test]
    fn slopes_are_those_of_the_activations() {
        use ActivationKind::*;
        for kind in [Silu, Sigmoid, Gelu, GeluTanh, Relu] {
            each(-9.0..9.0, |x, v| {
                // SAFETY: the scalar lanes run everywhere.
                let (slope, at) = unsafe {
                    let at = |x: f32| f64::from(one(activation(kind, Scalar::splat(x))));
                    (f64::from(one(slope(kind, v))), at)
                };
                let step = 2e-2_f32;
                let (left, right) = (x - step, x + step);
                let difference = (at(right) - at(left)) / f64::from(right - left);
                // Relu has a corner; the others bend by less than 2.
                let bound = if kind == Relu && x.abs() <= 2.0 * step { 1.0 } else { 2e-4 };
                assert!((slope - difference).abs() <= bound, "{kind:?}'({x}) = {slope}, not {difference}");
            });
        }
    }
}
