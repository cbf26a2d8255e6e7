//! `cutwater test`: runs the `[[tests]]` of a pipeline file, each through the whole engine.
//!
//! A test is the pipeline with other ends: its rows instead of what sources read, and a folder of
//! its own instead of each sink, one for each thing that the test looks at. No connector of the
//! file is opened, nothing of its `data_dir` is touched.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::arguments::{Restore, Test};
use super::engine::{self, Job, Live};
use super::load::load;
use super::scratch::Scratch;
use super::{FAILED, OK, WRONG, eprint, print, stderr_is_styled};
use crate::codec::{self, DecodeOptions, EncodeOptions};
use crate::ground::batch::BatchBuilder;
use crate::ground::schema::Schema;
use crate::plan::catalogue::OptionValue;
use crate::plan::graph::{
    CheckpointSettings, Cores, Expected, Format, Options, Pipeline, PortRef, SinkInput, SinkPlan,
    TestPlan, Unaligned,
};

/// Bytes that a decoder wants behind its lines.
const PADDING: usize = 64;

/// Rows as lines of JSON, and how often each is there.
type Lines = BTreeMap<String, usize>;

/// Runs the tests of a file whose names contain the filter; gives the exit code.
pub fn test(arguments: &Test) -> u8 {
    let loaded = load(&arguments.pipeline);
    let styled = stderr_is_styled();
    eprint(&loaded.shown(styled));
    let unbuilt = loaded.unbuilt(styled);
    let Some(pipeline) = loaded.pipeline else {
        return WRONG;
    };
    if !unbuilt.is_empty() {
        eprint(&unbuilt);
        return WRONG;
    }
    let filter = arguments.filter.as_deref().unwrap_or_default();
    let chosen: Vec<&TestPlan> =
        pipeline.tests.iter().filter(|test| test.name.contains(filter)).collect();
    if chosen.is_empty() {
        let why = match pipeline.tests.len() {
            0 => "it has no [[tests]]".to_string(),
            all => format!("none of its {all} tests has `{filter}` in its name"),
        };
        eprint(&format!("note: {}: {why}\n", loaded.path));
    }
    let mut failures = Vec::new();
    for test in &chosen {
        let outcome = run(&pipeline, test);
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        print(&format!("test {} ... {word}\n", test.name));
        failures.extend(outcome.err().map(|why| (&test.name, why)));
    }
    for (name, why) in &failures {
        print(&format!("\n{name}:\n{why}"));
    }
    let (failed, passed) = (failures.len(), chosen.len() - failures.len());
    print(&format!("\n{}: {passed} passed, {failed} failed\n", loaded.path));
    if failed == 0 { OK } else { FAILED }
}

/// Runs one test.
///
/// # Errors
/// What was expected and did not come, and what came unexpected; or why it could not run.
fn run(pipeline: &Pipeline, test: &TestPlan) -> Result<(), String> {
    let folder = Scratch::new("test")
        .map_err(|error| format!("  there is no place for a test's output: {error}\n"))?;
    let looked: Vec<Vec<PortRef>> =
        test.expect.iter().map(|(place, _)| ports(pipeline, *place)).collect();
    let changed = with_other_ends(pipeline, test, &looked, folder.path());
    let live = Arc::new(Live::new(&changed));
    let stop = Arc::new(AtomicBool::new(false));
    let job =
        Job { pipeline: changed, restore: Restore::None, stop, live, started: Instant::now() };
    engine::run(job).map_err(|error| format!("  the run failed: {error}\n"))?;
    let mut differences = String::new();
    for (at, ((place, lines), ports)) in test.expect.iter().zip(&looked).enumerate() {
        let schemas = ports.iter().map(|port| &*pipeline.output(*port).schema);
        let expected = told(&schemas.collect::<Vec<_>>(), lines)?;
        let got = seen(&folder.path().join(at.to_string()))?;
        differences += &difference(&name_of(pipeline, *place), &expected, &got);
    }
    if differences.is_empty() { Ok(()) } else { Err(differences) }
}

/// The outputs that a test looks at in one place.
fn ports(pipeline: &Pipeline, place: Expected) -> Vec<PortRef> {
    match place {
        Expected::Output(port) => vec![port],
        Expected::Sink(at) => pipeline.sinks[at].inputs.iter().map(|input| input.port).collect(),
    }
}

fn name_of(pipeline: &Pipeline, place: Expected) -> String {
    match place {
        Expected::Sink(at) => pipeline.sinks[at].name.clone(),
        Expected::Output(port) => {
            let (name, output) = (pipeline.name_of(port.node), &pipeline.output(port).name);
            if output.is_empty() { name.to_string() } else { format!("{name}.{output}") }
        }
    }
}

/// The pipeline with a test's rows for sources and a folder for each thing that it looks at.
fn with_other_ends(
    pipeline: &Pipeline,
    test: &TestPlan,
    looked: &[Vec<PortRef>],
    folder: &Path,
) -> Pipeline {
    let mut changed = pipeline.clone();
    changed.engine.cores = Cores::Count(1);
    changed.engine.data_dir = folder.join("data").display().to_string();
    changed.engine.http = None;
    changed.checkpoint = CheckpointSettings {
        is_given: false,
        interval_ms: None,
        unaligned: Unaligned::Never,
        remote: None,
        ..changed.checkpoint
    };
    for (at, source) in changed.sources.iter_mut().enumerate() {
        let own = test.rows.iter().filter(|(place, _)| *place == at);
        let rows = own.flat_map(|(_, rows)| rows.iter().cloned()).collect();
        source.connector = "values";
        source.format = Some(Format::Json);
        source.options = Options(vec![("rows", OptionValue::Rows(rows))]);
    }
    // What is not looked at goes nowhere, so that everything still runs.
    for sink in &mut changed.sinks {
        sink.connector = "blackhole";
        sink.format = None;
        sink.inputs.iter_mut().for_each(|input| input.partition_by = None);
    }
    for (at, ports) in looked.iter().enumerate() {
        let input = |port: &PortRef| SinkInput {
            port: *port,
            schema: pipeline.output(*port).schema.clone(),
            partition_by: None,
            id: None,
        };
        let path = folder.join(at.to_string()).display().to_string();
        changed.sinks.push(SinkPlan {
            name: format!("test.{at}"),
            type_at: crate::plan::diagnostic::Span::FILE,
            connector: "file",
            inputs: ports.iter().map(input).collect(),
            format: Some(Format::Json),
            timestamps_rfc3339: false,
            options: Options(vec![("path", OptionValue::Text(path))]),
        });
        ports.iter().for_each(|port| changed.output_mut(*port).is_read = true);
    }
    changed.tests = Vec::new();
    changed
}

/// Expected rows as the engine would write them: columns in their order, those that a row does not
/// name as NULL.
fn told(schemas: &[&Schema], lines: &[String]) -> Result<Lines, String> {
    let mut all = Lines::new();
    let [schema] = schemas else {
        // Rows of several schemas: the text has to do.
        lines.iter().for_each(|line| *all.entry(line.clone()).or_default() += 1);
        return Ok(all);
    };
    let mut nullable = (*schema).clone();
    for column in &mut nullable.columns {
        column.nullable = true;
        column.path = Vec::new();
    }
    let failed = |error: codec::CodecError| format!("  {error}\n");
    let options = DecodeOptions::default();
    let mut decoder = codec::decoder(codec::Format::Json, &nullable, &options).map_err(failed)?;
    let options = EncodeOptions::default();
    let mut encoder = codec::encoder(codec::Format::Json, schema, &options).map_err(failed)?;
    for line in lines {
        let mut padded = format!("{line}\n").into_bytes();
        let (len, mut at) = (padded.len(), 0);
        padded.resize(len + PADDING, 0);
        let mut rows = BatchBuilder::new(nullable.columns.len(), 1);
        let mut rejected = BatchBuilder::new(3, 0);
        let padded = &padded;
        decoder.decode(padded, len, &mut at, "test", 0, 1, &mut rows, &mut rejected);
        if rows.rows() != 1 {
            return Err(format!("  the expected row {line} does not fit its columns\n"));
        }
        let mut out = Vec::new();
        encoder.encode(&rows.finish(), &[0], &mut out);
        *all.entry(String::from_utf8_lossy(&out).trim_end().to_string()).or_default() += 1;
    }
    Ok(all)
}

/// The rows that a test's sink has written.
fn seen(folder: &Path) -> Result<Lines, String> {
    let failed = |error: std::io::Error| format!("  cannot read the test's output: {error}\n");
    let mut all = Lines::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            let text = fs::read_to_string(&path).map_err(failed)?;
            text.lines().for_each(|line| *all.entry(line.to_string()).or_default() += 1);
        }
    }
    Ok(all)
}

/// What is in one and not in the other, for people; empty if nothing is.
fn difference(place: &str, expected: &Lines, got: &Lines) -> String {
    let without = |one: &Lines, other: &Lines, mark: char| -> String {
        let more = one.iter().flat_map(|(line, &count)| {
            let there = other.get(line).copied().unwrap_or(0);
            std::iter::repeat_n(line, count.saturating_sub(there))
        });
        more.map(|line| format!("    {mark} {line}\n")).collect()
    };
    let (missing, extra) = (without(expected, got, '-'), without(got, expected, '+'));
    if missing.is_empty() && extra.is_empty() {
        return String::new();
    }
    let count = |lines: &Lines| lines.values().sum::<usize>();
    let (wanted, came) = (count(expected), count(got));
    format!(
        "  {place}: {wanted} rows expected, {came} came (- expected only, + came only)\n\
         {missing}{extra}"
    )
}
