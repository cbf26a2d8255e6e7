//! What is wrong with a pipeline file, where, and what was probably meant.
//!
//! 1. A span lies within its text and on character boundaries (`Texts::clamp` sees to it).
//! 2. Diagnostics are shown in the order of the text, each one once.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::Serialize;

use super::code::Code;

/// Bytes of one of the [`Texts`] that a pipeline is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Which text: 0 is the file, the others are `--set` arguments.
    pub text: usize,
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// The start of the file, for what is nowhere in particular.
    pub const FILE: Span = Span { text: 0, start: 0, end: 0 };

    /// Bytes of a text.
    pub fn new(text: usize, bytes: Range<usize>) -> Span {
        Span { text, start: bytes.start, end: bytes.end }
    }
}

/// A value and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    pub value: T,
    pub span: Span,
}

impl<T> Spanned<T> {
    /// A value with its place.
    pub fn new(value: T, span: Span) -> Spanned<T> {
        Spanned { value, span }
    }

    /// The same place with another value.
    pub fn map<U>(self, with: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: with(self.value), span: self.span }
    }
}

/// The texts that a pipeline is read from, by number: the file first, then `--set` arguments.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    texts: Vec<(String, String)>,
}

/// Where something stands, counted in lines and characters from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl Texts {
    /// Adds a text under the name that messages show; gives its number.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> usize {
        self.texts.push((name.into(), text.into()));
        self.texts.len() - 1
    }

    /// The name of a text.
    pub fn name(&self, text: usize) -> &str {
        &self.texts[text].0
    }

    /// A text.
    pub fn text(&self, text: usize) -> &str {
        &self.texts[text].1
    }

    /// Line and column of a byte of a text. O(text).
    pub fn place(&self, text: usize, byte: usize) -> Place {
        let before = &self.text(text)[..byte];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// A span that keeps invariant 1.
    fn clamp(&self, span: Span) -> Span {
        let text = self.text(span.text);
        let boundary = |at: &usize| text.is_char_boundary(*at);
        let floor = |at: usize| (0..=at.min(text.len())).rev().find(boundary).unwrap_or(0);
        let start = floor(span.start);
        Span { text: span.text, start, end: floor(span.end).max(start) }
    }
}

/// Whether a diagnostic stops the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub code: Code,
    /// What is wrong, in a sentence without a full stop.
    pub message: String,
    pub span: Span,
    /// A few words beside the marked text.
    pub label: Option<String>,
    /// What was probably meant, or what to do.
    pub hint: Option<String>,
    /// Other places that matter, and why.
    pub also: Vec<(Span, String)>,
}

impl Diagnostic {
    /// An error.
    pub fn error(code: Code, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            code,
            message: message.into(),
            span,
            label: None,
            hint: None,
            also: Vec::new(),
        }
    }

    /// A warning.
    pub fn warning(code: Code, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, span, message) }
    }

    /// With words beside the marked text.
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = Some(label.into());
        self
    }

    /// With what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// With what to do, if anything is known.
    pub fn maybe_hint(mut self, hint: Option<String>) -> Diagnostic {
        self.hint = hint.or(self.hint);
        self
    }

    /// With another place that matters.
    pub fn also(mut self, span: Span, why: impl Into<String>) -> Diagnostic {
        self.also.push((span, why.into()));
        self
    }
}

/// Everything found so far.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    found: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Adds one, unless the same was found at the same place before.
    pub fn add(&mut self, diagnostic: Diagnostic) {
        if !self.found.contains(&diagnostic) {
            self.found.push(diagnostic);
        }
    }

    /// Whether anything stops the run.
    pub fn has_errors(&self) -> bool {
        self.found.iter().any(|found| found.severity == Severity::Error)
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All of them, in the order of the text.
    pub fn sorted(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|found| (found.span, found.code));
        self.found
    }
}

/// How many things are wrong, "3 errors and 1 warning".
pub fn tally(diagnostics: &[Diagnostic]) -> String {
    let count = |severity, one: &str| {
        let n = diagnostics.iter().filter(|found| found.severity == severity).count();
        match n {
            0 => None,
            1 => Some(format!("1 {one}")),
            n => Some(format!("{n} {one}s")),
        }
    };
    let parts = [count(Severity::Error, "error"), count(Severity::Warning, "warning")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

/// Diagnostics for a reader, as rustc shows them; `styled` with colours.
pub fn render(diagnostics: &[Diagnostic], texts: &Texts, styled: bool) -> String {
    let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for found in diagnostics {
        let level = match found.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(&found.message).id(found.code.as_str());
        let span = texts.clamp(found.span);
        let mut group = Group::with_title(title);
        let marks: Vec<(Span, AnnotationKind, Option<&str>)> =
            std::iter::once((span, AnnotationKind::Primary, found.label.as_deref()))
                .chain(found.also.iter().map(|(span, why)| {
                    (texts.clamp(*span), AnnotationKind::Context, Some(why.as_str()))
                }))
                .collect();
        let mut shown: Vec<usize> = marks.iter().map(|(span, ..)| span.text).collect();
        shown.dedup();
        for text in shown {
            if texts.text(text).is_empty() {
                group = group.element(Origin::path(texts.name(text)));
                continue;
            }
            let mut snippet = Snippet::source(texts.text(text)).path(texts.name(text));
            for (span, kind, label) in marks.iter().filter(|(span, ..)| span.text == text) {
                let mark = kind.span(span.start..span.end);
                snippet = snippet.annotation(match label {
                    Some(label) => mark.label(*label),
                    None => mark,
                });
            }
            group = group.element(snippet);
        }
        if let Some(hint) = &found.hint {
            group = group.element(Level::HELP.message(hint));
        }
        out.push_str(&renderer.render(&[group]));
        out.push_str("\n\n");
    }
    out
}

#[derive(Serialize)]
struct Shown<'a> {
    severity: Severity,
    code: &'static str,
    message: &'a str,
    file: &'a str,
    line: usize,
    column: usize,
    end: Place,
    hint: Option<&'a str>,
}

/// Diagnostics for an editor: one JSON object a line.
pub fn to_json(diagnostics: &[Diagnostic], texts: &Texts) -> String {
    let mut out = String::new();
    for found in diagnostics {
        let span = texts.clamp(found.span);
        let start = texts.place(span.text, span.start);
        let shown = Shown {
            severity: found.severity,
            code: found.code.as_str(),
            message: &found.message,
            file: texts.name(span.text),
            line: start.line,
            column: start.column,
            end: texts.place(span.text, span.end),
            hint: found.hint.as_deref(),
        };
        let line = serde_json::to_string(&shown).expect("texts and numbers are always JSON");
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// The candidate that `written` was probably meant to be: the nearest by edits, if near enough.
pub fn nearest<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let lower = written.to_lowercase();
    let limit = match written.chars().count() {
        0 | 1 => 0,
        len => (len / 3).max(1),
    };
    candidates
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&lower, &known.to_lowercase()), known))
        .filter(|(edits, known)| *edits <= limit && *known != written)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, known)| known)
}

/// "did you mean ...?", or else all candidates when they are few.
pub fn suggest<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
    what: &str,
) -> Option<String> {
    if let Some(known) = nearest(written, candidates.clone()) {
        return Some(format!("did you mean `{known}`?"));
    }
    let all: Vec<&str> = candidates.into_iter().collect();
    match all.len() {
        0 => None,
        1..=24 => Some(format!("{what}: {}", quoted(&all))),
        _ => None,
    }
}

/// `a`, `b` and `c`.
pub fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_from_one() {
        let mut texts = Texts::default();
        texts.add("f", "a = 1\nä = \"ö\"\n");
        assert_eq!(texts.place(0, 0), Place { line: 1, column: 1 });
        assert_eq!(texts.place(0, 6 + "ä = ".len()), Place { line: 2, column: 5 });
    }

    #[test]
    fn the_nearest_name_is_found_and_strangers_are_not() {
        assert_eq!(nearest("amout", ["amount", "ts"]), Some("amount"));
        assert_eq!(nearest("TUMBLING", ["tumbling", "sliding"]), Some("tumbling"));
        assert_eq!(nearest("country", ["amount", "ts"]), None);
    }

    #[test]
    fn a_span_past_the_text_is_cut() {
        let mut texts = Texts::default();
        texts.add("f", "ä");
        let wrong = [Diagnostic::error(Code::Syntax, Span::new(0, 1..9), "torn")];
        assert!(render(&wrong, &texts, false).contains("torn"));
        let line = to_json(&wrong, &texts);
        assert!(line.contains(r#""line":1,"column":1,"end":{"line":1,"column":2}"#), "{line}");
    }
}
