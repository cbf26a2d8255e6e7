//! A keyed stage: the keys of one exchange on one shard and all operators behind them, which share
//! the keys' slots (and, where they need event-time order, one ordering buffer).

use super::RunError;
use super::gauge::Gauges;
use super::graph::Target;
use crate::ground::schema::DataType;
use crate::ground::time::{NEVER, Time};
use crate::ops::order::Order;
use crate::ops::output::Outputs;
use crate::ops::{Keyed, KeyedRows, Ledger, Rows};
use crate::state::Handle;
use crate::state::keys::KeyTable;

/// An operator that takes rows as they arrive.
pub struct Plain {
    pub operator: Box<dyn Keyed>,
    pub about: About,
}

/// What belongs to an operator whatever its kind.
pub struct About {
    pub component: usize,
    pub name: String,
    pub outputs: Outputs,
    /// Targets of each port.
    pub targets: Vec<Vec<Target>>,
}

/// The operators that take rows in event-time order, behind their ordering buffer.
pub struct Sorted {
    pub order: Order,
    /// For each of the buffer's operators, in order.
    pub about: Vec<About>,
}

/// One keyed stage on one shard.
pub struct Stage {
    pub name: String,
    /// Key columns of the rows that come in, for each input.
    pub key_columns: Vec<Vec<usize>>,
    pub key_types: Vec<DataType>,
    pub keys: KeyTable,
    pub plain: Vec<Plain>,
    pub sorted: Option<Sorted>,
    /// Exchanges behind the operators: told of every watermark and block end.
    pub exchanges: Vec<usize>,
    hashes: Vec<u64>,
    slots: Vec<u32>,
    outs: Vec<Outputs>,
    watermark: Time,
}

impl Stage {
    /// A stage without rows.
    pub fn new(name: String, key_columns: Vec<Vec<usize>>, key_types: Vec<DataType>) -> Stage {
        let keys = KeyTable::new(&key_types);
        Stage {
            name,
            key_columns,
            key_types,
            keys,
            plain: Vec::new(),
            sorted: None,
            exchanges: Vec::new(),
            hashes: Vec::new(),
            slots: Vec::new(),
            outs: Vec::new(),
            watermark: NEVER,
        }
    }

    /// Takes rows in arrival order; results are left in the operators' outputs.
    ///
    /// # Errors
    /// An operator's, or too many keys.
    pub fn rows(
        &mut self,
        input: usize,
        rows: &Rows<'_>,
        hashes: Option<&[u64]>,
    ) -> Result<(), RunError> {
        let columns = &self.key_columns[input];
        let hashes = match hashes {
            Some(hashes) => hashes,
            None => {
                self.hashes.clear();
                let types = &self.key_types;
                KeyTable::hash(rows.records, rows.select, columns, types, &mut self.hashes);
                &self.hashes
            }
        };
        self.slots.clear();
        let found = self.keys.resolve(rows.records, rows.select, columns, hashes, &mut self.slots);
        found.map_err(|error| RunError::of(&self.name, error))?;
        let keyed = KeyedRows::new(*rows, &self.slots, &self.keys);
        for Plain { operator, about } in &mut self.plain {
            let done = operator.rows(input, &keyed, &mut about.outputs);
            done.map_err(|error| RunError::of(&about.name, error))?;
        }
        if let Some(sorted) = &mut self.sorted {
            lend(&mut sorted.about, &mut self.outs);
            let done = sorted.order.rows(input, &keyed, &mut self.outs);
            take_back(&mut sorted.about, &mut self.outs);
            done.map_err(|error| RunError::of(&self.name, error))?;
        }
        Ok(())
    }

    /// Takes the watermark.
    ///
    /// # Errors
    /// An operator's.
    pub fn watermark(&mut self, watermark: Time) -> Result<(), RunError> {
        debug_assert!(watermark >= self.watermark, "a watermark never falls");
        if watermark == self.watermark {
            return Ok(());
        }
        self.watermark = watermark;
        for Plain { operator, about } in &mut self.plain {
            let done = operator.watermark(watermark, &self.keys, &mut about.outputs);
            done.map_err(|error| RunError::of(&about.name, error))?;
        }
        if let Some(sorted) = &mut self.sorted {
            lend(&mut sorted.about, &mut self.outs);
            let done = sorted.order.watermark(watermark, &self.keys, &mut self.outs);
            take_back(&mut sorted.about, &mut self.outs);
            done.map_err(|error| RunError::of(&self.name, error))?;
        }
        Ok(())
    }

    /// Goes on from a watermark that was reached before.
    pub fn restore_watermark(&mut self, watermark: Time) {
        self.watermark = self.watermark.max(watermark);
    }

    /// Shows every state handle of every operator, with the transform's name before its own. What
    /// waits in the ordering buffer has the form that its operators asked for in its name.
    pub fn state(&mut self, visit: &mut dyn FnMut(&str, &mut dyn Handle)) {
        for Plain { operator, about } in &mut self.plain {
            operator.state(&mut |name, handle| visit(&format!("{}.{name}", about.name), handle));
        }
        if let Some(Sorted { order, about }) = &mut self.sorted {
            let form = order.form();
            order.state(&mut |name, handle| {
                let (place, own) = name.split_once('.').unwrap_or(("", name));
                match place.parse::<usize>() {
                    Ok(operator) => visit(&format!("{}.{own}", about[operator].name), handle),
                    Err(_) => visit(&format!("{name}.{form:016x}"), handle),
                }
            });
        }
    }

    /// The watermark so far.
    pub fn reached(&self) -> Time {
        self.watermark
    }

    /// The component whose back-pressure figure stands for the stage: its first operator.
    pub fn component(&self) -> usize {
        let sorted = self.sorted.as_ref().and_then(|sorted| sorted.about.first());
        self.plain.first().map(|plain| &plain.about).or(sorted).map_or(0, |about| about.component)
    }

    /// Operators of the stage.
    pub fn operators(&self) -> usize {
        self.plain.len() + self.sorted.as_ref().map_or(0, |sorted| sorted.about.len())
    }

    fn about(&mut self, operator: usize) -> &mut About {
        let plain = self.plain.len();
        if operator < plain {
            return &mut self.plain[operator].about;
        }
        let sorted = self.sorted.as_mut().expect("operators past the plain ones are sorted ones");
        &mut sorted.about[operator - plain]
    }

    /// The outputs of an operator.
    pub fn outputs(&mut self, operator: usize) -> &mut Outputs {
        &mut self.about(operator).outputs
    }

    /// The targets of an operator's port.
    pub fn targets(&mut self, operator: usize, port: usize) -> &mut Vec<Target> {
        &mut self.about(operator).targets[port]
    }

    /// Writes an operator's figures to its gauge.
    pub fn count(&mut self, operator: usize, gauges: &Gauges, shard: usize) {
        let ledger: Ledger = match operator.checked_sub(self.plain.len()) {
            None => self.plain[operator].operator.ledger(),
            Some(at) => self.sorted.as_ref().map_or_else(Ledger::default, |s| s.order.ledger(at)),
        };
        let about = self.about(operator);
        let gauge = gauges.of(about.component, shard);
        gauge.rows_in.set(ledger.rows_in);
        gauge.filtered.set(ledger.filtered);
        gauge.overflows.set(ledger.overflows);
        gauge.late.set(ledger.late);
        gauge.rows_out.set(about.outputs.ports.first().map_or(0, |port| port.rows()));
    }
}

/// Moves the outputs into one slice for the ordering stage, without allocating.
fn lend(about: &mut [About], outs: &mut Vec<Outputs>) {
    outs.clear();
    outs.extend(about.iter_mut().map(|a| std::mem::replace(&mut a.outputs, Outputs::none())));
}

fn take_back(about: &mut [About], outs: &mut Vec<Outputs>) {
    for (about, out) in about.iter_mut().zip(outs.drain(..)) {
        about.outputs = out;
    }
}
