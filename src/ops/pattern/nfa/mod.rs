//! The automaton of a pattern, finished: states whose edges take a row or pass it over.
//!
//! 1. Edges of a state stand in the order in which Flink tries them; PROCEED edges are followed
//!    already, their conditions are in the edges that they lead to.
//! 2. No state has an edge whose condition is false whatever the row.
//! 3. The start state stays open for ever; it takes rows, it never passes one over.

pub mod compile;
pub mod cond;
pub mod draw;
pub mod heap;
pub mod run;
pub mod save;
pub mod store;

use super::ast::Ast;
use crate::ground::limits::PATTERN_EDGES_MAX;
use compile::{Action, Draft};
use cond::{Cond, Cube};

/// The step of a state that takes for no step.
pub const NO_STEP: u32 = u32::MAX;

/// What a state is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Start,
    Normal,
    /// Reached: a match.
    Final,
    /// Reached: the partial match ends.
    Stop,
    /// A last not_followed_by: a match when its time is over.
    Pending,
}

/// An edge that takes a row (`take`) or passes it over.
#[derive(Clone, Copy, Debug)]
pub struct Edge {
    pub when: Cubes,
    pub take: bool,
    pub target: u32,
    pub target_kind: Kind,
    /// The step that the row is taken for.
    pub step: u32,
    /// When the taken row also makes a match, because only what may be left out follows.
    pub ends: Cubes,
}

/// A condition's cubes in [`Nfa::cubes`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Cubes {
    first: u32,
    count: u32,
}

/// An automaton.
#[derive(Clone, Debug)]
pub struct Nfa {
    pub start: u32,
    pub kinds: Vec<Kind>,
    edges: Vec<Edge>,
    /// Edges of state s: `firsts[s]..firsts[s + 1]`.
    firsts: Vec<u32>,
    cubes: Vec<Cube>,
    /// When a row may start a partial match, given which tests it may meet.
    starts: Cond,
    /// Rows that meet no test start and change no partial match.
    pub blank_is_idle: bool,
    pub has_pending: bool,
}

/// The pattern needs an automaton beyond the limit.
#[derive(Debug, thiserror::Error)]
#[error("the pattern's automaton would have more than {PATTERN_EDGES_MAX} edges")]
pub struct TooLarge;

impl Nfa {
    /// Builds the automaton of a pattern that [`super::check::check`] passed. `dynamic` are the
    /// tests that depend on the partial match.
    ///
    /// # Errors
    /// [`TooLarge`].
    pub fn new(ast: &Ast, dynamic: u64) -> Result<Nfa, TooLarge> {
        if size(&ast.steps) > PATTERN_EDGES_MAX / 8 {
            return Err(TooLarge);
        }
        let (drafts, start) = compile::build(ast);
        let mut nfa = Nfa {
            start: start as u32,
            kinds: drafts.iter().map(|draft| draft.kind).collect(),
            edges: Vec::new(),
            firsts: vec![0],
            cubes: Vec::new(),
            starts: Cond(Vec::new()),
            blank_is_idle: false,
            has_pending: drafts.iter().any(|draft| draft.kind == Kind::Pending),
        };
        let mut flat = Vec::new();
        for state in 0..drafts.len() {
            flat.push(flatten(&drafts, state)?);
            for edge in &flat[state] {
                let edge = nfa.finish(&drafts, edge);
                nfa.edges.push(edge);
            }
            nfa.firsts.push(nfa.edges.len() as u32);
            if nfa.edges.len() + nfa.cubes.len() > PATTERN_EDGES_MAX {
                return Err(TooLarge);
            }
        }
        nfa.starts = starts(&flat[start], dynamic);
        nfa.blank_is_idle = (0..drafts.len())
            .filter(|&state| matches!(drafts[state].kind, Kind::Normal | Kind::Pending))
            .all(|state| is_idle(&drafts, &flat, state))
            && !nfa.may_start(0);
        Ok(nfa)
    }

    /// Edges of a state.
    #[inline(always)]
    pub fn edges(&self, state: u32) -> &[Edge] {
        let at = state as usize;
        &self.edges[self.firsts[at] as usize..self.firsts[at + 1] as usize]
    }

    /// A condition's cubes.
    #[inline(always)]
    pub fn cubes(&self, of: Cubes) -> &[Cube] {
        &self.cubes[of.first as usize..(of.first + of.count) as usize]
    }

    /// Whether a row may start a partial match, given the tests that it may meet.
    #[inline(always)]
    pub fn may_start(&self, tests: u64) -> bool {
        self.starts.0.iter().any(|cube| cube.holds(tests))
    }

    fn finish(&mut self, drafts: &[Draft], edge: &Flat) -> Edge {
        let ends = if edge.take { ends(drafts, edge.target) } else { Cond(Vec::new()) };
        Edge {
            when: self.keep(&edge.cond),
            take: edge.take,
            target: edge.target as u32,
            target_kind: drafts[edge.target].kind,
            step: edge.step,
            ends: self.keep(&ends),
        }
    }

    fn keep(&mut self, cond: &Cond) -> Cubes {
        let first = self.cubes.len() as u32;
        self.cubes.extend_from_slice(&cond.0);
        let count = cond.0.len() as u32;
        Cubes { first, count }
    }
}

/// An edge with the conditions of the PROCEED edges that lead to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flat {
    take: bool,
    target: usize,
    step: u32,
    cond: Cond,
}

/// States that the steps will have, about.
fn size(steps: &[super::ast::Step]) -> usize {
    let one = |step: &super::ast::Step| {
        let times = step.times.map_or(1, |t| t.max.unwrap_or(t.min + 1).max(1)) as usize;
        let inner = step.group.as_ref().map_or(2, |inner| size(inner));
        inner.saturating_mul(times)
    };
    steps.iter().map(one).fold(2, usize::saturating_add)
}

/// Follows PROCEED edges in Flink's order: depth first, the last edge first.
fn flatten(drafts: &[Draft], state: usize) -> Result<Vec<Flat>, TooLarge> {
    let (mut found, mut open) = (Vec::new(), vec![(state, Cond::always())]);
    while let Some((at, path)) = open.pop() {
        for edge in &drafts[at].edges {
            let cond = path.and(&edge.cond);
            if cond.0.is_empty() {
                continue;
            }
            if edge.action == Action::Proceed {
                open.push((edge.target, cond));
            } else {
                found.push(Flat {
                    take: edge.action == Action::Take,
                    target: edge.target,
                    step: drafts[at].step,
                    cond,
                });
            }
        }
        if found.len() + open.len() > PATTERN_EDGES_MAX {
            return Err(TooLarge);
        }
    }
    Ok(found)
}

/// When PROCEED edges lead from a state to the final one.
fn ends(drafts: &[Draft], state: usize) -> Cond {
    let (mut any, mut open) = (Cond(Vec::new()), vec![(state, Cond::always())]);
    while let Some((at, path)) = open.pop() {
        for edge in drafts[at].edges.iter().filter(|e| e.action == Action::Proceed) {
            let cond = path.and(&edge.cond);
            if drafts[edge.target].kind == Kind::Final {
                any = any.or(&cond);
            } else if !cond.0.is_empty() {
                open.push((edge.target, cond));
            }
        }
    }
    any
}

/// The start state's TAKE conditions, with nothing presumed of the dynamic tests' falsehood.
fn starts(edges: &[Flat], dynamic: u64) -> Cond {
    let mut any = Cond(Vec::new());
    for edge in edges.iter().filter(|edge| edge.take) {
        let cubes =
            edge.cond.0.iter().map(|cube| Cube { must: cube.must, not: cube.not & !dynamic });
        any = any.or(&Cond(cubes.collect()));
    }
    any
}

/// Whether a row that meets no test leaves a partial match in this state as it is, or moves it to
/// states that together have the very same edges, so that passing over the row changes nothing.
fn is_idle(drafts: &[Draft], flat: &[Vec<Flat>], state: usize) -> bool {
    let blank = |state: usize| -> Option<Vec<usize>> {
        let mut targets = Vec::new();
        for edge in flat[state].iter().filter(|edge| edge.cond.holds(0)) {
            if edge.take {
                return None;
            }
            targets.push(edge.target);
        }
        targets.sort_unstable();
        targets.dedup();
        Some(targets)
    };
    let Some(next) = blank(state) else { return false };
    if next == [state] {
        return true;
    }
    if next.iter().any(|&to| drafts[to].kind != Kind::Normal) {
        return false;
    }
    let rests = next.iter().all(|&to| blank(to).is_some_and(|again| again == [to]));
    let mut together: Vec<&Flat> = next.iter().flat_map(|&to| &flat[to]).collect();
    let mut own: Vec<&Flat> = flat[state].iter().collect();
    together.sort_unstable();
    own.sort_unstable();
    !next.is_empty() && rests && together == own
}

#[cfg(test)]
pub(super) mod vectors;
