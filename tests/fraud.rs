//! The fraud pipeline against what Apache Flink put out for it (tests/vectors/fraud): the same
//! rows, as multisets, on any number of shards and with any batch size.

use std::path::Path;

use serde_json::Value;

use crate::command::{Case, counted, json_lines, own, same, shared, unpacked};

const PIPELINE: &str = r#"
name = "fraud-check"
[engine]
data_dir = "{dir}/data"
[schemas.transaction]
txn_id = "BIGINT"
user_id = "BIGINT"
merchant_id = "BIGINT"
amount = "DECIMAL(18,2)"
country = "STRING"
type = "STRING"
ts = "TIMESTAMP"
[schemas.profile]
user_id = "BIGINT"
avg_amount = "DECIMAL(18,2)"
home_country = "STRING"
[sources.transactions]
type = "file"
path = "${TRANSACTIONS}"
format = "json"
schema = "transaction"
event_time = "ts"
watermark = { delay = "5s", emit = "per_event" }
[sources.profiles]
type = "file"
path = "${PROFILES}"
format = "json"
schema = "profile"
[transforms.enriched]
type = "lookup"
inputs = ["transactions"]
table = "profiles"
on = { user_id = "user_id" }
add = { avg_amount = "profiles.avg_amount" }
unmatched = "keep"
wait_for_table = true
[transforms.a]
type = "pattern"
inputs = ["enriched"]
key = ["user_id"]
within = "10m"
after_match = "skip_past_last_event"
steps = [{ name = "s", where = "amount < 50", times = 5, inner = "consecutive" }]
select = { user_id = "FIRST(s.user_id)", txn_ids = "ARRAY_AGG(s.txn_id)", ts = "LAST(s.ts)" }
[transforms.b]
type = "pattern"
inputs = ["enriched"]
key = ["user_id"]
within = "1h"
steps = [{ name = "p" }, { name = "q", contiguity = "next", where = "country <> LAST(p.country)" }]
select = { user_id = "FIRST(p.user_id)", p = "FIRST(p.txn_id)", q = "FIRST(q.txn_id)", ts = "LAST(q.ts)" }
[transforms.c]
type = "pattern"
inputs = ["enriched"]
key = ["user_id"]
within = "30m"
steps = [
  { name = "p", where = "type = 'PASSWORD_CHANGE'" },
  { name = "q", contiguity = "next", where = "type = 'WITHDRAWAL' AND amount > 5000" },
]
select = { user_id = "FIRST(p.user_id)", p = "FIRST(p.txn_id)", q = "FIRST(q.txn_id)", ts = "LAST(q.ts)" }
[transforms.risk]
type = "window"
inputs = ["enriched"]
key = ["user_id"]
window = { type = "sliding", size = "1h", slide = "10m" }
allowed_lateness = "5m"
[transforms.risk.select]
user_id = "user_id"
window_start = "window_start"
window_end = "window_end"
count = "COUNT(*)"
sum = "SUM(amount)"
distinct_merchants = "COUNT(DISTINCT merchant_id)"
risk_score = """10 * COUNT(*) FILTER (WHERE CAST(amount AS DOUBLE) > 3.0 * CAST(avg_amount AS DOUBLE))
              + CASE WHEN COUNT(DISTINCT merchant_id) > 20 THEN 5 ELSE 0 END"""
[transforms.w1]
type = "window"
inputs = ["transactions"]
key = ["user_id"]
window = { type = "tumbling", size = "1m" }
select = { user_id = "user_id", window_start = "window_start", count = "COUNT(*)", sum = "SUM(amount)" }
"#;

/// Output, the port that it reads.
const OUTPUTS: [(&str, &str); 8] = [
    ("alerts_a", "a"),
    ("alerts_b", "b"),
    ("alerts_c", "c"),
    ("risk", "risk"),
    ("late", "risk.late"),
    ("cep_late", "a.late"),
    ("w1", "w1"),
    ("w1_late", "w1.late"),
];

/// What of a row must be Flink's: cents are compared as text, since both keep two digits.
fn shown(output: &str, row: &Value) -> String {
    let columns: &[&str] = match output {
        "alerts_a" => &["user_id", "txn_ids", "ts"],
        "alerts_b" | "alerts_c" => &["user_id", "p", "q", "ts"],
        "risk" => &[
            "user_id",
            "window_start",
            "window_end",
            "count",
            "sum",
            "distinct_merchants",
            "risk_score",
        ],
        "w1" => &["user_id", "window_start", "count", "sum"],
        _ => &["txn_id"],
    };
    let value = |column: &&str| match (*column, &row[*column]) {
        ("sum", sum) => format!("{:.2}", sum.as_f64().unwrap_or(f64::NAN)),
        (_, value) => value.to_string(),
    };
    columns.iter().map(value).collect::<Vec<_>>().join(" ")
}

/// Flink's rows hold a match's transactions as `txn_ids` for all three patterns.
fn reference(folder: &Path, output: &str) -> Vec<Value> {
    let mut rows = json_lines(&unpacked(&folder.join(format!("{output}.jsonl.zst"))));
    if output == "alerts_b" || output == "alerts_c" {
        for row in &mut rows {
            if row.get("p").is_none() {
                row["p"] = row["txn_ids"][0].clone();
                row["q"] = row["txn_ids"][1].clone();
            }
        }
    }
    rows
}

fn check(folder: &Path, profiles: &Path, settings: &[(usize, usize)], memory: &str) {
    let mut toml = PIPELINE.to_string();
    for (sink, input) in OUTPUTS {
        toml += &format!(
            "[sinks.{sink}]\ntype = \"file\"\ninputs = [\"{input}\"]\npath = \"{{dir}}/out/{sink}\"\nformat = \"json\"\n"
        );
    }
    let expected: Vec<_> = OUTPUTS
        .iter()
        .map(|(output, _)| counted(&reference(folder, output), |row| shown(output, row)))
        .collect();
    for &(shards, batch_rows) in settings {
        let case = Case::new(&toml);
        let output = case
            .command(&["run", "p.toml", "--report", "report.json"])
            .args(["--set", &format!("engine.cores={shards}")])
            .args(["--set", &format!("engine.batch_rows={batch_rows}")])
            .args(["--set", &format!("state.memory=\"{memory}\"")])
            .env("TRANSACTIONS", folder.join("transactions.jsonl.zst"))
            .env("PROFILES", profiles)
            .output()
            .expect("the command starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{shards} shards, batches of {batch_rows}: {errors}");
        for ((output, _), expected) in OUTPUTS.iter().zip(&expected) {
            let got = counted(&case.rows(&format!("out/{output}")), |row| shown(output, row));
            let what = format!("{output} on {shards} shards with batches of {batch_rows}");
            same(&what, &got, expected);
        }
        balance(&case.report());
    }
}

/// Rows in = rows taken + rejected, and per transform rows in = used + filtered + late.
fn balance(report: &Value) {
    let rows = |of: &Value, figure: &str| of[figure].as_u64().unwrap_or(0);
    assert_eq!(rows(&report["sources"]["transactions"], "rejected"), 0);
    let read = rows(&report["sources"]["transactions"], "rows");
    for transform in ["enriched", "a", "b", "c", "risk", "w1"] {
        let of = &report["transforms"][transform];
        assert_eq!(rows(of, "in"), read, "{transform} saw every row: {of}");
    }
}

#[test]
fn flinks_rows_on_any_shards_with_any_batches() {
    let folder = own("tests/vectors/fraud/small");
    let profiles = own("tests/vectors/fraud/profiles.jsonl.zst");
    let mut settings = Vec::new();
    for shards in [1, 2, 3, 8] {
        for batch_rows in [1, 7, 1024] {
            settings.push((shards, batch_rows));
        }
    }
    check(&folder, &profiles, &settings, "256MiB");
}

#[test]
fn flinks_rows_of_the_large_set() {
    let Some(folder) = shared("vectors/fraud/large") else { return };
    let profiles = own("tests/vectors/fraud/profiles.jsonl.zst");
    check(&folder, &profiles, &[(1, 1024), (2, 1024)], "256MiB");
    // The same where keys leave memory.
    check(&folder, &profiles, &[(2, 1024)], "1MiB");
}
