//! Giving a shard what the shards of a checkpoint knew, on any number of shards.
//!
//! 1. A key goes to the shard that owns its group now, whoever owned it before.
//! 2. A stage is known by its name, which has those of its transforms; one that the pipeline no
//!    longer has, or has otherwise, is an error that says so.
//! 3. Deltas are read from the newest to the oldest, and in each the parts from the last to the
//!    first: what was read of a key first is right (snapshot invariant 1).

use hashbrown::HashSet;

use super::RunError;
use super::cold::Cold;
use super::graph::ShardGraph;
use super::host::Host;
use super::record::{self, StoreKey};
use super::snapshot::{
    DELTA, DELTA_MAGIC, IMAGE, IMAGE_MAGIC, IN_STORE, LOT, Restored, RestoredShard, STORE_MEMORY,
};
use super::stage::Stage;
use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::time::Time;
use crate::ground::{key, slot};
use crate::state::Handle;
use crate::state::keys::KeyTable;
use crate::state::residence::{LIVE, STALE, STORED};

/// Keys whose slots are found together.
const TOGETHER: usize = 1024;

/// Gives a graph, which has seen nothing yet, what the shards of a checkpoint knew of the keys that
/// are its own now, and the store beneath what it had.
///
/// # Errors
/// [`RunError`]: a file that is damaged or does not belong to this pipeline.
pub async fn restore<H: Host>(
    graph: &mut ShardGraph,
    restored: &Restored,
    cold: &Cold<H>,
) -> Result<(), RunError> {
    for (number, shard) in restored.shards.iter().enumerate() {
        let what = format!("image of shard {number}");
        let Some((_, image)) = shard.read.iter().find(|(name, _)| name == IMAGE) else {
            return Err(RunError::of("checkpoint", format!("there is no {what}")));
        };
        take_image(graph, &mut Read { rest: image, what })?;
    }
    let has_store = restored.shards.iter().any(RestoredShard::has_store);
    let mut in_store = InStore::default();
    if has_store {
        cold.adopt(graph, restored).await?;
    }
    for (number, shard) in restored.shards.iter().enumerate() {
        let mut deltas: Vec<_> =
            shard.read.iter().filter(|(name, _)| name.starts_with(DELTA)).collect();
        deltas.sort_by(|(a, _), (b, _)| b.cmp(a));
        for (name, bytes) in deltas {
            let what = format!("`{name}` of shard {number}");
            take_delta(graph, Read { rest: bytes, what }, cold, has_store, &mut in_store).await?;
        }
    }
    graph.stages.iter_mut().for_each(|stage| drop(stage.keys.take_fresh()));
    Ok(())
}

impl RestoredShard {
    /// Whether keys of the shard were in the store beneath.
    pub fn has_store(&self) -> bool {
        self.read.iter().any(|(name, _)| name == crate::store::manifest::NAME)
    }
}

fn take_image(graph: &mut ShardGraph, read: &mut Read<'_>) -> Result<(), RunError> {
    if read.take(IMAGE_MAGIC.len())? != IMAGE_MAGIC {
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
        take_stage(graph, read)?;
    }
    Ok(())
}

fn take_stage(graph: &mut ShardGraph, read: &mut Read<'_>) -> Result<(), RunError> {
    let (name, id) = (read.name()?, read.half()?);
    let watermark = read.word()? as Time;
    let Some(at) = graph.stages.iter().position(|stage| stage.name == name) else {
        return Err(RunError::of(
            "checkpoint",
            format!(
                "it has the state of `{name}`, which the pipeline no longer has in this form; put \
                 these transforms back as they were, or start afresh with `--restore none`"
            ),
        ));
    };
    let old = std::mem::replace(&mut graph.stages[at].id, id);
    // Numbers stay apart: a stage that is new takes the number that this one had.
    let others = graph.stages.iter_mut().enumerate().filter(|(i, _)| *i != at);
    if let Some((_, other)) = others.into_iter().find(|(_, stage)| stage.id == id) {
        other.id = old;
    }
    let stage = &mut graph.stages[at];
    let columns = read.len()?;
    if columns != stage.key_types.len() {
        let reason = format!("`{name}` had {columns} key columns when the checkpoint was made");
        return Err(RunError::of("checkpoint", reason));
    }
    stage.restore_watermark(watermark);
    for _ in 0..read.len()? {
        let handle = read.name()?;
        let bytes = read.bytes()?;
        let mut failed = None;
        stage.state(&mut |own, state| {
            if own == handle && !bytes.is_empty() {
                failed = state.load_whole(bytes).err();
            }
        });
        if let Some(error) = failed {
            return Err(RunError::of("checkpoint", format!("`{name}`: {error}")));
        }
    }
    Ok(())
}

/// Keys of records that are in the store, whatever older deltas say of them.
type InStore = HashSet<Vec<u8>>;

async fn take_delta<H: Host>(
    graph: &mut ShardGraph,
    mut read: Read<'_>,
    cold: &Cold<H>,
    has_store: bool,
    in_store: &mut InStore,
) -> Result<(), RunError> {
    if read.take(DELTA_MAGIC.len())? != DELTA_MAGIC {
        return Err(read.damaged("it is no delta of this version"));
    }
    // Each part's kind, and where it begins behind that.
    let mut parts = Vec::new();
    while !read.rest.is_empty() {
        let kind = read.take(1)?[0];
        parts.push((kind, Read { rest: read.rest, what: read.what.clone() }));
        match kind {
            LOT => skip_lot(graph, &mut read)?,
            STORE_MEMORY => skip_store_memory(&mut read)?,
            IN_STORE => drop(skip_keys(graph, &mut read)?),
            _ => return Err(read.damaged("a part is of no known kind")),
        }
    }
    for (kind, mut read) in parts.into_iter().rev() {
        match kind {
            LOT => take_lot(graph, &mut read, has_store, in_store)?,
            STORE_MEMORY => take_store_memory(graph, &mut read, cold, in_store).await?,
            _ => take_in_store(graph, &mut read, in_store)?,
        }
    }
    Ok(())
}

fn stage_of<'a>(
    graph: &'a mut ShardGraph,
    id: u16,
    read: &Read<'_>,
) -> Result<&'a mut Stage, RunError> {
    let found = graph.stages.iter_mut().find(|stage| stage.id == id);
    found.ok_or_else(|| read.damaged("it names a stage that the image does not have"))
}

/// Passes a stage's number and its keys, and gives the number.
fn skip_keys(graph: &mut ShardGraph, read: &mut Read<'_>) -> Result<u16, RunError> {
    let id = read.half()?;
    let width = stage_of(graph, id, read)?.key_types.len();
    for _ in 0..read.len()? {
        read.skip_key(width)?;
    }
    Ok(id)
}

fn skip_lot(graph: &mut ShardGraph, read: &mut Read<'_>) -> Result<(), RunError> {
    skip_keys(graph, read)?;
    for _ in 0..read.len()? {
        read.bytes()?;
        for _ in 0..read.len()? {
            read.len()?;
            read.bytes()?;
        }
    }
    Ok(())
}

fn skip_store_memory(read: &mut Read<'_>) -> Result<(), RunError> {
    for _ in 0..read.len()? {
        read.bytes()?;
        read.take(1)?;
        read.bytes()?;
    }
    Ok(())
}

fn take_lot(
    graph: &mut ShardGraph,
    read: &mut Read<'_>,
    has_store: bool,
    in_store: &InStore,
) -> Result<(), RunError> {
    let id = read.half()?;
    let (shard, shards) = (graph.shard, graph.shards);
    let stage = stage_of(graph, id, read)?;
    let name = stage.name.clone();
    let keys = read.len()?;
    let mut slots = Vec::new();
    for first in (0..keys).step_by(TOGETHER) {
        let count = TOGETHER.min(keys - first);
        let batch = read.keys(count, stage.key_types.len())?;
        let found = resolve(stage, &batch, |group| key::shard_of(group, shards) == shard)?;
        let mut comes = |slot: u32| come(stage, slot, has_store, in_store);
        slots.extend(found.into_iter().map(|slot| slot.filter(|&slot| comes(slot))));
    }
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

/// Whether a slot's key is read for the first time; it has come to memory then.
fn come(stage: &mut Stage, slot: u32, has_store: bool, in_store: &InStore) -> bool {
    if stage.residence.has(slot, LIVE) {
        return false;
    }
    if !in_store.is_empty() {
        let mut key = Vec::new();
        record::put_key(&stage.keys, slot, &mut key);
        let group = key::group(stage.keys.hash_of(slot)) as u16;
        if in_store.contains(&record::record_key(stage.id, group, &key)) {
            stage.keys.release(slot);
            return false;
        }
    }
    let stored = if has_store { STORED } else { 0 };
    stage.residence.set(slot, LIVE | STALE | stored);
    true
}

/// Whether a key is in memory; it has no slot if not.
fn is_in_memory(stage: &mut Stage, key: Read<'_>) -> Result<bool, RunError> {
    let mut key = key;
    let batch = key.keys(1, stage.key_types.len())?;
    let Some(slot) = resolve(stage, &batch, |_| true)?[0] else { return Ok(false) };
    let is_here = stage.residence.has(slot, LIVE);
    if !is_here {
        stage.keys.release(slot);
    }
    Ok(is_here)
}

async fn take_store_memory<H: Host>(
    graph: &mut ShardGraph,
    read: &mut Read<'_>,
    cold: &Cold<H>,
    in_store: &mut InStore,
) -> Result<(), RunError> {
    let (shard, shards) = (graph.shard, graph.shards);
    for _ in 0..read.len()? {
        let bytes = read.bytes()?;
        let value = match read.take(1)?[0] {
            1 => Some(read.bytes()?),
            _ => read.bytes().map(|_| None)?,
        };
        let damaged = || read.damaged("a key of the store is of no known form");
        match StoreKey::of(bytes).ok_or_else(damaged)? {
            StoreKey::Record { stage, group, key } => {
                if key::shard_of(usize::from(group), shards) != shard || in_store.contains(bytes) {
                    continue;
                }
                let of_key = Read { rest: key, what: read.what.clone() };
                if !is_in_memory(stage_of(graph, stage, read)?, of_key)? {
                    cold.put_back(bytes, value).await?;
                    in_store.insert(bytes.to_vec());
                }
            }
            StoreKey::Timer { group, .. } => {
                // One too many does no harm, one too few would.
                if value.is_some() && key::shard_of(usize::from(group), shards) == shard {
                    cold.put_back(bytes, value).await?;
                }
            }
        }
    }
    Ok(())
}

/// Notes keys that have gone to the store.
fn take_in_store(
    graph: &mut ShardGraph,
    read: &mut Read<'_>,
    in_store: &mut InStore,
) -> Result<(), RunError> {
    let id = read.half()?;
    let stage = stage_of(graph, id, read)?;
    let width = stage.key_types.len();
    for _ in 0..read.len()? {
        let before = read.rest;
        read.skip_key(width)?;
        let key = &before[..before.len() - read.rest.len()];
        let mut of_key = Read { rest: key, what: read.what.clone() };
        let batch = of_key.keys(1, width)?;
        let columns: Vec<usize> = (0..width).collect();
        let mut hashes = Vec::new();
        KeyTable::hash(&batch, &[0], &columns, &stage.key_types, &mut hashes);
        in_store.insert(record::record_key(id, key::group(hashes[0]) as u16, key));
    }
    Ok(())
}

/// Loads the records of slots that are clear.
///
/// # Errors
/// [`RunError`]: a record that is damaged, or of a handle that the stage does not have.
pub fn load_records(stage: &mut Stage, records: &[(u32, &[u8])]) -> Result<(), RunError> {
    let name = stage.name.clone();
    let wrong = |reason: String| RunError::of("state", format!("`{name}`: {reason}"));
    let mut parts = Vec::with_capacity(records.len());
    for (slot, bytes) in records {
        let of_slot = record::parts(bytes);
        let of_slot = of_slot.ok_or_else(|| wrong("a record is cut short".into()))?;
        parts.extend(of_slot.into_iter().map(|(handle, bytes)| (handle, *slot, bytes)));
    }
    let (mut loaded, mut failed) = (0, None);
    stage.state(&mut |own, state| {
        let number = record::handle_number(own);
        for &(_, slot, bytes) in parts.iter().filter(|(handle, _, _)| *handle == number) {
            loaded += 1;
            if let Err(error) = state.load(slot, bytes) {
                failed.get_or_insert(error);
            }
        }
    });
    match failed {
        Some(error) => Err(wrong(error.to_string())),
        None if loaded < parts.len() => {
            Err(wrong("a record has state that the transform no longer has".into()))
        }
        None => Ok(()),
    }
}

fn load_all(state: &mut dyn Handle, entries: &[(u32, &[u8])]) -> Option<String> {
    let load = |&(slot, bytes): &(u32, &[u8])| state.load(slot, bytes).err();
    entries.iter().find_map(load).map(|error| error.to_string())
}

/// The slot of each key of a batch of keys whose group is wanted.
pub(super) fn resolve(
    stage: &mut Stage,
    batch: &RecordBatch,
    is_wanted: impl Fn(usize) -> bool,
) -> Result<Vec<Option<u32>>, RunError> {
    let columns: Vec<usize> = (0..stage.key_types.len()).collect();
    let mut hashes = Vec::new();
    let all: Vec<u32> = (0..batch.rows() as u32).collect();
    KeyTable::hash(batch, &all, &columns, &stage.key_types, &mut hashes);
    let is_own = |row: &u32| is_wanted(key::group(hashes[*row as usize]));
    let own: Vec<u32> = all.iter().copied().filter(is_own).collect();
    let own_hashes: Vec<u64> = own.iter().map(|&row| hashes[row as usize]).collect();
    let mut found = Vec::new();
    let resolved = stage.keys.resolve(batch, &own, &columns, &own_hashes, &mut found);
    resolved.map_err(|error| RunError::of(&stage.name, error))?;
    let mut slots = vec![None; all.len()];
    for (&row, &slot) in own.iter().zip(&found) {
        slots[row as usize] = Some(slot);
    }
    Ok(slots)
}

/// Reads a file of a shard; `what` says which, in errors.
pub(super) struct Read<'a> {
    pub rest: &'a [u8],
    pub what: String,
}

impl<'a> Read<'a> {
    fn damaged(&self, reason: &str) -> RunError {
        let left = self.rest.len();
        RunError::of("checkpoint", format!("{}: {reason} ({left} bytes left)", self.what))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], RunError> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.damaged("it is cut short"));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn half(&mut self) -> Result<u16, RunError> {
        let taken = self.take(2)?;
        Ok(u16::from_le_bytes(taken.try_into().expect("two bytes were taken")))
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

    /// One key of `width` columns.
    pub fn key(&mut self, builder: &mut BatchBuilder, width: usize) -> Result<(), RunError> {
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

    /// So many keys of `width` columns.
    pub fn keys(&mut self, count: usize, width: usize) -> Result<RecordBatch, RunError> {
        let mut builder = BatchBuilder::new(width, count);
        for _ in 0..count {
            self.key(&mut builder, width)?;
        }
        Ok(builder.finish())
    }

    fn skip_key(&mut self, width: usize) -> Result<(), RunError> {
        for _ in 0..width {
            match self.take(1)?[0] {
                0 => {}
                1 => drop(self.take(8)?),
                2 => drop(self.bytes()?),
                _ => return Err(self.damaged("a key is neither NULL nor a value")),
            }
        }
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
