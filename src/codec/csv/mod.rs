//! Comma-separated values as RFC 4180 has them, one record a line.
//!
//! A field that is empty and not in quotes is NULL; `""` is the empty text. Inside quotes a quote
//! is written twice. TIMESTAMP is milliseconds or RFC 3339, BYTES base64, BOOLEAN `true` or
//! `false`; blanks around a value that is no text are let be. A line has as many fields as there
//! are columns, or it is rejected; a blank line is skipped. Lines are decoded in parallel blocks
//! that end at newlines, so a quoted newline cannot be read and says so. Fields stand in the order
//! of the columns, or in that of the file's header line, where it has one (see [`header`]).
//!
//! Why not a crate: `csv-core` does not tell an empty field from an empty text in quotes, and reads
//! quoted newlines as part of a record, which blocks cannot hold.

mod encode;
pub mod header;

#[cfg(test)]
mod tests;

pub use encode::CsvEncoder;

use std::borrow::Cow;

use super::value::{self, Fault};
use super::{CodecError, DecodeCount, DecodeOptions, Decoder, is_full, reject};
use crate::ground::batch::BatchBuilder;
use crate::ground::bits;
use crate::ground::schema::{DataType, Schema};
use crate::ground::slot::{self, HEAPED_MAX};
use crate::ground::wide::{Padded, Plain};

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Reads lines into rows of one schema.
pub struct CsvDecoder {
    schema: Schema,
    event_time: Option<usize>,
    /// The column of each field; `None`: one that no column wants.
    fields: Vec<Option<usize>>,
    row: Vec<u64>,
    nulls: Vec<u64>,
    scratch: Vec<u8>,
    bytes: Vec<u8>,
}

/// A field of a line: its bytes lie between `start` and `stop`, or without their doubled quotes in
/// the scratch memory; `end` is the comma behind it or the line's end.
struct Field {
    start: usize,
    stop: usize,
    end: usize,
    quoted: bool,
    doubled: bool,
}

impl Field {
    /// The field at `at` of a line.
    fn read(line: &[u8], at: usize, scratch: &mut Vec<u8>) -> Result<Field, &'static str> {
        if line.get(at) != Some(&b'"') {
            let end = memchr::memchr(b',', &line[at..]).map_or(line.len(), |len| at + len);
            return Ok(Field { start: at, stop: end, end, quoted: false, doubled: false });
        }
        scratch.clear();
        let (start, mut from, mut doubled) = (at + 1, at + 1, false);
        loop {
            let Some(len) = memchr::memchr(b'"', &line[from..]) else {
                return Err(
                    "a quoted field does not end in its line; a newline in quotes cannot be \
                            read, because lines are decoded in parallel",
                );
            };
            let stop = from + len;
            match line.get(stop + 1) {
                Some(b'"') => {
                    doubled = true;
                    scratch.extend_from_slice(&line[from..=stop]);
                    from = stop + 2;
                }
                None | Some(b',') => {
                    scratch.extend_from_slice(&line[from..stop]);
                    return Ok(Field { start, stop, end: stop + 1, quoted: true, doubled });
                }
                Some(_) => return Err("something follows the quote that ends a field"),
            }
        }
    }

    fn text<'a>(&self, line: &'a [u8], scratch: &'a [u8]) -> &'a [u8] {
        if self.doubled { scratch } else { &line[self.start..self.stop] }
    }
}

impl CsvDecoder {
    /// A decoder of rows of `schema`.
    ///
    /// # Errors
    /// [`CodecError::Csv`] for a column of a type that has no text here.
    pub fn new(schema: &Schema, options: &DecodeOptions) -> Result<CsvDecoder, CodecError> {
        check_types(schema)?;
        Ok(CsvDecoder {
            row: vec![0; schema.width()],
            nulls: vec![0; schema.width().div_ceil(64)],
            schema: schema.clone(),
            event_time: options.event_time,
            fields: (0..schema.width()).map(Some).collect(),
            scratch: Vec::new(),
            bytes: Vec::new(),
        })
    }

    /// Reads a line, which starts at `start` of the text, into `row` and `nulls`.
    fn read(
        &mut self,
        padded: Padded<'_>,
        start: usize,
        line: &[u8],
        heap: &mut Vec<u8>,
    ) -> Result<(), Cow<'static, str>> {
        self.row.fill(0);
        self.nulls.fill(!0);
        let mut at = 0;
        for i in 0..self.fields.len() {
            if at > line.len() {
                let wanted = self.fields.len();
                return Err(format!("{i} fields where there should be {wanted}").into());
            }
            let field = Field::read(line, at, &mut self.scratch)?;
            at = field.end + 1;
            let Some(column) = self.fields[i] else { continue };
            if !field.quoted && field.start == field.stop {
                continue;
            }
            let slot = self.value(column, padded, start, line, &field, heap)?;
            self.row[column] = slot;
            self.nulls[column / 64] &= !(1 << (column % 64));
        }
        if at <= line.len() {
            let more = memchr::memchr_iter(b',', &line[at..]).count() + 1;
            let (found, wanted) = (self.fields.len() + more, self.fields.len());
            return Err(format!("{found} fields where there should be {wanted}").into());
        }
        for (i, column) in self.schema.columns.iter().enumerate() {
            let null = self.nulls[i / 64] >> (i % 64) & 1 == 1;
            if null && self.event_time == Some(i) {
                return Err(format!("field `{}`: the event time is missing", column.name).into());
            }
            if null && !column.nullable {
                return Err(format!("field `{}`: NULL in a NOT NULL column", column.name).into());
            }
        }
        if let Some(last) = self.nulls.last_mut() {
            *last &= bits::tail(self.row.len());
        }
        Ok(())
    }

    fn value(
        &mut self,
        column: usize,
        padded: Padded<'_>,
        start: usize,
        line: &[u8],
        field: &Field,
        heap: &mut Vec<u8>,
    ) -> Result<u64, Cow<'static, str>> {
        let data_type = &self.schema.columns[column].data_type;
        if !field.quoted {
            let window = padded.window(start + field.start);
            let leaf = match data_type {
                DataType::BigInt | DataType::Timestamp => value::integer::<true, _>(Plain, window),
                DataType::Decimal { precision, scale } => {
                    value::decimal::<true, _>(Plain, window, *precision, *scale)
                }
                DataType::Double => value::double::<true, _>(Plain, window),
                _ => value::Leaf { slot: 0, len: 0, ok: false },
            };
            if leaf.ok && leaf.len == field.stop - field.start {
                return Ok(leaf.slot);
            }
        }
        let text = field.text(line, &self.scratch);
        let slot = slot_of(data_type, text, &mut self.bytes, heap);
        slot.map_err(|why| {
            let why = why.describe(data_type);
            format!("field `{}`: {why}", self.schema.columns[column].name).into()
        })
    }
}

enum Why {
    Fault(Fault),
    Utf8,
    TooLong,
}

impl Why {
    fn describe(self, data_type: &DataType) -> String {
        match self {
            Why::Fault(fault) => fault.describe(data_type),
            Why::Utf8 => "not UTF-8".to_string(),
            Why::TooLong => "the value is too long".to_string(),
        }
    }
}

/// The slot of a single value that is written as in a field: none for NULL, which is an empty text;
/// `""` is the empty text itself.
///
/// # Errors
/// What is wrong with it for that type.
pub fn read_value(
    data_type: &DataType,
    text: &str,
    heap: &mut Vec<u8>,
) -> Result<Option<u64>, String> {
    let text = match text {
        "" => return Ok(None),
        "\"\"" if *data_type == DataType::String => "",
        text => text,
    };
    let slot = slot_of(data_type, text.as_bytes(), &mut Vec::new(), heap);
    slot.map(Some).map_err(|why| why.describe(data_type))
}

/// The slot of a field's text as a value of a type.
fn slot_of(
    data_type: &DataType,
    text: &[u8],
    bytes: &mut Vec<u8>,
    heap: &mut Vec<u8>,
) -> Result<u64, Why> {
    let bare = text.trim_ascii();
    match data_type {
        DataType::String if std::str::from_utf8(text).is_err() => Err(Why::Utf8),
        DataType::String | DataType::Bytes => {
            let mut value = text;
            if *data_type == DataType::Bytes {
                value::base64_decode(bare, bytes).map_err(Why::Fault)?;
                value = bytes;
            }
            if value.len() > HEAPED_MAX {
                return Err(Why::TooLong);
            }
            Ok(slot::put(value, heap))
        }
        DataType::Boolean if bare.eq_ignore_ascii_case(b"true") => Ok(1),
        DataType::Boolean if bare.eq_ignore_ascii_case(b"false") => Ok(0),
        DataType::Boolean => Err(Why::Fault(Fault::Boolean)),
        _ if value::number_len(bare) == Some(bare.len()) => {
            value::number(bare, data_type).map_err(Why::Fault)
        }
        DataType::Timestamp => value::timestamp(bare).map_err(Why::Fault),
        _ => Err(Why::Fault(Fault::Syntax)),
    }
}

/// Refuses columns that a field cannot hold.
fn check_types(schema: &Schema) -> Result<(), CodecError> {
    let array = schema.columns.iter().find(|c| matches!(c.data_type, DataType::Array(_)));
    match array {
        Some(column) => Err(CodecError::Csv {
            column: column.name.clone(),
            data_type: column.data_type.clone(),
        }),
        None => Ok(()),
    }
}

impl Decoder for CsvDecoder {
    fn head(&mut self, line: &[u8]) -> Result<(), CodecError> {
        self.fields = header::fields(line, &self.schema, self.event_time)?;
        Ok(())
    }

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
        assert_eq!(out.width(), self.schema.width(), "a row of the schema");
        let text = Padded::new(padded);
        let mut count = DecodeCount::default();
        while *at < len && !is_full(out, rows_max) && !is_full(rejected, rows_max) {
            let mut start = *at;
            let end = memchr::memchr(b'\n', &padded[start..len]).map_or(len, |n| start + n);
            *at = (end + 1).min(len);
            let is_first = base + start as u64 == 0;
            if is_first && padded[start..end].starts_with(BYTE_ORDER_MARK) {
                start += BYTE_ORDER_MARK.len();
            }
            let line = &padded[start..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.trim_ascii().is_empty() {
                continue;
            }
            match self.read(text, start, line, &mut out.heap) {
                Ok(()) => {
                    out.push_nulls(&self.row, &self.nulls);
                    count.taken += 1;
                }
                Err(reason) => {
                    reject(rejected, line, &reason, origin, base + start as u64);
                    count.rejected += 1;
                }
            }
        }
        count
    }
}
