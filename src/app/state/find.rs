//! Which pipeline and which checkpoint are meant.

use std::path::{Path, PathBuf};

use super::{Ended, wrong};
use crate::app::arguments::{PipelineArguments, StateArguments};
use crate::app::checkpoints::command::{epochs, failed, place_and_pipeline, say_none};
use crate::app::checkpoints::folder::{Found, Whole};
use crate::app::checkpoints::place::Place;
use crate::app::load::load;
use crate::app::{FAILED, WRONG, eprint, stderr_is_styled};
use crate::flow::RunError;
use crate::flow::look;
use crate::flow::run::Build;
use crate::flow::snapshot::Restored;
use crate::ground::batch::RecordBatch;
use crate::plan::graph::Pipeline;
use crate::plan::keyed;

/// So often a run beside may drop what is being looked at.
const TRIES: usize = 10;

/// The pipeline, and where its checkpoints lie.
pub fn place(of: &StateArguments) -> Result<(Pipeline, Place), Ended> {
    let (place, mut pipeline) = place_and_pipeline(&of.place)?;
    if let Some(file) = &of.pipeline {
        let arguments = PipelineArguments { file: file.clone(), set: of.place.set.clone() };
        let loaded = load(&arguments);
        eprint(&loaded.shown(stderr_is_styled()));
        pipeline = Some(loaded.pipeline.ok_or(WRONG)?);
    }
    if let Some(pipeline) = pipeline {
        return Ok((pipeline, place));
    }
    let shown = of.place.place.display();
    let manifest = place.folder.newest_manifest().ok().flatten();
    let whose = manifest.map(|manifest| format!(" of `{}`", manifest.pipeline)).unwrap_or_default();
    Err(wrong(&format!(
        "`{shown}` does not say what its bytes mean: name the pipeline file{whose} too, as in \
         `--pipeline FILE`"
    )))
}

/// A checkpoint that was read, and its pipeline.
pub struct Checkpoint {
    pub pipeline: Pipeline,
    pub restored: Restored,
    place: Place,
}

impl Checkpoint {
    /// Reads the checkpoint that is meant: the one that is named, or the newest whole one.
    pub fn open(
        of: &StateArguments,
        pipeline: Pipeline,
        place: Place,
    ) -> Result<Checkpoint, Ended> {
        let Found { manifest, shards } = read(&place, of.epoch)?;
        if manifest.pipeline != pipeline.name {
            return Err(wrong(&format!(
                "checkpoint {} is of the pipeline `{}`, and the file is that of `{}`",
                manifest.epoch, manifest.pipeline, pipeline.name
            )));
        }
        let restored = Restored { shards, epoch: manifest.epoch };
        Ok(Checkpoint { pipeline, restored, place })
    }

    /// Its number.
    pub fn epoch(&self) -> u64 {
        self.restored.epoch
    }

    /// Shards of the run that made it.
    pub fn shards(&self) -> usize {
        self.restored.shards.len()
    }

    /// The shard that has a key of a transform.
    pub fn shard_of(&self, transform: &str, key: &RecordBatch) -> Result<usize, Ended> {
        let graph = keyed::build(&self.pipeline, self.shards()).graph(0);
        let graph = graph.map_err(|error| self.failed(&error))?;
        let stage = graph.stages.iter().find(|stage| stage.operator(transform).is_some());
        Ok(stage.map_or(0, |stage| look::shard_of(key, stage, self.shards())))
    }

    /// Says why it cannot be looked into: damage by its file and place, where there is any.
    pub fn failed(&self, error: &RunError) -> Ended {
        let (folder, epoch) = (&self.place.folder, self.epoch());
        let seen = folder.look(epoch, true, &mut Whole::default());
        match seen {
            Ok(None) => eprint(&format!(
                "error: a run has dropped checkpoint {epoch} meanwhile; `cutwater checkpoint \
                 savepoint` keeps one to look into\n"
            )),
            Ok(Some(seen)) if !seen.damages.is_empty() => {
                eprint(&format!("error: checkpoint {epoch} is damaged\n"));
                for damage in seen.damages {
                    eprint(&format!("  {}: {damage}\n", folder.files(epoch).display()));
                }
            }
            _ => eprint(&format!("error: {error}\n")),
        }
        FAILED
    }
}

/// Reads the checkpoint of an epoch, or the newest whole one. A run beside may drop what was listed
/// until it is read; then there are others.
fn read(place: &Place, named: Option<u64>) -> Result<Found, Ended> {
    for _ in 0..TRIES {
        let listed = epochs(place, named)?;
        let mut is_gone = false;
        for &epoch in &listed {
            match place.folder.read(epoch) {
                Ok(mut found) => {
                    found.shards.iter_mut().for_each(|shard| make_real(&mut shard.folder));
                    return Ok(found);
                }
                Err(_) if !place.folder.manifest(epoch).exists() => is_gone = true,
                Err(error) if named.or(place.epoch).is_some() => return Err(failed(error)),
                Err(error) => eprint(&format!("note: checkpoint {epoch} is not used: {error}\n")),
            }
        }
        if listed.is_empty() {
            say_none(&place.folder);
            return Err(FAILED);
        }
        if !is_gone {
            let path = place.folder.path.display();
            eprint(&format!("error: no checkpoint in `{path}` is whole\n"));
            return Err(FAILED);
        }
    }
    eprint(
        "error: a run drops checkpoints faster than they can be read; copy one first, with \
            `cutwater checkpoint savepoint`\n",
    );
    Err(FAILED)
}

/// The path from the root, so that links to what is in it lead there from anywhere.
fn make_real(path: &mut PathBuf) {
    if let Ok(real) = Path::new(path).canonicalize() {
        *path = real;
    }
}
