//! How a tree is set up, and how its memory is shared out.

use super::codec::Codec;
use super::pick::Policy;
use crate::ground::limits::{
    STORE_ARENA_CHUNK_BYTES, STORE_ARENA_CHUNK_BYTES_MAX, STORE_MEMORY_BYTES_MIN,
    STORE_MEMTABLE_BYTES_MAX, STORE_RUNS_MAX, STORE_STEP_BYTES, STORE_TABLE_BYTES,
    STORE_VALUE_BYTES_MAX,
};

/// Memory of [`Profile::Tiny`], bytes: a memtable is a quarter of it.
const TINY_MEMORY_BYTES: usize = 32 << 10;
/// Flushed runs of [`Profile::Tiny`].
const TINY_RUNS_MAX: usize = 4;
/// Table of [`Profile::Tiny`], bytes.
const TINY_TABLE_BYTES: u64 = 8 << 10;
/// Step of [`Profile::Tiny`], bytes.
const TINY_STEP_BYTES: usize = 4 << 10;

/// What the tree is mostly asked (`state.profile`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    #[default]
    Balanced,
    ReadHeavy,
    WriteHeavy,
    /// Memory for a few dozen keys, tables of a few blocks, merges soon: for simulations, in which
    /// everything that happens to gigabytes has to happen to a few hundred rows.
    Tiny,
}

/// How a tree is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its folder, which is its own.
    pub folder: String,
    pub codec: Codec,
    pub policy: Policy,
    /// Bytes of a table.
    pub table_bytes: u64,
    /// Number that no table made from now on is below: tables of all runs of a shard have different
    /// numbers if this grows from run to run.
    pub id_first: u64,
    /// Flushed runs that wait to be merged at which writers wait, too: each is one more place where
    /// a reader looks.
    pub runs_max: usize,
    /// Bytes of entries that one step of a flush or merge handles.
    pub step_bytes: usize,
    /// Bytes of memory for everything; [`STORE_MEMORY_BYTES_MIN`] at least.
    pub memory_bytes: usize,
}

impl Options {
    /// The set-up of `[state]`.
    pub fn new(folder: &str, codec: Codec, profile: Profile, memory_bytes: usize) -> Options {
        let memory_bytes = match profile {
            Profile::Tiny => TINY_MEMORY_BYTES,
            _ => memory_bytes.max(STORE_MEMORY_BYTES_MIN),
        };
        let base_bytes = memory_bytes as u64;
        let policy = match profile {
            Profile::Balanced => Policy::Levelled { runs: 4, base_bytes, ratio: 10 },
            Profile::ReadHeavy => Policy::Levelled { runs: 2, base_bytes, ratio: 8 },
            Profile::WriteHeavy => {
                Policy::Universal { runs: 8, larger_percent: 1, space_percent: 200 }
            }
            Profile::Tiny => Policy::Levelled { runs: 2, base_bytes: 8 << 10, ratio: 2 },
        };
        let (table_bytes, runs_max, step_bytes) = match profile {
            Profile::Tiny => (TINY_TABLE_BYTES, TINY_RUNS_MAX, TINY_STEP_BYTES),
            _ => (STORE_TABLE_BYTES, STORE_RUNS_MAX, STORE_STEP_BYTES),
        };
        let (folder, id_first) = (folder.to_string(), 1);
        Options { folder, codec, policy, table_bytes, id_first, runs_max, step_bytes, memory_bytes }
    }

    /// Bytes at which a memtable is frozen: a quarter.
    pub fn memtable_bytes(&self) -> usize {
        (self.memory_bytes / 4).min(STORE_MEMTABLE_BYTES_MAX)
    }

    /// What a memtable asks of the allocator at once, bytes: a power of two.
    pub fn chunk_bytes(&self) -> usize {
        let sixteenth = (self.memtable_bytes() / 16).next_power_of_two();
        sixteenth.clamp(STORE_ARENA_CHUNK_BYTES, STORE_ARENA_CHUNK_BYTES_MAX)
    }

    /// Longest value taken, bytes: one may come on top of a memtable that is nearly full.
    pub fn value_bytes_max(&self) -> usize {
        STORE_VALUE_BYTES_MAX.min(self.memory_bytes / 16)
    }

    /// Bytes that all memtables together may have: a half.
    pub fn memtables_bytes(&self) -> usize {
        self.memory_bytes / 2
    }

    /// Bytes that filters, fences and top indexes may have: a quarter. Tables beyond have neither
    /// filter nor fences.
    pub fn tables_bytes(&self) -> usize {
        self.memory_bytes / 4
    }

    /// Bytes of the block cache, beside tables and memtables that have so many: what is left, less
    /// an eighth for what is being written.
    pub fn cache_bytes(&self, tables_bytes: usize, memtables_bytes: usize) -> usize {
        let others = memtables_bytes + self.memory_bytes / 8 + tables_bytes;
        self.memory_bytes.saturating_sub(others)
    }
}
