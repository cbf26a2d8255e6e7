//! A stage's task on one shard: blocks of its feeds in, through the stage, what comes out to the
//! rings behind; barriers passed on, or let overtake what is in flight.
//!
//! A barrier that overtakes (as in Flink's unaligned checkpoints, but by the block):
//!
//! ```text
//! rings, waiting:   r r |n r      the task stops between two blocks, sends barrier n on at once,
//!                   r r r |n      takes what lies before n out of the rings, and works off nothing
//!                                 of it: that is saved, then worked off when the image is made
//! ```
//!
//! 1. While a task waits for barriers it empties its rings, each up to its barrier. So a sender in
//!    the middle of a block comes to its end, sees that the epoch overtakes, and sends its barrier.
//! 2. What waits outside the rings is bounded (`FLIGHT_MESSAGES_MAX`): beyond that a task goes on
//!    with its blocks first.
//! 3. An epoch that was given up is told by a barrier of a newer one; what was taken for it is
//!    worked off in its turn, and its barriers are passed by.
//! 4. All shards take blocks in one order, wherever each of them stood when barriers overtook: the
//!    places that barriers have in the order of blocks are waited at as ever, by the stage's own
//!    feeds for one another, and passed on to the stages behind. What a stage behind merges from
//!    all shards is of one place in time only because of that.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use super::align::Alignment;
use super::cold::Cold;
use super::epochs::Epochs;
use super::exchange::{Ended, Message, Outgoing};
use super::feed::{Feed, Producer, Step, choose, combined, note_block};
use super::flight;
use super::graph::ShardGraph;
use super::host::Host;
use super::latency;
use crate::ground::time::Time;
use crate::ops::Rows;

/// What a stage's task works with.
pub struct StageTask<H: Host> {
    pub host: H,
    pub graph: Rc<RefCell<ShardGraph>>,
    pub cold: Rc<Cold<H>>,
    pub stage: usize,
    pub feeds: Vec<Feed>,
    pub outgoing: Outgoing,
    pub alignment: Rc<Alignment>,
    pub epochs: Arc<Epochs>,
    /// The newest epoch whose barrier the task has sent on.
    pub passed: u64,
}

impl<H: Host> StageTask<H> {
    /// Runs to the end of all feeds.
    ///
    /// # Errors
    /// [`Ended`]: an operator's or a sink's error, or somebody else's.
    pub async fn run(mut self) -> Result<(), Ended> {
        let component = self.graph.borrow().stages[self.stage].component();
        let direct: Vec<usize> = {
            let graph = self.graph.borrow();
            let behind = graph.stages[self.stage].exchanges.iter().copied();
            behind.filter(|&at| graph.exchanges[at].is_direct()).collect()
        };
        debug_assert!(direct.is_empty(), "a stage with rings has rings behind");
        let mut finished = true;
        loop {
            if let Some(epoch) = self.overtaken() {
                self.overtake(component, epoch).await?;
                continue;
            }
            let Some(at) = choose(&self.feeds) else {
                if self.barrier(component).await? {
                    continue;
                }
                break;
            };
            let arrival = self.block(at, component).await?;
            if self.feeds[at].barrier.is_some() || self.feeds[at].overtaken.is_some() {
                continue;
            }
            note_block(&mut self.feeds, at);
            if let Some(whole) = self.feeds[at].done {
                finished &= whole;
                if !whole {
                    self.epochs.note_stop();
                }
                if self.feeds[at].had_ended {
                    continue;
                }
            }
            let mark = combined(&self.feeds);
            let idle = self.feeds.iter().all(|feed| feed.idle && feed.done.is_none());
            {
                let mut graph = self.graph.borrow_mut();
                graph.arrival = arrival;
                graph.stage_watermark(self.stage, mark)?;
            }
            self.cold.settle(&self.graph).await?;
            {
                let mut graph = self.graph.borrow_mut();
                graph.between_blocks(&[self.stage]);
                if self.stage == 0 && graph.shard == 0 {
                    graph.gauges.set_watermark(mark);
                }
                if idle {
                    graph.flush_sinks()?;
                }
                graph.flush_prompt_sinks()?;
            }
            self.alignment.commit_durable()?;
            self.outgoing
                .end_block(&self.graph, &self.host, component, arrival, mark, idle)
                .await?;
            self.host.yield_now().await;
        }
        self.graph.borrow().gauges.saw_rows(self.host.ticks_ns());
        self.outgoing.end(&self.graph, &self.host, component, finished).await;
        Ok(())
    }

    /// Passes a barrier on at which all open feeds are, and waits for the shard's other tasks, or
    /// the place of one that has overtaken; false if there is none, since all feeds are over.
    async fn barrier(&mut self, component: usize) -> Result<bool, Ended> {
        self.note_reached();
        let Some(epoch) = self.feeds.iter().filter_map(|feed| feed.barrier).max() else {
            return Ok(false);
        };
        if self.forget_given_up(epoch) {
            return Ok(true);
        }
        self.feeds.iter_mut().for_each(|feed| feed.barrier = None);
        if epoch <= self.passed {
            let place = Message::Place { epoch };
            self.outgoing.tell(&self.graph, &self.host, component, &place).await?;
            return Ok(true);
        }
        let barrier = Message::Barrier { epoch, overtakes: false };
        self.outgoing.tell(&self.graph, &self.host, component, &barrier).await?;
        let has_more_than_marks = |feed: &Feed| {
            let place = feed.place();
            place.idle || place.still || place.is_done
        };
        if self.feeds.len() > 1 && self.feeds.iter().any(has_more_than_marks) {
            self.note_flight(epoch);
        }
        self.pass(epoch);
        self.alignment.arrive(epoch);
        poll_fn(|context| self.alignment.passed(epoch, context.waker())).await?;
        Ok(true)
    }

    /// The epoch whose barrier is to overtake what is in flight now.
    #[inline]
    fn overtaken(&mut self) -> Option<u64> {
        let told = self.feeds.iter().filter_map(|feed| feed.overtaken).max();
        let newest = self.epochs.overtaking().max(told.unwrap_or(0));
        if newest <= self.passed || self.feeds.iter().all(|feed| feed.done.is_some()) {
            return None;
        }
        if let Some(aligned) = self.feeds.iter().filter_map(|feed| feed.barrier).max() {
            // Older ones were given up before their barriers were dealt.
            self.pass(newest.min(aligned - 1));
        }
        let is_laden = told.is_none() && self.feeds.iter().any(Feed::is_laden);
        // One after the other: who waits at an older barrier may wait for this task.
        (newest > self.passed && !is_laden).then_some(self.passed + 1)
    }

    /// Lets the barrier of an epoch overtake what is in flight, and waits for the shard's other
    /// tasks; for nobody if a newer epoch comes instead.
    async fn overtake(&mut self, component: usize, epoch: u64) -> Result<(), Ended> {
        self.note_reached();
        self.pass(epoch);
        // Who waits at an older one would not send the barrier that is waited for here.
        self.alignment.hear_of(epoch);
        {
            let (feeds, outgoing) = (&mut self.feeds, &mut self.outgoing);
            let barrier = Message::Barrier { epoch, overtakes: true };
            let mut sent = pin!(outgoing.tell(&self.graph, &self.host, component, &barrier));
            let mut is_sent = false;
            poll_fn(|context| {
                if !is_sent {
                    is_sent = sent.as_mut().poll(context)?.is_ready();
                }
                let mut is_drained = true;
                for feed in feeds.iter_mut() {
                    is_drained &= feed.poll_drain(epoch, context)?.is_ready();
                }
                if is_sent && is_drained { Poll::Ready(Ok(())) } else { Poll::Pending }
            })
            .await
            .map_err(|ended: Ended| ended)?;
        }
        if self.feeds.iter().any(|feed| feed.given() > epoch) {
            return Ok(());
        }
        self.note_flight(epoch);
        self.alignment.arrive(epoch);
        poll_fn(|context| self.alignment.passed(epoch, context.waker())).await
    }

    fn pass(&mut self, epoch: u64) {
        self.passed = self.passed.max(epoch);
        self.feeds.iter_mut().for_each(|feed| feed.pass(epoch));
    }

    /// Gives what is in flight, and where the feeds stand, to the epoch's checkpoint.
    fn note_flight(&self, epoch: u64) {
        if !self.epochs.may_overtake() {
            return;
        }
        let mut graph = self.graph.borrow_mut();
        let feeds =
            self.feeds.iter().map(|feed| flight::feed_bytes(&graph, self.stage, feed, epoch));
        let feeds = feeds.collect();
        graph.flights.note(epoch, feeds);
    }

    /// Lets feeds go on that are at the barrier of an epoch before `epoch`; whether there are any.
    /// A source that is slow may never have dealt that one: it was given up meanwhile.
    fn forget_given_up(&mut self, epoch: u64) -> bool {
        let is_older = |feed: &&mut Feed| feed.barrier.is_some_and(|own| own < epoch);
        let older = self.feeds.iter_mut().filter(is_older);
        older.map(|feed| feed.barrier = None).count() > 0
    }

    /// Notes in the graph how far its sources have come.
    fn note_reached(&self) {
        let mut graph = self.graph.borrow_mut();
        for feed in &self.feeds {
            if let Producer::Source(source) = feed.producer() {
                let reached = &mut graph.reached[source].1;
                *reached = feed.carry.max(*reached);
            }
        }
    }

    /// Takes one block of a feed; when it arrived.
    async fn block(&mut self, at: usize, component: usize) -> Result<latency::Arrival, Ended> {
        let bound = {
            let others = self
                .feeds
                .iter()
                .enumerate()
                .filter(|&(i, feed)| i != at && !(feed.idle && feed.done.is_none()));
            others.map(|(_, feed)| feed.carry).min()
        };
        let mut marks: Vec<Time> = Vec::new();
        loop {
            let step = self.feeds[at].next().await?;
            let carry = self.feeds[at].carry;
            let parcel = match step {
                Step::Rows(parcel) => parcel,
                Step::BlockEnd { arrival } => return Ok(arrival),
                Step::Barrier | Step::Done => return Ok(None),
            };
            marks.clear();
            let bound = bound.unwrap_or(Time::MAX);
            let floor = self.graph.borrow().stages[self.stage].reached();
            marks.extend(parcel.marks.iter().map(|&m| m.max(carry).min(bound).max(floor)));
            let (records, times) = (&*parcel.records, &parcel.times[..]);
            let rows = Rows { records, select: &parcel.select, times, marks: &marks };
            let hashes = Some(&parcel.hashes[..]);
            {
                let mut graph = self.graph.borrow_mut();
                graph.arrival = parcel.arrival;
                graph.shared = graph.is_cold.then(|| parcel.records.clone());
                graph.stage_rows(self.stage, parcel.input, &rows, hashes)?;
                graph.shared = None;
            }
            self.cold.settle(&self.graph).await?;
            self.outgoing.send_staged(&self.graph, &self.host, component).await?;
        }
    }
}
