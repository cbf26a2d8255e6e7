//! Tables: immutable files of entries in the order of their keys.
//!
//! ```text
//! table  = data block* | index block* | top block | filter block | bounds block | footer
//! index  = entries: key not below the last one of a data block -> position: u64 | bytes: u64
//! top    = the same of index blocks
//! filter = lines of 64 bytes, see `filter`; hashes are xxh3-64 of the keys
//! bounds = two entries: the first and the last key
//! footer = "CWTTABLE" | version: u32 | 0: u32 | file_id: u64 | entries: u64 | tombstones: u64
//!        | seq_max: u64 | expiry_ms_min: u64 | index, top, filter, bounds: position: u64 each
//!        | 0-padding to 4088 | xxh3-64 of all before, seeded with the footer's position: u64
//! ```
//!
//! Blocks are drawn in `block`. Everything starts at a multiple of 4096 and nothing lies between,
//! so every bit of a file is under a checksum.
//!
//! 1. A table has an entry at least, and no key twice.
//! 2. The footer is the file's last page: a file cut short has none.

mod audit;
mod cursor;
mod fences;
mod read;
#[cfg(test)]
pub mod tests;
mod write;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::block::{half, word};
use super::disk::PAGE;
use super::error::StoreError;

pub use audit::{Flaw, audit};
pub use cursor::TableCursor;
pub use read::{Look, Table, Unread};
pub use write::TableWriter;

const MAGIC: &[u8; 8] = b"CWTTABLE";
/// Version of the format written here.
pub const VERSION: u32 = 1;

/// What is known of a table without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMeta {
    /// Its number, and its file's.
    pub id: u64,
    /// Of the file.
    pub bytes: u64,
    pub entries: u64,
    pub tombstones: u64,
    pub seq_max: u64,
    /// When the first of its entries expires, ms since 1970.
    pub expiry_ms_min: u64,
    pub first: Vec<u8>,
    pub last: Vec<u8>,
}

impl TableMeta {
    /// Whether some key may be in both.
    pub fn overlaps(&self, first: &[u8], last: &[u8]) -> bool {
        self.first.as_slice() <= last && first <= self.last.as_slice()
    }
}

/// A table's last page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Footer {
    file_id: u64,
    entries: u64,
    tombstones: u64,
    seq_max: u64,
    expiry_ms_min: u64,
    index_at: u64,
    top_at: u64,
    filter_at: u64,
    bounds_at: u64,
}

impl Footer {
    /// The page, for its position in the file.
    fn page(&self, at: u64) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        page[..8].copy_from_slice(MAGIC);
        page[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let words = [self.file_id, self.entries, self.tombstones, self.seq_max, self.expiry_ms_min];
        let places = [self.index_at, self.top_at, self.filter_at, self.bounds_at];
        for (i, word) in words.iter().chain(&places).enumerate() {
            page[16 + i * 8..24 + i * 8].copy_from_slice(&word.to_le_bytes());
        }
        let sum = xxh3_64_with_seed(&page[..PAGE - 8], at);
        page[PAGE - 8..].copy_from_slice(&sum.to_le_bytes());
        page
    }

    /// Reads what [`Footer::page`] made.
    fn parse(page: &[u8], file: &str, at: u64) -> Result<Footer, StoreError> {
        let corrupt = |what| StoreError::Corrupt { file: file.to_string(), at, what };
        if page.len() != PAGE || &page[..8] != MAGIC {
            return Err(corrupt("a table's footer is not there"));
        }
        if word(page, PAGE - 8) != Some(xxh3_64_with_seed(&page[..PAGE - 8], at)) {
            return Err(corrupt("the checksum of a table's footer is wrong"));
        }
        match half(page, 8) {
            Some(VERSION) => {}
            found => {
                let (file, found) = (file.to_string(), found.unwrap_or(0));
                return Err(StoreError::Version { file, found, known: VERSION });
            }
        }
        let field = |i: usize| word(page, 16 + i * 8).unwrap_or(0);
        let footer = Footer {
            file_id: field(0),
            entries: field(1),
            tombstones: field(2),
            seq_max: field(3),
            expiry_ms_min: field(4),
            index_at: field(5),
            top_at: field(6),
            filter_at: field(7),
            bounds_at: field(8),
        };
        let places = [0, footer.index_at, footer.top_at, footer.filter_at, footer.bounds_at, at];
        let in_order = places.windows(2).all(|pair| pair[0] < pair[1]);
        let on_pages = places.iter().all(|place| place.is_multiple_of(PAGE as u64));
        let is_one = in_order && on_pages && footer.entries > 0;
        if is_one { Ok(footer) } else { Err(corrupt("a table's footer contradicts itself")) }
    }
}
