//! The manifest: which tables a tree consists of. One small file, replaced as a whole.
//!
//! ```text
//! manifest = one block (see `block`) of kind manifest, file 0, not compressed; raw:
//! raw      = "CWTTREE\0" | version: u32 | runs: u32 | id_next: u64 | seq_next: u64 | run*
//! run      = level: u32 | tables: u32 | table*
//! table    = id: u64 | bytes: u64 | entries: u64 | tombstones: u64 | seq_max: u64
//!          | expiry_ms_min: u64 | first_len: u32 | last_len: u32 | first | last
//! ```
//!
//! 1. A new manifest is written beside the old one, made durable, and renamed into its place: that
//!    rename is the commit, and it is durable before anything that the old one names goes away.
//!    Names of tables are durable before it too: a crash may keep a later name and lose an earlier.
//! 2. Runs are newest first. In a run, tables are in the order of their keys and do not overlap.

use std::rc::Rc;

use super::block::{BlockKind, Place, half, seal, unseal, word};
use super::codec::{Codec, Packer};
use super::disk::{Disk, DiskFailure, File, PAGE};
use super::error::StoreError;
use super::table::TableMeta;
use crate::ground::limits::{STORE_BLOCK_BYTES_MAX, STORE_REQUEST_BYTES};

/// Name of the manifest in its folder.
pub const NAME: &str = "manifest";
const NAME_NEW: &str = "manifest.new";
const MAGIC: &[u8; 8] = b"CWTTREE\0";
/// Version of the format written here.
pub const VERSION: u32 = 1;
const PLACE: Place = Place { file_id: 0, at: 0 };

/// Tables that follow one another, of one age.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// How often its entries were merged, for levelled picking; 0 for what was just flushed.
    pub level: u32,
    pub tables: Vec<Rc<TableMeta>>,
}

impl Run {
    /// Bytes of its files.
    pub fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.bytes).sum()
    }
}

/// What a tree consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The next table's number.
    pub id_next: u64,
    /// The next entry's sequence number.
    pub seq_next: u64,
    /// Newest first (invariant 2).
    pub runs: Vec<Run>,
}

impl Manifest {
    /// Replaces the folder's manifest by this one (invariant 1).
    ///
    /// # Errors
    /// [`StoreError::Disk`]; afterwards either manifest may be the one found.
    pub async fn commit<D: Disk>(&self, disk: &D, folder: &str) -> Result<(), StoreError> {
        self.prepare(disk, folder).await?;
        publish(disk, folder).await
    }

    /// The first half of a commit: writes the manifest beside the old one, and makes the folder's
    /// names durable (invariant 1).
    ///
    /// # Errors
    /// [`StoreError::Disk`]; the old manifest holds.
    pub async fn prepare<D: Disk>(&self, disk: &D, folder: &str) -> Result<(), StoreError> {
        let sealed = self.sealed();
        let name_new = format!("{folder}/{NAME_NEW}");
        // A crash may have left one.
        let file = match disk.create(&name_new).await {
            Err(error) if error.failure == DiskFailure::Exists => {
                disk.remove(&name_new).await?;
                disk.create(&name_new).await?
            }
            created => created?,
        };
        for (i, part) in sealed.chunks(STORE_REQUEST_BYTES).enumerate() {
            let mut buffer = file.buffer(part.len());
            buffer.copy_from_slice(part);
            file.write_at((i * STORE_REQUEST_BYTES) as u64, buffer).await?;
        }
        file.sync().await?;
        disk.sync_dir(folder).await?;
        Ok(())
    }

    /// The bytes of the manifest's file.
    pub fn sealed(&self) -> Vec<u8> {
        let mut sealed = Vec::new();
        let mut packer = Packer::new(Codec::None);
        seal(BlockKind::Manifest, &self.raw(), PLACE, &mut packer, &mut sealed);
        sealed
    }

    /// Reads the folder's manifest; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError`]: what the disk says, or where the file is damaged.
    pub async fn load<D: Disk>(disk: &D, folder: &str) -> Result<Option<Manifest>, StoreError> {
        let name = format!("{folder}/{NAME}");
        let file = match disk.open(&name).await {
            Err(error) if error.failure == DiskFailure::Missing => return Ok(None),
            opened => opened?,
        };
        let bytes = file.length().await? as usize;
        let corrupt = |what| StoreError::Corrupt { file: name.clone(), at: 0, what };
        if bytes > STORE_BLOCK_BYTES_MAX + PAGE || !bytes.is_multiple_of(PAGE) || bytes == 0 {
            return Err(corrupt("a manifest is not of this length"));
        }
        let mut sealed = Vec::new();
        while sealed.len() < bytes {
            let wanted = (bytes - sealed.len()).min(STORE_REQUEST_BYTES);
            let read = file.read_at(sealed.len() as u64, wanted).await?;
            if read.is_empty() {
                break;
            }
            sealed.extend_from_slice(&read);
        }
        let raw = unseal(BlockKind::Manifest, &sealed, PLACE).map_err(corrupt)?;
        match half(&raw, 8) {
            Some(VERSION) => {}
            found => {
                let (file, found) = (name, found.unwrap_or(0));
                return Err(StoreError::Version { file, found, known: VERSION });
            }
        }
        let parsed = Reader { raw: &raw, at: 12 }.manifest().filter(|_| raw.starts_with(MAGIC));
        parsed.map(Some).ok_or_else(|| corrupt("a manifest contradicts itself"))
    }

    fn raw(&self) -> Vec<u8> {
        let mut raw = MAGIC.to_vec();
        raw.extend_from_slice(&VERSION.to_le_bytes());
        raw.extend_from_slice(&(self.runs.len() as u32).to_le_bytes());
        raw.extend_from_slice(&self.id_next.to_le_bytes());
        raw.extend_from_slice(&self.seq_next.to_le_bytes());
        for run in &self.runs {
            raw.extend_from_slice(&run.level.to_le_bytes());
            raw.extend_from_slice(&(run.tables.len() as u32).to_le_bytes());
            for table in &run.tables {
                let TableMeta { id, bytes, entries, tombstones, seq_max, expiry_ms_min, .. } =
                    **table;
                for word in [id, bytes, entries, tombstones, seq_max, expiry_ms_min] {
                    raw.extend_from_slice(&word.to_le_bytes());
                }
                raw.extend_from_slice(&(table.first.len() as u32).to_le_bytes());
                raw.extend_from_slice(&(table.last.len() as u32).to_le_bytes());
                raw.extend_from_slice(&table.first);
                raw.extend_from_slice(&table.last);
            }
        }
        raw
    }
}

/// The second half of a commit: the rename.
///
/// # Errors
/// [`StoreError::Disk`]; afterwards either manifest may be the one found.
pub async fn publish<D: Disk>(disk: &D, folder: &str) -> Result<(), StoreError> {
    disk.rename(&format!("{folder}/{NAME_NEW}"), &format!("{folder}/{NAME}")).await?;
    disk.sync_dir(folder).await?;
    Ok(())
}

/// Reads a manifest's fields one behind the other; `None` beyond the end.
struct Reader<'a> {
    raw: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn manifest(mut self) -> Option<Manifest> {
        let runs = self.half()?;
        let mut manifest =
            Manifest { id_next: self.word()?, seq_next: self.word()?, runs: Vec::new() };
        for _ in 0..runs {
            let mut run = Run { level: self.half()?, tables: Vec::new() };
            for _ in 0..self.half()? {
                run.tables.push(Rc::new(self.table()?));
            }
            manifest.runs.push(run);
        }
        (self.at == self.raw.len()).then_some(manifest)
    }

    fn table(&mut self) -> Option<TableMeta> {
        let mut table = TableMeta {
            id: self.word()?,
            bytes: self.word()?,
            entries: self.word()?,
            tombstones: self.word()?,
            seq_max: self.word()?,
            expiry_ms_min: self.word()?,
            first: Vec::new(),
            last: Vec::new(),
        };
        let (first_len, last_len) = (self.half()? as usize, self.half()? as usize);
        table.first = self.bytes(first_len)?.to_vec();
        table.last = self.bytes(last_len)?.to_vec();
        Some(table)
    }

    fn bytes(&mut self, len: usize) -> Option<&[u8]> {
        self.at += len;
        self.raw.get(self.at - len..self.at)
    }

    fn half(&mut self) -> Option<u32> {
        self.at += 4;
        half(self.raw, self.at - 4)
    }

    fn word(&mut self) -> Option<u64> {
        self.at += 8;
        word(self.raw, self.at - 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk_sim::{Faults, SimDisk};

    fn manifest(runs: u32) -> Manifest {
        let table = |i: u32| {
            let (first, last) = (format!("a{i}").into_bytes(), format!("b{i}").into_bytes());
            let id = u64::from(i);
            let (entries, tombstones, seq_max, expiry_ms_min) = (9, 1, 77, 5);
            let bytes = id << 20;
            TableMeta { id, bytes, entries, tombstones, seq_max, expiry_ms_min, first, last }
        };
        let run = |i| Run { level: i, tables: (i..i + 3).map(|i| Rc::new(table(i))).collect() };
        Manifest { id_next: 12, seq_next: 78, runs: (0..runs).map(run).collect() }
    }

    fn load(disk: &SimDisk) -> Result<Option<Manifest>, StoreError> {
        disk.run(Manifest::load(disk, "m")).unwrap()
    }

    fn committed() -> SimDisk {
        let disk = SimDisk::new(1, Faults::default());
        let done = disk.run(async {
            disk.make_dir("m").await?;
            manifest(1).commit(&disk, "m").await?;
            manifest(3).commit(&disk, "m").await
        });
        done.unwrap().unwrap();
        disk
    }

    #[test]
    fn what_was_committed_last_is_found() {
        let disk = committed();
        assert_eq!(load(&disk), Ok(Some(manifest(3))));
        disk.run(manifest(4000).commit(&disk, "m")).unwrap().unwrap();
        assert_eq!(load(&disk), Ok(Some(manifest(4000))));
        let empty = SimDisk::new(1, Faults::default());
        assert_eq!(load(&empty), Ok(None));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found_and_named() {
        let (disk, name) = (committed(), "m/manifest");
        let good = disk.bytes(name).unwrap();
        let check = |bad: Vec<u8>, what: usize| {
            disk.change(name, bad);
            match load(&disk) {
                Err(StoreError::Corrupt { file, at: 0, .. }) => assert_eq!(file, name),
                other => panic!("{what}: {other:?}"),
            }
        };
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            check(bad, bit);
        }
        (0..good.len()).for_each(|len| check(good[..len].to_vec(), len));
    }

    #[test]
    fn a_crash_at_any_moment_leaves_one_or_the_other() {
        let mut found = [0; 2];
        for seed in 0..60 {
            for crash_at in 0..9 {
                let disk = committed();
                let completions = disk.counts().completions;
                let crash_at = Some(completions + crash_at);
                disk.set_faults(Faults { crash_at, ..Faults::default() });
                let ended = disk.run(manifest(2).commit(&disk, "m"));
                let disk = disk.crash(seed, Faults::default());
                let manifest_found = load(&disk).unwrap().expect("one was committed");
                let is_new = manifest_found == manifest(2);
                assert!(is_new || manifest_found == manifest(3));
                assert!(is_new || ended.is_err(), "seed {seed}: it was committed");
                found[usize::from(is_new)] += 1;
                // What the crash left is no obstacle.
                disk.run(manifest(1).commit(&disk, "m")).unwrap().unwrap();
                assert_eq!(load(&disk), Ok(Some(manifest(1))));
            }
        }
        assert!(found[0] > 50 && found[1] > 50, "{found:?}");
    }
}
