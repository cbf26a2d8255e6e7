//! Tables written, read, cut and flipped.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::{Look, Table, TableCursor, TableMeta, TableWriter};
use crate::ground::limits::STORE_REQUEST_BYTES;
use crate::store::cache::Cache;
use crate::store::codec::Codec;
use crate::store::disk::{Disk, PAGE};
use crate::store::disk_sim::{Faults, SimDisk, SimFile};
use crate::store::entry::{Entry, Kind, NEVER};
use crate::store::error::StoreError;

type Model = BTreeMap<Vec<u8>, (Vec<u8>, u64, Kind, u64)>;

fn entry<'a>(key: &'a [u8], version: &'a (Vec<u8>, u64, Kind, u64)) -> Entry<'a> {
    let (value, seq, kind, expiry_ms) = version;
    Entry { key, value, seq: *seq, kind: *kind, expiry_ms: *expiry_ms }
}

fn model(keys: usize, value_len: usize) -> Model {
    let version = |i: usize| match i % 10 {
        0 => (Vec::new(), i as u64, Kind::Tombstone, NEVER),
        1 => (vec![i as u8; value_len], i as u64, Kind::Value, i as u64),
        _ => (vec![i as u8; value_len], i as u64, Kind::Value, NEVER),
    };
    (0..keys).map(|i| (format!("key {:06}", i * 2).into_bytes(), version(i))).collect()
}

async fn write(
    disk: &SimDisk,
    name: &str,
    model: &Model,
    codec: Codec,
) -> Result<TableMeta, StoreError> {
    let mut writer = TableWriter::new(disk.create(name).await?, 9, codec);
    for (key, version) in model {
        writer.add(&entry(key, version)).await?;
    }
    writer.finish().await
}

async fn open(disk: &SimDisk, name: &str) -> Result<Rc<Table<SimFile>>, StoreError> {
    Ok(Rc::new(Table::open(disk.open(name).await?, 9, true).await?))
}

async fn verify(disk: &SimDisk, name: &str) -> Result<(), StoreError> {
    open(disk, name).await?.verify().await
}

/// Hands a key's entry to `check`, wherever it is.
async fn find(
    table: &Table<SimFile>,
    key: &[u8],
    cache: &RefCell<Cache>,
    check: impl Fn(Option<Entry<'_>>),
) {
    let room = RefCell::default();
    let is_found = match table.look(key, cache, |entry| check(Some(entry))).unwrap() {
        Look::Found(()) => true,
        Look::Absent => false,
        Look::Unread(unread) => {
            let read = |entry: Entry<'_>| check(Some(entry));
            table.read(unread, key, (cache, &room), read).await.unwrap().is_some()
        }
    };
    if !is_found {
        check(None);
    }
}

/// Checks that a table of the model gives back what is in it, key by key and in order.
async fn check(disk: &SimDisk, model: &Model, codec: Codec) {
    let name = format!("{codec:?}");
    let meta = write(disk, &name, model, codec).await.unwrap();
    let table = open(disk, &name).await.unwrap();
    assert_eq!(table.meta(), &meta);
    assert_eq!(meta.entries, model.len() as u64);
    table.verify().await.unwrap();
    let cache = RefCell::new(Cache::new(1 << 20));
    for (key, version) in model {
        assert!(table.may_hold(xxh3_64(key)));
        find(&table, key, &cache, |found| assert_eq!(found, Some(entry(key, version)))).await;
        for absent in [[key.as_slice(), b"!"].concat(), key[1..].to_vec()] {
            let is_in = model.contains_key(&absent);
            find(&table, &absent, &cache, |found| assert_eq!(found.is_some(), is_in)).await;
        }
    }
    let starts = [b"".as_slice(), b"key 000003", b"zzz"];
    let first = model.keys().nth(model.len() / 2).expect("a table is not empty");
    for from in starts.into_iter().chain([first.as_slice()]) {
        let mut cursor = TableCursor::seek(table.clone(), from, &cache).await.unwrap();
        for (key, version) in model.range(from.to_vec()..) {
            assert_eq!(cursor.entry(), Some(entry(key, version)));
            cursor.next().await.unwrap();
        }
        assert_eq!(cursor.entry(), None);
    }
}

#[test]
fn tables_of_any_size_come_back() {
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        for (keys, value_len) in [(1, 0), (2, 10), (3000, 100), (5, 2 * STORE_REQUEST_BYTES)] {
            let disk = SimDisk::new(1, Faults::default());
            disk.run(check(&disk, &model(keys, value_len), codec)).unwrap();
        }
    }
}

#[test]
fn a_compressed_block_fills_its_page() {
    let disk = SimDisk::new(1, Faults::default());
    let mut text: Model = model(20_000, 0);
    for (i, version) in text.values_mut().enumerate() {
        version.0 =
            format!("{{\"amount\": {}, \"merchant\": {}}}", i * 7919 % 9973, i % 811).into();
    }
    let sizes = [Codec::None, Codec::Lz4, Codec::Zstd].map(|codec| {
        let name = format!("{codec:?}");
        disk.run(write(&disk, &name, &text, codec)).unwrap().unwrap().bytes
    });
    assert!(sizes[1] * 2 < sizes[0] && sizes[2] < sizes[1], "{sizes:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_table_is_an_ordered_map(
        entries in proptest::collection::btree_map(
            proptest::collection::vec(0..4u8, 1..9),
            (proptest::collection::vec(any::<u8>(), 0..400), any::<bool>(), 0..9u64),
            1..400,
        ),
    ) {
        let model: Model = entries.into_iter().map(|(key, (value, dead, ms))| match dead {
            true => (key, (Vec::new(), ms, Kind::Tombstone, NEVER)),
            false => (key, (value, ms, Kind::Value, ms)),
        }).collect();
        let disk = SimDisk::new(1, Faults::default());
        disk.run(check(&disk, &model, Codec::Lz4)).unwrap();
    }
}

/// A table of a few pages, and a disk with only that.
fn small() -> (SimDisk, Vec<u8>) {
    let disk = SimDisk::new(1, Faults::default());
    disk.run(write(&disk, "t", &model(100, 40), Codec::None)).unwrap().unwrap();
    let bytes = disk.bytes("t").unwrap();
    assert!(bytes.len() <= 8 * PAGE, "{}", bytes.len());
    (disk, bytes)
}

fn named_at(error: StoreError, bit: usize) -> u64 {
    match error {
        StoreError::Corrupt { file, at, .. } if file == "t" => at,
        other => panic!("bit {bit}: {other}"),
    }
}

#[test]
fn every_flipped_bit_is_found_and_its_block_is_named() {
    let (disk, good) = small();
    // Every bit of what is not padding, one in 61 of the padding: `block` has tested them all.
    let interesting = |bit: &usize| good[bit / 8] != 0 || bit.is_multiple_of(61);
    for bit in (0..good.len() * 8).filter(interesting) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        disk.change("t", bad);
        let error = disk.run(verify(&disk, "t")).unwrap().expect_err("a bit was flipped");
        let at = named_at(error, bit) as usize;
        assert!(at <= bit / 8 && bit / 8 < at + 2 * PAGE, "bit {bit} is named as byte {at}");
    }
}

#[test]
fn every_cut_is_found() {
    let (disk, good) = small();
    for len in (0..good.len()).filter(|len| len % 7 == 0 || len % PAGE < 2) {
        disk.change("t", good[..len].to_vec());
        let error = disk.run(verify(&disk, "t")).unwrap().expect_err("the file was cut");
        assert!(named_at(error, 0) as usize <= len);
    }
    // Pages in another order, or twice.
    for (from, to) in [(0, 1), (1, 0), (2, 5), (5, 4), (6, 0)] {
        let mut bad = good.clone();
        bad[to * PAGE..][..PAGE].copy_from_slice(&good[from * PAGE..][..PAGE]);
        disk.change("t", bad);
        assert!(disk.run(verify(&disk, "t")).unwrap().is_err(), "page {from} in place of {to}");
    }
}

#[test]
fn another_version_and_another_number_are_told_apart_from_damage() {
    let (disk, good) = small();
    let mut newer = good.clone();
    let at = good.len() - PAGE;
    newer[at + 8] = 2;
    let sum = xxhash_rust::xxh3::xxh3_64_with_seed(&newer[at..at + PAGE - 8], at as u64);
    newer[at + PAGE - 8..].copy_from_slice(&sum.to_le_bytes());
    disk.change("t", newer);
    let error = disk.run(verify(&disk, "t")).unwrap().unwrap_err();
    assert_eq!(error, StoreError::Version { file: "t".to_string(), found: 2, known: 1 });
    disk.change("t", good);
    let other = disk.run(async { Table::open(disk.open("t").await?, 8, true).await.map(drop) });
    assert!(matches!(other.unwrap(), Err(StoreError::Corrupt { .. })));
}

#[test]
fn every_failing_request_ends_in_an_error() {
    let text = model(4000, 200);
    let disk = SimDisk::new(0, Faults::default());
    let bytes = disk.run(write(&disk, "t", &text, Codec::None)).unwrap().unwrap().bytes;
    for n in 0..40 {
        let faults = [
            Faults { write_at: Some(n), ..Faults::default() },
            Faults { sync_at: Some(n), ..Faults::default() },
            Faults { bytes_max: Some(n * 30_000), ..Faults::default() },
            Faults { read_at: Some(n), ..Faults::default() },
        ];
        for (i, faults) in faults.into_iter().enumerate() {
            let disk = SimDisk::new(n, faults);
            let outcome = disk.run(async {
                write(&disk, "t", &text, Codec::None).await?;
                verify(&disk, "t").await
            });
            let failed = matches!(outcome.unwrap(), Err(StoreError::Disk(_)));
            let (counts, i) = (disk.counts(), i as u64);
            let hit = [counts.writes > n, counts.syncs > n, n * 30_000 < bytes, counts.reads > n];
            assert_eq!(failed, hit[i as usize], "request {n} of kind {i}");
        }
    }
}
