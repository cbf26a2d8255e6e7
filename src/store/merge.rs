//! Several ordered sources as one: of a key's entries the newest.
//!
//! 1. Sources are given newest first; where they have the same key, the first one's entry holds.

use std::cell::RefCell;
use std::rc::Rc;

use super::cache::Cache;
use super::disk::File;
use super::entry::Entry;
use super::error::StoreError;
use super::memtable::MemtableCursor;
use super::table::{Table, TableCursor};
use crate::ground::limits::{STORE_BLOCK_RAW_BYTES, STORE_READ_AHEAD_BYTES};

/// A place in a run: tables that follow one another.
pub struct RunCursor<F: File> {
    /// Those behind, the next one last.
    tables: Vec<Rc<Table<F>>>,
    here: Option<TableCursor<F>>,
}

impl<F: File> RunCursor<F> {
    /// At the first entry of all.
    ///
    /// # Errors
    /// [`StoreError::Disk`] or [`StoreError::Corrupt`], as of every function here.
    pub async fn first(tables: &[Rc<Table<F>>]) -> Result<RunCursor<F>, StoreError> {
        let tables = tables.iter().rev().cloned().collect();
        let mut cursor = RunCursor { tables, here: None };
        cursor.settle().await?;
        Ok(cursor)
    }

    /// At the first entry whose key is not below `from`.
    ///
    /// # Errors
    /// As [`RunCursor::first`].
    pub async fn seek(
        tables: &[Rc<Table<F>>],
        from: &[u8],
        cache: &RefCell<Cache>,
    ) -> Result<RunCursor<F>, StoreError> {
        let start = tables.partition_point(|table| table.meta().last.as_slice() < from);
        let mut tables: Vec<_> = tables[start..].iter().rev().cloned().collect();
        let here = match tables.pop() {
            Some(table) => Some(TableCursor::seek(table, from, cache).await?),
            None => None,
        };
        let mut cursor = RunCursor { tables, here };
        cursor.settle().await?;
        Ok(cursor)
    }

    fn entry(&self) -> Option<Entry<'_>> {
        self.here.as_ref()?.entry()
    }

    async fn next(&mut self) -> Result<(), StoreError> {
        if let Some(here) = &mut self.here {
            here.next().await?;
        }
        self.settle().await
    }

    /// Goes on to the next table where one has ended.
    async fn settle(&mut self) -> Result<(), StoreError> {
        while self.entry().is_none() {
            let Some(table) = self.tables.pop() else { break };
            self.here = Some(TableCursor::first(table).await?);
        }
        Ok(())
    }
}

/// Where entries come from in order.
pub enum Source<F: File> {
    Memory(MemtableCursor),
    Run(RunCursor<F>),
}

impl<F: File> Source<F> {
    fn entry(&self) -> Option<Entry<'_>> {
        match self {
            Source::Memory(cursor) => cursor.entry(),
            Source::Run(cursor) => cursor.entry(),
        }
    }

    async fn next(&mut self) -> Result<(), StoreError> {
        match self {
            Source::Memory(cursor) => cursor.next(),
            Source::Run(cursor) => cursor.next().await?,
        }
        Ok(())
    }
}

/// A place in all sources together.
pub struct Merge<F: File> {
    sources: Vec<Source<F>>,
    /// The source whose entry is the one here.
    chosen: Option<usize>,
}

impl<F: File> Merge<F> {
    /// At the first entry of all sources, newest first.
    pub fn new(sources: Vec<Source<F>>) -> Merge<F> {
        let mut merge = Merge { sources, chosen: None };
        merge.choose();
        merge
    }

    /// The entry here; `None` behind the last.
    pub fn entry(&self) -> Option<Entry<'_>> {
        self.sources[self.chosen?].entry()
    }

    /// Goes to the next key. O(sources).
    ///
    /// # Errors
    /// [`StoreError::Disk`] or [`StoreError::Corrupt`].
    pub async fn next(&mut self) -> Result<(), StoreError> {
        let Some(chosen) = self.chosen else { return Ok(()) };
        // Sources before the chosen one have larger keys; those behind may have the same.
        for other in chosen + 1..self.sources.len() {
            let key = |source: usize| self.sources[source].entry().map(|entry| entry.key);
            if key(other) == key(chosen) {
                self.sources[other].next().await?;
            }
        }
        self.sources[chosen].next().await?;
        self.choose();
        Ok(())
    }

    /// Bytes of memory held by what is read ahead, at most.
    pub fn memory_bytes(&self) -> usize {
        let runs = self.sources.iter().filter(|source| matches!(source, Source::Run(_)));
        runs.count() * (STORE_READ_AHEAD_BYTES + STORE_BLOCK_RAW_BYTES)
    }

    fn choose(&mut self) {
        let keyed = self.sources.iter().enumerate();
        let keyed = keyed.filter_map(|(i, source)| Some((source.entry()?.key, i)));
        self.chosen = keyed.min().map(|(_, i)| i);
    }
}
