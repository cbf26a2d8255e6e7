//! Patterns that come and go while rows flow: each rule is a [`Pattern`] of its own, so one that is
//! added, changed or removed leaves the partial matches of the others alone.
//!
//! 1. Rules change between two batches of rows, on each shard by itself.
//! 2. A rule is known by name, version and form (its text): one of which any of these is other is
//!    another rule, which begins with no partial match.
//! 3. What is saved of a key has each rule's part under the rule's number; parts of rules that are no
//!    longer there are let go when the key comes back.

use super::{LatePort, Pattern, PatternSpec};
use crate::ground::schema::Schema;
use crate::ground::time::{END, Time};
use crate::ops::output::{Emitted, Outputs, Port};
use crate::ops::pattern::reader::Reader;
use crate::ops::{KeyedRows, Ledger, OpError, Ordered, Stateful, Stretch};
use crate::state::keys::KeyTable;
use crate::state::shown::Shown;
use crate::state::{Handle, LoadError};

/// A rule to be run.
pub struct RuleSpec {
    pub name: String,
    /// Tells it from all others, and from itself in another version or form.
    pub number: u64,
    /// Its late rows are the operator's business.
    pub spec: PatternSpec,
}

/// Gives all rules in force, if they are other ones than at the call before.
pub type Feed = Box<dyn FnMut() -> Option<Vec<RuleSpec>>>;

struct Rule {
    name: String,
    number: u64,
    pattern: Pattern,
}

/// The rules' patterns, as one handle of what they know of keys.
#[derive(Default)]
struct Patterns(Vec<Rule>);

/// See the module's head.
pub struct Rules {
    patterns: Patterns,
    feed: Feed,
    event: Schema,
    /// Columns of matches that may have long values.
    heaped: Vec<usize>,
    late: Option<LatePort>,
    timed_out: Option<usize>,
    /// Where a rule's matches, and those timed out, wait to be put in order.
    found: Outputs,
    ledger: Ledger,
    changed: bool,
}

impl Rules {
    /// The operator for rows of `event`, which are all there is of a row (rules may ask for any
    /// column later). Matches have these `columns`.
    pub fn new(
        feed: Feed,
        event: Schema,
        columns: &Schema,
        late: Option<LatePort>,
        timed_out: Option<usize>,
    ) -> Rules {
        let mut rules = Rules {
            patterns: Patterns::default(),
            feed,
            event,
            heaped: columns.heaped(),
            late,
            timed_out,
            found: Outputs::new(&[columns.width(); 2], usize::MAX),
            ledger: Ledger::default(),
            changed: false,
        };
        rules.look();
        rules.changed = false;
        rules
    }

    /// Takes up rules that changed.
    fn look(&mut self) {
        let Some(specs) = (self.feed)() else { return };
        let mut before = std::mem::take(&mut self.patterns.0);
        for RuleSpec { name, number, spec } in specs {
            match before.iter().position(|rule| rule.number == number) {
                Some(at) => self.patterns.0.push(before.swap_remove(at)),
                None => {
                    let spec = PatternSpec { timed_out: self.timed_out.map(|_| 1), ..spec };
                    // What would be too large was refused when the rule was read.
                    if let Ok(pattern) = Pattern::new(spec, &self.event) {
                        self.patterns.0.push(Rule { name, number, pattern });
                    }
                }
            }
        }
        for gone in before {
            self.ledger.given_up += gone.pattern.ledger().given_up;
        }
        self.changed = true;
    }

    /// Lets each rule do something, and puts out what came of it in the order of its times.
    fn each(
        &mut self,
        out: &mut Outputs,
        mut work: impl FnMut(&mut Pattern, &mut Outputs) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        let mut found: [Vec<Emitted>; 2] = [Vec::new(), Vec::new()];
        for rule in &mut self.patterns.0 {
            work(&mut rule.pattern, &mut self.found)?;
            for (found, port) in found.iter_mut().zip(&mut self.found.ports) {
                if !port.is_empty() {
                    found.extend(port.take());
                }
            }
        }
        let [matches, timed_out] = found;
        merge(&matches, &self.heaped, &mut out.ports[0]);
        if let Some(port) = self.timed_out {
            merge(&timed_out, &self.heaped, &mut out.ports[port]);
        }
        Ok(())
    }
}

/// Puts rows out in the order of their times, those of equal times as they are given.
fn merge(found: &[Emitted], heaped: &[usize], port: &mut Port) {
    let mut rows: Vec<(Time, usize, usize)> = Vec::new();
    for (at, emitted) in found.iter().enumerate() {
        rows.extend(emitted.times.iter().enumerate().map(|(row, &time)| (time, at, row)));
    }
    rows.sort();
    for (time, at, row) in rows {
        let emitted = &found[at];
        port.builder.push_row_of(&emitted.records, row, heaped);
        port.stamp(time, emitted.marks[row]);
    }
}

impl Pattern {
    fn handle(&self) -> &dyn Handle {
        match &self.executor {
            super::Executor::Machine(machine) => &machine.store,
            super::Executor::Strict(strict) => &**strict,
        }
    }

    fn handle_mut(&mut self) -> &mut dyn Handle {
        match &mut self.executor {
            super::Executor::Machine(machine) => &mut machine.store,
            super::Executor::Strict(strict) => &mut **strict,
        }
    }
}

/// For each rule that knows something: number u64 | length u32 | its bytes.
impl Handle for Patterns {
    fn save(&self, slot: u32, out: &mut Vec<u8>) {
        for rule in &self.0 {
            let head = out.len();
            out.extend_from_slice(&rule.number.to_le_bytes());
            out.extend_from_slice(&[0; 4]);
            let from = out.len();
            rule.pattern.handle().save(slot, out);
            let len = (out.len() - from) as u32;
            match len {
                0 => out.truncate(head),
                _ => out[from - 4..from].copy_from_slice(&len.to_le_bytes()),
            }
        }
    }

    fn load(&mut self, slot: u32, bytes: &[u8]) -> Result<(), LoadError> {
        let mut from = Reader::new(bytes);
        let wrong = || LoadError {
            handle: "rules".into(),
            reason: "the bytes are not what this version writes".into(),
        };
        while !from.is_empty() {
            let number = from.u64().ok_or_else(wrong)?;
            let len = from.u32().ok_or_else(wrong)? as usize;
            let own = from.take(len).ok_or_else(wrong)?;
            // Of a rule that is gone nothing is kept (rule 3).
            if let Some(rule) = self.0.iter_mut().find(|rule| rule.number == number) {
                rule.pattern.handle_mut().load(slot, own)?;
            }
        }
        Ok(())
    }

    fn clear(&mut self, slot: u32) {
        self.0.iter_mut().for_each(|rule| rule.pattern.handle_mut().clear(slot));
    }

    fn memory_bytes(&self) -> usize {
        self.0.iter().map(|rule| rule.pattern.handle().memory_bytes()).sum()
    }
}

impl Stateful for Rules {
    fn state(&mut self, visit: &mut dyn FnMut(&str, &mut dyn Handle)) {
        visit("rules", &mut self.patterns);
    }

    fn due(&self, slot: u32, after: Time) -> Time {
        let all = self.patterns.0.iter().map(|rule| rule.pattern.due(slot, after));
        all.min().unwrap_or(END)
    }

    fn lasts(&self, slot: u32, after: Time) -> bool {
        self.patterns.0.iter().any(|rule| rule.pattern.lasts(slot, after))
    }

    fn catch_up(
        &mut self,
        slots: &[u32],
        due: Time,
        keys: &KeyTable,
        out: &mut Outputs,
    ) -> Result<(), OpError> {
        self.each(out, |pattern, out| pattern.catch_up(slots, due, keys, out))
    }

    fn take_changed(&mut self, out: &mut Vec<u32>) {
        self.patterns.0.iter_mut().for_each(|rule| rule.pattern.take_changed(out));
    }

    fn took_other(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    fn show(&mut self, slot: u32, keys: &KeyTable, visit: &mut dyn FnMut(&str, Shown)) {
        for rule in &mut self.patterns.0 {
            let name = &rule.name;
            rule.pattern
                .show(slot, keys, &mut |what, shown| visit(&format!("{name}: {what}"), shown));
        }
    }
}

impl Ordered for Rules {
    fn rows(&mut self, stretch: &Stretch<'_>, out: &mut Outputs) -> Result<(), OpError> {
        self.look();
        if !stretch.late.slots.is_empty() {
            self.late(&stretch.late, out)?;
        }
        if !stretch.on_time.slots.is_empty() {
            self.ordered(&stretch.on_time, out)?;
        }
        Ok(())
    }

    fn ordered(&mut self, keyed: &KeyedRows<'_>, out: &mut Outputs) -> Result<(), OpError> {
        self.ledger.rows_in += keyed.slots.len() as u64;
        self.each(out, |pattern, out| pattern.ordered(keyed, out))
    }

    fn late(&mut self, keyed: &KeyedRows<'_>, out: &mut Outputs) -> Result<(), OpError> {
        LatePort::take(self.late.as_ref(), keyed, &mut self.ledger, out);
        Ok(())
    }

    fn watermark(
        &mut self,
        watermark: Time,
        keys: &KeyTable,
        out: &mut Outputs,
    ) -> Result<(), OpError> {
        self.each(out, |pattern, out| pattern.watermark(watermark, keys, out))
    }

    fn ledger(&self) -> Ledger {
        let own = self.patterns.0.iter().map(|rule| rule.pattern.ledger().given_up);
        Ledger { given_up: self.ledger.given_up + own.sum::<u64>(), ..self.ledger }
    }
}
