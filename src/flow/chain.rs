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
//! 3. Once keys have left memory, a base is followed by deltas of what changed; another one is made
//!    when they have as many bytes as it. So a checkpoint costs what came or changed.
//! 4. A file that no durable checkpoint has yet is kept, and given again.

use std::sync::Arc;

use super::epochs::Share;
use super::log::Log;
use super::snapshot::{
    Beneath, DELTA, DELTA_MAGIC, LOG, START, put_leaving, put_lot, put_store_memory,
};
use super::stage::Stage;
use crate::ground::limits::{
    LOG_BASE_TIMES, LOG_BYTES, LOG_EPOCH_BYTES, LOG_EPOCH_TIMES, LOG_FILES_MAX, LOG_REST_EPOCHS,
    LOG_SEGMENT_BYTES,
};

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
}

impl Default for RowBounds {
    fn default() -> RowBounds {
        RowBounds {
            epoch_bytes: LOG_EPOCH_BYTES,
            file_bytes: LOG_SEGMENT_BYTES,
            files: LOG_FILES_MAX,
            times: LOG_BASE_TIMES,
            bytes: LOG_BYTES,
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
    /// First epoch of the log's open file.
    opened: u64,
    /// Bases that pass before rows are noted again.
    rest: u32,
    /// Memory of a file of rows that is durable, for another one.
    spare: Vec<u8>,
    /// As `spare`, of a base, while each epoch has one.
    spare_base: Vec<u8>,
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
    /// A chain without files yet.
    pub fn new(bounds: RowBounds) -> Chain {
        Chain { bounds, ..Chain::default() }
    }

    /// Takes down keys that changed in this epoch and are about to leave memory.
    pub fn leave(&mut self, stage: &Stage, slots: &[u32]) {
        put_leaving(stage, slots, &mut self.left);
    }

    /// Makes the files of an epoch, which may be the run's last, and adds all that its checkpoint
    /// needs to `share`. `durable` is the newest durable epoch, `beneath` the store if keys have
    /// left memory, `start` this epoch's image. O(what came or changed), or O(state in memory) for
    /// a base.
    pub fn take(
        &mut self,
        stages: &mut [Stage],
        (epoch, is_last): (u64, bool),
        durable: u64,
        beneath: Option<&dyn Beneath>,
        start: &Arc<Vec<u8>>,
        share: &mut Share,
    ) {
        self.let_go(durable);
        let has_store = beneath.is_some();
        if self.wants_base(is_last, has_store) {
            self.take_base(stages, epoch, beneath);
            if !has_store {
                self.start_rows(epoch, start);
            }
        } else if self.followed == Followed::ByRows {
            self.take_rows(epoch);
        } else {
            let delta = self.delta(stages, false, beneath, 0);
            self.behind.push(Piece::new(delta_name(epoch), epoch, Arc::new(delta)));
        }
        let all = self.base.iter().chain(&self.start).chain(&self.behind);
        all.for_each(|piece| piece.give(share));
        if self.log.is_open() && !self.log.is_empty() {
            let bytes = Arc::new(self.log.bytes().to_vec());
            share.written.push((log_name(self.opened), bytes));
        }
    }

    /// Lets go of the bytes of files that are durable.
    fn let_go(&mut self, durable: u64) {
        for piece in self.base.iter_mut().chain(&mut self.start).chain(&mut self.behind) {
            if piece.epoch > durable {
                continue;
            }
            let bytes = piece.bytes.take().and_then(|bytes| Arc::try_unwrap(bytes).ok());
            let Some(bytes) = bytes else { continue };
            if piece.name.starts_with(LOG) && bytes.capacity() > self.spare.capacity() {
                self.spare = bytes;
            } else if piece.name.starts_with(DELTA) && self.rest > 0 {
                self.spare_base = bytes;
            }
        }
    }

    /// Whether an epoch's checkpoint has to have all keys.
    fn wants_base(&self, is_last: bool, has_store: bool) -> bool {
        let Some(base) = &self.base else { return true };
        let behind: usize = self.behind.iter().map(|piece| piece.len).sum();
        match self.followed {
            Followed::ByDeltas => behind >= base.len,
            Followed::ByRows => {
                let RowBounds { files, times, bytes: (least, most), .. } = self.bounds;
                is_last
                    || has_store
                    || !self.log.is_open()
                    || self.behind.len() >= files
                    || behind + self.log.bytes().len() >= (base.len * times).clamp(least, most)
            }
        }
    }

    fn take_base(&mut self, stages: &mut [Stage], epoch: u64, beneath: Option<&dyn Beneath>) {
        let room = self.base.as_ref().map_or(0, |base| base.len + base.len / 8);
        let is_given_up = self.start.take().is_some() && !self.log.is_open();
        self.behind.clear();
        self.left.clear();
        self.since = 0;
        let base = self.delta(stages, true, beneath, room);
        // An epoch had too many rows; if only beside a base of long ago, they are noted again.
        let is_few = base.len() * LOG_EPOCH_TIMES <= self.log.most();
        if is_given_up && (is_few || self.log.most() >= self.bounds.epoch_bytes) {
            self.rest = LOG_REST_EPOCHS;
        }
        self.base = Some(Piece::new(delta_name(epoch), epoch, Arc::new(base)));
        self.followed = Followed::ByDeltas;
    }

    /// Notes rows from now on, unless there were too many a while ago.
    fn start_rows(&mut self, epoch: u64, start: &Arc<Vec<u8>>) {
        self.followed = Followed::ByRows;
        if self.rest > 0 {
            self.rest -= 1;
            return self.log.close();
        }
        self.start = Some(Piece::new(START.to_string(), epoch, start.clone()));
        // Of few keys all are fewer bytes than the rows that change them.
        let base = self.base.as_ref().map_or(0, |base| base.len);
        let most = (base * LOG_EPOCH_TIMES).max(LOG_SEGMENT_BYTES).min(self.bounds.epoch_bytes);
        self.log.begin(std::mem::take(&mut self.spare), most);
        self.opened = epoch + 1;
    }

    fn take_rows(&mut self, epoch: u64) {
        if self.log.bytes().len() >= self.bounds.file_bytes {
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

fn delta_name(epoch: u64) -> String {
    format!("{DELTA}{epoch:010}")
}

fn log_name(epoch: u64) -> String {
    format!("{LOG}{epoch:010}")
}
