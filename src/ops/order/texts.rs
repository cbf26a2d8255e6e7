//! Long texts that come again and again (kinds, names of states), each kept once.
//!
//! 1. An entry is never removed: there are at most [`ENTRIES_MAX`], each of [`TEXT_MAX`] bytes at
//!    most, and where most texts are new the list closes.
//! 2. `place_of` an entry is where its text lies in the heap of the batch under way, if it is there
//!    already; so a batch has each text once.

use crate::ground::key::{hash_next, hash_word};

/// Texts that are kept.
pub const ENTRIES_MAX: usize = 512;
/// Longest text that is kept, in bytes.
pub const TEXT_MAX: usize = 64;
const PLACES: usize = 4 * ENTRIES_MAX;
/// New texts that are borne, when the list is full, before it is asked whether it is of use.
const NEW_BORNE: u32 = 4096;

struct Entry {
    offset: u32,
    len: u32,
    /// The batch that has the text, and where.
    batch: u64,
    place: u32,
}

/// The list.
pub struct Texts {
    /// Entries' numbers + 1 by hash, 0 for none; open addressing.
    places: Box<[u16]>,
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    batch: u64,
    known: u32,
    new: u32,
    is_closed: bool,
}

impl Default for Texts {
    /// An empty list.
    fn default() -> Texts {
        Texts {
            places: vec![0; PLACES].into(),
            entries: Vec::new(),
            bytes: Vec::new(),
            batch: 1,
            known: 0,
            new: 0,
            is_closed: false,
        }
    }
}

impl Texts {
    /// The number of a text, of 8 bytes at least; `None` if the list does not take it.
    #[inline(always)]
    pub fn number(&mut self, text: &[u8]) -> Option<u32> {
        if text.len() > TEXT_MAX || self.is_closed {
            return None;
        }
        let (first, last) = (text.first_chunk::<8>()?, text.last_chunk::<8>()?);
        let first = u64::from_le_bytes(*first) ^ text.len() as u64;
        let hash = hash_next(hash_word(first), u64::from_le_bytes(*last));
        let mut at = hash as usize % PLACES;
        loop {
            let place = self.places[at];
            if place == 0 {
                return self.add(at, text);
            }
            let entry = &self.entries[place as usize - 1];
            let known = &self.bytes[entry.offset as usize..][..entry.len as usize];
            if known == text {
                self.known = self.known.saturating_add(1);
                return Some(u32::from(place) - 1);
            }
            at = (at + 1) % PLACES;
        }
    }

    /// A text by its number.
    pub fn text(&self, number: u32) -> &[u8] {
        let entry = &self.entries[number as usize];
        &self.bytes[entry.offset as usize..][..entry.len as usize]
    }

    /// Where a text lies in the heap of the batch under way; it is put there if it is not.
    #[inline(always)]
    pub fn place_of(&mut self, number: u32, heap: &mut Vec<u8>) -> u32 {
        let entry = &mut self.entries[number as usize];
        if entry.batch != self.batch {
            entry.batch = self.batch;
            entry.place = heap.len() as u32;
            let text = &self.bytes[entry.offset as usize..][..entry.len as usize];
            heap.extend_from_slice(text);
        }
        entry.place
    }

    /// The batch under way has ended; its heap is another one's now.
    pub fn next_batch(&mut self) {
        self.batch += 1;
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        PLACES * 2 + self.entries.capacity() * size_of::<Entry>() + self.bytes.capacity()
    }

    #[inline(never)]
    fn add(&mut self, at: usize, text: &[u8]) -> Option<u32> {
        if self.entries.len() == ENTRIES_MAX {
            self.new += 1;
            self.is_closed = self.new > NEW_BORNE && self.new > self.known;
            return None;
        }
        let (offset, len) = (self.bytes.len() as u32, text.len() as u32);
        self.bytes.extend_from_slice(text);
        self.entries.push(Entry { offset, len, batch: 0, place: 0 });
        self.places[at] = self.entries.len() as u16;
        Some(self.entries.len() as u32 - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_one_number_and_one_place_a_batch() {
        let mut texts = Texts::default();
        let (mut heap, words) = (b"before".to_vec(), ["WITHDRAWAL", "PASSWORD_CHANGE", "PURCHASE"]);
        for turn in 0..3 {
            for (i, word) in words.iter().enumerate() {
                let number = texts.number(word.as_bytes()).unwrap();
                assert_eq!((number, texts.text(number)), (i as u32, word.as_bytes()));
                let place = texts.place_of(number, &mut heap) as usize;
                assert_eq!(&heap[place..place + word.len()], word.as_bytes());
            }
            if turn == 1 {
                assert_eq!(heap.len(), 6 + 10 + 15 + 8, "each text once");
                heap.clear();
                texts.next_batch();
            }
        }
    }

    #[test]
    fn texts_that_never_come_again_close_the_list() {
        let mut texts = Texts::default();
        for i in 0..ENTRIES_MAX as u32 + NEW_BORNE + 1 {
            let number = texts.number(format!("text {i:08}").as_bytes());
            assert_eq!(number, (i < ENTRIES_MAX as u32).then_some(i));
        }
        assert!(texts.is_closed && texts.memory_bytes() < 64 << 10);
        assert_eq!(texts.number(b"text 00000000"), None);
        assert_eq!(texts.text(7), b"text 00000007", "what has a number keeps it");
    }
}
