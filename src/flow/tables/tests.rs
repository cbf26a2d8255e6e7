//! Pieces of tables, written by several shards and read by one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ground::batch::BatchBuilder;
use crate::ground::schema::{Column, DataType, Schema};
use crate::ops::output::Outputs;
use crate::ops::{Ledger, OpError, Rows, Stateless};

/// An operator that holds numbers by key.
struct Numbers {
    schema: Schema,
    rows: Vec<(u64, u64)>,
    stored: Option<BTreeSet<u32>>,
}

impl Numbers {
    fn put(&mut self, key: u64, value: u64) {
        let slot = self.rows.iter().position(|row| row.0 == key).unwrap_or_else(|| {
            self.rows.push((key, 0));
            self.rows.len() - 1
        });
        self.rows[slot].1 = value;
        self.stored.iter_mut().for_each(|stored| stored.extend([slot as u32]));
    }
}

impl Stateless for Numbers {
    fn rows(&mut self, _: usize, _: &Rows<'_>, _: &mut Outputs) -> Result<(), OpError> {
        Ok(())
    }

    fn table(&mut self) -> Option<&mut dyn TableState> {
        Some(self)
    }

    fn ledger(&self) -> Ledger {
        Ledger::default()
    }
}

impl TableState for Numbers {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn slots(&self) -> u32 {
        self.rows.len() as u32
    }

    fn hash_of(&self, slot: u32) -> u64 {
        key::hash_word(self.rows[slot as usize].0)
    }

    fn take_stored(&mut self, out: &mut Vec<u32>) {
        out.extend(std::mem::take(self.stored.get_or_insert_default()));
    }

    fn save(&self, slots: &[u32], each: &mut dyn FnMut(&RecordBatch)) {
        for slots in slots.chunks(3) {
            let mut builder = BatchBuilder::new(2, 0);
            for &slot in slots {
                let (key, value) = self.rows[slot as usize];
                builder.push(&[key, value]);
            }
            each(&builder.finish());
        }
    }

    fn load(&mut self, rows: &RecordBatch) -> Result<(), OpError> {
        (0..rows.rows()).for_each(|row| self.put(rows.row(row)[0], rows.row(row)[1]));
        Ok(())
    }
}

fn node() -> Node {
    let columns = ["k", "v"].map(|name| Column::new(name, DataType::BigInt));
    let numbers = Numbers { schema: Schema::new(columns.to_vec()), rows: Vec::new(), stored: None };
    Node {
        component: 0,
        name: "n".into(),
        operator: NodeOperator::making(numbers),
        outputs: Outputs::new(&[], 1),
        targets: Vec::new(),
        told: Default::default(),
    }
}

fn about() -> TableName {
    TableName { name: "n".into(), source: "s".into(), form: 7 }
}

/// One shard's node and pieces, and the files of the newest durable checkpoint.
struct Shard {
    nodes: Vec<Node>,
    tables: Tables,
    files: BTreeMap<String, Vec<u8>>,
}

impl Shard {
    fn new() -> Shard {
        let table = Table { about: about(), nodes: vec![0], is_restored: true };
        Shard { nodes: vec![node()], tables: Tables::new(vec![table]), files: BTreeMap::new() }
    }

    fn put(&mut self, rows: &[(u64, u64)]) {
        let mut builder = BatchBuilder::new(2, 0);
        rows.iter().for_each(|&(key, value)| builder.push(&[key, value]));
        state(&mut self.nodes, 0).unwrap().load(&builder.finish()).unwrap();
    }

    /// The files of a checkpoint; how many bytes were written for it.
    fn take(
        &mut self,
        place: (usize, usize),
        epochs: (u64, u64),
    ) -> (BTreeMap<String, Vec<u8>>, usize) {
        let mut share = Share::default();
        self.tables.take(&mut self.nodes, place, epochs, &mut share);
        let carried = share.carried.iter().map(|name| (name.clone(), self.files[name].clone()));
        let mut files: BTreeMap<String, Vec<u8>> = carried.collect();
        files.extend(share.written.iter().map(|(name, bytes)| (name.clone(), bytes.to_vec())));
        (files, share.written.iter().map(|(_, bytes)| bytes.len()).sum())
    }
}

/// The rows that files of several shards have together, and the sources that had ended.
fn read(files: &[BTreeMap<String, Vec<u8>>]) -> (BTreeMap<u64, u64>, Vec<String>) {
    let shard = |files: &BTreeMap<String, Vec<u8>>| RestoredShard {
        read: files.clone().into_iter().collect(),
        ..RestoredShard::default()
    };
    let restored = Restored { shards: files.iter().map(shard).collect(), epoch: 1 };
    let known = Known::of(&restored).unwrap();
    assert_eq!(known.tables, [about()]);
    let mut rows = BTreeMap::new();
    for shard in &restored.shards {
        let mut own = BTreeMap::new();
        for (name, bytes) in pieces(shard) {
            let (_, tables) = take_apart(Read { rest: bytes, what: name.into() }).unwrap();
            for bytes in &tables[0].1 {
                let mut nodes = [node()];
                load(&mut nodes, &[0], bytes, name).unwrap();
                let state = state(&mut nodes, 0).unwrap();
                state.save(&(0..state.slots()).collect::<Vec<_>>(), &mut |rows| {
                    own.extend((0..rows.rows()).map(|i| (rows.row(i)[0], rows.row(i)[1])));
                });
            }
        }
        assert!(own.keys().all(|key| !rows.contains_key(key)), "one shard writes a row");
        rows.extend(own);
    }
    (rows, known.ended)
}

proptest! {
    #[test]
    fn every_checkpoint_has_every_row_as_it_is_then(
        shards in 1..4usize,
        epochs in proptest::collection::vec(
            (proptest::collection::vec((0..60u64, 0..9u64), 0..12), any::<bool>()), 1..30),
        ends_at in 0..30usize,
    ) {
        let mut all: Vec<Shard> = (0..shards).map(|_| Shard::new()).collect();
        let (mut model, mut durable) = (BTreeMap::new(), 0);
        for (i, (rows, is_durable)) in epochs.iter().enumerate() {
            model.extend(rows.iter().copied());
            let epoch = i as u64 + 1;
            let mut files = Vec::new();
            for (number, shard) in all.iter_mut().enumerate() {
                shard.put(rows);
                if i == ends_at {
                    shard.tables.note_end("s");
                    shard.tables.note_end("no table's");
                }
                files.push(shard.take((number, shards), (epoch, durable)).0);
            }
            let ended = if i >= ends_at { vec!["s".to_string()] } else { Vec::new() };
            prop_assert_eq!(read(&files), (model.clone(), ended));
            if *is_durable {
                durable = epoch;
                all.iter_mut().zip(files).for_each(|(shard, files)| shard.files = files);
            }
        }
    }
}

#[test]
fn a_large_table_that_changes_little_costs_little_and_has_few_files() {
    let mut shard = Shard::new();
    shard.put(&(0..20_000).map(|key| (key, key)).collect::<Vec<_>>());
    let (mut bytes, mut most) = (0, 0);
    for epoch in 1..=1000 {
        let (files, written) = shard.take((0, 1), (epoch, epoch - 1));
        shard.files = files;
        bytes += if epoch > 1 { written } else { 0 };
        most = most.max(shard.files.len());
        shard.put(&[(epoch * 7, 1), (epoch * 11, 2)]);
    }
    assert!(most <= 14, "{most} files");
    let whole = shard.files.values().next().map_or(0, Vec::len);
    assert!(bytes < 2 * whole, "{bytes} bytes behind a first piece of {whole}");
    // Nothing came: nothing is written.
    shard.put(&[]);
    shard.files = shard.take((0, 1), (1001, 1000)).0;
    assert_eq!(shard.take((0, 1), (1002, 1001)).1, 0);
}

#[test]
fn what_is_cut_short_or_changed_is_an_error_or_reads_as_written() {
    let mut shard = Shard::new();
    shard.put(&[(1, 2), (3, 4), (5, 6), (7, 8)]);
    shard.tables.note_end("s");
    let files = shard.take((0, 1), (1, 0)).0;
    let bytes = files.values().next().unwrap();
    for len in 0..bytes.len() {
        assert!(take_apart(Read { rest: &bytes[..len], what: "x".into() }).is_err(), "{len}");
    }
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x41;
        if let Ok((_, tables)) = take_apart(Read { rest: &bytes, what: "x".into() }) {
            for (_, batches) in tables {
                // It may be refused; it does not panic.
                batches.iter().for_each(|b| drop(load(&mut [node()], &[0], b, "x")));
            }
        }
    }
}
