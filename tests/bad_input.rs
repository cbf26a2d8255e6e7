//! Input that is wrong: each case is a rejected row with its reason, or an exit with a message
//! that names the place and the remedy. Nothing is lost in silence.

use std::os::unix::process::CommandExt;
use std::process::Output;

use serde_json::Value;

use crate::command::Case;

const PIPELINE: &str = r#"
name = "input"
[engine]
cores = 2
data_dir = "{dir}/data"
[schemas.row]
n = "BIGINT NOT NULL"
amount = "DECIMAL(5,2)"
who = "STRING"
ok = "BOOLEAN"
ts = "TIMESTAMP"
[sources.rows]
type = "file"
path = "{dir}/in"
format = "json"
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

/// Runs over one input file and gives the taken rows' `n` and the rejected rows.
fn check(input: impl AsRef<[u8]>) -> (Vec<i64>, Vec<Value>) {
    let case = Case::new(PIPELINE);
    case.file("in", input);
    case.run_well(&["--report", "report.json"]);
    let mut taken: Vec<i64> =
        case.rows("taken").iter().map(|row| row["n"].as_i64().expect("n is a number")).collect();
    taken.sort_unstable();
    let rejected = case.rows("rejected");
    let report = case.report();
    let source = &report["sources"]["rows"];
    assert_eq!(source["in"], taken.len() + rejected.len(), "the ledger balances: {source}");
    assert_eq!(source["rows"], taken.len());
    assert_eq!(source["rejected"], rejected.len());
    (taken, rejected)
}

fn good(n: i64) -> String {
    format!(r#"{{"n":{n},"amount":1.25,"who":"a","ok":true,"ts":{n}}}"#)
}

#[track_caller]
fn rejects(line: &str, reason: &str) {
    let input = format!("{}\n{line}\n{}\n", good(1), good(2));
    let (taken, rejected) = check(&input);
    assert_eq!(taken, [1, 2], "the good rows around it are taken");
    assert_eq!(rejected.len(), 1, "{line}");
    let got = rejected[0]["reason"].as_str().unwrap_or_default();
    assert!(got.contains(reason), "{line}: rejected because `{got}`, expected `{reason}`");
    assert_eq!(rejected[0]["raw"], line);
    let position = rejected[0]["position"].as_str().unwrap_or_default();
    let byte = good(1).len() + 1;
    assert!(position.ends_with(&format!("in:byte {byte}")), "{position}");
}

#[test]
fn broken_lines_are_rejected() {
    rejects(r#"{"n":7,"amount":1.25"#, "");
    rejects("not json at all", "");
    rejects(r#"{"n":7,"ts":7} and more"#, "");
    rejects(r#"["n",7]"#, "");
}

#[test]
fn wrong_types_are_rejected() {
    rejects(r#"{"n":"seven","ts":7}"#, "n");
    rejects(r#"{"n":7,"amount":"much","ts":7}"#, "amount");
    rejects(r#"{"n":7,"amount":1.234,"ts":7}"#, "amount");
    rejects(r#"{"n":7,"amount":12345.00,"ts":7}"#, "amount");
    rejects(r#"{"n":7,"who":5,"ts":7}"#, "who");
    rejects(r#"{"n":7,"ok":"yes","ts":7}"#, "ok");
    rejects(r#"{"n":99999999999999999999,"ts":7}"#, "n");
    rejects(r#"{"n":7,"ts":"yesterday"}"#, "ts");
}

#[test]
fn nulls_are_rejected_where_they_must_not_be() {
    rejects(r#"{"n":null,"ts":7}"#, "n");
    rejects(r#"{"amount":1.00,"ts":7}"#, "n");
    rejects(r#"{"n":7,"ts":null}"#, "ts");
    rejects(r#"{"n":7}"#, "ts");
    let (taken, rejected) = check(r#"{"n":3,"amount":null,"who":null,"ok":null,"ts":1}"#);
    assert_eq!((taken, rejected.len()), (vec![3], 0), "NULL is allowed elsewhere");
}

#[test]
fn a_line_of_64_mib_and_more_is_rejected_and_the_next_is_read() {
    let mut input = good(1).into_bytes();
    input.extend_from_slice(b"\n{\"n\":5,\"who\":\"");
    input.resize(input.len() + (64 << 20), b'x');
    input.extend_from_slice(b"\"}\n");
    input.extend_from_slice(good(2).as_bytes());
    let (taken, rejected) = check(&input);
    assert_eq!(taken, [1, 2]);
    assert_eq!(rejected.len(), 1);
    let reason = rejected[0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("67108864"), "the reason names the limit: {reason}");
}

#[test]
fn the_last_line_needs_no_newline() {
    assert_eq!(check(format!("{}\n{}", good(1), good(2))), (vec![1, 2], Vec::new()));
}

#[test]
fn an_empty_file_has_no_rows() {
    assert_eq!(check(""), (Vec::new(), Vec::new()));
    assert_eq!(check("\n\n"), (Vec::new(), Vec::new()));
}

#[test]
fn a_native_row_without_event_time_is_rejected_as_json() {
    let json = |path: &str| format!("path = \"{{dir}}/{path}\"\nformat = \"json\"");
    let native = |path: &str| format!("path = \"{path}\"\nformat = \"native\"");
    let timed = "event_time = \"ts\"\nwatermark = { delay = \"0s\", emit = \"per_event\" }\n";
    let to_native = PIPELINE.replace(timed, "").replace(&json("taken"), &native("{dir}/native"));
    let written = Case::new(&to_native);
    let timeless =
        |n: i64| format!(r#"{{"n":{n},"amount":-0.50,"who":"a \"b\"","ok":null,"ts":null}}"#);
    let lines: Vec<String> =
        (0..500).map(|n| if n % 100 == 7 { timeless(n) } else { good(n) }).collect();
    written.file("in", lines.join("\n")).run_well(&[]);
    for cores in ["1", "2"] {
        let path = written.path("native").display().to_string();
        let from_native = PIPELINE.replace(&json("in"), &native(&path));
        let case = Case::new(&from_native.replace("cores = 2", &format!("cores = {cores}")));
        case.run_well(&["--report", "report.json"]);
        assert_eq!(case.rows("taken").len(), 495);
        let mut rejected = case.rows("rejected");
        rejected.sort_by_key(|row| row["raw"].to_string());
        let raws: Vec<Value> = rejected.iter().map(|row| row["raw"].clone()).collect();
        assert_eq!(raws, [107, 207, 307, 407, 7].map(timeless), "the rows as they are");
        for row in &rejected {
            assert_eq!(row["reason"], "the event time is NULL");
            let position = row["position"].as_str().expect("NOT NULL");
            assert!(
                position.contains(".cutwater:byte ") && position.contains(", row "),
                "{position}"
            );
        }
        assert_eq!(case.report()["sources"]["rows"]["rejected"], 5);
    }
}

#[track_caller]
fn fails(output: &Output, expected: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for expected in expected {
        assert!(text.contains(expected), "`{expected}` is missing in:\n{text}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let case = Case::new(PIPELINE);
    fails(&case.run(&["run", "p.toml"]), &["rows", "/in"]);
    assert!(case.rows("taken").is_empty());
}

#[test]
fn a_folder_without_permission_is_named() {
    let case = Case::new(PIPELINE);
    std::fs::create_dir(case.path("in")).expect("a folder");
    case.file("in/a.jsonl", good(1));
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o000);
    std::fs::set_permissions(case.path("in"), closed).expect("permissions are set");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(case.path(""), open).expect("permissions are set");
    let mut command = case.command(&["run", "p.toml"]);
    // SAFETY of the test: permissions do not bind root, so the command runs as nobody then. The
    // binary is copied, since root's folders may be closed to nobody.
    let binary = case.path("cutwater");
    std::fs::copy(env!("CARGO_BIN_EXE_cutwater"), &binary).expect("a copy of the binary");
    if libc_is_root() {
        command = std::process::Command::new(&binary);
        command.args(["run", "p.toml"]).current_dir(case.path("")).uid(65534).gid(65534);
    }
    let output = command.output().expect("the command starts");
    let open: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(case.path("in"), open).expect("permissions are set back");
    fails(&output, &["rows", "/in", "ermission"]);
}

fn libc_is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("proc")) == 0
}

#[test]
fn two_sinks_in_one_folder_are_found_whatever_its_name() {
    let other = PIPELINE.replace("{dir}/rejected", "./taken/");
    let case = Case::new(&other);
    case.file("in", good(1));
    fails(&case.run(&["run", "p.toml"]), &["rejected", "taken", "another name"]);
    let case = Case::new(&other.replace("{dir}/taken", "taken"));
    let output = case.run(&["validate", "p.toml"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && text.contains("E0703"), "{text}");
}

#[test]
fn an_output_folder_that_is_a_file_is_named() {
    let case = Case::new(PIPELINE);
    case.file("in", good(1)).file("taken", "in the way");
    fails(&case.run(&["run", "p.toml"]), &["taken", "folder"]);
}
