//! The KV cache: its layout, and writing to it.
//!
//! A block of 32 positions keeps, for every key and value head, the keys transposed, `[key width][32]`, and then the
//! values, `[32][value stride]`, the stride being the width rounded up to whole vectors. So the lanes of scores are
//! positions and those of the result are the numbers of a value: nothing is summed across lanes. What a block of 8-bit
//! integers keeps is in [`super::rounded`].

use autarky_graph::{BLOCK, CacheDType, CacheSpec};

use super::lanes::{LANES, Lanes, load_part};

/// How many positions before its use a block is called to the processor's second-level cache.
const LOOK_AHEAD: usize = super::attention::TILE;

/// A number of the KV cache.
pub(crate) trait Element: Copy + 'static {
    /// 16 of them as f32.
    ///
    /// # Safety
    /// As for [`Lanes`].
    unsafe fn load<V: Lanes>(from: *const Self) -> V;
    /// 16 numbers rounded to it.
    ///
    /// # Safety
    /// As for [`Lanes`].
    unsafe fn store<V: Lanes>(v: V, to: *mut Self);
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const f32) -> V {
        // SAFETY: as the caller promises.
        unsafe { V::load(from) }
    }

    #[inline(always)]
    unsafe fn store<V: Lanes>(v: V, to: *mut f32) {
        // SAFETY: as the caller promises.
        unsafe { v.store(to) }
    }
}

/// Half precision, as bits.
impl Element for u16 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const u16) -> V {
        // SAFETY: as the caller promises.
        unsafe { V::load_f16(from) }
    }

    #[inline(always)]
    unsafe fn store<V: Lanes>(v: V, to: *mut u16) {
        // SAFETY: as the caller promises.
        unsafe { v.store_f16(to) }
    }
}

/// The layout of one layer's cache, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Key and value heads.
    pub(crate) heads: usize,
    /// Numbers in a key.
    pub(crate) key_width: usize,
    /// Numbers in a value.
    pub(crate) value_width: usize,
}

impl Layout {
    /// That of a cache.
    pub(crate) fn of(spec: &CacheSpec) -> Layout {
        Layout { heads: spec.heads, key_width: spec.key_width, value_width: spec.value_width }
    }

    /// Numbers from one value to the next.
    pub(crate) fn value_stride(&self) -> usize {
        self.value_width.next_multiple_of(LANES)
    }

    /// Numbers of one head in a block of floats.
    fn head(&self) -> usize {
        BLOCK * (self.key_width + self.value_stride())
    }

    /// Bytes of a block.
    pub(crate) fn block_bytes(&self, cache: CacheDType) -> usize {
        let head = match cache {
            CacheDType::F32 => 4 * self.head(),
            CacheDType::F16 => 2 * self.head(),
            CacheDType::I8 => self.rounded_head(),
        };
        self.heads * head
    }

    /// Numbers of a record: what is known of one query row after some positions. Its value (`value_stride` numbers,
    /// not yet divided by the sum), then the largest score, then the sum of weights.
    pub(crate) fn record(&self) -> usize {
        self.value_stride() + LANES
    }
}

/// A sequence's cache, one head of it.
#[derive(Clone, Copy)]
pub(crate) struct Keys<'a> {
    /// The layer's cache.
    pub(crate) cache: *mut u8,
    /// Its layout.
    pub(crate) layout: Layout,
    /// The sequence's blocks.
    pub(crate) blocks: &'a [u32],
    /// Which head.
    pub(crate) head: usize,
    /// What the same thread attends to after this, for the processor to fetch: blocks, and a head.
    pub(crate) next: (&'a [u32], usize),
}

impl Keys<'_> {
    /// The place of the head in the block of `position`, counted in heads.
    #[inline(always)]
    pub(super) fn place(&self, position: usize) -> usize {
        self.blocks[position / BLOCK] as usize * self.layout.heads + self.head
    }

    /// What is needed [`LOOK_AHEAD`] positions after `position`, as [`Keys::place`]: beyond `end` it is what the thread
    /// attends to next, and the place of `position` again when that is nothing.
    #[inline(always)]
    pub(super) fn place_ahead(&self, position: usize, end: usize) -> usize {
        let ahead = position + LOOK_AHEAD;
        let (next_blocks, next_head) = self.next;
        match ahead.checked_sub(end) {
            None => self.place(ahead),
            Some(past) => next_blocks
                .get(past / BLOCK)
                .map_or(self.place(position), |block| *block as usize * self.layout.heads + next_head),
        }
    }

    /// The head's keys in the block of `position`; its values follow.
    ///
    /// # Safety
    /// The table covers the position and its blocks are in the cache.
    #[inline(always)]
    pub(super) unsafe fn at<E: Element>(&self, position: usize) -> *mut E {
        // SAFETY: as the caller promises.
        unsafe { self.cache.cast::<E>().add(self.place(position) * self.layout.head()) }
    }

    /// The keys at [`Keys::place_ahead`].
    ///
    /// # Safety
    /// As for [`Keys::at`]; the table covers what is below `end`, and what is attended to next is in the cache.
    #[inline(always)]
    pub(super) unsafe fn ahead<E: Element>(&self, position: usize, end: usize) -> *mut E {
        // SAFETY: as the caller promises.
        unsafe { self.cache.cast::<E>().add(self.place_ahead(position, end) * self.layout.head()) }
    }
}

/// Writes keys and values of `count` tokens that follow one another within one block.
///
/// `k` and `v` are the first token's key and value of the head; tokens are `k_row` and `v_row` numbers apart.
///
/// # Safety
/// As for [`Lanes`]; the pointers are good for `count` tokens; the cache holds elements `E`, the block is in it, and
/// nobody else uses these positions of it.
#[inline(always)]
pub(crate) unsafe fn write_cache<V: Lanes, E: Element>(
    keys: &Keys<'_>,
    position: usize,
    count: usize,
    (k, k_row): (*const f32, usize),
    (v, v_row): (*const f32, usize),
) {
    let layout = &keys.layout;
    let stride = layout.value_stride();
    // SAFETY: as the caller promises.
    unsafe {
        let to = keys.at::<E>(position);
        let place = position % BLOCK;
        let values = to.add(BLOCK * layout.key_width);
        for t in 0..count {
            let mut d = 0;
            while d < layout.key_width {
                let n = LANES.min(layout.key_width - d);
                let numbers: V = load_part(k.add(t * k_row + d), n, 0.0);
                let mut narrow = std::mem::MaybeUninit::<[E; LANES]>::uninit();
                E::store(numbers, narrow.as_mut_ptr().cast());
                let narrow = narrow.assume_init();
                for (i, x) in narrow.iter().take(n).enumerate() {
                    *to.add((d + i) * BLOCK + place + t) = *x;
                }
                d += LANES;
            }
            let mut c = 0;
            while c < layout.value_width {
                let n = LANES.min(layout.value_width - c);
                let numbers: V = load_part(v.add(t * v_row + c), n, 0.0);
                E::store(numbers, values.add((place + t) * stride + c));
                c += LANES;
            }
        }
    }
}
