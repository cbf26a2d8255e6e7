//! A calendar queue: rows by event time, first in first out within one, O(1) in and out.
//!
//! ```text
//!             floor                    near + 4 quarters
//!    drained    |  ring: 8192 buckets of 2^shift ms  |  far: a list for each quarter of a ring
//! --------------+------------------------------------+------------------------------------------> time
//! ```
//!
//! A bucket is a chain of entries, newest first, turned round when it is drained; a bit for each
//! bucket says whether it holds any, so that empty ones cost 1/64 of a look. The quarter is the
//! grain in which the ring moves on: its place is free for quarter `near + 4` once `near` has
//! been drained. The idea is R. Brown's (1988); the bitmap, the chains and the pool are those of
//! the program that was written for one pipeline by hand.
//!
//! 1. Every entry's time is above `floor`, the time drained to.
//! 2. An entry is in the ring exactly if its quarter is in `near .. near + 4`; so entries of one
//!    time are all in one chain or all in one list, and there in the order of arrival.
//! 3. A bucket's bit is set exactly if its chain is not empty.
//! 4. `links` are in use or on the free list, which is last in first out: the pool stays as small
//!    as the number of entries that wait, and warm.

use std::collections::BTreeMap;

use crate::ground::time::{NEVER, Time};

const BUCKETS: usize = 8192;
const QUARTER_BITS: u32 = BUCKETS.trailing_zeros() - 2;
const QUARTER: usize = 1 << QUARTER_BITS;
const NIL: u32 = u32::MAX;
/// Far entries that are borne before the buckets are made wider.
const FAR_BORNE: usize = 1024;
/// Widest bucket: 2^40 ms, so that a ring spans more than any sane pair of times.
const SHIFT_MAX: u32 = 40;

/// What is known of a waiting row; its values lie elsewhere, at the same number.
#[derive(Clone, Copy)]
pub struct Link {
    /// Event time, ms.
    pub time: Time,
    next: u32,
    /// The key's slot.
    pub slot: u32,
}

/// The queue. Entries are known by numbers, dense and used again.
pub struct Calendar {
    heads: Box<[u32]>,
    bits: Box<[u64]>,
    links: Vec<Link>,
    free: u32,
    /// Quarters beyond the ring, each in order of arrival.
    far: BTreeMap<i64, Vec<u32>>,
    far_len: usize,
    ring_len: usize,
    near: i64,
    floor: Time,
    /// A bucket is `2^shift` ms wide.
    shift: u32,
    shift_min: u32,
    /// Entries drained since the buckets were last made wider or narrower.
    drained: usize,
}

impl Calendar {
    /// A queue that fits entries up to `range_ms` above the time drained to; it fits itself to
    /// wider ranges as it meets them.
    pub fn new(range_ms: i64) -> Calendar {
        let fits = |shift: &u32| range_ms >> shift < 3 * QUARTER as i64;
        let shift = (0..SHIFT_MAX).find(fits).unwrap_or(SHIFT_MAX);
        Calendar {
            heads: vec![NIL; BUCKETS].into(),
            bits: vec![0; BUCKETS / 64].into(),
            links: Vec::new(),
            free: NIL,
            far: BTreeMap::new(),
            far_len: 0,
            ring_len: 0,
            near: 0,
            floor: NEVER,
            shift,
            shift_min: shift,
            drained: 0,
        }
    }

    /// Entries that wait.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.ring_len + self.far_len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The time drained to.
    #[inline(always)]
    pub fn floor(&self) -> Time {
        self.floor
    }

    /// Numbers given out so far, free ones included: what a pool beside the queue must hold.
    #[inline(always)]
    pub fn numbers(&self) -> usize {
        self.links.len()
    }

    /// What is known of an entry.
    #[inline(always)]
    pub fn link(&self, id: u32) -> &Link {
        &self.links[id as usize]
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        self.links.capacity() * size_of::<Link>() + BUCKETS * 4 + BUCKETS / 8 + self.far_len * 4
    }

    /// Whether an entry of this time would be put into the ring as it stands. Where it would not,
    /// draining first may help.
    #[inline(always)]
    pub fn reaches(&self, time: Time) -> bool {
        (self.quarter(time).wrapping_sub(self.near) as u64) < 4
    }

    /// Adds an entry and gives its number.
    ///
    /// # Panics
    /// If the time has been drained already (invariant 1), or 2^32 - 1 entries wait.
    #[inline(always)]
    pub fn insert(&mut self, time: Time, slot: u32) -> u32 {
        assert!(time > self.floor, "invariant 1");
        let id = self.free;
        let id = if id == NIL {
            self.new_number()
        } else {
            self.free = self.links[id as usize].next;
            id
        };
        let link = &mut self.links[id as usize];
        link.time = time;
        link.slot = slot;
        if self.reaches(time) {
            self.put(id);
        } else {
            self.insert_beyond(id);
        }
        id
    }

    /// Appends the numbers of all entries of times up to `to`, by time and then arrival, to
    /// `out`. They keep their numbers until each is given to [`Calendar::release`].
    pub fn drain(&mut self, to: Time, out: &mut Vec<u32>) {
        if to <= self.floor {
            return;
        }
        let before = out.len();
        loop {
            self.drain_ring(to, out);
            let target = self.quarter(to.saturating_add(1)).max(self.near);
            let first = self.far.first_key_value().map(|(&quarter, _)| quarter);
            let Some(first) = first.filter(|&first| self.ring_len == 0 && first <= target) else {
                self.move_on(target);
                break;
            };
            self.move_on(first);
        }
        self.floor = to;
        self.drained += out.len() - before;
        if self.shift > self.shift_min && self.drained > 8 * self.len() + BUCKETS {
            self.narrow();
        }
    }

    /// Gives an entry's number back.
    #[inline(always)]
    pub fn release(&mut self, id: u32) {
        self.links[id as usize].next = self.free;
        self.free = id;
    }

    /// Numbers of all entries; those of one time in the order of arrival.
    pub fn ids(&self) -> Vec<u32> {
        let mut ids = Vec::with_capacity(self.len());
        for quarter in self.near..self.near + 4 {
            self.chains(quarter, &mut ids);
        }
        ids.extend(self.far.values().flatten());
        ids
    }

    /// Takes out and releases the entries that `gone` names.
    pub fn remove(&mut self, mut gone: impl FnMut(u32) -> bool) {
        let (out, ids): (Vec<u32>, Vec<u32>) = self.ids().into_iter().partition(|&id| gone(id));
        self.refill(&ids);
        out.into_iter().for_each(|id| self.release(id));
    }

    #[inline(always)]
    fn quarter(&self, time: Time) -> i64 {
        time >> (self.shift + QUARTER_BITS)
    }

    #[inline(never)]
    fn new_number(&mut self) -> u32 {
        let id = u32::try_from(self.links.len()).expect("entries are bounded by the caller");
        assert!(id != NIL, "entries are bounded by the caller");
        self.links.push(Link { time: 0, next: NIL, slot: 0 });
        id
    }

    #[inline(always)]
    fn put(&mut self, id: u32) {
        let link = &mut self.links[id as usize];
        let bucket = (link.time >> self.shift) as usize % BUCKETS;
        link.next = self.heads[bucket];
        self.heads[bucket] = id;
        self.bits[bucket / 64] |= 1 << (bucket % 64);
        self.ring_len += 1;
    }

    #[inline(never)]
    fn insert_beyond(&mut self, id: u32) {
        let time = self.links[id as usize].time;
        let quarter = self.quarter(time);
        if self.is_empty() {
            // Room below as well, where rows may still come.
            let lowest = self.quarter(self.floor.saturating_add(1));
            self.near = lowest.max(quarter - 2);
            self.put(id);
            return;
        }
        if quarter < self.near {
            self.move_back(quarter);
            self.put(id);
        } else {
            self.far.entry(quarter).or_default().push(id);
            self.far_len += 1;
        }
        if self.far_len > 2 * self.ring_len + FAR_BORNE {
            self.widen();
        }
    }

    /// Moves the ring on to start at quarter `near`, everything before which has been drained.
    fn move_on(&mut self, near: i64) {
        self.near = near;
        while let Some(entry) = self.far.first_entry()
            && *entry.key() < near + 4
        {
            let ids = entry.remove();
            self.far_len -= ids.len();
            ids.into_iter().for_each(|id| self.put(id));
        }
    }

    /// Moves the ring back to start at quarter `near`; what it no longer covers becomes far.
    fn move_back(&mut self, near: i64) {
        let old = self.near;
        for quarter in old.max(near + 4)..old + 4 {
            let mut ids = Vec::new();
            self.chains(quarter, &mut ids);
            let start = (quarter as usize % 4) * QUARTER;
            self.heads[start..start + QUARTER].fill(NIL);
            self.bits[start / 64..(start + QUARTER) / 64].fill(0);
            self.ring_len -= ids.len();
            self.far_len += ids.len();
            if !ids.is_empty() {
                self.far.insert(quarter, ids);
            }
        }
        self.near = near;
    }

    /// Appends the numbers in the ring's buckets of one quarter, bucket by bucket, each in the
    /// order of arrival.
    fn chains(&self, quarter: i64, out: &mut Vec<u32>) {
        let start = (quarter as usize % 4) * QUARTER;
        for word in start / 64..(start + QUARTER) / 64 {
            let mut left = self.bits[word];
            while left != 0 {
                let at = out.len();
                let mut id = self.heads[word * 64 + left.trailing_zeros() as usize];
                while id != NIL {
                    out.push(id);
                    id = self.links[id as usize].next;
                }
                out[at..].reverse();
                left &= left - 1;
            }
        }
    }

    fn drain_ring(&mut self, to: Time, out: &mut Vec<u32>) {
        let first = self.near << QUARTER_BITS;
        let mut bucket = first.max(self.floor.saturating_add(1) >> self.shift);
        let last = (to >> self.shift).min(first.saturating_add(BUCKETS as i64 - 1));
        if bucket > last {
            return;
        }
        // The bucket that `to` cuts in two, if it does.
        let width_mask = (1 << self.shift) - 1;
        let cut = (to >> self.shift == last && to & width_mask != width_mask).then_some(last);
        let mut left = last - bucket + i64::from(cut.is_none());
        while left > 0 && self.ring_len > 0 {
            let place = bucket as usize % BUCKETS;
            let (word, bit) = (place / 64, place % 64);
            let span = (64 - bit as i64).min(left);
            let mut due = self.bits[word] & (!0 >> (64 - span) << bit);
            self.bits[word] &= !due;
            while due != 0 {
                self.take_chain(word * 64 + due.trailing_zeros() as usize, out);
                due &= due - 1;
            }
            bucket = bucket.wrapping_add(span);
            left -= span;
        }
        if let Some(cut) = cut {
            self.take_part(cut as usize % BUCKETS, to, out);
        }
    }

    #[inline(always)]
    fn take_chain(&mut self, bucket: usize, out: &mut Vec<u32>) {
        let id = std::mem::replace(&mut self.heads[bucket], NIL);
        let next = self.links[id as usize].next;
        out.push(id);
        self.ring_len -= 1;
        if next != NIL {
            self.take_rest(next, out);
        }
    }

    /// Takes the rest of a chain whose head was taken, and brings both into order.
    fn take_rest(&mut self, mut id: u32, out: &mut Vec<u32>) {
        let at = out.len() - 1;
        while id != NIL {
            out.push(id);
            id = self.links[id as usize].next;
        }
        self.ring_len -= out.len() - at - 1;
        out[at..].reverse();
        if self.shift > 0 {
            out[at..].sort_by_key(|&id| self.links[id as usize].time);
        }
    }

    /// Takes those entries of a bucket that are due by `to`.
    fn take_part(&mut self, bucket: usize, to: Time, out: &mut Vec<u32>) {
        if self.heads[bucket] == NIL {
            return;
        }
        let at = out.len();
        self.bits[bucket / 64] &= !(1 << (bucket % 64));
        self.take_chain(bucket, out);
        let due = out[at..].partition_point(|&id| self.links[id as usize].time <= to);
        for later in at + due..out.len() {
            self.put(out[later]);
        }
        out.truncate(at + due);
    }

    /// Doubles the buckets' width until the ring holds most of what waits.
    fn widen(&mut self) {
        while self.far_len > self.ring_len && self.shift < SHIFT_MAX {
            self.rebuild(self.shift + 1);
        }
    }

    /// Halves the buckets' width, again and again, as long as a quarter of the ring holds all that
    /// waits: the range was wide once (a source that lagged) and is so no more.
    fn narrow(&mut self) {
        self.drained = 0;
        let last = self.ids().iter().map(|&id| self.link(id).time).max();
        let span = last.map_or(0, |last| last.saturating_sub(self.floor));
        let mut shift = self.shift;
        while shift > self.shift_min && span >> (shift - 1) < QUARTER as i64 {
            shift -= 1;
        }
        if shift < self.shift {
            self.rebuild(shift);
        }
    }

    fn rebuild(&mut self, shift: u32) {
        let ids = self.ids();
        self.shift = shift;
        self.drained = 0;
        self.refill(&ids);
    }

    /// Empties the queue and puts these entries in, those of one time in this order.
    fn refill(&mut self, ids: &[u32]) {
        self.heads.fill(NIL);
        self.bits.fill(0);
        self.far.clear();
        (self.ring_len, self.far_len) = (0, 0);
        let lowest = ids.iter().map(|&id| self.quarter(self.link(id).time)).min();
        self.near = lowest.unwrap_or(self.quarter(self.floor.saturating_add(1)));
        for &id in ids {
            let quarter = self.quarter(self.links[id as usize].time);
            if quarter < self.near + 4 {
                self.put(id);
            } else {
                self.far.entry(quarter).or_default().push(id);
                self.far_len += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is done to the queue: rows put in above the floor, and drains, as steps relative to
    /// the largest time so far so that every part of the queue is reached.
    #[derive(Clone, Debug)]
    enum Act {
        Insert(i64),
        Drain(i64),
        Remove(u32),
    }

    /// Runs acts against a sorted list and compares all that comes out.
    fn check(range_ms: i64, start: Time, acts: &[Act]) {
        let mut calendar = Calendar::new(range_ms);
        // (time, arrival, number)
        let mut naive: Vec<(Time, u32, u32)> = Vec::new();
        let (mut top, mut arrivals, mut out) = (start, 0, Vec::new());
        for act in acts {
            match act {
                Act::Insert(step) => {
                    let time = top.saturating_add(*step);
                    if time <= calendar.floor() {
                        continue;
                    }
                    top = top.max(time);
                    let id = calendar.insert(time, arrivals);
                    assert!(naive.iter().all(|(_, _, other)| *other != id));
                    naive.push((time, arrivals, id));
                    arrivals += 1;
                }
                Act::Drain(step) => {
                    let to = top.saturating_sub(*step).max(calendar.floor());
                    calendar.drain(to, &mut out);
                    naive.sort();
                    let due = naive.partition_point(|(time, ..)| *time <= to);
                    let expected: Vec<u32> = naive.drain(..due).map(|(_, _, id)| id).collect();
                    assert_eq!(out, expected);
                    out.drain(..).for_each(|id| calendar.release(id));
                }
                Act::Remove(slot) => {
                    calendar.remove(|id| id % 7 == slot % 7);
                    naive.retain(|(_, _, id)| id % 7 != slot % 7);
                }
            }
            assert_eq!(calendar.len(), naive.len());
        }
        calendar.drain(Time::MAX, &mut out);
        naive.sort();
        assert_eq!(out, naive.iter().map(|(_, _, id)| *id).collect::<Vec<_>>());
        assert!(calendar.is_empty());
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let step = prop_oneof![
            4 => -20..20i64,
            4 => -3_000..3_000i64,
            2 => -100_000..100_000i64,
            1 => -10_000_000_000..10_000_000_000i64,
        ];
        let act = prop_oneof![
            12 => step.prop_map(Act::Insert),
            3 => (-50..6_000i64).prop_map(Act::Drain),
            1 => (-100_000..100_000i64).prop_map(Act::Drain),
            1 => any::<u32>().prop_map(Act::Remove),
        ];
        proptest::collection::vec(act, 0..400)
    }

    proptest! {
        #[test]
        fn what_comes_out_is_sorted_by_time_and_arrival(
            range in prop_oneof![Just(0), Just(5_000), Just(3_600_000), Just(i64::MAX)],
            start in prop_oneof![Just(0), Just(-5_000), Just(1_700_000_000_000i64),
                Just(i64::MIN + 1), Just(i64::MAX - 1_000)],
            acts in acts(),
        ) {
            check(range, start, &acts);
        }
    }

    #[test]
    fn a_range_never_announced_widens_the_buckets_and_narrows_them_again() {
        let mut calendar = Calendar::new(0);
        let (mut out, mut given) = (Vec::new(), 0);
        for time in 0..200_000i64 {
            // An hour of disorder for a while, then five seconds.
            let delay = if time < 100_000 { 3_600_000 } else { 5_000 };
            calendar.insert(time * 40 + 1, 0);
            calendar.drain((time * 40 - delay).max(calendar.floor()), &mut out);
            for id in out.drain(..) {
                assert_eq!(calendar.link(id).time, given * 40 + 1);
                given += 1;
                calendar.release(id);
            }
            match time {
                99_999 => assert!(calendar.shift >= 8),
                199_999 => assert!(calendar.shift <= 2),
                _ => {}
            }
        }
        assert!(calendar.numbers() < 100_000, "numbers are used again");
    }

    #[test]
    fn one_row_of_a_wrong_century_costs_nothing() {
        let mut calendar = Calendar::new(5_000);
        calendar.insert(4_000_000_000_000, 1);
        let mut out = Vec::new();
        for time in 1..100_000i64 {
            calendar.insert(time, 0);
            calendar.drain(time - 5_000, &mut out);
            out.drain(..).for_each(|id| calendar.release(id));
        }
        assert_eq!((calendar.shift, calendar.far_len), (0, 1));
    }
}
