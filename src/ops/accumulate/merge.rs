//! Panes into windows: the lines of a key in several columns become one.
//!
//! Where all calls are additive, 64 lines at a time are added as plain vectors; a sum that would
//! leave 64 bits is noticed by its sign and the lines are added again exactly.

use hashbrown::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use super::object::Object;
use super::update::held_text;
use super::{Call, Kind, Layout};
use crate::ground::slot;
use crate::state::panes::Column;
use crate::state::pool::Pool;

/// Lines of a block that make it worth adding whole.
const DENSE: u32 = 20;
/// Lines by which one is asked for before it is read.
const AHEAD: usize = 8;

/// Lines of several keys, each merged from its panes.
#[derive(Default)]
pub struct Merged {
    /// Key of each line.
    pub slots: Vec<u32>,
    /// The slots again: 64 a block, a bit each.
    blocks: Vec<(usize, u64)>,
    pub(super) lines: Vec<u64>,
    pub(super) width: usize,
    /// High parts of sums: (line, word) to what to add times 2^64.
    pub(super) carries: HashMap<(u32, u32), i64, BuildHasherDefault<DefaultHasher>>,
    /// Objects merged; owned words of the lines hold their numbers.
    pub(super) pool: Pool<Object>,
    block: Vec<u64>,
    hits: Vec<(u32, u32)>,
}

impl Merged {
    /// Forgets all lines.
    pub fn clear(&mut self, layout: &Layout) {
        for word in layout.owned() {
            for line in self.lines.chunks_exact(self.width.max(1)) {
                self.pool.release(line[word]);
            }
        }
        self.slots.clear();
        self.blocks.clear();
        self.lines.clear();
        self.carries.clear();
        self.width = layout.width();
    }

    /// Names slots whose lines are to be merged: `64 * block + bit` for every bit.
    #[inline(always)]
    pub fn name(&mut self, block: usize, bits: u64) {
        self.blocks.push((block, bits));
        let mut left = bits;
        while left != 0 {
            self.slots.push((block * 64) as u32 + left.trailing_zeros());
            left &= left - 1;
        }
    }

    #[inline(always)]
    fn line(&mut self, index: usize) -> &mut [u64] {
        &mut self.lines[index * self.width..(index + 1) * self.width]
    }

    /// Adds to one word as to an `i64`, exactly.
    fn add(&mut self, index: usize, word: usize, value: u64, high: i64) {
        let cell = &mut self.line(index)[word];
        let (sum, over) = (*cell as i64).overflowing_add(value as i64);
        *cell = sum as u64;
        let over = if over { (value as i64).signum() } else { 0 };
        if over + high != 0 {
            *self.carries.entry((index as u32, word as u32)).or_default() += over + high;
        }
    }

    /// A word read as the exact integer that it stands for.
    #[inline(always)]
    pub(super) fn exact(&self, index: usize, word: usize) -> i128 {
        let low = i128::from(self.lines[index * self.width + word] as i64);
        if self.carries.is_empty() {
            return low;
        }
        let high = self.carries.get(&(index as u32, word as u32));
        low + (i128::from(high.copied().unwrap_or(0)) << 64)
    }

    /// The object of a merged line, if it has one.
    pub(super) fn object(&mut self, index: usize, word: usize) -> Option<&mut Object> {
        let cell = &mut self.lines[index * self.width + word];
        (*cell != 0).then(|| self.pool.of(cell))
    }
}

impl Layout {
    /// Merges the lines of the slots that `out` was told, over `columns` in their order: one line a
    /// slot. O(slots x columns).
    ///
    /// # Panics
    /// If `out` was not cleared for this layout.
    pub fn merge<'a>(
        &self,
        columns: impl Iterator<Item = &'a Column> + Clone,
        pool: &Pool<Object>,
        out: &mut Merged,
    ) {
        assert_eq!(out.width, self.width(), "cleared for this layout");
        out.lines.resize(out.slots.len() * out.width, 0);
        if self.additive && columns.clone().all(|column| column.carries.is_empty()) {
            let over = match out.width {
                1 => add_all::<1>(columns.clone(), out),
                2 => add_all::<2>(columns.clone(), out),
                4 => add_all::<4>(columns.clone(), out),
                8 => add_all::<8>(columns.clone(), out),
                _ => 1 << 63,
            };
            if over >> 63 == 0 {
                return;
            }
            out.lines.fill(0);
        }
        let (blocks, mut hits) = (std::mem::take(&mut out.blocks), std::mem::take(&mut out.hits));
        for column in columns {
            hits.clear();
            let mut start = 0;
            for &(block, bits) in &blocks {
                let mut here = column.touched.word(block) & bits;
                while here != 0 {
                    let bit = here.trailing_zeros();
                    let before = (bits & ((1 << bit) - 1)).count_ones();
                    hits.push(((block * 64) as u32 + bit, start + before));
                    here &= here - 1;
                }
                start += bits.count_ones();
            }
            for call in &self.calls {
                for &(slot, index) in &hits {
                    merge_call(call, column, slot, pool, index as usize, out);
                }
            }
        }
        (out.blocks, out.hits) = (blocks, hits);
    }
}

/// Adds all lines as vectors of words; the sign bit of the answer is set if a sum left 64 bits.
fn add_all<'a, const W: usize>(
    columns: impl Iterator<Item = &'a Column> + Clone,
    out: &mut Merged,
) -> u64 {
    let Merged { slots, blocks, lines, block: total, .. } = out;
    let (mut over, mut start, mut sparse) = (0, 0, 0);
    let (lines, _) = lines.as_chunks_mut::<W>();
    for &(block, bits) in blocks.iter() {
        let end = start + bits.count_ones() as usize;
        if bits.count_ones() >= DENSE {
            let between = sparse..start;
            over |= add_sparse(columns.clone(), &slots[between.clone()], &mut lines[between]);
            over |= add_block(columns.clone(), block, bits, total, &mut lines[start..end]);
            sparse = end;
        }
        start = end;
    }
    over | add_sparse(columns, &slots[sparse..], &mut lines[sparse..])
}

/// Adds single lines.
fn add_sparse<'a, const W: usize>(
    columns: impl Iterator<Item = &'a Column>,
    slots: &[u32],
    lines: &mut [[u64; W]],
) -> u64 {
    let mut over = 0;
    for column in columns {
        for (i, (&slot, total)) in slots.iter().zip(lines.iter_mut()).enumerate() {
            if let Some(&ahead) = slots.get(i + AHEAD) {
                column.lines.prefetch(ahead);
            }
            if let Some(line) = column.lines.line(slot).first_chunk::<W>() {
                for (sum, &word) in total.iter_mut().zip(line) {
                    let next = sum.wrapping_add(word);
                    over |= (*sum ^ next) & (word ^ next);
                    *sum = next;
                }
            }
        }
    }
    over
}

/// Adds a whole block of 64 lines and picks those that are meant.
fn add_block<'a, const W: usize>(
    columns: impl Iterator<Item = &'a Column>,
    block: usize,
    bits: u64,
    total: &mut Vec<u64>,
    lines: &mut [[u64; W]],
) -> u64 {
    let mut over = 0;
    total.clear();
    for column in columns.filter(|column| column.touched.word(block) & bits != 0) {
        let words = column.lines.block(block);
        if total.is_empty() {
            total.extend_from_slice(words);
            continue;
        }
        for (sum, &word) in total.iter_mut().zip(words) {
            let next = sum.wrapping_add(word);
            over |= (*sum ^ next) & (word ^ next);
            *sum = next;
        }
    }
    let (sums, _) = total.as_chunks::<W>();
    let mut left = bits;
    for line in lines {
        if let Some(sum) = sums.get(left.trailing_zeros() as usize) {
            *line = *sum;
        }
        left &= left - 1;
    }
    over
}

fn merge_call(
    call: &Call,
    column: &Column,
    slot: u32,
    pool: &Pool<Object>,
    index: usize,
    out: &mut Merged,
) {
    let (at, line) = (call.at, column.lines.line(slot));
    let integer = |word: usize, out: &mut Merged| {
        let high = column.carries.get(&(slot, word as u32));
        out.add(index, word, line[word], high.copied().unwrap_or(0));
    };
    let double = |word: usize, out: &mut Merged| {
        let cell = &mut out.line(index)[word];
        *cell = (f64::from_bits(*cell) + f64::from_bits(line[word])).to_bits();
    };
    match call.kind {
        Kind::Distinct { .. } => {}
        Kind::Count => integer(at, out),
        Kind::SumInteger { rows } => {
            integer(at, out);
            if rows {
                integer(at + 1, out);
            }
        }
        Kind::AverageInteger => {
            integer(at, out);
            integer(at + 1, out);
        }
        Kind::SumDouble { rows } => {
            double(at, out);
            if rows {
                integer(at + 1, out);
            }
        }
        Kind::AverageDouble => {
            double(at, out);
            integer(at + 1, out);
        }
        Kind::Extreme { rows, .. } => {
            let cell = &mut out.line(index)[at];
            *cell = (*cell).max(line[at]);
            if rows {
                integer(at + 1, out);
            }
        }
        Kind::Nth { last, heaped } => {
            let mine = &mut out.line(index)[at..];
            if line[at] != 0 && (mine[0] == 0 || (line[at] > mine[0]) == last) {
                mine[..2].copy_from_slice(&line[at..at + 2]);
                if heaped {
                    take_text(line, at, pool, index, out);
                }
            }
        }
        Kind::ExtremeText { max } => {
            let theirs = held_text(line, at, pool);
            let mine = &out.lines[index * out.width..][..out.width];
            let better = mine[at] == 0 || beats(theirs, held_text(mine, at, &out.pool), max);
            if line[at] != 0 && better {
                out.line(index)[at..at + 2].copy_from_slice(&line[at..at + 2]);
                take_text(line, at, pool, index, out);
            }
        }
        Kind::Variance { .. } => variance(&line[at..at + 3], &mut out.line(index)[at..at + 3]),
        Kind::Percentile { .. } | Kind::Cardinality | Kind::TopK { .. } | Kind::Array => {
            if let Some(theirs) = pool.get(line[at]) {
                let cell = &mut out.lines[index * out.width + at];
                out.pool.of(cell).merge(theirs);
            }
        }
    }
}

/// Copies the long text of an accumulator of three words, if it has one.
fn take_text(line: &[u64], at: usize, pool: &Pool<Object>, index: usize, out: &mut Merged) {
    if slot::is_heaped(line[at + 1]) {
        let text = held_text(line, at, pool);
        let cell = &mut out.lines[index * out.width + at + 2];
        out.pool.of(cell).set_text(text);
    }
}

/// Whether a text is a new greatest (or least) one.
#[inline(always)]
pub(super) fn beats(text: &[u8], held: &[u8], max: bool) -> bool {
    if max { text > held } else { text < held }
}

/// Chan, Golub and LeVeque's pairwise update.
fn variance(theirs: &[u64], mine: &mut [u64]) {
    let of = |line: &[u64]| [0, 1, 2].map(|i| f64::from_bits(line[i]));
    let ([n, mean, squares], [m, other, more]) = (of(mine), of(theirs));
    if m == 0.0 {
        return;
    }
    let (total, apart) = (n + m, other - mean);
    mine[0] = total.to_bits();
    mine[1] = (mean + apart * (m / total)).to_bits();
    mine[2] = (squares + more + apart * apart * (n * m / total)).to_bits();
}
