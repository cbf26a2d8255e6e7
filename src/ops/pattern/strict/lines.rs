//! What is known of each key: the prefixes that its last rows are, and these rows.
//!
//! ```text
//! line (one a key)   word 0 | words 1.. | [null words] | for each of the last rows: [time] | columns
//!   word 0           bits 0..56: prefixes, and null bits where there is room; bits 56..64: head
//!   words 1..        prefixes
//! ```
//!
//! 1. A pattern of m rows has m bits of one word, its *share*. If bit k of it is set, the key's last
//!    k + 1 rows are a prefix of the pattern; the bit of whole matches is never kept.
//! 2. The head is the place in the ring for the next row. The last rows lie before it, in order, as
//!    many as the longest prefix has. A line without prefixes has a word 0 of 0.
//! 3. A line of up to a cache line does not straddle two; a longer one begins with one.

use crate::expr::Value;
use crate::ground::batch::RecordBatch;
use crate::ground::prefetch;
use crate::ground::slot;
use crate::ground::time::Time;
use crate::ground::words::Words;
use crate::ops::pattern::nfa::run::Event;
use crate::ops::pattern::texts::Texts;

const HEAD_SHIFT: u32 = 56;
/// Words of a cache line.
const LINE: usize = 8;
/// Words of prefixes, at most: 504 rows of patterns.
pub const WORDS_MAX: usize = 8;
/// Words of a line, beyond which patterns have lines of their own.
const STRIDE_MAX: usize = 8 * LINE;

/// A pattern's bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub word: usize,
    pub shift: u32,
    /// Rows of a match.
    pub len: usize,
}

impl Share {
    /// All its bits.
    pub fn mask(self) -> u64 {
        (u64::MAX >> (64 - self.len)) << self.shift
    }
}

/// Where things are in a line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shape {
    pub stride: usize,
    /// Words of prefixes: 1, 2, 4 or 8.
    pub words: usize,
    /// Null words; 0 where null bits are in word 0, from `null_shift` on.
    null_words: usize,
    null_shift: u32,
    /// Where rows begin in a line, and the words of one.
    first: usize,
    row_words: usize,
    /// Rows in a ring.
    rows: usize,
    /// Words of a row that its time takes: 0 or 1.
    timed: usize,
    columns: usize,
    /// Bits of word 0 that are prefixes.
    live: u64,
}

impl Shape {
    fn new(used: &[u32], rows: usize, timed: usize, columns: usize) -> Shape {
        let words = used.len().max(1).next_power_of_two();
        let bits = used.first().copied().unwrap_or(0);
        let values = rows * columns;
        let is_inline = words == 1 && bits as usize + values <= HEAD_SHIFT as usize;
        let null_words = if is_inline { 0 } else { values.div_ceil(64) };
        let (first, row_words) = (words + null_words, timed + columns);
        let stride = first + rows * row_words;
        let stride =
            if stride <= LINE { stride.next_power_of_two() } else { stride.next_multiple_of(LINE) };
        let live = (1 << bits) - 1;
        let null_shift = bits;
        Shape {
            stride,
            words,
            null_words,
            null_shift,
            first,
            row_words,
            rows,
            timed,
            columns,
            live,
        }
    }
}

/// The lines of all keys, for some patterns.
pub struct Lines {
    lines: Words,
    shape: Shape,
    /// Bits taken of each word.
    used: Vec<u32>,
    /// Columns of the input that are kept of a row, and whether they may have bytes in a heap.
    columns: Vec<usize>,
    heaped: Vec<bool>,
    texts: Texts,
    has_texts: bool,
    /// Whether a NULL was ever kept.
    has_nulls: bool,
    keys: usize,
}

impl Default for Lines {
    fn default() -> Lines {
        Lines::new()
    }
}

impl Lines {
    /// Lines for no pattern.
    pub fn new() -> Lines {
        Lines {
            lines: Words::zeroed(0),
            shape: Shape::new(&[], 0, 0, 0),
            used: Vec::new(),
            columns: Vec::new(),
            heaped: Vec::new(),
            texts: Texts::default(),
            has_texts: false,
            has_nulls: false,
            keys: 0,
        }
    }

    /// Makes room for a pattern of `len` rows that keeps `columns` (each with whether it may have
    /// bytes in a heap), and times of rows if `is_timed`. `None` if lines would grow too long for
    /// it to be worth it, or bits run out, or there are keys; a pattern alone gets at most 64
    /// kept values.
    pub fn join(&mut self, len: usize, columns: &[(usize, bool)], is_timed: bool) -> Option<Share> {
        if self.keys > 0 {
            return None;
        }
        let fits = |word: usize, used: u32| used as usize + len <= capacity(word);
        let at = self.used.iter().enumerate().position(|(word, &used)| fits(word, used));
        let word = at.unwrap_or(self.used.len());
        if word == WORDS_MAX {
            return None;
        }
        let mut used = self.used.clone();
        used.resize(used.len().max(word + 1), 0);
        let share = Share { word, shift: used[word], len };
        used[word] += len as u32;
        let rows = self.shape.rows.max(len - 1);
        let timed = self.shape.timed.max(usize::from(is_timed));
        let own = |(column, _): &&(usize, bool)| !self.columns.contains(column);
        let added: Vec<(usize, bool)> = columns.iter().filter(own).copied().collect();
        let shape = Shape::new(&used, rows, timed, self.columns.len() + added.len());
        let is_first = self.used.is_empty();
        let values = (len - 1) * columns.len();
        let too_long = if is_first { values > 64 } else { shape.stride > STRIDE_MAX };
        if too_long || (shape.columns > 64) {
            return None;
        }
        (self.used, self.shape) = (used, shape);
        for (column, is_heaped) in added {
            self.columns.push(column);
            self.heaped.push(is_heaped);
            self.has_texts |= is_heaped;
        }
        Some(share)
    }

    /// Where things are.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Place of an input column among those kept.
    pub fn place(&self, column: usize) -> Option<usize> {
        self.columns.iter().position(|&kept| kept == column)
    }

    /// Whether times of rows are kept.
    pub fn is_timed(&self) -> bool {
        self.shape.timed == 1
    }

    /// Whether column `i` of those kept may have bytes in a heap.
    pub fn is_heaped(&self, i: usize) -> bool {
        self.heaped[i]
    }

    /// Whether the batch's values can be kept as words: none is NULL or long, and no long one is
    /// kept that would have to be freed. (Texts of up to 7 bytes are words like others.)
    pub fn is_plain(&self, batch: &RecordBatch) -> bool {
        let short = !self.has_texts || (batch.heap().is_empty() && self.texts.is_empty());
        short && !batch.has_nulls()
    }

    /// Makes room for keys in slots below `keys`.
    pub fn reserve(&mut self, keys: usize) {
        if keys > self.keys {
            self.keys = keys.next_power_of_two().max(1024);
            self.lines = self.lines.grown(self.keys * self.shape.stride);
        }
    }

    /// Asks for a key's line ahead of its use; only its begin if not `whole`.
    #[inline(always)]
    pub fn prefetch(&self, slot: u32, whole: bool) {
        let at = slot as usize * self.shape.stride;
        prefetch::read(&self.lines, at);
        if whole {
            for line in 1..self.shape.stride.div_ceil(LINE).min(4) {
                prefetch::read(&self.lines, at + line * LINE);
            }
        }
    }

    /// Whether there ever was room for a key.
    #[inline(always)]
    pub fn has(&self, slot: u32) -> bool {
        (slot as usize) < self.keys
    }

    /// Word 0 of a key, to be given to who asks for rows.
    #[inline(always)]
    pub fn head(&self, slot: u32) -> u64 {
        self.lines[slot as usize * self.shape.stride]
    }

    /// The prefixes of a key; W is [`Shape::words`].
    #[inline(always)]
    pub fn live<const W: usize>(&self, shape: Shape, slot: u32) -> [u64; W] {
        let at = slot as usize * shape.stride;
        let mut live = [0; W];
        live.copy_from_slice(&self.lines[at..at + W]);
        live[0] &= shape.live;
        live
    }

    /// Prefixes of one pattern of a key, 0 where there never was one.
    pub fn share(&self, slot: u32, share: Share) -> u32 {
        if !self.has(slot) {
            return 0;
        }
        let word = self.lines[slot as usize * self.shape.stride + share.word];
        ((word & share.mask()) >> share.shift) as u32
    }

    /// Ends a key's prefixes.
    #[inline(always)]
    pub fn forget<const W: usize>(&mut self, shape: Shape, slot: u32) {
        let at = slot as usize * shape.stride;
        self.lines[at..at + W].fill(0);
    }

    /// Where the row `back` rows ago begins, and its place in the ring.
    #[inline(always)]
    fn entry(&self, slot: u32, head: u64, back: usize) -> (usize, usize) {
        let shape = &self.shape;
        let head = (head >> HEAD_SHIFT) as usize;
        let place = if head >= back { head - back } else { head + shape.rows - back };
        (slot as usize * shape.stride + shape.first + place * shape.row_words, place)
    }

    /// Time of the row `back` rows ago.
    ///
    /// # Panics
    /// May, if no times are kept.
    #[inline(always)]
    pub fn time(&self, slot: u32, head: u64, back: usize) -> Time {
        debug_assert!(self.shape.timed == 1, "times are kept");
        self.lines[self.entry(slot, head, back).0] as Time
    }

    /// Kept column `i` of the row `back` rows ago.
    #[inline(always)]
    pub fn value(&self, slot: u32, head: u64, back: usize, i: usize) -> Value<'_> {
        let (at, place) = self.entry(slot, head, back);
        let null = self.has_nulls && self.is_null(slot, place, i);
        let stored = self.lines[at + self.shape.timed + i];
        if self.heaped[i] && slot::is_heaped(stored) {
            let heap = self.texts.get(stored);
            let slot = slot::heaped(0, heap.len());
            return Value { slot, null, heap };
        }
        Value { slot: stored, null, heap: &[] }
    }

    /// The word that has the null bit of a value, and the bit.
    fn null_bit(&self, slot: u32, place: usize, i: usize) -> (usize, u32) {
        let shape = &self.shape;
        let (line, bit) = (slot as usize * shape.stride, place * shape.columns + i);
        match shape.null_words {
            0 => (line, shape.null_shift + bit as u32),
            _ => (line + shape.words + bit / 64, bit as u32 % 64),
        }
    }

    #[inline(never)]
    fn is_null(&self, slot: u32, place: usize, i: usize) -> bool {
        let (word, bit) = self.null_bit(slot, place, i);
        self.lines[word] >> bit & 1 == 1
    }

    /// Keeps the event behind the rows of `head`; `live` are the prefixes that it leaves. With
    /// PLAIN the batch [`Lines::is_plain`].
    #[inline(always)]
    pub fn push<const W: usize, const PLAIN: bool>(
        &mut self,
        shape: Shape,
        slot: u32,
        head: u64,
        live: [u64; W],
        event: Event<'_>,
    ) {
        let line = slot as usize * shape.stride;
        let place = (head >> HEAD_SHIFT) as usize;
        let next = if place + 1 >= shape.rows { 0 } else { place + 1 };
        // Null bits beside the prefixes stay.
        let kept = head & !shape.live & (u64::MAX >> 8);
        let words = &mut self.lines[line..line + W];
        words.copy_from_slice(&live);
        words[0] |= kept | (next as u64) << HEAD_SHIFT;
        if shape.rows == 0 {
            return;
        }
        let at = line + shape.first + place * shape.row_words;
        let row = &mut self.lines[at..at + shape.row_words];
        if shape.timed == 1 {
            row[0] = event.time as u64;
        }
        if PLAIN {
            let from = event.batch.row(event.row);
            for (value, &column) in row[shape.timed..].iter_mut().zip(&self.columns) {
                *value = from[column];
            }
            if self.has_nulls {
                self.clear_nulls(slot, place);
            }
        } else {
            self.keep_slow(slot, place, event);
        }
    }

    #[inline(never)]
    fn clear_nulls(&mut self, slot: u32, place: usize) {
        for i in 0..self.columns.len() {
            let (word, bit) = self.null_bit(slot, place, i);
            self.lines[word] &= !(1 << bit);
        }
    }

    /// Keeps values of which some may be NULL or long.
    #[inline(never)]
    fn keep_slow(&mut self, slot: u32, place: usize, event: Event<'_>) {
        for i in 0..self.columns.len() {
            let column = self.columns[i];
            let value = event.batch.get(event.row, column);
            let text = match value {
                Some(value) if self.heaped[i] && slot::is_heaped(value) => {
                    slot::bytes(&event.batch.row(event.row)[column], event.batch.heap())
                }
                _ => &[],
            };
            self.set(slot, place, i, value, text);
        }
    }

    /// Sets one value of the row at `place`. A long text that stood there is freed.
    fn set(&mut self, slot: u32, place: usize, i: usize, value: Option<u64>, text: &[u8]) {
        let shape = self.shape;
        let line = slot as usize * shape.stride;
        let at = line + shape.first + place * shape.row_words + shape.timed + i;
        let (old, heaped) = (self.lines[at], self.heaped[i]);
        if heaped && slot::is_heaped(old) {
            self.texts.free(old);
        }
        self.lines[at] = match value {
            Some(value) if heaped && slot::is_heaped(value) => self.texts.put(text),
            Some(value) => value,
            None => 0,
        };
        self.has_nulls |= value.is_none();
        if self.has_nulls {
            let (word, bit) = self.null_bit(slot, place, i);
            self.lines[word] &= !(1 << bit);
            self.lines[word] |= u64::from(value.is_none()) << bit;
        }
    }

    /// Sets the prefixes of one pattern of a key that has none of it. Its rows are to be set then
    /// ([`Lines::load_time`], [`Lines::load_value`]); those that other patterns of the key have
    /// set before are the same ones.
    pub fn load(&mut self, slot: u32, share: Share, live: u32) {
        self.reserve(slot as usize + 1);
        let line = slot as usize * self.shape.stride;
        if !self.has_prefixes(slot) {
            self.lines[line] = 0;
        }
        self.lines[line + share.word] |= u64::from(live) << share.shift;
    }

    /// Sets the time of the row `back` rows ago.
    pub fn load_time(&mut self, slot: u32, back: usize, time: Time) {
        if self.shape.timed == 1 {
            let at = self.entry(slot, self.head(slot), back).0;
            self.lines[at] = time as u64;
        }
    }

    /// Sets column `i` of the row `back` rows ago.
    pub fn load_value(
        &mut self,
        slot: u32,
        back: usize,
        i: usize,
        value: Option<u64>,
        text: &[u8],
    ) {
        let place = self.entry(slot, self.head(slot), back).1;
        self.set(slot, place, i, value, text);
    }

    /// Whether any pattern has a prefix.
    fn has_prefixes(&self, slot: u32) -> bool {
        let line = slot as usize * self.shape.stride;
        let words = &self.lines[line..line + self.shape.words];
        words[0] & self.shape.live != 0 || words[1..].iter().any(|&word| word != 0)
    }

    /// Ends the prefixes of one pattern of a key; with the last of them goes what its rows hold.
    pub fn clear(&mut self, slot: u32, share: Share) {
        if !self.has(slot) {
            return;
        }
        let line = slot as usize * self.shape.stride;
        self.lines[line + share.word] &= !share.mask();
        if self.has_prefixes(slot) {
            return;
        }
        self.lines[line] = 0;
        // Only texts hold memory; the rest is written over.
        if !self.has_texts {
            return;
        }
        let (shape, heaped) = (self.shape, &self.heaped);
        for place in 0..shape.rows {
            let at = line + shape.first + place * shape.row_words + shape.timed;
            let row = &mut self.lines[at..at + shape.columns];
            let texts =
                row.iter_mut().zip(heaped).filter(|(value, of)| **of && slot::is_heaped(**value));
            for (value, _) in texts {
                self.texts.free(std::mem::take(value));
            }
        }
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        self.lines.len() * 8 + self.texts.bytes()
    }
}

/// Bits of a word that prefixes may take.
fn capacity(word: usize) -> usize {
    if word == 0 { HEAD_SHIFT as usize } else { 64 }
}
