//! What the engine asks of the outside: sources give blocks in one order, sinks take rows by epoch.
//!
//! A *block* is the grain of a source's order. Blocks of a source are numbered from 0, dealt to
//! the shards in turn, decoded there, and merged back by number wherever order matters; so what a
//! bounded source says is the same on any number of shards and with any batch size.
//!
//! What is absent: how rows flow, operators, state.

use std::sync::Arc;

use thiserror::Error;

use crate::ground::batch::{Backing, BatchBuilder, RecordBatch};

/// Why a source or sink stops the run.
#[derive(Debug, Error)]
pub enum PortError {
    /// The system refused: what was tried on which path or address, and why.
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    /// What stands there is not what it should be.
    #[error("{0}")]
    Data(String),
    /// A path, address or option that the user has to put right before the run can start; the
    /// message says what to do.
    #[error("{0}")]
    Setup(String),
}

/// Text of a block: whole lines (the last may lack its newline), padded so that decoders may read
/// [`Text::PADDING`] bytes past the end.
#[derive(Debug, Default)]
pub struct Text {
    bytes: Vec<u8>,
    len: usize,
}

impl Text {
    /// Readable zero bytes behind the text.
    pub const PADDING: usize = 64;

    /// Takes bytes and pads them.
    pub fn new(mut bytes: Vec<u8>) -> Text {
        let len = bytes.len();
        bytes.resize(len + Text::PADDING, 0);
        Text { bytes, len }
    }

    /// The text.
    pub fn text(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The text and its padding.
    pub fn padded(&self) -> &[u8] {
        &self.bytes
    }

    /// The memory, to be filled again.
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.len);
        self.bytes
    }
}

/// One block of a source.
#[derive(Debug)]
pub enum Block {
    /// Lines of a text format. `origin` names the file or peer; `at` is the byte at which the
    /// text starts in it (uncompressed); `head` is its header line, if it was opened as one that
    /// has such a line: every block has it, because each may go to another shard.
    Text { text: Text, origin: Arc<str>, at: u64, head: Option<Arc<[u8]>> },
    /// One line that passed the limit, not kept whole: its start, and its length in bytes.
    TooLong { start: Vec<u8>, len: u64, origin: Arc<str>, at: u64 },
    /// Frames of a native file, mapped: bytes `start..end` of `file`, to be checked and read in
    /// place.
    Frames { file: Mapped, start: usize, end: usize, origin: Arc<str> },
    /// Rows that are made where they are needed: numbers `start..end` of a generator's sequence.
    Numbers { start: u64, end: u64 },
}

/// A mapped file, shared by the batches that are read from it in place.
#[derive(Clone)]
pub struct Mapped(pub Arc<dyn Backing>);

impl std::fmt::Debug for Mapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mapped({} bytes)", self.0.bytes().len())
    }
}

/// What a source says when asked for its next block.
#[derive(Debug)]
pub enum Next {
    Block(Block),
    /// Nothing came within the time that was given; ask again.
    Idle,
    /// A bounded source is done.
    End,
}

/// The reading side of a connector. It runs on a thread of its own and may block there.
pub trait Source: Send {
    /// The next block in the source's order. Blocks until there is one, for at most
    /// `wait_ms`, after which it says [`Next::Idle`] (a live source gives what has come by then).
    ///
    /// # Errors
    /// [`PortError`] stops the run.
    fn next(&mut self, wait_ms: u64) -> Result<Next, PortError>;

    /// Where the source stands: what [`Source::resume`] takes, of a source opened in the same way,
    /// to give just the blocks behind those given so far. `None` if what was read cannot be read
    /// again.
    fn position(&self) -> Option<u64> {
        None
    }

    /// Goes to a position, before the first block. As it stands here the position is a number of
    /// blocks, which are read and let go.
    ///
    /// # Errors
    /// [`PortError`] stops the run, also where the input has become shorter than that.
    fn resume(&mut self, position: u64) -> Result<(), PortError> {
        for done in 0..position {
            match self.next(0)? {
                Next::Block(Block::Text { text, .. }) => self.recycle(text),
                Next::Block(_) => {}
                Next::Idle | Next::End => {
                    return Err(PortError::Setup(format!(
                        "the input ends after {done} blocks, and the checkpoint was made behind \
                         block {position}: it has changed since; put it back as it was, or start \
                         afresh with `--restore none`"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Gives back the memory of a text block that has been decoded.
    fn recycle(&mut self, _text: Text) {}

    /// Whether the source ends by itself, so that its order is fixed and can be waited for.
    fn is_bounded(&self) -> bool;

    /// Whether blocks come when something happens outside, so that how long they take means
    /// something; a bounded source that is read as fast as possible is not live.
    fn is_live(&self) -> bool {
        !self.is_bounded()
    }
}

/// The writing side of a connector, one for each shard. It takes encoded rows; only what was
/// committed may be seen by readers.
pub trait Sink: Send {
    /// Takes encoded rows, whole ones, of the epoch under way.
    ///
    /// # Errors
    /// [`PortError`] stops the run.
    fn write(&mut self, bytes: &[u8]) -> Result<(), PortError>;

    /// Makes what was written since the last commit durable, but not yet seen.
    ///
    /// # Errors
    /// [`PortError`] stops the run.
    fn prepare(&mut self, epoch: u64) -> Result<(), PortError>;

    /// Makes what was prepared for `epoch` seen, once, however often it is called.
    ///
    /// # Errors
    /// [`PortError`] stops the run.
    fn commit(&mut self, epoch: u64) -> Result<(), PortError>;
}

/// Turns a source's blocks into batches, one block after the other, on the shard that was dealt
/// them. One for each source and shard.
pub trait Decode: Send {
    /// Starts a block; the one before was read to its end.
    fn start(&mut self, block: Block);

    /// The block's next rows, at most `rows_max` (a batch that is mapped may have more); `None` at
    /// its end. Wrong rows are added to `rejected` (schema: raw, reason, position). A batch may be
    /// empty.
    ///
    /// # Errors
    /// [`PortError`] stops the run: the block itself is damaged.
    fn next(
        &mut self,
        rows_max: usize,
        rejected: &mut BatchBuilder,
    ) -> Result<Option<RecordBatch>, PortError>;

    /// Adds a row of the batch that was given last to `rejected`, with the row as text, for a
    /// reason that shows only behind the decoder.
    fn reject(
        &mut self,
        batch: &RecordBatch,
        row: usize,
        reason: &str,
        rejected: &mut BatchBuilder,
    );

    /// Takes back a batch that nobody reads any more.
    fn recycle(&mut self, _batch: RecordBatch) {}

    /// The memory of the text block that was just read to its end, for the reader to fill again.
    fn take_text(&mut self) -> Option<Text> {
        None
    }
}

/// Turns rows into the bytes of a format.
pub trait Encode: Send {
    /// Appends the selected rows of a batch, whole ones.
    fn encode(&mut self, batch: &RecordBatch, select: &[u32], out: &mut Vec<u8>);
}
