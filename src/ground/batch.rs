//! Record batches: rows of one schema in one rkyv archive, read in place everywhere.
//!
//! ```text
//! +----------------------+-----------------------+-----------+--------------------+
//! | slots: rows x width  | nulls: rows x words,  | heap:     | ArchivedRecords    |
//! | u64, row-major       | u64, or nothing       | bytes     | (root, at the end) |
//! +----------------------+-----------------------+-----------+--------------------+
//! ```
//!
//! The bytes that a source decodes into are these bytes: a builder writes slots straight into the
//! archive's buffer and `finish` appends the rest, so a batch crosses a ring, goes into a file and
//! comes out of a memory map without being rewritten.
//!
//! 1. `slots.len() == rows * width`; `nulls` is empty (no NULL in the batch) or has
//!    `rows * ceil(width / 64)` words: bit c of a row's words is set if column c is NULL.
//! 2. A NULL's slot is 0.
//! 3. Every heap slot points inside `heap`. Batches built here keep that; batches from outside are
//!    checked once by [`RecordBatch::from_bytes`] and [`RecordBatch::check_heap`].
//! 4. The buffer is 16-byte aligned and never changes once the batch exists.

use std::ptr::NonNull;
use std::sync::Arc;

use rkyv::munge::munge;
use rkyv::util::AlignedVec;
use rkyv::vec::{ArchivedVec, VecResolver};
use rkyv::{Archive, Place};
use thiserror::Error;

use super::schema::Schema;
use super::slot;

/// The archived form. Never built as an owned struct on the hot path; see the module's head.
#[derive(Archive, rkyv::Serialize)]
pub struct Records {
    pub rows: u32,
    pub width: u32,
    pub slots: Vec<u64>,
    pub nulls: Vec<u64>,
    pub heap: Vec<u8>,
}

/// Why bytes are not a batch of the schema they should have.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BatchError {
    #[error("not a record batch: {0}")]
    Malformed(String),
    #[error("record batch of {found} columns where the schema has {expected}")]
    Width { expected: usize, found: usize },
    #[error("record batch whose row {row}, column {column} points outside its heap")]
    Heap { row: usize, column: usize },
}

/// Bytes that outlive a batch read in place from them: a memory map, usually.
pub trait Backing: Send + Sync + 'static {
    /// The bytes, at one address for as long as the value lives, 16-byte aligned.
    fn bytes(&self) -> &[u8];
}

enum Bytes {
    Owned(AlignedVec<16>),
    Backed { _owner: Arc<dyn Backing>, len: usize, start: NonNull<u8> },
}

/// Rows of one schema, immutable. Cheap to move; share it by `Arc`.
pub struct RecordBatch {
    bytes: Bytes,
    rows: usize,
    width: usize,
    null_words: usize,
    slots: NonNull<u64>,
    nulls: NonNull<u64>,
    nulls_len: usize,
    heap: NonNull<u8>,
    heap_len: usize,
}

// SAFETY: the pointers go into `bytes`, which the batch owns (or keeps alive by the Arc of a
// Send + Sync backing) and which nobody writes (invariant 4); shared reads are data-race free.
unsafe impl Send for RecordBatch {}
// SAFETY: as above.
unsafe impl Sync for RecordBatch {}

/// The 8 bytes of a slot, in place.
#[inline(always)]
pub fn word_bytes(word: &u64) -> &[u8; 8] {
    // SAFETY: any u64 is eight initialised bytes, and u8 has no alignment.
    unsafe { &*std::ptr::from_ref(word).cast() }
}

/// The bytes of words, in place.
#[inline(always)]
pub fn words_bytes(words: &[u64]) -> &[u8] {
    // SAFETY: as for `word_bytes`; the length is that of the slice in bytes.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

/// The bytes of half words, in place.
#[inline(always)]
pub fn half_bytes(halves: &[u32]) -> &[u8] {
    // SAFETY: as for `words_bytes`.
    unsafe { std::slice::from_raw_parts(halves.as_ptr().cast(), size_of_val(halves)) }
}

impl RecordBatch {
    fn over(bytes: Bytes) -> RecordBatch {
        let all = match &bytes {
            Bytes::Owned(vec) => vec.as_slice(),
            // SAFETY: `start..start+len` lies in the backing, which `_owner` keeps alive.
            Bytes::Backed { len, start, .. } => unsafe {
                std::slice::from_raw_parts(start.as_ptr(), *len)
            },
        };
        // SAFETY: callers have either written the archive (`finish`) or checked it
        // (`from_bytes`), and the buffer is aligned to 16.
        let root = unsafe { rkyv::access_unchecked::<ArchivedRecords>(all) };
        let (slots, nulls, heap) =
            (root.slots.as_slice(), root.nulls.as_slice(), root.heap.as_slice());
        let (rows, width) = (root.rows.to_native() as usize, root.width.to_native() as usize);
        assert_eq!(slots.len(), rows * width, "invariant 1");
        assert!(nulls.is_empty() || nulls.len() == rows * width.div_ceil(64), "invariant 1");
        let (slots, nulls_len) = (NonNull::from(slots).cast(), nulls.len());
        let (nulls, heap_len) = (NonNull::from(nulls).cast(), heap.len());
        let heap = NonNull::from(heap).cast();
        let null_words = width.div_ceil(64);
        RecordBatch { bytes, rows, width, null_words, slots, nulls, nulls_len, heap, heap_len }
    }

    /// A batch without rows.
    pub fn empty(width: usize) -> RecordBatch {
        BatchBuilder::new(width, 0).finish()
    }

    /// Reads a batch in place from `start..start + len` of `owner`, checking its structure (about
    /// 2 ns a batch) but not where its heap slots point: see [`RecordBatch::check_heap`].
    ///
    /// # Errors
    /// [`BatchError::Malformed`] if the bytes are no archive of a batch or lie unaligned.
    pub fn from_bytes(
        owner: Arc<dyn Backing>,
        start: usize,
        len: usize,
    ) -> Result<RecordBatch, BatchError> {
        let malformed = |why: String| BatchError::Malformed(why);
        let all = owner.bytes().get(start..).and_then(|rest| rest.get(..len));
        let all = all.ok_or_else(|| malformed(format!("{len} bytes at {start} are not there")))?;
        if !(all.as_ptr() as usize).is_multiple_of(16) {
            return Err(malformed("not aligned to 16 bytes".into()));
        }
        let root = rkyv::access::<ArchivedRecords, rkyv::rancor::Error>(all)
            .map_err(|error| malformed(error.to_string()))?;
        let (rows, width) = (root.rows.to_native() as usize, root.width.to_native() as usize);
        if rows.checked_mul(width) != Some(root.slots.len()) {
            return Err(malformed(format!("{rows} rows of {width}, {} slots", root.slots.len())));
        }
        if !root.nulls.is_empty() && root.nulls.len() != rows * width.div_ceil(64) {
            return Err(malformed(format!("{rows} rows, {} null words", root.nulls.len())));
        }
        let start = NonNull::from(all).cast();
        Ok(RecordBatch::over(Bytes::Backed { _owner: owner, len, start }))
    }

    /// Checks a batch from outside against the schema it should have: width, and that every heap
    /// slot points inside the heap (invariant 3). O(rows x heap columns).
    ///
    /// # Errors
    /// [`BatchError::Width`] or [`BatchError::Heap`].
    pub fn check_heap(&self, schema: &Schema) -> Result<(), BatchError> {
        if self.width != schema.width() {
            return Err(BatchError::Width { expected: schema.width(), found: self.width });
        }
        for (column, about) in schema.columns.iter().enumerate() {
            if !about.data_type.is_heaped() {
                continue;
            }
            for row in 0..self.rows {
                let value = self.row(row)[column];
                let inside = if slot::is_heaped(value) {
                    slot::offset(value) + slot::len(value) <= self.heap_len
                } else {
                    slot::len(value) <= slot::INLINE_MAX
                };
                if !inside {
                    return Err(BatchError::Heap { row, column });
                }
            }
        }
        Ok(())
    }

    /// Rows in the batch.
    #[inline(always)]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Slots in a row.
    #[inline(always)]
    pub fn width(&self) -> usize {
        self.width
    }

    /// All slots, row-major.
    #[inline(always)]
    pub fn slots(&self) -> &[u64] {
        // SAFETY: pointer and length were taken from a slice of `bytes` (see `over`), u64_le has
        // u64's layout on this (little-endian, checked in ground) target.
        unsafe { std::slice::from_raw_parts(self.slots.as_ptr(), self.rows * self.width) }
    }

    /// One row's slots.
    ///
    /// # Panics
    /// If there is no such row.
    #[inline(always)]
    pub fn row(&self, row: usize) -> &[u64] {
        &self.slots()[row * self.width..(row + 1) * self.width]
    }

    /// Null words, row-major, [`RecordBatch::null_words`] a row; empty if nothing is NULL.
    #[inline(always)]
    pub fn nulls(&self) -> &[u64] {
        // SAFETY: as for `slots`.
        unsafe { std::slice::from_raw_parts(self.nulls.as_ptr(), self.nulls_len) }
    }

    /// Null words a row takes when there are any: `ceil(width / 64)`.
    #[inline(always)]
    pub fn null_words(&self) -> usize {
        self.null_words
    }

    /// Whether any value may be NULL.
    #[inline(always)]
    pub fn has_nulls(&self) -> bool {
        self.nulls_len != 0
    }

    /// Whether one value is NULL.
    #[inline(always)]
    pub fn is_null(&self, row: usize, column: usize) -> bool {
        self.nulls_len != 0
            && self.nulls()[row * self.null_words + column / 64] >> (column % 64) & 1 == 1
    }

    /// One value's slot, `None` for NULL.
    #[inline(always)]
    pub fn get(&self, row: usize, column: usize) -> Option<u64> {
        if self.is_null(row, column) { None } else { Some(self.row(row)[column]) }
    }

    /// One STRING, BYTES or ARRAY value's bytes, `None` for NULL.
    pub fn get_bytes(&self, row: usize, column: usize) -> Option<&[u8]> {
        if self.is_null(row, column) {
            return None;
        }
        Some(slot::bytes(&self.row(row)[column], self.heap()))
    }

    /// Bytes of long values.
    #[inline(always)]
    pub fn heap(&self) -> &[u8] {
        // SAFETY: as for `slots`.
        unsafe { std::slice::from_raw_parts(self.heap.as_ptr(), self.heap_len) }
    }

    /// The whole archive, as it goes to a disk.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Owned(vec) => vec.as_slice(),
            // SAFETY: as in `over`.
            Bytes::Backed { len, start, .. } => unsafe {
                std::slice::from_raw_parts(start.as_ptr(), *len)
            },
        }
    }
}

impl std::fmt::Debug for RecordBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecordBatch({} rows x {}, {} heap bytes)", self.rows, self.width, self.heap_len)
    }
}

/// Writes rows into a batch's archive, one after the other.
pub struct BatchBuilder {
    buffer: AlignedVec<16>,
    nulls: Vec<u64>,
    /// Long values of the rows so far; give slots made by [`slot::put`] on it to the row.
    pub heap: Vec<u8>,
    width: usize,
    null_words: usize,
    rows: usize,
    /// Bytes that the next batch is likely to take: what the last one took.
    likely: usize,
    /// Bytes at the buffer's start that were written, in this batch or in one before.
    written: usize,
}

impl BatchBuilder {
    /// A builder for rows of `width` slots with room for `rows` of them; it grows when needed.
    pub fn new(width: usize, rows: usize) -> BatchBuilder {
        BatchBuilder {
            buffer: AlignedVec::new(),
            nulls: Vec::new(),
            heap: Vec::new(),
            width,
            null_words: width.div_ceil(64),
            rows: 0,
            likely: rows * width * 8 + 64,
            written: 0,
        }
    }

    /// Takes the memory of a batch that nobody reads any more for the next one. Between a batch's
    /// end and the next one's first row the builder holds no memory, so nothing is lost.
    pub fn recycle(&mut self, batch: RecordBatch) {
        if let Bytes::Owned(mut vec) = batch.bytes
            && self.rows == 0
            && vec.capacity() > self.buffer.capacity()
        {
            self.written = vec.len();
            vec.clear();
            self.buffer = vec;
        }
    }

    /// Rows so far.
    #[inline(always)]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Slots in a row.
    #[inline(always)]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Adds a row without NULLs by copying its slots. Heap slots must point into `self.heap`.
    #[inline(always)]
    pub fn push(&mut self, row: &[u64]) {
        let width = self.width;
        self.push_with(|out| out[..width].copy_from_slice(row));
    }

    /// Adds a row with these null words (`ceil(width / 64)` of them), whose NULL slots are 0.
    #[inline(always)]
    pub fn push_nulls(&mut self, row: &[u64], nulls: &[u64]) {
        self.push(row);
        self.set_nulls(nulls);
    }

    /// Adds a row and lets `fill` write its slots (they are 0 before), without NULLs.
    #[inline(always)]
    pub fn push_with(&mut self, fill: impl FnOnce(&mut [u64])) {
        let (at, step) = (self.buffer.len(), self.width * 8);
        if self.buffer.capacity() - at < step {
            self.buffer.reserve((step * 64).max(if at == 0 { self.likely } else { at }));
        }
        // SAFETY: capacity was ensured; the new bytes are zeroed before the length covers them,
        // and `at` is a multiple of 8 in a 16-aligned buffer.
        let row = unsafe {
            let start = self.buffer.as_mut_ptr().add(at);
            std::ptr::write_bytes(start, 0, step);
            self.buffer.set_len(at + step);
            std::slice::from_raw_parts_mut(start.cast::<u64>(), self.width)
        };
        fill(row);
        self.rows += 1;
        if !self.nulls.is_empty() {
            self.nulls.resize(self.rows * self.null_words, 0);
        }
    }

    /// Marks values of the row added last as NULL; their slots become 0.
    #[inline(always)]
    pub fn set_nulls(&mut self, nulls: &[u64]) {
        if nulls.iter().any(|&word| word != 0) {
            self.set_nulls_slow(nulls);
        }
    }

    #[inline(never)]
    fn set_nulls_slow(&mut self, nulls: &[u64]) {
        self.nulls.resize(self.rows * self.null_words, 0);
        let at = (self.rows - 1) * self.null_words;
        for (i, &word) in nulls.iter().enumerate() {
            self.nulls[at + i] |= word;
            let mut left = word;
            while left != 0 {
                let column = i * 64 + left.trailing_zeros() as usize;
                self.last_row_mut()[column] = 0;
                left &= left - 1;
            }
        }
    }

    /// Marks one value of the row added last as NULL.
    pub fn set_null(&mut self, column: usize) {
        self.nulls.resize(self.rows * self.null_words, 0);
        let at = (self.rows - 1) * self.null_words;
        self.nulls[at + column / 64] |= 1 << (column % 64);
        self.last_row_mut()[column] = 0;
    }

    /// The slots of the row added last.
    ///
    /// # Panics
    /// If there is no row.
    pub fn last_row_mut(&mut self) -> &mut [u64] {
        let (rows, width) = (self.rows, self.width);
        &mut self.slots_mut()[(rows - 1) * width..]
    }

    /// All slots so far, row-major.
    pub fn slots_mut(&mut self) -> &mut [u64] {
        if self.rows == 0 {
            return &mut []; // The buffer may not be allocated yet.
        }
        // SAFETY: the buffer holds exactly `rows * width` initialised words, 16-aligned.
        unsafe {
            std::slice::from_raw_parts_mut(self.buffer.as_mut_ptr().cast(), self.rows * self.width)
        }
    }

    /// Adds `rows` zeroed rows without NULLs and gives the place of their first slot in
    /// [`BatchBuilder::slots_mut`], for callers that fill a batch column by column.
    pub fn extend_rows(&mut self, rows: usize) -> usize {
        let (at, more) = (self.rows * self.width, rows * self.width * 8);
        if self.buffer.capacity() == 0 {
            self.buffer.reserve(self.likely.max(more));
        }
        self.buffer.resize(self.buffer.len() + more, 0);
        self.rows += rows;
        if !self.nulls.is_empty() {
            self.nulls.resize(self.rows * self.null_words, 0);
        }
        at
    }

    /// As [`BatchBuilder::extend_rows`], for callers that set every slot of the new rows: those may
    /// hold anything that stood in a recycled batch.
    pub fn extend_rows_to_set(&mut self, rows: usize) -> usize {
        let (at, len) = (self.rows * self.width, self.buffer.len() + rows * self.width * 8);
        if len > self.written || len > self.buffer.capacity() {
            return self.extend_rows(rows);
        }
        // SAFETY: `len` is within the capacity, and the bytes up to it were written since the
        // buffer was allocated: `written` is set when a batch's buffer comes back, and forgotten
        // when it is given away; a buffer that grows in between is longer than `written`.
        unsafe { self.buffer.set_len(len) };
        self.rows += rows;
        if !self.nulls.is_empty() {
            self.nulls.resize(self.rows * self.null_words, 0);
        }
        at
    }

    /// Marks one value of any row as NULL and zeroes its slot.
    pub fn set_null_at(&mut self, row: usize, column: usize) {
        assert!(row < self.rows && column < self.width, "the value exists");
        self.nulls.resize(self.rows * self.null_words, 0);
        self.nulls[row * self.null_words + column / 64] |= 1 << (column % 64);
        let at = row * self.width + column;
        self.slots_mut()[at] = 0;
    }

    /// The null words of all rows so far, row-major, `ceil(width / 64)` a row. Whoever sets a bit
    /// sees to it that the slot is 0.
    pub fn nulls_mut(&mut self) -> &mut [u64] {
        self.nulls.resize(self.rows * self.null_words, 0);
        &mut self.nulls
    }

    /// Keeps of the last `count` rows those that `keep` says, by their place among them.
    ///
    /// # Panics
    /// If there are fewer rows.
    pub fn retain_last(&mut self, count: usize, keep: impl Fn(usize) -> bool) {
        let (first, width, words) = (self.rows - count, self.width, self.null_words);
        let mut kept = first;
        for row in first..self.rows {
            if !keep(row - first) {
                continue;
            }
            self.slots_mut().copy_within(row * width..(row + 1) * width, kept * width);
            if !self.nulls.is_empty() {
                self.nulls.copy_within(row * words..(row + 1) * words, kept * words);
            }
            kept += 1;
        }
        self.rows = kept;
        self.buffer.resize(kept * width * 8, 0);
        if !self.nulls.is_empty() {
            self.nulls.truncate(kept * words);
        }
    }

    /// Takes back the row added last (a wrong one, half decoded). Its heap bytes stay until the
    /// batch is finished unless `heap_len` (the heap's length before the row) is given.
    pub fn pop(&mut self, heap_len: Option<usize>) {
        assert!(self.rows > 0, "there is a row to take back");
        self.rows -= 1;
        self.buffer.resize(self.rows * self.width * 8, 0);
        if !self.nulls.is_empty() {
            self.nulls.truncate(self.rows * self.null_words);
        }
        if let Some(len) = heap_len {
            self.heap.truncate(len);
        }
    }

    /// Copies one row of another batch of the same schema; `heaped` names the columns of STRING,
    /// BYTES and ARRAY type.
    #[inline(always)]
    pub fn push_row_of(&mut self, batch: &RecordBatch, row: usize, heaped: &[usize]) {
        debug_assert_eq!(batch.width, self.width);
        self.push(batch.row(row));
        if batch.has_nulls() {
            let at = row * batch.null_words;
            self.set_nulls(&batch.nulls()[at..at + batch.null_words]);
        }
        if batch.heap_len != 0 {
            self.rehome_last(batch, row, heaped);
        }
    }

    #[inline(never)]
    fn rehome_last(&mut self, batch: &RecordBatch, row: usize, heaped: &[usize]) {
        for &column in heaped {
            let value = batch.row(row)[column];
            if slot::is_heaped(value) {
                let moved = slot::rehome(value, batch.heap(), &mut self.heap);
                self.last_row_mut()[column] = moved;
            }
        }
    }

    /// Ends the batch and starts the next one with fresh memory of the same capacity.
    pub fn finish(&mut self) -> RecordBatch {
        let slots_len = self.rows * self.width;
        let mut buffer = std::mem::take(&mut self.buffer);
        self.written = 0;
        let nulls_at = buffer.len();
        let tail = self.nulls.len() * 8 + self.heap.len() + 64;
        buffer.reserve(tail);
        // One batch of very long texts says nothing of the next.
        self.likely = nulls_at + tail.min(nulls_at + 4096);
        for word in &self.nulls {
            buffer.extend_from_slice(&word.to_le_bytes());
        }
        let heap_at = buffer.len();
        buffer.extend_from_slice(&self.heap);
        let root_at = buffer.len().next_multiple_of(align_of::<ArchivedRecords>());
        buffer.resize(root_at + size_of::<ArchivedRecords>(), 0);
        // SAFETY: `root_at` is inside the buffer, aligned for ArchivedRecords (the buffer is
        // 16-aligned), and every field is written before the batch is read.
        unsafe {
            let place = Place::<ArchivedRecords>::new_unchecked(
                root_at,
                buffer.as_mut_ptr().add(root_at).cast(),
            );
            munge!(let ArchivedRecords { rows, width, slots, nulls, heap } = place);
            (self.rows as u32).resolve((), rows);
            (self.width as u32).resolve((), width);
            ArchivedVec::resolve_from_len(slots_len, VecResolver::from_pos(0), slots);
            let nulls_from = VecResolver::from_pos(nulls_at);
            ArchivedVec::resolve_from_len(self.nulls.len(), nulls_from, nulls);
            ArchivedVec::resolve_from_len(self.heap.len(), VecResolver::from_pos(heap_at), heap);
        }
        self.nulls.clear();
        self.heap.clear();
        self.rows = 0;
        RecordBatch::over(Bytes::Owned(buffer))
    }
}

#[cfg(test)]
mod tests;
