//! Tables of lookups at the start of a run: which go on from what a checkpoint has of them, which
//! are read again, and which can do neither.
//!
//! 1. A table that the checkpoint has in the same form goes on from there. Its source is read from
//!    its place on; not at all if it feeds only tables, ends by itself and had ended: what the
//!    source holds now means nothing.
//! 2. Otherwise a source that feeds only tables and ends by itself is read again from its start,
//!    for all of its tables.
//! 3. A lookup that the checkpoint does not know has what comes from now on, as any new transform.
//!    One that it knows in another form is refused.

use xxhash_rust::xxh3::xxh3_64;

use super::build::From;
use super::graph::{LookupSpec, Pipeline, TransformKind};
use crate::flow::RunError;
use crate::flow::tables::{Known, TableName};
use crate::port::{Next, PortError, Source};

/// What becomes of a source's tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// They go on, and the source from its place. Also for a source without a table.
    #[default]
    GoesOn,
    /// They go on, and the source has nothing more for them.
    IsOver,
    /// It is read again.
    IsReadAgain,
}

/// What tells a lookup's table apart from another one.
pub fn name_of(pipeline: &Pipeline, lookup: &str, spec: &LookupSpec) -> TableName {
    let column = |&(_, at): &(usize, usize)| {
        let column = &spec.table_schema.columns[at];
        format!("{}\0{}\0", column.name, column.data_type)
    };
    let added = |(text, column): (&String, _)| format!("{text}\0{column}\0");
    let types = spec.add.columns().iter().map(|(_, program)| program.data_type());
    let keys: String = spec.on.iter().map(column).collect();
    let added: String = spec.add_texts.iter().zip(types).map(added).collect();
    TableName {
        name: lookup.to_string(),
        source: pipeline.sources[spec.table].name.clone(),
        form: xxh3_64(format!("{keys}\0{added}").as_bytes()),
    }
}

/// The lookups of a pipeline whose table is a source's: their names and tables.
fn lookups_of(pipeline: &Pipeline, source: usize) -> Vec<(&str, TableName)> {
    let lookup = |transform: &'_ super::graph::TransformPlan| match &transform.kind {
        TransformKind::Lookup(spec) if spec.table == source => {
            Some(name_of(pipeline, &transform.name, spec))
        }
        _ => None,
    };
    let lookups = pipeline.transforms.iter();
    lookups.filter_map(|each| Some((each.name.as_str(), lookup(each)?))).collect()
}

/// Whether a source has nothing more for its tables: it feeds nothing else, had ended, and the
/// checkpoint has them all. What it holds now, or whether it is still there, means nothing.
pub fn is_over(pipeline: &Pipeline, at: usize, known: &Known) -> bool {
    let (plan, lookups) = (&pipeline.sources[at], lookups_of(pipeline, at));
    let are_known = lookups.iter().all(|(_, lookup)| known.tables.contains(lookup));
    plan.feeds_only_tables && are_known && known.ended.contains(&plan.name)
}

/// What becomes of a source's tables. `from` is what the run goes on from, `known` what that has
/// of tables; with checkpoints, that is: without there is neither.
///
/// # Errors
/// [`RunError`] that names the source and what to do.
pub fn start_of(
    pipeline: &Pipeline,
    at: usize,
    source: &dyn Source,
    from: &From,
    known: &Known,
) -> Result<Start, RunError> {
    let plan = &pipeline.sources[at];
    let lookups = lookups_of(pipeline, at);
    let Some((first, _)) = lookups.first() else { return Ok(Start::GoesOn) };
    let refused = |reason: String| Err(RunError::of(&plan.name, reason));
    let is_bounded = source.is_bounded();
    if !is_bounded && source.position().is_none() {
        return refused(format!(
            "the table of `{first}` has no end and cannot be read again: a run that goes on would \
             lack what came since its newest checkpoint; make it a source that can be, or leave \
             `[checkpoint]` out"
        ));
    }
    if from.restored.is_none() {
        return Ok(Start::GoesOn);
    }
    let can_be_read_again = is_bounded && plan.feeds_only_tables;
    let has_place = from.positions.iter().any(|(name, _)| *name == plan.name);
    match lookups.iter().find(|(_, lookup)| !known.tables.contains(lookup)) {
        None if is_bounded && is_over(pipeline, at, known) => Ok(Start::IsOver),
        None if can_be_read_again && !has_place => Ok(Start::IsReadAgain),
        Some(_) if can_be_read_again => Ok(Start::IsReadAgain),
        Some((name, _)) if known.tables.iter().any(|known| known.name == *name) => {
            refused(format!(
                "the checkpoint has the table of `{name}` in another form (another table, other key \
             columns or other `add`), and this source is not read again from its start; put \
             `{name}` back as it was, give it another name, or start afresh with `--restore none`"
            ))
        }
        _ => Ok(Start::GoesOn),
    }
}

/// A source that had ended.
pub struct Over {
    pub position: Option<u64>,
}

impl Source for Over {
    fn next(&mut self, _wait_ms: u64) -> Result<Next, PortError> {
        Ok(Next::End)
    }

    fn position(&self) -> Option<u64> {
        self.position
    }

    fn is_bounded(&self) -> bool {
        true
    }
}
