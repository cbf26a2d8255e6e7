//! A key's partial matches as bytes.
//!
//! ```text
//! events: u32   then for each: time i64 | seq u64 | for each kept column: 0 (NULL)
//!                              | 1, slot u64 | 2, length u32, bytes
//! nodes: u32    then for each, every one behind its `prev`: prev u32 | event u32 | step u32
//! armed: i64    the deadline of the key's timer
//! partials: u32 then for each, in the heap's order: seq u64 | start i64 | node u32 | state u32
//! held: u32     as partials
//! ```
//! Events and nodes are named by their place here; no node is 0xFFFF_FFFF. Little-endian.

use super::store::{NO_DEADLINE, NONE, Partial, Store};
use crate::ground::slot;
use crate::ops::pattern::reader::Reader;
use crate::state::{Handle, LoadError};

impl Handle for Store {
    fn save(&self, slot: u32, out: &mut Vec<u8>) {
        if slot as usize >= self.slots() {
            return;
        }
        let partials = self.partials(slot);
        let held = self.held.get(&slot).map_or(&[][..], |held| &held[..]);
        if partials.is_empty() && held.is_empty() {
            return;
        }
        let mut nodes: Vec<u32> = Vec::new();
        for partial in partials.iter().chain(held) {
            let mut at = partial.node;
            while at != NONE {
                nodes.push(at);
                at = self.node(at).prev;
            }
        }
        nodes.sort_unstable();
        nodes.dedup();
        let mut events: Vec<u32> = nodes.iter().map(|&node| self.node(node).event).collect();
        events.sort_unstable();
        events.dedup();
        // A node's row is later than that of the node before it: by row, then, all stand behind.
        nodes.sort_by_key(|&node| self.seq(self.node(node).event));
        let mut places: Vec<(u32, u32)> = nodes.iter().copied().zip(0..).collect();
        places.sort_unstable();
        put_u32(out, events.len());
        for &event in &events {
            self.save_event(event, out);
        }
        put_u32(out, nodes.len());
        let place = |node: u32| match places.binary_search_by_key(&node, |&(node, _)| node) {
            Ok(at) => places[at].1 as usize,
            Err(_) => NONE as usize,
        };
        for &node in &nodes {
            let node = self.node(node);
            put_u32(out, place(node.prev));
            put_u32(out, events.partition_point(|&event| event < node.event));
            put_u32(out, node.step as usize);
        }
        out.extend_from_slice(&self.armed(slot).to_le_bytes());
        for list in [partials, held] {
            put_u32(out, list.len());
            for partial in list {
                out.extend_from_slice(&partial.seq.to_le_bytes());
                out.extend_from_slice(&partial.start.to_le_bytes());
                put_u32(out, place(partial.node));
                put_u32(out, partial.state as usize);
            }
        }
    }

    fn load(&mut self, slot: u32, bytes: &[u8]) -> Result<(), LoadError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.grow(slot as usize + 1);
        let loaded = self.read(slot, &mut Reader::new(bytes));
        loaded.ok_or_else(|| LoadError {
            handle: "partial matches".into(),
            reason: "the bytes are not what this version writes".into(),
        })
    }

    fn clear(&mut self, slot: u32) {
        self.forget(slot);
    }

    fn memory_bytes(&self) -> usize {
        self.bytes()
    }
}

impl Store {
    fn save_event(&self, event: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.time(event).to_le_bytes());
        out.extend_from_slice(&self.seq(event).to_le_bytes());
        for i in 0..self.layout.columns.len() {
            let value = self.value(event, i);
            if value.null {
                out.push(0);
            } else if self.layout.heaped[i] && slot::is_heaped(value.slot) {
                out.push(2);
                put_u32(out, value.heap.len());
                out.extend_from_slice(value.heap);
            } else {
                out.push(1);
                out.extend_from_slice(&value.slot.to_le_bytes());
            }
        }
    }

    fn read(&mut self, slot: u32, from: &mut Reader<'_>) -> Option<()> {
        let mut events = Vec::new();
        for _ in 0..from.u32()? {
            events.push(self.read_event(from)?);
        }
        let mut nodes: Vec<u32> = Vec::new();
        for _ in 0..from.u32()? {
            let (prev, event, step) = (from.u32()?, from.u32()?, from.u32()?);
            let prev = if prev == NONE { NONE } else { *nodes.get(prev as usize)? };
            nodes.push(self.chain(prev, *events.get(event as usize)?, step));
        }
        let armed = from.i64()?;
        let partials = self.read_partials(&nodes, from)?;
        let held = self.read_partials(&nodes, from)?;
        self.set_partials(slot, &partials);
        if !held.is_empty() {
            self.held.insert(slot, held);
        }
        for event in events {
            self.release_event(event);
        }
        if armed != NO_DEADLINE {
            self.arm(slot, armed);
        }
        from.is_empty().then_some(())
    }

    fn read_event(&mut self, from: &mut Reader<'_>) -> Option<u32> {
        let (time, seq) = (from.i64()?, from.u64()?);
        let event = self.restore_event(time, seq);
        for i in 0..self.layout.columns.len() {
            let value = match from.u8()? {
                0 => None,
                1 => Some((from.u64()?, &[][..])),
                2 => {
                    let len = from.u32()? as usize;
                    let text = from.take(len)?;
                    Some((slot::heaped(0, text.len()), text))
                }
                _ => return None,
            };
            self.set_value(event, i, value);
        }
        Some(event)
    }

    fn read_partials(&mut self, nodes: &[u32], from: &mut Reader<'_>) -> Option<Vec<Partial>> {
        let mut partials = Vec::new();
        for _ in 0..from.u32()? {
            let (seq, start) = (from.u64()?, from.i64()?);
            let (node, state) = (from.u32()?, from.u32()?);
            let node = if node == NONE { NONE } else { *nodes.get(node as usize)? };
            if node != NONE {
                self.lock(node);
            }
            partials.push(Partial { seq, start, node, state });
        }
        Some(partials)
    }
}

fn put_u32(out: &mut Vec<u8>, value: usize) {
    out.extend_from_slice(&(value as u32).to_le_bytes());
}
