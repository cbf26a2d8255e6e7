//! The folder of a run's stores in its `data_dir`: `state/run-PID`, made when a key first leaves
//! memory and gone with the run. What a checkpoint needs of it is linked there.

use std::fs;
use std::path::{Path, PathBuf};

use crate::flow::cold::StateSettings;
use crate::plan::graph::{Backend, Compression, Pipeline, Profile};
use crate::store::codec::Codec;
use crate::store::options;

/// Removed when dropped.
pub struct StateFolder(Option<StateSettings>);

impl StateFolder {
    /// The folder for this process; those of processes that are gone are removed.
    pub fn new(pipeline: &Pipeline) -> StateFolder {
        if pipeline.state.backend == Backend::Memory {
            return StateFolder(None);
        }
        let settings = settings(pipeline);
        remove_left(&settings.data_dir.join("state"));
        StateFolder(Some(settings))
    }

    /// What shards are told; none if all keys stay in memory.
    pub fn settings(&self) -> Option<StateSettings> {
        self.0.clone()
    }
}

/// Where and how a run of this process would keep keys that do not fit into memory.
pub fn settings(pipeline: &Pipeline) -> StateSettings {
    let settings = &pipeline.state;
    StateSettings {
        data_dir: PathBuf::from(&pipeline.engine.data_dir),
        folder: format!("state/run-{}", std::process::id()),
        codec: match settings.compression {
            Compression::None => Codec::None,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        },
        profile: match settings.profile {
            Profile::Balanced => options::Profile::Balanced,
            Profile::ReadHeavy => options::Profile::ReadHeavy,
            Profile::WriteHeavy => options::Profile::WriteHeavy,
        },
        memory_bytes: settings.memory_bytes as usize,
    }
}

impl Drop for StateFolder {
    fn drop(&mut self) {
        if let Some(settings) = &self.0 {
            // What cannot be removed now is removed by the next run.
            let _ = fs::remove_dir_all(settings.data_dir.join(&settings.folder));
            let _ = fs::remove_dir(settings.data_dir.join("state"));
        }
    }
}

/// Removes the folders of runs that were killed.
fn remove_left(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix("run-"));
        // One of this process's number is of another that had it before.
        let is_gone = |process: &str| {
            process == std::process::id().to_string() || !Path::new("/proc").join(process).exists()
        };
        if process.is_some_and(is_gone) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
