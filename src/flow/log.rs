//! The rows and watermarks that came to keyed stages, as a checkpoint keeps them.
//!
//! While all keys of a shard are in memory its stages are machines whose only input this is: what
//! they knew at some checkpoint (the *base*) and the log since then give what they know now. So a
//! checkpoint between two bases costs what came, however much of the state that changed, and the
//! shard does not stand still for it. (Command logging: Malviya, Weisberg, Madden, Stonebraker,
//! "Rethinking main memory OLTP recovery", 2014; here rows are logged behind the exchange, so
//! that nothing which other threads decide matters.)
//!
//! ```text
//! log:       "CWLOG002" | entry*
//! entry:     1 (rows) | stage: u16 | input: u16 | rows: u32 | width: u32 | nulls: u8
//!              | heap: u32 (bytes) | times | marks
//!              | slots: rows x width x u64 | nulls: rows x words x u64, or nothing | heap
//!            2 (watermark) | stage: u16 | watermark: i64
//!            3 (slice) | stage: u16 | base: u64 | number: u32
//! times,     0 | rows x i64
//! marks:     1 | least: i64 | rows x u32 (above the least)
//! numbers are little-endian
//! ```
//!
//! 1. Entries of one stage stand in the order in which it took them. Stages do not wait for one
//!    another: what one puts out is noted again where the next takes it.
//! 2. A log that has grown past its bound is given up: then the next checkpoint is a base.
//! 3. A slice of a base (`flow::slices`) is noted where it was made: it knows what stands before
//!    it, of its stage, and nothing behind it.

use super::stage::InputForm;
use crate::ground::batch::{half_bytes, words_bytes};
use crate::ground::time::Time;
use crate::ground::{slot, stream};
use crate::ops::Rows;

pub(super) const LOG_MAGIC: &[u8; 8] = b"CWLOG002";
/// An entry of rows.
pub(super) const ROWS: u8 = 1;
/// An entry of a watermark.
pub(super) const WATERMARK: u8 = 2;
/// An entry that says that a slice of a base was made here.
pub(super) const SLICED: u8 = 3;
/// Times as they are.
pub(super) const WIDE: u8 = 0;
/// Times above the least.
pub(super) const NARROW: u8 = 1;

/// What has come since the current segment began.
#[derive(Default)]
pub struct Log {
    is_open: bool,
    most: usize,
    bytes: Vec<u8>,
    halves: Vec<u32>,
}

impl Log {
    /// Notes what comes from now on, in this buffer's memory, up to `most` bytes and a batch.
    pub fn begin(&mut self, buffer: Vec<u8>, most: usize) {
        (self.is_open, self.most) = (true, most);
        if buffer.capacity() > self.bytes.capacity() {
            self.bytes = buffer;
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(LOG_MAGIC);
    }

    /// Gives up what was noted, and notes nothing more; its memory is kept.
    pub fn close(&mut self) {
        self.is_open = false;
        self.bytes.clear();
    }

    /// As [`Log::close`], for good: gives its memory back.
    pub fn end(&mut self) {
        (self.is_open, self.bytes) = (false, Vec::new());
    }

    /// Notes up to `most` bytes from now on.
    pub fn set_most(&mut self, most: usize) {
        self.most = most;
    }

    /// Bytes up to which it notes, or did before it was closed.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Whether what comes is noted.
    #[inline(always)]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// What was noted since it was begun.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether nothing came since it was begun.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() <= LOG_MAGIC.len()
    }

    /// Takes out what was noted; what comes is noted in another buffer.
    pub fn take(&mut self, buffer: Vec<u8>) -> Vec<u8> {
        let taken = std::mem::take(&mut self.bytes);
        self.begin(buffer, self.most);
        taken
    }

    /// Notes rows that a stage is about to take. About 10 ns a row of 64 bytes: a copy.
    pub fn rows(&mut self, stage: u16, input: usize, rows: &Rows<'_>, form: &InputForm) {
        if !self.is_open || rows.select.is_empty() {
            return;
        }
        if self.bytes.len() > self.most {
            return self.close();
        }
        let Rows { records, select, times, marks } = *rows;
        let (width, words) = (records.width(), records.null_words());
        let first = select[0] as usize;
        let is_run = select.iter().enumerate().all(|(i, &row)| row as usize == first + i);
        let is_whole = is_run && select.len() == records.rows();
        let has_texts = !form.heaped.is_empty() && !records.heap().is_empty();
        let out = &mut self.bytes;
        out.push(ROWS);
        out.extend_from_slice(&stage.to_le_bytes());
        out.extend_from_slice(&(input as u16).to_le_bytes());
        out.extend_from_slice(&(select.len() as u32).to_le_bytes());
        out.extend_from_slice(&(width as u32).to_le_bytes());
        out.push(u8::from(records.has_nulls()));
        let heap_at = out.len();
        out.extend_from_slice(&0u32.to_le_bytes());
        put_times(times, &mut self.halves, out);
        put_times(marks, &mut self.halves, out);
        let slots_at = out.len();
        put_rows(records.slots(), width, select, is_run, out);
        if records.has_nulls() {
            put_rows(records.nulls(), words, select, is_run, out);
        }
        let texts_at = out.len();
        if has_texts && is_whole {
            out.extend_from_slice(records.heap());
        } else if has_texts {
            // Of a part of a batch only the texts of its own rows.
            for i in 0..select.len() {
                for &column in &form.heaped {
                    let at = slots_at + (i * width + column) * 8;
                    let value = word_at(out, at);
                    if slot::is_heaped(value) {
                        let moved = slot::heaped((out.len() - texts_at) as u32, slot::len(value));
                        out.extend_from_slice(slot::bytes(&value, records.heap()));
                        out[at..at + 8].copy_from_slice(&moved.to_le_bytes());
                    }
                }
            }
        }
        let heap = (out.len() - texts_at) as u32;
        out[heap_at..heap_at + 4].copy_from_slice(&heap.to_le_bytes());
    }

    /// Notes that a slice was made of a stage.
    pub fn slice(&mut self, stage: u16, base: u64, number: u32) {
        if self.is_open {
            self.bytes.push(SLICED);
            self.bytes.extend_from_slice(&stage.to_le_bytes());
            self.bytes.extend_from_slice(&base.to_le_bytes());
            self.bytes.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// Notes a watermark that a stage is about to take.
    pub fn watermark(&mut self, stage: u16, watermark: Time) {
        if self.is_open {
            self.bytes.push(WATERMARK);
            self.bytes.extend_from_slice(&stage.to_le_bytes());
            self.bytes.extend_from_slice(&watermark.to_le_bytes());
        }
    }
}

fn word_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Appends `width` words of each selected row.
fn put_rows(words: &[u64], width: usize, select: &[u32], is_run: bool, out: &mut Vec<u8>) {
    if is_run {
        let first = select[0] as usize * width;
        stream::append(words_bytes(&words[first..first + select.len() * width]), out);
        return;
    }
    out.reserve(select.len() * width * 8);
    for &row in select {
        let first = row as usize * width;
        out.extend_from_slice(words_bytes(&words[first..first + width]));
    }
}

fn put_times(times: &[Time], halves: &mut Vec<u32>, out: &mut Vec<u8>) {
    let range = times
        .iter()
        .fold((Time::MAX, Time::MIN), |(least, most), &time| (least.min(time), most.max(time)));
    let (least, most) = range;
    // Right for all pairs of times: the difference of two i64 in order fits a u64.
    if (most as u64).wrapping_sub(least as u64) > u64::from(u32::MAX) {
        out.push(WIDE);
        times.iter().for_each(|time| out.extend_from_slice(&time.to_le_bytes()));
        return;
    }
    out.push(NARROW);
    out.extend_from_slice(&least.to_le_bytes());
    halves.clear();
    halves.extend(times.iter().map(|&time| time.wrapping_sub(least) as u32));
    out.extend_from_slice(half_bytes(halves));
}
