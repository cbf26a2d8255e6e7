//! The table against a map.

use super::*;
use crate::ground::batch::BatchBuilder;
use proptest::prelude::*;
use std::collections::HashMap;

type Key = Vec<Option<Vec<u8>>>;

fn batch_of(keys: &[Key], types: &[DataType]) -> RecordBatch {
    let mut builder = BatchBuilder::new(types.len() + 1, keys.len());
    for key in keys {
        let (mut row, mut nulls) = (vec![7u64; types.len() + 1], 0u64);
        for (i, value) in key.iter().enumerate() {
            row[i + 1] = match value {
                None => {
                    nulls |= 2 << i;
                    0
                }
                Some(text) if types[i].is_heaped() => slot::put(text, &mut builder.heap),
                Some(text) => text.iter().map(|&b| u64::from(b)).sum(),
            };
        }
        builder.push_nulls(&row, &[nulls]);
    }
    builder.finish()
}

/// Resolves keys in batches, releasing some between, against a plain map.
fn check(types: &[DataType], batches: &[Vec<Key>], release: usize) {
    let mut table = KeyTable::new(types);
    let columns: Vec<usize> = (1..=types.len()).collect();
    let mut model: HashMap<Vec<Option<Vec<u8>>>, u32> = HashMap::new();
    for keys in batches {
        let keys: Vec<Key> = keys.iter().map(|key| key[..types.len()].to_vec()).collect();
        let batch = batch_of(&keys, types);
        let select: Vec<u32> = (0..keys.len() as u32).rev().collect();
        let (mut hashes, mut slots) = (Vec::new(), Vec::new());
        KeyTable::hash(&batch, &select, &columns, types, &mut hashes);
        table.resolve(&batch, &select, &columns, &hashes, &mut slots).unwrap();
        for ((&row, &found), &hash) in select.iter().zip(&slots).zip(&hashes) {
            let key: Key = keys[row as usize]
                .iter()
                .zip(types)
                .map(|(value, of)| match value {
                    Some(text) if !of.is_heaped() => {
                        let sum: u64 = text.iter().map(|&b| u64::from(b)).sum();
                        Some(sum.to_le_bytes().to_vec())
                    }
                    other => other.clone(),
                })
                .collect();
            assert_eq!(*model.entry(key.clone()).or_insert(found), found);
            assert_eq!(table.hash_of(found), hash);
            for (place, value) in key.iter().enumerate() {
                assert_eq!(table.is_null(found, place), value.is_none());
                let word = table.row(found)[place];
                if let Some(text) = value {
                    if types[place].is_heaped() {
                        assert_eq!(slot::bytes(&word, table.heap()), &text[..]);
                    } else {
                        assert_eq!(word.to_le_bytes(), text[..]);
                    }
                }
            }
        }
        let mut slots: Vec<u32> = model.values().copied().collect();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), model.len(), "one slot a key");
        assert_eq!(table.live(), model.len());
        let mut gone: Vec<(Key, u32)> = model.iter().map(|(k, &s)| (k.clone(), s)).collect();
        gone.sort();
        for (key, slot) in gone.into_iter().take(release) {
            table.release(slot);
            model.remove(&key);
        }
    }
}

fn keys() -> impl Strategy<Value = Vec<Vec<Key>>> {
    let value = proptest::option::of(proptest::collection::vec(0..3u8, 0..10));
    let key = proptest::collection::vec(value, 3..4);
    proptest::collection::vec(proptest::collection::vec(key, 0..30), 1..6)
}

proptest! {
    #[test]
    fn every_key_has_its_own_slot_for_good(batches in keys(), release in 0..5usize) {
        check(&[DataType::BigInt], &batches, release);
        check(&[DataType::String], &batches, release);
        check(&[DataType::BigInt, DataType::String, DataType::Bytes], &batches, release);
    }
}

fn numbers(range: std::ops::Range<u64>) -> RecordBatch {
    let mut builder = BatchBuilder::new(1, 0);
    range.for_each(|n| builder.push(&[n]));
    builder.finish()
}

#[test]
fn tables_grow_and_shrink_by_many_keys() {
    let (mut table, types) = (KeyTable::new(&[DataType::BigInt]), [DataType::BigInt]);
    let (mut hashes, mut slots) = (Vec::new(), Vec::new());
    let batch = numbers(0..50_000);
    let select: Vec<u32> = (0..50_000).collect();
    KeyTable::hash(&batch, &select, &[0], &types, &mut hashes);
    table.resolve(&batch, &select, &[0], &hashes, &mut slots).unwrap();
    assert_eq!(slots, select);
    (0..50_000).step_by(2).for_each(|slot| table.release(slot));
    assert_eq!(table.live(), 25_000);
    table.resolve(&batch, &select, &[0], &hashes, &mut slots).unwrap();
    assert_eq!(table.len(), 50_000, "released slots were given again");
    assert!((1..50_000).step_by(2).all(|key| slots[key] == key as u32));
}

#[test]
fn a_full_table_says_so() {
    let mut table = KeyTable::with_limit(&[DataType::BigInt], 3);
    let (mut hashes, mut slots) = (Vec::new(), Vec::new());
    let (batch, select) = (numbers(0..4), [0, 1, 2, 3]);
    KeyTable::hash(&batch, &select, &[0], &[DataType::BigInt], &mut hashes);
    let full = table.resolve(&batch, &select, &[0], &hashes, &mut slots);
    assert_eq!(full, Err(KeysFull { limit: 3 }));
    assert_eq!(slots, [0, 1, 2]);
}
