//! The `file` sink with sub-folders: a [`FileSink`] for each folder that has rows of the epoch
//! under way, behind one [`Sink`].
//!
//! What it is given are rows with the name of their folder (see [`put_rows`]), because rows of
//! several folders come in one piece:
//!
//! ```text
//! name's length: u32 | rows' length: u64 | name | rows
//! ```
//!
//! 1. No file stays open between two writes, so that the number of folders is not bounded by what
//!    the system allows a process to open.
//! 2. At most `held_bytes` are kept in memory; then the rows of all folders are written.
//! 3. At most `folders` have rows of one epoch; the next one stops the run with an error that
//!    names the limit: what would make so many folders was hardly meant.
//! 4. A folder's part is whole and seen as that of a plain sink is; folders of one epoch become
//!    seen one after the other.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::edge::file::sink::FileSink;
use crate::edge::file::{FileSinkOptions, parts};
use crate::ground::limits::{SINK_FOLDERS_BYTES, SINK_FOLDERS_MAX};
use crate::port::{PortError, Sink};

/// How much a sink with sub-folders may hold on one shard.
#[derive(Clone, Copy, Debug)]
pub struct FolderLimits {
    pub folders: usize,
    pub held_bytes: usize,
}

impl Default for FolderLimits {
    fn default() -> FolderLimits {
        FolderLimits { folders: SINK_FOLDERS_MAX, held_bytes: SINK_FOLDERS_BYTES }
    }
}

/// Appends rows of one folder to what the sink is to be given; `write` appends the rows
/// themselves.
pub fn put_rows(name: &str, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let head = out.len();
    out.extend_from_slice(&(name.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(name.as_bytes());
    let rows = out.len();
    write(out);
    let len = (out.len() - rows) as u64;
    out[head + 4..head + 12].copy_from_slice(&len.to_le_bytes());
}

/// The first folder's name and rows, and what stands behind them.
fn take_rows(bytes: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let (name_len, rest) = bytes.split_first_chunk::<4>()?;
    let (rows_len, rest) = rest.split_first_chunk::<8>()?;
    let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*name_len) as usize)?;
    let rows_len = usize::try_from(u64::from_le_bytes(*rows_len)).ok()?;
    let (rows, rest) = rest.split_at_checked(rows_len)?;
    Some((std::str::from_utf8(name).ok()?, rows, rest))
}

/// The sink.
pub struct FoldersSink {
    options: FileSinkOptions,
    shard: usize,
    limits: FolderLimits,
    /// Folders with rows of the epoch under way, by name.
    open: BTreeMap<Box<str>, FileSink>,
    /// Bytes that they hold in memory.
    held: usize,
    poisoned: bool,
}

impl FoldersSink {
    /// As [`FileSink::open`]; sub-folders are made when their first row comes.
    ///
    /// # Errors
    /// [`PortError::Setup`], naming the path and what to do.
    pub fn open(
        options: &FileSinkOptions,
        shard: usize,
        limits: FolderLimits,
    ) -> Result<FoldersSink, PortError> {
        FileSink::open(options, shard)?;
        Ok(FoldersSink {
            options: options.clone(),
            shard,
            limits,
            open: BTreeMap::new(),
            held: 0,
            poisoned: false,
        })
    }

    fn of_folder(&self, folder: PathBuf) -> FileSink {
        FileSink::of_folder(FileSinkOptions { folder, ..self.options.clone() }, self.shard)
    }

    fn folder(&mut self, name: &str) -> Result<&mut FileSink, PortError> {
        if !self.open.contains_key(name) {
            if self.open.len() == self.limits.folders {
                return Err(PortError::Setup(format!(
                    "more than {} sub-folders of `{}` in one epoch on one shard; `partition_by` \
                     is for a value that few rows differ in (`DATE_TRUNC` makes it coarser)",
                    self.limits.folders,
                    self.options.folder.display()
                )));
            }
            let folder = self.options.folder.join(name);
            fs::create_dir_all(&folder)
                .map_err(|error| parts::failure("make the folder", &folder, error))?;
            self.open.insert(name.into(), self.of_folder(folder));
        }
        Ok(self.open.get_mut(name).expect("it is there or was just put there"))
    }

    fn collect(&mut self, mut bytes: &[u8]) -> Result<(), PortError> {
        while !bytes.is_empty() {
            let (name, rows, rest) = take_rows(bytes).expect("rows were put by `put_rows`");
            let sink = self.folder(name)?;
            let held = sink.held();
            sink.write(rows)?;
            sink.let_go();
            let now = sink.held();
            self.held = self.held + now - held;
            if self.held > self.limits.held_bytes {
                for sink in self.open.values_mut() {
                    sink.write_out()?;
                }
                self.held = 0;
            }
            bytes = rest;
        }
        Ok(())
    }

    fn close(&mut self, epoch: u64) -> Result<(), PortError> {
        let had_rows = !self.open.is_empty();
        for sink in self.open.values_mut() {
            sink.prepare(epoch)?;
        }
        self.open.clear();
        self.held = 0;
        // Sub-folders may be new.
        if had_rows { parts::sync_folder(&self.options.folder) } else { Ok(()) }
    }

    /// Looks on the disk, not into memory, so that a sink that was opened after a crash can commit
    /// what the one before it prepared.
    fn show(&self, epoch: u64) -> Result<(), PortError> {
        for folder in sub_folders(&self.options.folder)? {
            self.of_folder(folder).commit(epoch)?;
        }
        Ok(())
    }

    /// Runs one step unless an earlier one failed, as [`FileSink`] does.
    fn step(
        &mut self,
        run: impl FnOnce(&mut FoldersSink) -> Result<(), PortError>,
    ) -> Result<(), PortError> {
        if self.poisoned {
            return Err(parts::poisoned(&self.options.folder));
        }
        run(self).inspect_err(|_| self.poisoned = true)
    }
}

/// The visible folders in a sink's folder, by name.
///
/// # Errors
/// [`PortError`], with the path.
pub fn sub_folders(folder: &Path) -> Result<Vec<PathBuf>, PortError> {
    let failed = |error| parts::failure("list the folder", folder, error);
    let mut found = Vec::new();
    if !folder.exists() {
        return Ok(found);
    }
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !is_hidden && entry.file_type().map_err(failed)?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort_unstable();
    Ok(found)
}

impl Sink for FoldersSink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), PortError> {
        self.step(|sink| sink.collect(bytes))
    }

    fn prepare(&mut self, epoch: u64) -> Result<(), PortError> {
        self.step(|sink| sink.close(epoch))
    }

    fn commit(&mut self, epoch: u64) -> Result<(), PortError> {
        self.step(|sink| sink.show(epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::limits::SINK_BUFFER_BYTES;
    use proptest::prelude::*;

    fn options(folder: &Path) -> FileSinkOptions {
        FileSinkOptions {
            folder: folder.to_path_buf(),
            extension: "csv".into(),
            head: b"a\n".to_vec(),
        }
    }

    fn framed(rows: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, rows) in rows {
            put_rows(name, &mut bytes, |out| out.extend_from_slice(rows.as_bytes()));
        }
        bytes
    }

    /// What a reader of the folder's sub-folders sees: path and text.
    fn seen(folder: &Path) -> Vec<(String, String)> {
        let mut seen = Vec::new();
        for sub in sub_folders(folder).unwrap() {
            for entry in fs::read_dir(&sub).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_string();
                if !name.contains("/.") {
                    seen.push((name, fs::read_to_string(&path).unwrap()));
                }
            }
        }
        seen.sort();
        seen
    }

    fn part(folder: &str, epoch: u64, rows: &str) -> (String, String) {
        (format!("{folder}/{}", parts::committed(epoch, 3, "csv")), format!("a\n{rows}"))
    }

    #[test]
    fn rows_are_seen_in_their_folders_when_their_epoch_commits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let mut sink = FoldersSink::open(&options(path), 3, FolderLimits::default()).unwrap();
        sink.write(&framed(&[("x", "1\n"), ("y", "2\n"), ("x", "3\n4\n")])).unwrap();
        sink.prepare(1).unwrap();
        sink.write(&framed(&[("y", "5\n")])).unwrap();
        assert_eq!(seen(path), []);
        for _ in 0..2 {
            sink.commit(1).unwrap();
            assert_eq!(seen(path), [part("x", 1, "1\n3\n4\n"), part("y", 1, "2\n")]);
        }
        sink.prepare(2).unwrap();
        drop(sink);
        let mut sink = FoldersSink::open(&options(path), 3, FolderLimits::default()).unwrap();
        sink.commit(2).unwrap();
        let all = [part("x", 1, "1\n3\n4\n"), part("y", 1, "2\n"), part("y", 2, "5\n")];
        assert_eq!(seen(path), all);
        sink.prepare(3).unwrap();
        sink.commit(3).unwrap();
        assert_eq!(seen(path), all, "an epoch without rows makes no part");
    }

    #[test]
    fn one_folder_more_than_the_limit_stops_the_sink_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let limits = FolderLimits { folders: 2, ..FolderLimits::default() };
        let mut sink = FoldersSink::open(&options(folder.path()), 3, limits).unwrap();
        sink.write(&framed(&[("x", "1\n"), ("y", "2\n")])).unwrap();
        sink.prepare(1).unwrap();
        sink.commit(1).unwrap();
        sink.write(&framed(&[("z", "1\n"), ("y", "2\n"), ("z", "3\n")])).unwrap();
        let error = sink.write(&framed(&[("w", "1\n")])).unwrap_err().to_string();
        assert!(error.contains("more than 2 sub-folders"), "{error}");
        let again = sink.prepare(2).unwrap_err().to_string();
        assert!(again.contains("from its checkpoint"), "{again}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn every_row_comes_to_its_folder_once_whatever_is_held(
            writes in proptest::collection::vec(
                proptest::collection::vec((0..5usize, 0..2000usize), 0..4), 1..12),
            held_bytes in 0..3000usize, long in any::<bool>()
        ) {
            let folder = tempfile::tempdir().unwrap();
            let limits = FolderLimits { folders: 5, held_bytes };
            let mut sink = FoldersSink::open(&options(folder.path()), 3, limits).unwrap();
            let mut expected: BTreeMap<String, String> = BTreeMap::new();
            for (i, write) in writes.iter().enumerate() {
                let mut bytes = Vec::new();
                for &(name, len) in write {
                    let len = if long && len > 1500 { SINK_BUFFER_BYTES + len } else { len };
                    let rows = format!("{i}\n").repeat(len / 2);
                    let name = format!("f{name}");
                    put_rows(&name, &mut bytes, |out| out.extend_from_slice(rows.as_bytes()));
                    expected.entry(name).or_default().push_str(&rows);
                }
                sink.write(&bytes).unwrap();
                prop_assert!(sink.held <= held_bytes);
                prop_assert_eq!(sink.held, sink.open.values().map(FileSink::held).sum::<usize>());
            }
            sink.prepare(1).unwrap();
            sink.commit(1).unwrap();
            let expected: Vec<_> = expected
                .iter()
                .filter(|(_, rows)| !rows.is_empty())
                .map(|(name, rows)| part(name, 1, rows))
                .collect();
            prop_assert!(seen(folder.path()) == expected);
        }
    }
}
