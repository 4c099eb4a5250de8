//! Kernels for AMX: products of tiles of 16 rows of activations with panels of 16 rows of weights.
//!
//! `tdpbssd` takes an A tile of activations (16 rows × a scale group) and a B tile of weights, which is a packed
//! panel's quads as they are, and gives the exact integer products of 256 pairs of rows. A tile product spans one scale
//! group and no more; its result is stored and scaled with AVX-512, in the same operations as the other kernels, and so
//! has the same bits. With up to four rows, tiles would be mostly empty, and the AVX-512 kernels run.
//!
//! `tdpbf16ps` takes BF16 pairs from packed BF16 weights as they are, and rounds as Intel's manual says: for each
//! tile product two chains of fused multiply-adds, over the even and the odd elements of 32, whose sum is added to the
//! result; subnormal numbers count as zero. That depends on neither the number of rows nor the split of the work.
//!
//! Stable Rust has no intrinsics for tiles, so the instructions are inline assembly. The compiler never uses tile
//! registers, so what one `asm!` leaves in them the next one finds. A kernel configures the tiles when it starts and
//! releases them when it ends: a thread outside of a kernel has no tile state that a context switch would have to save.

#[cfg(test)]
mod emulator;

use super::activations::ActivationKind;
use super::avx512::{self, Zmm, unpack_group};
use super::format::{CHUNK, CHUNK_GROUPS, Format, GROUP, GROUP_CODES, PANEL_ROWS, with_format};
use super::integer::{self, Block, Integer};
use super::lanes::Lanes;
use super::unpack::Unpacked;
use super::{ROW_BLOCK, ScratchParts, Task};
use autarky_quant::DType;
use std::arch::asm;
use std::arch::x86_64::*;

/// Rows of a full tile.
const TILE_ROWS: usize = 16;
/// Bytes of a row of a full tile.
const TILE_ROW_BYTES: usize = 64;
/// Up to this many rows, AVX-512 multiplies weights as fast as memory brings them.
const FEW_ROWS: usize = 4;

/// The operand of `ldtilecfg` (Intel SDM, volume 1, 18.3).
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Tiles 0 to 3 are results, 4 and 5 activations, 6 and 7 weights; a row of activations is `row_bytes` long.
const fn config(row_bytes: usize) -> TileConfig {
    let mut config =
        TileConfig { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
    let mut tile = 0;
    while tile < 8 {
        config.row_bytes[tile] =
            if tile == 4 || tile == 5 { row_bytes as u16 } else { TILE_ROW_BYTES as u16 };
        config.rows[tile] = if tile < 6 { TILE_ROWS as u8 } else { (row_bytes / 4) as u8 };
        tile += 1;
    }
    config
}

/// For scale groups of 16, of 32, and for BF16 (32 elements of 2 bytes).
static CONFIGS: [TileConfig; 3] = [config(16), config(32), config(64)];

/// Tiles are configured while this lives.
struct Tiles;

impl Tiles {
    /// # Safety
    /// The processor has AMX and the operating system has granted tiles to the process.
    #[inline(always)]
    unsafe fn configure(row_bytes: usize) -> Tiles {
        let config: *const TileConfig = &CONFIGS[row_bytes / 32];
        // SAFETY: the caller's promise; the operand is a valid configuration.
        unsafe { asm!("ldtilecfg [{}]", in(reg) config, options(nostack, readonly, preserves_flags)) };
        Tiles
    }
}

impl Drop for Tiles {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: `configure` has been allowed to use tiles.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}

/// Loads a tile from rows `$stride` bytes apart.
macro_rules! load {
    ($tile:literal, $from:expr, $stride:expr) => {
        asm!(
            concat!("tileloadd ", $tile, ", [{from} + {stride}*1]"),
            from = in(reg) $from, stride = in(reg) $stride,
            options(nostack, readonly, preserves_flags)
        )
    };
}

/// Stores a tile of full rows, one after another.
macro_rules! store {
    ($tile:literal, $to:expr) => {
        asm!(
            concat!("tilestored [{to} + {stride}*1], ", $tile),
            to = in(reg) $to, stride = in(reg) TILE_ROW_BYTES,
            options(nostack, preserves_flags)
        )
    };
}

/// An instruction that only touches tiles. (Not `pure`: it changes state that the compiler does not see.)
macro_rules! tiles {
    ($instruction:expr) => {
        asm!($instruction, options(nostack, nomem, preserves_flags))
    };
}

/// # Safety
/// As [`super::matmul`], whose checks were made; the processor has these features and AMX, granted to the process.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn matmul(task: &Task<'_>, scratch: &mut ScratchParts) {
    let rows = task.rows.1 - task.rows.0;
    let bf16_tiles = task.activations.shape().kind() == ActivationKind::Bf16;
    // SAFETY: the caller's promise.
    unsafe {
        match task.weight.dtype() {
            DType::BF16 if bf16_tiles => bf16_product(task, scratch),
            dtype if dtype.is_float() || rows <= FEW_ROWS => avx512::matmul(task, scratch),
            dtype => {
                with_format!(dtype, F => quantized::<F>(task, scratch), else unreachable!("{dtype}"))
            }
        }
    }
}

/// # Safety
/// As [`matmul`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn quantized<F: Format>(task: &Task<'_>, scratch: &mut ScratchParts) {
    // SAFETY: as the caller's.
    unsafe {
        let _tiles = Tiles::configure(F::SPEC.scale_group);
        integer::product::<F, Int8Tiles>(task, scratch);
    }
}

/// The integer half of the kernels.
struct Int8Tiles;

/// Results of two tile products.
#[repr(C, align(64))]
struct Results([[[i32; PANEL_ROWS]; TILE_ROWS]; 2]);

impl Integer for Int8Tiles {
    type Lanes = Zmm;

    const ROWS: usize = 256;

    #[inline(always)]
    unsafe fn unpack_codes<F: Format>(group: *const u8, out: &mut [u8; GROUP_CODES]) {
        // SAFETY: the caller's promise; a group has eight quads.
        unsafe {
            let zero = _mm512_set1_epi8(F::SPEC.zero() as i8);
            for (quad, out) in unpack_group::<F>(group).iter().zip(out.chunks_exact_mut(64)) {
                _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_sub_epi8(*quad, zero));
            }
        }
    }

    #[inline(always)]
    unsafe fn block<F: Format>(
        task: &Task<'_>,
        unpacked: &Unpacked,
        block: Block,
        sums: &mut [[f32; PANEL_ROWS]],
    ) {
        let spec = &F::SPEC;
        for (tile, sums) in sums.chunks_mut(TILE_ROWS).enumerate() {
            let at = Block { row: block.row + tile * TILE_ROWS, rows: sums.len(), ..block };
            // SAFETY: the caller's promise.
            unsafe {
                match (spec.scale_group == 16, spec.mins) {
                    (false, false) => tile_rows::<false, false>(task, unpacked, at, sums),
                    (false, true) => tile_rows::<false, true>(task, unpacked, at, sums),
                    (true, false) => tile_rows::<true, false>(task, unpacked, at, sums),
                    (true, true) => tile_rows::<true, true>(task, unpacked, at, sums),
                }
            }
        }
    }
}

/// Up to 16 rows against an unpacked chunk; `HALVES` if scales cover 16 elements.
///
/// # Safety
/// As [`Integer::block`]; tiles are configured for the scale group.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn tile_rows<const HALVES: bool, const MINS: bool>(
    task: &Task<'_>,
    unpacked: &Unpacked,
    at: Block,
    sums: &mut [[f32; PANEL_ROWS]],
) {
    let scale_group = if HALVES { 16 } else { GROUP };
    let scale_groups = at.groups * GROUP / scale_group;
    // Rows beyond the block's are computed and dropped: the buffer has slack for reading them.
    let codes: *const i8 = task.activations.codes(at.chunk, at.row);
    let weights: *const u8 = unpacked.codes.as_ptr().cast();
    let mut results = std::mem::MaybeUninit::<Results>::uninit();
    let results = results.as_mut_ptr();
    // SAFETY: tiles lie inside the chunk and the activations, or their slack; `results` is written before it is read.
    unsafe {
        // Sums stay in registers over the chunk: stores are what a tile's scaling would wait for.
        let mut totals = [_mm512_setzero_ps(); TILE_ROWS];
        for (total, sum) in totals.iter_mut().zip(sums.iter()) {
            *total = _mm512_loadu_ps(sum.as_ptr());
        }
        let to = (&raw mut (*results).0).cast::<[[i32; PANEL_ROWS]; TILE_ROWS]>();
        let mut index = 0;
        while index < scale_groups {
            let (a, b) = (codes.add(index * scale_group), weights.add(index * scale_group * PANEL_ROWS));
            tiles!("tilezero tmm0");
            load!("tmm6", b, TILE_ROW_BYTES);
            load!("tmm4", a, CHUNK);
            tiles!("tdpbssd tmm0, tmm4, tmm6");
            store!("tmm0", to);
            let pair = index + 1 < scale_groups;
            if pair {
                // The next product runs while this one's result is on its way to memory.
                let (a, b) = (a.add(scale_group), b.add(scale_group * PANEL_ROWS));
                tiles!("tilezero tmm1");
                load!("tmm7", b, TILE_ROW_BYTES);
                load!("tmm5", a, CHUNK);
                tiles!("tdpbssd tmm1, tmm5, tmm7");
                store!("tmm1", to.add(1));
            }
            add_scaled::<HALVES, MINS>(task, unpacked, at, index, to.cast(), &mut totals);
            if pair {
                add_scaled::<HALVES, MINS>(task, unpacked, at, index + 1, to.add(1).cast(), &mut totals);
            }
            index += 2;
        }
        for (total, sum) in totals.iter().zip(sums) {
            _mm512_storeu_ps(sum.as_mut_ptr(), *total);
        }
    }
}

/// Scales the products of scale group `index` and adds them to the sums.
///
/// # Safety
/// As [`Integer::block`]; `dots` holds 16 numbers for each of 16 rows.
#[inline(always)]
unsafe fn add_scaled<const HALVES: bool, const MINS: bool>(
    task: &Task<'_>,
    unpacked: &Unpacked,
    at: Block,
    index: usize,
    dots: *const i32,
    totals: &mut [__m512; TILE_ROWS],
) {
    let a = &task.activations;
    let parts = if HALVES { 2 } else { 1 };
    // SAFETY: the caller's promise. Scales of rows beyond the block's are read too, from the buffer or its slack.
    unsafe {
        let shifts = a.shifts(at.chunk, at.row).add(index / parts);
        let shifted_sums =
            if HALVES { a.shifted_half_sums(at.chunk, at.row) } else { a.shifted_sums(at.chunk, at.row) }
                .add(index);
        let scale = _mm512_load_ps(unpacked.scales[index].as_ptr());
        let addend = _mm512_load_ps(unpacked.addends[index].as_ptr());
        for (m, total) in totals.iter_mut().enumerate() {
            let dots = _mm512_loadu_si512(dots.add(m * PANEL_ROWS).cast());
            let shift = _mm512_set1_epi32(*shifts.add(m * CHUNK_GROUPS));
            let dots = _mm512_cvtepi32_ps(_mm512_sllv_epi32(dots, shift));
            *total = _mm512_fmadd_ps(dots, scale, *total);
            if MINS {
                let shifted_sum = _mm512_set1_ps(*shifted_sums.add(m * CHUNK_GROUPS * parts));
                *total = _mm512_fmadd_ps(addend, shifted_sum, *total);
            }
        }
    }
}

/// A product of BF16 weights with BF16 activations, by blocks of up to 32 rows and two panels.
///
/// # Safety
/// As [`matmul`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn bf16_product(task: &Task<'_>, scratch: &mut ScratchParts) {
    // SAFETY: as the caller's.
    unsafe {
        let _tiles = Tiles::configure(TILE_ROW_BYTES);
        for first in (task.rows.0..task.rows.1).step_by(ROW_BLOCK) {
            let end = task.rows.1.min(first + ROW_BLOCK);
            for panel in (task.panels.0..task.panels.1).step_by(2) {
                for row in (first..end).step_by(2 * TILE_ROWS) {
                    let rows = (end - row).min(2 * TILE_ROWS);
                    match (rows > TILE_ROWS, panel + 1 < task.panels.1) {
                        (false, false) => bf16_tiles::<false, false>(task, scratch, panel, row, rows),
                        (false, true) => bf16_tiles::<false, true>(task, scratch, panel, row, rows),
                        (true, false) => bf16_tiles::<true, false>(task, scratch, panel, row, rows),
                        (true, true) => bf16_tiles::<true, true>(task, scratch, panel, row, rows),
                    }
                }
            }
        }
    }
}

/// One or two tiles of rows against one or two panels.
///
/// # Safety
/// As [`matmul`]; tiles are configured for BF16.
#[inline(always)]
unsafe fn bf16_tiles<const TWO_TILES: bool, const TWO_PANELS: bool>(
    task: &Task<'_>,
    scratch: &mut ScratchParts,
    panel: usize,
    row: usize,
    rows: usize,
) {
    const STEP: usize = 32;
    let results = scratch.floats.as_mut_ptr();
    let cols = task.weight.cols();
    let mut weights = task.weight.panel(panel);
    let mut more_weights = if TWO_PANELS { task.weight.panel(panel + 1) } else { weights };
    // SAFETY: tiles lie inside the panels (padded to whole tiles) and the activations, or their slack.
    unsafe {
        tiles!("tilezero tmm0");
        tiles!("tilezero tmm1");
        tiles!("tilezero tmm2");
        tiles!("tilezero tmm3");
        for k in (0..cols).step_by(STEP) {
            let x = task.activations.bf16s(k / CHUNK, row).add(k % CHUNK);
            load!("tmm6", weights, TILE_ROW_BYTES);
            load!("tmm4", x, CHUNK * 2);
            tiles!("tdpbf16ps tmm0, tmm4, tmm6");
            if TWO_TILES {
                load!("tmm5", x.add(TILE_ROWS * CHUNK), CHUNK * 2);
                tiles!("tdpbf16ps tmm1, tmm5, tmm6");
            }
            if TWO_PANELS {
                load!("tmm7", more_weights, TILE_ROW_BYTES);
                tiles!("tdpbf16ps tmm2, tmm4, tmm7");
                if TWO_TILES {
                    tiles!("tdpbf16ps tmm3, tmm5, tmm7");
                }
            }
            weights = weights.add(STEP * PANEL_ROWS * 2);
            more_weights = more_weights.add(STEP * PANEL_ROWS * 2);
        }
        store!("tmm0", results);
        store!("tmm1", results.add(TILE_ROWS));
        for m in 0..rows {
            task.store(row + m, panel, Zmm::load(results.add(m).cast()));
        }
        if TWO_PANELS {
            store!("tmm2", results);
            store!("tmm3", results.add(TILE_ROWS));
            for m in 0..rows {
                task.store(row + m, panel + 1, Zmm::load(results.add(m).cast()));
            }
        }
    }
}

/// Four full products of tiles, `steps / 16` times; returns their operations.
macro_rules! peak {
    ($steps:expr, $row_bytes:expr, $width:expr, $product:literal) => {{
        let _tiles = Tiles::configure($row_bytes);
        for _ in 0..$steps / 16 {
            tiles!(concat!($product, " tmm0, tmm4, tmm6"));
            tiles!(concat!($product, " tmm1, tmm4, tmm6"));
            tiles!(concat!($product, " tmm2, tmm4, tmm6"));
            tiles!(concat!($product, " tmm3, tmm4, tmm6"));
        }
        $steps / 16 * 4 * (TILE_ROWS * PANEL_ROWS * ($row_bytes / $width) * 2) as u64
    }};
}

/// 8-bit operations of full tiles on registers; returns their number.
///
/// # Safety
/// The processor has AMX, granted to the process.
pub(super) unsafe fn int8_peak(steps: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { peak!(steps, TILE_ROW_BYTES, 1, "tdpbssd") }
}

/// BF16 operations of full tiles on registers; returns their number.
///
/// # Safety
/// The processor has AMX, granted to the process.
pub(super) unsafe fn bf16_peak(steps: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { peak!(steps, TILE_ROW_BYTES, 2, "tdpbf16ps") }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Random, bits, parity_with_scalar, product, random_rows, random_x};
    use super::super::{ActivationKind, PackedWeight};
    use super::emulator;
    use crate::isa::Isa;
    use crate::pool::Pool;
    use autarky_quant::{DType, dequantize};
    use half::bf16;

    #[test]
    fn the_peak_loops_run_and_count() {
        if emulator::tiles_can_run() {
            // SAFETY: native or emulated.
            unsafe {
                assert_eq!(super::int8_peak(32), 2 * 4 * 16 * 16 * 64 * 2);
                assert_eq!(super::bf16_peak(32), 2 * 4 * 16 * 16 * 32 * 2);
            }
        }
    }

    #[test]
    fn int8_tiles_give_the_bits_of_the_scalar_kernel() {
        if emulator::tiles_can_run() {
            parity_with_scalar(Isa::Amx, 20);
        }
    }

    /// A result of BF16 tiles, in the order of operations that Intel's manual gives for `tdpbf16ps`.
    fn bf16_dot(w: &[f32], x: &[f32]) -> f32 {
        let mut sum = 0.0;
        for (w, x) in w.chunks(32).zip(x.chunks(32)) {
            let mut chains = [0.0f32; 2];
            for (k, (w, x)) in w.iter().zip(x).enumerate() {
                chains[k % 2] = w.mul_add(bf16::from_f32(*x).to_f32(), chains[k % 2]);
            }
            sum += chains[0] + chains[1];
        }
        sum
    }

    #[test]
    fn bf16_tiles_round_as_the_manual_says_whatever_the_number_of_rows() {
        if !emulator::tiles_can_run() {
            return;
        }
        let pool = Pool::new(1);
        let mut random = Random(21);
        for (n, k) in [(16, 32), (40, 512), (37, 301), (1, 7), (32, 256)] {
            let bytes = random_rows(DType::BF16, n, k, &mut random);
            let weight = PackedWeight::pack(DType::BF16, n, k, &[&bytes], &pool).unwrap();
            let mut w = vec![0.0; n * k];
            dequantize(DType::BF16, &bytes, &mut w).unwrap();
            for m in [1, 16, 17, 43] {
                let x = random_x(m, k, &mut random);
                let found = product(Isa::Amx, &weight, &x, ActivationKind::Bf16);
                let expected: Vec<f32> =
                    x.chunks_exact(k).flat_map(|x| w.chunks_exact(k).map(|w| bf16_dot(w, x))).collect();
                assert!(bits(&found) == bits(&expected), "{m} rows by {n} × {k}");
            }
        }
    }
}
