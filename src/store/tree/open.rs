//! Opening a tree from its manifest, and making a new version of it durable.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::memory::Memory;
use super::{OpenRun, Tree, Version};
use crate::store::cache::Cache;
use crate::store::compact::{Writing, table_name};
use crate::store::disk::Disk;
use crate::store::error::StoreError;
use crate::store::manifest::{Manifest, NAME, Run, publish};
use crate::store::options::Options;
use crate::store::table::Table;

impl<D: Disk> Tree<D> {
    /// Opens the tree of a folder, or makes an empty one; files that its manifest does not name
    /// are what a crash left, and go.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Corrupt`] also where there are tables and no manifest.
    pub async fn open(disk: D, options: Options) -> Result<Tree<D>, StoreError> {
        let folder = options.folder.clone();
        disk.make_dir(&folder).await?;
        let manifest = match Manifest::load(&disk, &folder).await? {
            Some(manifest) => manifest,
            None => {
                refuse_tables(&disk, &folder).await?;
                let manifest = Manifest { id_next: 1, seq_next: 1, runs: Vec::new() };
                manifest.commit(&disk, &folder).await?;
                manifest
            }
        };
        remove_orphans(&disk, &folder, &manifest).await?;
        let writing = Writing {
            disk: disk.clone(),
            folder,
            codec: options.codec,
            table_bytes: options.table_bytes,
            id_next: Rc::new(Cell::new(manifest.id_next.max(options.id_first))),
        };
        let tree = Tree {
            cache: RefCell::new(Cache::new(0)),
            unpacked: RefCell::default(),
            memory: RefCell::new(Memory::new(&options)),
            cache_leaves: Cell::new(0),
            disk,
            options,
            writing,
            version: RefCell::new(Rc::new(Version { runs: Vec::new() })),
            flushing: RefCell::new(None),
            merging: RefCell::new(None),
            gathering: RefCell::new(None),
            is_to_pick: Cell::new(true),
            merges_first: Cell::new(0),
            has_gathered: Cell::new(false),
            obsolete: RefCell::new(Vec::new()),
            failed: RefCell::new(None),
            is_working: Cell::new(false),
            seq_next: Cell::new(manifest.seq_next),
            changes: Cell::new(0),
            waiting: RefCell::new(Vec::new()),
        };
        let version = tree.open_version(&manifest.runs).await?;
        tree.install(version);
        Ok(tree)
    }

    /// Makes these runs the tree: durably first, then for readers (invariant 2).
    pub(super) async fn commit(&self, runs: Vec<Run>) -> Result<(), StoreError> {
        // Until the manifest is published, an error leaves everything as it was.
        let version = self.open_version(&runs).await?;
        let manifest =
            Manifest { id_next: self.writing.id_next.get(), seq_next: self.seq_next.get(), runs };
        manifest.prepare(&self.disk, &self.options.folder).await?;
        if let Err(error) = publish(&self.disk, &self.options.folder).await {
            // Tree invariant 4: nobody knows which one a crash would leave.
            *self.failed.borrow_mut() = Some(error.clone());
            return Err(error);
        }
        self.install(version);
        Ok(())
    }

    fn install(&self, version: Version<D::File>) {
        let old = std::mem::replace(&mut *self.version.borrow_mut(), Rc::new(version));
        let new = self.version();
        self.is_to_pick.set(true);
        let is_gone = |table: &&Rc<Table<D::File>>| !new.tables().any(|new| Rc::ptr_eq(new, table));
        let mut cache = self.cache.borrow_mut();
        for table in old.tables().filter(is_gone) {
            cache.forget(table.meta().id);
            self.obsolete.borrow_mut().push(table.clone());
        }
        drop(cache);
        self.share_memory();
    }

    /// Opens the tables that are not open yet. Newer runs get filters first.
    async fn open_version(&self, runs: &[Run]) -> Result<Version<D::File>, StoreError> {
        let (old, mut version) = (self.version(), Version { runs: Vec::new() });
        let mut left = self.options.tables_bytes();
        for run in runs {
            let mut open = OpenRun { level: run.level, tables: Vec::new() };
            for meta in &run.tables {
                let table = match old.tables().find(|table| table.meta().id == meta.id) {
                    Some(table) => table.clone(),
                    None => {
                        let name = table_name(&self.options.folder, meta.id);
                        let file = self.disk.open(&name).await?;
                        let is_held = Table::<D::File>::held_bytes(meta) <= left;
                        Rc::new(Table::open(file, meta.id, is_held).await?)
                    }
                };
                if table.meta() != &**meta {
                    let (file, what) = (
                        format!("{}/{NAME}", self.options.folder),
                        "a manifest says another thing of a table than the table",
                    );
                    return Err(StoreError::Corrupt { file, at: 0, what });
                }
                left = left.saturating_sub(table.memory_bytes());
                open.tables.push(table);
            }
            version.runs.push(open);
        }
        Ok(version)
    }
}

/// Fails if there are tables: without a manifest they are somebody's data.
async fn refuse_tables<D: Disk>(disk: &D, folder: &str) -> Result<(), StoreError> {
    let names = disk.list(folder).await?;
    match names.iter().find(|name| name.starts_with("table-")) {
        None => Ok(()),
        Some(_) => {
            let what = "it is missing, and there are tables";
            Err(StoreError::Corrupt { file: format!("{folder}/{NAME}"), at: 0, what })
        }
    }
}

async fn remove_orphans<D: Disk>(
    disk: &D,
    folder: &str,
    manifest: &Manifest,
) -> Result<(), StoreError> {
    let tables = manifest.runs.iter().flat_map(|run| &run.tables);
    let known: Vec<String> = tables.map(|table| table_name(folder, table.id)).collect();
    for name in disk.list(folder).await? {
        let path = format!("{folder}/{name}");
        if name != NAME && !known.contains(&path) {
            disk.remove(&path).await?;
        }
    }
    Ok(())
}
