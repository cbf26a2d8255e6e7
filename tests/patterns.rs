//! Patterns through the command.

use crate::command::Case;

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
