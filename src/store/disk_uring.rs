//! The real disk: direct I/O through io_uring, on the glommio executor that opened it.
//!
//! What glommio 0.9 gets wrong is kept away from the tree:
//!
//! 1. The first direct read of an executor on a device decides for ever how it waits there, and a
//!    read of an empty file decides wrongly: every later read fails. So a disk is opened by reading
//!    a file of a page that is there before ([`UringDisk::open`]).
//! 2. No request is larger than [`STORE_REQUEST_BYTES`]; the layers above keep to it.
//! 3. A file whose sync failed is poisoned here: the system may have forgotten the error.
//!
//! What glommio has no request for (links, lists, folders) runs on its helper thread.

use std::cell::Cell;
use std::fs;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use glommio::io::{Directory, DmaBuffer, DmaFile, OpenOptions, ReadResult};

use super::disk::{Disk, DiskError, DiskFailure, File, PAGE, Request};
use crate::ground::limits::STORE_REQUEST_BYTES;

/// Name of the file that is read first; it lies in the disk's root and holds a page.
const PROBE: &str = "superblock";

/// A folder of the real file system.
#[derive(Clone)]
pub struct UringDisk {
    root: PathBuf,
}

/// An open file.
pub struct UringFile {
    file: DmaFile,
    name: String,
    is_poisoned: Cell<bool>,
}

/// Bytes to be written.
pub struct UringBuffer(DmaBuffer);

impl Deref for UringBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl DerefMut for UringBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_bytes_mut()
    }
}

impl UringDisk {
    /// A disk whose root is this folder, which is made if it is not there. Each executor opens its
    /// own (invariant 1).
    ///
    /// # Errors
    /// [`DiskError`], also if direct reads do not work there.
    pub async fn open(root: &Path) -> Result<UringDisk, DiskError> {
        // A folder of a relative path cannot be opened: the runtime names no folder to start from.
        let absolute = std::path::absolute(root).map_err(|e| failed(Request::Open, "", 0, e))?;
        let disk = UringDisk { root: absolute };
        disk.make_dir("").await?;
        let path = disk.path(PROBE);
        blocking(Request::Create, PROBE, move || make_probe(&path)).await?;
        let probe = disk.open_with(PROBE, Request::Open, OpenOptions::new().read(true)).await?;
        let page = probe.read_at(0, PAGE).await?;
        if page.len() != PAGE {
            let failure = DiskFailure::Io("it does not hold a page".to_string());
            return Err(DiskError { failure, request: Request::Read, name: PROBE.into(), at: 0 });
        }
        Ok(disk)
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    async fn open_with(
        &self,
        name: &str,
        request: Request,
        options: &OpenOptions,
    ) -> Result<UringFile, DiskError> {
        let opened = options.dma_open(self.path(name)).await;
        let file = opened.map_err(|error| failed(request, name, 0, error.into()))?;
        Ok(UringFile { file, name: name.to_string(), is_poisoned: Cell::new(false) })
    }
}

/// Writes a durable page of 0 where there is none yet.
fn make_probe(path: &Path) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() >= PAGE as u64) {
        return Ok(());
    }
    let mut file = fs::File::create(path)?;
    io::Write::write_all(&mut file, &[0; PAGE])?;
    file.sync_all()
}

/// Runs what blocks on the executor's helper thread.
async fn blocking<T: Send + 'static>(
    request: Request,
    name: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, DiskError> {
    let done = glommio::executor().spawn_blocking(work).await;
    done.map_err(|error| failed(request, name, 0, error))
}

fn failed(request: Request, name: &str, at: u64, error: io::Error) -> DiskError {
    let failure = match error.kind() {
        // A limit on the size of files is one more kind of no room.
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            DiskFailure::Full
        }
        io::ErrorKind::NotFound => DiskFailure::Missing,
        io::ErrorKind::AlreadyExists => DiskFailure::Exists,
        _ => DiskFailure::Io(error.to_string()),
    };
    DiskError { failure, request, name: name.to_string(), at }
}

impl Disk for UringDisk {
    type File = UringFile;

    async fn create(&self, name: &str) -> Result<UringFile, DiskError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        self.open_with(name, Request::Create, &options).await
    }

    async fn open(&self, name: &str) -> Result<UringFile, DiskError> {
        self.open_with(name, Request::Open, OpenOptions::new().read(true)).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let done = glommio::io::rename(self.path(from), self.path(to)).await;
        done.map_err(|error| failed(Request::Rename, from, 0, error.into()))
    }

    async fn remove(&self, name: &str) -> Result<(), DiskError> {
        let done = glommio::io::remove(self.path(name)).await;
        done.map_err(|error| failed(Request::Remove, name, 0, error.into()))
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, DiskError> {
        let path = self.path(folder);
        let list = move || {
            let mut names = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    names.push(entry.file_name().to_string_lossy().into_owned());
                }
            }
            names.sort_unstable();
            Ok(names)
        };
        blocking(Request::List, folder, list).await
    }

    async fn link(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let (old, new) = (self.path(from), self.path(to));
        blocking(Request::Link, from, move || fs::hard_link(old, new)).await
    }

    async fn make_dir(&self, folder: &str) -> Result<(), DiskError> {
        let path = self.path(folder);
        let make = move || {
            let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.is_dir()).collect();
            fs::create_dir_all(&path)?;
            // The name of each that was made is in the folder above it.
            let above = missing.iter().filter_map(|path| path.parent());
            above
                .map(|above| if above == Path::new("") { Path::new(".") } else { above })
                .try_for_each(|above| fs::File::open(above)?.sync_all())
        };
        blocking(Request::MakeDir, folder, make).await
    }

    async fn sync_dir(&self, folder: &str) -> Result<(), DiskError> {
        let failed = |error: io::Error| failed(Request::SyncDir, folder, 0, error);
        let opened = Directory::open(self.path(folder)).await.map_err(|e| failed(e.into()))?;
        let synced = opened.sync().await.map_err(|e| failed(e.into()));
        let closed = opened.close().await.map_err(|e| failed(e.into()));
        synced.and(closed)
    }
}

impl UringFile {
    fn healthy(&self, request: Request, at: u64) -> Result<(), DiskError> {
        if !self.is_poisoned.get() {
            return Ok(());
        }
        Err(DiskError { failure: DiskFailure::Poisoned, request, name: self.name.clone(), at })
    }
}

impl File for UringFile {
    type Read = ReadResult;
    type Buffer = UringBuffer;

    fn name(&self) -> &str {
        &self.name
    }

    async fn length(&self) -> Result<u64, DiskError> {
        self.healthy(Request::Length, 0)?;
        let length = self.file.file_size().await;
        length.map_err(|error| failed(Request::Length, &self.name, 0, error.into()))
    }

    fn buffer(&self, len: usize) -> UringBuffer {
        let mut buffer = self.file.alloc_dma_buffer(len);
        buffer.as_bytes_mut().fill(0);
        UringBuffer(buffer)
    }

    async fn read_at(&self, at: u64, len: usize) -> Result<ReadResult, DiskError> {
        assert!(at.is_multiple_of(PAGE as u64) && len.is_multiple_of(PAGE), "disk invariant 1");
        assert!(len <= STORE_REQUEST_BYTES, "uring disk invariant 2");
        self.healthy(Request::Read, at)?;
        let read = self.file.read_at_aligned(at, len).await;
        read.map_err(|error| failed(Request::Read, &self.name, at, error.into()))
    }

    async fn write_at(&self, at: u64, buffer: UringBuffer) -> Result<(), DiskError> {
        let len = buffer.len();
        assert!(at.is_multiple_of(PAGE as u64) && len.is_multiple_of(PAGE), "disk invariant 1");
        assert!(len <= STORE_REQUEST_BYTES, "uring disk invariant 2");
        self.healthy(Request::Write, at)?;
        let written = self.file.write_at(buffer.0, at).await;
        match written.map_err(|error| failed(Request::Write, &self.name, at, error.into()))? {
            written if written == len => Ok(()),
            // The system stops in the middle of a write where room ends.
            _ => {
                let (failure, name) = (DiskFailure::Full, self.name.clone());
                Err(DiskError { failure, request: Request::Write, name, at })
            }
        }
    }

    async fn sync(&self) -> Result<(), DiskError> {
        self.healthy(Request::Sync, 0)?;
        let synced = self.file.fdatasync().await;
        self.is_poisoned.set(synced.is_err());
        synced.map_err(|error| failed(Request::Sync, &self.name, 0, error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::codec::Codec;
    use crate::store::conformance::check_disk;
    use crate::store::entry::NEVER;
    use crate::store::options::{Options, Profile};
    use crate::store::tree::Tree;
    use std::future::Future;

    /// Runs a check on an executor of its own, in an empty folder.
    fn check<F: Future<Output = ()> + 'static>(check: impl FnOnce(PathBuf) -> F + Send + 'static) {
        let folder = tempfile::tempdir().expect("there is a place for temporary files");
        let root = folder.path().join("not/there/yet");
        let executor = glommio::LocalExecutorBuilder::default().spawn(|| check(root));
        executor.expect("io_uring is to be had").join().expect("the check passes");
    }

    #[test]
    fn the_real_disk_is_a_disk() {
        check(|root| async move { check_disk(&UringDisk::open(&root).await.unwrap()).await });
    }

    #[test]
    fn a_tree_lives_on_it_from_an_empty_folder_on() {
        check(|root| async move {
            let disk = UringDisk::open(&root).await.unwrap();
            let options = Options::new("t", Codec::Lz4, Profile::Balanced, 0);
            let tree = Tree::open(disk.clone(), options.clone()).await.unwrap();
            for round in 0..6u32 {
                for key in 0..3000u32 {
                    let value = (key + round).to_le_bytes().repeat(30);
                    tree.put(&key.to_be_bytes(), &value, NEVER).unwrap();
                }
                tree.flush(0).await.unwrap();
            }
            tree.settle(0).await.unwrap();
            tree.put(b"more", b"value", NEVER).unwrap();
            tree.snapshot().unwrap().write("s", 0).await.unwrap();
            drop(tree);
            // Reads and requests of another executor's life.
            let disk = UringDisk::open(&root).await.unwrap();
            let tree = Tree::restore(disk, "s", options).await.unwrap();
            let keys: Vec<[u8; 4]> = (0..3000u32).map(u32::to_be_bytes).collect();
            let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
            let mut found = 0;
            let each = |key: usize, value: Option<&[u8]>| {
                assert_eq!(value, Some(&(key as u32 + 5).to_le_bytes().repeat(30)[..]));
                found += 1;
            };
            tree.get_many(&keys, 0, each).await.unwrap();
            assert_eq!(found, 3000);
            let mut out = Vec::new();
            assert!(tree.get(b"more", 0, &mut out).await.unwrap() && out == b"value");
        });
    }
}
