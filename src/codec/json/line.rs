//! The thorough reader of one line: any order of fields, blanks, escapes, nesting.
//!
//! 1. It accepts exactly the objects of RFC 8259, nested at most `limits::JSON_DEPTH_MAX` deep.
//! 2. Of a name given twice the last counts, with all that is under it.
//! 3. A line holds no newline, and a newline or the padding's zero bytes follow it: neither is
//!    part of any value, so nothing here looks for the end.

use super::text::{Place, read_text, skip_blanks};
use super::tree::{Found, Node, Tree};
use super::values::Values;
use super::wrong::{Result, What, kind_of, wrong};
use crate::codec::DecodeOptions;
use crate::ground::scan::{short_text, window};
use crate::ground::schema::Schema;

/// A value met while a layout is learned: where its text stands, and whose it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub start: usize,
    pub end: usize,
    /// `None`: a value that no column wants.
    pub column: Option<usize>,
}

/// The pieces of one line, if it was read to be learned from.
#[derive(Default)]
pub(super) struct Trace {
    pub on: bool,
    pub pieces: Vec<Piece>,
    /// Objects on some column's path that the line has, or has NULL.
    pub nodes: Vec<usize>,
    /// The line has what a layout cannot hold: a place of several columns.
    pub odd: bool,
}

/// Where a row's values go.
pub(super) struct Row<'a> {
    pub slots: &'a mut [u64],
    /// A bit each column; set where NULL.
    pub nulls: &'a mut [u64],
    pub heap: &'a mut Vec<u8>,
}

/// Reads lines by a schema. Keeps its scratch memory, nothing else, between lines.
pub(super) struct LineReader {
    pub schema: Schema,
    tree: Tree,
    event_time: Option<usize>,
    /// Columns that must not be NULL, a bit each.
    pub not_null: Vec<u64>,
    pub trace: Trace,
    pub values: Values,
}

impl LineReader {
    /// A reader of rows of `schema`.
    pub(super) fn new(schema: &Schema, options: &DecodeOptions) -> LineReader {
        let mut not_null = vec![0; schema.width().div_ceil(64)];
        for (i, column) in schema.columns.iter().enumerate() {
            if !column.nullable || options.event_time == Some(i) {
                not_null[i / 64] |= 1 << (i % 64);
            }
        }
        LineReader {
            schema: schema.clone(),
            tree: Tree::new(schema),
            event_time: options.event_time,
            not_null,
            trace: Trace::default(),
            values: Values::default(),
        }
    }

    /// The names of a row's own fields.
    pub(super) fn root(&self) -> &Node {
        self.tree.node(0)
    }

    /// Why the line `start..end` was wrong.
    pub(super) fn reason(&self, wrong: &super::wrong::Wrong, start: usize, end: usize) -> String {
        wrong.reason(&self.schema, self.event_time, start, end)
    }

    /// Reads the line `start..end` into `row`; false if it is blank. After an error the row's
    /// slots and heap hold anything.
    pub(super) fn read(
        &mut self,
        text: &[u8],
        start: usize,
        end: usize,
        row: &mut Row<'_>,
    ) -> Result<bool> {
        self.trace.pieces.clear();
        self.trace.nodes.clear();
        self.trace.odd = false;
        row.slots.fill(0);
        row.nulls.copy_from_slice(&self.tree.node(0).under);
        let at = skip_blanks(text, start);
        if at >= end {
            return Ok(false);
        }
        if text[at] != b'{' {
            return wrong(at, What::Expected("`{`"));
        }
        let at = self.object(0, text, at + 1, row)?;
        let at = skip_blanks(text, at);
        if at < end {
            return wrong(at, What::Trailing);
        }
        for (i, (nulls, not_null)) in row.nulls.iter().zip(&self.not_null).enumerate() {
            if nulls & not_null != 0 {
                let column = i * 64 + (nulls & not_null).trailing_zeros() as usize;
                return wrong(at, What::Null { column });
            }
        }
        Ok(true)
    }

    /// Makes all columns in and under a node NULL.
    fn clear_under(&self, node: usize, row: &mut Row<'_>) {
        let under = &self.tree.node(node).under;
        for (i, (nulls, under)) in row.nulls.iter_mut().zip(under).enumerate() {
            let mut had = !*nulls & under;
            *nulls |= under;
            while had != 0 {
                row.slots[i * 64 + had.trailing_zeros() as usize] = 0;
                had &= had - 1;
            }
        }
    }

    /// Reads an object from behind its brace to behind its end.
    fn object(&mut self, node: usize, text: &[u8], at: usize, row: &mut Row<'_>) -> Result<usize> {
        let mut at = skip_blanks(text, at);
        if text[at] == b'}' {
            return Ok(at + 1);
        }
        loop {
            if text[at] != b'"' {
                return wrong(at, What::Expected("a name"));
            }
            let (member, after) = self.name(node, text, at + 1)?;
            at = skip_blanks(text, after);
            if text[at] != b':' {
                return wrong(at, What::Expected("`:`"));
            }
            at = skip_blanks(text, at + 1);
            at = match member {
                Some(Found::Column(column)) => self.column(column, text, at, row)?,
                Some(Found::Member(index)) => self.member(node, index, text, at, row)?,
                None => {
                    let end = self.values.skip(text, at)?;
                    self.note(at, end, None);
                    end
                }
            };
            at = skip_blanks(text, at);
            match text[at] {
                b',' => at = skip_blanks(text, at + 1),
                b'}' => return Ok(at + 1),
                _ => return wrong(at, What::Expected("`,` or `}`")),
            }
        }
    }

    fn note(&mut self, start: usize, end: usize, column: Option<usize>) {
        if self.trace.on {
            self.trace.pieces.push(Piece { start, end, column });
        }
    }

    /// Reads a name from behind its quote: what it names, and the place behind its end.
    #[inline(always)]
    fn name(&mut self, node: usize, text: &[u8], at: usize) -> Result<(Option<Found>, usize)> {
        let start = window(text, at);
        let short = short_text(start);
        let node = self.tree.node(node);
        if short.closed {
            let found = node.find(start, &text[at..], short.len);
            return Ok((found, at + short.len + 1));
        }
        let (place, after) = read_text(text, at, &mut self.values.scratch)?;
        let found = match place {
            Place::Line { start: from, end } => node.find(start, &text[from..], end - from),
            Place::Scratch => node.find_plain(&self.values.scratch),
        };
        Ok((found, after))
    }

    /// Reads a column's value into the row.
    #[inline(always)]
    fn column(
        &mut self,
        column: usize,
        text: &[u8],
        at: usize,
        row: &mut Row<'_>,
    ) -> Result<usize> {
        let data_type = &self.schema.columns[column].data_type;
        let (value, end) = self.values.read(column, data_type, text, at, row.heap)?;
        row.slots[column] = value.unwrap_or(0);
        let (word, bit) = (column / 64, column % 64);
        row.nulls[word] = row.nulls[word] & !(1 << bit) | u64::from(value.is_none()) << bit;
        self.note(at, end, Some(column));
        Ok(end)
    }

    /// Reads the value of a place that is not just one column's.
    fn member(
        &mut self,
        node: usize,
        member: u16,
        text: &[u8],
        at: usize,
        row: &mut Row<'_>,
    ) -> Result<usize> {
        let member = self.tree.node(node).member_at(member);
        let (deeper, columns) = (member.node, member.columns.clone());
        if !columns.is_empty() {
            self.trace.odd = true;
            let mut end = at;
            for column in columns {
                end = self.column(column, text, at, row)?;
            }
            if let Some(deeper) = deeper {
                self.clear_under(deeper, row);
            }
            return Ok(end);
        }
        let deeper = deeper.expect("a member without columns leads to a node");
        self.trace.nodes.push(deeper);
        self.clear_under(deeper, row);
        match text[at] {
            b'{' => self.object(deeper, text, at + 1, row),
            b'n' => self.values.skip(text, at),
            found => wrong(at, What::Parent { found: kind_of(found) }),
        }
    }
}
