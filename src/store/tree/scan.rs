//! Going through a tree in the order of its keys.

use std::rc::Rc;

use super::{Tree, Version};
use crate::store::disk::{Disk, File};
use crate::store::error::StoreError;
use crate::store::memtable::Memtable;
use crate::store::merge::{Merge, RunCursor, Source};

/// A place in the order of keys. It keeps the tables that it reads; of what is written after it
/// was made it may see values, not keys.
pub struct Scan<F: File> {
    merge: Merge<F>,
    now_ms: u64,
    _version: Rc<Version<F>>,
}

impl<D: Disk> Tree<D> {
    /// A scan from the first key that is not below `from`. O(keys in memory behind it).
    ///
    /// # Errors
    /// [`StoreError::Disk`] or [`StoreError::Corrupt`].
    pub async fn scan(&self, from: &[u8], now_ms: u64) -> Result<Scan<D::File>, StoreError> {
        let version = self.version();
        let memtables: Vec<Rc<Memtable>> = {
            let memory = self.memory.borrow();
            std::iter::once(&memory.active).chain(&memory.frozen).cloned().collect()
        };
        let mut sources: Vec<Source<D::File>> =
            memtables.iter().map(|memtable| Source::Memory(memtable.cursor(from))).collect();
        for run in &version.runs {
            sources.push(Source::Run(RunCursor::seek(&run.tables, from, &self.cache).await?));
        }
        let mut scan = Scan { merge: Merge::new(sources), now_ms, _version: version };
        scan.skip().await?;
        Ok(scan)
    }
}

impl<F: File> Scan<F> {
    /// Key and value here; `None` behind the last.
    pub fn entry(&self) -> Option<(&[u8], &[u8])> {
        let entry = self.merge.entry()?;
        Some((entry.key, entry.value))
    }

    /// Goes to the next key that has a value.
    ///
    /// # Errors
    /// [`StoreError::Disk`] or [`StoreError::Corrupt`].
    pub async fn next(&mut self) -> Result<(), StoreError> {
        self.merge.next().await?;
        self.skip().await
    }

    /// Passes what is deleted or expired.
    async fn skip(&mut self) -> Result<(), StoreError> {
        let now_ms = self.now_ms;
        while self.merge.entry().is_some_and(|entry| entry.value_at(now_ms).is_none()) {
            self.merge.next().await?;
        }
        Ok(())
    }
}
