//! Long texts as words: equal texts have equal words, so that they can be hashed and compared so.
//!
//! 1. A word of a long text is a heap slot whose offset is the text's number; no short text's slot
//!    is like it.
//! 2. A number stays its text's until [`Texts::keep`] is told that nobody holds it.

use hashbrown::HashTable;

use crate::ground::key::hash_text;
use crate::ground::slot;

/// Texts by number.
#[derive(Default)]
pub struct Texts {
    /// Start and length of each text; length 0 is a free number.
    places: Vec<(usize, u32)>,
    bytes: Vec<u8>,
    numbers: HashTable<u32>,
    free: Vec<u32>,
    limit: usize,
}

const SWEEP: usize = 4096;

fn at<'a>(bytes: &'a [u8], places: &[(usize, u32)], number: u32) -> &'a [u8] {
    let (start, len) = places[number as usize];
    &bytes[start..start + len as usize]
}

impl Texts {
    /// The word of a text slot: itself if the text is short.
    #[inline(always)]
    pub fn word(&mut self, word: u64, heap: &[u8]) -> u64 {
        if slot::is_heaped(word) { self.word_of(slot::bytes(&word, heap)) } else { word }
    }

    /// The word of a long text.
    ///
    /// # Panics
    /// If there are 2^32 texts.
    pub fn word_of(&mut self, text: &[u8]) -> u64 {
        let Texts { places, bytes, numbers, .. } = self;
        let hash = hash_text(text);
        if let Some(&number) = numbers.find(hash, |&n| at(bytes, places, n) == text) {
            return slot::heaped(number, 0);
        }
        let place = (self.bytes.len(), text.len() as u32);
        self.bytes.extend_from_slice(text);
        let number = match self.free.pop() {
            Some(number) => {
                self.places[number as usize] = place;
                number
            }
            None => {
                self.places.push(place);
                u32::try_from(self.places.len() - 1).expect("texts are numbered by u32")
            }
        };
        let (places, bytes) = (&self.places, &self.bytes);
        let rehash = |&n: &u32| hash_text(at(bytes, places, n));
        self.numbers.insert_unique(hash, number, rehash);
        slot::heaped(number, 0)
    }

    /// The text of a long text's word.
    pub fn text(&self, word: u64) -> &[u8] {
        at(&self.bytes, &self.places, slot::offset(word) as u32)
    }

    /// Whether so many texts came since the last time that [`Texts::keep`] pays.
    pub fn is_worth_sweeping(&self) -> bool {
        self.numbers.len() > self.limit.max(SWEEP)
    }

    /// Forgets all texts but those of these words; short texts' words are passed over.
    pub fn keep(&mut self, words: impl Iterator<Item = u64>) {
        let mut held = vec![false; self.places.len()];
        words
            .filter(|&word| slot::is_heaped(word))
            .for_each(|word| held[slot::offset(word)] = true);
        let mut bytes = Vec::new();
        for (number, place) in self.places.iter_mut().enumerate() {
            if place.1 == 0 {
                continue;
            }
            if held[number] {
                let start = bytes.len();
                bytes.extend_from_slice(&self.bytes[place.0..place.0 + place.1 as usize]);
                place.0 = start;
            } else {
                *place = (0, 0);
                self.free.push(number as u32);
            }
        }
        self.numbers.retain(|&mut number| held[number as usize]);
        self.bytes = bytes;
        self.limit = self.numbers.len() * 2;
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.places.capacity() * 16 + self.numbers.capacity() * 5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_word_and_unheld_ones_go() {
        let mut texts = Texts::default();
        let name = |i: u32| format!("a text of some length {i}").into_bytes();
        let words: Vec<u64> = (0..100).map(|i| texts.word_of(&name(i))).collect();
        assert_eq!(texts.word_of(&name(7)), words[7]);
        texts.keep(words.iter().copied().filter(|word| slot::offset(*word).is_multiple_of(2)));
        let held = texts.bytes.len();
        for i in (0..100).step_by(2) {
            assert_eq!(texts.text(words[i as usize]), name(i));
            assert_eq!(texts.word_of(&name(i)), words[i as usize]);
        }
        assert_eq!(texts.bytes.len(), held);
        let again: Vec<u64> = (1..100).step_by(2).map(|i| texts.word_of(&name(i))).collect();
        assert_eq!(texts.places.len(), 100, "numbers are given again");
        for (word, i) in again.iter().zip((1..100).step_by(2)) {
            assert_eq!(texts.text(*word), name(i));
        }
    }
}
