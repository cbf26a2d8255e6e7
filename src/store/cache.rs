//! Blocks that were read lately, within a bound of bytes.
//!
//! CLOCK with a small count per block (Corbato 1968; counts as in GCLOCK, Smith 1978): a hit is a
//! store of one byte. Scans and compactions read past the cache, so they cannot sweep it. Nor can
//! keys that come once: a full cache takes in only what was asked for twice within about as many
//! misses as it has room for (a ghost list as in 2Q, Johnson and Shasha 1994).
//!
//! 1. `bytes` is the sum over the blocks held, and at most `bytes_max` after every call.

use std::rc::Rc;

use hashbrown::HashTable;

use super::block::Block;
use super::disk::PAGE;

/// Turns of the hand that a block survives without a hit, after many hits.
const COUNT_MAX: u8 = 3;
/// Beside a block: its slot, its place in the table.
const OVERHEAD: usize = size_of::<Slot>() + 16;

/// A block's table and byte in it.
pub type CacheKey = (u64, u64);

struct Slot {
    key: CacheKey,
    block: Option<Rc<Block>>,
    count: u8,
}

/// Blocks by table and position.
pub struct Cache {
    slots: Vec<Slot>,
    by_key: HashTable<u32>,
    /// What was missed lately: the upper half of a hash at a place that the lower half says.
    ghosts: Vec<u32>,
    free: Vec<u32>,
    hand: usize,
    bytes: usize,
    bytes_max: usize,
    hits: u64,
    misses: u64,
}

impl Cache {
    /// An empty cache.
    pub fn new(bytes_max: usize) -> Cache {
        Cache {
            slots: Vec::new(),
            by_key: HashTable::new(),
            ghosts: vec![0; ghosts(bytes_max)],
            free: Vec::new(),
            hand: 0,
            bytes: 0,
            bytes_max,
            hits: 0,
            misses: 0,
        }
    }

    /// A block, if it is here. O(1).
    pub fn get(&mut self, key: CacheKey) -> Option<Rc<Block>> {
        let slots = &mut self.slots;
        let found = self.by_key.find(hash(key), |&slot| slots[slot as usize].key == key);
        let Some(&slot) = found else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        let slot = &mut slots[slot as usize];
        slot.count = (slot.count + 1).min(COUNT_MAX);
        slot.block.clone()
    }

    /// Whether a block of so many bytes that was just read should be taken in: there is room, or it
    /// was missed lately, too. O(1).
    pub fn wants(&mut self, key: CacheKey, bytes: usize) -> bool {
        let bytes = bytes + size_of::<Block>() + OVERHEAD;
        if bytes > self.bytes_max / 8 {
            return false;
        }
        if self.bytes + bytes <= self.bytes_max {
            return true;
        }
        let hash = hash(key);
        let at = hash as usize & (self.ghosts.len() - 1);
        let tag = (hash >> 32) as u32;
        std::mem::replace(&mut self.ghosts[at], tag) == tag
    }

    /// Takes a block in, at the cost of others. One that would take more than an eighth of the
    /// room is not kept. O(1) amortised.
    pub fn insert(&mut self, key: CacheKey, block: Rc<Block>) {
        let bytes = cost(&block);
        let slots = &self.slots;
        let is_here = self.by_key.find(hash(key), |&slot| slots[slot as usize].key == key);
        if bytes > self.bytes_max / 8 || is_here.is_some() {
            return;
        }
        self.shrink(self.bytes_max - bytes);
        let held = Slot { key, block: Some(block), count: 0 };
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        match self.slots.get_mut(slot as usize) {
            Some(free) => *free = held,
            None => self.slots.push(held),
        }
        let slots = &self.slots;
        self.by_key.insert_unique(hash(key), slot, |&slot| hash(slots[slot as usize].key));
        self.bytes += bytes;
        debug_assert!(self.bytes <= self.bytes_max, "cache invariant 1");
    }

    /// Forgets every block of a table that is gone. O(blocks held).
    pub fn forget(&mut self, table: u64) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].block.is_some() && self.slots[slot].key.0 == table {
                self.evict(slot);
            }
        }
    }

    /// Sets the bound.
    pub fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        let ghosts = ghosts(bytes_max);
        if ghosts > self.ghosts.len() {
            // What was remembered is forgotten. A bound that comes and goes does that once.
            self.ghosts.clear();
            self.ghosts.resize(ghosts, 0);
        }
        self.shrink(bytes_max);
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        self.bytes + self.ghosts.len() * size_of::<u32>()
    }

    /// Lookups that found a block, and those that did not.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits, self.misses)
    }

    /// Turns the hand until at most so many bytes are held.
    fn shrink(&mut self, bytes: usize) {
        while self.bytes > bytes {
            self.hand = if self.hand + 1 < self.slots.len() { self.hand + 1 } else { 0 };
            let slot = &mut self.slots[self.hand];
            if slot.block.is_none() {
                continue;
            }
            match slot.count.checked_sub(1) {
                Some(count) => slot.count = count,
                None => self.evict(self.hand),
            }
        }
    }

    fn evict(&mut self, slot: usize) {
        let key = self.slots[slot].key;
        let found = self.by_key.find_entry(hash(key), |&held| held as usize == slot);
        if let Ok(entry) = found {
            entry.remove();
        }
        if let Some(block) = self.slots[slot].block.take() {
            self.bytes -= cost(&block);
            self.free.push(slot as u32);
        }
    }
}

/// How many misses are remembered: as many as there is room for blocks.
fn ghosts(bytes_max: usize) -> usize {
    (bytes_max / PAGE).next_power_of_two()
}

fn cost(block: &Block) -> usize {
    block.memory_bytes() + OVERHEAD
}

fn hash((table, at): CacheKey) -> u64 {
    let mixed =
        (table.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ at).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::block::BlockBuilder;
    use crate::store::chance::Chance;
    use crate::store::entry::{Entry, Kind, NEVER};

    fn block(key: CacheKey, len: usize) -> Rc<Block> {
        let mut builder = BlockBuilder::default();
        let (key, value) = ([key.0 as u8, key.1 as u8], vec![0; len]);
        let entry = Entry { key: &key, value: &value, seq: 1, kind: Kind::Value, expiry_ms: NEVER };
        builder.add(&entry);
        Rc::new(Block::new(builder.finish().to_vec()).unwrap())
    }

    #[test]
    fn it_holds_what_it_was_given_within_its_bound() {
        let (mut cache, mut chance) = (Cache::new(20_000), Chance::new(1));
        for step in 0..20_000 {
            let key = (chance.below(4) as u64, chance.below(60) as u64);
            match cache.get(key) {
                Some(block) => assert_eq!(block.entry(0).key, [key.0 as u8, key.1 as u8]),
                None => cache.insert(key, block(key, chance.below(2000))),
            }
            if step % 3000 == 0 {
                cache.forget(key.0);
                assert!(cache.get(key).is_none());
            }
            if step % 1000 == 0 {
                cache.set_bytes_max(10_000 + step);
            }
            let held: usize =
                cache.slots.iter().flat_map(|slot| &slot.block).map(|b| cost(b)).sum();
            assert_eq!(cache.bytes, held);
            assert!(held <= cache.bytes_max);
        }
        let (hits, misses) = cache.hits_and_misses();
        assert!(hits > 1000 && misses > 1000, "{hits} {misses}");
        cache.set_bytes_max(0);
        assert_eq!(cache.bytes, 0);
        cache.insert((1, 1), block((1, 1), 1));
        assert!(cache.get((1, 1)).is_none(), "there is no room");
    }

    #[test]
    fn what_is_asked_for_often_stays() {
        let mut cache = Cache::new(20_000);
        cache.insert((0, 0), block((0, 0), 100));
        for at in 1..500 {
            assert!(cache.get((0, 0)).is_some());
            cache.insert((1, at), block((1, at), 1000));
        }
    }
    #[test]
    fn a_full_cache_wants_what_is_missed_twice() {
        let mut cache = Cache::new(20 * PAGE);
        let mut at = 0;
        while cache.wants((0, at), 4000) {
            cache.insert((0, at), block((0, at), 4000));
            at += 1;
        }
        assert!((15..20).contains(&at), "room for {at} blocks");
        // What was refused just now is wanted when it comes again, and what came once is not.
        assert!(cache.wants((0, at), 4000));
        let once = (1000..11_000).filter(|&at| cache.wants((1, at), 4000)).count();
        assert!(once < 10, "{once} of 10,000 wanted at their first miss");
        let twice = (0..1000).filter(|&at| {
            cache.wants((2, at), 4000);
            cache.wants((2, at), 4000)
        });
        assert_eq!(twice.count(), 1000);
    }
}
