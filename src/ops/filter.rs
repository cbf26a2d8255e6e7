//! `filter`: rows for which a condition is TRUE go on; FALSE and NULL do not.
//!
//! The rows that go on are not copied where the flow asks for a [`Selection`]; an expression over
//! the batch and a nanosecond a row is all that a filter costs.

use crate::expr::Program;
use crate::ground::bits;
use crate::ground::schema::Schema;
use crate::ops::output::Outputs;
use crate::ops::selection::{Selection, Sieve, copy};
use crate::ops::{Ledger, OpError, Rows, Stateless};

/// The operator. One output, of the input's schema.
pub struct Filter {
    condition: Program,
    heaped: Vec<usize>,
    mask: Vec<u64>,
    chosen: Selection,
    ledger: Ledger,
}

impl Filter {
    /// Lets rows of `input` through for which `condition`, which is BOOLEAN, is TRUE.
    pub fn new(input: &Schema, condition: Program) -> Filter {
        Filter {
            condition,
            heaped: input.heaped(),
            mask: Vec::new(),
            chosen: Selection::default(),
            ledger: Ledger::default(),
        }
    }
}

impl Sieve for Filter {
    fn sift(&mut self, rows: &Rows<'_>, outs: &mut [Selection]) {
        self.condition.mask(rows.records, rows.select, &mut self.mask);
        outs[0].choose(rows, &self.mask);
        self.ledger.rows_in += rows.select.len() as u64;
        self.ledger.filtered += (rows.select.len() - bits::count(&self.mask)) as u64;
    }
}

impl Stateless for Filter {
    fn rows(&mut self, _: usize, rows: &Rows<'_>, out: &mut Outputs) -> Result<(), OpError> {
        let mut chosen = std::mem::take(&mut self.chosen);
        self.sift(rows, std::slice::from_mut(&mut chosen));
        copy(&chosen.rows(rows.records), &self.heaped, &mut out.ports[0]);
        self.chosen = chosen;
        Ok(())
    }

    fn as_sieve(&mut self) -> Option<&mut dyn Sieve> {
        Some(self)
    }

    fn ledger(&self) -> Ledger {
        self.ledger
    }
}
