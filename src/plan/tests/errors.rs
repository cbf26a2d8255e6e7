//! Wrong files: the code of each mistake, the text that is marked, and the hint.

use super::*;

/// Everything found in a text: code, marked text, hint.
fn found(text: &str, overrides: &[&str]) -> Vec<(String, String, String)> {
    let outcome = outcome(text, overrides);
    let each = outcome.found.iter().map(|found| {
        let marked = &outcome.texts.text(found.span.text)[found.span.start..found.span.end];
        let hint = found.hint.clone().unwrap_or_default();
        (found.code.to_string(), marked.to_string(), hint)
    });
    each.collect()
}

/// A pipeline around `lines` has exactly these mistakes: code, marked text, part of the hint.
fn check(lines: &str, expected: &[(&str, &str, &str)]) {
    check_text(&around(lines), expected);
}

fn check_text(text: &str, expected: &[(&str, &str, &str)]) {
    let found = found(text, &[]);
    let places: Vec<(&str, &str)> =
        found.iter().map(|(code, marked, _)| (code.as_str(), marked.as_str())).collect();
    let wanted: Vec<(&str, &str)> =
        expected.iter().map(|(code, marked, _)| (*code, *marked)).collect();
    assert_eq!(places, wanted, "{found:#?}");
    for ((_, _, hint), (_, _, part)) in found.iter().zip(expected) {
        assert!(hint.contains(part), "{hint:?} has no {part:?}");
    }
}

/// The transform `x` with these keys has exactly these mistakes.
fn check_x(keys: &str, expected: &[(&str, &str, &str)]) {
    check(&format!("[transforms.x]\ninputs = ['t']\n{keys}"), expected);
}

const UNION: &str = "[transforms.x]\ntype = 'union'\ninputs = ['t']\n";

#[test]
fn toml_that_is_none() {
    check_text("a = [1,\n", &[("E0101", "", "")]);
    assert_eq!(found("a = 1\na = 2", &[])[0].0, "E0101");
}

#[test]
fn overrides() {
    let found = found(&around(UNION), &["engine.cores", "engine.batch_rows=many", "egine.cores=1"]);
    let marked: Vec<&str> = found.iter().map(|(_, marked, _)| marked.as_str()).collect();
    assert_eq!(marked, ["engine.cores", "many", "egine.cores"]);
    let codes: Vec<&str> = found.iter().map(|(code, ..)| code.as_str()).collect();
    assert_eq!(codes, ["E0102", "E0203", "E0201"]);
    assert_eq!(found[2].2, "did you mean `engine`?");
}

#[test]
fn environment() {
    check(
        &format!("name = '${{NO}}'\n{UNION}")
            .replace("name", "x.y.z")
            .replace("x.y.z = '${NO}'\n", ""),
        &[],
    );
    check_text(
        &format!("name = 'a ${{NO}} b'\n{}", around(UNION)),
        &[("E0103", "${NO}", "set NO, or write `${NO:-default}`")],
    );
}

#[test]
fn keys_that_are_unknown_or_missing() {
    check_x(
        "type = 'filter'\nwere = 'amount > 1'",
        &[("E0202", "x", ""), ("E0201", "were", "did you mean `where`?")],
    );
    check(
        &format!("{UNION}[engine]\ncore = 2\nbatch_timeout = 5\n"),
        &[("E0201", "core", "did you mean `cores`?"), ("E0203", "5", "")],
    );
    check(&format!("{UNION}[sink.a]\ntype = 'stdout'"), &[("E0201", "sink", "`sinks`")]);
    check(&format!("{UNION}key = ['user_id']\nwindow = 1"), &[("E0201", "window", "")]);
}

#[test]
fn words_units_and_numbers() {
    check(
        &format!(
            "{UNION}[engine]\ncores = 0\nbatch_rows = 70000\nbatch_timeout = '5'\nhttp = 'here'\n\
             [checkpoint]\nmode = 'exactly_ones'\ninterval = '0s'\nunaligned = 'sometimes'\n\
             [state]\nmemory = '64'\nprofile = 'fast'\n"
        ),
        &[
            ("E0206", "0", ""),
            ("E0206", "70000", ""),
            ("E0205", "'5'", "the unit is missing"),
            ("E0206", "'here'", "127.0.0.1:8081"),
            ("E0204", "'exactly_ones'", "did you mean `exactly_once`?"),
            ("E0206", "'0s'", ""),
            ("E0204", "'sometimes'", ""),
            ("E0205", "'64'", "the unit is missing"),
            ("E0204", "'fast'", "`balanced`, `read_heavy` and `write_heavy`"),
        ],
    );
    check(&format!("{UNION}[engine]\ncores = [1, 1]"), &[("E0206", "[1, 1]", "")]);
}

#[test]
fn types_of_components() {
    check_x("type = 'windows'", &[("E0208", "'windows'", "did you mean `window`?")]);
    check(
        &format!("{UNION}[sinks.a]\ntype = 'std_out'\ninputs = ['t']"),
        &[("E0208", "'std_out'", "did you mean `stdout`?")],
    );
    check(
        "[sinks.b]\ntype = 'stdout'\ninputs = ['t']\n[sources.x]\ntype = 'fil'\nschema = 'transaction'",
        &[("E0208", "'fil'", "did you mean `file`?")],
    );
}

#[test]
fn options_of_connectors() {
    check(
        "[sinks.b]\ntype = 'stdout'\ninputs = ['t']\n[sources.x]\ntype = 'generator'\nschema = 'transaction'\nworkload = 'transaction'\nrows = 5000\nsed = 1",
        &[
            ("E0204", "'transaction'", "did you mean `transactions`?"),
            ("E0206", "5000", ""),
            ("E0201", "sed", "keys that may stand here"),
        ],
    );
    check(
        "[sinks.b]\ntype = 'stdout'\ninputs = ['t']\n[sources.x]\ntype = 'file'\nschema = 'transaction'",
        &[("E0202", "x", "")],
    );
}

#[test]
fn names_and_wires() {
    check(
        &format!("{UNION}[sinks.b]\ntype = 'stdout'\ninputs = ['y', 'x.late', 't.reject', 'out']"),
        &[
            ("E0301", "'y'", "`x`"),
            ("E0302", "'x.late'", "it has one output, `x`"),
            ("E0302", "'t.reject'", "did you mean `t.rejected`?"),
            ("E0301", "'out'", ""),
        ],
    );
    check(
        &format!("{UNION}[sources.s]\ntype = 'file'\npath = 'a'\nschema = 'transaction'"),
        &[("E0304", "s", "name it in the `inputs`")],
    );
    // A sink may have the name of what it writes.
    check(&format!("{UNION}[sinks.t]\ntype = 'stdout'\ninputs = ['x']"), &[]);
    check(
        &format!("{UNION}[sinks.\"a.b\"]\ntype = 'stdout'\ninputs = ['x']"),
        &[("E0209", "\"a.b\"", "letters, digits")],
    );
    check_text("name = 'empty'", &[("E0308", "", "[sources.NAME]"), ("E0308", "", "[sinks.NAME]")]);
}

#[test]
fn circles() {
    check(
        "[transforms.x]\ntype = 'union'\ninputs = ['t', 'c']\n\
         [transforms.b]\ntype = 'union'\ninputs = ['x']\n\
         [transforms.c]\ntype = 'union'\ninputs = ['b']\n\
         [transforms.s]\ntype = 'union'\ninputs = ['s']\n",
        &[("E0303", "x", ""), ("E0303", "s", ""), ("E0309", "s", "")][..2],
    );
}

#[test]
fn schemas() {
    check(
        &format!(
            "{UNION}[sources.s]\ntype = 'file'\npath = 'a'\nschema = 'transactions'\n\
             [schemas.a]\nx = 'INT'\ny = 'DECIMAL(30,2)'\nz = 'BIGINT NOT NIL'\n\
             [sinks.s2]\ntype = 'stdout'\ninputs = ['s']"
        ),
        &[
            ("E0401", "'transactions'", "did you mean `transaction`?"),
            ("E0402", "INT", "did you mean `BIGINT`?"),
            ("E0402", "DECIMAL(30,2)", ""),
            ("E0402", "NOT NIL", ""),
        ],
    );
}

#[test]
fn columns() {
    let source = "[sources.s]\ntype = 'file'\npath = 'a'\nschema = 'transaction'\n[sinks.b]\ntype = 'stdout'\ninputs = ['s']\n";
    check(
        &format!("{UNION}{}", source.replace("[sinks", "event_time = 'tz'\n[sinks")),
        &[("E0403", "'tz'", "did you mean `ts`?")],
    );
    check(
        &format!("{UNION}{}", source.replace("[sinks", "event_time = 'txn_id'\n[sinks")),
        &[("E0404", "'txn_id'", "TIMESTAMP")],
    );
    check_x(
        "type = 'dedup'\nkey = ['usr_id', 'country', 'country']",
        &[("E0403", "'usr_id'", "did you mean `user_id`?"), ("E0406", "'country'", "")],
    );
    check_x("type = 'dedup'", &[("E0202", "x", "")]);
    check_x(
        "type = 'flat_map'\neach = \"SPLIT(country, ' ')\"\nas = 'type'",
        &[("E0406", "'type'", "another name")],
    );
    check_x("type = 'flat_map'\neach = 'country'\nas = 'w'", &[("E0502", "'country'", "")]);
}

#[test]
fn event_time_is_asked_for_where_it_is_needed() {
    let text = around(
        "[transforms.x]\ntype = 'window'\ninputs = ['m']\nwindow = { type = 'tumbling', size = '1m' }\n\
         select = { n = 'COUNT(*)' }\n[transforms.m]\ntype = 'union'\ninputs = ['t']",
    );
    let text = text.replacen("event_time = \"ts\"\n", "", 1);
    check_text(&text, &[("E0405", "t", "event_time")]);
    check_text(&text.replace("type = 'tumbling', size = '1m'", "type = 'count', size = 3"), &[]);
    check(
        &format!(
            "{UNION}[sources.s]\ntype = 'file'\npath = 'a'\nschema = 'transaction'\n\
                  watermark = {{ delay = '5s' }}\n[sinks.b]\ntype = 'stdout'\ninputs = ['s']"
        ),
        &[("E0207", "{ delay = '5s' }", "")],
    );
}

#[test]
fn an_option_of_another_format_is_not_ignored() {
    let source = |format: &str| {
        format!(
            "{UNION}[sources.s]\ntype = 'file'\npath = 'a'\nschema = 'transaction'\n{format}\n\
             header = true\n[sinks.b]\ntype = 'stdout'\ninputs = ['s']"
        )
    };
    check(&source("format = 'json'"), &[("E0207", "true", "`format = \"csv\"`")]);
    check(&source(""), &[("E0207", "true", "leave `header` out")]);
    check(&source("format = 'csv'"), &[]);
}

#[test]
fn inputs_of_one_schema() {
    check(
        "[transforms.m]\ntype = 'map'\ninputs = ['t']\nselect = { txn_id = 'txn_id', user = 'user_id' }\n\
         [transforms.x]\ntype = 'union'\ninputs = ['t', 'm']",
        &[("E0306", "'m'", "with a `map`")],
    );
    check(
        &format!(
            "{UNION}[sinks.b]\ntype = 'file'\npath = 'a'\nformat = 'csv'\ninputs = ['x', 't.rejected']"
        ),
        &[("E0306", "'t.rejected'", "")],
    );
}

#[test]
fn expressions_are_marked_inside_their_strings() {
    check_x("type = 'filter'\nwhere = \"amout > 100\"", &[("E0501", "amout", "amount")]);
    check_x("type = 'filter'\nwhere = 'amount + 1'", &[("E0502", "'amount + 1'", "")]);
    check_x(
        "type = 'map'\n[transforms.x.select]\na = '''\nuser_id\n + country'''\nb = 'nothing'",
        &[("E0501", "user_id\n + country", ""), ("E0501", "nothing", "")],
    );
}

#[test]
fn what_hangs_on_a_mistake_is_not_reported_again() {
    check(
        "[transforms.m]\ntype = 'map'\ninputs = ['t']\nselect = { a = 'amout' }\n\
         [transforms.x]\ntype = 'filter'\ninputs = ['m']\nwhere = 'a > 1'",
        &[("E0501", "amout", "amount")],
    );
}

#[test]
fn windows() {
    let keys = |window: &str, more: &str| {
        format!(
            "type = 'window'\nkey = ['user_id']\nwindow = {window}\nselect = {{ n = 'COUNT(*)' }}\n{more}"
        )
    };
    check_x(
        &keys("{ type = 'tumbling', size = '0s' }", "allowed_lateness = '-1s'"),
        &[("E0206", "'0s'", ""), ("E0206", "'-1s'", "")],
    );
    check_x(&keys("{ type = 'tumblin', size = '1s' }", ""), &[("E0204", "'tumblin'", "tumbling")]);
    check_x(
        &keys("{ type = 'sliding', size = '1h' }", ""),
        &[("E0202", "{ type = 'sliding', size = '1h' }", "")],
    );
    check_x(
        &keys("{ type = 'tumbling', size = '1h', slide = '1m' }", ""),
        &[("E0201", "slide", "")],
    );
    check_x(
        &keys("{ type = 'tumbling', size = '1m', offset = '1m' }", ""),
        &[("E0601", "'1m'", "")],
    );
    check_x(
        &keys("{ type = 'cumulative', size = '1h', step = '7m' }", ""),
        &[("E0601", "'1h'", "")],
    );
    check_x(
        &keys("{ type = 'count', size = 10 }", "allowed_lateness = '1m'"),
        &[("E0601", "'1m'", "")],
    );
}

#[test]
fn having() {
    check_x(
        "type = 'aggregate'\nkey = ['user_id']\nselect = { n = 'COUNT(*)' }\nhaving = 'm > 0'",
        &[("E0501", "m", "")],
    );
}

#[test]
fn aggregates() {
    check_x(
        "type = 'aggregate'\nkey = ['user_id']\nselect = { a = 'amount', n = 'COUNT(*)', s = 'SUM(country)' }",
        &[("E0501", "amount", "key"), ("E0501", "country", "")],
    );
}

#[test]
fn patterns() {
    check_x(
        "type = 'pattern'\nkey = ['user_id']\nafter_match = { skip_to_first = 'z' }\n\
         steps = [{ name = 'a', contiguity = 'next' }, { name = 'a', where = 'amout > 1' },\n\
         { name = 'c', contiguity = 'follows', times = 0 }]\n\
         select = { a = 'FIRST(a.user_id)' }",
        &[
            ("E0602", "{ skip_to_first = 'z' }", ""),
            ("E0602", "'next'", ""),
            ("E0602", "'a'", "contiguity = "),
            ("E0602", "'a'", ""),
            ("E0501", "amout", "amount"),
            ("E0204", "'follows'", "followed_by"),
            ("E0602", "0", ""),
        ],
    );
    check_x(
        "type = 'pattern'\nkey = ['user_id']\nafter_match = { skip_to_first = 'z' }\n\
         steps = [{ name = 'a', contiguity = 'next' }, { name = 'a', where = 'amout > 1' },\n\
         { name = 'c', contiguity = 'next', times = 0 }]\n\
         select = { a = 'FIRST(a.user_id)', b = 'LAST(c.amout)' }",
        &[
            ("E0602", "{ skip_to_first = 'z' }", ""),
            ("E0602", "'next'", ""),
            ("E0602", "'a'", ""),
            ("E0602", "'a'", ""),
            ("E0501", "amout", "amount"),
            ("E0602", "0", ""),
            ("E0501", "amout", "amount"),
        ],
    );
}

#[test]
fn joins() {
    let join = |keys: &str| {
        format!(
            "[sources.c]\ntype = 'file'\npath = 'c'\nschema = 'transaction'\nevent_time = 'ts'\n\
             [transforms.x]\ntype = 'join'\ninputs = ['t', 'c']\n{keys}"
        )
    };
    check(&join("on = { user_id = 'user_id' }"), &[("E0207", "x", "")]);
    check(
        &join(
            "on = { user_id = 'country' }\nwithin = { lower = '1h', upper = '0s' }\nselect = { a = 't.amout' }",
        ),
        &[
            ("E0404", "'country'", "CAST"),
            ("E0603", "{ lower = '1h', upper = '0s' }", ""),
            ("E0501", "t.amout", "amount"),
        ],
    );
    check(
        &join(
            "kind = 'full'\non = { user_id = 'user_id' }\nas_of = 'right'\nselect = { a = 't.amount' }",
        ),
        &[("E0603", "'right'", "")],
    );
    check(
        &join("on = { user_id = 'user_id' }\nwithin = { lower = '0s', upper = '1s' }"),
        &[("E0406", "x", "`select`")],
    );
    check_x(
        "type = 'join'\non = { user_id = 'user_id' }\nwithin = { lower = '0s', upper = '1s' }",
        &[("E0307", "'t'", "")],
    );
}

#[test]
fn lookups() {
    check_x(
        "type = 'lookup'\ntable = 'u'\non = { user_id = 'user_id' }\nadd = { a = 'u.amount' }\nunmatched = 'route'",
        &[("E0301", "'u'", "sources: `t`")],
    );
    check(
        "[sources.u]\ntype = 'file'\npath = 'u'\nschema = 'transaction'\n\
         [transforms.x]\ntype = 'lookup'\ninputs = ['t']\ntable = 'u'\non = { usr_id = 'user_id' }\nadd = { amount = 'u.amount' }\n\
         [sinks.b]\ntype = 'stdout'\ninputs = ['x.unmatched']",
        &[("E0403", "usr_id", "user_id"), ("E0302", "'x.unmatched'", "unmatched = \"route\"")],
    );
}

/// File sinks `a`, `b`, ... with these paths have exactly these mistakes.
fn check_folders(paths: &[&str], expected: &[(&str, &str, &str)]) {
    let sinks = paths.iter().zip('a'..).map(|(path, name)| {
        format!("[sinks.{name}]\ntype = 'file'\ninputs = ['x']\npath = '{path}'\n")
    });
    check(&format!("{UNION}{}", sinks.collect::<String>()), expected);
}

#[test]
fn sinks_that_share_a_folder() {
    check_folders(&["out/a", "out/b", "out/a/c", "out"], &[]);
    for same in ["out/a", "out/a/", "./out/a", "out/b/../a"] {
        check_folders(
            &["out/a", "out/b", same],
            &[("E0703", &format!("'{same}'"), "give each its own")],
        );
    }
    for (first, second, count) in [
        ("out", "out/x", 1),
        ("out/x/y", "out", 0),
        (".", "/out", 0),
        (".", "../out", 0),
        (".", "out", 1),
    ] {
        let split = format!("{first}'\npartition_by = 'country");
        let expected = [("E0703", &*format!("'{second}'"), "named by values")];
        check_folders(&[&split, second], &expected[..count]);
    }
    let one = "[sinks.a]\ntype = 'file'\ninputs = ['x']\npath = 'out'\n";
    let outcome = outcome(&around(&format!("{UNION}{one}{}", one.replace("s.a", "s.b"))), &[]);
    let [found] = &outcome.found[..] else { panic!("{:?}", outcome.found) };
    assert_eq!(found.message, "the sinks `a` and `b` write into one folder");
    let [(place, why)] = &found.also[..] else { panic!("both places are shown") };
    assert_eq!(why, "the folder of `a`");
    assert!(place.start < found.span.start, "the first one's path");
}

#[test]
fn promises_of_sinks() {
    check(
        &format!("{UNION}[checkpoint]\ninterval = '1s'\nmode = 'exactly_once'"),
        &[("E0701", "\"stdout\"", "at_least_once")],
    );
    check(
        &format!(
            "{UNION}[sinks.r]\ntype = 'redis'\ninputs = ['x']\n[checkpoint]\ninterval = '1s'\nmode = 'at_least_once'"
        ),
        &[],
    );
}

#[test]
fn rows_of_tests_and_values() {
    check(
        &format!(
            "{UNION}[[tests]]\nname = 'a'\nrows = {{ u = [], t = [{{ user = 1 }}, {{ user_id = 'x' }}] }}\nexpect = {{ y = [], x = [{{ amount = true }}] }}"
        ),
        &[
            ("E0301", "u", "`t`"),
            ("E0407", "user", ""),
            ("E0407", "'x'", ""),
            ("E0301", "y", ""),
            ("E0407", "true", ""),
        ],
    );
    let values = around(
        "[sources.x]\ntype = 'values'\nschema = 'transaction'\nrows = [{ user_id = 'one' }]\n[sinks.b]\ntype = 'stdout'\ninputs = ['t']",
    );
    let outcome = outcome(&values, &[]);
    // It will be rejected as in any source, so it is no error.
    assert!(outcome.pipeline.is_some());
    assert_eq!(outcome.found[0].severity, Severity::Warning);
}

#[test]
fn not_built_where_nothing_can_be_said_of_its_rows() {
    check_x("type = 'async_lookup'\nurl = 'x'\ncapacity = 100", &[("E0901", "'async_lookup'", "")]);
}

#[test]
fn all_mistakes_of_a_file_come_at_once_in_its_order() {
    check(
        "[transforms.x]\ntype = 'filter'\ninputs = ['t']\nwhere = 'amout > 1'\n\
         [transforms.y]\ntype = 'windw'\ninputs = ['z']\n\
         [engine]\ncors = 2\nbatch_rows = -1\n[schemas.s]\na = 'INT'\n",
        &[
            ("E0501", "amout", "amount"),
            ("E0208", "'windw'", "window"),
            ("E0301", "'z'", ""),
            ("E0201", "cors", "cores"),
            ("E0206", "-1", ""),
            ("E0402", "INT", "BIGINT"),
        ],
    );
}
