//! Checkpoints in a pipeline's `data_dir`, their copies elsewhere, and what is done with both. See
//! docs/checkpoints.md.
//!
//! ```text
//! checkpoints/EPOCH/shard-NNN/    a shard's files
//! checkpoints/EPOCH.json          the manifest: the checkpoint exists from this file's rename on
//! checkpoints.aside-N/            those of a past that a run did not go on from
//! checkpoints/restoring/          one from elsewhere, until it is known to be whole
//! lock                            held by the run that uses the folder
//! ```
//!
//! A savepoint is a folder like `checkpoints` with one checkpoint in it, whose files nobody shares.

pub mod command;
pub mod files;
pub mod folder;
pub mod keeper;
pub mod manifest;
pub mod outgoing;
pub mod place;
pub mod remote;
pub mod resume;
pub mod savepoint;
pub mod tables;
#[cfg(test)]
mod tests;
