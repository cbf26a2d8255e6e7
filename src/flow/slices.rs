//! A base that is made in slices, between blocks of rows, so that the shard never stands still for
//! all of its keys.
//!
//! ```text
//! slots of a stage:   | slice 0 | slice 1 | slice 2 |..        new keys, since it was begun
//! log:          start | rows  0  rows  1  rows  2 .. rows
//! ```
//!
//! A restore begins with the image of where the base was begun, and with no state. It works the log
//! through from there; where a slice is noted, the state of its keys is loaded. Rows of a key whose
//! slice is still to come are passed by: the slice knows of them. (A fuzzy checkpoint, as
//! main-memory databases make them, whose pieces are each of one moment because the log says
//! which.)
//!
//! 1. Slots are given out in their order and none is given back while all keys are in memory. So
//!    the keys that were there when the base was begun are the first ones, a slice is a run of
//!    slots, and of a key with a later slot the log has everything.
//! 2. A slice of a stage is made when the stage is between two blocks and has taken the watermark
//!    at the end of the last one: nothing that it knows then is ahead of its watermark.
//! 3. Slices of a stage are made in their order.

use std::sync::Arc;

use super::log::Log;
use super::snapshot::{SLICES_MAGIC, put_slice};
use super::stage::Stage;

/// See the module's head.
pub(super) struct Slices {
    /// By which the log knows the base.
    base: u64,
    /// The image of where it was begun.
    pub start: Arc<Vec<u8>>,
    /// What was made so far.
    pub bytes: Vec<u8>,
    /// For each stage.
    places: Vec<Place>,
    /// Slots of a slice.
    grain: u32,
    /// When it was begun.
    pub began_ns: u64,
    /// Slices that were made.
    made: u32,
    slots: Vec<u32>,
}

/// How far a stage is.
struct Place {
    /// Those that had a key when the base was begun.
    slots: u32,
    /// The next slice.
    next: u32,
    is_prepared: bool,
}

impl Slices {
    /// Begins base number `base` at this moment, of which `start` is the image; `buffer` is memory
    /// for it, of about `room` bytes: memory that grows is copied.
    pub fn begin(
        base: u64,
        stages: &mut [Stage],
        start: Arc<Vec<u8>>,
        grain: usize,
        (buffer, room, began_ns): (Vec<u8>, usize, u64),
    ) -> Slices {
        let grain = grain.next_power_of_two() as u32;
        let place = |stage: &mut Stage| {
            let slots = stage.keys.len() as u32;
            if slots > 0 {
                stage.handles(&mut |handle| handle.begin_slices(slots, grain));
            }
            Place { slots, next: 0, is_prepared: slots == 0 }
        };
        let places = stages.iter_mut().map(place).collect();
        let mut bytes = buffer;
        bytes.clear();
        bytes.reserve(room);
        bytes.extend_from_slice(SLICES_MAGIC);
        bytes.extend_from_slice(&0u32.to_le_bytes());
        Slices { base, start, bytes, places, grain, began_ns, made: 0, slots: Vec::new() }
    }

    /// Whether all slices are made.
    pub fn is_complete(&self) -> bool {
        self.places.iter().all(|place| place.is_done(self.grain))
    }

    /// Makes the next slice of stage number `at`, or does a part of what must be done before the
    /// first one; false if all are made. The stage is between two blocks (invariant 2).
    pub fn step(&mut self, at: usize, stage: &mut Stage, log: &mut Log) -> bool {
        let Some(place) = self.places.get_mut(at).filter(|place| !place.is_done(self.grain)) else {
            return false;
        };
        if !place.is_prepared {
            let mut is_prepared = true;
            stage.handles(&mut |handle| {
                if is_prepared && handle.prepare_slices() {
                    is_prepared = false;
                }
            });
            place.is_prepared = is_prepared;
            return true;
        }
        let number = place.next;
        let first = number * self.grain;
        self.slots.clear();
        self.slots.extend(first..(first + self.grain).min(place.slots));
        place.next += 1;
        put_slice(stage, (self.base, number), &self.slots, &mut self.bytes);
        log.slice(stage.id, self.base, number);
        self.made += 1;
        let at = SLICES_MAGIC.len();
        self.bytes[at..at + 4].copy_from_slice(&self.made.to_le_bytes());
        if place.is_done(self.grain) {
            stage.handles(&mut |handle| handle.end_slices());
        }
        true
    }

    /// Gives it up.
    pub fn end(self, stages: &mut [Stage]) -> Vec<u8> {
        let left = self.places.iter().zip(stages).filter(|(place, _)| !place.is_done(self.grain));
        left.for_each(|(_, stage)| stage.handles(&mut |handle| handle.end_slices()));
        self.bytes
    }
}

impl Place {
    fn is_done(&self, grain: u32) -> bool {
        self.next >= self.slots.div_ceil(grain)
    }
}
