//! A checked pipeline as data: what the shards are built from. Names are places by now, texts are
//! programs, and every output has its schema.
//!
//! 1. `transforms` are in topological order: each one's inputs come before it.
//! 2. Output 0 of a component is the one without a name; `key` and other columns are places in the
//!    input's rows.

use std::sync::Arc;

use crate::expr::{AggregateSelect, Condition, MatchSelect, Program, Projection};
use crate::ground::schema::{DataType, SchemaRef};
use crate::ops::pattern::ast::Ast;

use super::catalogue::OptionValue;
use super::diagnostic::Span;
pub use super::raw::component::WatermarkEmit;
pub use super::raw::pattern::PatternEmit;
pub use super::raw::settings::{Backend, Compression, Mode, Profile};
pub use super::raw::transform::{JoinKind, Keep, Side, Unmatched};
use super::rules::RuleBook;

/// A checked pipeline.
#[derive(Clone)]
pub struct Pipeline {
    pub name: String,
    pub engine: EngineSettings,
    pub checkpoint: CheckpointSettings,
    pub state: StateSettings,
    pub sources: Vec<SourcePlan>,
    pub transforms: Vec<TransformPlan>,
    pub sinks: Vec<SinkPlan>,
    pub tests: Vec<TestPlan>,
}

/// How many shards, and on which processors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// One for each processor that this process may use.
    All,
    /// So many, at least 1; where there are fewer processors, they share them.
    Count(usize),
    /// One on each of these, none twice.
    List(Vec<usize>),
}

/// `[engine]`, with defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    pub cores: Cores,
    pub data_dir: String,
    /// 1 to [`crate::ground::limits::BATCH_ROWS_MAX`].
    pub batch_rows: usize,
    pub batch_timeout_ms: i64,
    /// Address to serve metrics at; none opens no port.
    pub http: Option<std::net::SocketAddr>,
}

/// When barriers overtake rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unaligned {
    Never,
    Always,
    AfterMs(i64),
}

/// `[checkpoint]`, with defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointSettings {
    /// Whether the file has a `[checkpoint]`: without one a run keeps nothing for the next.
    pub is_given: bool,
    /// None: no periodic checkpoints.
    pub interval_ms: Option<i64>,
    pub mode: Mode,
    pub timeout_ms: i64,
    pub min_pause_ms: i64,
    pub tolerable_failures: usize,
    pub retained: usize,
    pub unaligned: Unaligned,
    pub remote: Option<String>,
}

/// `[state]`, with defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSettings {
    pub backend: Backend,
    /// Per shard.
    pub memory_bytes: u64,
    pub profile: Profile,
    pub compression: Compression,
}

/// One output of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputPlan {
    /// Empty for output 0.
    pub name: String,
    pub schema: SchemaRef,
    /// Whether anybody reads it.
    pub is_read: bool,
}

/// A component that has outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Node {
    /// Place in [`Pipeline::sources`].
    Source(usize),
    /// Place in [`Pipeline::transforms`].
    Transform(usize),
}

/// One output of one component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRef {
    pub node: Node,
    /// Place in its `outputs`.
    pub port: usize,
}

/// Text formats of connectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Csv,
    Native,
    Avro,
    Raw,
    Parquet,
}

impl Format {
    /// As it is written in the file.
    pub fn word(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Csv => "csv",
            Format::Native => "native",
            Format::Avro => "avro",
            Format::Raw => "raw",
            Format::Parquet => "parquet",
        }
    }
}

/// Options of a connector, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options(pub Vec<(&'static str, OptionValue)>);

impl Options {
    /// An option's value.
    pub fn get(&self, name: &str) -> Option<&OptionValue> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// An option's text, word or path.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(OptionValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// An option's number.
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.get(name) {
            Some(OptionValue::Integer(number) | OptionValue::Millis(number)) => Some(*number),
            _ => None,
        }
    }

    /// An option's number.
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.get(name) {
            Some(OptionValue::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// An option's yes or no.
    pub fn boolean(&self, name: &str) -> Option<bool> {
        match self.get(name) {
            Some(OptionValue::Boolean(is)) => Some(*is),
            _ => None,
        }
    }

    /// An option's rows, one JSON object each.
    pub fn rows(&self, name: &str) -> Option<&[String]> {
        match self.get(name) {
            Some(OptionValue::Rows(rows)) => Some(rows),
            _ => None,
        }
    }
}

/// Where the time of a source's rows comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowTime {
    /// This TIMESTAMP column; a row in which it is NULL is rejected.
    Column(usize),
    /// The clock when an operator sees the row.
    Processing,
    /// The clock when the source reads the row.
    Ingestion,
    /// Rows have no time: nothing behind the source needs one.
    None,
}

/// What moves a source's watermark.
#[derive(Clone)]
pub enum WatermarkKind {
    /// Largest event time seen, less `delay_ms`, less 1.
    Bounded { delay_ms: i64 },
    /// The event time of a row for which the condition is true, less 1.
    Punctuated { condition: Box<Program> },
}

/// `watermark`, with defaults.
#[derive(Clone)]
pub struct WatermarkPlan {
    pub kind: WatermarkKind,
    pub emit: WatermarkEmit,
    /// A partition idle for so long holds nothing back.
    pub idle_after_ms: Option<i64>,
}

/// A source.
#[derive(Clone)]
pub struct SourcePlan {
    pub name: String,
    /// Where its `type` is written.
    pub type_at: Span,
    /// Its `type`.
    pub connector: &'static str,
    /// What a decoder needs: columns with their paths in nested input.
    pub schema: SchemaRef,
    pub format: Option<Format>,
    pub options: Options,
    pub time: RowTime,
    pub watermark: WatermarkPlan,
    /// It feeds lookups' tables and nothing else, so it never holds a watermark back.
    pub feeds_only_tables: bool,
    /// The rows (`schema` without paths) and `rejected`.
    pub outputs: Vec<OutputPlan>,
}

/// A transform.
#[derive(Clone)]
pub struct TransformPlan {
    pub name: String,
    /// Where its `type` is written.
    pub type_at: Span,
    pub inputs: Vec<PortRef>,
    /// The columns of its inputs' rows: one schema for all of them, or two for a join.
    pub input_schemas: Vec<SchemaRef>,
    /// Key columns; none for a transform without a key. A join has its own in [`JoinSpec::on`].
    pub key: Vec<usize>,
    pub outputs: Vec<OutputPlan>,
    pub kind: TransformKind,
}

/// What a transform does.
#[derive(Clone)]
pub enum TransformKind {
    Filter(FilterSpec),
    Map(MapSpec),
    FlatMap(FlatMapSpec),
    Route(RouteSpec),
    Lookup(LookupSpec),
    Window(WindowSpec),
    Aggregate(AggregateSpec),
    Pattern(Box<PatternPlan>),
    Rules(RulesPlan),
    Join(Box<JoinSpec>),
    Over(OverSpec),
    Dedup(DedupSpec),
    TopN(TopNSpec),
    Timeout(TimeoutSpec),
    /// Rows of all inputs as they are.
    Union,
}

impl TransformKind {
    /// Its `type`.
    pub fn word(&self) -> &'static str {
        match self {
            TransformKind::Filter(_) => "filter",
            TransformKind::Map(_) => "map",
            TransformKind::FlatMap(_) => "flat_map",
            TransformKind::Route(_) => "route",
            TransformKind::Lookup(_) => "lookup",
            TransformKind::Window(_) => "window",
            TransformKind::Aggregate(_) => "aggregate",
            TransformKind::Pattern(_) | TransformKind::Rules(_) => "pattern",
            TransformKind::Join(_) => "join",
            TransformKind::Over(_) => "over",
            TransformKind::Dedup(_) => "dedup",
            TransformKind::TopN(_) => "top_n",
            TransformKind::Timeout(_) => "timeout",
            TransformKind::Union => "union",
        }
    }
}

/// Rows for which `condition` is true.
#[derive(Clone)]
pub struct FilterSpec {
    /// BOOLEAN.
    pub condition: Program,
}

/// Each row as a new one.
#[derive(Clone)]
pub struct MapSpec {
    pub select: Projection,
}

/// Each row as often as `each` has elements; an element goes into a column behind the row's own.
#[derive(Clone)]
pub struct FlatMapSpec {
    /// An array of `element`.
    pub each: Program,
    pub element: DataType,
}

/// Rows to output i + 1 for every condition i that is true, to output 0 if none is (as in Vector).
#[derive(Clone)]
pub struct RouteSpec {
    /// BOOLEAN each.
    pub conditions: Vec<Program>,
}

/// Rows with columns of a table's row added.
#[derive(Clone)]
pub struct LookupSpec {
    /// Place in [`Pipeline::sources`].
    pub table: usize,
    pub table_schema: SchemaRef,
    /// Input column and the table column equal to it, of one type; together the table's key.
    pub on: Vec<(usize, usize)>,
    /// Over the table's rows; behind the input's columns in the output.
    pub add: Projection,
    /// What is added as it is written, in order.
    pub add_texts: Vec<String>,
    /// With [`Unmatched::Route`], output 1 has the input's rows.
    pub unmatched: Unmatched,
    pub wait_for_table: bool,
}

/// Which rows belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    Tumbling {
        size_ms: i64,
        offset_ms: i64,
    },
    Sliding {
        size_ms: i64,
        slide_ms: i64,
        offset_ms: i64,
    },
    Session {
        gap_ms: i64,
    },
    /// Every `slide` rows the last `size` ones.
    Count {
        size: u64,
        slide: u64,
    },
    /// From the start of `size_ms` to each multiple of `step_ms` in it.
    Cumulative {
        size_ms: i64,
        step_ms: i64,
        offset_ms: i64,
    },
}

/// When a window fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowEmit {
    OnClose,
    /// Also every so many ms before.
    Early(i64),
}

/// Aggregates over windows. Output 1 is `late`.
#[derive(Clone)]
pub struct WindowSpec {
    pub kind: WindowKind,
    pub allowed_lateness_ms: i64,
    pub emit: WindowEmit,
    /// With the window's bounds in its row, except for [`WindowKind::Count`].
    pub select: AggregateSelect,
}

/// Running aggregates.
#[derive(Clone)]
pub struct AggregateSpec {
    pub select: AggregateSelect,
    /// None: a row for each row.
    pub emit_every_ms: Option<i64>,
}

/// Sequences of rows. Output 1 is `late`, output 2 `timed_out` (the columns of `select`, all
/// nullable). With [`PatternEmit::Eager`] output 0 has `match_id` and `status` behind `select`.
#[derive(Clone)]
pub struct PatternPlan {
    pub ast: Ast,
    /// Each `where` and `until`, equal texts once; the steps name their places.
    pub conditions: Vec<Condition>,
    /// What they are in the file.
    pub texts: Vec<String>,
    pub select: MatchSelect,
    pub emit: PatternEmit,
    /// So many open partial matches a key may have.
    pub partials_max: Option<usize>,
}

/// Patterns that stand in files of their own and may change while the pipeline runs. Outputs as a
/// [`PatternPlan`]'s; the columns `rule` and `rule_version` stand before the others.
#[derive(Clone)]
pub struct RulesPlan {
    /// Which files, as written.
    pub files: String,
    /// Where that is written.
    pub files_at: Span,
    pub input: SchemaRef,
    /// What every rule selects.
    pub columns: SchemaRef,
    /// Those that are in force now, whatever copy of the plan is asked.
    pub book: Arc<RuleBook>,
}

/// Which rows of the two sides meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinWay {
    /// right.time - left.time within these, both included.
    Interval { lower_ms: i64, upper_ms: i64 },
    /// Those of one window.
    Window { window: WindowKind, allowed_lateness_ms: i64 },
    /// The version of this side that is valid at the other's time.
    AsOf(Side),
}

/// Two inputs joined. Output 1 is `late`.
#[derive(Clone)]
pub struct JoinSpec {
    pub kind: JoinKind,
    /// Columns of left and right that are equal.
    pub on: Vec<(usize, usize)>,
    pub way: JoinWay,
    /// Over left's columns, right's, and for a window join `window_start` and `window_end`.
    pub select: Projection,
}

/// Each row with aggregates over rows before it. Output 1 is `late`.
#[derive(Clone)]
pub struct OverSpec {
    pub frame: OverFrame,
    pub include_current: bool,
    /// Their results stand behind the row's own columns.
    pub add: AggregateSelect,
}

/// Which rows before a row count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverFrame {
    /// Those in (t - delay - range, t - delay].
    Range { range_ms: i64, delay_ms: i64 },
    /// So many.
    Rows(u64),
}

/// One row a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupSpec {
    pub keep: Keep,
    /// A key is forgotten so long after.
    pub ttl_ms: Option<i64>,
}

/// One of the things to sort by.
#[derive(Clone)]
pub struct OrderBy {
    pub by: Program,
    pub descending: bool,
}

/// The first `n` rows of each key. With a window, output 1 is `late`.
#[derive(Clone)]
pub struct TopNSpec {
    pub n: usize,
    pub order_by: Vec<OrderBy>,
    pub window: Option<WindowKind>,
}

/// A row when a key has been silent.
#[derive(Clone)]
pub struct TimeoutSpec {
    pub after_ms: i64,
    pub select: AggregateSelect,
}

/// A sink.
#[derive(Clone)]
pub struct SinkPlan {
    pub name: String,
    /// Where its `type` is written.
    pub type_at: Span,
    /// Its `type`.
    pub connector: &'static str,
    pub inputs: Vec<SinkInput>,
    pub format: Option<Format>,
    pub timestamps_rfc3339: bool,
    pub options: Options,
}

/// What one input of a sink brings.
#[derive(Clone)]
pub struct SinkInput {
    pub port: PortRef,
    pub schema: SchemaRef,
    /// Names the sub-folder of a row; a STRING.
    pub partition_by: Option<Program>,
    /// Makes a row that comes again replace itself.
    pub id: Option<Program>,
}

/// `[[tests]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestPlan {
    pub name: String,
    /// Rows for sources (by place), one JSON object each.
    pub rows: Vec<(usize, Vec<String>)>,
    pub expect: Vec<(Expected, Vec<String>)>,
}

/// Where a test looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Output(PortRef),
    /// Place in [`Pipeline::sinks`].
    Sink(usize),
}

impl Pipeline {
    /// The name of a component with outputs.
    pub fn name_of(&self, node: Node) -> &str {
        match node {
            Node::Source(at) => &self.sources[at].name,
            Node::Transform(at) => &self.transforms[at].name,
        }
    }

    /// The outputs of a component.
    pub fn outputs_of(&self, node: Node) -> &[OutputPlan] {
        match node {
            Node::Source(at) => &self.sources[at].outputs,
            Node::Transform(at) => &self.transforms[at].outputs,
        }
    }

    /// One output, to be changed.
    ///
    /// # Panics
    /// As [`Pipeline::output`].
    pub fn output_mut(&mut self, port: PortRef) -> &mut OutputPlan {
        match port.node {
            Node::Source(at) => &mut self.sources[at].outputs[port.port],
            Node::Transform(at) => &mut self.transforms[at].outputs[port.port],
        }
    }

    /// One output.
    ///
    /// # Panics
    /// If there is no such output; places in a pipeline are all right.
    pub fn output(&self, port: PortRef) -> &OutputPlan {
        &self.outputs_of(port.node)[port.port]
    }
}
