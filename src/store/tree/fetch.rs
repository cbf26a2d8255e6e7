//! Reading what may be in tables: one key, many at once, and many ahead of their use.

use std::rc::Rc;

use super::memory::{Peek, hash_of};
use super::{Tree, Version};
use crate::ground::limits::{STORE_PREFETCHED, STORE_READS_IN_FLIGHT};
use crate::store::disk::Disk;
use crate::store::error::StoreError;
use crate::store::flight::fly;
use crate::store::table::Found;

/// What tables said of a key.
enum Answer {
    /// They were not asked: memory knew the key.
    Unasked,
    Nothing,
    Entry(Found),
}

/// What tables said of some keys when they were fetched. It holds their blocks.
pub struct Fetched {
    /// By number of the key.
    answers: Vec<Answer>,
    /// The memtable that was written to when this was begun.
    number: u64,
}

impl<D: Disk> Tree<D> {
    /// Appends a key's value to `out`; false if it has none.
    ///
    /// # Errors
    /// [`StoreError::Disk`] or [`StoreError::Corrupt`].
    pub async fn get(
        &self,
        key: &[u8],
        now_ms: u64,
        out: &mut Vec<u8>,
    ) -> Result<bool, StoreError> {
        match self.peek(key, now_ms, out) {
            Peek::Found => return Ok(true),
            Peek::Absent => return Ok(false),
            Peek::Unknown => {}
        }
        let version = self.version();
        let found = self.find(&version, hash_of(key), key).await?;
        let value = found.as_ref().and_then(|found| found.entry().value_at(now_ms));
        value.inspect(|value| out.extend_from_slice(value));
        Ok(value.is_some())
    }

    /// Calls `each(i, value)` once for every key, in any order; many reads are under way together.
    ///
    /// # Errors
    /// The first [`StoreError`] met; `each` was then called for some keys only.
    pub async fn get_many(
        &self,
        keys: &[&[u8]],
        now_ms: u64,
        mut each: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<(), StoreError> {
        let mut cold: Vec<(usize, u64)> = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            let hash = hash_of(key);
            let memory = self.memory.borrow();
            if memory.read(hash, key, |entry| each(i, entry.value_at(now_ms))).is_none() {
                cold.push((i, hash));
            }
        }
        self.find_many(keys, cold, |i, found| {
            each(i, found.as_ref().and_then(|found| found.entry().value_at(now_ms)));
        })
        .await
    }

    /// Reads ahead what tables say of keys that memory does not know; `hashes` are the keys'. The
    /// tree may be written to meanwhile: [`Tree::fetched`] sees to it. So the next batch can be
    /// fetched while one is worked at.
    ///
    /// # Errors
    /// The first [`StoreError`] met.
    pub async fn fetch(&self, keys: &[&[u8]], hashes: &[u64]) -> Result<Fetched, StoreError> {
        assert_eq!(keys.len(), hashes.len(), "a hash for each key");
        let (mut cold, number) = (Vec::new(), self.memory.borrow().number());
        for (group, hashes) in hashes.chunks(STORE_PREFETCHED).enumerate() {
            self.prefetch(hashes);
            let memory = self.memory.borrow();
            for (i, &hash) in hashes.iter().enumerate() {
                let i = group * STORE_PREFETCHED + i;
                if memory.read(hash, keys[i], |_| ()).is_none() {
                    cold.push((i, hash));
                }
            }
        }
        let mut answers = Vec::new();
        answers.resize_with(keys.len(), || Answer::Unasked);
        self.find_many(keys, cold, |i, found| {
            answers[i] = found.map_or(Answer::Nothing, Answer::Entry);
        })
        .await?;
        Ok(Fetched { answers, number })
    }

    /// Hands the value of the `i`-th of the fetched keys to `read`, as it is now. O(memtables).
    /// [`Peek::Unknown`]: so much was written since that it must be fetched again.
    pub fn fetched(
        &self,
        fetched: &Fetched,
        (i, hash, key): (usize, u64, &[u8]),
        now_ms: u64,
        mut read: impl FnMut(&[u8]),
    ) -> Peek {
        let known = self.peek_hashed(hash, key, now_ms, &mut read);
        if known != Peek::Unknown || !self.memory.borrow().has_since(fetched.number) {
            return known;
        }
        let entry = match &fetched.answers[i] {
            // What memory knew then it does not know now: a kept memtable is gone.
            Answer::Unasked => return Peek::Unknown,
            Answer::Nothing => return Peek::Absent,
            Answer::Entry(found) => found.entry(),
        };
        let Some(value) = entry.value_at(now_ms) else { return Peek::Absent };
        read(value);
        Peek::Found
    }

    /// Asks tables for keys by number and hash, many at once.
    async fn find_many(
        &self,
        keys: &[&[u8]],
        cold: Vec<(usize, u64)>,
        mut each: impl FnMut(usize, Option<Found>),
    ) -> Result<(), StoreError> {
        if cold.is_empty() {
            return Ok(());
        }
        let version: &Rc<Version<D::File>> = &self.version();
        let reads = cold
            .into_iter()
            .map(|(i, hash)| async move { (i, self.find(version, hash, keys[i]).await) });
        let mut failed = Ok(());
        fly(reads, STORE_READS_IN_FLIGHT, |(i, found)| match found {
            Ok(found) => each(i, found),
            Err(error) => failed = Err(error),
        })
        .await;
        failed
    }

    /// A key's newest entry in the tables.
    pub(super) async fn find(
        &self,
        version: &Version<D::File>,
        hash: u64,
        key: &[u8],
    ) -> Result<Option<Found>, StoreError> {
        for run in &version.runs {
            let Some(table) = run.table_of(key).filter(|table| table.may_hold(hash)) else {
                continue;
            };
            if let Some(found) = table.find(key, &self.cache).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}
