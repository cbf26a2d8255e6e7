//! Several expressions that make a row.

use super::node::Node;
use super::vector::{Program, Vector};
use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::bits;
use crate::ground::schema::{Column, Schema};
use crate::ground::slot;

/// Named expressions, the columns of an output row.
#[derive(Clone, Debug)]
pub struct Projection {
    columns: Vec<(String, Program)>,
}

impl Projection {
    /// A row of these columns, in order. The names are unique (the reader of the pipeline file has
    /// seen to that).
    pub fn new(columns: Vec<(String, Program)>) -> Projection {
        Projection { columns }
    }

    pub(crate) fn of(columns: Vec<(String, Node)>) -> Projection {
        let program = |(name, node): (String, Node)| (name, Program::of(&node));
        Projection::new(columns.into_iter().map(program).collect())
    }

    /// The columns and their programs.
    pub fn columns(&self) -> &[(String, Program)] {
        &self.columns
    }

    /// The schema of the rows made.
    ///
    /// # Panics
    /// If two columns have one name.
    pub fn schema(&self) -> Schema {
        let column = |(name, program): &(String, Program)| Column {
            nullable: program.nullable(),
            ..Column::new(name.clone(), program.data_type().clone())
        };
        Schema::new(self.columns.iter().map(column).collect())
    }

    /// Appends one row for each of the batch's rows `select`, in order. O(rows x columns).
    ///
    /// # Panics
    /// If `out` has another width, or `select` names a row that is not there.
    pub fn project(&mut self, batch: &RecordBatch, select: &[u32], out: &mut BatchBuilder) {
        assert_eq!(out.width(), self.columns.len(), "a slot for every column");
        let first = out.rows();
        let at = out.extend_rows_to_set(select.len());
        for (place, (_, program)) in self.columns.iter_mut().enumerate() {
            let is_heaped = program.data_type().is_heaped();
            let has_texts = is_heaped && !batch.heap().is_empty();
            if let Some(column) = program.as_column()
                && !batch.has_nulls()
                && !has_texts
            {
                // As most columns are: copied where they lie.
                let (width, from) = (out.width(), batch.width());
                let rows = out.slots_mut()[at..].chunks_exact_mut(width);
                for (row, &of) in rows.zip(select) {
                    row[place] = batch.slots()[of as usize * from + column];
                }
                continue;
            }
            let vector = program.eval(batch, select);
            if is_heaped && !vector.heap.is_empty() {
                put_heaped(&vector, at + place, out);
            } else {
                let width = out.width();
                let rows = out.slots_mut()[at..].chunks_exact_mut(width);
                for (row, value) in rows.zip(vector.values) {
                    row[place] = *value;
                }
            }
            if let Some(nulls) = vector.nulls {
                bits::for_each(nulls, |i| out.set_null_at(first + i, place));
            }
        }
    }
}

/// Copies long values to the output's heap.
fn put_heaped(vector: &Vector<'_>, at: usize, out: &mut BatchBuilder) {
    let width = out.width();
    for (i, &value) in vector.values.iter().enumerate() {
        let value = slot::rehome(value, vector.heap, &mut out.heap);
        out.slots_mut()[at + i * width] = value;
    }
}
