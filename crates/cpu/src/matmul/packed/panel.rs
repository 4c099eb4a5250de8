//! Writes panels: sixteen rows of a file's blocks in the order of the module above.
//!
//! It is done once for every byte of a model, so it goes a word (four codes) at a time, and each chunk is finished
//! while it is in the first-level cache.

use super::super::activations::to_bf16;
use super::super::format::{CHUNK, Format, GROUP, PANEL_ROWS, Scales, Spec, chunk_bytes, with_format};
use super::PackError;
use autarky_quant::{Codes, DType, codes};
use half::f16;
use std::mem::MaybeUninit;

/// Rows in a file's layout, from several parts.
pub(super) struct Source<'a> {
    parts: &'a [&'a [u8]],
    rows: usize,
    row_bytes: usize,
}

impl<'a> Source<'a> {
    pub(super) fn new(
        dtype: DType,
        rows: usize,
        cols: usize,
        parts: &'a [&'a [u8]],
    ) -> Result<Source<'a>, PackError> {
        if rows == 0 || cols == 0 {
            return Err(PackError::Shape { rows, cols, dtype });
        }
        if !cols.is_multiple_of(dtype.block_len()) {
            return Err(PackError::PartialBlock { dtype, cols });
        }
        let row_bytes = dtype.bytes(cols).ok_or(PackError::Shape { rows, cols, dtype })?;
        let mut found = 0;
        for (part, bytes) in parts.iter().enumerate() {
            if !bytes.len().is_multiple_of(row_bytes) {
                return Err(PackError::PartialRow { part, bytes: bytes.len(), row_bytes, cols, dtype });
            }
            found += bytes.len() / row_bytes;
        }
        if found != rows {
            return Err(PackError::Rows { rows, found });
        }
        Ok(Source { parts, rows, row_bytes })
    }

    /// The bytes of a row, or `None` beyond the last.
    fn row(&self, row: usize) -> Option<&'a [u8]> {
        if row >= self.rows {
            return None;
        }
        let mut offset = row * self.row_bytes;
        for part in self.parts {
            if offset < part.len() {
                return Some(&part[offset..offset + self.row_bytes]);
            }
            offset -= part.len();
        }
        None
    }
}

/// The same lane of each row of a panel; none beyond the last row of the matrix.
type Rows<'a> = [Option<&'a [u8]>; PANEL_ROWS];

/// Packs the 16 rows from `16 · panel` on into `out`, and writes all bytes of it.
pub(super) fn pack_panel(
    dtype: DType,
    cols: usize,
    source: &Source<'_>,
    panel: usize,
    out: &mut [MaybeUninit<u8>],
) {
    let rows: Rows<'_> = std::array::from_fn(|lane| source.row(panel * PANEL_ROWS + lane));
    for (index, chunk) in out.chunks_mut(chunk_bytes(dtype, CHUNK)).enumerate() {
        // Absent rows and padding stay zero.
        chunk.fill(MaybeUninit::new(0));
        // SAFETY: all of it was just written.
        let chunk = unsafe { chunk.assume_init_mut() };
        let first = index * CHUNK;
        let len = CHUNK.min(cols - first);
        with_format!(dtype, F => pack_chunk::<F>(&rows, first, len, chunk), else {
            pack_floats(dtype, &rows, first, len, chunk);
        });
    }
}

/// Packs `len` elements from `first` on of 16 rows of floats into a zero chunk.
fn pack_floats(dtype: DType, rows: &Rows<'_>, first: usize, len: usize, chunk: &mut [u8]) {
    let size = dtype.block_bytes();
    for (lane, row) in rows.iter().enumerate() {
        let Some(row) = row else { continue };
        let elements = &row[first * size..(first + len) * size];
        match dtype {
            DType::F32 => pack_lane::<4>(elements, lane, chunk),
            DType::F16 => pack_lane::<2>(elements, lane, chunk),
            _ => {
                // Pairs of BF16 are words.
                pack_lane::<4>(elements, lane, chunk);
                if let [element @ .., _, _] = elements.as_chunks::<4>().1 {
                    debug_assert!(element.is_empty(), "an element has two bytes");
                    let at = float_place(true, len - 1, lane) * 2;
                    chunk[at..at + 2].copy_from_slice(&elements[2 * (len - 1)..]);
                }
            }
        }
    }
}

/// A matrix of floats: element `[row][col]` is number `row · by_row + col · by_col`.
#[derive(Clone, Copy)]
pub(in super::super) struct Numbers<'a> {
    pub(in super::super) numbers: &'a [f32],
    pub(in super::super) by_row: usize,
    pub(in super::super) by_col: usize,
}

/// Packs the 16 rows from `16 · panel` on of a matrix of floats into `out`, as F32 or BF16, and writes all bytes of it.
pub(super) fn pack_numbers(
    dtype: DType,
    (rows, cols): (usize, usize),
    source: Numbers<'_>,
    panel: usize,
    out: &mut [MaybeUninit<u8>],
) {
    out.fill(MaybeUninit::new(0));
    // SAFETY: all of it was just written.
    let out = unsafe { out.assume_init_mut() };
    let first = panel * PANEL_ROWS;
    let lanes = PANEL_ROWS.min(rows - first);
    // A chunk is a whole number of elements times the panel's rows, so places count on from chunk to chunk.
    let mut block = [[0.0; PANEL_ROWS]; PANEL_ROWS];
    for start in (0..cols).step_by(PANEL_ROWS) {
        let count = PANEL_ROWS.min(cols - start);
        let from = first * source.by_row + start * source.by_col;
        if source.by_row == 1 {
            for (col, block) in block.iter_mut().enumerate().take(count) {
                block[..lanes].copy_from_slice(&source.numbers[from + col * source.by_col..][..lanes]);
            }
        } else {
            for lane in 0..lanes {
                let row = source.numbers[from + lane * source.by_row..].iter().step_by(source.by_col);
                block.iter_mut().take(count).zip(row).for_each(|(block, x)| block[lane] = *x);
            }
        }
        block[count..].fill([0.0; PANEL_ROWS]);
        let at = start * PANEL_ROWS;
        if dtype == DType::BF16 {
            let out = out[2 * at..].chunks_exact_mut(4 * PANEL_ROWS);
            for (out, pair) in out.zip(block.as_chunks::<2>().0).take(count.div_ceil(2)) {
                for (out, (a, b)) in out.as_chunks_mut::<4>().0.iter_mut().zip(pair[0].iter().zip(&pair[1])) {
                    *out = (u32::from(to_bf16(*b)) << 16 | u32::from(to_bf16(*a))).to_le_bytes();
                }
            }
        } else {
            let out = out[4 * at..].as_chunks_mut::<4>().0;
            out.iter_mut()
                .zip(block.as_flattened())
                .take(count * PANEL_ROWS)
                .for_each(|(out, x)| *out = x.to_le_bytes());
        }
    }
}

/// Stores words of `SIZE` bytes as row `lane` of a chunk.
fn pack_lane<const SIZE: usize>(elements: &[u8], lane: usize, chunk: &mut [u8]) {
    let (elements, _) = elements.as_chunks::<SIZE>();
    let (chunk, _) = chunk.as_chunks_mut::<SIZE>();
    for (element, places) in elements.iter().zip(chunk.chunks_exact_mut(PANEL_ROWS)) {
        places[lane] = *element;
    }
}

/// Where element `k` of a row is in a chunk of floats.
#[inline(always)]
pub(super) fn float_place(in_pairs: bool, k: usize, lane: usize) -> usize {
    if in_pairs { (k / 2 * PANEL_ROWS + lane) * 2 + k % 2 } else { k * PANEL_ROWS + lane }
}

/// Packs `len` elements from `first` on of 16 rows of blocks into a zero chunk.
fn pack_chunk<F: Format>(rows: &Rows<'_>, first: usize, len: usize, chunk: &mut [u8]) {
    let spec = const { F::SPEC };
    let group_bytes = const { F::SPEC.group_bytes() };
    let (block_len, block_bytes) = const { (F::DTYPE.block_len(), F::DTYPE.block_bytes()) };
    let (scales, planes) = chunk.split_at_mut(spec.codes_at(len / GROUP));
    let mut unpacked = Codes::default();
    for (lane, row) in rows.iter().enumerate() {
        let Some(row) = row else { continue };
        let blocks = row[first / block_len * block_bytes..].chunks_exact(block_bytes);
        let places = planes.chunks_exact_mut(block_len / GROUP * group_bytes);
        for (index, (block, planes)) in blocks.zip(places).enumerate() {
            codes(F::DTYPE, block, &mut unpacked).expect("a whole block of a quantized type");
            let groups = unpacked.codes[..block_len].as_chunks::<GROUP>().0;
            for (codes, out) in groups.iter().zip(planes.chunks_exact_mut(group_bytes)) {
                pack_group(spec.bits, codes, lane, out);
            }
            pack_scales(&spec, block, &unpacked, index * block_len / GROUP, lane, scales);
        }
    }
}

/// Row `lane` of a group, in the planes of the module's table: bits of codes are moved a quad, that is a word, at a
/// time. Words are little-endian whatever the machine, so that an element's place does not depend on it.
#[inline(always)]
fn pack_group(bits: usize, codes: &[u8; GROUP], lane: usize, out: &mut [u8]) {
    let quads: [u32; GROUP / 4] = {
        let (words, _) = codes.as_chunks::<4>();
        std::array::from_fn(|q| u32::from_le_bytes(words[q]))
    };
    /// The same byte four times.
    const fn each(byte: u8) -> u32 {
        byte as u32 * 0x0101_0101
    }
    // Bits `shift ..` of `count` quads from `first` on, `width` of each, the first quad's lowest.
    let fold = |first: usize, count: usize, shift: u32, width: u32| {
        let mask = each(((1u32 << width) - 1) as u8);
        (0..count).fold(0, |word, i| word | ((quads[first + i] >> shift) & mask) << (i as u32 * width))
    };
    let (out, _) = out.as_chunks_mut::<4>();
    let mut put = |vector: usize, word: u32| out[vector * PANEL_ROWS + lane] = word.to_le_bytes();
    match bits {
        8 => (0..8).for_each(|j| put(j, quads[j] ^ each(0x80))),
        4..=6 => {
            (0..4).for_each(|j| put(j, fold(2 * j, 2, 0, 4)));
            match bits {
                5 => put(4, fold(0, 8, 4, 1)),
                6 => (0..2).for_each(|j| put(4 + j, fold(4 * j, 4, 4, 2))),
                _ => {}
            }
        }
        2 | 3 => {
            (0..2).for_each(|j| put(j, fold(4 * j, 4, 0, 2)));
            if bits == 3 {
                put(2, fold(0, 8, 2, 1));
            }
        }
        _ => unreachable!("codes of {bits} bits"),
    }
}

/// Stores the scales of one block: of group `group` for the types with blocks of 32, of the whole chunk for the others.
#[inline(always)]
fn pack_scales(spec: &Spec, block: &[u8], unpacked: &Codes, group: usize, lane: usize, out: &mut [u8]) {
    let mut put_half = |slot: usize, bytes: [u8; 2]| {
        let at = (slot * PANEL_ROWS + lane) * 2;
        out[at..at + 2].copy_from_slice(&bytes);
    };
    let half = |value: f32| f16::from_f32(value).to_le_bytes();
    let each = if spec.mins { 2 } else { 1 };
    match spec.scales {
        Scales::Exponent => out[group * PANEL_ROWS + lane] = block[0],
        Scales::Plain => {
            // Blocks of 32 begin with `d`, and with `m` = −dmin if they have minima: no need to go through floats.
            put_half(group * each, [block[0], block[1]]);
            if spec.mins {
                put_half(group * each + 1, [block[2], block[3] ^ 0x80]);
            }
        }
        Scales::Super | Scales::SuperNibbles => {
            put_half(0, half(unpacked.d));
            if spec.mins {
                put_half(1, half(unpacked.dmin));
            }
            let out = &mut out[each * PANEL_ROWS * 2..];
            let both = unpacked.scales.iter().zip(&unpacked.mins);
            for (index, (scale, min)) in both.take(CHUNK / spec.scale_group).enumerate() {
                if spec.scales == Scales::SuperNibbles {
                    out[index * PANEL_ROWS + lane] = *scale as u8 | min << 4;
                } else {
                    out[index * each * PANEL_ROWS + lane] = *scale as u8;
                    if spec.mins {
                        out[(index * each + 1) * PANEL_ROWS + lane] = *min;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::format::GROUP_CODES;
    use super::*;

    /// The table of the module above, byte by byte: `codes` are the quads of a group one after another.
    fn planes(bits: usize, codes: &[u8; GROUP_CODES], out: &mut [u8]) {
        let quad = |q: usize, i: usize| codes[q * 64 + i];
        for (j, vector) in out.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            for (i, byte) in vector.iter_mut().enumerate() {
                *byte = match (bits, j) {
                    (8, _) => quad(j, i) ^ 0x80,
                    (4..=6, 0..4) => quad(2 * j, i) & 15 | quad(2 * j + 1, i) << 4,
                    (6, _) => (0..4).fold(0, |byte, f| byte | quad(4 * (j - 4) + f, i) >> 4 << (2 * f)),
                    (5, _) => (0..8).fold(0, |byte, q| byte | quad(q, i) >> 4 << q),
                    (2 | 3, 0..2) => (0..4).fold(0, |byte, f| byte | (quad(4 * j + f, i) & 3) << (2 * f)),
                    _ => (0..8).fold(0, |byte, q| byte | quad(q, i) >> 2 << q),
                };
            }
        }
    }

    #[test]
    fn groups_are_packed_as_the_table_says() {
        for bits in [2, 3, 4, 5, 6, 8] {
            let mut quads = [0; GROUP_CODES];
            let mut found = vec![0; GROUP_CODES * bits / 8];
            for lane in 0..PANEL_ROWS {
                let codes: [u8; GROUP] =
                    std::array::from_fn(|k| (k * 37 + lane * 101 + 11) as u8 & ((1u32 << bits) - 1) as u8);
                for (quad, codes) in codes.chunks_exact(4).enumerate() {
                    quads[quad * 64 + lane * 4..][..4].copy_from_slice(codes);
                }
                pack_group(bits, &codes, lane, &mut found);
            }
            let mut expected = vec![0; found.len()];
            planes(bits, &quads, &mut expected);
            assert_eq!(found, expected, "{bits} bits");
        }
    }

    #[test]
    fn absent_rows_and_padding_are_zero() {
        for dtype in DType::ALL {
            let (cols, bytes) = (CHUNK, dtype.bytes(CHUNK).unwrap());
            let row = vec![0xff; bytes];
            let parts = [&row[..]];
            let source = Source::new(dtype, 1, cols, &parts).unwrap();
            let mut out = vec![MaybeUninit::new(0xa5); chunk_bytes(dtype, cols)];
            pack_panel(dtype, cols, &source, 0, &mut out);
            // SAFETY: initialised above.
            let zero = out.iter().filter(|byte| unsafe { byte.assume_init() } == 0).count();
            let used = out.len() - zero;
            assert!(used <= out.len() / PANEL_ROWS + PANEL_ROWS, "{dtype}: {used} bytes of {}", out.len());
        }
    }
}
