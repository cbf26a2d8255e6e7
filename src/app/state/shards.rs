//! A shard of a checkpoint, restored on an executor of its own.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::sync::Mutex;
use std::time::Instant;

use super::Ended;
use super::find::Checkpoint;
use crate::app::scratch::Scratch;
use crate::app::state_folder::settings;
use crate::flow::RunError;
use crate::flow::host_uring::{self, Cores, Placement, UringHost};
use crate::flow::look::Look;
use crate::flow::run::Build;
use crate::flow::snapshot::{Restored, RestoredShard};
use crate::plan::keyed;

/// Restores a shard and does `work` with it.
pub fn on_shard<T: Send>(
    checkpoint: &Checkpoint,
    shard: usize,
    work: impl AsyncFnOnce(&mut Look<UringHost>) -> Result<T, RunError> + Send,
) -> Result<T, Ended> {
    try_on_shard(checkpoint, shard, work).map_err(|error| checkpoint.failed(&error))
}

fn try_on_shard<T: Send>(
    checkpoint: &Checkpoint,
    shard: usize,
    work: impl AsyncFnOnce(&mut Look<UringHost>) -> Result<T, RunError> + Send,
) -> Result<T, RunError> {
    let scratch = Scratch::new("state").map_err(|error| {
        let place = std::env::temp_dir();
        RunError::of("state", format!("cannot use `{}`: {error}", place.display()))
    })?;
    let restored = link(&scratch, &checkpoint.restored).map_err(|error| {
        RunError::of("state", format!("cannot link into `{}`: {error}", scratch.path().display()))
    })?;
    let mut settings = settings(&checkpoint.pipeline);
    settings.data_dir = scratch.path().to_path_buf();
    settings.folder = "state".to_string();
    let (placement, _) = Placement::choose(&Cores::Count(1))?;
    host_uring::check(placement.shards())?;
    let outcome: Mutex<Option<Result<T, RunError>>> = Mutex::new(None);
    let end = |ended: Result<T, RunError>| {
        let mut outcome = outcome.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        outcome.get_or_insert(ended);
    };
    let failed = |error| end(Err(error));
    let (restored, settings, end) = (&restored, &settings, &end);
    // Programs own their registers, so the shard has programs of its own.
    let items = vec![(checkpoint.pipeline.clone(), work)];
    let shards = checkpoint.shards();
    host_uring::run(&placement, Instant::now(), items, failed, |_, host, item| async move {
        let looked = async {
            let (pipeline, work) = item;
            let build = keyed::build(&pipeline, shards);
            let of = (&build as &dyn Build, shard);
            let mut look = Look::open(&host, of, restored, settings.clone()).await?;
            work(&mut look).await
        };
        end(looked.await);
    });
    let outcome = outcome.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    outcome.unwrap_or_else(|| Err(RunError::Host("the shard ended without a word".into())))
}

/// What was restored, with its stores' files here: as links to where they lie, so that neither
/// they nor their folder change, on whatever file system they are.
fn link(scratch: &Scratch, restored: &Restored) -> io::Result<Restored> {
    let mut shards = Vec::new();
    for (number, shard) in restored.shards.iter().enumerate() {
        let folder = scratch.path().join(format!("from-{number:03}"));
        fs::create_dir(&folder)?;
        let names = shard.read.iter().map(|(name, _)| name);
        let names = names.chain(&shard.unread).chain(&shard.rows);
        for name in names {
            symlink(shard.folder.join(name), folder.join(name))?;
        }
        shards.push(RestoredShard { folder, ..shard.clone() });
    }
    Ok(Restored { shards, epoch: restored.epoch })
}
