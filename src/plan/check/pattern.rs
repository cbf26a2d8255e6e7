//! `pattern`: the steps as the operator's tree, each condition compiled once, and what the
//! operator refuses marked at the key that is wrong.

use std::sync::Arc;

use super::expr::{not_empty, report, wrong_type};
use super::schema::Schemas;
use super::settings::number;
use super::transform::{Made, made};
use crate::expr::{Condition, Scope, compile_match_select};
use crate::ground::schema::{Column, DataType, Schema, SchemaRef};
use crate::ops::pattern::ast::{self, Ast};
use crate::ops::pattern::check::{Refusal, check};
use crate::ops::pattern::nfa::Nfa;
use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Diagnostics, Span, Spanned, quoted, suggest};
use crate::plan::graph::{PatternEmit, PatternPlan, RulesPlan, TransformKind};
use crate::plan::raw::pattern::{
    AfterMatch, Contiguity, Inner, Pattern, Rule, Rules, Step, StepWhat, Times, Within,
};
use crate::plan::raw::text::Text;

/// `type = "pattern"`.
pub fn pattern(input: &SchemaRef, pattern: &Pattern, out: &mut Diagnostics) -> Option<Made> {
    let mut texts: Vec<&Text> = Vec::new();
    let steps = pattern.steps.value.iter().map(|step| tree(step, &mut texts)).collect();
    let within = within(pattern.within.as_ref(), out);
    let after_match = after_match(pattern);
    let ast = Ast { steps, within, after_match };
    let refused = check(&ast, texts.len());
    let is_good = refused.is_ok();
    for refusal in refused.err().unwrap_or_default() {
        let span = place(pattern, &refusal);
        let wrong = Diagnostic::error(Code::BadPattern, span, refusal.reason);
        out.add(wrong.maybe_hint(refusal.hint));
    }
    let (scope, names) = (Scope::of(input), ast.names());
    let conditions: Vec<Option<Condition>> = texts
        .iter()
        .map(|text| match Condition::compile(&text.value, &scope, &names) {
            Ok(condition) => Some(condition),
            Err(error) => {
                report(text, error, out);
                None
            }
        })
        .collect();
    not_empty(&pattern.select, out)?;
    let entries = pattern.select.entries.iter();
    let columns: Vec<(String, String)> =
        entries.map(|(name, text)| (name.value.clone(), text.value.clone())).collect();
    let select = match compile_match_select(&columns, &scope, &names) {
        Ok(select) => Some(select),
        Err(errors) => {
            for (at, error) in errors {
                report(&pattern.select.entries[at].1, error, out);
            }
            None
        }
    };
    let conditions: Vec<Condition> = conditions.into_iter().collect::<Option<_>>()?;
    let dynamic = conditions.iter().enumerate();
    let dynamic = dynamic.fold(0, |all, (i, one)| all | u64::from(one.rest.is_some()) << i);
    if is_good && let Err(error) = Nfa::new(&ast, dynamic) {
        let wrong = Diagnostic::error(Code::BadPattern, pattern.steps.span, error.to_string());
        out.add(wrong.hint("repeat fewer rows: `times` within groups with `times` multiply"));
        return None;
    }
    let select = select.filter(|_| is_good)?;
    let emit = pattern.emit.as_ref().map_or(PatternEmit::Final, |emit| emit.value);
    let matches = Arc::new(select.finish.schema());
    let main = match emit {
        PatternEmit::Final => matches.clone(),
        PatternEmit::Eager => {
            let about = [("match_id", DataType::BigInt), ("status", DataType::String)];
            let column = |(name, of)| (Column::new(name, of).not_null(), pattern.select.span);
            super::schema::extended(&matches, about.map(column), out)?
        }
    };
    let texts = texts.iter().map(|text| text.value.clone()).collect();
    let partials_max = match &pattern.max_partial_matches {
        None => None,
        Some(most) => Some(number("max_partial_matches", most, 1, i64::MAX, out)? as usize),
    };
    let plan = PatternPlan { ast, conditions, texts, select, emit, partials_max };
    made(TransformKind::Pattern(Box::new(plan)), [main, input.clone(), matches])
}

/// Columns before those that a rule selects.
const RULE_COLUMNS: [&str; 2] = ["rule", "rule_version"];

/// `type = "pattern"` with `rules`.
pub fn rules(
    input: &SchemaRef,
    rules: &Rules,
    schemas: &Schemas,
    out: &mut Diagnostics,
) -> Option<Made> {
    let declared = schemas.find(&rules.schema, out)?;
    if let Some(taken) = declared.columns.iter().find(|c| RULE_COLUMNS.contains(&&*c.name)) {
        let message = format!("the column `{}` is put before those of `schema`", taken.name);
        out.add(Diagnostic::error(Code::DuplicateColumn, rules.schema.span, message));
        return None;
    }
    let own = [("rule", DataType::String), ("rule_version", DataType::BigInt)];
    let own = own.map(|(name, of)| Column::new(name, of).not_null());
    let selected = declared.columns.iter().map(|column| Column {
        // A rule may have nothing to say of a column.
        nullable: true,
        ..Column::new(column.name.clone(), column.data_type.clone())
    });
    let columns = Arc::new(Schema::new(own.into_iter().chain(selected).collect()));
    let plan = RulesPlan {
        files: rules.files.value.clone(),
        files_at: rules.files.span,
        input: input.clone(),
        columns: columns.clone(),
        book: Arc::default(),
    };
    made(TransformKind::Rules(plan), [columns.clone(), input.clone(), columns])
}

/// A rule as a pattern that puts its name and version before the columns that all rules select.
pub fn rule(of: &RulesPlan, name: &str, rule: &Rule, out: &mut Diagnostics) -> Option<PatternPlan> {
    let mut written = rule.pattern.clone();
    if let Some(emit) = &written.emit {
        let message = "a rule puts its matches out when the watermark has passed them";
        let wrong = Diagnostic::error(Code::Conflict, emit.span, message);
        out.add(wrong.hint("leave `emit` out; an eager pattern stands in the pipeline file"));
        return None;
    }
    let span = written.select.span;
    let selected = std::mem::take(&mut written.select.entries);
    let wanted = &of.columns.columns[RULE_COLUMNS.len()..];
    let mut is_good = true;
    for (name, _) in &selected {
        if !wanted.iter().any(|column| column.name == name.value) {
            let known = wanted.iter().map(|column| column.name.as_str());
            let message = format!("the rules' schema has no column `{}`", name.value);
            let hint = suggest(&name.value, known, "its columns are");
            out.add(Diagnostic::error(Code::UnknownColumn, name.span, message).maybe_hint(hint));
            is_good = false;
        }
    }
    let literal = |text: String| Text::new(text, span, Vec::new());
    let own = [literal(format!("'{name}'")), literal(rule.version.value.to_string())];
    let own = RULE_COLUMNS.iter().zip(own);
    written.select.entries =
        own.map(|(name, text)| (Spanned::new(name.to_string(), span), text)).collect();
    for column in wanted {
        match selected.iter().find(|(name, _)| name.value == column.name) {
            Some(entry) => written.select.entries.push(entry.clone()),
            None => {
                let message = format!("`select` says nothing of `{}`", column.name);
                let hint = format!("all rules select {}", names_of(wanted));
                out.add(Diagnostic::error(Code::MissingKey, span, message).hint(hint));
                is_good = false;
            }
        }
    }
    let TransformKind::Pattern(plan) = pattern(&of.input, &written, out)?.kind else {
        return None;
    };
    let made = plan.select.finish.schema();
    for (i, column) in made.columns.iter().enumerate().skip(RULE_COLUMNS.len()) {
        let wanted = &of.columns.columns[i].data_type;
        if column.data_type != *wanted {
            let span = written.select.entries[i].1.span;
            let what = format!("`{}`", column.name);
            wrong_type(span, &what, &wanted.to_string(), &column.data_type, out);
            is_good = false;
        }
    }
    is_good.then_some(*plan)
}

fn names_of(columns: &[Column]) -> String {
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    quoted(&names)
}

/// Durations of nothing and less are no bound, as in Flink, and hardly meant.
fn within(within: Option<&Within>, out: &mut Diagnostics) -> ast::Within {
    let (key, ms, made): (_, _, fn(i64) -> ast::Within) = match within {
        None => return ast::Within::Unbounded,
        Some(Within::Whole(ms)) => ("within", ms, ast::Within::FirstAndLast),
        Some(Within::BetweenEvents(ms)) => ("between_events", ms, ast::Within::PreviousAndCurrent),
    };
    if ms.value.0 <= 0 {
        let message = format!("`{key}` is no bound, since it is not longer than nothing");
        let hint = "leave it out, or give a time: within = \"10m\"";
        out.add(Diagnostic::warning(Code::BadPattern, ms.span, message).hint(hint));
    }
    made(ms.value.0)
}

fn after_match(pattern: &Pattern) -> ast::AfterMatch {
    match pattern.after_match.as_ref().map(|after| &after.value) {
        None | Some(AfterMatch::NoSkip) => ast::AfterMatch::NoSkip,
        Some(AfterMatch::SkipToNext) => ast::AfterMatch::SkipToNext,
        Some(AfterMatch::SkipPastLastEvent) => ast::AfterMatch::SkipPastLastEvent,
        Some(AfterMatch::SkipToFirst(step)) => ast::AfterMatch::SkipToFirst(step.clone()),
        Some(AfterMatch::SkipToLast(step)) => ast::AfterMatch::SkipToLast(step.clone()),
    }
}

/// A step as the operator has it; its conditions go to `texts`, equal ones once.
fn tree<'p>(step: &'p Step, texts: &mut Vec<&'p Text>) -> ast::Step {
    let mut place = |text: &'p Text| {
        texts.iter().position(|known| known.value == text.value).unwrap_or_else(|| {
            texts.push(text);
            texts.len() - 1
        })
    };
    let until = step.until.as_ref().map(&mut place);
    let (name, condition, group) = match &step.what {
        StepWhat::One { name, condition } => {
            (Some(name.value.clone()), condition.as_ref().map(&mut place), None)
        }
        StepWhat::Group(steps) => {
            (None, None, Some(steps.iter().map(|step| tree(step, texts)).collect()))
        }
    };
    ast::Step {
        name,
        condition,
        group,
        contiguity: step.contiguity.as_ref().map(|given| match given.value {
            Contiguity::Next => ast::Contiguity::Next,
            Contiguity::FollowedBy => ast::Contiguity::FollowedBy,
            Contiguity::FollowedByAny => ast::Contiguity::FollowedByAny,
            Contiguity::NotNext => ast::Contiguity::NotNext,
            Contiguity::NotFollowedBy => ast::Contiguity::NotFollowedBy,
        }),
        times: step.times.as_ref().map(|times| match times.value {
            Times::Exactly(n) => ast::Times { min: n, max: Some(n) },
            // Without `min` the step is taken once at least, as Flink's times(1, max).
            Times::Range { min, max } => ast::Times { min: min.unwrap_or(1), max },
        }),
        inner: step.inner.as_ref().map(|given| match given.value {
            Inner::Relaxed => ast::Inner::Relaxed,
            Inner::Consecutive => ast::Inner::Consecutive,
            Inner::AllowCombinations => ast::Inner::AllowCombinations,
        }),
        optional: step.optional.as_ref().is_some_and(|given| given.value),
        greedy: step.greedy.as_ref().is_some_and(|given| given.value),
        until,
    }
}

/// Where the key that a refusal names is written.
fn place(pattern: &Pattern, refusal: &Refusal) -> Span {
    let mut steps = &pattern.steps.value;
    let mut found: Option<&Step> = None;
    for &at in &refusal.path {
        let Some(step) = steps.get(at) else { break };
        found = Some(step);
        if let StepWhat::Group(inner) = &step.what {
            steps = inner;
        }
    }
    let Some(step) = found else {
        return match refusal.key {
            "after_match" => pattern.after_match.as_ref().map(|given| given.span),
            _ => None,
        }
        .unwrap_or(pattern.steps.span);
    };
    let key = match (refusal.key, &step.what) {
        ("contiguity", _) => step.contiguity.as_ref().map(|given| given.span),
        ("times", _) => step.times.as_ref().map(|given| given.span),
        ("inner", _) => step.inner.as_ref().map(|given| given.span),
        ("optional", _) => step.optional.as_ref().map(|given| given.span),
        ("greedy", _) => step.greedy.as_ref().map(|given| given.span),
        ("until", _) => step.until.as_ref().map(|given| given.span),
        ("name", StepWhat::One { name, .. }) => Some(name.span),
        ("where", StepWhat::One { condition, .. }) => condition.as_ref().map(|text| text.span),
        _ => None,
    };
    key.unwrap_or(step.span)
}
