//! What can go wrong beneath the state handles, by who acts.

use thiserror::Error;

use super::disk::DiskError;

/// A failure of the tree.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StoreError {
    /// The disk failed. Full: somebody makes room. Else the run restarts from a checkpoint.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file is damaged: an older checkpoint is taken.
    #[error("{file} is damaged at byte {at}: {what}")]
    Corrupt { file: String, at: u64, what: &'static str },
    /// Another version of the program wrote the file: that one reads it.
    #[error("{file} has format version {found}; this program reads version {known}")]
    Version { file: String, found: u32, known: u32 },
    /// The record that made the key is refused.
    #[error("a key of {bytes} bytes is longer than {most} bytes")]
    KeyTooLong { bytes: usize, most: usize },
    /// The record that made the value is refused.
    #[error("a value of {bytes} bytes is longer than {most} bytes")]
    ValueTooLong { bytes: usize, most: usize },
    /// The caller flushes and tries again: memory is full of what was not written yet.
    #[error("the tree's memory is full of what was not flushed yet")]
    Busy,
}
