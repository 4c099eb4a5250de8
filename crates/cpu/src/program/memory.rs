//! Places in the arena: buffers that live at the same time never overlap.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::matmul::LINE;

use super::schedule::Schedule;

/// Places of buffers.
#[derive(Debug)]
pub(super) struct Plan {
    /// For every buffer its first byte: a multiple of 64.
    pub(super) offsets: Vec<usize>,
    /// Bytes in all.
    pub(super) bytes: usize,
}

impl Plan {
    /// Places buffers of `sizes` bytes, the largest first, each as low as those permit that live beside it. `None`
    /// when sizes overflow.
    pub(super) fn new(sizes: &[usize], schedule: &Schedule) -> Option<Plan> {
        // Buffers that take another's place are one region with it, which lives as long as both.
        let mut region: Vec<usize> = (0..sizes.len()).collect();
        let mut lives = schedule.lifetimes.clone();
        for (from, to) in &schedule.in_place {
            let root = region[from.0];
            if sizes[from.0] != sizes[to.0] || region[to.0] != to.0 || root == to.0 {
                continue;
            }
            region[to.0] = root;
            if let (Some((first, last)), Some((_, end))) = (lives[root], lives[to.0]) {
                lives[root] = Some((first, last.max(end)));
            }
        }
        let mut order: Vec<usize> = (0..sizes.len()).filter(|&b| region[b] == b).collect();
        order.sort_by_key(|&b| (std::cmp::Reverse(sizes[b]), b));
        let mut offsets = vec![0usize; sizes.len()];
        let mut placed: Vec<usize> = Vec::new();
        let mut bytes = 0usize;
        for b in order {
            let Some((first, last)) = lives[b] else { continue };
            let size = sizes[b].checked_next_multiple_of(LINE)?;
            let mut beside: Vec<(usize, usize)> = (placed.iter())
                .filter(|&&other| lives[other].is_some_and(|(f, l)| f <= last && first <= l))
                .map(|&other| (offsets[other], offsets[other] + sizes[other].next_multiple_of(LINE)))
                .collect();
            beside.sort_unstable();
            let mut at = 0usize;
            for (start, end) in beside {
                if at.checked_add(size)? <= start {
                    break;
                }
                at = at.max(end);
            }
            offsets[b] = at;
            bytes = bytes.max(at.checked_add(size)?);
            placed.push(b);
        }
        for b in 0..sizes.len() {
            offsets[b] = offsets[root(&region, b)];
        }
        Some(Plan { offsets, bytes })
    }
}

fn root(region: &[usize], mut b: usize) -> usize {
    while region[b] != b {
        b = region[b];
    }
    b
}

/// Zeroed bytes, aligned to a cache line, that threads share; pages that are never touched take no memory.
#[derive(Debug)]
pub(super) struct Region {
    start: NonNull<u8>,
    layout: Layout,
    bytes: usize,
}

// SAFETY: the bytes are owned; who touches which is a matter of the unsafe code that uses the pointer.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// `bytes` bytes, or `None` when the system does not give them.
    pub(super) fn new(bytes: usize) -> Option<Region> {
        // The system's allocator maps large zeroed requests without touching them only for ordinary alignments.
        let layout = Layout::from_size_align(bytes.checked_add(LINE)?, 16).ok()?;
        // SAFETY: the size is not 0.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        ask_for_huge_pages(start.as_ptr(), bytes);
        Some(Region { start, layout, bytes })
    }

    /// The first byte.
    pub(super) fn start(&self) -> *mut u8 {
        let gap = self.start.as_ptr().align_offset(LINE);
        // SAFETY: there are LINE bytes more than `bytes`, and the gap is less.
        unsafe { self.start.as_ptr().add(gap) }
    }

    /// Bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Advises the system to back large regions with huge pages: attention reads a cache in pieces of a few KiB, and small
/// pages would miss the TLB at each. The advice changes no content, and failing to take it does no harm.
fn ask_for_huge_pages(start: *mut u8, bytes: usize) {
    const HUGE_PAGE: usize = 2 << 20;
    const PAGE: usize = 4096;
    #[cfg(target_os = "linux")]
    if bytes >= 2 * HUGE_PAGE {
        let gap = start.align_offset(PAGE);
        // SAFETY: the pages lie within the allocation just made.
        unsafe { libc::madvise(start.add(gap).cast(), (bytes - gap) / PAGE * PAGE, libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, bytes, HUGE_PAGE, PAGE);
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::task::BufferId;
    use super::*;

    /// A small generator for sizes and lifetimes (xorshift).
    fn random(state: &mut u64, below: usize) -> usize {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state % below as u64) as usize
    }

    #[test]
    fn buffers_that_live_together_never_overlap() {
        let mut state = 88_172_645_463_325_252;
        for _ in 0..200 {
            let buffers = 1 + random(&mut state, 40);
            let sizes: Vec<usize> = (0..buffers).map(|_| [1, 64, 200, 1000][random(&mut state, 4)]).collect();
            let lifetimes: Vec<_> = (0..buffers)
                .map(|_| {
                    let first = random(&mut state, 20);
                    Some((first, first + 1 + random(&mut state, 6)))
                })
                .collect();
            // A buffer may be replaced by one that starts in its last stage.
            let mut in_place = Vec::new();
            for (from, to) in (0..buffers).zip(1..buffers) {
                let (Some((_, last)), Some((first, _))) = (lifetimes[from], lifetimes[to]) else { continue };
                if last == first && sizes[from] == sizes[to] {
                    in_place.push((BufferId(from), BufferId(to)));
                }
            }
            let schedule = Schedule {
                behind_kept: Vec::new(),
                stages: Vec::new(),
                lifetimes: lifetimes.clone(),
                in_place,
            };
            let plan = Plan::new(&sizes, &schedule).unwrap();
            let together = |a: usize, b: usize| {
                let (Some((f, l)), Some((g, m))) = (lifetimes[a], lifetimes[b]) else { return false };
                f <= m && g <= l
            };
            for a in 0..buffers {
                assert_eq!(plan.offsets[a] % LINE, 0);
                assert!(plan.offsets[a] + sizes[a] <= plan.bytes);
                for b in 0..a {
                    let replaced = schedule.in_place.contains(&(BufferId(b), BufferId(a)));
                    let apart = plan.offsets[a] + sizes[a] <= plan.offsets[b]
                        || plan.offsets[b] + sizes[b] <= plan.offsets[a];
                    assert!(apart || replaced || !together(a, b), "buffers {a} and {b} overlap");
                }
            }
        }
    }

    #[test]
    fn a_region_is_aligned_and_zero() {
        let region = Region::new(100).unwrap();
        assert_eq!(region.start().addr() % LINE, 0);
        // SAFETY: the region has 100 bytes and nobody else uses it.
        let bytes = unsafe { std::slice::from_raw_parts(region.start(), region.bytes()) };
        assert!(bytes.iter().all(|&b| b == 0));
        assert!(Region::new(usize::MAX - 3).is_none());
    }
}
