//! Products with quantized weights through a scratch: what the kernels of every instruction set share.

use super::format::{CHUNK, Format, GROUP_CODES, PANEL_ROWS};
use super::lanes::{Lanes, groups_of, unpack_scales};
use super::unpack::Unpacked;
use super::{ROW_BLOCK, ScratchParts, Task, prefetch};

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

/// A product, panel by panel, each chunk unpacked once for up to [`ROW_BLOCK`] rows.
///
/// # Safety
/// As [`Integer`], and as [`super::matmul`], whose checks were made.
#[inline(always)]
pub(crate) unsafe fn product<F: Format, I: Integer>(task: &Task<'_>, scratch: &mut ScratchParts) {
    let spec = &F::SPEC;
    let cols = task.weight.cols();
    let ScratchParts { unpacked, sums, .. } = scratch;
    for first in (task.rows.0..task.rows.1).step_by(ROW_BLOCK) {
        let rows = ROW_BLOCK.min(task.rows.1 - first);
        for panel in task.panels.0..task.panels.1 {
            sums[..rows].fill([0.0; PANEL_ROWS]);
            let mut at = task.weight.panel(panel);
            // SAFETY: a panel is its chunks, one after another; the rest is the caller's promise.
            unsafe {
                for chunk in 0..cols.div_ceil(CHUNK) {
                    let groups = groups_of(cols, chunk);
                    for (group, out) in unpacked.codes[..groups].iter_mut().enumerate() {
                        I::unpack_codes::<F>(at.add(group * spec.group_bytes()), out);
                    }
                    unpack_scales::<F, I::Lanes>(at, groups, unpacked);
                    at = at.add(spec.chunk_bytes(groups));
                    // Unpacking waits for memory and multiplying does not: the next chunk comes meanwhile.
                    for line in (0..spec.chunk_bytes(groups)).step_by(64) {
                        prefetch(at.wrapping_add(line));
                    }
                    I::block::<F>(task, unpacked, Block { chunk, groups, row: first, rows }, sums);
                }
                for (row, sums) in sums[..rows].iter().enumerate() {
                    task.store(first + row, panel, sums.as_ptr());
                }
            }
        }
    }
}
