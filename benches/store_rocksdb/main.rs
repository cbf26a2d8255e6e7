//! The tree beside RocksDB, a bare map and the disk alone:
//!
//!     cargo bench --features bench-rocksdb --bench store_rocksdb
//!
//! Values of 100 bytes are read, changed and written back. RocksDB is set up as Flink does it; the
//! tree takes keys a batch at a time, as operators do. Every case is a process of its own, so that
//! none inherits memory or threads; those of one core are pinned to it, with all their threads.
//!
//! | setting | default | |
//! |--|--|--|
//! | `KEYS` | 10,000,000 | keys on disk |
//! | `MEMORY` | 256 | MiB for all of a store |
//! | `MEMORY_KEYS` | 1,000,000 | keys where all fits in memory |
//! | `SECONDS`, `WARM` | 20, 5 | measured, and before it, of each case |
//! | `DISK_MIB` | 2,048 | file of the disk's own reads |
//! | `STORE` | in the target folder | a folder on a disk that takes direct I/O |
//! | `CASES` | all | words; a case is run if its name contains one of them |
//! | `KEEP` | | the filled stores stay there, and are used if they are there |
//! | `SEED` | 1 | of the keys: another one for each round on stores that stay |

mod load;
mod ours;
mod rocks;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use cutwater::flow::host_uring::{Cores, Placement, UringHost, run};
use load::{Law, setting};

/// Cases in their order.
const CASES: &[&str] = &[
    "disk",
    "rocks fill",
    "rocks uniform cached",
    "rocks uniform cached free",
    "rocks zipf cached",
    "rocks zipf cached free",
    "rocks uniform direct",
    "rocks zipf direct",
    "tree fill",
    "tree uniform",
    "tree zipf",
    "memory rocks",
    "memory map",
    "memory tree",
];

#[expect(clippy::disallowed_methods, reason = "a bench is set up from the outside")]
fn text(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn root() -> PathBuf {
    let default = || Path::new(env!("CARGO_TARGET_TMPDIR")).join("store_rocksdb");
    text("STORE").map_or_else(default, PathBuf::from)
}

/// Runs an executor for one future, on the first processor.
#[expect(clippy::disallowed_methods, reason = "a bench has a clock")]
fn on_shard<F: Future<Output = ()> + 'static>(main: impl Fn(UringHost) -> F + Sync) {
    let (placement, _) = Placement::choose(&Cores::Count(1)).expect("there is a processor");
    let failed = |error| panic!("{error}");
    run(&placement, Instant::now(), vec![()], failed, move |_, host, ()| main(host));
}

/// Runs one case in this process.
fn case(name: &'static str) {
    let (keys, memory) = (setting("KEYS", 10_000_000), setting("MEMORY", 256) << 20);
    let few = setting("MEMORY_KEYS", 1_000_000);
    let (rocks, tree) = (root().join("rocks"), root().join("tree"));
    let scratch = root().join("scratch");
    let _ = std::fs::remove_dir_all(&scratch);
    std::fs::create_dir_all(&scratch).expect("there is a place for the bench");
    let law = if name.contains("zipf") { Law::Zipf } else { Law::Uniform };
    if !name.contains("free") && !name.contains("fill") {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let first = cores.iter().min_by_key(|core| core.id);
        first.map(|core| core_affinity::set_for_current(*core));
    }
    match name {
        "disk" => {
            let mib = setting("DISK_MIB", 2048);
            on_shard(move |_| {
                let scratch = scratch.clone();
                async move { ours::disk(&scratch, mib, 128, name).await }
            });
        }
        "rocks fill" => rocks::fill(&rocks, keys, memory),
        "tree fill" => on_shard(move |_| {
            let tree = tree.clone();
            async move { ours::fill(&tree, keys, memory).await }
        }),
        "memory map" => ours::map(few, name),
        "memory rocks" => rocks::in_memory(&scratch, few, 2 << 30, name),
        "memory tree" => on_shard(move |host| {
            let scratch = scratch.clone();
            async move { ours::in_memory(host, &scratch, few, 2 << 30, name).await }
        }),
        _ if name.contains("rocks") => {
            rocks::update(&rocks, keys, memory, law, name.contains("direct"), name);
        }
        _ => on_shard(move |host| {
            let tree = tree.clone();
            async move { ours::update(host, &tree, keys, memory, law, name).await }
        }),
    }
}

fn main() {
    if let Some(chosen) = text("CASE") {
        let name = CASES.iter().find(|name| **name == chosen);
        return case(name.expect("a case of that name"));
    }
    let words = text("CASES").unwrap_or_default();
    let is_wanted =
        |name: &str| words.is_empty() || words.split(',').any(|word| name.contains(word));
    println!("{:<52} {:>12} {:>9} {:>9}", "case", "updates/s", "us", "CPU us");
    if text("KEEP").is_none() {
        let _ = std::fs::remove_dir_all(root());
    }
    for name in CASES.iter().filter(|name| is_wanted(name)) {
        let store = root().join(if name.contains("rocks") { "rocks" } else { "tree" });
        if name.contains("fill") && store.exists() {
            continue;
        }
        let me = std::env::current_exe().expect("this program has a path");
        let done = Command::new(me).env("CASE", name).status().expect("a case begins");
        assert!(done.success(), "{name} failed");
    }
    if text("KEEP").is_none() {
        let _ = std::fs::remove_dir_all(root());
    }
}
