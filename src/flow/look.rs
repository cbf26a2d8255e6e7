//! A checkpoint that is looked into: one shard's keys as a run would have them that goes on from
//! it, in memory and in the store beneath. Nothing is processed.
//!
//! 1. Every key is met once: one that is in memory hides what the store has of it, and what was put
//!    back into the store's memory hides what its tables have.
//! 2. Keys of the store come to memory in lots, are shown, and go again: what is held does not grow
//!    with the store.

use std::collections::BTreeMap;

use super::RunError;
use super::cold::{Cold, StateSettings};
use super::graph::ShardGraph;
use super::host::Host;
use super::record::{self, StoreKey};
use super::restore::{Read, load_records, resolve, restore};
use super::run::Build;
use super::snapshot::{Beneath, Restored};
use super::stage::Stage;
use crate::ground::batch::RecordBatch;
use crate::ground::key;
use crate::ground::limits::{COLD_LOT_KEYS, STORE_REQUEST_BYTES};
use crate::state::keys::KeyTable;
use crate::state::residence::LIVE;
use crate::store::disk::{Disk, File};
use crate::store::error::StoreError;
use crate::store::manifest::NAME;
use crate::store::options::Options;
use crate::store::tree::Tree;

/// The store's clock stands still, as in a run.
const NOW_MS: u64 = 0;

/// Where a key was when the checkpoint was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    Memory,
    Store,
}

/// One shard of a checkpoint.
pub struct Look<H: Host> {
    graph: ShardGraph,
    below: Option<Below<H::Disk>>,
}

/// The store beneath at the moment when all was restored.
struct Below<D: Disk> {
    /// What its memory had: values by key, none where a key was deleted.
    newer: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    tables: Tree<D>,
}

impl<H: Host> Look<H> {
    /// Restores a shard of a checkpoint into a graph of its own. What has to be written goes to the
    /// settings' folder.
    ///
    /// # Errors
    /// [`RunError`]: the checkpoint is damaged or of another pipeline, or the disk fails.
    pub async fn open(
        host: &H,
        (build, shard): (&dyn Build, usize),
        restored: &Restored,
        settings: StateSettings,
    ) -> Result<Look<H>, RunError> {
        let mut graph = build.graph(shard)?;
        let cold = Cold::new(host.clone(), graph.shard, Some(settings.clone()));
        graph.stages.iter_mut().for_each(Stage::track);
        restore(&mut graph, restored, &cold, build).await?;
        let below = Below::of(host, &*cold, &settings).await?;
        Ok(Look { graph, below })
    }

    /// The stage of a transform, and its place among the stage's operators.
    pub fn stage_of(&self, transform: &str) -> Option<(usize, usize)> {
        let operators = self.graph.stages.iter().map(|stage| stage.operator(transform));
        operators.enumerate().find_map(|(at, operator)| Some((at, operator?)))
    }

    /// Calls `each` with all keys of a stage in lots, each key with its state in memory, until it
    /// says that this was enough.
    ///
    /// # Errors
    /// [`RunError`]: a record that is damaged, or a disk that fails.
    pub async fn keys(
        &mut self,
        at: usize,
        mut each: impl FnMut(&mut Stage, &[u32], Home) -> bool,
    ) -> Result<(), RunError> {
        let stage = &mut self.graph.stages[at];
        let mut slots = Vec::new();
        stage.residence.take_changed(true, &mut slots);
        for lot in slots.chunks(COLD_LOT_KEYS) {
            if !each(stage, lot, Home::Memory) {
                return Ok(());
            }
        }
        let Some(below) = &self.below else { return Ok(()) };
        let mut lot = Lot::default();
        for (key, value) in &below.newer {
            if let Some(record) = value
                && lot.take(stage, key, record)?
                && !lot.show(stage, &mut each)?
            {
                return Ok(());
            }
        }
        let mut scan = below.tables.scan(&[], NOW_MS).await.map_err(of_store)?;
        while let Some((key, record)) = scan.entry() {
            if !below.newer.contains_key(key)
                && lot.take(stage, key, record)?
                && !lot.show(stage, &mut each)?
            {
                return Ok(());
            }
            scan.next().await.map_err(of_store)?;
        }
        lot.show(stage, &mut each).map(drop)
    }

    /// Brings one key to memory, whose columns are those of the only row of `key`, and calls `each`
    /// with its slot; not if the stage does not know it.
    ///
    /// # Errors
    /// As [`Look::keys`].
    pub async fn key(
        &mut self,
        at: usize,
        key: &RecordBatch,
        mut each: impl FnMut(&mut Stage, u32, Home),
    ) -> Result<(), RunError> {
        let stage = &mut self.graph.stages[at];
        let Some(slot) = resolve(stage, key, |_| true)?[0] else { return Ok(()) };
        if stage.residence.has(slot, LIVE) {
            each(stage, slot, Home::Memory);
            return Ok(());
        }
        let record = match &self.below {
            Some(below) => below.get(&record_key(stage, slot)).await?,
            None => None,
        };
        if let Some(record) = record {
            load_records(stage, &[(slot, &record)])?;
            each(stage, slot, Home::Store);
        }
        forget(stage, &[slot]);
        Ok(())
    }
}

/// The shard of so many that has the key whose columns are those of the only row of `key`.
pub fn shard_of(key: &RecordBatch, stage: &Stage, shards: usize) -> usize {
    let columns: Vec<usize> = (0..stage.key_types.len()).collect();
    let mut hashes = Vec::new();
    KeyTable::hash(key, &[0], &columns, &stage.key_types, &mut hashes);
    key::shard_of(key::group(hashes[0]), shards)
}

fn record_key(stage: &Stage, slot: u32) -> Vec<u8> {
    let mut key = Vec::new();
    record::put_key(&stage.keys, slot, &mut key);
    let group = key::group(stage.keys.hash_of(slot)) as u16;
    record::record_key(stage.id, group, &key)
}

/// Takes slots out of memory again.
fn forget(stage: &mut Stage, slots: &[u32]) {
    stage.handles(&mut |handle| handle.clear_all(slots));
    for &slot in slots {
        stage.keys.release(slot);
        stage.residence.release(slot);
    }
    drop(stage.keys.take_fresh());
}

/// Keys of the store that have got slots, and their records.
#[derive(Default)]
struct Lot {
    slots: Vec<u32>,
    records: Vec<Vec<u8>>,
}

impl Lot {
    /// Takes an entry of the store if it is a record of the stage whose key is not in memory; says
    /// whether the lot is full.
    fn take(&mut self, stage: &mut Stage, key: &[u8], record: &[u8]) -> Result<bool, RunError> {
        let of_key = match StoreKey::of(key) {
            Some(StoreKey::Record { stage: of, key, .. }) if of == stage.id => key,
            Some(_) => return Ok(false),
            None => {
                return Err(RunError::of("checkpoint", "a key of the store is of no known form"));
            }
        };
        let mut read = Read { rest: of_key, what: "a key of the store".to_string() };
        let batch = read.keys(1, stage.key_types.len())?;
        let Some(slot) = resolve(stage, &batch, |_| true)?[0] else { return Ok(false) };
        if !stage.residence.has(slot, LIVE) {
            self.slots.push(slot);
            self.records.push(record.to_vec());
        }
        Ok(self.slots.len() >= COLD_LOT_KEYS)
    }

    /// Loads the lot, shows it and lets it go.
    fn show(
        &mut self,
        stage: &mut Stage,
        each: &mut impl FnMut(&mut Stage, &[u32], Home) -> bool,
    ) -> Result<bool, RunError> {
        if self.slots.is_empty() {
            return Ok(true);
        }
        let records: Vec<(u32, &[u8])> =
            self.slots.iter().copied().zip(self.records.iter().map(Vec::as_slice)).collect();
        load_records(stage, &records)?;
        let goes_on = each(stage, &self.slots, Home::Store);
        forget(stage, &self.slots);
        self.slots.clear();
        self.records.clear();
        Ok(goes_on)
    }
}

impl<D: Disk> Below<D> {
    /// Fixes what the store has now, in a folder of its own: the run's tree goes on working at its
    /// tables. None if there is no store.
    async fn of<H: Host<Disk = D>>(
        host: &H,
        beneath: &dyn Beneath,
        settings: &StateSettings,
    ) -> Result<Option<Below<D>>, RunError> {
        let (files, mut newer) = (beneath.files(), BTreeMap::new());
        let Some(manifest) = beneath.manifest() else { return Ok(None) };
        beneath.in_memory(0, &mut |key, value| {
            // The newest of a key comes first.
            newer.entry(key.to_vec()).or_insert_with(|| value.map(<[u8]>::to_vec));
        });
        let disk = host.disk(&settings.data_dir).await.map_err(|error| of_store(error.into()))?;
        let folder = format!("{}/looked-into", settings.folder);
        let tables = async {
            disk.make_dir(&folder).await?;
            for (name, path) in files {
                let path = path.strip_prefix(&settings.data_dir).unwrap_or(&path);
                disk.link(&path.to_string_lossy(), &format!("{folder}/{name}")).await?;
            }
            let file = disk.create(&format!("{folder}/{NAME}")).await?;
            for (i, part) in manifest.chunks(STORE_REQUEST_BYTES).enumerate() {
                let mut buffer = file.buffer(part.len());
                buffer.copy_from_slice(part);
                file.write_at((i * STORE_REQUEST_BYTES) as u64, buffer).await?;
            }
            file.sync().await?;
            let half = settings.memory_bytes / 2;
            let options = Options::new(&folder, settings.codec, settings.profile, half);
            Tree::open(disk, options).await
        };
        Ok(Some(Below { newer, tables: tables.await.map_err(of_store)? }))
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RunError> {
        if let Some(value) = self.newer.get(key) {
            return Ok(value.clone());
        }
        let mut value = Vec::new();
        let found = self.tables.get(key, NOW_MS, &mut value).await.map_err(of_store)?;
        Ok(found.then_some(value))
    }
}

fn of_store(error: StoreError) -> RunError {
    RunError::of("state", error)
}
