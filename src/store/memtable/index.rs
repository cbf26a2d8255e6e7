//! From a key's hash to its record: a table of words, probed line by line.
//!
//! ```text
//! slot = upper half of the hash: 32 bits | spot: 32 bits; 0 where nobody is
//! ```
//!
//! 1. The first slot looked at is the hash's share of the table, so that growing keeps slots in
//!    order and needs no hash but the half that is kept.
//! 2. At most three quarters are taken, so a search ends.

use super::arena::Spot;
use crate::ground::prefetch;
use crate::ground::words::Words;

/// Slots of the smallest table.
const SLOTS_MIN: usize = 64;

/// Where records lie, by hash.
pub(super) struct Index {
    slots: Words,
    /// A half hash shifted by so many bits is a slot.
    shift: u32,
    len: usize,
}

impl Default for Index {
    fn default() -> Index {
        Index::with(SLOTS_MIN)
    }
}

impl Index {
    fn with(slots: usize) -> Index {
        let shift = u32::BITS - slots.ilog2();
        Index { slots: Words::zeroed(slots), shift, len: 0 }
    }

    /// Keys in it.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory held.
    #[inline]
    pub(super) fn memory_bytes(&self) -> usize {
        self.slots.len() * 8
    }

    /// The first spot of this hash that `is_it` takes. O(1).
    #[inline]
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(Spot) -> bool) -> Option<Spot> {
        let half = half(hash);
        let mut at = self.home(half);
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return None;
            }
            if (slot >> 32) as u32 == half && is_it(Spot::of(slot as u32)) {
                return Some(Spot::of(slot as u32));
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// Adds a spot of a key that is not there. O(1) amortised.
    pub(super) fn insert(&mut self, hash: u64, spot: Spot) {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        self.place(u64::from(half(hash)) << 32 | u64::from(spot.number()));
        self.len += 1;
    }

    /// Puts one spot in place of another of the same hash. O(1).
    pub(super) fn replace(&mut self, hash: u64, old: Spot, new: Spot) {
        let wanted = u64::from(half(hash)) << 32 | u64::from(old.number());
        let mut at = self.home(half(hash));
        while self.slots[at] != wanted {
            assert!(self.slots[at] != 0, "the old spot was found a moment ago");
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = u64::from(half(hash)) << 32 | u64::from(new.number());
    }

    /// Asks the processor for the line where a hash's search begins.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        prefetch::read(&self.slots, self.home(half(hash)));
    }

    #[inline]
    fn home(&self, half: u32) -> usize {
        (half >> self.shift) as usize
    }

    fn grow(&mut self) {
        let old = std::mem::replace(self, Index::with(self.slots.len() * 2));
        self.len = old.len;
        old.slots.iter().filter(|slot| **slot != 0).for_each(|slot| self.place(*slot));
    }

    fn place(&mut self, slot: u64) {
        let mut at = self.home((slot >> 32) as u32);
        while self.slots[at] != 0 {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = slot;
    }
}

#[inline]
fn half(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::chance::Chance;
    use std::collections::BTreeMap;

    #[test]
    fn every_hash_leads_to_its_spots() {
        let (mut index, mut model, mut chance) =
            (Index::default(), BTreeMap::new(), Chance::new(1));
        for number in 1..20_000u32 {
            // Some hashes share their upper half, some all of it.
            let hash = chance.bits() >> (number % 3) << (number % 5 * 9) | 1 << 63;
            if let Some(old) = model.insert((hash, number % 2), number) {
                index.replace(hash, Spot::of(old), Spot::of(number));
            } else {
                index.insert(hash, Spot::of(number));
            }
        }
        assert_eq!(index.len(), model.len());
        for (&(hash, parity), &number) in &model {
            index.prefetch(hash);
            assert_eq!(index.find(hash, |spot| spot.number() == number), Some(Spot::of(number)));
            assert_eq!(index.find(hash, |_| false), None);
            assert!(parity < 2);
        }
        assert!(index.memory_bytes() >= index.len() * 8 * 4 / 3);
        assert_eq!(Index::default().find(7, |_| true), None);
    }
}
