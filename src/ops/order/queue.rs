//! Rows that wait for their watermark: a [`Calendar`] of numbers, and the rows' values beside it.
//!
//! ```text
//! values of number n = words[n * stride ..]:  slots of kept columns | flags | null words | segment
//! ```
//!
//! Null words are there if a kept column may be NULL, the segment (its number + 1, 0 for no long
//! text, all ones for [`Texts`]) if one may have a long text.
//!
//! 1. Only kept columns and flags ([`super::ahead`]) are stored, in the order of the rows that come
//!    out.
//! 2. All long texts of a row are listed in [`Texts`], and their slots say their numbers for
//!    offsets; or all lie in one segment. A segment counts the rows that point into it and is used
//!    again when there are none. So texts cost a look-up, or a copy in and a copy out; never an
//!    allocation.

use std::cell::RefCell;

use super::ahead::Ahead;
use super::calendar::Calendar;
use super::texts::Texts;
use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::bits;
use crate::ground::prefetch;
use crate::ground::schema::Schema;
use crate::ground::slot;
use crate::ground::time::Time;
use crate::ops::kept::Kept;
use crate::state::{Handle, LoadError};

/// Bytes of texts that rows of about the same time share; a longer row gets its own.
const SEGMENT_BYTES: usize = 64 << 10;
const NO_SEGMENT: u64 = 0;
const LISTED: u64 = u64::MAX;
/// Rows by which a row's values are asked for before they are read or written.
const AHEAD: usize = 8;

/// Long texts of rows that came about the same time.
#[derive(Default)]
struct Segment {
    bytes: Vec<u8>,
    rows: usize,
}

/// Waiting rows. A state handle: what waits is knowledge about its key.
pub struct Queue {
    /// When each row is due.
    pub calendar: Calendar,
    kept: Kept,
    flag_words: usize,
    null_words: usize,
    stride: usize,
    words: Vec<u64>,
    segments: Vec<Segment>,
    free_segments: Vec<usize>,
    segment: usize,
    segment_rows: usize,
    texts: Texts,
    /// Slots as they came, while texts are put away.
    scratch: Vec<u64>,
    /// Numbers by key slot, each key's in order; made when asked for, forgotten when rows move.
    by_slot: RefCell<Option<Vec<(u32, u32)>>>,
}

impl Queue {
    /// An empty queue for rows of `input`, of which no more waits than `ahead` says.
    pub fn new(input: &Schema, ahead: &Ahead, range_ms: i64) -> Queue {
        let columns = ahead.columns().to_vec();
        let nullable = columns.iter().any(|&column| input.columns[column].nullable);
        let null_words = usize::from(nullable) * columns.len().div_ceil(64);
        let (kept, flag_words) = (Kept::new(input, columns), ahead.flag_words());
        let width = kept.width() + flag_words;
        Queue {
            calendar: Calendar::new(range_ms),
            stride: width + null_words + usize::from(!kept.heaped().is_empty()),
            kept,
            flag_words,
            null_words,
            words: Vec::new(),
            segments: vec![Segment::default()],
            free_segments: Vec::new(),
            segment: 0,
            segment_rows: 0,
            texts: Texts::default(),
            scratch: Vec::new(),
            by_slot: RefCell::new(None),
        }
    }

    /// Must be called before rows are put in or taken out, once for any number of them.
    pub fn begin(&mut self) {
        *self.by_slot.get_mut() = None;
    }

    /// Columns of the rows that come out.
    #[inline(always)]
    pub fn width(&self) -> usize {
        self.kept.width() + self.flag_words
    }

    /// Whether rows may have more long texts than a batch should: any but those of [`Texts`].
    pub fn has_bulk(&self) -> bool {
        self.segment_rows > 0
    }

    /// Must be called when the batch that rows are taken to has ended.
    pub fn next_batch(&mut self) {
        self.texts.next_batch();
    }

    /// Puts values of rows, and their flags, where [`Calendar::insert_run`] made places for them.
    pub fn put(&mut self, records: &RecordBatch, select: &[u32], flags: &[u64], ids: &[u32]) {
        by_width!(self.kept.width(), self.put_of(records, select, flags, ids))
    }

    /// `W` is the number of kept columns where it is known, or 0.
    #[inline(always)]
    fn put_of<const W: usize>(
        &mut self,
        records: &RecordBatch,
        select: &[u32],
        flags: &[u64],
        ids: &[u32],
    ) {
        if self.words.len() < self.calendar.numbers() * self.stride {
            self.grow();
        }
        let width = if W == 0 { self.kept.width() } else { W };
        let flag_words = self.flag_words;
        let (stride, words, kept) = (self.stride, &mut self.words[..], &self.kept);
        for (i, (&row, &id)) in select.iter().zip(ids).enumerate() {
            if let Some(&next) = ids.get(i + AHEAD) {
                prefetch::read(words, next as usize * stride);
            }
            let at = id as usize * stride;
            let (values, rest) = words[at..at + stride].split_at_mut(width);
            kept.values::<W>(records.row(row as usize), values);
            let (own, rest) = rest.split_at_mut(flag_words);
            for (word, &flag) in own.iter_mut().zip(&flags[i * flag_words..]) {
                *word = flag;
            }
            // Null words and segment: at most two words where the width is known.
            for word in rest {
                *word = 0;
            }
        }
        if records.has_nulls() || self.kept.has_long(records, select) {
            self.put_more(records, select, ids);
        }
    }

    /// NULLs and long texts of rows whose values were put.
    #[inline(never)]
    fn put_more(&mut self, records: &RecordBatch, select: &[u32], ids: &[u32]) {
        let width = self.width();
        for (&row, &id) in select.iter().zip(ids) {
            let at = id as usize * self.stride;
            if records.has_nulls() {
                let nulls = &mut self.words[at + width..][..self.null_words];
                self.kept.nulls(records, row as usize, nulls);
            }
            if !self.kept.heaped().is_empty() {
                self.keep_texts(at, records.heap());
            }
        }
    }

    /// Takes the rows that [`Calendar::drain`] named out, to the end of `out`.
    pub fn take(&mut self, ids: &[u32], out: &mut BatchBuilder) {
        by_width!(self.width(), self.take_of(ids, out))
    }

    /// `W` is the width of a row that comes out where it is known, or 0.
    #[inline(always)]
    fn take_of<const W: usize>(&mut self, ids: &[u32], out: &mut BatchBuilder) {
        let width = if W == 0 { self.width() } else { W };
        let (stride, first) = (self.stride, out.rows());
        let words = &self.words[..];
        let at = out.extend_rows_to_set(ids.len());
        let mut more = 0;
        let mut rows = &mut out.slots_mut()[at..];
        for (i, &id) in ids.iter().enumerate() {
            if let Some(&next) = ids.get(i + AHEAD) {
                prefetch::read(words, next as usize * stride);
            }
            let at = id as usize * stride;
            let (values, rest) = words[at..at + stride].split_at(width);
            let (row, later) = rows.split_at_mut(width);
            match (row.first_chunk_mut::<W>(), values.first_chunk::<W>()) {
                (Some(row), Some(values)) if W > 0 => *row = *values,
                _ => row.copy_from_slice(values),
            }
            rows = later;
            for word in rest {
                more |= word;
            }
        }
        if more != 0 {
            self.take_more(ids, first, out);
        }
        self.calendar.release(ids);
    }

    /// NULLs and long texts of rows whose values were taken, from row `first` of `out`.
    #[inline(never)]
    fn take_more(&mut self, ids: &[u32], first: usize, out: &mut BatchBuilder) {
        let width = self.width();
        for (row, &id) in (first..).zip(ids) {
            let at = id as usize * self.stride;
            let nulls = &self.words[at + width..][..self.null_words];
            bits::for_each(nulls, |column| out.set_null_at(row, column));
            if !self.kept.heaped().is_empty() && self.words[at + self.stride - 1] != NO_SEGMENT {
                self.give_texts(at, row, out);
            }
        }
    }

    /// Copies a row past the queue, as it would have come out of it.
    pub fn pass(&self, records: &RecordBatch, row: usize, flags: &[u64], out: &mut BatchBuilder) {
        let (kept, flag_words) = (&self.kept, self.flag_words);
        out.push_with(|to| {
            let (values, own) = to.split_at_mut(kept.width());
            kept.values::<0>(records.row(row), values);
            own.copy_from_slice(&flags[..flag_words]);
        });
        let last = out.rows() - 1;
        kept.finish_row(records, row, out, last);
    }

    #[inline(never)]
    fn grow(&mut self) {
        let rows = self.calendar.numbers().next_power_of_two();
        self.words.resize(rows * self.stride, 0);
    }

    /// Puts the long texts of a row away whose slots point into `heap`.
    fn keep_texts(&mut self, at: usize, heap: &[u8]) {
        let values = &mut self.words[at..at + self.stride];
        let (mut is_listed, mut any) = (true, false);
        self.scratch.clear();
        for &i in self.kept.heaped() {
            self.scratch.push(values[i]);
            if slot::is_heaped(values[i]) {
                any = true;
                match self.texts.number(slot::bytes(&values[i], heap)) {
                    Some(number) => values[i] = slot::heaped(number, slot::len(values[i])),
                    None => is_listed = false,
                }
            }
        }
        if is_listed {
            values[self.stride - 1] = if any { LISTED } else { NO_SEGMENT };
            return;
        }
        for (&i, &value) in self.kept.heaped().iter().zip(&self.scratch) {
            values[i] = value;
        }
        self.keep_in_segment(at, heap);
    }

    #[inline(never)]
    fn keep_in_segment(&mut self, at: usize, heap: &[u8]) {
        let values = &mut self.words[at..at + self.stride];
        let texts = self.kept.heaped().iter().map(|&i| values[i]);
        let len: usize = texts.filter(|&v| slot::is_heaped(v)).map(slot::len).sum();
        let current = &self.segments[self.segment];
        if !current.bytes.is_empty() && current.bytes.len() + len > SEGMENT_BYTES {
            self.segment = self.free_segments.pop().unwrap_or_else(|| {
                self.segments.push(Segment::default());
                self.segments.len() - 1
            });
        }
        let segment = &mut self.segments[self.segment];
        for &i in self.kept.heaped() {
            values[i] = slot::rehome(values[i], heap, &mut segment.bytes);
        }
        segment.rows += 1;
        self.segment_rows += 1;
        values[self.stride - 1] = self.segment as u64 + 1;
    }

    #[inline(always)]
    fn give_texts(&mut self, at: usize, row: usize, out: &mut BatchBuilder) {
        if self.words[at + self.stride - 1] != LISTED {
            return self.give_from_segment(at, row, out);
        }
        for &i in self.kept.heaped() {
            let value = self.words[at + i];
            if slot::is_heaped(value) {
                let place = self.texts.place_of(slot::offset(value) as u32, &mut out.heap);
                out.slots_mut()[row * self.width() + i] = slot::heaped(place, slot::len(value));
            }
        }
    }

    #[inline(never)]
    fn give_from_segment(&mut self, at: usize, row: usize, out: &mut BatchBuilder) {
        let values = &self.words[at..at + self.stride];
        let segment = values[self.stride - 1] as usize - 1;
        for &i in self.kept.heaped() {
            if slot::is_heaped(values[i]) {
                let bytes = &self.segments[segment].bytes;
                let moved = slot::rehome(values[i], bytes, &mut out.heap);
                let place = row * self.width() + i;
                out.slots_mut()[place] = moved;
            }
        }
        self.let_go(segment);
    }

    /// Calls `each` with the time of every waiting row of a key, in order, and what gives its kept
    /// columns: the slot, none for NULL, and the heap of its text if it is long.
    pub fn each_waiting<'a>(
        &'a self,
        slot: u32,
        mut each: impl FnMut(Time, &dyn Fn(usize) -> (Option<u64>, &'a [u8])),
    ) {
        self.of_slot(slot, |id| {
            let at = id as usize * self.stride;
            let node = &self.words[at..at + self.stride];
            let nulls = &node[self.width()..][..self.null_words];
            let value = |i: usize| {
                if self.null_words > 0 && bits::get(nulls, i) {
                    return (None, &[][..]);
                }
                if self.kept.heaped().contains(&i) && slot::is_heaped(node[i]) {
                    return (Some(slot::heaped(0, slot::len(node[i]))), self.text(node, i));
                }
                (Some(node[i]), &[][..])
            };
            each(self.calendar.link(id).time, &value);
        });
    }

    /// The long text of a waiting row's value.
    fn text<'a>(&'a self, node: &'a [u64], i: usize) -> &'a [u8] {
        match node[self.stride - 1] {
            LISTED => self.texts.text(slot::offset(node[i]) as u32),
            segment => slot::bytes(&node[i], &self.segments[segment as usize - 1].bytes),
        }
    }

    /// One row fewer points into a segment.
    fn let_go(&mut self, number: usize) {
        let segment = &mut self.segments[number];
        segment.rows -= 1;
        self.segment_rows -= 1;
        if segment.rows == 0 {
            segment.bytes.clear();
            segment.bytes.shrink_to(SEGMENT_BYTES);
            if number != self.segment {
                self.free_segments.push(number);
            }
        }
    }

    /// Calls `each` with the numbers of a key's rows, in order.
    fn of_slot(&self, slot: u32, mut each: impl FnMut(u32)) {
        let mut by_slot = self.by_slot.borrow_mut();
        let by_slot = by_slot.get_or_insert_with(|| {
            let ids = self.calendar.ids();
            let mut by_slot: Vec<(u32, u32)> =
                ids.into_iter().map(|id| (self.calendar.link(id).slot, id)).collect();
            by_slot.sort_by_key(|&(slot, id)| (slot, self.calendar.link(id).time));
            by_slot
        });
        let from = by_slot.partition_point(|&(other, _)| other < slot);
        let found = by_slot[from..].iter().take_while(|&&(other, _)| other == slot);
        found.for_each(|&(_, id)| each(id));
    }

    fn wrong(reason: &str) -> LoadError {
        LoadError { handle: "order.waiting".into(), reason: reason.into() }
    }
}

/// A saved row: time | slots | flags | null words | bytes of texts: u64 | texts, in the columns'
/// order. Columns, their types and the flags are those of the pipeline that saved it.
impl Handle for Queue {
    fn save(&self, slot: u32, out: &mut Vec<u8>) {
        self.of_slot(slot, |id| {
            let at = id as usize * self.stride;
            let node = &self.words[at..at + self.stride];
            let kept = self.width() + self.null_words;
            out.extend_from_slice(&self.calendar.link(id).time.to_le_bytes());
            let start = out.len();
            node[..kept].iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
            for &i in self.kept.heaped().iter().filter(|&&i| slot::is_heaped(node[i])) {
                // Without its place in the segment: what is saved depends on the row alone.
                let value = slot::heaped(0, slot::len(node[i]));
                out[start + 8 * i..][..8].copy_from_slice(&value.to_le_bytes());
            }
            let len_at = out.len();
            out.extend_from_slice(&[0; 8]);
            for &i in self.kept.heaped() {
                if slot::is_heaped(node[i]) {
                    out.extend_from_slice(self.text(node, i));
                }
            }
            let len = (out.len() - len_at - 8) as u64;
            out[len_at..len_at + 8].copy_from_slice(&len.to_le_bytes());
        });
    }

    fn load(&mut self, slot: u32, bytes: &[u8]) -> Result<(), LoadError> {
        self.begin();
        let short = || Queue::wrong("it is cut short");
        let kept = self.width() + self.null_words;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (head, tail) = rest.split_at_checked(16 + 8 * kept).ok_or_else(short)?;
            let (words, _) = head.as_chunks::<8>();
            let word = |i: usize| u64::from_le_bytes(words[i]);
            let len = usize::try_from(word(kept + 1)).map_err(|_| short())?;
            let (texts, tail) = tail.split_at_checked(len).ok_or_else(short)?;
            let time = word(0) as Time;
            if time <= self.calendar.floor() {
                return Err(Queue::wrong("a row lies behind the watermark"));
            }
            // Texts lie one behind the other, so their places follow from their lengths.
            let mut values: Vec<u64> = (0..kept).map(|i| word(i + 1)).collect();
            let mut offset = 0;
            for &i in self.kept.heaped() {
                if !slot::is_heaped(values[i]) && slot::len(values[i]) > slot::INLINE_MAX {
                    return Err(Queue::wrong("a text has no length"));
                }
                if slot::is_heaped(values[i]) {
                    let len = slot::len(values[i]);
                    values[i] = slot::heaped(offset as u32, len);
                    offset += len;
                }
            }
            if offset != len {
                return Err(Queue::wrong("its texts have other lengths than its rows say"));
            }
            let nulls = &values[self.width()..];
            let last = nulls.last().copied().unwrap_or(0);
            if last & !bits::tail(self.kept.width()) != 0 {
                return Err(Queue::wrong("a column is NULL that does not exist"));
            }
            let at = self.calendar.insert(time, slot) as usize * self.stride;
            if self.words.len() < at + self.stride {
                self.grow();
            }
            self.words[at..at + kept].copy_from_slice(&values);
            if !self.kept.heaped().is_empty() {
                self.words[at + kept] = NO_SEGMENT;
                self.keep_texts(at, texts);
            }
            rest = tail;
        }
        Ok(())
    }

    /// O(waiting rows), 10 ns each.
    fn enter_slice(&mut self, _number: u32, slots: &[u32]) {
        let (Some(&first), Some(&last)) = (slots.first(), slots.last()) else { return };
        let slot = |id: u32| self.calendar.link(id).slot;
        let ids = self.calendar.ids().into_iter().filter(|&id| (first..=last).contains(&slot(id)));
        let mut by_slot: Vec<(u32, u32)> = ids.map(|id| (slot(id), id)).collect();
        by_slot.sort_by_key(|&(slot, id)| (slot, self.calendar.link(id).time));
        *self.by_slot.get_mut() = Some(by_slot);
    }

    fn leave_slice(&mut self) {
        *self.by_slot.get_mut() = None;
    }

    fn clear(&mut self, slot: u32) {
        let mut gone = Vec::new();
        self.of_slot(slot, |id| gone.push(id));
        if gone.is_empty() {
            return;
        }
        self.begin();
        for &id in &gone {
            let at = id as usize * self.stride;
            let last = self.words[at + self.stride - 1];
            if !self.kept.heaped().is_empty() && last != NO_SEGMENT && last != LISTED {
                self.let_go(last as usize - 1);
            }
        }
        gone.sort_unstable();
        self.calendar.remove(|id| gone.binary_search(&id).is_ok());
    }

    fn memory_bytes(&self) -> usize {
        let texts: usize = self.segments.iter().map(|s| s.bytes.capacity()).sum();
        let words = self.words.capacity() * 8;
        self.calendar.memory_bytes() + words + texts + self.texts.memory_bytes()
    }
}
