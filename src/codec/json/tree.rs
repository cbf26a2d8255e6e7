//! Where a schema's columns stand in an object: names to columns, and to nested objects.
//!
//! 1. Node 0 is the row's own object; a node's members are found by one probe of a small table.
//! 2. Several columns may read one place, and a place may be both a value and an object.

use crate::ground::scan::{Window, low_bytes, word};
use crate::ground::schema::Schema;

const NONE: u16 = u16::MAX;

/// What a name stands for.
#[derive(Clone, Copy)]
pub(super) enum Found {
    /// One column's value, the usual case.
    Column(usize),
    /// Something else: the member says what.
    Member(u16),
}

/// One name inside an object.
pub(super) struct Member {
    name: Box<[u8]>,
    first: u64,
    second: u64,
    /// Another member of the same place in the table.
    next: u16,
    /// The first of `columns`.
    column: usize,
    /// The columns that read this place.
    pub columns: Vec<usize>,
    /// The node of the object that other columns look for here.
    pub node: Option<usize>,
}

/// The names of one object.
#[derive(Default)]
pub(super) struct Node {
    members: Vec<Member>,
    table: Vec<u16>,
    multiplier: u64,
    shift: u32,
    /// The columns in and under this object, a bit each.
    pub under: Vec<u64>,
}

/// All places that a schema's columns are read from.
pub(super) struct Tree {
    nodes: Vec<Node>,
}

/// The first 16 bytes of a name, zero-padded.
#[inline(always)]
fn name_words(window: &Window, len: usize) -> (u64, u64) {
    (
        low_bytes(word(window, 0), len.min(8)),
        low_bytes(word(window, 8), len.saturating_sub(8).min(8)),
    )
}

#[inline(always)]
fn mix(first: u64, second: u64, len: usize) -> u64 {
    first ^ second.rotate_left(29) ^ (len as u64) << 56
}

impl Tree {
    /// The places of a schema's columns.
    pub(super) fn new(schema: &Schema) -> Tree {
        let words = schema.width().div_ceil(64);
        let fresh = || Node { under: vec![0; words], ..Node::default() };
        let mut tree = Tree { nodes: vec![fresh()] };
        for (column, about) in schema.columns.iter().enumerate() {
            let own = [about.name.clone()];
            let path = if about.path.is_empty() { &own[..] } else { &about.path[..] };
            let mut node = 0;
            for (depth, name) in path.iter().enumerate() {
                tree.nodes[node].under[column / 64] |= 1 << (column % 64);
                let member = tree.nodes[node].member(name.as_bytes());
                if depth + 1 == path.len() {
                    let member = &mut tree.nodes[node].members[member];
                    member.columns.push(column);
                    member.column = member.columns[0];
                } else if let Some(deeper) = tree.nodes[node].members[member].node {
                    node = deeper;
                } else {
                    let deeper = tree.nodes.len();
                    tree.nodes.push(fresh());
                    tree.nodes[node].members[member].node = Some(deeper);
                    node = deeper;
                }
            }
        }
        tree.nodes.iter_mut().for_each(Node::index);
        tree
    }

    /// A node by its number.
    #[inline(always)]
    pub(super) fn node(&self, node: usize) -> &Node {
        &self.nodes[node]
    }
}

impl Node {
    /// The member of a name while the tree is built.
    fn member(&mut self, name: &[u8]) -> usize {
        if let Some(known) = self.members.iter().position(|member| &*member.name == name) {
            return known;
        }
        let mut start = [0; 64];
        let shown = name.len().min(16);
        start[..shown].copy_from_slice(&name[..shown]);
        let (first, second) = name_words(&start, name.len());
        self.members.push(Member {
            name: name.into(),
            first,
            second,
            next: NONE,
            column: 0,
            columns: Vec::new(),
            node: None,
        });
        self.members.len() - 1
    }

    /// Builds the table: tries multipliers until few names share a place.
    fn index(&mut self) {
        let size = (self.members.len() * 4).next_power_of_two().max(4);
        self.shift = 64 - size.trailing_zeros();
        let mut best = (usize::MAX, 0);
        let mut multiplier = 0x9E37_79B9_7F4A_7C15u64;
        for _ in 0..200 {
            self.multiplier = multiplier;
            let mut places: Vec<usize> = self.members.iter().map(|m| self.place(m)).collect();
            places.sort_unstable();
            places.dedup();
            let shared = self.members.len() - places.len();
            best = best.min((shared, multiplier));
            if shared == 0 {
                break;
            }
            multiplier = multiplier.wrapping_mul(0xD134_2543_DE82_EF95) | 1;
        }
        self.multiplier = best.1;
        self.table = vec![NONE; size];
        for member in 0..self.members.len() {
            let place = self.place(&self.members[member]);
            self.members[member].next = self.table[place];
            self.table[place] = member as u16;
        }
    }

    fn place(&self, member: &Member) -> usize {
        let mixed = mix(member.first, member.second, member.name.len());
        (mixed.wrapping_mul(self.multiplier) >> self.shift) as usize
    }

    /// The member of the name that stands at the start of `window` and, whole, in `name`.
    #[inline(always)]
    pub(super) fn find(&self, window: &Window, name: &[u8]) -> Option<Found> {
        let (first, second) = name_words(window, name.len());
        let mixed = mix(first, second, name.len());
        let place = (mixed.wrapping_mul(self.multiplier) >> self.shift) as usize;
        let mut at = *self.table.get(place)?;
        while let Some(member) = self.members.get(usize::from(at)) {
            if member.first == first
                && member.second == second
                && member.name.len() == name.len()
                && (name.len() <= 16 || *member.name == *name)
            {
                return Some(member.found(at));
            }
            at = member.next;
        }
        None
    }

    /// The member of a name that does not stand in the text as it is (it had escapes).
    pub(super) fn find_plain(&self, name: &[u8]) -> Option<Found> {
        let found = self.members.iter().position(|member| *member.name == *name)?;
        Some(self.members[found].found(found as u16))
    }

    /// A member by the number that [`Found::Member`] gave.
    pub(super) fn member_at(&self, member: u16) -> &Member {
        &self.members[usize::from(member)]
    }
}

impl Member {
    #[inline(always)]
    fn found(&self, at: u16) -> Found {
        if self.node.is_none() && self.columns.len() == 1 {
            Found::Column(self.column)
        } else {
            Found::Member(at)
        }
    }
}
