//! `cutwater state`: what a checkpoint knows of keys. See "Looking into state" in
//! docs/checkpoints.md.
//!
//! 1. Nothing that is looked at changes: what has to be written goes to a folder of the system for
//!    what is temporary, which is removed.
//! 2. A checkpoint is restored as a run on as many shards would do it, one shard after the other,
//!    so no more than a shard's keys are held.

mod find;
mod key;
mod shards;
mod stats;
mod text;

use crate::app::arguments::{DiagnosticFormat, StateArguments, StateCommand};
use crate::app::{FAILED, OK, WRONG, eprint, print};
use crate::flow::look::Home;
use crate::flow::stage::Stage;
use crate::plan::diagnostic::suggest;
use crate::plan::graph::Pipeline;
use crate::plan::keyed::{self, KeyedTransform};
use crate::state::shown::Shown;
use find::Checkpoint;
use shards::on_shard;

/// Why a command ends otherwise than well: its exit code, after what it has said.
type Ended = u8;

/// Runs a command; gives the exit code.
pub fn state(command: &StateCommand) -> u8 {
    let done = match command {
        StateCommand::Get { of, component, key } => get(of, component, key),
        StateCommand::Scan { of, component, limit } => scan(of, component, *limit),
        StateCommand::Stats { of } => stats::stats(of),
    };
    done.unwrap_or_else(|ended| ended)
}

fn wrong(message: &str) -> Ended {
    eprint(&format!("error: {message}\n"));
    WRONG
}

/// The transform of this name, if it keeps state by key.
fn component(pipeline: &Pipeline, name: &str) -> Result<KeyedTransform, Ended> {
    let all = keyed::transforms(pipeline);
    if let Some(found) = all.iter().find(|of| of.name == name) {
        return Ok(found.clone());
    }
    let names: Vec<&str> = all.iter().map(|of| of.name.as_str()).collect();
    let other = pipeline.transforms.iter().find(|plan| plan.name == name);
    let is_end = pipeline.sources.iter().any(|plan| plan.name == name)
        || pipeline.sinks.iter().any(|plan| plan.name == name);
    let what = match other {
        Some(plan) => format!("`{name}` is a `{}`, which keeps no state by key", plan.kind.word()),
        None if is_end => format!("`{name}` is no transform, so it keeps no state by key"),
        None => format!("`{}` has no transform `{name}`", pipeline.name),
    };
    let hint = suggest(name, names.iter().copied(), "those that keep state by key are");
    let hint = hint.unwrap_or_else(|| "no transform of it keeps state by key".to_string());
    Err(wrong(&format!("{what}; {hint}")))
}

fn get(arguments: &StateArguments, name: &str, written: &[String]) -> Result<u8, Ended> {
    let (pipeline, place) = find::place(arguments)?;
    let of = component(&pipeline, name)?;
    let key = key::read(&of, written).map_err(|why| wrong(&why))?;
    let checkpoint = Checkpoint::open(arguments, pipeline, place)?;
    let shard = checkpoint.shard_of(name, &key)?;
    let found = on_shard(&checkpoint, shard, async |look| {
        let Some((at, operator)) = look.stage_of(name) else { return Ok(None) };
        let mut found = None;
        look.key(at, &key, |stage, slot, home| {
            if saved(stage, operator, &[slot])[0] > 0 {
                found = Some(about(stage, &of, operator, slot, home));
            }
        })
        .await?;
        Ok(found)
    })?;
    match found {
        Some(found) => {
            show(arguments.format, &found);
            Ok(OK)
        }
        None => {
            let epoch = checkpoint.epoch();
            eprint(&format!(
                "error: `{name}` knows nothing of {} in checkpoint {epoch}\n",
                written.join(" ")
            ));
            Err(FAILED)
        }
    }
}

fn scan(arguments: &StateArguments, name: &str, limit: Option<u64>) -> Result<u8, Ended> {
    let (pipeline, place) = find::place(arguments)?;
    let of = component(&pipeline, name)?;
    let checkpoint = Checkpoint::open(arguments, pipeline, place)?;
    let mut left = limit.unwrap_or(u64::MAX);
    for shard in 0..checkpoint.shards() {
        if left == 0 {
            break;
        }
        left = on_shard(&checkpoint, shard, async |look| {
            let mut left = left;
            let Some((at, operator)) = look.stage_of(name) else { return Ok(left) };
            look.keys(at, |stage, slots, home| {
                let saved = saved(stage, operator, slots);
                for (&slot, _) in slots.iter().zip(saved).filter(|(_, saved)| *saved > 0) {
                    if left == 0 {
                        break;
                    }
                    show(arguments.format, &about(stage, &of, operator, slot, home));
                    left -= 1;
                }
                left > 0
            })
            .await?;
            Ok(left)
        })?;
    }
    Ok(OK)
}

/// Bytes that an operator has saved of each of some keys, with rows that wait for it.
fn saved(stage: &mut Stage, operator: usize, slots: &[u32]) -> Vec<usize> {
    let mut all = saved_by(stage, Some(operator), slots);
    if operator >= stage.plain.len() {
        let waiting = saved_by(stage, None, slots);
        all.iter_mut().zip(waiting).for_each(|(saved, waiting)| *saved += waiting);
    }
    all
}

/// Bytes that one operator has saved of each of some keys; none: the ordering buffer.
fn saved_by(stage: &mut Stage, operator: Option<usize>, slots: &[u32]) -> Vec<usize> {
    let (mut all, mut bytes) = (vec![0; slots.len()], Vec::new());
    stage.state_of(operator, &mut |handle| {
        for (saved, &slot) in all.iter_mut().zip(slots) {
            bytes.clear();
            handle.save(slot, &mut bytes);
            *saved += bytes.len();
        }
    });
    all
}

/// A key's columns.
fn key_of(stage: &Stage, of: &KeyedTransform, slot: u32) -> Shown {
    let (row, nulls) = (stage.keys.row(slot), stage.keys.nulls(slot));
    let columns = of.key.iter().enumerate();
    let values = columns.map(|(i, column)| {
        let is_null = nulls[i / 64] >> (i % 64) & 1 == 1;
        let value = Shown::of((!is_null).then_some(row[i]), stage.keys.heap(), &column.data_type);
        (column.name.clone(), value)
    });
    Shown::Fields(values.collect())
}

/// What a transform knows of a key.
fn about(stage: &mut Stage, of: &KeyedTransform, operator: usize, slot: u32, home: Home) -> Shown {
    let mut state = Vec::new();
    stage.show(operator, slot, &mut |name, shown| state.push((name.to_string(), shown)));
    Shown::fields([
        ("key", key_of(stage, of, slot)),
        ("component", Shown::Text(of.name.clone())),
        ("in", Shown::Text(if home == Home::Memory { "memory" } else { "store" }.into())),
        ("state", Shown::Fields(state)),
    ])
}

fn show(format: DiagnosticFormat, shown: &Shown) {
    print(&match format {
        DiagnosticFormat::Json => format!("{}\n", shown.to_json()),
        DiagnosticFormat::Human => text::of_key(shown),
    });
}
