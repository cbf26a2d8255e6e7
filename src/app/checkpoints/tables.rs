//! The tables of the state's tree in a checkpoint, which have checksums of their own: the store
//! audits them, here through the system's cache and without an executor.
//!
//! 1. Every damaged block is named, not only the first.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::files::Damage;
use crate::edge::file::parts::failure;
use crate::flow::reader::block_on;
use crate::port::PortError;
use crate::store::disk::{self, DiskError, DiskFailure, Request};
use crate::store::table::audit;

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
    let file = File::open(path).map_err(|error| failure("read", path, error))?;
    let damage = |(at, reason)| Damage { file: name.to_string(), offset: Some(at), reason };
    match block_on(audit(Opened { file, name: name.to_string() }, id)) {
        Ok(flaws) => Ok(flaws.into_iter().map(damage).collect()),
        Err(error) => Ok(vec![Damage::whole(name, error.to_string())]),
    }
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
    use crate::store::disk::{Disk, PAGE};
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
