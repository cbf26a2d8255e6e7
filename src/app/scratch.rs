//! Folders for what a command has to write and nobody keeps.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A folder in that of temporary files; removed, with all in it, when dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// An empty folder whose name says what it is for.
    ///
    /// # Errors
    /// The file system's.
    pub fn new(purpose: &str) -> io::Result<Scratch> {
        let above = std::env::temp_dir();
        let mut number = 0;
        loop {
            let path = above.join(format!("cutwater-{purpose}-{}-{number}", std::process::id()));
            // What is in it is nobody else's business.
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Scratch(path.canonicalize()?)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is the system's to remove.
        let _ = fs::remove_dir_all(&self.0);
    }
}
