//! Where a memtable's records lie.
//!
//! ```text
//! record = key_len: u32 | value_len: u32 | room: u32 | mark: u32 | seq: u64 | expiry_ms: u64
//!        | key | value, and 0 up to room
//! ```
//!
//! 1. Records never move, and start at a multiple of 8 bytes of their chunk.
//! 2. A record of more than a quarter of a chunk has a chunk of its own, at whose start it lies.
//! 3. Of a record that has moved the `seq` says where to.

use crate::ground::prefetch;
use crate::store::entry::{Entry, Kind};

const HEAD: usize = 32;
const VALUE: u32 = 0;
const TOMBSTONE: u32 = 1;
const MOVED: u32 = 2;
/// What records start at multiples of, bytes.
const GRAIN: usize = 8;
const LINE: usize = 64;

/// Where a record lies: chunk, and grain in it; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot(u32);

impl Spot {
    /// The spot of a number, which is not 0.
    #[inline]
    pub(super) fn of(number: u32) -> Spot {
        Spot(number)
    }

    /// Its number.
    #[inline]
    pub(super) fn number(self) -> u32 {
        self.0
    }
}

/// Records, one behind the other.
pub(super) struct Arena {
    chunks: Vec<Vec<u8>>,
    /// The chunk that is being filled; larger records have chunks of their own.
    open: usize,
    /// Bytes of all chunks that are filled.
    filled: usize,
    chunk_bytes: usize,
    /// Bits of a spot that say which grain of a chunk.
    grain_bits: u32,
}

impl Arena {
    /// An empty one of chunks of so many bytes, a power of two.
    pub(super) fn new(chunk_bytes: usize) -> Arena {
        assert!(chunk_bytes.is_power_of_two() && chunk_bytes >= LINE * GRAIN);
        let grain_bits = (chunk_bytes / GRAIN).ilog2();
        Arena { chunks: Vec::new(), open: 0, filled: 0, chunk_bytes, grain_bits }
    }

    /// Bytes of memory held: what was filled, and the list of chunks.
    #[inline]
    pub(super) fn memory_bytes(&self) -> usize {
        self.filled + self.chunks.capacity() * size_of::<Vec<u8>>()
    }

    /// Adds a record whose value has so much room.
    pub(super) fn append(&mut self, entry: &Entry<'_>, room: usize) -> Spot {
        let bytes = (HEAD + entry.key.len() + room).next_multiple_of(GRAIN);
        let chunk = self.chunk_for(bytes);
        let memory = &mut self.chunks[chunk];
        let at = memory.len();
        memory.extend_from_slice(&(entry.key.len() as u32).to_le_bytes());
        memory.extend_from_slice(&[0; 4]);
        memory.extend_from_slice(&(room as u32).to_le_bytes());
        memory.extend_from_slice(&[0; 20]);
        memory.extend_from_slice(entry.key);
        memory.resize(at + bytes, 0);
        self.filled += bytes;
        // Chunks are counted from 1: no spot is 0.
        let number = (chunk as u64 + 1) << self.grain_bits | (at / GRAIN) as u64;
        let number = u32::try_from(number).expect("limits keep a memtable below 2^32 grains");
        self.replace(Spot(number), entry);
        Spot(number)
    }

    /// The chunk that takes a record of so many bytes (invariant 2).
    fn chunk_for(&mut self, bytes: usize) -> usize {
        let is_large = bytes > self.chunk_bytes / 4;
        let has_room = |chunk: &Vec<u8>| chunk.capacity() - chunk.len() >= bytes;
        if !is_large && self.chunks.get(self.open).is_some_and(has_room) {
            return self.open;
        }
        let size = if is_large { bytes } else { self.chunk_bytes };
        let mut chunk = Vec::with_capacity(size);
        if !is_large {
            prefetch::huge(chunk.spare_capacity_mut());
            self.open = self.chunks.len();
        }
        self.chunks.push(chunk);
        self.chunks.len() - 1
    }

    /// Sets what a record says of its key.
    pub(super) fn replace(&mut self, spot: Spot, entry: &Entry<'_>) {
        let record = self.bytes_mut(spot);
        let mark = if entry.kind == Kind::Tombstone { TOMBSTONE } else { VALUE };
        record[4..8].copy_from_slice(&(entry.value.len() as u32).to_le_bytes());
        record[12..16].copy_from_slice(&mark.to_le_bytes());
        record[16..24].copy_from_slice(&entry.seq.to_le_bytes());
        record[24..32].copy_from_slice(&entry.expiry_ms.to_le_bytes());
        let value_at = HEAD + entry.key.len();
        record[value_at..value_at + entry.value.len()].copy_from_slice(entry.value);
    }

    /// Lets `change` change a record's value, if it has one at that moment.
    #[inline]
    pub(super) fn update(
        &mut self,
        spot: Spot,
        seq: u64,
        now_ms: u64,
        change: impl FnOnce(&mut [u8]),
    ) -> bool {
        let record = self.bytes_mut(spot);
        let (head, rest) = record.split_at_mut(HEAD);
        if half(head, 12) != VALUE || word(head, 24) <= now_ms {
            return false;
        }
        head[16..24].copy_from_slice(&seq.to_le_bytes());
        let value_at = half(head, 0) as usize;
        change(&mut rest[value_at..value_at + half(head, 4) as usize]);
        true
    }

    /// Marks a record as moved.
    pub(super) fn forward(&mut self, spot: Spot, to: Spot) {
        let record = self.bytes_mut(spot);
        record[12..16].copy_from_slice(&MOVED.to_le_bytes());
        record[16..24].copy_from_slice(&u64::from(to.0).to_le_bytes());
    }

    /// Bytes that a record's value may have.
    #[inline]
    pub(super) fn room(&self, spot: Spot) -> usize {
        half(self.bytes(spot), 8) as usize
    }

    /// A record's key.
    #[inline]
    pub(super) fn key(&self, spot: Spot) -> &[u8] {
        let record = self.bytes(spot);
        &record[HEAD..HEAD + half(record, 0) as usize]
    }

    /// Whether a record is of this key.
    #[inline]
    pub(super) fn has_key(&self, spot: Spot, key: &[u8]) -> bool {
        self.key(spot) == key
    }

    /// What a record says.
    #[inline]
    pub(super) fn entry(&self, spot: Spot) -> Entry<'_> {
        let (head, rest) = self.bytes(spot).split_at(HEAD);
        let (key, rest) = rest.split_at(half(head, 0) as usize);
        let kind = if half(head, 12) == TOMBSTONE { Kind::Tombstone } else { Kind::Value };
        let value = &rest[..half(head, 4) as usize];
        Entry { key, value, seq: word(head, 16), kind, expiry_ms: word(head, 24) }
    }

    /// The entry of a key one of whose records lies here.
    pub(super) fn latest(&self, mut spot: Spot) -> Entry<'_> {
        loop {
            let record = self.bytes(spot);
            if half(record, 12) != MOVED {
                return self.entry(spot);
            }
            spot = Spot(word(record, 16) as u32);
        }
    }

    /// Asks the processor for the first three lines of a record.
    #[inline]
    pub(super) fn prefetch(&self, spot: Spot) {
        let (chunk, at) = self.place(spot);
        let Some(chunk) = self.chunks.get(chunk) else { return };
        for line in 0..3 {
            prefetch::read(chunk, at + line * LINE);
        }
    }

    #[inline]
    fn place(&self, spot: Spot) -> (usize, usize) {
        let grain = spot.0 & ((1 << self.grain_bits) - 1);
        ((spot.0 >> self.grain_bits) as usize - 1, grain as usize * GRAIN)
    }

    #[inline]
    fn bytes(&self, spot: Spot) -> &[u8] {
        let (chunk, at) = self.place(spot);
        &self.chunks[chunk][at..]
    }

    #[inline]
    fn bytes_mut(&mut self, spot: Spot) -> &mut [u8] {
        let (chunk, at) = self.place(spot);
        &mut self.chunks[chunk][at..]
    }
}

#[inline]
fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from(half(bytes, at)) | u64::from(half(bytes, at + 4)) << 32
}
