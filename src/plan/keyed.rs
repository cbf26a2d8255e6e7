//! What of a pipeline keeps state by key: its transforms with their keys, and a graph that can be
//! given such state without sources and sinks.

use std::sync::Arc;

use super::build::{Connect, build_of};
use super::graph::{Pipeline, SinkPlan, SourcePlan, TransformKind, TransformPlan};
use super::topology::{StagePlan, Topology, is_keyed};
use crate::flow::RunError;
use crate::flow::run::Build;
use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::schema::Column;
use crate::port::{Block, Decode, Encode, PortError, Sink, Source};

/// A transform that keeps state by key.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyedTransform {
    pub name: String,
    /// Its `type`.
    pub word: &'static str,
    /// Its key's columns.
    pub key: Vec<Column>,
    /// Whether it takes its rows in event-time order, so that they wait before it.
    pub is_ordered: bool,
}

fn keyed(plan: &TransformPlan) -> Option<KeyedTransform> {
    let input = plan.input_schemas.first()?;
    is_keyed(&plan.kind).then(|| KeyedTransform {
        name: plan.name.clone(),
        word: plan.kind.word(),
        key: plan.key.iter().map(|&at| input.columns[at].clone()).collect(),
        is_ordered: matches!(plan.kind, TransformKind::Pattern(_) | TransformKind::Rules(_)),
    })
}

/// Transforms that keep state by key, in the order of the pipeline.
pub fn transforms(pipeline: &Pipeline) -> Vec<KeyedTransform> {
    pipeline.transforms.iter().filter_map(keyed).collect()
}

/// As [`transforms`], those together that share their keys.
pub fn stages(pipeline: &Pipeline) -> Vec<Vec<KeyedTransform>> {
    let topology = Topology::new(pipeline, 1, &vec![true; pipeline.sources.len()]);
    let members = |stage: &StagePlan| {
        let plans = stage.members.iter().map(|&member| &pipeline.transforms[member]);
        plans.filter_map(keyed).collect()
    };
    topology.stages.iter().map(members).collect()
}

/// Builds graphs that read nothing and whose rows go nowhere.
pub fn build(pipeline: &Pipeline, shards: usize) -> impl Build + 'static {
    build_of(pipeline, shards, Arc::new(Unconnected))
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

    fn next(&mut self, _: usize, _: &mut BatchBuilder) -> Result<Option<RecordBatch>, PortError> {
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
