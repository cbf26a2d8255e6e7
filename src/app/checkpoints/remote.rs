//! Checkpoints in a far place.
//!
//! ```text
//! files/XXH3-BYTES          a file's content, whichever checkpoints and shards have it
//! checkpoints/EPOCH.json    a manifest and the object of each of its files, sealed
//! aside-N/EPOCH.json        manifests of a past that a run did not go on from
//! ```
//!
//! 1. A manifest is put when all objects that it names are there: that makes the copy.
//! 2. Objects are named by what is in them (XXH3 of 128 bits and the length), so a file that
//!    several checkpoints have is sent once, and what comes back can be checked.
//! 3. A manifest is removed before its objects, and these only when no other manifest, also none
//!    set aside, names them.
//! 4. One pipeline has the place for itself: a manifest of another one is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::files::{content_name, make_folder};
use super::folder::{Folder, damaged};
use super::keeper;
use super::manifest::{Manifest, VERSION, epoch_name, epoch_of, seal, shard_name, unseal};
use crate::edge::file::parts::{failure, sync_folder};
use crate::edge::objects::Objects;
use crate::port::PortError;

const FILES: &str = "files";
const CHECKPOINTS: &str = "checkpoints";

/// A manifest in the far place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    version: u32,
    pub manifest: Manifest,
    /// The object of each file, in their order, without its folder.
    objects: Vec<String>,
}

impl Copied {
    fn parse(name: &str, bytes: &[u8]) -> Result<Copied, PortError> {
        let copied: Copied =
            unseal(bytes).map_err(|why| PortError::Data(format!("the object `{name}`: {why}")))?;
        let strays = copied.manifest.files.iter().any(|file| file.place().is_none());
        if strays || copied.objects.len() != copied.manifest.files.len() {
            return Err(PortError::Data(format!("the object `{name}`: its files are not named")));
        }
        Ok(copied)
    }
}

fn manifest_name(epoch: u64) -> String {
    format!("{CHECKPOINTS}/{}.json", epoch_name(epoch))
}

/// Epochs of which the place has a manifest, the newest first.
///
/// # Errors
/// [`PortError::Io`] if the place cannot be asked.
pub fn epochs(objects: &Objects) -> Result<Vec<u64>, PortError> {
    let listed = objects.list(CHECKPOINTS)?;
    let epoch = |(name, _): &(String, u64)| epoch_of(name.rsplit('/').next().unwrap_or(""));
    let mut epochs: Vec<u64> = listed.iter().filter_map(epoch).collect();
    epochs.sort_unstable_by(|a, b| b.cmp(a));
    Ok(epochs)
}

/// Brings a checkpoint into an empty folder, all of it compared with its objects' names.
///
/// # Errors
/// [`PortError::Data`] if it is damaged there, [`PortError::Io`] if it cannot be had.
pub fn fetch(objects: &Objects, epoch: u64, into: &Folder) -> Result<(), PortError> {
    let name = manifest_name(epoch);
    let Copied { manifest, objects: names, .. } = Copied::parse(&name, &objects.get(&name)?)?;
    let folder = into.files(epoch);
    for number in 0..manifest.shards {
        make_folder(&folder.join(shard_name(number)))?;
    }
    let mut fetched: BTreeMap<&str, &str> = BTreeMap::new();
    for (file, object) in manifest.files.iter().zip(&names) {
        let to = folder.join(&file.name);
        if let Some(same) = fetched.get(object.as_str()) {
            super::files::link_or_copy(&folder.join(same), &to)?;
            continue;
        }
        objects.get_file(&format!("{FILES}/{object}"), &to)?;
        if content_name(&to)? != *object {
            return Err(damaged(&to, &format!("the object `{FILES}/{object}` is damaged")));
        }
        fetched.insert(object, &file.name);
    }
    for number in 0..manifest.shards {
        sync_folder(&folder.join(shard_name(number)))?;
    }
    sync_folder(&folder)?;
    keeper::show(into, &manifest)
}

/// The copies of one run: what the place has, and what it gets.
pub struct Copies {
    objects: Arc<Objects>,
    pipeline: String,
    retained: usize,
    /// Manifests there: of this past by epoch, and those set aside.
    shown: BTreeMap<u64, Copied>,
    aside: Vec<Copied>,
    /// Objects there.
    known: BTreeSet<String>,
    /// Objects of files that were read, by what tells a file from another: links share it.
    names: BTreeMap<FileKey, String>,
}

/// Device, number, length, and when it was written, in ns: a number is used again.
type FileKey = (u64, u64, u64, i64);

impl Copies {
    /// Finds what the place has. Manifests behind `from`, the checkpoint that the run goes on
    /// from, are of another past: they are moved to `aside-N`.
    ///
    /// # Errors
    /// [`PortError`]; then it is to be tried again.
    pub fn open(
        objects: Arc<Objects>,
        pipeline: &str,
        retained: usize,
        from: Option<&Manifest>,
    ) -> Result<Copies, PortError> {
        let mut copies = Copies {
            objects,
            pipeline: pipeline.to_string(),
            retained,
            shown: BTreeMap::new(),
            aside: Vec::new(),
            known: BTreeSet::new(),
            names: BTreeMap::new(),
        };
        let mut asides = 0;
        for (name, _) in copies.objects.list("")? {
            let words: Vec<&str> = name.split('/').collect();
            let &[folder, last] = words.as_slice() else { continue };
            if let Some(number) = folder.strip_prefix("aside-").and_then(|n| n.parse().ok()) {
                asides = asides.max(number);
            } else if folder == FILES {
                copies.known.insert(last.to_string());
                continue;
            } else if folder != CHECKPOINTS {
                continue;
            }
            let Some(epoch) = epoch_of(last) else { continue };
            let copied = match Copied::parse(&name, &copies.objects.get(&name)?) {
                Ok(copied) => copied,
                // A damaged one names nothing that could be kept for it.
                Err(PortError::Data(_)) => continue,
                Err(error) => return Err(error),
            };
            if copied.manifest.pipeline != pipeline {
                return Err(PortError::Setup(format!(
                    "it has checkpoints of the pipeline `{}`; give each pipeline a place of its own",
                    copied.manifest.pipeline
                )));
            }
            if folder == CHECKPOINTS {
                copies.shown.insert(epoch, copied);
            } else {
                copies.aside.push(copied);
            }
        }
        copies.set_aside(asides + 1, from)?;
        copies.sweep()?;
        Ok(copies)
    }

    fn set_aside(&mut self, number: u64, from: Option<&Manifest>) -> Result<(), PortError> {
        let newest = from.map_or(0, |from| from.epoch);
        let is_other = |epoch: u64, copied: &Copied| {
            epoch > newest || epoch == newest && from != Some(&copied.manifest)
        };
        let others: Vec<u64> = self
            .shown
            .iter()
            .filter(|(e, copied)| is_other(**e, copied))
            .map(|(e, _)| *e)
            .collect();
        for epoch in others.into_iter().rev() {
            let Some(copied) = self.shown.get(&epoch) else { continue };
            let aside = format!("aside-{number}/{}.json", epoch_name(epoch));
            self.objects.put(&aside, seal(copied).into_bytes())?;
            self.objects.remove(&manifest_name(epoch))?;
            self.aside.extend(self.shown.remove(&epoch));
        }
        Ok(())
    }

    /// Whether the place has this checkpoint.
    pub fn has(&self, epoch: u64) -> bool {
        self.shown.contains_key(&epoch)
    }

    /// Copies a checkpoint of `folder`, then drops old ones.
    ///
    /// # Errors
    /// [`PortError`]; what was sent is not sent again.
    pub fn copy(&mut self, folder: &Folder, epoch: u64) -> Result<(), PortError> {
        let manifest = folder.read_manifest(epoch)?;
        let mut objects = Vec::with_capacity(manifest.files.len());
        for file in &manifest.files {
            let path = folder.files(epoch).join(&file.name);
            let object = self.object(&path)?;
            if !self.known.contains(&object) {
                self.objects.put_file(&format!("{FILES}/{object}"), &path)?;
                self.known.insert(object.clone());
            }
            objects.push(object);
        }
        debug_assert_eq!(manifest.pipeline, self.pipeline);
        let copied = Copied { version: VERSION, manifest, objects };
        self.objects.put(&manifest_name(epoch), seal(&copied).into_bytes())?;
        self.shown.insert(epoch, copied);
        self.drop_old()
    }

    fn object(&mut self, path: &Path) -> Result<String, PortError> {
        let about = fs::metadata(path).map_err(|error| failure("read", path, error))?;
        let written_ns = about.mtime() * 1_000_000_000 + about.mtime_nsec();
        let key = (about.dev(), about.ino(), about.len(), written_ns);
        if let Some(name) = self.names.get(&key) {
            return Ok(name.clone());
        }
        let name = content_name(path)?;
        self.names.insert(key, name.clone());
        Ok(name)
    }

    fn drop_old(&mut self) -> Result<(), PortError> {
        while self.shown.len() > self.retained {
            let (&epoch, _) = self.shown.first_key_value().expect("it is not empty");
            self.objects.remove(&manifest_name(epoch))?;
            self.shown.remove(&epoch);
        }
        self.sweep()
    }

    /// Removes the objects that no manifest names (invariant 3): those of dropped checkpoints, and
    /// of copies that came to nothing.
    fn sweep(&mut self) -> Result<(), PortError> {
        let named: BTreeSet<&String> =
            self.shown.values().chain(&self.aside).flat_map(|copied| &copied.objects).collect();
        let unnamed = self.known.iter().filter(|object| !named.contains(object));
        for object in unnamed.cloned().collect::<Vec<_>>() {
            self.objects.remove(&format!("{FILES}/{object}"))?;
            self.known.remove(&object);
        }
        let known = &self.known;
        self.names.retain(|_, object| known.contains(object));
        Ok(())
    }
}
