//! A run: shards started on their cores, readers on their threads, everything joined again, the
//! outputs committed at the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::RunError;
use super::exchange::Message;
use super::feed::Producer;
use super::gauge::Gauges;
use super::graph::{ShardGraph, SinkNode};
use super::host_uring::{self, Placement};
use super::reader::Reader;
use super::shard::{ShardRings, run_shard};
use crate::ground::limits::{BLOCKS_QUEUED, RING_MESSAGES};
use crate::ground::ring::{Receiver, Sender, ring};

/// A table behind a broadcast exchange.
#[derive(Clone, Copy, Debug)]
pub struct TableAbout {
    /// The lookup node.
    pub node: usize,
    /// Whether the stream waits until the table is whole.
    pub waited_for: bool,
}

/// What every shard knows of an exchange.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeAbout {
    pub producer: Producer,
    pub stage: usize,
    pub direct: bool,
    pub table: Option<TableAbout>,
}

/// Builds the graph of one shard, on that shard.
pub type BuildGraph = dyn Fn(usize) -> Result<ShardGraph, RunError> + Send + Sync;

/// A run, ready to start.
pub struct RunPlan {
    pub placement: Placement,
    pub readers: Vec<Reader>,
    pub exchanges: Vec<ExchangeAbout>,
    pub build: Arc<BuildGraph>,
    pub gauges: Arc<Gauges>,
    /// Number of the epoch that the run's output belongs to.
    pub epoch: u64,
}

/// What shards, readers and the outside tell each other: stop, and why.
#[derive(Default)]
pub struct Supervisor {
    stop: AtomicBool,
    aborted: AtomicBool,
    failure: Mutex<Option<RunError>>,
}

impl Supervisor {
    /// Asks the run to stop in order: sources are read no further, what was read is worked off.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Stops the run because of an error; the first one is the cause.
    pub fn fail(&self, error: RunError) {
        let mut failure = self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        failure.get_or_insert(error);
        self.abort();
    }

    /// Notes that a task ended because of another's error.
    pub fn abort(&self) {
        self.aborted.store(true, Ordering::Relaxed);
        self.stop();
    }

    /// Whether the run is failing.
    pub fn has_failed(&self) -> bool {
        self.aborted.load(Ordering::Relaxed)
    }

    /// Whether somebody asked the run to stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn cause(&self) -> Option<RunError> {
        self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

impl RunPlan {
    /// Runs to the end of all sources, or until the supervisor is told to stop.
    ///
    /// # Errors
    /// The first error of any component, after everything has been stopped and joined.
    pub fn run(self, supervisor: &Arc<Supervisor>) -> Result<(), RunError> {
        let shards = self.placement.shards();
        let mut rings: Vec<ShardRings> = (0..shards).map(|_| ShardRings::none()).collect();
        let mut readers = Vec::new();
        for reader in self.readers {
            let (mut to_shards, mut from_shards) = (Vec::new(), Vec::new());
            for rings in &mut rings {
                let (blocks, dealt) = ring(BLOCKS_QUEUED);
                let (used, back) = ring(BLOCKS_QUEUED);
                to_shards.push(blocks);
                from_shards.push(back);
                rings.blocks.push((dealt, used));
            }
            readers.push((reader, to_shards, from_shards));
        }
        for exchange in &self.exchanges {
            lay_rings(&mut rings, exchange.direct);
        }
        let about: Arc<[ExchangeAbout]> = self.exchanges.into();
        let sinks: Mutex<Vec<SinkNode>> = Mutex::new(Vec::new());
        let (build, epoch, placement) = (&self.build, self.epoch, &self.placement);
        std::thread::scope(|scope| {
            for (reader, to_shards, from_shards) in readers {
                let name = format!("read {}", reader.name);
                let run = move || {
                    if let Err(error) = reader.run(to_shards, from_shards, &supervisor.stop) {
                        supervisor.fail(error);
                    }
                };
                let spawned = std::thread::Builder::new().name(name.clone()).spawn_scoped(scope, run);
                if let Err(error) = spawned {
                    supervisor.fail(RunError::of(&name, error));
                }
            }
            let failed = |error| supervisor.fail(error);
            host_uring::run(placement, rings, failed, |shard, host, rings| {
                let (about, supervisor, sinks) = (about.clone(), supervisor.clone(), &sinks);
                async move {
                    let graph = match build(shard) {
                        Ok(graph) => graph,
                        Err(error) => return supervisor.fail(error),
                    };
                    let ended = run_shard(host, graph, rings, about, supervisor.clone()).await;
                    let Some(mut ended) = ended else { return };
                    for node in &mut ended {
                        if let Err(error) = node.sink.prepare(epoch) {
                            return supervisor.fail(RunError::of(&node.name, error));
                        }
                    }
                    sinks.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).append(&mut ended);
                }
            });
        });
        if supervisor.has_failed() {
            let unknown = RunError::Host("the run was aborted without a cause (a bug)".into());
            return Err(supervisor.cause().unwrap_or(unknown));
        }
        for mut node in sinks.into_inner().unwrap_or_else(|p| p.into_inner()) {
            let committed = node.sink.commit(self.epoch);
            committed.map_err(|error| RunError::of(&node.name, error))?;
        }
        Ok(())
    }
}

fn lay_rings(shards: &mut [ShardRings], direct: bool) {
    let count = if direct { 0 } else { shards.len() };
    for shard in shards.iter_mut() {
        shard.senders.push(Vec::new());
        shard.receivers.push(Vec::new());
    }
    for from in 0..count {
        for to in 0..count {
            let (sender, receiver): (Sender<Message>, Receiver<Message>) = ring(RING_MESSAGES);
            push_last(&mut shards[from].senders, sender);
            push_last(&mut shards[to].receivers, receiver);
        }
    }
}

fn push_last<T>(lists: &mut [Vec<T>], value: T) {
    if let Some(last) = lists.last_mut() {
        last.push(value);
    }
}

impl ShardRings {
    fn none() -> ShardRings {
        ShardRings { blocks: Vec::new(), senders: Vec::new(), receivers: Vec::new() }
    }
}
