//! One shard's graph: what the floor above builds and hands over, and how a batch goes through it.
//!
//! A batch is handed down by reference through the stateless operators to its sinks and to the
//! exchange; nothing suspends on the way. What must wait (a full ring) is staged here and sent by
//! the task that pushed.
//!
//! 1. The graph has no cycle: a target's component comes later than the one that names it.
//! 2. Every port of a component has a list of targets; an empty list lets the rows go (they are
//!    still counted).

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::RunError;
use super::chain::Chain;
use super::cold::Item;
use super::exchange::{Exchange, Parcel};
use super::flight::Flights;
use super::gauge::{Gauge, Gauges};
use super::latency::{Arrival, Latency};
use super::snapshot::image;
use super::stage::Stage;
use super::tables::Tables;
use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::time::{NEVER, Time};
use crate::ops::output::{Emitted, Outputs};
use crate::ops::selection::{Selection, Sieve};
use crate::ops::{Ledger, Rows, Stateless};
use crate::port::{Decode, Encode, Sink};

/// Where the rows of a port go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Input `input` of a stateless operator.
    Node { node: usize, input: usize },
    /// An exchange in front of a keyed stage, as the stage's input `input`.
    Exchange { exchange: usize, input: usize },
    /// A sink, as its input `input` (each has an encoder of its own).
    Sink { sink: usize, input: usize },
}

/// A stateless operator and where its ports go.
pub struct Node {
    pub component: usize,
    pub name: String,
    pub operator: NodeOperator,
    pub outputs: Outputs,
    pub targets: Vec<Vec<Target>>,
    /// What of its figures the gauges have: a component may stand in several places.
    pub told: Told,
}

/// A stateless operator by what it does with rows.
pub enum NodeOperator {
    /// Makes new ones.
    Makes(Box<dyn Stateless>),
    /// Chooses among them for each port; they are passed on as they are, without a copy.
    Chooses { sieve: Box<dyn Chooses>, chosen: Vec<Selection> },
}

/// An operator that only chooses among rows.
pub trait Chooses: Sieve + Stateless {}

impl<T: Sieve + Stateless> Chooses for T {}

impl NodeOperator {
    /// An operator that makes rows.
    pub fn making(operator: impl Stateless + 'static) -> NodeOperator {
        NodeOperator::Makes(Box::new(operator))
    }

    /// An operator that chooses among rows for so many ports.
    pub fn choosing(operator: impl Sieve + Stateless + 'static, ports: usize) -> NodeOperator {
        let chosen = (0..ports).map(|_| Selection::default()).collect();
        NodeOperator::Chooses { sieve: Box::new(operator), chosen }
    }
}

/// Figures that were added to a gauge.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    ledger: Ledger,
    rows_out: u64,
}

impl Told {
    /// Adds to a gauge what came since the last call.
    pub fn tell(&mut self, ledger: Ledger, rows_out: u64, gauge: &Gauge) {
        gauge.rows_in.add(ledger.rows_in - self.ledger.rows_in);
        gauge.filtered.add(ledger.filtered - self.ledger.filtered);
        gauge.late.add(ledger.late - self.ledger.late);
        gauge.overflows.add(ledger.overflows - self.ledger.overflows);
        gauge.given_up.add(ledger.given_up - self.ledger.given_up);
        gauge.rows_out.add(rows_out - self.rows_out);
        *self = Told { ledger, rows_out };
    }
}

/// A sink's writing side on this shard.
pub struct SinkNode {
    pub component: usize,
    pub name: String,
    /// One encoder for each input.
    pub encoders: Vec<Box<dyn Encode>>,
    pub sink: Box<dyn Sink>,
    /// Encoded, not yet written.
    pub buffer: Vec<u8>,
    /// Epochs whose parts are prepared and not yet committed.
    pub prepared: VecDeque<u64>,
    /// Whether somebody watches: written after every block, not only when much has gathered.
    pub prompt: bool,
}

impl SinkNode {
    /// Commits the parts of epochs up to `durable`.
    ///
    /// # Errors
    /// The sink's.
    pub fn commit(&mut self, durable: u64) -> Result<(), RunError> {
        while let Some(&epoch) = self.prepared.front()
            && epoch <= durable
        {
            let done = self.sink.commit(epoch);
            done.map_err(|error| RunError::of(&self.name, error))?;
            self.prepared.pop_front();
        }
        Ok(())
    }
}

/// What a sink gathers before it writes, in bytes.
const WRITE_BYTES: usize = 256 << 10;

/// A source's decoding side on this shard.
pub struct SourceNode {
    pub component: usize,
    pub name: String,
    pub decode: Box<dyn Decode>,
    pub event_time: EventTime,
    pub emit: EmitWatermark,
    /// Watermark delay, ms.
    pub delay_ms: i64,
    /// Targets of the rows.
    pub targets: Vec<Target>,
    /// Targets of the rejected rows.
    pub rejected: Vec<Target>,
    /// Whether a stage behind has several inputs from this source: then each row goes through all
    /// branches before the next one does, so that the stage sees them in the source's order.
    pub row_by_row: bool,
    /// Whether other sources wait until this one, a table, has been read whole.
    pub waited_for: bool,
}

/// Where a row's event time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventTime {
    /// A TIMESTAMP column.
    Column(usize),
    /// The clock, when the row is decoded.
    Clock,
    /// None: the source feeds no event-time operator.
    None,
}

/// When a source's watermark advances.
#[derive(Clone, Debug)]
pub enum EmitWatermark {
    /// After every row.
    PerEvent,
    /// After every batch.
    PerBatch,
    /// On this period, ms.
    Every(u64),
    /// After rows for which this holds.
    Punctuated(Box<crate::expr::Program>),
}

/// The graph of one shard.
pub struct ShardGraph {
    pub shard: usize,
    pub shards: usize,
    pub batch_rows: usize,
    pub gauges: Arc<Gauges>,
    pub sources: Vec<SourceNode>,
    pub nodes: Vec<Node>,
    pub exchanges: Vec<Exchange>,
    pub stages: Vec<Stage>,
    pub sinks: Vec<SinkNode>,
    /// The watermark that each source has reached, by name; kept for images.
    pub reached: Vec<(String, Time)>,
    /// When the block that is worked off arrived; to be set by whoever pushes, after every wait.
    pub arrival: Arrival,
    pub latency: Latency,
    /// The shard's clock, nanoseconds.
    pub ticks_ns: Rc<dyn Fn() -> u64>,
    /// The batch that is pushed, where rings may keep it for a while. Pushes nest: whoever uses it
    /// looks whether it is the one.
    pub shared: Option<Arc<RecordBatch>>,
    /// Places of rows in a batch, all of them.
    pub all: Rc<[u32]>,
    /// What the next checkpoint gets of the shard's keys.
    pub chain: Chain,
    /// The tables of its lookups.
    pub tables: Tables,
    /// What is in flight at the barrier that its tasks are at.
    pub flights: Flights,
    /// Whether there are checkpoints.
    pub keeps_changes: bool,
    /// Whether keys have left memory: then stages are reached by way of their inboxes.
    pub is_cold: bool,
}

impl ShardGraph {
    /// Gives a batch to every target.
    ///
    /// # Errors
    /// What an operator or sink stopped the run for.
    pub fn push(&mut self, targets: &[Target], rows: &Rows<'_>) -> Result<(), RunError> {
        if rows.select.is_empty() {
            return Ok(());
        }
        for &target in targets {
            match target {
                Target::Node { node, input } => self.through_node(node, input, rows)?,
                Target::Exchange { exchange, input } => self.exchange(exchange, input, rows)?,
                Target::Sink { sink, input } => self.encode(sink, input, rows)?,
            }
        }
        Ok(())
    }

    fn through_node(&mut self, at: usize, input: usize, rows: &Rows<'_>) -> Result<(), RunError> {
        let node = &mut self.nodes[at];
        let gauge = self.gauges.of(node.component, self.shard);
        match &mut node.operator {
            NodeOperator::Makes(operator) => {
                let done = operator.rows(input, rows, &mut node.outputs);
                done.map_err(|error| RunError::of(&node.name, error))?;
                let rows_out = node.outputs.ports.first().map_or(0, |port| port.rows());
                node.told.tell(operator.ledger(), rows_out, gauge);
            }
            NodeOperator::Chooses { sieve, chosen } => {
                let mut chosen = std::mem::take(chosen);
                sieve.sift(rows, &mut chosen);
                let rows_out = node.told.rows_out + chosen[0].select.len() as u64;
                node.told.tell(sieve.ledger(), rows_out, gauge);
                return self.pass_on(at, rows, chosen);
            }
        }
        for port in 0..node.outputs.ports.len() {
            if self.nodes[at].outputs.ports[port].is_empty() {
                continue;
            }
            let emitted = self.nodes[at].outputs.ports[port].take();
            let targets = std::mem::take(&mut self.nodes[at].targets[port]);
            let pushed = self.push_emitted(&targets, &emitted);
            self.nodes[at].targets[port] = targets;
            self.nodes[at].outputs.ports[port].give_back(emitted);
            pushed?;
        }
        Ok(())
    }

    /// Pushes what a sieve chose to its targets and gives the memory back to it.
    fn pass_on(
        &mut self,
        at: usize,
        rows: &Rows<'_>,
        selections: Vec<Selection>,
    ) -> Result<(), RunError> {
        for (port, selection) in selections.iter().enumerate() {
            let targets = std::mem::take(&mut self.nodes[at].targets[port]);
            let pushed = self.push(&targets, &selection.rows(rows.records));
            self.nodes[at].targets[port] = targets;
            pushed?;
        }
        if let NodeOperator::Chooses { chosen, .. } = &mut self.nodes[at].operator {
            *chosen = selections;
        }
        Ok(())
    }

    fn push_emitted(&mut self, targets: &[Target], emitted: &[Emitted]) -> Result<(), RunError> {
        for batch in emitted {
            self.shared = Some(batch.records.clone());
            let all = self.all_rows(batch.records.rows());
            let select = &all[..batch.records.rows()];
            let (records, times, marks) = (&batch.records, &batch.times[..], &batch.marks[..]);
            self.push(targets, &Rows { records, select, times, marks })?;
        }
        self.shared = None;
        Ok(())
    }

    /// 0, 1, 2 ... for batches of `rows` rows: shared, since pushes nest.
    fn all_rows(&mut self, rows: usize) -> Rc<[u32]> {
        if self.all.len() < rows {
            self.all = (0..rows.next_power_of_two() as u32).collect();
        }
        self.all.clone()
    }

    fn encode(&mut self, at: usize, input: usize, rows: &Rows<'_>) -> Result<(), RunError> {
        if let Some(arrival) = self.arrival {
            let took = (self.ticks_ns)().saturating_sub(arrival);
            self.latency.record(took, rows.select.len() as u64);
        }
        let node = &mut self.sinks[at];
        node.encoders[input].encode(rows.records, rows.select, &mut node.buffer);
        self.gauges.of(node.component, self.shard).rows_in.add(rows.select.len() as u64);
        if node.buffer.len() >= WRITE_BYTES { self.write(at) } else { Ok(()) }
    }

    fn write(&mut self, at: usize) -> Result<(), RunError> {
        let node = &mut self.sinks[at];
        self.gauges.of(node.component, self.shard).bytes.add(node.buffer.len() as u64);
        let written = node.sink.write(&node.buffer);
        node.buffer.clear();
        written.map_err(|error| RunError::of(&node.name, error))
    }

    /// Writes what sinks have gathered: at the end, and when a live source is quiet.
    ///
    /// # Errors
    /// A sink's.
    pub fn flush_sinks(&mut self) -> Result<(), RunError> {
        for at in 0..self.sinks.len() {
            if !self.sinks[at].buffer.is_empty() {
                self.write(at)?;
            }
        }
        Ok(())
    }

    /// Writes what the sinks that somebody watches have gathered.
    ///
    /// # Errors
    /// A sink's.
    pub fn flush_prompt_sinks(&mut self) -> Result<(), RunError> {
        for at in 0..self.sinks.len() {
            if self.sinks[at].prompt && !self.sinks[at].buffer.is_empty() {
                self.write(at)?;
            }
        }
        Ok(())
    }

    /// Ends the sinks' parts of an epoch: durable, not yet seen.
    ///
    /// # Errors
    /// A sink's.
    pub fn prepare_sinks(&mut self, epoch: u64) -> Result<(), RunError> {
        self.flush_sinks()?;
        for node in &mut self.sinks {
            let done = node.sink.prepare(epoch);
            done.map_err(|error| RunError::of(&node.name, error))?;
            node.prepared.push_back(epoch);
        }
        Ok(())
    }

    /// Lets the sinks' parts of epochs up to `durable` be seen.
    ///
    /// # Errors
    /// A sink's.
    pub fn commit_sinks(&mut self, durable: u64) -> Result<(), RunError> {
        self.sinks.iter_mut().try_for_each(|node| node.commit(durable))
    }

    /// Notes how far a source has come.
    pub fn note_reached(&mut self, source: &str, mark: Time) {
        if let Some((_, reached)) = self.reached.iter_mut().find(|(name, _)| name == source) {
            *reached = mark.max(*reached);
        }
    }

    /// How far a source has come; [`NEVER`] if it is not known.
    pub fn reached_by(&self, source: &str) -> Time {
        let found = self.reached.iter().find(|(name, _)| name == source);
        found.map_or(NEVER, |(_, reached)| *reached)
    }

    fn exchange(&mut self, at: usize, input: usize, rows: &Rows<'_>) -> Result<(), RunError> {
        if self.exchanges[at].is_direct() {
            return self.stage_rows(self.exchanges[at].stage(), input, rows, None);
        }
        self.exchanges[at].arrival = self.arrival;
        let shared = self.shared.as_ref().filter(|shared| std::ptr::eq(&***shared, rows.records));
        self.exchanges[at].partition(input, rows, shared);
        Ok(())
    }

    /// Gives rows to a stage and what comes out to the targets behind it. `hashes` are the keys'
    /// if they are known already.
    ///
    /// # Errors
    /// What an operator or sink stopped the run for.
    pub fn stage_rows(
        &mut self,
        at: usize,
        input: usize,
        rows: &Rows<'_>,
        hashes: Option<&[u64]>,
    ) -> Result<(), RunError> {
        if self.is_cold {
            let parcel = self.parcel(at, input, rows, hashes);
            self.stages[at].inbox.push_back(Item::Rows(parcel));
            return Ok(());
        }
        let stage = &mut self.stages[at];
        self.chain.log.rows(stage.id, input, rows, &stage.inputs[input]);
        stage.rows(input, rows, hashes)?;
        self.note_other(at);
        self.push_stage_outputs(at)
    }

    /// Gives rows to a stage whose slots are found and in memory.
    ///
    /// # Errors
    /// What an operator or sink stopped the run for.
    pub fn stage_take(
        &mut self,
        at: usize,
        input: usize,
        rows: &Rows<'_>,
        slots: &[u32],
    ) -> Result<(), RunError> {
        self.stages[at].take(input, rows, slots)?;
        self.push_stage_outputs(at)
    }

    /// Lets a stage do what is due for keys that have come to memory for that.
    ///
    /// # Errors
    /// What an operator or sink stopped the run for.
    pub fn stage_catch_up(&mut self, at: usize, slots: &[u32], due: Time) -> Result<(), RunError> {
        self.stages[at].catch_up(slots, due)?;
        self.push_stage_outputs(at)
    }

    /// Rows that can wait.
    fn parcel(&self, at: usize, input: usize, rows: &Rows<'_>, hashes: Option<&[u64]>) -> Parcel {
        let shared = self.shared.as_ref().filter(|shared| std::ptr::eq(&***shared, rows.records));
        let (records, select) = match shared {
            Some(shared) => (shared.clone(), rows.select.to_vec()),
            None => {
                let mut copy = BatchBuilder::new(rows.records.width(), rows.select.len());
                let heaped = &self.stages[at].inputs[input].heaped;
                for &row in rows.select {
                    copy.push_row_of(rows.records, row as usize, heaped);
                }
                (Arc::new(copy.finish()), (0..rows.select.len() as u32).collect())
            }
        };
        Parcel {
            input,
            records,
            select,
            times: rows.times.to_vec(),
            marks: rows.marks.to_vec(),
            hashes: hashes.map(<[u64]>::to_vec).unwrap_or_default(),
            arrival: self.arrival,
        }
    }

    /// Tells a stage the watermark, and what it puts out to the targets behind it, and them the
    /// watermark.
    ///
    /// # Errors
    /// What an operator or sink stopped the run for.
    pub fn stage_watermark(&mut self, at: usize, watermark: Time) -> Result<(), RunError> {
        if self.is_cold {
            let item = Item::Watermark { mark: watermark, arrival: self.arrival };
            self.stages[at].inbox.push_back(item);
            return Ok(());
        }
        if watermark != self.stages[at].reached() {
            self.chain.log.watermark(self.stages[at].id, watermark);
        }
        self.stage_watermark_now(at, watermark)
    }

    /// As [`ShardGraph::stage_watermark`], for a stage whose keys that are due are in memory.
    ///
    /// # Errors
    /// What an operator or sink stopped the run for.
    pub fn stage_watermark_now(&mut self, at: usize, watermark: Time) -> Result<(), RunError> {
        self.stages[at].watermark(watermark)?;
        self.note_other(at);
        self.push_stage_outputs(at)?;
        self.advance(&self.stages[at].exchanges.clone(), watermark)
    }

    /// Tells the stages that `exchanges` reach without a ring how far their input has come.
    ///
    /// # Errors
    /// What an operator or sink stopped the run for.
    pub fn advance(&mut self, exchanges: &[usize], watermark: Time) -> Result<(), RunError> {
        for &at in exchanges {
            if self.exchanges[at].is_direct() {
                self.stage_watermark(self.exchanges[at].stage(), watermark)?;
            }
        }
        Ok(())
    }

    /// Keeps rows for checkpoints from now on, behind `epoch`: before the first one comes.
    pub fn keep_rows(&mut self, epoch: u64) {
        if self.keeps_changes && !self.is_cold {
            let start = Arc::new(image(self));
            self.chain.open(&mut self.stages, epoch, start, &*self.ticks_ns);
        }
    }

    /// Does a bounded part of what a later checkpoint needs; `at_rest` are stages that are between
    /// two blocks and have the watermark at the end of the last one.
    #[inline]
    pub fn between_blocks(&mut self, at_rest: &[usize]) {
        if self.keeps_changes && !self.is_cold && !self.chain.is_calm() {
            self.make_slices(at_rest);
        }
    }

    /// Ends the log of rows where a stage changed by anything else: the next checkpoint is a base.
    fn note_other(&mut self, at: usize) {
        if self.stages[at].took_other() {
            self.chain.log.close();
        }
    }

    fn make_slices(&mut self, at_rest: &[usize]) {
        if self.chain.wants_to_begin(&self.stages, (self.ticks_ns)()) {
            let start = Arc::new(image(self));
            self.chain.begin(&mut self.stages, start, (self.ticks_ns)());
        }
        self.chain.step(&mut self.stages, at_rest, &*self.ticks_ns);
    }

    fn push_stage_outputs(&mut self, at: usize) -> Result<(), RunError> {
        for operator in 0..self.stages[at].operators() {
            self.stages[at].count(operator, &self.gauges, self.shard);
            for port in 0..self.stages[at].outputs(operator).ports.len() {
                let out = &mut self.stages[at].outputs(operator).ports[port];
                if out.is_empty() {
                    continue;
                }
                let emitted = out.take();
                let targets = std::mem::take(self.stages[at].targets(operator, port));
                let pushed = self.push_emitted(&targets, &emitted);
                *self.stages[at].targets(operator, port) = targets;
                self.stages[at].outputs(operator).ports[port].give_back(emitted);
                pushed?;
            }
        }
        Ok(())
    }
}
