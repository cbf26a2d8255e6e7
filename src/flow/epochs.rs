//! Epochs of a run: when they begin, what the shards say of each, and which is durable.
//!
//! ```text
//! coordinator (a thread)   readers              shards                          store
//!   wanted = n ----------> barrier n to all --> all tasks of a shard at the
//!                          shards, between      barrier: sinks prepare part n,
//!                          two blocks           image of the state ------------> files, then the
//!   durable = n <------------------------------------------------------------- manifest's rename
//!                          sinks commit part n
//! ```
//!
//! Barriers are aligned (Chandy and Lamport, as in Flink): a task takes no input of the next epoch
//! before all of its inputs are at the barrier, and none of a shard's tasks goes on before all are
//! there. So a shard stands still only while its image is made; files are written meanwhile. Those
//! of an epoch that [`Epochs::overtaking`] names overtake the rows in flight instead, which then
//! belong to the checkpoint ([`super::stage_task`]).
//!
//! What is decided ([`Epochs::begin`], [`Epochs::overtake`], [`Epochs::take`],
//! [`Epochs::give_up`], [`Epochs::done`]) is apart from who waits: [`Epochs::coordinate`] drives
//! it on a thread with a clock, a simulation
//! step by step.
//!
//! 1. Epoch n + 1 is not begun before n is durable, has failed or has been given up.
//! 2. An epoch is durable once [`Store::write`] has returned; before that no part of it is seen.
//! 3. What a failed epoch held belongs to the next one: sinks commit all parts up to the durable
//!    epoch.
//! 4. The last epoch is begun by the first shard that ends, and has the same number on all.

mod overtake;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::chain::RowBounds;
use crate::ground::limits::CHECKPOINT_MOST_MS;
use crate::port::PortError;

pub use overtake::Unaligned;

/// What a checkpoint says beside the shards' images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub epoch: u64,
    /// Name of each source that takes part and where it stands; none if it cannot go back.
    pub positions: Vec<(String, Option<u64>)>,
}

/// What one shard gives to a checkpoint: the files of its folder there, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// To be written.
    pub written: Vec<(String, Arc<Vec<u8>>)>,
    /// To be linked: files of the shard that do not change and stay where they are until the
    /// checkpoint is durable or has failed.
    pub linked: Vec<(String, PathBuf)>,
    /// To be linked from the newest durable checkpoint, which has them under the same name.
    pub carried: Vec<String>,
    /// Memory that the shard does not need any more: to give so much back takes milliseconds.
    pub spent: Vec<Arc<Vec<u8>>>,
}

impl Share {
    /// A share that is one file.
    pub fn of(name: &str, bytes: Vec<u8>) -> Share {
        Share { written: vec![(name.to_string(), Arc::new(bytes))], ..Share::default() }
    }
}

/// Bytes of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Written for it.
    pub written: u64,
    /// With those that it shares with older ones.
    pub full: u64,
}

/// Where checkpoints are kept.
pub trait Store: Send + Sync {
    /// Makes a checkpoint durable: the share of every shard, then the rest. Gives its bytes.
    ///
    /// # Errors
    /// [`PortError`]; then this run does not count the epoch as durable. A later one may still find
    /// the checkpoint whole, and is right to use it.
    fn write(&self, checkpoint: &Checkpoint, shares: &[Share]) -> Result<Bytes, PortError>;
}

/// When checkpoints are made.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// From the beginning of one to that of the next, ms; none for no periodic ones.
    pub interval_ms: Option<u64>,
    /// From the end of one to the beginning of the next at least, ms.
    pub min_pause_ms: u64,
    /// After so long one that is not done has failed, ms.
    pub timeout_ms: u64,
    /// So many may fail one after the other.
    pub tolerable_failures: usize,
    /// How many rows they have.
    pub rows: RowBounds,
    /// When barriers overtake rows.
    pub unaligned: Unaligned,
}

/// What became of a run's checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Made {
    pub completed: u64,
    pub failed: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Longest that a shard stood still for its state, in ms: at a barrier, or for a slice of a
    /// base between two blocks.
    pub stood_still_ms: f64,
    /// Of the last one.
    pub bytes: Bytes,
}

/// How far an epoch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A shard has not given its share yet.
    Open,
    /// All have.
    Complete,
    /// A shard has ended: no further epoch begins, and this one comes to nothing.
    Over,
}

/// Counts failures in a row.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    tolerable: usize,
    failures: usize,
}

impl Patience {
    /// Bears a failure if it may be borne.
    ///
    /// # Errors
    /// That failure, if too many came one after the other.
    pub fn bear(&mut self, written: Result<(), PortError>) -> Result<(), PortError> {
        match written {
            Ok(()) => self.failures = 0,
            Err(error) if self.failures >= self.tolerable => return Err(error),
            Err(_) => self.failures += 1,
        }
        Ok(())
    }
}

struct Under {
    epoch: u64,
    shares: Vec<Option<Share>>,
    /// Where each source was at its last barrier, and that barrier's epoch.
    barriers: Vec<(u64, Option<u64>)>,
    /// Where each source ended.
    ends: Vec<Option<u64>>,
    /// Where each source's task stood when a barrier overtook blocks, and that barrier's epoch.
    cuts: Vec<(u64, Option<u64>)>,
    /// Where each source began, and whether it was left unread.
    begun: Vec<(Option<u64>, bool)>,
    /// Sources that are not yet where they go on from: a reader that is long in coming there would
    /// miss its barrier, and all others would wait for it.
    not_there: usize,
    /// Rows are read: tables that are waited for are there, so barriers can pass.
    started: bool,
    /// No further epoch begins: a shard has ended.
    over: bool,
    /// The run was told to stop, and a task has seen a source's end that is none.
    is_stopping: bool,
    /// Nobody waits for anything any more.
    aborted: bool,
    completed: u64,
    failed: u64,
    durations_us: Histogram<u64>,
    bytes: Bytes,
}

/// See the module's head. Shared by readers, shards and the coordinator.
pub struct Epochs {
    names: Vec<String>,
    rhythm: Rhythm,
    store: Option<Box<dyn Store>>,
    wanted: AtomicU64,
    durable: AtomicU64,
    /// The newest epoch whose barrier overtakes.
    overtaking: AtomicU64,
    /// Longest that a shard stood still.
    stood_ns: AtomicU64,
    under: Mutex<Under>,
    changed: Condvar,
}

impl Epochs {
    /// Epochs behind `restored` (0 for a fresh start), of sources of these names. Without a store
    /// there is but one, which ends with the run.
    pub fn new(
        names: Vec<String>,
        shards: usize,
        restored: u64,
        rhythm: Rhythm,
        store: Option<Box<dyn Store>>,
    ) -> Epochs {
        let under = Under {
            epoch: restored,
            shares: vec![None; shards],
            barriers: vec![(0, None); names.len()],
            ends: vec![None; names.len()],
            cuts: vec![(0, None); names.len()],
            begun: vec![(None, false); names.len()],
            not_there: names.len(),
            started: false,
            over: false,
            is_stopping: false,
            aborted: false,
            completed: 0,
            failed: 0,
            durations_us: Histogram::new_with_max(CHECKPOINT_MOST_MS * 1000, 3)
                .expect("the bounds are in order"),
            bytes: Bytes::default(),
        };
        Epochs {
            names,
            rhythm,
            store,
            wanted: AtomicU64::new(restored),
            durable: AtomicU64::new(restored),
            overtaking: AtomicU64::new(restored),
            stood_ns: AtomicU64::new(0),
            under: Mutex::new(under),
            changed: Condvar::new(),
        }
    }

    /// Whether images of the state are asked for.
    pub fn is_on(&self) -> bool {
        self.store.is_some()
    }

    /// How many rows checkpoints have.
    pub fn row_bounds(&self) -> RowBounds {
        self.rhythm.rows
    }

    /// From the beginning of an epoch to that of the next, in ms, if they are periodic.
    pub fn interval_ms(&self) -> Option<u64> {
        self.rhythm.interval_ms
    }

    /// Notes that a shard stood still for so long.
    pub fn note_stood(&self, ns: u64) {
        self.stood_ns.fetch_max(ns, Ordering::Relaxed);
    }

    /// The epoch that readers are to end next.
    pub fn wanted(&self) -> u64 {
        self.wanted.load(Ordering::Acquire)
    }

    /// The newest durable epoch.
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Says that rows are read now; before that no epoch begins, however long tables take.
    pub fn start(&self) {
        let mut under = self.lock();
        let was_started = std::mem::replace(&mut under.started, true);
        drop(under);
        if !was_started {
            self.changed.notify_all();
        }
    }

    /// Whether rows are read, of all sources: epochs may begin.
    pub fn has_started(&self) -> bool {
        self.lock().has_started()
    }

    /// Notes where a source is before anything is read, and that it is there: once for each.
    pub fn note_begin(&self, source: usize, position: Option<u64>) {
        let mut under = self.lock();
        under.begun[source].0 = position;
        under.not_there -= 1;
        drop(under);
        self.changed.notify_all();
    }

    /// Notes that all shards let go of what a source gave; false if it cannot be read again.
    pub fn leave_unread(&self, source: &str) -> bool {
        let Some(at) = self.names.iter().position(|name| name == source) else { return false };
        let begun = &mut self.lock().begun[at];
        begun.1 = begun.0.is_some();
        begun.1
    }

    /// Notes where a source is at the barrier that ends an epoch.
    pub fn note_barrier(&self, source: usize, epoch: u64, position: Option<u64>) {
        self.lock().barriers[source] = (epoch, position);
    }

    /// Notes where a source is when it ends or is stopped.
    pub fn note_end(&self, source: usize, position: Option<u64>) {
        self.lock().ends[source] = position;
    }

    /// Takes a shard's share of an epoch. One that came too late is dropped.
    pub fn put(&self, shard: usize, epoch: u64, share: Share) {
        let mut under = self.lock();
        if under.epoch == epoch {
            under.shares[shard] = Some(share);
        }
        drop(under);
        self.changed.notify_all();
    }

    /// The number of the last epoch; no other begins from now on.
    pub fn last(&self) -> u64 {
        let mut under = self.lock();
        if !under.over {
            under.over = true;
            under.next();
        }
        let epoch = under.epoch;
        drop(under);
        self.changed.notify_all();
        epoch
    }

    /// Ends the coordinator: the run is over or has failed.
    pub fn abort(&self) {
        let mut under = self.lock();
        (under.over, under.aborted) = (true, true);
        drop(under);
        self.changed.notify_all();
    }

    /// Begins the next epoch and gives its number; none if a shard has ended.
    pub fn begin(&self) -> Option<u64> {
        let mut under = self.lock();
        if under.over || under.is_stopping {
            return None;
        }
        under.next();
        if self.rhythm.unaligned == Unaligned::Always {
            // Before any reader deals the barrier: who meets it knows what it is.
            self.overtaking.store(under.epoch, Ordering::Release);
        }
        self.wanted.store(under.epoch, Ordering::Release);
        Some(under.epoch)
    }

    /// How far the epoch is that was begun last.
    pub fn progress(&self) -> Progress {
        self.lock().progress()
    }

    /// Takes what the shards gave to the epoch that was begun last, once all have; none before, or
    /// if the run is over, whose last epoch is for [`Epochs::finish`].
    pub fn take(&self) -> Option<(Checkpoint, Vec<Share>)> {
        let mut under = self.lock();
        (under.progress() == Progress::Complete).then(|| self.take_of(&mut under))
    }

    /// Gives up the epoch that was begun last: it took too long. What comes for it is dropped as
    /// soon as the next one begins.
    pub fn give_up(&self) -> PortError {
        let mut under = self.lock();
        under.failed += 1;
        let (epoch, ms) = (under.epoch, self.rhythm.timeout_ms);
        PortError::Data(format!(
            "checkpoint {epoch} was not done after {ms} ms; see `checkpoint.timeout`"
        ))
    }

    /// Notes what became of writing an epoch's checkpoint, which took so long.
    ///
    /// # Errors
    /// That of writing it.
    pub fn done(
        &self,
        epoch: u64,
        written: Result<Bytes, PortError>,
        took: Duration,
    ) -> Result<(), PortError> {
        let mut under = self.lock();
        let bytes = written.inspect_err(|_| under.failed += 1)?;
        self.durable.store(epoch, Ordering::Release);
        under.completed += 1;
        under.bytes = bytes;
        under.durations_us.saturating_record(took.as_micros() as u64);
        Ok(())
    }

    /// Makes the last epoch durable, when all shards have ended well.
    ///
    /// # Errors
    /// The store's.
    pub fn finish(&self) -> Result<(), PortError> {
        let Some(store) = &self.store else { return Ok(()) };
        let (checkpoint, shares) = self.take_of(&mut self.lock());
        self.write(&**store, &checkpoint, &shares)
    }

    /// What became of the checkpoints so far.
    pub fn made(&self) -> Made {
        let under = self.lock();
        let ms = |quantile| under.durations_us.value_at_quantile(quantile) as f64 / 1000.0;
        let (p50_ms, p99_ms) =
            if under.durations_us.is_empty() { (0.0, 0.0) } else { (ms(0.5), ms(0.99)) };
        let Under { completed, failed, bytes, .. } = *under;
        let stood_still_ms = self.stood_ns.load(Ordering::Relaxed) as f64 / 1e6;
        Made { completed, failed, p50_ms, p99_ms, stood_still_ms, bytes }
    }

    /// The coordinator: begins epochs in their rhythm until the run is over. To be run on a thread
    /// of its own.
    ///
    /// # Errors
    /// The last failure, if more failed one after the other than may.
    pub fn coordinate(&self) -> Result<(), PortError> {
        let (Some(store), Some(interval)) = (&self.store, self.rhythm.interval_ms) else {
            return Ok(());
        };
        let most = Duration::from_millis(self.rhythm.timeout_ms);
        let mut patience = self.patience();
        drop(self.changed.wait_while(self.lock(), |under| !under.has_started() && !under.over));
        let mut pause = Duration::from_millis(interval);
        loop {
            self.wait(pause, |under| !under.over);
            let started = now();
            if self.begin().is_none() {
                return Ok(());
            }
            self.wait_for_shares(most);
            let written = match (self.take(), self.progress()) {
                (Some((checkpoint, shares)), _) => self.write(&**store, &checkpoint, &shares),
                (None, Progress::Over) => return Ok(()),
                (None, _) => Err(self.give_up()),
            };
            patience.bear(written)?;
            let left = Duration::from_millis(interval).saturating_sub(started.elapsed());
            pause = left.max(Duration::from_millis(self.rhythm.min_pause_ms));
        }
    }

    /// How many checkpoints of this run may still fail.
    pub fn patience(&self) -> Patience {
        Patience { tolerable: self.rhythm.tolerable_failures, failures: 0 }
    }

    /// Waits while something holds, but not longer than `most`.
    fn wait(&self, most: Duration, mut holds: impl FnMut(&Under) -> bool) {
        let waited = self.changed.wait_timeout_while(self.lock(), most, |under| holds(under));
        drop(waited.unwrap_or_else(|poisoned| poisoned.into_inner()));
    }

    fn lock(&self) -> MutexGuard<'_, Under> {
        self.under.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn take_of(&self, under: &mut Under) -> (Checkpoint, Vec<Share>) {
        let at = |source: usize| match under.barriers[source] {
            _ if under.begun[source].1 => under.begun[source].0,
            _ if under.cuts[source].0 == under.epoch => under.cuts[source].1,
            (epoch, position) if epoch == under.epoch => position,
            _ => under.ends[source],
        };
        let positions = self.names.iter().enumerate().map(|(i, name)| (name.clone(), at(i)));
        let checkpoint = Checkpoint { epoch: under.epoch, positions: positions.collect() };
        let shares = under.shares.iter_mut().map(|share| share.take().unwrap_or_default());
        (checkpoint, shares.collect())
    }

    fn write(
        &self,
        store: &dyn Store,
        checkpoint: &Checkpoint,
        shares: &[Share],
    ) -> Result<(), PortError> {
        let started = now();
        let written = store.write(checkpoint, shares);
        self.done(checkpoint.epoch, written, started.elapsed())
    }
}

impl Under {
    fn next(&mut self) {
        self.epoch += 1;
        self.shares.iter_mut().for_each(|share| *share = None);
    }

    fn has_started(&self) -> bool {
        self.started && self.not_there == 0
    }

    fn progress(&self) -> Progress {
        match self.shares.iter().all(Option::is_some) {
            _ if self.over || self.is_stopping => Progress::Over,
            true => Progress::Complete,
            false => Progress::Open,
        }
    }
}

#[allow(clippy::disallowed_methods)] // The coordinator's own clock, on a thread of its own.
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
