//! The pipelines that are simulated, their input, and what they must put out: for the aggregate,
//! the window and the lookups by a plain computation over all rows, for the others by one run that
//! nothing disturbs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::lookups;

use cutwater::app::catalogue::CATALOGUE;
use cutwater::plan;
use cutwater::plan::graph::Pipeline;
use cutwater::store::chance::Chance;

use super::connect::Blocks;

/// Rows of an input.
const ROWS: usize = 720;
/// Rows of a block.
const BLOCK_ROWS: usize = 4;
/// How far rows are out of order, ms, that are not late.
const DELAY_MS: i64 = 40;

/// How far some rows are behind, ms: these are late.
const LATE_MS: i64 = 300;

/// The pipelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Running aggregates by key.
    Aggregate,
    /// Sliding windows with late rows and sets of distinct values.
    Window,
    /// A relaxed pattern, whose runs wait for long.
    Pattern,
    /// Two sources, one stage, and another one behind it by another key.
    Two,
    /// Lookups: a table that is read before the stream and changed after the first checkpoint, and
    /// one that is updated while the stream runs.
    Lookup,
}

const HEAD: &str = r#"
name = "sim"
[engine]
data_dir = "/data"
[checkpoint]
interval = "1s"
[schemas.row]
id = "BIGINT"
k = "STRING"
v = "BIGINT"
ts = "TIMESTAMP"
[sources.a]
type = "file"
path = "a"
format = "json"
schema = "row"
event_time = "ts"
watermark = { delay = "40ms", emit = "per_event" }
"#;

const AGGREGATE: &str = r#"
[transforms.t]
type = "aggregate"
inputs = ["a"]
key = ["k"]
select = { k = "k", id = "LAST(id)", n = "COUNT(*)", total = "SUM(v)", most = "MAX(v)" }
[sinks.out]
type = "file"
inputs = ["t"]
path = "out"
format = "json"
"#;

const WINDOW: &str = r#"
[transforms.t]
type = "window"
inputs = ["a"]
key = ["k"]
window = { type = "sliding", size = "120ms", slide = "40ms" }
allowed_lateness = "60ms"
select = { k = "k", start = "window_start", n = "COUNT(*)", total = "SUM(v)", kinds = "COUNT(DISTINCT v)" }
[sinks.out]
type = "file"
inputs = ["t"]
path = "out"
format = "json"
[sinks.late]
type = "file"
inputs = ["t.late"]
path = "late"
format = "json"
"#;

const PATTERN: &str = r#"
[transforms.t]
type = "pattern"
inputs = ["a"]
key = ["k"]
within = "300ms"
after_match = "skip_past_last_event"
steps = [
  { name = "s", where = "v < 4" },
  { name = "b", contiguity = "followed_by", where = "v > FIRST(s.v) + 3" },
  { name = "e", contiguity = "followed_by", where = "v < 3" },
]
select = { k = "FIRST(s.k)", s = "FIRST(s.id)", b = "FIRST(b.id)", e = "LAST(e.id)" }
[sinks.out]
type = "file"
inputs = ["t"]
path = "out"
format = "json"
"#;

const TWO: &str = r#"
[sources.b]
type = "file"
path = "b"
format = "json"
schema = "row"
event_time = "ts"
watermark = { delay = "40ms", emit = "per_event" }
[transforms.both]
type = "union"
inputs = ["a", "b"]
[transforms.t]
type = "window"
inputs = ["both"]
key = ["k"]
window = { type = "tumbling", size = "50ms" }
select = { k = "k", v = "MAX(v)", n = "COUNT(*)", total = "SUM(v)", ts = "window_start" }
[transforms.u]
type = "window"
inputs = ["t"]
key = ["v"]
window = { type = "tumbling", size = "200ms" }
select = { v = "v", start = "window_start", n = "COUNT(*)", total = "SUM(total)" }
[sinks.out]
type = "file"
inputs = ["t"]
path = "out"
format = "json"
[sinks.totals]
type = "file"
inputs = ["u"]
path = "totals"
format = "json"
"#;

/// A row of the input.
#[derive(Clone, Debug)]
pub struct Row {
    pub id: usize,
    pub key: usize,
    pub value: i64,
    pub time: i64,
}

/// Sinks of a pipeline and the rows of each, sorted.
pub type Output = BTreeMap<String, Vec<String>>;

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] =
        [Kind::Aggregate, Kind::Window, Kind::Pattern, Kind::Two, Kind::Lookup];

    /// The checked pipeline.
    pub fn pipeline(self) -> Pipeline {
        let text = match self {
            Kind::Aggregate => AGGREGATE,
            Kind::Window => WINDOW,
            Kind::Pattern => PATTERN,
            Kind::Two => TWO,
            Kind::Lookup => lookups::PIPELINE,
        };
        read(&format!("{HEAD}{text}"))
    }

    /// Names of its sinks.
    pub fn sinks(self) -> &'static [&'static str] {
        match self {
            Kind::Aggregate | Kind::Pattern => &["out"],
            Kind::Window => &["out", "late"],
            Kind::Two => &["out", "totals"],
            Kind::Lookup => &["out", "moving"],
        }
    }

    /// The blocks of its sources, for a number.
    pub fn input(self, number: u64) -> BTreeMap<String, Blocks> {
        let has_two = matches!(self, Kind::Two | Kind::Lookup);
        let names: &[&str] = if has_two { &["a", "b"] } else { &["a"] };
        let named = names.iter().enumerate();
        let streams = named.map(|(i, name)| {
            // Where sources meet is a matter of when barriers come, so what is late is, too.
            let late_ms = if names.len() > 1 { DELAY_MS } else { LATE_MS };
            let rows = rows(number * 2 + i as u64, ROWS, late_ms);
            (name.to_string(), blocks(&rows))
        });
        let mut input: BTreeMap<String, Blocks> = streams.collect();
        if self == Kind::Lookup {
            input.extend(lookups::tables(number));
        }
        input
    }

    /// As [`Kind::input`], when there is a checkpoint: what need not be read again has changed.
    pub fn input_later(self, number: u64) -> BTreeMap<String, Blocks> {
        let mut input = self.input(number);
        if self == Kind::Lookup {
            input.extend(lookups::changed());
        }
        input
    }

    /// The rows of a sink's parts, each with its epoch, as they are compared.
    ///
    /// # Panics
    /// If they cannot be right together.
    pub fn rows_of(self, sink: &str, parts: &[(u64, String)]) -> Vec<String> {
        if self == Kind::Lookup && sink == "moving" {
            return lookups::without_versions(parts);
        }
        parts.iter().flat_map(|(_, text)| text.lines().map(str::to_string)).collect()
    }

    /// What it puts out, computed plainly, where there is such a computation.
    pub fn plain(self, number: u64) -> Option<Output> {
        let rows = rows(number * 2, ROWS, LATE_MS);
        let mut output = match self {
            Kind::Aggregate => aggregate(&rows),
            Kind::Window => window(&rows),
            Kind::Lookup => {
                let [a, b] = [0, 1].map(|i| self::rows(number * 2 + i, ROWS, DELAY_MS));
                lookups::plain(number, &a, &b)
            }
            _ => return None,
        };
        output.values_mut().for_each(|rows| rows.sort());
        Some(output)
    }
}

fn rows(seed: u64, count: usize, late_ms: i64) -> Vec<Row> {
    let mut chance = Chance::new(seed);
    let mut time = 1_000_000;
    let row = |id| {
        time += chance.below(9) as i64;
        // Some keys come often, most now and then; some rows are late.
        let key = if chance.one_in(3) { chance.below(4) } else { chance.below(90) };
        let behind = if chance.one_in(12) { late_ms } else { DELAY_MS };
        let time = time - chance.below(behind as usize) as i64;
        Row { id, key, value: chance.below(10) as i64, time }
    };
    (0..count).map(row).collect()
}

/// The checked pipeline of a text.
pub fn read(text: &str) -> Pipeline {
    let outcome = plan::read(&plan::Input {
        path: "sim.toml",
        text,
        overrides: &[],
        environment: &|_| None,
        catalogue: &CATALOGUE,
    });
    let found = outcome.found;
    outcome.pipeline.unwrap_or_else(|| panic!("{found:?}"))
}

/// A key as it is written.
pub fn key_text(key: usize) -> String {
    // Some are too long to lie in a slot.
    if key.is_multiple_of(3) { format!("k{key}") } else { format!("key-number-{key}") }
}

fn blocks(rows: &[Row]) -> Blocks {
    let line = |row: &Row| {
        let Row { id, value, time, .. } = row;
        let key = key_text(row.key);
        format!("{{\"id\":{id},\"k\":\"{key}\",\"v\":{value},\"ts\":{time}}}\n")
    };
    let block = |rows: &[Row]| rows.iter().map(line).collect::<String>().into_bytes();
    Arc::new(rows.chunks(BLOCK_ROWS).map(block).collect())
}

fn aggregate(rows: &[Row]) -> Output {
    let mut keys: BTreeMap<usize, (u64, i64, i64)> = BTreeMap::new();
    let line = |row: &Row| {
        let (count, total, most) = keys.entry(row.key).or_insert((0, 0, i64::MIN));
        (*count, *total, *most) = (*count + 1, *total + row.value, row.value.max(*most));
        let (key, id) = (key_text(row.key), row.id);
        format!("{{\"k\":\"{key}\",\"id\":{id},\"n\":{count},\"total\":{total},\"most\":{most}}}")
    };
    BTreeMap::from([("out".to_string(), rows.iter().map(line).collect())])
}

/// Flink's sliding windows: an on-time window fires once the watermark is at its last ms, a late
/// row that is not too late makes its window fire again at once.
fn window(rows: &[Row]) -> Output {
    const SIZE: i64 = 120;
    const SLIDE: i64 = 40;
    const LATENESS: i64 = 60;
    let mut open: BTreeMap<(i64, usize), Vec<i64>> = BTreeMap::new();
    let (mut out, mut late) = (Vec::new(), Vec::new());
    let mut fire = |start: i64, key: usize, values: &[i64]| {
        let (count, total) = (values.len(), values.iter().sum::<i64>());
        let kinds = values.iter().collect::<BTreeSet<_>>().len();
        let key = key_text(key);
        out.push(format!(
            "{{\"k\":\"{key}\",\"start\":{start},\"n\":{count},\"total\":{total},\"kinds\":{kinds}}}"
        ));
    };
    let mut mark = i64::MIN;
    for row in rows {
        let last = row.time.div_euclid(SLIDE) * SLIDE;
        let starts = (0..SIZE / SLIDE).map(|i| last - i * SLIDE);
        let mut is_late = true;
        for start in starts {
            let end = start + SIZE - 1;
            if end.saturating_add(LATENESS) <= mark {
                continue;
            }
            is_late = false;
            let values = open.entry((start, row.key)).or_default();
            values.push(row.value);
            if end <= mark {
                fire(start, row.key, values);
            }
        }
        if is_late {
            let Row { id, value, time, .. } = row;
            let key = key_text(row.key);
            late.push(format!("{{\"id\":{id},\"k\":\"{key}\",\"v\":{value},\"ts\":{time}}}"));
        }
        let before = mark;
        mark = mark.max(row.time - DELAY_MS - 1);
        for (&(start, key), values) in &open {
            let end = start + SIZE - 1;
            if before < end && end <= mark {
                fire(start, key, values);
            }
        }
    }
    for (&(start, key), values) in &open {
        if start + SIZE - 1 > mark {
            fire(start, key, values);
        }
    }
    BTreeMap::from([("out".to_string(), out), ("late".to_string(), late)])
}
