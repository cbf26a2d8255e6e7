//! The checkpoints of a run in its `data_dir`: written, kept, set aside.
//!
//! 1. A manifest is written under another name, synced and renamed when all that it names is
//!    durable; then the folder is synced.
//! 2. The newest `retained` checkpoints are kept, and one that is being copied to the remote. A
//!    manifest goes before the files that it names.
//! 3. Checkpoints newer than the one that a run is told to go on from are moved aside, the newest
//!    first, and only when that one lies whole in the folder: a crash between leaves a folder
//!    whose newest checkpoint can be gone on from.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::files::{link_or_copy, write_summed, write_synced};
use super::folder::{Folder, Found};
use super::manifest::{
    Line, Manifest, Past, ShardFile, SourceAt, VERSION, seal, shard_name, unseal,
};
use super::outgoing::Outgoing;
use crate::edge::file::parts::{failure, sync_folder};
use crate::flow::epochs::{Bytes, Checkpoint, Share, Store};
use crate::port::PortError;
use crate::store::manifest::NAME as TREE_MANIFEST;

/// What a restored checkpoint is called until it is known to be whole and to fit.
const INCOMING: &str = "restoring";

/// See the module's head.
pub struct Keeper {
    /// Held while the run lasts: another one in the same `data_dir` would undo its work.
    lock: Option<File>,
    pub folder: Folder,
    pipeline: String,
    retained: usize,
    /// The line of runs that new checkpoints stand in.
    past: Vec<Past>,
    /// Told of every durable checkpoint, if there is a remote.
    outgoing: Option<Arc<Outgoing>>,
}

impl Keeper {
    /// The checkpoints of a pipeline in its `data_dir`; made when the first one is written.
    pub fn new(data_dir: &Path, pipeline: &str, retained: usize) -> Keeper {
        let folder = Folder { path: data_dir.join("checkpoints") };
        let (pipeline, retained) = (pipeline.to_string(), retained.max(1));
        Keeper { lock: None, folder, pipeline, retained, past: Vec::new(), outgoing: None }
    }

    /// Goes on in the line of the newest checkpoint, or in one that was begun behind it; begins
    /// one where there is no checkpoint. Gives the last epoch whose parts are of its past.
    pub fn follow(&mut self, from: Option<&Manifest>) -> u64 {
        let Some(from) = from else {
            self.past = vec![new_past(0)];
            return 0;
        };
        match self.line().filter(|line| line.begins_behind(from)) {
            Some(line) => {
                self.past = line.past;
                line.shared.min(from.epoch)
            }
            None => {
                self.past = from.past.clone();
                from.epoch
            }
        }
    }

    /// Begins another line behind `from`; `before` was the newest checkpoint here. Gives the last
    /// epoch whose parts are of its past. To be called before anything is moved: what is found
    /// after a crash is gone on from in the same way.
    ///
    /// # Errors
    /// [`PortError`], with the path.
    pub fn begin(&mut self, from: &Manifest, before: Option<&Manifest>) -> Result<u64, PortError> {
        let mut shared = before.map_or(from.epoch, |before| from.shared_with(before));
        if let (Some(line), Some(before)) = (self.line(), before)
            && line.begins_behind(before)
        {
            shared = shared.min(line.shared);
        }
        self.past = from.past.clone();
        self.past.push(new_past(from.epoch));
        let line = Line { version: VERSION, past: self.past.clone(), shared };
        super::files::make_folder(&self.folder.path)?;
        write_renamed(&self.line_path(), &line)?;
        Ok(shared)
    }

    fn line_path(&self) -> PathBuf {
        self.folder.path.join("line.json")
    }

    /// The line that was begun last; none if there is none, or none that can be read: then it is
    /// as if every run had gone on from the newest checkpoint.
    fn line(&self) -> Option<Line> {
        fs::read(self.line_path()).ok().and_then(|bytes| unseal(&bytes).ok())
    }

    /// Tells `outgoing` of every checkpoint from now on.
    pub fn tell(&mut self, outgoing: Arc<Outgoing>) {
        self.outgoing = Some(outgoing);
    }

    fn data_dir(&self) -> &Path {
        self.folder.path.parent().unwrap_or(Path::new("."))
    }

    /// Makes the `data_dir` this process's own until it ends, however it ends.
    ///
    /// # Errors
    /// [`PortError::Setup`] if another run has it.
    pub fn lock(&mut self) -> Result<(), PortError> {
        let data_dir = self.data_dir();
        fs::create_dir_all(data_dir)
            .map_err(|error| failure("make the folder", data_dir, error))?;
        let path = data_dir.join("lock");
        let file = File::create(&path).map_err(|error| failure("write", &path, error))?;
        match file.try_lock() {
            Ok(()) => self.lock = Some(file),
            Err(fs::TryLockError::WouldBlock) => {
                return Err(PortError::Setup(format!(
                    "another run uses `{}`; wait for its end, or give each pipeline a `data_dir` \
                     of its own",
                    data_dir.display()
                )));
            }
            Err(fs::TryLockError::Error(error)) => return Err(failure("lock", &path, error)),
        }
        Ok(())
    }

    /// Moves all checkpoints out of the way and says where to, if there were any.
    ///
    /// # Errors
    /// [`PortError`], with the path.
    pub fn set_aside(&self) -> Result<Option<PathBuf>, PortError> {
        if self.folder.epochs()?.is_empty() {
            return Ok(None);
        }
        let (path, aside) = (&self.folder.path, self.new_aside());
        fs::rename(path, &aside).map_err(|error| failure("move", path, error))?;
        sync_folder(self.data_dir())?;
        Ok(Some(aside))
    }

    fn new_aside(&self) -> PathBuf {
        let place = |number: u64| self.data_dir().join(format!("checkpoints.aside-{number}"));
        let aside = (1..).map(place).find(|place| !place.exists());
        aside.expect("a folder holds fewer than 2^64 folders")
    }

    /// Moves checkpoints out of the way, the newest first, and says how many and where to.
    ///
    /// # Errors
    /// [`PortError`], with the path.
    pub fn set_aside_those(
        &self,
        which: impl Fn(u64) -> bool,
    ) -> Result<Option<(usize, PathBuf)>, PortError> {
        let epochs: Vec<u64> = self.folder.epochs()?.into_iter().filter(|&e| which(e)).collect();
        if epochs.is_empty() {
            return Ok(None);
        }
        let aside = self.new_aside();
        fs::create_dir(&aside).map_err(|error| failure("make the folder", &aside, error))?;
        let to = Folder { path: aside.clone() };
        for &epoch in &epochs {
            for (from, to) in [
                (self.folder.manifest(epoch), to.manifest(epoch)),
                (self.folder.files(epoch), to.files(epoch)),
            ] {
                if from.exists() {
                    fs::rename(&from, &to).map_err(|error| failure("move", &from, error))?;
                    // Invariant 3 holds for a power cut too: names go in this order.
                    sync_folder(&self.folder.path)?;
                }
            }
        }
        sync_folder(&aside)?;
        sync_folder(self.data_dir())?;
        Ok(Some((epochs.len(), aside)))
    }

    /// An empty folder for a checkpoint from elsewhere, on the file system of this one's.
    ///
    /// # Errors
    /// [`PortError`], with the path.
    pub fn incoming(&self) -> Result<Folder, PortError> {
        let folder = Folder { path: self.folder.path.join(INCOMING) };
        self.drop_incoming()?;
        super::files::make_folder(&folder.path)?;
        Ok(folder)
    }

    /// Removes what [`Keeper::incoming`] made.
    ///
    /// # Errors
    /// [`PortError`], with the path.
    pub fn drop_incoming(&self) -> Result<(), PortError> {
        let path = self.folder.path.join(INCOMING);
        if !path.exists() {
            return Ok(());
        }
        fs::remove_dir_all(&path).map_err(|error| failure("remove", &path, error))
    }

    /// Makes a checkpoint of the incoming folder the newest one here. All others are moved aside:
    /// they are of another past. Says how many and where to.
    ///
    /// # Errors
    /// [`PortError`], with the path.
    pub fn take_in(
        &self,
        incoming: &Folder,
        found: &mut Found,
    ) -> Result<Option<(usize, PathBuf)>, PortError> {
        let epoch = found.manifest.epoch;
        let same = self.set_aside_those(|each| each == epoch)?;
        let (from, to) = (incoming.files(epoch), self.folder.files(epoch));
        if to.exists() {
            // What a checkpoint that came to nothing left.
            fs::remove_dir_all(&to).map_err(|error| failure("remove", &to, error))?;
        }
        fs::rename(&from, &to).map_err(|error| failure("move", &from, error))?;
        sync_folder(&self.folder.path)?;
        let (from, shown) = (incoming.manifest(epoch), self.folder.manifest(epoch));
        fs::rename(&from, &shown).map_err(|error| failure("move", &from, error))?;
        sync_folder(&self.folder.path)?;
        self.drop_incoming()?;
        for (number, shard) in found.shards.iter_mut().enumerate() {
            shard.folder = to.join(shard_name(number));
        }
        let others = self.set_aside_those(|each| each != epoch)?;
        Ok(match (same, others) {
            (Some((same, _)), Some((others, aside))) => Some((same + others, aside)),
            (same, others) => others.or(same),
        })
    }

    /// Drops all but the newest checkpoints (invariant 2), and files of none.
    fn drop_old(&self) -> Result<(), PortError> {
        let mut kept = self.folder.epochs()?;
        let held = self.outgoing.as_ref().and_then(|outgoing| outgoing.held());
        let mut place = 0;
        let retained = self.retained;
        let dropped: Vec<u64> = kept
            .extract_if(.., |epoch| {
                place += 1;
                place > retained && held != Some(*epoch)
            })
            .collect();
        for epoch in dropped {
            let path = self.folder.manifest(epoch);
            fs::remove_file(&path).map_err(|error| failure("remove", &path, error))?;
        }
        let newest = kept.first().copied().unwrap_or(0);
        let path = &self.folder.path;
        let entries = fs::read_dir(path);
        for entry in entries.map_err(|error| failure("list the folder", path, error))? {
            let entry = entry.map_err(|error| failure("list the folder", path, error))?;
            let epoch = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            if epoch.is_some_and(|epoch| epoch < newest && !kept.contains(&epoch)) {
                let path = entry.path();
                fs::remove_dir_all(&path).map_err(|error| failure("remove", &path, error))?;
            }
        }
        Ok(())
    }

    /// The files of one shard's share, durable in `folder`; gives what was written of them.
    fn write_shard(
        &self,
        folder: &Path,
        number: usize,
        share: &Share,
        before: Option<&Manifest>,
        files: &mut Vec<ShardFile>,
    ) -> Result<u64, PortError> {
        let shard = folder.join(shard_name(number));
        fs::create_dir(&shard).map_err(|error| failure("make the folder", &shard, error))?;
        let named = |name: &str| format!("{}/{name}", shard_name(number));
        let mut written = 0;
        for (name, bytes) in &share.written {
            let bare = name == TREE_MANIFEST;
            let xxh3 = Some(write_summed(&shard.join(name), bytes, bare)?);
            written += bytes.len() as u64;
            files.push(ShardFile { name: named(name), bytes: bytes.len() as u64, xxh3, bare });
        }
        for (name, from) in &share.linked {
            let to = shard.join(name);
            link_or_copy(from, &to)?;
            let about = fs::metadata(&to).map_err(|error| failure("read", &to, error))?;
            files.push(ShardFile {
                name: named(name),
                bytes: about.len(),
                xxh3: None,
                bare: false,
            });
        }
        for name in &share.carried {
            let name = named(name);
            let known = before.and_then(|manifest| {
                Some((manifest.epoch, manifest.files.iter().find(|file| file.name == name)?))
            });
            let Some((epoch, file)) = known else {
                let why = format!("no checkpoint before this one has `{name}` (a bug)");
                return Err(PortError::Data(why));
            };
            link_or_copy(&self.folder.files(epoch).join(&name), &folder.join(&name))?;
            files.push(file.clone());
        }
        sync_folder(&shard)?;
        Ok(written)
    }

    /// The manifest of the newest checkpoint before `epoch`.
    fn durable_before(&self, epoch: u64) -> Result<Option<Manifest>, PortError> {
        let before = self.folder.epochs()?.into_iter().find(|&each| each < epoch);
        before.map(|before| self.folder.read_manifest(before)).transpose()
    }
}

impl Store for Keeper {
    fn write(&self, checkpoint: &Checkpoint, shares: &[Share]) -> Result<Bytes, PortError> {
        let epoch = checkpoint.epoch;
        let folder = self.folder.files(epoch);
        let is_first = !self.folder.path.exists();
        if folder.exists() {
            // What a checkpoint that came to nothing left.
            fs::remove_dir_all(&folder).map_err(|error| failure("remove", &folder, error))?;
        }
        fs::create_dir_all(&folder).map_err(|error| failure("make the folder", &folder, error))?;
        if is_first {
            // Or a power cut could take the folder of checkpoints while parts stay to be seen.
            sync_folder(self.data_dir())?;
        }
        let before = if shares.iter().any(|share| !share.carried.is_empty()) {
            self.durable_before(epoch)?
        } else {
            None
        };
        let (mut files, mut written) = (Vec::new(), 0);
        for (number, share) in shares.iter().enumerate() {
            written += self.write_shard(&folder, number, share, before.as_ref(), &mut files)?;
        }
        sync_folder(&folder)?;
        let source = |(name, position): &(String, Option<u64>)| SourceAt {
            name: name.clone(),
            position: *position,
        };
        let manifest = Manifest {
            version: VERSION,
            pipeline: self.pipeline.clone(),
            epoch,
            made_ms: now().as_millis() as i64,
            written,
            past: self.past.clone(),
            sources: checkpoint.positions.iter().map(source).collect(),
            shards: shares.len(),
            files,
        };
        show(&self.folder, &manifest)?;
        if let Some(outgoing) = &self.outgoing {
            outgoing.note(epoch);
        }
        self.drop_old()?;
        Ok(Bytes { written, full: manifest.full() })
    }
}

/// Since 1970; nothing where the clock is wrong beyond that.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The entry of a run that leaves a line behind this epoch.
fn new_past(after: u64) -> Past {
    Past { run: format!("{:x}-{:x}", now().as_nanos(), std::process::id()), after }
}

/// Makes a checkpoint exist whose files are durable (invariant 1).
///
/// # Errors
/// [`PortError`], with the path.
pub fn show(folder: &Folder, manifest: &Manifest) -> Result<(), PortError> {
    write_renamed(&folder.manifest(manifest.epoch), manifest)
}

/// Writes a sealed text that is there whole or not at all, durably.
fn write_renamed(path: &Path, value: &impl Serialize) -> Result<(), PortError> {
    let under_way = path.with_extension("json.tmp");
    write_synced(&under_way, &[seal(value).as_bytes()])?;
    fs::rename(&under_way, path).map_err(|error| failure("rename", path, error))?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}
