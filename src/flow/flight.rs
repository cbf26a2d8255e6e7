//! Rows that a barrier has overtaken, as a checkpoint keeps them: what lies between the state at
//! the barrier and what comes from the sources again.
//!
//! ```text
//! flight:   "CWFLT001" | feeds: u32, for each:
//!           0 (a source's) or 1 (a stage's): u8 | name of the producer | of the stage that takes
//!           | inputs of the stage: u32, for each: form of its rows: u64
//!           | turn: u32 | watermark: i64 | 1 (idle) + 2 (still) + 4 (over): u8
//!           | epoch at whose barrier's place it waits for others: u64, or 0
//!           | shards: u32, for each: messages: u32, for each: message
//! message:  1 (rows) | input: u16 | rows: u32 | times, marks, hashes: each rows x 8 bytes
//!              | an archive of the rows
//!           2 (block end) | watermark: i64 | idle: u8
//!           3 (the place of a barrier) | epoch: u64
//!           4 (the place of a source's end: its reader begins with the first shard) | epoch: u64
//! numbers are little-endian; names and archives have a length of 4 before them
//! ```
//!
//! 1. A file has every feed of the shard whose task has let a barrier overtake, also one with
//!    nothing in flight: that stood elsewhere than its like on other shards.
//! 2. Where no shard has a message in flight all feeds stood at their barriers, and the files say
//!    nothing: then the checkpoint can be taken up on any number of shards.
//! 3. Ends of inputs are not kept: they come again.
//!
//! The checksum is that of the file around it.

use std::collections::VecDeque;
use std::sync::Arc;

use rkyv::util::AlignedVec;

use super::RunError;
use super::exchange::{Message, Parcel};
use super::feed::{Feed, Place, Producer};
use super::graph::ShardGraph;
use super::restore::Read;
use super::run::ExchangeAbout;
use super::snapshot::{Restored, RestoredShard};
use super::stage::{InputForm, Stage};
use crate::ground::batch::{Backing, BatchBuilder, RecordBatch};
use crate::ground::slot;
use crate::ground::time::Time;

/// What names of these files begin with; the epoch follows.
pub const FLIGHT: &str = "flight-";
const MAGIC: &[u8; 8] = b"CWFLT001";
const ROWS: u8 = 1;
const BLOCK_END: u8 = 2;
const BARRIER: u8 = 3;
const END: u8 = 4;
const IDLE: u8 = 1;
const STILL: u8 = 2;
const OVER: u8 = 4;

/// What a shard's tasks have in flight at the barrier of an epoch.
#[derive(Default)]
pub struct Flights {
    epoch: u64,
    feeds: Vec<Vec<u8>>,
}

impl Flights {
    /// Takes what a stage's feeds have in flight at the barrier of an epoch. What came for older
    /// ones, which were given up, is dropped.
    pub fn note(&mut self, epoch: u64, feeds: Vec<Vec<u8>>) {
        if epoch > self.epoch {
            (self.epoch, self.feeds) = (epoch, Vec::new());
        }
        if epoch == self.epoch {
            self.feeds.extend(feeds);
        }
    }

    /// The file of an epoch, if there is one: its name and what is in it.
    pub fn take(&mut self, epoch: u64) -> Option<(String, Vec<u8>)> {
        let feeds = std::mem::take(&mut self.feeds);
        if self.epoch != epoch || feeds.is_empty() {
            return None;
        }
        let mut out = MAGIC.to_vec();
        put_len(feeds.len(), &mut out);
        feeds.iter().for_each(|feed| out.extend_from_slice(feed));
        Some((format!("{FLIGHT}{epoch:010}"), out))
    }
}

/// A stage's feed at a barrier, as it is kept.
pub fn feed_bytes(graph: &ShardGraph, stage: usize, feed: &Feed, epoch: u64) -> Vec<u8> {
    let producer = producer_name(graph, feed.producer());
    bytes_of(producer, &graph.stages[stage], feed, epoch)
}

fn bytes_of(producer: &str, stage: &Stage, feed: &Feed, epoch: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let is_stage = matches!(feed.producer(), Producer::Stage(_));
    out.push(u8::from(is_stage));
    put_bytes(producer.as_bytes(), &mut out);
    put_bytes(stage.name.as_bytes(), &mut out);
    put_len(stage.inputs.len(), &mut out);
    stage.inputs.iter().for_each(|input| out.extend_from_slice(&input.form.to_le_bytes()));
    let Place { turn, carry, idle, still, is_done, barrier } = feed.place();
    put_len(turn, &mut out);
    out.extend_from_slice(&carry.to_le_bytes());
    let flag = |is_so: bool, flag: u8| if is_so { flag } else { 0 };
    out.push(flag(idle, IDLE) | flag(still, STILL) | flag(is_done, OVER));
    out.extend_from_slice(&barrier.unwrap_or(0).to_le_bytes());
    put_len(feed.in_flight().count(), &mut out);
    for messages in feed.in_flight() {
        let (at, mut count) = (out.len(), 0u32);
        put_len(0, &mut out);
        if feed.done.is_none() {
            messages.iter().for_each(|message| {
                count += u32::from(put_message(message, stage, is_stage, epoch, &mut out));
            });
        }
        out[at..at + 4].copy_from_slice(&count.to_le_bytes());
    }
    out
}

/// Appends a message; false if it is not kept.
fn put_message(
    message: &Message,
    stage: &Stage,
    is_stage: bool,
    epoch: u64,
    out: &mut Vec<u8>,
) -> bool {
    match message {
        Message::Rows(parcel) => put_rows(parcel, &stage.inputs[parcel.input], out),
        Message::BlockEnd { mark, idle, .. } => {
            out.push(BLOCK_END);
            out.extend_from_slice(&mark.to_le_bytes());
            out.push(u8::from(*idle));
        }
        Message::Barrier { overtakes: true, .. } => return false,
        Message::Barrier { epoch, .. } | Message::Place { epoch } => {
            put_place(BARRIER, *epoch, out);
        }
        Message::End { .. } if is_stage => return false,
        Message::End { .. } => put_place(END, epoch, out),
    }
    true
}

fn put_place(kind: u8, epoch: u64, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&epoch.to_le_bytes());
}

fn put_rows(parcel: &Parcel, form: &InputForm, out: &mut Vec<u8>) {
    out.push(ROWS);
    out.extend_from_slice(&(parcel.input as u16).to_le_bytes());
    put_len(parcel.select.len(), out);
    parcel.times.iter().for_each(|time| out.extend_from_slice(&time.to_le_bytes()));
    parcel.marks.iter().for_each(|mark| out.extend_from_slice(&mark.to_le_bytes()));
    parcel.hashes.iter().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
    let records = &parcel.records;
    let is_run = parcel.select.iter().enumerate().all(|(i, &row)| row as usize == i);
    if is_run && parcel.select.len() == records.rows() {
        return put_bytes(records.as_bytes(), out);
    }
    let mut meant = BatchBuilder::new(records.width(), parcel.select.len());
    for &row in &parcel.select {
        meant.push_row_of(records, row as usize, &form.heaped);
    }
    put_bytes(meant.finish().as_bytes(), out);
}

fn put_len(len: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(len as u32).to_le_bytes());
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_len(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn producer_name(graph: &ShardGraph, producer: Producer) -> &str {
    match producer {
        Producer::Source(source) => &graph.reached[source].0,
        Producer::Stage(stage) => &graph.stages[stage].name,
    }
}

/// A feed as a file has it.
struct Kept<'a> {
    is_stage: bool,
    producer: String,
    stage: String,
    forms: Vec<u64>,
    place: Place,
    /// By shard.
    messages: Vec<Vec<KeptMessage<'a>>>,
}

enum KeptMessage<'a> {
    Rows { input: usize, times: Vec<Time>, marks: Vec<Time>, hashes: Vec<u64>, archive: &'a [u8] },
    BlockEnd { mark: Time, idle: bool },
    Barrier { epoch: u64 },
    End { epoch: u64 },
}

impl Kept<'_> {
    /// Whether a block or a part of one is in flight.
    fn has_rows(&self) -> bool {
        let is_part = |message: &KeptMessage| {
            matches!(message, KeptMessage::Rows { .. } | KeptMessage::BlockEnd { .. })
        };
        self.messages.iter().flatten().any(is_part)
    }
}

/// Whether a checkpoint's shard has rows in flight.
///
/// # Errors
/// [`RunError`]: a file that is damaged.
pub fn has_rows(shard: &RestoredShard, number: usize) -> Result<bool, RunError> {
    Ok(feeds_of(shard, number)?.iter().any(Kept::has_rows))
}

/// Whether a run of so many shards can take up what is in flight in a checkpoint.
///
/// # Errors
/// [`RunError`]: it cannot, and what to do; or a file that is damaged.
pub fn can_take_up(shards: &[RestoredShard], have: usize) -> Result<(), RunError> {
    let had = shards.len();
    if had == have {
        return Ok(());
    }
    for (number, shard) in shards.iter().enumerate() {
        if has_rows(shard, number)? {
            return refused(format!(
                "it has rows in flight between {had} shards, since barriers overtook them \
                 (`checkpoint.unaligned`), and this run has {have}; run it once more with \
                 `cores = {had}` and end it in order (SIGTERM): the checkpoint of its end has none \
                 in flight"
            ));
        }
    }
    Ok(())
}

fn feeds_of(shard: &RestoredShard, number: usize) -> Result<Vec<Kept<'_>>, RunError> {
    let Some((name, bytes)) = shard.read.iter().find(|(name, _)| name.starts_with(FLIGHT)) else {
        return Ok(Vec::new());
    };
    take_apart(Read { rest: bytes, what: format!("`{name}` of shard {number}") })
}

fn take_apart(mut read: Read<'_>) -> Result<Vec<Kept<'_>>, RunError> {
    if read.take(MAGIC.len())? != MAGIC {
        return Err(read.damaged("it holds no rows in flight of this version"));
    }
    let feeds = (0..read.len()?).map(|_| kept(&mut read)).collect::<Result<Vec<_>, _>>()?;
    match read.rest.is_empty() {
        true => Ok(feeds),
        false => Err(read.damaged("there is more than it says")),
    }
}

fn kept<'a>(read: &mut Read<'a>) -> Result<Kept<'a>, RunError> {
    let is_stage = read.take(1)?[0] == 1;
    let (producer, stage) = (read.name()?, read.name()?);
    let forms = (0..read.len()?).map(|_| read.word()).collect::<Result<Vec<_>, _>>()?;
    let (turn, carry, flags) = (read.len()?, read.word()? as Time, read.take(1)?[0]);
    let (idle, still, is_done) = (flags & IDLE != 0, flags & STILL != 0, flags & OVER != 0);
    let barrier = Some(read.word()?).filter(|&epoch| epoch > 0);
    let mut messages = Vec::new();
    for _ in 0..read.len()? {
        let of_shard = (0..read.len()?).map(|_| message(read)).collect::<Result<Vec<_>, _>>()?;
        messages.push(of_shard);
    }
    if turn >= messages.len() {
        return Err(read.damaged("it is the turn of a shard that there is not"));
    }
    let place = Place { turn, carry, idle, still, is_done, barrier };
    Ok(Kept { is_stage, producer, stage, forms, place, messages })
}

fn message<'a>(read: &mut Read<'a>) -> Result<KeptMessage<'a>, RunError> {
    match read.take(1)?[0] {
        ROWS => {
            let input = usize::from(read.half()?);
            let count = read.len()?;
            let mut words = || {
                let bytes = read.take(count.saturating_mul(8))?;
                let word = |word: &[u8]| {
                    u64::from_le_bytes(word.try_into().expect("chunks of eight bytes"))
                };
                Ok::<Vec<u64>, RunError>(bytes.chunks_exact(8).map(word).collect())
            };
            let times = words()?.into_iter().map(|word| word as Time).collect();
            let marks = words()?.into_iter().map(|word| word as Time).collect();
            let hashes = words()?;
            Ok(KeptMessage::Rows { input, times, marks, hashes, archive: read.bytes()? })
        }
        BLOCK_END => {
            Ok(KeptMessage::BlockEnd { mark: read.word()? as Time, idle: read.take(1)?[0] == 1 })
        }
        BARRIER => Ok(KeptMessage::Barrier { epoch: read.word()? }),
        END => Ok(KeptMessage::End { epoch: read.word()? }),
        _ => Err(read.damaged("a message is of no known kind")),
    }
}

/// A feed that goes on from a checkpoint: an exchange, where it stood, what is in flight from each
/// shard.
type Resumed = (usize, Place, Vec<VecDeque<Message>>);

/// What a shard of a run takes up of the rows in flight.
#[derive(Default)]
pub struct InFlight {
    feeds: Vec<Resumed>,
    /// Messages of all feeds.
    pub messages: usize,
}

impl InFlight {
    /// What the shard of `graph` takes up of a checkpoint.
    ///
    /// # Errors
    /// [`RunError`]: a file that is damaged; or rows are in flight where the run has another number
    /// of shards, or not their exchange.
    pub fn of(
        graph: &ShardGraph,
        about: &[ExchangeAbout],
        restored: &Restored,
    ) -> Result<InFlight, RunError> {
        let numbered = restored.shards.iter().enumerate();
        let shards: Vec<Vec<Kept<'_>>> =
            numbered.map(|(number, shard)| feeds_of(shard, number)).collect::<Result<_, _>>()?;
        if !shards.iter().flatten().any(Kept::has_rows) {
            return Ok(InFlight::default());
        }
        let have = graph.shards;
        can_take_up(&restored.shards, have)?;
        let mut own = InFlight::default();
        for kept in shards.into_iter().nth(graph.shard).unwrap_or_default() {
            let found = about.iter().position(|exchange| {
                let (stage, is_stage) = (exchange.stage, kept.is_stage);
                !exchange.direct
                    && exchange.table.is_none()
                    && graph.stages[stage].name == kept.stage
                    && matches!(exchange.producer, Producer::Stage(_)) == is_stage
                    && producer_name(graph, exchange.producer) == kept.producer
            });
            match found {
                Some(at) => own.take_up(at, &graph.stages[about[at].stage], kept, have)?,
                None if !kept.has_rows() => {}
                None => return gone(&kept, "the pipeline no longer has in this form"),
            }
        }
        Ok(own)
    }

    fn take_up(
        &mut self,
        exchange: usize,
        stage: &Stage,
        kept: Kept<'_>,
        shards: usize,
    ) -> Result<(), RunError> {
        let forms = stage.inputs.iter().map(|input| input.form);
        if kept.has_rows() && !forms.eq(kept.forms.iter().copied()) {
            return gone(&kept, "have other columns now");
        }
        if kept.messages.len() != shards {
            return refused(format!(
                "its rows in flight to `{}` are of {} shards and not of {shards}: it is damaged; \
                 take an older one (`--restore PATH`)",
                kept.stage,
                kept.messages.len()
            ));
        }
        let mut ahead = Vec::with_capacity(shards);
        for messages in kept.messages {
            self.messages += messages.len();
            let taken = messages.into_iter().map(|message| taken(message, stage));
            ahead.push(taken.collect::<Result<VecDeque<Message>, _>>()?);
        }
        self.feeds.push((exchange, kept.place, ahead));
        Ok(())
    }

    /// Takes out what belongs to an exchange, if there is something.
    pub fn take(&mut self, exchange: usize) -> Option<(Place, Vec<VecDeque<Message>>)> {
        let at = self.feeds.iter().position(|(own, _, _)| *own == exchange)?;
        let (_, place, ahead) = self.feeds.swap_remove(at);
        Some((place, ahead))
    }
}

fn refused<T>(reason: String) -> Result<T, RunError> {
    Err(RunError::of("checkpoint", reason))
}

fn gone<T>(kept: &Kept<'_>, what: &str) -> Result<T, RunError> {
    refused(format!(
        "it has rows in flight from `{}` to `{}`, which {what}; run the pipeline as it was once more \
         and end it in order (SIGTERM): the checkpoint of its end has none in flight; or start \
         afresh with `--restore none`",
        kept.producer, kept.stage
    ))
}

fn taken(message: KeptMessage<'_>, stage: &Stage) -> Result<Message, RunError> {
    match message {
        KeptMessage::BlockEnd { mark, idle } => Ok(Message::BlockEnd { arrival: None, mark, idle }),
        KeptMessage::Barrier { epoch } => Ok(Message::Barrier { epoch, overtakes: false }),
        KeptMessage::End { epoch } => Ok(Message::Barrier { epoch, overtakes: true }),
        KeptMessage::Rows { input, times, marks, hashes, archive } => {
            let damaged = |why: String| {
                let name = &stage.name;
                RunError::of("checkpoint", format!("rows in flight to `{name}`: {why}"))
            };
            let Some(form) = stage.inputs.get(input) else {
                return Err(damaged("the stage has no such input".into()));
            };
            let mut copy = AlignedVec::new();
            copy.extend_from_slice(archive);
            let records = RecordBatch::from_bytes(Arc::new(Held(copy)), 0, archive.len());
            let records = records.map_err(|error| damaged(error.to_string()))?;
            if records.width() != form.width || records.rows() != times.len() {
                return Err(damaged("they have another form than it says".into()));
            }
            let is_inside = |value: u64| {
                !slot::is_heaped(value)
                    || slot::offset(value) + slot::len(value) <= records.heap().len()
            };
            let texts = |row: usize| form.heaped.iter().map(move |&column| (row, column));
            let mut all = (0..records.rows()).flat_map(texts);
            if !all.all(|(row, column)| is_inside(records.row(row)[column])) {
                return Err(damaged("a text lies outside its rows".into()));
            }
            let select = (0..records.rows() as u32).collect();
            let records = Arc::new(records);
            let arrival = None;
            Ok(Message::Rows(Parcel { input, records, select, times, marks, hashes, arrival }))
        }
    }
}

/// An archive that was copied to where it can be read in place.
struct Held(AlignedVec<16>);

impl Backing for Held {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests;
