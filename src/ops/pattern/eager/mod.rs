//! `emit = "eager"`: a row is tried when it arrives, and a match goes out at once as provisional;
//! what the ordered rows come to, once the watermark has passed them, confirms or retracts it.
//!
//! ```text
//! rows as they arrive -+-> quick automaton ------------------> provisional
//!                      +-> ordering buffer -> automaton -----> confirmed; what is left: retracted
//! ```
//!
//! 1. Confirmed rows are those of `emit = "final"`, with two columns more.
//! 2. A match's number is a hash of the rows that it took and the steps that took them, and a
//!    row's is one of all its values: so it is the same in both automata, in every run, on any
//!    number of shards. (Rows that are equal in every column are one to it.)
//! 3. The quick automaton takes the rows of a key in the order of their times: one that comes out
//!    of order is left to the watermark. Then what both know is other, until the watermark has
//!    passed all rows of the key and the quick one takes over what the other knows.
//! 4. A provisional match is retracted when the watermark has passed its last row and the ordered
//!    one neither found it nor holds it back for an earlier partial match; at the end all are that
//!    are left.

mod provisional;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::nfa::TooLarge;
use super::nfa::run::{Chain, Event};
use super::refs::Ref;
use super::{Executor, LatePort, Pattern, PatternSpec, words};
use crate::expr::{MatchSelect, StepRef};
use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::key::hash_text;
use crate::ground::schema::{Column, DataType, Schema};
use crate::ground::slot;
use crate::ground::time::{END, NEVER, Time};
use crate::ops::kept::Kept;
use crate::ops::order::Order;
use crate::ops::order::ahead::Ahead;
use crate::ops::output::{Emitted, Outputs, Port};
use crate::ops::{Keyed, KeyedRows, Ledger, OpError, Ordered, Rows, Stateful, Stretch};
use crate::state::keys::KeyTable;
use crate::state::shown::Shown;
use crate::state::touched::Touched;
use crate::state::{Handle, LoadError};
use provisional::{Provisionals, copy};

/// What is said of a match in its column `status`.
pub const STATUS: [&str; 3] = ["provisional", "confirmed", "retracted"];
const PROVISIONAL: usize = 0;
const CONFIRMED: usize = 1;
const RETRACTED: usize = 2;

/// Rows of one batch that leave the automata, before they are looked at.
const ALL: usize = usize::MAX;

/// See the module's head.
pub struct Eager {
    /// The ordering buffer with the automaton whose matches count.
    order: Order,
    truth: Rc<RefCell<Pattern>>,
    outs: Vec<Outputs>,
    form: u64,
    /// The automaton that rows are tried in at once.
    quick: Pattern,
    tried: Outputs,
    /// Slots of the matches in `tried`.
    tried_slots: Vec<u32>,
    newest: Newest,
    provisionals: Provisionals,
    identity: Ref,
    /// Columns of a match's row, the number behind them.
    columns: Kept,
    /// The input with the number of each row behind its columns.
    input: Kept,
    is_heaped: Vec<bool>,
    numbered: BatchBuilder,
    late: Option<LatePort>,
    ledger: Ledger,
    /// The highest mark of rows that were put out: marks never fall.
    put_mark: Time,
    changed: Vec<u32>,
    scratch: Vec<u8>,
}

/// The automaton behind the ordering buffer, which its owner looks into.
struct Truth(Rc<RefCell<Pattern>>);

impl Stateful for Truth {
    fn state(&mut self, visit: &mut dyn FnMut(&str, &mut dyn Handle)) {
        self.0.borrow_mut().state(visit);
    }

    fn due(&self, slot: u32, after: Time) -> Time {
        self.0.borrow().due(slot, after)
    }

    fn lasts(&self, slot: u32, after: Time) -> bool {
        self.0.borrow().lasts(slot, after)
    }

    fn catch_up(
        &mut self,
        slots: &[u32],
        due: Time,
        keys: &KeyTable,
        out: &mut Outputs,
    ) -> Result<(), OpError> {
        self.0.borrow_mut().catch_up(slots, due, keys, out)
    }

    fn take_changed(&mut self, out: &mut Vec<u32>) {
        self.0.borrow_mut().take_changed(out);
    }

    fn show(&mut self, slot: u32, keys: &KeyTable, visit: &mut dyn FnMut(&str, Shown)) {
        self.0.borrow_mut().show(slot, keys, visit);
    }
}

impl Ordered for Truth {
    fn rows(&mut self, stretch: &Stretch<'_>, out: &mut Outputs) -> Result<(), OpError> {
        self.0.borrow_mut().rows(stretch, out)
    }

    fn ordered(&mut self, rows: &KeyedRows<'_>, out: &mut Outputs) -> Result<(), OpError> {
        self.0.borrow_mut().ordered(rows, out)
    }

    fn late(&mut self, rows: &KeyedRows<'_>, out: &mut Outputs) -> Result<(), OpError> {
        self.0.borrow_mut().late(rows, out)
    }

    fn watermark(
        &mut self,
        watermark: Time,
        keys: &KeyTable,
        out: &mut Outputs,
    ) -> Result<(), OpError> {
        self.0.borrow_mut().watermark(watermark, keys, out)
    }

    fn ledger(&self) -> Ledger {
        self.0.borrow().ledger()
    }
}

/// The newest row of each key that was tried, and whether one was left out since.
#[derive(Default)]
struct Newest {
    keys: Vec<(Time, bool)>,
    /// Keys of which one was left out, by their newest row.
    apart: BTreeSet<(Time, u32)>,
    /// The watermark: up to here it does not matter.
    watermark: Time,
    /// Whether a checkpoint said where that stands.
    is_loaded: bool,
}

impl Newest {
    fn damaged() -> LoadError {
        let reason = "the bytes are not what this version writes".into();
        LoadError { handle: "tried".into(), reason }
    }

    fn reserve(&mut self, slots: usize) {
        if slots > self.keys.len() {
            self.keys.resize(slots.next_power_of_two(), (NEVER, false));
        }
    }

    fn set(&mut self, slot: u32, time: Time, is_apart: bool) {
        let old = std::mem::replace(&mut self.keys[slot as usize], (time, is_apart));
        if old.1 {
            self.apart.remove(&(old.0, slot));
        }
        if is_apart {
            self.apart.insert((time, slot));
        }
    }

    /// A key whose rows the watermark has passed, and of which one was left out.
    fn next_apart(&mut self, watermark: Time) -> Option<u32> {
        let &(time, slot) = self.apart.first().filter(|(time, _)| *time <= watermark)?;
        self.set(slot, time, false);
        Some(slot)
    }
}

/// `time i64 | left out u8`, of keys with rows that the watermark has not passed; apart from keys
/// the watermark, i64.
impl Handle for Newest {
    fn save_whole(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.watermark.to_le_bytes());
    }

    fn load_whole(&mut self, bytes: &[u8]) -> Result<(), LoadError> {
        let Ok(word) = <[u8; 8]>::try_from(bytes) else {
            return Err(Newest::damaged());
        };
        // Of several shards the one that is least far.
        let watermark = Time::from_le_bytes(word);
        let before = if self.is_loaded { self.watermark } else { Time::MAX };
        (self.watermark, self.is_loaded) = (watermark.min(before), true);
        Ok(())
    }

    fn save(&self, slot: u32, out: &mut Vec<u8>) {
        let known = self.keys.get(slot as usize);
        if let Some(&(time, is_apart)) = known.filter(|(time, _)| *time > self.watermark) {
            out.extend_from_slice(&time.to_le_bytes());
            out.push(u8::from(is_apart));
        }
    }

    fn load(&mut self, slot: u32, bytes: &[u8]) -> Result<(), LoadError> {
        self.reserve(slot as usize + 1);
        match bytes {
            [] => {}
            [time @ .., is_apart] if time.len() == 8 => {
                let mut word = [0; 8];
                word.copy_from_slice(time);
                self.set(slot, Time::from_le_bytes(word), *is_apart != 0);
            }
            _ => return Err(Newest::damaged()),
        }
        Ok(())
    }

    fn clear(&mut self, slot: u32) {
        if (slot as usize) < self.keys.len() {
            self.set(slot, NEVER, false);
        }
    }

    fn memory_bytes(&self) -> usize {
        self.keys.capacity() * size_of::<(Time, bool)>()
    }
}

/// The input with the number of each row behind its columns.
fn numbered(input: &Schema) -> Schema {
    let row = Column::new("#row", DataType::BigInt).not_null();
    Schema::new(input.columns.iter().cloned().chain([row]).collect())
}

impl Eager {
    /// The operator for rows of `input`, which may be `disorder_ms` out of order (a hint);
    /// `widths` are those of its outputs.
    ///
    /// # Errors
    /// [`TooLarge`].
    pub fn new(
        mut spec: PatternSpec,
        input: &Schema,
        widths: &[usize],
        disorder_ms: i64,
    ) -> Result<Eager, TooLarge> {
        let (schema, steps, late) = (numbered(input), spec.ast.names().len(), spec.late.take());
        let user = spec.select.finish.schema();
        let select = |select: MatchSelect| select.with_identity("match_id", steps, input.width());
        let quick = PatternSpec {
            ast: spec.ast.clone(),
            conditions: spec.conditions.clone(),
            select: select(spec.select.clone()),
            late: None,
            timed_out: None,
            timed_out_select: None,
            known: spec.known.clone(),
            sets: Default::default(),
            partials_max: spec.partials_max,
        };
        let timed_out_select = Some(spec.select.clone());
        let mut final_one =
            PatternSpec { select: select(spec.select.clone()), timed_out_select, ..spec };
        let mut ahead = Ahead::new(&schema);
        final_one.look_ahead(&mut ahead);
        final_one.remap(&ahead);
        let behind = ahead.schema(&schema);
        let row = ahead.place(input.width());
        let identity = StepRef::identity(steps, row);
        let final_one = Pattern::with(final_one, &behind, true)?;
        let Executor::Machine(machine) = &final_one.executor else {
            unreachable!("only the automaton was asked for")
        };
        let layout = &machine.store.layout;
        let identity = Ref::new(&identity, &behind, |column| layout.place(column));
        let truth = Rc::new(RefCell::new(final_one));
        let operators: Vec<Box<dyn Ordered>> = vec![Box::new(Truth(truth.clone()))];
        let mut order = Order::new(&schema, &ahead, disorder_ms, operators);
        order.track();
        let width = user.width() + 1;
        let all = |width: usize| (0..width).collect::<Vec<usize>>();
        let id = Column::new("match_id", DataType::BigInt).not_null();
        let row = Schema::new(user.columns.iter().cloned().chain([id]).collect());
        let widths: Vec<usize> = [width].into_iter().chain(widths[1..].iter().copied()).collect();
        Ok(Eager {
            order,
            truth,
            outs: vec![Outputs::new(&widths, ALL)],
            form: ahead.form(),
            quick: Pattern::with(quick, &schema, true)?,
            tried: Outputs::new(&[width], ALL),
            tried_slots: Vec::new(),
            newest: Newest { watermark: NEVER, ..Newest::default() },
            provisionals: Provisionals::new(&row),
            identity,
            columns: Kept::new(&row, all(width)),
            input: Kept::new(input, all(input.width())),
            is_heaped: input.columns.iter().map(|c| c.data_type.is_heaped()).collect(),
            numbered: BatchBuilder::new(schema.width(), 0),
            late,
            ledger: Ledger::default(),
            put_mark: NEVER,
            changed: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// Adds a row with its number to `self.numbered`.
    fn number(&mut self, records: &RecordBatch, row: usize) {
        self.scratch.clear();
        for (column, &is_heaped) in self.is_heaped.iter().enumerate() {
            match records.get(row, column) {
                None => self.scratch.push(0),
                Some(value) if is_heaped => {
                    let text = slot::bytes(&value, records.heap());
                    self.scratch.push(2);
                    self.scratch.extend_from_slice(&(text.len() as u32).to_le_bytes());
                    self.scratch.extend_from_slice(text);
                }
                Some(value) => {
                    self.scratch.push(1);
                    self.scratch.extend_from_slice(&value.to_le_bytes());
                }
            }
        }
        copy(&self.input, records, row, &mut self.numbered);
        let place = self.input.width();
        self.numbered.last_row_mut()[place] = hash_text(&self.scratch);
    }

    /// Tries rows that are in time, in the order in which they came.
    fn try_rows(&mut self, keyed: &KeyedRows<'_>) {
        let rows = &keyed.rows;
        let slots = keyed.slots.iter().max().map_or(0, |&most| most as usize + 1);
        self.newest.reserve(slots);
        self.quick.test(rows);
        words(rows.select.len(), &self.quick.masks, &mut self.quick.tests);
        let Executor::Machine(machine) = &mut self.quick.executor else { return };
        machine.store.grow(slots);
        for (i, &slot) in keyed.slots.iter().enumerate() {
            let (time, tests) = (rows.times[i], self.quick.tests[i]);
            let (newest, is_apart) = self.newest.keys[slot as usize];
            if time < newest {
                self.newest.set(slot, newest, true);
                continue;
            }
            self.newest.set(slot, time, is_apart);
            if tests == 0 && machine.nfa.blank_is_idle {
                continue;
            }
            machine.advance_slot(slot, time, &mut self.quick.found);
            let row = rows.select[i] as usize;
            let event = Event { batch: rows.records, row, time, tests };
            machine.row(slot, event, &mut self.quick.found);
            let found = self.quick.found.matches.len();
            self.tried_slots.resize(found.max(self.tried_slots.len()), slot);
        }
    }

    /// Puts out what was found in rows that were tried.
    fn put_provisional(&mut self, port: &mut Port) {
        self.quick.found.matches.flush(&mut self.tried.ports[0]);
        let place = self.columns.width() - 1;
        let mark = self.newest.watermark.max(self.put_mark);
        let mut slots = self.tried_slots.drain(..);
        for Emitted { records, times, .. } in self.tried.ports[0].take() {
            for (row, &time) in times.iter().enumerate() {
                let slot = slots.next().expect("every match has its key");
                let id = records.row(row)[place];
                if self.provisionals.put(id, slot, time, &records, row) {
                    put(&self.columns, &records, row, PROVISIONAL, port);
                    port.stamp(time, mark.min(time.saturating_sub(1)));
                    self.changed.push(slot);
                }
            }
        }
    }

    /// Lets the ordering buffer do something, with the operator's outputs behind the main one.
    fn ordered<T>(
        &mut self,
        out: &mut Outputs,
        work: impl FnOnce(&mut Order, &mut [Outputs]) -> T,
    ) -> T {
        let lend = |own: &mut Outputs, out: &mut Outputs| {
            for (own, out) in own.ports.iter_mut().zip(&mut out.ports).skip(1) {
                std::mem::swap(own, out);
            }
        };
        lend(&mut self.outs[0], out);
        let done = work(&mut self.order, &mut self.outs);
        lend(&mut self.outs[0], out);
        self.order.take_changed(&mut self.changed);
        done
    }

    /// Puts out what the watermark has decided: all that the ordered automaton found, and up to
    /// `sweep` those that it did not find.
    fn put_decided(&mut self, sweep: Option<Time>, out: &mut Outputs) {
        let place = self.columns.width() - 1;
        let found = self.outs[0].ports[0].take();
        for Emitted { records, .. } in &found {
            for row in 0..records.rows() {
                if let Some(known) = self.provisionals.take(records.row(row)[place]) {
                    self.changed.push(known.slot);
                }
            }
        }
        let mut wrong: Vec<(Time, provisional::Provisional)> = Vec::new();
        if let Some(watermark) = sweep {
            for (id, slot) in self.provisionals.due(watermark) {
                // What is held back at the end never comes.
                if watermark < END && self.holds(id, slot) {
                    self.provisionals.look_later(id, watermark);
                } else if let Some(known) = self.provisionals.take(id) {
                    self.changed.push(slot);
                    // One that was held and then pruned is decided now, not late.
                    let time = known.time.max(self.newest.watermark.saturating_add(1));
                    wrong.push((time, known));
                }
            }
        }
        wrong.sort_by_key(|(time, _)| *time);
        let last = found.last().and_then(|emitted| emitted.marks.last().copied());
        let last = last.into_iter().chain(wrong.last().map(|(time, _)| time.saturating_sub(1)));
        self.put_mark = last.fold(self.put_mark, Time::max);
        // In the order of their times, as watermarks behind them have it.
        let (port, columns) = (&mut out.ports[0], &self.columns);
        let mut wrong = wrong.into_iter().peekable();
        let mut retract = |upto: Option<Time>, port: &mut Port| {
            while let Some((time, known)) =
                wrong.next_if(|(time, _)| upto.is_none_or(|upto| *time < upto))
            {
                put(columns, &known.row, 0, RETRACTED, port);
                port.stamp(time, time.saturating_sub(1));
            }
        };
        for Emitted { records, times, marks } in &found {
            for row in 0..records.rows() {
                retract(Some(times[row]), port);
                put(columns, records, row, CONFIRMED, port);
                port.stamp(times[row], marks[row]);
            }
        }
        retract(None, port);
        self.outs[0].ports[0].give_back(found);
    }

    /// Whether the ordered automaton holds a match back, which may still come.
    fn holds(&self, id: u64, slot: u32) -> bool {
        let truth = self.truth.borrow();
        let Executor::Machine(machine) = &truth.executor else { return false };
        let store = &machine.store;
        let held = store.held.get(&slot).into_iter().flatten();
        let number = |node: u32| self.identity.scalar(&Chain { store, node }).slot;
        held.map(|partial| number(partial.node)).any(|held| held == id)
    }

    /// Has the quick automaton know of a key what the other knows.
    fn take_over(&mut self, slot: u32) {
        let mut saved = Vec::new();
        self.truth.borrow_mut().state(&mut |_, handle| handle.save(slot, &mut saved));
        self.quick.state(&mut |_, handle| {
            handle.clear(slot);
            // Both have the same steps and columns, so what one saves the other loads.
            let loaded = handle.load(slot, &saved);
            debug_assert!(loaded.is_ok(), "{loaded:?}");
        });
        self.changed.push(slot);
    }

    /// Lets time pass in the quick automaton: what comes of it comes from the other one now.
    fn pass_time(&mut self, watermark: Time) {
        let Executor::Machine(machine) = &mut self.quick.executor else { return };
        if machine.store.next_deadline() <= watermark {
            machine.advance_to(watermark, &mut self.quick.found);
            self.quick.found.matches.discard();
            machine.store.take_met(&mut self.changed);
        }
    }
}

/// Adds a match's row with what is said of it; the caller stamps it.
fn put(columns: &Kept, records: &RecordBatch, row: usize, status: usize, port: &mut Port) {
    let builder = &mut port.builder;
    copy(columns, records, row, builder);
    let status = slot::put(STATUS[status].as_bytes(), &mut builder.heap);
    builder.last_row_mut()[columns.width()] = status;
}

impl Stateful for Eager {
    fn state(&mut self, visit: &mut dyn FnMut(&str, &mut dyn Handle)) {
        let form = self.form;
        self.order.state(&mut |name, handle| match name.strip_prefix("0.") {
            Some(own) => visit(own, handle),
            None => visit(&format!("waiting.{form:016x}"), handle),
        });
        self.quick.state(&mut |_, handle| visit("tried partial matches", handle));
        visit("tried", &mut self.newest);
        visit("provisional", &mut self.provisionals);
    }

    fn due(&self, slot: u32, after: Time) -> Time {
        self.order.due(slot, after)
    }

    fn lasts(&self, slot: u32, after: Time) -> bool {
        self.order.lasts(slot, after)
    }

    fn catch_up(
        &mut self,
        slots: &[u32],
        due: Time,
        keys: &KeyTable,
        out: &mut Outputs,
    ) -> Result<(), OpError> {
        self.pass_time(due);
        self.ordered(out, |order, outs| order.catch_up(slots, due, keys, outs))?;
        self.put_decided(None, out);
        Ok(())
    }

    fn take_changed(&mut self, out: &mut Vec<u32>) {
        out.append(&mut self.changed);
    }

    fn show(&mut self, slot: u32, keys: &KeyTable, visit: &mut dyn FnMut(&str, Shown)) {
        self.order.show(0, slot, keys, visit);
    }
}

impl Keyed for Eager {
    fn rows(
        &mut self,
        _input: usize,
        keyed: &KeyedRows<'_>,
        out: &mut Outputs,
    ) -> Result<(), OpError> {
        let rows = &keyed.rows;
        self.ledger.rows_in += rows.select.len() as u64;
        let in_time: Vec<usize> =
            (0..rows.select.len()).filter(|&i| rows.times[i] > rows.marks[i]).collect();
        if in_time.len() < rows.select.len() {
            self.put_late(keyed, out);
        }
        in_time.iter().for_each(|&i| self.number(rows.records, rows.select[i] as usize));
        let records = self.numbered.finish();
        let select: Vec<u32> = (0..in_time.len() as u32).collect();
        let times: Vec<Time> = in_time.iter().map(|&i| rows.times[i]).collect();
        let marks: Vec<Time> = in_time.iter().map(|&i| rows.marks[i]).collect();
        let slots: Vec<u32> = in_time.iter().map(|&i| keyed.slots[i]).collect();
        let rows = Rows { records: &records, select: &select, times: &times, marks: &marks };
        let numbered = KeyedRows::new(rows, &slots, keyed.keys);
        self.try_rows(&numbered);
        self.put_provisional(&mut out.ports[0]);
        self.ordered(out, |order, outs| order.rows(0, &numbered, outs))?;
        self.put_decided(None, out);
        self.numbered.recycle(records);
        Ok(())
    }

    fn watermark(
        &mut self,
        watermark: Time,
        keys: &KeyTable,
        out: &mut Outputs,
    ) -> Result<(), OpError> {
        self.pass_time(watermark);
        self.ordered(out, |order, outs| order.watermark(watermark, keys, outs))?;
        self.put_decided(Some(watermark), out);
        while let Some(slot) = self.newest.next_apart(watermark) {
            self.take_over(slot);
        }
        self.newest.watermark = self.newest.watermark.max(watermark);
        Ok(())
    }

    fn pinned(&self, out: &mut Touched) {
        self.order.waiting_slots(out);
        self.provisionals.slots(out);
    }

    fn ledger(&self) -> Ledger {
        Ledger { given_up: self.order.ledger(0).given_up, ..self.ledger }
    }
}

impl Eager {
    fn put_late(&mut self, keyed: &KeyedRows<'_>, out: &mut Outputs) {
        let rows = &keyed.rows;
        for i in (0..rows.select.len()).filter(|&i| rows.times[i] <= rows.marks[i]) {
            self.ledger.late += 1;
            if let Some(LatePort { port, heaped }) = &self.late {
                let port = &mut out.ports[*port];
                keyed.put_late(i, heaped, port);
                port.stamp(rows.times[i], rows.marks[i]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
