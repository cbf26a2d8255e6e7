//! A key as it is typed: `COLUMN=VALUE` for each of its columns, in any order.

use crate::codec::csv::read_value;
use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::schema::Column;
use crate::plan::diagnostic::suggest;
use crate::plan::keyed::KeyedTransform;

/// One row of the key's columns.
///
/// # Errors
/// What is wrong with what was typed.
pub fn read(of: &KeyedTransform, written: &[String]) -> Result<RecordBatch, String> {
    let columns = &of.key;
    let mut builder = BatchBuilder::new(columns.len(), 1);
    let mut values: Vec<Option<Option<u64>>> = vec![None; columns.len()];
    for text in written {
        let Some((name, value)) = text.split_once('=') else {
            return Err(format!("`{text}` is not of the form COLUMN=VALUE"));
        };
        let Some(at) = columns.iter().position(|column| column.name == name) else {
            let names = columns.iter().map(|column| column.name.as_str());
            let hint = suggest(name, names, "its columns are").unwrap_or_default();
            return Err(format!("the key of `{}` has no column `{name}`; {hint}", of.name));
        };
        let value = read_value(&columns[at].data_type, value, &mut builder.heap);
        let value = value.map_err(|why| format!("`{text}`: {why}"))?;
        if values[at].replace(value).is_some() {
            return Err(format!("`{name}` is given twice"));
        }
    }
    if let Some((column, _)) = columns.iter().zip(&values).find(|(_, value)| value.is_none()) {
        let (name, key) = (&of.name, shown(columns));
        return Err(format!("`{}` is missing: the key of `{name}` is {key}", column.name));
    }
    let mut nulls = vec![0u64; columns.len().div_ceil(64)];
    let mut row = vec![0; columns.len()];
    for (i, value) in values.into_iter().map(Option::flatten).enumerate() {
        match value {
            Some(value) => row[i] = value,
            None => nulls[i / 64] |= 1 << (i % 64),
        }
    }
    builder.push_nulls(&row, &nulls);
    Ok(builder.finish())
}

fn shown(columns: &[Column]) -> String {
    let shown = columns.iter().map(|column| format!("{} {}", column.name, column.data_type));
    shown.collect::<Vec<_>>().join(", ")
}
