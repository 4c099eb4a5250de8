//! Rotary position embedding: a table of the step's angles, and the turning of heads by it.

use autarky_graph::{Pairing, Rope};

use super::lanes::{LANES, Lanes, load_part, store_part};

/// Numbers that one token's angles take in the table.
///
/// Pairs that are halves apart: all cosines, then all sines. Adjacent pairs: every cosine twice, then every sine twice,
/// the first of the two negated, so that a vector of pairs is x · cosines + (x with pairs exchanged) · sines.
pub(crate) fn table_width(rope: &Rope) -> usize {
    match rope.pairing {
        Pairing::Halves => rope.rotated(),
        Pairing::Adjacent => 2 * rope.rotated(),
    }
}

/// Writes the table of one token. The functions are `libm`'s, the same on every platform.
pub(crate) fn fill_table(rope: &Rope, position: usize, table: &mut [f32]) {
    let (cosines, sines) = table.split_at_mut(table_width(rope) / 2);
    for (i, frequency) in rope.frequencies.iter().enumerate() {
        let angle = position as f32 * frequency;
        let (sin, cos) = (libm::sinf(angle) * rope.scale, libm::cosf(angle) * rope.scale);
        match rope.pairing {
            Pairing::Halves => (cosines[i], sines[i]) = (cos, sin),
            Pairing::Adjacent => {
                cosines[2 * i..2 * i + 2].fill(cos);
                sines[2 * i..2 * i + 2].copy_from_slice(&[-sin, sin]);
            }
        }
    }
}

/// Turns the rotated part of one head: `rotated` numbers from x to y, which may be x.
///
/// # Safety
/// As for [`Lanes`]; x and y are good for `rotated` numbers, and the table is [`fill_table`]'s.
#[inline(always)]
pub(crate) unsafe fn rotate<V: Lanes>(
    pairing: Pairing,
    rotated: usize,
    table: *const f32,
    x: *const f32,
    y: *mut f32,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut i = 0;
        match pairing {
            Pairing::Halves => {
                let half = rotated / 2;
                while i < half {
                    let count = LANES.min(half - i);
                    let (a, b): (V, V) =
                        (load_part(x.add(i), count, 0.0), load_part(x.add(half + i), count, 0.0));
                    let (cos, sin): (V, V) =
                        (load_part(table.add(i), count, 0.0), load_part(table.add(half + i), count, 0.0));
                    let minus = V::splat(0.0).sub(b.mul(sin));
                    store_part(a.mul_add(cos, minus), y.add(i), count);
                    store_part(b.mul_add(cos, a.mul(sin)), y.add(half + i), count);
                    i += LANES;
                }
            }
            Pairing::Adjacent => {
                while i < rotated {
                    let count = LANES.min(rotated - i);
                    let v: V = load_part(x.add(i), count, 0.0);
                    let cos: V = load_part(table.add(i), count, 0.0);
                    let sin: V = load_part(table.add(rotated + i), count, 0.0);
                    store_part(v.mul_add(cos, v.swap_pairs().mul(sin)), y.add(i), count);
                    i += LANES;
                }
            }
        }
    }
}
