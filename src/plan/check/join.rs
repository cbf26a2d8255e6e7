//! `join`: two inputs, how their rows meet, and what is put out.

use std::sync::Arc;

use super::expr::projection;
use super::keyed::window_kind;
use super::schema::column_of;
use super::settings::{Sign, millis};
use super::transform::{Made, made};
use crate::expr::{Entry, Program, Projection, Scope};
use crate::ground::schema::{DataType, Schema, SchemaRef};
use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Diagnostics, Span};
use crate::plan::graph::{JoinKind, JoinSpec, JoinWay, Side, TransformKind, WindowKind};
use crate::plan::raw::reader::Named;
use crate::plan::raw::text::Text;
use crate::plan::raw::transform as raw;

/// One side of a join.
pub struct JoinSide<'a> {
    /// The input as written.
    pub input: &'a Text,
    pub schema: &'a SchemaRef,
}

impl JoinSide<'_> {
    /// What its columns are addressed by: the name of the component.
    fn name(&self) -> &str {
        self.input.value.split('.').next().unwrap_or_default()
    }
}

/// Pairs of columns that are equal, of one type: left = right.
pub fn pairs(
    on: &Named<Text>,
    left: (&Schema, &str),
    right: (&Schema, &str),
    out: &mut Diagnostics,
) -> Option<Vec<(usize, usize)>> {
    super::expr::not_empty(on, out)?;
    let pairs: Vec<Option<(usize, usize)>> = on
        .entries
        .iter()
        .map(|(from, to)| {
            let name = Text::new(from.value.clone(), from.span, Vec::new());
            let a = column_of(left.0, &name, left.1, out);
            let b = column_of(right.0, to, right.1, out);
            let (a, b) = a.zip(b)?;
            let types = (&left.0.columns[a].data_type, &right.0.columns[b].data_type);
            if types.0 != types.1 {
                let message = format!(
                    "`{}` is {} and `{}` is {}: they are never equal",
                    from.value, types.0, to.value, types.1
                );
                let wrong = Diagnostic::error(Code::ColumnType, to.span, message);
                out.add(wrong.hint("CAST one of them in a `map` before"));
                return None;
            }
            Some((a, b))
        })
        .collect();
    pairs.into_iter().collect()
}

/// `type = "join"`.
pub fn join(
    join: &raw::Join,
    left: &JoinSide<'_>,
    right: &JoinSide<'_>,
    out: &mut Diagnostics,
) -> Option<Made> {
    if left.name() == right.name() {
        let message = format!("both sides of the join are called `{}`", left.name());
        let wrong = Diagnostic::error(Code::BadJoin, right.input.span, message);
        out.add(wrong.hint("put a `map` between, so that one side has another name"));
        return None;
    }
    let kind = join.kind.as_ref().map_or(JoinKind::Inner, |kind| kind.value);
    let of = |side: &JoinSide<'_>| format!("`{}`", side.input.value);
    let on = pairs(&join.on, (left.schema, &of(left)), (right.schema, &of(right)), out);
    let way = way(join, kind, out);
    let scope = scope(kind, left, right, way.as_ref().is_some_and(is_window));
    let select = match &join.select {
        Some(select) => projection(select, &scope, out),
        None => everything(&scope, join.span, out),
    };
    let ((on, way), select) = on.zip(way).zip(select)?;
    let main = Arc::new(select.schema());
    let spec = JoinSpec { kind, on, way, select };
    // Late rows come from either side; they go out with the left's columns and the right's.
    let late = late_schema(left, right);
    made(TransformKind::Join(Box::new(spec)), [main, late])
}

fn is_window(way: &JoinWay) -> bool {
    matches!(way, JoinWay::Window { .. })
}

fn way(join: &raw::Join, kind: JoinKind, out: &mut Diagnostics) -> Option<JoinWay> {
    if let Some(lateness) = &join.allowed_lateness
        && join.window.is_none()
    {
        let message = "`allowed_lateness` goes with `window`";
        out.add(Diagnostic::error(Code::Conflict, lateness.span, message));
    }
    if let Some(bounds) = &join.within {
        let lower_ms = millis("lower", &bounds.lower, Sign::Any, out)?;
        let upper_ms = millis("upper", &bounds.upper, Sign::Any, out)?;
        if lower_ms > upper_ms {
            let message = "`lower` is above `upper`: no two rows would ever meet";
            out.add(Diagnostic::error(Code::BadJoin, bounds.span, message));
            return None;
        }
        return Some(JoinWay::Interval { lower_ms, upper_ms });
    }
    if let Some(window) = &join.window {
        let allowed_lateness_ms = match &join.allowed_lateness {
            Some(given) => millis("allowed_lateness", given, Sign::NotNegative, out)?,
            None => 0,
        };
        let kind = window_kind(window, out)?;
        if matches!(kind, WindowKind::Count { .. }) {
            let message = "a count window cannot be joined: it has no place in time";
            out.add(Diagnostic::error(Code::BadJoin, window.span, message));
            return None;
        }
        return Some(JoinWay::Window { window: kind, allowed_lateness_ms });
    }
    let side = join.as_of.as_ref()?;
    let fits = match side.value {
        Side::Right => matches!(kind, JoinKind::Inner | JoinKind::Left),
        Side::Left => matches!(kind, JoinKind::Inner | JoinKind::Right),
    };
    if !fits {
        let keeps = if side.value == Side::Right { "left" } else { "right" };
        let message = format!(
            "`as_of = \"{}\"` asks for a version for each row of the other side: `kind` is `inner` or `{keeps}`",
            side.value.word()
        );
        out.add(Diagnostic::error(Code::BadJoin, side.span, message));
        return None;
    }
    Some(JoinWay::AsOf(side.value))
}

/// What `select` may name. Columns of a side that may be missing can be NULL.
fn scope(kind: JoinKind, left: &JoinSide<'_>, right: &JoinSide<'_>, bounds: bool) -> Scope {
    let side = |side: &JoinSide<'_>, may_miss: bool| {
        let mut scope = Scope::qualified(side.name(), side.schema);
        scope.entries.iter_mut().for_each(|entry| entry.nullable |= may_miss);
        scope
    };
    let may_miss_left = matches!(kind, JoinKind::Right | JoinKind::Full);
    let may_miss_right = matches!(kind, JoinKind::Left | JoinKind::Full);
    let mut scope = side(left, may_miss_left);
    if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
        scope = scope.join(side(right, may_miss_right));
    }
    if bounds {
        for name in ["window_start", "window_end"] {
            scope.entries.push(Entry {
                qualifier: None,
                name: name.into(),
                data_type: DataType::Timestamp,
                nullable: false,
            });
        }
    }
    scope
}

/// Without `select`: every column that is in scope, under its name.
fn everything(scope: &Scope, span: Span, out: &mut Diagnostics) -> Option<Projection> {
    let mut columns: Vec<(String, Program)> = Vec::new();
    for entry in &scope.entries {
        if columns.iter().any(|(name, _)| *name == entry.name) {
            let message = format!("both sides of the join have a column `{}`", entry.name);
            let wrong = Diagnostic::error(Code::DuplicateColumn, span, message);
            out.add(wrong.hint("say which columns to put out with `select`"));
            return None;
        }
        let name = entry.name.replace('"', "\"\"");
        let written = match &entry.qualifier {
            Some(qualifier) => format!("\"{qualifier}\".\"{name}\""),
            None => format!("\"{name}\""),
        };
        match Program::compile(&written, scope) {
            Ok(program) => columns.push((entry.name.clone(), program)),
            Err(error) => {
                out.add(Diagnostic::error(Code::Expression, span, error.message));
                return None;
            }
        }
    }
    Some(Projection::new(columns))
}

/// Columns of late rows: the left's, then those of the right that the left does not have; what the
/// row's own side lacks is NULL.
fn late_schema(left: &JoinSide<'_>, right: &JoinSide<'_>) -> SchemaRef {
    let mut columns = left.schema.columns.clone();
    for column in &right.schema.columns {
        let fits = columns.iter().all(|known| known.name != column.name);
        if fits {
            columns.push(column.clone());
        }
    }
    columns.iter_mut().for_each(|column| column.nullable = true);
    Arc::new(Schema::new(columns))
}
