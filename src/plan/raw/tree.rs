//! A TOML document as a tree in which every key and value knows where it is written.
//!
//! 1. A string also knows which byte of the file each of its bytes comes from (through escapes and
//!    replaced `${...}`), so that a mistake inside an expression is marked where it stands.
//! 2. Keys keep the order of the file: `select` is a list.

use toml_edit::{Document, InlineTable, Item, Table as TomlTable, Value as TomlValue};

use super::text::{Text, literal};
use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Diagnostics, Span, Spanned, Texts};

/// A value and where it is written.
#[derive(Clone, Debug)]
pub struct Node {
    pub span: Span,
    pub value: Value,
}

/// What stands there.
#[derive(Clone, Debug)]
pub enum Value {
    Text(Text),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// A TOML date or time, as written.
    Date(String),
    List(Vec<Node>),
    Table(Table),
}

/// Keys and their values in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub entries: Vec<(Spanned<String>, Node)>,
}

impl Table {
    /// The value of a key. O(keys).
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|(known, _)| known.value == key).map(|(_, node)| node)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.entries.iter_mut().find(|(known, _)| known.value == key).map(|(_, node)| node)
    }
}

impl Node {
    /// What kind of value it is, for messages.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Text(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Boolean(_) => "a boolean",
            Value::Date(_) => "a date",
            Value::List(_) => "an array",
            Value::Table(_) => "a table",
        }
    }
}

/// Parses text number `text`; `None` (and a diagnostic) if it is not TOML.
pub fn parse(texts: &Texts, text: usize, out: &mut Diagnostics) -> Option<Node> {
    let source = texts.text(text);
    match Document::parse(source) {
        Ok(document) => {
            let table = Walk { text, source }.table(document.as_table());
            Some(Node { span: Span::new(text, 0..0), value: Value::Table(table) })
        }
        Err(error) => {
            let span = error.span().unwrap_or(source.len()..source.len());
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            out.add(Diagnostic::error(Code::Syntax, Span::new(text, span), message));
            None
        }
    }
}

/// Parses one value, as it may stand behind `=`; `None` if it is not one.
pub fn parse_value(text: usize, source: &str, start: usize) -> Option<Node> {
    let prefix = "x=";
    let document = format!("{prefix}{}", &source[start..]);
    let parsed = Document::parse(document.as_str()).ok()?;
    if parsed.as_table().len() != 1 {
        return None;
    }
    let walk = Walk { text, source: &document };
    let mut node = walk.item(parsed.as_table().get("x")?, 0..0);
    shift(&mut node, prefix.len(), start);
    Some(node)
}

/// Moves all spans of a value that was parsed behind `prefix` bytes to where it really starts.
fn shift(node: &mut Node, prefix: usize, start: usize) {
    let move_by = |span: &mut Span| {
        span.start = span.start.saturating_sub(prefix) + start;
        span.end = span.end.saturating_sub(prefix) + start;
    };
    move_by(&mut node.span);
    match &mut node.value {
        Value::Text(text) => text.shift(prefix, start),
        Value::List(list) => list.iter_mut().for_each(|node| shift(node, prefix, start)),
        Value::Table(table) => {
            for (key, node) in &mut table.entries {
                move_by(&mut key.span);
                shift(node, prefix, start);
            }
        }
        _ => {}
    }
}

struct Walk<'a> {
    text: usize,
    source: &'a str,
}

type Bytes = std::ops::Range<usize>;

impl Walk<'_> {
    fn span(&self, bytes: Bytes) -> Span {
        Span::new(self.text, bytes)
    }

    fn key(&self, name: &str, key: Option<&toml_edit::Key>) -> Spanned<String> {
        let span = key.and_then(toml_edit::Key::span).unwrap_or(0..0);
        Spanned::new(name.to_string(), self.span(span))
    }

    fn table(&self, table: &TomlTable) -> Table {
        let entry = |(name, item): (&str, &Item)| {
            let key = self.key(name, table.key(name));
            let node = self.item(item, key.span.start..key.span.end);
            (key, node)
        };
        Table { entries: table.iter().map(entry).collect() }
    }

    fn inline(&self, table: &InlineTable) -> Table {
        let entry = |(name, value): (&str, &TomlValue)| {
            let key = self.key(name, table.key(name));
            let node = self.value(value, key.span.start..key.span.end);
            (key, node)
        };
        Table { entries: table.iter().map(entry).collect() }
    }

    /// `key`: where the item's key stands, which is where a table with a header of its own is
    /// marked.
    fn item(&self, item: &Item, key: Bytes) -> Node {
        match item {
            Item::None => Node { span: self.span(key), value: Value::Table(Table::default()) },
            Item::Value(value) => self.value(value, key),
            Item::Table(table) => {
                Node { span: self.span(key), value: Value::Table(self.table(table)) }
            }
            Item::ArrayOfTables(tables) => {
                let node = |table: &TomlTable| Node {
                    span: self.span(table.span().unwrap_or(key.clone())),
                    value: Value::Table(self.table(table)),
                };
                let list = tables.iter().map(node).collect();
                Node { span: self.span(key.clone()), value: Value::List(list) }
            }
        }
    }

    fn value(&self, value: &TomlValue, key: Bytes) -> Node {
        let bytes = value.span().unwrap_or(key);
        let read = match value {
            TomlValue::String(string) => {
                let written = self.source.get(bytes.clone()).unwrap_or_default();
                let pieces = literal(written, bytes.start, string.value());
                Value::Text(Text::new(string.value().clone(), self.span(bytes.clone()), pieces))
            }
            TomlValue::Integer(integer) => Value::Integer(*integer.value()),
            TomlValue::Float(float) => Value::Float(*float.value()),
            TomlValue::Boolean(boolean) => Value::Boolean(*boolean.value()),
            TomlValue::Datetime(date) => Value::Date(date.value().to_string()),
            TomlValue::Array(array) => {
                Value::List(array.iter().map(|value| self.value(value, bytes.clone())).collect())
            }
            TomlValue::InlineTable(table) => Value::Table(self.inline(table)),
        };
        Node { span: self.span(bytes), value: read }
    }
}
