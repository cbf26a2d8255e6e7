//! Patterns that are strictly contiguous and of fixed length, all those over the same keys in one
//! pass ([`set`]).
//!
//! Matches are those of the automaton: no match is ever held, because of two partial matches the
//! one that began earlier is further on; and a prefix whose time is over can only fail its bound.

pub mod lines;
pub mod set;

use std::cell::RefCell;
use std::rc::Rc;

use super::ast::{AfterMatch, Ast, Contiguity, Inner, Step, Within};
use super::nfa::run::Tests;
use super::nfa::store::Layout;
use super::reader::Reader;
use super::select::Selector;
use crate::ground::slot;
use crate::ground::time::Time;
use crate::ops;
use crate::ops::output::Port;
use crate::state::{Handle, LoadError};
use set::{Set, Sets};

/// Longest pattern that runs here.
pub const LENGTH_MAX: usize = 32;

const NO_BOUND: i64 = i64::MAX;

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
pub enum Source {
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

/// One strict pattern, run together with others over the same keys.
pub struct Strict {
    set: Rc<RefCell<Set>>,
    member: usize,
    /// Kept columns of its own: in the input, and in the lines.
    columns: Vec<(usize, usize)>,
}

/// A row that a prefix consists of.
pub struct PrefixRow {
    /// Its time, where that is kept.
    pub time: Option<Time>,
    /// Column of the input, value, and the bytes that a long one has.
    pub values: Vec<(usize, Option<u64>, Vec<u8>)>,
}

impl Strict {
    /// Adds a pattern to the stage's. `layout` has the columns that tests and select read, `found`
    /// is where its matches go.
    ///
    /// # Errors
    /// Tests and selector, for the automaton, if too much would have to be kept.
    pub fn new(
        positions: Positions,
        tests: Tests,
        layout: &Layout,
        known: &Known,
        sets: &Sets,
        found: Selector,
    ) -> Result<Strict, Box<(Tests, Selector)>> {
        let (set, member) = sets.join(positions, tests, layout, known, found)?;
        let of = |&(source, column): &(Source, usize)| match source {
            Source::Ring(i) => Some((column, i)),
            Source::Key | Source::Time => None,
        };
        let columns = set.borrow().core.members[member].sources.iter().filter_map(of).collect();
        Ok(Strict { set, member, columns })
    }

    /// Handles rows; every pattern of the set is to be handed the same ones, in turn.
    pub fn rows(&mut self, rows: &ops::Rows<'_>, slots: &[u32]) {
        self.set.borrow_mut().rows(self.member, rows, slots);
    }

    /// Puts out what was found in the rows.
    pub fn flush(&mut self, port: &mut Port) {
        self.set.borrow_mut().found(self.member).flush(port);
    }

    /// Whether a key has a prefix of a match.
    pub fn has_prefix(&self, slot: u32) -> bool {
        self.live(slot) != 0
    }

    /// Bit k: the key's last k + 1 rows are a prefix.
    pub fn live(&self, slot: u32) -> u32 {
        let set = self.set.borrow();
        set.core.lines.share(slot, set.core.members[self.member].share)
    }

    /// The step at a position.
    pub fn step(&self, position: usize) -> Option<usize> {
        self.set.borrow().core.members[self.member].positions.step(position)
    }

    /// The row `back` rows ago of a key that has as long a prefix.
    pub fn row(&self, slot: u32, back: usize) -> PrefixRow {
        let set = self.set.borrow();
        let (lines, head) = (&set.core.lines, set.core.lines.head(slot));
        let value = |&(column, i): &(usize, usize)| {
            let value = lines.value(slot, head, back, i);
            (column, (!value.null).then_some(value.slot), value.heap.to_vec())
        };
        PrefixRow {
            time: lines.is_timed().then(|| lines.time(slot, head, back)),
            values: self.columns.iter().map(value).collect(),
        }
    }
}

/// ```text
/// prefixes: u32 | rows: u32 | for each, oldest first: time i64, or 0 | for each kept column:
///                             0 (NULL) | 1, slot u64 | 2, length u32, bytes
/// ```
impl Handle for Strict {
    fn save(&self, slot: u32, out: &mut Vec<u8>) {
        let live = self.live(slot);
        if live == 0 {
            return;
        }
        let set = self.set.borrow();
        let (lines, head) = (&set.core.lines, set.core.lines.head(slot));
        let rows = 32 - live.leading_zeros();
        out.extend_from_slice(&live.to_le_bytes());
        out.extend_from_slice(&rows.to_le_bytes());
        for back in (1..=rows as usize).rev() {
            let time = if lines.is_timed() { lines.time(slot, head, back) } else { 0 };
            out.extend_from_slice(&time.to_le_bytes());
            for &(_, i) in &self.columns {
                let value = lines.value(slot, head, back, i);
                if value.null {
                    out.push(0);
                } else if lines.is_heaped(i) && slot::is_heaped(value.slot) {
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
        self.read(slot, bytes).ok_or_else(|| LoadError {
            handle: "prefixes".into(),
            reason: "the bytes are not what this version writes".into(),
        })
    }

    fn clear(&mut self, slot: u32) {
        let set = &mut *self.set.borrow_mut();
        set.core.lines.clear(slot, set.core.members[self.member].share);
    }

    fn memory_bytes(&self) -> usize {
        let set = self.set.borrow();
        set.core.lines.memory_bytes() / set.core.members.len()
    }
}

impl Strict {
    fn read(&mut self, slot: u32, bytes: &[u8]) -> Option<()> {
        let set = &mut *self.set.borrow_mut();
        let (lines, share) = (&mut set.core.lines, set.core.members[self.member].share);
        let mut from = Reader::new(bytes);
        let (live, rows) = (from.u32()?, from.u32()? as usize);
        if rows >= share.len || rows != 32 - live.leading_zeros() as usize {
            return None;
        }
        lines.load(slot, share, live);
        for back in (1..=rows).rev() {
            lines.load_time(slot, back, from.u64()? as Time);
            for &(_, i) in &self.columns {
                let (value, text) = match from.u8()? {
                    0 => (None, &[][..]),
                    1 => {
                        let value = from.u64()?;
                        if lines.is_heaped(i) && slot::is_heaped(value) {
                            return None;
                        }
                        (Some(value), &[][..])
                    }
                    2 => {
                        let len = from.u32()? as usize;
                        let text = from.take(len).filter(|_| len <= slot::HEAPED_MAX)?;
                        (Some(slot::heaped(0, len)), text)
                    }
                    _ => return None,
                };
                lines.load_value(slot, back, i, value, text);
            }
        }
        from.is_empty().then_some(())
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
