//! Sinks: formats, what the inputs may be, and what a sink can promise.

use super::expr::{compile, report};
use super::source::{format, of_other_formats, options};
use super::wiring::Link;
use crate::expr::{Program, Scope};
use crate::ground::schema::{DataType, Schema, SchemaRef};
use crate::plan::catalogue::{Connector, Delivery};
use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Diagnostics};
use crate::plan::graph::{CheckpointSettings, Format, Mode, SinkInput, SinkPlan};
use crate::plan::raw::component::{Sink, Timestamps};
use crate::plan::raw::settings::Checkpoint;
use crate::plan::raw::text::Text;

/// Checks a sink. `inputs` are those that exist, with their columns where these are known.
pub fn sink(
    sink: &Sink,
    inputs: &[(Link, Option<SchemaRef>)],
    checkpoint: Option<&Checkpoint>,
    settings: &CheckpointSettings,
    out: &mut Diagnostics,
) -> Option<SinkPlan> {
    let connector = sink.connector?;
    let format = format(connector, sink.format.as_ref(), sink.type_at, out);
    delivery(sink, connector, checkpoint, settings, out);
    one_schema(sink, format, inputs, out);
    let empty = Schema { columns: Vec::new() };
    of_other_formats(connector.options, &sink.options, format, out);
    let mut plan = SinkPlan {
        name: sink.name.value.clone(),
        type_at: sink.type_at,
        connector: connector.name,
        inputs: Vec::new(),
        format,
        timestamps_rfc3339: sink
            .timestamps
            .as_ref()
            .is_some_and(|timestamps| timestamps.value == Timestamps::Rfc3339),
        options: options(&sink.options, &empty, out),
    };
    for (link, schema) in inputs {
        let Some(schema) = schema else { continue };
        let scope = Scope::of(schema);
        let mut per_row = |text: &Option<Text>, what| {
            let text = text.as_ref()?;
            let program = compile(text, &scope, out)?;
            word(text, what, program, out)
        };
        let id = per_row(&sink.id, "an id");
        let partition_by = per_row(&sink.partition_by, "a folder's name").and_then(|_| {
            let text = sink.partition_by.as_ref()?;
            Program::text(&text.value, &scope).map_err(|error| report(text, error, out)).ok()
        });
        plan.inputs.push(SinkInput { port: link.port, schema: schema.clone(), partition_by, id });
    }
    Some(plan)
}

/// A value that can name something.
fn word(text: &Text, what: &str, program: Program, out: &mut Diagnostics) -> Option<Program> {
    match program.data_type() {
        DataType::Array(_) | DataType::Bytes => {
            let expected = "of a type that can be written as a word";
            super::expr::wrong_type(text.span, what, expected, program.data_type(), out);
            None
        }
        _ => Some(program),
    }
}

/// Formats whose files have one list of columns take rows of one schema.
fn one_schema(
    sink: &Sink,
    format: Option<Format>,
    inputs: &[(Link, Option<SchemaRef>)],
    out: &mut Diagnostics,
) {
    let is_fixed =
        matches!(format, Some(Format::Csv | Format::Native | Format::Avro | Format::Parquet));
    if !is_fixed {
        return;
    }
    let known: Vec<(&Link, &SchemaRef)> =
        inputs.iter().filter_map(|(link, schema)| Some((link, schema.as_ref()?))).collect();
    for (link, schema) in known.iter().skip(1) {
        super::inputs_agree(known[0].1, schema, known[0].0.span, link.span, out);
    }
    if format != Some(Format::Csv) {
        return;
    }
    for (link, schema) in known {
        let arrays = schema.columns.iter().filter(|c| matches!(c.data_type, DataType::Array(_)));
        for column in arrays {
            let message = format!("csv cannot hold the column `{}`, an array", column.name);
            let wrong = Diagnostic::error(Code::BadFormat, link.span, message);
            out.add(wrong.hint(format!("write the sink `{}` as json", sink.name.value)));
        }
    }
}

/// `mode = "exactly_once"` is a promise; a sink that cannot keep it is refused where the file asks
/// for it in so many words, and warned of where it is the default.
fn delivery(
    sink: &Sink,
    connector: &Connector,
    checkpoint: Option<&Checkpoint>,
    settings: &CheckpointSettings,
    out: &mut Diagnostics,
) {
    let Some(checkpoint) = checkpoint else { return };
    let hint = match connector.delivery {
        Delivery::Transactional => return,
        Delivery::ById if sink.id.is_some() => return,
        Delivery::ById => {
            "give it `id = \"expr\"`, so that a row that comes again replaces itself, or set `mode = \"at_least_once\"`"
        }
        Delivery::AtLeastOnce => {
            "write to a file, Kafka or PostgreSQL, or set `mode = \"at_least_once\"`"
        }
    };
    if settings.mode != Mode::ExactlyOnce || settings.interval_ms.is_none() {
        return;
    }
    let message = format!(
        "the sink `{}` cannot promise exactly once: rows that were put out before a crash would come again",
        sink.name.value
    );
    out.add(match &checkpoint.mode {
        Some(mode) => Diagnostic::error(Code::NotExactlyOnce, sink.type_at, message)
            .also(mode.span, "asked for here")
            .hint(hint),
        None => Diagnostic::warning(Code::NotExactlyOnce, sink.type_at, message).hint(hint),
    });
}
