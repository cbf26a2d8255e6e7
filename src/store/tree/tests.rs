//! The tree against a map: plainly, with a task at work beside, crashed at any await, and on disks
//! that fail. A seed that fails prints how to run it again.

mod ahead;
mod restore;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use super::{Peek, Tree, Work, hash_of};
use crate::ground::limits::{
    STORE_FROZEN_MAX, STORE_KEY_BYTES_MAX, STORE_MEMORY_BYTES_MIN, STORE_READS_IN_FLIGHT,
    STORE_VALUE_BYTES_MAX,
};
use crate::store::chance::Chance;
use crate::store::codec::Codec;
use crate::store::disk::Disk;
use crate::store::disk_sim::{Faults, SimDisk};
use crate::store::entry::NEVER;
use crate::store::error::StoreError;
use crate::store::options::{Options, Profile};
use crate::store::pick::Policy;

const KEYS: usize = 150;
/// Seeds of each test, if `STORE_SEEDS` does not say.
const SEEDS: u64 = 250;

/// Value and expiry by key.
type Model = BTreeMap<Vec<u8>, (Vec<u8>, u64)>;

/// What a run did, kept outside of it: a crash drops the run.
struct History {
    chance: Chance,
    now_ms: u64,
    model: Model,
    /// The model as it was at each freeze.
    freezes: Vec<Model>,
    /// The freeze that is known to be durable.
    durable: usize,
    /// Folder, model, and whether it was said to be written.
    snapshots: Vec<(String, Model, bool)>,
    /// Looks at the tree's work that saw two merges under way.
    both_merges: usize,
}

/// Says how to run a seed again if the test panics in it.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("replay: STORE_SEED={} cargo test --lib store::tree", self.0);
        }
    }
}

/// Runs a check for many seeds, or for one from the environment.
fn for_seeds(check: impl Fn(u64)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("STORE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("STORE_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let _replay = Replay(seed);
        check(seed);
    }
}

fn options(seed: u64) -> Options {
    let codecs = [Codec::None, Codec::Lz4, Codec::Zstd];
    let codec = codecs[seed as usize % codecs.len()];
    let mut options = Options::new("t", codec, Profile::Balanced, 0);
    options.policy = match seed % 2 {
        0 => Policy::Levelled { runs: 2, base_bytes: 60_000, ratio: 2 },
        _ => Policy::Universal { runs: 3, larger_percent: 1, space_percent: 100 },
    };
    options.table_bytes = 40_000;
    options.step_bytes = 10_000;
    options
}

impl History {
    fn new(seed: u64) -> RefCell<History> {
        RefCell::new(History {
            chance: Chance::new(seed),
            now_ms: 1000,
            model: Model::new(),
            freezes: vec![Model::new()],
            durable: 0,
            snapshots: Vec::new(),
            both_merges: 0,
        })
    }

    fn key(&mut self) -> Vec<u8> {
        let key = self.chance.below(KEYS);
        // Some keys are long, none the start of all others.
        format!("{key:03}{}", "k".repeat(key % 7 * 20)).into_bytes()
    }

    fn value(&mut self) -> (Vec<u8>, u64) {
        let len = if self.chance.one_in(30) { 9000 } else { self.chance.below(400) };
        let value = vec![self.chance.bits() as u8; len];
        let soon = self.now_ms + self.chance.below(100) as u64;
        (value, if self.chance.one_in(4) { soon } else { NEVER })
    }

    fn froze(&mut self) {
        self.freezes.push(self.model.clone());
    }

    fn saw(&mut self, tree: &Tree<SimDisk>) {
        let (merging, gathering) = (tree.merging.borrow(), tree.gathering.borrow());
        self.both_merges += usize::from(merging.is_some() && gathering.is_some());
    }
}

fn seen(model: &Model, now_ms: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let live = model.iter().filter(|(_, (_, expiry_ms))| *expiry_ms > now_ms);
    live.map(|(key, (value, _))| (key.clone(), value.clone())).collect()
}

async fn contents<D: Disk>(
    tree: &Tree<D>,
    from: &[u8],
    now_ms: u64,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
    let (mut scan, mut found) = (tree.scan(from, now_ms).await?, Vec::new());
    while let Some((key, value)) = scan.entry() {
        found.push((key.to_vec(), value.to_vec()));
        scan.next().await?;
    }
    Ok(found)
}

/// Changes a value of a key that was fetched, whoever worked meanwhile.
async fn update(
    tree: &Tree<SimDisk>,
    history: &RefCell<History>,
    now_ms: u64,
) -> Result<(), StoreError> {
    let key = history.borrow_mut().key();
    let hash = hash_of(&key);
    let fetched = tree.fetch(&[&key], &[hash]).await?;
    tree.prefetch(&[hash]);
    let change = |value: &mut [u8]| value.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
    let mut history = history.borrow_mut();
    let known = history.model.get_mut(&key).filter(|(_, expiry_ms)| *expiry_ms > now_ms);
    let mut found = tree.update_hashed(hash, &key, now_ms, change)?;
    if found == Peek::Unknown {
        let mut out = Vec::new();
        let read = |value: &[u8]| out.extend_from_slice(value);
        found = tree.fetched(&fetched, (0, hash, &key), now_ms, read);
        change(&mut out);
        if let (Peek::Found, Some((_, expiry_ms))) = (found, &known) {
            tree.put_hashed(hash, &key, &out, *expiry_ms)?;
        }
    }
    let expected = if known.is_some() { Peek::Found } else { Peek::Absent };
    assert_eq!(found, expected, "so little is written that nothing is unknown");
    known.into_iter().for_each(|(value, _)| change(value));
    Ok(())
}

/// One step: something is written, or read and compared.
async fn step(tree: &Tree<SimDisk>, history: &RefCell<History>) -> Result<(), StoreError> {
    let kind = history.borrow_mut().chance.below(40);
    history.borrow_mut().now_ms += u64::from(kind.is_multiple_of(8));
    let now_ms = history.borrow().now_ms;
    match kind {
        0..4 => update(tree, history, now_ms).await?,
        4..22 => {
            let mut history = history.borrow_mut();
            let (key, (value, expiry_ms)) = (history.key(), history.value());
            tree.put(&key, &value, expiry_ms)?;
            history.model.insert(key, (value, expiry_ms));
        }
        22..28 => {
            let mut history = history.borrow_mut();
            let key = history.key();
            tree.delete(&key)?;
            history.model.remove(&key);
        }
        28..34 => {
            let key = history.borrow_mut().key();
            let mut found = b"before".to_vec();
            let is_here = tree.get(&key, now_ms, &mut found).await?;
            let model = &history.borrow().model;
            let expected = model.get(&key).filter(|(_, expiry_ms)| *expiry_ms > now_ms);
            assert_eq!(is_here.then(|| &found[6..]), expected.map(|(value, _)| &value[..]));
        }
        34..37 => {
            let keys: Vec<Vec<u8>> = (0..20).map(|_| history.borrow_mut().key()).collect();
            let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            let mut found = vec![None; keys.len()];
            tree.get_many(&keys, now_ms, |i, value| {
                assert!(found[i].is_none(), "each key once");
                found[i] = Some(value.map(<[u8]>::to_vec));
            })
            .await?;
            let model = &history.borrow().model;
            for (key, found) in keys.iter().zip(found) {
                let expected = model.get(*key).filter(|(_, expiry_ms)| *expiry_ms > now_ms);
                assert_eq!(found.expect("each key once"), expected.map(|(value, _)| value.clone()));
            }
        }
        37..39 => {
            let from = history.borrow_mut().key();
            let found = contents(tree, &from, now_ms).await?;
            let expected = seen(&history.borrow().model, now_ms);
            let expected: Vec<_> = expected.into_iter().filter(|(key, _)| *key >= from).collect();
            assert_eq!(found, expected);
        }
        _ => {
            tree.freeze()?;
            history.borrow_mut().froze();
        }
    }
    Ok(())
}

/// Writes a snapshot of what is there now.
async fn snapshot(tree: &Tree<SimDisk>, history: &RefCell<History>) -> Result<(), StoreError> {
    let (i, now_ms, writing) = {
        let mut history = history.borrow_mut();
        let i = history.snapshots.len();
        let writing = tree.snapshot()?;
        history.froze();
        let model = history.model.clone();
        history.snapshots.push((format!("s{i}"), model, false));
        (i, history.now_ms, writing)
    };
    writing.write(&format!("s{i}"), now_ms).await?;
    history.borrow_mut().snapshots[i].2 = true;
    Ok(())
}

/// Steps, flushes, merges and snapshots in one task.
async fn drive(disk: &SimDisk, seed: u64, history: &RefCell<History>) -> Result<(), StoreError> {
    let tree = Tree::open(disk.clone(), options(seed)).await?;
    for _ in 0..400 {
        step(&tree, history).await?;
        let kind = history.borrow_mut().chance.below(40);
        let now_ms = history.borrow().now_ms;
        match kind {
            0 => {
                history.borrow_mut().froze();
                tree.flush(now_ms).await?;
                let mut history = history.borrow_mut();
                history.durable = history.freezes.len() - 1;
            }
            1..6 => {
                let _ = tree.work(now_ms).await?;
                history.borrow_mut().saw(&tree);
            }
            6 => snapshot(&tree, history).await?,
            7 if seed.is_multiple_of(5) => tree.compact_all(now_ms).await?,
            _ => {}
        }
    }
    let now_ms = history.borrow().now_ms;
    tree.settle(now_ms).await
}

/// Steps and snapshots, and beside them another task that works.
async fn drive_beside(
    disk: &SimDisk,
    seed: u64,
    history: &RefCell<History>,
) -> Result<(), StoreError> {
    let tree = Tree::open(disk.clone(), options(seed)).await?;
    let is_over = Cell::new(false);
    let front = async {
        for i in 0..400 {
            step(&tree, history).await?;
            if i % 97 == 50 {
                snapshot(&tree, history).await?;
            }
        }
        is_over.set(true);
        Ok(())
    };
    let beside = async {
        while !is_over.get() {
            let now_ms = history.borrow().now_ms;
            let work = tree.work(now_ms).await?;
            history.borrow_mut().saw(&tree);
            if work == Work::Idle {
                // A turn for the others.
                disk.list("t").await?;
            }
        }
        Ok(())
    };
    both(front, beside).await?;
    let now_ms = history.borrow().now_ms;
    tree.settle(now_ms).await
}

/// Runs two futures together; ends with both, or with the first error.
async fn both(
    a: impl Future<Output = Result<(), StoreError>>,
    b: impl Future<Output = Result<(), StoreError>>,
) -> Result<(), StoreError> {
    let (mut a, mut b, mut ended) = (pin!(a), pin!(b), [false; 2]);
    poll_fn(|context| {
        for (i, is_ended) in ended.iter_mut().enumerate() {
            if *is_ended {
                continue;
            }
            let polled = if i == 0 { a.as_mut().poll(context) } else { b.as_mut().poll(context) };
            match polled {
                Poll::Ready(Ok(())) => *is_ended = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        if ended == [true; 2] { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// Checks that a tree holds what a run may have left, and that its snapshots are what they were.
fn check_left(disk: &SimDisk, seed: u64, history: &History) {
    let now_ms = history.now_ms;
    let done: Result<(), StoreError> = disk
        .run(async {
            let tree = Tree::open(disk.clone(), options(seed)).await?;
            let found = contents(&tree, &[], now_ms).await?;
            let mut may_be = history.freezes[history.durable..].iter();
            assert!(may_be.any(|model| seen(model, now_ms) == found), "no freeze left this");
            // It goes on from there.
            tree.put(b"more", b"of it", NEVER)?;
            tree.flush(now_ms).await?;
            tree.compact_all(now_ms).await?;
            for table in tree.version().tables() {
                table.verify().await?;
            }
            let after = contents(&tree, &[], now_ms).await?;
            assert_eq!(after.len(), found.len() + 1);
            drop(tree);
            for (folder, model, is_written) in &history.snapshots {
                match Tree::restore(disk.clone(), folder, options(seed)).await {
                    Ok(tree) => {
                        assert_eq!(contents(&tree, &[], now_ms).await?, seen(model, now_ms));
                    }
                    Err(StoreError::Corrupt { what: "there is no snapshot", .. }) => {
                        assert!(!is_written, "{folder} was written");
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
        .expect("this disk does not crash");
    done.expect("this disk does not fail");
}

#[test]
fn a_tree_is_a_map() {
    let both_merges = Cell::new(0);
    for_seeds(|seed| {
        for is_beside in [false, true] {
            let (disk, history) = (SimDisk::new(seed, Faults::default()), History::new(seed));
            let done = match is_beside {
                false => disk.run(drive(&disk, seed, &history)),
                true => disk.run(drive_beside(&disk, seed, &history)),
            };
            done.unwrap().unwrap();
            check_left(&disk, seed, &history.borrow());
            both_merges.set(both_merges.get() + history.borrow().both_merges);
        }
    });
    println!("two merges were under way at {} steps", both_merges.get());
    assert!(both_merges.get() > 0 || std::env::var("STORE_SEED").is_ok());
}

#[test]
fn a_crash_at_any_await_loses_nothing_that_was_durable() {
    let (crashes, written) = (Cell::new(0), Cell::new(0));
    for_seeds(|seed| {
        for round in 0..2 {
            // Two seeds in three crash early, where every request is a different one.
            let span = if seed % 3 == 0 { 3000 } else { 300 };
            let crash_at = Some(Chance::new(seed * 2 + round).below(span) as u64);
            let disk = SimDisk::new(seed, Faults { crash_at, ..Faults::default() });
            let history = History::new(seed);
            let ended = match round {
                0 => disk.run(drive(&disk, seed, &history)),
                _ => disk.run(drive_beside(&disk, seed, &history)),
            };
            crashes.set(crashes.get() + u64::from(ended.is_err()));
            let found = disk.crash(seed + 1, Faults::default());
            let history = history.borrow();
            let done = history.snapshots.iter().filter(|snapshot| snapshot.2);
            written.set(written.get() + done.count());
            check_left(&found, seed, &history);
        }
    });
    println!("{} crashes, {} snapshots written before them", crashes.get(), written.get());
    assert!(crashes.get() > 0 && std::env::var("STORE_SEED").is_ok() || written.get() > 0);
}

#[test]
fn a_failing_disk_ends_in_an_error_and_never_in_a_wrong_answer() {
    let failures = Cell::new(0);
    for_seeds(|seed| {
        let n = Some(Chance::new(seed).below(if seed % 4 == 0 { 2000 } else { 100 }) as u64);
        let none = Faults::default();
        let faults = match seed % 5 {
            0 => Faults { read_at: n, ..none },
            1 => Faults { write_at: n, ..none },
            2 => Faults { sync_at: n, ..none },
            3 => Faults { name_at: n, ..none },
            _ => Faults { bytes_max: n.map(|n| n * 1000), ..none },
        };
        let (disk, history) = (SimDisk::new(seed, faults), History::new(seed));
        match disk.run(drive(&disk, seed, &history)).unwrap() {
            Ok(()) => {}
            Err(StoreError::Disk(_)) => failures.set(failures.get() + 1),
            Err(other) => panic!("{other}"),
        }
        disk.set_faults(Faults::default());
        // As after the process ended, and as after the power did.
        check_left(&disk.crash(seed, Faults::default()), seed, &history.borrow());
        if seed % 5 != 2 {
            check_left(&disk, seed, &history.borrow());
        }
    });
    println!("{} runs failed", failures.get());
}

#[test]
fn a_seed_runs_the_same_twice() {
    let run = |seed: u64| {
        let (disk, history) = (SimDisk::new(seed, Faults::default()), History::new(seed));
        disk.run(drive_beside(&disk, seed, &history)).unwrap().unwrap();
        let names = disk.run(disk.list("t")).unwrap().unwrap();
        let files: Vec<_> = names.iter().map(|name| disk.bytes(&format!("t/{name}"))).collect();
        (disk.counts(), names, files)
    };
    (0..5).for_each(|seed| assert!(run(seed) == run(seed), "seed {seed}"));
}

/// Fills a tree with several times its memory, working only when it asks for it, and checks what
/// it holds on the way.
async fn check_budget(disk: SimDisk, profile: Profile, value_len: usize) {
    let mut options = Options::new("t", Codec::None, profile, STORE_MEMORY_BYTES_MIN);
    options.table_bytes = 4 << 20;
    let most = options.memory_bytes + options.memory_bytes / 10;
    let tree = Tree::open(disk, options).await.unwrap();
    let (mut chance, mut busy, mut held_max) = (Chance::new(1), 0, 0);
    let keys = (2 * STORE_MEMORY_BYTES_MIN / (value_len + 40)) as u64;
    let mut out = Vec::new();
    for i in 0..keys {
        let key = i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
        let value = vec![i as u8; value_len];
        while tree.put(&key, &value, NEVER) == Err(StoreError::Busy) {
            busy += 1;
            tree.work(0).await.unwrap();
            held_max = held_max.max(tree.memory_bytes());
        }
        // Reads fill the cache.
        if i % 16 == 0 {
            let read = chance.below(i as usize + 1) as u64;
            out.clear();
            let key = read.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
            assert!(tree.get(&key, 0, &mut out).await.unwrap());
            assert!(out.iter().all(|&byte| byte == read as u8) && out.len() == value_len);
            held_max = held_max.max(tree.memory_bytes());
        }
    }
    println!("{profile:?}, values of {value_len}: {held_max} of {most}, {busy} times busy");
    assert!(busy > 3 && held_max <= most && held_max > most / 4, "tree invariant 5");
    tree.settle(0).await.unwrap();
    let (mut scan, mut count) = (tree.scan(&[], 0).await.unwrap(), 0);
    while scan.entry().is_some() {
        count += 1;
        scan.next().await.unwrap();
    }
    assert_eq!(count, keys);
}

#[test]
fn memory_stays_within_its_budget_and_a_tenth() {
    for (profile, value_len) in
        [(Profile::Balanced, 1000), (Profile::WriteHeavy, 5000), (Profile::ReadHeavy, 1_000_000)]
    {
        let disk = SimDisk::new(1, Faults::default());
        disk.run(check_budget(disk.clone(), profile, value_len)).unwrap();
    }
}

#[test]
fn keys_values_and_frozen_memtables_have_bounds() {
    let disk = SimDisk::new(1, Faults::default());
    disk.run(async {
        let tree = Tree::open(disk.clone(), options(0)).await.unwrap();
        let (key, value) = (vec![1; STORE_KEY_BYTES_MAX + 1], vec![2; STORE_VALUE_BYTES_MAX]);
        let (longest, largest) = (&key[1..], &value[..options(0).value_bytes_max()]);
        let bytes = key.len();
        let refused = StoreError::KeyTooLong { bytes, most: STORE_KEY_BYTES_MAX };
        assert_eq!(tree.put(&key, &[], NEVER), Err(refused.clone()));
        assert_eq!(tree.delete(&key), Err(refused));
        let refused = StoreError::ValueTooLong { bytes: value.len(), most: largest.len() };
        assert_eq!(tree.put(&[], &value, NEVER), Err(refused));
        tree.put(longest, largest, NEVER).unwrap();
        tree.put(&[], &[], NEVER).unwrap();
        tree.flush(0).await.unwrap();
        let found = contents(&tree, &[], 0).await.unwrap();
        let expected = vec![(vec![], vec![]), (longest.to_vec(), largest.to_vec())];
        assert!(found == expected);
        for i in 0..STORE_FROZEN_MAX {
            tree.put(&[i as u8], &[], NEVER).unwrap();
            tree.freeze().unwrap();
        }
        tree.freeze().expect("nothing is to be frozen");
        tree.put(&[0], &[], NEVER).unwrap();
        assert_eq!(tree.freeze(), Err(StoreError::Busy));
        assert!(matches!(tree.snapshot(), Err(StoreError::Busy)));
        tree.work(0).await.unwrap();
        tree.freeze().unwrap();
    })
    .unwrap();
}

/// A worker that does no more than it must would only flush.
#[test]
fn who_writes_waits_while_too_many_runs_wait_to_be_merged() {
    let disk = SimDisk::new(1, Faults::default());
    disk.run(async {
        let options = Options::new("t", Codec::None, Profile::Tiny, 0);
        let most = options.runs_max + options.memtables_bytes() / options.memtable_bytes();
        let tree = Tree::open(disk.clone(), options).await.unwrap();
        let (mut refused, mut flushed_most) = (0, 0);
        for i in 0..3_000u64 {
            let key = i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
            while tree.put(&key, &[i as u8; 60], NEVER) == Err(StoreError::Busy) {
                refused += 1;
                tree.work(0).await.unwrap();
            }
            flushed_most = flushed_most.max(tree.version().flushed());
        }
        assert!(refused > 0 && (2..=most).contains(&flushed_most), "{refused}, {flushed_most}");
    })
    .unwrap();
}

/// Regression: a merge of all flushed runs and a level that had grown without bound stopped whoever
/// wrote for tens of seconds, and at once in a tree that was opened in that state.
#[test]
fn regression_who_writes_waits_for_few_steps_however_much_is_to_be_merged() {
    const VALUE_BYTES: usize = 8192;
    for profile in [Profile::Balanced, Profile::WriteHeavy] {
        let disk = SimDisk::new(1, Faults::default());
        let mut options = Options::new("t", Codec::None, profile, 0);
        options.memory_bytes = 2 << 20;
        options.table_bytes = 256 << 10;
        options.step_bytes = 64 << 10;
        if let Policy::Levelled { base_bytes, .. } = &mut options.policy {
            *base_bytes = 2 << 20;
        }
        disk.run(async {
            let (mut most, mut flushed_most, mut merges_most, mut number) = (0, 0, 0, 0u64);
            for _ in 0..2 {
                let tree = Tree::open(disk.clone(), options.clone()).await.unwrap();
                for _ in 0..4_000 {
                    number += 1;
                    let key = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
                    let mut steps = 0;
                    while tree.put(&key, &[7; VALUE_BYTES], NEVER) == Err(StoreError::Busy) {
                        steps += 1;
                        tree.work(0).await.unwrap();
                    }
                    (most, flushed_most) =
                        (most.max(steps), flushed_most.max(tree.version().flushed()));
                    let merges = [&tree.merging, &tree.gathering];
                    let merges = merges.iter().filter(|merge| merge.borrow().is_some()).count();
                    merges_most = merges_most.max(merges);
                }
            }
            // A memtable is 8 steps to flush; one merge of everything would be 1,000.
            println!("{profile:?}: {most} steps, {flushed_most} flushed runs");
            assert!(most <= 160, "{profile:?}: who writes waited for {most} steps");
            assert_eq!(merges_most, 2, "{profile:?}");
        })
        .unwrap();
    }
}

#[test]
fn cold_keys_are_read_together() {
    let disk = SimDisk::new(1, Faults::default());
    disk.run(async {
        let tree = Tree::open(disk.clone(), options(1)).await.unwrap();
        let keys: Vec<[u8; 4]> = (0..5000u32).map(u32::to_be_bytes).collect();
        keys.iter().for_each(|key| tree.put(key, &[7; 100], NEVER).unwrap());
        tree.flush(0).await.unwrap();
        // What was written lately stays in memory, so another tree is asked.
        drop(tree);
        let tree = Tree::open(disk.clone(), options(1)).await.unwrap();
        let wanted: Vec<&[u8]> = keys.iter().step_by(17).map(|key| &key[..]).collect();
        let mut found = 0;
        let each = |_, value: Option<&[u8]>| found += usize::from(value == Some(&[7; 100]));
        tree.get_many(&wanted, 0, each).await.unwrap();
        assert_eq!(found, wanted.len());
    })
    .unwrap();
    assert_eq!(disk.counts().in_flight_max, STORE_READS_IN_FLIGHT);
}

#[test]
fn a_full_disk_is_survived_once_there_is_room() {
    for seed in 0..40 {
        let (disk, history) = (SimDisk::new(seed, Faults::default()), History::new(seed));
        disk.run(async {
            let tree = Tree::open(disk.clone(), options(seed)).await.unwrap();
            let mut refused = 0;
            for i in 0..300 {
                step(&tree, &history).await.unwrap();
                if i % 20 == 0 {
                    let bytes_max = Some(Chance::new(seed + i).below(60_000) as u64);
                    disk.set_faults(Faults { bytes_max, ..Faults::default() });
                    while let Ok(Work::More) = tree.work(1000).await.inspect_err(|_| refused += 1) {
                    }
                    disk.set_faults(Faults::default());
                }
            }
            assert!(refused > 0);
            history.borrow_mut().froze();
            tree.flush(1000).await.unwrap();
        })
        .unwrap();
        let mut history = history.borrow_mut();
        history.durable = history.freezes.len() - 1;
        check_left(&disk, seed, &history);
    }
}

#[test]
fn who_is_refused_waits_for_the_worker_and_the_worker_for_something_to_do() {
    let disk = SimDisk::new(1, Faults::default());
    let done = disk.run(async {
        let mut options = options(0);
        options.memory_bytes = STORE_MEMORY_BYTES_MIN / 4;
        let tree = Tree::open(disk.clone(), options).await?;
        let (refused, is_over) = (Cell::new(0), Cell::new(false));
        let front = async {
            for i in 0..20_000u32 {
                while tree.put(&i.to_be_bytes(), &[1; 1000], NEVER) == Err(StoreError::Busy) {
                    refused.set(refused.get() + 1);
                    tree.changed().await;
                }
            }
            is_over.set(true);
            tree.freeze()
        };
        let beside = async {
            while !is_over.get() {
                // If either waited without a reason, the disk would have nothing to do and say so.
                if tree.work(0).await? == Work::Idle {
                    tree.changed().await;
                }
            }
            Ok(())
        };
        both(front, beside).await?;
        assert!(refused.get() > 2);
        // After a failure a writer is told of it rather than kept waiting.
        disk.set_faults(Faults { sync_at: Some(disk.counts().syncs), ..Faults::default() });
        let failed = tree.flush(0).await.expect_err("a sync fails");
        let put = |i: u32| tree.put(&i.to_be_bytes(), &[1; 1000], NEVER);
        assert_eq!((0..20_000).find_map(|i| put(i).err()), Some(failed));
        Ok::<(), StoreError>(())
    });
    assert_eq!(done, Ok(Ok(())));
}
