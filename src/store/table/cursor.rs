//! Reading a table in order, far ahead and past the cache.
//!
//! 1. The window holds bytes of the data from `window_at` on, as the file has them.

use std::cell::RefCell;
use std::rc::Rc;

use super::Table;
use crate::ground::limits::{STORE_READ_AHEAD_BYTES, STORE_REQUEST_BYTES};
use crate::store::block::{Block, BlockKind, Place, sealed_len, unseal};
use crate::store::cache::Cache;
use crate::store::disk::{File, PAGE};
use crate::store::entry::Entry;
use crate::store::error::StoreError;

/// A place in a table, between its first entry and behind its last.
pub struct TableCursor<F: File> {
    table: Rc<Table<F>>,
    window: Option<F::Read>,
    window_at: u64,
    /// The block that the entry is in; none behind the last.
    block: Option<Block>,
    block_at: u64,
    i: usize,
    /// Where the next block starts.
    next_at: u64,
}

impl<F: File> TableCursor<F> {
    /// At the first entry.
    ///
    /// # Errors
    /// [`StoreError::Disk`] or [`StoreError::Corrupt`], as of every function here.
    pub async fn first(table: Rc<Table<F>>) -> Result<TableCursor<F>, StoreError> {
        let mut cursor = TableCursor::at(table, 0);
        cursor.next_block().await?;
        Ok(cursor)
    }

    /// At the first entry whose key is not below `key`.
    ///
    /// # Errors
    /// As [`TableCursor::first`].
    pub async fn seek(
        table: Rc<Table<F>>,
        key: &[u8],
        cache: &RefCell<Cache>,
    ) -> Result<TableCursor<F>, StoreError> {
        let at = table.seek(key, cache).await?;
        let mut cursor = TableCursor::at(table, at);
        cursor.next_block().await?;
        if let Some(block) = &cursor.block {
            cursor.i = block.lower_bound(key);
            if cursor.i == block.len() {
                cursor.next_block().await?;
            }
        }
        Ok(cursor)
    }

    fn at(table: Rc<Table<F>>, at: u64) -> TableCursor<F> {
        TableCursor {
            table,
            window: None,
            window_at: 0,
            block: None,
            block_at: at,
            i: 0,
            next_at: at,
        }
    }

    /// The entry here; `None` behind the last.
    #[inline]
    pub fn entry(&self) -> Option<Entry<'_>> {
        self.block.as_ref().map(|block| block.entry(self.i))
    }

    /// Goes to the next entry.
    ///
    /// # Errors
    /// As [`TableCursor::first`].
    pub async fn next(&mut self) -> Result<(), StoreError> {
        let is_inside = self.block.as_ref().is_some_and(|block| self.i + 1 < block.len());
        if is_inside {
            self.i += 1;
            return Ok(());
        }
        self.next_block().await
    }

    pub(super) fn block_at(&self) -> u64 {
        self.block_at
    }

    pub(super) fn is_at_block_start(&self) -> bool {
        self.i == 0
    }

    async fn next_block(&mut self) -> Result<(), StoreError> {
        let (at, end) = (self.next_at, self.table.data_end());
        self.i = 0;
        self.block = None;
        self.block_at = at;
        if at == end {
            return Ok(());
        }
        if self.windowed(at, PAGE).is_none() {
            self.read_window(at, STORE_READ_AHEAD_BYTES as u64).await?;
        }
        let head = self.windowed(at, PAGE);
        let len = head.and_then(sealed_len).filter(|len| at + *len as u64 <= end);
        let len = len.ok_or_else(|| self.table.corrupt(at, "no block starts here"))?;
        if len > STORE_REQUEST_BYTES {
            let id = self.table.meta().id;
            let file = self.table.file();
            let raw = super::read::read_raw(file, id, BlockKind::Data, at, len as u64).await?;
            return self.take(raw, len);
        }
        if self.windowed(at, len).is_none() {
            self.read_window(at, STORE_READ_AHEAD_BYTES.max(len) as u64).await?;
        }
        let place = Place { file_id: self.table.meta().id, at };
        let raw = match self.windowed(at, len) {
            Some(sealed) => unseal(BlockKind::Data, sealed, place),
            None => Err("the file ends in a block"),
        };
        let raw = raw.map_err(|what| self.table.corrupt(at, what))?;
        self.take(raw, len)
    }

    fn take(&mut self, raw: Vec<u8>, len: usize) -> Result<(), StoreError> {
        let block = Block::new(raw).and_then(|block| {
            if block.is_empty() { Err("a data block without entries") } else { Ok(block) }
        });
        self.block = Some(block.map_err(|what| self.table.corrupt(self.next_at, what))?);
        self.next_at += len as u64;
        Ok(())
    }

    /// Bytes of the file, if the window has them.
    fn windowed(&self, at: u64, len: usize) -> Option<&[u8]> {
        let skip = at.checked_sub(self.window_at)? as usize;
        self.window.as_ref()?.get(skip..skip + len)
    }

    async fn read_window(&mut self, at: u64, len: u64) -> Result<(), StoreError> {
        let len = len.min(self.table.data_end() - at);
        self.window = None;
        self.window = Some(self.table.file().read_at(at, len as usize).await?);
        self.window_at = at;
        Ok(())
    }
}
