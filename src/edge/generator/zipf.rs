//! Zipf-distributed ranks from one random word, in a few nanoseconds.
//!
//! Rank i of 1..=n has a weight of i^-s. Rejection-inversion (Hörmann and Derflinger 1996) would
//! draw it with a power and a logarithm a try; here ranks are gathered into buckets once and a
//! bucket is drawn by Walker's alias method (Vose 1991): one multiplication and one look-up.
//!
//! 1. The first `HEAD` ranks have a bucket each: their frequencies are exact.
//! 2. Behind them a bucket spans 1/256 of its first rank, within which ranks are drawn evenly: each
//!    rank's frequency is right to `s / 256` of itself, and each bucket's is exact.
//! 3. A rank is a function of the word alone; tables take under 300 KB whatever n is.

use crate::edge::generator::random::{below, mix};

/// Ranks that have a bucket each.
const HEAD: u64 = 4096;

/// Ranks `first .. first + count`, drawn evenly.
#[derive(Clone, Copy)]
struct Bucket {
    first: u32,
    count: u32,
}

#[derive(Clone, Copy)]
struct Entry {
    /// Words below this take `own`, the others `alias`.
    cut: u64,
    own: Bucket,
    alias: Bucket,
}

/// The distribution. Shared by reference; drawing changes nothing.
#[derive(Clone)]
pub struct Zipf {
    entries: Vec<Entry>,
}

impl Zipf {
    /// Ranks 1..=`n` with exponent `s` (0: all alike; 1: the second half as often as the first).
    ///
    /// # Panics
    /// If `n` is 0 or does not fit 32 bits, or `s` is negative or no number; options are checked
    /// before.
    pub fn new(n: u64, s: f64) -> Zipf {
        assert!((1..=u64::from(u32::MAX)).contains(&n), "ranks fit 32 bits");
        assert!(s.is_finite() && s >= 0.0, "the exponent is a number");
        let (mut buckets, mut weights) = (Vec::new(), Vec::new());
        let mut first = 1;
        while first <= n {
            let count = if first <= HEAD { 1 } else { first / 256 };
            let count = count.min(n + 1 - first);
            weights.push(weight(first, count, s));
            buckets.push(Bucket { first: first as u32, count: count as u32 });
            first += count;
        }
        Zipf { entries: alias(&buckets, &weights) }
    }

    /// The rank that a random word stands for. O(1).
    #[inline(always)]
    pub fn rank(&self, word: u64) -> u64 {
        let (place, left) = below(word, self.entries.len() as u64);
        let entry = &self.entries[place as usize];
        let bucket = if left < entry.cut { entry.own } else { entry.alias };
        let first = u64::from(bucket.first);
        if bucket.count == 1 { first } else { first + below(mix(left), u64::from(bucket.count)).0 }
    }
}

/// The weight of ranks `first .. first + count`: exact for one, else the integral between the
/// half-way points (off by less than 1e-8 of itself where it is used).
fn weight(first: u64, count: u64, s: f64) -> f64 {
    if count == 1 {
        return (first as f64).powf(-s);
    }
    let (a, b) = (first as f64 - 0.5, (first + count) as f64 - 0.5);
    if (s - 1.0).abs() < 1e-9 {
        (b / a).ln()
    } else {
        (b.powf(1.0 - s) - a.powf(1.0 - s)) / (1.0 - s)
    }
}

/// Vose's construction: every entry holds an equal share, of at most two buckets.
fn alias(buckets: &[Bucket], weights: &[f64]) -> Vec<Entry> {
    let mean = weights.iter().sum::<f64>() / weights.len() as f64;
    let mut shares: Vec<f64> = weights.iter().map(|weight| weight / mean).collect();
    let whole = |bucket: &Bucket| Entry { cut: u64::MAX, own: *bucket, alias: *bucket };
    let mut entries: Vec<Entry> = buckets.iter().map(whole).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) =
        (0..shares.len()).partition(|&i| shares[i] < 1.0);
    while let (Some(&less), Some(&more)) = (small.last(), large.last()) {
        small.pop();
        entries[less].cut = (shares[less] * 2f64.powi(64)) as u64;
        entries[less].alias = buckets[more];
        shares[more] -= 1.0 - shares[less];
        if shares[more] < 1.0 {
            large.pop();
            small.push(more);
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::generator::random::Words;

    /// Asserts that the shares of ranks up to each power of two are those of the definition.
    fn check(n: u64, s: f64) {
        let zipf = Zipf::new(n, s);
        assert!(zipf.entries.len() * size_of::<Entry>() < 300_000);
        let draws = 400_000u64;
        let mut counts = vec![0u64; n as usize + 1];
        for i in 0..draws {
            counts[zipf.rank(Words::of(3, i).get(0)) as usize] += 1;
        }
        assert_eq!(counts[0], 0);
        let total: f64 = (1..=n).map(|i| (i as f64).powf(-s)).sum();
        let (mut seen, mut expected) = (0, 0.0);
        for i in 1..=n {
            seen += counts[i as usize];
            expected += (i as f64).powf(-s) / total;
            if i.is_power_of_two() || i == n {
                let deviation = (expected * (1.0 - expected) / draws as f64).max(1e-9).sqrt();
                let off = (seen as f64 / draws as f64 - expected) / deviation;
                assert!(off.abs() < 5.0, "n {n}, s {s}, rank {i}: off by {off} deviations");
            }
        }
    }

    #[test]
    fn shares_are_those_of_the_definition() {
        for s in [0.0, 0.5, 0.9, 1.0, 1.2, 2.0] {
            for n in [1, 2, 10, 5_000, 100_000] {
                check(n, s);
            }
        }
    }

    #[test]
    fn the_last_rank_of_a_very_long_range_can_be_reached() {
        let zipf = Zipf::new(u64::from(u32::MAX), 0.0);
        let most = (0..100_000).map(|i| zipf.rank(Words::of(1, i).get(0))).max();
        assert!(most > Some(4_200_000_000), "{most:?}");
    }
}
