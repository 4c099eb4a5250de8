//! [`Lanes`] on AVX-512 F with VNNI: one register.

use std::arch::x86_64::*;

use super::avx2::{fold_each, half_largest, half_sum};
use super::lanes::Lanes;

/// The first `count` (below 16) lanes.
fn first(count: usize) -> __mmask16 {
    (1 << count) - 1
}

/// Sixteen `f32` in one register.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

// SAFETY (of all blocks): the caller has AVX-512 F and VNNI, and pointers are good for 16 numbers, by the trait's contract.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Lanes for Avx512 {
    const ROWS: usize = 12;
    const VECTORS: usize = 2;
    const DOT_ROWS: usize = 12;
    type Quads = __m512i;
    type Whole = __m512i;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Avx512(unsafe { _mm512_set1_ps(x) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Avx512(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize, fill: f32) -> Self {
        Avx512(unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(fill), first(count), from) })
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        unsafe { _mm512_mask_storeu_ps(to, first(count), self.0) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        Avx512(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) })
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0)) }
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Avx512(unsafe { _mm512_add_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        Avx512(unsafe { _mm512_sub_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        Avx512(unsafe { _mm512_mul_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        Avx512(unsafe { _mm512_div_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        Avx512(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }

    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        Avx512(unsafe { _mm512_max_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        Avx512(unsafe { _mm512_min_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn select_less(self, b: Self, yes: Self, no: Self) -> Self {
        unsafe {
            let less = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, b.0);
            Avx512(_mm512_mask_blend_ps(less, no.0, yes.0))
        }
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        Avx512(unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
    }

    #[inline(always)]
    unsafe fn exp2_whole(self) -> Self {
        unsafe {
            let biased = _mm512_add_ps(self.0, _mm512_set1_ps(8_388_608.0 + 127.0));
            Avx512(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(biased))))
        }
    }

    #[inline(always)]
    unsafe fn swap_pairs(self) -> Self {
        Avx512(unsafe { _mm512_permute_ps::<0b10_11_00_01>(self.0) })
    }

    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8) {
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(self.0))) }
    }

    #[inline(always)]
    unsafe fn store_planes(self, high: *mut u8, low: *mut u8) {
        unsafe {
            let whole = _mm512_cvtps_epi32(self.0);
            _mm_storeu_si128(high.cast(), _mm512_cvtepi32_epi8(_mm512_srli_epi32::<8>(whole)));
            _mm_storeu_si128(low.cast(), _mm512_cvtepi32_epi8(whole));
        }
    }

    #[inline(always)]
    unsafe fn from_whole(x: __m512i) -> Self {
        Avx512(unsafe { _mm512_cvtepi32_ps(x) })
    }

    #[inline(always)]
    unsafe fn load_quads(from: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn splat_quad(from: *const u8) -> __m512i {
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn splat_whole(x: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(x) }
    }

    #[inline(always)]
    unsafe fn dot(sums: __m512i, unsigned: __m512i, signed: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, unsigned, signed) }
    }

    #[inline(always)]
    unsafe fn join_planes(high: __m512i, low: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(_mm512_slli_epi32::<8>(high), low) }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe {
            let [low, high] = halves(&self);
            half_sum(_mm256_add_ps(low, high))
        }
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        unsafe {
            let [low, high] = halves(&self);
            half_largest(_mm256_max_ps(low, high))
        }
    }

    #[inline(always)]
    unsafe fn exact_sums(all: [Self; 8]) -> [f32; 8] {
        unsafe { fold_each!(all, halves, _mm256_add_ps) }
    }

    #[inline(always)]
    unsafe fn largest_each(all: [Self; 8]) -> [f32; 8] {
        unsafe { fold_each!(all, halves, _mm256_max_ps) }
    }
}

/// Lanes 0 to 7, and 8 to 15.
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
unsafe fn halves(&Avx512(v): &Avx512) -> [__m256; 2] {
    // SAFETY: as the caller's.
    unsafe {
        let high = _mm512_shuffle_f32x4::<0b11_10_11_10>(v, v);
        [_mm512_castps512_ps256(v), _mm512_castps512_ps256(high)]
    }
}
