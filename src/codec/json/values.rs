//! JSON's values: those that a column takes, as slots, and those that nobody wants, skipped.

use super::text::{Place, is_blank, read_text, skip_blanks};
use super::wrong::{Result, What, kind_of, wrong};
use crate::codec::value::{self, Fault, Leaf};
use crate::ground::limits::JSON_DEPTH_MAX;
use crate::ground::scan::{Window, low_bytes, short_text, window, word};
use crate::ground::schema::DataType;
use crate::ground::slot::array::ArrayBuilder;
use crate::ground::slot::{self, HEAPED_MAX, INLINE_MAX};
use crate::ground::wide::Plain;

/// Reads values. Keeps scratch memory only.
#[derive(Default)]
pub(super) struct Values {
    pub scratch: Vec<u8>,
    bytes: Vec<u8>,
    arrays: Vec<ArrayBuilder>,
    spare_heaps: Vec<Vec<u8>>,
}

/// Whether a number may end before this byte.
#[inline(always)]
fn ends_number(byte: u8) -> bool {
    matches!(byte, b',' | b'}' | b']' | b'\n' | 0) || is_blank(byte)
}

/// The text `null`?
#[inline(always)]
fn is_null(window: &Window) -> bool {
    low_bytes(word(window, 0), 4) == u64::from(u32::from_le_bytes(*b"null"))
}

impl Values {
    /// Reads the value at `at` as a column's: its slot (`None` for NULL) and the place behind it.
    #[inline(always)]
    pub(super) fn read(
        &mut self,
        column: usize,
        data_type: &DataType,
        text: &[u8],
        at: usize,
        heap: &mut Vec<u8>,
    ) -> Result<(Option<u64>, usize)> {
        let start = window(text, at);
        let leaf = match data_type {
            DataType::BigInt | DataType::Timestamp => value::integer::<true, _>(Plain, start),
            DataType::Decimal { precision, scale } => {
                value::decimal::<true, _>(Plain, start, *precision, *scale)
            }
            DataType::Double => value::double::<true, _>(Plain, start),
            DataType::Boolean => {
                let leaf = value::boolean(start);
                if leaf.ok {
                    return Ok((Some(leaf.slot), at + leaf.len));
                }
                leaf
            }
            DataType::String if start[0] == b'"' => {
                let inside = window(text, at + 1);
                let short = short_text(inside);
                if short.closed {
                    let slot = short_slot(inside, short.len, heap);
                    return Ok((Some(slot), at + short.len + 2));
                }
                Leaf { slot: 0, len: 0, ok: false }
            }
            _ => Leaf { slot: 0, len: 0, ok: false },
        };
        if leaf.ok && ends_number(start[leaf.len % 64]) {
            return Ok((Some(leaf.slot), at + leaf.len));
        }
        self.read_slowly(column, data_type, text, at, heap)
    }

    /// As above, for what the quick leaves leave.
    #[inline(never)]
    pub(super) fn read_slowly(
        &mut self,
        column: usize,
        data_type: &DataType,
        text: &[u8],
        at: usize,
        heap: &mut Vec<u8>,
    ) -> Result<(Option<u64>, usize)> {
        let first = text[at];
        if first == b'n' && is_null(window(text, at)) {
            return Ok((None, at + 4));
        }
        match data_type {
            DataType::Boolean => {
                let leaf = value::boolean(window(text, at));
                if leaf.ok {
                    return Ok((Some(leaf.slot), at + leaf.len));
                }
            }
            DataType::String | DataType::Bytes if first == b'"' => {
                return self.text(column, data_type, text, at, heap);
            }
            DataType::Timestamp if first == b'"' => {
                let (place, end) = read_text(text, at + 1, &mut self.scratch)?;
                return match value::timestamp(bytes_at(place, text, &self.scratch)) {
                    Ok(slot) => Ok((Some(slot), end)),
                    Err(fault) => wrong(at, What::Value { column, fault }),
                };
            }
            DataType::Array(of) if first == b'[' => {
                return self.array(column, of, 0, text, at, heap);
            }
            _ if data_type.is_numeric() || *data_type == DataType::Timestamp => {
                if matches!(first, b'-' | b'0'..=b'9') {
                    return number(column, data_type, text, at);
                }
            }
            _ => {}
        }
        // A value of another kind, if it is one at all.
        self.skip(text, at)?;
        wrong(at, What::Kind { column, found: kind_of(first) })
    }

    fn text(
        &mut self,
        column: usize,
        data_type: &DataType,
        text: &[u8],
        at: usize,
        heap: &mut Vec<u8>,
    ) -> Result<(Option<u64>, usize)> {
        let (place, end) = read_text(text, at + 1, &mut self.scratch)?;
        let mut bytes = bytes_at(place, text, &self.scratch);
        if *data_type == DataType::Bytes {
            if value::base64_decode(bytes, &mut self.bytes).is_err() {
                return wrong(at, What::Value { column, fault: Fault::Base64 });
            }
            bytes = &self.bytes;
        }
        if bytes.len() > HEAPED_MAX {
            return wrong(at, What::TooLong { column });
        }
        Ok((Some(slot::put(bytes, heap)), end))
    }

    /// Reads an array, `depth` arrays deep in its column's value.
    fn array(
        &mut self,
        column: usize,
        of: &DataType,
        depth: usize,
        text: &[u8],
        at: usize,
        heap: &mut Vec<u8>,
    ) -> Result<(Option<u64>, usize)> {
        if self.arrays.len() == depth {
            self.arrays.push(ArrayBuilder::default());
            self.spare_heaps.push(Vec::new());
        }
        self.arrays[depth].clear();
        let start = at;
        let mut at = skip_blanks(text, at + 1);
        if text[at] == b']' {
            let slot = self.arrays[depth].finish(heap);
            return Ok((slot, at + 1));
        }
        loop {
            let mut inner = std::mem::take(&mut self.spare_heaps[depth]);
            inner.clear();
            let element = match of {
                DataType::Array(of) if text[at] == b'[' => {
                    self.array(column, of, depth + 1, text, at, &mut inner)
                }
                _ => self.read_slowly(column, of, text, at, &mut inner),
            };
            let (value, end) = element?;
            match value {
                Some(slot) => self.arrays[depth].push_from(slot, &inner),
                None => self.arrays[depth].push(None),
            }
            self.spare_heaps[depth] = inner;
            if self.arrays[depth].encoded_len() > HEAPED_MAX {
                return wrong(start, What::TooLong { column });
            }
            at = skip_blanks(text, end);
            match text[at] {
                b',' => at = skip_blanks(text, at + 1),
                b']' => break,
                _ => return wrong(at, What::Expected("`,` or `]`")),
            }
        }
        match self.arrays[depth].finish(heap) {
            Some(slot) => Ok((Some(slot), at + 1)),
            None => wrong(start, What::TooLong { column }),
        }
    }

    /// Checks the value at `at` and gives the place behind it.
    pub(super) fn skip(&mut self, text: &[u8], at: usize) -> Result<usize> {
        let (mut at, mut depth) = (at, 0);
        // One bit a level: set for an object, clear for an array.
        let mut objects = 0u128;
        loop {
            let first = text[at];
            at = match first {
                b'"' => read_text(text, at + 1, &mut self.scratch)?.1,
                b'{' | b'[' => {
                    if depth == JSON_DEPTH_MAX {
                        return wrong(at, What::Depth);
                    }
                    let inside = skip_blanks(text, at + 1);
                    if text[inside] == first + 2 {
                        inside + 1
                    } else {
                        depth += 1;
                        objects = objects << 1 | u128::from(first == b'{');
                        at = if first == b'{' { self.skip_name(text, inside)? } else { inside };
                        continue;
                    }
                }
                b't' | b'f' | b'n' => {
                    let start = window(text, at);
                    let leaf = value::boolean(start);
                    if leaf.ok {
                        at + leaf.len
                    } else if is_null(start) {
                        at + 4
                    } else {
                        return wrong(at, What::Expected("a value"));
                    }
                }
                b'-' | b'0'..=b'9' => match value::number_len(&text[at..]) {
                    Some(len) => at + len,
                    None => return wrong(at, What::Expected("a number")),
                },
                _ => return wrong(at, What::Expected("a value")),
            };
            loop {
                if depth == 0 {
                    return Ok(at);
                }
                at = skip_blanks(text, at);
                let in_object = objects & 1 == 1;
                match text[at] {
                    b',' => {
                        at = skip_blanks(text, at + 1);
                        if in_object {
                            at = self.skip_name(text, at)?;
                        }
                        break;
                    }
                    b'}' if in_object => {}
                    b']' if !in_object => {}
                    _ if in_object => return wrong(at, What::Expected("`,` or `}`")),
                    _ => return wrong(at, What::Expected("`,` or `]`")),
                }
                at += 1;
                depth -= 1;
                objects >>= 1;
            }
        }
    }

    /// Checks a name and its colon and gives the place of its value.
    fn skip_name(&mut self, text: &[u8], at: usize) -> Result<usize> {
        if text[at] != b'"' {
            return wrong(at, What::Expected("a name"));
        }
        let (_, after) = read_text(text, at + 1, &mut self.scratch)?;
        let at = skip_blanks(text, after);
        if text[at] != b':' {
            return wrong(at, What::Expected("`:`"));
        }
        Ok(skip_blanks(text, at + 1))
    }
}

/// The slot of the first `len` < 16 bytes of a window.
#[inline(always)]
fn short_slot(window: &Window, len: usize, heap: &mut Vec<u8>) -> u64 {
    if len <= INLINE_MAX {
        inline_slot(window, len)
    } else {
        let offset = heap.len();
        heap.extend_from_slice(&window[..16]);
        heap.truncate(offset + len);
        slot::heaped(offset as u32, len)
    }
}

/// The slot of a short text at the start of a window: its bytes moved up by one, its length below.
#[inline(always)]
pub(super) fn inline_slot(window: &Window, len: usize) -> u64 {
    low_bytes(word(window, 0) << 8, (len + 1).min(8)) | len as u64
}

fn bytes_at<'a>(place: Place, text: &'a [u8], scratch: &'a [u8]) -> &'a [u8] {
    match place {
        Place::Line { start, end } => &text[start..end],
        Place::Scratch => scratch,
    }
}

/// Reads a number token that a quick leaf has not taken.
fn number(
    column: usize,
    data_type: &DataType,
    text: &[u8],
    at: usize,
) -> Result<(Option<u64>, usize)> {
    let Some(len) = value::number_len(&text[at..]) else {
        return wrong(at, What::Expected("a number"));
    };
    match value::number(&text[at..at + len], data_type) {
        Ok(slot) => Ok((Some(slot), at + len)),
        Err(fault) => wrong(at, What::Value { column, fault }),
    }
}
