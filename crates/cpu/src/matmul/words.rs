//! The loops of products on AVX-512 that training computes with: the same for numbers of two bytes and of one.
//!
//! One instruction multiplies a word of four bytes, which are some neighbours of a row (or of a column), with such words of
//! sixteen rows of a panel, and adds the products to sixteen sums. The word is broadcast from memory.
//!
//! Helpers are `inline(always)` without `target_feature`: they only ever become part of the loops, which have it. Their
//! `# Safety` is the same throughout: the processor has the features of [`product`] and those of the words.

use super::format::{CHUNK, PANEL_ROWS, STRIPE, WORDS};
use super::{Activations, LINE, Output, prefetch_later};
use std::arch::asm;
use std::arch::x86_64::*;

/// Rows and panels whose sums are in registers: 24 of 32.
const ROWS: usize = 8;
const PANELS: usize = 3;
/// Chunks of columns of a stripe.
const CHUNKS: usize = STRIPE / CHUNK;

/// Numbers in words, and what becomes of their sums. Implementations are `inline(always)`.
pub(super) trait Words {
    /// Numbers of a word.
    const NUMBERS: usize;
    /// Sixteen sums.
    type Sums: Copy;

    /// The words of a chunk of a row; those of the next row follow.
    unsafe fn words(x: &Activations, chunk: usize, row: usize) -> *const u8;
    /// What the sums of a stripe of a row begin with.
    unsafe fn begin(x: &Activations, stripe: usize, row: usize, there: There) -> Self::Sums;
    /// Adds the products of a word with those of sixteen rows.
    unsafe fn add(sums: Self::Sums, word: __m512i, rows: __m512i) -> Self::Sums;
    /// The scale of a stripe of a row in all lanes, and those of the rows of a panel.
    unsafe fn row_scale(x: &Activations, stripe: usize, row: usize) -> __m512;
    unsafe fn panel_scales(weight: &Panels, stripe: usize, panel: usize) -> __m512;
    /// The results of sums, from the scales of both operands.
    unsafe fn end(sums: Self::Sums, left: __m512, right: __m512, there: There) -> __m512;

    /// As these, of a product over some rows, whose left operand has a scale for a column.
    unsafe fn outer_begin(left: &Columns, column: usize) -> Self::Sums;
    unsafe fn column_scale(left: &Columns, column: usize) -> __m512;
    unsafe fn column_scales(right: &Columns) -> __m512;
    unsafe fn outer_end(sums: Self::Sums, left: __m512, right: __m512, there: There) -> __m512;
}

/// What a result is added to: zero in the lanes where nothing is.
#[derive(Clone, Copy)]
pub(super) struct There {
    from: *const f32,
    lanes: __mmask16,
}

impl There {
    /// To add nothing by a mask of no lanes would still bring the line near.
    const NOTHING: There = There { from: std::ptr::null(), lanes: 0 };

    #[inline(always)]
    pub(super) unsafe fn load(self) -> __m512 {
        // SAFETY: as many numbers are the caller's.
        unsafe { _mm512_maskz_loadu_ps(self.lanes, self.from) }
    }
}

/// A packed matrix: panels of sixteen rows, and in them word after word.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    pub(super) start: *const u8,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) panel_bytes: usize,
}

impl Panels {
    /// Where a panel is or would be.
    #[inline(always)]
    pub(super) fn at(&self, panel: usize) -> *const u8 {
        self.start.wrapping_add(panel * self.panel_bytes)
    }

    fn count(&self) -> usize {
        self.rows.div_ceil(PANEL_ROWS)
    }
}

/// A window of a product.
#[derive(Clone, Copy)]
pub(super) struct Window<'a> {
    pub(super) weight: Panels,
    pub(super) x: &'a Activations,
    /// First and one past the last row of activations.
    pub(super) rows: (usize, usize),
    pub(super) panels: (usize, usize),
    pub(super) y: Output,
}

impl Window<'_> {
    /// Where the results of panel `panel` of row `row` are to be written, and how many of its columns there are.
    #[inline(always)]
    fn place(&self, row: usize, panel: usize) -> (*mut f32, usize) {
        let column = panel * PANEL_ROWS;
        let to = self.y.start.wrapping_add(row * self.y.stride + column);
        (to, PANEL_ROWS.min(self.weight.rows - column))
    }
}

/// Runs `$body` with the constants `$R` and `$P` that `$rows` (1 to 8) and `$panels` (1 to 3) are.
macro_rules! sized {
    ($rows:expr, $panels:expr, $R:ident, $P:ident, $body:expr) => {
        sized!(@rows $rows, $panels, $R, $P, $body, [1 2 3 4 5 6 7 8])
    };
    (@rows $rows:expr, $panels:expr, $R:ident, $P:ident, $body:expr, [$($r:literal)*]) => {
        match ($rows, $panels) {
            $(
                ($r, 1) => { const $R: usize = $r; const $P: usize = 1; $body }
                ($r, 2) => { const $R: usize = $r; const $P: usize = 2; $body }
                ($r, 3) => { const $R: usize = $r; const $P: usize = 3; $body }
            )*
            other => unreachable!("{other:?} rows and panels"),
        }
    };
}

/// Runs `$body` for all sums, `$r` below `$R` and `$p` below `$P`: written out, so that they can stay in registers.
macro_rules! each_sum {
    ($r:ident < $R:ident, $p:ident < $P:ident, $body:expr) => {
        each_sum!(@each $r < $R [0 1 2 3 4 5 6 7] each_sum!(@each $p < $P [0 1 2] $body))
    };
    (@each $i:ident < $N:ident [$($n:literal)*] $body:expr) => {{
        $(
            if $n < $N {
                let $i = $n;
                $body
            }
        )*
    }};
}

/// A window of y = x Wᵀ. A number is the sum of its stripes in ascending order, whatever the window.
///
/// # Safety
/// As [`super::matmul`], whose checks were made; the processor has these features and those of the words.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn product<W: Words>(task: &Window<'_>) {
    let ((first, end), chunks) = (task.rows, task.weight.cols.div_ceil(CHUNK));
    for chunk in (0..chunks).step_by(CHUNKS) {
        let chunks = (chunk, chunks.min(chunk + CHUNKS));
        let mut panel = task.panels.0;
        while panel < task.panels.1 {
            // Groups and sets of about the same size.
            let panels = even(task.panels.1 - panel, PANELS);
            let sets = (end - first).div_ceil(ROWS);
            let (mut row, mut nth) = (first, 0);
            while row < end {
                let rows = even(end - row, ROWS);
                let next = Ahead::of::<W>(&task.weight, panel + panels, chunks, (nth, sets));
                // SAFETY: the caller's promise; rows and panels are the task's.
                unsafe { sized!(rows, panels, R, P, set::<W, R, P>(task, row, panel, chunks, next)) };
                (row, nth) = (row + rows, nth + 1);
            }
            panel += panels;
        }
    }
}

/// The first of as few parts of `count` as there can be of at most `most`, all about the same size.
fn even(count: usize, most: usize) -> usize {
    count.div_ceil(count.div_ceil(most))
}

/// What a set calls to the second-level cache meanwhile: its share of the panels that come next. Memory is too far away
/// to begin with it when they come, and a set is too long for the processor to look beyond it.
#[derive(Clone, Copy)]
struct Ahead {
    next: *const u8,
    /// Bytes for every word.
    step: usize,
}

impl Ahead {
    const NONE: Ahead = Ahead { next: std::ptr::null(), step: 0 };

    /// The share of set `nth` of `sets` in those chunks of the panels from `panel` on.
    fn of<W: Words>(
        weight: &Panels,
        panel: usize,
        chunks: (usize, usize),
        (nth, sets): (usize, usize),
    ) -> Ahead {
        let each = (sets / PANELS).max(1);
        let panel = panel + nth / each;
        if nth / each >= PANELS || panel >= weight.count() {
            return Ahead::NONE;
        }
        let at = |chunk: usize| weight.cols.min(chunk * CHUNK) / W::NUMBERS * WORDS;
        let lines = (at(chunks.1) - at(chunks.0)) / LINE;
        let from = at(chunks.0) + nth % each * lines.div_ceil(each) * LINE;
        Ahead { next: weight.at(panel).wrapping_add(from), step: LINE.div_ceil(each) }
    }

    #[inline(always)]
    fn call(&mut self) {
        prefetch_later(self.next);
        self.next = self.next.wrapping_add(self.step);
    }
}

/// Adds some chunks of `R` rows against `P` panels: to nothing if they are the first, else to what is there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
#[allow(clippy::needless_range_loop)] // loops of a fixed length over registers
unsafe fn set<W: Words, const R: usize, const P: usize>(
    task: &Window<'_>,
    row: usize,
    panel: usize,
    (first, end): (usize, usize),
    mut ahead: Ahead,
) {
    let cols = task.weight.cols;
    let place = |r: usize, p: usize| task.place(row + r, panel + p).0;
    let lanes: [__mmask16; P] = std::array::from_fn(|p| columns(task.place(row, panel + p).1));
    let adds = if first > 0 { !0 } else { 0 };
    let there = |r: usize, p: usize| There { from: place(r, p), lanes: lanes[p] & adds };
    let whole = lanes[P - 1] == !0;
    // All at once, and whole lines of the cache.
    let streamed = task.y.streamed
        && whole
        && (first, end) == (0, cols.div_ceil(CHUNK))
        && task.y.stride.is_multiple_of(PANEL_ROWS)
        && place(0, 0).addr().is_multiple_of(LINE);
    // SAFETY: pointers stay inside the panels, the activations' rows and the result.
    unsafe {
        if !streamed {
            // Sums go to memory that is far away: it is asked for while they are computed.
            (0..R).for_each(|r| (0..P).for_each(|p| prefetch_to_write(place(r, p))));
        }
        if panel == task.panels.0 {
            // The first panels are what brings rows of activations near.
            for chunk in first..end {
                let lines = (cols - chunk * CHUNK).min(CHUNK).div_ceil(LINE / 4 * W::NUMBERS);
                for next in row + R..(row + 2 * R).min(task.rows.1) {
                    let at = W::words(task.x, chunk, next);
                    (0..lines).for_each(|line| prefetch_later(at.wrapping_add(LINE * line)));
                }
            }
        }
        let stripe = first / CHUNKS;
        let mut sums = [[W::begin(task.x, stripe, row, There::NOTHING); P]; R];
        if first > 0 {
            each_sum!(r < R, p < P, sums[r][p] = W::begin(task.x, stripe, row + r, there(r, p)));
        } else {
            each_sum!(r < R, p < P, sums[r][p] = W::begin(task.x, stripe, row + r, There::NOTHING));
        }
        for chunk in first..end {
            let words = (cols - chunk * CHUNK).min(CHUNK).div_ceil(W::NUMBERS);
            let left = W::words(task.x, chunk, row);
            // Only the last chunk is shorter, so the earlier ones are full.
            let right =
                std::array::from_fn(|p| task.weight.at(panel + p).add(chunk * CHUNK / W::NUMBERS * WORDS));
            let by_row = CHUNK / W::NUMBERS * 4;
            add::<W, R, P>(&mut sums, left, (by_row, 4), right, words, &mut ahead);
        }
        let right: [__m512; P] = std::array::from_fn(|p| W::panel_scales(&task.weight, stripe, panel + p));
        let left = |r: usize| W::row_scale(task.x, stripe, row + r);
        let results = |r: usize, p: usize, sum: W::Sums, there: There| W::end(sum, left(r), right[p], there);
        if streamed {
            each_sum!(r < R, p < P, _mm512_stream_ps(place(r, p), results(r, p, sums[r][p], There::NOTHING)));
        } else if whole {
            each_sum!(r < R, p < P, _mm512_storeu_ps(place(r, p), results(r, p, sums[r][p], there(r, p))));
        } else {
            // Indexed as memory, which the sums themselves would have to be then.
            let sums = sums;
            for r in 0..R {
                for p in 0..P {
                    _mm512_mask_storeu_ps(place(r, p), lanes[p], results(r, p, sums[r][p], there(r, p)));
                }
            }
        }
    }
}

/// Adds the products of so many words. Rows of the left operand and its words are so many bytes apart.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // loops of a fixed length over registers
unsafe fn add<W: Words, const R: usize, const P: usize>(
    sums: &mut [[W::Sums; P]; R],
    left: *const u8,
    (by_row, by_word): (usize, usize),
    right: [*const u8; P],
    words: usize,
    ahead: &mut Ahead,
) {
    // SAFETY: the operands have as many words.
    unsafe {
        for word in 0..words {
            let b: [__m512i; P] =
                std::array::from_fn(|p| _mm512_loadu_si512(right[p].add(word * WORDS).cast()));
            ahead.call();
            for r in 0..R {
                let a = left.add(r * by_row + word * by_word).cast::<i32>().read_unaligned();
                let a = _mm512_set1_epi32(a);
                for p in 0..P {
                    sums[r][p] = W::add(sums[r][p], a, b[p]);
                }
            }
        }
    }
}

/// Asks for the cache line at `at`, which need not be valid, to be written.
#[inline(always)]
fn prefetch_to_write(at: *mut f32) {
    // SAFETY: processors with AVX-512 have the instruction, and it never faults.
    unsafe { asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags)) }
}

/// Stores a line of the cache, or past it: then the line is aligned.
#[inline(always)]
pub(super) unsafe fn put(to: *mut __m512i, words: __m512i, streamed: bool) {
    // SAFETY: the line is the caller's.
    unsafe {
        match streamed {
            true => _mm512_stream_si512(to, words),
            false => _mm512_storeu_si512(to, words),
        }
    }
}

/// The first so many of 16 lanes.
pub(super) fn columns(count: usize) -> __mmask16 {
    if count >= PANEL_ROWS { !0 } else { (1 << count) - 1 }
}

/// Some rows of a panel of a matrix of which words are neighbours in a column.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    /// For every word of the rows those of all sixteen columns.
    pub(super) words: *const u8,
    pub(super) count: usize,
}

/// Adds Σ dy xᵀ over some rows, for the first columns of a panel of dy and those of some panels of x, to a matrix with a row
/// for every column of dy, at so many numbers from each other; of the columns of x so many are left from the first panel on.
///
/// # Safety
/// The processor has these features and those of the words; the matrices are written and have as many rows, and this part
/// of `to` is nobody else's.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn outer<W: Words>(
    dy: Columns,
    rows: usize,
    x: impl Fn(usize) -> Columns,
    panels: usize,
    (to, stride, left_columns): (*mut f32, usize, usize),
) {
    let sets = panels.div_ceil(PANELS) * rows.div_ceil(ROWS);
    // What comes next of dy lies behind this, in the next panel if not in this one.
    let mut ahead = Ahead { next: dy.words.wrapping_add(dy.count * WORDS), step: LINE.div_ceil(sets) };
    for panel in (0..panels).step_by(PANELS) {
        let across = PANELS.min(panels - panel);
        for row in (0..rows).step_by(ROWS) {
            let count = ROWS.min(rows - row);
            // SAFETY: pointers stay inside the matrices.
            unsafe {
                let to = to.add(row * stride + panel * PANEL_ROWS);
                let left_columns = left_columns - panel * PANEL_ROWS;
                sized!(count, across, R, P, {
                    let right = std::array::from_fn(|p| x(panel + p));
                    outer_set::<W, R, P>((&dy, row), right, (to, stride, left_columns), &mut ahead);
                });
            }
        }
    }
}

/// `R` columns of dy and `P` panels of x, to a matrix with a stride and so many columns that are left.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
#[allow(clippy::needless_range_loop)] // loops of a fixed length over registers
unsafe fn outer_set<W: Words, const R: usize, const P: usize>(
    (left, row): (&Columns, usize),
    right: [Columns; P],
    (to, stride, left_columns): (*mut f32, usize, usize),
    ahead: &mut Ahead,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let place = |r: usize, p: usize| to.wrapping_add(r * stride + p * PANEL_ROWS);
        // What is there comes from memory, and is wanted at the end.
        (0..R).for_each(|r| (0..P).for_each(|p| prefetch_to_write(place(r, p))));
        let mut sums = [[W::outer_begin(left, row); P]; R];
        each_sum!(r < R, p < P, sums[r][p] = W::outer_begin(left, row + r));
        add::<W, R, P>(
            &mut sums,
            left.words.add(4 * row),
            (4, WORDS),
            right.map(|x| x.words),
            left.count,
            ahead,
        );
        let lanes: [__mmask16; P] = std::array::from_fn(|p| columns(left_columns - p * PANEL_ROWS));
        let scales: [__m512; P] = std::array::from_fn(|p| W::column_scales(&right[p]));
        let results = |r: usize, p: usize, sum: W::Sums| {
            let there = There { from: place(r, p), lanes: lanes[p] };
            W::outer_end(sum, W::column_scale(left, row + r), scales[p], there)
        };
        if lanes[P - 1] == !0 {
            each_sum!(r < R, p < P, _mm512_storeu_ps(place(r, p), results(r, p, sums[r][p])));
        } else {
            // Indexed as memory, which the sums themselves would have to be then.
            let sums = sums;
            for r in 0..R {
                for p in 0..P {
                    _mm512_mask_storeu_ps(place(r, p), lanes[p], results(r, p, sums[r][p]));
                }
            }
        }
    }
}

/// A matrix of 16 × 16 words, transposed.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn turned(rows: [__m512i; 16]) -> [__m512i; 16] {
    // Columns of pairs of rows, then of fours, and then of all.
    let mut twos = rows;
    for i in (0..16).step_by(2) {
        twos[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        twos[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    let mut fours = twos;
    for i in (0..16).step_by(4) {
        for j in 0..2 {
            fours[i + 2 * j] = _mm512_unpacklo_epi64(twos[i + j], twos[i + j + 2]);
            fours[i + 2 * j + 1] = _mm512_unpackhi_epi64(twos[i + j], twos[i + j + 2]);
        }
    }
    let mut all = fours;
    for j in 0..4 {
        let even = [0, 8].map(|i| _mm512_shuffle_i32x4::<0x88>(fours[i + j], fours[i + 4 + j]));
        let odd = [0, 8].map(|i| _mm512_shuffle_i32x4::<0xdd>(fours[i + j], fours[i + 4 + j]));
        all[j] = _mm512_shuffle_i32x4::<0x88>(even[0], even[1]);
        all[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even[0], even[1]);
        all[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]);
        all[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd[0], odd[1]);
    }
    all
}
