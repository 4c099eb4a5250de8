//! Sixteen `f32` lanes, one for each row of a panel, and what is written once over them: decoding scales.
//!
//! An instruction set says how its registers make sixteen lanes; everything that is not a dot product of integers is
//! generic over that. All functions are `inline(always)` and have no `target_feature` of their own, so that they
//! become part of kernels that have it. They are safe to call where the processor has the features of the instruction
//! set that implements [`Lanes`], which is what "As [`Lanes`]" in a `# Safety` section says.

use super::format::{CHUNK, Format, GROUP, PANEL_ROWS, Scales};
use super::unpack::Unpacked;

/// Sixteen `f32` lanes.
///
/// # Safety
/// Every function needs a processor that has the implementer's instruction set, and pointers that are valid for what
/// is read or written; they need not be aligned.
pub(crate) trait Lanes: Copy {
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// 16 × f16.
    unsafe fn load_f16(from: *const u8) -> Self;
    /// 16 pairs of BF16: the first of each pair, and the second.
    unsafe fn load_bf16_pairs(from: *const u8) -> [Self; 2];
    /// 16 × i8.
    unsafe fn load_i8(from: *const u8) -> Self;
    /// 16 × u8.
    unsafe fn load_u8(from: *const u8) -> Self;
    /// 16 × u8: the low nibbles, and the high ones.
    unsafe fn load_nibbles(from: *const u8) -> [Self; 2];
    /// 16 × half of an E8M0 number: 2^(e−128).
    unsafe fn load_exponents(from: *const u8) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn neg(self) -> Self;
    /// `self · x + y`, rounded once.
    unsafe fn fma(self, x: Self, y: Self) -> Self;
}

/// The scales of a packed chunk.
pub(crate) struct ChunkScales<V> {
    d: V,
    dmin: V,
    at: *const u8,
}

impl<V: Lanes> ChunkScales<V> {
    /// # Safety
    /// As [`Lanes`]; `scales` points to the scales of a packed chunk of `F`.
    #[inline(always)]
    pub(crate) unsafe fn new<F: Format>(scales: *const u8) -> Self {
        let spec = &F::SPEC;
        // SAFETY: the caller's promise.
        unsafe {
            match spec.scales {
                Scales::Plain | Scales::Exponent => {
                    ChunkScales { d: V::splat(0.0), dmin: V::splat(0.0), at: scales }
                }
                Scales::Super | Scales::SuperNibbles if spec.mins => ChunkScales {
                    d: V::load_f16(scales),
                    dmin: V::load_f16(scales.add(32)),
                    at: scales.add(64),
                },
                Scales::Super | Scales::SuperNibbles => {
                    ChunkScales { d: V::load_f16(scales), dmin: V::splat(0.0), at: scales.add(32) }
                }
            }
        }
    }

    /// The scales and the negated minima of scale group `index` of the chunk.
    ///
    /// # Safety
    /// As [`Lanes`]; the chunk has that scale group.
    #[inline(always)]
    pub(crate) unsafe fn group<F: Format>(&self, index: usize) -> (V, V) {
        let spec = &F::SPEC;
        let slots = if spec.mins { 2 } else { 1 };
        // SAFETY: the caller's promise.
        unsafe {
            let zero = V::splat(0.0);
            match spec.scales {
                Scales::Plain => {
                    let d = V::load_f16(self.at.add(index * slots * 32));
                    if spec.mins { (d, V::load_f16(self.at.add(index * 64 + 32)).neg()) } else { (d, zero) }
                }
                Scales::Exponent => (V::load_exponents(self.at.add(index * PANEL_ROWS)), zero),
                Scales::Super => {
                    let at = self.at.add(index * slots * PANEL_ROWS);
                    let scale = self.d.mul(V::load_i8(at));
                    if spec.mins {
                        (scale, self.dmin.mul(V::load_u8(at.add(PANEL_ROWS))).neg())
                    } else {
                        (scale, zero)
                    }
                }
                Scales::SuperNibbles => {
                    let [scale, min] = V::load_nibbles(self.at.add(index * PANEL_ROWS));
                    (self.d.mul(scale), self.dmin.mul(min).neg())
                }
            }
        }
    }
}

/// Unpacks the scales of a packed chunk of `groups` groups.
///
/// # Safety
/// As [`Lanes`]; `chunk` points to such a chunk.
#[inline(always)]
pub(crate) unsafe fn unpack_scales<F: Format, V: Lanes>(chunk: *const u8, groups: usize, out: &mut Unpacked) {
    let spec = &F::SPEC;
    // SAFETY: the caller's promise.
    unsafe {
        let scales = ChunkScales::<V>::new::<F>(chunk);
        for index in 0..groups * GROUP / spec.scale_group {
            let (scale, addend) = scales.group::<F>(index);
            scale.store(out.scales[index].as_mut_ptr());
            if spec.mins {
                addend.store(out.addends[index].as_mut_ptr());
            }
        }
    }
}

/// Groups of chunk `chunk` of a row of `cols` elements.
#[inline(always)]
pub(crate) fn groups_of(cols: usize, chunk: usize) -> usize {
    (cols - chunk * CHUNK).min(CHUNK) / GROUP
}
