//! Matches that were put out before the watermark, until it says what became of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::schema::Schema;
use crate::ground::slot;
use crate::ground::time::Time;
use crate::ops::kept::Kept;
use crate::ops::pattern::reader::Reader;
use crate::state::touched::Touched;
use crate::state::{Handle, LoadError};

/// A match that was put out.
pub struct Provisional {
    pub slot: u32,
    /// Time of the row that made it, ms.
    pub time: Time,
    /// Its row, the only one.
    pub row: RecordBatch,
    /// Watermark at which it is to be looked at next; not saved, it is its time then.
    due: Time,
}

/// All of a shard that are neither confirmed nor retracted.
pub struct Provisionals {
    by_id: BTreeMap<u64, Provisional>,
    by_slot: BTreeSet<(u32, u64)>,
    /// Watermarks at which they are to be looked at.
    due: BTreeSet<(Time, u64)>,
    columns: Kept,
    is_heaped: Vec<bool>,
}

impl Provisionals {
    /// None, of rows like these.
    pub fn new(row: &Schema) -> Provisionals {
        Provisionals {
            by_id: BTreeMap::new(),
            by_slot: BTreeSet::new(),
            due: BTreeSet::new(),
            columns: Kept::new(row, (0..row.width()).collect()),
            is_heaped: row.columns.iter().map(|column| column.data_type.is_heaped()).collect(),
        }
    }

    /// Notes a match whose row is a row of `records`; whether it was not known.
    pub fn put(
        &mut self,
        id: u64,
        slot: u32,
        time: Time,
        records: &RecordBatch,
        row: usize,
    ) -> bool {
        if self.by_id.contains_key(&id) {
            return false;
        }
        let mut builder = BatchBuilder::new(self.columns.width(), 1);
        copy(&self.columns, records, row, &mut builder);
        self.insert(id, Provisional { slot, time, row: builder.finish(), due: time });
        true
    }

    fn insert(&mut self, id: u64, provisional: Provisional) {
        self.by_slot.insert((provisional.slot, id));
        self.due.insert((provisional.due, id));
        self.by_id.insert(id, provisional);
    }

    /// Takes out one that was confirmed or retracted.
    pub fn take(&mut self, id: u64) -> Option<Provisional> {
        let provisional = self.by_id.remove(&id)?;
        self.by_slot.remove(&(provisional.slot, id));
        self.due.remove(&(provisional.due, id));
        Some(provisional)
    }

    /// Those whose time the watermark has passed: number and the slot of the key.
    pub fn due(&self, watermark: Time) -> Vec<(u64, u32)> {
        let due = self.due.iter().take_while(|(time, _)| *time <= watermark);
        due.filter_map(|(_, id)| Some((*id, self.by_id.get(id)?.slot))).collect()
    }

    /// Looks at one again at a later watermark.
    pub fn look_later(&mut self, id: u64, after: Time) {
        if let Some(provisional) = self.by_id.get_mut(&id) {
            self.due.remove(&(provisional.due, id));
            provisional.due = after.saturating_add(1);
            self.due.insert((provisional.due, id));
        }
    }

    /// Adds the slots of keys that have any.
    pub fn slots(&self, out: &mut Touched) {
        for &(slot, _) in &self.by_slot {
            out.reserve(slot as usize + 1);
            out.set(slot);
        }
    }

    fn of(&self, slot: u32) -> Vec<u64> {
        self.by_slot.range((slot, 0)..=(slot, u64::MAX)).map(|&(_, id)| id).collect()
    }
}

/// Copies a row of `records` behind those of `out`, which may be wider.
pub fn copy(columns: &Kept, records: &RecordBatch, row: usize, out: &mut BatchBuilder) {
    let width = columns.width();
    out.push_with(|to| columns.values::<0>(records.row(row), &mut to[..width]));
    let last = out.rows() - 1;
    columns.finish_row(records, row, out, last);
}

/// ```text
/// for each: number u64 | time i64 | for each column: 0 (NULL) | 1, slot u64 | 2, length u32, bytes
/// ```
impl Handle for Provisionals {
    fn save(&self, slot: u32, out: &mut Vec<u8>) {
        for id in self.of(slot) {
            let Provisional { time, row, .. } = &self.by_id[&id];
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(&time.to_le_bytes());
            for (column, &is_heaped) in self.is_heaped.iter().enumerate() {
                match row.get(0, column) {
                    None => out.push(0),
                    Some(value) if is_heaped && slot::is_heaped(value) => {
                        let bytes = slot::bytes(&value, row.heap());
                        out.push(2);
                        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
                        out.extend_from_slice(bytes);
                    }
                    Some(value) => {
                        out.push(1);
                        out.extend_from_slice(&value.to_le_bytes());
                    }
                }
            }
        }
    }

    fn load(&mut self, slot: u32, bytes: &[u8]) -> Result<(), LoadError> {
        let mut from = Reader::new(bytes);
        while !from.is_empty() {
            let (id, provisional) = self.read(slot, &mut from).ok_or_else(|| LoadError {
                handle: "provisional".into(),
                reason: "the bytes are not what this version writes".into(),
            })?;
            self.insert(id, provisional);
        }
        Ok(())
    }

    fn clear(&mut self, slot: u32) {
        for id in self.of(slot) {
            self.take(id);
        }
    }

    fn memory_bytes(&self) -> usize {
        let each = size_of::<Provisional>() + self.columns.width() * 8 + 64;
        self.by_id.len() * each
    }
}

impl Provisionals {
    fn read(&self, slot: u32, from: &mut Reader<'_>) -> Option<(u64, Provisional)> {
        let (id, time) = (from.u64()?, from.u64()? as Time);
        let mut builder = BatchBuilder::new(self.columns.width(), 1);
        builder.push_with(|_| {});
        for column in 0..self.columns.width() {
            match from.u8()? {
                0 => builder.set_null(column),
                1 => {
                    let value = from.u64()?;
                    if self.is_heaped[column] && slot::is_heaped(value) {
                        return None;
                    }
                    builder.last_row_mut()[column] = value;
                }
                2 => {
                    let len = from.u32()? as usize;
                    let text = from.take(len).filter(|text| text.len() <= slot::HEAPED_MAX)?;
                    let value = slot::put(text, &mut builder.heap);
                    builder.last_row_mut()[column] = value;
                }
                _ => return None,
            }
        }
        let is_new = !self.by_id.contains_key(&id);
        is_new.then(|| (id, Provisional { slot, time, row: builder.finish(), due: time }))
    }
}
