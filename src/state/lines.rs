//! Fixed-size lines by slot: the words that one key changes together lie in one cache line.
//!
//! Lines live on pages that double in size and never move, so that growing copies nothing and
//! a pipeline of few keys takes little memory; large pages are huge pages.
//!
//! 1. A line takes a power of two of words up to 8, or a multiple of 8: it straddles no more
//!    cache lines than it must.
//! 2. A line never written is all 0, and `clear` makes it so again.
//!
//! With a store beneath, a cold key's line is written by `save`, zeroed by `clear` and comes back
//! by
//! `load` when a batch names the key.

use super::{Handle, LoadError};
use crate::ground::{prefetch, words::Words};

/// log2 of the lines on the first page.
const FIRST: u32 = 6;

/// Lines of words by slot, all 0 at first.
pub struct Lines {
    name: String,
    pages: Vec<Words>,
    /// Words that callers asked for.
    used: usize,
    /// Words a line takes (invariant 1).
    width: usize,
}

/// Page of a slot and the line on it: page k has 2^(k + FIRST) lines.
#[inline(always)]
fn place(slot: usize) -> (usize, usize) {
    let at = slot + (1 << FIRST);
    let log = at.ilog2();
    ((log - FIRST) as usize, at ^ (1 << log))
}

impl Lines {
    /// Lines of `words` words; `name` is what errors call them.
    ///
    /// # Panics
    /// If `words` is 0.
    pub fn new(name: &str, words: usize) -> Lines {
        assert!(words > 0, "a line holds something");
        let width = Lines::width_of(words);
        Lines { name: name.to_string(), pages: Vec::new(), used: words, width }
    }

    /// Words that a line of `words` words takes, padding included (invariant 1).
    pub fn width_of(words: usize) -> usize {
        if words <= 8 { words.next_power_of_two() } else { words.next_multiple_of(8) }
    }

    /// Makes room for slots below `slots`. O(1) where there is room; existing lines stay in place.
    pub fn reserve(&mut self, slots: usize) {
        while slots > self.capacity() {
            let lines = 1usize << (self.pages.len() as u32 + FIRST);
            self.pages.push(Words::zeroed(lines * self.width));
        }
    }

    /// Slots there is room for.
    #[inline(always)]
    pub fn capacity(&self) -> usize {
        (1usize << (self.pages.len() as u32 + FIRST)) - (1 << FIRST)
    }

    /// Words a line takes, padding included.
    #[inline(always)]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The line of a slot.
    ///
    /// # Panics
    /// If no room was made for the slot.
    #[inline(always)]
    pub fn line(&self, slot: u32) -> &[u64] {
        let (page, line) = place(slot as usize);
        &self.pages[page][line * self.width..][..self.width]
    }

    /// The line of a slot, to be changed.
    ///
    /// # Panics
    /// If no room was made for the slot.
    #[inline(always)]
    pub fn line_mut(&mut self, slot: u32) -> &mut [u64] {
        let (page, line) = place(slot as usize);
        &mut self.pages[page][line * self.width..][..self.width]
    }

    /// One word of a slot's line.
    ///
    /// # Panics
    /// If no room was made for the slot, or `word` is past the line.
    #[inline(always)]
    pub fn word_mut(&mut self, slot: u32, word: usize) -> &mut u64 {
        debug_assert!(word < self.width);
        let (page, line) = place(slot as usize);
        &mut self.pages[page][line * self.width + word]
    }

    /// The lines of 64 slots that begin at `64 * block`, one after the other.
    ///
    /// # Panics
    /// If no room was made for them.
    #[inline(always)]
    pub fn block(&self, block: usize) -> &[u64] {
        let (page, line) = place(block * 64);
        &self.pages[page][line * self.width..][..64 * self.width]
    }

    /// As [`Lines::block`], to be changed.
    #[inline(always)]
    pub fn block_mut(&mut self, block: usize) -> &mut [u64] {
        let (page, line) = place(block * 64);
        &mut self.pages[page][line * self.width..][..64 * self.width]
    }

    /// Asks for a slot's line ahead of its use; nothing if there is no room for the slot.
    #[inline(always)]
    pub fn prefetch(&self, slot: u32) {
        let (page, line) = place(slot as usize);
        if let Some(page) = self.pages.get(page) {
            prefetch::read(page, line * self.width);
        }
    }

    /// Bytes of memory reserved.
    pub fn bytes(&self) -> usize {
        self.capacity() * self.width * 8
    }
}

/// Reads little-endian words off the front of saved bytes.
pub(crate) struct Reader<'a> {
    name: &'a str,
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(name: &'a str, bytes: &'a [u8]) -> Reader<'a> {
        Reader { name, bytes }
    }

    pub(crate) fn error(&self, reason: &str) -> LoadError {
        LoadError { handle: self.name.to_string(), reason: reason.to_string() }
    }

    pub(crate) fn word(&mut self) -> Result<u64, LoadError> {
        let (word, rest) =
            self.bytes.split_first_chunk::<8>().ok_or_else(|| self.error("it ends early"))?;
        self.bytes = rest;
        Ok(u64::from_le_bytes(*word))
    }

    /// A count of things that take at least `each` bytes, so that it cannot ask for more memory
    /// than the input has.
    pub(crate) fn count(&mut self, each: usize) -> Result<usize, LoadError> {
        let count = self.word()?;
        let most = (self.bytes.len() / each.max(1)) as u64;
        if count > most {
            return Err(self.error("it counts more than it has"));
        }
        Ok(count as usize)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], LoadError> {
        let (bytes, rest) =
            self.bytes.split_at_checked(len).ok_or_else(|| self.error("it ends early"))?;
        self.bytes = rest;
        Ok(bytes)
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    pub(crate) fn end(&self) -> Result<(), LoadError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(self.error("bytes are left over")) }
    }
}

pub(crate) fn put_word(word: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&word.to_le_bytes());
}

impl Handle for Lines {
    fn save(&self, slot: u32, out: &mut Vec<u8>) {
        if slot as usize >= self.capacity() {
            return;
        }
        let line = &self.line(slot)[..self.used];
        if line.iter().any(|&word| word != 0) {
            line.iter().for_each(|&word| put_word(word, out));
        }
    }

    fn load(&mut self, slot: u32, bytes: &[u8]) -> Result<(), LoadError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut read = Reader::new(&self.name, bytes);
        if bytes.len() != self.used * 8 {
            return Err(read.error("its line has another width"));
        }
        let line = (0..self.used).map(|_| read.word());
        let line = line.collect::<Result<Vec<u64>, LoadError>>()?;
        self.reserve(slot as usize + 1);
        self.line_mut(slot)[..line.len()].copy_from_slice(&line);
        Ok(())
    }

    fn clear(&mut self, slot: u32) {
        if (slot as usize) < self.capacity() {
            self.line_mut(slot).fill(0);
        }
    }

    fn memory_bytes(&self) -> usize {
        self.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_apart_and_survive_growth() {
        for words in [1, 2, 3, 5, 8, 9, 17] {
            let mut lines = Lines::new("test", words);
            lines.reserve(10);
            let check = |lines: &Lines, slots: u32| {
                for slot in 0..slots {
                    let line = &lines.line(slot)[..words];
                    let expected = u64::from(slot) * 31 + 7;
                    assert!(line.iter().all(|&word| word == expected), "{words} {slot}");
                    let block = lines.block(slot as usize / 64);
                    let at = slot as usize % 64 * lines.width();
                    assert_eq!(&block[at..at + words], line);
                }
            };
            for slot in 0..5000u32 {
                lines.reserve(slot as usize + 1);
                lines.line_mut(slot)[..words].fill(u64::from(slot) * 31 + 7);
                lines.prefetch(slot * 7);
            }
            check(&lines, 5000);
        }
    }

    #[test]
    fn a_line_is_saved_cleared_and_loaded() {
        let mut lines = Lines::new("test", 3);
        lines.reserve(3);
        lines.line_mut(2)[..3].copy_from_slice(&[1, 2, 3]);
        let (mut saved, mut nothing) = (Vec::new(), Vec::new());
        lines.save(2, &mut saved);
        lines.save(1, &mut nothing);
        assert!(nothing.is_empty());
        lines.clear(2);
        assert_eq!(lines.line(2), [0; 4]);
        lines.load(2, &saved).unwrap();
        assert_eq!(lines.line(2)[..3], [1, 2, 3]);
        assert!(lines.load(1, &saved[1..]).is_err());
    }
}
