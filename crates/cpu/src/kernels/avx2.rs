//! [`Lanes`] on AVX2 with FMA and F16C: two registers.

use std::arch::x86_64::*;

use super::lanes::Lanes;

/// Sixteen `f32` in two registers, the lower lanes first.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256, __m256);

// SAFETY (of all blocks): the caller has AVX2, FMA and F16C, and pointers are good for 16 numbers, by the trait's
// contract.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Lanes for Avx2 {
    const ROWS: usize = 6;
    const VECTORS: usize = 1;
    const DOT_ROWS: usize = 2;
    type Quads = (__m256i, __m256i);
    type Whole = (__m256i, __m256i);

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { Avx2(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Avx2(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe {
            _mm256_storeu_ps(to, self.0);
            _mm256_storeu_ps(to.add(8), self.1);
        }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        unsafe {
            Avx2(
                _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast())),
            )
        }
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        unsafe {
            _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0));
            _mm_storeu_si128(to.add(8).cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.1));
        }
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        unsafe { Avx2(_mm256_add_ps(self.0, b.0), _mm256_add_ps(self.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        unsafe { Avx2(_mm256_sub_ps(self.0, b.0), _mm256_sub_ps(self.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        unsafe { Avx2(_mm256_mul_ps(self.0, b.0), _mm256_mul_ps(self.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        unsafe { Avx2(_mm256_div_ps(self.0, b.0), _mm256_div_ps(self.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        unsafe { Avx2(_mm256_fmadd_ps(self.0, b.0, c.0), _mm256_fmadd_ps(self.1, b.1, c.1)) }
    }

    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        unsafe { Avx2(_mm256_max_ps(self.0, b.0), _mm256_max_ps(self.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        unsafe { Avx2(_mm256_min_ps(self.0, b.0), _mm256_min_ps(self.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn select_less(self, b: Self, yes: Self, no: Self) -> Self {
        unsafe {
            Avx2(
                _mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, b.0)),
                _mm256_blendv_ps(no.1, yes.1, _mm256_cmp_ps::<_CMP_LT_OQ>(self.1, b.1)),
            )
        }
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        unsafe { Avx2(_mm256_round_ps::<NEAREST>(self.0), _mm256_round_ps::<NEAREST>(self.1)) }
    }

    #[inline(always)]
    unsafe fn exp2_whole(self) -> Self {
        unsafe {
            let one = |n| {
                let biased = _mm256_add_ps(n, _mm256_set1_ps(8_388_608.0 + 127.0));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(biased)))
            };
            Avx2(one(self.0), one(self.1))
        }
    }

    #[inline(always)]
    unsafe fn swap_pairs(self) -> Self {
        unsafe {
            Avx2(_mm256_permute_ps::<0b10_11_00_01>(self.0), _mm256_permute_ps::<0b10_11_00_01>(self.1))
        }
    }

    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8) {
        unsafe {
            let (low, high) = (_mm256_cvtps_epi32(self.0), _mm256_cvtps_epi32(self.1));
            // Packing works within 128-bit halves, whose quarters are then put in order.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(low, high));
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(to.cast(), bytes);
        }
    }

    #[inline(always)]
    unsafe fn store_planes(self, high: *mut u8, low: *mut u8) {
        unsafe {
            // Bytes 0 and 1 of every number, those of each 128-bit half together.
            let order = _mm256_setr_epi8(
                0, 4, 8, 12, 1, 5, 9, 13, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8, 12, 1, 5, 9, 13, -1, -1,
                -1, -1, -1, -1, -1, -1,
            );
            for (i, half) in [self.0, self.1].into_iter().enumerate() {
                let bytes = _mm256_shuffle_epi8(_mm256_cvtps_epi32(half), order);
                let (a, b) = (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
                let both = _mm_unpacklo_epi32(a, b);
                _mm_storel_epi64(low.add(8 * i).cast(), both);
                _mm_storel_epi64(high.add(8 * i).cast(), _mm_unpackhi_epi64(both, both));
            }
        }
    }

    #[inline(always)]
    unsafe fn from_whole(x: Self::Whole) -> Self {
        unsafe { Avx2(_mm256_cvtepi32_ps(x.0), _mm256_cvtepi32_ps(x.1)) }
    }

    #[inline(always)]
    unsafe fn load_quads(from: *const u8) -> Self::Quads {
        unsafe { (_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())) }
    }

    #[inline(always)]
    unsafe fn splat_quad(from: *const u8) -> Self::Quads {
        let all = unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) };
        (all, all)
    }

    #[inline(always)]
    unsafe fn splat_whole(x: i32) -> Self::Whole {
        let all = unsafe { _mm256_set1_epi32(x) };
        (all, all)
    }

    #[inline(always)]
    unsafe fn dot(sums: Self::Whole, unsigned: Self::Quads, signed: Self::Quads) -> Self::Whole {
        // `vpmaddubsw` would saturate: the even and the odd bytes are widened and multiplied by themselves.
        let half = |sums: __m256i, u: __m256i, s: __m256i| unsafe {
            let even = _mm256_and_si256(u, _mm256_set1_epi16(0xff));
            let even = _mm256_madd_epi16(even, _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(s)));
            let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(u), _mm256_srai_epi16::<8>(s));
            _mm256_add_epi32(sums, _mm256_add_epi32(even, odd))
        };
        (half(sums.0, unsigned.0, signed.0), half(sums.1, unsigned.1, signed.1))
    }

    #[inline(always)]
    unsafe fn join_planes(high: Self::Whole, low: Self::Whole) -> Self::Whole {
        unsafe {
            (
                _mm256_add_epi32(_mm256_slli_epi32::<8>(high.0), low.0),
                _mm256_add_epi32(_mm256_slli_epi32::<8>(high.1), low.1),
            )
        }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe { half_sum(_mm256_add_ps(self.0, self.1)) }
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        unsafe { half_largest(_mm256_max_ps(self.0, self.1)) }
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
#[inline(always)]
fn halves(v: &Avx2) -> [__m256; 2] {
    [v.0, v.1]
}

/// Folds the 16 lanes of each of 8 vectors: their halves first, then all together, transposed step by step, since one by one each would wait for
/// its own chain of shuffles. A macro, because the compiler would call a closure or `array::map` for each instruction.
macro_rules! fold_each {
    ($all:expr, $halves:ident, $op:ident) => {{
        let mut v = [_mm256_setzero_ps(); 8];
        for (half, all) in v.iter_mut().zip(&$all) {
            let [low, high] = $halves(all);
            *half = $op(low, high);
        }
        // Lanes i and i + 2 of two vectors, then i and i + 1 of four, within halves; then halves of eight.
        let mut two = [_mm256_setzero_pd(); 4];
        for (i, two) in two.iter_mut().enumerate() {
            let (a, b) = (v[2 * i], v[2 * i + 1]);
            *two = _mm256_castps_pd($op(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)));
        }
        let mut four = [_mm256_setzero_ps(); 2];
        for (i, four) in four.iter_mut().enumerate() {
            let (a, b) = (two[2 * i], two[2 * i + 1]);
            *four =
                $op(_mm256_castpd_ps(_mm256_unpacklo_pd(a, b)), _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)));
        }
        let [a, b] = four;
        let all = $op(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b));
        let mut lanes = [0.0; 8];
        _mm256_storeu_ps(lanes.as_mut_ptr(), all);
        lanes
    }};
}
pub(super) use fold_each;

/// The sum of 8 lanes, by halves.
///
/// # Safety
/// The processor has AVX.
#[inline(always)]
#[allow(clippy::undocumented_unsafe_blocks)]
pub(super) unsafe fn half_sum(v: __m256) -> f32 {
    unsafe {
        let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
        _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
    }
}

/// The largest of 8 lanes.
///
/// # Safety
/// The processor has AVX.
#[inline(always)]
#[allow(clippy::undocumented_unsafe_blocks)]
pub(super) unsafe fn half_largest(v: __m256) -> f32 {
    unsafe {
        let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
        _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)))
    }
}
