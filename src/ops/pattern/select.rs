//! From a match to its output row: the references are gathered into an intermediate row, and the
//! rows of a call are projected together at its end.

use super::refs::{Ref, Rows};
use crate::expr::{MatchSelect, Projection};
use crate::ground::batch::BatchBuilder;
use crate::ground::schema::Schema;
use crate::ground::slot::array::ArrayBuilder;
use crate::ground::time::Time;
use crate::ops::output::Port;

/// Rows of matches, or of partial matches that timed out, on their way to a port.
pub struct Selector {
    refs: Vec<Ref>,
    finish: Projection,
    rows: BatchBuilder,
    times: Vec<Time>,
    marks: Vec<Time>,
    select: Vec<u32>,
    array: ArrayBuilder,
}

impl Selector {
    /// A selector; `place` tells where input columns are among those kept.
    pub fn new(
        select: &MatchSelect,
        event: &Schema,
        place: impl Fn(usize) -> Option<usize>,
    ) -> Selector {
        let bind = |of| Ref::new(of, event, &place);
        Selector {
            refs: select.refs.iter().map(bind).collect(),
            finish: select.finish.clone(),
            rows: BatchBuilder::new(select.row.width(), 0),
            times: Vec::new(),
            marks: Vec::new(),
            select: Vec::new(),
            array: ArrayBuilder::default(),
        }
    }

    /// Adds a match that is put out at `time`.
    pub fn add<R: Rows>(&mut self, rows: &R, time: Time) {
        self.rows.push_with(|_| {});
        for (column, of) in self.refs.iter().enumerate() {
            of.write(rows, &mut self.rows, column, &mut self.array);
        }
        self.times.push(time);
        self.marks.push(time.saturating_sub(1));
    }

    /// How many were added since the last [`Selector::flush`].
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Forgets what was added.
    pub fn discard(&mut self) {
        let batch = self.rows.finish();
        self.rows.recycle(batch);
        self.times.clear();
        self.marks.clear();
    }

    /// Puts out what was added.
    pub fn flush(&mut self, port: &mut Port) {
        if self.times.is_empty() {
            return;
        }
        let batch = self.rows.finish();
        self.select.clear();
        self.select.extend(0..batch.rows() as u32);
        self.finish.project(&batch, &self.select, &mut port.builder);
        port.stamp_each(&self.times, &self.marks);
        self.rows.recycle(batch);
        self.times.clear();
        self.marks.clear();
    }
}
