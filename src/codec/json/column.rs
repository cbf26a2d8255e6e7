//! One column of many lines: the loops that read it.
//!
//! A loop compares the text before each value with what should stand there and parses the value,
//! for all lines of a chunk, without a branch that depends on the data. So the lines overlap in
//! the processor, and what the column needs stays in registers. Values that the quick leaf has not
//! taken are read one by one after the loop.
//!
//! 1. A line's cursor stands before its next value's text, or is [`LOST`].

use super::line::LineReader;
use super::values::inline_slot;
use crate::codec::value::{self, Leaf};
use crate::ground::scan::Window;
use crate::ground::schema::DataType;
use crate::ground::slot::{self, INLINE_MAX};
use crate::ground::wide::{self, Kernel, Level, Needle, Padded, Plain};

/// Most lines of a chunk.
pub(super) const CHUNK: usize = 128;
/// The cursor of a line that is not as guessed.
pub(super) const LOST: u32 = u32::MAX;

/// The lines being read: where each stands and how far it has come.
pub(super) struct Chunk {
    /// How many of the lines are still in the running.
    pub live: usize,
    /// For each of these: the place in the text, and the line's number in the chunk.
    pub cursors: [u32; CHUNK],
    pub lines: [u16; CHUNK],
    /// The place of the line's first slot.
    pub places: [u32; CHUNK],
    /// Those whose value has not been read yet.
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
            places: [0; CHUNK],
            missed: [0; CHUNK],
            missed_len: 0,
            failed: [0; CHUNK],
            failed_len: 0,
        })
    }

    /// Puts the lines that have failed back into the running, at their beginnings. If they have
    /// been tried before, their rows are cleared.
    pub(super) fn start(&mut self, starts: &[u32], rows: &mut Rows<'_>, first: bool) {
        self.live = self.failed_len;
        for k in 0..self.failed_len {
            let line = usize::from(self.failed[k]);
            self.lines[k] = line as u16;
            self.cursors[k] = starts[line];
            self.places[k] = (line * rows.width) as u32;
            if !first {
                rows.slots[line * rows.width..(line + 1) * rows.width].fill(0);
                rows.nulls[line * rows.null_words..(line + 1) * rows.null_words].fill(0);
            }
        }
        self.failed_len = 0;
    }

    /// Takes the first of the lines that have failed.
    pub(super) fn take_failed(&mut self) -> usize {
        let line = usize::from(self.failed[0]);
        self.failed.copy_within(1..self.failed_len, 0);
        self.failed_len -= 1;
        line
    }

    /// Drops the lines whose cursor says so.
    pub(super) fn drop_lost(&mut self) {
        let mut kept = 0;
        for i in 0..self.live {
            let (cursor, line) = (self.cursors[i], self.lines[i]);
            if cursor == LOST {
                self.failed[self.failed_len] = line;
                self.failed_len += 1;
            } else {
                self.cursors[kept] = cursor;
                self.lines[kept] = line;
                self.places[kept] = self.places[i];
                kept += 1;
            }
        }
        self.live = kept;
    }
}

/// The rows that a chunk's lines become: slots row-major and a null word or more a row.
pub(super) struct Rows<'a> {
    pub slots: &'a mut [u64],
    pub width: usize,
    pub nulls: &'a mut [u64],
    pub null_words: usize,
    pub heap: &'a mut Vec<u8>,
}

/// How a value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
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

impl Shape {
    /// The shape of a column's values, one of which starts with `first`.
    pub(super) fn of(data_type: &DataType, first: u8) -> Shape {
        match *data_type {
            DataType::BigInt => Shape::Integer,
            DataType::Timestamp if first != b'"' => Shape::Integer,
            DataType::Decimal { precision, scale } => Shape::Decimal { precision, scale },
            DataType::Double => Shape::Double,
            DataType::Boolean => Shape::Boolean,
            DataType::String => Shape::Text,
            _ => Shape::Other,
        }
    }
}

/// What the numbers of a column turn out to need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    /// Neither sign nor more digits than the quickest leaf takes.
    Plain,
    /// A sign.
    Signed,
    /// More digits.
    Long,
}

/// A column, the text before its values, and how these are read.
pub(super) struct Step {
    before: Box<[u8]>,
    /// The first bytes of `before`, and the quote of a text.
    needle: Needle,
    shape: Shape,
    range: Range,
    column: usize,
}

impl Step {
    pub(super) fn new(before: &[u8], shape: Shape, column: usize) -> Step {
        let mut start = before.to_vec();
        if shape == Shape::Text {
            start.push(b'"');
        }
        Step {
            before: before.into(),
            needle: Needle::new(&start),
            shape,
            range: Range::Plain,
            column,
        }
    }

    /// Reads the column's value of every line in the running and moves the cursors behind them.
    /// Whether a line is lost.
    pub(super) fn read(
        &mut self,
        text: &[u8],
        chunk: &mut Chunk,
        rows: &mut Rows<'_>,
        reader: &mut LineReader,
    ) -> bool {
        let plain = self.range == Range::Plain;
        match self.shape {
            Shape::Text => self.texts(text, chunk, rows),
            Shape::Integer if plain => self.values(text, chunk, rows, Integer::<false>),
            Shape::Integer if self.range == Range::Signed => {
                self.values(text, chunk, rows, Integer::<true>);
            }
            Shape::Integer => self.values(text, chunk, rows, LongInteger),
            Shape::Double if plain => self.values(text, chunk, rows, Double::<false>),
            Shape::Double => self.values(text, chunk, rows, Double::<true>),
            Shape::Boolean => self.values(text, chunk, rows, Boolean),
            Shape::Decimal { precision, scale } if plain => {
                self.values(text, chunk, rows, Decimal::<false> { precision, scale });
            }
            Shape::Decimal { precision, scale } => {
                self.values(text, chunk, rows, Decimal::<true> { precision, scale });
            }
            Shape::Other | Shape::Skipped => {
                chunk.missed_len = chunk.live;
                for (i, missed) in chunk.missed[..chunk.live].iter_mut().enumerate() {
                    *missed = i as u16;
                }
            }
        }
        if chunk.missed_len == 0 {
            return false;
        }
        self.widen(chunk);
        self.read_missed(text, chunk, rows, reader)
    }

    /// Bytes of text before a value that the needle does not cover.
    fn is_long(&self) -> bool {
        self.before.len() + 1 > Needle::MAX
    }

    /// Takes a slower leaf if the present one misses much.
    fn widen(&mut self, chunk: &Chunk) {
        if chunk.missed_len * 4 > chunk.live {
            self.range = match self.range {
                Range::Plain => Range::Signed,
                Range::Signed | Range::Long => Range::Long,
            };
        }
    }

    fn values(&self, text: &[u8], chunk: &mut Chunk, rows: &mut Rows<'_>, leaf: impl Quick) {
        let text = Padded::new(text);
        if self.is_long() {
            wide::run(ValuesPass::<_, true> { step: self, text, chunk, rows, leaf });
        } else {
            wide::run(ValuesPass::<_, false> { step: self, text, chunk, rows, leaf });
        }
    }

    fn texts(&self, text: &[u8], chunk: &mut Chunk, rows: &mut Rows<'_>) {
        let text = Padded::new(text);
        if self.is_long() {
            wide::run(TextsPass::<true> { step: self, text, chunk, rows });
        } else {
            wide::run(TextsPass::<false> { step: self, text, chunk, rows });
        }
    }

    /// Whether what the needle leaves of the text before a value stands at `at` too.
    #[inline(always)]
    fn stands<const LONG: bool>(&self, text: Padded<'_>, at: usize) -> bool {
        !LONG || text.rest(at).starts_with(&self.before)
    }

    /// Reads what the quick leaves have missed, one by one. Whether a line is lost.
    #[inline(never)]
    fn read_missed(
        &self,
        text: &[u8],
        chunk: &mut Chunk,
        rows: &mut Rows<'_>,
        reader: &mut LineReader,
    ) -> bool {
        let mut lost = false;
        for k in 0..chunk.missed_len {
            let i = usize::from(chunk.missed[k]);
            let line = usize::from(chunk.lines[i]);
            let at = chunk.cursors[i] as usize;
            let stands = text.get(at..).is_some_and(|rest| rest.starts_with(&self.before));
            let after = if stands {
                self.read_one(text, at + self.before.len(), line, rows, reader)
            } else {
                None
            };
            chunk.cursors[i] = after.map_or(LOST, |after| after as u32);
            lost |= after.is_none();
        }
        lost
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

/// A quick leaf, to be part of a loop.
trait Quick: Copy {
    fn read<L: Level>(self, level: L, start: &Window) -> Leaf;
}

#[derive(Clone, Copy)]
struct Integer<const SIGNED: bool>;
impl<const SIGNED: bool> Quick for Integer<SIGNED> {
    #[inline(always)]
    fn read<L: Level>(self, level: L, start: &Window) -> Leaf {
        value::integer::<SIGNED, L>(level, start)
    }
}

/// Integers of more digits than the widest level takes.
#[derive(Clone, Copy)]
struct LongInteger;
impl Quick for LongInteger {
    #[inline(always)]
    fn read<L: Level>(self, _: L, start: &Window) -> Leaf {
        value::integer::<true, _>(Plain, start)
    }
}

#[derive(Clone, Copy)]
struct Double<const SIGNED: bool>;
impl<const SIGNED: bool> Quick for Double<SIGNED> {
    #[inline(always)]
    fn read<L: Level>(self, level: L, start: &Window) -> Leaf {
        value::double::<SIGNED, L>(level, start)
    }
}

#[derive(Clone, Copy)]
struct Decimal<const SIGNED: bool> {
    precision: u8,
    scale: u8,
}
impl<const SIGNED: bool> Quick for Decimal<SIGNED> {
    #[inline(always)]
    fn read<L: Level>(self, level: L, start: &Window) -> Leaf {
        value::decimal::<SIGNED, L>(level, start, self.precision, self.scale)
    }
}

#[derive(Clone, Copy)]
struct Boolean;
impl Quick for Boolean {
    #[inline(always)]
    fn read<L: Level>(self, _: L, start: &Window) -> Leaf {
        value::boolean(start)
    }
}

/// Reads one value of every line in the running, where the quick leaf takes it; the others are
/// noted as missed.
struct ValuesPass<'a, 'b, Q: Quick, const LONG: bool> {
    step: &'a Step,
    text: Padded<'a>,
    chunk: &'a mut Chunk,
    rows: &'a mut Rows<'b>,
    leaf: Q,
}

impl<Q: Quick, const LONG: bool> Kernel for ValuesPass<'_, '_, Q, LONG> {
    type Out = ();

    #[inline(always)]
    fn run<L: Level>(self, level: L) {
        let ValuesPass { step, text, chunk, rows, leaf } = self;
        let (needle, before_len) = (step.needle, step.before.len());
        let column = &mut rows.slots[step.column..];
        let live = chunk.live.min(CHUNK);
        let mut missed = 0;
        for (i, (cursor, &place)) in
            chunk.cursors[..live].iter_mut().zip(&chunk.places[..live]).enumerate()
        {
            let at = *cursor as usize;
            let value = leaf.read(level, text.window(at + before_len));
            column[place as usize] = value.slot;
            if value.ok
                && level.starts_with(text.window(at), &needle)
                && step.stands::<LONG>(text, at)
            {
                *cursor = (at + before_len + value.len) as u32;
            } else {
                chunk.missed[missed % CHUNK] = i as u16;
                missed += 1;
            }
        }
        chunk.missed_len = missed;
    }
}

/// As [`ValuesPass`], for texts: those of up to 7 bytes go to the slot, longer ones to the heap.
struct TextsPass<'a, 'b, const LONG: bool> {
    step: &'a Step,
    text: Padded<'a>,
    chunk: &'a mut Chunk,
    rows: &'a mut Rows<'b>,
}

impl<const LONG: bool> Kernel for TextsPass<'_, '_, LONG> {
    type Out = ();

    #[inline(always)]
    fn run<L: Level>(self, level: L) {
        let TextsPass { step, text, chunk, rows } = self;
        let (needle, before_len) = (step.needle, step.before.len() + 1);
        let live = chunk.live.min(CHUNK);
        let column = &mut rows.slots[step.column..];
        let mut missed = 0;
        // Room for all, taken a few bytes a text at most, and given back at the end.
        let mut end = rows.heap.len();
        rows.heap.resize(end + L::TEXT_BYTES * live, 0);
        let heap = &mut rows.heap[..];
        for (i, (cursor, &place)) in
            chunk.cursors[..live].iter_mut().zip(&chunk.places[..live]).enumerate()
        {
            let at = *cursor as usize;
            let inside = text.window(at + before_len);
            let short = level.short_text(inside);
            heap[end..end + L::TEXT_BYTES].copy_from_slice(&inside[..L::TEXT_BYTES]);
            if short.closed
                && level.starts_with(text.window(at), &needle)
                && step.stands::<LONG>(text, at)
                && (!LONG || inside_quotes(text, at + before_len))
            {
                let long = short.len > INLINE_MAX;
                let in_heap = slot::heaped(end as u32, short.len);
                let in_slot = inline_slot(inside, short.len);
                column[place as usize] = if long { in_heap } else { in_slot };
                end += if long { short.len } else { 0 };
                *cursor = (at + before_len + short.len + 1) as u32;
            } else {
                chunk.missed[missed % CHUNK] = i as u16;
                missed += 1;
            }
        }
        rows.heap.truncate(end);
        chunk.missed_len = missed;
    }
}

/// Whether a quote stands before `at`.
fn inside_quotes(text: Padded<'_>, at: usize) -> bool {
    text.window(at - 1)[0] == b'"'
}
