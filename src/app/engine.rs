//! Where the command meets the engine: what it gives, what it watches, and how a run can fail.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use thiserror::Error;

use super::arguments::Restore;
use super::report::Counts;
use super::{FAILED, WRONG};
use crate::plan::graph::Pipeline;

/// All that a run is started with.
pub struct Job {
    pub pipeline: Pipeline,
    pub restore: Restore,
    /// Set when the run is to end in order.
    pub stop: Arc<AtomicBool>,
    /// Where the engine counts.
    pub live: Arc<Live>,
}

/// Counts that may be read while the engine runs.
pub struct Live {
    empty: Counts,
}

impl Live {
    /// Nothing counted yet.
    pub fn new(pipeline: &Pipeline) -> Live {
        let mut empty = Counts::default();
        let name = |name: &String| name.clone();
        empty.sources =
            pipeline.sources.iter().map(|each| (name(&each.name), Default::default())).collect();
        empty.transforms =
            pipeline.transforms.iter().map(|each| (name(&each.name), Default::default())).collect();
        empty.sinks =
            pipeline.sinks.iter().map(|each| (name(&each.name), Default::default())).collect();
        Live { empty }
    }

    /// Counts so far.
    pub fn counts(&self) -> Counts {
        self.empty.clone()
    }

    /// Shards of the run.
    pub fn shards(&self) -> usize {
        0
    }
}

/// Why a run failed, by who has to act.
#[derive(Debug, Error)]
pub enum RunError {
    /// Something the file names is not there or not right: the user has to act.
    #[error("{0}")]
    Setup(String),
    /// The run broke off.
    #[error("{0}")]
    Failed(String),
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
pub fn run(_job: Job) -> Result<(), RunError> {
    Err(RunError::Failed("this build has no runtime".into()))
}
