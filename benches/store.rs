//! The tree alone, on the real disk: `cargo bench --bench store`. One shard reads and writes back
//! values of 100 bytes, 1024 keys at a time: all are read together, then each is written; another
//! task works beside. First every key is written once, then keys come uniformly, then by Zipf 0.99.
//!
//! `KEYS` (1,000,000), `UPDATES` (as many), `MEMORY` in MiB (64) and `STORE` (a folder, else one
//! in the target folder; its disk must take direct I/O) set the size. Reported: updates a second
//! of wall time, requests that missed the cache, memory, and the shape of the tree.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use cutwater::flow::host::Host;
use cutwater::flow::host_uring::{Cores, Placement, UringHost, run};
use cutwater::store::chance::Chance;
use cutwater::store::codec::Codec;
use cutwater::store::disk_uring::UringDisk;
use cutwater::store::entry::NEVER;
use cutwater::store::error::StoreError;
use cutwater::store::options::{Options, Profile};
use cutwater::store::tree::{Tree, Work};

const BATCH: usize = 1024;
const VALUE: usize = 100;

#[expect(clippy::disallowed_methods, reason = "a bench is set up from the outside")]
fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[expect(clippy::disallowed_methods, reason = "a bench is set up from the outside")]
fn folder() -> PathBuf {
    let default = || Path::new(env!("CARGO_TARGET_TMPDIR")).join("store");
    std::env::var("STORE").map_or_else(|_| default(), PathBuf::from)
}

/// Ranks by Zipf's law (Gray and others 1994), scattered over the keys.
struct Zipf {
    keys: f64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

impl Zipf {
    const THETA: f64 = 0.99;

    fn new(keys: usize) -> Zipf {
        let zeta = |n: usize| (1..=n).map(|i| (i as f64).powf(-Zipf::THETA)).sum::<f64>();
        let all = zeta(keys);
        let eta = (1.0 - (2.0 / keys as f64).powf(1.0 - Zipf::THETA)) / (1.0 - zeta(2) / all);
        Zipf { keys: keys as f64, zeta: all, alpha: 1.0 / (1.0 - Zipf::THETA), eta }
    }

    fn key(&self, chance: &mut Chance) -> u64 {
        let u = (chance.bits() >> 11) as f64 / (1u64 << 53) as f64;
        let rank = match u * self.zeta {
            below if below < 1.0 => 0.0,
            below if below < 1.0 + 0.5f64.powf(Zipf::THETA) => 1.0,
            _ => self.keys * (self.eta * u - self.eta + 1.0).powf(self.alpha),
        };
        (rank as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) % self.keys as u64
    }
}

/// The bytes of a key: its number, mixed, so that neighbours are not written together.
fn bytes_of(key: u64) -> [u8; 16] {
    let mixed = (key + 1).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&mixed.to_be_bytes());
    bytes[8..].copy_from_slice(&key.to_be_bytes());
    bytes
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

/// Reads and writes back `updates` keys. Values begin with how often they were written.
async fn update(
    tree: &Tree<UringDisk>,
    host: &UringHost,
    name: &str,
    updates: usize,
    mut key: impl FnMut() -> u64,
) {
    let (hits, misses) = tree.cache_hits_and_misses();
    let started = host.ticks_ns();
    let mut values = vec![[0u8; VALUE]; BATCH];
    for _ in 0..updates.div_ceil(BATCH) {
        let keys: Vec<[u8; 16]> = (0..BATCH).map(|_| bytes_of(key())).collect();
        let asked: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let each = |i: usize, value: Option<&[u8]>| {
            values[i].copy_from_slice(value.expect("every key was written"));
        };
        tree.get_many(&asked, 0, each).await.expect("the disk reads");
        for (key, value) in keys.iter().zip(&mut values) {
            let count = u32::from_le_bytes([value[0], value[1], value[2], value[3]]) + 1;
            value[..4].copy_from_slice(&count.to_le_bytes());
            put(tree, key, value).await;
        }
        host.yield_now().await;
    }
    let seconds = (host.ticks_ns() - started) as f64 / 1e9;
    let now = tree.cache_hits_and_misses();
    println!(
        "{name}: {:.0} updates/s; {} lookups hit the cache, {} did not; {:.1} MiB of memory; \
         runs (level, tables, bytes) {:?}",
        updates as f64 / seconds,
        now.0 - hits,
        now.1 - misses,
        tree.memory_bytes() as f64 / f64::from(1 << 20),
        tree.shape(),
    );
}

async fn bench(host: UringHost) {
    let (keys, memory) = (setting("KEYS", 1_000_000), setting("MEMORY", 64) << 20);
    let updates = setting("UPDATES", keys);
    let disk = UringDisk::open(&folder()).await.expect("the folder takes direct I/O");
    let options = Options::new("tree", Codec::Lz4, Profile::Balanced, memory);
    let tree = Rc::new(Tree::open(disk, options).await.expect("the tree opens"));
    let is_over = Rc::new(Cell::new(false));
    let (worker, over) = (tree.clone(), is_over.clone());
    host.spawn(async move {
        while !over.get() {
            if worker.work(0).await.expect("the disk writes") == Work::Idle {
                worker.changed().await;
            }
        }
    });
    let started = host.ticks_ns();
    for key in 0..keys as u64 {
        put(&tree, &bytes_of(key), &[7; VALUE]).await;
        if key % BATCH as u64 == 0 {
            host.yield_now().await;
        }
    }
    let seconds = (host.ticks_ns() - started) as f64 / 1e9;
    println!("fill: {:.0} keys/s", keys as f64 / seconds);
    let (mut uniform, mut skewed, zipf) = (Chance::new(1), Chance::new(2), Zipf::new(keys));
    update(&tree, &host, "uniform", updates, || uniform.below(keys) as u64).await;
    update(&tree, &host, "zipf 0.99", updates, || zipf.key(&mut skewed)).await;
    is_over.set(true);
}

#[expect(clippy::disallowed_methods, reason = "a bench has a clock")]
fn main() {
    let _ = std::fs::remove_dir_all(folder());
    let (placement, _) = Placement::choose(&Cores::Count(1)).expect("there is a processor");
    let failed = |error| panic!("{error}");
    run(&placement, Instant::now(), vec![()], failed, |_, host, ()| bench(host));
}
