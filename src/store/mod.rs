//! Floor 1: the log-structured tree beneath the state handles, one per shard.
//!
//! Keys and values are byte strings. Writes go to a hash table in memory; when that is large it is
//! written as an immutable sorted table; tables are merged in the background. docs/store.md says
//! how it fits together and draws the files.
//!
//! What is absent: records, event time, operators, threads, clocks, randomness. The disk is
//! reached through the traits of `disk` alone, so that all of it runs under the simulated one.
//! There is no log of single writes: sources replay, durability is the checkpoint's work.

pub mod block;
pub mod cache;
pub mod chance;
pub mod codec;
pub mod compact;
pub mod disk;
pub mod disk_sim;
pub mod disk_uring;
pub mod entry;
pub mod error;
pub mod filter;
pub mod flight;
pub mod manifest;
pub mod memtable;
pub mod merge;
pub mod options;
pub mod pick;
pub mod table;
pub mod tree;
pub mod verify;

#[cfg(test)]
mod conformance;
