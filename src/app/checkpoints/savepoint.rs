//! Savepoints: a checkpoint kept in a folder of its own, whatever becomes of the `data_dir`.
//!
//! 1. Its files are copies that nobody shares (or links, if that is asked for), durable before the
//!    manifest; then all of it is read and checked.
//! 2. A run beside it may go on: what is to be copied is linked first, so that the run may drop
//!    it. Should it be dropped before that, the next one is taken.

use std::fs;
use std::path::{Path, PathBuf};

use super::files::{copy, link_or_copy, make_folder};
use super::folder::{Folder, Whole, damaged};
use super::manifest::Manifest;
use super::place::bring;
use crate::edge::file::parts::failure;
use crate::port::PortError;

/// So often a checkpoint may be dropped by the run beside before it could be linked.
const TRIES: usize = 10;

/// What is to be saved, and how.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// None for the newest whole one.
    pub epoch: Option<u64>,
    /// Link where the file systems let it.
    pub is_linked: bool,
}

/// Saves a checkpoint of `from` in the new folder `dest`.
///
/// # Errors
/// [`PortError::Setup`] if `dest` holds something or there is no such checkpoint;
/// [`PortError::Data`] if none is whole.
pub fn savepoint(
    from: &Folder,
    wish: Wish,
    dest: &Path,
    notes: &mut Vec<String>,
) -> Result<Manifest, PortError> {
    let is_used = dest.is_file() || fs::read_dir(dest).is_ok_and(|mut all| all.next().is_some());
    if is_used {
        return Err(PortError::Setup(format!(
            "`{}` holds something already; a savepoint needs a new folder",
            dest.display()
        )));
    }
    make_folder(dest)?;
    let dest = Folder { path: dest.to_path_buf() };
    for _ in 0..TRIES {
        let epochs = from.epochs()?;
        let wanted: Vec<u64> = match wish.epoch {
            Some(epoch) if epochs.contains(&epoch) => vec![epoch],
            Some(epoch) => return Err(no_such(from, epoch, &epochs)),
            None => epochs,
        };
        let mut was_dropped = false;
        for epoch in wanted {
            match save(from, epoch, &dest, wish.is_linked) {
                Ok(manifest) => return Ok(manifest),
                Err(_) if !from.manifest(epoch).exists() => was_dropped = true,
                Err(error) => notes.push(format!("checkpoint {epoch} is not used: {error}")),
            }
            clear(&dest)?;
            if was_dropped {
                break;
            }
        }
        if !was_dropped {
            break;
        }
    }
    Err(damaged(&from.path, "it has no whole checkpoint that could be saved"))
}

/// Says which epochs there are.
pub fn no_such(folder: &Folder, epoch: u64, there: &[u64]) -> PortError {
    let there: Vec<String> = there.iter().map(u64::to_string).collect();
    PortError::Setup(format!(
        "`{}` has no checkpoint {epoch}; it has {}",
        folder.path.display(),
        if there.is_empty() { "none".to_string() } else { there.join(", ") }
    ))
}

fn save(from: &Folder, epoch: u64, dest: &Folder, is_linked: bool) -> Result<Manifest, PortError> {
    if is_linked {
        bring(from, epoch, dest, link_or_copy)?;
    } else {
        match Held::new(from, epoch)? {
            Some(held) => bring(&held.folder, epoch, dest, copy)?,
            None => bring(from, epoch, dest, copy)?,
        }
    }
    let seen = dest.look(epoch, true, &mut Whole::default())?;
    let seen = seen.ok_or_else(|| damaged(&dest.path, "its manifest has gone"))?;
    match (seen.damages.first(), seen.manifest) {
        (None, Some(manifest)) => Ok(manifest),
        (damage, _) => {
            let why = damage.map(ToString::to_string).unwrap_or_default();
            Err(damaged(&from.files(epoch), &why))
        }
    }
}

fn clear(dest: &Folder) -> Result<(), PortError> {
    let failed = |error| failure("clear the folder", &dest.path, error);
    for entry in fs::read_dir(&dest.path).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(failed)?;
    }
    Ok(())
}

/// Links to a checkpoint's files beside it, as long as this lives (invariant 2).
struct Held {
    folder: Folder,
}

impl Held {
    /// None where there may be no links: then the checkpoint is copied as it lies.
    fn new(from: &Folder, epoch: u64) -> Result<Option<Held>, PortError> {
        let place = |number: u32| -> PathBuf {
            from.path.join(format!("saving-{}-{number}", std::process::id()))
        };
        let path = (0..).map(place).find(|path| !path.exists());
        let held = Held { folder: Folder { path: path.expect("some number is free") } };
        fn link(from: &Path, to: &Path) -> Result<(), PortError> {
            fs::hard_link(from, to).map_err(|error| failure("link", from, error))
        }
        match bring(from, epoch, &held.folder, link) {
            Ok(()) => Ok(Some(held)),
            Err(PortError::Data(why)) => Err(PortError::Data(why)),
            Err(_) => Ok(None),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Links that stay take no room but their names; the next savepoint does not mind them.
        let _ = fs::remove_dir_all(&self.folder.path);
    }
}
