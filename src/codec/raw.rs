//! Raw lines: a line is one text, as it stands.

use super::{CodecError, DecodeCount, Decoder, Encoder, is_full, reject};
use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::schema::{DataType, Schema};
use crate::ground::slot::{self, HEAPED_MAX};

/// Whether the one column is a STRING.
fn is_string(schema: &Schema) -> Result<bool, CodecError> {
    match &schema.columns[..] {
        [column] if column.data_type == DataType::String => Ok(true),
        [column] if column.data_type == DataType::Bytes => Ok(false),
        [column] => Err(CodecError::Raw(format!("one of type {}", column.data_type))),
        columns => Err(CodecError::Raw(format!("{} columns", columns.len()))),
    }
}

/// Reads every line, an empty one too, as one value: what stands before its newline and, if there
/// is one, the carriage return before that.
pub(super) struct RawDecoder {
    utf8: bool,
}

impl RawDecoder {
    pub(super) fn new(schema: &Schema) -> Result<RawDecoder, CodecError> {
        Ok(RawDecoder { utf8: is_string(schema)? })
    }
}

impl Decoder for RawDecoder {
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
    ) -> DecodeCount {
        let mut count = DecodeCount::default();
        while *at < len && !is_full(out, rows_max) && !is_full(rejected, rows_max) {
            let start = *at;
            let line_len = memchr::memchr(b'\n', &padded[start..len]).unwrap_or(len - start);
            *at = (start + line_len + 1).min(len);
            let line = &padded[start..start + line_len];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let reason = if self.utf8 && std::str::from_utf8(line).is_err() {
                "not UTF-8"
            } else if line.len() > HEAPED_MAX {
                "the line is too long for a value"
            } else {
                let slot = slot::put(line, &mut out.heap);
                out.push(&[slot]);
                count.taken += 1;
                continue;
            };
            reject(rejected, line, reason, origin, base + start as u64);
            count.rejected += 1;
        }
        count
    }
}

/// Writes a row's one value and a newline; nothing but the newline for NULL.
pub(super) struct RawEncoder;

impl RawEncoder {
    pub(super) fn new(schema: &Schema) -> Result<RawEncoder, CodecError> {
        is_string(schema).map(|_| RawEncoder)
    }
}

impl Encoder for RawEncoder {
    fn encode(&mut self, batch: &RecordBatch, select: &[u32], out: &mut Vec<u8>) {
        for &row in select {
            out.extend_from_slice(batch.get_bytes(row as usize, 0).unwrap_or_default());
            out.push(b'\n');
        }
    }
}
