//! The prefixes of each key, and the last rows that they consist of.
//!
//! ```text
//! word (8 bytes a key)   bits 0..m-1    bit k: the key's last k + 1 rows are a prefix
//!                        bits m-1..56   null bits of the ring, if there is room for them
//!                        bits 56..64    the place in the ring for the next row
//! ring (a line a key)    [null bits] | for each of the last m - 1 rows: [time] | kept columns
//! ```
//!
//! 1. If bit k is set, the last k + 1 places of the ring are the key's last rows, in order.
//! 2. A word without prefixes is 0.
//! 3. A line of up to a cache line does not straddle two; a longer one begins with one.

use super::prefixes::{Lane, Taken};
use crate::expr::Value;
use crate::ground::batch::RecordBatch;
use crate::ground::prefetch;
use crate::ground::slot;
use crate::ground::time::Time;
use crate::ground::words::Words;
use crate::ops::pattern::nfa::run::Event;
use crate::ops::pattern::reader::Reader;
use crate::ops::pattern::texts::Texts;
use crate::state::{Handle, LoadError};

const HEAD_SHIFT: u32 = 56;
/// Words of a cache line.
const LINE: usize = 8;

/// Where things are in a line.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Words of a key's line, and of one row in it.
    stride: usize,
    row_words: usize,
    /// Where rows begin in a line: behind the null bits, if they are there.
    first: usize,
    /// Rows in a ring, m - 1.
    rows: usize,
    /// Words of a row that its time takes: 0 or 1.
    timed: usize,
    /// Kept columns.
    columns: usize,
}

impl Shape {
    /// The prefixes in a word.
    #[inline(always)]
    pub fn live(self, word: u64) -> u32 {
        (word & ((1 << self.rows) - 1)) as u32
    }

    #[inline(always)]
    fn line(self, slot: u32) -> usize {
        slot as usize * self.stride
    }

    #[inline(always)]
    fn at(self, slot: u32, place: usize) -> usize {
        self.line(slot) + self.first + place * self.row_words
    }
}

/// See the module's head.
pub struct Rings {
    lane: Lane,
    /// The lane's words between [`Rings::begin`] and [`Rings::end`].
    words: Taken,
    ring: Words,
    /// Slots that there is room for.
    keys: usize,
    shape: Shape,
    columns: Vec<usize>,
    heaped: Vec<bool>,
    texts: Texts,
    has_texts: bool,
}

impl Rings {
    /// Rings for patterns of `length` rows that keep `columns`, with the rows' times if
    /// `is_timed`; `None` if there are more values in a ring than null bits. Words lie in `lane`.
    pub fn new(
        lane: Lane,
        length: usize,
        columns: Vec<usize>,
        heaped: Vec<bool>,
        is_timed: bool,
    ) -> Option<Rings> {
        let rows = length - 1;
        let values = rows * columns.len();
        if values > 64 {
            return None;
        }
        let first = usize::from(rows + values > HEAD_SHIFT as usize);
        let timed = usize::from(is_timed);
        let row_words = timed + columns.len();
        let stride = first + rows * row_words;
        let stride =
            if stride <= LINE { stride.next_power_of_two() } else { stride.next_multiple_of(LINE) };
        let shape = Shape { stride, row_words, first, rows, timed, columns: columns.len() };
        Some(Rings {
            lane,
            words: Taken::none(),
            keys: 0,
            ring: Words::zeroed(0),
            shape,
            has_texts: heaped.contains(&true),
            columns,
            heaped,
            texts: Texts::default(),
        })
    }

    /// Where things are.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether the batch's values can be kept as words: none is NULL or long, and no long one is
    /// kept that would have to be freed. (Texts of up to 7 bytes are words like others.)
    pub fn is_plain(&self, batch: &RecordBatch) -> bool {
        let short = !self.has_texts || (batch.heap().is_empty() && self.texts.is_empty());
        short && !batch.has_nulls()
    }

    /// Must be called before rows of keys in slots below `keys`: makes room for them.
    pub fn begin(&mut self, keys: usize) {
        if keys > self.keys {
            self.keys = keys.next_power_of_two().max(1024);
            self.ring = self.ring.grown(self.keys * self.shape.stride);
        }
        self.words = self.lane.take(self.keys);
    }

    /// Must be called after the rows.
    pub fn end(&mut self) {
        self.lane.put_back(std::mem::replace(&mut self.words, Taken::none()));
    }

    /// Asks for a key's word, and its line, ahead of their use.
    #[inline(always)]
    pub fn prefetch(&self, slot: u32, with_line: bool) {
        self.words.prefetch(slot);
        if with_line {
            let at = self.shape.line(slot);
            prefetch::read(&self.ring, at);
            if self.shape.stride > LINE {
                prefetch::read(&self.ring, at + LINE);
            }
        }
    }

    /// A key's word.
    #[inline(always)]
    pub fn word(&self, slot: u32) -> u64 {
        self.words.get(slot)
    }

    /// Ends a key's prefixes.
    #[inline(always)]
    pub fn forget(&mut self, slot: u32) {
        self.words.set(slot, 0);
    }

    /// Whether a slot has a prefix of a match. Only between [`Rings::end`] and [`Rings::begin`].
    pub fn has_prefix(&self, slot: u32) -> bool {
        (slot as usize) < self.keys && self.shape.live(self.lane.word(slot)) != 0
    }

    /// A key's word, 0 without prefixes. Only between [`Rings::end`] and [`Rings::begin`].
    pub fn word_at_rest(&self, slot: u32) -> u64 {
        if self.has_prefix(slot) { self.lane.word(slot) } else { 0 }
    }

    /// Columns of the rows that are kept.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// Whether times of rows are kept.
    pub fn is_timed(&self) -> bool {
        self.shape.timed == 1
    }

    /// Where the row `back` rows ago begins, and its place in the ring.
    #[inline(always)]
    fn entry(&self, slot: u32, word: u64, back: usize) -> (usize, usize) {
        let head = (word >> HEAD_SHIFT) as usize;
        let place = if head >= back { head - back } else { head + self.shape.rows - back };
        (self.shape.at(slot, place), place)
    }

    /// Time of the row `back` rows ago.
    ///
    /// # Panics
    /// May, if the rings keep no times.
    #[inline(always)]
    pub fn time(&self, slot: u32, word: u64, back: usize) -> Time {
        debug_assert!(self.shape.timed == 1, "times are kept");
        self.ring[self.entry(slot, word, back).0] as Time
    }

    /// Null bits of a key's ring: place by place, column by column.
    #[inline(always)]
    fn nulls(&self, slot: u32, word: u64) -> u64 {
        if self.shape.first == 1 {
            self.ring[self.shape.line(slot)]
        } else {
            (word & ((1 << HEAD_SHIFT) - 1)) >> self.shape.rows
        }
    }

    /// Kept column `i` of the row `back` rows ago.
    #[inline(always)]
    pub fn value(&self, slot: u32, word: u64, back: usize, i: usize) -> Value<'_> {
        let (at, place) = self.entry(slot, word, back);
        let null = self.nulls(slot, word) >> (place * self.columns.len() + i) & 1 == 1;
        let stored = self.ring[at + self.shape.timed + i];
        if self.heaped[i] && slot::is_heaped(stored) {
            let heap = self.texts.get(stored);
            let slot = slot::heaped(0, heap.len());
            return Value { slot, null, heap };
        }
        Value { slot: stored, null, heap: &[] }
    }

    /// Keeps the event behind the rows of `word`; `live` are the prefixes that it leaves. With
    /// PLAIN the batch [`Rings::is_plain`].
    #[inline(always)]
    pub fn push<const PLAIN: bool>(
        &mut self,
        shape: Shape,
        slot: u32,
        word: u64,
        live: u32,
        event: Event<'_>,
    ) {
        let head = (word >> HEAD_SHIFT) as usize;
        let at = shape.at(slot, head);
        let shift = head * shape.columns;
        let own = ((1u128 << shape.columns) - 1) as u64;
        let mut nulls = self.nulls(slot, word) & !(own << shift);
        let kept = &mut self.ring[at..at + shape.row_words];
        if shape.timed == 1 {
            kept[0] = event.time as u64;
        }
        if PLAIN {
            let row = event.batch.row(event.row);
            for (value, &column) in kept[shape.timed..].iter_mut().zip(&self.columns) {
                *value = row[column];
            }
        } else {
            nulls |= self.keep_slow(at, event) << shift;
        }
        let head = if head + 1 == shape.rows { 0 } else { head + 1 };
        self.set_word(shape, slot, live, nulls, head);
    }

    #[inline(always)]
    fn set_word(&mut self, shape: Shape, slot: u32, live: u32, nulls: u64, head: usize) {
        let mut word = u64::from(live) | (head as u64) << HEAD_SHIFT;
        if shape.first == 1 {
            let at = shape.line(slot);
            self.ring[at] = nulls;
        } else {
            word |= nulls << shape.rows;
        }
        self.words.set(slot, if live == 0 { 0 } else { word });
    }

    /// Keeps values of which some may be NULL or long; the null bits of the row.
    fn keep_slow(&mut self, at: usize, event: Event<'_>) -> u64 {
        let mut nulls = 0;
        for i in 0..self.columns.len() {
            let column = self.columns[i];
            let value = event.batch.get(event.row, column);
            let text = match value {
                Some(value) if self.heaped[i] && slot::is_heaped(value) => {
                    slot::bytes(&event.batch.row(event.row)[column], event.batch.heap())
                }
                _ => &[],
            };
            nulls |= u64::from(value.is_none()) << i;
            self.set(at, i, value, text);
        }
        nulls
    }

    /// Sets one value of the row at `at`. A long text that stood there is freed.
    fn set(&mut self, at: usize, i: usize, value: Option<u64>, text: &[u8]) {
        let place = at + self.shape.timed + i;
        let (old, heaped) = (self.ring[place], self.heaped[i]);
        if heaped && slot::is_heaped(old) {
            self.texts.free(old);
        }
        self.ring[place] = match value {
            Some(value) if heaped && slot::is_heaped(value) => self.texts.put(text),
            Some(value) => value,
            None => 0,
        };
    }
}

/// ```text
/// prefixes: u32 | rows: u32 | for each, oldest first: time i64, or 0 | for each kept column:
///                             0 (NULL) | 1, slot u64 | 2, length u32, bytes
/// ```
impl Handle for Rings {
    fn save(&self, slot: u32, out: &mut Vec<u8>) {
        let word = self.lane.word(slot);
        let live = self.shape.live(word);
        if live == 0 {
            return;
        }
        let rows = 32 - live.leading_zeros();
        out.extend_from_slice(&live.to_le_bytes());
        out.extend_from_slice(&rows.to_le_bytes());
        for back in (1..=rows as usize).rev() {
            let time = if self.shape.timed == 1 { self.time(slot, word, back) } else { 0 };
            out.extend_from_slice(&time.to_le_bytes());
            for i in 0..self.columns.len() {
                let value = self.value(slot, word, back, i);
                if value.null {
                    out.push(0);
                } else if self.heaped[i] && slot::is_heaped(value.slot) {
                    out.push(2);
                    out.extend_from_slice(&(value.heap.len() as u32).to_le_bytes());
                    out.extend_from_slice(value.heap);
                } else {
                    out.push(1);
                    out.extend_from_slice(&value.slot.to_le_bytes());
                }
            }
        }
    }

    fn load(&mut self, slot: u32, bytes: &[u8]) -> Result<(), LoadError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.begin(slot as usize + 1);
        let read = self.read(slot, bytes);
        self.end();
        read.ok_or_else(|| LoadError {
            handle: "prefixes".into(),
            reason: "the bytes are not what this version writes".into(),
        })
    }

    fn clear(&mut self, slot: u32) {
        if slot as usize >= self.keys {
            return;
        }
        self.begin(0);
        self.forget(slot);
        self.end();
        // Only texts hold memory; the rest is written over.
        let columns = if self.has_texts { self.columns.len() } else { 0 };
        for place in 0..self.shape.rows {
            for i in 0..columns {
                self.set(self.shape.at(slot, place), i, None, &[]);
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        self.lane.memory_bytes() + self.ring.len() * 8 + self.texts.bytes()
    }
}

impl Rings {
    fn read(&mut self, slot: u32, bytes: &[u8]) -> Option<()> {
        let mut from = Reader::new(bytes);
        let (live, rows) = (from.u32()?, from.u32()? as usize);
        if rows > self.shape.rows || live == 0 || live >> self.shape.rows != 0 {
            return None;
        }
        let mut nulls = 0;
        for place in 0..rows {
            let (at, time) = (self.shape.at(slot, place), from.u64()?);
            if self.shape.timed == 1 {
                self.ring[at] = time;
            }
            for i in 0..self.columns.len() {
                let (value, text) = match from.u8()? {
                    0 => (None, &[][..]),
                    1 => (Some(from.u64()?), &[][..]),
                    2 => {
                        let len = from.u32()? as usize;
                        (Some(slot::heaped(0, len)), from.take(len)?)
                    }
                    _ => return None,
                };
                nulls |= u64::from(value.is_none()) << (place * self.columns.len() + i);
                self.set(at, i, value, text);
            }
        }
        let head = if rows == self.shape.rows { 0 } else { rows };
        self.set_word(self.shape, slot, live, nulls, head);
        from.is_empty().then_some(())
    }
}
