//! The image of a shard: all that its operators know, as bytes, and back again, on any number of
//! shards.
//!
//! ```text
//! "CWIMG001" | sources: u32, for each: name | time its watermark has reached
//!            | stages: u32, for each:
//!                name | watermark | key columns: u32 | keys: u32, for each key, for each column:
//!                  0 (NULL) | 1, slot | 2, bytes
//!                handles: u32, for each: name | entries: u32, for each: key: u32 | bytes
//! numbers are little-endian, times and slots of 8 bytes; names and bytes have a length of 4 before
//! them
//! ```
//!
//! 1. Keys are named by their values, not by their slots: a slot means something on one shard of
//!    one run only.
//! 2. A key goes to the shard that owns its group now, whoever owned it before.
//! 3. A stage is known by its name, which has those of its transforms; one that the pipeline no
//!    longer has, or has otherwise, is an error that says so.
//!
//! The checksum is that of the file around it.

use std::path::PathBuf;

use super::RunError;
use super::graph::ShardGraph;
use super::stage::Stage;
use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::time::Time;
use crate::ground::{key, slot};
use crate::state::Handle;
use crate::state::keys::KeyTable;

const MAGIC: &[u8; 8] = b"CWIMG001";

/// What all shards of a checkpoint knew.
#[derive(Debug, Default)]
pub struct Restored {
    /// One for each shard of the run that made the checkpoint.
    pub shards: Vec<RestoredShard>,
    /// Number of the checkpoint.
    pub epoch: u64,
}

/// What one shard gave to a checkpoint.
#[derive(Debug, Default)]
pub struct RestoredShard {
    /// Its folder in the checkpoint.
    pub folder: PathBuf,
    /// Names of files there and what is in them, checked.
    pub read: Vec<(String, Vec<u8>)>,
    /// Names of files that check themselves when they are read.
    pub unread: Vec<String>,
}

/// Name of a shard's image.
pub const IMAGE: &str = "image";

/// Makes a shard's image. O(state).
pub fn image(graph: &mut ShardGraph) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put_len(graph.reached.len(), &mut out);
    for (name, reached) in &graph.reached {
        put_bytes(name.as_bytes(), &mut out);
        out.extend_from_slice(&reached.to_le_bytes());
    }
    put_len(graph.stages.len(), &mut out);
    for stage in &mut graph.stages {
        put_stage(stage, &mut out);
    }
    out
}

fn put_stage(stage: &mut Stage, out: &mut Vec<u8>) {
    put_bytes(stage.name.as_bytes(), out);
    out.extend_from_slice(&stage.reached().to_le_bytes());
    put_len(stage.key_types.len(), out);
    let keys = stage.keys.len() as u32;
    put_len(keys as usize, out);
    for slot in 0..keys {
        put_key(&stage.keys, slot, out);
    }
    let handles_at = out.len();
    put_len(0, out);
    let mut handles = 0u32;
    stage.state(&mut |name, handle| {
        handles += 1;
        put_bytes(name.as_bytes(), out);
        let (entries_at, mut entries) = (out.len(), 0u32);
        put_len(0, out);
        for slot in 0..keys {
            let at = out.len();
            out.extend_from_slice(&slot.to_le_bytes());
            put_len(0, out);
            let start = out.len();
            handle.save(slot, out);
            if out.len() == start {
                out.truncate(at);
                continue;
            }
            let len = (out.len() - start) as u32;
            out[start - 4..start].copy_from_slice(&len.to_le_bytes());
            entries += 1;
        }
        out[entries_at..entries_at + 4].copy_from_slice(&entries.to_le_bytes());
    });
    out[handles_at..handles_at + 4].copy_from_slice(&handles.to_le_bytes());
}

fn put_key(keys: &KeyTable, slot: u32, out: &mut Vec<u8>) {
    let nulls = keys.nulls(slot);
    for (column, value) in keys.row(slot).iter().enumerate() {
        if nulls[column / 64] >> (column % 64) & 1 == 1 {
            out.push(0);
        } else if keys.is_heaped(column) && slot::is_heaped(*value) {
            out.push(2);
            put_bytes(slot::bytes(value, keys.heap()), out);
        } else {
            out.push(1);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

fn put_len(len: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(len as u32).to_le_bytes());
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_len(bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// Gives a graph, which has seen nothing yet, what the shards of a checkpoint knew of the keys that
/// are its own now.
///
/// # Errors
/// [`RunError`]: an image that is damaged or does not belong to this pipeline.
pub fn restore(graph: &mut ShardGraph, restored: &Restored) -> Result<(), RunError> {
    for (number, shard) in restored.shards.iter().enumerate() {
        let image = shard.read.iter().find(|(name, _)| name == IMAGE);
        let Some((_, image)) = image else {
            let reason = format!("shard {number} has no image");
            return Err(RunError::of("checkpoint", reason));
        };
        let mut read = Read { rest: image, number };
        if read.take(MAGIC.len())? != MAGIC {
            return Err(read.damaged("it is no image of this version"));
        }
        for _ in 0..read.len()? {
            let name = read.name()?;
            let reached = read.word()? as Time;
            let own = graph.reached.iter_mut().find(|(own, _)| *own == name);
            if let Some((_, own)) = own {
                *own = reached.max(*own);
            }
        }
        for _ in 0..read.len()? {
            take_stage(graph, &mut read)?;
        }
    }
    Ok(())
}

fn take_stage(graph: &mut ShardGraph, read: &mut Read<'_>) -> Result<(), RunError> {
    let name = read.name()?;
    let watermark = read.word()? as Time;
    let (shard, shards) = (graph.shard, graph.shards);
    let Some(stage) = graph.stages.iter_mut().find(|stage| stage.name == name) else {
        return Err(RunError::of(
            "checkpoint",
            format!(
                "it has the state of `{name}`, which the pipeline no longer has in this form; put \
                 these transforms back as they were, or start afresh with `--restore none`"
            ),
        ));
    };
    let columns = read.len()?;
    if columns != stage.key_types.len() {
        let reason = format!("`{name}` had {columns} key columns when the checkpoint was made");
        return Err(RunError::of("checkpoint", reason));
    }
    let slots = take_keys(stage, read, shard, shards)?;
    stage.restore_watermark(watermark);
    for _ in 0..read.len()? {
        let handle = read.name()?;
        let entries = read.entries(&slots)?;
        let (mut found, mut failed) = (false, None);
        stage.state(&mut |own, state| {
            if own == handle {
                found = true;
                failed = load_all(state, &entries);
            }
        });
        if let Some(error) = failed {
            return Err(RunError::of("checkpoint", format!("`{name}`: {error}")));
        }
        if !found && !entries.is_empty() {
            let reason =
                format!("`{name}` has no state `{handle}` any more; start with `--restore none`");
            return Err(RunError::of("checkpoint", reason));
        }
    }
    Ok(())
}

fn load_all(state: &mut dyn Handle, entries: &[(u32, &[u8])]) -> Option<String> {
    let load = |&(slot, bytes): &(u32, &[u8])| state.load(slot, bytes).err();
    entries.iter().find_map(load).map(|error| error.to_string())
}

/// The slot of each saved key here; none for keys of other shards.
fn take_keys(
    stage: &mut Stage,
    read: &mut Read<'_>,
    shard: usize,
    shards: usize,
) -> Result<Vec<Option<u32>>, RunError> {
    const TOGETHER: usize = 1024;
    let (keys, width) = (read.len()?, stage.key_types.len());
    let columns: Vec<usize> = (0..width).collect();
    let mut slots = Vec::new();
    let mut builder = BatchBuilder::new(width, TOGETHER);
    for first in (0..keys).step_by(TOGETHER) {
        for _ in first..keys.min(first + TOGETHER) {
            read.key(&mut builder, width)?;
        }
        let batch = builder.finish();
        let mut hashes = Vec::new();
        let all: Vec<u32> = (0..batch.rows() as u32).collect();
        KeyTable::hash(&batch, &all, &columns, &stage.key_types, &mut hashes);
        let is_own = |row: &u32| key::shard_of(key::group(hashes[*row as usize]), shards) == shard;
        let own: Vec<u32> = all.iter().copied().filter(is_own).collect();
        let own_hashes: Vec<u64> = own.iter().map(|&row| hashes[row as usize]).collect();
        let mut found = Vec::new();
        resolve(stage, &batch, &own, &own_hashes, &mut found)?;
        let from = slots.len();
        slots.resize(from + all.len(), None);
        for (&row, &slot) in own.iter().zip(&found) {
            slots[from + row as usize] = Some(slot);
        }
        builder.recycle(batch);
    }
    Ok(slots)
}

fn resolve(
    stage: &mut Stage,
    batch: &RecordBatch,
    own: &[u32],
    hashes: &[u64],
    found: &mut Vec<u32>,
) -> Result<(), RunError> {
    let columns: Vec<usize> = (0..stage.key_types.len()).collect();
    let resolved = stage.keys.resolve(batch, own, &columns, hashes, found);
    resolved.map_err(|error| RunError::of(&stage.name, error))
}

/// Reads an image; `number` says which, in errors.
struct Read<'a> {
    rest: &'a [u8],
    number: usize,
}

impl<'a> Read<'a> {
    fn damaged(&self, reason: &str) -> RunError {
        let left = self.rest.len();
        RunError::of("checkpoint", format!("image {}: {reason} ({left} bytes left)", self.number))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], RunError> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.damaged("it is cut short"));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn word(&mut self) -> Result<u64, RunError> {
        let taken = self.take(8)?;
        Ok(u64::from_le_bytes(taken.try_into().expect("eight bytes were taken")))
    }

    fn len(&mut self) -> Result<usize, RunError> {
        let taken = self.take(4)?;
        Ok(u32::from_le_bytes(taken.try_into().expect("four bytes were taken")) as usize)
    }

    fn bytes(&mut self) -> Result<&'a [u8], RunError> {
        let len = self.len()?;
        self.take(len)
    }

    fn name(&mut self) -> Result<String, RunError> {
        let bytes = self.bytes()?;
        match std::str::from_utf8(bytes) {
            Ok(name) => Ok(name.to_string()),
            Err(_) => Err(self.damaged("a name is no text")),
        }
    }

    fn key(&mut self, builder: &mut BatchBuilder, width: usize) -> Result<(), RunError> {
        let (mut row, mut nulls) = (vec![0; width], vec![0u64; width.div_ceil(64)]);
        for (column, value) in row.iter_mut().enumerate() {
            match self.take(1)?[0] {
                0 => nulls[column / 64] |= 1 << (column % 64),
                1 => *value = self.word()?,
                2 => {
                    let bytes = self.bytes()?;
                    if bytes.len() > slot::HEAPED_MAX {
                        return Err(self.damaged("a key is too long"));
                    }
                    *value = slot::put(bytes, &mut builder.heap);
                }
                _ => return Err(self.damaged("a key is neither NULL nor a value")),
            }
        }
        builder.push_nulls(&row, &nulls);
        Ok(())
    }

    /// A handle's entries for the keys that have a slot here.
    fn entries(&mut self, slots: &[Option<u32>]) -> Result<Vec<(u32, &'a [u8])>, RunError> {
        let mut entries = Vec::new();
        for _ in 0..self.len()? {
            let key = self.len()?;
            let bytes = self.bytes()?;
            match slots.get(key) {
                Some(Some(slot)) => entries.push((*slot, bytes)),
                Some(None) => {}
                None => return Err(self.damaged("it names a key that it does not have")),
            }
        }
        Ok(entries)
    }
}
