//! The tree's background work, in bounded steps: flushes first, then merges.
//!
//! 1. Where more is flushed than is merged, steps of merges come between those of a flush, the more
//!    the more flushed runs there are: who writes becomes slower, and does not stand still.
//! 2. Two merges may be under way: one that moves runs down, which may take long, and one that
//!    gathers runs that were flushed since.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::{Flushing, Merging, Tree};
use crate::store::compact::Compaction;
use crate::store::disk::{Disk, DiskFailure};
use crate::store::error::StoreError;
use crate::store::manifest::Run;
use crate::store::merge::{Merge, RunCursor, Source};
use crate::store::pick::{Job, Policy, pick, pick_all, pick_gathering, replace};
use crate::store::table::Table;

/// Whether there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Idle,
    More,
}

/// Set while one task works.
struct Turn<'a>(&'a Cell<bool>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl<D: Disk> Tree<D> {
    /// Does a step of what there is to do: flushes a bounded part of the frozen memtables, or
    /// merges so much of tables.
    ///
    /// # Errors
    /// [`StoreError`]. When the disk was full the step may be tried again; else the tree does no
    /// more work (tree invariant 4), though it can be read.
    ///
    /// # Panics
    /// If another task is at it: one task works, and the others read and write.
    pub async fn work(&self, now_ms: u64) -> Result<Work, StoreError> {
        assert!(!self.is_working.replace(true), "one task works at a tree");
        let _turn = Turn(&self.is_working);
        if let Some(error) = self.failed.borrow().clone() {
            return Err(error);
        }
        let done = self.step(now_ms).await;
        if let Err(error) = &done
            && !is_full(error)
        {
            *self.failed.borrow_mut() = Some(error.clone());
        }
        if done != Ok(Work::Idle) {
            self.note_change();
        }
        done
    }

    /// Works until there is nothing to do.
    ///
    /// # Errors
    /// As [`Tree::work`].
    pub async fn settle(&self, now_ms: u64) -> Result<(), StoreError> {
        while self.work(now_ms).await? == Work::More {}
        Ok(())
    }

    /// Writes all that is in memory to tables and makes it durable.
    ///
    /// # Errors
    /// As [`Tree::work`].
    pub async fn flush(&self, now_ms: u64) -> Result<(), StoreError> {
        while self.freeze().is_err() {
            self.work(now_ms).await?;
        }
        while !self.memory.borrow().frozen.is_empty() {
            self.work(now_ms).await?;
        }
        Ok(())
    }

    /// Merges all tables into one run, without what is deleted or expired.
    ///
    /// # Errors
    /// As [`Tree::work`].
    pub async fn compact_all(&self, now_ms: u64) -> Result<(), StoreError> {
        self.settle(now_ms).await?;
        if let Some(job) = pick_all(&self.version().runs(), &self.options.policy) {
            self.begin_merge(&self.merging, job).await?;
            self.settle(now_ms).await?;
        }
        Ok(())
    }

    async fn step(&self, now_ms: u64) -> Result<Work, StoreError> {
        self.remove_obsolete().await?;
        let has_frozen =
            self.flushing.borrow().is_some() || !self.memory.borrow().frozen.is_empty();
        if has_frozen && self.merges_first.get() == 0 {
            self.merges_first.set(self.merges_wanted());
            self.flush_on(now_ms).await?;
            return Ok(Work::More);
        }
        self.merges_first.set(self.merges_first.get().saturating_sub(1));
        self.begin_merges().await?;
        match self.next_merge() {
            Some(merging) => self.merge_on(merging, now_ms).await?,
            None if has_frozen => self.merges_first.set(0),
            None => return Ok(Work::Idle),
        }
        Ok(Work::More)
    }

    /// Steps of merges for one of a flush (invariant 1).
    fn merges_wanted(&self) -> usize {
        let flushed = self.version.borrow().flushed();
        let few = match self.options.policy {
            Policy::Levelled { runs, .. } | Policy::Universal { runs, .. } => runs.max(1),
        };
        (flushed / few).saturating_sub(1)
    }

    /// Begins the merges that there are to be and that are not under way.
    async fn begin_merges(&self) -> Result<(), StoreError> {
        if !self.is_to_pick.replace(false) {
            return Ok(());
        }
        let (runs, policy) = (self.version().runs(), &self.options.policy);
        let job_of = |merging: &RefCell<Option<Merging<D>>>| {
            merging.borrow().as_ref().map(|merging| merging.job.clone())
        };
        let (merged, mut gathered) = (job_of(&self.merging), job_of(&self.gathering));
        if gathered.is_none() {
            gathered = pick_gathering(&runs, policy, merged.as_ref());
            if let Some(job) = &gathered {
                self.begin_merge(&self.gathering, job.clone()).await?;
            }
        }
        if merged.is_none()
            && let Some(job) = pick(&runs, policy, gathered.as_ref())
        {
            self.begin_merge(&self.merging, job).await?;
        }
        Ok(())
    }

    /// The merge whose turn it is: the gathering's, where writers would soon have to wait.
    fn next_merge(&self) -> Option<&RefCell<Option<Merging<D>>>> {
        let is_urgent = self.version.borrow().flushed() * 3 >= self.options.runs_max * 2;
        let has_merging = self.merging.borrow().is_some();
        let gathers = self.gathering.borrow().is_some()
            && (is_urgent || !has_merging || !self.has_gathered.get());
        self.has_gathered.set(gathers);
        if gathers { Some(&self.gathering) } else { has_merging.then_some(&self.merging) }
    }

    /// Removes files that nobody needs (tree invariant 3).
    async fn remove_obsolete(&self) -> Result<(), StoreError> {
        loop {
            let table = {
                let mut obsolete = self.obsolete.borrow_mut();
                let unread = obsolete.iter().position(|table| Rc::strong_count(table) == 1);
                unread.map(|unread| obsolete.swap_remove(unread))
            };
            let Some(table) = table else { return Ok(()) };
            self.disk.remove(&self.name_of(&table)).await?;
        }
    }

    fn name_of(&self, table: &Table<D::File>) -> String {
        crate::store::compact::table_name(&self.options.folder, table.meta().id)
    }

    /// Does a step of writing the frozen memtables as the newest run.
    async fn flush_on(&self, now_ms: u64) -> Result<(), StoreError> {
        let begun = self.flushing.take();
        let mut flushing = begun.unwrap_or_else(|| self.begin_flush());
        let written = match flushing.compaction.step(now_ms, self.options.step_bytes).await {
            Ok(false) => {
                *self.flushing.borrow_mut() = Some(flushing);
                return Ok(());
            }
            written => written,
        };
        let mut runs = self.version().runs();
        let tables: Vec<_> = flushing.compaction.made().iter().cloned().map(Rc::new).collect();
        if !tables.is_empty() {
            runs.insert(0, Run { level: 0, tables });
        }
        let done = match written {
            Ok(_) => self.commit(runs).await,
            Err(error) => Err(error),
        };
        self.undo_if_failed(done, flushing.compaction).await?;
        // Some may have been frozen meanwhile: they are newer.
        self.memory.borrow_mut().keep(flushing.count, &self.options);
        self.share_memory();
        Ok(())
    }

    fn begin_flush(&self) -> Flushing<D> {
        let memory = self.memory.borrow();
        let sources = memory.frozen.iter().map(|memtable| Source::Memory(memtable.cursor(&[])));
        let merge = Merge::new(sources.collect());
        // Only flushes put runs into a tree that has none.
        let is_bottom = self.version.borrow().runs.is_empty();
        let compaction = Compaction::new(merge, self.writing.clone(), is_bottom);
        Flushing { count: memory.frozen.len(), compaction }
    }

    /// Takes away what a compaction made if its commit failed before it was published.
    async fn undo_if_failed(
        &self,
        done: Result<(), StoreError>,
        compaction: Compaction<D>,
    ) -> Result<(), StoreError> {
        if done.is_err() && self.failed.borrow().is_none() {
            compaction.undo().await;
        }
        done
    }

    async fn begin_merge(
        &self,
        merging: &RefCell<Option<Merging<D>>>,
        job: Job,
    ) -> Result<(), StoreError> {
        let version = self.version();
        let mut sources = Vec::new();
        for ids in &job.inputs {
            let table = |id: &u64| version.tables().find(|table| table.meta().id == *id).cloned();
            let tables: Vec<_> = ids.iter().filter_map(table).collect();
            assert_eq!(
                tables.len(),
                ids.len(),
                "a job's inputs are in the version it was picked for"
            );
            sources.push(Source::Run(RunCursor::first(&tables).await?));
        }
        let merge = Merge::new(sources);
        let compaction = Compaction::new(merge, self.writing.clone(), job.is_bottom);
        *merging.borrow_mut() = Some(Merging { job, compaction });
        Ok(())
    }

    /// Does a step of a merge that is under way.
    async fn merge_on(
        &self,
        slot: &RefCell<Option<Merging<D>>>,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let Some(mut merging) = slot.take() else { return Ok(()) };
        let done = match merging.compaction.step(now_ms, self.options.step_bytes).await {
            Ok(false) => {
                *slot.borrow_mut() = Some(merging);
                return Ok(());
            }
            Ok(true) => {
                let made = merging.compaction.made().iter().cloned().map(Rc::new).collect();
                // Flushes and the other merge may have changed the runs since the job was picked.
                self.commit(replace(&self.version().runs(), &merging.job, made)).await
            }
            Err(error) => Err(error),
        };
        self.is_to_pick.set(true);
        self.undo_if_failed(done, merging.compaction).await
    }
}

fn is_full(error: &StoreError) -> bool {
    matches!(error, StoreError::Disk(error) if error.failure == DiskFailure::Full)
}
