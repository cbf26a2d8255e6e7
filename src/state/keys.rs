//! Keys of a shard and their dense slots: hashed once, at ingest, for all operators behind.
//!
//! Open addressing over (hash, slot) pairs; the key's values lie row by row in slot order, as in a
//! record batch, so that they can be put out and saved as they are.

use crate::ground::batch::RecordBatch;
use crate::ground::schema::DataType;

/// The keys of one stage on one shard. NULL is a key value like any other, as in GROUP BY.
pub struct KeyTable {
    _todo: (),
}

impl KeyTable {
    /// A table for keys of these columns' types.
    pub fn new(_types: &[DataType]) -> KeyTable {
        KeyTable { _todo: () }
    }

    /// Hash of each selected row's key: what routes a row to its shard and finds its slot there.
    pub fn hash(
        _batch: &RecordBatch,
        _select: &[u32],
        _columns: &[usize],
        _types: &[DataType],
        _out: &mut Vec<u64>,
    ) {
    }

    /// Slot of each selected row's key, given its hash; new keys get the next slot.
    pub fn resolve(
        &mut self,
        _batch: &RecordBatch,
        _select: &[u32],
        _columns: &[usize],
        _hashes: &[u64],
        _slots: &mut Vec<u32>,
    ) {
    }

    /// Keys seen so far; slots are below it.
    pub fn len(&self) -> usize {
        0
    }

    /// Values of a key: one slot a key column; long texts lie in [`KeyTable::heap`].
    pub fn row(&self, _slot: u32) -> &[u64] {
        &[]
    }

    /// Null words of a key (`ceil(columns / 64)`).
    pub fn nulls(&self, _slot: u32) -> &[u64] {
        &[]
    }

    /// Long texts of the keys.
    pub fn heap(&self) -> &[u8] {
        &[]
    }
}
