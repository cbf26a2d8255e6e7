//! Long values of kept rows: one arena, pieces of 16 bytes times a power of two, free lists.

use crate::ground::slot;

const UNIT: usize = 16;

/// The arena. A value is named by a slot that looks like a heap slot: its length, and its place
/// in units of 16 bytes where the offset would be (so the arena can grow to 64 GiB).
#[derive(Default)]
pub struct Texts {
    bytes: Vec<u8>,
    free: [Vec<u32>; 21],
    kept: usize,
}

impl Texts {
    /// Keeps a value of at most [`slot::HEAPED_MAX`] bytes.
    ///
    /// # Panics
    /// If the arena would pass 64 GiB.
    pub fn put(&mut self, text: &[u8]) -> u64 {
        self.kept += 1;
        let class = class(text.len());
        let unit = self.free[class].pop().unwrap_or_else(|| {
            let at = self.bytes.len();
            self.bytes.resize(at + (UNIT << class), 0);
            u32::try_from(at / UNIT).expect("kept texts stay under 64 GiB")
        });
        let at = unit as usize * UNIT;
        self.bytes[at..at + text.len()].copy_from_slice(text);
        slot::heaped(unit, text.len())
    }

    /// A value's bytes.
    #[inline(always)]
    pub fn get(&self, value: u64) -> &[u8] {
        let at = slot::offset(value) * UNIT;
        &self.bytes[at..at + slot::len(value)]
    }

    /// Gives a value's place back.
    pub fn free(&mut self, value: u64) {
        self.kept -= 1;
        self.free[class(slot::len(value))].push(slot::offset(value) as u32);
    }

    /// Whether no value is kept.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.kept == 0
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.bytes.capacity() + self.free.iter().map(|free| free.capacity() * 4).sum::<usize>()
    }
}

fn class(len: usize) -> usize {
    len.div_ceil(UNIT).next_power_of_two().trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again() {
        let mut texts = Texts::default();
        let a = texts.put(b"a text of some length");
        let held = texts.bytes.len();
        texts.free(a);
        let b = texts.put(b"another text like it");
        assert_eq!(texts.get(b), b"another text like it");
        assert_eq!(texts.bytes.len(), held);
        let c = texts.put(&[7; 100]);
        assert_eq!(texts.get(c), &[7; 100]);
        assert_eq!(texts.get(b), b"another text like it");
    }
}
