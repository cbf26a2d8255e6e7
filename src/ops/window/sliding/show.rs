//! What windows know of a key, for people.

use super::Core;
use crate::ops::accumulate::show_distinct;
use crate::state::keys::KeyTable;
use crate::state::shown::Shown;

impl Core {
    /// `panes`: each pane's bounds and the columns of the `select` over its rows alone;
    /// `distinct_N`: each pane's different values.
    pub(super) fn show(&mut self, slot: u32, keys: &KeyTable, visit: &mut dyn FnMut(&str, Shown)) {
        let Core { frame, layout, panes, distinct, emitter, .. } = self;
        let distinct: Vec<_> =
            distinct.iter().map(|(call, set)| show_distinct(set, layout, *call, slot)).collect();
        let mut shown = Vec::new();
        for column in panes.columns().iter().filter(|column| column.touched.get(slot)) {
            let (pane, line) = (column.pane, (column, &panes.pool));
            let (start, end) = (frame.pane_start(pane), frame.pane_start(pane + 1));
            let counts: Vec<u64> = distinct.iter().map(|of| of.count_in(pane)).collect();
            let select = emitter.show(layout, line, &counts, (slot, keys), (start, end));
            shown.push(Shown::fields([
                ("start", Shown::Time(start)),
                ("end", Shown::Time(end)),
                ("select", select),
            ]));
        }
        if !shown.is_empty() {
            visit("panes", Shown::List(shown));
        }
        for (i, of) in distinct.into_iter().enumerate().filter(|(_, of)| !of.is_empty()) {
            let shown = of.panes().map(|(pane, [count, values])| {
                Shown::fields([("start", Shown::Time(frame.pane_start(pane))), count, values])
            });
            visit(&format!("distinct_{i}"), Shown::List(shown.collect()));
        }
    }
}
