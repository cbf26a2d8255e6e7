//! Where a schema's columns stand in an object: names to columns, and to nested objects.
//!
//! 1. Node 0 is the row's own object; a node's members are found by one probe of a small table.
//! 2. Several columns may read one place, and a place may be both a value and an object.

use crate::ground::scan::{Window, word};
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
    /// The columns that read this place.
    pub columns: Vec<usize>,
    /// The node of the object that other columns look for here.
    pub node: Option<usize>,
}

/// A place of the table: the first 16 bytes of a name, and whose it is.
#[derive(Clone, Copy)]
struct Place {
    words: (u64, u64),
    /// The name is longer than that.
    long: bool,
    found: Found,
    member: u16,
    /// Another place of the same hash.
    next: u16,
}

/// The names of one object.
#[derive(Default)]
pub(super) struct Node {
    members: Vec<Member>,
    /// The first `1 << (64 - shift)` places are by hash, those behind them by `next`.
    table: Vec<Place>,
    multiplier: u64,
    shift: u32,
    /// The columns in and under this object, a bit each.
    pub under: Vec<u64>,
}

/// All places that a schema's columns are read from.
pub(super) struct Tree {
    nodes: Vec<Node>,
}

/// For each length up to 16, the bytes of two words that belong to a name so long.
static MASKS: [(u64, u64); 17] = {
    let mut masks = [(!0, !0); 17];
    let mut len = 0;
    while len < 16 {
        masks[len] =
            if len < 8 { ((1 << (8 * len)) - 1, 0) } else { (!0, (1 << (8 * (len - 8))) - 1) };
        len += 1;
    }
    masks
};

/// The first 16 bytes of a name, zero-padded. No name has a zero byte of its own in plain text.
#[inline(always)]
fn name_words(window: &Window, len: usize) -> (u64, u64) {
    let mask = MASKS[len.min(16)];
    (word(window, 0) & mask.0, word(window, 8) & mask.1)
}

#[inline(always)]
fn hash(words: (u64, u64), multiplier: u64, shift: u32) -> usize {
    ((words.0 ^ words.1.rotate_left(29)).wrapping_mul(multiplier) >> shift) as usize
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
                    tree.nodes[node].members[member].columns.push(column);
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
        let known = self.members.iter().position(|member| *member.name == *name);
        known.unwrap_or_else(|| {
            self.members.push(Member { name: name.into(), columns: Vec::new(), node: None });
            self.members.len() - 1
        })
    }

    /// Builds the table: tries multipliers until few names share a place.
    fn index(&mut self) {
        let size = (self.members.len() * 4).next_power_of_two().max(4);
        self.shift = 64 - size.trailing_zeros();
        let names: Vec<(u64, u64)> = self.members.iter().map(Member::words).collect();
        let mut best = (usize::MAX, 0);
        let mut multiplier = 0x9E37_79B9_7F4A_7C15u64;
        for _ in 0..200 {
            let place = |&words: &(u64, u64)| hash(words, multiplier, self.shift);
            let mut places: Vec<usize> = names.iter().map(place).collect();
            places.sort_unstable();
            places.dedup();
            best = best.min((self.members.len() - places.len(), multiplier));
            if best.0 == 0 {
                break;
            }
            multiplier = multiplier.wrapping_mul(0xD134_2543_DE82_EF95) | 1;
        }
        self.multiplier = best.1;
        let empty = Place {
            words: (0, 0),
            long: false,
            found: Found::Member(NONE),
            member: NONE,
            next: NONE,
        };
        self.table = vec![empty; size];
        for (i, member) in self.members.iter().enumerate() {
            let at = hash(names[i], self.multiplier, self.shift);
            let mut place = Place {
                words: names[i],
                long: member.name.len() > 16,
                found: member.found(i),
                member: i as u16,
                next: NONE,
            };
            if self.table[at].member != NONE {
                place.next = self.table.len() as u16;
                self.table.push(self.table[at]);
            }
            self.table[at] = place;
        }
    }

    /// The member of the name of `len` bytes at the start of `window` and of `rest`.
    #[inline(always)]
    pub(super) fn find(&self, window: &Window, rest: &[u8], len: usize) -> Option<Found> {
        let words = name_words(window, len);
        let mut place = self.table.get(hash(words, self.multiplier, self.shift))?;
        while place.words != words
            || place.long != (len > 16)
            || place.long && !self.is_named(place, rest, len)
        {
            place = self.table.get(usize::from(place.next))?;
        }
        // The empty name's words are those of an empty place.
        if place.member == NONE { None } else { Some(place.found) }
    }

    fn is_named(&self, place: &Place, rest: &[u8], len: usize) -> bool {
        let name = self.members.get(usize::from(place.member)).map(|member| &*member.name);
        name.is_some_and(|name| name.len() == len && rest.starts_with(name))
    }

    /// The member of a name that does not stand in the text as it is (it had escapes).
    pub(super) fn find_plain(&self, name: &[u8]) -> Option<Found> {
        let found = self.members.iter().position(|member| *member.name == *name)?;
        Some(self.members[found].found(found))
    }

    /// A member by the number that [`Found::Member`] gave.
    pub(super) fn member_at(&self, member: u16) -> &Member {
        &self.members[usize::from(member)]
    }
}

impl Member {
    /// The first 16 bytes of the name.
    fn words(&self) -> (u64, u64) {
        let mut start = [0; 64];
        let shown = self.name.len().min(16);
        start[..shown].copy_from_slice(&self.name[..shown]);
        name_words(&start, self.name.len())
    }

    fn found(&self, at: usize) -> Found {
        match self.columns[..] {
            [column] if self.node.is_none() => Found::Column(column),
            _ => Found::Member(at as u16),
        }
    }
}
