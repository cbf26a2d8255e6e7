//! What a pattern knows of a key, for people: open partial matches with the rows that they took.

use super::nfa::store::{NO_DEADLINE, NONE, Partial, Store};
use super::strict::Strict;
use crate::ground::schema::Schema;
use crate::ground::time::Time;
use crate::state::shown::Shown;

/// What steps and columns are called.
pub struct Names {
    /// By number.
    pub steps: Vec<String>,
    /// The rows that the pattern reads.
    pub event: Schema,
}

impl Names {
    fn event(
        &self,
        step: Option<usize>,
        time: Option<Time>,
        columns: impl Iterator<Item = (usize, Option<u64>, Vec<u8>)>,
    ) -> Shown {
        let step = step.and_then(|step| self.steps.get(step)).cloned().unwrap_or_default();
        let mut fields = vec![("step".to_string(), Shown::Text(step))];
        fields.extend(time.map(|time| ("time".to_string(), Shown::Time(time))));
        let values = columns.map(|(column, value, heap)| {
            let column = &self.event.columns[column];
            (column.name.clone(), Shown::of(value, &heap, &column.data_type))
        });
        fields.push(("row".to_string(), Shown::Fields(values.collect())));
        Shown::Fields(fields)
    }

    /// `open`: partial matches; `held`: matches that wait for earlier ones; `pruned`: those that
    /// may still be put out as timed out; each from its first row on.
    pub fn partials(&self, store: &Store, slot: u32) -> Option<Shown> {
        let open = if (slot as usize) < store.slots() { store.partials(slot) } else { &[] };
        let (held, pruned) = (store.held.get(&slot), store.ghosts.get(&slot));
        let mut fields = Vec::new();
        for (name, list) in [("open", Some(open)), ("held", of(held)), ("pruned", of(pruned))] {
            let list = list.into_iter().flatten().filter(|partial| !partial.is_start());
            let shown: Vec<Shown> = list.map(|partial| self.partial(store, partial)).collect();
            if !shown.is_empty() {
                fields.push((name.to_string(), Shown::List(shown)));
            }
        }
        if fields.is_empty() {
            return None;
        }
        let armed = store.armed(slot);
        if armed != NO_DEADLINE {
            fields.push(("deadline".to_string(), Shown::Time(armed)));
        }
        Some(Shown::Fields(fields))
    }

    fn partial(&self, store: &Store, partial: &Partial) -> Shown {
        let (mut at, mut events) = (partial.node, Vec::new());
        while at != NONE {
            let node = store.node(at);
            let columns = store.layout.columns.iter().enumerate().map(|(i, &column)| {
                let value = store.value(node.event, i);
                (column, (!value.null).then_some(value.slot), value.heap.to_vec())
            });
            let time = store.time(node.event);
            events.push(self.event(Some(node.step as usize), Some(time), columns));
            at = node.prev;
        }
        events.reverse();
        Shown::fields([("start", Shown::Time(partial.start)), ("events", Shown::List(events))])
    }

    /// The key's last rows as far as they may begin a match, the longest prefix first.
    pub fn prefixes(&self, strict: &Strict, slot: u32) -> Option<Shown> {
        let live = strict.live(slot);
        let rows = (1..=32 - live.leading_zeros() as usize).rev();
        let shown = rows.filter(|rows| live >> (rows - 1) & 1 == 1).map(|rows| {
            let events = (0..rows).map(|position| {
                let row = strict.row(slot, rows - position);
                self.event(strict.step(position), row.time, row.values.into_iter())
            });
            Shown::fields([("events", Shown::List(events.collect()))])
        });
        let shown: Vec<Shown> = shown.collect();
        (!shown.is_empty()).then_some(Shown::List(shown))
    }
}

fn of(list: Option<&Vec<Partial>>) -> Option<&[Partial]> {
    list.map(Vec::as_slice)
}
