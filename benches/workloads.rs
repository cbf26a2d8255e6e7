//! The workloads of docs/performance.md through the command, and W1 by hand beside them: `cargo
//! bench --bench workloads`. Throughput is rows per CPU-second (user + system of the whole process,
//! start and end included), as the command reports them, so that a busy machine does not spoil it;
//! what is shown as time is CPU time.
//!
//! Input is the built-in workload, written once to the target folder: an hour of event time a
//! million rows, 100,000 users, 3 % late. `ROWS` sets how many rows (3,000,000).

use std::fs::File;
use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use cutwater::codec::{EncodeOptions, Format, encoder};
use cutwater::edge::generator::{GeneratorOptions, Rows, Table, WorkloadOptions};
use cutwater::ground::batch::BatchBuilder;
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;

const USERS: usize = 100_000;
const BATCH_ROWS: usize = 1024;

#[expect(clippy::disallowed_methods, reason = "a bench is set up from the outside")]
fn rows() -> usize {
    std::env::var("ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(3_000_000)
}

/// Where input and reports lie.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("workloads");
    std::fs::create_dir_all(&folder).expect("the target folder can be written");
    folder
}

/// Runs the command; its standard error is shown if it fails.
fn cutwater(pipeline: &Path, input: &Input, report: &Path) {
    let run = Command::new(env!("CARGO_BIN_EXE_cutwater"))
        .arg("run")
        .arg(pipeline)
        .args(["--quiet", "--restore", "none", "--report"])
        .arg(report)
        .env("TRANSACTIONS", &input.transactions)
        .env("PROFILES", &input.profiles)
        .env("FORMAT", input.format)
        .env("OUT", folder())
        .output()
        .expect("the command starts");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{}: {said}", pipeline.display());
}

struct Input {
    format: &'static str,
    transactions: PathBuf,
    profiles: PathBuf,
}

/// The input in a format, written if it is not there yet.
fn input(format: &'static str) -> Input {
    let at = |what: &str| folder().join(format!("{what}-{}.{format}", rows()));
    let input = Input { format, transactions: at("transactions"), profiles: at("profiles") };
    let tables = [
        (Table::Transactions, rows() as u64, &input.transactions),
        (Table::Profiles, USERS as u64, &input.profiles),
    ];
    for (table, rows, path) in tables.into_iter().filter(|(_, _, path)| !path.exists()) {
        let part = path.with_extension("part");
        write(table, rows, format, &part).expect("the target folder can be written");
        std::fs::rename(&part, path).expect("the part was written");
    }
    input
}

fn write(table: Table, rows: u64, format: &str, path: &Path) -> std::io::Result<()> {
    let workload = WorkloadOptions {
        seed: 7,
        users: USERS as u64,
        rate: 278.0,
        late: 0.03,
        ..Default::default()
    };
    let options = GeneratorOptions { table, workload, rows: Some(rows), rows_per_second: None };
    let source = Rows::new(&options).expect("the options are in range");
    let format = if format == "json" { Format::Json } else { Format::Native };
    let encoder = encoder(format, &source.schema(), &EncodeOptions::default());
    let mut encoder = encoder.expect("the format takes such rows");
    let mut file = BufWriter::new(File::create(path)?);
    let mut builder = BatchBuilder::new(source.schema().width(), BATCH_ROWS);
    let all: Vec<u32> = (0..BATCH_ROWS as u32).collect();
    let mut text = Vec::new();
    encoder.head(&mut text);
    for from in (0..rows).step_by(BATCH_ROWS) {
        source.fill(from, rows.min(from + BATCH_ROWS as u64), &mut builder);
        let batch = builder.finish();
        encoder.encode(&batch, &all[..batch.rows()], &mut text);
        builder.recycle(batch);
        file.write_all(&text)?;
        text.clear();
    }
    file.write_all(&text)?;
    file.flush()
}

#[derive(Deserialize)]
struct Report {
    cpu_s: f64,
}

fn pipelines(criterion: &mut Criterion) {
    let report = folder().join("report.json");
    for (name, file) in [("W1", "w1"), ("W2, the fraud pipeline", "w2")] {
        let pipeline = Path::new("benches/pipelines").join(file).with_extension("toml");
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(rows() as u64)).sample_size(10);
        for format in ["native", "json"] {
            let input = input(format);
            group.bench_function(format, |bench| {
                bench.iter_custom(|runs| {
                    let one = |_| {
                        cutwater(&pipeline, &input, &report);
                        let text = std::fs::read(&report).expect("the report was written");
                        let report: Report = serde_json::from_slice(&text).expect("it is JSON");
                        Duration::from_secs_f64(report.cpu_s)
                    };
                    (0..runs).map(one).sum()
                });
            });
        }
        group.finish();
    }
}

/// A transaction as W1 needs it.
#[derive(Deserialize)]
struct Row {
    user_id: u64,
    amount: f64,
    ts: i64,
}

/// Users and their numbers: open addressing, half full.
struct Numbers {
    places: Vec<(u32, u32)>,
    users: u32,
}

impl Numbers {
    fn new() -> Numbers {
        Numbers { places: vec![(0, 0); (2 * USERS).next_power_of_two()], users: 0 }
    }

    fn of(&mut self, user: u32) -> usize {
        let mask = self.places.len() - 1;
        let hash = u64::from(user).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut at = (hash >> 40) as usize & mask;
        loop {
            match &mut self.places[at] {
                (held, number) if *held == user && *number > 0 => return *number as usize,
                (held, number) if *number == 0 => {
                    self.users += 1;
                    (*held, *number) = (user, self.users);
                    return self.users as usize;
                }
                _ => at = (at + 1) & mask,
            }
        }
    }
}

/// W1 as one would write it for this case alone: at most so many users, two minutes are open at
/// once, and what a minute comes to is 16 bytes a user.
fn by_hand(rows: &[(u32, i64, i64)]) -> (u64, i64) {
    const MINUTE: i64 = 60_000;
    const DELAY: i64 = 5_000;
    let mut panes = vec![[(0u32, 0i64); 2]; USERS + 1];
    let mut numbers = Numbers::new();
    let (mut fired, mut total) = (0u64, 0i64);
    let (mut most, mut due) = (i64::MIN, i64::MIN);
    for &(user, cents, ts) in rows {
        if ts > most {
            most = ts;
            // The watermark is `most - DELAY - 1`.
            while most - DELAY > due {
                if due > i64::MIN {
                    let pane = (due.div_euclid(MINUTE) & 1) as usize;
                    for user in &mut panes {
                        let (count, sum) = std::mem::take(&mut user[pane]);
                        fired += u64::from(count > 0);
                        total += sum;
                    }
                    due += MINUTE;
                } else {
                    due = most.div_euclid(MINUTE) * MINUTE + MINUTE - 1;
                }
            }
        }
        let minute = ts.div_euclid(MINUTE);
        if minute * MINUTE + MINUTE > due {
            let (count, sum) = &mut panes[numbers.of(user)][(minute & 1) as usize];
            *count += 1;
            *sum += cents;
        }
    }
    // What is still open at the end, counted by its rows.
    for (count, sum) in panes.iter().flatten() {
        fired += u64::from(*count > 0);
        total += sum;
    }
    (fired, total)
}

fn hand(criterion: &mut Criterion) {
    let text = std::fs::read_to_string(input("json").transactions).expect("it was written");
    let row = |line: &str| {
        let row: Row = serde_json::from_str(line).expect("a transaction");
        (row.user_id as u32, (row.amount * 100.0).round() as i64, row.ts)
    };
    let rows: Vec<(u32, i64, i64)> = text.lines().map(row).collect();
    drop(text);
    let mut group = criterion.benchmark_group("W1");
    group.throughput(Throughput::Elements(rows.len() as u64)).sample_size(10);
    group.bench_function("by hand, rows in memory", |bench| {
        bench.iter_custom(|runs| {
            let start = clock_gettime(ClockId::ThreadCPUTime);
            for _ in 0..runs {
                black_box(by_hand(black_box(&rows)));
            }
            let end = clock_gettime(ClockId::ThreadCPUTime);
            let ns = (end.tv_sec - start.tv_sec) * 1_000_000_000 + end.tv_nsec - start.tv_nsec;
            Duration::from_nanos(ns as u64)
        });
    });
    group.finish();
}

criterion_group!(workloads, pipelines, hand);
criterion_main!(workloads);
