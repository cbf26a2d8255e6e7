//! `lookup`: rows are joined with a table that every shard holds whole. Rows of the table's source
//! upsert by key; a row is joined with what the table holds when it comes.
//!
//! 1. What a table row adds is evaluated when it is stored, so that a row that is joined costs a
//!    probe and a copy, whatever the expressions.
//! 2. A NULL key matches nothing: table rows with one are not stored.
//! 3. `values` has a row of `add.width` words for each slot of `keys`, `nulls` its null words; they
//!    are looked at only once a table row had a NULL.

use crate::expr::Projection;
use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::schema::{DataType, Schema};
use crate::ground::words::Words;
use crate::ground::{bits, prefetch, slot};
use crate::ops::kept::Kept;
use crate::ops::output::{Outputs, Port};
use crate::ops::{Ledger, OpError, Rows, Stateless};
use crate::state::keys::{KeyTable, NO_SLOT};

/// Rows by which a table row is asked for before it is copied.
const AHEAD: usize = 48;
/// Bytes of replaced long texts that are worth a compaction.
const HEAP_WASTE: usize = 1 << 20;

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
    types: Vec<DataType>,
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

struct Table {
    on: Vec<usize>,
    add: Projection,
    width: usize,
    heaped: Vec<usize>,
    keys: KeyTable,
    values: Words,
    nulls: Words,
    has_nulls: bool,
    null_words: usize,
    heap: Vec<u8>,
    heap_dead: usize,
    rows: u64,
    ignored: u64,
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
        let types: Vec<DataType> =
            on.input.iter().map(|&column| input.columns[column].data_type.clone()).collect();
        let added = add.schema();
        let is_heaped = |&i: &usize| added.columns[i].data_type.is_heaped();
        let table = Table {
            on: on.table,
            add,
            width: added.width(),
            heaped: (0..added.width()).filter(is_heaped).collect(),
            keys: KeyTable::new(&types),
            values: Words::zeroed(0),
            nulls: Words::zeroed(0),
            has_nulls: false,
            null_words: added.width().div_ceil(64),
            heap: Vec::new(),
            heap_dead: 0,
            rows: 0,
            ignored: 0,
        };
        Lookup {
            kept: Kept::new(input, keep),
            on: on.input,
            types,
            unmatched,
            table,
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
        KeyTable::hash(records, usable, &self.table.on, &self.types, &mut self.hashes);
        self.table.store(records, usable, &self.hashes, &mut self.found)
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
        let words = self.table.values.len() + self.table.nulls.len();
        words * 8 + self.table.heap.capacity() + self.table.keys.memory_bytes()
    }

    fn join(&mut self, rows: &Rows<'_>, out: &mut Outputs) {
        KeyTable::hash(rows.records, rows.select, &self.on, &self.types, &mut self.hashes);
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

impl Table {
    fn store(
        &mut self,
        records: &RecordBatch,
        select: &[u32],
        hashes: &[u64],
        slots: &mut Vec<u32>,
    ) -> Result<(), OpError> {
        let resolved = self.keys.resolve(records, select, &self.on, hashes, slots);
        resolved.map_err(|full| OpError::Limit(format!("the lookup's table: {full}")))?;
        let mut builder = BatchBuilder::new(self.width, select.len());
        self.add.project(records, select, &mut builder);
        let added = builder.finish();
        if self.values.len() < self.keys.len() * self.width {
            let room = self.keys.len().next_power_of_two();
            self.values = self.values.grown(room * self.width);
            self.nulls = self.nulls.grown(room * self.null_words);
        }
        self.has_nulls |= added.has_nulls();
        for (row, &slot) in slots.iter().enumerate() {
            self.replace(&added, row, slot as usize)?;
        }
        if self.heap_dead > HEAP_WASTE && self.heap_dead > self.heap.len() / 2 {
            self.compact();
        }
        Ok(())
    }

    fn replace(&mut self, added: &RecordBatch, row: usize, slot: usize) -> Result<(), OpError> {
        let values = &mut self.values[slot * self.width..][..self.width];
        for &i in &self.heaped {
            if slot::is_heaped(values[i]) {
                self.heap_dead += slot::len(values[i]);
            }
        }
        values.copy_from_slice(added.row(row));
        for &i in &self.heaped {
            if self.heap.len() + slot::HEAPED_MAX > u32::MAX as usize {
                let reason = "the lookup's table holds 4 GiB of long texts, the most that it may";
                return Err(OpError::Limit(reason.into()));
            }
            values[i] = slot::rehome(values[i], added.heap(), &mut self.heap);
        }
        let nulls = &mut self.nulls[slot * self.null_words..][..self.null_words];
        nulls.fill(0);
        if added.has_nulls() {
            nulls.copy_from_slice(&added.nulls()[row * self.null_words..][..self.null_words]);
        }
        Ok(())
    }

    /// Copies the long texts that are still used together.
    fn compact(&mut self) {
        let mut heap = Vec::with_capacity(self.heap.len() - self.heap_dead);
        for values in self.values.chunks_exact_mut(self.width.max(1)) {
            for &i in &self.heaped {
                values[i] = slot::rehome(values[i], &self.heap, &mut heap);
            }
        }
        (self.heap, self.heap_dead) = (heap, 0);
    }

    /// Adds a row for each of the selected rows at `places`, with the values of its slot.
    fn write(
        &self,
        kept: &Kept,
        rows: &Rows<'_>,
        places: impl Iterator<Item = usize> + Clone,
        slots: &[u32],
        port: &mut Port,
    ) {
        by_width!(kept.width(), self.write_of(kept, rows, places, slots, port))
    }

    /// `W` is the number of kept columns where it is known, or 0.
    #[inline(always)]
    fn write_of<const W: usize>(
        &self,
        kept: &Kept,
        rows: &Rows<'_>,
        places: impl Iterator<Item = usize> + Clone,
        slots: &[u32],
        port: &mut Port,
    ) {
        let (records, out) = (rows.records, &mut port.builder);
        let (first, kept_width) = (out.rows(), if W == 0 { kept.width() } else { W });
        let at = out.extend_rows_to_set(slots.len());
        // Where most rows go on, so do the texts, all at once: no row's are looked at.
        let has_texts = !records.heap().is_empty() && !kept.heaped().is_empty();
        let is_whole = has_texts && slots.len() * 2 >= records.rows();
        let by = u32::try_from(out.heap.len()).expect("a batch's heap stays under 4 GiB");
        if is_whole {
            out.heap.extend_from_slice(records.heap());
        }
        let mut to = &mut out.slots_mut()[at..];
        let mut more = records.has_nulls() || (has_texts && !is_whole);
        more |= self.has_nulls || !self.heap.is_empty();
        for (i, (place, &slot)) in places.clone().zip(slots).enumerate() {
            if let Some(&ahead) = slots.get(i + AHEAD) {
                prefetch::read(&self.values, ahead as usize * self.width);
            }
            let (row, later) = to.split_at_mut(kept_width + self.width);
            let (own, added) = row.split_at_mut(kept_width);
            kept.values::<W>(records.row(rows.select[place] as usize), own);
            if is_whole && by != 0 {
                kept.heaped().iter().for_each(|&i| own[i] = slot::shifted(own[i], by));
            }
            if slot == NO_SLOT {
                more = true;
            } else {
                let from = slot as usize * self.width;
                for (added, value) in added.iter_mut().zip(&self.values[from..]) {
                    *added = *value;
                }
            }
            to = later;
        }
        if more {
            for ((to, place), &slot) in (first..).zip(places).zip(slots) {
                let row = rows.select[place] as usize;
                if is_whole {
                    kept.finish_nulls(records, row, out, to);
                } else {
                    kept.finish_row(records, row, out, to);
                }
                self.finish_row(slot, out, to, kept_width);
            }
        }
    }

    /// Brings NULLs and long values of a table row to row `to` of `out`, from column `first`.
    fn finish_row(&self, slot: u32, out: &mut BatchBuilder, to: usize, first: usize) {
        if slot == NO_SLOT {
            (0..self.width).for_each(|i| out.set_null_at(to, first + i));
            return;
        }
        let nulls = &self.nulls[slot as usize * self.null_words..][..self.null_words];
        bits::for_each(nulls, |i| out.set_null_at(to, first + i));
        let values = &self.values[slot as usize * self.width..][..self.width];
        for &i in &self.heaped {
            if slot::is_heaped(values[i]) {
                let at = to * out.width() + first + i;
                let moved = slot::rehome(values[i], &self.heap, &mut out.heap);
                out.slots_mut()[at] = moved;
            }
        }
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

    fn ledger(&self) -> Ledger {
        self.ledger
    }
}
