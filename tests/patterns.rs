//! Patterns through the command.

use crate::command::{Case, json_lines};

const PIPELINE: &str = "\
[sources.rows]
type = 'values'
schema = 'row'
event_time = 'ts'
watermark = { delay = '0s', emit = 'per_event' }
rows = [ {rows} ]

[schemas.row]
id = 'BIGINT NOT NULL'
user = 'BIGINT NOT NULL'
ts = 'TIMESTAMP NOT NULL'

[transforms.found]
type = 'pattern'
inputs = ['rows']
key = ['user']
{most}
{after}
steps = [
    { name = 'a', where = 'id < 100' },
    { name = 'b', contiguity = 'followed_by_any', where = 'id >= 100' },
]
select = { a = 'FIRST(a.id)', b = 'FIRST(b.id)' }

[sinks.out]
type = 'file'
inputs = ['found']
path = '{dir}/out'
format = 'json'
";

/// The matches of rows of (id, user), a millisecond apart, and partial matches given up.
fn matches(rows: &[(u32, u32)], most: &str, after: &str) -> (Vec<(i64, i64)>, u64) {
    let row =
        |(i, (id, user)): (usize, &(u32, u32))| format!("{{ id = {id}, user = {user}, ts = {i} }}");
    let rows: Vec<String> = rows.iter().enumerate().map(row).collect();
    let text = PIPELINE.replace("{rows}", &rows.join(", "));
    let case = Case::new(&text.replace("{most}", most).replace("{after}", after));
    case.run_well(&["--report", "report.json"]);
    let id = |value: &serde_json::Value| value.as_i64().expect("an id");
    let mut found: Vec<(i64, i64)> =
        case.rows("out").iter().map(|row| (id(&row["a"]), id(&row["b"]))).collect();
    found.sort_unstable();
    let given_up = &case.report()["transforms"]["found"]["partial_matches_given_up"];
    (found, given_up.as_u64().expect("a count"))
}

#[test]
fn a_key_with_too_many_partial_matches_gives_up_those_that_began_first() {
    // Three begin for user 1; the first is given up for the third. User 2 has room.
    let rows = [(1, 1), (2, 1), (7, 2), (3, 1), (100, 1), (101, 2), (102, 1)];
    let all = [(1, 100), (1, 102), (2, 100), (2, 102), (3, 100), (3, 102), (7, 101)];
    assert_eq!(matches(&rows, "", ""), (all.to_vec(), 0));
    let few = [(2, 100), (2, 102), (3, 100), (3, 102), (7, 101)];
    assert_eq!(matches(&rows, "max_partial_matches = 2", ""), (few.to_vec(), 1));
    // One at a time: each new one ends the one before.
    let one = [(3, 100), (3, 102), (7, 101)];
    assert_eq!(matches(&rows, "max_partial_matches = 1", ""), (one.to_vec(), 2));
}

#[test]
fn a_bound_on_partial_matches_is_a_number_from_1_on() {
    let text = PIPELINE.replace("{rows}", "").replace("{after}", "");
    let case = Case::new(&text.replace("{most}", "max_partial_matches = 0"));
    let output = case.run(&["validate", "p.toml"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors.contains("`max_partial_matches` must be at least 1"), "{errors}");
    assert_eq!(errors.matches("error[").count(), 1, "{errors}");
}

/// Rows of a source: (id, user, ts); `eager` gives what the pattern says of each match, in turn.
fn eager(rows: &[(u32, u32, i64)], delay_ms: i64) -> Vec<(String, i64, i64)> {
    let row =
        |(id, user, ts): &(u32, u32, i64)| format!("{{ id = {id}, user = {user}, ts = {ts} }}");
    let rows: Vec<String> = rows.iter().map(row).collect();
    let text = PIPELINE.replace("{rows}", &rows.join(", "));
    let text = text.replace("{most}", "emit = 'eager'").replace("{after}", "");
    let text = text.replace("delay = '0s'", &format!("delay = '{delay_ms}ms'"));
    let text = text.replace("type = 'file'", "type = 'stdout'").replace("path = '{dir}/out'\n", "");
    let case = Case::new(&text);
    let output = case.run(&["run", "p.toml", "--quiet", "--set", "engine.cores=1"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = json_lines(&String::from_utf8_lossy(&output.stdout));
    let mut numbers: Vec<i64> = Vec::new();
    let of = |row: &serde_json::Value| {
        let id = row["match_id"].as_i64().expect("a number");
        let place = numbers.iter().position(|known| *known == id).unwrap_or_else(|| {
            numbers.push(id);
            numbers.len() - 1
        });
        let status = row["status"].as_str().expect("a status").to_string();
        (status, place as i64, row["b"].as_i64().expect("an id"))
    };
    said.iter().map(of).collect()
}

#[test]
fn an_eager_pattern_says_what_it_sees_and_then_what_was_true() {
    let said = |status: &str, number, b| (status.to_string(), number, b);
    // In order: provisional when it arrives, confirmed when the watermark is there.
    let got = eager(&[(1, 1, 0), (100, 1, 10), (2, 2, 500)], 100);
    assert_eq!(got, [said("provisional", 0, 100), said("confirmed", 0, 100)]);
    // The first row comes behind the second: nothing is seen, and the watermark tells.
    let got = eager(&[(100, 1, 10), (1, 1, 0), (2, 2, 500)], 100);
    assert_eq!(got, [said("confirmed", 0, 100)]);
}

#[test]
fn an_eager_pattern_retracts_what_was_not_so() {
    // `next`: a row between the two comes last, so they were not neighbours.
    let text = PIPELINE.replace("contiguity = 'followed_by_any'", "contiguity = 'next'");
    let rows = "{ id = 1, user = 1, ts = 0 }, { id = 100, user = 1, ts = 10 }, \
                { id = 50, user = 1, ts = 5 }, { id = 2, user = 2, ts = 500 }";
    let text = text.replace("{rows}", rows).replace("{most}", "emit = 'eager'");
    let text = text.replace("{after}", "").replace("delay = '0s'", "delay = '100ms'");
    let case = Case::new(&text);
    case.run_well(&["--quiet"]);
    let mut said: Vec<(String, i64, i64)> = case
        .rows("out")
        .iter()
        .map(|row| {
            let number = |name: &str| row[name].as_i64().expect("a number");
            (row["status"].as_str().expect("a status").to_string(), number("a"), number("b"))
        })
        .collect();
    said.sort();
    let row = |status: &str, a, b| (status.to_string(), a, b);
    // 50 and 100 are the neighbours: seen by the ordered rows alone.
    assert_eq!(
        said,
        [row("confirmed", 50, 100), row("provisional", 1, 100), row("retracted", 1, 100)]
    );
}
