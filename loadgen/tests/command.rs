//! The program from outside.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use cutwater::edge::file::{Contents, FileSourceOptions};
use cutwater::edge::{SourceOptions, open_source};
use cutwater::port::{Block, Next};

fn loadgen(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(args);
    command
}

fn run(args: &[&str]) -> Output {
    let output = loadgen(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    assert_eq!(said, "", "no progress where there is no terminal");
    output
}

/// Asserts that a run fails with this exit code and these words.
fn check_refused(args: &[&str], code: i32, words: &[&str]) {
    let output = loadgen(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
}

/// What a file is once unpacked, as the engine reads it.
fn read(path: &Path) -> Vec<u8> {
    let mut source = open_source(&SourceOptions::File(FileSourceOptions {
        path: path.to_str().unwrap().into(),
        contents: Contents::Lines,
    }))
    .unwrap();
    let mut bytes = Vec::new();
    while let Next::Block(Block::Text { text, .. }) = source.next(0).unwrap() {
        bytes.extend_from_slice(text.text());
    }
    bytes
}

#[test]
fn equal_arguments_give_equal_bytes_wherever_they_go() {
    let folder = tempfile::tempdir().unwrap();
    for format in ["json", "csv", "native"] {
        let args = ["transactions", "--rows", "5k", "--seed", "7", "--format", format];
        let expected = run(&args).stdout;
        assert!(expected.len() > 5_000 * 40);
        for name in ["plain", "packed.gz", "packed.zst"] {
            let path = folder.path().join("made/on/the/way").join(name);
            let args = [&args[..], &["-o", path.to_str().unwrap()]].concat();
            assert!(run(&args).stdout.is_empty());
            let first = fs::read(&path).unwrap();
            run(&args);
            assert!(fs::read(&path).unwrap() == first, "{format} {name}");
            if format != "native" {
                assert!(read(&path) == expected, "{format} {name}");
            }
        }
        let others: Vec<_> = fs::read_dir(folder.path().join("made/on/the/way")).unwrap().collect();
        assert_eq!(others.len(), 3, "nothing hidden is left");
    }
    let other = ["transactions", "--rows", "5k", "--seed", "8"];
    assert!(run(&other).stdout != run(&["transactions", "--rows", "5k", "--seed", "7"]).stdout);
}

#[test]
fn rows_are_what_the_columns_say() {
    let json = run(&["transactions", "--rows", "2"]).stdout;
    let json = String::from_utf8(json).unwrap();
    let names = ["txn_id", "user_id", "merchant_id", "amount", "country", "type", "ts"];
    for line in json.lines() {
        let mut rest = line;
        for name in names {
            let at = rest.find(&format!("\"{name}\":")).expect("columns stand in order");
            rest = &rest[at..];
        }
    }
    let csv = run(&["transactions", "--rows", "2", "--format", "csv"]).stdout;
    let csv = String::from_utf8(csv).unwrap();
    assert_eq!(csv.lines().next(), Some(names.join(",").as_str()));
    assert_eq!(csv.lines().count(), 3);
    let profiles = run(&["profiles", "--users", "10", "--format", "csv"]).stdout;
    let profiles = String::from_utf8(profiles).unwrap();
    assert_eq!(profiles.lines().next(), Some("user_id,avg_amount,home_country"));
    assert_eq!(profiles.lines().count(), 11);
}

#[test]
fn wrong_arguments_and_places_are_named() {
    check_refused(&["transactions"], 2, &["--rows"]);
    check_refused(&["transactions", "--rows", "many"], 2, &["whole number"]);
    check_refused(&["transactions", "--rows", "1", "--late-by", "2"], 2, &["unit is missing"]);
    check_refused(&["transactions", "--rows", "1", "--late", "2"], 1, &["`late`", "0 to 1"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    check_refused(&["profiles", "-o", path], 1, &[path, "it is a folder"]);
    let below = format!("{path}/file/x");
    fs::write(folder.path().join("file"), "").unwrap();
    check_refused(&["profiles", "-o", &below], 1, &["cannot make the folder"]);
    check_refused(&["profiles", "-o", "/dev/full"], 1, &["/dev/full", "No space left"]);
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let mut child = loadgen(&["transactions", "--rows", "1M"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut start = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut start).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stderr, b"");
}
