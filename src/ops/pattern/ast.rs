//! A pattern as the pipeline file's reader hands it over: names and structure. Conditions are
//! places in a table kept beside it ([`super::PatternSpec::conditions`]), so that two steps with
//! the same text share one evaluation.
//!
//! Nothing here is checked; [`super::check::check`] is the place for that.

/// How a step follows the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contiguity {
    /// The very next row.
    Next,
    /// The next row that fits.
    FollowedBy,
    /// Any later row that fits.
    FollowedByAny,
    /// The very next row must not fit.
    NotNext,
    /// No row up to the next step's may fit.
    NotFollowedBy,
}

impl Contiguity {
    /// Whether rows that fit end the partial match rather than extend it.
    pub fn is_not(self) -> bool {
        matches!(self, Contiguity::NotNext | Contiguity::NotFollowedBy)
    }
}

/// How the repeats of a step follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inner {
    #[default]
    Relaxed,
    Consecutive,
    AllowCombinations,
}

/// How often a step is taken: `times = n` is `n..=n`; without `max` it is an open loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    pub min: i64,
    pub max: Option<i64>,
}

/// One step, or a group of them.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// Name of a single step; `None` for a group.
    pub name: Option<String>,
    /// `where`: place in the table of conditions; `None` takes any row.
    pub condition: Option<usize>,
    /// The steps inside, for a group.
    pub group: Option<Vec<Step>>,
    pub contiguity: Option<Contiguity>,
    pub times: Option<Times>,
    pub inner: Option<Inner>,
    pub optional: bool,
    pub greedy: bool,
    /// `until`: place in the table of conditions.
    pub until: Option<usize>,
}

/// How long a match may take, in ms. 0 and less mean no bound, as in Flink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Within {
    #[default]
    Unbounded,
    /// From the first row to the last: their times differ by less than this.
    FirstAndLast(i64),
    /// From each row to the next.
    PreviousAndCurrent(i64),
}

impl Within {
    /// The bound in ms, if there is one.
    pub fn bound(self) -> Option<i64> {
        match self {
            Within::FirstAndLast(ms) | Within::PreviousAndCurrent(ms) if ms > 0 => Some(ms),
            _ => None,
        }
    }
}

/// What a match does to other matches and partial matches of its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AfterMatch {
    #[default]
    NoSkip,
    SkipToNext,
    SkipPastLastEvent,
    /// To the first row taken by the step of this name.
    SkipToFirst(String),
    /// To the last row taken by the step of this name.
    SkipToLast(String),
}

/// A whole pattern.
#[derive(Clone, Debug, Default)]
pub struct Ast {
    pub steps: Vec<Step>,
    pub within: Within,
    pub after_match: AfterMatch,
}

impl Ast {
    /// Names of the single steps in the order in which they are written, groups opened; a step's
    /// place in it is its number everywhere behind this.
    pub fn names(&self) -> Vec<String> {
        fn walk(steps: &[Step], names: &mut Vec<String>) {
            for step in steps {
                match &step.group {
                    Some(inner) => walk(inner, names),
                    None => names.push(step.name.clone().unwrap_or_default()),
                }
            }
        }
        let mut names = Vec::new();
        walk(&self.steps, &mut names);
        names
    }
}
