//! Columns of an input that an operator carries on, in an order of its own; the others end there.

use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::schema::{Column, Schema};
use crate::ground::slot;

/// Which columns are kept.
#[derive(Clone, Debug)]
pub struct Kept {
    columns: Vec<usize>,
    /// Whether they are the input's first ones, in order.
    prefix: bool,
    heaped: Vec<usize>,
}

impl Kept {
    /// Keeps `columns` of `input`.
    ///
    /// # Panics
    /// If a column does not exist.
    pub fn new(input: &Schema, columns: Vec<usize>) -> Kept {
        let is_heaped = |&place: &usize| input.columns[columns[place]].data_type.is_heaped();
        Kept {
            prefix: columns.iter().enumerate().all(|(place, &column)| place == column),
            heaped: (0..columns.len()).filter(is_heaped).collect(),
            columns,
        }
    }

    /// Schema of the kept columns.
    pub fn schema(input: &Schema, columns: &[usize]) -> Schema {
        let kept = |&column: &usize| Column::clone(&input.columns[column]);
        Schema::new(columns.iter().map(kept).collect())
    }

    /// Columns kept.
    #[inline(always)]
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// The kept columns (by their new places) that may have long values.
    #[inline(always)]
    pub fn heaped(&self) -> &[usize] {
        &self.heaped
    }

    /// Whether a kept value of the selected rows is long. O(rows) where the batch has any.
    pub fn has_long(&self, records: &RecordBatch, select: &[u32]) -> bool {
        let is_long = |&row: &u32| {
            let row = records.row(row as usize);
            self.heaped.iter().any(|&place| slot::is_heaped(row[self.columns[place]]))
        };
        !records.heap().is_empty() && !self.heaped.is_empty() && select.iter().any(is_long)
    }

    /// Copies a row's kept values. `W` is the width where it is known, so that the copy is moves,
    /// not a call; 0 where it is not.
    #[inline(always)]
    pub fn values<const W: usize>(&self, row: &[u64], out: &mut [u64]) {
        let known =
            (row.first_chunk::<W>(), self.columns.first_chunk::<W>(), out.first_chunk_mut::<W>());
        match known {
            (Some(row), _, Some(out)) if W > 0 && self.prefix => *out = *row,
            (_, Some(columns), Some(out)) if W > 0 => {
                for (value, &column) in out.iter_mut().zip(columns) {
                    *value = row[column];
                }
            }
            _ if self.prefix => out.copy_from_slice(&row[..out.len()]),
            _ => {
                for (value, &column) in out.iter_mut().zip(&self.columns) {
                    *value = row[column];
                }
            }
        }
    }

    /// Sets the bits of those kept values that are NULL.
    #[inline(never)]
    pub fn nulls(&self, records: &RecordBatch, row: usize, out: &mut [u64]) {
        let words = records.null_words();
        let nulls = &records.nulls()[row * words..(row + 1) * words];
        if nulls.iter().all(|&word| word == 0) {
            return;
        }
        for (i, &column) in self.columns.iter().enumerate() {
            out[i / 64] |= (nulls[column / 64] >> (column % 64) & 1) << (i % 64);
        }
    }

    /// Brings NULLs of a row to row `to` of `out`.
    #[inline(always)]
    pub fn finish_nulls(
        &self,
        records: &RecordBatch,
        row: usize,
        out: &mut BatchBuilder,
        to: usize,
    ) {
        if records.has_nulls() {
            for (place, &column) in self.columns.iter().enumerate() {
                if records.is_null(row, column) {
                    out.set_null_at(to, place);
                }
            }
        }
    }

    /// Brings NULLs and long values of a row whose values were copied to the start of row `to` of
    /// `out`.
    #[inline(never)]
    pub fn finish_row(&self, records: &RecordBatch, row: usize, out: &mut BatchBuilder, to: usize) {
        self.finish_nulls(records, row, out, to);
        for &place in &self.heaped {
            let value = records.row(row)[self.columns[place]];
            if slot::is_heaped(value) {
                let moved = slot::rehome(value, records.heap(), &mut out.heap);
                let at = to * out.width() + place;
                out.slots_mut()[at] = moved;
            }
        }
    }
}
