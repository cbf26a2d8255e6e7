//! Guessed layouts: what stands between the values of a line, learned from one line and checked on
//! the next ones, a column of many lines at a time.
//!
//! ```text
//! {"id":17,"name":"x"}\n   is   `{"id":` BIGINT `,"name":` STRING `}\n`
//! ```
//!
//! The lines of a chunk are read column by column: one loop compares the text before a column's
//! value with the layout's in wide words and parses the value, for all lines, without a branch
//! that depends on the data. So the lines overlap in the processor, and what a column needs stays
//! in registers. Lines whose value the quick leaf did not take are read one by one after the loop;
//! lines whose text is another leave the chunk, for another layout or the thorough reader.
//!
//! 1. A line that a layout takes is one that the thorough reader takes, with the same row: the
//!    text between values is the learned line's, byte for byte, and each value is checked.
//! 2. Values hold no newline and the layout's last text ends with one, so a line cannot run on.

use super::line::{LineReader, Trace};
use super::values::inline_slot;
use crate::codec::value::{self, Leaf};
use crate::ground::scan::{Window, low_bytes, short_text, window, word};
use crate::ground::schema::{DataType, Schema};
use crate::ground::slot::{self, INLINE_MAX};

/// Most lines of a chunk.
pub(super) const CHUNK: usize = 128;

/// The text between two values.
struct Literal {
    words: [u64; 4],
    text: Box<[u8]>,
}

impl Literal {
    fn new(text: &[u8]) -> Literal {
        let mut start = [0; 64];
        let shown = text.len().min(32);
        start[..shown].copy_from_slice(&text[..shown]);
        Literal { words: [0, 8, 16, 24].map(|at| word(&start, at)), text: text.into() }
    }

    /// Whether the literal stands at the start of `rest`, whose window is `start`. `WORDS` words
    /// hold it; 0: it is longer than four.
    #[inline(always)]
    fn stands<const WORDS: usize>(&self, start: &Window, rest: &[u8]) -> bool {
        let len = self.text.len();
        let mut differs = 0;
        for i in 0..WORDS {
            let here = word(start, 8 * i);
            let here = if i + 1 == WORDS { low_bytes(here, len - 8 * i) } else { here };
            differs |= here ^ self.words[i];
        }
        differs == 0 && (WORDS > 0 || rest.starts_with(&self.text))
    }

    fn stands_at(&self, text: &[u8], at: usize) -> bool {
        text.get(at..).is_some_and(|rest| rest.starts_with(&self.text))
    }
}

/// How a value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Integer,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Double,
    Boolean,
    Text,
    /// One by one, by the thorough reader.
    Other,
    /// One by one, not kept.
    Skipped,
}

struct Step {
    before: Literal,
    shape: Shape,
    column: usize,
}

/// A guess at how lines look.
pub(super) struct Layout {
    steps: Vec<Step>,
    tail: Literal,
    /// Columns that such lines lack, a bit each.
    missing: Vec<u64>,
    /// Lines taken and tried of late.
    pub taken: u64,
    pub tried: u64,
    /// It has been worth learning.
    pub proved: bool,
}

/// The lines being read: where each stands and how far it has come.
pub(super) struct Chunk {
    /// How many of the lines are still in the running.
    pub live: usize,
    /// For each of these: the place in the text, and the line's number in the chunk.
    pub cursors: [u32; CHUNK],
    pub lines: [u16; CHUNK],
    missed: [u16; CHUNK],
    missed_len: usize,
    /// Lines that left.
    pub failed: [u16; CHUNK],
    pub failed_len: usize,
}

impl Chunk {
    pub(super) fn new() -> Box<Chunk> {
        Box::new(Chunk {
            live: 0,
            cursors: [0; CHUNK],
            lines: [0; CHUNK],
            missed: [0; CHUNK],
            missed_len: 0,
            failed: [0; CHUNK],
            failed_len: 0,
        })
    }

    /// Drops the lines whose cursor says so.
    fn drop_lost(&mut self) {
        let mut kept = 0;
        for i in 0..self.live {
            let (cursor, line) = (self.cursors[i], self.lines[i]);
            if cursor == LOST {
                self.failed[self.failed_len] = line;
                self.failed_len += 1;
            } else {
                self.cursors[kept] = cursor;
                self.lines[kept] = line;
                kept += 1;
            }
        }
        self.live = kept;
    }
}

const LOST: u32 = u32::MAX;

/// The rows that a chunk's lines become: slots row-major and a null word or more a row.
pub(super) struct Rows<'a> {
    pub slots: &'a mut [u64],
    pub width: usize,
    pub nulls: &'a mut [u64],
    pub null_words: usize,
    pub heap: &'a mut Vec<u8>,
}

impl Layout {
    /// Learns from the line `start..end` that was read with a trace; `None` if its like cannot be
    /// taken this way.
    pub(super) fn learn(
        text: &[u8],
        start: usize,
        end: usize,
        trace: &Trace,
        schema: &Schema,
        not_null: &[u64],
    ) -> Option<Layout> {
        let repeated = (1..trace.nodes.len()).any(|i| trace.nodes[..i].contains(&trace.nodes[i]));
        if trace.odd || repeated {
            return None;
        }
        let mut missing: Vec<u64> = vec![0; schema.width().div_ceil(64)];
        for column in 0..schema.width() {
            missing[column / 64] |= 1 << (column % 64);
        }
        let mut steps = Vec::new();
        let mut at = start;
        for piece in &trace.pieces {
            let before = Literal::new(&text[at..piece.start]);
            at = piece.end;
            let Some(column) = piece.column else {
                steps.push(Step { before, shape: Shape::Skipped, column: 0 });
                continue;
            };
            if missing[column / 64] >> (column % 64) & 1 == 0 {
                return None;
            }
            missing[column / 64] &= !(1 << (column % 64));
            let shape = match schema.columns[column].data_type {
                DataType::BigInt => Shape::Integer,
                DataType::Timestamp if text[piece.start] != b'"' => Shape::Integer,
                DataType::Decimal { precision, scale } => Shape::Decimal { precision, scale },
                DataType::Double => Shape::Double,
                DataType::Boolean => Shape::Boolean,
                DataType::String => Shape::Text,
                _ => Shape::Other,
            };
            steps.push(Step { before, shape, column });
        }
        if missing.iter().zip(not_null).any(|(missing, not_null)| missing & not_null != 0) {
            return None;
        }
        let mut tail = text[at..end].to_vec();
        tail.push(b'\n');
        Some(Layout {
            steps,
            tail: Literal::new(&tail),
            missing,
            taken: 0,
            tried: 0,
            proved: false,
        })
    }

    /// Reads the chunk's lines into `rows`. Those that it cannot take, it leaves in `failed`, in
    /// order; their slots and null bits hold anything.
    pub(super) fn read(
        &mut self,
        text: &[u8],
        chunk: &mut Chunk,
        rows: &mut Rows<'_>,
        reader: &mut LineReader,
    ) {
        self.tried += chunk.live as u64;
        for step in &self.steps {
            if chunk.live == 0 {
                break;
            }
            match step.shape {
                Shape::Text => step.texts(text, chunk, rows),
                Shape::Integer => step.values(text, chunk, rows, value::integer),
                Shape::Double => step.values(text, chunk, rows, value::double),
                Shape::Boolean => step.values(text, chunk, rows, value::boolean),
                Shape::Decimal { precision, scale } => {
                    step.values(text, chunk, rows, |start| value::decimal(start, precision, scale))
                }
                Shape::Other | Shape::Skipped => {
                    chunk.missed_len = chunk.live;
                    for i in 0..chunk.live {
                        chunk.missed[i] = i as u16;
                    }
                }
            }
            if chunk.missed_len > 0 {
                step.read_missed(text, chunk, rows, reader);
            }
        }
        self.finish(text, chunk, rows);
        self.taken += chunk.live as u64;
        chunk.failed[..chunk.failed_len].sort_unstable();
    }

    /// Checks the ends of the lines and marks what such lines lack.
    fn finish(&self, text: &[u8], chunk: &mut Chunk, rows: &mut Rows<'_>) {
        let mut lost = false;
        for i in 0..chunk.live {
            let ok = self.tail.stands_at(text, chunk.cursors[i] as usize);
            if !ok {
                chunk.cursors[i] = LOST;
                lost = true;
            }
        }
        if lost {
            chunk.drop_lost();
        }
        if self.missing.iter().any(|&word| word != 0) {
            for &line in &chunk.lines[..chunk.live] {
                let at = usize::from(line) * rows.null_words;
                for (nulls, missing) in rows.nulls[at..].iter_mut().zip(&self.missing) {
                    *nulls |= missing;
                }
            }
        }
    }
}

impl Step {
    #[inline(always)]
    fn values(
        &self,
        text: &[u8],
        chunk: &mut Chunk,
        rows: &mut Rows<'_>,
        leaf: impl Fn(&Window) -> Leaf,
    ) {
        match self.before.text.len() {
            1..=8 => self.values_by::<1>(text, chunk, rows, leaf),
            9..=16 => self.values_by::<2>(text, chunk, rows, leaf),
            17..=32 => self.values_by::<4>(text, chunk, rows, leaf),
            _ => self.values_by::<0>(text, chunk, rows, leaf),
        }
    }

    /// Reads one value of every line in the running, where the quick leaf takes it; the others
    /// are noted as missed.
    #[inline(never)]
    fn values_by<const WORDS: usize>(
        &self,
        text: &[u8],
        chunk: &mut Chunk,
        rows: &mut Rows<'_>,
        leaf: impl Fn(&Window) -> Leaf,
    ) {
        let before_len = self.before.text.len();
        let live = chunk.live.min(CHUNK);
        let mut missed = 0;
        for i in 0..live {
            let at = chunk.cursors[i] as usize;
            let stands = self.before.stands::<WORDS>(window(text, at), &text[at..]);
            let value = leaf(window(text, at + before_len));
            rows.slots[usize::from(chunk.lines[i]) * rows.width + self.column] = value.slot;
            let ok = stands & value.ok;
            let after = at + before_len + value.len;
            chunk.cursors[i] = if ok { after } else { at } as u32;
            chunk.missed[missed % CHUNK] = i as u16;
            missed += usize::from(!ok);
        }
        chunk.missed_len = missed;
    }

    #[inline(always)]
    fn texts(&self, text: &[u8], chunk: &mut Chunk, rows: &mut Rows<'_>) {
        match self.before.text.len() {
            1..=8 => self.texts_by::<1>(text, chunk, rows),
            9..=16 => self.texts_by::<2>(text, chunk, rows),
            17..=32 => self.texts_by::<4>(text, chunk, rows),
            _ => self.texts_by::<0>(text, chunk, rows),
        }
    }

    /// As `values_by`, for texts: those of up to 7 bytes go to the slot, up to 15 to the heap.
    #[inline(never)]
    fn texts_by<const WORDS: usize>(&self, text: &[u8], chunk: &mut Chunk, rows: &mut Rows<'_>) {
        let before_len = self.before.text.len();
        let live = chunk.live.min(CHUNK);
        let mut missed = 0;
        // Room for all, taken 16 bytes a text at most, and given back at the end.
        let mut end = rows.heap.len();
        rows.heap.resize(end + 16 * live, 0);
        for i in 0..live {
            let at = chunk.cursors[i] as usize;
            let stands = self.before.stands::<WORDS>(window(text, at), &text[at..]);
            let quote = text.get(at + before_len).is_some_and(|&byte| byte == b'"');
            let inside = window(text, at + before_len + 1);
            let short = short_text(inside);
            let ok = stands & quote & short.closed;
            rows.heap[end..end + 16].copy_from_slice(&inside[..16]);
            let long = ok & (short.len > INLINE_MAX);
            let slot = if long {
                slot::heaped(end as u32, short.len)
            } else {
                inline_slot(inside, short.len)
            };
            end += if long { short.len } else { 0 };
            rows.slots[usize::from(chunk.lines[i]) * rows.width + self.column] = slot;
            let after = at + before_len + short.len + 2;
            chunk.cursors[i] = if ok { after } else { at } as u32;
            chunk.missed[missed % CHUNK] = i as u16;
            missed += usize::from(!ok);
        }
        rows.heap.truncate(end);
        chunk.missed_len = missed;
    }

    /// Reads what the quick leaves have missed, one by one; what is not as guessed leaves.
    #[inline(never)]
    fn read_missed(
        &self,
        text: &[u8],
        chunk: &mut Chunk,
        rows: &mut Rows<'_>,
        reader: &mut LineReader,
    ) {
        let mut lost = false;
        for k in 0..chunk.missed_len {
            let i = usize::from(chunk.missed[k]);
            let line = usize::from(chunk.lines[i]);
            let at = chunk.cursors[i] as usize;
            let after = if self.before.stands_at(text, at) {
                self.read_one(text, at + self.before.text.len(), line, rows, reader)
            } else {
                None
            };
            chunk.cursors[i] = after.map_or(LOST, |after| after as u32);
            lost |= after.is_none();
        }
        if lost {
            chunk.drop_lost();
        }
    }

    fn read_one(
        &self,
        text: &[u8],
        at: usize,
        line: usize,
        rows: &mut Rows<'_>,
        reader: &mut LineReader,
    ) -> Option<usize> {
        if self.shape == Shape::Skipped {
            return reader.values.skip(text, at).ok();
        }
        let column = self.column;
        let data_type = &reader.schema.columns[column].data_type;
        let read = reader.values.read_slowly(column, data_type, text, at, rows.heap);
        let (value, after) = read.ok()?;
        rows.slots[line * rows.width + column] = value.unwrap_or(0);
        if value.is_none() {
            if reader.not_null[column / 64] >> (column % 64) & 1 == 1 {
                return None;
            }
            rows.nulls[line * rows.null_words + column / 64] |= 1 << (column % 64);
        }
        Some(after)
    }
}
