//! What can be wrong with a line, and how it is told.

use crate::codec::value::Fault;
use crate::ground::schema::Schema;

/// What is wrong, and at which byte of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub at: usize,
    pub what: What,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Another thing should stand here.
    Expected(&'static str),
    /// The object has ended and the line goes on.
    Trailing,
    /// Deeper than `limits::JSON_DEPTH_MAX`.
    Depth,
    /// Bytes that are not UTF-8.
    Utf8,
    /// A control byte inside a text.
    Control,
    /// An unknown escape, or half of a surrogate pair.
    Escape,
    /// A value of a kind that the column does not take.
    Kind { column: usize, found: &'static str },
    /// An object was wanted where a column's path goes on.
    Parent { found: &'static str },
    /// The right kind, but no value of the type.
    Value { column: usize, fault: Fault },
    /// A value longer than the heap takes.
    TooLong { column: usize },
    /// NULL or no field where NULL is refused.
    Null { column: usize },
}

/// What reading gives.
pub(super) type Result<T> = std::result::Result<T, Wrong>;

/// An error at a place.
#[cold]
pub(super) fn wrong<T>(at: usize, what: What) -> Result<T> {
    Err(Wrong { at, what })
}

/// The kind of value that starts with a byte.
pub(super) fn kind_of(byte: u8) -> &'static str {
    match byte {
        b'"' => "a string",
        b'{' => "an object",
        b'[' => "an array",
        b't' | b'f' => "a boolean",
        b'n' => "null",
        b'-' | b'0'..=b'9' => "a number",
        _ => "what is no value",
    }
}

impl Wrong {
    /// The reason, for a line that starts at `start`.
    pub(super) fn reason(
        &self,
        schema: &Schema,
        event_time: Option<usize>,
        start: usize,
        end: usize,
    ) -> String {
        let name = |column: usize| &schema.columns[column].name;
        let of = |column: usize| &schema.columns[column].data_type;
        let text = match self.what {
            What::Expected(what) if self.at >= end => {
                return format!("the line ends where {what} should stand");
            }
            What::Expected(what) => format!("expected {what}"),
            What::Control if self.at >= end => {
                return "the line ends inside a string".to_string();
            }
            What::Trailing => "something follows the object".to_string(),
            What::Depth => "nested too deeply".to_string(),
            What::Utf8 => "not UTF-8".to_string(),
            What::Control => "a control character in a string".to_string(),
            What::Escape => "a wrong escape in a string".to_string(),
            What::Kind { column, found } => {
                format!("field `{}`: expected {}, found {found}", name(column), of(column))
            }
            What::Parent { found } => format!("expected an object, found {found}"),
            What::Value { column, fault } => {
                format!("field `{}`: {}", name(column), fault.describe(of(column)))
            }
            What::TooLong { column } => format!("field `{}`: the value is too long", name(column)),
            What::Null { column } if Some(column) == event_time => {
                return format!("field `{}`: the event time is missing", name(column));
            }
            What::Null { column } => {
                return format!("field `{}`: NULL in a NOT NULL column", name(column));
            }
        };
        format!("{text} (byte {} of the line)", self.at - start)
    }
}
