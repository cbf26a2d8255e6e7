//! The table of a lookup: what each of its rows adds, by key.
//!
//! 1. What a table row adds is evaluated when it is stored, so that a row that is joined costs a
//!    probe and a copy, whatever the expressions.
//! 2. `values` has a row of `width` words for each slot of `keys`, `nulls` its null words; they are
//!    looked at only once a table row had a NULL.
//! 3. A row as it is saved has its key's columns first, then the added ones. No key has a NULL, and
//!    no row ever goes.

use crate::expr::Projection;
use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::limits::BATCH_HEAP_BYTES;
use crate::ground::schema::{Column, DataType, Schema};
use crate::ground::words::Words;
use crate::ground::{bits, prefetch, slot};
use crate::ops::kept::Kept;
use crate::ops::output::Port;
use crate::ops::{OpError, Rows, TableState};
use crate::state::keys::{KeyTable, NO_SLOT};
use crate::state::touched::Touched;

/// Rows by which a table row is asked for before it is copied.
const AHEAD: usize = 48;
/// Bytes of replaced long texts that are worth a compaction.
const HEAP_WASTE: usize = 1 << 20;
/// Rows that are saved together.
const TOGETHER: usize = 4096;

/// See the module's head.
pub struct Table {
    /// Key columns of the rows that come.
    pub on: Vec<usize>,
    add: Projection,
    width: usize,
    heaped: Vec<usize>,
    pub keys: KeyTable,
    /// The key's types.
    pub types: Vec<DataType>,
    /// Of rows as they are saved.
    schema: Schema,
    values: Words,
    nulls: Words,
    has_nulls: bool,
    null_words: usize,
    heap: Vec<u8>,
    heap_dead: usize,
    /// Rows that came, and those of them with a NULL in their key.
    pub rows: u64,
    pub ignored: u64,
    /// Slots that were stored to since [`TableState::take_stored`], from its first call on.
    stored: Option<Touched>,
    hashes: Vec<u64>,
    slots: Vec<u32>,
}

impl Table {
    /// A table without rows, of rows with these key columns, which are `on` of the table's rows.
    pub fn new(keys: Vec<Column>, on: Vec<usize>, add: Projection) -> Table {
        let types: Vec<DataType> = keys.iter().map(|column| column.data_type.clone()).collect();
        let added = add.schema();
        let (width, columns) = (added.width(), keys.into_iter().chain(added.columns));
        // Names say nothing here, and a key may have that of an added column.
        let unnamed =
            columns.enumerate().map(|(i, column)| Column { name: i.to_string(), ..column });
        let schema = Schema::new(unnamed.collect());
        let is_heaped = |&i: &usize| schema.columns[types.len() + i].data_type.is_heaped();
        Table {
            on,
            add,
            width,
            heaped: (0..width).filter(is_heaped).collect(),
            keys: KeyTable::new(&types),
            types,
            schema,
            values: Words::zeroed(0),
            nulls: Words::zeroed(0),
            has_nulls: false,
            null_words: width.div_ceil(64),
            heap: Vec::new(),
            heap_dead: 0,
            rows: 0,
            ignored: 0,
            stored: None,
            hashes: Vec::new(),
            slots: Vec::new(),
        }
    }

    /// Stores rows without a NULL in their key.
    ///
    /// # Errors
    /// [`OpError::Limit`] if there are more keys or texts than a shard may hold.
    pub fn store(&mut self, records: &RecordBatch, select: &[u32]) -> Result<(), OpError> {
        let on = std::mem::take(&mut self.on);
        let resolved = self.resolve(records, select, &on);
        self.on = on;
        resolved?;
        let mut builder = BatchBuilder::new(self.width, select.len());
        self.add.project(records, select, &mut builder);
        self.place(&builder.finish())
    }

    /// Finds the slots of rows with a key in these columns.
    fn resolve(
        &mut self,
        records: &RecordBatch,
        select: &[u32],
        on: &[usize],
    ) -> Result<(), OpError> {
        KeyTable::hash(records, select, on, &self.types, &mut self.hashes);
        let resolved = self.keys.resolve(records, select, on, &self.hashes, &mut self.slots);
        resolved.map_err(|full| OpError::Limit(format!("the lookup's table: {full}")))
    }

    /// Stores what the rows of the slots found last add.
    fn place(&mut self, added: &RecordBatch) -> Result<(), OpError> {
        if self.values.len() < self.keys.len() * self.width {
            let room = self.keys.len().next_power_of_two();
            self.values = self.values.grown(room * self.width);
            self.nulls = self.nulls.grown(room * self.null_words);
        }
        self.has_nulls |= added.has_nulls();
        let slots = std::mem::take(&mut self.slots);
        let mut replaced = slots.iter().enumerate();
        let done = replaced.try_for_each(|(row, &slot)| self.replace(added, row, slot as usize));
        if let Some(stored) = &mut self.stored {
            stored.reserve(self.keys.len());
            slots.iter().for_each(|&slot| stored.set(slot));
        }
        self.slots = slots;
        done?;
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
    pub fn write(
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

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        let words = self.values.len() + self.nulls.len();
        let noted = self.stored.as_ref().map_or(0, Touched::memory_bytes);
        words * 8 + self.heap.capacity() + self.keys.memory_bytes() + noted
    }
}

impl TableState for Table {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn slots(&self) -> u32 {
        self.keys.len() as u32
    }

    fn hash_of(&self, slot: u32) -> u64 {
        self.keys.hash_of(slot)
    }

    fn take_stored(&mut self, out: &mut Vec<u32>) {
        let stored = self.stored.get_or_insert_default();
        stored.for_each(|slot| out.push(slot));
        stored.clear();
    }

    fn save(&self, slots: &[u32], each: &mut dyn FnMut(&RecordBatch)) {
        let key = self.types.len();
        let is_text = |&i: &usize| self.keys.is_heaped(i);
        let texts: Vec<usize> = (0..key).filter(is_text).collect();
        let mut builder = BatchBuilder::new(key + self.width, slots.len().min(TOGETHER));
        for (i, &slot) in slots.iter().enumerate() {
            let at = slot as usize;
            let values = &self.values[at * self.width..][..self.width];
            builder.push_with(|row| {
                row[..key].copy_from_slice(self.keys.row(slot));
                row[key..].copy_from_slice(values);
            });
            for &i in &texts {
                let word = self.keys.row(slot)[i];
                let moved = slot::rehome(word, self.keys.heap(), &mut builder.heap);
                builder.last_row_mut()[i] = moved;
            }
            for &i in &self.heaped {
                let moved = slot::rehome(values[i], &self.heap, &mut builder.heap);
                builder.last_row_mut()[key + i] = moved;
            }
            if self.has_nulls {
                let nulls = &self.nulls[at * self.null_words..][..self.null_words];
                bits::for_each(nulls, |i| builder.set_null(key + i));
            }
            let is_full = builder.rows() == TOGETHER || builder.heap.len() > BATCH_HEAP_BYTES;
            if is_full || i + 1 == slots.len() {
                let batch = builder.finish();
                each(&batch);
                builder.recycle(batch);
            }
        }
    }

    fn load(&mut self, rows: &RecordBatch) -> Result<(), OpError> {
        let key = self.types.len();
        let all: Vec<u32> = (0..rows.rows() as u32).collect();
        self.resolve(rows, &all, &(0..key).collect::<Vec<_>>())?;
        let mut added = BatchBuilder::new(self.width, rows.rows());
        added.heap.extend_from_slice(rows.heap());
        for row in 0..rows.rows() {
            added.push(&rows.row(row)[key..]);
            if rows.has_nulls() {
                let is_null = |&i: &usize| rows.is_null(row, key + i);
                (0..self.width).filter(is_null).for_each(|i| added.set_null(i));
            }
        }
        self.place(&added.finish())
    }
}
