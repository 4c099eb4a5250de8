//! Products with quantized weights through a scratch: what the kernels of every instruction set share.

use super::format::{CHUNK, Format, GROUP_CODES, PANEL_ROWS};
use super::lanes::{Lanes, groups_of, unpack_scales};
use super::unpack::Unpacked;
use super::{PANEL_BLOCK, ROW_BLOCK, ScratchParts, Task, prefetch};

/// Where a block of rows is in a product.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    /// The chunk.
    pub(crate) chunk: usize,
    /// Its groups.
    pub(crate) groups: usize,
    /// First row of activations.
    pub(crate) row: usize,
    /// Rows.
    pub(crate) rows: usize,
}

/// The integer half of a kernel.
///
/// # Safety
/// Every function needs a processor that has the implementer's instruction set.
pub(crate) trait Integer {
    /// Its lanes, for scales.
    type Lanes: Lanes;

    /// Rows that an unpacked chunk is run over, at most [`ROW_BLOCK`]: few enough for their codes to stay in the
    /// first-level cache, so many that unpacking costs little beside them.
    const ROWS: usize;

    /// Unpacks the codes of a packed group into whatever form [`block`](Integer::block) takes.
    ///
    /// # Safety
    /// As [`Integer`]; `group` points to a packed group of `F`.
    unsafe fn unpack_codes<F: Format>(group: *const u8, out: &mut [u8; GROUP_CODES]);

    /// Adds the products of a block of rows with an unpacked chunk to their `sums`.
    ///
    /// # Safety
    /// As [`Integer`]; the block lies inside the task, and `sums` has its rows.
    unsafe fn block<F: Format>(
        task: &Task<'_>,
        unpacked: &Unpacked,
        block: Block,
        sums: &mut [[f32; PANEL_ROWS]],
    );
}

/// A product, each chunk of a panel unpacked once for a block of about equally many rows, [`Integer::ROWS`] or less, and
/// up to [`PANEL_BLOCK`] panels one after another: a chunk of the rows' codes is read once for all of them.
///
/// # Safety
/// As [`Integer`], and as [`super::matmul`], whose checks were made.
#[inline(always)]
pub(crate) unsafe fn product<F: Format, I: Integer>(task: &Task<'_>, scratch: &mut ScratchParts) {
    const { assert!(I::ROWS <= ROW_BLOCK) };
    let ScratchParts { unpacked, sums, .. } = scratch;
    let (first, end) = task.rows;
    let rows = (end - first).div_ceil((end - first).div_ceil(I::ROWS)).next_multiple_of(8).min(I::ROWS);
    for row in (first..end).step_by(rows) {
        let rows = rows.min(end - row);
        for panel in (task.panels.0..task.panels.1).step_by(PANEL_BLOCK) {
            let panels = panel..task.panels.1.min(panel + PANEL_BLOCK);
            sums[..panels.len() * rows].fill([0.0; PANEL_ROWS]);
            let mut at = 0;
            for chunk in 0..task.weight.cols().div_ceil(CHUNK) {
                let groups = groups_of(task.weight.cols(), chunk);
                for (panel, sums) in panels.clone().zip(sums.chunks_exact_mut(rows)) {
                    // SAFETY: a panel is its chunks, one after another; the block is inside the task.
                    unsafe {
                        unpack_chunk::<F, I>(task.weight.panel(panel).add(at), groups, unpacked);
                        I::block::<F>(task, unpacked, Block { chunk, groups, row, rows }, sums);
                    }
                }
                at += F::SPEC.chunk_bytes(groups);
            }
            for (panel, sums) in panels.zip(sums.chunks_exact(rows)) {
                for (row, sums) in (row..).zip(sums) {
                    // SAFETY: the row and the panel are the task's.
                    unsafe { task.store_scaled(row, panel, I::Lanes::load(sums.as_ptr())) };
                }
            }
        }
    }
}

/// # Safety
/// As [`Integer`]; `at` points to a packed chunk of `groups` groups.
#[inline(always)]
unsafe fn unpack_chunk<F: Format, I: Integer>(at: *const u8, groups: usize, unpacked: &mut Unpacked) {
    let spec = &F::SPEC;
    // SAFETY: the caller's promise.
    unsafe {
        let codes = at.add(spec.codes_at(groups));
        for (group, out) in unpacked.codes[..groups].iter_mut().enumerate() {
            I::unpack_codes::<F>(codes.add(group * spec.group_bytes()), out);
        }
        unpack_scales::<F, I::Lanes>(at, groups, unpacked);
    }
    // Unpacking waits for memory and multiplying does not: the next chunk comes meanwhile.
    let size = spec.chunk_bytes(groups);
    for line in (0..size).step_by(64) {
        prefetch(at.wrapping_add(size + line));
    }
}
