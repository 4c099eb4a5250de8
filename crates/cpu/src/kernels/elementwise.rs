//! Ops on every number by itself, and products with a row's scale.

use autarky_graph::ActivationKind;

use super::lanes::{LANES, Lanes, load_part, store_part};
use super::math;

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unary {
    /// An activation function.
    Activation(ActivationKind),
    /// x · factor.
    Scale(f32),
    /// cap · tanh(x / cap).
    Softcap(f32),
}

/// A function of two numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Binary {
    /// a + b.
    Add,
    /// a · b.
    Multiply,
    /// f(a) · b.
    Gated(ActivationKind),
    /// f′(a) · b.
    Slope(ActivationKind),
    /// (1 − tanh²(a / cap)) · b: the slope of a soft cap at a, times b.
    CapSlope(f32),
}

/// Runs `$body` over 16 numbers at a time with `$x` (and `$y`) loaded, and stores its value to `$to`.
macro_rules! each {
    ($V:ty, $n:expr, $to:expr, [$($x:ident = $from:expr),+], $body:expr) => {{
        let mut i = 0;
        while i + LANES <= $n {
            $(let $x = <$V>::load($from.add(i));)+
            $body.store($to.add(i));
            i += LANES;
        }
        if i < $n {
            $(let $x: $V = load_part($from.add(i), $n - i, 0.0);)+
            store_part($body, $to.add(i), $n - i);
        }
    }};
}

/// y = f(x), for `n` numbers; y may be x.
///
/// # Safety
/// As for [`Lanes`]; the pointers are good for `n` numbers.
#[inline(always)]
pub(crate) unsafe fn unary<V: Lanes>(op: Unary, x: *const f32, y: *mut f32, n: usize) {
    use ActivationKind::{Gelu, GeluTanh, Relu, Sigmoid, Silu};
    // SAFETY: as the caller promises.
    unsafe {
        match op {
            Unary::Activation(Silu) => each!(V, n, y, [v = x], math::activation(Silu, v)),
            Unary::Activation(Gelu) => each!(V, n, y, [v = x], math::activation(Gelu, v)),
            Unary::Activation(GeluTanh) => each!(V, n, y, [v = x], math::activation(GeluTanh, v)),
            Unary::Activation(Relu) => each!(V, n, y, [v = x], math::activation(Relu, v)),
            Unary::Activation(Sigmoid) => each!(V, n, y, [v = x], math::activation(Sigmoid, v)),
            Unary::Scale(factor) => each!(V, n, y, [v = x], v.mul(V::splat(factor))),
            Unary::Softcap(cap) => {
                let cap = V::splat(cap);
                each!(V, n, y, [v = x], cap.mul(math::tanh(v.div(cap))))
            }
        }
    }
}

/// y = f(a, b), for `n` numbers; y may be a or b.
///
/// # Safety
/// As for [`Lanes`]; the pointers are good for `n` numbers.
#[inline(always)]
pub(crate) unsafe fn binary<V: Lanes>(op: Binary, a: *const f32, b: *const f32, y: *mut f32, n: usize) {
    use ActivationKind::{Gelu, GeluTanh, Relu, Sigmoid, Silu};
    // SAFETY: as the caller promises.
    unsafe {
        match op {
            Binary::Add => each!(V, n, y, [v = a, w = b], v.add(w)),
            Binary::Multiply => each!(V, n, y, [v = a, w = b], v.mul(w)),
            Binary::Gated(Silu) => each!(V, n, y, [v = a, w = b], math::activation(Silu, v).mul(w)),
            Binary::Gated(Gelu) => each!(V, n, y, [v = a, w = b], math::activation(Gelu, v).mul(w)),
            Binary::Gated(GeluTanh) => each!(V, n, y, [v = a, w = b], math::activation(GeluTanh, v).mul(w)),
            Binary::Gated(Relu) => each!(V, n, y, [v = a, w = b], math::activation(Relu, v).mul(w)),
            Binary::Gated(Sigmoid) => each!(V, n, y, [v = a, w = b], math::activation(Sigmoid, v).mul(w)),
            Binary::Slope(Silu) => each!(V, n, y, [v = a, w = b], math::slope(Silu, v).mul(w)),
            Binary::Slope(Gelu) => each!(V, n, y, [v = a, w = b], math::slope(Gelu, v).mul(w)),
            Binary::Slope(GeluTanh) => each!(V, n, y, [v = a, w = b], math::slope(GeluTanh, v).mul(w)),
            Binary::Slope(Relu) => each!(V, n, y, [v = a, w = b], math::slope(Relu, v).mul(w)),
            Binary::Slope(Sigmoid) => each!(V, n, y, [v = a, w = b], math::slope(Sigmoid, v).mul(w)),
            Binary::CapSlope(cap) => {
                let (cap, one) = (V::splat(cap), V::splat(1.0));
                each!(V, n, y, [v = a, w = b], {
                    let t = math::tanh(v.div(cap));
                    one.sub(t.mul(t)).mul(w)
                })
            }
        }
    }
}

/// BF16 numbers as floats. Compiled again for each instruction set.
///
/// # Safety
/// The pointers are good for `n` numbers.
#[inline(always)]
pub(crate) unsafe fn widen(x: *const u16, y: *mut f32, n: usize) {
    for i in 0..n {
        // SAFETY: as the caller promises.
        unsafe { *y.add(i) = f32::from_bits(u32::from(*x.add(i)) << 16) };
    }
}

/// x *= factor, for `n` numbers.
///
/// # Safety
/// As for [`Lanes`]; the pointer is good for `n` numbers.
#[inline(always)]
pub(crate) unsafe fn scale<V: Lanes>(factor: f32, x: *mut f32, n: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        let factor = V::splat(factor);
        each!(V, n, x, [v = x], v.mul(factor))
    }
}

/// y += factor · x, for `n` numbers.
///
/// # Safety
/// As for [`Lanes`]; the pointers are good for `n` numbers.
#[inline(always)]
pub(crate) unsafe fn add_scaled<V: Lanes>(factor: f32, x: *const f32, y: *mut f32, n: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        let factor = V::splat(factor);
        each!(V, n, y, [v = x, w = y], factor.mul_add(v, w))
    }
}
