//! Checkpoints in a pipeline's `data_dir`.
//!
//! ```text
//! checkpoints/EPOCH/shard-NNN/    a shard's files
//! checkpoints/EPOCH.json          the manifest: the checkpoint exists from this file's rename on
//! checkpoints.aside-N/            those of runs before `--restore none`
//! lock                            held by the run that uses the folder
//! ```
//!
//! 1. A manifest is written under another name, synced and renamed when all that it names is
//!    durable; then the folder is synced.
//! 2. The newest `retained` checkpoints are kept. A manifest goes before the files that it names.
//! 3. What is read is checked: lengths and checksums stand in the manifest, and its own checksum at
//!    its end. A damaged checkpoint is named, and the one before it is used.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::edge::file::parts::failure;
use crate::flow::epochs::{Bytes, Checkpoint, Share, Store};
use crate::flow::snapshot::RestoredShard;
use crate::port::PortError;

const VERSION: u32 = 2;

/// A checkpoint as its manifest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    pub pipeline: String,
    pub epoch: u64,
    /// Where each source stood.
    pub sources: Vec<SourceAt>,
    pub shards: usize,
    pub files: Vec<ShardFile>,
}

/// Where a source stood; no position if it cannot go back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceAt {
    pub name: String,
    pub position: Option<u64>,
}

/// A file of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardFile {
    /// In the checkpoint's folder: `shard-000/image`.
    pub name: String,
    pub bytes: u64,
    /// XXH3 of the file, in hexadecimal; none if the file has checksums of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xxh3: Option<String>,
}

/// A checkpoint that was read and found whole.
#[derive(Debug)]
pub struct Found {
    pub manifest: Manifest,
    /// What the shards gave.
    pub shards: Vec<RestoredShard>,
}

/// The folder.
pub struct Folder {
    /// Held while the run lasts: another one in the same `data_dir` would undo its work.
    lock: Option<File>,
    path: PathBuf,
    pipeline: String,
    retained: usize,
}

impl Folder {
    /// The checkpoints of a pipeline in its `data_dir`; made when the first one is written.
    pub fn new(data_dir: &Path, pipeline: &str, retained: usize) -> Folder {
        let path = data_dir.join("checkpoints");
        Folder { lock: None, path, pipeline: pipeline.to_string(), retained: retained.max(1) }
    }

    /// Makes the `data_dir` this process's own until it ends, however it ends.
    ///
    /// # Errors
    /// [`PortError::Setup`] if another run has it.
    pub fn lock(&mut self) -> Result<(), PortError> {
        let data_dir = self.path.parent().unwrap_or(Path::new("."));
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

    fn manifest(&self, epoch: u64) -> PathBuf {
        self.path.join(format!("{epoch:010}.json"))
    }

    fn files(&self, epoch: u64) -> PathBuf {
        self.path.join(format!("{epoch:010}"))
    }

    /// Epochs that have a manifest, the newest first.
    fn epochs(&self) -> Result<Vec<u64>, PortError> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| failure("list the folder", &self.path, error))?,
        };
        let mut epochs = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failure("list the folder", &self.path, error))?;
            let name = entry.file_name();
            let epoch = name.to_str().and_then(|name| name.strip_suffix(".json"));
            epochs.extend(epoch.and_then(|epoch| epoch.parse::<u64>().ok()));
        }
        epochs.sort_unstable_by(|a, b| b.cmp(a));
        Ok(epochs)
    }

    /// The newest checkpoint that is whole; what was wrong with newer ones is added to `notes`.
    ///
    /// # Errors
    /// [`PortError`] if there are checkpoints and none is whole, or the folder cannot be read.
    pub fn latest(&self, notes: &mut Vec<String>) -> Result<Option<Found>, PortError> {
        let epochs = self.epochs()?;
        for &epoch in &epochs {
            match self.read(epoch) {
                Ok(found) => return Ok(Some(found)),
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

    /// The manifest of the newest checkpoint before `epoch`.
    fn durable_before(&self, epoch: u64) -> Result<Option<Manifest>, PortError> {
        let before = self.epochs()?.into_iter().find(|&each| each < epoch);
        before.map(|before| self.read_manifest(before)).transpose()
    }

    fn read_manifest(&self, epoch: u64) -> Result<Manifest, PortError> {
        let path = self.manifest(epoch);
        let bytes = fs::read(&path).map_err(|error| failure("read", &path, error))?;
        let manifest = parse(&bytes).map_err(|why| damaged(&path, &why))?;
        if manifest.version != VERSION {
            let why = format!("it is of version {}, this program's is {VERSION}", manifest.version);
            return Err(damaged(&path, &why));
        }
        Ok(manifest)
    }

    fn read(&self, epoch: u64) -> Result<Found, PortError> {
        let manifest = self.read_manifest(epoch)?;
        let folder = self.files(epoch);
        let shard = |number: usize| RestoredShard {
            folder: folder.join(shard_name(number)),
            ..RestoredShard::default()
        };
        let mut shards: Vec<RestoredShard> = (0..manifest.shards).map(shard).collect();
        for file in &manifest.files {
            let path = folder.join(&file.name);
            let (number, name) = place_of(&file.name)
                .filter(|(number, _)| *number < manifest.shards)
                .ok_or_else(|| damaged(&path, "it is of no shard"))?;
            let Some(sum) = &file.xxh3 else {
                let found = fs::metadata(&path).map_err(|error| failure("read", &path, error))?;
                check_length(&path, found.len(), file.bytes)?;
                shards[number].unread.push(name.to_string());
                continue;
            };
            let bytes = fs::read(&path).map_err(|error| failure("read", &path, error))?;
            check_length(&path, bytes.len() as u64, file.bytes)?;
            if format!("{:016x}", xxh3_64(&bytes)) != *sum {
                return Err(damaged(&path, "its checksum is wrong"));
            }
            shards[number].read.push((name.to_string(), bytes));
        }
        Ok(Found { manifest, shards })
    }

    /// Moves all checkpoints out of the way and says where to, if there were any.
    ///
    /// # Errors
    /// [`PortError`], with the path.
    pub fn set_aside(&self) -> Result<Option<PathBuf>, PortError> {
        if self.epochs()?.is_empty() {
            return Ok(None);
        }
        let place = |number: u64| self.path.with_file_name(format!("checkpoints.aside-{number}"));
        let aside = (1..).map(place).find(|place| !place.exists());
        let aside = aside.expect("a folder holds fewer than 2^64 folders");
        fs::rename(&self.path, &aside).map_err(|error| failure("move", &self.path, error))?;
        Ok(Some(aside))
    }

    /// Drops all but the newest checkpoints (invariant 2), and files of none.
    fn drop_old(&self) -> Result<(), PortError> {
        let epochs = self.epochs()?;
        for &epoch in epochs.iter().skip(self.retained) {
            let path = self.manifest(epoch);
            fs::remove_file(&path).map_err(|error| failure("remove", &path, error))?;
        }
        let kept = &epochs[..epochs.len().min(self.retained)];
        let entries = fs::read_dir(&self.path);
        for entry in entries.map_err(|error| failure("list the folder", &self.path, error))? {
            let entry = entry.map_err(|error| failure("list the folder", &self.path, error))?;
            let epoch = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            let Some(epoch) = epoch.filter(|epoch| !kept.contains(epoch)) else { continue };
            if kept.iter().all(|&kept| kept > epoch) {
                let path = entry.path();
                fs::remove_dir_all(&path).map_err(|error| failure("remove", &path, error))?;
            }
        }
        Ok(())
    }
}

/// A manifest's text: JSON, a newline, `xxh3 ` and the checksum of what is before it.
fn text(manifest: &Manifest) -> String {
    let json = serde_json::to_string_pretty(manifest).expect("names and numbers are JSON");
    format!("{json}\nxxh3 {:016x}\n", xxh3_64(json.as_bytes()))
}

fn parse(bytes: &[u8]) -> Result<Manifest, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_string())?;
    let cut = || "it is cut short or was changed".to_string();
    let (json, sum) = text.rsplit_once("\nxxh3 ").ok_or_else(cut)?;
    if sum != format!("{:016x}\n", xxh3_64(json.as_bytes())) {
        return Err(cut());
    }
    serde_json::from_str(json).map_err(|error| error.to_string())
}

fn shard_name(number: usize) -> String {
    format!("shard-{number:03}")
}

/// A file's shard and its name there.
fn place_of(name: &str) -> Option<(usize, &str)> {
    let (shard, name) = name.split_once('/')?;
    Some((shard.strip_prefix("shard-")?.parse().ok()?, name))
}

fn check_length(path: &Path, found: u64, wanted: u64) -> Result<(), PortError> {
    if found == wanted {
        return Ok(());
    }
    Err(damaged(path, &format!("it has {found} bytes, not {wanted}")))
}

/// Links a file and gives its bytes.
fn link(from: &Path, to: &Path) -> Result<u64, PortError> {
    let linked = fs::hard_link(from, to).and_then(|()| fs::metadata(to));
    Ok(linked.map_err(|error| failure("link", from, error))?.len())
}

fn damaged(path: &Path, why: &str) -> PortError {
    PortError::Data(format!("`{}`: {why}", path.display()))
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), PortError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| failure("write", path, error))
}

fn sync_folder(path: &Path) -> Result<(), PortError> {
    let sync = File::open(path).and_then(|folder| folder.sync_all());
    sync.map_err(|error| failure("sync the folder", path, error))
}

impl Store for Folder {
    fn write(&self, checkpoint: &Checkpoint, shares: &[Share]) -> Result<Bytes, PortError> {
        let epoch = checkpoint.epoch;
        let folder = self.files(epoch);
        let is_first = !self.path.exists();
        if folder.exists() {
            // What a checkpoint that came to nothing left.
            fs::remove_dir_all(&folder).map_err(|error| failure("remove", &folder, error))?;
        }
        fs::create_dir_all(&folder).map_err(|error| failure("make the folder", &folder, error))?;
        if is_first && let Some(data_dir) = self.path.parent() {
            // Or a power cut could take the folder of checkpoints while parts stay to be seen.
            sync_folder(data_dir)?;
        }
        let before = if shares.iter().any(|share| !share.carried.is_empty()) {
            self.durable_before(epoch)?
        } else {
            None
        };
        let (mut files, mut written) = (Vec::new(), 0);
        for (number, share) in shares.iter().enumerate() {
            let shard = folder.join(shard_name(number));
            fs::create_dir(&shard).map_err(|error| failure("make the folder", &shard, error))?;
            let named = |name: &str| format!("{}/{name}", shard_name(number));
            for (name, bytes) in &share.written {
                write_synced(&shard.join(name), bytes)?;
                written += bytes.len() as u64;
                let xxh3 = Some(format!("{:016x}", xxh3_64(bytes)));
                files.push(ShardFile { name: named(name), bytes: bytes.len() as u64, xxh3 });
            }
            for (name, from) in &share.linked {
                let bytes = link(from, &shard.join(name))?;
                files.push(ShardFile { name: named(name), bytes, xxh3: None });
            }
            for name in &share.carried {
                let name = named(name);
                let of_name = |file: &&ShardFile| file.name == name;
                let known = before.as_ref().and_then(|manifest| {
                    Some((manifest.epoch, manifest.files.iter().find(of_name)?))
                });
                let Some((epoch, file)) = known else {
                    let why = format!("no checkpoint before {epoch} has `{name}` (a bug)");
                    return Err(PortError::Data(why));
                };
                link(&self.files(epoch).join(&name), &folder.join(&name))?;
                files.push(file.clone());
            }
            sync_folder(&shard)?;
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
            sources: checkpoint.positions.iter().map(source).collect(),
            shards: shares.len(),
            files,
        };
        let under_way = self.path.join(format!("{epoch:010}.json.tmp"));
        write_synced(&under_way, text(&manifest).as_bytes())?;
        let shown = self.manifest(epoch);
        fs::rename(&under_way, &shown).map_err(|error| failure("rename", &shown, error))?;
        sync_folder(&self.path)?;
        self.drop_old()?;
        let full = manifest.files.iter().map(|file| file.bytes).sum();
        Ok(Bytes { written, full })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(epoch: u64) -> Checkpoint {
        Checkpoint { epoch, positions: vec![("a".into(), Some(epoch * 3)), ("b".into(), None)] }
    }

    fn shares(epoch: u64) -> Vec<Share> {
        vec![Share::of("image", vec![epoch as u8; 100]), Share::of("image", Vec::new())]
    }

    fn latest(folder: &Folder) -> (Option<u64>, Vec<String>) {
        let mut notes = Vec::new();
        let found = folder.latest(&mut notes).unwrap();
        if let Some(found) = &found {
            let first = ("image".to_string(), vec![found.manifest.epoch as u8; 100]);
            assert_eq!((found.shards.len(), &found.shards[0].read), (2, &vec![first]));
            assert_eq!(found.manifest.sources[0].position, Some(found.manifest.epoch * 3));
        }
        (found.map(|found| found.manifest.epoch), notes)
    }

    fn bytes(written: u64, full: u64) -> Bytes {
        Bytes { written, full }
    }

    #[test]
    fn the_newest_ones_are_kept_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path(), "p", 2);
        assert_eq!(latest(&folder), (None, vec![]));
        assert_eq!(folder.set_aside().unwrap(), None);
        for epoch in [1, 2, 3, 10] {
            assert_eq!(folder.write(&checkpoint(epoch), &shares(epoch)).unwrap(), bytes(100, 100));
            assert_eq!(latest(&folder), (Some(epoch), vec![]));
        }
        assert_eq!(folder.epochs().unwrap(), [10, 3]);
        assert!(!folder.files(2).exists() && folder.files(3).exists());
        assert_eq!(folder.set_aside().unwrap(), Some(dir.path().join("checkpoints.aside-1")));
        assert_eq!(latest(&folder), (None, vec![]));
    }

    /// Files that do not change are linked, from where the shard has them or from the checkpoint
    /// before, and stay when that one goes.
    #[test]
    fn what_does_not_change_is_linked() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path(), "p", 1);
        let table = dir.path().join("table");
        fs::write(&table, [7; 50]).unwrap();
        let mut first = Share::of("delta-1", vec![1; 10]);
        first.linked.push(("table".into(), table.clone()));
        assert_eq!(folder.write(&checkpoint(1), &[first]).unwrap(), bytes(10, 60));
        let mut second = Share::of("delta-2", vec![2; 20]);
        second.linked.push(("table".into(), table.clone()));
        second.carried.push("delta-1".into());
        assert_eq!(folder.write(&checkpoint(2), &[second.clone()]).unwrap(), bytes(20, 80));
        fs::remove_file(&table).unwrap();
        let found = folder.latest(&mut Vec::new()).unwrap().unwrap();
        let shard = &found.shards[0];
        let read: Vec<_> = shard.read.iter().map(|(name, bytes)| (&name[..], bytes[0])).collect();
        assert_eq!(read, [("delta-2", 2), ("delta-1", 1)]);
        assert_eq!(shard.unread, ["table"]);
        assert_eq!(fs::read(shard.folder.join("table")).unwrap(), [7; 50]);
        second.carried.push("delta-9".into());
        second.linked.clear();
        let error = folder.write(&checkpoint(3), &[second]).unwrap_err().to_string();
        assert!(error.contains("shard-000/delta-9"), "{error}");
    }

    /// Bits and lengths of every file: the damage is named, and the older checkpoint used.
    #[test]
    fn any_damage_is_found_named_and_passed_by() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path(), "p", 2);
        for epoch in [1, 2] {
            folder.write(&checkpoint(epoch), &shares(epoch)).unwrap();
        }
        for path in [folder.manifest(2), folder.files(2).join("shard-000/image")] {
            let whole = fs::read(&path).unwrap();
            let flips = (0..whole.len() * 8).step_by(7).map(|bit| {
                let mut bad = whole.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                bad
            });
            let cuts = (0..whole.len()).map(|len| whole[..len].to_vec());
            for bad in flips.chain(cuts) {
                fs::write(&path, bad).unwrap();
                let (epoch, notes) = latest(&folder);
                assert_eq!(epoch, Some(1), "{}", path.display());
                assert!(notes[0].contains(&path.display().to_string()), "{notes:?}");
            }
            fs::write(&path, whole).unwrap();
            assert_eq!(latest(&folder), (Some(2), vec![]));
        }
        for epoch in [1, 2] {
            fs::write(folder.manifest(epoch), "").unwrap();
        }
        let error = folder.latest(&mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("--restore none"), "{error}");
    }
}
