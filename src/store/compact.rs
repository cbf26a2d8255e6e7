//! Writing a merge as tables, in bounded steps, without what nobody can see any more.
//!
//! 1. At the bottom, deletions and what has expired are left out; elsewhere what has expired
//!    becomes a deletion, since it may hide an older value.
//! 2. A step handles about as many bytes as it is told, then comes back.

use std::cell::Cell;
use std::rc::Rc;

use super::codec::Codec;
use super::disk::Disk;
use super::entry::{Entry, Kind, NEVER};
use super::error::StoreError;
use super::merge::Merge;
use super::table::{TableMeta, TableWriter};

/// Name of a table's file in its folder.
pub fn table_name(folder: &str, id: u64) -> String {
    format!("{folder}/table-{id:016x}")
}

/// Where and how tables are written.
#[derive(Clone)]
pub struct Writing<D> {
    pub disk: D,
    pub folder: String,
    pub codec: Codec,
    /// Bytes at which a table is ended and another begun.
    pub table_bytes: u64,
    /// The next table's number.
    pub id_next: Rc<Cell<u64>>,
}

/// A merge that is being written.
pub struct Compaction<D: Disk> {
    merge: Merge<D::File>,
    writing: Writing<D>,
    is_bottom: bool,
    writer: Option<TableWriter<D::File>>,
    made: Vec<TableMeta>,
    /// Tables begun, the last one perhaps not ended.
    begun: Vec<u64>,
}

impl<D: Disk> Compaction<D> {
    /// Begins to write a merge. `is_bottom`: no older entry of its keys is anywhere.
    pub fn new(merge: Merge<D::File>, writing: Writing<D>, is_bottom: bool) -> Compaction<D> {
        let (made, begun) = (Vec::new(), Vec::new());
        Compaction { merge, writing, is_bottom, writer: None, made, begun }
    }

    /// Handles about `bytes` bytes of entries; true when all is done and durable but for names.
    ///
    /// # Errors
    /// [`StoreError`]; nothing more may be asked of it then but [`Compaction::undo`].
    pub async fn step(&mut self, now_ms: u64, bytes: usize) -> Result<bool, StoreError> {
        let mut left = bytes;
        while let Some(entry) = self.merge.entry() {
            let len = entry.key.len() + entry.value.len() + size_of::<Entry<'_>>();
            if let Some(kept) = kept(entry, self.is_bottom, now_ms) {
                if self.writer.is_none() {
                    let id = self.writing.id_next.get();
                    self.writing.id_next.set(id + 1);
                    self.begun.push(id);
                    let name = table_name(&self.writing.folder, id);
                    let file = self.writing.disk.create(&name).await?;
                    self.writer = Some(TableWriter::new(file, id, self.writing.codec));
                }
                if let Some(writer) = &mut self.writer {
                    writer.add(&kept).await?;
                }
            }
            self.merge.next().await?;
            let is_full = |writer: &TableWriter<_>| writer.bytes() >= self.writing.table_bytes;
            if self.writer.as_ref().is_some_and(is_full) {
                self.end_table().await?;
            }
            left = left.saturating_sub(len);
            if left == 0 {
                return Ok(false);
            }
        }
        self.end_table().await?;
        Ok(true)
    }

    /// What was made, in the order of keys.
    pub fn made(&self) -> &[TableMeta] {
        &self.made
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        let writing = self.writer.as_ref().map_or(0, TableWriter::memory_bytes);
        writing + self.merge.memory_bytes()
    }

    /// Takes away what was begun, as far as the disk lets it: the rest is found and removed when
    /// the tree is opened again.
    pub async fn undo(self) {
        let Compaction { writing, writer, begun, .. } = self;
        drop(writer);
        for id in begun {
            let _ = writing.disk.remove(&table_name(&writing.folder, id)).await;
        }
    }

    async fn end_table(&mut self) -> Result<(), StoreError> {
        if let Some(writer) = self.writer.take() {
            self.made.push(writer.finish().await?);
        }
        Ok(())
    }
}

/// What of an entry is written (invariant 1).
fn kept(entry: Entry<'_>, is_bottom: bool, now_ms: u64) -> Option<Entry<'_>> {
    if entry.value_at(now_ms).is_some() {
        return Some(entry);
    }
    let tombstone = Entry { value: &[], kind: Kind::Tombstone, expiry_ms: NEVER, ..entry };
    (!is_bottom).then_some(tombstone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_at_the_bottom_is_anything_left_out() {
        let value =
            |expiry_ms| Entry { key: b"k", value: b"v", seq: 1, kind: Kind::Value, expiry_ms };
        let dead = Entry { value: b"", kind: Kind::Tombstone, ..value(NEVER) };
        for is_bottom in [false, true] {
            assert_eq!(kept(value(NEVER), is_bottom, 10), Some(value(NEVER)));
            assert_eq!(kept(value(11), is_bottom, 10), Some(value(11)));
            let gone = (!is_bottom).then_some(dead);
            assert_eq!(kept(value(10), is_bottom, 10), gone);
            assert_eq!(kept(dead, is_bottom, 10), gone);
        }
    }
}
