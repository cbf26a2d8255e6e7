//! The tables of the state's tree in a checkpoint, which have checksums of their own: every block
//! is read at its place, then what the table says of itself is compared.
//!
//! 1. Every damaged block is named, not only the first: a block's checksum is seeded with its
//!    place, so behind a damaged one the next whole one is found page by page.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use super::files::Damage;
use crate::edge::file::parts::failure;
use crate::flow::reader::block_on;
use crate::port::PortError;
use crate::store::block::{BlockKind, Place, sealed_len, unseal};
use crate::store::disk::{self, DiskError, DiskFailure, PAGE, Request};
use crate::store::error::StoreError;
use crate::store::table::Table;

/// The number of the table that a file of this name holds.
pub fn table_id(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("table-")?;
    u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 16)
}

/// Everything that is wrong with a table; `name` says which in messages. O(its bytes).
///
/// # Errors
/// [`PortError::Io`] if it cannot be read.
pub fn damages(path: &Path, name: &str, id: u64) -> Result<Vec<Damage>, PortError> {
    let failed = |error| failure("read", path, error);
    let file = File::open(path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    let at = |at: u64, reason: &str| Damage {
        file: name.to_string(),
        offset: Some(at),
        reason: reason.to_string(),
    };
    let mut found = Vec::new();
    let (mut place, mut is_lost) = (0, false);
    // The last page is the footer's, which `Table::open` checks.
    while place + (PAGE as u64) < len {
        match block_at(&file, id, place, len).map_err(failed)? {
            Ok(bytes) => (place, is_lost) = (place + bytes, false),
            Err(why) => {
                if !is_lost {
                    found.push(at(place, why));
                }
                (place, is_lost) = (place + PAGE as u64, true);
            }
        }
    }
    match block_on(verify(Opened { file, name: name.to_string() }, id)) {
        // The footer is looked at first; anything else is known already.
        Err(StoreError::Corrupt { at: place, what, .. })
            if found.is_empty() || place + PAGE as u64 == len =>
        {
            found.push(at(place, what));
        }
        Err(error) if found.is_empty() => found.push(Damage::whole(name, error.to_string())),
        _ => {}
    }
    Ok(found)
}

/// Bytes of the block at a place, or what is wrong with it.
fn block_at(file: &File, id: u64, at: u64, len: u64) -> io::Result<Result<u64, &'static str>> {
    let mut sealed = vec![0; PAGE];
    file.read_exact_at(&mut sealed, at)?;
    let Some(bytes) = sealed_len(&sealed).filter(|bytes| at + *bytes as u64 <= len) else {
        return Ok(Err("no block starts here"));
    };
    sealed.resize(bytes, 0);
    file.read_exact_at(&mut sealed[PAGE..], at + PAGE as u64)?;
    let kinds =
        [BlockKind::Data, BlockKind::Index, BlockKind::Top, BlockKind::Filter, BlockKind::Bounds];
    // An unknown kind is a wrong checksum too.
    let kind = kinds.into_iter().find(|kind| *kind as u8 == sealed[16]);
    let unsealed = unseal(kind.unwrap_or(BlockKind::Data), &sealed, Place { file_id: id, at });
    Ok(unsealed.map(|_| bytes as u64))
}

async fn verify(file: Opened, id: u64) -> Result<(), StoreError> {
    Rc::new(Table::open(file, id, true).await?).verify().await
}

/// A file as the store reads it, through the system's cache and to be read only.
struct Opened {
    file: File,
    name: String,
}

impl Opened {
    fn failed(&self, request: Request, at: u64, error: &io::Error) -> DiskError {
        let failure = DiskFailure::Io(error.to_string());
        DiskError { failure, request, name: self.name.clone(), at }
    }

    fn read_only(&self, request: Request) -> DiskError {
        self.failed(request, 0, &io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

impl disk::File for Opened {
    type Read = Vec<u8>;
    type Buffer = Vec<u8>;

    fn name(&self) -> &str {
        &self.name
    }

    async fn length(&self) -> Result<u64, DiskError> {
        let about = self.file.metadata();
        about.map(|about| about.len()).map_err(|error| self.failed(Request::Length, 0, &error))
    }

    fn buffer(&self, len: usize) -> Vec<u8> {
        vec![0; len]
    }

    async fn read_at(&self, at: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        let (mut bytes, mut filled) = (vec![0; len], 0);
        while filled < len {
            match self.file.read_at(&mut bytes[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) => return Err(self.failed(Request::Read, at, &error)),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    async fn write_at(&self, _at: u64, _buffer: Vec<u8>) -> Result<(), DiskError> {
        Err(self.read_only(Request::Write))
    }

    async fn sync(&self) -> Result<(), DiskError> {
        Err(self.read_only(Request::Sync))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::codec::Codec;
    use crate::store::disk::Disk;
    use crate::store::disk_sim::{Faults, SimDisk};
    use crate::store::entry::{Entry, Kind, NEVER};
    use crate::store::table::TableWriter;

    /// A table as the store writes it.
    fn table() -> Vec<u8> {
        let disk = SimDisk::new(1, Faults::default());
        let write = async {
            let mut writer = TableWriter::new(disk.create("t").await?, 9, Codec::Lz4);
            for i in 0..4000u64 {
                let (key, value) =
                    (i.to_be_bytes(), i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
                let (kind, expiry_ms) = (Kind::Value, NEVER);
                writer.add(&Entry { key: &key, value: &value, seq: i, kind, expiry_ms }).await?;
            }
            writer.finish().await.map(drop)
        };
        disk.run(write).unwrap().unwrap();
        disk.bytes("t").unwrap()
    }

    /// Each page of a table in turn, and two at once: the damage is named where it is.
    #[test]
    fn every_damaged_block_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table-0000000000000009");
        let whole = table();
        let check = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let found = damages(&path, "t", 9).unwrap();
            found.iter().map(|damage| damage.offset.expect("a place")).collect::<Vec<_>>()
        };
        assert!(whole.len() > 10 * PAGE, "{} bytes", whole.len());
        assert_eq!(check(&whole), Vec::<u64>::new());
        for page in 0..whole.len() / PAGE {
            let mut bad = whole.clone();
            bad[page * PAGE + page * 37 % PAGE] ^= 1;
            let found = check(&bad);
            let at = (page * PAGE) as u64;
            // A block may have begun some pages before.
            assert!(found.len() == 1 && found[0] <= at && found[0] + 8 * 4096 > at, "{found:?}");
        }
        let mut bad = whole.clone();
        (bad[100], bad[8 * PAGE + 100]) = (bad[100] ^ 1, bad[8 * PAGE + 100] ^ 1);
        assert_eq!(check(&bad).len(), 2);
        assert!(!check(&whole[..whole.len() - PAGE]).is_empty());
        std::fs::write(&path, &whole).unwrap();
        assert!(!damages(&path, "t", 8).unwrap().is_empty(), "another table's number");
        assert_eq!(table_id("table-0000000000000009"), Some(9));
        assert_eq!(table_id("table-9"), None);
    }
}
