//! Portable kernels: what the others are tested against, and what runs where there is no other.

use super::activations::ActivationKind;
use super::format::{CHUNK, Format, GROUP, PANEL_ROWS, float_len, with_format};
use super::unpack::{CodeForm, unpack_codes, unpack_scales};
use super::{ROW_BLOCK, ScratchParts, Task};
use autarky_quant::DType;
use half::{bf16, f16};

/// # Safety
/// As [`super::matmul`], whose checks were made.
pub(super) unsafe fn matmul(task: &Task<'_>, scratch: &mut ScratchParts) {
    debug_assert!(task.activations.shape().kind() != ActivationKind::Bf16);
    // SAFETY: the caller's promise.
    unsafe {
        with_format!(task.weight.dtype(), F => quantized::<F>(task, scratch), else float(task, scratch))
    }
}

/// # Safety
/// As [`super::matmul`].
unsafe fn quantized<F: Format>(task: &Task<'_>, scratch: &mut ScratchParts) {
    let spec = &F::SPEC;
    let ScratchParts { unpacked, sums, .. } = scratch;
    for first in (task.rows.0..task.rows.1).step_by(ROW_BLOCK) {
        let rows = ROW_BLOCK.min(task.rows.1 - first);
        for panel in task.panels.0..task.panels.1 {
            sums[..rows].fill([0.0; PANEL_ROWS]);
            let mut at = task.weight.panel(panel);
            for chunk in 0..task.weight.cols().div_ceil(CHUNK) {
                let groups = (task.weight.cols() - chunk * CHUNK).min(CHUNK) / GROUP;
                let size = spec.chunk_bytes(groups);
                // SAFETY: a panel is its chunks, one after another.
                let packed = unsafe { std::slice::from_raw_parts(at, size) };
                at = at.wrapping_add(size);
                let (scales, codes) = packed.split_at(spec.codes_at(groups));
                for (group, out) in codes.chunks_exact(spec.group_bytes()).zip(&mut unpacked.codes) {
                    unpack_codes::<F>(group, CodeForm::Unsigned, out);
                }
                unpack_scales::<F>(scales, groups, unpacked);
                for (row, sums) in sums[..rows].iter_mut().enumerate() {
                    let a = task.activations;
                    // SAFETY: the row is inside the view.
                    unsafe {
                        let row = first + row;
                        let codes = &*a.codes(chunk, row).cast::<[i8; CHUNK]>();
                        let halves = spec.scale_group < GROUP;
                        for s in 0..groups * (GROUP / spec.scale_group) {
                            let (group, start) = (s * spec.scale_group / GROUP, s * spec.scale_group % GROUP);
                            let shift = *a.shifts(chunk, row).add(group);
                            let (negated_sum, shifted_sum) = if halves {
                                (
                                    *a.negated_half_sums(chunk, row).add(s),
                                    *a.shifted_half_sums(chunk, row).add(s),
                                )
                            } else {
                                (*a.negated_sums(chunk, row).add(s), *a.shifted_sums(chunk, row).add(s))
                            };
                            let mut dots = [negated_sum * i32::from(spec.zero()); PANEL_ROWS];
                            for k in start..start + spec.scale_group {
                                let code = i32::from(codes[group * GROUP + k]);
                                for (lane, dot) in dots.iter_mut().enumerate() {
                                    let at = k / 4 * 64 + lane * 4 + k % 4;
                                    *dot += i32::from(unpacked.codes[group][at]) * code;
                                }
                            }
                            for lane in 0..PANEL_ROWS {
                                let dot = (dots[lane] << shift) as f32;
                                sums[lane] = dot.mul_add(unpacked.scales[s][lane], sums[lane]);
                                if spec.mins {
                                    sums[lane] = unpacked.addends[s][lane].mul_add(shifted_sum, sums[lane]);
                                }
                            }
                        }
                    }
                }
            }
            for (row, sums) in sums[..rows].iter().enumerate() {
                // SAFETY: the row and the panel are the task's.
                unsafe { store(task, first + row, panel, sums, *task.activations.scale(first + row)) };
            }
        }
    }
}

/// # Safety
/// As [`super::matmul`].
unsafe fn float(task: &Task<'_>, scratch: &mut ScratchParts) {
    let dtype = task.weight.dtype();
    let ScratchParts { floats, sums, .. } = scratch;
    for first in (task.rows.0..task.rows.1).step_by(ROW_BLOCK) {
        let rows = ROW_BLOCK.min(task.rows.1 - first);
        for panel in task.panels.0..task.panels.1 {
            sums[..rows].fill([0.0; PANEL_ROWS]);
            let mut at = task.weight.panel(panel);
            for chunk in 0..task.weight.cols().div_ceil(CHUNK) {
                let len = (task.weight.cols() - chunk * CHUNK).min(CHUNK);
                // SAFETY: a panel is its chunks, one after another.
                unsafe { widen(dtype, at, &mut floats[..len]) };
                at = at.wrapping_add(float_len(dtype, len) * PANEL_ROWS * dtype.block_bytes());
                for (row, sums) in sums[..rows].iter_mut().enumerate() {
                    // SAFETY: the row is inside the view.
                    let x = unsafe { &*task.activations.floats(chunk, first + row).cast::<[f32; CHUNK]>() };
                    let mut part = [0.0f32; PANEL_ROWS];
                    for (w, x) in floats[..len].iter().zip(x) {
                        for (part, w) in part.iter_mut().zip(w) {
                            *part = w.mul_add(*x, *part);
                        }
                    }
                    for (sum, part) in sums.iter_mut().zip(part) {
                        *sum += part;
                    }
                }
            }
            for (row, sums) in sums[..rows].iter().enumerate() {
                // SAFETY: the row and the panel are the task's.
                unsafe { store(task, first + row, panel, sums, 1.0) };
            }
        }
    }
}

/// Writes sums, times `scale`, to a row of the result.
///
/// # Safety
/// As [`super::matmul`]; `row` and `panel` are among the task's.
unsafe fn store(task: &Task<'_>, row: usize, panel: usize, sums: &[f32; PANEL_ROWS], scale: f32) {
    let (to, columns) = task.place(row, panel);
    for (i, sum) in sums.iter().take(columns).enumerate() {
        // SAFETY: these elements of the result are this call's alone.
        unsafe { *to.add(i) = sum * scale };
    }
}

/// Widens a packed chunk of floats: `out[k][lane]`.
///
/// # Safety
/// `chunk` points to a packed chunk of `out.len()` elements of `dtype`.
#[inline(always)]
pub(super) unsafe fn widen(dtype: DType, chunk: *const u8, out: &mut [[f32; PANEL_ROWS]]) {
    for (k, out) in out.iter_mut().enumerate() {
        for (lane, out) in out.iter_mut().enumerate() {
            // SAFETY: the element is inside the chunk; chunks are aligned to their elements.
            *out = unsafe {
                match dtype {
                    DType::F32 => *chunk.cast::<f32>().add(k * PANEL_ROWS + lane),
                    DType::F16 => {
                        f16::from_bits(*chunk.cast::<u16>().add(k * PANEL_ROWS + lane)).to_f32_const()
                    }
                    _ => {
                        let at = (k / 2 * PANEL_ROWS + lane) * 2 + k % 2;
                        bf16::from_bits(*chunk.cast::<u16>().add(at)).to_f32_const()
                    }
                }
            };
        }
    }
}
