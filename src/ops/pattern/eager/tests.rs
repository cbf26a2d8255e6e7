//! Random patterns over rows out of order: what is confirmed is what the final pattern finds, and
//! every provisional match is decided once.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::{Eager, STATUS};
use crate::ground::schema::DataType;
use crate::ground::time::{END, NEVER, Time};
use crate::ops::order::Order;
use crate::ops::order::ahead::Ahead;
use crate::ops::output::{Emitted, Outputs};
use crate::ops::pattern::ast::{AfterMatch, Ast};
use crate::ops::pattern::nfa::vectors::{batch, schema, spec, taken};
use crate::ops::pattern::tests::{any_ast, rows, texts};
use crate::ops::pattern::{Pattern, PatternSpec};
use crate::ops::{Keyed, KeyedRows, Rows, Stateful};
use crate::state::keys::KeyTable;

/// Rows as they arrive: slot, row, time and mark.
struct Arrivals {
    slots: Vec<u32>,
    events: Vec<Json>,
    times: Vec<Time>,
    marks: Vec<Time>,
}

/// Moves each row's time by up to three, and gives it the watermark of `delay` behind the newest.
fn arrivals(rows: &[(u32, Json)], moved: &[i64], delay: i64) -> Arrivals {
    let (mut newest, mut all) = (NEVER, Arrivals::none());
    for ((slot, row), moved) in rows.iter().zip(moved) {
        let mut row = row.clone();
        let time = row["ts"].as_i64().expect("ts") + moved;
        row["ts"] = time.into();
        all.slots.push(*slot);
        all.times.push(time);
        all.marks.push(newest.saturating_sub(delay + 1));
        all.events.push(row);
        newest = newest.max(time);
    }
    all
}

impl Arrivals {
    fn none() -> Arrivals {
        let (slots, events, times, marks) = Default::default();
        Arrivals { slots, events, times, marks }
    }

    /// Gives the rows in batches that end before the places in `cuts`, and watermarks.
    fn give(&self, cuts: &[usize], mut each: impl FnMut(Option<&KeyedRows<'_>>, Time)) {
        let (keys, batch) = (KeyTable::new(&[DataType::BigInt]), batch(&self.events));
        let mut from = 0;
        for end in cuts.iter().copied().chain([self.times.len()]) {
            let end = end.clamp(from, self.times.len());
            let select: Vec<u32> = (from as u32..end as u32).collect();
            let (times, marks) = (&self.times[from..end], &self.marks[from..end]);
            let part = Rows { records: &batch, select: &select, times, marks };
            let mark = self.marks.get(end).copied();
            let last = marks.last().copied().unwrap_or(NEVER);
            each(Some(&KeyedRows::new(part, &self.slots[from..end], &keys)), mark.unwrap_or(last));
            from = end;
        }
        each(None, END);
    }
}

/// What the final pattern finds.
fn final_matches(ast: &Ast, arrivals: &Arrivals) -> Vec<String> {
    let mut spec = spec(ast.clone(), &texts(), None);
    let (schema, names) = (schema(), ast.names());
    let mut ahead = Ahead::new(&schema);
    spec.look_ahead(&mut ahead);
    spec.remap(&ahead);
    let pattern = Pattern::with(spec, &ahead.schema(&schema), true).expect("small");
    let mut order = Order::new(&schema, &ahead, 4, vec![Box::new(pattern)]);
    let mut outs = [Outputs::new(&[names.len() + 2], 7)];
    let keys = KeyTable::new(&[DataType::BigInt]);
    arrivals.give(&[], |rows, mark| {
        if let Some(rows) = rows {
            order.rows(0, rows, &mut outs).expect("runs");
        }
        order.watermark(mark, &keys, &mut outs).expect("runs");
    });
    shown(&outs[0].ports[0].take(), &names)
}

fn shown(emitted: &[Emitted], names: &[String]) -> Vec<String> {
    let mut shown: Vec<String> =
        taken(emitted, names).into_iter().map(|row| format!("{row:?}")).collect();
    shown.sort();
    shown
}

/// A row of an eager pattern: number, status, and what it shows.
type Said = (u64, String, String);

fn made(ast: &Ast) -> Eager {
    let spec: PatternSpec = spec(ast.clone(), &texts(), None);
    Eager::new(spec, &schema(), &[ast.names().len() + 4], 4).expect("small")
}

/// What an eager pattern puts out, in order; if `saved`, it is saved after each batch and goes on
/// as another.
fn eager(
    ast: &Ast,
    arrivals: &Arrivals,
    cuts: &[usize],
    saved: bool,
) -> Result<Vec<Said>, TestCaseError> {
    let names = ast.names();
    let mut operator = made(ast);
    let mut out = Outputs::new(&[names.len() + 4], 7);
    let (mut said, mut mark_before) = (Vec::new(), NEVER);
    let mut failure = None;
    let keys = KeyTable::new(&[DataType::BigInt]);
    arrivals.give(cuts, |rows, mark| {
        if let Some(rows) = rows {
            operator.rows(0, rows, &mut out).expect("runs");
        }
        operator.watermark(mark, &keys, &mut out).expect("runs");
        for emitted in out.ports[0].take() {
            let shown = taken(std::slice::from_ref(&emitted), &names);
            for (row, shown) in shown.into_iter().enumerate() {
                let records = &emitted.records;
                let status = records.get_bytes(row, names.len() + 3).expect("a status");
                let status = String::from_utf8(status.to_vec()).expect("text");
                let id = records.get(row, names.len() + 2).expect("a number");
                // Behind the watermark before it no row would be in time.
                let (time, own) = (emitted.times[row], emitted.marks[row]);
                if time <= own || own < mark_before {
                    failure = Some(format!("{status} at {time}, mark {own} behind {mark_before}"));
                }
                mark_before = own;
                said.push((id, status, format!("{shown:?}")));
            }
        }
        if !saved {
            return;
        }
        let mut next = made(ast);
        let mut whole = BTreeMap::new();
        operator.state(&mut |name, handle| {
            let mut bytes = Vec::new();
            handle.save_whole(&mut bytes);
            whole.insert(name.to_string(), bytes);
        });
        next.state(&mut |name, handle| {
            if !whole[name].is_empty() {
                handle.load_whole(&whole[name]).expect("what was saved loads");
            }
        });
        for slot in 0..4 {
            let mut saved = BTreeMap::new();
            operator.state(&mut |name, handle| {
                let mut bytes = Vec::new();
                handle.save(slot, &mut bytes);
                saved.insert(name.to_string(), bytes);
            });
            next.state(&mut |name, handle| {
                handle.load(slot, &saved[name]).expect("what was saved loads");
            });
        }
        operator = next;
    });
    prop_assert_eq!(failure, None);
    Ok(said)
}

fn check(ast: &Ast, arrivals: &Arrivals, cuts: &[usize]) -> Result<Vec<Said>, TestCaseError> {
    let said = eager(ast, arrivals, cuts, false)?;
    // Of different keys those of one time may change places.
    let sorted = |said: &[Said]| {
        let mut said = said.to_vec();
        said.sort();
        said
    };
    let again = eager(ast, arrivals, cuts, true)?;
    prop_assert_eq!(sorted(&again), sorted(&said), "one that goes on says the same");
    let confirmed = said.iter().filter(|(_, own, _)| own == STATUS[1]);
    let mut confirmed: Vec<String> = confirmed.map(|(_, _, shown)| shown.clone()).collect();
    confirmed.sort();
    prop_assert_eq!(confirmed, final_matches(ast, arrivals), "confirmed are the final ones");
    // Each number's story: provisional at most once, then one end.
    let mut stories: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for (id, status, _) in &said {
        stories.entry(*id).or_default().push(status);
    }
    for (id, story) in &stories {
        let is_right = matches!(
            story[..],
            ["confirmed"] | ["provisional", "confirmed"] | ["provisional", "retracted"]
        );
        prop_assert!(is_right, "{}: {:?}", id, story);
    }
    Ok(said)
}

fn skip() -> impl Strategy<Value = AfterMatch> {
    prop_oneof![
        3 => Just(AfterMatch::NoSkip),
        1 => Just(AfterMatch::SkipToNext),
        1 => Just(AfterMatch::SkipPastLastEvent),
        1 => Just(AfterMatch::SkipToFirst("a".to_string())),
        1 => Just(AfterMatch::SkipToLast("a".to_string())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None,
        ..ProptestConfig::default() })]

    #[test]
    fn what_is_confirmed_is_what_the_final_pattern_finds(
        ast in any_ast(), after_match in skip(), rows in rows(3),
        moved in proptest::collection::vec(0..4i64, 24),
        delay in 1..5i64, cuts in proptest::collection::vec(0..24usize, 0..8)
    ) {
        let ast = Ast { after_match, ..ast };
        prop_assume!(crate::ops::pattern::check::check(&ast, texts().len()).is_ok());
        let mut cuts = cuts;
        cuts.sort_unstable();
        check(&ast, &arrivals(&rows[..rows.len().min(14)], &moved, delay), &cuts)?;
    }

    #[test]
    fn of_rows_in_order_every_match_is_provisional_first_and_none_is_retracted(
        ast in any_ast(), rows in rows(3), cuts in proptest::collection::vec(0..24usize, 0..8)
    ) {
        prop_assume!(crate::ops::pattern::check::check(&ast, texts().len()).is_ok());
        let mut cuts = cuts;
        cuts.sort_unstable();
        let arrivals = arrivals(&rows[..rows.len().min(14)], &[0; 24], 3);
        let said = check(&ast, &arrivals, &cuts)?;
        let count = |status: &str| said.iter().filter(|(_, own, _)| own == status).count();
        prop_assert_eq!(count(STATUS[0]), count(STATUS[1]));
        prop_assert_eq!(count(STATUS[2]), 0);
    }
}
