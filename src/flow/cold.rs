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
//! 5. Keys that rows under way name are held, and do not leave; nor do keys for which something is
//!    due up to these rows' watermark: whether keys were due was asked when they were begun.

mod adopt;
mod due;
mod leave;
mod timers;
mod turn;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::Poll;

use hashbrown::HashMap;

use super::RunError;
use super::exchange::Parcel;
use super::graph::ShardGraph;
use super::host::Host;
use super::latency::Arrival;
use super::record::{put_key, record_key};
use super::restore::load_records;
use super::stage::Stage;
use crate::ground::key;
use crate::ground::limits::COLD_CHECK_CALLS;
use crate::ground::time::{END, NEVER as NO_MARK, Time};
use crate::ops::Rows;
use crate::state::residence::{LIVE, STORED};
use crate::store::codec::Codec;
use crate::store::disk::Disk;
use crate::store::error::StoreError;
use crate::store::options::{Options, Profile};
use crate::store::tree::{Tables, Tree, Work};
use leave::take_out;
use timers::Timers;
use turn::Turn;

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
    /// For which stage they were read, and up to which due time.
    ahead_to: Cell<(u16, Time)>,
    turn: Turn,
    /// The tables of the checkpoint that is being written.
    pinned: RefCell<Option<Tables<<H::Disk as Disk>::File>>>,
    calls: Cell<u32>,
    /// Why nobody works at the tree any more.
    failed: Rc<RefCell<Option<StoreError>>>,
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
            ahead_to: Cell::new((0, NO_MARK)),
            turn: Turn::default(),
            pinned: RefCell::default(),
            calls: Cell::new(0),
            failed: Rc::default(),
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
        self.make_room(graph, None).await?;
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
                    let under_way = Some((next.at, next.item.last_mark()));
                    ready = Some(next);
                    self.make_room(graph, under_way).await?;
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
        let (host, worked, failed) = (self.host.clone(), tree.clone(), self.failed.clone());
        self.host.spawn_low(async move {
            loop {
                let changed = worked.changed();
                match worked.work(NOW_MS).await {
                    Ok(Work::More) => host.yield_now().await,
                    Ok(Work::Idle) => changed.await,
                    // Who waits for room is woken by the step that failed, and is told.
                    Err(error) => {
                        *failed.borrow_mut() = Some(error);
                        return;
                    }
                }
            }
        });
        tree
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
fn load<'a>(stage: &mut Stage, wanted: &'a [Wanted]) -> Result<(), RunError> {
    let record = |wanted: &'a Wanted| Some((wanted.slot, wanted.record.as_deref()?));
    let records: Vec<(u32, &[u8])> = wanted.iter().filter_map(record).collect();
    if records.is_empty() {
        return Ok(());
    }
    load_records(stage, &records)?;
    records.iter().for_each(|(slot, _)| stage.residence.set(*slot, LIVE | STORED));
    Ok(())
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
