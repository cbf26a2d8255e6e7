//! From a checked transform to its operator.

use super::graph::{
    LookupSpec, PatternEmit, PatternPlan, RulesPlan, TransformKind, TransformPlan, Unmatched,
    WindowKind, WindowSpec,
};
use super::rules::RulePlan;
use crate::flow::RunError;
use crate::flow::graph::NodeOperator;
use crate::ground::schema::{Schema, SchemaRef};
use crate::ops::aggregate::Aggregate;
use crate::ops::filter::Filter;
use crate::ops::flat_map::FlatMap;
use crate::ops::lookup::{self, Lookup, On};
use crate::ops::map::Map;
use crate::ops::order::ahead::Ahead;
use crate::ops::pattern::eager::Eager;
use crate::ops::pattern::rules::{Feed, RuleSpec, Rules};
use crate::ops::pattern::strict::Known;
use crate::ops::pattern::strict::set::Sets;
use crate::ops::pattern::{LatePort, Pattern, PatternSpec};
use crate::ops::route::Route;
use crate::ops::union::Union;
use crate::ops::window::{Spec, sliding::Sliding};
use crate::ops::{Keyed, Ordered};
use xxhash_rust::xxh3::xxh3_64;

/// An operator of a keyed stage, by how it wants its rows.
pub enum KeyedKind {
    /// As they arrive.
    Plain(Box<dyn Keyed>),
    /// In event-time order, no more of each than it asked for: to be made by [`ordered`].
    Ordered(InOrder),
}

/// An operator behind the ordering stage, before all have asked for what they need.
pub enum InOrder {
    Pattern(Box<PatternSpec>),
    Rules(Box<RulesParts>),
}

/// What a rules' operator is made of.
pub struct RulesParts {
    feed: Feed,
    columns: SchemaRef,
    late: Option<LatePort>,
    timed_out: Option<usize>,
}

fn unbuilt(plan: &TransformPlan) -> RunError {
    RunError::of(&plan.name, format!("`{}` cannot be run in this way", plan.kind.word()))
}

/// The operator of a transform without keyed state.
///
/// # Errors
/// [`RunError`] if the transform is none.
pub fn stateless(plan: &TransformPlan) -> Result<NodeOperator, RunError> {
    let input = &plan.input_schemas[0];
    let all = || (0..input.width()).collect::<Vec<usize>>();
    Ok(match &plan.kind {
        TransformKind::Filter(spec) => {
            NodeOperator::choosing(Filter::new(input, spec.condition.clone()), 1)
        }
        TransformKind::Route(spec) => {
            let outputs = plan.outputs.len();
            NodeOperator::choosing(Route::new(input, spec.conditions.clone()), outputs)
        }
        TransformKind::Union => NodeOperator::choosing(Union::new(input), 1),
        TransformKind::Map(spec) => NodeOperator::making(Map::new(spec.select.clone())),
        TransformKind::FlatMap(spec) => {
            NodeOperator::making(FlatMap::new(input, all(), spec.each.clone()))
        }
        TransformKind::Lookup(spec) => NodeOperator::making(lookup_of(spec, input, all())),
        _ => return Err(unbuilt(plan)),
    })
}

fn lookup_of(spec: &LookupSpec, input: &Schema, keep: Vec<usize>) -> Lookup {
    let on = On {
        input: spec.on.iter().map(|pair| pair.0).collect(),
        table: spec.on.iter().map(|pair| pair.1).collect(),
    };
    let unmatched = match spec.unmatched {
        Unmatched::Keep => lookup::Unmatched::Keep,
        Unmatched::Drop => lookup::Unmatched::Drop,
        Unmatched::Route => lookup::Unmatched::Route,
    };
    Lookup::new(input, keep, on, spec.add.clone(), unmatched)
}

/// The operator of a keyed transform, for rows of `input` whose event time is in column
/// `event_time`, `disorder_ms` out of order (a hint). What waits in the ordering stage is asked for
/// `ahead`; strict patterns go to `sets`.
///
/// # Errors
/// [`RunError`] if the transform is none, or its figures are out of the operator's range.
pub fn keyed(
    plan: &TransformPlan,
    input: &Schema,
    event_time: Option<usize>,
    ahead: &mut Ahead,
    sets: &Sets,
    disorder_ms: i64,
) -> Result<KeyedKind, RunError> {
    let refused = |reason: String| RunError::of(&plan.name, reason);
    Ok(match &plan.kind {
        TransformKind::Window(spec) => {
            let windows = window_of(spec).ok_or_else(|| unbuilt(plan))?;
            let operator = Sliding::new(windows, &spec.select, input).map_err(refused)?;
            KeyedKind::Plain(Box::new(operator))
        }
        TransformKind::Aggregate(spec) => KeyedKind::Plain(Box::new(Aggregate::new(&spec.select))),
        TransformKind::Pattern(plan_of) if plan_of.emit == PatternEmit::Eager => {
            let spec = pattern_of(plan, plan_of, input, event_time, sets);
            let widths: Vec<usize> = plan.outputs.iter().map(|out| out.schema.width()).collect();
            let eager = Eager::new(spec, input, &widths, disorder_ms);
            KeyedKind::Plain(Box::new(eager.map_err(|error| RunError::of(&plan.name, error))?))
        }
        TransformKind::Pattern(spec) => {
            let mut spec = pattern_of(plan, spec, input, event_time, sets);
            spec.look_ahead(ahead);
            KeyedKind::Ordered(InOrder::Pattern(Box::new(spec)))
        }
        TransformKind::Rules(rules) => {
            // A rule that comes later may ask for any column.
            ahead.keep(0..input.width());
            let PatternPorts { late, timed_out } = ports_of(plan, input);
            let (feed, columns) = (feed_of(plan, rules, event_time), rules.columns.clone());
            let parts = RulesParts { feed, columns, late, timed_out };
            KeyedKind::Ordered(InOrder::Rules(Box::new(parts)))
        }
        _ => return Err(unbuilt(plan)),
    })
}

/// An operator behind the ordering stage, when all have asked for what they need.
///
/// # Errors
/// [`RunError`] if its figures are out of the operator's range.
pub fn ordered(
    name: &str,
    operator: InOrder,
    input: &Schema,
    ahead: &Ahead,
) -> Result<Box<dyn Ordered>, RunError> {
    let event = ahead.schema(input);
    match operator {
        InOrder::Pattern(mut spec) => {
            spec.remap(ahead);
            let operator = Pattern::new(*spec, &event);
            Ok(Box::new(operator.map_err(|error| RunError::of(name, error))?))
        }
        InOrder::Rules(parts) => {
            let RulesParts { feed, columns, late, timed_out } = *parts;
            Ok(Box::new(Rules::new(feed, event, &columns, late, timed_out)))
        }
    }
}

/// What looks into the rules' book, as one shard does.
fn feed_of(plan: &TransformPlan, rules: &RulesPlan, event_time: Option<usize>) -> Feed {
    let (book, key) = (rules.book.clone(), plan.key.clone());
    let mut seen = None;
    Box::new(move || {
        let edition = book.edition();
        if seen.replace(edition) == Some(edition) {
            return None;
        }
        let spec = |rule: RulePlan| {
            let RulePlan { name, version, form, pattern, .. } = rule;
            let number = xxh3_64(format!("{name} {version} {form}").as_bytes());
            let known = Known { key: key.clone(), event_time };
            RuleSpec { name, number, spec: bare(&pattern, known, &Sets::default()) }
        };
        Some(book.rules().into_iter().map(spec).collect())
    })
}

fn window_of(spec: &WindowSpec) -> Option<Spec> {
    let lateness = spec.allowed_lateness_ms;
    match spec.kind {
        WindowKind::Tumbling { size_ms, offset_ms } => {
            Some(Spec { size: size_ms, slide: size_ms, offset: offset_ms, lateness })
        }
        WindowKind::Sliding { size_ms, slide_ms, offset_ms } => {
            Some(Spec { size: size_ms, slide: slide_ms, offset: offset_ms, lateness })
        }
        WindowKind::Session { .. } | WindowKind::Count { .. } | WindowKind::Cumulative { .. } => {
            None
        }
    }
}

fn pattern_of(
    plan: &TransformPlan,
    spec: &PatternPlan,
    input: &Schema,
    event_time: Option<usize>,
    sets: &Sets,
) -> PatternSpec {
    let PatternPorts { late, timed_out } = ports_of(plan, input);
    let known = Known { key: plan.key.clone(), event_time };
    PatternSpec { late, timed_out, ..bare(spec, known, sets) }
}

/// Ports of a pattern beside that of its matches, where they are read.
struct PatternPorts {
    late: Option<LatePort>,
    timed_out: Option<usize>,
}

fn ports_of(plan: &TransformPlan, input: &Schema) -> PatternPorts {
    let read = |name: &str| plan.outputs.iter().position(|out| out.name == name && out.is_read);
    PatternPorts {
        late: read("late").map(|port| LatePort { port, heaped: input.heaped() }),
        timed_out: read("timed_out"),
    }
}

/// A pattern of which nobody reads more than its matches.
fn bare(spec: &PatternPlan, known: Known, sets: &Sets) -> PatternSpec {
    PatternSpec {
        ast: spec.ast.clone(),
        conditions: spec.conditions.clone(),
        select: spec.select.clone(),
        known,
        sets: sets.clone(),
        late: None,
        timed_out: None,
        timed_out_select: None,
        partials_max: spec.partials_max,
    }
}
