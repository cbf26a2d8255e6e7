//! Real files on a disk that fails: calls that end with EIO, and checkpoints of which any block is
//! cut off or has a bit turned. Each is named, and no answer is wrong. (Tables, which are read by
//! direct I/O: `store::verify::tests`. A full disk: `store::disk_uring`. Every step: `sim`.)

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::command::{Case, own};
use crate::crash::{PACE, PIPELINE, kill_behind, log, manifests, reference, same_rows, start};

/// What has one checksum in a checkpoint's files, bytes.
const BLOCK: usize = 64 << 10;

/// The library that makes calls fail.
fn eio(case: &Case) -> PathBuf {
    let library = case.path("eio.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(own("tests/eio.c")).arg("-ldl");
    let built = cc.status().expect("a C compiler: Rust links with it too");
    assert!(built.success(), "tests/eio.c is compiled");
    library
}

/// A run whose calls of a kind fail on files whose path has `path` in it, the `from`th first.
fn run_on(case: &Case, call: &str, path: &str, from: usize, count: usize, set: &[&str]) -> Output {
    let library = eio(case);
    let mut command = case.command(&["run", "p.toml", "--report", "report.json"]);
    command.args(set.iter().flat_map(|set| ["--set", *set]));
    command.env("LD_PRELOAD", library).env("EIO_CALL", call).env("EIO_PATH", path);
    command.env("EIO_FROM", from.to_string()).env("EIO_COUNT", count.to_string());
    command.output().expect("the command starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn checkpoints_that_fail_by_eio_do_not_harm_the_run() {
    let expected = reference();
    for (call, path) in [("write", "/checkpoints/"), ("sync", "/checkpoints/")] {
        let case = Case::new(PIPELINE);
        let ended = run_on(&case, call, path, 10, 5, &[PACE, "checkpoint.tolerable_failures=9"]);
        assert!(ended.status.success(), "{call}: {}", said(&ended));
        let failed = case.report()["checkpoints"]["failed"].as_u64().expect("a count");
        assert!((1..=5).contains(&failed), "{call}: {failed}");
        same_rows(&case, &expected);
    }
}

#[test]
fn a_disk_that_dies_ends_the_run_and_the_next_one_gives_the_same_rows() {
    let expected = reference();
    let cases = [
        ("write", "/checkpoints/", "checkpoints/"),
        ("sync", "/checkpoints/", "checkpoints/"),
        ("write", "/out/", "out/"),
        ("sync", "/out/", "out/"),
    ];
    for (call, path, named) in cases {
        let case = Case::new(PIPELINE);
        let set = [PACE, "checkpoint.tolerable_failures=0"];
        let ended = run_on(&case, call, path, 40, usize::MAX >> 2, &set);
        let text = said(&ended);
        assert_eq!(ended.status.code(), Some(1), "{call} {path}: {text}");
        assert!(text.contains("Input/output error") && text.contains(named), "{call}: {text}");
        case.run_well(&[]);
        same_rows(&case, &expected);
    }
}

#[test]
fn a_checkpoint_that_cannot_be_read_is_named_and_no_row_is_wrong() {
    let expected = reference();
    let case = Case::new(PIPELINE);
    let mut run = start(&case, &["--set", PACE]);
    assert!(kill_behind(&case, &mut run, 4), "{}", log(&case));
    let newest = newest(&case);
    let ended = run_on(&case, "read", &format!("/{newest}/"), 1, usize::MAX >> 2, &[]);
    let text = said(&ended);
    assert!(text.contains("Input/output error") && text.contains(&newest), "{text}");
    if ended.status.success() {
        same_rows(&case, &expected);
    } else {
        assert_eq!(ended.status.code(), Some(1), "{text}");
    }
    case.run_well(&[]);
    same_rows(&case, &expected);
}

/// The folder's name of the newest checkpoint.
fn newest(case: &Case) -> String {
    let newest = manifests(case).into_iter().next_back().expect("checkpoints were made");
    newest.trim_end_matches(".json").to_string()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// `verify` must name the file, and the block where blocks have checksums.
fn is_named(case: &Case, epoch: &str, path: &Path, block: Option<usize>) {
    let number = epoch.trim_start_matches('0');
    let ended = case.run(&["checkpoint", "verify", "data", number]);
    let text = String::from_utf8_lossy(&ended.stdout).into_owned() + &said(&ended);
    assert_eq!(ended.status.code(), Some(1), "{}: {text}", path.display());
    let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
    assert!(text.contains(name), "{} is not named: {text}", path.display());
    if let Some(block) = block {
        let at = format!("at byte {}", block * BLOCK);
        assert!(text.contains(&at), "{}, {at}: {text}", path.display());
    }
}

#[test]
fn every_block_of_every_file_of_a_checkpoint_is_watched() {
    let expected = reference();
    let case = Case::new(PIPELINE);
    let mut run = start(&case, &["--set", PACE, "--set", "checkpoint.interval=300ms"]);
    assert!(kill_behind(&case, &mut run, 6), "{}", log(&case));
    let epoch = newest(&case);
    let folder = case.path("data/checkpoints");
    let mut all = files(&folder.join(&epoch));
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for kind in ["image", "start", "delta-", "log-"] {
        assert!(all.iter().any(|path| name(path).starts_with(kind)), "no {kind} in {all:?}");
    }
    all.push(folder.join(format!("{epoch}.json")));
    for path in &all {
        let whole = std::fs::read(path).expect("a file");
        let is_manifest = path.extension().is_some();
        let with = |bytes: &[u8], block: Option<usize>| {
            // Files are shared with other checkpoints: the name gets another file.
            let other = case.path("other");
            std::fs::write(&other, bytes).expect("a file");
            std::fs::rename(&other, path).expect("it takes the name");
            is_named(&case, &epoch, path, block);
        };
        let blocks = (whole.len() / BLOCK).min(40);
        for block in 0..=blocks {
            let at = (block * BLOCK + 77).min(whole.len() - 1);
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (block % 8);
            let is_content = !is_manifest && at < whole.len() - 8 * whole.len().div_ceil(BLOCK);
            with(&flipped, is_content.then_some(block));
            with(&whole[..(block * BLOCK).min(whole.len() - 1)], None);
        }
        std::fs::write(path, &whole).expect("a file");
    }
    // With the last one flipped a run passes it by, or says why not; then it goes on.
    let target = all.iter().find(|path| name(path).starts_with("log-")).expect("it was there");
    let whole = std::fs::read(target).expect("a file");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let other = case.path("other");
    std::fs::write(&other, flipped).expect("a file");
    std::fs::rename(&other, target).expect("it takes the name");
    let ended = case.run(&["run", "p.toml"]);
    assert!(said(&ended).contains("log-"), "{}", said(&ended));
    assert!(ended.status.success(), "{}", said(&ended));
    same_rows(&case, &expected);
}
