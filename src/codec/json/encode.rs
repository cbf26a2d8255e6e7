//! Rows as JSON lines: columns in order, NULL as `null`.
//!
//! TIMESTAMP as milliseconds or RFC 3339, DECIMAL as a number with its full scale, DOUBLE as the
//! shortest text that reads back (`5.0`; what is no number in JSON is `null`), BYTES as base64.

use crate::codec::format;
use crate::codec::{EncodeOptions, Encoder};
use crate::ground::batch::RecordBatch;
use crate::ground::pen::{Pen, SHORT};
use crate::ground::scan::{is_plain_short, is_plain_word, text_end_of};
use crate::ground::schema::{DataType, Schema};
use crate::ground::slot::{self, array::Elements};
use crate::ground::wide::{self, Kernel, Level};

/// Writes rows of one schema as JSON lines.
pub struct JsonEncoder {
    columns: Vec<Column>,
    rfc3339: bool,
}

struct Column {
    data_type: DataType,
    /// What stands before the value: a brace or comma, the name, a colon. With the closing quote
    /// of a text before it if bit 0 of the index is set, with the opening quote of a text behind
    /// it if bit 1 is.
    before: [Before; 4],
}

struct Before {
    start: [u8; SHORT],
    text: Box<[u8]>,
}

/// The closing quote of the column before is still to be written.
const CLOSE: usize = 1;
/// The column's own quote is to be opened.
const OPEN: usize = 2;

impl JsonEncoder {
    /// An encoder of rows of `schema`.
    pub fn new(schema: &Schema, options: &EncodeOptions) -> JsonEncoder {
        let column = |(i, about): (usize, &crate::ground::schema::Column)| Column {
            data_type: about.data_type.clone(),
            before: std::array::from_fn(|quotes| {
                let mut text = Vec::new();
                if quotes & CLOSE != 0 {
                    text.push(b'"');
                }
                text.extend_from_slice(if i == 0 { b"{\"" } else { b",\"" });
                escape(about.name.as_bytes(), &mut text);
                text.extend_from_slice(if quotes & OPEN != 0 { b"\":\"" } else { b"\":" });
                let mut start = [0; SHORT];
                let shown = text.len().min(SHORT);
                start[..shown].copy_from_slice(&text[..shown]);
                Before { start, text: text.into() }
            }),
        };
        JsonEncoder {
            columns: schema.columns.iter().enumerate().map(column).collect(),
            rfc3339: options.timestamps_rfc3339,
        }
    }
}

impl Before {
    #[inline(always)]
    fn write<'a>(&self, mut pen: Pen<'a>) -> Pen<'a> {
        if self.text.len() <= SHORT {
            pen.short(&self.start, self.text.len());
            return pen;
        }
        pen.writing(|out| out.extend_from_slice(&self.text))
    }
}

/// Room that a pen is given for a value and what stands before it, unless they are long.
const ROOM: usize = 4 * SHORT;

impl Encoder for JsonEncoder {
    fn encode(&mut self, batch: &RecordBatch, select: &[u32], out: &mut Vec<u8>) {
        assert_eq!(batch.width(), self.columns.len(), "a row of the schema");
        let (columns, rfc3339) = (&self.columns[..], self.rfc3339);
        wide::run(Encode { columns, rfc3339, batch, select, out });
    }
}

struct Encode<'a> {
    columns: &'a [Column],
    rfc3339: bool,
    batch: &'a RecordBatch,
    select: &'a [u32],
    out: &'a mut Vec<u8>,
}

impl Kernel for Encode<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Level>(self, _: L) {
        let Encode { columns, rfc3339, batch, select, out } = self;
        let heap = batch.heap();
        let has_nulls = batch.has_nulls();
        let mut pen = Pen::new(out);
        for &row in select {
            let row = row as usize;
            let mut close = 0;
            for (i, (column, &slot)) in columns.iter().zip(batch.row(row)).enumerate() {
                pen = pen.with_room(ROOM);
                if has_nulls && batch.is_null(row, i) {
                    pen = column.before[close].write(pen).with_room(ROOM);
                    pen.word(u64::from(u32::from_le_bytes(*b"null")), 4);
                    close = 0;
                } else if column.data_type == DataType::String {
                    pen = column.before[close | OPEN].write(pen).with_room(ROOM);
                    pen = text(slot, heap, pen);
                    close = CLOSE;
                } else {
                    pen = column.before[close].write(pen).with_room(ROOM);
                    pen = value(&column.data_type, slot, heap, rfc3339, pen);
                    close = 0;
                }
            }
            pen = pen.with_room(ROOM);
            match (close, columns.len()) {
                (_, 0) => pen.word(u64::from_le_bytes(*b"{}\n\0\0\0\0\0"), 3),
                (CLOSE, _) => pen.word(u64::from_le_bytes(*b"\"}\n\0\0\0\0\0"), 3),
                _ => pen.word(u64::from_le_bytes(*b"}\n\0\0\0\0\0\0"), 2),
            }
        }
        pen.finish();
    }
}

/// Writes one value that is not NULL; the pen has [`ROOM`].
#[inline(always)]
fn value<'a>(
    data_type: &DataType,
    slot: u64,
    heap: &[u8],
    rfc3339: bool,
    mut pen: Pen<'a>,
) -> Pen<'a> {
    match data_type {
        DataType::BigInt => format::integer(slot as i64, &mut pen),
        DataType::Timestamp if !rfc3339 || !format::has_text(slot as i64) => {
            format::integer(slot as i64, &mut pen);
        }
        DataType::Decimal { scale, .. } => return format::decimal(slot as i64, *scale, pen),
        DataType::Boolean => {
            let text = if slot != 0 { *b"true\0\0\0\0" } else { *b"false\0\0\0" };
            pen.word(u64::from_le_bytes(text), 5 - usize::from(slot != 0));
        }
        DataType::Double => {
            return pen.writing(|out| format::double(f64::from_bits(slot), "null", out));
        }
        DataType::String => {
            pen.word(u64::from(b'"'), 1);
            pen = text(slot, heap, pen).with_room(ROOM);
            pen.word(u64::from(b'"'), 1);
        }
        _ => return pen.writing(|out| other(data_type, slot, heap, rfc3339, out)),
    }
    pen
}

/// Writes a value of the types that are long anyway.
#[inline(never)]
fn other(data_type: &DataType, slot: u64, heap: &[u8], rfc3339: bool, out: &mut Vec<u8>) {
    if let DataType::Array(of) = data_type {
        return array(of, slot::bytes(&slot, heap), rfc3339, out);
    }
    out.push(b'"');
    match data_type {
        DataType::Timestamp => format::timestamp(slot as i64, out),
        _ => format::base64(slot::bytes(&slot, heap), out),
    }
    out.push(b'"');
}

/// Writes a text without its quotes; the pen has [`ROOM`].
#[inline(always)]
fn text<'a>(slot: u64, heap: &[u8], mut pen: Pen<'a>) -> Pen<'a> {
    let len = slot::len(slot);
    if !slot::is_heaped(slot) {
        if is_plain_word(slot >> 8, len) {
            pen.word(slot >> 8, len);
            return pen;
        }
    } else if len <= SHORT
        && let Some(start) = heap.get(slot::offset(slot)..).and_then(|rest| rest.first_chunk())
        && is_plain_short(start, len)
    {
        pen.short(start, len);
        return pen;
    }
    pen.writing(|out| escape(slot::bytes(&slot, heap), out))
}

/// Appends an array.
///
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
            Some(slot) => {
                let pen = Pen::new(out).with_room(ROOM);
                value(of, slot, elements.heap, rfc3339, pen).finish();
            }
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b']');
}

/// Appends a text as it stands inside quotes.
#[inline(never)]
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
