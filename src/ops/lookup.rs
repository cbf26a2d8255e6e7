//! `lookup`: rows are joined with a table that every shard holds whole. Rows of the table's source
//! upsert by key; a row is joined with what the table holds when it comes.
//!
//! 1. A NULL key matches nothing: table rows with one are not stored.

mod table;

use crate::expr::Projection;
use crate::ground::batch::RecordBatch;
use crate::ground::schema::Schema;
use crate::ops::kept::Kept;
use crate::ops::output::Outputs;
use crate::ops::{Ledger, OpError, Rows, Stateless, TableState};
use crate::state::keys::{KeyTable, NO_SLOT};
use table::Table;

/// What becomes of a row without a table row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// It goes on with NULLs.
    Keep,
    /// It is counted as filtered.
    Drop,
    /// It goes to output 1, the kept columns of it.
    Route,
}

/// The columns that a lookup goes by.
pub struct On {
    /// The input's columns, and as many of the table's, pair by pair of one type.
    pub input: Vec<usize>,
    pub table: Vec<usize>,
}

/// The operator. Input 0 takes rows, input 1 the table's. Output 0: the kept input columns, then
/// the added ones; output 1, with [`Unmatched::Route`]: the kept columns.
pub struct Lookup {
    kept: Kept,
    on: Vec<usize>,
    unmatched: Unmatched,
    table: Table,
    ledger: Ledger,
    usable: Usable,
    hashes: Vec<u64>,
    found: Vec<u32>,
    matched: Chosen,
    missed: Chosen,
}

/// Selected rows (their places in the selection) and their table rows.
#[derive(Default)]
struct Chosen {
    places: Vec<u32>,
    slots: Vec<u32>,
    times: Vec<i64>,
    marks: Vec<i64>,
}

/// The selected rows without a NULL among their key columns.
#[derive(Default)]
struct Usable {
    select: Vec<u32>,
}

impl Usable {
    /// Gives the rows of `select` whose keys have no NULL; `select` itself where there is none.
    fn of<'a>(&'a mut self, records: &RecordBatch, select: &'a [u32], on: &[usize]) -> &'a [u32] {
        if !records.has_nulls() {
            return select;
        }
        let is_usable = |&&row: &&u32| !on.iter().any(|&c| records.is_null(row as usize, c));
        self.select.clear();
        self.select.extend(select.iter().filter(is_usable));
        &self.select
    }
}

impl Lookup {
    /// A lookup over rows of `input`, of which `keep` go on. `add` are the columns that are added,
    /// over the table's rows.
    ///
    /// # Panics
    /// If a column does not exist.
    pub fn new(
        input: &Schema,
        keep: Vec<usize>,
        on: On,
        add: Projection,
        unmatched: Unmatched,
    ) -> Lookup {
        assert_eq!(on.input.len(), on.table.len(), "columns go in pairs");
        let keys = on.input.iter().map(|&column| input.columns[column].clone()).collect();
        Lookup {
            kept: Kept::new(input, keep),
            on: on.input,
            unmatched,
            table: Table::new(keys, on.table, add),
            ledger: Ledger::default(),
            usable: Usable::default(),
            hashes: Vec::new(),
            found: Vec::new(),
            matched: Chosen::default(),
            missed: Chosen::default(),
        }
    }

    /// Schema of output 0. Added columns are nullable where `unmatched` is [`Unmatched::Keep`].
    ///
    /// # Panics
    /// If an added column has the name of a kept one.
    pub fn schema(
        input: &Schema,
        keep: &[usize],
        add: &Projection,
        unmatched: Unmatched,
    ) -> Schema {
        let mut columns = Kept::schema(input, keep).columns;
        columns.extend(add.schema().columns.into_iter().map(|mut column| {
            column.nullable |= unmatched == Unmatched::Keep;
            column
        }));
        Schema::new(columns)
    }

    /// Takes rows of the table: each replaces what was stored under its key.
    ///
    /// # Errors
    /// [`OpError::Limit`] if there are more keys than a shard may hold.
    pub fn table_rows(&mut self, records: &RecordBatch, select: &[u32]) -> Result<(), OpError> {
        let usable = self.usable.of(records, select, &self.table.on);
        self.table.rows += select.len() as u64;
        self.table.ignored += (select.len() - usable.len()) as u64;
        self.table.store(records, usable)
    }

    /// Rows of the table's source that came, and those of them that were of no use, having a NULL
    /// key.
    pub fn table_counts(&self) -> (u64, u64) {
        (self.table.rows, self.table.ignored)
    }

    /// Keys in the table.
    pub fn table_len(&self) -> usize {
        self.table.keys.live()
    }

    /// Bytes of memory held by the table, for the shard's budget.
    pub fn memory_bytes(&self) -> usize {
        self.table.memory_bytes()
    }

    fn join(&mut self, rows: &Rows<'_>, out: &mut Outputs) {
        KeyTable::hash(rows.records, rows.select, &self.on, &self.table.types, &mut self.hashes);
        let found = &mut self.found;
        self.table.keys.find(rows.records, rows.select, &self.on, &self.hashes, found);
        self.ledger.rows_in += rows.select.len() as u64;
        if self.unmatched == Unmatched::Keep || !self.found.contains(&NO_SLOT) {
            let places = 0..rows.select.len();
            self.table.write(&self.kept, rows, places, &self.found, &mut out.ports[0]);
            out.ports[0].stamp_each(rows.times, rows.marks);
            return;
        }
        self.matched.clear();
        self.missed.clear();
        for (place, &slot) in self.found.iter().enumerate() {
            let to = if slot == NO_SLOT { &mut self.missed } else { &mut self.matched };
            to.push(rows, place, slot);
        }
        let matched = &self.matched;
        let places = matched.places.iter().map(|&place| place as usize);
        self.table.write(&self.kept, rows, places, &matched.slots, &mut out.ports[0]);
        out.ports[0].stamp_each(&matched.times, &matched.marks);
        if self.unmatched == Unmatched::Drop {
            self.ledger.filtered += self.missed.places.len() as u64;
            return;
        }
        let builder = &mut out.ports[1].builder;
        for &place in &self.missed.places {
            let row = rows.select[place as usize] as usize;
            builder.push_with(|to| self.kept.values::<0>(rows.records.row(row), to));
            let last = builder.rows() - 1;
            self.kept.finish_row(rows.records, row, builder, last);
        }
        out.ports[1].stamp_each(&self.missed.times, &self.missed.marks);
    }
}

impl Chosen {
    fn clear(&mut self) {
        self.places.clear();
        self.slots.clear();
        self.times.clear();
        self.marks.clear();
    }

    #[inline(always)]
    fn push(&mut self, rows: &Rows<'_>, place: usize, slot: u32) {
        self.places.push(place as u32);
        self.slots.push(slot);
        self.times.push(rows.times[place]);
        self.marks.push(rows.marks[place]);
    }
}

impl Stateless for Lookup {
    fn rows(&mut self, input: usize, rows: &Rows<'_>, out: &mut Outputs) -> Result<(), OpError> {
        match input {
            0 => self.join(rows, out),
            _ => self.table_rows(rows.records, rows.select)?,
        }
        Ok(())
    }

    fn table(&mut self) -> Option<&mut dyn TableState> {
        Some(&mut self.table)
    }

    fn ledger(&self) -> Ledger {
        self.ledger
    }
}
