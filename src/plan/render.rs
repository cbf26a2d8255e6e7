//! A pipeline drawn as a Mermaid or Graphviz graph.

use std::fmt::Write;

use super::graph::{Node, Pipeline, PortRef, TransformKind};

struct Box<'a> {
    name: &'a str,
    kind: &'a str,
    shape: Shape,
}

#[derive(Clone, Copy)]
enum Shape {
    Source,
    Transform,
    Sink,
}

/// Components and the edges between them: from, to, words on the edge.
fn parts(pipeline: &Pipeline) -> (Vec<Box<'_>>, Vec<(usize, usize, String)>) {
    let (mut boxes, mut edges) = (Vec::new(), Vec::new());
    for source in &pipeline.sources {
        boxes.push(Box { name: &source.name, kind: source.connector, shape: Shape::Source });
    }
    let place = |node: Node| match node {
        Node::Source(at) => at,
        Node::Transform(at) => pipeline.sources.len() + at,
    };
    let edge =
        |port: PortRef, to: usize| (place(port.node), to, pipeline.output(port).name.clone());
    for transform in &pipeline.transforms {
        let to = boxes.len();
        edges.extend(transform.inputs.iter().map(|port| edge(*port, to)));
        if let TransformKind::Lookup(lookup) = &transform.kind {
            edges.push((lookup.table, to, "table".into()));
        }
        let kind = transform.kind.word();
        boxes.push(Box { name: &transform.name, kind, shape: Shape::Transform });
    }
    for sink in &pipeline.sinks {
        let to = boxes.len();
        edges.extend(sink.inputs.iter().map(|input| edge(input.port, to)));
        boxes.push(Box { name: &sink.name, kind: sink.connector, shape: Shape::Sink });
    }
    (boxes, edges)
}

/// As a Mermaid flowchart.
pub fn mermaid(pipeline: &Pipeline) -> String {
    let (boxes, edges) = parts(pipeline);
    let mut out = String::from("flowchart LR\n");
    for (at, each) in boxes.iter().enumerate() {
        let (open, close) = match each.shape {
            Shape::Source => ("([", "])"),
            Shape::Transform => ("[", "]"),
            Shape::Sink => ("[/", "/]"),
        };
        let (name, kind) = (each.name, each.kind);
        let _ = writeln!(out, "    n{at}{open}\"{name}<br/><i>{kind}</i>\"{close}");
    }
    for (from, to, words) in &edges {
        let arrow = if words.is_empty() { "-->".into() } else { format!("-- {words} -->") };
        let _ = writeln!(out, "    n{from} {arrow} n{to}");
    }
    out
}

/// In Graphviz's language.
pub fn dot(pipeline: &Pipeline) -> String {
    let (boxes, edges) = parts(pipeline);
    let mut out = format!("digraph \"{}\" {{\n    rankdir=LR;\n", escape(&pipeline.name));
    for (at, each) in boxes.iter().enumerate() {
        let shape = match each.shape {
            Shape::Source => "oval",
            Shape::Transform => "box",
            Shape::Sink => "parallelogram",
        };
        let (name, kind) = (each.name, each.kind);
        let _ = writeln!(out, "    n{at} [shape={shape}, label=\"{name}\\n{kind}\"];");
    }
    for (from, to, words) in &edges {
        let label = if words.is_empty() { String::new() } else { format!(" [label=\"{words}\"]") };
        let _ = writeln!(out, "    n{from} -> n{to}{label};");
    }
    out.push_str("}\n");
    out
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
