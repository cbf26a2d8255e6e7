//! Kernels on texts. Places and lengths count characters (code points), as SQL does.
//!
//! 1. A text longer than a slot can hold ([`HEAPED_MAX`]) is NULL, and nothing is left of it in
//!    the heap.

use crate::ground::slot::{self, HEAPED_MAX, array::ArrayBuilder, array::Elements};

use super::op::Ends;

/// Ends a text that was written to `heap` from `start` on, and gives its slot.
#[inline(always)]
pub(crate) fn finish(start: usize, heap: &mut Vec<u8>) -> Option<u64> {
    let len = heap.len() - start;
    if len <= slot::INLINE_MAX {
        let value = slot::inline(&heap[start..]);
        heap.truncate(start);
        return Some(value);
    }
    match u32::try_from(start) {
        Ok(offset) if len <= HEAPED_MAX => Some(slot::heaped(offset, len)),
        _ => {
            heap.truncate(start);
            None
        }
    }
}

/// Copies a text to `heap`, if it is long, and gives its slot.
#[inline(always)]
pub(crate) fn put(text: &[u8], heap: &mut Vec<u8>) -> Option<u64> {
    if text.len() <= slot::INLINE_MAX {
        Some(slot::inline(text))
    } else {
        let start = heap.len();
        heap.extend_from_slice(text);
        finish(start, heap)
    }
}

/// A LIKE pattern, known when the expression is compiled.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Like {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Needle),
    General { pattern: Box<[u8]>, escape: Option<u8> },
}

/// What `%needle%` looks for.
#[derive(Clone, Debug)]
pub(crate) struct Needle(Box<memchr::memmem::Finder<'static>>);

impl PartialEq for Needle {
    fn eq(&self, other: &Needle) -> bool {
        self.0.needle() == other.0.needle()
    }
}

impl Like {
    /// Sorts a pattern into the form that is matched fastest. `Err` says what is wrong with it.
    pub fn new(pattern: &[u8], escape: Option<u8>) -> Result<Like, String> {
        // The literal bytes of the pattern, and where its wildcards stand.
        let (mut plain, mut runs, mut ones) = (Vec::new(), Vec::new(), false);
        let mut bytes = pattern.iter();
        while let Some(&byte) = bytes.next() {
            if Some(byte) == escape {
                match bytes.next() {
                    Some(&next) if matches!(next, b'%' | b'_') || Some(next) == escape => {
                        plain.push(next);
                    }
                    _ => {
                        return Err(format!(
                            "the escape character `{}` must stand before `%`, `_` or itself",
                            char::from(byte)
                        ));
                    }
                }
            } else if byte == b'%' {
                runs.push(plain.len());
            } else if byte == b'_' {
                ones = true;
            } else {
                plain.push(byte);
            }
        }
        let (first, last) = (runs.first() == Some(&0), runs.last() == Some(&plain.len()));
        let inner = runs.iter().any(|&at| at > 0 && at < plain.len());
        let text = || plain.clone().into_boxed_slice();
        Ok(match (first, last) {
            _ if ones || inner => Like::General { pattern: pattern.into(), escape },
            _ if runs.is_empty() => Like::Exact(text()),
            (true, true) => {
                Like::Contains(Needle(Box::new(memchr::memmem::Finder::new(&plain).into_owned())))
            }
            (true, false) => Like::Suffix(text()),
            (false, _) => Like::Prefix(text()),
        })
    }

    #[inline(always)]
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Like::Exact(exact) => text == &**exact,
            Like::Prefix(prefix) => text.starts_with(prefix),
            Like::Suffix(suffix) => text.ends_with(suffix),
            Like::Contains(needle) => needle.0.find(text).is_some(),
            Like::General { pattern, escape } => like(text, pattern, *escape),
        }
    }
}

/// Bytes of the character that starts with `byte`; 1 for what is no start.
#[inline(always)]
fn width(byte: u8) -> usize {
    match byte {
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xFF => 4,
        _ => 1,
    }
}

/// Matches a LIKE pattern by going back to the last `%` only: O(text x pattern) at worst.
pub(crate) fn like(text: &[u8], pattern: &[u8], escape: Option<u8>) -> bool {
    let (mut at, mut in_pattern) = (0, 0);
    // Where to go on after the last `%`: its place behind, and the text it has taken so far.
    let mut back: Option<(usize, usize)> = None;
    loop {
        let matched = match pattern.get(in_pattern) {
            None => {
                if at == text.len() {
                    return true;
                }
                false
            }
            Some(b'%') if escape != Some(b'%') => {
                in_pattern += 1;
                back = Some((in_pattern, at));
                continue;
            }
            Some(b'_') if escape != Some(b'_') => {
                let there = at < text.len();
                if there {
                    at = (at + width(text[at])).min(text.len());
                }
                in_pattern += 1;
                there
            }
            Some(&byte) => {
                let escaped = Some(byte) == escape && in_pattern + 1 < pattern.len();
                let wanted = if escaped { pattern[in_pattern + 1] } else { byte };
                let same = text.get(at) == Some(&wanted);
                at += 1;
                in_pattern += 1 + usize::from(escaped);
                same
            }
        };
        if !matched {
            let Some((behind, taken)) = back else {
                return false;
            };
            if taken >= text.len() {
                return false;
            }
            let taken = (taken + width(text[taken])).min(text.len());
            back = Some((behind, taken));
            (at, in_pattern) = (taken, behind);
        }
    }
}

/// A regular expression, compiled once. Two are equal if they were written alike.
#[derive(Clone, Debug)]
pub(crate) struct Regex(regex::bytes::Regex);

impl PartialEq for Regex {
    fn eq(&self, other: &Regex) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Regex {
    /// Compiles; `Err` has the reason in words.
    pub fn new(pattern: &str) -> Result<Regex, String> {
        regex::bytes::Regex::new(pattern).map(Regex).map_err(|error| match error {
            regex::Error::Syntax(said) => {
                let last = said.lines().last().unwrap_or("").trim();
                last.trim_start_matches("error: ").to_string()
            }
            other => other.to_string(),
        })
    }

    /// Groups, the whole match (0) among them.
    pub fn groups(&self) -> usize {
        self.0.captures_len()
    }

    pub fn places(&self) -> regex::bytes::CaptureLocations {
        self.0.capture_locations()
    }

    #[inline(always)]
    pub fn is_match(&self, text: &[u8]) -> bool {
        self.0.is_match(text)
    }

    /// A group of the first match; `None` if there is no match or the group takes no part in it.
    pub fn extract(
        &self,
        text: &[u8],
        group: usize,
        places: &mut regex::bytes::CaptureLocations,
        heap: &mut Vec<u8>,
    ) -> Option<u64> {
        let (start, end) = if group == 0 {
            let found = self.0.find(text)?;
            (found.start(), found.end())
        } else {
            self.0.captures_read(places, text)?;
            places.get(group)?
        };
        put(&text[start..end], heap)
    }

    pub fn replace_all(&self, text: &[u8], with: &str, heap: &mut Vec<u8>) -> Option<u64> {
        put(&self.0.replace_all(text, with.as_bytes()), heap)
    }
}

/// Appends each character's mapping; ASCII goes by bytes.
fn map_case(
    text: &[u8],
    heap: &mut Vec<u8>,
    ascii: impl Fn(u8) -> u8,
    unicode: impl Fn(&str, &mut Vec<u8>),
) -> Option<u64> {
    let start = heap.len();
    if text.is_ascii() {
        heap.extend(text.iter().map(|&byte| ascii(byte)));
    } else {
        unicode(std::str::from_utf8(text).ok()?, heap);
    }
    finish(start, heap)
}

fn push(c: char, heap: &mut Vec<u8>) {
    heap.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

pub(crate) fn upper(text: &[u8], heap: &mut Vec<u8>) -> Option<u64> {
    map_case(
        text,
        heap,
        |byte| byte.to_ascii_uppercase(),
        |text, heap| {
            text.chars().flat_map(char::to_uppercase).for_each(|c| push(c, heap));
        },
    )
}

pub(crate) fn lower(text: &[u8], heap: &mut Vec<u8>) -> Option<u64> {
    map_case(
        text,
        heap,
        |byte| byte.to_ascii_lowercase(),
        |text, heap| {
            text.chars().flat_map(char::to_lowercase).for_each(|c| push(c, heap));
        },
    )
}

/// Every word's first letter large, the rest small; a word is a run of letters and digits.
pub(crate) fn initcap(text: &[u8], heap: &mut Vec<u8>) -> Option<u64> {
    let start = heap.len();
    let mut inside = false;
    for c in std::str::from_utf8(text).ok()?.chars() {
        if inside {
            c.to_lowercase().for_each(|c| push(c, heap));
        } else {
            c.to_uppercase().for_each(|c| push(c, heap));
        }
        inside = c.is_alphanumeric();
    }
    finish(start, heap)
}

/// Cuts the characters that `set` has from the ends.
pub(crate) fn trim<'a>(text: &'a [u8], set: &[u8], ends: Ends) -> &'a [u8] {
    let (Ok(text), Ok(set)) = (std::str::from_utf8(text), std::str::from_utf8(set)) else {
        return text;
    };
    let is_cut = |c: char| set.contains(c);
    let trimmed = match ends {
        Ends::Both => text.trim_matches(is_cut),
        Ends::Leading => text.trim_start_matches(is_cut),
        Ends::Trailing => text.trim_end_matches(is_cut),
    };
    trimmed.as_bytes()
}

/// Characters in a text.
#[inline(always)]
pub(crate) fn length(text: &[u8]) -> usize {
    // Every byte that does not continue a character starts one.
    text.iter().filter(|&&byte| byte & 0xC0 != 0x80).count()
}

/// The byte at which character `index` starts; the end if there are not as many.
fn byte_of(text: &[u8], index: usize) -> usize {
    if text.is_ascii() {
        return index.min(text.len());
    }
    let starts = (0..text.len()).filter(|&at| text[at] & 0xC0 != 0x80);
    starts.clone().nth(index).unwrap_or(text.len())
}

/// SUBSTRING with Flink's rules: 1 is the first character (0 too), a negative start counts from
/// the end, a negative length is NULL.
pub(crate) fn substring(text: &[u8], from: i64, len: i64) -> Option<&[u8]> {
    if len < 0 {
        return None;
    }
    let count = length(text) as i64;
    let start = match from {
        1.. => from - 1,
        0 => 0,
        _ => match count.checked_add(from) {
            Some(start) if start >= 0 => start,
            _ => return Some(b""),
        },
    };
    if start >= count {
        return Some(b"");
    }
    let end = start.saturating_add(len).min(count);
    Some(&text[byte_of(text, start as usize)..byte_of(text, end as usize)])
}

pub(crate) fn left(text: &[u8], len: i64) -> &[u8] {
    &text[..byte_of(text, usize::try_from(len).unwrap_or(0))]
}

pub(crate) fn right(text: &[u8], len: i64) -> &[u8] {
    let len = usize::try_from(len).unwrap_or(0);
    &text[byte_of(text, length(text).saturating_sub(len))..]
}

/// LPAD and RPAD: exactly `len` characters, NULL if `len` is negative or there is nothing to fill
/// with.
pub(crate) fn pad(
    text: &[u8],
    len: i64,
    with: &[u8],
    ends: Ends,
    heap: &mut Vec<u8>,
) -> Option<u64> {
    let len = usize::try_from(len).ok().filter(|&len| len <= HEAPED_MAX)?;
    let missing = len.saturating_sub(length(text));
    if missing == 0 {
        return put(left(text, len as i64), heap);
    }
    let fill = std::str::from_utf8(with).ok().filter(|with| !with.is_empty())?;
    let start = heap.len();
    if ends == Ends::Trailing {
        heap.extend_from_slice(text);
    }
    fill.chars().cycle().take(missing).for_each(|c| push(c, heap));
    if ends == Ends::Leading {
        heap.extend_from_slice(text);
    }
    finish(start, heap)
}

pub(crate) fn repeat(text: &[u8], times: i64, heap: &mut Vec<u8>) -> Option<u64> {
    let times = usize::try_from(times).unwrap_or(0);
    let fits = text.len().checked_mul(times).is_some_and(|len| len <= HEAPED_MAX);
    let start = heap.len();
    for _ in 0..if fits { times } else { return None } {
        heap.extend_from_slice(text);
    }
    finish(start, heap)
}

pub(crate) fn reverse(text: &[u8], heap: &mut Vec<u8>) -> Option<u64> {
    let start = heap.len();
    std::str::from_utf8(text).ok()?.chars().rev().for_each(|c| push(c, heap));
    finish(start, heap)
}

/// Replaces every `what`; an empty one stands before and behind every character, as in Java.
pub(crate) fn replace(text: &[u8], what: &[u8], with: &[u8], heap: &mut Vec<u8>) -> Option<u64> {
    let start = heap.len();
    if what.is_empty() {
        for &byte in text {
            if byte & 0xC0 != 0x80 {
                heap.extend_from_slice(with);
            }
            heap.push(byte);
            if heap.len() - start > HEAPED_MAX {
                break;
            }
        }
        heap.extend_from_slice(with);
        return finish(start, heap);
    }
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, what) {
        heap.extend_from_slice(&rest[..at]);
        heap.extend_from_slice(with);
        rest = &rest[at + what.len()..];
        if heap.len() - start > HEAPED_MAX {
            break;
        }
    }
    heap.extend_from_slice(rest);
    finish(start, heap)
}

/// The character at which `what` first stands in `text`, from 1; 0 if it does not.
pub(crate) fn position(what: &[u8], text: &[u8]) -> usize {
    match memchr::memmem::find(text, what) {
        Some(at) => length(&text[..at]) + 1,
        None => 0,
    }
}

/// The parts of `text` between `by`; its characters if `by` is empty.
fn parts<'a>(text: &'a [u8], by: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        if by.is_empty() {
            let len = width(*text.first()?).min(text.len());
            rest = Some(&text[len..]);
            return Some(&text[..len]);
        }
        match memchr::memmem::find(text, by) {
            Some(at) => {
                rest = Some(&text[at + by.len()..]);
                Some(&text[..at])
            }
            None => {
                rest = None;
                Some(text)
            }
        }
    })
}

/// SPLIT: the parts as an array.
pub(crate) fn split(
    text: &[u8],
    by: &[u8],
    array: &mut ArrayBuilder,
    heap: &mut Vec<u8>,
) -> Option<u64> {
    parts(text, by).for_each(|part| array.push_bytes(part));
    array.finish(heap)
}

/// SPLIT_INDEX: part `index`, from 0.
pub(crate) fn split_index<'a>(text: &'a [u8], by: &'a [u8], index: i64) -> Option<&'a [u8]> {
    parts(text, by).nth(usize::try_from(index).ok()?)
}

/// Element `index` of an array, from 1, and the heap that its slot points into.
pub(crate) fn element(array: &[u8], index: i64) -> Option<(u64, &[u8])> {
    let elements = Elements::read(array)?;
    let at = usize::try_from(index.checked_sub(1)?).ok()?;
    if at >= elements.len() {
        return None;
    }
    Some((elements.get(at)?, elements.heap))
}

/// The texts that Flink casts to BOOLEAN.
pub(crate) fn parse_boolean(text: &[u8]) -> Option<bool> {
    let text = text.trim_ascii();
    let is = |words: &[&[u8]]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(&[b"true", b"t", b"yes", b"y", b"1"]) {
        Some(true)
    } else if is(&[b"false", b"f", b"no", b"n", b"0"]) {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// LIKE by trying every way.
    fn naive(text: &[char], pattern: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('%', rest)) => (0..=text.len()).any(|at| naive(&text[at..], rest)),
            Some(('!', rest)) => text.first() == rest.first() && naive(&text[1..], &rest[1..]),
            Some(('_', rest)) => !text.is_empty() && naive(&text[1..], rest),
            Some((c, rest)) => text.first() == Some(c) && naive(&text[1..], rest),
        }
    }

    proptest! {
        #[test]
        fn like_agrees_with_trying_every_way(
            text in "[abé%]{0,8}", pattern in "([abé%_]|![%_!]){0,7}"
        ) {
            let chars = |s: &str| s.chars().collect::<Vec<char>>();
            let expected = naive(&chars(&text), &chars(&pattern));
            let like = Like::new(pattern.as_bytes(), Some(b'!')).unwrap();
            prop_assert_eq!(like.matches(text.as_bytes()), expected);
            prop_assert_eq!(super::like(text.as_bytes(), pattern.as_bytes(), Some(b'!')), expected);
        }
    }

    #[test]
    fn substrings_are_where_flink_finds_them() {
        let cut = |from, len| {
            substring("äbcdé".as_bytes(), from, len).map(|s| std::str::from_utf8(s).unwrap())
        };
        assert_eq!(cut(1, 2), Some("äb"));
        assert_eq!(cut(0, 2), Some("äb"));
        assert_eq!(cut(-2, 9), Some("dé"));
        assert_eq!(cut(-9, 9), Some(""));
        assert_eq!(cut(6, 1), Some(""));
        assert_eq!(cut(2, -1), None);
        assert_eq!(cut(i64::MIN, i64::MAX), Some(""));
    }

    #[test]
    fn texts_are_split_and_replaced() {
        let all = |text: &'static str, by: &'static str| {
            parts(text.as_bytes(), by.as_bytes())
                .map(|part| String::from_utf8(part.to_vec()).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(all("a,,b", ","), ["a", "", "b"]);
        assert_eq!(all("", ","), [""]);
        assert_eq!(all("aé", ""), ["a", "é"]);
        let mut heap = Vec::new();
        let replaced = replace(b"aXbX", b"X", b"--", &mut heap).unwrap();
        assert_eq!(slot::bytes(&replaced, &heap), b"a--b--");
        let replaced = replace(b"ab", b"", b"-", &mut heap).unwrap();
        assert_eq!(slot::bytes(&replaced, &heap), b"-a-b-");
    }
}
