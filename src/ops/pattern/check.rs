//! Which patterns are refused, and why. The rules are Flink's (its pattern builder and compiler),
//! and one that Flink lacks: a loop over nothing.
//!
//! All faults of a pattern are reported, each with the place of its step.

use super::ast::{AfterMatch, Ast, Inner, Step};
use crate::ground::limits::{PATTERN_CONDITIONS_MAX, PATTERN_TIMES_MAX};

/// Why a pattern is refused, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Places from the outermost `steps` in: `[1, 0]` is the first step of the group at place 1.
    /// Empty: the pattern as a whole.
    pub path: Vec<usize>,
    /// The key of the step (or, with an empty path, of the pattern) that is wrong.
    pub key: &'static str,
    pub reason: String,
    pub hint: Option<String>,
}

/// The name that no step may have.
const RESERVED: &str = "$endState$";

/// Checks a pattern that uses `conditions` different conditions.
///
/// # Errors
/// Every fault found, in the order of the steps.
pub fn check(ast: &Ast, conditions: usize) -> Result<(), Vec<Refusal>> {
    let mut checker = Checker { names: Vec::new(), path: Vec::new(), found: Vec::new() };
    if conditions > PATTERN_CONDITIONS_MAX {
        checker.refuse(
            "steps",
            format!("{conditions} different conditions, the limit is {PATTERN_CONDITIONS_MAX}"),
        );
    }
    checker.steps(&ast.steps);
    checker.whole(ast);
    if checker.found.is_empty() { Ok(()) } else { Err(checker.found) }
}

struct Checker {
    names: Vec<String>,
    path: Vec<usize>,
    found: Vec<Refusal>,
}

impl Checker {
    fn refuse(&mut self, key: &'static str, reason: impl Into<String>) {
        let path = self.path.clone();
        self.found.push(Refusal { path, key, reason: reason.into(), hint: None });
    }

    fn hint(&mut self, hint: &str) {
        if let Some(last) = self.found.last_mut() {
            last.hint = Some(hint.to_string());
        }
    }

    fn steps(&mut self, steps: &[Step]) {
        if steps.is_empty() {
            let key = if self.path.is_empty() { "steps" } else { "group" };
            self.refuse(key, "a pattern or group needs at least one step");
        }
        for (i, step) in steps.iter().enumerate() {
            self.path.push(i);
            let before = i.checked_sub(1).map(|at| &steps[at]);
            self.place(step, before);
            match &step.group {
                Some(inner) => self.group(step, inner),
                None => self.name(step),
            }
            if step.contiguity.is_some_and(|c| c.is_not()) {
                self.not(step, before);
            } else {
                self.times(step);
                self.options(step, before);
            }
            self.path.pop();
        }
    }

    fn place(&mut self, step: &Step, before: Option<&Step>) {
        match (before, step.contiguity) {
            (None, Some(_)) => {
                self.refuse("contiguity", "the first step follows nothing, it has no contiguity")
            }
            (Some(_), None) => {
                self.refuse("name", "every step but the first names its contiguity");
                self.hint(
                    "contiguity = \"next\", \"followed_by\", \"followed_by_any\", \"not_next\" or \"not_followed_by\"",
                );
            }
            _ => {}
        }
    }

    fn name(&mut self, step: &Step) {
        match step.name.as_deref() {
            None | Some("") => self.refuse("name", "a step needs a name or a group"),
            Some(RESERVED) => self.refuse("name", format!("the name {RESERVED} is reserved")),
            Some(name) if self.names.iter().any(|other| other == name) => {
                self.refuse(
                    "name",
                    format!("two steps have the name `{name}`; names are unique in a pattern"),
                );
            }
            Some(name) => self.names.push(name.to_string()),
        }
    }

    fn group(&mut self, step: &Step, inner: &[Step]) {
        if step.name.is_some() {
            self.refuse("name", "a group has no name, its steps have");
        }
        if step.condition.is_some() {
            self.refuse("where", "a group has no `where`, its steps have");
        }
        if step.contiguity.is_some_and(|c| c.is_not()) {
            self.refuse("contiguity", "a group cannot be negated");
        }
        let is_loop = step.times.is_some_and(|times| times.max.is_none());
        if is_loop && !inner.is_empty() && inner.iter().all(may_be_empty) {
            self.refuse("times", "an open loop over a group that may take no row would never end");
            self.hint("make one of its steps required, or give `times` a max");
        }
        self.steps(inner);
    }

    fn not(&mut self, step: &Step, before: Option<&Step>) {
        let options = [
            ("times", step.times.is_some()),
            ("optional", step.optional),
            ("greedy", step.greedy),
            ("inner", step.inner.is_some_and(|inner| inner != Inner::Relaxed)),
            ("until", step.until.is_some()),
        ];
        for (key, _) in options.into_iter().filter(|(_, given)| *given) {
            self.refuse(key, format!("`{key}` does not apply to a step that must not happen"));
        }
        if before.is_some_and(is_optional) {
            self.refuse(
                "contiguity",
                "an optional step cannot stand directly before one that must not happen",
            );
            self.hint("write two patterns, one with the optional step and one without");
        }
    }

    fn times(&mut self, step: &Step) {
        let Some(times) = step.times else { return };
        match times.max {
            Some(max) if max < 1 => self.refuse("times", "`times` is at least 1"),
            Some(max) if times.min > max => {
                self.refuse("times", format!("`min` {} is above `max` {max}", times.min));
            }
            _ if times.min < 0 => self.refuse("times", "`min` is not negative"),
            None if times.min == 0 => {
                self.refuse("times", "an open loop is taken at least once");
                self.hint("times = { min = 1 }, optional = true");
            }
            max if max.unwrap_or(times.min) > PATTERN_TIMES_MAX => self.refuse(
                "times",
                format!("the automaton has a state a repeat; the limit is {PATTERN_TIMES_MAX}"),
            ),
            _ => {}
        }
        if times.min == 0 && times.max.is_some() && step.optional {
            self.refuse("optional", "`min = 0` makes the step optional already");
        }
    }

    fn options(&mut self, step: &Step, before: Option<&Step>) {
        let repeats = step.times.is_some();
        if !repeats && step.inner.is_some_and(|inner| inner != Inner::Relaxed) {
            self.refuse("inner", "`inner` is the contiguity between repeats: it needs `times`");
        }
        if step.greedy {
            if step.group.is_some() {
                self.refuse("greedy", "a group cannot be greedy");
            } else if !repeats {
                self.refuse("greedy", "only a step that repeats can be greedy: it needs `times`");
            }
            if step.inner == Some(Inner::AllowCombinations) {
                self.refuse("greedy", "greedy and allow_combinations exclude each other");
            }
        }
        if step.optional && before.is_some_and(|before| before.greedy) {
            self.refuse("optional", "an optional step cannot stand directly after a greedy one");
        }
        let is_loop = step.times.is_some_and(|times| times.max.is_none());
        if step.until.is_some() && !is_loop {
            self.refuse("until", "`until` ends an open loop: it needs times = { min = n }");
        }
    }

    fn whole(&mut self, ast: &Ast) {
        if let AfterMatch::SkipToFirst(name) | AfterMatch::SkipToLast(name) = &ast.after_match {
            let found = ast.steps.iter().any(|step| step.name.as_ref() == Some(name));
            if !found {
                let inside = self.names.contains(name);
                let why = if inside { "stands inside a group" } else { "does not exist" };
                self.refuse("after_match", format!("the step `{name}` to skip to {why}"));
            }
        }
        let last = ast.steps.len().saturating_sub(1);
        let ends_open = ast
            .steps
            .last()
            .is_some_and(|step| step.contiguity == Some(super::ast::Contiguity::NotFollowedBy));
        if ends_open && ast.within.bound().is_none() {
            self.path.push(last);
            self.refuse(
                "contiguity",
                "a pattern that ends with not_followed_by needs `within` to know when to stop waiting",
            );
            self.path.pop();
        }
    }
}

/// Whether Flink gives the step the property OPTIONAL.
pub(super) fn is_optional(step: &Step) -> bool {
    step.optional || step.times.is_some_and(|times| times.min == 0)
}

/// Whether the step can be passed without taking a row.
fn may_be_empty(step: &Step) -> bool {
    is_optional(step)
        || step.contiguity.is_some_and(|c| c.is_not())
        || step.group.as_ref().is_some_and(|inner| inner.iter().all(may_be_empty))
}
