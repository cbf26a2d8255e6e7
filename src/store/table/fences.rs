//! Where a table's data blocks lie, in memory: for each eight bytes of its last key, and its page.
//!
//! An index block costs a lookup in the cache and a walk over keys of any length; this costs
//! a search in one array of words. Twelve bytes a block are 0.3 % of a table.
//!
//! 1. `heads` never fall, `pages` rise; there is one page more than heads, that where the data end.
//! 2. Keys of one head may be in several blocks: then the index must be asked.

use crate::store::disk::PAGE;
use crate::store::entry::head_of;

/// Memory of one block's fence.
pub const FENCE_BYTES: usize = size_of::<u64>() + size_of::<u32>();

/// What fences say of a key that lies between a table's first and last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fenced {
    /// Position and bytes of the only block that may hold it.
    At(u64, u64),
    /// No block holds it.
    Nowhere,
    /// They cannot tell (invariant 2).
    Unsure,
}

/// The ends of a table's data blocks.
pub struct Fences {
    /// Bytes that all keys of the table begin with.
    skip: usize,
    heads: Vec<u64>,
    pages: Vec<u32>,
}

impl Fences {
    /// Fences of no block yet, for a table whose keys lie between these.
    pub fn new(first: &[u8], last: &[u8]) -> Fences {
        let skip = first.iter().zip(last).take_while(|(a, b)| a == b).count();
        Fences { skip, heads: Vec::new(), pages: vec![0] }
    }

    /// Adds the block that follows the ones so far, from a byte to another, up to a last key; false
    /// if it does not lie there, or too far away for a page's number.
    #[must_use]
    pub fn add(&mut self, last: &[u8], at: u64, end: u64) -> bool {
        let head = self.head(last);
        let is_page = end.is_multiple_of(PAGE as u64) && end > at;
        let page = u32::try_from(end / PAGE as u64);
        let is_in_order = self.heads.last().is_none_or(|&before| before <= head);
        let is_next = is_page && is_in_order && self.end() == at;
        let (Ok(end), true) = (page, is_next) else { return false };
        self.heads.push(head);
        self.pages.push(end);
        true
    }

    /// Where the last block ends.
    pub fn end(&self) -> u64 {
        self.pages.last().map_or(0, |&page| u64::from(page) * PAGE as u64)
    }

    /// Where a key is. O(log blocks).
    #[inline]
    pub fn find(&self, key: &[u8]) -> Fenced {
        let head = self.head(key);
        let i = self.heads.partition_point(|&fence| fence < head);
        match self.heads.get(i) {
            None => Fenced::Nowhere,
            Some(&fence) if fence == head => Fenced::Unsure,
            Some(_) => {
                let page = |i: usize| u64::from(self.pages[i]) * PAGE as u64;
                Fenced::At(page(i), page(i + 1) - page(i))
            }
        }
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        self.heads.capacity() * size_of::<u64>() + self.pages.capacity() * size_of::<u32>()
    }

    /// Gives back what memory was asked for too much.
    pub fn shrink(&mut self) {
        self.heads.shrink_to_fit();
        self.pages.shrink_to_fit();
    }

    /// The eight bytes of a key that tell it from others: a word in the keys' order.
    #[inline]
    fn head(&self, key: &[u8]) -> u64 {
        head_of(key.get(self.skip..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_key_is_in_the_block_that_they_say(
            prefix in "[ab]{0,3}",
            keys in proptest::collection::btree_set("[ab]{0,11}", 2..60),
            wanted in "[ab]{0,11}",
            step in 1..5usize,
        ) {
            let keys: BTreeSet<String> = keys.iter().map(|key| format!("{prefix}{key}")).collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let (first, last) = (keys[0], keys[keys.len() - 1]);
            let mut fences = Fences::new(first.as_bytes(), last.as_bytes());
            let blocks: Vec<&[&str]> = keys.chunks(step).collect();
            for (i, block) in blocks.iter().enumerate() {
                let end = block[block.len() - 1].as_bytes();
                prop_assert!(fences.add(end, i as u64 * 8192, (i as u64 + 1) * 8192));
            }
            let wanted = format!("{prefix}{wanted}");
            let asked = keys.iter().copied().chain([wanted.as_str()]);
            for key in asked.filter(|key| (first..=last).contains(key)) {
                let block = blocks.iter().position(|block| block[block.len() - 1] >= key);
                match fences.find(key.as_bytes()) {
                    Fenced::At(at, len) => {
                        prop_assert_eq!((Some(at as usize / 8192), len), (block, 8192));
                    }
                    Fenced::Nowhere => prop_assert!(false, "the last key has a block"),
                    // Its head is that of some block's last key.
                    Fenced::Unsure => {
                        let is_end = |block: &&[&str]| {
                            let end = block[block.len() - 1].as_bytes();
                            fences.head(end) == fences.head(key.as_bytes())
                        };
                        prop_assert!(blocks.iter().any(is_end));
                    }
                }
            }
        }
    }

    #[test]
    fn blocks_with_a_gap_between_them_are_refused() {
        let mut fences = Fences::new(b"a", b"z");
        assert!(fences.add(b"c", 0, 4096));
        assert!(!fences.add(b"d", 8192, 12288), "a page is left out");
        assert!(!fences.add(b"b", 4096, 8192), "keys fall");
        assert!(!fences.add(b"d", 4096, 1 << 45), "no page has that number");
        assert!(!fences.add(b"d", 4096, 4096) && !fences.add(b"d", 4096, 5000), "no whole page");
        assert!(fences.add(b"d", 4096, 8192));
        assert_eq!(fences.end(), 8192);
        assert_eq!(fences.find(b"cc"), Fenced::At(4096, 4096));
        assert_eq!(fences.find(b"a"), Fenced::At(0, 4096));
        assert_eq!((fences.find(b"c"), fences.find(b"x")), (Fenced::Unsure, Fenced::Nowhere));
    }
}
