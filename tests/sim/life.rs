//! One run of the engine on the simulated machine: what the command does from its start to the end
//! of the sources, or until the power goes or an error ends it.
//!
//! All of `flow`, `ops`, `state`, `store` and `plan::build` is the real code, the coordinator's
//! decisions too; simulated are the host, the disk, the connectors and the folder of checkpoints.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cutwater::flow::RunError;
use cutwater::flow::chain::RowBounds;
use cutwater::flow::cold::StateSettings;
use cutwater::flow::epochs::{Epochs, Progress, Rhythm, Store, Unaligned};
use cutwater::flow::flight;
use cutwater::flow::gauge::Gauges;
use cutwater::flow::host_uring::Placement;
use cutwater::flow::run::{Laid, LaidReader, Supervisor, commit};
use cutwater::flow::snapshot::{DELTA, Restored, slices_of};
use cutwater::flow::tables::LOOKUPS;
use cutwater::plan::build::{From, component, run_plan};
use cutwater::plan::graph::Pipeline;
use cutwater::port::PortError;
use cutwater::store::codec::Codec;
use cutwater::store::options::Profile;

use super::connect::{Blocks, SimConnect};
use super::folder::{self, Folder, Found, ROOT};
use super::machine::{Machine, SimHost, Thread};
use super::{files, sink};

/// What a run is given.
pub struct Given<'a> {
    pub pipeline: &'a Pipeline,
    pub blocks: BTreeMap<String, Blocks>,
    pub shards: usize,
    pub batch_rows: usize,
    /// Bytes of keys in memory; none: all stay.
    pub hot_bytes: Option<usize>,
    pub codec: Codec,
    pub retained: usize,
    /// Checkpoints that may fail one after the other.
    pub tolerable_failures: usize,
    /// How many rows checkpoints have.
    pub rows: RowBounds,
    /// When barriers overtake rows; a step stands for a ms.
    pub unaligned: Unaligned,
    /// Fewer steps than this are between two checkpoints.
    pub pause: usize,
    /// Of so many checkpoints one is given up early; none: no one.
    pub given_up_one_in: Option<usize>,
    pub idle_one_in: Option<usize>,
    /// Number of the run's folder of stores.
    pub number: usize,
    /// Sources have no more than so many blocks, and the power goes once a checkpoint has them.
    pub held_at: Option<usize>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    Done,
    /// The power went, when the writer of checkpoints was about to do this.
    Off(&'static str),
    Failed(String),
}

/// What was seen of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saw {
    /// Whether it went on from a checkpoint, and what that had.
    pub restored: bool,
    pub other_width: bool,
    /// Shards of the run that made it.
    pub width: usize,
    /// Whether it had rows in flight.
    pub in_flight: bool,
    pub deltas_most: usize,
    /// Files of rows of one shard.
    pub rows_most: usize,
    /// Slices of the base of one shard that has rows behind it.
    pub slices_most: u32,
    pub tables: usize,
    /// Files of lookups' tables of one shard.
    pub lookups_most: usize,
    /// What was wrong with newer checkpoints.
    pub notes: Vec<String>,
    /// Checkpoints that were made, and failed.
    pub completed: u64,
    pub failed: u64,
    pub given_up: u64,
    pub steps: u64,
    pub trace: u64,
}

/// Runs to the end.
pub fn live(machine: &Rc<Machine>, given: &Given<'_>) -> (Ended, Saw) {
    let mut saw = Saw::default();
    let led = lead(machine, given, &mut saw);
    machine.clear();
    (saw.steps, saw.trace) = (machine.steps(), machine.trace());
    let ended = match led {
        _ if machine.is_off() => Ended::Off(machine.phase()),
        Ok(()) => Ended::Done,
        Err(error) => Ended::Failed(error.to_string()),
    };
    (ended, saw)
}

fn of(error: PortError) -> RunError {
    RunError::of("checkpoint", error)
}

/// As `app::engine::run` and [`cutwater::flow::run::RunPlan::run`].
fn lead(machine: &Rc<Machine>, given: &Given<'_>, saw: &mut Saw) -> Result<(), RunError> {
    let pipeline = given.pipeline;
    let found = folder::latest(&mut saw.notes).map_err(of)?;
    let durable = found.as_ref().map(|found| found.manifest.epoch);
    for plan in &pipeline.sinks {
        let settled = match durable {
            Some(epoch) => sink::settle(&plan.name, epoch),
            None => sink::set_aside(&plan.name),
        };
        settled.map_err(|error| RunError::of(&plan.name, error))?;
    }
    files::remove_all("state").map_err(of)?;
    let rhythm = Rhythm {
        interval_ms: Some(1),
        min_pause_ms: 0,
        timeout_ms: 1,
        tolerable_failures: given.tolerable_failures,
        rows: given.rows,
        unaligned: given.unaligned,
    };
    let folder = Folder { retained: given.retained };
    let names = pipeline.sources.iter().map(|plan| plan.name.clone()).collect();
    let (shards, epoch) = (given.shards, durable.unwrap_or(0));
    let epochs = Arc::new(Epochs::new(names, shards, epoch, rhythm, Some(Box::new(folder))));
    let gauges = Arc::new(Gauges::new(component::count(pipeline), shards));
    let (blocks, idle_one_in) = (given.blocks.clone(), given.idle_one_in);
    let connect = SimConnect { blocks, idle_one_in, held_at: given.held_at };
    let state = given.hot_bytes.map(|bytes| StateSettings {
        data_dir: PathBuf::from(ROOT),
        folder: format!("state/run-{}", given.number),
        codec: given.codec,
        profile: Profile::Tiny,
        memory_bytes: bytes * 2,
    });
    let from = from(found, shards, saw);
    let placement = Placement::nowhere(shards);
    let connect = Arc::new(connect);
    let plan = run_plan(pipeline, placement, connect, gauges, epochs.clone(), from, state.clone())?;
    let restored = plan.restored.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let run = Run {
        machine,
        supervisor: Arc::new(Supervisor::stopped_by(stop.clone())),
        stop,
        epochs,
        left: Rc::new(Cell::new(0)),
        sinks: Arc::default(),
        given_up: Rc::default(),
    };
    let ended = run.run(plan.lay(), restored, state, folder, given);
    let made = run.epochs.made();
    (saw.completed, saw.failed, saw.given_up) = (made.completed, made.failed, run.given_up.get());
    ended
}

/// What the run goes on from.
fn from(found: Option<Found>, shards: usize, saw: &mut Saw) -> From {
    let Some(found) = found else { return From::default() };
    saw.restored = true;
    saw.width = found.shards.len();
    saw.other_width = saw.width != shards;
    for (number, shard) in found.shards.iter().enumerate() {
        saw.in_flight |= flight::has_rows(shard, number).expect("it was found whole");
        let deltas = shard.read.iter().filter(|(name, _)| name.starts_with(DELTA)).count();
        saw.deltas_most = saw.deltas_most.max(deltas);
        saw.rows_most = saw.rows_most.max(shard.rows.len());
        let bases = shard.read.iter().filter(|(name, _)| name.starts_with(DELTA));
        let slices = bases.map(|(_, bytes)| slices_of(bytes)).max().unwrap_or(0);
        saw.slices_most = saw.slices_most.max(slices);
        let lookups = shard.read.iter().filter(|(name, _)| name.starts_with(LOOKUPS)).count();
        saw.lookups_most = saw.lookups_most.max(lookups);
        saw.tables += shard.unread.len();
    }
    let restored = Restored { shards: found.shards, epoch: found.manifest.epoch };
    let position = |(name, position): (String, Option<u64>)| Some((name, position?));
    From {
        positions: found.manifest.sources.into_iter().filter_map(position).collect(),
        restored: Some(Arc::new(restored)),
    }
}

struct Run<'a> {
    machine: &'a Rc<Machine>,
    supervisor: Arc<Supervisor>,
    stop: Arc<AtomicBool>,
    epochs: Arc<Epochs>,
    /// Shards and readers that have not ended.
    left: Rc<Cell<usize>>,
    sinks: Arc<Mutex<Vec<cutwater::flow::graph::SinkNode>>>,
    given_up: Rc<Cell<u64>>,
}

impl Run<'_> {
    fn run(
        &self,
        laid: Laid,
        restored: Option<Arc<Restored>>,
        state: Option<StateSettings>,
        folder: Folder,
        given: &Given<'_>,
    ) -> Result<(), RunError> {
        let off = |_| RunError::Host("the power is off".into());
        for (number, reader) in laid.readers.into_iter().enumerate() {
            self.start_reader(number, reader);
        }
        for (shard, rings) in laid.shards.into_iter().enumerate() {
            let host = SimHost { machine: self.machine.clone(), shard };
            let (about, build) = (laid.about.clone(), laid.build.clone());
            let (supervisor, epochs) = (self.supervisor.clone(), self.epochs.clone());
            let (restored, state, sinks) = (restored.clone(), state.clone(), self.sinks.clone());
            let (machine, left) = (self.machine.clone(), self.begin_one());
            self.machine.spawn(Thread::Shard(shard), false, async move {
                Laid::shard(
                    shard, host, rings, about, build, supervisor, epochs, restored, state, &sinks,
                )
                .await;
                left.set(left.get() - 1);
                machine.end(Thread::Shard(shard));
            });
        }
        let is_over = self.start_coordinator(folder, given);
        self.machine.run_until(|| self.left.get() == 0).map_err(off)?;
        self.epochs.abort();
        self.machine.run_until(|| is_over.get()).map_err(off)?;
        self.supervisor.outcome()?;
        self.epochs.finish().map_err(of)?;
        commit(std::mem::take(&mut self.sinks.lock().expect("nobody panicked")))
    }

    fn begin_one(&self) -> Rc<Cell<usize>> {
        self.left.set(self.left.get() + 1);
        self.left.clone()
    }

    fn start_reader(&self, number: usize, reader: LaidReader) {
        let LaidReader { reader, to_shards, from_shards } = reader;
        let (supervisor, epochs, stop) =
            (self.supervisor.clone(), self.epochs.clone(), self.stop.clone());
        let left = self.begin_one();
        self.machine.spawn(Thread::Reader(number), false, async move {
            if let Err(error) = reader.run(to_shards, from_shards, &stop, &epochs).await {
                supervisor.fail(error);
            }
            left.set(left.get() - 1);
        });
    }

    /// As [`Epochs::coordinate`], by steps instead of a clock.
    fn start_coordinator(&self, folder: Folder, given: &Given<'_>) -> Rc<Cell<bool>> {
        let is_over = Rc::new(Cell::new(false));
        let (machine, epochs, over) = (self.machine.clone(), self.epochs.clone(), is_over.clone());
        let (supervisor, given_up) = (self.supervisor.clone(), self.given_up.clone());
        let (pause, given_up_one_in) = (given.pause, given.given_up_one_in);
        let held_at = given.held_at.map(|blocks| {
            let of = |(name, all): (&String, &Blocks)| (name.clone(), all.len().min(blocks) as u64);
            given.blocks.iter().map(of).collect::<BTreeMap<String, u64>>()
        });
        let overtake_behind = match given.unaligned {
            Unaligned::AfterMs(steps) => Some(steps),
            Unaligned::Always | Unaligned::Never => None,
        };
        self.machine.spawn(Thread::Coordinator, false, async move {
            let up = (given_up_one_in, &*given_up);
            let rhythm = (pause, overtake_behind);
            let held_at = held_at.as_ref();
            if let Err(error) = coordinate(&machine, &epochs, folder, rhythm, up, held_at).await {
                supervisor.fail(of(error));
            }
            over.set(true);
        });
        is_over
    }
}

async fn coordinate(
    machine: &Rc<Machine>,
    epochs: &Epochs,
    folder: Folder,
    (pause, overtake_behind): (usize, Option<u64>),
    (given_up_one_in, given_up): (Option<usize>, &Cell<u64>),
    held_at: Option<&BTreeMap<String, u64>>,
) -> Result<(), PortError> {
    let mut patience = epochs.patience();
    while !epochs.has_started() && epochs.progress() != Progress::Over {
        machine.pause(10).await;
    }
    loop {
        machine.pause(1 + machine.below(pause) as u64).await;
        if epochs.begin().is_none() {
            return Ok(());
        }
        let is_short = given_up_one_in.is_some_and(|times| machine.below(times) == 0);
        let most = if is_short { machine.below(80) as u64 } else { u64::MAX };
        let began = machine.steps();
        let mut overtake_behind = overtake_behind;
        while epochs.progress() == Progress::Open && machine.steps() - began < most {
            if overtake_behind.take_if(|steps| machine.steps() - began >= *steps).is_some() {
                epochs.overtake();
            }
            machine.pause(3).await;
        }
        let written = match (epochs.take(), epochs.progress()) {
            (Some((checkpoint, shares)), _) => {
                let written = folder.write(&checkpoint, &shares);
                let positions = checkpoint.positions.iter();
                let stands: BTreeMap<_, _> =
                    positions.filter_map(|(name, at)| Some((name.clone(), (*at)?))).collect();
                if written.is_ok() && held_at == Some(&stands) {
                    machine.turn_off();
                }
                epochs.done(checkpoint.epoch, written, Duration::ZERO)
            }
            (None, Progress::Over) => return Ok(()),
            (None, _) => {
                given_up.set(given_up.get() + 1);
                Err(epochs.give_up())
            }
        };
        patience.bear(written)?;
    }
}
