//! What of a pipeline keeps state by key: its transforms with their keys, and a graph that can be
//! given such state without sources and sinks.

use super::build::{Connect, graph_of};
use super::graph::{Pipeline, SinkPlan, SourcePlan, TransformPlan};
use super::topology::{Topology, is_keyed};
use crate::flow::RunError;
use crate::flow::graph::ShardGraph;
use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::schema::Column;
use crate::port::{Block, Decode, Encode, PortError, Sink, Source};

/// Transforms that keep state by key, in the order of the pipeline.
pub fn transforms(pipeline: &Pipeline) -> impl Iterator<Item = &TransformPlan> {
    pipeline.transforms.iter().filter(|plan| is_keyed(&plan.kind))
}

/// The key columns of such a transform.
pub fn key_columns(plan: &TransformPlan) -> Vec<Column> {
    let input = plan.input_schemas.first();
    let columns = plan.key.iter().filter_map(|&at| input?.columns.get(at).cloned());
    columns.collect()
}

/// The names of transforms that share their keys, stage by stage.
pub fn stages(pipeline: &Pipeline) -> Vec<Vec<&str>> {
    let topology = Topology::new(pipeline, 1, &vec![true; pipeline.sources.len()]);
    let names = |stage: &super::topology::StagePlan| {
        stage.members.iter().map(|&member| pipeline.transforms[member].name.as_str()).collect()
    };
    topology.stages.iter().map(names).collect()
}

/// The graph of a shard that reads nothing and whose rows go nowhere.
///
/// # Errors
/// [`RunError`] of a transform that cannot be built.
pub fn graph(pipeline: &Pipeline, shard: usize, shards: usize) -> Result<ShardGraph, RunError> {
    graph_of(pipeline, (shard, shards), &Unconnected)
}

/// Ends of a pipeline that nothing comes from and nothing goes to.
struct Unconnected;

impl Connect for Unconnected {
    fn source(&self, plan: &SourcePlan) -> Result<Box<dyn Source>, RunError> {
        Err(RunError::of(&plan.name, "nothing is read when state is looked into"))
    }

    fn decode(&self, _: &SourcePlan) -> Result<Box<dyn Decode>, RunError> {
        Ok(Box::new(Unconnected))
    }

    fn encode(&self, _: &SinkPlan, _: usize) -> Result<Box<dyn Encode>, RunError> {
        Ok(Box::new(Unconnected))
    }

    fn sink(&self, _: &SinkPlan, _: usize) -> Result<(Box<dyn Sink>, bool), RunError> {
        Ok((Box::new(Unconnected), false))
    }
}

impl Decode for Unconnected {
    fn start(&mut self, _: Block) {}

    fn next(
        &mut self,
        _: usize,
        _: &mut BatchBuilder,
    ) -> Result<Option<RecordBatch>, PortError> {
        Ok(None)
    }

    fn reject(&mut self, _: &RecordBatch, _: usize, _: &str, _: &mut BatchBuilder) {}
}

impl Encode for Unconnected {
    fn encode(&mut self, _: &RecordBatch, _: &[u32], _: &mut Vec<u8>) {}
}

impl Sink for Unconnected {
    fn write(&mut self, _: &[u8]) -> Result<(), PortError> {
        Ok(())
    }

    fn prepare(&mut self, _: u64) -> Result<(), PortError> {
        Ok(())
    }

    fn commit(&mut self, _: u64) -> Result<(), PortError> {
        Ok(())
    }
}
