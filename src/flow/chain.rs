//! The files of a shard since its last base: what the next checkpoint consists of.
//!
//! ```text
//! all keys in memory:      base (epoch 10) | start (its image) | rows 11..14 | rows 15 | rows 16..
//! keys have left memory:   base (epoch 10) | delta 11 | delta 12 | ...
//! ```
//!
//! 1. A *base* is a delta with every key that is in memory, here or in the store's memtables, so
//!    that files before it are not needed.
//! 2. While all keys are in memory, a base is followed by the rows that came since
//!    ([`super::log`]); another one is made when there are many times its bytes of them, when an
//!    epoch had more than are kept, and at the run's end, so that a changed pipeline has no rows of
//!    the old one to work through. A file of few rows is written again with the next epoch's, so
//!    that there are not too many.
//! 3. Such a base is made in slices between blocks of rows (`flow::slices`), of few keys at
//!    once. It takes the place of the old one at the first barrier behind its last slice, and has
//!    the rows since it was begun; until then checkpoints have the old one and all rows. Where rows
//!    of an epoch are not kept, it is begun as long before the barrier as it may take, and rows are
//!    kept from there. A base that is needed and not there yet is made to its end at the barrier.
//! 4. Once keys have left memory, a base is followed by deltas of what changed; another one is made
//!    when they have as many bytes as it. So a checkpoint costs what came or changed.
//! 5. A file that no durable checkpoint has yet is kept, and given again.

mod pace;

use std::sync::Arc;

use super::epochs::Share;
use super::log::Log;
use super::slices::Slices;
use super::snapshot::{
    Beneath, DELTA, DELTA_MAGIC, LOG, START, put_leaving, put_lot, put_store_memory,
};
use super::stage::Stage;
use crate::ground::limits::{
    LOG_BASE_TIMES, LOG_BYTES, LOG_EPOCH_BYTES, LOG_EPOCH_TIMES, LOG_FILES_MAX, LOG_REST_EPOCHS,
    LOG_SEGMENT_BYTES, SLICE_KEYS, SLICE_STEP_NS, SLICED_LOG_TIMES, WHOLE_KEYS,
};
use pace::Pace;

/// Bytes that a key may take in a base, roughly: for room that is not touched unless it is needed.
const KEY_BYTES: usize = 256;
/// Bytes of a base without keys, at most.
const EMPTY_BYTES: usize = 12;

/// How many rows checkpoints have.
#[derive(Clone, Copy, Debug)]
pub struct RowBounds {
    /// Bytes of one epoch past which they are given up.
    pub epoch_bytes: usize,
    /// Bytes at which a file is ended: a smaller one is written again with the next epoch.
    pub file_bytes: usize,
    /// Files that are ended, of one shard.
    pub files: usize,
    /// Bytes since the base at which another one is made: `times` the base's, within `bytes`.
    pub times: usize,
    pub bytes: (usize, usize),
    /// Keys of all stages up to which a base is made at once.
    pub whole_keys: usize,
    /// Keys of a slice of a base; the next power of two is taken.
    pub slice_keys: usize,
    /// Slices between two blocks, if time does not end it before.
    pub slices: usize,
}

impl Default for RowBounds {
    fn default() -> RowBounds {
        RowBounds {
            epoch_bytes: LOG_EPOCH_BYTES,
            file_bytes: LOG_SEGMENT_BYTES,
            files: LOG_FILES_MAX,
            times: LOG_BASE_TIMES,
            bytes: LOG_BYTES,
            whole_keys: WHOLE_KEYS,
            slice_keys: SLICE_KEYS,
            slices: usize::MAX,
        }
    }
}

/// A file that the next checkpoint needs.
struct Piece {
    name: String,
    epoch: u64,
    len: usize,
    /// Until it is durable (invariant 4).
    bytes: Option<Arc<Vec<u8>>>,
}

/// What follows the base.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Followed {
    #[default]
    ByDeltas,
    ByRows,
}

/// How urgent another base is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    No,
    /// It is to be begun.
    Soon,
    /// The next checkpoint cannot do without.
    Now,
}

/// See the module's head.
#[derive(Default)]
pub struct Chain {
    /// The rows that come.
    pub log: Log,
    bounds: RowBounds,
    base: Option<Piece>,
    start: Option<Piece>,
    followed: Followed,
    behind: Vec<Piece>,
    /// A base that is being made, and which files of `behind` are the first of its own.
    next: Option<Slices>,
    next_from: usize,
    /// Bases of slices that were begun.
    bases: u64,
    /// Rows since the base are missing in `behind`.
    is_broken: bool,
    /// An epoch had more rows than are kept.
    had_too_many: bool,
    /// Bytes of one epoch's rows that are kept beside this base.
    most: usize,
    pace: Pace,
    /// The epoch of the last barrier.
    epoch: u64,
    /// Longest that the shard stood still since somebody asked, ns.
    stood_ns: u64,
    /// First epoch of the log's open file.
    opened: u64,
    /// Bases that pass before rows are noted again.
    rest: u32,
    /// Memory of a file of rows that is durable, for another one.
    spare: Vec<u8>,
    /// As `spare`, of a base, while each epoch has one.
    spare_base: Vec<u8>,
    /// Memory that nobody here needs any more.
    spent: Vec<Arc<Vec<u8>>>,
    /// Keys that changed in this epoch and have left memory since.
    left: Vec<u8>,
    /// Up to where deltas have what is in the store's memory.
    since: u64,
    slots: Vec<u32>,
}

impl Piece {
    fn new(name: String, epoch: u64, bytes: Arc<Vec<u8>>) -> Piece {
        Piece { name, epoch, len: bytes.len(), bytes: Some(bytes) }
    }

    fn give(&self, share: &mut Share) {
        match &self.bytes {
            Some(bytes) => share.written.push((self.name.clone(), bytes.clone())),
            None => share.carried.push(self.name.clone()),
        }
    }
}

impl Chain {
    /// A chain without files yet, of checkpoints that are so far apart.
    pub fn new(bounds: RowBounds, interval_ms: Option<u64>) -> Chain {
        let most = bounds.epoch_bytes;
        Chain { bounds, most, pace: Pace::new(interval_ms), ..Chain::default() }
    }

    /// Begins with a run, behind `epoch`, whose keys are all in memory: rows are kept from its
    /// first one on. `start` is the image of now.
    pub fn open(
        &mut self,
        stages: &mut [Stage],
        epoch: u64,
        start: Arc<Vec<u8>>,
        ticks_ns: &dyn Fn() -> u64,
    ) {
        self.epoch = epoch;
        self.pace.barrier(ticks_ns());
        let keys = live(stages);
        if keys == 0 || keys > self.bounds.whole_keys {
            self.begin(stages, start, ticks_ns());
        }
    }

    /// Takes down keys that changed in this epoch and are about to leave memory.
    pub fn leave(&mut self, stage: &Stage, slots: &[u32]) {
        put_leaving(stage, slots, &mut self.left);
    }

    /// Keeps no rows from now on: stages have another input, keys that come and go.
    pub fn close(&mut self, stages: &mut [Stage]) {
        self.log.end();
        self.give_up(stages);
    }

    /// Longest that the shard stood still for its state since the last call, ns.
    pub fn take_stood_ns(&mut self) -> u64 {
        std::mem::take(&mut self.stood_ns)
    }

    /// Whether there is nothing to be done between two blocks. A few compares.
    #[inline]
    pub fn is_calm(&self) -> bool {
        match &self.next {
            Some(next) => self.log.is_open() && next.is_complete(),
            None => self.log.is_open(),
        }
    }

    /// Whether a base is to be begun between two blocks.
    pub fn wants_to_begin(&self, stages: &[Stage], now_ns: u64) -> bool {
        let keys = live(stages);
        self.next.is_none()
            && !self.log.is_open()
            && keys > self.bounds.whole_keys
            && self.pace.is_time(keys, now_ns)
    }

    /// Begins a base of slices, whose rows are kept from now on. `start` is the image of now.
    pub fn begin(&mut self, stages: &mut [Stage], start: Arc<Vec<u8>>, now_ns: u64) {
        debug_assert!(self.next.is_none(), "one base is made at a time");
        self.bases += 1;
        let buffer = std::mem::take(&mut self.spare_base);
        let grain = self.bounds.slice_keys;
        let before = self.base.as_ref().map_or(0, |base| base.len + base.len / 8);
        let room = before.max(live(stages) * KEY_BYTES);
        self.next = Some(Slices::begin(self.bases, stages, start, grain, (buffer, room, now_ns)));
        self.next_from = self.behind.len();
        if !self.log.is_open() {
            self.lose_rows();
            self.log.begin(std::mem::take(&mut self.spare), 0);
            self.opened = self.epoch + 1;
        }
        self.log.set_most(match live(stages) {
            // A run's beginning: nobody knows yet how much comes.
            0 => self.bounds.epoch_bytes,
            _ => self.bounds.epoch_bytes.saturating_mul(SLICED_LOG_TIMES),
        });
    }

    /// Makes slices of stages that are between two blocks, for a while.
    pub fn step(&mut self, stages: &mut [Stage], at_rest: &[usize], ticks_ns: &dyn Fn() -> u64) {
        if !self.log.is_open() {
            self.lose_rows();
            self.give_up(stages);
        }
        let Some(next) = &mut self.next else { return };
        let (began_ns, mut slices) = (ticks_ns(), 0);
        let mut has_time = || {
            slices += 1;
            slices < self.bounds.slices && ticks_ns().saturating_sub(began_ns) < SLICE_STEP_NS
        };
        'all: for &at in at_rest {
            while next.step(at, &mut stages[at], &mut self.log) {
                if !has_time() {
                    break 'all;
                }
            }
        }
        let now_ns = ticks_ns();
        if next.is_complete() {
            self.pace.took(now_ns.saturating_sub(next.began_ns));
        }
        self.stood_ns = self.stood_ns.max(now_ns.saturating_sub(began_ns));
    }

    /// Makes the files of an epoch, which may be the run's last, and adds all that its checkpoint
    /// needs to `share`. `durable` is the newest durable epoch, `beneath` the store if keys have
    /// left memory, `start` this epoch's image. O(what came or changed), or O(state in memory) for
    /// a base that cannot be made in slices.
    #[allow(clippy::too_many_arguments, reason = "what a barrier knows")]
    pub fn take(
        &mut self,
        stages: &mut [Stage],
        (epoch, is_last): (u64, bool),
        durable: u64,
        beneath: Option<&dyn Beneath>,
        start: &Arc<Vec<u8>>,
        ticks_ns: &dyn Fn() -> u64,
        share: &mut Share,
    ) {
        let began_ns = ticks_ns();
        self.let_go(durable);
        let (has_store, before) = (beneath.is_some(), self.epoch);
        debug_assert!(epoch > before, "epochs come in their order");
        self.epoch = epoch;
        if !self.log.is_open() {
            self.lose_rows();
        }
        if is_last || has_store || !self.log.is_open() {
            self.give_up(stages);
        }
        let keys = live(stages);
        let need = self.need(is_last, has_store, keys);
        let is_few = keys <= self.bounds.whole_keys;
        if self.next.is_some() && !(need != Need::No && is_few) {
            self.go_on_at_barrier(stages, need, ticks_ns);
        }
        let is_complete = self.next.as_ref().is_some_and(Slices::is_complete);
        match need {
            Need::Soon | Need::Now if is_few => self.take_base(stages, epoch, beneath, start),
            _ if is_complete => self.take_slices(epoch, keys),
            Need::Now => self.take_base(stages, epoch, beneath, start),
            Need::Soon if self.next.is_none() => {
                self.end_file(epoch);
                self.begin(stages, start.clone(), ticks_ns());
            }
            Need::Soon | Need::No if self.followed == Followed::ByRows => self.take_rows(epoch),
            Need::Soon | Need::No => {
                let delta = self.delta(stages, false, beneath, 0);
                self.behind.push(Piece::new(delta_name(epoch), epoch, Arc::new(delta)));
            }
        }
        let all = self.base.iter().chain(&self.start).chain(&self.behind);
        all.for_each(|piece| piece.give(share));
        if self.log.is_open() && !self.log.is_empty() {
            let bytes = Arc::new(self.log.bytes().to_vec());
            share.written.push((log_name(self.opened), bytes));
        }
        share.spent.append(&mut self.spent);
        let now_ns = ticks_ns();
        self.pace.barrier(now_ns);
        if !is_last {
            self.stood_ns = self.stood_ns.max(now_ns.saturating_sub(began_ns));
        }
    }

    /// At a barrier all stages are between two blocks, also those that no rows come to.
    fn go_on_at_barrier(&mut self, stages: &mut [Stage], need: Need, ticks_ns: &dyn Fn() -> u64) {
        let all: Vec<usize> = (0..stages.len()).collect();
        if need != Need::Now {
            return self.step(stages, &all, ticks_ns);
        }
        let Some(next) = self.next.as_mut().filter(|next| !next.is_complete()) else { return };
        for at in all {
            while next.step(at, &mut stages[at], &mut self.log) {}
        }
        self.pace.took_too_long(ticks_ns().saturating_sub(next.began_ns));
    }

    /// Notes that rows came that are not kept.
    fn lose_rows(&mut self) {
        self.had_too_many |= self.start.is_some() && !self.is_broken;
        self.is_broken = true;
    }

    fn give_up(&mut self, stages: &mut [Stage]) {
        if let Some(next) = self.next.take() {
            self.spare_base = next.end(stages);
            self.log.set_most(self.most);
        }
    }

    /// Lets go of the bytes of files that are durable.
    fn let_go(&mut self, durable: u64) {
        for piece in self.base.iter_mut().chain(&mut self.start).chain(&mut self.behind) {
            if piece.epoch > durable {
                continue;
            }
            let bytes = piece.bytes.take().and_then(|bytes| Arc::try_unwrap(bytes).ok());
            let Some(mut bytes) = bytes else { continue };
            if piece.name.starts_with(LOG) && bytes.capacity() > self.spare.capacity() {
                std::mem::swap(&mut self.spare, &mut bytes);
            } else if piece.name.starts_with(DELTA) && self.rest > 0 {
                std::mem::swap(&mut self.spare_base, &mut bytes);
            }
            self.spent.push(Arc::new(bytes));
        }
    }

    /// Whether an epoch's checkpoint has to have all keys.
    fn need(&self, is_last: bool, has_store: bool, keys: usize) -> Need {
        let Some(base) = &self.base else { return Need::Now };
        let behind: usize = self.behind.iter().map(|piece| piece.len).sum();
        if self.followed == Followed::ByDeltas {
            return if behind >= base.len { Need::Now } else { Need::No };
        }
        let RowBounds { files, times, bytes: (least, most), .. } = self.bounds;
        let bytes = behind + self.log.bytes().len();
        let limit = base.len.saturating_mul(times).clamp(least, most);
        let is_past =
            |files: usize, bytes_max: usize| self.behind.len() >= files || bytes >= bytes_max;
        let has_keys = base.len > EMPTY_BYTES;
        match () {
            () if is_last || has_store || self.is_broken => Need::Now,
            () if is_past(files * 2, limit.saturating_mul(2)) => Need::Now,
            () if is_past(files, limit) || (!has_keys && keys > 0) => Need::Soon,
            () => Need::No,
        }
    }

    /// Makes a base of all keys at once.
    fn take_base(
        &mut self,
        stages: &mut [Stage],
        epoch: u64,
        beneath: Option<&dyn Beneath>,
        start: &Arc<Vec<u8>>,
    ) {
        self.give_up(stages);
        let room = self.base.as_ref().map_or(0, |base| base.len + base.len / 8);
        self.start = None;
        self.spent.extend(self.behind.drain(..).filter_map(|piece| piece.bytes));
        self.left.clear();
        self.since = 0;
        let base = self.delta(stages, true, beneath, room);
        self.settle_on(base, epoch, live(stages));
        if beneath.is_some() {
            self.followed = Followed::ByDeltas;
            return;
        }
        if self.is_resting() {
            return self.log.close();
        }
        self.start = Some(Piece::new(START.to_string(), epoch, start.clone()));
        self.log.begin(std::mem::take(&mut self.spare), self.most);
        self.opened = epoch + 1;
    }

    /// Takes the base of slices that is complete, with the rows since it was begun.
    fn take_slices(&mut self, epoch: u64, keys: usize) {
        let Some(next) = self.next.take() else { return };
        let old = self.behind.drain(..self.next_from);
        self.spent.extend(old.filter_map(|piece| piece.bytes));
        self.left.clear();
        self.since = 0;
        self.start = Some(Piece::new(START.to_string(), epoch, next.start));
        self.settle_on(next.bytes, epoch, keys);
        if self.is_resting() {
            self.end_file(epoch);
            return self.log.close();
        }
        self.log.set_most(self.most);
        self.take_rows(epoch);
    }

    /// Has this base of so many keys from now on.
    fn settle_on(&mut self, base: Vec<u8>, epoch: u64, keys: usize) {
        // A base that takes longer than epochs do cannot be made in each: then all rows are kept.
        let fits = keys <= self.bounds.whole_keys || self.pace.fits(keys);
        // An epoch had too many rows; if only beside a base of long ago, they are noted again.
        let is_few = base.len() * LOG_EPOCH_TIMES <= self.most;
        if std::mem::take(&mut self.had_too_many)
            && fits
            && (is_few || self.most >= self.bounds.epoch_bytes)
        {
            self.rest = LOG_REST_EPOCHS;
        }
        // Of few keys all are fewer bytes than the rows that change them; of none, nobody knows.
        let most = (base.len() * LOG_EPOCH_TIMES).max(LOG_SEGMENT_BYTES);
        let has_keys = base.len() > EMPTY_BYTES;
        let epoch_bytes = self.bounds.epoch_bytes;
        self.most = match has_keys {
            _ if !fits => epoch_bytes.saturating_mul(SLICED_LOG_TIMES),
            true => most.min(epoch_bytes),
            false => epoch_bytes,
        };
        let base = Piece::new(delta_name(epoch), epoch, Arc::new(base));
        self.spent.extend(self.base.replace(base).and_then(|old| old.bytes));
        self.followed = Followed::ByRows;
        self.is_broken = false;
    }

    /// Whether this epoch's rows are not kept: there were too many a while ago.
    fn is_resting(&mut self) -> bool {
        let is_resting = self.rest > 0;
        self.rest = self.rest.saturating_sub(1);
        is_resting
    }

    fn take_rows(&mut self, epoch: u64) {
        if self.log.bytes().len() >= self.bounds.file_bytes {
            self.end_file(epoch);
        }
    }

    /// Ends the file of rows that is open, if there are any.
    fn end_file(&mut self, epoch: u64) {
        if self.log.is_open() && !self.log.is_empty() {
            let bytes = self.log.take(std::mem::take(&mut self.spare));
            self.behind.push(Piece::new(log_name(self.opened), epoch, Arc::new(bytes)));
            self.opened = epoch + 1;
        }
    }

    fn delta(
        &mut self,
        stages: &mut [Stage],
        is_base: bool,
        beneath: Option<&dyn Beneath>,
        room: usize,
    ) -> Vec<u8> {
        let mut out = match is_base {
            true => std::mem::take(&mut self.spare_base),
            false => Vec::new(),
        };
        out.clear();
        out.reserve(room);
        out.extend_from_slice(DELTA_MAGIC);
        out.append(&mut self.left);
        if let Some(beneath) = beneath {
            self.since = put_store_memory(beneath, self.since, &mut out);
        }
        let mut slots = std::mem::take(&mut self.slots);
        for stage in stages {
            stage.residence.take_changed(is_base, &mut slots);
            put_lot(stage, &slots, is_base, &mut out);
        }
        self.slots = slots;
        out
    }
}

/// Keys in memory.
fn live(stages: &[Stage]) -> usize {
    stages.iter().map(|stage| stage.keys.live()).sum()
}

fn delta_name(epoch: u64) -> String {
    format!("{DELTA}{epoch:010}")
}

fn log_name(epoch: u64) -> String {
    format!("{LOG}{epoch:010}")
}
