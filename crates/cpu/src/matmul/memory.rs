//! Memory for kernels: aligned to cache lines, and to huge pages when large.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::ptr::NonNull;

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

    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
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
