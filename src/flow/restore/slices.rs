//! Slices of a base, until the rows that are worked through come to where each was made: see
//! [`crate::flow::slices`].
//!
//! 1. All keys of the base have their slots before the first row, in the order of the slices. So of
//!    a stage the keys of slices that are loaded have the first slots, then come those whose slices
//!    are still to come, then new ones.
//! 2. A row of a key whose slice is still to come is passed by: the slice knows of it.

use std::collections::BTreeMap;

use super::{load_handles, read_keys, skip_handles, stage_of};
use crate::flow::RunError;
use crate::flow::graph::ShardGraph;
use crate::flow::restore::read::Read;
use crate::state::residence::{LIVE, STALE};

/// See the module's head.
#[derive(Default)]
pub(super) struct Slices<'a> {
    /// By which the log knows the base; none if it was made at once.
    base: Option<u64>,
    /// Those that are not loaded yet, by stage number and their own.
    left: BTreeMap<(u16, u32), Slice<'a>>,
    /// Of each stage: up to which slot slices are loaded, and up to which there are any.
    slots: BTreeMap<u16, (u32, u32)>,
}

struct Slice<'a> {
    /// Behind the keys.
    read: Read<'a>,
    slots: Vec<Option<u32>>,
    /// Slots of the stage up to its end.
    until: u32,
}

impl<'a> Slices<'a> {
    /// Takes a slice up, and gives its keys slots.
    pub fn take(&mut self, graph: &mut ShardGraph, read: &mut Read<'a>) -> Result<(), RunError> {
        let base = read.word()?;
        if *self.base.get_or_insert(base) != base {
            return Err(read.damaged("it has slices of two bases"));
        }
        let (number, id) = (read.len()? as u32, read.half()?);
        let slots = read_keys(graph, id, read)?;
        let until = stage_of(graph, id, read)?.keys.len() as u32;
        let behind = Read { rest: read.rest, what: read.what.clone() };
        if self.left.insert((id, number), Slice { read: behind, slots, until }).is_some() {
            return Err(read.damaged("it has a slice twice"));
        }
        self.slots.entry(id).or_default().1 = until;
        skip_handles(read, true)
    }

    /// Loads a slice, where it was made; nothing if it is of another base.
    pub fn load(
        &mut self,
        graph: &mut ShardGraph,
        (id, base, number): (u16, u64, u32),
        read: &Read<'_>,
    ) -> Result<(), RunError> {
        if self.base != Some(base) {
            return Ok(());
        }
        let Some((&first, _)) = self.left.range((id, 0)..=(id, u32::MAX)).next() else {
            return Err(read.damaged("it names a slice that is not there"));
        };
        let slice = self.left.remove(&first).filter(|_| first.1 == number);
        let Some(mut slice) = slice else {
            return Err(read.damaged("slices are not in their order"));
        };
        let stage = stage_of(graph, id, read)?;
        for &slot in slice.slots.iter().flatten() {
            stage.residence.set(slot, LIVE | STALE);
        }
        self.slots.entry(id).or_default().0 = slice.until;
        load_handles(stage, &mut slice.read, true, &slice.slots)
    }

    /// The slots of a stage whose slices are still to come; none mostly.
    pub fn missing(&self, id: u16) -> std::ops::Range<u32> {
        self.slots.get(&id).map_or(0..0, |&(loaded, all)| loaded..all)
    }

    /// Says whether all were loaded.
    pub fn end(&self) -> Result<(), RunError> {
        match self.left.first_key_value() {
            None => Ok(()),
            Some((_, slice)) => Err(slice.read.damaged("rows do not say where a slice was made")),
        }
    }
}
