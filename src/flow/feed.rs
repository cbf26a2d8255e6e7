//! The receiving half of an exchange: one producer's blocks from all shards, put back into their
//! order, and the watermark that they have reached.
//!
//! 1. A source's blocks were dealt to the shards in turn, so block n comes from shard n mod shards,
//!    counted from the newest barrier, and the first shard to say `End` at its turn ends the feed.
//! 2. A stage's block n comes from every shard; its rows are merged by mark. A shard that has ended
//!    is not waited for; the feed is over when all are.
//! 3. `carry`, the watermark at the end of the blocks so far, never falls.
//! 4. A barrier of an epoch that has been passed already (`passed`: it overtook what lay before it,
//!    or was given up) is but a place in the order of blocks. Such a place too is waited at until
//!    the stage's other feeds are at theirs: so blocks are taken in one order, on every shard and
//!    in
//!    every run, whether barriers overtook or not, and whenever.
//! 5. Between two blocks nothing of a block has been taken. So what waits in the inlets is all that
//!    is in flight before a barrier, and can be saved.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use super::RunError;
use super::exchange::{Ended, Message, Parcel};
use super::inlet::Inlet;
use super::latency::Arrival;
use crate::ground::limits::FLIGHT_MESSAGES_MAX;
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
    /// An epoch ends here; noted in [`Feed::barrier`]. Or its barrier has overtaken blocks that
    /// come
    /// from here: noted in [`Feed::overtaken`].
    Barrier,
    /// The feed is over.
    Done,
}

/// Where a feed stood at a barrier that overtook rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub turn: usize,
    pub carry: Time,
    pub idle: bool,
    pub still: bool,
    pub is_done: bool,
    /// At the place of this epoch's barrier: waits for the other feeds.
    pub barrier: Option<u64>,
}

/// One producer's messages to one shard's stage.
pub struct Feed {
    producer: Producer,
    inlets: Vec<Inlet>,
    turn: usize,
    /// Shards that have ended, and whether well; of a stage's feed.
    over: Vec<Option<bool>>,
    /// Runs of a merged block, in order.
    merged: VecDeque<Step>,
    /// What is so at its end: the watermark, and whether all shards were idle.
    merged_end: (Time, bool),
    /// The newest epoch that was passed (invariant 4).
    passed: u64,
    /// Watermark reached.
    pub carry: Time,
    /// Nothing came for long: not waited for.
    pub idle: bool,
    /// At the barrier that ends this epoch, or at its place (invariant 4): waits for the other
    /// feeds.
    pub barrier: Option<u64>,
    /// The barrier of this epoch has overtaken rows that come from here.
    pub overtaken: Option<u64>,
    /// Over; `finished` if it was read to its end.
    pub done: Option<bool>,
    /// It was over before the checkpoint that the run went on from: its end, which comes again, is
    /// no block any more.
    pub had_ended: bool,
    /// The last block brought its watermark no further. Whether it had rows would be another thing
    /// on each shard, which sees its own keys' only.
    still: bool,
}

impl Feed {
    /// A feed of these rings, one from each shard, whose watermark had reached `carry` ([`NEVER`]
    /// at a fresh start). Epochs up to `passed` are of earlier runs.
    pub fn new(
        producer: Producer,
        receivers: Vec<Receiver<Message>>,
        carry: Time,
        passed: u64,
    ) -> Feed {
        let nothing = receivers.iter().map(|_| VecDeque::new()).collect();
        let place =
            Place { turn: 0, carry, idle: false, still: false, is_done: false, barrier: None };
        Feed::resumed(producer, receivers, passed, place, nothing)
    }

    /// A feed that goes on from a place, with the messages that were in flight there from each
    /// shard.
    ///
    /// # Panics
    /// If there are not as many shards as rings.
    pub fn resumed(
        producer: Producer,
        receivers: Vec<Receiver<Message>>,
        passed: u64,
        place: Place,
        ahead: Vec<VecDeque<Message>>,
    ) -> Feed {
        assert_eq!(receivers.len(), ahead.len(), "a ring from each shard");
        let Place { turn, carry, idle, still, is_done, barrier } = place;
        let inlets = receivers.into_iter().zip(ahead);
        let inlets: Vec<Inlet> = inlets.map(|(ring, ahead)| Inlet::new(ring, ahead)).collect();
        Feed {
            producer,
            turn,
            over: vec![None; inlets.len()],
            inlets,
            merged: VecDeque::new(),
            merged_end: (NEVER, false),
            passed,
            carry,
            barrier,
            overtaken: None,
            // As one that is over: its watermark counts.
            idle: idle && !is_done,
            done: None,
            had_ended: is_done,
            still,
        }
    }

    /// Who sends.
    pub fn producer(&self) -> Producer {
        self.producer
    }

    /// Where the feed stands between two blocks.
    pub fn place(&self) -> Place {
        let Feed { turn, carry, idle, still, barrier, .. } = *self;
        let is_done = self.done.is_some() || self.had_ended;
        // Behind a source's end its reader begins with the first shard.
        let turn = if is_done { 0 } else { turn };
        Place { turn, carry, idle, still, is_done, barrier }
    }

    /// What is in flight from each shard.
    pub fn in_flight(&self) -> impl Iterator<Item = &VecDeque<Message>> {
        self.inlets.iter().map(Inlet::ahead)
    }

    /// Whether so much waits already that a barrier is not to overtake more.
    pub fn is_laden(&self) -> bool {
        self.in_flight().any(|ahead| ahead.len() > FLIGHT_MESSAGES_MAX)
    }

    /// The newest epoch whose barrier has come from any shard, also if it waits; 0 for none.
    pub fn given(&self) -> u64 {
        self.inlets.iter().map(Inlet::given).max().unwrap_or(0)
    }

    /// Takes barriers up to that of `epoch` for places from now on (invariant 4).
    pub fn pass(&mut self, epoch: u64) {
        self.passed = self.passed.max(epoch);
        self.overtaken = self.overtaken.filter(|&own| own > epoch);
    }

    /// Empties the rings up to the barrier of an epoch, all at once: a sender in the middle of a
    /// block must find room whichever it fills.
    pub fn poll_drain(&mut self, epoch: u64, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        let mut polled = Poll::Ready(Ok(()));
        if self.done.is_some() {
            return polled;
        }
        for inlet in &mut self.inlets {
            match inlet.poll_drain(epoch, context)? {
                Poll::Ready(()) => {}
                Poll::Pending => polled = Poll::Pending,
            }
        }
        polled
    }

    /// What is still in the rings, for tests.
    #[cfg(test)]
    pub fn into_rest(mut self) -> Vec<Vec<Message>> {
        self.inlets.iter_mut().map(Inlet::rest).collect()
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
        loop {
            match self.inlets[self.turn].take().await? {
                Message::Rows(parcel) => return Ok(Step::Rows(parcel)),
                Message::BlockEnd { arrival, mark, idle } => {
                    self.turn = (self.turn + 1) % self.inlets.len();
                    self.end_block(mark, idle);
                    return Ok(Step::BlockEnd { arrival });
                }
                Message::Barrier { epoch, overtakes } => {
                    // Dealt to all shards at one place of the source's order, so it is the next
                    // message of every other one too.
                    for at in (0..self.inlets.len()).filter(|&at| at != self.turn) {
                        match self.inlets[at].take().await? {
                            Message::Barrier { epoch: other, .. } if other == epoch => {}
                            _ => return Err(strange(epoch)),
                        }
                    }
                    self.turn = 0;
                    if !overtakes {
                        self.barrier = Some(epoch);
                        return Ok(Step::Barrier);
                    }
                }
                Message::Place { .. } => {}
                Message::End { finished } => return Ok(self.end(finished)),
            }
        }
    }

    async fn next_of_stage(&mut self) -> Result<Step, Ended> {
        if let Some(step) = self.next_merged() {
            return Ok(step);
        }
        let mut parts: Vec<Vec<Message>> = Vec::with_capacity(self.inlets.len());
        let (mut has_part, mut places, mut overtaken) = (false, Vec::new(), None);
        for at in 0..self.inlets.len() {
            let own = self.part(at).await?;
            match own.last() {
                Some(Message::Barrier { epoch, overtakes: true }) => overtaken = Some(*epoch),
                Some(Message::Barrier { epoch, .. } | Message::Place { epoch }) => {
                    places.push(*epoch);
                }
                Some(_) => has_part = true,
                None => {}
            }
            parts.push(own);
            if overtaken.is_some() {
                let taken = self.inlets.iter_mut().zip(parts);
                taken.for_each(|(inlet, part)| inlet.put_back(part));
                self.overtaken = overtaken;
                return Ok(Step::Barrier);
            }
        }
        if let Some(&epoch) = places.first() {
            // Stages count their blocks alike, so all shards say so together.
            if has_part || places.iter().any(|&other| other != epoch) {
                return Err(strange(epoch));
            }
            self.barrier = Some(epoch);
            return Ok(Step::Barrier);
        }
        if !has_part {
            return Ok(self.end(self.over.iter().all(|over| *over == Some(true))));
        }
        // Who was told to stop has promised nothing of what would have come.
        let is_cut = self.over.contains(&Some(false));
        let (mut mark, mut idle, mut latest) = (END, true, None);
        let mut parcels: Vec<Vec<Parcel>> = Vec::with_capacity(parts.len());
        for part in parts {
            let mut own = Vec::with_capacity(part.len());
            for message in part {
                match message {
                    Message::Rows(parcel) => own.push(parcel),
                    Message::BlockEnd { arrival, mark: reached, idle: quiet } => {
                        // What all shards together put out waits for the last of them.
                        latest = latest.max(arrival);
                        mark = mark.min(reached);
                        idle &= quiet;
                    }
                    Message::Barrier { .. } | Message::Place { .. } | Message::End { .. } => {}
                }
            }
            parcels.push(own);
        }
        merge_by_mark(parcels, &mut self.merged);
        self.merged_end = (if is_cut { mark.min(self.carry) } else { mark }, idle);
        self.merged.push_back(Step::BlockEnd { arrival: latest });
        Ok(self.next_merged().expect("a block end was just put there"))
    }

    /// A shard's part of the next block, up to its end, or a barrier or its place alone; nothing if
    /// the shard has ended.
    async fn part(&mut self, at: usize) -> Result<Vec<Message>, Ended> {
        let mut own = Vec::new();
        while self.over[at].is_none() {
            let message = self.inlets[at].take().await?;
            match message {
                Message::Barrier { epoch, overtakes: true } if epoch <= self.passed => {}
                Message::End { finished } => self.over[at] = Some(finished),
                Message::Rows(_) => own.push(message),
                Message::BlockEnd { .. } | Message::Barrier { .. } | Message::Place { .. } => {
                    own.push(message);
                    break;
                }
            }
        }
        Ok(own)
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

/// Shards of a producer do not agree where the barrier of an epoch lies.
fn strange(epoch: u64) -> Ended {
    Ended::Failed(RunError::Host(format!(
        "the barrier of epoch {epoch} lies behind different blocks on different shards; this is a \
         bug: run from the checkpoint before it (`--restore PATH`), and please report it"
    )))
}

/// The feed whose next block is taken: the one whose watermark is lowest, so that event time
/// advances together; one whose last block brought nothing lets the others go first once. A
/// function of the blocks so far, hence the same on every shard and in every run. `None`: all are
/// over or at a barrier.
pub fn choose(feeds: &[Feed]) -> Option<usize> {
    let open = |feed: &&(usize, &Feed)| feed.1.done.is_none() && feed.1.barrier.is_none();
    let order = |feed: &(usize, &Feed)| (feed.1.still, feed.1.carry, feed.0);
    feeds.iter().enumerate().filter(|feed| open(&feed)).min_by_key(order).map(|(at, _)| at)
}

/// Notes that a feed's block was taken, which those that let others go first have waited for. A
/// barrier is no block: where it overtakes, what comes next must not depend on where it lay.
pub fn note_block(feeds: &mut [Feed], at: usize) {
    let others = feeds.iter_mut().enumerate().filter(|(other, _)| *other != at);
    others.for_each(|(_, feed)| feed.still = false);
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
