//! Bit sets over the rows of a batch: one bit a row, 64 rows a word, low bit first.
//!
//! 1. Bits at and past the length are 0.

/// Words that hold `len` bits.
#[inline(always)]
pub fn words(len: usize) -> usize {
    len.div_ceil(64)
}

/// A word's worth of mask for the last word of `len` bits.
#[inline(always)]
pub fn tail(len: usize) -> u64 {
    if len.is_multiple_of(64) { !0 } else { (1 << (len % 64)) - 1 }
}

/// Whether bit `i` is set.
#[inline(always)]
pub fn get(bits: &[u64], i: usize) -> bool {
    bits[i / 64] >> (i % 64) & 1 == 1
}

/// Sets bit `i`.
#[inline(always)]
pub fn set(bits: &mut [u64], i: usize) {
    bits[i / 64] |= 1 << (i % 64);
}

/// How many bits are set.
pub fn count(bits: &[u64]) -> usize {
    bits.iter().map(|word| word.count_ones() as usize).sum()
}

/// Calls `each` with the place of every set bit, in order.
#[inline(always)]
pub fn for_each(bits: &[u64], mut each: impl FnMut(usize)) {
    for (i, &word) in bits.iter().enumerate() {
        let mut left = word;
        while left != 0 {
            each(i * 64 + left.trailing_zeros() as usize);
            left &= left - 1;
        }
    }
}

/// Packs one boolean a row into words; `test` is called for every row in order.
#[inline(always)]
pub fn pack(len: usize, out: &mut Vec<u64>, mut test: impl FnMut(usize) -> bool) {
    out.clear();
    let mut at = 0;
    while at < len {
        let end = (at + 64).min(len);
        let mut word = 0;
        for i in at..end {
            word |= u64::from(test(i)) << (i - at);
        }
        out.push(word);
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packed_bits_are_the_booleans(rows in proptest::collection::vec(any::<bool>(), 0..200)) {
            let mut bits = Vec::new();
            pack(rows.len(), &mut bits, |i| rows[i]);
            prop_assert_eq!(bits.len(), words(rows.len()));
            prop_assert_eq!(count(&bits), rows.iter().filter(|&&b| b).count());
            let mut seen = Vec::new();
            for_each(&bits, |i| seen.push(i));
            let expected: Vec<usize> = (0..rows.len()).filter(|&i| rows[i]).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
