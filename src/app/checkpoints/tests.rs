//! Checkpoints written, dropped, damaged, moved, saved and brought back.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::folder::{Folder, Whole};
use super::keeper::Keeper;
use super::place::{Origin, Place};
use super::savepoint::{Wish, savepoint};
use crate::flow::epochs::{Bytes, Checkpoint, Share, Store};
use crate::port::PortError;

fn checkpoint(epoch: u64) -> Checkpoint {
    Checkpoint { epoch, positions: vec![("a".into(), Some(epoch * 3)), ("b".into(), None)] }
}

fn shares(epoch: u64) -> Vec<Share> {
    vec![Share::of("image", vec![epoch as u8; 100]), Share::of("image", Vec::new())]
}

fn latest(keeper: &Keeper) -> (Option<u64>, Vec<String>) {
    let mut notes = Vec::new();
    let found = keeper.folder.latest(&mut notes).unwrap();
    if let Some(found) = &found {
        let first = ("image".to_string(), vec![found.manifest.epoch as u8; 100]);
        assert_eq!((found.shards.len(), &found.shards[0].read), (2, &vec![first]));
        assert_eq!(found.manifest.sources[0].position, Some(found.manifest.epoch * 3));
    }
    (found.map(|found| found.manifest.epoch), notes)
}

fn bytes(written: u64, full: u64) -> Bytes {
    Bytes { written, full }
}

#[test]
fn the_newest_ones_are_kept_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Keeper::new(dir.path(), "p", 2);
    assert_eq!(latest(&keeper), (None, vec![]));
    assert_eq!(keeper.set_aside().unwrap(), None);
    for epoch in [1, 2, 3, 10] {
        assert_eq!(keeper.write(&checkpoint(epoch), &shares(epoch)).unwrap(), bytes(100, 100));
        assert_eq!(latest(&keeper), (Some(epoch), vec![]));
    }
    assert_eq!(keeper.folder.epochs().unwrap(), [10, 3]);
    assert!(!keeper.folder.files(2).exists() && keeper.folder.files(3).exists());
    assert_eq!(keeper.set_aside().unwrap(), Some(dir.path().join("checkpoints.aside-1")));
    assert_eq!(latest(&keeper), (None, vec![]));
}

/// Files that do not change are linked, from where the shard has them or from the checkpoint
/// before, and stay when that one goes.
#[test]
fn what_does_not_change_is_linked() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Keeper::new(dir.path(), "p", 1);
    let table = dir.path().join("table");
    fs::write(&table, [7; 50]).unwrap();
    let mut first = Share::of("delta-1", vec![1; 10]);
    first.linked.push(("table".into(), table.clone()));
    assert_eq!(keeper.write(&checkpoint(1), &[first]).unwrap(), bytes(10, 60));
    let mut second = Share::of("delta-2", vec![2; 20]);
    second.linked.push(("table".into(), table.clone()));
    second.carried.push("delta-1".into());
    assert_eq!(keeper.write(&checkpoint(2), &[second.clone()]).unwrap(), bytes(20, 80));
    fs::remove_file(&table).unwrap();
    let found = keeper.folder.latest(&mut Vec::new()).unwrap().unwrap();
    let shard = &found.shards[0];
    let read: Vec<_> = shard.read.iter().map(|(name, bytes)| (&name[..], bytes[0])).collect();
    assert_eq!(read, [("delta-2", 2), ("delta-1", 1)]);
    assert_eq!(shard.unread, ["table"]);
    assert_eq!(fs::read(shard.folder.join("table")).unwrap(), [7; 50]);
    second.carried.push("delta-9".into());
    second.linked.clear();
    let error = keeper.write(&checkpoint(3), &[second]).unwrap_err().to_string();
    assert!(error.contains("shard-000/delta-9"), "{error}");
}

/// Bits and lengths of every file: the damage is named, and the older checkpoint used.
#[test]
fn any_damage_is_found_named_and_passed_by() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Keeper::new(dir.path(), "p", 2);
    for epoch in [1, 2] {
        keeper.write(&checkpoint(epoch), &shares(epoch)).unwrap();
    }
    for path in [keeper.folder.manifest(2), keeper.folder.files(2).join("shard-000/image")] {
        let whole = fs::read(&path).unwrap();
        let flips = (0..whole.len() * 8).step_by(7).map(|bit| {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            bad
        });
        let cuts = (0..whole.len()).map(|len| whole[..len].to_vec());
        for bad in flips.chain(cuts) {
            fs::write(&path, bad).unwrap();
            let (epoch, notes) = latest(&keeper);
            assert_eq!(epoch, Some(1), "{}", path.display());
            assert!(notes[0].contains(&path.display().to_string()), "{notes:?}");
        }
        fs::write(&path, whole).unwrap();
        assert_eq!(latest(&keeper), (Some(2), vec![]));
    }
    for epoch in [1, 2] {
        fs::write(keeper.folder.manifest(epoch), "").unwrap();
    }
    let error = keeper.folder.latest(&mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("--restore none"), "{error}");
}

fn written(dir: &Path, epochs: &[u64]) -> Keeper {
    let keeper = Keeper::new(dir, "p", 10);
    for &epoch in epochs {
        keeper.write(&checkpoint(epoch), &shares(epoch)).unwrap();
    }
    keeper
}

#[test]
fn paths_mean_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    written(&root, &[3, 4]);
    let folder = Folder { path: root.join("checkpoints") };
    let place = |path: &str, epoch| {
        assert_eq!(Place::find(&root.join(path)).unwrap(), Place { folder: folder.clone(), epoch });
    };
    place("", None);
    place("checkpoints", None);
    place("checkpoints/../checkpoints/", None);
    place("checkpoints/0000000003", Some(3));
    place("checkpoints/0000000003.json", Some(3));
    fs::create_dir(root.join("checkpoints/0000000009")).unwrap();
    for (wrong, why) in [
        ("missing", "no such"),
        ("lock", "no checkpoint's manifest"),
        ("checkpoints/0000000009", "never done"),
        ("checkpoints/0000000003/shard-000", "no checkpoint in it"),
    ] {
        fs::write(root.join("lock"), "").unwrap();
        let error = Place::find(&root.join(wrong)).unwrap_err();
        assert!(matches!(&error, PortError::Setup(text) if text.contains(why)), "{error}");
    }
}

#[test]
fn newer_ones_are_set_aside_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = written(dir.path(), &[1, 2, 3, 4]);
    assert_eq!(keeper.set_aside_those(|epoch| epoch > 4).unwrap(), None);
    let (count, aside) = keeper.set_aside_those(|epoch| epoch > 2).unwrap().unwrap();
    assert_eq!((count, keeper.folder.epochs().unwrap()), (2, vec![2, 1]));
    assert_eq!(Folder { path: aside }.latest(&mut Vec::new()).unwrap().unwrap().manifest.epoch, 4);
}

/// One from another `data_dir` takes the place of what is here; its files are links.
#[test]
fn one_from_elsewhere_is_taken_in() {
    let [here, there] = [0; 2].map(|_| tempfile::tempdir().unwrap());
    let (keeper, other) = (written(here.path(), &[1, 2, 5]), written(there.path(), &[2, 3]));
    let origin = Origin::Folder(other.folder.clone());
    let incoming = keeper.incoming().unwrap();
    origin.bring(2, &incoming).unwrap();
    // Until it is taken in nothing has changed.
    assert_eq!(latest(&keeper), (Some(5), vec![]));
    let mut found = incoming.read(2).unwrap();
    let (count, aside) = keeper.take_in(&incoming, &mut found).unwrap().unwrap();
    assert_eq!((count, keeper.folder.epochs().unwrap()), (3, vec![2]));
    assert_eq!(latest(&keeper), (Some(2), vec![]));
    assert_eq!(found.shards[1].folder, keeper.folder.files(2).join("shard-001"));
    assert!(found.shards[1].folder.is_dir() && !incoming.path.exists());
    assert_eq!(Folder { path: aside }.epochs().unwrap()[0], 5);
    // The next one goes on from there.
    keeper.write(&checkpoint(3), &shares(3)).unwrap();
    assert_eq!(latest(&keeper), (Some(3), vec![]));
    assert_eq!(latest(&other), (Some(3), vec![]));
}

#[test]
fn a_savepoint_needs_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = written(&dir.path().join("data"), &[1, 2, 3]);
    let wish = |epoch| Wish { epoch, is_linked: false };
    let image = keeper.folder.files(3).join("shard-000/image");
    let mut bytes = fs::read(&image).unwrap();
    bytes[50] ^= 1;
    fs::write(&image, bytes).unwrap();
    let mut notes = Vec::new();
    let to = dir.path().join("a/b");
    assert_eq!(savepoint(&keeper.folder, wish(None), &to, &mut notes).unwrap().epoch, 2);
    assert!(notes.len() == 1 && notes[0].contains("checkpoint 3"), "{notes:?}");
    let one = dir.path().join("one");
    savepoint(&keeper.folder, Wish { epoch: Some(1), is_linked: true }, &one, &mut notes).unwrap();
    let used = savepoint(&keeper.folder, wish(None), &to, &mut notes).unwrap_err();
    let missing = savepoint(&keeper.folder, wish(Some(9)), &dir.path().join("c"), &mut notes);
    for (error, word) in [(used, "new folder"), (missing.unwrap_err(), "it has 3, 2, 1")] {
        assert!(matches!(&error, PortError::Setup(text) if text.contains(word)), "{error}");
    }
    // Nothing was left where it was taken from.
    let names = fs::read_dir(&keeper.folder.path).unwrap();
    assert_eq!(names.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count(), 3);
    fs::remove_dir_all(dir.path().join("data")).unwrap();
    for (path, epoch) in [(&to, 2), (&one, 1)] {
        let place = Place::find(path).unwrap();
        let seen = place.folder.look(epoch, true, &mut Whole::default()).unwrap().unwrap();
        assert_eq!((seen.damages, place.folder.epochs().unwrap()), (vec![], vec![epoch]));
    }
}

/// Whatever moment a run beside it chooses to drop what is being saved.
#[test]
fn a_savepoint_is_whole_beside_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Arc::new(Keeper::new(&dir.path().join("data"), "p", 1));
    keeper.write(&checkpoint(1), &shares(1)).unwrap();
    let folder = keeper.folder.clone();
    let runs = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        let write = || {
            for epoch in 2.. {
                keeper.write(&checkpoint(epoch % 256), &shares(epoch % 256)).unwrap();
                if epoch == 255 || !runs.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
            }
        };
        scope.spawn(write);
        for number in 0..20 {
            let to = dir.path().join(format!("to-{number}"));
            let wish = Wish { epoch: None, is_linked: number % 2 == 1 };
            let saved = savepoint(&folder, wish, &to, &mut Vec::new()).unwrap();
            let place = Place::find(&to).unwrap();
            assert_eq!(place.folder.read(saved.epoch).unwrap().manifest, saved);
        }
        runs.store(false, std::sync::atomic::Ordering::Relaxed);
    });
}
