//! The `file` sink of one shard: a part an epoch, seen whole when the epoch commits.
//!
//! 1. Only committed parts have a visible name, and they are whole (see [`super::parts`]).
//! 2. An epoch without rows makes no part.
//! 3. After a failed write or sync nothing more is tried on this sink: what the disk holds is not
//!    known, and the run starts again from its checkpoint.
//!
//! Rows come encoded. Sub-folders by `partition_by` are several of these, see [`super::folders`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::edge::file::{FileSinkOptions, parts};
use crate::ground::limits::SINK_BUFFER_BYTES;
use crate::port::{PortError, Sink};

/// The sink.
pub struct FileSink {
    options: FileSinkOptions,
    shard: usize,
    /// The part under way, if it is open.
    open: Option<File>,
    /// Whether the part under way has been begun.
    begun: bool,
    buffer: Vec<u8>,
    /// Names in the folder changed since it was last synced.
    unsynced: bool,
    poisoned: bool,
}

impl FileSink {
    /// Makes the folder where it is missing and sees to it that it can be written.
    ///
    /// # Errors
    /// [`PortError::Setup`], naming the path and what to do.
    pub fn open(options: &FileSinkOptions, shard: usize) -> Result<FileSink, PortError> {
        let folder = &options.folder;
        if folder.exists() && !folder.is_dir() {
            return Err(PortError::Setup(format!(
                "the sink's path `{}` is a file; a file sink writes parts into a folder, so name \
                 a folder",
                folder.display()
            )));
        }
        make_folder(folder)?;
        let mut sink = FileSink::of_folder(options.clone(), shard);
        sink.buffer.reserve_exact(SINK_BUFFER_BYTES);
        // What a crash left under this name is worthless, and whether the folder can be written is
        // better known now than after the first epoch.
        let path = sink.open_path();
        let made = File::create(&path).and_then(|_| fs::remove_file(&path));
        made.map_err(|error| parts::failure("write in the folder", folder, error))?;
        Ok(sink)
    }

    /// A sink for a folder that is there and can be written.
    pub(super) fn of_folder(options: FileSinkOptions, shard: usize) -> FileSink {
        FileSink {
            options,
            shard,
            open: None,
            begun: false,
            buffer: Vec::new(),
            unsynced: false,
            poisoned: false,
        }
    }

    /// Bytes that wait in memory.
    pub(super) fn held(&self) -> usize {
        self.buffer.len()
    }

    /// Closes the file of the part under way until there is more to write into it.
    pub(super) fn let_go(&mut self) {
        self.open = None;
    }

    /// Writes what waits in memory, gives the memory back and closes the file.
    pub(super) fn write_out(&mut self) -> Result<(), PortError> {
        let path = self.open_path();
        self.step("write", path, |sink| sink.flush())?;
        self.buffer = Vec::new();
        self.let_go();
        Ok(())
    }

    fn open_path(&self) -> PathBuf {
        let name = parts::open(self.shard, &self.options.extension);
        self.options.folder.join(name)
    }

    fn prepared_path(&self, epoch: u64) -> PathBuf {
        let name = parts::prepared(epoch, self.shard, &self.options.extension);
        self.options.folder.join(name)
    }

    /// The part under way, made when its first row comes (invariant 2).
    fn part(&mut self) -> io::Result<&mut File> {
        if self.open.is_none() {
            let path = self.open_path();
            let file = if self.begun {
                OpenOptions::new().append(true).open(path)?
            } else {
                let mut file = File::create(path)?;
                file.write_all(&self.options.head)?;
                file
            };
            self.begun = true;
            self.open = Some(file);
        }
        Ok(self.open.as_mut().expect("it was just opened"))
    }

    /// Writes what has been collected.
    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut held = std::mem::take(&mut self.buffer);
        self.part()?.write_all(&held)?;
        held.clear();
        self.buffer = held;
        Ok(())
    }

    fn collect(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > SINK_BUFFER_BYTES {
            self.flush()?;
        }
        if bytes.len() > SINK_BUFFER_BYTES {
            return self.part()?.write_all(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn close(&mut self, epoch: u64) -> io::Result<()> {
        self.flush()?;
        if self.begun {
            self.part()?.sync_all()?;
            (self.open, self.begun) = (None, false);
            fs::rename(self.open_path(), self.prepared_path(epoch))?;
            File::open(&self.options.folder)?.sync_all()?;
        }
        Ok(())
    }

    /// Runs one step unless an earlier one failed (invariant 3).
    fn step(
        &mut self,
        tried: &str,
        path: PathBuf,
        run: impl FnOnce(&mut FileSink) -> io::Result<()>,
    ) -> Result<(), PortError> {
        self.refuse_if_poisoned()?;
        run(self).map_err(|error| {
            self.poisoned = true;
            parts::failure(tried, &path, error)
        })
    }

    fn refuse_if_poisoned(&self) -> Result<(), PortError> {
        if self.poisoned {
            return Err(parts::poisoned(&self.options.folder));
        }
        Ok(())
    }
}

fn make_folder(folder: &Path) -> Result<(), PortError> {
    fs::create_dir_all(folder).map_err(|error| parts::failure("make the folder", folder, error))
}

impl Sink for FileSink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), PortError> {
        let path = self.open_path();
        self.step("write", path, |sink| sink.collect(bytes))
    }

    fn prepare(&mut self, epoch: u64) -> Result<(), PortError> {
        let path = self.prepared_path(epoch);
        self.step("sync", path, |sink| sink.close(epoch))
    }

    fn commit(&mut self, epoch: u64) -> Result<(), PortError> {
        self.refuse_if_poisoned()?;
        let prepared = self.prepared_path(epoch);
        if prepared.exists() {
            parts::show(&prepared)?;
            self.unsynced = true;
        }
        if self.unsynced {
            parts::sync_folder(&self.options.folder).inspect_err(|_| self.poisoned = true)?;
            self.unsynced = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options(folder: &Path) -> FileSinkOptions {
        FileSinkOptions {
            folder: folder.to_path_buf(),
            extension: "csv".into(),
            head: b"a,b\n".to_vec(),
        }
    }

    /// What a reader of the folder sees, by name.
    fn seen(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let mut seen = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if !name.starts_with('.') {
                let bytes = fs::read(folder.join(&name)).unwrap();
                seen.push((name, bytes));
            }
        }
        seen.sort();
        seen
    }

    fn part(epoch: u64, shard: usize, rows: &str) -> (String, Vec<u8>) {
        let bytes = format!("a,b\n{rows}").into_bytes();
        (parts::committed(epoch, shard, "csv"), bytes)
    }

    #[test]
    fn rows_are_seen_when_their_epoch_commits_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/on/the/way");
        let mut sink = FileSink::open(&options(&path), 4).unwrap();
        sink.write(b"1,1\n").unwrap();
        sink.write(b"1,2\n").unwrap();
        assert_eq!(seen(&path), []);
        sink.prepare(1).unwrap();
        assert_eq!(seen(&path), []);
        sink.write(b"2,1\n").unwrap();
        for _ in 0..2 {
            sink.commit(1).unwrap();
            assert_eq!(seen(&path), [part(1, 4, "1,1\n1,2\n")]);
        }
        sink.prepare(2).unwrap();
        sink.prepare(3).unwrap();
        sink.commit(2).unwrap();
        sink.commit(3).unwrap();
        assert_eq!(seen(&path), [part(1, 4, "1,1\n1,2\n"), part(2, 4, "2,1\n")]);
        drop(sink);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 2, "nothing hidden is left");
    }

    #[test]
    fn a_prepared_epoch_is_committed_after_a_crash_and_an_open_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = FileSink::open(&options(folder.path()), 0).unwrap();
        sink.write(b"1\n").unwrap();
        sink.prepare(1).unwrap();
        sink.write(&vec![b'x'; 2 * SINK_BUFFER_BYTES]).unwrap();
        drop(sink);
        let mut sink = FileSink::open(&options(folder.path()), 0).unwrap();
        sink.commit(1).unwrap();
        sink.write(b"2\n").unwrap();
        sink.prepare(2).unwrap();
        sink.commit(2).unwrap();
        assert_eq!(seen(folder.path()), [part(1, 0, "1\n"), part(2, 0, "2\n")]);
    }

    #[test]
    fn a_part_of_another_run_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(parts::committed(1, 0, "csv")), "old").unwrap();
        let mut sink = FileSink::open(&options(folder.path()), 0).unwrap();
        sink.write(b"new\n").unwrap();
        sink.prepare(1).unwrap();
        let error = sink.commit(1).unwrap_err().to_string();
        assert!(error.contains("there already") && error.contains("--restore none"), "{error}");
        let old = (parts::committed(1, 0, "csv"), b"old".to_vec());
        assert_eq!(seen(folder.path()), [old]);
    }

    #[test]
    fn what_stands_in_the_way_of_a_folder_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        for (path, words) in [(file.clone(), "is a file"), (file.join("b"), "part of the path")] {
            let error = FileSink::open(&options(&path), 0).err().unwrap().to_string();
            assert!(error.contains(words) && error.contains("/file"), "{error}");
        }
    }

    #[test]
    fn nothing_is_tried_on_a_sink_that_failed() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = FileSink::open(&options(folder.path()), 0).unwrap();
        // A full disk, as far as a program can tell.
        std::os::unix::fs::symlink("/dev/full", sink.open_path()).unwrap();
        sink.write(b"1\n").unwrap();
        let error = sink.prepare(1).unwrap_err().to_string();
        assert!(error.contains("disk is full"), "{error}");
        fs::remove_file(sink.open_path()).unwrap();
        for again in [sink.write(b"2\n"), sink.prepare(1), sink.commit(1)] {
            assert!(again.unwrap_err().to_string().contains("from its checkpoint"));
        }
        assert_eq!(seen(folder.path()), []);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn a_part_is_what_was_written(
            writes in proptest::collection::vec(0..SINK_BUFFER_BYTES * 2, 1..6)
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut sink = FileSink::open(&options(folder.path()), 0).unwrap();
            let mut expected = String::new();
            for (i, len) in writes.into_iter().enumerate() {
                let rows = format!("{i}\n").repeat(len.div_ceil(2));
                sink.write(rows.as_bytes()).unwrap();
                expected.push_str(&rows);
            }
            sink.prepare(1).unwrap();
            sink.commit(1).unwrap();
            let parts = if expected.is_empty() { vec![] } else { vec![part(1, 0, &expected)] };
            prop_assert!(seen(folder.path()) == parts);
        }
    }
}
