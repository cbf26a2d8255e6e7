//! Patterns that are strictly contiguous and of fixed length: Shift-And (Baeza-Yates and Gonnet,
//! 1992) over the rows of each key.
//!
//! A row's word of positions that it fits comes from masks over the whole batch. A row that fits
//! none writes 8 bytes and reads nothing; only a row that leaves a prefix behind is kept
//! ([`rings`]).
//!
//! Matches are those of the automaton: no match is ever held, because of two partial matches the
//! one that began earlier is further on; and a prefix whose time is over can only fail its bound.

pub mod rings;

use super::ast::{AfterMatch, Ast, Contiguity, Inner, Step, Within};
use super::nfa::run::{Event, Tests, test_rest};
use super::nfa::store::Layout;
use super::refs::{NULL, Rows};
use super::select::Selector;
use crate::expr::Value;
use crate::ground::bits;
use crate::ops;
use rings::Rings;

/// Longest pattern that runs here.
pub const LENGTH_MAX: usize = 32;

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

/// Runs one strict pattern.
pub struct Strict {
    positions: Positions,
    pub tests: Tests,
    pub rings: Rings,
    /// Where the values at the places of the layout are, and their columns.
    sources: Vec<(Source, usize)>,
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
    /// The executor. `layout` has the columns that tests and select read.
    ///
    /// # Errors
    /// The tests, for the automaton, if the rings would be too large.
    pub fn new(
        positions: Positions,
        tests: Tests,
        layout: &Layout,
        known: &Known,
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
        let Some(rings) = Rings::new(positions.len(), columns, heaped, is_timed) else {
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
        let fits = Vec::new();
        Ok(Strict { positions, tests, rings, sources, of_test, open, dynamic, fits })
    }

    /// Handles rows; `masks` has the rows that meet each test (all rows for a test without a part
    /// that reads the row alone).
    pub fn rows(
        &mut self,
        rows: &ops::Rows<'_>,
        slots: &[u32],
        masks: &[Vec<u64>],
        found: &mut Selector,
    ) {
        const AHEAD: usize = 16;
        self.fit(rows.select.len(), masks);
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
            self.row(slot, fits, event, found);
        }
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

    #[inline(always)]
    fn row(&mut self, slot: u32, fits: u32, event: Event<'_>, found: &mut Selector) {
        let word = self.rings.word(slot);
        let mut live = self.rings.live(word);
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
            self.rings.forget(slot);
        } else {
            self.rings.push(slot, word, next, event);
        }
    }

    /// Clears the positions whose test fails for the rows before.
    fn settle(&self, slot: u32, word: u64, mut next: u32, event: Event<'_>) -> u32 {
        let mut open = next & self.dynamic;
        while open != 0 {
            let k = open.trailing_zeros() as usize;
            open &= open - 1;
            let test = self.positions.test[k].expect("a dynamic position has a test");
            let taken = Taken { strict: self, slot, word, event, at: k, rows: k };
            if !test_rest(&self.tests, test, event, &taken) {
                next &= !(1 << k);
            }
        }
        next
    }

    /// Puts a match out if it is within its bound.
    #[inline(never)]
    fn put_out(&self, slot: u32, word: u64, event: Event<'_>, found: &mut Selector) -> bool {
        let at = self.positions.len() - 1;
        if let Within::FirstAndLast(ms) = self.positions.within
            && ms > 0
            && at > 0
            && event.time.saturating_sub(self.rings.time(slot, word, at)) >= ms
        {
            return false;
        }
        let taken = Taken { strict: self, slot, word, event, at, rows: at + 1 };
        found.add(&taken, event.time);
        true
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
