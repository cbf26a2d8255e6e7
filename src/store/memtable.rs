//! What was written lately, in memory: a hash table to find a key, sorted runs to go in order.
//!
//! Records lie in chunks of an arena and never move; a value that outgrows its room leaves a
//! forwarding mark. Order is made when somebody asks: new keys are sorted into a run, and runs are
//! merged while the last is at least half as long as the one before, so there are few and a key
//! is merged O(log keys) times. Operators that only read points never pay for it.
//!
//! 1. The hash table leads to the latest record of a key; older ones are marked as moved, and
//!    say where to.
//! 2. Every key is once in the runs or among the new ones.
//! 3. A value of no more bytes than its room is replaced in place.

mod arena;
mod index;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::entry::{Entry, Kind, head_of};
use crate::ground::limits::STORE_ARENA_CHUNK_BYTES;
use arena::{Arena, Spot};
use index::Index;

/// Up to this many bytes a growing value gets twice the room, beyond it an eighth more.
const ROOM_DOUBLED: usize = 4096;

struct Inner {
    arena: Arena,
    index: Index,
    /// In the order of keys each.
    runs: Vec<Vec<Spot>>,
    fresh: Vec<Spot>,
}

/// Entries of keys, the latest of each. Shared by those who read it.
pub struct Memtable {
    inner: RefCell<Inner>,
    /// Kept up to date by every call that changes anything.
    bytes: Cell<usize>,
}

impl Default for Memtable {
    fn default() -> Memtable {
        Memtable::new(STORE_ARENA_CHUNK_BYTES)
    }
}

impl Memtable {
    /// An empty one that asks the allocator for so many bytes at a time: a power of two.
    pub fn new(chunk_bytes: usize) -> Memtable {
        let arena = Arena::new(chunk_bytes);
        let inner = Inner { arena, index: Index::default(), runs: Vec::new(), fresh: Vec::new() };
        let bytes = Cell::new(inner.bytes());
        Memtable { inner: RefCell::new(inner), bytes }
    }

    /// Sets a key's entry. `hash` is the key's. O(1); allocates a chunk now and then.
    pub fn put(&self, hash: u64, entry: &Entry<'_>) {
        let inner = &mut *self.inner.borrow_mut();
        let Inner { arena, index, fresh, .. } = inner;
        let Some(spot) = index.find(hash, |spot| arena.has_key(spot, entry.key)) else {
            let spot = arena.append(entry, entry.value.len());
            index.insert(hash, spot);
            fresh.push(spot);
            self.bytes.set(inner.bytes());
            return;
        };
        if entry.value.len() <= arena.room(spot) {
            arena.replace(spot, entry);
            return;
        }
        let moved = arena.append(entry, room_to_grow(entry.value.len()));
        arena.forward(spot, moved);
        index.replace(hash, spot, moved);
        self.bytes.set(inner.bytes());
    }

    /// What `read` makes of a key's entry, if it has one. O(1), allocates nothing.
    #[inline]
    pub fn read<T>(&self, hash: u64, key: &[u8], read: impl FnOnce(Entry<'_>) -> T) -> Option<T> {
        let Inner { arena, index, .. } = &*self.inner.borrow();
        let spot = index.find(hash, |spot| arena.has_key(spot, key))?;
        Some(read(arena.entry(spot)))
    }

    /// Lets `change` change the bytes of a key's value where they lie, as entry number `seq`;
    /// false if the key has no value at that moment; `None` if it has no entry. O(1), allocates
    /// nothing.
    #[inline]
    pub fn update(
        &self,
        hash: u64,
        key: &[u8],
        seq: u64,
        now_ms: u64,
        change: impl FnOnce(&mut [u8]),
    ) -> Option<bool> {
        let Inner { arena, index, .. } = &mut *self.inner.borrow_mut();
        let spot = index.find(hash, |spot| arena.has_key(spot, key))?;
        Some(arena.update(spot, seq, now_ms, change))
    }

    /// Asks the processor for the part of the hash table where this hash is. O(1).
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.inner.borrow().index.prefetch(hash);
    }

    /// Asks the processor for the record that this hash probably leads to. O(1).
    #[inline]
    pub fn prefetch_record(&self, hash: u64) {
        let inner = self.inner.borrow();
        if let Some(spot) = inner.index.find(hash, |_| true) {
            inner.arena.prefetch(spot);
        }
    }

    /// Takes over what another one says, as newer. O(its keys).
    pub fn absorb(&self, newer: &Memtable, hash_of: impl Fn(&[u8]) -> u64) {
        let newer = newer.inner.borrow();
        for &spot in newer.runs.iter().flatten().chain(&newer.fresh) {
            let entry = newer.arena.latest(spot);
            self.put(hash_of(entry.key), &entry);
        }
    }

    /// Keys that have an entry.
    pub fn len(&self) -> usize {
        self.inner.borrow().index.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory held: what was filled of chunks, tables, lists. O(1).
    #[inline]
    pub fn memory_bytes(&self) -> usize {
        self.bytes.get()
    }

    /// A cursor over the keys from `from` on, as they are now; an entry is read when the cursor
    /// comes to it. O(keys behind `from`), and the merging of runs.
    pub fn cursor(self: &Rc<Self>, from: &[u8]) -> MemtableCursor {
        let inner = &mut *self.inner.borrow_mut();
        inner.sort();
        let mut spots: Vec<Spot> = Vec::new();
        for run in &inner.runs {
            let start = run.partition_point(|&spot| inner.arena.key(spot) < from);
            spots.extend_from_slice(&run[start..]);
        }
        if inner.runs.len() > 1 {
            // The sort finds the runs and merges them.
            spots.sort_by(|&a, &b| inner.arena.key(a).cmp(inner.arena.key(b)));
        }
        let mut cursor = MemtableCursor {
            memtable: self.clone(),
            spots,
            i: 0,
            bytes: Vec::new(),
            key_len: 0,
            seq: 0,
            kind: Kind::Value,
            expiry_ms: 0,
        };
        cursor.copy(&inner.arena);
        self.bytes.set(inner.bytes());
        cursor
    }
}

/// Room for a value that has outgrown its own: it is likely to grow again.
fn room_to_grow(len: usize) -> usize {
    if len <= ROOM_DOUBLED { len.next_power_of_two() } else { len + len / 8 }
}

fn spots_bytes(spots: &Vec<Spot>) -> usize {
    spots.capacity() * size_of::<Spot>()
}

impl Inner {
    fn bytes(&self) -> usize {
        let lists = self.runs.capacity() * size_of::<Vec<Spot>>();
        let runs: usize = self.runs.iter().map(spots_bytes).sum();
        let held = self.arena.memory_bytes() + self.index.memory_bytes();
        held + lists + runs + spots_bytes(&self.fresh) + size_of::<Memtable>()
    }

    /// Makes a run of the new keys, and keeps runs few.
    fn sort(&mut self) {
        let arena = &self.arena;
        let by_key = |a: &Spot, b: &Spot| arena.key(*a).cmp(arena.key(*b));
        if !self.fresh.is_empty() {
            // Most keys differ in their first bytes, and these lie where they are sorted.
            let headed = |&spot: &Spot| (head_of(arena.key(spot)), spot);
            let mut run: Vec<(u64, Spot)> = self.fresh.iter().map(headed).collect();
            run.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| by_key(&a.1, &b.1)));
            self.fresh = Vec::new();
            self.runs.push(run.into_iter().map(|(_, spot)| spot).collect());
        }
        while let [.., before, last] = self.runs.as_mut_slice() {
            if last.len() * 2 < before.len() {
                break;
            }
            before.append(last);
            before.sort_by(by_key);
            self.runs.pop();
        }
    }
}

/// A place among a memtable's keys.
pub struct MemtableCursor {
    memtable: Rc<Memtable>,
    spots: Vec<Spot>,
    i: usize,
    /// Key and value of the entry here: the memtable may change meanwhile.
    bytes: Vec<u8>,
    key_len: usize,
    seq: u64,
    kind: Kind,
    expiry_ms: u64,
}

impl MemtableCursor {
    /// The entry here; `None` behind the last.
    pub fn entry(&self) -> Option<Entry<'_>> {
        if self.i >= self.spots.len() {
            return None;
        }
        let (key, value) = self.bytes.split_at(self.key_len);
        let (seq, kind, expiry_ms) = (self.seq, self.kind, self.expiry_ms);
        Some(Entry { key, value, seq, kind, expiry_ms })
    }

    /// Goes to the next entry.
    pub fn next(&mut self) {
        self.i += 1;
        let memtable = self.memtable.clone();
        self.copy(&memtable.inner.borrow().arena);
    }

    fn copy(&mut self, arena: &Arena) {
        let Some(&spot) = self.spots.get(self.i) else { return };
        let entry = arena.latest(spot);
        self.bytes.clear();
        self.bytes.extend_from_slice(entry.key);
        self.bytes.extend_from_slice(entry.value);
        self.key_len = entry.key.len();
        (self.seq, self.kind, self.expiry_ms) = (entry.seq, entry.kind, entry.expiry_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::entry::NEVER;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use xxhash_rust::xxh3::xxh3_64;

    fn entry<'a>(key: &'a [u8], value: &'a [u8], seq: u64) -> Entry<'a> {
        let kind = if value.first() == Some(&0) { Kind::Tombstone } else { Kind::Value };
        Entry { key, value, seq, kind, expiry_ms: NEVER - seq }
    }

    proptest! {
        #[test]
        fn it_is_a_map_in_order(
            steps in proptest::collection::vec(
                (proptest::collection::vec(0..5u8, 0..5),
                 proptest::collection::vec(any::<u8>(), 0..40), 0..12u8), 0..300),
        ) {
            let (memtable, mut model) = (Rc::new(Memtable::default()), BTreeMap::new());
            for (seq, (key, value, step)) in steps.iter().enumerate() {
                let seq = seq as u64;
                memtable.put(xxh3_64(key), &entry(key, value, seq));
                model.insert(key.clone(), (value, seq));
                if *step == 0 {
                    let mut cursor = memtable.cursor(key);
                    for (key, (value, seq)) in model.range(key.clone()..) {
                        prop_assert_eq!(cursor.entry(), Some(entry(key, value, *seq)));
                        cursor.next();
                    }
                    prop_assert_eq!(cursor.entry(), None);
                }
            }
            prop_assert_eq!(memtable.len(), model.len());
            for (key, (value, seq)) in &model {
                let found = memtable.read(xxh3_64(key), key, |found| found == entry(key, value, *seq));
                prop_assert_eq!(found, Some(true));
            }
            prop_assert_eq!(memtable.read(xxh3_64(b"no"), b"no", |_| ()), None);
        }
    }

    #[test]
    fn values_of_one_size_are_replaced_in_place_and_bytes_are_exact() {
        let memtable = Memtable::default();
        let before = memtable.memory_bytes();
        let put = |i: u32, value: &[u8]| {
            let key = i.to_le_bytes();
            memtable.put(xxh3_64(&key), &entry(&key, value, 1));
        };
        (0..10_000).for_each(|i| put(i, &[1; 60]));
        let filled = memtable.memory_bytes();
        let records = 10_000 * (32 + 4 + 60);
        assert!(filled - before >= records && filled - before < records * 8 / 5, "{filled}");
        (0..10_000).for_each(|i| put(i, &[2; 60]));
        assert_eq!(memtable.memory_bytes(), filled, "memtable invariant 3");
        // One large value takes what it needs, an eighth to grow, and not a chunk more.
        put(0, &[3; 1 << 20]);
        let grown = memtable.memory_bytes() - filled;
        assert!(((1 << 20)..(1 << 20) * 9 / 8 + 4096).contains(&grown), "{grown}");
        put(20_000, &[1; 60]);
        assert!(memtable.memory_bytes() - filled - grown <= STORE_ARENA_CHUNK_BYTES + 400_000);
    }
}
