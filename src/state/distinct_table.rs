//! The flat table under [`super::distinct`]: (slot, value) to the panes that saw it.
//!
//! ```text
//! bucket = one cache line of 4 entries: value x 4 | about x 4, 8 bytes each
//! about  = slot: 32 | last pane mod 256: 8 | history: 23, bit i = seen i panes before the last | full: 1
//! ```
//!
//! 1. An entry lies in its home bucket or in one reached from there over buckets whose `full` bit
//!    (in their first entry) is set; the search for an absent pair ends at the first without.
//! 2. An entry with an empty history is free. One last seen before `oldest` is dead: it is written
//!    over by the next pair that comes its way.
//! 3. No entry is older than 255 panes: dead ones are freed every 128 panes. The table is built
//!    anew when too many buckets are full or it has to grow; dead entries stay behind.
//! 4. More live panes than the history has bits (where late rows ask for it) or than the last pane
//!    can tell apart are kept in a plain map with a sorted list of panes for each pair: slower, and
//!    right for any number.

mod noted;

use std::collections::BTreeMap;

use crate::ground::key::{hash_next, hash_word};
use crate::ground::prefetch;
use crate::ground::words::Words;
use noted::Noted;

/// Places by which a pair is asked for before it is read.
const AHEAD: usize = 24;
const HISTORY: u32 = 23;
/// Buckets that are walked in one step: a microsecond each where memory is touched for the first
/// time.
const WALKED: usize = 1 << 8;
const RENEW: i64 = 128;
/// Most live panes that ages of up to 255 tell apart with [`RENEW`] more between two builds.
const SPAN: usize = 120;
const FULL: u64 = 1;
const BITS: u64 = ((1 << HISTORY) - 1) << 1;

/// Stands for no place.
pub const GONE: u32 = u32::MAX;
/// Bytes of a pair that is written with all others.
pub const PAIR_BYTES: usize = 16;

/// Which panes saw a pair.
pub enum Past {
    /// The last pane, and bit i for the pane i before it.
    Bits { last: i64, bits: u64 },
    /// In order.
    List(Vec<i64>),
}

impl Past {
    /// Whether one of the panes `first..=last` saw it.
    pub fn is_in(&self, first: i64, last: i64) -> bool {
        let mut found = false;
        self.for_each(|pane| found |= first <= pane && pane <= last);
        found
    }

    /// Calls `each` for every pane that saw it.
    pub fn for_each(&self, mut each: impl FnMut(i64)) {
        match self {
            Past::Bits { last, bits } => {
                let mut left = *bits;
                while left != 0 {
                    each(last - i64::from(left.trailing_zeros()));
                    left &= left - 1;
                }
            }
            Past::List(panes) => panes.iter().for_each(|&pane| each(pane)),
        }
    }
}

/// The pairs and their panes.
pub struct Pairs {
    /// Buckets of 8 words.
    table: Words,
    /// 64 - log2 of the buckets.
    shift: u32,
    full: usize,
    /// Frontier when the table was built.
    renewed: i64,
    /// At least the live entries: those when they were last counted, and all put in since. So at
    /// least `entries - filled` may be written over, and a search for one comes to its end.
    filled: usize,
    wide: Option<Wide>,
    /// While slices are saved.
    noted: Option<Box<Noted>>,
}

impl Pairs {
    /// A table for at most `span` live panes; `late` if the whole past of a pair is asked for, not
    /// only its last pane.
    pub fn new(span: usize, late: bool) -> Pairs {
        let most = if late { HISTORY as usize } else { SPAN };
        Pairs {
            table: Words::zeroed(8 << 4),
            shift: 60,
            full: 0,
            renewed: i64::MIN,
            filled: 0,
            wide: (span > most).then(Wide::default),
            noted: None,
        }
    }

    /// Whether the table is all: no pair has more panes than it can tell apart.
    pub fn is_flat(&self) -> bool {
        self.wide.is_none()
    }

    /// Slots below `slots` will be asked for in slices of `grain`, a power of two.
    pub fn begin_slices(&mut self, slots: u32, grain: u32) {
        self.noted = Some(Box::new(Noted::new(slots, grain)));
    }

    /// Walks a part of the table; false when all was walked. About 3 ns an entry.
    pub fn prepare_slices(&mut self) -> bool {
        let Some(noted) = &mut self.noted else { return false };
        let buckets = self.table.len() / 8;
        let to = (noted.walked + WALKED).min(buckets);
        for bucket in noted.walked..to {
            for i in 0..4 {
                let about = self.table[bucket * 8 + 4 + i];
                if about & BITS != 0 {
                    noted.note((about >> 32) as u32, bucket * 8 + i);
                }
            }
        }
        noted.walked = to;
        to < buckets
    }

    /// The places of a slice's pairs, in the table's order; of `first..=last` are its slots.
    pub fn take_slice(&mut self, number: u32, (first, last): (u32, u32)) -> Vec<u32> {
        let Some(noted) = &mut self.noted else { return Vec::new() };
        let mut places = noted.take(number);
        places.sort_unstable();
        places.dedup();
        let table = &self.table;
        places.retain(|&place| {
            let about = table[place as usize + 4];
            about & BITS != 0 && (first..=last).contains(&((about >> 32) as u32))
        });
        places
    }

    /// No further slice is asked for.
    pub fn end_slices(&mut self) {
        self.noted = None;
    }

    /// The table's words; a home bucket begins at 8 times its number.
    #[inline(always)]
    pub fn lines(&self) -> &[u64] {
        &self.table
    }

    /// Home bucket of a pair.
    #[inline(always)]
    pub fn home(&self, slot: u32, value: u64) -> usize {
        (hash_next(hash_word(value), u64::from(slot)) >> self.shift) as usize
    }

    fn buckets(&self) -> usize {
        self.table.len() / 8
    }

    /// Makes room for `more` pairs without building the table anew while they come in, so that
    /// homes stay what they are.
    pub fn make_room(&mut self, more: usize, frontier: i64, oldest: i64) {
        if self.wide.is_some() {
            return;
        }
        let entries = self.buckets() * 4;
        let is_filled = (self.filled + more) * 5 > entries * 4;
        if is_filled {
            // Where the live ones come and go the table need not grow.
            self.filled = self.live(frontier, oldest);
        }
        let crowded = self.full * 4 > self.buckets();
        if crowded || (is_filled && (self.filled + more) * 3 > entries * 2) {
            self.rebuild(more, frontier, oldest);
        }
    }

    /// Counts the live entries. O(table), in order of memory.
    fn live(&self, frontier: i64, oldest: i64) -> usize {
        let alive = frontier.saturating_sub(oldest).clamp(0, 255) as u8;
        let is_live = |about: &&u64| {
            let age = (frontier as u8).wrapping_sub((**about >> 24) as u8);
            **about & BITS != 0 && age <= alive
        };
        self.table.chunks_exact(8).map(|bucket| bucket[4..].iter().filter(is_live).count()).sum()
    }

    /// Frees the dead entries.
    fn sweep(&mut self, frontier: i64, oldest: i64) {
        for bucket in self.table.chunks_exact_mut(8) {
            for about in &mut bucket[4..] {
                if Pairs::last(*about, frontier) < oldest {
                    *about &= FULL;
                }
            }
        }
        self.filled = self.live(frontier, oldest);
    }

    /// Tells of a new frontier and of panes dropped, before they are used.
    pub fn renew(&mut self, old: i64, frontier: i64, oldest: i64) {
        if let Some(wide) = &mut self.wide {
            wide.expire(oldest);
        } else if self.renewed == i64::MIN {
            self.renewed = frontier;
        } else if frontier.saturating_sub(self.renewed) >= RENEW {
            self.sweep(old, oldest);
            self.renewed = frontier;
        }
    }

    fn last(about: u64, frontier: i64) -> i64 {
        let age = (frontier as u8).wrapping_sub((about >> 24) as u8);
        frontier - i64::from(age)
    }

    fn rebuild(&mut self, more: usize, frontier: i64, oldest: i64) {
        let live = self.live(frontier, oldest);
        let mut log = 4;
        // At most half full with what is about to come.
        while (4usize << log) < (live + more) * 2 {
            log += 1;
        }
        let old = std::mem::replace(&mut self.table, Words::zeroed(8 << log));
        if let Some(noted) = &mut self.noted {
            // Each pair is noted again as it comes to its new place.
            noted.forget();
            noted.walked = (8 << log) / 8;
        }
        (self.shift, self.full, self.filled) = (64 - log, 0, 0);
        self.renewed = frontier;
        // Homes are the high bits of hashes: what is read in order is written nearly in order.
        for bucket in old.chunks_exact(8) {
            for i in 0..4 {
                let (value, about) = (bucket[i], bucket[4 + i]);
                if about & BITS != 0 && Pairs::last(about, frontier) >= oldest {
                    let home = self.home((about >> 32) as u32, value);
                    self.insert(home, value, about & !FULL, frontier, oldest);
                }
            }
        }
    }

    /// Marks a pair as seen in `pane` (up to the frontier, not before `oldest`) and gives the last
    /// live pane that saw it before, or one before `oldest` if none did.
    #[inline(always)]
    pub fn mark(
        &mut self,
        slot: u32,
        value: u64,
        home: usize,
        pane: i64,
        frontier: i64,
        oldest: i64,
    ) -> i64 {
        if let Some(wide) = &mut self.wide {
            return wide.mark(slot, value, pane, oldest);
        }
        let Some(place) = self.find(slot, value, home) else {
            let about = u64::from(slot) << 32 | u64::from(pane as u8) << 24 | 2;
            self.insert(home, value, about, frontier, oldest);
            return i64::MIN;
        };
        let about = self.table[place + 4];
        let last = Pairs::last(about, frontier);
        let history = about & BITS;
        let (newest, history) = if last < oldest {
            (pane, 2)
        } else if pane >= last {
            let moved = (pane - last) as u32;
            let older = if moved < HISTORY { history << moved & BITS } else { 0 };
            (pane, older | 2)
        } else {
            // Panes that the history does not reach back to are of no window that may fire again.
            let seen = 2u64.checked_shl((last - pane) as u32).unwrap_or(0);
            (last, history | seen & BITS)
        };
        self.table[place + 4] =
            u64::from(slot) << 32 | u64::from(newest as u8) << 24 | history | about & FULL;
        last
    }

    /// Place of a pair's value in the table; its other word is 4 on.
    #[inline(always)]
    fn find(&self, slot: u32, value: u64, home: usize) -> Option<usize> {
        let mut bucket = home;
        loop {
            let line: &[u64; 8] = self.table[bucket * 8..][..8].try_into().ok()?;
            // No branch but whether it is there: at which place cannot be guessed.
            let is_pair = |i: usize| {
                let about = line[4 + i];
                line[i] == value && about >> 32 == u64::from(slot) && about & BITS != 0
            };
            let found = (0..4).fold(0u32, |found, i| found | u32::from(is_pair(i)) << i);
            if found != 0 {
                return Some(bucket * 8 + found.trailing_zeros() as usize);
            }
            if line[4] & FULL == 0 {
                return None;
            }
            bucket = (bucket + 1) & (self.buckets() - 1);
        }
    }

    #[inline(always)]
    fn insert(&mut self, home: usize, value: u64, about: u64, frontier: i64, oldest: i64) {
        let mut bucket = home;
        loop {
            let line = &mut self.table[bucket * 8..][..8];
            let is_free = |i: usize| {
                let held = line[4 + i];
                (held & BITS == 0) | (Pairs::last(held, frontier) < oldest)
            };
            let free = (0..4).fold(0u32, |free, i| free | u32::from(is_free(i)) << i);
            if free != 0 {
                let i = free.trailing_zeros() as usize;
                line[i] = value;
                line[4 + i] = about | line[4 + i] & FULL;
                self.filled += 1;
                if let Some(noted) = &mut self.noted {
                    noted.note((about >> 32) as u32, bucket * 8 + i);
                }
                return;
            }
            if line[4] & FULL == 0 {
                line[4] |= FULL;
                self.full += 1;
            }
            bucket = (bucket + 1) & (self.buckets() - 1);
        }
    }

    /// The panes that saw a pair, those alive.
    pub fn past(&self, slot: u32, value: u64, frontier: i64, oldest: i64) -> Past {
        if let Some(wide) = &self.wide {
            return Past::List(wide.pairs.get(&(slot, value)).cloned().unwrap_or_default());
        }
        match self.find(slot, value, self.home(slot, value)) {
            Some(place) => self.past_at(place, frontier, oldest),
            None => Past::List(Vec::new()),
        }
    }

    fn past_at(&self, place: usize, frontier: i64, oldest: i64) -> Past {
        let about = self.table[place + 4];
        let last = Pairs::last(about, frontier);
        let bits = if last < oldest { 0 } else { (about & BITS) >> 1 };
        Past::Bits { last, bits }
    }

    /// The places of the flat table's pairs, by slot. O(table): counted, then dealt out.
    pub fn places(&self) -> Places {
        let mut starts: Vec<u32> = Vec::new();
        self.for_each_place(|slot, _| {
            let after = slot as usize + 2;
            if starts.len() <= after {
                starts.resize(after + 1, 0);
            }
            starts[after] += 1;
        });
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        // starts[slot + 1] is where the slot's places begin, and moves to where they end.
        let mut places = vec![0; sum as usize];
        self.for_each_place(|slot, place| {
            let at = &mut starts[slot as usize + 1];
            places[*at as usize] = place;
            *at += 1;
        });
        Places { first: 0, starts, places }
    }

    /// As [`Pairs::places`], of places that are all of slots from `first` on.
    pub fn places_of(&self, first: u32, list: &[u32]) -> Places {
        let slot = |place: u32| (self.table[place as usize + 4] >> 32) as u32 - first;
        let mut places = list.to_vec();
        places.sort_by_key(|&place| slot(place));
        let slots = places.last().map_or(0, |&last| slot(last) + 1);
        let starts = (0..=slots).map(|at| places.partition_point(|&place| slot(place) < at) as u32);
        Places { first, starts: starts.collect(), places }
    }

    fn for_each_place(&self, mut each: impl FnMut(u32, u32)) {
        for (bucket, words) in self.table.chunks_exact(8).enumerate() {
            for i in 0..4 {
                if words[4 + i] & BITS != 0 {
                    each((words[4 + i] >> 32) as u32, (bucket * 8 + i) as u32);
                }
            }
        }
    }

    /// Calls `each` with the values of a slot and their panes; `places` are [`Pairs::places`].
    pub fn of_slot(
        &self,
        slot: u32,
        places: &Places,
        frontier: i64,
        oldest: i64,
        mut each: impl FnMut(u64, Past),
    ) {
        if let Some(wide) = &self.wide {
            for (&(_, value), panes) in wide.pairs.range((slot, 0)..=(slot, u64::MAX)) {
                each(value, Past::List(panes.clone()));
            }
        }
        for at in places.range(slot) {
            // Slots are mostly asked for in their order: what comes next is asked for ahead.
            if let Some(&ahead) = places.places.get(at + AHEAD) {
                prefetch::read(&self.table, ahead as usize);
            }
            let place = places.places[at] as usize;
            each(self.table[place], self.past_at(place, frontier, oldest));
        }
    }

    /// Appends every live pair, in the table's order, and gives how many these are; or says that
    /// there is more than the table. `place` is what stands for a slot, [`GONE`] for one that is
    /// left out. O(table), about 3 ns an entry: it does not branch on what entries hold.
    ///
    /// A pair is 16 bytes: place: 32 | last pane mod 256: 8 | history: 23 | 0: 1, then the value.
    pub fn put_all(
        &self,
        place: impl Fn(u32) -> u32,
        frontier: i64,
        oldest: i64,
        out: &mut Vec<u8>,
    ) -> Option<u64> {
        if self.wide.is_some() {
            return None;
        }
        let start = out.len();
        out.reserve(self.filled.min(self.table.len() / 2) * PAIR_BYTES);
        for bucket in self.table.chunks_exact(8) {
            let (mut pairs, mut held) = ([0u8; 4 * PAIR_BYTES], 0);
            for i in 0..4 {
                let (value, about) = (bucket[i], bucket[4 + i]);
                let place = place((about >> 32) as u32);
                let is_live = (about & BITS != 0)
                    & (Pairs::last(about, frontier) >= oldest)
                    & (place != GONE);
                let pair = u64::from(place) << 32 | about & (u64::from(u32::MAX) ^ FULL);
                let at = held * PAIR_BYTES;
                pairs[at..at + 8].copy_from_slice(&pair.to_le_bytes());
                pairs[at + 8..at + 16].copy_from_slice(&value.to_le_bytes());
                held += usize::from(is_live);
            }
            out.extend_from_slice(&pairs[..held * PAIR_BYTES]);
        }
        Some(((out.len() - start) / PAIR_BYTES) as u64)
    }

    /// As [`Pairs::put_all`], the pairs at these places; gives how many were alive.
    pub fn put_some(
        &self,
        places: &[u32],
        place: impl Fn(u32) -> u32,
        frontier: i64,
        oldest: i64,
        out: &mut Vec<u8>,
    ) -> u64 {
        let mut held = 0;
        for (i, &at) in places.iter().enumerate() {
            if let Some(&ahead) = places.get(i + AHEAD) {
                prefetch::read(&self.table, ahead as usize);
            }
            let (value, about) = (self.table[at as usize], self.table[at as usize + 4]);
            let place = place((about >> 32) as u32);
            if Pairs::last(about, frontier) < oldest || place == GONE {
                continue;
            }
            let pair = u64::from(place) << 32 | about & (u64::from(u32::MAX) ^ FULL);
            out.extend_from_slice(&pair.to_le_bytes());
            out.extend_from_slice(&value.to_le_bytes());
            held += 1;
        }
        held
    }

    /// Place, panes and value of a pair that [`Pairs::put_all`] wrote at this frontier.
    pub fn read_pair(pair: &[u8; PAIR_BYTES], frontier: i64) -> (u32, Past, u64) {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&pair[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let about = word(0);
        let past = Past::Bits { last: Pairs::last(about, frontier), bits: (about & BITS) >> 1 };
        ((about >> 32) as u32, past, word(8))
    }

    /// Takes out the pairs of a slot; `places` stay right for other slots.
    pub fn remove(&mut self, slot: u32, places: &Places) {
        if let Some(wide) = &mut self.wide {
            let mut later = wide.pairs.split_off(&(slot, 0));
            if let Some(next) = slot.checked_add(1) {
                wide.pairs.append(&mut later.split_off(&(next, 0)));
            }
        }
        for &place in places.of(slot) {
            self.table[place as usize + 4] &= FULL;
        }
    }

    /// Values of all live pairs. O(table).
    pub fn values(&self, frontier: i64, oldest: i64) -> Vec<u64> {
        if let Some(wide) = &self.wide {
            return wide.pairs.keys().map(|&(_, value)| value).collect();
        }
        let mut values = Vec::new();
        self.for_each_place(|_, place| {
            let about = self.table[place as usize + 4];
            if Pairs::last(about, frontier) >= oldest {
                values.push(self.table[place as usize]);
            }
        });
        values
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        let wide = self.wide.as_ref().map_or(0, |wide| wide.pairs.len() * 64);
        self.table.len() * 8 + wide
    }
}

/// Where the pairs of each slot are.
pub struct Places {
    first: u32,
    /// The places of slot `first + s` are `places[starts[s]..starts[s + 1]]`; there are none past
    /// the end.
    starts: Vec<u32>,
    places: Vec<u32>,
}

impl Places {
    fn of(&self, slot: u32) -> &[u32] {
        &self.places[self.range(slot)]
    }

    fn range(&self, slot: u32) -> std::ops::Range<usize> {
        let bounds = slot.checked_sub(self.first).map(|at| at as usize);
        match bounds.and_then(|at| self.starts.get(at..at + 2)) {
            Some(bounds) => bounds[0] as usize..bounds[1] as usize,
            None => 0..0,
        }
    }
}

/// Invariant 4.
#[derive(Default)]
struct Wide {
    pairs: BTreeMap<(u32, u64), Vec<i64>>,
    /// Pairs at which dead ones are looked for again.
    limit: usize,
}

impl Wide {
    fn mark(&mut self, slot: u32, value: u64, pane: i64, oldest: i64) -> i64 {
        let panes = self.pairs.entry((slot, value)).or_default();
        panes.drain(..panes.partition_point(|&pane| pane < oldest));
        let last = panes.last().copied().unwrap_or(i64::MIN);
        if let Err(at) = panes.binary_search(&pane) {
            panes.insert(at, pane);
        }
        last
    }

    fn expire(&mut self, oldest: i64) {
        if self.pairs.len() > self.limit.max(1024) {
            self.pairs.retain(|_, panes| panes.last().is_some_and(|&last| last >= oldest));
            self.limit = self.pairs.len() * 2;
        }
    }
}
