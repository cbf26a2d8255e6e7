//! Where operators put rows: one buffer for each named output, cut into batches.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::limits::BATCH_HEAP_BYTES;
use crate::ground::time::Time;

/// Rows that left an operator, with what is known of each.
#[derive(Debug)]
pub struct Emitted {
    /// Whoever reads it may keep it for a while.
    pub records: Arc<RecordBatch>,
    /// Event time of each row, ms.
    pub times: Vec<Time>,
    /// Watermark in force when each row was put out, ms; never falls.
    pub marks: Vec<Time>,
}

/// One output's rows.
pub struct Port {
    /// Rows not yet cut into a batch. Add rows to it, then say how many by [`Port::stamp`].
    pub builder: BatchBuilder,
    times: Vec<Time>,
    marks: Vec<Time>,
    full: Vec<Emitted>,
    /// Batches that were read, for their memory; the first ones longest ago.
    spare: VecDeque<Emitted>,
    batch_rows: usize,
    rows: u64,
}

/// Batches kept for their memory: those of a window's firing over some 100,000 keys.
const SPARE: usize = 128;

impl Port {
    /// Says that rows were added to `builder` up to its present count: all with this event time
    /// and this watermark in force. Cuts a batch when one is full.
    pub fn stamp(&mut self, time: Time, mark: Time) {
        let rows = self.builder.rows();
        self.rows += (rows - self.times.len()) as u64;
        self.times.resize(rows, time);
        self.marks.resize(rows, mark);
        if rows >= self.batch_rows || self.builder.heap.len() > BATCH_HEAP_BYTES {
            self.cut();
        }
    }

    /// As [`Port::stamp`], with a time and mark for each of the rows added.
    ///
    /// # Panics
    /// If there are not as many as rows were added.
    pub fn stamp_each(&mut self, times: &[Time], marks: &[Time]) {
        self.rows += times.len() as u64;
        self.times.extend_from_slice(times);
        self.marks.extend_from_slice(marks);
        assert_eq!(self.times.len(), self.builder.rows(), "every row has its time");
        if self.builder.rows() >= self.batch_rows || self.builder.heap.len() > BATCH_HEAP_BYTES {
            self.cut();
        }
    }

    /// Rows put out since the run began.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Ends the batch under way.
    pub fn cut(&mut self) {
        debug_assert_eq!(self.times.len(), self.builder.rows());
        if self.builder.rows() > 0 {
            self.full.push(Emitted {
                records: Arc::new(self.builder.finish()),
                times: std::mem::take(&mut self.times),
                marks: std::mem::take(&mut self.marks),
            });
            if let Some(Emitted { records, times, marks }) = self.spare.pop_front() {
                // Another shard may still read it; then only that shard can free it.
                if let Ok(records) = Arc::try_unwrap(records) {
                    self.builder.recycle(records);
                }
                (self.times, self.marks) = (times, marks);
                self.times.clear();
                self.marks.clear();
            }
        }
    }

    /// Takes batches back that were read: their memory is used again, which is warm and whose
    /// pages are there.
    pub fn give_back(&mut self, mut read: Vec<Emitted>) {
        let room = SPARE - self.spare.len().min(SPARE);
        self.spare.extend(read.drain(..).take(room));
        if self.full.is_empty() {
            self.full = read;
        }
    }

    /// Takes all batches put out since the last call.
    pub fn take(&mut self) -> Vec<Emitted> {
        self.cut();
        std::mem::take(&mut self.full)
    }

    /// Whether nothing waits to be taken.
    pub fn is_empty(&self) -> bool {
        self.full.is_empty() && self.builder.rows() == 0
    }
}

/// All outputs of one operator, in the order that its plan names them; 0 is the main one.
pub struct Outputs {
    pub ports: Vec<Port>,
}

impl Outputs {
    /// Outputs whose rows have these widths, cut into batches of `batch_rows`.
    pub fn new(widths: &[usize], batch_rows: usize) -> Outputs {
        let port = |&width: &usize| Port {
            builder: BatchBuilder::new(width, 0),
            times: Vec::new(),
            marks: Vec::new(),
            full: Vec::new(),
            spare: VecDeque::new(),
            batch_rows,
            rows: 0,
        };
        Outputs { ports: widths.iter().map(port).collect() }
    }

    /// No outputs, at no cost: what stands where outputs were lent from.
    pub fn none() -> Outputs {
        Outputs { ports: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_into_batches_with_their_times() {
        let mut out = Outputs::new(&[1], 2);
        let port = &mut out.ports[0];
        for i in 0..5u64 {
            port.builder.push(&[i]);
            port.stamp(i as Time, 7);
        }
        let batches = port.take();
        let sizes: Vec<usize> = batches.iter().map(|batch| batch.records.rows()).collect();
        assert_eq!(sizes, [2, 2, 1]);
        assert_eq!(batches[2].times, [4]);
        assert_eq!(batches[2].marks, [7]);
        assert!(port.is_empty());
        assert_eq!(port.rows(), 5);

        // Memory of batches that were read carries nothing over.
        port.give_back(batches);
        port.builder.push_nulls(&[0], &[1]);
        port.stamp(9, 8);
        port.builder.push(&[6]);
        port.stamp(10, 8);
        let batches = port.take();
        assert_eq!(
            (batches[0].times.as_slice(), batches[0].marks.as_slice()),
            (&[9, 10][..], &[8, 8][..])
        );
        assert_eq!((batches[0].records.get(0, 0), batches[0].records.get(1, 0)), (None, Some(6)));
    }
}
