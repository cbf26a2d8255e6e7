//! Files of the simulated disk as the system gives them to who blocks: the calls that the folder of
//! checkpoints and the file sink make, by the same names.

use cutwater::port::PortError;
use cutwater::store::disk::DiskError;

use super::machine::{Machine, blocking};

/// What cannot be done, with the file's name in it.
pub fn failure(error: DiskError) -> PortError {
    PortError::Io { what: error.to_string(), source: std::io::Error::other("simulated") }
}

/// Makes a folder.
pub fn make_folder(folder: &str) -> Result<(), PortError> {
    blocking(folder, |disk| disk.make_dir_now(folder)).map_err(failure)
}

/// Writes a file and syncs it.
pub fn write_synced(path: &str, bytes: &[u8]) -> Result<(), PortError> {
    create(path)?;
    // Two writes: what is large does not come to the disk at once.
    let (first, second) = bytes.split_at(bytes.len() / 2);
    for piece in [first, second].iter().filter(|piece| !piece.is_empty()) {
        append(path, piece)?;
    }
    sync(path)
}

/// Makes a file, empty.
pub fn create(path: &str) -> Result<(), PortError> {
    blocking(path, |disk| disk.create_now(path)).map_err(failure)
}

/// Writes at a file's end.
pub fn append(path: &str, bytes: &[u8]) -> Result<(), PortError> {
    blocking(path, |disk| disk.append_now(path, bytes)).map_err(failure)
}

/// Makes a file's bytes durable.
pub fn sync(path: &str) -> Result<(), PortError> {
    blocking(path, |disk| disk.sync_now(path)).map_err(failure)
}

/// Makes a folder's names durable.
pub fn sync_folder(folder: &str) -> Result<(), PortError> {
    blocking(folder, |disk| disk.sync_dir_now(folder)).map_err(failure)
}

/// All bytes of a file.
pub fn read(path: &str) -> Result<Vec<u8>, PortError> {
    blocking(path, |disk| disk.read_now(path)).map_err(failure)
}

/// Bytes in a file.
pub fn length(path: &str) -> Result<u64, PortError> {
    blocking(path, |disk| disk.length_now(path)).map_err(failure)
}

/// Gives a file another name.
pub fn rename(from: &str, to: &str) -> Result<(), PortError> {
    blocking(from, |disk| disk.rename_now(from, to)).map_err(failure)
}

/// Gives a file a second name.
pub fn link(from: &str, to: &str) -> Result<(), PortError> {
    blocking(from, |disk| disk.link_now(from, to)).map_err(failure)
}

/// Takes a name away.
pub fn remove(path: &str) -> Result<(), PortError> {
    blocking(path, |disk| disk.remove_now(path)).map_err(failure)
}

/// Takes all names in a folder and below it away.
pub fn remove_all(folder: &str) -> Result<(), PortError> {
    below(&format!("{folder}/")).iter().try_for_each(|path| remove(path))
}

/// Whether there is a file or folder of this name.
pub fn exists(path: &str) -> bool {
    Machine::current().disk.exists(path)
}

/// Paths of the files whose paths begin so.
pub fn below(start: &str) -> Vec<String> {
    Machine::current().disk.below(start)
}
