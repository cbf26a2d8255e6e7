//! Looking for every damage of a table's file, where reading it would stop at the first.
//!
//! 1. Every byte of the file is read and under a checksum that is checked.
//! 2. Damage is named where its block starts, as far as the index or the blocks themselves say
//!    where blocks start; else where the first page lies that no block explains.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::read::read_raw;
use super::{Footer, Table};
use crate::ground::limits::STORE_REQUEST_BYTES;
use crate::store::block::{Block, BlockKind, Place, sealed_len, unseal, word};
use crate::store::disk::{DiskFailure, File, PAGE};
use crate::store::error::StoreError;

/// What is wrong, and at which byte.
pub type Flaw = (u64, String);

const KINDS: [BlockKind; 5] =
    [BlockKind::Data, BlockKind::Index, BlockKind::Top, BlockKind::Filter, BlockKind::Bounds];

/// A walk through a file, block by block.
struct Audit<'a, F: File> {
    file: &'a F,
    id: u64,
    /// What was read last, and where.
    window: Option<F::Read>,
    window_at: u64,
    /// Where blocks start, as far as an index said so.
    starts: BTreeSet<u64>,
    flaws: Vec<Flaw>,
}

/// All that is wrong with the table of this number. O(bytes).
///
/// # Errors
/// [`StoreError::Disk`] where the disk says more than that bytes cannot be read;
/// [`StoreError::Version`].
pub async fn audit<F: File>(file: F, id: u64) -> Result<Vec<Flaw>, StoreError> {
    let bytes = file.length().await?;
    let page = PAGE as u64;
    let whole = bytes - bytes % page;
    let starts = BTreeSet::new();
    let mut audit =
        Audit { file: &file, id, window: None, window_at: 0, starts, flaws: Vec::new() };
    if whole < bytes || bytes < 6 * page {
        audit.flaws.push((whole, "the file ends in the middle of a table".to_string()));
    }
    let footer = match audit.footer(whole).await? {
        Some(footer) => footer,
        None => Footer { index_at: whole, filter_at: whole, ..Footer::default() },
    };
    audit.learn_starts(&footer).await?;
    // The last page was looked at as a footer.
    audit.walk(whole.saturating_sub(page)).await?;
    let mut flaws = audit.flaws;
    if flaws.is_empty() {
        // Every block is what was written; now whether they agree with one another.
        match check_sense(file, id).await {
            Err(StoreError::Corrupt { at, what, .. }) => flaws.push((at, what.to_string())),
            other => other?,
        }
    }
    flaws.sort();
    flaws.dedup_by_key(|flaw| flaw.0);
    Ok(flaws)
}

async fn check_sense<F: File>(file: F, id: u64) -> Result<(), StoreError> {
    Rc::new(Table::open(file, id, false).await?).verify().await
}

impl<F: File> Audit<'_, F> {
    async fn footer(&mut self, bytes: u64) -> Result<Option<Footer>, StoreError> {
        let Some(at) = bytes.checked_sub(PAGE as u64) else { return Ok(None) };
        let Some(page) = self.read(at, PAGE).await? else { return Ok(None) };
        match Footer::parse(&page, self.file.name(), at) {
            Ok(footer) if footer.file_id == self.id => Ok(Some(footer)),
            Ok(_) => {
                self.flaws.push((at, "a table of another number is in this file".to_string()));
                Ok(None)
            }
            Err(StoreError::Corrupt { at, what, .. }) => {
                self.flaws.push((at, what.to_string()));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Notes where blocks start, as far as footer and index blocks can be read.
    async fn learn_starts(&mut self, footer: &Footer) -> Result<(), StoreError> {
        let places = [footer.index_at, footer.top_at, footer.filter_at, footer.bounds_at];
        self.starts.extend(places.into_iter().filter(|at| *at > 0));
        if footer.bounds_at == 0 {
            return Ok(());
        }
        let len = footer.filter_at - footer.top_at;
        for (at, len) in self.pointers(BlockKind::Top, footer.top_at, len).await? {
            self.starts.insert(at);
            for (at, _) in self.pointers(BlockKind::Index, at, len).await? {
                self.starts.insert(at);
            }
        }
        Ok(())
    }

    /// What an index block says; nothing if it cannot be read: the walk will find out why.
    async fn pointers(
        &self,
        kind: BlockKind,
        at: u64,
        len: u64,
    ) -> Result<Vec<(u64, u64)>, StoreError> {
        let raw = match read_raw(self.file, self.id, kind, at, len).await {
            Err(error) if is_damage(&error) => return Ok(Vec::new()),
            raw => raw?,
        };
        let Ok(block) = Block::new(raw) else { return Ok(Vec::new()) };
        let pointer = |i: usize| {
            let value = block.entry(i).value;
            let (at, len) = (word(value, 0)?, word(value, 8)?);
            (at.is_multiple_of(PAGE as u64)).then_some((at, len))
        };
        Ok((0..block.len()).filter_map(pointer).collect())
    }

    /// Checks every block up to `end`.
    async fn walk(&mut self, end: u64) -> Result<(), StoreError> {
        let mut at = 0;
        while at < end {
            match self.block_at(at, end).await? {
                Ok(len) => at += len,
                Err(what) => {
                    self.flaws.push((at, what.to_string()));
                    at = self.next_start(at, end).await?;
                }
            }
        }
        Ok(())
    }

    /// Bytes of the block at a position, or what is wrong with it.
    async fn block_at(
        &mut self,
        at: u64,
        end: u64,
    ) -> Result<Result<u64, &'static str>, StoreError> {
        let Some(head) = self.windowed(at, PAGE, end).await? else {
            return Ok(Err("it cannot be read"));
        };
        let kind = KINDS.into_iter().find(|kind| *kind as u8 == head[16]);
        let Some(len) = sealed_len(head) else { return Ok(Err("no block starts here")) };
        let Some(kind) = kind else { return Ok(Err("no block starts here")) };
        if at + len as u64 > end {
            return Ok(Err("a block ends behind its file"));
        }
        let place = Place { file_id: self.id, at };
        let raw = if len > STORE_REQUEST_BYTES {
            match read_raw(self.file, self.id, kind, at, len as u64).await {
                Err(StoreError::Corrupt { what, .. }) => Err(what),
                Err(error) if is_damage(&error) => Err("it cannot be read"),
                raw => Ok(raw?),
            }
        } else {
            match self.windowed(at, len, end).await? {
                Some(sealed) => unseal(kind, sealed, place),
                None => Err("it cannot be read"),
            }
        };
        let checked = match kind {
            BlockKind::Filter => raw.map(drop),
            _ => raw.and_then(Block::new).map(drop),
        };
        Ok(checked.map(|()| len as u64))
    }

    /// Where to go on behind a damaged block (invariant 2).
    async fn next_start(&mut self, at: u64, end: u64) -> Result<u64, StoreError> {
        let known = self.starts.range(at + 1..).next().copied().unwrap_or(end).min(end);
        let mut next = at + PAGE as u64;
        while next < known {
            if self.block_at(next, end).await?.is_ok() {
                return Ok(next);
            }
            next += PAGE as u64;
        }
        Ok(known)
    }

    /// Bytes of the file; `None` where they cannot be read.
    async fn windowed(
        &mut self,
        at: u64,
        len: usize,
        end: u64,
    ) -> Result<Option<&[u8]>, StoreError> {
        let is_here = |window: &F::Read, from: u64| {
            at >= from && at + len as u64 <= from + window.len() as u64
        };
        let from = self.window_at;
        if !self.window.as_ref().is_some_and(|window| is_here(window, from)) {
            let wanted = (end - at).min(STORE_REQUEST_BYTES as u64) as usize;
            self.window = self.read(at, wanted).await?;
            if self.window.is_none() && wanted > len {
                // Some of it may be readable.
                self.window = self.read(at, len).await?;
            }
            self.window_at = at;
        }
        let skip = (at - self.window_at) as usize;
        Ok(self.window.as_ref().and_then(|window| window.get(skip..skip + len)))
    }

    /// Reads; `None` where the disk cannot.
    async fn read(&self, at: u64, len: usize) -> Result<Option<F::Read>, StoreError> {
        match self.file.read_at(at, len).await {
            Ok(read) => Ok(Some(read)),
            Err(error) if matches!(error.failure, DiskFailure::Io(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether an error is about bytes of this file.
fn is_damage(error: &StoreError) -> bool {
    match error {
        StoreError::Corrupt { .. } => true,
        StoreError::Disk(error) => matches!(error.failure, DiskFailure::Io(_)),
        _ => false,
    }
}
