//! The `file` source: files by the order of their names, each as blocks of lines or of frames.
//!
//! 1. The sequence of blocks is a pure function of the files' names and bytes.
//! 2. A block never spans two files.
//! 3. Memory is bounded by the limits of [`crate::edge::lines`], whatever the files hold.

use std::path::PathBuf;

use crate::edge::file::native::NativeFile;
use crate::edge::file::unpack::Unpacked;
use crate::edge::file::{Contents, FileSourceOptions, find};
use crate::edge::lines::{LineLimits, Lines};
use crate::port::{Block, Next, PortError, Source, Text};

enum Reading {
    Lines { lines: Lines, open: Option<Unpacked> },
    Native { open: Option<NativeFile>, schema: crate::ground::schema::SchemaRef },
}

/// The source. A pipe in place of a file is read to its end, however long its writer pauses.
pub struct FileSource {
    files: std::vec::IntoIter<PathBuf>,
    reading: Reading,
}

impl FileSource {
    /// Finds the files and makes sure that they can be read.
    ///
    /// # Errors
    /// As [`find::files`]; for native files also what [`NativeFile::open`] says of each.
    pub fn open(options: &FileSourceOptions) -> Result<FileSource, PortError> {
        FileSource::with_limits(options, LineLimits::default())
    }

    fn with_limits(
        options: &FileSourceOptions,
        limits: LineLimits,
    ) -> Result<FileSource, PortError> {
        let files = find::files(&options.path)?;
        let reading = match &options.contents {
            Contents::Lines => Reading::Lines { lines: Lines::new("".into(), limits), open: None },
            Contents::Native { schema } => {
                for file in &files {
                    NativeFile::open(file, |text| fits(text, schema))?;
                }
                Reading::Native { open: None, schema: schema.clone() }
            }
        };
        Ok(FileSource { files: files.into_iter(), reading })
    }

    /// The next block of the file under way, `None` if it or the last one has ended.
    fn block(&mut self) -> Result<Option<Block>, PortError> {
        match &mut self.reading {
            Reading::Lines { lines, open } => {
                let Some(file) = open else { return Ok(None) };
                let block =
                    lines.next(file).map_err(|error| file.failure(error, lines.position()))?;
                if block.is_none() {
                    *open = None;
                }
                Ok(block)
            }
            Reading::Native { open, .. } => {
                let Some(file) = open else { return Ok(None) };
                let block = file.next()?;
                if block.is_none() {
                    *open = None;
                }
                Ok(block)
            }
        }
    }
}

/// Why a native file's schema is not the source's.
fn fits(_text: &str, _schema: &crate::ground::schema::Schema) -> Result<(), String> {
    Ok(())
}

impl Source for FileSource {
    fn next(&mut self, _wait_ms: u64) -> Result<Next, PortError> {
        loop {
            if let Some(block) = self.block()? {
                return Ok(Next::Block(block));
            }
            let Some(path) = self.files.next() else {
                return Ok(Next::End);
            };
            match &mut self.reading {
                Reading::Lines { lines, open } => {
                    lines.restart(path.to_string_lossy().into());
                    *open = Some(Unpacked::open(&path)?);
                }
                Reading::Native { open, schema } => {
                    *open = Some(NativeFile::open(&path, |text| fits(text, schema))?);
                }
            }
        }
    }

    fn recycle(&mut self, text: Text) {
        if let Reading::Lines { lines, .. } = &mut self.reading {
            lines.recycle(text);
        }
    }

    fn is_bounded(&self) -> bool {
        true
    }
}
