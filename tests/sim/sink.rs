//! The file sink on the simulated disk, by the steps of the real one (src/edge/file): a part an
//! epoch, prepared under a hidden name, seen when its epoch is durable.
//!
//! ```text
//! out/SINK/.part-open-SHARD.tmp     rows of the epoch under way
//! out/SINK/.part-EPOCH-SHARD.tmp    a prepared part
//! out/SINK/part-EPOCH-SHARD         a committed part
//! ```
//!
//! 1. A committed part is never replaced.
//! 2. After a failed write or sync nothing more is tried on the sink.

use cutwater::port::{PortError, Sink};

use super::files;

/// A sink of one shard.
pub struct SimSink {
    folder: String,
    shard: usize,
    buffer: Vec<u8>,
    is_open: bool,
    is_unsynced: bool,
    is_poisoned: bool,
}

/// Folder of a sink.
pub fn folder_of(name: &str) -> String {
    format!("out/{name}")
}

/// What the name of a part says: whether it can be seen, and its epoch; none for an open one.
fn read_name(path: &str) -> (bool, Option<u64>) {
    let name = path.rsplit('/').next().unwrap_or_default();
    let rest = name.trim_start_matches('.').strip_prefix("part-").unwrap_or_default();
    let epoch = rest.split('-').next().unwrap_or_default().parse().ok();
    (!name.starts_with('.'), epoch)
}

/// The epoch of a part that can be seen.
pub fn epoch_of(path: &str) -> u64 {
    read_name(path).1.expect("a part's name has its epoch")
}

impl SimSink {
    /// A sink of this name.
    pub fn open(name: &str, shard: usize) -> Result<SimSink, PortError> {
        let folder = folder_of(name);
        files::make_folder(&folder)?;
        let sink = SimSink {
            folder,
            shard,
            buffer: Vec::new(),
            is_open: false,
            is_unsynced: false,
            is_poisoned: false,
        };
        // What a crash left under this name is worthless.
        if files::exists(&sink.open_path()) {
            files::remove(&sink.open_path())?;
        }
        Ok(sink)
    }

    fn open_path(&self) -> String {
        format!("{}/.part-open-{:03}.tmp", self.folder, self.shard)
    }

    fn prepared_path(&self, epoch: u64) -> String {
        format!("{}/.part-{epoch:010}-{:03}.tmp", self.folder, self.shard)
    }

    fn flush(&mut self) -> Result<(), PortError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if !std::mem::replace(&mut self.is_open, true) {
            files::create(&self.open_path())?;
        }
        files::append(&self.open_path(), &std::mem::take(&mut self.buffer))
    }

    fn close(&mut self, epoch: u64) -> Result<(), PortError> {
        self.flush()?;
        if std::mem::replace(&mut self.is_open, false) {
            files::sync(&self.open_path())?;
            files::rename(&self.open_path(), &self.prepared_path(epoch))?;
            files::sync_folder(&self.folder)?;
        }
        Ok(())
    }

    fn step(
        &mut self,
        run: impl FnOnce(&mut SimSink) -> Result<(), PortError>,
    ) -> Result<(), PortError> {
        if self.is_poisoned {
            return Err(PortError::Data(format!("an earlier write in {} failed", self.folder)));
        }
        run(self).inspect_err(|_| self.is_poisoned = true)
    }
}

impl Sink for SimSink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), PortError> {
        self.step(|sink| {
            sink.buffer.extend_from_slice(bytes);
            if sink.buffer.len() > 2000 { sink.flush() } else { Ok(()) }
        })
    }

    fn prepare(&mut self, epoch: u64) -> Result<(), PortError> {
        self.step(|sink| sink.close(epoch))
    }

    fn commit(&mut self, epoch: u64) -> Result<(), PortError> {
        self.step(|sink| {
            let prepared = sink.prepared_path(epoch);
            if files::exists(&prepared) {
                show(&prepared)?;
                sink.is_unsynced = true;
            }
            if std::mem::replace(&mut sink.is_unsynced, false) {
                files::sync_folder(&sink.folder)?;
            }
            Ok(())
        })
    }
}

/// Gives a prepared part the name that readers see.
fn show(prepared: &str) -> Result<(), PortError> {
    let shown = prepared.replace("/.part-", "/part-");
    let shown = shown.strip_suffix(".tmp").expect("a prepared part's name");
    assert!(!files::exists(shown), "{shown} would be replaced");
    files::rename(prepared, shown)
}

/// After a crash: shows the prepared parts of epochs up to `durable`, removes later ones, and puts
/// those aside that could be seen although they are later.
pub fn settle(name: &str, durable: u64) -> Result<(), PortError> {
    let folder = folder_of(name);
    for path in files::below(&format!("{folder}/")) {
        match read_name(&path) {
            _ if path.contains("/.aside-") => {}
            (true, Some(epoch)) if epoch > durable => {
                files::rename(&path, &path.replace("/part-", "/.aside-"))?;
            }
            (true, _) => {}
            (false, Some(epoch)) if epoch <= durable => show(&path)?,
            (false, _) => files::remove(&path)?,
        }
    }
    if files::exists(&folder) { files::sync_folder(&folder) } else { Ok(()) }
}

/// Before a run that goes on from nothing: nothing may have been seen, since nothing was durable.
pub fn set_aside(name: &str) -> Result<(), PortError> {
    let folder = folder_of(name);
    for path in files::below(&format!("{folder}/")) {
        assert!(!read_name(&path).0, "{path} was seen, and there is no checkpoint");
        files::remove(&path)?;
    }
    if files::exists(&folder) { files::sync_folder(&folder) } else { Ok(()) }
}

/// What readers see of a sink: paths and bytes.
pub fn seen(disk: &cutwater::store::disk_sim::SimDisk, name: &str) -> Vec<(String, Vec<u8>)> {
    let paths = disk.below(&format!("{}/", folder_of(name))).into_iter();
    let seen = paths.filter(|path| read_name(path).0);
    seen.map(|path| {
        let bytes = disk.bytes(&path).expect("it was just listed");
        (path, bytes)
    })
    .collect()
}
