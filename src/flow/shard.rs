//! A shard: one graph, one task for each source and each stage that has rings, one for each table.
//! It calls decode, exchange, feed and stage, and contains none of them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::align::Alignment;
use super::chain::Chain;
use super::cold::{Cold, StateSettings};
use super::epochs::Epochs;
use super::exchange::{Ended, Message, Outgoing};
use super::feed::{Feed, Producer, Step};
use super::flight::InFlight;
use super::graph::{ShardGraph, SinkNode, Target};
use super::host::Host;
use super::reader::Dealt;
use super::restore::restore;
use super::run::{Build, ExchangeAbout, Supervisor};
use super::snapshot::{Beneath, Restored};
use super::source::SourceTask;
use super::stage::Stage;
use super::stage_task::StageTask;
use crate::ground::ring::{Receiver, Sender};
use crate::ground::time::NEVER;
use crate::ops::Rows;
use crate::port::Text;

/// Something that several tasks wait for: `open` counts what is still missing.
#[derive(Default)]
pub struct Gate {
    open: Cell<usize>,
    is_cut: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Gate {
    /// A gate that `missing` calls of [`Gate::arrive`] open.
    pub fn new(missing: usize) -> Rc<Gate> {
        Rc::new(Gate { open: Cell::new(missing), ..Gate::default() })
    }

    /// One of the missing has come.
    pub fn arrive(&self) {
        self.open.set(self.open.get().saturating_sub(1));
        if self.open.get() == 0 {
            self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
        }
    }

    /// One of the missing comes before it is done: the run was told to stop.
    pub fn cut(&self) {
        self.is_cut.set(true);
    }

    /// Whether one of those that came was not done.
    pub fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    /// Waits until all have come.
    pub async fn passed(&self) {
        poll_fn(|context| {
            if self.open.get() == 0 {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// Arrives at a gate when dropped: a task that fails must not leave the others waiting.
struct Arrival(Rc<Gate>);

impl Drop for Arrival {
    fn drop(&mut self) {
        self.0.arrive();
    }
}

/// The ends of rings that belong to one shard.
pub struct ShardRings {
    /// For each source: blocks from its reader, and the way back for their memory.
    pub blocks: Vec<(Receiver<Dealt>, Sender<Text>)>,
    /// For each exchange with rings: senders to every shard; empty where it is a call.
    pub senders: Vec<Vec<Sender<Message>>>,
    /// For each exchange with rings: receivers from every shard.
    pub receivers: Vec<Vec<Receiver<Message>>>,
}

/// Runs a shard to its end and gives back its sinks, prepared for the final epoch, or nothing if
/// the run failed (the supervisor then knows why).
#[allow(clippy::too_many_arguments, reason = "what a shard is given once, at its start")]
pub async fn run_shard<H: Host>(
    host: H,
    graph: ShardGraph,
    rings: ShardRings,
    about: Arc<[ExchangeAbout]>,
    supervisor: Arc<Supervisor>,
    epochs: Arc<Epochs>,
    restored: Option<Arc<Restored>>,
    state: Option<StateSettings>,
    build: &dyn Build,
) -> Option<Vec<SinkNode>> {
    let mut graph = graph;
    let cold = Cold::new(host.clone(), graph.shard, state);
    graph.chain = Chain::new(epochs.row_bounds(), epochs.interval_ms());
    if epochs.is_on() || cold.is_on() {
        graph.stages.iter_mut().for_each(Stage::track);
    }
    let mut in_flight = InFlight::default();
    let passed = restored.as_ref().map_or(0, |restored| restored.epoch);
    if let Some(restored) = &restored {
        let taken_up = match InFlight::of(&graph, &about, restored) {
            Ok(taken_up) => restore(&mut graph, restored, &cold, build).await.map(|()| taken_up),
            Err(error) => Err(error),
        };
        match taken_up {
            Ok(taken_up) => in_flight = taken_up,
            Err(error) => {
                supervisor.fail(error);
                return None;
            }
        }
    }
    drop(restored);
    let clock = host.clone();
    graph.ticks_ns = Rc::new(move || clock.ticks_ns());
    graph.keep_rows(passed);
    let sources = std::mem::take(&mut graph.sources);
    let waited = sources.iter().filter(|source| source.waited_for).count();
    let tables = about.iter().filter(|exchange| exchange.table.is_some()).count();
    let is_split = graph.shards > 1;
    // On one shard a table's own task fills it; on several the task behind its broadcast does.
    let gate = Gate::new(if is_split { waited_tables(&about) } else { waited });
    let graph = Rc::new(RefCell::new(graph));
    let mut senders: Vec<Option<Vec<Sender<Message>>>> =
        rings.senders.into_iter().map(Some).collect();
    let mut receivers: Vec<Option<Vec<Receiver<Message>>>> =
        rings.receivers.into_iter().map(Some).collect();
    let stages = graph.borrow().stages.len();
    let done = Gate::new(sources.len() + stages + tables);
    let fed = |stage: &usize| about.iter().any(|exchange| feeds_stage(exchange, *stage));
    let tasks = sources.len() + (0..stages).filter(fed).count() + tables;
    let beneath = cold.is_on().then(|| cold.clone() as Rc<dyn Beneath>);
    let alignment = Alignment::new(graph.clone(), epochs.clone(), tasks, beneath);
    if waited == sources.len() {
        // Nobody waits for a table, so none stands in the way of a barrier.
        alignment.start();
    }

    let outgoing_of = |producer: Producer, senders: &mut Vec<Option<Vec<Sender<Message>>>>| {
        let mine = about.iter().enumerate().filter(|(_, e)| e.producer == producer && !e.direct);
        let taken = mine.map(|(i, _)| (i, senders[i].take().expect("one producer an exchange")));
        Outgoing { exchanges: taken.collect() }
    };
    for (index, (node, (blocks, used))) in sources.into_iter().zip(rings.blocks).enumerate() {
        let direct = direct_of(&about, Producer::Source(index));
        let called = called_by(&about, &direct);
        let outgoing = outgoing_of(Producer::Source(index), &mut senders);
        let arrival = (node.waited_for && !is_split).then(|| Arrival(gate.clone()));
        let task = SourceTask {
            host: host.clone(),
            graph: graph.clone(),
            node,
            cold: cold.clone(),
            blocks,
            used,
            outgoing,
            direct,
            called,
            gate: gate.clone(),
            alignment: alignment.clone(),
            epochs: epochs.clone(),
            passed,
            lent: VecDeque::new(),
        };
        let leaving = Leaving::new(&alignment);
        watch(&host, &supervisor, Arrival(done.clone()), async move {
            let ended = task.run().await;
            drop(arrival);
            leaving.has_ended(&ended);
            ended
        });
    }
    for (at, exchange) in about.iter().enumerate() {
        let Some(table) = exchange.table else {
            continue;
        };
        let rings = receivers[at].take().expect("one consumer an exchange");
        let feed = Feed::new(exchange.producer, rings, NEVER, passed);
        let arrival = table.waited_for.then(|| Arrival(gate.clone()));
        let (graph, alignment) = (graph.clone(), alignment.clone());
        let leaving = Leaving::new(&alignment);
        watch(&host, &supervisor, Arrival(done.clone()), async move {
            let ended = fill_table(graph, table.node, feed, alignment).await;
            let ended = ended.map(|is_whole| {
                if let Some(Arrival(gate)) = arrival.as_ref().filter(|_| !is_whole) {
                    gate.cut();
                }
            });
            drop(arrival);
            leaving.has_ended(&ended);
            ended
        });
    }
    for stage in 0..stages {
        let mine = about.iter().enumerate().filter(|(_, exchange)| feeds_stage(exchange, stage));
        let feeds: Vec<Feed> = mine
            .map(|(at, exchange)| {
                let rings = receivers[at].take().expect("one consumer an exchange");
                if let Some((place, ahead)) = in_flight.take(at) {
                    return Feed::resumed(exchange.producer, rings, passed, place, ahead);
                }
                let graph = graph.borrow();
                let carry = match exchange.producer {
                    Producer::Source(source) => graph.reached[source].1,
                    Producer::Stage(stage) => graph.stages[stage].reached(),
                };
                Feed::new(exchange.producer, rings, carry, passed)
            })
            .collect();
        let outgoing = outgoing_of(Producer::Stage(stage), &mut senders);
        if feeds.is_empty() {
            // All its rows come by calls; what is behind it is told by who calls.
            debug_assert!(outgoing.exchanges.is_empty(), "a called stage calls what is behind");
            done.arrive();
            continue;
        }
        let (host_of, graph_of) = (host.clone(), graph.clone());
        let alignment = alignment.clone();
        let leaving = Leaving::new(&alignment);
        let task = StageTask {
            host: host_of,
            graph: graph_of,
            cold: cold.clone(),
            stage,
            feeds,
            outgoing,
            alignment,
            epochs: epochs.clone(),
            passed,
        };
        watch(&host, &supervisor, Arrival(done.clone()), async move {
            let ended = task.run().await;
            leaving.has_ended(&ended);
            ended
        });
    }
    done.passed().await;
    if supervisor.has_failed() {
        return None;
    }
    if let Err(error) = alignment.end_epoch(epochs.last(), true) {
        supervisor.fail(error);
        return None;
    }
    {
        let graph = graph.borrow();
        graph.gauges.add_latency(&graph.latency);
    }
    let sinks = std::mem::take(&mut graph.borrow_mut().sinks);
    Some(sinks)
}

/// A task that barriers reach is no longer waited for when this is dropped; unless it ended well,
/// no other is waited for either.
struct Leaving {
    alignment: Rc<Alignment>,
    is_well: Cell<bool>,
}

impl Leaving {
    fn new(alignment: &Rc<Alignment>) -> Leaving {
        Leaving { alignment: alignment.clone(), is_well: Cell::new(false) }
    }

    fn has_ended(&self, ended: &Result<(), Ended>) {
        self.is_well.set(ended.is_ok());
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        match self.is_well.get() {
            true => self.alignment.leave(),
            false => self.alignment.break_off(),
        }
    }
}

fn feeds_stage(exchange: &ExchangeAbout, stage: usize) -> bool {
    !exchange.direct && exchange.table.is_none() && exchange.stage == stage
}

fn waited_tables(about: &[ExchangeAbout]) -> usize {
    about.iter().filter(|exchange| exchange.table.is_some_and(|table| table.waited_for)).count()
}

fn direct_of(about: &[ExchangeAbout], producer: Producer) -> Vec<usize> {
    let mine = about.iter().enumerate();
    mine.filter(|(_, e)| e.producer == producer && e.direct).map(|(i, _)| i).collect()
}

/// The stages that calls through these exchanges reach.
fn called_by(about: &[ExchangeAbout], direct: &[usize]) -> Vec<usize> {
    let (mut stages, mut left) = (Vec::new(), direct.to_vec());
    while let Some(exchange) = left.pop() {
        let stage = about[exchange].stage;
        if !stages.contains(&stage) {
            stages.push(stage);
            left.extend(direct_of(about, Producer::Stage(stage)));
        }
    }
    stages
}

/// Starts a task and tells the supervisor if it fails.
fn watch<H: Host>(
    host: &H,
    supervisor: &Arc<Supervisor>,
    arrival: Arrival,
    task: impl Future<Output = Result<(), Ended>> + 'static,
) {
    let supervisor = supervisor.clone();
    host.spawn(async move {
        match task.await {
            Ok(()) => {}
            Err(Ended::Failed(error)) => supervisor.fail(error),
            Err(Ended::Aborted) => supervisor.abort(),
        }
        drop(arrival);
    });
}

/// Fills a table; whether its source was read to its end.
async fn fill_table(
    graph: Rc<RefCell<ShardGraph>>,
    node: usize,
    mut feed: Feed,
    alignment: Rc<Alignment>,
) -> Result<bool, Ended> {
    loop {
        match feed.next().await? {
            Step::Rows(parcel) => {
                let rows = Rows {
                    records: &parcel.records,
                    select: &parcel.select,
                    times: &parcel.times,
                    marks: &parcel.marks,
                };
                graph.borrow_mut().push(&[Target::Node { node, input: 1 }], &rows)?;
            }
            Step::BlockEnd { .. } => {}
            Step::Barrier => {
                if let Some(epoch) = feed.barrier.take() {
                    alignment.arrive(epoch);
                    poll_fn(|context| alignment.passed(epoch, context.waker())).await?;
                }
            }
            Step::Done => return Ok(feed.done == Some(true)),
        }
    }
}
