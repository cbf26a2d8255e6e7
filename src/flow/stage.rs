//! A keyed stage: the keys of one exchange on one shard and all operators behind them, which share
//! the keys' slots (and, where they need event-time order, one ordering buffer).
//!
//! 1. Where marks are kept ([`Residence`]), every slot whose state changed is marked: those that
//!    rows name, those whose rows leave the ordering buffer, those that change by time alone.
//! 2. Once keys have left memory, what comes waits in the inbox, in order, until the keys that it
//!    needs are back ([`super::cold`]).

use std::collections::VecDeque;

use super::RunError;
use super::cold::Item;
use super::gauge::Gauges;
use super::graph::Target;
use crate::ground::schema::DataType;
use crate::ground::time::{END, NEVER, Time};
use crate::ops::order::Order;
use crate::ops::output::Outputs;
use crate::ops::{Keyed, KeyedRows, Ledger, Rows};
use crate::state::Handle;
use crate::state::keys::KeyTable;
use crate::state::residence::Residence;
use crate::state::shown::Shown;
use crate::state::touched::Touched;

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

/// What the rows of one input look like.
#[derive(Clone, Debug, Default)]
pub struct InputForm {
    pub width: usize,
    /// Columns that may have long values.
    pub heaped: Vec<usize>,
    /// Tells forms apart: of the columns' names and types.
    pub form: u64,
}

/// One keyed stage on one shard.
pub struct Stage {
    pub name: String,
    /// Key columns of the rows that come in, for each input.
    pub key_columns: Vec<Vec<usize>>,
    pub key_types: Vec<DataType>,
    /// What the rows that come in look like, for each input.
    pub inputs: Vec<InputForm>,
    pub keys: KeyTable,
    pub plain: Vec<Plain>,
    pub sorted: Option<Sorted>,
    /// Exchanges behind the operators: told of every watermark and block end.
    pub exchanges: Vec<usize>,
    /// Number by which records and checkpoints know the stage.
    pub id: u16,
    pub residence: Residence,
    /// What came and is not worked off yet (invariant 2).
    pub inbox: VecDeque<Item>,
    hashes: Vec<u64>,
    slots: Vec<u32>,
    changed: Vec<u32>,
    outs: Vec<Outputs>,
    watermark: Time,
    /// For each operator what it had counted when a checkpoint's rows had been worked through
    /// again: not of this run.
    before: Vec<(Ledger, u64)>,
}

impl Stage {
    /// A stage without rows.
    pub fn new(name: String, key_columns: Vec<Vec<usize>>, key_types: Vec<DataType>) -> Stage {
        let keys = KeyTable::new(&key_types);
        Stage {
            name,
            inputs: vec![InputForm::default(); key_columns.len()],
            key_columns,
            key_types,
            keys,
            plain: Vec::new(),
            sorted: None,
            exchanges: Vec::new(),
            id: 0,
            residence: Residence::default(),
            inbox: VecDeque::new(),
            hashes: Vec::new(),
            slots: Vec::new(),
            changed: Vec::new(),
            outs: Vec::new(),
            watermark: NEVER,
            before: Vec::new(),
        }
    }

    /// Marks from now on what changes (invariant 1).
    pub fn track(&mut self) {
        self.residence.begin(self.keys.len());
        self.sorted.iter_mut().for_each(|sorted| sorted.order.track());
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
        let mut slots = std::mem::take(&mut self.slots);
        let taken = self
            .resolve(input, rows, hashes, &mut slots)
            .and_then(|()| self.take(input, rows, &slots));
        self.slots = slots;
        taken
    }

    /// Finds the slot of each row's key; new keys get one. Replaces what `slots` holds.
    ///
    /// # Errors
    /// Too many keys.
    pub fn resolve(
        &mut self,
        input: usize,
        rows: &Rows<'_>,
        hashes: Option<&[u64]>,
        slots: &mut Vec<u32>,
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
        slots.clear();
        let found = self.keys.resolve(rows.records, rows.select, columns, hashes, slots);
        found.map_err(|error| RunError::of(&self.name, error))
    }

    /// As [`Stage::rows`], for rows whose slots are found and in memory.
    ///
    /// # Errors
    /// An operator's.
    pub fn take(&mut self, input: usize, rows: &Rows<'_>, slots: &[u32]) -> Result<(), RunError> {
        self.residence.touch(slots, self.keys.len());
        let keyed = KeyedRows::new(*rows, slots, &self.keys);
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
        self.note_changes();
        Ok(())
    }

    /// Marks what changed without being named by rows. Operators are asked in any case: what they
    /// note must not grow.
    fn note_changes(&mut self) {
        self.changed.clear();
        for Plain { operator, .. } in &mut self.plain {
            operator.take_changed(&mut self.changed);
        }
        if let Some(sorted) = &mut self.sorted {
            sorted.order.take_changed(&mut self.changed);
        }
        self.residence.touch(&self.changed, self.keys.len());
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
        self.note_changes();
        Ok(())
    }

    /// The least watermark after `after` at which something is to be done for a slot that no row
    /// names.
    pub fn due(&self, slot: u32, after: Time) -> Time {
        let plain = self.plain.iter().map(|plain| plain.operator.due(slot, after)).min();
        let sorted = self.sorted.as_ref().map(|sorted| sorted.order.due(slot, after));
        plain.into_iter().chain(sorted).min().unwrap_or(END)
    }

    /// Whether what is known of a slot can still matter once the watermark is at `after`.
    pub fn lasts(&self, slot: u32, after: Time) -> bool {
        self.plain.iter().any(|plain| plain.operator.lasts(slot, after))
            || self.sorted.as_ref().is_some_and(|sorted| sorted.order.lasts(slot, after))
    }

    /// Does what is due for slots that have come to memory for that, and for no others.
    ///
    /// # Errors
    /// An operator's.
    pub fn catch_up(&mut self, slots: &[u32], due: Time) -> Result<(), RunError> {
        for Plain { operator, about } in &mut self.plain {
            let done = operator.catch_up(slots, due, &self.keys, &mut about.outputs);
            done.map_err(|error| RunError::of(&about.name, error))?;
        }
        if let Some(sorted) = &mut self.sorted {
            lend(&mut sorted.about, &mut self.outs);
            let done = sorted.order.catch_up(slots, due, &self.keys, &mut self.outs);
            take_back(&mut sorted.about, &mut self.outs);
            done.map_err(|error| RunError::of(&self.name, error))?;
        }
        self.note_changes();
        Ok(())
    }

    /// Whether an operator changed by anything but rows and watermarks since the last call.
    pub fn took_other(&mut self) -> bool {
        let plain = self.plain.iter_mut();
        let plain = plain.fold(false, |any, plain| plain.operator.took_other() | any);
        self.sorted.as_mut().is_some_and(|sorted| sorted.order.took_other()) | plain
    }

    /// Slots with rows in an ordering buffer: these cannot leave memory.
    pub fn pinned(&self) -> Touched {
        let mut pinned = Touched::default();
        self.plain.iter().for_each(|plain| plain.operator.pinned(&mut pinned));
        if let Some(sorted) = &self.sorted {
            sorted.order.waiting_slots(&mut pinned);
        }
        pinned
    }

    /// Shows every state handle, in the order of [`Stage::state`], without names.
    pub fn handles(&mut self, visit: &mut dyn FnMut(&mut dyn Handle)) {
        for Plain { operator, .. } in &mut self.plain {
            operator.state(&mut |_, handle| visit(handle));
        }
        if let Some(Sorted { order, .. }) = &mut self.sorted {
            order.state(&mut |_, handle| visit(handle));
        }
    }

    /// Bytes of memory that keys in memory take, about: what is reserved for slots without a key
    /// is not counted, as they are given to the next keys.
    pub fn memory_bytes(&mut self) -> usize {
        let mut bytes = self.keys.memory_bytes() + self.residence.memory_bytes();
        self.handles(&mut |handle| bytes += handle.memory_bytes());
        let reserved = self.keys.len().next_power_of_two().max(64);
        (bytes as u128 * self.keys.live() as u128 / reserved as u128) as usize
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
        let (ledger, rows_out) = self.counted(operator);
        let (before, out_before) = self.before.get(operator).copied().unwrap_or_default();
        let gauge = gauges.of(self.about(operator).component, shard);
        gauge.rows_in.set(ledger.rows_in - before.rows_in);
        gauge.filtered.set(ledger.filtered - before.filtered);
        gauge.overflows.set(ledger.overflows - before.overflows);
        gauge.given_up.set(ledger.given_up - before.given_up);
        gauge.late.set(ledger.late - before.late);
        gauge.rows_out.set(rows_out - out_before);
    }

    /// What an operator has counted, and the rows it has put out.
    fn counted(&mut self, operator: usize) -> (Ledger, u64) {
        let ledger: Ledger = match operator.checked_sub(self.plain.len()) {
            None => self.plain[operator].operator.ledger(),
            Some(at) => self.sorted.as_ref().map_or_else(Ledger::default, |s| s.order.ledger(at)),
        };
        let outputs = &self.about(operator).outputs;
        (ledger, outputs.ports.first().map_or(0, |port| port.rows()))
    }

    /// Counts from 0 again: what came so far was counted by an earlier run.
    pub fn forget_counts(&mut self) {
        self.before = (0..self.operators()).map(|operator| self.counted(operator)).collect();
    }

    /// Drops what the operators put out: an earlier run has delivered it.
    pub fn drop_outputs(&mut self) {
        for operator in 0..self.operators() {
            for port in &mut self.outputs(operator).ports {
                if !port.is_empty() {
                    let emitted = port.take();
                    port.give_back(emitted);
                }
            }
        }
    }

    /// Shows what an operator knows of a slot, for people, with the rows that wait for it.
    pub fn show(&mut self, operator: usize, slot: u32, visit: &mut dyn FnMut(&str, Shown)) {
        match (operator.checked_sub(self.plain.len()), &mut self.sorted) {
            (None, _) => self.plain[operator].operator.show(slot, &self.keys, visit),
            (Some(at), Some(sorted)) => sorted.order.show(at, slot, &self.keys, visit),
            (Some(_), None) => {}
        }
    }

    /// Shows the state handles of one operator, or, for none, of the ordering buffer.
    pub fn state_of(&mut self, operator: Option<usize>, visit: &mut dyn FnMut(&mut dyn Handle)) {
        let plain = self.plain.len();
        if let Some(operator) = operator.filter(|operator| *operator < plain) {
            return self.plain[operator].operator.state(&mut |_, handle| visit(handle));
        }
        let wanted = operator.map(|operator| operator - plain);
        if let Some(Sorted { order, .. }) = &mut self.sorted {
            order.state(&mut |name, handle| {
                let place = name.split_once('.').and_then(|(place, _)| place.parse().ok());
                if place == wanted {
                    visit(handle);
                }
            });
        }
    }

    /// The place of a transform among the operators, by its name.
    pub fn operator(&self, name: &str) -> Option<usize> {
        let sorted = self.sorted.iter().flat_map(|sorted| &sorted.about);
        self.plain.iter().map(|plain| &plain.about).chain(sorted).position(|a| a.name == name)
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
