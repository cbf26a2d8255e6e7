//! The timers of one stage: those that come next are in memory too, so that meeting one is no scan
//! of the store.
//!
//! 1. `near` has every timer of the store that is due before `rest`, and none that is not in the
//!    store.

use std::collections::BTreeSet;

use crate::flow::record::StoreKey;
use crate::ground::limits::COLD_NEAR_TIMERS;
use crate::ground::time::{END, Time};

/// Timers by their keys in the store, whose order is that of time.
pub struct Timers {
    near: BTreeSet<Vec<u8>>,
    rest: Time,
}

impl Default for Timers {
    fn default() -> Timers {
        Timers { near: BTreeSet::new(), rest: END }
    }
}

/// When a timer is due.
pub fn due_of(timer: &[u8]) -> Time {
    match StoreKey::of(timer) {
        Some(StoreKey::Timer { due, .. }) => due,
        _ => END,
    }
}

impl Timers {
    /// The least due time, or a bound below it.
    pub fn next_due(&self) -> Time {
        self.near.first().map_or(self.rest, |timer| due_of(timer))
    }

    /// Notes a timer that was put into the store. O(log timers).
    pub fn put(&mut self, timer: Vec<u8>) {
        if due_of(&timer) < self.rest {
            self.near.insert(timer);
        }
        if self.near.len() > 2 * COLD_NEAR_TIMERS {
            while self.near.len() > COLD_NEAR_TIMERS
                && let Some(last) = self.near.pop_last()
            {
                self.rest = due_of(&last);
            }
        }
    }

    /// Notes that the store may have timers from `due` on.
    pub fn may_have(&mut self, due: Time) {
        self.rest = self.rest.min(due);
    }

    /// Where the store is to be scanned from to know what is due at `due`; none if it is known.
    pub fn unknown_from(&self, due: Time) -> Option<Time> {
        (self.rest != END && self.rest <= due).then_some(self.rest)
    }

    /// Takes in timers that a scan from [`Timers::unknown_from`] gave, and the due time behind.
    pub fn extend(&mut self, timers: Vec<Vec<u8>>, rest: Time) {
        self.near.extend(timers);
        self.rest = rest;
    }

    /// Takes up to `count` timers that are due at `due`, the first ones first.
    pub fn take(&mut self, due: Time, count: usize) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        while taken.len() < count && self.near.first().is_some_and(|first| due_of(first) <= due) {
            taken.extend(self.near.pop_first());
        }
        taken
    }

    /// Up to `count` of the timers that are due at `due`, which stay.
    pub fn look(&self, due: Time, count: usize) -> impl Iterator<Item = &Vec<u8>> {
        self.near.iter().take_while(move |timer| due_of(timer) <= due).take(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::timer_key;
    use proptest::prelude::*;

    proptest! {
        /// Against a set of all timers, with the store played by another.
        #[test]
        fn they_are_met_in_their_order(
            steps in proptest::collection::vec((0..40i64, any::<bool>(), 1..4usize), 1..200),
        ) {
            let (mut timers, mut store) = (Timers::default(), BTreeSet::new());
            let mut now = 0;
            for (step, is_put, count) in steps {
                if is_put {
                    let timer = timer_key(3, now + step, 0, &step.to_le_bytes());
                    store.insert(timer.clone());
                    timers.put(timer);
                    if step == 7 {
                        // As after a restart.
                        timers = Timers::default();
                        timers.may_have(store.first().map_or(END, |first| due_of(first)));
                    }
                    continue;
                }
                now += step;
                loop {
                    if let Some(from) = timers.unknown_from(now) {
                        let mut behind = store.iter().filter(|t| due_of(t) >= from).cloned();
                        let found: Vec<_> = behind.by_ref().take(count).collect();
                        timers.extend(found, behind.next().map_or(END, |next| due_of(&next)));
                    }
                    let expected: Vec<_> =
                        store.iter().filter(|t| due_of(t) <= now).take(count).cloned().collect();
                    let taken = timers.take(now, count);
                    prop_assert!(expected.starts_with(&taken));
                    if taken.is_empty() && timers.unknown_from(now).is_none() {
                        prop_assert!(expected.is_empty());
                        break;
                    }
                    for timer in &taken {
                        store.remove(timer);
                    }
                }
                prop_assert!(timers.next_due() <= store.first().map_or(END, |t| due_of(t)));
            }
        }
    }
}
