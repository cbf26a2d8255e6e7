//! Rows as lines of fields.
//!
//! NULL is nothing, and so is a DOUBLE that is not finite; the empty text is `""`. A text is quoted
//! where it holds a comma, a quote or a line's end.

use super::check_types;
use crate::codec::format::{self, NUMBER_ROOM};
use crate::codec::{CodecError, EncodeOptions, Encoder};
use crate::ground::batch::RecordBatch;
use crate::ground::pen::Pen;
use crate::ground::schema::{DataType, Schema};
use crate::ground::slot;

/// Writes rows of one schema as lines.
pub struct CsvEncoder {
    names: Vec<String>,
    types: Vec<DataType>,
    options: EncodeOptions,
}

impl CsvEncoder {
    /// An encoder of rows of `schema`.
    ///
    /// # Errors
    /// [`CodecError::Csv`] for a column of a type that has no text here.
    pub fn new(schema: &Schema, options: &EncodeOptions) -> Result<CsvEncoder, CodecError> {
        check_types(schema)?;
        Ok(CsvEncoder {
            names: schema.columns.iter().map(|column| column.name.clone()).collect(),
            types: schema.columns.iter().map(|column| column.data_type.clone()).collect(),
            options: *options,
        })
    }
}

impl Encoder for CsvEncoder {
    fn head(&mut self, out: &mut Vec<u8>) {
        if !self.options.csv_header {
            return;
        }
        for (i, name) in self.names.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            text(name.as_bytes(), out);
        }
        out.push(b'\n');
    }

    fn encode(&mut self, batch: &RecordBatch, select: &[u32], out: &mut Vec<u8>) {
        assert_eq!(batch.width(), self.types.len(), "a row of the schema");
        let heap = batch.heap();
        for &row in select {
            let row = row as usize;
            for (i, (data_type, slot)) in self.types.iter().zip(batch.row(row)).enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                if !batch.is_null(row, i) {
                    value(data_type, slot, heap, self.options.timestamps_rfc3339, out);
                }
            }
            out.push(b'\n');
        }
    }
}

fn value(data_type: &DataType, slot: &u64, heap: &[u8], rfc3339: bool, out: &mut Vec<u8>) {
    let number = *slot as i64;
    match data_type {
        DataType::Timestamp if rfc3339 && format::has_text(number) => {
            format::timestamp(number, out);
        }
        DataType::BigInt | DataType::Timestamp => {
            let mut pen = Pen::new(out).with_room(NUMBER_ROOM);
            format::integer(number, &mut pen);
            pen.finish();
        }
        DataType::Decimal { scale, .. } => {
            format::decimal(number, *scale, Pen::new(out).with_room(NUMBER_ROOM)).finish();
        }
        DataType::Double => format::double(f64::from_bits(*slot), "", out),
        DataType::Boolean => out.extend_from_slice(if *slot != 0 { b"true" } else { b"false" }),
        DataType::Bytes if slot::len(*slot) == 0 => out.extend_from_slice(b"\"\""),
        DataType::Bytes => format::base64(slot::bytes(slot, heap), out),
        _ => text(slot::bytes(slot, heap), out),
    }
}

/// Appends a text, in quotes where it must be.
fn text(text: &[u8], out: &mut Vec<u8>) {
    let special = |byte: &u8| matches!(byte, b',' | b'"' | b'\n' | b'\r');
    if !text.is_empty() && !text.iter().any(special) {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for part in text.split_inclusive(|&byte| byte == b'"') {
        out.extend_from_slice(part);
        if part.ends_with(b"\"") {
            out.push(b'"');
        }
    }
    out.push(b'"');
}
