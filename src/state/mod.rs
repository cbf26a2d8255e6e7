//! Floor 2: keyed state. Operators keep what they know about a key in the handles of this floor
//! and nowhere else, so that a key can be saved, dropped from memory, loaded again and moved to
//! another shard without its operator's help.
//!
//! A key is given a dense *slot* on its shard once, at ingest ([`keys::KeyTable`]); every operator
//! behind that key addresses its state by slot: columns and fixed lines, values updated in place.
//!
//! What is absent: operators, disks, `async`. The store beneath is reached by `save` and `load`.

pub mod distinct;
mod distinct_table;
pub mod keys;
pub mod lines;
pub mod panes;
pub mod pool;
pub mod residence;
pub mod shown;
mod texts;
pub mod touched;

use thiserror::Error;

/// A saved value that cannot be loaded: it was written by another version or is damaged.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("state `{handle}` cannot be loaded: {reason}")]
pub struct LoadError {
    pub handle: String,
    pub reason: String,
}

/// What every state handle can do for one key, so that a store may sit beneath it.
///
/// 1. `load(slot, save(slot))` gives the same state; a slot never touched saves nothing.
/// 2. After `clear(slot)` the slot is as if never touched.
pub trait Handle {
    /// Appends all that is known of `slot` to `out`, little-endian and versioned by the store;
    /// appends nothing if nothing is known.
    fn save(&self, slot: u32, out: &mut Vec<u8>);

    /// Sets `slot`, which is clear, to what `save` wrote.
    ///
    /// # Errors
    /// [`LoadError`] if the bytes are not of this handle's form.
    fn load(&mut self, slot: u32, bytes: &[u8]) -> Result<(), LoadError>;

    /// Forgets the slot: its key was dropped or moved.
    fn clear(&mut self, slot: u32);

    /// Forgets slots; where many go together this may cost less than one after the other.
    fn clear_all(&mut self, slots: &[u32]) {
        slots.iter().for_each(|&slot| self.clear(slot));
    }

    /// Appends all that is known of `slots`, which are in order, each named by its place there, in
    /// a form that costs a fraction of as many calls of `save`; or says that there is none, and
    /// appends nothing. O(slots), or O(state).
    fn save_all(&self, _slots: &[u32], _out: &mut Vec<u8>) -> bool {
        false
    }

    /// Takes what `save_all` wrote: `slots` has for each place there the slot here, which is clear,
    /// or none if it is not wanted.
    ///
    /// # Errors
    /// [`LoadError`] if the bytes are not of this handle's form.
    fn load_all(&mut self, _slots: &[Option<u32>], _bytes: &[u8]) -> Result<(), LoadError> {
        let reason = "it has no form for all slots together".to_string();
        Err(LoadError { handle: String::new(), reason })
    }

    /// The slots below `slots` will be saved in slices of `grain` slots, the last one shorter, one
    /// after the other while rows go on.
    fn begin_slices(&mut self, _slots: u32, _grain: u32) {}

    /// Does a bounded part of what has to be known before the first slice; false once nothing is
    /// left to be done.
    fn prepare_slices(&mut self) -> bool {
        false
    }

    /// Until [`Handle::leave_slice`] nothing changes, and only `slots` are saved, which are those
    /// of slice `number`, in order: so that saving them costs what they are, not what all slots
    /// are.
    fn enter_slice(&mut self, _number: u32, _slots: &[u32]) {}

    /// See [`Handle::enter_slice`].
    fn leave_slice(&mut self) {}

    /// No further slice is saved.
    fn end_slices(&mut self) {}

    /// Appends what is known apart from any slot; nothing for most handles.
    fn save_whole(&self, _out: &mut Vec<u8>) {}

    /// Takes what `save_whole` wrote, of one shard or of several, before any slot is loaded.
    ///
    /// # Errors
    /// [`LoadError`] if the bytes are not of this handle's form.
    fn load_whole(&mut self, _bytes: &[u8]) -> Result<(), LoadError> {
        Ok(())
    }

    /// Bytes of memory held, for the shard's budget.
    fn memory_bytes(&self) -> usize;
}
