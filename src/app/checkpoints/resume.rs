//! What a run goes on from, by `--restore`.
//!
//! 1. A checkpoint is read, found whole and to be of this pipeline before anything is moved.
//! 2. What is newer than it is set aside, never deleted: checkpoints here, parts when the sinks
//!    are opened.
//! 3. Where the newest checkpoint cannot be had (the remote does not answer) the run does not
//!    start afresh instead.

use std::path::Path;
use std::sync::Arc;

use super::folder::Found;
use super::keeper::Keeper;
use super::manifest::Manifest;
use super::outgoing::Copier;
use super::place::Origin;
use crate::app::arguments::Restore;
use crate::app::engine::RunError;
use crate::edge::objects::Objects;
use crate::flow;
use crate::flow::epochs::Store;
use crate::flow::flight;
use crate::flow::snapshot::Restored;
use crate::plan::build::From;
use crate::plan::graph::Pipeline;
use crate::port::PortError;

/// What a run goes on from, and where it keeps what comes.
#[derive(Default)]
pub struct Resume {
    /// Where checkpoints go; none if none are asked for.
    pub store: Option<Box<dyn Store>>,
    pub from: From,
    /// The number of the checkpoint that the run goes on from.
    pub durable: Option<u64>,
    /// The newest one that was durable here before: parts up to it were to be seen.
    pub newest: Option<u64>,
    /// Parts up to this epoch are of the past of the one that the run goes on from.
    pub shared: u64,
    /// Copies to the remote, if there is one.
    pub copier: Option<Copier>,
}

/// Finds the checkpoint to go on from; `notes` says what was found and moved.
///
/// # Errors
/// [`RunError`]: a checkpoint that is damaged or of another pipeline, or a place that cannot be
/// read.
pub fn resume(
    pipeline: &Pipeline,
    shards: usize,
    restore: &Restore,
    notes: &mut Vec<String>,
) -> Result<Resume, RunError> {
    let settings = &pipeline.checkpoint;
    if !settings.is_given {
        if let Restore::Path(path) = restore {
            return Err(RunError::Setup(format!(
                "`--restore {}`: this pipeline makes no checkpoints, so it cannot go on from one; \
                 add `[checkpoint]`",
                path.display()
            )));
        }
        return Ok(Resume::default());
    }
    let environment = aws_settings();
    let remote = settings.remote.as_ref().map(|url| Objects::open(url, &environment));
    let remote = remote.transpose().map_err(|error| named("`checkpoint.remote`", error))?;
    let data_dir = Path::new(&pipeline.engine.data_dir);
    let mut keeper = Keeper::new(data_dir, &pipeline.name, settings.retained);
    keeper.lock().map_err(of)?;
    let newest = keeper.folder.epochs().map_err(of)?.first().copied();
    let (found, shared, remote) = match restore {
        Restore::None => {
            if let Some(aside) = keeper.set_aside().map_err(of)? {
                notes.push(format!("the old checkpoints were moved to {}", aside.display()));
            }
            keeper.follow(None);
            (None, 0, remote)
        }
        Restore::Path(path) => {
            let text = path.to_string_lossy();
            let typed = |error| named(&format!("`--restore {text}`"), error);
            let (origin, epoch) = Origin::find(&text, &environment).map_err(typed)?;
            let (found, shared) = go_to(&mut keeper, (pipeline, shards), &origin, epoch, notes)?;
            (Some(found), shared, remote)
        }
        Restore::Latest => latest(&mut keeper, (pipeline, shards), remote, notes)?,
    };
    keeper.drop_incoming().map_err(of)?;
    let manifest = found.as_ref().map(|found| found.manifest.clone());
    let copier = match remote {
        None => None,
        Some(objects) => {
            let (folder, retained) = (keeper.folder.clone(), settings.retained);
            let objects = Arc::new(objects);
            let copier =
                Copier::start(objects, folder, &pipeline.name, retained, manifest).map_err(of)?;
            keeper.tell(copier.outgoing.clone());
            Some(copier)
        }
    };
    let store: Option<Box<dyn Store>> = Some(Box::new(keeper));
    let Some(found) = found else {
        return Ok(Resume { store, copier, newest, ..Resume::default() });
    };
    let manifest = found.manifest;
    if shared < manifest.epoch {
        notes.push(format!(
            "checkpoint {} is of another past than the output here, which was put out otherwise \
             since checkpoint {shared}: parts behind that one are moved aside; those of epochs {} \
             to {} that belong to this past lie aside too, if they were here",
            manifest.epoch,
            shared + 1,
            manifest.epoch,
        ));
    }
    notes.push(format!("goes on behind checkpoint {}", manifest.epoch));
    let restored = Restored { shards: found.shards, epoch: manifest.epoch };
    let position = |source: super::manifest::SourceAt| Some((source.name, source.position?));
    let from = From {
        positions: manifest.sources.into_iter().filter_map(position).collect(),
        restored: Some(Arc::new(restored)),
    };
    Ok(Resume { store, from, durable: Some(manifest.epoch), newest, shared, copier })
}

/// What the AWS tools would take from the environment.
pub fn aws_settings() -> Vec<(String, String)> {
    std::env::vars().filter(|(name, _)| name.starts_with("AWS_")).collect()
}

fn of(error: PortError) -> RunError {
    RunError::Failed(flow::RunError::of("checkpoint", error))
}

/// An error about what was typed or written in the file.
fn named(what: &str, error: PortError) -> RunError {
    match error {
        PortError::Setup(why) => RunError::Setup(format!("{what}: {why}")),
        error => RunError::Failed(flow::RunError::of("checkpoint", format!("{what}: {error}"))),
    }
}

/// The newest checkpoint here, where there is none the remote's; up to which epoch parts are of
/// its past; and the remote.
fn latest(
    keeper: &mut Keeper,
    run: (&Pipeline, usize),
    remote: Option<Objects>,
    notes: &mut Vec<String>,
) -> Result<(Option<Found>, u64, Option<Objects>), RunError> {
    if let Some(found) = keeper.folder.latest(notes).map_err(of)? {
        fits(run, &found)?;
        let newest = keeper.folder.epochs().map_err(of)?.first().copied();
        let shared = if newest == Some(found.manifest.epoch) {
            keeper.follow(Some(&found.manifest))
        } else {
            leave_line(keeper, &found.manifest)?
        };
        return Ok((Some(found), shared, remote));
    }
    keeper.follow(None);
    let Some(objects) = remote else { return Ok((None, 0, None)) };
    let url = objects.url.clone();
    let origin = Origin::Remote(objects);
    let epochs = origin.epochs().map_err(|error| {
        of(PortError::Data(format!(
            "there is no checkpoint in `{}`, and `{url}` cannot be asked for one: {error}; \
             `--restore none` starts afresh without it",
            keeper.folder.path.display()
        )))
    })?;
    let found = match epochs.is_empty() {
        true => None,
        false => Some(go_to(keeper, run, &origin, None, notes)?),
    };
    let Origin::Remote(objects) = origin else { unreachable!("it was made above") };
    let (found, shared) = found.map_or((None, 0), |(found, shared)| (Some(found), shared));
    Ok((found, shared, Some(objects)))
}

/// Notes that this run leaves the line of the newest checkpoint.
fn leave_line(keeper: &mut Keeper, from: &Manifest) -> Result<u64, RunError> {
    let before = keeper.folder.newest_manifest().map_err(of)?;
    keeper.begin(from, before.as_ref()).map_err(of)
}

/// Makes the checkpoint of this epoch, or the newest whole one, the newest here; says up to which
/// epoch parts are of its past.
fn go_to(
    keeper: &mut Keeper,
    run: (&Pipeline, usize),
    origin: &Origin,
    epoch: Option<u64>,
    notes: &mut Vec<String>,
) -> Result<(Found, u64), RunError> {
    if let Origin::Folder(folder) = origin
        && keeper.folder.path.canonicalize().is_ok_and(|own| own == folder.path)
    {
        return go_back(keeper, run, epoch, notes);
    }
    let epochs = match epoch {
        Some(epoch) => vec![epoch],
        None => origin.epochs().map_err(of)?,
    };
    let mut last = None;
    for epoch in epochs {
        let incoming = keeper.incoming().map_err(of)?;
        match origin.bring(epoch, &incoming).and_then(|()| incoming.read(epoch)) {
            Ok(mut found) => {
                let fitting = fits(run, &found);
                if let Err(error) = fitting {
                    keeper.drop_incoming().map_err(of)?;
                    return Err(error);
                }
                let shared = leave_line(keeper, &found.manifest)?;
                let aside = keeper.take_in(&incoming, &mut found).map_err(of)?;
                notes.extend(aside.map(|(count, aside)| moved(count, "present", &aside)));
                if let Origin::Remote(objects) = origin {
                    let (files, bytes) = (found.manifest.files.len(), found.manifest.full());
                    notes.push(format!(
                        "checkpoint {epoch} was fetched from `{}`: {files} files, {bytes} bytes",
                        objects.url
                    ));
                }
                return Ok((found, shared));
            }
            Err(error @ PortError::Data(_)) => {
                notes.push(format!("checkpoint {epoch} is not used: {error}"));
                last = Some(error);
            }
            Err(error) => return Err(of(error)),
        }
    }
    keeper.drop_incoming().map_err(of)?;
    Err(last.map_or_else(
        || gone("there"),
        |error| of(PortError::Data(format!("no whole checkpoint was found: {error}"))),
    ))
}

/// As [`go_to`], for a checkpoint that lies here.
fn go_back(
    keeper: &mut Keeper,
    run: (&Pipeline, usize),
    epoch: Option<u64>,
    notes: &mut Vec<String>,
) -> Result<(Found, u64), RunError> {
    let found = match epoch {
        Some(epoch) => Some(keeper.folder.read(epoch).map_err(of)?),
        None => keeper.folder.latest(notes).map_err(of)?,
    };
    let found = found.ok_or_else(|| gone(keeper.folder.path.display()))?;
    fits(run, &found)?;
    let epoch = found.manifest.epoch;
    let newest = keeper.folder.epochs().map_err(of)?.first().copied();
    if newest == Some(epoch) {
        let shared = keeper.follow(Some(&found.manifest));
        return Ok((found, shared));
    }
    let shared = leave_line(keeper, &found.manifest)?;
    let aside = keeper.set_aside_those(|each| each > epoch).map_err(of)?;
    notes.extend(aside.map(|(count, aside)| moved(count, "newer", &aside)));
    Ok((found, shared))
}

fn gone(place: impl std::fmt::Display) -> RunError {
    of(PortError::Data(format!("there is no checkpoint any more ({place})")))
}

fn moved(count: usize, which: &str, aside: &Path) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {which} checkpoint{s} moved to {}", aside.display())
}

/// Refuses a checkpoint that is not of this pipeline, or not for so many shards.
fn fits((pipeline, shards): (&Pipeline, usize), found: &Found) -> Result<(), RunError> {
    let manifest = &found.manifest;
    let other = |reason: String| Err(RunError::Failed(flow::RunError::of("checkpoint", reason)));
    if manifest.pipeline != pipeline.name {
        return other(format!(
            "checkpoint {} is of the pipeline `{}`, and this one is `{}`; give each pipeline a \
             `data_dir` of its own",
            manifest.epoch, manifest.pipeline, pipeline.name
        ));
    }
    let is_gone = |name: &str| pipeline.sources.iter().all(|plan| plan.name != name);
    if let Some(gone) = manifest.sources.iter().find(|source| is_gone(&source.name)) {
        return other(format!(
            "the checkpoint knows how far the source `{}` was read, and the pipeline has no such \
             source: under another name its rows would come again; put the name back, or start \
             afresh with `--restore none`",
            gone.name
        ));
    }
    Ok(flight::can_take_up(&found.shards, shards)?)
}
