//! The `file` source: files by the order of their names, each as blocks of lines or of frames.
//!
//! 1. The sequence of blocks is a pure function of the files' names and bytes.
//! 2. A block never spans two files.
//! 3. A header line belongs to its own file: it is taken off before the file's blocks are cut, and
//!    goes with each of them. A file without any line has none, and no rows.
//! 4. Memory is bounded by the limits of [`crate::edge::lines`], whatever the files hold.

use std::path::{Path, PathBuf};

use crate::edge::file::native::NativeFile;
use crate::edge::file::unpack::Unpacked;
use crate::edge::file::{Contents, FileSourceOptions, HeadCheck, SchemaCheck, find};
use crate::edge::lines::{Head, LineLimits, Lines};
use crate::ground::limits::BLOCK_BYTES;
use crate::ground::schema::SchemaRef;
use crate::port::{Block, Next, PortError, Source, Text};

/// The header line of each file, as it must be.
struct Header {
    schema: SchemaRef,
    event_time: Option<usize>,
    check: HeadCheck,
}

enum Reading {
    Lines { lines: Lines, open: Option<Box<Unpacked>>, header: Option<Header> },
    Native { open: Option<NativeFile>, schema: SchemaRef, check: SchemaCheck },
}

/// The source. A pipe in place of a file is read to its end, however long its writer pauses.
pub struct FileSource {
    files: std::vec::IntoIter<PathBuf>,
    reading: Reading,
    /// Blocks given.
    given: u64,
}

impl FileSource {
    /// Finds the files and makes sure that they can be read.
    ///
    /// # Errors
    /// As [`find::files`]; for native files also what [`NativeFile::open`] says of each, and
    /// [`PortError::Setup`] for a header line that does not fit.
    pub fn open(options: &FileSourceOptions) -> Result<FileSource, PortError> {
        let files = find::files(&options.path)?;
        let reading = match &options.contents {
            Contents::Lines => Reading::Lines { lines: lines(), open: None, header: None },
            Contents::Headed { schema, event_time, check } => {
                let header =
                    Header { schema: schema.clone(), event_time: *event_time, check: *check };
                // All of them before the first row, so that a wrong one costs no work. What a pipe
                // gives can be read only once.
                for file in files.iter().filter(|file| file.is_file()) {
                    header.take(file, &mut lines(), &mut Unpacked::open(file)?)?;
                }
                Reading::Lines { lines: lines(), open: None, header: Some(header) }
            }
            Contents::Native { schema, check } => {
                for file in &files {
                    NativeFile::open(file, |text| check(text, schema))?;
                }
                Reading::Native { open: None, schema: schema.clone(), check: *check }
            }
        };
        Ok(FileSource { files: files.into_iter(), reading, given: 0 })
    }

    /// The next block of the file under way, `None` if it or the last one has ended.
    fn block(&mut self) -> Result<Option<Block>, PortError> {
        match &mut self.reading {
            Reading::Lines { lines, open, .. } => {
                let Some(file) = open.as_deref_mut() else { return Ok(None) };
                let block =
                    lines.next(file).map_err(|error| file.failure(error, lines.position()))?;
                if block.is_none() {
                    *open = None;
                }
                Ok(block)
            }
            Reading::Native { open, .. } => {
                let Some(file) = open else { return Ok(None) };
                let block = file.block()?;
                if block.is_none() {
                    *open = None;
                }
                Ok(block)
            }
        }
    }
}

fn lines() -> Lines {
    Lines::new("".into(), LineLimits::default())
}

impl Header {
    /// Takes the header line off a file that was just opened, and checks it.
    fn take(&self, path: &Path, lines: &mut Lines, file: &mut Unpacked) -> Result<(), PortError> {
        let head = lines.head(file).map_err(|error| file.failure(error, lines.position()))?;
        let fits = match head {
            Head::Line(line) => (self.check)(&line, &self.schema, self.event_time),
            Head::Empty => Ok(()),
            Head::TooLong => Err(format!("its header line has more than {BLOCK_BYTES} bytes")),
        };
        fits.map_err(|why| PortError::Setup(format!("`{}` does not fit: {why}", path.display())))
    }
}

impl Source for FileSource {
    fn next(&mut self, _wait_ms: u64) -> Result<Next, PortError> {
        loop {
            if let Some(block) = self.block()? {
                self.given += 1;
                return Ok(Next::Block(block));
            }
            let Some(path) = self.files.next() else {
                return Ok(Next::End);
            };
            match &mut self.reading {
                Reading::Lines { lines, open, header } => {
                    lines.restart(path.to_string_lossy().into());
                    let mut file = Unpacked::open(&path)?;
                    if let Some(header) = header {
                        header.take(&path, lines, &mut file)?;
                    }
                    *open = Some(Box::new(file));
                }
                Reading::Native { open, schema, check } => {
                    *open = Some(NativeFile::open(&path, |text| check(text, schema))?);
                }
            }
        }
    }

    fn recycle(&mut self, text: Text) {
        if let Reading::Lines { lines, .. } = &mut self.reading {
            lines.recycle(text);
        }
    }

    fn position(&self) -> Option<u64> {
        Some(self.given)
    }

    fn is_bounded(&self) -> bool {
        true
    }
}
