//! Batches written, checked and read back.

use super::*;
use crate::ground::schema::{Column, DataType};
use proptest::prelude::*;

struct Held(AlignedVec<16>);
impl Backing for Held {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

fn hold(bytes: &[u8]) -> Arc<dyn Backing> {
    let mut held = AlignedVec::new();
    held.extend_from_slice(bytes);
    Arc::new(Held(held))
}

fn schema() -> Schema {
    Schema::new(vec![Column::new("n", DataType::BigInt), Column::new("s", DataType::String)])
}

type Row = (Option<i64>, Option<Vec<u8>>);

fn build(rows: &[Row]) -> RecordBatch {
    let mut builder = BatchBuilder::new(2, 4);
    for (n, s) in rows {
        let text = s.as_ref().map_or(0, |s| slot::put(s, &mut builder.heap));
        let nulls = u64::from(n.is_none()) | u64::from(s.is_none()) << 1;
        builder.push_nulls(&[n.unwrap_or(9) as u64, text], &[nulls]);
    }
    builder.finish()
}

fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let row = |r| (batch.get(r, 0).map(|n| n as i64), batch.get_bytes(r, 1).map(|s| s.to_vec()));
    (0..batch.rows()).map(row).collect()
}

proptest! {
    #[test]
    fn rows_come_back_built_mapped_and_copied(
        rows in proptest::collection::vec(
            (proptest::option::of(any::<i64>()),
             proptest::option::of(proptest::collection::vec(any::<u8>(), 0..12))), 0..40)
    ) {
        let batch = build(&rows);
        prop_assert_eq!(rows_of(&batch), rows.clone());
        let len = batch.as_bytes().len();
        let mapped = RecordBatch::from_bytes(hold(batch.as_bytes()), 0, len).unwrap();
        mapped.check_heap(&schema()).unwrap();
        prop_assert_eq!(rows_of(&mapped), rows.clone());
        let mut copy = BatchBuilder::new(2, 1);
        for row in 0..mapped.rows() {
            copy.push_row_of(&mapped, row, &[1]);
        }
        prop_assert_eq!(rows_of(&copy.finish()), rows.clone());
    }

    #[test]
    fn flipped_bytes_never_read_outside(
        rows in proptest::collection::vec(
            (proptest::option::of(any::<i64>()),
             proptest::option::of(proptest::collection::vec(any::<u8>(), 0..12))), 1..8),
        at in any::<proptest::sample::Index>(), bit in 0..8u8
    ) {
        let mut bytes = build(&rows).as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let len = bytes.len();
        if let Ok(batch) = RecordBatch::from_bytes(hold(&bytes), 0, len)
            && batch.check_heap(&schema()).is_ok()
        {
            rows_of(&batch);
        }
    }
}

#[test]
fn a_row_taken_back_leaves_nothing() {
    let mut builder = BatchBuilder::new(2, 1);
    builder.push(&[1, slot::inline(b"one")]);
    let before = builder.heap.len();
    let long = slot::put(b"a long text", &mut builder.heap);
    builder.push_nulls(&[0, long], &[1]);
    builder.pop(Some(before));
    let batch = builder.finish();
    assert_eq!(rows_of(&batch), vec![(Some(1), Some(b"one".to_vec()))]);
    assert!(batch.heap().is_empty());
}

#[test]
fn of_the_last_rows_some_are_kept_with_their_nulls() {
    let mut builder = BatchBuilder::new(2, 1);
    for row in 0..6 {
        builder.push(&[row, 0]);
    }
    builder.nulls_mut()[4] = 2;
    builder.retain_last(4, |i| i % 2 == 0);
    let batch = builder.finish();
    let row = |r| (batch.get(r, 0), batch.get(r, 1));
    let rows: Vec<_> = (0..batch.rows()).map(row).collect();
    let all = [(0, Some(0)), (1, Some(0)), (2, Some(0)), (4, None)];
    assert_eq!(rows, all.map(|(n, other)| (Some(n), other)));
}

#[test]
fn rows_can_be_filled_by_column() {
    let mut builder = BatchBuilder::new(2, 0);
    let at = builder.extend_rows(3);
    for row in 0..3 {
        builder.slots_mut()[at + 2 * row] = row as u64;
    }
    builder.set_null_at(1, 0);
    let batch = builder.finish();
    assert_eq!((batch.get(0, 0), batch.get(1, 0), batch.get(2, 0)), (Some(0), None, Some(2)));
}

#[test]
fn rows_to_be_set_take_the_memory_of_a_batch_that_was_read() {
    let mut builder = BatchBuilder::new(3, 0);
    assert_eq!((builder.extend_rows_to_set(0), builder.slots_mut().len()), (0, 0));
    for round in 0..6u64 {
        let rows = [5, 9, 2, 30, 31, 7][round as usize];
        let at = builder.extend_rows_to_set(1);
        builder.slots_mut()[at..at + 3].copy_from_slice(&[round, 1, 2]);
        builder.push(&[round, 8, 9]);
        let at = builder.extend_rows_to_set(rows);
        for (i, slot) in builder.slots_mut()[at..].iter_mut().enumerate() {
            *slot = round * 1000 + i as u64;
        }
        let at = builder.extend_rows(1);
        assert_eq!(builder.slots_mut()[at..], [0, 0, 0]);
        let batch = builder.finish();
        assert_eq!(batch.rows(), rows + 3);
        assert_eq!((batch.row(0), batch.row(1)), (&[round, 1, 2][..], &[round, 8, 9][..]));
        for row in 0..rows {
            let first = round * 1000 + 3 * row as u64;
            assert_eq!(batch.row(2 + row), [first, first + 1, first + 2]);
        }
        builder.recycle(batch);
    }
}
