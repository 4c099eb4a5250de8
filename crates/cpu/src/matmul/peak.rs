//! What this machine can do at most, measured: the denominators of every share that `bench` prints.
//!
//! The loops do nothing but the instruction that bounds a kernel, on registers or on a stream of memory, on all
//! threads of a pool at once. Each takes the best of several rounds, since what disturbs a round only slows it.

use super::memory::AlignedBytes;
use crate::isa::Isa;
use crate::pool::Pool;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Passes over memory: each takes some hundredths of a second.
const BANDWIDTH_PASSES: usize = 15;
/// Rounds of the loops on registers, which are shorter.
const SHORT_ROUNDS: usize = 40;

/// Integer operations a second with `isa` on all threads, two for each multiply-and-add of 8-bit numbers.
///
/// # Panics
/// When the machine cannot run `isa`.
pub fn int8_ops(isa: Isa, pool: &Pool) -> f64 {
    assert!(isa.is_available(), "this machine cannot run {isa}");
    best_rate(pool, || {
        // SAFETY: available.
        unsafe {
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Amx => super::amx::int8_peak(STEPS),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => x86::dpbusd(),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => x86::maddubs(),
                #[cfg(target_arch = "aarch64")]
                Isa::Neon => arm::int8(),
                _ => scalar_int8(),
            }
        }
    })
}

/// Floating-point operations a second with `isa` on all threads, two for each fused multiply-add of `f32`.
///
/// # Panics
/// When the machine cannot run `isa`.
pub fn f32_flops(isa: Isa, pool: &Pool) -> f64 {
    assert!(isa.is_available(), "this machine cannot run {isa}");
    best_rate(pool, || {
        // SAFETY: available.
        unsafe {
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 | Isa::Amx => x86::fma512(),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => x86::fma256(),
                #[cfg(target_arch = "aarch64")]
                Isa::Neon => arm::fma(),
                _ => scalar_f32(),
            }
        }
    })
}

/// Floating-point operations a second with `isa` on all threads, two for each multiply-and-add of BF16 numbers: what
/// bounds products of the form [`ActivationKind::Bf16`](super::ActivationKind::Bf16). Without BF16 products, [`f32_flops`].
///
/// # Panics
/// When the machine cannot run `isa`.
pub fn bf16_flops(isa: Isa, pool: &Pool) -> f64 {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Amx if isa.is_available() => {
            // SAFETY: available.
            best_rate(pool, || unsafe { super::amx::bf16_peak(STEPS) })
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if isa.is_available() && isa.has_bf16_products() => {
            // SAFETY: available.
            best_rate(pool, || unsafe { x86::bf16() })
        }
        _ => f32_flops(isa, pool),
    }
}

/// Bytes a second that all threads together read from memory, in sequence, from an array of `bytes` bytes: the median of
/// some passes of a [`Reader`].
///
/// # Panics
/// When there is no memory for the array.
pub fn read_bandwidth(pool: &Pool, bytes: usize) -> f64 {
    let reader = Reader::new(pool, bytes);
    let mut rates: Vec<f64> = (0..BANDWIDTH_PASSES).map(|_| reader.pass(pool)).collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// An array to measure with how fast memory can be read: on a shared machine that changes from second to second, so that
/// it has to be measured beside the work that it limits.
pub struct Reader {
    memory: AlignedBytes,
}

impl Reader {
    /// Bytes that a thread reads at a time.
    const BLOCK: usize = 1 << 20;

    /// An array of about `bytes` bytes. To measure memory and not a cache, that has to be several times the last-level
    /// cache; 512 MiB is enough for most machines.
    ///
    /// # Panics
    /// When there is no memory for the array.
    pub fn new(pool: &Pool, bytes: usize) -> Reader {
        let blocks = (bytes / Self::BLOCK).max(pool.threads());
        let memory = AlignedBytes::uninit(blocks * Self::BLOCK).expect("memory to measure bandwidth with");
        let start = memory.as_mut_ptr() as usize;
        pool.run(&|worker| {
            worker.for_each(blocks, 1, |range| {
                // SAFETY: these blocks are inside the memory and this thread's alone.
                let bytes = unsafe {
                    std::slice::from_raw_parts_mut(
                        (start + range.start * Self::BLOCK) as *mut MaybeUninit<u8>,
                        range.len() * Self::BLOCK,
                    )
                };
                bytes.fill(MaybeUninit::new(1));
            });
        });
        Reader { memory }
    }

    /// Reads all of the array once, on all threads. Bytes a second, from the first thread's start to the last one's end.
    pub fn pass(&self, pool: &Pool) -> f64 {
        let (start, bytes) = (self.memory.as_mut_ptr() as usize, self.memory.len());
        let seconds = Mutex::new(f64::INFINITY);
        pool.run(&|worker| {
            worker.barrier();
            let begin = Instant::now();
            worker.for_each(bytes / Self::BLOCK, 1, |range| {
                // SAFETY: `new` has written it, and nothing writes it now.
                let words = unsafe {
                    std::slice::from_raw_parts(
                        (start + range.start * Self::BLOCK) as *const u64,
                        range.len() * Self::BLOCK / 8,
                    )
                };
                black_box(read(words));
            });
            worker.barrier();
            if worker.index() == 0 {
                *seconds.lock().unwrap_or_else(PoisonError::into_inner) = begin.elapsed().as_secs_f64();
            }
        });
        bytes as f64 / seconds.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads every word, in the widest loads that the processor has.
fn read(words: &[u64]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        if Isa::Avx512.is_available() {
            // SAFETY: available.
            return unsafe { x86::read512(words) };
        }
        if Isa::Avx2.is_available() {
            // SAFETY: available.
            return unsafe { x86::read256(words) };
        }
    }
    read_portable(words)
}

#[inline(always)]
fn read_portable(words: &[u64]) -> u64 {
    words.iter().fold(0, |all, word| all | word)
}

/// Runs `work`, which returns the operations it did, on all threads, and returns the best rate seen.
fn best_rate(pool: &Pool, work: impl Fn() -> u64 + Sync) -> f64 {
    let mut best = 0.0f64;
    for _ in 0..SHORT_ROUNDS {
        let total = std::sync::atomic::AtomicU64::new(0);
        let begin = Instant::now();
        pool.run(&|_| {
            total.fetch_add(work(), std::sync::atomic::Ordering::Relaxed);
        });
        best = best.max(total.into_inner() as f64 / begin.elapsed().as_secs_f64());
    }
    best
}

/// Steps of a peak loop: about a millisecond, which other programs often leave uninterrupted.
const STEPS: u64 = 1 << 18;

fn scalar_int8() -> u64 {
    let (u, a) = (black_box([3u8; 64]), black_box([-5i8; 64]));
    let mut sums = [0i32; 64];
    for _ in 0..STEPS / 8 {
        for ((sum, u), a) in sums.iter_mut().zip(u).zip(black_box(&a)) {
            *sum = sum.wrapping_add(i32::from(u) * i32::from(*a));
        }
    }
    black_box(sums);
    STEPS / 8 * 64 * 2
}

fn scalar_f32() -> u64 {
    let (w, x) = (black_box([0.5f32; 32]), black_box([0.25f32; 32]));
    let mut sums = [0f32; 32];
    for _ in 0..STEPS / 8 {
        for ((sum, w), x) in sums.iter_mut().zip(w).zip(black_box(&x)) {
            *sum += w * x;
        }
    }
    black_box(sums);
    STEPS / 8 * 32 * 2
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{STEPS, black_box, read_portable};
    use std::arch::x86_64::*;

    /// Independent sums: enough to hide the latency of any processor's multiply-add.
    const SUMS: usize = 16;

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn dpbusd() -> u64 {
        let (u, a) = (black_box(_mm512_set1_epi8(3)), black_box(_mm512_set1_epi8(-5)));
        let mut sums = [_mm512_setzero_si512(); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, u, a);
            }
        }
        black_box(sums);
        STEPS * SUMS as u64 * 64 * 2
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn fma512() -> u64 {
        let (w, x) = (black_box(_mm512_set1_ps(0.5)), black_box(_mm512_set1_ps(0.25)));
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(w, x, *sum);
            }
        }
        black_box(sums);
        STEPS * SUMS as u64 * 16 * 2
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn bf16() -> u64 {
        // SAFETY: both are 64 bytes, of which every value is valid.
        let halves: __m512bh = unsafe { std::mem::transmute(_mm512_set1_epi16(0x3f00)) };
        let (w, x) = (black_box(halves), black_box(halves));
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, w, x);
            }
        }
        black_box(sums);
        STEPS * SUMS as u64 * 32 * 2
    }

    /// Products and sums of 16 bits, as the AVX2 kernels have them. The codes are the sums themselves, since of two
    /// constants the product would be taken once.
    #[target_feature(enable = "avx2")]
    pub(super) fn maddubs() -> u64 {
        const SUMS: usize = 12;
        let u = black_box(_mm256_set1_epi8(3));
        let mut sums = [_mm256_set1_epi8(1); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(u, *sum));
            }
        }
        black_box(sums);
        STEPS * SUMS as u64 * 32 * 2
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn fma256() -> u64 {
        const SUMS: usize = 12;
        let (w, x) = (black_box(_mm256_set1_ps(0.5)), black_box(_mm256_set1_ps(0.25)));
        let mut sums = [_mm256_setzero_ps(); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(w, x, *sum);
            }
        }
        black_box(sums);
        STEPS * SUMS as u64 * 8 * 2
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn read512(words: &[u64]) -> u64 {
        read_portable(words)
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn read256(words: &[u64]) -> u64 {
        read_portable(words)
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::{STEPS, black_box};
    use std::arch::aarch64::*;
    use std::arch::asm;

    const SUMS: usize = 16;

    #[target_feature(enable = "neon")]
    pub(super) fn int8() -> u64 {
        if std::arch::is_aarch64_feature_detected!("dotprod") {
            // SAFETY: just detected.
            unsafe { sdot() }
        } else {
            smull()
        }
    }

    #[target_feature(enable = "neon,dotprod")]
    fn sdot() -> u64 {
        let (w, a) = (black_box(vdupq_n_s8(3)), black_box(vdupq_n_s8(-5)));
        let mut sums = [vdupq_n_s32(0); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                // SAFETY: arithmetic on registers, with an instruction that the function's features include.
                unsafe {
                    asm!(
                        "sdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
                        inout(vreg) *sum, in(vreg) w, in(vreg) a,
                        options(pure, nomem, nostack, preserves_flags)
                    );
                }
            }
        }
        black_box(sums);
        STEPS * SUMS as u64 * 16 * 2
    }

    #[target_feature(enable = "neon")]
    fn smull() -> u64 {
        let mut sums = [vdupq_n_s32(0); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                let bytes = vreinterpretq_s8_s32(*sum);
                *sum = vpadalq_s16(*sum, vmull_s8(vget_low_s8(bytes), vget_high_s8(bytes)));
            }
        }
        black_box(sums);
        STEPS * SUMS as u64 * 8 * 2
    }

    #[target_feature(enable = "neon")]
    pub(super) fn fma() -> u64 {
        let (w, x) = (black_box(vdupq_n_f32(0.5)), black_box(vdupq_n_f32(0.25)));
        let mut sums = [vdupq_n_f32(0.0); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = vfmaq_f32(*sum, w, x);
            }
        }
        black_box(sums);
        STEPS * SUMS as u64 * 4 * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_has_positive_peaks() {
        let pool = Pool::new(1);
        for isa in Isa::available() {
            for peak in [int8_ops, f32_flops, bf16_flops] {
                let rate = peak(isa, &pool);
                assert!(rate.is_finite() && rate > 1e6, "{isa}: {rate} operations a second");
            }
        }
        assert!(read_bandwidth(&pool, 1 << 20) > 1e6);
    }
}
