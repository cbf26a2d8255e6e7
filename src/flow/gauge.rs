//! What a run counts while it goes on: one cell per component and shard, written by its shard
//! only, read by whoever reports.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::latency::{Latency, Quantiles};
use crate::ground::time::{NEVER, Time};

/// A counter with one writer: no read-modify-write, no lock.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Sets the count.
    #[inline(always)]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds to the count. Only the writer may.
    #[inline(always)]
    pub fn add(&self, value: u64) {
        self.set(self.get() + value);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One component on one shard.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Gauge {
    /// Rows decoded (source), taken in (transform), written (sink).
    pub rows_in: Count,
    /// Rows put out on the main output.
    pub rows_out: Count,
    /// Wrong rows of a source.
    pub rejected: Count,
    /// Rows behind the watermark, on the late output.
    pub late: Count,
    /// Rows that a condition or an unmatched lookup took out.
    pub filtered: Count,
    /// Aggregates that did not fit their type.
    pub overflows: Count,
    /// Partial matches that were given up because their key had too many.
    pub given_up: Count,
    /// Bytes read or written.
    pub bytes: Count,
    /// Nanoseconds that the component waited for room behind it: back-pressure.
    pub waited_ns: Count,
}

/// All gauges of a run: `components x shards`.
#[derive(Debug)]
pub struct Gauges {
    shards: usize,
    cells: Vec<Gauge>,
    /// Watermark of the run's first keyed stage on shard 0, ms; for the progress line.
    watermark: AtomicI64,
    /// Of the shards that have ended.
    latency: Mutex<Latency>,
    first_row_ns: AtomicU64,
    last_row_ns: AtomicU64,
}

impl Gauges {
    /// Zeroed gauges.
    pub fn new(components: usize, shards: usize) -> Gauges {
        let cells = (0..components * shards).map(|_| Gauge::default()).collect();
        Gauges {
            shards,
            cells,
            watermark: AtomicI64::new(NEVER),
            latency: Mutex::default(),
            first_row_ns: AtomicU64::new(u64::MAX),
            last_row_ns: AtomicU64::new(0),
        }
    }

    /// The gauge of a component on a shard.
    pub fn of(&self, component: usize, shard: usize) -> &Gauge {
        &self.cells[component * self.shards + shard]
    }

    /// A figure of a component, summed over the shards.
    pub fn sum(&self, component: usize, figure: impl Fn(&Gauge) -> &Count) -> u64 {
        (0..self.shards).map(|shard| figure(self.of(component, shard)).get()).sum()
    }

    /// Says that rows were read or worked off, by a shard's clock. Once a block.
    pub fn saw_rows(&self, ticks_ns: u64) {
        self.first_row_ns.fetch_min(ticks_ns, Ordering::Relaxed);
        self.last_row_ns.fetch_max(ticks_ns, Ordering::Relaxed);
    }

    /// When the first row was there, by the shards' clocks.
    pub fn first_row_ns(&self) -> Option<u64> {
        let first = self.first_row_ns.load(Ordering::Relaxed);
        (first != u64::MAX).then_some(first)
    }

    /// From the first row to the last one so far.
    pub fn busy_ns(&self) -> u64 {
        let first = self.first_row_ns().unwrap_or(0);
        self.last_row_ns.load(Ordering::Relaxed).saturating_sub(first)
    }

    /// Adds the latencies of a shard that has ended.
    pub fn add_latency(&self, latency: &Latency) {
        self.latency.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).add(latency);
    }

    /// Latencies of the shards that have ended, if there were any.
    pub fn latency(&self) -> Option<Quantiles> {
        self.latency.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).quantiles()
    }

    /// Says how far event time has come.
    pub fn set_watermark(&self, watermark: Time) {
        self.watermark.store(watermark, Ordering::Relaxed);
    }

    /// How far event time has come, ms.
    pub fn watermark(&self) -> Time {
        self.watermark.load(Ordering::Relaxed)
    }
}
