//! The simulated disk for those who block their thread: sinks, and who writes checkpoints.
//!
//! Positions and lengths are free here, as with a file of the system's. What each call does is done
//! when it returns; it fails, and is lost or torn by a crash, like a request that waits.

use super::SimDisk;
use super::world::{Answer, Operation};
use crate::store::disk::DiskError;

impl SimDisk {
    /// Whether there is a file of that name, or a folder.
    pub fn exists(&self, name: &str) -> bool {
        let world = self.world.borrow();
        world.names.contains_key(name) || world.folders.contains(name)
    }

    /// Makes a file empty, or a new one of that name.
    ///
    /// # Errors
    /// [`DiskError`], as every function here.
    pub fn create_now(&self, name: &str) -> Result<(), DiskError> {
        if self.world.borrow().names.contains_key(name) {
            self.now(name, Operation::Remove)?;
        }
        self.now(name, Operation::Create).map(drop)
    }

    /// Writes at the end of a file.
    ///
    /// # Errors
    /// See [`SimDisk::create_now`].
    pub fn append_now(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let content = self.content(name)?;
        let at = self.world.borrow().contents[content].current.len();
        self.now(name, Operation::Write { content, at, bytes: bytes.to_vec() }).map(drop)
    }

    /// Makes what was written to a file durable.
    ///
    /// # Errors
    /// See [`SimDisk::create_now`].
    pub fn sync_now(&self, name: &str) -> Result<(), DiskError> {
        let content = self.content(name)?;
        self.now(name, Operation::Sync { content }).map(drop)
    }

    /// All bytes of a file.
    ///
    /// # Errors
    /// See [`SimDisk::create_now`].
    pub fn read_now(&self, name: &str) -> Result<Vec<u8>, DiskError> {
        let content = self.content(name)?;
        let len = self.world.borrow().contents[content].current.len();
        match self.now(name, Operation::Read { content, at: 0, len })? {
            Answer::Bytes(bytes) => Ok(bytes.to_vec()),
            _ => unreachable!("bytes were asked for"),
        }
    }

    /// Bytes in a file.
    ///
    /// # Errors
    /// See [`SimDisk::create_now`].
    pub fn length_now(&self, name: &str) -> Result<u64, DiskError> {
        let content = self.content(name)?;
        match self.now(name, Operation::Length { content })? {
            Answer::Length(len) => Ok(len),
            _ => unreachable!("a length was asked for"),
        }
    }

    /// See [`crate::store::disk::Disk::rename`].
    ///
    /// # Errors
    /// See [`SimDisk::create_now`].
    pub fn rename_now(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.now(from, Operation::Rename { to: to.to_string() }).map(drop)
    }

    /// See [`crate::store::disk::Disk::link`].
    ///
    /// # Errors
    /// See [`SimDisk::create_now`].
    pub fn link_now(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.now(from, Operation::Link { to: to.to_string() }).map(drop)
    }

    /// See [`crate::store::disk::Disk::remove`].
    ///
    /// # Errors
    /// See [`SimDisk::create_now`].
    pub fn remove_now(&self, name: &str) -> Result<(), DiskError> {
        self.now(name, Operation::Remove).map(drop)
    }

    /// See [`crate::store::disk::Disk::make_dir`].
    ///
    /// # Errors
    /// See [`SimDisk::create_now`].
    pub fn make_dir_now(&self, folder: &str) -> Result<(), DiskError> {
        self.now(folder, Operation::MakeDir).map(drop)
    }

    /// See [`crate::store::disk::Disk::sync_dir`].
    ///
    /// # Errors
    /// See [`SimDisk::create_now`].
    pub fn sync_dir_now(&self, folder: &str) -> Result<(), DiskError> {
        self.now(folder, Operation::SyncDir).map(drop)
    }

    /// Paths of all files whose paths begin so, in order.
    pub fn below(&self, start: &str) -> Vec<String> {
        let world = self.world.borrow();
        world.names.keys().filter(|name| name.starts_with(start)).cloned().collect()
    }

    fn content(&self, name: &str) -> Result<usize, DiskError> {
        match self.now(name, Operation::Open)? {
            Answer::Content(content) => Ok(content),
            _ => unreachable!("a file was asked for"),
        }
    }

    fn now(&self, name: &str, operation: Operation) -> Result<Answer, DiskError> {
        self.world.borrow_mut().answer(name.to_string(), operation)
    }
}
