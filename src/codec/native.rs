//! The native format: the schema as text in a file's head, batches as frames behind it.
//!
//! 1. A file is read only with the schema that its head names: the same columns, types and order.
//!    Whether a column may be NULL is the reader's business and not part of it.

use serde_json::{Value, json};

use super::Encoder;
use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::frame;
use crate::ground::schema::Schema;

/// What a native file's head says of its rows: `[{"name": "n", "type": "BIGINT"}, ...]`.
pub fn schema_text(schema: &Schema) -> String {
    let columns = schema.columns.iter();
    let column = |column: &crate::ground::schema::Column| json!({ "name": column.name, "type": column.data_type.to_string() });
    Value::Array(columns.map(column).collect()).to_string()
}

/// Whether a file with this head holds rows of `schema`.
///
/// # Errors
/// What differs, in words.
pub fn check_schema(text: &str, schema: &Schema) -> Result<(), String> {
    let found: Value = serde_json::from_str(text)
        .map_err(|error| format!("the head of the file is no schema: {error}"))?;
    let text_of = |column: &Value, what: &str| column[what].as_str().unwrap_or("?").to_string();
    let shown = |column: &Value| format!("{} {}", text_of(column, "name"), text_of(column, "type"));
    let found: Vec<String> = found.as_array().into_iter().flatten().map(shown).collect();
    let columns = schema.columns.iter();
    let expected: Vec<String> =
        columns.map(|column| format!("{} {}", column.name, column.data_type)).collect();
    if found == expected {
        return Ok(());
    }
    Err(format!(
        "the file's columns are ({}), the schema's are ({})",
        found.join(", "),
        expected.join(", ")
    ))
}

/// Writes frames.
pub struct NativeEncoder {
    schema: Schema,
    heaped: Vec<usize>,
    builder: BatchBuilder,
}

impl NativeEncoder {
    /// An encoder of rows of `schema`.
    pub fn new(schema: &Schema) -> NativeEncoder {
        let columns = schema.columns.iter().enumerate();
        let heaped = columns.filter(|(_, column)| column.data_type.is_heaped()).map(|(i, _)| i);
        NativeEncoder {
            heaped: heaped.collect(),
            builder: BatchBuilder::new(schema.width(), 0),
            schema: schema.clone(),
        }
    }
}

impl Encoder for NativeEncoder {
    fn head(&mut self, out: &mut Vec<u8>) {
        frame::write_head(&schema_text(&self.schema), out);
    }

    /// One frame; `out` holds whole frames, or a head and whole frames.
    fn encode(&mut self, batch: &RecordBatch, select: &[u32], out: &mut Vec<u8>) {
        if select.is_empty() {
            return;
        }
        let is_whole = select.len() == batch.rows()
            && select.iter().enumerate().all(|(i, &row)| row as usize == i);
        if is_whole {
            frame::write_frame(batch.rows(), batch.as_bytes(), out);
            return;
        }
        for &row in select {
            self.builder.push_row_of(batch, row as usize, &self.heaped);
        }
        let chosen = self.builder.finish();
        frame::write_frame(chosen.rows(), chosen.as_bytes(), out);
        self.builder.recycle(chosen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::schema::{Column, DataType};

    fn schema(names: &[&str]) -> Schema {
        Schema::new(names.iter().map(|&name| Column::new(name, DataType::BigInt)).collect())
    }

    #[test]
    fn a_file_is_read_with_its_own_schema_only() {
        let text = schema_text(&schema(&["a", "b"]));
        assert_eq!(check_schema(&text, &schema(&["a", "b"])), Ok(()));
        for other in [&["b", "a"][..], &["a"], &["a", "b", "c"]] {
            let error = check_schema(&text, &schema(other)).expect_err("another schema");
            assert!(error.contains("a BIGINT, b BIGINT"), "{error}");
        }
        assert!(check_schema("{", &schema(&["a"])).is_err());
    }

    #[test]
    fn chosen_rows_are_framed() {
        let schema = schema(&["a"]);
        let (mut builder, mut out) = (BatchBuilder::new(1, 3), Vec::new());
        for i in 0..3 {
            builder.push(&[i]);
        }
        let batch = builder.finish();
        let mut encoder = NativeEncoder::new(&schema);
        encoder.head(&mut out);
        encoder.encode(&batch, &[0, 1, 2], &mut out);
        encoder.encode(&batch, &[2], &mut out);
        let (text, first) = frame::read_head(&out).expect("a head");
        assert_eq!(check_schema(text, &schema), Ok(()));
        let one = frame::find_frame(&out, first).expect("whole").expect("a frame");
        let two = frame::find_frame(&out, one.end()).expect("whole").expect("a frame");
        assert_eq!((one.rows, two.rows), (3, 1));
        assert_eq!(two.end(), out.len());
    }
}
