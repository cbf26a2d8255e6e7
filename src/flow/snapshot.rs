//! What a shard gives to a checkpoint: its image, which is small, and its keys, as deltas and as
//! rows that came.
//!
//! ```text
//! image:  "CWIMG003" | sources: u32, for each: name | time its watermark has reached
//!         | stages: u32, for each: name | number: u16 | watermark | key columns: u32
//!           | inputs: u32, for each: form of its rows: u64
//!           | handles: u32, for each: name | bytes that belong to no key
//! delta:  "CWDEL002" | part*
//! slices: "CWSLC001" | slices: u32 | part* of kind 5
//! part:   1 (a lot) | stage: u16 | keys: u32, for each: as in `record`
//!           | handles: u32, for each: name | entries: u32, for each: key: u32 | bytes
//!         2 (from the store's memory) | entries: u32, for each: key | 0 or 1 | bytes
//!         3 (gone to the store) | stage: u16 | keys: u32, for each: as in `record`
//!         4 (all keys in memory) | stage: u16 | keys: u32, for each: as in `record`
//!           | handles: u32, for each: name | 0 | entries as in a lot
//!                                          | 1 | bytes of the handle's own form for all keys
//!         5 (a slice of a base) | base: u64 | number: u32 | as 4
//! a delta's file has the form of a delta, or of slices
//! numbers are little-endian, times of 8 bytes; names and bytes have a length of 4 before them
//! log:    as in `log`; tables of lookups: as in `tables`; rows in flight: as in `flight`
//! ```
//!
//! 1. A delta has every key whose state changed in its epoch: with all that is known of it (a key
//!    without entries is forgotten), or as gone to the store, in whose memory (part 2) or tables it
//!    then is. The newest delta that has a key is right about it; a key that none has is as the
//!    store's tables say.
//! 2. Where there are logs there is one delta, with all keys, and `start`, an image of the same
//!    moment, or of where a base of slices was begun (`flow::slices`); from these two and the
//!    logs in their order all is made again. `image` says where that ends. Which files there are is
//!    decided in [`super::chain`].
//! 3. Keys are named by their values, not by their slots: a slot means something on one shard of
//!    one run only.
//!
//! The checksum is that of the file around it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::epochs::Share;
use super::graph::ShardGraph;
use super::record::put_key;
use super::stage::Stage;
use crate::port::PortError;

/// What all shards of a checkpoint knew.
#[derive(Debug, Default)]
pub struct Restored {
    /// One for each shard of the run that made the checkpoint.
    pub shards: Vec<RestoredShard>,
    /// Number of the checkpoint.
    pub epoch: u64,
}

/// What one shard gave to a checkpoint.
#[derive(Clone, Debug, Default)]
pub struct RestoredShard {
    /// Its folder in the checkpoint.
    pub folder: PathBuf,
    /// Names of files there and what is in them, checked.
    pub read: Vec<(String, Vec<u8>)>,
    /// Names of files that check themselves when they are read.
    pub unread: Vec<String>,
    /// Names of files of rows, found whole: each is read when its turn comes, since together they
    /// may be many times the state.
    pub rows: Vec<String>,
    pub read_rows: Option<ReadRows>,
}

/// Reads a file of rows, given the shard's folder and the file's name.
#[derive(Clone)]
pub struct ReadRows(pub Arc<ReadFile>);

/// See [`ReadRows`].
pub type ReadFile = dyn Fn(&Path, &str) -> Result<Vec<u8>, PortError> + Send + Sync;

impl std::fmt::Debug for ReadRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadRows")
    }
}

/// Name of a shard's image.
pub const IMAGE: &str = "image";
/// Name of the image from which logs go on.
pub const START: &str = "start";
/// What names of logs begin with; the first of their epochs follows, so that names are in order.
pub const LOG: &str = "log-";
/// What names of deltas begin with; their epochs follow, so that names are in their order.
pub const DELTA: &str = "delta-";
pub(super) const IMAGE_MAGIC: &[u8; 8] = b"CWIMG003";
pub(super) const DELTA_MAGIC: &[u8; 8] = b"CWDEL002";
pub(super) const SLICES_MAGIC: &[u8; 8] = b"CWSLC001";
/// A part of keys that are or were in memory.
pub(super) const LOT: u8 = 1;
/// A part of entries that the store had in memory.
pub(super) const STORE_MEMORY: u8 = 2;
/// A part of keys that have gone to the store.
pub(super) const IN_STORE: u8 = 3;
/// A part of all keys in memory.
pub(super) const ALL: u8 = 4;
/// A part of keys that were in memory together, some of all.
pub(super) const SLICE: u8 = 5;
/// A handle's entries, key by key.
pub(super) const BY_KEY: u8 = 0;
/// What a handle knows of all keys together.
pub(super) const TOGETHER: u8 = 1;

/// Takes a key of the store, and its value if it was not deleted.
pub type EachEntry<'a> = dyn FnMut(&[u8], Option<&[u8]>) + 'a;

/// The store beneath, as a checkpoint sees it.
pub trait Beneath {
    /// Its files, which stay until the next call: names and where they lie.
    fn files(&self) -> Vec<(String, PathBuf)>;

    /// The manifest of these files, if there is a store.
    fn manifest(&self) -> Option<Vec<u8>>;

    /// Calls `each` with every entry that is in memory only and was written after `since`, the
    /// newest of a key first; without a value if the key was deleted. Gives what to ask for next.
    fn in_memory(&self, since: u64, each: &mut EachEntry<'_>) -> u64;
}

/// Slices that a delta's file consists of; 0 if it was made at once.
pub fn slices_of(delta: &[u8]) -> u32 {
    let behind = delta.strip_prefix(&SLICES_MAGIC[..]);
    let count = behind.and_then(|behind| behind.first_chunk::<4>());
    count.map_or(0, |count| u32::from_le_bytes(*count))
}

/// Appends keys that are leaving memory.
pub(super) fn put_leaving(stage: &Stage, slots: &[u32], out: &mut Vec<u8>) {
    if slots.is_empty() {
        return;
    }
    out.push(IN_STORE);
    out.extend_from_slice(&stage.id.to_le_bytes());
    put_len(slots.len(), out);
    slots.iter().for_each(|&slot| put_key(&stage.keys, slot, out));
}

/// Makes a shard's share of the checkpoint of an epoch, which may be the run's last.
pub fn share(
    graph: &mut ShardGraph,
    (epoch, is_last): (u64, bool),
    durable: u64,
    beneath: Option<&dyn Beneath>,
) -> Share {
    let image = Arc::new(image(graph));
    let mut share = Share { written: vec![(IMAGE.into(), image.clone())], ..Share::default() };
    // Nothing lies beneath before the first key leaves. Made once: it names every table.
    let beneath = beneath.and_then(|beneath| Some((beneath, beneath.manifest()?)));
    let store = beneath.as_ref().map(|(store, _)| *store);
    let ShardGraph { chain, stages, tables, nodes, shard, shards, ticks_ns, .. } = graph;
    chain.take(stages, (epoch, is_last), durable, store, &image, &**ticks_ns, &mut share);
    tables.take(nodes, (*shard, *shards), (epoch, durable), &mut share);
    if let Some((name, bytes)) = graph.flights.take(epoch) {
        share.written.push((name, Arc::new(bytes)));
    }
    if let Some((beneath, manifest)) = beneath {
        share.written.push((crate::store::manifest::NAME.into(), Arc::new(manifest)));
        share.linked = beneath.files();
    }
    share
}

/// What a checkpoint would have of a shard whose keys are all in memory: its files, with no rows to
/// be worked through.
pub(super) fn whole(graph: &mut ShardGraph) -> Vec<(String, Vec<u8>)> {
    let mut base = DELTA_MAGIC.to_vec();
    let mut slots = Vec::new();
    for stage in &mut graph.stages {
        stage.residence.take_changed(true, &mut slots);
        put_lot(stage, &slots, true, &mut base);
    }
    vec![(IMAGE.into(), image(graph)), (format!("{DELTA}{:010}", 0), base)]
}

pub(super) fn image(graph: &mut ShardGraph) -> Vec<u8> {
    let mut out = IMAGE_MAGIC.to_vec();
    put_len(graph.reached.len(), &mut out);
    for (name, reached) in &graph.reached {
        put_bytes(name.as_bytes(), &mut out);
        out.extend_from_slice(&reached.to_le_bytes());
    }
    put_len(graph.stages.len(), &mut out);
    for stage in &mut graph.stages {
        put_bytes(stage.name.as_bytes(), &mut out);
        out.extend_from_slice(&stage.id.to_le_bytes());
        out.extend_from_slice(&stage.reached().to_le_bytes());
        put_len(stage.key_types.len(), &mut out);
        put_len(stage.inputs.len(), &mut out);
        stage.inputs.iter().for_each(|input| out.extend_from_slice(&input.form.to_le_bytes()));
        let (handles_at, mut handles) = (out.len(), 0u32);
        put_len(0, &mut out);
        stage.state(&mut |name, handle| {
            handles += 1;
            put_bytes(name.as_bytes(), &mut out);
            put_measured(&mut out, |out| handle.save_whole(out));
        });
        out[handles_at..handles_at + 4].copy_from_slice(&handles.to_le_bytes());
    }
    out
}

/// Appends slice `number` of a base: all that is known of these keys.
pub(super) fn put_slice(
    stage: &mut Stage,
    (base, number): (u64, u32),
    slots: &[u32],
    out: &mut Vec<u8>,
) {
    out.push(SLICE);
    out.extend_from_slice(&base.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    stage.handles(&mut |handle| handle.enter_slice(number, slots));
    put_keys(stage, slots, true, out);
    stage.handles(&mut |handle| handle.leave_slice());
}

/// Appends all that is known of some keys, or of all in memory; nothing if there are none.
pub(super) fn put_lot(stage: &mut Stage, slots: &[u32], is_all: bool, out: &mut Vec<u8>) {
    if slots.is_empty() {
        return;
    }
    out.push(if is_all { ALL } else { LOT });
    put_keys(stage, slots, is_all, out);
}

fn put_keys(stage: &mut Stage, slots: &[u32], is_all: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(&stage.id.to_le_bytes());
    put_len(slots.len(), out);
    for &slot in slots {
        put_key(&stage.keys, slot, out);
    }
    let (handles_at, mut handles) = (out.len(), 0u32);
    put_len(0, out);
    stage.state(&mut |name, handle| {
        handles += 1;
        put_bytes(name.as_bytes(), out);
        if is_all {
            let at = out.len();
            out.push(TOGETHER);
            let mut has_form = false;
            put_measured(out, |out| has_form = handle.save_all(slots, out));
            if has_form {
                return;
            }
            out.truncate(at);
            out.push(BY_KEY);
        }
        let (entries_at, mut entries) = (out.len(), 0u32);
        put_len(0, out);
        for (i, &slot) in slots.iter().enumerate() {
            let at = out.len();
            out.extend_from_slice(&(i as u32).to_le_bytes());
            put_measured(out, |out| handle.save(slot, out));
            if out.len() == at + 8 {
                out.truncate(at);
                continue;
            }
            entries += 1;
        }
        out[entries_at..entries_at + 4].copy_from_slice(&entries.to_le_bytes());
    });
    out[handles_at..handles_at + 4].copy_from_slice(&handles.to_le_bytes());
}

pub(super) fn put_store_memory(beneath: &dyn Beneath, since: u64, out: &mut Vec<u8>) -> u64 {
    let (at, mut entries) = (out.len(), 0u32);
    out.push(STORE_MEMORY);
    put_len(0, out);
    let until = beneath.in_memory(since, &mut |key, value| {
        entries += 1;
        put_bytes(key, out);
        out.push(u8::from(value.is_some()));
        put_bytes(value.unwrap_or_default(), out);
    });
    if entries == 0 {
        out.truncate(at);
    } else {
        out[at + 1..at + 5].copy_from_slice(&entries.to_le_bytes());
    }
    until
}

fn put_len(len: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(len as u32).to_le_bytes());
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_len(bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// Appends what `put` appends, with its length before it.
fn put_measured(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len() + 4;
    put_len(0, out);
    put(out);
    let len = (out.len() - start) as u32;
    out[start - 4..start].copy_from_slice(&len.to_le_bytes());
}
