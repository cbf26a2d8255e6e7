//! From a checked pattern to its automaton, state for state as Flink's NFACompiler builds it
//! (org.apache.flink.cep.nfa.compiler, version 2.3), with what is odd in it: matches depend on
//! these details, and they are the contract.
//!
//! The pattern is walked from its end to its start. A state has edges in a fixed order:
//! - TAKE: the row is added to the partial match, which goes on in the edge's target;
//! - IGNORE: the row is passed over;
//! - PROCEED: the target's edges are tried too, as if they were the state's own.
//!
//! Compilation then follows all PROCEED edges once, so that a state of the finished automaton has
//! TAKE and IGNORE edges only ([`super::Nfa`]).

use super::cond::Cond;
use super::{Kind, NO_STEP};
use crate::ops::pattern::ast::{Ast, Contiguity, Inner, Step};
use crate::ops::pattern::check::is_optional;

/// What an edge does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Take,
    Ignore,
    Proceed,
}

/// An edge as it is built.
#[derive(Clone, Debug)]
pub(super) struct DraftEdge {
    pub action: Action,
    pub target: usize,
    pub cond: Cond,
}

/// A state as it is built.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub kind: Kind,
    /// The step whose rows its TAKE edges take.
    pub step: u32,
    pub edges: Vec<DraftEdge>,
}

/// Flink's ConsumingStrategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consuming {
    Strict,
    SkipTillNext,
    SkipTillAny,
    NotNext,
    NotFollow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantity {
    Single,
    /// `from..=to` times.
    Times(usize, usize),
    /// At least so often.
    Loop(usize),
}

/// A step with its quantifier worked out.
struct Part {
    /// Its own number among all steps and groups.
    id: usize,
    /// Number of a single step; [`NO_STEP`] for a group.
    step: u32,
    cond: Cond,
    until: Option<Cond>,
    consuming: Consuming,
    inner: Consuming,
    quantity: Quantity,
    optional: bool,
    greedy: bool,
    group: Vec<Part>,
}

fn parts(steps: &[Step], next_step: &mut u32, next_id: &mut usize) -> Vec<Part> {
    let mut made = Vec::with_capacity(steps.len());
    for step in steps {
        let id = *next_id;
        *next_id += 1;
        let (number, group) = match &step.group {
            Some(inner) => (NO_STEP, parts(inner, next_step, next_id)),
            None => {
                *next_step += 1;
                (*next_step - 1, Vec::new())
            }
        };
        made.push(Part {
            id,
            step: number,
            cond: step.condition.map_or_else(Cond::always, Cond::test),
            until: step.until.map(Cond::test),
            consuming: match step.contiguity {
                None | Some(Contiguity::Next) => Consuming::Strict,
                Some(Contiguity::FollowedBy) => Consuming::SkipTillNext,
                Some(Contiguity::FollowedByAny) => Consuming::SkipTillAny,
                Some(Contiguity::NotNext) => Consuming::NotNext,
                Some(Contiguity::NotFollowedBy) => Consuming::NotFollow,
            },
            inner: match step.inner.unwrap_or_default() {
                Inner::Relaxed => Consuming::SkipTillNext,
                Inner::Consecutive => Consuming::Strict,
                Inner::AllowCombinations => Consuming::SkipTillAny,
            },
            quantity: match step.times {
                None => Quantity::Single,
                Some(times) => match times.max {
                    None => Quantity::Loop(times.min.max(1) as usize),
                    Some(max) => Quantity::Times(times.min.max(1) as usize, max.max(1) as usize),
                },
            },
            optional: is_optional(step),
            greedy: step.greedy,
            group,
        });
    }
    made
}

/// The states of a checked pattern; the second value is the start state's place.
pub(super) fn build(ast: &Ast) -> (Vec<Draft>, usize) {
    let parts = parts(&ast.steps, &mut 0, &mut 0);
    let mut builder = Builder {
        states: Vec::new(),
        stops: Vec::new(),
        originals: Vec::new(),
        has_bound: ast.within.bound().is_some(),
        level: &parts,
        at: parts.len() - 1,
        following: None,
        group: None,
        not_first: Vec::new(),
    };
    let end = builder.state(Kind::Final, NO_STEP);
    let sink = builder.middle(end);
    let start = builder.convert(sink);
    builder.states[start].kind = Kind::Start;
    (builder.states, start)
}

struct Builder<'p> {
    states: Vec<Draft>,
    /// Stop states by the not step that they belong to.
    stops: Vec<(u32, usize)>,
    /// Copies of states from before a greedy condition was added to them.
    originals: Vec<(usize, usize)>,
    has_bound: bool,
    level: &'p [Part],
    at: usize,
    following: Option<&'p Part>,
    group: Option<&'p Part>,
    /// Groups that are being built for a repeat other than the first.
    not_first: Vec<usize>,
}

impl<'p> Builder<'p> {
    fn current(&self) -> &'p Part {
        &self.level[self.at]
    }

    fn state(&mut self, kind: Kind, step: u32) -> usize {
        self.states.push(Draft { kind, step, edges: Vec::new() });
        self.states.len() - 1
    }

    fn edge(&mut self, from: usize, action: Action, target: usize, cond: Cond) {
        self.states[from].edges.push(DraftEdge { action, target, cond });
    }

    /// All states of the level under way but those of its first step.
    fn middle(&mut self, sink: usize) -> usize {
        let mut last = sink;
        while self.at > 0 {
            let part = self.current();
            match part.consuming {
                Consuming::NotFollow => last = self.pending(part, last),
                Consuming::NotNext => {
                    let not_next = self.state(Kind::Normal, part.step);
                    let cond = self.take_cond(part);
                    let stop = self.stop(part, &cond);
                    let pass = if self.states[last].kind == Kind::Final {
                        Action::Ignore
                    } else {
                        Action::Proceed
                    };
                    self.edge(not_next, pass, last, cond.negated());
                    self.edge(not_next, Action::Proceed, stop, cond);
                    last = not_next;
                }
                _ => last = self.convert(last),
            }
            self.following = Some(part);
            self.at -= 1;
        }
        last
    }

    /// A last not_followed_by waits for its time; elsewhere it is a condition of other edges.
    fn pending(&mut self, part: &'p Part, last: usize) -> usize {
        if !self.has_bound || self.states[last].kind != Kind::Final {
            return last;
        }
        let pending = self.state(Kind::Pending, part.step);
        let cond = self.take_cond(part);
        let stop = self.stop(part, &cond);
        self.edge(pending, Action::Proceed, stop, cond.clone());
        self.edge(pending, Action::Ignore, pending, cond.negated());
        pending
    }

    fn convert(&mut self, sink: usize) -> usize {
        let part = self.current();
        let first = match part.quantity {
            Quantity::Loop(from) => {
                self.set_first(part, false);
                let free = self.without_nots(sink);
                let looping = self.looping(free);
                self.set_first(part, true);
                self.times(looping, sink, from, from)
            }
            Quantity::Times(from, to) => self.times(sink, sink, from, to),
            Quantity::Single => {
                let (take, ignore) = (self.take_cond(part), self.ignore_cond(part));
                self.singleton(sink, Some(sink), take, ignore, part.optional)
            }
        };
        self.add_stops(first);
        first
    }

    fn times(&mut self, sink: usize, proceed: usize, from: usize, to: usize) -> usize {
        let part = self.current();
        let mut last = sink;
        self.set_first(part, false);
        let inner_ignore = self.inner_ignore_cond(part);
        let inner_ignore = until_ignore(inner_ignore, part.until.as_ref());
        let take = until_take(self.take_cond(part), part.until.as_ref());
        if part.greedy && from != to {
            if part.until.is_some() {
                let copy = self.copy(sink);
                self.set_original(sink, copy);
            }
            self.make_greedy(sink, &take);
        }
        for _ in from..to {
            last = self.singleton(last, Some(proceed), take.clone(), inner_ignore.clone(), true);
            self.add_stop_to_loop(last);
        }
        for _ in 1..from {
            last = self.singleton(last, None, take.clone(), inner_ignore.clone(), false);
            self.add_stop_to_loop(last);
        }
        self.set_first(part, true);
        let ignore = self.ignore_cond(part);
        self.singleton(last, Some(proceed), take, ignore, part.optional)
    }

    /// A state that takes one row. `proceed` is where it may pass to without one, if `optional`.
    fn singleton(
        &mut self,
        sink: usize,
        proceed: Option<usize>,
        take: Cond,
        ignore: Option<Cond>,
        optional: bool,
    ) -> usize {
        let part = self.current();
        if !part.group.is_empty() {
            return self.group_once(part, sink, proceed, optional);
        }
        let state = self.state(Kind::Normal, part.step);
        let sink = self.without_nots(sink);
        self.edge(state, Action::Take, sink, take.clone());
        if optional {
            let proceed = proceed.expect("an optional state has a state to proceed to");
            self.proceed_past(state, proceed, part);
        }
        if let Some(ignore) = ignore {
            let mut waiting = state;
            if optional || self.heads_optional_group() {
                waiting = self.state(Kind::Normal, part.step);
                self.edge(waiting, Action::Take, sink, take);
                self.edge(waiting, Action::Ignore, waiting, ignore.clone());
                self.add_stops(waiting);
            }
            self.edge(state, Action::Ignore, waiting, ignore);
        }
        state
    }

    fn proceed_past(&mut self, state: usize, proceed: usize, part: &Part) {
        let pass = self.true_cond();
        match &part.until {
            Some(until) if part.greedy => {
                if let Some(original) = self.original(proceed) {
                    self.edge(state, Action::Proceed, original, pass.and(until));
                }
                self.edge(state, Action::Proceed, proceed, pass.and(&until.negated()));
            }
            _ => self.edge(state, Action::Proceed, proceed, pass),
        }
    }

    fn group_once(
        &mut self,
        part: &'p Part,
        sink: usize,
        proceed: Option<usize>,
        optional: bool,
    ) -> usize {
        let pass = self.true_cond();
        let first = self.inside(part, sink);
        if optional {
            let proceed = proceed.expect("an optional state has a state to proceed to");
            self.edge(first, Action::Proceed, proceed, pass);
        }
        first
    }

    /// Builds the steps of a group in front of `sink` and gives the first one's state.
    fn inside(&mut self, part: &'p Part, sink: usize) -> usize {
        let outer = (self.level, self.at, self.following, self.group);
        self.level = &part.group;
        self.at = part.group.len() - 1;
        self.group = Some(part);
        let last = self.middle(sink);
        let first = self.convert(last);
        (self.level, self.at, self.following, self.group) = outer;
        first
    }

    fn looping(&mut self, sink: usize) -> usize {
        let part = self.current();
        if !part.group.is_empty() {
            let pass = self.true_cond();
            let again = self.state(Kind::Normal, NO_STEP);
            let first = self.inside(part, again);
            self.edge(first, Action::Proceed, sink, pass.clone());
            self.edge(again, Action::Proceed, first, pass);
            return first;
        }
        let until = part.until.as_ref();
        let ignore = until_ignore(self.inner_ignore_cond(part), until);
        let take = until_take(self.take_cond(part), until);
        let pass = self.true_cond();
        let state = self.state(Kind::Normal, part.step);
        match until {
            Some(until) if part.greedy => {
                let copy = self.copy(sink);
                self.edge(state, Action::Proceed, copy, pass.and(until));
                self.set_original(sink, copy);
                self.edge(state, Action::Proceed, sink, pass.and(&until.negated()));
            }
            _ => self.edge(state, Action::Proceed, sink, pass),
        }
        if part.greedy {
            let plain = self.take_cond(part);
            self.make_greedy(sink, &plain);
        }
        self.edge(state, Action::Take, state, take.clone());
        self.add_stop_to_loop(state);
        if let Some(ignore) = ignore {
            let waiting = self.state(Kind::Normal, part.step);
            self.edge(waiting, Action::Take, state, take);
            self.edge(waiting, Action::Ignore, waiting, ignore.clone());
            self.edge(state, Action::Ignore, waiting, ignore);
            self.add_stop_to_loop(waiting);
        }
        state
    }
}

/// The side of the builder that deals with negation, greed and groups' heads.
impl<'p> Builder<'p> {
    fn stop(&mut self, part: &Part, cond: &Cond) -> usize {
        if let Some(&(_, stop)) = self.stops.iter().find(|(step, _)| *step == part.step) {
            return stop;
        }
        let stop = self.state(Kind::Stop, part.step);
        self.edge(stop, Action::Take, stop, cond.clone());
        self.stops.push((part.step, stop));
        stop
    }

    /// The not_followed_by steps that still hold in front of the current step: the one directly
    /// before it, and those that optional steps let through.
    fn current_nots(&self) -> Vec<&'p Part> {
        let mut found = Vec::new();
        for at in (0..self.at).rev() {
            let before = &self.level[at];
            if before.consuming == Consuming::NotFollow {
                found.push(before);
            } else if !before.optional {
                break;
            }
        }
        found
    }

    fn add_stops(&mut self, state: usize) {
        for part in self.current_nots() {
            let cond = self.take_cond(part);
            let stop = self.stop(part, &cond);
            self.edge(state, Action::Proceed, stop, cond);
        }
    }

    fn add_stop_to_loop(&mut self, state: usize) {
        if let Some(part) = self.following
            && part.consuming == Consuming::NotFollow
        {
            let cond = self.take_cond(part);
            let stop = self.stop(part, &cond);
            self.edge(state, Action::Proceed, stop, cond);
        }
    }

    /// Taking a row for an optional step ends the not_followed_by before it: from there on a copy
    /// of the states behind is used, without their edges to these steps' stop states.
    fn without_nots(&mut self, sink: usize) -> usize {
        let nots = self.current_nots();
        if nots.is_empty() || !self.current().optional {
            return sink;
        }
        let draft = self.states[sink].clone();
        let copy = self.state(draft.kind, draft.step);
        for edge in draft.edges {
            let mut target = edge.target;
            if edge.action == Action::Proceed {
                let to = &self.states[target];
                if to.kind != Kind::Stop {
                    target = self.without_nots(target);
                } else if nots.iter().any(|part| part.step == to.step) {
                    continue;
                }
            } else if target == sink {
                target = copy;
            }
            self.edge(copy, edge.action, target, edge.cond);
        }
        copy
    }

    fn copy(&mut self, state: usize) -> usize {
        let draft = self.states[state].clone();
        let copy = self.state(draft.kind, draft.step);
        for edge in draft.edges {
            let target = if edge.target == state { copy } else { edge.target };
            self.edge(copy, edge.action, target, edge.cond);
        }
        copy
    }

    fn set_original(&mut self, state: usize, original: usize) {
        self.originals.retain(|&(of, _)| of != state);
        self.originals.push((state, original));
    }

    fn original(&self, state: usize) -> Option<usize> {
        let found = self.originals.iter().find(|&&(of, _)| of == state);
        found.map(|&(_, original)| original)
    }

    /// What the loop takes, nothing behind it may.
    fn make_greedy(&mut self, state: usize, take: &Cond) {
        let not = take.negated();
        for edge in &mut self.states[state].edges {
            edge.cond = edge.cond.and(&not);
        }
    }

    fn set_first(&mut self, part: &Part, first: bool) {
        if !part.group.is_empty() {
            self.not_first.retain(|&id| id != part.id);
            if !first {
                self.not_first.push(part.id);
            }
        }
    }

    fn heads_group(&self, part: &Part) -> Option<&'p Part> {
        let is_head = self.level.first().is_some_and(|head| head.id == part.id);
        self.group.filter(|_| is_head)
    }

    fn is_first_of_loop(&self, group: &Part) -> bool {
        !self.not_first.contains(&group.id)
    }

    fn heads_optional_group(&self) -> bool {
        self.heads_group(self.current())
            .is_some_and(|group| self.is_first_of_loop(group) && group.optional)
    }

    fn group_until(&self) -> Option<&'p Cond> {
        self.group.and_then(|group| group.until.as_ref())
    }

    fn ignore_by(&self, consuming: Consuming, part: &Part) -> Option<Cond> {
        let cond = match consuming {
            Consuming::SkipTillNext => Some(part.cond.negated()),
            Consuming::SkipTillAny => Some(Cond::always()),
            _ => None,
        };
        until_ignore(cond, self.group_until())
    }

    /// What may be passed over between repeats.
    fn inner_ignore_cond(&self, part: &Part) -> Option<Cond> {
        let group = self.heads_group(part);
        let consuming = group.map_or(part.inner, |group| group.inner);
        self.ignore_by(consuming, part)
    }

    /// What may be passed over before the step's first row.
    fn ignore_cond(&self, part: &Part) -> Option<Cond> {
        let consuming = match self.heads_group(part) {
            Some(group) if self.is_first_of_loop(group) => group.consuming,
            Some(group) => group.inner,
            None => part.consuming,
        };
        self.ignore_by(consuming, part)
    }

    fn take_cond(&self, part: &Part) -> Cond {
        until_take(part.cond.clone(), self.group_until())
    }

    fn true_cond(&self) -> Cond {
        until_take(Cond::always(), self.group_until())
    }
}

fn until_take(cond: Cond, until: Option<&Cond>) -> Cond {
    match until {
        Some(until) => until.negated().and(&cond),
        None => cond,
    }
}

fn until_ignore(cond: Option<Cond>, until: Option<&Cond>) -> Option<Cond> {
    cond.map(|cond| until_take(cond, until))
}
