//! [`Lanes`] on AArch64 Advanced SIMD: four registers.

use std::arch::aarch64::*;

use super::lanes::{LANES, Lanes};

/// Sixteen `f32` in four registers, the lower lanes first.
#[derive(Clone, Copy)]
pub(crate) struct Neon([float32x4_t; 4]);

impl Neon {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        Neon(std::array::from_fn(|i| f(self.0[i], b.0[i])))
    }
}

// SAFETY (of all blocks): the caller has Advanced SIMD, and pointers are good for 16 numbers, by the trait's contract.
#[allow(clippy::undocumented_unsafe_blocks, unused_unsafe)]
impl Lanes for Neon {
    const ROWS: usize = 6;
    const VECTORS: usize = 1;
    const DOT_ROWS: usize = 2;
    type Quads = [uint8x16_t; 4];
    type Whole = [int32x4_t; 4];

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Neon([unsafe { vdupq_n_f32(x) }; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Neon(std::array::from_fn(|i| unsafe { vld1q_f32(from.add(4 * i)) }))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        for (i, v) in self.0.into_iter().enumerate() {
            unsafe { vst1q_f32(to.add(4 * i), v) }
        }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        // `half` uses the conversion instructions of AArch64 where they are.
        let mut wide = [0.0; LANES];
        for (i, x) in wide.iter_mut().enumerate() {
            *x = half::f16::from_bits(unsafe { from.add(i).read() }).to_f32();
        }
        unsafe { Neon::load(wide.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        let mut wide = [0.0; LANES];
        unsafe { self.store(wide.as_mut_ptr()) };
        for (i, x) in wide.into_iter().enumerate() {
            unsafe { to.add(i).write(half::f16::from_f32(x).to_bits()) };
        }
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        self.zip(b, |a, b| unsafe { vaddq_f32(a, b) })
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        self.zip(b, |a, b| unsafe { vsubq_f32(a, b) })
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        self.zip(b, |a, b| unsafe { vmulq_f32(a, b) })
    }

    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        self.zip(b, |a, b| unsafe { vdivq_f32(a, b) })
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        Neon(std::array::from_fn(|i| unsafe { vfmaq_f32(c.0[i], self.0[i], b.0[i]) }))
    }

    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        self.zip(b, |a, b| unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) })
    }

    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        self.zip(b, |a, b| unsafe { vbslq_f32(vcltq_f32(a, b), a, b) })
    }

    #[inline(always)]
    unsafe fn select_less(self, b: Self, yes: Self, no: Self) -> Self {
        Neon(std::array::from_fn(|i| unsafe { vbslq_f32(vcltq_f32(self.0[i], b.0[i]), yes.0[i], no.0[i]) }))
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        Neon(self.0.map(|v| unsafe { vrndnq_f32(v) }))
    }

    #[inline(always)]
    unsafe fn exp2_whole(self) -> Self {
        Neon(self.0.map(|n| unsafe {
            let biased = vaddq_f32(n, vdupq_n_f32(8_388_608.0 + 127.0));
            vreinterpretq_f32_u32(vshlq_n_u32::<23>(vreinterpretq_u32_f32(biased)))
        }))
    }

    #[inline(always)]
    unsafe fn swap_pairs(self) -> Self {
        Neon(self.0.map(|v| unsafe { vrev64q_f32(v) }))
    }

    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8) {
        let mut wide = [0.0; LANES];
        unsafe { self.store(wide.as_mut_ptr()) };
        for (i, x) in wide.into_iter().enumerate() {
            unsafe { to.add(i).write(x as i8) };
        }
    }

    #[inline(always)]
    unsafe fn store_planes(self, high: *mut u8, low: *mut u8) {
        unsafe {
            let words = self.0.map(|v| vmovn_u32(vcvtnq_u32_f32(v)));
            let (a, b) = (vcombine_u16(words[0], words[1]), vcombine_u16(words[2], words[3]));
            vst1q_u8(high, vcombine_u8(vshrn_n_u16::<8>(a), vshrn_n_u16::<8>(b)));
            vst1q_u8(low, vcombine_u8(vmovn_u16(a), vmovn_u16(b)));
        }
    }

    #[inline(always)]
    unsafe fn from_whole(x: Self::Whole) -> Self {
        Neon(x.map(|v| unsafe { vcvtq_f32_s32(v) }))
    }

    #[inline(always)]
    unsafe fn load_quads(from: *const u8) -> Self::Quads {
        std::array::from_fn(|i| unsafe { vld1q_u8(from.add(16 * i)) })
    }

    #[inline(always)]
    unsafe fn splat_quad(from: *const u8) -> Self::Quads {
        [unsafe { vreinterpretq_u8_u32(vdupq_n_u32(from.cast::<u32>().read_unaligned())) }; 4]
    }

    #[inline(always)]
    unsafe fn splat_whole(x: i32) -> Self::Whole {
        [unsafe { vdupq_n_s32(x) }; 4]
    }

    #[inline(always)]
    unsafe fn dot(sums: Self::Whole, unsigned: Self::Quads, signed: Self::Quads) -> Self::Whole {
        // Products fit 16 bits; their sums by pairs need 32.
        std::array::from_fn(|i| unsafe {
            let (u, s) = (unsigned[i], vreinterpretq_s8_u8(signed[i]));
            let wide = |u: uint8x8_t, s: int8x8_t| {
                vpaddlq_s16(vmulq_s16(vreinterpretq_s16_u16(vmovl_u8(u)), vmovl_s8(s)))
            };
            let low = wide(vget_low_u8(u), vget_low_s8(s));
            let high = wide(vget_high_u8(u), vget_high_s8(s));
            vaddq_s32(sums[i], vpaddq_s32(low, high))
        })
    }

    #[inline(always)]
    unsafe fn join_planes(high: Self::Whole, low: Self::Whole) -> Self::Whole {
        std::array::from_fn(|i| unsafe { vaddq_s32(vshlq_n_s32::<8>(high[i]), low[i]) })
    }
}
