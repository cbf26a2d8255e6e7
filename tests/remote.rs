//! The remote copy of checkpoints, on a real S3 server: a machine may be lost.

use std::collections::BTreeSet;
use std::process::{Child, Output};
use std::time::{Duration, Instant};

use cutwater::edge::objects::Objects;
use serde_json::Value;

use crate::command::Case;
use crate::crash::{PACE, PIPELINE, flip, reference, same_rows};
use crate::s3::{BUCKET, S3};

/// The address that the tests copy to.
fn remote() -> String {
    format!("checkpoint.remote=\"s3://{BUCKET}/deep/crash\"")
}

fn run(case: &Case, s3: &S3, args: &[&str]) -> Output {
    let mut command = case.command(&["run", "p.toml", "--report", "report.json"]);
    s3.known_to(&mut command).args(args).output().expect("the command starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn well(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    said(output)
}

fn start(case: &Case, s3: &S3) -> Child {
    let log = std::fs::File::create(case.path("log")).expect("a log");
    let mut command = case.command(&["run", "p.toml", "--set", PACE, "--set", &remote()]);
    s3.known_to(&mut command).stderr(log).spawn().expect("the command starts")
}

/// Lets a run go on until this many checkpoints have been there, kills it and loses its machine.
fn lose(case: &Case, s3: &S3, checkpoints: usize) {
    let mut run = start(case, s3);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut seen = BTreeSet::new();
    while seen.len() < checkpoints {
        let has_ended = run.try_wait().expect("a child can be asked").is_some();
        let log = || std::fs::read_to_string(case.path("log")).unwrap_or_default();
        assert!(!has_ended && Instant::now() < deadline, "{seen:?}: {}", log());
        seen.extend(s3.names("deep/crash/checkpoints"));
        std::thread::yield_now();
    }
    run.kill().expect("a child can be killed");
    run.wait().expect("a child can be waited for");
    std::fs::remove_dir_all(case.path("data")).expect("a folder to remove");
}

/// A manifest in the remote.
fn manifest(s3: &S3, name: &str) -> Value {
    let path = s3.path(&format!("deep/crash/checkpoints/{name}"));
    let text = std::fs::read_to_string(path).expect("an object");
    let json = text.split("\nxxh3 ").next().expect("a sealed text");
    serde_json::from_str(json).expect("JSON")
}

/// The objects that a manifest names.
fn objects(s3: &S3, name: &str) -> Vec<String> {
    let named = manifest(s3, name)["objects"].clone();
    serde_json::from_value(named).expect("a list of names")
}

fn counts(case: &Case) -> Value {
    case.report()["checkpoints"]["remote"].clone()
}

/// Files larger than a part, and more objects than one answer lists.
#[test]
fn large_files_and_many_objects_go_there_and_back() {
    let s3 = S3::start();
    let objects = Objects::open(&format!("s3://{BUCKET}/many"), &s3.settings());
    let objects = objects.expect("an address");
    let dir = tempfile::tempdir().expect("a folder");
    let (large, back) = (dir.path().join("large"), dir.path().join("back"));
    let bytes: Vec<u8> = (0..(20u32 << 20) + 7).map(|i| (i ^ (i >> 9)) as u8).collect();
    std::fs::write(&large, &bytes).expect("a file");
    objects.put_file("files/large", &large).expect("it is put");
    objects.get_file("files/large", &back).expect("it is there");
    assert!(std::fs::read(&back).expect("a file") == bytes);
    for number in 0..1100 {
        objects.put(&format!("few/{number:04}"), vec![1; number]).expect("it is put");
    }
    let listed = objects.list("few").expect("a list");
    assert_eq!((listed.len(), &listed[1099]), (1100, &("few/1099".to_string(), 1099)));
    objects.remove("few/0000").expect("it is removed");
    assert_eq!(objects.list("").expect("a list").len(), 1100);
}

#[test]
fn a_lost_machine_is_gone_on_from_the_remote() {
    let (s3, expected) = (S3::start(), reference());
    let case = Case::new(PIPELINE);
    lose(&case, &s3, 2);
    let first = well(&run(&case, &s3, &["--set", &remote()]));
    assert!(first.contains("was fetched from `s3://") && first.contains("goes on behind"));
    same_rows(&case, &expected);
    let counts = counts(&case);
    assert!(counts["copied"].as_u64() >= Some(1), "{counts}");
    assert_eq!((&counts["failed"], &counts["behind"]), (&0.into(), &0.into()), "{counts}");
    // What is kept there is what `retained` says, and nothing that none of it names.
    assert_eq!(s3.names("deep/crash/checkpoints").len(), 2);
    let kept = s3.names("deep/crash/checkpoints");
    let named: BTreeSet<String> = kept.iter().flat_map(|name| objects(&s3, name)).collect();
    assert_eq!(s3.names("deep/crash/files"), named.into_iter().collect::<Vec<_>>());
    // The last one is there: another loss at the end costs nothing.
    std::fs::remove_dir_all(case.path("data")).expect("a folder to remove");
    well(&run(&case, &s3, &["--set", &remote()]));
    same_rows(&case, &expected);
}

#[test]
fn damage_in_the_remote_is_named_and_the_one_before_fetched() {
    let (s3, expected) = (S3::start(), reference());
    let case = Case::new(PIPELINE);
    lose(&case, &s3, 3);
    let names = s3.names("deep/crash/checkpoints");
    // Two, and a third if it was killed before it could drop the first.
    let [.., older, newest] = names.as_slice() else { panic!("two are retained: {names:?}") };
    let object = objects(&s3, newest).remove(0);
    flip(&s3.path(&format!("deep/crash/files/{object}")));
    let epoch = &manifest(&s3, older)["manifest"]["epoch"];
    // By its address too, on a machine that does not copy by itself.
    let address = format!("s3://{BUCKET}/deep/crash");
    let ended = run(&case, &s3, &["--restore", &format!("{address}/checkpoints/{newest}")]);
    assert_eq!(ended.status.code(), Some(1), "{}", said(&ended));
    assert!(said(&ended).contains(&object), "{}", said(&ended));
    let text = well(&run(&case, &s3, &["--restore", &address]));
    assert!(text.contains(&object), "{text}");
    assert!(text.contains(&format!("goes on behind checkpoint {epoch}\n")), "{text}");
    assert_eq!(counts(&case), Value::Null);
    same_rows(&case, &expected);
    // What the run went past is kept aside when it copies there again.
    well(&run(&case, &s3, &["--set", &remote(), "--restore", "none"]));
    assert_eq!(s3.names("deep/crash/aside-1").len(), names.len());
    same_rows(&case, &expected);
}

#[test]
fn an_outage_harms_no_run() {
    let (mut s3, expected) = (S3::start(), reference());
    s3.stop();
    let case = Case::new(PIPELINE);
    let text = well(&run(&case, &s3, &["--set", &remote(), "--restore", "none"]));
    same_rows(&case, &expected);
    let found = counts(&case);
    assert_eq!(found["copied"], 0, "{found}");
    assert!(found["failed"].as_u64() >= Some(1) && found["behind"].as_u64() >= Some(1), "{found}");
    assert!(text.matches("could not be copied").count() <= 1, "{text}");
    assert!(text.contains("has no copy of the last checkpoint"), "{text}");
    // On an empty machine nobody knows what the remote has: no fresh start by mistake.
    std::fs::remove_dir_all(case.path("data")).expect("a folder to remove");
    let ended = run(&case, &s3, &["--set", &remote()]);
    assert_eq!(ended.status.code(), Some(1), "{}", said(&ended));
    assert!(said(&ended).contains("--restore none"), "{}", said(&ended));
}

#[test]
fn who_is_not_let_in_is_told() {
    let s3 = S3::start();
    let case = Case::new(PIPELINE);
    let mut command = case.command(&["run", "p.toml", "--set", &remote()]);
    let ended = s3.known_to(&mut command).env("AWS_SECRET_ACCESS_KEY", "guessed").output();
    let ended = ended.expect("the command starts");
    assert_eq!(ended.status.code(), Some(1), "{}", said(&ended));
    assert!(said(&ended).contains("SignatureDoesNotMatch"), "{}", said(&ended));
    let ended = run(&case, &s3, &["--set", "checkpoint.remote=ftp://a/b"]);
    assert_eq!(ended.status.code(), Some(2), "{}", said(&ended));
}
