//! Exact COUNT(DISTINCT) over panes, without a set for each pane and without merging any.
//!
//! One flat table holds, for each (slot, value), the last pane that saw it and which panes before.
//! Beside it each slot has a ring of lanes: how many of its values were last seen in each pane. A
//! value met again moves from its old lane to the new one, so the distinct values of a window are
//! the sum of its panes' lanes: O(1) a row, O(panes) a result. (Idea and proof of speed: the fraud
//! pipeline written by hand.)
//!
//! 1. The *frontier* is the last pane of the next window to fire. The table and the lanes hold
//!    panes up to it; rows of later panes wait in `ahead`, by pane, until the frontier gets there.
//!    So a value's last pane never lies behind the window that is counted.
//! 2. Lane p counts the values of a slot whose last pane is p, for `counted <= p <= frontier`: the
//!    panes of the next window to fire, which fit the ring. Earlier panes have no lane.
//! 3. Entries last seen before `oldest`, the first pane that a window can still use, are dead and
//!    written over in place.
//! 4. What a fired window counted is remembered while late rows may still change it; a late value
//!    is new to it if the panes of the window had not seen it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::distinct_table::{GONE, PAIR_BYTES, Pairs, Places};
use super::lines::{Lines, Reader, put_word};
use super::texts::Texts;
use super::touched::Touched;
use super::{Handle, LoadError};
use crate::ground::schema::DataType;
use crate::ground::{bits, prefetch, slot};

const AHEAD: usize = 16;
/// Pairs waiting for one pane before they are freed of repeats.
const WAITING: usize = 4096;

/// Pairs (slot, value) of a pane that the frontier has not reached.
#[derive(Default)]
struct Waiting {
    pairs: Vec<(u32, u64)>,
    /// Length at which repeats are taken out again.
    limit: usize,
}

impl Waiting {
    fn push(&mut self, slot: u32, value: u64) {
        if self.pairs.len() >= self.limit.max(WAITING) {
            self.pairs.sort_unstable();
            self.pairs.dedup();
            self.limit = self.pairs.len() * 2;
        }
        self.pairs.push((slot, value));
    }
}

/// Where everything of a slot is.
struct Index {
    places: Places,
    /// What waits for later panes: slot, pane, value; in order.
    ahead: Vec<(u32, i64, u64)>,
}

impl Index {
    fn ahead(&self, slot: u32) -> &[(u32, i64, u64)] {
        let from = self.ahead.partition_point(|&(of, _, _)| of < slot);
        let to = self.ahead.partition_point(|&(of, _, _)| of <= slot);
        &self.ahead[from..to]
    }
}

/// The distinct values of every slot, pane by pane.
pub struct Distinct {
    name: String,
    heaped: bool,
    /// Two lanes a word.
    lanes: Lines,
    /// Lanes in a ring, less one; a power of two, less one.
    ring: i64,
    pairs: Pairs,
    frontier: i64,
    counted: i64,
    oldest: i64,
    ahead: BTreeMap<i64, Waiting>,
    /// Counts of fired windows, by window and slot.
    fired: BTreeMap<i64, Lines>,
    texts: Texts,
    slots: usize,
    homes: Vec<u32>,
    words: Vec<u64>,
    /// Where everything of a slot is, while nothing changes: for saving many slots in one pass.
    index: RefCell<Option<Index>>,
    /// While a slice is saved: the places of its pairs, where these are all there is to know.
    entered: Option<Vec<u32>>,
}

impl Distinct {
    /// Sets for values of a type: counted over windows of `panes` panes, of at most `span` panes
    /// that are alive at once. `late` says that fired windows may fire again.
    ///
    /// # Panics
    /// If `panes` is 0.
    pub fn new(
        name: &str,
        data_type: &DataType,
        panes: usize,
        span: usize,
        late: bool,
    ) -> Distinct {
        assert!(panes > 0, "a window has a pane");
        let ring = panes.next_power_of_two().max(2);
        Distinct {
            name: name.to_string(),
            heaped: data_type.is_heaped(),
            lanes: Lines::new(name, ring / 2),
            ring: ring as i64 - 1,
            pairs: Pairs::new(span, late),
            frontier: i64::MIN,
            counted: i64::MIN,
            oldest: i64::MIN,
            ahead: BTreeMap::new(),
            fired: BTreeMap::new(),
            texts: Texts::default(),
            slots: 0,
            homes: Vec::new(),
            words: Vec::new(),
            index: RefCell::new(None),
            entered: None,
        }
    }

    /// Makes room for slots below `slots`.
    pub fn reserve(&mut self, slots: usize) {
        self.slots = self.slots.max(slots);
        self.lanes.reserve(slots);
    }

    /// Takes values of rows that all lie in `pane`: `rows` are places in `slots` and `values`; bit
    /// i of `live` says whether row i counts.
    ///
    /// # Panics
    /// If no room was made for a slot, or the pane was dropped.
    pub fn observe(
        &mut self,
        rows: &[u32],
        slots: &[u32],
        values: &[u64],
        heap: &[u8],
        live: Option<&[u64]>,
        pane: i64,
    ) {
        *self.index.get_mut() = None;
        let mut words = std::mem::take(&mut self.words);
        let values = if self.heaped && !heap.is_empty() {
            words.clear();
            words.resize(values.len(), 0);
            for &row in rows {
                words[row as usize] = self.texts.word(values[row as usize], heap);
            }
            &words[..]
        } else {
            values
        };
        let counts = |row: u32| live.is_none_or(|live| bits::get(live, row as usize));
        if pane > self.frontier {
            let waiting = self.ahead.entry(pane).or_default();
            for &row in rows.iter().filter(|&&row| counts(row)) {
                waiting.push(slots[row as usize], values[row as usize]);
            }
        } else {
            assert!(pane >= self.oldest, "rows of dropped panes are late");
            let pair = |i: usize| {
                let row = rows[i] as usize;
                counts(rows[i]).then(|| (slots[row], values[row]))
            };
            self.mark_all(rows.len(), pair, pane);
        }
        self.words = words;
    }

    /// Marks pairs as seen in a pane up to the frontier: first all addresses, then the work.
    #[inline(always)]
    fn mark_all(&mut self, len: usize, pair: impl Fn(usize) -> Option<(u32, u64)>, pane: i64) {
        let mut homes = std::mem::take(&mut self.homes);
        homes.clear();
        self.pairs.make_room(len, self.frontier, self.oldest);
        let home = |i| pair(i).map_or(0, |(slot, value)| self.pairs.home(slot, value) as u32);
        homes.extend((0..len).map(home));
        for i in 0..len {
            if let Some(&home) = homes.get(i + AHEAD) {
                prefetch::read(self.pairs.lines(), home as usize * 8);
                if let Some((slot, _)) = pair(i + AHEAD) {
                    self.lanes.prefetch(slot);
                }
            }
            if let Some((slot, value)) = pair(i) {
                self.mark(slot, value, homes[i] as usize, pane);
            }
        }
        self.homes = homes;
    }

    #[inline(always)]
    fn mark(&mut self, slot: u32, value: u64, home: usize, pane: i64) {
        let (frontier, oldest) = (self.frontier, self.oldest);
        let last = self.pairs.mark(slot, value, home, pane, frontier, oldest);
        if last < pane {
            let ring = self.ring;
            let counted = self.counted;
            let line = self.lanes.line_mut(slot);
            if last >= counted {
                lane_add(line, ring, last, u64::MAX);
            }
            if pane >= counted {
                lane_add(line, ring, pane, 1);
            }
        }
    }

    /// Ends the counting of a pane that the next window does not have; `touched` has at least the
    /// slots with values in it.
    pub fn leave(&mut self, pane: i64, touched: &Touched) {
        if pane < self.counted || pane > self.frontier {
            return;
        }
        let (word, shift) = lane(self.ring, pane);
        let lanes = &mut self.lanes;
        touched.for_each(|slot| {
            if (slot as usize) < lanes.capacity() {
                lanes.line_mut(slot)[word] &= !(0xFFFF_FFFF << shift);
            }
        });
    }

    /// Moves the frontier on: the next window to fire has the panes `counted..=frontier`, and no
    /// window uses panes before `oldest` any more. Takes in what waited for panes up to the
    /// frontier. [`Distinct::leave`] was called for all panes before `counted`.
    pub fn advance(&mut self, frontier: i64, counted: i64, oldest: i64) {
        if frontier <= self.frontier {
            return;
        }
        *self.index.get_mut() = None;
        // Dead pairs are told by the old frontier, before it moves.
        self.pairs.renew(self.frontier, frontier, oldest);
        self.frontier = frontier;
        self.counted = counted.max(self.counted);
        self.oldest = oldest.max(self.oldest);
        while let Some(entry) = self.ahead.first_entry() {
            let pane = *entry.key();
            if pane > frontier {
                break;
            }
            let Waiting { pairs, .. } = entry.remove();
            if pane >= self.oldest {
                self.mark_all(pairs.len(), |i| Some(pairs[i]), pane);
            }
        }
        self.sweep_texts();
    }

    fn sweep_texts(&mut self) {
        if self.heaped && self.texts.is_worth_sweeping() {
            let (frontier, oldest) = (self.frontier, self.oldest);
            let ahead = self.ahead.values().flat_map(|waiting| &waiting.pairs);
            let ahead = ahead.map(|&(_, value)| value);
            let mut held = self.pairs.values(frontier, oldest);
            held.extend(ahead);
            self.texts.keep(held.into_iter());
        }
    }

    /// Distinct values of each slot in the next window to fire; replaces what `out` holds.
    pub fn counts(&self, slots: &[u32], out: &mut Vec<u64>) {
        out.clear();
        // Both lanes of a word are added at once: sums of 32-bit counts of one slot do not
        // overflow.
        let mut masks = vec![0u64; self.lanes.width()];
        for pane in self.counted..=self.frontier {
            let (word, shift) = lane(self.ring, pane);
            masks[word] |= 0xFFFF_FFFF << shift;
        }
        out.extend(slots.iter().map(|&slot| {
            let line = self.lanes.line(slot);
            let words = line.iter().zip(&masks);
            let sum = words.fold(0u64, |sum, (lanes, mask)| sum + (lanes & mask));
            (sum & 0xFFFF_FFFF) + (sum >> 32)
        }));
    }

    /// Keeps what a window counted when it fired, for late rows.
    pub fn remember(&mut self, window: i64, slots: &[u32], counts: &[u64]) {
        let lines = self.fired.entry(window).or_insert_with(|| Lines::new(&self.name, 1));
        lines.reserve(self.slots);
        for (&slot, &count) in slots.iter().zip(counts) {
            *lines.word_mut(slot, 0) = count;
        }
    }

    /// What a fired window counts for a slot by now.
    pub fn remembered(&self, window: i64, slot: u32) -> u64 {
        let lines = self.fired.get(&window);
        let lines = lines.filter(|lines| (slot as usize) < lines.capacity());
        lines.map_or(0, |lines| lines.line(slot)[0])
    }

    /// Forgets what windows up to `window` counted: no late row can change them any more.
    pub fn forget(&mut self, window: i64) {
        while let Some(entry) = self.fired.first_entry() {
            if *entry.key() > window {
                break;
            }
            entry.remove();
        }
    }

    /// Takes the value of a late row in `pane`, which lies in the fired windows `windows` (window,
    /// first and last pane) that may fire again.
    pub fn late(
        &mut self,
        slot: u32,
        value: u64,
        heap: &[u8],
        pane: i64,
        windows: impl Iterator<Item = (i64, i64, i64)>,
    ) {
        *self.index.get_mut() = None;
        let value = if self.heaped { self.texts.word(value, heap) } else { value };
        if pane > self.frontier {
            self.ahead.entry(pane).or_default().push(slot, value);
            return;
        }
        self.pairs.make_room(1, self.frontier, self.oldest);
        let past = self.pairs.past(slot, value, self.frontier, self.oldest);
        for (window, first, last) in windows {
            if !past.is_in(first, last) {
                let count = self.remembered(window, slot) + 1;
                self.remember(window, &[slot], &[count]);
            }
        }
        let home = self.pairs.home(slot, value);
        self.mark(slot, value, home, pane);
    }

    /// Pairs of the table, those not yet taken in aside.
    pub fn len(&self) -> usize {
        self.pairs.values(self.frontier, self.oldest).len()
    }

    /// Whether the table has no live pair.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `each` with every pane of a slot and value in it, as [`Distinct::value`] takes it.
    pub fn each_value(&self, slot: u32, mut each: impl FnMut(i64, u64)) {
        let mut index = self.index.borrow_mut();
        let index = index.get_or_insert_with(|| self.index());
        let oldest = self.oldest;
        self.pairs.of_slot(slot, &index.places, self.frontier, oldest, |value, past| {
            past.for_each(|pane| {
                if pane >= oldest {
                    each(pane, value);
                }
            });
        });
        for &(_, pane, value) in index.ahead(slot).iter().filter(|(_, pane, _)| *pane >= oldest) {
            each(pane, value);
        }
    }

    /// A value that [`Distinct::each_value`] gave: its slot, and the heap of its text if that is
    /// long.
    pub fn value(&self, value: u64) -> (u64, &[u8]) {
        if self.heaped && slot::is_heaped(value) {
            let text = self.texts.text(value);
            return (slot::heaped(0, text.len()), text);
        }
        (value, &[])
    }

    fn index(&self) -> Index {
        self.index_of(self.pairs.places(), |_| true)
    }

    /// The index of slots that are wanted.
    fn index_of(&self, places: Places, is_wanted: impl Fn(u32) -> bool) -> Index {
        let pairs = |(&pane, waiting): (&i64, &Waiting)| {
            let wanted = waiting.pairs.iter().filter(|(slot, _)| is_wanted(*slot));
            wanted.map(move |&(slot, value)| (slot, pane, value)).collect::<Vec<_>>()
        };
        let mut ahead: Vec<_> = self.ahead.iter().flat_map(pairs).collect();
        ahead.sort_unstable();
        Index { places, ahead }
    }

    fn put_value(&self, value: u64, out: &mut Vec<u8>) {
        let (word, text) = self.value(value);
        put_word(word, out);
        out.extend_from_slice(text);
    }

    fn read_value(&mut self, read: &mut Reader<'_>) -> Result<u64, LoadError> {
        let word = read.word()?;
        if self.heaped && slot::is_heaped(word) {
            let text = read.bytes(slot::len(word))?;
            return Ok(self.texts.word_of(text));
        }
        Ok(word)
    }
}

/// Appends what `put` appends, with the number that it gives before it.
fn put_counted(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>) -> u64) {
    let at = out.len();
    put_word(0, out);
    let count = put(out);
    out[at..at + 8].copy_from_slice(&count.to_le_bytes());
}

/// Word and shift of a pane's lane.
#[inline(always)]
fn lane(ring: i64, pane: i64) -> (usize, u32) {
    let lane = (pane & ring) as usize;
    (lane / 2, (lane as u32 & 1) * 32)
}

/// Adds to a lane; `u64::MAX` is -1. Neither lane of a word ever passes below 0, and a borrow or
/// carry between them cannot happen.
#[inline(always)]
fn lane_add(line: &mut [u64], ring: i64, pane: i64, value: u64) {
    let (word, shift) = lane(ring, pane);
    let moved = (line[word] >> shift).wrapping_add(value) & 0xFFFF_FFFF;
    line[word] = line[word] & !(0xFFFF_FFFF << shift) | moved << shift;
}

impl Handle for Distinct {
    /// pairs: for each pane and value in it: pane, value | windows: window, count.
    fn save(&self, slot: u32, out: &mut Vec<u8>) {
        let start = out.len();
        put_word(0, out);
        let mut seen = 0u64;
        self.each_value(slot, |pane, value| {
            seen += 1;
            put_word(pane as u64, out);
            self.put_value(value, out);
        });
        out[start..start + 8].copy_from_slice(&seen.to_le_bytes());
        let (fired_at, mut fired) = (out.len(), 0u64);
        put_word(0, out);
        for &window in self.fired.keys() {
            let count = self.remembered(window, slot);
            if count != 0 {
                fired += 1;
                put_word(window as u64, out);
                put_word(count, out);
            }
        }
        out[fired_at..fired_at + 8].copy_from_slice(&fired.to_le_bytes());
        if seen == 0 && fired == 0 {
            out.truncate(start);
        }
    }

    fn load(&mut self, slot: u32, bytes: &[u8]) -> Result<(), LoadError> {
        if bytes.is_empty() {
            return Ok(());
        }
        *self.index.get_mut() = None;
        let name = self.name.clone();
        let mut read = Reader::new(&name, bytes);
        self.reserve(slot as usize + 1);
        for _ in 0..read.count(16)? {
            let pane = read.word()? as i64;
            let value = self.read_value(&mut read)?;
            if pane > self.frontier {
                self.ahead.entry(pane).or_default().push(slot, value);
            } else if pane >= self.oldest {
                self.pairs.make_room(1, self.frontier, self.oldest);
                let home = self.pairs.home(slot, value);
                self.mark(slot, value, home, pane);
            }
        }
        for _ in 0..read.count(16)? {
            let (window, count) = (read.word()? as i64, read.word()?);
            self.remember(window, &[slot], &[count]);
        }
        read.end()
    }

    /// frontier | pairs: for each as `Pairs::put_all` | waiting: for each: place, pane, value
    /// | windows: for each: window | count: for each: place, count
    fn save_all(&self, slots: &[u32], out: &mut Vec<u8>) -> bool {
        if self.heaped {
            return false;
        }
        // By slot, from the first one on.
        let first = slots.first().copied().unwrap_or(0);
        let mut places = vec![GONE; slots.last().map_or(0, |&last| (last - first) as usize + 1)];
        (0u32..).zip(slots).for_each(|(place, &slot)| places[(slot - first) as usize] = place);
        let place =
            |slot: u32| places.get(slot.wrapping_sub(first) as usize).copied().unwrap_or(GONE);
        let start = out.len();
        put_word(self.frontier as u64, out);
        let at = out.len();
        put_word(0, out);
        let (frontier, oldest) = (self.frontier, self.oldest);
        let pairs = match &self.entered {
            Some(entered) => Some(self.pairs.put_some(entered, place, frontier, oldest, out)),
            None => self.pairs.put_all(place, frontier, oldest, out),
        };
        let Some(pairs) = pairs else {
            out.truncate(start);
            return false;
        };
        out[at..at + 8].copy_from_slice(&pairs.to_le_bytes());
        put_counted(out, |out| {
            let mut waiting = 0;
            for (&pane, of_pane) in &self.ahead {
                let here = of_pane.pairs.iter().filter(|(slot, _)| place(*slot) != GONE);
                for &(slot, value) in here {
                    waiting += 1;
                    put_word(u64::from(place(slot)), out);
                    put_word(pane as u64, out);
                    put_word(value, out);
                }
            }
            waiting
        });
        put_word(self.fired.len() as u64, out);
        for &window in self.fired.keys() {
            put_word(window as u64, out);
            put_counted(out, |out| {
                let mut fired = 0;
                for (place, &slot) in slots.iter().enumerate() {
                    let count = self.remembered(window, slot);
                    if count != 0 {
                        fired += 1;
                        put_word(place as u64, out);
                        put_word(count, out);
                    }
                }
                fired
            });
        }
        true
    }

    fn begin_slices(&mut self, slots: u32, grain: u32) {
        self.pairs.begin_slices(slots, grain);
    }

    fn prepare_slices(&mut self) -> bool {
        self.pairs.prepare_slices()
    }

    /// O(pairs of the slice, and of all slots that wait for later panes).
    fn enter_slice(&mut self, number: u32, slots: &[u32]) {
        let (Some(&first), Some(&last)) = (slots.first(), slots.last()) else { return };
        let places = self.pairs.take_slice(number, (first, last));
        if !self.heaped && self.pairs.is_flat() {
            self.entered = Some(places);
            return;
        }
        let index = self
            .index_of(self.pairs.places_of(first, &places), |slot| (first..=last).contains(&slot));
        *self.index.get_mut() = Some(index);
    }

    fn leave_slice(&mut self) {
        self.entered = None;
        *self.index.get_mut() = None;
    }

    fn end_slices(&mut self) {
        self.pairs.end_slices();
    }

    fn load_all(&mut self, slots: &[Option<u32>], bytes: &[u8]) -> Result<(), LoadError> {
        *self.index.get_mut() = None;
        let name = self.name.clone();
        let mut read = Reader::new(&name, bytes);
        self.reserve(slots.iter().flatten().max().map_or(0, |&slot| slot as usize + 1));
        let frontier = read.word()? as i64;
        let pairs = read.count(PAIR_BYTES)?;
        let (pairs, _) = read.bytes(pairs * PAIR_BYTES)?.as_chunks::<PAIR_BYTES>();
        let absent = |read: &Reader<'_>| read.error("it names a slot that is not there");
        let mut here = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let (place, past, value) = Pairs::read_pair(pair, frontier);
            let slot = *slots.get(place as usize).ok_or_else(|| absent(&read))?;
            let Some(slot) = slot else { continue };
            past.for_each(|pane| {
                if pane > self.frontier {
                    self.ahead.entry(pane).or_default().push(slot, value);
                } else if pane >= self.oldest {
                    here.push((slot, pane, value));
                }
            });
        }
        self.pairs.make_room(here.len(), self.frontier, self.oldest);
        let home = |&(slot, _, value): &(u32, i64, u64)| self.pairs.home(slot, value);
        let homes: Vec<usize> = here.iter().map(home).collect();
        for (i, &(slot, pane, value)) in here.iter().enumerate() {
            if let Some(&ahead) = homes.get(i + AHEAD) {
                prefetch::read(self.pairs.lines(), ahead * 8);
            }
            self.mark(slot, value, homes[i], pane);
        }
        for _ in 0..read.count(24)? {
            let (place, pane, value) = (read.word()? as usize, read.word()? as i64, read.word()?);
            let slot = *slots.get(place).ok_or_else(|| absent(&read))?;
            let Some(slot) = slot else { continue };
            if pane > self.frontier {
                self.ahead.entry(pane).or_default().push(slot, value);
            } else if pane >= self.oldest {
                self.pairs.make_room(1, self.frontier, self.oldest);
                let home = self.pairs.home(slot, value);
                self.mark(slot, value, home, pane);
            }
        }
        for _ in 0..read.count(16)? {
            let window = read.word()? as i64;
            for _ in 0..read.count(16)? {
                let (place, count) = (read.word()? as usize, read.word()?);
                let slot = slots.get(place).ok_or_else(|| absent(&read))?;
                slot.inspect(|slot| self.remember(window, &[*slot], &[count]));
            }
        }
        read.end()
    }

    fn clear(&mut self, slot: u32) {
        self.clear_all(&[slot]);
    }

    fn clear_all(&mut self, slots: &[u32]) {
        let index = self.index.take().unwrap_or_else(|| self.index());
        for &slot in slots {
            self.pairs.remove(slot, &index.places);
            self.lanes.clear(slot);
            self.fired.values_mut().for_each(|lines| lines.clear(slot));
        }
        if !index.ahead.is_empty() {
            let gone = |slot: u32| !index.ahead(slot).is_empty();
            let mut gone: Vec<u32> = slots.iter().copied().filter(|&slot| gone(slot)).collect();
            gone.sort_unstable();
            for waiting in self.ahead.values_mut().filter(|_| !gone.is_empty()) {
                waiting.pairs.retain(|(of, _)| gone.binary_search(of).is_err());
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        let ahead: usize = self.ahead.values().map(|w| w.pairs.capacity() * 16).sum();
        let fired: usize = self.fired.values().map(Lines::bytes).sum();
        let table = self.pairs.memory_bytes() + self.texts.memory_bytes();
        self.lanes.bytes() + table + ahead + fired
    }
}

#[cfg(test)]
mod tests;
