//! The tree: keys to values, on one disk and within one budget of memory, for one shard.
//!
//! Writes are synchronous and go to memory. Reads look there first, then in runs of tables, newest
//! first. Whoever owns the tree calls [`Tree::work`] again and again: each call flushes a memtable
//! or does a bounded part of a merge.
//!
//! 1. Of a key's entries the one found first is the newest: memtables, newest first, then runs.
//! 2. A version (the runs, and the tables in them) never changes; a new one is installed only when
//!    its manifest is durable.
//! 3. A table's file goes away only when a durable manifest does without it and nobody reads it.
//! 4. After an error that may have left the manifest either way the tree does no more work.
//! 5. Memory held is at most the budget and a tenth, whatever is asked; a write that would need
//!    more is refused as [`StoreError::Busy`].

mod open;
mod scan;
mod snapshot;
#[cfg(test)]
mod tests;
mod work;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};

use xxhash_rust::xxh3::xxh3_64;

use super::cache::Cache;
use super::compact::{Compaction, Writing};
use super::disk::{Disk, File};
use super::entry::{Entry, Kind, NEVER};
use super::error::StoreError;
use super::flight::fly;
use super::manifest::Run;
use super::memtable::Memtable;
use super::options::Options;
use super::pick::Job;
use super::table::{Found, Table};
use crate::ground::limits::{STORE_FROZEN_MAX, STORE_KEY_BYTES_MAX, STORE_READS_IN_FLIGHT};

pub use scan::Scan;
pub use snapshot::Tables;
pub use work::Work;

/// Tables that follow one another, open.
struct OpenRun<F> {
    level: u32,
    tables: Vec<Rc<Table<F>>>,
}

/// What is on the disk (invariant 2).
struct Version<F> {
    /// Newest first.
    runs: Vec<OpenRun<F>>,
}

/// What is in memory and not in a table yet.
struct Memory {
    active: Rc<Memtable>,
    /// Newest first.
    frozen: Vec<Rc<Memtable>>,
}

/// A merge that goes on from one call to the next.
struct Merging<D: Disk> {
    job: Job,
    compaction: Compaction<D>,
}

/// A log-structured tree.
pub struct Tree<D: Disk> {
    disk: D,
    options: Options,
    writing: Writing<D>,
    cache: RefCell<Cache>,
    memory: RefCell<Memory>,
    version: RefCell<Rc<Version<D::File>>>,
    merging: RefCell<Option<Merging<D>>>,
    /// Tables that no manifest names any more.
    obsolete: RefCell<Vec<Rc<Table<D::File>>>>,
    failed: RefCell<Option<StoreError>>,
    is_working: Cell<bool>,
    seq_next: Cell<u64>,
    /// How often something was frozen or a step of work was done, and who waits for that.
    changes: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

/// What memory alone knows of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// The value was appended.
    Found,
    Absent,
    /// Tables must be asked: [`Tree::get`].
    Unknown,
}

impl<D: Disk> Tree<D> {
    /// Sets a key's value, until `expiry_ms` (or [`NEVER`]). O(1), nothing is read.
    ///
    /// # Errors
    /// [`StoreError::Busy`]: wait for [`Tree::changed`] while another task works, or call
    /// [`Tree::work`], and try again; if no more work is done, why. [`StoreError::KeyTooLong`],
    /// [`StoreError::ValueTooLong`].
    pub fn put(&self, key: &[u8], value: &[u8], expiry_ms: u64) -> Result<(), StoreError> {
        self.write(Entry { key, value, seq: 0, kind: Kind::Value, expiry_ms })
    }

    /// Takes a key away. O(1), nothing is read.
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub fn delete(&self, key: &[u8]) -> Result<(), StoreError> {
        self.write(Entry { key, value: &[], seq: 0, kind: Kind::Tombstone, expiry_ms: NEVER })
    }

    /// Appends a key's value to `out` if memory knows it. O(memtables), allocates nothing but what
    /// `out` needs.
    pub fn peek(&self, key: &[u8], now_ms: u64, out: &mut Vec<u8>) -> Peek {
        self.peek_hashed(xxh3_64(key), key, |entry| match entry.value_at(now_ms) {
            Some(value) => {
                out.extend_from_slice(value);
                Peek::Found
            }
            None => Peek::Absent,
        })
        .unwrap_or(Peek::Unknown)
    }

    /// Appends a key's value to `out`; false if it has none.
    ///
    /// # Errors
    /// [`StoreError::Disk`] or [`StoreError::Corrupt`].
    pub async fn get(
        &self,
        key: &[u8],
        now_ms: u64,
        out: &mut Vec<u8>,
    ) -> Result<bool, StoreError> {
        match self.peek(key, now_ms, out) {
            Peek::Found => return Ok(true),
            Peek::Absent => return Ok(false),
            Peek::Unknown => {}
        }
        let version = self.version();
        let found = self.find(&version, xxh3_64(key), key).await?;
        let value = found.as_ref().and_then(|found| found.entry().value_at(now_ms));
        value.inspect(|value| out.extend_from_slice(value));
        Ok(value.is_some())
    }

    /// Calls `each(i, value)` once for every key, in any order; many reads are under way together.
    ///
    /// # Errors
    /// The first [`StoreError`] met; `each` was then called for some keys only.
    pub async fn get_many(
        &self,
        keys: &[&[u8]],
        now_ms: u64,
        mut each: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<(), StoreError> {
        let mut cold: Vec<(usize, u64)> = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            let hash = xxh3_64(key);
            let known = self.peek_hashed(hash, key, |entry| each(i, entry.value_at(now_ms)));
            if known.is_none() {
                cold.push((i, hash));
            }
        }
        let version = &self.version();
        let reads = cold
            .into_iter()
            .map(|(i, hash)| async move { (i, self.find(version, hash, keys[i]).await) });
        let mut failed = Ok(());
        fly(reads, STORE_READS_IN_FLIGHT, |(i, found)| match found {
            Ok(found) => {
                each(i, found.as_ref().and_then(|found| found.entry().value_at(now_ms)));
            }
            Err(error) => failed = Err(error),
        })
        .await;
        failed
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
        let ended = std::mem::take(&mut memory.active);
        memory.frozen.insert(0, ended);
        drop(memory);
        self.note_change();
        Ok(())
    }

    /// Waits until something is frozen or a step of work is done, from now on: who was refused as
    /// busy then tries again, who found nothing to do looks again.
    pub fn changed(&self) -> impl Future<Output = ()> {
        let seen = self.changes.get();
        poll_fn(move |context| {
            if self.changes.get() != seen {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
    }

    fn note_change(&self) {
        self.changes.set(self.changes.get() + 1);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Bytes of memory held: memtables, cache, filters, indexes, what is being written. O(tables).
    pub fn memory_bytes(&self) -> usize {
        let merging = self.merging.borrow();
        let writing = merging.as_ref().map_or(0, |merging| merging.compaction.memory_bytes());
        let tables = self.version.borrow().memory_bytes();
        let cache = self.cache.borrow().memory_bytes();
        self.memory.borrow().memory_bytes() + cache + tables + writing
    }

    /// Longest value that is taken, bytes.
    pub fn value_bytes_max(&self) -> usize {
        self.options.value_bytes_max()
    }

    /// Runs of tables, newest first: level, tables and bytes of each.
    pub fn shape(&self) -> Vec<(u32, usize, u64)> {
        let runs = self.version().runs();
        runs.iter().map(|run| (run.level, run.tables.len(), run.bytes())).collect()
    }

    /// Lookups in the block cache that found a block, and those that did not.
    pub fn cache_hits_and_misses(&self) -> (u64, u64) {
        self.cache.borrow().hits_and_misses()
    }

    fn write(&self, entry: Entry<'_>) -> Result<(), StoreError> {
        let (bytes, most) = (entry.key.len(), STORE_KEY_BYTES_MAX);
        if bytes > most {
            return Err(StoreError::KeyTooLong { bytes, most });
        }
        let (bytes, most) = (entry.value.len(), self.options.value_bytes_max());
        if bytes > most {
            return Err(StoreError::ValueTooLong { bytes, most });
        }
        let active = self.memory.borrow().active.memory_bytes();
        if active >= self.options.memtable_bytes() {
            self.make_room()?;
        }
        let seq = self.seq_next.get();
        self.seq_next.set(seq + 1);
        let entry = Entry { seq, ..entry };
        self.memory.borrow().active.put(xxh3_64(entry.key), &entry);
        Ok(())
    }

    /// Freezes the full memtable if all of them together leave room for another.
    #[cold]
    fn make_room(&self) -> Result<(), StoreError> {
        let held = self.memory.borrow().memory_bytes();
        if held + self.options.memtable_bytes() > self.options.memtables_bytes() {
            return Err(self.failed.borrow().clone().unwrap_or(StoreError::Busy));
        }
        self.freeze()
    }

    /// What `read` makes of a key's entry in memory, if there is one.
    #[inline]
    fn peek_hashed<T>(
        &self,
        hash: u64,
        key: &[u8],
        mut read: impl FnMut(Entry<'_>) -> T,
    ) -> Option<T> {
        let memory = self.memory.borrow();
        let mut memtables = std::iter::once(&memory.active).chain(&memory.frozen);
        memtables.find_map(|memtable| memtable.read(hash, key, &mut read))
    }

    fn version(&self) -> Rc<Version<D::File>> {
        self.version.borrow().clone()
    }

    /// A key's newest entry in the tables.
    async fn find(
        &self,
        version: &Version<D::File>,
        hash: u64,
        key: &[u8],
    ) -> Result<Option<Found>, StoreError> {
        for run in &version.runs {
            let Some(table) = run.table_of(key).filter(|table| table.may_hold(hash)) else {
                continue;
            };
            if let Some(found) = table.find(key, &self.cache).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl Memory {
    fn memory_bytes(&self) -> usize {
        let frozen: usize = self.frozen.iter().map(|memtable| memtable.memory_bytes()).sum();
        self.active.memory_bytes() + frozen
    }
}

impl<F: File> OpenRun<F> {
    /// The only table that may hold a key.
    fn table_of(&self, key: &[u8]) -> Option<&Rc<Table<F>>> {
        let i = self.tables.partition_point(|table| table.meta().last.as_slice() < key);
        self.tables.get(i).filter(|table| table.meta().first.as_slice() <= key)
    }
}

impl<F: File> Version<F> {
    /// As a manifest says it.
    fn runs(&self) -> Vec<Run> {
        let tables = |run: &OpenRun<F>| {
            run.tables.iter().map(|table| Rc::new(table.meta().clone())).collect()
        };
        self.runs.iter().map(|run| Run { level: run.level, tables: tables(run) }).collect()
    }

    fn memory_bytes(&self) -> usize {
        self.tables().map(|table| table.memory_bytes()).sum()
    }

    fn tables(&self) -> impl Iterator<Item = &Rc<Table<F>>> {
        self.runs.iter().flat_map(|run| &run.tables)
    }
}
