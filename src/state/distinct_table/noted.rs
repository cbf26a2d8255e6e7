//! Where the pairs of each slice of slots are, while slices are saved: found by walking the table
//! in steps, and noted when they come in meanwhile.
//!
//! Places lie in blocks that are handed out one after the other, so that memory is touched for the
//! first time bit by bit: clearing what the lists of all slices begin with took 18 ms.
//!
//! 1. A place may be noted twice, and may have gone to another pair since.

/// Places of a block.
const PLACES: usize = 30;
/// Blocks that are asked for together.
const BLOCKS: usize = 512;
const NONE: u32 = u32::MAX;

/// Some places of a slice: two cache lines.
#[derive(Clone, Copy)]
struct Block {
    /// The block that was filled before it.
    before: u32,
    len: u32,
    places: [u32; PLACES],
}

/// See the module's head.
pub(super) struct Noted {
    slots: u32,
    /// log2 of the slots of a slice.
    shift: u32,
    blocks: Vec<Vec<Block>>,
    /// The last block of each slice.
    last: Vec<u32>,
    /// Slices before this one are saved.
    next: usize,
    /// Buckets that were walked.
    pub walked: usize,
}

impl Noted {
    /// For slots below `slots`, in slices of `grain`, a power of two.
    pub fn new(slots: u32, grain: u32) -> Noted {
        let shift = grain.next_power_of_two().trailing_zeros();
        let last = vec![NONE; (slots as usize).div_ceil(1 << shift)];
        Noted { slots, shift, blocks: Vec::new(), last, next: 0, walked: 0 }
    }

    /// Notes the place of a pair of a slot, if its slice is still to come.
    #[inline(never)]
    pub fn note(&mut self, slot: u32, place: usize) {
        let slice = (slot >> self.shift) as usize;
        if slot >= self.slots || slice < self.next {
            return;
        }
        let mut at = self.last[slice];
        if at == NONE || self.block(at).len as usize == PLACES {
            at = self.add(at);
            self.last[slice] = at;
        }
        let block = &mut self.blocks[at as usize / BLOCKS][at as usize % BLOCKS];
        block.places[block.len as usize] = place as u32;
        block.len += 1;
    }

    /// Takes the places of a slice out; those before it are done.
    pub fn take(&mut self, number: u32) -> Vec<u32> {
        self.next = number as usize + 1;
        let mut places = Vec::new();
        let Some(last) = self.last.get_mut(number as usize) else { return places };
        let mut at = std::mem::replace(last, NONE);
        while at != NONE {
            let block = self.block(at);
            places.extend_from_slice(&block.places[..block.len as usize]);
            at = block.before;
        }
        places
    }

    /// Forgets all places.
    pub fn forget(&mut self) {
        self.blocks.clear();
        self.last.fill(NONE);
    }

    fn block(&self, at: u32) -> &Block {
        &self.blocks[at as usize / BLOCKS][at as usize % BLOCKS]
    }

    fn add(&mut self, before: u32) -> u32 {
        if self.blocks.last().is_none_or(|blocks| blocks.len() == BLOCKS) {
            self.blocks.push(Vec::with_capacity(BLOCKS));
        }
        let number = (self.blocks.len() - 1) * BLOCKS;
        let Some(blocks) = self.blocks.last_mut() else { return NONE };
        blocks.push(Block { before, len: 0, places: [0; PLACES] });
        (number + blocks.len() - 1) as u32
    }
}
