//! Float kernels: everything of a step but the products with weights.
//!
//! Each is written once, over the sixteen lanes of [`lanes::Lanes`], and compiled for every instruction set; the bits
//! are the same on all. A table of function pointers is chosen once.
//!
//! | file | what |
//! | --- | --- |
//! | `lanes.rs` | the lanes, and their portable form |
//! | `avx2.rs`, `avx512.rs`, `neon.rs` | the lanes on an instruction set |
//! | `math.rs` | exponential and friends |
//! | `elementwise.rs`, `norm.rs`, `quantize.rs`, `rope.rs`, `route.rs` | the kernels |
//! | `gemm.rs`, `backward.rs` | what derivatives need |
//! | `paired.rs`, `bf16.rs` | what attention and its derivative need where products are of BF16 numbers |
//! | `cache.rs`, `attention.rs` | attention over a KV cache of floats |
//! | `rounded.rs` | attention over a KV cache of 8-bit integers |

pub(crate) mod attention;
pub(crate) mod backward;
pub(crate) mod cache;
pub(crate) mod elementwise;
pub(crate) mod gemm;
pub(crate) mod lanes;
mod math;
mod norm;
pub(crate) mod paired;
mod quantize;
pub(crate) mod rope;
pub(crate) mod rounded;
pub(crate) mod route;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod bf16;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(test)]
mod tests;

use autarky_graph::{ActivationKind, CacheDType, NormKind, Pairing, Route};

use crate::isa::Isa;
use crate::matmul::Activations;
use attention::Tile;
use backward::{Columns, Softmax};
use cache::{Keys, Layout};
use elementwise::{Binary, Unary};
use gemm::Gemm;

type Norm = unsafe fn(NormKind, f32, *const f32, *const f32, *const f32, *mut f32, usize);
type RouteFn = unsafe fn(&Route, &[f32], *const f32, &mut [f32], &mut [u32], &mut [f32]);
type AttendSpan = unsafe fn(&Tile, &Keys<'_>, (usize, usize));
type NormBackward = unsafe fn(NormKind, (f32, f32), (*const f32, *const f32, *const f32), *mut f32, usize);
type GatedBackward =
    unsafe fn(ActivationKind, (*const f32, *const f32, *const f32), (*mut f32, *mut f32), usize);
type WriteCache = unsafe fn(&Keys<'_>, usize, usize, (*const f32, usize), (*const f32, usize));

/// The kernels of one instruction set. Each is described where it is written.
///
/// # Safety
/// Of all: the machine must be able to run the instruction set; and see each.
pub(crate) struct Kernels {
    pub(crate) unary: unsafe fn(Unary, *const f32, *mut f32, usize),
    pub(crate) binary: unsafe fn(Binary, *const f32, *const f32, *mut f32, usize),
    pub(crate) add_scaled: unsafe fn(f32, *const f32, *mut f32, usize),
    pub(crate) norm: Norm,
    pub(crate) rotate: unsafe fn(Pairing, usize, *const f32, *const f32, *mut f32),
    pub(crate) route: RouteFn,
    pub(crate) quantize_row: unsafe fn(&[f32], &Activations, usize),
    pub(crate) convert_row: unsafe fn(&[f32], &Activations, usize, usize),
    attend_span_f16: AttendSpan,
    attend_span_f32: AttendSpan,
    attend_span_i8: AttendSpan,
    write_cache_f16: WriteCache,
    write_cache_f32: WriteCache,
    write_cache_i8: WriteCache,
    round_queries: unsafe fn(&Tile, &Layout),
    pub(crate) merge: unsafe fn(&Layout, *mut f32, *const f32),
    pub(crate) finish: unsafe fn(&Layout, *const f32, Option<f32>, *mut f32),
    pub(crate) gemm: unsafe fn(&Gemm),
    pub(crate) norm_stats: unsafe fn(NormKind, f32, *const f32, usize) -> (f32, f32),
    pub(crate) norm_backward: NormBackward,
    pub(crate) gated_backward: GatedBackward,
    pub(crate) column_sums: unsafe fn(&Columns, *mut f32, *mut f32),
    pub(crate) cross_entropy: unsafe fn(*const f32, usize, usize, *mut f32) -> (f32, f32),
    pub(crate) scale: unsafe fn(f32, *mut f32, usize),
    pub(crate) widen: unsafe fn(*const u16, *mut f32, usize),
    pub(crate) attention_weights: unsafe fn(Softmax, *mut f32, *mut f32, (usize, usize, usize)) -> f32,
    pub(crate) attention_backward: unsafe fn(f32, *const f32, *const f32, *mut f32, usize) -> f32,
}

impl Kernels {
    /// The kernels of an instruction set; the portable ones for those that this architecture does not have.
    pub(crate) fn of(isa: Isa) -> &'static Kernels {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &on_avx2::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Amx => &on_avx512::KERNELS,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => &on_neon::KERNELS,
            _ => &on_scalar::KERNELS,
        }
    }

    pub(crate) fn attend_span(&self, cache: CacheDType) -> AttendSpan {
        match cache {
            CacheDType::F16 => self.attend_span_f16,
            CacheDType::F32 => self.attend_span_f32,
            CacheDType::I8 => self.attend_span_i8,
        }
    }

    /// What brings a tile's queries into the form in which they are multiplied, where it is another.
    pub(crate) fn round_queries(&self, cache: CacheDType) -> Option<unsafe fn(&Tile, &Layout)> {
        (cache == CacheDType::I8).then_some(self.round_queries)
    }

    pub(crate) fn write_cache(&self, cache: CacheDType) -> WriteCache {
        match cache {
            CacheDType::F16 => self.write_cache_f16,
            CacheDType::F32 => self.write_cache_f32,
            CacheDType::I8 => self.write_cache_i8,
        }
    }
}

/// Compiles every kernel over the lanes `$V` with the instruction set's features.
macro_rules! kernels {
    ($module:ident, $V:ty $(, $feature:literal)?) => {
        mod $module {
            use super::*;

            pub(super) static KERNELS: Kernels = Kernels {
                unary,
                binary,
                add_scaled,
                norm,
                rotate,
                route,
                quantize_row,
                convert_row,
                attend_span_f16,
                attend_span_f32,
                attend_span_i8,
                write_cache_f16,
                write_cache_f32,
                write_cache_i8,
                round_queries,
                merge,
                finish,
                gemm,
                norm_stats,
                norm_backward,
                gated_backward,
                column_sums,
                cross_entropy,
                scale,
                widen,
                attention_weights,
                attention_backward,
            };

            kernels!(@fn ($($feature)?) $V, unary = elementwise::unary::<$V>,
                (op: Unary, x: *const f32, y: *mut f32, n: usize));
            kernels!(@fn ($($feature)?) $V, binary = elementwise::binary::<$V>,
                (op: Binary, a: *const f32, b: *const f32, y: *mut f32, n: usize));
            kernels!(@fn ($($feature)?) $V, add_scaled = elementwise::add_scaled::<$V>,
                (factor: f32, x: *const f32, y: *mut f32, n: usize));
            kernels!(@fn ($($feature)?) $V, norm = norm::norm::<$V>,
                (kind: NormKind, epsilon: f32, x: *const f32, w: *const f32, b: *const f32, y: *mut f32, n: usize));
            kernels!(@fn ($($feature)?) $V, rotate = rope::rotate::<$V>,
                (pairing: Pairing, rotated: usize, table: *const f32, x: *const f32, y: *mut f32));
            kernels!(@fn ($($feature)?) $V, route = route::route::<$V>,
                (r: &Route, x: &[f32], bias: *const f32, scratch: &mut [f32], e: &mut [u32], w: &mut [f32]));
            kernels!(@fn ($($feature)?) $V, quantize_row = quantize::quantize_row::<$V>,
                (x: &[f32], out: &Activations, row: usize));
            kernels!(@fn ($($feature)?) $V, convert_row = crate::matmul::activations::convert_row,
                (x: &[f32], out: &Activations, row: usize, first: usize));
            kernels!(@fn ($($feature)?) $V, attend_span_f16 = attention::attend_span::<$V, u16>,
                (tile: &Tile, keys: &Keys<'_>, span: (usize, usize)));
            kernels!(@fn ($($feature)?) $V, attend_span_f32 = attention::attend_span::<$V, f32>,
                (tile: &Tile, keys: &Keys<'_>, span: (usize, usize)));
            kernels!(@fn ($($feature)?) $V, attend_span_i8 = rounded::attend_span::<$V>,
                (tile: &Tile, keys: &Keys<'_>, span: (usize, usize)));
            kernels!(@fn ($($feature)?) $V, write_cache_i8 = rounded::write_cache::<$V>,
                (keys: &Keys<'_>, p: usize, n: usize, k: (*const f32, usize), v: (*const f32, usize)));
            kernels!(@fn ($($feature)?) $V, round_queries = rounded::round_queries::<$V>,
                (tile: &Tile, layout: &Layout));
            kernels!(@fn ($($feature)?) $V, write_cache_f16 = cache::write_cache::<$V, u16>,
                (keys: &Keys<'_>, p: usize, n: usize, k: (*const f32, usize), v: (*const f32, usize)));
            kernels!(@fn ($($feature)?) $V, write_cache_f32 = cache::write_cache::<$V, f32>,
                (keys: &Keys<'_>, p: usize, n: usize, k: (*const f32, usize), v: (*const f32, usize)));
            kernels!(@fn ($($feature)?) $V, merge = attention::merge::<$V>,
                (layout: &Layout, total: *mut f32, next: *const f32));
            kernels!(@fn ($($feature)?) $V, finish = attention::finish::<$V>,
                (layout: &Layout, record: *const f32, sink: Option<f32>, out: *mut f32));
            kernels!(@fn ($($feature)?) $V, gemm = gemm::gemm::<$V>, (g: &Gemm));
            kernels!(@fn ($($feature)?) $V, norm_stats = norm::stats::<$V>,
                (kind: NormKind, epsilon: f32, x: *const f32, n: usize), (f32, f32));
            kernels!(@fn ($($feature)?) $V, norm_backward = backward::norm_backward::<$V>,
                (kind: NormKind, stats: (f32, f32), from: (*const f32, *const f32, *const f32), dx: *mut f32, n: usize));
            kernels!(@fn ($($feature)?) $V, gated_backward = backward::gated_backward::<$V>,
                (kind: ActivationKind, from: (*const f32, *const f32, *const f32), to: (*mut f32, *mut f32), n: usize));
            kernels!(@fn ($($feature)?) $V, column_sums = backward::column_sums::<$V>,
                (c: &Columns, gain: *mut f32, shift: *mut f32));
            kernels!(@fn ($($feature)?) $V, cross_entropy = backward::cross_entropy::<$V>,
                (logits: *const f32, n: usize, target: usize, to: *mut f32), (f32, f32));
            kernels!(@fn ($($feature)?) $V, scale = elementwise::scale::<$V>,
                (factor: f32, x: *mut f32, n: usize));
            kernels!(@fn ($($feature)?) $V, widen = elementwise::widen, (x: *const u16, y: *mut f32, n: usize));
            kernels!(@fn ($($feature)?) $V, attention_weights = backward::attention_weights::<$V>,
                (s: Softmax, row: *mut f32, slopes: *mut f32, range: (usize, usize, usize)), f32);
            kernels!(@fn ($($feature)?) $V, attention_backward = backward::attention_backward::<$V>,
                (scale: f32, weights: *const f32, slopes: *const f32, row: *mut f32, n: usize), f32);
        }
    };
    (@fn ($($feature:literal)?) $V:ty, $name:ident = $generic:path, ($($arg:ident: $type:ty),*) $(, $result:ty)?) => {
        $(#[target_feature(enable = $feature)])?
        #[allow(clippy::too_many_arguments)]
        unsafe fn $name($($arg: $type),*) $(-> $result)? {
            // SAFETY: the caller's promises are the same.
            unsafe { $generic($($arg),*) }
        }
    };
}

kernels!(on_scalar, lanes::Scalar);
#[cfg(target_arch = "x86_64")]
kernels!(on_avx2, avx2::Avx2, "avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
kernels!(on_avx512, avx512::Avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c");
#[cfg(target_arch = "aarch64")]
kernels!(on_neon, neon::Neon, "neon");
