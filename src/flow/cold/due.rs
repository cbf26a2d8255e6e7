//! Keys that are due: brought into memory, some at a time, and taken back.
//!
//! 1. All keys whose timers are up to a watermark have had their turn when the stage is told it.
//! 2. Records of keys that are due soon are read together, whatever the times at which they are.

use std::cell::RefCell;

use super::timers::due_of;
use super::{Cold, NOW_MS, Wanted, load, of_store, take_out, wanted};
use crate::flow::RunError;
use crate::flow::graph::ShardGraph;
use crate::flow::host::Host;
use crate::flow::record::{StoreKey, record_key, timer_key, timers_from};
use crate::flow::restore::{Read, resolve};
use crate::ground::batch::BatchBuilder;
use crate::ground::key;
use crate::ground::limits::{COLD_DUE_KEYS, COLD_NEAR_TIMERS};
use crate::ground::time::{END, NEVER as NO_MARK, Time};
use crate::store::tree::Tree;

impl<H: Host> Cold<H> {
    /// Brings the keys of a stage that are due into memory, some at a time, lets them do what is
    /// due, and takes them back: so a window of any number of keys fires in bounded memory.
    pub(super) async fn catch_up(
        &self,
        graph: &RefCell<ShardGraph>,
        at: usize,
        due: Time,
        mark: Time,
    ) -> Result<(), RunError> {
        let tree = self.tree().expect("timers are those of a tree");
        let id = {
            let mut graph = graph.borrow_mut();
            // What is due before, for keys in memory.
            if graph.stages[at].reached() < due - 1 {
                graph.stage_watermark_now(at, due - 1)?;
            }
            graph.stages[at].id
        };
        loop {
            let timers = self.take_due(&tree, id, due).await?;
            if timers.is_empty() {
                // Who comes from now on has had its turn.
                let mut graph = graph.borrow_mut();
                if graph.stages[at].reached() < due {
                    graph.stage_watermark_now(at, due)?;
                }
                return Ok(());
            }
            self.read_ahead(&tree, id, &timers, due, mark).await?;
            let mut came = self.come(graph, at, &timers)?;
            self.fetch(&mut came).await?;
            let leaving = {
                let mut graph = graph.borrow_mut();
                let stage = &mut graph.stages[at];
                load(stage, &came)?;
                let is_known = |wanted: &&Wanted| wanted.record.is_some();
                let slots: Vec<u32> = came.iter().filter(is_known).map(|w| w.slot).collect();
                graph.stage_catch_up(at, &slots, due)?;
                let all: Vec<u32> = came.iter().map(|wanted| wanted.slot).collect();
                take_out(&mut graph, at, &all, (due, NO_MARK), &tree)
            };
            for timer in &timers {
                self.write(&tree, |tree| tree.delete(timer)).await?;
            }
            self.write_all(&tree, leaving).await?;
        }
    }

    /// Takes timers of a stage that are due at `due`, as many as come together.
    async fn take_due(
        &self,
        tree: &Tree<H::Disk>,
        stage: u16,
        due: Time,
    ) -> Result<Vec<Vec<u8>>, RunError> {
        loop {
            let (taken, unknown) = {
                let mut timers = self.timers.borrow_mut();
                let of_stage = timers.entry(stage).or_default();
                let taken = of_stage.take(due, COLD_DUE_KEYS);
                (taken, of_stage.unknown_from(due))
            };
            let Some(from) = unknown.filter(|_| taken.is_empty()) else { return Ok(taken) };
            let (mut found, mut rest) = (Vec::new(), END);
            let from = timer_key(stage, from, 0, &[]);
            let mut scan = tree.scan(&from, NOW_MS).await.map_err(of_store)?;
            while let Some((bytes, _)) = scan.entry() {
                if !bytes.starts_with(&timers_from(stage)) {
                    break;
                }
                if found.len() == COLD_NEAR_TIMERS {
                    rest = due_of(bytes);
                    break;
                }
                found.push(bytes.to_vec());
                scan.next().await.map_err(of_store)?;
            }
            if let Some(of_stage) = self.timers.borrow_mut().get_mut(&stage) {
                of_stage.extend(found, rest);
            }
        }
    }

    /// Reads the records of keys that are due now and soon, all together: each may be due at a time
    /// of its own, and reads one by one would wait one by one.
    async fn read_ahead(
        &self,
        tree: &Tree<H::Disk>,
        stage: u16,
        now: &[Vec<u8>],
        due: Time,
        mark: Time,
    ) -> Result<(), RunError> {
        let (of, to) = self.ahead_to.get();
        if of == stage && due <= to {
            return Ok(());
        }
        let (keys, to): (Vec<Vec<u8>>, Time) = {
            let timers = self.timers.borrow();
            let room = COLD_DUE_KEYS.saturating_sub(now.len());
            let soon = timers.get(&stage).into_iter().flat_map(|timers| timers.look(mark, room));
            let all: Vec<&Vec<u8>> = now.iter().chain(soon).collect();
            let key = |timer: &&Vec<u8>| match StoreKey::of(timer) {
                Some(StoreKey::Timer { stage, group, key, .. }) => record_key(stage, group, key),
                _ => Vec::new(),
            };
            (all.iter().map(key).collect(), all.last().map_or(due, |last| due_of(last)))
        };
        let named: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let mut found: Vec<Option<Vec<u8>>> = vec![None; keys.len()];
        let each = |i: usize, value: Option<&[u8]>| found[i] = value.map(<[u8]>::to_vec);
        tree.get_many(&named, NOW_MS, each).await.map_err(of_store)?;
        // What is left there is of keys that were in memory after all.
        let mut ahead = self.ahead.borrow_mut();
        ahead.clear();
        ahead.extend(keys.into_iter().zip(found));
        self.ahead_to.set((stage, to));
        Ok(())
    }

    /// Gives slots to the keys of timers that are not in memory.
    fn come(
        &self,
        graph: &RefCell<ShardGraph>,
        at: usize,
        timers: &[Vec<u8>],
    ) -> Result<Vec<Wanted>, RunError> {
        let mut graph = graph.borrow_mut();
        let shards = graph.shards;
        let stage = &mut graph.stages[at];
        let width = stage.key_types.len();
        let mut keys = BatchBuilder::new(width, timers.len());
        for timer in timers {
            let Some(StoreKey::Timer { key, .. }) = StoreKey::of(timer) else { continue };
            let mut read = Read { rest: key, what: "a timer of the store".to_string() };
            read.key(&mut keys, width)?;
        }
        let is_own = |group| key::shard_of(group, shards) == self.shard;
        resolve(stage, &keys.finish(), is_own)?;
        Ok(wanted(stage))
    }
}
