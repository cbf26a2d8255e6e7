//! Keys that have left memory: taken to the store beneath when there are too many, read together
//! when a batch or the watermark names them, many reads in flight, while the batch before is
//! processed.
//!
//! ```text
//! rows, watermarks ─▶ inbox ─▶ slots found ─▶ records of new slots and of keys that
//!                                             are due read, loaded ─▶ the operators
//! ```
//!
//! 1. Until the first key leaves there is no store, no inbox and no wait: [`Cold::settle`] is a
//!    compare.
//! 2. One task at a time reads, loads and takes keys to the store (the *turn*): a key is in memory
//!    or in the store whenever another task looks.
//! 3. A key's rows are processed in the order in which they came: inboxes are worked off from the
//!    front, and what comes out goes to the end of the next.
//! 4. A key for which something is due is in memory before the watermark gets there.
//! 5. Keys that rows under way name are held, and do not leave.

mod timers;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::{Poll, Waker};

use hashbrown::HashMap;

use super::RunError;
use super::exchange::Parcel;
use super::graph::ShardGraph;
use super::host::Host;
use super::latency::Arrival;
use super::record::{self, StoreKey, put_key, put_part, record_key, timer_key, timers_from};
use super::restore::{Read, load_records, resolve};
use super::snapshot::{Beneath, Restored};
use super::stage::Stage;
use crate::ground::key;
use crate::ground::limits::{
    COLD_CHECK_CALLS, COLD_DUE_KEYS, COLD_LOT_KEYS, COLD_NEAR_TIMERS, STORE_KEY_BYTES_MAX,
};
use crate::ground::time::{END, NEVER as NO_MARK, Time};
use crate::ops::Rows;
use crate::state::residence::{DIRTY, LIVE, STALE, STORED};
use crate::store::codec::Codec;
use crate::store::disk::Disk;
use crate::store::entry::NEVER;
use crate::store::error::StoreError;
use crate::store::options::{Options, Profile};
use crate::store::tree::{Tables, Tree, Work};
use timers::{Timers, due_of};

/// The store's clock stands still: nothing in it expires yet.
const NOW_MS: u64 = 0;

/// What waits in a stage's inbox.
pub enum Item {
    Rows(Parcel),
    Watermark { mark: Time, arrival: Arrival },
}

/// Where and how keys are kept that do not fit into memory.
#[derive(Clone, Debug)]
pub struct StateSettings {
    /// The root of the disk.
    pub data_dir: PathBuf,
    /// The folder of this run's stores in it.
    pub folder: String,
    pub codec: Codec,
    pub profile: Profile,
    /// Bytes of memory of a shard: keys in memory and the store.
    pub memory_bytes: usize,
}

impl StateSettings {
    /// Bytes of keys in memory at which some leave: a half.
    fn hot_bytes(&self) -> usize {
        self.memory_bytes / 2
    }

    fn options(&self, shard: usize, id_first: u64) -> Options {
        let folder = format!("{}/shard-{shard:03}", self.folder);
        let memory_bytes = self.memory_bytes - self.hot_bytes();
        Options { id_first, ..Options::new(&folder, self.codec, self.profile, memory_bytes) }
    }
}

/// The keys of one shard that are not in memory.
pub struct Cold<H: Host> {
    host: H,
    shard: usize,
    /// None: all keys stay in memory.
    settings: Option<StateSettings>,
    tree: RefCell<Option<Rc<Tree<H::Disk>>>>,
    /// By stage number.
    timers: RefCell<BTreeMap<u16, Timers>>,
    /// Records that were read before they are needed; who writes one takes it out.
    ahead: RefCell<HashMap<Vec<u8>, Option<Vec<u8>>>>,
    turn: Turn,
    /// The tables of the checkpoint that is being written.
    pinned: RefCell<Option<Tables<<H::Disk as Disk>::File>>>,
    calls: Cell<u32>,
}

/// An item whose slots are found, and what is still to be loaded for it.
struct Begun {
    at: usize,
    item: Item,
    slots: Vec<u32>,
    wanted: Vec<Wanted>,
}

/// What is to be done next.
enum Next {
    Item(Begun),
    /// Keys of the stage `at` have to come to memory for the watermark `due`; soon it is at `mark`.
    Due {
        mark: Time,
        at: usize,
        due: Time,
    },
}

/// A key whose record is to be read.
struct Wanted {
    slot: u32,
    key: Vec<u8>,
    record: Option<Vec<u8>>,
}

/// What is written when a key leaves.
struct Leaving {
    key: Vec<u8>,
    /// None: nothing is to be written.
    change: Option<Change>,
    timer: Option<(Vec<u8>, u16)>,
}

enum Change {
    Put(Vec<u8>),
    Delete,
}

impl<H: Host> Cold<H> {
    /// No key has left memory.
    pub fn new(host: H, shard: usize, settings: Option<StateSettings>) -> Rc<Cold<H>> {
        Rc::new(Cold {
            host,
            shard,
            settings,
            tree: RefCell::default(),
            timers: RefCell::default(),
            ahead: RefCell::default(),
            turn: Turn::default(),
            pinned: RefCell::default(),
            calls: Cell::new(0),
        })
    }

    /// Whether keys may leave memory.
    pub fn is_on(&self) -> bool {
        self.settings.is_some()
    }

    /// Works off what waits in the inboxes; takes keys to the store if memory is full.
    ///
    /// # Errors
    /// [`RunError`] of an operator, a sink or the store.
    pub async fn settle(&self, graph: &RefCell<ShardGraph>) -> Result<(), RunError> {
        if !graph.borrow().is_cold && !self.is_time_to_look() {
            return Ok(());
        }
        let _turn = self.turn.take().await;
        self.make_room(graph).await?;
        let mut ready: Option<Begun> = None;
        loop {
            match self.begin(graph)? {
                None => match ready.take() {
                    // What comes out may have to be worked off, too.
                    Some(begun) => self.finish(graph, begun)?,
                    None => return Ok(()),
                },
                Some(Next::Due { at, due, mark }) => {
                    if let Some(begun) = ready.take() {
                        self.finish(graph, begun)?;
                    }
                    self.catch_up(graph, at, due, mark).await?;
                }
                Some(Next::Item(mut next)) => {
                    self.fetch_beside(graph, &mut next.wanted, ready.take()).await?;
                    self.load(graph, &mut next)?;
                    ready = Some(next);
                    self.make_room(graph).await?;
                }
            }
        }
    }

    /// Reads records while the batch before is processed.
    async fn fetch_beside(
        &self,
        graph: &RefCell<ShardGraph>,
        wanted: &mut [Wanted],
        ready: Option<Begun>,
    ) -> Result<(), RunError> {
        let Some(ready) = ready else { return self.fetch(wanted).await };
        if wanted.is_empty() {
            return self.finish(graph, ready);
        }
        let mut fetched = std::pin::pin!(self.fetch(wanted));
        let started = poll_fn(|context| Poll::Ready(fetched.as_mut().poll(context))).await;
        // The reads are handed to the system when the executor has its turn.
        self.host.yield_now().await;
        self.finish(graph, ready)?;
        match started {
            Poll::Ready(done) => done,
            Poll::Pending => fetched.await,
        }
    }

    fn is_time_to_look(&self) -> bool {
        if self.settings.is_none() {
            return false;
        }
        self.calls.set(self.calls.get() + 1);
        self.calls.get().is_multiple_of(COLD_CHECK_CALLS)
    }

    /// Takes the next item, finds its slots, and says what is to be read for it; or says that keys
    /// are due before.
    fn begin(&self, graph: &RefCell<ShardGraph>) -> Result<Option<Next>, RunError> {
        let mut graph = graph.borrow_mut();
        let waits = |stage: &Stage| !stage.inbox.is_empty();
        let Some(at) = graph.stages.iter().position(waits) else { return Ok(None) };
        let stage = &mut graph.stages[at];
        let due = self.timers.borrow().get(&stage.id).map_or(END, Timers::next_due);
        let mark = stage.inbox.front().map_or(NO_MARK, Item::last_mark);
        let Some(mut item) = stage.inbox.pop_front() else { return Ok(None) };
        if let Some(rest) = item.split_at(due) {
            if item.is_empty() {
                stage.inbox.push_front(rest);
                return Ok(Some(Next::Due { at, due, mark }));
            }
            stage.inbox.push_front(rest);
        }
        let mut slots = Vec::new();
        if let Item::Rows(parcel) = &item {
            let hashes = (!parcel.hashes.is_empty()).then_some(&parcel.hashes[..]);
            stage.resolve(parcel.input, &parcel.rows(), hashes, &mut slots)?;
        }
        stage.residence.hold(&slots, stage.keys.len());
        let wanted = wanted(stage);
        Ok(Some(Next::Item(Begun { at, item, slots, wanted })))
    }

    /// Reads records, many at a time.
    async fn fetch(&self, wanted: &mut [Wanted]) -> Result<(), RunError> {
        let Some(tree) = self.tree().filter(|_| !wanted.is_empty()) else { return Ok(()) };
        let mut cold: Vec<&mut Wanted> = Vec::with_capacity(wanted.len());
        {
            let mut ahead = self.ahead.borrow_mut();
            for wanted in wanted {
                match ahead.remove(&wanted.key) {
                    Some(record) => wanted.record = record,
                    None => cold.push(wanted),
                }
            }
        }
        let mut found: Vec<Option<Vec<u8>>> = vec![None; cold.len()];
        let keys: Vec<&[u8]> = cold.iter().map(|wanted| &wanted.key[..]).collect();
        let each = |i: usize, value: Option<&[u8]>| found[i] = value.map(<[u8]>::to_vec);
        tree.get_many(&keys, NOW_MS, each).await.map_err(of_store)?;
        for (wanted, record) in cold.into_iter().zip(found) {
            wanted.record = record;
        }
        Ok(())
    }

    fn load(&self, graph: &RefCell<ShardGraph>, begun: &mut Begun) -> Result<(), RunError> {
        let wanted = std::mem::take(&mut begun.wanted);
        load(&mut graph.borrow_mut().stages[begun.at], &wanted)
    }

    /// Gives an item to its stage, whose keys are in memory.
    fn finish(&self, graph: &RefCell<ShardGraph>, begun: Begun) -> Result<(), RunError> {
        let mut graph = graph.borrow_mut();
        let Begun { at, item, slots, .. } = begun;
        match item {
            Item::Rows(parcel) => {
                graph.arrival = parcel.arrival;
                graph.stage_take(at, parcel.input, &parcel.rows(), &slots)?;
            }
            Item::Watermark { mark, arrival } => {
                graph.arrival = arrival;
                graph.stage_watermark_now(at, mark)?;
            }
        }
        graph.stages[at].residence.let_go(&slots);
        Ok(())
    }

    /// Brings the keys of a stage that are due into memory, some at a time, lets them do what is
    /// due, and takes them back: so a window of any number of keys fires in bounded memory.
    async fn catch_up(
        &self,
        graph: &RefCell<ShardGraph>,
        at: usize,
        due: Time,
        mark: Time,
    ) -> Result<(), RunError> {
        let tree = self.tree().ok_or_else(|| of_store(StoreError::Busy))?;
        let id = {
            let mut graph = graph.borrow_mut();
            // What is due before, for keys in memory.
            if graph.stages[at].reached() < due - 1 {
                graph.stage_watermark_now(at, due - 1)?;
            }
            graph.stages[at].id
        };
        self.read_ahead(&tree, id, mark).await?;
        loop {
            let timers = self.take_due(&tree, id, due).await?;
            if timers.is_empty() {
                // Who comes from now on has had its turn.
                let mut graph = graph.borrow_mut();
                if graph.stages[at].reached() < due {
                    graph.stage_watermark_now(at, due)?;
                }
                return Ok(());
            }
            let mut came = self.come(graph, at, &timers)?;
            self.fetch(&mut came).await?;
            let leaving = {
                let mut graph = graph.borrow_mut();
                let stage = &mut graph.stages[at];
                load(stage, &came)?;
                let is_known = |wanted: &&Wanted| wanted.record.is_some();
                let slots: Vec<u32> = came.iter().filter(is_known).map(|w| w.slot).collect();
                graph.stage_catch_up(at, &slots, due)?;
                let all: Vec<u32> = came.iter().map(|wanted| wanted.slot).collect();
                take_out(&mut graph, at, &all, due, &tree)
            };
            for timer in &timers {
                self.write(&tree, |tree| tree.delete(timer)).await?;
            }
            self.write_all(&tree, leaving).await?;
        }
    }

    /// Takes timers of a stage that are due at `due`, as many as come together.
    async fn take_due(
        &self,
        tree: &Tree<H::Disk>,
        stage: u16,
        due: Time,
    ) -> Result<Vec<Vec<u8>>, RunError> {
        loop {
            let (taken, unknown) = {
                let mut timers = self.timers.borrow_mut();
                let of_stage = timers.entry(stage).or_default();
                let taken = of_stage.take(due, COLD_DUE_KEYS);
                (taken, of_stage.unknown_from(due))
            };
            let Some(from) = unknown.filter(|_| taken.is_empty()) else { return Ok(taken) };
            let (mut found, mut rest) = (Vec::new(), END);
            let from = timer_key(stage, from, 0, &[]);
            let mut scan = tree.scan(&from, NOW_MS).await.map_err(of_store)?;
            while let Some((bytes, _)) = scan.entry() {
                if !bytes.starts_with(&timers_from(stage)) {
                    break;
                }
                if found.len() == COLD_NEAR_TIMERS {
                    rest = due_of(bytes);
                    break;
                }
                found.push(bytes.to_vec());
                scan.next().await.map_err(of_store)?;
            }
            if let Some(of_stage) = self.timers.borrow_mut().get_mut(&stage) {
                of_stage.extend(found, rest);
            }
        }
    }

    /// Reads the records of keys that are due soon, all together: each may be due at a time of its
    /// own, and reads one by one would wait one by one.
    async fn read_ahead(
        &self,
        tree: &Tree<H::Disk>,
        stage: u16,
        mark: Time,
    ) -> Result<(), RunError> {
        if !self.ahead.borrow().is_empty() {
            return Ok(());
        }
        let keys: Vec<Vec<u8>> = {
            let timers = self.timers.borrow();
            let of_stage = timers.get(&stage).into_iter();
            let soon = of_stage.flat_map(|timers| timers.look(mark, COLD_DUE_KEYS));
            let key = |timer: &Vec<u8>| match StoreKey::of(timer) {
                Some(StoreKey::Timer { stage, group, key, .. }) => record_key(stage, group, key),
                _ => Vec::new(),
            };
            soon.map(key).collect()
        };
        let named: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let mut found: Vec<Option<Vec<u8>>> = vec![None; keys.len()];
        let each = |i: usize, value: Option<&[u8]>| found[i] = value.map(<[u8]>::to_vec);
        tree.get_many(&named, NOW_MS, each).await.map_err(of_store)?;
        self.ahead.borrow_mut().extend(keys.into_iter().zip(found));
        Ok(())
    }

    /// Gives slots to the keys of timers that are not in memory.
    fn come(
        &self,
        graph: &RefCell<ShardGraph>,
        at: usize,
        timers: &[Vec<u8>],
    ) -> Result<Vec<Wanted>, RunError> {
        let mut graph = graph.borrow_mut();
        let shards = graph.shards;
        let stage = &mut graph.stages[at];
        for timer in timers {
            let Some(StoreKey::Timer { key, .. }) = StoreKey::of(timer) else { continue };
            let mut read = Read { rest: key, what: "a timer of the store".to_string() };
            let batch = read.keys(1, stage.key_types.len())?;
            resolve(stage, &batch, |group| key::shard_of(group, shards) == self.shard)?;
        }
        Ok(wanted(stage))
    }

    /// Takes keys to the store until memory has room again.
    async fn make_room(&self, graph: &RefCell<ShardGraph>) -> Result<(), RunError> {
        let Some(settings) = &self.settings else { return Ok(()) };
        loop {
            let is_over = {
                let stages = &mut graph.borrow_mut().stages;
                stages.iter_mut().map(Stage::memory_bytes).sum::<usize>() > settings.hot_bytes()
            };
            if !is_over {
                return Ok(());
            }
            let tree = self.open(settings).await?;
            let leaving = self.leave(&mut graph.borrow_mut(), &tree);
            if leaving.is_empty() {
                // All that is left is held or waits for its watermark.
                return Ok(());
            }
            self.write_all(&tree, leaving).await?;
        }
    }

    async fn write_all(&self, tree: &Tree<H::Disk>, leaving: Vec<Leaving>) -> Result<(), RunError> {
        for Leaving { key, change, timer } in leaving {
            if change.is_some() {
                self.ahead.borrow_mut().remove(&key);
            }
            match change {
                Some(Change::Put(record)) => {
                    self.write(tree, |tree| tree.put(&key, &record, NEVER)).await?;
                }
                Some(Change::Delete) => self.write(tree, |tree| tree.delete(&key)).await?,
                None => {}
            }
            if let Some((timer, stage)) = timer {
                self.write(tree, |tree| tree.put(&timer, &[], NEVER)).await?;
                self.timers.borrow_mut().entry(stage).or_default().put(timer);
            }
        }
        Ok(())
    }

    /// Takes the keys that were not touched for longest out of the largest stage's memory.
    fn leave(&self, graph: &mut ShardGraph, tree: &Tree<H::Disk>) -> Vec<Leaving> {
        graph.is_cold = true;
        graph.stages.iter_mut().for_each(|stage| stage.keys.note_fresh());
        let largest = (0..graph.stages.len()).max_by_key(|&at| graph.stages[at].memory_bytes());
        let Some(at) = largest else { return Vec::new() };
        let stage = &mut graph.stages[at];
        let (count, pinned) = ((stage.keys.live() / 8).max(COLD_LOT_KEYS), stage.pinned());
        let (mut slots, reached) = (Vec::new(), stage.reached());
        stage.residence.victims(count, &pinned, &mut slots);
        take_out(graph, at, &slots, reached, tree)
    }

    /// Writes to the tree, waiting for room in its memory.
    async fn write(
        &self,
        tree: &Tree<H::Disk>,
        write: impl Fn(&Tree<H::Disk>) -> Result<(), StoreError>,
    ) -> Result<(), RunError> {
        loop {
            let changed = tree.changed();
            match write(tree) {
                Ok(()) => return Ok(()),
                Err(StoreError::Busy) => changed.await,
                Err(error) => return Err(of_store(error)),
            }
        }
    }

    fn tree(&self) -> Option<Rc<Tree<H::Disk>>> {
        self.tree.borrow().clone()
    }

    /// The tree, empty if there was none yet.
    async fn open(&self, settings: &StateSettings) -> Result<Rc<Tree<H::Disk>>, RunError> {
        if let Some(tree) = self.tree() {
            return Ok(tree);
        }
        let disk = self.host.disk(&settings.data_dir).await.map_err(of_disk)?;
        let tree = Tree::open(disk, settings.options(self.shard, self.id_first())).await;
        Ok(self.keep(tree.map_err(of_store)?))
    }

    /// Numbers of tables begin with the time, so that no two runs give the same.
    fn id_first(&self) -> u64 {
        (self.host.now_ms().max(0) as u64) << 20
    }

    /// Keeps a tree and starts the task that works at it.
    fn keep(&self, tree: Tree<H::Disk>) -> Rc<Tree<H::Disk>> {
        let tree = Rc::new(tree);
        *self.tree.borrow_mut() = Some(tree.clone());
        let (host, worked) = (self.host.clone(), tree.clone());
        self.host.spawn_low(async move {
            loop {
                let changed = worked.changed();
                match worked.work(NOW_MS).await {
                    Ok(Work::More) => host.yield_now().await,
                    Ok(Work::Idle) => changed.await,
                    // Who writes is told.
                    Err(_) => return,
                }
            }
        });
        tree
    }

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
        let below = |shard: &super::snapshot::RestoredShard| {
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
                true => Tree::restore(disk, &below(own)?, options).await,
                false => Tree::open(disk, options).await,
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
                let old = Tree::restore(self.disk(settings).await?, &below(shard)?, options).await;
                self.copy(&old.map_err(of_store)?, &tree, graph.shards).await?;
            }
        }
        graph.is_cold = true;
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

    async fn disk(&self, settings: &StateSettings) -> Result<H::Disk, RunError> {
        self.host.disk(&settings.data_dir).await.map_err(of_disk)
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

/// The slots of keys that are new, each with the key of the record that is to be read for it.
fn wanted(stage: &mut Stage) -> Vec<Wanted> {
    let fresh = stage.keys.take_fresh();
    let wanted = fresh.into_iter().map(|slot| {
        let mut key = Vec::new();
        put_key(&stage.keys, slot, &mut key);
        let group = key::group(stage.keys.hash_of(slot)) as u16;
        Wanted { slot, key: record_key(stage.id, group, &key), record: None }
    });
    wanted.collect()
}

/// Loads the records that were found.
fn load(stage: &mut Stage, wanted: &[Wanted]) -> Result<(), RunError> {
    let record = |wanted: &Wanted| wanted.record.is_some();
    let records: Vec<(u32, &[u8])> = wanted
        .iter()
        .filter(|wanted| record(wanted))
        .map(|wanted| (wanted.slot, wanted.record.as_deref().unwrap_or_default()))
        .collect();
    if records.is_empty() {
        return Ok(());
    }
    load_records(stage, &records)?;
    records.iter().for_each(|(slot, _)| stage.residence.set(*slot, LIVE | STORED));
    Ok(())
}

/// Takes slots out of a stage's memory, whose watermark is at `reached`, and says what is to be
/// written. Those whose records are too long stay.
fn take_out<D: Disk>(
    graph: &mut ShardGraph,
    at: usize,
    slots: &[u32],
    reached: Time,
    tree: &Tree<D>,
) -> Vec<Leaving> {
    let ShardGraph { stages, deltas, keeps_deltas, .. } = graph;
    let stage = &mut stages[at];
    let mut records = vec![Vec::new(); slots.len()];
    stage.state(&mut |name, handle| {
        let number = record::handle_number(name);
        for (&slot, record) in slots.iter().zip(&mut records) {
            put_part(number, record, |out| handle.save(slot, out));
        }
    });
    let mut leaving = Vec::with_capacity(slots.len());
    let mut gone = Vec::with_capacity(slots.len());
    for (&slot, record) in slots.iter().zip(records) {
        let mut key = Vec::new();
        put_key(&stage.keys, slot, &mut key);
        if key.len() + 16 > STORE_KEY_BYTES_MAX || record.len() > tree.value_bytes_max() {
            continue;
        }
        let (is_stale, is_stored) =
            (stage.residence.has(slot, STALE), stage.residence.has(slot, STORED));
        let group = key::group(stage.keys.hash_of(slot)) as u16;
        let due = stage.due(slot, reached);
        let timer = (due != END).then(|| (timer_key(stage.id, due, group, &key), stage.id));
        let is_over = record.is_empty() || due == END && !stage.lasts(slot, reached);
        let change = match is_over {
            true => is_stored.then_some(Change::Delete),
            false => (is_stale || !is_stored).then_some(Change::Put(record)),
        };
        leaving.push(Leaving { key: record_key(stage.id, group, &key), change, timer });
        gone.push(slot);
    }
    if *keeps_deltas {
        let is_dirty = |slot: &u32| stage.residence.has(*slot, DIRTY);
        let dirty: Vec<u32> = gone.iter().copied().filter(is_dirty).collect();
        deltas.leave(stage, &dirty);
    }
    stage.handles(&mut |handle| handle.clear_all(&gone));
    for &slot in &gone {
        stage.keys.release(slot);
        stage.residence.release(slot);
    }
    leaving
}

impl Item {
    /// Cuts off what must wait until what is due at `due` is done: rows whose marks have come to
    /// it, a watermark that has.
    fn split_at(&mut self, due: Time) -> Option<Item> {
        match self {
            _ if due == END => None,
            Item::Rows(parcel) => {
                let from = parcel.marks.partition_point(|&mark| mark < due);
                (from < parcel.marks.len()).then(|| Item::Rows(parcel.cut(from)))
            }
            Item::Watermark { mark, .. } if *mark < due => None,
            Item::Watermark { mark, arrival } => {
                let rest = Item::Watermark { mark: *mark, arrival: *arrival };
                *mark = NO_MARK;
                Some(rest)
            }
        }
    }

    /// The watermark at its end.
    fn last_mark(&self) -> Time {
        match self {
            Item::Rows(parcel) => parcel.marks.last().copied().unwrap_or(NO_MARK),
            Item::Watermark { mark, .. } => *mark,
        }
    }

    /// Whether all was cut off.
    fn is_empty(&self) -> bool {
        match self {
            Item::Rows(parcel) => parcel.times.is_empty(),
            Item::Watermark { mark, .. } => *mark == NO_MARK,
        }
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

    fn in_memory(&self, since: u64, each: &mut dyn FnMut(&[u8], Option<&[u8]>)) -> u64 {
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

impl Parcel {
    /// Cuts off the rows from place `from` on.
    fn cut(&mut self, from: usize) -> Parcel {
        let hashes = self.hashes.len().min(from);
        Parcel {
            input: self.input,
            records: self.records.clone(),
            select: self.select.split_off(from),
            times: self.times.split_off(from),
            marks: self.marks.split_off(from),
            hashes: self.hashes.split_off(hashes),
            arrival: self.arrival,
        }
    }

    fn rows(&self) -> Rows<'_> {
        let (select, times, marks) = (&self.select[..], &self.times[..], &self.marks[..]);
        Rows { records: &self.records, select, times, marks }
    }
}

fn of_store(error: StoreError) -> RunError {
    RunError::of("state", error)
}

fn of_disk(error: crate::store::disk::DiskError) -> RunError {
    RunError::of("state", error)
}

/// Who has it goes on, the others wait (invariant 2).
#[derive(Default)]
struct Turn {
    is_taken: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

struct Taken<'a>(&'a Turn);

impl Turn {
    async fn take(&self) -> Taken<'_> {
        poll_fn(|context| {
            if !self.is_taken.replace(true) {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
        Taken(self)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.is_taken.set(false);
        self.0.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }
}
