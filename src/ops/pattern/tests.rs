//! Random patterns over random rows: the automaton against a matcher that only restates what the
//! words mean, the short cut for strict patterns against the automaton, and batches cut anywhere.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::ast::{AfterMatch, Ast, Contiguity, Inner, Step, Times, Within};
use super::nfa::vectors::{batch, spec, taken};
use super::strict::set::Sets;
use super::{Executor, Pattern};
use crate::expr::Condition;
use crate::ground::time::Time;
use crate::ops::output::Outputs;
use crate::ops::{KeyedRows, Ordered, Rows, Stateful};
use crate::state::keys::KeyTable;

/// Tests that patterns are made of; the last ones read what was taken.
const TEXTS: [&str; 9] = [
    "t = 'A'",
    "t = 'B'",
    "t = 'A' OR t = 'C'",
    "v > 2",
    "t <> 'a long text'",
    "v > 0 AND t <> 'C'",
    "v > LAST(a.v)",
    "t <> 'B' AND (v >= FIRST(a.v) OR COUNT(b.v) = 1)",
    "SUM(a.v) + v > 4",
];

pub(super) fn texts() -> Vec<String> {
    TEXTS.iter().map(|text| text.to_string()).collect()
}

/// (key, row); times rise by 0, 1 or 2.
pub(super) fn rows(keys: u32) -> impl Strategy<Value = Vec<(u32, Json)>> {
    let t = prop_oneof![
        4 => Just(Some("A")), 4 => Just(Some("B")), 2 => Just(Some("C")),
        1 => Just(Some("a long text")), 1 => Just(None),
    ];
    let v = proptest::option::weighted(0.9, 0..5i64);
    proptest::collection::vec((0..keys, 0..3i64, t, v), 0..24).prop_map(|rows| {
        let mut time = 0;
        type Drawn<'a> = (u32, i64, Option<&'a str>, Option<i64>);
        let row = |(id, (key, step, t, v)): (usize, Drawn<'_>)| {
            time += step;
            (key, json!({"id": id, "ts": time, "t": t, "v": v, "k": key}))
        };
        rows.into_iter().enumerate().map(row).collect()
    })
}

fn name(steps: Vec<Step>) -> Vec<Step> {
    let names = ["a", "b", "c", "d", "e"];
    let with = |(step, name): (Step, &str)| Step { name: Some(name.to_string()), ..step };
    let mut steps: Vec<Step> = steps.into_iter().zip(names).map(with).collect();
    if let Some(first) = steps.first_mut() {
        first.contiguity = None;
    }
    steps
}

fn within() -> impl Strategy<Value = Within> {
    prop_oneof![
        Just(Within::Unbounded),
        (1..8i64).prop_map(Within::FirstAndLast),
        (1..4i64).prop_map(Within::PreviousAndCurrent),
    ]
}

fn strict_ast() -> impl Strategy<Value = Ast> {
    let step =
        (proptest::option::weighted(0.9, 0..TEXTS.len()), 1..4i64).prop_map(|(test, n)| Step {
            condition: test,
            contiguity: Some(Contiguity::Next),
            times: (n > 1).then_some(Times { min: n, max: Some(n) }),
            inner: (n > 1).then_some(Inner::Consecutive),
            ..Step::default()
        });
    let skip = prop_oneof![Just(AfterMatch::NoSkip), Just(AfterMatch::SkipPastLastEvent)];
    (proptest::collection::vec(step, 1..4), within(), skip)
        .prop_map(|(steps, within, after_match)| Ast { steps: name(steps), within, after_match })
}

fn times() -> impl Strategy<Value = Option<Times>> {
    prop_oneof![
        3 => Just(None),
        1 => (1..3i64).prop_map(|n| Some(Times { min: n, max: Some(n) })),
        1 => (1..3i64, 0..2i64).prop_map(|(n, more)| Some(Times { min: n, max: Some(n + more) })),
        1 => (1..3i64).prop_map(|n| Some(Times { min: n, max: None })),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let contiguity = prop_oneof![
        3 => Just(Contiguity::Next), 3 => Just(Contiguity::FollowedBy),
        3 => Just(Contiguity::FollowedByAny), 1 => Just(Contiguity::NotNext),
        1 => Just(Contiguity::NotFollowedBy),
    ];
    let inner =
        prop_oneof![Just(Inner::Relaxed), Just(Inner::Consecutive), Just(Inner::AllowCombinations)];
    let test = proptest::option::weighted(0.9, 0..TEXTS.len());
    (test, contiguity, times(), inner, any::<bool>()).prop_map(
        |(test, contiguity, times, inner, optional)| {
            let plain = contiguity.is_not();
            let times = times.filter(|_| !plain);
            Step {
                condition: test,
                contiguity: Some(contiguity),
                times,
                inner: times.map(|_| inner),
                optional: optional && !plain,
                ..Step::default()
            }
        },
    )
}

pub(super) fn any_ast() -> impl Strategy<Value = Ast> {
    let bound = prop_oneof![Just(Within::Unbounded), (1..9i64).prop_map(Within::FirstAndLast)];
    let ast = (proptest::collection::vec(any_step(), 1..5), bound);
    ast.prop_map(|(steps, within)| {
        let mut steps = name(steps);
        // What stands beside a not step is required and single here, and no not step comes last:
        // there Flink has rules of its own, which the vectors show.
        for i in 0..steps.len() {
            let last = i + 1 == steps.len();
            let beside_not = i > 0 && is_not(&steps[i - 1]);
            let before_not = !last && is_not(&steps[i + 1]);
            if is_not(&steps[i]) && (last || beside_not) {
                steps[i].contiguity = Some(Contiguity::FollowedBy);
            }
            if beside_not || before_not {
                (steps[i].times, steps[i].inner, steps[i].optional) = (None, None, false);
            }
        }
        Ast { steps, within, after_match: AfterMatch::NoSkip }
    })
}

fn is_not(step: &Step) -> bool {
    step.contiguity.is_some_and(|contiguity| contiguity.is_not())
}

/// What comes out of a pattern: (time, mark, what each step took, key and time of the first row).
type Found = Vec<(Time, Time, String, [Option<u64>; 2])>;

/// Runs rows through the operator, in batches that end before the places in `cuts`; after each,
/// every key's state goes out and in again if `saved`.
fn run(
    operator: Pattern,
    names: &[String],
    rows: &[(u32, Json)],
    cuts: &[usize],
    saved: bool,
) -> Found {
    run_all(vec![(operator, names.to_vec())], rows, cuts, saved).remove(0)
}

/// As [`run`], for several operators with the names of their steps, in turn.
fn run_all(
    mut operators: Vec<(Pattern, Vec<String>)>,
    rows: &[(u32, Json)],
    cuts: &[usize],
    saved: bool,
) -> Vec<Found> {
    let keys = KeyTable::new(&[crate::ground::schema::DataType::BigInt]);
    let mut outs: Vec<Outputs> =
        operators.iter().map(|(_, names)| Outputs::new(&[names.len() + 2], 7)).collect();
    let events: Vec<Json> = rows.iter().map(|(_, row)| row.clone()).collect();
    let batch = batch(&events);
    let mut from = 0;
    for end in cuts.iter().copied().chain([rows.len()]) {
        let end = end.clamp(from, rows.len());
        let select: Vec<u32> = (from as u32..end as u32).collect();
        let slots: Vec<u32> = rows[from..end].iter().map(|(key, _)| *key).collect();
        let times: Vec<Time> =
            events[from..end].iter().map(|event| event["ts"].as_i64().expect("ts")).collect();
        let marks: Vec<Time> = times.iter().map(|time| time - 1).collect();
        let part = Rows { records: &batch, select: &select, times: &times, marks: &marks };
        let keyed = KeyedRows::new(part, &slots, &keys);
        for ((operator, _), out) in operators.iter_mut().zip(&mut outs) {
            operator.ordered(&keyed, out).expect("runs");
            if let Some(&time) = times.last() {
                operator.watermark(time, &keys, out).expect("runs");
            }
        }
        for slot in (0..4).filter(|_| saved) {
            // A key leaves with all that is known of it, and comes back with all.
            let mut saved = Vec::new();
            let mut each = |visit: &mut dyn FnMut(&mut dyn crate::state::Handle)| {
                operators.iter_mut().for_each(|(operator, _)| {
                    operator.state(&mut |_, handle| visit(handle));
                });
            };
            each(&mut |handle| {
                let mut bytes = Vec::new();
                handle.save(slot, &mut bytes);
                saved.push(bytes);
            });
            each(&mut |handle| handle.clear(slot));
            let mut saved = saved.into_iter();
            each(&mut |handle| {
                let bytes = saved.next().expect("one for each handle");
                handle.load(slot, &bytes).expect("what was saved loads");
                let mut again = Vec::new();
                handle.save(slot, &mut again);
                assert_eq!(bytes.len(), again.len(), "and saves as it was");
            });
        }
        from = end;
    }
    let found = |((_, names), mut out): (&(Pattern, Vec<String>), Outputs)| found(&mut out, names);
    operators.iter().zip(outs).map(found).collect()
}

/// What came out of a pattern.
fn found(out: &mut Outputs, names: &[String]) -> Found {
    let (mut found, mut rows_taken) = (Vec::new(), Vec::new());
    for emitted in out.ports[0].take() {
        for row in 0..emitted.records.rows() {
            let first = [0, 1].map(|i| emitted.records.get(row, names.len() + i));
            found.push((emitted.marks[row], first));
        }
        rows_taken.extend(taken(&[emitted], names));
    }
    let both = found.into_iter().zip(rows_taken);
    both.map(|((mark, first), (time, taken))| (time, mark, format!("{taken:?}"), first)).collect()
}

fn check_strict(ast: Ast, rows: &[(u32, Json)], cuts: &[usize]) -> Result<(), TestCaseError> {
    let names = ast.names();
    let make = |only_nfa| {
        Pattern::with(spec(ast.clone(), &texts(), None), &super::nfa::vectors::schema(), only_nfa)
            .expect("small")
    };
    prop_assert!(matches!(make(false).executor, Executor::Strict(_)));
    let plain = run(make(true), &names, rows, &[], false);
    prop_assert_eq!(&run(make(false), &names, rows, &[], false), &plain, "strict");
    prop_assert_eq!(&run(make(false), &names, rows, cuts, true), &plain, "strict, saved");
    prop_assert_eq!(&run(make(true), &names, rows, cuts, true), &plain, "saved");
    Ok(())
}

/// Several strict patterns in one pass against each by itself, by the automaton.
fn check_together(
    asts: Vec<Ast>,
    rows: &[(u32, Json)],
    cuts: &[usize],
) -> Result<(), TestCaseError> {
    let sets = Sets::default();
    let schema = super::nfa::vectors::schema();
    let together = |ast: &Ast| {
        let spec = super::PatternSpec { sets: sets.clone(), ..spec(ast.clone(), &texts(), None) };
        (Pattern::new(spec, &schema).expect("small"), ast.names())
    };
    let found = run_all(asts.iter().map(together).collect(), rows, cuts, true);
    for (ast, found) in asts.iter().zip(found) {
        let alone = Pattern::with(spec(ast.clone(), &texts(), None), &schema, true);
        let alone = run(alone.expect("small"), &ast.names(), rows, &[], false);
        prop_assert_eq!(found, alone, "{:?}", ast);
    }
    Ok(())
}

/// Restates the language: no automaton, no sharing, no skipping. It walks through the steps and
/// tries every row that may be the next one.
struct Plain<'a> {
    ast: &'a Ast,
    conditions: Vec<Condition>,
    batch: &'a crate::ground::batch::RecordBatch,
    times: Vec<Time>,
    found: Vec<Vec<(usize, usize)>>,
}

impl Plain<'_> {
    fn fits(&mut self, step: usize, row: usize, taken: &[(usize, usize)]) -> bool {
        let Some(test) = self.ast.steps[step].condition else { return true };
        let condition = &mut self.conditions[test];
        let mut mask = Vec::new();
        if let Some(program) = &mut condition.row {
            program.mask(self.batch, &[row as u32], &mut mask);
            if mask[0] == 0 {
                return false;
            }
        }
        let Some(rest) = &condition.rest else { return true };
        let schema = super::nfa::vectors::schema();
        let rows = Flat { batch: self.batch, taken };
        let refs: Vec<super::refs::Ref> =
            rest.refs.iter().map(|of| super::refs::Ref::new(of, &schema, Some)).collect();
        let values: Vec<crate::expr::Value<'_>> = refs.iter().map(|of| of.scalar(&rows)).collect();
        rest.test(self.batch, row, &values)
    }

    /// All ways on from `taken`, of which `count` rows are this step's.
    fn go(&mut self, step: usize, count: usize, taken: &mut Vec<(usize, usize)>) {
        let Some(it) = self.ast.steps.get(step).cloned() else { return };
        let (min, max) = match it.times {
            None => (1, Some(1)),
            Some(times) => (times.min as usize, times.max.map(|max| max as usize)),
        };
        if max.is_none_or(|max| count < max) {
            let consuming = match (count, it.contiguity, it.inner) {
                (0, None | Some(Contiguity::Next), _) => Inner::Consecutive,
                (0, Some(Contiguity::FollowedByAny), _) => Inner::AllowCombinations,
                (0, ..) => Inner::Relaxed,
                (_, _, inner) => inner.unwrap_or_default(),
            };
            for (row, stops) in self.candidates(step, consuming, count, taken) {
                taken.push((step, row));
                self.on_taken(step, count + 1, min, stops, taken);
                taken.pop();
            }
        }
        let may_pass = count >= min || (count == 0 && it.optional);
        if may_pass {
            self.go(self.next_step(step), 0, taken);
        }
    }

    /// A row that also fits a not_followed_by before it (`stops`) may end a match, as in Flink,
    /// but nothing goes on from it.
    fn on_taken(
        &mut self,
        step: usize,
        count: usize,
        min: usize,
        stops: bool,
        taken: &mut Vec<(usize, usize)>,
    ) {
        let rest_optional = self.ast.steps[step + 1..].iter().all(|step| step.optional);
        if count >= min && rest_optional {
            self.found.push(taken.clone());
        }
        if !stops {
            self.go(step, count, taken);
        }
    }

    fn next_step(&self, step: usize) -> usize {
        (step + 1..self.ast.steps.len())
            .find(|&at| !is_not(&self.ast.steps[at]))
            .unwrap_or(self.ast.steps.len())
    }

    /// The rows that may be taken next for a step, and whether each ends what goes on from it.
    fn candidates(
        &mut self,
        step: usize,
        consuming: Inner,
        count: usize,
        taken: &[(usize, usize)],
    ) -> Vec<(usize, bool)> {
        let end = self.batch.rows();
        let Some(&(_, last)) = taken.last() else {
            return (0..end)
                .filter(|&row| self.fits(step, row, taken))
                .map(|row| (row, false))
                .collect();
        };
        let first = taken[0].1;
        let mut nots: Vec<usize> = Vec::new();
        let mut at = step;
        while count == 0 && at > 0 && is_not(&self.ast.steps[at - 1]) {
            at -= 1;
            nots.push(at);
        }
        let mut found = Vec::new();
        for row in last + 1..end {
            if let Some(bound) = self.ast.within.bound()
                && self.times[row] - self.times[first] >= bound
            {
                break;
            }
            let is_stopped = |this: &mut Self, kind| {
                let is = |&&not: &&usize| this.ast.steps[not].contiguity == Some(kind);
                let of_kind: Vec<usize> = nots.iter().filter(is).copied().collect();
                of_kind.into_iter().any(|not| this.fits(not, row, taken))
            };
            if row == last + 1 && is_stopped(self, Contiguity::NotNext) {
                break;
            }
            let stops = is_stopped(self, Contiguity::NotFollowedBy);
            let fits = self.fits(step, row, taken);
            if fits {
                found.push((row, stops));
            }
            if stops {
                break;
            }
            match consuming {
                Inner::Consecutive => break,
                Inner::Relaxed if fits => break,
                _ => {}
            }
        }
        found
    }
}

/// Rows of a match, (step, row of the batch).
struct Flat<'a> {
    batch: &'a crate::ground::batch::RecordBatch,
    taken: &'a [(usize, usize)],
}

impl super::refs::Rows for Flat<'_> {
    type Row = usize;

    fn newest_first(&self, step: Option<u32>) -> impl Iterator<Item = usize> {
        let of = move |&&(at, _): &&(usize, usize)| step.is_none_or(|step| step as usize == at);
        self.taken.iter().rev().filter(of).map(|&(_, row)| row)
    }

    fn value(&self, row: usize, place: usize) -> crate::expr::Value<'_> {
        match self.batch.get(row, place) {
            None => super::refs::NULL,
            Some(slot) => crate::expr::Value { slot, null: false, heap: self.batch.heap() },
        }
    }
}

fn check_plain(ast: &Ast, rows: &[(u32, Json)]) -> Result<(), TestCaseError> {
    let names = ast.names();
    prop_assume!(super::check::check(ast, TEXTS.len()).is_ok());
    let operator = Pattern::new(spec(ast.clone(), &texts(), None), &super::nfa::vectors::schema())
        .expect("small");
    let mut got: Vec<String> =
        run(operator, &names, rows, &[], false).into_iter().map(|(_, _, taken, _)| taken).collect();
    let events: Vec<Json> = rows.iter().map(|(_, row)| row.clone()).collect();
    let batch = batch(&events);
    let mut plain = Plain {
        ast,
        conditions: spec(ast.clone(), &texts(), None).conditions,
        batch: &batch,
        times: events.iter().map(|event| event["ts"].as_i64().expect("ts")).collect(),
        found: Vec::new(),
    };
    plain.go(0, 0, &mut Vec::new());
    let show = |taken: &Vec<(usize, usize)>| {
        let mut steps = std::collections::BTreeMap::<String, Vec<i64>>::new();
        for &(step, row) in taken {
            steps.entry(names[step].clone()).or_default().push(row as i64);
        }
        format!("{steps:?}")
    };
    let mut expected: Vec<String> = plain.found.iter().map(show).collect();
    got.sort();
    expected.sort();
    prop_assert_eq!(got, expected);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None,
        ..ProptestConfig::default() })]

    #[test]
    fn the_short_cut_gives_the_automatons_answers(
        ast in strict_ast(), rows in rows(3), cuts in proptest::collection::vec(0..24usize, 0..6)
    ) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        check_strict(ast, &rows, &cuts)?;
    }

    #[test]
    fn strict_patterns_in_one_pass_give_each_its_own_answers(
        asts in proptest::collection::vec(strict_ast(), 2..24), rows in rows(3),
        cuts in proptest::collection::vec(0..24usize, 0..6)
    ) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        check_together(asts, &rows, &cuts)?;
    }

    #[test]
    fn the_automaton_gives_the_plain_answers(ast in any_ast(), rows in rows(1)) {
        check_plain(&ast, &rows[..rows.len().min(12)])?;
    }
}
