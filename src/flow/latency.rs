//! How long rows take: from a row's arrival in the process to the output row that it caused
//! leaving the last transform.
//!
//! 1. The reader of a live source notes when a block came; the note goes with the block's rows and
//!    its end over every ring. What is put out while a block is worked off was caused by it, be it
//!    by a row itself or by the watermark that a row moved.
//! 2. A bounded source that is read as fast as possible has no arrival: its rows count for nothing.
//! 3. Each shard counts alone; what it counted is added up when it ends.

use hdrhistogram::Histogram;

/// Finest and longest time told apart, ns: a microsecond, an hour. Longer ones count as an hour.
const LEAST_NS: u64 = 1_000;
const MOST_NS: u64 = 3_600_000_000_000;
/// Digits that a quantile is right to.
const DIGITS: u8 = 3;

/// When the block under way arrived, by the shards' clock; `None` if that means nothing.
pub type Arrival = Option<u64>;

/// Latencies in ms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantiles {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// Latencies of output rows (Gil Tene's HDR histogram: about 30 KiB, whatever the number of rows).
#[derive(Debug, Default)]
pub struct Latency(Option<Histogram<u64>>);

impl Latency {
    /// Counts `rows` output rows.
    pub fn record(&mut self, ns: u64, rows: u64) {
        let empty = || {
            let made = Histogram::new_with_bounds(LEAST_NS, MOST_NS, DIGITS);
            made.expect("the bounds are in order")
        };
        self.0.get_or_insert_with(empty).saturating_record_n(ns, rows);
    }

    /// Adds another shard's.
    pub fn add(&mut self, other: &Latency) {
        match (&mut self.0, &other.0) {
            (_, None) => {}
            (Some(own), Some(other)) => own.add(other).expect("all have the same bounds"),
            (None, Some(other)) => self.0 = Some(other.clone()),
        }
    }

    /// The quantiles, if any row was counted.
    pub fn quantiles(&self) -> Option<Quantiles> {
        let counted = self.0.as_ref()?;
        let ms = |ns: u64| ns as f64 / 1e6;
        let at = |quantile| ms(counted.value_at_quantile(quantile));
        Some(Quantiles { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: ms(counted.max()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_all_shards_rows() {
        let (mut all, mut other) = (Latency::default(), Latency::default());
        assert_eq!(all.quantiles(), None);
        all.add(&other);
        other.record(2_000_000, 90);
        all.add(&other);
        let mut slow = Latency::default();
        slow.record(50_000_000, 9);
        slow.record(u64::MAX, 1);
        all.add(&slow);
        let found = all.quantiles().unwrap();
        let near = |a: f64, b: f64| (a - b).abs() <= b / 500.0;
        assert!(near(found.p50, 2.0) && near(found.p99, 50.0), "{found:?}");
        assert!(near(found.p999, 3_600_000.0) && near(found.max, 3_600_000.0), "{found:?}");
    }
}
