//! Who feeds whom: names resolved, circles found, transforms put in order.

use std::collections::BTreeMap;

use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Diagnostics, Span, Spanned, quoted, suggest};
use crate::plan::graph::{Node, PortRef};
use crate::plan::raw::File;
use crate::plan::raw::component::Source;
use crate::plan::raw::text::Text;
use crate::plan::raw::transform::{Body, Transform, TransformType, Unmatched};

/// Anything with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    Node(Node),
    Sink(usize),
}

/// An input that exists.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub port: PortRef,
    pub span: Span,
}

/// The graph of a file. Transforms are numbered in topological order, see [`order`].
pub struct Wiring {
    names: BTreeMap<String, Component>,
    /// Output names of each source and transform; none if they cannot be known.
    ports: BTreeMap<Node, Vec<String>>,
    /// Inputs of each transform; `None` for one that is wrong.
    pub inputs: Vec<Vec<Option<Link>>>,
    /// Inputs of each sink.
    pub sink_inputs: Vec<Vec<Option<Link>>>,
    /// The table of each lookup: a place in the sources.
    pub tables: Vec<Option<usize>>,
}

impl Wiring {
    /// Resolves every name of the file.
    pub fn new(file: &File, out: &mut Diagnostics) -> Wiring {
        let mut wiring = Wiring {
            names: names(file, out),
            ports: BTreeMap::new(),
            inputs: Vec::new(),
            sink_inputs: Vec::new(),
            tables: Vec::new(),
        };
        for at in 0..file.sources.len() {
            wiring.ports.insert(Node::Source(at), own(&["", "rejected"]));
        }
        for (at, transform) in file.transforms.iter().enumerate() {
            if let Some(ports) = outputs(transform) {
                wiring.ports.insert(Node::Transform(at), ports);
            }
        }
        for transform in &file.transforms {
            let resolve = |input| wiring.resolve(input, file, out);
            let inputs = transform.inputs.iter().map(resolve).collect();
            let table = match &transform.body {
                Some(Body::Lookup(lookup)) => wiring.table(&lookup.table, &file.sources, out),
                _ => None,
            };
            wiring.inputs.push(inputs);
            wiring.tables.push(table);
        }
        for sink in &file.sinks {
            let resolve = |input| wiring.resolve(input, file, out);
            let inputs = sink.inputs.iter().map(resolve).collect();
            wiring.sink_inputs.push(inputs);
        }
        wiring
    }

    /// The component of a name.
    pub fn component(&self, name: &str) -> Option<Component> {
        self.names.get(name).copied()
    }

    /// The outputs of a component by name; none if they cannot be known.
    pub fn port_names(&self, node: Node) -> &[String] {
        self.ports.get(&node).map_or(&[], Vec::as_slice)
    }

    /// Names of the components that have outputs.
    fn known(&self) -> Vec<&str> {
        let is_node = |component: &Component| matches!(component, Component::Node(_));
        let names = self.names.iter().filter(|(_, component)| is_node(component));
        names.map(|(name, _)| name.as_str()).collect()
    }

    /// Resolves `name` or `name.output`.
    fn resolve(&self, input: &Text, file: &File, out: &mut Diagnostics) -> Option<Link> {
        let port = self.port(&input.value, input.span, file, out)?;
        Some(Link { port, span: input.span })
    }

    /// Resolves `name` or `name.output`, written at `span`.
    pub fn port(
        &self,
        written: &str,
        span: Span,
        file: &File,
        out: &mut Diagnostics,
    ) -> Option<PortRef> {
        let (name, output) = written.split_once('.').unwrap_or((written, ""));
        let node = match self.component(name) {
            Some(Component::Node(node)) => node,
            Some(Component::Sink(_)) => {
                let message = format!("`{name}` is a sink, it has no rows to give");
                out.add(Diagnostic::error(Code::UnknownInput, span, message));
                return None;
            }
            None => {
                let message = format!("there is no component `{name}`");
                let hint = suggest(name, self.known(), "components with outputs");
                out.add(Diagnostic::error(Code::UnknownInput, span, message).maybe_hint(hint));
                return None;
            }
        };
        let ports = self.ports.get(&node)?;
        if let Some(port) = ports.iter().position(|port| port == output) {
            return Some(PortRef { node, port });
        }
        let message = format!("`{name}` has no output `{output}`");
        let wrong = Diagnostic::error(Code::UnknownOutput, span, message);
        let others: Vec<String> = ports[1..].iter().map(|port| format!("{name}.{port}")).collect();
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        let is_lookup = matches!(node, Node::Transform(at)
            if matches!(file.transforms[at].body, Some(Body::Lookup(_))));
        out.add(if is_lookup && output == "unmatched" {
            wrong.hint(format!("`{name}` has it with `unmatched = \"route\"`"))
        } else if others.is_empty() {
            wrong.hint(format!("it has one output, `{name}`"))
        } else {
            wrong.maybe_hint(suggest(written, others, "its other outputs"))
        });
        None
    }

    /// Resolves the table of a lookup.
    fn table(&self, table: &Text, sources: &[Source], out: &mut Diagnostics) -> Option<usize> {
        if let Some(Component::Node(Node::Source(at))) = self.component(&table.value) {
            return Some(at);
        }
        let what = match self.component(&table.value) {
            None => "there is no source",
            Some(_) => "a lookup's table is a source, not",
        };
        let message = format!("{what} `{}`", table.value);
        let names = sources.iter().map(|source| source.name.value.as_str());
        let hint = suggest(&table.value, names, "sources");
        out.add(Diagnostic::error(Code::UnknownInput, table.span, message).maybe_hint(hint));
        None
    }
}

fn own(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_string()).collect()
}

/// The outputs of a transform by name; the first is the main one.
fn outputs(transform: &Transform) -> Option<Vec<String>> {
    Some(match transform.kind.as_ref()?.value {
        TransformType::Window | TransformType::Join | TransformType::Over => own(&["", "late"]),
        TransformType::Pattern => own(&["", "late", "timed_out"]),
        TransformType::Route => match &transform.body {
            Some(Body::Route { outputs }) => {
                let named = outputs.entries.iter().map(|(name, _)| name.value.clone());
                std::iter::once(String::new()).chain(named).collect()
            }
            _ => return None,
        },
        TransformType::Lookup | TransformType::AsyncLookup => match &transform.body {
            Some(Body::Lookup(lookup)) => match &lookup.unmatched {
                Some(unmatched) if unmatched.value == Unmatched::Route => own(&["", "unmatched"]),
                _ => own(&[""]),
            },
            _ => return None,
        },
        TransformType::TopN => match &transform.body {
            Some(Body::TopN { window: Some(_), .. }) => own(&["", "late"]),
            Some(_) => own(&[""]),
            None => return None,
        },
        TransformType::Filter
        | TransformType::Map
        | TransformType::FlatMap
        | TransformType::Aggregate
        | TransformType::Dedup
        | TransformType::Timeout
        | TransformType::Union => own(&[""]),
    })
}

/// All names; one that is used twice is reported. A sink may have the name of what it writes: it
/// has no outputs, so nobody can mean it as an input.
fn names(file: &File, out: &mut Diagnostics) -> BTreeMap<String, Component> {
    let mut names: BTreeMap<String, Component> = BTreeMap::new();
    let mut places: BTreeMap<&str, Span> = BTreeMap::new();
    let sources = file.sources.iter().enumerate();
    let transforms = file.transforms.iter().enumerate();
    let sinks = file.sinks.iter().enumerate();
    let all = sources
        .map(|(at, source)| (&source.name, Component::Node(Node::Source(at))))
        .chain(transforms.map(|(at, each)| (&each.name, Component::Node(Node::Transform(at)))));
    for (Spanned { value: name, span }, component) in all {
        if let Some(first) = places.get(name.as_str()) {
            let message = format!("two components have the name `{name}`");
            out.add(
                Diagnostic::error(Code::DuplicateName, *span, message)
                    .label("again here")
                    .also(*first, "first here"),
            );
            continue;
        }
        places.insert(name, *span);
        names.insert(name.clone(), component);
    }
    for (at, sink) in sinks {
        names.entry(sink.name.value.clone()).or_insert(Component::Sink(at));
    }
    names
}

/// Puts the file's transforms in topological order, ties as they are written; reports circles.
/// Gives the number of transforms that are in order: those behind it are in, or behind, a circle.
pub fn order(file: &mut File, out: &mut Diagnostics) -> usize {
    let place = |name: &str| {
        let name = name.split('.').next().unwrap_or(name);
        file.transforms.iter().position(|transform| transform.name.value == name)
    };
    let inputs: Vec<Vec<usize>> = file
        .transforms
        .iter()
        .map(|transform| transform.inputs.iter().filter_map(|input| place(&input.value)).collect())
        .collect();
    let mut is_done = vec![false; inputs.len()];
    let mut ordered = Vec::new();
    while let Some(next) = (0..inputs.len())
        .find(|&at| !is_done[at] && inputs[at].iter().all(|&before| is_done[before]))
    {
        is_done[next] = true;
        ordered.push(next);
    }
    let in_order = ordered.len();
    let mut circled = vec![false; inputs.len()];
    for start in (0..inputs.len()).filter(|&at| !is_done[at]) {
        if circled[start] {
            continue;
        }
        // Going back from input to input among what is left must come round.
        let (mut way, mut at) = (vec![start], start);
        let circle = loop {
            let before = inputs[at].iter().copied().find(|&before| !is_done[before]);
            let Some(before) = before else { break &[][..] };
            if let Some(first) = way.iter().position(|&seen| seen == before) {
                break &way[first..];
            }
            way.push(before);
            at = before;
        };
        if circle.iter().any(|&at| circled[at]) || circle.is_empty() {
            continue;
        }
        circle.iter().for_each(|&at| circled[at] = true);
        report_circle(file, circle, out);
    }
    ordered.extend((0..inputs.len()).filter(|&at| !is_done[at]));
    let mut transforms: Vec<Option<Transform>> =
        std::mem::take(&mut file.transforms).into_iter().map(Some).collect();
    file.transforms = ordered.into_iter().filter_map(|at| transforms[at].take()).collect();
    in_order
}

fn report_circle(file: &File, circle: &[usize], out: &mut Diagnostics) {
    // Found from output to input; told in the direction of the rows, from the first in the file.
    let mut names: Vec<&str> =
        circle.iter().rev().map(|&at| file.transforms[at].name.value.as_str()).collect();
    let first = *circle.iter().min().expect("a circle has a member");
    let head = file.transforms[first].name.value.as_str();
    let start = names.iter().position(|name| *name == head).unwrap_or(0);
    names.rotate_left(start);
    let message = match names.len() {
        1 => format!("{} feeds itself", quoted(&names)),
        _ => format!("{} feed one another in a circle", quoted(&names)),
    };
    let span = file.transforms[first].name.span;
    let way = names.iter().chain(names.first()).copied().collect::<Vec<_>>().join(" -> ");
    out.add(Diagnostic::error(Code::Cycle, span, message).label(way));
}
