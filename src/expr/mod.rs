//! Floor 1: SQL expressions. Text is parsed once, type-checked against the columns in scope and
//! compiled to a typed program over the vectors of a batch.
//!
//! What is absent: files, threads, event time, operators. An expression is a function of rows.

use std::fmt;
use std::ops::Range;

/// Why an expression is refused, and where in its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExprError {
    pub message: String,
    /// Bytes of the expression's text that are meant.
    pub span: Range<usize>,
    /// What was probably meant, or what to do.
    pub hint: Option<String>,
}

impl fmt::Display for ExprError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ExprError {}
