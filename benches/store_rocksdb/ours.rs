//! The tree, a bare map, and the disk alone.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::path::Path;
use std::rc::Rc;
use std::task::{Poll, Waker};

use cutwater::flow::host::Host;
use cutwater::flow::host_uring::UringHost;
use cutwater::store::chance::Chance;
use cutwater::store::codec::Codec;
use cutwater::store::disk::{Disk, File, PAGE};
use cutwater::store::disk_uring::UringDisk;
use cutwater::store::entry::NEVER;
use cutwater::store::error::StoreError;
use cutwater::store::flight::fly;
use cutwater::store::options::{Options, Profile};
use cutwater::store::tree::{Fetched, Peek, Tree, Work, hash_of};
use hashbrown::{HashTable, hash_table::Entry};
use xxhash_rust::xxh3::xxh3_64;

use crate::load::{KEY, Keys, Law, VALUE, Watch, bytes_of, count, setting, value_of};

const BATCH: usize = 1024;
/// What is written to the disk's own file at once.
const PART: usize = 512 << 10;

async fn open(folder: &Path, memory: usize) -> Tree<UringDisk> {
    let disk = UringDisk::open(folder).await.expect("the folder takes direct I/O");
    let options = Options::new("tree", Codec::Lz4, Profile::Balanced, memory);
    Tree::open(disk, options).await.expect("the tree opens")
}

/// Opens the tree of a folder and lets a task work at it.
async fn open_busy(host: &UringHost, folder: &Path, memory: usize) -> Rc<Tree<UringDisk>> {
    let tree = Rc::new(open(folder, memory).await);
    let worker = tree.clone();
    host.spawn(async move {
        loop {
            if worker.work(0).await.expect("the disk writes") == Work::Idle {
                worker.changed().await;
            }
        }
    });
    tree
}

/// Writes a value, letting the other task work while there is no room.
async fn put(tree: &Tree<UringDisk>, key: &[u8], value: &[u8]) {
    loop {
        match tree.put(key, value, NEVER) {
            Ok(()) => return,
            Err(StoreError::Busy) => tree.changed().await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Writes every key once.
pub async fn fill(folder: &Path, keys: usize, memory: usize) {
    let tree = open(folder, memory).await;
    let watch = Watch::start();
    for key in 0..keys as u64 {
        let key = bytes_of(key);
        while let Err(error) = tree.put(&key, &value_of(&key), NEVER) {
            assert_eq!(error, StoreError::Busy);
            tree.work(0).await.expect("the disk writes");
        }
    }
    tree.flush(0).await.expect("the disk writes");
    tree.settle(0).await.expect("the disk writes");
    watch.report("the tree, every key once, until it rests", keys as u64);
}

/// Reads, changes and writes values back, a batch at a time.
pub async fn update(
    host: UringHost,
    folder: &Path,
    keys: usize,
    memory: usize,
    law: Law,
    name: &str,
) {
    let tree = open_busy(&host, folder, memory).await;
    measure(&tree, &host, keys, law, name).await;
}

/// The same where everything fits in memory.
pub async fn in_memory(host: UringHost, folder: &Path, keys: usize, memory: usize, name: &str) {
    let tree = open_busy(&host, folder, memory).await;
    for key in (0..keys as u64).map(bytes_of) {
        put(&tree, &key, &value_of(&key)).await;
    }
    measure(&tree, &host, keys, Law::Uniform, name).await;
}

async fn measure(tree: &Rc<Tree<UringDisk>>, host: &UringHost, keys: usize, law: Law, name: &str) {
    let mut laws = Keys::new(keys, law);
    pass(tree, host, &mut laws, setting("WARM", 5)).await;
    let (hits, misses) = tree.cache_hits_and_misses();
    let (watch, updates) = pass(tree, host, &mut laws, setting("SECONDS", 20)).await;
    watch.report(name, updates);
    let now = tree.cache_hits_and_misses();
    let per = |count: u64| count as f64 / updates as f64;
    let (hits, misses) = (per(now.0 - hits), per(now.1 - misses));
    let mib = tree.memory_bytes() as f64 / f64::from(1 << 20);
    eprintln!("  cache, an update: {hits:.2} hits, {misses:.2} misses; {mib:.0} MiB of memory;");
    eprintln!("  runs (level, tables, bytes): {:?}", tree.shape());
}

/// Keys of a batch, and what tables say of them.
struct Batch {
    keys: Vec<[u8; KEY]>,
    hashes: Vec<u64>,
    fetched: Fetched,
}

/// Where a task leaves its batch for who waits for it.
#[derive(Default)]
struct Desk {
    batch: RefCell<Option<Batch>>,
    waiting: Cell<Option<Waker>>,
}

impl Desk {
    /// Begins to fetch these keys.
    fn order(tree: &Rc<Tree<UringDisk>>, host: &UringHost, keys: Vec<[u8; KEY]>) -> Rc<Desk> {
        let desk = Rc::new(Desk::default());
        let (there, tree) = (desk.clone(), tree.clone());
        host.spawn(async move {
            *there.batch.borrow_mut() = Some(fetch(tree, keys).await);
            there.waiting.take().into_iter().for_each(Waker::wake);
        });
        desk
    }

    async fn take(&self) -> Batch {
        poll_fn(|context| match self.batch.take() {
            Some(batch) => Poll::Ready(batch),
            None => {
                self.waiting.set(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }
}

async fn fetch(tree: Rc<Tree<UringDisk>>, keys: Vec<[u8; KEY]>) -> Batch {
    let hashes: Vec<u64> = keys.iter().map(|key| hash_of(key)).collect();
    let asked: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    let fetched = tree.fetch(&asked, &hashes).await.expect("the disk reads");
    Batch { keys, hashes, fetched }
}

/// Updates one key of a batch that was fetched.
async fn update_one(tree: &Tree<UringDisk>, batch: &Batch, i: usize) {
    let (key, hash) = (&batch.keys[i], batch.hashes[i]);
    loop {
        match tree.update_hashed(hash, key, 0, |value| count(key, value)) {
            Ok(Peek::Found) => return,
            Ok(Peek::Absent) => panic!("every key was written"),
            Ok(Peek::Unknown) => break,
            Err(StoreError::Busy) => tree.changed().await,
            Err(error) => panic!("{error}"),
        }
    }
    let mut value = Vec::with_capacity(VALUE);
    let read = |found: &[u8]| value.extend_from_slice(found);
    match tree.fetched(&batch.fetched, (i, hash, key), 0, read) {
        Peek::Found => {}
        Peek::Absent => panic!("every key was written"),
        Peek::Unknown => {
            let is_here = tree.get(key, 0, &mut value).await.expect("the disk reads");
            assert!(is_here, "every key was written");
        }
    }
    count(key, &mut value);
    put(tree, key, &value).await;
}

async fn pass(
    tree: &Rc<Tree<UringDisk>>,
    host: &UringHost,
    laws: &mut Keys,
    seconds: usize,
) -> (Watch, u64) {
    let (watch, mut updates) = (Watch::start(), 0);
    let mut ahead = VecDeque::new();
    while watch.seconds() < seconds as f64 {
        while ahead.len() <= setting("AHEAD", 2) {
            let keys = (0..BATCH).map(|_| bytes_of(laws.next())).collect();
            ahead.push_back(Desk::order(tree, host, keys));
        }
        let Some(desk) = ahead.pop_front() else { break };
        let batch = desk.take().await;
        for i in 0..BATCH {
            if i % 32 == 0 {
                tree.prefetch(&batch.hashes[i..i + 32]);
            }
            update_one(tree, &batch, i).await;
        }
        updates += BATCH as u64;
        host.yield_now().await;
    }
    for desk in ahead {
        desk.take().await;
    }
    (watch, updates)
}

/// The bare map: one lookup an update, nothing else.
pub fn map(keys: usize, name: &str) {
    let mut map: HashTable<([u8; KEY], [u8; VALUE])> = HashTable::new();
    let hash = |slot: &([u8; KEY], [u8; VALUE])| xxh3_64(&slot.0);
    for key in 0..keys as u64 {
        let key = bytes_of(key);
        map.insert_unique(xxh3_64(&key), (key, value_of(&key)), hash);
    }
    let mut laws = Keys::new(keys, Law::Uniform);
    let mut pass = |seconds: usize| {
        let (watch, mut updates) = (Watch::start(), 0);
        while watch.seconds() < seconds as f64 {
            for _ in 0..BATCH {
                let key = bytes_of(laws.next());
                match map.entry(xxh3_64(&key), |slot| slot.0 == key, hash) {
                    Entry::Occupied(mut slot) => count(&key, &mut slot.get_mut().1),
                    Entry::Vacant(_) => panic!("every key was written"),
                }
            }
            updates += BATCH as u64;
        }
        (watch, updates)
    };
    pass(setting("WARM", 5));
    let (watch, updates) = pass(setting("SECONDS", 20));
    watch.report(name, updates);
}

/// Random reads of 4 KiB from one file, so many at a time.
pub async fn disk(folder: &Path, mib: usize, depth: usize, name: &str) {
    let disk = UringDisk::open(folder).await.expect("the folder takes direct I/O");
    let file = disk.create("random").await.expect("the disk makes a file");
    let mut chance = Chance::new(3);
    for part in 0..(mib << 20) / PART {
        let mut buffer = file.buffer(PART);
        buffer.chunks_mut(8).for_each(|word| word.copy_from_slice(&chance.bits().to_le_bytes()));
        file.write_at((part * PART) as u64, buffer).await.expect("the disk writes");
    }
    file.sync().await.expect("the disk writes");
    let (file, pages, seconds) = (&file, (mib << 20) / PAGE, setting("SECONDS", 20) as f64);
    let watch = &Watch::start();
    let readers = (0..depth).map(|reader| async move {
        let (mut chance, mut reads) = (Chance::new(reader as u64), 0);
        while watch.seconds() < seconds {
            let at = (chance.below(pages) * PAGE) as u64;
            file.read_at(at, PAGE).await.expect("the disk reads");
            reads += 1;
        }
        reads
    });
    let mut all = 0u64;
    fly(readers, depth, |reads: u64| all += reads).await;
    watch.report(name, all);
    disk.remove("random").await.expect("the disk removes a file");
}
