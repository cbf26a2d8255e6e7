//! Running aggregates: for every row its key's aggregates so far, an upsert by key.
//!
//! 1. The rows put out are in the order of the rows that caused them, with their times and marks,
//!    whatever the batches: rows are taken together only as long as no key comes twice.
//!
//! Putting out once per period (`emit`) will take rows without the merge and scan what was touched.

use crate::expr::aggregate::AggregateSelect;
use crate::ground::time::Time;
use crate::ops::accumulate::{
    Arguments, Batch, Emitter, Input, Layout, Merged, Object, show_distinct,
};
use crate::ops::output::Outputs;
use crate::ops::{Keyed, KeyedRows, Ledger, OpError, Stateful};
use crate::state::Handle;
use crate::state::distinct::Distinct;
use crate::state::keys::KeyTable;
use crate::state::panes::Panes;
use crate::state::shown::Shown;
use crate::state::touched::Touched;

/// The only pane: all time.
const ALL: i64 = 0;

/// The operator: `type = "aggregate"`.
pub struct Aggregate {
    arguments: Arguments,
    core: Core,
}

struct Core {
    layout: Layout,
    panes: Panes<Object>,
    distinct: Vec<(usize, Distinct)>,
    emitter: Emitter,
    ledger: Ledger,
    /// Keys of the rows being taken together.
    together: Touched,
    rows: Vec<u32>,
    merged: Merged,
    counts: Vec<Vec<u64>>,
    times: Vec<Time>,
    marks: Vec<Time>,
}

impl Aggregate {
    /// Aggregates of a `select` that was compiled without bounds.
    pub fn new(select: &AggregateSelect) -> Aggregate {
        let layout = Layout::new(&select.calls);
        let set = |(i, (call, of))| {
            let mut set = Distinct::new(&format!("distinct_{i}"), &of, 1, 1, false);
            set.advance(ALL, ALL, ALL);
            (call, set)
        };
        let distinct: Vec<_> = layout.distinct().into_iter().enumerate().map(set).collect();
        let core = Core {
            panes: Panes::new("all", layout.words(), layout.owned()),
            layout,
            counts: vec![Vec::new(); distinct.len()],
            distinct,
            emitter: Emitter::new(select, false),
            ledger: Ledger::default(),
            together: Touched::default(),
            rows: Vec::new(),
            merged: Merged::default(),
            times: Vec::new(),
            marks: Vec::new(),
        };
        Aggregate { arguments: Arguments::new(&select.calls), core }
    }
}

impl Stateful for Aggregate {
    fn state(&mut self, visit: &mut dyn FnMut(&str, &mut dyn Handle)) {
        visit("all", &mut self.core.panes);
        for (i, (_, set)) in self.core.distinct.iter_mut().enumerate() {
            visit(&format!("distinct_{i}"), set);
        }
    }

    /// `all`: the columns of the `select` by now; `distinct_N`: the different values so far.
    fn show(&mut self, slot: u32, keys: &KeyTable, visit: &mut dyn FnMut(&str, Shown)) {
        let Core { panes, layout, emitter, distinct, .. } = &mut self.core;
        let distinct: Vec<_> =
            distinct.iter().map(|(call, set)| show_distinct(set, layout, *call, slot)).collect();
        let column = panes.columns().iter().find(|column| column.touched.get(slot));
        if let Some(column) = column {
            let counts: Vec<u64> = distinct.iter().map(|of| of.count_in(ALL)).collect();
            let line = (column, &panes.pool);
            visit("all", emitter.show(layout, line, &counts, (slot, keys), (0, 0)));
        }
        for (i, of) in distinct.iter().enumerate() {
            of.panes().for_each(|(_, of)| visit(&format!("distinct_{i}"), Shown::fields(of)));
        }
    }
}

impl Keyed for Aggregate {
    fn rows(
        &mut self,
        _input: usize,
        rows: &KeyedRows<'_>,
        out: &mut Outputs,
    ) -> Result<(), OpError> {
        let (core, count) = (&mut self.core, rows.slots.len());
        core.ledger.rows_in += count as u64;
        core.panes.reserve(rows.keys.len());
        core.distinct.iter_mut().for_each(|(_, set)| set.reserve(rows.keys.len()));
        core.together.reserve(rows.keys.len());
        let inputs = self.arguments.eval(rows.rows.records, rows.rows.select);
        let mut start = 0;
        while start < count {
            let mut end = start;
            while end < count && !core.together.get(rows.slots[end]) {
                core.together.set(rows.slots[end]);
                end += 1;
            }
            core.together.clear();
            core.take(rows, &inputs, start..end, out);
            start = end;
        }
        core.panes.numbered += count as u64;
        Ok(())
    }

    fn watermark(
        &mut self,
        _watermark: Time,
        _keys: &KeyTable,
        _out: &mut Outputs,
    ) -> Result<(), OpError> {
        Ok(())
    }

    fn ledger(&self) -> Ledger {
        self.core.ledger
    }
}

impl Core {
    /// Takes rows of different keys and puts one row out for each.
    fn take(
        &mut self,
        rows: &KeyedRows<'_>,
        inputs: &[Input<'_>],
        range: std::ops::Range<usize>,
        out: &mut Outputs,
    ) {
        self.rows.clear();
        self.rows.extend(range.start as u32..range.end as u32);
        let index = self.panes.column(ALL);
        let first = self.panes.numbered + 1;
        let (column, pool) = self.panes.column_mut(index);
        let batch = Batch { rows: &self.rows, slots: rows.slots, first };
        self.layout.update(inputs, batch, column, pool);
        for (call, set) in &mut self.distinct {
            let Input { values, heap, live, .. } = inputs[*call];
            set.observe(&self.rows, rows.slots, values, heap, live, ALL);
        }
        self.merged.clear(&self.layout);
        let columns = self.panes.columns();
        for &slot in &rows.slots[range.clone()] {
            self.merged.name(slot as usize / 64, 1 << (slot % 64));
        }
        self.layout.merge(columns.iter(), &self.panes.pool, &mut self.merged);
        for ((_, set), counts) in self.distinct.iter().zip(&mut self.counts) {
            set.counts(&self.merged.slots, counts);
        }
        let (port, merged) = (&mut out.ports[0], &mut self.merged);
        self.ledger.overflows +=
            self.emitter.emit(&self.layout, merged, &self.counts, rows.keys, (0, 0), port);
        let (times, marks) = (&rows.rows.times[range.clone()], &rows.rows.marks[range]);
        self.times.clear();
        self.marks.clear();
        for &line in &self.emitter.selected {
            self.times.push(times[line as usize]);
            self.marks.push(marks[line as usize]);
        }
        port.stamp_each(&self.times, &self.marks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::aggregate::compile_aggregates;
    use crate::expr::scope::Scope;
    use crate::ground::batch::BatchBuilder;
    use crate::ground::schema::{Column, DataType, Schema};
    use crate::ops::Rows;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// Every row's key with its aggregates up to it, in the rows' order, in batches of any size.
    fn check(rows: &[(u8, i64)], size: usize) {
        let not_null = |name: &str| Column::new(name, DataType::BigInt).not_null();
        let schema = Schema::new(vec![not_null("k"), not_null("v")]);
        let columns = [("k", "k"), ("n", "COUNT(*)"), ("s", "SUM(v)"), ("d", "COUNT(DISTINCT v)")];
        let columns = columns.map(|(name, text)| (name.to_string(), text.to_string()));
        let (scope, key) = (Scope::of(&schema), ["k".to_string()]);
        let select = compile_aggregates(&columns, Some("n <> 3"), &scope, &key, false).unwrap();
        let mut operator = Aggregate::new(&select);
        let mut out = Outputs::new(&[4], 4);
        let (mut keys, types) = (KeyTable::new(&[DataType::BigInt]), [DataType::BigInt]);
        for (start, rows) in rows.chunks(size).enumerate() {
            let mut builder = BatchBuilder::new(2, 0);
            rows.iter().for_each(|&(k, v)| builder.push(&[u64::from(k), v as u64]));
            let batch = builder.finish();
            let places: Vec<u32> = (0..rows.len() as u32).collect();
            let times: Vec<Time> =
                places.iter().map(|&i| (start * size) as i64 + i as i64).collect();
            let (mut hashes, mut slots) = (Vec::new(), Vec::new());
            KeyTable::hash(&batch, &places, &[0], &types, &mut hashes);
            keys.resolve(&batch, &places, &[0], &hashes, &mut slots).unwrap();
            let rows = Rows { records: &batch, select: &places, times: &times, marks: &times };
            let rows = KeyedRows::new(rows, &slots, &keys);
            operator.rows(0, &rows, &mut out).unwrap();
        }
        let mut model: BTreeMap<u8, (i64, i64, BTreeSet<i64>)> = BTreeMap::new();
        let mut expected = Vec::new();
        for (i, &(k, v)) in rows.iter().enumerate() {
            let (n, sum, values) = model.entry(k).or_default();
            *n += 1;
            *sum += v;
            values.insert(v);
            if *n != 3 {
                expected.push((vec![i64::from(k), *n, *sum, values.len() as i64], i as Time));
            }
        }
        let mut found = Vec::new();
        for emitted in out.ports[0].take() {
            assert_eq!(emitted.times, emitted.marks);
            for row in 0..emitted.records.rows() {
                let values = emitted.records.row(row).iter().map(|&slot| slot as i64);
                found.push((values.collect::<Vec<_>>(), emitted.times[row]));
            }
        }
        assert_eq!(found, expected);
        assert_eq!(operator.ledger().rows_in, rows.len() as u64);
    }

    proptest! {
        #[test]
        fn every_row_puts_out_its_key_so_far(
            rows in proptest::collection::vec((0..6u8, -4..4i64), 0..60), size in 1..70usize,
        ) {
            check(&rows, size);
        }
    }
}
