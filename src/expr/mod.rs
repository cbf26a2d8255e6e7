//! Floor 1: SQL expressions. Text is parsed once, type-checked against the columns in scope and
//! compiled to a typed program over the vectors of a batch.
//!
//! ```text
//! text --parse--> sqlparser's tree --lower--> typed nodes --code--> flat instructions
//!                                                                     |            |
//!                                                       vector (a batch at a time) scalar (a row)
//! ```
//!
//! What an operation means is said once, in `op`; the vector and the scalar machine are two
//! drivers of that table, and constants are folded by the scalar one.
//!
//! Semantics are those of Flink SQL, with three-valued logic, and these choices where Flink would
//! fail the job or wrap around:
//! 1. No expression fails at run time. What has no value is NULL: a division by zero, a result
//!    that does not fit its type (BIGINT beyond 64 bits, DECIMAL beyond 18 digits, DOUBLE that is
//!    not finite), a CAST of a text that is no such value (so CAST is TRY_CAST).
//! 2. A DATE is a TIMESTAMP at midnight; an INTERVAL of days to seconds is a BIGINT of
//!    milliseconds that may be added to a TIMESTAMP; so is the difference of two TIMESTAMPs.
//!    Everything is UTC.
//! 3. Names of columns are case-sensitive, those of functions are not.
//!
//! What is absent: files, threads, event time, operators. An expression is a function of rows.

mod builtins;
mod calendar;
mod code;
mod decimals;
mod doubles;
mod forms;
mod functions;
mod kernels;
mod lanes;
mod literals;
mod lower;
mod node;
mod op;
mod operators;
mod parse;
mod scalar;
mod text;
mod types;
mod vector;

pub mod aggregate;
pub mod pattern;
pub mod projection;
pub mod scope;

pub use aggregate::{AggregateCall, AggregateFunc, AggregateSelect, compile_aggregates};
pub use pattern::{Condition, MatchSelect, StepFunc, StepRef, compile_match_select};
pub use projection::Projection;
pub use scalar::{Comparison, Scalar, Value};
pub use scope::{Entry, Scope};
pub use vector::{Program, Vector};

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

#[cfg(test)]
mod tests;
