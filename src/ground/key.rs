//! Keys: one hash, taken once, and the key group it falls into.
//!
//! 1. The hash of a key is a function of its values alone: the same on every shard, in every run
//!    and version. Checkpoints hold key groups, so changing it is a change of format.
//! 2. A shard owns a contiguous range of key groups; the ranges cover all of them.

use super::limits::KEY_GROUPS;

const A: u64 = 0x9E37_79B9_7F4A_7C15;
const B: u64 = 0xE703_7ED1_A0B4_28DB;

/// Multiplies to 128 bits and folds (the step of wyhash and foldhash).
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    wide as u64 ^ (wide >> 64) as u64
}

/// Hash of a key of one slot that needs no heap.
#[inline(always)]
pub fn hash_word(word: u64) -> u64 {
    fold(word ^ A, B)
}

/// Folds another slot into a key's hash.
#[inline(always)]
pub fn hash_next(hash: u64, word: u64) -> u64 {
    fold(hash ^ word, A)
}

/// Hash of a long text, to be used in place of its slot's word.
pub fn hash_text(text: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(text)
}

/// The key group of a hash, below [`KEY_GROUPS`].
#[inline(always)]
pub fn group(hash: u64) -> usize {
    // The high half of a product spreads evenly without a division (Lemire).
    ((u128::from(hash) * KEY_GROUPS as u128) >> 64) as usize
}

/// The shard of `shards` that owns a key group.
#[inline(always)]
pub fn shard_of(group: usize, shards: usize) -> usize {
    group * shards / KEY_GROUPS
}

/// The key groups that a shard owns.
pub fn groups_of(shard: usize, shards: usize) -> std::ops::Range<usize> {
    let start = |shard: usize| (shard * KEY_GROUPS).div_ceil(shards);
    start(shard)..start(shard + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_groups_cover_all_and_agree_with_the_owner() {
        for shards in 1..=KEY_GROUPS {
            let mut next = 0;
            for shard in 0..shards {
                let range = groups_of(shard, shards);
                assert_eq!(range.start, next);
                assert!(range.clone().all(|group| shard_of(group, shards) == shard));
                next = range.end;
            }
            assert_eq!(next, KEY_GROUPS);
        }
    }

    #[test]
    fn neighbours_spread_over_groups() {
        let mut counts = [0usize; KEY_GROUPS];
        for key in 0..100_000u64 {
            counts[group(hash_word(key))] += 1;
        }
        let (min, max) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(*min > 600 && *max < 970, "{min}..{max} of 781 expected");
    }
}
