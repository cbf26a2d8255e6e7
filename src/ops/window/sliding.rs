//! Tumbling and sliding windows by panes.
//!
//! A row is added to one line: its key's, in the column of its pane. There is one timer for the
//! whole operator: when the watermark reaches the end of a window, the columns of its panes are
//! merged for all keys that touched one of them.
//!
//! 1. `done` is the last window that has fired or had nothing to fire: the last whose end - 1 is
//!    not after the watermark. It only grows.
//! 2. Between two changes of `done` all rows from `open_from` on are only in windows to come, so
//!    they need one compare each; the others are told their fate one by one (`Core::straggler`).
//! 3. A row is taken if one of its windows can take it (end - 1 + lateness > mark). A pane may
//!    then hold rows that came too late for another of its windows, but that window never
//!    fires again, so nobody sees it.
//! 4. A column is dropped when its last window takes no rows any more.
//! 5. Windows without rows cost nothing, however many lie between two rows.
//!
//! Early firing will scan the panes of open windows by the same merge.

mod show;

use crate::expr::aggregate::AggregateSelect;
use crate::ground::schema::Schema;
use crate::ground::time::{END, NEVER, Time};
use crate::ops::accumulate::{Arguments, Batch, Emitter, Input, Layout, Merged, Object};
use crate::ops::output::Outputs;
use crate::ops::{Keyed, KeyedRows, Ledger, OpError, Rows, Stateful};
use crate::state::Handle;
use crate::state::distinct::Distinct;
use crate::state::keys::KeyTable;
use crate::state::panes::Panes;
use crate::state::shown::Shown;
use crate::state::touched::Touched;

use super::frame::{Frame, Spec};

/// The output of windows' rows.
pub const MAIN: usize = 0;
/// The output of rows that no window takes.
pub const LATE: usize = 1;
/// Keys that are fired together.
const FIRED: usize = 1024;

/// The operator: `window = { type = "tumbling" | "sliding", ... }`.
pub struct Sliding {
    arguments: Arguments,
    core: Core,
}

/// All but the argument programs, whose values are borrowed while rows are taken in.
struct Core {
    frame: Frame,
    layout: Layout,
    panes: Panes<Object>,
    /// Call and set of each COUNT(DISTINCT).
    distinct: Vec<(usize, Distinct)>,
    emitter: Emitter,
    /// Heap columns of the input, for late rows.
    heaped: Vec<usize>,
    ledger: Ledger,
    /// `panes.done` that the next three were made for.
    done: i64,
    /// Watermark at which the next window is due.
    turn: Time,
    open_from: Time,
    /// First time and end of the pane of the last row, and its number.
    current: (Time, Time, i64),
    groups: Vec<Group>,
    stragglers: Vec<u32>,
    union: Touched,
    merged: Merged,
    counts: Vec<Vec<u64>>,
    /// Slots of which a firing noted what was counted.
    noted: Vec<u32>,
}

/// Rows of one pane.
#[derive(Default)]
struct Group {
    pane: i64,
    rows: Vec<u32>,
}

impl Sliding {
    /// Windows of `spec` for rows of `input`; `select` was compiled with bounds.
    ///
    /// # Errors
    /// What is wrong with the spec.
    pub fn new(spec: Spec, select: &AggregateSelect, input: &Schema) -> Result<Sliding, String> {
        let frame = Frame::new(spec)?;
        let layout = Layout::new(&select.calls);
        let panes = usize::try_from(frame.per_window).map_err(|_| "too many panes")?;
        let set = |(i, (call, of))| {
            let name = format!("distinct_{i}");
            let late = spec.lateness > 0;
            (call, Distinct::new(&name, &of, panes, frame.span(), late))
        };
        let distinct: Vec<_> = layout.distinct().into_iter().enumerate().map(set).collect();
        let core = Core {
            frame,
            panes: Panes::new("panes", layout.words(), layout.owned()),
            counts: vec![Vec::new(); distinct.len()],
            distinct,
            emitter: Emitter::new(select, true),
            heaped: input.heaped(),
            layout,
            ledger: Ledger::default(),
            done: i64::MIN,
            turn: NEVER + 1,
            open_from: Time::MIN,
            current: (0, 0, 0),
            groups: Vec::new(),
            stragglers: Vec::new(),
            union: Touched::default(),
            merged: Merged::default(),
            noted: Vec::new(),
        };
        Ok(Sliding { arguments: Arguments::new(&select.calls), core })
    }
}

#[cfg(test)]
impl Sliding {
    /// Goes on counting where an operator stopped whose keys this one has.
    pub fn resume_ledger(&mut self, ledger: Ledger) {
        self.core.ledger = ledger;
    }
}

impl Stateful for Sliding {
    fn state(&mut self, visit: &mut dyn FnMut(&str, &mut dyn Handle)) {
        visit("panes", &mut self.core.panes);
        for (i, (_, set)) in self.core.distinct.iter_mut().enumerate() {
            visit(&format!("distinct_{i}"), set);
        }
    }

    fn due(&self, slot: u32, after: Time) -> Time {
        self.core.due(slot, after)
    }

    fn lasts(&self, slot: u32, after: Time) -> bool {
        let dead = self.core.frame.dead(after);
        let mut held = self.core.panes.columns().iter().filter(|c| c.touched.get(slot));
        held.any(|column| self.core.frame.windows_of_pane(column.pane).1 > dead)
    }

    fn catch_up(
        &mut self,
        slots: &[u32],
        due: Time,
        keys: &KeyTable,
        out: &mut Outputs,
    ) -> Result<(), OpError> {
        self.core.reserve(keys.len());
        self.core.catch_up(slots, due, keys, out);
        Ok(())
    }

    fn take_changed(&mut self, out: &mut Vec<u32>) {
        out.append(&mut self.core.noted);
    }

    fn show(&mut self, slot: u32, keys: &KeyTable, visit: &mut dyn FnMut(&str, Shown)) {
        self.core.show(slot, keys, visit);
    }
}

impl Keyed for Sliding {
    fn rows(
        &mut self,
        _input: usize,
        rows: &KeyedRows<'_>,
        out: &mut Outputs,
    ) -> Result<(), OpError> {
        let Rows { records, select, times, marks } = rows.rows;
        let (core, count) = (&mut self.core, select.len());
        core.ledger.rows_in += count as u64;
        core.reserve(rows.keys.len());
        let inputs = self.arguments.eval(records, select);
        let mut start = 0;
        while start < count {
            if marks[start] >= core.turn {
                core.advance(marks[start], rows.keys, out);
            }
            // Marks never fall, so one look at the last tells of all.
            let end = if marks[count - 1] < core.turn {
                count
            } else {
                start + marks[start..].partition_point(|&mark| mark < core.turn)
            };
            // Behind the end of time no window is due any more: the rest is late.
            let end = if end == start { count } else { end };
            core.take(rows, &inputs, start..end, out);
            start = end;
        }
        debug_assert_eq!(times.len(), count);
        core.panes.numbered += count as u64;
        Ok(())
    }

    fn watermark(
        &mut self,
        watermark: Time,
        keys: &KeyTable,
        out: &mut Outputs,
    ) -> Result<(), OpError> {
        self.core.reserve(keys.len());
        if watermark >= self.core.turn {
            self.core.advance(watermark, keys, out);
        }
        Ok(())
    }

    fn ledger(&self) -> Ledger {
        self.core.ledger
    }
}

impl Core {
    fn reserve(&mut self, slots: usize) {
        self.panes.reserve(slots);
        self.distinct.iter_mut().for_each(|(_, set)| set.reserve(slots));
        if self.panes.done != self.done {
            // A key was loaded whose operator had come further.
            self.come_to(self.panes.done, i64::MIN);
        }
    }

    /// Takes rows between which no window is due.
    fn take(
        &mut self,
        rows: &KeyedRows<'_>,
        inputs: &[Input<'_>],
        range: std::ops::Range<usize>,
        out: &mut Outputs,
    ) {
        self.sort_into_groups(&rows.rows.times[range.clone()], range.start as u32);
        let mut groups = std::mem::take(&mut self.groups);
        for group in groups.iter_mut().filter(|group| !group.rows.is_empty()) {
            self.add(&group.rows, group.pane, rows.slots, inputs);
            group.rows.clear();
        }
        self.groups = groups;
        if !self.stragglers.is_empty() {
            let stragglers = std::mem::take(&mut self.stragglers);
            for &row in &stragglers {
                self.straggler(row, rows, inputs, out);
            }
            self.stragglers = stragglers;
            self.stragglers.clear();
        }
    }

    /// Rows of open windows by pane; the others to `stragglers`.
    fn sort_into_groups(&mut self, times: &[Time], first: u32) {
        let (mut start, mut end, mut pane) = self.current;
        let mut group = self.group(pane);
        let least = times.iter().fold(Time::MAX, |least, &time| least.min(time));
        let most = times.iter().fold(Time::MIN, |most, &time| most.max(time));
        if least >= start.max(self.open_from) && most < end {
            self.groups[group].rows.extend(first..first + times.len() as u32);
            return;
        }
        for (i, &time) in times.iter().enumerate() {
            let row = first + i as u32;
            if time < self.open_from {
                self.stragglers.push(row);
                continue;
            }
            if time < start || time >= end {
                pane = self.frame.pane_of(time);
                let (from, to) = self.frame.windows_of_pane(pane);
                if from > to {
                    self.stragglers.push(row);
                    continue;
                }
                start = self.frame.pane_start(pane);
                end = start.saturating_add(self.frame.pane);
                self.current = (start, end, pane);
                group = self.group(pane);
            }
            self.groups[group].rows.push(row);
        }
    }

    fn group(&mut self, pane: i64) -> usize {
        let found = self.groups.iter().position(|group| group.pane == pane);
        found.unwrap_or_else(|| {
            let empty = self.groups.iter().position(|group| group.rows.is_empty());
            let index = empty.unwrap_or_else(|| {
                self.groups.push(Group::default());
                self.groups.len() - 1
            });
            self.groups[index].pane = pane;
            index
        })
    }

    /// Adds rows to their pane.
    fn add(&mut self, rows: &[u32], pane: i64, slots: &[u32], inputs: &[Input<'_>]) {
        let first = self.panes.numbered + 1;
        let index = self.panes.column(pane);
        let (column, pool) = self.panes.column_mut(index);
        let batch = Batch { rows, slots, first };
        self.layout.update(inputs, batch, column, pool);
        for (call, set) in &mut self.distinct {
            let Input { values, heap, live, .. } = inputs[*call];
            set.observe(rows, slots, values, heap, live, pane);
        }
    }

    /// A row one of whose windows has fired, or that is in no window.
    #[cold]
    fn straggler(
        &mut self,
        row: u32,
        rows: &KeyedRows<'_>,
        inputs: &[Input<'_>],
        out: &mut Outputs,
    ) {
        let (i, slot) = (row as usize, rows.slots[row as usize]);
        let (time, mark) = (rows.rows.times[i], rows.rows.marks[i]);
        let (first, last) = self.frame.windows_of(time);
        if first > last {
            // As Flink: in no window, and late only if it also is behind all lateness.
            if time.saturating_add(self.frame.spec.lateness) <= mark {
                self.put_late(i, rows, out);
            } else {
                self.ledger.filtered += 1;
            }
            return;
        }
        let first = first.max(self.frame.dead(mark) + 1);
        if first > last {
            self.put_late(i, rows, out);
            return;
        }
        let pane = self.frame.pane_of(time);
        let again = first..=last.min(self.done);
        self.add_late(row, pane, rows.slots, inputs, again.clone());
        for window in again {
            self.merged.clear(&self.layout);
            let (from, to) = self.frame.panes_of(window);
            let columns = self.panes.columns().range(self.panes.between(from, to));
            self.merged.name(slot as usize / 64, 1 << (slot % 64));
            self.layout.merge(columns, &self.panes.pool, &mut self.merged);
            for ((_, set), counts) in self.distinct.iter().zip(&mut self.counts) {
                counts.clear();
                counts.push(set.remembered(window, slot));
            }
            self.emit(window, mark, rows.keys, out);
        }
    }

    fn add_late(
        &mut self,
        row: u32,
        pane: i64,
        slots: &[u32],
        inputs: &[Input<'_>],
        again: std::ops::RangeInclusive<i64>,
    ) {
        let index = self.panes.column(pane);
        let first = self.panes.numbered + 1;
        let (column, pool) = self.panes.column_mut(index);
        let rows = &[row];
        self.layout.update(inputs, Batch { rows, slots, first }, column, pool);
        let frame = self.frame;
        let windows = again.map(|window| {
            let (from, to) = frame.panes_of(window);
            (window, from, to)
        });
        for (call, set) in &mut self.distinct {
            let input = &inputs[*call];
            if input.is_live(row as usize) {
                let value = input.values[row as usize];
                set.late(slots[row as usize], value, input.heap, pane, windows.clone());
            }
        }
    }

    fn put_late(&mut self, row: usize, rows: &KeyedRows<'_>, out: &mut Outputs) {
        self.ledger.late += 1;
        if let Some(port) = out.ports.get_mut(LATE) {
            rows.put_late(row, &self.heaped, port);
            port.stamp(rows.rows.times[row], rows.rows.marks[row]);
        }
    }

    /// Fires what is due at a watermark and drops what nobody uses any more.
    #[inline(never)]
    fn advance(&mut self, watermark: Time, keys: &KeyTable, out: &mut Outputs) {
        let to = self.frame.fired(watermark).max(self.done);
        while let Some(window) = self.next_due()
            && window <= to
        {
            let due = self.frame.bounds(window).1 - 1;
            // Just before the window is due: it may be its own last moment.
            self.come_to(window - 1, self.frame.dead(due - 1));
            self.fire(window, keys, out);
            self.done = window;
        }
        self.come_to(to, self.frame.dead(watermark));
    }

    /// The first window after `done` that has rows. O(columns).
    fn next_due(&self) -> Option<i64> {
        let mut due: Option<i64> = None;
        for column in self.panes.columns() {
            let (first, last) = self.frame.windows_of_pane(column.pane);
            if due.is_some_and(|due| first >= due) {
                break;
            }
            let window = first.max(self.done.saturating_add(1));
            if window <= last {
                due = Some(due.map_or(window, |due| due.min(window)));
            }
        }
        due
    }

    /// When the first window after `after` with rows of a slot is due. O(columns).
    fn due(&self, slot: u32, after: Time) -> Time {
        let done = self.done.max(self.frame.fired(after));
        let held = self.panes.columns().iter().filter(|column| column.touched.get(slot));
        let window = held.filter_map(|column| {
            let (first, last) = self.frame.windows_of_pane(column.pane);
            let window = first.max(done.saturating_add(1));
            (window <= last).then_some(window)
        });
        if let Some(window) = window.min() {
            return self.frame.bounds(window).1 - 1;
        }
        // All have fired; until the last of them is dead, late rows may come.
        let held = self.panes.columns().iter().rev().find(|column| column.touched.get(slot));
        held.map_or(END, |column| {
            let last = self.frame.windows_of_pane(column.pane).1;
            let dead = self.frame.bounds(last).1 - 1 + self.frame.spec.lateness;
            if dead > after { dead } else { END }
        })
    }

    /// Fires the window that is due at `due` for some slots; the others' turn comes.
    fn catch_up(&mut self, slots: &[u32], due: Time, keys: &KeyTable, out: &mut Outputs) {
        let window = self.frame.fired(due);
        if window <= self.done || self.frame.bounds(window).1 - 1 != due {
            return;
        }
        self.come_to(window - 1, self.frame.dead(due - 1));
        let (from, to) = self.frame.panes_of(window);
        let range = self.panes.between(from, to);
        let mut named = std::mem::take(&mut self.union);
        named.clear();
        named.reserve(keys.len());
        for column in self.panes.columns().range(range.clone()) {
            slots.iter().filter(|&&slot| column.touched.get(slot)).for_each(|&s| named.set(s));
        }
        self.fire_named(&named, window, range, keys, out);
        self.union = named;
    }

    /// Sets `done`; windows up to `dead` take no rows any more.
    fn come_to(&mut self, done: i64, dead: i64) {
        self.done = done;
        self.panes.done = done;
        self.turn = self.frame.bounds(done.saturating_add(1)).1 - 1;
        self.open_from = self.frame.bounds(done).1;
        let (counted, frontier) = self.frame.panes_of(done.saturating_add(1));
        for (_, set) in &mut self.distinct {
            let columns = self.panes.columns().iter();
            for column in columns.take_while(|column| column.pane < counted) {
                set.leave(column.pane, &column.touched);
            }
        }
        while let Some(column) = self.panes.columns().front()
            && self.frame.windows_of_pane(column.pane).1 <= dead
        {
            self.panes.drop_front();
        }
        let oldest = self.frame.panes_of(dead.saturating_add(1)).0.min(counted);
        for (_, set) in &mut self.distinct {
            set.advance(frontier, counted, oldest);
            set.forget(dead);
        }
    }

    /// Puts out a window for all keys that have rows in it.
    fn fire(&mut self, window: i64, keys: &KeyTable, out: &mut Outputs) {
        let (from, to) = self.frame.panes_of(window);
        let range = self.panes.between(from, to);
        let mut union = std::mem::take(&mut self.union);
        union.clear();
        for column in self.panes.columns().range(range.clone()) {
            union.union(&column.touched);
        }
        self.fire_named(&union, window, range, keys, out);
        self.union = union;
    }

    fn fire_named(
        &mut self,
        named: &Touched,
        window: i64,
        columns: std::ops::Range<usize>,
        keys: &KeyTable,
        out: &mut Outputs,
    ) {
        let mark = self.frame.bounds(window).1 - 2;
        self.merged.clear(&self.layout);
        named.for_each_word(|block, bits| {
            self.merged.name(block, bits);
            if self.merged.slots.len() >= FIRED {
                self.fire_merged(window, mark, columns.clone(), keys, out);
            }
        });
        self.fire_merged(window, mark, columns, keys, out);
    }

    fn fire_merged(
        &mut self,
        window: i64,
        mark: Time,
        columns: std::ops::Range<usize>,
        keys: &KeyTable,
        out: &mut Outputs,
    ) {
        let columns = self.panes.columns().range(columns);
        self.layout.merge(columns, &self.panes.pool, &mut self.merged);
        for ((_, set), counts) in self.distinct.iter_mut().zip(&mut self.counts) {
            set.counts(&self.merged.slots, counts);
            if self.frame.spec.lateness > 0 {
                set.remember(window, &self.merged.slots, counts);
                self.noted.extend_from_slice(&self.merged.slots);
            }
        }
        self.emit(window, mark, keys, out);
        self.merged.clear(&self.layout);
    }

    fn emit(&mut self, window: i64, mark: Time, keys: &KeyTable, out: &mut Outputs) {
        if self.merged.slots.is_empty() {
            return;
        }
        let bounds = self.frame.bounds(window);
        let port = &mut out.ports[MAIN];
        let (layout, merged) = (&self.layout, &mut self.merged);
        let overflows = self.emitter.emit(layout, merged, &self.counts, keys, bounds, port);
        self.ledger.overflows += overflows;
        port.stamp(bounds.1 - 1, mark);
    }
}
