//! Transforms that keep state by key: window, aggregate, over, dedup, top_n, timeout.

use std::ops::Range;
use std::sync::Arc;

use super::expr::{not_empty, report};
use super::schema::extended;
use super::settings::{Sign, millis, number};
use super::transform::{Made, made};
use crate::expr::{AggregateSelect, Program, Scope, compile_aggregates};
use crate::ground::schema::{DataType, SchemaRef};
use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Diagnostics, Span, Spanned};
use crate::plan::graph::{
    AggregateSpec, DedupSpec, Keep, OrderBy, OverFrame, OverSpec, TimeoutSpec, TopNSpec,
    TransformKind, WindowEmit, WindowKind, WindowSpec,
};
use crate::plan::raw::reader::{Millis, Named};
use crate::plan::raw::text::Text;
use crate::plan::raw::transform as raw;

/// The input of a keyed transform.
pub struct Keyed<'a> {
    pub input: &'a SchemaRef,
    pub key: &'a [usize],
    /// Where to mark the transform as a whole.
    pub span: Span,
}

impl Keyed<'_> {
    fn select(
        &self,
        select: &Named<Text>,
        having: Option<&Text>,
        bounds: bool,
        out: &mut Diagnostics,
    ) -> Option<AggregateSelect> {
        not_empty(select, out)?;
        let columns: Vec<(String, String)> = select
            .entries
            .iter()
            .map(|(name, text)| (name.value.clone(), text.value.clone()))
            .collect();
        let keys: Vec<String> =
            self.key.iter().map(|&at| self.input.columns[at].name.clone()).collect();
        let scope = Scope::of(self.input);
        let having_text = having.map(|having| having.value.as_str());
        match compile_aggregates(&columns, having_text, &scope, &keys, bounds) {
            Ok(select) => Some(select),
            Err(errors) => {
                for (at, error) in errors {
                    let text = select.entries.get(at).map(|(_, text)| text).or(having);
                    if let Some(text) = text {
                        report(text, error, out);
                    }
                }
                None
            }
        }
    }
}

/// What a window is.
pub fn window_kind(window: &raw::WindowShape, out: &mut Diagnostics) -> Option<WindowKind> {
    let positive =
        |key, ms: &Spanned<Millis>, out: &mut Diagnostics| millis(key, ms, Sign::Positive, out);
    // An offset moves windows by less than one of their steps.
    let offset = |offset: &Option<Spanned<Millis>>, step: i64, out: &mut Diagnostics| {
        let Some(offset) = offset else { return Some(0) };
        let ms = millis("offset", offset, Sign::Any, out)?;
        if ms >= step {
            let message = "`offset` must be shorter than the step from one window to the next";
            out.add(Diagnostic::error(Code::BadWindow, offset.span, message));
            return None;
        }
        Some(ms)
    };
    Some(match &window.kind {
        raw::WindowKind::Tumbling { size, offset: moved } => {
            let size_ms = positive("size", size, out)?;
            WindowKind::Tumbling { size_ms, offset_ms: offset(moved, size_ms, out)? }
        }
        raw::WindowKind::Sliding { size, slide, offset: moved } => {
            let (size_ms, slide_ms) = (positive("size", size, out), positive("slide", slide, out));
            let (size_ms, slide_ms) = size_ms.zip(slide_ms)?;
            let offset_ms = offset(moved, slide_ms, out)?;
            WindowKind::Sliding { size_ms, slide_ms, offset_ms }
        }
        raw::WindowKind::Session { gap } => {
            WindowKind::Session { gap_ms: positive("gap", gap, out)? }
        }
        raw::WindowKind::Count { size, slide } => {
            let most = i64::from(u32::MAX);
            let size = number("size", size, 1, most, out);
            let slide = match slide {
                Some(slide) => number("slide", slide, 1, most, out),
                None => size,
            };
            let (size, slide) = size.zip(slide)?;
            WindowKind::Count { size: size as u64, slide: slide as u64 }
        }
        raw::WindowKind::Cumulative { size, step, offset: moved } => {
            let (size_ms, step_ms) = (positive("size", size, out), positive("step", step, out));
            let (size_ms, step_ms) = size_ms.zip(step_ms)?;
            if size_ms % step_ms != 0 {
                let message = "the `size` of a cumulative window must be a multiple of its `step`";
                let wrong = Diagnostic::error(Code::BadWindow, size.span, message);
                out.add(wrong.also(step.span, "the step"));
                return None;
            }
            let offset_ms = offset(moved, size_ms, out)?;
            WindowKind::Cumulative { size_ms, step_ms, offset_ms }
        }
    })
}

/// `type = "window"`.
pub fn window(of: &Keyed<'_>, window: &raw::Window, out: &mut Diagnostics) -> Option<Made> {
    let kind = window_kind(&window.window, out);
    let is_count = matches!(window.window.kind, raw::WindowKind::Count { .. });
    let lateness = match &window.allowed_lateness {
        Some(given) if is_count => {
            let message = "no row is late for a count window";
            out.add(Diagnostic::error(Code::BadWindow, given.span, message));
            None
        }
        Some(given) => millis("allowed_lateness", given, Sign::NotNegative, out),
        None => Some(0),
    };
    let emit = match window.emit.as_ref().map(|emit| (emit.value, emit.span)) {
        None | Some((raw::WindowEmit::OnClose, _)) => Some(WindowEmit::OnClose),
        Some((raw::WindowEmit::Early(every), span)) => {
            millis("early", &Spanned::new(every, span), Sign::Positive, out).map(WindowEmit::Early)
        }
    };
    let select = of.select(&window.select, window.having.as_ref(), !is_count, out);
    let ((kind, select), (lateness, emit)) = kind.zip(select).zip(lateness.zip(emit))?;
    let main = Arc::new(select.finish.schema());
    let spec = WindowSpec { kind, allowed_lateness_ms: lateness, emit, select };
    made(TransformKind::Window(spec), [main, of.input.clone()])
}

/// `type = "aggregate"`.
pub fn aggregate(
    of: &Keyed<'_>,
    aggregate: &raw::Aggregate,
    out: &mut Diagnostics,
) -> Option<Made> {
    let emit_every_ms = match aggregate.emit.as_ref().map(|emit| (emit.value, emit.span)) {
        None | Some((raw::AggregateEmit::PerRow, _)) => Some(None),
        Some((raw::AggregateEmit::Every(every), span)) => {
            millis("emit", &Spanned::new(every, span), Sign::Positive, out).map(Some)
        }
    };
    let select = of.select(&aggregate.select, aggregate.having.as_ref(), false, out);
    let (select, emit_every_ms) = select.zip(emit_every_ms)?;
    let main = Arc::new(select.finish.schema());
    made(TransformKind::Aggregate(AggregateSpec { select, emit_every_ms }), [main])
}

/// `type = "over"`.
pub fn over(of: &Keyed<'_>, over: &raw::Over, out: &mut Diagnostics) -> Option<Made> {
    let delay = over.delay.as_ref();
    let delay_ms = match delay {
        Some(delay) => millis("delay", delay, Sign::NotNegative, out),
        None => Some(0),
    };
    let frame = match (&over.range, &over.rows) {
        (Some(range), None) => millis("range", range, Sign::Positive, out)
            .zip(delay_ms)
            .map(|(range_ms, delay_ms)| OverFrame::Range { range_ms, delay_ms }),
        (None, Some(rows)) => {
            if let Some(delay) = delay {
                let message = "`delay` goes with `range`, not with `rows`";
                out.add(Diagnostic::error(Code::Conflict, delay.span, message));
            }
            number("rows", rows, 1, i64::from(u32::MAX), out).map(|n| OverFrame::Rows(n as u64))
        }
        (None, None) | (Some(_), Some(_)) => {
            let message = "an `over` needs one of `range` and `rows`";
            out.add(Diagnostic::error(Code::Conflict, over.span, message));
            None
        }
    };
    let add = of.select(&over.add, None, false, out);
    let (frame, add) = frame.zip(add)?;
    let names = over.add.entries.iter().map(|(name, _)| name.span);
    let main = extended(of.input, add.finish.schema().columns.into_iter().zip(names), out)?;
    let include_current = over.include_current.as_ref().is_none_or(|given| given.value);
    let spec = OverSpec { frame, include_current, add };
    made(TransformKind::Over(spec), [main, of.input.clone()])
}

/// `type = "dedup"`.
pub fn dedup(
    of: &Keyed<'_>,
    keep: Option<&Spanned<Keep>>,
    ttl: Option<&Spanned<Millis>>,
    out: &mut Diagnostics,
) -> Option<Made> {
    if of.key.is_empty() {
        let message = "a dedup needs `key`: the columns in which two rows are the same";
        out.add(Diagnostic::error(Code::MissingKey, of.span, message));
        return None;
    }
    let ttl_ms = match ttl {
        Some(ttl) => Some(millis("ttl", ttl, Sign::Positive, out)?),
        None => None,
    };
    let keep = keep.map_or(Keep::First, |keep| keep.value);
    made(TransformKind::Dedup(DedupSpec { keep, ttl_ms }), [of.input.clone()])
}

/// `type = "timeout"`.
pub fn timeout(
    of: &Keyed<'_>,
    after: &Spanned<Millis>,
    select: &Named<Text>,
    out: &mut Diagnostics,
) -> Option<Made> {
    let after_ms = millis("after", after, Sign::Positive, out);
    let select = of.select(select, None, false, out);
    let (after_ms, select) = after_ms.zip(select)?;
    let main = Arc::new(select.finish.schema());
    made(TransformKind::Timeout(TimeoutSpec { after_ms, select }), [main])
}

/// `type = "top_n"`.
pub fn top_n(
    of: &Keyed<'_>,
    n: &Spanned<i64>,
    order_by: &Text,
    window: Option<&raw::WindowShape>,
    out: &mut Diagnostics,
) -> Option<Made> {
    let n = number("n", n, 1, 1_000_000, out);
    let order_by = order(order_by, &Scope::of(of.input), out);
    let outputs = match window {
        Some(_) => vec![of.input.clone(), of.input.clone()],
        None => vec![of.input.clone()],
    };
    let window = match window {
        Some(window) => Some(window_kind(window, out)?),
        None => None,
    };
    let (n, order_by) = n.zip(order_by)?;
    made(TransformKind::TopN(TopNSpec { n: n as usize, order_by, window }), outputs)
}

/// Reads `"bid DESC, price"`.
fn order(text: &Text, scope: &Scope, out: &mut Diagnostics) -> Option<Vec<OrderBy>> {
    let parts: Vec<Option<OrderBy>> = split(&text.value)
        .into_iter()
        .map(|part| {
            let written = &text.value[part.clone()];
            let (len, descending) = direction(written);
            let expression = &written[..len];
            let found = match Program::compile(expression, scope) {
                Ok(by) => Ok(OrderBy { by, descending }),
                Err(mut error) => {
                    error.span = error.span.start + part.start..error.span.end + part.start;
                    Err(error)
                }
            };
            match found {
                Ok(order) if matches!(order.by.data_type(), DataType::Array(_)) => {
                    let message = "rows cannot be put in order by an array";
                    out.add(Diagnostic::error(Code::ExpressionType, text.at(part), message));
                    None
                }
                Ok(order) => Some(order),
                Err(error) => {
                    report(text, error, out);
                    None
                }
            }
        })
        .collect();
    parts.into_iter().collect()
}

/// Length of the expression before ASC or DESC, and whether it is DESC.
fn direction(part: &str) -> (usize, bool) {
    let trimmed = part.trim_end();
    let last = trimmed.rfind(char::is_whitespace).map_or(trimmed, |at| trimmed[at..].trim());
    let before = trimmed.len() - last.len();
    match last.to_ascii_uppercase().as_str() {
        "DESC" if before > 0 => (before, true),
        "ASC" if before > 0 => (before, false),
        _ => (trimmed.len(), false),
    }
}

/// Cuts at commas that stand in no bracket and no quotes.
fn split(text: &str) -> Vec<Range<usize>> {
    let (mut parts, mut start, mut depth, mut quote) = (Vec::new(), 0, 0usize, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(start..at);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(start..text.len());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_cut_at_its_commas() {
        let text = "bid DESC, ROUND(price, 2), a || ',' asc";
        let parts: Vec<&str> = split(text).into_iter().map(|part| &text[part]).collect();
        assert_eq!(parts, ["bid DESC", " ROUND(price, 2)", " a || ',' asc"]);
        let read: Vec<(&str, bool)> = parts
            .iter()
            .map(|part| {
                let (len, descending) = direction(part);
                (part[..len].trim(), descending)
            })
            .collect();
        assert_eq!(read, [("bid", true), ("ROUND(price, 2)", false), ("a || ','", false)]);
    }
}
