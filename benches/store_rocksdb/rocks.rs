//! RocksDB as Flink sets it up: one budget for cache and write buffers, no log, Bloom filters.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, Options, WriteBufferManager, WriteOptions,
};

use crate::load::{Keys, Law, VALUE, Watch, bytes_of, count, setting, value_of};

/// Flink's division of managed memory (`RocksDBMemoryControllerUtils`, write buffer ratio 0.5).
fn options(memory: usize, is_direct: bool) -> Options {
    let cache = Cache::new_lru_cache(memory * 5 / 6);
    let buffers =
        WriteBufferManager::new_write_buffer_manager_with_cache(memory / 3, false, cache.clone());
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&cache);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_block_size(4096);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_manager(&buffers);
    options.set_write_buffer_size((memory / 4).max(64 << 20));
    options.set_max_write_buffer_number(2);
    options.set_target_file_size_base(64 << 20);
    options.set_max_bytes_for_level_base(256 << 20);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_max_background_jobs(2);
    options.set_max_open_files(-1);
    options.set_use_fsync(false);
    options.set_use_direct_reads(is_direct);
    options.set_use_direct_io_for_flush_and_compaction(is_direct);
    options
}

fn unlogged() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    options
}

/// Waits until compactions have come to an end.
#[expect(clippy::disallowed_methods, reason = "RocksDB's threads work beside, and say nothing")]
fn settle(db: &DB) {
    let pending = |name: &str| db.property_int_value(name).ok().flatten().unwrap_or(0);
    while pending("rocksdb.compaction-pending")
        + pending("rocksdb.num-running-compactions")
        + pending("rocksdb.num-running-flushes")
        > 0
    {
        sleep(Duration::from_millis(50));
    }
}

/// Writes every key once.
pub fn fill(folder: &Path, keys: usize, memory: usize) {
    let db = DB::open(&options(memory, false), folder).expect("RocksDB opens");
    let (watch, unlogged) = (Watch::start(), unlogged());
    for key in 0..keys as u64 {
        let key = bytes_of(key);
        db.put_opt(key, value_of(&key), &unlogged).expect("RocksDB writes");
    }
    db.flush().expect("RocksDB flushes");
    settle(&db);
    watch.report("RocksDB, every key once, until it rests", keys as u64);
}

/// Reads, changes and writes values back, one at a time as Flink does.
pub fn update(folder: &Path, keys: usize, memory: usize, law: Law, is_direct: bool, name: &str) {
    let db = DB::open(&options(memory, is_direct), folder).expect("RocksDB opens");
    measure(&db, keys, law, name);
}

/// The same where everything fits in memory.
pub fn in_memory(folder: &Path, keys: usize, memory: usize, name: &str) {
    let db = DB::open(&options(memory, false), folder).expect("RocksDB opens");
    let unlogged = unlogged();
    for key in 0..keys as u64 {
        let key = bytes_of(key);
        db.put_opt(key, value_of(&key), &unlogged).expect("RocksDB writes");
    }
    measure(&db, keys, Law::Uniform, name);
}

fn measure(db: &DB, keys: usize, law: Law, name: &str) {
    let (unlogged, mut laws) = (unlogged(), Keys::new(keys, law));
    let mut pass = |seconds: usize| {
        let (watch, mut updates) = (Watch::start(), 0);
        while watch.seconds() < seconds as f64 {
            for _ in 0..256 {
                let key = bytes_of(laws.next());
                let found = db.get_pinned(key).expect("RocksDB reads");
                let mut value = [0; VALUE];
                value.copy_from_slice(&found.expect("every key was written"));
                count(&key, &mut value);
                db.put_opt(key, value, &unlogged).expect("RocksDB writes");
            }
            updates += 256;
        }
        (watch, updates)
    };
    pass(setting("WARM", 5));
    let (watch, updates) = pass(setting("SECONDS", 20));
    watch.report(name, updates);
}
