//! `map`: each row becomes one row of other columns.

use crate::expr::Projection;
use crate::ops::output::Outputs;
use crate::ops::{Ledger, OpError, Rows, Stateless};

/// The operator. One output, of the projection's schema.
pub struct Map {
    select: Projection,
    ledger: Ledger,
}

impl Map {
    /// Makes rows by `select`.
    pub fn new(select: Projection) -> Map {
        Map { select, ledger: Ledger::default() }
    }
}

impl Stateless for Map {
    fn rows(&mut self, _: usize, rows: &Rows<'_>, out: &mut Outputs) -> Result<(), OpError> {
        let port = &mut out.ports[0];
        self.select.project(rows.records, rows.select, &mut port.builder);
        port.stamp_each(rows.times, rows.marks);
        self.ledger.rows_in += rows.select.len() as u64;
        Ok(())
    }

    fn ledger(&self) -> Ledger {
        self.ledger
    }
}
