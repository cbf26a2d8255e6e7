//! Damaged files: golden ones, and every page of a real tree's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Damage, verify};
use crate::store::block::sealed_len;
use crate::store::chance::Chance;
use crate::store::codec::Codec;
use crate::store::disk::{Disk, PAGE};
use crate::store::disk_sim::{Faults, SimDisk};
use crate::store::disk_uring::UringDisk;
use crate::store::entry::NEVER;
use crate::store::error::StoreError;
use crate::store::manifest::NAME;
use crate::store::options::{Options, Profile};
use crate::store::tree::Tree;

/// What the golden trees hold: some values, a deletion, a value that expires.
fn golden(i: u32) -> (Vec<u8>, Vec<u8>, u64) {
    let value = i.to_le_bytes().repeat(8);
    (format!("key {i:04}").into_bytes(), value, if i == 7 { 5000 } else { NEVER })
}

const GOLDEN_KEYS: u32 = 60;

/// The files of a tree with one table, as this program writes them.
fn written(codec: Codec) -> BTreeMap<String, Vec<u8>> {
    let disk = SimDisk::new(1, Faults::default());
    let done: Result<Vec<String>, StoreError> = disk
        .run(async {
            let options = Options::new("t", codec, Profile::Balanced, 0);
            let tree = Tree::open(disk.clone(), options).await?;
            // A run below, so that the deletion stays in the newest.
            tree.put(b"key 0003", b"old", NEVER)?;
            tree.flush(0).await?;
            for (key, value, expiry_ms) in (0..GOLDEN_KEYS).map(golden) {
                tree.put(&key, &value, expiry_ms)?;
            }
            tree.delete(b"key 0003")?;
            tree.flush(0).await?;
            Ok(disk.list("t").await?)
        })
        .unwrap();
    let bytes = |name: String| {
        let bytes = disk.bytes(&format!("t/{name}")).expect("it was listed");
        (name, bytes)
    };
    done.unwrap().into_iter().map(bytes).collect()
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/testdata").join(name)
}

fn read_files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("the golden files are there");
    let file = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    entries.map(file).collect()
}

/// What `verify` says of a folder of these files, and what a tree makes of them.
fn check(files: &BTreeMap<String, Vec<u8>>) -> (Vec<Damage>, Result<usize, StoreError>) {
    let disk = SimDisk::new(1, Faults::default());
    disk.run(disk.make_dir("t")).unwrap().unwrap();
    files.iter().for_each(|(name, bytes)| disk.change(&format!("t/{name}"), bytes.clone()));
    disk.run(async {
        let damages = verify(&disk, "t").await.unwrap();
        let found = async {
            let options = Options::new("t", Codec::None, Profile::Balanced, 0);
            let tree = Tree::open(disk.clone(), options).await?;
            let mut found = 0;
            for (i, (key, value, expiry_ms)) in (0..GOLDEN_KEYS).map(golden).enumerate() {
                for now_ms in [1000, 9000] {
                    let mut out = Vec::new();
                    let is_here = tree.get(&key, now_ms, &mut out).await?;
                    assert_eq!(is_here, i != 3 && expiry_ms > now_ms, "key {i}");
                    assert!(!is_here || out == value);
                    found += usize::from(is_here);
                }
            }
            Ok(found)
        };
        (damages, found.await)
    })
    .unwrap()
}

fn damage(file: &str, at: u64, what: &str) -> Damage {
    Damage { file: format!("t/{file}"), at, what: what.to_string() }
}

/// `STORE_GOLDEN=write` writes them anew: for a new version of the format, beside the old ones.
#[test]
fn golden_files_are_read_and_their_damage_is_named() {
    let table = "table-0000000000000002";
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        let folder = folder(&format!("v1-{codec:?}").to_lowercase());
        if std::env::var("STORE_GOLDEN").is_ok_and(|how| how == "write") {
            fs::create_dir_all(&folder).unwrap();
            let files = written(codec);
            files.iter().for_each(|(name, bytes)| fs::write(folder.join(name), bytes).unwrap());
        }
        let good = read_files(&folder);
        // Other versions of a compressor may pack otherwise; what is not packed is bit for bit.
        assert!(codec != Codec::None || good == written(codec), "the format has changed");
        let all = (GOLDEN_KEYS as usize - 1) * 2 - 1;
        assert_eq!(check(&good), (Vec::new(), Ok(all)), "{codec:?}");
        let (bounds, footer) = (good[table].len() - 2 * PAGE, good[table].len() - PAGE);
        let torn = |name: &str, len: usize| {
            let mut files = good.clone();
            files.get_mut(name).unwrap().truncate(len);
            check(&files).0
        };
        let flipped = |name: &str, at: usize| {
            let mut files = good.clone();
            files.get_mut(name).unwrap()[at] ^= 16;
            check(&files).0
        };
        let sum = "the checksum of a block is wrong";
        assert_eq!(flipped(table, 1000), [damage(table, 0, sum)]);
        assert_eq!(flipped(table, bounds + 40), [damage(table, bounds as u64, sum)]);
        let wrong = "the checksum of a table's footer is wrong";
        assert_eq!(flipped(table, footer + 40), [damage(table, footer as u64, wrong)]);
        let absent = "a table's footer is not there";
        let ends = "the file ends in the middle of a table";
        let both = [damage(table, bounds as u64, absent), damage(table, footer as u64, ends)];
        assert_eq!(torn(table, footer), both);
        assert_eq!(flipped(NAME, 99), [damage(NAME, 0, sum)]);
        let short = "a manifest is not of this length";
        assert_eq!(torn(NAME, 100), [damage(NAME, 0, short)]);
    }
}

#[test]
fn torn_and_flipped_golden_files_are_what_they_are_called() {
    let cases = [
        ("v1-torn", "table-0000000000000002", 4 * PAGE as u64),
        ("v1-flipped", "table-0000000000000002", 0),
        ("v1-torn", NAME, 0),
        ("v1-flipped", NAME, 0),
    ];
    let good = read_files(&folder("v1-none"));
    if std::env::var("STORE_GOLDEN").is_ok_and(|how| how == "write") {
        for (i, (kind, name, _)) in cases.into_iter().enumerate() {
            let mut bytes = good[name].clone();
            match i % 2 {
                0 => bytes.truncate(bytes.len() - 3000),
                _ => bytes[200] ^= 1,
            }
            fs::create_dir_all(folder(kind)).unwrap();
            fs::write(folder(kind).join(name), bytes).unwrap();
        }
    }
    for (kind, name, at) in cases {
        let mut files = good.clone();
        files.insert(name.to_string(), read_files(&folder(kind))[name].clone());
        let (damages, found) = check(&files);
        assert!(!damages.is_empty(), "{kind} {name}");
        assert!(damages.iter().all(|damage| damage.file == format!("t/{name}")), "{damages:?}");
        assert_eq!(damages[0].at, at, "{damages:?}");
        let Err(StoreError::Corrupt { file, .. }) = found else { panic!("{kind}: {found:?}") };
        assert_eq!(file, format!("t/{name}"));
    }
}

/// Runs a check on an executor of its own, in an empty folder of the real disk.
fn on_disk<F: Future<Output = ()> + 'static>(check: impl FnOnce(PathBuf) -> F + Send + 'static) {
    let folder = tempfile::tempdir().expect("there is a place for temporary files");
    let root = folder.path().to_path_buf();
    let executor = glommio::LocalExecutorBuilder::default().spawn(|| check(root));
    executor.expect("io_uring is to be had").join().expect("the check passes");
}

fn small_tables() -> Options {
    let mut options = Options::new("t", Codec::Lz4, Profile::Balanced, 0);
    options.table_bytes = 30_000;
    options
}

const KEYS: u32 = 500;

fn value_of(i: u32) -> Vec<u8> {
    let mut chance = Chance::new(u64::from(i));
    (0..100).map(|_| chance.bits() as u8).collect()
}

/// Where the block starts that each page of a file belongs to.
fn starts(bytes: &[u8]) -> Vec<u64> {
    let (mut starts, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let is_footer = at + PAGE == bytes.len();
        let len = if is_footer { PAGE } else { sealed_len(&bytes[at..]).expect("a good file") };
        starts.extend(std::iter::repeat_n(at as u64, len / PAGE));
        at += len;
    }
    starts
}

/// Reads every key of a tree that may be damaged; an answer that is wrong fails the test. The file
/// that is to blame, if one is found.
async fn read_all(disk: &UringDisk) -> Option<String> {
    let blamed = |error: StoreError| match error {
        StoreError::Corrupt { file, .. } => file,
        other => panic!("{other}"),
    };
    let tree = match Tree::open(disk.clone(), small_tables()).await {
        Ok(tree) => tree,
        Err(error) => return Some(blamed(error)),
    };
    let mut found = None;
    for i in 0..KEYS {
        let mut out = Vec::new();
        match tree.get(&i.to_be_bytes(), 0, &mut out).await {
            Ok(is_here) => assert!(is_here && out == value_of(i), "key {i} is wrong"),
            Err(error) => found = Some(blamed(error)),
        }
    }
    found
}

#[test]
fn every_damaged_page_of_real_files_is_found_and_named() {
    on_disk(|root| async move {
        let disk = UringDisk::open(&root).await.unwrap();
        let tree = Tree::open(disk.clone(), small_tables()).await.unwrap();
        for i in 0..KEYS {
            tree.put(&i.to_be_bytes(), &value_of(i), NEVER).unwrap();
        }
        tree.snapshot().unwrap().write("s", 0).await.unwrap();
        tree.flush(0).await.unwrap();
        drop(tree);
        assert_eq!(verify(&disk, "t").await, Ok(Vec::new()));
        assert_eq!(verify(&disk, "s").await, Ok(Vec::new()));
        let names = disk.list("t").await.unwrap();
        assert!(names.len() >= 3, "{names:?}");
        let table = names.iter().find(|name| *name != NAME).unwrap().clone();
        let (mut checked, mut seen_by_readers) = (0, 0);
        for name in names {
            let (path, file) = (root.join("t").join(&name), format!("t/{name}"));
            let good = fs::read(&path).unwrap();
            for (page, start) in starts(&good).into_iter().enumerate() {
                let mut bad = good.clone();
                bad[page * PAGE + page * 37 % PAGE] ^= 1 << (page % 8);
                fs::write(&path, &bad).unwrap();
                let damages = verify(&disk, "t").await.unwrap();
                let first = damages.first().map(|damage| (damage.file.clone(), damage.at));
                assert_eq!(first, Some((file.clone(), start)), "page {page}: {damages:?}");
                assert_eq!(damages.len(), 1, "page {page}: {damages:?}");
                let blamed = read_all(&disk).await;
                seen_by_readers += usize::from(blamed.is_some());
                assert!(blamed.is_none_or(|blamed| blamed == file), "page {page}");

                fs::write(&path, &good[..page * PAGE]).unwrap();
                let damages = verify(&disk, "t").await.unwrap();
                let named = damages.iter().all(|damage| damage.file == file);
                assert!(named && !damages.is_empty(), "cut at page {page}: {damages:?}");
                assert!(damages[0].at <= (page * PAGE) as u64, "cut at page {page}: {damages:?}");
                assert_eq!(read_all(&disk).await, Some(file.clone()), "cut at page {page}");
                checked += 1;
            }
            fs::write(&path, &good).unwrap();
        }
        // A filter's page is read when its table is opened; of the others each has keys.
        assert!(checked > 20 && seen_by_readers == checked, "{seen_by_readers} of {checked}");
        fs::remove_file(root.join("t").join(&table)).unwrap();
        let missing = damage(&table, 0, "it is missing");
        assert_eq!(verify(&disk, "t").await, Ok(vec![missing]));
        fs::remove_file(root.join("t").join(NAME)).unwrap();
        assert_eq!(verify(&disk, "t").await, Ok(vec![damage(NAME, 0, "it is missing")]));
    });
}

/// Files of the process may not grow beyond a limit: what a full disk looks like without one. The
/// limit is a process's, so the test runs itself in another one.
#[test]
fn a_real_disk_without_room_is_an_error_that_says_so() {
    let inside = "STORE_LIMITED";
    if std::env::var(inside).is_err() {
        let me = std::env::current_exe().unwrap();
        let name = "store::verify::tests::a_real_disk_without_room_is_an_error_that_says_so";
        let script = "trap '' XFSZ; ulimit -f 2048; exec \"$0\" --exact \"$1\"";
        let mut shell = std::process::Command::new("sh");
        let done = shell.args(["-c", script]).arg(me).arg(name).env(inside, "1").output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    on_disk(|root| async move {
        let disk = UringDisk::open(&root).await.unwrap();
        let options = Options::new("t", Codec::None, Profile::Balanced, 0);
        let tree = Tree::open(disk.clone(), options.clone()).await.unwrap();
        tree.put(b"first", b"value", NEVER).unwrap();
        tree.flush(0).await.unwrap();
        // More than a file may have, in one table.
        for i in 0..3000u32 {
            tree.put(&i.to_be_bytes(), &value_of(i).repeat(20), NEVER).unwrap();
        }
        for _ in 0..2 {
            let Err(StoreError::Disk(error)) = tree.flush(0).await else { panic!("it had room") };
            assert_eq!(error.failure, crate::store::disk::DiskFailure::Full, "{error}");
            assert!(error.name.starts_with("t/table-"), "{error}");
        }
        // Nothing is lost, and nothing half-written is left.
        let mut out = Vec::new();
        assert!(tree.get(&7u32.to_be_bytes(), 0, &mut out).await.unwrap());
        assert!(out == value_of(7).repeat(20));
        assert_eq!(disk.list("t").await.unwrap().len(), 2);
        assert_eq!(verify(&disk, "t").await, Ok(Vec::new()));
        drop(tree);
        let tree = Tree::open(disk, options).await.unwrap();
        out.clear();
        assert!(tree.get(b"first", 0, &mut out).await.unwrap() && out == b"value");
    });
}
