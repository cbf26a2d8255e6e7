//! Appending short texts to a byte buffer, its end kept in a register.
//!
//! A `Vec` keeps its length in memory and every append reads and writes it, so that a row's texts
//! wait for each other. A [`Pen`] takes the place of its end once and gives it back when done.
//!
//! 1. `start..start + at` is initialised and `at <= capacity`: each write checks that it has room.
//! 2. The buffer's length is right only after [`Pen::finish`]; a pen dropped before that has
//!    written nothing.

use std::marker::PhantomData;

/// Bytes that [`Pen::short`] writes, whatever the text's length.
pub const SHORT: usize = 32;

/// The end of a buffer, to be written on.
pub struct Pen<'a> {
    out: &'a mut Vec<u8>,
    start: *mut u8,
    at: usize,
    capacity: usize,
    _buffer: PhantomData<&'a mut [u8]>,
}

impl<'a> Pen<'a> {
    /// A pen at the end of `out`.
    #[inline(always)]
    pub fn new(out: &'a mut Vec<u8>) -> Pen<'a> {
        let (start, at, capacity) = (out.as_mut_ptr(), out.len(), out.capacity());
        Pen { out, start, at, capacity, _buffer: PhantomData }
    }

    /// The pen with room for `more` bytes at least. By value, so that the pen stays in registers:
    /// no function that is called, rather than inlined, may take it.
    #[inline(always)]
    pub fn with_room(self, more: usize) -> Pen<'a> {
        if self.capacity - self.at < more { self.writing(|out| grow(out, more)) } else { self }
    }

    /// Lets `write` append to the buffer.
    #[inline(always)]
    pub fn writing(self, write: impl FnOnce(&mut Vec<u8>)) -> Pen<'a> {
        let out = self.finish();
        write(out);
        Pen::new(out)
    }

    /// Ends the writing: the buffer holds it now.
    #[inline(always)]
    pub fn finish(self) -> &'a mut Vec<u8> {
        // SAFETY: invariant 1, and nobody else had the buffer.
        unsafe { self.out.set_len(self.at) };
        self.out
    }

    /// Writes the first `len` of 32 bytes: one wide store, not a copy of unknown length.
    ///
    /// # Panics
    /// If there is no room for all 32, or `len` is more.
    #[inline(always)]
    pub fn short(&mut self, text: &[u8; SHORT], len: usize) {
        assert!(self.capacity - self.at >= SHORT && len <= SHORT, "room was asked for");
        // SAFETY: the 32 bytes from `at` on lie in the capacity, which `out` owns and nobody else
        // reads or writes while the pen lives.
        unsafe { self.start.add(self.at).cast::<[u8; SHORT]>().write_unaligned(*text) };
        self.at += len;
    }

    /// Writes the low `len` <= 8 bytes of a word.
    ///
    /// # Panics
    /// If there is no room for 8, or `len` is more.
    #[inline(always)]
    pub fn word(&mut self, word: u64, len: usize) {
        assert!(self.capacity - self.at >= 8 && len <= 8, "room was asked for");
        // SAFETY: as in `short`, for eight bytes.
        unsafe { self.start.add(self.at).cast::<[u8; 8]>().write_unaligned(word.to_le_bytes()) };
        self.at += len;
    }
}

#[cold]
#[inline(never)]
fn grow(out: &mut Vec<u8>, more: usize) {
    out.reserve(more.max(4096));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_what_a_vec_holds(
            texts in proptest::collection::vec((proptest::array::uniform32(any::<u8>()),
                0..=32usize, 0..3u8), 0..300)
        ) {
            let (mut out, mut expected) = (b"before".to_vec(), b"before".to_vec());
            let mut pen = Pen::new(&mut out);
            for (text, len, how) in &texts {
                pen = pen.with_room(32);
                match how {
                    0 => {
                        pen.short(text, *len);
                        expected.extend_from_slice(&text[..*len]);
                    }
                    1 => {
                        let len = *len % 9;
                        let word: [u8; 8] = text[..8].try_into().unwrap();
                        pen.word(u64::from_le_bytes(word), len);
                        expected.extend_from_slice(&word[..len]);
                    }
                    _ => {
                        pen = pen.writing(|out| out.extend_from_slice(&text[..*len]));
                        expected.extend_from_slice(&text[..*len]);
                    }
                }
            }
            pen.finish();
            prop_assert_eq!(out, expected);
        }
    }

    #[test]
    #[should_panic(expected = "room")]
    fn a_write_without_room_is_refused() {
        let mut out = Vec::with_capacity(31);
        let mut pen = Pen::new(&mut out);
        pen.short(&[0; 32], 1);
    }
}
