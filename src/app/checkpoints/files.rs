//! A checkpoint's files: written durably, linked or copied, read and checked.
//!
//! ```text
//! what is in it | XXH3 of each block of 64 KiB of it: u64, little-endian
//! ```
//!
//! 1. The manifest has the XXH3 of the checksums behind a file. So every bit of it is checked, a
//!    file of another checkpoint is not taken for it, and damage has a place.
//! 2. A file without such a checksum in the manifest checks itself when it is read: before a run
//!    its length is looked at, and who knows it is asked when everything is to be read.
//! 3. The manifest of a tree is bare: the store reads it from the checkpoint's folder, and wants
//!    nothing behind it. Its damage is named without a place.
//! 4. Files of a checkpoint never change; so a link to one is as good as a copy.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rkyv::util::AlignedVec;
use serde::Serialize;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::manifest::ShardFile;
use super::tables;
use crate::edge::file::parts::{failure, sync_folder};
use crate::ground::limits::CHECKPOINT_DIRECT_BYTES;
use crate::port::PortError;
use crate::store::disk::PAGE;

const WRONG: &str = "its checksum is wrong";
/// What has one checksum, in bytes.
pub const BLOCK_BYTES: usize = 64 << 10;
/// What is written at once past the page cache, in bytes.
const DIRECT_BYTES: usize = 2 << 20;

/// A place where a file is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// In the checkpoint's folder, or the manifest's own name.
    pub file: String,
    /// Where in the file it begins, in bytes, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    pub reason: String,
}

impl Damage {
    /// Damage of a file as a whole.
    pub fn whole(file: &str, reason: impl Into<String>) -> Damage {
        Damage { file: file.to_string(), offset: None, reason: reason.into() }
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.offset {
            Some(offset) => write!(f, "{} at byte {offset}: {}", self.file, self.reason),
            None => write!(f, "{}: {}", self.file, self.reason),
        }
    }
}

/// Writes a file and syncs it, with its checksums unless it is to be `bare`; gives what the
/// manifest is to know.
///
/// # Errors
/// [`PortError`], with the path.
pub fn write_summed(path: &Path, bytes: &[u8], bare: bool) -> Result<String, PortError> {
    let mut sums = Vec::with_capacity(8 * bytes.len().div_ceil(BLOCK_BYTES));
    let mut write = || {
        let mut out = Out::create(path, bytes.len())?;
        for block in bytes.chunks(BLOCK_BYTES) {
            // While the block is in the processor's cache.
            sums.extend_from_slice(&xxh3_64(block).to_le_bytes());
            out.put(block)?;
        }
        out.put(if bare { &[] } else { &sums })?;
        out.finish()
    };
    write().map_err(|error| failure("write", path, error))?;
    Ok(sum_of(&sums))
}

fn sum_of(sums: &[u8]) -> String {
    format!("{:016x}", xxh3_64(sums))
}

/// Writes a file of these pieces and syncs it.
///
/// # Errors
/// [`PortError`], with the path.
pub fn write_synced(path: &Path, pieces: &[&[u8]]) -> Result<(), PortError> {
    let write = || {
        let mut file = File::create(path)?;
        pieces.iter().try_for_each(|piece| file.write_all(piece))?;
        file.sync_all()
    };
    write().map_err(|error| failure("write", path, error))
}

/// A file that is written once. A large one goes past the page cache, where the file system has
/// that: nobody reads it soon, and what shards work with would make room for it.
struct Out {
    file: File,
    len: usize,
    /// What is written at once past the page cache; none: nothing is.
    buffer: Option<AlignedVec<PAGE>>,
}

impl Out {
    /// A file of about `len` bytes.
    fn create(path: &Path, len: usize) -> io::Result<Out> {
        if len < CHECKPOINT_DIRECT_BYTES {
            return Ok(Out { file: File::create(path)?, len: 0, buffer: None });
        }
        let mut options = File::options();
        options.write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT);
        match options.open(path) {
            Ok(file) => {
                let buffer = Some(AlignedVec::with_capacity(DIRECT_BYTES));
                Ok(Out { file, len: 0, buffer })
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Ok(Out { file: File::create(path)?, len: 0, buffer: None })
            }
            Err(error) => Err(error),
        }
    }

    fn put(&mut self, piece: &[u8]) -> io::Result<()> {
        self.len += piece.len();
        let Some(buffer) = &mut self.buffer else { return self.file.write_all(piece) };
        let mut left = piece;
        while !left.is_empty() {
            let (now, later) = left.split_at(left.len().min(DIRECT_BYTES - buffer.len()));
            buffer.extend_from_slice(now);
            left = later;
            if buffer.len() == DIRECT_BYTES {
                self.file.write_all(buffer)?;
                buffer.clear();
            }
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        if let Some(buffer) = self.buffer.as_mut().filter(|buffer| !buffer.is_empty()) {
            buffer.resize(buffer.len().next_multiple_of(PAGE), 0);
            self.file.write_all(buffer)?;
            self.file.set_len(self.len as u64)?;
        }
        self.file.sync_all()
    }
}

/// Length of a file on the disk.
pub fn len_on_disk(file: &ShardFile) -> u64 {
    match file.xxh3 {
        Some(_) if !file.bare => file.bytes + 8 * file.bytes.div_ceil(BLOCK_BYTES as u64),
        _ => file.bytes,
    }
}

/// What is in a file, if all of it is as it was written; none for one that checks itself.
///
/// # Errors
/// [`PortError::Data`] with the first damage, [`PortError::Io`] if it cannot be read.
pub fn read(folder: &Path, file: &ShardFile) -> Result<Option<Vec<u8>>, PortError> {
    let path = folder.join(&file.name);
    let failed = |error| failure("read", &path, error);
    let damaged = |damage: &Damage| {
        let at = damage.offset.map(|offset| format!(" at byte {offset}")).unwrap_or_default();
        PortError::Data(format!("`{}`{at}: {}", path.display(), damage.reason))
    };
    let Some(sum) = &file.xxh3 else {
        let found = fs::metadata(&path).map_err(failed)?.len();
        return check_len(file, found).map_or(Ok(None), |damage| Err(damaged(&damage)));
    };
    let mut bytes = fs::read(&path).map_err(failed)?;
    let wrong = match check_len(file, bytes.len() as u64) {
        Some(damage) => vec![damage],
        None => check_blocks(file, sum, &mut &bytes[..]).map_err(failed)?,
    };
    if let Some(damage) = wrong.first() {
        return Err(damaged(damage));
    }
    bytes.truncate(file.bytes as usize);
    Ok(Some(bytes))
}

/// Everything that is wrong with a file. Reads all of it if it is `deep`, else looks at its length.
///
/// # Errors
/// [`PortError::Io`] if it is there and cannot be read.
pub fn damages(folder: &Path, file: &ShardFile, deep: bool) -> Result<Vec<Damage>, PortError> {
    let path = folder.join(&file.name);
    let opened = File::open(&path).and_then(|open| Ok((open.metadata()?.len(), open)));
    let (found, mut open) = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(vec![Damage::whole(&file.name, "it is missing")]);
        }
        opened => opened.map_err(|error| failure("read", &path, error))?,
    };
    if let Some(damage) = check_len(file, found) {
        return Ok(vec![damage]);
    }
    match &file.xxh3 {
        Some(sum) if deep => {
            check_blocks(file, sum, &mut open).map_err(|error| failure("read", &path, error))
        }
        None if deep => own_checks(&path, file),
        _ => Ok(Vec::new()),
    }
}

/// What a file that checks itself has to say: the state's tables do.
fn own_checks(path: &Path, file: &ShardFile) -> Result<Vec<Damage>, PortError> {
    let name = file.place().map_or("", |(_, name)| name);
    match tables::table_id(name) {
        Some(id) => tables::damages(path, &file.name, id),
        None => Ok(Vec::new()),
    }
}

fn check_len(file: &ShardFile, found: u64) -> Option<Damage> {
    let wanted = len_on_disk(file);
    let differs = || Damage::whole(&file.name, format!("it has {found} bytes, not {wanted}"));
    (found != wanted).then(differs)
}

/// Compares a file of the right length, block by block (invariant 1).
fn check_blocks(file: &ShardFile, sum: &str, from: &mut impl Read) -> io::Result<Vec<Damage>> {
    let mut sums = Vec::new();
    let mut block = vec![0; BLOCK_BYTES];
    let mut left = file.bytes;
    while left > 0 {
        let len = left.min(BLOCK_BYTES as u64) as usize;
        from.read_exact(&mut block[..len])?;
        sums.extend_from_slice(&xxh3_64(&block[..len]).to_le_bytes());
        left -= len as u64;
    }
    if file.bare {
        let is_whole = sum_of(&sums) == *sum;
        return Ok(if is_whole { vec![] } else { vec![Damage::whole(&file.name, WRONG)] });
    }
    let mut written = vec![0; sums.len()];
    from.read_exact(&mut written)?;
    if sums == written && sum_of(&sums) == *sum {
        return Ok(Vec::new());
    }
    let at = |offset: u64, reason: &str| Damage {
        file: file.name.clone(),
        offset: Some(offset),
        reason: reason.to_string(),
    };
    if sum_of(&sums) == *sum {
        let differs = sums.iter().zip(&written).position(|(a, b)| a != b).unwrap_or(0) as u64;
        let place = file.bytes + differs / 8 * 8;
        return Ok(vec![at(place, "the checksum of a block is wrong, the block is whole")]);
    }
    if sums == written {
        return Ok(vec![at(0, "its checksum is that of another checkpoint's file")]);
    }
    let pairs = sums.chunks(8).zip(written.chunks(8)).enumerate();
    let differing = pairs.filter(|(_, (found, written))| found != written);
    let block = |(number, _)| {
        at(number as u64 * BLOCK_BYTES as u64, "the checksum of this block of 64 KiB is wrong")
    };
    Ok(differing.map(block).collect())
}

/// Puts a file of one checkpoint into another, durably: by a link, or by a copy where the file
/// systems differ or know no links.
///
/// # Errors
/// [`PortError`], with the path.
pub fn link_or_copy(from: &Path, to: &Path) -> Result<(), PortError> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if is_unlinkable(&error) => copy(from, to),
        Err(error) => Err(failure("link", from, error)),
    }
}

/// Whether a copy may do what a link could not.
fn is_unlinkable(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::CrossesDevices | Kind::Unsupported | Kind::PermissionDenied | Kind::TooManyLinks
    )
}

/// Copies a file durably.
///
/// # Errors
/// [`PortError`], with the path.
pub fn copy(from: &Path, to: &Path) -> Result<(), PortError> {
    fs::copy(from, to).map_err(|error| failure("copy", from, error))?;
    let sync = File::open(to).and_then(|file| file.sync_all());
    sync.map_err(|error| failure("sync", to, error))
}

/// Makes a folder with all above it, their names durable.
///
/// # Errors
/// [`PortError`], with the path.
pub fn make_folder(path: &Path) -> Result<(), PortError> {
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .collect();
    for path in missing.into_iter().rev() {
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failure("make the folder", path, error));
            }
            _ => {}
        }
        let above = path.parent().filter(|above| !above.as_os_str().is_empty());
        sync_folder(above.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// XXH3 of 128 bits of a file and its length, in hexadecimal: the same for the same bytes only.
///
/// # Errors
/// [`PortError`], with the path.
pub fn content_name(path: &Path) -> Result<String, PortError> {
    let hash = || {
        let (mut file, mut hash) = (File::open(path)?, Xxh3::new());
        let (mut block, mut bytes) = (vec![0; BLOCK_BYTES], 0u64);
        loop {
            let len = file.read(&mut block)?;
            if len == 0 {
                return Ok(format!("{:032x}-{bytes}", hash.digest128()));
            }
            hash.update(&block[..len]);
            bytes += len as u64;
        }
    };
    hash().map_err(|error| failure("read", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, folder: &Path, len: usize) -> ShardFile {
        let bytes: Vec<u8> = (0..len).map(|i| (i / 7) as u8).collect();
        let xxh3 = write_summed(&folder.join(name), &bytes, false).unwrap();
        ShardFile { name: name.into(), bytes: len as u64, xxh3: Some(xxh3), bare: false }
    }

    /// A flipped bit anywhere is found in its block of 64 KiB, and in no other.
    #[test]
    fn damage_has_a_place() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        let len = 3 * BLOCK_BYTES + 100;
        let file = file("image", folder, len);
        assert_eq!(damages(folder, &file, true).unwrap(), []);
        let whole = fs::read(folder.join("image")).unwrap();
        assert_eq!(read(folder, &file).unwrap().unwrap(), whole[..len]);
        assert_eq!(whole.len() as u64, len_on_disk(&file));
        for at in (0..whole.len()).step_by(997).chain(len..whole.len()) {
            let mut bad = whole.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(folder.join("image"), &bad).unwrap();
            let found = damages(folder, &file, true).unwrap();
            let place =
                if at < len { at / BLOCK_BYTES * BLOCK_BYTES } else { len + (at - len) / 8 * 8 };
            let offsets: Vec<_> = found.iter().map(|damage| damage.offset).collect();
            assert_eq!(offsets, [Some(place as u64)], "byte {at}: {found:?}");
            assert!(read(folder, &file).unwrap_err().to_string().contains("image` at byte"));
            assert_eq!(damages(folder, &file, false).unwrap(), []);
        }
        // Several blocks are all named.
        let mut bad = whole.clone();
        (bad[5], bad[2 * BLOCK_BYTES]) = (bad[5] ^ 1, bad[2 * BLOCK_BYTES] ^ 1);
        fs::write(folder.join("image"), &bad).unwrap();
        assert_eq!(damages(folder, &file, true).unwrap().len(), 2);
        fs::write(folder.join("image"), &whole[1..]).unwrap();
        let found = damages(folder, &file, false).unwrap();
        assert_eq!((found.len(), found[0].offset), (1, None), "{found:?}");
        fs::remove_file(folder.join("image")).unwrap();
        assert_eq!(damages(folder, &file, false).unwrap()[0].reason, "it is missing");
    }

    #[test]
    fn a_file_of_another_checkpoint_is_none_of_this_one() {
        let dir = tempfile::tempdir().unwrap();
        let first = file("a", dir.path(), 100);
        write_summed(&dir.path().join("a"), &[9; 100], false).unwrap();
        let found = damages(dir.path(), &first, true).unwrap();
        assert!(found[0].reason.contains("another"), "{found:?}");
        assert!(read(dir.path(), &first).is_err());
        let empty = file("b", dir.path(), 0);
        assert_eq!(damages(dir.path(), &empty, true).unwrap(), []);
        assert_eq!(read(dir.path(), &empty).unwrap(), Some(Vec::new()));
    }

    #[test]
    fn contents_have_names() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| dir.path().join(name));
        fs::write(&a, vec![1; 200_000]).unwrap();
        copy(&a, &b).unwrap();
        link_or_copy(&a, &c).unwrap();
        assert_eq!(content_name(&a).unwrap(), content_name(&b).unwrap());
        assert!(content_name(&a).unwrap().ends_with("-200000"));
        fs::write(&b, vec![2; 200_000]).unwrap();
        assert_ne!(content_name(&a).unwrap(), content_name(&b).unwrap());
        make_folder(&dir.path().join("x/y/z")).unwrap();
        assert!(dir.path().join("x/y/z").is_dir());
    }
}
