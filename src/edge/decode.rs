//! From a connector's blocks to batches: lines through the codec of the source's format, mapped
//! frames checked once and read in place, numbers made into rows.
//!
//! 1. A block is read to its end before the next is started.
//! 2. Every line of a block becomes a row or a rejected one; see [`crate::codec`].
//! 3. A row that is rejected behind the decoder is told as JSON: a native row has no text of its
//!    own.

use std::sync::Arc;

use crate::codec::{self, Decoder, EncodeOptions, Encoder, Format};
use crate::edge::generator;
use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::frame::{self, Frame};
use crate::ground::limits::LINE_BYTES_MAX;
use crate::ground::schema::SchemaRef;
use crate::port::{Block, Decode, Mapped, PortError, Text};

/// What makes rows of blocks that are no lines.
pub enum Rows {
    /// Lines, by this decoder.
    Lines(Box<dyn Decoder>),
    /// Frames of native files.
    Frames,
    /// A generator's.
    Made(generator::Rows),
}

enum Open {
    Nothing,
    Text { text: Text, origin: Arc<str>, base: u64, at: usize, head: Option<Arc<[u8]>> },
    TooLong { start: Vec<u8>, len: u64, origin: Arc<str>, at: u64 },
    Frames { file: Mapped, at: usize, end: usize, origin: Arc<str> },
    Numbers { next: u64, end: u64 },
}

/// The decoding side of every connector, for one source on one shard.
pub struct BlockDecode {
    rows: Rows,
    schema: SchemaRef,
    builder: BatchBuilder,
    open: Open,
    /// The header line that the decoder goes by.
    head: Option<Arc<[u8]>>,
    used: Option<Text>,
    /// Where the batch that was given last stands, if it is a frame of a file.
    frame_at: usize,
    /// Made when the first row has to be told.
    telling: Option<Box<dyn Encoder>>,
}

impl BlockDecode {
    /// Decodes into rows of `schema`.
    pub fn new(rows: Rows, schema: SchemaRef) -> BlockDecode {
        let builder = BatchBuilder::new(schema.width(), 0);
        BlockDecode {
            rows,
            schema,
            builder,
            open: Open::Nothing,
            head: None,
            used: None,
            frame_at: 0,
            telling: None,
        }
    }

    fn lines(
        &mut self,
        rows_max: usize,
        rejected: &mut BatchBuilder,
    ) -> Result<Option<RecordBatch>, PortError> {
        let Open::Text { text, origin, base, at, head } = &mut self.open else { return Ok(None) };
        let Rows::Lines(decoder) = &mut self.rows else { return Ok(None) };
        let len = text.text().len();
        if let Some(line) = head.take()
            && !self.head.as_ref().is_some_and(|known| Arc::ptr_eq(known, &line))
        {
            let wrong = |error| PortError::Data(format!("`{origin}` does not fit: {error}"));
            decoder.head(&line).map_err(wrong)?;
            self.head = Some(line);
        }
        if *at < len {
            let out = &mut self.builder;
            decoder.decode(text.padded(), len, at, origin, *base, rows_max, out, rejected);
            return Ok(Some(self.builder.finish()));
        }
        if let Open::Text { text, .. } = std::mem::replace(&mut self.open, Open::Nothing) {
            self.used = Some(text);
        }
        Ok(None)
    }

    fn frame(&mut self) -> Result<Option<RecordBatch>, PortError> {
        let Open::Frames { file, at, end, origin } = &mut self.open else { return Ok(None) };
        let wrong = |reason: String| PortError::Data(format!("{origin}: {reason}"));
        if *at >= *end {
            return Ok(None);
        }
        let bytes = file.0.bytes();
        let found: Option<Frame> =
            frame::find_frame(bytes, *at).map_err(|error| wrong(error.to_string()))?;
        let Some(found) = found else { return Ok(None) };
        frame::check_frame(bytes, &found).map_err(|error| wrong(error.to_string()))?;
        let place = |error| wrong(format!("byte {}: {error}", found.at));
        let batch = RecordBatch::from_bytes(file.0.clone(), found.payload, found.len);
        let batch = batch.map_err(|error| place(error.to_string()))?;
        batch.check_heap(&self.schema).map_err(|error| place(error.to_string()))?;
        *at = found.end();
        self.frame_at = found.at;
        Ok(Some(batch))
    }
}

impl Decode for BlockDecode {
    fn start(&mut self, block: Block) {
        self.open = match block {
            Block::Text { text, origin, at, head } => {
                Open::Text { text, origin, base: at, at: 0, head }
            }
            Block::TooLong { start, len, origin, at } => Open::TooLong { start, len, origin, at },
            Block::Frames { file, start, end, origin } => {
                Open::Frames { file, at: start, end, origin }
            }
            Block::Numbers { start, end } => Open::Numbers { next: start, end },
        };
    }

    fn next(
        &mut self,
        rows_max: usize,
        rejected: &mut BatchBuilder,
    ) -> Result<Option<RecordBatch>, PortError> {
        match &mut self.open {
            Open::Nothing => Ok(None),
            Open::Text { .. } => self.lines(rows_max, rejected),
            Open::TooLong { start, len, origin, at } => {
                let reason =
                    format!("a line of {len} bytes; the longest may have {LINE_BYTES_MAX}");
                codec::reject(rejected, start, &reason, origin, *at);
                self.open = Open::Nothing;
                Ok(Some(self.builder.finish()))
            }
            Open::Frames { .. } => self.frame(),
            Open::Numbers { next, end } => {
                let Rows::Made(rows) = &self.rows else { return Ok(None) };
                let (from, to) = (*next, (*next + rows_max as u64).min(*end));
                if from == to {
                    return Ok(None);
                }
                rows.fill(from, to, &mut self.builder);
                *next = to;
                Ok(Some(self.builder.finish()))
            }
        }
    }

    fn reject(
        &mut self,
        batch: &RecordBatch,
        row: usize,
        reason: &str,
        rejected: &mut BatchBuilder,
    ) {
        let telling = self.telling.get_or_insert_with(|| {
            let options = EncodeOptions::default();
            codec::encoder(Format::Json, &self.schema, &options).expect("JSON holds every type")
        });
        let mut text = Vec::new();
        telling.encode(batch, &[row as u32], &mut text);
        let position = match &self.open {
            Open::Frames { origin, .. } => format!("{origin}:byte {}, row {row}", self.frame_at),
            _ => format!("row {row} of a batch"),
        };
        codec::reject_at(rejected, text.trim_ascii_end(), reason, &position);
    }

    fn recycle(&mut self, batch: RecordBatch) {
        self.builder.recycle(batch);
    }

    fn take_text(&mut self) -> Option<Text> {
        self.used.take()
    }
}
