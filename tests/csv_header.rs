//! CSV files with a header line, each in its own order of columns, on one shard and on two.

use std::io::Write;

use serde_json::Value;

use crate::command::{Case, counted, same};

const PIPELINE: &str = r#"
name = "header"
[engine]
cores = CORES
data_dir = "{dir}/data"
[schemas.row]
n = "BIGINT NOT NULL"
who = "STRING"
amount = "DECIMAL(9,2)"
ts = "TIMESTAMP"
[sources.rows]
type = "file"
path = "{dir}/in"
format = "csv"
header = true
schema = "row"
event_time = "ts"
watermark = { delay = "0s", emit = "per_event" }
[sinks.taken]
type = "file"
inputs = ["rows"]
path = "{dir}/taken"
format = "json"
[sinks.rejected]
type = "file"
inputs = ["rows.rejected"]
path = "{dir}/rejected"
format = "json"
"#;

fn case(cores: usize, files: &[(&str, &[u8])]) -> Case {
    let case = Case::new(&PIPELINE.replace("CORES", &cores.to_string()));
    std::fs::create_dir(case.path("in")).expect("a folder for the input");
    for (name, bytes) in files {
        case.file(&format!("in/{name}"), bytes);
    }
    case
}

/// Runs over files and compares the taken rows, as JSON lines, and the rejected ones' positions
/// and reasons.
#[track_caller]
fn check(files: &[(&str, &[u8])], taken: &[String], rejected: &[(&str, &str)]) {
    for cores in [1, 2] {
        let case = case(cores, files);
        case.run_well(&["--report", "report.json"]);
        let expected: Vec<Value> =
            taken.iter().map(|row| serde_json::from_str(row).expect("a row")).collect();
        let (got, expected) = (case.rows("taken"), counted(&expected, Value::to_string));
        same("taken rows", &counted(&got, Value::to_string), &expected);
        let mut bad = case.rows("rejected");
        bad.sort_by_key(|row| row["position"].to_string());
        assert_eq!(bad.len(), rejected.len(), "{bad:?}");
        for (row, (position, reason)) in bad.iter().zip(rejected) {
            let ends =
                |field: &str, end: &str| row[field].as_str().is_some_and(|f| f.ends_with(end));
            assert!(ends("position", position) && ends("reason", reason), "{row}");
        }
        let source = &case.report()["sources"]["rows"];
        assert_eq!(source["in"], got.len() + bad.len(), "a header is no row: {source}");
    }
}

fn row(n: u32, who: &str, amount: &str) -> String {
    let text = |value: &str| if value.is_empty() { "null".into() } else { format!("\"{value}\"") };
    let amount = if amount.is_empty() { "null" } else { amount };
    format!(r#"{{"n":{n},"who":{},"amount":{amount},"ts":{n}}}"#, text(who))
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).expect("memory takes it");
    packed.finish().expect("memory takes it")
}

#[test]
fn every_file_has_its_own_order_of_columns() {
    let zst = zstd::encode_all(&b"amount,ts,n\r\n5.00,50,50\r\n"[..], 1).expect("memory takes it");
    check(
        &[
            ("a.csv", b"n,who,amount,ts\n1,x,1.50,1\n2,,,2\n"),
            ("b.csv", b"\xEF\xBB\xBFts,\"n\",\"a \"\"quoted\"\", name\",who\r\n3,3,zzz,y\r\n"),
            ("c.csv.gz", &gzip("\"who\",ts,n,other,other\n\"z, z\",40,40,,")),
            ("d.csv.zst", &zst),
            ("e.csv", b"n,ts\n"),
            ("f.csv", b""),
            ("g.csv", b"n,ts"),
            ("h.csv", b"ts , who, n\n60,w,60\nx,w,61\n62,w\n"),
        ],
        &[
            row(1, "x", "1.50"),
            row(2, "", ""),
            row(3, "y", ""),
            row(40, "z, z", ""),
            row(50, "", "5.00"),
            row(60, "w", ""),
        ],
        &[
            ("h.csv:byte 20", "expected TIMESTAMP as milliseconds or RFC 3339, found another text"),
            ("h.csv:byte 27", "2 fields where there should be 3"),
        ],
    );
}

#[test]
fn a_header_holds_for_every_block_of_its_file() {
    // Some 1.2 MB each: five blocks, dealt to both shards in turn.
    let pad = "p".repeat(80);
    let numbers = |from: u32| from..from + 12_000;
    let mut first = String::from("pad,ts,n,who\n");
    numbers(0).for_each(|n| first += &format!("{pad},{n},{n},a\n"));
    let mut second = String::from("who,n,ts,pad,amount\r\n");
    numbers(50_000).for_each(|n| second += &format!("b,{n},{n},{pad},0.25\r\n"));
    let of_first = numbers(0).map(|n| row(n, "a", ""));
    let of_second = numbers(50_000).map(|n| row(n, "b", "0.25"));
    let rows: Vec<String> = of_first.chain(of_second).collect();
    check(&[("1.csv", first.as_bytes()), ("2.csv.gz", &gzip(&second))], &rows, &[]);
}

#[track_caller]
fn refuses(header: &str, words: &[&str]) {
    let case = case(1, &[("good.csv", b"n,ts\n1,1\n"), ("wrong.csv", header.as_bytes())]);
    let output = case.run(&["run", "p.toml"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for word in ["rows", "wrong.csv"].iter().chain(words) {
        assert!(text.contains(word), "`{word}` is missing in:\n{text}");
    }
    assert!(case.rows("taken").is_empty(), "it is seen before the first row");
}

#[test]
fn a_header_without_a_column_that_must_be_there_names_file_and_column() {
    refuses("who,ts\nx,1\n", &["`n`", "NOT NULL", "who, ts"]);
    refuses("n,who\n1,x\n", &["`ts`", "event time"]);
    refuses("n,ts,n\n1,1,1\n", &["`n` twice"]);
    refuses(&format!("n,ts,{}\n1,1\n", "x".repeat(300_000)), &["header line", "262144"]);
}
