//! The stateless operators, each through one `check`: rows in, what every port shows.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::filter::Filter;
use super::flat_map::FlatMap;
use super::lookup::{Lookup, On, Unmatched};
use super::map::Map;
use super::output::Outputs;
use super::route::Route;
use super::selection::Selection;
use super::*;
use crate::expr::{Program, Projection, Scope};
use crate::ground::batch::{Backing, BatchBuilder};
use crate::ground::schema::{Column, DataType, Schema};
use crate::ground::slot::{self, array::Elements};

/// A row of [`schema`].
type Row<'a> = (Option<i64>, Option<&'a str>);

fn schema() -> Schema {
    Schema::new(vec![Column::new("n", DataType::BigInt), Column::new("s", DataType::String)])
}

fn batch(rows: &[Row<'_>]) -> RecordBatch {
    let mut builder = BatchBuilder::new(2, 0);
    for (n, s) in rows {
        let text = s.map_or(0, |s| slot::put(s.as_bytes(), &mut builder.heap));
        let nulls = u64::from(n.is_none()) | u64::from(s.is_none()) << 1;
        builder.push_nulls(&[n.unwrap_or(0) as u64, text], &[nulls]);
    }
    builder.finish()
}

fn program(text: &str) -> Program {
    Program::compile(text, &Scope::of(&schema())).unwrap()
}

fn projection(columns: &[(&str, &str)]) -> Projection {
    Projection::new(columns.iter().map(|(name, text)| (name.to_string(), program(text))).collect())
}

/// A row as words with bars between, and `@` its time, whose mark is one less.
fn show(schema: &Schema, records: &RecordBatch, row: usize, time: Time, mark: Time) -> String {
    assert_eq!(mark, time - 1, "times and marks go with their rows");
    let value = |(i, column): (usize, &Column)| {
        let value = records.get(row, i);
        value.map_or("NULL".into(), |value| show_value(&column.data_type, value, records.heap()))
    };
    let values: Vec<String> = schema.columns.iter().enumerate().map(value).collect();
    format!("{} @{time}", values.join("|"))
}

fn show_value(data_type: &DataType, value: u64, heap: &[u8]) -> String {
    match data_type {
        DataType::String => String::from_utf8(slot::bytes(&value, heap).to_vec()).unwrap(),
        DataType::Array(of) => {
            let elements = Elements::read(slot::bytes(&value, heap)).unwrap();
            let show = |i| elements.get(i).map(|value| show_value(of, value, elements.heap));
            format!("{:?}", (0..elements.len()).map(show).collect::<Vec<_>>())
        }
        _ => (value as i64).to_string(),
    }
}

/// Gives rows to an operator, every second one of a batch that has others between, and compares
/// what stands at its ports; the same where it may choose instead of copying.
fn check(
    mut operator: impl Stateless,
    rows: &[Row<'_>],
    schemas: &[Schema],
    expected: &[&[&str]],
    filtered: u64,
) {
    let between = (Some(-1), Some("a row that is not meant"));
    let all: Vec<Row<'_>> = rows.iter().flat_map(|row| [between, *row]).collect();
    let records = batch(&all);
    let select: Vec<u32> = (0..rows.len() as u32).map(|i| 2 * i + 1).collect();
    let times: Vec<Time> = (1..=rows.len() as Time).collect();
    let marks: Vec<Time> = times.iter().map(|time| time - 1).collect();
    let rows = Rows { records: &records, select: &select, times: &times, marks: &marks };
    let widths: Vec<usize> = schemas.iter().map(Schema::width).collect();
    let mut out = Outputs::new(&widths, 2);
    operator.rows(0, &rows, &mut out).unwrap();
    for ((port, schema), expected) in out.ports.iter_mut().zip(schemas).zip(expected) {
        let mut got = Vec::new();
        for batch in port.take() {
            for row in 0..batch.records.rows() {
                let (time, mark) = (batch.times[row], batch.marks[row]);
                got.push(show(schema, &batch.records, row, time, mark));
            }
        }
        assert_eq!(got, *expected);
    }
    let ledger = operator.ledger();
    assert_eq!((ledger.rows_in, ledger.filtered), (select.len() as u64, filtered));
    if let Some(sieve) = operator.as_sieve() {
        let mut chosen: Vec<Selection> = schemas.iter().map(|_| Selection::default()).collect();
        sieve.sift(&rows, &mut chosen);
        for (chosen, expected) in chosen.iter().zip(expected) {
            let chosen = chosen.rows(&records);
            let show = |i: usize| {
                let row = chosen.select[i] as usize;
                show(&schemas[0], &records, row, chosen.times[i], chosen.marks[i])
            };
            let got: Vec<String> = (0..chosen.select.len()).map(show).collect();
            assert_eq!(got, *expected);
        }
        assert_eq!(operator.ledger().filtered, 2 * filtered);
    }
}

const ROWS: &[Row<'static>] = &[
    (Some(5), Some("short")),
    (None, Some("a text of more than seven bytes")),
    (Some(15), None),
    (Some(150), Some("")),
];

#[test]
fn a_filter_lets_true_through_and_neither_false_nor_null() {
    let expected = ["15|NULL @3", "150| @4"];
    check(Filter::new(&schema(), program("n > 10")), ROWS, &[schema()], &[&expected], 2);
    let long = ["NULL|a text of more than seven bytes @2"];
    check(Filter::new(&schema(), program("LENGTH(s) > 7")), ROWS, &[schema()], &[&long], 3);
}

#[test]
fn a_map_makes_a_row_of_each_row() {
    let select = projection(&[("t", "UPPER(s)"), ("m", "n + 1")]);
    let made = select.schema();
    let expected =
        ["SHORT|6 @1", "A TEXT OF MORE THAN SEVEN BYTES|NULL @2", "NULL|16 @3", "|151 @4"];
    check(Map::new(select), ROWS, &[made], &[&expected], 0);
}

#[test]
fn a_route_gives_a_row_to_all_that_take_it_and_the_rest_to_itself() {
    let route = Route::new(&schema(), vec![program("n > 10"), program("n > 100 OR s = 'short'")]);
    let long = "NULL|a text of more than seven bytes @2";
    let (rest, high) = ([long], ["15|NULL @3", "150| @4"]);
    let second = ["5|short @1", "150| @4"];
    check(route, ROWS, &[schema(), schema(), schema()], &[&rest, &high, &second], 0);
}

#[test]
fn a_flat_map_makes_a_row_of_each_element() {
    let each = program("SPLIT(s, ' ')");
    let made = FlatMap::schema(&schema(), &[1, 0], &each, "word");
    let rows = [(Some(1), Some("a longerword b")), (None, None), (Some(2), Some("x"))];
    let all = "a longerword b";
    let lines = ["a", "longerword", "b"].map(|word| format!("{all}|1|{word} @1"));
    let expected = [&lines[0][..], &lines[1], &lines[2], "x|2|x @3"];
    check(FlatMap::new(&schema(), vec![1, 0], each), &rows, &[made], &[&expected], 1);
}

#[test]
fn more_elements_than_a_batch_holds_all_come() {
    let line = vec!["averylongword"; 5_000].join(" ");
    let each = program("SPLIT(s, ' ')");
    let made = FlatMap::schema(&schema(), &[0], &each, "word");
    let expected = vec!["7|averylongword @1"; 5_000];
    let operator = FlatMap::new(&schema(), vec![0], each);
    check(operator, &[(Some(7), Some(&line))], &[made], &[&expected], 0);
}

fn lookup(unmatched: Unmatched, on: usize) -> (Lookup, Vec<Schema>) {
    let add = projection(&[("twice", "2 * n"), ("loud", "s || '!'")]);
    let keep = vec![1, 0];
    let joined = Lookup::schema(&schema(), &keep, &add, unmatched);
    let kept = super::kept::Kept::schema(&schema(), &keep);
    let on = On { input: vec![on], table: vec![on] };
    (Lookup::new(&schema(), keep, on, add, unmatched), vec![joined, kept])
}

fn fill(lookup: &mut Lookup, rows: &[Row<'_>]) {
    let select: Vec<u32> = (0..rows.len() as u32).collect();
    lookup.table_rows(&batch(rows), &select).unwrap();
}

#[test]
fn a_lookup_adds_what_the_table_holds_last() {
    let table = [
        (Some(5), Some("to be replaced by another text")),
        (None, Some("never")),
        (Some(15), None),
        (Some(5), Some("five as a long text")),
    ];
    let long = "a text of more than seven bytes";
    let missing = [format!("{long}|NULL"), "|150".to_string()];
    let joined = ["short|5|10|five as a long text! @1", "NULL|15|30|NULL @3"];
    let (mut keep, schemas) = lookup(Unmatched::Keep, 0);
    fill(&mut keep, &table);
    assert_eq!((keep.table_counts(), keep.table_len()), ((4, 1), 2));
    let missed = missing.clone().map(|row| format!("{row}|NULL|NULL"));
    let all = [joined[0], &format!("{} @2", missed[0]), joined[1], &format!("{} @4", missed[1])];
    check(keep, ROWS, &schemas[..1], &[&all], 0);

    let (mut dropping, schemas) = lookup(Unmatched::Drop, 0);
    fill(&mut dropping, &table);
    check(dropping, ROWS, &schemas[..1], &[&joined], 2);

    let (mut route, schemas) = lookup(Unmatched::Route, 0);
    fill(&mut route, &table);
    let unmatched = [&format!("{} @2", missing[0])[..], &format!("{} @4", missing[1])];
    check(route, ROWS, &schemas, &[&joined, &unmatched], 0);
}

#[test]
fn a_table_that_is_replaced_again_and_again_does_not_grow() {
    let (mut lookup, _) = lookup(Unmatched::Keep, 0);
    let text = "x".repeat(10_000);
    for _ in 0..300 {
        fill(&mut lookup, &[(Some(1), Some(&text)), (Some(2), Some(&text))]);
    }
    assert!(lookup.memory_bytes() < 4 << 20, "{} bytes", lookup.memory_bytes());
}

proptest! {
    #[test]
    fn a_lookup_agrees_with_a_map(
        table in proptest::collection::vec(("[a-c]{1,9}", 0..5i64), 0..60),
        rows in proptest::collection::vec("[a-c]{1,9}", 1..60),
        size in 1..20usize,
    ) {
        let (mut lookup, schemas) = lookup(Unmatched::Drop, 1);
        let table: Vec<Row<'_>> = table.iter().map(|(s, n)| (Some(*n), Some(&s[..]))).collect();
        table.chunks(size).for_each(|rows| fill(&mut lookup, rows));
        let model: BTreeMap<&str, i64> =
            table.iter().map(|(n, s)| (s.unwrap(), n.unwrap())).collect();
        let rows: Vec<Row<'_>> = rows.iter().map(|s| (Some(9), Some(&s[..]))).collect();
        let joined = |(i, (_, s)): (usize, &Row<'_>)| {
            let s = s.unwrap();
            model.get(s).map(|n| format!("{s}|9|{}|{s}! @{}", 2 * n, i + 1))
        };
        let expected: Vec<String> = rows.iter().enumerate().filter_map(joined).collect();
        let expected: Vec<&str> = expected.iter().map(|row| &row[..]).collect();
        let missed = rows.len() - expected.len();
        check(lookup, &rows, &schemas[..1], &[&expected], missed as u64);
    }

    #[test]
    fn a_table_that_is_saved_in_pieces_comes_back(
        table in proptest::collection::vec(
            (proptest::option::of("[a-c]{1,9}"), proptest::option::of(0..5i64)), 0..60),
        rows in proptest::collection::vec("[a-c]{1,9}", 1..60),
        size in 1..20usize,
        before in 0..4usize,
    ) {
        let (mut lookup, schemas) = lookup(Unmatched::Drop, 1);
        let table: Vec<Row<'_>> = table.iter().map(|(s, n)| (*n, s.as_deref())).collect();
        let (mut pieces, mut slots) = (Vec::new(), Vec::new());
        for (i, rows) in table.chunks(size).enumerate() {
            fill(&mut lookup, rows);
            let state = lookup.table().unwrap();
            slots.clear();
            if i >= before {
                state.take_stored(&mut slots);
            }
            if i == before {
                prop_assert!(slots.is_empty());
                slots.extend(0..state.slots());
            }
            state.save(&slots, &mut |rows| pieces.push(rows.as_bytes().to_vec()));
        }
        if pieces.is_empty() {
            let all: Vec<u32> = (0..lookup.table().unwrap().slots()).collect();
            let state = lookup.table().unwrap();
            state.save(&all, &mut |rows| pieces.push(rows.as_bytes().to_vec()));
        }
        let (mut again, _) = self::lookup(Unmatched::Drop, 1);
        for piece in &pieces {
            let rows = held(piece);
            let state = again.table().unwrap();
            rows.check_heap(state.schema()).unwrap();
            state.load(&rows).unwrap();
        }
        prop_assert_eq!(again.table_len(), lookup.table_len());
        prop_assert_eq!(again.table_counts(), (0, 0));
        let model: BTreeMap<&str, Option<i64>> =
            table.iter().filter_map(|(n, s)| Some(((*s)?, *n))).collect();
        let rows: Vec<Row<'_>> = rows.iter().map(|s| (Some(9), Some(&s[..]))).collect();
        let joined = |(i, (_, s)): (usize, &Row<'_>)| {
            let s = s.unwrap();
            let twice = model.get(s)?.map_or("NULL".into(), |n| (2 * n).to_string());
            Some(format!("{s}|9|{twice}|{s}! @{}", i + 1))
        };
        let expected: Vec<String> = rows.iter().enumerate().filter_map(joined).collect();
        let expected: Vec<&str> = expected.iter().map(|row| &row[..]).collect();
        let missed = rows.len() - expected.len();
        check(again, &rows, &schemas[..1], &[&expected], missed as u64);
    }
}

/// A batch as it is read from a file.
fn held(bytes: &[u8]) -> RecordBatch {
    struct Held(rkyv::util::AlignedVec<16>);
    impl Backing for Held {
        fn bytes(&self) -> &[u8] {
            &self.0
        }
    }
    let mut copy = rkyv::util::AlignedVec::new();
    copy.extend_from_slice(bytes);
    RecordBatch::from_bytes(std::sync::Arc::new(Held(copy)), 0, bytes.len()).unwrap()
}
