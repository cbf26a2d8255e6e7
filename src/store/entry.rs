//! What a key maps to, at one moment: a value or its deletion.
//!
//! 1. Of two entries of a key, the one with the higher sequence number holds.
//! 2. An entry whose time has come is read as if it were a deletion.

/// `expiry_ms` of what never expires.
pub const NEVER: u64 = u64::MAX;

/// Whether an entry gives a value or takes it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Value,
    /// The key is not there, whatever older entries say.
    Tombstone,
}

/// One version of one key, borrowed from where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub key: &'a [u8],
    /// Empty for a tombstone.
    pub value: &'a [u8],
    /// Order of writing, from 1.
    pub seq: u64,
    pub kind: Kind,
    /// From this moment on it is gone, ms since 1970, or [`NEVER`].
    pub expiry_ms: u64,
}

impl<'a> Entry<'a> {
    /// The value as it is seen at a moment.
    pub fn value_at(&self, now_ms: u64) -> Option<&'a [u8]> {
        (self.kind == Kind::Value && self.expiry_ms > now_ms).then_some(self.value)
    }
}

/// The first eight bytes of a key, or fewer and zeros: a word that is not above another key's if
/// the key is below it.
#[inline]
pub fn head_of(key: &[u8]) -> u64 {
    if let Some(head) = key.first_chunk::<8>() {
        return u64::from_be_bytes(*head);
    }
    let mut head = [0; 8];
    head[..key.len()].copy_from_slice(key);
    u64::from_be_bytes(head)
}
