//! Snapshots: a tree's tables by hard link and what is in memory as one more table, in a folder
//! that is itself a tree's.
//!
//! 1. A snapshot is what the tree was when [`Tree::snapshot`] was called, whatever is written,
//!    flushed and merged meanwhile.
//! 2. A folder without a manifest is no snapshot: its rename is the last thing that happens.

use std::rc::Rc;

use super::{Tree, Version};
use crate::store::compact::{Compaction, Writing, table_name};
use crate::store::disk::{Disk, File};
use crate::store::entry::Entry;
use crate::store::error::StoreError;
use crate::store::manifest::{Manifest, NAME, Run};
use crate::store::memtable::Memtable;
use crate::store::merge::{Merge, Source};
use crate::store::options::Options;

/// What a snapshot will hold, fixed at one moment. Nothing of it is on the disk yet, and the tree
/// goes on.
pub struct Snapshot<D: Disk> {
    disk: D,
    from: String,
    writing: Writing<D>,
    version: Rc<Version<D::File>>,
    frozen: Vec<Rc<Memtable>>,
    seq_next: u64,
}

impl<D: Disk> Tree<D> {
    /// Fixes what the tree is now. O(memtables).
    ///
    /// # Errors
    /// [`StoreError::Busy`] if too many memtables wait: call [`Tree::work`] and try again.
    pub fn snapshot(&self) -> Result<Snapshot<D>, StoreError> {
        self.freeze()?;
        Ok(Snapshot {
            disk: self.disk.clone(),
            from: self.options.folder.clone(),
            writing: self.writing.clone(),
            version: self.version(),
            frozen: self.memory.borrow().frozen.clone(),
            seq_next: self.seq_next.get(),
        })
    }

    /// Opens the tree that a snapshot is of, in the options' folder, which is emptied first. The
    /// snapshot's tables are linked, not read; it stays as it is.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Corrupt`] if there is no snapshot in the folder.
    pub async fn restore(disk: D, from: &str, options: Options) -> Result<Tree<D>, StoreError> {
        let folder = options.folder.clone();
        let Some(manifest) = Manifest::load(&disk, from).await? else {
            let what = "there is no snapshot";
            return Err(StoreError::Corrupt { file: format!("{from}/{NAME}"), at: 0, what });
        };
        disk.make_dir(&folder).await?;
        for name in disk.list(&folder).await? {
            disk.remove(&format!("{folder}/{name}")).await?;
        }
        // What goes must be gone before anything of the same name comes.
        disk.sync_dir(&folder).await?;
        link_all(&disk, from, &folder, &manifest.runs).await?;
        manifest.commit(&disk, &folder).await?;
        Tree::open(disk, options).await
    }
}

/// The tables of a tree at one moment. Their files stay while this is held.
pub struct Tables<F> {
    version: Rc<Version<F>>,
    folder: String,
    id_next: u64,
    seq_next: u64,
}

impl<D: Disk> Tree<D> {
    /// Fixes the tables that the tree has now; what is in memory is not among them
    /// ([`Tree::in_memory`]). O(1).
    pub fn tables(&self) -> Tables<D::File> {
        Tables {
            version: self.version(),
            folder: self.options.folder.clone(),
            id_next: self.writing.id_next.get(),
            seq_next: self.seq_next.get(),
        }
    }

    /// Calls `each` with every entry that no table has yet, tombstones too, the newest of a key
    /// first. O(entries in memory).
    pub fn in_memory(&self, mut each: impl FnMut(&Entry<'_>)) {
        let memory = self.memory.borrow();
        for memtable in std::iter::once(&memory.active).chain(&memory.frozen) {
            let mut cursor = memtable.cursor(&[]);
            while let Some(entry) = cursor.entry() {
                each(&entry);
                cursor.next();
            }
        }
    }
}

impl<F: File> Tables<F> {
    /// Names of the files below the disk's root, each with its name in the folder.
    pub fn files(&self) -> Vec<(String, String)> {
        let names = self.version.tables().map(|table| table_name("", table.meta().id));
        let inner = names.map(|name| name.trim_start_matches('/').to_string());
        inner.map(|name| (format!("{}/{name}", self.folder), name)).collect()
    }

    /// The bytes of a manifest that names these tables and no others: with it, a folder that has
    /// them is a tree's.
    pub fn manifest(&self) -> Vec<u8> {
        let runs = self.version.runs();
        Manifest { id_next: self.id_next, seq_next: self.seq_next, runs }.sealed()
    }
}

impl<D: Disk> Snapshot<D> {
    /// Writes the snapshot to an empty folder and makes it durable. Bytes written are those of what
    /// was in memory.
    ///
    /// # Errors
    /// [`StoreError`]; the folder is then no snapshot, and the tree is as it was.
    pub async fn write(self, folder: &str, now_ms: u64) -> Result<(), StoreError> {
        self.disk.make_dir(folder).await?;
        let mut runs = self.version.runs();
        link_all(&self.disk, &self.from, folder, &runs).await?;
        let writing = Writing { folder: folder.to_string(), ..self.writing };
        let sources = self.frozen.iter().map(|memtable| Source::Memory(memtable.cursor(&[])));
        let merge = Merge::new(sources.collect());
        let mut compaction = Compaction::new(merge, writing.clone(), runs.is_empty());
        while !compaction.step(now_ms, usize::MAX).await? {}
        let tables: Vec<_> = compaction.made().iter().cloned().map(Rc::new).collect();
        if !tables.is_empty() {
            runs.insert(0, Run { level: 0, tables });
        }
        let manifest = Manifest { id_next: writing.id_next.get(), seq_next: self.seq_next, runs };
        manifest.commit(&self.disk, folder).await
    }
}

/// Gives tables of one folder a name in another.
async fn link_all<D: Disk>(disk: &D, from: &str, to: &str, runs: &[Run]) -> Result<(), StoreError> {
    for table in runs.iter().flat_map(|run| &run.tables) {
        disk.link(&table_name(from, table.id), &table_name(to, table.id)).await?;
    }
    Ok(())
}
