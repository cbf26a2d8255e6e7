//! What a key's accumulators come to so far, for people.

use std::collections::{BTreeMap, BTreeSet};

use super::{Emitter, Layout, Merged, Object};
use crate::ground::batch::BatchBuilder;
use crate::ground::limits::SHOWN_MAX;
use crate::ground::schema::DataType;
use crate::ground::time::Time;
use crate::state::distinct::Distinct;
use crate::state::keys::KeyTable;
use crate::state::panes::Column;
use crate::state::pool::Pool;
use crate::state::shown::Shown;

impl Emitter {
    /// The columns of the `select` that aggregate something, over the rows of one line: that of a
    /// key's slot in a pane. `distinct` are the counts of its sets.
    pub fn show(
        &mut self,
        layout: &Layout,
        (column, pool): (&Column, &Pool<Object>),
        distinct: &[u64],
        (slot, keys): (u32, &KeyTable),
        window: (Time, Time),
    ) -> Shown {
        let mut merged = Merged::default();
        merged.clear(layout);
        merged.name(slot as usize / 64, 1 << (slot % 64));
        layout.merge(std::iter::once(column), pool, &mut merged);
        self.builder.extend_rows_to_set(1);
        self.write_keys(&merged.slots, keys, window);
        let first = self.first_call();
        let counts: Vec<Vec<u64>> = distinct.iter().map(|&count| vec![count]).collect();
        layout.finish(&mut merged, &counts, &mut self.builder, 0, first);
        let batch = self.builder.finish();
        let mut out = BatchBuilder::new(self.finish.columns().len(), 1);
        self.finish.project(&batch, &[0], &mut out);
        let row = out.finish();
        self.builder.recycle(batch);
        let columns = self.finish.columns().iter().enumerate();
        let calls = columns.filter(|(_, (_, program))| {
            // The others are the key's columns and the window's bounds.
            program.columns().iter().any(|&column| column >= first)
        });
        let shown = calls.map(|(i, (name, program))| {
            (name.clone(), Shown::of(row.get(0, i), row.heap(), program.data_type()))
        });
        Shown::Fields(shown.collect())
    }
}

/// A key's different values, by pane.
pub struct ShownDistinct<'a> {
    set: &'a Distinct,
    data_type: DataType,
    panes: BTreeMap<i64, BTreeSet<u64>>,
}

/// The different values of a slot in the set of a call.
pub fn show_distinct<'a>(
    set: &'a Distinct,
    layout: &Layout,
    call: usize,
    slot: u32,
) -> ShownDistinct<'a> {
    let mut panes: BTreeMap<i64, BTreeSet<u64>> = BTreeMap::new();
    // What waits for its pane may stand there more than once.
    set.each_value(slot, |pane, value| {
        panes.entry(pane).or_default().insert(value);
    });
    ShownDistinct { set, data_type: layout.calls[call].argument.clone(), panes }
}

impl ShownDistinct<'_> {
    /// Different values in a pane.
    pub fn count_in(&self, pane: i64) -> u64 {
        self.panes.get(&pane).map_or(0, |values| values.len() as u64)
    }

    /// Whether there are none at all.
    pub fn is_empty(&self) -> bool {
        self.panes.is_empty()
    }

    /// Each pane that has values, with how many, and the least [`SHOWN_MAX`] of them.
    pub fn panes(&self) -> impl Iterator<Item = (i64, [(&'static str, Shown); 2])> {
        self.panes.iter().map(|(&pane, values)| {
            let count = Shown::count(values.len());
            let value = |&value: &u64| {
                let (word, heap) = self.set.value(value);
                Shown::of(Some(word), heap, &self.data_type)
            };
            let mut values: Vec<Shown> = values.iter().map(value).collect();
            values.sort_by(|a, b| match (a, b) {
                (Shown::Text(a), Shown::Text(b)) => a.cmp(b),
                (Shown::Double(a), Shown::Double(b)) => a.total_cmp(b),
                _ => a.number().cmp(&b.number()),
            });
            values.truncate(SHOWN_MAX);
            (pane, [("count", count), ("values", Shown::List(values))])
        })
    }
}
