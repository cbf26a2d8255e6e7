//! Zeroed memory for state: cache-line aligned words, on huge pages where there are many.
//!
//! 1. A buffer is 64-byte aligned, so a line of 1, 2, 4 or 8 words never straddles two cache lines.
//! 2. Large buffers come straight from the system: pages that nobody touched take no memory, and
//!    those of 2 MiB and more start on a huge page.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

const LINE: usize = 64;
const HUGE: usize = 2 << 20;
/// From this size in bytes on the system is asked directly.
const MAPPED: usize = 256 << 10;

/// A fixed number of words, 0 at first.
pub struct Words {
    start: NonNull<u64>,
    len: usize,
    /// What `munmap` is told; 0 bytes if the memory is the allocator's.
    mapping: (usize, usize),
}

// SAFETY: the buffer owns its memory alone, as a `Vec<u64>` does.
unsafe impl Send for Words {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Words {}

impl Words {
    /// `len` words of 0. O(1) for large `len`.
    ///
    /// # Panics
    /// If the system has no memory left (as any allocation).
    pub fn zeroed(len: usize) -> Words {
        let bytes = len.checked_mul(8).expect("a buffer's bytes can be counted");
        if bytes >= MAPPED {
            return Words::mapped(len, bytes);
        }
        let layout = layout(bytes);
        // SAFETY: the layout's size is not 0 (see `layout`).
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start.cast()) else { handle_alloc_error(layout) };
        Words { start, len, mapping: (0, 0) }
    }

    fn mapped(len: usize, bytes: usize) -> Words {
        let align = if bytes >= HUGE { HUGE } else { 4096 };
        let size = bytes + if align == HUGE { HUGE } else { 0 };
        // SAFETY: an anonymous private mapping at an address of the system's choice touches
        // nothing that exists.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            handle_alloc_error(layout(bytes));
        }
        let skip = (base as usize).next_multiple_of(align) - base as usize;
        // SAFETY: `skip + bytes <= size`, so the start lies in the mapping, and it is not null.
        let start = unsafe { NonNull::new_unchecked(base.cast::<u8>().add(skip).cast::<u64>()) };
        let mut words = Words { start, len, mapping: (base as usize, size) };
        super::prefetch::huge(&mut words);
        words
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes.max(LINE), LINE).expect("small buffers have a layout")
}

impl Drop for Words {
    fn drop(&mut self) {
        if self.mapping.1 != 0 {
            // SAFETY: address and size are those of this buffer's own mapping.
            unsafe { libc::munmap(self.mapping.0 as *mut libc::c_void, self.mapping.1) };
        } else {
            // SAFETY: allocated in `zeroed` with the same layout.
            unsafe { dealloc(self.start.as_ptr().cast(), layout(self.len * 8)) };
        }
    }
}

impl Deref for Words {
    type Target = [u64];

    #[inline(always)]
    fn deref(&self) -> &[u64] {
        // SAFETY: `len` initialised words that this buffer owns.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Words {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u64] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_any_size_are_aligned_zero_and_writable() {
        for len in [0, 1, 7, 8, 1000, MAPPED / 8 - 1, MAPPED / 8, HUGE / 8, HUGE / 8 + 1, 1 << 20] {
            let mut words = Words::zeroed(len);
            assert_eq!(words.as_ptr() as usize % LINE, 0);
            if len * 8 >= HUGE {
                assert_eq!(words.as_ptr() as usize % HUGE, 0);
            }
            assert_eq!(words.len(), len);
            assert!(words.iter().all(|&word| word == 0));
            let twin: Vec<u64> = (0..len as u64).collect();
            words.copy_from_slice(&twin);
            assert_eq!(&words[..], &twin[..]);
        }
    }
}
