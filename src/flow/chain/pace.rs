//! When a base of slices is begun where rows are not kept: as long before the next barrier as the
//! last one took, and half as much again.

use crate::ground::limits::SLICE_KEY_NS;

/// What is left for a barrier that comes early.
const MARGIN_NS: u64 = 5_000_000;

/// See the module's head.
#[derive(Default)]
pub(super) struct Pace {
    /// From one barrier to the next; none if none is expected.
    interval_ns: Option<u64>,
    barrier_ns: u64,
    /// How long the last base took, with the rows between its slices; 0 if there was none.
    took_ns: u64,
}

impl Pace {
    /// Of checkpoints that are so far apart.
    pub fn new(interval_ms: Option<u64>) -> Pace {
        let interval_ns = interval_ms.map(|ms| ms.saturating_mul(1_000_000));
        Pace { interval_ns, ..Pace::default() }
    }

    /// A barrier has passed.
    pub fn barrier(&mut self, now_ns: u64) {
        self.barrier_ns = now_ns;
    }

    /// A base was complete after so long.
    pub fn took(&mut self, ns: u64) {
        self.took_ns = ns.max(1);
    }

    /// A base was not complete at its barrier, so long after it was begun.
    pub fn took_too_long(&mut self, ns: u64) {
        self.took_ns = ns.saturating_mul(2).max(1);
    }

    /// Whether a base of so many keys is to be begun.
    pub fn is_time(&self, keys: usize, now_ns: u64) -> bool {
        let Some(interval_ns) = self.interval_ns else { return false };
        let wait_ns = interval_ns.saturating_sub(self.lead_ns(keys).saturating_add(MARGIN_NS));
        now_ns.saturating_sub(self.barrier_ns) >= wait_ns
    }

    /// Whether a base of so many keys takes at most half of the time between two barriers, so that
    /// it can be made in each.
    pub fn fits(&self, keys: usize) -> bool {
        self.interval_ns.is_some_and(|interval_ns| self.lead_ns(keys) <= interval_ns / 2)
    }

    fn lead_ns(&self, keys: usize) -> u64 {
        match self.took_ns {
            0 => keys as u64 * SLICE_KEY_NS,
            took_ns => took_ns.saturating_add(took_ns / 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_begun_as_long_before_the_barrier_as_it_takes() {
        let ms = |ms: u64| ms * 1_000_000;
        let mut pace = Pace::new(Some(1000));
        pace.barrier(ms(7000));
        let first_ms = (100_000 * SLICE_KEY_NS + MARGIN_NS) / 1_000_000;
        assert!(!pace.is_time(100_000, ms(8000 - first_ms - 1)));
        assert!(pace.is_time(100_000, ms(8000 - first_ms)));
        assert!(pace.fits(100_000) && !pace.fits(1_000_000));
        pace.took(ms(100));
        assert!(pace.fits(1_000_000), "what it took counts");
        assert!(!pace.is_time(1_000_000, ms(7844)));
        assert!(pace.is_time(1_000_000, ms(7845)));
        pace.took_too_long(ms(5000));
        assert!(pace.is_time(1, ms(7000)), "at once");
        let pace = Pace::new(None);
        assert!(!pace.is_time(1, u64::MAX));
    }
}
