//! The stage against one that sorts before every late row.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::*;
use crate::expr::{Program, Scope};
use crate::ground::batch::RecordBatch;
use crate::ground::schema::{Column, DataType};
use crate::ground::slot;
use crate::ground::time::{END, NEVER};
use crate::ops::Stateful;
use proptest::prelude::*;

/// An input row: time, key slot, a number or NULL, a text or NULL, and how far the watermark
/// rises after it.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    time: Time,
    slot: u32,
    number: Option<i64>,
    text: Option<String>,
}

/// What an operator saw.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Ordered(Row),
    Late(Row, Time),
}

#[derive(Clone, Default)]
struct Recorder {
    seen: Rc<RefCell<Vec<Seen>>>,
    told: Rc<RefCell<Time>>,
    /// Rows come from damaged state: flags need not fit them.
    is_damaged: Rc<Cell<bool>>,
}

fn read(rows: &KeyedRows<'_>, i: usize) -> Row {
    let (records, row) = (rows.rows.records, rows.rows.select[i] as usize);
    assert_eq!(records.width(), 3);
    let text = records.get_bytes(row, 1);
    let number = records.get(row, 0).map(|n| n as i64);
    Row {
        time: rows.rows.times[i],
        slot: rows.slots[i],
        number,
        text: text.map(|text| String::from_utf8_lossy(text).into_owned()),
    }
}

impl Stateful for Recorder {
    fn state(&mut self, _: &mut dyn FnMut(&str, &mut dyn Handle)) {}
}

impl Ordered for Recorder {
    fn ordered(&mut self, rows: &KeyedRows<'_>, _: &mut Outputs) -> Result<(), OpError> {
        for i in 0..rows.slots.len() {
            assert_eq!(rows.rows.marks[i], rows.rows.times[i] - 1);
            assert!(rows.rows.times[i] > *self.told.borrow());
            let flag = rows.rows.records.get(rows.rows.select[i] as usize, 2);
            let row = read(rows, i);
            let expected = u64::from(row.number.is_some_and(|n| n > 3));
            assert!(flag == Some(expected) || self.is_damaged.get());
            self.seen.borrow_mut().push(Seen::Ordered(row));
        }
        Ok(())
    }

    fn late(&mut self, rows: &KeyedRows<'_>, _: &mut Outputs) -> Result<(), OpError> {
        for i in 0..rows.slots.len() {
            let mark = rows.rows.marks[i];
            let arrived = rows.arrived.expect("late rows come with their batch");
            let place = arrived.places[i] as usize;
            let number = arrived.records.get(place, 0).map(|n| n as i64);
            assert_eq!(number, read(rows, i).number);
            self.seen.borrow_mut().push(Seen::Late(read(rows, i), mark));
        }
        Ok(())
    }

    fn watermark(&mut self, watermark: Time, _: &KeyTable, _: &mut Outputs) -> Result<(), OpError> {
        *self.told.borrow_mut() = watermark;
        Ok(())
    }

    fn ledger(&self) -> Ledger {
        Ledger::default()
    }
}

fn schema() -> Schema {
    Schema::new(vec![
        Column::new("number", DataType::BigInt),
        Column::new("unused", DataType::String).not_null(),
        Column::new("text", DataType::String),
    ])
}

fn batch(rows: &[Row]) -> RecordBatch {
    let mut builder = BatchBuilder::new(3, 0);
    for row in rows {
        let unused = slot::put(b"a text that nobody reads", &mut builder.heap);
        let text = row.text.as_ref();
        let text = text.map_or(0, |text| slot::put(text.as_bytes(), &mut builder.heap));
        let nulls = u64::from(row.number.is_none()) | u64::from(row.text.is_none()) << 2;
        builder.push_nulls(&[row.number.unwrap_or(0) as u64, unused, text], &[nulls]);
    }
    builder.finish()
}

struct Stage {
    order: Order,
    recorder: Recorder,
    outs: Vec<Outputs>,
    keys: KeyTable,
}

/// Both columns that are read, and whether the number is over 3.
fn ahead() -> Ahead {
    let mut ahead = Ahead::new(&schema());
    ahead.keep([2, 0]);
    ahead.flag(Program::predicate("number > 3", &Scope::of(&schema())).unwrap());
    ahead
}

fn stage(delay_ms: i64) -> Stage {
    let recorder = Recorder::default();
    recorder.told.replace(NEVER);
    let operators: Vec<Box<dyn Ordered>> = vec![Box::new(recorder.clone())];
    Stage {
        order: Order::new(&schema(), &ahead(), delay_ms, operators),
        recorder,
        outs: vec![Outputs::new(&[1], 1024)],
        keys: KeyTable::new(&[DataType::BigInt]),
    }
}

impl Stage {
    fn give(&mut self, rows: &[Row], marks: &[Time]) -> Result<(), OpError> {
        let records = batch(rows);
        let select: Vec<u32> = (0..rows.len() as u32).collect();
        let times: Vec<Time> = rows.iter().map(|row| row.time).collect();
        let slots: Vec<u32> = rows.iter().map(|row| row.slot).collect();
        let rows = Rows { records: &records, select: &select, times: &times, marks };
        let rows = KeyedRows::new(rows, &slots, &self.keys);
        self.order.rows(0, &rows, &mut self.outs)
    }

    /// Saves every key's waiting rows and loads them into a stage that goes on from here.
    fn moved(mut self, keys: u32, delay_ms: i64) -> Stage {
        let mut next = stage(delay_ms);
        next.recorder.seen = self.recorder.seen.clone();
        next.order.operators = vec![Box::new(next.recorder.clone())];
        let mut saved = vec![Vec::new(); keys as usize];
        self.order.state(&mut |_, handle| {
            for slot in 0..keys {
                handle.save(slot, &mut saved[slot as usize]);
                handle.clear(slot);
            }
            let mut left = Vec::new();
            (0..keys).for_each(|slot| handle.save(slot, &mut left));
            assert!(left.is_empty(), "what was cleared is not saved");
        });
        assert_eq!(self.order.waiting(), 0);
        next.order.state(&mut |_, handle| {
            for (slot, bytes) in saved.iter().enumerate() {
                handle.load(slot as u32, bytes).unwrap();
                let mut again = Vec::new();
                handle.save(slot as u32, &mut again);
                assert_eq!(&again, bytes);
            }
        });
        next
    }
}

/// The stage as one would write it first: it sorts all that waits before every late row.
fn naive(rows: &[Row], marks: &[Time]) -> Vec<Seen> {
    let (mut waiting, mut seen): (Vec<Row>, _) = (Vec::new(), Vec::new());
    let mut drain = |waiting: &mut Vec<Row>, to: Time, late: Option<Seen>| {
        waiting.sort_by_key(|row| row.time);
        let due = waiting.partition_point(|row| row.time <= to);
        seen.extend(waiting.drain(..due).map(Seen::Ordered));
        seen.extend(late);
    };
    for (row, &mark) in rows.iter().zip(marks) {
        if row.time <= mark {
            drain(&mut waiting, mark, Some(Seen::Late(row.clone(), mark)));
        } else {
            waiting.push(row.clone());
        }
    }
    drain(&mut waiting, END, None);
    seen
}

/// Gives rows in batches of these sizes, the watermark `delay_ms` behind the largest time, and
/// compares what an operator sees with what it should see.
fn check(rows: &[Row], delay_ms: i64, hint_ms: i64, sizes: &[usize], move_at: Option<usize>) {
    let mut top = NEVER;
    let mark = |row: &Row| {
        let mark = crate::ground::time::watermark(top, delay_ms);
        top = top.max(row.time);
        mark
    };
    let marks: Vec<Time> = rows.iter().map(mark).collect();
    let mut stage = stage(hint_ms);
    let (mut at, mut turn) = (0, 0);
    while at < rows.len() {
        let end = (at + sizes[turn % sizes.len()]).min(rows.len());
        stage.give(&rows[at..end], &marks[at..end]).unwrap();
        if turn % 3 != 1 {
            let next = marks.get(end).copied().unwrap_or(marks[end - 1]);
            stage.order.watermark(next, &stage.keys, &mut stage.outs).unwrap();
        }
        if move_at == Some(turn) {
            stage = stage.moved(4, hint_ms);
        }
        (at, turn) = (end, turn + 1);
    }
    stage.order.watermark(END, &stage.keys, &mut stage.outs).unwrap();
    assert_eq!(stage.order.waiting(), 0);
    let (seen, mut expected) = (stage.recorder.seen.borrow(), naive(rows, &marks));
    if move_at.is_none() {
        assert_eq!(*seen, expected);
        return;
    }
    // Rows of different keys and one time may have changed places when they were moved.
    let of_key = |seen: &[Seen], key: u32| -> Vec<Seen> {
        let is = |seen: &&Seen| match seen {
            Seen::Ordered(row) | Seen::Late(row, _) => row.slot == key,
        };
        seen.iter().filter(is).cloned().collect()
    };
    for key in 0..4 {
        assert_eq!(of_key(&seen, key), of_key(&expected, key));
    }
    expected.truncate(seen.len());
    assert_eq!(seen.len(), expected.len());
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let step = prop_oneof![8 => -5_000..6_000i64, 1 => -100_000..100_000i64, 1 => Just(0i64)];
    let text = prop_oneof!["short", "[ab]{8}", "[a-z]{8,90}"];
    let row = (step, 0..4u32, proptest::option::of(any::<i64>()), proptest::option::of(text));
    proptest::collection::vec(row, 1..300).prop_map(|rows| {
        let mut time = 1_000_000;
        let made = |(step, slot, number, text)| {
            time += step;
            Row { time, slot, number, text }
        };
        rows.into_iter().map(made).collect()
    })
}

proptest! {
    #[test]
    fn operators_see_what_a_watermark_for_each_row_would_show(
        rows in rows(),
        delay_ms in prop_oneof![Just(0i64), Just(5_000), Just(60_000)],
        hint_ms in prop_oneof![Just(0i64), Just(5_000)],
        sizes in proptest::collection::vec(1..100usize, 1..4),
        move_at in proptest::option::of(0..5usize),
    ) {
        check(&rows, delay_ms, hint_ms, &sizes, move_at);
    }
}

fn plain(time: Time) -> Row {
    Row {
        time,
        slot: 0,
        number: Some(time),
        text: Some("a text of more than seven bytes".repeat(1 + time as usize % 5)),
    }
}

#[test]
fn more_rows_than_are_handed_over_at_once_all_come() {
    let rows: Vec<Row> = (0..5_000).map(|i| plain((i * 7_919) % 10_000)).collect();
    check(&rows, 20_000, 0, &[4_000], None);
    check(&rows, 100, 0, &[4_000], None);
}

#[test]
fn a_full_stage_stops_the_run_and_names_the_cause() {
    let mut stage = stage(0);
    stage.order.waiting_rows_max = 2;
    stage.give(&[plain(1), plain(2)], &[NEVER, NEVER]).unwrap();
    let error = stage.give(&[plain(3)], &[NEVER]).unwrap_err();
    assert!(error.to_string().starts_with("2 rows wait"), "{error}");
}

#[test]
fn damaged_state_is_refused_and_never_read_outside() {
    let mut first = stage(0);
    first.give(&[plain(1), plain(2)], &[NEVER, NEVER]).unwrap();
    let mut saved = Vec::new();
    first.order.state(&mut |_, handle| handle.save(0, &mut saved));
    for len in 1..saved.len() {
        let mut next = stage(0);
        next.order.state(&mut |_, handle| {
            // Cut between two rows it is whole, only shorter: the store's checksum sees that.
            let _ = handle.load(0, &saved[..len]);
        });
        next.order.watermark(END, &next.keys, &mut next.outs).unwrap();
    }
    for bit in 0..saved.len() * 8 {
        let mut bad = saved.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let mut next = stage(0);
        next.recorder.is_damaged.set(true);
        next.order.state(&mut |_, handle| drop(handle.load(0, &bad)));
        next.order.watermark(END - 1, &next.keys, &mut next.outs).unwrap_or(());
    }
}
