//! Checkpoints in a pipeline's `data_dir`.
//!
//! ```text
//! checkpoints/EPOCH/shard-NNN     image of a shard
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
use crate::flow::epochs::{Checkpoint, Store};
use crate::port::PortError;

const VERSION: u32 = 1;

/// A checkpoint as its manifest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    pub pipeline: String,
    pub epoch: u64,
    /// Where each source stood.
    pub sources: Vec<SourceAt>,
    pub files: Vec<ImageFile>,
}

/// Where a source stood; no position if it cannot go back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceAt {
    pub name: String,
    pub position: Option<u64>,
}

/// A shard's image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFile {
    pub name: String,
    pub bytes: u64,
    /// XXH3 of the file, in hexadecimal.
    pub xxh3: String,
}

/// A checkpoint that was read and found whole.
#[derive(Debug)]
pub struct Found {
    pub manifest: Manifest,
    pub images: Vec<Vec<u8>>,
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

    fn images(&self, epoch: u64) -> PathBuf {
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

    fn read(&self, epoch: u64) -> Result<Found, PortError> {
        let path = self.manifest(epoch);
        let bytes = fs::read(&path).map_err(|error| failure("read", &path, error))?;
        let manifest = parse(&bytes).map_err(|why| damaged(&path, &why))?;
        if manifest.version != VERSION {
            let why = format!("it is of version {}, this program's is {VERSION}", manifest.version);
            return Err(damaged(&path, &why));
        }
        let mut images = Vec::new();
        for file in &manifest.files {
            let path = self.images(epoch).join(&file.name);
            let image = fs::read(&path).map_err(|error| failure("read", &path, error))?;
            if image.len() as u64 != file.bytes {
                let why = format!("it has {} bytes, not {}", image.len(), file.bytes);
                return Err(damaged(&path, &why));
            }
            if format!("{:016x}", xxh3_64(&image)) != file.xxh3 {
                return Err(damaged(&path, "its checksum is wrong"));
            }
            images.push(image);
        }
        Ok(Found { manifest, images })
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
    fn write(&self, checkpoint: &Checkpoint, images: &[Vec<u8>]) -> Result<u64, PortError> {
        let epoch = checkpoint.epoch;
        let folder = self.images(epoch);
        let is_first = !self.path.exists();
        fs::create_dir_all(&folder).map_err(|error| failure("make the folder", &folder, error))?;
        if is_first && let Some(data_dir) = self.path.parent() {
            // Or a power cut could take the folder of checkpoints while parts stay to be seen.
            sync_folder(data_dir)?;
        }
        let mut files = Vec::new();
        for (shard, image) in images.iter().enumerate() {
            let name = format!("shard-{shard:03}");
            write_synced(&folder.join(&name), image)?;
            let xxh3 = format!("{:016x}", xxh3_64(image));
            files.push(ImageFile { name, bytes: image.len() as u64, xxh3 });
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
            files,
        };
        let under_way = self.path.join(format!("{epoch:010}.json.tmp"));
        write_synced(&under_way, text(&manifest).as_bytes())?;
        let shown = self.manifest(epoch);
        fs::rename(&under_way, &shown).map_err(|error| failure("rename", &shown, error))?;
        sync_folder(&self.path)?;
        self.drop_old()?;
        Ok(manifest.files.iter().map(|file| file.bytes).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(epoch: u64) -> Checkpoint {
        Checkpoint { epoch, positions: vec![("a".into(), Some(epoch * 3)), ("b".into(), None)] }
    }

    fn images(epoch: u64) -> Vec<Vec<u8>> {
        vec![vec![epoch as u8; 100], Vec::new()]
    }

    fn latest(folder: &Folder) -> (Option<u64>, Vec<String>) {
        let mut notes = Vec::new();
        let found = folder.latest(&mut notes).unwrap();
        if let Some(found) = &found {
            assert_eq!(found.images, images(found.manifest.epoch));
            assert_eq!(found.manifest.sources[0].position, Some(found.manifest.epoch * 3));
        }
        (found.map(|found| found.manifest.epoch), notes)
    }

    #[test]
    fn the_newest_ones_are_kept_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path(), "p", 2);
        assert_eq!(latest(&folder), (None, vec![]));
        assert_eq!(folder.set_aside().unwrap(), None);
        for epoch in [1, 2, 3, 10] {
            assert_eq!(folder.write(&checkpoint(epoch), &images(epoch)).unwrap(), 100);
            assert_eq!(latest(&folder), (Some(epoch), vec![]));
        }
        assert_eq!(folder.epochs().unwrap(), [10, 3]);
        assert!(!folder.images(2).exists() && folder.images(3).exists());
        assert_eq!(folder.set_aside().unwrap(), Some(dir.path().join("checkpoints.aside-1")));
        assert_eq!(latest(&folder), (None, vec![]));
    }

    /// Bits and lengths of every file: the damage is named, and the older checkpoint used.
    #[test]
    fn any_damage_is_found_named_and_passed_by() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path(), "p", 2);
        for epoch in [1, 2] {
            folder.write(&checkpoint(epoch), &images(epoch)).unwrap();
        }
        for path in [folder.manifest(2), folder.images(2).join("shard-000")] {
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
