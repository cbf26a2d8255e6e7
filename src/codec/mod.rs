//! Floor 1: bytes to batches and back. JSON lines, CSV, raw lines, and the native format.
//!
//! Decoders are driven by a schema: there is no tree of values between the text and the slots of a
//! batch. A line that is not a row of its schema goes, with its reason, to the batch of rejected
//! lines; nothing is dropped in silence and nothing stops the stream.
//!
//! 1. A decoder takes whole lines, in order, and rows come out in that order.
//! 2. Every line is taken, rejected or blank; [`DecodeCount`] balances with the rows.
//! 3. Encoders write a row per selected row, in that order, and keep nothing between batches.
//!
//! What is absent: where bytes come from and go to, expressions, event time, threads.

pub mod csv;
mod format;
pub mod json;
pub mod native;
mod raw;
mod value;

use std::borrow::Cow;

use thiserror::Error;

use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::limits::{BATCH_HEAP_BYTES, REJECTED_RAW_BYTES};
use crate::ground::schema::{Column, DataType, Schema};
use crate::ground::slot;

/// How rows are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON object a line.
    Json,
    /// Comma-separated values, RFC 4180.
    Csv,
    /// Frames of archived batches; see [`crate::ground::frame`].
    Native,
    /// A line is one text, as it stands.
    Raw,
}

/// Why a format and a schema do not go together.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CodecError {
    #[error("a native file is read as frames, not as lines")]
    NotLines,
    #[error("format `raw` is for one column of type STRING or BYTES; the schema has {0}")]
    Raw(String),
    #[error("format `csv` cannot hold column `{column}` of type {data_type}")]
    Csv { column: String, data_type: DataType },
    #[error("the header names column `{0}` twice")]
    HeaderTwice(String),
    #[error("the header line is wrong: {0}")]
    Header(String),
    #[error("the header has no `{column}`, which {why}; its names are: {names}")]
    HeaderLacks { column: String, why: &'static str, names: String },
    #[error(
        "the header names none of the schema's columns ({0}); if the file has no header line, \
         leave `header` out"
    )]
    HeaderStrange(String),
}

/// What a decoder may be told beside the schema.
#[derive(Clone, Copy, Debug, Default)]
pub struct DecodeOptions {
    /// The column of the event time: NULL is refused there, with a reason of its own.
    pub event_time: Option<usize>,
}

/// What an encoder may be told beside the schema.
#[derive(Clone, Copy, Debug, Default)]
pub struct EncodeOptions {
    /// TIMESTAMP as an RFC 3339 text instead of milliseconds.
    pub timestamps_rfc3339: bool,
    /// Begin a CSV file with a line of the columns' names.
    pub csv_header: bool,
}

/// What became of the lines of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeCount {
    /// Lines that became rows.
    pub taken: u64,
    /// Lines that were rejected.
    pub rejected: u64,
}

/// Reads lines into batches.
pub trait Decoder: Send {
    /// Takes the header line that stands above the lines to come. Formats without one ignore it.
    ///
    /// # Errors
    /// [`CodecError`] if there are no rows of the schema below such a header.
    fn head(&mut self, _line: &[u8]) -> Result<(), CodecError> {
        Ok(())
    }

    /// Decodes whole lines from `padded[*at..len]` and moves `*at` behind them.
    ///
    /// Ends when `out` has `rows_max` rows or its heap has reached [`BATCH_HEAP_BYTES`], when
    /// `rejected` has come to either of these, or with the text: call it again, with what is full
    /// emptied, until `*at == len`. Wrong lines go to `rejected` ([`rejected_schema`]), blank ones
    /// nowhere. `origin` names the file or peer and `base` is the byte at which `padded` starts in
    /// it, for the positions of rejected lines.
    ///
    /// # Panics
    /// If fewer than 64 bytes follow `len` in `padded`, or `out` has another width than the schema.
    #[allow(clippy::too_many_arguments)]
    fn decode(
        &mut self,
        padded: &[u8],
        len: usize,
        at: &mut usize,
        origin: &str,
        base: u64,
        rows_max: usize,
        out: &mut BatchBuilder,
        rejected: &mut BatchBuilder,
    ) -> DecodeCount;
}

/// Writes rows down.
pub trait Encoder: Send {
    /// What a file of the format starts with.
    fn head(&mut self, _out: &mut Vec<u8>) {}

    /// Appends the rows `select` of a batch, in that order.
    fn encode(&mut self, batch: &RecordBatch, select: &[u32], out: &mut Vec<u8>);
}

/// A decoder of lines of `format` into rows of `schema`.
///
/// # Errors
/// [`CodecError`] if the format cannot hold such rows.
pub fn decoder(
    format: Format,
    schema: &Schema,
    options: &DecodeOptions,
) -> Result<Box<dyn Decoder>, CodecError> {
    Ok(match format {
        Format::Json => Box::new(json::JsonDecoder::new(schema, options)),
        Format::Csv => Box::new(csv::CsvDecoder::new(schema, options)?),
        Format::Raw => Box::new(raw::RawDecoder::new(schema)?),
        Format::Native => return Err(CodecError::NotLines),
    })
}

/// An encoder of rows of `schema` as `format`.
///
/// # Errors
/// [`CodecError`] if the format cannot hold such rows.
pub fn encoder(
    format: Format,
    schema: &Schema,
    options: &EncodeOptions,
) -> Result<Box<dyn Encoder>, CodecError> {
    Ok(match format {
        Format::Json => Box::new(json::JsonEncoder::new(schema, options)),
        Format::Csv => Box::new(csv::CsvEncoder::new(schema, options)?),
        Format::Raw => Box::new(raw::RawEncoder::new(schema)?),
        Format::Native => Box::new(native::NativeEncoder::new(schema)),
    })
}

/// The schema of rejected lines: `raw`, `reason` and `position`, all STRING NOT NULL.
pub fn rejected_schema() -> Schema {
    let column = |name| Column::new(name, DataType::String).not_null();
    Schema::new(["raw", "reason", "position"].map(column).to_vec())
}

/// Adds a rejected line to a builder of [`rejected_schema`]: `raw` as far as it is UTF-8 and at
/// most [`REJECTED_RAW_BYTES`] of it, why it was rejected, and the byte of `origin` where it
/// starts.
pub fn reject(rejected: &mut BatchBuilder, raw: &[u8], reason: &str, origin: &str, byte: u64) {
    reject_at(rejected, raw, reason, &format!("{origin}:byte {byte}"));
}

/// As [`reject`], for what stands at a place that is told otherwise.
pub fn reject_at(rejected: &mut BatchBuilder, raw: &[u8], reason: &str, position: &str) {
    let raw = &raw[..raw.len().min(REJECTED_RAW_BYTES)];
    let mut raw: Cow<'_, str> = String::from_utf8_lossy(raw);
    if raw.len() > REJECTED_RAW_BYTES {
        let mut end = REJECTED_RAW_BYTES;
        while !raw.is_char_boundary(end) {
            end -= 1;
        }
        raw = Cow::Owned(raw[..end].to_owned());
    }
    let heap = &mut rejected.heap;
    let raw = slot::put(raw.as_bytes(), heap);
    let reason = slot::put(&reason.as_bytes()[..reason.len().min(REJECTED_RAW_BYTES)], heap);
    let position = slot::put(position.as_bytes(), heap);
    rejected.push(&[raw, reason, position]);
}

/// Whether a batch has come to its end.
fn is_full(builder: &BatchBuilder, rows_max: usize) -> bool {
    builder.rows() >= rows_max || builder.heap.len() >= BATCH_HEAP_BYTES
}
