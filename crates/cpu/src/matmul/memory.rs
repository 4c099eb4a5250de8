//! Memory for kernels: aligned to cache lines, and to huge pages when large.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// A cache line: what every address that kernels load vectors from is aligned to.
pub const LINE: usize = 64;
/// A huge page of x86-64 and of most AArch64 systems.
const HUGE_PAGE: usize = 2 << 20;

/// Bytes on the heap, aligned to [`LINE`].
pub(crate) struct AlignedBytes {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the bytes are owned, as a `Vec<u8>`'s are.
unsafe impl Send for AlignedBytes {}
// SAFETY: a shared reference gives only shared access; writing through the pointer is an unsafe matter of the caller.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// `len` zero bytes. `None` when memory is out.
    pub(crate) fn zeroed(len: usize) -> Option<AlignedBytes> {
        let layout = Layout::from_size_align(len.max(1), LINE).ok()?;
        // SAFETY: the layout's size is not 0.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(AlignedBytes { start, layout })
    }

    /// `len` bytes that the caller must write before they are read; on huge pages where there are enough of them,
    /// since a matrix is read from end to end and small pages would miss the TLB at each. `None` when memory is out.
    pub(crate) fn uninit(len: usize) -> Option<AlignedBytes> {
        let huge = len >= 2 * HUGE_PAGE;
        let layout = Layout::from_size_align(len.max(1), if huge { HUGE_PAGE } else { LINE }).ok()?;
        // SAFETY: the layout's size is not 0.
        let start = NonNull::new(unsafe { alloc(layout) })?;
        #[cfg(target_os = "linux")]
        if huge {
            // SAFETY: the range is the allocation just made. The call is advice: it fails without harm.
            unsafe { libc::madvise(start.as_ptr().cast(), len & !(HUGE_PAGE - 1), libc::MADV_HUGEPAGE) };
        }
        Some(AlignedBytes { start, layout })
    }

    pub(crate) fn len(&self) -> usize {
        self.layout.size()
    }

    /// For writing from several threads at once, to different bytes.
    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// Memory for a packed matrix: a region of its own when it is large, else a piece of one that matrices share, because
/// most matrices of a small model are not whole huge pages.
pub(crate) struct WeightBytes {
    region: Arc<AlignedBytes>,
    offset: usize,
    len: usize,
}

/// Size of a shared region. Pages that no matrix has touched take no memory.
const SHARED: usize = 16 * HUGE_PAGE;

impl WeightBytes {
    /// `len` bytes that the caller must write before they are read. `None` when memory is out.
    pub(crate) fn uninit(len: usize) -> Option<WeightBytes> {
        /// The region that is being filled, and how far it is.
        static FILLING: Mutex<Option<(Arc<AlignedBytes>, usize)>> = Mutex::new(None);
        if len > SHARED / 4 {
            return Some(WeightBytes { region: Arc::new(AlignedBytes::uninit(len)?), offset: 0, len });
        }
        let mut filling = FILLING.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = filling.as_ref().is_some_and(|(region, used)| region.len() - used >= len);
        if !fits {
            *filling = Some((Arc::new(AlignedBytes::uninit(SHARED)?), 0));
        }
        let (region, used) = filling.as_mut()?;
        let bytes = WeightBytes { region: Arc::clone(region), offset: *used, len };
        *used = (*used + len).next_multiple_of(LINE).min(region.len());
        Some(bytes)
    }

    /// A piece of a region.
    ///
    /// # Panics
    /// When it is not inside.
    pub(crate) fn part(region: &Arc<AlignedBytes>, offset: usize, len: usize) -> WeightBytes {
        assert!(offset <= region.len() && len <= region.len() - offset, "{len} bytes from {offset}");
        WeightBytes { region: Arc::clone(region), offset, len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.as_mut_ptr()
    }

    /// For writing from several threads at once, to different bytes.
    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        // SAFETY: the piece is inside the region.
        unsafe { self.region.as_mut_ptr().add(self.offset) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_aligned_and_do_not_overlap() {
        let sizes = [1, 64, 100, SHARED / 4, SHARED / 4, SHARED / 4, SHARED / 4, SHARED / 4 + 1, 4096];
        let pieces: Vec<_> = sizes.iter().map(|len| WeightBytes::uninit(*len).unwrap()).collect();
        let mut ranges: Vec<_> =
            pieces.iter().map(|p| (p.as_ptr().addr(), p.as_ptr().addr() + p.len())).collect();
        ranges.sort_unstable();
        assert!(ranges.iter().all(|(start, _)| start.is_multiple_of(LINE)));
        assert!(ranges.windows(2).all(|w| w[0].1 <= w[1].0), "pieces overlap: {ranges:?}");
    }
}
