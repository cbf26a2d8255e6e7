//! `cutwater test`: the tests that a pipeline file has; and `cutwater explain`.

use crate::command::Case;

/// Sums by key of what is not filtered away, windows of a second. Its source is not there, and its
/// sink's folder must not be either.
const PIPELINE: &str = "\
[sources.pay]
type = 'file'
path = '{dir}/there/is/no/such/file.jsonl'
format = 'json'
event_time = 'ts'
watermark = { delay = '0s', emit = 'per_event' }
schema = 'payment'

[schemas.payment]
user = 'STRING NOT NULL'
amount = 'DECIMAL(10, 2) NOT NULL'
ts = 'TIMESTAMP NOT NULL'

[transforms.large]
type = 'filter'
inputs = ['pay']
where = 'amount > 5'

[transforms.sums]
type = 'window'
inputs = ['large']
key = ['user']
window = { type = 'tumbling', size = '1s' }
select = { user = 'user', total = 'SUM(amount)', n = 'COUNT(*)' }

[sinks.out]
type = 'file'
inputs = ['sums']
path = '{dir}/out'
format = 'json'

[[tests]]
name = 'small ones are left out'
rows = { pay = [
    { user = 'a', amount = 5, ts = 100 },
    { user = 'a', amount = 5.01, ts = 200 },
    { user = 'b', amount = 7.5, ts = 300 },
] }
expect = { sums = [
    { user = 'b', total = 7.5, n = 1 },
    { user = 'a', total = 5.01, n = 1 },
], large = [
    { user = 'a', amount = '5.01', ts = 200 },
    { user = 'b', amount = 7.50, ts = 300 },
], out = [ { user = 'a', total = 5.01, n = 1 }, { user = 'b', total = 7.5, n = 1 } ] }

[[tests]]
name = 'a row too late is in no sum'
rows = { pay = [
    { user = 'a', amount = 6, ts = 900 },
    { user = 'a', amount = 6, ts = 1000 },
    { user = 'a', amount = 8, ts = 999 },
] }
expect = { sums = [ { user = 'a', total = 6, n = 1 }, { user = 'a', total = 6, n = 1 } ] }

[[tests]]
name = 'nothing in, nothing out'
rows = {}
expect = { sums = [], out = [] }
";

#[test]
fn tests_run_through_the_whole_engine_and_touch_no_connector() {
    let case = Case::new(PIPELINE);
    let output = case.run(&["test", "p.toml"]);
    let shown = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{shown}{errors}");
    for name in ["small ones are left out", "a row too late is in no sum", "nothing in"] {
        assert!(shown.contains(&format!("test {name}")), "{shown}");
    }
    assert!(shown.contains("3 passed, 0 failed"), "{shown}");
    assert!(!case.path("out").exists() && !case.path("data").exists());
}

#[test]
fn a_test_that_fails_says_which_rows_and_ends_with_1() {
    let wrong = PIPELINE.replace("{ user = 'b', total = 7.5, n = 1 },\n", "");
    let case = Case::new(&wrong.replace("total = 6, n = 1 } ] }", "total = 14, n = 2 } ] }"));
    let output = case.run(&["test", "p.toml"]);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    for line in [
        "test small ones are left out ... FAILED",
        "sums: 1 rows expected, 2 came",
        "+ {\"user\":\"b\",\"total\":7.50,\"n\":1}",
        "- {\"user\":\"a\",\"total\":14.00,\"n\":2}",
        "test nothing in, nothing out ... ok",
        "1 passed, 2 failed",
    ] {
        assert!(shown.contains(line), "`{line}` is not in:\n{shown}");
    }
    let one = case.run(&["test", "p.toml", "--filter", "nothing in"]);
    assert_eq!(one.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&one.stdout).contains("1 passed, 0 failed"));
}

#[test]
fn a_file_without_tests_and_a_wrong_one_are_told_apart() {
    let none = Case::new(PIPELINE.split("[[tests]]").next().expect("the file before its tests"));
    let output = none.run(&["test", "p.toml"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("it has no [[tests]]"));
    let wrong =
        Case::new(&PIPELINE.replace("expect = { sums = [], out", "expect = { sum = [], out"));
    let output = wrong.run(&["test", "p.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean `sums`?"));
}

const PATTERN: &str = "\
[sources.pay]
type = 'file'
path = 'pay.jsonl'
format = 'json'
event_time = 'ts'
watermark = { delay = '0s', emit = 'per_event' }
schema = 'payment'

[schemas.payment]
user = 'STRING NOT NULL'
amount = 'BIGINT NOT NULL'
ts = 'TIMESTAMP NOT NULL'

[transforms.jump]
type = 'pattern'
inputs = ['pay']
key = ['user']
steps = [
    { name = 'small', where = 'amount < 10' },
    { name = 'large', where = 'amount > 500', contiguity = 'followed_by' },
]
within = '1m'
select = { user = 'LAST(small.user)' }

[sinks.out]
type = 'blackhole'
inputs = ['jump']
";

#[test]
fn a_pattern_is_drawn_with_its_states_and_edges() {
    let case = Case::new(PATTERN);
    let output = case.run(&["explain", "p.toml"]);
    let shown = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    for line in [
        "flowchart LR",
        "%% jump: key user; within: 60000 ms from the first row to the last; after_match: no_skip",
        "p0s0([\"start: small\"])",
        "p0s1[\"large\"]",
        "p0s2(((\"match\")))",
        "p0s0 -->|\"take: (amount #lt; 10)\"| p0s1",
        "p0s1 -->|\"take: (amount #gt; 500)\"| p0s2",
        "p0s1 -.->|\"ignore: NOT (amount #gt; 500)\"| p0s1",
    ] {
        assert!(shown.lines().any(|shown| shown.trim() == line), "`{line}` is not in:\n{shown}");
    }
    assert_eq!(shown.matches("-->|").count() + shown.matches("-.->|").count(), 3, "{shown}");
    let other = case.run(&["explain", "p.toml", "--pattern", "jmp"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&other.stderr).contains("it has jump"));
}
