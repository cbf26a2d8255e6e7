//! The places of a key table: open addressing, for [`super::KeyTable`] to probe.

use super::NO_SLOT;
use crate::ground::prefetch;
use crate::ground::words::Words;

/// A key's word and slot.
#[derive(Clone, Copy)]
pub struct Entry {
    pub word: u64,
    pub slot: u32,
}

/// No key.
pub const EMPTY: Entry = Entry { word: 0, slot: NO_SLOT };

/// The places: two words an entry, the slot plus one in the second, so that 0 is empty.
pub struct Entries {
    words: Words,
    /// Entries, less one.
    mask: usize,
}

impl Entries {
    /// So many empty entries, a power of two.
    pub fn empty(len: usize) -> Entries {
        Entries { words: Words::zeroed(len * 2), mask: len - 1 }
    }

    /// Places, taken or not.
    pub fn len(&self) -> usize {
        self.mask + 1
    }

    /// The entry at a place, counted round the table.
    #[inline(always)]
    pub fn get(&self, at: usize) -> Entry {
        let pair = &self.words[(at & self.mask) * 2..][..2];
        Entry { word: pair[0], slot: (pair[1] as u32).wrapping_sub(1) }
    }

    /// Sets the entry at a place, counted round the table.
    #[inline(always)]
    pub fn set(&mut self, at: usize, entry: Entry) {
        let pair = &mut self.words[(at & self.mask) * 2..][..2];
        (pair[0], pair[1]) = (entry.word, u64::from(entry.slot.wrapping_add(1)));
    }

    /// Asks for a place ahead of its use.
    #[inline(always)]
    pub fn prefetch(&self, at: usize) {
        prefetch::read(&self.words, (at & self.mask) * 2);
    }

    /// All entries, the empty ones too.
    pub fn iter(&self) -> impl Iterator<Item = Entry> {
        (0..self.len()).map(|at| self.get(at))
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        self.words.len() * 8
    }
}
