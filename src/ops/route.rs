//! `route`: named outputs, each with a condition; and the operator's own output for the rest.
//!
//! As in Vector, a row goes to *every* output whose condition is TRUE for it, and to the operator's
//! own output exactly if there is none such. So every row goes somewhere.

use crate::expr::Program;
use crate::ground::bits;
use crate::ground::schema::Schema;
use crate::ops::output::Outputs;
use crate::ops::selection::{Selection, Sieve, copy};
use crate::ops::{Ledger, OpError, Rows, Stateless};

/// The operator. Output 0 is for the rest, output i + 1 for condition i; all of the input's schema.
pub struct Route {
    conditions: Vec<Program>,
    heaped: Vec<usize>,
    mask: Vec<u64>,
    rest: Vec<u64>,
    chosen: Vec<Selection>,
    ledger: Ledger,
}

impl Route {
    /// Deals rows of `input` out by these conditions, which are BOOLEAN.
    pub fn new(input: &Schema, conditions: Vec<Program>) -> Route {
        Route {
            chosen: (0..=conditions.len()).map(|_| Selection::default()).collect(),
            conditions,
            heaped: input.heaped(),
            mask: Vec::new(),
            rest: Vec::new(),
            ledger: Ledger::default(),
        }
    }
}

impl Sieve for Route {
    fn sift(&mut self, rows: &Rows<'_>, outs: &mut [Selection]) {
        let len = rows.select.len();
        self.rest.clear();
        self.rest.resize(bits::words(len), !0);
        if let Some(last) = self.rest.last_mut() {
            *last = bits::tail(len);
        }
        for (condition, out) in self.conditions.iter_mut().zip(&mut outs[1..]) {
            condition.mask(rows.records, rows.select, &mut self.mask);
            out.choose(rows, &self.mask);
            self.rest.iter_mut().zip(&self.mask).for_each(|(rest, mask)| *rest &= !mask);
        }
        outs[0].choose(rows, &self.rest);
        self.ledger.rows_in += len as u64;
    }
}

impl Stateless for Route {
    fn rows(&mut self, _: usize, rows: &Rows<'_>, out: &mut Outputs) -> Result<(), OpError> {
        let mut chosen = std::mem::take(&mut self.chosen);
        self.sift(rows, &mut chosen);
        for (chosen, port) in chosen.iter().zip(&mut out.ports) {
            copy(&chosen.rows(rows.records), &self.heaped, port);
        }
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
