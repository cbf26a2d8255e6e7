//! The words of prefixes of several strict patterns over the same keys, side by side: a row that
//! goes through all of them touches one cache line, not one a pattern.
//!
//! 1. The word of a key's slot in lane l is `words[slot * lanes + l]`.
//! 2. Whoever works on a batch takes the words out and puts them back when it is done; nothing else
//!    runs between.

use std::cell::RefCell;
use std::rc::Rc;

use crate::ground::prefetch;
use crate::ground::words::Words;

/// Patterns that share words: a cache line of them.
pub const LANES_MAX: usize = 8;

/// One pattern's place in the words.
#[derive(Clone)]
pub struct Lane {
    shared: Rc<RefCell<Words>>,
    lanes: usize,
    lane: usize,
}

impl Lane {
    /// Lanes for so many patterns over the keys of one shard, [`LANES_MAX`] of them together.
    pub fn side_by_side(patterns: usize) -> Vec<Lane> {
        let mut made = Vec::with_capacity(patterns);
        while made.len() < patterns {
            let together = (patterns - made.len()).min(LANES_MAX);
            let shared = Rc::new(RefCell::new(Words::zeroed(0)));
            let lanes = together.next_power_of_two();
            made.extend((0..together).map(|lane| Lane { shared: shared.clone(), lanes, lane }));
        }
        made
    }

    /// Takes the words out, with room for slots below `slots`.
    pub fn take(&self, slots: usize) -> Taken {
        let mut words = self.shared.replace(Words::zeroed(0));
        if words.len() < slots * self.lanes {
            words = words.grown(slots.next_power_of_two().max(1024) * self.lanes);
        }
        Taken { words, shift: self.lanes.trailing_zeros(), lane: self.lane }
    }

    /// Puts them back.
    pub fn put_back(&self, taken: Taken) {
        self.shared.replace(taken.words);
    }

    /// A key's word, 0 where there never was one.
    pub fn word(&self, slot: u32) -> u64 {
        let place = slot as usize * self.lanes + self.lane;
        self.shared.borrow().get(place).copied().unwrap_or(0)
    }

    /// Bytes of memory held, this lane's part.
    pub fn memory_bytes(&self) -> usize {
        self.shared.borrow().len() * 8 / self.lanes
    }
}

/// The words while somebody works on them.
pub struct Taken {
    words: Words,
    shift: u32,
    lane: usize,
}

impl Taken {
    /// No words.
    pub fn none() -> Taken {
        Taken { words: Words::zeroed(0), shift: 0, lane: 0 }
    }

    #[inline(always)]
    fn place(&self, slot: u32) -> usize {
        ((slot as usize) << self.shift) + self.lane
    }

    /// A key's word.
    ///
    /// # Panics
    /// If no room was made for the slot.
    #[inline(always)]
    pub fn get(&self, slot: u32) -> u64 {
        self.words[self.place(slot)]
    }

    /// Sets a key's word.
    ///
    /// # Panics
    /// As [`Taken::get`].
    #[inline(always)]
    pub fn set(&mut self, slot: u32, word: u64) {
        let place = self.place(slot);
        self.words[place] = word;
    }

    /// Asks for a key's word ahead of its use.
    #[inline(always)]
    pub fn prefetch(&self, slot: u32) {
        prefetch::read(&self.words, self.place(slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_do_not_touch_and_grow_together() {
        let lanes = Lane::side_by_side(11);
        assert_eq!(lanes[7].lanes, 8);
        assert_eq!(lanes[8].lanes, 4);
        for (at, slots) in [1usize, 5000, 70_000].into_iter().enumerate() {
            for (i, lane) in lanes.iter().enumerate() {
                let mut taken = lane.take(slots);
                taken.set(slots as u32 - 1, (at * 100 + i) as u64);
                lane.put_back(taken);
            }
        }
        for (i, lane) in lanes.iter().enumerate() {
            let words = [0, 4999, 69_999, 1 << 30].map(|slot| lane.word(slot));
            assert_eq!(words, [i as u64, 100 + i as u64, 200 + i as u64, 0]);
        }
    }
}
