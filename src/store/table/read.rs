//! Reading a table: one key through filter, index and one block.
//!
//! 1. What is held of a table is its top index and, where there is room, its filter and its fences.

use std::cell::RefCell;
use std::rc::Rc;

use xxhash_rust::xxh3::xxh3_64;

use super::fences::{FENCE_BYTES, Fenced, Fences};
use super::{Footer, TableCursor, TableMeta};
use crate::ground::limits::{STORE_BLOCK_BYTES_MAX, STORE_BLOCK_RAW_BYTES, STORE_REQUEST_BYTES};
use crate::store::block::{Block, BlockKind, Place, sealed_len, search, unseal, unseal_in, word};
use crate::store::cache::Cache;
use crate::store::disk::{File, PAGE};
use crate::store::entry::Entry;
use crate::store::error::StoreError;
use crate::store::filter::Filter;

/// Bytes of unpacked blocks beyond which the memory for them is given back.
const ROOM_BYTES_MAX: usize = 2 * STORE_BLOCK_RAW_BYTES;

/// What memory knows of where a key is in a table.
pub enum Look<T> {
    /// Its entry, as it was read.
    Found(T),
    Absent,
    /// A block must be read: [`Table::read`].
    Unread(Unread),
}

/// A block that a look for a key came to, and that is not in memory.
pub struct Unread {
    kind: BlockKind,
    at: u64,
    len: u64,
}

/// An open table.
pub struct Table<F> {
    file: F,
    footer: Footer,
    meta: TableMeta,
    top: Block,
    filter: Option<Filter>,
    fences: Option<Fences>,
}

impl<F: File> Table<F> {
    /// Reads what is held of a table (invariant 1). O(its filter and index).
    ///
    /// # Errors
    /// [`StoreError`]; among them that the file is not the table of this number.
    pub async fn open(file: F, file_id: u64, is_held: bool) -> Result<Table<F>, StoreError> {
        let bytes = file.length().await?;
        let corrupt = |at, what| Err(StoreError::Corrupt { file: file.name().into(), at, what });
        if bytes < 6 * PAGE as u64 || !bytes.is_multiple_of(PAGE as u64) {
            return corrupt(bytes, "a table ends before its footer");
        }
        let at = bytes - PAGE as u64;
        let page = file.read_at(at, PAGE).await?;
        let footer = Footer::parse(&page, file.name(), at)?;
        if footer.file_id != file_id {
            return corrupt(at, "a table of another number is in this file");
        }
        let len = footer.filter_at - footer.top_at;
        let top = read_block(&file, file_id, BlockKind::Top, footer.top_at, len).await?;
        let bounds_len = at - footer.bounds_at;
        let bounds =
            read_block(&file, file_id, BlockKind::Bounds, footer.bounds_at, bounds_len).await?;
        if bounds.len() != 2 || top.is_empty() {
            return corrupt(footer.bounds_at, "a table without bounds");
        }
        let meta = TableMeta {
            id: file_id,
            bytes,
            entries: footer.entries,
            tombstones: footer.tombstones,
            seq_max: footer.seq_max,
            expiry_ms_min: footer.expiry_ms_min,
            first: bounds.entry(0).key.to_vec(),
            last: bounds.entry(1).key.to_vec(),
        };
        let mut table = Table { file, footer, meta, top, filter: None, fences: None };
        if is_held {
            table.filter = Some(table.read_filter().await?);
            table.fences = Some(table.read_fences().await?);
        }
        Ok(table)
    }

    /// What is known of it.
    pub fn meta(&self) -> &TableMeta {
        &self.meta
    }

    /// Bytes of memory held, without blocks in the cache.
    pub fn memory_bytes(&self) -> usize {
        let filter = self.filter.as_ref().map_or(0, Filter::memory_bytes);
        let keys = self.meta.first.len() + self.meta.last.len();
        let fences = self.fences.as_ref().map_or(0, Fences::memory_bytes);
        self.top.memory_bytes() + filter + fences + keys + size_of::<Table<F>>()
    }

    /// Bytes of memory that the filter and the fences of such a table take, roughly.
    pub fn held_bytes(meta: &TableMeta) -> usize {
        meta.entries as usize * 5 / 4 + meta.bytes as usize / PAGE * FENCE_BYTES
    }

    /// Whether the key of this hash may be here, as far as memory knows.
    #[inline]
    pub fn may_hold(&self, hash: u64) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.may_hold(hash))
    }

    /// Asks the processor for what [`Table::may_hold`] will touch.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.filter.iter().for_each(|filter| filter.prefetch(hash));
    }

    /// Looks for the entry of a key where memory has the blocks for it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub fn look<T>(
        &self,
        key: &[u8],
        cache: &RefCell<Cache>,
        read: impl FnOnce(Entry<'_>) -> T,
    ) -> Result<Look<T>, StoreError> {
        let mut cache = cache.borrow_mut();
        let fenced = self.fences.as_ref().map_or(Fenced::Unsure, |fences| fences.find(key));
        let (at, len) = match fenced {
            Fenced::At(at, len) => (at, len),
            Fenced::Nowhere => return Ok(Look::Absent),
            Fenced::Unsure => {
                let limits = (self.footer.index_at, self.footer.top_at);
                let pointer = self.pointer(&self.top, key, limits, self.footer.top_at)?;
                let Some((at, len)) = pointer else { return Ok(Look::Absent) };
                let Some(index) = cache.get((self.meta.id, at)) else {
                    return Ok(Look::Unread(Unread { kind: BlockKind::Index, at, len }));
                };
                let pointer = self.pointer(&index, key, (0, self.footer.index_at), at)?;
                let Some(place) = pointer else { return Ok(Look::Absent) };
                place
            }
        };
        let Some(block) = cache.get((self.meta.id, at)) else {
            return Ok(Look::Unread(Unread { kind: BlockKind::Data, at, len }));
        };
        let i = block.lower_bound(key);
        let is_here = i < block.len() && block.entry(i).key == key;
        Ok(if is_here { Look::Found(read(block.entry(i))) } else { Look::Absent })
    }

    /// Reads the block that a look came to, and goes on from there: at most two requests. Data
    /// blocks are unpacked into `room`; those that are worth it stay in the cache.
    ///
    /// # Errors
    /// [`StoreError::Disk`] or [`StoreError::Corrupt`].
    pub async fn read<T>(
        &self,
        unread: Unread,
        key: &[u8],
        (cache, room): (&RefCell<Cache>, &RefCell<Vec<u8>>),
        read: impl FnOnce(Entry<'_>) -> T,
    ) -> Result<Option<T>, StoreError> {
        let Unread { kind, mut at, mut len } = unread;
        if kind == BlockKind::Index {
            let index = self.block(kind, at, len, cache).await?;
            let Some(found) = self.pointer(&index, key, (0, self.footer.index_at), at)? else {
                return Ok(None);
            };
            (at, len) = found;
        }
        if len > STORE_REQUEST_BYTES as u64 {
            let raw = read_raw(&self.file, self.meta.id, BlockKind::Data, at, len).await?;
            return self.search(at, &raw, key, read);
        }
        let sealed = self.file.read_at(at, len as usize).await?;
        let room = &mut room.borrow_mut();
        if room.len() > ROOM_BYTES_MAX {
            // A single large entry was there.
            room.truncate(0);
            room.shrink_to(ROOM_BYTES_MAX);
        }
        let place = Place { file_id: self.meta.id, at };
        let raw = unseal_in(BlockKind::Data, &sealed, place, room);
        let raw = raw.map_err(|what| self.corrupt(at, what))?;
        let mut cache = cache.borrow_mut();
        if cache.wants((self.meta.id, at), raw.len()) {
            let block = Block::new(raw.to_vec()).map_err(|what| self.corrupt(at, what))?;
            cache.insert((self.meta.id, at), Rc::new(block));
        }
        self.search(at, raw, key, read)
    }

    /// Hands the entry of a key in a data block's raw form to `read`.
    fn search<T>(
        &self,
        at: u64,
        raw: &[u8],
        key: &[u8],
        read: impl FnOnce(Entry<'_>) -> T,
    ) -> Result<Option<T>, StoreError> {
        let entry = search(raw, key).map_err(|what| self.corrupt(at, what))?;
        Ok(entry.map(read))
    }

    /// Position of the first data block that may hold `key` or one behind it; the end of the data
    /// if there is none.
    pub(super) async fn seek(&self, key: &[u8], cache: &RefCell<Cache>) -> Result<u64, StoreError> {
        Ok(self.data_of(key, cache).await?.map_or(self.footer.index_at, |(at, _)| at))
    }

    /// Reads the whole file and checks all that is said in it. O(bytes).
    ///
    /// # Errors
    /// The first [`StoreError`] met.
    pub async fn verify(self: &Rc<Self>) -> Result<(), StoreError> {
        let (mut last, mut entries) = (None::<Vec<u8>>, 0);
        let filter = self.read_filter().await?;
        let cache = RefCell::new(Cache::new(0));
        let mut cursor = TableCursor::first(self.clone()).await?;
        while let Some(entry) = cursor.entry() {
            let is_behind = last.as_deref().is_none_or(|last| last < entry.key);
            let at = cursor.block_at();
            if !is_behind {
                return Err(self.corrupt(at, "keys are not in order"));
            }
            if !filter.may_hold(xxh3_64(entry.key)) {
                return Err(self.corrupt(self.footer.filter_at, "a key is not in the filter"));
            }
            if last.is_none() && entry.key != self.meta.first {
                return Err(self.corrupt(self.footer.bounds_at, "the first key is another"));
            }
            if cursor.is_at_block_start() && self.seek(entry.key, &cache).await? != at {
                return Err(self.corrupt(self.footer.index_at, "the index leads elsewhere"));
            }
            let fenced = self.fences.as_ref().map_or(Fenced::Unsure, |f| f.find(entry.key));
            let is_there = matches!(fenced, Fenced::At(found, _) if found == at);
            if !is_there && fenced != Fenced::Unsure {
                return Err(self.corrupt(self.footer.index_at, "a fence leads elsewhere"));
            }
            last = Some(entry.key.to_vec());
            entries += 1;
            cursor.next().await?;
        }
        if entries != self.footer.entries || last.as_ref() != Some(&self.meta.last) {
            return Err(self.corrupt(self.footer.bounds_at, "the last key is another"));
        }
        Ok(())
    }

    pub(super) fn file(&self) -> &F {
        &self.file
    }

    /// Where the data end.
    pub(super) fn data_end(&self) -> u64 {
        self.footer.index_at
    }

    pub(super) fn corrupt(&self, at: u64, what: &'static str) -> StoreError {
        StoreError::Corrupt { file: self.file.name().to_string(), at, what }
    }

    /// Position and bytes of the data block that would hold a key.
    async fn data_of(
        &self,
        key: &[u8],
        cache: &RefCell<Cache>,
    ) -> Result<Option<(u64, u64)>, StoreError> {
        let limits = (self.footer.index_at, self.footer.top_at);
        let Some((at, len)) = self.pointer(&self.top, key, limits, self.footer.top_at)? else {
            return Ok(None);
        };
        let index = self.block(BlockKind::Index, at, len, cache).await?;
        self.pointer(&index, key, (0, self.footer.index_at), at)
    }

    /// What an index block says of a key: a block inside `limits`.
    fn pointer(
        &self,
        index: &Block,
        key: &[u8],
        limits: (u64, u64),
        index_at: u64,
    ) -> Result<Option<(u64, u64)>, StoreError> {
        let i = index.lower_bound(key);
        if i == index.len() {
            return Ok(None);
        }
        let value = index.entry(i).value;
        if let (Some(at), Some(len)) = (word(value, 0), word(value, 8)) {
            let is_page = at.is_multiple_of(PAGE as u64) && len.is_multiple_of(PAGE as u64);
            let end = at.checked_add(len).filter(|end| *end <= limits.1);
            if is_page && len > 0 && at >= limits.0 && end.is_some() {
                return Ok(Some((at, len)));
            }
        }
        Err(self.corrupt(index_at, "an index leads out of its table"))
    }

    /// A block of entries, from the cache or from the disk.
    async fn block(
        &self,
        kind: BlockKind,
        at: u64,
        len: u64,
        cache: &RefCell<Cache>,
    ) -> Result<Rc<Block>, StoreError> {
        let key = (self.meta.id, at);
        if let Some(block) = cache.borrow_mut().get(key) {
            return Ok(block);
        }
        let block = Rc::new(read_block(&self.file, self.meta.id, kind, at, len).await?);
        cache.borrow_mut().insert(key, block.clone());
        Ok(block)
    }

    /// Reads the index, in few requests.
    async fn read_fences(&self) -> Result<Fences, StoreError> {
        let mut fences = Fences::new(&self.meta.first, &self.meta.last);
        let (mut at, end) = (self.footer.index_at, self.footer.top_at);
        let mut sealed = Vec::new();
        while at < end {
            let read = at + sealed.len() as u64;
            let wanted = (end - read).min(STORE_REQUEST_BYTES as u64) as usize;
            if wanted > 0 {
                let bytes = self.file.read_at(read, wanted).await?;
                if bytes.len() < wanted {
                    return Err(self.corrupt(read, "the file ends in its index"));
                }
                sealed.extend_from_slice(&bytes);
            }
            let mut used = 0;
            while let Some(len) = sealed_len(&sealed[used..]) {
                let Some(block) = sealed.get(used..used + len) else { break };
                let place = Place { file_id: self.meta.id, at };
                let index = unseal(BlockKind::Index, block, place).and_then(Block::new);
                let index = index.map_err(|what| self.corrupt(at, what))?;
                self.fence(&index, at, &mut fences)?;
                used += len;
                at += len as u64;
            }
            if used == 0 && wanted == 0 {
                return Err(self.corrupt(at, "an index ends in a block"));
            }
            sealed.drain(..used);
        }
        if fences.end() != self.footer.index_at {
            return Err(self.corrupt(self.footer.index_at, "an index leaves blocks out"));
        }
        fences.shrink();
        Ok(fences)
    }

    /// Adds the blocks that an index block names.
    fn fence(&self, index: &Block, at: u64, fences: &mut Fences) -> Result<(), StoreError> {
        for entry in (0..index.len()).map(|i| index.entry(i)) {
            let place = word(entry.value, 0).zip(word(entry.value, 8));
            let is_next = place.is_some_and(|(data_at, len)| {
                let end = data_at.checked_add(len).filter(|end| *end <= self.footer.index_at);
                end.is_some_and(|end| fences.add(entry.key, data_at, end))
            });
            if !is_next {
                return Err(self.corrupt(at, "an index leads out of its table"));
            }
        }
        Ok(())
    }

    async fn read_filter(&self) -> Result<Filter, StoreError> {
        let (at, end) = (self.footer.filter_at, self.footer.bounds_at);
        let raw =
            read_raw(&self.file, self.footer.file_id, BlockKind::Filter, at, end - at).await?;
        Filter::load(&raw).ok_or_else(|| self.corrupt(at, "a filter of no size"))
    }
}

async fn read_block<F: File>(
    file: &F,
    file_id: u64,
    kind: BlockKind,
    at: u64,
    len: u64,
) -> Result<Block, StoreError> {
    let raw = read_raw(file, file_id, kind, at, len).await?;
    Block::new(raw).map_err(|what| StoreError::Corrupt { file: file.name().to_string(), at, what })
}

/// What the block of `len` bytes at a position holds.
pub async fn read_raw<F: File>(
    file: &F,
    file_id: u64,
    kind: BlockKind,
    at: u64,
    len: u64,
) -> Result<Vec<u8>, StoreError> {
    let corrupt = |what| StoreError::Corrupt { file: file.name().to_string(), at, what };
    let place = Place { file_id, at };
    if len <= STORE_REQUEST_BYTES as u64 {
        let sealed = file.read_at(at, len as usize).await?;
        return unseal(kind, &sealed, place).map_err(corrupt);
    }
    if len > (STORE_BLOCK_BYTES_MAX + PAGE) as u64 {
        return Err(corrupt("a block is longer than blocks can be"));
    }
    let mut sealed = Vec::with_capacity(len as usize);
    while sealed.len() < len as usize {
        let wanted = (len as usize - sealed.len()).min(STORE_REQUEST_BYTES);
        let read = file.read_at(at + sealed.len() as u64, wanted).await?;
        sealed.extend_from_slice(&read);
        if read.len() < wanted {
            break;
        }
    }
    unseal(kind, &sealed, place).map_err(corrupt)
}
