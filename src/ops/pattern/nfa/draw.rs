//! The automaton of a pattern as a Mermaid graph, for people: states and edges as Flink's compiler
//! makes them, before PROCEED edges are followed.

use std::fmt::Write;

use super::compile::{Action, Draft, build};
use super::cond::{Cond, Cube};
use super::{Kind, NO_STEP};
use crate::ops::pattern::ast::Ast;

/// The lines of a sub-graph for a checked pattern: a node for each state that can be reached, an
/// edge for each thing that a row can do. `texts` are the pattern's conditions by their places;
/// nodes are called `prefix` and a number.
pub fn mermaid(ast: &Ast, texts: &[String], prefix: &str) -> String {
    let (states, start) = build(ast);
    let names = ast.names();
    let (mut reached, mut next) = (vec![start], 0);
    while let Some(&state) = reached.get(next) {
        next += 1;
        for edge in states[state].edges.iter().filter(|edge| !edge.cond.0.is_empty()) {
            if !reached.contains(&edge.target) {
                reached.push(edge.target);
            }
        }
    }
    let mut out = String::new();
    // Writing to a String cannot fail.
    for (at, &state) in reached.iter().enumerate() {
        let _ = writeln!(out, "        {prefix}{at}{}", node(&states[state], &names));
    }
    for (at, &state) in reached.iter().enumerate() {
        for edge in states[state].edges.iter().filter(|edge| !edge.cond.0.is_empty()) {
            let to = reached.iter().position(|&other| other == edge.target).unwrap_or(at);
            let (arrow, word) = match edge.action {
                Action::Take => ("-->", "take"),
                Action::Ignore => ("-.->", "ignore"),
                Action::Proceed => ("==>", "proceed"),
            };
            let when = said(&edge.cond, texts);
            let words = if when.is_empty() { word.into() } else { format!("{word}: {when}") };
            let _ =
                writeln!(out, "        {prefix}{at} {arrow}|\"{}\"| {prefix}{to}", quoted(&words));
        }
    }
    out
}

fn node(state: &Draft, names: &[String]) -> String {
    let step = match state.step {
        NO_STEP => "",
        step => names.get(step as usize).map_or("", String::as_str),
    };
    let step = quoted(step);
    match state.kind {
        Kind::Start => format!("([\"start: {step}\"])"),
        Kind::Normal => format!("[\"{step}\"]"),
        Kind::Final => "(((\"match\")))".into(),
        Kind::Stop => "{{\"stop\"}}".into(),
        Kind::Pending => format!("[\"until the time is over: no {step}\"]"),
    }
}

/// A condition in words; empty if it is always true.
fn said(cond: &Cond, texts: &[String]) -> String {
    let test = |i: u32| texts.get(i as usize).map_or("?", String::as_str);
    let bits = |set: u64| (0..64u32).filter(move |i| set >> i & 1 == 1);
    let product = |cube: &Cube| -> String {
        let must = bits(cube.must).map(|i| format!("({})", test(i)));
        let not = bits(cube.not).map(|i| format!("NOT ({})", test(i)));
        must.chain(not).collect::<Vec<_>>().join(" AND ")
    };
    cond.0.iter().map(product).collect::<Vec<_>>().join(" OR ")
}

/// Text as it may stand between the quotes of a label.
fn quoted(text: &str) -> String {
    let text = text.replace('&', "#amp;").replace('"', "#quot;");
    text.replace('<', "#lt;").replace('>', "#gt;")
}
