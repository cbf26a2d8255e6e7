//! A run: shards started on their cores, readers on their threads, everything joined again, the
//! outputs committed at the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::RunError;
use super::cold::StateSettings;
use super::epochs::Epochs;
use super::exchange::Message;
use super::feed::Producer;
use super::gauge::Gauges;
use super::graph::{ShardGraph, SinkNode};
use super::host::Host;
use super::host_uring::{self, Placement};
use super::reader::{Dealt, Reader, block_on};
use super::shard::{ShardRings, run_shard};
use super::snapshot::Restored;
use super::stage::Stage;
use crate::ground::limits::{BLOCKS_QUEUED, RING_MESSAGES};
use crate::ground::ring::{Receiver, Sender, ring};
use crate::port::Text;

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

/// Builds graphs, each on its shard.
pub trait Build: Send + Sync {
    /// The graph of a shard.
    ///
    /// # Errors
    /// [`RunError`] of a component that cannot be made.
    fn graph(&self, shard: usize) -> Result<ShardGraph, RunError>;

    /// The keyed stages of a graph, without rows.
    ///
    /// # Errors
    /// As [`Build::graph`].
    fn stages(&self) -> Result<Vec<Stage>, RunError>;
}

/// A run, ready to start.
pub struct RunPlan {
    pub placement: Placement,
    pub readers: Vec<Reader>,
    pub exchanges: Vec<ExchangeAbout>,
    pub build: Arc<dyn Build>,
    pub gauges: Arc<Gauges>,
    pub epochs: Arc<Epochs>,
    /// What the shards of an earlier run knew, to go on from.
    pub restored: Option<Arc<Restored>>,
    /// Where keys go that do not fit into memory; none: all stay.
    pub state: Option<StateSettings>,
    /// From when the shards' clocks count; none: from the start of the run.
    pub started: Option<Instant>,
}

/// What shards, readers and the outside tell each other: stop, and why.
#[derive(Default)]
pub struct Supervisor {
    stop: Arc<AtomicBool>,
    aborted: AtomicBool,
    failure: Mutex<Option<RunError>>,
}

impl Supervisor {
    /// A supervisor whose run stops in order once `stop` is set.
    pub fn stopped_by(stop: Arc<AtomicBool>) -> Supervisor {
        Supervisor { stop, ..Supervisor::default() }
    }

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

    /// How the run ended, once everything has been joined.
    ///
    /// # Errors
    /// The first error of any component.
    pub fn outcome(&self) -> Result<(), RunError> {
        if !self.has_failed() {
            return Ok(());
        }
        let unknown = RunError::Host("the run was aborted without a cause (a bug)".into());
        let failure = self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Err(failure.clone().unwrap_or(unknown))
    }
}

/// A reader and its ends of the rings to the shards.
pub struct LaidReader {
    pub reader: Reader,
    pub to_shards: Vec<Sender<Dealt>>,
    pub from_shards: Vec<Receiver<Text>>,
}

/// A run whose rings are laid: what each reader and each shard holds.
pub struct Laid {
    pub readers: Vec<LaidReader>,
    pub shards: Vec<ShardRings>,
    pub about: Arc<[ExchangeAbout]>,
    pub build: Arc<dyn Build>,
}

impl Laid {
    /// One shard's whole life, on a host: its graph built, run, its sinks prepared for the last epoch
    /// and added to `sinks`. Errors go to the supervisor.
    #[allow(clippy::too_many_arguments, reason = "what a shard is given once, at its start")]
    pub async fn shard<H: Host>(
        shard: usize,
        host: H,
        rings: ShardRings,
        about: Arc<[ExchangeAbout]>,
        build: Arc<dyn Build>,
        supervisor: Arc<Supervisor>,
        epochs: Arc<Epochs>,
        restored: Option<Arc<Restored>>,
        state: Option<StateSettings>,
        sinks: &Mutex<Vec<SinkNode>>,
    ) {
        let graph = match build.graph(shard) {
            Ok(graph) => graph,
            Err(error) => return supervisor.fail(error),
        };
        let ended =
            run_shard(host, graph, rings, about, supervisor, epochs, restored, state, &*build)
                .await;
        let Some(mut ended) = ended else { return };
        sinks.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).append(&mut ended);
    }
}

impl RunPlan {
    /// Lays the rings between readers and shards, and between the shards.
    pub fn lay(self) -> Laid {
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
            readers.push(LaidReader { reader, to_shards, from_shards });
        }
        for exchange in &self.exchanges {
            lay_rings(&mut rings, exchange.direct);
        }
        Laid { readers, shards: rings, about: self.exchanges.into(), build: self.build }
    }

    /// Runs to the end of all sources, or until the supervisor is told to stop.
    ///
    /// # Errors
    /// The first error of any component, after everything has been stopped and joined.
    #[allow(clippy::disallowed_methods)] // The readers' threads are started here.
    pub fn run(mut self, supervisor: &Arc<Supervisor>) -> Result<(), RunError> {
        let (epochs, placement) = (self.epochs.clone(), self.placement.clone());
        let (mut restored, state) = (self.restored.take(), self.state.clone());
        let started = self.started.unwrap_or_else(Instant::now);
        let Laid { readers, shards, about, build } = self.lay();
        let sinks: Mutex<Vec<SinkNode>> = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for LaidReader { mut reader, to_shards, from_shards } in readers {
                if reader.source.is_live() {
                    let ticks = move || started.elapsed().as_nanos() as u64;
                    reader.ticks_ns = Some(Box::new(ticks));
                }
                let name = format!("read {}", reader.name);
                let epochs = &epochs;
                let run = move || {
                    let read = reader.run(to_shards, from_shards, &supervisor.stop, epochs);
                    if let Err(error) = block_on(read) {
                        supervisor.fail(error);
                    }
                };
                let thread = std::thread::Builder::new().name(name.clone());
                if let Err(error) = thread.spawn_scoped(scope, run) {
                    supervisor.fail(RunError::of(&name, error));
                }
            }
            let coordinator = || {
                if let Err(error) = epochs.coordinate() {
                    supervisor.fail(RunError::of("checkpoint", error));
                }
            };
            let thread = std::thread::Builder::new().name("epochs".into());
            if let Err(error) = thread.spawn_scoped(scope, coordinator) {
                supervisor.fail(RunError::of("epochs", error));
            }
            let failed = |error| supervisor.fail(error);
            // Each shard lets go of what it was restored from: it is as large as the state.
            let items: Vec<_> = shards.into_iter().map(|rings| (rings, restored.clone())).collect();
            restored = None;
            host_uring::run(
                &placement,
                started,
                items,
                failed,
                |shard, host, (rings, restored)| {
                    let (about, build, supervisor) =
                        (about.clone(), build.clone(), supervisor.clone());
                    let (epochs, state) = (epochs.clone(), state.clone());
                    Laid::shard(
                        shard, host, rings, about, build, supervisor, epochs, restored, state,
                        &sinks,
                    )
                },
            );
            epochs.abort();
        });
        supervisor.outcome()?;
        epochs.finish().map_err(|error| RunError::of("checkpoint", error))?;
        commit(sinks.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

/// Makes all output seen: the shards have prepared it, and the last epoch is durable.
///
/// # Errors
/// A sink's.
pub fn commit(mut sinks: Vec<SinkNode>) -> Result<(), RunError> {
    sinks.iter_mut().try_for_each(|node| node.commit(u64::MAX))
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
