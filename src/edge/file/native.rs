//! Native files as blocks: mapped, and given frame by frame without being copied.
//!
//! 1. A block is the longest run of whole frames of at most `BLOCK_ROWS` rows, or one frame: a
//!    pure function of the file's bytes.
//! 2. The head was checked and frames are found here; a frame's checksum is the decoder's to
//!    check, in parallel.
//! 3. Of a mapped file no more than `MAPPED_BEHIND_BYTES` behind the reader stays in memory, so
//!    that a process does not grow with its input.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::edge::file::find::refused;
use crate::ground::batch::Backing;
use crate::ground::frame::{self, FrameError};
use crate::ground::limits::{BLOCK_ROWS, MAPPED_BEHIND_BYTES};
use crate::ground::map::MappedFile;
use crate::port::{Block, Mapped, PortError};

/// A native file under way.
pub struct NativeFile {
    map: Arc<MappedFile>,
    shared: Mapped,
    path: PathBuf,
    origin: Arc<str>,
    next: usize,
    released: usize,
}

impl NativeFile {
    /// Maps a file and checks its head; `schema_fits` says why its schema text is not the one
    /// that is wanted, if so.
    ///
    /// # Errors
    /// [`PortError::Setup`] if it cannot be read or has another schema, [`PortError::Data`] if it
    /// is no native file.
    pub fn open(
        path: &Path,
        schema_fits: impl FnOnce(&str) -> Result<(), String>,
    ) -> Result<NativeFile, PortError> {
        let file = File::open(path).map_err(|error| refused(path, &error))?;
        let map = MappedFile::new(&file).map_err(|error| {
            PortError::Setup(format!(
                "cannot map `{}` into memory: {error}; native files are regular files",
                path.display()
            ))
        })?;
        let (schema, next) =
            frame::read_head(map.bytes()).map_err(|error| damaged(path, &error))?;
        schema_fits(schema)
            .map_err(|why| PortError::Setup(format!("`{}` does not fit: {why}", path.display())))?;
        let map = Arc::new(map);
        Ok(NativeFile {
            shared: Mapped(map.clone()),
            map,
            path: path.to_path_buf(),
            origin: path.to_string_lossy().into(),
            next,
            released: 0,
        })
    }

    /// The next block, `None` at the end.
    ///
    /// # Errors
    /// [`PortError::Data`] where no whole frame stands.
    pub fn next(&mut self) -> Result<Option<Block>, PortError> {
        let (start, mut rows) = (self.next, 0);
        loop {
            let found = frame::find_frame(self.map.bytes(), self.next);
            match found.map_err(|error| damaged(&self.path, &error))? {
                Some(frame) if rows == 0 || rows + frame.rows <= BLOCK_ROWS => {
                    rows += frame.rows;
                    self.next = frame.end();
                }
                Some(_) => break,
                None => break,
            }
        }
        self.release_behind(start);
        Ok((start < self.next).then(|| Block::Frames {
            file: self.shared.clone(),
            start,
            end: self.next,
            origin: self.origin.clone(),
        }))
    }

    /// Invariant 3, in steps of a quarter of it.
    fn release_behind(&mut self, reader: usize) {
        let until = reader.saturating_sub(MAPPED_BEHIND_BYTES);
        if until - self.released.min(until) >= MAPPED_BEHIND_BYTES / 4 {
            // Whole pages: the last one may still be read.
            let until = until & !0xFFFF;
            self.map.release(self.released, until);
            self.released = until;
        }
    }
}

fn damaged(path: &Path, error: &FrameError) -> PortError {
    PortError::Data(format!("`{}`: {error}", path.display()))
}
