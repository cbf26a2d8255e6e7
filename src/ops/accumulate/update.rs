//! Rows into lines: one typed loop for each call over the rows of one pane.

use super::object::Object;
use super::{Input, Kind, Layout, Order, as_double, ordered};
use crate::ground::bits;
use crate::ground::slot;
use crate::state::panes::Column;
use crate::state::pool::Pool;

/// Rows taken through all calls before the next ones: their lines stay in the first caches.
const CHUNK: usize = 512;
/// Rows by which a line is asked for before it is written.
const AHEAD: usize = 48;

/// The rows of a batch that go into one pane.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    /// Rows meant, as places in `slots` and in the inputs' values, in order of arrival.
    pub rows: &'a [u32],
    /// Key slot of every row of the batch.
    pub slots: &'a [u32],
    /// Number of the batch's first row since the run began, at least 1.
    pub first: u64,
}

impl Layout {
    /// Adds rows to a pane's lines. `inputs` are those of the calls, in order. A few ns a row and
    /// call.
    ///
    /// # Panics
    /// If the column has no room for a slot.
    pub fn update(
        &self,
        inputs: &[Input<'_>],
        batch: Batch<'_>,
        column: &mut Column,
        pool: &mut Pool<Object>,
    ) {
        for rows in batch.rows.chunks(CHUNK) {
            let batch = Batch { rows, ..batch };
            touch(batch, column);
            for (call, input) in self.calls.iter().zip(inputs) {
                self.update_call(call, input, batch, column, pool);
            }
        }
    }

    fn update_call(
        &self,
        call: &super::Call,
        input: &Input<'_>,
        batch: Batch<'_>,
        column: &mut Column,
        pool: &mut Pool<Object>,
    ) {
        let at = call.at;
        // Words of numbers may look like long texts; only real ones are followed.
        let heap = if call.argument.is_heaped() { input.heap } else { &[] };
        match call.kind {
            Kind::Distinct { .. } => {}
            Kind::Count => count(input, batch, column, at),
            Kind::SumInteger { rows } => {
                sum(input, batch, column, at);
                if rows {
                    count(input, batch, column, at + 1);
                }
            }
            Kind::AverageInteger => {
                sum(input, batch, column, at);
                count(input, batch, column, at + 1);
            }
            Kind::SumDouble { rows } => {
                sum_double(input, batch, column, at);
                if rows {
                    count(input, batch, column, at + 1);
                }
            }
            Kind::AverageDouble => {
                sum_double(input, batch, column, at);
                count(input, batch, column, at + 1);
            }
            Kind::Extreme { max, order, rows } => {
                extreme(input, batch, column, at, max, order);
                if rows {
                    count(input, batch, column, at + 1);
                }
            }
            Kind::Nth { last, heaped } => nth(input, batch, column, pool, at, last, heaped),
            Kind::Variance { .. } => each(input, batch, |slot, row, _| {
                let line = column.lines.line_mut(slot);
                let value = as_double(input.values[row], &call.argument);
                let (n, mean) = (f64::from_bits(line[at]) + 1.0, f64::from_bits(line[at + 1]));
                let moved = mean + (value - mean) / n;
                let squares = f64::from_bits(line[at + 2]) + (value - mean) * (value - moved);
                line[at] = n.to_bits();
                line[at + 1] = moved.to_bits();
                line[at + 2] = squares.to_bits();
            }),
            Kind::ExtremeText { max } => extreme_text(input, batch, column, pool, at, max),
            Kind::Percentile { .. } => each(input, batch, |slot, row, _| {
                let value = as_double(input.values[row], &call.argument);
                pool.of(column.lines.word_mut(slot, at)).percentile().add(value);
            }),
            Kind::Cardinality => each(input, batch, |slot, row, _| {
                let object = pool.of(column.lines.word_mut(slot, at));
                object.cardinality().insert(input.values[row], heap);
            }),
            Kind::TopK { k } => each(input, batch, |slot, row, _| {
                let list = pool.of(column.lines.word_mut(slot, at)).list();
                list.push(0, Some(input.values[row]), heap);
                if list.len() >= 2 * k.max(32) {
                    list.keep_top(k, &call.argument);
                }
            }),
            Kind::Array => {
                // NULLs are elements, as in Flink: the filter alone decides.
                let passed = Input { live: input.passed, ..*input };
                each(&passed, batch, |slot, row, number| {
                    let null = input.nulls.is_some_and(|nulls| bits::get(nulls, row));
                    let value = (!null).then(|| input.values[row]);
                    let list = pool.of(column.lines.word_mut(slot, at)).list();
                    list.push(number, value, heap);
                });
            }
        }
    }
}

fn touch(batch: Batch<'_>, column: &mut Column) {
    let Batch { rows, slots, .. } = batch;
    for (i, &row) in rows.iter().enumerate() {
        if let Some(&ahead) = rows.get(i + AHEAD) {
            column.lines.prefetch(slots[ahead as usize]);
        }
        column.touched.set(slots[row as usize]);
    }
}

/// Calls `work(slot, row, number)` for each live row.
#[inline(always)]
fn each(input: &Input<'_>, batch: Batch<'_>, mut work: impl FnMut(u32, usize, u64)) {
    for &row in batch.rows {
        let row = row as usize;
        if input.is_live(row) {
            work(batch.slots[row], row, batch.first + row as u64);
        }
    }
}

fn count(input: &Input<'_>, batch: Batch<'_>, column: &mut Column, at: usize) {
    match input.live {
        None => {
            for &row in batch.rows {
                *column.lines.word_mut(batch.slots[row as usize], at) += 1;
            }
        }
        Some(live) => {
            for &row in batch.rows {
                let one = u64::from(bits::get(live, row as usize));
                *column.lines.word_mut(batch.slots[row as usize], at) += one;
            }
        }
    }
}

fn sum(input: &Input<'_>, batch: Batch<'_>, column: &mut Column, at: usize) {
    match input.live {
        None => {
            for &row in batch.rows {
                let value = input.values[row as usize] as i64;
                column.add(batch.slots[row as usize], at, value);
            }
        }
        Some(live) => {
            for &row in batch.rows {
                // No branch: a row that does not count adds 0.
                let keep = i64::from(bits::get(live, row as usize)).wrapping_neg();
                let value = input.values[row as usize] as i64 & keep;
                column.add(batch.slots[row as usize], at, value);
            }
        }
    }
}

fn sum_double(input: &Input<'_>, batch: Batch<'_>, column: &mut Column, at: usize) {
    each(input, batch, |slot, row, _| {
        let word = column.lines.word_mut(slot, at);
        let sum = f64::from_bits(*word) + f64::from_bits(input.values[row]);
        *word = sum.to_bits();
    });
}

fn extreme(
    input: &Input<'_>,
    batch: Batch<'_>,
    column: &mut Column,
    at: usize,
    max: bool,
    order: Order,
) {
    let turn = if max { 0 } else { !0 };
    each(input, batch, |slot, row, _| {
        let word = column.lines.word_mut(slot, at);
        *word = (*word).max(ordered(input.values[row], order) ^ turn);
    });
}

fn nth(
    input: &Input<'_>,
    batch: Batch<'_>,
    column: &mut Column,
    pool: &mut Pool<Object>,
    at: usize,
    last: bool,
    heaped: bool,
) {
    each(input, batch, |slot, row, number| {
        let line = column.lines.line_mut(slot);
        if last || line[at] == 0 {
            line[at] = number;
            line[at + 1] = input.values[row];
            if heaped && slot::is_heaped(line[at + 1]) {
                let text = slot::bytes(&input.values[row], input.heap);
                pool.of(&mut line[at + 2]).set_text(text);
            }
        }
    });
}

fn extreme_text(
    input: &Input<'_>,
    batch: Batch<'_>,
    column: &mut Column,
    pool: &mut Pool<Object>,
    at: usize,
    max: bool,
) {
    each(input, batch, |slot, row, _| {
        let line = column.lines.line_mut(slot);
        let text = slot::bytes(&input.values[row], input.heap);
        if line[at] == 0 || super::merge::beats(text, held_text(line, at, pool), max) {
            line[at] = 1;
            line[at + 1] = input.values[row];
            if slot::is_heaped(input.values[row]) {
                pool.of(&mut line[at + 2]).set_text(text);
            }
        }
    });
}

/// The text of an accumulator of three words: mark, slot, number.
pub(super) fn held_text<'a>(line: &'a [u64], at: usize, pool: &'a Pool<Object>) -> &'a [u8] {
    if slot::is_heaped(line[at + 1]) {
        pool.get(line[at + 2]).map_or(&[][..], Object::text)
    } else {
        slot::bytes(&line[at + 1], &[])
    }
}
