//! From a checked pipeline to a run: the readers, the layout that all shards share, and for each
//! shard its graph, built there.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use super::graph::{
    Node as PlanNode, Pipeline, PortRef, RowTime, SinkPlan, SourcePlan, TransformKind,
    TransformPlan, WatermarkEmit, WatermarkKind,
};
use super::operators;
use super::tables::{Over, Start, is_over, name_of, start_of};
use super::topology::Topology;
use crate::flow::RunError;
use crate::flow::chain::Chain;
use crate::flow::cold::StateSettings;
use crate::flow::epochs::Epochs;
use crate::flow::exchange::{Exchange, ExchangeInput};
use crate::flow::feed::Producer;
use crate::flow::flight::Flights;
use crate::flow::gauge::Gauges;
use crate::flow::graph::{
    EmitWatermark, EventTime, Node, ShardGraph, SinkNode, SourceNode, Target, Told,
};
use crate::flow::host_uring::Placement;
use crate::flow::latency::Latency;
use crate::flow::reader::Reader;
use crate::flow::run::{Build, RunPlan};
use crate::flow::snapshot::Restored;
use crate::flow::stage::{About, InputForm, Plain, Sorted, Stage};
use crate::flow::tables::{Known, Table, Tables};
use crate::ground::schema::{Column, DataType, Schema};
use crate::ground::time::{NEVER, Time};
use crate::ops::order::Order;
use crate::ops::order::ahead::Ahead;
use crate::ops::output::Outputs;
use crate::ops::pattern::strict::set::Sets;
use crate::port::{Decode, Encode, Sink, Source};
use xxhash_rust::xxh3::xxh3_64;

/// What opens connectors: `plan` knows none.
pub trait Connect: Send + Sync {
    /// The reading side of a source.
    ///
    /// # Errors
    /// [`RunError`] that names the source and what to do.
    fn source(&self, plan: &SourcePlan) -> Result<Box<dyn Source>, RunError>;

    /// The decoding side of a source, for one shard.
    ///
    /// # Errors
    /// As [`Connect::source`].
    fn decode(&self, plan: &SourcePlan) -> Result<Box<dyn Decode>, RunError>;

    /// The encoder of one input of a sink.
    ///
    /// # Errors
    /// As [`Connect::source`].
    fn encode(&self, plan: &SinkPlan, input: usize) -> Result<Box<dyn Encode>, RunError>;

    /// The writing side of a sink on one shard, and whether somebody watches what it writes.
    ///
    /// # Errors
    /// As [`Connect::source`].
    fn sink(&self, plan: &SinkPlan, shard: usize) -> Result<(Box<dyn Sink>, bool), RunError>;
}

/// Longest that a reader waits before it looks whether it should stop, ms.
const STOP_MS: u64 = 50;

/// Places of a pipeline's components in the run's gauges.
pub mod component {
    use super::Pipeline;

    /// How many there are.
    pub fn count(pipeline: &Pipeline) -> usize {
        pipeline.sources.len() + pipeline.transforms.len() + pipeline.sinks.len()
    }

    /// A source's place.
    pub fn source(at: usize) -> usize {
        at
    }

    /// A transform's place.
    pub fn transform(pipeline: &Pipeline, at: usize) -> usize {
        pipeline.sources.len() + at
    }

    /// A sink's place.
    pub fn sink(pipeline: &Pipeline, at: usize) -> usize {
        pipeline.sources.len() + pipeline.transforms.len() + at
    }
}

/// Opens the sources and lays out the run.
///
/// # Errors
/// [`RunError`] of a source that cannot be opened.
pub fn run_plan(
    pipeline: &Pipeline,
    placement: Placement,
    connect: Arc<dyn Connect>,
    gauges: Arc<Gauges>,
    epochs: Arc<Epochs>,
    from: From,
    state: Option<StateSettings>,
) -> Result<RunPlan, RunError> {
    let mut readers = Vec::new();
    let known = from.restored.as_deref().map(Known::of).transpose()?.unwrap_or_default();
    let mut starts = vec![Start::GoesOn; pipeline.sources.len()];
    for (at, plan) in pipeline.sources.iter().enumerate() {
        let resume = from.positions.iter().find(|(name, _)| *name == plan.name).map(|(_, at)| *at);
        let mut source = match connect.source(plan) {
            Err(_) if is_over(pipeline, at, &known) => Box::new(Over { position: resume }),
            source => source?,
        };
        if epochs.is_on() {
            starts[at] = start_of(pipeline, at, &*source, &from, &known)?;
        }
        if starts[at] == Start::IsOver {
            source = Box::new(Over { position: resume });
        }
        let timeout = (pipeline.engine.batch_timeout_ms.max(1) as u64).min(STOP_MS);
        readers.push(Reader {
            name: plan.name.clone(),
            wait_ms: if source.is_bounded() { STOP_MS } else { timeout },
            idle_after_ms: plan.watermark.idle_after_ms.map(|ms| ms.max(0) as u64),
            ticks_ns: None,
            place: at,
            resume: resume.filter(|_| starts[at] == Start::GoesOn),
            source,
        });
    }
    let bounded: Vec<bool> = readers.iter().map(|reader| reader.source.is_bounded()).collect();
    let topology = Arc::new(Topology::new(pipeline, placement.shards(), &bounded));
    let exchanges = topology.exchanges.clone();
    let (shared, keeps_changes) = (gauges.clone(), epochs.is_on());
    // Programs own their registers, so each shard has programs of its own.
    let template = Mutex::new(pipeline.clone());
    let build =
        Template { pipeline: template, topology, connect, gauges: shared, keeps_changes, starts };
    Ok(RunPlan {
        placement,
        readers,
        exchanges,
        build: Arc::new(build),
        gauges,
        epochs,
        restored: from.restored,
        state,
        started: None,
    })
}

/// Builds the graphs of a pipeline whose sources all end, without a run around them.
pub fn build_of(
    pipeline: &Pipeline,
    shards: usize,
    connect: Arc<dyn Connect>,
) -> impl Build + 'static {
    Template {
        pipeline: Mutex::new(pipeline.clone()),
        topology: Arc::new(Topology::new(pipeline, shards, &vec![true; pipeline.sources.len()])),
        connect,
        gauges: Arc::new(Gauges::new(component::count(pipeline), shards)),
        keeps_changes: false,
        starts: vec![Start::GoesOn; pipeline.sources.len()],
    }
}

/// Where a run goes on from.
#[derive(Default)]
pub struct From {
    /// Position of each source that can go on.
    pub positions: Vec<(String, u64)>,
    pub restored: Option<Arc<Restored>>,
}

/// What the graphs of all shards are made of.
struct Template {
    pipeline: Mutex<Pipeline>,
    topology: Arc<Topology>,
    connect: Arc<dyn Connect>,
    gauges: Arc<Gauges>,
    keeps_changes: bool,
    /// What becomes of each source's tables.
    starts: Vec<Start>,
}

impl Template {
    fn with<T>(&self, build: impl FnOnce(&Builder<'_>) -> T) -> T {
        let locked = self.pipeline.lock();
        let pipeline = locked.unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        build(&Builder {
            pipeline: &pipeline,
            topology: &self.topology,
            connect: &*self.connect,
            keeps_changes: self.keeps_changes,
            starts: &self.starts,
        })
    }
}

impl Build for Template {
    fn graph(&self, shard: usize) -> Result<ShardGraph, RunError> {
        self.with(|builder| builder.graph(shard, self.gauges.clone()))
    }

    fn stages(&self) -> Result<Vec<Stage>, RunError> {
        self.with(|builder| builder.stages())
    }
}

struct Builder<'a> {
    pipeline: &'a Pipeline,
    topology: &'a Topology,
    connect: &'a dyn Connect,
    keeps_changes: bool,
    starts: &'a [Start],
}

impl Builder<'_> {
    fn graph(&self, shard: usize, gauges: Arc<Gauges>) -> Result<ShardGraph, RunError> {
        let batch_rows = self.pipeline.engine.batch_rows;
        Ok(ShardGraph {
            shard,
            shards: self.topology.shards,
            batch_rows,
            gauges,
            sources: self.sources()?,
            nodes: self.nodes()?,
            exchanges: (0..self.topology.exchanges.len()).map(|at| self.exchange(at)).collect(),
            stages: self.stages()?,
            sinks: self.sinks(shard)?,
            arrival: None,
            shared: None,
            latency: Latency::default(),
            ticks_ns: Rc::new(|| 0),
            reached: self.reached(),
            all: Rc::default(),
            chain: Chain::default(),
            tables: Tables::new(self.tables()),
            flights: Flights::default(),
            keeps_changes: self.keeps_changes,
            is_cold: false,
        })
    }

    fn tables(&self) -> Vec<Table> {
        let mut tables = Vec::new();
        for (at, transform) in self.pipeline.transforms.iter().enumerate() {
            let TransformKind::Lookup(spec) = &transform.kind else { continue };
            let nodes = self.topology.nodes.iter().enumerate();
            let nodes: Vec<usize> =
                nodes.filter(|(_, node)| node.transform == at).map(|(i, _)| i).collect();
            if !nodes.is_empty() {
                let about = name_of(self.pipeline, &transform.name, spec);
                let is_restored = self.starts[spec.table] != Start::IsReadAgain;
                tables.push(Table { about, nodes, is_restored });
            }
        }
        tables
    }

    fn reached(&self) -> Vec<(String, Time)> {
        self.pipeline.sources.iter().map(|plan| (plan.name.clone(), NEVER)).collect()
    }

    fn sources(&self) -> Result<Vec<SourceNode>, RunError> {
        let mut sources = Vec::new();
        for (at, plan) in self.pipeline.sources.iter().enumerate() {
            let producer = Producer::Source(at);
            let port = |port| PortRef { node: PlanNode::Source(at), port };
            let (delay_ms, emit) = watermark_of(plan);
            sources.push(SourceNode {
                component: component::source(at),
                name: plan.name.clone(),
                decode: self.connect.decode(plan)?,
                event_time: match plan.time {
                    RowTime::Column(column) => EventTime::Column(column),
                    RowTime::Processing | RowTime::Ingestion => EventTime::Clock,
                    RowTime::None => EventTime::None,
                },
                emit,
                delay_ms,
                targets: self.topology.targets(self.pipeline, producer, port(0)),
                rejected: self.topology.targets(self.pipeline, producer, port(1)),
                row_by_row: self.topology.row_by_row[at],
                waited_for: self.topology.waited_for[at],
            });
        }
        Ok(sources)
    }

    fn about_outputs(&self, at: usize, producer: Producer) -> (Outputs, Vec<Vec<Target>>) {
        let plan = &self.pipeline.transforms[at];
        let widths: Vec<usize> = plan.outputs.iter().map(|out| out.schema.width()).collect();
        let port = |port| PortRef { node: PlanNode::Transform(at), port };
        let ports = 0..plan.outputs.len();
        let targets =
            ports.map(|i| self.topology.targets(self.pipeline, producer, port(i))).collect();
        (Outputs::new(&widths, self.pipeline.engine.batch_rows), targets)
    }

    fn nodes(&self) -> Result<Vec<Node>, RunError> {
        let mut nodes = Vec::new();
        for node in &self.topology.nodes {
            let plan = &self.pipeline.transforms[node.transform];
            let (outputs, targets) = self.about_outputs(node.transform, node.producer);
            nodes.push(Node {
                component: component::transform(self.pipeline, node.transform),
                name: plan.name.clone(),
                operator: operators::stateless(plan)?,
                outputs,
                targets,
                told: Told::default(),
            });
        }
        Ok(nodes)
    }

    fn exchange(&self, at: usize) -> Exchange {
        let about = &self.topology.exchanges[at];
        let batch_rows = self.pipeline.engine.batch_rows;
        if about.direct {
            return Exchange::direct(about.stage);
        }
        if let (Some(table), Producer::Source(source)) = (about.table, about.producer) {
            let schema = &self.pipeline.sources[source].outputs[0].schema;
            return Exchange::broadcast(table.node, batch_rows, exchange_input(schema, &[]));
        }
        let stage = &self.topology.stages[about.stage];
        let inputs = stage
            .inputs
            .iter()
            .map(|&input| exchange_input(&self.pipeline.output(input).schema, &stage.key));
        let shards = self.topology.shards;
        let types = self.key_types(about.stage);
        Exchange::by_key(about.stage, shards, batch_rows, inputs.collect(), types)
    }

    fn stage_schema(&self, stage: usize) -> &Schema {
        &self.pipeline.output(self.topology.stages[stage].inputs[0]).schema
    }

    fn key_types(&self, stage: usize) -> Vec<DataType> {
        let schema = self.stage_schema(stage);
        let key = self.topology.stages[stage].key.iter();
        key.map(|&column| schema.columns[column].data_type.clone()).collect()
    }

    fn stages(&self) -> Result<Vec<Stage>, RunError> {
        (0..self.topology.stages.len()).map(|at| self.stage(at)).collect()
    }

    fn stage(&self, at: usize) -> Result<Stage, RunError> {
        let plan = &self.topology.stages[at];
        let names: Vec<&str> =
            plan.members.iter().map(|&m| self.transform(m).name.as_str()).collect();
        let key_columns = vec![plan.key.clone(); plan.inputs.len()];
        let mut stage = Stage::new(names.join(", "), key_columns, self.key_types(at));
        let input = |&input: &PortRef| input_form(&self.pipeline.output(input).schema);
        stage.id = at as u16;
        stage.inputs = plan.inputs.iter().map(input).collect();
        let (mut specs, mut about_ordered) = (Vec::<operators::InOrder>::new(), Vec::new());
        let schema = self.stage_schema(at);
        let (mut ahead, sets) = (Ahead::new(schema), Sets::default());
        let event_time = self.topology.event_time(self.pipeline, &plan.inputs);
        for &member in &plan.members {
            let (outputs, targets) = self.about_outputs(member, Producer::Stage(at));
            let transform = self.transform(member);
            let about = About {
                component: component::transform(self.pipeline, member),
                name: transform.name.clone(),
                outputs,
                targets,
            };
            match operators::keyed(
                transform,
                schema,
                event_time,
                &mut ahead,
                &sets,
                self.disorder_ms(),
            )? {
                operators::KeyedKind::Plain(operator) => {
                    stage.plain.push(Plain { operator, about });
                }
                operators::KeyedKind::Ordered(spec) => {
                    specs.push(spec);
                    about_ordered.push(about);
                }
            }
        }
        if !specs.is_empty() {
            let specs = specs.into_iter().zip(&about_ordered);
            let operators = specs.map(|(spec, about): (_, &About)| {
                operators::ordered(&about.name, spec, schema, &ahead)
            });
            let operators = operators.collect::<Result<_, _>>()?;
            let order = Order::new(schema, &ahead, self.disorder_ms(), operators);
            stage.sorted = Some(Sorted { order, about: about_ordered });
        }
        stage.exchanges = (0..self.topology.exchanges.len())
            .filter(|&i| self.topology.exchanges[i].producer == Producer::Stage(at))
            .collect();
        Ok(stage)
    }

    fn transform(&self, at: usize) -> &TransformPlan {
        &self.pipeline.transforms[at]
    }

    /// How far out of order rows are expected, ms: a hint for the ordering stage.
    fn disorder_ms(&self) -> i64 {
        let delays = self.pipeline.sources.iter().map(|source| watermark_of(source).0);
        delays.max().unwrap_or(0)
    }

    fn sinks(&self, shard: usize) -> Result<Vec<SinkNode>, RunError> {
        let mut sinks = Vec::new();
        for (at, plan) in self.pipeline.sinks.iter().enumerate() {
            let mut encoders = Vec::new();
            for input in 0..plan.inputs.len() {
                encoders.push(self.connect.encode(plan, input)?);
            }
            let (sink, prompt) = self.connect.sink(plan, shard)?;
            sinks.push(SinkNode {
                component: component::sink(self.pipeline, at),
                name: plan.name.clone(),
                encoders,
                sink,
                buffer: Vec::new(),
                prepared: VecDeque::new(),
                prompt,
            });
        }
        Ok(sinks)
    }
}

fn input_form(schema: &Schema) -> InputForm {
    let column = |column: &Column| format!("{}\0{}\0", column.name, column.data_type);
    let columns: String = schema.columns.iter().map(column).collect();
    let form = xxh3_64(columns.as_bytes());
    InputForm { width: schema.width(), heaped: schema.heaped(), form }
}

fn exchange_input(schema: &Schema, key: &[usize]) -> ExchangeInput {
    ExchangeInput { width: schema.width(), heaped: schema.heaped(), key_columns: key.to_vec() }
}

fn watermark_of(plan: &SourcePlan) -> (i64, EmitWatermark) {
    match (&plan.watermark.kind, plan.watermark.emit) {
        (WatermarkKind::Punctuated { condition }, _) => {
            (0, EmitWatermark::Punctuated(condition.clone()))
        }
        (WatermarkKind::Bounded { delay_ms }, WatermarkEmit::PerEvent) => {
            (*delay_ms, EmitWatermark::PerEvent)
        }
        (WatermarkKind::Bounded { delay_ms }, WatermarkEmit::PerBatch) => {
            (*delay_ms, EmitWatermark::PerBatch)
        }
        (WatermarkKind::Bounded { delay_ms }, WatermarkEmit::Every(ms)) => {
            (*delay_ms, EmitWatermark::Every(ms.max(1) as u64))
        }
    }
}
