//! Windows against Flink's recorded answers, and against a naive model.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::sliding::{LATE, MAIN, Sliding};
use super::{Frame, Spec};
use crate::expr::aggregate::{AggregateSelect, compile_aggregates};
use crate::expr::scope::Scope;
use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::schema::{Column, DataType, Schema};
use crate::ground::slot::{self, array::Elements};
use crate::ground::time::{END, NEVER, Time, watermark};
use crate::ops::output::Outputs;
use crate::ops::{Keyed, KeyedRows, Ledger, Rows, Stateful};
use crate::state::keys::KeyTable;

#[derive(Clone, Debug, Default)]
struct Row {
    id: i64,
    time: Time,
    key: String,
    value: Option<i64>,
}

fn schema() -> Schema {
    Schema::new(vec![
        Column::new("id", DataType::BigInt).not_null(),
        Column::new("ts", DataType::Timestamp).not_null(),
        Column::new("k", DataType::String),
        Column::new("v", DataType::BigInt),
        Column::new("d", DataType::Decimal { precision: 18, scale: 2 }),
        Column::new("s", DataType::String),
    ])
}

/// A text that is often long, and orders otherwise than the number.
fn text_of(value: i64) -> String {
    format!("{}{}", value % 7, "-long enough".repeat((value % 3).unsigned_abs() as usize))
}

fn batch_of(rows: &[Row]) -> RecordBatch {
    let mut builder = BatchBuilder::new(6, rows.len());
    for row in rows {
        let key = slot::put(row.key.as_bytes(), &mut builder.heap);
        let text = row.value.map(text_of).unwrap_or_default();
        let text = slot::put(text.as_bytes(), &mut builder.heap);
        let value = row.value.unwrap_or(0);
        let slots = [row.id, row.time, key as i64, value, value.wrapping_mul(100), text as i64];
        let nulls = if row.value.is_none() { 0b11_1000 } else { 0 };
        builder.push_nulls(&slots.map(|slot| slot as u64), &[nulls]);
    }
    builder.finish()
}

fn select(columns: &[(&str, &str)], having: Option<&str>) -> AggregateSelect {
    let columns: Vec<_> = columns.iter().map(|(n, e)| (n.to_string(), e.to_string())).collect();
    compile_aggregates(&columns, having, &Scope::of(&schema()), &["k".to_string()], true).unwrap()
}

/// An output row as text, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fired {
    row: String,
    time: Time,
    mark: Time,
    /// The row after which it came, and the watermark then; the end is `None`.
    at: Option<(Option<i64>, Time)>,
}

struct Drive {
    fired: Vec<Fired>,
    late: Vec<i64>,
    ledger: Ledger,
}

fn show(batch: &RecordBatch, row: usize, schema: &Schema) -> String {
    let show = |column: usize| {
        let Some(word) = batch.get(row, column) else { return "NULL".to_string() };
        match &schema.columns[column].data_type {
            DataType::Double => format!("{:.9}", f64::from_bits(word)),
            DataType::String => {
                String::from_utf8(slot::bytes(&word, batch.heap()).to_vec()).unwrap()
            }
            DataType::Array(_) => {
                let elements = Elements::read(slot::bytes(&word, batch.heap())).unwrap();
                let all: Vec<_> = (0..elements.len()).map(|i| elements.get(i)).collect();
                format!("{:?}", all.iter().map(|slot| slot.map(|s| s as i64)).collect::<Vec<_>>())
            }
            _ => (word as i64).to_string(),
        }
    };
    (0..schema.width()).map(show).collect::<Vec<_>>().join("|")
}

/// Runs rows through the operator in batches, the watermark rising after every row.
fn drive(
    spec: Spec,
    program: &AggregateSelect,
    rows: &[Row],
    delay: i64,
    size: usize,
    reload: bool,
) -> Drive {
    let mut operator = Sliding::new(spec, program, &schema()).unwrap();
    let mut out = Outputs::new(&[program.finish.schema().width(), 6], 5);
    let types = [DataType::String];
    let mut keys = KeyTable::new(&types);
    let mut drive = Drive { fired: Vec::new(), late: Vec::new(), ledger: Ledger::default() };
    let (mut max, mut mark) = (NEVER, NEVER);
    let shown = program.finish.schema();
    let collect = |out: &mut Outputs, at: Option<(Option<i64>, Time)>, drive: &mut Drive| {
        for emitted in out.ports[MAIN].take() {
            assert!(emitted.marks.is_sorted(), "marks never fall");
            for row in 0..emitted.records.rows() {
                let (time, mark) = (emitted.times[row], emitted.marks[row]);
                let row = show(&emitted.records, row, &shown);
                drive.fired.push(Fired { row, time, mark, at });
            }
        }
        for emitted in out.ports[LATE].take() {
            let rows = 0..emitted.records.rows();
            drive.late.extend(rows.map(|row| emitted.records.row(row)[0] as i64));
        }
    };
    for rows in rows.chunks(size.max(1)) {
        let batch = batch_of(rows);
        let select: Vec<u32> = (0..rows.len() as u32).collect();
        let times: Vec<Time> = rows.iter().map(|row| row.time).collect();
        let mut marks = Vec::new();
        for row in rows {
            marks.push(mark);
            max = max.max(row.time);
            mark = mark.max(watermark(max, delay));
        }
        let (mut hashes, mut slots) = (Vec::new(), Vec::new());
        KeyTable::hash(&batch, &select, &[2], &types, &mut hashes);
        keys.resolve(&batch, &select, &[2], &hashes, &mut slots).unwrap();
        let records = Rows { records: &batch, select: &select, times: &times, marks: &marks };
        let keyed = KeyedRows::new(records, &slots, &keys);
        operator.rows(0, &keyed, &mut out).unwrap();
        let last = rows.last().map(|row| row.id);
        collect(&mut out, Some((last, marks[marks.len() - 1])), &mut drive);
        operator.watermark(mark, &keys, &mut out).unwrap();
        collect(&mut out, Some((last, mark)), &mut drive);
        if reload {
            operator = reloaded(&mut operator, spec, program, &keys);
        }
    }
    operator.watermark(END, &keys, &mut out).unwrap();
    collect(&mut out, None, &mut drive);
    drive.ledger = operator.ledger();
    drive
}

/// A new operator that has the old one's keys, moved one by one; half of them stay a while in the
/// old one's place.
fn reloaded(old: &mut Sliding, spec: Spec, select: &AggregateSelect, keys: &KeyTable) -> Sliding {
    let mut saved: Vec<(String, u32, Vec<u8>)> = Vec::new();
    for slot in 0..keys.len() as u32 {
        old.state(&mut |name, handle| {
            let mut bytes = Vec::new();
            handle.save(slot, &mut bytes);
            if slot % 2 == 0 {
                handle.clear(slot);
                handle.load(slot, &bytes).unwrap();
                let mut again = Vec::new();
                handle.save(slot, &mut again);
                assert_eq!(again, bytes, "{name}");
            }
            saved.push((name.to_string(), slot, bytes));
        });
    }
    let mut new = Sliding::new(spec, select, &schema()).unwrap();
    for (of, slot, bytes) in saved {
        new.state(&mut |name, handle| {
            if name == of {
                handle.load(slot, &bytes).unwrap();
            }
        });
    }
    new.resume_ledger(old.ledger());
    new
}

const VECTOR_SELECT: [(&str, &str); 10] = [
    ("k", "k"),
    ("start", "window_start"),
    ("end", "window_end"),
    ("count", "COUNT(*)"),
    ("sum", "SUM(v)"),
    ("min", "MIN(v)"),
    ("max", "MAX(v)"),
    ("avg", "AVG(CAST(v AS DOUBLE))"),
    ("distinct", "COUNT(DISTINCT v)"),
    ("ids", "ARRAY_AGG(id)"),
];

/// One case of the golden vectors: the same rows out as Flink's, in batches of any size.
fn check_vector(case: &Json) {
    let (id, given) = (case["id"].as_str().unwrap(), &case["spec"]);
    let ms = |name: &str| given[name].as_i64().unwrap_or(0);
    let slide = if given["type"] == "sliding" { ms("slide_ms") } else { ms("size_ms") };
    let spec = Spec {
        size: ms("size_ms"),
        slide,
        offset: ms("offset_ms"),
        lateness: ms("allowed_lateness_ms"),
    };
    let events = case["events"].as_array().unwrap().iter();
    let rows: Vec<Row> = events
        .map(|event| Row {
            id: event["id"].as_i64().unwrap(),
            time: event["ts"].as_i64().unwrap(),
            key: event["k"].as_str().unwrap().to_string(),
            value: event["v"].as_i64(),
        })
        .collect();
    type Fired = (String, Time, Option<(Option<i64>, Time)>);
    let mut expected: Vec<Fired> = Vec::new();
    for output in case["outputs"].as_array().unwrap() {
        let number = |name: &str| output[name].as_i64().unwrap().to_string();
        let ids = output["ids"].as_array().unwrap().iter();
        let ids: Vec<_> = ids.map(|id| Some(id.as_i64().unwrap())).collect();
        let row = [
            output["k"].as_str().unwrap().to_string(),
            number("start"),
            number("end"),
            number("count"),
            number("sum"),
            number("min"),
            number("max"),
            format!("{:.9}", output["avg"].as_f64().unwrap()),
            number("distinct"),
            format!("{ids:?}"),
        ];
        let at = output["at"].as_i64().map(|at| {
            let mark = &output["wm"];
            (Some(at), if mark == "min" { NEVER } else { mark.as_i64().unwrap() })
        });
        expected.push((row.join("|"), output["end"].as_i64().unwrap() - 1, at));
    }
    let late: Vec<i64> =
        case["late"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
    let select = select(&VECTOR_SELECT, None);
    for (size, reload) in [(1, false), (7, false), (rows.len(), false), (1, true), (3, true)] {
        let drive = drive(spec, &select, &rows, ms("delay_ms"), size, reload);
        assert_eq!(drive.late, late, "{id}: late rows, batches of {size}");
        let triggers = size == 1;
        let mut found: Vec<_> = drive
            .fired
            .into_iter()
            .map(|fired| (fired.row, fired.time, if triggers { fired.at } else { None }))
            .collect();
        let mut expected: Vec<_> = expected
            .iter()
            .map(|(row, time, at)| (row.clone(), *time, if triggers { *at } else { None }))
            .collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{id}: batches of {size}");
        let ledger = drive.ledger;
        assert_eq!(ledger.rows_in, rows.len() as u64);
        assert_eq!(ledger.late, late.len() as u64);
    }
}

#[test]
fn golden_vectors_of_tumbling_and_sliding_windows() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/vectors/windows/public.jsonl");
    let Ok(text) = std::fs::read_to_string(root) else {
        eprintln!("skipped: golden_vectors_of_tumbling_and_sliding_windows ({root} is not there)");
        return;
    };
    let mut checked = 0;
    for line in text.lines() {
        let case: Json = serde_json::from_str(line).unwrap();
        if case["spec"]["type"] == "tumbling" || case["spec"]["type"] == "sliding" {
            check_vector(&case);
            checked += 1;
        }
    }
    assert!(checked >= 240, "{checked} cases");
}

const MODEL_SELECT: [(&str, &str); 17] = [
    ("k", "k"),
    ("start", "window_start"),
    ("n", "COUNT(*)"),
    ("n_v", "COUNT(v)"),
    ("sum", "SUM(v)"),
    ("sum_d", "SUM(d)"),
    ("mean", "AVG(v)"),
    ("min", "MIN(v)"),
    ("max", "MAX(v)"),
    ("first", "FIRST(v)"),
    ("last", "LAST(s)"),
    ("min_s", "MIN(s)"),
    ("max_s", "MAX(s)"),
    ("odd", "COUNT(*) FILTER (WHERE v > 3)"),
    ("distinct", "COUNT(DISTINCT s)"),
    ("ids", "ARRAY_AGG(id)"),
    ("top", "TOP_K(v, 3)"),
];

fn shown<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or("NULL".to_string(), |value| value.to_string())
}

fn model_row(key: &str, start: Time, rows: &[&Row]) -> String {
    let values: Vec<i64> = rows.iter().filter_map(|row| row.value).collect();
    let texts: Vec<String> = values.iter().map(|&value| text_of(value)).collect();
    let sum: i128 = values.iter().map(|&value| i128::from(value)).sum();
    let some = !values.is_empty();
    let fits = |sum: i128| some.then_some(sum).filter(|&sum| i64::try_from(sum).is_ok());
    let cents: i128 = values.iter().map(|&value| i128::from(value.wrapping_mul(100))).sum();
    let mut distinct = texts.clone();
    distinct.sort();
    distinct.dedup();
    let mut top = values.clone();
    top.sort_by(|a, b| b.cmp(a));
    top.truncate(3);
    let top: Vec<_> = top.into_iter().map(Some).collect();
    let ids: Vec<_> = rows.iter().map(|row| Some(row.id)).collect();
    [
        key.to_string(),
        start.to_string(),
        rows.len().to_string(),
        values.len().to_string(),
        shown(fits(sum)),
        shown(fits(cents).filter(|cents| cents.abs() < 1_000_000_000_000_000_000)),
        shown(some.then(|| sum / values.len() as i128)),
        shown(values.iter().min()),
        shown(values.iter().max()),
        shown(values.first()),
        shown(texts.last()),
        shown(texts.iter().min()),
        shown(texts.iter().max()),
        values.iter().filter(|&&value| value > 3).count().to_string(),
        distinct.len().to_string(),
        format!("{ids:?}"),
        if some { format!("{top:?}") } else { "NULL".to_string() },
    ]
    .join("|")
}

/// Windows as Flink keeps them: a list of rows for each key and window.
fn model(spec: Spec, rows: &[Row], delay: i64) -> (Vec<(String, Time)>, Vec<i64>) {
    let Spec { size, slide, offset, lateness } = spec;
    let mut windows: BTreeMap<(Time, String), (Vec<&Row>, bool)> = BTreeMap::new();
    let (mut fired, mut late) = (Vec::new(), Vec::new());
    let (mut max, mut mark) = (NEVER, NEVER);
    for row in rows.iter().map(Some).chain([None]) {
        if let Some(row) = row {
            let last = row.time - (row.time - offset).rem_euclid(slide);
            let starts =
                (0..).map(|i| last - i * slide).take_while(|start| start + size > row.time);
            let starts: Vec<Time> = starts.collect();
            let takes = |start: &Time| start + size - 1 + lateness > mark;
            if !starts.iter().any(takes) && (!starts.is_empty() || row.time + lateness <= mark) {
                late.push(row.id);
            }
            for start in starts.into_iter().filter(takes) {
                let entry = windows.entry((start + size, row.key.clone())).or_default();
                entry.0.push(row);
                if start + size - 1 <= mark {
                    fired.push((model_row(&row.key, start, &entry.0), start + size - 1));
                    entry.1 = true;
                }
            }
            max = max.max(row.time);
            mark = mark.max(watermark(max, delay));
        } else {
            mark = END;
        }
        for ((end, key), (rows, done)) in &mut windows {
            if end - 1 <= mark && !*done {
                fired.push((model_row(key, end - size, rows), end - 1));
                *done = true;
            }
        }
    }
    (fired, late)
}

fn specs() -> impl Strategy<Value = Spec> {
    let lengths = prop_oneof![
        (1..40i64).prop_map(|size| (size, size)),
        (1..40i64, 1..40i64),
        (1..8i64, 1..8i64).prop_map(|(panes, slide)| (panes * slide, slide)),
    ];
    (lengths, -20..20i64, prop_oneof![Just(0), 1..60i64])
        .prop_map(|((size, slide), offset, lateness)| Spec { size, slide, offset, lateness })
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let value = prop_oneof![
        1 => Just(None),
        8 => (-9..9i64).prop_map(Some),
        1 => prop_oneof![Just(i64::MAX), Just(i64::MIN), Just(i64::MAX / 100)].prop_map(Some),
    ];
    let key = prop_oneof![Just("a".to_string()), Just("key b, long".to_string()), "[a-z]{1,2}"];
    let step = prop_oneof![8 => -10..10i64, 3 => -60..60i64, 1 => 500..5000i64];
    proptest::collection::vec((step, key, value), 1..80).prop_map(|steps| {
        let mut now = -100;
        let row = |(id, (step, key, value)): (usize, (i64, String, Option<i64>))| {
            now += step + 2;
            Row { id: id as i64, time: now, key, value }
        };
        steps.into_iter().enumerate().map(row).collect()
    })
}

fn check_model(spec: Spec, rows: &[Row], delay: i64, size: usize, reload: bool) {
    let select = select(&MODEL_SELECT, None);
    let drive = drive(spec, &select, rows, delay, size, reload);
    let (mut expected, late) = model(spec, rows, delay);
    assert_eq!(drive.late, late, "late rows");
    for fired in &drive.fired {
        assert!(fired.mark == fired.time - 1 || fired.mark >= fired.time, "rule 3 of ops");
    }
    let mut found: Vec<_> = drive.fired.into_iter().map(|fired| (fired.row, fired.time)).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

proptest! {
    #[test]
    fn windows_are_those_of_a_naive_model(
        spec in specs(), rows in rows(), delay in 0..30i64, size in 1..40usize,
            reload in any::<bool>(),
    ) {
        check_model(spec, &rows, delay, size, reload);
    }
}

#[test]
fn windows_far_apart_cost_nothing_between() {
    let spec = Spec { size: 1000, slide: 1, offset: 0, lateness: 10_000 };
    let times = [i64::MIN, -62_135_596_800_000, 0, 253_402_300_799_000, 253_402_300_799_999];
    let row = |(id, &time): (usize, &i64)| Row {
        id: id as i64,
        time,
        key: "a".to_string(),
        value: Some(1),
    };
    let rows: Vec<Row> = times.iter().enumerate().map(row).collect();
    let select = select(&[("n", "COUNT(*)"), ("d", "COUNT(DISTINCT v)")], None);
    let drive = drive(spec, &select, &rows, 0, 2, false);
    // The last two share one window; every row is in a thousand.
    assert_eq!(drive.fired.len(), 4999);
    assert_eq!(drive.fired.iter().filter(|fired| fired.row == "2|1").count(), 1);
}

#[test]
fn having_leaves_rows_out() {
    let spec = Spec { size: 10, slide: 10, offset: 0, lateness: 0 };
    let row = |id: i64| Row { id, time: id, key: (id % 3).to_string(), value: Some(id) };
    let rows: Vec<Row> = (0..10).map(row).collect();
    let select = select(&[("k", "k"), ("total", "SUM(v)")], Some("total > 12"));
    let drive = drive(spec, &select, &rows, 0, 4, false);
    let mut found: Vec<_> = drive.fired.into_iter().map(|fired| fired.row).collect();
    found.sort();
    assert_eq!(found, ["0|18", "2|15"]);
}

#[test]
fn wrong_specs_are_refused() {
    for (size, slide, lateness) in [(0, 1, 0), (1, 0, 0), (1, 1, -1), (i64::MAX, 1, 0)] {
        assert!(Frame::new(Spec { size, slide, offset: 0, lateness }).is_err());
    }
}
