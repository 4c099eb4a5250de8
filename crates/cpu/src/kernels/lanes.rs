//! Sixteen `f32` at once: what every float kernel is written over, once.
//!
//! Every operation acts on each lane by itself and is exactly defined by IEEE 754 (or by this module's scalar form),
//! so a kernel gives the same bits on every instruction set. Sums over lanes have one fixed tree ([`Lanes::sum`]).

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// Sixteen `f32`.
///
/// # Safety
/// Of all methods: the processor must have the type's instruction set. Pointers must be good for 16 elements
/// (no alignment is asked for).
#[allow(clippy::missing_safety_doc)] // said once above
pub(crate) trait Lanes: Copy {
    /// Rows of a register block in attention's products.
    const ROWS: usize;
    /// Vectors side by side in such a block (1 or 2): as many sums as the registers hold.
    const VECTORS: usize;
    /// Rows of a register block of [`Lanes::dot`]s; even.
    const DOT_ROWS: usize;
    /// Sixteen quads of bytes.
    type Quads: Copy;
    /// Sixteen `i32`.
    type Whole: Copy;

    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self;
    /// 16 numbers from memory.
    unsafe fn load(from: *const f32) -> Self;
    /// 16 numbers to memory.
    unsafe fn store(self, to: *mut f32);
    /// The first `count` (below 16) numbers from memory, for which alone it must be good, then `fill`.
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize, fill: f32) -> Self {
        let mut a = [fill; LANES];
        // SAFETY: the copy stays within both.
        unsafe {
            std::ptr::copy_nonoverlapping(from, a.as_mut_ptr(), count);
            Self::load(a.as_ptr())
        }
    }
    /// The first `count` (below 16) lanes to memory, which must be good for so many.
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        // SAFETY: the copy stays within both.
        unsafe { std::ptr::copy_nonoverlapping(array(self).as_ptr(), to, count) }
    }
    /// 16 half-precision numbers from memory, widened exactly.
    unsafe fn load_f16(from: *const u16) -> Self;
    /// Rounded to half precision (to nearest, ties to even; too large becomes infinite).
    unsafe fn store_f16(self, to: *mut u16);
    /// self + b.
    unsafe fn add(self, b: Self) -> Self;
    /// self − b.
    unsafe fn sub(self, b: Self) -> Self;
    /// self · b.
    unsafe fn mul(self, b: Self) -> Self;
    /// self / b.
    unsafe fn div(self, b: Self) -> Self;
    /// self · b + c, rounded once.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// self > b ? self : b; so `b` when either is NaN.
    unsafe fn max(self, b: Self) -> Self;
    /// self < b ? self : b; so `b` when either is NaN.
    unsafe fn min(self, b: Self) -> Self;
    /// self < b ? yes : no; `no` when either is NaN.
    unsafe fn select_less(self, b: Self, yes: Self, no: Self) -> Self;
    /// To the nearest whole number, ties to even.
    unsafe fn round(self) -> Self;
    /// 2 to the power of a whole number from −126 to 127.
    unsafe fn exp2_whole(self) -> Self;
    /// Lanes 0 and 1 exchanged, 2 and 3, ...
    unsafe fn swap_pairs(self) -> Self;
    /// Whole numbers from −128 to 127 to memory, as bytes.
    unsafe fn store_i8(self, to: *mut i8);
    /// Rounded to whole numbers (ties to even), which lie from 0 to 65535, to memory: their high bytes and their low
    /// bytes. What a NaN gives lies within both.
    unsafe fn store_planes(self, high: *mut u8, low: *mut u8);
    /// Whole numbers as floats, to nearest.
    unsafe fn from_whole(x: Self::Whole) -> Self;

    /// 64 bytes from memory.
    unsafe fn load_quads(from: *const u8) -> Self::Quads;
    /// All quads the 4 bytes at `from`.
    unsafe fn splat_quad(from: *const u8) -> Self::Quads;
    /// All lanes `x`.
    unsafe fn splat_whole(x: i32) -> Self::Whole;
    /// sums + Σ of a quad's four products of an unsigned and a signed byte. No sum may leave the range of `i32`.
    unsafe fn dot(sums: Self::Whole, unsigned: Self::Quads, signed: Self::Quads) -> Self::Whole;
    /// high · 256 + low.
    unsafe fn join_planes(high: Self::Whole, low: Self::Whole) -> Self::Whole;

    /// The sum of the lanes: halves are added until one is left.
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: as the caller's.
        let mut a = unsafe { array(self) };
        let mut n = LANES / 2;
        while n > 0 {
            for i in 0..n {
                a[i] += a[i + n];
            }
            n /= 2;
        }
        a[0]
    }

    /// The largest lane. When lanes are NaN, any lane.
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        // SAFETY: as the caller's.
        let a = unsafe { array(self) };
        a.into_iter().fold(a[0], |m, x| if x > m { x } else { m })
    }

    /// The sum of each vector's lanes: whole numbers small enough for every sum to be exact, in whatever order.
    #[inline(always)]
    unsafe fn exact_sums(all: [Self; 8]) -> [f32; 8] {
        let mut sums = [0.0; 8];
        for (sum, v) in sums.iter_mut().zip(&all) {
            // SAFETY: as the caller's.
            *sum = unsafe { v.sum() };
        }
        sums
    }

    /// The largest lane of each vector; no lane is NaN.
    #[inline(always)]
    unsafe fn largest_each(all: [Self; 8]) -> [f32; 8] {
        let mut most = [0.0; 8];
        for (most, v) in most.iter_mut().zip(&all) {
            // SAFETY: as the caller's.
            *most = unsafe { v.largest() };
        }
        most
    }
}

/// The lanes as an array.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn array<V: Lanes>(v: V) -> [f32; LANES] {
    let mut a = [0.0; LANES];
    // SAFETY: the array holds 16 numbers; the instruction set is the caller's duty.
    unsafe { v.store(a.as_mut_ptr()) };
    a
}

/// The first `count` (at most 16) numbers from memory, then `fill`.
///
/// # Safety
/// As for [`Lanes`]; `from` must be good for `count` numbers.
#[inline(always)]
pub(crate) unsafe fn load_part<V: Lanes>(from: *const f32, count: usize, fill: f32) -> V {
    // SAFETY: the caller's promises.
    unsafe { if count >= LANES { V::load(from) } else { V::load_first(from, count, fill) } }
}

/// The largest magnitude, or NaN when some number is not finite.
///
/// # Safety
/// As for [`Lanes`]; `x` is good for `count` numbers.
#[inline(always)]
pub(crate) unsafe fn magnitude<V: Lanes>(x: *const f32, count: usize) -> f32 {
    // SAFETY: as the caller promises.
    unsafe {
        let zero = V::splat(0.0);
        let (mut most, mut fault) = (zero, zero);
        let mut i = 0;
        while i < count {
            let v: V = load_part(x.add(i), count - i, 0.0);
            most = zero.sub(v).max(v).max(most);
            fault = fault.add(v.sub(v));
            i += LANES;
        }
        if fault.sum().is_nan() { f32::NAN } else { most.largest() }
    }
}

/// The first `count` (at most 16) lanes to memory.
///
/// # Safety
/// As for [`Lanes`]; `to` must be good for `count` numbers.
#[inline(always)]
pub(crate) unsafe fn store_part<V: Lanes>(v: V, to: *mut f32, count: usize) {
    // SAFETY: the caller's promises.
    unsafe { if count >= LANES { v.store(to) } else { v.store_first(to, count) } }
}

/// The portable twin that the others are tested against.
#[derive(Clone, Copy)]
pub(crate) struct Scalar([f32; LANES]);

impl Scalar {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Scalar(std::array::from_fn(|i| f(self.0[i], b.0[i])))
    }
}

// SAFETY (of all blocks): pointers are good for 16 numbers by the trait's contract.
impl Lanes for Scalar {
    const ROWS: usize = 2;
    const VECTORS: usize = 1;
    const DOT_ROWS: usize = 2;
    type Quads = [u8; 4 * LANES];
    type Whole = [i32; LANES];

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Scalar([x; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see above.
        Scalar(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        // SAFETY: see above.
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        Scalar(bits.map(|b| half::f16::from_bits(b).to_f32_const()))
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        let bits = self.0.map(|x| half::f16::from_f32_const(x).to_bits());
        // SAFETY: see above.
        unsafe { to.cast::<[u16; LANES]>().write_unaligned(bits) }
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        self.zip(b, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        self.zip(b, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        self.zip(b, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        self.zip(b, |a, b| a / b)
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        Scalar(std::array::from_fn(|i| self.0[i].mul_add(b.0[i], c.0[i])))
    }

    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        self.zip(b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        self.zip(b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    unsafe fn select_less(self, b: Self, yes: Self, no: Self) -> Self {
        Scalar(std::array::from_fn(|i| if self.0[i] < b.0[i] { yes.0[i] } else { no.0[i] }))
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        Scalar(self.0.map(f32::round_ties_even))
    }

    #[inline(always)]
    unsafe fn exp2_whole(self) -> Self {
        // 2^23 + n + 127 has n + 127 in its lowest bits, which the shift moves to the exponent.
        Scalar(self.0.map(|n| f32::from_bits((n + (8_388_608.0 + 127.0)).to_bits() << 23)))
    }

    #[inline(always)]
    unsafe fn swap_pairs(self) -> Self {
        Scalar(std::array::from_fn(|i| self.0[i ^ 1]))
    }

    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8) {
        // SAFETY: see above.
        unsafe { to.cast::<[i8; LANES]>().write_unaligned(self.0.map(|x| x as i8)) }
    }

    #[inline(always)]
    unsafe fn store_planes(self, high: *mut u8, low: *mut u8) {
        let whole = self.0.map(|x| x.round_ties_even() as u32);
        // SAFETY: see above.
        unsafe {
            high.cast::<[u8; LANES]>().write_unaligned(whole.map(|x| (x >> 8) as u8));
            low.cast::<[u8; LANES]>().write_unaligned(whole.map(|x| x as u8));
        }
    }

    #[inline(always)]
    unsafe fn from_whole(x: [i32; LANES]) -> Self {
        Scalar(x.map(|x| x as f32))
    }

    #[inline(always)]
    unsafe fn load_quads(from: *const u8) -> Self::Quads {
        // SAFETY: see above.
        unsafe { from.cast::<Self::Quads>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn splat_quad(from: *const u8) -> Self::Quads {
        // SAFETY: see above.
        let quad = unsafe { from.cast::<[u8; 4]>().read_unaligned() };
        std::array::from_fn(|i| quad[i % 4])
    }

    #[inline(always)]
    unsafe fn splat_whole(x: i32) -> Self::Whole {
        [x; LANES]
    }

    #[inline(always)]
    unsafe fn dot(sums: Self::Whole, unsigned: Self::Quads, signed: Self::Quads) -> Self::Whole {
        std::array::from_fn(|i| {
            let product = |b: usize| i32::from(unsigned[4 * i + b]) * i32::from(signed[4 * i + b] as i8);
            sums[i] + (product(0) + product(1) + product(2) + product(3))
        })
    }

    #[inline(always)]
    unsafe fn join_planes(high: Self::Whole, low: Self::Whole) -> Self::Whole {
        std::array::from_fn(|i| (high[i] << 8) + low[i])
    }
}
