//! `union`: the rows of all inputs, as they are.

use crate::ground::schema::Schema;
use crate::ops::output::Outputs;
use crate::ops::selection::{Selection, Sieve, copy};
use crate::ops::{Ledger, OpError, Rows, Stateless};

/// The operator. Its inputs have one schema.
pub struct Union {
    heaped: Vec<usize>,
    ledger: Ledger,
}

impl Union {
    /// A union of rows of `input`.
    pub fn new(input: &Schema) -> Union {
        Union { heaped: input.heaped(), ledger: Ledger::default() }
    }
}

impl Sieve for Union {
    fn sift(&mut self, rows: &Rows<'_>, outs: &mut [Selection]) {
        self.ledger.rows_in += rows.select.len() as u64;
        let Selection { select, times, marks } = &mut outs[0];
        select.clear();
        select.extend_from_slice(rows.select);
        times.clear();
        times.extend_from_slice(rows.times);
        marks.clear();
        marks.extend_from_slice(rows.marks);
    }
}

impl Stateless for Union {
    fn rows(&mut self, _: usize, rows: &Rows<'_>, out: &mut Outputs) -> Result<(), OpError> {
        self.ledger.rows_in += rows.select.len() as u64;
        copy(rows, &self.heaped, &mut out.ports[0]);
        Ok(())
    }

    fn ledger(&self) -> Ledger {
        self.ledger
    }
}
