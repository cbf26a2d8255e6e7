//! Records: what a stage knows of one key, as the store beneath keeps it.
//!
//! ```text
//! key of a record  = 0 | key group: u16 | stage: u16 | key                       big-endian
//! key of a timer   = 1 | stage: u16 | due: i64, sign bit turned | key group: u16 | key
//! key              = for each column: 0 (NULL) | 1, slot: u64 | 2, length: u32, bytes
//! record           = for each handle that knows the key:
//!                      name: u32 (of its XXH3) | length: u32 | bytes
//! ```
//!
//! 1. What cannot be told from the key's values alone is in no key: the same on every shard.
//! 2. A timer has no value: it says that the record is to be in memory when the watermark gets to
//!    `due`. One that is no longer needed does no harm.

use xxhash_rust::xxh3::xxh3_64;

use crate::ground::slot;
use crate::ground::time::Time;
use crate::state::keys::KeyTable;

const RECORD: u8 = 0;
const TIMER: u8 = 1;
/// Bytes before a record's key.
const RECORD_HEAD: usize = 5;
/// Bytes before a timer's key.
const TIMER_HEAD: usize = 13;

/// Appends the values of a slot's key.
pub fn put_key(keys: &KeyTable, slot: u32, out: &mut Vec<u8>) {
    let nulls = keys.nulls(slot);
    for (column, value) in keys.row(slot).iter().enumerate() {
        if nulls[column / 64] >> (column % 64) & 1 == 1 {
            out.push(0);
        } else if keys.is_heaped(column) && slot::is_heaped(*value) {
            let bytes = slot::bytes(value, keys.heap());
            out.push(2);
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        } else {
            out.push(1);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

/// The key under which the record of a stage's key lies.
pub fn record_key(stage: u16, group: u16, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(RECORD_HEAD + key.len());
    out.push(RECORD);
    out.extend_from_slice(&group.to_be_bytes());
    out.extend_from_slice(&stage.to_be_bytes());
    out.extend_from_slice(key);
    out
}

/// The key of a timer.
pub fn timer_key(stage: u16, due: Time, group: u16, key: &[u8]) -> Vec<u8> {
    let mut out = timers_from(stage);
    out.extend_from_slice(&(due as u64 ^ 1 << 63).to_be_bytes());
    out.extend_from_slice(&group.to_be_bytes());
    out.extend_from_slice(key);
    out
}

/// Where a stage's timers begin.
pub fn timers_from(stage: u16) -> Vec<u8> {
    let mut out = vec![TIMER];
    out.extend_from_slice(&stage.to_be_bytes());
    out
}

/// A key of the store, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKey<'a> {
    Record { stage: u16, group: u16, key: &'a [u8] },
    Timer { stage: u16, due: Time, group: u16, key: &'a [u8] },
}

impl<'a> StoreKey<'a> {
    /// Takes a key apart; none if it is neither a record's nor a timer's.
    pub fn of(bytes: &'a [u8]) -> Option<StoreKey<'a>> {
        let half = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        match *bytes.first()? {
            RECORD => Some(StoreKey::Record {
                group: half(1)?,
                stage: half(3)?,
                key: bytes.get(RECORD_HEAD..)?,
            }),
            TIMER => {
                let due: [u8; 8] = bytes.get(3..11)?.try_into().ok()?;
                Some(StoreKey::Timer {
                    stage: half(1)?,
                    due: (u64::from_be_bytes(due) ^ 1 << 63) as Time,
                    group: half(11)?,
                    key: bytes.get(TIMER_HEAD..)?,
                })
            }
            _ => None,
        }
    }
}

/// The number of a handle in records.
pub fn handle_number(name: &str) -> u32 {
    xxh3_64(name.as_bytes()) as u32
}

/// Appends a handle's part to a record: what `save` appends, or nothing if it appends nothing.
pub fn put_part(number: u32, record: &mut Vec<u8>, save: impl FnOnce(&mut Vec<u8>)) {
    let start = record.len();
    record.extend_from_slice(&number.to_le_bytes());
    record.extend_from_slice(&[0; 4]);
    save(record);
    let len = record.len() - start - 8;
    if len == 0 {
        record.truncate(start);
    } else {
        record[start + 4..start + 8].copy_from_slice(&(len as u32).to_le_bytes());
    }
}

/// The parts of a record: each handle's number and bytes; none if it is damaged.
pub fn parts(record: &[u8]) -> Option<Vec<(u32, &[u8])>> {
    let mut parts = Vec::new();
    let mut rest = record;
    while !rest.is_empty() {
        let (head, tail) = rest.split_at_checked(8)?;
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap_or_default());
        let (bytes, tail) = tail.split_at_checked(word(4) as usize)?;
        parts.push((word(0), bytes));
        rest = tail;
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_come_apart_again_and_timers_are_in_the_order_of_time(
            stage: u16, group: u16, due: i64, later: i64,
            key in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let record = record_key(stage, group, &key);
            prop_assert_eq!(
                StoreKey::of(&record), Some(StoreKey::Record { stage, group, key: &key }));
            let timer = timer_key(stage, due, group, &key);
            let expected = StoreKey::Timer { stage, due, group, key: &key };
            prop_assert_eq!(StoreKey::of(&timer), Some(expected));
            let other = timer_key(stage, later, 0, b"");
            prop_assert!(timer.starts_with(&timers_from(stage)));
            if due != later {
                prop_assert_eq!(timer < other, due < later);
            }
        }

        #[test]
        fn records_come_apart_again(
            handles in proptest::collection::vec((any::<u32>(),
                proptest::collection::vec(any::<u8>(), 0..9)), 0..5),
        ) {
            let mut record = Vec::new();
            for (number, bytes) in &handles {
                put_part(*number, &mut record, |out| out.extend_from_slice(bytes));
            }
            let known = handles.iter().filter(|(_, bytes)| !bytes.is_empty());
            let known: Vec<(u32, &[u8])> = known.map(|(n, bytes)| (*n, &bytes[..])).collect();
            prop_assert_eq!(parts(&record), Some(known.clone()));
            for cut in 1..record.len() {
                let at_an_end = parts(&record[..cut]).is_some_and(|cut| known.starts_with(&cut));
                prop_assert!(at_an_end || parts(&record[..cut]).is_none());
            }
        }
    }
}
