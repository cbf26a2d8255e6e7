//! A `pattern` transform as written: steps, groups of steps, and how they follow one another.

use super::reader::{Fields, Millis, Named, Read, Reader, words};
use super::text::Text;
use super::tree::{Node, Value};
use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Span, Spanned, suggest};

/// `type = "pattern"`.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub span: Span,
    pub within: Option<Within>,
    pub after_match: Option<Spanned<AfterMatch>>,
    pub steps: Spanned<Vec<Step>>,
    pub select: Named<Text>,
    pub emit: Option<Spanned<PatternEmit>>,
    pub max_partial_matches: Option<Spanned<i64>>,
}

/// How long a match may take.
#[derive(Clone, Debug)]
pub enum Within {
    /// From its first event to its last.
    Whole(Spanned<Millis>),
    /// From each event to the next.
    BetweenEvents(Spanned<Millis>),
}

impl Read for Within {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Within> {
        if !matches!(node.value, Value::Table(_)) {
            return Some(Within::Whole(Read::read(node, reader)?));
        }
        let mut fields = Fields::open(node, "`within`", reader)?;
        let between = fields.must("between_events", reader);
        fields.close(reader);
        Some(Within::BetweenEvents(between?))
    }
}

/// What becomes of overlapping matches once one is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterMatch {
    NoSkip,
    SkipToNext,
    SkipPastLastEvent,
    SkipToFirst(String),
    SkipToLast(String),
}

impl Read for Spanned<AfterMatch> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let after = if let Value::Table(_) = node.value {
            let mut fields = Fields::open(node, "`after_match`", reader)?;
            let first = fields.maybe::<Text>("skip_to_first", reader);
            let last = fields.maybe::<Text>("skip_to_last", reader);
            fields.close(reader);
            match (first, last) {
                (Some(step), None) => AfterMatch::SkipToFirst(step.value),
                (None, Some(step)) => AfterMatch::SkipToLast(step.value),
                _ => {
                    let message = "`after_match` names one step to skip to";
                    let hint = "write { skip_to_first = \"step\" } or { skip_to_last = \"step\" }";
                    let wrong = Diagnostic::error(Code::Conflict, node.span, message).hint(hint);
                    reader.out.add(wrong);
                    return None;
                }
            }
        } else {
            let text = Text::read(node, reader)?;
            match text.value.as_str() {
                "no_skip" => AfterMatch::NoSkip,
                "skip_to_next" => AfterMatch::SkipToNext,
                "skip_past_last_event" => AfterMatch::SkipPastLastEvent,
                other => {
                    let words = ["no_skip", "skip_to_next", "skip_past_last_event"];
                    let hint = suggest(other, words, "it is one of");
                    let message = format!("`{other}` is not a way to skip after a match");
                    let wrong = Diagnostic::error(Code::UnknownWord, node.span, message);
                    reader.out.add(wrong.maybe_hint(hint));
                    return None;
                }
            }
        };
        Some(Spanned::new(after, node.span))
    }
}

words! {
    /// When matches are put out.
    PatternEmit("a time to put out matches") {
        /// When the watermark has passed them.
        Final = "final",
        /// At once, to be confirmed or retracted later.
        Eager = "eager",
    }
}

words! {
    /// How a step follows the one before it.
    Contiguity("a contiguity") {
        Next = "next",
        FollowedBy = "followed_by",
        FollowedByAny = "followed_by_any",
        NotNext = "not_next",
        NotFollowedBy = "not_followed_by",
    }
}

words! {
    /// How the repeats of a step follow one another.
    Inner("a contiguity between repeats") {
        Relaxed = "relaxed",
        Consecutive = "consecutive",
        AllowCombinations = "allow_combinations",
    }
}

/// `times = ...` as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    Exactly(i64),
    Range { min: Option<i64>, max: Option<i64> },
}

impl Read for Spanned<Times> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let times = if let Value::Table(_) = node.value {
            let mut fields = Fields::open(node, "`times`", reader)?;
            let min = fields.maybe::<Spanned<i64>>("min", reader).map(|min| min.value);
            let max = fields.maybe::<Spanned<i64>>("max", reader).map(|max| max.value);
            let given = fields.has("min") || fields.has("max");
            fields.close(reader);
            if !given {
                let message = "`times` has neither `min` nor `max`";
                reader.wrong(Code::MissingKey, node.span, message);
                return None;
            }
            Times::Range { min, max }
        } else {
            Times::Exactly(Spanned::<i64>::read(node, reader)?.value)
        };
        Some(Spanned::new(times, node.span))
    }
}

/// One of `steps`.
#[derive(Clone, Debug)]
pub struct Step {
    pub span: Span,
    pub what: StepWhat,
    pub contiguity: Option<Spanned<Contiguity>>,
    pub times: Option<Spanned<Times>>,
    pub inner: Option<Spanned<Inner>>,
    pub optional: Option<Spanned<bool>>,
    pub greedy: Option<Spanned<bool>>,
    pub until: Option<Text>,
}

/// A step proper, or several.
#[derive(Clone, Debug)]
pub enum StepWhat {
    /// Takes rows for which the condition is true, or any.
    One { name: Text, condition: Option<Text> },
    /// Steps in their order.
    Group(Vec<Step>),
}

impl Read for Step {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Step> {
        let group = matches!(&node.value, Value::Table(table) if table.get("group").is_some());
        let name = if group { "a group of steps" } else { "a step" };
        let mut fields = Fields::open(node, name, reader)?;
        let what = if group {
            fields.must("group", reader).map(StepWhat::Group)
        } else {
            let condition = fields.maybe("where", reader);
            let name = fields.must("name", reader);
            name.map(|name| StepWhat::One { name, condition })
        };
        // One that cannot be read stands for any, lest it be missed as well.
        let contiguity = fields.node("contiguity").map(|node| {
            let read = Spanned::read(node, reader);
            read.unwrap_or(Spanned::new(Contiguity::FollowedBy, node.span))
        });
        let times = fields.maybe("times", reader);
        let inner = fields.maybe("inner", reader);
        let optional = fields.maybe("optional", reader);
        let greedy = fields.maybe("greedy", reader);
        let until = fields.maybe("until", reader);
        fields.close(reader);
        let what = what?;
        let span = node.span;
        Some(Step { span, what, contiguity, times, inner, optional, greedy, until })
    }
}

/// `type = "pattern"` whose patterns stand in files of their own.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Which files: a path with `*`.
    pub files: Text,
    /// The columns that every rule selects.
    pub schema: Text,
}

/// A file of [`Rules`].
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it is called, if not as its file.
    pub name: Option<Text>,
    pub version: Spanned<i64>,
    pub pattern: Pattern,
}

/// Reads a rule's file.
pub fn rule(node: &Node, reader: &mut Reader<'_>) -> Option<Rule> {
    let mut fields = Fields::open(node, "a rule's file", reader)?;
    let name = fields.maybe("name", reader);
    let version = fields.must("version", reader);
    let pattern = pattern(&mut fields, reader);
    fields.close(reader);
    Some(Rule { name, version: version?, pattern: pattern? })
}

/// Reads the keys of a pattern whose rules stand in files.
pub fn rules(fields: &mut Fields<'_>, reader: &mut Reader<'_>) -> Option<Rules> {
    let (files, schema) = (fields.must("rules", reader), fields.must("schema", reader));
    for key in ["steps", "select", "within", "after_match", "emit", "max_partial_matches"] {
        if let Some(node) = fields.node(key) {
            let message = format!("`{key}` stands in the files that `rules` names");
            reader.wrong(Code::Conflict, node.span, message);
        }
    }
    Some(Rules { files: files?, schema: schema? })
}

/// Reads the keys of a pattern.
pub fn pattern(fields: &mut Fields<'_>, reader: &mut Reader<'_>) -> Option<Pattern> {
    let within = fields.maybe("within", reader);
    let after_match = fields.maybe("after_match", reader);
    let steps = fields.must("steps", reader);
    let select = fields.must("select", reader);
    let emit = fields.maybe("emit", reader);
    let max_partial_matches = fields.maybe("max_partial_matches", reader);
    let (span, steps, select) = (fields.span, steps?, select?);
    Some(Pattern { span, within, after_match, steps, select, emit, max_partial_matches })
}
