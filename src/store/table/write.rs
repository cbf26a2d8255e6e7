//! Writing a table, from its first entry to its footer, in large sequential requests.
//!
//! 1. Entries come in the order of their keys, no key twice.
//! 2. A data block is ended when its packed form is thought to fill a page: the measure is how the
//!    block before was packed.
//! 3. At most [`STORE_WRITES_IN_FLIGHT`] requests are under way: the disk writes while the next
//!    blocks are packed. All have ended well before the file is synced.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use xxhash_rust::xxh3::xxh3_64;

use super::{Footer, TableMeta};
use crate::ground::limits::{
    STORE_BLOCK_BYTES_MAX, STORE_BLOCK_RAW_BYTES, STORE_REQUEST_BYTES, STORE_VALUE_BYTES_MAX,
    STORE_WRITES_IN_FLIGHT,
};
use crate::store::block::{BlockBuilder, BlockKind, HEAD, Place, seal};
use crate::store::codec::{Codec, Packer};
use crate::store::disk::{DiskError, File, PAGE};
use crate::store::entry::{Entry, Kind, NEVER};
use crate::store::error::StoreError;
use crate::store::filter::Filter;

/// What a packed data block is to fill, bytes.
const PACKED: usize = PAGE - HEAD;

/// A write that was handed to the disk.
type Write = Pin<Box<dyn Future<Output = Result<(), DiskError>>>>;

/// A table that is being written.
pub struct TableWriter<F> {
    file: Rc<F>,
    /// Under way, the oldest first (invariant 3).
    writes: Vec<Write>,
    packer: Packer,
    plain: Packer,
    footer: Footer,
    /// Sealed and not yet written; they go behind `written` bytes of the file.
    sealed: Vec<u8>,
    written: u64,
    data: BlockBuilder,
    /// Raw bytes at which a data block is ended (invariant 2).
    raw_wanted: usize,
    index: BlockBuilder,
    /// Index blocks; they follow the data, so that data can be read in one go.
    indices: Vec<(Vec<u8>, Vec<u8>)>,
    hashes: Vec<u64>,
    first: Vec<u8>,
    last: Vec<u8>,
}

impl<F: File> TableWriter<F> {
    /// A writer to an empty file.
    pub fn new(file: F, file_id: u64, codec: Codec) -> TableWriter<F> {
        TableWriter {
            file: Rc::new(file),
            writes: Vec::new(),
            packer: Packer::new(codec),
            plain: Packer::new(Codec::None),
            footer: Footer { file_id, expiry_ms_min: NEVER, ..Footer::default() },
            sealed: Vec::new(),
            written: 0,
            data: BlockBuilder::default(),
            raw_wanted: PACKED,
            index: BlockBuilder::default(),
            indices: Vec::new(),
            hashes: Vec::new(),
            first: Vec::new(),
            last: Vec::new(),
        }
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    ///
    /// # Panics
    /// If its key does not come behind the last one (invariant 1).
    pub async fn add(&mut self, entry: &Entry<'_>) -> Result<(), StoreError> {
        debug_assert!(entry.value.len() <= STORE_VALUE_BYTES_MAX, "checked where it came in");
        if self.footer.entries == 0 {
            self.first = entry.key.to_vec();
        } else {
            assert!(self.last.as_slice() < entry.key, "table writer invariant 1");
        }
        let len = entry.key.len() + entry.value.len() + 32;
        if !self.data.is_empty() && self.data.len() + len > self.raw_wanted {
            self.end_data();
            if self.sealed.len() >= STORE_REQUEST_BYTES {
                self.write(STORE_REQUEST_BYTES).await?;
            }
        }
        self.data.add(entry);
        self.last.clear();
        self.last.extend_from_slice(entry.key);
        self.hashes.push(xxh3_64(entry.key));
        self.footer.entries += 1;
        self.footer.tombstones += u64::from(entry.kind == Kind::Tombstone);
        self.footer.seq_max = self.footer.seq_max.max(entry.seq);
        self.footer.expiry_ms_min = self.footer.expiry_ms_min.min(entry.expiry_ms);
        Ok(())
    }

    /// Bytes that the file has so far, roughly.
    pub fn bytes(&self) -> u64 {
        self.position() + self.data.len() as u64
    }

    /// Bytes of memory held. O(1).
    pub fn memory_bytes(&self) -> usize {
        let writes = self.writes.len() * STORE_REQUEST_BYTES;
        let lists = self.sealed.capacity() + self.hashes.capacity() * 8;
        writes + lists + self.data.len() + self.index.len()
    }

    /// Ends the table and makes it durable; its name is not yet.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    ///
    /// # Panics
    /// If no entry was added.
    pub async fn finish(mut self) -> Result<TableMeta, StoreError> {
        assert!(self.footer.entries > 0, "table invariant 1");
        self.end_data();
        self.end_index();
        self.footer.index_at = self.position();
        let mut top = BlockBuilder::default();
        for (last, raw) in std::mem::take(&mut self.indices) {
            let at = self.position();
            self.seal(BlockKind::Index, &raw);
            top.add(&pointer(&last, &place(at, self.position() - at)));
        }
        self.footer.top_at = self.position();
        self.seal(BlockKind::Top, top.finish());
        self.footer.filter_at = self.position();
        let filter = Filter::new(&self.hashes);
        self.seal(BlockKind::Filter, &filter.bytes());
        self.footer.bounds_at = self.position();
        let mut bounds = BlockBuilder::default();
        bounds.add(&pointer(&self.first, &[]));
        bounds.add(&pointer(&self.last, &[]));
        self.seal(BlockKind::Bounds, bounds.finish());
        let at = self.position();
        self.sealed.extend_from_slice(&self.footer.page(at));
        while !self.sealed.is_empty() {
            self.write(self.sealed.len().min(STORE_REQUEST_BYTES)).await?;
        }
        self.wait_for_writes(0).await?;
        self.file.sync().await?;
        Ok(TableMeta {
            id: self.footer.file_id,
            bytes: self.written,
            entries: self.footer.entries,
            tombstones: self.footer.tombstones,
            seq_max: self.footer.seq_max,
            expiry_ms_min: self.footer.expiry_ms_min,
            first: self.first,
            last: self.last,
        })
    }

    fn position(&self) -> u64 {
        self.written + self.sealed.len() as u64
    }

    fn seal(&mut self, kind: BlockKind, raw: &[u8]) {
        let place = Place { file_id: self.footer.file_id, at: self.position() };
        seal(kind, raw, place, &mut self.plain, &mut self.sealed);
    }

    fn end_data(&mut self) {
        if self.data.is_empty() {
            return;
        }
        let (at, raw_len) = (self.position(), self.data.len());
        let place_here = Place { file_id: self.footer.file_id, at };
        let raw = self.data.finish();
        let packed = seal(BlockKind::Data, raw, place_here, &mut self.packer, &mut self.sealed);
        // A little less than measured: a block that misses its page takes two.
        let fitting = raw_len * PACKED / packed.max(1);
        self.raw_wanted = (fitting - fitting / 32).clamp(PACKED, STORE_BLOCK_RAW_BYTES);
        self.data.clear();
        let bytes = self.position() - at;
        self.index.add(&pointer(&self.last, &place(at, bytes)));
        if self.index.len() >= PACKED {
            self.end_index();
        }
    }

    fn end_index(&mut self) {
        if !self.index.is_empty() {
            self.indices.push((self.last.clone(), self.index.finish().to_vec()));
            self.index.clear();
        }
    }

    /// Writes the first `len` sealed bytes.
    async fn write(&mut self, len: usize) -> Result<(), StoreError> {
        debug_assert!(self.sealed.len() <= 2 * STORE_BLOCK_BYTES_MAX, "blocks are bounded");
        let mut buffer = self.file.buffer(len);
        buffer.copy_from_slice(&self.sealed[..len]);
        self.wait_for_writes(STORE_WRITES_IN_FLIGHT - 1).await?;
        let (file, at) = (self.file.clone(), self.written);
        let mut write: Write = Box::pin(async move { file.write_at(at, buffer).await });
        // The first poll hands it to the disk.
        match poll_fn(|context| Poll::Ready(write.as_mut().poll(context))).await {
            Poll::Ready(done) => done?,
            Poll::Pending => self.writes.push(write),
        }
        self.sealed.drain(..len);
        self.written += len as u64;
        Ok(())
    }

    /// Waits until at most so many writes are under way.
    async fn wait_for_writes(&mut self, most: usize) -> Result<(), StoreError> {
        while self.writes.len() > most {
            self.writes.remove(0).await?;
        }
        Ok(())
    }
}

/// An entry of an index.
fn pointer<'a>(key: &'a [u8], value: &'a [u8]) -> Entry<'a> {
    Entry { key, value, seq: 0, kind: Kind::Value, expiry_ms: NEVER }
}

fn place(at: u64, bytes: u64) -> [u8; 16] {
    let mut value = [0; 16];
    value[..8].copy_from_slice(&at.to_le_bytes());
    value[8..].copy_from_slice(&bytes.to_le_bytes());
    value
}
