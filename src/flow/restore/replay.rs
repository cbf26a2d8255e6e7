//! Working rows through again that came since a base: see [`crate::flow::log`].
//!
//! 1. What operators put out meanwhile is dropped: it is in the epochs that are delivered already.
//! 2. Operators count from 0 afterwards: the figures of a run are of its own rows.

use super::read::Read;
use super::slices::Slices;
use crate::flow::RunError;
use crate::flow::graph::ShardGraph;
use crate::flow::log::{LOG_MAGIC, NARROW, ROWS, SLICED, WATERMARK, WIDE};
use crate::flow::stage::Stage;
use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::time::Time;
use crate::ground::{key, slot};
use crate::ops::Rows;
use crate::state::keys::KeyTable;

/// Buffers for rows that are read, used again.
#[derive(Default)]
struct Came {
    times: Vec<Time>,
    marks: Vec<Time>,
    all: Vec<u32>,
    hashes: Vec<u64>,
    select: Vec<u32>,
    slots: Vec<u32>,
}

/// Gives the rows and watermarks of a log to the stages of a graph that stand where the log
/// begins: those of the keys that are the shard's own now. Slices of a base are loaded on the way.
///
/// # Errors
/// [`RunError`]: the log is damaged, or an operator's.
pub(super) fn replay(
    graph: &mut ShardGraph,
    mut read: Read<'_>,
    slices: &mut Slices<'_>,
) -> Result<(), RunError> {
    if read.take(LOG_MAGIC.len())? != LOG_MAGIC {
        return Err(read.damaged("it is no log of this version"));
    }
    let mut came = Came::default();
    let mut builders: Vec<Vec<BatchBuilder>> = graph.stages.iter().map(builders).collect();
    while !read.rest.is_empty() {
        let (kind, id) = (read.take(1)?[0], read.half()?);
        if kind == SLICED {
            let (base, number) = (read.word()?, read.len()? as u32);
            slices.load(graph, (id, base, number), &read)?;
            continue;
        }
        let found = graph.stages.iter().position(|stage| stage.id == id);
        let Some(at) = found else {
            return Err(read.damaged("it names a stage that the image does not have"));
        };
        let stage = &mut graph.stages[at];
        match kind {
            WATERMARK => stage.watermark(read.word()? as Time)?,
            ROWS => {
                let input = usize::from(read.half()?);
                let Some(builder) = builders[at].get_mut(input) else {
                    return Err(read.damaged("it names an input that the stage does not have"));
                };
                let batch = read.batch(stage, input, builder, &mut came)?;
                came.choose(stage, input, &batch, |group| {
                    key::shard_of(group, graph.shards) == graph.shard
                });
                let missing = slices.missing(id);
                if missing.is_empty() {
                    let Came { times, marks, hashes, select, .. } = &came;
                    if !select.is_empty() {
                        let rows = Rows { records: &batch, select, times, marks };
                        stage.rows(input, &rows, Some(hashes))?;
                    }
                } else {
                    came.pass_by(stage, input, &batch, missing)?;
                    let Came { times, marks, select, slots, .. } = &came;
                    if !select.is_empty() {
                        let rows = Rows { records: &batch, select, times, marks };
                        stage.take(input, &rows, slots)?;
                    }
                }
                builder.recycle(batch);
            }
            _ => return Err(read.damaged("an entry is of no known kind")),
        }
        stage.drop_outputs();
    }
    graph.stages.iter_mut().for_each(Stage::forget_counts);
    Ok(())
}

fn builders(stage: &Stage) -> Vec<BatchBuilder> {
    stage.inputs.iter().map(|form| BatchBuilder::new(form.width, 0)).collect()
}

impl Came {
    /// Leaves the rows of wanted key groups: all, mostly.
    fn choose(
        &mut self,
        stage: &Stage,
        input: usize,
        batch: &RecordBatch,
        is_wanted: impl Fn(usize) -> bool,
    ) {
        let Came { times, marks, all, hashes, select, .. } = self;
        let rows = batch.rows();
        all.extend(all.len() as u32..rows as u32);
        let columns = &stage.key_columns[input];
        KeyTable::hash(batch, &all[..rows], columns, &stage.key_types, hashes);
        select.clear();
        for row in 0..rows {
            if is_wanted(key::group(hashes[row])) {
                let to = select.len();
                (times[to], marks[to], hashes[to]) = (times[row], marks[row], hashes[row]);
                select.push(row as u32);
            }
        }
        times.truncate(select.len());
        marks.truncate(select.len());
        hashes.truncate(select.len());
    }
}

impl Came {
    /// Finds the slots of rows and leaves those that are not `missing`.
    fn pass_by(
        &mut self,
        stage: &mut Stage,
        input: usize,
        batch: &RecordBatch,
        missing: std::ops::Range<u32>,
    ) -> Result<(), RunError> {
        let Came { times, marks, hashes, select, slots, .. } = self;
        let rows = Rows { records: batch, select, times, marks };
        stage.resolve(input, &rows, Some(hashes), slots)?;
        let mut to = 0;
        for row in 0..select.len() {
            if !missing.contains(&slots[row]) {
                (times[to], marks[to], select[to], slots[to]) =
                    (times[row], marks[row], select[row], slots[row]);
                to += 1;
            }
        }
        [times, marks].iter_mut().for_each(|times| times.truncate(to));
        [select, slots].iter_mut().for_each(|places| places.truncate(to));
        Ok(())
    }
}

impl Read<'_> {
    /// The rows of an entry, behind its input; their times and marks go to `came`.
    fn batch(
        &mut self,
        stage: &Stage,
        input: usize,
        builder: &mut BatchBuilder,
        came: &mut Came,
    ) -> Result<RecordBatch, RunError> {
        let form = &stage.inputs[input];
        let (rows, width) = (self.len()?, self.len()?);
        let has_nulls = self.take(1)?[0] == 1;
        let heap = self.len()?;
        if width != form.width {
            return Err(self.damaged("its rows have another width than the stage's"));
        }
        self.times(rows, &mut came.times)?;
        self.times(rows, &mut came.marks)?;
        let words = self.take(rows * width * 8)?;
        let null_words = width.div_ceil(64);
        let nulls = self.take(if has_nulls { rows * null_words * 8 } else { 0 })?;
        builder.heap.extend_from_slice(self.take(heap)?);
        let at = builder.extend_rows_to_set(rows);
        for (own, word) in builder.slots_mut()[at..].iter_mut().zip(words.chunks_exact(8)) {
            *own = word_of(word);
        }
        if has_nulls {
            for (own, word) in builder.nulls_mut().iter_mut().zip(nulls.chunks_exact(8)) {
                *own = word_of(word);
            }
        }
        let batch = builder.finish();
        for &column in &form.heaped {
            let of = |row: usize| batch.row(row)[column];
            let is_inside = |value: u64| {
                !slot::is_heaped(value)
                    || slot::offset(value) + slot::len(value) <= batch.heap().len()
            };
            if !(0..rows).all(|row| is_inside(of(row))) {
                return Err(self.damaged("a text lies outside its rows"));
            }
        }
        Ok(batch)
    }

    fn times(&mut self, count: usize, out: &mut Vec<Time>) -> Result<(), RunError> {
        out.clear();
        match self.take(1)?[0] {
            WIDE => {
                let words = self.take(count * 8)?.chunks_exact(8);
                out.extend(words.map(|word| word_of(word) as Time));
            }
            NARROW => {
                let least = self.word()? as Time;
                let above = |half: &[u8]| u32::from_le_bytes([half[0], half[1], half[2], half[3]]);
                let halves = self.take(count * 4)?.chunks_exact(4);
                out.extend(halves.map(|half| least.wrapping_add(i64::from(above(half)))));
            }
            _ => return Err(self.damaged("times are of no known form")),
        }
        Ok(())
    }
}

/// A word of exactly eight bytes.
fn word_of(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(bytes);
    u64::from_le_bytes(word)
}
