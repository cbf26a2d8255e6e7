//! The exchange in front of a keyed stage (or a broadcast table): rows leave for the shard that
//! owns their key group.
//!
//! One exchange stands between one producer (a source, a stage) and one stage. On one shard with
//! one producer it is a call. Otherwise it has one ring for each ordered pair of shards, so that a
//! producer that is ahead never stands in the way of one that is behind.
//!
//! 1. What a producer says to one shard arrives in the order in which it was said.
//! 2. After the rows of each of its blocks a producer sends every shard a [`Message::BlockEnd`],
//!    and at last one [`Message::End`].
//! 3. Nothing is dropped: a full ring makes the sending task wait.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use super::RunError;
use super::gauge::Gauge;
use super::graph::ShardGraph;
use super::host::Host;
use super::latency::Arrival;
use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::key;
use crate::ground::limits::BATCH_HEAP_BYTES;
use crate::ground::ring::{NotSent, Sender};
use crate::ground::schema::DataType;
use crate::ground::time::Time;
use crate::ops::Rows;
use crate::state::keys::KeyTable;

/// Rows for one shard, of one input of the stage.
pub struct Parcel {
    pub input: usize,
    pub records: Arc<RecordBatch>,
    /// Rows of `records` that are meant; the entries below go with them.
    pub select: Vec<u32>,
    pub times: Vec<Time>,
    /// Watermark before each row, as far as the producer's block tells.
    pub marks: Vec<Time>,
    /// Hash of each row's key.
    pub hashes: Vec<u64>,
    pub arrival: Arrival,
}

impl Parcel {
    /// Some of the rows meant.
    pub fn part(&self, range: Range<usize>) -> Parcel {
        Parcel {
            input: self.input,
            records: self.records.clone(),
            select: self.select[range.clone()].to_vec(),
            times: self.times[range.clone()].to_vec(),
            marks: self.marks[range.clone()].to_vec(),
            hashes: self.hashes[range].to_vec(),
            arrival: self.arrival,
        }
    }
}

/// What goes over a ring.
pub enum Message {
    Rows(Parcel),
    /// The block's rows have all been sent. `mark` is the watermark at its end, as far as the block
    /// tells; `idle` says that the producer has been without rows for so long that nobody waits.
    BlockEnd {
        arrival: Arrival,
        mark: Time,
        idle: bool,
    },
    /// An epoch ends here. What was sent before belongs to it; but if the barrier `overtakes`, the
    /// producer has more of its input before the barrier, and says later where that ends.
    Barrier {
        epoch: u64,
        overtakes: bool,
    },
    /// Behind a barrier that overtook: the producer has worked off all of its input that lies
    /// before the barrier of this epoch. On all shards this is behind the same of its blocks.
    Place {
        epoch: u64,
    },
    /// No block will follow. `finished`: the input was read to its end, everything is due;
    /// otherwise the run was told to stop.
    End {
        finished: bool,
    },
}

/// A batch is shared if at least one of so many of its rows is meant.
const SHARED_PART: usize = 4;

/// Columns of a stage's input that the exchange looks at.
#[derive(Clone)]
pub struct ExchangeInput {
    pub width: usize,
    /// Columns of STRING, BYTES and ARRAY type.
    pub heaped: Vec<usize>,
    pub key_columns: Vec<usize>,
}

struct Lane {
    /// The input whose rows are in the builder.
    input: usize,
    builders: Vec<BatchBuilder>,
    /// Rows of a shared batch; those in a builder follow one another.
    select: Vec<u32>,
    times: Vec<Time>,
    marks: Vec<Time>,
    hashes: Vec<u64>,
}

enum Way {
    Direct,
    ByKey { types: Vec<DataType>, hashes: Vec<u64> },
    Broadcast,
}

/// The sending half of an exchange on one shard.
pub struct Exchange {
    stage: usize,
    way: Way,
    inputs: Vec<ExchangeInput>,
    lanes: Vec<Lane>,
    staged: Vec<(usize, Message)>,
    batch_rows: usize,
    /// When the rows that come next arrived.
    pub arrival: Arrival,
}

impl Exchange {
    /// An exchange that is a call: one shard, one producer.
    pub fn direct(stage: usize) -> Exchange {
        Exchange {
            stage,
            way: Way::Direct,
            inputs: Vec::new(),
            lanes: Vec::new(),
            staged: Vec::new(),
            batch_rows: 0,
            arrival: None,
        }
    }

    /// An exchange by key to every one of `shards`.
    pub fn by_key(
        stage: usize,
        shards: usize,
        batch_rows: usize,
        inputs: Vec<ExchangeInput>,
        types: Vec<DataType>,
    ) -> Exchange {
        let way = Way::ByKey { types, hashes: Vec::new() };
        Exchange::new(stage, way, shards, batch_rows, inputs)
    }

    /// An exchange that gives every row to every shard, for tables. `node` is the lookup.
    pub fn broadcast(node: usize, batch_rows: usize, input: ExchangeInput) -> Exchange {
        Exchange::new(node, Way::Broadcast, 1, batch_rows, vec![input])
    }

    fn new(
        stage: usize,
        way: Way,
        lanes: usize,
        batch_rows: usize,
        inputs: Vec<ExchangeInput>,
    ) -> Exchange {
        let lane = |_| Lane {
            input: 0,
            builders: inputs.iter().map(|input| BatchBuilder::new(input.width, 0)).collect(),
            select: Vec::new(),
            times: Vec::new(),
            marks: Vec::new(),
            hashes: Vec::new(),
        };
        let lanes = (0..lanes).map(lane).collect();
        Exchange { stage, way, inputs, lanes, staged: Vec::new(), batch_rows, arrival: None }
    }

    /// Whether rows go to the stage by a call.
    pub fn is_direct(&self) -> bool {
        matches!(self.way, Way::Direct)
    }

    /// The stage (or, of a broadcast, the lookup node) behind.
    pub fn stage(&self) -> usize {
        self.stage
    }

    /// Deals rows to the shards' lanes; full lanes are staged for sending. `shared` is the rows'
    /// batch, if somebody will keep it: then it goes to the shards as it is, unless so few of its
    /// rows are meant that it is not worth its memory.
    pub fn partition(&mut self, input: usize, rows: &Rows<'_>, shared: Option<&Arc<RecordBatch>>) {
        if let (Way::ByKey { types, hashes }, Some(records)) = (&mut self.way, shared)
            && rows.select.len() * SHARED_PART >= records.rows()
        {
            let columns = &self.inputs[input].key_columns;
            KeyTable::hash(rows.records, rows.select, columns, types, hashes);
            return self.share(input, rows, records);
        }
        let about = &self.inputs[input];
        match &mut self.way {
            Way::Direct => unreachable!("rows of a direct exchange go to the stage"),
            Way::Broadcast => {
                for (i, &row) in rows.select.iter().enumerate() {
                    let to = &mut self.lanes[0];
                    to.push(about, rows, i, row as usize, 0);
                    if to.is_full(input, self.batch_rows) {
                        to.stage(0, self.arrival, &mut self.staged);
                    }
                }
            }
            Way::ByKey { types, hashes } => {
                hashes.clear();
                KeyTable::hash(rows.records, rows.select, &about.key_columns, types, hashes);
                let shards = self.lanes.len();
                for (i, &row) in rows.select.iter().enumerate() {
                    let hash = hashes[i];
                    let shard = key::shard_of(key::group(hash), shards);
                    let to = &mut self.lanes[shard];
                    if to.input != input {
                        to.stage(shard, self.arrival, &mut self.staged);
                        to.input = input;
                    }
                    to.push(about, rows, i, row as usize, hash);
                    if to.is_full(input, self.batch_rows) {
                        to.stage(shard, self.arrival, &mut self.staged);
                    }
                }
            }
        }
    }

    /// Deals rows without copying any; the keys' hashes are known.
    fn share(&mut self, input: usize, rows: &Rows<'_>, records: &Arc<RecordBatch>) {
        let Way::ByKey { hashes, .. } = &self.way else { return };
        let shards = self.lanes.len();
        for (shard, lane) in self.lanes.iter_mut().enumerate() {
            // What was copied before comes before.
            lane.stage(shard, self.arrival, &mut self.staged);
            lane.input = input;
            lane.reserve(rows.select.len());
        }
        for (i, &hash) in hashes.iter().enumerate() {
            let lane = &mut self.lanes[key::shard_of(key::group(hash), shards)];
            lane.select.push(rows.select[i]);
            lane.times.push(rows.times[i]);
            lane.marks.push(rows.marks[i]);
            lane.hashes.push(hash);
        }
        for (shard, lane) in self.lanes.iter_mut().enumerate() {
            lane.send(shard, records.clone(), self.arrival, &mut self.staged);
        }
    }

    /// Stages what the lanes hold and the block's end.
    fn end_block(&mut self) {
        for (shard, lane) in self.lanes.iter_mut().enumerate() {
            lane.stage(shard, self.arrival, &mut self.staged);
        }
    }
}

impl Lane {
    #[inline(always)]
    fn push(&mut self, about: &ExchangeInput, rows: &Rows<'_>, i: usize, row: usize, hash: u64) {
        self.builders[self.input].push_row_of(rows.records, row, &about.heaped);
        self.times.push(rows.times[i]);
        self.marks.push(rows.marks[i]);
        self.hashes.push(hash);
    }

    fn is_full(&self, input: usize, batch_rows: usize) -> bool {
        let builder = &self.builders[input];
        builder.rows() >= batch_rows || builder.heap.len() > BATCH_HEAP_BYTES
    }

    fn stage(&mut self, shard: usize, arrival: Arrival, staged: &mut Vec<(usize, Message)>) {
        if self.times.is_empty() {
            return;
        }
        let records = Arc::new(self.builders[self.input].finish());
        self.select.extend(0..self.times.len() as u32);
        self.send(shard, records, arrival, staged);
    }

    fn reserve(&mut self, rows: usize) {
        self.select.reserve(rows);
        self.times.reserve(rows);
        self.marks.reserve(rows);
        self.hashes.reserve(rows);
    }

    /// Stages the rows of a batch that the lane names.
    fn send(
        &mut self,
        shard: usize,
        records: Arc<RecordBatch>,
        arrival: Arrival,
        staged: &mut Vec<(usize, Message)>,
    ) {
        if self.times.is_empty() {
            return;
        }
        let parcel = Parcel {
            input: self.input,
            records,
            select: std::mem::take(&mut self.select),
            times: std::mem::take(&mut self.times),
            marks: std::mem::take(&mut self.marks),
            hashes: std::mem::take(&mut self.hashes),
            arrival,
        };
        staged.push((shard, Message::Rows(parcel)));
    }
}

/// Why a task ends early: somebody else failed, or it did.
pub enum Ended {
    /// The other end of a ring is gone: whoever closed it has said why.
    Aborted,
    Failed(RunError),
}

impl From<RunError> for Ended {
    fn from(error: RunError) -> Ended {
        Ended::Failed(error)
    }
}

/// The rings of one producer on one shard, to every shard, for each of its exchanges.
pub struct Outgoing {
    /// Exchange, its senders by shard.
    pub exchanges: Vec<(usize, Vec<Sender<Message>>)>,
}

impl Outgoing {
    /// Sends what was staged, waiting where a ring is full. No borrow of the graph is held while
    /// waiting.
    ///
    /// # Errors
    /// [`Ended::Aborted`] if a receiver is gone.
    pub async fn send_staged<H: Host>(
        &mut self,
        graph: &RefCell<ShardGraph>,
        host: &H,
        component: usize,
    ) -> Result<(), Ended> {
        for (exchange, senders) in &mut self.exchanges {
            let (staged, broadcast) = {
                let exchange = &mut graph.borrow_mut().exchanges[*exchange];
                if exchange.staged.is_empty() {
                    continue;
                }
                let broadcast = matches!(exchange.way, Way::Broadcast);
                (std::mem::take(&mut exchange.staged), broadcast)
            };
            for (shard, message) in staged {
                if broadcast {
                    for sender in senders.iter_mut() {
                        let message = copy_of(&message);
                        send(sender, message, host, graph, component).await?;
                    }
                } else {
                    send(&mut senders[shard], message, host, graph, component).await?;
                }
            }
        }
        Ok(())
    }

    /// Sends the rest of a block and its end.
    ///
    /// # Errors
    /// [`Ended::Aborted`] if a receiver is gone.
    #[allow(clippy::too_many_arguments, reason = "what a block's end says")]
    pub async fn end_block<H: Host>(
        &mut self,
        graph: &RefCell<ShardGraph>,
        host: &H,
        component: usize,
        arrival: Arrival,
        mark: Time,
        idle: bool,
    ) -> Result<(), Ended> {
        for (exchange, _) in &self.exchanges {
            graph.borrow_mut().exchanges[*exchange].end_block();
        }
        self.send_staged(graph, host, component).await?;
        for (_, senders) in &mut self.exchanges {
            for sender in senders {
                let message = Message::BlockEnd { arrival, mark, idle };
                send(sender, message, host, graph, component).await?;
            }
        }
        Ok(())
    }

    /// Says that an epoch ends behind the block that was ended last: a barrier, or a place.
    ///
    /// # Errors
    /// [`Ended::Aborted`] if a receiver is gone.
    pub async fn tell<H: Host>(
        &mut self,
        graph: &RefCell<ShardGraph>,
        host: &H,
        component: usize,
        message: &Message,
    ) -> Result<(), Ended> {
        for (_, senders) in &mut self.exchanges {
            for sender in senders {
                send(sender, copy_of(message), host, graph, component).await?;
            }
        }
        Ok(())
    }

    /// Says that no block will follow. A receiver that has gone already has heard it from another
    /// shard at its turn (or has failed, and said so).
    pub async fn end<H: Host>(
        &mut self,
        graph: &RefCell<ShardGraph>,
        host: &H,
        component: usize,
        finished: bool,
    ) {
        for (_, senders) in &mut self.exchanges {
            for sender in senders {
                let _ = send(sender, Message::End { finished }, host, graph, component).await;
            }
        }
    }
}

fn copy_of(message: &Message) -> Message {
    match message {
        Message::Rows(parcel) => Message::Rows(parcel.part(0..parcel.times.len())),
        Message::BlockEnd { arrival, mark, idle } => {
            Message::BlockEnd { arrival: *arrival, mark: *mark, idle: *idle }
        }
        Message::Barrier { epoch, overtakes } => {
            Message::Barrier { epoch: *epoch, overtakes: *overtakes }
        }
        Message::Place { epoch } => Message::Place { epoch: *epoch },
        Message::End { finished } => Message::End { finished: *finished },
    }
}

async fn send<H: Host>(
    sender: &mut Sender<Message>,
    message: Message,
    host: &H,
    graph: &RefCell<ShardGraph>,
    component: usize,
) -> Result<(), Ended> {
    let message = match sender.try_send(message) {
        Ok(()) => return Ok(()),
        Err(NotSent::Closed(_)) => return Err(Ended::Aborted),
        Err(NotSent::Full(message)) => message,
    };
    let started = host.ticks_ns();
    let sent = sender.send(message).await;
    let gauges = graph.borrow().gauges.clone();
    let gauge: &Gauge = gauges.of(component, graph.borrow().shard);
    gauge.waited_ns.add(host.ticks_ns() - started);
    sent.map_err(|_| Ended::Aborted)
}
