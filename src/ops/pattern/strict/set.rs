//! All strict patterns over the same keys in one pass: Shift-And (Baeza-Yates and Gonnet, 1992)
//! with the positions of several patterns side by side in a few words, and one ring of rows.
//!
//! ```text
//! tests of a row -> (a table for each 8 of them) -> positions that it fits
//! (live << 1 | starts) & fits -> tests of what was taken -> matches -> live, and the row kept
//! ```
//!
//! 1. The first of the patterns that is handed rows runs the pass for all; what each one found
//!    waits in its [`Selector`] until that one is handed the same rows.
//! 2. The bit of whole matches is no longer set when a row is done.
//! 3. Equal tests of different patterns are worked out once, also those of what was taken.

use std::cell::RefCell;
use std::rc::Rc;

use super::lines::{Lines, Shape, Share};
use super::{Bound, Known, NO_BOUND, Positions, Source, bind};
use crate::expr::{Comparison, Program, Value};
use crate::ground::bits;
use crate::ground::time::Time;
use crate::ops;
use crate::ops::pattern::ast::Within;
use crate::ops::pattern::nfa::run::{Event, Tests};
use crate::ops::pattern::nfa::store::Layout;
use crate::ops::pattern::refs::{NULL, Rows};
use crate::ops::pattern::select::Selector;

/// Rows between asking for a key's line and using it.
const AHEAD: usize = 32;

/// One pattern.
pub struct Member {
    pub positions: Positions,
    pub tests: Tests,
    pub share: Share,
    /// Where the values at the places of its layout are, and their columns.
    pub sources: Vec<(Source, usize)>,
    /// How each reference of the test at a position is found.
    bound: Vec<Vec<Bound>>,
    /// Longest time from the first row to the last, ms, not reached.
    within: i64,
}

/// A test of what was taken that several positions share.
struct Shared {
    comparison: Comparison,
    /// The kept value: rows back, and which.
    back: usize,
    value: usize,
    /// A position that has it, for when slots alone don't tell.
    of: (usize, usize),
    positions: Vec<u64>,
}

/// Where a row's tests come from.
enum Answers {
    /// Words that the ordering stage made: the first column and how many.
    Flags { first: usize, words: usize },
    /// Conditions to be evaluated, bit i for the i-th.
    Programs(Vec<Program>),
}

/// What is known when all patterns are there.
struct Plan {
    answers: Answers,
    /// Words of tests a row.
    test_words: usize,
    /// Eight tests each: the word, the shift, and where in `tables` its 256 entries of W words are.
    chunks: Vec<(usize, u32, usize)>,
    tables: Vec<u64>,
    /// Positions without a test of the row.
    open: Vec<u64>,
    starts: Vec<u64>,
    ends: Vec<u64>,
    /// Positions whose test reads what was taken; the shared ones, and the others.
    dynamic: Vec<u64>,
    shared: Vec<Shared>,
    alone: Vec<u64>,
    /// Pattern by word and bit.
    owner: Vec<u32>,
    /// Bounds from row to row, ms, with the positions of the patterns that have them.
    between: Vec<(i64, Vec<u64>)>,
}

/// The patterns; see the module's head.
#[derive(Default)]
pub struct Set {
    pub core: Core,
    /// Where matches of each go.
    found: Vec<Selector>,
    plan: Option<Plan>,
    /// Rows handed over that the pass has seen, and each member.
    passes: u64,
    seen: Vec<u64>,
    words: Vec<u64>,
    fits: Vec<u64>,
    mask: Vec<u64>,
}

/// What a match is read from.
#[derive(Default)]
pub struct Core {
    pub lines: Lines,
    pub members: Vec<Member>,
}

/// A set that is shared by its patterns' operators.
pub type SharedSet = Rc<RefCell<Set>>;

/// The sets of a stage, more than one where patterns are too long to share lines.
#[derive(Clone, Default)]
pub struct Sets(Rc<RefCell<Vec<Rc<RefCell<Set>>>>>);

impl Sets {
    /// Adds a pattern to a set; the set and the pattern's number in it.
    ///
    /// # Errors
    /// Tests and selector, for the automaton, if the pattern is too large.
    pub fn join(
        &self,
        positions: Positions,
        tests: Tests,
        layout: &Layout,
        known: &Known,
        found: Selector,
    ) -> Result<(SharedSet, usize), Box<(Tests, Selector)>> {
        let mut sets = self.0.borrow_mut();
        let mut given = Box::new((tests, found));
        for set in sets.iter() {
            match set.borrow_mut().join(&positions, given, layout, known) {
                Ok(at) => return Ok((set.clone(), at)),
                Err(back) => given = back,
            }
        }
        let mut set = Set::default();
        let at = set.join(&positions, given, layout, known)?;
        let set = Rc::new(RefCell::new(set));
        sets.push(set.clone());
        Ok((set, at))
    }
}

impl Set {
    fn join(
        &mut self,
        positions: &Positions,
        given: Box<(Tests, Selector)>,
        layout: &Layout,
        known: &Known,
    ) -> Result<usize, Box<(Tests, Selector)>> {
        if self.plan.is_some() {
            return Err(given);
        }
        let is_known =
            |column: &usize| known.key.contains(column) || known.event_time == Some(*column);
        let all = layout.columns.iter().copied().zip(layout.heaped.iter().copied());
        let columns: Vec<(usize, bool)> = all.filter(|(column, _)| !is_known(column)).collect();
        let is_timed = positions.within.bound().is_some() || known.event_time.is_some();
        let Some(share) = self.core.lines.join(positions.len(), &columns, is_timed) else {
            return Err(given);
        };
        let (tests, found) = *given;
        let source = |&column: &usize| {
            let source = if known.key.contains(&column) {
                Source::Key
            } else if known.event_time == Some(column) {
                Source::Time
            } else {
                Source::Ring(self.core.lines.place(column).expect("it was just added"))
            };
            (source, column)
        };
        let sources: Vec<(Source, usize)> = layout.columns.iter().map(source).collect();
        let bound = (0..positions.len()).map(|k| bind(positions, k, &tests, &sources)).collect();
        let within = match positions.within {
            Within::FirstAndLast(ms) if ms > 0 && positions.len() > 1 => ms,
            _ => NO_BOUND,
        };
        let positions = positions.clone();
        self.core.members.push(Member { positions, tests, share, sources, bound, within });
        self.found.push(found);
        self.seen.push(0);
        Ok(self.core.members.len() - 1)
    }

    /// The matches that a pattern found.
    pub fn found(&mut self, member: usize) -> &mut Selector {
        &mut self.found[member]
    }

    /// Handles rows for a pattern; for all of them, if it is the first.
    pub fn rows(&mut self, member: usize, rows: &ops::Rows<'_>, slots: &[u32]) {
        self.seen[member] += 1;
        if self.seen[member] <= self.passes {
            return;
        }
        self.passes += 1;
        let mut plan = match self.plan.take() {
            Some(plan) => plan,
            None => Plan::new(&self.core),
        };
        let keys = slots.iter().max().map_or(0, |&most| most as usize + 1);
        self.core.lines.reserve(keys);
        let shape = self.core.lines.shape();
        self.fit(&mut plan, rows, shape.words);
        let is_plain = self.core.lines.is_plain(rows.records);
        match (shape.words, is_plain) {
            (1, true) => self.run::<1, true>(&plan, shape, rows, slots),
            (1, false) => self.run::<1, false>(&plan, shape, rows, slots),
            (2, true) => self.run::<2, true>(&plan, shape, rows, slots),
            (2, false) => self.run::<2, false>(&plan, shape, rows, slots),
            (4, true) => self.run::<4, true>(&plan, shape, rows, slots),
            (4, false) => self.run::<4, false>(&plan, shape, rows, slots),
            (_, true) => self.run::<8, true>(&plan, shape, rows, slots),
            (_, false) => self.run::<8, false>(&plan, shape, rows, slots),
        }
        self.plan = Some(plan);
    }

    /// The positions that each row fits, as far as tests of the row say.
    fn fit(&mut self, plan: &mut Plan, rows: &ops::Rows<'_>, width: usize) {
        let (len, tests) = (rows.select.len(), plan.test_words);
        self.words.clear();
        match &mut plan.answers {
            Answers::Flags { first, words } => {
                for &row in rows.select {
                    let row = rows.records.row(row as usize);
                    self.words.extend_from_slice(&row[*first..*first + *words]);
                }
            }
            Answers::Programs(programs) => {
                self.words.resize(len * tests, 0);
                for (i, program) in programs.iter_mut().enumerate() {
                    program.mask(rows.records, rows.select, &mut self.mask);
                    let (words, at) = (&mut self.words, i / 64);
                    bits::for_each(&self.mask, |row| words[row * tests + at] |= 1 << (i % 64));
                }
            }
        }
        self.fits.clear();
        (0..len).for_each(|_| self.fits.extend_from_slice(&plan.open));
        for &(word, shift, table) in &plan.chunks {
            let table = &plan.tables[table..table + 256 * width];
            let rows = self.fits.chunks_exact_mut(width).zip(self.words.chunks_exact(tests));
            for (fits, words) in rows {
                let entry = (words[word] >> shift & 0xff) as usize * width;
                for (fits, entry) in fits.iter_mut().zip(&table[entry..entry + width]) {
                    *fits |= entry;
                }
            }
        }
    }

    /// PLAIN: no value of the batch is NULL or long.
    fn run<const W: usize, const PLAIN: bool>(
        &mut self,
        plan: &Plan,
        shape: Shape,
        rows: &ops::Rows<'_>,
        slots: &[u32],
    ) {
        let word = |words: &[u64]| -> [u64; W] { words.try_into().expect("words of prefixes") };
        let [open, starts, ends, dynamic] =
            [&plan.open, &plan.starts, &plan.ends, &plan.dynamic].map(|words| word(&words[..]));
        let can_be_idle = (0..W).all(|j| open[j] & starts[j] == 0);
        // Where neither nearly all nor nearly no rows begin something, asking is a guess that the
        // processor gets wrong: a row is kept then whether it is needed or not.
        let always = self.is_mixed::<W>(rows.select.len());
        let (core, fits) = (&mut self.core, &self.fits[..]);
        let fits = |i: usize| -> [u64; W] { word(&fits[i * W..(i + 1) * W]) };
        for i in 0..rows.select.len() {
            if let Some(&ahead) = slots.get(i + AHEAD) {
                let whole = !can_be_idle || fits(i + AHEAD).iter().any(|&word| word != 0);
                core.lines.prefetch(ahead, whole);
            }
            let (slot, fits) = (slots[i], fits(i));
            let head = core.lines.head(slot);
            let mut live = core.lines.live::<W>(shape, slot);
            let (batch, row) = (rows.records, rows.select[i] as usize);
            let event = Event { batch, row, time: rows.times[i], tests: 0 };
            if !plan.between.is_empty() && any(live) {
                core.end_slow(plan, slot, head, event.time, &mut live);
            }
            let mut next = [0; W];
            for j in 0..W {
                next[j] = (live[j] << 1 | starts[j]) & fits[j];
            }
            if any(both(next, dynamic)) {
                core.settle(plan, slot, head, &mut next, event);
            }
            if any(both(next, ends)) {
                core.put_out(plan, slot, head, &mut next, event, &mut self.found);
            }
            if always || any(next) {
                core.lines.push::<W, PLAIN>(shape, slot, head, next, event);
            } else {
                core.lines.forget::<W>(shape, slot);
            }
        }
    }

    fn is_mixed<const W: usize>(&self, len: usize) -> bool {
        let fits = self.fits.chunks_exact(W).filter(|fits| fits.iter().any(|&word| word != 0));
        (len / 5..len * 4 / 5).contains(&fits.count())
    }
}

#[inline(always)]
fn any<const W: usize>(words: [u64; W]) -> bool {
    words.iter().fold(0, |all, word| all | word) != 0
}

#[inline(always)]
fn both<const W: usize>(mut a: [u64; W], b: [u64; W]) -> [u64; W] {
    (0..W).for_each(|j| a[j] &= b[j]);
    a
}

impl Core {
    /// Ends the prefixes whose time from row to row is over.
    #[inline(never)]
    fn end_slow(&self, plan: &Plan, slot: u32, head: u64, time: Time, live: &mut [u64]) {
        let since = time.saturating_sub(self.lines.time(slot, head, 1));
        for (ms, positions) in plan.between.iter().filter(|(ms, _)| since >= *ms) {
            debug_assert!(*ms > 0, "a bound is longer than nothing");
            live.iter_mut().zip(positions).for_each(|(live, over)| *live &= !over);
        }
    }

    /// Clears the positions whose test of what was taken fails.
    #[inline(always)]
    fn settle(&self, plan: &Plan, slot: u32, head: u64, next: &mut [u64], event: Event<'_>) {
        for shared in &plan.shared {
            if !next.iter().zip(&shared.positions).any(|(next, own)| next & own != 0) {
                continue;
            }
            let of = self.lines.value(slot, head, shared.back, shared.value);
            let known = match event.batch.get(event.row, shared.comparison.column) {
                Some(value) if !of.null => shared.comparison.holds(value, of.slot),
                _ => Some(false),
            };
            let (member, k) = shared.of;
            if !known.unwrap_or_else(|| self.test(member, slot, head, k, event)) {
                next.iter_mut().zip(&shared.positions).for_each(|(next, own)| *next &= !own);
            }
        }
        for (j, &alone) in plan.alone.iter().enumerate() {
            let mut open = next[j] & alone;
            while open != 0 {
                let bit = open.trailing_zeros();
                open &= open - 1;
                let member = plan.owner[j * 64 + bit as usize] as usize;
                let k = (bit - self.members[member].share.shift) as usize;
                if !self.test(member, slot, head, k, event) {
                    next[j] &= !(1 << bit);
                }
            }
        }
    }

    /// The part of a pattern's test at position `k` that reads what was taken.
    #[inline(never)]
    fn test(&self, member: usize, slot: u32, head: u64, k: usize, event: Event<'_>) -> bool {
        let member = &self.members[member];
        let taken = Taken { lines: &self.lines, member, slot, head, event, at: k, rows: k };
        let test = member.positions.test[k].expect("a dynamic position has a test");
        let (bound, refs) = (&member.bound[k][..], &member.tests.refs[test]);
        let rest = member.tests.conditions[test].rest.as_ref();
        let rest = rest.expect("a dynamic test reads what was taken");
        const FEW: usize = 4;
        let value = |bound: Bound| match bound {
            Bound::Kept(back, i) => self.lines.value(slot, head, back, i),
            Bound::Row(back, place) => taken.value(back, place),
            Bound::Null => NULL,
            Bound::Over(i) => refs[i].scalar(&taken),
        };
        if bound.len() > FEW {
            let values: Vec<Value<'_>> = bound.iter().map(|&bound| value(bound)).collect();
            return rest.test(event.batch, event.row, &values);
        }
        let mut values = [NULL; FEW];
        for (place, &bound) in values.iter_mut().zip(bound) {
            *place = value(bound);
        }
        rest.test(event.batch, event.row, &values[..bound.len()])
    }

    /// Puts matches out that are within their bounds, and clears their bits.
    #[inline(never)]
    fn put_out(
        &self,
        plan: &Plan,
        slot: u32,
        head: u64,
        next: &mut [u64],
        event: Event<'_>,
        found: &mut [Selector],
    ) {
        for (j, &ends) in plan.ends.iter().enumerate() {
            let mut open = next[j] & ends;
            next[j] &= !ends;
            while open != 0 {
                let bit = open.trailing_zeros();
                open &= open - 1;
                let number = plan.owner[j * 64 + bit as usize] as usize;
                let member = &self.members[number];
                let at = member.positions.len() - 1;
                if member.within != NO_BOUND
                    && event.time.saturating_sub(self.lines.time(slot, head, at)) >= member.within
                {
                    continue;
                }
                let lines = &self.lines;
                let taken = Taken { lines, member, slot, head, event, at, rows: at + 1 };
                found[number].add(&taken, event.time);
                if member.positions.skip_past {
                    next[j] &= !member.share.mask();
                }
            }
        }
    }
}

impl Plan {
    fn new(core: &Core) -> Plan {
        let width = core.lines.shape().words;
        let none = || vec![0u64; width];
        let (mut starts, mut ends, mut open) = (none(), none(), none());
        let (mut dynamic, mut alone) = (none(), none());
        let (mut owner, mut between) = (vec![0; width * 64], Vec::new());
        let mut shared: Vec<Shared> = Vec::new();
        let rows = core.members.iter().flat_map(|m| &m.tests.conditions);
        let flags: Vec<Option<(usize, u32)>> =
            rows.filter_map(|condition| Some(condition.row.as_ref()?.as_flag())).collect();
        let is_flagged = flags.iter().all(Option::is_some);
        let columns = flags.iter().flatten().map(|&(column, _)| column);
        let first = columns.clone().min().unwrap_or(0);
        let flag_words = columns.max().map_or(0, |last| last + 1 - first);
        let mut programs: Vec<(String, Program)> = Vec::new();
        // Positions by test of the row.
        let mut decided: Vec<(usize, Vec<u64>)> = Vec::new();
        for (number, member) in core.members.iter().enumerate() {
            let Share { word, shift, len } = member.share;
            starts[word] |= 1 << shift;
            ends[word] |= 1 << (shift as usize + len - 1);
            let bits = shift as usize..shift as usize + len;
            owner[word * 64..][bits].fill(number as u32);
            let ms = member.positions.between();
            if ms != NO_BOUND {
                let mut own = none();
                own[word] = member.share.mask();
                between.push((ms, own));
            }
            for (k, test) in member.positions.test.iter().enumerate() {
                let bit = 1u64 << (shift as usize + k);
                let condition = test.map(|test| &member.tests.conditions[test]);
                match condition.and_then(|condition| condition.row.as_ref()) {
                    None => open[word] |= bit,
                    Some(row) => {
                        let test = match row.as_flag().filter(|_| is_flagged) {
                            Some((column, bit)) => (column - first) * 64 + bit as usize,
                            None => number_of(row, &mut programs),
                        };
                        let at = decided.iter().position(|(known, _)| *known == test);
                        let at = at.unwrap_or_else(|| {
                            decided.push((test, none()));
                            decided.len() - 1
                        });
                        decided[at].1[word] |= bit;
                    }
                }
                let Some(rest) = condition.and_then(|condition| condition.rest.as_ref()) else {
                    continue;
                };
                dynamic[word] |= bit;
                let kept = rest.as_comparison().and_then(|comparison| {
                    match member.bound[k][comparison.reference] {
                        Bound::Kept(back, value) => Some((comparison, back, value)),
                        _ => None,
                    }
                });
                let Some((comparison, back, value)) = kept else {
                    alone[word] |= bit;
                    continue;
                };
                let is_same = |of: &&mut Shared| {
                    of.comparison.is_like(&comparison) && (of.back, of.value) == (back, value)
                };
                match shared.iter_mut().find(is_same) {
                    Some(same) => same.positions[word] |= bit,
                    None => {
                        let mut positions = none();
                        positions[word] = bit;
                        let of = (number, k);
                        shared.push(Shared { comparison, back, value, of, positions });
                    }
                }
            }
        }
        let answers = match is_flagged {
            true => Answers::Flags { first, words: flag_words },
            false => Answers::Programs(programs.into_iter().map(|(_, row)| row).collect()),
        };
        let test_words = match &answers {
            Answers::Flags { words, .. } => *words,
            Answers::Programs(programs) => programs.len().div_ceil(64),
        };
        let (chunks, tables) = tables(&decided, width);
        Plan {
            answers,
            test_words: test_words.max(1),
            chunks,
            tables,
            open,
            starts,
            ends,
            dynamic,
            shared,
            alone,
            owner,
            between,
        }
    }
}

/// The number of a condition among those to be evaluated, equal ones once.
fn number_of(row: &Program, programs: &mut Vec<(String, Program)>) -> usize {
    let listing = row.listing();
    programs.iter().position(|(known, _)| *known == listing).unwrap_or_else(|| {
        programs.push((listing, row.clone()));
        programs.len() - 1
    })
}

/// For every eight tests of which one decides something: positions by which of them are met.
fn tables(decided: &[(usize, Vec<u64>)], width: usize) -> (Vec<(usize, u32, usize)>, Vec<u64>) {
    let mut eights: Vec<usize> = decided.iter().map(|(test, _)| test / 8).collect();
    eights.sort_unstable();
    eights.dedup();
    let (mut chunks, mut tables) = (Vec::new(), Vec::new());
    for eight in eights {
        chunks.push((eight / 8, (eight % 8 * 8) as u32, tables.len()));
        for met in 0..256usize {
            let mut positions = vec![0; width];
            let own = decided.iter().filter(|(test, _)| test / 8 == eight);
            for (_, of) in own.filter(|(test, _)| met >> (test % 8) & 1 == 1) {
                positions.iter_mut().zip(of).for_each(|(all, of)| *all |= of);
            }
            tables.extend(positions);
        }
    }
    (chunks, tables)
}

/// The rows of a prefix.
pub struct Taken<'a> {
    lines: &'a Lines,
    member: &'a Member,
    slot: u32,
    head: u64,
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
        let all = &self.member.positions.of_step[step as usize];
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
        let (source, column) = self.member.sources[place];
        let slot = match source {
            Source::Ring(i) if back > 0 => {
                return self.lines.value(self.slot, self.head, back, i);
            }
            Source::Time if back > 0 => self.lines.time(self.slot, self.head, back) as u64,
            _ => match self.event.batch.get(self.event.row, column) {
                Some(slot) => slot,
                None => return NULL,
            },
        };
        Value { slot, null: false, heap: self.event.batch.heap() }
    }
}
