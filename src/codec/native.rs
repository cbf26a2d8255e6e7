//! The native format: batches as they lie in memory, framed. See [`crate::ground::frame`].
//!
//! A file's head names its columns and their types as JSON:
//! `[{"name":"id","type":"BIGINT","nullable":false}, ...]`.
//!
//! 1. A batch from a file is checked once (frame, archive, heap slots, NOT NULL) and then read in
//!    place.
//! 2. Whoever keeps an encoder's output in pieces cuts it only between calls: each piece is a
//!    multiple of 16 bytes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Encoder;
use crate::ground::batch::{Backing, BatchBuilder, BatchError, RecordBatch};
use crate::ground::frame::{self, Frame, FrameError};
use crate::ground::schema::Schema;

/// Why a native file cannot be read as rows of a schema.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NativeError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("damaged native file: {error}, in the frame at byte {at}")]
    Batch { at: usize, error: BatchError },
    #[error("damaged native file: the schema in its head cannot be read: {0}")]
    Head(String),
    #[error("the file's columns are not the schema's: {0}")]
    Schema(String),
    #[error("column `{column}` is NOT NULL and is NULL in row {row} of the frame at byte {at}")]
    Null { column: String, row: usize, at: usize },
}

#[derive(Serialize, Deserialize)]
struct ColumnText {
    name: String,
    r#type: String,
    nullable: bool,
}

/// A schema as the head of a file describes it.
pub fn schema_text(schema: &Schema) -> String {
    let column = |column: &crate::ground::schema::Column| ColumnText {
        name: column.name.clone(),
        r#type: column.data_type.to_string(),
        nullable: column.nullable,
    };
    let columns: Vec<ColumnText> = schema.columns.iter().map(column).collect();
    serde_json::to_string(&columns).expect("names and types are JSON")
}

/// Checks that a file whose head says `text` has the columns of `schema`: the same names and types
/// in the same order. Whether they may be NULL is checked batch by batch.
///
/// # Errors
/// [`NativeError::Head`] or [`NativeError::Schema`], which names the first column that differs.
pub fn check_schema(text: &str, schema: &Schema) -> Result<(), NativeError> {
    let columns: Vec<ColumnText> =
        serde_json::from_str(text).map_err(|error| NativeError::Head(error.to_string()))?;
    for (i, wanted) in schema.columns.iter().enumerate() {
        let shown = format!("`{}` of type {}", wanted.name, wanted.data_type);
        let Some(found) = columns.get(i) else {
            return Err(NativeError::Schema(format!("the file lacks column {shown}")));
        };
        if found.name != wanted.name || found.r#type != wanted.data_type.to_string() {
            let what = format!("column {} is `{}` of type {}", i + 1, found.name, found.r#type);
            return Err(NativeError::Schema(format!("{what}, where the schema has {shown}")));
        }
    }
    match columns.get(schema.width()) {
        Some(more) => Err(NativeError::Schema(format!("the schema lacks column `{}`", more.name))),
        None => Ok(()),
    }
}

/// Checks the head of a file of rows of `schema` and gives the byte of its first frame.
///
/// # Errors
/// Any [`NativeError`] but those of batches.
pub fn open(file: &[u8], schema: &Schema) -> Result<usize, NativeError> {
    let (text, first) = frame::read_head(file)?;
    check_schema(text, schema)?;
    Ok(first)
}

/// The batch in a frame of a file whose head has been checked, read in place. O(bytes).
///
/// # Errors
/// [`NativeError::Frame`] for a wrong checksum, [`NativeError::Batch`], or [`NativeError::Null`].
pub fn batch(
    file: &Arc<dyn Backing>,
    frame: &Frame,
    schema: &Schema,
) -> Result<RecordBatch, NativeError> {
    frame::check_frame(file.bytes(), frame)?;
    let wrong = |error| NativeError::Batch { at: frame.at, error };
    let batch =
        RecordBatch::from_bytes(Arc::clone(file), frame.payload, frame.len).map_err(wrong)?;
    batch.check_heap(schema).map_err(wrong)?;
    if batch.rows() != frame.rows {
        let what = format!("{} rows where the frame says {}", batch.rows(), frame.rows);
        return Err(wrong(BatchError::Malformed(what)));
    }
    if batch.has_nulls() {
        check_nulls(&batch, frame, schema)?;
    }
    Ok(batch)
}

fn check_nulls(batch: &RecordBatch, frame: &Frame, schema: &Schema) -> Result<(), NativeError> {
    for (i, column) in schema.columns.iter().enumerate().filter(|(_, column)| !column.nullable) {
        if let Some(row) = (0..batch.rows()).find(|&row| batch.is_null(row, i)) {
            return Err(NativeError::Null { column: column.name.clone(), row, at: frame.at });
        }
    }
    Ok(())
}

/// Writes batches as frames.
pub struct NativeEncoder {
    schema: String,
    heaped: Vec<usize>,
    builder: BatchBuilder,
}

impl NativeEncoder {
    /// An encoder of rows of `schema`.
    pub fn new(schema: &Schema) -> NativeEncoder {
        NativeEncoder {
            schema: schema_text(schema),
            heaped: schema.heaped(),
            builder: BatchBuilder::new(schema.width(), 0),
        }
    }
}

impl Encoder for NativeEncoder {
    fn head(&mut self, out: &mut Vec<u8>) {
        frame::write_head(&self.schema, out);
    }

    fn encode(&mut self, batch: &RecordBatch, select: &[u32], out: &mut Vec<u8>) {
        if select.is_empty() {
            return;
        }
        let all = select.len() == batch.rows()
            && select.iter().enumerate().all(|(i, &row)| i == row as usize);
        if all {
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
    use crate::ground::slot;
    use proptest::prelude::*;

    struct Held(rkyv::util::AlignedVec<16>);
    impl Backing for Held {
        fn bytes(&self) -> &[u8] {
            &self.0
        }
    }

    fn schema() -> Schema {
        Schema::new(vec![
            Column::new("n", DataType::BigInt),
            Column::new("s", DataType::String),
            Column::new("d", DataType::Decimal { precision: 18, scale: 2 }).not_null(),
        ])
    }

    fn read(file: &[u8], schema: &Schema) -> Result<Vec<RecordBatch>, NativeError> {
        let mut held = rkyv::util::AlignedVec::new();
        held.extend_from_slice(file);
        let file: Arc<dyn Backing> = Arc::new(Held(held));
        let mut at = open(file.bytes(), schema)?;
        let mut batches = Vec::new();
        while let Some(frame) = frame::find_frame(file.bytes(), at)? {
            batches.push(batch(&file, &frame, schema)?);
            at = frame.end();
        }
        Ok(batches)
    }

    fn batch_of(rows: &[(Option<u64>, Option<String>)]) -> RecordBatch {
        let mut builder = BatchBuilder::new(3, 0);
        for (n, s) in rows {
            let text = s.as_ref().map_or(0, |s| slot::put(s.as_bytes(), &mut builder.heap));
            let nulls = u64::from(n.is_none()) | u64::from(s.is_none()) << 1;
            builder.push_nulls(&[n.unwrap_or(0), text, 7], &[nulls]);
        }
        builder.finish()
    }

    proptest! {
        #[test]
        fn rows_come_back(
            rows in proptest::collection::vec(
                (proptest::option::of(any::<u64>()), proptest::option::of("[a-z]{0,20}")), 1..40),
            picks in proptest::collection::vec(any::<proptest::sample::Index>(), 0..60)
        ) {
            let batch = batch_of(&rows);
            let (mut encoder, mut file) = (NativeEncoder::new(&schema()), Vec::new());
            encoder.head(&mut file);
            let all: Vec<u32> = (0..rows.len() as u32).collect();
            encoder.encode(&batch, &all, &mut file);
            let picks: Vec<u32> = picks.iter().map(|i| i.index(rows.len()) as u32).collect();
            encoder.encode(&batch, &picks, &mut file);
            prop_assert_eq!(file.len() % 16, 0);
            let mut got = Vec::new();
            for batch in read(&file, &schema()).unwrap() {
                for row in 0..batch.rows() {
                    let text = batch.get_bytes(row, 1).map(|s| String::from_utf8_lossy(s).into());
                    got.push((batch.get(row, 0), text));
                }
            }
            let expected: Vec<(Option<u64>, Option<String>)> =
                all.iter().chain(&picks).map(|&i| rows[i as usize].clone()).collect();
            prop_assert_eq!(got, expected);
        }
    }

    #[test]
    fn another_schema_is_refused() {
        let text = schema_text(&schema());
        let check = |change: &dyn Fn(&mut Vec<Column>), expected: &str| {
            let mut columns = schema().columns;
            change(&mut columns);
            let error = check_schema(&text, &Schema::new(columns)).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("the file's columns are not the schema's: {expected}")
            );
        };
        assert_eq!(check_schema(&text, &schema()), Ok(()));
        check(&|c| c.truncate(2), "the schema lacks column `d`");
        check(
            &|c| c.push(Column::new("x", DataType::Bytes)),
            "the file lacks column `x` of type BYTES",
        );
        check(
            &|c| c[0].data_type = DataType::Double,
            "column 1 is `n` of type BIGINT, where the schema has `n` of type DOUBLE",
        );
        check(
            &|c| c.swap(0, 1),
            "column 1 is `n` of type BIGINT, where the schema has `s` of type STRING",
        );
        assert!(matches!(check_schema("[1]", &schema()), Err(NativeError::Head(_))));
    }

    #[test]
    fn nulls_and_damage_are_refused() {
        let batch = batch_of(&[(Some(1), None), (None, Some("a longer text".into()))]);
        let (mut encoder, mut file) = (NativeEncoder::new(&schema()), Vec::new());
        encoder.head(&mut file);
        let first = file.len();
        encoder.encode(&batch, &[0, 1], &mut file);
        assert_eq!(read(&file, &schema()).unwrap().len(), 1);
        let mut strict = schema();
        strict.columns[0].nullable = false;
        let error = read(&file, &strict).unwrap_err();
        assert_eq!(error, NativeError::Null { column: "n".into(), row: 1, at: first });
        file[first + 40] ^= 1;
        let error = read(&file, &schema()).unwrap_err();
        assert_eq!(error, NativeError::Frame(FrameError::Checksum { at: first }));
    }
}
