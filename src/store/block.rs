//! Blocks: what a file of the store is made of, and entries in them.
//!
//! ```text
//! block   = sum: u64 | packed_len: u32 | raw_len: u32 | kind: u8 | codec: u8 | 6 bytes of 0
//!         | packed (as the codec says) | 0-padding to a multiple of 4096
//! sum     = xxh3-64 of all behind it, padding too, seeded with the file's id and the position
//!
//! raw, of entries:
//! raw     = entry* | start of each entry: u32 | entries: u32
//! entry   = flags: u8 | key_len: u16 | value_len: u32 | seq: u64 | [expiry_ms: u64] | key | value
//! flags   = 1: a tombstone, 2: expiry_ms is there
//! ```
//!
//! 1. A block that is not at its place in its file, as a whole, bit for bit, is an error.
//! 2. Entries of a [`Block`] were checked to lie inside it, one behind the other, when it was made.
//! 3. Entries are in order of their keys, and no key is there twice.

use std::cmp::Ordering;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::codec::{Codec, Packer, unpack, unpack_into};
use super::disk::PAGE;
use super::entry::{Entry, Kind, NEVER};
use crate::ground::limits::{STORE_BLOCK_BYTES_MAX, STORE_KEY_BYTES_MAX};

/// Bytes in front of a block's packed bytes.
pub const HEAD: usize = 24;
const TOMBSTONE: u8 = 1;
const EXPIRES: u8 = 2;
/// Bytes of an entry in front of its expiry or key.
const ENTRY_HEAD: usize = 15;

/// What is in a block; the numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockKind {
    Data = 1,
    /// Where blocks of entries lie, by key.
    Index = 2,
    /// Where blocks of the index lie, by key.
    Top = 3,
    Filter = 4,
    /// First and last key of a table.
    Bounds = 5,
    Manifest = 6,
}

/// The file and the place of a block: a block of elsewhere is not taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub file_id: u64,
    /// Byte of the file.
    pub at: u64,
}

impl Place {
    fn seed(self) -> u64 {
        self.file_id.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ self.at
    }
}

/// Appends a block to `out`, compressed if that saves a page. Returns the bytes that it packs
/// into, compressed or not.
pub fn seal(
    kind: BlockKind,
    raw: &[u8],
    place: Place,
    packer: &mut Packer,
    out: &mut Vec<u8>,
) -> usize {
    assert!(raw.len() <= STORE_BLOCK_BYTES_MAX, "builders keep blocks below the limit");
    let pages = |len: usize| (HEAD + len).div_ceil(PAGE);
    let packed = packer.pack(raw);
    let measured = packed.map_or(raw.len(), |(_, packed)| packed.len());
    let packed = packed.filter(|(_, packed)| pages(packed.len()) < pages(raw.len()));
    let (codec, packed) = packed.unwrap_or((Codec::None, raw));
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&(packed.len() as u32).to_le_bytes());
    out.extend_from_slice(&(raw.len() as u32).to_le_bytes());
    out.extend_from_slice(&[kind as u8, codec as u8, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(packed);
    out.resize(start + pages(packed.len()) * PAGE, 0);
    let sum = xxh3_64_with_seed(&out[start + 8..], place.seed());
    out[start..start + 8].copy_from_slice(&sum.to_le_bytes());
    measured
}

/// Bytes of the block that starts with these, padding included: not checked, but at most
/// [`STORE_BLOCK_BYTES_MAX`] and some. `None` if they cannot start a block.
pub fn sealed_len(head: &[u8]) -> Option<usize> {
    let packed_len = half(head, 8)? as usize;
    (packed_len <= STORE_BLOCK_BYTES_MAX).then(|| (HEAD + packed_len).next_multiple_of(PAGE))
}

/// What a block holds.
///
/// # Errors
/// What is wrong with it (invariant 1).
pub fn unseal(kind: BlockKind, sealed: &[u8], place: Place) -> Result<Vec<u8>, &'static str> {
    let (codec, packed, raw_len) = open(kind, sealed, place)?;
    unpack(codec, packed, raw_len).ok_or(UNPACKABLE)
}

/// As [`unseal`], but what is packed is unpacked into `room`, which grows as needed and is never
/// cleared: for blocks of which little is wanted.
///
/// # Errors
/// As [`unseal`].
pub fn unseal_in<'a>(
    kind: BlockKind,
    sealed: &'a [u8],
    place: Place,
    room: &'a mut Vec<u8>,
) -> Result<&'a [u8], &'static str> {
    let (codec, packed, raw_len) = open(kind, sealed, place)?;
    if codec == Codec::None {
        return if packed.len() == raw_len { Ok(packed) } else { Err(UNPACKABLE) };
    }
    if room.len() < raw_len {
        room.resize(raw_len, 0);
    }
    let raw = &mut room[..raw_len];
    unpack_into(codec, packed, raw).ok_or(UNPACKABLE)?;
    Ok(raw)
}

const UNPACKABLE: &str = "a block cannot be decompressed";

/// The packed bytes of a block, which is whole, and how many they were.
fn open(
    kind: BlockKind,
    sealed: &[u8],
    place: Place,
) -> Result<(Codec, &[u8], usize), &'static str> {
    if sealed_len(sealed) != Some(sealed.len()) {
        return Err("no block of this length starts here");
    }
    if word(sealed, 0) != Some(xxh3_64_with_seed(&sealed[8..], place.seed())) {
        return Err("the checksum of a block is wrong");
    }
    if sealed[16] != kind as u8 {
        return Err("a block of another kind was expected");
    }
    let (packed_len, raw_len) = (half(sealed, 8), half(sealed, 12));
    let (Some(packed_len), Some(raw_len)) = (packed_len, raw_len) else {
        return Err("a block without a head");
    };
    if raw_len as usize > STORE_BLOCK_BYTES_MAX {
        return Err("a block is longer than blocks can be");
    }
    let codec = Codec::from_number(sealed[17]).ok_or("a block's compression is not known")?;
    Ok((codec, &sealed[HEAD..HEAD + packed_len as usize], raw_len as usize))
}

/// Reads a u32; `None` beyond the end.
pub fn half(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// Reads a u64; `None` beyond the end.
pub fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + 8)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// Entries on their way into a block.
#[derive(Default)]
pub struct BlockBuilder {
    raw: Vec<u8>,
    starts: Vec<u32>,
}

impl BlockBuilder {
    /// Appends an entry, whose key comes behind all others.
    pub fn add(&mut self, entry: &Entry<'_>) {
        assert!(entry.key.len() <= STORE_KEY_BYTES_MAX, "keys are checked where they come in");
        let tombstone = if entry.kind == Kind::Tombstone { TOMBSTONE } else { 0 };
        let expires = if entry.expiry_ms == NEVER { 0 } else { EXPIRES };
        self.starts.push(self.raw.len() as u32);
        self.raw.push(tombstone | expires);
        self.raw.extend_from_slice(&(entry.key.len() as u16).to_le_bytes());
        self.raw.extend_from_slice(&(entry.value.len() as u32).to_le_bytes());
        self.raw.extend_from_slice(&entry.seq.to_le_bytes());
        if expires != 0 {
            self.raw.extend_from_slice(&entry.expiry_ms.to_le_bytes());
        }
        self.raw.extend_from_slice(entry.key);
        self.raw.extend_from_slice(entry.value);
    }

    /// Bytes that the block's raw form has so far.
    pub fn len(&self) -> usize {
        self.raw.len() + self.starts.len() * 4 + 4
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The raw form; [`BlockBuilder::clear`] comes before the next entry.
    pub fn finish(&mut self) -> &[u8] {
        for start in &self.starts {
            self.raw.extend_from_slice(&start.to_le_bytes());
        }
        self.raw.extend_from_slice(&(self.starts.len() as u32).to_le_bytes());
        &self.raw
    }

    /// Forgets all entries, keeping the memory.
    pub fn clear(&mut self) {
        self.raw.clear();
        self.starts.clear();
    }
}

/// Entries in order, read in place.
#[derive(Debug)]
pub struct Block {
    raw: Box<[u8]>,
    /// Byte at which the starts begin.
    starts: usize,
    count: usize,
}

impl Block {
    /// Takes a raw form over. O(entries).
    ///
    /// # Errors
    /// What is wrong with it (invariant 2).
    pub fn new(raw: Vec<u8>) -> Result<Block, &'static str> {
        let count = raw.len().checked_sub(4).and_then(|at| half(&raw, at));
        let count = count.ok_or("a block without a number of entries")? as usize;
        let starts = count.checked_mul(4).and_then(|bytes| (raw.len() - 4).checked_sub(bytes));
        let starts = starts.ok_or("a block has fewer entries than it says")?;
        let block = Block { raw: raw.into_boxed_slice(), starts, count };
        let mut end = 0;
        for i in 0..count {
            if block.start(i) != end {
                return Err("an entry does not start where the one before ends");
            }
            end = block.end(end).ok_or("an entry is longer than its block")?;
        }
        if end == starts { Ok(block) } else { Err("something lies behind a block's entries") }
    }

    /// Entries in it.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// An entry by number.
    ///
    /// # Panics
    /// If there is none of that number.
    #[inline]
    pub fn entry(&self, i: usize) -> Entry<'_> {
        assert!(i < self.count, "entry {i} of {}", self.count);
        let raw = &self.raw[..self.starts];
        entry_at(raw, self.start(i)).expect("block invariant 2: an entry lies in its block")
    }

    /// Number of the first entry whose key is not below `key`. O(log entries).
    #[inline]
    pub fn lower_bound(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = (low + high) / 2;
            match self.entry(middle).key.cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return middle,
                Ordering::Greater => high = middle,
            }
        }
        low
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        self.raw.len() + size_of::<Block>()
    }

    #[inline]
    fn start(&self, i: usize) -> usize {
        half(&self.raw, self.starts + i * 4).map_or(usize::MAX, |start| start as usize)
    }

    /// Where the entry that starts here ends.
    fn end(&self, start: usize) -> Option<usize> {
        let entry = self.raw.get(start..self.starts)?;
        let key_len = u16::from_le_bytes([*entry.get(1)?, *entry.get(2)?]) as usize;
        let expiry = if entry[0] & EXPIRES == 0 { 0 } else { 8 };
        let len = ENTRY_HEAD + expiry + key_len + half(entry, 3)? as usize;
        (len <= entry.len() && entry[0] & !(TOMBSTONE | EXPIRES) == 0).then_some(start + len)
    }
}

/// The entry of a key in a block's raw form, of which only what is looked at is checked.
/// O(log entries).
///
/// # Errors
/// What is wrong with it.
pub fn search<'a>(raw: &'a [u8], key: &[u8]) -> Result<Option<Entry<'a>>, &'static str> {
    const WRONG: &str = "an entry lies outside its block";
    let count = raw.len().checked_sub(4).and_then(|at| half(raw, at)).ok_or(WRONG)? as usize;
    let starts = count.checked_mul(4).and_then(|bytes| (raw.len() - 4).checked_sub(bytes));
    let starts = starts.ok_or(WRONG)?;
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = (low + high) / 2;
        let start = half(raw, starts + middle * 4).ok_or(WRONG)?;
        let entry = entry_at(&raw[..starts], start as usize).ok_or(WRONG)?;
        match entry.key.cmp(key) {
            Ordering::Less => low = middle + 1,
            Ordering::Equal => return Ok(Some(entry)),
            Ordering::Greater => high = middle,
        }
    }
    Ok(None)
}

/// The entry that starts at a byte of a block's entries; `None` if none can.
#[inline(always)]
fn entry_at(raw: &[u8], start: usize) -> Option<Entry<'_>> {
    let head = raw.get(start..)?;
    let fixed: &[u8; ENTRY_HEAD] = head.first_chunk()?;
    let key_at = if fixed[0] & EXPIRES == 0 { ENTRY_HEAD } else { ENTRY_HEAD + 8 };
    let value_at = key_at + u16::from_le_bytes([fixed[1], fixed[2]]) as usize;
    let end = value_at + u32::from_le_bytes([fixed[3], fixed[4], fixed[5], fixed[6]]) as usize;
    let expiry_ms = if key_at == ENTRY_HEAD { NEVER } else { word(head, ENTRY_HEAD)? };
    let kind = if fixed[0] & TOMBSTONE == 0 { Kind::Value } else { Kind::Tombstone };
    let seq = word(fixed, 7)?;
    Some(Entry {
        key: head.get(key_at..value_at)?,
        value: head.get(value_at..end)?,
        seq,
        kind,
        expiry_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLACE: Place = Place { file_id: 7, at: 8192 };

    fn entries() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>, bool, u64)>> {
        let key = proptest::collection::vec(any::<u8>(), 0..40);
        let value = proptest::collection::vec(0..3u8, 0..300);
        let entry = (value, any::<bool>(), prop_oneof![Just(NEVER), 0..99u64]);
        proptest::collection::btree_map(key, entry, 0..60)
            .prop_map(|map| map.into_iter().map(|(k, (v, dead, ms))| (k, v, dead, ms)).collect())
    }

    fn entry((key, value, dead, expiry_ms): &(Vec<u8>, Vec<u8>, bool, u64)) -> Entry<'_> {
        let kind = if *dead { Kind::Tombstone } else { Kind::Value };
        Entry { key, value, seq: 1 << 60, kind, expiry_ms: *expiry_ms }
    }

    proptest! {
        #[test]
        fn entries_come_back_and_are_found(entries in entries(), wanted: Vec<u8>) {
            for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
                let mut builder = BlockBuilder::default();
                entries.iter().for_each(|made| builder.add(&entry(made)));
                let (len, mut out) = (builder.len(), Vec::new());
                seal(BlockKind::Data, builder.finish(), PLACE, &mut Packer::new(codec), &mut out);
                prop_assert_eq!(sealed_len(&out), Some(out.len()));
                let raw = unseal(BlockKind::Data, &out, PLACE).unwrap();
                prop_assert_eq!(raw.len(), len);
                let block = Block::new(raw).unwrap();
                prop_assert_eq!(block.len(), entries.len());
                for (i, made) in entries.iter().enumerate() {
                    prop_assert_eq!(block.entry(i), entry(made));
                    prop_assert_eq!(block.lower_bound(&made.0), i);
                }
                let expected = entries.iter().filter(|made| made.0 < wanted).count();
                prop_assert_eq!(block.lower_bound(&wanted), expected);
                let mut room = vec![9; entries.len() * 20];
                let raw = unseal_in(BlockKind::Data, &out, PLACE, &mut room).unwrap();
                for made in &entries {
                    prop_assert_eq!(search(raw, &made.0), Ok(Some(entry(made))));
                }
                let is_here = entries.get(expected).is_some_and(|made| made.0 == wanted);
                prop_assert_eq!(search(raw, &wanted).unwrap().is_some(), is_here);
            }
        }

        #[test]
        fn no_bytes_make_a_block_that_panics(raw: Vec<u8>, count in 0..4u32) {
            let raw = [raw, count.to_le_bytes().to_vec()].concat();
            let _ = search(&raw, b"key");
            if let Ok(block) = Block::new(raw) {
                let bytes: usize = (0..block.len()).map(|i| block.entry(i).value.len()).sum();
                prop_assert!(bytes <= block.memory_bytes());
            }
        }
    }

    #[test]
    fn every_flipped_bit_every_cut_and_every_other_place_is_found() {
        let mut builder = BlockBuilder::default();
        let value = [b'v'; 100];
        for key in 0..60u8 {
            builder.add(&entry(&(vec![key], value.to_vec(), false, NEVER)));
        }
        let mut good = Vec::new();
        seal(BlockKind::Data, builder.finish(), PLACE, &mut Packer::new(Codec::Lz4), &mut good);
        assert_eq!(good.len(), PAGE);
        let mut bad = good.clone();
        for bit in 0..good.len() * 8 {
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(BlockKind::Data, &bad, PLACE).is_err(), "bit {bit}");
            bad[bit / 8] ^= 1 << (bit % 8);
        }
        for len in 0..good.len() {
            assert!(unseal(BlockKind::Data, &good[..len], PLACE).is_err(), "cut at {len}");
        }
        assert!(unseal(BlockKind::Data, &good, Place { file_id: 8, ..PLACE }).is_err());
        assert!(unseal(BlockKind::Data, &good, Place { at: 4096, ..PLACE }).is_err());
        assert!(unseal(BlockKind::Index, &good, PLACE).is_err());
        assert!(unseal(BlockKind::Data, &good, PLACE).is_ok());
    }
}
