//! Giving a shard what the shards of a checkpoint knew, on any number of shards.
//!
//! 1. A key goes to the shard that owns its group now, whoever owned it before.
//! 2. A stage is known by its name, which has those of its transforms; one that the pipeline no
//!    longer has, or has otherwise, is an error that says so.
//! 3. On as many shards as before each takes what its own knew. On other numbers, rows that are to
//!    be worked through again are, for each of the old shards by itself, before keys are dealt.
//! 4. Deltas are read from the newest to the oldest, and in each the parts from the last to the
//!    first: what was read of a key first is right (snapshot invariant 1).
//! 5. Slices of a base are loaded where the rows that are worked through say so (`slices`).

mod read;
mod replay;
mod slices;

use hashbrown::HashSet;

use super::RunError;
use super::cold::Cold;
use super::graph::ShardGraph;
use super::host::Host;
use super::record::{self, StoreKey};
use super::run::Build;
use super::snapshot::{
    ALL, DELTA, DELTA_MAGIC, IMAGE, IMAGE_MAGIC, IN_STORE, LOT, ReadRows, Restored, RestoredShard,
    SLICE, SLICES_MAGIC, START, STORE_MEMORY, whole,
};
use super::stage::Stage;
use super::tables;
use crate::ground::batch::RecordBatch;
use crate::ground::key;
use crate::ground::time::Time;
use crate::state::Handle;
use crate::state::keys::KeyTable;
use crate::state::residence::{LIVE, STALE, STORED};

pub(super) use read::Read;
use replay::replay;
use slices::Slices;

/// Keys whose slots are found together.
const RESOLVED: usize = 1024;

/// Gives a graph, which has seen nothing yet, what the shards of a checkpoint knew of the keys that
/// are its own now, and the store beneath what it had. `build` makes stages like the graph's.
///
/// # Errors
/// [`RunError`]: a file that is damaged or does not belong to this pipeline.
pub async fn restore<H: Host>(
    graph: &mut ShardGraph,
    restored: &Restored,
    cold: &Cold<H>,
    build: &dyn Build,
) -> Result<(), RunError> {
    for (number, shard) in restored.shards.iter().enumerate() {
        image(shard, IMAGE, number)?.note_reached(graph);
    }
    tables::restore(graph, restored)?;
    if restored.shards.len() == graph.shards {
        let (number, own) = (graph.shard, &restored.shards[graph.shard]);
        load_image(graph, own, number)?;
        if own.has_store() {
            cold.adopt(graph, restored).await?;
        }
        load_keys(graph, own, number, cold).await?;
    } else {
        // What each of them knew, with no rows to be worked through: they went to stages whose
        // watermarks were their own.
        let mut plain: Vec<Option<RestoredShard>> = Vec::new();
        for (number, shard) in restored.shards.iter().enumerate() {
            plain.push(match shard.has_log() {
                true => Some(work_off(graph, shard, number, cold, build).await?),
                false => None,
            });
        }
        let shards = restored.shards.iter().zip(&plain);
        let shards: Vec<&RestoredShard> =
            shards.map(|(shard, plain)| plain.as_ref().unwrap_or(shard)).collect();
        for (number, shard) in shards.iter().enumerate() {
            load_image(graph, shard, number)?;
        }
        if shards.iter().any(|shard| shard.has_store()) {
            cold.adopt(graph, restored).await?;
        }
        for (number, shard) in shards.iter().enumerate() {
            load_keys(graph, shard, number, cold).await?;
        }
    }
    graph.stages.iter_mut().for_each(|stage| drop(stage.keys.take_fresh()));
    Ok(())
}

/// What a shard with logs knew of the keys that are `graph`'s now, as files without logs.
async fn work_off<H: Host>(
    graph: &mut ShardGraph,
    shard: &RestoredShard,
    number: usize,
    cold: &Cold<H>,
    build: &dyn Build,
) -> Result<RestoredShard, RunError> {
    let mut fresh = build.stages()?;
    fresh.iter_mut().for_each(Stage::track);
    let kept = std::mem::replace(&mut graph.stages, fresh);
    let done = match load_image(graph, shard, number) {
        Ok(()) => load_keys(graph, shard, number, cold).await,
        Err(error) => Err(error),
    };
    let read = done.map(|()| whole(graph));
    graph.stages = kept;
    Ok(RestoredShard { read: read?, ..RestoredShard::default() })
}

/// The stages as an image says; with logs, as the one from which they go on.
fn load_image(
    graph: &mut ShardGraph,
    shard: &RestoredShard,
    number: usize,
) -> Result<(), RunError> {
    let has_log = shard.has_log();
    let image = image(shard, if has_log { START } else { IMAGE }, number)?;
    image.stages.iter().try_for_each(|stage| load_stage(graph, stage, has_log))
}

/// The keys of a shard, whose image has been loaded.
async fn load_keys<H: Host>(
    graph: &mut ShardGraph,
    shard: &RestoredShard,
    number: usize,
    cold: &Cold<H>,
) -> Result<(), RunError> {
    let mut in_store = InStore::default();
    let mut slices = Slices::default();
    for (name, bytes) in shard.deltas().iter().rev() {
        let read = Read { rest: bytes, what: format!("`{name}` of shard {number}") };
        take_delta(graph, read, cold, shard.has_store(), &mut in_store, &mut slices).await?;
    }
    if !shard.has_log() {
        return slices.end();
    }
    let mut rows = shard.rows.clone();
    rows.sort();
    for name in rows {
        let what = format!("`{name}` of shard {number}");
        let Some(ReadRows(read)) = &shard.read_rows else {
            return Err(RunError::of("checkpoint", format!("{what} cannot be read (a bug)")));
        };
        let bytes = read(&shard.folder, &name);
        let bytes = bytes.map_err(|error| RunError::of("checkpoint", error))?;
        replay(graph, Read { rest: &bytes, what }, &mut slices)?;
    }
    slices.end()?;
    for known in &image(shard, IMAGE, number)?.stages {
        let stage = graph.stages.iter().find(|stage| stage.name == known.name);
        let reached = stage.map(Stage::reached);
        if reached != Some(known.watermark) {
            let (name, wanted) = (&known.name, known.watermark);
            let why = format!(
                "`{name}` comes to the watermark {reached:?} by the rows that are kept, and was at \
                 {wanted} (a bug)"
            );
            return Err(RunError::of("checkpoint", why));
        }
    }
    Ok(())
}

impl RestoredShard {
    /// Whether keys of the shard were in the store beneath.
    pub fn has_store(&self) -> bool {
        self.read.iter().any(|(name, _)| name == crate::store::manifest::NAME)
    }

    /// Whether rows are to be worked through again.
    pub fn has_log(&self) -> bool {
        self.read.iter().any(|(name, _)| name == START)
    }

    /// Deltas, in the order of their epochs.
    fn deltas(&self) -> Vec<&(String, Vec<u8>)> {
        let mut deltas: Vec<_> =
            self.read.iter().filter(|(name, _)| name.starts_with(DELTA)).collect();
        deltas.sort_by(|(a, _), (b, _)| a.cmp(b));
        deltas
    }
}

/// An image, taken apart.
struct Image<'a> {
    reached: Vec<(String, Time)>,
    stages: Vec<ImageStage<'a>>,
}

struct ImageStage<'a> {
    name: String,
    id: u16,
    watermark: Time,
    key_columns: usize,
    forms: Vec<u64>,
    /// Names of handles and what they know beside keys.
    handles: Vec<(String, &'a [u8])>,
}

impl Image<'_> {
    fn note_reached(&self, graph: &mut ShardGraph) {
        self.reached.iter().for_each(|(name, reached)| graph.note_reached(name, *reached));
    }
}

fn image<'a>(shard: &'a RestoredShard, name: &str, number: usize) -> Result<Image<'a>, RunError> {
    let what = format!("`{name}` of shard {number}");
    let Some((_, bytes)) = shard.read.iter().find(|(own, _)| own == name) else {
        return Err(RunError::of("checkpoint", format!("there is no {what}")));
    };
    let mut read = Read { rest: bytes, what };
    if read.take(IMAGE_MAGIC.len())? != IMAGE_MAGIC {
        return Err(read.damaged("it is no image of this version"));
    }
    let mut image = Image { reached: Vec::new(), stages: Vec::new() };
    for _ in 0..read.len()? {
        image.reached.push((read.name()?, read.word()? as Time));
    }
    for _ in 0..read.len()? {
        let (name, id) = (read.name()?, read.half()?);
        let (watermark, key_columns) = (read.word()? as Time, read.len()?);
        let mut stage =
            ImageStage { name, id, watermark, key_columns, forms: Vec::new(), handles: Vec::new() };
        for _ in 0..read.len()? {
            stage.forms.push(read.word()?);
        }
        for _ in 0..read.len()? {
            stage.handles.push((read.name()?, read.bytes()?));
        }
        image.stages.push(stage);
    }
    Ok(image)
}

/// `has_log`: rows are to be worked through again, so they must have the stage's form.
fn load_stage(
    graph: &mut ShardGraph,
    known: &ImageStage<'_>,
    has_log: bool,
) -> Result<(), RunError> {
    let name = &known.name;
    let refused = |reason: String| Err(RunError::of("checkpoint", reason));
    let Some(at) = graph.stages.iter().position(|stage| stage.name == *name) else {
        return refused(format!(
            "it has the state of `{name}`, which the pipeline no longer has in this form; put \
             these transforms back as they were, or start afresh with `--restore none`"
        ));
    };
    let old = std::mem::replace(&mut graph.stages[at].id, known.id);
    // Numbers stay apart: a stage that is new takes the number that this one had.
    let others = graph.stages.iter_mut().enumerate().filter(|(i, _)| *i != at);
    if let Some((_, other)) = others.into_iter().find(|(_, stage)| stage.id == known.id) {
        other.id = old;
    }
    let stage = &mut graph.stages[at];
    if known.key_columns != stage.key_types.len() {
        let columns = known.key_columns;
        return refused(format!("`{name}` had {columns} key columns when the checkpoint was made"));
    }
    if has_log && !stage.inputs.iter().map(|input| input.form).eq(known.forms.iter().copied()) {
        return refused(format!(
            "`{name}` took rows of other columns when the checkpoint was made, and it was made in \
             the middle of a run, with rows of that form to be worked through; run the pipeline as \
             it was once more and end it in order (SIGTERM): the checkpoint of its end has none; \
             or start afresh with `--restore none`"
        ));
    }
    stage.restore_watermark(known.watermark);
    for (handle, bytes) in known.handles.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        let mut failed = None;
        stage.state(&mut |own, state| {
            if own == handle {
                failed = state.load_whole(bytes).err();
            }
        });
        if let Some(error) = failed {
            return refused(format!("`{name}`: {error}"));
        }
    }
    Ok(())
}

/// Keys of records that are in the store, whatever older deltas say of them.
type InStore = HashSet<Vec<u8>>;

async fn take_delta<'a, H: Host>(
    graph: &mut ShardGraph,
    mut read: Read<'a>,
    cold: &Cold<H>,
    has_store: bool,
    in_store: &mut InStore,
    slices: &mut Slices<'a>,
) -> Result<(), RunError> {
    match read.take(DELTA_MAGIC.len())? {
        magic if magic == DELTA_MAGIC => {}
        magic if magic == SLICES_MAGIC => drop(read.len()?),
        _ => return Err(read.damaged("it is no delta of this version")),
    }
    // Each part's kind, and where it begins behind that.
    let mut parts = Vec::new();
    while !read.rest.is_empty() {
        let kind = read.take(1)?[0];
        parts.push((kind, Read { rest: read.rest, what: read.what.clone() }));
        match kind {
            SLICE => {
                parts.pop();
                slices.take(graph, &mut read)?;
            }
            LOT | ALL => skip_lot(graph, &mut read, kind == ALL)?,
            STORE_MEMORY => skip_store_memory(&mut read)?,
            IN_STORE => drop(skip_keys(graph, &mut read)?),
            _ => return Err(read.damaged("a part is of no known kind")),
        }
    }
    for (kind, mut read) in parts.into_iter().rev() {
        match kind {
            LOT | ALL => take_lot(graph, &mut read, kind == ALL, has_store, in_store)?,
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

fn skip_lot(graph: &mut ShardGraph, read: &mut Read<'_>, is_all: bool) -> Result<(), RunError> {
    skip_keys(graph, read)?;
    skip_handles(read, is_all)
}

fn skip_handles(read: &mut Read<'_>, is_all: bool) -> Result<(), RunError> {
    for _ in 0..read.len()? {
        read.bytes()?;
        if is_all && read.is_together()? {
            read.bytes()?;
            continue;
        }
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
    is_all: bool,
    has_store: bool,
    in_store: &InStore,
) -> Result<(), RunError> {
    let id = read.half()?;
    let mut slots = read_keys(graph, id, read)?;
    let stage = stage_of(graph, id, read)?;
    for slot in &mut slots {
        *slot = slot.filter(|&slot| come(stage, slot, has_store, in_store));
    }
    load_handles(stage, read, is_all, &slots)
}

/// The slots of keys that are read: those that are the shard's own now.
fn read_keys(
    graph: &mut ShardGraph,
    id: u16,
    read: &mut Read<'_>,
) -> Result<Vec<Option<u32>>, RunError> {
    let (shard, shards) = (graph.shard, graph.shards);
    let stage = stage_of(graph, id, read)?;
    let keys = read.len()?;
    let mut slots = Vec::new();
    for first in (0..keys).step_by(RESOLVED) {
        let count = RESOLVED.min(keys - first);
        let batch = read.keys(count, stage.key_types.len())?;
        slots.extend(resolve(stage, &batch, |group| key::shard_of(group, shards) == shard)?);
    }
    Ok(slots)
}

/// Loads what follows keys, into those that have a slot here.
fn load_handles(
    stage: &mut Stage,
    read: &mut Read<'_>,
    is_all: bool,
    slots: &[Option<u32>],
) -> Result<(), RunError> {
    let name = stage.name.clone();
    for _ in 0..read.len()? {
        let handle = read.name()?;
        let is_together = is_all && read.is_together()?;
        let together = if is_together { read.bytes()? } else { &[] };
        let entries = if is_together { Vec::new() } else { read.entries(slots)? };
        let (mut found, mut failed) = (false, None);
        stage.state(&mut |own, state| {
            if own == handle {
                found = true;
                failed = match is_together {
                    true => state.load_all(slots, together).err().map(|error| error.to_string()),
                    false => load_all(state, &entries),
                };
            }
        });
        if let Some(error) = failed {
            return Err(RunError::of("checkpoint", format!("`{name}`: {error}")));
        }
        if !found && (is_together || !entries.is_empty()) {
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
