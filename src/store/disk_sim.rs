//! A disk in memory that fails as disks do, for a seed: the same seed, the same faults, and the
//! few lines of an executor that its futures need.
//!
//! | fault | what real thing it stands for |
//! |--|--|
//! | requests complete in any order | a queue of depth 100 and a drive's own scheduling |
//! | a crash at the n-th completion | power loss, `kill -9` with a volatile drive cache |
//! | each unsynced write kept, lost or torn in sectors, by itself | the drive's cache at that moment |
//! | each unsynced name kept or lost, by itself | the file system's journal at that moment |
//! | EIO at the n-th read, write, sync or name | a worn sector, a controller reset |
//! | a failed write leaves part of itself | the same, in the middle of a request |
//! | no room beyond so many bytes | other programs on the same disk |
//! | a byte changed behind our back | bit rot ([`SimDisk::change`]) |
//!
//! 1. Only [`SimDisk::run`] and [`SimDisk::step`] complete requests, one at a time, chosen by the
//!    seed; what `blocking` has is done at once.
//! 2. What was durable before a crash is there after it, bit for bit; what never was asked for is
//!    not there.
//! 3. Folders survive crashes once made.

mod blocking;
mod world;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::chance::Chance;
use super::disk::{Disk, DiskError, File, PAGE};
pub use world::Aligned;
use world::{Answer, Content, Operation, World, folder_of, tear};

/// When the disk fails, counted from its start; `None`: never.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Completion at which everything stops.
    pub crash_at: Option<u64>,
    /// Read that fails.
    pub read_at: Option<u64>,
    /// Write that fails.
    pub write_at: Option<u64>,
    /// Sync of a file that fails.
    pub sync_at: Option<u64>,
    /// Request that has to do with names which fails.
    pub name_at: Option<u64>,
    /// Bytes that fit on the disk.
    pub bytes_max: Option<u64>,
}

/// How much was asked of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub completions: u64,
    pub reads: u64,
    pub writes: u64,
    pub syncs: u64,
    pub names: u64,
    /// Most requests that were under way at a time.
    pub in_flight_max: usize,
}

/// The run ended because the disk crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crashed;

/// The simulated disk. Clones are handles of the same one.
#[derive(Clone)]
pub struct SimDisk {
    world: Rc<RefCell<World>>,
}

/// An open file of the simulated disk.
pub struct SimFile {
    disk: SimDisk,
    content: usize,
    name: String,
}

impl SimDisk {
    /// An empty disk that behaves as the seed says.
    pub fn new(seed: u64, faults: Faults) -> SimDisk {
        SimDisk::with(seed, faults, BTreeMap::new(), Vec::new(), BTreeSet::new())
    }

    fn with(
        seed: u64,
        faults: Faults,
        names: BTreeMap<String, usize>,
        contents: Vec<Content>,
        folders: BTreeSet<String>,
    ) -> SimDisk {
        let world = World {
            chance: Chance::new(seed),
            faults,
            counts: Counts::default(),
            contents,
            names: names.clone(),
            names_durable: names,
            names_unsynced: Vec::new(),
            folders,
            asked: Vec::new(),
            answers: BTreeMap::new(),
            waiting: BTreeMap::new(),
            tickets: 0,
        };
        SimDisk { world: Rc::new(RefCell::new(world)) }
    }

    /// Runs a future to its end, completing one request at a time in an order of the seed's.
    ///
    /// # Errors
    /// [`Crashed`] if the faults' crash came before the end.
    ///
    /// # Panics
    /// If the future waits for something that is not this disk's.
    pub fn run<T>(&self, main: impl Future<Output = T>) -> Result<T, Crashed> {
        let mut main = pin!(main);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(value) = main.as_mut().poll(&mut context) {
                return Ok(value);
            }
            // One part of the future did what another waits for.
            if woken.0.swap(false, Ordering::Relaxed) {
                continue;
            }
            let waiting = self.world.borrow_mut().complete_one()?;
            waiting.inspect(Waker::wake_by_ref);
            // Polled at once, whoever waits: a future that wakes nobody is found by its tests.
            woken.0.store(false, Ordering::Relaxed);
        }
    }

    /// Completes one request, of which there must be one, and wakes who waits for it: for an
    /// executor that has other things to do, too.
    ///
    /// # Errors
    /// [`Crashed`] if the faults' crash is now.
    pub fn step(&self) -> Result<(), Crashed> {
        let waiting = self.world.borrow_mut().complete_one()?;
        waiting.inspect(Waker::wake_by_ref);
        Ok(())
    }

    /// Requests that are under way.
    pub fn in_flight(&self) -> usize {
        self.world.borrow().asked.len()
    }

    /// The disk as the next process finds it after this one was killed: what was written is there,
    /// synced or not; of the requests under way each was done or not. It goes on with other faults.
    pub fn kill(&self, seed: u64, faults: Faults) -> SimDisk {
        let mut chance = Chance::new(seed);
        let mut world = self.world.borrow_mut();
        world.faults = Faults::default();
        for asked in std::mem::take(&mut world.asked) {
            if chance.one_in(2) {
                // Nobody waits for the answer any more.
                let _ = world.perform(&asked.name, asked.operation);
            }
        }
        let contents = world.contents.iter().cloned();
        let contents = contents.map(|content| Content { poisoned: false, ..content }).collect();
        let folders = world.folders.clone();
        let disk = SimDisk::with(seed, faults, world.names.clone(), contents, folders);
        {
            let mut new = disk.world.borrow_mut();
            new.names_durable = world.names_durable.clone();
            new.names_unsynced = world.names_unsynced.clone();
        }
        disk
    }

    /// The disk as it is found after power was lost now: what was not synced is kept, lost or
    /// torn, requests under way too. It behaves as another seed and other faults say.
    pub fn crash(&self, seed: u64, faults: Faults) -> SimDisk {
        let mut chance = Chance::new(seed);
        let mut world = self.world.borrow_mut();
        for asked in std::mem::take(&mut world.asked) {
            if let Operation::Write { content, at, bytes } = asked.operation {
                world.contents[content].unsynced.push((at, bytes));
            }
        }
        let mut names = world.names_durable.clone();
        for change in &world.names_unsynced {
            if chance.one_in(2) {
                change.apply(&mut names);
            }
        }
        let survive = |content: &Content| {
            let mut durable = content.durable.clone();
            for (at, bytes) in &content.unsynced {
                tear(&mut durable, *at, bytes, &mut chance);
            }
            Content { current: durable.clone(), durable, ..Content::default() }
        };
        let contents = world.contents.iter().map(survive).collect();
        SimDisk::with(seed, faults, names, contents, world.folders.clone())
    }

    /// Sets when it fails from now on; counts go on.
    pub fn set_faults(&self, faults: Faults) {
        self.world.borrow_mut().faults = faults;
    }

    /// What was asked so far.
    pub fn counts(&self) -> Counts {
        self.world.borrow().counts
    }

    /// The bytes of a file, as written so far; `None` if there is none of that name.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let world = self.world.borrow();
        world.names.get(name).map(|&content| world.contents[content].current.clone())
    }

    /// Puts other bytes in a file, or makes it, behind everybody's back.
    pub fn change(&self, name: &str, bytes: Vec<u8>) {
        let mut world = self.world.borrow_mut();
        let made = world.contents.len();
        let content = *world.names.entry(name.to_string()).or_insert(made);
        world.names_durable.insert(name.to_string(), content);
        world.contents.resize(made.max(content + 1), Content::default());
        let durable = bytes.clone();
        world.contents[content] = Content { current: bytes, durable, ..Content::default() };
    }

    async fn ask(&self, name: &str, operation: Operation) -> Result<Answer, DiskError> {
        let ticket = self.world.borrow_mut().take_in(name, operation);
        Wait { disk: self, ticket }.await
    }

    async fn ask_for_file(&self, name: &str, operation: Operation) -> Result<SimFile, DiskError> {
        match self.ask(name, operation).await? {
            Answer::Content(content) => {
                Ok(SimFile { disk: self.clone(), content, name: name.to_string() })
            }
            _ => unreachable!("a file was asked for"),
        }
    }

    async fn ask_for_nothing(&self, name: &str, operation: Operation) -> Result<(), DiskError> {
        self.ask(name, operation).await.map(drop)
    }
}

/// Whether a future asked to be polled again.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits for the answer to a request; a waiter that is dropped leaves the request under way.
struct Wait<'a> {
    disk: &'a SimDisk,
    ticket: u64,
}

impl Future for Wait<'_> {
    type Output = Result<Answer, DiskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut world = self.disk.world.borrow_mut();
        if let Some(answer) = world.answers.remove(&self.ticket) {
            return Poll::Ready(answer);
        }
        world.waiting.insert(self.ticket, context.waker().clone());
        Poll::Pending
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    async fn create(&self, name: &str) -> Result<SimFile, DiskError> {
        self.ask_for_file(name, Operation::Create).await
    }

    async fn open(&self, name: &str) -> Result<SimFile, DiskError> {
        self.ask_for_file(name, Operation::Open).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        debug_assert_eq!(folder_of(from), folder_of(to), "a rename stays in its folder");
        self.ask_for_nothing(from, Operation::Rename { to: to.to_string() }).await
    }

    async fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.ask_for_nothing(name, Operation::Remove).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, DiskError> {
        match self.ask(folder, Operation::List).await? {
            Answer::Names(names) => Ok(names),
            _ => unreachable!("names were asked for"),
        }
    }

    async fn link(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.ask_for_nothing(from, Operation::Link { to: to.to_string() }).await
    }

    async fn make_dir(&self, folder: &str) -> Result<(), DiskError> {
        self.ask_for_nothing(folder, Operation::MakeDir).await
    }

    async fn sync_dir(&self, folder: &str) -> Result<(), DiskError> {
        self.ask_for_nothing(folder, Operation::SyncDir).await
    }
}

impl File for SimFile {
    type Read = Aligned;
    type Buffer = Aligned;

    fn name(&self) -> &str {
        &self.name
    }

    async fn length(&self) -> Result<u64, DiskError> {
        match self.disk.ask(&self.name, Operation::Length { content: self.content }).await? {
            Answer::Length(len) => Ok(len),
            _ => unreachable!("a length was asked for"),
        }
    }

    fn buffer(&self, len: usize) -> Aligned {
        Aligned::zeroed(len)
    }

    async fn read_at(&self, at: u64, len: usize) -> Result<Aligned, DiskError> {
        assert!(at.is_multiple_of(PAGE as u64) && len.is_multiple_of(PAGE), "disk invariant 1");
        let operation = Operation::Read { content: self.content, at: at as usize, len };
        match self.disk.ask(&self.name, operation).await? {
            Answer::Bytes(bytes) => Ok(bytes),
            _ => unreachable!("bytes were asked for"),
        }
    }

    async fn write_at(&self, at: u64, buffer: Aligned) -> Result<(), DiskError> {
        assert!(
            at.is_multiple_of(PAGE as u64) && buffer.len().is_multiple_of(PAGE),
            "disk invariant 1"
        );
        assert!(buffer.as_ptr().align_offset(PAGE) == 0, "an aligned buffer stays where it is");
        let bytes = buffer.to_vec();
        let operation = Operation::Write { content: self.content, at: at as usize, bytes };
        self.disk.ask_for_nothing(&self.name, operation).await
    }

    async fn sync(&self) -> Result<(), DiskError> {
        self.disk.ask_for_nothing(&self.name, Operation::Sync { content: self.content }).await
    }
}
