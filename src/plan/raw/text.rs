//! Strings of the file, which remember where each of their bytes is written, and the replacement
//! of `${NAME}` in them.
//!
//! 1. `pieces` rise in both positions; the first is at 0. Byte b of the value, in the last piece
//!    that starts at or before b, is written at `source + (b - value)`, but not past the start of
//!    the next piece.

use std::ops::Range;

use super::tree::{Node, Value};
use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Diagnostics, Span};

/// Bytes of a value that are written as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First byte in the value.
    pub value: usize,
    /// Where it is written, in the text that the string's span names.
    pub source: usize,
}

/// A string of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    pub value: String,
    /// The whole literal, with its quotes.
    pub span: Span,
    pieces: Vec<Piece>,
    replaced: bool,
}

impl Text {
    /// A string whose bytes are written as `pieces` say.
    pub fn new(value: String, span: Span, pieces: Vec<Piece>) -> Text {
        Text { value, span, pieces, replaced: false }
    }

    /// Where bytes of the value are written.
    pub fn at(&self, bytes: Range<usize>) -> Span {
        if self.pieces.is_empty() {
            return self.span;
        }
        let start = self.source(bytes.start);
        let end = if bytes.end > bytes.start { self.source(bytes.end - 1) + 1 } else { start };
        Span { text: self.span.text, start, end: end.min(self.span.end).max(start) }
    }

    fn source(&self, byte: usize) -> usize {
        let next = self.pieces.partition_point(|piece| piece.value <= byte);
        let piece = self.pieces[next.saturating_sub(1)];
        let found = piece.source + byte.saturating_sub(piece.value);
        let limit = self.pieces.get(next).map_or(self.span.end, |next| next.source);
        found.min(limit)
    }

    /// Whether a `${...}` was replaced in it.
    pub fn is_replaced(&self) -> bool {
        self.replaced
    }

    pub(super) fn shift(&mut self, prefix: usize, start: usize) {
        let moved = |at: usize| at.saturating_sub(prefix) + start;
        self.span.start = moved(self.span.start);
        self.span.end = moved(self.span.end);
        self.pieces.iter_mut().for_each(|piece| piece.source = moved(piece.source));
    }
}

/// Finds where the bytes of `value` stand in the TOML string `written`, which begins at byte
/// `start` of its text. Empty if they cannot be told.
pub fn literal(written: &str, start: usize, value: &str) -> Vec<Piece> {
    let quotes = ["\"\"\"", "'''", "\"", "'"];
    let Some(quote) = quotes.into_iter().find(|quote| written.starts_with(quote)) else {
        return Vec::new();
    };
    let mut at = quote.len();
    let body_end = written.len().saturating_sub(quote.len()).max(at);
    let body = &written[..body_end];
    if quote.len() == 3 {
        // A newline right behind the quotes is no part of the value.
        let rest = &body[at..];
        at += rest.len()
            - rest.strip_prefix("\r\n").or(rest.strip_prefix('\n')).unwrap_or(rest).len();
    }
    let escapes = quote.starts_with('"');
    let mut pieces = vec![Piece { value: 0, source: start + at }];
    let mut decoded = 0;
    while at < body.len() {
        let rest = &body[at..];
        if escapes && let Some(escape) = rest.strip_prefix('\\') {
            let (read, made) = escaped(escape);
            (at, decoded) = (at + 1 + read, decoded + made);
            pieces.push(Piece { value: decoded, source: start + at });
        } else {
            let plain = if escapes { rest.find('\\').unwrap_or(rest.len()) } else { rest.len() };
            (at, decoded) = (at + plain, decoded + plain);
        }
    }
    if decoded == value.len() { pieces } else { Vec::new() }
}

/// Bytes that an escape takes behind its backslash, and bytes that it stands for.
fn escaped(escape: &str) -> (usize, usize) {
    let digits = match escape.as_bytes().first() {
        Some(b'x') => 2,
        Some(b'u') => 4,
        Some(b'U') => 8,
        Some(b' ' | b'\t' | b'\r' | b'\n') => {
            return (escape.len() - escape.trim_start_matches([' ', '\t', '\r', '\n']).len(), 0);
        }
        _ => return (1, 1),
    };
    let code = escape.get(1..1 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    (1 + digits, code.and_then(char::from_u32).map_or(1, char::len_utf8))
}

/// Gives the value of an environment variable, if it is set.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces `${NAME}` and `${NAME:-default}` in every string value below `node`. `$${` stands for
/// `${`.
pub fn replace(node: &mut Node, environment: Environment<'_>, out: &mut Diagnostics) {
    match &mut node.value {
        Value::Text(text) if text.value.contains("${") => replace_text(text, environment, out),
        Value::List(list) => list.iter_mut().for_each(|node| replace(node, environment, out)),
        Value::Table(table) => {
            table.entries.iter_mut().for_each(|(_, node)| replace(node, environment, out));
        }
        _ => {}
    }
}

fn replace_text(text: &mut Text, environment: Environment<'_>, out: &mut Diagnostics) {
    let old = text.clone();
    let (mut value, mut pieces, mut at) = (String::new(), Vec::new(), 0);
    let keep = |bytes: Range<usize>, value: &mut String, pieces: &mut Vec<Piece>| {
        pieces.push(Piece { value: value.len(), source: old.source_or_start(bytes.start) });
        let inside = |piece: &&Piece| bytes.contains(&piece.value) && piece.value > bytes.start;
        pieces.extend(old.pieces.iter().filter(inside).map(|piece| Piece {
            value: value.len() + piece.value - bytes.start,
            source: piece.source,
        }));
        value.push_str(&old.value[bytes]);
    };
    while let Some(found) = old.value[at..].find("${").map(|found| at + found) {
        if old.value[..found].ends_with('$') && found > at {
            keep(at..found - 1, &mut value, &mut pieces);
            keep(found..found + 2, &mut value, &mut pieces);
            at = found + 2;
            continue;
        }
        keep(at..found, &mut value, &mut pieces);
        let inside = &old.value[found + 2..];
        let Some(len) = inside.find('}') else {
            let span = old.at(found..old.value.len());
            let message = "`${` is not closed by `}`";
            out.add(
                Diagnostic::error(Code::Environment, span, message)
                    .hint("write `$${` for the characters `${` themselves"),
            );
            at = old.value.len();
            break;
        };
        let end = found + 2 + len + 1;
        let (name, default) = match inside[..len].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inside[..len], None),
        };
        let span = old.at(found..end);
        pieces.push(Piece { value: value.len(), source: span.start });
        match variable(name).and_then(|()| {
            environment(name).or(default.map(str::to_string)).ok_or_else(|| {
                format!("environment variable `{name}` is not set and has no default")
            })
        }) {
            Ok(found) => value.push_str(&found),
            Err(message) => {
                let hint = format!("set {name}, or write `${{{name}:-default}}`");
                let wrong = Diagnostic::error(Code::Environment, span, message);
                out.add(if variable(name).is_ok() { wrong.hint(hint) } else { wrong });
            }
        }
        at = end;
    }
    keep(at..old.value.len(), &mut value, &mut pieces);
    pieces.dedup_by_key(|piece| piece.value);
    if old.pieces.is_empty() {
        pieces.clear();
    }
    *text = Text { value, span: old.span, pieces, replaced: true };
}

impl Text {
    fn source_or_start(&self, byte: usize) -> usize {
        if self.pieces.is_empty() { self.span.start } else { self.source(byte) }
    }
}

fn variable(name: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(good) || name.starts_with(|c: char| c.is_ascii_digit())
    {
        return Err(format!("`{name}` cannot be the name of an environment variable"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finds `what` in the string's value and says what is written there.
    fn check(written: &str, value: &str, what: &str, expected: &str) {
        let text =
            Text::new(value.into(), Span::new(0, 0..written.len()), literal(written, 0, value));
        let found = value.find(what).unwrap();
        let span = text.at(found..found + what.len());
        assert_eq!(&written[span.start..span.end], expected, "{written}");
    }

    #[test]
    fn bytes_of_a_string_are_found_where_they_are_written() {
        check(r#""a = b""#, "a = b", "b", "b");
        check(r#"'it''"#, "it'", "t", "t");
        check(r#""\"x\" = y""#, "\"x\" = y", "y", "y");
        check(r#""\u00e4 + y""#, "ä + y", "y", "y");
        check("\"\"\"\nfirst\n  second\"\"\"", "first\n  second", "second", "second");
        check("\"\"\"a \\\n   b\"\"\"", "a b", "b", "b");
        check("'''\n\\n'''", "\\n", "n", "n");
    }

    #[test]
    fn a_literal_that_does_not_agree_is_marked_whole() {
        assert_eq!(literal("\"abc\"", 0, "something else"), []);
    }

    fn replaced(written: &str) -> (Text, Vec<Diagnostic>) {
        let value = written.trim_matches('"').to_string();
        let pieces = literal(written, 0, &value);
        let text = Text::new(value, Span::new(0, 0..written.len()), pieces);
        let mut node = Node { span: text.span, value: Value::Text(text) };
        let mut out = Diagnostics::default();
        replace(&mut node, &|name| (name == "HOME").then(|| "/here".to_string()), &mut out);
        let Value::Text(text) = node.value else { unreachable!("it was a text") };
        (text, out.sorted())
    }

    #[test]
    fn variables_are_replaced_and_what_follows_keeps_its_place() {
        let written = r#""${HOME}/x/${NO:-none} + y""#;
        let (text, wrong) = replaced(written);
        assert_eq!(text.value, "/here/x/none + y");
        assert_eq!(wrong, []);
        let span = text.at(text.value.len() - 1..text.value.len());
        assert_eq!(&written[span.start..span.end], "y");
        assert_eq!(replaced(r#""a$${HOME}""#).0.value, "a${HOME}");
        assert_eq!(replaced(r#""${NO:-}""#).0.value, "");
    }

    #[test]
    fn a_variable_that_is_not_set_is_marked() {
        let written = r#""x ${NO} y""#;
        let (_, wrong) = replaced(written);
        assert_eq!(wrong[0].code, Code::Environment);
        assert_eq!(&written[wrong[0].span.start..wrong[0].span.end], "${NO}");
        assert_eq!(replaced(r#""${A-B}""#).1[0].code, Code::Environment);
        assert_eq!(replaced(r#""${HOME""#).1[0].code, Code::Environment);
    }
}
