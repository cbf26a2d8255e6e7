//! Choosing among rows without copying them: what a filter, a route and a lookup that drops pass
//! on is the batch as it came, with fewer rows of it meant.

use crate::ground::batch::RecordBatch;
use crate::ground::bits;
use crate::ground::time::Time;
use crate::ops::Rows;
use crate::ops::output::Port;

/// Chosen rows of a batch, with what is known of each; the owned twin of [`Rows`].
#[derive(Debug, Default)]
pub struct Selection {
    /// Rows of the batch.
    pub select: Vec<u32>,
    /// Event time of each, ms.
    pub times: Vec<Time>,
    /// Watermark in force before each, ms.
    pub marks: Vec<Time>,
}

impl Selection {
    /// Chooses those of `rows` whose bits are set, instead of what was chosen before. About a
    /// nanosecond a row.
    pub fn choose(&mut self, rows: &Rows<'_>, chosen: &[u64]) {
        self.select.clear();
        self.times.clear();
        self.marks.clear();
        bits::for_each(chosen, |i| {
            self.select.push(rows.select[i]);
            self.times.push(rows.times[i]);
            self.marks.push(rows.marks[i]);
        });
    }

    /// The chosen rows, of the batch that they were chosen from.
    pub fn rows<'a>(&'a self, records: &'a RecordBatch) -> Rows<'a> {
        Rows { records, select: &self.select, times: &self.times, marks: &self.marks }
    }
}

/// A stateless operator that only chooses among rows.
pub trait Sieve {
    /// Chooses rows for each of the operator's outputs, in the order of its ports; `outs` has one
    /// for each. What it chooses is counted in the ledger as by
    /// [`Stateless::rows`](crate::ops::Stateless::rows), which copies the rows instead.
    fn sift(&mut self, rows: &Rows<'_>, outs: &mut [Selection]);
}

/// Copies rows of the port's schema to it; `heaped` names the columns that may have long values.
pub fn copy(rows: &Rows<'_>, heaped: &[usize], port: &mut Port) {
    for &row in rows.select {
        port.builder.push_row_of(rows.records, row as usize, heaped);
    }
    port.stamp_each(rows.times, rows.marks);
}
