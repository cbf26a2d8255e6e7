//! Which epochs have barriers that overtake rows, and what tasks say of that.
//!
//! 1. The number of an epoch that overtakes is there before any of its barriers (`always`), or
//!    comes while it is open and not done in time: a task looks at it between two blocks.
//! 2. It never falls. An epoch that was given up still has its barriers, so that who waits for one
//!    gets it or that of a newer epoch.
//! 3. The run's last epoch never overtakes: it has no rows in flight.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Epochs, Progress, Under};

/// When barriers overtake rows in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unaligned {
    #[default]
    Never,
    Always,
    /// When an epoch is open for so long, ms.
    AfterMs(u64),
}

impl Epochs {
    /// Whether barriers may overtake rows in this run.
    pub fn may_overtake(&self) -> bool {
        self.is_on() && self.rhythm.unaligned != Unaligned::Never
    }

    /// The newest epoch whose barrier overtakes rows; one that is durable or older says nothing.
    #[inline]
    pub fn overtaking(&self) -> u64 {
        self.overtaking.load(Ordering::Acquire)
    }

    /// Lets the barrier of the epoch that was begun last overtake rows from now on; false if that
    /// epoch is open no more.
    pub fn overtake(&self) -> bool {
        let under = self.lock();
        let is_open = under.progress() == Progress::Open;
        if is_open {
            self.overtaking.store(under.epoch, Ordering::Release);
        }
        is_open
    }

    /// Notes behind which position a source's blocks are not worked off when an epoch ends: they
    /// are read again, so this counts, and not where its reader's barrier is.
    pub fn note_cut(&self, source: &str, epoch: u64, position: Option<u64>) {
        let at = self.names.iter().position(|name| name == source);
        if let Some(at) = at {
            self.lock().cuts[at] = (epoch, position);
        }
    }

    /// Notes that a task has seen the end of a source that the run was told to leave. Other tasks
    /// may have it still in flight, so no epoch comes to an end any more but the last.
    pub fn note_stop(&self) {
        if self.may_overtake() {
            self.lock().is_stopping = true;
            self.changed.notify_all();
        }
    }

    /// Waits for the shares of the epoch that was begun last, but not longer than `most`.
    pub(super) fn wait_for_shares(&self, most: Duration) {
        let is_open = |under: &Under| under.progress() == Progress::Open;
        let mut left = most;
        if let Unaligned::AfterMs(ms) = self.rhythm.unaligned
            && Duration::from_millis(ms) < most
        {
            let aligned = Duration::from_millis(ms);
            self.wait(aligned, is_open);
            self.overtake();
            left -= aligned;
        }
        self.wait(left, is_open);
    }
}
