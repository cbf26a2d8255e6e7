//! Patterns that are strictly contiguous and of fixed length: Shift-And (Baeza-Yates and Gonnet,
//! 1992) over the rows of each key.
//!
//! A row's word of positions that it fits comes from masks over the whole batch. A row that fits
//! none writes 8 bytes and reads nothing; only a row that leaves a prefix behind is kept
//! ([`rings`]).
//!
//! Matches are those of the automaton: no match is ever held, because of two partial matches the
//! one that began earlier is further on; and a prefix whose time is over can only fail its bound.

pub mod prefixes;
pub mod rings;

use super::ast::{AfterMatch, Ast, Contiguity, Inner, Step, Within};
use super::nfa::run::{Event, Tests};
use super::nfa::store::Layout;
use super::refs::{NULL, Rows};
use super::select::Selector;
use crate::expr::{Comparison, Value};
use crate::ground::bits;
use crate::ground::time::Time;
use crate::ops;
use prefixes::Lane;
use rings::{Rings, Shape};

/// Longest pattern that runs here.
pub const LENGTH_MAX: usize = 32;

const NO_BOUND: i64 = i64::MAX;
/// Rows between asking for a key's line and using it.
const AHEAD: usize = 32;

/// A pattern's positions, one a row of a match.
#[derive(Clone, Debug)]
pub struct Positions {
    /// The test of each position, if it has one.
    test: Vec<Option<usize>>,
    /// The positions of each step: from the first up to the last.
    of_step: Vec<std::ops::Range<usize>>,
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
        let (mut test, mut of_step) = (Vec::new(), Vec::new());
        for step in &ast.steps {
            let times = strict_times(step)?;
            if test.len() + times > LENGTH_MAX {
                return None;
            }
            of_step.push(test.len()..test.len() + times);
            test.extend(std::iter::repeat_n(step.condition, times));
        }
        Some(Positions { test, of_step, within: ast.within, skip_past })
    }

    /// How many rows a match has.
    pub fn len(&self) -> usize {
        self.test.len()
    }

    /// Whether a match has no rows; none is like that.
    pub fn is_empty(&self) -> bool {
        self.test.is_empty()
    }

    /// The step that a position belongs to.
    pub fn step(&self, position: usize) -> Option<usize> {
        self.of_step.iter().position(|range| range.contains(&position))
    }

    /// The bound from row to row, ms.
    fn between(&self) -> i64 {
        match self.within {
            Within::PreviousAndCurrent(ms) if ms > 0 => ms,
            _ => NO_BOUND,
        }
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

/// Columns whose values need not be kept, because they are known anyway.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The key's columns: the same in every row of a key.
    pub key: Vec<usize>,
    /// The column that holds the event time.
    pub event_time: Option<usize>,
}

/// Where the value of a kept column is found.
#[derive(Clone, Copy, Debug)]
enum Source {
    Ring(usize),
    /// In the row at hand, as in all rows of the key.
    Key,
    Time,
}

/// A reference of a test at a known position.
#[derive(Clone, Copy, Debug)]
enum Bound {
    /// A column of the rings, of the row so many rows back.
    Kept(usize, usize),
    /// A value of the row so many rows back, at a place of the layout.
    Row(usize, usize),
    /// No such row can be taken yet.
    Null,
    /// To be worked out: the test's reference of this number.
    Over(usize),
}

/// Runs one strict pattern.
pub struct Strict {
    pub positions: Positions,
    pub tests: Tests,
    pub rings: Rings,
    /// Where the values at the places of the layout are, and their columns.
    sources: Vec<(Source, usize)>,
    /// Positions that each test decides.
    of_test: Vec<u32>,
    /// How each reference of the test at a position is found.
    bound: Vec<Vec<Bound>>,
    /// Where the test at a position is but a comparison with a kept value: it, how many rows back
    /// and which column of the rings.
    compared: Vec<Option<(Comparison, usize, usize)>>,
    /// Positions without a test.
    open: u32,
    /// Positions whose test reads what was taken.
    dynamic: u32,
    /// The positions that each row of the batch fits.
    fits: Vec<u32>,
}

impl Strict {
    /// The executor. `layout` has the columns that tests and select read; prefixes lie in `lane`.
    ///
    /// # Errors
    /// The tests, for the automaton, if the rings would be too large.
    pub fn new(
        positions: Positions,
        tests: Tests,
        layout: &Layout,
        known: &Known,
        lane: Lane,
    ) -> Result<Strict, Tests> {
        let (mut sources, mut columns, mut heaped) = (Vec::new(), Vec::new(), Vec::new());
        for (&column, &is_heaped) in layout.columns.iter().zip(&layout.heaped) {
            let source = if known.key.contains(&column) {
                Source::Key
            } else if known.event_time == Some(column) {
                Source::Time
            } else {
                columns.push(column);
                heaped.push(is_heaped);
                Source::Ring(columns.len() - 1)
            };
            sources.push((source, column));
        }
        let is_timed = positions.within.bound().is_some() || known.event_time.is_some();
        let Some(rings) = Rings::new(lane, positions.len(), columns, heaped, is_timed) else {
            return Err(tests);
        };
        let (mut of_test, mut open) = (vec![0u32; tests.conditions.len()], 0u32);
        for (k, test) in positions.test.iter().enumerate() {
            match test {
                Some(test) => of_test[*test] |= 1 << k,
                None => open |= 1 << k,
            }
        }
        let reads =
            |(i, bits): (usize, &u32)| if bits::get(&[tests.dynamic], i) { *bits } else { 0 };
        let dynamic = of_test.iter().enumerate().map(reads).fold(0, |all, bits| all | bits);
        let bound: Vec<Vec<Bound>> =
            (0..positions.len()).map(|k| bind(&positions, k, &tests, &sources)).collect();
        let compare = |(k, bound): (usize, &Vec<Bound>)| {
            let rest = tests.conditions[positions.test[k]?].rest.as_ref()?;
            let comparison = rest.as_comparison()?;
            match bound[comparison.reference] {
                Bound::Kept(back, i) => Some((comparison, back, i)),
                _ => None,
            }
        };
        let compared = bound.iter().enumerate().map(compare).collect();
        let fits = Vec::new();
        Ok(Strict {
            positions,
            tests,
            rings,
            sources,
            of_test,
            bound,
            compared,
            open,
            dynamic,
            fits,
        })
    }

    /// Handles rows; `masks` has the rows that meet each test (all rows for a test without a part
    /// that reads the row alone). Slots are below `keys`.
    pub fn rows(
        &mut self,
        rows: &ops::Rows<'_>,
        (slots, keys): (&[u32], usize),
        masks: &[Vec<u64>],
        found: &mut Selector,
    ) {
        self.rings.begin(keys);
        self.fit(rows.select.len(), masks);
        let plain = self.rings.is_plain(rows.records);
        match (plain, self.dynamic != 0) {
            (true, true) => self.run::<true, true>(rows, slots, found),
            (false, true) => self.run::<false, true>(rows, slots, found),
            (false, false) => self.run::<false, false>(rows, slots, found),
            (true, false) if self.is_mixed() => self.run_mixed(rows, slots, found),
            (true, false) => self.run::<true, false>(rows, slots, found),
        }
        self.rings.end();
    }

    /// Whether neither nearly all nor nearly no rows fit a position, so that asking is a guess
    /// that the processor gets wrong.
    fn is_mixed(&self) -> bool {
        if self.positions.len() == 1 {
            return false;
        }
        let fit = self.fits.iter().filter(|&&fits| fits != 0).count();
        (self.fits.len() / 5..self.fits.len() * 4 / 5).contains(&fit)
    }

    /// PLAIN: no value of the batch is NULL or long. DYNAMIC: tests read what was taken.
    fn run<const PLAIN: bool, const DYNAMIC: bool>(
        &mut self,
        rows: &ops::Rows<'_>,
        slots: &[u32],
        found: &mut Selector,
    ) {
        let full = 1u32 << (self.positions.len() - 1);
        let (shape, between) = (self.rings.shape(), self.positions.between());
        for i in 0..rows.select.len() {
            if let Some(&ahead) = slots.get(i + AHEAD) {
                self.rings.prefetch(ahead, self.fits[i + AHEAD] != 0);
            }
            let (slot, fits) = (slots[i], self.fits[i]);
            if fits == 0 {
                self.rings.forget(slot);
                continue;
            }
            let (batch, row) = (rows.records, rows.select[i] as usize);
            let event = Event { batch, row, time: rows.times[i], tests: 0 };
            let word = self.rings.word(slot);
            let live = self.live(shape, slot, word, event.time, between);
            let mut next = (live << 1 | 1) & fits;
            if DYNAMIC && next & self.dynamic != 0 {
                next = self.settle(slot, word, next, event);
            }
            if next & full != 0 {
                next = self.put_out(slot, word, next & !full, event, found);
            }
            if next == 0 {
                self.rings.forget(slot);
            } else {
                self.rings.push::<PLAIN>(shape, slot, word, next, event);
            }
        }
    }

    /// As [`Strict::run`], without asking whether a row fits or leaves a prefix: every row is
    /// written to its key's ring, where nothing reads it if no prefix is left.
    fn run_mixed(&mut self, rows: &ops::Rows<'_>, slots: &[u32], found: &mut Selector) {
        let full = 1u32 << (self.positions.len() - 1);
        let (shape, between) = (self.rings.shape(), self.positions.between());
        for i in 0..rows.select.len() {
            if let Some(&ahead) = slots.get(i + AHEAD) {
                self.rings.prefetch(ahead, true);
            }
            let (slot, fits) = (slots[i], self.fits[i]);
            let (batch, row) = (rows.records, rows.select[i] as usize);
            let event = Event { batch, row, time: rows.times[i], tests: 0 };
            let word = self.rings.word(slot);
            let live = self.live(shape, slot, word, event.time, between);
            let mut next = (live << 1 | 1) & fits;
            if next & full != 0 {
                next = self.put_out(slot, word, next & !full, event, found);
            }
            self.rings.push::<true>(shape, slot, word, next, event);
        }
    }

    /// The prefixes in a key's word, none if the time from row to row is over.
    #[inline(always)]
    fn live(&self, shape: Shape, slot: u32, word: u64, time: Time, between: i64) -> u32 {
        let live = shape.live(word);
        if between != NO_BOUND
            && live != 0
            && time.saturating_sub(self.rings.time(slot, word, 1)) >= between
        {
            return 0;
        }
        live
    }

    /// The positions that each row fits.
    fn fit(&mut self, len: usize, masks: &[Vec<u64>]) {
        self.fits.clear();
        self.fits.resize(len, self.open);
        for (mask, &positions) in masks.iter().zip(&self.of_test) {
            if positions != 0 {
                let fits = &mut self.fits;
                bits::for_each(mask, |row| fits[row] |= positions);
            }
        }
    }

    /// Clears the positions whose test fails for the rows before.
    #[inline(always)]
    fn settle(&self, slot: u32, word: u64, mut next: u32, event: Event<'_>) -> u32 {
        let mut open = next & self.dynamic;
        while open != 0 {
            let k = open.trailing_zeros() as usize;
            open &= open - 1;
            let known = self.compare(slot, word, k, event);
            if !known.unwrap_or_else(|| self.test(slot, word, k, event)) {
                next &= !(1 << k);
            }
        }
        next
    }

    /// The same as [`Strict::test`], where that is easily told.
    #[inline(always)]
    fn compare(&self, slot: u32, word: u64, k: usize, event: Event<'_>) -> Option<bool> {
        let (comparison, back, i) = self.compared[k]?;
        let of = self.rings.value(slot, word, back, i);
        match event.batch.get(event.row, comparison.column) {
            Some(value) if !of.null => comparison.holds(value, of.slot),
            _ => Some(false),
        }
    }

    /// The part of the test at position `k` that reads what was taken.
    #[inline(never)]
    fn test(&self, slot: u32, word: u64, k: usize, event: Event<'_>) -> bool {
        let taken = Taken { strict: self, slot, word, event, at: k, rows: k };
        let test = self.positions.test[k].expect("a dynamic position has a test");
        let (bound, refs) = (&self.bound[k][..], &self.tests.refs[test]);
        let rest = self.tests.conditions[test].rest.as_ref();
        let rest = rest.expect("a dynamic test reads what was taken");
        const FEW: usize = 4;
        let value = |bound: Bound| match bound {
            Bound::Kept(back, i) => self.rings.value(slot, word, back, i),
            Bound::Row(back, place) => self.value(&taken, back, place),
            Bound::Null => NULL,
            Bound::Over(i) => refs[i].scalar(&taken),
        };
        if bound.len() > FEW {
            let values: Vec<Value<'_>> = bound.iter().map(|&bound| value(bound)).collect();
            return rest.test(event.batch, event.row, &values);
        }
        if let &[one] = bound {
            return rest.test(event.batch, event.row, &[value(one)]);
        }
        let mut values = [NULL; FEW];
        for (place, &bound) in values.iter_mut().zip(bound) {
            *place = value(bound);
        }
        rest.test(event.batch, event.row, &values[..bound.len()])
    }

    /// Puts a match out if it is within its bound; the prefixes in `next` that it leaves.
    #[inline(never)]
    fn put_out(
        &self,
        slot: u32,
        word: u64,
        next: u32,
        event: Event<'_>,
        found: &mut Selector,
    ) -> u32 {
        let at = self.positions.len() - 1;
        if let Within::FirstAndLast(ms) = self.positions.within
            && ms > 0
            && at > 0
            && event.time.saturating_sub(self.rings.time(slot, word, at)) >= ms
        {
            return next;
        }
        let taken = Taken { strict: self, slot, word, event, at, rows: at + 1 };
        found.add(&taken, event.time);
        if self.positions.skip_past { 0 } else { next }
    }

    #[inline(always)]
    fn value<'a>(&'a self, taken: &Taken<'a>, back: usize, place: usize) -> Value<'a> {
        let (source, column) = self.sources[place];
        let slot = match source {
            Source::Ring(i) if back > 0 => {
                return self.rings.value(taken.slot, taken.word, back, i);
            }
            Source::Time if back > 0 => self.rings.time(taken.slot, taken.word, back) as u64,
            _ => match taken.event.batch.get(taken.event.row, column) {
                Some(slot) => slot,
                None => return NULL,
            },
        };
        Value { slot, null: false, heap: taken.event.batch.heap() }
    }
}

/// How the references of the test at position `k` are found: the rows taken before are known.
fn bind(positions: &Positions, k: usize, tests: &Tests, sources: &[(Source, usize)]) -> Vec<Bound> {
    let Some(test) = positions.test[k] else {
        return Vec::new();
    };
    let one = |(i, of): (usize, &super::refs::Ref)| {
        let Some((is_first, step, place)) = of.single() else {
            return Bound::Over(i);
        };
        let mut taken = positions.of_step[step as usize].clone().filter(|&at| at < k);
        let at = if is_first { taken.next() } else { taken.next_back() };
        match (at, sources[place].0) {
            (None, _) => Bound::Null,
            (Some(at), Source::Ring(i)) => Bound::Kept(k - at, i),
            (Some(at), _) => Bound::Row(k - at, place),
        }
    };
    tests.refs[test].iter().enumerate().map(one).collect()
}

/// The rows of a prefix.
struct Taken<'a> {
    strict: &'a Strict,
    slot: u32,
    word: u64,
    event: Event<'a>,
    /// The event's position.
    at: usize,
    /// How many rows the prefix has: `at`, or `at + 1` with the event.
    rows: usize,
}

impl Taken<'_> {
    /// The step's positions that are taken.
    #[inline(always)]
    fn of(&self, step: Option<u32>) -> std::ops::Range<usize> {
        let Some(step) = step else { return 0..self.rows };
        let all = &self.strict.positions.of_step[step as usize];
        all.start.min(self.rows)..all.end.min(self.rows)
    }
}

impl Rows for Taken<'_> {
    /// How many rows back: 0 is the event.
    type Row = usize;

    #[inline(always)]
    fn newest_first(&self, step: Option<u32>) -> impl Iterator<Item = usize> {
        self.of(step).rev().map(|position| self.at - position)
    }

    #[inline(always)]
    fn first(&self, step: u32) -> Option<usize> {
        self.of(Some(step)).next().map(|position| self.at - position)
    }

    #[inline(always)]
    fn value(&self, back: usize, place: usize) -> Value<'_> {
        self.strict.value(self, back, place)
    }
}
