//! The receiving half of an exchange: one producer's blocks from all shards, put back into their
//! order, and the watermark that they have reached.
//!
//! 1. A source's blocks were dealt to the shards in turn, so block n comes from shard n mod shards,
//!    and the first shard to say `End` at its turn ends the feed.
//! 2. A stage's block n comes from every shard; its rows are merged by mark.
//! 3. `carry`, the watermark at the end of the blocks so far, never falls.

use std::collections::VecDeque;

use super::exchange::{Ended, Message, Parcel};
use super::latency::Arrival;
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
    /// Rows, in order.
    Rows(Parcel),
    /// The block is over.
    BlockEnd { arrival: Arrival },
    /// An epoch ends here; noted in [`Feed::barrier`].
    Barrier,
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
    /// What is so at its end: the watermark, and whether all shards were idle.
    merged_end: (Time, bool),
    /// Watermark reached.
    pub carry: Time,
    /// Nothing came for long: not waited for.
    pub idle: bool,
    /// At the barrier that ends this epoch: waits for the other feeds.
    pub barrier: Option<u64>,
    /// Over; `finished` if it was read to its end.
    pub done: Option<bool>,
    /// The last block brought its watermark no further. Whether it had rows would be another thing
    /// on each shard, which sees its own keys' only.
    still: bool,
}

impl Feed {
    /// A feed of these rings, one from each shard, whose watermark had reached `carry` ([`NEVER`]
    /// at a fresh start).
    pub fn new(producer: Producer, receivers: Vec<Receiver<Message>>, carry: Time) -> Feed {
        Feed {
            producer,
            receivers,
            turn: 0,
            merged: VecDeque::new(),
            merged_end: (NEVER, false),
            carry,
            barrier: None,
            idle: false,
            done: None,
            still: false,
        }
    }

    /// Who sends.
    pub fn producer(&self) -> Producer {
        self.producer
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
            Message::Rows(parcel) => Ok(Step::Rows(parcel)),
            Message::BlockEnd { arrival, mark, idle } => {
                self.turn = (self.turn + 1) % self.receivers.len();
                self.end_block(mark, idle);
                Ok(Step::BlockEnd { arrival })
            }
            Message::Barrier { epoch } => {
                // Dealt to all shards at one place of the source's order, so it is the next
                // message of every other one too.
                for at in (0..self.receivers.len()).filter(|&at| at != self.turn) {
                    match self.receivers[at].receive().await {
                        Some(Message::Barrier { .. }) => {}
                        _ => return Err(Ended::Aborted),
                    }
                }
                self.barrier = Some(epoch);
                Ok(Step::Barrier)
            }
            Message::End { finished } => Ok(self.end(finished)),
        }
    }

    async fn next_of_stage(&mut self) -> Result<Step, Ended> {
        if let Some(step) = self.next_merged() {
            return Ok(step);
        }
        let mut parcels: Vec<Vec<Parcel>> = Vec::new();
        let (mut mark, mut idle, mut ended, mut latest) = (END, true, None, None);
        let mut barrier = None;
        for receiver in &mut self.receivers {
            let mut own = Vec::new();
            loop {
                match receiver.receive().await.ok_or(Ended::Aborted)? {
                    Message::Rows(parcel) => own.push(parcel),
                    Message::BlockEnd { arrival, mark: reached, idle: quiet } => {
                        // What all shards together put out waits for the last of them.
                        latest = latest.max(arrival);
                        mark = mark.min(reached);
                        idle &= quiet;
                        break;
                    }
                    Message::Barrier { epoch } => {
                        barrier = Some(epoch);
                        break;
                    }
                    Message::End { finished } => {
                        ended = Some(ended.unwrap_or(true) && finished);
                        break;
                    }
                }
            }
            parcels.push(own);
        }
        if let Some(finished) = ended {
            return Ok(self.end(finished));
        }
        if barrier.is_some() {
            // Stages count their blocks alike, so all shards say so together.
            self.barrier = barrier;
            return Ok(Step::Barrier);
        }
        merge_by_mark(parcels, &mut self.merged);
        self.merged_end = (mark, idle);
        self.merged.push_back(Step::BlockEnd { arrival: latest });
        Ok(self.next_merged().expect("a block end was just put there"))
    }

    /// The watermark of a block's end is reached behind its rows: before them they would be late.
    fn next_merged(&mut self) -> Option<Step> {
        let step = self.merged.pop_front()?;
        if let Step::BlockEnd { .. } = step {
            let (mark, idle) = self.merged_end;
            self.end_block(mark, idle);
        }
        Some(step)
    }

    fn end_block(&mut self, mark: Time, idle: bool) {
        self.still = mark <= self.carry;
        self.carry = self.carry.max(mark);
        self.idle = idle;
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
/// advances together; one whose last block brought nothing lets the others go first once. A
/// function of the blocks so far, hence the same on every shard and in every run. `None`: all are
/// over or at a barrier.
pub fn choose(feeds: &mut [Feed]) -> Option<usize> {
    let open = |feed: &&(usize, &Feed)| feed.1.done.is_none() && feed.1.barrier.is_none();
    let order = |feed: &(usize, &Feed)| (feed.1.still, feed.1.carry, feed.0);
    let at = feeds.iter().enumerate().filter(|feed| open(&feed)).min_by_key(order)?.0;
    for (other, feed) in feeds.iter_mut().enumerate() {
        if other != at {
            feed.still = false;
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

/// One input's parcels from one shard: together in order of mark.
struct Sequence {
    input: usize,
    parcels: VecDeque<Parcel>,
    /// Rows of the first parcel that are taken.
    at: usize,
}

impl Sequence {
    fn mark(&self) -> Option<Time> {
        self.parcels.front().map(|parcel| parcel.marks[self.at])
    }
}

/// Cuts a block's parcels into runs that are in order of mark together; equal marks go by input,
/// then by shard. `parcels[i]` are shard i's, in the order in which it sent them.
fn merge_by_mark(parcels: Vec<Vec<Parcel>>, out: &mut VecDeque<Step>) {
    let mut sequences: Vec<Sequence> = Vec::new();
    for shard in parcels {
        let first = sequences.len();
        for parcel in shard.into_iter().flat_map(in_order) {
            let follows = |sequence: &&mut Sequence| {
                let last = sequence.parcels.back().and_then(|last| last.marks.last());
                sequence.input == parcel.input && last <= parcel.marks.first()
            };
            let own = sequences[first..].iter_mut().find(follows);
            match own {
                Some(sequence) => sequence.parcels.push_back(parcel),
                None => sequences.push(Sequence {
                    input: parcel.input,
                    parcels: VecDeque::from([parcel]),
                    at: 0,
                }),
            }
        }
    }
    sequences.sort_by_key(|sequence| sequence.input);
    loop {
        let heads = sequences.iter().enumerate();
        let mut heads = heads.filter_map(|(i, sequence)| Some((sequence.mark()?, i)));
        let Some(first) = heads.next() else { return };
        let (first, bound) = heads.fold((first, None), |(least, next), head| {
            if head < least {
                (head, Some(least))
            } else {
                (least, next.map_or(Some(head), |n: (Time, usize)| Some(n.min(head))))
            }
        });
        take_run(&mut sequences[first.1], first.1, bound, out);
    }
}

/// A parcel as it is if its marks never fall; else cut where they do (several outputs of the
/// producer were made one input).
fn in_order(parcel: Parcel) -> Vec<Parcel> {
    let falls = |&at: &usize| parcel.marks[at] < parcel.marks[at - 1];
    let mut cuts: Vec<usize> = (1..parcel.marks.len()).filter(falls).collect();
    if cuts.is_empty() {
        return vec![parcel];
    }
    cuts.insert(0, 0);
    cuts.push(parcel.marks.len());
    cuts.windows(2).map(|cut| parcel.part(cut[0]..cut[1])).collect()
}

/// Moves the rows of a sequence's first parcel that come before `bound` to `out`.
fn take_run(
    sequence: &mut Sequence,
    place: usize,
    bound: Option<(Time, usize)>,
    out: &mut VecDeque<Step>,
) {
    let from = sequence.at;
    let parcel = &sequence.parcels[0];
    let rest = &parcel.marks[from..];
    let run = rest.iter().take_while(|&&mark| bound.is_none_or(|bound| (mark, place) < bound));
    let to = from + run.count();
    sequence.at = to;
    if to < parcel.marks.len() {
        out.push_back(Step::Rows(parcel.part(from..to)));
        return;
    }
    let parcel = sequence.parcels.pop_front().expect("its rows were just counted");
    sequence.at = 0;
    out.push_back(Step::Rows(if from == 0 { parcel } else { parcel.part(from..to) }));
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
            select: (0..marks.len() as u32).collect(),
            times: marks.to_vec(),
            marks: marks.to_vec(),
            hashes: vec![0; marks.len()],
            arrival: None,
        }
    }

    proptest! {
        #[test]
        fn merged_runs_hold_every_row_once_in_order_of_mark_input_and_shard(
            mut shards in proptest::collection::vec(
                proptest::collection::vec((0..2usize, 0..9i64), 0..9), 1..4),
            cut in 1..4usize
        ) {
            // (mark, input, shard, number in its sequence), and the row's value.
            let mut expected = Vec::new();
            let mut parcels: Vec<Vec<Parcel>> = Vec::new();
            for (shard, rows) in shards.iter_mut().enumerate() {
                rows.sort_by_key(|&(_, mark)| mark);
                let mut sent = Vec::new();
                for input in 0..2 {
                    let marks: Vec<Time> =
                        rows.iter().filter(|row| row.0 == input).map(|row| row.1).collect();
                    let base = (shard * 1000 + input * 100) as u64;
                    for (i, &mark) in marks.iter().enumerate() {
                        expected.push((mark, input, shard, base + i as u64));
                    }
                    for (i, piece) in marks.chunks(cut).enumerate() {
                        let mut parcel = parcel(piece, base + (i * cut) as u64);
                        parcel.input = input;
                        sent.push(parcel);
                    }
                }
                parcels.push(sent);
            }
            expected.sort_unstable();
            let mut steps = VecDeque::new();
            merge_by_mark(parcels, &mut steps);
            let mut got = Vec::new();
            for step in steps {
                let Step::Rows(parcel) = step else { panic!("rows only") };
                for (i, &mark) in parcel.marks.iter().enumerate() {
                    got.push((mark, parcel.records.row(parcel.select[i] as usize)[0]));
                }
            }
            let expected: Vec<_> = expected.into_iter().map(|row| (row.0, row.3)).collect();
            prop_assert_eq!(got, expected);
        }
    }
}
