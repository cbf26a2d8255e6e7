//! Codes of what can be wrong with a pipeline file. They are a contract: a code keeps its meaning
//! for ever; docs/errors.md explains each one.

use std::fmt;

macro_rules! codes {
    ($($(#[doc = $about:literal])+ $name:ident = $text:literal,)+) => {
        /// What kind of mistake a diagnostic reports.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[doc = $about])+ $name,)+ }

        impl Code {
            /// All codes, in order.
            pub const ALL: &'static [Code] = &[$(Code::$name,)+];

            /// The code as it is shown, `E0201`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)+ }
            }

            /// What the code means, in a sentence.
            pub fn about(self) -> &'static str {
                match self { $(Code::$name => concat!($($about),+),)+ }
            }
        }
    };
}

codes! {
    /// The file is not valid TOML.
    Syntax = "E0101",
    /// An argument of `--set` is not `a.b=value`, or its path leads through something that is no
    /// table.
    Override = "E0102",
    /// A `${NAME}` has no value in the environment and no default, or is not closed.
    Environment = "E0103",
    /// The file cannot be read.
    Unreadable = "E0104",
    /// A key that has no meaning here.
    UnknownKey = "E0201",
    /// A key that must be given is missing.
    MissingKey = "E0202",
    /// A value of the wrong kind: text where a number is due, say.
    WrongKind = "E0203",
    /// A word that is none of those that may stand here.
    UnknownWord = "E0204",
    /// A duration, size or date that cannot be read.
    BadUnit = "E0205",
    /// A number, duration or list outside of what makes sense.
    OutOfRange = "E0206",
    /// Keys that exclude one another, or of which one is needed.
    Conflict = "E0207",
    /// A component `type` that does not exist.
    UnknownType = "E0208",
    /// A name that cannot be used.
    BadName = "E0209",
    /// An input, table or expectation names a component that does not exist.
    UnknownInput = "E0301",
    /// A component has no output of this name.
    UnknownOutput = "E0302",
    /// Components feed one another in a circle.
    Cycle = "E0303",
    /// A source that nothing reads.
    UnusedSource = "E0304",
    /// Two components have one name.
    DuplicateName = "E0305",
    /// Inputs of one component have different columns.
    InputsDiffer = "E0306",
    /// A component has too few or too many inputs.
    InputCount = "E0307",
    /// The pipeline has no source, or nothing that leaves it.
    Incomplete = "E0308",
    /// A transform whose rows nobody reads (a warning).
    UnusedTransform = "E0309",
    /// A schema that is not declared.
    UnknownSchema = "E0401",
    /// A type that cannot be read.
    BadType = "E0402",
    /// A column that does not exist.
    UnknownColumn = "E0403",
    /// A column of a type that does not fit its use.
    ColumnType = "E0404",
    /// A transform works in event time, and a source behind it has none.
    NoEventTime = "E0405",
    /// Two columns of one row have one name.
    DuplicateColumn = "E0406",
    /// A value in the file does not fit its column.
    BadRow = "E0407",
    /// An expression that cannot be read or does not type-check.
    Expression = "E0501",
    /// An expression of another type than its place asks for.
    ExpressionType = "E0502",
    /// A window that cannot be.
    BadWindow = "E0601",
    /// A pattern that cannot be.
    BadPattern = "E0602",
    /// A join that cannot be.
    BadJoin = "E0603",
    /// A sink cannot keep the promise of `mode = "exactly_once"`.
    NotExactlyOnce = "E0701",
    /// A format that a connector does not speak.
    BadFormat = "E0702",
    /// Two sinks write into one folder.
    SharedFolder = "E0703",
    /// Right, but not built yet in this version.
    NotBuilt = "E0901",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_rise_and_each_is_explained_in_the_docs() {
        let docs = include_str!("../../docs/errors.md");
        for pair in Code::ALL.windows(2) {
            assert!(pair[0].as_str() < pair[1].as_str(), "{}", pair[1]);
        }
        for code in Code::ALL {
            assert!(docs.contains(&format!("## {code}")), "{code} is not in docs/errors.md");
        }
    }
}
