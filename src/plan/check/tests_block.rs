//! `[[tests]]`: rows for sources, rows expected at outputs, held against their schemas.

use super::Checker;
use super::rows::rows;
use super::wiring::Component;
use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Severity, Spanned, suggest};
use crate::plan::graph::{Expected, Node, PortRef, TestPlan};
use crate::plan::raw::Test;

/// Checks all tests of the file.
pub fn tests(checker: &mut Checker<'_>) -> Vec<TestPlan> {
    let file = checker.file;
    file.tests.iter().map(|test| one(test, checker)).collect()
}

fn one(test: &Test, checker: &mut Checker<'_>) -> TestPlan {
    let mut plan = TestPlan { name: test.name.value.clone(), rows: Vec::new(), expect: Vec::new() };
    for (name, nodes) in &test.rows {
        let Some(Component::Node(Node::Source(at))) = checker.wiring.component(&name.value) else {
            let message = format!("there is no source `{}`", name.value);
            let names = checker.file.sources.iter().map(|source| source.name.value.as_str());
            let hint = suggest(&name.value, names, "sources");
            let wrong = Diagnostic::error(Code::UnknownInput, name.span, message);
            checker.out.add(wrong.maybe_hint(hint));
            continue;
        };
        if let Some(schema) = checker.decoded.get(&at) {
            plan.rows.push((at, rows(nodes, schema, Severity::Error, checker.out)));
        }
    }
    for (name, nodes) in &test.expect {
        let Some(place) = place(name, checker) else { continue };
        let port = match place {
            Expected::Output(port) => Some(port),
            // A sink with several inputs shows rows of several schemas.
            Expected::Sink(at) => match &checker.wiring.sink_inputs[at][..] {
                [Some(link)] => Some(link.port),
                _ => None,
            },
        };
        let schema = port.and_then(|port| checker.schema(port));
        let lines = match schema {
            Some(schema) => rows(nodes, &nullable(&schema), Severity::Error, checker.out),
            None => Vec::new(),
        };
        plan.expect.push((place, lines));
    }
    plan
}

fn place(name: &Spanned<String>, checker: &mut Checker<'_>) -> Option<Expected> {
    if let Some(Component::Sink(at)) = checker.wiring.component(&name.value) {
        return Some(Expected::Sink(at));
    }
    let port: PortRef = checker.wiring.port(&name.value, name.span, checker.file, checker.out)?;
    Some(Expected::Output(port))
}

/// What a test expects is told by the columns that it names; the others are NULL.
fn nullable(schema: &crate::ground::schema::Schema) -> crate::ground::schema::Schema {
    let mut schema = schema.clone();
    schema.columns.iter_mut().for_each(|column| column.nullable = true);
    schema
}
