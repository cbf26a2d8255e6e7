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

mod fetch;
mod memory;
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

use super::cache::Cache;
use super::compact::{Compaction, Writing};
use super::disk::{Disk, File};
use super::error::StoreError;
use super::manifest::Run;
use super::options::Options;
use super::pick::Job;
use super::table::Table;
use memory::Memory;

pub use fetch::Fetched;
pub use memory::{Peek, hash_of};
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

/// A merge that goes on from one call to the next.
struct Merging<D: Disk> {
    job: Job,
    compaction: Compaction<D>,
}

/// A flush that goes on from one call to the next.
struct Flushing<D: Disk> {
    /// How many of the oldest frozen memtables it writes.
    count: usize,
    compaction: Compaction<D>,
}

/// A log-structured tree.
pub struct Tree<D: Disk> {
    disk: D,
    options: Options,
    writing: Writing<D>,
    cache: RefCell<Cache>,
    /// Where blocks are unpacked of which one entry is wanted.
    unpacked: RefCell<Vec<u8>>,
    memory: RefCell<Memory>,
    version: RefCell<Rc<Version<D::File>>>,
    flushing: RefCell<Option<Flushing<D>>>,
    merging: RefCell<Option<Merging<D>>>,
    /// The merge of flushed runs among themselves.
    gathering: RefCell<Option<Merging<D>>>,
    /// Runs are others than when merges were picked last.
    is_to_pick: Cell<bool>,
    /// Steps of merges that come before the next one of a flush.
    merges_first: Cell<usize>,
    /// Whether the merge that had the last step was the gathering.
    has_gathered: Cell<bool>,
    /// Tables that no manifest names any more.
    obsolete: RefCell<Vec<Rc<Table<D::File>>>>,
    failed: RefCell<Option<StoreError>>,
    is_working: Cell<bool>,
    seq_next: Cell<u64>,
    /// Bytes of memtables up to which the block cache leaves room.
    cache_leaves: Cell<usize>,
    /// How often something was frozen or a step of work was done, and who waits for that.
    changes: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl<D: Disk> Tree<D> {
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
        let flushing = self.flushing.borrow();
        let merges = [&self.merging, &self.gathering].map(|merging| {
            merging.borrow().as_ref().map_or(0, |merging| merging.compaction.memory_bytes())
        });
        let writing = flushing.as_ref().map_or(0, |flushing| flushing.compaction.memory_bytes())
            + merges.iter().sum::<usize>();
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

    fn version(&self) -> Rc<Version<D::File>> {
        self.version.borrow().clone()
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

    /// Flushed runs that wait to be merged.
    fn flushed(&self) -> usize {
        self.runs.iter().take_while(|run| run.level == 0).count()
    }

    fn memory_bytes(&self) -> usize {
        self.tables().map(|table| table.memory_bytes()).sum()
    }

    fn tables(&self) -> impl Iterator<Item = &Rc<Table<F>>> {
        self.runs.iter().flat_map(|run| &run.tables)
    }
}
