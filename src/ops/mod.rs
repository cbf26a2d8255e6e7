//! Floor 3: operators, one a file. Synchronous: a batch of rows or a watermark comes in, rows go
//! out to the named outputs, and nothing suspends between.
//!
//! What is absent: threads, clocks, rings, files, sockets, connectors, `async`.
//!
//! The rules that every operator keeps:
//! 1. Rows come in arrival order; `marks[i]` is the watermark in force before row i. It never
//!    falls, within a batch and from call to call, and the watermark given after a batch is at
//!    least the last mark. An operator's results depend on rows and watermarks, never on where a
//!    batch happened to end.
//! 2. Every row is used, or goes to a side output (`late`), or is counted as filtered.
//! 3. A row put out because the watermark passed t (a window that ends at t + 1, a match whose last
//!    event is at t) has event time t and mark t - 1: not late for anybody behind, and the same
//!    wherever batches end. A row put out because a late row came has that row's mark.
//! 4. All knowledge about a key is in [`crate::state`] handles, which `state` shows.

/// Calls a method with the width as a constant where rows are narrow, as 0 else.
macro_rules! by_width {
    ($width:expr, $of:ident . $method:ident ( $($argument:expr),* )) => {
        match $width {
            1 => $of.$method::<1>($($argument),*),
            2 => $of.$method::<2>($($argument),*),
            3 => $of.$method::<3>($($argument),*),
            4 => $of.$method::<4>($($argument),*),
            5 => $of.$method::<5>($($argument),*),
            6 => $of.$method::<6>($($argument),*),
            7 => $of.$method::<7>($($argument),*),
            8 => $of.$method::<8>($($argument),*),
            9 => $of.$method::<9>($($argument),*),
            10 => $of.$method::<10>($($argument),*),
            _ => $of.$method::<0>($($argument),*),
        }
    };
}

pub mod accumulate;
pub mod aggregate;
pub mod filter;
pub mod flat_map;
pub mod kept;
pub mod lookup;
pub mod map;
pub mod order;
pub mod output;
pub mod pattern;
pub mod route;
pub mod selection;
pub mod union;
pub mod window;

use std::ops::Range;

use thiserror::Error;

use crate::ground::batch::RecordBatch;
use crate::ground::schema::Schema;
use crate::ground::time::{END, Time};
use crate::state::Handle;
use crate::state::keys::KeyTable;
use crate::state::shown::Shown;
use crate::state::touched::Touched;
use output::{Outputs, Port};

/// Why an operator stops the run.
#[derive(Debug, Error)]
pub enum OpError {
    /// A bound of `ground/limits.rs` or of the pipeline file was reached.
    #[error("{0}")]
    Limit(String),
    /// State that does not load.
    #[error(transparent)]
    State(#[from] crate::state::LoadError),
}

/// Rows on the way through stateless operators, and what is known of each. `select` names the rows
/// of `records` that are meant, in order; the other slices go with `select`, entry by entry.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub records: &'a RecordBatch,
    /// Rows of `records`.
    pub select: &'a [u32],
    /// Event time of each selected row, ms.
    pub times: &'a [Time],
    /// Watermark in force before each selected row, ms; never falls.
    pub marks: &'a [Time],
}

impl<'a> Rows<'a> {
    /// Some of the selected rows, one behind the other.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn part(&self, range: Range<usize>) -> Rows<'a> {
        Rows {
            records: self.records,
            select: &self.select[range.clone()],
            times: &self.times[range.clone()],
            marks: &self.marks[range],
        }
    }
}

/// [`Rows`] that have their key's slot.
#[derive(Clone, Copy)]
pub struct KeyedRows<'a> {
    pub rows: Rows<'a>,
    /// Dense slot of each selected row's key.
    pub slots: &'a [u32],
    /// The keys behind the slots.
    pub keys: &'a KeyTable,
    /// The rows as they came, where `rows` shows only what operators asked for ahead.
    pub arrived: Option<Arrived<'a>>,
}

/// Late rows as they came.
#[derive(Clone, Copy)]
pub struct Arrived<'a> {
    pub records: &'a RecordBatch,
    /// For each of the keyed rows its row of `records`; means nothing for those that are not late.
    pub places: &'a [u32],
}

impl<'a> KeyedRows<'a> {
    /// Rows that operators see as they came.
    pub fn new(rows: Rows<'a>, slots: &'a [u32], keys: &'a KeyTable) -> KeyedRows<'a> {
        KeyedRows { rows, slots, keys, arrived: None }
    }

    /// Puts a late row, as it came, to a port; `heaped` names the columns of rows as they come that
    /// may have long values. The caller stamps it.
    pub fn put_late(&self, i: usize, heaped: &[usize], port: &mut Port) {
        let (records, row) = match self.arrived {
            Some(arrived) => (arrived.records, arrived.places[i]),
            None => (self.rows.records, self.rows.select[i]),
        };
        port.builder.push_row_of(records, row as usize, heaped);
    }

    /// Some of the rows, one behind the other.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn part(&self, range: Range<usize>) -> KeyedRows<'a> {
        KeyedRows {
            rows: self.rows.part(range.clone()),
            slots: &self.slots[range.clone()],
            keys: self.keys,
            arrived: self.arrived.map(|arrived| Arrived {
                records: arrived.records,
                places: &arrived.places[range],
            }),
        }
    }
}

/// Rows used, filtered and late since the run began: `rows_in = used + filtered + late`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    pub rows_in: u64,
    pub filtered: u64,
    pub late: u64,
    /// Aggregates that did not fit their type and became NULL.
    pub overflows: u64,
    /// Partial matches that were given up because their key had too many.
    pub given_up: u64,
}

/// An operator without keyed state: filter, map, flat_map, route, lookup.
pub trait Stateless {
    /// Takes rows of input `input` (the place in `inputs`) and gives rows to `out`.
    ///
    /// # Errors
    /// [`OpError`] stops the run.
    fn rows(&mut self, input: usize, rows: &Rows<'_>, out: &mut Outputs) -> Result<(), OpError>;

    /// The operator as one that only chooses rows, if it is one: then who calls may pass on the
    /// batch itself, and nothing is copied.
    fn as_sieve(&mut self) -> Option<&mut dyn selection::Sieve> {
        None
    }

    /// The table that the operator holds, if it is one that does.
    fn table(&mut self) -> Option<&mut dyn TableState> {
        None
    }

    /// Rows in, filtered and so on, so far.
    fn ledger(&self) -> Ledger;
}

/// A table that every shard holds whole, as a checkpoint sees it: a row for each key, by slot.
pub trait TableState {
    /// What a row looks like that is saved: its key's columns, then what it holds.
    fn schema(&self) -> &Schema;

    /// Every slot is below it, and every slot below it has a row.
    fn slots(&self) -> u32;

    /// The hash of a row's key, by which a shard is chosen to save it.
    fn hash_of(&self, slot: u32) -> u64;

    /// Appends the slots that were stored to since the last call, each once and in order. The first
    /// call appends none: what is stored is noted from then on.
    fn take_stored(&mut self, out: &mut Vec<u32>);

    /// Gives the rows of some slots, in order, some at a time.
    fn save(&self, slots: &[u32], each: &mut dyn FnMut(&RecordBatch));

    /// Stores rows that were saved: each replaces what there is under its key.
    ///
    /// # Errors
    /// [`OpError::Limit`] if there are more than a shard may hold.
    fn load(&mut self, rows: &RecordBatch) -> Result<(), OpError>;
}

/// A stretch of the sequence that the ordering stage gives: rows in event-time order, and between
/// them, where they came, late ones (those of `time <= mark`). Marks never fall; all rows up to a
/// late row's mark stand before it.
#[derive(Clone, Copy)]
pub struct Stretch<'a> {
    pub all: KeyedRows<'a>,
    /// Those of them in event-time order.
    pub on_time: KeyedRows<'a>,
    /// The late ones.
    pub late: KeyedRows<'a>,
}

/// What an operator that keeps state by key lets others know of it, so that keys can be saved,
/// leave memory, come back and move.
pub trait Stateful {
    /// Shows every state handle under its name, for saving, loading and clearing keys.
    fn state(&mut self, visit: &mut dyn FnMut(&str, &mut dyn Handle));

    /// The least watermark after `after` at which something is to be done for a slot whose key no
    /// row names: it must be in memory then. [`END`] if there is none. O(panes) or O(1).
    fn due(&self, _slot: u32, _after: Time) -> Time {
        END
    }

    /// Whether what is known of a slot can still matter once the watermark is at `after`.
    fn lasts(&self, _slot: u32, _after: Time) -> bool {
        true
    }

    /// Does what is due at the watermark `due` for some slots, which have come to memory for that.
    /// The watermark before has been told; `due` itself will be.
    ///
    /// # Errors
    /// [`OpError`] stops the run.
    fn catch_up(
        &mut self,
        _slots: &[u32],
        _due: Time,
        _keys: &KeyTable,
        _out: &mut Outputs,
    ) -> Result<(), OpError> {
        Ok(())
    }

    /// Appends slots that changed since the last call though no row named them.
    fn take_changed(&mut self, _out: &mut Vec<u32>) {}

    /// Whether what it does has changed since the last call by anything but rows and watermarks: a
    /// checkpoint cannot get there from an earlier one by rows alone.
    fn took_other(&mut self) -> bool {
        false
    }

    /// Shows what is known of a slot, for people, under the names of the handles that know it. As
    /// it stands here it says how many bytes each has.
    fn show(&mut self, slot: u32, _keys: &KeyTable, visit: &mut dyn FnMut(&str, Shown)) {
        let mut saved = Vec::new();
        self.state(&mut |name, handle| {
            saved.clear();
            handle.save(slot, &mut saved);
            if !saved.is_empty() {
                visit(name, Shown::fields([("bytes", Shown::count(saved.len()))]));
            }
        });
    }
}

/// An operator behind the ordering stage: it sees the rows of its keys in event-time order, ties as
/// they arrived, each before the watermark that lets it through is told.
pub trait Ordered: Stateful {
    /// Takes a stretch of the sequence that the stage gives. What the operator puts out may not
    /// depend on how the sequence is cut.
    ///
    /// As it stands here it cuts the stretch into runs for [`Ordered::ordered`] and
    /// [`Ordered::late`]. An operator to which late rows mean nothing takes both parts as wholes.
    ///
    /// # Errors
    /// [`OpError`] stops the run.
    fn rows(&mut self, stretch: &Stretch<'_>, out: &mut Outputs) -> Result<(), OpError> {
        let rows = &stretch.all;
        let (times, marks) = (rows.rows.times, rows.rows.marks);
        let mut from = 0;
        while from < times.len() {
            let late = times[from] <= marks[from];
            let same = |i: &usize| (times[*i] <= marks[*i]) == late;
            let to = (from..times.len()).take_while(same).count() + from;
            let run = rows.part(from..to);
            if late {
                self.late(&run, out)?;
            } else {
                self.ordered(&run, out)?;
            }
            from = to;
        }
        Ok(())
    }

    /// Rows whose times never fall, within a call and from call to call. `marks` are `times - 1`.
    ///
    /// # Errors
    /// [`OpError`] stops the run.
    fn ordered(&mut self, rows: &KeyedRows<'_>, out: &mut Outputs) -> Result<(), OpError>;

    /// Rows that came behind the watermark (`time <= mark`), in arrival order. All rows up to
    /// `marks[i]` have been given before row i, but that watermark has not been told: what it makes
    /// due is due before row i (rule 1).
    ///
    /// # Errors
    /// [`OpError`] stops the run.
    fn late(&mut self, rows: &KeyedRows<'_>, out: &mut Outputs) -> Result<(), OpError>;

    /// The watermark; every row up to it has been given.
    ///
    /// # Errors
    /// [`OpError`] stops the run.
    fn watermark(
        &mut self,
        watermark: Time,
        keys: &KeyTable,
        out: &mut Outputs,
    ) -> Result<(), OpError>;

    /// Rows in, late and so on, so far.
    fn ledger(&self) -> Ledger;
}

/// An operator that keeps state by key.
pub trait Keyed: Stateful {
    /// Takes rows of input `input` whose watermarks are in `rows.marks`; fires what these
    /// watermarks make due between the rows.
    ///
    /// # Errors
    /// [`OpError`] stops the run.
    fn rows(
        &mut self,
        input: usize,
        rows: &KeyedRows<'_>,
        out: &mut Outputs,
    ) -> Result<(), OpError>;

    /// Takes the watermark after a batch ([`crate::ground::time::END`] after the last).
    ///
    /// # Errors
    /// [`OpError`] stops the run.
    fn watermark(
        &mut self,
        watermark: Time,
        keys: &KeyTable,
        out: &mut Outputs,
    ) -> Result<(), OpError>;

    /// Adds slots that cannot leave memory.
    fn pinned(&self, _out: &mut Touched) {}

    /// Rows in, late and so on, so far.
    fn ledger(&self) -> Ledger;
}

#[cfg(test)]
mod tests;
