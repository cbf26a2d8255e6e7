//! Keys of a shard and their dense slots: hashed once, at ingest, for all operators behind.
//!
//! Open addressing with linear probing over 16-byte entries {word, slot}; the key's values lie row
//! by row in slot order, as in a record batch, so that they can be put out and saved as they are.
//!
//! 1. An entry's word is the key itself where a key is one column that needs no heap, else the
//!    key's hash, and the row decides.
//! 2. The entry of a key is reached from its home (the low bits of its hash; the high ones chose
//!    the shard) without passing an empty entry: releasing a key moves later entries back.
//! 3. Slots are below [`KeyTable::len`]; a released slot is given to a later key.

mod entries;
#[cfg(test)]
mod tests;

use thiserror::Error;

use crate::ground::batch::RecordBatch;
use crate::ground::key::{hash_next, hash_text, hash_word};
use crate::ground::limits::KEYS_MAX;
use crate::ground::schema::DataType;
use crate::ground::slot;
use entries::{EMPTY, Entries, Entry};

/// Rows by which a table entry is asked for before it is read.
const AHEAD: usize = 48;
/// Stands for NULL in a hash; a key that has this word as a value is told apart by its null bits.
const NULL_WORD: u64 = 0x6E75_6C6C_6E75_6C6C;
/// Stands for no slot in what [`KeyTable::find`] gives.
pub const NO_SLOT: u32 = u32::MAX;
const SMALLEST: usize = 1024;
/// Dead bytes of released long texts that are worth a compaction.
const HEAP_WASTE: usize = 1 << 20;

/// The shard holds as many keys as it may.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("more than {limit} keys on one shard")]
pub struct KeysFull {
    pub limit: usize,
}

/// The keys of one stage on one shard. NULL is a key value like any other, as in GROUP BY.
pub struct KeyTable {
    heaped: Vec<bool>,
    null_words: usize,
    /// One column that needs no heap (invariant 1).
    direct: bool,
    /// A power of two, at most 5/8 full.
    entries: Entries,
    /// Slot of the NULL key of a direct table.
    null_slot: u32,
    rows: Vec<u64>,
    nulls: Vec<u64>,
    heap: Vec<u8>,
    heap_dead: usize,
    free: Vec<u32>,
    live: usize,
    limit: usize,
    has_nulls: bool,
    /// Slots given to new keys, where somebody asked for them.
    fresh: Option<Vec<u32>>,
}

impl KeyTable {
    /// A table for keys of these columns' types.
    ///
    /// # Panics
    /// If there is no column.
    pub fn new(types: &[DataType]) -> KeyTable {
        KeyTable::with_limit(types, KEYS_MAX)
    }

    /// A table that refuses more than `limit` keys.
    ///
    /// # Panics
    /// As [`KeyTable::new`].
    pub fn with_limit(types: &[DataType], limit: usize) -> KeyTable {
        assert!(!types.is_empty(), "a key has columns");
        KeyTable {
            heaped: types.iter().map(DataType::is_heaped).collect(),
            null_words: types.len().div_ceil(64),
            direct: types.len() == 1 && !types[0].is_heaped(),
            entries: Entries::empty(SMALLEST),
            null_slot: NO_SLOT,
            rows: Vec::new(),
            nulls: Vec::new(),
            heap: Vec::new(),
            heap_dead: 0,
            free: Vec::new(),
            live: 0,
            limit: limit.min(KEYS_MAX),
            has_nulls: false,
            fresh: None,
        }
    }

    /// Hash of each selected row's key: what routes a row to its shard and finds its slot there.
    /// `columns` are the key's columns in `batch`, `types` their types. Replaces what `out` holds.
    pub fn hash(
        batch: &RecordBatch,
        select: &[u32],
        columns: &[usize],
        types: &[DataType],
        out: &mut Vec<u64>,
    ) {
        out.clear();
        let (slots, width) = (batch.slots(), batch.width());
        for (place, (&column, data_type)) in columns.iter().zip(types).enumerate() {
            let heaped = data_type.is_heaped() && !batch.heap().is_empty();
            let word_of = |row: usize| {
                let word = slots[row * width + column];
                if heaped && slot::is_heaped(word) {
                    hash_text(slot::bytes(&word, batch.heap()))
                } else {
                    word
                }
            };
            let with_null = |row: usize| {
                if batch.is_null(row, column) { NULL_WORD } else { word_of(row) }
            };
            match (place, batch.has_nulls()) {
                (0, false) => out.extend(select.iter().map(|&r| hash_word(word_of(r as usize)))),
                (0, true) => out.extend(select.iter().map(|&r| hash_word(with_null(r as usize)))),
                (_, _) => {
                    for (hash, &r) in out.iter_mut().zip(select) {
                        *hash = hash_next(*hash, with_null(r as usize));
                    }
                }
            }
        }
    }

    /// Slot of each selected row's key, given its hash by [`KeyTable::hash`]; new keys get a
    /// slot. Replaces what `out` holds. About 10 ns a row with 100,000 keys.
    ///
    /// # Errors
    /// [`KeysFull`] at the limit; the rows before have their slots.
    pub fn resolve(
        &mut self,
        batch: &RecordBatch,
        select: &[u32],
        columns: &[usize],
        hashes: &[u64],
        out: &mut Vec<u32>,
    ) -> Result<(), KeysFull> {
        assert_eq!(select.len(), hashes.len(), "a hash for every row");
        assert_eq!(columns.len(), self.heaped.len(), "the key's columns");
        out.clear();
        out.reserve(select.len());
        if self.direct {
            self.resolve_direct(batch, select, columns[0], hashes, out)
        } else {
            self.resolve_rows(batch, select, columns, hashes, out)
        }
    }

    /// Slot of each selected row's key, given its hash, or [`NO_SLOT`] where the key was never
    /// resolved. Replaces what `out` holds. About 7 ns a row with 100,000 keys.
    pub fn find(
        &self,
        batch: &RecordBatch,
        select: &[u32],
        columns: &[usize],
        hashes: &[u64],
        out: &mut Vec<u32>,
    ) {
        assert_eq!(select.len(), hashes.len(), "a hash for every row");
        assert_eq!(columns.len(), self.heaped.len(), "the key's columns");
        out.clear();
        let (slots, width) = (batch.slots(), batch.width());
        for (i, (&row, &hash)) in select.iter().zip(hashes).enumerate() {
            if let Some(&ahead) = hashes.get(i + AHEAD) {
                self.entries.prefetch(ahead as usize);
            }
            let row = row as usize;
            if self.direct && batch.is_null(row, columns[0]) {
                out.push(self.null_slot);
                continue;
            }
            let word = if self.direct { slots[row * width + columns[0]] } else { hash };
            let mut at = hash as usize;
            let found = loop {
                let entry = self.entries.get(at);
                let is_key = || self.direct || self.is_row(entry.slot, batch, row, columns);
                if entry.slot == NO_SLOT || entry.word == word && is_key() {
                    break entry.slot;
                }
                at = at.wrapping_add(1);
            };
            out.push(found);
        }
    }

    fn resolve_direct(
        &mut self,
        batch: &RecordBatch,
        select: &[u32],
        column: usize,
        hashes: &[u64],
        out: &mut Vec<u32>,
    ) -> Result<(), KeysFull> {
        let (slots, width, nulls) = (batch.slots(), batch.width(), batch.has_nulls());
        for (i, (&row, &hash)) in select.iter().zip(hashes).enumerate() {
            if let Some(&ahead) = hashes.get(i + AHEAD) {
                self.entries.prefetch(ahead as usize);
            }
            if nulls && batch.is_null(row as usize, column) {
                out.push(self.null_key()?);
                continue;
            }
            let word = slots[row as usize * width + column];
            let mut at = hash as usize;
            let found = loop {
                let entry = self.entries.get(at);
                if entry.word == word && entry.slot != NO_SLOT {
                    break entry.slot;
                }
                if entry.slot == NO_SLOT {
                    break self.insert(at, word, |keys, slot| {
                        keys.rows[slot] = word;
                    })?;
                }
                at = at.wrapping_add(1);
            };
            out.push(found);
        }
        Ok(())
    }

    #[cold]
    fn null_key(&mut self) -> Result<u32, KeysFull> {
        if self.null_slot == NO_SLOT {
            let slot = self.take_slot()?;
            self.nulls[slot as usize] = 1;
            self.has_nulls = true;
            self.null_slot = slot;
        }
        Ok(self.null_slot)
    }

    fn resolve_rows(
        &mut self,
        batch: &RecordBatch,
        select: &[u32],
        columns: &[usize],
        hashes: &[u64],
        out: &mut Vec<u32>,
    ) -> Result<(), KeysFull> {
        for (i, (&row, &hash)) in select.iter().zip(hashes).enumerate() {
            if let Some(&ahead) = hashes.get(i + AHEAD) {
                self.entries.prefetch(ahead as usize);
            }
            let row = row as usize;
            let mut at = hash as usize;
            let found = loop {
                let entry = self.entries.get(at);
                if entry.slot == NO_SLOT {
                    break self.insert(at, hash, |keys, slot| {
                        keys.write_row(slot, batch, row, columns);
                    })?;
                }
                if entry.word == hash && self.is_row(entry.slot, batch, row, columns) {
                    break entry.slot;
                }
                at = at.wrapping_add(1);
            };
            out.push(found);
        }
        Ok(())
    }

    /// Whether the key in `slot` is that of `row`.
    fn is_row(&self, slot: u32, batch: &RecordBatch, row: usize, columns: &[usize]) -> bool {
        let (mine, theirs) = (self.row(slot), batch.row(row));
        for (place, &column) in columns.iter().enumerate() {
            let null = self.is_null(slot, place);
            if null != batch.is_null(row, column) {
                return false;
            }
            let (a, b) = (mine[place], theirs[column]);
            let same = if null {
                true
            } else if self.heaped[place] && slot::is_heaped(a) && slot::is_heaped(b) {
                slot::bytes(&a, &self.heap) == slot::bytes(&b, batch.heap())
            } else {
                a == b
            };
            if !same {
                return false;
            }
        }
        true
    }

    fn write_row(&mut self, slot: usize, batch: &RecordBatch, row: usize, columns: &[usize]) {
        let (width, words) = (self.heaped.len(), self.null_words);
        for (place, &column) in columns.iter().enumerate() {
            if batch.is_null(row, column) {
                self.nulls[slot * words + place / 64] |= 1 << (place % 64);
                self.has_nulls = true;
                continue;
            }
            let mut word = batch.row(row)[column];
            if self.heaped[place] {
                word = slot::rehome(word, batch.heap(), &mut self.heap);
            }
            self.rows[slot * width + place] = word;
        }
    }

    /// Makes a key at an empty entry and lets `write` set its row.
    #[inline(never)]
    fn insert(
        &mut self,
        at: usize,
        word: u64,
        write: impl FnOnce(&mut KeyTable, usize),
    ) -> Result<u32, KeysFull> {
        let slot = self.take_slot()?;
        write(self, slot as usize);
        self.entries.set(at, Entry { word, slot });
        if self.live * 8 > self.entries.len() * 5 {
            self.grow();
        }
        Ok(slot)
    }

    fn take_slot(&mut self) -> Result<u32, KeysFull> {
        if self.live >= self.limit {
            return Err(KeysFull { limit: self.limit });
        }
        self.live += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            let slot = self.len();
            self.rows.resize(self.rows.len() + self.heaped.len(), 0);
            self.nulls.resize(self.nulls.len() + self.null_words, 0);
            u32::try_from(slot).expect("KEYS_MAX fits u32")
        });
        if let Some(fresh) = &mut self.fresh {
            fresh.push(slot);
        }
        Ok(slot)
    }

    fn grow(&mut self) {
        let mut entries = Entries::empty(self.entries.len() * 2);
        for entry in self.entries.iter().filter(|entry| entry.slot != NO_SLOT) {
            let mut at = self.home(&entry);
            while entries.get(at).slot != NO_SLOT {
                at = at.wrapping_add(1);
            }
            entries.set(at, entry);
        }
        self.entries = entries;
    }

    #[inline(always)]
    fn home(&self, entry: &Entry) -> usize {
        if self.direct { hash_word(entry.word) as usize } else { entry.word as usize }
    }

    /// The hash of a key, as [`KeyTable::hash`] gave it.
    pub fn hash_of(&self, slot: u32) -> u64 {
        let row = self.row(slot);
        let mut hash = 0;
        for (place, word) in row.iter().enumerate() {
            let word = if self.is_null(slot, place) {
                NULL_WORD
            } else if self.heaped[place] && slot::is_heaped(*word) {
                hash_text(slot::bytes(word, &self.heap))
            } else {
                *word
            };
            hash = if place == 0 { hash_word(word) } else { hash_next(hash, word) };
        }
        hash
    }

    /// Notes from now on which keys are new, for [`KeyTable::take_fresh`].
    pub fn note_fresh(&mut self) {
        self.fresh.get_or_insert_default();
    }

    /// Slots that were given to new keys since the last call, if [`KeyTable::note_fresh`] was.
    pub fn take_fresh(&mut self) -> Vec<u32> {
        self.fresh.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Forgets the key of a slot whose state was cleared; the slot goes to a later key.
    ///
    /// # Panics
    /// If the slot has no key.
    pub fn release(&mut self, slot: u32) {
        let (width, words) = (self.heaped.len(), self.null_words);
        if slot == self.null_slot {
            self.null_slot = NO_SLOT;
        } else {
            let mask = self.entries.len() - 1;
            let mut at = self.hash_of(slot) as usize & mask;
            while self.entries.get(at).slot != slot {
                assert!(self.entries.get(at).slot != NO_SLOT, "slot {slot} has a key");
                at = (at + 1) & mask;
            }
            self.close_gap(at);
        }
        let start = slot as usize * width;
        for (place, word) in self.rows[start..start + width].iter_mut().enumerate() {
            if self.heaped[place] && slot::is_heaped(*word) {
                self.heap_dead += slot::len(*word);
            }
            *word = 0;
        }
        self.nulls[slot as usize * words..][..words].fill(0);
        self.free.push(slot);
        self.live -= 1;
        if self.heap_dead > HEAP_WASTE && self.heap_dead > self.heap.len() / 2 {
            self.compact();
        }
    }

    /// Moves entries behind the empty place `at` back so that invariant 2 holds.
    fn close_gap(&mut self, mut at: usize) {
        let mask = self.entries.len() - 1;
        let mut next = at;
        loop {
            next = (next + 1) & mask;
            let entry = self.entries.get(next);
            if entry.slot == NO_SLOT {
                break;
            }
            let home = self.home(&entry) & mask;
            // It may move back unless its home lies behind the gap.
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(at) & mask {
                self.entries.set(at, entry);
                at = next;
            }
        }
        self.entries.set(at, EMPTY);
    }

    fn compact(&mut self) {
        let mut heap = Vec::with_capacity(self.heap.len() - self.heap_dead);
        let width = self.heaped.len();
        for (i, word) in self.rows.iter_mut().enumerate() {
            if self.heaped[i % width] {
                *word = slot::rehome(*word, &self.heap, &mut heap);
            }
        }
        self.heap = heap;
        self.heap_dead = 0;
    }

    /// Slots given out so far, released ones included; every slot is below it.
    pub fn len(&self) -> usize {
        self.rows.len() / self.heaped.len()
    }

    /// Whether no slot was ever given out.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Keys held at present.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Values of a key: one slot a key column; long texts lie in [`KeyTable::heap`].
    ///
    /// # Panics
    /// If the slot was never given out.
    #[inline(always)]
    pub fn row(&self, slot: u32) -> &[u64] {
        let width = self.heaped.len();
        &self.rows[slot as usize * width..][..width]
    }

    /// Null words of a key (`ceil(columns / 64)`).
    ///
    /// # Panics
    /// If the slot was never given out.
    #[inline(always)]
    pub fn nulls(&self, slot: u32) -> &[u64] {
        &self.nulls[slot as usize * self.null_words..][..self.null_words]
    }

    /// Whether any key ever had a NULL.
    pub fn has_nulls(&self) -> bool {
        self.has_nulls
    }

    #[inline(always)]
    fn is_null(&self, slot: u32, place: usize) -> bool {
        self.nulls(slot)[place / 64] >> (place % 64) & 1 == 1
    }

    /// Whether values of a key column may lie in the heap.
    pub fn is_heaped(&self, column: usize) -> bool {
        self.heaped[column]
    }

    /// Long texts of the keys.
    pub fn heap(&self) -> &[u8] {
        &self.heap
    }

    /// Bytes of memory held, for the shard's budget.
    pub fn memory_bytes(&self) -> usize {
        self.entries.memory_bytes()
            + (self.rows.capacity() + self.nulls.capacity()) * 8
            + self.heap.capacity()
            + self.free.capacity() * 4
    }
}
