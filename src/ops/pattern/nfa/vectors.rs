//! The answers of the real Flink (tests/vectors/cep), run through the operator.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value as Json;

use crate::expr::{Condition, Scope, compile_match_select};
use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::schema::{Column, DataType, Schema};
use crate::ground::slot;
use crate::ground::slot::array::Elements;
use crate::ground::time::Time;
use crate::ops::output::{Emitted, Outputs};
use crate::ops::pattern::ast::{AfterMatch, Ast, Contiguity, Inner, Step, Times, Within};
use crate::ops::pattern::check::{Refusal, check};
use crate::ops::pattern::strict::Known;
use crate::ops::pattern::strict::set::Sets;
use crate::ops::pattern::{Pattern, PatternSpec};
use crate::ops::{KeyedRows, Ordered, Rows, Stateful};
use crate::state::keys::KeyTable;

pub(crate) fn read(name: &str) -> Vec<Json> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/cep");
    let packed = std::fs::read(folder.join(format!("{name}.zst"))).expect("the vectors are there");
    let text = zstd::decode_all(&packed[..]).expect("the vectors are packed");
    let text = String::from_utf8(text).expect("the vectors are text");
    let parse = |line: &str| serde_json::from_str(line).expect("the vectors are JSON lines");
    text.lines().map(parse).collect()
}

/// A case's pattern with the texts of its conditions.
pub(crate) fn pattern(json: &Json) -> (Ast, Vec<String>) {
    let mut texts = Vec::new();
    let bound = json["within_ms"].as_i64().unwrap_or(0);
    let within = match json["within_type"].as_str() {
        Some("previous_and_current") => Within::PreviousAndCurrent(bound),
        _ => Within::FirstAndLast(bound),
    };
    let name = |json: &Json| json.as_str().unwrap_or_default().to_string();
    let after_match = match &json["after_match"] {
        Json::Object(to) if to.contains_key("skip_to_first") => {
            AfterMatch::SkipToFirst(name(&to["skip_to_first"]))
        }
        Json::Object(to) => AfterMatch::SkipToLast(name(&to["skip_to_last"])),
        Json::String(word) if word == "skip_to_next" => AfterMatch::SkipToNext,
        Json::String(word) if word == "skip_past_last_event" => AfterMatch::SkipPastLastEvent,
        _ => AfterMatch::NoSkip,
    };
    let ast = Ast { steps: steps(&json["steps"], &mut texts), within, after_match };
    (ast, texts)
}

fn steps(json: &Json, texts: &mut Vec<String>) -> Vec<Step> {
    let Some(list) = json.as_array() else { return Vec::new() };
    let mut made = Vec::new();
    for step in list {
        let mut text = |key: &str| {
            let text = step[key].as_str()?;
            let at = texts.iter().position(|other| other == text);
            Some(at.unwrap_or_else(|| {
                texts.push(text.to_string());
                texts.len() - 1
            }))
        };
        let (condition, until) = (text("where"), text("until"));
        made.push(Step {
            name: step["name"].as_str().map(str::to_string),
            condition,
            group: step.get("group").map(|group| steps(group, texts)),
            contiguity: step["contiguity"].as_str().map(|word| match word {
                "next" => Contiguity::Next,
                "followed_by" => Contiguity::FollowedBy,
                "followed_by_any" => Contiguity::FollowedByAny,
                "not_next" => Contiguity::NotNext,
                "not_followed_by" => Contiguity::NotFollowedBy,
                other => panic!("contiguity {other}"),
            }),
            times: match &step["times"] {
                Json::Null => None,
                Json::Number(n) => n.as_i64().map(|n| Times { min: n, max: Some(n) }),
                range => Some(Times {
                    min: range["min"].as_i64().unwrap_or(0),
                    max: range["max"].as_i64(),
                }),
            },
            inner: step["inner"].as_str().map(|word| match word {
                "relaxed" => Inner::Relaxed,
                "consecutive" => Inner::Consecutive,
                "allow_combinations" => Inner::AllowCombinations,
                other => panic!("inner {other}"),
            }),
            optional: step["optional"].as_bool().unwrap_or(false),
            greedy: step["greedy"].as_bool().unwrap_or(false),
            until,
        });
    }
    made
}

pub(crate) fn schema() -> Schema {
    Schema::new(vec![
        Column::new("id", DataType::BigInt),
        Column::new("t", DataType::String),
        Column::new("v", DataType::BigInt),
        Column::new("k", DataType::BigInt),
        Column::new("ts", DataType::Timestamp),
    ])
}

pub(crate) fn batch(events: &[Json]) -> RecordBatch {
    let mut builder = BatchBuilder::new(5, events.len());
    for event in events {
        let mut nulls = 0;
        let mut number = |i: usize, key: &str| {
            event[key].as_i64().unwrap_or_else(|| {
                nulls |= 1 << i;
                0
            }) as u64
        };
        let (id, v, k, ts) = (number(0, "id"), number(2, "v"), number(3, "k"), number(4, "ts"));
        let text = match event["t"].as_str() {
            Some(text) => slot::put(text.as_bytes(), &mut builder.heap),
            None => {
                nulls |= 2;
                0
            }
        };
        builder.push_nulls(&[id, text, v, k, ts], &[nulls]);
    }
    builder.finish()
}

/// Name of a step to the ids that it took.
type Taken = BTreeMap<String, Vec<i64>>;

/// A pattern whose matches show the ids that each step took, and behind them the first row's key
/// and time.
pub(crate) fn spec(ast: Ast, texts: &[String], timed_out: Option<usize>) -> PatternSpec {
    let (schema, names) = (schema(), ast.names());
    let scope = Scope::of(&schema);
    let compile = |text: &String| match Condition::compile(text, &scope, &names) {
        Ok(condition) => condition,
        // A reference to a step that this pattern does not have.
        Err(_) => Condition::compile("TRUE", &scope, &names).expect("TRUE compiles"),
    };
    let mut select: Vec<(String, String)> =
        names.iter().map(|name| (name.clone(), format!("ARRAY_AGG({name}.id)"))).collect();
    for column in ["k", "ts"] {
        select.push((format!("first_{column}"), format!("FIRST({}.{column})", names[0])));
    }
    let Ok(select) = compile_match_select(&select, &scope, &names) else {
        panic!("the select compiles");
    };
    PatternSpec {
        conditions: texts.iter().map(compile).collect(),
        select,
        late: None,
        timed_out,
        timed_out_select: None,
        known: Known { key: vec![3], event_time: Some(4) },
        sets: Sets::default(),
        partials_max: None,
        ast,
    }
}

pub(crate) fn taken(emitted: &[Emitted], names: &[String]) -> Vec<(Time, Taken)> {
    let mut rows = Vec::new();
    for part in emitted {
        for row in 0..part.records.rows() {
            let mut taken = Taken::new();
            for (column, name) in names.iter().enumerate() {
                let Some(bytes) = part.records.get_bytes(row, column) else { continue };
                let ids = Elements::read(bytes).expect("an array");
                let ids: Vec<i64> =
                    (0..ids.len()).filter_map(|i| ids.get(i)).map(|id| id as i64).collect();
                if !ids.is_empty() {
                    taken.insert(name.clone(), ids);
                }
            }
            rows.push((part.times[row], taken));
        }
    }
    rows
}

#[derive(Default, Debug, PartialEq)]
struct Answer {
    /// By the event that made them go out; `None`: by time.
    matches: BTreeMap<Option<i64>, Vec<Taken>>,
    by_time: Vec<(Time, Taken)>,
    timed_out: BTreeSet<(Time, Taken)>,
}

/// How a case is driven.
#[derive(Clone, Copy, PartialEq)]
enum Drive {
    /// One row a call; the state saved, cleared and loaded between.
    Saved,
    /// One row a call.
    Single,
}

fn run(case: &Json, drive: Drive) -> Answer {
    let (ast, texts) = pattern(&case["pattern"]);
    let names = ast.names();
    let spec = spec(ast, &texts, Some(1));
    let mut operator = Pattern::new(spec, &schema()).expect("within the limit");
    let keys = KeyTable::new(&[DataType::BigInt]);
    let mut out = Outputs::new(&[names.len() + 2; 2], 64);
    let events = case["events"].as_array().expect("events");
    let batch = batch(events);
    let mut answer = Answer::default();
    let mut collect = |out: &mut Outputs, at: Option<i64>| {
        for (time, taken) in taken(&out.ports[0].take(), &names) {
            answer.matches.entry(at).or_default().push(taken.clone());
            if at.is_none() {
                answer.by_time.push((time, taken));
            }
        }
        answer.timed_out.extend(taken(&out.ports[1].take(), &names));
    };
    let mut last = None;
    for (row, event) in events.iter().enumerate() {
        let time = event["ts"].as_i64().expect("ts");
        if last != Some(time) {
            operator.watermark(time, &keys, &mut out).expect("runs");
            collect(&mut out, None);
            last = Some(time);
        }
        let select = [row as u32];
        let (times, marks) = ([time], [time - 1]);
        let rows = Rows { records: &batch, select: &select, times: &times, marks: &marks };
        let rows = KeyedRows::new(rows, &[0], &keys);
        operator.ordered(&rows, &mut out).expect("runs");
        collect(&mut out, event["id"].as_i64());
        if drive == Drive::Saved {
            operator.state(&mut |_, handle| {
                let (mut bytes, mut again) = (Vec::new(), Vec::new());
                handle.save(0, &mut bytes);
                handle.clear(0);
                handle.save(0, &mut again);
                assert!(again.is_empty(), "a cleared slot saves nothing");
                handle.load(0, &bytes).expect("what was saved loads");
                handle.save(0, &mut again);
                assert_eq!(bytes.len(), again.len(), "and saves as it was");
            });
        }
    }
    let end = case["final_time"].as_i64().expect("final_time");
    operator.watermark(end, &keys, &mut out).expect("runs");
    collect(&mut out, None);
    for list in answer.matches.values_mut() {
        list.sort();
    }
    answer
}

fn is(case: &Json, flag: &str) -> bool {
    case[flag].as_bool().unwrap_or(false)
}

/// What Flink said; what differs in form only is made alike.
fn expected(case: &Json) -> Answer {
    let mut answer = Answer::default();
    let taken =
        |json: &Json| -> Taken { serde_json::from_value(json["steps"].clone()).expect("steps") };
    for found in case["matches"].as_array().expect("matches") {
        let at = found["at"].as_i64();
        answer.matches.entry(at).or_default().push(taken(found));
        if at.is_none() {
            answer.by_time.push((found["at_time"].as_i64().expect("at_time"), taken(found)));
        }
    }
    for late in case["timed_out"].as_array().expect("timed_out") {
        answer.timed_out.insert((late["at_time"].as_i64().expect("at_time"), taken(late)));
    }
    for list in answer.matches.values_mut() {
        list.sort();
    }
    answer
}

/// Why two answers differ, if they do.
fn difference(case: &Json, mut got: Answer, mut expected: Answer) -> Option<&'static str> {
    if is(case, "dup_matches") {
        for answer in [&mut got, &mut expected] {
            answer.matches.values_mut().for_each(Vec::dedup);
        }
    }
    if got.matches != expected.matches {
        return Some("matches");
    }
    if got.timed_out != expected.timed_out {
        return Some("timed_out");
    }
    got.by_time.sort_by(|a, b| (&a.1, a.0).cmp(&(&b.1, b.0)));
    expected.by_time.sort_by(|a, b| (&a.1, a.0).cmp(&(&b.1, b.0)));
    let later = got.by_time.iter().zip(&expected.by_time).any(|(a, b)| a.0 > b.0);
    later.then_some("a match by time is late")
}

fn check_file(name: &str, drive: Drive) {
    let cases = read(name);
    let (mut equal, mut ties, mut ties_equal, mut wrong) = (0, 0, 0, BTreeMap::new());
    for case in &cases {
        let found = difference(case, run(case, drive), expected(case));
        if is(case, "tie_sensitive") {
            ties += 1;
            ties_equal += usize::from(found.is_none());
        } else if let Some(why) = found {
            wrong.entry(why).or_insert_with(Vec::new).push(case["id"].to_string());
        } else {
            equal += 1;
        }
    }
    println!(
        "{name}: {} cases, {equal} equal; {ties} depend on heap order, of these {ties_equal} equal",
        cases.len()
    );
    for (why, ids) in &wrong {
        println!("  {} differ in {why}: {}", ids.len(), ids[..ids.len().min(20)].join(" "));
    }
    assert!(wrong.is_empty(), "{name}: answers differ");
}

#[test]
fn semantics_are_flinks() {
    check_file("semantics.jsonl", Drive::Single);
}

#[test]
fn named_cases_are_flinks() {
    check_file("named.jsonl", Drive::Single);
}

#[test]
fn public_cases_are_flinks() {
    check_file("public.jsonl", Drive::Single);
}

#[test]
fn state_saved_and_loaded_between_any_two_rows_changes_nothing() {
    check_file("semantics.jsonl", Drive::Saved);
    check_file("named.jsonl", Drive::Saved);
    check_file("public.jsonl", Drive::Saved);
}

fn refusals(case: &Json) -> Vec<Refusal> {
    let (ast, texts) = pattern(&case["pattern"]);
    check(&ast, texts.len()).err().unwrap_or_default()
}

#[test]
fn invalid_patterns_are_refused() {
    let cases = read("invalid.jsonl");
    let passed: Vec<&Json> = cases.iter().filter(|case| refusals(case).is_empty()).collect();
    println!("invalid.jsonl: {} cases, {} refused", cases.len(), cases.len() - passed.len());
    assert!(passed.is_empty(), "accepted: {passed:#?}");
}

#[test]
fn odd_patterns_are_accepted() {
    let files = ["odd_but_accepted.jsonl", "semantics.jsonl", "named.jsonl", "public.jsonl"];
    for cases in files.into_iter().map(read) {
        for case in &cases {
            assert_eq!(refusals(case), [], "{case}");
        }
    }
}
