//! Zeroed memory for state: cache-line aligned words, on huge pages where there are many.
//!
//! A random access costs a walk through the page table where pages are small, and in a virtual
//! machine two. So buffers of `POOLED` bytes and more lie on huge pages: large ones on their
//! own, the others as blocks of a shared one, halved as often as needed (a buddy allocator,
//! Knowlton 1965, that never joins halves again: state asks for the same sizes over and over).
//!
//! 1. A buffer is 64-byte aligned, so a line of 1, 2, 4 or 8 words never straddles two cache lines.
//! 2. Buffers of 2 MiB and more come straight from the system and start on a huge page; pages that
//!    nobody touched take no memory.
//! 3. A block belongs to one buffer, or is on the free list of its size of one thread.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

const LINE: usize = 64;
const HUGE: usize = 2 << 20;
/// From this size in bytes on buffers are blocks of huge pages.
const POOLED: usize = 16 << 10;
/// Sizes of blocks: POOLED, twice that, up to half a huge page.
const SIZES: usize = (HUGE / POOLED).ilog2() as usize;

/// Where a buffer's memory is from.
#[derive(Clone, Copy)]
enum Home {
    Allocator,
    /// A block of `POOLED << size` bytes.
    Block {
        size: usize,
    },
    /// What `munmap` is told.
    Mapping {
        base: usize,
        bytes: usize,
    },
}

/// A fixed number of words, 0 at first.
pub struct Words {
    start: NonNull<u64>,
    len: usize,
    home: Home,
}

// SAFETY: the buffer owns its memory alone, as a `Vec<u64>` does.
unsafe impl Send for Words {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Words {}

/// Free blocks of one thread.
#[derive(Default)]
struct Blocks {
    /// By size: address, and whether it was in use before and may hold anything.
    free: [Vec<(NonNull<u64>, bool)>; SIZES],
}

thread_local! {
    static BLOCKS: RefCell<Blocks> = RefCell::default();
}

impl Blocks {
    /// A free block, and whether it may hold anything but 0.
    fn take(&mut self, size: usize) -> (NonNull<u64>, bool) {
        if let Some(block) = self.free[size].pop() {
            return block;
        }
        let (whole, is_used) = match size + 1 {
            SIZES => (map(HUGE).0, false),
            larger => self.take(larger),
        };
        // SAFETY: the whole has twice a block's bytes.
        let second = unsafe { whole.byte_add(POOLED << size) };
        self.free[size].push((second, is_used));
        (whole, is_used)
    }
}

impl Words {
    /// `len` words of 0. O(1) for large `len`.
    ///
    /// # Panics
    /// If the system has no memory left (as any allocation).
    pub fn zeroed(len: usize) -> Words {
        let bytes = len.checked_mul(8).expect("a buffer's bytes can be counted");
        if bytes >= POOLED {
            return if bytes > HUGE / 2 {
                Words::mapped(len, bytes)
            } else {
                Words::block(len, bytes)
            };
        }
        let layout = layout(bytes);
        // SAFETY: the layout's size is not 0 (see `layout`).
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start.cast()) else { handle_alloc_error(layout) };
        Words { start, len, home: Home::Allocator }
    }

    /// A copy with room for `len` words, those behind the old ones 0. O(old length).
    ///
    /// # Panics
    /// If `len` is less than the length; else as [`Words::zeroed`].
    pub fn grown(&self, len: usize) -> Words {
        let mut grown = Words::zeroed(len);
        grown[..self.len].copy_from_slice(self);
        grown
    }

    fn block(len: usize, bytes: usize) -> Words {
        let size = bytes.div_ceil(POOLED).next_power_of_two().ilog2() as usize;
        let taken = BLOCKS.try_with(|blocks| blocks.borrow_mut().take(size));
        let Ok((start, is_used)) = taken else {
            // The thread is ending.
            return Words::mapped(len, bytes);
        };
        let mut words = Words { start, len, home: Home::Block { size } };
        if is_used {
            words.fill(0);
        }
        words
    }

    fn mapped(len: usize, bytes: usize) -> Words {
        let (start, base, bytes) = map(bytes);
        Words { start, len, home: Home::Mapping { base, bytes } }
    }
}

/// Maps at least `bytes` bytes of 0 that start on a huge page: where they start, and what was
/// mapped.
fn map(bytes: usize) -> (NonNull<u64>, usize, usize) {
    // Whole huge pages, and room to start on one.
    let size = bytes.next_multiple_of(HUGE) + HUGE;
    // SAFETY: an anonymous private mapping at an address of the system's choice touches nothing
    // that exists.
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
    let skip = (base as usize).next_multiple_of(HUGE) - base as usize;
    // SAFETY: `skip` is less than a huge page, so the start lies in the mapping, and it is not
    // null.
    let start = unsafe { NonNull::new_unchecked(base.cast::<u8>().add(skip)) };
    // SAFETY: the whole huge pages from the start on lie in the mapping; the advice changes how
    // they are mapped, not what they hold.
    unsafe { libc::madvise(start.as_ptr().cast(), size - HUGE, libc::MADV_HUGEPAGE) };
    (start.cast(), base as usize, size)
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes.max(LINE), LINE).expect("small buffers have a layout")
}

impl Drop for Words {
    fn drop(&mut self) {
        match self.home {
            // SAFETY: allocated in `zeroed` with the same layout.
            Home::Allocator => unsafe { dealloc(self.start.as_ptr().cast(), layout(self.len * 8)) },
            // Where the thread is ending the block is lost, and soon the process with it.
            Home::Block { size } => drop(BLOCKS.try_with(|blocks| {
                blocks.borrow_mut().free[size].push((self.start, true));
            })),
            // SAFETY: address and size are those of this buffer's own mapping.
            Home::Mapping { base, bytes } => unsafe {
                libc::munmap(base as *mut libc::c_void, bytes);
            },
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

    fn check(len: usize) -> Words {
        let mut words = Words::zeroed(len);
        assert_eq!(words.as_ptr() as usize % LINE, 0);
        if len * 8 > HUGE / 2 {
            assert_eq!(words.as_ptr() as usize % HUGE, 0);
        }
        assert_eq!(words.len(), len);
        assert!(words.iter().all(|&word| word == 0), "{len}");
        let twin: Vec<u64> = (0..len as u64).map(|i| i ^ !0).collect();
        words.copy_from_slice(&twin);
        assert_eq!(&words[..], &twin[..]);
        words
    }

    #[test]
    fn buffers_of_any_size_are_aligned_zero_and_writable_also_when_used_again() {
        let pooled = POOLED / 8;
        let huge = HUGE / 8;
        let lens = [0, 1, 7, 8, 1000, pooled - 1, pooled, pooled + 1, huge / 2, huge / 2 + 1, huge];
        for len in lens.into_iter().chain([3 * pooled, huge + 1, 1 << 20]) {
            drop(check(len));
            drop(check(len));
        }
    }

    #[test]
    fn buffers_in_use_together_do_not_touch() {
        let mut held: Vec<Words> = Vec::new();
        for round in 0..40 {
            held.extend([1, 3, 9, 60, 130].map(|blocks| check(blocks * POOLED / 8 / 2)));
            if round % 3 == 0 {
                held.swap_remove(held.len() / 2);
            }
        }
        for (i, words) in held.iter_mut().enumerate() {
            words.fill(i as u64);
        }
        for (i, words) in held.iter().enumerate() {
            assert!(words.iter().all(|&word| word == i as u64), "{i}");
        }
    }

    #[test]
    fn a_block_may_be_given_back_on_another_thread() {
        let words = check(POOLED / 8);
        let thread = std::thread::spawn(move || {
            drop(words);
            drop(check(POOLED / 8));
        });
        thread.join().expect("the thread ends");
    }
}
