//! A file mapped into memory, to be read in place.
//!
//! 1. The mapping is read-only and shared: nothing in this process writes it, and giving pages
//!    back ([`MappedFile::release`]) loses nothing, since they are read from the file again.
//! 2. A file that is cut short by somebody else while it is mapped kills the process with SIGBUS
//!    when the lost part is read. That is the system's rule for mapped files and cannot be an
//!    error here: native inputs must not be changed while they are read. Writers of this engine
//!    never change a file that readers can see (parts appear by rename).
//!
//! Measured over 512 MiB in the page cache (256 KiB at a time, CPU time, kernel 6.18): plain or
//! `MADV_SEQUENTIAL` 0.103 ns a byte, with pages given back 0.104, `MADV_POPULATE_READ` a block
//! ahead 0.117, `MAP_POPULATE` 0.115, `read` into one buffer 0.132. So pages are not populated
//! ahead, and giving them back costs nothing that can be measured.

use std::fs::File;
use std::io;

use memmap2::{Advice, Mmap, UncheckedAdvice};

use super::batch::Backing;

/// A whole file, mapped. Shared by the batches that are read from it.
pub struct MappedFile {
    map: Mmap,
}

impl MappedFile {
    /// Maps a file, to be read from its start to its end; the kernel reads ahead accordingly.
    /// The file itself may be closed afterwards.
    ///
    /// # Errors
    /// What the system says, for instance that the file is a pipe.
    pub fn new(file: &File) -> io::Result<MappedFile> {
        // SAFETY: the mapping is read-only and this process has no writer of it (invariant 1). That
        // other processes leave the file alone is asked of the user (invariant 2); what a
        // writer could change under us are bytes, all of them valid u8, and readers check the
        // checksum and then only index into slices with bounds.
        let map = unsafe { Mmap::map(file) }?;
        if !map.is_empty() {
            // Advice only: a file system without it reads all the same.
            let _ = map.advise(Advice::Sequential);
        }
        Ok(MappedFile { map })
    }

    /// Gives the pages of bytes `start..end` back to the system, so that a long file does not
    /// fill the process; reading them again is correct and costs a page fault. O(pages).
    ///
    /// # Panics
    /// If the range is not inside the file.
    pub fn release(&self, start: usize, end: usize) {
        assert!(start <= end && end <= self.map.len(), "inside the file");
        if start == end {
            return;
        }
        // SAFETY: a read-only shared mapping of a file has no contents of its own to lose
        // (invariant 1): the next read faults the same bytes in again.
        let _ = unsafe {
            self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start)
        };
    }
}

impl Backing for MappedFile {
    fn bytes(&self) -> &[u8] {
        &self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_mapping_shows_what_reading_shows_also_after_a_release() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i * 7) as u8).collect();
        file.write_all(&bytes).unwrap();
        let map = MappedFile::new(&file).unwrap();
        assert_eq!(map.bytes(), bytes);
        assert_eq!(map.bytes().as_ptr() as usize % 4096, 0);
        map.release(4096, 99_999);
        map.release(0, 0);
        assert_eq!(map.bytes(), bytes);
    }

    #[test]
    fn an_empty_file_maps_to_nothing() {
        let map = MappedFile::new(&tempfile::tempfile().unwrap()).unwrap();
        assert!(map.bytes().is_empty());
        map.release(0, 0);
    }
}
