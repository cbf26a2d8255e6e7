//! A folder of checkpoints, read: which there are, which are whole, what is in them.
//!
//! 1. What is read is checked: lengths and checksums stand in the manifest, and its own checksum
//!    at its end. A damaged checkpoint is named, and the one before it is used.
//! 2. Reading takes no lock. A run beside it may drop a checkpoint meanwhile, manifest first: so
//!    one whose manifest has gone is not damaged, it is no more.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{self, Damage, damages};
use super::manifest::{Manifest, ShardFile, epoch_name, epoch_of, shard_name, unseal};
use crate::edge::file::parts::{failure, sync_folder};
use crate::flow::snapshot::{LOG, ReadRows, RestoredShard};
use crate::port::PortError;

/// A checkpoint that was read and found whole.
#[derive(Debug)]
pub struct Found {
    pub manifest: Manifest,
    /// What the shards gave.
    pub shards: Vec<RestoredShard>,
}

/// A checkpoint that was looked at.
#[derive(Debug)]
pub struct Seen {
    pub epoch: u64,
    /// None if it cannot be read.
    pub manifest: Option<Manifest>,
    /// Nothing if it is whole.
    pub damages: Vec<Damage>,
}

/// Files that were read and found whole: checkpoints share them.
#[derive(Debug, Default)]
pub struct Whole(BTreeSet<(u64, u64, Option<String>)>);

/// The folder: `checkpoints` of a `data_dir`, or a savepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    pub path: PathBuf,
}

/// Reads these files of a shard again, wherever its folder is by then.
fn read_rows(files: Vec<ShardFile>) -> ReadRows {
    ReadRows(Arc::new(move |folder: &Path, name: &str| {
        let file = files.iter().find(|file| file.name == name);
        let bytes = file.map(|file| files::read(folder, file)).transpose()?.flatten();
        bytes.ok_or_else(|| damaged(&folder.join(name), "it is missing"))
    }))
}

impl Folder {
    /// A checkpoint's manifest.
    pub fn manifest(&self, epoch: u64) -> PathBuf {
        self.path.join(format!("{}.json", epoch_name(epoch)))
    }

    /// The folder of a checkpoint's files.
    pub fn files(&self, epoch: u64) -> PathBuf {
        self.path.join(epoch_name(epoch))
    }

    /// Epochs that have a manifest, the newest first.
    ///
    /// # Errors
    /// [`PortError`] if the folder is there and cannot be listed.
    pub fn epochs(&self) -> Result<Vec<u64>, PortError> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| failure("list the folder", &self.path, error))?,
        };
        let mut epochs = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failure("list the folder", &self.path, error))?;
            epochs.extend(entry.file_name().to_str().and_then(epoch_of));
        }
        epochs.sort_unstable_by(|a, b| b.cmp(a));
        Ok(epochs)
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// [`PortError`] that names it.
    pub fn read_manifest(&self, epoch: u64) -> Result<Manifest, PortError> {
        let path = self.manifest(epoch);
        let bytes = fs::read(&path).map_err(|error| failure("read", &path, error))?;
        let manifest: Manifest = unseal(&bytes).map_err(|why| damaged(&path, &why))?;
        let is_of = |file: &super::manifest::ShardFile| {
            file.place().is_some_and(|(number, _)| number < manifest.shards)
        };
        if let Some(stray) = manifest.files.iter().find(|file| !is_of(file)) {
            return Err(damaged(&path, &format!("`{}` is of no shard", stray.name)));
        }
        Ok(manifest)
    }

    /// Reads a checkpoint and all that is in it.
    ///
    /// # Errors
    /// [`PortError`] with the first thing that is wrong.
    pub fn read(&self, epoch: u64) -> Result<Found, PortError> {
        let manifest = self.read_manifest(epoch)?;
        let folder = self.files(epoch);
        let shard = |number: usize| RestoredShard {
            folder: folder.join(shard_name(number)),
            ..RestoredShard::default()
        };
        let mut shards: Vec<RestoredShard> = (0..manifest.shards).map(shard).collect();
        for file in &manifest.files {
            let (number, name) = file.place().expect("`read_manifest` has looked at it");
            let (shard, name) = (&mut shards[number], name.to_string());
            match files::read(&folder, file)? {
                Some(_) if name.starts_with(LOG) => shard.rows.push(name),
                Some(bytes) => shard.read.push((name, bytes)),
                None => shard.unread.push(name),
            }
        }
        for (number, shard) in shards.iter_mut().enumerate() {
            let of_shard = manifest.files.iter().filter_map(|file| {
                let (of, name) = file.place()?;
                (of == number).then(|| ShardFile { name: name.to_string(), ..file.clone() })
            });
            shard.read_rows = Some(read_rows(of_shard.collect()));
        }
        Ok(Found { manifest, shards })
    }

    /// The newest manifest that can be read, if there is one.
    ///
    /// # Errors
    /// [`PortError`] if the folder cannot be listed.
    pub fn newest_manifest(&self) -> Result<Option<Manifest>, PortError> {
        Ok(self.epochs()?.into_iter().find_map(|epoch| self.read_manifest(epoch).ok()))
    }

    /// The newest checkpoint that is whole; what was wrong with newer ones is added to `notes`.
    ///
    /// # Errors
    /// [`PortError`] if there are checkpoints and none is whole, or the disk fails.
    pub fn latest(&self, notes: &mut Vec<String>) -> Result<Option<Found>, PortError> {
        let epochs = self.epochs()?;
        for &epoch in &epochs {
            match self.read(epoch) {
                Ok(found) => {
                    // A run that was killed may have left a name that a power cut would take back,
                    // and parts are shown because of it.
                    sync_folder(&self.path)?;
                    return Ok(Some(found));
                }
                // Not damage: the next start may be able to read it, and the parts that were shown
                // for it would be those of a past that this one gave up.
                Err(error @ PortError::Io { .. }) if !is_missing(&error) => return Err(error),
                Err(error) => notes.push(format!("checkpoint {epoch} is not used: {error}")),
            }
        }
        if epochs.is_empty() {
            return Ok(None);
        }
        Err(PortError::Data(format!(
            "none of the {} checkpoints in `{}` is whole; `--restore none` starts afresh and keeps \
             them aside",
            epochs.len(),
            self.path.display()
        )))
    }

    /// Looks at a checkpoint; reads all of it if that is to be `deep`. None if a run has dropped
    /// it meanwhile (invariant 2).
    ///
    /// # Errors
    /// [`PortError::Io`] if what is there cannot be read.
    pub fn look(
        &self,
        epoch: u64,
        deep: bool,
        whole: &mut Whole,
    ) -> Result<Option<Seen>, PortError> {
        let seen = self.look_once(epoch, deep, whole);
        if self.manifest(epoch).exists() { seen.map(Some) } else { Ok(None) }
    }

    fn look_once(&self, epoch: u64, deep: bool, whole: &mut Whole) -> Result<Seen, PortError> {
        let manifest = match self.read_manifest(epoch) {
            Ok(manifest) => manifest,
            Err(error @ PortError::Io { .. }) => return Err(error),
            Err(error) => {
                let damage =
                    Damage::whole(&format!("{}.json", epoch_name(epoch)), error.to_string());
                return Ok(Seen { epoch, manifest: None, damages: vec![damage] });
            }
        };
        let folder = self.files(epoch);
        let mut found = Vec::new();
        for file in &manifest.files {
            let about = fs::metadata(folder.join(&file.name)).ok();
            let key = about.map(|about| (about.dev(), about.ino(), file.xxh3.clone()));
            if key.as_ref().is_some_and(|key| whole.0.contains(key)) {
                continue;
            }
            let wrong = damages(&folder, file, deep)?;
            if wrong.is_empty() {
                whole.0.extend(key);
            }
            found.extend(wrong);
        }
        Ok(Seen { epoch, manifest: Some(manifest), damages: found })
    }
}

/// An error that names what is damaged.
pub fn damaged(path: &Path, why: &str) -> PortError {
    PortError::Data(format!("`{}`: {why}", path.display()))
}

/// Whether what failed is a file that is not there.
fn is_missing(error: &PortError) -> bool {
    matches!(error, PortError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}
