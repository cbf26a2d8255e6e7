//! Merged lines into output rows: the intermediate row (key, bounds, calls), then `having` and
//! `finish`.

use super::{Layout, Merged};
use crate::expr::Program;
use crate::expr::aggregate::AggregateSelect;
use crate::expr::projection::Projection;
use crate::ground::batch::BatchBuilder;
use crate::ground::bits;
use crate::ground::slot;
use crate::ground::time::Time;
use crate::ops::output::Port;
use crate::state::keys::KeyTable;

/// Makes rows of one `select`.
pub struct Emitter {
    /// Key columns that have a heap.
    heaped: Vec<usize>,
    keys: usize,
    bounds: bool,
    pub(super) finish: Projection,
    having: Option<Program>,
    pub(super) builder: BatchBuilder,
    mask: Vec<u64>,
    all: Vec<u32>,
    /// Lines put out by the last call, by their place among the merged ones.
    pub selected: Vec<u32>,
}

impl Emitter {
    /// An emitter for a `select` whose intermediate row has window bounds or not.
    ///
    /// # Panics
    /// If the intermediate row is too narrow for its calls.
    pub fn new(select: &AggregateSelect, bounds: bool) -> Emitter {
        let calls = select.calls.len() + if bounds { 2 } else { 0 };
        let keys = select.row.width().checked_sub(calls);
        let keys = keys.expect("the row has keys, bounds and calls");
        let columns = select.row.columns[..keys].iter().enumerate();
        Emitter {
            heaped: columns
                .filter(|(_, column)| column.data_type.is_heaped())
                .map(|(i, _)| i)
                .collect(),
            keys,
            bounds,
            finish: select.finish.clone(),
            having: select.having.clone(),
            builder: BatchBuilder::new(select.row.width(), 0),
            mask: Vec::new(),
            all: Vec::new(),
            selected: Vec::new(),
        }
    }

    /// Adds a row to `port` for every merged line that `having` lets through, without stamping it.
    /// Gives how many values did not fit their type.
    pub fn emit(
        &mut self,
        layout: &Layout,
        merged: &mut Merged,
        distinct: &[Vec<u64>],
        keys: &KeyTable,
        window: (Time, Time),
        port: &mut Port,
    ) -> u64 {
        let rows = merged.slots.len();
        self.builder.extend_rows_to_set(rows);
        self.write_keys(&merged.slots, keys, window);
        let column = self.first_call();
        let overflows = layout.finish(merged, distinct, &mut self.builder, 0, column);
        let batch = self.builder.finish();
        self.all.extend(self.all.len() as u32..rows as u32);
        self.selected.clear();
        match &mut self.having {
            None => self.selected.extend_from_slice(&self.all[..rows]),
            Some(having) => {
                having.mask(&batch, &self.all[..rows], &mut self.mask);
                bits::for_each(&self.mask, |i| self.selected.push(i as u32));
            }
        }
        if !self.selected.is_empty() {
            self.finish.project(&batch, &self.selected, &mut port.builder);
        }
        self.builder.recycle(batch);
        overflows
    }

    /// Place of the first call's column in the intermediate row.
    pub(super) fn first_call(&self) -> usize {
        self.keys + if self.bounds { 2 } else { 0 }
    }

    pub(super) fn write_keys(&mut self, slots: &[u32], keys: &KeyTable, window: (Time, Time)) {
        let width = self.builder.width();
        let rows = self.builder.slots_mut().chunks_exact_mut(width);
        for (row, &slot) in rows.zip(slots) {
            row[..self.keys].copy_from_slice(&keys.row(slot)[..self.keys]);
            if self.bounds {
                row[self.keys] = window.0 as u64;
                row[self.keys + 1] = window.1 as u64;
            }
        }
        if keys.has_nulls() {
            for (row, &slot) in slots.iter().enumerate() {
                bits::for_each(keys.nulls(slot), |column| self.builder.set_null_at(row, column));
            }
        }
        if !keys.heap().is_empty() {
            for &column in &self.heaped {
                for row in 0..slots.len() {
                    let at = row * width + column;
                    let word = self.builder.slots_mut()[at];
                    let moved = slot::rehome(word, keys.heap(), &mut self.builder.heap);
                    self.builder.slots_mut()[at] = moved;
                }
            }
        }
    }
}
