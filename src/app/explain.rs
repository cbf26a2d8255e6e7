//! `cutwater explain`: what a pipeline's patterns become.

use std::borrow::Cow;
use std::fmt::Write;

use super::arguments::Explain;
use super::load::load;
use super::{OK, WRONG, eprint, print, stderr_is_styled};
use crate::ops::pattern::ast::{AfterMatch, Within};
use crate::ops::pattern::nfa::draw;
use crate::ops::pattern::strict::Positions;
use crate::plan::graph::{PatternPlan, Pipeline, TransformKind, TransformPlan};

/// Draws the patterns of a file; gives the exit code.
pub fn explain(arguments: &Explain) -> u8 {
    let loaded = load(&arguments.pipeline);
    eprint(&loaded.shown(stderr_is_styled()));
    let Some(pipeline) = loaded.pipeline else {
        return WRONG;
    };
    let patterns = patterns(&pipeline);
    let wanted = |name: &str| arguments.pattern.as_ref().is_none_or(|wanted| wanted == name);
    let chosen: Vec<_> = patterns.iter().filter(|drawn| wanted(&drawn.name)).collect();
    if let (Some(name), true) = (&arguments.pattern, chosen.is_empty()) {
        let names: Vec<&str> = patterns.iter().map(|drawn| drawn.name.as_str()).collect();
        let there = match names.is_empty() {
            true => "it has none".to_string(),
            false => format!("it has {}", names.join(", ")),
        };
        let path = &loaded.path;
        eprint(&format!("error: {path}: there is no pattern `{name}`; {there}\n"));
        return WRONG;
    }
    let mut out = String::from("flowchart LR\n");
    if chosen.is_empty() {
        out += "    %% this pipeline has no patterns\n";
    }
    for (at, drawn) in chosen.into_iter().enumerate() {
        draw_one(&mut out, at, drawn);
    }
    print(&out);
    OK
}

/// A pattern, and the transform that has it. A rule is called by its transform's name and its own.
struct Drawn<'a> {
    name: String,
    plan: &'a TransformPlan,
    pattern: Cow<'a, PatternPlan>,
}

fn patterns(pipeline: &Pipeline) -> Vec<Drawn<'_>> {
    let mut drawn = Vec::new();
    for plan in &pipeline.transforms {
        match &plan.kind {
            TransformKind::Pattern(pattern) => {
                let pattern = Cow::Borrowed(&**pattern);
                drawn.push(Drawn { name: plan.name.clone(), plan, pattern });
            }
            TransformKind::Rules(rules) => {
                drawn.extend(rules.book.rules().into_iter().map(|rule| {
                    let name = format!("{}.{}", plan.name, rule.name);
                    Drawn { name, plan, pattern: Cow::Owned(rule.pattern) }
                }))
            }
            _ => {}
        }
    }
    drawn
}

fn draw_one(out: &mut String, at: usize, drawn: &Drawn<'_>) {
    let Drawn { name, plan, pattern } = drawn;
    let columns = &plan.input_schemas[0].columns;
    let key: Vec<&str> = plan.key.iter().map(|&column| columns[column].name.as_str()).collect();
    let within = match pattern.ast.within {
        Within::Unbounded => "no bound".to_string(),
        Within::FirstAndLast(ms) => format!("{ms} ms from the first row to the last"),
        Within::PreviousAndCurrent(ms) => format!("{ms} ms from each row to the next"),
    };
    let after_match = match &pattern.ast.after_match {
        AfterMatch::NoSkip => "no_skip".to_string(),
        AfterMatch::SkipToNext => "skip_to_next".to_string(),
        AfterMatch::SkipPastLastEvent => "skip_past_last_event".to_string(),
        AfterMatch::SkipToFirst(step) => format!("skip_to_first {step}"),
        AfterMatch::SkipToLast(step) => format!("skip_to_last {step}"),
    };
    let is_timed_out_read = plan.outputs.get(2).is_some_and(|output| output.is_read);
    let run_as = match Positions::of(&pattern.ast) {
        Some(_) if !is_timed_out_read => "a bit set and a ring of rows for each key",
        _ => "an automaton with the open partial matches of each key",
    };
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "    %% {name}: key {}; within: {within}; after_match: {after_match}\n    \
         %% {name}: run as {run_as}\n    subgraph p{at} [\"{name}\"]\n{}    end\n",
        key.join(", "),
        draw::mermaid(&pattern.ast, &pattern.texts, &format!("p{at}s")),
    );
}
