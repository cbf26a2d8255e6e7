//! A source's task on one shard: blocks in, decoded batches with their times and marks out.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

use super::RunError;
use super::align::Alignment;
use super::cold::Cold;
use super::epochs::Epochs;
use super::exchange::{Ended, Message, Outgoing};
use super::graph::{EmitWatermark, EventTime, ShardGraph, SourceNode, Target};
use super::host::Host;
use super::latency::Arrival;
use super::reader::Dealt;
use super::shard::Gate;
use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::ring::{Receiver, Sender};
use crate::ground::time::{END, NEVER, Time, watermark};
use crate::ops::Rows;
use crate::port::Text;

/// Columns of the `rejected` output: raw, reason, position.
pub const REJECTED_WIDTH: usize = 3;

/// What a source's task works with.
pub struct SourceTask<H: Host> {
    pub host: H,
    pub graph: Rc<RefCell<ShardGraph>>,
    pub cold: Rc<Cold<H>>,
    pub node: SourceNode,
    pub blocks: Receiver<Dealt>,
    /// Back to the reader: memory of text blocks.
    pub used: Sender<Text>,
    pub outgoing: Outgoing,
    /// Exchanges behind the source that are calls.
    pub direct: Vec<usize>,
    /// Stages that these reach, and those behind them: between two blocks when the source is.
    pub called: Vec<usize>,
    /// Open while tables are being read.
    pub gate: Rc<Gate>,
    /// Where barriers wait for the shard's other tasks.
    pub alignment: Rc<Alignment>,
    pub epochs: Arc<Epochs>,
    /// The newest epoch whose barrier the task has sent on.
    pub passed: u64,
    /// Batches that were pushed and may still be read, in order. Rings bound them.
    pub lent: VecDeque<Arc<RecordBatch>>,
}

/// Times, marks and the like of the batch under way; kept for their memory.
#[derive(Default)]
struct Scratch {
    select: Vec<u32>,
    times: Vec<Time>,
    marks: Vec<Time>,
    mask: Vec<u64>,
}

/// The largest event time that gives a watermark.
fn largest_below(reached: Time, delay_ms: i64) -> Time {
    match reached {
        NEVER | END => NEVER,
        _ => reached.saturating_add(delay_ms).saturating_add(1),
    }
}

/// Largest event time so far, and what of it the watermark already knows.
struct Clocked {
    max: Time,
    emitted: Time,
    emitted_at_ms: i64,
}

impl Clocked {
    /// A source that goes on behind its end has no largest event time, but a watermark.
    fn come_to(&mut self, mark: Time) {
        self.emitted = mark.max(self.emitted);
    }
}

impl<H: Host> SourceTask<H> {
    /// Runs to the source's end.
    ///
    /// # Errors
    /// [`Ended`]: the source's or an operator's error, or somebody else's.
    pub async fn run(mut self) -> Result<(), Ended> {
        if !self.node.waited_for {
            self.gate.passed().await;
            if self.gate.is_cut() && self.alignment.leave_unread(&self.node.name) {
                return self.let_go().await;
            }
            self.alignment.start();
        }
        let mut scratch = Scratch::default();
        let mut rejected = BatchBuilder::new(REJECTED_WIDTH, 0);
        let start_ms = self.host.now_ms();
        let is_direct = !self.direct.is_empty();
        let reached = self.graph.borrow().reached_by(&self.node.name);
        let max = largest_below(reached, self.node.delay_ms);
        let mut clock = Clocked { max, emitted: reached, emitted_at_ms: start_ms };
        // On several shards each has other blocks of the source, and one place stands for all.
        let is_alone = self.graph.borrow().shards == 1;
        let mut behind: Option<u64> = None;
        loop {
            if self.epochs.overtaking() > self.passed && is_alone && behind.is_some() {
                let epoch = self.passed + 1;
                // The blocks that wait are read again: that is all there is to save of them.
                self.epochs.note_cut(&self.node.name, epoch, behind);
                self.barrier(&clock, epoch).await?;
                continue;
            }
            let dealt = self.blocks.receive().await.ok_or(Ended::Aborted)?;
            if !is_direct && !matches!(dealt, Dealt::Barrier { .. }) {
                // Marks are the block's own: what came before it is added where it is merged.
                clock = Clocked { max: NEVER, emitted: NEVER, ..clock };
            }
            let (mut idle_now, mut arrival) = (false, None);
            match dealt {
                Dealt::Block { block, arrival: came, position } => {
                    (arrival, behind) = (came, position);
                    self.graph.borrow().gauges.saw_rows(self.host.ticks_ns());
                    self.node.decode.start(block);
                    while self.batch(arrival, &mut clock, &mut scratch, &mut rejected)? {
                        self.cold.settle(&self.graph).await?;
                        let component = self.node.component;
                        self.outgoing.send_staged(&self.graph, &self.host, component).await?;
                    }
                    if let Some(text) = self.node.decode.take_text() {
                        // A full or closed ring only means that the reader allocates anew.
                        let _ = self.used.try_send(text);
                    }
                }
                Dealt::Nothing { idle } => {
                    idle_now = idle;
                    self.graph.borrow_mut().flush_sinks()?;
                }
                // One that has overtaken blocks was here already.
                Dealt::Barrier { epoch } if epoch <= self.passed => continue,
                Dealt::Barrier { epoch } => {
                    self.barrier(&clock, epoch).await?;
                    continue;
                }
                Dealt::End { finished } => return self.end(&clock, finished).await,
            }
            let mark = self.mark(&mut clock);
            {
                let mut graph = self.graph.borrow_mut();
                graph.arrival = arrival;
                graph.advance(&self.direct, mark)?;
            }
            self.cold.settle(&self.graph).await?;
            self.graph.borrow_mut().between_blocks(&self.called);
            let component = self.node.component;
            self.outgoing
                .end_block(&self.graph, &self.host, component, arrival, mark, idle_now)
                .await?;
            self.graph.borrow_mut().flush_prompt_sinks()?;
            self.alignment.commit_durable()?;
            self.host.yield_now().await;
        }
    }

    /// Lets go of what was read for a table that is not whole: the next run reads it again.
    async fn let_go(&mut self) -> Result<(), Ended> {
        loop {
            if let Dealt::End { .. } = self.blocks.receive().await.ok_or(Ended::Aborted)? {
                let component = self.node.component;
                self.outgoing.end(&self.graph, &self.host, component, false).await;
                return Ok(());
            }
        }
    }

    /// Passes a barrier on and waits until the shard's other tasks are there.
    async fn barrier(&mut self, clock: &Clocked, epoch: u64) -> Result<(), Ended> {
        self.passed = epoch;
        let component = self.node.component;
        let barrier = Message::Barrier { epoch, overtakes: false };
        self.outgoing.tell(&self.graph, &self.host, component, &barrier).await?;
        if !self.direct.is_empty() {
            self.graph.borrow_mut().note_reached(&self.node.name, clock.emitted);
        }
        self.alignment.arrive(epoch);
        poll_fn(|context| self.alignment.passed(epoch, context.waker())).await
    }

    async fn end(&mut self, clock: &Clocked, finished: bool) -> Result<(), Ended> {
        if self.node.waited_for && !finished {
            self.gate.cut();
        }
        let mark = if finished { END } else { clock.emitted };
        {
            let mut graph = self.graph.borrow_mut();
            graph.advance(&self.direct, mark)?;
            if !self.direct.is_empty() {
                graph.note_reached(&self.node.name, mark);
            }
            if finished {
                graph.tables.note_end(&self.node.name);
            }
        }
        self.cold.settle(&self.graph).await?;
        self.graph.borrow().gauges.saw_rows(self.host.ticks_ns());
        let component = self.node.component;
        self.outgoing.end(&self.graph, &self.host, component, finished).await;
        Ok(())
    }

    /// The watermark at the end of a block.
    fn mark(&self, clock: &mut Clocked) -> Time {
        let now_ms = self.host.now_ms();
        match self.node.emit {
            EmitWatermark::Every(period) if now_ms - clock.emitted_at_ms < period as i64 => {}
            EmitWatermark::Every(_) => {
                clock.emitted_at_ms = now_ms;
                clock.come_to(watermark(clock.max, self.node.delay_ms));
            }
            _ => clock.come_to(watermark(clock.max, self.node.delay_ms)),
        }
        clock.emitted
    }

    /// Decodes and pushes one batch; false at the block's end.
    fn batch(
        &mut self,
        arrival: Arrival,
        clock: &mut Clocked,
        scratch: &mut Scratch,
        rejected: &mut BatchBuilder,
    ) -> Result<bool, RunError> {
        let (rows_max, shard) = {
            let mut graph = self.graph.borrow_mut();
            graph.arrival = arrival;
            (graph.batch_rows, graph.shard)
        };
        let next = self.node.decode.next(rows_max, rejected);
        let next = next.map_err(|error| RunError::of(&self.node.name, error))?.map(Arc::new);
        let gauges = self.graph.borrow().gauges.clone();
        let gauge = gauges.of(self.node.component, shard);
        if let Some(batch) = &next {
            let step = if self.node.row_by_row { 1 } else { rows_max };
            let mut from = 0;
            while from < batch.rows() {
                let to = (from + step).min(batch.rows());
                self.stamp(batch, from, to, clock, scratch, rejected);
                gauge.rows_in.add(scratch.select.len() as u64);
                let (select, times, marks) = (&scratch.select, &scratch.times, &scratch.marks);
                let rows = Rows { records: batch, select, times, marks };
                let mut graph = self.graph.borrow_mut();
                let is_kept = !self.outgoing.exchanges.is_empty() || graph.is_cold;
                graph.shared = is_kept.then(|| batch.clone());
                graph.push(&self.node.targets, &rows)?;
                graph.shared = None;
                if !self.direct.is_empty() {
                    drop(graph);
                    let mark = self.mark(clock);
                    self.graph.borrow_mut().advance(&self.direct, mark)?;
                }
                from = to;
            }
        }
        if rejected.rows() > 0 {
            gauge.rejected.add(rejected.rows() as u64);
            gauge.rows_in.add(rejected.rows() as u64);
            let batch = rejected.finish();
            self.push_rejected(&batch, clock.emitted)?;
        }
        let more = next.is_some();
        self.lent.extend(next);
        // What no shard reads any more is filled again.
        while self.lent.front().is_some_and(|batch| Arc::strong_count(batch) == 1) {
            let batch = self.lent.pop_front().and_then(|batch| Arc::try_unwrap(batch).ok());
            batch.into_iter().for_each(|batch| self.node.decode.recycle(batch));
        }
        Ok(more)
    }

    fn push_rejected(&mut self, batch: &RecordBatch, mark: Time) -> Result<(), RunError> {
        let targets: &[Target] = &self.node.rejected;
        let select: Vec<u32> = (0..batch.rows() as u32).collect();
        let (times, marks) = (vec![0; batch.rows()], vec![mark; batch.rows()]);
        let rows = Rows { records: batch, select: &select, times: &times, marks: &marks };
        self.graph.borrow_mut().push(targets, &rows)
    }

    /// Fills in times and marks of rows `from..to`; rows without an event time are rejected.
    fn stamp(
        &mut self,
        batch: &RecordBatch,
        from: usize,
        to: usize,
        clock: &mut Clocked,
        scratch: &mut Scratch,
        rejected: &mut BatchBuilder,
    ) {
        let Scratch { select, times, marks, mask } = scratch;
        select.clear();
        times.clear();
        marks.clear();
        select.extend(from as u32..to as u32);
        match self.node.event_time {
            EventTime::Column(column) => {
                if batch.has_nulls() {
                    select.retain(|&row| {
                        let here = !batch.is_null(row as usize, column);
                        if !here {
                            let reason = "the event time is NULL";
                            self.node.decode.reject(batch, row as usize, reason, rejected);
                        }
                        here
                    });
                }
                let (slots, width) = (batch.slots(), batch.width());
                times.extend(select.iter().map(|&row| slots[row as usize * width + column] as i64));
            }
            EventTime::Clock => times.resize(select.len(), self.host.now_ms()),
            EventTime::None => times.resize(select.len(), 0),
        }
        let delay = self.node.delay_ms;
        match &self.node.emit {
            _ if self.node.event_time == EventTime::None => marks.resize(times.len(), NEVER),
            EmitWatermark::PerEvent => {
                let mut max = clock.max;
                marks.extend(times.iter().map(|&time| {
                    let mark = watermark(max, delay);
                    max = max.max(time);
                    mark
                }));
                clock.max = max;
            }
            EmitWatermark::PerBatch => {
                marks.resize(times.len(), watermark(clock.max, delay));
                clock.max = times.iter().fold(clock.max, |max, &time| max.max(time));
            }
            EmitWatermark::Every(_) => {
                marks.resize(times.len(), clock.emitted);
                clock.max = times.iter().fold(clock.max, |max, &time| max.max(time));
            }
            EmitWatermark::Punctuated(program) => {
                program.clone().mask(batch, select, mask);
                for (i, &time) in times.iter().enumerate() {
                    marks.push(watermark(clock.max, delay));
                    if crate::ground::bits::get(mask, i) {
                        clock.max = clock.max.max(time);
                    }
                }
            }
        }
        if matches!(self.node.emit, EmitWatermark::PerEvent | EmitWatermark::Punctuated(_)) {
            clock.come_to(watermark(clock.max, delay));
        }
    }
}
