//! Rows written in the file (`rows` of a values source, `[[tests]]`): turned into JSON lines, and
//! held against the schema that will read them.

use std::fmt::Write;

use crate::ground::schema::{Column, DataType, Schema};
use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Diagnostics, Severity, nearest};
use crate::plan::raw::tree::{Node, Table, Value};

/// A value as JSON.
fn json(node: &Node, out: &mut String) {
    let text = |text: &str, out: &mut String| {
        out.push_str(&serde_json::to_string(text).expect("a text is always JSON"));
    };
    // Writing to a String cannot fail.
    let _ = match &node.value {
        Value::Text(found) => {
            text(&found.value, out);
            Ok(())
        }
        Value::Integer(found) => write!(out, "{found}"),
        Value::Float(found) if found.is_finite() => {
            let shown = serde_json::Number::from_f64(*found);
            shown.map_or(Ok(()), |shown| write!(out, "{shown}"))
        }
        Value::Float(_) => write!(out, "null"),
        Value::Boolean(found) => write!(out, "{found}"),
        Value::Date(found) => {
            text(found, out);
            Ok(())
        }
        Value::List(list) => {
            out.push('[');
            for (at, node) in list.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                json(node, out);
            }
            out.push(']');
            Ok(())
        }
        Value::Table(table) => {
            out.push('{');
            for (at, (key, node)) in table.entries.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                text(&key.value, out);
                out.push(':');
                json(node, out);
            }
            out.push('}');
            Ok(())
        }
    };
}

/// A row as JSON. A text for a DECIMAL is the number that it says: TOML has none with all digits.
fn json_row(row: &Table, schema: &Schema, out: &mut String) {
    out.push('{');
    for (at, (key, node)) in row.entries.iter().enumerate() {
        out.push_str(if at == 0 { "" } else { "," });
        out.push_str(&serde_json::to_string(&key.value).expect("a text is always JSON"));
        out.push(':');
        let column = schema.columns.iter().find(|column| column.name == key.value);
        match (&node.value, column.map(|column| &column.data_type)) {
            (Value::Text(text), Some(DataType::Decimal { .. })) if is_number(&text.value) => {
                out.push_str(&text.value);
            }
            _ => json(node, out),
        }
    }
    out.push('}');
}

/// Whether a text is a decimal number as JSON writes it.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (whole, part) = text.split_once('.').map_or((text, None), |(w, part)| (w, Some(part)));
    let is_short = whole == "0" || !whole.starts_with('0');
    digits(whole) && is_short && part.is_none_or(digits)
}

/// Rows as JSON objects, one text each; what does not fit the schema is reported with `severity`.
pub fn rows(
    nodes: &[Node],
    schema: &Schema,
    severity: Severity,
    out: &mut Diagnostics,
) -> Vec<String> {
    let mut lines = Vec::new();
    for node in nodes {
        match &node.value {
            Value::Table(row) => check_row(row, node, schema, severity, out),
            _ => report(node, "a row is a table of columns".into(), None, severity, out),
        }
        let mut line = String::new();
        match &node.value {
            Value::Table(row) => json_row(row, schema, &mut line),
            _ => json(node, &mut line),
        }
        lines.push(line);
    }
    lines
}

fn report(
    node: &Node,
    message: String,
    hint: Option<String>,
    severity: Severity,
    out: &mut Diagnostics,
) {
    let wrong = Diagnostic::error(Code::BadRow, node.span, message).maybe_hint(hint);
    out.add(Diagnostic { severity, ..wrong });
}

fn check_row(row: &Table, node: &Node, schema: &Schema, severity: Severity, out: &mut Diagnostics) {
    for column in &schema.columns {
        let path: Vec<&str> = match column.path.is_empty() {
            true => vec![&column.name],
            false => column.path.iter().map(String::as_str).collect(),
        };
        match (find(row, &path), column.nullable) {
            (Some(found), _) => check_value(found, column, severity, out),
            (None, true) => {}
            (None, false) => {
                let message = format!("the row has no `{}`, which is NOT NULL", column.name);
                report(node, message, None, severity, out);
            }
        }
    }
    let first = |column: &Column| match column.path.first() {
        Some(first) => first.clone(),
        None => column.name.clone(),
    };
    let known: Vec<String> = schema.columns.iter().map(first).collect();
    for (key, node) in &row.entries {
        if !known.contains(&key.value) {
            let message = format!("the schema has no column `{}`", key.value);
            let near = nearest(&key.value, known.iter().map(String::as_str));
            let hint = near.map(|near| format!("did you mean `{near}`?"));
            let at = Node { span: key.span, value: node.value.clone() };
            report(&at, message, hint, severity, out);
        }
    }
}

fn find<'r>(row: &'r Table, path: &[&str]) -> Option<&'r Node> {
    let (first, rest) = path.split_first()?;
    let node = row.get(first)?;
    match (&node.value, rest) {
        (_, []) => Some(node),
        (Value::Table(inner), _) => find(inner, rest),
        _ => None,
    }
}

fn check_value(node: &Node, column: &Column, severity: Severity, out: &mut Diagnostics) {
    if !fits(node, &column.data_type) {
        let message = format!(
            "`{}` is {}, which does not fit its column of type {}",
            column.name,
            node.kind(),
            column.data_type
        );
        report(node, message, None, severity, out);
    }
}

fn fits(node: &Node, data_type: &DataType) -> bool {
    match (data_type, &node.value) {
        (DataType::Boolean, Value::Boolean(_))
        | (DataType::BigInt, Value::Integer(_))
        | (DataType::Double | DataType::Decimal { .. }, Value::Integer(_))
        | (DataType::String | DataType::Bytes, Value::Text(_))
        | (DataType::Timestamp, Value::Integer(_) | Value::Date(_) | Value::Text(_)) => true,
        (DataType::Double | DataType::Decimal { .. }, Value::Float(found)) => found.is_finite(),
        (DataType::Decimal { .. }, Value::Text(text)) => is_number(&text.value),
        (DataType::Array(of), Value::List(list)) => list.iter().all(|node| fits(node, of)),
        _ => false,
    }
}
