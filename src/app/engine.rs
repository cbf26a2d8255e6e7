//! Where the command meets the engine: what it gives, what it watches, and how a run can fail.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use thiserror::Error;

use super::arguments::Restore;
use super::checkpoints::outgoing::Outgoing;
use super::checkpoints::resume::{Resume, resume};
use super::connect::{Connectors, Seen};
use super::report::{
    CheckpointBytes, CheckpointCount, CheckpointDuration, Counts, Latency, SinkCount, SourceCount,
    TransformCount,
};
use super::{FAILED, WRONG, eprint};
use crate::flow;
use crate::flow::chain::RowBounds;
use crate::flow::epochs::{Epochs, Rhythm, Unaligned};
use crate::flow::gauge::Gauges;
use crate::flow::host_uring::{self, Cores, Placement};
use crate::flow::run::Supervisor;
use crate::ground::time::NEVER;
use crate::plan::build::{component, run_plan};
use crate::plan::graph::{self, Pipeline};

/// All that a run is started with.
pub struct Job {
    pub pipeline: Pipeline,
    pub restore: Restore,
    /// Set when the run is to end in order.
    pub stop: Arc<AtomicBool>,
    /// Where the engine counts.
    pub live: Arc<Live>,
    /// When the command was started.
    pub started: Instant,
}

/// Counts that may be read while the engine runs.
pub struct Live {
    sources: Vec<String>,
    transforms: Vec<String>,
    sinks: Vec<String>,
    running: OnceLock<(Arc<Gauges>, Arc<Epochs>, usize)>,
    /// Copies to a remote, if there is one.
    outgoing: OnceLock<Arc<Outgoing>>,
}

impl Live {
    /// Nothing counted yet.
    pub fn new(pipeline: &Pipeline) -> Live {
        Live {
            sources: pipeline.sources.iter().map(|each| each.name.clone()).collect(),
            transforms: pipeline.transforms.iter().map(|each| each.name.clone()).collect(),
            sinks: pipeline.sinks.iter().map(|each| each.name.clone()).collect(),
            running: OnceLock::new(),
            outgoing: OnceLock::new(),
        }
    }

    /// Counts so far.
    pub fn counts(&self) -> Counts {
        let zero = Gauges::new(self.components(), 1);
        let gauges = self.running.get().map_or(&zero, |(gauges, _, _)| gauges);
        let made = self.running.get().map(|(_, epochs, _)| epochs.made()).unwrap_or_default();
        let of = |names: &[String], first: usize| {
            let named = names.iter().cloned().enumerate();
            named.map(|(i, name)| (first + i, name)).collect::<Vec<_>>()
        };
        let source = |(at, name)| {
            let rows_in = gauges.sum(at, |gauge| &gauge.rows_in);
            let rejected = gauges.sum(at, |gauge| &gauge.rejected);
            (name, SourceCount { rows_in, rows: rows_in - rejected.min(rows_in), rejected })
        };
        let transform = |(at, name)| {
            let rows_in = gauges.sum(at, |gauge| &gauge.rows_in);
            let filtered = gauges.sum(at, |gauge| &gauge.filtered);
            let late = gauges.sum(at, |gauge| &gauge.late);
            let count = TransformCount {
                rows_in,
                out: gauges.sum(at, |gauge| &gauge.rows_out),
                used: rows_in.saturating_sub(filtered + late),
                filtered,
                late,
                overflows: gauges.sum(at, |gauge| &gauge.overflows),
                partial_matches_given_up: gauges.sum(at, |gauge| &gauge.given_up),
            };
            (name, count)
        };
        let sink = |(at, name)| (name, SinkCount { rows: gauges.sum(at, |gauge| &gauge.rows_in) });
        let (transforms, sinks) = (self.sources.len(), self.sources.len() + self.transforms.len());
        let watermark = gauges.watermark();
        Counts {
            sources: of(&self.sources, 0).into_iter().map(source).collect(),
            transforms: of(&self.transforms, transforms).into_iter().map(transform).collect(),
            sinks: of(&self.sinks, sinks).into_iter().map(sink).collect(),
            watermark: (watermark != NEVER).then_some(watermark),
            busy_s: gauges.busy_ns() as f64 / 1e9,
            latency_ms: gauges.latency().map(|ms| Latency {
                p50: ms.p50,
                p99: ms.p99,
                p999: ms.p999,
                max: ms.max,
            }),
            checkpoints: CheckpointCount {
                completed: made.completed,
                failed: made.failed,
                duration_ms: CheckpointDuration { p50: made.p50_ms, p99: made.p99_ms },
                stood_still_ms: made.stood_still_ms,
                bytes: CheckpointBytes { last: made.bytes.written, full: made.bytes.full },
                remote: self.outgoing.get().map(|outgoing| outgoing.counts()),
            },
            first_row_ms: gauges.first_row_ns().map(|ns| ns as f64 / 1e6),
        }
    }

    /// Shards of the run.
    pub fn shards(&self) -> usize {
        self.running.get().map_or(0, |(_, _, shards)| *shards)
    }

    fn components(&self) -> usize {
        self.sources.len() + self.transforms.len() + self.sinks.len()
    }
}

/// Why a run failed, by who has to act.
#[derive(Debug, Error)]
pub enum RunError {
    /// An argument asks for what is not there: the user has to act.
    #[error("{0}")]
    Setup(String),
    /// The run broke off.
    #[error(transparent)]
    Failed(#[from] flow::RunError),
}

impl RunError {
    /// The exit code it means.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Setup(_) => WRONG,
            RunError::Failed(_) => FAILED,
        }
    }
}

/// Runs a pipeline to its end.
///
/// # Errors
/// [`RunError`] says who has to act.
pub fn run(job: Job) -> Result<(), RunError> {
    let pipeline = &job.pipeline;
    let cores = match &pipeline.engine.cores {
        graph::Cores::All => Cores::All,
        graph::Cores::Count(count) => Cores::Count(*count),
        graph::Cores::List(list) => Cores::Cpus(list.clone()),
    };
    let (placement, warning) = Placement::choose(&cores)?;
    let mut notes: Vec<String> = warning.into_iter().collect();
    host_uring::check(placement.shards())?;
    let shards = placement.shards();
    let Resume { store, from, durable, newest, shared, copier } =
        resume(pipeline, shards, &job.restore, &mut notes)?;
    if let Some(copier) = &copier {
        let _ = job.live.outgoing.set(copier.outgoing.clone());
    }
    let seen = Seen { durable, newest, shared };
    let connectors = Connectors::open(pipeline, shards, seen, &mut notes)?;
    for note in notes {
        eprint(&format!("note: {note}\n"));
    }
    let gauges = Arc::new(Gauges::new(component::count(pipeline), shards));
    let settings = &pipeline.checkpoint;
    let rhythm = Rhythm {
        interval_ms: settings.interval_ms.map(|ms| ms.max(1) as u64),
        min_pause_ms: settings.min_pause_ms.max(0) as u64,
        timeout_ms: settings.timeout_ms.max(1) as u64,
        tolerable_failures: settings.tolerable_failures,
        rows: RowBounds::default(),
        unaligned: match settings.unaligned {
            graph::Unaligned::Never => Unaligned::Never,
            graph::Unaligned::Always => Unaligned::Always,
            graph::Unaligned::AfterMs(ms) => Unaligned::AfterMs(ms.max(0) as u64),
        },
    };
    let names = pipeline.sources.iter().map(|plan| plan.name.clone()).collect();
    let epochs = Arc::new(Epochs::new(names, shards, durable.unwrap_or(0), rhythm, store));
    // Set once: a job is run once.
    let _ = job.live.running.set((gauges.clone(), epochs.clone(), shards));
    let state = super::state_folder::StateFolder::new(pipeline);
    let mut plan =
        run_plan(pipeline, placement, connectors, gauges, epochs, from, state.settings())?;
    for reader in &plan.readers {
        let is_read_once =
            !pipeline.sources[reader.place].feeds_only_tables && reader.source.position().is_none();
        if pipeline.checkpoint.is_given && is_read_once {
            eprint(&format!(
                "note: {}: this source cannot be read again: a run that is killed loses its rows \
                 since the newest checkpoint\n",
                reader.name
            ));
        }
    }
    plan.started = Some(job.started);
    let supervisor = Arc::new(Supervisor::stopped_by(job.stop));
    let outcome = plan.run(&supervisor);
    if let Some(copier) = copier {
        copier.finish();
    }
    Ok(outcome?)
}
