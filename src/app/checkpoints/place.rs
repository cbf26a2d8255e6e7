//! Where checkpoints lie that a path or an address names, and how one of them gets here.

use std::fs;
use std::path::Path;

use super::files::{link_or_copy, make_folder};
use super::folder::Folder;
use super::keeper;
use super::manifest::{epoch_name, epoch_of, shard_name};
use super::remote;
use crate::edge::file::parts::sync_folder;
use crate::edge::objects::{Objects, is_url};
use crate::port::PortError;

/// Checkpoints, or one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub folder: Folder,
    /// The one that is meant; none for the newest whole one.
    pub epoch: Option<u64>,
}

impl Place {
    /// What a path means: a manifest, a checkpoint's folder, a savepoint, a folder of checkpoints,
    /// or a `data_dir`.
    ///
    /// # Errors
    /// [`PortError::Setup`] if it is none of these.
    pub fn find(path: &Path) -> Result<Place, PortError> {
        let shown = path.display();
        let wrong = |why: &str| {
            Err(PortError::Setup(format!(
                "`{shown}`: {why}; name a checkpoint's manifest or folder, a savepoint or a \
                 `data_dir`"
            )))
        };
        // So that `.` and links have a name and a folder above.
        let Ok(real) = path.canonicalize() else { return wrong("there is no such file or folder") };
        let name = real.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let above = real.parent().unwrap_or(Path::new("/"));
        if real.is_file() {
            return match epoch_of(name) {
                Some(epoch) => {
                    Ok(Place { folder: Folder { path: above.into() }, epoch: Some(epoch) })
                }
                None => wrong("it is no checkpoint's manifest"),
            };
        }
        if let Some(epoch) = epoch_of(&format!("{name}.json"))
            && name == epoch_name(epoch)
        {
            let folder = Folder { path: above.into() };
            return match folder.manifest(epoch).exists() {
                true => Ok(Place { folder, epoch: Some(epoch) }),
                false => wrong(&format!(
                    "the checkpoint was never done, or its manifest `{name}.json` beside it is gone"
                )),
            };
        }
        for folder in [Folder { path: real.clone() }, Folder { path: real.join("checkpoints") }] {
            if !folder.epochs()?.is_empty() {
                return Ok(Place { folder, epoch: None });
            }
        }
        wrong("there is no checkpoint in it")
    }
}

/// Where a checkpoint is brought from.
pub enum Origin {
    Folder(Folder),
    Remote(Objects),
}

impl Origin {
    /// Finds it by what was typed: a path, or an address whose end may be a manifest's.
    ///
    /// # Errors
    /// [`PortError`]; [`PortError::Setup`] if it cannot be meant.
    pub fn find(
        text: &str,
        settings: &[(String, String)],
    ) -> Result<(Origin, Option<u64>), PortError> {
        if !is_url(text) {
            let place = Place::find(Path::new(text))?;
            return Ok((Origin::Folder(place.folder), place.epoch));
        }
        let (above, last) = text.rsplit_once('/').unwrap_or((text, ""));
        let epoch =
            above.strip_suffix("/checkpoints").and_then(|root| Some((root, epoch_of(last)?)));
        let (root, epoch) = epoch.map_or((text, None), |(root, epoch)| (root, Some(epoch)));
        Ok((Origin::Remote(Objects::open(root, settings)?), epoch))
    }

    /// Epochs that are there, the newest first.
    ///
    /// # Errors
    /// [`PortError`].
    pub fn epochs(&self) -> Result<Vec<u64>, PortError> {
        match self {
            Origin::Folder(folder) => folder.epochs(),
            Origin::Remote(objects) => remote::epochs(objects),
        }
    }

    /// Brings a checkpoint into an empty folder, durably: by links, copies or over the network.
    ///
    /// # Errors
    /// [`PortError::Data`] if it is not whole there; others if it cannot be had.
    pub fn bring(&self, epoch: u64, into: &Folder) -> Result<(), PortError> {
        match self {
            Origin::Folder(folder) => bring(folder, epoch, into, link_or_copy),
            Origin::Remote(objects) => remote::fetch(objects, epoch, into),
        }
    }
}

/// Puts a file of a checkpoint into another.
pub type PutFile = fn(&Path, &Path) -> Result<(), PortError>;

/// Brings a checkpoint from one folder into another, file by file.
///
/// # Errors
/// As [`Origin::bring`].
pub fn bring(from: &Folder, epoch: u64, into: &Folder, put: PutFile) -> Result<(), PortError> {
    let manifest = from.read_manifest(epoch)?;
    let (source, target) = (from.files(epoch), into.files(epoch));
    let mut folders: Vec<_> =
        (0..manifest.shards).map(|number| target.join(shard_name(number))).collect();
    folders.iter().try_for_each(|folder| make_folder(folder))?;
    for file in &manifest.files {
        let file_there = source.join(&file.name);
        if fs::metadata(&file_there).is_err() {
            return Err(super::folder::damaged(&file_there, "it is missing"));
        }
        put(&file_there, &target.join(&file.name))?;
    }
    folders.push(target);
    folders.iter().try_for_each(|folder| sync_folder(folder))?;
    keeper::show(into, &manifest)
}
