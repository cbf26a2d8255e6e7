//! Rows as JSON lines: columns in order, NULL as `null`.
//!
//! TIMESTAMP as milliseconds or RFC 3339, DECIMAL as a number with its full scale, DOUBLE as the
//! shortest text that reads back (`5.0`; what is no number in JSON is `null`), BYTES as base64.

use crate::codec::value::{base64_encode, format_timestamp};
use crate::codec::{EncodeOptions, Encoder};
use crate::ground::batch::RecordBatch;
use crate::ground::decimal;
use crate::ground::scan::text_end_of;
use crate::ground::schema::{DataType, Schema};
use crate::ground::slot::{self, array::Elements};

/// Writes rows of one schema as JSON lines.
pub struct JsonEncoder {
    columns: Vec<Column>,
    rfc3339: bool,
}

struct Column {
    /// What stands before the value: a brace or comma, the name, a colon. Zero-padded.
    before: [u8; 32],
    before_len: usize,
    /// The whole of it, where it is longer than 32 bytes.
    before_long: Box<[u8]>,
    data_type: DataType,
}

impl JsonEncoder {
    /// An encoder of rows of `schema`.
    pub fn new(schema: &Schema, options: &EncodeOptions) -> JsonEncoder {
        let column = |(i, about): (usize, &crate::ground::schema::Column)| {
            let mut long = vec![if i == 0 { b'{' } else { b',' }, b'"'];
            escape(about.name.as_bytes(), &mut long);
            long.extend_from_slice(b"\":");
            let mut before = [0; 32];
            let shown = long.len().min(32);
            before[..shown].copy_from_slice(&long[..shown]);
            Column {
                before,
                before_len: long.len(),
                before_long: long.into(),
                data_type: about.data_type.clone(),
            }
        };
        JsonEncoder {
            columns: schema.columns.iter().enumerate().map(column).collect(),
            rfc3339: options.timestamps_rfc3339,
        }
    }
}

impl Encoder for JsonEncoder {
    fn encode(&mut self, batch: &RecordBatch, select: &[u32], out: &mut Vec<u8>) {
        assert_eq!(batch.width(), self.columns.len(), "a row of the schema");
        let heap = batch.heap();
        for &row in select {
            let row = row as usize;
            let slots = batch.row(row);
            for (i, (column, &slot)) in self.columns.iter().zip(slots).enumerate() {
                if column.before_len <= 32 {
                    push_short(out, &column.before, column.before_len);
                } else {
                    out.extend_from_slice(&column.before_long);
                }
                if batch.is_null(row, i) {
                    out.extend_from_slice(b"null");
                } else {
                    value(&column.data_type, slot, heap, self.rfc3339, out);
                }
            }
            out.extend_from_slice(if self.columns.is_empty() { b"{}\n" } else { b"}\n" });
        }
    }
}

/// Appends the first `len` bytes of 32: one wide store.
#[inline(always)]
fn push_short(out: &mut Vec<u8>, text: &[u8; 32], len: usize) {
    let end = out.len() + len;
    out.extend_from_slice(text);
    out.truncate(end);
}

/// Appends one value that is not NULL.
#[inline(always)]
fn value(data_type: &DataType, slot: u64, heap: &[u8], rfc3339: bool, out: &mut Vec<u8>) {
    match data_type {
        DataType::BigInt => integer(slot as i64, out),
        DataType::Timestamp if rfc3339 => timestamp(slot as i64, out),
        DataType::Timestamp => integer(slot as i64, out),
        DataType::Decimal { scale, .. } => decimal::format(slot as i64, *scale, out),
        DataType::String => {
            out.push(b'"');
            escape(slot::bytes(&slot, heap), out);
            out.push(b'"');
        }
        DataType::Boolean => out.extend_from_slice(if slot != 0 { b"true" } else { b"false" }),
        DataType::Double => double(f64::from_bits(slot), out),
        DataType::Bytes => {
            out.push(b'"');
            base64_encode(slot::bytes(&slot, heap), out);
            out.push(b'"');
        }
        DataType::Array(of) => array(of, slot::bytes(&slot, heap), rfc3339, out),
    }
}

#[inline(always)]
fn integer(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn timestamp(ms: i64, out: &mut Vec<u8>) {
    out.push(b'"');
    format_timestamp(ms, out);
    out.push(b'"');
}

fn double(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

/// # Panics
/// If the bytes are no array: a batch from outside has been checked.
fn array(of: &DataType, bytes: &[u8], rfc3339: bool, out: &mut Vec<u8>) {
    let elements = Elements::read(bytes).expect("an array slot holds an array (slot's form)");
    out.push(b'[');
    for i in 0..elements.len() {
        if i > 0 {
            out.push(b',');
        }
        match elements.get(i) {
            Some(slot) => value(of, slot, elements.heap, rfc3339, out),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b']');
}

/// Appends a text as it stands inside quotes.
#[inline(always)]
fn escape(text: &[u8], out: &mut Vec<u8>) {
    let plain = text_end_of(text);
    out.extend_from_slice(&text[..plain]);
    if plain < text.len() {
        escape_rest(&text[plain..], out);
    }
}

#[inline(never)]
fn escape_rest(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => {
                let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[hex(byte >> 4), hex(byte & 15)]);
            }
            _ => out.push(byte),
        }
        let plain = text_end_of(after);
        out.extend_from_slice(&after[..plain]);
        rest = &after[plain..];
    }
}
