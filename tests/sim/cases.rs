//! Flink's answers to patterns again, with the power going between any two rows of each case: a run
//! is given one row more than the checkpoint it goes on from has, makes a checkpoint behind it, and
//! is cut off. So every match is begun in one run and found in another.

use std::collections::BTreeMap;
use std::sync::Arc;

use cutwater::flow::chain::RowBounds;
use cutwater::flow::epochs::Unaligned;
use cutwater::plan::graph::Pipeline;
use cutwater::store::codec::Codec;
use cutwater::store::disk_sim::{Faults, SimDisk};
use serde_json::Value;

use super::connect::Blocks;
use super::life::{Ended, Given, live};
use super::machine::{Machine, Manners};
use super::{pipelines, sink};
use crate::command::json_lines;
use crate::flink_patterns::{self as flink, TOGETHER};

/// How the runs of some cases are.
#[derive(Clone, Copy, Debug)]
struct Way {
    shards: usize,
    unaligned: Unaligned,
    /// Bytes of keys in memory; none: all stay.
    hot_bytes: Option<usize>,
    /// Whether a checkpoint has the rows that came, as far as it can, or keys alone.
    has_rows: bool,
    emit: &'static str,
}

/// Nothing special.
const PLAIN: Way =
    Way { shards: 1, unaligned: Unaligned::Never, hot_bytes: None, has_rows: false, emit: "final" };

/// Cases in turn: barriers that wait and ones that overtake, keys in memory and in tables.
const WAYS: [Way; 4] = [
    PLAIN,
    Way { shards: 2, unaligned: Unaligned::Always, has_rows: true, ..PLAIN },
    Way { hot_bytes: Some(1 << 10), ..PLAIN },
    Way { shards: 3, has_rows: true, ..PLAIN },
];

fn pipeline(cases: &[&Value], emit: &str) -> Pipeline {
    let parts = cases.iter().enumerate().map(|(i, case)| flink::part(i, case, "", emit));
    let head =
        format!("{}[engine]\ndata_dir = '/data'\n[checkpoint]\ninterval = '1s'\n", flink::HEAD);
    pipelines::read(&format!("{head}{}", parts.collect::<String>()))
}

/// Runs the cases, each cut off behind every row; the restarts.
fn run(cases: &[&Value], seed: u64, way: Way) -> (SimDisk, usize) {
    let mut pipeline = pipeline(cases, way.emit);
    pipeline.engine.batch_rows = 4;
    let blocks = |case: &Value| -> Blocks {
        Arc::new(flink::rows(case).into_iter().map(String::into_bytes).collect())
    };
    let blocks: BTreeMap<String, Blocks> =
        cases.iter().enumerate().map(|(i, case)| (format!("s{i}"), blocks(case))).collect();
    let most = blocks.values().map(|blocks| blocks.len()).max().unwrap_or(0);
    let none = RowBounds { epoch_bytes: 0, ..RowBounds::default() };
    let mut disk = SimDisk::new(seed, Faults::default());
    for held_at in 1..=most {
        let is_last = held_at == most;
        let given = Given {
            pipeline: &pipeline,
            blocks: blocks.clone(),
            shards: way.shards,
            batch_rows: 4,
            hot_bytes: way.hot_bytes,
            codec: Codec::None,
            retained: 1,
            rows: if way.has_rows { RowBounds::default() } else { none },
            unaligned: way.unaligned,
            tolerable_failures: 0,
            pause: 8,
            given_up_one_in: None,
            idle_one_in: None,
            number: held_at,
            held_at: (!is_last).then_some(held_at),
        };
        let manners = Manners {
            seed: seed + held_at as u64,
            crash_at: None,
            crash_in: None,
            disk_one_in: 2,
            low_one_in: 2,
            overtaken_most: 1,
            start_ms: 1_700_000_000_000 + held_at as i64 * 1000,
        };
        let (ended, saw) = live(&Machine::new(manners, disk.clone()), &given);
        assert_eq!(saw.restored, held_at > 1, "it goes on from the row before");
        match (is_last, ended) {
            (true, Ended::Done) => {}
            (false, Ended::Off(_)) => disk = disk.crash(seed + held_at as u64, Faults::default()),
            (_, other) => panic!("{held_at} of {most}: {other:?}"),
        }
    }
    (disk, most.saturating_sub(1))
}

fn shown(disk: &SimDisk, name: &str) -> Vec<Value> {
    let text = |(_, bytes): (String, Vec<u8>)| String::from_utf8(bytes).expect("parts are text");
    sink::seen(disk, name).into_iter().map(text).flat_map(|text| json_lines(&text)).collect()
}

fn check(file: &str, emit: &'static str) {
    let all = flink::cases(file);
    let used: Vec<&Value> = all.iter().filter(|case| flink::left_out(case).is_none()).collect();
    let (mut differ, mut restarts) = (Vec::new(), 0);
    for (number, cases) in used.chunks(TOGETHER / 3).enumerate() {
        let way = Way { emit, ..WAYS[number % WAYS.len()] };
        let (disk, times) = run(cases, number as u64 * 1000, way);
        restarts += times;
        for (i, case) in cases.iter().enumerate() {
            let (mut matches, late) =
                (shown(&disk, &format!("m{i}")), shown(&disk, &format!("t{i}")));
            if emit == "eager" {
                matches = flink::confirmed(matches);
            }
            if let Some(what) = flink::difference(case, &matches, &late) {
                differ.push(format!("{} ({what}) {way:?}", case["id"]));
            }
        }
    }
    let equal = used.len() - differ.len();
    println!(
        "{file}, {emit}: {} cases, {equal} equal, {restarts} restarts of {TOGETHER}/3",
        all.len()
    );
    assert_eq!(differ, Vec::<String>::new(), "{file}");
    assert!(restarts > used.len() / TOGETHER, "cases were cut off between rows");
}

#[test]
fn semantics_with_a_restart_between_any_two_rows() {
    check("semantics", "final");
}

#[test]
fn named_cases_with_a_restart_between_any_two_rows() {
    check("named", "final");
}

#[test]
fn public_cases_with_a_restart_between_any_two_rows() {
    check("public", "final");
}

#[test]
fn eager_patterns_with_a_restart_between_any_two_rows() {
    check("semantics", "eager");
    check("named", "eager");
    check("public", "eager");
}
