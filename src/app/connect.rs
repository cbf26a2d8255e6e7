//! From the connectors that a pipeline names to those of this build: options turned into what each
//! one opens with, readers, decoders, encoders and writers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::app::by_folder::ByFolder;
use crate::codec::{self, DecodeOptions, EncodeOptions, Encoder};
use crate::edge::decode::{BlockDecode, Rows};
use crate::edge::file::folders::sub_folders;
use crate::edge::file::{Contents, FileSinkOptions, FileSourceOptions, parts};
use crate::edge::generator::{self, GeneratorOptions, Table, WorkloadOptions};
use crate::edge::socket::{SocketMode, SocketSourceOptions};
use crate::edge::stdout::StdoutSinkOptions;
use crate::edge::values::ValuesOptions;
use crate::edge::{SinkOptions, SourceOptions, open_sinks, open_source};
use crate::flow::RunError;
use crate::ground::batch::RecordBatch;
use crate::ground::schema::Schema;
use crate::plan::build::Connect;
use crate::plan::graph::{Format, Pipeline, RowTime, SinkPlan, SourcePlan};
use crate::port::{Decode, Encode, PortError, Sink, Source};

/// A sink's writers, one for each shard.
type OfShards = Vec<Option<Box<dyn Sink>>>;

/// Epochs that were durable when the run began.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The one that the run goes on from.
    pub durable: Option<u64>,
    /// The newest one in the `data_dir`, which may be newer than that.
    pub newest: Option<u64>,
    /// Parts up to this epoch are of the past of the one that the run goes on from.
    pub shared: u64,
}

/// The connectors of one run.
pub struct Connectors {
    /// Generators' rows, by source: their tables are made once for all shards.
    made: BTreeMap<String, generator::Rows>,
    /// Sinks by name, one for each shard, until the shard takes its own.
    sinks: Mutex<BTreeMap<String, OfShards>>,
}

impl Connectors {
    /// Opens the sinks for `shards` and prepares what sources share. A run that goes on behind a
    /// durable epoch makes the parts up to it seen and drops or sets aside later ones; otherwise
    /// output of earlier runs is set aside. `notes` says so.
    ///
    /// # Errors
    /// [`RunError`] that names the component and what to do.
    pub fn open(
        pipeline: &Pipeline,
        shards: usize,
        seen: Seen,
        notes: &mut Vec<String>,
    ) -> Result<Arc<Connectors>, RunError> {
        let mut made = BTreeMap::new();
        for plan in pipeline.sources.iter().filter(|plan| plan.connector == "generator") {
            let rows = generator::Rows::new(&generator_of(plan));
            let rows = rows.map_err(|error| RunError::of(&plan.name, error))?;
            fits(plan, &rows.schema())?;
            made.insert(plan.name.clone(), rows);
        }
        let mut sinks = BTreeMap::new();
        let mut folders = Folders::default();
        for plan in &pipeline.sinks {
            let failed = |error| RunError::of(&plan.name, error);
            let options = sink_of(plan)?;
            match seen.durable {
                Some(_) => {
                    // What is durable is set aside below, not dropped, though it was not seen yet.
                    if let Some(newest) = seen.newest.filter(|newest| *newest > seen.shared) {
                        settle(&options, newest).map_err(failed)?;
                    }
                    settle(&options, seen.shared).map_err(failed)?;
                }
                None => notes.extend(set_aside(&plan.name, &options).map_err(failed)?),
            }
            let opened = open_sinks(&options, shards).map_err(failed)?;
            if let SinkOptions::File(options) | SinkOptions::Folders(options) = &options {
                folders.add(&plan.name, &options.folder)?;
            }
            sinks.insert(plan.name.clone(), opened.into_iter().map(Some).collect());
        }
        Ok(Arc::new(Connectors { made, sinks: Mutex::new(sinks) }))
    }
}

/// All folders into which a sink writes parts.
fn folders_of(options: &SinkOptions) -> Result<Vec<PathBuf>, PortError> {
    Ok(match options {
        SinkOptions::File(options) => vec![options.folder.clone()],
        SinkOptions::Folders(options) => {
            let mut all = sub_folders(&options.folder)?;
            all.push(options.folder.clone());
            all
        }
        _ => Vec::new(),
    })
}

/// Shows the parts of epochs up to `durable` that a crash left hidden, and drops later ones.
fn settle(options: &SinkOptions, durable: u64) -> Result<(), PortError> {
    for folder in folders_of(options)? {
        parts::settle(&folder, durable)?;
    }
    Ok(())
}

/// Moves the parts of a sink's earlier runs out of sight, and says so if there were any.
fn set_aside(name: &str, options: &SinkOptions) -> Result<Option<String>, PortError> {
    let folders = folders_of(options)?;
    let (mut moved, mut places) = (0, Vec::new());
    for folder in folders {
        let (parts, place) = parts::set_aside(&folder)?;
        moved += parts;
        places.extend(place.filter(|_| parts > 0));
    }
    let Some(last) = places.last() else { return Ok(None) };
    let others = match places.len() {
        1 => String::new(),
        count => format!(" and to {} folders like it", count - 1),
    };
    let last = last.display();
    Ok(Some(format!("{name}: {moved} parts of an earlier run were moved to {last}{others}")))
}

/// The folders of file sinks as they lie on the disk: the check of the file sees neither links nor
/// the present folder, and two sinks in one folder would overwrite each other's rows.
#[derive(Default)]
struct Folders(BTreeMap<PathBuf, String>);

impl Folders {
    /// Adds the folder of a sink that was just opened.
    fn add(&mut self, name: &str, folder: &Path) -> Result<(), RunError> {
        let real = folder.canonicalize().map_err(|error| {
            RunError::of(name, format!("cannot find `{}` again: {error}", folder.display()))
        })?;
        match self.0.insert(real, name.to_string()) {
            None => Ok(()),
            Some(other) => Err(RunError::of(
                name,
                format!(
                    "its folder `{}` is that of the sink `{other}` under another name; give each \
                     its own",
                    folder.display()
                ),
            )),
        }
    }
}

impl Connect for Connectors {
    fn source(&self, plan: &SourcePlan) -> Result<Box<dyn Source>, RunError> {
        open_source(&source_of(plan)).map_err(|error| RunError::of(&plan.name, error))
    }

    fn decode(&self, plan: &SourcePlan) -> Result<Box<dyn Decode>, RunError> {
        let rows = match self.made.get(&plan.name) {
            Some(rows) => Rows::Made(rows.clone()),
            None if plan.format == Some(Format::Native) => Rows::Frames,
            None => {
                let format = codec_format(&plan.name, plan.format)?;
                let options = DecodeOptions { event_time: event_time_of(plan) };
                let decoder = codec::decoder(format, &plan.schema, &options);
                Rows::Lines(decoder.map_err(|error| RunError::of(&plan.name, error))?)
            }
        };
        Ok(Box::new(BlockDecode::new(rows, plan.schema.clone())))
    }

    fn encode(&self, plan: &SinkPlan, input: usize) -> Result<Box<dyn Encode>, RunError> {
        if plan.format.is_none() {
            return Ok(Box::new(Nothing));
        }
        let encoder = encoder_of(plan, input)?;
        Ok(match &plan.inputs[input].partition_by {
            Some(by) => Box::new(ByFolder::new(by.clone(), encoder)),
            None => Box::new(Encoded(encoder)),
        })
    }

    fn sink(&self, plan: &SinkPlan, shard: usize) -> Result<(Box<dyn Sink>, bool), RunError> {
        let mut sinks = self.sinks.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let own = sinks.get_mut(&plan.name).and_then(|sinks| sinks.get_mut(shard)?.take());
        let own = own.ok_or_else(|| RunError::of(&plan.name, "its writer was taken twice"))?;
        Ok((own, plan.connector == "stdout"))
    }
}

struct Encoded(Box<dyn Encoder>);

impl Encode for Encoded {
    fn encode(&mut self, batch: &RecordBatch, select: &[u32], out: &mut Vec<u8>) {
        self.0.encode(batch, select, out);
    }
}

/// What a sink without a format writes.
struct Nothing;

impl Encode for Nothing {
    fn encode(&mut self, _: &RecordBatch, _: &[u32], _: &mut Vec<u8>) {}
}

fn encoder_of(plan: &SinkPlan, input: usize) -> Result<Box<dyn Encoder>, RunError> {
    let options = EncodeOptions {
        timestamps_rfc3339: plan.timestamps_rfc3339,
        csv_header: plan.options.boolean("header").unwrap_or(false),
    };
    let format = codec_format(&plan.name, plan.format)?;
    codec::encoder(format, &plan.inputs[input].schema, &options)
        .map_err(|error| RunError::of(&plan.name, error))
}

fn codec_format(name: &str, format: Option<Format>) -> Result<codec::Format, RunError> {
    match format {
        Some(Format::Json) | None => Ok(codec::Format::Json),
        Some(Format::Csv) => Ok(codec::Format::Csv),
        Some(Format::Native) => Ok(codec::Format::Native),
        Some(Format::Raw) => Ok(codec::Format::Raw),
        Some(Format::Avro | Format::Parquet) => {
            Err(RunError::of(name, "this version does not speak the format"))
        }
    }
}

fn path_of(name: &str) -> String {
    name.to_string()
}

fn source_of(plan: &SourcePlan) -> SourceOptions {
    let text = |option: &str| plan.options.text(option).unwrap_or_default().to_string();
    match plan.connector {
        "generator" => SourceOptions::Generator(generator_of(plan)),
        "socket" => SourceOptions::Socket(SocketSourceOptions {
            address: text("address"),
            mode: if text("mode") == "listen" { SocketMode::Listen } else { SocketMode::Connect },
        }),
        "values" => {
            let mut lines = plan.options.rows("rows").unwrap_or_default().join("\n");
            lines.push('\n');
            SourceOptions::Values(ValuesOptions {
                origin: format!("sources.{}", plan.name),
                text: lines,
            })
        }
        _ => SourceOptions::File(FileSourceOptions {
            path: path_of(&text("path")),
            contents: match plan.format {
                Some(Format::Native) => Contents::Native {
                    schema: plan.schema.clone(),
                    check: |text, schema| {
                        codec::native::check_schema(text, schema).map_err(|error| error.to_string())
                    },
                },
                Some(Format::Csv) if plan.options.boolean("header") == Some(true) => {
                    Contents::Headed {
                        schema: plan.schema.clone(),
                        event_time: event_time_of(plan),
                        check: |line, schema, event_time| {
                            let fields = codec::csv::header::fields(line, schema, event_time);
                            fields.map(|_| ()).map_err(|error| error.to_string())
                        },
                    }
                }
                _ => Contents::Lines,
            },
        }),
    }
}

/// The column of the event time, if it is one of the row's own.
fn event_time_of(plan: &SourcePlan) -> Option<usize> {
    match plan.time {
        RowTime::Column(column) => Some(column),
        _ => None,
    }
}

fn generator_of(plan: &SourcePlan) -> GeneratorOptions {
    let defaults = WorkloadOptions::default();
    let integer = |name: &str| plan.options.integer(name);
    let natural = |name: &str| integer(name).map(|value| value.max(0) as u64);
    GeneratorOptions {
        table: match plan.options.text("workload") {
            Some("profiles") => Table::Profiles,
            _ => Table::Transactions,
        },
        workload: WorkloadOptions {
            seed: natural("seed").unwrap_or(defaults.seed),
            users: natural("users").unwrap_or(defaults.users),
            merchants: natural("merchants").unwrap_or(defaults.merchants),
            skew: plan.options.number("skew").unwrap_or(defaults.skew),
            rate: plan.options.number("rate").unwrap_or(defaults.rate),
            start_ms: integer("start").unwrap_or(defaults.start_ms),
            disorder_ms: integer("disorder").unwrap_or(defaults.disorder_ms),
            late: plan.options.number("late").unwrap_or(defaults.late),
            late_by_ms: integer("late_by").unwrap_or(defaults.late_by_ms),
        },
        rows: natural("rows"),
        rows_per_second: plan.options.number("rows_per_second"),
    }
}

/// A generator's rows are what they are: the schema has to say so.
fn fits(plan: &SourcePlan, made: &Schema) -> Result<(), RunError> {
    let shown = |schema: &Schema| {
        let columns = schema.columns.iter();
        let shown = columns.map(|column| format!("{} {}", column.name, column.data_type));
        shown.collect::<Vec<_>>().join(", ")
    };
    let (own, made) = (shown(&plan.schema), shown(made));
    if own == made {
        return Ok(());
    }
    Err(RunError::of(&plan.name, format!("the generator makes rows of ({made}), not of ({own})")))
}

fn sink_of(plan: &SinkPlan) -> Result<SinkOptions, RunError> {
    Ok(match plan.connector {
        "stdout" => {
            let mut head = Vec::new();
            encoder_of(plan, 0)?.head(&mut head);
            SinkOptions::Stdout(StdoutSinkOptions { head })
        }
        "blackhole" => SinkOptions::Blackhole,
        _ => {
            let mut head = Vec::new();
            encoder_of(plan, 0)?.head(&mut head);
            let extension = match plan.format {
                Some(Format::Csv) => "csv",
                Some(Format::Native) => "cutwater",
                _ => "jsonl",
            };
            let options = FileSinkOptions {
                folder: PathBuf::from(plan.options.text("path").unwrap_or_default()),
                extension: extension.to_string(),
                head,
            };
            let in_folders = plan.inputs.iter().any(|input| input.partition_by.is_some());
            if in_folders { SinkOptions::Folders(options) } else { SinkOptions::File(options) }
        }
    })
}
