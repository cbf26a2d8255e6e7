//! Flink's answers to patterns (its CEP, 2.3), through the whole command on one shard and on
//! several. That a run may end between any two rows of a case is tested in `sim::cases`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::Value;

use crate::command::{Case, json_lines, own, unpacked};

/// Files of cases.
pub const FILES: [&str; 3] = ["semantics", "named", "public"];
/// Cases of one pipeline.
pub const TOGETHER: usize = 60;

/// Ids by name of the step that took them.
pub type Taken = BTreeMap<String, Vec<i64>>;

/// The cases of a file.
pub fn cases(file: &str) -> Vec<Value> {
    json_lines(&unpacked(&own(&format!("tests/vectors/cep/{file}.jsonl.zst"))))
}

/// Why a case can't be compared at the end of a bounded run, if so.
pub fn left_out(case: &Value) -> Option<&'static str> {
    if case["tie_sensitive"] == true {
        return Some("depend on the order of Java's heap");
    }
    let within = case["pattern"]["within_ms"].as_i64()?;
    let last = &case["events"].as_array().expect("events").last().expect("an event")["ts"];
    let end = last.as_i64().expect("a time") + within;
    let is_short = within <= 0 || case["final_time"].as_i64().expect("a time") <= end;
    is_short.then_some("end before time is over, a bounded run doesn't")
}

/// A case's input, a row a line.
pub fn rows(case: &Value) -> Vec<String> {
    let row = |event: &Value| {
        let mut event = event.clone();
        event["c"] = 1.into();
        format!("{event}\n")
    };
    case["events"].as_array().expect("events").iter().map(row).collect()
}

/// Where a pipeline begins.
pub const HEAD: &str = r#"
name = "cases"
[schemas.event]
id = "BIGINT"
ts = "TIMESTAMP"
t = "STRING"
v = "BIGINT"
c = "BIGINT"
"#;

/// A case's part of a pipeline: source `s{i}`, pattern `p{i}`, and the sinks `m{i}` of its matches
/// and `t{i}` of what timed out; `emit` is `final` or `eager`.
pub fn part(i: usize, case: &Value, path: &str, emit: &str) -> String {
    let pattern = &case["pattern"];
    let mut text = format!(
        "[sources.s{i}]\ntype = 'file'\npath = '{path}in{i}.jsonl'\nformat = 'json'\n\
         schema = 'event'\nevent_time = 'ts'\nwatermark = {{ delay = '0s', emit = 'per_event' }}\n\
         [transforms.p{i}]\ntype = 'pattern'\ninputs = ['s{i}']\nkey = ['c']\nemit = '{emit}'\nsteps = {}\n",
        inline(&pattern["steps"]),
    );
    if let Some(within) = pattern["within_ms"].as_i64() {
        let _ = match pattern["within_type"].as_str() {
            Some("previous_and_current") => {
                writeln!(text, "within = {{ between_events = '{within}ms' }}")
            }
            _ => writeln!(text, "within = '{within}ms'"),
        };
    }
    if let Some(after) = pattern.get("after_match") {
        let _ = writeln!(text, "after_match = {}", inline(after));
    }
    let names = names(&pattern["steps"]);
    let select: Vec<String> =
        names.iter().map(|name| format!("'{name}' = 'ARRAY_AGG({name}.id)'")).collect();
    let _ = writeln!(text, "select = {{ {} }}", select.join(", "));
    let sinks: &[(&str, &str)] = match has_time(case) {
        true => &[("m", ""), ("t", ".timed_out")],
        false => &[("m", "")],
    };
    for (sink, port) in sinks {
        let _ = writeln!(
            text,
            "[sinks.{sink}{i}]\ntype = 'file'\ninputs = ['p{i}{port}']\npath = '{path}{sink}{i}'\n\
             format = 'json'",
        );
    }
    text
}

/// Whether partial matches of the case time out.
pub fn has_time(case: &Value) -> bool {
    case["pattern"].get("within_ms").is_some()
}

/// A value as TOML writes it in a line.
fn inline(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            format!("[ {} ]", items.iter().map(inline).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| format!("{name} = {}", inline(value));
            format!("{{ {} }}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Steps that take rows.
fn names(steps: &Value) -> Vec<String> {
    let of = |step: &Value| match step.get("group") {
        Some(group) => names(group),
        None if step["contiguity"].as_str().is_some_and(|word| word.starts_with("not_")) => {
            Vec::new()
        }
        None => vec![step["name"].as_str().expect("a name").to_string()],
    };
    steps.as_array().expect("steps").iter().flat_map(of).collect()
}

fn taken(steps: &Value) -> Taken {
    let steps: BTreeMap<String, Option<Vec<i64>>> =
        serde_json::from_value(steps.clone()).expect("ids by step");
    let some =
        |(name, ids): (String, Option<Vec<i64>>)| Some((name, ids.filter(|i| !i.is_empty())?));
    steps.into_iter().filter_map(some).collect()
}

/// Compares what sinks were given with Flink's answer; what is other, if anything.
pub fn difference(case: &Value, matches: &[Value], timed_out: &[Value]) -> Option<&'static str> {
    let sorted = |found: Vec<Taken>| {
        let mut found = found;
        found.sort();
        if case["dup_matches"] == true {
            found.dedup();
        }
        found
    };
    let flinks = |what: &str| -> Vec<Taken> {
        case[what].as_array().expect("an array").iter().map(|m| taken(&m["steps"])).collect()
    };
    if sorted(matches.iter().map(taken).collect()) != sorted(flinks("matches")) {
        return Some("matches");
    }
    let set = |found: Vec<Taken>| found.into_iter().collect::<BTreeSet<_>>();
    let is_other =
        has_time(case) && set(timed_out.iter().map(taken).collect()) != set(flinks("timed_out"));
    is_other.then_some("timed_out")
}

/// Of the rows of an eager pattern those that are confirmed, without what is said of them.
///
/// # Panics
/// If a match is said to be provisional and neither confirmed nor retracted, or more than once.
pub fn confirmed(rows: Vec<Value>) -> Vec<Value> {
    let mut stories: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    let mut confirmed = Vec::new();
    for mut row in rows {
        let fields = row.as_object_mut().expect("a row");
        let id = fields.remove("match_id").and_then(|id| id.as_i64()).expect("a number");
        let status = fields.remove("status").expect("a status");
        let status = status.as_str().expect("a text").to_string();
        if status == "confirmed" {
            confirmed.push(row);
        }
        stories.entry(id).or_default().push(status);
    }
    for (id, mut story) in stories {
        story.sort();
        // Flink finds some matches twice; those are confirmed twice.
        story.dedup();
        let story: Vec<&str> = story.iter().map(String::as_str).collect();
        let is_right = matches!(
            story[..],
            ["confirmed"] | ["confirmed", "provisional"] | ["provisional", "retracted"]
        );
        assert!(is_right, "match {id}: {story:?}");
    }
    confirmed
}

/// Runs all cases on so many shards, some in one pipeline.
fn check(shards: usize, emit: &str) {
    for file in FILES {
        let all = cases(file);
        let mut out: BTreeMap<&str, usize> = BTreeMap::new();
        all.iter().filter_map(left_out).for_each(|why| *out.entry(why).or_default() += 1);
        let used: Vec<&Value> = all.iter().filter(|case| left_out(case).is_none()).collect();
        let mut differ = Vec::new();
        for cases in used.chunks(TOGETHER) {
            let folder = Case::new("");
            let mut text = format!("{HEAD}\n[engine]\ncores = {shards}\ndata_dir = 'data'\n");
            for (i, case) in cases.iter().enumerate() {
                folder.file(&format!("in{i}.jsonl"), rows(case).concat());
                text.push_str(&part(i, case, "", emit));
            }
            folder.file("p.toml", text);
            folder.run_well(&["--quiet"]);
            for (i, case) in cases.iter().enumerate() {
                let (mut matches, timed_out) =
                    (folder.rows(&format!("m{i}")), folder.rows(&format!("t{i}")));
                if emit == "eager" {
                    matches = confirmed(matches);
                }
                if let Some(what) = difference(case, &matches, &timed_out) {
                    differ.push(format!("{} ({what})", case["id"]));
                }
            }
        }
        let (total, equal) = (all.len(), used.len() - differ.len());
        println!("{shards} shards, {emit}, {file}: {total} cases, {equal} equal, left out {out:?}");
        assert_eq!(differ, Vec::<String>::new(), "{file} on {shards} shards");
        assert!(equal * 4 > total * 3, "most cases are compared");
    }
}

#[test]
fn answers_are_flinks_on_one_shard() {
    check(1, "final");
}

#[test]
fn answers_are_flinks_on_two_shards() {
    check(2, "final");
}

#[test]
fn answers_are_flinks_on_eight_shards() {
    check(8, "final");
}

#[test]
fn what_eager_patterns_confirm_is_flinks_answer() {
    check(2, "eager");
}

/// `validate` of a pipeline with these cases' patterns: exit code, standard error, and the keys of
/// the lines that are marked.
fn validate(cases: &[Value]) -> (Option<i32>, String, Vec<String>) {
    let parts: String =
        cases.iter().enumerate().map(|(i, case)| part(i, case, "", "final")).collect();
    let text = format!("{HEAD}\n[engine]\ncores = 1\ndata_dir = 'data'\n{parts}");
    let output = Case::new(&text).run(&["validate", "p.toml"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let places = said.lines().filter_map(|line| line.trim_start().strip_prefix("--> p.toml:"));
    let key = |place: &str| {
        let line: usize = place.split(':').next()?.parse().ok()?;
        Some(text.lines().nth(line - 1)?.split(" = ").next()?.to_string())
    };
    let keys = places.map(|place| key(place).expect("a line of the file")).collect();
    (output.status.code(), said, keys)
}

#[test]
fn what_flink_refuses_is_refused_with_reason_and_place() {
    let all = cases("invalid");
    let mut wrong = Vec::new();
    for case in &all {
        let (code, errors, keys) = validate(std::slice::from_ref(case));
        let is_placed =
            |key: &String| ["steps", "after_match", "select", "within"].contains(&key.as_str());
        if code != Some(2)
            || !errors.contains("error[E")
            || keys.is_empty()
            || !keys.iter().all(is_placed)
        {
            wrong.push(format!("{}: {code:?} {keys:?} {errors}", case["id"]));
        }
    }
    println!("invalid: {} cases, {} refused", all.len(), all.len() - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_flink_takes_is_taken() {
    for file in FILES.into_iter().chain(["odd_but_accepted"]) {
        for cases in cases(file).chunks(200) {
            let (code, said, _) = validate(cases);
            assert_eq!(code, Some(0), "{file}: {said}");
        }
    }
}
