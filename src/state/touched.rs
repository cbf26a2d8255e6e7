//! Which slots were touched: a bit a slot, and above it a bit for each 64 words that hold one, so
//! that a scan skips what is empty 4096 slots at a time.
//!
//! 1. A summary bit is set if its word is not 0; words whose summary bit is clear are 0.

/// A set of slots.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    words: Vec<u64>,
    summary: Vec<u64>,
}

impl Touched {
    /// Makes room for slots below `slots`.
    pub fn reserve(&mut self, slots: usize) {
        let words = slots.div_ceil(64);
        if words > self.words.len() {
            let words = words.next_power_of_two().max(64);
            self.words.resize(words, 0);
            self.summary.resize(words.div_ceil(64), 0);
        }
    }

    /// Adds a slot.
    ///
    /// # Panics
    /// If no room was made for it.
    #[inline(always)]
    pub fn set(&mut self, slot: u32) {
        let word = slot as usize / 64;
        self.words[word] |= 1 << (slot % 64);
        self.summary[word / 64] |= 1 << (word % 64);
    }

    /// Whether the slot is in the set.
    #[inline(always)]
    pub fn get(&self, slot: u32) -> bool {
        let word = self.words.get(slot as usize / 64);
        word.is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    /// Takes a slot out.
    pub fn unset(&mut self, slot: u32) {
        let at = slot as usize / 64;
        if let Some(word) = self.words.get_mut(at) {
            *word &= !(1 << (slot % 64));
            if *word == 0 {
                self.summary[at / 64] &= !(1 << (at % 64));
            }
        }
    }

    /// Bits of slots `64 * block..64 * block + 64`.
    #[inline(always)]
    pub fn word(&self, block: usize) -> u64 {
        self.words.get(block).copied().unwrap_or(0)
    }

    /// Adds every slot of another set.
    pub fn union(&mut self, other: &Touched) {
        self.reserve(other.words.len() * 64);
        for (mine, theirs) in self.summary.iter_mut().zip(&other.summary) {
            *mine |= theirs;
        }
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            *mine |= theirs;
        }
    }

    /// Calls `each(block, bits)` for every word that is not 0, in order. O(slots / 4096 + found).
    #[inline(always)]
    pub fn for_each_word(&self, mut each: impl FnMut(usize, u64)) {
        for (i, &summary) in self.summary.iter().enumerate() {
            let mut left = summary;
            while left != 0 {
                let block = i * 64 + left.trailing_zeros() as usize;
                each(block, self.words[block]);
                left &= left - 1;
            }
        }
    }

    /// Calls `each` for every slot, in order.
    pub fn for_each(&self, mut each: impl FnMut(u32)) {
        self.for_each_word(|block, bits| {
            let mut left = bits;
            while left != 0 {
                each((block * 64) as u32 + left.trailing_zeros());
                left &= left - 1;
            }
        });
    }

    /// Whether no slot is in the set.
    pub fn is_empty(&self) -> bool {
        self.summary.iter().all(|&word| word == 0)
    }

    /// Takes every slot out; costs what was touched.
    pub fn clear(&mut self) {
        for (i, summary) in self.summary.iter_mut().enumerate() {
            while *summary != 0 {
                self.words[i * 64 + summary.trailing_zeros() as usize] = 0;
                *summary &= *summary - 1;
            }
        }
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        (self.words.capacity() + self.summary.capacity()) * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(
            steps in proptest::collection::vec((0..3u8, 0..20_000u32), 0..200),
            other in proptest::collection::vec(0..20_000u32, 0..20),
        ) {
            let (mut set, mut model) = (Touched::default(), BTreeSet::new());
            for (step, slot) in steps {
                match step {
                    0 => { set.unset(slot); model.remove(&slot); }
                    _ => { set.reserve(slot as usize + 1); set.set(slot); model.insert(slot); }
                }
                prop_assert_eq!(set.get(slot), model.contains(&slot));
            }
            let mut more = Touched::default();
            more.reserve(20_000);
            other.iter().for_each(|&slot| more.set(slot));
            set.union(&more);
            model.extend(other);
            let mut found = Vec::new();
            set.for_each(|slot| found.push(slot));
            prop_assert_eq!(found, model.iter().copied().collect::<Vec<u32>>());
            prop_assert_eq!(set.is_empty(), model.is_empty());
            set.clear();
            prop_assert!(set.is_empty() && model.iter().all(|&slot| !set.get(slot)));
        }
    }
}
