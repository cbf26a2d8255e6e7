//! What is known of every key: its open partial matches, and the rows that they have taken.
//!
//! ```text
//! line (one a key, 64 bytes)   up to 2 partial matches inside, more in a block of the arena
//!   partial -> node -> node -> node        a match's rows from the last to the first;
//!                |       |       |         partial matches that branched share what came before
//!              event   event   event       a taken row: time, number, the columns that are read
//! ```
//!
//! 1. An event is kept once, however many nodes name it; nodes and events are counted and freed
//!    with the last partial match that needs them.
//! 2. A key without open partial matches has an empty line; else the line holds the start state's
//!    partial match too, in the order of [`super::heap`].
//! 3. Numbers of rows ([`Partial::seq`]) rise with the order in which rows are handled.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::ground::batch::RecordBatch;
use crate::ground::prefetch;
use crate::ground::schema::Schema;
use crate::ground::slot;
use crate::ground::time::Time;
use crate::ops::pattern::texts::Texts;

/// No node.
pub const NONE: u32 = u32::MAX;
/// No deadline.
pub const NO_DEADLINE: Time = Time::MAX;

/// A partial match: where it is in the automaton, and what it has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Number of its first row; the start state's is the largest there is.
    pub seq: u64,
    /// Time of its first row, ms.
    pub start: Time,
    /// Its last row's node; [`NONE`] for the start state's.
    pub node: u32,
    pub state: u32,
}

impl Partial {
    /// The start state's.
    pub const fn start(state: u32) -> Partial {
        Partial { seq: u64::MAX, start: Time::MAX, node: NONE, state }
    }

    /// Whether it is the start state's.
    #[inline(always)]
    pub fn is_start(&self) -> bool {
        self.node == NONE
    }
}

const INLINE: usize = 2;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line {
    count: u32,
    block: u32,
    /// The deadline for which a timer was set.
    armed: Time,
    inline: [Partial; INLINE],
}

const EMPTY: Line =
    Line { count: 0, block: NONE, armed: NO_DEADLINE, inline: [Partial::start(0); INLINE] };

/// A row in a match, and the one before it.
#[derive(Clone, Copy)]
pub struct Node {
    pub prev: u32,
    pub event: u32,
    pub step: u32,
    refs: u32,
}

/// Which columns of the input are kept of a taken row.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Columns of the input, rising.
    pub columns: Vec<usize>,
    /// Whether each kept column may have bytes in a heap.
    pub heaped: Vec<bool>,
    null_words: usize,
}

const TIME: usize = 0;
const SEQ: usize = 1;
const REFS: usize = 2;
const NULLS: usize = 3;

impl Layout {
    /// Keeps these columns (any order, doubles allowed) of rows of `schema`.
    pub fn new(mut columns: Vec<usize>, schema: &Schema) -> Layout {
        columns.sort_unstable();
        columns.dedup();
        Layout {
            heaped: columns
                .iter()
                .map(|&column| schema.columns[column].data_type.is_heaped())
                .collect(),
            null_words: columns.len().div_ceil(64),
            columns,
        }
    }

    /// The place of an input column among those kept.
    pub fn place(&self, column: usize) -> Option<usize> {
        self.columns.binary_search(&column).ok()
    }

    fn stride(&self) -> usize {
        NULLS + self.null_words + self.columns.len()
    }
}

/// One kept value.
#[derive(Clone, Copy)]
pub struct Kept<'a> {
    pub slot: u64,
    pub null: bool,
    pub heap: &'a [u8],
}

/// See the module's head.
pub struct Store {
    lines: Vec<Line>,
    blocks: Vec<Partial>,
    free_blocks: Vec<Vec<u32>>,
    nodes: Vec<Node>,
    free_node: u32,
    events: Vec<u64>,
    free_event: u32,
    texts: Texts,
    pub(in crate::ops::pattern) layout: Layout,
    stride: usize,
    /// Matches that wait for earlier partial matches, by key; see [`super::run`].
    pub(in crate::ops::pattern) held: BTreeMap<u32, Vec<Partial>>,
    /// Partial matches that were pruned but may still be reported as timed out; see
    /// [`super::run`].
    pub(in crate::ops::pattern) ghosts: BTreeMap<u32, Vec<Partial>>,
    pub(super) next_seq: u64,
    timers: BinaryHeap<Reverse<(Time, u32)>>,
    /// Slots whose timers were met, for who keeps account of what changed.
    met: Vec<u32>,
}

impl Store {
    /// An empty store.
    pub fn new(layout: Layout) -> Store {
        Store {
            lines: Vec::new(),
            blocks: Vec::new(),
            free_blocks: vec![Vec::new(); 32],
            nodes: Vec::new(),
            free_node: NONE,
            events: Vec::new(),
            free_event: NONE,
            texts: Texts::default(),
            stride: layout.stride(),
            layout,
            held: BTreeMap::new(),
            ghosts: BTreeMap::new(),
            next_seq: 0,
            timers: BinaryHeap::new(),
            met: Vec::new(),
        }
    }

    /// Makes room for slots below `keys`.
    pub fn grow(&mut self, keys: usize) {
        if keys > self.lines.len() {
            let room = keys.next_power_of_two().max(1024);
            self.lines.reserve_exact(room - self.lines.len());
            self.lines.resize(room, EMPTY);
            prefetch::huge(&mut self.lines);
        }
    }

    /// Slots for which there is room.
    pub fn slots(&self) -> usize {
        self.lines.len()
    }

    /// Asks for a key's line ahead of its use.
    #[inline(always)]
    pub fn prefetch(&self, slot: u32) {
        prefetch::read(&self.lines, slot as usize);
    }

    /// Partial matches of a key; empty, or with the start state's among them.
    #[inline(always)]
    pub fn partials(&self, slot: u32) -> &[Partial] {
        let line = &self.lines[slot as usize];
        let count = line.count as usize;
        if count <= INLINE {
            &line.inline[..count]
        } else {
            let at = line.block as usize;
            &self.blocks[at..at + count]
        }
    }

    /// Replaces a key's partial matches. Only the start state's alone is the same as none.
    pub fn set_partials(&mut self, slot: u32, partials: &[Partial]) {
        let partials = if partials.iter().all(Partial::is_start) { &[] } else { partials };
        let line = &mut self.lines[slot as usize];
        let (old, new) = (class(line.count as usize), class(partials.len()));
        if old != new {
            if let Some(class) = old {
                self.free_blocks[class].push(line.block);
                line.block = NONE;
            }
            if let Some(class) = new {
                line.block = self.free_blocks[class].pop().unwrap_or_else(|| {
                    let at = self.blocks.len() as u32;
                    let len = self.blocks.len() + (1 << class);
                    self.blocks.resize(len, Partial::start(0));
                    at
                });
            }
        }
        line.count = partials.len() as u32;
        if new.is_some() {
            let at = line.block as usize;
            self.blocks[at..at + partials.len()].copy_from_slice(partials);
        } else {
            line.inline[..partials.len()].copy_from_slice(partials);
        }
    }

    /// Sets a timer for a key unless it has one that comes first.
    #[inline(always)]
    pub fn arm(&mut self, slot: u32, deadline: Time) {
        let line = &mut self.lines[slot as usize];
        if deadline < line.armed {
            line.armed = deadline;
            self.timers.push(Reverse((deadline, slot)));
        }
    }

    /// The deadline for which the key's timer is set; [`NO_DEADLINE`] if there is none.
    pub fn armed(&self, slot: u32) -> Time {
        self.lines.get(slot as usize).map_or(NO_DEADLINE, |line| line.armed)
    }

    /// Appends the slots whose deadlines were met since the last call.
    pub fn take_met(&mut self, out: &mut Vec<u32>) {
        out.append(&mut self.met);
    }

    /// The earliest timer's deadline.
    #[inline(always)]
    pub fn next_deadline(&self) -> Time {
        self.timers.peek().map_or(NO_DEADLINE, |Reverse((at, _))| *at)
    }

    /// Takes the earliest timer with a deadline up to `time`. The key may have nothing due.
    pub fn due(&mut self, time: Time) -> Option<(Time, u32)> {
        while let Some(&Reverse((at, slot))) = self.timers.peek() {
            if at > time {
                return None;
            }
            self.timers.pop();
            let line = &mut self.lines[slot as usize];
            if line.armed == at {
                line.armed = NO_DEADLINE;
                self.met.push(slot);
                return Some((at, slot));
            }
        }
        None
    }

    /// Stops a key's timer if its deadline is at or before `time`; the deadline.
    pub fn disarm(&mut self, slot: u32, time: Time) -> Option<Time> {
        let line = self.lines.get_mut(slot as usize)?;
        let at = line.armed;
        if at > time || at == NO_DEADLINE {
            return None;
        }
        line.armed = NO_DEADLINE;
        Some(at)
    }

    /// Keeps a row. It has one reference, the caller's.
    pub fn keep(&mut self, batch: &RecordBatch, row: usize, time: Time) -> u32 {
        let seq = self.next_seq;
        self.next_seq += 1;
        let event = self.blank_event(time, seq);
        let at = event as usize * self.stride;
        for i in 0..self.layout.columns.len() {
            let column = self.layout.columns[i];
            if batch.is_null(row, column) {
                self.events[at + NULLS + i / 64] |= 1 << (i % 64);
                continue;
            }
            let mut value = batch.row(row)[column];
            if self.layout.heaped[i] && slot::is_heaped(value) {
                value = self.texts.put(slot::bytes(&value, batch.heap()));
            }
            self.events[at + NULLS + self.layout.null_words + i] = value;
        }
        event
    }

    fn blank_event(&mut self, time: Time, seq: u64) -> u32 {
        let event = if self.free_event == NONE {
            let event = self.events.len() / self.stride;
            self.events.resize(self.events.len() + self.stride, 0);
            event as u32
        } else {
            let event = self.free_event;
            self.free_event = self.events[event as usize * self.stride] as u32;
            event
        };
        let at = event as usize * self.stride;
        self.events[at..at + self.stride].fill(0);
        self.events[at + TIME] = time as u64;
        self.events[at + SEQ] = seq;
        self.events[at + REFS] = 1;
        event
    }

    /// Gives back a reference to a row.
    pub fn release_event(&mut self, event: u32) {
        let at = event as usize * self.stride;
        self.events[at + REFS] -= 1;
        if self.events[at + REFS] > 0 {
            return;
        }
        for i in 0..self.layout.columns.len() {
            let value = self.events[at + NULLS + self.layout.null_words + i];
            if self.layout.heaped[i] && slot::is_heaped(value) {
                self.texts.free(value);
            }
        }
        self.events[at] = u64::from(self.free_event);
        self.free_event = event;
    }

    /// A node behind `prev`; nobody holds it yet.
    pub fn chain(&mut self, prev: u32, event: u32, step: u32) -> u32 {
        self.events[event as usize * self.stride + REFS] += 1;
        if prev != NONE {
            self.nodes[prev as usize].refs += 1;
        }
        let node = Node { prev, event, step, refs: 0 };
        if self.free_node == NONE {
            self.nodes.push(node);
            self.nodes.len() as u32 - 1
        } else {
            let at = self.free_node;
            self.free_node = self.nodes[at as usize].prev;
            self.nodes[at as usize] = node;
            at
        }
    }

    /// One holder more.
    #[inline(always)]
    pub fn lock(&mut self, node: u32) {
        self.nodes[node as usize].refs += 1;
    }

    /// One holder less; with the last the node goes, and so on down the chain.
    pub fn release(&mut self, mut node: u32) {
        while node != NONE {
            let it = &mut self.nodes[node as usize];
            it.refs -= 1;
            if it.refs > 0 {
                return;
            }
            let (prev, event) = (it.prev, it.event);
            it.prev = self.free_node;
            self.free_node = node;
            self.release_event(event);
            node = prev;
        }
    }

    /// A node.
    #[inline(always)]
    pub fn node(&self, node: u32) -> Node {
        self.nodes[node as usize]
    }

    /// Time of a kept row, ms.
    #[inline(always)]
    pub fn time(&self, event: u32) -> Time {
        self.events[event as usize * self.stride + TIME] as Time
    }

    /// Number of a kept row.
    #[inline(always)]
    pub fn seq(&self, event: u32) -> u64 {
        self.events[event as usize * self.stride + SEQ]
    }

    /// A kept row's value at place `i` of the layout.
    #[inline(always)]
    pub fn value(&self, event: u32, i: usize) -> Kept<'_> {
        let at = event as usize * self.stride + NULLS;
        let null = self.events[at + i / 64] >> (i % 64) & 1 == 1;
        let stored = self.events[at + self.layout.null_words + i];
        if self.layout.heaped[i] && slot::is_heaped(stored) {
            let heap = self.texts.get(stored);
            let slot = slot::heaped(0, heap.len());
            return Kept { slot, null, heap };
        }
        Kept { slot: stored, null, heap: &[] }
    }

    /// Sets a value of an event made by [`Store::restore_event`].
    pub(super) fn set_value(&mut self, event: u32, i: usize, value: Option<(u64, &[u8])>) {
        let at = event as usize * self.stride + NULLS;
        match value {
            None => self.events[at + i / 64] |= 1 << (i % 64),
            Some((value, text)) => {
                let heaped = self.layout.heaped[i] && slot::is_heaped(value);
                let value = if heaped { self.texts.put(text) } else { value };
                self.events[at + self.layout.null_words + i] = value;
            }
        }
    }

    /// An event as it was saved; numbers given later are above its own.
    pub(super) fn restore_event(&mut self, time: Time, seq: u64) -> u32 {
        self.next_seq = self.next_seq.max(seq + 1);
        self.blank_event(time, seq)
    }

    /// Forgets a key.
    pub(super) fn forget(&mut self, slot: u32) {
        if slot as usize >= self.lines.len() {
            return;
        }
        for i in 0..self.partials(slot).len() {
            let node = self.partials(slot)[i].node;
            self.release(node);
        }
        self.set_partials(slot, &[]);
        self.lines[slot as usize].armed = NO_DEADLINE;
        for partial in self.held.remove(&slot).unwrap_or_default() {
            self.release(partial.node);
        }
        self.forget_ghosts(slot);
    }

    /// Forgets a key's ghosts.
    #[inline(always)]
    pub(super) fn forget_ghosts(&mut self, slot: u32) {
        if !self.ghosts.is_empty() {
            for ghost in self.ghosts.remove(&slot).unwrap_or_default() {
                self.release(ghost.node);
            }
        }
    }

    /// Kept rows and nodes that are in use: (rows, nodes). O(what was ever in use); for tests.
    pub fn in_use(&self) -> (usize, usize) {
        let (mut events, mut nodes) = (self.events.len() / self.stride, self.nodes.len());
        let mut free = self.free_event;
        while free != NONE {
            events -= 1;
            free = self.events[free as usize * self.stride] as u32;
        }
        let mut free = self.free_node;
        while free != NONE {
            nodes -= 1;
            free = self.nodes[free as usize].prev;
        }
        (events, nodes)
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        let lists = self.held.values().chain(self.ghosts.values());
        let held: usize = lists.map(|list| list.capacity()).sum();
        self.lines.capacity() * size_of::<Line>()
            + (self.blocks.capacity() + held) * size_of::<Partial>()
            + self.nodes.capacity() * size_of::<Node>()
            + self.events.capacity() * 8
            + self.texts.bytes()
            + self.timers.capacity() * size_of::<(Time, u32)>()
    }
}

/// The size class of a block for so many partial matches: 2^class; `None` if they go inside.
#[inline(always)]
fn class(count: usize) -> Option<usize> {
    (count > INLINE).then(|| count.next_power_of_two().trailing_zeros() as usize)
}
