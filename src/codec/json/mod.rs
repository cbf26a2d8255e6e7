//! JSON lines: an object a line.
//!
//! What each type takes: BOOLEAN `true`, `false`; BIGINT a number without fraction (`5.0` and
//! `5e3` are); DOUBLE a number; DECIMAL a number that its scale holds exactly; STRING a string;
//! BYTES a base64 string, as in Flink's JSON format; TIMESTAMP milliseconds or an RFC 3339 string;
//! ARRAY an array. Nothing is converted: a number is no STRING, `"5"` no BIGINT. A field that is
//! missing, or `null`, or whose parent is, is NULL. Unknown fields are checked and skipped. Of a
//! name given twice the last counts. Blank lines are skipped.
//!
//! Reading guesses: a `layout::Layout` learned from one line is tried on chunks of lines,
//! `places::Places` takes plain lines that have another, and the thorough `line::LineReader`
//! all the rest. Several layouts are kept, so that a stream of some kinds of objects is read at
//! full speed; a stream whose fields come in any order soon stops learning.

mod column;
mod encode;
mod layout;
mod line;
mod places;
mod text;
mod tree;
mod values;
mod wrong;

#[cfg(test)]
mod tests;

pub use encode::JsonEncoder;

use column::{CHUNK, Chunk, Rows};
use layout::Layout;
use line::{LineReader, Row};
use places::Places;

use super::{DecodeCount, DecodeOptions, Decoder, is_full, reject};
use crate::ground::batch::BatchBuilder;
use crate::ground::scan::newlines;
use crate::ground::schema::Schema;

/// What some systems put at the start of a file; no part of its first line.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
/// Most layouts kept at once.
const LAYOUTS_MAX: usize = 8;
/// Bytes of text that a chunk has at most, its last line excepted: what fits the nearest cache.
const CHUNK_BYTES: usize = 32 << 10;
/// Fewer lines than this are read thoroughly at once.
const PLACES_MIN: u64 = 4;
/// Most lines read thoroughly before the next is learned from, when learning does not help.
const PATIENCE_MAX: u64 = 1 << 16;

/// Reads JSON lines into rows of one schema. Keeps what it has learned between calls.
pub struct JsonDecoder {
    reader: LineReader,
    layouts: Vec<Layout>,
    places: Option<Places>,
    chunk: Box<Chunk>,
    ends: Vec<u32>,
    nulls: Vec<u64>,
    /// Lines to read thoroughly before the next is learned from; doubles while it does not help.
    patience: u64,
    waited: u64,
}

/// What became of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Taken,
    Rejected,
    Blank,
}

/// The text under way.
#[derive(Clone, Copy)]
struct Input<'a> {
    text: &'a [u8],
    origin: &'a str,
    base: u64,
}

impl JsonDecoder {
    /// A decoder of rows of `schema`.
    pub fn new(schema: &Schema, options: &DecodeOptions) -> JsonDecoder {
        JsonDecoder {
            reader: LineReader::new(schema, options),
            layouts: Vec::new(),
            places: Places::new(schema),
            chunk: Chunk::new(),
            ends: vec![0; CHUNK + 64],
            nulls: Vec::new(),
            patience: 0,
            waited: 0,
        }
    }

    /// Decodes the lines `starts[i]..starts[i + 1] - 1` of a chunk.
    fn decode_chunk(
        &mut self,
        input: Input<'_>,
        starts: &[u32],
        out: &mut BatchBuilder,
        rejected: &mut BatchBuilder,
    ) -> DecodeCount {
        let count = starts.len() - 1;
        let (width, null_words) = (out.width(), out.width().div_ceil(64));
        let mut heap = std::mem::take(&mut out.heap);
        let first = out.extend_rows(count);
        let mut nulls = std::mem::take(&mut self.nulls);
        nulls.clear();
        nulls.resize(count * null_words, 0);
        let mut rows = Rows {
            slots: &mut out.slots_mut()[first..],
            width,
            nulls: &mut nulls,
            null_words,
            heap: &mut heap,
        };
        let chunk = &mut *self.chunk;
        for (i, line) in chunk.failed[..count].iter_mut().enumerate() {
            *line = i as u16;
        }
        chunk.failed_len = count;
        let mut fates = [Fate::Taken; CHUNK];
        let mut next = 0;
        let mut first = true;
        while self.chunk.failed_len > 0 {
            // Every layout, and each that is learned on the way, tries what has failed so far.
            if next < self.layouts.len() {
                self.chunk.start(starts, &mut rows, first);
                self.layouts[next].read(input.text, &mut self.chunk, &mut rows, &mut self.reader);
                (next, first) = (next + 1, false);
                continue;
            }
            let failed = self.chunk.failed_len as u64;
            if self.waited.saturating_add(failed) > self.patience {
                let line = self.chunk.take_failed();
                let (start, end) = (starts[line] as usize, starts[line + 1] as usize - 1);
                fates[line] = self.read_line(input, start, end, line, true, &mut rows, rejected);
                if fates[line] == Fate::Taken && self.learn(input.text, start, end) {
                    next = self.layouts.len() - 1;
                }
                continue;
            }
            self.waited += failed;
            if failed >= PLACES_MIN
                && let Some(places) = &mut self.places
            {
                self.chunk.start(starts, &mut rows, first);
                places.read(input.text, starts, &mut self.chunk, &mut rows, &mut self.reader);
            }
            for k in 0..self.chunk.failed_len {
                let line = usize::from(self.chunk.failed[k]);
                let (start, end) = (starts[line] as usize, starts[line + 1] as usize - 1);
                fates[line] = self.read_line(input, start, end, line, false, &mut rows, rejected);
            }
            break;
        }
        let kept = fates[..count].iter().filter(|&&fate| fate == Fate::Taken).count();
        let rejected_count = fates[..count].iter().filter(|&&fate| fate == Fate::Rejected).count();
        out.heap = heap;
        if nulls.iter().any(|&word| word != 0) {
            let all = out.nulls_mut();
            let at = all.len() - nulls.len();
            all[at..].copy_from_slice(&nulls);
        }
        self.nulls = nulls;
        if kept < count {
            out.retain_last(count, |i| fates[i] == Fate::Taken);
        }
        self.weigh();
        DecodeCount { taken: kept as u64, rejected: rejected_count as u64 }
    }

    /// Reads one line thoroughly.
    #[allow(clippy::too_many_arguments)]
    fn read_line(
        &mut self,
        input: Input<'_>,
        start: usize,
        end: usize,
        line: usize,
        trace: bool,
        rows: &mut Rows<'_>,
        rejected: &mut BatchBuilder,
    ) -> Fate {
        let (width, words) = (rows.width, rows.null_words);
        let mut row = Row {
            slots: &mut rows.slots[line * width..(line + 1) * width],
            nulls: &mut rows.nulls[line * words..(line + 1) * words],
            heap: rows.heap,
        };
        let heap_len = row.heap.len();
        self.reader.trace.on = trace;
        let fate = match self.reader.read(input.text, start, end, &mut row) {
            Ok(true) => return Fate::Taken,
            Ok(false) => Fate::Blank,
            Err(wrong) => {
                let reason = self.reader.reason(&wrong, start, end);
                let byte = input.base + start as u64;
                reject(rejected, &input.text[start..end], &reason, input.origin, byte);
                Fate::Rejected
            }
        };
        row.slots.fill(0);
        row.nulls.fill(0);
        row.heap.truncate(heap_len);
        fate
    }

    /// Learns from the line read last. Whether that gave a layout, which then is the last one.
    fn learn(&mut self, text: &[u8], start: usize, end: usize) -> bool {
        self.waited = 0;
        self.patience = (self.patience * 2).clamp(8, PATIENCE_MAX);
        let reader = &self.reader;
        let layout =
            Layout::learn(text, start, end, &reader.trace, &reader.schema, &reader.not_null);
        let Some(layout) = layout else {
            return false;
        };
        if self.layouts.len() == LAYOUTS_MAX {
            let worst = (0..LAYOUTS_MAX).min_by_key(|&i| self.layouts[i].taken).unwrap_or(0);
            self.layouts.remove(worst);
        }
        self.layouts.push(layout);
        true
    }

    /// Drops layouts that hardly help and puts the one that helps most first.
    fn weigh(&mut self) {
        let mut sorted = true;
        let mut before = u64::MAX;
        self.layouts.retain_mut(|layout| {
            if layout.tried >= 1024 {
                if layout.taken * 32 < layout.tried {
                    return false;
                }
                if !layout.proved {
                    layout.proved = true;
                    self.patience = self.patience.min(64);
                }
                layout.tried /= 2;
                layout.taken /= 2;
            }
            sorted &= layout.taken <= before;
            before = layout.taken;
            true
        });
        if !sorted {
            self.layouts.sort_by_key(|layout| std::cmp::Reverse(layout.taken));
        }
    }
}

impl Decoder for JsonDecoder {
    fn decode(
        &mut self,
        padded: &[u8],
        len: usize,
        at: &mut usize,
        origin: &str,
        base: u64,
        rows_max: usize,
        out: &mut BatchBuilder,
        rejected: &mut BatchBuilder,
    ) -> DecodeCount {
        assert_eq!(out.width(), self.reader.schema.width(), "a row of the schema");
        let mut total = DecodeCount::default();
        if base + *at as u64 == 0 && padded[..len].starts_with(BYTE_ORDER_MARK) {
            *at = BYTE_ORDER_MARK.len();
        }
        while *at < len && !is_full(out, rows_max) && !is_full(rejected, rows_max) {
            let from = *at;
            let mut ends = std::mem::take(&mut self.ends);
            let want = CHUNK.min(rows_max - out.rows()).min(rows_max - rejected.rows());
            ends[0] = 0;
            let found = newlines(padded, from, len, CHUNK_BYTES, &mut ends[1..want + 64]);
            let mut count = found.min(want);
            if found == 0 {
                ends[1] = (len - from) as u32;
                count = 1;
            }
            for end in &mut ends[1..=count] {
                *end += 1;
            }
            *at = (from + ends[count] as usize).min(len);
            let input = Input { text: &padded[from..], origin, base: base + from as u64 };
            let chunk = self.decode_chunk(input, &ends[..=count], out, rejected);
            total.taken += chunk.taken;
            total.rejected += chunk.rejected;
            self.ends = ends;
        }
        total
    }
}
