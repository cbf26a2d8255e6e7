//! A calendar queue: rows by event time, first in first out within one, O(1) in and out.
//!
//! ```text
//!             floor                    near + 4 quarters
//!    drained    |   ring: buckets of 2^shift ms      |  far: a list for each quarter of a ring
//! --------------+------------------------------------+---------------------------------> time
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
//! 4. `links` are in use or in `free`, which is last in first out: the pool stays as small as the
//!    number of entries that wait, and warm.
//!
//! Buckets grow wider when entries keep falling beyond the ring, and narrower when they keep
//! having to be sorted; both are counted, and pay for the rebuilding.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::ground::time::{NEVER, Time};

/// Buckets of a ring: 32 KiB of heads; with a wide range up to 256 KiB.
const BUCKETS_MIN_BITS: u32 = 13;
const BUCKETS_MAX_BITS: u32 = 16;
const NIL: u32 = u32::MAX;
/// Entries beyond the ring, or sorted, that are borne before buckets change their width.
const BEYOND_BORNE: usize = 256;
const SORTED_BORNE: usize = 8192;
/// Widest bucket, 2^31 ms: offsets in a bucket fit 32 bits.
const SHIFT_MAX: u32 = 31;

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
    free: Vec<u32>,
    /// Quarters beyond the ring, each in order of arrival.
    far: BTreeMap<i64, Vec<u32>>,
    far_len: usize,
    ring_len: usize,
    near: i64,
    floor: Time,
    /// A bucket is `2^shift` ms wide.
    shift: u32,
    /// A quarter of the ring has `2^quarter_bits` buckets.
    quarter_bits: u32,
    /// Since the buckets were made as wide as they are: entries put in, those of them that fell
    /// beyond the ring, and entries that had to be sorted.
    inserted: usize,
    beyond: usize,
    sorted: usize,
    keys: Vec<u64>,
}

impl Calendar {
    /// A queue that fits entries up to `range_ms` above the time drained to; it fits itself to
    /// wider ranges as it meets them.
    pub fn new(range_ms: i64) -> Calendar {
        let fits = |bits: u32, shift: u32| range_ms >> shift < 3 << (bits - 2);
        let bits = (BUCKETS_MIN_BITS..BUCKETS_MAX_BITS).find(|&bits| fits(bits, 0));
        let bits = bits.unwrap_or(BUCKETS_MAX_BITS);
        let shift = (0..SHIFT_MAX).find(|&shift| fits(bits, shift)).unwrap_or(SHIFT_MAX);
        Calendar {
            heads: vec![NIL; 1 << bits].into(),
            bits: vec![0; (1 << bits) / 64].into(),
            links: Vec::new(),
            free: Vec::new(),
            far: BTreeMap::new(),
            far_len: 0,
            ring_len: 0,
            near: 0,
            floor: NEVER,
            shift,
            quarter_bits: bits - 2,
            inserted: 0,
            beyond: 0,
            sorted: 0,
            keys: Vec::new(),
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
        let entries = self.links.capacity() * size_of::<Link>() + self.free.capacity() * 4;
        entries + self.heads.len() * 4 + self.bits.len() * 8 + self.far_len * 4
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
    pub fn insert(&mut self, time: Time, slot: u32) -> u32 {
        assert!(time > self.floor, "invariant 1");
        self.reserve(1);
        let id = self.free.pop().expect("a number was reserved");
        self.links[id as usize] = Link { time, next: NIL, slot };
        self.inserted += 1;
        if self.reaches(time) {
            self.put(id);
        } else {
            self.insert_beyond(id);
        }
        id
    }

    /// Adds entries up to the first that is late (`time <= mark`) or beyond the ring as it stands,
    /// appends their numbers to `ids` and says how many they are.
    ///
    /// # Panics
    /// If marks are below the time drained to, or the slices' lengths differ.
    pub fn insert_run(
        &mut self,
        times: &[Time],
        marks: &[Time],
        slots: &[u32],
        ids: &mut Vec<u32>,
    ) -> usize {
        assert!(marks.first().is_none_or(|&mark| mark >= self.floor), "invariant 1");
        let len = times.len();
        let (marks, slots) = (&marks[..len], &slots[..len]);
        self.reserve(len);
        let from = self.free.len();
        let (heads, bits) = (&mut self.heads[..], &mut self.bits[..]);
        let (mask, shift, quarter_shift) =
            (heads.len() - 1, self.shift, self.shift + self.quarter_bits);
        let mut run = 0;
        while run < len {
            let time = times[run];
            let reached = ((time >> quarter_shift).wrapping_sub(self.near) as u64) < 4;
            if time <= marks[run] || !reached {
                break;
            }
            let id = self.free[from - 1 - run];
            let bucket = (time >> shift) as usize & mask;
            let next = std::mem::replace(&mut heads[bucket], id);
            self.links[id as usize] = Link { time, next, slot: slots[run] };
            bits[bucket / 64] |= 1 << (bucket % 64);
            run += 1;
        }
        ids.extend(self.free.drain(from - run..).rev());
        self.ring_len += run;
        self.inserted += run;
        run
    }

    /// Appends the numbers of all entries of times up to `to`, by time and then arrival, to
    /// `out`. They keep their numbers until each is given to [`Calendar::release`].
    pub fn drain(&mut self, to: Time, out: &mut Vec<u32>) {
        if to <= self.floor {
            return;
        }
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
        if self.sorted > 8 * self.len() + SORTED_BORNE {
            self.narrow();
        }
    }

    /// Gives numbers back.
    pub fn release(&mut self, ids: &[u32]) {
        self.free.extend_from_slice(ids);
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
        self.release(&out);
    }

    #[inline(always)]
    fn quarter(&self, time: Time) -> i64 {
        time >> (self.shift + self.quarter_bits)
    }

    /// The buckets of a quarter.
    fn place(&self, quarter: i64) -> Range<usize> {
        let start = (quarter as usize % 4) << self.quarter_bits;
        start..start + (1 << self.quarter_bits)
    }

    /// Makes numbers, so that at least `len` are free.
    fn reserve(&mut self, len: usize) {
        if self.free.len() < len {
            let (old, more) = (self.links.len(), len.max(64));
            let end = u32::try_from(old + more).expect("entries are bounded by the caller");
            self.links.resize(old + more, Link { time: 0, next: NIL, slot: 0 });
            // The lowest go out first, but after those that are warm.
            self.free.splice(0..0, (old as u32..end).rev());
        }
    }

    #[inline(always)]
    fn put(&mut self, id: u32) {
        let link = &mut self.links[id as usize];
        let bucket = (link.time >> self.shift) as usize & (self.heads.len() - 1);
        link.next = self.heads[bucket];
        self.heads[bucket] = id;
        self.bits[bucket / 64] |= 1 << (bucket % 64);
        self.ring_len += 1;
    }

    #[inline(never)]
    fn insert_beyond(&mut self, id: u32) {
        let time = self.links[id as usize].time;
        let quarter = self.quarter(time);
        self.beyond += 1;
        if self.is_empty() {
            // Room below as well, where rows may still come.
            let lowest = self.quarter(self.floor.saturating_add(1));
            self.near = lowest.max(quarter - 2);
            self.put(id);
        } else if quarter < self.near {
            self.move_back(quarter);
            self.put(id);
        } else {
            self.far.entry(quarter).or_default().push(id);
            self.far_len += 1;
        }
        let many = self.beyond > BEYOND_BORNE + self.len() / 4 && self.beyond > self.inserted / 8;
        if many && self.shift < SHIFT_MAX {
            self.rebuild((self.shift + 2).min(SHIFT_MAX));
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
            let place = self.place(quarter);
            self.bits[place.start / 64..place.end / 64].fill(0);
            self.heads[place].fill(NIL);
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
        let place = self.place(quarter);
        for word in place.start / 64..place.end / 64 {
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
        let first = self.near << self.quarter_bits;
        let mut bucket = first.max(self.floor.saturating_add(1) >> self.shift);
        let last = (to >> self.shift).min(first.saturating_add(self.heads.len() as i64 - 1));
        if bucket > last {
            return;
        }
        // The bucket that `to` cuts in two, if it does.
        let width_mask = (1 << self.shift) - 1;
        let cut = (to >> self.shift == last && to & width_mask != width_mask).then_some(last);
        let mut left = last - bucket + i64::from(cut.is_none());
        let mask = self.heads.len() - 1;
        while left > 0 && self.ring_len > 0 {
            let place = bucket as usize & mask;
            let (word, bit) = (place / 64, place % 64);
            let span = (64 - bit as i64).min(left);
            let due = self.bits[word] & (!0 >> (64 - span) << bit);
            self.bits[word] &= !due;
            self.take_word(word, due, out);
            bucket = bucket.wrapping_add(span);
            left -= span;
        }
        if let Some(cut) = cut {
            self.take_part(cut as usize & (self.heads.len() - 1), to, out);
        }
    }

    /// Takes the chains of those of 64 buckets whose bits are set in `due`.
    #[inline(always)]
    fn take_word(&mut self, word: usize, mut due: u64, out: &mut Vec<u32>) {
        while due != 0 {
            self.take_chain(word * 64 + due.trailing_zeros() as usize, out);
            due &= due - 1;
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
        if self.shift > 0 && !out[at..].is_sorted_by_key(|&id| self.links[id as usize].time) {
            self.sort(&mut out[at..]);
        }
    }

    /// Sorts a bucket's entries by time; they stand in the order of arrival.
    fn sort(&mut self, ids: &mut [u32]) {
        self.sorted += ids.len();
        let mask = (1 << self.shift) - 1;
        let offset = |(i, &id): (usize, &u32)| {
            ((self.links[id as usize].time & mask) as u64) << 32 | i as u64
        };
        self.keys.clear();
        self.keys.extend(ids.iter().enumerate().map(offset));
        self.keys.sort_unstable();
        for key in &mut self.keys {
            *key = u64::from(ids[*key as u32 as usize]);
        }
        for (id, &key) in ids.iter_mut().zip(&self.keys) {
            *id = key as u32;
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
        for &id in &out[at + due..] {
            self.put(id);
        }
        out.truncate(at + due);
    }

    /// Halves the buckets' width, again and again, as long as half of the ring holds all that
    /// waits: the range was wide once (a source that lagged) and is so no more.
    fn narrow(&mut self) {
        self.sorted = 0;
        let last = self.ids().iter().map(|&id| self.link(id).time).max();
        let span = last.map_or(0, |last| last.saturating_sub(self.floor));
        let fits = |shift: u32| span >> shift < 2 << self.quarter_bits;
        let mut shift = self.shift;
        while shift > 0 && fits(shift - 1) {
            shift -= 1;
        }
        if shift < self.shift {
            self.rebuild(shift);
        }
    }

    fn rebuild(&mut self, shift: u32) {
        let ids = self.ids();
        self.shift = shift;
        (self.inserted, self.beyond, self.sorted) = (0, 0, 0);
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
mod tests;
