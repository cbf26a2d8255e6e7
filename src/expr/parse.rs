//! Text to sqlparser's tree, and its line-and-column places back to bytes of the text.
//!
//! 1. Nothing that a user writes overflows the stack: nesting is bounded in the parser, and the
//!    number of words and operators (of which chains like `a + b + c` are made, which nest in the
//!    tree but not in the parser) is bounded before it.

use std::ops::Range;

use sqlparser::ast::{Expr, Spanned};
use sqlparser::dialect::Dialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};

use super::ExprError;
use crate::ground::limits::{EXPR_DEPTH_MAX, EXPR_TOKENS_MAX};

/// The dialect of pipeline files: standard SQL, with nothing reserved that need not be.
#[derive(Debug)]
struct PipelineSql;

impl Dialect for PipelineSql {
    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    // Flink writes doubles and hex literals as the standard does; custom units are refused later,
    // with a hint, rather than here.
    fn allow_extract_custom(&self) -> bool {
        true
    }
}

/// An expression's text, which can say where in it something stands.
pub(crate) struct Source<'a> {
    pub text: &'a str,
    /// Byte at which each line starts.
    lines: Vec<usize>,
}

impl<'a> Source<'a> {
    pub fn new(text: &'a str) -> Source<'a> {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Source { text, lines }
    }

    fn offset(&self, at: Location) -> Option<usize> {
        let line = usize::try_from(at.line).ok()?.checked_sub(1)?;
        let column = usize::try_from(at.column).ok()?.checked_sub(1)?;
        let start = *self.lines.get(line)?;
        let rest = &self.text[start..];
        let within = rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at);
        Some(start + within)
    }

    /// The bytes of a span; the whole text where sqlparser does not know.
    pub fn range(&self, span: Span) -> Range<usize> {
        match (self.offset(span.start), self.offset(span.end)) {
            (Some(start), Some(end)) if start < end => start..end,
            _ => 0..self.text.len(),
        }
    }

    /// The bytes of a part of the tree.
    pub fn range_of(&self, part: &impl Spanned) -> Range<usize> {
        self.range(part.span())
    }

    pub fn error(&self, span: Range<usize>, message: impl Into<String>) -> ExprError {
        ExprError { message: message.into(), span, hint: None }
    }
}

impl ExprError {
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> ExprError {
        self.hint = Some(hint.into());
        self
    }
}

/// Parses one expression.
pub(crate) fn parse(source: &Source<'_>) -> Result<Expr, ExprError> {
    let dialect = PipelineSql;
    let whole = 0..source.text.len();
    let tokens =
        Tokenizer::new(&dialect, source.text).tokenize_with_location().map_err(|error| {
            let start = source.offset(error.location).unwrap_or(0);
            source.error(start..source.text.len(), error.message.clone())
        })?;
    check_size(source, &tokens)?;
    if tokens.iter().all(|token| matches!(token.token, Token::Whitespace(_))) {
        return Err(source.error(whole, "the expression is empty"));
    }
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(EXPR_DEPTH_MAX)
        .with_tokens_with_locations(tokens);
    let expr = parser.parse_expr().map_err(|error| explain(source, error))?;
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        let message = format!("`{}` is not expected here", rest.token);
        return Err(source
            .error(source.range(rest.span), message)
            .hint("one expression is wanted; is an operator missing before this?"));
    }
    Ok(expr)
}

fn check_size(source: &Source<'_>, tokens: &[TokenWithSpan]) -> Result<(), ExprError> {
    let nests = |token: &Token| match token {
        Token::Whitespace(_) | Token::Comma | Token::Number(..) | Token::SingleQuotedString(_) => {
            false
        }
        Token::Word(word) => word.keyword != Keyword::NoKeyword,
        _ => true,
    };
    let count = tokens.iter().filter(|token| nests(&token.token)).count();
    if count > EXPR_TOKENS_MAX {
        let message =
            format!("the expression has {count} operators; {EXPR_TOKENS_MAX} are allowed");
        return Err(source.error(0..source.text.len(), message));
    }
    // Beyond its limit the parser takes keywords for names, and its message would mislead.
    let (mut open, mut signs) = (0usize, 0usize);
    for token in tokens {
        let keyword = match &token.token {
            Token::Word(word) if word.quote_style.is_none() => word.keyword,
            _ => Keyword::NoKeyword,
        };
        match (&token.token, keyword) {
            (Token::Whitespace(_), _) => continue,
            (Token::LParen | Token::LBracket, _) | (_, Keyword::CASE) => open += 1,
            (Token::RParen | Token::RBracket, _) | (_, Keyword::END) => {
                open = open.saturating_sub(1)
            }
            (Token::Minus | Token::Plus, _) | (_, Keyword::NOT) => signs += 1,
            _ => signs = 0,
        }
        if open + signs > EXPR_DEPTH_MAX {
            return Err(too_deep(source, source.range(token.span)));
        }
    }
    Ok(())
}

/// The depth error, shared with the type checker.
pub(crate) fn too_deep(source: &Source<'_>, span: Range<usize>) -> ExprError {
    source.error(span, format!("the expression nests deeper than {EXPR_DEPTH_MAX} levels"))
}

fn explain(source: &Source<'_>, error: ParserError) -> ExprError {
    let message = match error {
        ParserError::RecursionLimitExceeded => return too_deep(source, 0..source.text.len()),
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
    };
    if message.ends_with("found: EOF") {
        return source.error(source.text.len()..source.text.len(), readable(&message));
    }
    // sqlparser writes the place at the end of its message and nowhere else.
    let Some((said, place)) = message.rsplit_once(" at Line: ") else {
        return source.error(0..source.text.len(), readable(&message));
    };
    let (line, column) = place.split_once(", Column: ").unwrap_or(("", ""));
    let at = Location {
        line: line.trim().parse().unwrap_or(0),
        column: column.trim().parse().unwrap_or(0),
    };
    match source.offset(at) {
        Some(start) => {
            let rest = &source.text[start..];
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let len = word.max(rest.chars().next().map_or(0, char::len_utf8));
            source.error(start..start + len, readable(said))
        }
        None => source.error(source.text.len()..source.text.len(), readable(said)),
    }
}

/// `Expected: an expression, found: EOF` in the words of our messages.
fn readable(message: &str) -> String {
    let message = message.trim_start_matches("sql parser error: ");
    match message.strip_prefix("Expected: ") {
        Some(rest) => format!("expected {}", rest.replace(", found: EOF", ", found the end")),
        None => message.to_string(),
    }
}
