//! Checkpoints from outside: any of them can be gone on from, listed, checked and kept.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::command::{Case, json_lines};
use crate::crash::{
    PACE, PIPELINE, flip, kill_behind, log, manifests, reference, refused, same_rows, start,
};

/// A run that was killed, with many checkpoints; their epochs, the oldest first.
fn killed() -> (Case, Vec<u64>) {
    let case = Case::new(PIPELINE);
    // Slow: a disk that is busy with what was just built was seen to take 12 s for a checkpoint,
    // and the run must not end before six.
    let slow = "sources.transactions.rows_per_second=2000";
    let mut run = start(&case, &["--set", slow, "--set", "checkpoint.retained=100"]);
    assert!(kill_behind(&case, &mut run, 6), "{}", log(&case));
    let epoch = |name: String| name.trim_end_matches(".json").parse().expect("an epoch");
    let epochs = manifests(&case).into_iter().map(epoch).collect();
    (case, epochs)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs `cutwater checkpoint` and expects this exit code; gives all that it said.
fn checkpoint(case: &Case, args: &[&str], code: i32) -> String {
    let output = case.run(&[&["checkpoint"], args].concat());
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output));
    text(&output)
}

/// Parts below a folder that were set aside.
fn set_aside(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let count = |path: PathBuf| match path.is_dir() {
        true => set_aside(&path),
        false => usize::from(path.display().to_string().contains("/.aside-1/part-")),
    };
    paths.map(count).sum()
}

#[test]
fn any_checkpoint_can_be_gone_on_from_and_newer_ones_are_kept_aside() {
    let expected = reference();
    let (case, epochs) = killed();
    let (middle, newest) = (epochs[epochs.len() / 2], epochs[epochs.len() - 1]);
    assert!(middle < newest);
    let path = format!("data/checkpoints/{middle:010}.json");
    let ended = case.run_well(&["--restore", &path]);
    let said = text(&ended);
    assert!(said.contains(&format!("goes on behind checkpoint {middle}\n")), "{said}");
    same_rows(&case, &expected);
    assert!(case.path(&format!("data/checkpoints.aside-1/{newest:010}.json")).is_file());
    // Parts of later epochs had been seen; they are not lost either.
    assert!(set_aside(&case.path("out")) > 0);
    // A sink that had none then will have those of the next past under the same name.
    name_first_past(&case.path("out"));

    // What is done is done.
    case.run_well(&[]);
    same_rows(&case, &expected);

    // And from what was set aside, by its folder. The parts here are of another past since
    // `middle`: they go aside, and with those of its own past everything is there once.
    let path = format!("data/checkpoints.aside-1/{newest:010}");
    let said = text(&case.run_well(&["--restore", &path]));
    assert!(said.contains(&format!("behind checkpoint {newest}\n")), "{said}");
    assert!(said.contains(&format!("since checkpoint {middle}:")), "{said}");
    bring_back(&case.path("out"), middle + 1, newest);
    same_rows(&case, &expected);
}

/// Gives folders of parts that were set aside first a name that none will have again.
fn name_first_past(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.ends_with(".aside-1") {
            std::fs::rename(&path, path.with_file_name(".first-past")).expect("it can be moved");
        } else if path.is_dir() {
            name_first_past(&path);
        }
    }
}

/// Moves parts of these epochs back that were set aside first.
fn bring_back(folder: &Path, first: u64, last: u64) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_string();
        if path.is_dir() && (!name.starts_with('.') || name == ".first-past") {
            bring_back(&path, first, last);
        } else if folder.ends_with(".first-past") && name.starts_with("part-") {
            let epoch: u64 = name[5..15].parse().expect("an epoch");
            if (first..=last).contains(&epoch) {
                let to = folder.parent().expect("a sink's folder").join(name);
                assert!(!to.exists(), "{}", to.display());
                std::fs::rename(path, to).expect("it can be moved");
            }
        }
    }
}

#[test]
fn a_savepoint_outlives_the_data_dir() {
    let expected = reference();
    let (case, epochs) = killed();
    let said = checkpoint(&case, &["savepoint", "data", "kept/here"], 0);
    assert!(said.starts_with(&format!("checkpoint {} of `crash` saved", epochs[epochs.len() - 1])));
    let second = epochs[1].to_string();
    checkpoint(&case, &["savepoint", "p.toml", "second", "--epoch", &second, "--link"], 0);
    assert!(checkpoint(&case, &["savepoint", "data", "second"], 2).contains("new folder"));
    checkpoint(&case, &["savepoint", "data", "x", "--epoch", "999999"], 2);
    std::fs::remove_dir_all(case.path("data")).expect("a folder to remove");
    case.run_well(&["--restore", "kept/here"]);
    same_rows(&case, &expected);
    // An older one, in another `data_dir`.
    let args = ["--restore", "second", "--set", "engine.data_dir=elsewhere"];
    case.run_well(&args);
    same_rows(&case, &expected);
    checkpoint(&case, &["verify", "kept/here"], 0);
    assert!(case.path("data/checkpoints").is_dir());
}

#[test]
fn checkpoints_are_listed_shown_and_verified() {
    let (case, epochs) = killed();
    let newest = epochs[epochs.len() - 1];
    let json = checkpoint(&case, &["list", "p.toml", "--format", "json"], 0);
    let listed = json_lines(&json);
    let numbers: Vec<u64> = listed.iter().map(|line| line["epoch"].as_u64().unwrap()).collect();
    assert_eq!(numbers, epochs.iter().rev().copied().collect::<Vec<_>>());
    let first = &listed[0];
    assert_eq!((&first["whole"], &first["shards"]), (&Value::from(true), &Value::from(2)));
    assert!(first["sources"]["transactions"].is_u64(), "{first}");
    let full = first["bytes"]["full"].as_u64().unwrap();
    assert!(first["bytes"]["written"].as_u64().unwrap() <= full && full > 0, "{first}");
    let lines = checkpoint(&case, &["list", "data"], 0);
    assert_eq!(lines.lines().count(), epochs.len() + 1, "{lines}");
    assert!(lines.lines().skip(1).all(|line| line.contains(" whole ")), "{lines}");

    let shown = checkpoint(&case, &["show", "data"], 0);
    for word in [&newest.to_string(), "crash", "transactions", "shard-001/image", "xxh3"] {
        assert!(shown.contains(word), "{word} in {shown}");
    }
    let shown = checkpoint(&case, &["show", "data", &epochs[0].to_string(), "--format", "json"], 0);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["epoch"], epochs[0]);
    let said = checkpoint(&case, &["verify", "data"], 0);
    assert_eq!(said.lines().filter(|line| line.contains(": whole, ")).count(), epochs.len());

    // A flipped bit is named, with its file and block; the others are whole.
    let image = case.path(&format!("data/checkpoints/{newest:010}/shard-000/image"));
    let middle = std::fs::metadata(&image).expect("an image").len() / 2;
    flip(&image);
    let block = format!("shard-000/image at byte {}: ", middle / 65536 * 65536);
    let said = checkpoint(&case, &["verify", "data"], 1);
    assert!(said.contains(&format!("checkpoint {newest}: damaged\n")) && said.contains(&block));
    assert_eq!(said.lines().filter(|line| line.contains(": whole, ")).count(), epochs.len() - 1);
    checkpoint(&case, &["verify", "data", &epochs[0].to_string()], 0);
    let json = checkpoint(&case, &["verify", "data", &newest.to_string(), "--format", "json"], 1);
    let line = &json_lines(&json)[0];
    assert_eq!(line["damages"][0]["offset"], middle / 65536 * 65536, "{line}");
    let lines = checkpoint(&case, &["list", "data"], 0);
    assert_eq!(lines.lines().filter(|line| line.contains(" damaged ")).count(), 1, "{lines}");
    // Nor is it gone on from by its name.
    let path = format!("data/checkpoints/{newest:010}.json");
    refused(&case, &["--restore", &path], &["image` at byte"]);
}

/// A run is killed as soon as something was moved aside: whatever was moved by then, the next one
/// goes on from what it finds.
#[test]
fn a_restore_that_is_killed_can_be_gone_on_from() {
    let expected = reference();
    let (case, epochs) = killed();
    checkpoint(&case, &["savepoint", "data", "kept", "--epoch", &epochs[2].to_string()], 0);
    let path = format!("data/checkpoints/{:010}.json", epochs[3]);
    for path in [path.as_str(), "kept"] {
        let before = std::fs::read_dir(case.path("data")).expect("a folder").count();
        let mut run = start(&case, &["--set", PACE, "--restore", path]);
        while std::fs::read_dir(case.path("data")).expect("a folder").count() == before {
            assert!(run.try_wait().expect("a child can be asked").is_none(), "{}", log(&case));
        }
        run.kill().expect("a child can be killed");
        run.wait().expect("a child can be waited for");
        checkpoint(&case, &["verify", "data"], 0);
    }
    case.run_well(&[]);
    same_rows(&case, &expected);
}

#[test]
fn what_is_no_checkpoint_is_refused_and_nothing_moves() {
    let (case, epochs) = killed();
    let before = manifests(&case);
    for (path, why) in
        [("missing", "no such file"), ("out", "no checkpoint in it"), ("p.toml", "manifest")]
    {
        let ended = case.run(&["run", "p.toml", "--restore", path]);
        assert_eq!(ended.status.code(), Some(2), "{}", text(&ended));
        assert!(text(&ended).contains(why), "{}", text(&ended));
    }
    // One of another pipeline, and one that knows a source that is no more.
    checkpoint(&case, &["savepoint", "data", "kept"], 0);
    let toml = std::fs::read_to_string(case.path("p.toml")).expect("the pipeline");
    case.file("p.toml", toml.replace("name = \"crash\"", "name = \"other\""));
    for path in ["kept", &format!("data/checkpoints/{:010}", epochs[0])] {
        refused(&case, &["--restore", path], &["is of the pipeline `crash`"]);
    }
    assert_eq!(manifests(&case), before);
    assert!(!case.path("data/checkpoints/restoring").exists());
    case.file("p.toml", toml.replace("[checkpoint]\ninterval = \"20ms\"", ""));
    let ended = case.run(&["run", "p.toml", "--restore", "kept"]);
    assert_eq!(ended.status.code(), Some(2), "{}", text(&ended));

    for wrong in [&["list", "missing"][..], &["list", "out"], &["show", "data", "999999"]] {
        checkpoint(&case, wrong, 2);
    }
    std::fs::remove_dir_all(case.path("data/checkpoints")).expect("a folder to remove");
    assert!(checkpoint(&case, &["list", "data"], 0).contains("no checkpoint"));
    checkpoint(&case, &["verify", "data"], 1);
}

/// All of it may be called while the pipeline runs and drops what is being looked at.
#[test]
fn looking_does_not_disturb_a_run_nor_the_run_who_looks() {
    let expected = reference();
    let case = Case::new(PIPELINE);
    let pace = ["--set", PACE, "--set", "checkpoint.interval=5ms"];
    let mut run = start(&case, &[&pace[..], &["--set", "checkpoint.retained=1"]].concat());
    let mut looks = 0;
    while run.try_wait().expect("a child can be asked").is_none() {
        if manifests(&case).is_empty() {
            std::thread::yield_now();
            continue;
        }
        checkpoint(&case, &["list", "p.toml"], 0);
        checkpoint(&case, &["verify", "data", "--format", "json"], 0);
        checkpoint(&case, &["savepoint", "data", &format!("kept-{looks}")], 0);
        looks += 1;
    }
    assert!(looks > 0, "{}", log(&case));
    assert!(run.wait().expect("it ended").success(), "{}", log(&case));
    same_rows(&case, &expected);
    checkpoint(&case, &["verify", "kept-0"], 0);
    case.run_well(&["--restore", "kept-0"]);
    same_rows(&case, &expected);
}
