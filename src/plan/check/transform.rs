//! Transforms without state: filter, map, flat_map, route, lookup. And what all transforms share:
//! the one schema of several inputs, and the key.

use std::sync::Arc;

use super::expr::{compile, condition, not_empty, projection, wrong_type};
use super::join::pairs;
use super::schema::{column_of, extended};
use crate::expr::{Program, Scope};
use crate::ground::schema::{Column, DataType, Schema, SchemaRef};
use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Diagnostics, Span};
use crate::plan::graph::{
    FilterSpec, FlatMapSpec, LookupSpec, MapSpec, RouteSpec, TransformKind, Unmatched,
};
use crate::plan::raw::reader::Named;
use crate::plan::raw::text::Text;
use crate::plan::raw::transform as raw;

/// A checked transform: what it does, and the columns of each of its outputs.
pub struct Made {
    pub kind: TransformKind,
    pub outputs: Vec<SchemaRef>,
}

/// A checked transform.
pub fn made(kind: TransformKind, outputs: impl Into<Vec<SchemaRef>>) -> Option<Made> {
    Some(Made { kind, outputs: outputs.into() })
}

/// Whether two inputs have the same columns; NULLs apart.
pub fn inputs_agree(
    first: &Schema,
    other: &Schema,
    first_at: Span,
    other_at: Span,
    out: &mut Diagnostics,
) -> bool {
    let same = |(a, b): (&Column, &Column)| a.name == b.name && a.data_type == b.data_type;
    let same_width = first.width() == other.width();
    let place = first.columns.iter().zip(&other.columns).position(|pair| !same(pair));
    if same_width && place.is_none() {
        return true;
    }
    let shown = |schema: &Schema, at: usize| match schema.columns.get(at) {
        Some(column) => format!("`{}` {}", column.name, column.data_type),
        None => "nothing".to_string(),
    };
    let at = place.unwrap_or(first.width().min(other.width()));
    let message = format!(
        "inputs have different columns: column {} is {} here and {} there",
        at + 1,
        shown(other, at),
        shown(first, at)
    );
    out.add(
        Diagnostic::error(Code::InputsDiffer, other_at, message)
            .label("here")
            .also(first_at, "there")
            .hint("bring them to the same columns, in the same order, with a `map`"),
    );
    false
}

/// The schema of rows that come from any of the inputs.
pub fn merged(inputs: &[(Span, SchemaRef)], out: &mut Diagnostics) -> Option<SchemaRef> {
    let ((first_at, first), rest) = inputs.split_first()?;
    let mut merged = Schema::clone(first);
    for (span, schema) in rest {
        if !inputs_agree(first, schema, *first_at, *span, out) {
            return None;
        }
        for (column, other) in merged.columns.iter_mut().zip(&schema.columns) {
            column.nullable |= other.nullable;
        }
    }
    Some(Arc::new(merged))
}

/// The places of the key columns.
pub fn key(key: &[Text], schema: &Schema, name: &str, out: &mut Diagnostics) -> Option<Vec<usize>> {
    let of = format!("the input of `{name}`");
    let mut found: Vec<usize> = Vec::new();
    let mut good = true;
    for column in key {
        let Some(at) = column_of(schema, column, &of, out) else {
            good = false;
            continue;
        };
        let data_type = &schema.columns[at].data_type;
        let wrong = if found.contains(&at) {
            Some((Code::DuplicateColumn, format!("`{}` is in the key already", column.value)))
        } else if matches!(data_type, DataType::Array(_)) {
            let message = format!("`{}` is {data_type}, which cannot be a key", column.value);
            Some((Code::ColumnType, message))
        } else {
            None
        };
        if let Some((code, message)) = wrong {
            out.add(Diagnostic::error(code, column.span, message));
            good = false;
        }
        found.push(at);
    }
    good.then_some(found)
}

/// `type = "filter"`.
pub fn filter(input: &SchemaRef, text: &Text, out: &mut Diagnostics) -> Option<Made> {
    let condition = condition(text, &Scope::of(input), out)?;
    made(TransformKind::Filter(FilterSpec { condition }), [input.clone()])
}

/// `type = "map"`.
pub fn map(input: &SchemaRef, select: &Named<Text>, out: &mut Diagnostics) -> Option<Made> {
    let select = projection(select, &Scope::of(input), out)?;
    let main = Arc::new(select.schema());
    made(TransformKind::Map(MapSpec { select }), [main])
}

/// `type = "flat_map"`.
pub fn flat_map(
    input: &SchemaRef,
    each: &Text,
    name: &Text,
    out: &mut Diagnostics,
) -> Option<Made> {
    let program = compile(each, &Scope::of(input), out)?;
    let DataType::Array(element) = program.data_type() else {
        wrong_type(each.span, "`each`", "an array", program.data_type(), out);
        return None;
    };
    let element = DataType::clone(element);
    let column = Column::new(name.value.clone(), element.clone());
    let main = extended(input, [(column, name.span)], out)?;
    made(TransformKind::FlatMap(FlatMapSpec { each: program, element }), [main])
}

/// `type = "route"`.
pub fn route(input: &SchemaRef, outputs: &Named<Text>, out: &mut Diagnostics) -> Option<Made> {
    not_empty(outputs, out)?;
    let scope = Scope::of(input);
    for (name, _) in &outputs.entries {
        if name.value.is_empty() || name.value.contains('.') {
            let message = format!("`{}` cannot be the name of an output", name.value);
            out.add(Diagnostic::error(Code::BadName, name.span, message));
        }
    }
    let conditions: Vec<Option<Program>> =
        outputs.entries.iter().map(|(_, text)| condition(text, &scope, out)).collect();
    let conditions: Vec<Program> = conditions.into_iter().collect::<Option<_>>()?;
    let schemas = vec![input.clone(); conditions.len() + 1];
    made(TransformKind::Route(RouteSpec { conditions }), schemas)
}

/// `type = "lookup"`, with its table's place and columns.
pub fn lookup(
    input: &SchemaRef,
    lookup: &raw::Lookup,
    table: usize,
    table_schema: &SchemaRef,
    out: &mut Diagnostics,
) -> Option<Made> {
    let of_table = format!("the table `{}`", lookup.table.value);
    let on = pairs(&lookup.on, (input, "the input"), (table_schema, &of_table), out);
    let scope = Scope::qualified(&lookup.table.value, table_schema);
    let add = projection(&lookup.add, &scope, out);
    let unmatched = lookup.unmatched.as_ref().map_or(Unmatched::Keep, |given| given.value);
    let (on, add) = on.zip(add)?;
    let mut columns = add.schema().columns;
    if unmatched == Unmatched::Keep {
        columns.iter_mut().for_each(|column| column.nullable = true);
    }
    let names = lookup.add.entries.iter().map(|(name, _)| name.span);
    let main = extended(input, columns.into_iter().zip(names), out)?;
    let outputs = match unmatched {
        Unmatched::Route => vec![main, input.clone()],
        Unmatched::Keep | Unmatched::Drop => vec![main],
    };
    let wait_for_table = lookup.wait_for_table.as_ref().is_none_or(|given| given.value);
    let table_schema = table_schema.clone();
    let add_texts = lookup.add.entries.iter().map(|(_, text)| text.value.clone()).collect();
    let spec = LookupSpec { table, table_schema, on, add, add_texts, unmatched, wait_for_table };
    made(TransformKind::Lookup(spec), outputs)
}
