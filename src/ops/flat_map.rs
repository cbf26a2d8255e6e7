//! `flat_map`: one row for each element of an array, with the row's own columns before it.
//!
//! A row whose array is NULL or empty puts out nothing and is counted as filtered.

use std::ops::Range;

use crate::expr::Program;
use crate::ground::schema::{Column, DataType, Schema};
use crate::ground::slot::{self, array::Elements};
use crate::ground::{bits, limits};
use crate::ops::kept::Kept;
use crate::ops::output::{Outputs, Port};
use crate::ops::{Ledger, OpError, Rows, Stateless};

/// The operator. One output: see [`FlatMap::schema`].
pub struct FlatMap {
    each: Program,
    expand: Expand,
    ledger: Ledger,
}

/// Makes rows of a row and elements.
struct Expand {
    kept: Kept,
    is_element_heaped: bool,
    /// The row under way: kept values, long ones where they lie in the output's heap; the element.
    values: Vec<u64>,
    nulls: Vec<u64>,
}

impl FlatMap {
    /// Makes a row of the kept columns of `input` and the element for each element of `each`.
    ///
    /// # Panics
    /// If `each` is not an ARRAY.
    pub fn new(input: &Schema, keep: Vec<usize>, each: Program) -> FlatMap {
        let DataType::Array(of) = each.data_type() else {
            panic!("`each` is an ARRAY");
        };
        let (is_element_heaped, width) = (of.is_heaped(), keep.len() + 1);
        let expand = Expand {
            kept: Kept::new(input, keep),
            is_element_heaped,
            values: vec![0; width],
            nulls: vec![0; width.div_ceil(64)],
        };
        FlatMap { each, expand, ledger: Ledger::default() }
    }

    /// Schema of the output: the kept columns, then the element, nullable, under `name`.
    ///
    /// # Panics
    /// If `each` is not an ARRAY, or a kept column has that name.
    pub fn schema(input: &Schema, keep: &[usize], each: &Program, name: &str) -> Schema {
        let DataType::Array(of) = each.data_type() else {
            panic!("`each` is an ARRAY");
        };
        let mut columns = Kept::schema(input, keep).columns;
        columns.push(Column::new(name, DataType::clone(of)));
        Schema::new(columns)
    }
}

impl Stateless for FlatMap {
    fn rows(&mut self, _: usize, rows: &Rows<'_>, out: &mut Outputs) -> Result<(), OpError> {
        let port = &mut out.ports[0];
        let arrays = self.each.eval(rows.records, rows.select);
        self.ledger.rows_in += rows.select.len() as u64;
        for (i, value) in arrays.values.iter().enumerate() {
            let is_null = arrays.nulls.is_some_and(|nulls| bits::get(nulls, i));
            let elements = if is_null {
                None
            } else {
                Elements::read(slot::bytes(value, arrays.heap)).filter(|e| !e.is_empty())
            };
            let Some(elements) = elements else {
                self.ledger.filtered += 1;
                continue;
            };
            let mut from = 0;
            while from < elements.len() {
                // A row's long values are copied once for all its elements in a batch.
                let to = elements.len().min(from + limits::BATCH_ROWS_DEFAULT);
                self.expand.row(rows, i, &elements, from..to, port);
                port.stamp(rows.times[i], rows.marks[i]);
                from = to;
            }
        }
        Ok(())
    }

    fn ledger(&self) -> Ledger {
        self.ledger
    }
}

impl Expand {
    /// Adds a row for each of these elements of the array of the i-th selected row.
    fn row(
        &mut self,
        rows: &Rows<'_>,
        i: usize,
        elements: &Elements<'_>,
        range: Range<usize>,
        port: &mut Port,
    ) {
        let (records, row, width) = (rows.records, rows.select[i] as usize, self.kept.width());
        let out = &mut port.builder;
        self.kept.values::<0>(records.row(row), &mut self.values[..width]);
        self.nulls.fill(0);
        if records.has_nulls() {
            self.kept.nulls(records, row, &mut self.nulls);
        }
        if !records.heap().is_empty() {
            for &place in self.kept.heaped() {
                let moved = slot::rehome(self.values[place], records.heap(), &mut out.heap);
                self.values[place] = moved;
            }
        }
        for element in range {
            let value = elements.get(element);
            self.values[width] = match value {
                Some(value) if self.is_element_heaped => {
                    slot::rehome(value, elements.heap, &mut out.heap)
                }
                value => value.unwrap_or(0),
            };
            out.push(&self.values);
            out.set_nulls(&self.nulls);
            if value.is_none() {
                out.set_null(width);
            }
        }
    }
}
