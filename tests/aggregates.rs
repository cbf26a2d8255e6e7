//! Aggregates through the whole command. Small groups have their answers written out, worked out
//! with exact fractions apart from this program; of large ones the exact answer is made here by
//! sorting, by sets and in whole numbers, and bounds the approximate one.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::command::Case;

const PIPELINE: &str = r#"
name = "aggregates"
[engine]
cores = CORES
data_dir = "{dir}/data"
batch_rows = 256
[schemas.row]
k = "STRING"
d = "DOUBLE"
m = "DECIMAL(9,2)"
s = "STRING"
ts = "TIMESTAMP"
[sources.rows]
type = "file"
path = "{dir}/in"
format = "json"
schema = "row"
event_time = "ts"
watermark = { delay = "1h", emit = "per_batch" }
[transforms.windows]
type = "window"
inputs = ["rows"]
key = ["k"]
window = { type = "tumbling", size = "1m" }
[transforms.windows.select]
SELECT
[sinks.out]
type = "file"
inputs = ["windows"]
path = "{dir}/out"
format = "json"
"#;

/// Rows of `input` aggregated by `select` (name, expression), on one shard and on two: a row a key,
/// by key.
fn aggregated(select: &[(&str, &str)], window: &str, input: &str) -> Vec<Vec<Value>> {
    let text: Vec<String> = select.iter().map(|(name, e)| format!("{name} = \"{e}\"")).collect();
    let text = PIPELINE.replace("SELECT", &text.join("\n"));
    let text = text.replace("type = \"tumbling\", size = \"1m\"", window);
    let run = |cores: usize| {
        let case = Case::new(&text.replace("CORES", &cores.to_string()));
        case.file("in", input).run_well(&["--quiet"]);
        let mut rows = case.rows("out");
        rows.sort_by_key(|row| row["k"].to_string());
        rows
    };
    vec![run(1), run(2)]
}

/// A group's values of `d`, `NULL` among them, and what is expected of `select`, as JSON; numbers
/// that no float is exactly may differ in the last bits.
type Group<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);

fn check(select: &[(&str, &str)], groups: &[Group<'_>]) {
    let mut input = String::new();
    for (key, values, _) in groups {
        for value in *values {
            input += &format!("{{\"k\":\"{key}\",\"d\":{value},\"ts\":0}}\n");
        }
    }
    let select = [&[("k", "k")], select].concat();
    for rows in aggregated(&select, "type = \"tumbling\", size = \"1m\"", &input) {
        assert_eq!(rows.len(), groups.len());
        for (row, (key, _, expected)) in rows.iter().zip(groups) {
            assert_eq!(row["k"], **key, "groups are given by key");
            for ((name, text), expected) in select[1..].iter().zip(*expected) {
                let expected: Value = serde_json::from_str(expected).expect("JSON");
                let got = &row[*name];
                assert!(is_same(got, &expected), "{key}: {text} is {got}, not {expected}");
            }
        }
    }
}

/// As texts, so that -0.0 is not 0.0; or, for floats, within 2^-50 of each other.
fn is_same(got: &Value, expected: &Value) -> bool {
    match (got.as_f64(), expected.as_f64()) {
        (Some(a), Some(b)) if a != b => (a - b).abs() <= b.abs() * 2f64.powi(-50),
        _ => {
            let [got, expected] = [got, expected].map(Value::to_string);
            got == expected
        }
    }
}

#[test]
fn doubles_are_summed_and_compared_as_sql_says() {
    check(
        &[("sum", "SUM(d)"), ("avg", "AVG(d)"), ("min", "MIN(d)"), ("max", "MAX(d)")],
        &[
            // Sums are taken in order of arrival, so this is 1.5 - 2.25 + 4.0 + 0.1 + 0.2 exactly.
            (
                "a",
                &["1.5", "null", "-2.25", "4.0", "0.1", "0.2"],
                &["3.5500000000000003", "0.7100000000000001", "-2.25", "4.0"],
            ),
            ("b: no value", &["null", "null"], &["null", "null", "null", "null"]),
            ("c", &["-7.0"], &["-7.0", "-7.0", "-7.0", "-7.0"]),
            // The sum of nothing is 0.0, and so of nothing and -0.0; the least zero is negative.
            ("d", &["-0.0"], &["0.0", "0.0", "-0.0", "-0.0"]),
            ("e", &["0.0", "-0.0"], &["0.0", "0.0", "-0.0", "0.0"]),
            ("f", &["-0.0", "null", "0.0"], &["0.0", "0.0", "-0.0", "0.0"]),
            (
                "g",
                &["-1e-300", "-0.0", "5e-324"],
                &["-1e-300", "-3.333333333333333e-301", "-1e-300", "5e-324"],
            ),
            // What is not finite has no value.
            ("h", &["1e308", "1e308"], &["null", "null", "1e308", "1e308"]),
        ],
    );
}

#[test]
fn an_aggregate_over_no_row_is_null_or_zero() {
    let none = "FILTER (WHERE k = 'nobody')";
    let calls = [
        ("SUM(d)", "null"),
        ("AVG(d)", "null"),
        ("MIN(d)", "null"),
        ("MAX(d)", "null"),
        ("VAR_POP(d)", "null"),
        ("STDDEV_POP(d)", "null"),
        ("APPROX_PERCENTILE(d, 0.5)", "null"),
        ("APPROX_COUNT_DISTINCT(d)", "0"),
        ("COUNT(d)", "0"),
        ("TOP_K(d, 3)", "null"),
        ("ARRAY_AGG(d)", "null"),
    ];
    let names: Vec<String> = (0..calls.len()).map(|i| format!("c{i}")).collect();
    let texts: Vec<String> = calls.iter().map(|(call, _)| format!("{call} {none}")).collect();
    let select: Vec<(&str, &str)> =
        names.iter().zip(&texts).map(|(name, text)| (&name[..], &text[..])).collect();
    let expected: Vec<&str> = calls.iter().map(|(_, value)| *value).collect();
    check(&select, &[("a", &["1.0", "null"], &expected), ("b", &["null"], &expected)]);
}

#[test]
fn variances_are_those_of_the_population() {
    check(
        &[("var", "VAR_POP(d)"), ("sd", "STDDEV_POP(d)")],
        &[
            (
                "a",
                &["1.5", "-2.25", "null", "4.0", "0.1", "0.2"],
                &["4.1684", "2.0416659863944444"],
            ),
            ("b", &["3", "-7", "12", "12"], &["61.5", "7.842193570679061"]),
            // A sum of squares would have lost these: they need 60 bits.
            (
                "c",
                &["1000000004", "1000000007", "1000000013", "1000000016"],
                &["22.5", "4.743416490252569"],
            ),
            ("d", &["3.25", "null"], &["0.0", "0.0"]),
            ("e: no value", &["null"], &["null", "null"]),
        ],
    );
}

#[test]
fn top_k_has_the_largest_values_and_array_agg_all_of_them() {
    check(
        &[("top", "TOP_K(d, 3)"), ("all", "ARRAY_AGG(d)"), ("one", "TOP_K(d, 1)")],
        &[
            (
                "a",
                &["2.0", "null", "7.5", "-1.0", "7.5", "3.0"],
                &["[7.5,7.5,3.0]", "[2.0,null,7.5,-1.0,7.5,3.0]", "[7.5]"],
            ),
            // 1.0 is the most frequent value here, and not among the largest.
            (
                "b",
                &["1.0", "1.0", "1.0", "4.0", "3.0", "2.0"],
                &["[4.0,3.0,2.0]", "[1.0,1.0,1.0,4.0,3.0,2.0]", "[4.0]"],
            ),
            ("c", &["null", "-3.0"], &["[-3.0]", "[null,-3.0]", "[-3.0]"]),
            ("d: no value", &["null", "null"], &["null", "[null,null]", "null"]),
        ],
    );
}

/// A number from 0 to 2^32 - 1 for each `i`, as irregular as is needed here (splitmix64).
fn mixed(i: u64) -> u64 {
    let mut z = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) >> 32
}

/// Values of `d` in cents, heavy at the low end: from 0.01 to some 40 000.
fn cents(i: u64) -> i64 {
    let spread = mixed(i) % 1000 + 1;
    (mixed(i + 1_000_000) % (spread * spread * 4) + 1) as i64
}

const ROWS: u64 = 20_000;
/// Four panes make a window, so that what is measured has been merged.
const SLIDING: &str = "type = \"sliding\", size = \"4s\", slide = \"1s\"";

/// A row of value cents(i) at each i, spread over four seconds; one in eleven is NULL.
fn large() -> (String, Vec<i64>) {
    let (mut input, mut values) = (String::new(), Vec::new());
    for i in 0..ROWS {
        let value = if i % 11 == 0 {
            "null".to_string()
        } else {
            values.push(cents(i));
            format!("{}.{:02}", cents(i) / 100, cents(i) % 100)
        };
        let (ts, text) = (i % 4000, mixed(i) % 7000);
        input += &format!(
            "{{\"k\":\"k\",\"d\":{value},\"m\":{value},\"s\":\"a text of some length {text}\",\"ts\":{ts}}}\n"
        );
    }
    values.sort_unstable();
    (input, values)
}

/// The one window that has all rows, of both runs.
fn whole(select: &[(&str, &str)], input: &str) -> Vec<Value> {
    let select = [&[("k", "k"), ("start", "window_start")], select].concat();
    let runs = aggregated(&select, SLIDING, input).into_iter();
    runs.map(|rows| rows.into_iter().find(|row| row["start"] == 0).expect("a window")).collect()
}

#[test]
fn a_percentile_is_within_one_percent_of_the_exact_one() {
    let (input, values) = large();
    let parts = [0.0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0];
    let names: Vec<(String, String)> = (parts.iter().enumerate())
        .map(|(i, part)| (format!("p{i}"), format!("APPROX_PERCENTILE(d, {part})")))
        .collect();
    let mut select: Vec<(&str, &str)> =
        names.iter().map(|(name, text)| (&name[..], &text[..])).collect();
    select.push(("m", "APPROX_PERCENTILE(m, 0.5)"));
    for row in whole(&select, &input) {
        for (part, (name, _)) in parts.iter().zip(&names) {
            let exact = values[(part * (values.len() - 1) as f64) as usize] as f64 / 100.0;
            let got = row[name].as_f64().expect("a number");
            assert!((got - exact).abs() <= 0.01 * exact, "{part}: {got}, exactly {exact}");
        }
        assert_eq!(row["m"], row["p3"], "a DECIMAL is taken as a DOUBLE");
    }
}

#[test]
fn distinct_values_are_counted_exactly_when_few_and_within_five_percent_when_many() {
    let (input, values) = large();
    let exact: BTreeSet<i64> = values.iter().copied().collect();
    let texts: BTreeSet<u64> = (0..ROWS).map(|i| mixed(i) % 7000).collect();
    let select = [
        ("values", "APPROX_COUNT_DISTINCT(d)"),
        ("texts", "APPROX_COUNT_DISTINCT(s)"),
        ("few", "APPROX_COUNT_DISTINCT(MOD(CAST(m AS BIGINT), 100))"),
        ("exact_few", "COUNT(DISTINCT MOD(CAST(m AS BIGINT), 100))"),
    ];
    for row in whole(&select, &input) {
        for (name, exact) in [("values", exact.len()), ("texts", texts.len())] {
            assert!(exact > 5000, "{name}: {exact} are many");
            // Three standard errors of 1.6 %.
            let error = row[name].as_f64().expect("a number") / exact as f64 - 1.0;
            assert!(error.abs() <= 0.05, "{name}: {} where there are {exact}", row[name]);
        }
        assert_eq!(row["few"], row["exact_few"]);
        assert_eq!(row["few"], 100);
    }
}

#[test]
fn merged_sums_and_variances_are_those_of_all_values() {
    let (input, values) = large();
    let (mut sum, mut squares) = (0i128, 0i128);
    for &value in &values {
        sum += i128::from(value);
        squares += i128::from(value) * i128::from(value);
    }
    let n = values.len() as i128;
    let variance = (n * squares - sum * sum) as f64 / (n * n) as f64 / 1e4;
    let mean = sum as f64 / n as f64 / 100.0;
    let select = [
        ("sum", "SUM(d)"),
        ("avg", "AVG(d)"),
        ("var", "VAR_POP(d)"),
        ("sd", "STDDEV_POP(m)"),
        ("min", "MIN(d)"),
        ("max", "MAX(d)"),
        ("m", "SUM(m)"),
        ("top", "TOP_K(m, 50)"),
    ];
    for row in whole(&select, &input) {
        let close = |name: &str, exact: f64| {
            let got = row[name].as_f64().expect("a number");
            assert!((got - exact).abs() <= exact * 1e-12, "{name}: {got}, exactly {exact}");
        };
        close("sum", sum as f64 / 100.0);
        close("avg", mean);
        close("var", variance);
        close("sd", variance.sqrt());
        close("min", values[0] as f64 / 100.0);
        close("max", values[values.len() - 1] as f64 / 100.0);
        close("m", sum as f64 / 100.0);
        let largest: Vec<f64> =
            values.iter().rev().take(50).map(|&value| value as f64 / 100.0).collect();
        assert_eq!(row["top"], Value::from(largest));
    }
}
