//! Tables of lookups in checkpoints. Every shard holds every table whole; of each row only the
//! shard that owns its key's group writes it, so that all shards together have it once.
//!
//! ```text
//! lookups:  "CWLKP001" | ended: u32, for each: name of a source that was read to its end
//!           | tables: u32, for each: name of the lookup | of the source | form: u64
//!             | batches: u32, for each: an archive of rows, as a table saves them
//! numbers are little-endian; names and archives have a length of 4 before them
//! ```
//!
//! 1. The first of a shard's pieces has all of its rows, each later one rows that were stored since
//!    the one before. The newest piece that has a row is right about it, and the newest piece about
//!    the rest.
//! 2. Each piece is longer than the one behind it: two that are not become one, with the rows of
//!    both as they are then. So there are few, a row is written again a logarithmic number of
//!    times, and an epoch without table rows writes nothing.
//! 3. A lookup that several producers reach has as many tables. At a barrier they are the same, so
//!    one of them is saved, and all are loaded.
//! 4. A file that no durable checkpoint has yet is kept, and given again.

use std::collections::BTreeSet;
use std::sync::Arc;

use rkyv::util::AlignedVec;

use super::RunError;
use super::epochs::Share;
use super::graph::{Node, NodeOperator, ShardGraph};
use super::restore::Read;
use super::snapshot::{Restored, RestoredShard};
use crate::ground::batch::{Backing, RecordBatch};
use crate::ground::key;
use crate::ops::TableState;

/// What names of these files begin with; their epochs follow, so that names are in their order.
pub const LOOKUPS: &str = "lookups-";
const MAGIC: &[u8; 8] = b"CWLKP001";

/// A lookup's table, as the pipeline has it or a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    /// The lookup.
    pub name: String,
    /// Where the rows come from.
    pub source: String,
    /// Tells rows apart that mean something else: of key columns and of what is added.
    pub form: u64,
}

/// A table of a shard's graph.
#[derive(Clone, Debug)]
pub struct Table {
    pub about: TableName,
    /// The nodes that hold it.
    pub nodes: Vec<usize>,
    /// Whether a checkpoint's rows are taken; otherwise the source is read again.
    pub is_restored: bool,
}

/// A file that the next checkpoint needs.
struct Piece {
    epoch: u64,
    /// Slots whose rows it has, for each table; the first piece has all.
    slots: Vec<Vec<u32>>,
    len: usize,
    /// Until it is durable (invariant 4).
    bytes: Option<Arc<Vec<u8>>>,
}

/// The tables of a shard and their files.
#[derive(Default)]
pub struct Tables {
    tables: Vec<Table>,
    /// Sources that were read to their end.
    ended: BTreeSet<String>,
    /// How many of them the newest piece names.
    told: usize,
    pieces: Vec<Piece>,
}

impl Tables {
    /// The tables of a graph that has seen nothing yet.
    pub fn new(tables: Vec<Table>) -> Tables {
        Tables { tables, ..Tables::default() }
    }

    /// Notes that a source was read to its end: all its rows are in the tables, here or on a shard
    /// that is waited for.
    pub fn note_end(&mut self, source: &str) {
        if self.tables.iter().any(|table| table.about.source == source) {
            self.ended.insert(source.to_string());
        }
    }

    /// Adds to `share` what the checkpoint of an epoch needs of the tables in `nodes` that shard
    /// `shard` of `shards` owns. `durable` is the newest durable epoch. O(what was stored), or
    /// O(tables) for the first one.
    pub fn take(
        &mut self,
        nodes: &mut [Node],
        (shard, shards): (usize, usize),
        (epoch, durable): (u64, u64),
        share: &mut Share,
    ) {
        if self.tables.is_empty() {
            return;
        }
        self.pieces.iter_mut().filter(|p| p.epoch <= durable).for_each(|p| p.bytes = None);
        let is_own = |state: &dyn TableState, slot: &u32| {
            key::shard_of(key::group(state.hash_of(*slot)), shards) == shard
        };
        let stored = self.chosen(nodes, |state, out| {
            state.take_stored(out);
            out.retain(|slot| is_own(state, slot));
        });
        let is_changed = self.told < self.ended.len() || stored.iter().any(|s| !s.is_empty());
        if is_changed || self.pieces.is_empty() {
            let all = |state: &mut dyn TableState, out: &mut Vec<u32>| {
                out.extend((0..state.slots()).filter(|slot| is_own(state, slot)));
            };
            self.push(nodes, epoch, stored, all);
        }
        for piece in &self.pieces {
            let name = format!("{LOOKUPS}{:010}", piece.epoch);
            match &piece.bytes {
                Some(bytes) => share.written.push((name, bytes.clone())),
                None => share.carried.push(name),
            }
        }
    }

    /// Some slots of each table.
    fn chosen(
        &self,
        nodes: &mut [Node],
        choose: impl Fn(&mut dyn TableState, &mut Vec<u32>),
    ) -> Vec<Vec<u32>> {
        let of_table = |table: &Table| {
            let mut slots = Vec::new();
            state(nodes, table.nodes[0]).into_iter().for_each(|state| choose(state, &mut slots));
            slots
        };
        self.tables.iter().map(of_table).collect()
    }

    /// Adds a piece with the rows of these slots, or of all (invariant 2).
    fn push(
        &mut self,
        nodes: &mut [Node],
        epoch: u64,
        stored: Vec<Vec<u32>>,
        all: impl Fn(&mut dyn TableState, &mut Vec<u32>),
    ) {
        let (mut slots, mut bytes) = (stored, Vec::new());
        if !self.pieces.is_empty() {
            bytes = self.piece(nodes, &slots);
        }
        let mut len = bytes.len();
        while let Some(before) = self.pieces.pop_if(|before| before.len <= len) {
            bytes.clear();
            len += before.len;
            for (slots, before) in slots.iter_mut().zip(before.slots) {
                slots.extend(before);
                slots.sort_unstable();
                slots.dedup();
            }
        }
        let is_first = self.pieces.is_empty();
        if is_first {
            slots = self.chosen(nodes, all);
        }
        if bytes.is_empty() {
            bytes = self.piece(nodes, &slots);
        }
        if is_first {
            slots.clear();
        }
        self.told = self.ended.len();
        let (len, bytes) = (bytes.len(), Some(Arc::new(bytes)));
        self.pieces.push(Piece { epoch, slots, len, bytes });
    }

    fn piece(&self, nodes: &mut [Node], slots: &[Vec<u32>]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_len(self.ended.len(), &mut out);
        self.ended.iter().for_each(|name| put_bytes(name.as_bytes(), &mut out));
        put_len(self.tables.len(), &mut out);
        for (table, slots) in self.tables.iter().zip(slots) {
            let TableName { name, source, form } = &table.about;
            put_bytes(name.as_bytes(), &mut out);
            put_bytes(source.as_bytes(), &mut out);
            out.extend_from_slice(&form.to_le_bytes());
            let (batches_at, mut batches) = (out.len(), 0u32);
            put_len(0, &mut out);
            if let Some(state) = state(nodes, table.nodes[0]) {
                out.reserve(slots.len() * state.schema().width() * 8);
                state.save(slots, &mut |rows| {
                    batches += 1;
                    put_bytes(rows.as_bytes(), &mut out);
                });
            }
            out[batches_at..batches_at + 4].copy_from_slice(&batches.to_le_bytes());
        }
        out
    }
}

fn put_len(len: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(len as u32).to_le_bytes());
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_len(bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// The table of a node.
fn state(nodes: &mut [Node], at: usize) -> Option<&mut dyn TableState> {
    match &mut nodes[at].operator {
        NodeOperator::Makes(operator) => operator.table(),
        NodeOperator::Chooses { .. } => None,
    }
}

/// What a checkpoint has of tables, but for their rows.
#[derive(Debug, Default)]
pub struct Known {
    pub tables: Vec<TableName>,
    /// Sources that were read to their end.
    pub ended: Vec<String>,
}

impl Known {
    /// Reads it: all shards say the same.
    ///
    /// # Errors
    /// [`RunError`]: a file that is damaged.
    pub fn of(restored: &Restored) -> Result<Known, RunError> {
        let mut known = Known::default();
        let Some(shard) = restored.shards.first() else { return Ok(known) };
        if let Some((name, bytes)) = pieces(shard).pop() {
            let (ended, tables) = take_apart(Read { rest: bytes, what: what(name, 0) })?;
            known.ended = ended;
            known.tables = tables.into_iter().map(|(about, _)| about).collect();
        }
        Ok(known)
    }
}

/// Gives a graph's tables the rows that the shards of a checkpoint had.
///
/// # Errors
/// [`RunError`]: a file that is damaged, or more rows than a shard may hold.
pub fn restore(graph: &mut ShardGraph, restored: &Restored) -> Result<(), RunError> {
    for (number, shard) in restored.shards.iter().enumerate() {
        for (name, bytes) in pieces(shard) {
            let what = what(name, number);
            let (_, tables) = take_apart(Read { rest: bytes, what: what.clone() })?;
            for (about, batches) in tables {
                let own = graph.tables.tables.iter().find(|own| own.about == about);
                let Some(own) = own.filter(|own| own.is_restored) else { continue };
                for bytes in batches {
                    load(&mut graph.nodes, &own.nodes, bytes, &what)?;
                }
            }
        }
    }
    Ok(())
}

/// Gives rows to all tables of a lookup.
fn load(nodes: &mut [Node], own: &[usize], bytes: &[u8], what: &str) -> Result<(), RunError> {
    let mut copy = AlignedVec::new();
    copy.extend_from_slice(bytes);
    let damaged = |error| RunError::of("checkpoint", format!("{what}: {error}"));
    let rows = RecordBatch::from_bytes(Arc::new(Held(copy)), 0, bytes.len()).map_err(damaged)?;
    for &at in own {
        let name = nodes[at].name.clone();
        let Some(state) = state(nodes, at) else { continue };
        rows.check_heap(state.schema()).map_err(damaged)?;
        state.load(&rows).map_err(|error| RunError::of(&name, error))?;
    }
    Ok(())
}

/// An archive that was copied to where it can be read in place.
struct Held(AlignedVec<16>);

impl Backing for Held {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

fn what(name: &str, number: usize) -> String {
    format!("`{name}` of shard {number}")
}

/// The pieces of a shard, the oldest first.
fn pieces(shard: &RestoredShard) -> Vec<(&str, &[u8])> {
    let named = shard.read.iter().filter(|(name, _)| name.starts_with(LOOKUPS));
    let mut pieces: Vec<(&str, &[u8])> =
        named.map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    pieces.sort_unstable();
    pieces
}

/// A table and the archives of its rows.
type TableRows<'a> = (TableName, Vec<&'a [u8]>);

/// The sources that had ended, and the tables.
fn take_apart(mut read: Read<'_>) -> Result<(Vec<String>, Vec<TableRows<'_>>), RunError> {
    if read.take(MAGIC.len())? != MAGIC {
        return Err(read.damaged("it holds no tables of this version"));
    }
    let ended = (0..read.len()?).map(|_| read.name()).collect::<Result<_, _>>()?;
    let mut tables = Vec::new();
    for _ in 0..read.len()? {
        let about = TableName { name: read.name()?, source: read.name()?, form: read.word()? };
        let batches = (0..read.len()?).map(|_| read.bytes()).collect::<Result<_, _>>()?;
        tables.push((about, batches));
    }
    match read.rest.is_empty() {
        true => Ok((ended, tables)),
        false => Err(read.damaged("there is more than it says")),
    }
}

#[cfg(test)]
mod tests;
