//! The folder of checkpoints on the simulated disk, by the steps of the real one
//! (src/app/checkpoints): it stands in for that until it has a seam of its own to the disk.
//!
//! ```text
//! checkpoints/EPOCH/shard-NNN/    a shard's files
//! checkpoints/EPOCH.json          the manifest: the checkpoint exists from this file's rename on
//! ```
//!
//! 1. A manifest is renamed when all that it names is durable; then the folder is synced.
//! 2. What is dropped loses its manifest first.
//! 3. What is damaged is named and passed by; what cannot be read stops the start. (The real one
//!    passes that by too: a read that fails once would then lose output.)

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cutwater::flow::epochs::{Bytes, Checkpoint, Share, Store};
use cutwater::flow::snapshot::{LOG, ReadFile, ReadRows, RestoredShard};
use cutwater::port::PortError;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::files;
use super::machine::Machine;

/// The root of the disk.
pub const ROOT: &str = "/data";
/// Where the checkpoints are.
pub const FOLDER: &str = "checkpoints";

/// Everything that a writer of checkpoints is about to do, in order.
pub const PHASES: &[&str] = &[
    "between checkpoints",
    "writing files",
    "linking tables",
    "carrying files on",
    "syncing a shard's folder",
    "syncing the files' folder",
    "writing the manifest",
    "renaming the manifest",
    "syncing the folder of checkpoints",
    "dropping old ones",
];

/// A manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    pub epoch: u64,
    pub sources: Vec<(String, Option<u64>)>,
    pub shards: usize,
    pub files: Vec<ShardFile>,
}

/// A file of a checkpoint: its name below the checkpoint's folder, its length and checksum; one
/// without checks itself when it is read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShardFile {
    pub name: String,
    pub bytes: u64,
    pub sum: Option<u64>,
}

/// A checkpoint that was read and found whole.
pub struct Found {
    pub manifest: Manifest,
    pub shards: Vec<RestoredShard>,
}

/// See the module's head.
#[derive(Clone, Copy, Debug)]
pub struct Folder {
    pub retained: usize,
}

/// The path of a checkpoint's manifest.
pub fn manifest_path(epoch: u64) -> String {
    format!("{FOLDER}/{epoch:010}.json")
}

fn files_path(epoch: u64) -> String {
    format!("{FOLDER}/{epoch:010}")
}

fn shard_name(number: usize) -> String {
    format!("shard-{number:03}")
}

/// Epochs that have a manifest, the newest first.
pub fn epochs() -> Vec<u64> {
    let number = |path: &String| path[FOLDER.len() + 1..].strip_suffix(".json")?.parse().ok();
    let mut epochs: Vec<u64> =
        files::below(&format!("{FOLDER}/")).iter().filter_map(number).collect();
    epochs.sort_unstable_by(|a, b| b.cmp(a));
    epochs
}

/// The newest checkpoint that is whole; what was wrong with newer ones is added to `notes`.
pub fn latest(notes: &mut Vec<String>) -> Result<Option<Found>, PortError> {
    let epochs = epochs();
    if !epochs.is_empty() {
        // A process that was killed may have left a manifest whose name is not durable yet: what is
        // shown because of it must not outlive it. The real folder does not do this yet.
        files::sync_folder(FOLDER)?;
    }
    for &epoch in &epochs {
        match read(epoch) {
            Ok(found) => {
                put_out_of_sight(&epochs, epoch)?;
                return Ok(Some(found));
            }
            Err(PortError::Data(why)) => notes.push(why),
            Err(error) => return Err(error),
        }
    }
    match epochs.is_empty() {
        true => Ok(None),
        false => Err(PortError::Data(format!("none of {FOLDER}/ is whole: {notes:?}"))),
    }
}

/// Takes the manifests of damaged checkpoints away, the newest first: what the next ones carry on
/// would be looked for in them. The real folder does not do this yet.
fn put_out_of_sight(epochs: &[u64], used: u64) -> Result<(), PortError> {
    let newer = epochs.iter().filter(|&&epoch| epoch > used);
    if newer.clone().next().is_none() {
        return Ok(());
    }
    newer.copied().try_for_each(|epoch| files::remove(&manifest_path(epoch)))?;
    files::sync_folder(FOLDER)
}

fn damaged(path: &str, why: &str) -> PortError {
    PortError::Data(format!("{path}: {why}"))
}

/// Reads a manifest.
pub fn read_manifest(epoch: u64) -> Result<Manifest, PortError> {
    let path = manifest_path(epoch);
    let bytes = files::read(&path)?;
    let cut = || damaged(&path, "it is cut short or was changed");
    let (json, sum) = bytes.split_at(bytes.len().saturating_sub(8));
    if sum != xxh3_64(json).to_le_bytes() {
        return Err(cut());
    }
    serde_json::from_slice(json).map_err(|_| cut())
}

fn read(epoch: u64) -> Result<Found, PortError> {
    let manifest = read_manifest(epoch)?;
    let folder = files_path(epoch);
    let shard = |number| RestoredShard {
        folder: Path::new(ROOT).join(&folder).join(shard_name(number)),
        ..RestoredShard::default()
    };
    let mut shards: Vec<RestoredShard> = (0..manifest.shards).map(shard).collect();
    for file in &manifest.files {
        let path = format!("{folder}/{}", file.name);
        let (number, name) = file.name["shard-".len()..].split_once('/').expect("a file's name");
        let number: usize = number.parse().expect("a shard's number");
        if !files::exists(&path) {
            return Err(damaged(&path, "it is missing"));
        }
        let Some(sum) = file.sum else {
            if files::length(&path)? != file.bytes {
                return Err(damaged(&path, "it has another length"));
            }
            shards[number].unread.push(name.to_string());
            continue;
        };
        let bytes = files::read(&path)?;
        if bytes.len() as u64 != file.bytes || xxh3_64(&bytes) != sum {
            return Err(damaged(&path, "its checksum is wrong"));
        }
        match name.starts_with(LOG) {
            true => shards[number].rows.push(name.to_string()),
            false => shards[number].read.push((name.to_string(), bytes)),
        }
    }
    let read: Arc<ReadFile> =
        Arc::new(|folder, name| files::read(&format!("{}/{name}", below_root(folder))));
    shards.iter_mut().for_each(|shard| shard.read_rows = Some(ReadRows(read.clone())));
    Ok(Found { manifest, shards })
}

impl Folder {
    /// The files of one shard's share, durable in `folder`; gives the bytes written.
    fn write_shard(
        &self,
        folder: &str,
        number: usize,
        share: &Share,
        before: Option<&Manifest>,
        out: &mut Vec<ShardFile>,
    ) -> Result<u64, PortError> {
        let machine = Machine::current();
        let shard = format!("{folder}/{}", shard_name(number));
        files::make_folder(&shard)?;
        let named = |name: &str| format!("{}/{name}", shard_name(number));
        let mut written = 0;
        machine.enter("writing files");
        for (name, bytes) in &share.written {
            files::write_synced(&format!("{shard}/{name}"), bytes)?;
            written += bytes.len() as u64;
            let sum = Some(xxh3_64(bytes));
            out.push(ShardFile { name: named(name), bytes: bytes.len() as u64, sum });
        }
        for (name, from) in &share.linked {
            machine.enter("linking tables");
            let (from, to) = (below_root(from), format!("{shard}/{name}"));
            files::link(&from, &to)?;
            out.push(ShardFile { name: named(name), bytes: files::length(&to)?, sum: None });
        }
        for name in &share.carried {
            machine.enter("carrying files on");
            let name = named(name);
            let known = before.and_then(|manifest| {
                Some((manifest.epoch, manifest.files.iter().find(|file| file.name == name)?))
            });
            let Some((epoch, file)) = known else {
                panic!("no checkpoint before this one has {name}: {before:?}");
            };
            files::link(&format!("{}/{name}", files_path(epoch)), &format!("{folder}/{name}"))?;
            out.push(file.clone());
        }
        machine.enter("syncing a shard's folder");
        files::sync_folder(&shard)?;
        Ok(written)
    }

    fn drop_old(&self) -> Result<(), PortError> {
        let epochs = epochs();
        for &epoch in epochs.iter().skip(self.retained) {
            files::remove(&manifest_path(epoch))?;
        }
        let kept = &epochs[..epochs.len().min(self.retained)];
        let newest = kept.first().copied().unwrap_or(0);
        for path in files::below(&format!("{FOLDER}/")) {
            let epoch = path[FOLDER.len() + 1..].split('/').next();
            let epoch = epoch.and_then(|name| name.parse::<u64>().ok());
            if epoch.is_some_and(|epoch| epoch < newest && !kept.contains(&epoch)) {
                files::remove(&path)?;
            }
        }
        Ok(())
    }
}

fn below_root(path: &Path) -> String {
    let below: PathBuf = path.strip_prefix(ROOT).expect("it is below the root").into();
    below.to_str().expect("names are text").to_string()
}

impl Store for Folder {
    fn write(&self, checkpoint: &Checkpoint, shares: &[Share]) -> Result<Bytes, PortError> {
        let (epoch, machine) = (checkpoint.epoch, Machine::current());
        machine.enter("writing files");
        let folder = files_path(epoch);
        // What a checkpoint that came to nothing left.
        files::remove_all(&folder)?;
        files::make_folder(FOLDER)?;
        files::make_folder(&folder)?;
        let before = if shares.iter().any(|share| !share.carried.is_empty()) {
            let before = epochs().into_iter().find(|&each| each < epoch);
            before.map(read_manifest).transpose()?
        } else {
            None
        };
        let (mut named, mut written) = (Vec::new(), 0);
        for (number, share) in shares.iter().enumerate() {
            written += self.write_shard(&folder, number, share, before.as_ref(), &mut named)?;
        }
        machine.enter("syncing the files' folder");
        files::sync_folder(&folder)?;
        let full = named.iter().map(|file| file.bytes).sum();
        let manifest = Manifest {
            epoch,
            sources: checkpoint.positions.clone(),
            shards: shares.len(),
            files: named,
        };
        let mut text = serde_json::to_vec(&manifest).expect("a manifest is JSON");
        text.extend_from_slice(&xxh3_64(&text).to_le_bytes());
        let under_way = format!("{FOLDER}/{epoch:010}.json.tmp");
        machine.enter("writing the manifest");
        files::write_synced(&under_way, &text)?;
        machine.enter("renaming the manifest");
        files::rename(&under_way, &manifest_path(epoch))?;
        machine.enter("syncing the folder of checkpoints");
        files::sync_folder(FOLDER)?;
        machine.enter("dropping old ones");
        self.drop_old()?;
        machine.enter("between checkpoints");
        Ok(Bytes { written, full })
    }
}
