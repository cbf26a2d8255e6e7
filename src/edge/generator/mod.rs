//! The `generator` source: the built-in workload, as fast as it is taken or at a steady pace.
//!
//! It gives row numbers only ([`Block::Numbers`]); the rows are made where they are needed, by
//! [`Workload::fill`] on the shard that takes the block.

pub mod quantiles;
pub mod random;
pub mod workload;
pub mod zipf;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ground::limits::BLOCK_ROWS;
use crate::ground::schema::Schema;
use crate::port::{Block, Next, PortError, Source};

pub use workload::{Workload, WorkloadOptions};

/// What rows a generator gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Table {
    #[default]
    Transactions,
    Profiles,
}

impl Table {
    /// The columns of its rows.
    pub fn schema(self) -> Schema {
        match self {
            Table::Transactions => Workload::transactions_schema(),
            Table::Profiles => Workload::profiles_schema(),
        }
    }
}

/// What a `generator` source is opened with.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratorOptions {
    pub table: Table,
    pub workload: WorkloadOptions,
    /// Transactions to give; `None`: without end. Profiles are as many as there are users.
    pub rows: Option<u64>,
    /// Rows a second of the clock on the wall; `None`: as fast as they are taken.
    pub rows_per_second: Option<f64>,
}

/// Makes the rows of a generator's blocks; one for all shards.
#[derive(Clone)]
pub struct Rows {
    table: Table,
    workload: Arc<Workload>,
}

impl Rows {
    /// Builds the workload's tables.
    ///
    /// # Errors
    /// [`PortError::Setup`], naming the option that is out of its limits.
    pub fn new(options: &GeneratorOptions) -> Result<Rows, PortError> {
        let workload = Workload::new(&options.workload).map_err(PortError::Setup)?;
        Ok(Rows { table: options.table, workload: Arc::new(workload) })
    }

    /// The columns of the rows.
    pub fn schema(&self) -> Schema {
        self.table.schema()
    }

    /// Adds rows `start..end` of a [`Block::Numbers`] to a batch of that schema.
    ///
    /// # Panics
    /// If the batch is of another width.
    pub fn fill(&self, start: u64, end: u64, out: &mut crate::ground::batch::BatchBuilder) {
        match self.table {
            Table::Transactions => self.workload.fill(start, end, out),
            Table::Profiles => self.workload.fill_profiles(start, end, out),
        }
    }
}

/// The source. Without a pace its blocks are fixed: [`BLOCK_ROWS`] numbers each.
pub struct GeneratorSource {
    next: u64,
    end: Option<u64>,
    pace: Option<Pace>,
}

struct Pace {
    rows_per_second: f64,
    /// When row 0 was due: at the first call.
    started: Option<Instant>,
}

impl GeneratorSource {
    /// A source of the numbers of all rows.
    ///
    /// # Errors
    /// [`PortError::Setup`] if an option is out of its limits.
    pub fn open(options: &GeneratorOptions) -> Result<GeneratorSource, PortError> {
        options.workload.check().map_err(PortError::Setup)?;
        let pace = options.rows_per_second;
        if pace.is_some_and(|pace| !(0.001..=1e9).contains(&pace)) {
            return Err(PortError::Setup("`rows_per_second` is a number from 0.001 to 1e9".into()));
        }
        let end = match options.table {
            Table::Transactions => options.rows,
            Table::Profiles => Some(options.workload.users),
        };
        Ok(GeneratorSource {
            next: 0,
            end,
            pace: pace.map(|rows_per_second| Pace { rows_per_second, started: None }),
        })
    }

    /// Rows up to which the clock allows, waiting for the next one until `until`.
    fn due(&mut self, until: Instant) -> u64 {
        let Some(pace) = &mut self.pace else {
            return u64::MAX;
        };
        let before = Duration::from_secs_f64(self.next as f64 / pace.rows_per_second);
        // A source that goes on behind a checkpoint owes nothing for what came before.
        let begin = || Instant::now().checked_sub(before).unwrap_or_else(Instant::now);
        let started = *pace.started.get_or_insert_with(begin);
        loop {
            let now = Instant::now();
            let due = 1 + (now.duration_since(started).as_secs_f64() * pace.rows_per_second) as u64;
            if due > self.next || now >= until {
                return due;
            }
            let at = Duration::from_secs_f64(self.next as f64 / pace.rows_per_second);
            let left = (started + at).saturating_duration_since(now);
            let left = left.min(until.saturating_duration_since(now));
            std::thread::sleep(left.max(Duration::from_micros(10)));
        }
    }
}

impl Source for GeneratorSource {
    fn next(&mut self, wait_ms: u64) -> Result<Next, PortError> {
        if self.end.is_some_and(|end| self.next >= end) {
            return Ok(Next::End);
        }
        let due = self.due(Instant::now() + Duration::from_millis(wait_ms));
        let end = due.min(self.next + BLOCK_ROWS as u64).min(self.end.unwrap_or(u64::MAX));
        if end <= self.next {
            return Ok(Next::Idle);
        }
        let start = std::mem::replace(&mut self.next, end);
        Ok(Next::Block(Block::Numbers { start, end }))
    }

    /// The number of the next row: with a pace blocks are as long as the clock allowed.
    fn position(&self) -> Option<u64> {
        Some(self.next)
    }

    fn resume(&mut self, position: u64) -> Result<(), PortError> {
        self.next = position;
        Ok(())
    }

    fn is_bounded(&self) -> bool {
        self.end.is_some()
    }

    fn is_live(&self) -> bool {
        self.pace.is_some()
    }
}

#[cfg(test)]
mod tests;
