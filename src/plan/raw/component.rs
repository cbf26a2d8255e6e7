//! `[sources.x]` and `[sinks.x]` as written.

use super::reader::{Fields, Millis, Read, Reader, Size, words};
use super::text::Text;
use super::tree::{Node, Value};
use crate::plan::catalogue::{Catalogue, Connector, OptionInfo, OptionKind};
use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Span, Spanned, suggest};

/// `[sources.NAME]`.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: Spanned<String>,
    /// Where `type` is written.
    pub type_at: Span,
    pub connector: Option<&'static Connector>,
    pub schema: Option<Text>,
    pub format: Option<Text>,
    pub event_time: Option<Text>,
    pub time: Option<Spanned<TimeFrom>>,
    pub watermark: Option<Watermark>,
    pub options: Vec<(&'static str, Spanned<RawOption>)>,
}

/// `[sinks.NAME]`.
#[derive(Clone, Debug)]
pub struct Sink {
    pub name: Spanned<String>,
    /// Where `type` is written.
    pub type_at: Span,
    pub connector: Option<&'static Connector>,
    pub inputs: Vec<Text>,
    pub format: Option<Text>,
    pub timestamps: Option<Spanned<Timestamps>>,
    pub partition_by: Option<Text>,
    pub id: Option<Text>,
    pub options: Vec<(&'static str, Spanned<RawOption>)>,
}

/// The value of a connector's option as written.
#[derive(Clone, Debug)]
pub enum RawOption {
    Text(String),
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Millis(i64),
    Size(u64),
    Texts(Vec<Text>),
    Rows(Vec<Node>),
}

words! {
    /// Where the time of a source's rows comes from.
    TimeFrom("a kind of time") {
        /// The column that `event_time` names.
        Event = "event",
        /// The clock when an operator sees the row.
        Processing = "processing",
        /// The clock when the source reads the row.
        Ingestion = "ingestion",
    }
}

words! {
    /// How a sink writes TIMESTAMPs.
    Timestamps("a form of timestamps") {
        /// As a number of milliseconds.
        Millis = "ms",
        /// As text.
        Rfc3339 = "rfc3339",
    }
}

words! {
    /// What moves a watermark.
    WatermarkType("a type of watermark") {
        /// The largest event time, less a delay.
        Bounded = "bounded",
        /// Rows that match.
        Punctuated = "punctuated",
    }
}

/// When a watermark is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatermarkEmit {
    PerEvent,
    PerBatch,
    /// Every so many ms.
    Every(i64),
}

impl Read for Spanned<WatermarkEmit> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let emit = match &node.value {
            Value::Text(text) if text.value == "per_event" => WatermarkEmit::PerEvent,
            Value::Text(text) if text.value == "per_batch" => WatermarkEmit::PerBatch,
            Value::Text(text) if text.value.starts_with(|c: char| c.is_ascii_digit()) => {
                let every = Spanned::<Millis>::read(node, reader)?;
                WatermarkEmit::Every(every.value.0)
            }
            Value::Text(text) => {
                let message = format!("`{}` is not a time to tell a watermark", text.value);
                let words = ["per_event", "per_batch"];
                let hint = suggest(&text.value, words, "or a duration; it is one of");
                let wrong = Diagnostic::error(Code::UnknownWord, node.span, message);
                reader.out.add(wrong.maybe_hint(hint));
                return None;
            }
            _ => {
                reader.wrong_kind(node, "\"per_event\", \"per_batch\" or a duration");
                return None;
            }
        };
        Some(Spanned::new(emit, node.span))
    }
}

/// `watermark = { ... }`.
#[derive(Clone, Debug)]
pub struct Watermark {
    pub span: Span,
    pub kind: Option<Spanned<WatermarkType>>,
    pub delay: Option<Spanned<Millis>>,
    pub emit: Option<Spanned<WatermarkEmit>>,
    pub idle_after: Option<Spanned<Millis>>,
    pub condition: Option<Text>,
}

impl Read for Watermark {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Watermark> {
        let mut fields = Fields::open(node, "a watermark", reader)?;
        let kind: Option<Spanned<WatermarkType>> = fields.maybe("type", reader);
        let punctuated = kind.as_ref().map(|kind| kind.value) == Some(WatermarkType::Punctuated);
        let mut watermark = Watermark {
            span: node.span,
            kind,
            delay: None,
            emit: None,
            idle_after: fields.maybe("idle_after", reader),
            condition: None,
        };
        if punctuated {
            watermark.condition = fields.must("where", reader);
        } else {
            watermark.delay = fields.maybe("delay", reader);
            watermark.emit = fields.maybe("emit", reader);
        }
        fields.close(reader);
        Some(watermark)
    }
}

/// Finds the connector that `type` names.
fn connector(
    fields: &mut Fields<'_>,
    known: &'static [Connector],
    what: &str,
    reader: &mut Reader<'_>,
) -> (Span, Option<&'static Connector>) {
    let Some(name) = fields.must::<Text>("type", reader) else {
        return (fields.span, None);
    };
    let found = known.iter().find(|connector| connector.name == name.value);
    if found.is_none() {
        let message = format!("there is no {what} of type `{}`", name.value);
        let names = known.iter().map(|connector| connector.name);
        let hint = suggest(&name.value, names, "types");
        reader.out.add(Diagnostic::error(Code::UnknownType, name.span, message).maybe_hint(hint));
    }
    (name.span, found)
}

/// Reads `[sources.NAME]`.
pub fn source(
    name: &Spanned<String>,
    node: &Node,
    catalogue: &Catalogue,
    reader: &mut Reader<'_>,
) -> Option<Source> {
    let mut fields = Fields::open(node, format!("the source `{}`", name.value), reader)?;
    let (type_at, connector) = connector(&mut fields, catalogue.sources, "source", reader);
    let mut source = Source {
        name: name.clone(),
        type_at,
        connector,
        schema: fields.maybe("schema", reader),
        format: None,
        event_time: fields.maybe("event_time", reader),
        time: fields.maybe("time", reader),
        watermark: fields.maybe("watermark", reader),
        options: Vec::new(),
    };
    if connector.is_none_or(|connector| !connector.built || !connector.formats.is_empty()) {
        source.format = fields.maybe("format", reader);
    }
    if let Some(connector) = connector {
        source.options = options(&mut fields, connector.options, reader);
    }
    close(fields, connector, reader);
    Some(source)
}

/// Reads `[sinks.NAME]`.
pub fn sink(
    name: &Spanned<String>,
    node: &Node,
    catalogue: &Catalogue,
    reader: &mut Reader<'_>,
) -> Option<Sink> {
    let mut fields = Fields::open(node, format!("the sink `{}`", name.value), reader)?;
    let (type_at, connector) = connector(&mut fields, catalogue.sinks, "sink", reader);
    let mut sink = Sink {
        name: name.clone(),
        type_at,
        connector,
        inputs: fields.must("inputs", reader).unwrap_or_default(),
        format: None,
        timestamps: None,
        partition_by: None,
        id: fields.maybe("id", reader),
        options: Vec::new(),
    };
    if connector.is_none_or(|connector| !connector.built || !connector.formats.is_empty()) {
        sink.format = fields.maybe("format", reader);
        sink.timestamps = fields.maybe("timestamps", reader);
    }
    if connector.is_none_or(|connector| !connector.built || connector.name == "file") {
        sink.partition_by = fields.maybe("partition_by", reader);
    }
    if let Some(connector) = connector {
        sink.options = options(&mut fields, connector.options, reader);
    }
    close(fields, connector, reader);
    Some(sink)
}

/// Reports unknown keys, where the connector's options are known.
fn close(fields: Fields<'_>, connector: Option<&Connector>, reader: &mut Reader<'_>) {
    if connector.is_some_and(|connector| connector.built) {
        fields.close(reader);
    }
}

fn options(
    fields: &mut Fields<'_>,
    known: &'static [OptionInfo],
    reader: &mut Reader<'_>,
) -> Vec<(&'static str, Spanned<RawOption>)> {
    let mut options = Vec::new();
    for info in known {
        match fields.node(info.name) {
            Some(node) => {
                if let Some(value) = option(info, node, reader) {
                    options.push((info.name, Spanned::new(value, node.span)));
                }
            }
            None if info.required => fields.missing(info.name, reader),
            None => {}
        }
    }
    options
}

fn option(info: &OptionInfo, node: &Node, reader: &mut Reader<'_>) -> Option<RawOption> {
    let range = |inside: bool, low: &dyn std::fmt::Display, high: &dyn std::fmt::Display| {
        let message = format!("`{}` must be from {low} to {high}", info.name);
        (!inside).then(|| Diagnostic::error(Code::OutOfRange, node.span, message))
    };
    let (value, wrong) = match info.kind {
        OptionKind::Text => (RawOption::Text(Text::read(node, reader)?.value), None),
        OptionKind::Boolean => {
            (RawOption::Boolean(Spanned::<bool>::read(node, reader)?.value), None)
        }
        OptionKind::Integer(low, high) => {
            let value = Spanned::<i64>::read(node, reader)?.value;
            (RawOption::Integer(value), range((low..=high).contains(&value), &low, &high))
        }
        OptionKind::Number(low, high) => {
            let value = Spanned::<f64>::read(node, reader)?.value;
            (RawOption::Number(value), range((low..=high).contains(&value), &low, &high))
        }
        OptionKind::Millis => {
            let value = Spanned::<Millis>::read(node, reader)?.value.0;
            let message = format!("`{}` must not be negative", info.name);
            let wrong = Diagnostic::error(Code::OutOfRange, node.span, message);
            (RawOption::Millis(value), (value < 0).then_some(wrong))
        }
        OptionKind::Size => (RawOption::Size(Spanned::<Size>::read(node, reader)?.value.0), None),
        OptionKind::Word(words) => {
            let text = Text::read(node, reader)?.value;
            let message = format!("`{text}` is not a value of `{}`", info.name);
            let wrong = Diagnostic::error(Code::UnknownWord, node.span, message)
                .maybe_hint(suggest(&text, words.iter().copied(), "it is one of"));
            let unknown = !words.contains(&text.as_str());
            (RawOption::Text(text), unknown.then_some(wrong))
        }
        OptionKind::Texts => (RawOption::Texts(Vec::read(node, reader)?), None),
        OptionKind::Rows => (RawOption::Rows(Vec::read(node, reader)?), None),
    };
    match wrong {
        Some(wrong) => {
            reader.out.add(wrong);
            None
        }
        None => Some(value),
    }
}
