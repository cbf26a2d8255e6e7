//! From a checked pipeline to what the shards are made of: which transforms share a stage, which
//! producer reaches which stage, and whether by a ring or by a call.
//!
//! 1. A *producer* (source or stage) drives a tree of stateless nodes; a transform that several
//!    producers reach has a node for each, so that a node's targets do not depend on who pushes.
//! 2. Keyed transforms with the same inputs and key are one stage: one exchange, one key table.
//! 3. Everything here is a function of the pipeline and the number of shards: places are the same
//!    on every shard.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{Node, Pipeline, PortRef, RowTime, TransformKind};
use crate::flow::feed::Producer;
use crate::flow::graph::Target;
use crate::flow::run::{ExchangeAbout, TableAbout};

/// A keyed stage: which transforms, behind which outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagePlan {
    pub inputs: Vec<PortRef>,
    /// Key columns, the same places in every input (they have one schema).
    pub key: Vec<usize>,
    /// Places in the pipeline's transforms.
    pub members: Vec<usize>,
}

/// A stateless transform as one producer reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePlan {
    pub producer: Producer,
    pub transform: usize,
}

/// The layout that all shards share.
#[derive(Debug)]
pub struct Topology {
    pub shards: usize,
    pub stages: Vec<StagePlan>,
    pub nodes: Vec<NodePlan>,
    pub exchanges: Vec<ExchangeAbout>,
    /// Sources whose rows must go through all branches one by one.
    pub row_by_row: Vec<bool>,
    /// Bounded sources that others wait for. A table that is a stream too is none where its rows
    /// meet others' in a stage.
    pub waited_for: Vec<bool>,
}

/// Whether a transform keeps state by key.
pub fn is_keyed(kind: &TransformKind) -> bool {
    matches!(
        kind,
        TransformKind::Window(_)
            | TransformKind::Aggregate(_)
            | TransformKind::Pattern(_)
            | TransformKind::Rules(_)
    )
}

impl Topology {
    /// Lays out a pipeline. `bounded[i]` says whether source i ends by itself.
    pub fn new(pipeline: &Pipeline, shards: usize, bounded: &[bool]) -> Topology {
        let mut topology = Topology {
            shards,
            stages: stages_of(pipeline),
            nodes: Vec::new(),
            exchanges: Vec::new(),
            row_by_row: vec![false; pipeline.sources.len()],
            waited_for: vec![false; pipeline.sources.len()],
        };
        topology.find_nodes(pipeline);
        topology.find_exchanges(pipeline);
        topology.find_tables(pipeline, bounded);
        topology
    }

    /// The stage of a keyed transform.
    pub fn stage_of(&self, transform: usize) -> Option<usize> {
        self.stages.iter().position(|stage| stage.members.contains(&transform))
    }

    /// The outputs that a producer fills itself.
    fn ports_of(&self, pipeline: &Pipeline, producer: Producer) -> Vec<PortRef> {
        let nodes: Vec<Node> = match producer {
            Producer::Source(at) => vec![Node::Source(at)],
            Producer::Stage(at) => {
                self.stages[at].members.iter().map(|&member| Node::Transform(member)).collect()
            }
        };
        let ports = |node: Node| {
            (0..pipeline.outputs_of(node).len()).map(move |port| PortRef { node, port })
        };
        nodes.into_iter().flat_map(ports).collect()
    }

    fn all_producers(&self, pipeline: &Pipeline) -> Vec<Producer> {
        let sources = (0..pipeline.sources.len()).map(Producer::Source);
        sources.chain((0..self.stages.len()).map(Producer::Stage)).collect()
    }

    fn find_nodes(&mut self, pipeline: &Pipeline) {
        for producer in self.all_producers(pipeline) {
            let mut open = self.ports_of(pipeline, producer);
            while let Some(port) = open.pop() {
                for (transform, plan) in pipeline.transforms.iter().enumerate() {
                    let node = NodePlan { producer, transform };
                    let is_new = plan.inputs.contains(&port) && !is_keyed(&plan.kind);
                    if is_new && !self.nodes.contains(&node) {
                        self.nodes.push(node);
                        let from = Node::Transform(transform);
                        let ports = 0..plan.outputs.len();
                        open.extend(ports.map(|port| PortRef { node: from, port }));
                    }
                }
            }
        }
    }

    /// In how many ways rows of a producer reach an output.
    fn paths(&self, pipeline: &Pipeline, producer: Producer, port: PortRef) -> usize {
        match (port.node, producer) {
            (Node::Source(at), Producer::Source(own)) => usize::from(at == own),
            (Node::Source(_), Producer::Stage(_)) => 0,
            (Node::Transform(at), _) if is_keyed(&pipeline.transforms[at].kind) => {
                let own = self.stage_of(at).map(Producer::Stage);
                usize::from(own == Some(producer))
            }
            (Node::Transform(at), _) => {
                let inputs = pipeline.transforms[at].inputs.iter();
                inputs.map(|&input| self.paths(pipeline, producer, input)).sum()
            }
        }
    }

    fn find_exchanges(&mut self, pipeline: &Pipeline) {
        let mut paths: BTreeMap<usize, usize> = BTreeMap::new();
        for stage in 0..self.stages.len() {
            for producer in self.all_producers(pipeline) {
                let inputs = self.stages[stage].inputs.iter();
                let count: usize = inputs.map(|&input| self.paths(pipeline, producer, input)).sum();
                if count == 0 {
                    continue;
                }
                if let (Producer::Source(source), 2..) = (producer, count) {
                    self.row_by_row[source] = true;
                }
                paths.insert(self.exchanges.len(), count);
                self.exchanges.push(ExchangeAbout { producer, stage, direct: false, table: None });
            }
        }
        let called = self.called_stages(&paths);
        for exchange in &mut self.exchanges {
            exchange.direct = called[exchange.stage];
        }
    }

    /// Stages whose rows come by calls: one shard, one producer, one way from it, and everything
    /// before and behind is called as well.
    fn called_stages(&self, paths: &BTreeMap<usize, usize>) -> Vec<bool> {
        let mut called = vec![self.shards == 1; self.stages.len()];
        for (stage, called) in called.iter_mut().enumerate() {
            let feeds: Vec<usize> =
                (0..self.exchanges.len()).filter(|&at| self.exchanges[at].stage == stage).collect();
            let merges = |&at: &usize| {
                matches!(self.exchanges[at].producer, Producer::Stage(_)) && paths[&at] > 1
            };
            *called &= feeds.len() == 1 && !feeds.iter().any(merges);
        }
        loop {
            let before = called.clone();
            for exchange in &self.exchanges {
                if let Producer::Stage(from) = exchange.producer
                    && called[from] != called[exchange.stage]
                {
                    called[from] = false;
                    called[exchange.stage] = false;
                }
            }
            if called == before {
                return called;
            }
        }
    }

    /// Whether a stage has rows of a source and of others too. It takes them in one order: if the
    /// others waited until the source is read whole, so would the stage, and then the source.
    fn meets_others(&self, source: usize) -> bool {
        let mut feeding: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); self.stages.len()];
        loop {
            let before = feeding.clone();
            for exchange in self.exchanges.iter().filter(|exchange| exchange.table.is_none()) {
                match exchange.producer {
                    Producer::Source(from) => feeding[exchange.stage].extend([from]),
                    Producer::Stage(from) => feeding[exchange.stage].extend(&before[from]),
                }
            }
            if feeding == before {
                return feeding.iter().any(|from| from.contains(&source) && from.len() > 1);
            }
        }
    }

    fn find_tables(&mut self, pipeline: &Pipeline, bounded: &[bool]) {
        for (node, plan) in self.nodes.iter().enumerate() {
            let TransformKind::Lookup(spec) = &pipeline.transforms[plan.transform].kind else {
                continue;
            };
            let is_asked_for = spec.wait_for_table && bounded[spec.table];
            let waited_for = is_asked_for && !self.meets_others(spec.table);
            self.waited_for[spec.table] |= waited_for;
            if self.shards > 1 {
                self.exchanges.push(ExchangeAbout {
                    producer: Producer::Source(spec.table),
                    stage: usize::MAX,
                    direct: false,
                    table: Some(TableAbout { node, waited_for }),
                });
            }
        }
    }

    /// The column that holds the event time of all rows of these outputs, if there is one: the
    /// source's own, where nothing between made new rows.
    pub fn event_time(&self, pipeline: &Pipeline, inputs: &[PortRef]) -> Option<usize> {
        let mut columns = inputs.iter().map(|&input| self.event_time_of(pipeline, input));
        let first = columns.next()??;
        columns.all(|column| column == Some(first)).then_some(first)
    }

    fn event_time_of(&self, pipeline: &Pipeline, port: PortRef) -> Option<usize> {
        let transform = match port.node {
            Node::Source(source) => {
                let time = &pipeline.sources[source].time;
                return match time {
                    RowTime::Column(column) if port.port == 0 => Some(*column),
                    _ => None,
                };
            }
            Node::Transform(transform) => &pipeline.transforms[transform],
        };
        match transform.kind {
            // A lookup's own columns stand behind those that came.
            TransformKind::Filter(_)
            | TransformKind::Route(_)
            | TransformKind::Union
            | TransformKind::Lookup(_) => self.event_time(pipeline, &transform.inputs),
            _ => None,
        }
    }

    /// Where the rows of an output go, for the producer that drives them.
    pub fn targets(&self, pipeline: &Pipeline, producer: Producer, port: PortRef) -> Vec<Target> {
        let mut targets = Vec::new();
        for (transform, plan) in pipeline.transforms.iter().enumerate() {
            if is_keyed(&plan.kind) {
                continue;
            }
            let node = NodePlan { producer, transform };
            for _ in plan.inputs.iter().filter(|&&input| input == port) {
                let node = self.nodes.iter().position(|other| *other == node);
                let node = node.expect("every node that a producer reaches was found");
                targets.push(Target::Node { node, input: 0 });
            }
        }
        for (stage, plan) in self.stages.iter().enumerate() {
            let mine = |about: &ExchangeAbout| about.producer == producer && about.stage == stage;
            for (input, _) in plan.inputs.iter().enumerate().filter(|(_, input)| **input == port) {
                let exchange = self.exchanges.iter().position(mine);
                let exchange = exchange.expect("every stage that a producer reaches was found");
                targets.push(Target::Exchange { exchange, input });
            }
        }
        for (sink, plan) in pipeline.sinks.iter().enumerate() {
            for (input, _) in plan.inputs.iter().enumerate().filter(|(_, i)| i.port == port) {
                targets.push(Target::Sink { sink, input });
            }
        }
        if let (Producer::Source(source), Node::Source(_), 0) = (producer, port.node, port.port) {
            targets.extend(self.table_targets(pipeline, source));
        }
        targets
    }

    fn table_targets(&self, pipeline: &Pipeline, source: usize) -> Vec<Target> {
        if self.shards > 1 {
            let tables = self.exchanges.iter().enumerate().filter(|(_, about)| {
                about.table.is_some() && about.producer == Producer::Source(source)
            });
            return tables.map(|(exchange, _)| Target::Exchange { exchange, input: 0 }).collect();
        }
        let nodes = self.nodes.iter().enumerate().filter(|(_, node)| {
            let kind = &pipeline.transforms[node.transform].kind;
            matches!(kind, TransformKind::Lookup(spec) if spec.table == source)
        });
        nodes.map(|(node, _)| Target::Node { node, input: 1 }).collect()
    }
}

fn stages_of(pipeline: &Pipeline) -> Vec<StagePlan> {
    let mut stages: Vec<StagePlan> = Vec::new();
    for (transform, plan) in pipeline.transforms.iter().enumerate() {
        if !is_keyed(&plan.kind) {
            continue;
        }
        let same = |stage: &&mut StagePlan| stage.inputs == plan.inputs && stage.key == plan.key;
        match stages.iter_mut().find(same) {
            Some(stage) => stage.members.push(transform),
            None => stages.push(StagePlan {
                inputs: plan.inputs.clone(),
                key: plan.key.clone(),
                members: vec![transform],
            }),
        }
    }
    stages
}
