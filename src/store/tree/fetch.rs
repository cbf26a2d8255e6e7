//! Reading what may be in tables: one key, many at once, and many ahead of their use.

use std::cell::RefCell;

use super::memory::{Peek, hash_of};
use super::{Tree, Version};
use crate::ground::limits::{STORE_PREFETCHED, STORE_READS_IN_FLIGHT};
use crate::store::disk::Disk;
use crate::store::entry::Entry;
use crate::store::error::StoreError;
use crate::store::flight::fly;
use crate::store::table::{Look, Unread};

/// What tables said of a key.
#[derive(Clone, Copy)]
enum Answer {
    /// They were not asked: memory knew the key.
    Unasked,
    Nothing,
    /// So many bytes from a place of the values on, until a time in ms.
    Value {
        at: usize,
        len: usize,
        expiry_ms: u64,
    },
}

/// What tables said of some keys when they were fetched.
pub struct Fetched {
    /// By number of the key.
    answers: Vec<Answer>,
    values: Vec<u8>,
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
        let mut is_value = false;
        let each = |_, entry: Option<Entry<'_>>| {
            let value = entry.as_ref().and_then(|entry| entry.value_at(now_ms));
            value.into_iter().for_each(|value| out.extend_from_slice(value));
            is_value = value.is_some();
        };
        self.find_many(&[key], vec![(0, hash_of(key))], each).await?;
        Ok(is_value)
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
        self.find_many(keys, cold, |i, entry| {
            each(i, entry.as_ref().and_then(|entry| entry.value_at(now_ms)));
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
        let (mut answers, mut values) = (vec![Answer::Unasked; keys.len()], Vec::new());
        self.find_many(keys, cold, |i, entry| {
            let value = entry.and_then(|entry| Some((entry.value_at(0)?, entry.expiry_ms)));
            let Some((value, expiry_ms)) = value else {
                answers[i] = Answer::Nothing;
                return;
            };
            answers[i] = Answer::Value { at: values.len(), len: value.len(), expiry_ms };
            values.extend_from_slice(value);
        })
        .await?;
        Ok(Fetched { answers, values, number })
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
        match fetched.answers[i] {
            // What memory knew then it does not know now: a kept memtable is gone.
            Answer::Unasked => Peek::Unknown,
            Answer::Value { at, len, expiry_ms } if expiry_ms > now_ms => {
                read(&fetched.values[at..at + len]);
                Peek::Found
            }
            Answer::Value { .. } | Answer::Nothing => Peek::Absent,
        }
    }

    /// Asks tables for keys by number and hash, many at once; `each` gets the newest entry of every
    /// key. Those that need no reading come first.
    async fn find_many(
        &self,
        keys: &[&[u8]],
        cold: Vec<(usize, u64)>,
        mut each: impl FnMut(usize, Option<Entry<'_>>),
    ) -> Result<(), StoreError> {
        let (version, mut searches) = (self.version(), Vec::new());
        for group in cold.chunks(STORE_PREFETCHED) {
            for run in &version.runs {
                for &(i, hash) in group {
                    run.table_of(keys[i]).into_iter().for_each(|table| table.prefetch(hash));
                }
            }
            for &(i, hash) in group {
                let mut search = Search { run: 0, hash, key: keys[i] };
                match self.look(&version, &mut search, |entry| each(i, Some(entry)))? {
                    Look::Found(()) => {}
                    Look::Absent => each(i, None),
                    Look::Unread(unread) => searches.push((i, search, unread)),
                }
            }
        }
        if searches.is_empty() {
            return Ok(());
        }
        let (version, each) = (&*version, &RefCell::new(each));
        let reads = searches.into_iter().map(|(i, search, unread)| async move {
            let read = |entry: Entry<'_>| (each.borrow_mut())(i, Some(entry));
            let is_found = self.read_on(version, search, unread, read).await?;
            if !is_found {
                (each.borrow_mut())(i, None);
            }
            Ok(())
        });
        let mut failed = Ok(());
        fly(reads, STORE_READS_IN_FLIGHT, |done: Result<(), StoreError>| {
            if failed.is_ok() {
                failed = done;
            }
        })
        .await;
        failed
    }

    /// Looks for a key's newest entry as far as memory has the blocks for it.
    fn look<T>(
        &self,
        version: &Version<D::File>,
        search: &mut Search<'_>,
        mut read: impl FnMut(Entry<'_>) -> T,
    ) -> Result<Look<T>, StoreError> {
        while let Some(run) = version.runs.get(search.run) {
            let table = run.table_of(search.key).filter(|table| table.may_hold(search.hash));
            if let Some(table) = table {
                match table.look(search.key, &self.cache, &mut read)? {
                    Look::Absent => {}
                    looked => return Ok(looked),
                }
            }
            search.run += 1;
        }
        Ok(Look::Absent)
    }

    /// Goes on with a search that came to a block that is not in memory; whether it found an entry.
    async fn read_on(
        &self,
        version: &Version<D::File>,
        mut search: Search<'_>,
        mut unread: Unread,
        mut read: impl FnMut(Entry<'_>),
    ) -> Result<bool, StoreError> {
        loop {
            let run = version.runs.get(search.run);
            let Some(table) = run.and_then(|run| run.table_of(search.key)) else {
                return Ok(false);
            };
            let memory = (&self.cache, &self.unpacked);
            if table.read(unread, search.key, memory, &mut read).await?.is_some() {
                return Ok(true);
            }
            search.run += 1;
            unread = match self.look(version, &mut search, &mut read)? {
                Look::Found(()) => return Ok(true),
                Look::Absent => return Ok(false),
                Look::Unread(unread) => unread,
            };
        }
    }
}

/// A key that is looked for in one run after the other, newest first.
struct Search<'a> {
    /// The run to ask next.
    run: usize,
    hash: u64,
    key: &'a [u8],
}
