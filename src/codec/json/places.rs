//! Lines whose fields come in any order: first where each value stands, then a column at a time.
//!
//! Finding where the fields of a line stand needs neither their types nor their values: the name's
//! end, the column that it names, the value's end, all from a few wide compares and one probe of a
//! table, without a branch that a random order would make unpredictable. The values are then read
//! as those of a [`super::layout::Layout`] are, by column.
//!
//! 1. Only plain lines are taken: names and texts without escapes, in ASCII; at most one blank
//!    behind a colon or comma; no nested value; no name twice. Others are left.
//! 2. A value must end where its place does. So a line taken is one that the thorough reader
//!    takes, with the same row.

use super::column::{CHUNK, Chunk, LOST, Rows, Shape, Step};
use super::line::LineReader;
use super::tree::{Found, Node};
use super::values::Values;
use crate::ground::scan::text_end;
use crate::ground::schema::Schema;
use crate::ground::wide::{self, Kernel, Level, Member, Padded};

/// Most columns of a schema whose lines are read this way: one word of bits.
const COLUMNS_MAX: usize = 64;

/// Where the values of a chunk's lines stand.
pub(super) struct Places {
    /// By column and line.
    starts: Vec<u32>,
    ends: Vec<u32>,
    /// By line: the columns found, a bit each.
    seen: [u64; CHUNK],
    steps: Vec<Step>,
}

impl Places {
    /// For lines of `schema`; `None` if they cannot be read this way.
    pub(super) fn new(schema: &Schema) -> Option<Places> {
        let width = schema.width();
        if width == 0 || width > COLUMNS_MAX {
            return None;
        }
        let step = |(i, column): (usize, &crate::ground::schema::Column)| {
            Step::new(&[], Shape::of(&column.data_type, 0), i)
        };
        Some(Places {
            starts: vec![0; width * CHUNK],
            ends: vec![0; width * CHUNK],
            seen: [0; CHUNK],
            steps: schema.columns.iter().enumerate().map(step).collect(),
        })
    }

    /// Reads the chunk's lines, which start at `starts`, into `rows`. Those that it cannot take, it
    /// leaves in `failed`, in order; their slots and null bits hold anything.
    pub(super) fn read(
        &mut self,
        text: &[u8],
        starts: &[u32],
        chunk: &mut Chunk,
        rows: &mut Rows<'_>,
        reader: &mut LineReader,
    ) {
        let mut lines = [0u16; CHUNK];
        let not_null = reader.not_null.first().copied().unwrap_or(0);
        let find =
            Find { text: Padded::new(text), starts, not_null, node: reader.root(), places: self };
        let taken = wide::run(FindAll { find, chunk, lines: &mut lines });
        let lines = &lines[..taken];
        let mut lost = [false; CHUNK];
        for column in 0..self.steps.len() {
            self.read_column(column, text, lines, &mut lost, chunk, rows, reader);
        }
        let all = !0 >> (64 - self.steps.len());
        for &line in lines {
            let line = usize::from(line);
            rows.nulls[line] |= all & !self.seen[line];
            if lost[line] {
                chunk.failed[chunk.failed_len] = line as u16;
                chunk.failed_len += 1;
            }
        }
        chunk.failed[..chunk.failed_len].sort_unstable();
    }

    /// Reads one column's values of the lines that have it.
    #[allow(clippy::too_many_arguments)]
    fn read_column(
        &mut self,
        column: usize,
        text: &[u8],
        lines: &[u16],
        lost: &mut [bool; CHUNK],
        chunk: &mut Chunk,
        rows: &mut Rows<'_>,
        reader: &mut LineReader,
    ) {
        let starts = &self.starts[column * CHUNK..(column + 1) * CHUNK];
        let ends = &self.ends[column * CHUNK..(column + 1) * CHUNK];
        let mut live = 0;
        for &line in lines {
            let at = usize::from(line) % CHUNK;
            let k = live % CHUNK;
            chunk.lines[k] = line;
            chunk.places[k] = (at * rows.width) as u32;
            chunk.cursors[k] = starts[at];
            live += (self.seen[at] >> column & 1) as usize;
        }
        chunk.live = live;
        if live == 0 {
            return;
        }
        self.steps[column].read(text, chunk, rows, reader);
        for (&cursor, &line) in chunk.cursors[..live].iter().zip(&chunk.lines[..live]) {
            let line = usize::from(line) % CHUNK;
            lost[line] |= cursor != ends[line] || cursor == LOST;
        }
    }
}

/// Finds the fields of the chunk's lines: puts the plain ones into `lines`, the others into
/// `failed`. How many are plain.
struct FindAll<'a, 'b> {
    find: Find<'a>,
    chunk: &'b mut Chunk,
    lines: &'b mut [u16; CHUNK],
}

impl Kernel for FindAll<'_, '_> {
    type Out = usize;

    #[inline(always)]
    fn run<L: Level>(self, level: L) -> usize {
        let FindAll { mut find, chunk, lines } = self;
        let mut taken = 0;
        for k in 0..chunk.live.min(CHUNK) {
            let line = chunk.lines[k];
            if find.find(level, usize::from(line) % CHUNK) {
                lines[taken] = line;
                taken += 1;
            } else {
                chunk.failed[chunk.failed_len] = line;
                chunk.failed_len += 1;
            }
        }
        taken
    }
}

/// Finds the fields of lines.
struct Find<'a> {
    text: Padded<'a>,
    starts: &'a [u32],
    not_null: u64,
    node: &'a Node,
    places: &'a mut Places,
}

impl Find<'_> {
    /// Finds the fields of one line. Whether it is a plain one, with all that must not be NULL.
    #[inline(always)]
    fn find<L: Level>(&mut self, level: L, line: usize) -> bool {
        let Find { text, starts, not_null, node, ref mut places } = *self;
        let start = starts[line] as usize;
        let mut seen = 0u64;
        let mut at = start + 1;
        let mut plain = text.window(start)[0] == b'{';
        loop {
            let mut member = level.member(text.window(at));
            if !member.ok {
                match long_member(text, at) {
                    Some(long) => member = long,
                    None => return false,
                }
            }
            let end = at + member.end;
            match node.find(text.window(at + 1), text.rest(at + 1), member.name_len) {
                Some(Found::Column(column)) => {
                    let place = column * CHUNK + line;
                    places.starts[place] = (at + member.value) as u32;
                    places.ends[place] = end as u32;
                    plain &= seen >> (column % 64) & 1 == 0;
                    seen |= 1 << (column % 64);
                }
                Some(Found::Member(_)) => return false,
                None if member.is_text => {}
                None => {
                    if Values::default().skip(text.rest(0), at + member.value) != Ok(end) {
                        return false;
                    }
                }
            }
            let behind = text.window(end);
            if behind[0] != b',' {
                places.seen[line] = seen;
                let tail = if behind[1] == b'\r' { behind[2] } else { behind[1] };
                return plain & (behind[0] == b'}') & (tail == b'\n') & (not_null & !seen == 0);
            }
            at = end + 1 + usize::from(behind[1] == b' ');
        }
    }
}

/// A member whose text is longer than a window.
#[inline(never)]
fn long_member(text: Padded<'_>, at: usize) -> Option<Member> {
    let bytes = text.rest(0);
    let plain_end = |at: usize| {
        let (end, ascii) = text_end(bytes, at);
        (ascii && bytes[end] == b'"').then_some(end)
    };
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let name_end = plain_end(at + 1)?;
    let value = name_end + 2 + usize::from(text.window(name_end + 2)[0] == b' ');
    if bytes[name_end + 1] != b':' || text.window(value)[0] != b'"' {
        return None;
    }
    let end = plain_end(value + 1)? + 1;
    let name_len = name_end - at - 1;
    Some(Member { name_len, value: value - at, end: end - at, is_text: true, ok: true })
}
