//! The file source from outside: whole inputs, good and bad.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::source::FileSource;
use super::unpack::tests::{gzip, text, zstd};
use super::*;
use crate::ground::frame;
use crate::ground::limits::{BLOCK_BYTES, BLOCK_ROWS, LINE_BYTES_MAX, REJECTED_RAW_BYTES};
use crate::ground::schema::{Column, DataType, Schema};
use crate::port::{Block, Next, PortError, Source};

fn options(path: &Path) -> FileSourceOptions {
    FileSourceOptions { path: path.to_str().unwrap().into(), contents: Contents::Lines }
}

/// A block as plain values: the file's name, where in it, the bytes, their number.
type Seen = (String, u64, Vec<u8>, u64);

/// All blocks of a path, or what is wrong.
fn read(options: &FileSourceOptions) -> Result<Vec<Seen>, PortError> {
    let mut source = FileSource::open(options)?;
    assert!(source.is_bounded());
    let mut blocks = Vec::new();
    let name = |origin: &str| origin.rsplit('/').next().unwrap().to_string();
    loop {
        match source.next(0)? {
            Next::Block(Block::Text { text, origin, at, .. }) => {
                let bytes = text.text().to_vec();
                blocks.push((name(&origin), at, bytes.clone(), bytes.len() as u64));
                source.recycle(text);
            }
            Next::Block(Block::TooLong { start, len, origin, at }) => {
                blocks.push((name(&origin), at, start, len));
            }
            Next::Block(Block::Frames { file, start, end, origin }) => {
                let bytes = file.0.bytes()[start..end].to_vec();
                blocks.push((name(&origin), start as u64, bytes, (end - start) as u64));
            }
            Next::Block(other) => panic!("no block of a file: {other:?}"),
            Next::Idle => panic!("files are never idle"),
            Next::End => return Ok(blocks),
        }
    }
}

/// Asserts which blocks files of these names and bytes are, read as one folder.
fn check(files: &[(&str, &[u8])], expected: &[(&str, u64, &[u8])]) {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let expected: Vec<Seen> = expected
        .iter()
        .map(|(name, at, bytes)| (name.to_string(), *at, bytes.to_vec(), bytes.len() as u64))
        .collect();
    assert!(read(&options(folder.path())).unwrap() == expected);
}

#[test]
fn files_are_read_by_name_and_a_block_stays_in_its_file() {
    check(
        &[("b", b"3\n4"), ("a", b"1\r\n2\r\n"), ("c", b""), ("d.gz", &gzip(b"5\n"))],
        &[("a", 0, b"1\r\n2\r\n"), ("b", 0, b"3\n4"), ("d.gz", 0, b"5\n")],
    );
    check(&[("empty", b"")], &[]);
    check(&[("blank", b"\n")], &[("blank", 0, b"\n")]);
    check(&[("no newline", b"x")], &[("no newline", 0, b"x")]);
}

#[test]
fn blocks_are_the_same_however_a_file_is_packed() {
    let text = text(3 * BLOCK_BYTES);
    let folder = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for (name, bytes) in [
        ("plain", text.clone()),
        ("a.gz", gzip(&text)),
        ("a.zst", zstd(&text)),
        ("b.gz", [gzip(&text[..9]), gzip(&text[9..])].concat()),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let mut blocks = read(&options(&path)).unwrap();
        for block in &mut blocks {
            block.0 = String::new();
        }
        all.push(blocks);
    }
    assert!(all.iter().all(|blocks| *blocks == all[0]));
    assert!(all[0].len() > 3 && all[0].iter().all(|block| block.2.len() <= BLOCK_BYTES));
    let joined: Vec<u8> = all[0].iter().flat_map(|block| block.2.clone()).collect();
    assert!(joined == text);
}

#[test]
fn a_line_of_64_mib_is_taken_and_a_longer_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long");
    let most = LINE_BYTES_MAX as u64;
    for len in [most, most + 1] {
        let mut file = File::create(&path).unwrap();
        file.write_all(b"first\n").unwrap();
        file.set_len(6 + len).unwrap();
        file.write_all_at(b"\nlast\n", 6 + len).unwrap();
        let blocks = read(&options(&path)).unwrap();
        let shape: Vec<_> = blocks.iter().map(|block| (block.1, block.2.len(), block.3)).collect();
        let long = if len == most {
            (6, LINE_BYTES_MAX + 1, most + 1)
        } else {
            (6, REJECTED_RAW_BYTES, most + 1)
        };
        assert_eq!(shape, [(0, 6, 6), long, (6 + len + 1, 5, 5)]);
    }
}

/// Asserts that reading a file of that name and those bytes fails with all these words.
fn check_bad(contents: Contents, name: &str, bytes: &[u8], words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    let options = FileSourceOptions { contents, ..options(&path) };
    let error = read(&options).unwrap_err().to_string();
    for word in words.iter().chain([&name]) {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

#[test]
fn packed_files_cut_short_are_an_error_with_name_and_place() {
    let text = text(3 * BLOCK_BYTES);
    let halves = |packed: Vec<u8>| packed[..packed.len() / 2].to_vec();
    let (gz, zst) = (halves(gzip(&text)), halves(zstd(&text)));
    let at = |len: usize| format!("at byte {len} ");
    check_bad(Contents::Lines, "a.gz", &gz, &["gzip", &at(gz.len()), "ends too early"]);
    check_bad(Contents::Lines, "a.zst", &zst, &["zstd", &at(zst.len()), "ends too early"]);
    check_bad(Contents::Lines, "a.gz", b"", &["named as gzip"]);
    check_bad(Contents::Lines, "a.zst", b"{}\n", &["named as zstd", "plain file"]);
}

fn native(frames: &[(usize, usize)]) -> Vec<u8> {
    let mut file = Vec::new();
    frame::write_head(&schema_text(), &mut file);
    for (i, &(rows, len)) in frames.iter().enumerate() {
        frame::write_frame(rows, &vec![i as u8; len], &mut file);
    }
    file
}

fn schema() -> Schema {
    Schema::new(vec![Column::new("a", DataType::BigInt)])
}

fn schema_text() -> String {
    "one BIGINT, a".into()
}

fn check_schema(text: &str, _: &Schema) -> Result<(), String> {
    if text == schema_text() { Ok(()) } else { Err(format!("it has {text}")) }
}

fn native_contents() -> Contents {
    Contents::Native { schema: schema().into(), check: check_schema }
}

/// Asserts how the frames (rows, bytes) of a native file are gathered to blocks.
fn check_native(frames: &[(usize, usize)], expected: &[usize]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.cutwater");
    let file = native(frames);
    fs::write(&path, &file).unwrap();
    let options = FileSourceOptions { contents: native_contents(), ..options(&path) };
    let blocks = read(&options).unwrap();
    let mut at = frame::read_head(&file).unwrap().1;
    for (_, start, bytes, len) in &blocks {
        assert_eq!(*start, at as u64);
        assert!(bytes[..] == file[at..at + *len as usize]);
        at += *len as usize;
    }
    assert_eq!(at, file.len());
    let frames_of = |block: &Seen| {
        let mut rest = 0;
        let mut count = 0;
        while let Some(frame) = frame::find_frame(&block.2, rest).unwrap() {
            rest = frame.end();
            count += 1;
        }
        count
    };
    assert_eq!(blocks.iter().map(frames_of).collect::<Vec<usize>>(), expected);
}

#[test]
fn native_blocks_are_runs_of_frames() {
    check_native(&[], &[]);
    check_native(&[(1, 10)], &[1]);
    check_native(&[(BLOCK_ROWS, 100), (1, 10), (BLOCK_ROWS - 1, 50), (1, 1)], &[1, 2, 1]);
    check_native(&[(3 * BLOCK_ROWS, 10), (1, 10)], &[1, 1]);
    // Longer than what stays in memory behind the reader.
    check_native(&[(BLOCK_ROWS, 1 << 20); 40], &[1; 40]);
}

#[test]
fn native_files_that_are_none_or_are_cut_are_an_error_with_name_and_place() {
    let file = native(&[(1, 100), (1, 100)]);
    let cut = &file[..file.len() - 1];
    let at = format!("cut short at byte {}", cut.len());
    check_bad(native_contents(), "a", cut, &[&at]);
    check_bad(native_contents(), "a", b"", &["not a native file"]);
    check_bad(native_contents(), "a.zst", &zstd(&file), &["zstd data", "unpack it first"]);
    let mut other = Vec::new();
    frame::write_head("something else", &mut other);
    check_bad(native_contents(), "a", &other, &["does not fit: it has something else"]);
    check_bad(native_contents(), "a", b"{\"a\":1}\n{\"a\":1}\n", &["not a native file"]);
}

const CHILD_PATH: &str = "CUTWATER_TEST_CHILD_PATH";

/// What a process without rights says about a path, as a source and as a sink. Root is bound by no
/// permissions, so the child is nobody.
fn said_without_rights(path: &Path) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("test");
    let this = std::env::current_exe().unwrap();
    fs::copy(this, &program).unwrap();
    let mut child = Command::new(&program);
    child
        .args(["child_that_says_what_it_may_not", "--nocapture"])
        .env(CHILD_PATH, path)
        .current_dir("/");
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        child.uid(65_534).gid(65_534);
    }
    let output = child.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn child_that_says_what_it_may_not() {
    let Ok(path) = std::env::var(CHILD_PATH) else {
        return;
    };
    match find::files(&path) {
        Ok(files) => println!("source: {files:?}"),
        Err(error) => println!("source: {error}"),
    }
    let sink = FileSinkOptions { folder: path.into(), extension: "csv".into(), head: Vec::new() };
    match sink::FileSink::open(&sink, 0) {
        Ok(_) => println!("sink: fine"),
        Err(error) => println!("sink: {error}"),
    }
}

/// Asserts what is said of a path below a folder with a file `file` when `closed` has no rights.
fn check_closed(closed: &str, path: &str, words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("file"), "1\n").unwrap();
    let closed = folder.path().join(closed);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o0)).unwrap();
    let said = said_without_rights(&folder.path().join(path));
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn what_may_not_be_read_or_written_is_said_with_its_path() {
    let source = "source: no permission to read `";
    check_closed("inner", "inner", &[source, "/inner`", "sink: no permission to write", "ls -ld"]);
    check_closed("inner", "inner/file", &[source, "/inner/file`"]);
    check_closed("inner", "inner/*", &[source, "/inner"]);
    check_closed("inner/file", "inner/file", &[source, "/inner/file`"]);
    check_closed("inner/file", "inner", &[source, "/inner/file`", "sink: no permission"]);
    let made = ["sink: no permission to make the folder", "/inner/new`", "name another folder"];
    check_closed("inner", "inner/new", &made);
}
