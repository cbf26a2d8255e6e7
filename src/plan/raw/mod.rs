//! The pipeline file as written: TOML, with `--set` and `${NAME}` applied, read into typed structs
//! in which every value knows its place. What it *means* is the business of `check`.
//!
//! 1. Reading goes on after a mistake, so that all of them are reported; what could not be read is
//!    `None` or left out.

pub mod component;
pub mod overrides;
pub mod pattern;
pub mod reader;
pub mod settings;
pub mod text;
pub mod transform;
pub mod tree;
pub mod units;

use self::component::{Sink, Source};
use self::reader::{Fields, Named, Read, Reader};
use self::settings::{Checkpoint, Engine, State};
use self::text::{Environment, Text};
use self::transform::Transform;
use self::tree::{Node, Table, Value};
use super::catalogue::Catalogue;
use super::code::Code;
use super::diagnostic::{Diagnostic, Diagnostics, Span, Spanned, Texts};

/// A pipeline file as written.
#[derive(Clone, Debug, Default)]
pub struct File {
    pub name: Option<Text>,
    pub engine: Engine,
    pub checkpoint: Option<Checkpoint>,
    pub state: State,
    pub schemas: Vec<SchemaText>,
    pub sources: Vec<Source>,
    pub transforms: Vec<Transform>,
    pub sinks: Vec<Sink>,
    pub tests: Vec<Test>,
}

/// `[schemas.NAME]`: column names and types.
#[derive(Clone, Debug)]
pub struct SchemaText {
    pub name: Spanned<String>,
    pub columns: Vec<(Spanned<String>, Text)>,
}

/// `[[tests]]`.
#[derive(Clone, Debug)]
pub struct Test {
    pub name: Text,
    pub rows: Vec<(Spanned<String>, Vec<Node>)>,
    pub expect: Vec<(Spanned<String>, Vec<Node>)>,
}

/// Reads text 0 of `texts`, with the overrides in the texts behind it.
pub fn read(
    texts: &Texts,
    overrides: std::ops::Range<usize>,
    environment: Environment<'_>,
    catalogue: &Catalogue,
    out: &mut Diagnostics,
) -> Option<File> {
    let mut root = tree::parse(texts, 0, out)?;
    for text in overrides {
        overrides::apply(&mut root, texts, text, out);
    }
    text::replace(&mut root, environment, out);
    let mut reader = Reader { texts, out };
    let mut fields = Fields::open(&root, "the pipeline file", &mut reader)?;
    let reader = &mut reader;
    let file = File {
        name: fields.maybe("name", reader),
        engine: fields.maybe("engine", reader).unwrap_or_default(),
        checkpoint: fields.maybe("checkpoint", reader),
        state: fields.maybe("state", reader).unwrap_or_default(),
        schemas: named(&mut fields, "schemas", reader, schema),
        sources: named(&mut fields, "sources", reader, |name, node, reader| {
            component::source(name, node, catalogue, reader)
        }),
        transforms: named(&mut fields, "transforms", reader, transform::transform),
        sinks: named(&mut fields, "sinks", reader, |name, node, reader| {
            component::sink(name, node, catalogue, reader)
        }),
        tests: fields.maybe("tests", reader).unwrap_or_default(),
    };
    fields.close(reader);
    Some(file)
}

/// Reads a table of named things (`[sources.x]`), each with its name.
fn named<T>(
    fields: &mut Fields<'_>,
    key: &'static str,
    reader: &mut Reader<'_>,
    mut read: impl FnMut(&Spanned<String>, &Node, &mut Reader<'_>) -> Option<T>,
) -> Vec<T> {
    let Some(node) = fields.node(key) else {
        return Vec::new();
    };
    let Value::Table(table) = &node.value else {
        reader.wrong_kind(node, "a table");
        return Vec::new();
    };
    let each = table.entries.iter();
    each.filter_map(|(name, node)| {
        check_name(name, key, reader);
        read(name, node, reader)
    })
    .collect()
}

/// Names are addressed as `name.output`, and become metric labels and folder names.
fn check_name(name: &Spanned<String>, key: &str, reader: &mut Reader<'_>) {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if key != "schemas" && (name.value.is_empty() || !name.value.chars().all(good)) {
        let message = format!("`{}` cannot be the name of a component", name.value);
        reader.out.add(
            Diagnostic::error(Code::BadName, name.span, message)
                .hint("a name has letters, digits, `_` and `-`"),
        );
    }
}

fn schema(name: &Spanned<String>, node: &Node, reader: &mut Reader<'_>) -> Option<SchemaText> {
    let columns = Named::<Text>::read(node, reader)?.entries;
    Some(SchemaText { name: name.clone(), columns })
}

impl Read for Test {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Test> {
        let mut fields = Fields::open(node, "a test", reader)?;
        let name = fields.must("name", reader);
        let rows = fields.must::<Outputs>("rows", reader);
        let expect = fields.must::<Outputs>("expect", reader);
        fields.close(reader);
        Some(Test { name: name?, rows: rows?.0, expect: expect?.0 })
    }
}

/// Rows by component or by `component.output`; the latter may be written with quotes or without.
struct Outputs(Vec<(Spanned<String>, Vec<Node>)>);

impl Read for Outputs {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Outputs> {
        let Value::Table(table) = &node.value else {
            reader.wrong_kind(node, "a table of rows by component");
            return None;
        };
        let mut found = Vec::new();
        collect(table, "", &mut found, reader);
        Some(Outputs(found))
    }
}

fn collect(
    table: &Table,
    prefix: &str,
    found: &mut Vec<(Spanned<String>, Vec<Node>)>,
    reader: &mut Reader<'_>,
) {
    for (key, node) in &table.entries {
        let name = format!("{prefix}{}", key.value);
        match &node.value {
            Value::Table(inner) if prefix.is_empty() => {
                collect(inner, &format!("{name}."), found, reader);
            }
            Value::List(rows) => found.push((Spanned::new(name, key.span), rows.clone())),
            _ => reader.wrong_kind(node, "an array of rows"),
        }
    }
}

/// Where a list of texts is marked as a whole: the first to the last.
pub fn span_of(texts: &[Text]) -> Option<Span> {
    let (first, last) = (texts.first()?, texts.last()?);
    Some(Span { end: last.span.end.max(first.span.end), ..first.span })
}
