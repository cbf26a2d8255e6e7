//! Sources: connector, schema, format, time and watermark.

use std::sync::Arc;

use super::expr::condition;
use super::rows::rows;
use super::schema::{Schemas, column_of, rejected};
use super::settings::{Sign, millis, millis_or};
use crate::expr::Scope;
use crate::ground::schema::{Column, DataType, Schema, SchemaRef};
use crate::plan::catalogue::{Connector, OptionInfo, OptionValue};
use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Diagnostics, Severity, Span, Spanned, quoted, suggest};
use crate::plan::graph::{
    Format, Options, OutputPlan, RowTime, SourcePlan, WatermarkEmit, WatermarkKind, WatermarkPlan,
};
use crate::plan::raw::component::{RawOption, Source, TimeFrom};
use crate::plan::raw::text::Text;

/// What a source says, as far as it could be read.
pub struct Checked {
    /// The columns of its rows, without paths.
    pub schema: Option<SchemaRef>,
    pub plan: Option<SourcePlan>,
}

/// Checks a source.
pub fn source(source: &Source, schemas: &Schemas, out: &mut Diagnostics) -> Checked {
    let format = source
        .connector
        .and_then(|connector| format(connector, source.format.as_ref(), source.type_at, out));
    let decoded = decoded(source, format, schemas, out);
    let Some(decoded) = decoded else {
        return Checked { schema: None, plan: None };
    };
    let plain = |column: &Column| Column { path: Vec::new(), ..column.clone() };
    let schema = Arc::new(Schema::new(decoded.columns.iter().map(plain).collect()));
    let time = time(source, &schema, out);
    let watermark = watermark(source, time, &schema, out);
    let about = source.connector.map_or(&[][..], |connector| connector.options);
    of_other_formats(about, &source.options, format, out);
    let options = options(&source.options, &decoded, out);
    let plan = source.connector.map(|connector| SourcePlan {
        name: source.name.value.clone(),
        type_at: source.type_at,
        connector: connector.name,
        schema: decoded,
        format,
        options,
        time,
        watermark,
        feeds_only_tables: false,
        outputs: vec![
            OutputPlan { name: String::new(), schema: schema.clone(), is_read: false },
            OutputPlan { name: "rejected".into(), schema: rejected(), is_read: false },
        ],
    });
    Checked { schema: Some(schema), plan }
}

/// The format of a connector: the one written, or its first.
pub fn format(
    connector: &Connector,
    written: Option<&Text>,
    type_at: Span,
    out: &mut Diagnostics,
) -> Option<Format> {
    let name = match written {
        Some(written) if !connector.formats.contains(&written.value.as_str()) => {
            let message =
                format!("a {} does not speak the format `{}`", connector.name, written.value);
            let hint = suggest(&written.value, connector.formats.iter().copied(), "its formats");
            let wrong = Diagnostic::error(Code::BadFormat, written.span, message);
            out.add(wrong.maybe_hint(hint).also(type_at, "of this type"));
            return None;
        }
        Some(written) => written.value.as_str(),
        None => connector.formats.first()?,
    };
    Some(match name {
        "csv" => Format::Csv,
        "native" => Format::Native,
        "avro" => Format::Avro,
        "raw" => Format::Raw,
        "parquet" => Format::Parquet,
        _ => Format::Json,
    })
}

/// The schema that the source's input is read with.
fn decoded(
    source: &Source,
    format: Option<Format>,
    schemas: &Schemas,
    out: &mut Diagnostics,
) -> Option<SchemaRef> {
    let Some(name) = &source.schema else {
        if format == Some(Format::Raw) {
            let line = Column::new("line", DataType::String).not_null();
            return Some(Arc::new(Schema::new(vec![line])));
        }
        let message = format!("the source `{}` has no `schema`", source.name.value);
        let wrong = Diagnostic::error(Code::MissingKey, source.name.span, message);
        out.add(
            wrong
                .label("`schema` is missing")
                .hint("name the columns in `[schemas.NAME]` and write `schema = \"NAME\"`"),
        );
        return None;
    };
    let schema = schemas.find(name, out)?;
    let is_text = |column: &Column| matches!(column.data_type, DataType::String | DataType::Bytes);
    if format == Some(Format::Raw) && !matches!(&schema.columns[..], [one] if is_text(one)) {
        let message = "the format `raw` reads each line into one column of type STRING or BYTES";
        let wrong = Diagnostic::error(Code::BadFormat, name.span, message);
        out.add(wrong.hint("leave `schema` out: the column is then `line`, a STRING"));
        return None;
    }
    Some(schema)
}

fn time(source: &Source, schema: &Schema, out: &mut Diagnostics) -> RowTime {
    let from = source.time.as_ref().map(|time| time.value);
    let column = source.event_time.as_ref().and_then(|name| {
        let what = format!("the source `{}`", source.name.value);
        let at = column_of(schema, name, &what, out)?;
        let found = &schema.columns[at].data_type;
        if *found == DataType::Timestamp {
            return Some(at);
        }
        let message = format!("event time must be a TIMESTAMP, `{}` is {found}", name.value);
        let wrong = Diagnostic::error(Code::ColumnType, name.span, message);
        out.add(match found {
            DataType::BigInt => wrong.hint(
                "declare the column as TIMESTAMP: a JSON number is then read as milliseconds",
            ),
            DataType::String => wrong
                .hint("declare the column as TIMESTAMP: RFC 3339 strings are then read as times"),
            _ => wrong,
        });
        None
    });
    match (from, column) {
        (Some(TimeFrom::Processing), _) => RowTime::Processing,
        (Some(TimeFrom::Ingestion), _) => RowTime::Ingestion,
        (_, Some(column)) => RowTime::Column(column),
        (Some(TimeFrom::Event), None) if source.event_time.is_none() => {
            let span = source.time.as_ref().map_or(source.name.span, |time| time.span);
            let message = "`time = \"event\"` needs `event_time`";
            out.add(Diagnostic::error(Code::Conflict, span, message));
            RowTime::None
        }
        _ => RowTime::None,
    }
}

fn watermark(
    source: &Source,
    time: RowTime,
    schema: &Schema,
    out: &mut Diagnostics,
) -> WatermarkPlan {
    let mut plan = WatermarkPlan {
        kind: WatermarkKind::Bounded { delay_ms: 0 },
        emit: WatermarkEmit::PerBatch,
        idle_after_ms: None,
    };
    let Some(given) = &source.watermark else {
        return plan;
    };
    if time == RowTime::None && source.event_time.is_none() {
        let message = "a watermark needs `event_time`, the column that it follows";
        out.add(Diagnostic::error(Code::Conflict, given.span, message));
    }
    let idle = given.idle_after.as_ref();
    plan.idle_after_ms = idle.and_then(|ms| millis("idle_after", ms, Sign::Positive, out));
    let delay_ms = millis_or("delay", &given.delay, 0, Sign::NotNegative, out);
    plan.kind = WatermarkKind::Bounded { delay_ms };
    if let Some(emit) = &given.emit {
        if let WatermarkEmit::Every(ms) = emit.value
            && ms <= 0
        {
            let message = "`emit` must be longer than nothing";
            let wrong = Diagnostic::error(Code::OutOfRange, emit.span, message);
            out.add(wrong.hint("`\"per_event\"` tells the watermark after every row"));
        }
        plan.emit = emit.value;
    }
    if let Some(text) = &given.condition {
        plan.emit = WatermarkEmit::PerEvent;
        if let Some(condition) = condition(text, &Scope::of(schema), out) {
            let condition = Box::new(condition);
            plan.kind = WatermarkKind::Punctuated { condition };
        }
    }
    plan
}

/// A connector's options; `schema` is that of rows among them.
pub fn options(
    options: &[(&'static str, Spanned<RawOption>)],
    schema: &Schema,
    out: &mut Diagnostics,
) -> Options {
    let value = |option: &RawOption, out: &mut Diagnostics| match option {
        RawOption::Text(text) => OptionValue::Text(text.clone()),
        RawOption::Boolean(is) => OptionValue::Boolean(*is),
        RawOption::Integer(number) => OptionValue::Integer(*number),
        RawOption::Number(number) => OptionValue::Number(*number),
        RawOption::Millis(ms) => OptionValue::Millis(*ms),
        RawOption::Size(bytes) => OptionValue::Size(*bytes),
        RawOption::Texts(texts) => {
            OptionValue::Texts(texts.iter().map(|text| text.value.clone()).collect())
        }
        // A wrong row is not refused: it goes to `rejected`, as everywhere.
        RawOption::Rows(nodes) => OptionValue::Rows(rows(nodes, schema, Severity::Warning, out)),
    };
    Options(options.iter().map(|(name, option)| (*name, value(&option.value, out))).collect())
}

/// Reports options that mean nothing with the component's format.
pub fn of_other_formats(
    about: &[OptionInfo],
    options: &[(&'static str, Spanned<RawOption>)],
    format: Option<Format>,
    out: &mut Diagnostics,
) {
    let Some(format) = format else { return };
    for (name, option) in options {
        let own = about.iter().find(|info| info.name == *name).and_then(|info| info.format);
        let Some(own) = own.filter(|&own| own != format.word()) else { continue };
        let message = format!("`{name}` is an option of {own}, and this is {}", format.word());
        let wrong = Diagnostic::error(Code::Conflict, option.span, message);
        out.add(wrong.hint(format!("leave `{name}` out, or write `format = \"{own}\"`")));
    }
}

/// Reports a source that feeds a transform which needs its time, and has none.
pub fn no_event_time(source: &Source, transform: &Spanned<String>, out: &mut Diagnostics) {
    let name = &source.name.value;
    let message = format!(
        "the source `{name}` has no event time, but {} needs one",
        quoted(&[&transform.value])
    );
    out.add(
        Diagnostic::error(Code::NoEventTime, source.name.span, message)
            .also(transform.span, "works in event time")
            .hint("write `event_time = \"COLUMN\"`, or `time = \"processing\"`"),
    );
}
