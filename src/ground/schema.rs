//! Types, columns and schemas: what a slot of a row means.
//!
//! 1. A column's type fixes how its 8-byte slot is read; nothing else does.
//! 2. Column names are unique within a schema.

use std::fmt;
use std::sync::Arc;

/// A SQL type as the pipeline file names it. One value takes one 8-byte slot, see [`super::slot`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    /// Slot 0 or 1.
    Boolean,
    /// An `i64`.
    BigInt,
    /// The bits of an `f64`.
    Double,
    /// An exact number: an `i64` scaled by 10^`scale`, of at most `precision` <= 18 digits.
    Decimal { precision: u8, scale: u8 },
    /// UTF-8 text.
    String,
    /// Any bytes.
    Bytes,
    /// Milliseconds since 1970-01-01T00:00:00Z, may be negative.
    Timestamp,
    /// Elements of one type; see [`super::slot`] for its place in the heap.
    Array(Box<DataType>),
}

impl DataType {
    /// Whether values may have bytes in the batch's heap.
    pub fn is_heaped(&self) -> bool {
        matches!(self, DataType::String | DataType::Bytes | DataType::Array(_))
    }

    /// Whether arithmetic is defined on the type.
    pub fn is_numeric(&self) -> bool {
        matches!(self, DataType::BigInt | DataType::Double | DataType::Decimal { .. })
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataType::Boolean => f.write_str("BOOLEAN"),
            DataType::BigInt => f.write_str("BIGINT"),
            DataType::Double => f.write_str("DOUBLE"),
            DataType::Decimal { precision, scale } => write!(f, "DECIMAL({precision},{scale})"),
            DataType::String => f.write_str("STRING"),
            DataType::Bytes => f.write_str("BYTES"),
            DataType::Timestamp => f.write_str("TIMESTAMP"),
            DataType::Array(of) => write!(f, "ARRAY<{of}>"),
        }
    }
}

/// A named, typed place in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub data_type: DataType,
    pub nullable: bool,
    /// Where a nested format finds it (`price = "BIGINT FROM bid.price"`): the path's names from
    /// the outermost in. Empty: the column's own name at the top.
    pub path: Vec<String>,
}

impl Column {
    /// A nullable column that a format finds under its own name.
    pub fn new(name: impl Into<String>, data_type: DataType) -> Column {
        Column { name: name.into(), data_type, nullable: true, path: Vec::new() }
    }

    /// The same column, NULL forbidden.
    pub fn not_null(mut self) -> Column {
        self.nullable = false;
        self
    }
}

/// The columns of a row, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    pub columns: Vec<Column>,
}

/// A schema as it is handed around.
pub type SchemaRef = Arc<Schema>;

impl Schema {
    /// A schema of these columns.
    ///
    /// # Panics
    /// If two columns have one name (the reader of the pipeline file has reported that before).
    pub fn new(columns: Vec<Column>) -> Schema {
        for (i, column) in columns.iter().enumerate() {
            assert!(
                columns[..i].iter().all(|other| other.name != column.name),
                "column names are unique (invariant 2): {}",
                column.name
            );
        }
        Schema { columns }
    }

    /// Slots in a row.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// The columns whose values may lie in a batch's heap.
    pub fn heaped(&self) -> Vec<usize> {
        (0..self.width()).filter(|&i| self.columns[i].data_type.is_heaped()).collect()
    }

    /// The place of a column by name. O(columns): for set-up, never per row.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_print_as_they_are_written() {
        let shown = DataType::Array(Box::new(DataType::Decimal { precision: 18, scale: 2 }));
        assert_eq!(shown.to_string(), "ARRAY<DECIMAL(18,2)>");
    }

    #[test]
    #[should_panic(expected = "unique")]
    fn two_columns_of_one_name_are_refused() {
        Schema::new(vec![Column::new("a", DataType::BigInt), Column::new("a", DataType::String)]);
    }
}
