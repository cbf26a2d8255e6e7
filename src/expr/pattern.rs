//! Conditions and `select` of a pattern: what they read of the event being tried, and what of the
//! events that a partial match has taken.
//!
//! 1. A condition is TRUE exactly if its two halves are: the conjuncts that read the event alone
//!    (a vector program over the batch) and the rest (a scalar program for each partial match).
//! 2. Over no event a step's function is NULL, COUNT is 0.

use std::ops::Range;

use sqlparser::ast::{self as sql, Expr};

use super::ExprError;
use super::aggregate::{AggregateFunc, result_type};
use super::code::Code;
use super::functions;
use super::lower::{self, Names, RowNames};
use super::node::{Kind, Node};
use super::op::Op;
use super::parse::Source;
use super::projection::Projection;
use super::scalar::Scalar;
use super::scope::{Scope, nearest};
use super::vector::Program;
use crate::ground::schema::{Column, DataType, Schema};

/// What is asked of the events that a step has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepFunc {
    First,
    Last,
    Sum,
    Count,
    Avg,
    Min,
    Max,
    /// In `select` only.
    ArrayAgg,
    /// Not to be written by users: see [`StepRef::identity`].
    Identity,
}

/// One value over a step's events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRef {
    /// Place in the names of steps given.
    pub step: usize,
    pub func: StepFunc,
    /// Event column; `None` for `COUNT(step.*)`.
    pub argument: Option<usize>,
    /// Type of the value; COUNT is never NULL, the others are over no event.
    pub data_type: DataType,
}

/// A step's condition in its two halves; both absent means TRUE.
#[derive(Clone, Debug)]
pub struct Condition {
    /// What the event being tried decides alone, vectorised over the batch.
    pub row: Option<Program>,
    /// What depends on the events taken so far.
    pub rest: Option<Scalar>,
}

/// The `select` of a match.
#[derive(Clone, Debug)]
pub struct MatchSelect {
    /// The columns of the intermediate row, each once.
    pub refs: Vec<StepRef>,
    /// Schema of the intermediate row.
    pub row: Schema,
    /// From the intermediate row to the output row.
    pub finish: Projection,
}

impl StepRef {
    /// What tells a match from others: a number of the rows that its `steps` steps took, by their
    /// column `row`.
    pub fn identity(steps: usize, row: usize) -> StepRef {
        let (func, argument) = (StepFunc::Identity, Some(row));
        StepRef { func, step: steps, argument, data_type: DataType::BigInt }
    }
}

impl MatchSelect {
    /// The same with one more column behind: [`StepRef::identity`].
    pub fn with_identity(mut self, name: &str, steps: usize, row: usize) -> MatchSelect {
        let place = self.refs.len();
        self.refs.push(StepRef::identity(steps, row));
        let column = Column::new(format!("#{place}"), DataType::BigInt).not_null();
        self.row = Schema::new(self.row.columns.into_iter().chain([column]).collect());
        let node = Node::column(place, DataType::BigInt, false);
        let mut columns = self.finish.columns().to_vec();
        columns.push((name.to_string(), Program::of(&node)));
        self.finish = Projection::new(columns);
        self
    }
}

impl Condition {
    /// Compiles a condition: bare columns are `event`'s, `FIRST(step.column)` and the like range
    /// over the events that the step has taken.
    ///
    /// # Errors
    /// [`ExprError`] with the place in `text`.
    pub fn compile(text: &str, event: &Scope, steps: &[String]) -> Result<Condition, ExprError> {
        let mut names = StepNames { event, steps, refs: Vec::new(), is_select: false };
        let node = lower::compile_predicate(text, &mut names)?;
        let conjuncts = match node.kind {
            Kind::Call(Op::And, parts) => parts,
            _ => vec![node],
        };
        let (rest, row): (Vec<Node>, Vec<Node>) = conjuncts.into_iter().partition(Node::reads_refs);
        let whole = |parts: Vec<Node>| (!parts.is_empty()).then(|| Node::and(parts));
        let is_known = |node: &Node| *node == Node::boolean(true);
        Ok(Condition {
            row: whole(row).filter(|node| !is_known(node)).map(|node| Program::of(&node)),
            rest: whole(rest).map(|node| Scalar::new(names.refs, Code::for_rows(&node))),
        })
    }

    /// The columns of the event that are read, of the one being tried and of those taken.
    pub fn columns(&self) -> Vec<usize> {
        let row = self.row.iter().flat_map(|row| row.columns());
        let rest = self.rest.iter().flat_map(|rest| {
            let taken = rest.refs.iter().filter_map(|of| of.argument);
            rest.columns().iter().copied().chain(taken)
        });
        row.chain(rest).collect()
    }

    /// Reads column c of the event at `place(c)`.
    pub fn remap(&mut self, place: impl Fn(usize) -> usize) {
        if let Some(row) = &mut self.row {
            row.remap(&place);
        }
        if let Some(rest) = &mut self.rest {
            rest.remap(&place);
        }
    }
}

impl MatchSelect {
    /// The columns of the events that are read.
    pub fn columns(&self) -> Vec<usize> {
        self.refs.iter().filter_map(|of| of.argument).collect()
    }

    /// Reads column c of the events at `place(c)`.
    pub fn remap(&mut self, place: impl Fn(usize) -> usize) {
        for of in &mut self.refs {
            of.argument = of.argument.map(&place);
        }
    }
}

/// Compiles the `select` of (output name, expression) of a pattern's matches.
///
/// # Errors
/// All errors at once, each with its place in `select`.
pub fn compile_match_select(
    select: &[(String, String)],
    event: &Scope,
    steps: &[String],
) -> Result<MatchSelect, Vec<(usize, ExprError)>> {
    let mut names = StepNames { event, steps, refs: Vec::new(), is_select: true };
    let (mut columns, mut errors) = (Vec::new(), Vec::new());
    for (i, (name, text)) in select.iter().enumerate() {
        match lower::compile(text, &mut names) {
            Ok(node) => columns.push((name.clone(), node)),
            Err(error) => errors.push((i, error)),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let column = |(i, step): (usize, &StepRef)| Column {
        nullable: step.func != StepFunc::Count,
        ..Column::new(format!("#{i}"), step.data_type.clone())
    };
    Ok(MatchSelect {
        row: Schema::new(names.refs.iter().enumerate().map(column).collect()),
        refs: names.refs,
        finish: Projection::of(columns),
    })
}

/// Names of a pattern.
struct StepNames<'a> {
    event: &'a Scope,
    steps: &'a [String],
    refs: Vec<StepRef>,
    /// In `select` no event is being tried, and the values are columns of the intermediate row.
    is_select: bool,
}

impl StepNames<'_> {
    fn step(
        &self,
        source: &Source<'_>,
        span: Range<usize>,
        name: &str,
    ) -> Result<usize, ExprError> {
        self.steps.iter().position(|step| step == name).ok_or_else(|| {
            let error = source.error(span, format!("the pattern has no step `{name}`"));
            match nearest(name, self.steps.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("its steps are {}", self.steps.join(", "))),
            }
        })
    }

    fn shared(&mut self, step: StepRef) -> Node {
        let known = self.refs.iter().position(|other| *other == step);
        let place = known.unwrap_or(self.refs.len());
        let (data_type, nullable) = (step.data_type.clone(), step.func != StepFunc::Count);
        if known.is_none() {
            self.refs.push(step);
        }
        if self.is_select {
            Node::column(place, data_type, nullable)
        } else {
            Node::reference(place, data_type, nullable)
        }
    }

    fn read(
        &mut self,
        source: &Source<'_>,
        func: StepFunc,
        name: &str,
        function: &sql::Function,
    ) -> Result<Node, ExprError> {
        let whole = source.range_of(function);
        let wrong = || {
            let error = source.error(whole.clone(), format!("{name} takes a step's column here"));
            error.hint(format!("write {name}(step.column)"))
        };
        let sql::FunctionArguments::List(list) = &function.args else {
            return Err(wrong());
        };
        if list.duplicate_treatment.is_some()
            || !list.clauses.is_empty()
            || function.filter.is_some()
            || function.over.is_some()
        {
            return Err(wrong());
        }
        let [sql::FunctionArg::Unnamed(argument)] = list.args.as_slice() else {
            return Err(wrong());
        };
        let (step, column) = match argument {
            sql::FunctionArgExpr::Expr(Expr::CompoundIdentifier(parts)) => match parts.as_slice() {
                [step, column] => (step, column),
                _ => return Err(wrong()),
            },
            sql::FunctionArgExpr::QualifiedWildcard(step) if func == StepFunc::Count => {
                let step = self.step(source, source.range_of(step), &unquoted(step))?;
                return Ok(self.shared(StepRef {
                    step,
                    func,
                    argument: None,
                    data_type: DataType::BigInt,
                }));
            }
            sql::FunctionArgExpr::Wildcard if func == StepFunc::Count => {
                return Err(wrong().hint("write COUNT(step.*): of which step?"));
            }
            _ => return Err(wrong()),
        };
        let step = self.step(source, source.range(step.span), &step.value)?;
        let span = source.range(column.span);
        let entry = lower::find(self.event, source, span.clone(), None, &column.value)?;
        let of = &self.event.entries[entry].data_type;
        let data_type = result_type(&over_rows(func), of)
            .ok_or_else(|| source.error(span, format!("{name} does not take {of}")))?;
        Ok(self.shared(StepRef { step, func, argument: Some(entry), data_type }))
    }
}

/// A name without its quotes.
fn unquoted(name: &sql::ObjectName) -> String {
    let part = |part: &sql::ObjectNamePart| part.as_ident().map(|ident| ident.value.clone());
    let parts: Vec<String> = name.0.iter().filter_map(part).collect();
    parts.join(".")
}

/// The aggregate whose types a step's function has.
fn over_rows(func: StepFunc) -> AggregateFunc {
    match func {
        // Of a BIGINT a BIGINT; nobody can write it.
        StepFunc::First | StepFunc::Identity => AggregateFunc::First,
        StepFunc::Last => AggregateFunc::Last,
        StepFunc::Sum => AggregateFunc::Sum,
        StepFunc::Count => AggregateFunc::Count,
        StepFunc::Avg => AggregateFunc::Avg,
        StepFunc::Min => AggregateFunc::Min,
        StepFunc::Max => AggregateFunc::Max,
        StepFunc::ArrayAgg => AggregateFunc::ArrayAgg,
    }
}

impl Names for StepNames<'_> {
    fn column(
        &mut self,
        source: &Source<'_>,
        span: Range<usize>,
        qualifier: Option<&str>,
        name: &str,
    ) -> Result<Node, ExprError> {
        if let Some(step) = qualifier.filter(|q| self.steps.iter().any(|step| step == q)) {
            let message = format!("`{step}.{name}` may have many values");
            let hint = format!("say which: FIRST({step}.{name}) or LAST({step}.{name})");
            return Err(source.error(span, message).hint(hint));
        }
        if self.is_select {
            let message = format!("`{name}`: a match has many events, which one's is meant?");
            let step = self.steps.last().map_or("step", String::as_str);
            let hint =
                format!("write FIRST(step.{name}) or LAST(step.{name}), as in LAST({step}.{name})");
            return Err(source.error(span, message).hint(hint));
        }
        RowNames { scope: self.event }.column(source, span, qualifier, name)
    }

    fn function(
        &mut self,
        source: &Source<'_>,
        name: &str,
        function: &sql::Function,
    ) -> Option<Result<Node, ExprError>> {
        let func = match name {
            "FIRST" | "FIRST_VALUE" => StepFunc::First,
            "LAST" | "LAST_VALUE" => StepFunc::Last,
            "SUM" => StepFunc::Sum,
            "COUNT" => StepFunc::Count,
            "AVG" => StepFunc::Avg,
            "MIN" => StepFunc::Min,
            "MAX" => StepFunc::Max,
            "ARRAY_AGG" if self.is_select => StepFunc::ArrayAgg,
            _ if functions::is_aggregate(name) => {
                let message = format!(
                    "{name} is not known in a pattern's {}",
                    if self.is_select { "select" } else { "where" }
                );
                let error = source.error(source.range_of(&function.name), message);
                return Some(Err(
                    error.hint("FIRST, LAST, SUM, COUNT, AVG, MIN and MAX of a step's column are")
                ));
            }
            _ => return None,
        };
        Some(self.read(source, func, name, function))
    }
}
