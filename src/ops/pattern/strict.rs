//! Patterns that are strictly contiguous and of fixed length: Shift-And (Baeza-Yates and Gonnet)
//! over the rows of each key.
//!
//! ```text
//! live (8 bytes a key)     bit k: the key's last k + 1 rows are a prefix of the pattern
//!                          high byte: the place in the ring for the next row
//! ring (a fixed line)      null bits | for each of the last m - 1 rows: time | kept columns
//! ```
//!
//! A row's word of positions that it fits comes from masks over the whole batch. A row that fits
//! none writes 8 bytes and reads nothing; only a row that leaves a prefix behind is kept.
//!
//! 1. Bit m - 1 is never stored: it is a match, at once.
//! 2. If bit k is set, the last k + 1 places of the ring are the key's last rows, in order.
//! 3. Matches are those of the automaton: no match is ever held, because of two partial matches
//!    the one that began earlier is further on.

use super::ast::{AfterMatch, Ast, Contiguity, Inner, Step, Within};
use super::nfa::run::{Event, Tests};
use super::nfa::store::Layout;
use super::refs::{NULL, Rows};
use super::select::Selector;
use super::texts::Texts;
use crate::expr::Value;
use crate::ground::batch::RecordBatch;
use crate::ground::prefetch;
use crate::ground::slot;
use crate::ground::time::Time;
use crate::state::{Handle, LoadError};

/// Longest pattern that runs here.
pub const LENGTH_MAX: usize = 32;
/// Most values in a ring: one null bit each.
const VALUES_MAX: usize = 64;

/// A pattern's positions, one a row of a match.
#[derive(Clone, Debug)]
pub struct Positions {
    /// The test of each position, if it has one.
    test: Vec<Option<usize>>,
    /// The step of each position.
    step: Vec<u32>,
    within: Within,
    skip_past: bool,
}

impl Positions {
    /// The positions of a pattern, `None` if it is not strictly contiguous and of fixed length.
    pub fn of(ast: &Ast) -> Option<Positions> {
        let skip_past = match ast.after_match {
            AfterMatch::NoSkip => false,
            AfterMatch::SkipPastLastEvent => true,
            _ => return None,
        };
        let (mut test, mut step_of) = (Vec::new(), Vec::new());
        for (number, step) in ast.steps.iter().enumerate() {
            let times = strict_times(step)?;
            if test.len() + times > LENGTH_MAX {
                return None;
            }
            test.extend(std::iter::repeat_n(step.condition, times));
            step_of.extend(std::iter::repeat_n(number as u32, times));
        }
        Some(Positions { test, step: step_of, within: ast.within, skip_past })
    }

    fn len(&self) -> usize {
        self.test.len()
    }
}

fn strict_times(step: &Step) -> Option<usize> {
    let plain = step.group.is_none() && !step.optional && !step.greedy && step.until.is_none();
    let next = matches!(step.contiguity, None | Some(Contiguity::Next));
    let times = match step.times {
        None => 1,
        Some(times) if times.max == Some(times.min) => usize::try_from(times.min).ok()?,
        Some(_) => return None,
    };
    let strict = times == 1 || step.inner == Some(Inner::Consecutive);
    (plain && next && strict && times > 0).then_some(times)
}

const HEAD_SHIFT: u32 = 56;

/// The keys' prefixes and rings; see the module's head.
pub struct Rings {
    live: Vec<u64>,
    ring: Vec<u64>,
    /// Words of a key's line in `ring`.
    stride: usize,
    /// Rows in a ring: m - 1.
    rows: usize,
    layout: Layout,
    texts: Texts,
    has_texts: bool,
}

/// Runs one strict pattern.
pub struct Strict {
    positions: Positions,
    pub tests: Tests,
    pub rings: Rings,
    /// Positions that each test decides.
    of_test: Vec<u32>,
    /// Positions without a test.
    open: u32,
    /// Positions whose test reads what was taken.
    dynamic: u32,
    /// The positions that each row of the batch fits.
    fits: Vec<u32>,
}

impl Strict {
    /// The executor, or `tests` back if its rings would be too large.
    ///
    /// # Errors
    /// The tests, for the automaton.
    pub fn new(positions: Positions, tests: Tests, layout: Layout) -> Result<Strict, Tests> {
        let rows = positions.len() - 1;
        if rows * layout.columns.len() > VALUES_MAX {
            return Err(tests);
        }
        let (mut of_test, mut open) = (vec![0u32; tests.conditions.len()], 0u32);
        for (k, test) in positions.test.iter().enumerate() {
            match test {
                Some(test) => of_test[*test] |= 1 << k,
                None => open |= 1 << k,
            }
        }
        let reads = |(i, bits): (usize, &u32)| if tests.dynamic >> i & 1 == 1 { *bits } else { 0 };
        let dynamic = of_test.iter().enumerate().map(reads).fold(0, |all, bits| all | bits);
        let stride = 1 + rows * (1 + layout.columns.len());
        Ok(Strict {
            of_test,
            open,
            dynamic,
            rings: Rings {
                live: Vec::new(),
                ring: Vec::new(),
                // Lines of up to 8 words do not straddle, longer ones begin with a cache line.
                stride: if stride <= 8 {
                    stride.next_power_of_two()
                } else {
                    stride.next_multiple_of(8)
                },
                rows,
                has_texts: layout.heaped.contains(&true),
                layout,
                texts: Texts::default(),
            },
            positions,
            tests,
            fits: Vec::new(),
        })
    }

    /// Handles rows: `select[i]` is row i of the call, of the key at `slots[i]`; `masks` has the
    /// rows that meet each test (all rows for a test without a row part).
    pub fn rows(
        &mut self,
        batch: &RecordBatch,
        select: &[u32],
        times: &[Time],
        slots: &[u32],
        masks: &[Vec<u64>],
        found: &mut Selector,
    ) {
        const AHEAD: usize = 16;
        self.fit(select.len(), masks);
        for i in 0..select.len() {
            if let Some(&ahead) = slots.get(i + AHEAD) {
                self.rings.prefetch(ahead, self.fits[i + AHEAD]);
            }
            let (slot, fits) = (slots[i], self.fits[i]);
            if fits == 0 {
                self.rings.live[slot as usize] = 0;
                continue;
            }
            let event = Event { batch, row: select[i] as usize, time: times[i], tests: 0 };
            self.row(slot, fits, event, found);
        }
    }

    /// The positions that each row fits.
    fn fit(&mut self, len: usize, masks: &[Vec<u64>]) {
        self.fits.clear();
        self.fits.resize(len, self.open);
        for (mask, &bits) in masks.iter().zip(&self.of_test) {
            for (rows, &word) in self.fits.chunks_mut(64).zip(mask) {
                for (i, fits) in rows.iter_mut().enumerate() {
                    *fits |= bits & ((word >> i & 1) as u32).wrapping_neg();
                }
            }
        }
    }

    #[inline(always)]
    fn row(&mut self, slot: u32, fits: u32, event: Event<'_>, found: &mut Selector) {
        let word = self.rings.live[slot as usize];
        let mut live = word as u32;
        if let Within::PreviousAndCurrent(ms) = self.positions.within
            && ms > 0
            && live != 0
            && event.time.saturating_sub(self.rings.time(slot, word, 1)) >= ms
        {
            live = 0;
        }
        let mut next = (live << 1 | 1) & fits;
        if next & self.dynamic != 0 {
            next = self.settle(slot, word, next, event);
        }
        let full = 1u32 << (self.positions.len() - 1);
        if next & full != 0 {
            next &= !full;
            if self.put_out(slot, word, event, found) && self.positions.skip_past {
                next = 0;
            }
        }
        if next == 0 {
            self.rings.live[slot as usize] = 0;
        } else {
            self.rings.push(slot, word, next, event);
        }
    }

    /// Clears the positions whose test fails for the rows before.
    #[inline(never)]
    fn settle(&self, slot: u32, word: u64, mut next: u32, event: Event<'_>) -> u32 {
        let mut open = next & self.dynamic;
        while open != 0 {
            let k = open.trailing_zeros() as usize;
            open &= open - 1;
            if !self.test(slot, word, k, event) {
                next &= !(1 << k);
            }
        }
        next
    }

    fn test(&self, slot: u32, word: u64, k: usize, event: Event<'_>) -> bool {
        let test = self.positions.test[k].expect("a dynamic position has a test");
        let Some(rest) = &self.tests.conditions[test].rest else {
            return true;
        };
        let taken = Taken { strict: self, slot, word, event, before: k, with_event: false };
        let refs = &self.tests.refs[test];
        const FEW: usize = 8;
        if refs.len() <= FEW {
            let mut values = [NULL; FEW];
            for (value, of) in values.iter_mut().zip(refs) {
                *value = of.scalar(&taken);
            }
            rest.test(event.batch, event.row, &values[..refs.len()])
        } else {
            let values: Vec<Value<'_>> = refs.iter().map(|of| of.scalar(&taken)).collect();
            rest.test(event.batch, event.row, &values)
        }
    }

    /// Puts a match out if it is within its bound.
    fn put_out(&self, slot: u32, word: u64, event: Event<'_>, found: &mut Selector) -> bool {
        let before = self.positions.len() - 1;
        if let Within::FirstAndLast(ms) = self.positions.within
            && ms > 0
            && before > 0
            && event.time.saturating_sub(self.rings.time(slot, word, before)) >= ms
        {
            return false;
        }
        let taken = Taken { strict: self, slot, word, event, before, with_event: true };
        found.add(&taken, event.time);
        true
    }
}

/// The rows of a prefix of length `before`, and the event itself.
struct Taken<'a> {
    strict: &'a Strict,
    slot: u32,
    word: u64,
    event: Event<'a>,
    before: usize,
    with_event: bool,
}

impl Rows for Taken<'_> {
    /// How many rows back: 0 is the event.
    type Row = usize;

    #[inline(always)]
    fn newest_first(&self, step: Option<u32>) -> impl Iterator<Item = usize> {
        let steps = &self.strict.positions.step;
        let from = usize::from(!self.with_event);
        (from..=self.before)
            .filter(move |back| step.is_none_or(|step| steps[self.before - back] == step))
    }

    #[inline(always)]
    fn value(&self, back: usize, place: usize) -> Value<'_> {
        let rings = &self.strict.rings;
        if back > 0 {
            return rings.value(self.slot, self.word, back, place);
        }
        let (batch, column) = (self.event.batch, rings.layout.columns[place]);
        match batch.get(self.event.row, column) {
            None => NULL,
            Some(slot) => Value { slot, null: false, heap: batch.heap() },
        }
    }
}

impl Rings {
    /// Makes room for slots below `keys`.
    pub fn grow(&mut self, keys: usize) {
        if keys > self.live.len() {
            let room = keys.next_power_of_two().max(1024);
            self.live.resize(room, 0);
            self.ring.resize(room * self.stride, 0);
            prefetch::huge(&mut self.live);
            prefetch::huge(&mut self.ring);
        }
    }

    #[inline(always)]
    fn prefetch(&self, slot: u32, fits: u32) {
        prefetch::read(&self.live, slot as usize);
        if fits != 0 {
            let at = slot as usize * self.stride;
            prefetch::read(&self.ring, at);
            if self.stride > 8 {
                prefetch::read(&self.ring, at + 8);
            }
        }
    }

    /// Where the row `back` rows ago begins, and its place in the ring.
    #[inline(always)]
    fn entry(&self, slot: u32, word: u64, back: usize) -> (usize, usize) {
        let head = (word >> HEAD_SHIFT) as usize;
        let place = if head >= back { head - back } else { head + self.rows - back };
        let at = slot as usize * self.stride + 1 + place * (1 + self.layout.columns.len());
        (at, place)
    }

    #[inline(always)]
    fn time(&self, slot: u32, word: u64, back: usize) -> Time {
        self.ring[self.entry(slot, word, back).0] as Time
    }

    #[inline(always)]
    fn value(&self, slot: u32, word: u64, back: usize, i: usize) -> Value<'_> {
        let (at, place) = self.entry(slot, word, back);
        let nulls = self.ring[slot as usize * self.stride];
        let null = nulls >> (place * self.layout.columns.len() + i) & 1 == 1;
        let stored = self.ring[at + 1 + i];
        if self.layout.heaped[i] && slot::is_heaped(stored) {
            let heap = self.texts.get(stored);
            let slot = slot::heaped(0, heap.len());
            return Value { slot, null, heap };
        }
        Value { slot: stored, null, heap: &[] }
    }

    /// Keeps the event and says which prefixes are live.
    #[inline(always)]
    fn push(&mut self, slot: u32, word: u64, live: u32, event: Event<'_>) {
        // Where no prefix was live, any place will do.
        let head = (word >> HEAD_SHIFT) as usize;
        let columns = self.layout.columns.len();
        let base = slot as usize * self.stride;
        let at = base + 1 + head * (1 + columns);
        self.ring[at] = event.time as u64;
        let row = event.batch.row(event.row);
        if self.has_texts || event.batch.has_nulls() {
            self.push_slow(base, at, head, event);
        } else {
            for i in 0..columns {
                self.ring[at + 1 + i] = row[self.layout.columns[i]];
            }
            let bits = ((1u128 << columns) - 1) as u64;
            self.ring[base] &= !(bits << (head * columns));
        }
        let head = if head + 1 == self.rows { 0 } else { head + 1 };
        self.live[slot as usize] = u64::from(live) | (head as u64) << HEAD_SHIFT;
    }

    fn push_slow(&mut self, base: usize, at: usize, head: usize, event: Event<'_>) {
        let columns = self.layout.columns.len();
        for i in 0..columns {
            let value = event.batch.get(event.row, self.layout.columns[i]);
            let text = match value {
                Some(value) if self.layout.heaped[i] && slot::is_heaped(value) => slot::bytes(
                    &event.batch.row(event.row)[self.layout.columns[i]],
                    event.batch.heap(),
                ),
                _ => &[],
            };
            self.set(base, at, head * columns + i, i, value, text);
        }
    }

    /// Sets one value; `bit` is its null bit. A long text that stood there is freed.
    fn set(
        &mut self,
        base: usize,
        at: usize,
        bit: usize,
        i: usize,
        value: Option<u64>,
        text: &[u8],
    ) {
        let old = self.ring[at + 1 + i];
        let heaped = self.layout.heaped[i];
        if heaped && slot::is_heaped(old) {
            self.texts.free(old);
        }
        let nulls = &mut self.ring[base];
        *nulls = *nulls & !(1 << bit) | u64::from(value.is_none()) << bit;
        self.ring[at + 1 + i] = match value {
            None => 0,
            Some(value) if heaped && slot::is_heaped(value) => self.texts.put(text),
            Some(value) => value,
        };
    }
}

/// ```text
/// live: u32 | rows: u32 | for each, oldest first: time i64 | for each kept column: 0 (NULL)
///                                       | 1, slot u64 | 2, length u32, bytes
/// ```
impl Handle for Rings {
    fn save(&self, slot: u32, out: &mut Vec<u8>) {
        let word = self.live.get(slot as usize).copied().unwrap_or(0);
        let live = word as u32;
        if live == 0 {
            return;
        }
        let rows = 32 - live.leading_zeros();
        out.extend_from_slice(&live.to_le_bytes());
        out.extend_from_slice(&rows.to_le_bytes());
        for back in (1..=rows as usize).rev() {
            out.extend_from_slice(&self.time(slot, word, back).to_le_bytes());
            for i in 0..self.layout.columns.len() {
                let value = self.value(slot, word, back, i);
                if value.null {
                    out.push(0);
                } else if self.layout.heaped[i] && slot::is_heaped(value.slot) {
                    out.push(2);
                    out.extend_from_slice(&(value.heap.len() as u32).to_le_bytes());
                    out.extend_from_slice(value.heap);
                } else {
                    out.push(1);
                    out.extend_from_slice(&value.slot.to_le_bytes());
                }
            }
        }
    }

    fn load(&mut self, slot: u32, bytes: &[u8]) -> Result<(), LoadError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.grow(slot as usize + 1);
        self.read(slot, bytes).ok_or_else(|| LoadError {
            handle: "prefixes".into(),
            reason: "the bytes are not what this version writes".into(),
        })
    }

    fn clear(&mut self, slot: u32) {
        let Some(live) = self.live.get_mut(slot as usize) else {
            return;
        };
        *live = 0;
        // Only texts hold memory; the rest is written over.
        let columns = if self.has_texts { self.layout.columns.len() } else { 0 };
        let base = slot as usize * self.stride;
        for place in 0..self.rows {
            for i in 0..columns {
                let at = base + 1 + place * (1 + columns);
                self.set(base, at, place * columns + i, i, None, &[]);
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        (self.live.capacity() + self.ring.capacity()) * 8 + self.texts.bytes()
    }
}

impl Rings {
    fn read(&mut self, slot: u32, bytes: &[u8]) -> Option<()> {
        let mut from = super::reader::Reader::new(bytes);
        let (live, rows) = (from.u32()?, from.u32()? as usize);
        if rows > self.rows || live == 0 {
            return None;
        }
        let columns = self.layout.columns.len();
        let base = slot as usize * self.stride;
        for place in 0..rows {
            let at = base + 1 + place * (1 + columns);
            self.ring[at] = from.i64()? as u64;
            for i in 0..columns {
                let (value, text) = match from.u8()? {
                    0 => (None, &[][..]),
                    1 => (Some(from.u64()?), &[][..]),
                    2 => {
                        let len = from.u32()? as usize;
                        (Some(slot::heaped(0, len)), from.take(len)?)
                    }
                    _ => return None,
                };
                self.set(base, at, place * columns + i, i, value, text);
            }
        }
        let head = if rows == self.rows { 0 } else { rows };
        self.live[slot as usize] = u64::from(live) | (head as u64) << HEAD_SHIFT;
        from.is_empty().then_some(())
    }
}
