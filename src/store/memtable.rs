//! What was written lately, in memory: a hash table to find a key, sorted runs to go in order.
//!
//! Records lie in chunks of an arena and never move; a value that outgrows its room leaves a
//! forwarding mark. Order is made when somebody asks: new keys are sorted into a run, and runs are
//! merged while the last is at least half as long as the one before, so there are few and a key
//! is merged O(log keys) times. Operators that only read points never pay for it.
//!
//! ```text
//! record = key_len: u32 | value_len: u32 | room: u32 | mark: u32 | seq: u64 | expiry_ms: u64
//!        | key | value, and 0 up to room
//! ```
//!
//! 1. The hash table leads to the latest record of a key; older ones are marked as moved, and
//!    their `seq` says where to.
//! 2. Every key is once in the runs or among the new ones.
//! 3. A value of no more bytes than its room is replaced in place.

use std::cell::RefCell;
use std::rc::Rc;

use hashbrown::HashTable;

use super::entry::{Entry, Kind};
use crate::ground::limits::STORE_ARENA_CHUNK_BYTES;

const HEAD: usize = 32;
const VALUE: u32 = 0;
const TOMBSTONE: u32 = 1;
const MOVED: u32 = 2;
/// Up to this many bytes a growing value gets twice the room, beyond it an eighth more.
const ROOM_DOUBLED: usize = 4096;

/// Where a record lies: chunk and byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spot {
    chunk: u32,
    at: u32,
}

struct Slot {
    hash: u64,
    spot: Spot,
}

#[derive(Default)]
struct Arena {
    chunks: Vec<Vec<u8>>,
    /// The chunk that is being filled; larger records have chunks of their own.
    open: usize,
    bytes: usize,
}

#[derive(Default)]
struct Inner {
    arena: Arena,
    slots: HashTable<Slot>,
    /// In the order of keys each.
    runs: Vec<Vec<Spot>>,
    fresh: Vec<Spot>,
}

/// Entries of keys, the latest of each. Shared by those who read it.
#[derive(Default)]
pub struct Memtable {
    inner: RefCell<Inner>,
}

impl Memtable {
    /// Sets a key's entry. `hash` is the key's. O(1); allocates a chunk now and then.
    pub fn put(&self, hash: u64, entry: &Entry<'_>) {
        let Inner { arena, slots, fresh, .. } = &mut *self.inner.borrow_mut();
        let found = slots.find_mut(hash, |slot| {
            slot.hash == hash && arena.record(slot.spot).entry.key == entry.key
        });
        let Some(slot) = found else {
            let spot = arena.append(entry, entry.value.len());
            slots.insert_unique(hash, Slot { hash, spot }, |slot| slot.hash);
            fresh.push(spot);
            return;
        };
        if entry.value.len() <= arena.record(slot.spot).room {
            arena.replace(slot.spot, entry);
            return;
        }
        let moved = arena.append(entry, room_to_grow(entry.value.len()));
        arena.forward(slot.spot, moved);
        slot.spot = moved;
    }

    /// What `read` makes of a key's entry, if it has one. O(1), allocates nothing.
    #[inline]
    pub fn read<T>(&self, hash: u64, key: &[u8], read: impl FnOnce(Entry<'_>) -> T) -> Option<T> {
        let Inner { arena, slots, .. } = &*self.inner.borrow();
        let found =
            slots.find(hash, |slot| slot.hash == hash && arena.record(slot.spot).entry.key == key);
        found.map(|slot| read(arena.record(slot.spot).entry))
    }

    /// Keys that have an entry.
    pub fn len(&self) -> usize {
        self.inner.borrow().slots.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory held, exactly as they were asked of the allocator. O(log keys).
    pub fn memory_bytes(&self) -> usize {
        let inner = self.inner.borrow();
        let runs: usize = inner.runs.iter().map(Vec::capacity).sum();
        let spots = (runs + inner.fresh.capacity()) * size_of::<Spot>();
        let lists = inner.arena.chunks.capacity() * size_of::<Vec<u8>>()
            + inner.runs.capacity() * size_of::<Vec<Spot>>();
        inner.arena.bytes + inner.slots.allocation_size() + spots + lists + size_of::<Memtable>()
    }

    /// A cursor over the keys from `from` on, as they are now; an entry is read when the cursor
    /// comes to it. O(keys behind `from`), and the merging of runs.
    pub fn cursor(self: &Rc<Self>, from: &[u8]) -> MemtableCursor {
        let inner = &mut *self.inner.borrow_mut();
        inner.sort();
        let mut spots: Vec<Spot> = Vec::new();
        for run in &inner.runs {
            let start = run.partition_point(|&spot| inner.arena.record(spot).entry.key < from);
            spots.extend_from_slice(&run[start..]);
        }
        // The sort finds the runs and merges them.
        spots.sort_by(|&a, &b| inner.arena.key(a).cmp(inner.arena.key(b)));
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
        cursor
    }
}

/// Room for a value that has outgrown its own: it is likely to grow again.
fn room_to_grow(len: usize) -> usize {
    if len <= ROOM_DOUBLED { len.next_power_of_two() } else { len + len / 8 }
}

impl Inner {
    /// Makes a run of the new keys, and keeps runs few.
    fn sort(&mut self) {
        let arena = &self.arena;
        let by_key = |a: &Spot, b: &Spot| arena.key(*a).cmp(arena.key(*b));
        if !self.fresh.is_empty() {
            let mut run = std::mem::take(&mut self.fresh);
            run.sort_unstable_by(by_key);
            self.runs.push(run);
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

/// A record's parts.
struct Record<'a> {
    entry: Entry<'a>,
    room: usize,
    moved: Option<Spot>,
}

impl Arena {
    fn append(&mut self, entry: &Entry<'_>, room: usize) -> Spot {
        let bytes = HEAD + entry.key.len() + room;
        let is_large = bytes > STORE_ARENA_CHUNK_BYTES / 4;
        let is_full = self.chunks.get(self.open).is_none_or(|c| c.capacity() - c.len() < bytes);
        if is_large || is_full {
            let size = if is_large { bytes } else { STORE_ARENA_CHUNK_BYTES };
            let chunk = Vec::with_capacity(size);
            self.bytes += chunk.capacity();
            self.chunks.push(chunk);
        }
        let last = self.chunks.len() - 1;
        if !is_large && is_full {
            self.open = last;
        }
        let chunk = if is_large { last } else { self.open };
        let memory = &mut self.chunks[chunk];
        let at = memory.len();
        memory.extend_from_slice(&(entry.key.len() as u32).to_le_bytes());
        memory.extend_from_slice(&[0; 4]);
        memory.extend_from_slice(&(room as u32).to_le_bytes());
        memory.extend_from_slice(&[0; 20]);
        memory.extend_from_slice(entry.key);
        memory.resize(at + bytes, 0);
        let spot = Spot { chunk: chunk as u32, at: at as u32 };
        self.replace(spot, entry);
        spot
    }

    fn replace(&mut self, spot: Spot, entry: &Entry<'_>) {
        let record = &mut self.chunks[spot.chunk as usize][spot.at as usize..];
        let mark = if entry.kind == Kind::Tombstone { TOMBSTONE } else { VALUE };
        record[4..8].copy_from_slice(&(entry.value.len() as u32).to_le_bytes());
        record[12..16].copy_from_slice(&mark.to_le_bytes());
        record[16..24].copy_from_slice(&entry.seq.to_le_bytes());
        record[24..32].copy_from_slice(&entry.expiry_ms.to_le_bytes());
        let value_at = HEAD + entry.key.len();
        record[value_at..value_at + entry.value.len()].copy_from_slice(entry.value);
    }

    fn forward(&mut self, spot: Spot, to: Spot) {
        let record = &mut self.chunks[spot.chunk as usize][spot.at as usize..];
        record[12..16].copy_from_slice(&MOVED.to_le_bytes());
        record[16..20].copy_from_slice(&to.chunk.to_le_bytes());
        record[20..24].copy_from_slice(&to.at.to_le_bytes());
    }

    #[inline]
    fn record(&self, spot: Spot) -> Record<'_> {
        let (head, rest) = self.chunks[spot.chunk as usize][spot.at as usize..].split_at(HEAD);
        let half = |i: usize| u32::from_le_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
        let word = |i: usize| u64::from(half(i)) | u64::from(half(i + 4)) << 32;
        let (key, rest) = rest.split_at(half(0) as usize);
        let kind = if half(12) == TOMBSTONE { Kind::Tombstone } else { Kind::Value };
        let value = &rest[..half(4) as usize];
        let entry = Entry { key, value, seq: word(16), kind, expiry_ms: word(24) };
        let moved = (half(12) == MOVED).then(|| Spot { chunk: half(16), at: half(20) });
        Record { entry, room: half(8) as usize, moved }
    }

    fn key(&self, spot: Spot) -> &[u8] {
        self.record(spot).entry.key
    }

    /// The entry of a key one of whose records lies here.
    fn latest(&self, mut spot: Spot) -> Entry<'_> {
        loop {
            let record = self.record(spot);
            match record.moved {
                Some(moved) => spot = moved,
                None => return record.entry,
            }
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
        let records = 10_000 * (HEAD + 4 + 60);
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
