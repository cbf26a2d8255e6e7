//! Patterns over 100,000 users through the command: `cargo bench --bench patterns`. Throughput is
//! rows per CPU-second of the whole process, as in `workloads`; what is shown as time is CPU time.
//!
//! The three of the fraud pipeline (five small amounts, a jump between countries, a takeover), each
//! of them alone, and fifty of their kinds at once, whose numbers differ.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde::Deserialize;

/// Rows of the input, which `loadgen`'s generator makes: an hour of event time a million.
const ROWS: u64 = 3_000_000;

/// What both pipelines begin with.
const COMMON: &str = r#"
name = "patterns"
[engine]
cores = 1
data_dir = "DATA"
[schemas.transaction]
txn_id = "BIGINT"
user_id = "BIGINT"
merchant_id = "BIGINT"
amount = "DECIMAL(18,2)"
country = "STRING"
type = "STRING"
ts = "TIMESTAMP"
"#;

const HEAD: &str = r#"
[sources.transactions]
type = "file"
path = "INPUT"
format = "native"
schema = "transaction"
event_time = "ts"
watermark = { delay = "5s", emit = "per_event" }
"#;

/// The input as a pipeline that writes it once.
const WRITE: &str = r#"
[sources.transactions]
type = "generator"
workload = "transactions"
rows = 3000000
seed = 7
users = 100000
rate = 278.0
late = 0.03
schema = "transaction"
event_time = "ts"
watermark = { delay = "5s" }
[sinks.out]
type = "file"
inputs = ["transactions"]
path = "FOLDER"
format = "native"
"#;

/// Five small amounts in a row.
fn small(name: &str, limit: usize, times: usize) -> String {
    format!(
        "[transforms.{name}]\ntype = \"pattern\"\ninputs = [\"transactions\"]\nkey = [\"user_id\"]\n\
         within = \"10m\"\nafter_match = \"skip_past_last_event\"\nsteps = [{{ name = \"s\", \
         where = \"amount < {limit}\", times = {times}, inner = \"consecutive\" }}]\n\
         select = {{ user_id = \"FIRST(s.user_id)\", txn_ids = \"ARRAY_AGG(s.txn_id)\", \
         ts = \"LAST(s.ts)\" }}\n"
    )
}

/// Two rows one behind the other, by their conditions.
fn pair(name: &str, within: &str, first: &str, second: &str) -> String {
    format!(
        "[transforms.{name}]\ntype = \"pattern\"\ninputs = [\"transactions\"]\nkey = [\"user_id\"]\n\
         within = \"{within}\"\nsteps = [{{ name = \"p\"{first} }}, {{ name = \"q\", \
         contiguity = \"next\", where = \"{second}\" }}]\nselect = {{ \
         user_id = \"FIRST(p.user_id)\", p = \"FIRST(p.txn_id)\", q = \"FIRST(q.txn_id)\", \
         ts = \"LAST(q.ts)\" }}\n"
    )
}

/// Pattern i of fifty; the first three are the fraud pipeline's.
fn pattern(i: usize) -> String {
    let (name, step) = (format!("p{i}"), i / 3);
    match i % 3 {
        0 => small(&name, 50 + 3 * step, 5 + step % 4),
        1 => {
            let more =
                if step == 0 { String::new() } else { format!(" AND amount > {}", 30 * step) };
            pair(&name, "1h", "", &format!("country <> LAST(p.country){more}"))
        }
        _ => {
            let second = format!("type = 'WITHDRAWAL' AND amount > {}", 5000 + 100 * step);
            pair(&name, "30m", ", where = \"type = 'PASSWORD_CHANGE'\"", &second)
        }
    }
}

fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("patterns");
    std::fs::create_dir_all(&folder).expect("the target folder can be written");
    folder
}

/// Runs a pipeline; the CPU time that it took.
fn run(name: &str, text: &str) -> Duration {
    let (pipeline, report) = (folder().join(format!("{name}.toml")), folder().join("report.json"));
    std::fs::write(&pipeline, text).expect("the target folder can be written");
    let run = Command::new(env!("CARGO_BIN_EXE_cutwater"))
        .arg("run")
        .arg(&pipeline)
        .args(["--quiet", "--restore", "none", "--report"])
        .arg(&report)
        .output()
        .expect("the command starts");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let text = std::fs::read(&report).expect("the report was written");
    let report: Report = serde_json::from_slice(&text).expect("it is JSON");
    Duration::from_secs_f64(report.cpu_s)
}

#[derive(Deserialize)]
struct Report {
    cpu_s: f64,
}

fn patterns(criterion: &mut Criterion) {
    let (input, data) = (folder().join("input"), folder().join("data").display().to_string());
    if !input.exists() {
        let part = folder().join("part");
        let text = format!("{COMMON}{WRITE}").replace("DATA", &data);
        let text = text.replace("FOLDER", &part.display().to_string());
        run("write", &text);
        std::fs::rename(part, &input).expect("it was written");
    }
    let head = format!("{COMMON}{HEAD}").replace("DATA", &data);
    let head = head.replace("INPUT", &format!("{}/part-*", input.display()));
    let mut group = criterion.benchmark_group("patterns");
    group.throughput(Throughput::Elements(ROWS)).sample_size(10);
    let all: [(&str, &[usize]); 5] = [
        ("one of three: small amounts", &[0]),
        ("one of three: country", &[1]),
        ("one of three: takeover", &[2]),
        ("the three", &[0, 1, 2]),
        ("fifty", &std::array::from_fn::<usize, 50, _>(|i| i)),
    ];
    for (name, which) in all {
        let mut text = head.clone();
        which.iter().for_each(|&i| text.push_str(&pattern(i)));
        let names: Vec<String> = which.iter().map(|i| format!("\"p{i}\"")).collect();
        let inputs = names.join(", ");
        let _ = write!(text, "[sinks.alerts]\ntype = \"blackhole\"\ninputs = [{inputs}]\n");
        group.bench_function(name, |bench| {
            bench.iter_custom(|runs| (0..runs).map(|_| run("patterns", &text)).sum());
        });
    }
    group.finish();
}

criterion_group!(benches, patterns);
criterion_main!(benches);
