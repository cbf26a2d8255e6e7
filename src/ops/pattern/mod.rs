//! `pattern`: finds sequences of rows of one key, in event-time order, as Flink CEP does.
//!
//! ```text
//! ast -> check -> nfa (compile: states and edges; run: partial matches by key)   any pattern
//!              -> strict (bits and a ring by key)           strictly contiguous, of fixed length
//! eager: rows as they arrive, and the same behind the ordering stage; rules: several that change
//! rows -> every test over the whole batch, one bit a row -> the keys that the row may change
//! ```
//!
//! 1. Outputs: matches (port 0); rows that came late; partial matches that `within` ended, with
//!    the columns of the matches.
//! 2. A match has the time of the row (or deadline) that made it go out, and the mark before.
//! 3. A key's line is touched only by rows that may start or change a partial match of it.

pub mod ast;
pub mod check;
pub mod eager;
pub mod nfa;
mod reader;
pub mod refs;
pub mod rules;
pub mod select;
mod show;
pub mod strict;
pub mod texts;

use crate::expr::{Condition, MatchSelect, StepRef};
use crate::ground::bits;
use crate::ground::schema::Schema;
use crate::ground::time::{END, Time};
use crate::ops::order::ahead::Ahead;
use crate::ops::output::Outputs;
use crate::ops::{KeyedRows, Ledger, OpError, Ordered, Stateful, Stretch};
use crate::state::Handle;
use crate::state::keys::KeyTable;
use crate::state::shown::Shown;
use ast::{AfterMatch, Ast};
use nfa::run::{Found, Machine, Skip, Tests};
use nfa::store::{Layout, Store};
use nfa::{Nfa, TooLarge};
use refs::Ref;
use select::Selector;
use show::Names;
use strict::set::Sets;
use strict::{Known, Positions, Strict};

/// All that the operator is made from.
pub struct PatternSpec {
    /// A pattern that [`check::check`] passed.
    pub ast: Ast,
    /// Its `where` and `until`, each text once.
    pub conditions: Vec<Condition>,
    pub select: MatchSelect,
    /// Port for late rows, if anybody reads them.
    pub late: Option<LatePort>,
    /// Port for partial matches that `within` ended, if anybody reads them.
    pub timed_out: Option<usize>,
    /// Their columns where they are not those of matches; of no other rows' columns than these.
    pub timed_out_select: Option<MatchSelect>,
    /// Columns that are the same in all rows of a key or hold the rows' time.
    pub known: Known,
    /// Strict patterns over the same keys, which are run together.
    pub sets: Sets,
    /// So many open partial matches a key may have: the one that began first is given up for one
    /// more, so that a key that is never done cannot take all memory.
    pub partials_max: Option<usize>,
}

/// Where late rows go.
pub struct LatePort {
    pub port: usize,
    /// Columns of rows as they came that may have bytes in the heap.
    pub heaped: Vec<usize>,
}

impl LatePort {
    /// Counts late rows, and puts them out where somebody reads them.
    fn take(
        port: Option<&LatePort>,
        keyed: &KeyedRows<'_>,
        ledger: &mut Ledger,
        out: &mut Outputs,
    ) {
        let rows = &keyed.rows;
        ledger.rows_in += rows.select.len() as u64;
        ledger.late += rows.select.len() as u64;
        if let Some(LatePort { port, heaped }) = port {
            let port = &mut out.ports[*port];
            (0..rows.select.len()).for_each(|i| keyed.put_late(i, heaped, port));
            port.stamp_each(rows.times, rows.marks);
        }
    }
}

impl PatternSpec {
    /// Asks the ordering stage for the columns that are kept of a match or compared with it, and
    /// to evaluate what conditions ask of the row alone.
    pub fn look_ahead(&mut self, ahead: &mut Ahead) {
        for condition in &mut self.conditions {
            let row = condition.row.take();
            ahead.keep(condition.columns());
            condition.row = row.map(|row| ahead.flag(row));
        }
        ahead.keep(self.select.columns());
    }

    /// Whether the pattern is strict and need not be run by the automaton.
    fn is_strict(&self) -> bool {
        // A strict one has as many as it has positions at most.
        let fits = |positions: Positions| self.partials_max.is_none_or(|m| positions.len() <= m);
        self.timed_out.is_none() && Positions::of(&self.ast).is_some_and(fits)
    }

    /// Reads rows as they are behind the stage, when all its operators have asked.
    pub fn remap(&mut self, ahead: &Ahead) {
        let place = |column| ahead.place(column);
        self.conditions.iter_mut().for_each(|condition| condition.remap(place));
        self.select.remap(place);
        self.timed_out_select.iter_mut().for_each(|select| select.remap(place));
        let known = &mut self.known;
        known.key.retain(|&column| ahead.keeps(column));
        known.key.iter_mut().for_each(|column| *column = place(*column));
        known.event_time = known.event_time.filter(|&column| ahead.keeps(column)).map(place);
    }
}

enum Executor {
    Machine(Box<Machine>),
    Strict(Box<Strict>),
}

/// The operator; see the module's head.
pub struct Pattern {
    executor: Executor,
    found: Found,
    late: Option<LatePort>,
    timed_out: Option<usize>,
    ledger: Ledger,
    /// The rows that meet each test as far as it reads only the row.
    masks: Vec<Vec<u64>>,
    tests: Vec<u64>,
    touched: Vec<u32>,
    names: Names,
}

impl Pattern {
    /// The operator for rows of `event`.
    ///
    /// # Errors
    /// [`TooLarge`].
    pub fn new(spec: PatternSpec, event: &Schema) -> Result<Pattern, TooLarge> {
        Pattern::with(spec, event, false)
    }

    /// The operator, without the short cut for strict patterns if `only_nfa`.
    fn with(spec: PatternSpec, event: &Schema, only_nfa: bool) -> Result<Pattern, TooLarge> {
        let is_strict = spec.is_strict() && !only_nfa;
        let (mut dynamic, dynamic_len) = (0, spec.conditions.len());
        for (i, condition) in spec.conditions.iter().enumerate() {
            dynamic |= u64::from(condition.rest.is_some()) << i;
        }
        let refs_of = |condition: &Condition| -> Vec<StepRef> {
            condition.rest.as_ref().map_or(Vec::new(), |rest| rest.refs.clone())
        };
        let in_tests = spec.conditions.iter().flat_map(refs_of);
        let all = in_tests.chain(spec.select.refs.iter().cloned());
        let columns = all.filter_map(|of| of.argument).collect();
        let layout = Layout::new(columns, event);
        let place = |column| layout.place(column);
        let bind = |condition: &Condition| {
            refs_of(condition).iter().map(|of| Ref::new(of, event, place)).collect()
        };
        let tests = Tests {
            refs: spec.conditions.iter().map(bind).collect(),
            conditions: spec.conditions,
            dynamic,
        };
        let selector = || Selector::new(&spec.select, event, place);
        let late_selector = || match &spec.timed_out_select {
            Some(select) => Selector::new(select, event, place),
            None => selector(),
        };
        let found =
            Found { matches: selector(), timed_out: spec.timed_out.map(|_| late_selector()) };
        let strict = Positions::of(&spec.ast).filter(|_| is_strict);
        let strict = match strict {
            Some(positions) => {
                Strict::new(positions, tests, &layout, &spec.known, &spec.sets, selector())
            }
            None => Err(Box::new((tests, selector()))),
        };
        let executor = match strict {
            Ok(strict) => Executor::Strict(Box::new(strict)),
            Err(back) => {
                let tests = back.0;
                let nfa = Nfa::new(&spec.ast, dynamic)?;
                let (store, skip) = (Store::new(layout.clone()), skip(&spec.ast));
                let mut machine = Machine::new(nfa, store, tests, spec.ast.within, skip);
                machine.partials_max = spec.partials_max.unwrap_or(usize::MAX);
                Executor::Machine(Box::new(machine))
            }
        };
        Ok(Pattern {
            masks: vec![Vec::new(); dynamic_len],
            executor,
            found,
            late: spec.late,
            timed_out: spec.timed_out,
            ledger: Ledger::default(),
            tests: Vec::new(),
            touched: Vec::new(),
            names: Names { steps: spec.ast.names(), event: event.clone() },
        })
    }

    /// Evaluates every test over the whole batch, as far as it reads only the row.
    fn test(&mut self, rows: &crate::ops::Rows<'_>) {
        let len = rows.select.len();
        let Executor::Machine(machine) = &mut self.executor else { return };
        let tests = &mut machine.tests;
        for (condition, mask) in tests.conditions.iter_mut().zip(&mut self.masks) {
            match &mut condition.row {
                Some(program) => program.mask(rows.records, rows.select, mask),
                None => {
                    mask.clear();
                    mask.resize(bits::words(len), !0);
                    if let Some(last) = mask.last_mut() {
                        *last &= bits::tail(len);
                    }
                }
            }
        }
    }

    fn flush(&mut self, out: &mut Outputs) {
        match &mut self.executor {
            Executor::Machine(_) => self.found.matches.flush(&mut out.ports[0]),
            Executor::Strict(strict) => strict.flush(&mut out.ports[0]),
        }
        if let (Some(port), Some(selector)) = (self.timed_out, &mut self.found.timed_out) {
            selector.flush(&mut out.ports[port]);
        }
    }
}

impl Stateful for Pattern {
    fn state(&mut self, visit: &mut dyn FnMut(&str, &mut dyn Handle)) {
        match &mut self.executor {
            Executor::Machine(machine) => visit("partial matches", &mut machine.store),
            Executor::Strict(strict) => visit("prefixes", &mut **strict),
        }
    }

    fn due(&self, slot: u32, _after: Time) -> Time {
        match &self.executor {
            Executor::Machine(machine) => machine.store.armed(slot),
            Executor::Strict(_) => END,
        }
    }

    fn lasts(&self, slot: u32, _after: Time) -> bool {
        match &self.executor {
            Executor::Machine(_) => true,
            Executor::Strict(strict) => strict.has_prefix(slot),
        }
    }

    fn catch_up(
        &mut self,
        _slots: &[u32],
        due: Time,
        keys: &KeyTable,
        out: &mut Outputs,
    ) -> Result<(), OpError> {
        // Each key has a timer of its own, so meeting them again meets those that came.
        self.watermark(due, keys, out)
    }

    fn take_changed(&mut self, out: &mut Vec<u32>) {
        if let Executor::Machine(machine) = &mut self.executor {
            machine.store.take_met(out);
        }
    }

    fn show(&mut self, slot: u32, _keys: &KeyTable, visit: &mut dyn FnMut(&str, Shown)) {
        match &self.executor {
            Executor::Machine(machine) => {
                let shown = self.names.partials(&machine.store, slot);
                shown.into_iter().for_each(|shown| visit("partial matches", shown));
            }
            Executor::Strict(strict) => {
                let shown = self.names.prefixes(strict, slot);
                shown.into_iter().for_each(|shown| visit("prefixes", shown));
            }
        }
    }
}

impl Ordered for Pattern {
    /// A late row changes no partial match, so the rows between which it stands are tried together.
    fn rows(&mut self, stretch: &Stretch<'_>, out: &mut Outputs) -> Result<(), OpError> {
        if !stretch.late.slots.is_empty() {
            self.late(&stretch.late, out)?;
        }
        if !stretch.on_time.slots.is_empty() {
            self.ordered(&stretch.on_time, out)?;
        }
        Ok(())
    }

    fn ordered(&mut self, keyed: &KeyedRows<'_>, out: &mut Outputs) -> Result<(), OpError> {
        let rows = &keyed.rows;
        let len = rows.select.len();
        self.ledger.rows_in += len as u64;
        self.test(rows);
        match &mut self.executor {
            Executor::Strict(strict) => strict.rows(rows, keyed.slots),
            Executor::Machine(machine) => {
                let slots = keyed.slots.iter().copied().max().map_or(0, |max| max as usize + 1);
                machine.store.grow(slots);
                words(rows.select.len(), &self.masks, &mut self.tests);
                // A blank row still ends the ghosts of its key.
                let has_ghosts = self.timed_out.is_some() && machine.skip != Skip::None;
                let blank_is_idle = machine.nfa.blank_is_idle && !has_ghosts;
                touch(blank_is_idle, &self.tests, &mut self.touched);
                machine.rows(keyed, &self.tests, &self.touched, &mut self.found);
            }
        }
        self.flush(out);
        Ok(())
    }

    fn late(&mut self, keyed: &KeyedRows<'_>, out: &mut Outputs) -> Result<(), OpError> {
        LatePort::take(self.late.as_ref(), keyed, &mut self.ledger, out);
        Ok(())
    }

    fn watermark(
        &mut self,
        watermark: Time,
        _keys: &KeyTable,
        out: &mut Outputs,
    ) -> Result<(), OpError> {
        if let Executor::Machine(machine) = &mut self.executor
            && machine.store.next_deadline() <= watermark
        {
            machine.advance_to(watermark, &mut self.found);
            self.flush(out);
        }
        Ok(())
    }

    fn ledger(&self) -> Ledger {
        let given_up = match &self.executor {
            Executor::Machine(machine) => machine.given_up,
            Executor::Strict(_) => 0,
        };
        Ledger { given_up, ..self.ledger }
    }
}

/// One word a row: the tests that it meets.
fn words(len: usize, masks: &[Vec<u64>], words: &mut Vec<u64>) {
    words.clear();
    words.resize(len, 0);
    for (i, mask) in masks.iter().enumerate() {
        bits::for_each(mask, |row| words[row] |= 1 << i);
    }
}

/// The rows that may change a partial match.
fn touch(blank_is_idle: bool, tests: &[u64], touched: &mut Vec<u32>) {
    touched.clear();
    let all = 0..tests.len() as u32;
    touched.extend(all.filter(|&i| !blank_is_idle || tests[i as usize] != 0));
}

/// The skip strategy with its step's number. A step that does not exist (refused before) or
/// takes nothing skips nothing.
fn skip(ast: &Ast) -> Skip {
    let names = ast.names();
    let number = |name: &String| names.iter().position(|other| other == name).unwrap_or(usize::MAX);
    match &ast.after_match {
        AfterMatch::NoSkip => Skip::None,
        AfterMatch::SkipToNext => Skip::ToNext,
        AfterMatch::SkipPastLastEvent => Skip::PastLast,
        AfterMatch::SkipToFirst(name) => Skip::ToFirst(number(name) as u32),
        AfterMatch::SkipToLast(name) => Skip::ToLast(number(name) as u32),
    }
}

#[cfg(test)]
mod tests;
