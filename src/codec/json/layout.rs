//! Guessed layouts: what stands between the values of a line, learned from one line and checked on
//! the next ones, a column of many lines at a time.
//!
//! ```text
//! {"id":17,"name":"x"}\n   is   `{"id":` BIGINT `,"name":` STRING `}\n`
//! ```
//!
//! Lines whose text is another leave the chunk, for another layout or another reader.
//!
//! 1. A line that a layout takes is one that the thorough reader takes, with the same row: the
//!    text between values is the learned line's, byte for byte, and each value is checked.
//! 2. Values hold no newline and the layout's last text ends with one, so a line cannot run on.

use super::column::{Chunk, LOST, Rows, Shape, Step};
use super::line::{LineReader, Trace};
use crate::ground::schema::Schema;
use crate::ground::wide::{self, Kernel, Level, Needle, Padded};

/// A guess at how lines look.
pub(super) struct Layout {
    steps: Vec<Step>,
    /// What ends a line, and its first bytes.
    tail: Box<[u8]>,
    tail_needle: Needle,
    /// Columns that such lines lack, a bit each.
    missing: Vec<u64>,
    /// Lines taken and tried of late.
    pub taken: u64,
    pub tried: u64,
    /// It has been worth learning.
    pub proved: bool,
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
            let before = &text[at..piece.start];
            at = piece.end;
            let Some(column) = piece.column else {
                steps.push(Step::new(before, Shape::Skipped, 0));
                continue;
            };
            if missing[column / 64] >> (column % 64) & 1 == 0 {
                return None;
            }
            missing[column / 64] &= !(1 << (column % 64));
            let shape = Shape::of(&schema.columns[column].data_type, text[piece.start]);
            steps.push(Step::new(before, shape, column));
        }
        if missing.iter().zip(not_null).any(|(missing, not_null)| missing & not_null != 0) {
            return None;
        }
        let mut tail = text[at..end].to_vec();
        tail.push(b'\n');
        Some(Layout {
            steps,
            tail_needle: Needle::new(&tail),
            tail: tail.into(),
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
            if step.read(text, chunk, rows, reader) {
                chunk.drop_lost();
            }
        }
        self.finish(text, chunk, rows);
        self.taken += chunk.live as u64;
        chunk.failed[..chunk.failed_len].sort_unstable();
    }

    /// Checks the ends of the lines and marks what such lines lack.
    fn finish(&self, text: &[u8], chunk: &mut Chunk, rows: &mut Rows<'_>) {
        let needle = self.tail_needle;
        let mut lost = wide::run(TailPass { text: Padded::new(text), chunk, needle });
        if self.tail.len() > Needle::MAX {
            for cursor in &mut chunk.cursors[..chunk.live] {
                let rest = text.get(*cursor as usize..);
                if !rest.is_some_and(|rest| rest.starts_with(&self.tail)) {
                    *cursor = LOST;
                    lost = true;
                }
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

/// Loses the lines that do not end with the needle. Whether there are any.
struct TailPass<'a> {
    text: Padded<'a>,
    chunk: &'a mut Chunk,
    needle: Needle,
}

impl Kernel for TailPass<'_> {
    type Out = bool;

    #[inline(always)]
    fn run<L: Level>(self, level: L) -> bool {
        let needle = self.needle;
        let mut lost = false;
        for cursor in &mut self.chunk.cursors[..self.chunk.live] {
            let ends = level.starts_with(self.text.window(*cursor as usize), &needle);
            *cursor = if ends { *cursor } else { LOST };
            lost |= !ends;
        }
        lost
    }
}
