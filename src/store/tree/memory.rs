//! What of a tree is in memory: writing, and reading without asking the disk.
//!
//! Memtables go one way: *active* (written to), *frozen* (to be flushed), *kept* (in tables too,
//! and read as long as nobody needs their memory: what was written lately is read soon), gone.
//!
//! 1. Memtables are numbered as they are made and go in that order.
//! 2. A kept memtable is changed only if nobody else holds it.

use std::rc::Rc;

use xxhash_rust::xxh3::xxh3_64;

use super::Tree;
use crate::ground::limits::{STORE_FROZEN_MAX, STORE_KEPT_MAX, STORE_KEY_BYTES_MAX};
use crate::store::disk::Disk;
use crate::store::entry::{Entry, Kind, NEVER};
use crate::store::error::StoreError;
use crate::store::memtable::Memtable;
use crate::store::options::Options;

/// Memtables that are smaller than this part of a full one are kept as one.
const SMALL: usize = 16;

/// What memory alone knows of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// The value was appended, or changed.
    Found,
    Absent,
    /// Tables must be asked: [`Tree::get`], [`Tree::fetch`].
    Unknown,
}

/// The hash of a key that functions of the tree with `_hashed` in their names take.
#[inline]
pub fn hash_of(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// A tree's memtables.
pub(super) struct Memory {
    pub(super) active: Rc<Memtable>,
    /// Newest first.
    pub(super) frozen: Vec<Rc<Memtable>>,
    /// Newest first, behind all frozen ones; with the number of the newest whose entries it has.
    kept: Vec<(Rc<Memtable>, u64)>,
    /// Bytes of all but the active one.
    others_bytes: usize,
    chunk_bytes: usize,
    /// Number of the active one.
    number: u64,
    /// Memtables with lower numbers are gone.
    gone: u64,
}

impl Memory {
    pub(super) fn new(options: &Options) -> Memory {
        let chunk_bytes = options.chunk_bytes();
        Memory {
            active: Rc::new(Memtable::new(chunk_bytes)),
            frozen: Vec::new(),
            kept: Vec::new(),
            others_bytes: 0,
            chunk_bytes,
            number: 0,
            gone: 0,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.active.memory_bytes() + self.others_bytes
    }

    /// Number of the memtable that is written to now.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whether all that was written since that memtable was active is still here.
    pub(super) fn has_since(&self, number: u64) -> bool {
        self.gone <= number
    }

    /// What `read` makes of a key's entry, if there is one.
    #[inline]
    pub(super) fn read<T>(
        &self,
        hash: u64,
        key: &[u8],
        mut read: impl FnMut(Entry<'_>) -> T,
    ) -> Option<T> {
        if let Some(read) = self.active.read(hash, key, &mut read) {
            return Some(read);
        }
        self.older().find_map(|memtable| memtable.read(hash, key, &mut read))
    }

    /// All but the active one, newest first.
    fn older(&self) -> impl Iterator<Item = &Rc<Memtable>> {
        self.frozen.iter().chain(self.kept.iter().map(|(memtable, _)| memtable))
    }

    fn freeze(&mut self) {
        let next = Rc::new(Memtable::new(self.chunk_bytes));
        let ended = std::mem::replace(&mut self.active, next);
        self.others_bytes += ended.memory_bytes();
        self.frozen.insert(0, ended);
        self.number += 1;
    }

    /// Keeps the oldest `count` frozen memtables, which are in tables now.
    pub(super) fn keep(&mut self, count: usize, options: &Options) {
        for _ in 0..count {
            let Some(memtable) = self.frozen.pop() else { return };
            let number = self.number - 1 - self.frozen.len() as u64;
            let is_small = memtable.memory_bytes() * SMALL <= options.memtable_bytes();
            match self.kept.first_mut() {
                Some((kept, newest))
                    if is_small
                        && Rc::strong_count(kept) == 1
                        && kept.memory_bytes() < options.memtable_bytes() =>
                {
                    kept.absorb(&memtable, hash_of);
                    *newest = number;
                }
                _ => self.kept.insert(0, (memtable, number)),
            }
        }
        while self.kept.len() > STORE_KEPT_MAX {
            self.let_go();
        }
        self.count_others();
    }

    /// Forgets the oldest kept memtable; false if there is none.
    fn let_go(&mut self) -> bool {
        let Some((_, newest)) = self.kept.pop() else { return false };
        self.gone = newest + 1;
        self.count_others();
        true
    }

    fn count_others(&mut self) {
        self.others_bytes = self.older().map(|memtable| memtable.memory_bytes()).sum();
    }
}

impl<D: Disk> Tree<D> {
    /// Sets a key's value, until `expiry_ms` (or [`NEVER`]). O(1), nothing is read.
    ///
    /// # Errors
    /// [`StoreError::Busy`]: wait for [`Tree::changed`] while another task works, or call
    /// [`Tree::work`], and try again; if no more work is done, why. [`StoreError::KeyTooLong`],
    /// [`StoreError::ValueTooLong`].
    pub fn put(&self, key: &[u8], value: &[u8], expiry_ms: u64) -> Result<(), StoreError> {
        self.put_hashed(hash_of(key), key, value, expiry_ms)
    }

    /// As [`Tree::put`]; `hash` is the key's.
    ///
    /// # Errors
    /// As [`Tree::put`].
    #[inline]
    pub fn put_hashed(
        &self,
        hash: u64,
        key: &[u8],
        value: &[u8],
        expiry_ms: u64,
    ) -> Result<(), StoreError> {
        self.write(hash, Entry { key, value, seq: 0, kind: Kind::Value, expiry_ms })
    }

    /// Takes a key away. O(1), nothing is read.
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub fn delete(&self, key: &[u8]) -> Result<(), StoreError> {
        let entry = Entry { key, value: &[], seq: 0, kind: Kind::Tombstone, expiry_ms: NEVER };
        self.write(hash_of(key), entry)
    }

    /// Appends a key's value to `out` if memory knows it. O(memtables), allocates nothing but what
    /// `out` needs.
    pub fn peek(&self, key: &[u8], now_ms: u64, out: &mut Vec<u8>) -> Peek {
        self.peek_hashed(hash_of(key), key, now_ms, |value| out.extend_from_slice(value))
    }

    /// Hands a key's value to `read` if memory knows it; `hash` is the key's. O(memtables),
    /// allocates nothing.
    #[inline]
    pub fn peek_hashed(
        &self,
        hash: u64,
        key: &[u8],
        now_ms: u64,
        mut read: impl FnMut(&[u8]),
    ) -> Peek {
        let memory = self.memory.borrow();
        let known = memory.read(hash, key, |entry| match entry.value_at(now_ms) {
            Some(value) => {
                read(value);
                Peek::Found
            }
            None => Peek::Absent,
        });
        known.unwrap_or(Peek::Unknown)
    }

    /// Lets `change` change the bytes of a key's value, whose length and expiry stay; `hash` is the
    /// key's. In place if the value was written lately; else it is copied, and changed there.
    /// `change` is not called unless [`Peek::Found`] comes back. O(memtables).
    ///
    /// # Errors
    /// As [`Tree::put`]; nothing is changed then.
    #[inline]
    pub fn update_hashed(
        &self,
        hash: u64,
        key: &[u8],
        now_ms: u64,
        change: impl FnOnce(&mut [u8]),
    ) -> Result<Peek, StoreError> {
        let seq = self.seq_next.get();
        let mut change = Some(change);
        let memory = self.memory.borrow();
        let here = memory.active.update(hash, key, seq, now_ms, |value| {
            if let Some(change) = change.take() {
                change(value);
            }
        });
        match here {
            Some(true) => {
                self.seq_next.set(seq + 1);
                return Ok(Peek::Found);
            }
            Some(false) => return Ok(Peek::Absent),
            None => drop(memory),
        }
        self.update_older(hash, key, now_ms, change)
    }

    /// The rest of [`Tree::update_hashed`] where the active memtable has no entry.
    fn update_older(
        &self,
        hash: u64,
        key: &[u8],
        now_ms: u64,
        change: Option<impl FnOnce(&mut [u8])>,
    ) -> Result<Peek, StoreError> {
        let memory = self.memory.borrow();
        let seen = |entry: Entry<'_>| entry.value_at(now_ms).is_some();
        let holder = memory.older().find_map(|memtable| {
            memtable.read(hash, key, seen).map(|is_value| (memtable.clone(), is_value))
        });
        drop(memory);
        match holder {
            None => Ok(Peek::Unknown),
            Some((_, false)) => Ok(Peek::Absent),
            Some((memtable, true)) => {
                let copied = memtable.read(hash, key, |entry| self.write(hash, entry));
                copied.unwrap_or(Ok(()))?;
                let active = &self.memory.borrow().active;
                if let Some(change) = change {
                    active.update(hash, key, self.seq_next.get() - 1, now_ms, change);
                }
                Ok(Peek::Found)
            }
        }
    }

    /// Asks the processor for what the next calls with these hashes will touch: give a few dozen.
    /// A random access to memory costs 100 ns and more; many together hardly more than one.
    #[inline]
    pub fn prefetch(&self, hashes: &[u64]) {
        let memory = self.memory.borrow();
        hashes.iter().for_each(|&hash| memory.active.prefetch(hash));
        for older in memory.older() {
            hashes.iter().for_each(|&hash| older.prefetch(hash));
        }
        hashes.iter().for_each(|&hash| memory.active.prefetch_record(hash));
    }

    /// Ends the active memtable; what is written from now on goes to another. O(1).
    ///
    /// # Errors
    /// [`StoreError::Busy`] if too many wait already.
    pub fn freeze(&self) -> Result<(), StoreError> {
        let mut memory = self.memory.borrow_mut();
        if memory.active.is_empty() {
            return Ok(());
        }
        if memory.frozen.len() >= STORE_FROZEN_MAX {
            return Err(StoreError::Busy);
        }
        memory.freeze();
        drop(memory);
        self.note_change();
        Ok(())
    }

    fn write(&self, hash: u64, entry: Entry<'_>) -> Result<(), StoreError> {
        let (bytes, most) = (entry.key.len(), STORE_KEY_BYTES_MAX);
        if bytes > most {
            return Err(StoreError::KeyTooLong { bytes, most });
        }
        let (bytes, most) = (entry.value.len(), self.options.value_bytes_max());
        if bytes > most {
            return Err(StoreError::ValueTooLong { bytes, most });
        }
        let held = {
            let memory = self.memory.borrow();
            let is_full = memory.active.memory_bytes() >= self.options.memtable_bytes();
            if is_full { usize::MAX } else { memory.memory_bytes() }
        };
        if held > self.cache_leaves.get() {
            self.make_room()?;
        }
        let seq = self.seq_next.get();
        self.seq_next.set(seq + 1);
        self.memory.borrow().active.put(hash, &Entry { seq, ..entry });
        Ok(())
    }

    /// Freezes a full memtable, forgets kept ones, and takes memory from the block cache.
    #[cold]
    fn make_room(&self) -> Result<(), StoreError> {
        let most = self.options.memtables_bytes();
        {
            let mut memory = self.memory.borrow_mut();
            while memory.memory_bytes() >= most && memory.let_go() {}
        }
        let active = self.memory.borrow().active.memory_bytes();
        let is_full = active >= self.options.memtable_bytes();
        let has_room = self.memory.borrow().memory_bytes() < most;
        if is_full && self.version.borrow().flushed() >= self.options.runs_max {
            return Err(self.failed.borrow().clone().unwrap_or(StoreError::Busy));
        }
        if is_full && (has_room || self.memory.borrow().frozen.is_empty()) {
            self.freeze()?;
        }
        if !has_room {
            return Err(self.failed.borrow().clone().unwrap_or(StoreError::Busy));
        }
        self.share_memory();
        Ok(())
    }

    /// Gives the block cache what memtables and tables leave of the budget.
    pub(super) fn share_memory(&self) {
        let most = self.options.memtables_bytes();
        let held = self.memory.borrow().memory_bytes();
        let leaves = (held + self.options.memory_bytes / 64).min(most);
        let tables = self.version.borrow().memory_bytes();
        self.cache_leaves.set(leaves);
        self.cache.borrow_mut().set_bytes_max(self.options.cache_bytes(tables, leaves));
    }
}
