//! Expressions from the outside: text in, values out, by both machines at once.

mod errors;
mod functions;
mod groups;
mod patterns;
mod random;
mod semantics;

use super::code::Code;
use super::lower::{self, RowNames};
use super::scalar::{Scalar, Value};
use super::vector::Program;
use super::{ExprError, Scope};
use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::schema::{Column, DataType, Schema};
use crate::ground::{bits, slot};

/// The columns that tests use, and one row of values for each line of [`rows`].
fn schema() -> Schema {
    Schema::new(vec![
        Column::new("id", DataType::BigInt).not_null(),
        Column::new("n", DataType::BigInt),
        Column::new("x", DataType::Double),
        Column::new("amount", DataType::Decimal { precision: 18, scale: 2 }),
        Column::new("name", DataType::String),
        Column::new("ok", DataType::Boolean),
        Column::new("ts", DataType::Timestamp),
        Column::new("type", DataType::String),
        Column::new("raw", DataType::Bytes),
    ])
}

/// Row 0 has values everywhere, row 1 NULLs wherever they may be, row 2 extremes.
fn batch() -> RecordBatch {
    let mut builder = BatchBuilder::new(9, 3);
    let text =
        |text: &str, builder: &mut BatchBuilder| slot::put(text.as_bytes(), &mut builder.heap);
    let name = text("Ada Lovelace", &mut builder);
    let kind = text("BUY", &mut builder);
    let raw = text("bytes", &mut builder);
    builder.push(&[1, 7, 2.5f64.to_bits(), 1250, name, 1, 1_709_209_805_007, kind, raw]);
    builder.push_nulls(&[2, 0, 0, 0, 0, 0, 0, 0, 0], &[0b1_1111_1110]);
    let name = text("Ünïcode, long enough to lie in the heap", &mut builder);
    let kind = text("a type that is long", &mut builder);
    builder.push(&[
        3,
        i64::MIN as u64,
        (-0.125f64).to_bits(),
        (-999_999_999_999_999_999i64) as u64,
        name,
        0,
        (-1i64) as u64,
        kind,
        slot::inline(b""),
    ]);
    builder.finish()
}

fn compile(text: &str) -> Result<Program, ExprError> {
    Program::compile(text, &Scope::of(&schema()))
}

/// Shows a value as tests write it.
fn shown(slot_or_null: Option<u64>, data_type: &DataType, heap: &[u8]) -> String {
    let Some(word) = slot_or_null else {
        return "NULL".into();
    };
    match data_type {
        DataType::Boolean => if word == 1 { "TRUE" } else { "FALSE" }.into(),
        DataType::BigInt => (word as i64).to_string(),
        DataType::Timestamp => format!("@{}", word as i64),
        DataType::Double => format!("{:?}", f64::from_bits(word)),
        DataType::Decimal { scale, .. } => {
            let mut out = Vec::new();
            crate::ground::decimal::format(word as i64, *scale, &mut out);
            String::from_utf8(out).unwrap()
        }
        DataType::String | DataType::Bytes => {
            format!("'{}'", String::from_utf8_lossy(slot::bytes(&word, heap)))
        }
        DataType::Array(of) => {
            let elements = slot::array::Elements::read(slot::bytes(&word, heap)).unwrap();
            let all = (0..elements.len()).map(|i| shown(elements.get(i), of, elements.heap));
            format!("[{}]", all.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Evaluates over the given rows by the vector machine, checks the scalar machine and the mask
/// against it, and shows the values.
fn evaluate(text: &str, batch: &RecordBatch, scope: &Scope, select: &[u32]) -> Vec<String> {
    let mut program = Program::compile(text, scope)
        .unwrap_or_else(|error| panic!("{text}: {error} {:?} {:?}", error.span, error.hint));
    let data_type = program.data_type().clone();
    let vector = program.eval(batch, select);
    assert_eq!(vector.values.len(), select.len());
    let values: Vec<String> = (0..select.len())
        .map(|i| {
            if vector.is_null(i) {
                assert_eq!(vector.values[i], 0, "{text}: a NULL's word is 0");
            }
            shown(vector.get(i), &data_type, vector.heap)
        })
        .collect();
    let nullable = program.nullable();
    assert!(nullable || values.iter().all(|value| value != "NULL"), "{text} is never NULL");
    let node = lower::compile(text, &mut RowNames { scope }).unwrap();
    let scalar = Scalar::new(Vec::new(), Code::for_rows(&node));
    for (i, &row) in select.iter().enumerate() {
        let bytes = scalar.value(batch, row as usize, &[]);
        let by_row = match &bytes {
            None => "NULL".to_string(),
            Some(bytes) if data_type.is_heaped() => {
                let mut heap = Vec::new();
                let word = slot::put_heaped(bytes, &mut heap);
                shown(Some(word), &data_type, &heap)
            }
            Some(bytes) => {
                let word = u64::from_le_bytes(bytes.as_slice().try_into().unwrap());
                shown(Some(word), &data_type, &[])
            }
        };
        assert_eq!(by_row, values[i], "{text}: row {row}, scalar against vector");
    }
    if data_type == DataType::Boolean {
        let mut mask = Vec::new();
        program.mask(batch, select, &mut mask);
        assert_eq!(mask.len(), bits::words(select.len()));
        for (i, value) in values.iter().enumerate() {
            assert_eq!(bits::get(&mask, i), value == "TRUE", "{text}: mask of row {i}");
        }
    }
    values
}

/// The values of rows 0, 1 and 2 of [`batch`].
#[track_caller]
fn check(text: &str, expected: [&str; 3]) {
    let found = evaluate(text, &batch(), &Scope::of(&schema()), &[0, 1, 2]);
    assert_eq!(found, expected, "{text}");
}

/// The value of an expression that reads no column.
#[track_caller]
fn check_constant(text: &str, expected: &str) {
    let found = evaluate(text, &batch(), &Scope::of(&schema()), &[0]);
    assert_eq!(found, [expected], "{text}");
}

/// The type of an expression.
#[track_caller]
fn check_type(text: &str, expected: &str) {
    let program = compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(program.data_type().to_string(), expected, "{text}");
}

/// The error of an expression: its message has `message`, its place is `at`, its hint has `hint`.
#[track_caller]
fn check_error(text: &str, message: &str, at: &str, hint: &str) {
    let error = match compile(text) {
        Ok(program) => panic!("{text} is {}", program.data_type()),
        Err(error) => error,
    };
    assert!(error.message.contains(message), "{text}: {}", error.message);
    assert_eq!(&text[error.span.clone()], at, "{text}: {}", error.message);
    let said = error.hint.clone().unwrap_or_default();
    assert!(said.contains(hint), "{text}: hint {said:?}");
}

fn value(word: Option<u64>) -> Value<'static> {
    Value { slot: word.unwrap_or(0), null: word.is_none(), heap: &[] }
}
