//! A Bloom filter whose bits for a key lie in one cache line (Putze, Sanders and Singler 2007).
//!
//! 1. A key that was added may be there; of the others about one in a hundred may.
//! 2. A probe touches one line of 64 bytes.

use crate::ground::prefetch;
use crate::ground::words::Words;

/// Bits per key: with seven probes about 1.2 % of absent keys pass.
const BITS_PER_KEY: usize = 10;
const PROBES: u32 = 7;
/// Words of a line.
const LINE: usize = 8;

/// Which keys may be in a table, by their hashes.
pub struct Filter {
    words: Words,
}

impl Filter {
    /// The filter of these keys' hashes. O(keys).
    pub fn new(hashes: &[u64]) -> Filter {
        let lines = (hashes.len() * BITS_PER_KEY).div_ceil(LINE * 64).max(1);
        let mut words = Words::zeroed(lines * LINE);
        for &hash in hashes {
            let line = line_of(hash, lines);
            bits_of(hash).for_each(|bit| words[line + bit / 64] |= 1 << (bit % 64));
        }
        Filter { words }
    }

    /// The filter whose [`Filter::bytes`] these are; `None` if they cannot be.
    pub fn load(bytes: &[u8]) -> Option<Filter> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(LINE * 8) {
            return None;
        }
        let mut words = Words::zeroed(bytes.len() / 8);
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Some(Filter { words })
    }

    /// The lines, little-endian.
    pub fn bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Asks the processor for the line of a hash.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        prefetch::read(&self.words, line_of(hash, self.words.len() / LINE));
    }

    /// Whether a key of this hash may be there.
    #[inline]
    pub fn may_hold(&self, hash: u64) -> bool {
        let line = line_of(hash, self.words.len() / LINE);
        let line = &self.words[line..line + LINE];
        bits_of(hash).all(|bit| line[bit / 64] >> (bit % 64) & 1 == 1)
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        self.words.len() * 8
    }
}

/// First word of a hash's line, by its upper half.
#[inline]
fn line_of(hash: u64, lines: usize) -> usize {
    (((hash >> 32) * lines as u64) >> 32) as usize * LINE
}

/// Bits in the line: nine bits of the mixed hash each.
#[inline]
fn bits_of(hash: u64) -> impl Iterator<Item = usize> {
    let mixed = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = mixed ^ mixed >> 32;
    (0..PROBES).map(move |i| (mixed >> (9 * i) & 511) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::xxh3_64;

    #[test]
    fn keys_are_there_and_few_others() {
        let hash = |i: u64| xxh3_64(&i.to_le_bytes());
        for keys in [0, 1, 50, 1000, 20_000] {
            let hashes: Vec<u64> = (0..keys).map(hash).collect();
            let made = Filter::new(&hashes);
            let filter = Filter::load(&made.bytes()).unwrap();
            assert_eq!(filter.bytes(), made.bytes());
            assert!(hashes.iter().all(|&hash| filter.may_hold(hash)));
            let passed = (0..20_000).filter(|i| filter.may_hold(hash(1 << 40 | i))).count();
            assert!(passed < 20_000 * 2 / 100, "{passed} of 20000 absent keys pass with {keys}");
        }
    }

    #[test]
    fn other_bytes_are_no_filter() {
        assert!(Filter::load(&[]).is_none());
        assert!(Filter::load(&[0; 63]).is_none());
    }
}
