//! What becomes of lookups' tables at the start of a run.

use std::sync::Arc;

use super::{around, pipeline};
use crate::flow::snapshot::Restored;
use crate::flow::tables::{Known, TableName};
use crate::plan::build::From;
use crate::plan::graph::{Pipeline, TransformKind};
use crate::plan::tables::{Start, is_over, name_of, start_of};
use crate::port::{Next, PortError, Source};

const LOOKUP: &str = r#"
[sources.p]
type = "file"
path = "data/p.jsonl"
schema = "transaction"
[transforms.x]
type = "lookup"
inputs = ["t"]
table = "p"
on = { user_id = "user_id" }
add = { home = "p.country" }
"#;

/// A source of which only this is asked.
struct Asked {
    is_bounded: bool,
    position: Option<u64>,
}

impl Source for Asked {
    fn next(&mut self, _: u64) -> Result<Next, PortError> {
        Ok(Next::End)
    }

    fn position(&self) -> Option<u64> {
        self.position
    }

    fn is_bounded(&self) -> bool {
        self.is_bounded
    }
}

const FILE: Asked = Asked { is_bounded: true, position: Some(0) };
const ENDLESS: Asked = Asked { is_bounded: false, position: Some(0) };
const SOCKET: Asked = Asked { is_bounded: false, position: None };

fn names(pipeline: &Pipeline) -> Vec<TableName> {
    let lookup = |transform: &crate::plan::graph::TransformPlan| match &transform.kind {
        TransformKind::Lookup(spec) => Some(name_of(pipeline, &transform.name, spec)),
        _ => None,
    };
    pipeline.transforms.iter().filter_map(lookup).collect()
}

/// What becomes of `p`, behind a checkpoint of `before` in which it had come to `position`.
fn check(
    lines: &str,
    source: &Asked,
    before: Option<&str>,
    (position, has_ended): (Option<u64>, bool),
) -> Result<Start, String> {
    let pipeline = pipeline(&around(lines));
    let at = pipeline.sources.iter().position(|plan| plan.name == "p").expect("it is there");
    let mut from = From::default();
    let mut known = Known::default();
    if let Some(before) = before {
        known.tables = names(&super::pipeline(&around(before)));
        known.ended.extend(has_ended.then(|| "p".to_string()));
        from.positions.extend(position.map(|position| ("p".to_string(), position)));
        from.restored = Some(Arc::new(Restored::default()));
    }
    let start = start_of(&pipeline, at, source, &from, &known).map_err(|error| error.to_string());
    if start == Ok(Start::IsOver) {
        assert!(is_over(&pipeline, at, &known));
    }
    start
}

#[test]
fn a_table_goes_on_is_over_or_is_read_again() {
    let (same, other) = (Some(LOOKUP), LOOKUP.replace("p.country", "p.type"));
    let other = Some(&other[..]);
    let renamed = LOOKUP.replace("add = { home", "add = { origin");
    // A fresh start, and the middle and the end of a table.
    assert_eq!(check(LOOKUP, &FILE, None, (None, false)), Ok(Start::GoesOn));
    assert_eq!(check(LOOKUP, &FILE, same, (Some(3), false)), Ok(Start::GoesOn));
    assert_eq!(check(LOOKUP, &FILE, same, (Some(3), true)), Ok(Start::IsOver));
    assert_eq!(check(LOOKUP, &FILE, Some(&renamed), (Some(3), true)), Ok(Start::IsOver));
    assert_eq!(check(LOOKUP, &FILE, same, (None, false)), Ok(Start::IsReadAgain));
    assert_eq!(check(LOOKUP, &ENDLESS, same, (Some(3), false)), Ok(Start::GoesOn));
    // One in another form, or of a checkpoint that knows none.
    assert_eq!(check(LOOKUP, &FILE, other, (Some(3), true)), Ok(Start::IsReadAgain));
    assert_eq!(
        check(
            LOOKUP,
            &FILE,
            Some("[transforms.x]\ntype = 'union'\ninputs = ['t']\n"),
            (Some(3), false)
        ),
        Ok(Start::IsReadAgain)
    );
    // Two lookups of one table, of which one is new.
    let two = format!(
        "{LOOKUP}{}",
        LOOKUP[LOOKUP.find("[transforms").expect("it")..].replace("transforms.x", "transforms.y")
    );
    assert_eq!(check(&two, &FILE, same, (Some(3), true)), Ok(Start::IsReadAgain));
    assert_eq!(check(&two, &ENDLESS, same, (Some(3), false)), Ok(Start::GoesOn));
}

#[test]
fn a_table_that_is_a_stream_too_goes_on_like_one() {
    let both = format!("{LOOKUP}[sinks.p]\ntype = 'stdout'\ninputs = ['p']\n");
    assert_eq!(check(&both, &FILE, Some(&both), (Some(3), true)), Ok(Start::GoesOn));
}

#[test]
fn what_can_neither_go_on_nor_be_read_again_is_refused() {
    let other = LOOKUP.replace("user_id = \"user_id\"", "user_id = \"merchant_id\"");
    let why = check(LOOKUP, &ENDLESS, Some(&other), (Some(3), false)).unwrap_err();
    for word in ["p: ", "the table of `x` in another form", "--restore none"] {
        assert!(why.contains(word), "{word} in {why}");
    }
    let why = check(LOOKUP, &SOCKET, None, (None, false)).unwrap_err();
    assert!(why.contains("`x` has no end and cannot be read again"), "{why}");
}
