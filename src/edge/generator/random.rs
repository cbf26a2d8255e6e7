//! Random words by number: the n-th one without those before it.
//!
//! A word is a hash of (seed, row, stream), so that any shard makes any stretch of rows. The mixing
//! is splitmix64's finaliser (Steele, Lea, Flood 2014) for the row and the 128-bit
//! multiply-and-fold of wyhash for the streams of one row: two to four cycles a word.

/// 2^64 divided by the golden ratio: steps far apart.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Mixes a word so that every bit of it matters to every bit of the result; a bijection.
#[inline(always)]
pub fn mix(mut word: u64) -> u64 {
    word ^= word >> 30;
    word = word.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word ^= word >> 27;
    word = word.wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ word >> 31
}

/// Multiplies to 128 bits and folds.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    wide as u64 ^ (wide >> 64) as u64
}

/// The random words that belong to one number of one seed.
#[derive(Clone, Copy)]
pub struct Words(u64);

impl Words {
    /// The words of number `n`.
    #[inline(always)]
    pub fn of(seed: u64, n: u64) -> Words {
        Words(mix(seed.wrapping_add(n.wrapping_add(1).wrapping_mul(GOLDEN))))
    }

    /// Word number `stream`.
    #[inline(always)]
    pub fn get(self, stream: u64) -> u64 {
        let salt = (stream + 1).wrapping_mul(0xE703_7ED1_A0B4_28DB);
        fold(self.0 ^ salt, GOLDEN ^ salt.rotate_left(32))
    }
}

/// A number below `bound` from a random word, evenly (Lemire's multiplication; the bias is
/// `bound / 2^64`), and the word that is left over, again random.
#[inline(always)]
pub fn below(word: u64, bound: u64) -> (u64, u64) {
    let wide = u128::from(word) * u128::from(bound);
    ((wide >> 64) as u64, wide as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_every_stream_is_even() {
        let rows = 20_000u64;
        for stream in 0..4 {
            let mut ones = [0u64; 64];
            let mut alike = [0u64; 64];
            for n in 0..rows {
                let (word, next) = (Words::of(7, n).get(stream), Words::of(7, n + 1).get(stream));
                for bit in 0..64 {
                    ones[bit] += word >> bit & 1;
                    alike[bit] += (word ^ next) >> bit & 1;
                }
            }
            for count in ones.iter().chain(&alike) {
                // Six standard deviations of 71 either side of a half.
                assert!(count.abs_diff(rows / 2) < 430, "{count} of {rows}");
            }
        }
    }

    #[test]
    fn numbers_below_a_bound_are_below_it_and_even() {
        let mut counts = [0u32; 10];
        for n in 0..100_000 {
            counts[below(Words::of(1, n).get(0), 10).0 as usize] += 1;
        }
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 600), "{counts:?}");
    }
}
