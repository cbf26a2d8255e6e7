//! Which slots are in memory, and how they stand to what was written of them: by the checkpoint,
//! and by the store beneath.
//!
//! 1. A slot with a key has [`LIVE`]; one without has no mark at all.
//! 2. [`DIRTY`]: it changed since a checkpoint last took it. [`STALE`]: it changed since the store
//!    last had it, so it must be written before it may go.
//! 3. Held slots are named by rows under way and never go.
//! 4. Nothing is marked until [`Residence::begin`]: a run that keeps nothing pays nothing.

use super::touched::Touched;

/// The slot has a key.
pub const LIVE: u8 = 1;
/// See invariant 2.
pub const DIRTY: u8 = 2;
/// See invariant 2.
pub const STALE: u8 = 4;
/// It was touched since the clock last passed it.
const RECENT: u8 = 8;
/// See invariant 3.
const HELD: u8 = 16;
/// The store beneath may have an older record of the key.
pub const STORED: u8 = 32;

/// Marks of the slots of one key table.
#[derive(Debug, Default)]
pub struct Residence {
    marks: Vec<u8>,
    is_on: bool,
    /// Where the clock stands (second chance: Corbato 1968).
    hand: usize,
}

impl Residence {
    /// Marks slots from now on. Those below `slots` are taken for changed.
    pub fn begin(&mut self, slots: usize) {
        if !std::mem::replace(&mut self.is_on, true) {
            self.marks = vec![LIVE | DIRTY | STALE | RECENT; slots];
        }
    }

    /// Whether slots are marked.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Notes that slots, all below `limit`, changed. About a nanosecond each.
    ///
    /// # Panics
    /// If a slot is not below `limit`.
    #[inline(always)]
    pub fn touch(&mut self, slots: &[u32], limit: usize) {
        if !self.is_on {
            return;
        }
        self.reserve(limit);
        for &slot in slots {
            self.marks[slot as usize] |= LIVE | DIRTY | STALE | RECENT;
        }
    }

    #[inline(always)]
    fn reserve(&mut self, limit: usize) {
        if limit > self.marks.len() {
            self.marks.resize(limit.next_power_of_two(), 0);
        }
    }

    /// Whether a slot has all of some marks.
    pub fn has(&self, slot: u32, marks: u8) -> bool {
        self.marks.get(slot as usize).is_some_and(|own| own & marks == marks)
    }

    /// Sets marks of a slot.
    pub fn set(&mut self, slot: u32, marks: u8) {
        self.reserve(slot as usize + 1);
        self.marks[slot as usize] |= marks;
    }

    /// Takes marks of a slot away.
    pub fn unset(&mut self, slot: u32, marks: u8) {
        if let Some(own) = self.marks.get_mut(slot as usize) {
            *own &= !marks;
        }
    }

    /// Forgets a slot, whose key was released.
    pub fn release(&mut self, slot: u32) {
        if let Some(own) = self.marks.get_mut(slot as usize) {
            *own = 0;
        }
    }

    /// Holds slots of rows that are under way.
    pub fn hold(&mut self, slots: &[u32], limit: usize) {
        self.reserve(limit);
        slots.iter().for_each(|&slot| self.marks[slot as usize] |= LIVE | RECENT | HELD);
    }

    /// Lets held slots go.
    pub fn let_go(&mut self, slots: &[u32]) {
        slots.iter().for_each(|&slot| self.unset(slot, HELD));
    }

    /// Slots that changed since the last call, or all that have a key if `all`. Replaces what
    /// `out` holds. O(slots).
    pub fn take_changed(&mut self, all: bool, out: &mut Vec<u32>) {
        out.clear();
        let wanted = if all { LIVE } else { DIRTY };
        for (slot, own) in self.marks.iter_mut().enumerate() {
            if *own & wanted != 0 {
                *own &= !DIRTY;
                out.push(slot as u32);
            }
        }
    }

    /// Up to `count` slots that were not touched lately and may go: neither held nor in `pinned`.
    /// Replaces what `out` holds. The clock goes round twice at most.
    pub fn victims(&mut self, count: usize, pinned: &Touched, out: &mut Vec<u32>) {
        out.clear();
        for _ in 0..self.marks.len() * 2 {
            if out.len() >= count {
                break;
            }
            let slot = self.hand;
            self.hand = (slot + 1) % self.marks.len();
            let own = &mut self.marks[slot];
            if *own & LIVE == 0 || *own & HELD != 0 || pinned.get(slot as u32) {
                continue;
            }
            if *own & RECENT != 0 {
                *own &= !RECENT;
                continue;
            }
            // It stays out of a second round.
            *own |= RECENT;
            out.push(slot as u32);
        }
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        self.marks.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_taken_once_and_all_that_live_when_asked() {
        let mut residence = Residence::default();
        residence.touch(&[3], 4);
        let mut out = Vec::new();
        residence.take_changed(true, &mut out);
        assert!(out.is_empty(), "nothing is marked before it begins");
        residence.begin(2);
        residence.take_changed(false, &mut out);
        assert_eq!(out, [0, 1]);
        residence.touch(&[5, 1, 5], 6);
        residence.take_changed(false, &mut out);
        assert_eq!(out, [1, 5]);
        residence.take_changed(false, &mut out);
        assert!(out.is_empty());
        residence.release(1);
        residence.take_changed(true, &mut out);
        assert_eq!(out, [0, 5]);
    }

    #[test]
    fn victims_are_old_and_neither_held_nor_pinned() {
        let mut residence = Residence::default();
        residence.begin(8);
        let (mut out, mut pinned) = (Vec::new(), Touched::default());
        pinned.reserve(8);
        pinned.set(2);
        residence.hold(&[4], 8);
        residence.victims(3, &pinned, &mut out);
        assert_eq!(out, [0, 1, 3]);
        out.iter().for_each(|&slot| residence.release(slot));
        residence.touch(&[5], 8);
        let first = out.clone();
        residence.victims(8, &pinned, &mut out);
        assert!(out.iter().all(|slot| !first.contains(slot)) && out.contains(&6));
        assert!(!out.contains(&2) && !out.contains(&4));
        residence.let_go(&[4]);
        out.iter().for_each(|&slot| residence.release(slot));
        residence.victims(8, &pinned, &mut out);
        assert_eq!(out, [4], "the pinned one stays for ever");
    }
}
