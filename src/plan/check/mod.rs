//! What a pipeline file means: names resolved, types checked, expressions compiled, schemas carried
//! from the sources to the sinks. Pure; everything that is wrong is reported at once.
//!
//! 1. A component that is wrong gives outputs of unknown columns, and what hangs on these is not
//!    checked, so that one mistake is one message.

mod expr;
mod folders;
mod join;
mod keyed;
mod pattern;
mod rows;
mod schema;
mod settings;
mod sink;
mod source;
mod tests_block;
mod transform;
mod wiring;

use std::collections::BTreeMap;

use self::join::JoinSide;
use self::keyed::Keyed;
pub(in crate::plan) use self::pattern::rule;
use self::schema::Schemas;
use self::transform::{Made, inputs_agree};
use self::wiring::{Link, Wiring};
use super::code::Code;
use super::diagnostic::{Diagnostic, Diagnostics, Span};
use super::graph::{Node, OutputPlan, Pipeline, PortRef, RowTime, TransformKind, TransformPlan};
use super::raw::File;
use super::raw::transform::Body;
use crate::ground::schema::SchemaRef;

/// Checks a file; `name` is the pipeline's if it gives itself none. The pipeline is there exactly
/// if `out` has no errors.
pub fn check(mut file: File, name: &str, out: &mut Diagnostics) -> Option<Pipeline> {
    let name = file.name.as_ref().map_or(name, |name| &name.value).to_string();
    let engine = settings::engine(&file.engine, &name, out);
    let checkpoint = settings::checkpoint(file.checkpoint.as_ref(), out);
    let state = settings::state(&file.state, out);
    let schemas = Schemas::new(&file.schemas, out);
    let in_order = wiring::order(&mut file, out);
    let wiring = Wiring::new(&file, out);
    let mut checker = Checker {
        file: &file,
        wiring: &wiring,
        declared: &schemas,
        schemas: BTreeMap::new(),
        decoded: BTreeMap::new(),
        out,
    };
    checker.complete();
    let mut sources = Vec::new();
    for (at, source) in file.sources.iter().enumerate() {
        let checked = source::source(source, &schemas, checker.out);
        let node = Node::Source(at);
        checker.schemas.insert(node, vec![checked.schema, Some(schema::rejected())]);
        if let Some(plan) = &checked.plan {
            checker.decoded.insert(at, plan.schema.clone());
        }
        sources.push(checked.plan);
    }
    let mut transforms = Vec::new();
    for at in 0..in_order {
        let plan = checker.transform(at);
        if let Some(plan) = &plan {
            let schemas = plan.outputs.iter().map(|output| Some(output.schema.clone()));
            checker.schemas.insert(Node::Transform(at), schemas.collect());
        }
        transforms.push(plan);
    }
    let mut sinks = Vec::new();
    for (at, sink) in file.sinks.iter().enumerate() {
        let links = wiring.sink_inputs[at].iter().flatten();
        let inputs: Vec<(Link, Option<SchemaRef>)> =
            links.map(|link| (*link, checker.schema(link.port))).collect();
        let written = file.checkpoint.as_ref();
        sinks.push(sink::sink(sink, &inputs, written, &checkpoint, checker.out));
    }
    folders::folders(&file.sinks, checker.out);
    let tests = tests_block::tests(&mut checker);
    checker.unused();
    checker.event_times(&sources, &transforms);
    if out.has_errors() {
        return None;
    }
    let mut pipeline = Pipeline {
        name,
        engine,
        checkpoint,
        state,
        sources: sources.into_iter().collect::<Option<_>>()?,
        transforms: transforms.into_iter().collect::<Option<_>>()?,
        sinks: sinks.into_iter().collect::<Option<_>>()?,
        tests,
    };
    mark_reads(&mut pipeline);
    Some(pipeline)
}

/// Says which outputs are read, and which sources only feed tables.
fn mark_reads(pipeline: &mut Pipeline) {
    let of_transforms = pipeline.transforms.iter().flat_map(|transform| transform.inputs.clone());
    let of_sinks = pipeline.sinks.iter().flat_map(|sink| sink.inputs.iter().map(|i| i.port));
    let read: Vec<PortRef> = of_transforms.chain(of_sinks).collect();
    for PortRef { node, port } in read {
        match node {
            Node::Source(at) => pipeline.sources[at].outputs[port].is_read = true,
            Node::Transform(at) => pipeline.transforms[at].outputs[port].is_read = true,
        }
    }
    for transform in &pipeline.transforms {
        if let TransformKind::Lookup(lookup) = &transform.kind {
            let table = &mut pipeline.sources[lookup.table];
            table.feeds_only_tables = !table.outputs[0].is_read;
        }
    }
}

/// A file being checked.
pub(in crate::plan) struct Checker<'a> {
    file: &'a File,
    wiring: &'a Wiring,
    /// Schemas by name.
    declared: &'a Schemas,
    /// Columns of each output, as far as known.
    schemas: BTreeMap<Node, Vec<Option<SchemaRef>>>,
    /// What each source's input is read with.
    decoded: BTreeMap<usize, SchemaRef>,
    out: &'a mut Diagnostics,
}

impl Checker<'_> {
    fn schema(&self, port: PortRef) -> Option<SchemaRef> {
        self.schemas.get(&port.node)?.get(port.port)?.clone()
    }

    /// A pipeline begins somewhere and should end somewhere.
    fn complete(&mut self) {
        if self.file.sources.is_empty() {
            let message = "the pipeline has no source";
            let wrong = Diagnostic::error(Code::Incomplete, Span::FILE, message);
            self.out.add(wrong.hint("declare one: [sources.NAME]"));
        }
        if self.file.sinks.is_empty() && self.file.tests.is_empty() {
            let message = "the pipeline has no sink: nothing that it computes is kept";
            let wrong = Diagnostic::warning(Code::Incomplete, Span::FILE, message);
            self.out.add(wrong.hint("declare one: [sinks.NAME]"));
        }
    }

    /// Checks the transform at a place, everything before it having been checked.
    fn transform(&mut self, at: usize) -> Option<TransformPlan> {
        let transform = &self.file.transforms[at];
        let links = &self.wiring.inputs[at];
        let body = transform.body.as_ref();
        if transform.inputs.is_empty() {
            // A missing key has been reported as such.
            return None;
        }
        if let Some(Body::Join(join)) = body {
            return self.join(at, join);
        }
        let inputs: Option<Vec<(Span, SchemaRef)>> = links
            .iter()
            .map(|link| link.and_then(|link| Some((link.span, self.schema(link.port)?))))
            .collect();
        let input = transform::merged(&inputs?, self.out)?;
        let name = &transform.name.value;
        let key = transform::key(&transform.key, &input, name, self.out);
        let made = self.body(at, body?, &input, key.as_deref());
        let (made, key) = made.zip(key)?;
        Some(self.plan(at, made, vec![input], key))
    }

    fn body(
        &mut self,
        at: usize,
        body: &Body,
        input: &SchemaRef,
        key: Option<&[usize]>,
    ) -> Option<Made> {
        let out = &mut *self.out;
        match body {
            Body::Filter { condition } => return transform::filter(input, condition, out),
            Body::Map { select } => return transform::map(input, select, out),
            Body::FlatMap { each, name } => return transform::flat_map(input, each, name, out),
            Body::Route { outputs } => return transform::route(input, outputs, out),
            Body::Lookup(lookup) => {
                let table = self.wiring.tables[at]?;
                let node = Node::Source(table);
                let schema = self.schema(PortRef { node, port: 0 })?;
                return transform::lookup(input, lookup, table, &schema, self.out);
            }
            Body::Pattern(pattern) => return pattern::pattern(input, pattern, out),
            Body::Rules(rules) => return pattern::rules(input, rules, self.declared, out),
            Body::Union => return transform::made(TransformKind::Union, [input.clone()]),
            _ => {}
        }
        let span = self.file.transforms[at].name.span;
        // Without a key nothing that is keyed can be checked.
        let of = Keyed { input, key: key?, span };
        match body {
            Body::Window(window) => keyed::window(&of, window, out),
            Body::Aggregate(aggregate) => keyed::aggregate(&of, aggregate, out),
            Body::Over(over) => keyed::over(&of, over, out),
            Body::Dedup { keep, ttl } => keyed::dedup(&of, keep.as_ref(), ttl.as_ref(), out),
            Body::TopN { n, order_by, window } => {
                keyed::top_n(&of, n, order_by, window.as_ref(), out)
            }
            Body::Timeout { after, select } => keyed::timeout(&of, after, select, out),
            Body::AsyncLookup(_) => {
                let kind = self.file.transforms[at].kind.as_ref()?;
                out.add(not_built("an `async_lookup`", kind.span));
                None
            }
            _ => None,
        }
    }

    fn join(&mut self, at: usize, join: &super::raw::transform::Join) -> Option<TransformPlan> {
        let transform = &self.file.transforms[at];
        if let Some(key) = super::raw::span_of(&transform.key) {
            let message = "the key of a join is `on`";
            self.out.add(Diagnostic::error(Code::Conflict, key, message));
        }
        let [left, right] = &transform.inputs[..] else {
            let count = transform.inputs.len();
            let message = format!("a join has two inputs, left and right; here are {count}");
            let span = super::raw::span_of(&transform.inputs)?;
            self.out.add(Diagnostic::error(Code::InputCount, span, message));
            return None;
        };
        let links = &self.wiring.inputs[at];
        let left_schema = self.schema(links[0]?.port)?;
        let right_schema = self.schema(links[1]?.port)?;
        let made = join::join(
            join,
            &JoinSide { input: left, schema: &left_schema },
            &JoinSide { input: right, schema: &right_schema },
            self.out,
        )?;
        Some(self.plan(at, made, vec![left_schema, right_schema], Vec::new()))
    }

    fn plan(
        &self,
        at: usize,
        made: Made,
        input_schemas: Vec<SchemaRef>,
        key: Vec<usize>,
    ) -> TransformPlan {
        let transform = &self.file.transforms[at];
        let names = self.wiring.port_names(Node::Transform(at));
        assert_eq!(names.len(), made.outputs.len(), "every output has its schema");
        let outputs = names.iter().zip(made.outputs).map(|(name, schema)| OutputPlan {
            name: name.clone(),
            schema,
            is_read: false,
        });
        TransformPlan {
            name: transform.name.value.clone(),
            type_at: transform.kind.as_ref().map_or(transform.name.span, |kind| kind.span),
            inputs: self.wiring.inputs[at].iter().flatten().map(|link| link.port).collect(),
            input_schemas,
            key,
            outputs: outputs.collect(),
            kind: made.kind,
        }
    }

    /// Reports sources that nobody reads, and warns of transforms that nobody reads.
    fn unused(&mut self) {
        let inputs = self.wiring.inputs.iter().chain(&self.wiring.sink_inputs).flatten().flatten();
        let mut used: Vec<Node> = inputs.map(|link| link.port.node).collect();
        used.extend(self.wiring.tables.iter().flatten().map(|table| Node::Source(*table)));
        // What cannot be resolved may have meant any of them.
        let links = self.wiring.inputs.iter().chain(&self.wiring.sink_inputs);
        let is_sure = links.flatten().all(Option::is_some)
            && self.file.transforms.iter().all(|transform| transform.body.is_some());
        if !is_sure {
            return;
        }
        for (at, source) in self.file.sources.iter().enumerate() {
            if !used.contains(&Node::Source(at)) {
                let message = format!("nothing reads the source `{}`", source.name.value);
                let wrong = Diagnostic::error(Code::UnusedSource, source.name.span, message);
                self.out.add(
                    wrong.hint("name it in the `inputs` of a transform or sink, or remove it"),
                );
            }
        }
        for (at, transform) in self.file.transforms.iter().enumerate() {
            if !used.contains(&Node::Transform(at)) && !self.file.sinks.is_empty() {
                let message = format!("nothing reads the transform `{}`", transform.name.value);
                let span = transform.name.span;
                self.out.add(Diagnostic::warning(Code::UnusedTransform, span, message));
            }
        }
    }

    /// Reports sources without event time whose rows reach a transform that works in it.
    fn event_times(
        &mut self,
        sources: &[Option<super::graph::SourcePlan>],
        transforms: &[Option<TransformPlan>],
    ) {
        for (at, plan) in transforms.iter().enumerate() {
            if !plan.as_ref().is_some_and(|plan| needs_event_time(&plan.kind)) {
                continue;
            }
            let mut behind = vec![Node::Transform(at)];
            let mut next = 0;
            while let Some(&node) = behind.get(next) {
                next += 1;
                match node {
                    Node::Transform(at) => {
                        let links = self.wiring.inputs[at].iter().flatten();
                        for node in links.map(|link| link.port.node) {
                            if !behind.contains(&node) {
                                behind.push(node);
                            }
                        }
                    }
                    Node::Source(source) => {
                        let time = sources[source].as_ref().map(|plan| plan.time);
                        let written = &self.file.sources[source];
                        if time == Some(RowTime::None) && written.event_time.is_none() {
                            let transform = &self.file.transforms[at].name;
                            source::no_event_time(written, transform, self.out);
                        }
                    }
                }
            }
        }
    }
}

/// Whether a transform orders rows by their time, or waits for the watermark.
fn needs_event_time(kind: &TransformKind) -> bool {
    match kind {
        TransformKind::Window(window) => {
            !matches!(window.kind, super::graph::WindowKind::Count { .. })
        }
        TransformKind::TopN(top) => top.window.is_some(),
        TransformKind::Pattern(_)
        | TransformKind::Rules(_)
        | TransformKind::Join(_)
        | TransformKind::Over(_)
        | TransformKind::Timeout(_) => true,
        _ => false,
    }
}

/// Says that something is right but cannot be run yet.
pub(in crate::plan) fn not_built(what: &str, span: Span) -> Diagnostic {
    let message = format!("{what} is not built yet in this version");
    Diagnostic::error(Code::NotBuilt, span, message)
}
