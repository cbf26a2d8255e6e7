//! Keys that leave memory: which, and what is written of them.
//!
//! 1. A key is out of memory before its record is written, and nobody looks for it meanwhile (the
//!    turn).
//! 2. What the store has already, and has right, is not written again.

use std::cell::RefCell;

use super::{Cold, of_store};
use crate::flow::RunError;
use crate::flow::graph::ShardGraph;
use crate::flow::host::Host;
use crate::flow::record::{self, put_key, put_part, record_key, timer_key};
use crate::flow::stage::Stage;
use crate::ground::key;
use crate::ground::limits::{COLD_LOT_KEYS, STORE_KEY_BYTES_MAX};
use crate::ground::time::{END, NEVER as NO_MARK, Time};
use crate::state::residence::{DIRTY, STALE, STORED};
use crate::store::disk::Disk;
use crate::store::entry::NEVER;
use crate::store::error::StoreError;
use crate::store::tree::Tree;

/// What is written when a key leaves.
pub(super) struct Leaving {
    key: Vec<u8>,
    /// None: nothing is to be written.
    change: Option<Change>,
    timer: Option<(Vec<u8>, u16)>,
}

enum Change {
    Put(Vec<u8>),
    Delete,
}

impl<H: Host> Cold<H> {
    /// Takes keys to the store until memory has room again; `under_way` is the stage of rows that
    /// were begun, and the watermark at their end.
    pub(super) async fn make_room(
        &self,
        graph: &RefCell<ShardGraph>,
        under_way: Option<(usize, Time)>,
    ) -> Result<(), RunError> {
        let Some(settings) = &self.settings else { return Ok(()) };
        loop {
            let is_over = {
                let stages = &mut graph.borrow_mut().stages;
                stages.iter_mut().map(Stage::memory_bytes).sum::<usize>() > settings.hot_bytes()
            };
            if !is_over {
                return Ok(());
            }
            let tree = self.open(settings).await?;
            let leaving = self.leave(&mut graph.borrow_mut(), &tree, under_way);
            if leaving.is_empty() {
                // All that is left is held or waits for its watermark.
                return Ok(());
            }
            self.write_all(&tree, leaving).await?;
        }
    }

    pub(super) async fn write_all(
        &self,
        tree: &Tree<H::Disk>,
        leaving: Vec<Leaving>,
    ) -> Result<(), RunError> {
        for Leaving { key, change, timer } in leaving {
            if change.is_some() {
                self.ahead.borrow_mut().remove(&key);
            }
            match change {
                Some(Change::Put(record)) => {
                    self.write(tree, |tree| tree.put(&key, &record, NEVER)).await?;
                }
                Some(Change::Delete) => self.write(tree, |tree| tree.delete(&key)).await?,
                None => {}
            }
            if let Some((timer, stage)) = timer {
                self.write(tree, |tree| tree.put(&timer, &[], NEVER)).await?;
                self.timers.borrow_mut().entry(stage).or_default().put(timer);
            }
        }
        Ok(())
    }

    /// Takes the keys that were not touched for longest out of the largest stage's memory.
    fn leave(
        &self,
        graph: &mut ShardGraph,
        tree: &Tree<H::Disk>,
        under_way: Option<(usize, Time)>,
    ) -> Vec<Leaving> {
        graph.is_cold = true;
        // From now on stages have another input: keys that come and go.
        graph.chain.close(&mut graph.stages);
        graph.stages.iter_mut().for_each(|stage| stage.keys.note_fresh());
        let largest = (0..graph.stages.len()).max_by_key(|&at| graph.stages[at].memory_bytes());
        let Some(at) = largest else { return Vec::new() };
        let stage = &mut graph.stages[at];
        let (count, pinned) = ((stage.keys.live() / 8).max(COLD_LOT_KEYS), stage.pinned());
        let (mut slots, reached) = (Vec::new(), stage.reached());
        stage.residence.victims(count, &pinned, &mut slots);
        let until = under_way.filter(|(of, _)| *of == at).map_or(NO_MARK, |(_, mark)| mark);
        take_out(graph, at, &slots, (reached, until), tree)
    }

    /// Writes to the tree, waiting for room in its memory.
    pub(super) async fn write(
        &self,
        tree: &Tree<H::Disk>,
        write: impl Fn(&Tree<H::Disk>) -> Result<(), StoreError>,
    ) -> Result<(), RunError> {
        loop {
            let changed = tree.changed();
            match write(tree) {
                Ok(()) => return Ok(()),
                Err(StoreError::Busy) => {
                    if let Some(error) = self.failed.borrow().clone() {
                        return Err(of_store(error));
                    }
                    changed.await;
                }
                Err(error) => return Err(of_store(error)),
            }
        }
    }
}

/// Takes slots out of a stage's memory, whose watermark is at `reached`, and says what is to be
/// written. Those stay whose records are too long, and those for which something is due up to
/// `until`.
pub(super) fn take_out<D: Disk>(
    graph: &mut ShardGraph,
    at: usize,
    slots: &[u32],
    (reached, until): (Time, Time),
    tree: &Tree<D>,
) -> Vec<Leaving> {
    let ShardGraph { stages, chain, keeps_changes, .. } = graph;
    let stage = &mut stages[at];
    let mut records = vec![Vec::new(); slots.len()];
    stage.state(&mut |name, handle| {
        let number = record::handle_number(name);
        for (&slot, record) in slots.iter().zip(&mut records) {
            put_part(number, record, |out| handle.save(slot, out));
        }
    });
    let mut leaving = Vec::with_capacity(slots.len());
    let mut gone = Vec::with_capacity(slots.len());
    for (&slot, record) in slots.iter().zip(records) {
        let mut key = Vec::new();
        put_key(&stage.keys, slot, &mut key);
        if key.len() + 16 > STORE_KEY_BYTES_MAX || record.len() > tree.value_bytes_max() {
            continue;
        }
        let (is_stale, is_stored) =
            (stage.residence.has(slot, STALE), stage.residence.has(slot, STORED));
        let group = key::group(stage.keys.hash_of(slot)) as u16;
        let due = stage.due(slot, reached);
        if due <= until {
            continue;
        }
        let timer = (due != END).then(|| (timer_key(stage.id, due, group, &key), stage.id));
        let is_over = record.is_empty() || due == END && !stage.lasts(slot, reached);
        let change = match is_over {
            true => is_stored.then_some(Change::Delete),
            false => (is_stale || !is_stored).then_some(Change::Put(record)),
        };
        leaving.push(Leaving { key: record_key(stage.id, group, &key), change, timer });
        gone.push(slot);
    }
    if *keeps_changes {
        let is_dirty = |slot: &u32| stage.residence.has(*slot, DIRTY);
        let dirty: Vec<u32> = gone.iter().copied().filter(is_dirty).collect();
        chain.leave(stage, &dirty);
    }
    stage.handles(&mut |handle| handle.clear_all(&gone));
    for &slot in &gone {
        stage.keys.release(slot);
        stage.residence.release(slot);
    }
    leaving
}
