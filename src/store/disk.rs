//! The seam to the disk: what the tree asks of it, and the ways in which it may fail.
//!
//! Two implementations: `disk_uring` (direct I/O on one executor) and `disk_sim` (seeded, in
//! memory, with faults); both pass the tests of `conformance`. Names are paths below the disk's
//! root with `/` between folder and file; whoever holds the disk chooses the root.
//!
//! 1. Positions, lengths of reads and lengths of writes are multiples of [`PAGE`].
//! 2. What was written is there after a crash only if [`File::sync`] came back without error; a
//!    name only if [`Disk::sync_dir`] of its folder did. Each unsynced write and name may be there
//!    or not, by itself; a write may be there in part.
//! 3. After a failed sync the file is poisoned: everything asked of it fails. The system may have
//!    dropped the pages and forgotten the error, so trying again would lie.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};

use thiserror::Error;

/// The grain of direct I/O, bytes.
pub const PAGE: usize = 4096;

/// What was asked of the disk when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Create,
    Open,
    Read,
    Write,
    Sync,
    Length,
    Rename,
    Remove,
    List,
    Link,
    MakeDir,
    SyncDir,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Request::Create => "create",
            Request::Open => "open",
            Request::Read => "read",
            Request::Write => "write",
            Request::Sync => "sync",
            Request::Length => "take the length of",
            Request::Rename => "rename",
            Request::Remove => "remove",
            Request::List => "list",
            Request::Link => "link",
            Request::MakeDir => "make the folder",
            Request::SyncDir => "sync the folder",
        })
    }
}

/// Why the disk failed: who acts.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DiskFailure {
    /// Somebody makes room; nothing is lost.
    #[error("the disk is full")]
    Full,
    /// The caller's protocol, or somebody else's hand in the folder.
    #[error("there is no such file")]
    Missing,
    /// As above.
    #[error("there is a file of that name")]
    Exists,
    /// The run stops and restarts from a checkpoint.
    #[error("{0}")]
    Io(String),
    /// As above: an earlier sync of this file failed (invariant 3).
    #[error("an earlier sync of it failed")]
    Poisoned,
}

/// A request that failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("cannot {request} {name} (at byte {at}): {failure}")]
pub struct DiskError {
    pub failure: DiskFailure,
    pub request: Request,
    /// The file, below the disk's root.
    pub name: String,
    /// Byte of the file, 0 where a request has none.
    pub at: u64,
}

/// A folder tree on one disk. Clones are handles of the same disk.
pub trait Disk: Clone + 'static {
    type File: File;

    /// Makes an empty file that must not exist.
    ///
    /// # Errors
    /// [`DiskError`], as every function here.
    fn create(&self, name: &str) -> impl Future<Output = Result<Self::File, DiskError>>;

    /// Opens a file to be read.
    fn open(&self, name: &str) -> impl Future<Output = Result<Self::File, DiskError>>;

    /// Gives a file another name in the same folder, in place of a file that may have it.
    fn rename(&self, from: &str, to: &str) -> impl Future<Output = Result<(), DiskError>>;

    /// Takes a name away. Who has the file open may go on reading it.
    fn remove(&self, name: &str) -> impl Future<Output = Result<(), DiskError>>;

    /// Names of the files of a folder, without the folder, in order.
    fn list(&self, folder: &str) -> impl Future<Output = Result<Vec<String>, DiskError>>;

    /// Gives a file a second name, which must not exist.
    fn link(&self, from: &str, to: &str) -> impl Future<Output = Result<(), DiskError>>;

    /// Makes a folder, and those above it; one that exists is fine. It is durable at once.
    fn make_dir(&self, folder: &str) -> impl Future<Output = Result<(), DiskError>>;

    /// Makes names of a folder durable (invariant 2).
    fn sync_dir(&self, folder: &str) -> impl Future<Output = Result<(), DiskError>>;
}

/// An open file.
pub trait File: 'static {
    /// Bytes that were read, aligned as direct I/O wants them.
    type Read: Deref<Target = [u8]>;
    /// Bytes to be written, aligned as direct I/O wants them.
    type Buffer: DerefMut<Target = [u8]>;

    /// The name under which it was opened or created.
    fn name(&self) -> &str;

    /// Bytes in the file.
    ///
    /// # Errors
    /// [`DiskError`], as every function here.
    fn length(&self) -> impl Future<Output = Result<u64, DiskError>>;

    /// A zeroed buffer to write from.
    fn buffer(&self, len: usize) -> Self::Buffer;

    /// Reads `len` bytes; fewer come back only where the file ends.
    fn read_at(&self, at: u64, len: usize) -> impl Future<Output = Result<Self::Read, DiskError>>;

    /// Writes the whole buffer.
    fn write_at(
        &self,
        at: u64,
        buffer: Self::Buffer,
    ) -> impl Future<Output = Result<(), DiskError>>;

    /// Makes what was written durable (invariants 2 and 3).
    fn sync(&self) -> impl Future<Output = Result<(), DiskError>>;
}
