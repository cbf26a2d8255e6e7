//! What the contract has and this version cannot run yet. Such a pipeline is valid, and refused by
//! `run` with one clear message for each thing.

use super::catalogue::{Catalogue, Connector};
use super::check::not_built;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::graph::{Format, Pipeline, TransformKind, TransformPlan, WindowEmit, WindowKind};

/// Everything in the pipeline that cannot be run yet, in the order of the file.
pub fn unbuilt(pipeline: &Pipeline, catalogue: &Catalogue) -> Vec<Diagnostic> {
    let mut out = Diagnostics::default();
    let is_built = |known: &[Connector], name: &str| {
        known.iter().any(|connector| connector.name == name && connector.built)
    };
    for source in &pipeline.sources {
        if !is_built(catalogue.sources, source.connector) {
            let what = format!("a {} source", source.connector);
            out.add(not_built(&what, source.type_at));
        } else if source.format == Some(Format::Avro) {
            out.add(not_built("the format `avro`", source.type_at));
        }
    }
    for transform in &pipeline.transforms {
        if let Some(what) = missing(transform) {
            out.add(not_built(&what, transform.type_at));
        }
    }
    for sink in &pipeline.sinks {
        if !is_built(catalogue.sinks, sink.connector) {
            let what = format!("a {} sink", sink.connector);
            out.add(not_built(&what, sink.type_at));
        } else if matches!(sink.format, Some(Format::Avro | Format::Parquet)) {
            out.add(not_built("the format `avro`", sink.type_at));
        }
    }
    out.sorted()
}

/// What of a transform is missing.
fn missing(transform: &TransformPlan) -> Option<String> {
    match &transform.kind {
        TransformKind::Filter(_)
        | TransformKind::Map(_)
        | TransformKind::FlatMap(_)
        | TransformKind::Route(_)
        | TransformKind::Lookup(_)
        | TransformKind::Pattern(_)
        | TransformKind::Rules(_)
        | TransformKind::Union => None,
        TransformKind::Aggregate(aggregate) => {
            aggregate.emit_every_ms.map(|_| "`emit` with a period".to_string())
        }
        TransformKind::Window(window) => match (window.kind, window.emit) {
            (WindowKind::Tumbling { .. } | WindowKind::Sliding { .. }, WindowEmit::OnClose) => None,
            (WindowKind::Session { .. }, _) => Some("a session window".into()),
            (WindowKind::Count { .. }, _) => Some("a count window".into()),
            (WindowKind::Cumulative { .. }, _) => Some("a cumulative window".into()),
            (_, WindowEmit::Early(_)) => Some("a window that fires early".into()),
        },
        other @ (TransformKind::Join(_)
        | TransformKind::Over(_)
        | TransformKind::Dedup(_)
        | TransformKind::TopN(_)
        | TransformKind::Timeout(_)) => Some(format!("the transform `{}`", other.word())),
    }
}
