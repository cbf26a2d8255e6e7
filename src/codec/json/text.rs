//! JSON's strings and blanks.

use super::wrong::{Result, What, wrong};
use crate::ground::scan::text_end;

/// Where a text's bytes stand after it has been read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// As they are, in the line.
    Line { start: usize, end: usize },
    /// Without their escapes, in the scratch memory.
    Scratch,
}

/// Whether a byte is one of JSON's blanks (a line holds no newline).
#[inline(always)]
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

/// The first place from `at` on that is no blank.
#[inline(always)]
pub(super) fn skip_blanks(text: &[u8], mut at: usize) -> usize {
    while is_blank(text[at]) {
        at += 1;
    }
    at
}

/// Reads a string from behind its opening quote: where its bytes are, and the place behind its
/// closing quote. They are UTF-8.
pub(super) fn read_text(text: &[u8], at: usize, scratch: &mut Vec<u8>) -> Result<(Place, usize)> {
    let (end, ascii) = text_end(text, at);
    if !ascii && std::str::from_utf8(&text[at..end]).is_err() {
        return wrong(at, What::Utf8);
    }
    match text[end] {
        b'"' => Ok((Place::Line { start: at, end }, end + 1)),
        b'\\' => read_escaped(text, at, end, scratch),
        _ => wrong(end, What::Control),
    }
}

/// As above, from the first escape on, which is at `end`; all before is UTF-8.
fn read_escaped(
    text: &[u8],
    start: usize,
    mut end: usize,
    scratch: &mut Vec<u8>,
) -> Result<(Place, usize)> {
    scratch.clear();
    scratch.extend_from_slice(&text[start..end]);
    loop {
        let at = read_escape(text, end, scratch)?;
        let ascii;
        (end, ascii) = text_end(text, at);
        if !ascii && std::str::from_utf8(&text[at..end]).is_err() {
            return wrong(at, What::Utf8);
        }
        scratch.extend_from_slice(&text[at..end]);
        match text[end] {
            b'"' => return Ok((Place::Scratch, end + 1)),
            b'\\' => {}
            _ => return wrong(end, What::Control),
        }
    }
}

/// Reads the escape at `at` (its backslash) and gives the place behind it.
fn read_escape(text: &[u8], at: usize, scratch: &mut Vec<u8>) -> Result<usize> {
    let byte = match text[at + 1] {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'b' => 8,
        b'f' => 12,
        same @ (b'"' | b'\\' | b'/') => same,
        b'u' => return read_unicode(text, at, scratch),
        _ => return wrong(at, What::Escape),
    };
    scratch.push(byte);
    Ok(at + 2)
}

fn read_unicode(text: &[u8], at: usize, scratch: &mut Vec<u8>) -> Result<usize> {
    let unit = |at: usize| {
        let digits = text.get(at + 2..at + 6)?;
        let mut value = 0;
        for &digit in digits {
            value = value << 4 | char::from(digit).to_digit(16)?;
        }
        (text[at] == b'\\' && text[at + 1] == b'u').then_some(value)
    };
    let decoded = match unit(at) {
        Some(high @ 0xD800..0xDC00) => match unit(at + 6) {
            Some(low @ 0xDC00..0xE000) => {
                Some((0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00), at + 12))
            }
            _ => None,
        },
        Some(alone) => Some((alone, at + 6)),
        None => None,
    };
    let decoded = decoded.and_then(|(code, end)| Some((char::from_u32(code)?, end)));
    let Some((character, end)) = decoded else {
        return wrong(at, What::Escape);
    };
    scratch.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(end)
}
