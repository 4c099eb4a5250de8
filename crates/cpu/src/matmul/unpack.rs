//! Unpacking in portable code: a group's codes and a chunk's scales.
//!
//! The functions marked `inline(always)` are compiled again inside each instruction set's kernels, where the
//! compiler turns their loops into that set's vectors.

use super::format::{CHUNK_GROUPS, Format, GROUP, GROUP_CODES, PANEL_ROWS, Scales, Spec};
use half::f16;

/// A chunk of a panel, unpacked: small enough to stay in the first-level cache.
#[repr(C, align(64))]
pub(crate) struct Unpacked {
    /// Codes of each group, quad after quad: unsigned, or levels as `i8`, as the kernel asks.
    pub(crate) codes: [[u8; GROUP_CODES]; CHUNK_GROUPS],
    /// Scale of each scale group and row.
    pub(crate) scales: [[f32; PANEL_ROWS]; 2 * CHUNK_GROUPS],
    /// What is added for each scale group and row, times the sum of the activations: the negated minimum.
    pub(crate) addends: [[f32; PANEL_ROWS]; 2 * CHUNK_GROUPS],
}

/// What the bytes of [`Unpacked::codes`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodeForm {
    /// Unsigned codes, [`Spec::zero`] above the level.
    Unsigned,
    /// The levels, as `i8`.
    Signed,
}

#[inline(always)]
pub(crate) fn f16_at(bytes: &[u8], index: usize) -> f32 {
    f16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]]).to_f32_const()
}

/// Half of the E8M0 number `e`: 2^(e−128), subnormal for 0 and 1; 255 reads as 2^127 as in ggml.
#[inline(always)]
pub(crate) fn exponent_scale(e: u8) -> f32 {
    f32::from_bits(match e {
        0 => 0x0020_0000,
        1 => 0x0040_0000,
        _ => (u32::from(e) - 1) << 23,
    })
}

/// The scale and the minimum of scale group `index` and row `lane` of a chunk: `weight = scale · level − min`.
#[inline(always)]
pub(crate) fn scale_at(spec: &Spec, scales: &[u8], index: usize, lane: usize) -> (f32, f32) {
    let each = if spec.mins { 2 } else { 1 };
    let half = |slot: usize| f16_at(scales, slot * PANEL_ROWS + lane);
    match spec.scales {
        Scales::Exponent => (exponent_scale(scales[index * PANEL_ROWS + lane]), 0.0),
        Scales::Plain => (half(index * each), if spec.mins { half(index * each + 1) } else { 0.0 }),
        Scales::Super | Scales::SuperNibbles => {
            let small = &scales[each * PANEL_ROWS * 2..];
            let (scale, min) = if spec.scales == Scales::SuperNibbles {
                let byte = small[index * PANEL_ROWS + lane];
                ((byte & 15) as i8, byte >> 4)
            } else {
                let min = if spec.mins { small[(2 * index + 1) * PANEL_ROWS + lane] } else { 0 };
                (small[index * each * PANEL_ROWS + lane] as i8, min)
            };
            let min = if spec.mins { half(1) * f32::from(min) } else { 0.0 };
            (half(0) * f32::from(scale), min)
        }
    }
}

/// The unsigned code of element `k` (0..32) and row `lane` of a packed group.
#[inline(always)]
pub(crate) fn code_at(spec: &Spec, group: &[u8], k: usize, lane: usize) -> u8 {
    let (quad, i) = (k / 4, lane * 4 + k % 4);
    let nibble = || group[quad / 2 * 64 + i] >> (4 * (quad % 2)) & 15;
    let pair = |at: usize| group[at + quad / 4 * 64 + i] >> (2 * (quad % 4)) & 3;
    let bit = |at: usize| group[at + i] >> quad & 1;
    let stored = match spec.bits {
        8 => group[quad * 64 + i],
        6 => nibble() | pair(256) << 4,
        5 => nibble() | bit(256) << 4,
        4 => nibble(),
        3 => pair(0) | bit(128) << 2,
        _ => pair(0),
    };
    match spec.table {
        Some(table) => table[usize::from(stored & 15)],
        None => stored,
    }
}

/// Unpacks the scales of `groups` groups.
#[inline(always)]
pub(crate) fn unpack_scales<F: Format>(scales: &[u8], groups: usize, out: &mut Unpacked) {
    let spec = &F::SPEC;
    for index in 0..groups * (GROUP / spec.scale_group) {
        for lane in 0..PANEL_ROWS {
            let (scale, min) = scale_at(spec, scales, index, lane);
            out.scales[index][lane] = scale;
            if spec.mins {
                out.addends[index][lane] = -min;
            }
        }
    }
}

/// Unpacks the codes of one group.
#[inline(always)]
pub(crate) fn unpack_codes<F: Format>(group: &[u8], form: CodeForm, out: &mut [u8; GROUP_CODES]) {
    let spec = &F::SPEC;
    let (planes, _) = group.as_chunks::<64>();
    let (quads, _) = out.as_chunks_mut::<64>();
    for (q, quad) in quads.iter_mut().enumerate() {
        for i in 0..64 {
            let nibble = || planes[q / 2][i] >> (4 * (q % 2)) & 15;
            let stored = match spec.bits {
                8 => planes[q][i],
                6 => nibble() | (planes[4 + q / 4][i] >> (2 * (q % 4)) & 3) << 4,
                5 => nibble() | (planes[4][i] >> q & 1) << 4,
                4 => nibble(),
                3 => (planes[q / 4][i] >> (2 * (q % 4)) & 3) | (planes[2][i] >> q & 1) << 2,
                _ => planes[q / 4][i] >> (2 * (q % 4)) & 3,
            };
            quad[i] = match spec.table {
                Some(table) => table[usize::from(stored)],
                None => stored,
            };
        }
        if form == CodeForm::Signed {
            for code in quad {
                *code = code.wrapping_sub(spec.zero());
            }
        }
    }
}
