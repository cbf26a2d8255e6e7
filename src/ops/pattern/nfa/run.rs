//! Runs an automaton over the rows of each key, as Flink's NFA does (doProcess, computeNextStates,
//! advanceTime of org.apache.flink.cep.nfa.NFA, version 2.3), but with one number a row in place
//! of versions: partial matches that branch share their rows by a linked list.
//!
//! With a skip strategy a match is *held* while a partial match that began earlier is open; it is
//! put out, or pruned, when that one ends.
//!
//! Flink lets time pass for a key when the key's next row comes: all partial matches whose time is
//! over by then are reported together, also those that a match which one of them held back would
//! have pruned. Here time passes at each deadline, wherever watermarks fall; so what is pruned by
//! a match that time let go stays as a *ghost* until the key's next row, only to be reported.
//!
//! 1. Before a row at t, every deadline up to t has been met; deadlines are met in their order.
//! 2. A row is kept only if a partial match takes it.

use super::heap;
use super::store::{NO_DEADLINE, NONE, Node, Partial, Store};
use super::{Cubes, Edge, Kind, Nfa};
use crate::expr::{Condition, Value};
use crate::ground::batch::RecordBatch;
use crate::ground::time::Time;
use crate::ops::KeyedRows;
use crate::ops::pattern::ast::Within;
use crate::ops::pattern::refs::{NULL, Ref, Rows};
use crate::ops::pattern::select::Selector;

/// What a match does to others; steps by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    None,
    ToNext,
    PastLast,
    ToFirst(u32),
    ToLast(u32),
}

/// Tests that read what the partial match has taken.
pub struct Tests {
    pub conditions: Vec<Condition>,
    /// The references of each condition.
    pub refs: Vec<Vec<Ref>>,
    /// One bit for each condition that has any.
    pub dynamic: u64,
}

/// The row being handled.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    pub batch: &'a RecordBatch,
    pub row: usize,
    pub time: Time,
    /// Tests that it meets as far as they read only the row.
    pub tests: u64,
}

/// Where matches go.
pub struct Found {
    pub matches: Selector,
    /// `None`: nobody wants partial matches that time out.
    pub timed_out: Option<Selector>,
}

/// An automaton with the state of its keys.
pub struct Machine {
    pub nfa: Nfa,
    pub store: Store,
    pub tests: Tests,
    pub within: Within,
    pub skip: Skip,
    /// So many open partial matches, and matches held, a key may have.
    pub partials_max: usize,
    /// Partial matches given up beyond that.
    pub given_up: u64,
    partials: Vec<Partial>,
    next: Vec<Partial>,
    ready: Vec<Partial>,
    reported: Vec<u32>,
}

/// The rows of a partial match.
pub struct Chain<'a> {
    pub store: &'a Store,
    pub node: u32,
}

impl Rows for Chain<'_> {
    type Row = u32;

    fn newest_first(&self, step: Option<u32>) -> impl Iterator<Item = u32> {
        let mut at = self.node;
        std::iter::from_fn(move || {
            while at != NONE {
                let Node { prev, event, step: of, .. } = self.store.node(at);
                at = prev;
                if step.is_none_or(|step| step == of) {
                    return Some(event);
                }
            }
            None
        })
    }

    fn value(&self, row: u32, place: usize) -> Value<'_> {
        let kept = self.store.value(row, place);
        Value { slot: kept.slot, null: kept.null, heap: kept.heap }
    }
}

/// What is known of the tests' truth for one row and one partial match.
struct Truth<'a> {
    tests: &'a Tests,
    event: Event<'a>,
    node: u32,
    known: u64,
    truth: u64,
}

impl<'a> Truth<'a> {
    fn new(tests: &'a Tests, event: Event<'a>, node: u32) -> Truth<'a> {
        // A dynamic test whose row part is false is false.
        Truth {
            tests,
            event,
            node,
            known: !(tests.dynamic & event.tests),
            truth: event.tests & !tests.dynamic,
        }
    }

    #[inline(always)]
    fn any(&mut self, nfa: &Nfa, cubes: Cubes, store: &Store) -> bool {
        nfa.cubes(cubes).iter().any(|cube| {
            let (truth, known) = (self.truth, self.known);
            if cube.must & known & !truth != 0 || cube.not & truth != 0 {
                return false;
            }
            let open = (cube.must | cube.not) & !known;
            open == 0 || (self.settle(open, store) && cube.holds(self.truth))
        })
    }

    /// Works out tests; always true.
    #[cold]
    fn settle(&mut self, mut open: u64, store: &Store) -> bool {
        while open != 0 {
            let i = open.trailing_zeros() as usize;
            open &= open - 1;
            self.known |= 1 << i;
            self.truth |= u64::from(self.test(i, store)) << i;
        }
        true
    }

    fn test(&self, i: usize, store: &Store) -> bool {
        test_rest(self.tests, i, self.event, &Chain { store, node: self.node })
    }
}

/// The part of test `i` that reads what was taken.
pub fn test_rest<R: Rows>(tests: &Tests, i: usize, event: Event<'_>, rows: &R) -> bool {
    let Some(rest) = &tests.conditions[i].rest else {
        return true;
    };
    let refs = &tests.refs[i];
    const FEW: usize = 4;
    if refs.len() <= FEW {
        let mut values = [NULL; FEW];
        for (value, of) in values.iter_mut().zip(refs) {
            *value = of.scalar(rows);
        }
        rest.test(event.batch, event.row, &values[..refs.len()])
    } else {
        let values: Vec<Value<'_>> = refs.iter().map(|of| of.scalar(rows)).collect();
        rest.test(event.batch, event.row, &values)
    }
}

impl Machine {
    /// A machine without any key.
    pub fn new(nfa: Nfa, store: Store, tests: Tests, within: Within, skip: Skip) -> Machine {
        Machine {
            nfa,
            store,
            tests,
            within,
            skip,
            partials_max: usize::MAX,
            given_up: 0,
            partials: Vec::new(),
            next: Vec::new(),
            ready: Vec::new(),
            reported: Vec::new(),
        }
    }

    /// Handles the rows of a call that `touched` names: `tests` has a word for every row.
    pub fn rows(
        &mut self,
        keyed: &KeyedRows<'_>,
        tests: &[u64],
        touched: &[u32],
        found: &mut Found,
    ) {
        const AHEAD: usize = 16;
        let rows = &keyed.rows;
        for (at, &i) in touched.iter().enumerate() {
            if let Some(&ahead) = touched.get(at + AHEAD) {
                self.store.prefetch(keyed.slots[ahead as usize]);
            }
            let i = i as usize;
            let time = rows.times[i];
            if self.store.next_deadline() <= time {
                self.advance_to(time, found);
            }
            let event =
                Event { batch: rows.records, row: rows.select[i] as usize, time, tests: tests[i] };
            self.row(keyed.slots[i], event, found);
        }
    }

    /// Handles a row of the key at `slot`.
    pub fn row(&mut self, slot: u32, event: Event<'_>, found: &mut Found) {
        self.store.forget_ghosts(slot);
        self.partials.clear();
        self.partials.extend_from_slice(self.store.partials(slot));
        if self.partials.is_empty() {
            if !self.nfa.may_start(event.tests) {
                return;
            }
            self.partials.push(Partial::start(self.nfa.start));
        }
        self.next.clear();
        self.ready.clear();
        let (mut kept, mut changed) = (NONE, false);
        for i in 0..self.partials.len() {
            changed |= self.advance(self.partials[i], event, &mut kept);
        }
        if changed {
            if self.partials_max < usize::MAX {
                self.give_up(slot);
            }
            if self.skip == Skip::None {
                for partial in &self.ready {
                    let node = partial.node;
                    let store = &self.store;
                    found.matches.add(&Chain { store, node }, event.time);
                }
                for i in 0..self.ready.len() {
                    self.store.release(self.ready[i].node);
                }
            } else {
                self.skip_matches(slot, event.time, false, found);
            }
            self.store.set_partials(slot, &self.next);
            self.arm(slot);
        }
        if kept != NONE {
            self.store.release_event(kept);
        }
    }

    /// Ends the partial matches in `next` that began first, until the key has no more than it may,
    /// with the matches that they hold back. The start state's is not one.
    fn give_up(&mut self, slot: u32) {
        let held = self.store.held.get(&slot).map_or(0, Vec::len);
        let most = self.partials_max.saturating_sub(held);
        while self.next.len().saturating_sub(1) > most {
            let Some(first) = self.next.first().filter(|first| !first.is_start()) else { return };
            self.store.release(first.node);
            heap::pop(&mut self.next);
            self.given_up += 1;
        }
    }

    /// Moves one partial match on; whether it is other than it was.
    fn advance(&mut self, old: Partial, event: Event<'_>, kept: &mut u32) -> bool {
        let mut truth = Truth::new(&self.tests, event, old.node);
        let mut pushed = Pushed::default();
        let mut stopped = false;
        for edge in self.nfa.edges(old.state) {
            if !truth.any(&self.nfa, edge.when, &self.store) {
                continue;
            }
            if !edge.take {
                if !old.is_start() {
                    let state = edge.target;
                    pushed.add(edge.target_kind, Partial { state, ..old });
                    self.store.lock(old.node);
                }
                continue;
            }
            if *kept == NONE {
                *kept = self.store.keep(event.batch, event.row, event.time);
            }
            let new = take(&mut self.store, old, edge, event.time, *kept);
            pushed.add(edge.target_kind, new);
            if truth.any(&self.nfa, edge.ends, &self.store) {
                self.store.lock(new.node);
                pushed.add(Kind::Final, new);
            }
        }
        let same = pushed.is_only(old);
        for i in 0..pushed.len() {
            let (kind, new) = pushed.get(i);
            match kind {
                Kind::Final => heap::push(&mut self.ready, new),
                Kind::Stop => {
                    stopped = true;
                    self.store.release(new.node);
                }
                _ => {}
            }
        }
        for i in 0..pushed.len() {
            let (kind, new) = pushed.get(i);
            if matches!(kind, Kind::Final | Kind::Stop) {
                continue;
            }
            if stopped {
                self.store.release(new.node);
            } else {
                heap::push(&mut self.next, new);
            }
        }
        if old.is_start() {
            heap::push(&mut self.next, old);
            return pushed.len() > 0;
        }
        self.store.release(old.node);
        !same
    }
}

/// Adds a row to a partial match; the result holds its node.
fn take(store: &mut Store, old: Partial, edge: &Edge, time: Time, event: u32) -> Partial {
    let node = store.chain(old.node, event, edge.step);
    store.lock(node);
    let (seq, start) = if old.is_start() { (store.seq(event), time) } else { (old.seq, old.start) };
    Partial { seq, start, node, state: edge.target }
}

/// What one partial match becomes: few, so they stay on the stack; more go to a vector.
#[derive(Default)]
struct Pushed {
    count: usize,
    few: [Option<(Kind, Partial)>; 4],
    more: Vec<(Kind, Partial)>,
}

impl Pushed {
    #[inline(always)]
    fn add(&mut self, kind: Kind, partial: Partial) {
        match self.few.get_mut(self.count) {
            Some(place) => *place = Some((kind, partial)),
            None => self.more.push((kind, partial)),
        }
        self.count += 1;
    }

    fn len(&self) -> usize {
        self.count
    }

    #[inline(always)]
    fn get(&self, i: usize) -> (Kind, Partial) {
        match self.few.get(i) {
            Some(place) => place.expect("places below the count are filled"),
            None => self.more[i - self.few.len()],
        }
    }

    fn is_only(&self, partial: Partial) -> bool {
        self.count == 1 && self.get(0).1 == partial
    }
}

/// Time and skipping.
impl Machine {
    /// Meets every deadline up to `time`, in order.
    pub fn advance_to(&mut self, time: Time, found: &mut Found) {
        while let Some((at, slot)) = self.store.due(time) {
            self.expire(slot, at, found);
        }
    }

    /// As [`Machine::advance_to`], for one key.
    pub fn advance_slot(&mut self, slot: u32, time: Time, found: &mut Found) {
        while let Some(at) = self.store.disarm(slot, time) {
            self.expire(slot, at, found);
        }
    }

    /// When a partial match times out.
    fn deadline(&self, partial: &Partial) -> Time {
        if partial.is_start() {
            return NO_DEADLINE;
        }
        match self.within {
            Within::FirstAndLast(ms) if ms > 0 => partial.start.saturating_add(ms),
            Within::PreviousAndCurrent(ms) if ms > 0 => {
                let event = self.store.node(partial.node).event;
                self.store.time(event).saturating_add(ms)
            }
            _ => NO_DEADLINE,
        }
    }

    /// Sets the key's timer to its earliest deadline. Expects its partial matches in `next`.
    fn arm(&mut self, slot: u32) {
        let first = match self.within {
            // The heap's first element began first.
            Within::FirstAndLast(ms) if ms > 0 => self.next.first().map(|p| self.deadline(p)),
            Within::PreviousAndCurrent(ms) if ms > 0 => {
                self.next.iter().map(|p| self.deadline(p)).min()
            }
            _ => None,
        };
        let ghosts = if self.store.ghosts.is_empty() { None } else { self.store.ghosts.get(&slot) };
        let ghosts = ghosts.into_iter().flatten().map(|ghost| self.deadline(ghost));
        if let Some(deadline) = ghosts.chain(first).min()
            && deadline != NO_DEADLINE
        {
            self.store.arm(slot, deadline);
        }
    }

    /// Ends the key's partial matches whose time is over at `time`.
    fn expire(&mut self, slot: u32, time: Time, found: &mut Found) {
        self.partials.clear();
        self.partials.extend_from_slice(self.store.partials(slot));
        self.next.clear();
        self.ready.clear();
        self.reported.clear();
        for i in 0..self.partials.len() {
            let partial = self.partials[i];
            if self.deadline(&partial) > time {
                heap::push(&mut self.next, partial);
            } else if self.nfa.kinds[partial.state as usize] == Kind::Pending {
                heap::push(&mut self.ready, partial);
            } else {
                self.report(partial, time, found);
                self.partials[i].state = u32::MAX;
            }
        }
        for i in 0..self.partials.len() {
            if self.partials[i].state == u32::MAX {
                self.store.release(self.partials[i].node);
            }
        }
        self.report_ghosts(slot, time, found);
        self.skip_matches(slot, time, true, found);
        self.store.set_partials(slot, &self.next);
        self.arm(slot);
    }

    /// Puts out a partial match that timed out; each chain of rows once.
    fn report(&mut self, partial: Partial, time: Time, found: &mut Found) {
        let Some(timed_out) = &mut found.timed_out else { return };
        if !self.reported.contains(&partial.node) {
            self.reported.push(partial.node);
            let (store, node) = (&self.store, partial.node);
            timed_out.add(&Chain { store, node }, time);
        }
    }

    fn report_ghosts(&mut self, slot: u32, time: Time, found: &mut Found) {
        let Some(mut ghosts) = self.store.ghosts.remove(&slot) else { return };
        for ghost in &ghosts {
            if self.deadline(ghost) <= time {
                self.report(*ghost, time, found);
                self.store.release(ghost.node);
            }
        }
        ghosts.retain(|ghost| self.deadline(ghost) > time);
        if !ghosts.is_empty() {
            self.store.ghosts.insert(slot, ghosts);
        }
    }

    /// Whether a partial match that a match prunes at a deadline is to be kept as a ghost.
    fn is_ghost(&self, partial: &Partial) -> bool {
        self.nfa.kinds[partial.state as usize] != Kind::Pending
            && self.deadline(partial) != NO_DEADLINE
    }

    /// Puts out the matches in `ready`, and those held before, that no earlier partial match in
    /// `next` holds back, and prunes what each of them skips.
    fn skip_matches(&mut self, slot: u32, time: Time, by_time: bool, found: &mut Found) {
        let mut done = std::mem::take(&mut self.ready);
        if let Some(mut held) = self.store.held.remove(&slot) {
            for &partial in &done {
                heap::push(&mut held, partial);
            }
            done.clear();
            done.append(&mut held);
        }
        while let Some(first) = done.first().copied() {
            let earliest = self.next.first().map_or(u64::MAX, |partial| partial.seq);
            if self.skip != Skip::None && earliest < first.seq {
                break;
            }
            heap::pop(&mut done);
            if let Some((at, inclusive)) = self.prune_point(first.node) {
                let below = |p: &Partial| p.seq < at || (inclusive && p.seq == at);
                if by_time && found.timed_out.is_some() {
                    for partial in self.next.iter().filter(|p| !p.is_start() && below(p)) {
                        if self.is_ghost(partial) {
                            self.store.lock(partial.node);
                            self.store.ghosts.entry(slot).or_default().push(*partial);
                        }
                    }
                }
                for list in [&mut self.next, &mut done] {
                    for partial in list.iter().filter(|p| !p.is_start() && below(p)) {
                        self.store.release(partial.node);
                    }
                    heap::retain(list, |p| p.is_start() || !below(p));
                }
            }
            let (store, node) = (&self.store, first.node);
            found.matches.add(&Chain { store, node }, time);
            self.store.release(first.node);
        }
        if done.is_empty() {
            self.ready = done;
        } else {
            self.store.held.insert(slot, done);
        }
    }

    /// The row up to which a match ends partial matches that began there, and whether those that
    /// began at it end too.
    fn prune_point(&self, node: u32) -> Option<(u64, bool)> {
        let store = &self.store;
        let chain = Chain { store, node };
        let event = match self.skip {
            Skip::None => None,
            Skip::ToNext => return chain.newest_first(None).last().map(|e| (store.seq(e), true)),
            Skip::PastLast => return chain.newest_first(None).next().map(|e| (store.seq(e), true)),
            Skip::ToFirst(step) => chain.newest_first(Some(step)).last(),
            Skip::ToLast(step) => chain.newest_first(Some(step)).next(),
        };
        event.map(|event| (store.seq(event), false))
    }
}
