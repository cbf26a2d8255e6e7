//! The receiving half of an exchange: one producer's blocks from all shards, put back into their
//! order, and the watermark that they have reached.
//!
//! 1. A source's blocks were dealt to the shards in turn, so block n comes from shard n mod shards,
//!    and the first shard to say `End` at its turn ends the feed.
//! 2. A stage's block n comes from every shard; its rows are merged by mark.
//! 3. `carry`, the watermark at the end of the blocks so far, never falls.

use std::collections::VecDeque;

use super::exchange::{Ended, Message, Parcel};
use crate::ground::ring::Receiver;
use crate::ground::time::{END, NEVER, Time};

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Producer {
    Source(usize),
    Stage(usize),
}

/// What a feed gives next.
pub enum Step {
    /// Rows `from..to` of a parcel.
    Rows { parcel: Parcel, from: usize, to: usize },
    /// The block is over.
    BlockEnd,
    /// The feed is over.
    Done,
}

/// One producer's messages to one shard's stage.
pub struct Feed {
    producer: Producer,
    receivers: Vec<Receiver<Message>>,
    turn: usize,
    /// Runs of a merged block, in order.
    merged: VecDeque<Step>,
    /// Watermark reached.
    pub carry: Time,
    /// Nothing came for long: not waited for.
    pub idle: bool,
    /// Over; `finished` if it was read to its end.
    pub done: Option<bool>,
    /// The last block had no rows.
    empty: bool,
    rows_in_block: bool,
}

impl Feed {
    /// A feed of these rings, one from each shard.
    pub fn new(producer: Producer, receivers: Vec<Receiver<Message>>) -> Feed {
        Feed {
            producer,
            receivers,
            turn: 0,
            merged: VecDeque::new(),
            carry: NEVER,
            idle: false,
            done: None,
            empty: false,
            rows_in_block: false,
        }
    }

    /// The next rows or the end of the block.
    ///
    /// # Errors
    /// [`Ended::Aborted`] if a sender went without saying `End`.
    pub async fn next(&mut self) -> Result<Step, Ended> {
        match self.producer {
            Producer::Source(_) => self.next_of_source().await,
            Producer::Stage(_) => self.next_of_stage().await,
        }
    }

    async fn next_of_source(&mut self) -> Result<Step, Ended> {
        match self.receivers[self.turn].receive().await.ok_or(Ended::Aborted)? {
            Message::Rows(parcel) => {
                self.rows_in_block = true;
                let to = parcel.times.len();
                Ok(Step::Rows { parcel, from: 0, to })
            }
            Message::BlockEnd { mark, idle } => {
                self.turn = (self.turn + 1) % self.receivers.len();
                self.end_block(mark, idle);
                Ok(Step::BlockEnd)
            }
            Message::End { finished } => Ok(self.end(finished)),
        }
    }

    async fn next_of_stage(&mut self) -> Result<Step, Ended> {
        if let Some(step) = self.merged.pop_front() {
            return Ok(step);
        }
        let mut parcels = Vec::new();
        let (mut mark, mut idle, mut ended) = (END, true, None);
        for receiver in &mut self.receivers {
            loop {
                match receiver.receive().await.ok_or(Ended::Aborted)? {
                    Message::Rows(parcel) => parcels.push(parcel),
                    Message::BlockEnd { mark: own, idle: own_idle } => {
                        mark = mark.min(own);
                        idle &= own_idle;
                        break;
                    }
                    Message::End { finished } => {
                        ended = Some(ended.unwrap_or(true) && finished);
                        break;
                    }
                }
            }
        }
        if let Some(finished) = ended {
            return Ok(self.end(finished));
        }
        self.rows_in_block = !parcels.is_empty();
        merge_by_mark(parcels, &mut self.merged);
        self.end_block(mark, idle);
        self.merged.push_back(Step::BlockEnd);
        Ok(self.merged.pop_front().expect("a block end was just put there"))
    }

    fn end_block(&mut self, mark: Time, idle: bool) {
        self.carry = self.carry.max(mark);
        self.idle = idle;
        self.empty = !self.rows_in_block;
        self.rows_in_block = false;
    }

    fn end(&mut self, finished: bool) -> Step {
        self.done = Some(finished);
        if finished {
            self.carry = END;
        }
        Step::Done
    }
}

/// The feed whose next block is taken: the one whose watermark is lowest, so that event time
/// advances together; one whose last block was empty lets the others go first once. A function of
/// the blocks so far, hence the same on every shard and in every run. `None`: all are over.
pub fn choose(feeds: &mut [Feed]) -> Option<usize> {
    let open = |feed: &&(usize, &Feed)| feed.1.done.is_none();
    let order = |feed: &(usize, &Feed)| (feed.1.empty, feed.1.carry, feed.0);
    let at = feeds.iter().enumerate().filter(|feed| open(&feed)).min_by_key(order)?.0;
    for (other, feed) in feeds.iter_mut().enumerate() {
        if other != at {
            feed.empty = false;
        }
    }
    Some(at)
}

/// The watermark of several feeds: the lowest of those that are waited for. If all are idle it is
/// the highest, since none of them holds time back.
pub fn combined(feeds: &[Feed]) -> Time {
    let waited = feeds.iter().filter(|feed| !feed.idle || feed.done.is_some());
    let lowest = waited.map(|feed| feed.carry).min();
    lowest.unwrap_or_else(|| feeds.iter().map(|feed| feed.carry).max().unwrap_or(NEVER))
}

/// Cuts parcels, each in order of mark, into runs that are in order of mark together. Ties go by
/// the parcels' order.
fn merge_by_mark(mut parcels: Vec<Parcel>, out: &mut VecDeque<Step>) {
    if parcels.len() == 1 {
        let parcel = parcels.pop().expect("there is one");
        let to = parcel.times.len();
        out.push_back(Step::Rows { parcel, from: 0, to });
        return;
    }
    let mut at = vec![0; parcels.len()];
    loop {
        let open = (0..parcels.len()).filter(|&i| at[i] < parcels[i].marks.len());
        let Some(first) = open.min_by_key(|&i| (parcels[i].marks[at[i]], i)) else {
            return;
        };
        let others = (0..parcels.len()).filter(|&i| i != first && at[i] < parcels[i].marks.len());
        let bound = others.map(|i| (parcels[i].marks[at[i]], i)).min();
        let marks = &parcels[first].marks;
        let from = at[first];
        let mut to = from + 1;
        while to < marks.len() && bound.is_none_or(|bound| (marks[to], first) < bound) {
            to += 1;
        }
        at[first] = to;
        let parcel = Parcel {
            input: parcels[first].input,
            records: parcels[first].records.clone(),
            times: parcels[first].times[from..to].to_vec(),
            marks: parcels[first].marks[from..to].to_vec(),
            hashes: parcels[first].hashes[from..to].to_vec(),
        };
        out.push_back(Step::Rows { parcel, from, to });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::batch::BatchBuilder;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn parcel(marks: &[Time], base: u64) -> Parcel {
        let mut builder = BatchBuilder::new(1, marks.len());
        for i in 0..marks.len() as u64 {
            builder.push(&[base + i]);
        }
        Parcel {
            input: 0,
            records: Arc::new(builder.finish()),
            times: marks.to_vec(),
            marks: marks.to_vec(),
            hashes: vec![0; marks.len()],
        }
    }

    proptest! {
        #[test]
        fn merged_runs_hold_every_row_once_in_order_of_mark(
            mut parcels in proptest::collection::vec(
                proptest::collection::vec(0..9i64, 0..8), 1..4)
        ) {
            let mut expected = Vec::new();
            for (i, marks) in parcels.iter_mut().enumerate() {
                marks.sort_unstable();
                expected.extend(marks.iter().enumerate().map(|(j, &m)| (m, (i * 100 + j) as u64)));
            }
            expected.sort_by_key(|&(mark, row)| (mark, row / 100, row));
            let parcels: Vec<Parcel> =
                parcels.iter().enumerate().map(|(i, m)| parcel(m, i as u64 * 100)).collect();
            let mut steps = VecDeque::new();
            merge_by_mark(parcels, &mut steps);
            let mut got = Vec::new();
            for step in steps {
                let Step::Rows { parcel, from, to } = step else { panic!("rows only") };
                for (i, row) in (from..to).enumerate() {
                    got.push((parcel.marks[i], parcel.records.row(row)[0]));
                }
            }
            prop_assert_eq!(got, expected);
        }
    }
}
