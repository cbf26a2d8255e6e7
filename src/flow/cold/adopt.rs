//! The store in checkpoints: what they get of it, and how a run goes on from what they have.

use std::path::PathBuf;

use super::{Cold, NOW_MS, of_disk, of_store};
use crate::flow::RunError;
use crate::flow::graph::ShardGraph;
use crate::flow::host::Host;
use crate::flow::record::{StoreKey, timers_from};
use crate::flow::snapshot::{Beneath, EachEntry, Restored, RestoredShard};
use crate::ground::key;
use crate::store::disk::Disk;
use crate::store::entry::NEVER;
use crate::store::options::Options;
use crate::store::tree::Tree;

impl<H: Host> Cold<H> {
    /// Takes over the stores of a checkpoint: by links if the shards are the same, else by going
    /// through them for the keys that are this shard's now.
    ///
    /// # Errors
    /// [`RunError`]: a store that is damaged, or a disk that fails.
    pub async fn adopt(&self, graph: &mut ShardGraph, restored: &Restored) -> Result<(), RunError> {
        let Some(settings) = &self.settings else {
            return Err(RunError::of(
                "checkpoint",
                "it has keys on disk, and `state.backend` is \"memory\" now; set it to \"lsm\"",
            ));
        };
        let disk = self.host.disk(&settings.data_dir).await.map_err(of_disk)?;
        let below = |shard: &RestoredShard| {
            let below = shard.folder.strip_prefix(&settings.data_dir).ok();
            below.and_then(|path| path.to_str()).map(str::to_string).ok_or_else(|| {
                RunError::of(
                    "checkpoint",
                    format!("{} is not in the `data_dir`", shard.folder.display()),
                )
            })
        };
        let options = settings.options(self.shard, self.id_first());
        let tree = if restored.shards.len() == graph.shards {
            let own = &restored.shards[self.shard];
            match own.has_store() {
                true => Tree::restore(disk.clone(), &below(own)?, options).await,
                false => Tree::open(disk.clone(), options).await,
            }
        } else {
            Tree::open(disk.clone(), options).await
        };
        let tree = self.keep(tree.map_err(of_store)?);
        if restored.shards.len() != graph.shards {
            for (number, shard) in restored.shards.iter().enumerate().filter(|(_, s)| s.has_store())
            {
                let folder = format!("{}/from-{number:03}-{:03}", settings.folder, self.shard);
                let options = Options { folder, ..settings.options(self.shard, 1) };
                let old = Tree::restore(disk.clone(), &below(shard)?, options.clone()).await;
                self.copy(&old.map_err(of_store)?, &tree, graph.shards).await?;
                // Links would keep the room of tables that no checkpoint has any more.
                for name in disk.list(&options.folder).await.map_err(of_disk)? {
                    let path = format!("{}/{name}", options.folder);
                    disk.remove(&path).await.map_err(of_disk)?;
                }
            }
        }
        graph.is_cold = true;
        graph.chain.log.close();
        for stage in &mut graph.stages {
            stage.keys.note_fresh();
            let scan = tree.scan(&timers_from(stage.id), NOW_MS).await.map_err(of_store)?;
            if let Some(StoreKey::Timer { stage: of, due, .. }) =
                scan.entry().and_then(|(bytes, _)| StoreKey::of(bytes))
                && of == stage.id
            {
                self.timers.borrow_mut().entry(of).or_default().may_have(due);
            }
        }
        Ok(())
    }

    /// Copies what is this shard's.
    async fn copy(
        &self,
        from: &Tree<H::Disk>,
        to: &Tree<H::Disk>,
        shards: usize,
    ) -> Result<(), RunError> {
        let mut scan = from.scan(&[], NOW_MS).await.map_err(of_store)?;
        while let Some((key, value)) = scan.entry() {
            let group = match StoreKey::of(key) {
                Some(StoreKey::Record { group, .. } | StoreKey::Timer { group, .. }) => group,
                None => return Err(RunError::of("checkpoint", "a key of no known form")),
            };
            if key::shard_of(usize::from(group), shards) == self.shard {
                self.write(to, |to| to.put(key, value, NEVER)).await?;
            }
            scan.next().await.map_err(of_store)?;
        }
        Ok(())
    }

    /// Puts what a checkpoint has of the store's memory.
    ///
    /// # Errors
    /// The store's.
    pub async fn put_back(&self, key: &[u8], value: Option<&[u8]>) -> Result<(), RunError> {
        let Some(tree) = self.tree() else { return Ok(()) };
        match value {
            Some(value) => self.write(&tree, |tree| tree.put(key, value, NEVER)).await?,
            None => self.write(&tree, |tree| tree.delete(key)).await?,
        }
        if let (Some(StoreKey::Timer { stage, .. }), Some(_)) = (StoreKey::of(key), value) {
            self.timers.borrow_mut().entry(stage).or_default().put(key.to_vec());
        }
        Ok(())
    }
}

impl<H: Host> Beneath for Cold<H> {
    fn files(&self) -> Vec<(String, PathBuf)> {
        let (Some(tree), Some(settings)) = (self.tree(), &self.settings) else { return Vec::new() };
        let tables = tree.tables();
        let files = tables.files();
        *self.pinned.borrow_mut() = Some(tables);
        files.into_iter().map(|(path, name)| (name, settings.data_dir.join(path))).collect()
    }

    fn manifest(&self) -> Option<Vec<u8>> {
        Some(self.tree()?.tables().manifest())
    }

    fn in_memory(&self, since: u64, each: &mut EachEntry<'_>) -> u64 {
        let mut until = since;
        if let Some(tree) = self.tree() {
            tree.in_memory(|entry| {
                if entry.seq > since {
                    each(entry.key, entry.value_at(NOW_MS));
                    until = until.max(entry.seq);
                }
            });
        }
        until
    }
}
