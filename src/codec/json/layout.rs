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
use crate::ground::scan::Window;
use crate::ground::schema::{DataType, Schema};
use crate::ground::slot::{self, INLINE_MAX};
use crate::ground::wide::{self, Kernel, Level, Needle, Padded, Plain};

/// Most lines of a chunk.
pub(super) const CHUNK: usize = 128;

/// The text between two values.
struct Literal {
    text: Box<[u8]>,
}

impl Literal {
    fn new(text: &[u8]) -> Literal {
        Literal { text: text.into() }
    }

    fn stands_at(&self, text: &[u8], at: usize) -> bool {
        text.get(at..).is_some_and(|rest| rest.starts_with(&self.text))
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

struct Step {
    before: Literal,
    /// `before`, and the quote of a text.
    needle: Needle,
    shape: Shape,
    range: Range,
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
    /// The place of the line's first slot.
    pub places: [u32; CHUNK],
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
                self.places[kept] = self.places[i];
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
                steps.push(Step::new(before, Shape::Skipped, 0));
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
            steps.push(Step::new(before, shape, column));
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
        for step in &mut self.steps {
            if chunk.live == 0 {
                break;
            }
            let plain = step.range == Range::Plain;
            match step.shape {
                Shape::Text => step.texts(text, chunk, rows),
                Shape::Integer if plain => step.values(text, chunk, rows, Integer::<false>),
                Shape::Integer if step.range == Range::Signed => {
                    step.values(text, chunk, rows, Integer::<true>);
                }
                Shape::Integer => step.values(text, chunk, rows, LongInteger),
                Shape::Double if plain => step.values(text, chunk, rows, Double::<false>),
                Shape::Double => step.values(text, chunk, rows, Double::<true>),
                Shape::Boolean => step.values(text, chunk, rows, Boolean),
                Shape::Decimal { precision, scale } if plain => {
                    step.values(text, chunk, rows, Decimal::<false> { precision, scale });
                }
                Shape::Decimal { precision, scale } => {
                    step.values(text, chunk, rows, Decimal::<true> { precision, scale });
                }
                Shape::Other | Shape::Skipped => {
                    chunk.missed_len = chunk.live;
                    for i in 0..chunk.live {
                        chunk.missed[i] = i as u16;
                    }
                }
            }
            if chunk.missed_len > 0 {
                step.widen(chunk);
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
    fn new(before: Literal, shape: Shape, column: usize) -> Step {
        let mut start = before.text.to_vec();
        if shape == Shape::Text {
            start.push(b'"');
        }
        Step { needle: Needle::new(&start), before, shape, range: Range::Plain, column }
    }

    /// Bytes of text before a value that the needle does not cover.
    fn is_long(&self) -> bool {
        self.before.text.len() + 1 > Needle::MAX
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
        !LONG || text.rest(at).starts_with(&self.before.text)
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
        let (needle, before_len) = (step.needle, step.before.text.len());
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
        let (needle, before_len) = (step.needle, step.before.text.len() + 1);
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
