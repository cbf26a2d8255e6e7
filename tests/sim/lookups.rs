//! The pipeline of lookups: table `p` is read before the stream, table `q` is updated meanwhile.
//!
//! What a row finds in `q` is a matter of when it comes. But a row of a later epoch never finds an
//! older version than one of an earlier epoch did: at a barrier every shard has the same table.

use std::collections::BTreeMap;
use std::sync::Arc;

use cutwater::store::chance::Chance;

use super::connect::Blocks;
use super::pipelines::{Output, Row, key_text};

/// The source that nobody waits for.
pub const LIVE: &str = "q";
/// Keys that have a row in a table, mostly.
const KEYS: usize = 70;
/// Rows of a table's block.
const BLOCK_ROWS: usize = 3;

/// The pipeline, behind its head. Both lookups of `q` are one, in two places.
pub const PIPELINE: &str = r#"
[schemas.fixed]
k = "STRING"
w = "BIGINT"
label = "STRING"
[schemas.moving]
k = "STRING"
version = "BIGINT"
note = "STRING"
[sources.b]
type = "file"
path = "b"
format = "json"
schema = "row"
event_time = "ts"
[sources.p]
type = "file"
path = "p"
format = "json"
schema = "fixed"
[sources.q]
type = "file"
path = "q"
format = "json"
schema = "moving"
[transforms.known]
type = "lookup"
inputs = ["a"]
table = "p"
on = { k = "k" }
add = { w = "p.w + 1", label = "p.label" }
[transforms.t]
type = "aggregate"
inputs = ["known"]
key = ["k"]
select = { k = "k", id = "LAST(id)", w = "LAST(w)", label = "LAST(label)", total = "SUM(w)" }
[transforms.m]
type = "lookup"
inputs = ["a", "b"]
table = "q"
on = { k = "k" }
add = { version = "q.version", note = "q.note" }
[sinks.out]
type = "file"
inputs = ["t"]
path = "out"
format = "json"
[sinks.moving]
type = "file"
inputs = ["m"]
path = "moving"
format = "json"
"#;

/// Blocks of both tables, for a number.
pub fn tables(number: u64) -> BTreeMap<String, Blocks> {
    let mut chance = Chance::new(number ^ 0x7AB1E);
    let version = |version| {
        let key = key_text(chance.below(KEYS));
        let note = note(version);
        format!("{{\"k\":\"{key}\",\"version\":{version},\"note\":{note}}}\n")
    };
    let moving: Vec<String> = (1..400).map(version).collect();
    let fixed: Vec<String> =
        fixed(number).iter().map(|(key, weight)| line(*key, *weight)).collect();
    BTreeMap::from([("p".to_string(), blocks(&fixed)), (LIVE.to_string(), blocks(&moving))])
}

/// Another table in the place of `p`, which has other rows and is shorter.
pub fn changed() -> BTreeMap<String, Blocks> {
    let rows: Vec<String> = (0..KEYS / 2).map(|key| line(key, 1_000_000)).collect();
    BTreeMap::from([("p".to_string(), blocks(&rows))])
}

/// What a version notes, as JSON: nothing, a short text or a long one.
fn note(version: i64) -> String {
    match version % 3 {
        0 => "null".to_string(),
        1 => format!("\"{version}\""),
        _ => format!("\"version number {version}\""),
    }
}

/// Rows of `p`, of which some replace others.
fn fixed(number: u64) -> Vec<(usize, i64)> {
    let mut chance = Chance::new(number ^ 0xF1BED);
    (0..90).map(|_| (chance.below(KEYS), chance.below(1000) as i64)).collect()
}

fn label(weight: i64) -> String {
    if weight % 4 == 0 { "null".to_string() } else { format!("\"a label of {weight}\"") }
}

fn line(key: usize, weight: i64) -> String {
    let (key, label) = (key_text(key), label(weight));
    format!("{{\"k\":\"{key}\",\"w\":{weight},\"label\":{label}}}\n")
}

fn blocks(lines: &[String]) -> Blocks {
    Arc::new(lines.chunks(BLOCK_ROWS).map(|lines| lines.concat().into_bytes()).collect())
}

/// What the pipeline puts out, but for what is found in `q`.
pub fn plain(number: u64, a: &[Row], b: &[Row]) -> Output {
    let weights: BTreeMap<usize, i64> = fixed(number).into_iter().collect();
    let mut totals: BTreeMap<usize, i64> = BTreeMap::new();
    let out = |row: &Row| {
        let (key, id, weight) = (key_text(row.key), row.id, weights.get(&row.key));
        let (w, label) = weight.map_or(("null".into(), "null".into()), |weight| {
            *totals.entry(row.key).or_default() += weight + 1;
            ((weight + 1).to_string(), label(*weight))
        });
        let total = totals.get(&row.key).map_or("null".into(), i64::to_string);
        format!("{{\"k\":\"{key}\",\"id\":{id},\"w\":{w},\"label\":{label},\"total\":{total}}}")
    };
    let out = a.iter().map(out).collect();
    let as_read = |row: &Row| {
        let Row { id, value, time, .. } = row;
        format!("{{\"id\":{id},\"k\":\"{}\",\"v\":{value},\"ts\":{time}}}", key_text(row.key))
    };
    let moving = a.iter().chain(b).map(as_read).collect();
    BTreeMap::from([("out".to_string(), out), ("moving".to_string(), moving)])
}

/// The rows of `moving` without what was found in `q`; that must be right.
pub fn without_versions(parts: &[(u64, String)]) -> Vec<String> {
    // Of each key in each epoch the oldest and the newest version that was found.
    let mut found: BTreeMap<(String, u64), (i64, i64)> = BTreeMap::new();
    let mut rows = Vec::new();
    for (epoch, text) in parts {
        for row in text.lines() {
            let (rest, added) = row.split_once(",\"version\":").expect("a row has a version");
            let (version, noted) = added.split_once(",\"note\":").expect("a row has a note");
            let version = version.parse().unwrap_or(0);
            let expected = if version == 0 { "null".into() } else { note(version) };
            assert_eq!(noted.trim_end_matches('}'), expected, "{row}");
            let key = rest.split("\"k\":").nth(1).and_then(|key| key.split(',').next());
            let key = key.expect("a row has a key").to_string();
            let (oldest, newest) = found.entry((key, *epoch)).or_insert((version, version));
            (*oldest, *newest) = (version.min(*oldest), version.max(*newest));
            rows.push(format!("{rest}}}"));
        }
    }
    let mut before: Option<(&String, u64, i64)> = None;
    for ((key, epoch), &(oldest, newest)) in &found {
        let known = before.filter(|(of, _, _)| *of == key);
        if let Some((_, earlier, known)) = known {
            assert!(
                oldest >= known,
                "{key}: version {oldest} in epoch {epoch}, and {known} in epoch {earlier}"
            );
        }
        let known = known.map_or(0, |(_, _, known)| known);
        before = Some((key, *epoch, newest.max(known)));
    }
    rows
}
