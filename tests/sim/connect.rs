//! What the simulated pipelines read and write: rows in memory that can be read again from any
//! block, and parts on the simulated disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use cutwater::codec::{self, DecodeOptions, EncodeOptions, Encoder, Format};
use cutwater::edge::decode::{BlockDecode, Rows};
use cutwater::flow::RunError;
use cutwater::ground::batch::RecordBatch;
use cutwater::plan::build::Connect;
use cutwater::plan::graph::{RowTime, SinkPlan, SourcePlan};
use cutwater::port::{Block, Decode, Encode, Next, PortError, Sink, Source, Text};

use super::lookups;
use super::machine::{Machine, wait_a_little};
use super::sink::SimSink;

/// Blocks of lines, each as long as the reader gave it.
pub type Blocks = Arc<Vec<Vec<u8>>>;

/// Everything that a run reads.
pub struct SimConnect {
    pub blocks: BTreeMap<String, Blocks>,
    /// Of so many looks at a source one finds nothing yet; none: all.
    pub idle_one_in: Option<usize>,
    /// Behind so many blocks sources have nothing more for now.
    pub held_at: Option<usize>,
}

struct SimSource {
    name: Arc<str>,
    blocks: Blocks,
    given: usize,
    idle_one_in: Option<usize>,
    held_at: Option<usize>,
    is_bounded: bool,
}

impl Source for SimSource {
    fn next(&mut self, _wait_ms: u64) -> Result<Next, PortError> {
        wait_a_little();
        if self.idle_one_in.is_some_and(|times| Machine::current().below(times) == 0) {
            return Ok(Next::Idle);
        }
        if self.held_at == Some(self.given) {
            return Ok(Next::Idle);
        }
        let Some(block) = self.blocks.get(self.given) else { return Ok(Next::End) };
        self.given += 1;
        let text = Text::new(block.clone());
        Ok(Next::Block(Block::Text { text, origin: self.name.clone(), at: 0, head: None }))
    }

    fn position(&self) -> Option<u64> {
        Some(self.given as u64)
    }

    fn resume(&mut self, position: u64) -> Result<(), PortError> {
        assert!(position <= self.blocks.len() as u64, "a position is one that was given");
        self.given = position as usize;
        Ok(())
    }

    fn is_bounded(&self) -> bool {
        self.is_bounded
    }
}

struct Encoded(Box<dyn Encoder>);

impl Encode for Encoded {
    fn encode(&mut self, batch: &RecordBatch, select: &[u32], out: &mut Vec<u8>) {
        self.0.encode(batch, select, out);
    }
}

impl Connect for SimConnect {
    fn source(&self, plan: &SourcePlan) -> Result<Box<dyn Source>, RunError> {
        let blocks = self.blocks[&plan.name].clone();
        let (name, idle_one_in) = (plan.name.as_str().into(), self.idle_one_in);
        // One that nobody waits for ends all the same, so that runs do.
        let is_bounded = plan.name != lookups::LIVE;
        let held_at = self.held_at;
        Ok(Box::new(SimSource { name, blocks, given: 0, idle_one_in, held_at, is_bounded }))
    }

    fn decode(&self, plan: &SourcePlan) -> Result<Box<dyn Decode>, RunError> {
        let event_time = match plan.time {
            RowTime::Column(column) => Some(column),
            _ => None,
        };
        let decoder = codec::decoder(Format::Json, &plan.schema, &DecodeOptions { event_time });
        let decoder = decoder.map_err(|error| RunError::of(&plan.name, error))?;
        Ok(Box::new(BlockDecode::new(Rows::Lines(decoder), plan.schema.clone())))
    }

    fn encode(&self, plan: &SinkPlan, input: usize) -> Result<Box<dyn Encode>, RunError> {
        let schema = &plan.inputs[input].schema;
        let encoder = codec::encoder(Format::Json, schema, &EncodeOptions::default());
        Ok(Box::new(Encoded(encoder.map_err(|error| RunError::of(&plan.name, error))?)))
    }

    fn sink(&self, plan: &SinkPlan, shard: usize) -> Result<(Box<dyn Sink>, bool), RunError> {
        let sink = SimSink::open(&plan.name, shard);
        Ok((Box::new(sink.map_err(|error| RunError::of(&plan.name, error))?), false))
    }
}
