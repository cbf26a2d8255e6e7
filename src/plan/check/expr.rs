//! Expressions of the file: compiled against what is in scope, mistakes marked inside the string.

use crate::expr::{ExprError, Program, Projection, Scope};
use crate::ground::schema::DataType;
use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Diagnostics, Span};
use crate::plan::raw::reader::Named;
use crate::plan::raw::text::Text;

/// Reports what is wrong with an expression.
pub fn report(text: &Text, error: ExprError, out: &mut Diagnostics) {
    let span = text.at(error.span);
    out.add(Diagnostic::error(Code::Expression, span, error.message).maybe_hint(error.hint));
}

/// Compiles an expression of any type.
pub fn compile(text: &Text, scope: &Scope, out: &mut Diagnostics) -> Option<Program> {
    match Program::compile(&text.value, scope) {
        Ok(program) => Some(program),
        Err(error) => {
            report(text, error, out);
            None
        }
    }
}

/// Compiles a condition.
pub fn condition(text: &Text, scope: &Scope, out: &mut Diagnostics) -> Option<Program> {
    let program = compile(text, scope, out)?;
    if *program.data_type() == DataType::Boolean {
        return Some(program);
    }
    wrong_type(text.span, "a condition", "BOOLEAN", program.data_type(), out);
    None
}

/// Reports an expression of the wrong type.
pub fn wrong_type(span: Span, what: &str, expected: &str, found: &DataType, out: &mut Diagnostics) {
    let message = format!("{what} must be {expected}, this is {found}");
    out.add(Diagnostic::error(Code::ExpressionType, span, message));
}

/// Compiles a `select` without aggregates.
pub fn projection(
    select: &Named<Text>,
    scope: &Scope,
    out: &mut Diagnostics,
) -> Option<Projection> {
    not_empty(select, out)?;
    let columns: Vec<Option<(String, Program)>> = select
        .entries
        .iter()
        .map(|(name, text)| Some((name.value.clone(), compile(text, scope, out)?)))
        .collect();
    Some(Projection::new(columns.into_iter().collect::<Option<_>>()?))
}

/// Reports a table of names without any.
pub fn not_empty<T>(named: &Named<T>, out: &mut Diagnostics) -> Option<()> {
    if named.entries.is_empty() {
        let message = "at least one entry is needed here";
        out.add(Diagnostic::error(Code::OutOfRange, named.span, message));
        return None;
    }
    Some(())
}
